package transport

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// livePeer is a GIST machine on real sockets.
type livePeer struct {
	t     testing.TB
	addr  netip.AddrPort
	m     *gist.Machine
	udp   *UDP
	tcp   *TCP
	in    chan []gist.Event // strangers'
	peers chan []gist.Event // our peer's datagrams, and connections
	calls chan func()
	got   func(gist.RecvMessage) // in the loop
	after func()                 // when nothing waits
	count int
	out   []Outgoing
}

var errPortTaken = errors.New("port taken")

// newLivePeers makes two machines at 127.0.6.1 and .2, at a port that is free
// there.
func newLivePeers(t testing.TB, change func(*gist.Config)) (a, b *livePeer) {
	t.Helper()
	for {
		l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 6, 1)})
		if err != nil {
			t.Fatal(err)
		}
		port := l.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		_ = l.Close()
		one, two := netip.AddrFrom4([4]byte{127, 0, 6, 1}), netip.AddrFrom4([4]byte{127, 0, 6, 2})
		if a, err = newLivePeer(t, one, two, port, change); err == nil {
			if b, err = newLivePeer(t, two, one, port, change); err == nil {
				return a, b
			}
		}
		if !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
}

func newLivePeer(t testing.TB, self, other netip.Addr, port uint16, change func(*gist.Config)) (*livePeer, error) {
	p := &livePeer{t: t, addr: netip.AddrPortFrom(self, port), in: make(chan []gist.Event, 256), peers: make(chan []gist.Event, 256), calls: make(chan func(), 16)}
	cfg := gist.Config{
		Identity: []byte(self.String()), Address: self, Port: port, NSLPIDs: []wire.NSLPID{1}, Insecure: true,
		Rand: func(b []byte) { _, _ = crand.Read(b) }, DirectPeers: []netip.Addr{other},
		Route: func(wire.MRI) (gist.QueryRoute, error) {
			return gist.QueryRoute{To: netip.AddrPortFrom(other, port), Direct: true}, nil
		},
	}
	change(&cfg)
	var err error
	if p.m, err = gist.New(cfg); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	peers := func(evs []gist.Event) {
		select {
		case p.peers <- evs:
		case <-ctx.Done():
		}
	}
	p.udp, err = ListenUDP(UDPConfig{Addrs: []netip.AddrPort{p.addr}, PeerHandler: peers, Handler: func(evs []gist.Event) {
		select {
		case p.in <- evs:
		default: // as a full socket buffer
		}
	}})
	if err == nil {
		err = p.udp.SetPeers([]netip.AddrPort{netip.AddrPortFrom(other, port)})
	}
	if err == nil {
		p.tcp, err = ListenTCP(TCPConfig{Listen: []netip.AddrPort{p.addr}, Handler: peers})
	}
	if err != nil {
		stop()
		if p.udp != nil {
			_ = p.udp.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return nil, err
	}
	var loop sync.WaitGroup
	loop.Go(func() { p.run(ctx) })
	t.Cleanup(func() {
		stop()
		loop.Wait()
		_, _ = p.udp.Close(), p.tcp.Close()
	})
	return p, nil
}

func (p *livePeer) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	batched := 0
	for {
		select {
		case <-ctx.Done():
			return
		case evs := <-p.in:
			for _, ev := range evs {
				p.handle(ev)
			}
		case evs := <-p.peers:
			for _, ev := range evs {
				p.handle(ev)
			}
		case f := <-p.calls:
			f()
		case <-timer.C:
			p.handle(nil)
		}
		if batched++; batched < 16 && len(p.in)+len(p.peers)+len(p.calls) > 0 {
			continue
		}
		batched = 0
		p.tcp.Flush()
		if len(p.out) > 0 {
			_ = p.udp.Send(p.out) // strangers may have no socket
			clear(p.out)
			p.out = p.out[:0]
		}
		if p.after != nil {
			p.after()
		}
		if at := p.m.Deadline(); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
	}
}

func (p *livePeer) handle(ev gist.Event) {
	for _, a := range p.m.Handle(time.Now(), ev) {
		switch a := a.(type) {
		case gist.SendDatagram:
			p.out = append(p.out, Outgoing{SendDatagram: a})
		case gist.Connect:
			if err := p.tcp.Connect(a); err != nil {
				p.t.Error(err)
			}
		case *gist.SendConn:
			if err := p.tcp.Queue(*a); err != nil {
				p.t.Error(err)
			}
		case gist.CloseConn:
			_ = p.tcp.CloseConn(a)
		case *gist.RecvMessage:
			p.got(*a)
		case gist.MessageStatus:
			p.t.Errorf("%v: %v", p.addr, a.Err)
		}
	}
}

// do runs f in the loop and waits for it.
func (p *livePeer) do(f func()) {
	done := make(chan struct{})
	p.calls <- func() { f(); close(done) }
	<-done
}

func liveSID(i int) (sid wire.SID) {
	binary.BigEndian.PutUint64(sid[8:], uint64(i+1))
	return sid
}

