package gist

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// fork is a chain whose first node has two ways to the flow's destination: path
// 1 to b, path 2 to c.
type fork struct {
	*chain
	path  Path
	err   error // of Route
	asked int
}

func newFork(t *testing.T, seed uint64, change ...func(*Config)) *fork {
	f := &fork{path: Path{Interface: 1}}
	f.chain = newChain(t, seed, append(change, func(c *Config) {
		if string(c.Identity) != "a" {
			return
		}
		route := c.Route
		c.Route = func(mri wire.MRI) (QueryRoute, error) {
			f.asked++
			rt, _ := route(mri)
			rt.Path = f.path
			return rt, f.err
		}
	})...)
	divert := f.net.Divert
	f.net.Divert = func(d simnet.Datagram) *simnet.Host {
		if d.RouterAlert && d.From.Addr() == aAddr && f.path.Interface == 2 {
			return f.c.host
		}
		return divert(d)
	}
	return f
}

// took returns what a was told since the last call, in words.
func (n *simNode) took() (told []string) {
	for _, x := range n.notices {
		s := map[NotificationType]string{
			LastNode: "last", RoutingStatusChange: "status", RouteDeletion: "deleted",
			NodeAuthorisationChange: "authorisation", CommunicationFailure: "failure",
		}[x.Type]
		if x.Type == RoutingStatusChange {
			s = map[RoutingStatus]string{Good: "good", Tentative: "tentative", Bad: "bad"}[x.Status]
		}
		told = append(told, s)
	}
	n.notices = nil
	return told
}

func wantTold(t *testing.T, n *simNode, want ...string) {
	t.Helper()
	if got := n.took(); !slices.Equal(got, want) {
		t.Errorf("%s was told %v, want %v", n.cfg.Identity, got, want)
	}
}

// RFC 5971 §7.1.2, local trigger, and §7.1.3: state whose next hop has changed is
// Bad at once, messages wait, a Query finds the new peer; the old one is deleted
// (§7.1.4).
func TestLocalTrigger(t *testing.T) {
	for _, dmode := range []bool{false, true} {
		f := newFork(t, 1, func(c *Config) { c.DModeData = dmode })
		send := f.a.send
		if dmode {
			send = f.a.sendUnreliable
		}
		send(testSID(1), pc, "one.")
		f.net.Run(time.Second)
		wantTold(t, f.a, "good")
		queries := f.a.m.Stats().QueriesOut

		// A change that is none for this flow.
		f.a.do(RouteChanged{})
		wantTold(t, f.a)

		f.path.Interface = 2
		f.a.do(RouteChanged{Prefixes: []netip.Prefix{testFlow.Destination}})
		wantTold(t, f.a, "bad")
		r := f.a.m.lookup(testNSLP, testSID(1), &pc)
		if r.state != awaitingResponse || r.status != Bad || f.a.m.Stats().QueriesOut != queries+1 {
			t.Fatalf("state %v, status %d, %d Queries more", r.state, r.status, f.a.m.Stats().QueriesOut-queries)
		}
		send(testSID(1), pc, "two.")
		if !r.hasWaiting() {
			t.Error("Bad state was used")
		}
		f.net.Run(f.a.m.cfg.T1) // "within one retransmission interval"
		wantTold(t, f.a, "deleted", "good")
		if f.c.received["two."] != 1 || f.b.received["two."] != 0 {
			t.Errorf("b got %v, c got %v", f.b.received, f.c.received)
		}
		if r.state != established || r.status != Good {
			t.Errorf("state %v, status %d", r.state, r.status)
		}
		f.a.check()
		f.c.check()
	}
}

// The same peer behind another interface: Bad, and Good again, nothing deleted;
// messages that wait arrive once.
func TestLocalTriggerSamePeer(t *testing.T) {
	f := newFork(t, 2)
	f.a.send(testSID(1), pc, "one.")
	f.net.Run(time.Second)
	f.a.took()
	f.path.NextHop = bAddr
	f.a.do(RouteChanged{})
	f.a.send(testSID(1), pc, "two.")
	f.net.Run(time.Second)
	wantTold(t, f.a, "bad", "good")
	if f.b.received["two."] != 1 || f.a.m.Stats().Associations != 1 {
		t.Errorf("b got %v; %+v", f.b.received, f.a.m.Stats())
	}
}

