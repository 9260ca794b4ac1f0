package interception_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is for what is certain to come; only a failure waits so long.
const patience = time.Minute

// bin is the folder of gistnode and qned, built once.
var bin string

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
	if testing.Short() || os.Getuid() != 0 {
		return m.Run(), nil
	}
	if bin, err = os.MkdirTemp("", "interqos-bin-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	cmd := exec.Command("go", "build", "-o", bin+"/", "./cmd/qned", "./labs/02-interception/gistnode")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return m.Run(), nil
}

// space is a network namespace that ends with the process that holds it, and
// that process with this one.
type space struct {
	t    *testing.T
	name string
	pid  string
}

func newSpace(t *testing.T, name string) *space {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read end")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("cannot make network namespaces: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	s := &space{t, name, strconv.Itoa(cmd.Process.Pid)}
	s.run("ip", "link", "set", "lo", "up")
	return s
}

func (s *space) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", s.pid, "-n"}, args...)...)
}

func (s *space) run(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %s: %v: %s", s.name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *space) forward() {
	s.run("sh", "-c", "echo 1 | tee /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding")
}

// link joins two namespaces: subnet n, where a has address 1 and b 254, or the
// other way round for the last one.
func link(a *space, aAddr int, b *space, bAddr, n int) {
	a.t.Helper()
	aName, bName := "to-"+b.name, "to-"+a.name
	a.run("ip", "link", "add", aName, "netns", a.pid, "type", "veth", "peer", "name", bName, "netns", b.pid)
	for _, end := range []struct {
		s    *space
		link string
		host int
	}{{a, aName, aAddr}, {b, bName, bAddr}} {
		end.s.run("ip", "addr", "add", fmt.Sprintf("10.%d.0.%d/24", n, end.host), "dev", end.link)
		end.s.run("ip", "addr", "add", fmt.Sprintf("2001:db8:%d::%x/64", n, end.host), "dev", end.link, "nodad")
		end.s.run("ip", "link", "set", end.link, "up")
	}
}

// lab is host A, host B, and two routers between them; the way leads over R1.
//
//	    ┌─ 10.1 ─ R1 ─ 10.2 ─┐
//	A ──┤                    ├── B (10.2.0.1)
//	    └─ 10.3 ─ R2 ─ 10.4 ─┘
type lab struct {
	t            *testing.T
	a, b, r1, r2 *space
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	needs(t, "ip", "nsenter")
	l := &lab{t, newSpace(t, "a"), newSpace(t, "b"), newSpace(t, "r1"), newSpace(t, "r2")}
	l.r1.forward()
	l.r2.forward()
	link(l.a, 1, l.r1, 254, 1)
	link(l.b, 1, l.r1, 254, 2)
	link(l.a, 1, l.r2, 254, 3)
	link(l.b, 1, l.r2, 254, 4)
	l.over(1)
	for _, r := range []struct {
		s       *space
		to, via string
	}{
		{l.b, "10.1.0.0/24", "10.2.0.254"}, {l.b, "2001:db8:1::/64", "2001:db8:2::fe"},
		{l.b, "10.3.0.0/24", "10.4.0.254"}, {l.b, "2001:db8:3::/64", "2001:db8:4::fe"},
		{l.r2, "10.2.0.0/24", "10.4.0.1"}, {l.r2, "2001:db8:2::/64", "2001:db8:4::1"},
		{l.r2, "10.1.0.0/24", "10.3.0.1"}, {l.r2, "2001:db8:1::/64", "2001:db8:3::1"},
	} {
		r.s.run("ip", "route", "add", r.to, "via", r.via)
	}
	return l
}

// needs skips the test where a tool is missing.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
}

// over leads A's way to B over one of the routers.
func (l *lab) over(router int) {
	subnet := map[int]int{1: 1, 2: 3}[router]
	l.a.run("ip", "route", "replace", "10.2.0.0/24", "via", fmt.Sprintf("10.%d.0.254", subnet))
	l.a.run("ip", "-6", "route", "replace", "2001:db8:2::/64", "via", fmt.Sprintf("2001:db8:%d::fe", subnet))
}

// version is an IP version's addresses of the hosts.
type version struct {
	name         string
	a, b, r1, r2 string
}

