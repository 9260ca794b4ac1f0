package gist

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// natTable is a NAT that knows GIST, as RFC 5971 §7.2.3 describes one possible:
// static bindings between the addresses of its two sides, ports unchanged. Each
// call is one crossing: from is what an address is on the side that the message
// comes from, and the value what it is on the other.
type natTable map[netip.Addr]netip.Addr

func (n natTable) reversed() natTable {
	r := natTable{}
	for k, v := range n {
		r[v] = k
	}
	return r
}

func (n natTable) addr(a netip.Addr) netip.Addr {
	if b, ok := n[a]; ok {
		return b
	}
	return a
}

func (n natTable) prefix(p netip.Prefix) netip.Prefix {
	if b := n.addr(p.Addr()); b != p.Addr() {
		return netip.PrefixFrom(b, b.BitLen()-p.Addr().BitLen()+p.Bits())
	}
	return p
}

// translate rewrites a GIST datagram: what has C=1 or a NAT-Traversal object gets
// GIST-specific processing, all else passes as it is (RFC 5971 §7.2.2).
func (n natTable) translate(payload []byte) []byte {
	m, err := wire.ParseDatagram(payload)
	if err != nil || !m.C && m.NATTraversal == nil {
		return payload
	}
	if m.C {
		t := wire.NATTraversal{MRI: m.MRI, Translated: []uint16{uint16(wire.ObjNLI)}}
		if m.HasStackConfig {
			t.Translated = append(t.Translated, uint16(wire.ObjStackConfig))
		}
		if m.NATTraversal != nil { // not the first NAT
			first, err := wire.ParseNATTraversal(m.NATTraversal)
			if err != nil {
				panic(err)
			}
			t.MRI, t.Opaque = first.MRI, first.Opaque
		}
		t.Opaque = append(t.Opaque, m.NLI.Append(nil))
		m.NATTraversal = t.Append(nil)
		m.MRI.Flow.Source, m.MRI.Flow.Destination = n.prefix(m.MRI.Flow.Source), n.prefix(m.MRI.Flow.Destination)
	}
	if m.HasNLI {
		m.NLI.Address = n.addr(m.NLI.Address)
	}
	return m.AppendDatagram(nil)
}

// natBox is such a NAT on the simulated network, with everybody's packets of one
// side diverted to it.
type natBox struct {
	net     *simnet.Net
	host    *simnet.Host
	outward natTable
	aware   bool
}

// natTTL marks what the NAT has sent, in a network where nothing lowers it.
const natTTL = 200

func newNATBox(net *simnet.Net, outward natTable) *natBox {
	n := &natBox{net: net, outward: outward, aware: true}
	n.host = &simnet.Host{Name: "nat", Datagram: n.datagram, Accept: n.accept}
	for _, outer := range outward {
		net.Attach(n.host, outer)
	}
	return n
}

func (n *natBox) inside(a netip.Addr) bool { _, ok := n.outward[a]; return ok }

func (n *natBox) datagram(d simnet.Datagram) {
	table := n.outward
	if !n.inside(d.From.Addr()) {
		table = n.outward.reversed()
	}
	if n.aware {
		d.Payload = table.translate(d.Payload)
	}
	d.From = netip.AddrPortFrom(table.addr(d.From.Addr()), d.From.Port())
	d.To = netip.AddrPortFrom(table.addr(d.To.Addr()), d.To.Port())
	d.TTL = natTTL
	n.net.Send(d)
}

// accept passes a connection from outside on to the host inside.
func (n *natBox) accept(c *simnet.Conn) bool {
	to := n.outward.reversed().addr(c.Local.Addr())
	inner := n.net.Dial(c.Remote.Addr(), netip.AddrPortFrom(to, c.Local.Port()))
	var early [][]byte
	up := false
	inner.Up = func() {
		up = true
		for _, b := range early {
			inner.Send(b)
		}
	}
	c.Message = func(b []byte) {
		if up {
			inner.Send(b)
		} else {
			early = append(early, bytes.Clone(b))
		}
	}
	inner.Message = func(b []byte) { c.Send(b) }
	inner.Down = func(error) { c.Close() }
	c.Down = func(error) { inner.Close() }
	return true
}