// RFC 5971 §7.1.3: a local change downstream makes the upstream direction
// Tentative; the next Confirm makes it Good.
func TestUpstreamIsTentative(t *testing.T) {
	f := newFork(t, 3)
	f.b.m.cfg.Route = func(route func(wire.MRI) (QueryRoute, error)) func(wire.MRI) (QueryRoute, error) {
		return func(mri wire.MRI) (QueryRoute, error) {
			rt, err := route(mri)
			rt.Path = f.path
			return rt, err
		}
	}(f.b.m.cfg.Route)
	f.b.onRecv = func(r RecvMessage) { f.b.send(r.SID, r.MRI, string(r.Data)) }
	f.a.send(testSID(1), pc, "one.")
	f.net.Run(time.Second)
	f.b.took()
	f.path.Interface = 3
	f.b.do(RouteChanged{})
	wantTold(t, f.b, "bad", "tentative")
	back := pc.Reverse()
	if u := f.b.m.lookup(testNSLP, testSID(1), &back); u.status != Tentative {
		t.Fatalf("upstream status %d", u.status)
	}
	f.b.send(testSID(1), back, "back") // still usable
	f.net.Run(time.Second)
	wantTold(t, f.b, "good")
	if f.a.received["back"] != 1 {
		t.Errorf("a got %v", f.a.received)
	}
	f.net.Run(30 * time.Second) // a refreshes
	wantTold(t, f.b, "good")
}

// Tentative state that one Query does not verify is not used any more (RFC 5971
// §7.1.3; the "within one retransmission interval").
func TestTentativeTurnsBad(t *testing.T) {
	f := newFork(t, 4, func(c *Config) { c.DModeData = true })
	f.a.sendUnreliable(testSID(1), pc, "one.")
	f.net.Run(time.Second)
	f.a.took()
	f.net.Divert = func(d simnet.Datagram) *simnet.Host { return nil } // Queries go nowhere
	f.a.do(InvalidateRoutingState{MRI: pc, Status: Tentative, Urgent: true})
	f.a.sendUnreliable(testSID(1), pc, "two.") // "still usable"
	f.net.Run(f.a.m.cfg.T1)
	wantTold(t, f.a, "bad")
	f.a.sendUnreliable(testSID(1), pc, "tree")
	r := f.a.m.lookup(testNSLP, testSID(1), &pc)
	if f.b.received["two."] != 1 || !r.hasWaiting() || r.state != awaitingResponse {
		t.Errorf("b got %v; %v", f.b.received, r.state)
	}
	f.net.Run(time.Minute)
	if f.b.received["tree"] != 0 || len(f.a.status) != 1 || f.a.m.Stats().RoutingStates != 0 {
		t.Errorf("b got %v; a was told %v, has %d states", f.b.received, f.a.status, f.a.m.Stats().RoutingStates)
	}
}

// RFC 5971 §7.1.3: to delay the handshake "to wait for the network to stabilise":
// of a flapping route the first change asks at once, the next ones ever later.
func TestFlappingIsDamped(t *testing.T) {
	f := newFork(t, 5, func(c *Config) { c.DModeData = true })
	f.a.sendUnreliable(testSID(1), pc, "one.")
	f.net.Run(time.Second)
	before := f.a.m.Stats().QueriesOut
	const flaps = 2000
	for i := range flaps {
		f.path.Interface = uint32(1 + (i+1)%2)
		f.a.do(RouteChanged{})
		f.net.Run(10 * time.Millisecond)
	}
	f.a.check()
	if n := f.a.m.Stats().QueriesOut - before; n < 3 || n > 12 {
		t.Errorf("%d changes in 20 s made %d Queries", flaps, n)
	}
	f.path.Interface = 2
	f.a.do(RouteChanged{})
	f.a.sendUnreliable(testSID(1), pc, "two.")
	f.net.Run(2 * f.a.m.cfg.T2)
	if r := f.a.m.lookup(testNSLP, testSID(1), &pc); r == nil || r.status != Good || r.peer.addr != cAddr {
		t.Fatalf("after the flapping: %+v", r)
	}
	// After quiet the first change is answered at once again.
	f.net.Run(2 * f.a.m.cfg.T2)
	before = f.a.m.Stats().QueriesOut
	f.path.Interface = 1
	f.a.do(RouteChanged{})
	if f.a.m.Stats().QueriesOut != before+1 {
		t.Error("the first change after quiet was put off")
	}
}

