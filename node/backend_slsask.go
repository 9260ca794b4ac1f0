package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/sls"
)

// Questions about SLSs that change nothing.

const defaultRows = 1000

// MatchSLS says which SLS would serve a request.
func (n *Node) MatchSLS(_ context.Context, r *api.MatchRequest) (*api.MatchResponse, error) {
	q, err := question(r)
	if err != nil {
		return nil, err
	}
	var a sls.Answer
	n.ledger.with(func(l *sls.Ledger) { a, err = l.Explain(time.Now(), q) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	resp := &api.MatchResponse{More: uint64(a.More)}
	if best := a.Best(q.Rate); best >= 0 {
		resp.SlsId, resp.Rate = a.Covering[best].SLS, 8*a.Covering[best].Rate
	}
	for i := range a.Covering {
		resp.Covering = append(resp.Covering, apiFit(&a.Covering[i]))
	}
	for i := range a.Others {
		resp.Others = append(resp.Others, apiFit(&a.Others[i]))
	}
	return resp, nil
}

func question(r *api.MatchRequest) (q sls.Question, err error) {
	if q.Destination, err = adminEndpoint("destination", r.Destination); err != nil {
		return q, err
	}
	if r.Source != "" {
		if q.Source, err = adminEndpoint("source", r.Source); err != nil {
			return q, err
		}
	}
	for _, i := range []struct {
		what, text string
		to         *netip.Addr
	}{{"egress", r.Egress, &q.Egress}, {"ingress", r.Ingress, &q.Ingress}} {
		if i.text == "" {
			continue
		}
		if *i.to, err = netip.ParseAddr(i.text); err != nil {
			return q, fmt.Errorf("%w: %s %q, expected the address of a border interface", ErrInvalid, i.what, i.text)
		}
	}
	if q.Class, err = sls.ParseClass(r.Class); err != nil {
		return q, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if r.Priority > maxPriority || max(r.Rate, r.MinRate, r.Peak) > 8*sls.MaxRate {
		return q, fmt.Errorf("%w: priority %d, rate %d bit/s; expected at most %d and %d", ErrInvalid, r.Priority, max(r.Rate, r.MinRate, r.Peak), maxPriority, uint64(8*sls.MaxRate))
	}
	from, until, err := apiInterval(r.From, r.Until)
	if err != nil {
		return q, err
	}
	if !from.IsZero() || !until.IsZero() {
		q.Intervals = []sls.Interval{{From: from, Until: until}}
	}
	q.Customer, q.Provider, q.Relative, q.Priority = r.Customer, r.Provider, r.Relative, uint8(r.Priority)
	q.Rate, q.MinRate, q.Peak = sls.OctetsUp(r.Rate), sls.OctetsUp(r.MinRate), sls.OctetsUp(r.Peak)
	if q.Limit = int(r.Limit); q.Limit == 0 {
		q.Limit = defaultRows
	}
	return q, nil
}

// apiInterval reads both ends of an interval; one that is not there is zero.
func apiInterval(from, until *timestamppb.Timestamp) (a, b time.Time, err error) {
	for _, t := range []struct {
		what string
		from *timestamppb.Timestamp
		to   *time.Time
	}{{"from", from, &a}, {"until", until, &b}} {
		if t.from == nil {
			continue
		}
		if err := t.from.CheckValid(); err != nil {
			return a, b, fmt.Errorf("%w: %s: %w", ErrInvalid, t.what, err)
		}
		*t.to = t.from.AsTime()
	}
	return a, b, nil
}

func apiFit(f *sls.Fit) *api.SLSFit {
	return &api.SLSFit{SlsId: f.SLS, Fits: f.Fits, Rate: 8 * f.Rate, Why: f.Why, Largest: 8 * f.Largest, Earliest: apiTime(f.Earliest)}
}

// SLSCalendar says what of a class of an SLS is sold when.
func (n *Node) SLSCalendar(_ context.Context, r *api.CalendarRequest) (*api.CalendarResponse, error) {
	from, until, err := apiInterval(r.From, r.Until)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if from.IsZero() {
		from = now
	}
	if until.IsZero() {
		until = from.Add(24 * time.Hour)
	}
	steps := int(r.Limit)
	if steps == 0 {
		steps = defaultRows
	}
	resp := &api.CalendarResponse{SlsId: r.Id, From: timestamppb.New(from), Until: timestamppb.New(until)}
	n.ledger.with(func(l *sls.Ledger) { err = calendar(l, now, from, until, steps, r, resp) })
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalid):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
}

func calendar(l *sls.Ledger, now, from, until time.Time, steps int, r *api.CalendarRequest, resp *api.CalendarResponse) error {
	s, ok := l.Get(r.Id)
	if !ok {
		return noSuchSLS(r.Id)
	}
	class := s.Classes[0].Class
	switch {
	case r.Class != "":
		var err error
		if class, err = sls.ParseClass(r.Class); err != nil {
			return err
		}
	case len(s.Classes) > 1:
		return fmt.Errorf("%w: SLS %s sells several classes; expected one of them to be named", ErrInvalid, s.ID)
	}
	resp.Class = class.String()
	timeline, err := l.Timeline(now, s.ID, class, from, until, steps)
	if err != nil {
		return err
	}
	for _, x := range timeline {
		resp.Steps = append(resp.Steps, &api.CalendarStep{
			From: apiTime(x.From), Until: apiTime(x.Until), Committed: 8 * x.Committed, Held: 8 * x.Held, Capacity: 8 * x.Capacity,
		})
	}
	largest, err := l.LargestRate(now, s.ID, class, sls.Interval{From: from, Until: until})
	if err != nil {
		return err
	}
	resp.Largest = 8 * largest
	if r.Rate == 0 {
		return nil
	}
	at, ok, err := l.EarliestStart(now, s.ID, class, sls.OctetsUp(r.Rate), r.Length.AsDuration(), from)
	if ok {
		resp.Earliest = timestamppb.New(at)
	}
	return err
}

func noSuchSLS(id string) error {
	return fmt.Errorf("%w: no SLS %q; \"slsctl list\" shows what there is", ErrNotFound, id)
}
