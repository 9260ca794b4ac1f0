package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain/bgp"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/sls"
)

// Status shows the node itself.
func (n *Node) Status(ctx context.Context) (*api.NodeStatus, error) {
	st := &api.NodeStatus{
		As: n.cfg.AS, RouterId: n.cfg.RouterID.String(), Version: n.version,
		Uptime: durationpb.New(time.Since(n.started)), Insecure: n.cfg.Insecure, Shards: uint32(len(n.shards)),
	}
	for _, p := range n.bgp.Peers() {
		st.BgpPeers = append(st.BgpPeers, &api.BGPPeer{
			As: p.AS, Address: p.Address.String(), State: p.State, Uptime: durationpb.New(p.Uptime),
			Received: p.Received, Advertised: p.Advertised,
		})
	}
	n.reload.Lock()
	running := n.running
	n.reload.Unlock()
	for i, e := range n.edges {
		st.Edges = append(st.Edges, &api.Edge{
			NeighborQnes: addrTexts(running.Edges[i].Neighbor.QNEs),
			Name:         e.cfg.Name, Internal: e.cfg.Internal.String(), External: e.cfg.External.String(),
			NeighborAs: e.cfg.Neighbor.AS, NeighborAddress: e.cfg.Neighbor.Address.String(), Discovery: string(e.cfg.Discovery),
			RelayedOut: e.out.Load(), RelayedIn: e.in.Load(), Refused: e.refused.Load(),
		})
	}
	var err error
	if st.Gist, st.Nslp, err = n.softState(ctx); err != nil {
		return nil, err
	}
	st.Ledger = n.ledgerCounts()
	st.Drivers = []*api.Driver{n.driverStatus(ctx)}
	ss := n.store.Stats()
	st.Store = &api.Store{File: n.cfg.Store.Path, Records: uint64(ss.Records), Slss: uint64(ss.SLSs), Size: uint64(ss.FileSize)}
	if err := n.ready(); err != nil {
		st.NotReadyBecause = err.Error()
	} else {
		st.Ready = true
	}
	return st, nil
}

func addrTexts(as []netip.Addr) []string {
	var all []string
	for _, a := range as {
		all = append(all, a.String())
	}
	return all
}

// softState counts what GIST and QoS-NSLP have, over all shards.
func (n *Node) softState(ctx context.Context) (*api.GISTCounts, *api.NSLPCounts, error) {
	g, q := &api.GISTCounts{}, &api.NSLPCounts{}
	for _, s := range n.shards {
		if err := s.call(ctx, func() {
			gs := s.qne.gist.Stats()
			g.RoutingStates += uint64(gs.RoutingStates)
			g.Associations += uint64(gs.Associations)
			g.Pending += uint64(gs.Handshakes)
			qs := s.qne.nslp.Stats()
			q.Sessions += uint64(qs.Creating + qs.Installed + qs.Closing)
			q.Pending += uint64(qs.Creating + qs.Closing)
		}); err != nil {
			return nil, nil, err
		}
	}
	return g, q, nil
}

func (n *Node) ledgerCounts() *api.LedgerCounts {
	c := &api.LedgerCounts{}
	n.ledger.with(func(l *sls.Ledger) {
		st := l.Stats()
		c.Slss, c.Held, c.Committed = uint64(st.SLSs), uint64(st.Held), uint64(st.Committed)
		u := l.Total(time.Now())
		c.HeldRate, c.CommittedRate = 8*u.Held, 8*u.Committed
	})
	return c
}

func (n *Node) driverStatus(ctx context.Context) *api.Driver {
	d := &api.Driver{}
	for i, c := range n.cfg.Intradomain {
		if i > 0 {
			d.Name += "+"
		}
		d.Name += c.Name
	}
	held, err := listDriver(ctx, n.driver)
	if err != nil {
		d.Error = err.Error()
		return d
	}
	d.Connected = true
	for _, h := range held {
		if h.Committed {
			d.Committed++
		} else {
			d.Held++
		}
	}
	return d
}

