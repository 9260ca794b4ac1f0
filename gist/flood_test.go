package gist

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// RFC 5971 §8.4: what strangers can take of a node. One machine, no network.

// floodSize is how many messages a flood has: a million, and fewer where the
// race detector makes each ten times as slow.
func floodSize() int {
	if raceEnabled {
		return 100_000
	}
	return 1_000_000
}

// spoofer makes Path-Coupled Queries, each of another session, from another
// source that does not exist, with another NLI.
type spoofer struct {
	payload            []byte
	sidAt, idAt, nliAt int
	n                  uint64
}

func newSpoofer() *spoofer {
	q := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Query, C: true, R: true},
		HasMRI: true, MRI: pc, HasSID: true, SID: testSID(0),
		HasNLI: true, NLI: wire.NLI{PeerIdentity: []byte("identity"), Address: addr("198.18.1.2"), ValidityMS: 30_000, IPTTL: 64},
		QueryCookie: []byte("12345678"), StackProposal: wire.StackProposal{{wire.ForwardsTCP}}, HasStackConfig: true,
		StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: wire.ForwardsTCP}}},
	}
	s := &spoofer{payload: q.AppendDatagram(nil)}
	sid, address := testSID(0), addr("198.18.1.2").As4()
	s.sidAt, s.idAt, s.nliAt = find(s.payload, sid[:]), find(s.payload, []byte("identity")), find(s.payload, address[:])
	return s
}

func find(in, what []byte) int {
	for i := range in {
		if len(in)-i >= len(what) && string(in[i:i+len(what)]) == string(what) {
			return i
		}
	}
	panic("not there")
}

// next is the next Query; its payload is used again for the one after it.
func (s *spoofer) next() *Datagram {
	s.n++
	x := s.n * 0x9e3779b97f4a7c15
	binary.BigEndian.PutUint64(s.payload[s.sidAt:], x)
	binary.BigEndian.PutUint64(s.payload[s.idAt:], x)
	from := netip.AddrFrom4([4]byte{198, 18 + byte(s.n>>16&1), byte(s.n >> 8), byte(s.n)})
	nli := from.As4()
	copy(s.payload[s.nliAt:], nli[:])
	return &Datagram{
		Local: netip.AddrPortFrom(q2Addr, testPort), From: netip.AddrPortFrom(from, testPort), TTL: 64, RouterAlert: true, Payload: s.payload,
	}
}

// RFC 5971 §8.4: "State is only established for messages that contain a valid
// cookie". A million Queries from sources that do not exist, 100,000 a second,
// leave nothing at all: no state, no peer, no timer, and no memory.
func TestSpoofedQueriesLeaveNothing(t *testing.T) {
	b := newBench(t)
	s := newSpoofer()
	answered := 0
	flood := func(n int) {
		for range n {
			b.now = b.now.Add(10 * time.Microsecond)
			for _, a := range b.m.Handle(b.now, s.next()) {
				if _, ok := a.(SendDatagram); ok {
					answered++
				}
			}
		}
	}
	flood(1000) // buffers that are used again
	before := heapInUse()
	flood(floodSize())
	grown := heapInUse() - before
	if st := b.m.Stats(); st.RoutingStates+st.Associations+st.Peers+st.Handshakes+st.QueuedBytes != 0 {
		t.Errorf("%+v", st)
	}
	if n := len(b.m.hosts) + len(b.m.sessions) + len(b.m.byMRI) + len(b.m.timers.heap); n != 0 {
		t.Errorf("%d hosts, sessions, MRIs or timers", n)
	}
	// One octet for each source would be seen. The race detector's own doings
	// would be, too.
	if !raceEnabled && grown > int64(floodSize())/2 {
		t.Errorf("the heap grew by %d octets", grown)
	}
	if answered == 0 {
		t.Error("nobody was answered: the Queries were not taken for such")
	}
	runtime.KeepAlive(b)
}

// A flood of strangers does not keep peers from being answered, wherever their
// hashes fall, nor our own Queries from leaving.
func TestFloodDoesNotStarvePeers(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits.DModeRate, c.Limits.DModeBurst = 10_000, 1000 })
	s := newSpoofer()
	q := mustQuery(testSID(1))
	known, own, delayed := 0, 0, 0
	for i := range 100_000 { // a second
		b.now = b.now.Add(10 * time.Microsecond)
		b.m.Handle(b.now, s.next())
		switch {
		case i%1000 == 500:
			for _, a := range b.udp(&q) {
				if _, ok := a.(SendDatagram); ok {
					known++
				}
			}
		case i%1000 == 700:
			acts := b.do(SendMessage{NSLPData: []byte("abcd"), NSLPID: testNSLP, SID: testSID(i), MRI: hop23, Attr: TransferAttributes{Reliable: true}})
			for _, a := range acts {
				if _, ok := a.(SendDatagram); ok {
					own++
				}
			}
			if hasNote(acts, "query-delayed") {
				delayed++
			}
		}
	}
	if known != 100 || own != 100 || delayed != 0 {
		t.Errorf("%d of 100 Queries of a configured peer were answered, %d of 100 of our own left at once, %d were delayed", known, own, delayed)
	}
	out := b.m.Stats().DatagramsOut
	if out > 11_000 {
		t.Errorf("%d datagrams left in a second, the limit is 10,000 and a burst of 1,000", out)
	}
}

