package gist

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// InterDomain-QOSM section 3 line by line, where edge_test.go and offpath_test.go
// do not have it.

// Step 1: "It sends a Query without NSLP-Data, S=0, NLI IP-TTL 0, UDP source port
// 270, to port 270 of its egress edge": from the node's own address, which has
// nothing to do with the MRI ("The rule of 5.2.2 that an NLI address belongs to
// the MRI's interface does not apply").
func TestOffPathQuery(t *testing.T) {
	for name, c := range map[string]struct {
		direct bool
		mri    wire.MRI
	}{"relayed": {false, hop12}, "configured": {true, hop12}, "upstream": {true, hop12.Reverse()}} {
		b := newBench(t, func(cfg *Config) {
			cfg.FlowSource = true // no matter
			cfg.Route = func(wire.MRI) (QueryRoute, error) {
				return QueryRoute{To: netip.AddrPortFrom(e1Int, testPort), Direct: c.direct}, nil
			}
		})
		b.do(InvalidateRoutingState{NSLPID: testNSLP, MRI: c.mri, Status: Bad, NSLPData: []byte("data")})
		sent, parsed := sentTo(t, b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: c.mri}))
		if len(sent) != 1 {
			t.Fatalf("%s: sent %v", name, sent)
		}
		d, m := sent[0], parsed[0]
		if d.To != netip.AddrPortFrom(e1Int, testPort) || d.Local != q2Addr || d.RouterAlert || d.TTL != 0 || d.DSCP != 0 || d.Foreign {
			t.Errorf("%s: sent %+v", name, d)
		}
		if m.NSLPData != nil || m.S != c.direct || m.NLI.IPTTL != 0 || m.NLI.Address != q2Addr || m.MRI != c.mri || len(m.StackProposal) == 0 {
			t.Errorf("%s: Query %+v", name, m)
		}
		// Nor does a refresh that the application has data for have it.
		b.do(InvalidateRoutingState{NSLPID: testNSLP, MRI: c.mri, Status: Bad, Urgent: true, NSLPData: []byte("data")})
		b.now = b.m.Deadline()
		_, parsed = sentTo(t, b.do(nil))
		if len(parsed) != 1 || parsed[0].NSLPData != nil {
			t.Errorf("%s: again %+v", name, parsed)
		}
	}
}

// "Nobody fills them in on the way; Response and Confirm echo them": Egress and
// Ingress come back as they were, known or not, IPv4 and IPv6.
func TestOffPathMRIIsEchoed(t *testing.T) {
	v6 := wire.MRI{Method: wire.OffPath, Flow: pc6.Flow, Egress: addr("2001:db8:e::1"), Ingress: addr("2001:db8:e::2")}
	none, one := hop12, v6
	none.Egress, none.Ingress, one.Egress = netip.Addr{}, netip.Addr{}, netip.Addr{}
	for _, mri := range []wire.MRI{none, one, v6} {
		b := newBench(t, func(c *Config) { c.Edges[0].External = netip.Addr{} })
		q := mustQuery(testSID(1))
		q.MRI = mri
		if r := b.response(b.udp(&q)); r.MRI != mri.Reverse() {
			t.Errorf("Response with %+v, want %+v", r.MRI, mri.Reverse())
		}
	}
}

// Step 4, what the QNE takes from its edges: S=0, since an edge has changed the IP
// source, and no NSLP-Data. The answers go straight to the NLI address.
func TestOffPathQueryRules(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*wire.Message)
		want   wire.ErrorID
	}{
		"as it should be": {func(*wire.Message) {}, 0},
		"S=1":             {func(m *wire.Message) { m.S = true }, wire.UntranslatedObject},
		"with data":       {func(m *wire.Message) { m.NSLPData = []byte("data") }, wire.InvalidObjectType},
		"no stack":        {func(m *wire.Message) { m.StackProposal, m.HasStackConfig = nil, false }, wire.MissingObject},
	} {
		b := newBench(t)
		q := mustQuery(testSID(1))
		q.S = false
		c.change(&q)
		sent, parsed := sentTo(t, b.udp(&q))
		if len(sent) != 1 || sent[0].To != netip.AddrPortFrom(q1Addr, testPort) || sent[0].Local != q2Addr {
			t.Errorf("%s: sent %v", name, sent)
			continue
		}
		if e := parsed[0].Error; c.want == 0 && parsed[0].Type != wire.Response || c.want != 0 && (e == nil || e.ID != c.want) {
			t.Errorf("%s: answered with %v %+v, want %v", name, parsed[0].Type, e, c.want)
		}
	}
}

// "Routing state validity is at least the larger of 600 s and what the limit
// allows for the number of states", RFC 5971 §4.4.4: twice their number through
// the rate of the edges, and what the peer needs for its own number.
func TestOffPathValidity(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits.RelayRate = 10 })
	if got := b.m.validity(wire.OffPath); got != 600*time.Second {
		t.Errorf("without states %v", got)
	}
	b.m.stats.RoutingStates = 6000
	if got := b.m.validity(wire.OffPath); got != 1200*time.Second {
		t.Errorf("6,000 states at 10 a second: %v, want 1200 s", got)
	}
	if got := b.m.validity(wire.PathCoupled); got != DefaultValidityPathCoupled {
		t.Errorf("Path-Coupled: %v, its Queries pass no edge", got)
	}
	b.m.stats.RoutingStates = 0
	for proposed, want := range map[time.Duration]time.Duration{
		time.Second: 600 * time.Second, 30 * time.Minute: 30 * time.Minute, 1000 * time.Hour: maxValidityOffPath,
	} {
		if got := b.m.agreedValidity(wire.OffPath, toMS(proposed)); got != want {
			t.Errorf("proposed %v: %v, want %v", proposed, got, want)
		}
	}
}

