package node

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
)

// A changed best path has the sessions' Queries sent again at once (RFC 5971
// §7.1.2, local trigger), and no session is lost over it.
func TestSimBestPathChanges(t *testing.T) {
	w := newSimWorld(t, 11)
	s := w.session()
	w.mustReserve(s, mbit(20))
	a := w.as[0]
	queries := func() uint64 { return a.p.q.gist.Stats().QueriesOut }
	before := queries()
	elsewhere := gist.RouteChanged{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	a.bestPath = netip.MustParseAddr("127.9.9.9")
	a.p.handle(elsewhere)
	w.net.Run(time.Second)
	if queries() != before {
		w.fatalf("a change elsewhere made %d Queries", queries()-before)
	}
	a.bestPath = netip.Addr{}
	a.p.handle(gist.RouteChanged{})
	w.net.Run(time.Second)
	if queries() != before {
		w.fatalf("no change made %d Queries", queries()-before)
	}
	a.bestPath = netip.MustParseAddr("127.9.9.9")
	a.p.handle(gist.RouteChanged{Prefixes: []netip.Prefix{simFlow.Destination}})
	if queries() != before+1 {
		w.fatalf("the changed best path made %d Queries, want 1", queries()-before)
	}
	a.bestPath = netip.Addr{} // and back, before the Query is at its edge
	w.net.Run(10 * time.Second)
	w.mustAgree()
	for i := range a.p.q.gist.RoutingStatesOf(s.sid) {
		if st := a.p.q.gist.RoutingStatesOf(s.sid)[i]; st.Querying && st.Status != gist.Good {
			w.fatalf("afterwards: %+v", st)
		}
	}
}

// fakeForwarding is a forwarding table of one route.
type fakeForwarding map[netip.Addr]gist.Path

func (f fakeForwarding) Lookup(a netip.Addr) (transport.Route, error) {
	if p, ok := f[a]; ok {
		return transport.Route{Path: p}, nil
	}
	return transport.Route{}, errNoForwarding
}

// RFC 5971 §5.8.1: along the path a Query goes to the flow's far end in its
// direction, with a router alert.
func TestPathRoute(t *testing.T) {
	down := wire.MRI{Flow: wire.Flow{
		Source: netip.MustParsePrefix("198.51.100.7/32"), Destination: netip.MustParsePrefix("203.0.113.9/32"),
	}}
	path := gist.Path{Interface: 3, NextHop: netip.MustParseAddr("10.0.0.1")}
	kernel := fakeForwarding{netip.MustParseAddr("203.0.113.9"): path}
	rt, err := pathRoute(kernel, down)
	if err != nil || rt.Path != path || !rt.RouterAlert || rt.TTL == 0 || rt.To.IsValid() {
		t.Errorf("%+v, %v", rt, err)
	}
	if _, err := pathRoute(kernel, down.Reverse()); !errors.Is(err, errNoForwarding) {
		t.Errorf("upstream: %v", err)
	}
	if _, err := alongPath(nil, down); !errors.Is(err, errNoForwarding) {
		t.Errorf("without the kernel's routes: %v", err)
	}
}

// Every shard is told of a change.
func TestRouteChangesReachTheShards(t *testing.T) {
	n := &Node{shards: []*shard{newTestShard(t), newTestShard(t)}}
	n.routeChanged(gist.RouteChanged{Interface: 7})
	for i, s := range n.shards {
		if evs := s.inbox.take(nil); len(evs) != 1 || evs[0].(gist.RouteChanged).Interface != 7 {
			t.Errorf("shard %d: %v", i, evs)
		}
	}
}