// natSides is a querier and a responder with a NAT between them: a and b are
// their addresses on their own sides, and the MRIs each one's name of the flow.
type natSides struct {
	net        *simnet.Net
	nat        *natBox
	q, r       *simNode
	qMRI, rMRI wire.MRI
}

// newNATSides puts the querier inside, or outside.
func newNATSides(t *testing.T, seed uint64, inside bool, change ...func(*Config)) *natSides {
	t.Helper()
	net := simnet.New(seed, testStart)
	net.Default = simnet.Link{Delay: time.Millisecond}
	node := addr("10.0.0.1")
	table := natTable{node: addr("192.0.2.1"), addr("10.0.0.50"): addr("192.0.2.50")}
	s := &natSides{net: net, nat: newNATBox(net, table)}
	mk := func(a netip.Addr, name string) *simNode {
		cfg := Config{Identity: []byte(name), Address: a, Route: func(wire.MRI) (QueryRoute, error) {
			return QueryRoute{TTL: 64, RouterAlert: true}, nil
		}}
		for _, f := range change {
			f(&cfg)
		}
		return newSimNode(t, net, cfg)
	}
	flow := func(from, to string) wire.MRI {
		return wire.MRI{Flow: wire.Flow{Source: netip.MustParsePrefix(from), Destination: netip.MustParsePrefix(to), HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 5004}}
	}
	if inside {
		s.q, s.r = mk(node, "inner"), mk(bAddr, "outer")
		s.qMRI, s.rMRI = flow("10.0.0.50/32", "203.0.113.9/32"), flow("192.0.2.50/32", "203.0.113.9/32")
	} else {
		s.q, s.r = mk(bAddr, "outer"), mk(node, "inner")
		s.qMRI, s.rMRI = flow("203.0.113.9/32", "192.0.2.50/32"), flow("203.0.113.9/32", "10.0.0.50/32")
	}
	nowhere := &simnet.Host{Name: "nowhere", Datagram: func(simnet.Datagram) {}}
	net.Divert = func(d simnet.Datagram) *simnet.Host {
		switch from := d.From.Addr(); {
		case s.nat.inside(from) && !s.nat.inside(d.To.Addr()): // on its way out
			return s.nat.host
		case !s.nat.inside(from) && s.nat.inside(d.To.Addr()) && d.TTL != natTTL:
			return nowhere // inside addresses are not routed outside
		case !d.RouterAlert:
			return nil
		case from == s.q.cfg.Address && !inside: // from outside, not translated yet
			if d.To.Addr() == s.qMRI.Flow.Destination.Addr() {
				return s.nat.host
			}
			return s.r.host
		default:
			return s.r.host
		}
	}
	return s
}

