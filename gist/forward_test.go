package gist

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

const otherNSLP = wire.NSLPID(77) // nobody here serves it

// newTransit returns a machine on the way of testFlow, and its Transit.
func newTransit(t *testing.T, change ...func(*Config)) (*bench, *Transit) {
	t.Helper()
	return newBench(t, append([]func(*Config){func(c *Config) {
		c.Edges = nil
		c.Route = func(wire.MRI) (QueryRoute, error) { return QueryRoute{}, errors.New("nowhere to go") }
	}}, change...)...), &Transit{Header: []byte("the packet's own")}
}

// transitQuery is a Path-Coupled Query of a, for whoever is on the way.
func transitQuery(nslp wire.NSLPID, hops uint8) wire.Message {
	return wire.Message{
		Header: wire.Header{Type: wire.Query, NSLPID: nslp, HopCount: hops, C: true, R: true},
		HasMRI: true, MRI: pc, HasSID: true, SID: testSID(1),
		HasNLI:      true,
		NLI:         wire.NLI{PeerIdentity: []byte("a"), Address: aAddr, ValidityMS: 30000, IPTTL: 64},
		QueryCookie: []byte("cookie, 16 octet"),
		NSLPData:    []byte("not read"),
	}
}

var (
	flowSource = netip.AddrPortFrom(testFlow.Source.Addr(), testPort)
	flowEnd    = netip.AddrPortFrom(testFlow.Destination.Addr(), testPort)
)

func inTransit(tr *Transit, payload []byte, ttl uint8) Datagram {
	return Datagram{Local: flowEnd, From: flowSource, TTL: ttl, RouterAlert: true, Transit: tr, Payload: payload}
}

// sole returns the only action of type A, and the Notes' kinds.
func sole[A Action](t *testing.T, actions []Action) (a A, kinds []string) {
	t.Helper()
	found := 0
	for _, x := range actions {
		note, isNote := x.(Note)
		if isNote {
			kinds = append(kinds, note.Kind)
		}
		if wanted, ok := x.(A); ok {
			a = wanted
			found++
		} else if !isNote {
			t.Errorf("unexpected %T: %+v", x, x)
		}
	}
	if found != 1 {
		t.Fatalf("%d actions of type %T in %+v", found, a, actions)
	}
	return a, kinds
}

// mustError returns the Error message of the only datagram among actions, which
// goes to a.
func mustError(t *testing.T, actions []Action) *wire.ErrorData {
	t.Helper()
	d, _ := sole[SendDatagram](t, actions)
	if d.To.Addr() != aAddr {
		t.Errorf("the Error goes to %v, want the querier %v", d.To, aAddr)
	}
	m, err := wire.ParseDatagram(d.Payload)
	if err != nil || m.Type != wire.Error {
		t.Fatalf("%v %v, want an Error", m.Type, err)
	}
	return m.Error
}

// RFC 5971 §4.3.4, cases 2 and 3: what is for no application here is forwarded,
// the GIST hop count decremented and every other octet as it was; §4.3.2: so is
// what the application declines. §3.3: "it does not matter if these nodes support
// the MRM or not".
func TestForwardsUnharmed(t *testing.T) {
	declining := func(c *Config) {
		c.AcceptPeer = func(o PeerOffer) PeerAnswer {
			if o.NSLPID != testNSLP || string(o.Data) != "not read" || o.Peer != aAddr {
				t.Errorf("asked about %+v", o)
			}
			return PeerAnswer{}
		}
	}
	never := func(c *Config) {
		c.AcceptPeer = func(PeerOffer) PeerAnswer {
			t.Error("asked about a message that is for no application here")
			return PeerAnswer{Accept: true}
		}
	}
	other := transitQuery(otherNSLP, 9)
	own := transitQuery(testNSLP, 9)
	unknownMRM := own.AppendDatagram(nil)
	unknownMRM[wire.MagicLen+wire.HeaderLen+4] = 99
	offPath := transitQuery(testNSLP, 9)
	offPath.MRI = hop12
	future := other.AppendDatagram(nil)
	future[wire.MagicLen+6] = 0x80 | 0x55 // a type that does not exist: another NSLPID's affair
	rest := other.AppendDatagram(nil)
	copy(rest[wire.MagicLen+wire.HeaderLen:], "the rest MUST NOT be inspected")
	for _, c := range []struct {
		name    string
		change  func(*Config)
		payload []byte
	}{
		{"NSLPID of nobody", never, other.AppendDatagram(nil)},
		{"declined", declining, own.AppendDatagram(nil)},
		{"unknown MRM", never, unknownMRM},
		{"Off-Path, to somebody else", never, offPath.AppendDatagram(nil)},
		{"unknown type for an NSLPID of nobody", never, future},
		{"rest is not GIST", never, rest},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, tr := newTransit(t, c.change)
			before := bytes.Clone(c.payload)
			f, kinds := sole[ForwardDatagram](t, b.do(inTransit(tr, c.payload, 17)))
			want := inTransit(tr, bytes.Clone(before), 17)
			want.Payload[wire.MagicLen+wire.HopCountOffset] = 8
			got := f.Datagram
			if got.From != want.From || got.Local != want.Local || got.TTL != 17 || !got.RouterAlert || got.Transit != tr || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("forwards %+v, want %+v", got, want)
			}
			if !bytes.Equal(c.payload, before) {
				t.Error("the event's payload was changed")
			}
			if len(kinds) != 1 || kinds[0] != "forwarded" || b.m.Stats().Forwarded != 1 || b.m.Stats().RoutingStates != 0 {
				t.Errorf("notes %v, stats %+v", kinds, b.m.Stats())
			}
		})
	}
}

