package gist

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// bench is one machine, fed by hand.
type bench struct {
	t   *testing.T
	m   *Machine
	now time.Time
}

func newBench(t *testing.T, change ...func(*Config)) *bench {
	t.Helper()
	cfg := Config{
		Identity: []byte("me"), Address: q2Addr, Port: testPort, TCPPort: tcpPort, Insecure: true,
		NSLPIDs: []wire.NSLPID{testNSLP}, Rand: testRand(3),
		Edges: []ServedEdge{
			{Internal: e2inInt, External: e2inExt, NeighborAS: 65001, PeerQNEs: []netip.Addr{q1Addr}},
			{Internal: e2outInt, External: e2outExt, NeighborAS: 65003, PeerQNEs: []netip.Addr{q3Addr, q1Addr}},
		},
		Route: relayedRoute(e2outInt, q3Addr),
	}
	for _, f := range change {
		f(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t, m, testStart}
}

func (b *bench) do(ev Event) []Action { return kept(b.m.Handle(b.now, ev)) }

// udp hands in a datagram that our edge relayed.
func (b *bench) udp(m *wire.Message) []Action {
	return b.do(Datagram{Local: netip.AddrPortFrom(q2Addr, testPort), From: netip.AddrPortFrom(e2inInt, testPort), TTL: 60, Payload: m.AppendDatagram(nil)})
}

func (b *bench) conn(id ConnID, m *wire.Message) []Action {
	return b.do(&ConnMessage{Conn: id, Payload: m.Append(nil)})
}

func mustQuery(sid wire.SID) wire.Message {
	m, err := wire.ParseDatagram(queryFor(sid, "q1", q1Addr))
	if err != nil {
		panic(err)
	}
	return m
}

// response returns the Response among actions.
func (b *bench) response(actions []Action) wire.Message {
	b.t.Helper()
	for _, a := range actions {
		var m wire.Message
		var err error
		switch a := a.(type) {
		case SendDatagram:
			m, err = wire.ParseDatagram(a.Payload)
		case *SendConn:
			m, err = wire.Parse(a.Payload)
		default:
			continue
		}
		if err == nil && m.Type == wire.Response {
			return m
		}
	}
	b.t.Fatalf("no Response in %v", actions)
	return wire.Message{}
}

// confirmTo is the Confirm that answers a Response.
func confirmTo(q, r *wire.Message) wire.Message {
	return wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: q.NSLPID, Type: wire.Confirm, S: true},
		HasMRI: true, MRI: q.MRI, HasSID: true, SID: q.SID, HasNLI: true, NLI: q.NLI,
		ResponderCookie: r.ResponderCookie, StackProposal: r.StackProposal,
		HasStackConfig: len(r.StackProposal) > 0, StackConfig: wire.StackConfig{HoldTimeMS: 30000},
	}
}

// errorIn returns the GIST error sent among actions, 0 if none.
func errorIn(actions []Action) wire.ErrorID {
	for _, a := range actions {
		var m wire.Message
		switch a := a.(type) {
		case SendDatagram:
			m, _ = wire.ParseDatagram(a.Payload)
		case *SendConn:
			m, _ = wire.Parse(a.Payload)
		}
		if m.Error != nil {
			return m.Error.ID
		}
	}
	return 0
}

func hasNote(actions []Action, kind string) bool {
	for _, a := range actions {
		if n, ok := a.(Note); ok && n.Kind == kind {
			return true
		}
	}
	return false
}

func closes(actions []Action, id ConnID) bool { return slices.Contains(actions, Action(CloseConn{id})) }

const accepted = ConnID(2)

// upTo brings b to where the connection stands and the Confirm is due.
func (b *bench) upTo(sid wire.SID) (q, r wire.Message) {
	q = mustQuery(sid)
	r = b.response(b.udp(&q))
	b.do(ConnAccepted{Conn: accepted, Remote: netip.AddrPortFrom(q1Addr, 4000)})
	return q, r
}

