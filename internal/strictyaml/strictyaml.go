// Package strictyaml reads configuration out of YAML, of which JSON is a part,
// and says, for everything that is wrong at once, in which file, line and
// column, what was found, and what was expected.
//
// It is strict: unknown and repeated keys are errors, and so is what makes a
// file mean something else than what it seems to say: anchors, aliases, tags
// and octets that are not UTF-8.
//
//	r := &strictyaml.Reader{File: name}
//	o := r.Document(text, "a configuration").Object("a mapping", "listen", "rate")
//	listen := o.Need("listen").AddrPort("where to listen")
//	rate := o.Get("rate").Rate("the rate of traffic", 1)
//	return r.Err()
//
// A value that is wrong or not there reads as the zero value, or as the default
// that the call names; a caller looks at Err before it uses any.
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read and told.
const (
	maxDepth  = 64  // of lists and mappings in each other
	maxErrors = 100 // that are kept; the others are counted
	maxText   = 60  // octets of a file's text in an error
)

// Error is one thing that is wrong.
type Error struct {
	File         string
	Line, Column int    // from 1; 0: not known
	Path         string // of keys, e.g. "edges[0].neighbor.as"; empty: the document
	Found        string
	Expected     string
	Hint         string // what may have been meant, or how to repair it
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	fmt.Fprintf(&b, "found %s, expected %s", e.Found, e.Expected)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Errors is everything that is wrong, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// Reader collects what is wrong in one file.
type Reader struct {
	File string
	errs Errors
	more int // errors that were only counted
}

// Err returns what was wrong, an Errors in the order of the file, or nil.
func (r *Reader) Err() error {
	if len(r.errs) == 0 {
		return nil
	}
	errs := slices.Clone(r.errs)
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	if r.more > 0 {
		last := *errs[len(errs)-1]
		last.Path, last.Found, last.Expected, last.Hint = "", fmt.Sprintf("%d errors more", r.more), "none", ""
		errs = append(errs, &last)
	}
	return errs
}

// Count returns how many errors there are so far.
func (r *Reader) Count() int { return len(r.errs) + r.more }

func (r *Reader) add(line, column int, path, found, expected, hint string) {
	if len(r.errs) == maxErrors {
		r.more++
		return
	}
	r.errs = append(r.errs, &Error{
		File: r.File, Line: line, Column: column, Path: path,
		Found: found, Expected: expected, Hint: hint,
	})
}

// Document reads a text that is one document; what says what it should be. The
// value is not there when the text was none, which has then been noted.
func (r *Reader) Document(text []byte, what string) Value {
	docs, ok := r.documents(text, 2)
	switch {
	case !ok:
	case len(docs) == 0:
		r.add(1, 1, "", "an empty file", what, "")
	case len(docs) > 1:
		r.add(docs[1].Line, docs[1].Column, "", "a second document", "one document in the file", "")
	default:
		return r.Part(docs[0].Content[0], "")
	}
	return Value{r: r}
}

// Documents reads a text that may hold several documents, and returns them as
// far as they are YAML. They are still to be checked, each or part by part: see
// Check.
func (r *Reader) Documents(text []byte) []Value {
	docs, _ := r.documents(text, -1)
	values := make([]Value, len(docs))
	for i, doc := range docs {
		values[i] = Value{r: r, n: doc.Content[0]}
	}
	return values
}

// Part takes up, at a key path, a part of the file that has been parsed before.
func (r *Reader) Part(n *yaml.Node, path string) Value {
	return Value{r: r, path: path, n: n}.Check()
}

// documents parses up to most documents, or all.
func (r *Reader) documents(text []byte, most int) (docs []*yaml.Node, ok bool) {
	if i := invalidUTF8(text); i >= 0 {
		line, column := 1+bytes.Count(text[:i], []byte("\n")), i-bytes.LastIndexByte(text[:i], '\n')
		r.add(line, column, "", fmt.Sprintf("the octet 0x%02x", text[i]), "UTF-8 text", "")
		return nil, false
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for len(docs) != most {
		var doc yaml.Node
		switch err := decoder.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, true
		case err != nil:
			r.syntax(text, err)
			return docs, false
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			docs = append(docs, &doc)
		}
	}
	return docs, true
}

// invalidUTF8 returns where b is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// The YAML library numbers the lines of its parser's errors from 0, those of
// its scanner's from 1, and those of its composer's not at all.
var (
	errorLine     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	parserError   = regexp.MustCompile(`^did not find expected (?:node content|',' or|key|'-' indicator|<)`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

func (r *Reader) syntax(b []byte, err error) {
	line, text := 1, err.Error()
	if m := errorLine.FindStringSubmatch(text); m != nil {
		text = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
			if parserError.MatchString(text) {
				line++
			}
		}
	}
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		if before, _, ok := bytes.Cut(b, []byte("*"+m[1])); ok {
			line += bytes.Count(before, []byte("\n"))
		}
	}
	r.add(line, 1, "", "a YAML syntax error: "+Clip(text), "YAML", "")
}

// Check notes, anywhere in the value, what would make the file mean something
// else than what it seems to: repeated keys, anchors, aliases and tags. It
// returns the value itself.
func (v Value) Check() Value {
	if v.n != nil {
		v.r.check(v.n, v.path, 0)
	}
	return v
}

func (r *Reader) check(n *yaml.Node, path string, depth int) {
	r.plain(n, path)
	if depth == maxDepth && len(n.Content) > 0 {
		r.add(n.Line, n.Column, "", "lists or mappings in each other", fmt.Sprintf("at most %d", maxDepth), "")
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			r.check(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
	case yaml.MappingNode:
		r.checkKeys(n, path)
		for i := 0; i+1 < len(n.Content); i += 2 {
			r.check(n.Content[i+1], join(path, n.Content[i].Value), depth+1)
		}
	}
}

// plain notes what a node has besides its value.
func (r *Reader) plain(n *yaml.Node, path string) {
	const only = "anchors and aliases are not supported"
	if n.Style&yaml.TaggedStyle != 0 {
		r.add(n.Line, n.Column, path, "the tag "+Clip(n.Tag), "a value without a tag", "")
	}
	if n.Anchor != "" {
		r.add(n.Line, n.Column, path, "the anchor &"+Clip(n.Anchor), "just a value", only)
	}
	if n.Kind == yaml.AliasNode {
		r.add(n.Line, n.Column, path, "the alias *"+Clip(n.Value), "the value itself", only)
	}
}

func (r *Reader) checkKeys(n *yaml.Node, path string) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			r.add(key.Line, key.Column, path, describe(key)+" as a key", "a word as a key", "")
			continue
		}
		name := join(path, key.Value)
		r.plain(key, name)
		if line, again := seen[key.Value]; again {
			r.add(key.Line, key.Column, name, "the key a second time", "it once", fmt.Sprintf("the first is in line %d", line))
			continue
		}
		seen[key.Value] = key.Line
	}
}

func join(path, key string) string {
	if path == "" {
		return Clip(key)
	}
	return path + "." + Clip(key)
}

// Clip makes a text that comes from a file fit for an error: short, and on one
// line.
func Clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-3], "") + "..."
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
}

// describe says what a node is.
func describe(n *yaml.Node) string {
	switch {
	case n == nil:
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.ShortTag() == "!!null":
		return "nothing"
	}
	return strconv.Quote(Clip(n.Value))
}
