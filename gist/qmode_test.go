package gist

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

func (n *simNode) sendStateless(sid wire.SID, mri wire.MRI, data string, hops uint8) {
	n.do(SendMessage{NSLPData: pad4(data), Handle: 1, NSLPID: testNSLP, SID: sid, MRI: mri, Attr: TransferAttributes{Stateless: true}, HopCount: hops, HasHopCount: true})
}

func qmodeData(c *Config) { c.DModeData = true }

// RFC 5971 §4.3.3, RFC 5971 §5.3.2: Data in Q-mode passes along the path, from
// application to application, and leaves no state in any node. Its receiver is
// told that no routing state validated it (RFC 5971 §4.3.2), and how far it may
// go on: each node takes one from the hop count.
func TestQModeData(t *testing.T) {
	ch := newChain(t, 90, qmodeData)
	pass := func(n *simNode) func(RecvMessage) {
		return func(r RecvMessage) {
			if !r.Attr.Stateless || !r.Attr.ExplicitlyRouted || r.Attr.Reliable || r.SII != 0 {
				t.Errorf("%s got %+v", n.cfg.Identity, r)
			}
			if r.HopCount > 0 { // 0 would be refused
				n.sendStateless(r.SID, r.MRI, string(r.Data), r.HopCount)
			}
		}
	}
	ch.b.onRecv, ch.c.onRecv = pass(ch.b), func(r RecvMessage) {
		if r.HopCount != 5-2 || r.Peer != bAddr || r.PeerID != "b" {
			t.Errorf("c got %+v", r)
		}
	}
	ch.a.sendStateless(testSID(1), pc, "fly.", 5)
	ch.net.Run(time.Second)
	if ch.b.received["fly."] != 1 || ch.c.received["fly."] != 1 {
		t.Fatalf("b %v, c %v; %v %v", ch.b.received, ch.c.received, ch.a.status, ch.b.notes)
	}
	for _, n := range []*simNode{ch.a, ch.b, ch.c} {
		n.wantEmpty()
		if s := n.m.Stats(); s.Peers != 0 || s.QueriesOut != 0 {
			t.Errorf("%s: %+v", n.cfg.Identity, s)
		}
	}
}

// RFC 5971 §5.2.1: "The C-flag MUST be set [...] for Data messages sent in
// Q-mode"; RFC 5971 §5.1: NLI "MUST be carried in the D-mode case"; the
// encapsulation is a Query's (RFC 5971 §5.3.2), so it goes to the flow's
// destination.
func TestQModeDataEncapsulation(t *testing.T) {
	spoof := func(c *Config) { c.FlowSource = true }
	for _, c := range []struct {
		mri    wire.MRI
		change func(*Config)
		local  netip.Addr
		ttl    uint8
	}{
		{pc, qmodeData, aAddr, 64},
		{pc, spoof, testFlow.Source.Addr(), 64},
		{pc6, qmodeData, aAddr6, 64},
		{pc.Reverse(), spoof, aAddr, 255},
		{loose, qmodeData, aAddr, 64},
	} {
		b := onPath(t, qmodeData, c.change)
		sent, parsed := sentTo(t, b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: c.mri, Attr: TransferAttributes{Stateless: true}}))
		if len(sent) != 1 {
			t.Fatalf("%+v: sent %v", c.mri, sent)
		}
		d, m := sent[0], parsed[0]
		end := c.mri.Flow.Destination.Addr()
		if c.mri.Upstream {
			end = c.mri.Flow.Source.Addr()
		}
		if d.To != netip.AddrPortFrom(end, testPort) || d.Local != c.local || d.TTL != c.ttl || !d.RouterAlert || d.DSCP != c.mri.Flow.DSCP || d.FlowLabel != c.mri.Flow.FlowLabel {
			t.Errorf("%+v: sent %+v", c.mri, d)
		}
		if m.Type != wire.Data || !m.C || m.S != (d.Local == m.NLI.Address) || m.E || m.R || !m.HasNLI || m.MRI != c.mri || m.SID != testSID(1) || string(m.NSLPData) != "data" {
			t.Errorf("%+v: Data %+v", c.mri, m)
		}
		if want := c.ttl; !c.mri.Upstream && m.NLI.IPTTL != want || c.mri.Upstream && m.NLI.IPTTL != 0 {
			t.Errorf("%+v: IP-TTL %d", c.mri, m.NLI.IPTTL)
		}
	}
}

