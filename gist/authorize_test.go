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

func asName(as int) string { return fmt.Sprintf("urn:interqos:as:%d", as) }

func certOf(as int, a netip.Addr) *Certificate {
	return &Certificate{CommonName: "qne", URIs: []string{asName(as)}, Addresses: []netip.Addr{a}}
}

func uri(as int) []Identity { return []Identity{{NamespaceURI, asName(as)}} }

// secureDomains is the three domains with TLS alone: who faces AS n wants a
// certificate of AS n.
func secureDomains(t *testing.T, seed uint64, change ...func(*Config)) *domains {
	t.Helper()
	d := newDomains(t, seed, append([]func(*Config){func(c *Config) {
		c.TLS = true
		switch c.Address {
		case q1Addr:
			c.Peers = []PeerEntry{{Identities: uri(65002), Peers: []netip.Addr{q2Addr}, Border: e1Ext, OwnAddress: true}}
		case q2Addr:
			c.Peers = []PeerEntry{
				{Identities: uri(65001), Peers: []netip.Addr{q1Addr}, Border: e2inExt, OwnAddress: true},
				{Identities: uri(65003), Peers: []netip.Addr{q3Addr}, Border: e2outExt, OwnAddress: true},
			}
		case q3Addr:
			c.Peers = []PeerEntry{{Identities: uri(65002), Peers: []netip.Addr{q2Addr}, Border: e3Ext, OwnAddress: true}}
		}
	}}, change...)...)
	certs := map[netip.Addr]*Certificate{}
	for i, n := range []*simNode{d.q1, d.q2, d.q3} {
		n.certs = certs
		certs[n.cfg.Address] = certOf(65001+i, n.cfg.Address)
	}
	return d
}

// RFC 5971 §5.7.3: everything but the handshakes' first messages is over TLS,
// and the application learns who the peer is (§8.2).
func TestSecureThreeDomains(t *testing.T) {
	d := secureDomains(t, 1)
	d.forward()
	streams := 0
	d.net.Tap = func(kind string, from, to netip.AddrPort, _ []byte) {
		if kind == "tcp" {
			if streams++; from.Port() != tlsPort && to.Port() != tlsPort {
				t.Errorf("a message between %v and %v, not over TLS", from, to)
			}
		}
	}
	for i := range 10 {
		d.q1.do(SendMessage{
			NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(i), MRI: hop12,
			Attr: TransferAttributes{Reliable: true, Secure: i%2 == 0},
		})
		d.net.Run(time.Second)
	}
	if d.q3.received["data"] != 10 || d.q1.received["backdata"] != 10 || streams == 0 {
		t.Fatalf("q3 %v, q1 %v; %v %v %v", d.q3.received, d.q1.received, d.q1.notes, d.q2.notes, d.q3.notes)
	}
	for i, n := range []*simNode{d.q1, d.q2, d.q3} {
		n.check()
		r := n.recv[0]
		if peer := []int{65002, 65001, 65002}[i]; !r.Attr.Secure || r.Certificate == nil || r.Certificate.URIs[0] != asName(peer) {
			t.Errorf("q%d's application was told %+v", i+1, r)
		}
		n.m.Associations(func(a AssociationInfo) bool {
			if a.Stack != StackTLS || a.Certificate == nil {
				t.Errorf("q%d: %+v", i+1, a)
			}
			return true
		})
	}
	if a1, a2 := d.q1.m.Stats().Associations, d.q2.m.Stats().Associations; a1 != 1 || a2 != 2 {
		t.Errorf("q1 has %d associations and q2 %d: they are to be re-used (§4.4.3)", a1, a2)
	}
}

