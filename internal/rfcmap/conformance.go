package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// conformance runs every test that cites a section, and prints for each section
// how many of its tests passed. It fails if one fails or did not run.
func conformance(root string, known *catalogue, cites []cite, out io.Writer) error {
	wanted := map[string][]string{} // package directory → tests
	for _, c := range cites {
		t, _, _ := strings.Cut(c.Place.Symbol, "/") // all recorded cases of a package at once
		if dir := c.Place.dir(); c.Place.Test && runnable(t) && !slices.Contains(wanted[dir], t) {
			wanted[dir] = append(wanted[dir], t)
		}
	}
	result := map[string]string{} // dir:test → pass, fail, skip
	for dir, names := range wanted {
		cmd := exec.Command("go", "test", "-json", "-run", "^("+strings.Join(names, "|")+")$", "./"+dir)
		cmd.Dir = root
		b, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		if err := results(b, dir, result); err != nil {
			return err
		}
	}
	return report(known, cites, result, out)
}

func runnable(symbol string) bool {
	return strings.HasPrefix(symbol, "Test") || strings.HasPrefix(symbol, "Fuzz") || strings.HasPrefix(symbol, "Example")
}

// results reads the output of go test -json.
func results(b []byte, dir string, into map[string]string) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	for {
		var ev struct{ Action, Test string }
		if err := dec.Decode(&ev); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("output of go test -json in %s: %w", dir, err)
		}
		if ev.Test != "" && (!strings.Contains(ev.Test, "/") || isStory(ev.Test)) && (ev.Action == "pass" || ev.Action == "fail" || ev.Action == "skip") {
			into[dir+":"+ev.Test] = ev.Action
		}
	}
}

// tally counts what came of the tests, or of the recorded cases, of a section.
type tally struct{ passed, all int }

func (t tally) String() string {
	if t.all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", t.passed, t.all)
}

func report(known *catalogue, cites []cite, result map[string]string, out io.Writer) error {
	bad, skipped, rows := 0, 0, 0
	fmt.Fprintf(out, "%-16s %-10s %-52s %9s %9s\n", "document", "section", "", "tests", "cases")
	for _, doc := range known.docs {
		for _, sec := range known.sections[doc] {
			var tests, cases tally
			seen, failed := map[string]bool{}, []string{}
			for _, c := range cites {
				key := c.Place.dir() + ":" + c.Place.Symbol
				if c.Doc != doc || c.Section != sec || !c.Place.Test || !runnable(c.Place.Symbol) || seen[key] {
					continue
				}
				seen[key] = true
				t := &tests
				if isStory(c.Place.Symbol) {
					t = &cases
				}
				t.all++
				switch r := result[key]; r {
				case "pass":
					t.passed++
				case "skip":
					skipped++
				case "":
					failed = append(failed, "not run: "+key)
				default:
					failed = append(failed, r+": "+key)
				}
			}
			if len(seen) == 0 {
				continue
			}
			rows++
			fmt.Fprintf(out, "%-16s §%-9s %-52.52s %9v %9v\n", doc, sec, known.title[doc][sec], tests, cases)
			for _, f := range failed {
				fmt.Fprintln(out, "    "+f)
			}
			bad += len(failed)
		}
	}
	fmt.Fprintf(out, "%d sections, %d failures, %d skipped here\n", rows, bad, skipped)
	if bad > 0 {
		return fmt.Errorf("%d failures", bad)
	}
	return nil
}
