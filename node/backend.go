package node

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// Reserve makes this node the QNI of a session, or changes one that it is the
// QNI of; or it invites the receiver to be that.
func (n *Node) Reserve(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	start := time.Now()
	if why := n.reconErr.Load(); why != nil {
		return nil, fmt.Errorf("%w: %s", ErrBusy, *why)
	}
	flow, err := RequestedFlow(r)
	if err != nil {
		return nil, err
	}
	q, err := requestQSPEC(r)
	if err != nil {
		return nil, err
	}
	sid := n.newSID()
	if r.SessionId != "" {
		if sid, err = ParseSessionID(r.SessionId); err != nil {
			return nil, err
		}
	}
	bound, err := opposite(r, sid)
	if err != nil {
		return nil, err
	}
	flags, err := scopeFlags(r)
	if err != nil {
		return nil, err
	}
	if r.SessionId != "" {
		if err := n.keepsScope(ctx, sid, flags); err != nil {
			return nil, err
		}
	}
	mri := wire.MRI{Method: wire.OffPath, Flow: flow}
	if r.ReceiverInitiated {
		return n.invite(ctx, start, qosnslp.Invite{SID: sid, NSLPID: nslpID, MRI: mri, QSPEC: q.Append(nil), Bound: bound, Flags: flags})
	}
	return n.initiate(ctx, start, r.CheckRecords, qosnslp.Initiate{SID: sid, NSLPID: nslpID, MRI: mri, QSPEC: q.Append(nil), Bound: bound, Flags: flags})
}

// initiate has a session's shard initiate or change it, and returns the outcome.
func (n *Node) initiate(ctx context.Context, start time.Time, check bool, ev qosnslp.Initiate) (*api.Outcome, error) {
	res, why, err := n.transact(ctx, ev.SID, ev)
	if err != nil {
		return nil, err
	}
	out := n.outcome(ev.SID, res, check)
	out.Scope, out.Proxy = apiScope(ev.Flags)
	if why != "" && res.Info.Class != nslpwire.ClassQoSModelError { // whose codes say enough
		out.Info.Text += ": " + why
	}
	out.ElapsedUs = uint64(time.Since(start).Microseconds())
	return out, nil
}

// Release ends a session that this node initiated.
func (n *Node) Release(ctx context.Context, sid wire.SID) (*api.Outcome, error) {
	start := time.Now()
	var known bool
	s := n.shardOf(sid)
	if err := s.call(ctx, func() {
		info, ok := s.qne.nslp.Session(sid)
		known = ok && info.Initiator
	}); err != nil {
		return nil, err
	}
	if !known {
		return nil, fmt.Errorf("%w: no session %s that was initiated here; \"qnectl list\" shows what there is", ErrNotFound, sid)
	}
	res, _, err := n.transact(ctx, sid, qosnslp.Terminate{SID: sid})
	if err != nil {
		return nil, err
	}
	out := n.outcome(sid, res, true)
	out.ElapsedUs = uint64(time.Since(start).Microseconds())
	return out, nil
}

// transact hands an event to a session's shard and waits for its result, and for
// the reason if this domain refuses. One transaction of a session is under way at
// a time.
func (n *Node) transact(ctx context.Context, sid wire.SID, ev qosnslp.Event) (r qosnslp.Result, why string, err error) {
	s := n.shardOf(sid)
	w := &waiter{answer: make(chan qosnslp.Result, 1)}
	if !s.expect(sid, w) {
		return r, "", fmt.Errorf("%w: a request for session %s is under way", ErrConflict, sid)
	}
	s.inbox.put(ev)
	select {
	case r = <-w.answer:
		return r, w.why, nil
	case <-ctx.Done():
		s.unexpect(sid)
		return r, "", fmt.Errorf("session %s: no outcome yet, the request goes on without you: %w", sid, ctx.Err())
	case <-s.stopped:
		return r, "", errStopped
	}
}

// outcome puts a result into the API's words; check: with what is proved of it.
func (n *Node) outcome(sid wire.SID, r qosnslp.Result, check bool) *api.Outcome {
	o := &api.Outcome{
		SessionId: sid.String(), Rsn: r.RSN,
		Accepted: r.Kind == qosnslp.Reserved || r.Kind == qosnslp.Released || r.Kind == qosnslp.Answered,
		Info:     apiInfo(r.Info),
	}
	if r.Kind == qosnslp.TimedOut {
		o.Info.Text = "no answer"
	}
	if r.QSPEC != nil {
		if q, err := qspec.Parse(r.QSPEC); err == nil {
			p := &q.Available
			switch r.Kind {
			case qosnslp.Reserved:
				o.GrantedRate, p = 8*q.Rate(), &q.Reserved
			case qosnslp.Answered:
				o.GrantedRate = 8 * q.Rate()
			default:
				o.LargestRate = 8 * q.Largest()
			}
			o.Qspec = answerText(p)
		}
	}
	var err error
	if o.Domains, err = n.records.Load().domains(time.Now(), sid, &r, check); err != nil {
		n.log.Warn("DOMAIN-RECORDS of an answer cannot be read", "session", sid.String(), "err", err)
	}
	return o
}

func apiInfo(i nslpwire.InfoSpec) *api.Info {
	return &api.Info{Class: uint32(i.Class), Code: uint32(i.Code), Text: infoText(i), Source: i.Source.String()}
}

func infoText(i nslpwire.InfoSpec) string {
	if i.Class == nslpwire.ClassQoSModelError {
		if t, ok := interdomain.CodeText(i.Code); ok {
			return t
		}
	}
	return nslpwire.CodeText(i.Class, i.Code)
}

