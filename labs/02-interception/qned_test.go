package interception_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startQned starts a qned with interception, and waits until it is ready. Its
// metrics are read from inside the namespace.
func (s *space) startQned(address string) (metrics func() string) {
	s.t.Helper()
	dir := s.t.TempDir()
	file := filepath.Join(dir, "qned.yaml")
	text := fmt.Sprintf("as: 65002\nrouter_id: 10.1.0.254\ninsecure: true\nlog: {level: debug}\nadmin: {listen: unix:qned.sock}\n"+
		"metrics: {listen: '127.0.0.1:9400'}\nstore: {path: qned.db}\nbgp: {listen_port: -1}\ngist: {address: '%s', shards: 2, intercept: {}}\n", address)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command(filepath.Join(bin, "qned"), "-c", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		b, _ := os.ReadFile(log.Name())
		if !strings.Contains(string(b), "Queries in transit are intercepted") || s.t.Failed() {
			s.t.Logf("qned said\n%s", b)
		}
		if rules := s.run("nft", "list", "tables"); strings.Contains(rules, "interqos") {
			s.t.Errorf("qned left %s", rules)
		}
	})
	metrics = func() string {
		c, err := s.dial("127.0.0.1:9400")
		if err != nil {
			return ""
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
			return ""
		}
		b, _ := io.ReadAll(c)
		return string(b)
	}
	until(s.t, "qned to be ready", func() bool { return strings.Contains(metrics(), "interqos_ready 1") })
	return metrics
}

// dial connects inside the namespace.
func (s *space) dial(to string) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var fd int
		if fd, err = unix.Open("/proc/"+s.pid+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			c, err = net.Dial("tcp", to)
		}
	}()
	<-done
	return c, err
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(50 * time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// A router that runs qned is the peer for QoS-NSLP, and forwards Queries for
// others; it counts both, and leaves nothing behind in the kernel.
func TestRouterRunsQned(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		l := newLab(t)
		needs(t, "nft")
		metrics := l.r1.startQned(v.r1)
		b := l.b.start(v.b, "-nslp", "1,2")
		a := l.a.start(v.a, "-nslp", "1,2")
		a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: "for qned", Reliable: true})
		a.peer(1, 1, v.r1)
		a.send(command{NSLPID: 2, SID: 2, From: v.a, To: v.b, Text: "past qned", Reliable: true})
		if got := b.received("past qned"); got.Peer != v.a {
			t.Errorf("B received it from %s, want %s", got.Peer, v.a)
		}
		a.peer(2, 2, v.b)
		m := metrics()
		for _, outcome := range []string{"taken", "forwarded"} {
			line := fmt.Sprintf("interqos_intercept_packets_total{outcome=%q} ", outcome)
			if _, rest, found := strings.Cut(m, line); !found || strings.HasPrefix(rest, "0\n") {
				t.Errorf("no %s in\n%s", line, m)
			}
		}
		if !strings.Contains(m, `interqos_notes_total{kind="forwarded",layer="gist"}`) {
			t.Errorf("nothing noted in\n%s", m)
		}
	})
}
