package gist

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

var (
	tlsOnly = wire.StackProposal{{2, 1}}
	both    = wire.StackProposal{{2, 1}, {1}}
	tcpOnly = wire.StackProposal{{1}}
)

// strip puts a man in the middle between q1 and q2 who takes TLS out of the
// proposals of messages of one kind.
func (d *domains) strip(t *testing.T, kind wire.MessageType) (changed *int) {
	changed = new(int)
	var host simnet.Host
	again := map[string]bool{}
	host.Datagram = func(g simnet.Datagram) {
		m, err := wire.ParseDatagram(g.Payload)
		if err != nil {
			t.Fatal(err)
		}
		m.StackProposal = tcpOnly
		var options []wire.MAOptions
		for i, o := range m.StackConfig.Options {
			if o.Profile != 1 { // the Response's, of TLS
				o.Profile = 0
				options = append(options, o)
			} else if i == len(m.StackConfig.Options)-1 {
				o.Profile, o.Data = 0, wire.PortData(tcpPort)
				options = append(options, o)
			}
		}
		m.StackConfig.Options = options
		*changed++
		g.Payload = m.AppendDatagram(nil)
		again[string(g.Payload)] = true
		d.net.Send(g)
	}
	d.net.Attach(&host, addr("10.66.0.1"))
	d.net.Divert = func(g simnet.Datagram) *simnet.Host {
		m, err := wire.ParseDatagram(g.Payload)
		if err != nil || m.Type != kind || again[string(g.Payload)] || len(m.StackProposal) == 0 {
			return nil
		}
		return &host
	}
	return changed
}

// RFC 5971 §8.6: "The Response does not depend on the Stack-Proposal in the
// Query. Therefore, tampering with the Query has no effect on the resulting
// messaging association configuration."
func TestDowngradeOfTheQuery(t *testing.T) {
	d := secureDomains(t, 1)
	changed := d.strip(t, wire.Query)
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	if *changed == 0 || len(d.q2.recv) != 1 || !d.q2.recv[0].Attr.Secure {
		t.Errorf("%d Queries changed; q2 got %+v; %v %v", *changed, d.q2.recv, d.q1.notes, d.q2.notes)
	}
}

// A Querying node with a policy that has TLS alone is not talked out of it.
func TestDowngradeOfTheResponse(t *testing.T) {
	d := secureDomains(t, 2)
	changed := d.strip(t, wire.Response)
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	if *changed == 0 || len(d.q1.status) != 1 || !errors.Is(d.q1.status[0].Err, errNoCommonStack) || !errors.Is(d.q1.status[0].Err, ErrPeerRefused) {
		t.Errorf("%d Responses changed; q1 was told %v", *changed, d.q1.status)
	}
	if d.q1.noted("no-common-stack") != 1 || len(d.q1.conns)+len(d.q2.conns) != 0 {
		t.Errorf("%v", d.q1.notes)
	}
	d.q1.wantEmpty()
}

// RFC 5971 §5.7.1, §8.6: where the Querying node would take plain TCP, the
// Responding node sees in the Confirm that its proposal was changed: "the
// Responding node MUST NOT create the message routing state ... If this is the
// first message on a new MA, the MA MUST be torn down."
func TestDowngradeIsSeenInTheConfirm(t *testing.T) {
	d := secureDomains(t, 3, func(c *Config) {
		c.Insecure = true
		c.Peers = append(c.Peers, PeerEntry{Unauthenticated: true})
	})
	changed := d.strip(t, wire.Response)
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Minute)
	if *changed == 0 || d.q2.noted("bad-confirm") != *changed || len(d.q2.recv) != 0 || *changed > 8 {
		t.Errorf("%d Responses changed; %v", *changed, d.q2.notes)
	}
	d.q2.wantEmpty()
	if s := d.q2.m.Stats(); s.Associations != 0 || !slices.ContainsFunc(d.q1.notices, func(n NetworkNotification) bool { return n.Type == CommunicationFailure }) {
		t.Errorf("%+v; q1 was told %v", s, d.q1.notices)
	}
	// Without him the same nodes take TLS.
	d.net.Divert = nil
	d.q1.send(testSID(2), hop12, "y")
	d.net.Run(time.Second)
	if len(d.q2.recv) != 1 || !d.q2.recv[0].Attr.Secure {
		t.Errorf("q2 got %+v", d.q2.recv)
	}
}

