package node

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
)

// How Queries leave, and what changes that: GIST's local trigger (RFC 5971
// §7.1.2). Off-Path, the way out of the domain is BGP's best path; along the path
// it is the kernel's forwarding table.

// watchRoutes has the shards told of changes. A host that does not tell of its
// routes has no Path-Coupled signalling of its own.
func (n *Node) watchRoutes() {
	kernel, err := transport.WatchRoutes(transport.RoutesConfig{
		OnChange: n.routeChanged,
		OnError:  func(err error) { n.note("routes", "missed", wire.SID{}, netip.AddrPort{}, err.Error()) },
		Ingress:  n.cfg.GIST.IngressFilter != IngressOff,
	})
	if err != nil {
		n.log.Warn("the kernel's routes cannot be read: route changes are not seen, Queries along the path not sent, and those that come not filtered by interface", "err", err)
	} else {
		n.kernel = kernel
		n.defers(kernel.Close)
	}
	n.bgp.OnChange(func(changed []netip.Prefix) { n.routeChanged(gist.RouteChanged{Prefixes: changed}) })
}

// routeChanged tells every shard. It waits for one that is far behind: changes
// gather meanwhile.
func (n *Node) routeChanged(e gist.RouteChanged) {
	for _, s := range n.shards {
		if s.inbox.wait(e, 16*len(e.Prefixes)) {
			s.inbox.signal()
		}
	}
}

func (s *shard) route(mri wire.MRI) (gist.QueryRoute, error) {
	if mri.Method != wire.OffPath {
		return alongPath(s.node.kernel, mri)
	}
	return offPathRoute(s.edges, &s.node.cfg.GIST, routes{s.node.bgp}, mri)
}

func offPathRoute(edges []EdgeConfig, g *GISTConfig, bgp interdomain.Routes, mri wire.MRI) (gist.QueryRoute, error) {
	rt, err := queryRoute(edges, g, mri)
	rt.Path = egress(bgp, mri)
	return rt, err
}

// egress is where the best path leads now. The MRI says where it led when it was
// made, and goes on to say so: GIST verifies it when this is another one. No
// path at all, as while a neighbour restarts, says nothing of where it would go.
func egress(bgp interdomain.Routes, mri wire.MRI) gist.Path {
	if mri.Upstream {
		return gist.Path{}
	}
	rt, ok := bgp.Lookup(mri.Flow.Destination.Addr())
	if !ok {
		return gist.Path{}
	}
	return gist.Path{NextHop: rt.NextHop}
}

// forwarding is the kernel's forwarding table.
type forwarding interface {
	Lookup(netip.Addr) (transport.Route, error)
}

var errNoForwarding = errors.New("the kernel's routes cannot be read")

// alongPath says how a Query that follows its flow leaves. GIST knows the rest
// from the MRI (RFC 5971 §5.8.1).
func alongPath(kernel *transport.Routes, mri wire.MRI) (gist.QueryRoute, error) {
	if kernel == nil {
		return gist.QueryRoute{}, errNoForwarding
	}
	return pathRoute(kernel, mri)
}

func pathRoute(kernel forwarding, mri wire.MRI) (gist.QueryRoute, error) {
	end := mri.Flow.Destination.Addr()
	if mri.Upstream {
		end = mri.Flow.Source.Addr()
	}
	rt, err := kernel.Lookup(end)
	if err != nil {
		return gist.QueryRoute{}, fmt.Errorf("along the path: %w", err)
	}
	return gist.QueryRoute{TTL: 64, RouterAlert: true, Path: rt.Path}, nil
}
