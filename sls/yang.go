package sls

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// YANG returns the model as a YANG module (RFC 7950), interqos-sls. YANGData
// writes SLSs as its data. Names are as in YAML with "-" for "_".
func YANG() []byte {
	w := &yangWriter{}
	w.raw(`module interqos-sls {
  yang-version 1.1;
  namespace "https://github.com/interqos/interqos/yang/interqos-sls";
  prefix sls;

  import ietf-inet-types {
    prefix inet;
  }
  import ietf-yang-types {
    prefix yang;
  }

  organization "interqos";
  contact "https://github.com/interqos/interqos";
  description
    "Service level specifications between neighbouring networks: what of
     which classes a customer may send into a provider, where to and when.";

  revision 2026-11-22 {
    description "First.";
  }

  container slss {
    description "All SLSs of a network.";
    list sls {
      key "id";
      description "One service level specification.";
`)
	w.keys(modelKeys, 6)
	w.raw("    }\n  }\n}\n")
	return []byte(w.b.String())
}

type yangWriter struct{ b strings.Builder }

func (w *yangWriter) raw(s string) { w.b.WriteString(s) }

func (w *yangWriter) line(indent int, format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		w.b.WriteString(strings.Repeat(" ", indent) + line + "\n")
	}
}

func (w *yangWriter) keys(keys []key, indent int) {
	for _, k := range keys {
		if k.noYANG {
			continue
		}
		about := k.about + "."
		statement := "leaf"
		switch {
		case k.keys != nil && k.list:
			statement = "list"
		case k.keys != nil:
			statement = "container"
		case k.list:
			statement = "leaf-list"
		}
		w.line(indent, "%s %s {", statement, yangName(k.name))
		if statement == "list" {
			if k.unique != "" {
				w.line(indent+2, "key %q;", yangName(k.unique))
			} else {
				w.line(indent+2, "key \"index\";")
			}
			if k.needed {
				w.line(indent+2, "min-elements 1;")
			}
		}
		for _, m := range k.must {
			w.line(indent+2, "must %q {\n  error-message %q;\n}", m.xpath, m.message)
		}
		if k.keys == nil {
			w.line(indent+2, "%s", k.kind.yang)
			if isKey := k.name == "id" || k.name == "class"; k.needed && !k.list && !isKey {
				w.line(indent+2, "mandatory true;")
			} else if k.needed && k.list {
				w.line(indent+2, "min-elements 1;")
			}
		}
		w.line(indent+2, "description %q;", about)
		if statement == "list" && k.unique == "" {
			w.line(indent+2, "leaf index {\n  type uint8;\n  description \"Its place in the list, from 0.\";\n}")
		}
		w.keys(k.keys, indent+2)
		w.line(indent, "}")
	}
}

func yangName(name string) string { return strings.ReplaceAll(name, "_", "-") }

// YANGData writes SLSs as data of the module, in JSON (RFC 7951). Ratios and
// factors are rounded to as many digits as their types have.
func YANGData(list []SLS) ([]byte, error) {
	all := []any{}
	for i := range list {
		b, err := list[i].MarshalJSON()
		if err != nil {
			return nil, err
		}
		var doc object
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&doc); err != nil {
			return nil, err
		}
		all = append(all, yangObject(modelKeys, doc))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{"interqos-sls:slss": object{"sls": all}})
	return b.Bytes(), err
}

func yangObject(keys []key, doc object) object {
	o := object{}
	for _, k := range keys {
		if v, ok := doc[k.name]; ok && !k.noYANG && !(k.any && v == "any") {
			if v = k.yangValue(v); v != nil {
				o[yangName(k.name)] = v
			}
		}
	}
	return o
}

// yangValue returns nil for what is left out.
func (k *key) yangValue(v any) any {
	list, isList := v.([]any)
	switch {
	case isList && k.any && len(list) == 1 && list[0] == "any":
		return nil
	case isList:
		all := make([]any, len(list))
		for i := range list {
			if all[i] = k.one(list[i]); k.keys != nil && k.unique == "" {
				all[i].(object)["index"] = i
			}
		}
		return all
	}
	return k.one(v)
}

func (k *key) one(v any) any {
	switch doc, ok := v.(object); {
	case ok:
		return yangObject(k.keys, doc)
	case k.kind.data != nil:
		return k.kind.data(v)
	}
	return v
}

// Numbers of 64 bits are texts in RFC 7951.
func long(v any) any { return fmt.Sprint(v) }

func decimal(digits int) func(any) any {
	return func(v any) any {
		f, _ := strconv.ParseFloat(fmt.Sprint(v), 64)
		text := strings.TrimRight(strconv.FormatFloat(f, 'f', digits, 64), "0")
		if strings.HasSuffix(text, ".") {
			text += "0"
		}
		return text
	}
}

func wholeSeconds(v any) any {
	d, _ := time.ParseDuration(fmt.Sprint(v))
	return int64(d / time.Second)
}

func decimalSeconds(v any) any {
	d, _ := time.ParseDuration(fmt.Sprint(v))
	return fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
}

// nameOrNumber tells the members of a class's union apart.
func nameOrNumber(v any) any {
	if n, err := strconv.ParseUint(fmt.Sprint(v), 10, 8); err == nil {
		return n
	}
	return v
}
