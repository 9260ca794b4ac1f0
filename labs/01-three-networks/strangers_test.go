package three_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/node"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// What AS65002 has open, and who is nobody to it.
var (
	datagramPorts = []string{"127.2.0.1:10270", "127.2.0.2:10270", "127.2.0.3:10270", "127.2.1.1:10270", "127.2.3.1:10270"}
	streamPorts   = []string{"127.2.0.1:10271", "127.2.1.1:10179", "127.2.3.1:10179", "127.2.0.1:10940"}
	strangers     = []string{"127.9.0.1", "127.9.0.2", "127.1.0.1", "127.1.2.1", "127.2.0.1"} // the last ones are others' addresses
)

// "A stranger's packet makes no state": garbage at every open port of AS65002,
// Queries and RESERVEs of people who may not, connections that say nothing. The
// node goes on serving, remembers nothing, grows within bounds, and logs nothing
// of it.
func TestStrangers(t *testing.T) {
	w := start(t, quick)
	live := w.reserve(0)
	w.stand(1)
	before := w.size()
	stop := w.keepServing()
	defer stop()
	t.Run("datagrams", func(t *testing.T) { w.datagrams(t) })
	t.Run("queries", func(t *testing.T) { w.queries(t) })
	t.Run("connections", func(t *testing.T) { w.connections(t) })
	t.Run("forged", func(t *testing.T) { w.forged(t, live) })
	t.Run("key", func(t *testing.T) { stop(); w.wrongKey(t) })
	w.stand(1)
	w.refreshed(1)
	w.until("AS65002 to have no handshakes and no strangers' associations", func(ctx context.Context) error {
		st, err := w.Nodes[1].Admin.State(ctx, stateOf(""))
		if err != nil {
			return err
		}
		if st.Gist.Pending != 0 || st.Gist.RoutingStates != 2 || st.Gist.Associations > 4 {
			return fmt.Errorf("%v", st.Gist)
		}
		for _, a := range st.Associations {
			if !strings.HasPrefix(a.Remote, "127.1.0.1:") && !strings.HasPrefix(a.Remote, "127.3.0.1:") {
				return fmt.Errorf("an association with %s", a.Remote)
			}
		}
		return nil
	})
	t.Logf("AS65002: %+v before, %+v after", before, w.size())
	w.until("AS65002's files and memory to be what they were", func(context.Context) error {
		now := w.size()
		switch {
		case now.files > before.files+10:
			return fmt.Errorf("%d open files, %d before", now.files, before.files)
		case now.resident > before.resident+150<<20:
			return fmt.Errorf("%d MiB resident, %d MiB before", now.resident>>20, before.resident>>20)
		}
		return nil
	})
	if lines := w.noise("as65002"); len(lines) > 10 {
		t.Errorf("%d lines in AS65002's log, for example\n%s", len(lines), strings.Join(lines[:10], "\n"))
	}
	w.release(live)
	w.stand(0)
}

// noise is what a log says of anything but what the test did by the API.
func (w *world) noise(name string) (lines []string) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, `msg="admin call"`) && !strings.Contains(line, `msg="BGP session is up"`) && !strings.Contains(line, "msg=running") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// usage is what a process takes.
type usage struct{ files, resident int }

func (w *world) size() (u usage) {
	w.t.Helper()
	proc := fmt.Sprintf("/proc/%d/", w.procs["as65002"].PID())
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(proc + "statm")
	if err != nil {
		w.t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		w.t.Fatal(err)
	}
	return usage{files: len(fds), resident: pages * os.Getpagesize()}
}