// A route that is taken away and comes back within T1 costs no state; one that
// stays away ends it.
func TestRouteMissing(t *testing.T) {
	f := newFork(t, 6)
	f.a.send(testSID(1), pc, "one.")
	f.net.Run(time.Second)
	f.a.took()
	f.err = errors.New("unreachable")
	f.a.do(RouteChanged{})
	wantTold(t, f.a, "bad")
	f.err, f.path.Interface = nil, 2
	f.a.do(RouteChanged{})
	f.a.send(testSID(1), pc, "two.")
	f.net.Run(2 * time.Second)
	wantTold(t, f.a, "deleted", "good")
	if f.c.received["two."] != 1 {
		t.Errorf("c got %v; %v", f.c.received, f.a.status)
	}
	f.err = errors.New("unreachable")
	f.a.do(RouteChanged{})
	f.a.send(testSID(1), pc, "tree")
	f.net.Run(time.Minute)
	wantTold(t, f.a, "bad", "bad")
	if len(f.a.status) != 1 || !errors.Is(f.a.status[0].Err, ErrNoRoute) || f.a.m.paths.groups.Size() != 0 {
		t.Errorf("a was told %v; %d groups", f.a.status, f.a.m.paths.groups.Size())
	}
}

// A route change during the first handshake sends the Query again, by the new way.
func TestRouteChangeDuringHandshake(t *testing.T) {
	f := newFork(t, 7)
	f.net.Default.Delay = 200 * time.Millisecond
	f.a.send(testSID(1), pc, "one.")
	f.path.Interface = 2
	f.a.do(RouteChanged{Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	f.net.Run(5 * time.Second)
	if f.c.received["one."] != 1 || f.b.received["one."] != 0 || f.a.noted("bad-cookie") == 0 {
		t.Errorf("b got %v, c got %v; %v", f.b.received, f.c.received, f.a.notes)
	}
}

// Off-Path: the egress stands in the MRI, so another best path is a doubt that a
// Query settles at once; the state stays in use.
func TestOffPathEgressChanged(t *testing.T) {
	hop := Path{Interface: 1, NextHop: e2inExt}
	asked := 0
	d := newDomains(t, 8, func(c *Config) {
		if route := c.Route; route != nil && string(c.Identity) == "q1" {
			c.Route = func(mri wire.MRI) (QueryRoute, error) {
				asked++
				rt, err := route(mri)
				rt.Path = hop
				return rt, err
			}
		}
	})
	d.q1.send(testSID(1), hop12, "one.")
	d.net.Run(time.Second)
	d.q1.took()
	queries := d.q1.m.Stats().QueriesOut
	known := hop
	hop = Path{} // not known for a while: no news
	d.q1.do(RouteChanged{})
	hop = known
	d.q1.do(RouteChanged{})
	wantTold(t, d.q1)
	hop.NextHop = e3Ext
	d.q1.do(RouteChanged{Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.112.0/20")}})
	wantTold(t, d.q1, "tentative")
	d.q1.send(testSID(1), hop12, "two.")
	d.net.Run(time.Second)
	wantTold(t, d.q1, "good")
	if d.q1.m.Stats().QueriesOut != queries+1 || d.q2.received["two."] != 1 {
		t.Errorf("%d Queries, q2 got %v", d.q1.m.Stats().QueriesOut-queries, d.q2.received)
	}
	asked = 0
	d.q1.do(RouteChanged{Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}})
	if asked != 0 {
		t.Errorf("Route was asked %d times for flows to elsewhere", asked)
	}
}

// A change asks Route for the flows concerned only, by destination and by
// interface, and for so many at a time (a million states stop nothing): against
// a plain search through all flows.
func TestRouteChangeAsksOnlyTheConcerned(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	asked := map[netip.Prefix]int{}
	calls := 0
	cfg := Config{
		Identity: []byte("a"), Address: aAddr, Addresses: []netip.Addr{addr("2001:db8:ffff::9")}, Port: testPort, Insecure: true, NSLPIDs: []wire.NSLPID{testNSLP},
		Rand: testRand(9), T1: 24 * time.Hour, Inactivity: 48 * time.Hour, MessageTimeout: 48 * time.Hour,
		Route: func(mri wire.MRI) (QueryRoute, error) {
			asked[mri.Flow.Destination]++
			calls++
			ip := mri.Flow.Destination.Addr().As16()
			return QueryRoute{To: netip.AddrPortFrom(mri.Flow.Destination.Addr(), testPort), Path: Path{Interface: 1 + uint32(ip[15])%2}}, nil
		},
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	flows := map[netip.Prefix]int{}
	for i := range 4000 {
		mri := pc
		switch {
		case i < 1500: // many flows to one destination
			mri.Flow.Destination = netip.MustParsePrefix("198.18.0.1/32")
		case i < 1600: // flows to networks
			mri.Flow.Destination = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(rnd.UintN(8)), 0}), 20+rnd.IntN(8)).Masked()
		case i < 1700:
			var b [16]byte
			binary.BigEndian.PutUint32(b[:], 0x20010db8)
			b[7] = byte(i)
			mri.Flow.Source, mri.Flow.Destination = netip.MustParsePrefix("2001:db8:ffff::1/128"), netip.PrefixFrom(netip.AddrFrom16(b), 128)
		default:
			mri.Flow.Destination = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(rnd.UintN(64)), byte(rnd.UintN(256))}), 32)
		}
		m.Handle(testStart, SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(i), MRI: mri})
		flows[mri.Flow.Destination]++
	}
	now := testStart
	for range 200 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(rnd.UintN(64)), byte(rnd.UintN(256))}), 8+rnd.IntN(25)).Masked()
		if rnd.IntN(10) == 0 {
			p = netip.PrefixFrom(netip.MustParseAddr("2001:db8::"), 24+rnd.IntN(41)).Masked()
		}
		iface := uint32(rnd.UintN(3))
		clear(asked)
		ev := Event(RouteChanged{Prefixes: []netip.Prefix{p}, Interface: iface})
		for ev != nil || m.paths.tm.pos != 0 {
			calls = 0
			m.Handle(now, ev)
			if ev = nil; calls > checkSlice {
				t.Fatalf("%v: Route asked %d times in one go", p, calls)
			}
			now = now.Add(checkGap)
		}
		for dst, n := range flows {
			want := n
			ip := dst.Addr().As16()
			if !dst.Overlaps(p) || iface != 0 && iface != 1+uint32(ip[15])%2 {
				want = 0
			}
			if asked[dst] != want {
				t.Fatalf("change of %v, interface %d: flows to %v asked %d times, want %d", p, iface, dst, asked[dst], want)
			}
		}
	}
	// More prefixes than are worth a search each: everything is checked, once.
	many := make([]netip.Prefix, checkPrefixes+1)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	}
	clear(asked)
	m.Handle(now, RouteChanged{Prefixes: many})
	if len(m.paths.work) > checkPrefixes {
		t.Fatalf("%d prefixes wait", len(m.paths.work))
	}
	for m.paths.tm.pos != 0 {
		now = now.Add(checkGap)
		m.Handle(now, nil)
	}
	for dst, n := range flows {
		if asked[dst] != n {
			t.Fatalf("flows to %v asked %d times, want %d", dst, asked[dst], n)
		}
	}
	for i := range 4000 {
		for _, s := range m.RoutingStatesOf(testSID(i)) {
			m.Handle(now, SetStateLifetime{NSLPID: testNSLP, SID: s.SID, MRI: s.MRI})
			m.Handle(now, InvalidateRoutingState{MRI: s.MRI, Status: Bad})
		}
	}
	for now = now.Add(49 * time.Hour); ; now = now.Add(time.Hour) {
		if m.Handle(now, nil); m.Stats().RoutingStates == 0 {
			break
		}
	}
	if m.paths.groups.Size() != 0 {
		t.Errorf("%d groups are left", m.paths.groups.Size())
	}
}

