package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func embedded(t *testing.T) *catalogue {
	t.Helper()
	c, err := readCatalogue(bytes.NewReader(sectionsTxt))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTags(t *testing.T) {
	known := embedded(t)
	for _, tc := range []struct{ text, want string }{
		{"see RFC 5971 §5.3.3", "RFC 5971/5.3.3"},
		{"(RFC 5971 §4.1.1, B.2): x", "RFC 5971/4.1.1 RFC 5971/B.2"},
		{"RFC 5971\n§A.3.1.1 and §A.3.2; RFC 5974 §5.1.3.4.", "RFC 5971/A.3.1.1 RFC 5971/A.3.2 RFC 5974/5.1.3.4"},
		{"RFC 5971 §5.3.1–5.3.2.2", "RFC 5971/5.3.1 RFC 5971/5.3.2 RFC 5971/5.3.2.1 RFC 5971/5.3.2.2"},
		{"RFC 5971 §A.3.6-§A.3.8", "RFC 5971/A.3.6 RFC 5971/A.3.7 RFC 5971/A.3.8"},
		{"interdomain-qosm §3, §4", "interdomain-qosm/3 interdomain-qosm/4"},
		{"draft-zhang-nsis-interdomain-qosm-02 §4.1", "draft-zhang-nsis-interdomain-qosm-02/4.1"},
		{"RFC 1982 §3.2", "RFC 1982/3.2"}, // headings not listed
		{"RFC 5975 §5.2.14 and Y.1541", "RFC 5975/5.2.14"},
		{"RFC 5971 §5.3.3, 2 octets", "RFC 5971/5.3.3"},
		{"RFC 5971 says so, and B.2 too", ""},
		{"RFC 5971 §9. Then 1.2", "RFC 5971/9"},
	} {
		cs, err := tags(tc.text, known)
		var got []string
		for _, c := range cs {
			got = append(got, c.Doc+"/"+c.Section)
		}
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%q: %v, %v; want %s", tc.text, got, err, tc.want)
		}
	}
	for _, text := range []string{"RFC 5971 §5.9.9", "RFC 9999 §1", "RFC 5971 §5.3.3–5.3.1", "interdomain-qosm §9"} {
		if cs, err := tags(text, known); err == nil {
			t.Errorf("%q: accepted as %v", text, cs)
		}
	}
}

const codeFile = `// Package a is one.
package a

// RFC 5971 §A.3.2
//
//	bits

// T is a thing (RFC 5971 §3.1).
type T struct {
	f int // RFC 5971 §3.2
}

const (
	// One is RFC 5971 §3.3.
	One = 1
	Two = 2 // RFC 5971 §3.4
)

// Do does.
func (t *T) Do() {
	// RFC 5974 §5.1.1
}
`

const testFile = `package a

import "testing"

// A helper cites RFC 5971 §3.4.
func help() {}

// RFC 5971 §A.3.2
func TestIt(t *testing.T) { t.Run("RFC 5974 §5.1.1: the header", nil) }
`

func scanned(t *testing.T) []cite {
	t.Helper()
	cites, problems, err := scan(fstest.MapFS{
		"a/a.go":            {Data: []byte(codeFile)},
		"a/a_test.go":       {Data: []byte(testFile)},
		"a/testdata/bad.go": {Data: []byte("not Go")},
		".hidden/bad.go":    {Data: []byte("not Go")},
	}, embedded(t))
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	return cites
}

func TestScan(t *testing.T) {
	var got []string
	for _, c := range scanned(t) {
		got = append(got, c.Doc+" "+c.Section+" "+c.Place.String())
	}
	slices.Sort(got)
	want := []string{
		"RFC 5971 3.1 a/a.go:T",
		"RFC 5971 3.2 a/a.go:T",
		"RFC 5971 3.3 a/a.go:One",
		"RFC 5971 3.4 a/a.go:Two",
		"RFC 5971 A.3.2 a/a.go",
		"RFC 5971 A.3.2 a/a_test.go:TestIt",
		"RFC 5974 5.1.1 a/a.go:T.Do",
		"RFC 5974 5.1.1 a/a_test.go:TestIt",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestScanReportsWrongSection(t *testing.T) {
	_, problems, err := scan(fstest.MapFS{"a.go": {Data: []byte("package a\n\n// F: RFC 5971 §99.\nfunc F() {}\n")}}, embedded(t))
	if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], "a.go:3:1: RFC 5971 has no section 99") {
		t.Errorf("problems %q, error %v", problems, err)
	}
}