// A source that does not exist is a third party's: no destination gets more
// Responses or Errors than a stranger may cause, from however many sources the
// Queries seem to come. RFC 5971 §8.4: "not allow GIST nodes to be used to
// launch attacks on other network elements" (§8)
func TestNobodyIsFloodedThroughUs(t *testing.T) {
	victim := addr("192.0.2.77")
	query := func(change func(*wire.Message)) []byte {
		m, err := wire.ParseDatagram(newSpoofer().payload)
		if err != nil {
			t.Fatal(err)
		}
		m.NLI.Address = victim
		if change != nil {
			change(&m)
		}
		return m.AppendDatagram(nil)
	}
	for name, c := range map[string]struct {
		payload []byte
		want    int
	}{
		"Responses": {query(nil), 1000 + 1000},
		"Errors":    {query(func(m *wire.Message) { m.HopCount = 0 }), 20 + 100},
	} {
		b := newBench(t)
		sent := 0
		for i := range 50_000 { // a second
			b.now = b.now.Add(20 * time.Microsecond)
			from := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			for _, a := range b.m.Handle(b.now, &Datagram{Local: netip.AddrPortFrom(q2Addr, testPort), From: netip.AddrPortFrom(from, testPort), TTL: 64, Payload: c.payload}) {
				if d, ok := a.(SendDatagram); ok {
					if d.To.Addr() != victim {
						t.Fatalf("%s: sent to %v", name, d.To)
					}
					sent++
					// "at most one Response that is at most only slightly larger"
					if len(d.Payload) > len(c.payload)+64 {
						t.Fatalf("%s: %d octets answer %d", name, len(d.Payload), len(c.payload))
					}
				}
			}
		}
		if sent == 0 || sent > c.want+1 {
			t.Errorf("%s: the victim got %d in a second, want 1 to %d", name, sent, c.want)
		}
	}
}

// An attacker that can send from any address but sees nothing that others send
// cannot end a session or take it over: it knows neither SID nor cookies.
// RFC 5971 §8.3, §4.4.6
func TestOffPathAttackerCannotTouchASession(t *testing.T) {
	d := newDomains(t, 31)
	d.q1.send(testSID(1), hop12, "hello")
	d.net.Run(time.Second)
	if d.q2.received["hello   "] != 1 {
		t.Fatal("no session")
	}
	base := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, S: true},
		HasSID: true, HasMRI: true, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte("q2"), Address: q2Addr, ValidityMS: 1000},
	}
	forge := func(kind wire.MessageType, sid wire.SID, mri wire.MRI, change func(*wire.Message)) []byte {
		m := base
		m.Type, m.SID, m.MRI = kind, sid, mri
		if change != nil {
			change(&m)
		}
		return m.AppendDatagram(nil)
	}
	report := func(about wire.MessageType, id wire.ErrorID, sid wire.SID) func(*wire.Message) {
		return func(m *wire.Message) {
			m.NSLPID = 0
			m.Error = &wire.ErrorData{
				ID: id, DMode: true, Header: wire.Header{Version: 1, HopCount: 9, NSLPID: testNSLP, Type: about, S: true, C: about == wire.Query, R: about == wire.Query},
				HasSID: true, SID: sid, HasMRI: true, MRI: m.MRI,
			}
		}
	}
	real, guess := testSID(1), testSID(99)
	forged := map[string][]byte{
		"Response, right SID":         forge(wire.Response, real, hop12.Reverse(), func(m *wire.Message) { m.QueryCookie = make([]byte, 16) }),
		"Response, other peer":        forge(wire.Response, real, hop12.Reverse(), func(m *wire.Message) { m.QueryCookie, m.NLI.Address = make([]byte, 16), q3Addr }),
		"Confirm without cookie":      forge(wire.Confirm, real, hop12, nil),
		"Confirm, cookie of nobody":   forge(wire.Confirm, real, hop12, func(m *wire.Message) { m.ResponderCookie = make([]byte, cookieLen) }),
		"Data":                        forge(wire.Data, real, hop12.Reverse(), func(m *wire.Message) { m.NSLPData = []byte("evil") }),
		"No Routing State, right SID": forge(wire.Error, real, hop12, report(wire.Data, wire.NoRoutingState, real)),
		"No Routing State, a guess":   forge(wire.Error, guess, hop12, report(wire.Data, wire.NoRoutingState, guess)),
		"Hop Limit Exceeded, a guess": forge(wire.Error, guess, hop12, report(wire.Query, wire.HopLimitExceeded, guess)),
		"MA-Hello":                    (&wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, S: true}, HasHelloID: true}).AppendDatagram(nil),
	}
	for name, payload := range forged {
		before := len(d.q1.recv) + len(d.q2.recv)
		for _, n := range []*simNode{d.q1, d.q2} {
			for _, from := range []netip.Addr{q1Addr, q2Addr, e2inInt, e1Int, addr("192.0.2.200")} {
				n.do(Datagram{Local: netip.AddrPortFrom(n.cfg.Address, testPort), From: netip.AddrPortFrom(from, testPort), TTL: 255, Payload: payload})
			}
			n.check()
		}
		d.net.Run(time.Second)
		s1, s2 := d.q1.m.Stats(), d.q2.m.Stats()
		if s1.RoutingStates != 1 || s2.RoutingStates != 1 || s1.Associations != 1 || s2.Associations != 1 || s1.Peers != 1 || s2.Peers != 1 {
			t.Fatalf("%s: q1 %+v, q2 %+v", name, s1, s2)
		}
		if after := len(d.q1.recv) + len(d.q2.recv); after != before {
			t.Fatalf("%s: %d messages were delivered", name, after-before)
		}
		d.q1.send(real, hop12, name)
		d.net.Run(time.Second)
		if d.q2.received[string(pad4(name))] != 1 || len(d.q1.status) != 0 {
			t.Fatalf("%s: the session is broken: %v", name, d.q1.status)
		}
	}
}

