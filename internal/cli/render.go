package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	urfave "github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Format is how an answer is printed.
type Format string

// Formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// OutputFormat reads --output.
func OutputFormat(c *urfave.Context) (Format, error) {
	switch f := Format(c.String("output")); f {
	case Table, JSON, YAML:
		return f, nil
	default:
		return "", Usagef("--output %q: expected table, json or yaml", f)
	}
}

// Map is a mapping that keeps its order. Values are Maps, []any, messages of
// protobuf, or what JSON has.
type Map []Field

// Field is one key of a Map.
type Field struct {
	Key   string
	Value any
}

// Print writes a value as JSON or YAML. Of protobuf messages every field is
// there, under its name in the .proto file: numbers as numbers, enumerations in
// lower case without their prefix, times in RFC 3339 (UTC) or null, durations in
// seconds, octets as text.
func Print(w io.Writer, f Format, v any) error {
	n := node(v)
	if f == JSON {
		var b bytes.Buffer
		if err := writeJSON(&b, n, "\n"); err != nil {
			return err
		}
		b.WriteByte('\n')
		_, err := w.Write(b.Bytes())
		return err
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return err
	}
	return e.Close()
}

// PrintLine is Print for one of many: a line of JSON, or a document of YAML.
func PrintLine(w io.Writer, f Format, v any) error {
	var b, line bytes.Buffer
	if err := Print(&b, f, v); err != nil {
		return err
	}
	if f == JSON {
		if err := json.Compact(&line, b.Bytes()); err != nil {
			return err
		}
		line.WriteByte('\n')
	} else {
		line.WriteString("---\n")
		line.Write(b.Bytes())
	}
	_, err := w.Write(line.Bytes())
	return err
}

// writeJSON writes a tree of YAML nodes, whose tags say what is text.
func writeJSON(b *bytes.Buffer, n *yaml.Node, newline string) error {
	inner := newline + "  "
	switch n.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		open, closing := byte('['), byte(']')
		step := 1
		if n.Kind == yaml.MappingNode {
			open, closing, step = '{', '}', 2
		}
		b.WriteByte(open)
		for i := 0; i < len(n.Content); i += step {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(inner)
			if err := writeJSON(b, n.Content[i], inner); err != nil {
				return err
			}
			if step == 2 {
				b.WriteString(": ")
				if err := writeJSON(b, n.Content[i+1], inner); err != nil {
					return err
				}
			}
		}
		if len(n.Content) > 0 {
			b.WriteString(newline)
		}
		b.WriteByte(closing)
		return nil
	}
	if n.Tag != "!!str" {
		b.WriteString(n.Value)
		return nil
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(n.Value); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	return nil
}

func scalar(tag, text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
	if tag == "!!str" && strings.Contains(text, "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

func node(v any) *yaml.Node {
	switch v := v.(type) {
	case nil:
		return scalar("!!null", "null")
	case Map:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v {
			n.Content = append(n.Content, scalar("!!str", f.Key), node(f.Value))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, one := range v {
			n.Content = append(n.Content, node(one))
		}
		return n
	case proto.Message:
		return message(v.ProtoReflect())
	case string:
		return scalar("!!str", v)
	case bool:
		return scalar("!!bool", strconv.FormatBool(v))
	case float32, float64:
		return scalar("!!float", fmt.Sprint(v))
	}
	return scalar("!!int", fmt.Sprint(v))
}

// List makes a []any of messages.
func List[T any](list []T) []any {
	out := make([]any, len(list))
	for i, one := range list {
		out[i] = one
	}
	return out
}

func message(m protoreflect.Message) *yaml.Node {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		if v == nil || !m.IsValid() {
			return node(nil)
		}
		return scalar("!!str", v.AsTime().Format(time.RFC3339Nano))
	case *durationpb.Duration:
		if !m.IsValid() {
			return node(nil)
		}
		return scalar("!!float", strconv.FormatFloat(v.AsDuration().Seconds(), 'f', -1, 64))
	}
	if !m.IsValid() {
		return node(nil)
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		n.Content = append(n.Content, scalar("!!str", string(f.Name())), field(f, m.Get(f)))
	}
	return n
}

func field(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	if !f.IsList() {
		return single(f, v)
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range v.List().Len() {
		n.Content = append(n.Content, single(f, v.List().Get(i)))
	}
	return n
}

func single(f protoreflect.FieldDescriptor, v protoreflect.Value) *yaml.Node {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return message(v.Message())
	case protoreflect.EnumKind:
		return scalar("!!str", enum(f.Enum(), v.Enum()))
	case protoreflect.BytesKind:
		return scalar("!!str", strings.ToValidUTF8(string(v.Bytes()), "?"))
	}
	return node(v.Interface())
}

// enum writes RESERVATION_STATE_COMMITTED as committed.
func enum(e protoreflect.EnumDescriptor, number protoreflect.EnumNumber) string {
	value := e.Values().ByNumber(number)
	if value == nil {
		return strconv.Itoa(int(number))
	}
	zero, _ := strings.CutSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), zero))
}

// Enum writes an enumeration's value as people read it: "committed".
func Enum(v protoreflect.Enum) string {
	if v.Number() == 0 {
		return "-"
	}
	return enum(v.Descriptor(), v.Number())
}

// PrintTable writes aligned columns. An empty cell becomes "-".
func PrintTable(w io.Writer, header []string, rows [][]string) error {
	widths := make([]int, len(header))
	all := append([][]string{header}, rows...)
	for _, row := range all {
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PrintPairs writes names and values in two columns. A pair without a value is
// left out.
func PrintPairs(w io.Writer, pairs [][2]string) error {
	width := 0
	for _, p := range pairs {
		if p[1] != "" {
			width = max(width, utf8.RuneCountInString(p[0]))
		}
	}
	var b strings.Builder
	for _, p := range pairs {
		if p[1] != "" {
			b.WriteString(p[0] + strings.Repeat(" ", width-utf8.RuneCountInString(p[0])+2) + p[1] + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Micros writes microseconds for people: "412 µs", "1.23 ms", "2.5 s".
func Micros(us uint64) string {
	switch {
	case us < 1000:
		return strconv.FormatUint(us, 10) + " µs"
	case us < 1000_000:
		return strconv.FormatFloat(float64(us)/1e3, 'f', 2, 64) + " ms"
	}
	return strconv.FormatFloat(float64(us)/1e6, 'f', 2, 64) + " s"
}

// Time writes a time for people, in UTC; empty where there is none.
func Time(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format("2006-01-02 15:04:05Z")
}

// Count writes a number of things: "1 session", "2 sessions".
func Count(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + one + "s"
}
