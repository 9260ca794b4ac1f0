package gist

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

var (
	loose = wire.MRI{Method: wire.LooseEnd, Flow: wire.Flow{
		Source: netip.PrefixFrom(testFlow.Source.Addr(), 32), Destination: testFlow.Destination,
	}}
	pc6 = wire.MRI{Flow: wire.Flow{
		Source: netip.MustParsePrefix("2001:db8:1::99/48"), Destination: netip.MustParsePrefix("2001:db8:2::7/128"),
		HasProtocol: true, Protocol: 17, HasTraffic: true, DSCP: 46, HasLabel: true, FlowLabel: 0xabcde,
	}}
	aAddr6, bAddr6 = addr("2001:db8:a::1"), addr("2001:db8:b::1")
)

// sentTo returns the datagrams among actions, parsed.
func sentTo(t *testing.T, actions []Action) (list []SendDatagram, parsed []wire.Message) {
	t.Helper()
	for _, a := range actions {
		if d, ok := a.(SendDatagram); ok {
			m, err := wire.ParseDatagram(d.Payload)
			if err != nil {
				t.Fatal(err)
			}
			list, parsed = append(list, d), append(parsed, m)
		}
	}
	return list, parsed
}

// onPath is a machine on the path of IPv4 and IPv6 flows.
func onPath(t *testing.T, change ...func(*Config)) *bench {
	return newBench(t, append([]func(*Config){func(c *Config) {
		c.Address, c.Addresses, c.Edges = aAddr, []netip.Addr{aAddr6}, nil
		c.Route = func(wire.MRI) (QueryRoute, error) { return QueryRoute{TTL: 64, RouterAlert: true}, nil }
	}}, change...)...)
}

// queryOf makes a Query of a peer for mri as it arrives.
func queryOf(mri wire.MRI, from netip.Addr, change ...func(*wire.Message, *Datagram)) Datagram {
	m := mustQuery(testSID(5))
	m.MRI, m.NLI.Address, m.S = mri, from, true
	if mri.Flow.Destination.Addr().Is6() && from == cAddr {
		m.NLI.Address = bAddr6
	}
	end := mri.Flow.Destination.Addr()
	if mri.Upstream {
		end = mri.Flow.Source.Addr()
	}
	d := Datagram{Local: netip.AddrPortFrom(end, testPort), From: netip.AddrPortFrom(m.NLI.Address, testPort), TTL: 255, RouterAlert: true}
	for _, f := range change {
		f(&m, &d)
	}
	d.Payload = m.AppendDatagram(nil)
	return d
}

// RFC 5971 §5.8.1.1, RFC 5971 §5.8.1.2: "The destination IP address MUST be the
// flow destination address as given in the MRI", also where the prefix is
// shorter; the message "mimics the actual data flow" in DSCP and flow label; and
// the whole MRI, addresses included, comes back in the Response.
func TestQueryMimicsTheFlow(t *testing.T) {
	wide := pc
	wide.Flow.Source, wide.Flow.Destination = netip.MustParsePrefix("192.168.1.77/24"), netip.MustParsePrefix("192.168.9.33/20")
	wide.Flow.HasTraffic, wide.Flow.DSCP = true, 34
	noDSCP := pc
	noDSCP.Flow.DSCP, noDSCP.Flow.HasTraffic = 0, false
	for _, c := range []struct {
		mri   wire.MRI
		to    string
		local netip.Addr
		dscp  uint8
		label uint32
		ttl   uint8
	}{
		{wide, "192.168.9.33", aAddr, 34, 0, 64},
		{noDSCP, testFlow.Destination.Addr().String(), aAddr, 0, 0, 64},
		{wide.Reverse(), "192.168.1.77", aAddr, 34, 0, 255}, // RFC 5971 §5.8.1.3
		{pc6, "2001:db8:2::7", aAddr6, 46, 0xabcde, 64},
		{pc6.Reverse(), "2001:db8:1::99", aAddr6, 46, 0xabcde, 255},
		{loose, testFlow.Destination.Addr().String(), aAddr, 0, 0, 64},
	} {
		b := onPath(t)
		sent, parsed := sentTo(t, b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: c.mri}))
		if len(sent) != 1 {
			t.Fatalf("%+v: sent %v", c.mri, sent)
		}
		d, m := sent[0], parsed[0]
		if d.To != netip.AddrPortFrom(addr(c.to), testPort) || d.Local != c.local || d.DSCP != c.dscp || d.FlowLabel != c.label || d.TTL != c.ttl || !d.RouterAlert || d.Foreign {
			t.Errorf("%+v: sent %+v", c.mri, d)
		}
		if m.MRI != c.mri || !m.S || !m.C || m.NLI.Address != c.local {
			t.Errorf("%+v: Query %+v", c.mri, m)
		}
		if want := d.TTL; c.mri.Upstream {
			want = 0 // RFC 5971 §5.2.2: no distance is stored yet
			if m.NLI.IPTTL != want {
				t.Errorf("upstream: IP-TTL %d, want %d", m.NLI.IPTTL, want)
			}
		} else if m.NLI.IPTTL != want {
			t.Errorf("downstream: IP-TTL %d, want %d", m.NLI.IPTTL, want)
		}
		far := onPath(t, func(cfg *Config) { cfg.Address, cfg.Addresses = bAddr, []netip.Addr{bAddr6} })
		response := far.response(far.do(queryOf(c.mri, c.local)))
		if response.MRI != c.mri.Reverse() || response.NLI.Address.Is4() != c.local.Is4() {
			t.Errorf("%+v: Response with %+v from %v", c.mri, response.MRI, response.NLI.Address)
		}
	}
}

