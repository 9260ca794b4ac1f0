package gist

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// A random life of three domains: messages, releases, lost associations,
// partitions, crashes, in any order, on a bad network. The machines never
// contradict themselves; when everything is released nothing is left, and at
// the end whatever is asked works again.
func TestRandomLife(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		randomLife(t, seed)
	}
}

func randomLife(t *testing.T, seed uint64) {
	t.Helper()
	d := newDomains(t, seed, func(c *Config) {
		c.ValidityOffPath, c.Inactivity, c.MessageTimeout = time.Minute, 10*time.Minute, 20*time.Second
	})
	d.net.Default = simnet.Link{Loss: 0.1, Duplicate: 0.1, Delay: 2 * time.Millisecond, Jitter: 50 * time.Millisecond}
	d.forward()
	r := rand.New(rand.NewPCG(seed, 99))
	nodes := []*simNode{d.q1, d.q2, d.q3}
	cut := [][2]netip.Addr{{q1Addr, q2Addr}, {q2Addr, q3Addr}, {e1Ext, e2inExt}, {e2outExt, e3Ext}}
	for range 150 {
		sid := testSID(r.IntN(6))
		switch r.IntN(12) {
		case 0:
			d.q1.forget(sid, hop12)
		case 1:
			d.q2.forget(sid, hop12.Reverse())
		case 2:
			d.q3.forget(sid, hop23.Reverse())
		case 3:
			n := nodes[r.IntN(3)]
			for _, c := range n.conns {
				c.Break(simnet.ErrReset)
				break
			}
		case 4:
			p := cut[r.IntN(len(cut))]
			d.net.Partition(p[0], p[1])
		case 5:
			p := cut[r.IntN(len(cut))]
			d.net.Heal(p[0], p[1])
		case 6:
			if r.IntN(3) == 0 {
				id := []string{"", "again"}[r.IntN(2)]
				nodes[r.IntN(3)].restart(id)
			}
		case 7:
			nodes[r.IntN(3)].do(InvalidateRoutingState{MRI: hop12, Status: RoutingStatus(2 + r.IntN(2)), Urgent: r.IntN(2) == 0})
		default:
			d.q1.send(sid, hop12, "data")
		}
		d.net.Run(time.Duration(r.IntN(3000)) * time.Millisecond)
		for _, n := range nodes {
			n.check()
		}
	}
	for _, p := range cut {
		d.net.Heal(p[0], p[1])
	}
	d.net.Default = simnet.Link{Delay: time.Millisecond}
	d.net.Run(2 * time.Minute)
	d.q1.send(testSID(7), hop12, "last")
	d.net.Run(time.Minute)
	if d.q3.received["last"] != 1 || d.q1.received["backlast"] != 1 {
		t.Fatalf("seed %d: after all was well again: q3 %v, q1 %v; %v", seed, d.q3.received, d.q1.received, d.q1.status)
	}
	for i := range 8 {
		d.q1.forget(testSID(i), hop12)
		d.q2.forget(testSID(i), hop12.Reverse())
		d.q2.forget(testSID(i), hop23)
		d.q3.forget(testSID(i), hop23.Reverse())
	}
	d.net.Run(10 * time.Minute)
	for _, n := range nodes {
		n.check()
		n.wantEmpty()
		if s := n.m.Stats(); s.Associations != 0 {
			t.Errorf("seed %d: %s keeps %d associations", seed, n.cfg.Identity, s.Associations)
		}
	}
}

