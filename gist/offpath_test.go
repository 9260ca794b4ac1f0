package gist

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// The whole of RFC 5971 §4.4.1 figure 5 through two pairs of edges, and back.
func TestOffPathThreeDomains(t *testing.T) {
	d := newDomains(t, 1)
	d.forward()
	sid := testSID(1)
	d.q1.send(sid, hop12, "reserve.")
	d.net.Run(time.Second)
	if d.q3.received["reserve."] != 1 || d.q1.received["backreserve."] != 1 {
		t.Fatalf("q3 got %v, q1 got %v; notes %v %v %v", d.q3.received, d.q1.received, d.q1.notes, d.q2.notes, d.q3.notes)
	}
	r := d.q2.recv[0]
	if r.Via != e2inInt || r.Peer != q1Addr || r.PeerID != "q1" || r.SII == 0 || r.HopCount != DefaultHopCount-1 || !r.Attr.Reliable {
		t.Errorf("q2's application was told %+v", r)
	}
	for _, n := range []*simNode{d.q1, d.q2, d.q3} {
		n.check()
		if len(n.status) != 0 {
			t.Errorf("%s: %v", n.cfg.Identity, n.status)
		}
	}
	// RFC 5971 §B.5: after SetStateLifetime 0 in both directions nothing is left.
	d.q1.forget(sid, hop12)
	d.q2.forget(sid, hop12.Reverse())
	d.q2.forget(sid, hop23)
	d.q3.forget(sid, hop23.Reverse())
	for _, n := range []*simNode{d.q1, d.q2, d.q3} {
		n.wantEmpty()
		n.check()
	}
	// "Unneeded MAs are torn down by GIST" (RFC 5971 §4.4.5).
	d.net.Run(3 * time.Minute)
	for _, n := range []*simNode{d.q1, d.q2, d.q3} {
		if s := n.m.Stats(); s.Associations != 0 {
			t.Errorf("%s keeps %d associations that nobody needs", n.cfg.Identity, s.Associations)
		}
		if len(n.conns) != 0 {
			t.Errorf("%s: connections left open: %v", n.cfg.Identity, n.conns)
		}
	}
}

// RFC 5971 §4.4.3: "If there is a perfect match to an existing association, that
// association SHOULD be re-used": one association serves every session, and from
// the second on Response and Confirm go over it.
func TestAssociationReuse(t *testing.T) {
	d := newDomains(t, 2)
	connects, responses := 0, map[string]int{}
	d.net.Tap = func(kind string, from, to netip.AddrPort, b []byte) {
		if kind == "udp" {
			b = b[wire.MagicLen:]
		}
		if h, err := wire.ParseHeader(b); err == nil && (h.Type == wire.Response || h.Type == wire.Confirm) {
			responses[kind+" "+h.Type.String()]++
		}
	}
	for i := range 20 {
		d.q1.send(testSID(i), hop12, "x")
		d.net.Run(100 * time.Millisecond)
	}
	d.q1.m.Associations(func(AssociationInfo) bool { connects++; return true })
	if connects != 1 || len(d.q2.recv) != 20 {
		t.Errorf("%d associations, %d messages", connects, len(d.q2.recv))
	}
	want := map[string]int{"udp Response": 1, "tcp Response": 19, "tcp Confirm": 20}
	if fmt.Sprint(responses) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", responses, want)
	}
	if d.q1.recv != nil || d.q2.recv[0].SII != d.q2.recv[19].SII {
		t.Error("\"GIST if possible SHOULD use the same SII-Handle for multiple sessions to the same peer\" (§7.1.4)")
	}
}

// Many sessions at once while the first association is being connected: one
// connection, and messages wait (RFC 5971 §4.2.2).
func TestBurstSharesTheConnectingAssociation(t *testing.T) {
	d := newDomains(t, 3)
	for i := range 50 {
		d.q1.send(testSID(i), hop12, fmt.Sprintf("a%03d", i))
		d.q1.send(testSID(i), hop12, fmt.Sprintf("b%03d", i))
	}
	d.net.Run(time.Second)
	if s := d.q1.m.Stats(); s.Associations != 1 || len(d.q2.recv) != 100 {
		t.Errorf("%d associations, %d messages", s.Associations, len(d.q2.recv))
	}
	d.q1.check()
	d.q2.check()
}