// RFC 5971 §5.8.1.2: "By default, the source address is the flow source address,
// [...] S=0", but a node "SHOULD transition to the signalling source address for
// some retransmissions or as a matter of static configuration"; upstream "The
// source address SHOULD be the signalling node address" (RFC 5971 §5.8.1.3).
func TestQuerySourceAddress(t *testing.T) {
	flow := testFlow.Source.Addr()
	sources := func(mri wire.MRI, change ...func(*Config)) (list []netip.Addr) {
		b := onPath(t, change...)
		actions := b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: mri})
		for range 4 {
			sent, parsed := sentTo(t, actions)
			if len(sent) != 1 {
				t.Fatalf("sent %v", sent)
			}
			d, m := sent[0], parsed[0]
			if m.S != (d.Local == m.NLI.Address) || m.NLI.Address != aAddr || d.Foreign != (d.Local != aAddr) {
				t.Errorf("S=%v, NLI %v, sent from %v, foreign %v", m.S, m.NLI.Address, d.Local, d.Foreign)
			}
			list = append(list, d.Local)
			b.now = b.m.Deadline()
			actions = b.do(nil)
		}
		return list
	}
	spoof := func(c *Config) { c.FlowSource = true }
	for name, c := range map[string]struct {
		got  []netip.Addr
		want [4]netip.Addr
	}{
		"cannot":    {sources(pc), [4]netip.Addr{aAddr, aAddr, aAddr, aAddr}},
		"can":       {sources(pc, spoof), [4]netip.Addr{flow, aAddr, flow, aAddr}},
		"Loose-End": {sources(loose, spoof), [4]netip.Addr{flow, aAddr, flow, aAddr}},
		"upstream":  {sources(pc.Reverse(), spoof), [4]netip.Addr{aAddr, aAddr, aAddr, aAddr}},
		"NAT is near": {sources(pc, spoof, func(c *Config) {
			c.Route = func(wire.MRI) (QueryRoute, error) { return QueryRoute{SignallingSource: true}, nil }
		}), [4]netip.Addr{aAddr, aAddr, aAddr, aAddr}},
	} {
		if [4]netip.Addr(c.got) != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	// A node that is the flow's source has S=1: its address is both.
	self := pc
	self.Flow.Source = netip.PrefixFrom(aAddr, 32)
	if got := sources(self, spoof); got[0] != aAddr {
		t.Errorf("at the flow's source: from %v", got[0])
	}
	// With S=0 the answer goes to the NLI, and nobody takes the difference for a NAT.
	b := onPath(t, func(c *Config) { c.Address = bAddr })
	sent, _ := sentTo(t, b.do(queryOf(pc, cAddr, func(m *wire.Message, d *Datagram) {
		m.S, d.From = false, netip.AddrPortFrom(flow, 4711)
	})))
	if len(sent) != 1 || sent[0].To != netip.AddrPortFrom(cAddr, 4711) {
		t.Errorf("the Response to a Query with S=0 goes %v", sent)
	}
}