// Any datagrams, connection events and API calls, in any order: no panic, no
// contradiction, and what has passed its deadline is gone.
func FuzzMachine(f *testing.F) {
	q := queryFor(testSID(1), "q1", q1Addr)
	f.Add([]byte{0}, q)
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, q)
	f.Add([]byte{3, 0, 9, 9, 1, 5, 4, 6}, q[4:])
	f.Add([]byte{7, 7, 7, 10, 1, 3, 3, 11, 2}, []byte{})
	noStack := func(m *wire.Message, _ *Datagram) { m.StackProposal, m.HasStackConfig = nil, false }
	f.Add([]byte{32, 33, 32, 33, 4, 2}, natQuery(pc, nil, noStack).Payload)
	f.Add([]byte{16, 17, 16, 17}, natQuery(pc, nil).Payload)
	f.Add([]byte{32, 0, 16}, queryOf(pc, cAddr, noStack, func(m *wire.Message, _ *Datagram) {
		m.Type, m.R, m.QueryCookie, m.NSLPData = wire.Data, false, nil, []byte("data")
	}).Payload)
	f.Add([]byte{15, 2, 7, 31, 47, 63, 13, 29, 13, 12, 14, 30}, q)
	f.Add([]byte{7, 39, 33, 31, 13, 12, 45, 7}, natQuery(pc, nil).Payload)
	f.Fuzz(func(t *testing.T, script, payload []byte) {
		if len(script) > 64 {
			script = script[:64]
		}
		b := newBench(t, func(c *Config) {
			c.DirectPeers, c.DModeData = []netip.Addr{q3Addr}, len(script)%2 == 0
			c.TLS, c.TLSPort = len(script)%3 == 0, tcpPort+1
			if c.TLS {
				c.Peers = fuzzPeers
			}
		})
		from := []netip.AddrPort{
			netip.AddrPortFrom(e2inInt, testPort), netip.AddrPortFrom(q3Addr, testPort), netip.MustParseAddrPort("192.0.2.50:5"),
		}
		var last []Action // what the machine said last is thrown back at it
		for i, op := range script {
			b.now = b.now.Add(time.Duration(op) * 100 * time.Millisecond)
			sid := testSID(int(op >> 4 & 3))
			conn := ConnID(1 + op>>5)
			p := payload
			if i%2 == 1 {
				p = echo(last, payload)
			}
			var ev Event
			switch op & 15 {
			case 0, 1:
				ev = Datagram{Local: netip.AddrPortFrom(q2Addr, testPort), From: from[int(op>>4)%3], TTL: op, Payload: p}
			case 2, 3:
				ev = &ConnMessage{Conn: conn, Payload: p}
			case 4:
				ev = ConnAccepted{Conn: conn, Remote: from[0]}
			case 5:
				ev = ConnUp{Conn: conn}
			case 6:
				ev = ConnDown{Conn: conn}
			case 7:
				ev = SendMessage{NSLPData: []byte("abcd"), Handle: uint64(op), NSLPID: testNSLP, SID: sid, MRI: hop23, SII: SII(op >> 7), Attr: TransferAttributes{Reliable: true}}
			case 8:
				ev = SendMessage{NSLPData: []byte("efgh"), NSLPID: testNSLP, SID: sid, MRI: hop12.Reverse()}
			case 9:
				ev = SetStateLifetime{NSLPID: testNSLP, SID: sid, MRI: hop23, Lifetime: time.Duration(op>>6) * time.Second}
			case 10:
				ev = InvalidateRoutingState{MRI: hop23, Status: RoutingStatus(op >> 6), Urgent: op&16 != 0}
			case 11:
				ev = SetStateLifetime{NSLPID: testNSLP, MRI: hop12.Reverse()}
			case 12:
				ev = RouteChanged{Prefixes: []netip.Prefix{testFlow.Destination}[:op>>4&1], Interface: uint32(op >> 6)}
			case 13:
				ev = SetPeers{Entries: fuzzPeers[:int(op>>4)%(len(fuzzPeers)+1)]}
			case 14:
				ev = Datagram{
					Local: netip.AddrPortFrom(testFlow.Destination.Addr(), testPort), From: from[int(op>>4)%3], TTL: op, RouterAlert: true,
					Interface: uint32(op >> 5), Transit: &Transit{}, Payload: p,
				}
			case 15:
				ev = fuzzRare(op, conn, sid, p)
			}
			last = b.do(ev)
			if err := b.m.consistent(); err != nil {
				t.Fatalf("after event %d, %T: %v", i, ev, err)
			}
		}
		for range 10_000 {
			at := b.m.Deadline()
			if at.IsZero() {
				break
			}
			b.now = at
			b.do(nil)
		}
		if s := b.m.Stats(); s.RoutingStates != 0 || s.Associations != 0 || s.Peers != 0 || !b.m.Deadline().IsZero() {
			t.Fatalf("when every deadline has passed: %+v", s)
		}
	})
}

