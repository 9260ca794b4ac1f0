package three_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/api"
)

// link is the BGP session of two neighbours, through this test's hands: both dial
// a port where it listens and passes octets on.
type link struct {
	t         *testing.T
	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]bool
	done      sync.WaitGroup
}

// join listens at each of two addresses for who dials it from the other.
func join(t *testing.T, a, b string, port, real int) *link {
	t.Helper()
	l := &link{t: t, conns: make(map[net.Conn]bool)}
	t.Cleanup(l.cut)
	for _, way := range [][2]string{{a, b}, {b, a}} {
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", way[0], port))
		if err != nil {
			t.Fatal(err)
		}
		l.listeners = append(l.listeners, listener)
		l.done.Go(func() { l.accept(listener, way[1], fmt.Sprintf("%s:%d", way[0], real)) })
	}
	return l
}

func (l *link) accept(listener net.Listener, from, to string) {
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Second}
		out, err := d.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		l.mu.Lock()
		l.conns[in], l.conns[out] = true, true
		l.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			l.done.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				pair[0].Close()
				pair[1].Close()
			})
		}
	}
}

// cut ends the session and lets none come up.
func (l *link) cut() {
	for _, one := range l.listeners {
		one.Close()
	}
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.done.Wait()
}

// A BGP session is lost while a reservation stands: it stays until its lifetime, for
// nobody finds the way any more by which it is refreshed, and new requests are
// refused, with a reason. When the session is back all is well.
func TestBGPLost(t *testing.T) {
	const port = "10189"
	there := join(t, "127.2.3.1", "127.3.2.1", 10189, 10179)
	w := start(t, func(name, text string) string {
		return strings.NewReplacer("refresh_period: 6s", "refresh_period: 3s", "validity: 25s", "validity: 15s").Replace(quick(name, text))
	},
		swap("as65002.yaml", "address: 127.3.2.1, bgp_port: 10179", "address: 127.3.2.1, bgp_port: "+port),
		swap("as65003.yaml", "address: 127.2.3.1, bgp_port: 10179", "address: 127.2.3.1, bgp_port: "+port))
	for _, n := range w.Nodes {
		w.answers(n.AS, "/healthz", http.StatusOK, "ok")
		w.answers(n.AS, "/readyz", http.StatusOK, "ready")
	}
	w.reserve(0)
	w.stand(1)
	w.lint()

	there.cut()
	w.answers(65002, "/readyz", http.StatusServiceUnavailable, "no BGP session with AS65003 at 127.3.2.1")
	w.answers(65003, "/readyz", http.StatusServiceUnavailable, "no BGP session with AS65002 at 127.2.3.1")
	w.answers(65001, "/readyz", http.StatusOK, "ready")
	w.answers(65002, "/healthz", http.StatusOK, "ok")
	w.refreshed(1)
	w.until("AS65001 to lose its route to AS65003", func(ctx context.Context) error {
		r, err := w.Nodes[0].Admin.Routes(ctx, &api.RoutesRequest{Lookup: "10.3.0.10"})
		if err == nil && len(r.Routes) > 0 {
			err = errors.New("it is there")
		}
		return err
	})
	out, err := w.Nodes[0].Reserve(t.Context(), request(1))
	if err != nil || out.Accepted || !strings.HasSuffix(out.Info.Text, ": no route to 10.3.0.10") {
		t.Errorf("a request without a route: %v %v", out, err)
	}
	for _, n := range w.Nodes {
		st, err := n.Admin.Status(t.Context(), &api.StatusRequest{})
		if err != nil || st.Ledger.Committed != 1 || st.Store.Records != 1 || st.Ledger.Held != 0 {
			t.Errorf("AS%d, without the session: %v, %v, %v; expected one reservation", n.AS, st.GetLedger(), st.GetStore(), err)
		}
	}
	w.stand(0)

	back := join(t, "127.2.3.1", "127.3.2.1", 10189, 10179)
	defer back.cut()
	w.ready()
	for _, n := range w.Nodes {
		w.answers(n.AS, "/readyz", http.StatusOK, "ready")
	}
	second := w.reserve(1)
	w.stand(1)
	w.refreshed(1)
	w.release(second)
	w.stand(0)
}