// What Route says has to fit the method's encapsulation: RFC 5971 §5.8.1.2, RFC
// 5971 §5.8.1.3, RFC 5971 §5.8.2.2, RFC 5971 §7.4.
func TestRouteMustFitTheMethod(t *testing.T) {
	elsewhere := netip.AddrPortFrom(addr("203.0.113.77"), testPort)
	noSource := pc.Reverse()
	noSource.Flow.Source = netip.MustParsePrefix("0.0.0.0/0")
	for name, c := range map[string]struct {
		mri  wire.MRI
		rt   QueryRoute
		want error
	}{
		"downstream, not to the destination": {pc, QueryRoute{To: elsewhere}, ErrNoRoute},
		"Loose-End, not to the destination":  {loose, QueryRoute{To: elsewhere}, ErrNoRoute},
		"Loose-End upstream":                 {loose.Reverse(), QueryRoute{}, ErrNoRoute},
		"another IP version":                 {pc, QueryRoute{Local: aAddr6}, ErrNoRoute},
		"another IP version's peer":          {pc, QueryRoute{To: netip.AddrPortFrom(bAddr6, testPort), Direct: true}, ErrNoRoute},
		"upstream to nobody":                 {noSource, QueryRoute{}, ErrNoRoute},
		"upstream to the default router":     {pc.Reverse(), QueryRoute{To: elsewhere}, nil}, // "MAY use an alternative destination address"
		"upstream to itself":                 {pc.Reverse(), QueryRoute{To: netip.AddrPortFrom(aAddr, testPort)}, ErrSelf},
		"upstream to another address of its": {pc.Reverse(), QueryRoute{To: netip.AddrPortFrom(addr("172.16.0.9"), testPort)}, ErrSelf},
		"a configured peer":                  {pc, QueryRoute{To: elsewhere, Direct: true}, nil},
	} {
		b := onPath(t, func(cfg *Config) {
			cfg.Addresses = append(cfg.Addresses, addr("172.16.0.9"))
			cfg.Route = func(wire.MRI) (QueryRoute, error) { return c.rt, nil }
		})
		actions := b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: c.mri})
		sent, _ := sentTo(t, actions)
		var told error
		for _, a := range actions {
			if s, ok := a.(MessageStatus); ok {
				told = s.Err
			}
		}
		if !errors.Is(told, c.want) || (len(sent) == 1) != (c.want == nil) {
			t.Errorf("%s: sent %v, told %v; want %v", name, sent, told, c.want)
		}
	}
	// RFC 5971 §5.3.2.2: with IPv6 router alert is there "without exception".
	b := onPath(t, func(cfg *Config) { cfg.Route = func(wire.MRI) (QueryRoute, error) { return QueryRoute{}, nil } })
	sent, _ := sentTo(t, b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: pc6}))
	if len(sent) != 1 || !sent[0].RouterAlert {
		t.Errorf("IPv6: sent %+v", sent)
	}
}