// fuzzPeers is an authorised peer database: a peer with a certificate, anybody
// without, and one that is denied.
var fuzzPeers = []PeerEntry{
	{Identities: []Identity{{Namespace: NamespaceDNS, Name: "q3.example"}}, Peers: []netip.Addr{q3Addr}},
	{Unauthenticated: true, Border: e2inExt},
	{Peers: []netip.Addr{q1Addr}, Deny: true},
}

// fuzzRare are the events that come seldom.
func fuzzRare(op byte, conn ConnID, sid wire.SID, payload []byte) Event {
	cert := &Certificate{DNSNames: []string{"q3.example"}, NotAfter: testStart.Add(time.Duration(op) * time.Second)}
	switch op >> 4 & 7 {
	case 0:
		return ConnAccepted{Conn: conn, Remote: netip.AddrPortFrom(q3Addr, 9), Stack: StackTLS, Certificate: cert}
	case 1:
		return ConnUp{Conn: conn, Certificate: cert}
	case 2:
		return ConnDown{Conn: conn, Err: ErrAuthentication}
	case 3:
		if op&1 != 0 {
			return DatagramTooLarge{To: netip.AddrPortFrom(q1Addr, testPort), MTU: int(op) << 1, Payload: payload}
		}
		return NotForwarded{Datagram: Datagram{From: netip.AddrPortFrom(q1Addr, testPort), Payload: payload}, MTU: int(op)}
	case 4:
		return SendMessage{NSLPData: []byte("safe"), NSLPID: testNSLP, SID: sid, MRI: hop23, Attr: TransferAttributes{Reliable: true, Secure: true}}
	case 5:
		return SendMessage{NSLPData: []byte("ijkl"), NSLPID: testNSLP, SID: sid, MRI: hop23, Attr: TransferAttributes{Stateless: true}, TTL: op}
	case 6:
		return SetStateLifetime{NSLPID: testNSLP, SID: sid, MRI: hop12.Reverse(), Lifetime: time.Second}
	}
	return SendMessage{NSLPData: make([]byte, 1200), NSLPID: testNSLP, SID: sid, MRI: pc, Timeout: time.Minute}
}

// echo makes, of what the machine sent last, what a peer would answer: a
// Response becomes its Confirm, a Query a Response; else it is payload.
func echo(last []Action, payload []byte) []byte {
	for _, a := range last {
		s, ok := a.(SendDatagram)
		if !ok {
			continue
		}
		m, err := wire.ParseDatagram(s.Payload)
		if err != nil {
			continue
		}
		switch m.Type {
		case wire.Response:
			q := mustQuery(m.SID)
			c := confirmTo(&q, &m)
			return c.Append(nil)
		case wire.Query:
			m.Type, m.C, m.MRI = wire.Response, false, m.MRI.Reverse()
			m.S = true
			m.NLI = wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: binary.BigEndian.Uint32(m.SID[:]) % 100_000}
			m.NLI.ValidityMS++
			m.ResponderCookie = []byte("12345678")
			m.StackConfig.Options = []wire.MAOptions{{Protocol: wire.ForwardsTCP, Data: wire.PortData(7)}}
			return m.AppendDatagram(nil)
		}
	}
	return payload
}