var versions = []version{
	{name: "IPv4", a: "10.1.0.1", b: "10.2.0.1", r1: "10.1.0.254", r2: "10.3.0.254"},
	{name: "IPv6", a: "2001:db8:1::1", b: "2001:db8:2::1", r1: "2001:db8:1::fe", r2: "2001:db8:3::fe"},
}

// each runs a test for both IP versions.
func each(t *testing.T, f func(t *testing.T, v version)) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) { f(t, v) })
	}
}

// The lines of gistnode.
type command struct {
	NSLPID   uint16 `json:"nslpid"`
	SID      uint32 `json:"sid"`
	From     string `json:"from"`
	To       string `json:"to"`
	Text     string `json:"text"`
	Reliable bool   `json:"reliable"`
	Secure   bool   `json:"secure"`
	Seconds  int    `json:"seconds"`
}

type report struct {
	Event  string `json:"event"`
	SID    uint32 `json:"sid"`
	NSLPID uint16 `json:"nslpid"`
	Text   string `json:"text"`
	Detail string `json:"detail"`
	Peer   string `json:"peer"`
	Secure bool   `json:"secure"`
}

// gistnode is a running one.
type gistnode struct {
	t       *testing.T
	name    string
	cmd     *exec.Cmd
	stdin   *json.Encoder
	mu      sync.Mutex
	reports []report
	changed chan struct{}
	stop    func()
}

// start starts a gistnode and waits until it is ready.
func (s *space) start(address string, args ...string) *gistnode {
	s.t.Helper()
	g := &gistnode{t: s.t, name: s.name, changed: make(chan struct{}, 1)}
	g.cmd = s.command(append([]string{filepath.Join(bin, "gistnode"), "-address", address, "-identity", s.name + strconv.Itoa(os.Getpid())}, args...)...)
	in, err := g.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	var stderr strings.Builder
	g.cmd.Stderr = &stderr
	if err := g.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	g.stdin = json.NewEncoder(in)
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var r report
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				r = report{Event: "bad", Detail: lines.Text()}
			}
			g.mu.Lock()
			g.reports = append(g.reports, r)
			g.mu.Unlock()
			select {
			case g.changed <- struct{}{}:
			default:
			}
		}
	}()
	g.stop = sync.OnceFunc(func() {
		_ = in.Close()
		<-read
		_ = g.cmd.Wait()
		if s.t.Failed() {
			said := slices.DeleteFunc(g.all(), func(r report) bool { return r.Event == "peer" })
			s.t.Logf("%s said %v\n%s", s.name, said, &stderr)
		}
	})
	s.t.Cleanup(g.stop)
	g.until("to be ready", func(r report) bool { return r.Event == "ready" })
	return g
}

// kill ends it as a crash does.
func (g *gistnode) kill() {
	_ = g.cmd.Process.Kill()
	g.stop()
}

func (g *gistnode) all() []report {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.reports)
}

func (g *gistnode) has(is func(report) bool) bool { return slices.ContainsFunc(g.all(), is) }

// until waits for a report.
func (g *gistnode) until(what string, is func(report) bool) report {
	g.t.Helper()
	deadline := time.After(patience)
	for {
		all := g.all()
		if i := slices.IndexFunc(all, is); i >= 0 {
			return all[i]
		}
		select {
		case <-g.changed:
		case <-deadline:
			g.t.Fatalf("waited for %s %s; it said %v", g.name, what, all)
		}
	}
}

func (g *gistnode) send(c command) {
	g.t.Helper()
	if err := g.stdin.Encode(c); err != nil {
		g.t.Fatal(err)
	}
}

// received waits for a message.
func (g *gistnode) received(text string) report {
	g.t.Helper()
	return g.until("to receive "+text, func(r report) bool { return r.Event == "received" && r.Text == text })
}

// peer asks until the node's peer for a session is the one wanted.
func (g *gistnode) peer(nslpid uint16, sid uint32, want string) {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		from := len(g.all())
		g.send(command{SID: sid})
		var got report
		g.until("to name its peer", func(report) bool {
			all := g.all()
			for _, r := range all[min(from, len(all)):] {
				if r.Event == "peer" && r.SID == sid {
					got = r
					return true
				}
			}
			return false
		})
		if got.NSLPID == nslpid && got.Peer == want {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s has peer %+v for session %d, want %s", g.name, got, sid, want)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}