// The Response of RFC 5971 §5.1, field by field, by rule 1 of §6.1: "send Response
// with R=1", and nothing is created.
func TestResponse(t *testing.T) {
	b := newBench(t)
	q := mustQuery(testSID(1))
	acts := b.udp(&q)
	r := b.response(acts)
	sent, _ := outOf(acts)
	// "answers straight to the NLI address"; S=1 in the normal encapsulation.
	if len(sent) != 1 || sent[0].To != netip.AddrPortFrom(q1Addr, testPort) || sent[0].Local != q2Addr || sent[0].RouterAlert {
		t.Errorf("sent %+v", sent)
	}
	// "It MUST echo the MRI, SID, and Query-Cookie of the Query"; "the direction
	// of this MRI will be inverted"; R=1 with a Responder-Cookie.
	if r.MRI != q.MRI.Reverse() || r.SID != q.SID || !bytes.Equal(r.QueryCookie, q.QueryCookie) || !r.R || !r.S || r.C {
		t.Errorf("got %+v", r)
	}
	// "If the message exchange relates to setup of a new messaging association
	// ... a Responder-Cookie MUST be included, as well as the Responder's own
	// stack proposal and configuration data."
	opt, ok := r.StackConfig.Lookup(wire.ForwardsTCP, 1)
	port, _ := opt.Port()
	if len(r.ResponderCookie) == 0 || !ok || port != tcpPort || len(r.StackProposal) != 1 {
		t.Errorf("stack %v %+v", r.StackProposal, r.StackConfig)
	}
	// Off-Path: "Routing state validity is at least the larger of 600 s ...".
	if r.NLI.ValidityMS != 600_000 || r.NLI.Address != q2Addr || string(r.NLI.PeerIdentity) != "me" {
		t.Errorf("NLI %+v", r.NLI)
	}
	// RFC 5971 §8.6: "The Response does not depend on the Stack-Proposal in the
	// Query".
	q2 := mustQuery(testSID(2))
	q2.StackProposal = wire.StackProposal{{2, 1}, {1}}
	q2.StackConfig.Options = append(q2.StackConfig.Options, wire.MAOptions{Protocol: 2})
	if r2 := b.response(b.udp(&q2)); !r2.StackProposal.Equal(r.StackProposal) {
		t.Errorf("proposal %v, to another Query %v", r.StackProposal, r2.StackProposal)
	}
	if b.m.Stats().RoutingStates != 0 || len(b.m.timers.heap) != 0 {
		t.Error("a Query left state")
	}
}

// RFC 5971 §8.5: the Responder-Cookie "must be bound to the routing state that
// will be installed": a Confirm with anything changed makes nothing, and "if this
// is the first message on a new MA, the MA MUST be torn down" (§5.7.1).
func TestResponderCookieBinding(t *testing.T) {
	flip := func(i int) func(*wire.Message) {
		return func(m *wire.Message) { m.ResponderCookie = bytes.Clone(m.ResponderCookie); m.ResponderCookie[i] ^= 1 }
	}
	cases := map[string]func(*wire.Message){
		"nothing":          nil,
		"SID":              func(m *wire.Message) { m.SID[3]++ },
		"MRI":              func(m *wire.Message) { m.MRI.Flow.DstPort++ },
		"ingress":          func(m *wire.Message) { m.MRI.Ingress = netip.Addr{} },
		"direction":        func(m *wire.Message) { m.MRI.Upstream = true },
		"NSLPID":           func(m *wire.Message) { m.NSLPID = 2 },
		"identity":         func(m *wire.Message) { m.NLI.PeerIdentity = []byte("q9") },
		"address":          func(m *wire.Message) { m.NLI.Address = addr("10.1.0.8") },
		"no cookie":        func(m *wire.Message) { m.ResponderCookie, m.StackProposal, m.HasStackConfig = nil, nil, false },
		"short cookie":     func(m *wire.Message) { m.ResponderCookie = m.ResponderCookie[:24] },
		"proposal":         func(m *wire.Message) { m.StackProposal = wire.StackProposal{{1}, {2, 1}} },
		"no proposal":      func(m *wire.Message) { m.StackProposal, m.HasStackConfig = nil, false },
		"cookie, tag":      flip(0),
		"cookie, edge":     flip(5),
		"cookie, bad edge": flip(4),
		"cookie, port":     flip(7),
		"cookie, hops":     flip(8),
		"cookie, flags":    flip(9),
		"cookie, MAC":      flip(27),
	}
	for name, change := range cases {
		b := newBench(t, func(c *Config) { c.NSLPIDs = []wire.NSLPID{1, 2} })
		q, r := b.upTo(testSID(1))
		c := confirmTo(&q, &r)
		if change != nil {
			change(&c)
		}
		acts := b.conn(accepted, &c)
		states := b.m.Stats().RoutingStates
		switch {
		case change == nil && (states != 1 || closes(acts, accepted)):
			t.Fatalf("the unchanged Confirm made %d states: %v", states, acts)
		case change != nil && (states != 0 || !closes(acts, accepted) || !hasNote(acts, "bad-confirm")):
			t.Errorf("%s changed: %d states, %v", name, states, acts)
		}
	}
}