// RFC 5971 §4.3.3: "GIST MUST verify that it is not the direct destination of an
// outgoing message": the address in the MRI decides, whatever the prefix, and
// any address of the node counts.
func TestSelfIsDestination(t *testing.T) {
	for name, change := range map[string]func(*wire.MRI){
		"destination":           func(m *wire.MRI) { m.Flow.Destination = netip.PrefixFrom(aAddr, 32) },
		"destination, wildcard": func(m *wire.MRI) { m.Flow.Destination = netip.PrefixFrom(aAddr, 8) },
		"another address":       func(m *wire.MRI) { *m = pc6; m.Flow.Destination = netip.PrefixFrom(aAddr6, 128) },
		"source, upstream":      func(m *wire.MRI) { *m = m.Reverse(); m.Flow.Source = netip.PrefixFrom(aAddr, 24) },
	} {
		mri := pc
		change(&mri)
		b := onPath(t)
		actions := b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: mri})
		if s, ok := actions[0].(MessageStatus); !ok || !errors.Is(s.Err, ErrSelf) {
			t.Errorf("%s: %v", name, actions)
		}
	}
	// Wherever the Query would go: the flow ends here.
	b := onPath(t, func(c *Config) {
		c.Route = func(wire.MRI) (QueryRoute, error) {
			return QueryRoute{To: netip.AddrPortFrom(cAddr, testPort), Direct: true}, nil
		}
	})
	mri := pc
	mri.Flow.Destination = netip.PrefixFrom(aAddr, 32)
	actions := b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: mri})
	if s, ok := actions[0].(MessageStatus); !ok || !errors.Is(s.Err, ErrSelf) {
		t.Errorf("to a configured peer: %v", actions)
	}
}

// What an application may not send: the rules for MRIs that arrive hold for
// those that leave.
func TestSendMessageChecksTheMRI(t *testing.T) {
	for name, change := range map[string]func(*SendMessage){
		"IPv4 in IPv6 form": func(s *SendMessage) { s.MRI.Flow.Destination = netip.MustParsePrefix("::ffff:10.0.0.1/128") },
		"multicast":         func(s *SendMessage) { s.MRI.Flow.Destination = netip.MustParsePrefix("224.0.0.9/32") },
		"stateless":         func(s *SendMessage) { s.MRI.Flow.HasSPI, s.Attr.Stateless = true, true; s.MRI.Flow.HasProtocol = false },
		"method":            func(s *SendMessage) { s.MRI.Method = 7 },
	} {
		b := onPath(t, func(c *Config) { c.DModeData = true })
		s := SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: pc}
		change(&s)
		actions := b.do(s)
		if st, ok := actions[0].(MessageStatus); !ok || !errors.Is(st.Err, ErrBadMRI) {
			t.Errorf("%s: %v", name, actions)
		}
	}
}

// The checks of a Query that follows the flow: RFC 5971 §5.8.1.2, RFC 5971
// §5.8.1.3, RFC 5971 §5.8.2.2, RFC 5971 §7.2.1, RFC 5971 §7.4, and with each
// error what it says of the MRI (RFC 5971 §A.4.4.12).
func TestQueryChecks(t *testing.T) {
	mismatch := func(m *wire.Message, d *Datagram) {
		m.NLI.Address, d.From = aAddr6, netip.AddrPortFrom(aAddr6, testPort)
	}
	ttl := func(n uint8) func(*wire.Message, *Datagram) {
		return func(_ *wire.Message, d *Datagram) { d.TTL = n }
	}
	never := func(c *Config) {
		c.IngressFilter = func(netip.Prefix, Ingress) bool { return false }
	}
	for name, c := range map[string]struct {
		mri    wire.MRI
		in     func(*wire.Message, *Datagram)
		config func(*Config)
		want   wire.ErrorID
		at     int // in the Object Value Info
	}{
		"downstream":               {mri: pc},
		"IPv6":                     {mri: pc6},
		"Loose-End":                {mri: loose},
		"Loose-End, far away":      {mri: loose, in: ttl(1)},
		"Loose-End, filter":        {mri: loose, config: never}, // "Nor are any special validation checks applied"
		"Loose-End upstream":       {mri: loose.Reverse(), want: wire.InvalidFlagFieldCombination, at: 6},
		"Loose-End, IP version":    {mri: loose, in: mismatch, want: wire.IPVersionMismatch, at: 6},
		"IP version":               {mri: pc, in: mismatch, want: wire.IPVersionMismatch, at: 6},
		"upstream, IP version":     {mri: pc.Reverse(), in: mismatch, want: wire.IPVersionMismatch, at: 6},
		"ingress filter":           {mri: pc, config: never, want: wire.IngressFilterFailure, at: 8},
		"upstream needs no filter": {mri: pc.Reverse(), config: never},
		"upstream, no hop":         {mri: pc.Reverse(), in: ttl(255)},
		"upstream, one hop":        {mri: pc.Reverse(), in: ttl(254)},
		"upstream, two hops":       {mri: pc.Reverse(), in: ttl(253), want: wire.InvalidIPTTL},
		"downstream, many hops":    {mri: pc, in: ttl(3)},
	} {
		var change []func(*Config)
		if c.config != nil {
			change = append(change, c.config)
		}
		b := onPath(t, append(change, func(cfg *Config) { cfg.Address, cfg.Addresses = bAddr, []netip.Addr{bAddr6} })...)
		var in []func(*wire.Message, *Datagram)
		if c.in != nil {
			in = append(in, c.in)
		}
		sent, parsed := sentTo(t, b.do(queryOf(c.mri, cAddr, in...)))
		if len(sent) != 1 {
			t.Errorf("%s: sent %v", name, sent)
			continue
		}
		m := parsed[0]
		if c.want == 0 {
			if m.Type != wire.Response {
				t.Errorf("%s: answered with %+v", name, m.Error)
			}
			continue
		}
		if m.Error == nil || m.Error.ID != c.want || !m.Error.QMode || m.Error.MRI != c.mri {
			t.Errorf("%s: answered with %v %+v, want %v", name, m.Type, m.Error, c.want)
			continue
		}
		if c.at == 0 {
			continue
		}
		object, at, ok := m.Error.Info[0].Object()
		if mri, err := wire.ParseMRI(object[4:]); !ok || at != c.at || err != nil || mri != c.mri {
			t.Errorf("%s: Object Value Info %v at %d, %v; want the MRI, at %d", name, mri, at, err, c.at)
		}
	}
}