// Steps 2 and 3 with IPv6, on an edge whose addresses are all IPv6.
func TestEdgeIPv6(t *testing.T) {
	in, out, neighbor, qne := addr("2001:db8:1::2"), addr("2001:db8:e::1"), addr("2001:db8:e::2"), addr("2001:db8:1::1")
	e, err := NewEdge(EdgeConfig{Identity: []byte("edge"), Internal: in, External: out, Port: testPort, Neighbor: neighbor, QNEs: []netip.Addr{qne}})
	if err != nil {
		t.Fatal(err)
	}
	mri := wire.MRI{Method: wire.OffPath, Flow: pc6.Flow, Egress: out, Ingress: neighbor}
	d := Datagram{Local: netip.AddrPortFrom(in, testPort), From: netip.AddrPortFrom(qne, testPort), TTL: 64, Payload: edgeQuery(mri, nil)}
	sent, notes := outOf(e.Handle(testStart, d, true))
	want := bytes.Clone(d.Payload)
	want[wire.MagicLen+wire.HopCountOffset]--
	if len(sent) != 1 || sent[0].Local != out || sent[0].To != netip.AddrPortFrom(neighbor, testPort) || sent[0].TTL != 255 || !sent[0].RouterAlert || !bytes.Equal(sent[0].Payload, want) {
		t.Errorf("outwards: %+v, %v", sent, notes)
	}
	mri.Egress, mri.Ingress = neighbor, out
	d = Datagram{Local: netip.AddrPortFrom(out, testPort), From: netip.AddrPortFrom(neighbor, testPort), TTL: 255, RouterAlert: true, Payload: edgeQuery(mri, nil)}
	sent, notes = outOf(e.Handle(testStart, d, false))
	if len(sent) != 1 || sent[0].Local != in || sent[0].To != netip.AddrPortFrom(qne, testPort) || sent[0].RouterAlert {
		t.Errorf("inwards: %+v, %v", sent, notes)
	}
	// An IPv4 flow has no way over this border: step 2's answer, and 5.8.1.2's.
	v4 := wire.MRI{Method: wire.OffPath, Flow: testFlow}
	for _, internal := range []bool{true, false} {
		d.Payload = edgeQuery(v4, nil)
		if internal {
			d.From = netip.AddrPortFrom(qne, testPort)
		} else {
			d.From = netip.AddrPortFrom(neighbor, testPort)
		}
		// Nor can the error go from an IPv6 address to an IPv4 one: our own QNE has
		// told us another.
		sent, notes = outOf(e.Handle(testStart, d, internal))
		if internal {
			if len(sent) != 1 || sent[0].To != d.From || len(notes) != 1 || notes[0].Kind != "refused" {
				t.Errorf("an IPv4 flow, from inside: %v %v", sent, notes)
			}
			continue
		}
		if len(sent) != 0 || len(notes) != 2 || notes[0].Kind != "refused" || notes[1].Kind != "error-unaddressable" || e.msg.MRI != v4 {
			t.Errorf("an IPv4 flow, from outside: %v %v", sent, notes)
		}
	}
}

// "answers MRI Validation Failure": the error says which part of the MRI it is
// about (RFC 5971 §A.4.4.12), and a NAT-Traversal object comes back first (RFC
// 5971 §7.2.3).
func TestEdgeErrorsPointAtTheMRI(t *testing.T) {
	egress, ingress := hop12, hop12
	egress.Egress, ingress.Ingress = addr("192.0.2.99"), addr("192.0.2.99")
	length := 4 + len(wire.AppendMRI(nil, &hop12))
	nat := wire.NATTraversal{MRI: hop12, Translated: []uint16{2}, Opaque: [][]byte{{1}}}
	for _, c := range []struct {
		mri wire.MRI
		at  int
	}{{egress, length - 8}, {ingress, length - 4}} {
		sent, _ := outOf(testEdge(t, nil).Handle(testStart, fromQNE(edgeQuery(c.mri, func(m *wire.Message) { m.NATTraversal = nat.Append(nil) })), true))
		if len(sent) != 1 {
			t.Fatalf("sent %v", sent)
		}
		m, err := wire.ParseDatagram(sent[0].Payload)
		if err != nil || !bytes.Equal(m.NATTraversal, nat.Append(nil)) {
			t.Fatalf("%v, %+v", err, m)
		}
		if _, at, ok := m.Error.Info[0].Object(); !ok || at != c.at {
			t.Errorf("%+v: error at octet %d, want %d", c.mri, at, c.at)
		}
	}
}

// "never between two external interfaces", and not between two internal ones: what
// comes in on one side leaves on the other, whatever its addresses say.
func TestEdgeRelaysAcrossOnly(t *testing.T) {
	e := testEdge(t, nil)
	for _, mri := range []wire.MRI{hop12, in12, {Method: wire.OffPath, Flow: testFlow}} {
		for _, internal := range []bool{true, false} {
			d := fromNeighbor(edgeQuery(mri, nil))
			if internal {
				d = fromQNE(edgeQuery(mri, nil))
			}
			sent, _ := outOf(e.Handle(testStart, d, internal))
			for _, s := range sent {
				if m, err := wire.ParseDatagram(s.Payload); err == nil && m.Type == wire.Query && (s.Local == e1Ext) != internal {
					t.Errorf("%+v from inside %v: relayed %+v", mri, internal, s)
				}
			}
		}
	}
}