// 30 % loss, duplication, reordering: every message arrives once, in order
// within its session (RFC 5971 §4.1.2).
func TestOffPathLossDuplicationReordering(t *testing.T) {
	for seed := range uint64(20) {
		d := newDomains(t, seed, func(c *Config) { c.MessageTimeout = 5 * time.Minute })
		d.net.Default = simnet.Link{Duplicate: 0.3, Delay: 5 * time.Millisecond, Jitter: 400 * time.Millisecond}
		lossy := d.net.Default
		lossy.Loss = 0.3
		for _, l := range [][2]netip.Addr{{e1Ext, e2inExt}, {e2outExt, e3Ext}, {q1Addr, q2Addr}, {q2Addr, q3Addr}} {
			d.net.SetLink(l[0], l[1], lossy)
		}
		d.forward()
		const sessions = 10
		for i := range sessions {
			for k := range 3 {
				d.q1.send(testSID(i), hop12, fmt.Sprintf("%02d-%d", i, k))
			}
		}
		d.net.Run(4 * time.Minute)
		next := map[wire.SID]int{}
		for _, r := range d.q3.recv {
			if int(r.Data[3]-'0') != next[r.SID] {
				t.Fatalf("seed %d: %q out of order", seed, r.Data)
			}
			next[r.SID]++
		}
		if len(d.q3.recv) != 3*sessions || len(d.q1.recv) != 3*sessions {
			t.Fatalf("seed %d: q3 got %d, q1 %d, want %d; %v", seed, len(d.q3.recv), len(d.q1.recv), 3*sessions, d.q1.status)
		}
		for _, n := range []*simNode{d.q1, d.q2, d.q3} {
			n.check()
		}
	}
}

// RFC 5971 §4.4.4: "The Querying node MUST ensure that a Query is received
// before this timer expires".
func TestRefreshKeepsState(t *testing.T) {
	d := newDomains(t, 4, func(c *Config) {
		c.ValidityOffPath, c.Inactivity = time.Minute, 24*time.Hour
	})
	sid := testSID(1)
	d.q1.send(sid, hop12, "x")
	d.net.Run(time.Hour)
	s1, s2 := d.q1.m.Stats(), d.q2.m.Stats()
	if s1.RoutingStates != 1 || s2.RoutingStates != 1 || s1.Associations != 1 || s2.Associations != 1 {
		t.Fatalf("after an hour: %+v, %+v", s1, s2)
	}
	// Between 1/2 and 3/4 of a minute each: 80 to 120 in the hour.
	if s1.QueriesOut < 80 || s1.QueriesOut > 121 {
		t.Errorf("%d Queries in an hour", s1.QueriesOut)
	}
	if n := len(d.q1.notices); n != 1 {
		t.Errorf("a refresh that changes nothing was notified: %v", d.q1.notices)
	}
	// And at the other side: state that nobody refreshes expires.
	d.q1.forget(sid, hop12)
	d.net.Run(time.Minute + time.Second)
	d.q2.wantEmpty()
	if last := d.q2.notices[len(d.q2.notices)-1]; last.Status != Bad || last.MRI != hop12.Reverse() {
		t.Errorf("expiry was told as %+v", last)
	}
}

// RFC 5971 §6.2: to_Inactive_QNode ends state that nothing uses; "GIST MUST NOT
// refresh routing state if a signalling session is known to be inactive" (§4.4.4).
func TestInactivityEndsQueryingState(t *testing.T) {
	d := newDomains(t, 5, func(c *Config) { c.ValidityOffPath = time.Minute })
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	d.q1.do(SetStateLifetime{NSLPID: testNSLP, SID: testSID(1), MRI: hop12, Lifetime: 5 * time.Minute})
	d.net.Run(5*time.Minute - 2*time.Second)
	if d.q1.m.Stats().RoutingStates != 1 {
		t.Fatal("gone too early")
	}
	d.net.Run(3 * time.Second)
	d.q1.wantEmpty()
	d.net.Run(time.Minute)
	d.q2.wantEmpty()
}

