package node

import (
	"net/netip"
	"slices"
	"testing"

	gistwire "github.com/interqos/interqos/gist/wire"
)

// One node has an IPv4 neighbour and an IPv6 neighbour, each with its own IP
// version alone: a reservation passes through both, with the NLI and SOURCE_ADDR
// that each knows. RFC 5971 §5.2.2, §7.4
func TestSimNeighborsOfEitherVersion(t *testing.T) {
	four, six := netip.MustParseAddr("127.2.0.1"), netip.MustParseAddr("fd00:2::1")
	w := newSimWorld(t, 64, func(c *Config) {
		switch c.AS {
		case 65002:
			c.GIST.Addresses = []netip.Addr{six}
			c.Edges[1].Neighbor.QNEs = []netip.Addr{netip.MustParseAddr("fd00:3::1")}
		case 65003:
			c.GIST.Address = netip.MustParseAddr("fd00:3::1")
			c.Edges[0].Internal = netip.MustParseAddr("fd00:3::2")
			c.Edges[0].Neighbor.QNEs = []netip.Addr{six}
		}
	})
	sessions := []*simSession{w.session(), w.session(), w.session()}
	for _, s := range sessions {
		w.mustReserve(s, mbit(5))
	}
	w.mustAgree()
	for i, want := range map[int][]netip.Addr{0: {four}, 1: {netip.MustParseAddr("127.1.0.1"), netip.MustParseAddr("fd00:3::1")}, 2: {six}} {
		var peers []netip.Addr
		for _, s := range sessions {
			for _, st := range w.as[i].p.q.gist.RoutingStatesOf(s.sid) {
				if !slices.Contains(peers, st.Peer) {
					peers = append(peers, st.Peer)
				}
			}
		}
		slices.SortFunc(peers, netip.Addr.Compare)
		if !slices.Equal(peers, want) {
			t.Errorf("peers of AS%d: %v, want %v", w.as[i].cfg.AS, peers, want)
		}
	}
}

// Of several edges to one AS, the one that a message goes through says which of
// our addresses the AS knows there.
func TestSources(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	ext4, ext6, other := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("192.0.2.77")
	s := sourcesOf(&Config{GIST: GISTConfig{Address: four, Addresses: []netip.Addr{six}}, Edges: []EdgeConfig{
		{External: ext4, Neighbor: NeighborConfig{AS: 2, QNEs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}},
		{External: ext6, Neighbor: NeighborConfig{AS: 2, QNEs: []netip.Addr{netip.MustParseAddr("2001:db8:2::1")}}},
		{External: other, Neighbor: NeighborConfig{AS: 3, QNEs: []netip.Addr{netip.MustParseAddr("2001:db8:3::1")}}},
	}})
	for _, c := range []struct {
		as              uint32
		egress, ingress netip.Addr
		want            netip.Addr
	}{
		{2, ext4, netip.Addr{}, four},
		{2, ext6, netip.Addr{}, six},
		{2, netip.Addr{}, ext6, six}, // upstream: where it came in
		{2, netip.Addr{}, netip.Addr{}, four},
		{3, netip.Addr{}, netip.Addr{}, six},
		{4, netip.Addr{}, netip.Addr{}, four},
	} {
		if got := s.towards(c.as, &gistwire.MRI{Egress: c.egress, Ingress: c.ingress}); got != c.want {
			t.Errorf("AS%d by %v, %v: %v, want %v", c.as, c.egress, c.ingress, got, c.want)
		}
	}
}

// All sockets are at all addresses, each shard with a port of its own.
func TestListensOnAllAddresses(t *testing.T) {
	ports := func(as []netip.AddrPort) (text []string) {
		for _, a := range as {
			text = append(text, a.String())
		}
		return text
	}
	n := &Node{cfg: &Config{GIST: GISTConfig{
		Address: netip.MustParseAddr("127.1.0.1"), Addresses: []netip.Addr{netip.MustParseAddr("::1")}, TCPPort: 500, PlainPort: 600, TLS: &TLSConfig{},
	}}}
	plain, secure := n.listenOn(&shard{index: 1})
	if got := ports(plain); !slices.Equal(got, []string{"127.1.0.1:601", "[::1]:601"}) {
		t.Errorf("plain: %v", got)
	}
	if got := ports(secure); !slices.Equal(got, []string{"127.1.0.1:501", "[::1]:501"}) {
		t.Errorf("TLS: %v", got)
	}
	mri := gistwire.MRI{Method: gistwire.OffPath, Egress: netip.MustParseAddr("192.0.2.9"), Ingress: netip.MustParseAddr("192.0.2.8")}
	rt, err := queryRoute([]EdgeConfig{{
		Internal: netip.MustParseAddr("127.1.0.2"), External: mri.Egress,
		Neighbor: NeighborConfig{Address: mri.Ingress, QNEs: []netip.Addr{netip.MustParseAddr("fd00::2")}},
	}}, &n.cfg.GIST, mri)
	if err != nil || rt.Local != netip.MustParseAddr("::1") || rt.To.Addr() != netip.MustParseAddr("127.1.0.2") {
		t.Errorf("%+v, %v", rt, err)
	}
}
