package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// row is one claim of the map: this code is what a section asks for, and these
// tests prove it.
type row struct {
	Doc, Section string
	Code         place
	Tests        []string // "dir:Test", of the section and its parts
}

func (r row) String() string { return r.Code.String() + " " + r.Doc + " §" + r.Section }

// rows lists the claims about documents that are held to account. What is but
// declared (a constant, a plain struct) has nothing that could be removed; see
// mutate.
func rows(cites []cite) []row {
	tests := map[string][]string{}
	for _, c := range cites {
		if c.Place.Test && runnable(c.Place.Symbol) {
			t := c.Place.dir() + ":" + c.Place.Symbol
			parents(c.Section, func(s string) {
				if k := c.Doc + " " + s; !slices.Contains(tests[k], t) {
					tests[k] = append(tests[k], t)
				}
			})
		}
	}
	var out []row
	for _, c := range cites {
		r := row{c.Doc, c.Section, c.Place, tests[c.Doc+" "+c.Section]}
		if c.Place.Test || !slices.Contains(accountable, c.Doc) || slices.ContainsFunc(out, func(o row) bool { return o.String() == r.String() }) {
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// mutate returns the files, changed, of a package in which the code at p does
// nothing: functions return zero values at once. For a type those are its
// methods, for a file all that is in it. Empty: there is nothing to remove.
func mutate(root string, p place) (map[string][]byte, error) {
	files := []string{p.File}
	if p.Symbol != "" && !strings.Contains(p.Symbol, ".") { // perhaps a type
		all, err := filepath.Glob(filepath.Join(root, path.Dir(p.File), "*.go"))
		if err != nil {
			return nil, err
		}
		for _, f := range all {
			rel := path.Join(path.Dir(p.File), filepath.Base(f))
			if rel != p.File && !strings.HasSuffix(rel, "_test.go") {
				files = append(files, rel)
			}
		}
	}
	out := map[string][]byte{}
	for _, file := range files {
		src, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		changed, err := emptied(file, src, p.Symbol)
		if err != nil {
			return nil, err
		}
		if changed != nil {
			out[file] = changed
		}
	}
	return out, nil
}

// emptied returns src with the functions that symbol stands for emptied: what
// stood there is never reached. So imports and variables stay used, and lines
// keep their numbers. Nil: none of them is here.
func emptied(file string, src []byte, symbol string) ([]byte, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	text := func(n ast.Node) string {
		return string(src[fset.Position(n.Pos()).Offset:fset.Position(n.End()).Offset])
	}
	var out []byte
	at := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil || len(fn.Body.List) == 0 || fn.Name.Name == "init" {
			continue
		}
		if name := funcName(fn); symbol != "" && name != symbol && !strings.HasPrefix(name, symbol+".") {
			continue
		}
		ret := " return"
		if fn.Type.Results != nil && fn.Type.Results.List[0].Names == nil {
			for i, r := range fn.Type.Results.List {
				if i > 0 {
					ret += ","
				}
				ret += " *new(" + text(r.Type) + ")"
			}
		}
		lbrace := fset.Position(fn.Body.Lbrace).Offset + 1
		out = append(append(append(out, src[at:lbrace]...), ret...), ';')
		at = lbrace
	}
	if out == nil {
		return nil, nil
	}
	return append(out, src[at:]...), nil
}

// tester runs single tests of packages, in binaries that it builds.
type tester struct {
	root, tmp string
	whole     map[string]string // package → its binary with everything in place
	sound     map[string]bool   // by "dir:Test": whether it passes with that
}

func newTester(root string) (*tester, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "rfcmap")
	return &tester{root: abs, tmp: tmp, whole: map[string]string{}, sound: map[string]bool{}}, err
}

// testLimit is how long one test may take, on a machine that has other work.
const testLimit = 90 * time.Second

// build makes the test binary of a package, with files replaced.
func (t *tester) build(dir, name string, replace map[string][]byte) (string, error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, src := range replace {
		to := filepath.Join(t.tmp, fmt.Sprintf("%d.go", len(overlay.Replace)))
		if err := os.WriteFile(to, src, 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(t.root, file)] = to
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list, binary := filepath.Join(t.tmp, "overlay.json"), filepath.Join(t.tmp, name+".test")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, "./"+dir)
	cmd.Dir = t.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s does not build: %s", dir, bytes.TrimSpace(out))
	}
	return binary, nil
}

// passes runs one test, and says whether it was run and passed.
func (t *tester) passes(binary, dir, test string) (bool, error) {
	// A part of a test is named with slashes, and each stands for itself.
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	ctx, cancel := context.WithTimeout(context.Background(), testLimit+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", pattern, "-test.timeout", testLimit.String())
	cmd.Dir = filepath.Join(t.root, dir)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, err
	}
	return err == nil && bytes.Contains(out, []byte("--- PASS: "+test+" ")), nil
}