// RFC 5971 §8.5: "Liveness: The cookie must be live as above, to prevent replay
// attacks." It lives for one to two lifetimes of a secret.
func TestResponderCookieLiveness(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		want int
	}{{time.Second, 1}, {119 * time.Second, 1}, {4*time.Minute + time.Second, 0}, {time.Hour, 0}} {
		b := newBench(t)
		q, r := b.upTo(testSID(1))
		conf := confirmTo(&q, &r)
		b.m.now += int64(c.age) // the accepted connection is not to time out
		b.now = b.now.Add(c.age)
		b.m.assocs[accepted].giveUpAt = never
		b.m.timers.set(b.m.assocs[accepted], never)
		b.conn(accepted, &conf)
		if got := b.m.Stats().RoutingStates; got != c.want {
			t.Errorf("cookie %v old: %d states, want %d", c.age, got, c.want)
		}
	}
	// With traffic in between, the secret before the newest still serves, and
	// the one before that does not.
	for minutes, want := range map[int]int{1: 1, 3: 1, 5: 0} {
		b := newBench(t)
		q, r := b.upTo(testSID(1))
		b.m.assocs[accepted].giveUpAt = never
		b.m.timers.set(b.m.assocs[accepted], never)
		for range minutes {
			b.now = b.now.Add(time.Minute)
			other := mustQuery(testSID(5))
			b.udp(&other)
		}
		conf := confirmTo(&q, &r)
		b.conn(accepted, &conf)
		if got := b.m.Stats().RoutingStates; got != want {
			t.Errorf("after %d minutes of traffic: %d states, want %d", minutes, got, want)
		}
	}
}

// RFC 5971 §4.4.5: "If the object is missing in the Confirm, an 'Object Type
// Error' message with subcode 2 ('Missing Object') MUST be returned."
func TestFirstConfirmNeedsHoldTime(t *testing.T) {
	b := newBench(t)
	q, r := b.upTo(testSID(1))
	c := confirmTo(&q, &r)
	c.HasStackConfig = false
	acts := b.conn(accepted, &c)
	if errorIn(acts) != wire.MissingObject || !closes(acts, accepted) || b.m.Stats().RoutingStates != 0 {
		t.Errorf("got %v", acts)
	}
}

// RFC 5971 §A.4.4.3: "the Confirm for a handshake that sets up a messaging
// association arrives in D-mode", "a Query arrives over an MA", and the like.
func TestIncorrectEncapsulation(t *testing.T) {
	b := newBench(t)
	q, r := b.upTo(testSID(1))
	c := confirmTo(&q, &r)
	c.HasStackConfig = false
	if got := errorIn(b.udp(&c)); got != wire.IncorrectEncapsulation {
		t.Errorf("Confirm in D-mode: %v", got)
	}
	if got := errorIn(b.conn(accepted, &q)); got != wire.IncorrectEncapsulation {
		t.Errorf("Query over an association: %v", got)
	}
	hello := wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, S: true}, HasHelloID: true}
	b.udp(&hello) // codec or machine: it must not panic and must leave nothing
	data := wire.Message{
		Header: wire.Header{HopCount: 3, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: hop12, HasSID: true, SID: testSID(1), HasNLI: true, NLI: q.NLI, NSLPData: []byte("abcd"),
	}
	if got := errorIn(b.udp(&data)); got != wire.IncorrectEncapsulation {
		t.Errorf("Off-Path Data in D-mode: %v", got)
	}
	if b.m.Stats().RoutingStates != 0 {
		t.Error("state was made")
	}
}

