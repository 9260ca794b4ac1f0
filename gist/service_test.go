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

// The service interface: RFC 5971 §4.1, Appendix B; and the rules of §6 that
// show in it.

func dmodeData(c *Config) { c.DModeData = true }

// sent returns the messages of one type that a node sends in D-mode from now on.
func (ch *chain) sent(from netip.Addr, kind wire.MessageType) *[]wire.Message {
	all := new([]wire.Message)
	before := ch.net.Tap
	ch.net.Tap = func(proto string, src, dst netip.AddrPort, b []byte) {
		if before != nil {
			before(proto, src, dst, b)
		}
		if proto == "udp" && src.Addr() == from {
			if m, err := wire.ParseDatagram(b); err == nil && m.Type == kind {
				*all = append(*all, m)
			}
		}
	}
	return all
}

// RFC 5971 §4.3.3: "The allowance for IP and transport layer encapsulation is 64
// bytes", and without a known path MTU the size "MUST NOT exceed [...] 576 bytes":
// to the octet, for Data sent by state, by SII handle and in Q-mode.
func TestFragmentationThreshold(t *testing.T) {
	for _, mtu := range []int{0, 1280} {
		ch := newChain(t, 1, dmodeData, func(c *Config) { c.MTU = mtu })
		data := ch.sent(aAddr, wire.Data)
		ch.a.sendUnreliable(testSID(1), pc, "one.")
		ch.net.Run(time.Second)
		limit := mtu
		if limit == 0 {
			limit = 576
		}
		rest := dmodeSize(&(*data)[0]) - 4 // all but the NSLP data
		fits := limit - 64 - rest
		fits -= fits % 4
		ch.a.sendUnreliable(testSID(1), pc, strings.Repeat("=", fits))
		ch.net.Run(time.Second)
		if s := ch.a.m.Stats(); s.Associations != 0 || len(*data) != 2 || len(ch.b.recv) != 2 {
			t.Fatalf("MTU %d: %d octets went by %d associations", limit, fits+rest, s.Associations)
		}
		ch.a.sendUnreliable(testSID(1), pc, strings.Repeat("+", fits+4))
		ch.net.Run(time.Second)
		if s := ch.a.m.Stats(); s.Associations != 1 || len(*data) != 2 || len(ch.b.recv) != 3 {
			t.Errorf("MTU %d: %d octets went by %d associations; b got %d", limit, fits+rest+4, s.Associations, len(ch.b.recv))
		}
		for _, octets := range []int{fits, fits + 4} {
			ch.a.status = nil
			ch.a.do(SendMessage{NSLPData: make([]byte, octets), Handle: 9, NSLPID: testNSLP, SID: testSID(2), MRI: pc, Attr: TransferAttributes{Stateless: true}})
			if tooLarge := len(ch.a.status) == 1 && errors.Is(ch.a.status[0].Err, ErrTooLarge); tooLarge != (octets > fits) {
				t.Errorf("MTU %d: %d octets in Q-mode: %v", limit, octets+rest, ch.a.status)
			}
		}
	}
}

// RFC 5971 §4.3.3: "GIST MUST reject messages for which the signalling application
// has specified a value of zero": a hop count that is passed on ends there.
func TestHopCountPassedOn(t *testing.T) {
	ch := newChain(t, 2)
	ch.b.onRecv = func(r RecvMessage) {
		ch.b.do(SendMessage{NSLPData: r.Data, Handle: 7, NSLPID: r.NSLPID, SID: r.SID, MRI: r.MRI,
			HopCount: r.HopCount, HasHopCount: true, Attr: TransferAttributes{Reliable: true}})
	}
	for hops := uint8(1); hops <= 2; hops++ {
		ch.a.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: pc, HopCount: hops, Attr: TransferAttributes{Reliable: true}})
		ch.net.Run(time.Second)
		if got := len(ch.c.recv); got != int(hops)-1 {
			t.Errorf("hop count %d: c got %d messages", hops, got)
		}
	}
	if len(ch.b.status) != 1 || !errors.Is(ch.b.status[0].Err, ErrHopCount) || ch.c.recv[0].HopCount != 0 {
		t.Errorf("b was told %v; c got %+v", ch.b.status, ch.c.recv)
	}
}

