package sls

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(JSONSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sls.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sls.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// editorValue is what an editor makes of a YAML node before it checks it
// against a schema: what YAML 1.2 calls the JSON schema of types.
func editorValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = editorValue(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, editorValue(c))
		}
		return list
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true"
	case "!!int", "!!float":
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && json.Valid([]byte(n.Value)) {
			return f
		}
	}
	return n.Value
}

// checkDocuments returns the first complaint that a schema has about a text.
func checkDocuments(schema *jsonschema.Schema, text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		if d.Decode(&n) != nil {
			return nil
		}
		for _, doc := range n.Content {
			if err := schema.Validate(editorValue(doc)); err != nil {
				return err
			}
		}
	}
}

// "a JSON Schema that editors can use" takes what Parse takes, and finds what a
// schema can find. interdomain-qosm §5
func TestJSONSchema(t *testing.T) {
	schema := compileSchema(t)
	const rest = "\ncustomer: 1\nprovider: 2\nclasses: [{class: EF, cir: 1M}]\n"
	for _, text := range []string{
		goldText, "", "[]", "[{id: a, customer: 1, provider: 2, classes: [{class: 0, relative: true}]}]", matchText,
		"id: 7" + rest, "id: a\nscope: {destinations: [any], sources: [10.0.0.1, '2001:db8::/32']}" + rest,
		"id: a\ncustomer: '65001'\nprovider: 2\nclasses: [{class: ef, cir: 1.5Gbit/s, cbs: 1500 B, delay: 1h2m3.5s, loss: '1e-3'}]",
	} {
		if _, err := Parse("t", []byte(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := checkDocuments(schema, []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	for _, s := range parseGold(t) {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkDocuments(schema, b); err != nil {
			t.Errorf("%s\n%v", b, err)
		}
	}
	for _, text := range []string{
		"{}", "a", "id: a\ncustomer: 1", "id: a b" + rest, "id: " + strings.Repeat("x", maxID+1) + rest, "id: a\nunknown: 1" + rest,
		"id: a\ncustomer: 23456\nprovider: 2\nclasses: [{class: EF, cir: 1M}]", "id: a\ncustomer: AS1\nprovider: 2\nclasses: [{class: EF, cir: 1M}]",
		"id: a\nclasses: []\ncustomer: 1\nprovider: 2", "id: a\ndirection: to-customer" + rest, "id: a\negress: 10.0.0.0/8" + rest,
		"id: a\nscope: {destinations: []}" + rest, "id: a\nscope: {destinations: [any, 10.0.0.0/8]}" + rest, "id: a\nscope: {destination: any}" + rest,
		"id: a\ndegree: per-user" + rest, "id: a\nstatus: on" + rest, "id: a\nvalid: {from: tomorrow}" + rest,
		"id: a\nschedule: [{days: [mon..xxx], start: '08:00', duration: 1h}]" + rest, "id: a\nschedule: [{days: [fri..mon], start: '08:00', duration: 1h}]" + rest,
		"id: a\nschedule: [{days: [mon], start: 8am, duration: 1h}]" + rest, "id: a\nschedule: [{days: [mon], start: '08:00', duration: 3600}]" + rest,
		"id: a\nadmission: {priorities: [8]}" + rest, "id: a\nadmission: {oversubscription: 101}" + rest, "id: a\nadmission: {preemption: perhaps}" + rest,
		"id: a\nadmission: {policy: rate < 5}" + rest,
		"id: a\ncustomer: 1\nprovider: 2\nclasses: [{class: GF, cir: 1M}]", "id: a\ncustomer: 1\nprovider: 2\nclasses: [{class: 64, cir: 1M}]",
		"id: a\ncustomer: 1\nprovider: 2\nclasses: [{class: EF, cir: 1X}]", "id: a\ncustomer: 1\nprovider: 2\nclasses: [{class: EF, cir: 1M, loss: 2}]",
		"id: a\ncustomer: 1\nprovider: 2\nclasses: [{class: EF, cir: 1M, excess: burn}]",
	} {
		if _, err := Parse("t", []byte(text)); err == nil {
			t.Errorf("Parse takes %q; the example is of no use", text)
		}
		if checkDocuments(schema, []byte(text)) == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
}

// The table of keys has exactly the keys that are written, in their order.
func TestSchemaIsWhole(t *testing.T) {
	var check func(path string, keys []key, doc reflect.Type)
	check = func(path string, keys []key, doc reflect.Type) {
		for doc.Kind() == reflect.Slice || doc.Kind() == reflect.Pointer {
			doc = doc.Elem()
		}
		var names, want []string
		for i := range doc.NumField() {
			name, _, _ := strings.Cut(doc.Field(i).Tag.Get("json"), ",")
			want = append(want, name)
		}
		for i, k := range keys {
			if names = append(names, k.name); k.keys != nil && i < doc.NumField() {
				check(path+k.name+".", k.keys, doc.Field(i).Type)
			}
			if k.about == "" {
				t.Errorf("%s%s has no description", path, k.name)
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: keys %v, want %v", path, names, want)
		}
	}
	check("", modelKeys, reflect.TypeFor[document]())
}

// yanglint runs libyang's checker on files of a folder.
func yanglint(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command("yanglint", args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	return string(out), err
}

// The YANG module is one that yanglint accepts, and so are the examples as data of
// it; what breaks a condition of the model is not. interdomain-qosm §5
func TestYANG(t *testing.T) {
	if _, err := exec.LookPath("yanglint"); err != nil {
		t.Skip("yanglint (Debian: libyang2-tools) is not installed: nobody checks the YANG module")
	}
	dir := t.TempDir()
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("interqos-sls.yang", YANG())
	if out, err := yanglint(t, dir, "-f", "yang", "interqos-sls.yang"); err != nil || strings.Contains(out, "warn") {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := YANGData(parseGold(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, from, to string }{
		{name: "as it is"},
		{"pir below cir", `"pir": "120000000"`, `"pir": "1"`},
		{"largest flow above cir", `"largest-flow": "50000000"`, `"largest-flow": "100000001"`},
		{"excess class with drop", `"excess": "remark"`, `"excess": "drop"`},
		{"relative with a rate", `"relative": true`, `"cir": "8", "relative": true`},
		{"customer and provider the same", `"provider": 65002`, `"provider": 65001`},
		{"a class that is none", `"class": "EF"`, `"class": 64`},
		{"a class twice", `"class": "AF41"`, `"class": "EF"`},
		{"a ratio above 1", `"loss": "0.001"`, `"loss": "1.001"`},
		{"no duration", `"duration": 36000,`, ``},
		{"a day that is none", `"mon"`, `"moon"`},
		{"a priority that is none", `"priorities": [
`, `"priorities": [ 8,
`},
		{"a prefix that is none", `10.3.0.0/16`, `10.3.0.0/33`},
		{"an unknown key", `"degree"`, `"degrees"`},
	} {
		bad := bytes.Replace(data, []byte(test.from), []byte(test.to), 1)
		if test.from != "" && bytes.Equal(bad, data) {
			t.Fatalf("%s: %s is not in the data:\n%s", test.name, test.from, data)
		}
		write("data.json", bad)
		out, err := yanglint(t, dir, "-t", "data", "interqos-sls.yang", "data.json")
		if (err == nil) != (test.from == "") {
			t.Errorf("%s: %v\n%s", test.name, err, out)
		}
	}
}