// RFC 5971 §7.4: a node without an address of the flow's IP version is no peer: it
// lets the Query go on, and sends nothing from an address of the other version.
func TestOtherIPVersionIsForOthers(t *testing.T) {
	for _, transit := range []bool{true, false} {
		b := onPath(t, func(c *Config) { c.Address, c.Addresses = bAddr, nil })
		forwarded := 0
		d := queryOf(pc6, cAddr, func(_ *wire.Message, d *Datagram) {
			if transit {
				d.Transit = &Transit{}
			}
		})
		upstream := queryOf(pc6.Reverse(), cAddr, func(_ *wire.Message, d *Datagram) { d.TTL = 3 }) // an error
		for _, a := range append(b.do(d), b.do(upstream)...) {
			switch a.(type) {
			case SendDatagram:
				t.Errorf("in transit %v: sent %+v", transit, a)
			case ForwardDatagram:
				forwarded++
			}
		}
		if (forwarded == 1) != transit {
			t.Errorf("in transit %v: %d forwarded", transit, forwarded)
		}
	}
}

// The filter sees "the full range of source addresses (the source-address masked
// with its prefix-length)": RFC 5971 §5.8.1.2.
func TestIngressFilterSeesTheWholeRange(t *testing.T) {
	var asked netip.Prefix
	var at Ingress
	b := onPath(t, func(c *Config) {
		c.IngressFilter = func(s netip.Prefix, in Ingress) bool { asked, at = s, in; return true }
	})
	mri := pc
	mri.Flow.Source = netip.MustParsePrefix("10.1.2.3/16")
	d := queryOf(mri, cAddr, func(_ *wire.Message, d *Datagram) { d.Interface = 7 })
	b.do(d)
	if asked != netip.MustParsePrefix("10.1.0.0/16") || at != (Ingress{Local: d.Local, From: d.From, Interface: 7}) {
		t.Errorf("asked about %v at %+v", asked, at)
	}
}

