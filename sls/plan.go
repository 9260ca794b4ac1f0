package sls

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/calendar"
	"github.com/interqos/interqos/internal/units"
)

// A change of an SLS while it is in use: what it would do is known before it is
// done. Put refuses what Plan says would break something.

// Plan is what putting an SLS would do.
type Plan struct {
	Before *SLS // nil: it is new
	After  SLS  // normalized, its Version the next one; equal to Before if nothing is new
	Diff   []Edit
	Breaks []Break // what could not stay, by SLS, class, and when it begins
}

// Edit is one difference between two SLSs. An empty text is nothing.
type Edit struct{ Path, Before, After string }

// Break is a reservation that does not fit a change.
type Break struct {
	ID    ID
	Leg   Leg
	SLS   string
	Class Class
	Held  bool      // it is not committed yet
	Rate  uint64    // octets/s
	From  time.Time // when it does not fit any more, or begins not to
	Why   string
}

// Plan tells what Put would do, and changes nothing. Where less is left than what
// is sold, those break whose Defending is lowest, of equals those with the lowest
// priority, then those with the largest rate; none that need not. It returns
// *Invalid.
func (l *Ledger) Plan(now time.Time, s SLS) (Plan, error) {
	l.advance(now)
	s = s.clone()
	if err := s.Normalize(); err != nil {
		return Plan{}, err
	}
	s.Version = 1
	old := l.slss[s.ID]
	if old == nil {
		return Plan{After: s, Diff: Diff(nil, &s)}, nil
	}
	before := old.sls.clone()
	if s.Version = before.Version + 1; before.sameTerms(&s) {
		return Plan{Before: &before, After: before}, nil
	}
	return Plan{Before: &before, After: s, Diff: Diff(&before, &s), Breaks: l.breaks(old, newEntry(s))}, nil
}

// PlanDelete tells what would have to go before an SLS can be deleted;
// ErrUnknown if there is none.
func (l *Ledger) PlanDelete(now time.Time, id string) ([]Break, error) {
	l.advance(now)
	e := l.slss[id]
	if e == nil {
		return nil, fmt.Errorf("%w: SLS %q", ErrUnknown, id)
	}
	var all []Break
	for _, o := range e.offers {
		for p := o.parts; p != nil; p = p.next {
			all = append(all, l.broken(p, l.now, fmt.Sprintf("%s: is deleted", id)))
		}
	}
	slices.SortFunc(all, compareBreaks)
	return all, nil
}

func (l *Ledger) breaks(old, e *entry) []Break {
	var all []Break
	for _, o := range old.offers {
		all = append(all, l.offerBreaks(o, e, e.offer(o.spec.Class))...)
	}
	slices.SortFunc(all, compareBreaks)
	return all
}

func compareBreaks(a, b Break) int {
	return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Class, b.Class), bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Leg, b.Leg))
}

func (l *Ledger) broken(p *part, from int64, why string) Break {
	return Break{
		ID: p.owner.id, Leg: p.leg, SLS: p.offer.entry.sls.ID, Class: p.offer.spec.Class, Held: p.isHeld, Rate: p.rate,
		From: time.Unix(from, 0).UTC(), Why: why,
	}
}

// offerBreaks returns what is sold of o that would not fit n, the same class of
// e; nil: e does not sell it.
func (l *Ledger) offerBreaks(o *offer, e *entry, n *offer) []Break {
	o.total.Advance(l.now)
	rest := o.total.Clone()
	var all []Break
	gone := make(map[*reservation]bool)
	leave := func(p *part, from int64, why string) {
		l.takeAll(&rest, p.owner, o, -1)
		gone[p.owner] = true
		all = append(all, l.broken(p, from, why))
	}
	for p := o.parts; p != nil; p = p.next {
		if gone[p.owner] {
			continue
		}
		if why := l.stillFits(p, e, n); why != "" {
			leave(p, max(l.now, p.times()[0].from), why)
		}
	}
	if n == nil || rest.FirstAbove(l.now, n.capacity) == forever {
		return all
	}
	var parts []*part
	for p := o.parts; p != nil; p = p.next {
		if !gone[p.owner] {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.defending, b.defending), cmp.Compare(a.priority, b.priority),
			cmp.Compare(b.rate, a.rate), bytes.Compare(a.owner.id[:], b.owner.id[:]), cmp.Compare(a.leg, b.leg))
	})
	var weak []*part
	for _, p := range parts {
		if from := l.tooMuch(&rest, p, n.capacity); from != forever && !gone[p.owner] {
			weak = append(weak, p)
			leave(p, from, fmt.Sprintf("%s: of %d octets/s of %s, not all that is sold fits from %s", e.sls.ID, n.capacity, n.spec.Class, stamp(from)))
		}
	}
	for _, p := range slices.Backward(weak) { // those who need not go after all
		l.takeAll(&rest, p.owner, o, +1)
		if rest.FirstAbove(l.now, n.capacity) == forever {
			all = slices.DeleteFunc(all, func(b Break) bool { return b.ID == p.owner.id })
		} else {
			l.takeAll(&rest, p.owner, o, -1)
		}
	}
	return all
}

