package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	three "github.com/interqos/interqos/labs/01-three-networks"
)

// patience is how long to wait for another demo or bench on this machine.
const patience = 10 * time.Minute

// built is a folder with the demo and the programs that it runs.
func built(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/...", "./labs/01-three-networks/demo")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return dir
}

// demoCommand runs the demo with a temporary folder of its own, in which nothing
// may be left behind, and no process either.
func demoCommand(t *testing.T, bin string, args ...string) *exec.Cmd {
	t.Helper()
	tmp, err := os.MkdirTemp("", "iq") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("left in the temporary folder: %v %v", left, err)
		}
		if left := within(tmp); len(left) > 0 {
			t.Errorf("processes left: %v", left)
		}
		_ = os.RemoveAll(tmp)
	})
	cmd := exec.Command(filepath.Join(bin, "demo"), append([]string{"-bin", bin}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd
}

// within are the processes that work in a folder.
func within(dir string) []string {
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir+"/") {
			found = append(found, link+" "+cwd)
		}
	}
	return found
}

// facts runs a demo to its end and reads its facts.
func facts(t *testing.T, cmd *exec.Cmd) (Facts, string) {
	t.Helper()
	var out, story bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &story
	err := cmd.Run()
	var f Facts
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := errors.Join(err, d.Decode(&f)); err != nil {
		t.Fatalf("%v\n%s", err, story.String())
	}
	return f, story.String()
}

// TestDemo: the whole story with real processes, as make demo tells it.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the demo builds and runs all programs")
	}
	bin := built(t)
	options := []string{"-json", "-window", "700ms", "-wait", patience.String()}

	t.Run("whole", func(t *testing.T) {
		f, story := facts(t, demoCommand(t, bin, options...))
		checkFacts(t, &f)
		if len(f.Processes) != 4 || len(f.Stores) != 3 {
			t.Errorf("ended: %+v, stores: %+v", f.Processes, f.Stores)
		}
		for _, p := range f.Processes {
			if p.Status != "exit status 0" {
				t.Errorf("%s: %s", p.Name, p.Status)
			}
		}
		for _, s := range f.Stores {
			if s.Reservations != 0 || s.SLSs != len(three.SLSFiles(s.AS)) {
				t.Errorf("store: %+v", s)
			}
		}
		for _, text := range []string{"$ qnectl ", "possible: at most 20 Mbit/s now", "Data{RESERVE}", "released everywhere"} {
			if !strings.Contains(story, text) {
				t.Errorf("the story has no %q:\n%s", text, story)
			}
		}
	})
	t.Run("kept", func(t *testing.T) {
		cmd := demoCommand(t, bin, append(options, "-keep")...)
		f, story := facts(t, cmd)
		stop := exec.Command(filepath.Join(bin, "demo"), "-stop", f.Folder)
		defer func() {
			if out, err := stop.CombinedOutput(); err != nil {
				t.Errorf("stop: %v\n%s", err, out)
			}
		}()
		checkFacts(t, &f)
		if !strings.Contains(story, strings.Join(stop.Args, " ")) {
			t.Errorf("the story does not say how to stop:\n%s", story)
		}
		again, err := demoCommand(t, bin).CombinedOutput()
		if exitStatus(err) != 1 || !strings.Contains(string(again), three.ErrTaken.Error()) {
			t.Errorf("a second demo at the same time: %v\n%s", err, again)
		}
		for _, n := range f.Networks {
			if err := syscall.Kill(n.PID, 0); err != nil {
				t.Errorf("AS%d is not running any more: %v", n.AS, err)
			}
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		cmd := demoCommand(t, bin, options...)
		story, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(story)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "3. ") {
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
		}
		if err := cmd.Wait(); exitStatus(err) != 130 {
			t.Errorf("%v, want exit status 130", err)
		}
	})
	t.Run("broken", func(t *testing.T) {
		// A gateway without the subscriber: the demo must notice.
		broken := t.TempDir()
		for _, name := range []string{"qned", "qnectl", "slsctl", "demo"} {
			if err := os.Symlink(filepath.Join(bin, name), filepath.Join(broken, name)); err != nil {
				t.Fatal(err)
			}
		}
		script := fmt.Sprintf("#!/bin/sh\nsed -i 's/10.3.0.10$/10.3.0.11/' bngfe.yaml && exec %s \"$@\"\n", filepath.Join(bin, "bngfe"))
		if err := os.WriteFile(filepath.Join(broken, "bngfe"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := demoCommand(t, broken, "-wait", patience.String())
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); exitStatus(err) != 1 {
			t.Errorf("%v, want exit status 1\n%s", err, out.String())
		}
		for _, text := range []string{"✗ the gateway's subscribers", "expected: 10.3.0.10 with 40 Mbit/s", "found: ", "the end of bngfe.log:"} {
			if !strings.Contains(out.String(), text) {
				t.Errorf("no %q in\n%s", text, out.String())
			}
		}
		// What happened stays to be looked at, and is removed here.
		_, dir, _ := strings.Cut(out.String(), "configurations, logs and stores are in ")
		if err := os.RemoveAll(strings.TrimSpace(dir)); err != nil || !strings.Contains(dir, "interqos-demo-") {
			t.Errorf("folder %q: %v", dir, err)
		}
	})
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// checkFacts reads what the demo says, as a script would.
func checkFacts(t *testing.T, f *Facts) {
	t.Helper()
	if !f.OK || f.Error != "" {
		t.Errorf("not ok: %s", f.Error)
	}
	if len(f.Networks) != 3 || f.Gateway == nil || f.TrafficBefore == nil || f.TrafficAfter == nil || f.Reservation == nil || f.Refusal == nil || f.Release == nil {
		t.Fatalf("incomplete: %+v", f)
	}
	for _, err := range []error{
		checkBefore(f.TrafficBefore), checkAfter(f.TrafficAfter), checkReserved(&f.Reservation.Answer), f.Refusal.check(), checkNothing(f.Release.Held, f.Release.Policers),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	d := demo{facts: *f}
	if err := d.checkOnlyFirst(f.Refusal.Held, f.Refusal.Policers); err != nil {
		t.Error(err)
	}
}

// TestClaim: two programs cannot use the lab at the same time.
func TestClaim(t *testing.T) {
	lab := func() *three.Lab {
		l, err := three.Prepare(three.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first, second := lab(), lab()
	if err := first.Claim(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if err := first.Claim(t.Context(), 0); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := second.Claim(t.Context(), 0); !errors.Is(err, three.ErrTaken) {
		t.Errorf("%v, want %v", err, three.ErrTaken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := second.Claim(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := second.Claim(t.Context(), patience); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