// RFC 5971 §4.4.2: the responder proves to be another AS's. "Otherwise, it MUST
// be torn down without further GIST exchanges".
func TestWrongASResponder(t *testing.T) {
	d := secureDomains(t, 2)
	d.q1.certs[q2Addr] = certOf(65009, q2Addr)
	streams := 0
	d.net.Tap = func(kind string, _, _ netip.AddrPort, _ []byte) {
		if kind == "tcp" {
			streams++
		}
	}
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	if len(d.q1.status) != 1 || !errors.Is(d.q1.status[0].Err, ErrNotAuthorised) {
		t.Errorf("q1 was told %v", d.q1.status)
	}
	if streams != 0 || d.q1.noted("not-authorised") != 1 || d.q1.m.Stats().NotAuthorised != 1 {
		t.Errorf("%d messages over the association; notes %v", streams, d.q1.notes)
	}
	d.q1.wantEmpty()
	d.q2.wantEmpty()
	if n := len(d.q1.conns) + len(d.q2.conns); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

// The querier proves to be another AS's: no state, no answer; what others have
// goes on; and the querier does not ask again as fast as it can.
func TestWrongASQuerier(t *testing.T) {
	d := secureDomains(t, 3)
	d.q2.certs[q1Addr] = certOf(65003, q1Addr) // a neighbour, on the wrong border
	good := d.q2
	good.send(testSID(9), hop23, "good")
	dials := 0
	d.net.Tap = func(kind string, from, _ netip.AddrPort, b []byte) {
		if m, err := wire.Parse(b); kind == "tcp" && from.Addr() == q2Addr && err == nil && m.SID == testSID(1) {
			t.Errorf("q2 answers %v over the association", m.Type)
		}
		if m, err := wire.Parse(b); kind == "tcp" && err == nil && m.Type == wire.Confirm && m.SID == testSID(1) {
			dials++
		}
	}
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Minute)
	if d.q2.noted("not-authorised") != dials || dials == 0 || dials > 8 {
		t.Errorf("q2 refused %d of %d attempts in a minute: %v", d.q2.noted("not-authorised"), dials, d.q2.notes)
	}
	failures := 0
	for _, n := range d.q1.notices {
		if n.Type == CommunicationFailure && n.SID == testSID(1) {
			failures++
		}
	}
	if failures != 1 || d.q1.noted("association-refused") != dials {
		t.Errorf("q1 was told %v; %v", d.q1.notices, d.q1.notes)
	}
	if d.q3.received["good"] != 1 {
		t.Errorf("q3 got %v", d.q3.received)
	}
	good.send(testSID(9), hop23, "more")
	d.net.Run(time.Second)
	if d.q3.received["more"] != 1 {
		t.Error("another session suffered")
	}
	d.q2.check()
	if s := d.q2.m.Stats(); s.RoutingStates != 1 || s.Associations != 1 {
		t.Errorf("q2 has %+v", s)
	}
	// With the right certificate the same session is welcome.
	d.q2.certs[q1Addr] = certOf(65001, q1Addr)
	d.q1.send(testSID(1), hop12, "again")
	d.net.Run(time.Second)
	if d.q2.received[string(pad4("again"))] != 1 {
		t.Errorf("q2 got %v; %v %v", d.q2.received, d.q1.status, d.q2.notes)
	}
}

// A certificate that names addresses is good for those only.
func TestCertificateOfAnotherAddress(t *testing.T) {
	d := secureDomains(t, 4)
	d.q2.certs[q1Addr].Addresses = []netip.Addr{addr("10.1.0.77")}
	d.q1.send(testSID(1), hop12, "x")
	d.net.Run(time.Second)
	if d.q2.noted("not-authorised") == 0 || d.q2.m.Stats().RoutingStates != 0 {
		t.Errorf("q2 took it: %v", d.q2.notes)
	}
	d.q2.certs[q1Addr].Addresses = nil
	d.net.Run(time.Minute)
	d.q1.send(testSID(1), hop12, "y")
	d.net.Run(time.Second)
	if d.q2.received[string(pad4("y"))] != 1 {
		t.Errorf("a certificate without addresses: q2 got %v", d.q2.received)
	}
}

// Where the handshake of TLS fails for good, nobody waits for the message's time
// to pass.
func TestAuthenticationFailureIsFinal(t *testing.T) {
	for _, up := range []bool{false, true} {
		d := secureDomains(t, 5)
		d.q1.send(testSID(1), hop12, "x")
		// Before the connection stands, or after: TLS 1.3 tells a client late.
		d.net.Run(4 * time.Millisecond)
		for i := 0; len(d.q1.conns) == 0 && i < 100; i++ {
			d.net.Run(time.Millisecond)
		}
		if up {
			d.net.Run(2 * time.Millisecond)
		}
		for id, c := range d.q1.conns {
			delete(d.q1.conns, id)
			c.Close()
			d.q1.do(ConnDown{Conn: id, Err: fmt.Errorf("%w: bad certificate", ErrAuthentication)})
		}
		d.net.Run(5 * time.Second)
		if d.q1.noted("not-authenticated") != 1 || len(d.q1.conns) != 0 {
			t.Errorf("up %v: %v", up, d.q1.notes)
		}
		if !up && (len(d.q1.status) != 1 || !errors.Is(d.q1.status[0].Err, ErrAuthentication)) {
			t.Errorf("told %v", d.q1.status)
		}
		d.q1.wantEmpty()
	}
}

