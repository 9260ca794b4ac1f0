package bgp

import (
	"context"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// stuckAfter is how long a session may wait for the KEEPALIVE that confirms it:
// that takes a round trip.
const stuckAfter = 5 * time.Second

// unstick begins sessions anew that do not get past OpenConfirm. Two GoBGPs that
// connect to each other at the same moment can each wait for a KEEPALIVE on the
// connection that the other one does not use, until the hold timer ends, for the
// collision is not resolved in that state (RFC 4271 §6.8 wants it to be).
func (s *Speaker) unstick(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	since := make(map[string]time.Time)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.lookForStuck(ctx, now, since)
		}
	}
}

// lookForStuck is one look at all sessions. since has those in OpenConfirm.
func (s *Speaker) lookForStuck(ctx context.Context, now time.Time, since map[string]time.Time) {
	var off, stuck []string
	err := s.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		addr := p.GetState().GetNeighborAddress()
		if p.GetState().GetAdminState() == api.PeerState_ADMIN_STATE_DOWN { // our doing, below
			off = append(off, addr)
		}
		if p.GetState().GetSessionState() != api.PeerState_SESSION_STATE_OPENCONFIRM {
			delete(since, addr)
			return
		}
		limit := stuckAfter
		if p.GetTransport().GetLocalAddress() > addr {
			limit *= 2 // that one end comes first
		}
		if first, ok := since[addr]; !ok {
			since[addr] = now
		} else if now.Sub(first) > limit {
			delete(since, addr)
			stuck = append(stuck, addr)
		}
	})
	for _, addr := range stuck {
		s.log.Warn("BGP session does not get past OpenConfirm, begun anew", "neighbor", addr)
		if err == nil {
			err = s.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: addr})
		}
	}
	for _, addr := range append(off, stuck...) {
		if err == nil {
			err = s.server.EnablePeer(ctx, &api.EnablePeerRequest{Address: addr})
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Error("BGP sessions that may be stuck", "err", err)
	}
}