// listDriver waits for a controller's list.
func listDriver(ctx context.Context, c intradomain.Controller) ([]intradomain.Held, error) {
	type answer struct {
		held []intradomain.Held
		err  error
	}
	ch := make(chan answer, 1)
	c.List(func(h []intradomain.Held, err error) { ch <- answer{h, err} })
	select {
	case a := <-ch:
		return a.held, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ready says why the node cannot reserve, nil if it can.
func (n *Node) ready() error {
	var errs []error
	for _, p := range n.bgp.Peers() {
		if !p.Established() {
			errs = append(errs, fmt.Errorf("no BGP session with AS%d at %s (%s)", p.AS, p.Address, p.State))
		}
	}
	if why := n.reconErr.Load(); why != nil {
		errs = append(errs, errors.New(*why))
	}
	return errors.Join(errs...)
}

// Routes answers where an address would go, or lists routes.
func (n *Node) Routes(_ context.Context, r *api.RoutesRequest) (*api.RoutesResponse, error) {
	resp := &api.RoutesResponse{}
	limit := int(r.Limit)
	if limit == 0 {
		limit = 1000
	}
	add := func(rt bgp.Route) {
		resp.Total++
		if len(resp.Routes) < limit {
			resp.Routes = append(resp.Routes, n.apiRoute(rt))
		}
	}
	if a, err := netip.ParseAddr(r.Lookup); err == nil {
		if rt, ok := n.bgp.Lookup(a); ok {
			add(rt)
		}
		return resp, nil
	}
	var in netip.Prefix
	if r.Lookup != "" {
		var err error
		if in, err = adminEndpoint("lookup", r.Lookup); err != nil {
			return nil, err
		}
	}
	n.bgp.Routes(func(rt bgp.Route) bool {
		if !in.IsValid() || within(in, rt.Prefix) {
			add(rt)
		}
		return true
	})
	return resp, nil
}

func (n *Node) apiRoute(rt bgp.Route) *api.Route {
	p := &api.Route{Prefix: rt.Prefix.String(), NextHop: addrText(rt.NextHop), AsPath: rt.ASPath, NextAs: rt.NextAS}
	for i := range n.cfg.Edges {
		if e := &n.cfg.Edges[i]; !rt.Local && e.Neighbor.Address == rt.NextHop {
			p.Edge, p.Egress, p.Ingress = e.Name, e.External.String(), rt.NextHop.String()
		}
	}
	return p
}

// Trace returns the messages of a session that this node sent, oldest first.
func (n *Node) Trace(_ context.Context, sid wire.SID) ([]*api.TraceEvent, error) {
	return n.trace.session(n.cfg.AS, sid), nil
}

// State dumps the soft state of GIST and QoS-NSLP.
func (n *Node) State(ctx context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	resp := &api.StateResponse{}
	var err error
	if resp.Gist, resp.Nslp, err = n.softState(ctx); err != nil {
		return nil, err
	}
	limit := int(r.Limit)
	if limit == 0 {
		limit = 100
	}
	var only *wire.SID
	if r.SessionId != "" {
		sid, err := ParseSessionID(r.SessionId)
		if err != nil {
			return nil, err
		}
		only = &sid
	}
	d := dump{resp: resp, limit: limit}
	for _, s := range n.shards {
		if err := d.shard(ctx, s, only); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// dump adds what shards have to a response, at most limit of each kind.
type dump struct {
	resp  *api.StateResponse
	limit int
}

func (d *dump) shard(ctx context.Context, s *shard, only *wire.SID) error {
	association := func(i gist.AssociationInfo) bool { return d.association(s, &i) }
	if only != nil {
		return s.call(ctx, func() {
			for _, i := range s.qne.gist.RoutingStatesOf(*only) {
				d.routingState(i)
			}
			if i, ok := s.qne.nslp.Session(*only); ok {
				d.session(i)
			}
			s.qne.gist.Associations(association)
		})
	}
	if err := walk(ctx, s, s.qne.gist.RoutingStates, d.routingState); err != nil {
		return err
	}
	if err := walk(ctx, s, s.qne.gist.Associations, association); err != nil {
		return err
	}
	return walk(ctx, s, s.qne.nslp.Sessions, d.session)
}

func (d *dump) routingState(i gist.RoutingStateInfo) bool {
	if len(d.resp.RoutingStates) < d.limit {
		d.resp.RoutingStates = append(d.resp.RoutingStates, apiRoutingState(&i))
	}
	return len(d.resp.RoutingStates) < d.limit
}

func (d *dump) association(s *shard, i *gist.AssociationInfo) bool {
	if len(d.resp.Associations) < d.limit {
		d.resp.Associations = append(d.resp.Associations, &api.Association{
			Local: addrText(s.node.cfg.GIST.like(i.Remote.Addr())), Remote: i.Remote.String(), PeerId: i.PeerID, State: i.State,
			RoutingStates: uint32(i.RoutingStates),
		})
	}
	return len(d.resp.Associations) < d.limit
}

func (d *dump) session(i qosnslp.SessionInfo) bool {
	if len(d.resp.Sessions) < d.limit {
		d.resp.Sessions = append(d.resp.Sessions, &api.Session{
			SessionId: i.SID.String(), Rsn: i.RSN, State: i.State,
			Upstream: uint32(i.Upstream), Downstream: uint32(i.Downstream),
			Expires: apiTime(i.Expires),
		})
	}
	return len(d.resp.Sessions) < d.limit
}

func apiRoutingState(i *gist.RoutingStateInfo) *api.RoutingState {
	p := &api.RoutingState{
		SessionId: i.SID.String(), NslpId: uint32(i.NSLPID), Flow: apiFlow(i.MRI.Flow),
		Method: i.MRI.Method.String(), Direction: "downstream", Peer: addrText(i.Peer), PeerId: i.PeerID,
		Status: i.State,
	}
	if i.MRI.Upstream {
		p.Direction = "upstream"
	}
	if !i.Expires.IsZero() {
		p.Expires = timestamppb.New(i.Expires)
	}
	return p
}

var _ Backend = (*Node)(nil)