// One address has a bounded number of identities that are used, and those that
// nothing uses any more make room for others.
func TestPeersAreBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits.Peers, c.Limits.PeersPerAddress = 8, 3 })
	nli := func(i int, a string) *wire.NLI {
		return &wire.NLI{PeerIdentity: fmt.Appendf(nil, "p%d", i), Address: addr(a)}
	}
	var used []*peer
	for i := range 3 {
		p := b.m.getPeer(nli(i, "192.0.2.1"))
		b.m.ref(p)
		used = append(used, p)
	}
	if b.m.getPeer(nli(3, "192.0.2.1")) != nil {
		t.Error("a fourth identity of one address")
	}
	if b.m.getPeer(nli(1, "192.0.2.1")) != used[1] {
		t.Error("a known one is not found any more")
	}
	for i := range 1000 {
		p := b.m.getPeer(nli(i, "192.0.2.2"))
		if p == nil {
			t.Fatalf("identity %d: peers that nothing uses fill the table", i)
		}
		b.m.ref(p) // used once, and let go
		b.m.unref(p)
	}
	if n := len(b.m.peers); n != 8 || len(b.m.bySII) != 8 || len(b.m.timers.heap) != 5 {
		t.Errorf("%d peers, %d handles, %d timers; want 8, 8 and 5", n, len(b.m.bySII), len(b.m.timers.heap))
	}
	if b.m.findPeer(nli(994, "192.0.2.2")) != nil || b.m.findPeer(nli(995, "192.0.2.2")) == nil {
		t.Error("the oldest did not go first")
	}
	for i := range 5 {
		b.m.ref(b.m.getPeer(nli(i, fmt.Sprintf("192.0.3.%d", i))))
	}
	if b.m.getPeer(nli(9, "192.0.2.9")) != nil {
		t.Error("a ninth that is used")
	}
	for _, p := range used {
		b.m.unref(p)
	}
	if len(b.m.hosts) != 5 {
		t.Errorf("%d hosts, want 5", len(b.m.hosts))
	}
}

// In the last quarter of the table an address that is not configured gets no
// more than half of an equal share; who is configured fills it up.
func TestRoutingTableIsShared(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits.RoutingStates = 100 })
	made := func(a netip.Addr, n int) (got int) {
		p := b.m.getPeer(&wire.NLI{PeerIdentity: []byte(a.String()), Address: a})
		for range n {
			if !b.m.roomFor(a) {
				continue
			}
			mri, sid := pc, testSID(int(b.m.lastSII)*1000+b.m.stats.RoutingStates)
			if r := b.m.newRouting(testNSLP, sid, &mri, false); r != nil {
				b.m.setPeer(r, p)
				got++
			}
		}
		return got
	}
	if got := made(addr("192.0.2.1"), 200); got != 75 {
		t.Errorf("one stranger takes %d of 100, want 75", got)
	}
	if got := made(addr("192.0.2.2"), 200); got != 25-1 && got != 25 {
		t.Errorf("another takes %d of the 25 that are left, want them", got)
	}
	b.m.cfg.Limits.RoutingStates = 200
	if got := made(q1Addr, 200); got < 100 {
		t.Errorf("a configured peer takes %d, want what is left", got)
	}
}