// RFC 5971 §4.4.3: "When multiplexing is done, and the original MA authorisation
// was MRI-dependent, the verification steps of Section 4.4.2 MUST be repeated for
// the new flow", by both ends, whatever the other thinks of it.
func TestReuseIsAuthorisedPerFlow(t *testing.T) {
	other := hop12
	other.Flow.Destination = netip.MustParsePrefix("203.0.113.77/32")
	for _, who := range []netip.Addr{q1Addr, q2Addr} {
		d := secureDomains(t, 6, func(c *Config) {
			if c.Address == who {
				c.Peers[0].Destination = netip.MustParsePrefix("203.0.113.0/28")
			}
		})
		d.q1.send(testSID(1), hop12, "one")
		d.net.Run(time.Second)
		reused := 0
		d.net.Tap = func(kind string, _, _ netip.AddrPort, b []byte) {
			if m, err := wire.Parse(b); kind == "tcp" && err == nil && m.Type == wire.Response && m.SID == testSID(2) {
				reused++
			}
		}
		d.q1.send(testSID(2), other, "two")
		d.net.Run(40 * time.Second)
		if who == q2Addr && reused != 0 {
			t.Errorf("q2 sent %d Responses over an association that is not authorised for the flow", reused)
		}
		d.q1.send(testSID(1), hop12, "three")
		d.net.Run(time.Second)
		if d.q2.received["two "] != 0 || len(d.q1.status) != 1 {
			t.Errorf("%v: q2 got %v; q1 was told %v", who, d.q2.received, d.q1.status)
		}
		if d.q2.received["one "] != 1 || d.q2.received["three   "] != 1 || d.q2.m.Stats().RoutingStates != 1 {
			t.Errorf("%v: the other flow suffered: %v", who, d.q2.received)
		}
		refused := map[netip.Addr]*simNode{q1Addr: d.q1, q2Addr: d.q2}[who]
		if refused.noted("not-authorised") == 0 {
			t.Errorf("%v: %v", who, refused.notes)
		}
		d.q1.check()
		d.q2.check()
	}
}

// However many states there are, a changed database stops nothing else for long, and
// nobody is served any more who is out of it: RFC 5971 §4.4.2, §8.4.
func TestSetPeersInSlices(t *testing.T) {
	const sessions = 3*checkSlice + 100
	d := secureDomains(t, 17)
	for i := range sessions {
		d.q1.send(testSID(i), hop12, "data")
		if i%500 == 499 {
			d.net.Run(100 * time.Millisecond)
		}
	}
	d.net.Run(time.Second)
	if s := d.q2.m.Stats(); s.RoutingStates != sessions {
		t.Fatalf("%+v", s)
	}
	peers := d.q2.cfg.Peers
	left := func() int { return d.q2.m.Stats().RoutingStates }
	step := func(want int) {
		t.Helper()
		before := left()
		d.net.Run(checkGap)
		if n := before - left(); n != want {
			t.Errorf("%d states gone in one slice, want %d", n, want)
		}
	}
	d.q2.notices, d.q2.recv, d.q2.status = nil, nil, nil
	d.q2.do(SetPeers{Entries: peers[1:]})
	if left() != sessions-checkSlice || len(d.q2.notices) != checkSlice {
		t.Errorf("%d states left, %d notices", left(), len(d.q2.notices))
	}
	var waiting []wire.SID // of those that have not been looked at
	for _, r := range d.q2.m.sessions {
		if r.round != d.q2.m.states.round {
			waiting = append(waiting, r.sid)
		}
	}
	if len(waiting) != sessions-checkSlice {
		t.Fatalf("%d wait", len(waiting))
	}
	// One is sent to, one gets Data: neither is served.
	d.q2.send(waiting[0], hop12.Reverse(), "no more")
	for id, a := range d.q2.m.assocs {
		e := wire.Message{Header: wire.Header{Type: wire.Data, HopCount: 9, NSLPID: testNSLP}, HasMRI: true, MRI: hop12, HasSID: true, SID: waiting[1], NSLPData: []byte("data")}
		if a.peer.addr == q1Addr {
			d.q2.do(&ConnMessage{Conn: id, Payload: e.Append(nil)})
		}
	}
	if len(d.q2.recv) != 0 || len(d.q2.m.RoutingStatesOf(waiting[1])) != 0 {
		t.Errorf("received %v", d.q2.recv)
	}
	for _, st := range d.q2.m.RoutingStatesOf(waiting[0]) {
		if st.Peer.IsValid() {
			t.Errorf("still %+v", st)
		}
	}
	d.q2.check()
	step(checkSlice)
	d.q2.do(SetPeers{Entries: peers[1:]}) // once more, halfway
	d.net.Run(10 * checkGap)
	for _, sid := range []wire.SID{waiting[2], waiting[len(waiting)-1]} {
		if n := len(d.q2.m.RoutingStatesOf(sid)); n != 0 {
			t.Errorf("%v: %d states", sid, n)
		}
	}
	told := map[wire.SID]int{}
	for _, n := range d.q2.notices {
		if n.Type == NodeAuthorisationChange {
			told[n.SID]++
		}
	}
	if len(told) != sessions || len(d.q2.conns) != 0 || d.q2.m.Stats().Associations != 0 {
		t.Errorf("told of %d sessions; %+v", len(told), d.q2.m.Stats())
	}
	if n := d.q2.noted("not-authorised"); n > 3 {
		t.Errorf("%d lines", n)
	}
	d.q2.check()
}