// RFC 5971 §B.1, IP-TTL, and §5.2.2: downstream the NLI says what the IP header
// does; upstream the application's wish does not count, for the peer compares.
func TestIPTTL(t *testing.T) {
	ch := newChain(t, 3, dmodeData)
	down, up := ch.sent(aAddr, wire.Data), ch.sent(bAddr, wire.Data)
	ch.a.do(SendMessage{NSLPData: []byte("one."), NSLPID: testNSLP, SID: testSID(1), MRI: pc, TTL: 99})
	ch.net.Run(time.Second)
	ch.a.sendUnreliable(testSID(1), pc, "two.")
	ch.b.do(SendMessage{NSLPData: []byte("back"), NSLPID: testNSLP, SID: testSID(1), MRI: pc.Reverse(), TTL: 99})
	ch.net.Run(time.Second)
	if d := *down; len(d) != 2 || d[0].NLI.IPTTL != 99 || d[1].NLI.IPTTL != 64 {
		t.Errorf("downstream %+v", d)
	}
	// Three hops each (newChain): the TTL on arrival, and the distance.
	if r := ch.b.recv; r[0].TTL != 96 || r[1].TTL != 61 || r[0].Distance != 3 || r[1].Distance != 3 {
		t.Errorf("b was told %+v", r)
	}
	if u := *up; len(u) != 1 || u[0].NLI.IPTTL != 3 || ch.a.recv[0].TTL != 61 {
		t.Errorf("upstream %+v, on arrival %d", u, ch.a.recv[0].TTL)
	}
}

// RFC 5971 §B.3: what a message leaves with is told where that is asked for, and
// §B.2: what is told of one that arrives.
func TestReportsAndAttributes(t *testing.T) {
	flow := pc
	flow.Flow.Source = netip.PrefixFrom(aAddr, 32) // a is the first GIST hop
	ch := newChain(t, 4, dmodeData)
	ch.a.do(SendMessage{NSLPData: []byte("one."), Handle: 1, Report: true, NSLPID: testNSLP, SID: testSID(1), MRI: flow})
	ch.net.Run(time.Second)
	ch.a.do(SendMessage{NSLPData: []byte("two."), Handle: 2, Report: true, NSLPID: testNSLP, SID: testSID(1), MRI: flow, Attr: TransferAttributes{Reliable: true}})
	ch.a.do(SendMessage{NSLPData: []byte("tree"), Handle: 3, NSLPID: testNSLP, SID: testSID(1), MRI: flow, Attr: TransferAttributes{Reliable: true}})
	ch.net.Run(time.Second)
	if st := ch.a.status; len(st) != 2 || st[0].Handle != 1 || st[0].Err != nil || st[0].Attr.Reliable || st[1].Handle != 2 || st[1].Err != nil || !st[1].Attr.Reliable {
		t.Errorf("a was told %+v", st)
	}
	if a := ch.b.recv[0]; !a.Attr.SourceIsEndpoint || !a.Attr.ReturnRoutable || a.Attr.ExplicitlyRouted || a.Inbound != bAddr {
		t.Errorf("b was told %+v", a)
	}
	if a := ch.b.recv[1]; !a.Attr.Reliable || a.Inbound.IsValid() {
		t.Errorf("b was told %+v", a)
	}
	// By SII handle, in D-mode too: no state of the receiver vouches for it.
	sii := ch.b.recv[0].SII
	ch.b.m.cfg.Limits.Associations = 0
	ch.b.do(SendMessage{NSLPData: []byte("expl"), Handle: 4, NSLPID: testNSLP, SID: testSID(8), MRI: flow.Reverse(), SII: sii})
	ch.net.Run(time.Second)
	if r := ch.a.recv; len(r) != 1 || !r[0].Attr.ExplicitlyRouted || r[0].SID != testSID(8) || r[0].Peer != bAddr || r[0].Attr.SourceIsEndpoint {
		t.Errorf("a was told %+v", r)
	}
}

// RFC 5971 §B.5: state that is wanted for ever stays, and is refreshed; zero ends
// it.
func TestStateLifetime(t *testing.T) {
	ch := newChain(t, 5, func(c *Config) { c.Inactivity = time.Minute })
	ch.a.send(testSID(1), pc, "one.")
	ch.a.send(testSID(2), pc, "one.")
	ch.net.Run(time.Second)
	ch.a.do(SetStateLifetime{NSLPID: testNSLP, SID: testSID(1), MRI: pc, Lifetime: Forever})
	ch.net.Run(24 * time.Hour)
	if s := ch.a.m.Stats(); s.RoutingStates != 1 || s.QueriesOut < 24*60 {
		t.Errorf("%+v", s)
	}
	ch.a.do(SetStateLifetime{NSLPID: testNSLP, MRI: pc}) // every session
	ch.a.wantEmpty()
}

