package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// patience is for what comes by itself.
const patience = 2 * time.Minute

// qned is the program, built once.
var qned string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := built(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func built(m *testing.M) (code int, err error) {
	if err := claim(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "interqos-bin-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // others run it, too
		return 1, err
	}
	qned = filepath.Join(dir, "qned")
	if out, err := exec.Command("go", "build", "-o", qned, ".").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// claimed is open as long as the process runs.
var claimed net.Listener

// claim waits until no other run of this test on this machine has its addresses.
func claim() (err error) {
	for deadline := time.Now().Add(10 * time.Minute); ; {
		claimed, err = net.Listen("unix", "@interqos-test-qned")
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond) // poll
	}
}

// config is a small AS on addresses of this test's own.
const config = `as: 65077
router_id: 127.77.0.1
insecure: true
log: {level: info, format: text}
admin: {listen: unix:q.sock}
metrics: {listen: 127.77.0.1:20940}
store: {path: q.db}
gist: {address: 127.77.0.1, port: 20270, tcp_port: 20271, shards: 2}
bgp: {listen_port: 20179, originate: [10.77.0.0/16]}
edges:
  - name: to-as65078
    internal: 127.77.0.2
    external: 127.77.2.1
    neighbor: {as: 65078, address: 127.78.1.1, bgp_port: 20179, qnes: [127.78.0.1]}
keys:
  - {id: 1, as: 65078, secret: "hex:000102030405060708090a0b0c0d0e0f"}
`

// folder makes a folder with a configuration in it.
func folder(t *testing.T, text string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "iq") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write(t, dir, text)
	return dir
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "q.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// daemon is a qned that runs.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error // of Wait

	mu  sync.Mutex
	log []string
}

// start starts a qned, and waits until it runs.
func start(t *testing.T, dir string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: exec.Command(qned, "-c", "q.yaml"), done: make(chan error, 1)}
	d.cmd.Dir = dir
	out, err := d.cmd.StderrPipe()
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			d.mu.Lock()
			d.log = append(d.log, lines.Text())
			d.mu.Unlock()
		}
		d.done <- d.cmd.Wait()
	}()
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	d.says("msg=running")
	return d
}

// says waits for a line in the log.
func (d *daemon) says(text string) {
	d.t.Helper()
	until(d.t, fmt.Sprintf("%q in the log", text), func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, l := range d.log {
			if strings.Contains(l, text) {
				return nil
			}
		}
		return errors.New(strings.Join(d.log, "\n"))
	})
}

// end sends a signal, and wants the process to end with status 0.
func (d *daemon) end(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
	select {
	case err := <-d.done:
		if err != nil {
			d.t.Errorf("%v: %v", s, err)
		}
	case <-time.After(patience):
		d.t.Errorf("%v: it runs on", s)
	}
}

func until(t *testing.T, what string, cond func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
	}
}

// fails runs a qned that has to end at once, with status 1 and a reason.
func fails(t *testing.T, dir string, attr *syscall.SysProcAttr, want string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, qned, args...)
	cmd.Dir, cmd.SysProcAttr = dir, attr
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v: %v, expected exit status 1\n%s", cmd, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for len(lines) > 0 && strings.Contains(lines[0], "INSECURE") {
		lines = lines[1:]
	}
	if got := strings.Join(lines, "\n"); !strings.HasPrefix(got, "qned: ") || !strings.Contains(got, want) {
		t.Errorf("%v says\n%s\nexpected %q in it", cmd, out, want)
	}
}

func change(t *testing.T, old, text string) string {
	t.Helper()
	if !strings.Contains(config, old) {
		t.Fatalf("the configuration has no %q", old)
	}
	return strings.Replace(config, old, text, 1)
}