// RFC 5971 §4.4.2: "When an APD entry is modified or deleted, the node MUST
// re-validate existing MAs and the routing state table ... These changes SHOULD
// be indicated to local signalling applications".
func TestSetPeersRevalidates(t *testing.T) {
	d := secureDomains(t, 7)
	d.forward()
	for i := range 3 {
		d.q1.send(testSID(i), hop12, "data")
	}
	d.q2.send(testSID(9), hop23, "own.")
	d.net.Run(time.Second)
	peers := d.q2.cfg.Peers
	d.q2.notices = nil
	d.q2.do(SetPeers{Entries: peers}) // nothing has changed
	if len(d.q2.notices) != 0 || d.q2.noted("not-authorised") != 0 || d.q2.m.Stats().RoutingStates != 7 {
		t.Fatalf("the same database: told %v, %+v", d.q2.notices, d.q2.m.Stats())
	}
	d.q2.do(SetPeers{Entries: peers[1:]})
	told := map[wire.SID]int{}
	for _, n := range d.q2.notices {
		if n.Type == NodeAuthorisationChange && n.Status == Bad && n.MRI == hop12.Reverse() && n.SII != 0 {
			told[n.SID]++
		}
	}
	if len(told) != 3 || len(d.q2.notices) != 3 {
		t.Errorf("q2's application was told %v", d.q2.notices)
	}
	if d.q2.noted("not-authorised") != 1 { // one line for the operator, not one for each session
		t.Errorf("q2 noted %v", d.q2.notes)
	}
	if s := d.q2.m.Stats(); s.RoutingStates != 4 || s.Associations != 1 || len(d.q2.conns) != 1 {
		t.Errorf("q2 keeps %+v", s)
	}
	d.q2.check()
	d.q2.send(testSID(9), hop23, "more")
	d.q1.send(testSID(1), hop12, "late")
	d.net.Run(time.Second)
	if d.q3.received["more"] != 1 || d.q3.received["late"] != 0 {
		t.Errorf("q3 got %v", d.q3.received)
	}
	d.q2.do(SetPeers{Entries: peers})
	d.net.Run(2 * time.Minute)
	d.q1.send(testSID(1), hop12, "back")
	d.net.Run(time.Second)
	if d.q3.received["back"] != 1 {
		t.Errorf("after all was allowed again q3 got %v; %v", d.q3.received, d.q1.notes)
	}
	// Nothing at all: everything goes, what is being connected too.
	d.q2.do(SetPeers{})
	d.q2.check()
	d.q2.wantEmpty()
	d.net.Run(time.Minute)
	if s := d.q2.m.Stats(); s.Associations != 0 || s.RoutingStates != 0 {
		t.Errorf("an empty database leaves %+v", s)
	}
}