// RFC 5971 §4.3.2: "The application MAY provide an updated NSLP payload [...],
// which will be used in the Query forwarded by GIST"; all else is as it came.
func TestForwardsUpdatedPayload(t *testing.T) {
	for payload, forwarded := range map[string]string{"updated payload.": "updated payload.", "odd": "not read"} {
		b, tr := newTransit(t, func(c *Config) {
			c.AcceptPeer = func(PeerOffer) PeerAnswer { return PeerAnswer{Payload: []byte(payload)} }
		})
		q := transitQuery(testNSLP, 9)
		f, kinds := sole[ForwardDatagram](t, b.do(inTransit(tr, q.AppendDatagram(nil), 17)))
		want := transitQuery(testNSLP, 8)
		want.NSLPData = []byte(forwarded)
		if !bytes.Equal(f.Datagram.Payload, want.AppendDatagram(nil)) {
			t.Errorf("%q: forwards\n% x, want\n% x", payload, f.Datagram.Payload, want.AppendDatagram(nil))
		}
		if refused := len(kinds) == 2 && kinds[0] == "payload-refused"; refused != (payload == "odd") {
			t.Errorf("%q: notes %v", payload, kinds)
		}
	}
}

// RFC 5971 §4.3.1, §5.3.2.3: what does not match the Q-mode encapsulation is
// forwarded transparently, with its hop count.
func TestForwardsTransparently(t *testing.T) {
	own := transitQuery(testNSLP, 9)
	noMagic := own.AppendDatagram(nil)
	noMagic[0]++
	normal := transitQuery(testNSLP, 9)
	normal.Header = wire.Header{Type: wire.Data, NSLPID: testNSLP, HopCount: 0, S: true}
	normal.QueryCookie = nil
	for name, payload := range map[string][]byte{
		"nothing": nil, "no magic number": noMagic, "cut off": own.AppendDatagram(nil)[:wire.MagicLen+3], "normal Data": normal.AppendDatagram(nil),
	} {
		b, tr := newTransit(t)
		f, _ := sole[ForwardDatagram](t, b.do(inTransit(tr, payload, 2)))
		if !bytes.Equal(f.Datagram.Payload, payload) || f.Datagram.Transit != tr {
			t.Errorf("%s: forwards %+v", name, f.Datagram)
		}
	}
}

// RFC 5971 §4.3.4: "the IP-layer TTL MUST be decremented just as if the message
// was a normal IP forwarded packet": what has none left goes no further.
func TestTTLEndsInTransit(t *testing.T) {
	for _, ttl := range []uint8{0, 1} {
		b, tr := newTransit(t)
		q := transitQuery(otherNSLP, 9)
		if _, kinds := sole[Note](t, b.do(inTransit(tr, q.AppendDatagram(nil), ttl))); b.m.Stats().Forwarded != 0 {
			t.Errorf("TTL %d: forwarded; %v", ttl, kinds)
		}
	}
}

// RFC 5971 §4.3.4: "The GIST hop count has reached zero. The error 'Hop Limit
// Exceeded' SHOULD be returned to the sender"; §4.3.1 for our own NSLPID.
func TestHopCountEndsInTransit(t *testing.T) {
	decline := func(c *Config) { c.AcceptPeer = func(PeerOffer) PeerAnswer { return PeerAnswer{} } }
	for _, c := range []struct {
		nslp   wire.NSLPID
		hops   uint8
		change func(*Config)
	}{{otherNSLP, 0, nil}, {otherNSLP, 1, nil}, {testNSLP, 0, nil}, {testNSLP, 1, decline}} {
		if c.change == nil {
			c.change = func(*Config) {}
		}
		b, tr := newTransit(t, c.change)
		q := transitQuery(c.nslp, c.hops)
		e := mustError(t, b.do(inTransit(tr, q.AppendDatagram(nil), 17)))
		if e.ID != wire.HopLimitExceeded || e.Header.HopCount != c.hops || e.Header.NSLPID != c.nslp {
			t.Errorf("NSLPID %d, hop count %d: %+v", c.nslp, c.hops, e)
		}
	}
	// With one hop left for us, we can be the peer.
	b, tr := newTransit(t)
	q := transitQuery(testNSLP, 1)
	if r := b.response(b.do(inTransit(tr, q.AppendDatagram(nil), 17))); r.NLI.Address != q2Addr {
		t.Errorf("Response from %v", r.NLI.Address)
	}
}