// RFC 5971 §B.6: NSLP data of InvalidateRoutingState goes in the next handshake, and
// in no other; §B.2: what the application answers goes in the Response.
func TestPayloadsInTheHandshake(t *testing.T) {
	var offered []string
	answer := []byte("answer..")
	ch := newChain(t, 6, func(c *Config) {
		if string(c.Identity) == "b" {
			c.AcceptPeer = func(o PeerOffer) PeerAnswer {
				offered = append(offered, string(o.Data))
				return PeerAnswer{Accept: true, Payload: answer}
			}
		}
	})
	queries := ch.sent(aAddr, wire.Query)
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	if ch.a.received["answer.."] != 1 || len(offered) != 2 || offered[0] != "" || offered[1] != "" {
		t.Fatalf("a got %v; b was offered %q", ch.a.received, offered)
	}
	answer = nil
	ch.a.do(InvalidateRoutingState{MRI: pc, Status: Tentative, NSLPData: []byte("why?")})
	ch.net.Run(time.Second)
	if len(*queries) != 1 {
		t.Fatal("not urgent, and a Query went")
	}
	ch.a.send(testSID(1), pc, "two.")
	ch.net.Run(time.Second)
	ch.a.do(InvalidateRoutingState{MRI: pc, Status: Bad, Urgent: true})
	ch.net.Run(time.Second)
	ch.a.do(InvalidateRoutingState{MRI: pc, Status: Bad, Urgent: true, NSLPData: make([]byte, 600)})
	ch.net.Run(time.Second)
	var got []string
	for _, q := range *queries {
		got = append(got, string(q.NSLPData))
	}
	if strings.Join(got, "|") != "|why?||" || ch.a.noted("query-payload-too-large") != 1 {
		t.Errorf("Queries with %q; %v", got, ch.a.notes)
	}
	if len(ch.a.recv) != 1 || ch.b.received["two."] != 1 {
		t.Errorf("a got %d messages, b %v", len(ch.a.recv), ch.b.received)
	}
	ch.a.check()
	// What does not fit in D-mode is left out.
	b := onPath(t, func(c *Config) {
		c.AcceptPeer = func(PeerOffer) PeerAnswer { return PeerAnswer{Accept: true, Payload: make([]byte, 600)} }
	})
	acts := b.do(queryOf(pc, cAddr))
	if r := b.response(acts); r.NSLPData != nil || !hasNote(acts, "response-payload-too-large") {
		t.Errorf("%v", acts)
	}
}

// RFC 5971 §4.3.4: a Query with a payload that is too large on the way: the sender
// "SHOULD begin messaging association setup".
func TestQueryTooLarge(t *testing.T) {
	b := onPath(t, dmodeData)
	b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: pc})
	b.do(InvalidateRoutingState{MRI: pc, Status: Bad, NSLPData: []byte("why?"), Urgent: true})
	b.now = b.now.Add(DefaultT1)
	sent, queries := sentTo(t, b.do(nil))
	if len(sent) != 1 || string(queries[0].NSLPData) != "why?" || len(queries[0].StackProposal) != 0 {
		t.Fatalf("%+v", queries)
	}
	in := wire.Message{
		Header: wire.Header{HopCount: 9, Type: wire.Error, S: true}, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte("r"), Address: cAddr, ValidityMS: 1000},
		Error: &wire.ErrorData{ID: wire.MessageTooLarge, Header: queries[0].Header, HasSID: true, SID: testSID(1), HasMRI: true, MRI: pc,
			Info: []wire.AdditionalInfo{wire.MTUInfo(300)}},
	}
	_, queries = sentTo(t, b.do(Datagram{From: netip.AddrPortFrom(cAddr, testPort), Payload: in.AppendDatagram(nil)}))
	if len(queries) != 1 || queries[0].NSLPData != nil || len(queries[0].StackProposal) == 0 {
		t.Errorf("%+v", queries)
	}
}