// The database also rules who comes without a certificate, where that is allowed.
func TestSetPeersWithoutTLS(t *testing.T) {
	plain := []PeerEntry{{Unauthenticated: true, Peers: []netip.Addr{q1Addr}}, {Unauthenticated: true, Peers: []netip.Addr{q3Addr}}}
	d := newDomains(t, 8, func(c *Config) {
		if c.Address == q2Addr {
			c.Peers = plain
		}
	})
	d.forward()
	d.q1.send(testSID(1), hop12, "data")
	d.net.Run(time.Second)
	if d.q1.received["backdata"] != 1 {
		t.Fatalf("q1 got %v; %v", d.q1.received, d.q2.notes)
	}
	d.q2.do(SetPeers{Entries: plain[1:]})
	if s := d.q2.m.Stats(); s.RoutingStates != 1 || s.Associations != 1 {
		t.Errorf("%+v", s)
	}
	d.q2.check()
}

// A certificate's end is the association's.
func TestCertificateExpires(t *testing.T) {
	d := secureDomains(t, 9)
	for _, c := range d.q1.certs {
		c.NotAfter = testStart.Add(time.Minute)
	}
	d.q1.send(testSID(1), hop12, "one")
	d.net.Run(59 * time.Second)
	if n := d.q1.m.Stats().Associations; n != 1 {
		t.Fatalf("%d associations before the end", n)
	}
	d.net.Run(2 * time.Second)
	if n := d.q1.m.Stats().Associations + d.q2.m.Stats().Associations; n != 0 {
		t.Errorf("%d associations after the end: %v", n, d.q1.notes)
	}
	d.q1.check()
	d.q2.check()
}

// A random life with TLS, wrong certificates and a database that changes: the
// machines never contradict themselves.
func TestRandomSecureLife(t *testing.T) {
	for seed := range uint64(20) {
		d := secureDomains(t, seed, func(c *Config) { c.ValidityOffPath = time.Minute })
		d.net.Default = simnet.Link{Loss: 0.1, Duplicate: 0.1, Delay: 2 * time.Millisecond, Jitter: 50 * time.Millisecond}
		d.forward()
		r := d.net.Rand()
		all := d.q2.cfg.Peers
		for range 80 {
			switch r.IntN(8) {
			case 0:
				d.q2.do(SetPeers{Entries: all[r.IntN(2):]})
			case 1:
				d.q1.certs[q2Addr] = certOf(65002+r.IntN(2), q2Addr)
			case 2:
				d.q1.certs[q1Addr] = certOf(65001+r.IntN(2), q1Addr)
			case 3:
				for _, c := range d.q2.conns {
					c.Break(simnet.ErrReset)
					break
				}
			default:
				d.q1.send(testSID(r.IntN(4)), hop12, "data")
			}
			d.net.Run(time.Duration(r.IntN(4000)) * time.Millisecond)
			for _, n := range []*simNode{d.q1, d.q2, d.q3} {
				n.check()
			}
		}
		d.q1.certs[q1Addr], d.q1.certs[q2Addr] = certOf(65001, q1Addr), certOf(65002, q2Addr)
		d.q2.do(SetPeers{Entries: all})
		d.net.Default = simnet.Link{Delay: time.Millisecond}
		d.net.Run(2 * time.Minute)
		d.q1.send(testSID(7), hop12, "last")
		d.net.Run(time.Minute)
		if d.q3.received["last"] != 1 {
			t.Fatalf("seed %d: q3 %v; %v", seed, d.q3.received, d.q1.status)
		}
	}
}

