package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type config struct {
	Name    string
	On      bool
	Count   int64
	AS      uint32
	Factor  float64
	Share   float64
	Rate    uint64
	Size    uint64
	Wait    time.Duration
	At      netip.Addr
	To      netip.AddrPort
	Net     netip.Prefix
	Of      netip.Prefix
	Word    string
	Numbers []int64
	Any     map[string]string
}

func read(text string) (config, error) {
	r := &Reader{File: "f.yaml"}
	c := readFrom(r.Document([]byte(text), "a test"))
	return c, r.Err()
}

func readFrom(v Value) config {
	o := v.Object("a test, a mapping", "name", "on", "count", "as", "factor", "share", "rate", "size", "wait", "at", "to",
		"net", "of", "word", "numbers", "any", "inner")
	c := config{
		Name: o.Need("name").Text("what it is called", "nobody"), On: o.Get("on").Bool(true),
		Count: o.Get("count").Number("how many", 1, 9, 7), AS: o.Get("as").AS(""),
		Factor: o.Get("factor").Decimal("", 1.5), Share: o.Get("share").Ratio("", 0.5),
		Rate: o.Get("rate").Rate("", 8), Size: o.Get("size").Size("how large", 1),
		Wait: o.Get("wait").Duration("", time.Second, 90*time.Minute, time.Minute), At: o.Get("at").Address("where"),
		To: o.Get("to").AddrPort(""), Net: o.Get("net").Prefix(""), Of: o.Get("of").PrefixOrAddress(""),
		Word: o.Get("word").Word("yes", "yes", "no"), Any: map[string]string{},
	}
	for _, n := range o.Get("numbers").List("a list of numbers") {
		c.Numbers = append(c.Numbers, n.Number("", 0, math.MaxInt64, -1))
	}
	for _, e := range o.Get("any").Entries("a mapping of anything") {
		key, _ := e.Key.Scalar("a word")
		c.Any[key] = e.Value.Text("", "")
	}
	inner := o.Get("inner").Object("a mapping with a", "a")
	inner.Need("a").Object("a mapping with b", "b").Need("b").Text("", "")
	return c
}