// RFC 5971 §4.3.3: where attributes, size, method or policy do not let a message
// go in Q-mode, the application is told, and nothing is sent or kept.
func TestQModeDataRefused(t *testing.T) {
	for name, c := range map[string]struct {
		mri    wire.MRI
		attr   TransferAttributes
		octets int
		policy bool
		want   error
	}{
		"reliable":  {pc, TransferAttributes{Stateless: true, Reliable: true}, 4, true, ErrNoAssociation},
		"too large": {pc, TransferAttributes{Stateless: true}, 500, true, ErrTooLarge},
		"Off-Path":  {wire.MRI{Method: wire.OffPath, Flow: testFlow}, TransferAttributes{Stateless: true}, 4, true, ErrNoRoute},
		"policy":    {pc, TransferAttributes{Stateless: true}, 4, false, ErrNoRoute},
		"Loose-End": {loose.Reverse(), TransferAttributes{Stateless: true}, 4, true, ErrNoRoute},
	} {
		b := onPath(t, func(cfg *Config) { cfg.DModeData = c.policy })
		actions := b.do(SendMessage{NSLPData: make([]byte, c.octets), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: c.mri, Attr: c.attr})
		sent, _ := sentTo(t, actions)
		if s, ok := actions[0].(MessageStatus); !ok || !errors.Is(s.Err, c.want) || len(sent) != 0 || b.m.Stats().RoutingStates != 0 {
			t.Errorf("%s: %v, want %v", name, actions, c.want)
		}
	}
	// The largest message that may go (RFC 5971 §4.3.3: 576 octets with an
	// allowance of 64) goes in Q-mode, and one word more does not.
	size := 576 - 64 - (wire.MagicLen + wire.HeaderLen + 4 + 20 + 4 + 16 + 4 + 16 + 4)
	for _, octets := range []int{size, size + 4} {
		b := onPath(t, qmodeData)
		sent, _ := sentTo(t, b.do(SendMessage{NSLPData: make([]byte, octets), NSLPID: testNSLP, SID: testSID(1), MRI: pc, Attr: TransferAttributes{Stateless: true}}))
		if (len(sent) == 1) != (octets == size) || len(sent) == 1 && len(sent[0].Payload) != 512 {
			t.Errorf("%d octets: sent %v", octets, sent)
		}
	}
}

// RFC 5971 §4.1.2: "even if routing state exists, the NSLP may request that it is
// not used, which will lead to GIST Data messages being sent Q-mode encapsulated
// instead". The receiver's state is not consulted either.
func TestQModeDataBesideState(t *testing.T) {
	ch := newChain(t, 91, qmodeData)
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.a.sendStateless(testSID(1), pc, "two.", 9)
	ch.net.Run(time.Second)
	if n := len(ch.b.recv); n != 2 || ch.b.recv[0].Attr.Stateless || !ch.b.recv[1].Attr.Stateless || ch.b.recv[1].SII != ch.b.recv[0].SII {
		t.Errorf("b got %+v", ch.b.recv)
	}
}