// RFC 5971 §6.3 rule 10: "a retransmitted Response causes a duplicate Confirm":
// silently ignored; after a Query it counts again (rule 8).
func TestDuplicateConfirm(t *testing.T) {
	b := newBench(t)
	q, r := b.upTo(testSID(1))
	c := confirmTo(&q, &r)
	c.NSLPData = []byte("hold")
	first := b.conn(accepted, &c)
	expires := b.m.RoutingStatesOf(testSID(1))[0].Expires
	b.now = b.now.Add(5 * time.Second)
	again := b.conn(accepted, &c)
	if got := b.m.RoutingStatesOf(testSID(1))[0].Expires; got != expires || len(again) != 0 || len(first) != 2 {
		t.Errorf("expires %v, then %v; %v, then %v", expires, got, first, again)
	}
	r = b.response(b.udp(&q))
	c = confirmTo(&q, &r)
	b.conn(accepted, &c)
	if got := b.m.RoutingStatesOf(testSID(1))[0]; !got.Expires.After(expires) || got.State != "Established" {
		t.Errorf("after a Query: %+v", got)
	}
}

// RFC 5971 §7.1.3: "Bad: [...] not safe to use to send data", at the Responding
// node too: it waits for the querier.
func TestBadAtTheResponder(t *testing.T) {
	ch := newChain(t, 8)
	back := pc.Reverse()
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.b.took()
	ch.b.do(InvalidateRoutingState{MRI: back, Status: Bad, Urgent: true})
	ch.b.do(InvalidateRoutingState{MRI: back, Status: Tentative}) // makes nothing better
	ch.b.send(testSID(1), back, "back")
	ch.net.Run(2 * time.Second)
	if len(ch.a.recv) != 0 || ch.b.m.RoutingStatesOf(testSID(1))[0].Status != Bad {
		t.Fatalf("a got %v", ch.a.received)
	}
	ch.net.Run(25 * time.Second) // a refreshes
	if ch.a.received["back"] != 1 {
		t.Errorf("a got %v", ch.a.received)
	}
	wantTold(t, ch.b, "good") // of what the application did itself it is not told
}

// RFC 5971 §4.4.4: "GIST MUST NOT refresh routing state if a signalling session is
// known to be inactive, either because upstream state has expired": until the
// application sends something.
func TestNoRefreshOfOrphans(t *testing.T) {
	for _, alive := range []bool{false, true} {
		ch := newChain(t, 9)
		ch.b.onRecv = func(r RecvMessage) { ch.b.send(r.SID, r.MRI, string(r.Data)) }
		ch.a.send(testSID(1), pc, "one.")
		ch.net.Run(time.Second)
		ch.a.forget(testSID(1), pc) // a does not refresh any more
		ch.net.Run(31 * time.Second)
		if n := len(ch.b.m.RoutingStatesOf(testSID(1))); n != 1 {
			t.Fatalf("b has %d states after the upstream one's time", n)
		}
		queries := ch.b.m.Stats().QueriesOut
		if alive {
			ch.b.send(testSID(1), pc, "two.")
		}
		ch.net.Run(2 * time.Minute)
		s := ch.b.m.Stats()
		if refreshed := s.QueriesOut > queries; refreshed != alive || (s.RoutingStates == 1) != alive {
			t.Errorf("application alive %v: %d Queries more, %d states", alive, s.QueriesOut-queries, s.RoutingStates)
		}
		if ch.c.received["two."] == 1 != alive {
			t.Errorf("c got %v", ch.c.received)
		}
	}
}

// RFC 5971 §4.4.6 and §7.1.3: the peer has lost the state, so it is Bad here until
// the handshake is done again.
func TestLostStateIsTold(t *testing.T) {
	ch := newChain(t, 10, dmodeData)
	ch.a.sendUnreliable(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.b.restart("")
	ch.a.took()
	ch.a.sendUnreliable(testSID(1), pc, "two.")
	ch.net.Run(time.Second)
	wantTold(t, ch.a, "bad", "good")
	if ch.b.received["two."] != 1 {
		t.Errorf("b got %v", ch.b.received)
	}
}

// refusal is an Error of b's about a message of a's.
func (ch *chain) refusal(id wire.ErrorID, about wire.MessageType) {
	ch.refusalBy("b", bAddr, aAddr, id, about)
}

func (ch *chain) refusalBy(name string, by, to netip.Addr, id wire.ErrorID, about wire.MessageType) {
	e := wire.Message{
		Header: wire.Header{HopCount: 9, Type: wire.Error, S: true}, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte(name), Address: by, ValidityMS: 1000},
		Error: &wire.ErrorData{ID: id, DMode: true, HasSID: true, SID: testSID(1), HasMRI: true, MRI: pc,
			Header: wire.Header{Version: 1, Type: about, NSLPID: testNSLP, HopCount: 9}},
	}
	ch.net.Send(simnet.Datagram{From: netip.AddrPortFrom(by, testPort), To: netip.AddrPortFrom(to, testPort), TTL: 64, Payload: e.AppendDatagram(nil)})
	ch.net.Run(100 * time.Millisecond)
}

