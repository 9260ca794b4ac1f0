package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// ApplySLS changes all of the documents' SLSs or none: first in the ledger,
// which refuses what would break a commitment, then durably.
func (n *Node) ApplySLS(ctx context.Context, r *api.ApplyRequest, by string) (*api.ApplyResponse, error) {
	docs, err := n.parseSLSs(r)
	if err != nil {
		return nil, err
	}
	if r.DryRun && r.Preempt {
		return nil, fmt.Errorf("%w: a dry run cannot preempt; a plan says whom it would end", ErrInvalid)
	}
	within, err := confirmWithin(r)
	if err != nil {
		return nil, err
	}
	n.slsMu.Lock()
	defer n.slsMu.Unlock()
	a := &application{node: n, now: time.Now(), by: by, preempt: r.Preempt, within: within}
	if err := a.inLedger(docs); err != nil {
		a.undo()
		return nil, err
	}
	if r.DryRun {
		a.undo()
		return &api.ApplyResponse{Applied: a.applied}, nil
	}
	if err := a.store(ctx); err != nil {
		a.undo()
		return nil, fmt.Errorf("SLSs not applied, the store: %w", err)
	}
	for _, x := range a.tentative {
		n.tentative.set(x)
	}
	a.endVictims()
	return &api.ApplyResponse{Applied: a.applied}, nil
}

// application is one ApplySLS under way.
type application struct {
	node    *Node
	now     time.Time
	by      string
	preempt bool          // end what is in the way
	within  time.Duration // it has to be confirmed; zero: it stands
	// takesBack: it is the end of a change that is not confirmed.
	takesBack bool
	note      store.Note // of deletions

	applied []*api.AppliedSLS
	before  []sls.SLS // what the changed ones were
	after   []sls.SLS // what is changed or new, as the ledger has it
	created []string
	deleted []sls.SLS
	// tentative are those of after that have to be confirmed.
	tentative map[string]store.Tentative
	victims   []sls.ID      // that make room
	ended     []sls.Booking // what they had committed
	stored    bool          // the store was asked
}

func (a *application) inLedger(docs []sls.SLS) (err error) {
	a.node.ledger.with(func(l *sls.Ledger) {
		for i := range docs {
			if err = a.put(l, docs[i]); err != nil {
				return
			}
		}
	})
	return err
}

