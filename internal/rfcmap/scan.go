package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// place is where a tag stands: a symbol of a file, or the file as a whole.
type place struct {
	File, Symbol string
	// Test says that it stands in a test (or fuzz target, benchmark, example)
	// or at the top of a test file.
	Test bool
}

// cite is one section named at one place.
type cite struct {
	Doc, Section string
	Place        place
}

const (
	docPattern     = `RFC\s?[0-9]+|interdomain-qosm|draft-[a-z0-9-]+`
	sectionPattern = `(?:[0-9]+|[A-Z])(?:\.[0-9]+)*`
)

var (
	// A document, then its sections: "RFC 5971 §5.3.3, §A.3–A.3.2 and B.2". Only
	// what has a § or a dot goes on with the list.
	tagRE = regexp.MustCompile(`(` + docPattern + `),?\s*(§§?\s?` + sectionPattern +
		`(?:\s?(?:,|;|/|–|-|\bto\b|\band\b|\bor\b)\s?(?:§§?\s?` + sectionPattern + `|(?:[0-9]+|[A-Z])(?:\.[0-9]{1,2})+\b))*)`)
	itemRE     = regexp.MustCompile(`(^|,|;|/|–|-|\bto\b|\band\b|\bor\b)\s?§*\s?(` + sectionPattern + `)`)
	testNameRE = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)`)
)

// tags returns the sections that a text names, in order, with ranges expanded.
func tags(text string, known *catalogue) ([]cite, error) {
	var out []cite
	for _, m := range tagRE.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1) {
		doc := normalDoc(m[1])
		last := ""
		for _, it := range itemRE.FindAllStringSubmatch(m[2], -1) {
			sec := it[2]
			if last != "" && (it[1] == "–" || it[1] == "-" || it[1] == "to") {
				secs, err := known.between(doc, last, sec)
				if err != nil {
					return nil, fmt.Errorf("%q: %w", m[0], err)
				}
				for _, s := range secs {
					out = append(out, cite{Doc: doc, Section: s})
				}
			} else {
				out = append(out, cite{Doc: doc, Section: sec})
			}
			last = sec
		}
	}
	for _, c := range out {
		if err := known.exists(c.Doc, c.Section); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func normalDoc(s string) string {
	if n, ok := strings.CutPrefix(s, "RFC"); ok {
		return "RFC " + strings.TrimSpace(n)
	}
	return s
}

// scan collects the tags of all Go files under root, and what is wrong with any.
func scan(root fs.FS, known *catalogue) (cites []cite, problems []string, err error) {
	err = fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if name == "testdata" {
				cs, bad, err := scanStories(root, p, known)
				cites, problems = append(cites, cs...), append(problems, bad...)
				if err != nil {
					return err
				}
			}
			skip := name == "testdata" || name == "vendor" || p == "bin" || p == "build" || p == "internal/rfcmap"
			if skip || (len(name) > 1 && (name[0] == '.' || name[0] == '_')) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" || strings.HasSuffix(p, ".pb.go") {
			return nil
		}
		src, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		cs, bad, err := scanFile(p, src, known)
		cites = append(cites, cs...)
		problems = append(problems, bad...)
		return err
	})
	return cites, problems, err
}

func scanFile(file string, src []byte, known *catalogue) (cites []cite, problems []string, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	isTest := strings.HasSuffix(file, "_test.go")
	add := func(pos token.Pos, text string) {
		found, err := tags(text, known)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", fset.Position(pos), err))
			return
		}
		if len(found) == 0 {
			return
		}
		sym := symbolAt(fset, f, pos)
		for _, c := range found {
			c.Place = place{File: file, Symbol: sym, Test: isTest && (sym == "" || testNameRE.MatchString(sym))}
			// What helpers of tests cite proves nothing and claims nothing.
			if !isTest || c.Place.Test {
				cites = append(cites, c)
			}
		}
	}
	for _, g := range f.Comments {
		add(g.Pos(), g.Text())
	}
	if isTest { // the names of cases quote rules, too
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					add(lit.Pos(), s)
				}
			}
			return true
		})
	}
	return cites, problems, nil
}

// symbolAt names the top-level declaration that a position is part of, its doc
// comment and a comment at the end of its last line included; "" is the file.
func symbolAt(fset *token.FileSet, f *ast.File, pos token.Pos) string {
	line := func(p token.Pos) int { return fset.Position(p).Line }
	within := func(doc *ast.CommentGroup, n ast.Node) bool {
		start := n.Pos()
		if doc != nil {
			start = doc.Pos()
		}
		return pos >= start && (pos < n.End() || line(pos) == line(n.End()))
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if within(d.Doc, d) {
				return funcName(d)
			}
		case *ast.GenDecl:
			if !within(d.Doc, d) || d.Tok == token.IMPORT {
				continue
			}
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if within(s.Doc, s) {
						return s.Name.Name
					}
				case *ast.ValueSpec:
					if within(s.Doc, s) {
						return s.Names[0].Name
					}
				}
			}
			return firstName(d)
		}
	}
	return ""
}

func firstName(d *ast.GenDecl) string {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			return s.Name.Name
		case *ast.ValueSpec:
			if i := slices.IndexFunc(s.Names, func(n *ast.Ident) bool { return n.Name != "_" }); i >= 0 {
				return s.Names[i].Name
			}
		}
	}
	return ""
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
			continue
		case *ast.IndexExpr:
			t = x.X
			continue
		case *ast.IndexListExpr:
			t = x.X
			continue
		case *ast.Ident:
			return x.Name + "." + d.Name.Name
		}
		return d.Name.Name
	}
}
