package bgp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// GoBGP's selection options are a global variable, so the neighbours in these
// tests are processes of their own: the test binary, started again as a speaker
// that does what it reads from its standard input until that ends.
const childEnv = "INTERQOS_TEST_BGP_SPEAKER"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := childMain(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "child speaker:", err)
			os.Exit(1)
		}
		return
	}
	// The one that GoBGP leaves behind, as the package's comment says.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}

// request and reply are the lines that go to a child and come back.
type request struct {
	Op     string // originate, withdraw, lookup, peers
	Prefix netip.Prefix
	Count  int // originate so many prefixes of this length, the first is Prefix
	Addr   netip.Addr
}

type reply struct {
	Error string
	Route Route
	Found bool
	Peers []Peer
}

func childMain(in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	var cfg Config
	if err := dec.Decode(&cfg); err != nil {
		return err
	}
	s, err := New(cfg, nil)
	if err != nil {
		return err
	}
	if err := s.Start(context.Background()); err != nil {
		return err
	}
	defer s.Close()
	if err := enc.Encode(reply{}); err != nil {
		return err
	}
	for {
		var q request
		if err := dec.Decode(&q); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var r reply
		switch q.Op {
		case "originate":
			p := q.Prefix
			for range max(q.Count, 1) {
				if err = s.Originate(p); err != nil {
					break
				}
				p = nextPrefix(p)
			}
		case "withdraw":
			err = s.Withdraw(q.Prefix)
		case "lookup":
			r.Route, r.Found = s.Lookup(q.Addr)
		case "peers":
			r.Peers = s.Peers()
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
}

// nextPrefix is the one after p of the same length, IPv4.
func nextPrefix(p netip.Prefix) netip.Prefix {
	a := p.Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += 1 << (32 - p.Bits())
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), p.Bits())
}

// child is a speaker in a process of its own.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func startChild(t testing.TB, cfg Config) *child {
	t.Helper()
	c := spawn(t, nil)
	c.configure(cfg)
	return c
}

// spawn starts the process, which then waits for configure.
func spawn(t testing.TB, attr *syscall.SysProcAttr) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = attr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(bufio.NewReader(out))
	t.Cleanup(c.stop)
	return c
}

func (c *child) configure(cfg Config) {
	c.t.Helper()
	if err := c.enc.Encode(cfg); err != nil {
		c.t.Fatal(err)
	}
	if err := c.dec.Decode(new(reply)); err != nil {
		c.t.Fatalf("AS %d did not start: %v", cfg.AS, err)
	}
}

func (c *child) ask(q request) reply {
	c.t.Helper()
	var r reply
	if err := c.enc.Encode(q); err != nil {
		c.t.Fatal(err)
	}
	if err := c.dec.Decode(&r); err != nil {
		c.t.Fatal(err)
	}
	if r.Error != "" {
		c.t.Fatal(r.Error)
	}
	return r
}

// stop closes the speaker in good order.
func (c *child) stop() {
	c.in.Close()
	c.cmd.Wait()
}

// crash takes it away without a word.
func (c *child) crash() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

const testPort = 10179

var nets atomic.Uint32

// loopback returns a function that gives addresses of a 127.x.y/24 that only this
// test of this process uses.
func loopback() func(host byte) netip.Addr {
	n := uint32(os.Getpid())*31 + nets.Add(1)
	return func(host byte) netip.Addr {
		return netip.AddrFrom4([4]byte{127, byte(64 + n>>8&0x3f), byte(n), host})
	}
}

// eventually polls until ok; the time only bounds a test that fails.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came true: %s", what)
		}
	}
}

// start runs a speaker in this process until the test ends.
func start(t testing.TB, cfg Config) *Speaker {
	t.Helper()
	s, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func established(s *Speaker) bool {
	for _, p := range s.Peers() {
		if !p.Established() {
			return false
		}
	}
	return true
}

func neighbor(as uint32, local, remote netip.Addr, passive bool) Neighbor {
	return Neighbor{AS: as, Local: local, Remote: netip.AddrPortFrom(remote, testPort), Passive: passive}
}

func prefixes(ss ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(ss))
	for i, s := range ss {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
