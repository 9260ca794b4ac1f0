package sls

import (
	"slices"
	"time"

	"github.com/interqos/interqos/internal/calendar"
)

// Times inside the ledger are whole seconds since 1970. past and forever are
// the ends of an interval that is open on that side.
const (
	past    = calendar.Past
	forever = calendar.Forever
)

// span is an interval [from, until).
type span struct{ from, until int64 }

const week = 7 * 24 * time.Hour

// availability is when an SLS sells at all: its validity and its schedule. It
// remembers the last window looked up, for most requests are for now.
type availability struct {
	valid   span
	windows []Window // nil: always within valid
	zone    *time.Location
	last    span
}

func newAvailability(s *SLS) availability {
	a := availability{valid: span{past, forever}, windows: s.Schedule, zone: s.Zone}
	if !s.ValidFrom.IsZero() {
		a.valid.from = ceilSecond(s.ValidFrom)
	}
	if !s.ValidUntil.IsZero() {
		a.valid.until = s.ValidUntil.Unix()
	}
	if a.zone == nil {
		a.zone = time.UTC
	}
	if fullWeek(a.windows) {
		a.windows = nil
	}
	return a
}

// fullWeek reports whether the windows leave no gap in a week, on the wall
// clock; daylight saving then makes none either.
func fullWeek(windows []Window) bool {
	var all []span // seconds of the week, and once more for what goes past its end
	for _, w := range windows {
		for day := range 7 {
			if w.Days>>day&1 == 1 {
				from := time.Duration(day)*24*time.Hour + w.Start
				all = append(all, span{int64(from), int64(from + w.Duration)})
				all = append(all, span{int64(from - week), int64(from - week + w.Duration)})
			}
		}
	}
	slices.SortFunc(all, func(a, b span) int { return int(min(1, max(-1, a.from-b.from))) })
	reached := int64(0)
	for _, s := range all {
		if s.from <= reached {
			reached = max(reached, s.until)
		}
	}
	return reached >= int64(week)
}

// next returns the whole span of availability that contains t, or else the
// first one after it; ok is false if there is none.
func (a *availability) next(t int64) (s span, ok bool) {
	t = max(t, a.valid.from)
	switch {
	case t >= a.valid.until:
		return span{}, false
	case a.windows == nil:
		return a.valid, true
	case a.last.from <= t && t < a.last.until:
		return a.last, true
	}
	for s := range slices.Values(a.around(t)) {
		s = span{max(s.from, a.valid.from), min(s.until, a.valid.until)}
		if s.until > t && s.until > s.from {
			a.last = s
			return s, true
		}
	}
	return span{}, false
}

// around returns the windows from eight days before t, which is as long ago as
// one that is still open can have started, to sixteen days after, sorted and
// with those that touch joined. Since a week has a gap, those that hold t or
// follow it are whole.
func (a *availability) around(t int64) []span { return a.days(t, -8, 16) }

// days returns the windows that start from so many days after that of t to so
// many, sorted and with those that touch joined.
func (a *availability) days(t int64, first, last int) []span {
	var all []span
	local := time.Unix(t, 0).In(a.zone)
	for offset := first; offset <= last; offset++ {
		day := time.Date(local.Year(), local.Month(), local.Day()+offset, 12, 0, 0, 0, a.zone)
		bit := (int(day.Weekday()) + 6) % 7
		for _, w := range a.windows {
			if w.Days>>bit&1 == 0 {
				continue
			}
			// Both ends are read off the wall clock, so that a window of 24
			// hours is a day also where a day has 23 or 25.
			wall := func(d time.Duration) int64 {
				return time.Date(day.Year(), day.Month(), day.Day(), 0, 0, int(d/time.Second), 0, a.zone).Unix()
			}
			all = append(all, span{wall(w.Start), wall(w.Start + w.Duration)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return int(min(1, max(-1, a.from-b.from))) })
	joined := all[:0]
	for _, s := range all {
		if n := len(joined); n > 0 && s.from <= joined[n-1].until {
			joined[n-1].until = max(joined[n-1].until, s.until)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// covers reports whether s, no part of which is asked about before now, is
// available throughout. If s is open and what it starts in is not, end is
// where it has to be cut.
func (a *availability) covers(s span, now int64) (end int64, ok bool) {
	w, ok := a.next(max(s.from, now))
	if !ok || w.from > max(s.from, now) {
		return 0, false
	}
	if s.until == forever {
		return w.until, true
	}
	return s.until, s.until <= w.until
}

func ceilSecond(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}