// RFC 5971 §4.4.6: the responder has lost its state; "The Querying node MUST
// restart the GIST handshake from the beginning, with a new Query", and the Data
// is sent again.
func TestNoRoutingStateRestartsAndResends(t *testing.T) {
	d := newDomains(t, 6)
	sid := testSID(1)
	d.q1.send(sid, hop12, "one.")
	d.net.Run(time.Second)
	d.q2.forget(sid, hop12.Reverse()) // and the association stays
	for _, s := range []string{"two.", "tree", "four"} {
		d.q1.send(sid, hop12, s)
	}
	d.net.Run(2 * time.Second)
	got := ""
	for _, r := range d.q2.recv {
		got += string(r.Data)
	}
	if got != "one.two.treefour" {
		t.Errorf("q2 got %q, notes %v", got, d.q1.notes)
	}
	if d.q2.noted("no-routing-state") == 0 {
		t.Error("the responder rejected nothing: nothing was tested")
	}
}

// RFC 5971 §4.4.5, §6.3: the responder restarts: the querier finds out by the broken association, by
// the error, or by its next Query, and what is sent afterwards arrives.
func TestRestartOfResponder(t *testing.T) {
	for _, id := range []string{"", "q2-again"} {
		d := newDomains(t, 7)
		d.q1.send(testSID(1), hop12, "one.")
		d.net.Run(time.Second)
		d.q2.restart(id)
		d.net.Run(5 * time.Second)
		d.q1.send(testSID(1), hop12, "two.")
		d.net.Run(5 * time.Second)
		if d.q2.received["two."] != 1 {
			t.Errorf("identity %q: %v, q1 notes %v", id, d.q2.received, d.q1.notes)
		}
		d.q1.check()
	}
}

// RFC 5971 §6.4: "if the messaging association was being used to deliver
// messages reliably, this MUST be reported as a NetworkNotification error".
func TestBrokenAssociationIsReported(t *testing.T) {
	d := newDomains(t, 8)
	d.q1.send(testSID(1), hop12, "one.")
	d.net.Run(time.Second)
	for _, c := range d.q1.conns {
		c.Break(simnet.ErrReset)
	}
	last := d.q1.notices[len(d.q1.notices)-1]
	if last.Type != CommunicationFailure || last.SID != testSID(1) || last.MRI != hop12 {
		t.Fatalf("told %+v", last)
	}
	// Traffic was recent: the handshake is done again without being asked.
	d.net.Run(5 * time.Second)
	d.q2.do(SendMessage{NSLPData: []byte("back"), NSLPID: testNSLP, SID: testSID(1), MRI: hop12.Reverse(), Attr: TransferAttributes{Reliable: true}})
	d.net.Run(time.Second)
	if d.q1.received["back"] != 1 {
		t.Errorf("q1 got %v", d.q1.received)
	}
}

// What a MA-Hello exchange has confirmed is not reported as lost: "GIST MAY use
// an MA-Hello request/reply exchange on an existing association to verify that
// messages sent on it have reached the peer" (RFC 5971 §4.4.5).
func TestHelloConfirmsDelivery(t *testing.T) {
	d := newDomains(t, 9)
	d.q1.send(testSID(1), hop12, "one.")
	d.net.Run(time.Minute)
	if d.q1.m.Stats().HellosOut == 0 {
		t.Fatal("no MA-Hello in a minute")
	}
	before := len(d.q1.notices)
	for _, c := range d.q1.conns {
		c.Break(simnet.ErrReset)
	}
	for _, n := range d.q1.notices[before:] {
		if n.Type == CommunicationFailure {
			t.Errorf("told %+v of a message that had arrived", n)
		}
	}
}

// RFC 5971 §6.4: "Failure to receive a reply with a matching Hello-ID within a
// timeout MAY be taken as a reason to trigger er_MAFailure."
func TestSilentPeerIsFoundDead(t *testing.T) {
	d := newDomains(t, 10)
	d.q1.send(testSID(1), hop12, "one.")
	d.net.Run(time.Second)
	d.net.StreamTimeout = time.Hour
	d.net.Partition(q1Addr, q2Addr)
	d.net.Run(time.Minute)
	if s := d.q1.m.Stats(); s.Associations != 0 {
		t.Errorf("after a minute of silence: %+v", s)
	}
	d.net.Heal(q1Addr, q2Addr)
	d.q1.send(testSID(1), hop12, "two.")
	d.net.Run(time.Minute)
	if d.q2.received["two."] != 1 {
		t.Errorf("after healing: %v; %v", d.q2.received, d.q1.status)
	}
}