// takeAll adds what a reservation has of an offer to a copy of its account, or
// with sign -1 takes it out.
func (l *Ledger) takeAll(c *calendar.Calendar, res *reservation, o *offer, sign int64) {
	for _, q := range slices.Concat(res.committed[:], res.held[:]) {
		if q != nil && q.offer == o {
			l.take(c, q, sign)
		}
	}
}

// take adds a part to a copy of its offer's account, or with sign -1 takes it out.
func (l *Ledger) take(c *calendar.Calendar, p *part, sign int64) {
	if p.offer.spec.Relative {
		return
	}
	if !p.isHeld {
		for _, s := range p.times() {
			c.Add(s.from, s.until, sign*int64(p.rate))
		}
		return
	}
	l.segments(p.times(), forever, p.offer, p.owner.committed[p.leg])
	if p.hunts() {
		l.cover(p.chase.prey)
	}
	for _, g := range l.segs {
		c.Add(g.from, g.until, sign*max(0, int64(p.rate)-g.old))
	}
}

// tooMuch returns the first instant of a part at which more than capacity is
// sold, and forever if there is none.
func (l *Ledger) tooMuch(c *calendar.Calendar, p *part, capacity int64) int64 {
	for _, s := range p.times() {
		if s.until <= l.now {
			continue
		}
		if at := c.FirstAbove(max(s.from, l.now), capacity); at < s.until {
			return at
		}
	}
	return forever
}

// Diff returns what is different between two SLSs, in the words of their YAML
// form, by path; version, author and time of the change do not count. A nil one
// is nothing.
func Diff(before, after *SLS) []Edit {
	a, b := flat(before), flat(after)
	var all []Edit
	for _, path := range slices.Sorted(maps.Keys(merged(a, b))) {
		if a[path] != b[path] {
			all = append(all, Edit{path, a[path], b[path]})
		}
	}
	return all
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// flat writes an SLS as texts under paths such as classes[EF].cir.
func flat(s *SLS) map[string]string {
	all := make(map[string]string)
	if s == nil {
		return all
	}
	text, err := s.MarshalJSON()
	if err != nil {
		return all // texts and numbers: it cannot happen
	}
	var doc map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return all
	}
	for _, k := range []string{"version", "changed_by", "changed_at", "changed_why"} {
		delete(doc, k)
	}
	flatten(all, "", doc)
	return all
}

func flatten(all map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			flatten(all, strings.TrimPrefix(path+"."+k, "."), x)
		}
	case []any:
		var words []string
		for i, x := range v {
			o, ok := x.(map[string]any)
			if !ok {
				words = append(words, fmt.Sprint(x))
				continue
			}
			at := fmt.Sprint(i)
			if c, ok := o["class"]; ok {
				at = fmt.Sprint(c)
			}
			flatten(all, fmt.Sprintf("%s[%s]", path, at), o)
		}
		if words != nil {
			all[path] = strings.Join(words, ", ")
		}
	default:
		all[path] = fmt.Sprint(v)
		for _, rate := range []string{".cir", ".pir", ".largest_flow"} {
			var n uint64
			if _, err := fmt.Sscan(all[path], &n); err == nil && strings.HasSuffix(path, rate) {
				all[path] = units.FormatRate(n)
			}
		}
	}
}