// RFC 5971 §7.2.2, RFC 5971 §7.2.3: a handshake, Data over an association and in
// D-mode, in both directions, and refreshes, through a NAT that knows GIST, the
// Querying node inside or outside. Each application sees the MRI of its own side
// only; no refresh is taken for a route change.
func TestGISTAwareNAT(t *testing.T) {
	for _, inside := range []bool{true, false} {
		for _, dmode := range []bool{false, true} {
			s := newNATSides(t, 100, inside, func(c *Config) { c.DModeData = dmode })
			var onTCP int
			s.net.Tap = func(kind string, _, _ netip.AddrPort, payload []byte) {
				if kind == "tcp" {
					onTCP++
				}
			}
			s.r.onRecv = func(r RecvMessage) { s.r.sendUnreliable(r.SID, r.MRI.Reverse(), "back") }
			s.q.sendUnreliable(testSID(1), s.qMRI, "data")
			s.net.Run(time.Second)
			if s.r.received["data"] != 1 || s.q.received["back"] != 1 || (onTCP == 0) != dmode {
				t.Fatalf("inside %v, D-mode %v: r %v %v, q %v %v %v; %d on TCP", inside, dmode, s.r.received, s.r.notes, s.q.received, s.q.notes, s.q.status, onTCP)
			}
			if got := s.r.recv[0]; got.MRI != s.rMRI || got.Peer != s.nat.outward.addr(s.q.cfg.Address) {
				t.Errorf("inside %v: r got %+v, want %+v", inside, got, s.rMRI)
			}
			if got := s.q.recv[0]; got.MRI != s.qMRI.Reverse() || got.Peer != s.nat.outward.addr(s.r.cfg.Address) {
				t.Errorf("inside %v: q got %+v, want %+v", inside, got, s.qMRI.Reverse())
			}
			// Explicitly routed messages are translated too, as long as there is
			// state (RFC 5971 §7.1.4).
			s.r.do(SendMessage{NSLPData: []byte("expl"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: s.rMRI.Reverse(), SII: s.r.recv[0].SII, Attr: TransferAttributes{Reliable: !dmode}})
			s.net.Run(time.Second)
			if s.q.received["expl"] != 1 || s.q.recv[1].MRI != s.qMRI.Reverse() {
				t.Errorf("inside %v, D-mode %v: q got %+v; r was told %v", inside, dmode, s.q.recv, s.r.status)
			}
			s.q.onRecv, s.r.onRecv = nil, nil
			told := len(s.q.notices) + len(s.r.notices)
			s.net.Run(5 * time.Minute)
			for i := range 3 {
				s.q.sendUnreliable(testSID(1), s.qMRI, "more")
				s.r.sendUnreliable(testSID(1), s.rMRI.Reverse(), "and more")
				s.net.Run(time.Minute)
				if s.r.received["more"] != i+1 || s.q.received["and more"] != i+1 {
					t.Errorf("inside %v, D-mode %v: r %v, q %v", inside, dmode, s.r.received, s.q.received)
				}
			}
			if n := len(s.q.notices) + len(s.r.notices); n != told || len(s.q.status)+len(s.r.status) != 0 || s.q.noted("nat")+s.r.noted("nat") != 0 {
				t.Errorf("inside %v, D-mode %v: refreshes told %v %v; %v %v", inside, dmode, s.q.notices, s.r.notices, s.q.status, s.r.status)
			}
			s.q.check()
			s.r.check()
		}
	}
}

// Through a NAT and a bad network: what is sent arrives, once and in order, under
// the receiver's name of the flow, through lost state and lost connections, and
// afterwards the two tables agree.
func TestGISTAwareNATOnABadNetwork(t *testing.T) {
	for seed := range uint64(10) {
		s := newNATSides(t, seed, seed%2 == 0, func(c *Config) { c.MessageTimeout = 5 * time.Minute })
		s.net.Default.Loss, s.net.Default.Duplicate, s.net.Default.Jitter = 0.2, 0.2, 30*time.Millisecond
		var got, back []byte
		s.r.onRecv = func(r RecvMessage) {
			if r.MRI != s.rMRI {
				t.Fatalf("seed %d: r got %+v", seed, r)
			}
			got = append(got, r.Data[0])
			s.r.send(r.SID, r.MRI.Reverse(), string(r.Data))
		}
		s.q.onRecv = func(r RecvMessage) {
			if r.MRI != s.qMRI.Reverse() {
				t.Fatalf("seed %d: q got %+v", seed, r)
			}
			back = append(back, r.Data[0])
		}
		for i := range byte(20) {
			s.q.send(testSID(1), s.qMRI, string(rune('a'+i)))
			s.net.Run(20 * time.Second) // refreshes between
		}
		s.net.Run(time.Minute)
		if string(got) != "abcdefghijklmnopqrst" || !bytes.Equal(got, back) || len(s.q.status)+len(s.r.status) != 0 {
			t.Errorf("seed %d: r got %q, q %q; %v %v", seed, got, back, s.q.status, s.r.status)
		}
		s.q.check()
		s.r.check()
		s.q.forget(testSID(1), s.qMRI)
		s.r.forget(testSID(1), s.rMRI.Reverse())
		s.net.Run(2 * time.Hour)
		s.q.wantEmpty()
		s.r.wantEmpty()
	}
}

// What is lost is asked for again through the NAT: "No Routing State" about Data
// comes back under the Querying node's name of the flow (RFC 5971 §4.4.6).
func TestGISTAwareNATLostState(t *testing.T) {
	s := newNATSides(t, 101, true)
	s.q.send(testSID(1), s.qMRI, "one.")
	s.net.Run(time.Second)
	r := s.r.m.lookup(testNSLP, testSID(1), ptr(s.rMRI.Reverse()))
	if r == nil || r.nat == nil || *r.nat != s.qMRI.Reverse() {
		t.Fatalf("r has %+v", r)
	}
	s.r.m.destroy(r, ErrForgotten)
	s.q.send(testSID(1), s.qMRI, "two.")
	s.net.Run(2 * time.Second)
	if s.r.received["two."] != 1 || s.q.noted("error-received") == 0 {
		t.Errorf("r got %v; q %v", s.r.received, s.q.notes)
	}
}

// An Error about the Query finds the Querying node's state by the MRI in the
// NAT-Traversal object: RFC 5971 §7.2.3.
func TestGISTAwareNATErrorToQuery(t *testing.T) {
	s := newNATSides(t, 102, true, func(c *Config) {
		c.IngressFilter = func(netip.Prefix, Ingress) bool { return false }
	})
	s.q.send(testSID(1), s.qMRI, "one.")
	s.net.Run(time.Second)
	var refused *RefusedError
	if len(s.q.status) != 1 || !errors.As(s.q.status[0].Err, &refused) || refused.ID != wire.IngressFilterFailure {
		t.Errorf("q was told %v; %v", s.q.status, s.q.notes)
	}
}

// RFC 5971 §7.2.1: a NAT that does not know GIST is found, and ends the handshake
// with an error: with the Querying node inside by the Responding node, once a
// Query has S=1; with it outside by the Querying node.
func TestLegacyNATEndsTheHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		inside, flowSource bool
		note               string
	}{
		"inside, S=1":          {true, false, "nat"},
		"inside, S=0 at first": {true, true, "nat"},
		"outside":              {false, false, "nat"},
	} {
		s := newNATSides(t, 103, c.inside, func(cfg *Config) { cfg.FlowSource = c.flowSource })
		s.nat.aware = false
		s.q.send(testSID(1), s.qMRI, "one.")
		s.net.Run(5 * time.Second)
		if len(s.q.status) != 1 || !errors.Is(s.q.status[0].Err, ErrPeerRefused) || s.q.noted(c.note)+s.r.noted(c.note) == 0 {
			t.Errorf("%s: q was told %v; %v %v", name, s.q.status, s.q.notes, s.r.notes)
		}
		s.q.wantEmpty()
		s.r.wantEmpty()
	}
}