// RFC 5971 §4.3.4: "The MRI represents a flow definition that is too general to
// be forwarded along a unique path [...]. If the GIST node does not understand
// the MRM in question, it MUST NOT apply this check".
func TestMRITooWildToForward(t *testing.T) {
	wild := func(m wire.Message) []byte {
		m.MRI.Flow.Destination = netip.PrefixFrom(m.MRI.Flow.Destination.Addr(), 7)
		return m.AppendDatagram(nil)
	}
	b, tr := newTransit(t)
	e := mustError(t, b.do(inTransit(tr, wild(transitQuery(otherNSLP, 9)), 17)))
	if e.ID != wire.MRITooWild || len(e.Info) != 1 || !e.HasMRI {
		t.Errorf("%+v", e)
	}
	foreign := wild(transitQuery(otherNSLP, 9))
	foreign[wire.MagicLen+wire.HeaderLen+4] = 99
	b, tr = newTransit(t)
	sole[ForwardDatagram](t, b.do(inTransit(tr, foreign, 17)))
}

// RFC 5971 §4.3.4: "The error 'Message Too Large' SHOULD be returned to the
// sender", with the MTU (§A.4.4.8).
func TestTooLargeToForward(t *testing.T) {
	b, tr := newTransit(t)
	q := transitQuery(otherNSLP, 9)
	f, _ := sole[ForwardDatagram](t, b.do(inTransit(tr, q.AppendDatagram(nil), 17)))
	e := mustError(t, b.do(NotForwarded{Datagram: f.Datagram, MTU: 512}))
	if n, ok := e.Info[0].Number(); e.ID != wire.MessageTooLarge || !ok || n != 512 || e.Header.HopCount != 9 || e.Header.NSLPID != otherNSLP {
		t.Errorf("%+v", e)
	}
	acts := b.do(NotForwarded{Datagram: f.Datagram}) // an Error without its MTU must not be
	if all, _ := errorsIn(acts); len(all) != 0 || !hasNote(acts, "too-large") {
		t.Errorf("without an MTU: %v", acts)
	}
	for _, payload := range [][]byte{nil, {1, 2, 3, 4, 5}, q.AppendDatagram(nil)[:6]} {
		if acts := b.do(NotForwarded{Datagram: Datagram{Transit: tr, Payload: payload}}); len(acts) != 0 {
			t.Errorf("% x: %v", payload, acts)
		}
	}
}

// What is malformed and for an application of ours is answered, as if it had
// been addressed to us (RFC 5971 §4.3.1: "passed up to the GIST layer").
func TestMalformedInTransit(t *testing.T) {
	b, tr := newTransit(t)
	q := transitQuery(testNSLP, 9)
	q.QueryCookie = nil
	if e := mustError(t, b.do(inTransit(tr, q.AppendDatagram(nil), 17))); e.ID != wire.MissingObject {
		t.Errorf("%+v", e)
	}
}

// An intercepted Query makes the node a peer, and one that is not wanted finds
// the next: b is passed by, c answers, and from then on a and c speak with each
// other. A loop of forwarders ends by the hop count.
func TestPassedByAndPeered(t *testing.T) {
	ch := newChain(t, 31, func(c *Config) {
		if c.Address == bAddr {
			c.NSLPIDs = []wire.NSLPID{otherNSLP}
		}
	})
	ch.net.Divert = func(d simnet.Datagram) *simnet.Host {
		if !d.RouterAlert {
			return nil
		}
		if d.Payload[wire.MagicLen+wire.HopCountOffset] == DefaultHopCount {
			return ch.b.host
		}
		return ch.c.host
	}
	ch.a.send(testSID(1), pc, "past b")
	ch.net.Run(time.Second)
	if ch.c.received["past b  "] != 1 || ch.b.m.Stats().Forwarded == 0 || ch.b.m.Stats().RoutingStates != 0 {
		t.Fatalf("c got %v; b %+v %v", ch.c.received, ch.b.m.Stats(), ch.b.notes)
	}
	if r := ch.c.recv[0]; r.Peer != aAddr || r.Distance != 7 { // twice three hops, and b
		t.Errorf("c was told %+v", r)
	}
	for _, n := range []*simNode{ch.a, ch.c} {
		n.check()
	}

	// b and c send a Query round in a circle.
	ch = newChain(t, 32, func(c *Config) {
		if c.Address != aAddr {
			c.NSLPIDs = []wire.NSLPID{otherNSLP}
		}
	})
	ch.net.Default.Hops = 0
	b := true
	ch.net.Divert = func(d simnet.Datagram) *simnet.Host {
		if !d.RouterAlert {
			return nil
		}
		b = !b
		if b {
			return ch.b.host
		}
		return ch.c.host
	}
	ch.a.send(testSID(2), pc, "lost")
	ch.net.Run(400 * time.Millisecond) // before the Query is sent again
	if n := ch.b.m.Stats().Forwarded + ch.c.m.Stats().Forwarded; n == 0 || n >= DefaultHopCount {
		t.Errorf("forwarded %d times", n)
	}
	if ch.a.noted("error-received") != 1 || len(ch.a.status) != 1 {
		t.Errorf("a: %v %v", ch.a.notes, ch.a.status)
	}
}
