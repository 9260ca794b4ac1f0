// Package clitest runs command lines against an admin API that is served in
// the same process, over a real Unix socket.
package clitest

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/node"
	urfave "github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the golden files anew; look at the difference before you commit it")

// Serve serves a backend until the test ends, and returns its --socket.
func Serve(t *testing.T, b node.Backend) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	a := node.NewAdmin(node.AdminConfig{Listen: node.Listen{Network: "unix", Address: path}}, b, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close(context.Background())
		_ = os.RemoveAll(dir)
	})
	return "unix:" + path
}

// Result is what a command line did.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// Run runs a command line.
func Run(t *testing.T, app *urfave.App, stdin string, args ...string) Result {
	t.Helper()
	var out, errs bytes.Buffer
	status := cli.Run(t.Context(), app, append([]string{app.Name}, args...), strings.NewReader(stdin), &out, &errs)
	return Result{status, out.String(), errs.String()}
}

// Golden compares with testdata/name.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
