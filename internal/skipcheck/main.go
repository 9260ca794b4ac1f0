// Command skipcheck compares the tests that skipped, as go test -json reports
// them, with a committed list, so that no test stops running unnoticed.
//
//	go test -json ./... >test.json; skipcheck -list .ci/skips.txt test.json
//
// A line of the list is "package test: reason". It also fails when a test
// failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	list := flag.String("list", ".ci/skips.txt", "the tests that may skip")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: skipcheck [-list FILE] OUTPUT-OF-GO-TEST-JSON")
		os.Exit(2)
	}
	if err := run(*list, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "skipcheck:", err)
		os.Exit(1)
	}
}

func run(list, output string) error {
	l, err := os.Open(list)
	if err != nil {
		return err
	}
	defer l.Close()
	allowed, err := readList(l)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	o, err := os.Open(output)
	if err != nil {
		return err
	}
	defer o.Close()
	res, err := readOutput(o)
	if err != nil {
		return fmt.Errorf("%s: %w", output, err)
	}
	if problems := compare(allowed, res); len(problems) > 0 {
		return errors.New(strings.Join(problems, "\n"))
	}
	fmt.Printf("skipcheck: %d tests passed, %d skipped as listed\n", res.passed, len(res.skipped))
	return nil
}

// result is what a run of go test said.
type result struct {
	passed  int
	skipped map[string]string // "package test" → its last words
	failed  []string
}

// readList returns "package test" → reason.
func readList(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, reason, ok := strings.Cut(line, ": ")
		if !ok || len(strings.Fields(key)) != 2 || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("line %d: expected 'package test: reason', found %q", n, line)
		}
		out[strings.Join(strings.Fields(key), " ")] = reason
	}
	return out, sc.Err()
}

// readOutput reads test2json events; lines that are none (a build's errors) are
// passed over, for the package's own "fail" event follows.
func readOutput(r io.Reader) (result, error) {
	res := result{skipped: map[string]string{}}
	said := map[string]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var ev struct{ Action, Package, Test, Output string }
		if json.Unmarshal(sc.Bytes(), &ev) != nil {
			continue
		}
		key := strings.TrimSpace(ev.Package + " " + ev.Test)
		switch ev.Action {
		case "output":
			if s := strings.TrimSpace(ev.Output); s != "" && !strings.HasPrefix(s, "---") && !strings.HasPrefix(s, "===") {
				said[key] = s
			}
		case "pass":
			if ev.Test != "" {
				res.passed++
			}
		case "skip":
			if ev.Test != "" { // a package without tests "skips", too
				res.skipped[key] = said[key]
			}
		case "fail":
			res.failed = append(res.failed, key)
		}
	}
	return res, sc.Err()
}

func compare(allowed map[string]string, res result) []string {
	var out []string
	for _, f := range res.failed {
		out = append(out, "failed: "+f)
	}
	for k, why := range res.skipped {
		if _, ok := allowed[k]; !ok {
			out = append(out, fmt.Sprintf("skipped, and not in the list: %s (%s)", k, why))
		}
	}
	for k := range allowed {
		if _, ok := res.skipped[k]; !ok {
			out = append(out, "in the list, and did not skip: "+k)
		}
	}
	if res.passed == 0 {
		out = append(out, "no test passed: is this the output of go test -json?")
	}
	slices.Sort(out)
	return out
}
