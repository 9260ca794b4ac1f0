package three_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	three "github.com/interqos/interqos/labs/01-three-networks"
)

// changing is what differs from run to run in what the README shows.
var changing = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "SID"},
	{regexp.MustCompile(`\b[0-9.]+ (µs|ms|s)\b`), "TIME"},
	{regexp.MustCompile(` +`), " "}, // columns are as wide as what is in them
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

// TestREADMEByHand types what the README's section on the networks by hand says,
// in its order, and compares what comes back.
func TestREADMEByHand(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts four processes")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## The three networks by hand\n")
	section, _, end := strings.Cut(section, "\n## ")
	if !ok || !end {
		t.Fatal("README.md has no such section")
	}
	blocks := regexp.MustCompile("(?s)```(sh|console)\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) < 2 || blocks[0][1] != "sh" {
		t.Fatalf("%d blocks, the first should be sh", len(blocks))
	}

	w := &world{t: t}
	if w.dir, err = os.MkdirTemp("", "iq"); err != nil { // short, for sockets
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	if w.Lab, err = three.Prepare(three.Options{Bin: bin, Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	if err := w.Claim(t.Context(), claimWait); err != nil {
		t.Fatal(err)
	}
	// The reader makes his own.
	if err := os.RemoveAll(filepath.Join(w.dir, "pki")); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	shell := func(command string) string {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
		cmd.Dir, cmd.Env = w.dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			out = fmt.Appendf(out, "%v\n", err)
		}
		return string(out)
	}

	var daemons []string
	for line := range strings.Lines(blocks[0][2]) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
		command, background := strings.CutSuffix(strings.TrimSpace(line), "&")
		switch {
		case line == "", line == "make build", line == "export PATH=$PWD/bin:$PATH", line == "mkdir -p build/three && cd build/three":
		case background:
			daemons = append(daemons, strings.Fields(command)[0])
			if file := strings.Fields(command)[2]; !exists(filepath.Join(w.dir, file)) {
				t.Errorf("%s: there is no %s", line, file)
			}
		default:
			if got := shell(strings.ReplaceAll(command, "../../", root+"/")); strings.Contains(got, "exit status") {
				t.Fatalf("$ %s\n%s", command, got)
			}
		}
	}
	if got := strings.Join(daemons, " "); got != "bngfe qned qned qned" {
		t.Fatalf("the README starts %s", got)
	}
	if err := w.StartGateway(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.StartNetworks(ctx); err != nil { // waits for BGP
		t.Fatal(err)
	}

	var sid string
	for _, b := range blocks[1:] {
		for _, part := range strings.Split("\n"+b[2], "\n$ ")[1:] {
			command, want, _ := strings.Cut(part, "\n")
			if v, ok := strings.CutPrefix(command, "export "); ok {
				env = append(env, v)
				continue
			}
			if strings.HasPrefix(command, "qnectl release ") {
				command, want = "qnectl release "+sid[:4], normal(want)
			}
			got := shell(command)
			if m := regexp.MustCompile(`reserved:.*\nsession: +([0-9a-f]{32})`).FindStringSubmatch(got); m != nil {
				sid = m[1]
			}
			if got, want := normal(got), normal(want); got != want {
				t.Errorf("$ %s\n%s\nthe README has\n%s", command, got, want)
			}
			if sid == "" && strings.HasPrefix(command, "qnectl") {
				t.FailNow()
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
