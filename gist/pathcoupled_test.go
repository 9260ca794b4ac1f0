package gist

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// chain is flow source - a - b - c - flow destination, Path-Coupled: Queries go
// to the flow's destination and are intercepted by the next node.
type chain struct {
	net     *simnet.Net
	a, b, c *simNode
}

var (
	aAddr, bAddr, cAddr = addr("172.16.0.1"), addr("172.17.0.1"), addr("172.18.0.1")
	pc                  = wire.MRI{Method: wire.PathCoupled, Flow: testFlow}
)

func newChain(t *testing.T, seed uint64, change ...func(*Config)) *chain {
	t.Helper()
	net := simnet.New(seed, testStart)
	net.Default = simnet.Link{Delay: time.Millisecond, Hops: 3}
	ch := &chain{net: net}
	node := func(a netip.Addr, name string) *simNode {
		cfg := Config{Identity: []byte(name), Address: a, Route: func(mri wire.MRI) (QueryRoute, error) {
			if mri.Upstream {
				return QueryRoute{To: netip.AddrPortFrom(mri.Flow.Source.Addr(), testPort), Local: a, RouterAlert: true}, nil
			}
			return QueryRoute{To: netip.AddrPortFrom(mri.Flow.Destination.Addr(), testPort), Local: a, TTL: 64, RouterAlert: true}, nil
		}}
		for _, f := range change {
			f(&cfg)
		}
		return newSimNode(t, net, cfg)
	}
	ch.a, ch.b, ch.c = node(aAddr, "a"), node(bAddr, "b"), node(cAddr, "c")
	net.Divert = func(d simnet.Datagram) *simnet.Host {
		if !d.RouterAlert {
			return nil
		}
		down := d.To.Addr() == testFlow.Destination.Addr()
		switch {
		case d.From.Addr() == aAddr && down, d.From.Addr() == cAddr && !down:
			return ch.b.host
		case d.From.Addr() == bAddr && down:
			return ch.c.host
		case d.From.Addr() == bAddr:
			return ch.a.host
		}
		return nil
	}
	return ch
}

func (n *simNode) sendUnreliable(sid wire.SID, mri wire.MRI, data string) {
	n.do(SendMessage{NSLPData: pad4(data), Handle: 1, NSLPID: testNSLP, SID: sid, MRI: mri})
}

// RFC 5971 §5.8.1.2, and D-mode throughout where policy lets it: Query with
// router alert to the flow's destination, Response, Confirm and Data on UDP.
func TestPathCoupledDMode(t *testing.T) {
	ch := newChain(t, 1, func(c *Config) { c.DModeData = true })
	var tcp int
	ch.net.Tap = func(kind string, _, _ netip.AddrPort, _ []byte) {
		if kind == "tcp" {
			tcp++
		}
	}
	sid := testSID(1)
	ch.b.onRecv = func(r RecvMessage) {
		ch.b.sendUnreliable(r.SID, r.MRI, string(r.Data)) // on, in the same direction
	}
	ch.c.onRecv = func(r RecvMessage) { ch.c.sendUnreliable(r.SID, r.MRI.Reverse(), "back") }
	ch.a.sendUnreliable(sid, pc, "down")
	ch.net.Run(time.Second)
	if ch.c.received["down"] != 1 || ch.a.received["back"] != 1 || tcp != 0 {
		t.Fatalf("c %v, a %v, %d messages on TCP; %v %v", ch.c.received, ch.a.received, tcp, ch.b.notes, ch.c.notes)
	}
	// RFC 5971 §5.2.2: the TTL difference of the Query is "the
	// IP-hop-count-to-peer for the upstream peer", and the Response tells the
	// querier its own.
	if r := ch.b.recv[0]; r.Distance != 3 || r.Attr.Reliable || r.TTL == 0 {
		t.Errorf("b was told %+v", r)
	}
	if r := ch.a.recv[0]; r.Distance != 3 {
		t.Errorf("a was told %+v", r)
	}
	for _, n := range []*simNode{ch.a, ch.b, ch.c} {
		n.check()
		if len(n.status) != 0 || n.noted("error-received") != 0 {
			t.Errorf("%s: %v %v", n.cfg.Identity, n.status, n.notes)
		}
	}
}

