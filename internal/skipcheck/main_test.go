package main

import (
	"slices"
	"strings"
	"testing"
)

const output = `{"Action":"start","Package":"m/a"}
{"Action":"pass","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"    a_test.go:5: needs root\n"}
{"Action":"output","Package":"m/a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestRoot"}
{"Action":"pass","Package":"m/a"}
{"Action":"skip","Package":"m/none"}
`

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name, list, output string
		want               []string
	}{
		{"listed", "m/a TestRoot: CI is not root", output, nil},
		{"not listed", "# none\n", output, []string{"skipped, and not in the list: m/a TestRoot (a_test.go:5: needs root)"}},
		{"listed in vain", "m/a TestRoot: x\nm/a TestGood: x", output, []string{"in the list, and did not skip: m/a TestGood"}},
		{"failure", "m/a TestRoot: x", output + `{"Action":"fail","Package":"m/b","Test":"TestBad"}` + "\n# m/c\nbuild error\n" + `{"Action":"fail","Package":"m/c"}`,
			[]string{"failed: m/b TestBad", "failed: m/c"}},
		{"nothing ran", "", "", []string{"no test passed: is this the output of go test -json?"}},
	} {
		allowed, err := readList(strings.NewReader(tc.list))
		if err != nil {
			t.Fatal(err)
		}
		res, err := readOutput(strings.NewReader(tc.output))
		if err != nil {
			t.Fatal(err)
		}
		if got := compare(allowed, res); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestListNeedsReason(t *testing.T) {
	for _, line := range []string{"m/a TestRoot", "m/a TestRoot: ", "TestRoot: x"} {
		if _, err := readList(strings.NewReader(line)); err == nil {
			t.Errorf("%q accepted", line)
		}
	}
}
