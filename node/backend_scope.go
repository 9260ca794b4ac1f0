package node

import (
	"context"
	"fmt"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// confining are the generic flags that "limit the part of the path on which state is
// installed" (RFC 5974 §3.2.7).
const confining = nslpwire.Scoping | nslpwire.Proxy

// scopeFlags are the generic flags of a request. A scope and a proxy are two ends for
// one path, and half of a bidirectional reservation that does not get as far as the
// other half's initiator could not end with it (RFC 5974 §4.4).
func scopeFlags(r *api.ReserveRequest) (flags uint16, err error) {
	switch r.GetScope() {
	case api.Scope_SCOPE_UNSPECIFIED, api.Scope_SCOPE_WHOLE_PATH:
	case api.Scope_SCOPE_NEXT_HOP:
		flags |= nslpwire.Scoping
	default:
		return 0, fmt.Errorf("%w: scope %d, expected whole path (1) or next hop (2)", ErrInvalid, r.GetScope())
	}
	if r.GetProxy() {
		flags |= nslpwire.Proxy
	}
	switch {
	case flags == confining:
		return 0, fmt.Errorf("%w: scope next hop and proxy: the path ends at the one or the other; give one of the two", ErrInvalid)
	case flags&nslpwire.Scoping != 0 && r.GetReceiverInitiated():
		return 0, fmt.Errorf("%w: scope next hop and receiver-initiated: the receiver is where the whole path ends; to invite a P-QNE ask for proxy", ErrInvalid)
	case flags != 0 && r.GetOppositeSessionId() != "":
		return 0, fmt.Errorf("%w: a bidirectional reservation is of the whole path; leave scope and proxy out", ErrInvalid)
	}
	return flags, nil
}

// apiScope is what flags say, in the API's words.
func apiScope(flags uint16) (s api.Scope, proxy bool) {
	s = api.Scope_SCOPE_WHOLE_PATH
	if flags&nslpwire.Scoping != 0 {
		s = api.Scope_SCOPE_NEXT_HOP
	}
	return s, flags&nslpwire.Proxy != 0
}

// keepsScope refuses to change how far a reservation of ours goes: what stands beyond
// the new end, or up to it, is another reservation.
func (n *Node) keepsScope(ctx context.Context, sid wire.SID, flags uint16) error {
	s := n.shardOf(sid)
	stands, has := false, uint16(0)
	if err := s.call(ctx, func() {
		i, ok := s.qne.nslp.Session(sid)
		stands, has = ok && i.Initiator, i.Flags&confining
	}); err != nil {
		return err
	}
	if !stands || has == flags {
		return nil
	}
	what := "for the whole path"
	switch has {
	case nslpwire.Scoping:
		what = "with scope next hop"
	case nslpwire.Proxy:
		what = "with proxy"
	}
	return fmt.Errorf("%w: session %s was made %s, and that stays; release it and reserve anew, or use \"qnectl modify\"", ErrConflict, sid, what)
}