// A connection whose first message is no Confirm is closed, and so is one that
// stays silent.
func TestStrangersConnections(t *testing.T) {
	b := newBench(t)
	q, _ := b.upTo(testSID(1))
	data := wire.Message{
		Header: wire.Header{HopCount: 3, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: q.MRI, HasSID: true, SID: q.SID, NSLPData: []byte("abcd"),
	}
	if acts := b.conn(accepted, &data); !closes(acts, accepted) {
		t.Errorf("Data first: %v", acts)
	}
	b.do(ConnAccepted{Conn: 4})
	hello := wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, S: true}, HasHelloID: true}
	if acts := b.conn(4, &hello); !closes(acts, 4) {
		t.Errorf("MA-Hello first: %v", acts)
	}
	b.do(ConnAccepted{Conn: 6})
	if acts := b.do(&ConnMessage{Conn: 6, Payload: []byte("nonsense")}); !closes(acts, 6) {
		t.Errorf("nonsense first: %v", acts)
	}
	b.do(ConnAccepted{Conn: 8})
	b.now = b.now.Add(10 * time.Second)
	if acts := b.do(nil); !closes(acts, 8) {
		t.Errorf("silence: %v", acts)
	}
	for i := range 300 {
		b.do(ConnAccepted{Conn: ConnID(100 + 2*i)})
	}
	if n := b.m.Stats().Associations; n != 256 {
		t.Errorf("%d connections without a Confirm, want at most 256", n)
	}
	if b.m.pending != 256 {
		t.Errorf("pending %d", b.m.pending)
	}
}

// confirmed brings b to an installed state and returns the messages of it.
func (b *bench) confirmed(sid wire.SID) wire.Message {
	b.t.Helper()
	q, r := b.upTo(sid)
	c := confirmTo(&q, &r)
	b.conn(accepted, &c)
	if b.m.Stats().RoutingStates != 1 {
		b.t.Fatal("no state")
	}
	return wire.Message{
		Header: wire.Header{HopCount: 3, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: q.MRI, HasSID: true, SID: q.SID, NSLPData: []byte("abcd"),
	}
}

// RFC 5971 §4.3.2, the four checks of a payload, and what §B.2 tells of it:
// the peer's SII handle, the hop count "after being decremented", how it came.
func TestDataChecks(t *testing.T) {
	b := newBench(t)
	d := b.confirmed(testSID(1))
	got := func(acts []Action) *RecvMessage {
		for _, a := range acts {
			if r, ok := a.(*RecvMessage); ok {
				return r
			}
		}
		return nil
	}
	if r := got(b.conn(accepted, &d)); r == nil || string(r.Data) != "abcd" || r.HopCount != 2 || r.Via != e2inInt || r.SII == 0 || !r.Attr.Reliable || r.Attr.ExplicitlyRouted {
		t.Errorf("good Data: %+v", r)
	}
	d.SID = testSID(9)
	if acts := b.conn(accepted, &d); errorIn(acts) != wire.NoRoutingState || got(acts) != nil {
		t.Errorf("no routing state: %v", acts)
	}
	d.E = true
	if r := got(b.conn(accepted, &d)); r == nil || !r.Attr.ExplicitlyRouted {
		t.Errorf("explicitly routed: %+v", r)
	}
	d.E, d.SID = false, testSID(1)
	// The association of another peer.
	q3 := mustQuery(testSID(3))
	q3.NLI = wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: 1000}
	q3.MRI.Ingress = e2outExt
	acts := b.do(Datagram{From: netip.AddrPortFrom(e2outInt, testPort), Payload: q3.AppendDatagram(nil)})
	r3 := b.response(acts)
	b.do(ConnAccepted{Conn: 40})
	c3 := confirmTo(&q3, &r3)
	b.conn(40, &c3)
	if acts := b.conn(40, &d); errorIn(acts) != wire.IncorrectlyDelivered || got(acts) != nil {
		t.Errorf("another peer's association: %v", acts)
	}
	d.HopCount = 0 // RFC 5971 §4.3.1
	if acts := b.conn(accepted, &d); errorIn(acts) != wire.HopLimitExceeded || got(acts) != nil {
		t.Errorf("hop count 0: %v", acts)
	}
	d.HopCount, d.NSLPID = 3, 99 // RFC 5971 §4.3.4
	if acts := b.conn(accepted, &d); errorIn(acts) != wire.UnknownNSLPID {
		t.Errorf("unknown NSLPID: %v", acts)
	}
}