// answers waits until a network's HTTP server says something.
func (w *world) answers(as uint32, path string, status int, text string) {
	w.t.Helper()
	w.until(fmt.Sprintf("AS%d's %s", as, path), func(ctx context.Context) error {
		got, body, err := get(ctx, as, path)
		if err == nil && (got != status || !strings.Contains(body, text)) {
			err = fmt.Errorf("%d %s, expected %d with %q", got, body, status, text)
		}
		return err
	})
}

func get(ctx context.Context, as uint32, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.%d.0.1:10940%s", as-65000, path), nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// lint wants every network's metrics to be as Prometheus likes them, and to say
// that one reservation stands.
func (w *world) lint() {
	w.t.Helper()
	for _, n := range w.Nodes {
		var body string
		w.until(fmt.Sprintf("AS%d's metrics", n.AS), func(ctx context.Context) (err error) { // a busy shard's may be missing
			if _, body, err = get(ctx, n.AS, "/metrics"); err != nil {
				return err
			}
			for _, line := range []string{
				"interqos_ready 1\n", "interqos_nslp_sessions 1\n", "interqos_store_records 1\n",
				`interqos_ledger_reservations{state="committed"} 1` + "\n", `interqos_ledger_reservations{state="held"} 0` + "\n",
			} {
				if !strings.Contains(body, line) {
					return fmt.Errorf("no %q in\n%s", line, body)
				}
			}
			return nil
		})
		problems, err := promlint.New(strings.NewReader(body)).Lint()
		if err != nil {
			w.t.Errorf("AS%d: %v", n.AS, err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "interqos_") && p.Metric != "interqos_ledger_rate_bits" { // rates are bit/s everywhere
				w.t.Errorf("AS%d: %s: %s", n.AS, p.Metric, p.Text)
			}
		}
	}
}

// "the disk is full: commits fail: the request is refused, and what it held is
// given back". In each network in turn, its file may not grow nor be written.
func TestStoreFull(t *testing.T) {
	w := start(t, quick)
	kept := w.reserve(0)
	w.stand(1)
	for i, n := range w.Nodes {
		pid := w.procs[fmt.Sprintf("as%d", n.AS)].PID()
		var old unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: unix.RLIM_INFINITY}, &old); err != nil {
			t.Fatal(err)
		}
		out, err := w.Nodes[0].Reserve(t.Context(), request(1+i))
		if err != nil || out.Accepted || out.Info.Class != 6 || out.Info.Code != 67 {
			t.Errorf("AS%d's store is full: %v %v", n.AS, out, err)
		}
		w.stand(1)
		if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &old, nil); err != nil {
			t.Fatal(err)
		}
		sid := w.reserve(1 + i) // there is room again
		w.stand(2)
		w.release(sid)
		w.stand(1)
	}
	w.release(kept)
	w.stand(0)
}

// SIGTERM while requests are under way: every process ends with status 0, and what
// was accepted is there at the next start.
func TestTermUnderLoad(t *testing.T) {
	w := start(t, quick)
	ending := maps.Clone(w.procs)
	answers := <-w.flood(100, func() {
		clear(w.procs) // they may end
		for _, p := range ending {
			if err := syscall.Kill(p.PID(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
		for name, p := range ending {
			w.until(name+" to end", func(context.Context) error {
				if p.Running() {
					return errors.New("it runs")
				}
				return nil
			})
			if p.Status() != "exit status 0" {
				t.Errorf("%s: %s", name, p.Status())
			}
		}
	})
	for _, name := range []string{"bngfe", "as65001", "as65002", "as65003"} {
		w.revive(name)
	}
	w.ready()
	w.agree(answers)
}