func TestEverythingIsRead(t *testing.T) {
	c, err := read(`{name: n, on: false, count: 9, as: 65001, factor: -0.0e0, share: -0, rate: 1001, size: 2Ki, wait: 3s, at: "::1"}`)
	if err == nil || !strings.Contains(err.Error(), "factor") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a factor of 0: %v", err)
	}
	if c.Name != "n" || c.On || c.Count != 9 || c.AS != 65001 || c.Factor != 1.5 || math.Signbit(c.Share) || c.Share != 0 ||
		c.Rate != 1001 || c.Size != 2048 || c.Wait != 3*time.Second || c.At != netip.IPv6Loopback() {
		t.Errorf("%+v", c)
	}
	c, err = read("name: n\nto: 1.2.3.4:5\nnet: 10.0.0.0/8\nof: 10.0.0.1\nword: no\nnumbers: [1, 2]\nany: {a: b, 7: c}\n")
	if err != nil || c.To.Port() != 5 || c.Net.Bits() != 8 || c.Of.Bits() != 32 || c.Word != "no" || len(c.Numbers) != 2 ||
		len(c.Any) != 2 || c.Any["7"] != "c" {
		t.Errorf("%+v, %v", c, err)
	}
	// What is not there has its default.
	if !c.On || c.Count != 7 || c.Factor != 1.5 || c.Share != 0.5 || c.Wait != time.Minute || c.Rate != 0 || c.At.IsValid() {
		t.Errorf("%+v", c)
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "f.yaml:1:1: found an empty file, expected a test",
		"# hm":                        "f.yaml:1:1: found an empty file, expected a test",
		"name: a\n---\nname: b":       "f.yaml:2:1: found a second document, expected one document in the file",
		"name: a\n---\n{":             "f.yaml:4:1: found a YAML syntax error: did not find expected node content, expected YAML",
		"[a]":                         "f.yaml:1:1: found a list, expected a test, a mapping",
		"name: \xff":                  "f.yaml:1:7: found the octet 0xff, expected UTF-8 text",
		"a: 1\n\tb: 2":                "f.yaml:2:1: found a YAML syntax error: found a tab character that violates indentation, expected YAML",
		"a: 1\nb: *x":                 "f.yaml:2:1: found a YAML syntax error: unknown anchor 'x' referenced, expected YAML",
		"name:":                       "f.yaml:1:6: name: found nothing, expected what it is called",
		"name: ''":                    `f.yaml:1:7: name: found "", expected what it is called`,
		"name: [a]":                   "f.yaml:1:7: name: found a list, expected what it is called",
		"name: {a: b}":                "f.yaml:1:7: name: found a mapping, expected what it is called",
		"on: true":                    "f.yaml:1:1: name: found nothing, expected what it is called",
		"name: a\nnaem: a":            "f.yaml:2:1: naem: found an unknown key, expected one of name, on, count, as, factor, share, rate, size, wait, at, to, net, of, word, numbers, any, inner (did you mean name?)",
		"name: a\nname: b":            "f.yaml:2:1: name: found the key a second time, expected it once (the first is in line 1)",
		"name: a\nany: {a: b, a: c}":  "f.yaml:2:13: any.a: found the key a second time, expected it once (the first is in line 2)",
		"name: a\nany: {[a]: b}":      "f.yaml:2:7: any: found a list as a key, expected a word as a key",
		"name: a\nany: [a]":           "f.yaml:2:6: any: found a list, expected a mapping of anything",
		"name: &n a":                  "f.yaml:1:7: name: found the anchor &n, expected just a value (anchors and aliases are not supported)",
		"name: !!str a":               "f.yaml:1:7: name: found the tag !!str, expected a value without a tag",
		"!!str name: a":               "f.yaml:1:1: name: found the tag !!str, expected a value without a tag",
		"name: a\non: 1":              `f.yaml:2:5: on: found "1", expected true or false`,
		"name: a\ncount: 10":          `f.yaml:2:8: count: found "10", expected how many, a whole number from 1 to 9`,
		"name: a\nas: as7":            `f.yaml:2:5: as: found "as7", expected an AS number from 1 to 4294967294 (write 7)`,
		"name: a\nas: 23456":          `f.yaml:2:5: as: found "23456", expected an AS number from 1 to 4294967294 (this one is reserved)`,
		"name: a\nfactor: NaN":        `f.yaml:2:9: factor: found "NaN", expected a number above 0`,
		"name: a\nshare: 1.1":         `f.yaml:2:8: share: found "1.1", expected a number from 0 to 1`,
		"name: a\nrate: 7":            `f.yaml:2:7: rate: found "7", expected a rate in bit/s of at least 8, e.g. 64k, 20M, 1.5G`,
		"name: a\nrate: 8.0001k":      `f.yaml:2:7: rate: found "8.0001k", expected a rate in bit/s of at least 8, e.g. 64k, 20M, 1.5G (it is not a whole number of the unit)`,
		"name: a\nsize: -1":           `f.yaml:2:7: size: found "-1", expected how large, a size in octets above 0, e.g. 1500, 64k, 128Ki (it is negative)`,
		"name: a\nsize: 0":            `f.yaml:2:7: size: found "0", expected how large, a size in octets above 0, e.g. 1500, 64k, 128Ki`,
		"name: a\nwait: 5":            `f.yaml:2:7: wait: found "5", expected a duration from 1s to 1h30m, e.g. 500ms, 30s, 5m, 1h30m (which unit? 5s?)`,
		"name: a\nwait: 0s":           `f.yaml:2:7: wait: found "0s", expected a duration from 1s to 1h30m, e.g. 500ms, 30s, 5m, 1h30m`,
		"name: a\nat: b":              `f.yaml:2:5: at: found "b", expected where, an IPv4 or IPv6 address`,
		"name: a\nat: 10.0.0.1/8":     `f.yaml:2:5: at: found "10.0.0.1/8", expected where, an IPv4 or IPv6 address (without the prefix length: 10.0.0.1)`,
		"name: a\nat: 224.0.0.1":      `f.yaml:2:5: at: found "224.0.0.1", expected where, a unicast address without a zone`,
		"name: a\nto: 1.1.1.1":        `f.yaml:2:5: to: found "1.1.1.1", expected an IP address and a port, e.g. 127.0.0.1:9000 (with a port: 1.1.1.1:9000?)`,
		"name: a\nnet: 1.1.1.1":       `f.yaml:2:6: net: found "1.1.1.1", expected a prefix such as 10.3.0.0/16 (did you mean 1.1.1.1/32?)`,
		"name: a\nnet: 1.1.1.1/8":     `f.yaml:2:6: net: found "1.1.1.1/8", expected a prefix such as 10.3.0.0/16 (it has host bits: did you mean 1.0.0.0/8?)`,
		"name: a\nof: ::ffff:1.1.1.1": `f.yaml:2:5: of: found "::ffff:1.1.1.1", expected an address, or a prefix such as 10.3.0.0/16 (an IPv4 one is written as such)`,
		"name: a\nof: fe80::1%eth0":   `f.yaml:2:5: of: found "fe80::1%eth0", expected an address, or a prefix such as 10.3.0.0/16`,
		"name: a\nword: noo":          `f.yaml:2:7: word: found "noo", expected one of yes, no (did you mean no?)`,
		"name: a\nnumbers: 1":         `f.yaml:2:10: numbers: found "1", expected a list of numbers`,
		"name: a\nnumbers: [a]":       `f.yaml:2:11: numbers[0]: found "a", expected a whole number from 0`,
		// What is in a mapping that is needed and missing is not missed as well.
		"name: a\ninner: {}":                       "f.yaml:2:8: inner.a: found nothing, expected a mapping with b",
		"name: a\ninner: 7":                        `f.yaml:2:8: inner: found "7", expected a mapping with a`,
		"name: a\n\"x\\ny\": 1":                    "f.yaml:2:1: x y: found an unknown key, expected one of name, on, count, as, factor, share, rate, size, wait, at, to, net, of, word, numbers, any, inner (did you mean any?)",
		"name: {" + strings.Repeat("a", 99) + ": ": "f.yaml:2:1: found a YAML syntax error: did not find expected node content, expected YAML",
	} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// An alias is refused where it stands, wherever that is, and read as nothing.
