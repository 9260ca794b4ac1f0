package node

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// requestQSPEC writes the Initiator QSPEC of a request. Rates of the API are bit/s,
// of the QSPEC octets/s, rounded up.
func requestQSPEC(r *api.ReserveRequest) (qspec.QSPEC, error) {
	var q qspec.QSPEC
	var err error
	if r.GetQspec() != "" {
		q, err = textQSPEC(r.GetQspec())
	} else {
		q, err = askedQSPEC(r)
	}
	if err != nil {
		return q, err
	}
	if err := setTimes(&q.Desired, r.GetTimes()); err != nil {
		return q, err
	}
	in := qspec.InReserve
	if r.GetReceiverInitiated() {
		if q.Sequence == qspec.SenderInitiated {
			q = byReceiver(q)
		}
		in = qspec.InQuery
	}
	if err := q.Check(in); err != nil {
		return q, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return q, nil
}

// textQSPEC reads a QSPEC that a person has written.
func textQSPEC(text string) (qspec.QSPEC, error) {
	q, err := qspec.ParseText(text)
	if err != nil {
		return q, fmt.Errorf("%w: qspec: %w", ErrInvalid, err)
	}
	if q.Local {
		return q, fmt.Errorf("%w: qspec: a Local QSPEC is the domains' own; expected what an initiator writes, such as tmod=20M/64k class=EF", ErrInvalid)
	}
	return q, nil
}

func askedQSPEC(r *api.ReserveRequest) (qspec.QSPEC, error) {
	class, err := sls.ParseClass(r.Class)
	if err != nil {
		return qspec.QSPEC{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case r.Rate > 8*sls.MaxRate || r.Peak > 8*sls.MaxRate:
		return qspec.QSPEC{}, fmt.Errorf("%w: rate %d bit/s, want at most %d", ErrInvalid, max(r.Rate, r.Peak), uint64(8*sls.MaxRate))
	case r.Priority > 7:
		return qspec.QSPEC{}, fmt.Errorf("%w: priority %d, want 0 to 7", ErrInvalid, r.Priority)
	}
	phb := qspec.PHB(uint8(class))
	ask := qspec.Ask{
		CIR: sls.OctetsUp(r.Rate), PIR: sls.OctetsUp(r.Peak), CBS: r.Burst, LeastCIR: sls.OctetsUp(r.MinRate), PHB: &phb,
	}
	if r.Rate != 0 {
		ask.Excess = &qspec.Excess{Treatment: qspec.ExcessDrop}
	}
	switch p := uint8(r.Priority); {
	case p == 0: // not said: normal, RFC 5975 §5.2.9
	case p <= qspec.AdmissionHigh:
		ask.Admission = &qspec.Admission{Y2171: p, Local: p}
	default:
		ask.Admission = &qspec.Admission{Y2171: qspec.AdmissionLocal, Local: p}
	}
	q, err := qspec.NewInitiator(ask)
	if err != nil {
		return q, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return q, nil
}

// setTimes puts the times of a request, as text, into what is asked for.
func setTimes(p *qspec.Params, text string) error {
	if text == "" {
		return nil
	}
	t, err := qspec.ParseParams(text)
	if err != nil {
		return fmt.Errorf("%w: times: %w", ErrInvalid, err)
	}
	switch {
	case t.Has&^timeIDs != 0 || len(t.Extra) != 0:
		return fmt.Errorf("%w: times: %q, expected time=A..B, when=in/10m/2h or both for a weekly window", ErrInvalid, text)
	case p.Has&timeIDs != 0:
		return fmt.Errorf("%w: the QSPEC has times of its own; give one of the two", ErrInvalid)
	}
	p.Has |= t.Has
	p.Must |= t.Has // a node that doesn't know them must not book for now
	p.Absolute, p.Relative = t.Absolute, t.Relative
	return nil
}

// byReceiver makes the QSPEC of the QUERY that invites a receiver out of that of a
// RESERVE: procedure 1/0, or 1/1 where less will do (RFC 5975 §4.3.2).
func byReceiver(q qspec.QSPEC) qspec.QSPEC {
	q.Sequence, q.Combination, q.Available = qspec.ReceiverInitiated, 0, qspec.Params{}
	if !q.Minimum.Empty() {
		q.Combination = 1
	}
	return q
}

// answerText is what the path has answered, without what is a domain's own.
func answerText(p *qspec.Params) string {
	out := *p
	out.Has &^= qspec.SetOf(qspec.EgressID, qspec.IngressID)
	return out.String()
}

// opposite is the session that another is bound to, of the opposite direction. "Both
// ends have to agree on which bidirectional reservation type they need to use": of two
// sender-initiated ones each end makes its own.
//
// RFC 5974 §4.4
func opposite(r *api.ReserveRequest, sid wire.SID) ([]nslpwire.BoundSession, error) {
	if r.GetOppositeSessionId() == "" {
		return nil, nil
	}
	other, err := ParseSessionID(r.GetOppositeSessionId())
	if err != nil {
		return nil, fmt.Errorf("opposite session: %w", err)
	}
	if other == sid {
		return nil, fmt.Errorf("%w: session %s is bound to itself; expected that of the opposite direction", ErrInvalid, sid)
	}
	return []nslpwire.BoundSession{{Code: nslpwire.BindBidirectional, SID: other}}, nil
}

// invite asks the flow's receiver for a reservation: the AS that the flow ends in is
// then its initiator.
func (n *Node) invite(ctx context.Context, start time.Time, ev qosnslp.Invite) (*api.Outcome, error) {
	sid := ev.SID
	res, why, err := n.transact(ctx, sid, ev)
	if err != nil {
		return nil, err
	}
	out := n.outcome(sid, res, false) // it has no records
	out.Scope, out.Proxy = apiScope(ev.Flags)
	if why != "" {
		out.Info.Text += ": " + why
	}
	if out.Accepted {
		s := n.shardOf(sid)
		if err := s.call(ctx, func() {
			if i, ok := s.qne.domain.Session(sid); ok {
				out.GrantedRate = 8 * i.Rate
			}
		}); err != nil {
			return nil, err
		}
	}
	out.ElapsedUs = uint64(time.Since(start).Microseconds())
	return out, nil
}

// Query asks what could be had.
func (n *Node) Query(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	start := time.Now()
	flow, err := RequestedFlow(r)
	if err != nil {
		return nil, err
	}
	q, bounds, err := querySPEC(r)
	if err != nil {
		return nil, err
	}
	flags, err := scopeFlags(r)
	if err != nil {
		return nil, err
	}
	sid := n.newSID()
	res, why, err := n.transact(ctx, sid, qosnslp.Query{SID: sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: flow}, QSPEC: q.Append(nil), Flags: flags})
	if err != nil {
		return nil, err
	}
	out := n.outcome(sid, res, r.CheckRecords)
	out.Scope, out.Proxy = apiScope(flags)
	if why != "" && res.Info.Class != nslpwire.ClassQoSModelError {
		out.Info.Text += ": " + why
	}
	if answer, err := qspec.Parse(res.QSPEC); err == nil && out.Accepted {
		out.Accepted = qspec.Exceeds(&bounds, &answer.Available) == 0
	}
	out.ElapsedUs = uint64(time.Since(start).Microseconds())
	return out, nil
}

// querySPEC writes the QSPEC of a QUERY, procedure 2/0, and what its answer has to
// keep for all of it to be had. Bounds on what accumulates are no part of the QUERY;
// all that accumulates is asked for.
func querySPEC(r *api.ReserveRequest) (q qspec.QSPEC, bounds qspec.Params, err error) {
	asked := proto.CloneOf(r)
	asked.MinRate, asked.ReceiverInitiated = 0, false
	open := r.GetQspec() == "" && r.GetRate() == 0
	if open { // how much is there?
		asked.Rate = 8 * sls.MaxRate
	}
	want, err := requestQSPEC(asked)
	if err != nil {
		return q, bounds, err
	}
	if want.Sequence == qspec.ResourceQuery {
		return want, want.Available, nil
	}
	bounds = want.Desired
	if open {
		bounds.Has &^= qspec.SetOf(qspec.TMOD1ID)
	}
	sums := qspec.SetOf(qspec.PathLatencyID, qspec.PathJitterID, qspec.PathPLRID, qspec.PathPERID)
	q = qspec.QSPEC{Sequence: qspec.ResourceQuery, Available: want.Desired}
	p := &q.Available
	p.Has |= sums
	p.Must &^= sums
	p.PathLatency, p.PathJitter, p.PathPLR, p.PathPER = 0, qspec.PathJitter{}, 0, 0
	return q, bounds, nil
}

// Modify changes a reservation of ours.
func (n *Node) Modify(ctx context.Context, r *api.ModifyRequest) (*api.Outcome, error) {
	start := time.Now()
	sid, err := ParseSessionID(r.GetSessionId())
	if err != nil {
		return nil, err
	}
	var ev qosnslp.Initiate
	known := false
	s := n.shardOf(sid)
	if err := s.call(ctx, func() {
		ev, known = s.qne.standing(sid)
	}); err != nil {
		return nil, err
	}
	if !known {
		return nil, fmt.Errorf("%w: no session %s that was initiated here; \"qnectl list\" shows what there is", ErrNotFound, sid)
	}
	q, err := modifiedQSPEC(ev.QSPEC, r)
	if err != nil {
		return nil, err
	}
	ev.QSPEC = q.Append(nil)
	return n.initiate(ctx, start, r.CheckRecords, ev)
}

// standing is a reservation of ours as the request that would make it again; its QSPEC
// is the one that went downstream. A RESERVE says all of it anew, also how far it goes
// and what it is bound to (RFC 5974 §5.4.1).
func (q *qne) standing(sid wire.SID) (qosnslp.Initiate, bool) {
	info, ok := q.nslp.Session(sid)
	if !ok || !info.Initiator {
		return qosnslp.Initiate{}, false
	}
	i, _ := q.domain.Session(sid)
	ev := qosnslp.Initiate{SID: sid, NSLPID: nslpID, MRI: info.MRI, QSPEC: q.nslp.QSPEC(sid), Flags: info.Flags & confining, Bound: q.nslp.Bound(sid)}
	ev.MRI.Method, ev.MRI.Flow = wire.OffPath, i.Flow
	return ev, true
}

// modifiedQSPEC is the Initiator QSPEC of a reservation that stands, with what a
// request changes of it. sent is the Local QSPEC that went downstream.
func modifiedQSPEC(sent []byte, r *api.ModifyRequest) (qspec.QSPEC, error) {
	local, err := qspec.Parse(sent)
	if err != nil {
		return local, fmt.Errorf("%w: the flow does not leave this AS; reserve it anew with its session id", ErrUnsupported)
	}
	q, err := local.Initiator()
	if err != nil {
		return q, fmt.Errorf("the QSPEC of the reservation: %w", err)
	}
	// Times from the request on have been settled by then.
	times := qspec.Params{Has: local.Desired.Has & timeIDs, Absolute: local.Desired.Absolute, Relative: local.Desired.Relative}
	if r.GetQspec() != "" {
		sequence := q.Sequence
		if q, err = textQSPEC(r.GetQspec()); err != nil {
			return q, err
		}
		if sequence == qspec.ReceiverInitiated && q.Sequence == qspec.SenderInitiated {
			q = byReceiver(q)
		}
	} else {
		change(&q, r)
	}
	if r.GetTimes() != "" {
		q.Desired.Has &^= timeIDs
		if err := setTimes(&q.Desired, r.GetTimes()); err != nil {
			return q, err
		}
	} else if q.Desired.Has&timeIDs == 0 || r.GetQspec() == "" {
		q.Desired.Has = q.Desired.Has&^timeIDs | times.Has
		q.Desired.Must |= times.Has
		q.Desired.Absolute, q.Desired.Relative = times.Absolute, times.Relative
	}
	if err := q.Check(qspec.InReserve); err != nil {
		return q, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return q, nil
}

var timeIDs = qspec.SetOf(qspec.AbsoluteTimeID, qspec.RelativeTimeID)

// change writes new rates into a QSPEC.
func change(q *qspec.QSPEC, r *api.ModifyRequest) {
	rate := sls.OctetsUp(r.GetRate())
	if r.GetRate() != 0 {
		if !q.Desired.Has.Has(qspec.TMOD1ID) { // it was relative
			q.Desired.Has |= qspec.SetOf(qspec.TMOD1ID)
			q.Desired.TMOD1 = qspec.TMOD{Peak: float32(math.Inf(1)), Bucket: qspec.RateUp(max(rate/10, 2*uint64(qspec.DefaultMPS))), Unit: qspec.DefaultUnit, MPS: qspec.DefaultMPS}
		}
		q.Desired.TMOD1.Rate = qspec.RateUp(rate)
	}
	if r.GetBurst() != 0 {
		q.Desired.TMOD1.Bucket = qspec.RateUp(r.GetBurst())
	}
	if r.GetPeak() != 0 {
		q.Desired.TMOD1.Peak = qspec.RateUp(sls.OctetsUp(r.GetPeak()))
	}
	t := &q.Desired.TMOD1
	t.Peak = max(t.Peak, t.Rate)
	if q.Available.Has.Has(qspec.TMOD1ID) {
		q.Available.TMOD1 = *t
	}
	switch {
	case r.GetMinRate() != 0:
		least := *t
		least.Rate = min(qspec.RateUp(sls.OctetsUp(r.GetMinRate())), t.Rate)
		for _, p := range []*qspec.Params{&q.Available, &q.Minimum} {
			p.Has |= qspec.SetOf(qspec.TMOD1ID)
			p.Must |= qspec.SetOf(qspec.TMOD1ID)
		}
		q.Available.TMOD1, q.Minimum.TMOD1 = *t, least
		if q.Combination = 2; q.Sequence == qspec.ReceiverInitiated {
			q.Combination = 1
		}
	case q.Minimum.Has.Has(qspec.TMOD1ID):
		q.Minimum.TMOD1.Rate = min(q.Minimum.TMOD1.Rate, t.Rate)
	}
}
