package bgp

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// rawNeighbor accepts one session and then sends what the test says: what no
// well-behaved speaker would.
type rawNeighbor struct {
	t    testing.TB
	conn net.Conn
}

func listenRaw(t testing.TB, at netip.Addr) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, testPort)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func acceptRaw(t testing.TB, l *net.TCPListener, as uint32, id netip.Addr) *rawNeighbor {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	n := &rawNeighbor{t: t, conn: conn}
	n.read(bgp.BGP_MSG_OPEN)
	open, err := bgp.NewBGPOpenMessage(uint16(as), 90, id, []bgp.OptionParameterInterface{
		bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
			bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapFourOctetASNumber(as),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.send(open)
	n.send(bgp.NewBGPKeepAliveMessage())
	n.read(bgp.BGP_MSG_KEEPALIVE)
	return n
}

func (n *rawNeighbor) send(m *bgp.BGPMessage) {
	n.t.Helper()
	b, err := m.Serialize()
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.conn.Write(b); err != nil {
		n.t.Fatal(err)
	}
}

// read takes one message, which has to be of this type.
func (n *rawNeighbor) read(typ uint8) {
	n.t.Helper()
	head := make([]byte, 19)
	if _, err := io.ReadFull(n.conn, head); err != nil {
		n.t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, n.conn, int64(binary.BigEndian.Uint16(head[16:]))-19); err != nil {
		n.t.Fatal(err)
	}
	if head[18] != typ {
		n.t.Fatalf("message type %d, expected %d", head[18], typ)
	}
}

// announce sends an UPDATE with this next hop and these segments as AS path.
func (n *rawNeighbor) announce(prefix string, hop netip.Addr, path ...bgp.AsPathParamInterface) {
	n.t.Helper()
	nlri, err := bgp.NewIPAddrPrefix(netip.MustParsePrefix(prefix))
	if err != nil {
		n.t.Fatal(err)
	}
	nextHop, err := bgp.NewPathAttributeNextHop(hop)
	if err != nil {
		n.t.Fatal(err)
	}
	n.send(bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(0), bgp.NewPathAttributeAsPath(path), nextHop,
	}, []bgp.PathNLRI{{NLRI: nlri}}))
}

func sequence(as ...uint32) bgp.AsPathParamInterface {
	return bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, as)
}

func set(as ...uint32) bgp.AsPathParamInterface {
	return bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SET, as)
}

// RFC 4271 §6.3: a path whose leftmost AS is not the peer's is not believed: it
// would name somebody else as the next AS.
func TestNeighborCannotNameAnotherNextAS(t *testing.T) {
	addr := loopback()
	l := listenRaw(t, addr(2))
	s := start(t, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}})
	n := acceptRaw(t, l, 65002, addr(2))
	n.announce("10.1.0.0/16", addr(2), sequence(65099, 65002))
	n.announce("10.2.0.0/16", addr(2), sequence(65001, 65002)) // our own AS in it: a loop (RFC 4271 §9.1.2)
	n.announce("10.3.0.0/16", addr(2), set(65099, 65002))
	n.announce("10.4.0.0/16", addr(2), sequence(65002, 65099), set(65100, 65101))
	// Updates are handled in order: with the last one there, the others have been.
	eventually(t, "the honest route", func() bool { _, ok := s.Lookup(netip.MustParseAddr("10.4.0.1")); return ok })
	if r, _ := s.Lookup(netip.MustParseAddr("10.4.0.1")); r.NextAS != 65002 || len(r.ASPath) != 4 {
		t.Errorf("honest route: %+v", r)
	}
	for _, a := range []string{"10.1.0.1", "10.2.0.1", "10.3.0.1"} {
		if r, ok := s.Lookup(netip.MustParseAddr(a)); ok {
			t.Errorf("believed: %+v", r)
		}
	}
}

// A next hop that changes is told, also where the AS path stays.
func TestNextHopChangeIsTold(t *testing.T) {
	addr := loopback()
	l := listenRaw(t, addr(2))
	s := start(t, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}})
	var seen changes
	s.OnChange(seen.add)
	n := acceptRaw(t, l, 65002, addr(2))
	p := netip.MustParsePrefix("10.1.0.0/16")
	n.announce("10.1.0.0/16", addr(2), sequence(65002))
	eventually(t, "it is told", func() bool { return seen.take(p) == 1 })
	n.announce("10.1.0.0/16", addr(3), sequence(65002))
	eventually(t, "the new next hop is told", func() bool { return seen.take(p) == 1 })
	if r, _ := s.Lookup(p.Addr()); r.NextHop != addr(3) {
		t.Errorf("next hop %s, want %s", r.NextHop, addr(3))
	}
}

// RFC 4271 §6.2: a neighbour whose OPEN names another AS than configured is refused.
func TestWrongASIsRefused(t *testing.T) {
	addr := loopback()
	l := listenRaw(t, addr(2))
	start(t, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := &rawNeighbor{t: t, conn: conn}
	n.read(bgp.BGP_MSG_OPEN)
	open, err := bgp.NewBGPOpenMessage(64999, 90, addr(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	n.send(open)
	n.read(bgp.BGP_MSG_NOTIFICATION)
}
