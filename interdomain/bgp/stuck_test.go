package bgp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// A session that does not get past OpenConfirm, as after a collision that is not
// resolved (RFC 4271 §6.8), is begun anew long before the hold timer ends.
func TestStuckSessionIsBegunAnew(t *testing.T) {
	addr := loopback()
	l := listenRaw(t, addr(2))
	s := start(t, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stuck := &rawNeighbor{t: t, conn: conn}
	stuck.read(bgp.BGP_MSG_OPEN)
	open, err := bgp.NewBGPOpenMessage(uint16(65002), 90, addr(2), []bgp.OptionParameterInterface{
		bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
			bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapFourOctetASNumber(65002),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	stuck.send(open) // and never a KEEPALIVE
	eventually(t, "OpenConfirm", func() bool { p := s.Peers(); return len(p) == 1 && p[0].State == "openconfirm" })
	if err := l.SetDeadline(time.Now().Add(80 * time.Second)); err != nil { // the hold timer ends after 90 s
		t.Fatal(err)
	}
	n := acceptRaw(t, l, 65002, addr(2))
	eventually(t, "the session is up", func() bool { return established(s) })
	n.announce("10.4.0.0/16", addr(2), sequence(65002))
	eventually(t, "its route", func() bool { _, ok := s.Lookup(netip.MustParseAddr("10.4.0.1")); return ok })
}