func TestAliasesAreNotFollowed(t *testing.T) {
	_, err := read("name: &x a\nword: *x\nany: *x\nnumbers: [*x]")
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 4 || errs[1].Path != "word" || errs[2].Path != "any" || errs[3].Path != "numbers[0]" ||
		errs[3].Found != "the alias *x" {
		t.Errorf("%v", err)
	}
}

func TestEverythingAtOnceInTheOrderOfTheFile(t *testing.T) {
	_, err := read("count: x\nother: 1\nrate: y")
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 4 || errs[0].Path != "name" || errs[1].Path != "count" || errs[2].Path != "other" || errs[3].Path != "rate" {
		t.Fatalf("%v", err)
	}
	var one *Error
	if !errors.As(err, &one) || one != errs[0] {
		t.Errorf("the first of the errors is %v", one)
	}
}

func TestDocuments(t *testing.T) {
	r := &Reader{File: "f.yaml"}
	var got []string
	for _, doc := range r.Documents([]byte("---\na\n---\n---\n[b, &x c]\n")) {
		if doc.IsNull() {
			got = append(got, "null")
			continue
		}
		if doc.IsList() {
			for _, v := range doc.List("a list") {
				s, _ := v.Check().Scalar("a word")
				got = append(got, fmt.Sprint(v.Path(), s, v.Line()))
			}
			continue
		}
		got = append(got, doc.Text("", ""))
	}
	if s := strings.Join(got, " "); s != "a null [0]b5 [1]c5" || r.Count() != 1 {
		t.Errorf("%s, %v", s, r.Err())
	}
	if docs := r.Documents([]byte("a\n--- {\n")); len(docs) != 1 || !strings.Contains(r.Err().Error(), "f.yaml:3:1: found a YAML syntax error") {
		t.Errorf("%d documents, %v", len(docs), r.Err())
	}
}

