package node

import (
	"net/netip"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain/bgp"
)

// Ingress filters: a Query for a flow that could not come in where the Query did
// is refused (RFC 5971 §5.8.1.2). Along the path the kernel's routes say where it
// could; at a border, BGP's best paths, and the kernel where the neighbour is.

// IngressFilter says how exact an ingress filter is.
type IngressFilter string

// Ingress filters.
const (
	IngressStrict IngressFilter = "strict" // packets to the source would leave there
	IngressLoose  IngressFilter = "loose"  // for routes that are not symmetric
	IngressOff    IngressFilter = "off"
)

// reverseRoutes are the kernel's routes, asked about sources.
type reverseRoutes interface {
	Arrives(source netip.Prefix, iface uint32, how transport.ReversePath) (bool, error)
}

// bestPaths are BGP's, asked about ranges.
type bestPaths interface {
	Every(p netip.Prefix, ok func(*bgp.Route) bool) (bool, error)
}

// layerIngress is the layer of its notes.
const layerIngress = "ingress"

// ingress is the filter of Queries that follow a flow.
func (n *Node) ingress(source netip.Prefix, at gist.Ingress) bool {
	if n.kernel == nil { // watchRoutes has warned
		return true
	}
	return n.told(at, func() (bool, error) {
		return pathIngress(n.cfg.GIST.IngressFilter, n.kernel, source, at)
	})
}

func pathIngress(how IngressFilter, kernel reverseRoutes, source netip.Prefix, at gist.Ingress) (bool, error) {
	switch how {
	case IngressOff:
		return true, nil
	case IngressLoose:
		return kernel.Arrives(source, at.Interface, transport.ReverseLoose)
	}
	return kernel.Arrives(source, at.Interface, transport.ReverseStrict)
}

// borderIngress is the filter of an edge. The neighbour is on the link, as the IP
// TTL says: whatever asymmetry there is behind it, the way back to it leads there.
// kernel is nil where its routes cannot be read.
func borderIngress(e *EdgeConfig, paths bestPaths, kernel reverseRoutes, source netip.Prefix, at gist.Ingress) (bool, error) {
	if e.IngressFilter == IngressOff {
		return true, nil
	}
	if kernel != nil {
		neighbor := netip.PrefixFrom(e.Neighbor.Address, e.Neighbor.Address.BitLen())
		if ok, err := kernel.Arrives(neighbor, at.Interface, transport.ReverseStrict); !ok || err != nil {
			return false, err
		}
	}
	return paths.Every(source, func(r *bgp.Route) bool {
		switch {
		case r == nil: // which says little while BGP has not converged
			return e.IngressFilter == IngressLoose
		case r.Local: // nobody else has our own addresses
			return false
		}
		return e.IngressFilter == IngressLoose || r.NextHop == e.Neighbor.Address
	})
}

// border is the filter of an edge of this node.
func (n *Node) border(e *EdgeConfig) func(netip.Prefix, gist.Ingress) bool {
	return func(source netip.Prefix, at gist.Ingress) bool {
		return n.told(at, func() (bool, error) {
			if n.kernel == nil {
				return borderIngress(e, n.bgp, nil, source, at)
			}
			return borderIngress(e, n.bgp, n.kernel, source, at)
		})
	}
}

// told is the answer; what cannot be told is refused, and noted.
func (n *Node) told(at gist.Ingress, ask func() (bool, error)) bool {
	ok, err := ask()
	if err != nil {
		n.note(layerIngress, "not-told", wire.SID{}, at.From, err.Error())
		return false
	}
	return ok
}
