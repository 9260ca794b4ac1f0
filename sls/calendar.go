package sls

import (
	"fmt"
	"slices"
	"time"
)

// Questions about capacity over time (interdomain-qosm §5: "capacity is a
// calendar, not a number").

// Recurring returns the intervals in which weekly windows are open within other
// intervals, which have to be bounded on both sides, sorted and disjoint. The
// windows' days and times are of zone's wall clock (nil: UTC), also where it is
// changed: a window of 24 hours is a day, and one whose hour the clock leaves out
// is open for as long as it can be. What touches is one interval. The result may
// be empty; more than MaxIntervals, and windows that no SLS may have, are
// ErrRequest.
func Recurring(within []Interval, windows []Window, zone *time.Location) ([]Interval, error) {
	if zone == nil {
		zone = time.UTC
	}
	var p problems
	(&SLS{Schedule: windows, Zone: zone}).checkTimes(&p)
	if len(p) > 0 || len(windows) == 0 {
		return nil, fmt.Errorf("%w: windows: %w", ErrRequest, &Invalid{SLS: "of the request", Problems: p})
	}
	var all []Interval
	a := availability{windows: windows, zone: zone}
	days := 0
	for i, v := range within {
		switch {
		case v.From.IsZero() || v.Until.IsZero() || !v.From.Before(v.Until) || v.From.Year() < 1970 || v.Until.Year() > 9999:
			return nil, fmt.Errorf("%w: interval %d, in which windows recur, has to have a start and a later end from 1970 to 9999", ErrRequest, i+1)
		case i > 0 && v.From.Before(within[i-1].Until):
			return nil, fmt.Errorf("%w: interval %d starts before the one before it ends", ErrRequest, i+1)
		}
		from, until := v.From.Unix(), ceilSecond(v.Until)
		span := int((until-from)/86400) + 1
		// Seven windows of a day each at least have to be MaxIntervals.
		if days += span; days > 7*MaxIntervals+14 {
			return nil, fmt.Errorf("%w: windows that recur for %d days; expected at most %d", ErrRequest, days, 7*MaxIntervals)
		}
		for _, s := range a.days(from, -8, span+1) {
			if s.from, s.until = max(s.from, from), min(s.until, until); s.from >= s.until {
				continue
			}
			at := Interval{time.Unix(s.from, 0).UTC(), time.Unix(s.until, 0).UTC()}
			if n := len(all); n > 0 && all[n-1].Until.Equal(at.From) {
				all[n-1].Until = at.Until
				continue
			}
			all = append(all, at)
		}
		if len(all) > MaxIntervals {
			return nil, fmt.Errorf("%w: windows that recur %d times; expected at most %d", ErrRequest, len(all), MaxIntervals)
		}
	}
	return all, nil
}

// LargestRate returns the largest rate in octets/s that a new reservation could
// have of a class throughout an interval, whatever it asks for else: at most the
// largest flow; 0 where the SLS is not active, or not available throughout. An
// interval without an end lasts as long as the SLS is available. It returns
// ErrUnknown, or ErrRequest for an interval that has passed or is none, and for a
// class that is sold without a rate.
func (l *Ledger) LargestRate(now time.Time, id string, c Class, v Interval) (uint64, error) {
	l.advance(now)
	o, err := l.sold(id, c)
	if err != nil {
		return 0, err
	}
	if err := l.readIntervals([]Interval{v}); err != nil {
		return 0, err
	}
	if o.entry.sls.Status != Active {
		return 0, nil
	}
	r := Request{Rate: o.spec.LargestFlow, Priority: anyPriority(o)}
	return l.quote(o, &r, nil).rate, nil
}