// RFC 5971 §5.7.1: what is offered is what policy allows, the best first, each
// with its port; for secure messages TLS alone.
func TestProposals(t *testing.T) {
	for _, c := range []struct {
		tls, insecure   bool
		offers, secured wire.StackProposal
	}{
		{true, false, tlsOnly, tlsOnly},
		{true, true, both, tlsOnly},
		{false, true, tcpOnly, nil},
	} {
		b := newBench(t, func(cfg *Config) { cfg.TLS, cfg.Insecure, cfg.TLSPort = c.tls, c.insecure, tlsPort })
		q := mustQuery(testSID(1))
		q.StackProposal = both
		r := b.response(b.udp(&q))
		if !r.StackProposal.Equal(c.offers) {
			t.Errorf("%+v: Response offers %v", c, r.StackProposal)
		}
		for i, profile := range r.StackProposal {
			o, _ := r.StackConfig.Lookup(wire.ForwardsTCP, i+1)
			want := uint16(tcpPort)
			if profile.Has(wire.ForwardsTLS) {
				want = tlsPort
			}
			if port, ok := o.Port(); !ok || port != want {
				t.Errorf("%+v: profile %v is at port %d, want %d", c, profile, port, want)
			}
		}
		for secure, want := range map[bool]wire.StackProposal{false: c.offers, true: c.secured} {
			acts := b.do(SendMessage{NSLPData: []byte("abcd"), Handle: 7, NSLPID: testNSLP, SID: testSID(map[bool]int{true: 2, false: 3}[secure]), MRI: hop23, Attr: TransferAttributes{Secure: secure}})
			sent, _ := outOf(acts)
			if want == nil {
				if s, ok := acts[0].(MessageStatus); !ok || !errors.Is(s.Err, ErrNoSecurity) {
					t.Errorf("%+v: a secure message: %v", c, acts)
				}
				continue
			}
			if m, err := wire.ParseDatagram(sent[0].Payload); err != nil || !m.StackProposal.Equal(want) {
				t.Errorf("%+v: Query for a message with Secure=%v offers %v, want %v", c, secure, m.StackProposal, want)
			}
		}
	}
}

// respond answers the Query among actions as q3, with both stacks.
func (b *bench) answer(actions []Action, change func(*wire.Message)) []Action {
	b.t.Helper()
	sent, _ := outOf(actions)
	q, err := wire.ParseDatagram(sent[0].Payload)
	if err != nil || q.Type != wire.Query {
		b.t.Fatalf("%v: %v", err, actions)
	}
	r := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Response, S: true, R: true},
		HasMRI: true, MRI: q.MRI.Reverse(), HasSID: true, SID: q.SID, HasNLI: true,
		NLI: wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: 600_000}, QueryCookie: q.QueryCookie,
		ResponderCookie: []byte("12345678"), StackProposal: wire.StackProposal{{1}, {2, 1}}, HasStackConfig: true,
		StackConfig: wire.StackConfig{HoldTimeMS: 30_000, Options: []wire.MAOptions{
			{Protocol: 1, Profile: 1, Data: wire.PortData(11)}, {Protocol: 1, Profile: 2, Data: wire.PortData(12)},
		}},
	}
	if change != nil {
		change(&r)
	}
	return b.do(Datagram{From: netip.AddrPortFrom(q3Addr, testPort), Payload: r.AppendDatagram(nil)})
}

func connectIn(actions []Action) (c Connect, ok bool) {
	for _, a := range actions {
		if c, ok = a.(Connect); ok {
			return c, ok
		}
	}
	return c, false
}

// mixed is a node that may use both stacks.
func mixed(cfg *Config) {
	cfg.TLS, cfg.TLSPort, cfg.Peers = true, tlsPort, []PeerEntry{{}, {Unauthenticated: true}}
}