// natQuery is a Query as it has come through NATs.
func natQuery(mri wire.MRI, change func(*wire.NATTraversal), more ...func(*wire.Message, *Datagram)) Datagram {
	return queryOf(mri, cAddr, append([]func(*wire.Message, *Datagram){func(m *wire.Message, _ *Datagram) {
		original := mri
		original.Flow.Source = netip.MustParsePrefix("10.0.0.50/32")
		n := wire.NATTraversal{MRI: original, Translated: []uint16{uint16(wire.ObjNLI), uint16(wire.ObjStackConfig)}, Opaque: [][]byte{[]byte("state")}}
		if change != nil {
			change(&n)
		}
		m.NATTraversal = n.Append(nil)
	}}, more...)...)
}

// RFC 5971 §7.2.3: what the Responding node does with the object: it comes back
// first in the Response, whose MRI is the local one; and first in any Error.
// Objects that no NAT translated are refused with "Untranslated Object".
func TestNATTraversalObject(t *testing.T) {
	list := func(types ...wire.ObjectType) func(*wire.NATTraversal) {
		return func(n *wire.NATTraversal) {
			n.Translated = nil
			for _, x := range types {
				n.Translated = append(n.Translated, uint16(x))
			}
		}
	}
	bare := func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false }
	for name, c := range map[string]struct {
		d    Datagram
		want wire.ErrorID
		of   wire.ObjectType
	}{
		"translated":              {d: natQuery(pc, nil)},
		"two NATs":                {d: natQuery(pc, func(n *wire.NATTraversal) { n.Opaque = append(n.Opaque, []byte("x")) })},
		"no stack, not listed":    {d: natQuery(pc, list(wire.ObjNLI), bare)},
		"NLI not translated":      {d: natQuery(pc, list(wire.ObjStackConfig)), want: wire.UntranslatedObject, of: wire.ObjNLI},
		"stack not translated":    {d: natQuery(pc, list(wire.ObjNLI)), want: wire.UntranslatedObject, of: wire.ObjStackConfig},
		"nothing translated":      {d: natQuery(pc, list()), want: wire.UntranslatedObject, of: wire.ObjNLI},
		"another method":          {d: natQuery(pc, func(n *wire.NATTraversal) { n.MRI = loose }), want: wire.ValueNotSupported},
		"another direction":       {d: natQuery(pc, func(n *wire.NATTraversal) { n.MRI = n.MRI.Reverse() }), want: wire.ValueNotSupported},
		"any other error":         {d: natQuery(pc, nil, func(m *wire.Message, _ *Datagram) { m.NSLPID = 99 }), want: wire.EndpointFound},
		"and a legacy NAT beside": {d: natQuery(pc, nil, func(_ *wire.Message, d *Datagram) { d.From = netip.AddrPortFrom(addr("192.0.2.200"), 4000) }), want: wire.UntranslatedObject, of: wire.ObjMRI},
	} {
		b := onPath(t, func(cfg *Config) { cfg.Address = bAddr })
		in, err := wire.ParseDatagram(c.d.Payload)
		if err != nil {
			t.Fatal(err)
		}
		sent, parsed := sentTo(t, b.do(c.d))
		if len(sent) != 1 {
			t.Errorf("%s: sent %v", name, sent)
			continue
		}
		m := parsed[0]
		if head := sent[0].Payload[wire.MagicLen+wire.HeaderLen:]; head[0] != 0 || head[1] != byte(wire.ObjNATTraversal) || !bytes.Equal(m.NATTraversal, in.NATTraversal) {
			t.Errorf("%s: answer begins with % x, want the NAT-Traversal object", name, head[:4])
		}
		switch {
		case c.want == 0 && (m.Type != wire.Response || m.MRI != pc.Reverse() || m.NLI.Address != bAddr):
			t.Errorf("%s: answered with %+v", name, m)
		case c.want != 0 && (m.Error == nil || m.Error.ID != c.want):
			t.Errorf("%s: answered with %v %+v, want %v", name, m.Type, m.Error, c.want)
		case c.want == wire.UntranslatedObject:
			if n, ok := m.Error.Info[0].Number(); !ok || wire.ObjectType(n) != c.of || sent[0].To != c.d.From {
				t.Errorf("%s: about object %d to %v, want %v to %v", name, n, sent[0].To, c.of, c.d.From)
			}
		}
		if b.m.Stats().RoutingStates != 0 {
			t.Errorf("%s: a Query has left state", name)
		}
	}
}