// EarliestStart returns the first instant, not before another one and not before
// now, from which a new reservation could have a rate (octets/s) of a class for
// so long; a length of 0 is for as long as the SLS is available. ok is false if
// there is none, or none was found before the search was given up after some
// hundred changes of what is sold. Errors are those of LargestRate.
func (l *Ledger) EarliestStart(now time.Time, id string, c Class, rate uint64, length time.Duration, notBefore time.Time) (at time.Time, ok bool, err error) {
	l.advance(now)
	o, err := l.sold(id, c)
	switch {
	case err != nil:
		return time.Time{}, false, err
	case rate == 0 || rate > MaxRate || length < 0:
		return time.Time{}, false, fmt.Errorf("%w: rate %d octets/s for %s; expected a rate above 0 and no negative length", ErrRequest, rate, length)
	case o.entry.sls.Status != Active:
		return time.Time{}, false, nil
	}
	from := max(l.now, notBefore.Unix())
	if notBefore.IsZero() {
		from = l.now
	}
	v := Interval{From: time.Unix(from, 0)}
	if length > 0 {
		v.Until = v.From.Add(length)
	}
	if err := l.readIntervals([]Interval{v}); err != nil {
		return time.Time{}, false, err
	}
	t := l.earliest(o, &Request{Rate: rate, Priority: anyPriority(o)})
	if t == forever {
		return time.Time{}, false, nil
	}
	return time.Unix(t, 0).UTC(), true, nil
}

// anyPriority returns a priority that an offer takes.
func anyPriority(o *offer) uint8 {
	for p := range uint8(8) {
		if o.entry.sls.Admission.Priorities>>p&1 == 1 {
			return p
		}
	}
	return 0
}

// sold returns an offer that is sold with a rate.
func (l *Ledger) sold(id string, c Class) (*offer, error) {
	e := l.slss[id]
	if e == nil {
		return nil, fmt.Errorf("%w: SLS %q", ErrUnknown, id)
	}
	o := e.offer(c)
	switch {
	case o == nil:
		return nil, fmt.Errorf("%w: %s of SLS %q", ErrUnknown, c, id)
	case o.spec.Relative:
		return nil, fmt.Errorf("%w: SLS %q sells %s relatively, without a rate", ErrRequest, id, c)
	}
	return o, nil
}

// Step is a stretch of time in which nothing changes.
type Step struct {
	From, Until     time.Time
	Committed, Held uint64 // octets/s
	// Capacity in octets/s; 0 where the SLS is not available.
	Capacity uint64
}

// Timeline returns what is sold and what could be of a class from one instant to
// another, neither zero, in steps; what lies before now is left out. With more
// than most steps it ends early, at the last one's Until. Errors are those of
// LargestRate.
func (l *Ledger) Timeline(now time.Time, id string, c Class, from, until time.Time, most int) ([]Step, error) {
	l.advance(now)
	o, err := l.sold(id, c)
	if err != nil {
		return nil, err
	}
	t, end := max(from.Unix(), l.now), ceilSecond(until)
	if t >= end || end > lastSecond || most < 1 {
		return nil, fmt.Errorf("%w: from %s until %s; expected a start, and an end after it and after now", ErrRequest, stamp(from.Unix()), stamp(end))
	}
	o.total.Advance(l.now)
	o.held.Advance(l.now)
	var steps []Step
	for t < end {
		next := min(end, o.total.NextChange(t), o.held.NextChange(t))
		capacity := uint64(0)
		switch w, ok := o.entry.when.next(t); {
		case !ok:
		case w.from > t:
			next = min(next, w.from)
		default:
			capacity, next = uint64(o.capacity), min(next, w.until)
		}
		held := o.held.At(t)
		s := Step{From: time.Unix(t, 0).UTC(), Until: time.Unix(next, 0).UTC(), Committed: uint64(o.total.At(t) - held), Held: uint64(held), Capacity: capacity}
		if n := len(steps); n > 0 && steps[n-1].same(&s) {
			steps[n-1].Until = s.Until
		} else if n == most {
			break
		} else {
			steps = append(steps, s)
		}
		t = next
	}
	return slices.Clip(steps), nil
}

func (s *Step) same(t *Step) bool {
	return s.Committed == t.Committed && s.Held == t.Held && s.Capacity == t.Capacity
}