func apiDomain(r *nslpwire.DomainRecord) *api.Domain {
	d := &api.Domain{
		As: r.AS, Verdict: api.Verdict(r.Verdict), SlsId: r.SLSID, ElapsedUs: uint64(r.Micros),
		LargestRate: 8 * uint64(r.Largest),
	}
	if r.Class != 0 {
		i := nslpwire.InfoSpec{Class: r.Class, Code: r.Code}
		d.Info = &api.Info{Class: uint32(i.Class), Code: uint32(i.Code), Text: infoText(i)}
	}
	if r.Earliest != 0 {
		d.Earliest = timestamppb.New(time.Unix(r.Earliest, 0))
	}
	return d
}

// GetReservation returns one reservation.
func (n *Node) GetReservation(ctx context.Context, sid wire.SID) (*api.Reservation, error) {
	s := n.shardOf(sid)
	var r *api.Reservation
	if err := s.call(ctx, func() {
		if i, ok := s.qne.domain.Session(sid); ok {
			r = apiReservation(&i)
		}
	}); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fmt.Errorf("%w: no reservation %s in this AS", ErrNotFound, sid)
	}
	return r, nil
}

func apiReservation(i *interdomain.Info) *api.Reservation {
	r := &api.Reservation{
		SessionId: i.SID.String(), Rsn: i.Version, State: apiState(i.State),
		Role: apiRole(i.Upstream, i.Downstream),
		Flow: apiFlow(i.Flow), Class: i.Class.String(),
		Relative: i.Relative, Rate: 8 * i.Rate, Peak: 8 * i.Peak, Burst: i.Burst, Priority: uint32(i.Priority),
		UpstreamAs: i.Upstream, DownstreamAs: i.Downstream,
		Egress: addrText(i.Egress), NextIngress: addrText(i.NextIngress),
		Ingress: addrText(i.Ingress), PreviousEgress: addrText(i.PreviousEgress),
		SlsIn: i.SLSIn, SlsOut: i.SLSOut,
	}
	for _, x := range i.Times {
		r.Times = append(r.Times, &api.TimeInterval{Start: timestamppb.New(time.Unix(x.Start, 0)), End: timestamppb.New(time.Unix(x.End, 0))})
	}
	if !i.Since.IsZero() {
		r.Since = timestamppb.New(i.Since)
	}
	return r
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func apiState(s interdomain.State) api.ReservationState {
	switch s {
	case interdomain.Authorizing, interdomain.Authorized:
		return api.ReservationState_RESERVATION_STATE_AUTHORIZED
	case interdomain.Reserved:
		return api.ReservationState_RESERVATION_STATE_RESERVED
	case interdomain.Committed:
		return api.ReservationState_RESERVATION_STATE_COMMITTED
	case interdomain.Releasing:
		return api.ReservationState_RESERVATION_STATE_RELEASING
	}
	return api.ReservationState_RESERVATION_STATE_UNSPECIFIED
}

func apiRole(up, down uint32) api.Role {
	switch {
	case up == 0 && down == 0:
		return api.Role_ROLE_ONLY
	case up == 0:
		return api.Role_ROLE_FIRST
	case down == 0:
		return api.Role_ROLE_LAST
	}
	return api.Role_ROLE_TRANSIT
}

func apiFlow(f wire.Flow) *api.Flow {
	return &api.Flow{
		Source: prefixText(f.Source), Destination: prefixText(f.Destination),
		Protocol: uint32(f.Protocol), SourcePort: uint32(f.SrcPort), DestinationPort: uint32(f.DstPort),
	}
}

func prefixText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

// ListReservations returns what has a part in this AS, by session id.
func (n *Node) ListReservations(ctx context.Context, req *api.ListReservationsRequest) (*api.ListReservationsResponse, error) {
	fits, err := reservationFilter(req)
	if err != nil {
		return nil, err
	}
	limit := int(req.Limit)
	if limit == 0 {
		limit = 1000
	}
	var found []interdomain.Info
	total := uint64(0)
	for _, s := range n.shards {
		if err := walk(ctx, s, s.qne.domain.Sessions, func(i interdomain.Info) bool {
			if fits(i) {
				total++
				if len(found) < limit {
					found = append(found, i)
				}
			}
			return true
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b interdomain.Info) int { return bytes.Compare(a.SID[:], b.SID[:]) })
	met := len(found)
	found = slices.CompactFunc(found, func(a, b interdomain.Info) bool { return a.SID == b.SID })
	resp := &api.ListReservationsResponse{Total: total - uint64(met-len(found))}
	for i := range found {
		resp.Reservations = append(resp.Reservations, apiReservation(&found[i]))
	}
	return resp, nil
}

func reservationFilter(r *api.ListReservationsRequest) (func(interdomain.Info) bool, error) {
	var src, dst netip.Prefix
	var err error
	if r.Source != "" {
		if src, err = adminEndpoint("source", r.Source); err != nil {
			return nil, err
		}
	}
	if r.Destination != "" {
		if dst, err = adminEndpoint("destination", r.Destination); err != nil {
			return nil, err
		}
	}
	return func(i interdomain.Info) bool {
		return (r.State == 0 || apiState(i.State) == r.State) &&
			(r.Role == 0 || apiRole(i.Upstream, i.Downstream) == r.Role) &&
			(r.NeighborAs == 0 || i.Upstream == r.NeighborAs || i.Downstream == r.NeighborAs) &&
			(r.SlsId == "" || i.SLSIn == r.SlsId || i.SLSOut == r.SlsId) &&
			(!src.IsValid() || within(src, i.Flow.Source)) && (!dst.IsValid() || within(dst, i.Flow.Destination))
	}, nil
}

func within(outer, inner netip.Prefix) bool {
	return inner.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