// Both nodes open an association at the same time: in the end both use the same
// one of the two.
func TestSimultaneousAssociations(t *testing.T) {
	direct := func(peer netip.Addr) func(wire.MRI) (QueryRoute, error) {
		return func(wire.MRI) (QueryRoute, error) {
			return QueryRoute{To: netip.AddrPortFrom(peer, testPort), Direct: true, AllowedPeers: []netip.Addr{peer}}, nil
		}
	}
	net := simnet.New(1, testStart)
	net.Default = simnet.Link{Delay: 10 * time.Millisecond}
	a := newSimNode(t, net, Config{Identity: []byte("a"), Address: q1Addr, Route: direct(q2Addr), DirectPeers: []netip.Addr{q2Addr}, ValidityOffPath: time.Minute})
	b := newSimNode(t, net, Config{Identity: []byte("b"), Address: q2Addr, Route: direct(q1Addr), DirectPeers: []netip.Addr{q1Addr}, ValidityOffPath: time.Minute})
	a.send(testSID(1), hop12, "ab..")
	b.send(testSID(2), hop12.Reverse(), "ba..")
	net.Run(time.Second)
	if a.received["ba.."] != 1 || b.received["ab.."] != 1 || a.m.Stats().Associations != 2 {
		t.Fatalf("a %v, b %v, %+v", a.received, b.received, a.m.Stats())
	}
	net.Run(10 * time.Minute)
	sa, sb := a.m.Stats(), b.m.Stats()
	if sa.Associations != 1 || sb.Associations != 1 || sa.RoutingStates != 2 || sb.RoutingStates != 2 {
		t.Errorf("after ten minutes: %+v, %+v", sa, sb)
	}
	a.m.Associations(func(i AssociationInfo) bool {
		if i.Dialled {
			t.Error("a kept its own: want the one of b, whose identity is greater")
		}
		return true
	})
	if a.noted("error-received")+b.noted("error-received") > 0 {
		t.Errorf("errors: %v %v", a.notes, b.notes)
	}
}

// InterDomain-QOSM section 3, steps 3 and 4: Off-Path Queries are taken only
// from our own edges, for peers listed behind them; nobody else is answered.
func TestStrangersGetNoAnswer(t *testing.T) {
	d := newDomains(t, 11)
	sent := 0
	d.net.Tap = func(kind string, from, _ netip.AddrPort, _ []byte) {
		if from.Addr() == q2Addr {
			sent++
		}
	}
	q := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Query, C: true, R: true, S: true},
		HasMRI: true, MRI: hop12, HasSID: true, SID: testSID(1),
		HasNLI:      true,
		NLI:         wire.NLI{PeerIdentity: []byte("q1"), Address: q1Addr, ValidityMS: 1000},
		QueryCookie: []byte("12345678"), StackProposal: wire.StackProposal{{1}}, HasStackConfig: true,
		StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: 1}}},
	}
	stranger := netip.MustParseAddrPort("10.9.9.9:1270")
	send := func(from netip.AddrPort) {
		d.q2.do(Datagram{Local: netip.AddrPortFrom(q2Addr, testPort), From: from, Payload: q.AppendDatagram(nil)})
	}
	send(stranger)
	q.NLI.Address = addr("10.9.9.9")
	send(netip.AddrPortFrom(e2inInt, testPort)) // our edge, but not a listed peer
	q.NLI.Address, q.NSLPID = q1Addr, 77
	send(stranger)
	q.HopCount = 0
	send(stranger)
	bad := q.AppendDatagram(nil)
	d.q2.do(Datagram{From: stranger, Payload: bad[:len(bad)-2]})
	d.net.Run(time.Second)
	if sent > 0 {
		t.Errorf("%d datagrams to strangers; notes %v", sent, d.q2.notes)
	}
	d.q2.wantEmpty()
}

