package docs_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// rooms are the folders that the sessions of a page run in, one after the other.
type rooms map[string]string

func (r rooms) of(t *testing.T, page string) string {
	if r[page] == "" {
		r[page] = t.TempDir()
	}
	return r[page]
}

// changing is what differs from run to run: times, serial numbers, fingerprints.
var changing = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{32,}\b`), "DIGITS"},
}

func normal(text string) string {
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.name)
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// runSession runs the commands of a session and compares what they answer. They
// have to be ours, or openssl's; where that is missing its part is not checked.
func runSession(t *testing.T, b block, room string) {
	t.Run(b.at(), func(t *testing.T) {
		t.Chdir(room)
		for _, part := range strings.Split("\n"+b.text, "\n$ ")[1:] {
			command, want, _ := strings.Cut(part, "\n")
			args := strings.Fields(command)
			var got string
			switch {
			case app(args[0]) != nil:
				status, stdout, stderr := run(args)
				if got = stdout + stderr; status != 0 {
					got += fmt.Sprintf("exit status %d\n", status)
				}
			case args[0] == "openssl":
				path, err := exec.LookPath(args[0])
				if err != nil {
					t.Logf("openssl is not installed: not run: %s", command)
					continue
				}
				out, err := exec.CommandContext(t.Context(), path, args[1:]...).CombinedOutput()
				if got = string(out); err != nil {
					got += err.Error() + "\n"
				}
			default:
				t.Errorf("%s: what is %s? Only our tools and openssl are run", command, args[0])
				continue
			}
			if got, want := normal(got), normal(want); got != want {
				t.Errorf("%s\nprints\n%s\nthe page has\n%s", command, got, want)
			}
		}
	})
}
