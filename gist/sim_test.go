package gist

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

var testStart = time.Unix(1_700_000_000, 0)

const (
	testNSLP = wire.NSLPID(1)
	testPort = 1270
	tcpPort  = 2270
	tlsPort  = 3270
	sctpPort = 4270
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// simNode is a Machine on a simulated network, and what came out of it.
type simNode struct {
	t     *testing.T
	net   *simnet.Net
	cfg   Config
	m     *Machine
	host  *simnet.Host
	conns map[ConnID]*simnet.Conn
	even  ConnID
	timer *simnet.Timer
	// certs are the certificates that TLS finds at each address.
	certs map[netip.Addr]*Certificate

	recv     []RecvMessage
	status   []MessageStatus
	notices  []NetworkNotification
	notes    []Note
	onRecv   func(RecvMessage)
	refuse   func(SendDatagram) bool // where set: it does not leave
	received map[string]int          // by data
	epoch    int
}

// testRand fills with octets that follow seed: a test's, never a program's.
func testRand(seed uint64) func([]byte) {
	r := rand.New(rand.NewPCG(seed, 1))
	return func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
}

func newSimNode(t *testing.T, net *simnet.Net, cfg Config) *simNode {
	t.Helper()
	n := &simNode{t: t, net: net, cfg: cfg, received: map[string]int{}}
	n.host = &simnet.Host{Name: string(cfg.Identity), Datagram: n.datagram, Accept: n.accept}
	net.Attach(n.host, cfg.Address)
	n.boot()
	return n
}

func (n *simNode) boot() {
	cfg := n.cfg
	if len(cfg.NSLPIDs) == 0 {
		cfg.NSLPIDs = []wire.NSLPID{testNSLP}
	}
	cfg.Port, cfg.TCPPort, cfg.TLSPort, cfg.SCTPPort = testPort, tcpPort, tlsPort, sctpPort
	cfg.Insecure = cfg.Insecure || !cfg.TLS
	if cfg.Rand == nil {
		seed := uint64(n.epoch)<<32 | uint64(cfg.Address.As4()[1])<<8 | uint64(cfg.Address.As4()[3])
		cfg.Rand = testRand(seed)
	}
	if cfg.Route == nil {
		cfg.Route = func(wire.MRI) (QueryRoute, error) { return QueryRoute{}, fmt.Errorf("nowhere to go") }
	}
	m, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.m, n.conns, n.even = m, map[ConnID]*simnet.Conn{}, 0
}

// restart is a crash: everything that the node knew is gone.
func (n *simNode) restart(identity string) {
	n.net.Down(n.host, true)
	n.net.Up(n.host)
	n.epoch++
	if identity != "" {
		n.cfg.Identity = []byte(identity)
	}
	if n.timer != nil {
		n.timer.Stop()
	}
	n.boot()
}

func (n *simNode) datagram(d simnet.Datagram) {
	ev := Datagram{Local: d.To, From: d.From, TTL: d.TTL, RouterAlert: d.RouterAlert, Payload: d.Payload}
	if d.To.Addr() != n.cfg.Address {
		ev.Transit, ev.Interface = &Transit{}, 1 // diverted here
	}
	n.do(ev)
}

func (n *simNode) accept(c *simnet.Conn) bool {
	up := ConnAccepted{Local: c.Local, Remote: c.Remote}
	switch {
	case c.Local.Port() == tcpPort:
	case c.Local.Port() == sctpPort && n.cfg.SCTP:
		up.Stack = StackSCTP
	case c.Local.Port() == tlsPort && n.certs[c.Remote.Addr()] != nil:
		up.Stack, up.Certificate = StackTLS, n.certs[c.Remote.Addr()]
	default:
		return false
	}
	n.even += 2
	up.Conn = n.even
	n.watch(n.even, c)
	n.do(up)
	return true
}

func (n *simNode) watch(id ConnID, c *simnet.Conn) {
	n.conns[id] = c
	m := n.m
	c.Message = func(b []byte) {
		if n.m == m {
			n.do(&ConnMessage{Conn: id, Payload: b})
		}
	}
	c.Down = func(err error) {
		if n.m == m {
			delete(n.conns, id)
			n.do(ConnDown{Conn: id, Err: err})
		}
	}
}

// do hands an event to the machine and carries out what it wants.
func (n *simNode) do(ev Event) {
	n.t.Helper()
	for _, a := range kept(n.m.Handle(n.net.Now(), ev)) {
		n.act(a)
	}
	n.rearm()
}

// kept is a copy of actions that is good for longer than till the next event.
func kept(actions []Action) []Action {
	actions = slices.Clone(actions)
	for i, a := range actions {
		switch a := a.(type) {
		case *SendConn:
			actions[i] = &SendConn{a.Conn, slices.Clone(a.Payload)}
		case *RecvMessage:
			r := *a
			actions[i] = &r
		}
	}
	return actions
}

func (n *simNode) rearm() {
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if at := n.m.Deadline(); !at.IsZero() {
		n.timer = n.net.At(at, func() { n.timer = nil; n.do(nil) })
	}
}

func (n *simNode) act(a Action) {
	switch a := a.(type) {
	case SendDatagram:
		if n.refuse != nil && n.refuse(a) {
			return
		}
		n.net.Send(simnet.Datagram{From: netip.AddrPortFrom(a.Local, testPort), To: a.To, TTL: or64(a.TTL), RouterAlert: a.RouterAlert, Payload: a.Payload})
	case ForwardDatagram:
		d := a.Datagram
		n.net.Send(simnet.Datagram{From: d.From, To: d.Local, TTL: d.TTL - 1, RouterAlert: d.RouterAlert, Payload: d.Payload})
	case Connect:
		c := n.net.Dial(a.Local, a.To)
		n.watch(a.Conn, c)
		m := n.m
		c.Up = func() {
			if n.m == m {
				up := ConnUp{Conn: a.Conn}
				if a.Stack == StackTLS {
					up.Certificate = n.certs[a.To.Addr()]
				}
				n.do(up)
			}
		}
	case *SendConn:
		if c := n.conns[a.Conn]; c != nil {
			c.Send(a.Payload)
		}
	case CloseConn:
		if c := n.conns[a.Conn]; c != nil {
			delete(n.conns, a.Conn)
			c.Close()
		}
	case *RecvMessage:
		n.recv = append(n.recv, *a)
		n.received[string(a.Data)]++
		if n.onRecv != nil {
			n.onRecv(*a)
		}
	case MessageStatus:
		n.status = append(n.status, a)
	case NetworkNotification:
		n.notices = append(n.notices, a)
	case Note:
		n.notes = append(n.notes, a)
	}
}

func or64(ttl uint8) uint8 {
	if ttl == 0 {
		return 64
	}
	return ttl
}

func (n *simNode) noted(kind string) int {
	c := 0
	for _, x := range n.notes {
		if x.Kind == kind {
			c++
		}
	}
	return c
}

func (n *simNode) send(sid wire.SID, mri wire.MRI, data string) {
	n.t.Helper()
	n.do(SendMessage{NSLPData: pad4(data), Handle: 1, NSLPID: testNSLP, SID: sid, MRI: mri, Attr: TransferAttributes{Reliable: true}})
}

func (n *simNode) forget(sid wire.SID, mri wire.MRI) {
	n.do(SetStateLifetime{NSLPID: testNSLP, SID: sid, MRI: mri})
}

func pad4(s string) []byte {
	b := []byte(s)
	for len(b)%4 != 0 {
		b = append(b, ' ')
	}
	return b
}

func testSID(i int) (s wire.SID) {
	binary.BigEndian.PutUint64(s[:], 0x9e3779b97f4a7c15*uint64(i+1))
	binary.BigEndian.PutUint64(s[8:], uint64(i))
	return s
}

// simEdge is an Edge on the network, at both its addresses.
type simEdge struct {
	e     *Edge
	net   *simnet.Net
	notes []Note
	host  *simnet.Host
}

func newSimEdge(t *testing.T, net *simnet.Net, cfg EdgeConfig) *simEdge {
	t.Helper()
	cfg.Port = testPort
	e, err := NewEdge(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &simEdge{e: e, net: net}
	s.host = &simnet.Host{Datagram: func(d simnet.Datagram) {
		in := Datagram{Local: d.To, From: d.From, TTL: d.TTL, RouterAlert: d.RouterAlert, Payload: d.Payload}
		for _, a := range append([]Action(nil), e.Handle(net.Now(), in, d.To.Addr() == cfg.Internal)...) {
			switch a := a.(type) {
			case SendDatagram:
				net.Send(simnet.Datagram{From: netip.AddrPortFrom(a.Local, testPort), To: a.To, TTL: or64(a.TTL), RouterAlert: a.RouterAlert, Payload: a.Payload})
			case Note:
				s.notes = append(s.notes, a)
			}
		}
	}}
	net.Attach(s.host, cfg.Internal, cfg.External)
	return s
}

// domains is three ASs in a row: q1 - e1 | e2in - q2 - e2out | e3 - q3.
type domains struct {
	net                 *simnet.Net
	q1, q2, q3          *simNode
	e1, e2in, e2out, e3 *simEdge
}

var (
	q1Addr, q2Addr, q3Addr = addr("10.1.0.1"), addr("10.2.0.1"), addr("10.3.0.1")
	e1Int, e1Ext           = addr("10.1.0.2"), addr("192.0.2.1")
	e2inExt, e2inInt       = addr("192.0.2.2"), addr("10.2.0.2")
	e2outInt, e2outExt     = addr("10.2.0.3"), addr("192.0.2.5")
	e3Ext, e3Int           = addr("192.0.2.6"), addr("10.3.0.2")
	testFlow               = wire.Flow{
		Source:      netip.MustParsePrefix("198.51.100.1/32"),
		Destination: netip.MustParsePrefix("203.0.113.9/32"),
		HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 5004,
	}
	hop12 = wire.MRI{Method: wire.OffPath, Flow: testFlow, Egress: e1Ext, Ingress: e2inExt}
	hop23 = wire.MRI{Method: wire.OffPath, Flow: testFlow, Egress: e2outExt, Ingress: e3Ext}
)

func relayedRoute(edge netip.Addr, peers ...netip.Addr) func(wire.MRI) (QueryRoute, error) {
	return func(mri wire.MRI) (QueryRoute, error) {
		if mri.Upstream {
			return QueryRoute{}, fmt.Errorf("upstream only by state")
		}
		return QueryRoute{To: netip.AddrPortFrom(edge, testPort), AllowedPeers: peers}, nil
	}
}

func newDomains(t *testing.T, seed uint64, change ...func(*Config)) *domains {
	t.Helper()
	net := simnet.New(seed, testStart)
	net.Default = simnet.Link{Delay: time.Millisecond}
	d := &domains{net: net}
	node := func(a netip.Addr, name string, route func(wire.MRI) (QueryRoute, error), edges ...ServedEdge) *simNode {
		cfg := Config{Identity: []byte(name), Address: a, Route: route, Edges: edges}
		for _, f := range change {
			f(&cfg)
		}
		return newSimNode(t, net, cfg)
	}
	d.q1 = node(q1Addr, "q1", relayedRoute(e1Int, q2Addr))
	d.q2 = node(q2Addr, "q2", relayedRoute(e2outInt, q3Addr), ServedEdge{Internal: e2inInt, External: e2inExt, NeighborAS: 65001, PeerQNEs: []netip.Addr{q1Addr}})
	d.q3 = node(q3Addr, "q3", nil, ServedEdge{Internal: e3Int, External: e3Ext, NeighborAS: 65002, PeerQNEs: []netip.Addr{q2Addr}})
	edge := func(in, ext, neighbor, qne netip.Addr) *simEdge {
		return newSimEdge(t, net, EdgeConfig{Identity: []byte("edge"), Internal: in, External: ext, Neighbor: neighbor, QNEs: []netip.Addr{qne}})
	}
	d.e1 = edge(e1Int, e1Ext, e2inExt, q1Addr)
	d.e2in = edge(e2inInt, e2inExt, e1Ext, q2Addr)
	d.e2out = edge(e2outInt, e2outExt, e3Ext, q2Addr)
	d.e3 = edge(e3Int, e3Ext, e2outExt, q3Addr)
	return d
}

// forward makes q2 pass what comes on to q3, and what comes back on to q1.
func (d *domains) forward() {
	d.q2.onRecv = func(r RecvMessage) {
		mri := hop23
		if r.MRI.Upstream {
			mri = hop12.Reverse()
		}
		d.q2.do(SendMessage{NSLPData: r.Data, Handle: 2, NSLPID: r.NSLPID, SID: r.SID, MRI: mri, Attr: TransferAttributes{Reliable: true}})
	}
	d.q3.onRecv = func(r RecvMessage) {
		d.q3.do(SendMessage{NSLPData: append([]byte("back"), r.Data...), Handle: 3, NSLPID: r.NSLPID, SID: r.SID, MRI: r.MRI.Reverse(), Attr: TransferAttributes{Reliable: true}})
	}
}

func (n *simNode) wantEmpty() {
	n.t.Helper()
	s := n.m.Stats()
	if s.RoutingStates != 0 || s.Querying != 0 || s.Handshakes != 0 || s.QueuedBytes != 0 || len(n.m.sessions) != 0 || len(n.m.byMRI) != 0 {
		n.t.Errorf("%s is not empty: %+v, %d sessions, %d MRIs", n.cfg.Identity, s, len(n.m.sessions), len(n.m.byMRI))
	}
}

// check looks for contradictions inside a machine.
func (n *simNode) check() {
	n.t.Helper()
	if err := n.m.consistent(); err != nil {
		n.t.Fatalf("%s: %v", n.cfg.Identity, err)
	}
}

// consistent recounts everything that a machine counts.
func (m *Machine) consistent() error {
	states, querying, running, queued, users := 0, 0, 0, 0, map[*assoc]int{}
	refs := map[*peer]int{}
	for sid, r := range m.sessions {
		for ; r != nil; r = r.next {
			states++
			if r.sid != sid || r.dead {
				return fmt.Errorf("dead or foreign state under %v", sid)
			}
			if r.querying {
				querying++
			}
			if r.running {
				running++
			}
			if r.waiting != nil {
				for _, w := range r.waiting.msgs {
					queued += len(w.data)
				}
			}
			if r.ma != nil {
				users[r.ma]++
				if m.assocs[r.ma.id] != r.ma {
					return fmt.Errorf("%v uses an association that is gone", sid)
				}
			}
			if r.waitMA != nil && m.assocs[r.waitMA.id] != r.waitMA {
				return fmt.Errorf("%v waits for an association that is gone", sid)
			}
			if r.peer != nil {
				refs[r.peer]++
			}
			if r.tm.pos == 0 {
				return fmt.Errorf("%v has no timer: it would stay for ever", sid)
			}
		}
	}
	pending := 0
	for id, a := range m.assocs {
		if a.nUsers != users[a] {
			return fmt.Errorf("association %d counts %d users, has %d", id, a.nUsers, users[a])
		}
		if a.peer != nil {
			refs[a.peer]++
		} else {
			pending++
		}
		if a.tm.pos == 0 {
			return fmt.Errorf("association %d has no timer", id)
		}
	}
	for k, p := range m.peers {
		if p.refs != refs[p] {
			return fmt.Errorf("peer %q counts %d references, has %d", k.id, p.refs, refs[p])
		}
	}
	s := m.Stats()
	if s.RoutingStates != states || s.Querying != querying || s.Handshakes != running || s.QueuedBytes != queued ||
		s.Associations != len(m.assocs) || m.pending != pending {
		return fmt.Errorf("counts %+v, pending %d; found states %d querying %d running %d queued %d associations %d pending %d",
			s, m.pending, states, querying, running, queued, len(m.assocs), pending)
	}
	for i, slot := range m.timers.heap {
		if a := slot.t.alarm(); int(a.pos) != i+1 || a.at != slot.at {
			return fmt.Errorf("timer heap: slot %d is out of step", i)
		}
		if i > 0 && m.timers.heap[(i-1)/4].at > slot.at {
			return fmt.Errorf("timer heap: slot %d is before its parent", i)
		}
	}
	return nil
}