// RFC 5971 §5.8.2: the Loose-End MRM from end to end. The Query goes from the
// data receiver towards an address beyond the node to be found, which
// intercepts it; then both directions have state and carry Data.
func TestLooseEnd(t *testing.T) {
	ch := newChain(t, 81)
	mri := wire.MRI{Method: wire.LooseEnd, Flow: wire.Flow{
		Source: netip.PrefixFrom(aAddr, 32), Destination: netip.PrefixFrom(testFlow.Destination.Addr(), 32),
	}}
	ch.b.onRecv = func(r RecvMessage) {
		if r.MRI != mri || r.Peer != aAddr {
			t.Errorf("b got %+v", r)
		}
		ch.b.send(r.SID, r.MRI.Reverse(), "here")
	}
	ch.a.send(testSID(1), mri, "who?")
	ch.net.Run(time.Second)
	if ch.b.received["who?"] != 1 || ch.a.received["here"] != 1 || len(ch.a.status)+len(ch.b.status) != 0 {
		t.Fatalf("b %v, a %v; %v %v", ch.b.received, ch.a.received, ch.a.status, ch.b.status)
	}
	// "the only valid value is D=0": there is no Query from the edge.
	ch.c.send(testSID(2), mri.Reverse(), "back")
	if n := len(ch.c.status); n != 1 || !errors.Is(ch.c.status[0].Err, ErrNoRoute) {
		t.Errorf("c was told %v", ch.c.status)
	}
	// State ends as that of any method.
	ch.net.Down(ch.b.host, true)
	ch.net.Run(2 * time.Hour)
	ch.a.wantEmpty()
	ch.a.check()
}

// Where nobody intercepts it, the Query of the Loose-End MRM reaches the
// destination itself, which has to be a peer or say that it is the end: RFC 5971
// §4.3.4, RFC 5971 §5.8.2.2.
func TestLooseEndAtTheEnd(t *testing.T) {
	ch := newChain(t, 82)
	newSimNode(t, ch.net, Config{Identity: []byte("end"), Address: testFlow.Destination.Addr(), NSLPIDs: []wire.NSLPID{7}})
	ch.net.Divert = func(simnet.Datagram) *simnet.Host { return nil }
	mri := wire.MRI{Method: wire.LooseEnd, Flow: wire.Flow{Source: netip.PrefixFrom(aAddr, 32), Destination: netip.PrefixFrom(testFlow.Destination.Addr(), 32)}}
	ch.a.send(testSID(1), mri, "who?")
	ch.net.Run(time.Second)
	var refused *RefusedError
	if len(ch.a.status) != 1 || !errors.As(ch.a.status[0].Err, &refused) || refused.ID != wire.EndpointFound {
		t.Errorf("a was told %v", ch.a.status)
	}
}

// IPv4 addresses in IPv6 form come from sockets only, and go no further than the
// machine's door; as addresses of ours they are refused.
func TestMappedAddresses(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Address = bAddr })
	d := queryOf(pc, cAddr)
	d.From = netip.AddrPortFrom(netip.AddrFrom16(cAddr.As16()), testPort)
	d.Local = netip.AddrPortFrom(netip.AddrFrom16(d.Local.Addr().As16()), testPort)
	if r := b.response(b.do(d)); r.MRI != pc.Reverse() {
		t.Errorf("Response %+v", r)
	}
	cfg := b.m.cfg
	cfg.Addresses = []netip.Addr{addr("::ffff:10.0.0.1")}
	if _, err := New(cfg); err == nil {
		t.Error("an IPv4 address in IPv6 form was taken for one of ours")
	}
}

// RFC 5971 §5.2.2: a node with several addresses answers from the one that the
// Query was sent to and, where that is not its own, from one of the Query's IP
// version.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	second := addr("192.0.2.200")
	b := onPath(t, func(c *Config) { c.Addresses = append(c.Addresses, second) })
	for _, c := range []struct {
		mri   wire.MRI
		local netip.Addr
		want  netip.Addr
	}{
		{pc, second, second},
		{pc, aAddr, aAddr},
		{pc, pc.Flow.Destination.Addr(), aAddr},
		{pc6, aAddr6, aAddr6},
		{pc6, pc6.Flow.Destination.Addr(), aAddr6},
	} {
		actions := b.do(queryOf(c.mri, cAddr, func(_ *wire.Message, d *Datagram) { d.Local = netip.AddrPortFrom(c.local, testPort) }))
		r := b.response(actions)
		var from netip.Addr
		for _, a := range actions {
			if s, ok := a.(SendDatagram); ok {
				from = s.Local
			}
		}
		if r.NLI.Address != c.want || from != c.want {
			t.Errorf("asked at %v: answered by %v from %v, want %v", c.local, r.NLI.Address, from, c.want)
		}
	}
}