// RFC 5971 §7.2.3: "a Responding node that wishes to delay state installation [...]
// must somehow reconstruct the translations when the Confirm arrives": the
// Responder-Cookie has them, and vouches for them and for the Confirm's own MRI.
func TestNATConfirm(t *testing.T) {
	handshake := func(change func(*wire.Message, *Datagram)) (*bench, []Action) {
		b := onPath(t, func(c *Config) { c.Address, c.DModeData = bAddr, true })
		noStack := func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false }
		d := natQuery(pc, nil, noStack)
		q, _ := wire.ParseDatagram(d.Payload)
		r := b.response(b.do(d))
		confirm := confirmTo(&q, &r)
		confirm.MRI.Flow.Source = netip.MustParsePrefix("10.0.0.50/32") // as before the NAT
		confirm.NLI.Address, confirm.NLI.PeerIdentity = addr("10.0.0.1"), []byte("me, inside")
		confirm.HasStackConfig = false
		in := Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: d.From}
		change(&confirm, &in)
		in.Payload = confirm.AppendDatagram(nil)
		return b, b.do(in)
	}
	b, _ := handshake(func(*wire.Message, *Datagram) {})
	r := b.m.lookup(testNSLP, testSID(5), ptr(pc.Reverse()))
	if r == nil || r.peer.addr != cAddr || r.peer.id != "q1" || r.nat == nil || r.nat.Flow.Source.Addr() != addr("10.0.0.50") {
		t.Fatalf("state %+v", r)
	}
	for name, change := range map[string]func(*wire.Message, *Datagram){
		"another MRI":    func(m *wire.Message, _ *Datagram) { m.MRI.Flow.DstPort++ },
		"the translated": func(m *wire.Message, _ *Datagram) { m.MRI = pc },
		"another SID":    func(m *wire.Message, _ *Datagram) { m.SID = testSID(6) },
		"not a NAT's": func(m *wire.Message, _ *Datagram) {
			m.ResponderCookie = bytes.Clone(m.ResponderCookie)
			m.ResponderCookie[9] &^= cookieNAT
		},
		"cut to its length": func(m *wire.Message, _ *Datagram) { m.ResponderCookie = m.ResponderCookie[:cookieLen] },
		"cut further":       func(m *wire.Message, _ *Datagram) { m.ResponderCookie = m.ResponderCookie[:cookieLen+8] },
		"another NLI": func(m *wire.Message, _ *Datagram) {
			m.ResponderCookie = slices.Clone(m.ResponderCookie)
			m.ResponderCookie[cookieLen+4+8] ^= 1
		},
		"a huge NLI": func(m *wire.Message, _ *Datagram) {
			m.ResponderCookie = slices.Clone(m.ResponderCookie)
			m.ResponderCookie[cookieLen] = 0xff
		},
		"from elsewhere": func(_ *wire.Message, d *Datagram) { d.From = netip.AddrPortFrom(addr("192.0.2.200"), testPort) },
	} {
		b, actions := handshake(change)
		if b.m.Stats().RoutingStates != 0 {
			t.Errorf("%s: state was made; %v", name, actions)
		}
		// What the cookie says counts only if the cookie is good.
		if name == "another NLI" && (b.m.natted.renamed || b.m.in.MRI.Flow.Source.Addr() != addr("10.0.0.50") || b.m.in.NLI.Address != addr("10.0.0.1")) {
			t.Errorf("%s: the Confirm became %+v", name, b.m.in)
		}
	}
}