// flooder sends Queries as fast as they go from many addresses, until stopped.
type flooder struct {
	sent atomic.Int64
	stop func()
}

func startFlood(t *testing.T, to netip.AddrPort, mri wire.MRI) *flooder {
	t.Helper()
	f := &flooder{}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	f.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(f.stop)
	const sources = 100
	conns := make([]*net.UDPConn, sources)
	for i := range conns {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 7, byte(i+1))}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	all.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			q := wire.Message{
				Header: wire.Header{HopCount: 9, NSLPID: 1, Type: wire.Query, C: true, R: true},
				HasMRI: true, MRI: mri, HasSID: true, SID: liveSID(1_000_000 + i), HasNLI: true,
				NLI:         wire.NLI{PeerIdentity: fmt.Appendf(nil, "stranger %d", i), Address: netip.AddrFrom4([4]byte{127, 0, 7, byte(i%sources + 1)}), ValidityMS: 30_000},
				QueryCookie: []byte("12345678"), StackProposal: wire.StackProposal{{wire.ForwardsTCP}}, HasStackConfig: true,
				StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: wire.ForwardsTCP}}},
			}
			if _, err := conns[i%sources].Write(q.AppendDatagram(nil)); err == nil {
				f.sent.Add(1)
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return f
}

// While Queries come in from a hundred addresses as fast as they go, what live
// sessions send over an association arrives, each once, in order; what they send
// in D-mode arrives in the end when it is repeated; new sessions come to stand;
// and of the strangers nothing is kept. RFC 5971 §8.4
func TestLiveSessionsUnderAFloodOnSockets(t *testing.T) {
	mri := wire.MRI{Flow: wire.Flow{
		Source: netip.MustParsePrefix("127.0.6.100/32"), Destination: netip.MustParsePrefix("127.0.6.101/32"),
	}}
	a, b := newLivePeers(t, func(c *gist.Config) { c.DModeData = true })
	const sessions, each = 50, 20
	reliable := func(i int) bool { return i%2 == 0 }
	data := func(s, n int) []byte { return fmt.Appendf(nil, "%04d%04d", s, n) }
	next := map[wire.SID]int{}        // of reliable sessions: the number that must come
	acked := map[string]bool{}        // at a
	changed := make(chan struct{}, 1) // a has heard something
	send := func(p *livePeer, s int, d []byte, mri wire.MRI) {
		p.handle(gist.SendMessage{
			NSLPData: d, Handle: 1, NSLPID: 1, SID: liveSID(s), MRI: mri, Timeout: 10 * time.Minute,
			Attr: gist.TransferAttributes{Reliable: reliable(s)},
		})
	}
	fromA := func(r gist.RecvMessage) {
		var s, n int
		if _, err := fmt.Sscanf(string(r.Data), "%04d%04d", &s, &n); err != nil {
			t.Error(err)
		}
		if reliable(s) {
			if next[r.SID] != n {
				t.Errorf("session %d: message %d came, want %d", s, n, next[r.SID])
			}
			next[r.SID]++
		}
		send(b, s, r.Data, r.MRI.Reverse())
	}
	fromB := func(r gist.RecvMessage) {
		acked[string(r.Data)] = true
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	a.do(func() { a.got = fromB })
	b.do(func() { b.got = fromA })
	count := func() (n int) {
		a.do(func() { n = len(acked) })
		return n
	}
	deadline := time.After(patience)
	settle := func(want int, again func()) {
		t.Helper()
		repeat := time.NewTicker(200 * time.Millisecond)
		defer repeat.Stop()
		for count() < want {
			select {
			case <-changed:
			case <-repeat.C:
				a.do(again)
			case <-deadline:
				t.Fatalf("%d of %d messages were answered", count(), want)
			}
		}
	}
	repeat := func(upTo int) func() {
		return func() {
			for n := range upTo {
				for s := range sessions {
					if d := data(s, n); !reliable(s) && !acked[string(d)] {
						send(a, s, d, mri)
					}
				}
			}
		}
	}
	first := func(n, from, to int) {
		a.do(func() {
			for s := from; s < to; s++ {
				send(a, s, data(s, n), mri)
			}
		})
	}
	first(0, 0, sessions/2) // half of the sessions stand before the flood
	settle(sessions/2, repeat(1))

	f := startFlood(t, b.addr, mri)
	first(0, sessions/2, sessions)
	settle(sessions, repeat(1))
	for n := 1; n < each; n++ {
		first(n, 0, sessions)
		settle((n+1)*sessions, repeat(n+1))
	}
	if f.sent.Load() == 0 {
		t.Error("there was no flood")
	}
	f.stop()
	b.do(func() {
		s := b.m.Stats()
		if s.RoutingStates != sessions || s.Peers != 1 || s.Associations != 1 || s.Handshakes != 0 {
			t.Errorf("%+v", s)
		}
		if s.QueriesIn < sessions {
			t.Errorf("%d Queries came in", s.QueriesIn)
		}
		t.Logf("%d Queries were sent, %d came in, %d Responses and other datagrams went out", f.sent.Load(), s.QueriesIn, s.DatagramsOut)
	})
}