// RFC 5971 §5.7.1: of what is offered the best that we may use, by its own port;
// what is flagged as disabled "MUST NOT be used".
func TestNegotiate(t *testing.T) {
	disable := func(protocol, profile byte) func(*wire.Message) {
		return func(m *wire.Message) {
			m.StackConfig.Options = append([]wire.MAOptions{{Protocol: protocol, Profile: profile, Disabled: true, Data: wire.PortData(12)}}, m.StackConfig.Options...)
		}
	}
	for name, c := range map[string]struct {
		config func(*Config)
		change func(*wire.Message)
		stack  Stack
		port   uint16 // 0: none
	}{
		"both":                  {mixed, nil, StackTLS, 12},
		"TLS disabled":          {mixed, disable(2, 2), StackTCP, 11},
		"TCP of TLS disabled":   {mixed, disable(1, 2), StackTCP, 11},
		"policy: TLS":           {func(c *Config) { mixed(c); c.Insecure = false }, nil, StackTLS, 12},
		"policy: TLS, disabled": {func(c *Config) { mixed(c); c.Insecure = false }, disable(2, 2), 0, 0},
		"policy: plain":         {nil, nil, StackTCP, 11},
		"unknown protocols too": {mixed, func(m *wire.Message) {
			m.StackProposal = wire.StackProposal{{9, 1}, {2, 1}}
		}, StackTLS, 12},
		"other order of layers": {func(c *Config) { mixed(c); c.Insecure = false }, func(m *wire.Message) {
			m.StackProposal = wire.StackProposal{{1, 2}, {1}}
		}, 0, 0},
	} {
		b := newBench(t, func(cfg *Config) {
			if c.config != nil {
				c.config(cfg)
			}
		})
		acts := b.do(SendMessage{NSLPData: []byte("abcd"), Handle: 4, NSLPID: testNSLP, SID: testSID(1), MRI: hop23})
		acts = b.answer(acts, c.change)
		got, ok := connectIn(acts)
		if ok != (c.port != 0) || got.Stack != c.stack || got.To.Port() != c.port {
			t.Errorf("%s: %+v, want %v at port %d", name, got, c.stack, c.port)
		}
		if c.port == 0 && !hasNote(acts, "no-common-stack") {
			t.Errorf("%s: %v", name, acts)
		}
	}
}

// RFC 5971 §4.1.2, §4.3.3, §4.4.5: a message with the attribute Secure waits for
// TLS, also where an association without it stands, and what was sent before it
// arrives before it.
func TestSecureMessageOverPlainAssociation(t *testing.T) {
	b := newBench(t, mixed)
	send := func(secure bool, data string) []Action {
		return b.do(SendMessage{NSLPData: []byte(data), Handle: 4, NSLPID: testNSLP, SID: testSID(1), MRI: hop23, Attr: TransferAttributes{Secure: secure}})
	}
	onPlain := func(m *wire.Message) { m.StackProposal, m.StackConfig.Options = tcpOnly, m.StackConfig.Options[:1] }
	plain, _ := connectIn(b.answer(send(false, "open"), onPlain))
	b.do(ConnUp{Conn: plain.Conn})
	acts := send(true, "mine")
	for _, a := range acts {
		if s, ok := a.(*SendConn); ok {
			t.Errorf("sent %x over connection %d", s.Payload, s.Conn)
		}
	}
	// What was sent may still be on its way: that is asked first.
	acts = b.answer(acts, nil)
	var hello wire.Message
	for _, a := range acts {
		if s, ok := a.(*SendConn); ok && s.Conn == plain.Conn {
			if m, err := wire.Parse(s.Payload); err == nil && m.Type == wire.MAHello {
				hello = m
			}
		}
	}
	if _, early := connectIn(acts); early || !hello.R {
		t.Fatalf("after the Response: %v", acts)
	}
	hello.R = false
	b.conn(plain.Conn, &hello)
	b.now = b.now.Add(time.Second)
	acts = b.answer(b.do(nil), nil)
	up, ok := connectIn(acts)
	if !ok || up.Stack != StackTLS {
		t.Fatalf("after the answer: %v", acts)
	}
	var order []string
	for _, a := range b.do(ConnUp{Conn: up.Conn, Certificate: &Certificate{}}) {
		if s, ok := a.(*SendConn); ok {
			m, err := wire.Parse(s.Payload)
			if err != nil || s.Conn != up.Conn {
				t.Errorf("%v over connection %d", err, s.Conn)
			}
			order = append(order, m.Type.String()+string(m.NSLPData))
		}
	}
	if len(order) != 2 || order[0] != "Confirm" || order[1] != "Datamine" {
		t.Errorf("over TLS went %v", order)
	}
	for _, a := range send(false, "more") {
		if s, ok := a.(*SendConn); ok && s.Conn != up.Conn {
			t.Error("back to plain TCP")
		}
	}
}