// What is wrong is told where it is, or where it should be.
func TestAt(t *testing.T) {
	r := &Reader{File: "f.yaml"}
	v := r.Document([]byte("links:\n- {a: x}\n- b: y\n"), "a test")
	for path, want := range map[string]string{
		"links[0].a": "2:7", "links[1].b": "3:6", "links[1].a": "3:3", "links[2].a": "2:1", "other.a[3].b": "1:1", "": "1:1",
	} {
		at := v.At(path)
		if line, column := at.place(); fmt.Sprintf("%d:%d", line, column) != want {
			t.Errorf("%s is at %d:%d, want %s", path, line, column, want)
		}
		if at.Path() != path {
			t.Errorf("%s has path %s", path, at.Path())
		}
	}
	r = &Reader{File: "pathdb"}
	r.Part(nil, "").At("links[0].b").Wrong("x", "y", "")
	if err := r.Err(); err == nil || err.Error() != "pathdb: links[0].b: found x, expected y" {
		t.Errorf("%v", err)
	}
}

func TestBounds(t *testing.T) {
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	if _, err := read("name: a\nany: {a: " + deep + "}"); err == nil || !strings.Contains(err.Error(), "found lists or mappings in each other, expected at most 64") || len(err.Error()) > 500 {
		t.Errorf("%.300v", err)
	}
	_, err := read("name: a\n" + strings.Repeat("x: 1\n", 5000))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 || errs[maxErrors].Found != "9899 errors more" {
		t.Errorf("%d errors, %v", len(errs), errs[len(errs)-1])
	}
	// Each level has the one below nine times: nothing of that is made.
	bomb := "name: a\nany:\n  a: &a [x, x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("  %c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 8)+fmt.Sprintf("*%c", c-1))
	}
	if _, err := read(bomb); err == nil || !strings.Contains(err.Error(), "found the alias *a") {
		t.Errorf("%.300v", err)
	}
}

func FuzzDocument(f *testing.F) {
	f.Add("name: n\non: false\ncount: 9\nas: 65001\nrate: 1001\nsize: 2Ki\nwait: 3s\nat: ::1\n")
	f.Add("name: n\nto: 1.2.3.4:5\nnet: 10.0.0.0/8\nof: 10.0.0.1\nword: no\nnumbers: [1, 2]\nany: {a: b, 7: c}\ninner: {a: {b: c}}\n")
	f.Add("? [a]\n: b\n&a x: *a\n")
	f.Add("a: &a [*a]\n---\n!!str b: !c d")
	f.Add("{\"a\\u2028\": \"\\n\"}")
	f.Fuzz(func(t *testing.T, text string) {
		for _, several := range []bool{false, true} {
			r := &Reader{File: "f.yaml"}
			if several {
				for _, v := range r.Documents([]byte(text)) {
					readFrom(v.Check())
				}
			} else {
				readFrom(r.Document([]byte(text), "a test"))
			}
			err := r.Err()
			var errs Errors
			if (err != nil) != (r.Count() > 0) || err != nil && (!errors.As(err, &errs) || len(errs) == 0) {
				t.Fatalf("%d errors, %v", r.Count(), err)
			}
			lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") +
				strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 2
			for i, e := range errs {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || strings.Contains(e.Error(), "\n") || e.Found == "" || e.Expected == "" {
					t.Fatalf("bad error %+v", e)
				}
				if i > 0 && e.Line < errs[i-1].Line {
					t.Fatalf("not in order: %v", errs)
				}
			}
		}
	})
}