// RFC 5971 §5.6: "Error messages MUST NOT be generated in reaction to incoming
// Error messages", and they are limited.
func TestErrorsNeverAnswerErrors(t *testing.T) {
	b := newBench(t)
	d := b.confirmed(testSID(1))
	e := wire.Message{
		Header: wire.Header{HopCount: 0, Type: wire.Error, S: true},
		Error:  &wire.ErrorData{ID: wire.HopLimitExceeded, Header: d.Header},
	}
	if acts := b.conn(accepted, &e); errorIn(acts) != 0 {
		t.Errorf("hop count 0: %v", acts)
	}
	e.HopCount = 3
	raw := e.Append(nil)
	raw[6] |= 0x80 // C=1 is not for an Error
	if acts := b.do(&ConnMessage{Conn: accepted, Payload: raw}); errorIn(acts) != 0 {
		t.Errorf("malformed Error: %v", acts)
	}
	d.SID = testSID(9)
	errs := 0
	for range 100 {
		if errorIn(b.conn(accepted, &d)) != 0 {
			errs++
		}
	}
	if errs == 0 || errs > 20 {
		t.Errorf("%d Error messages at once, want at most 20", errs)
	}
}

// RFC 5971 §6.3, er_NoRSM; §4.4.6 at the Responding node: it "MUST delete its own routing state
// and SHOULD report an error condition" — at the word of its peer only.
func TestNoRoutingStateAtResponder(t *testing.T) {
	b := newBench(t)
	d := b.confirmed(testSID(1))
	e := wire.Message{
		Header: wire.Header{HopCount: 3, Type: wire.Error, S: true}, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte("evil"), Address: addr("10.66.0.1"), ValidityMS: 1},
		Error: &wire.ErrorData{
			ID: wire.NoRoutingState, Header: wire.Header{Version: 1, NSLPID: testNSLP, Type: wire.Data},
			HasSID: true, SID: d.SID, HasMRI: true, MRI: d.MRI.Reverse(),
		},
	}
	acts := b.do(Datagram{From: netip.MustParseAddrPort("10.66.0.1:1270"), Payload: e.AppendDatagram(nil)})
	if b.m.Stats().RoutingStates != 1 || !hasNote(acts, "error-not-from-peer") {
		t.Errorf("a stranger's error: %v", acts)
	}
	e.HasNLI = false
	acts = b.conn(accepted, &e)
	told := false
	for _, a := range acts {
		if n, ok := a.(NetworkNotification); ok && n.Status == Bad {
			told = true
		}
	}
	if b.m.Stats().RoutingStates != 0 || !told {
		t.Errorf("the peer's error: %v", acts)
	}
}

// RFC 5971 §4.4.6: "A Response can be received at a node that never sent ... the
// corresponding Query ... an error message MUST NOT be generated".
func TestUnexpectedResponse(t *testing.T) {
	b := newBench(t)
	q := mustQuery(testSID(1))
	r := b.response(b.udp(&q))
	if acts := b.udp(&r); errorIn(acts) != 0 || !hasNote(acts, "unexpected-Response") {
		t.Errorf("got %v", acts)
	}
}

