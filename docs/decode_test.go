package docs_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Every example of decode.md runs, and prints what stands there. A line "…"
// stands for any lines.
func TestDecodeExamples(t *testing.T) {
	all, _ := blocks(t, "docs/decode.md")
	t.Chdir(root)
	count := map[string]int{}
	for _, b := range all {
		if b.info != "console" {
			continue
		}
		command, want, _ := strings.Cut(b.text, "\n")
		args := strings.Fields(strings.TrimPrefix(command, "$ "))
		count[args[0]]++
		t.Run(b.at(), func(t *testing.T) {
			var out string
			if app(args[0]) != nil {
				_, stdout, stderr := run(args)
				out = stdout + stderr
			} else {
				out = tool(t, args)
			}
			if !matches(strings.Split(out, "\n"), strings.Split(want, "\n")) {
				t.Errorf("%s prints\n%s\nthe page has\n%s", command, out, want)
			}
		})
	}
	if count["qnectl"] < 4 || count["tshark"] < 2 {
		t.Errorf("examples: %v, want some of both tools", count)
	}
}

// tool runs a program that is not ours, with no settings of whoever runs the
// test.
func tool(t *testing.T, args []string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("%s is not installed", args[0])
	}
	home := t.TempDir()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// matches says whether lines are those wanted, among which "…" stands for any
// number.
func matches(lines, want []string) bool {
	for len(want) > 0 && want[0] != "…" {
		if len(lines) == 0 || strings.TrimRight(lines[0], " ") != strings.TrimRight(want[0], " ") {
			return false
		}
		lines, want = lines[1:], want[1:]
	}
	if len(want) == 0 {
		return len(lines) == 0
	}
	for i := range len(lines) + 1 {
		if matches(lines[i:], want[1:]) {
			return true
		}
	}
	return false
}