// Queries that wait for the D-mode rate limit wait one behind the other (RFC
// 5971 §5.3.3: "when re-probing the network for multiple flows after a route
// change"): none is looked at again and again.
func TestReprobingKeepsTheRate(t *testing.T) {
	path := Path{Interface: 1}
	const flows, rate = 500, 100
	m, err := New(Config{
		Identity: []byte("a"), Address: aAddr, Port: testPort, Insecure: true, NSLPIDs: []wire.NSLPID{testNSLP},
		Rand: testRand(9), T1: time.Hour, MessageTimeout: 4 * time.Hour, Limits: Limits{DModeRate: rate, DModeBurst: flows},
		Route: func(mri wire.MRI) (QueryRoute, error) {
			return QueryRoute{To: netip.AddrPortFrom(mri.Flow.Destination.Addr(), testPort), Path: path}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := testStart
	for i := range flows {
		m.Handle(now, SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(i), MRI: pc})
	}
	path.Interface = 2
	end := now.Add(10 * time.Second)
	delayed, sent := 0, 0
	count := func(acts []Action) {
		for _, a := range acts {
			switch a := a.(type) {
			case SendDatagram:
				sent++
			case Note:
				if strings.HasPrefix(a.Kind, "query-delayed") {
					delayed++
				}
			}
		}
	}
	count(m.Handle(now, RouteChanged{}))
	for at := m.Deadline(); at.Before(end); at = m.Deadline() {
		now = at
		count(m.Handle(now, nil))
	}
	if sent != flows || delayed > 2*flows {
		t.Errorf("%d Queries of %d flows went out, put off %d times", sent, flows, delayed)
	}
	if took := now.Sub(testStart); took < 4*time.Second || took > 6*time.Second {
		t.Errorf("the last at %v, want 5 s at %d a second", took, rate)
	}
}

// RFC 5971 §4.1.2: messages on the association of a peer that has been left: the
// application hears of those that may be lost when that association fails, and
// of none that have arrived.
func TestMessagesLeftBehind(t *testing.T) {
	for _, alive := range []bool{true, false} {
		f := newFork(t, 9)
		f.a.send(testSID(1), pc, "one.")
		f.net.Run(time.Second)
		f.a.took() // "good"
		if !alive {
			f.net.Down(f.b.host, false) // b is cut off: nothing arrives, nothing is refused
		}
		f.a.send(testSID(1), pc, "two.")
		f.path.Interface = 2
		f.a.do(RouteChanged{})
		f.net.Run(5 * time.Second)
		wantTold(t, f.a, "bad", "deleted", "good")
		f.net.Run(5 * time.Minute) // the association is closed, for nobody needs it
		if got := f.a.took(); alive != (len(got) == 0) || !alive && (len(got) != 1 || got[0] != "failure") {
			t.Errorf("peer alive %v: a was told %v", alive, got)
		}
		if n := f.b.received["two."]; alive != (n == 1) {
			t.Errorf("peer alive %v: b got %v", alive, f.b.received)
		}
		f.a.check()
	}
}

// RFC 5971 §7.1.3: the handshake "MUST begin [...] immediately" where the call is
// Urgent, and "SHOULD begin it if the upstream routing state is still known to be
// Good"; the change that an application indicates does not spread upstream.
func TestInvalidationWithGoodUpstream(t *testing.T) {
	for _, status := range []RoutingStatus{Tentative, Bad} {
		ch := newChain(t, 10)
		ch.b.onRecv = func(r RecvMessage) { ch.b.send(r.SID, r.MRI, string(r.Data)) }
		ch.a.send(testSID(1), pc, "one.")
		ch.net.Run(time.Second)
		ch.b.took()
		back := pc.Reverse()
		queries := ch.b.m.Stats().QueriesOut
		ch.b.do(InvalidateRoutingState{MRI: pc, Status: status})
		if n := ch.b.m.Stats().QueriesOut - queries; n != 1 {
			t.Errorf("status %d, upstream Good: %d Queries", status, n)
		}
		if u := ch.b.m.lookup(testNSLP, testSID(1), &back); u.status != Good {
			t.Errorf("upstream status %d", u.status)
		}
		ch.net.Run(time.Second)
		ch.b.do(InvalidateRoutingState{MRI: back, Status: Tentative})
		queries = ch.b.m.Stats().QueriesOut
		ch.b.do(InvalidateRoutingState{MRI: pc, Status: status})
		if n := ch.b.m.Stats().QueriesOut - queries; n != 0 {
			t.Errorf("status %d, upstream Tentative: %d Queries", status, n)
		}
		ch.b.send(testSID(1), pc, "two.")
		ch.net.Run(time.Second)
		if ch.c.received["two."] != 1 || ch.b.m.lookup(testNSLP, testSID(1), &pc).status != Good {
			t.Errorf("c got %v", ch.c.received)
		}
	}
}