// An error about a message that no NAT touched names the flow as the message did:
// its sender knows no other name. RFC 5971 §7.2.2
func TestErrorBehindNATHasTheWireMRI(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Address, c.DModeData = bAddr, true })
	d := natQuery(pc, nil, func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false })
	q, _ := wire.ParseDatagram(d.Payload)
	r := b.response(b.do(d))
	confirm := confirmTo(&q, &r)
	confirm.MRI.Flow.Source, confirm.HasStackConfig = netip.MustParsePrefix("10.0.0.50/32"), false
	b.do(Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: d.From, Payload: confirm.AppendDatagram(nil)})
	stranger := addr("192.0.2.77")
	data := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: confirm.MRI, HasSID: true, SID: testSID(5), NSLPData: []byte("data"),
		HasNLI: true, NLI: wire.NLI{Address: stranger, PeerIdentity: []byte("x"), ValidityMS: 1000},
	}
	_, parsed := sentTo(t, b.do(Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: netip.AddrPortFrom(stranger, testPort), Payload: data.AppendDatagram(nil)}))
	if len(parsed) != 1 || parsed[0].Error == nil || parsed[0].Error.ID != wire.NoRoutingState || parsed[0].Error.MRI != confirm.MRI {
		t.Errorf("answered with %+v", parsed)
	}
}