// --check says what is wrong, or that nothing is, and starts nothing.
func TestCheck(t *testing.T) {
	dir := folder(t, config)
	cmd := exec.Command(qned, "--check", "-c", "q.yaml")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "q.yaml: good\n" {
		t.Errorf("%v: %s", err, out)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	fails(t, dir, nil, "no-such.yaml: no such file or directory", "--check", "-c", "no-such.yaml")
	write(t, dir, change(t, "as: 65077", "as: AS65077"))
	fails(t, dir, nil, `q.yaml:1:5: as: found "AS65077", expected an AS number from 1 to 4294967294 (write 65077)`, "--check", "-c", "q.yaml")
	fails(t, dir, nil, `q.yaml:1:5: as: found "AS65077"`, "-c", "q.yaml")
	write(t, dir, change(t, "unix:q.sock", "unix:"+strings.Repeat("long/", 30)+"q.sock"))
	fails(t, dir, nil, "admin.listen: found a socket path of ", "-c", "q.yaml")
}

// What a qned cannot start with, it names.
func TestCannotStart(t *testing.T) {
	for name, c := range map[string]struct{ network, address, want string }{
		"GIST":     {"udp", "127.77.0.1:20270", "gist UDP: bind 127.77.0.1:20270: "},
		"edge":     {"udp", "127.77.2.1:20270", "edge to-as65078: gist UDP: bind 127.77.2.1:20270: "},
		"TCP":      {"tcp", "127.77.0.1:20272", "messaging associations: gist TCP: listen on 127.77.0.1:20272: "},
		"metrics":  {"tcp", "127.77.0.1:20940", "metrics: listen tcp 127.77.0.1:20940: "},
		"BGP":      {"tcp", "127.77.2.1:20179", "127.77.2.1:20179: "},
		"no edges": {"udp", "127.77.0.2:20270", "edge to-as65078: gist UDP: bind 127.77.0.2:20270: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, config)
			var taken io.Closer
			var err error
			if c.network == "udp" {
				taken, err = net.ListenPacket("udp", c.address)
			} else {
				taken, err = net.Listen("tcp", c.address)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			fails(t, dir, nil, c.want, "-c", "q.yaml")
			fails(t, dir, nil, syscall.EADDRINUSE.Error(), "-c", "q.yaml")
		})
	}
	t.Run("admin", func(t *testing.T) {
		dir := folder(t, config)
		l, err := net.Listen("unix", filepath.Join(dir, "q.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		fails(t, dir, nil, "q.sock: another process is listening on it; is qned running already?", "-c", "q.yaml")
		l.Close()
		if err := os.WriteFile(filepath.Join(dir, "q.sock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, dir, nil, "q.sock is there and not a socket", "-c", "q.yaml")
	})
	t.Run("store", func(t *testing.T) {
		dir := folder(t, change(t, "path: q.db", "path: no/such/q.db"))
		fails(t, dir, nil, "no such file or directory", "-c", "q.yaml")
		write(t, dir, config)
		if err := os.WriteFile(filepath.Join(dir, "q.db"), []byte(strings.Repeat("This is no store. ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, dir, nil, "store q.db: ", "-c", "q.yaml")
	})
	t.Run("folder", func(t *testing.T) {
		// Root may write everywhere, so it becomes somebody else.
		var attr *syscall.SysProcAttr
		if os.Geteuid() == 0 {
			attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		dir := folder(t, config)
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		fails(t, dir, attr, "store q.db: store: open q.db: open q.db: permission denied", "-c", "q.yaml")
	})
}

// A store has one qned.
func TestStoreLocked(t *testing.T) {
	dir := folder(t, config)
	d := start(t, dir)
	other := strings.NewReplacer("127.77.", "127.79.", "q.sock", "other.sock").Replace(config)
	if err := os.WriteFile(filepath.Join(dir, "other.yaml"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, nil, "q.db is still locked after 2s; stop the program that uses it", "-c", "other.yaml")
	d.end(syscall.SIGINT)
}

// What slsctl backup has written becomes the store of a qned that is stopped, and of
// no other.
func TestRestore(t *testing.T) {
	dir := folder(t, config)
	d := start(t, dir)
	terms, err := sls.Parse("f", []byte("{id: a, customer: 65077, provider: 65078, classes: [{class: EF, cir: 40M}]}"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, "backup.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	st.PutSLS(terms[0], func(err error) { done <- err })
	if err := errors.Join(<-done, st.Close()); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, nil, "backup.db not restored: store: ", "-c", "q.yaml", "--restore", "backup.db")
	fails(t, dir, nil, "q.db is there already; move it away first", "-c", "q.yaml", "--restore", "backup.db")
	d.end(syscall.SIGTERM)
	fails(t, dir, nil, "q.db is there already; move it away first", "-c", "q.yaml", "--restore", "backup.db")
	if err := os.Rename(filepath.Join(dir, "q.db"), filepath.Join(dir, "former.db")); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, nil, "no-such.db: no such file or directory", "-c", "q.yaml", "--restore", "no-such.db")
	fails(t, dir, nil, "q.yaml not restored: store: ", "-c", "q.yaml", "--restore", "q.yaml")
	cmd := exec.Command(qned, "-c", "q.yaml", "--restore", "backup.db")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "q.db: 1 SLSs and 0 reservations restored\n") {
		t.Fatalf("%v: %s", err, out)
	}
	d = start(t, dir)
	d.end(syscall.SIGTERM)
	if c, err := store.Inspect(filepath.Join(dir, "q.db")); err != nil || len(c.SLSs) != 1 || c.SLSs[0].ID != "a" {
		t.Errorf("%+v, %v", c, err)
	}
}

// SIGHUP brings into force what can be, and names what waits for a restart. A
// wrong file changes nothing. SIGTERM ends it, and a second start finds its feet
// though the socket of one that was killed is left.
func TestSignals(t *testing.T) {
	dir := folder(t, config)
	d := start(t, dir)
	hup := func(text, want string) {
		t.Helper()
		write(t, dir, text)
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.says(want)
	}
	hup(strings.NewReplacer("level: info", "level: warn", "format: text", "format: json", "shards: 2", "shards: 3").Replace(config),
		`msg="configuration reloaded" as=65077 applied=[log.level] needs_restart="[log.format gist.shards]"`)
	hup(change(t, "as: 65077", "as: 0"), `q.yaml:1:5: as: found \"0\", expected an AS number`)
	hup(change(t, "[10.77.0.0/16]", "[10.77.0.0/16, 10.78.0.0/16]"), "applied=\"[log.level bgp.originate]\" needs_restart=[]")
	readyz(t, http.StatusServiceUnavailable, "no BGP session with AS65078 at 127.78.1.1")
	d.end(syscall.SIGTERM)

	d = start(t, dir)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
	if _, err := os.Stat(filepath.Join(dir, "q.sock")); err != nil {
		t.Fatal(err)
	}
	d = start(t, dir)
	d.end(syscall.SIGTERM)
}

func readyz(t *testing.T, status int, text string) {
	t.Helper()
	until(t, "/readyz", func() error {
		resp, err := http.Get("http://127.77.0.1:20940/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || !strings.Contains(string(body), text) {
			return fmt.Errorf("%s, %s, %v; expected %d with %q", resp.Status, body, err, status, text)
		}
		return nil
	})
}