// A lost Confirm in D-mode shows when Data arrives: "No Routing State", and the
// Querying node starts again (RFC 5971 §5.3.3).
func TestLostConfirm(t *testing.T) {
	ch := newChain(t, 2, func(c *Config) { c.DModeData = true })
	first := true
	deliver := ch.b.host.Datagram
	ch.b.host.Datagram = func(d simnet.Datagram) {
		m, err := wire.ParseDatagram(d.Payload)
		if err == nil && m.Type == wire.Confirm && first {
			first = false
			return
		}
		deliver(d)
	}
	ch.a.sendUnreliable(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.a.sendUnreliable(testSID(1), pc, "two.")
	ch.net.Run(time.Second)
	if ch.b.noted("no-routing-state") == 0 || ch.b.received["one."] != 1 || ch.b.received["two."] != 1 {
		t.Errorf("b got %v, notes %v", ch.b.received, ch.b.notes)
	}
}

// RFC 5971 §4.3.3: "the message size MUST NOT exceed the least of the first-hop
// MTU, and 576 bytes": what is larger goes over an association.
func TestLargeMessageUsesAssociation(t *testing.T) {
	ch := newChain(t, 3, func(c *Config) { c.DModeData = true })
	small, large := strings.Repeat("s", 100), strings.Repeat("L", 600)
	ch.a.sendUnreliable(testSID(1), pc, small)
	ch.net.Run(time.Second)
	if ch.a.m.Stats().Associations != 0 {
		t.Fatal("a small message needed an association")
	}
	ch.a.sendUnreliable(testSID(1), pc, large)
	ch.net.Run(time.Second)
	if ch.b.received[small] != 1 || ch.b.received[large] != 1 || ch.a.m.Stats().Associations != 1 {
		t.Errorf("b got %d messages, %+v; %v", len(ch.b.recv), ch.a.m.Stats(), ch.a.status)
	}
	if ch.b.recv[0].Attr.Reliable || !ch.b.recv[1].Attr.Reliable {
		t.Error("carried otherwise than reported")
	}
}

// A message that needs an association joins while a Query without one is out.
func TestReliableMessageDuringDModeHandshake(t *testing.T) {
	ch := newChain(t, 4, func(c *Config) { c.DModeData = true })
	ch.a.sendUnreliable(testSID(1), pc, "one.")
	ch.a.send(testSID(1), pc, "two.")
	ch.net.Run(2 * time.Second)
	if ch.b.received["one."] != 1 || ch.b.received["two."] != 1 || len(ch.a.status) != 0 {
		t.Errorf("b got %v; %v", ch.b.received, ch.a.status)
	}
}

// RFC 5971 §5.8.1.3: an upstream Query has IP TTL 255, and "a node SHOULD reject
// a message that has been propagated more than one IP hop".
func TestUpstreamQuery(t *testing.T) {
	for _, hops := range []uint8{1, 2} {
		ch := newChain(t, 5)
		ch.net.Default.Hops = hops
		ch.c.send(testSID(1), pc.Reverse(), "up..")
		ch.net.Run(time.Second)
		switch {
		case hops == 1 && ch.b.received["up.."] != 1:
			t.Errorf("one hop: b got %v; %v", ch.b.received, ch.b.notes)
		case hops == 2 && (ch.b.noted("ip-ttl") != 1 || len(ch.c.status) != 1 || !errors.Is(ch.c.status[0].Err, ErrPeerRefused)):
			t.Errorf("two hops: b %v, c told %v", ch.b.notes, ch.c.status)
		}
	}
}

// RFC 5971 §5.8.1.3: "if the SIDs match, the routing state installed by the
// downstream exchange MUST take precedence".
func TestDownstreamExchangeTakesPrecedence(t *testing.T) {
	ch := newChain(t, 6)
	ch.net.Default.Hops = 0
	sid := testSID(1)
	ch.b.send(sid, pc.Reverse(), "up..") // b asks upstream: a Querying-SM towards a
	ch.a.send(sid, pc, "down")           // and a downstream: a Responding-SM for the same key
	ch.net.Run(time.Second)
	if r := ch.b.m.lookup(testNSLP, sid, ptr(pc.Reverse())); r == nil || r.querying {
		t.Fatalf("b has %+v", r)
	}
	if ch.a.received["up.."] != 1 || ch.b.received["down"] != 1 {
		t.Errorf("a %v, b %v; %v", ch.a.received, ch.b.received, ch.b.status)
	}
	// The other way round, the upstream Confirm does not replace it.
	if r := ch.a.m.lookup(testNSLP, sid, &pc); r == nil || !r.querying {
		t.Errorf("a has %+v", r)
	}
	ch.b.check()
	ch.a.check()
}

func ptr[T any](v T) *T { return &v }

// RFC 5971 §4.1.1, §7.1.4: a message by SII handle bypasses the routing state at both
// ends and says so.
func TestExplicitRouting(t *testing.T) {
	ch := newChain(t, 7)
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	sii := ch.b.recv[0].SII
	ch.b.do(SendMessage{NSLPData: []byte("expl"), Handle: 1, NSLPID: testNSLP, SID: testSID(99), MRI: pc.Reverse(), SII: sii, Attr: TransferAttributes{Reliable: true}})
	ch.net.Run(time.Second)
	if len(ch.a.recv) != 1 || !ch.a.recv[0].Attr.ExplicitlyRouted || ch.a.recv[0].SID != testSID(99) || ch.a.recv[0].Peer != bAddr {
		t.Fatalf("a got %+v; b was told %v", ch.a.recv, ch.b.status)
	}
	ch.b.do(SendMessage{NSLPData: []byte("expl"), Handle: 5, NSLPID: testNSLP, SID: testSID(99), MRI: pc.Reverse(), SII: sii + 77})
	if len(ch.b.status) != 1 || !errors.Is(ch.b.status[0].Err, ErrUnknownSII) {
		t.Errorf("b was told %v", ch.b.status)
	}
}

// RFC 5971 §B.6, §7.1.3: Bad state is not used until a new handshake; Tentative state
// is, and verified.
func TestInvalidateRoutingState(t *testing.T) {
	ch := newChain(t, 8)
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	q := ch.a.m.Stats().QueriesOut
	told := len(ch.a.notices)
	ch.a.do(InvalidateRoutingState{MRI: pc, Status: Tentative, Urgent: true})
	ch.net.Run(time.Second)
	if got := ch.a.m.Stats().QueriesOut - q; got != 1 {
		t.Errorf("Tentative and urgent: %d Queries", got)
	}
	q++
	ch.a.do(InvalidateRoutingState{NSLPID: testNSLP, MRI: pc, Status: Tentative})
	ch.net.Run(time.Second)
	if got := ch.a.m.Stats().QueriesOut - q; got != 0 {
		t.Errorf("Tentative, not urgent: %d Queries", got)
	}
	ch.a.send(testSID(1), pc, "two.")
	ch.net.Run(time.Second)
	if got := ch.a.m.Stats().QueriesOut - q; got != 1 {
		t.Errorf("with the next message: %d Queries", got)
	}
	ch.a.do(InvalidateRoutingState{MRI: pc, Status: Bad})
	ch.b.net.Down(ch.b.host, false)
	ch.a.send(testSID(1), pc, "tree")
	if r := ch.a.m.lookup(testNSLP, testSID(1), &pc); r.state != awaitingResponse || !r.hasWaiting() {
		t.Errorf("Bad state was used: %v", r.state)
	}
	ch.b.net.Up(ch.b.host)
	if ch.b.received["two."] != 1 {
		t.Errorf("b got %v", ch.b.received)
	}
	// "unless the change was caused via the API in the first place": only that
	// it is Good again.
	for _, n := range ch.a.notices[told:] {
		if n.Status != Good {
			t.Errorf("told %+v", n)
		}
	}
	ch.a.do(InvalidateRoutingState{MRI: wire.MRI{}, Status: Bad, Urgent: true}) // nothing there
	ch.a.check()
}

// RFC 5971 §B.4: a route change found by a refresh: the application hears of the
// new peer and of the old one's end (§7.1.4).
func TestRouteChange(t *testing.T) {
	ch := newChain(t, 9, func(c *Config) { c.Inactivity = time.Hour })
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	old := ch.a.notices[0].SII
	divert := ch.net.Divert
	ch.net.Divert = func(d simnet.Datagram) *simnet.Host {
		if d.From.Addr() == aAddr && d.RouterAlert {
			return ch.c.host
		}
		return divert(d)
	}
	ch.net.Run(30 * time.Second)
	var deleted, added SII
	for _, n := range ch.a.notices[1:] {
		if n.Type == RouteDeletion {
			deleted = n.SII
		} else if n.Status == Good {
			added = n.SII
		}
	}
	if deleted != old || added == 0 || added == old {
		t.Errorf("old %d, deleted %d, added %d; %v", old, deleted, added, ch.a.notices)
	}
	ch.a.send(testSID(1), pc, "two.")
	ch.net.Run(time.Second)
	if ch.c.received["two."] != 1 {
		t.Errorf("c got %v", ch.c.received)
	}
}

// RFC 5971 §7.2.1: a NAT between the peers ends the handshake.
func TestLegacyNAT(t *testing.T) {
	ch := newChain(t, 10)
	in := ch.b.host.Datagram
	ch.b.host.Datagram = func(d simnet.Datagram) {
		d.From = netip.MustParseAddrPort("192.0.2.200:4000")
		in(d)
	}
	nat := 0
	ch.net.Attach(&simnet.Host{Datagram: func(d simnet.Datagram) {
		m, err := wire.ParseDatagram(d.Payload)
		if err == nil && m.Error != nil && m.Error.ID == wire.UntranslatedObject {
			nat++
		}
	}}, addr("192.0.2.200"))
	ch.a.send(testSID(1), pc, "x")
	ch.net.Run(100 * time.Millisecond)
	if nat != 1 || ch.b.noted("nat") != 1 {
		t.Errorf("%d errors to the IP source; %v", nat, ch.b.notes)
	}
}

// RFC 5971 §B.3: what can never be sent is refused, with the reason; among it NSLP
// data that is not "a number of complete 32-bit words" (RFC 5971 §A.3.10).
func TestSendMessageErrors(t *testing.T) {
	ch := newChain(t, 11)
	own := pc
	own.Flow.Destination = netip.PrefixFrom(aAddr, 32)
	good := SendMessage{NSLPData: []byte("abcd"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: pc}
	for _, c := range []struct {
		name   string
		change func(*SendMessage)
		want   error
	}{
		{"NSLPID", func(s *SendMessage) { s.NSLPID = 9 }, ErrUnknownNSLPID},
		{"empty", func(s *SendMessage) { s.NSLPData = nil }, ErrBadData},
		{"not a number of words", func(s *SendMessage) { s.NSLPData = []byte("abc") }, ErrBadData},
		{"longer than an object", func(s *SendMessage) { s.NSLPData = make([]byte, wire.MaxObjectLen+4) }, ErrTooLarge},
		{"secure", func(s *SendMessage) { s.Attr.Secure = true }, ErrNoSecurity},
		{"to itself", func(s *SendMessage) { s.MRI = own }, ErrSelf},
	} {
		s := good
		c.change(&s)
		ch.a.status = nil
		ch.a.do(s)
		if len(ch.a.status) != 1 || !errors.Is(ch.a.status[0].Err, c.want) {
			t.Errorf("%s: told %v, want %v", c.name, ch.a.status, c.want)
		}
	}
	ch.a.wantEmpty()
	// The largest message that fits goes.
	s := good
	s.NSLPData = make([]byte, wire.MaxObjectLen)
	ch.a.do(s)
	ch.net.Run(time.Second)
	if len(ch.b.recv) != 1 || len(ch.b.recv[0].Data) != wire.MaxObjectLen {
		t.Errorf("b got %d messages", len(ch.b.recv))
	}
}

// State, handshakes and what waits are bounded.
func TestLimits(t *testing.T) {
	ch := newChain(t, 12, func(c *Config) {
		c.Limits = Limits{RoutingStates: 5, RoutingPerSession: 2, PendingHandshakes: 4, QueuedPerSession: 8, QueuedBytes: 20}
	})
	ch.net.Down(ch.b.host, true)
	want := func(err error) {
		t.Helper()
		if n := len(ch.a.status); n == 0 || !errors.Is(ch.a.status[n-1].Err, err) {
			t.Errorf("told %v, want %v", ch.a.status, err)
		}
		ch.a.status = nil
	}
	for range 3 {
		ch.a.send(testSID(1), pc, "1234")
	}
	want(ErrQueueFull)
	for i := range 3 {
		ch.a.send(testSID(2+i), pc, "1234")
	}
	ch.a.send(testSID(8), pc, "1234")
	want(ErrLimit)
	ch.a.send(testSID(2), pc, "5678")
	want(ErrQueueFull)
	ch.a.check()
	if s := ch.a.m.Stats(); s.QueuedBytes != 20 || s.RoutingStates != 4 {
		t.Errorf("%+v", s)
	}
}

func TestConfigErrors(t *testing.T) {
	ok := Config{
		Identity: []byte("x"), Address: aAddr, NSLPIDs: []wire.NSLPID{1}, Insecure: true,
		Route: func(wire.MRI) (QueryRoute, error) { return QueryRoute{}, nil }, Rand: testRand(1),
	}
	if _, err := New(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"identity":      func(c *Config) { c.Identity = nil },
		"long identity": func(c *Config) { c.Identity = make([]byte, 256) },
		"address":       func(c *Config) { c.Address = netip.Addr{} },
		"unspecified":   func(c *Config) { c.Address = netip.IPv4Unspecified() },
		"nslpids":       func(c *Config) { c.NSLPIDs = nil },
		"nslpid 0":      func(c *Config) { c.NSLPIDs = []wire.NSLPID{0} },
		"route":         func(c *Config) { c.Route = nil },
		"rand":          func(c *Config) { c.Rand = nil },
		"edge":          func(c *Config) { c.Edges = []ServedEdge{{}} },
	} {
		c := ok
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ok.Insecure = false
	if _, err := New(ok); !errors.Is(err, ErrNoStack) {
		t.Errorf("with neither TLS nor Insecure: %v", err)
	}
	ok.TLS = true
	if _, err := New(ok); err != nil {
		t.Errorf("with TLS: %v", err)
	}
	ok.Insecure = true
	if _, err := New(ok); err == nil {
		t.Error("TLS and plain TCP on one port: accepted")
	}
}

// RFC 5971 §4.3.4: a Query for an NSLPID that the flow's end does not serve
// "MUST be indicated to the sender with an 'Endpoint Found'"; the application
// learns that this is the last node (§B.4).
func TestEndpointFound(t *testing.T) {
	ch := newChain(t, 13)
	end := newSimNode(t, ch.net, Config{Identity: []byte("end"), Address: testFlow.Destination.Addr(), NSLPIDs: []wire.NSLPID{7}})
	ch.net.Divert = nil
	ch.a.send(testSID(1), pc, "x")
	ch.net.Run(time.Second)
	var refused *RefusedError
	if len(ch.a.status) != 1 || !errors.As(ch.a.status[0].Err, &refused) || refused.ID != wire.EndpointFound {
		t.Fatalf("a was told %v; end %v", ch.a.status, end.notes)
	}
	if len(ch.a.notices) != 1 || ch.a.notices[0].Type != LastNode {
		t.Errorf("a was told %v", ch.a.notices)
	}
	ch.a.wantEmpty()
}

// RFC 5971 §5.8.1.2: "the full range of source addresses ... would pass ingress
// filtering checks".
func TestMRIValidation(t *testing.T) {
	refusal := func(ch *chain, mri wire.MRI) wire.ErrorID {
		var refused *RefusedError
		ch.a.send(testSID(1), mri, "x")
		ch.net.Run(time.Second)
		if len(ch.a.status) != 1 || !errors.As(ch.a.status[0].Err, &refused) {
			t.Fatalf("a was told %v; b %v", ch.a.status, ch.b.notes)
		}
		return refused.ID
	}
	ch := newChain(t, 14, func(c *Config) {
		c.IngressFilter = func(s netip.Prefix, _ Ingress) bool { return s != testFlow.Source }
	})
	if id := refusal(ch, pc); id != wire.IngressFilterFailure {
		t.Errorf("got %v", id)
	}
}

// RFC 5971 §5.3.3: "When the rate limiter is in effect, D-mode messages MUST be
// queued until transmission is re-enabled": all handshakes succeed, later.
func TestDModeRateLimitDelaysQueries(t *testing.T) {
	ch := newChain(t, 16, func(c *Config) { c.ValidityPathCoupled = 10 * time.Minute })
	ch.a.m.cfg.Limits.DModeRate, ch.a.m.cfg.Limits.DModeBurst = 10, 5
	var queries int
	ch.net.Tap = func(kind string, from, _ netip.AddrPort, _ []byte) {
		if kind == "udp" && from.Addr() == aAddr {
			queries++
		}
	}
	for i := range 50 {
		ch.a.send(testSID(i), pc, "x")
	}
	if queries != 5 {
		t.Errorf("%d datagrams at once, want 5", queries)
	}
	ch.net.Run(time.Second)
	if queries < 14 || queries > 16 {
		t.Errorf("%d datagrams after a second, want 15", queries)
	}
	ch.net.Run(20 * time.Second)
	if len(ch.b.recv) != 50 || len(ch.a.status) != 0 {
		t.Errorf("%d of 50 arrived; %v", len(ch.b.recv), ch.a.status)
	}
	ch.a.check()
}

// The whole handshake between IPv6 nodes.
func TestIPv6(t *testing.T) {
	a, b := addr("2001:db8:a::1"), addr("2001:db8:b::1")
	other := a
	w := newWired(t, func(c *Config) {
		self, peer := a, b
		if other != a {
			self, peer = b, a
		}
		other = b
		c.Address, c.DirectPeers = self, []netip.Addr{peer}
		c.Route = func(wire.MRI) (QueryRoute, error) {
			return QueryRoute{To: netip.AddrPortFrom(peer, testPort), Direct: true, AllowedPeers: []netip.Addr{peer}}, nil
		}
	})
	mri := wire.MRI{Method: wire.OffPath, Flow: wire.Flow{
		Source: netip.MustParsePrefix("2001:db8::/64"), Destination: netip.MustParsePrefix("2001:db8:1::1/128"), HasLabel: true, FlowLabel: 5,
	}, Ingress: addr("2001:db8::5")}
	var got *RecvMessage
	w.other = func(_ int, x Action) {
		if r, ok := x.(*RecvMessage); ok {
			got = r
		}
	}
	w.do(0, SendMessage{NSLPData: []byte("six6"), NSLPID: testNSLP, SID: testSID(1), MRI: mri, Attr: TransferAttributes{Reliable: true}})
	if got == nil || string(got.Data) != "six6" || got.MRI != mri || got.Peer != a {
		t.Errorf("got %+v", got)
	}
}