// RFC 5971 §5.7.3.1 on names.
func TestDNSMatch(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a.example.com", "A.Example.COM", true}, {"a.example.com", "b.example.com", false},
		{"*.example.com", "a.example.com", true}, {"foo.example.com", "*.example.com", true},
		{"*.example.com", "*.example.com", true}, {"*.example.com", "example.com", false},
		{"*.example.com", "a.b.example.com", false}, {"*.example.com", ".example.com", false},
		{"a*.example.com", "ab.example.com", false}, {"*", "com", false}, {"", "", false}, {"a.example.", "a.example", true},
	} {
		if got := dnsMatch(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// RFC 5971 §4.4.2: "the order of entries in the APD is significant": "the first
// entry where the identity matches that presented by the peer, and where the
// scope information matches the circumstances".
func TestDatabase(t *testing.T) {
	qne := &Certificate{CommonName: "qne.example.com", DNSNames: []string{"qne.example.com"}, URIs: []string{asName(65001)}, Addresses: []netip.Addr{q1Addr}}
	old := &Certificate{CommonName: "old.example.com"}
	name := func(s string) []Identity { return []Identity{{NamespaceDNS, s}} }
	peers := []netip.Addr{q1Addr}
	for text, c := range map[string]struct {
		db   []PeerEntry
		cert *Certificate
		want bool
	}{
		"no database":                   {nil, qne, false},
		"no database, no certificate":   {nil, nil, true},
		"empty":                         {[]PeerEntry{}, qne, false},
		"empty, no certificate":         {[]PeerEntry{}, nil, false},
		"anybody with a certificate":    {[]PeerEntry{{}}, qne, true},
		"anybody, without":              {[]PeerEntry{{}}, nil, false},
		"without a certificate":         {[]PeerEntry{{Unauthenticated: true}}, nil, true},
		"only without a certificate":    {[]PeerEntry{{Unauthenticated: true}}, qne, false},
		"URI":                           {[]PeerEntry{{Identities: uri(65001)}}, qne, true},
		"another URI":                   {[]PeerEntry{{Identities: uri(65002)}}, qne, false},
		"name":                          {[]PeerEntry{{Identities: name("*.example.com")}}, qne, true},
		"common name":                   {[]PeerEntry{{Identities: name("old.example.com")}}, old, true},
		"common name beside dNSName":    {[]PeerEntry{{Identities: name("old.example.com")}}, &Certificate{CommonName: "old.example.com", DNSNames: []string{"x"}}, false},
		"both":                          {[]PeerEntry{{Identities: append(uri(65001), name("qne.example.com")...)}}, qne, true},
		"one of two":                    {[]PeerEntry{{Identities: append(uri(65001), name("b.example.com")...)}}, qne, false},
		"unknown namespace":             {[]PeerEntry{{Identities: []Identity{{9, "x"}}}}, qne, false},
		"address":                       {[]PeerEntry{{Peers: peers}}, qne, true},
		"another address":               {[]PeerEntry{{Peers: []netip.Addr{q3Addr}}}, qne, false},
		"border":                        {[]PeerEntry{{Border: e2inExt}}, qne, true},
		"another border":                {[]PeerEntry{{Border: e2outExt}}, qne, false},
		"source":                        {[]PeerEntry{{Source: netip.MustParsePrefix("198.51.100.0/24")}}, qne, true},
		"another source":                {[]PeerEntry{{Source: netip.MustParsePrefix("198.51.101.0/24")}}, qne, false},
		"destination":                   {[]PeerEntry{{Destination: netip.MustParsePrefix("203.0.113.0/24")}}, qne, true},
		"part of the destination":       {[]PeerEntry{{Destination: netip.MustParsePrefix("203.0.113.9/32")}}, qne, true},
		"deny first":                    {[]PeerEntry{{Identities: uri(65001), Deny: true}, {}}, qne, false},
		"allow first":                   {[]PeerEntry{{Identities: uri(65001)}, {Deny: true}}, qne, true},
		"deny somewhere else":           {[]PeerEntry{{Border: e2outExt, Deny: true}, {}}, qne, true},
		"deny everybody, also without":  {[]PeerEntry{{Deny: true}, {Unauthenticated: true}}, nil, false},
		"own address":                   {[]PeerEntry{{OwnAddress: true}}, qne, true},
		"another's address":             {[]PeerEntry{{OwnAddress: true}}, &Certificate{Addresses: []netip.Addr{q3Addr}}, false},
		"no address in the certificate": {[]PeerEntry{{OwnAddress: true}}, old, true},
	} {
		b := newBench(t, func(cfg *Config) { cfg.Peers = c.db })
		back := hop12.Reverse()
		if got := b.m.authorised(c.cert, q1Addr, &back, e2inInt); got != c.want {
			t.Errorf("%s: %v, want %v", text, got, c.want)
		}
	}
	// The border of a relayed Query is its edge's, whatever the MRI says.
	b := newBench(t, func(cfg *Config) { cfg.Peers = []PeerEntry{{Border: e2inExt}} })
	lie := hop12.Reverse()
	lie.Ingress = e2inExt
	if b.m.authorised(qne, q1Addr, &lie, e2outInt) {
		t.Error("a peer chose its border itself")
	}
}