// RFC 5971 §8.5: the Query-Cookie: unpredictable, unique, and a Response without
// the right one does nothing.
func TestQueryCookie(t *testing.T) {
	b := newBench(t)
	send := func() wire.Message {
		sent, _ := outOf(b.do(SendMessage{NSLPData: []byte("abcd"), NSLPID: testNSLP, SID: testSID(1), MRI: hop23}))
		m, err := wire.ParseDatagram(sent[0].Payload)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	q := send()
	r := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Response, S: true},
		HasMRI: true, MRI: q.MRI.Reverse(), HasSID: true, SID: q.SID, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: 1000}, QueryCookie: q.QueryCookie,
	}
	answer := func(cookie []byte) []Action {
		r.QueryCookie = cookie
		return b.do(Datagram{From: netip.AddrPortFrom(q3Addr, testPort), Payload: r.AppendDatagram(nil)})
	}
	for i := range q.QueryCookie {
		c := bytes.Clone(q.QueryCookie)
		c[i] ^= 1
		if acts := answer(c); !hasNote(acts, "bad-cookie") {
			t.Errorf("octet %d changed: %v", i, acts)
		}
	}
	for _, c := range [][]byte{{}, q.QueryCookie[:12], append(bytes.Clone(q.QueryCookie), 0, 0, 0, 0)} {
		if acts := answer(c); !hasNote(acts, "bad-cookie") {
			t.Errorf("cookie of %d octets: %v", len(c), acts)
		}
	}
	// The second Query has another cookie, and the first one's is still good.
	b.now = b.now.Add(DefaultT1)
	sent, _ := outOf(b.do(nil))
	q2, err := wire.ParseDatagram(sent[0].Payload)
	if err != nil || bytes.Equal(q2.QueryCookie, q.QueryCookie) {
		t.Errorf("second Query: %v, cookie %x", err, q2.QueryCookie)
	}
	if acts := answer(q.QueryCookie); hasNote(acts, "bad-cookie") {
		t.Errorf("answer to the first of two Queries: %v", acts)
	}
}

// RFC 5971 §5.7.1: no profile in common, no port, a disabled protocol.
func TestNoCommonStack(t *testing.T) {
	cases := map[string]func(*wire.Message){
		"TLS only": func(m *wire.Message) { m.StackProposal = wire.StackProposal{{2, 1}} },
		"port 0":   func(m *wire.Message) { m.StackConfig.Options[0].Data = wire.PortData(0) },
		"disabled": func(m *wire.Message) { m.StackConfig.Options[0].Disabled = true },
	}
	for name, change := range cases {
		d := newBench(t)
		sent, _ := outOf(d.do(SendMessage{NSLPData: []byte("abcd"), Handle: 4, NSLPID: testNSLP, SID: testSID(1), MRI: hop23}))
		q, _ := wire.ParseDatagram(sent[0].Payload)
		r := wire.Message{
			Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Response, S: true, R: true},
			HasMRI: true, MRI: q.MRI.Reverse(), HasSID: true, SID: q.SID, HasNLI: true,
			NLI: wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: 1000}, QueryCookie: q.QueryCookie,
			ResponderCookie: []byte("12345678"), StackProposal: wire.StackProposal{{1}}, HasStackConfig: true,
			StackConfig: wire.StackConfig{HoldTimeMS: 1000, Options: []wire.MAOptions{{Protocol: 1, Data: wire.PortData(9)}}},
		}
		change(&r)
		acts := d.do(Datagram{From: netip.AddrPortFrom(q3Addr, testPort), Payload: r.AppendDatagram(nil)})
		ok := false
		for _, a := range acts {
			if s, is := a.(MessageStatus); is && s.Handle == 4 && errors.Is(s.Err, ErrPeerRefused) {
				ok = true
			}
			if _, is := a.(Connect); is {
				t.Errorf("%s: connects all the same", name)
			}
		}
		if !ok {
			t.Errorf("%s: %v", name, acts)
		}
	}
}