// Two nodes behind two NATs may call their flows by one name and use one SID:
// their messages are told apart by who sends them.
func TestOneNameBehindTwoNATs(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Address, c.DModeData = bAddr, true })
	name := pc
	name.Flow.Source = netip.MustParsePrefix("10.0.0.50/32")
	noStack := func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false }
	peers := []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), cAddr}
	local := []wire.MRI{pc, pc, name} // the last is behind no NAT
	local[1].Flow.Source = netip.MustParsePrefix("192.0.2.52/32")
	for i, peer := range peers {
		as := func(m *wire.Message, d *Datagram) {
			m.NLI.Address, m.NLI.PeerIdentity, d.From = peer, []byte{byte(i)}, netip.AddrPortFrom(peer, testPort)
			if i == 2 {
				m.NATTraversal = nil
			}
		}
		d := natQuery(local[i], nil, noStack, as)
		q, _ := wire.ParseDatagram(d.Payload)
		r := b.response(b.do(d))
		confirm := confirmTo(&q, &r)
		confirm.MRI, confirm.HasStackConfig = name, false
		b.do(Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: d.From, Payload: confirm.AppendDatagram(nil)})
	}
	if n := b.m.Stats().RoutingStates; n != 3 {
		t.Fatalf("%d states", n)
	}
	for i := range peers {
		if r := b.m.lookup(testNSLP, testSID(5), ptr(local[i].Reverse())); r == nil || (r.nat == nil) != (i == 2) {
			t.Errorf("state %d: %+v", i, r)
		}
	}
	for i, peer := range peers {
		data := wire.Message{
			Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Data, S: true},
			HasMRI: true, MRI: name, HasSID: true, SID: testSID(5), NSLPData: []byte("data"),
			HasNLI: true, NLI: wire.NLI{Address: addr("10.0.0.1"), PeerIdentity: []byte{byte(i)}, ValidityMS: 1000},
		}
		if i == 2 {
			data.NLI.Address = peer
		}
		var got []RecvMessage
		for _, a := range b.do(Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: netip.AddrPortFrom(peer, testPort), Payload: data.AppendDatagram(nil)}) {
			if r, ok := a.(*RecvMessage); ok {
				got = append(got, *r)
			}
		}
		if len(got) != 1 || got[0].MRI != local[i] || got[0].Peer != peer {
			t.Errorf("from %v: %+v, want %+v", peer, got, local[i])
		}
	}
}

// RFC 5971 §7.4: a packet translator is "essentially the same [...] as any other
// NAT": on one side the flow is IPv4, on the other IPv6.
func TestPacketTranslator(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Address, c.Addresses, c.DModeData = bAddr, []netip.Addr{bAddr6}, true })
	noStack := func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false }
	d := natQuery(pc6, func(n *wire.NATTraversal) { n.MRI = pc }, noStack)
	q, _ := wire.ParseDatagram(d.Payload)
	r := b.response(b.do(d))
	confirm := confirmTo(&q, &r)
	confirm.MRI, confirm.NLI.Address, confirm.HasStackConfig = pc, addr("10.0.0.1"), false
	b.do(Datagram{Local: netip.AddrPortFrom(bAddr6, testPort), From: d.From, Payload: confirm.AppendDatagram(nil)})
	sent, parsed := sentTo(t, b.do(SendMessage{NSLPData: []byte("back"), NSLPID: testNSLP, SID: testSID(5), MRI: pc6.Reverse()}))
	if len(sent) != 1 || parsed[0].MRI != pc.Reverse() || !sent[0].To.Addr().Is6() {
		t.Errorf("sent %+v", parsed)
	}
}

// Data in Q-mode through a NAT that knows GIST: "a subset of the operations is
// applicable" (RFC 5971 §7.2.3).
func TestQModeDataThroughNAT(t *testing.T) {
	s := newNATSides(t, 104, true, qmodeData)
	s.q.sendStateless(testSID(1), s.qMRI, "fly.", 9)
	s.net.Run(time.Second)
	if len(s.r.recv) != 1 || s.r.recv[0].MRI != s.rMRI || s.r.recv[0].Peer != addr("192.0.2.1") {
		t.Errorf("r got %+v; %v", s.r.recv, s.r.notes)
	}
	s.r.wantEmpty()
}
