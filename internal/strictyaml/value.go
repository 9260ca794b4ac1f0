package strictyaml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/interqos/interqos/internal/suggest"
)

// Value is a place in a file: a value, or where one could be.
type Value struct {
	r    *Reader
	path string
	n    *yaml.Node // nil: nothing is there
	// in is what the value is part of, or the nearest to it that is there.
	in   *yaml.Node
	lost bool // what the value should be part of is not there
	need bool // that nothing is there is an error
}

// Object is a mapping.
type Object struct {
	Value
}

// Entry is one key of a mapping, and its value.
type Entry struct {
	Key, Value Value
}

// There says whether there is a value. A key without a value has one: nothing.
func (v Value) There() bool { return v.n != nil }

// IsNull says whether there is no value, or a key without one.
func (v Value) IsNull() bool { return v.n == nil || v.n.ShortTag() == "!!null" }

// Is says whether the value is a certain word.
func (v Value) Is(word string) bool {
	return v.n != nil && v.n.Kind == yaml.ScalarNode && v.n.Value == word
}

// IsMapping says whether the value is a mapping.
func (v Value) IsMapping() bool { return v.n != nil && v.n.Kind == yaml.MappingNode }

// IsList says whether the value is a list.
func (v Value) IsList() bool { return v.n != nil && v.n.Kind == yaml.SequenceNode }

// Node returns what is there, for Part; nil where nothing is.
func (v Value) Node() *yaml.Node { return v.n }

// Path returns the keys that lead to the value, e.g. "edges[0].neighbor.as".
func (v Value) Path() string { return v.path }

// Line returns the line in which the value begins, or what it should be part
// of; 0 where that is not known.
func (v Value) Line() int {
	line, _ := v.place()
	return line
}

func (v Value) place() (line, column int) {
	switch {
	case v.n != nil:
		return v.n.Line, v.n.Column
	case v.in != nil:
		return v.in.Line, v.in.Column
	}
	return 0, 0
}

// Bad notes that the value is not what was expected; hint may be empty.
func (v Value) Bad(expected, hint string) { v.Wrong(describe(v.n), expected, hint) }

// Wrong is Bad with other words for what was found.
func (v Value) Wrong(found, expected, hint string) {
	line, column := v.place()
	v.r.add(line, column, v.path, found, expected, hint)
}

// Required notes that nothing is there, unless what it should be part of is
// missing or something else, which has been noted then. It returns the value.
func (v Value) Required(expected string) Value {
	if v.n == nil && !v.lost && v.in != nil && v.in.Kind == yaml.MappingNode {
		v.Bad(expected, "")
	}
	return v
}

// present says whether something is there, which is an error if it is needed
// and not.
func (v Value) present(expected string) bool {
	if v.need {
		v.Required(expected)
	}
	return v.n != nil
}

// is says whether the value is of a kind. An alias is none, and Check notes it.
func (v Value) is(kind yaml.Kind, expected string) bool {
	if !v.present(expected) {
		return false
	}
	if v.n.Kind != kind || kind == yaml.ScalarNode && v.IsNull() {
		if v.n.Kind != yaml.AliasNode {
			v.Bad(expected, "")
		}
		return false
	}
	return true
}

// Object reads a mapping that has only these keys.
func (v Value) Object(expected string, keys ...string) Object {
	if !v.is(yaml.MappingNode, expected) {
		return Object{v}
	}
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		key := v.n.Content[i]
		if key.Kind == yaml.ScalarNode && !slices.Contains(keys, key.Value) {
			v.r.add(key.Line, key.Column, join(v.path, key.Value), "an unknown key",
				"one of "+strings.Join(keys, ", "), suggest.Hint(key.Value, keys))
		}
	}
	return Object{v}
}

// Get returns the value of a key, there or not.
func (o Object) Get(key string) Value { return o.child(key) }

// Need is Get, and it is an error if nothing is there, as the value is read.
func (o Object) Need(key string) Value {
	v := o.child(key)
	v.need = true
	return v
}

// part returns a place in the value where nothing is yet.
func (v Value) part(path string) Value {
	c := Value{r: v.r, path: path, in: v.n, lost: v.n == nil}
	if c.lost {
		c.in = v.in
	}
	return c
}

// child returns the value of a key; that of the first where it is repeated.
func (v Value) child(key string) Value {
	c := v.part(join(v.path, key))
	if v.IsMapping() {
		for i := 0; i+1 < len(v.n.Content); i += 2 {
			if name := v.n.Content[i]; name.Kind == yaml.ScalarNode && name.Value == key {
				c.n = v.n.Content[i+1]
				break
			}
		}
	}
	return c
}

// Entries reads a mapping that may have any keys.
func (v Value) Entries(expected string) []Entry {
	if !v.is(yaml.MappingNode, expected) {
		return nil
	}
	var entries []Entry
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		key, path := v.n.Content[i], join(v.path, v.n.Content[i].Value)
		if key.Kind == yaml.ScalarNode {
			entries = append(entries, Entry{
				Key:   Value{r: v.r, path: path, n: key, in: v.n},
				Value: Value{r: v.r, path: path, n: v.n.Content[i+1], in: v.n},
			})
		}
	}
	return entries
}

// List reads a list and returns its elements.
func (v Value) List(expected string) []Value {
	if !v.is(yaml.SequenceNode, expected) {
		return nil
	}
	elements := make([]Value, len(v.n.Content))
	for i := range elements {
		elements[i] = v.element(i)
	}
	return elements
}

// element returns an element of a list, there or not.
func (v Value) element(i int) Value {
	c := v.part(fmt.Sprintf("%s[%d]", v.path, i))
	if v.IsList() && i < len(v.n.Content) {
		c.n = v.n.Content[i]
	}
	return c
}

// At returns what is at a path below the value, as in "links[0].a", there or
// not, to say what is wrong with it after all has been read.
func (v Value) At(path string) Value {
	for path != "" {
		if rest, ok := strings.CutPrefix(path, "["); ok {
			number, rest, _ := strings.Cut(rest, "]")
			if i, err := strconv.ParseUint(number, 10, 31); err == nil {
				v = v.element(int(i))
			}
			path = rest
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		v, path = v.child(path[:end]), path[end:]
	}
	return v
}