// RFC 5971 §8.4: "set up large numbers of associations that were never used": a
// peer has a bounded number, and an unused one makes room for the next.
func TestAcceptedAssociationsOfOnePeer(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits.AcceptedPerPeer = 3 })
	var queries, responses [5]wire.Message
	for i := range queries { // all before the first association, so that none is reused
		queries[i] = mustQuery(testSID(i))
		responses[i] = b.response(b.udp(&queries[i]))
	}
	confirm := func(i int) []Action {
		q, r := queries[i], responses[i]
		id := ConnID(2 * (i + 1))
		b.do(ConnAccepted{Conn: id, Remote: netip.AddrPortFrom(q1Addr, 4000)})
		c := confirmTo(&q, &r)
		return b.conn(id, &c)
	}
	for i := range 3 {
		confirm(i)
	}
	if s := b.m.Stats(); s.Associations != 3 || s.RoutingStates != 3 {
		t.Fatalf("%+v", s)
	}
	if acts := confirm(3); !closes(acts, 8) || b.m.Stats().RoutingStates != 3 {
		t.Errorf("a fourth while all are used: %v", acts)
	}
	b.do(SetStateLifetime{NSLPID: testNSLP, SID: testSID(1), MRI: hop12.Reverse()})
	if acts := confirm(4); !closes(acts, 4) || closes(acts, 10) {
		t.Errorf("a fourth in place of the unused one: %v", acts)
	}
	if s := b.m.Stats(); s.Associations != 3 || s.RoutingStates != 3 {
		t.Errorf("%+v", s)
	}
	if err := b.m.consistent(); err != nil {
		t.Error(err)
	}
}

// A flood of MA-Hellos that ask for answers gets some.
func TestHelloFlood(t *testing.T) {
	b := newBench(t)
	b.confirmed(testSID(1))
	hello := wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, S: true, R: true}, HasHelloID: true, HelloID: 7}
	answers := 0
	for range 10_000 { // a second
		b.now = b.now.Add(100 * time.Microsecond)
		for _, a := range b.conn(accepted, &hello) {
			if _, ok := a.(*SendConn); ok {
				answers++
			}
		}
	}
	if answers < 10 || answers > 21 {
		t.Errorf("%d answers in a second to 10,000 MA-Hellos, want 10 to 21", answers)
	}
}

// RFC 5971 §5.3.3: many Queries that the rate limit puts off get a turn each: were all to wake up
// for each token, their number squared would be the work.
func TestDelayedQueriesTakeTurns(t *testing.T) {
	ch := newChain(t, 17, func(c *Config) {
		c.ValidityPathCoupled, c.MessageTimeout, c.DModeData = time.Hour, 10*time.Minute, true
		c.Limits.DModeRate, c.Limits.DModeBurst = 1000, 80
	})
	const n = 2000
	for i := range n {
		ch.a.sendUnreliable(testSID(i), pc, "x")
	}
	ch.net.Run(time.Minute)
	if len(ch.b.recv) != n || len(ch.a.status) != 0 {
		t.Errorf("%d of %d arrived, %d have failed", len(ch.b.recv), n, len(ch.a.status))
	}
	ch.a.check()
	if delays := ch.a.noted("query-delayed"); delays > 5*n {
		t.Errorf("%d Queries were put off %d times", n, delays)
	}
}

// Queries that seem to come from the neighbour, but from further away, cost the
// neighbour nothing of its rate at the edge.
func TestEdgeSpoofedNeighbourCostsNothing(t *testing.T) {
	e := testEdge(t, func(c *EdgeConfig) { c.Rate, c.Burst, c.ErrorRate, c.ErrorBurst = 10, 10, 10, 5 })
	far := fromNeighbor(edgeQuery(in12, nil))
	far.TTL = 250
	errs := 0
	for range 10_000 {
		sent, _ := outOf(e.Handle(testStart, far, false))
		errs += len(sent)
	}
	if errs != 5 {
		t.Errorf("%d Errors went out, want 5", errs)
	}
	for i := range 10 {
		if sent, notes := outOf(e.Handle(testStart, fromNeighbor(edgeQuery(in12, nil)), false)); len(sent) != 1 {
			t.Fatalf("the neighbour's Query %d was not relayed: %v", i, notes)
		}
	}
	bad := edgeQuery(in12, func(m *wire.Message) { m.MRI.Ingress = addr("192.0.2.99") })
	e = testEdge(t, func(c *EdgeConfig) { c.ErrorRate, c.ErrorBurst = 10, 5 })
	for range 100 {
		e.Handle(testStart, far, false)
	}
	if sent, _ := outOf(e.Handle(testStart, fromNeighbor(bad), false)); len(sent) != 1 {
		t.Error("the neighbour is not told why its Query is refused")
	}
}
