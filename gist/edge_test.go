package gist

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The rules of section 3 of the InterDomain-QOSM design, one test each.

func testEdge(t *testing.T, change func(*EdgeConfig)) *Edge {
	t.Helper()
	cfg := EdgeConfig{
		Identity: []byte("edge"), Internal: e1Int, External: e1Ext, Port: testPort,
		Neighbor: e2inExt, NeighborAS: 65002, QNEs: []netip.Addr{q1Addr, addr("10.1.0.9")},
	}
	if change != nil {
		change(&cfg)
	}
	e, err := NewEdge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// edgeQuery is a Query as it arrives at testEdge, with changes.
func edgeQuery(mri wire.MRI, change func(*wire.Message)) []byte {
	m, err := wire.ParseDatagram(queryFor(testSID(1), "q", addr("10.7.7.7")))
	if err != nil {
		panic(err)
	}
	m.MRI = mri
	if change != nil {
		change(&m)
	}
	return m.AppendDatagram(nil)
}

// in12 is the MRI of a Query that comes in at testEdge from its neighbour.
var in12 = wire.MRI{Method: wire.OffPath, Flow: testFlow, Egress: e2inExt, Ingress: e1Ext}

func outOf(actions []Action) (sent []SendDatagram, notes []Note) {
	for _, a := range actions {
		switch a := a.(type) {
		case SendDatagram:
			sent = append(sent, a)
		case Note:
			notes = append(notes, a)
		}
	}
	return sent, notes
}

func fromQNE(payload []byte) Datagram {
	return Datagram{Local: netip.AddrPortFrom(e1Int, testPort), From: netip.AddrPortFrom(q1Addr, testPort), TTL: 64, Payload: payload}
}

func fromNeighbor(payload []byte) Datagram {
	return Datagram{Local: netip.AddrPortFrom(e1Ext, testPort), From: netip.AddrPortFrom(e2inExt, testPort), TTL: 255, RouterAlert: true, Payload: payload}
}

// "It decrements the hop count, changes no other octet, keeps the source port,
// and sends it from its external address to the Ingress Address, IP TTL 255,
// router alert option present."
func TestEdgeRelaysOutwards(t *testing.T) {
	in := edgeQuery(hop12, func(m *wire.Message) {
		m.Unknown = []wire.Object{{Type: 0x7ff, Value: []byte("keep")}} // AB=10
	})
	want := bytes.Clone(in)
	want[wire.MagicLen+wire.HopCountOffset]--
	kept := bytes.Clone(in)
	sent, notes := outOf(testEdge(t, nil).Handle(testStart, fromQNE(in), true))
	if len(sent) != 1 {
		t.Fatalf("sent %v, notes %v", sent, notes)
	}
	d := sent[0]
	if d.Local != e1Ext || d.To != netip.AddrPortFrom(e2inExt, testPort) || d.TTL != 255 || !d.RouterAlert || !bytes.Equal(d.Payload, want) {
		t.Errorf("sent %+v", d)
	}
	if !bytes.Equal(in, kept) {
		t.Error("the datagram that arrived was changed")
	}
}

// "... to the Ingress Address (or the flow's destination if none)"
func TestEdgeRelaysToTheDestinationWithoutIngress(t *testing.T) {
	mri := hop12
	mri.Ingress = netip.Addr{}
	sent, _ := outOf(testEdge(t, nil).Handle(testStart, fromQNE(edgeQuery(mri, nil)), true))
	if len(sent) != 1 || sent[0].To.Addr() != testFlow.Destination.Addr() {
		t.Errorf("sent %v", sent)
	}
}

// "It decrements the hop count and passes it on, without router alert, to the
// QNE that serves this edge."
func TestEdgeRelaysInwards(t *testing.T) {
	in := edgeQuery(in12, nil)
	want := bytes.Clone(in)
	want[wire.MagicLen+wire.HopCountOffset]--
	sent, notes := outOf(testEdge(t, nil).Handle(testStart, fromNeighbor(in), false))
	if len(sent) != 1 {
		t.Fatalf("notes %v", notes)
	}
	d := sent[0]
	if d.Local != e1Int || d.To != netip.AddrPortFrom(q1Addr, testPort) || d.RouterAlert || !bytes.Equal(d.Payload, want) {
		t.Errorf("sent %+v", d)
	}
}

// What is dropped without an answer; each leaves a Note.
func TestEdgeDrops(t *testing.T) {
	q := edgeQuery(hop12, nil)
	other := func(change func(*Datagram)) Datagram { d := fromQNE(q); change(&d); return d }
	data := wire.Message{Header: wire.Header{HopCount: 3, NSLPID: 1, Type: wire.Data}, HasMRI: true, MRI: hop12, HasSID: true, NSLPData: []byte("abcd")}
	pathCoupled := edgeQuery(wire.MRI{Flow: testFlow}, nil)
	cases := []struct {
		name     string
		d        Datagram
		internal bool
		kind     string
	}{
		{"a QNE that it does not serve", other(func(d *Datagram) { d.From = netip.MustParseAddrPort("10.1.0.77:1270") }), true, "stranger"},
		{"the neighbour's address on the inside", fromNeighbor(q), true, "stranger"},
		{"not the configured neighbour", Datagram{From: netip.MustParseAddrPort("192.0.2.77:1270"), TTL: 255, Payload: edgeQuery(in12, nil)}, false, "stranger"},
		{"a QNE of ours on the outside", fromQNE(q), false, "stranger"},
		{"not GIST", fromQNE([]byte("hello, world")), true, "not-gist"},
		{"empty", fromQNE(nil), true, "not-gist"},
		{"Data", fromQNE(data.AppendDatagram(nil)), true, "not-relayed"},
		{"Path-Coupled", fromQNE(pathCoupled), true, "not-relayed"},
		{"Path-Coupled from outside", fromNeighbor(pathCoupled), false, "not-relayed"},
		{"upstream", fromQNE(edgeQuery(hop12.Reverse(), nil)), true, "upstream-query"},
		{"cut short", fromQNE(q[:len(q)-4]), true, "malformed"},
		{"a source port that cannot be kept", other(func(d *Datagram) { d.From = netip.AddrPortFrom(q1Addr, 4000) }), true, "source-port"},
	}
	for _, c := range cases {
		e := testEdge(t, nil)
		sent, notes := outOf(e.Handle(testStart, c.d, c.internal))
		if len(sent) != 0 || len(notes) != 1 || notes[0].Kind != c.kind || e.Stats().Dropped != 1 {
			t.Errorf("%s: sent %v, notes %v, want %s", c.name, sent, notes, c.kind)
		}
	}
}

// RFC 5971 §5.6: what is refused with an Error message to the NLI's address.
func TestEdgeRefuses(t *testing.T) {
	ttl := func(n uint8) Datagram { d := fromNeighbor(edgeQuery(in12, nil)); d.TTL = n; return d }
	with := func(mri wire.MRI, f func(*wire.MRI)) []byte { f(&mri); return edgeQuery(mri, nil) }
	v6 := wire.MRI{Method: wire.OffPath, Flow: wire.Flow{Source: netip.MustParsePrefix("2001:db8::1/128"), Destination: netip.MustParsePrefix("2001:db8:1::1/128")}}
	cases := []struct {
		name     string
		d        Datagram
		internal bool
		cfg      func(*EdgeConfig)
		want     wire.ErrorID
	}{
		{"TTL 254", ttl(254), false, nil, wire.InvalidIPTTL},
		{"TTL not known", ttl(0), false, nil, wire.InvalidIPTTL},
		{"ingress of another border", fromQNE(with(hop12, func(m *wire.MRI) { m.Ingress = addr("192.0.2.99") })), true, nil, wire.IngressFilterFailure},
		{"egress of another border", fromQNE(with(hop12, func(m *wire.MRI) { m.Egress = addr("192.0.2.99") })), true, nil, wire.IngressFilterFailure},
		{"forwarding table disagrees", fromQNE(edgeQuery(hop12, nil)), true, func(c *EdgeConfig) { c.ForwardingCheck = func(wire.MRI) bool { return false } }, wire.IngressFilterFailure},
		{"inwards: not our interface", fromNeighbor(with(in12, func(m *wire.MRI) { m.Ingress = addr("192.0.2.99") })), false, nil, wire.IngressFilterFailure},
		{"inwards: not the neighbour's", fromNeighbor(with(in12, func(m *wire.MRI) { m.Egress = addr("192.0.2.99") })), false, nil, wire.IngressFilterFailure},
		{"source would be filtered", fromNeighbor(edgeQuery(in12, nil)), false, func(c *EdgeConfig) { c.IngressFilter = func(netip.Prefix, Ingress) bool { return false } }, wire.IngressFilterFailure},
		{"IPv6 flow on an IPv4 border", fromNeighbor(edgeQuery(v6, nil)), false, nil, wire.IPVersionMismatch},
		{"hop count 1", fromQNE(edgeQuery(hop12, func(m *wire.Message) { m.HopCount = 1 })), true, nil, wire.HopLimitExceeded},
		{"hop count 0", fromNeighbor(edgeQuery(in12, func(m *wire.Message) { m.HopCount = 0 })), false, nil, wire.HopLimitExceeded},
	}
	for _, c := range cases {
		sent, notes := outOf(testEdge(t, c.cfg).Handle(testStart, c.d, c.internal))
		if len(sent) != 1 || len(notes) != 1 || sent[0].To != netip.AddrPortFrom(addr("10.7.7.7"), testPort) {
			t.Errorf("%s: sent %v, notes %v", c.name, sent, notes)
			continue
		}
		m, err := wire.ParseDatagram(sent[0].Payload)
		if err != nil || m.Type != wire.Error || m.Error.ID != c.want || !m.HasNLI || !m.Error.QMode || m.Error.SID != testSID(1) {
			t.Errorf("%s: got %v %+v, want %v", c.name, err, m.Error, c.want)
		}
	}
}

// "within a rate limit per neighbour (mean N per second)"; and its errors are
// limited too.
func TestEdgeRateLimit(t *testing.T) {
	e := testEdge(t, func(c *EdgeConfig) { c.Rate, c.Burst, c.ErrorRate, c.ErrorBurst = 100, 10, 10, 5 })
	relayed, now := 0, testStart
	for range 10_000 { // ten seconds
		now = now.Add(time.Millisecond)
		sent, _ := outOf(e.Handle(now, fromNeighbor(edgeQuery(in12, nil)), false))
		relayed += len(sent)
	}
	if relayed < 1000 || relayed > 1012 {
		t.Errorf("%d relayed in 10 s at 100 a second", relayed)
	}
	// The other direction has its own limit.
	if sent, _ := outOf(e.Handle(now, fromQNE(edgeQuery(hop12, nil)), true)); len(sent) != 1 {
		t.Error("a flood from outside stops what goes out")
	}
	errs := 0
	e = testEdge(t, func(c *EdgeConfig) { c.ErrorRate, c.ErrorBurst = 10, 5 })
	bad := fromNeighbor(edgeQuery(in12, nil))
	bad.TTL = 9
	for range 100 {
		sent, _ := outOf(e.Handle(now, bad, false))
		errs += len(sent)
	}
	if errs != 5 {
		t.Errorf("%d Error messages at once, want 5", errs)
	}
}

func TestEdgeConfig(t *testing.T) {
	ok := EdgeConfig{Identity: []byte("e"), Internal: e1Int, External: e1Ext, Neighbor: e2inExt, QNEs: []netip.Addr{q1Addr}}
	if _, err := NewEdge(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*EdgeConfig){
		"identity": func(c *EdgeConfig) { c.Identity = nil },
		"internal": func(c *EdgeConfig) { c.Internal = netip.Addr{} },
		"same":     func(c *EdgeConfig) { c.External = c.Internal },
		"family":   func(c *EdgeConfig) { c.Neighbor = addr("2001:db8::1") },
		"qnes":     func(c *EdgeConfig) { c.QNEs = nil },
		"a QNE":    func(c *EdgeConfig) { c.QNEs = []netip.Addr{addr("2001:db8::1")} },
		"mapped":   func(c *EdgeConfig) { c.Internal = addr("::ffff:10.0.0.1") },
	} {
		c := ok
		change(&c)
		if _, err := NewEdge(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkEdge(b *testing.B) {
	e, err := NewEdge(EdgeConfig{Identity: []byte("e"), Internal: e1Int, External: e1Ext, Port: testPort, Neighbor: e2inExt, QNEs: []netip.Addr{q1Addr}, Rate: 1e9, Burst: 1e9})
	if err != nil {
		b.Fatal(err)
	}
	d := fromQNE(edgeQuery(hop12, nil))
	b.ReportAllocs()
	for b.Loop() {
		if len(e.Handle(testStart, d, true)) != 1 {
			b.Fatal("not relayed")
		}
	}
}

// Whatever arrives, an edge sends one datagram at most, and never a Query
// anywhere but across itself.
func FuzzEdge(f *testing.F) {
	f.Add(edgeQuery(hop12, nil), true, uint8(64))
	f.Add(edgeQuery(in12, nil), false, uint8(255))
	f.Add(edgeQuery(in12, nil), false, uint8(7))
	f.Add([]byte{0x4e, 4, 0xbd, 0xa5, 1, 1, 0, 0}, true, uint8(0))
	f.Fuzz(func(t *testing.T, payload []byte, internal bool, ttl uint8) {
		e := testEdge(t, nil)
		d := fromNeighbor(payload)
		if internal {
			d = fromQNE(payload)
		}
		d.TTL = ttl
		sent, notes := outOf(e.Handle(testStart, d, internal))
		if len(sent) > 1 || len(sent)+len(notes) == 0 {
			t.Fatalf("sent %d, noted %d", len(sent), len(notes))
		}
		for _, s := range sent {
			m, err := wire.ParseDatagram(s.Payload)
			if err != nil {
				t.Fatalf("sent what cannot be parsed: %v", err)
			}
			if m.Type == wire.Query && ((s.Local == e1Ext) != internal || len(s.Payload) != len(payload)) {
				t.Fatalf("relayed %+v", s)
			}
		}
	})
}