// RFC 5971 §5.1, MA-Hello: "the peer MUST send another MA-Hello back along the
// messaging association echoing the same Hello-ID and with R=0".
func TestMAHelloReply(t *testing.T) {
	b := newBench(t)
	b.confirmed(testSID(1))
	hello := wire.Message{Header: wire.Header{HopCount: 1, Type: wire.MAHello, S: true, R: true}, HasHelloID: true, HelloID: 0xabcd}
	var reply wire.Message
	for _, a := range b.conn(accepted, &hello) {
		if s, ok := a.(*SendConn); ok {
			reply, _ = wire.Parse(s.Payload)
		}
	}
	if reply.Type != wire.MAHello || reply.HelloID != 0xabcd || reply.R || reply.NSLPID != 0 {
		t.Errorf("got %+v", reply)
	}
	hello.R, hello.HelloID = false, 0
	for _, a := range b.conn(accepted, &hello) {
		if _, ok := a.(*SendConn); ok {
			t.Error("a hello that asks for nothing was answered")
		}
	}
}

// RFC 5971 §B.2, Routing-State-Check: AcceptPeer is asked at the Query and again
// at the Confirm.
func TestAcceptPeer(t *testing.T) {
	var asked []PeerOffer
	yes := true
	b := newBench(t, func(c *Config) {
		c.AcceptPeer = func(p PeerOffer) PeerAnswer { asked = append(asked, p); return PeerAnswer{Accept: yes} }
	})
	q, r := b.upTo(testSID(1))
	c := confirmTo(&q, &r)
	yes = false
	b.conn(accepted, &c)
	if len(asked) != 2 || asked[0].Peer != q1Addr || asked[0].PeerID != "q1" || asked[0].Via != e2inInt || b.m.Stats().RoutingStates != 0 {
		t.Errorf("asked %+v; %d states", asked, b.m.Stats().RoutingStates)
	}
	q2 := mustQuery(testSID(2))
	if acts := b.udp(&q2); !hasNote(acts, "not-accepted") || len(acts) != 1 {
		t.Errorf("refused at the Query: %v", acts)
	}
}

// Edges that are no longer served vouch for nobody, also between Query and
// Confirm.
func TestSetEdges(t *testing.T) {
	b := newBench(t)
	q, r := b.upTo(testSID(1))
	if err := b.m.SetEdges([]ServedEdge{{Internal: e2inInt, PeerQNEs: []netip.Addr{q3Addr}}}, nil); err != nil {
		t.Fatal(err)
	}
	c := confirmTo(&q, &r)
	if acts := b.conn(accepted, &c); b.m.Stats().RoutingStates != 0 || !hasNote(acts, "bad-confirm") {
		t.Errorf("got %v", acts)
	}
	if err := b.m.SetEdges([]ServedEdge{{}}, nil); err == nil {
		t.Error("an edge without an address was accepted")
	}
}

// What the admin API shows.
func TestIntrospection(t *testing.T) {
	b := newBench(t)
	b.confirmed(testSID(1))
	n := 0
	b.m.RoutingStates(func(i RoutingStateInfo) bool {
		n++
		if i.SID != testSID(1) || i.Querying || i.State != "Established" || i.Status != Good || i.Peer != q1Addr ||
			i.Via != e2inInt || i.Association != accepted || !i.Expires.Equal(testStart.Add(600*time.Second)) || i.MRI != hop12.Reverse() {
			t.Errorf("got %+v", i)
		}
		return true
	})
	b.m.Associations(func(i AssociationInfo) bool {
		n++
		if i.Conn != accepted || i.State != "Connected" || i.Peer != q1Addr || i.RoutingStates != 1 || i.Dialled || i.PeerHoldTime != 30*time.Second {
			t.Errorf("got %+v", i)
		}
		return true
	})
	if n != 2 {
		t.Errorf("%d entries", n)
	}
}
