package sls

import (
	"bytes"
	"cmp"
	"slices"
)

// Preemption (interdomain-qosm §6, RFC 5975 §5.2.8). A hold for which nothing is
// left may still be had where the SLS allows preemption: at the expense of
// committed reservations whose Defending is lower than its Preempting. They are
// its prey until the hold is over. Its Commit ends them, in the same step; a hold
// that is dropped, or expires, does them no harm. Meanwhile what the prey have
// covers the hold, which is charged for the rest only. So whatever becomes of
// either, the sum never exceeds what the SLS sells.

// maxPrey bounds the reservations that one hold would end on one leg.
const maxPrey = 64

// maxHunted bounds the intervals of those who preempt and of their prey: to see
// what many victims have at many times takes long.
const maxHunted = 8

// chase ties a hold to its prey.
type chase struct {
	hunter *part
	prey   []*part
}

// hunts reports whether p is a hold with prey.
func (p *part) hunts() bool { return p.chase != nil && p.chase.hunter == p }

// preempt finds the offer among l.found, and there the reservations, at whose
// expense a request can have its least rate: never more than that. before is the
// leg's own earlier hold, whose prey may be taken over.
func (l *Ledger) preempt(r *Request, res *reservation, old, before *part) (*offer, quote, []*part) {
	if r.Relative || r.Preempting == 0 || len(l.spans) > maxHunted {
		return nil, quote{}, nil
	}
	rate := leastRate(r)
	for _, c := range l.found {
		o := c.offer
		if !o.entry.sls.Admission.Preemption || rate > o.spec.LargestFlow || int64(rate) > o.capacity ||
			r.Peak > o.spec.PIR && rate == r.Rate {
			continue
		}
		q := l.quote(o, r, old)
		if q.why == badPriority || q.why == notThen {
			continue
		}
		if prey := l.findPrey(o, r, rate, q.cut, res, old, before); prey != nil {
			return o, quote{rate: rate, cut: q.cut}, prey
		}
	}
	return nil, quote{}, nil
}

// findPrey chooses the reservations to end: the lowest Defending first, among
// equals the largest rate; then none that is not needed. nil: all together are
// not enough.
func (l *Ledger) findPrey(o *offer, r *Request, rate uint64, cut int64, res *reservation, old, before *part) []*part {
	var weaker []*part
	for p := o.parts; p != nil; p = p.next {
		if !p.isHeld && p.owner != res && p.defending < r.Preempting && p.rate > 0 && len(p.spans) <= maxHunted &&
			(p.chase == nil || p.chase.hunter == before) {
			weaker = append(weaker, p)
		}
	}
	slices.SortFunc(weaker, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.defending, b.defending), cmp.Compare(b.rate, a.rate), bytes.Compare(a.owner.id[:], b.owner.id[:]))
	})
	o.total.Advance(l.now)
	var prey []*part
	enough := func() bool {
		l.segments(l.spans, cut, o, old)
		l.cover(prey)
		return l.shortOf(o, rate) == nil
	}
	for _, p := range weaker {
		if enough() {
			break
		}
		if !l.helps(o, rate, p) {
			continue // it has nothing where something is missing
		}
		if len(prey) == maxPrey {
			return nil
		}
		prey = append(prey, p)
	}
	if len(prey) == 0 || !enough() {
		return nil
	}
	for i := len(prey) - 1; i >= 0; i-- {
		all := prey
		prey = slices.Delete(slices.Clone(all), i, i+1)
		if !enough() {
			prey = all
		}
	}
	return prey
}

// shortOf returns the first of l.segs in which an offer has less than rate left,
// nil if there is none.
func (l *Ledger) shortOf(o *offer, rate uint64) *segment {
	for i := range l.segs {
		g := &l.segs[i]
		if o.capacity-o.total.Peak(g.from, g.until)+g.old < int64(rate) {
			return g
		}
	}
	return nil
}

// helps reports whether p has something in any of l.segs that is short.
func (l *Ledger) helps(o *offer, rate uint64, p *part) bool {
	for _, g := range l.segs {
		if p.during(g) && o.capacity-o.total.Peak(g.from, g.until)+g.old < int64(rate) {
			return true
		}
	}
	return false
}

func (p *part) during(g segment) bool {
	return slices.ContainsFunc(p.times(), func(s span) bool { return s.from < g.until && g.from < s.until })
}

// cover adds what prey have to the old rate of l.segs, dividing them where that
// changes.
func (l *Ledger) cover(prey []*part) {
	for _, p := range prey {
		for _, s := range p.times() {
			for i := 0; i < len(l.segs); i++ {
				g := l.segs[i]
				from, until := max(g.from, s.from), min(g.until, s.until)
				if from >= until {
					continue
				}
				l.segs[i] = segment{span{from, until}, g.old + int64(p.rate)}
				if until < g.until {
					l.segs = slices.Insert(l.segs, i+1, segment{span{until, g.until}, g.old})
				}
				if g.from < from {
					l.segs = slices.Insert(l.segs, i, segment{span{g.from, from}, g.old})
					i++
				}
			}
		}
	}
}

// hunt makes prey the hold's; it is not charged yet.
func (p *part) hunt(prey []*part) {
	if len(prey) == 0 {
		return
	}
	p.chase = &chase{hunter: p, prey: prey}
	for _, v := range prey {
		v.chase = p.chase
	}
}

// spare lets a hold's prey go; it is not charged any more.
func (p *part) spare() {
	if !p.hunts() {
		return
	}
	for _, v := range p.chase.prey {
		v.chase = nil
	}
	p.chase = nil
}

// unsettle takes the hold out of the account whose prey p is, before p changes;
// settlePrey puts it back. nil: p is nobody's.
func (l *Ledger) unsettle(p *part) *part {
	if p.chase == nil || p.hunts() {
		return nil
	}
	l.chargeHold(p.chase.hunter, -1)
	return p.chase.hunter
}

// settlePrey has the hold go on with now, what the prey was has become, or
// without it if that is nil or of another offer: then the hold takes what has
// become free.
func (l *Ledger) settlePrey(hunter, was, now *part) {
	if hunter == nil {
		return
	}
	c := hunter.chase
	i := slices.Index(c.prey, was)
	was.chase = nil
	if now != nil && now.offer == hunter.offer {
		c.prey[i], now.chase = now, c
	} else {
		c.prey = slices.Delete(c.prey, i, i+1)
	}
	l.chargeHold(hunter, +1)
	if len(c.prey) == 0 {
		hunter.chase = nil
	}
}

// displace ends the prey of a hold that is being committed: all of them, also
// where less is committed than was held, for the network inside has counted on
// them, too. The hold is not charged.
func (l *Ledger) displace(p *part) {
	ids := p.preyIDs()
	p.spare()
	for _, id := range ids {
		l.Release(id)
	}
	l.displaced = append(l.displaced, ids...)
}

// preyIDs are the reservations that a hold's Commit would end.
func (p *part) preyIDs() []ID {
	if !p.hunts() {
		return nil
	}
	ids := make([]ID, 0, len(p.chase.prey))
	for _, v := range p.chase.prey {
		ids = append(ids, v.owner.id)
	}
	return ids
}

// Displaced returns the reservations that the last Commit has ended, on both of
// their legs, to make room for its own. The caller may keep it.
func (l *Ledger) Displaced() []ID { return slices.Clone(l.displaced) }
