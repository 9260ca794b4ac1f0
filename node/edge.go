package node

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
)

// edge is the border edge role of this process: a stateless relay between its
// internal and its external interface (interdomain-qosm §3). It works in the
// goroutine that reads the socket.
type edge struct {
	cfg   EdgeConfig
	node  *Node
	udp   *transport.UDP
	mu    sync.Mutex // of relay: two sockets, two readers
	relay *gist.Edge

	out, in, refused atomic.Uint64
}

func (n *Node) newEdge(cfg EdgeConfig) (*edge, error) {
	e := &edge{cfg: cfg, node: n}
	var err error
	e.relay, err = newRelay(n.cfg, &e.cfg, routes{n.bgp}, n.border(&e.cfg))
	if err != nil {
		return nil, err
	}
	e.udp, err = transport.ListenUDP(transport.UDPConfig{
		Addrs: []netip.AddrPort{
			netip.AddrPortFrom(cfg.Internal, n.cfg.GIST.Port),
			netip.AddrPortFrom(cfg.External, n.cfg.GIST.Port),
		},
		Handler: n.whenOpen(e.handle),
		OnError: n.socketError,
	})
	if err != nil {
		return nil, err
	}
	n.peerSockets(e.udp.SetPeers([]netip.AddrPort{
		netip.AddrPortFrom(n.cfg.GIST.like(cfg.Internal), n.cfg.GIST.Port), netip.AddrPortFrom(cfg.Neighbor.Address, n.cfg.GIST.Port),
	}))
	return e, nil
}

// newRelay makes the relay of one edge.
func newRelay(c *Config, e *EdgeConfig, r interdomain.Routes, ingress func(netip.Prefix, gist.Ingress) bool) (*gist.Edge, error) {
	return gist.NewEdge(gist.EdgeConfig{
		Identity: fmt.Appendf(nil, "AS%d edge %s", c.AS, e.Name),
		Internal: e.Internal, External: e.External, Port: c.GIST.Port,
		Neighbor: e.Neighbor.Address, NeighborAS: e.Neighbor.AS,
		QNEs:            []netip.Addr{c.GIST.like(e.Internal)},
		ForwardingCheck: func(mri gistwire.MRI) bool { return e.forwards(r, mri) },
		IngressFilter:   ingress,
		Rate:            int(math.Ceil(c.GIST.Limits.QueriesPerSecond)),
	})
}

// forwards says whether the forwarding table sends this flow out by this edge
// to the neighbour that the MRI names.
func (e *EdgeConfig) forwards(t interdomain.Routes, mri gistwire.MRI) bool {
	r, ok := t.Lookup(mri.Flow.Destination.Addr())
	return ok && !r.Local && r.NextHop == e.Neighbor.Address &&
		(!mri.Egress.IsValid() || mri.Egress == e.External) &&
		(!mri.Ingress.IsValid() || mri.Ingress == e.Neighbor.Address)
}

func (e *edge) handle(events []gist.Event) {
	now := time.Now()
	out := make([]transport.Outgoing, 0, len(events))
	e.mu.Lock()
	for _, ev := range events {
		d, ok := ev.(gist.Datagram)
		if !ok {
			continue
		}
		internal := d.Local.Addr() == e.cfg.Internal
		for _, a := range e.relay.Handle(now, d, internal) {
			switch a := a.(type) {
			case gist.SendDatagram:
				out = append(out, transport.Outgoing{SendDatagram: a})
				e.count(a.Local)
			case gist.Note:
				e.refused.Add(1)
				e.node.note("edge "+e.cfg.Name, a.Kind, gistwire.SID{}, a.Remote, a.Detail)
			}
		}
	}
	e.mu.Unlock()
	for i := range out {
		e.node.record(traceEntry{
			at: now, from: netip.AddrPortFrom(out[i].Local, e.node.cfg.GIST.Port), to: out[i].To,
			edge: e.cfg.Name, payload: out[i].Payload,
		})
	}
	e.node.sent(e.udp.Send(out))
}

func (e *edge) count(from netip.Addr) {
	if from == e.cfg.External {
		e.out.Add(1)
	} else {
		e.in.Add(1)
	}
}
