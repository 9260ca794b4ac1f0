package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// Changes of SLSs that are taken back unless somebody confirms them, and their end.

const (
	minConfirmWithin = time.Second
	maxConfirmWithin = 168 * time.Hour
	// returnRetry is how long a return waits that could not be made.
	returnRetry = time.Minute
	maxWhy      = 1000 // octets
	maxExplain  = 5    // reservations that an error names
)

// tentatives are the changes that nobody has confirmed yet, by SLS: what the
// store has, for those who ask.
type tentatives struct {
	mu    sync.Mutex
	byID  map[string]store.Tentative
	retry map[string]time.Time // of returns that could not be made
}

func (t *tentatives) get(id string) (store.Tentative, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x, ok := t.byID[id]
	return x, ok
}

func (t *tentatives) set(x store.Tentative) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID, t.retry = make(map[string]store.Tentative), make(map[string]time.Time)
	}
	t.byID[x.SLS.ID] = x
}

func (t *tentatives) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
	delete(t.retry, id)
}

// failed puts a return off.
func (t *tentatives) failed(id string, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retry[id] = until
}

// due returns the SLSs whose time is over.
func (t *tentatives) due(now time.Time) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.byID {
		if !now.Before(x.Until) && !now.Before(t.retry[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// until is when an SLS is taken back; zero: it is not.
func (t *tentatives) until(id string) time.Time {
	x, _ := t.get(id)
	return x.Until
}

// settled refuses a change of an SLS whose last one nobody has confirmed.
func (t *tentatives) settled(id string) error {
	if x, ok := t.get(id); ok {
		return fmt.Errorf("%w: version %d of SLS %s is not confirmed and is taken back at %s; first \"slsctl confirm %s\", or \"slsctl confirm --take-back %s\"",
			ErrConflict, x.SLS.Version, id, x.Until.UTC().Format(time.RFC3339), id, id)
	}
	return nil
}

func (n *Node) loadTentative() error {
	list, err := n.store.Tentative()
	if err != nil {
		return err
	}
	for _, x := range list {
		n.tentative.set(x)
		n.log.Warn("a change of an SLS is not confirmed", "sls", x.SLS.ID, "version", x.SLS.Version, "taken_back_at", x.Until)
	}
	return nil
}

func confirmWithin(r *api.ApplyRequest) (time.Duration, error) {
	d := r.GetConfirmWithin()
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, fmt.Errorf("%w: confirm_within: %w", ErrInvalid, err)
	}
	within := d.AsDuration()
	if within < minConfirmWithin || within > maxConfirmWithin {
		return 0, fmt.Errorf("%w: confirm within %s: expected %s to %s", ErrInvalid, within, minConfirmWithin, maxConfirmWithin)
	}
	return within, nil
}

func checkWhy(why string) error {
	if len(why) > maxWhy {
		return fmt.Errorf("%w: why has %d octets, expected at most %d", ErrInvalid, len(why), maxWhy)
	}
	return nil
}

// ConfirmSLS makes a change be for good, or takes it back.
func (n *Node) ConfirmSLS(ctx context.Context, r *api.ConfirmRequest, by string) (*api.ApplyResponse, error) {
	if err := checkWhy(r.Why); err != nil {
		return nil, err
	}
	n.slsMu.Lock()
	defer n.slsMu.Unlock()
	x, ok := n.tentative.get(r.Id)
	if !ok {
		return nil, fmt.Errorf("%w: SLS %q has no change that waits to be confirmed; \"slsctl history %s\" shows what became of it", ErrNotFound, r.Id, r.Id)
	}
	now := time.Now()
	if r.TakeBack {
		return n.takeBack(ctx, now, x, by, r.Why)
	}
	if !now.Before(x.Until) {
		return nil, fmt.Errorf("%w: it is too late to confirm version %d of SLS %s: it is being taken back since %s", ErrConflict, x.SLS.Version, r.Id, x.Until.UTC().Format(time.RFC3339))
	}
	done := make(chan error, 1)
	n.store.ConfirmSLS(r.Id, store.Note{By: by, At: now.UTC().Truncate(time.Second), Why: r.Why}, func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("SLS %s not confirmed, the store: %w", r.Id, err)
		}
	case <-ctx.Done():
		n.store.PutTentative(x, nil) // nobody was told that it is for good
		return nil, fmt.Errorf("SLS %s not confirmed, the store: %w", r.Id, ctx.Err())
	}
	n.tentative.drop(r.Id)
	return &api.ApplyResponse{Applied: []*api.AppliedSLS{{Id: r.Id, Action: api.AppliedSLS_CONFIRMED, Version: x.SLS.Version}}}, nil
}

// returnUnconfirmed takes back what was not confirmed in time.
func (n *Node) returnUnconfirmed(ctx context.Context, now time.Time) {
	for _, id := range n.tentative.due(now) {
		n.slsMu.Lock()
		if x, ok := n.tentative.get(id); ok && !now.Before(x.Until) { // nobody was faster
			why := "not confirmed by " + x.Until.UTC().Format(time.RFC3339)
			if _, err := n.takeBack(ctx, now, x, "qned", why); err != nil {
				n.tentative.failed(id, now.Add(returnRetry))
				n.log.Error("an SLS that was not confirmed cannot be taken back, trying again", "sls", id, "in", returnRetry, "err", err)
			}
		}
		n.slsMu.Unlock()
	}
}

func (n *Node) watchConfirmations(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		n.returnUnconfirmed(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// takeBack brings the former terms back into force, whoever is in their way; an
// SLS that was new is deleted. slsMu is held.
func (n *Node) takeBack(ctx context.Context, now time.Time, x store.Tentative, by, why string) (*api.ApplyResponse, error) {
	a := &application{node: n, now: now, by: by, preempt: true, takesBack: true}
	var err error
	if x.Former == nil {
		text := fmt.Sprintf("version %d is taken back, there was none before it", x.SLS.Version)
		a.note = store.Note{By: by, At: now.UTC().Truncate(time.Second), Why: join(text, why)}
		n.ledger.with(func(l *sls.Ledger) { err = a.remove(l, x.SLS.ID) })
	} else {
		former := *x.Former
		former.ChangedWhy = join(fmt.Sprintf("back to version %d", former.Version), why)
		err = a.inLedger([]sls.SLS{former})
	}
	if err == nil {
		if err = a.store(ctx); err != nil {
			err = fmt.Errorf("SLS %s not taken back, the store: %w", x.SLS.ID, err)
		}
	}
	if err != nil {
		a.undo()
		return nil, err
	}
	n.tentative.drop(x.SLS.ID)
	a.endVictims()
	n.log.Warn("an SLS is taken back", "sls", x.SLS.ID, "version", x.SLS.Version, "by", by, "why", why, "ended", len(a.victims))
	return &api.ApplyResponse{Applied: a.applied}, nil
}

// join adds a reason to a text; the whole is never longer than a why may be.
func join(text, why string) string {
	if why != "" {
		text += ": " + why
	}
	if len(text) > maxWhy {
		text = strings.ToValidUTF8(text[:maxWhy], "")
	}
	return text
}

// remove takes an SLS out of the ledger.
func (a *application) remove(l *sls.Ledger, id string) error {
	old, ok := l.Get(id)
	if !ok {
		return noSuchSLS(id)
	}
	breaks, err := l.PlanDelete(a.now, id)
	if err != nil {
		return err
	}
	if len(breaks) > 0 && !a.preempt {
		return fmt.Errorf("%w: SLS %s is in use: %s; \"slsctl delete --dry-run\" shows all, --preempt ends them", ErrConflict, id, explainBreaks(breaks))
	}
	a.makeRoom(l, breaks)
	if err := l.Delete(a.now, id); err != nil {
		return conflict(err)
	}
	a.deleted = append(a.deleted, old)
	a.applied = append(a.applied, &api.AppliedSLS{Id: id, Action: api.AppliedSLS_DELETED, Version: old.Version, Breaks: apiBreaks(breaks)})
	return nil
}

// explainBreaks names the first few.
func explainBreaks(breaks []sls.Break) string {
	var all []string
	for _, b := range apiBreaks(breaks[:min(len(breaks), maxExplain)]) {
		state := "committed"
		if b.Held {
			state = "held"
		}
		all = append(all, fmt.Sprintf("reservation %s, %s, %d bit/s, %s", b.SessionId, b.Class, b.Rate, state))
	}
	if more := len(breaks) - maxExplain; more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}

// DeleteSLS removes an SLS that no reservation stands on, or ends those first.
func (n *Node) DeleteSLS(ctx context.Context, r *api.DeleteSLSRequest, by string) (*api.DeleteSLSResponse, error) {
	if err := checkWhy(r.Why); err != nil {
		return nil, err
	}
	now := time.Now()
	if r.DryRun {
		return n.planDelete(now, r.Id)
	}
	n.slsMu.Lock()
	defer n.slsMu.Unlock()
	if err := n.tentative.settled(r.Id); err != nil {
		return nil, err
	}
	a := &application{node: n, now: now, by: by, preempt: r.Preempt, note: store.Note{By: by, At: now.UTC().Truncate(time.Second), Why: r.Why}}
	var err error
	n.ledger.with(func(l *sls.Ledger) { err = a.remove(l, r.Id) })
	if err == nil {
		if err = a.store(ctx); err != nil {
			err = fmt.Errorf("SLS %s not deleted, the store: %w", r.Id, err)
		}
	}
	if err != nil {
		a.undo()
		return nil, err
	}
	a.endVictims()
	return &api.DeleteSLSResponse{Deleted: a.applied[0]}, nil
}

func (n *Node) planDelete(now time.Time, id string) (*api.DeleteSLSResponse, error) {
	var breaks []sls.Break
	var old sls.SLS
	var err error
	n.ledger.with(func(l *sls.Ledger) {
		old, _ = l.Get(id)
		breaks, err = l.PlanDelete(now, id)
	})
	if errors.Is(err, sls.ErrUnknown) {
		return nil, noSuchSLS(id)
	}
	if err != nil {
		return nil, err
	}
	return &api.DeleteSLSResponse{Deleted: &api.AppliedSLS{Id: id, Action: api.AppliedSLS_DELETED, Version: old.Version, Breaks: apiBreaks(breaks)}}, nil
}
