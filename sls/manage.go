package sls

import (
	"fmt"
	"slices"
	"time"
)

// LoadSLS puts SLSs in as they were stored, versions included. It returns what
// is wrong with the first bad one; those before it are in.
func (l *Ledger) LoadSLS(slss []SLS) error {
	for _, s := range slss {
		s = s.clone()
		if err := s.Normalize(); err != nil {
			return err
		}
		if l.slss[s.ID] != nil {
			return fmt.Errorf("SLS %q is there twice", s.ID)
		}
		e := newEntry(s)
		l.slss[s.ID] = e
		l.index.insert(e)
	}
	return nil
}

// Put adds an SLS or replaces the one with its ID. It returns it with Version,
// ChangedBy and ChangedAt filled in, to be stored; one that says nothing new is
// returned as it was. It returns *Invalid, or *Conflict if live or booked
// reservations do not fit the change.
func (l *Ledger) Put(now time.Time, s SLS, by string) (SLS, error) {
	l.advance(now)
	s = s.clone()
	if err := s.Normalize(); err != nil {
		return SLS{}, err
	}
	old := l.slss[s.ID]
	s.Version, s.ChangedBy, s.ChangedAt = 1, by, now.UTC().Truncate(time.Second)
	if old != nil {
		if old.sls.sameTerms(&s) {
			return old.sls.clone(), nil
		}
		s.Version = old.sls.Version + 1
	}
	e := newEntry(s)
	if old != nil {
		if err := l.conflicts(old, e); err != nil {
			return SLS{}, err
		}
		e.takeOver(old)
		l.index.remove(old)
	}
	l.slss[s.ID] = e
	l.index.insert(e)
	return s.clone(), nil
}

// Revert puts an SLS back as Get returned it before a Put that is taken back:
// version and author included, and without asking whether what is sold fits,
// for it did. It returns ErrUnknown if there is no SLS with its ID.
func (l *Ledger) Revert(s SLS) error {
	s = s.clone()
	if err := s.Normalize(); err != nil {
		return err
	}
	now := l.slss[s.ID]
	if now == nil {
		return fmt.Errorf("SLS %q: %w", s.ID, ErrUnknown)
	}
	e := newEntry(s)
	e.takeOver(now)
	l.index.remove(now)
	l.slss[s.ID] = e
	l.index.insert(e)
	return nil
}

// sameTerms reports whether two SLSs say the same, whoever wrote them when.
func (s *SLS) sameTerms(t *SLS) bool {
	a, b := *s, *t
	a.Version, a.ChangedBy, a.ChangedAt, a.ChangedWhy = b.Version, b.ChangedBy, b.ChangedAt, b.ChangedWhy
	x, errX := a.MarshalJSON()
	y, errY := b.MarshalJSON()
	return errX == nil && errY == nil && string(x) == string(y)
}

// takeOver moves what is sold of the old terms to the new ones.
func (e *entry) takeOver(old *entry) {
	for _, o := range old.offers {
		if n := e.offer(o.spec.Class); n != nil {
			n.total, n.held, n.parts, n.count, n.changing = o.total, o.held, o.parts, o.count, o.changing
			for p := n.parts; p != nil; p = p.next {
				p.offer = n
			}
		}
	}
}

// conflicts returns *Conflict if what is sold of old does not fit e.
func (l *Ledger) conflicts(old, e *entry) error {
	c := &Conflict{SLS: e.sls.ID}
	for _, o := range old.offers {
		n := e.offer(o.spec.Class)
		for p := o.parts; p != nil; p = p.next {
			if why := l.stillFits(p, e, n); why != "" {
				c.add(1, fmt.Sprintf("reservation %s: %s", p.owner.id, why))
			}
		}
		if n == nil || o.count == 0 || n.capacity >= o.capacity {
			continue
		}
		o.total.Advance(l.now)
		if at := o.total.FirstAbove(l.now, n.capacity); at != forever {
			c.add(o.count, fmt.Sprintf("%s: %d octets/s are sold, of which the first that do not fit %d octets/s are from %s",
				o.spec.Class, o.total.Peak(past, forever), n.capacity, stamp(at)))
		}
	}
	if c.Count == 0 {
		return nil
	}
	return c
}

func (c *Conflict) add(count int, why string) {
	c.Count += count
	if len(c.Why) < maxWhy {
		c.Why = append(c.Why, why)
	}
}

// stillFits says why a part cannot go on under new terms, and "" if it can.
func (l *Ledger) stillFits(p *part, e *entry, n *offer) string {
	if e.sls.Status != Active && e.sls.Status != Suspended {
		return fmt.Sprintf("goes on, and a status of %s ends it", e.sls.Status)
	}
	r := Request{
		Customer: p.offer.entry.sls.Customer, Provider: p.offer.entry.sls.Provider,
		Egress: p.egress, Ingress: p.ingress, Source: p.source, Destination: p.destination,
		Class: p.offer.spec.Class, Relative: p.offer.spec.Relative,
	}
	as := *e
	as.sls.Status = Active // a suspended SLS keeps what it has
	if why := as.explain(&r); why != "" {
		return why
	}
	switch {
	case p.rate > n.spec.LargestFlow:
		return flowTooBig.text(n, &Request{Rate: p.rate}, 0)
	case p.peak > n.spec.PIR:
		return peakTooBig.text(n, &Request{Peak: p.peak}, 0)
	case e.sls.Admission.Priorities>>p.priority&1 == 0:
		return badPriority.text(n, &Request{Priority: p.priority}, 0)
	}
	for _, s := range p.times() {
		if s.until <= l.now {
			continue
		}
		if end, ok := e.when.covers(s, l.now); !ok || end < s.until {
			return notThen.text(n, &r, 0)
		}
	}
	return ""
}

// Delete removes an SLS. One that has reservations is kept, with *Conflict;
// ErrUnknown if there is none.
func (l *Ledger) Delete(now time.Time, id string) error {
	l.advance(now)
	e := l.slss[id]
	if e == nil {
		return fmt.Errorf("%w: SLS %q", ErrUnknown, id)
	}
	c := &Conflict{SLS: id}
	for _, o := range e.offers {
		for p := o.parts; p != nil; p = p.next {
			c.add(1, fmt.Sprintf("reservation %s uses it", p.owner.id))
		}
	}
	if c.Count > 0 {
		return c
	}
	l.index.remove(e)
	delete(l.slss, id)
	return nil
}

// Get returns the SLS with this id.
func (l *Ledger) Get(id string) (SLS, bool) {
	e := l.slss[id]
	if e == nil {
		return SLS{}, false
	}
	return e.sls.clone(), true
}

// SLSs returns every SLS, sorted by id.
func (l *Ledger) SLSs() []SLS {
	list := make([]SLS, 0, len(l.slss))
	for _, id := range l.sorted() {
		list = append(list, l.slss[id].sls.clone())
	}
	return slices.Clip(list)
}
