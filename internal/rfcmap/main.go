// Command rfcmap collects the section tags in comments and tests ("RFC 5971
// §5.3.3") into docs/rfc-map.md: which section is implemented where, and which
// tests prove it, or why there are none (docs/rfc-reasons.txt).
//
// With -check it changes nothing and fails if the page is stale, if a tag names
// a section that does not exist, if a section has code and no test
// (untested.txt lists the exceptions, each with its reason), or if a section of
// an accountable document has neither code nor a reason. With -conformance it
// runs the tests and recorded cases that cite a section and prints the result by
// section. With -mutate it takes away the code behind rows of the page, and
// fails where no test of a row notices (survivors.txt lists the exceptions).
package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed sections.txt
var sectionsTxt []byte

const pagePath = "docs/rfc-map.md"

func main() {
	check := flag.Bool("check", false, "write nothing; fail if the page is stale or a tag is wrong or unproved")
	conform := flag.Bool("conformance", false, "run the tests that cite a section, and print the result by section")
	mutants := flag.Int("mutate", -1, "remove the code behind so many rows, 0: all, and see their tests fail")
	seed := flag.Uint64("seed", 1, "which rows -mutate takes")
	only := flag.String("only", "", "what matches this expression: with -mutate \"FILE:SYMBOL RFC 5971 §1.2\", with -conformance \"RFC 5971 §1.2\"")
	root := flag.String("root", ".", "root of the module")
	flag.Parse()
	var err error
	if *mutants >= 0 {
		err = runMutation(*root, *mutants, *seed, *only, os.Stdout)
	} else {
		err = run(*root, *check, *conform, *only, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rfcmap:", err)
		os.Exit(1)
	}
}

func run(root string, check, conform bool, only string, out io.Writer) error {
	known, err := readCatalogue(bytes.NewReader(sectionsTxt))
	if err != nil {
		return err
	}
	cites, problems, err := scan(os.DirFS(root), known)
	if err != nil {
		return err
	}
	if conform {
		chosen, err := regexp.Compile(only)
		if err != nil {
			return err
		}
		cites = slices.DeleteFunc(cites, func(c cite) bool { return !chosen.MatchString(c.Doc + " §" + c.Section) })
		return conformance(root, known, cites, out)
	}
	reasons, err := readExcused(filepath.Join(root, reasonsPath))
	if err != nil {
		return err
	}
	page := render(known, cites, reasons)
	file := filepath.Join(root, pagePath)
	if !check {
		if len(problems) > 0 {
			fmt.Fprintln(out, strings.Join(problems, "\n"))
		}
		return os.WriteFile(file, page, 0o644)
	}
	excused, err := readExcused(filepath.Join(root, "internal/rfcmap/untested.txt"))
	if err != nil {
		return err
	}
	problems = append(problems, unproved(known, cites, excused)...)
	problems = append(problems, unaccounted(known, cites, reasons)...)
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, page) {
		problems = append(problems, pagePath+" is stale: run 'make rfc-map' and commit it")
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems:\n%s", len(problems), strings.Join(problems, "\n"))
	}
	return nil
}

func runMutation(root string, n int, seed uint64, only string, out io.Writer) error {
	known, err := readCatalogue(bytes.NewReader(sectionsTxt))
	if err != nil {
		return err
	}
	cites, _, err := scan(os.DirFS(root), known)
	if err != nil {
		return err
	}
	excused, err := readExcused(filepath.Join(root, "internal/rfcmap/survivors.txt"))
	if err != nil {
		return err
	}
	return mutation(root, cites, n, seed, only, excused, out)
}

// readExcused reads "document §section: reason" lines.
func readExcused(file string) (map[string]string, error) {
	out := map[string]string{}
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return out, nil
	} else if err != nil {
		return nil, err
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, reason, ok := strings.Cut(line, ": ")
		if !ok || strings.TrimSpace(reason) == "" || !strings.Contains(key, " §") {
			return nil, fmt.Errorf("%s:%d: expected 'RFC 5971 §1.2: reason', found %q", file, n, line)
		}
		out[key] = reason
	}
	return out, sc.Err()
}

// unproved lists the sections that code claims and no test cites, and the
// excuses that excuse nothing. A test of a section's part counts for the whole.
// What is cited in passing ("*" in sections.txt) claims nothing.
func unproved(known *catalogue, cites []cite, excused map[string]string) []string {
	code, tested := map[string]place{}, map[string]bool{}
	for _, c := range cites {
		if _, passing := known.title[c.Doc]["*"]; passing {
			continue
		}
		key := func(sec string) string { return c.Doc + " §" + sec }
		if c.Place.Test {
			parents(c.Section, func(s string) { tested[key(s)] = true })
		} else if _, ok := code[key(c.Section)]; !ok {
			code[key(c.Section)] = c.Place
		}
	}
	var out []string
	for k, p := range code {
		if !tested[k] && excused[k] == "" {
			out = append(out, fmt.Sprintf("%s is claimed by %s, and no test cites it", k, p))
		}
	}
	for k := range excused {
		if _, claimed := code[k]; !claimed || tested[k] {
			out = append(out, fmt.Sprintf("untested.txt excuses %s, which needs no excuse", k))
		}
	}
	slices.Sort(out)
	return out
}

func (p place) String() string {
	if p.Symbol == "" {
		return p.File
	}
	return p.File + ":" + p.Symbol
}

// render writes the page.
func render(known *catalogue, cites []cite, reasons map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("# Which section is where\n\nGenerated from the section tags in code and tests, the recorded cases\n" +
		"([conformance.md](conformance.md)) and `" + reasonsPath + "` by `make rfc-map`; do not edit.\n")
	docs := slices.Clone(known.docs)
	for _, c := range cites {
		if !slices.Contains(docs, c.Doc) {
			docs = append(docs, c.Doc)
		}
	}
	for _, doc := range docs {
		code, tests := map[string][]place{}, map[string][]place{}
		sections := slices.Clone(known.sections[doc])
		for _, c := range cites {
			if c.Doc != doc {
				continue
			}
			if !slices.Contains(sections, c.Section) {
				sections = append(sections, c.Section) // a document whose headings are not listed
				slices.Sort(sections)
			}
			if c.Place.Test {
				tests[c.Section] = append(tests[c.Section], c.Place)
			} else {
				code[c.Section] = append(code[c.Section], c.Place)
			}
		}
		if len(code)+len(tests) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| § | title | code | tests |\n| --- | --- | --- | --- |\n", doc)
		for _, s := range sections {
			why := reasons[doc+" §"+s]
			if len(code[s])+len(tests[s]) == 0 && why == "" {
				continue
			}
			if why != "" {
				why = "none: " + strings.ReplaceAll(why, "|", `\|`)
			}
			fmt.Fprintf(&b, "| %s | %s | %s%s | %s |\n", s, strings.ReplaceAll(known.title[doc][s], "|", `\|`), cell(code[s]), why, cell(tests[s]))
		}
	}
	return b.Bytes()
}

// cell groups places by file: "`a.go`: F, G; `b.go`".
func cell(ps []place) string {
	byFile := map[string][]string{}
	for _, p := range ps {
		syms := byFile[p.File]
		sym := p.Symbol
		if isStory(sym) {
			sym = path.Base(sym)
		}
		if sym != "" && !slices.Contains(syms, sym) {
			syms = append(syms, sym)
		}
		byFile[p.File] = syms
	}
	var out []string
	for f, syms := range byFile {
		s := "`" + f + "`"
		if len(syms) > 0 {
			slices.Sort(syms)
			s += ": " + strings.Join(syms, ", ")
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