func (a *application) store(ctx context.Context) error {
	a.stored = true
	results := make(chan error, len(a.victims)+len(a.after)+len(a.deleted))
	done := func(err error) { results <- err }
	for _, id := range a.victims { // first: no crash finds the new terms and them
		a.node.store.Delete(id, done)
	}
	for i := range a.deleted {
		a.node.store.DeleteSLS(a.deleted[i].ID, a.note, done)
	}
	for i := range a.after {
		if x, ok := a.tentative[a.after[i].ID]; ok {
			a.node.store.PutTentative(x, done)
		} else {
			a.node.store.PutSLS(a.after[i], done)
		}
	}
	var errs []error
	for range cap(results) {
		select {
		case err := <-results:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// undo puts the ledger, and the store where it was told, back.
func (a *application) undo() {
	a.node.ledger.with(func(l *sls.Ledger) {
		for _, id := range a.created {
			if err := l.Delete(a.now, id); err != nil {
				a.node.log.Error("an SLS that was not applied cannot be taken back", "sls", id, "err", err)
			}
		}
		for i := range a.before {
			if err := l.Revert(a.before[i]); err != nil {
				a.node.log.Error("an SLS cannot be put back", "sls", a.before[i].ID, "err", err)
			}
		}
		if err := l.LoadSLS(a.deleted); err != nil {
			a.node.log.Error("an SLS that was not deleted cannot be put back", "err", err)
		}
		if err := l.Restore(a.now, a.ended); err != nil {
			a.node.log.Error("a reservation cannot be put back", "err", err)
		}
	})
	if !a.stored {
		return
	}
	for _, id := range a.created {
		a.node.store.DeleteSLS(id, store.Note{By: a.by, At: a.now.UTC().Truncate(time.Second), Why: "it could not be applied"}, nil)
	}
	for _, s := range slices.Concat(a.before, a.deleted) {
		if x, ok := a.node.tentative.get(s.ID); ok { // it was being taken back
			a.node.store.PutTentative(x, nil)
		} else {
			a.node.store.PutSLS(s, nil)
		}
	}
	a.endVictims() // their records may be gone
}

// conflict says that reservations are in the way, in the API's terms.
func conflict(err error) error {
	var c *sls.Conflict
	if errors.As(err, &c) {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// ListSLS returns every SLS, sorted by id.
func (n *Node) ListSLS(context.Context) ([]*api.SLS, error) {
	var slss []sls.SLS
	n.ledger.with(func(l *sls.Ledger) { slss = l.SLSs() })
	all := make([]*api.SLS, 0, len(slss))
	for i := range slss {
		all = append(all, n.apiSLS(&slss[i]))
	}
	return all, nil
}

// ShowSLS returns one SLS.
func (n *Node) ShowSLS(_ context.Context, id string) (*api.SLS, error) {
	var s sls.SLS
	var ok bool
	n.ledger.with(func(l *sls.Ledger) { s, ok = l.Get(id) })
	if !ok {
		return nil, noSuchSLS(id)
	}
	return n.apiSLS(&s), nil
}

// SLSUsage says what is sold of an SLS, or of all.
func (n *Node) SLSUsage(_ context.Context, id string, at time.Time) (all []*api.SLSUsage, err error) {
	n.ledger.with(func(l *sls.Ledger) {
		slss := l.SLSs()
		if id != "" {
			s, ok := l.Get(id)
			if !ok {
				err = noSuchSLS(id)
				return
			}
			slss = []sls.SLS{s}
		}
		for i := range slss {
			for _, c := range slss[i].Classes {
				u, uerr := l.Usage(slss[i].ID, c.Class, at)
				if uerr != nil {
					err = uerr
					return
				}
				all = append(all, &api.SLSUsage{
					SlsId: slss[i].ID, Class: c.Class.String(), Capacity: 8 * u.Capacity,
					Committed: 8 * u.Committed, Held: 8 * u.Held, Reservations: uint32(u.Reservations),
				})
			}
		}
	})
	return all, err
}

func (n *Node) apiSLS(s *sls.SLS) *api.SLS {
	p := &api.SLS{
		Id: s.ID, Version: s.Version, Customer: s.Customer, Provider: s.Provider,
		Egress: addrText(s.Egress), Ingress: addrText(s.Ingress), Status: s.Status.String(),
		Destinations: prefixTexts(s.Destinations), Sources: prefixTexts(s.Sources), Degree: s.Degree.String(),
		ValidFrom: apiTime(s.ValidFrom), ValidUntil: apiTime(s.ValidUntil),
		ChangedBy: s.ChangedBy, ChangedAt: apiTime(s.ChangedAt), Yaml: yamlOf(*s), ConfirmUntil: apiTime(n.tentative.until(s.ID)),
	}
	for _, c := range s.Classes {
		p.Classes = append(p.Classes, &api.SLSClass{
			Class: c.Class.String(), Relative: c.Relative, Cir: 8 * c.CIR, Cbs: c.CBS, Pir: 8 * c.PIR, Pbs: c.PBS,
			LargestFlow: 8 * c.LargestFlow, Excess: c.Excess.String(),
		})
	}
	return p
}

func yamlOf(s sls.SLS) []byte {
	b, err := yaml.Marshal(s)
	if err != nil { // texts and numbers: it cannot happen
		return []byte("# " + err.Error())
	}
	return b
}

func prefixTexts(ps []netip.Prefix) []string {
	var all []string
	for _, p := range ps {
		all = append(all, p.String())
	}
	return all
}

func apiTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