// What arrives is judged like a Query (RFC 5971 §5.8.1.2: "Such checks apply only
// to messages with the Q-mode encapsulation"), and taken where policy takes Data
// without state (RFC 5971 §6.1 rule 4).
func TestQModeDataChecks(t *testing.T) {
	data := func(mri wire.MRI, change ...func(*wire.Message, *Datagram)) Datagram {
		return queryOf(mri, cAddr, append([]func(*wire.Message, *Datagram){func(m *wire.Message, _ *Datagram) {
			m.Type, m.R, m.QueryCookie, m.StackProposal, m.HasStackConfig = wire.Data, false, nil, nil, false
			m.NSLPData = []byte("data")
		}}, change...)...)
	}
	refuse := func(netip.Prefix, Ingress) bool { return false }
	own := func(m *wire.Message, d *Datagram) {
		m.NLI.Address, m.NLI.PeerIdentity, d.From = bAddr, []byte("me"), netip.AddrPortFrom(bAddr, testPort)
	}
	for name, c := range map[string]struct {
		d      Datagram
		config func(*Config)
		want   wire.ErrorID
		note   string // dropped without an answer
	}{
		"fine":            {d: data(pc)},
		"fine, upstream":  {d: data(pc.Reverse())},
		"fine, IPv6":      {d: data(pc6)},
		"fine, Loose-End": {d: data(loose)},
		"no such policy":  {d: data(pc), config: func(c *Config) { c.DModeData = false }, want: wire.NoRoutingState},
		"ingress filter":  {d: data(pc), config: func(c *Config) { c.IngressFilter = refuse }, want: wire.IngressFilterFailure},
		"far upstream":    {d: data(pc.Reverse(), func(_ *wire.Message, d *Datagram) { d.TTL = 200 }), want: wire.InvalidIPTTL},
		"Loose-End D=1":   {d: data(loose.Reverse()), want: wire.InvalidFlagFieldCombination},
		"legacy NAT":      {d: data(pc, func(_ *wire.Message, d *Datagram) { d.From = netip.AddrPortFrom(addr("192.0.2.200"), 4000) }), want: wire.UntranslatedObject},
		"flow's source": {d: data(pc, func(m *wire.Message, d *Datagram) {
			m.S = false
			d.From = netip.AddrPortFrom(testFlow.Source.Addr(), testPort)
		})},
		"Off-Path":  {d: data(wire.MRI{Method: wire.OffPath, Flow: testFlow}), config: func(c *Config) { c.DirectPeers = []netip.Addr{cAddr} }, want: wire.IncorrectEncapsulation},
		"explicit":  {d: data(pc, func(m *wire.Message, _ *Datagram) { m.E = true }), want: wire.InvalidEFlag},
		"hop count": {d: data(pc, func(m *wire.Message, _ *Datagram) { m.HopCount = 0 }), want: wire.HopLimitExceeded},
		"untranslated": {d: data(pc, func(m *wire.Message, _ *Datagram) {
			n := wire.NATTraversal{MRI: pc, Opaque: [][]byte{{1}}}
			m.NATTraversal = n.Append(nil)
		}), want: wire.UntranslatedObject},
		"our own":  {d: data(pc, own), note: "own-data"},
		"too many": {d: data(pc), config: func(c *Config) { c.Limits.StrangerRate, c.Limits.StrangerBurst = 1, 1 }, note: "rate-limited"},
	} {
		b := onPath(t, qmodeData, func(cfg *Config) {
			cfg.Address, cfg.Addresses = bAddr, []netip.Addr{bAddr6}
			if c.config != nil {
				c.config(cfg)
			}
		})
		if name == "too many" {
			b.do(c.d)
		}
		actions := b.do(c.d)
		got := 0
		for _, a := range actions {
			if r, ok := a.(*RecvMessage); ok && string(r.Data) == "data" {
				got++
			}
		}
		fine := c.want == 0 && c.note == ""
		if errorIn(actions) != c.want || (got == 1) != fine || c.note != "" && !hasNote(actions, c.note) {
			t.Errorf("%s: %d messages, error %v, %v", name, got, errorIn(actions), actions)
		}
		if s := b.m.Stats(); s.Peers != 0 || s.RoutingStates != 0 {
			t.Errorf("%s: left %+v", name, s)
		}
	}
}

// RFC 5971 §4.3.4, case 5: "A Q-mode encapsulated message arrives at the
// end-system that does not handle the signalling application": Data like Query.
func TestQModeDataEndpointFound(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Address, c.NSLPIDs = testFlow.Destination.Addr(), []wire.NSLPID{9} })
	actions := b.do(queryOf(pc, cAddr, func(m *wire.Message, _ *Datagram) {
		m.Type, m.R, m.QueryCookie, m.StackProposal, m.HasStackConfig = wire.Data, false, nil, nil, false
		m.NSLPData = []byte("data")
	}))
	if got := errorIn(actions); got != wire.EndpointFound {
		t.Errorf("answered with %v", got)
	}
}

// RFC 5971 §5.3.3: "or they MAY be dropped with an error condition indicated back
// to local signalling applications".
func TestQModeDataRateLimit(t *testing.T) {
	b := onPath(t, qmodeData, func(c *Config) { c.Limits.DModeRate, c.Limits.DModeBurst = 1, 2 })
	for i := range 3 {
		actions := b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(i), MRI: pc, Attr: TransferAttributes{Stateless: true}})
		sent, _ := sentTo(t, actions)
		var told error
		for _, a := range actions {
			if s, ok := a.(MessageStatus); ok {
				told = s.Err
			}
		}
		if want := i < 2; (len(sent) == 1) != want || errors.Is(told, ErrLimit) == want {
			t.Errorf("message %d: sent %d, told %v", i, len(sent), told)
		}
	}
}

// Nodes that pass a message round in a ring, each with the hop count that it came
// with, come to an end: RFC 5971 §4.3.1, RFC 5971 §4.3.3.
func TestQModeDataDoesNotLoop(t *testing.T) {
	ch := newChain(t, 92, qmodeData)
	bounce := func(n *simNode) func(RecvMessage) {
		return func(r RecvMessage) {
			if r.HopCount > 0 { // 0 would be refused
				n.sendStateless(r.SID, r.MRI.Reverse(), string(r.Data), r.HopCount)
			}
		}
	}
	ch.net.Default.Hops = 0
	ch.a.onRecv, ch.b.onRecv = bounce(ch.a), bounce(ch.b)
	ch.a.sendStateless(testSID(1), pc, "ring", 9)
	ch.net.Run(time.Minute)
	if got := ch.a.received["ring"] + ch.b.received["ring"]; got != 9 {
		t.Errorf("received %d times, want 9: %s", got, strings.Join(ch.a.took(), " "))
	}
}