// RFC 5971 §8.4: "State is only established for messages that contain a valid
// cookie": a flood of spoofed Queries leaves no state, and is limited.
func TestQueryFloodLeavesNoState(t *testing.T) {
	d := newDomains(t, 12, func(c *Config) { c.Limits.QueryRate, c.Limits.QueryBurst = 1000, 100 })
	before := len(d.q2.m.peers)
	for i := range 5000 {
		d.q2.do(Datagram{
			Local: netip.AddrPortFrom(q2Addr, testPort), From: netip.AddrPortFrom(e2inInt, testPort),
			Payload: queryFor(testSID(i), "q1", q1Addr),
		})
	}
	d.q2.wantEmpty()
	if len(d.q2.m.peers) != before || len(d.q2.m.timers.heap) != 0 {
		t.Errorf("%d peers, %d timers", len(d.q2.m.peers), len(d.q2.m.timers.heap))
	}
	if got := d.q2.noted("rate-limited"); got < 4800 {
		t.Errorf("only %d of 5000 Queries in an instant were over the limit of 100", got)
	}
}

func queryFor(sid wire.SID, id string, a netip.Addr) []byte {
	q := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Query, C: true, R: true},
		HasMRI: true, MRI: hop12, HasSID: true, SID: sid,
		HasNLI:      true,
		NLI:         wire.NLI{PeerIdentity: []byte(id), Address: a, ValidityMS: 1000},
		QueryCookie: []byte("12345678"), StackProposal: wire.StackProposal{{1}}, HasStackConfig: true,
		StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: 1}}},
	}
	return q.AppendDatagram(nil)
}

// RFC 5971 §5.3.3: without an answer the Query is repeated after T1, doubling
// up to T2 = 64*T1, each time with another Query-Cookie; then the application is
// told.
func TestQueryRetransmission(t *testing.T) {
	d := newDomains(t, 13, func(c *Config) { c.MessageTimeout = time.Hour })
	var at []time.Duration
	cookies := map[string]bool{}
	d.net.Tap = func(kind string, from, to netip.AddrPort, b []byte) {
		m, err := wire.ParseDatagram(b)
		if err == nil && m.Type == wire.Query {
			at = append(at, d.net.Now().Sub(testStart))
			cookies[string(m.QueryCookie)] = true
		}
	}
	d.net.Down(d.e1.host, true)
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(2 * time.Minute)
	want := []time.Duration{0, 500, 1500, 3500, 7500, 15500, 31500}
	if len(at) != len(want) || len(cookies) != len(want) {
		t.Fatalf("sent at %v, %d cookies", at, len(cookies))
	}
	for i := range want {
		if at[i] != want[i]*time.Millisecond {
			t.Errorf("Query %d at %v, want %v", i, at[i], want[i]*time.Millisecond)
		}
	}
	if len(d.q1.status) != 1 || !errors.Is(d.q1.status[0].Err, ErrNoPeer) {
		t.Errorf("told %v", d.q1.status)
	}
	d.q1.wantEmpty()
}

// RFC 5971 §5.3.3: with a timeout on the payload "T2 MUST be chosen so that the
// process terminates within this timeout".
func TestMessageTimeoutEndsTheHandshake(t *testing.T) {
	d := newDomains(t, 14)
	d.net.Down(d.e1.host, true)
	d.q1.do(SendMessage{NSLPData: []byte("abcd"), Handle: 7, NSLPID: testNSLP, SID: testSID(1), MRI: hop12, Timeout: 2 * time.Second})
	d.net.Run(2 * time.Second)
	if len(d.q1.status) != 1 || d.q1.status[0].Handle != 7 || !errors.Is(d.q1.status[0].Err, ErrTimeout) {
		t.Errorf("told %v", d.q1.status)
	}
	d.net.Run(5 * time.Second)
	d.q1.wantEmpty()
}

// InterDomain-QOSM section 3, step 2: "if its forwarding table disagrees ... it
// answers MRI Validation Failure", and the application hears of it at once.
func TestEdgeRefusalReachesTheApplication(t *testing.T) {
	d := newDomains(t, 15)
	d.e1.e.cfg.ForwardingCheck = func(wire.MRI) bool { return false }
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(100 * time.Millisecond)
	var refused *RefusedError
	if len(d.q1.status) != 1 || !errors.As(d.q1.status[0].Err, &refused) || !errors.Is(refused, ErrPeerRefused) {
		t.Fatalf("told %v", d.q1.status)
	}
	if refused.ID != wire.IngressFilterFailure || refused.From != e1Int {
		t.Errorf("refused by %v: %v", refused.From, refused.ID)
	}
	d.q1.wantEmpty()
}