// keepServing reserves and releases all the time, some times at least, until it is
// stopped; each has to be accepted.
func (w *world) keepServing() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var done sync.WaitGroup
	served := 0
	done.Go(func() {
		for ; ctx.Err() == nil || served < 10; served++ {
			out, err := w.Nodes[0].Reserve(w.t.Context(), request(100+served%1000))
			if err != nil || !out.Accepted {
				w.t.Errorf("while strangers knock, after %d served: %v %v", served, out, err)
				return
			}
			if out, err = w.Nodes[0].Release(w.t.Context(), &api.ReleaseRequest{SessionId: out.SessionId}); err != nil || !out.Accepted {
				w.t.Errorf("while strangers knock, after %d served: release: %v %v", served, out, err)
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		done.Wait()
		w.t.Logf("served %d requests meanwhile", served)
	})
}

// query is a Query that asks for the way from AS65001 to AS65003, as GIST makes it.
func query(nli string, ttl uint8) wire.Message {
	return wire.Message{
		Header: wire.Header{HopCount: 8, NSLPID: 1, Type: wire.Query, C: true, R: true},
		HasMRI: true, MRI: offPath(), HasSID: true, SID: wire.SID{1, 2, 3},
		HasNLI: true, NLI: wire.NLI{PeerIdentity: []byte("stranger"), Address: netip.MustParseAddr(nli), ValidityMS: 30_000, IPTTL: ttl},
		QueryCookie: []byte("01234567"), StackProposal: wire.StackProposal{wire.Profile{wire.ForwardsTCP}},
		HasStackConfig: true, StackConfig: wire.StackConfig{HoldTimeMS: 30_000, Options: []wire.MAOptions{
			{Protocol: wire.ForwardsTCP, Data: wire.PortData(10271)},
		}},
	}
}

func offPath() wire.MRI {
	return wire.MRI{
		Method: wire.OffPath, Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1"),
		Flow: wire.Flow{
			Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
			HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 1024,
		},
	}
}

// from dials a port from a stranger's address.
func from(t *testing.T, network, local, to string) net.Conn {
	t.Helper()
	c, err := fromOnce(network, local, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func fromOnce(network, local, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(local)}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	return d.Dial(network, to)
}

// datagrams sends garbage: random octets of every length, a Query cut short at
// every octet, with any octet wrong, with another magic number, and too long.
func (w *world) datagrams(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := query("127.1.0.1", 0)
	good := q.AppendDatagram(nil)
	other := bytes.Clone(good)
	binary.BigEndian.PutUint32(other, 0x4e04bda6)
	send := func(c net.Conn, b []byte) {
		// Nobody listens to a full queue, and a refusal is an answer, too.
		if _, err := c.Write(b); err != nil && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOBUFS) {
			t.Fatal(err)
		}
	}
	for _, to := range datagramPorts {
		for _, local := range strangers {
			c := from(t, "udp", local, to)
			for n := range len(good) {
				send(c, good[:n])
				bad := bytes.Clone(good)
				bad[n] ^= byte(1 + rng.UintN(255))
				send(c, bad)
			}
			send(c, other)
			for range 1000 {
				b := make([]byte, rng.UintN(1500))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				if len(b) > 8 && rng.UintN(2) == 0 { // past the first checks
					binary.BigEndian.PutUint32(b, wire.MagicNumber)
					b[4], b[5] = wire.Version1, 8
					binary.BigEndian.PutUint16(b[6:], uint16((len(b)-12)/4))
				}
				send(c, b)
			}
			for _, n := range []int{9216, 9217, 20_000, 65_507} {
				big := append(bytes.Clone(good), make([]byte, n-len(good))...)
				send(c, big)
				copy(big, make([]byte, 4))
				send(c, big)
			}
		}
	}
}

// queries are well formed, and of people who may not ask: nobody answers with
// more than an Error, and nothing is remembered.
func (w *world) queries(t *testing.T) {
	for _, c := range []struct{ local, to, nli, why string }{
		{"127.9.0.1", "127.2.0.1:10270", "127.9.0.1", "a stranger asks the QNE"},
		{"127.9.0.1", "127.2.0.1:10270", "127.1.0.1", "a stranger says to be AS65001's QNE"},
		{"127.1.2.1", "127.2.0.1:10270", "127.1.0.1", "AS65001's edge passes the edges by"},
		{"127.9.0.1", "127.2.0.2:10270", "127.2.0.1", "a stranger asks the edge from inside"},
		{"127.9.0.1", "127.2.1.1:10270", "127.1.0.1", "a stranger asks the edge from outside"},
		{"127.1.2.1", "127.2.1.1:10270", "127.1.0.1", "from far away: the IP TTL is not 255"},
	} {
		conn := from(t, "udp", c.local, c.to)
		q := query(c.nli, 0)
		for i := range 200 {
			binary.BigEndian.PutUint32(q.SID[:], uint32(i))
			if _, err := conn.Write(q.AppendDatagram(nil)); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatal(err)
			}
		}
	}
	w.until("AS65002 to have looked at them all", func(ctx context.Context) error {
		st, err := w.Nodes[1].Admin.Status(ctx, &api.StatusRequest{})
		if err == nil && st.Edges[0].Refused < 600 {
			err = fmt.Errorf("its edge to AS65001 refused %d", st.Edges[0].Refused)
		}
		return err
	})
	st, err := w.Nodes[1].Admin.State(t.Context(), stateOf(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range st.RoutingStates {
		if strings.HasSuffix(r.SessionId, fmt.Sprintf("%024x", 0)) {
			t.Errorf("routing state for a stranger: %v", r)
		}
	}
}

// connections that are silent, send garbage, an octet now and then, or come in
// thousands.
func (w *world) connections(t *testing.T) {
	var slow []net.Conn
	for _, to := range append(streamPorts, filepath.Join(w.dir, "as65002.sock"), filepath.Join(w.dir, "bngfe.sock")) {
		network := "tcp"
		if strings.HasSuffix(to, ".sock") {
			network = "unix"
		}
		for i := range 50 {
			var c net.Conn
			var err error
			if network == "unix" {
				c, err = net.Dial(network, to)
			} else {
				c, err = fromOnce(network, strangers[i%2], to)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			switch i % 3 {
			case 0: // silent
			case 1:
				_, _ = c.Write(bytes.Repeat([]byte("\x00\xff garbage \r\n"), 500)) // it may be closed already
			case 2:
				slow = append(slow, c)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var dripping sync.WaitGroup
	dripping.Go(func() {
		for i := 0; ; i++ {
			for _, c := range slow {
				_, _ = c.Write([]byte{byte(i)})
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	var opened, refused atomic.Int64
	var flood sync.WaitGroup
	for i := range 16 {
		flood.Go(func() {
			var open []net.Conn // until all have been
			defer func() {
				for _, c := range open {
					c.Close()
				}
			}()
			for k := range 250 {
				c, err := fromOnce("tcp", fmt.Sprintf("127.9.1.%d", 1+i), streamPorts[k%len(streamPorts)])
				if err != nil {
					refused.Add(1)
					continue
				}
				opened.Add(1)
				if k%2 == 0 {
					open = append(open, c)
				} else {
					c.Close()
				}
			}
		})
	}
	flood.Wait()
	w.crowd(t)
	t.Logf("%d connections opened, %d refused", opened.Load(), refused.Load())
	if opened.Load() < 2000 {
		t.Errorf("%d connections opened", opened.Load())
	}
	cancel()
	dripping.Wait()
}

// crowd keeps as many silent connections open as AS65002 lets it, at two of its
// ports: no more than these ports' limits.
func (w *world) crowd(t *testing.T) {
	before := w.size().files
	for _, c := range []struct {
		to    string
		limit int
	}{{"127.2.0.1:10940", 512}, {"127.2.0.1:10271", 1024}} {
		for i := range 1300 {
			from(t, "tcp", fmt.Sprintf("127.9.2.%d", 1+i%50), c.to)
		}
		if n := w.size().files; n > before+c.limit+50 {
			t.Errorf("%s: %d open files, %d before", c.to, n, before)
		}
		before += c.limit
	}
}

// forged is Data about a live session, over a connection of a stranger's, with a
// RESERVE that tears, unsigned and signed with another key.
func (w *world) forged(t *testing.T, live string) {
	st, err := w.Nodes[1].Admin.State(t.Context(), stateOf(live))
	if err != nil || len(st.Sessions) != 1 {
		t.Fatalf("%v, %v", st, err)
	}
	sid, err := node.ParseSessionID(live)
	if err != nil {
		t.Fatal(err)
	}
	ring := new(interdomain.Keyring)
	if err := ring.Add(interdomain.Key{ID: 12, AS: 65002, Name: "guessed", Secret: bytes.Repeat([]byte("k"), 32)}); err != nil {
		t.Fatal(err)
	}
	tear := nslpwire.Message{Type: nslpwire.Reserve, MessageFlags: nslpwire.Tear, HasRSN: true}
	tear.RSN.Number = 1 << 20
	plain := tear.Append(nil)
	auth := interdomain.NewAuth(ring, time.Now().Add(-time.Minute), 0)
	signed, err := auth.Seal(time.Now(), interdomain.Binding{SID: sid, NSLPID: 1, MRI: offPath()}, netip.MustParseAddr("127.1.0.1"), 65002, plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, local := range strangers[:3] {
		for _, payload := range [][]byte{plain, signed} {
			m := wire.Message{
				Header: wire.Header{HopCount: 1, NSLPID: 1, Type: wire.Data},
				HasMRI: true, MRI: offPath(), HasSID: true, SID: sid, NSLPData: payload,
			}
			_, _ = from(t, "tcp", local, "127.2.0.1:10271").Write(m.Append(nil)) // it may be closed already
			if _, err := from(t, "udp", local, "127.2.0.1:10270").Write(m.AppendDatagram(nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.counted(65002, `layer="gist"`, 1)
	st, err = w.Nodes[1].Admin.State(t.Context(), stateOf(live))
	if err != nil || len(st.Sessions) != 1 {
		t.Errorf("the session that was torn by a stranger: %v, %v", st, err)
	}
}

// wrongKey has AS65001 sign with a key that AS65002 does not have: its RESERVE is
// discarded in silence and counted, and it works again with the right one.
func (w *world) wrongKey(t *testing.T) {
	const right = "hex:7f1c0c64"
	w.rewrite("as65001.yaml", right, "hex:00000000")
	begun := time.Now()
	out, err := w.Nodes[0].Reserve(t.Context(), request(3000))
	if err != nil || out.Accepted {
		t.Errorf("signed with a wrong key: %v %v", out, err)
	}
	t.Logf("refused after %s: %v", time.Since(begun), out.GetInfo())
	w.counted(65002, `kind="discarded",layer="auth"`, 1)
	w.rewrite("as65001.yaml", "hex:00000000", right)
	w.release(w.reserve(3001))
}

// rewrite changes a configuration and has it reloaded by SIGHUP.
func (w *world) rewrite(file, old, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, file)
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		w.t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(text), 1), 0o600); err != nil {
		w.t.Fatal(err)
	}
	name := strings.TrimSuffix(file, ".yaml")
	log := filepath.Join(w.dir, name+".log")
	reloads := func() int {
		b, err := os.ReadFile(log)
		if err != nil {
			w.t.Fatal(err)
		}
		return bytes.Count(b, []byte(`msg="configuration reloaded"`))
	}
	before := reloads()
	if err := syscall.Kill(w.procs[name].PID(), syscall.SIGHUP); err != nil {
		w.t.Fatal(err)
	}
	w.until(name+" to reload", func(context.Context) error {
		if reloads() == before {
			return errors.New("it has not")
		}
		return nil
	})
}

// counted waits until a network has noted something at least so many times.
func (w *world) counted(as uint32, label string, least float64) {
	w.t.Helper()
	w.until(fmt.Sprintf("AS%d to count %s", as, label), func(ctx context.Context) error {
		_, body, err := get(ctx, as, "/metrics")
		sum := 0.0
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "interqos_notes_total{") && strings.Contains(line, label) {
				v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
				if err != nil {
					return err
				}
				sum += v
			}
		}
		if err == nil && sum < least {
			err = fmt.Errorf("%v", sum)
		}
		return err
	})
}