// passesWhole says whether a test passes with everything in place: only then its
// failure says anything.
func (t *tester) passesWhole(dir, test string) (ok bool, err error) {
	if ok, known := t.sound[dir+":"+test]; known {
		return ok, nil
	}
	if t.whole[dir] == "" {
		if t.whole[dir], err = t.build(dir, fmt.Sprintf("whole%d", len(t.whole)), nil); err != nil {
			return false, err
		}
	}
	ok, err = t.passes(t.whole[dir], dir, test)
	t.sound[dir+":"+test] = ok
	return ok, err
}

// byDir sorts tests by package; the package of the code comes first, being the
// quickest to build.
func byDir(tests []string, first string) (dirs []string, names map[string][]string) {
	names = map[string][]string{}
	for _, t := range tests {
		dir, name, _ := strings.Cut(t, ":")
		names[dir] = append(names[dir], name)
	}
	dirs = slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		if (a == first) != (b == first) {
			if a == first {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return dirs, names
}

// challenge removes the code of rows that share one place, and runs the tests of
// each until one fails. It returns for each row the one that did, if any.
func (t *tester) challenge(rs []row) ([]string, error) {
	by := make([]string, len(rs))
	replace, err := mutate(t.root, rs[0].Code)
	if err != nil {
		return nil, err
	}
	var union []string
	for _, r := range rs {
		union = append(union, r.Tests...)
	}
	slices.SortFunc(union, func(a, b string) int {
		if isStory(a) != isStory(b) { // recorded cases first: they take no time
			if isStory(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	dirs, names := byDir(slices.Compact(union), path.Dir(rs[0].Code.File))
	for _, dir := range dirs {
		if !slices.Contains(by, "") {
			break
		}
		binary, err := t.build(dir, "mutant", replace)
		if err != nil {
			return nil, err
		}
		for _, name := range names[dir] {
			test := dir + ":" + name
			var open []int
			for i := range rs {
				if by[i] == "" && slices.Contains(rs[i].Tests, test) {
					open = append(open, i)
				}
			}
			if len(open) == 0 {
				continue
			}
			passed, err := t.passes(binary, dir, name)
			if err != nil {
				return nil, err
			}
			if passed {
				continue
			}
			sound, err := t.passesWhole(dir, name)
			if err != nil {
				return nil, err
			}
			for _, i := range open {
				if sound {
					by[i] = test
				}
			}
		}
	}
	return by, nil
}

// mutation challenges a sample of the map's rows, all of them where n is 0, and
// says which no test notices. excused has rows that need not be noticed.
func mutation(root string, cites []cite, n int, seed uint64, only string, excused map[string]string, out io.Writer) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	byPlace := map[string][]row{}
	var places []string
	all := rows(cites)
	for key := range excused {
		if !slices.ContainsFunc(all, func(r row) bool { return r.String() == key }) {
			return fmt.Errorf("survivors.txt excuses %s, which is no row of the map", key)
		}
	}
	var sample []row
	// By a hash, so that a new row does not change the sample but by itself.
	order := func(r row) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d %v", seed, r)
		return h.Sum64()
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Compare(order(a), order(b)) })
	for _, r := range all {
		if n > 0 && len(sample) == n {
			break
		}
		if excused[r.String()] != "" || !chosen.MatchString(r.String()) {
			continue
		}
		if files, err := mutate(root, r.Code); err != nil {
			return err
		} else if len(files) > 0 {
			sample = append(sample, r)
		}
	}
	for _, r := range sample {
		p := r.Code.String()
		if byPlace[p] == nil {
			places = append(places, p)
		}
		byPlace[p] = append(byPlace[p], r)
	}
	t, err := newTester(root)
	if err != nil {
		return err
	}
	defer os.RemoveAll(t.tmp)
	bad := 0
	for _, p := range places {
		by, err := t.challenge(byPlace[p])
		if err != nil {
			bad++
			fmt.Fprintf(out, "error     %s: %v\n", p, err)
			continue
		}
		for i, r := range byPlace[p] {
			if by[i] == "" {
				bad++
				fmt.Fprintf(out, "SURVIVED  %s: of %v\n", r, r.Tests)
			} else {
				fmt.Fprintf(out, "noticed   %s: by %s\n", r, by[i])
			}
		}
	}
	fmt.Fprintf(out, "%d rows of %d challenged: the code removed, their tests run\n", len(sample), len(all))
	if bad > 0 {
		return fmt.Errorf("%d rows claim what no test of theirs notices", bad)
	}
	return nil
}