// A Response from a node that the route does not allow is not taken.
func TestResponseFromWrongPeer(t *testing.T) {
	d := newDomains(t, 16)
	d.q1.m.cfg.Route = relayedRoute(e1Int, addr("10.2.0.99"))
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	if d.q1.noted("peer-not-allowed") == 0 || d.q1.m.Stats().Associations != 0 || len(d.q2.recv) != 0 {
		t.Errorf("notes %v", d.q1.notes)
	}
}

// Nothing is lost when the connection cannot be opened at first.
func TestConnectFailureIsRetried(t *testing.T) {
	d := newDomains(t, 17)
	accept := d.q2.host.Accept
	refusals := 0
	d.q2.host.Accept = func(c *simnet.Conn) bool {
		if refusals++; refusals <= 3 {
			return false
		}
		return accept(c)
	}
	d.q1.send(testSID(1), hop12, "keep")
	d.net.Run(20 * time.Second)
	if d.q2.received["keep"] != 1 || refusals != 4 {
		t.Errorf("%d attempts, q2 got %v, status %v", refusals, d.q2.received, d.q1.status)
	}
	d.q1.check()
}

// And when it never can, the message's sender is told.
func TestConnectNeverWorks(t *testing.T) {
	d := newDomains(t, 18, func(c *Config) { c.MessageTimeout = time.Hour })
	d.q2.host.Accept = func(*simnet.Conn) bool { return false }
	d.q1.send(testSID(1), hop12, "lost")
	d.net.Run(5 * time.Minute)
	if len(d.q1.status) != 1 || !errors.Is(d.q1.status[0].Err, ErrNoPeer) {
		t.Errorf("told %v", d.q1.status)
	}
	d.q1.wantEmpty()
	d.q1.check()
	if n := d.q1.m.Stats().QueriesOut; n > 10 {
		t.Errorf("%d Queries against a port that refuses", n)
	}
}

// RFC 5971 §4.2.1: "When this timer expires, the entry MUST be purged if it has
// not been refreshed": with nobody to answer the refresh the peer is forgotten
// when its validity ends, and the application is told.
func TestValidityEndsWithoutAnswer(t *testing.T) {
	d := newDomains(t, 19, func(c *Config) {
		c.ValidityOffPath, c.T2, c.Inactivity = time.Minute, time.Hour, time.Hour
	})
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	d.net.Down(d.e1.host, true)
	d.net.Run(58 * time.Second)
	if r := d.q1.m.lookup(testNSLP, testSID(1), &hop12); r == nil || r.peer == nil || r.state != awaitingRefresh {
		t.Fatalf("before the end: %+v", r)
	}
	d.net.Run(2 * time.Second)
	if r := d.q1.m.lookup(testNSLP, testSID(1), &hop12); r != nil && r.peer != nil {
		t.Errorf("still has a peer: %+v", r)
	}
	if last := d.q1.notices[len(d.q1.notices)-1]; last.Type != RoutingStatusChange || last.Status != Bad {
		t.Errorf("told %+v", last)
	}
	d.net.Run(time.Minute)
	d.q1.wantEmpty()
	d.q2.wantEmpty() // to_Expire_RNode (§6.3)
}

// RFC 5971 §6.1, the Node-SM: Data without state is rejected (rule 4), a
// SendMessage makes a Querying-SM (rule 5), a Confirm a Responding-SM (rule 3).
func TestNodeSM(t *testing.T) {
	d := newDomains(t, 20)
	d.q1.send(testSID(1), hop12, "x")
	if r := d.q1.m.lookup(testNSLP, testSID(1), &hop12); r == nil || !r.querying || r.state != awaitingResponse {
		t.Errorf("after tg_NSLPData: %+v", r)
	}
	if d.net.Run(4 * time.Millisecond); d.q2.m.Stats().RoutingStates != 0 {
		t.Error("rx_Query made state")
	}
	d.net.Run(time.Second)
	back := hop12.Reverse()
	if r := d.q2.m.lookup(testNSLP, testSID(1), &back); r == nil || r.querying || r.state != established {
		t.Errorf("after rx_Confirm: %+v", r)
	}
	if r := d.q1.m.lookup(testNSLP, testSID(1), &hop12); r.state != established {
		t.Errorf("after rx_Response: %v", r.state)
	}
}
