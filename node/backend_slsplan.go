package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// Changes of SLSs that are in use: what they would break, whom they end, and what
// they were before.

// parseSLSs reads SLSs that this AS can have.
func (n *Node) parseSLSs(r *api.ApplyRequest) ([]sls.SLS, error) {
	docs, err := sls.Parse(r.Name, r.Yaml)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for i := range docs {
		if docs[i].Customer != n.cfg.AS && docs[i].Provider != n.cfg.AS {
			return nil, fmt.Errorf("%w: SLS %s is between AS%d and AS%d, this is AS%d", ErrInvalid, docs[i].ID, docs[i].Customer, docs[i].Provider, n.cfg.AS)
		}
		docs[i].ChangedWhy = r.Why
	}
	return docs, nil
}

// PlanSLS says what ApplySLS would do.
func (n *Node) PlanSLS(_ context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error) {
	docs, err := n.parseSLSs(r)
	if err != nil {
		return nil, err
	}
	resp := &api.ApplyResponse{}
	n.ledger.with(func(l *sls.Ledger) {
		for i := range docs {
			var p sls.Plan
			if p, err = l.Plan(time.Now(), docs[i]); err != nil {
				err = fmt.Errorf("%w: %w", ErrInvalid, err)
				return
			}
			resp.Applied = append(resp.Applied, apiPlan(&p))
		}
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func apiPlan(p *sls.Plan) *api.AppliedSLS {
	a := &api.AppliedSLS{Id: p.After.ID, Action: api.AppliedSLS_CHANGED, Version: p.After.Version, Diff: apiDiff(p.Diff)}
	switch {
	case p.Before == nil:
		a.Action = api.AppliedSLS_CREATED
	case p.Before.Version == p.After.Version:
		a.Action = api.AppliedSLS_UNCHANGED
	}
	a.Breaks = apiBreaks(p.Breaks)
	return a
}

func apiBreaks(breaks []sls.Break) []*api.SLSBreak {
	var all []*api.SLSBreak
	for _, b := range breaks {
		all = append(all, &api.SLSBreak{
			SessionId: wire.SID(b.ID).String(), Class: b.Class.String(), Rate: 8 * b.Rate, Held: b.Held, From: apiTime(b.From), Why: b.Why,
		})
	}
	return all
}

func apiDiff(edits []sls.Edit) []*api.SLSEdit {
	var all []*api.SLSEdit
	for _, e := range edits {
		all = append(all, &api.SLSEdit{Path: e.Path, Before: e.Before, After: e.After})
	}
	return all
}

// makeRoom ends in the ledger what a plan says that does not fit. What is
// committed comes back if the change is undone.
func (a *application) makeRoom(l *sls.Ledger, breaks []sls.Break) {
	for _, b := range breaks {
		for _, k := range l.Bookings(b.ID) {
			if !k.Held {
				a.ended = append(a.ended, k)
			}
		}
		if l.Release(b.ID) {
			a.victims = append(a.victims, b.ID)
		}
	}
}

// endVictims has their initiators told, once they have nothing left here.
func (a *application) endVictims() {
	for _, id := range a.victims {
		sid := wire.SID(id)
		a.node.note(layerDomain, "preempted", sid, netip.AddrPort{}, "by a change of its SLS")
		a.node.shardOf(sid).inbox.put(qosnslp.Abandon{SID: sid, Info: nslpwire.InfoSpec{
			Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationPreempted,
		}})
	}
}

var apiEvents = map[store.Event]api.SLSChange_Event{
	store.Applied: api.SLSChange_APPLIED, store.Confirmed: api.SLSChange_CONFIRMED, store.Deleted: api.SLSChange_DELETED,
}

// SLSHistory returns the versions of an SLS, the latest first.
func (n *Node) SLSHistory(_ context.Context, id string) (*api.SLSHistoryResponse, error) {
	list, err := n.store.History(id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, noSuchSLS(id)
	}
	resp := &api.SLSHistoryResponse{}
	for i := len(list) - 1; i >= 0; i-- {
		x := &list[i]
		var before *sls.SLS
		if i > 0 && list[i-1].Event != store.Deleted {
			before = &list[i-1].SLS
		}
		c := &api.SLSChange{
			Version: x.SLS.Version, At: apiTime(x.At), By: x.By, Why: x.Why, Status: x.SLS.Status.String(), Yaml: yamlOf(x.SLS),
			Event: apiEvents[x.Event], ConfirmUntil: apiTime(x.Until),
		}
		if x.Event == store.Applied && (i > 0 || x.SLS.Version == 1) { // what was before is known
			c.Diff = apiDiff(sls.Diff(before, &x.SLS))
		}
		resp.Changes = append(resp.Changes, c)
	}
	return resp, nil
}

// RollbackSLS applies an earlier version of an SLS as a new one.
func (n *Node) RollbackSLS(ctx context.Context, r *api.RollbackRequest, by string) (*api.ApplyResponse, error) {
	list, err := n.store.History(r.Id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, noSuchSLS(r.Id)
	}
	version := r.Version
	if version == 0 {
		last := &list[len(list)-1]
		if version = last.SLS.Version - 1; last.Event == store.Deleted {
			version++ // before it was deleted
		}
		if version == 0 {
			return nil, fmt.Errorf("%w: SLS %s has no version before its first", ErrInvalid, r.Id)
		}
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Event != store.Applied || list[i].SLS.Version != version {
			continue
		}
		why := r.Why
		if why == "" {
			why = fmt.Sprintf("rollback to version %d", version)
		}
		return n.ApplySLS(ctx, &api.ApplyRequest{Name: r.Id, Yaml: yamlOf(list[i].SLS), Preempt: r.Preempt, Why: why}, by)
	}
	return nil, fmt.Errorf("%w: SLS %s, version %d is not in its history; \"slsctl history %s\" shows what is", ErrNotFound, r.Id, version, r.Id)
}

// put enters one SLS in the ledger.
func (a *application) put(l *sls.Ledger, s sls.SLS) error {
	plan, err := l.Plan(a.now, s)
	if err != nil {
		return conflict(err)
	}
	unchanged := plan.Before != nil && plan.Before.Version == plan.After.Version
	if !unchanged && !a.takesBack {
		if err := a.node.tentative.settled(s.ID); err != nil {
			return err
		}
	}
	applied := apiPlan(&plan)
	if a.preempt {
		a.makeRoom(l, plan.Breaks)
	} else {
		applied.Breaks = nil // then it is refused
	}
	put, err := l.Put(a.now, s, a.by)
	if c, ok := errors.AsType[*sls.Conflict](err); ok && !a.preempt {
		return fmt.Errorf("%w: %w; \"slsctl plan\" shows all, --preempt ends them", ErrConflict, c)
	}
	if err != nil {
		return conflict(err)
	}
	a.applied = append(a.applied, applied)
	switch {
	case plan.Before == nil:
		a.created = append(a.created, put.ID)
	case put.Version == plan.Before.Version: // it says nothing new
		return nil
	default:
		a.before = append(a.before, *plan.Before)
	}
	a.after = append(a.after, put)
	if a.within > 0 {
		x := store.Tentative{SLS: put, Former: plan.Before, Until: a.now.Add(a.within).UTC()}
		if a.tentative == nil {
			a.tentative = make(map[string]store.Tentative)
		}
		if first, twice := a.tentative[put.ID]; twice {
			x.Former = first.Former
		}
		a.tentative[put.ID] = x
		applied.ConfirmUntil = apiTime(x.Until)
	}
	return nil
}