// RFC 5971 §7.1.3: the upstream direction is in doubt "because of local IP routing
// indications": a cookie that was too old downstream is none.
func TestInvalidCookieLeavesUpstreamAlone(t *testing.T) {
	ch := newChain(t, 31, dmodeData)
	ch.b.onRecv = func(r RecvMessage) { ch.b.sendUnreliable(r.SID, r.MRI, string(r.Data)) }
	ch.a.sendUnreliable(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.b.took()
	back := pc.Reverse()
	ch.refusalBy("c", cAddr, bAddr, wire.InvalidCookie, wire.Confirm)
	if got := strings.Join(ch.b.took(), " "); got != "bad" {
		t.Errorf("b was told %q, want of its downstream state alone", got)
	}
	if u := ch.b.m.lookup(testNSLP, testSID(1), &back); u == nil || u.status != Good {
		t.Errorf("upstream: %+v", u)
	}
	ch.net.Run(2 * time.Second)
	if r := ch.b.m.lookup(testNSLP, testSID(1), &pc); r == nil || r.status != Good {
		t.Errorf("downstream, afterwards: %+v", r)
	}
}

// RFC 5971 §4.4.6: what a refused Confirm, or refused Data, does to the Querying
// node.
func TestRefusedConfirmAndData(t *testing.T) {
	for name, c := range map[string]struct {
		id    wire.ErrorID
		about wire.MessageType
		told  []string
		state bool // is there still some
	}{
		"a cookie too old":            {wire.InvalidCookie, wire.Confirm, []string{"bad"}, true},
		"no state for a Confirm":      {wire.NoRoutingState, wire.Confirm, []string{"bad", "good"}, true},
		"a Confirm refused":           {wire.MissingObject, wire.Confirm, []string{"bad"}, false},
		"no state for Data":           {wire.NoRoutingState, wire.Data, []string{"bad", "good"}, true},
		"the application is gone":     {wire.UnknownNSLPID, wire.Data, []string{"bad", "good"}, true},
		"Data that cannot be taken":   {wire.IncorrectEncapsulation, wire.Data, []string{"failure"}, true},
		"a hop limit too low":         {wire.HopLimitExceeded, wire.Data, []string{"failure"}, true},
		"a Response, of all messages": {wire.NoRoutingState, wire.Response, nil, true},
	} {
		ch := newChain(t, 11, dmodeData)
		ch.a.sendUnreliable(testSID(1), pc, "one.")
		ch.net.Run(time.Second)
		ch.a.took()
		ch.refusal(c.id, c.about)
		if got := ch.a.took(); strings.Join(got, " ") != strings.Join(c.told, " ") {
			t.Errorf("%s: told %v, want %v", name, got, c.told)
		}
		if got := ch.a.m.Stats().RoutingStates == 1; got != c.state {
			t.Errorf("%s: state %v", name, got)
		}
		ch.net.Run(2 * time.Second)
		if r := ch.a.m.lookup(testNSLP, testSID(1), &pc); c.state && (r == nil || r.status != Good) {
			t.Errorf("%s: afterwards %+v", name, r)
		}
	}
}

// RFC 5971 §7.1.2: messages "arriving [...] with a different IP layer TTL" are a
// hint: the querier verifies the path, the responder waits for that.
func TestTTLChangeIsAHint(t *testing.T) {
	ch := newChain(t, 12, dmodeData)
	back := pc.Reverse()
	exchange := func() {
		ch.a.sendUnreliable(testSID(1), pc, "down")
		ch.net.Run(time.Second)
		ch.b.sendUnreliable(testSID(1), back, "up..")
		ch.net.Run(time.Second)
	}
	exchange()
	exchange()
	wantTold(t, ch.a, "good")
	wantTold(t, ch.b, "good")
	queries := ch.a.m.Stats().QueriesOut
	ch.net.Default.Hops = 5
	exchange()
	// b's Data made the path Tentative at a, and a's at b; a's Query found b again,
	// further away.
	wantTold(t, ch.a, "tentative", "good")
	wantTold(t, ch.b, "tentative", "good")
	if n := ch.a.m.Stats().QueriesOut - queries; n != 1 {
		t.Errorf("%d Queries", n)
	}
	if ch.b.recv[0].Distance != 3 || ch.b.recv[2].Distance != 5 {
		t.Errorf("b was told of distances %d, %d", ch.b.recv[0].Distance, ch.b.recv[2].Distance)
	}
	exchange()
	wantTold(t, ch.a)
	wantTold(t, ch.b)
}

// RFC 5971 §7.1.2, probing: a refresh that finds the same peer at another distance
// has found a route change.
func TestDistanceChangesAtRefresh(t *testing.T) {
	ch := newChain(t, 13)
	ch.a.send(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.a.took()
	ch.b.took()
	ch.net.Run(25 * time.Second)
	wantTold(t, ch.a)
	wantTold(t, ch.b)
	ch.net.Default.Hops = 4
	ch.net.Run(25 * time.Second)
	wantTold(t, ch.a, "good")
	wantTold(t, ch.b, "good")
}

// RFC 5971 §5.6: an Error that is too large for D-mode loses of its objects what
// does not matter, and is not sent if that does not help.
func TestErrorTooLarge(t *testing.T) {
	b := onPath(t, func(c *Config) { c.Identity = []byte(strings.Repeat("i", 100)) })
	d := queryOf(pc, cAddr, func(m *wire.Message, _ *Datagram) {
		for range 250 {
			m.StackConfig.Options = append(m.StackConfig.Options, wire.MAOptions{Protocol: wire.ForwardsTCP, Profile: 9})
		}
		for len(m.StackProposal) < 100 {
			m.StackProposal = append(m.StackProposal, wire.Profile{wire.ForwardsTCP})
		}
		m.StackConfig.Options[0].Profile = 200
	})
	all, _ := errorsIn(b.do(d))
	if len(all) != 1 || all[0].Error.ID != wire.StackMismatch || dmodeSize(&all[0])+dmodeOverhead > 576 {
		t.Fatalf("%+v", all)
	}
	for i, want := range []wire.ObjectType{wire.ObjStackProposal, wire.ObjStackConfig} {
		object, _, ok := all[0].Error.Info[i].Object()
		if !ok || len(object) != 32 || wire.ObjectType(object[1]) != want {
			t.Errorf("object %d: % x", i, object)
		}
	}
	b = onPath(t, func(c *Config) { c.MTU = 200 })
	acts := b.do(d)
	if all, _ := errorsIn(acts); len(all) != 0 || !hasNote(acts, "error-too-large") {
		t.Errorf("MTU 200: %v", acts)
	}
}

// RFC 5971 §7.1.2: "if the Responding node can store the interface on which Queries
// arrive, it can detect if this interface changes even when the peer does not";
// §8.5: the cookie stores it.
func TestInterfaceChangesAtRefresh(t *testing.T) {
	b := onPath(t)
	handshake := func(iface uint32) (told []RoutingStatus) {
		d := queryOf(pc, cAddr, func(m *wire.Message, d *Datagram) {
			m.StackProposal, m.HasStackConfig = nil, false
			d.Transit, d.Interface = &Transit{}, iface
		})
		q, err := wire.ParseDatagram(d.Payload)
		if err != nil {
			t.Fatal(err)
		}
		r := b.response(b.do(d))
		c := confirmTo(&q, &r)
		c.HasStackConfig = false
		for _, a := range b.do(Datagram{Local: netip.AddrPortFrom(aAddr, testPort), From: d.From, TTL: 60, Payload: c.AppendDatagram(nil)}) {
			if n, ok := a.(NetworkNotification); ok {
				told = append(told, n.Status)
			}
		}
		return told
	}
	for i, c := range []struct {
		iface uint32
		told  int
	}{{3, 1}, {3, 0}, {4, 1}, {4, 0}} {
		if told := handshake(c.iface); len(told) != c.told || c.told > 0 && told[0] != Good {
			t.Errorf("handshake %d by interface %d: told %v", i, c.iface, told)
		}
	}
}