// RFC 5971 §4.3.2: an NLI proves nothing. Who opens an association without TLS
// in the name of a peer that has one with it can neither say anything for the
// peer's sessions, nor draw them over.
func TestWeakAssociationSpeaksForNobody(t *testing.T) {
	b := newBench(t, mixed)
	b.confirmed(testSID(3)) // over accepted, which is plain: the attacker's
	q := mustQuery(testSID(1))
	q.StackProposal = tlsOnly
	r := b.response(b.udp(&q))
	if !r.StackProposal.Equal(both) { // §5.7.1: re-used is what is "equivalent or better"
		t.Fatalf("the plain association is re-used for a Query that offers TLS alone: %+v", r)
	}
	const strong = ConnID(4)
	b.do(ConnAccepted{Conn: strong, Remote: netip.AddrPortFrom(q1Addr, 4001), Stack: StackTLS, Certificate: &Certificate{CommonName: "q1"}})
	c := confirmTo(&q, &r)
	b.conn(strong, &c)
	if b.m.Stats().RoutingStates != 2 {
		t.Fatalf("%+v", b.m.Stats())
	}
	q2 := mustQuery(testSID(2))
	if acts := b.udp(&q2); b.response(acts).StackProposal != nil {
		t.Errorf("the association with TLS is not re-used: %v", acts)
	}
	d := wire.Message{
		Header: wire.Header{HopCount: 3, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: q.MRI, HasSID: true, SID: testSID(1), NSLPData: []byte("abcd"),
	}
	if acts := b.conn(accepted, &d); errorIn(acts) != wire.IncorrectlyDelivered {
		t.Errorf("Data over the weak association: %v", acts)
	}
	if acts := b.conn(strong, &d); errorIn(acts) != 0 {
		t.Errorf("Data over the strong one: %v", acts)
	}
	e := wire.Message{
		Header: wire.Header{HopCount: 3, Type: wire.Error, S: true},
		Error: &wire.ErrorData{ID: wire.NoRoutingState, Header: wire.Header{Version: 1, NSLPID: testNSLP, Type: wire.Data},
			HasSID: true, SID: testSID(1), HasMRI: true, MRI: q.MRI.Reverse()},
	}
	if acts := b.conn(accepted, &e); !hasNote(acts, "error-not-from-peer") || b.m.Stats().RoutingStates != 2 {
		t.Errorf("an Error over the weak association: %v", acts)
	}
}

// A stack that policy does not have is not served, should it come all the same.
func TestAcceptedStackIsChecked(t *testing.T) {
	b := newBench(t, func(c *Config) { c.TLS, c.Insecure = true, false })
	if acts := b.do(ConnAccepted{Conn: 2, Stack: StackTCP}); !closes(acts, 2) || !hasNote(acts, "stack-not-offered") {
		t.Errorf("plain TCP: %v", acts)
	}
	if acts := b.do(ConnAccepted{Conn: 4, Stack: StackTLS, Certificate: &Certificate{}}); closes(acts, 4) {
		t.Errorf("TLS: %v", acts)
	}
	if b.m.Stats().Associations != 1 {
		t.Errorf("%+v", b.m.Stats())
	}
}