func TestUnproved(t *testing.T) {
	cites := scanned(t)
	excused := map[string]string{"RFC 5971 §3.1": "r", "RFC 5971 §3.2": "r", "RFC 5971 §3.3": "r", "RFC 5971 §A.3.2": "r"}
	passing := cite{Doc: "RFC 1982", Section: "3.2", Place: place{File: "a.go"}}
	got := unproved(embedded(t), append(cites, passing), excused)
	want := []string{
		"RFC 5971 §3.4 is claimed by a/a.go:Two, and no test cites it",
		"untested.txt excuses RFC 5971 §A.3.2, which needs no excuse",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// A test of a part is a test of the whole, not the other way round.
	code := cite{Doc: "RFC 5971", Section: "4.1", Place: place{File: "a.go"}}
	test := cite{Doc: "RFC 5971", Section: "4.1.1", Place: place{File: "a_test.go", Test: true}}
	if got := unproved(embedded(t), []cite{code, test}, nil); len(got) != 0 {
		t.Errorf("a test of §4.1.1 does not count for §4.1: %q", got)
	}
	code.Section, test.Section = "4.1.1", "4.1"
	if got := unproved(embedded(t), []cite{code, test}, nil); len(got) != 1 {
		t.Errorf("a test of §4.1 counts for §4.1.1: %q", got)
	}
}

func TestRender(t *testing.T) {
	page := string(render(embedded(t), scanned(t), map[string]string{"RFC 5971 §3.10": "an example"}))
	for _, row := range []string{
		"| A.3.2 | Session Identifier | `a/a.go` | `a/a_test.go`: TestIt |\n",
		"| 3.10 | Example of Operation | none: an example |  |\n",
		"| 5.1.1 | Common Header | `a/a.go`: T.Do | `a/a_test.go`: TestIt |\n",
	} {
		if !strings.Contains(page, row) {
			t.Errorf("missing row %s in\n%s", row, page)
		}
	}
	if strings.Contains(page, "5975") {
		t.Error("a document that nobody cites is on the page")
	}
}

func TestConformanceReport(t *testing.T) {
	result := map[string]string{}
	if err := results([]byte(`{"Action":"run","Test":"TestIt"}
{"Action":"pass","Test":"TestIt/sub"}
{"Action":"fail","Test":"TestIt"}
{"Action":"fail"}
`), "a", result); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := report(embedded(t), scanned(t), result, &out)
	if err == nil || !strings.Contains(out.String(), "fail: a:TestIt") {
		t.Errorf("error %v, output\n%s", err, out.String())
	}
	result["a:TestIt"] = "pass"
	if err := report(embedded(t), scanned(t), result, &out); err != nil {
		t.Error(err)
	}
	delete(result, "a:TestIt")
	if err := report(embedded(t), scanned(t), result, &out); err == nil {
		t.Error("a test that did not run counts as passed")
	}
}

func TestStoryTags(t *testing.T) {
	cites, problems := storyTags("a/testdata/conformance/x.txt", `# RFC 5971 §6.2: the whole file

# RFC 5971 §4.4.1
case one
in
# RFC 5971 §5.3.3
out

case two
in
# RFC 5971 §9.9
`, embedded(t))
	var got []string
	for _, c := range cites {
		got = append(got, c.Section+" "+c.Place.Symbol+" "+c.Place.dir())
	}
	want := []string{
		"4.4.1 TestConformance/x/one a", "5.3.3 TestConformance/x/one a", "6.2 TestConformance/x/two a",
	}
	if !slices.Equal(got, want) || len(problems) != 1 {
		t.Errorf("got %q, want %q; problems %q", got, want, problems)
	}
}

func TestUnaccounted(t *testing.T) {
	known, err := readCatalogue(strings.NewReader("RFC 5971\t1\tA\nRFC 5971\t2\tB\nRFC 5971\t2.1\tC\nRFC 5971\t3\tD\nRFC 5971\t3.1\tE\nRFC 5971\t4\tF\n"))
	if err != nil {
		t.Fatal(err)
	}
	code := func(sec string) cite { return cite{Doc: "RFC 5971", Section: sec, Place: place{File: "a.go"}} }
	test := func(sec string) cite {
		return cite{Doc: "RFC 5971", Section: sec, Place: place{File: "a_test.go", Test: true}}
	}
	got := unaccounted(known, []cite{code("2.1"), test("2.1"), code("4")}, map[string]string{"RFC 5971 §3": "r", "RFC 5971 §2.1": "r", "RFC 9999 §1": "r"})
	want := []string{
		"RFC 5971 §1 (A) has no code, or no test, and docs/rfc-reasons.txt gives no reason",
		"RFC 5971 §4 (F) has no code, or no test, and docs/rfc-reasons.txt gives no reason",
		"docs/rfc-reasons.txt gives a reason for RFC 5971 §2.1, which has code",
		"docs/rfc-reasons.txt gives a reason for RFC 9999 §1, which is no section of " + strings.Join(accountable, ", "),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What is left of code that has been emptied compiles, and does nothing.
func TestEmptied(t *testing.T) {
	const src = `package a

import "fmt"

type T struct{}

func (t *T) One(a int) (int, error) {
	fmt.Println(a)
	return a, nil
}

func (t T) Two() (n int) { n = 2; return }

func Three() {}

func Four[P any](p P) P { return p }
`
	for _, c := range []struct{ symbol, want string }{
		{"T.One", "func (t *T) One(a int) (int, error) { return *new(int), *new(error);\n"},
		{"T", "func (t T) Two() (n int) { return; n = 2; return }\n"},
		{"", "func Four[P any](p P) P { return *new(P); return p }\n"},
	} {
		got, err := emptied("a.go", []byte(src), c.symbol)
		if err != nil || !strings.Contains(string(got), c.want) {
			t.Errorf("%q: %v\n%s", c.symbol, err, got)
		}
	}
	for _, symbol := range []string{"Three", "T.Three", "One"} {
		if got, err := emptied("a.go", []byte(src), symbol); err != nil || got != nil {
			t.Errorf("%q: %v\n%s", symbol, err, got)
		}
	}
}

const proved, claimed = "package a\n\n// RFC 5971 §3.1\nfunc Proved() int { return 1 }\n", "\n// RFC 5971 §3.2\nfunc Claimed() int { return 2 }\n"

// A claim that its test notices, one that it does not, and one that is excused.
func TestMutation(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"a.go":   proved + claimed,
		"a_test.go": "package a\n\nimport \"testing\"\n\n// RFC 5971 §3.1, §3.2\nfunc TestBoth(t *testing.T) {\n\tClaimed()\n" +
			"\tif Proved() != 1 {\n\t\tt.Fatal()\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cites, problems, err := scan(os.DirFS(dir), embedded(t))
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	var out strings.Builder
	err = mutation(dir, cites, 0, 1, "", nil, &out)
	if err == nil || !strings.Contains(out.String(), "noticed   a.go:Proved RFC 5971 §3.1: by .:TestBoth\n") ||
		!strings.Contains(out.String(), "SURVIVED  a.go:Claimed RFC 5971 §3.2: of [.:TestBoth]\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := mutation(dir, cites, 0, 1, "", map[string]string{"a.go:Claimed RFC 5971 §3.2": "r"}, &out); err != nil {
		t.Errorf("excused: %v\n%s", err, out.String())
	}
	if err := mutation(dir, cites, 0, 1, "", map[string]string{"a.go:Other RFC 5971 §3.2": "r"}, &out); err == nil {
		t.Error("an excuse for what is not there")
	}
}

// The map is honest: without the code of a row, a test of that row fails. make
// conformance puts more rows to the proof.
func TestMapIsHonest(t *testing.T) {
	if testing.Short() {
		t.Skip("builds packages without some of their code")
	}
	var out strings.Builder
	if err := runMutation("../..", 3, 1, "^gist/wire/", &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
}
