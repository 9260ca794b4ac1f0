package intradomain

import (
	"time"

	"github.com/interqos/interqos/internal/calendar"
)

// Pool is something with a capacity that reservations share, over time: a link,
// a class on it, a subscriber's access. Rates are octets per second.
type Pool struct {
	Where    string // for people, e.g. "link core1-core2"
	Capacity uint64

	booked calendar.Calendar // times are Unix nanoseconds
}

// maxRate is the most that a Pool gives away, in octets per second: its sums
// stay far from overflow.
const maxRate = 1e15

const (
	begin = calendar.Past
	end   = calendar.Forever
)

// span is a time interval [from, until) as Unix nanoseconds.
type span struct{ from, until int64 }

var forever = span{begin, end}

// spanOf reads one interval: zero means from now on, or until
// released. What goes on until released has no end, and what begins now is as
// good as always there.
func spanOf(from, until time.Time) span {
	s := forever
	if !from.IsZero() {
		s.from = nanos(from)
	}
	if !until.IsZero() {
		s.until = nanos(until)
	}
	return s
}

// nanos keeps years that int64 nanoseconds cannot say within what they can.
func nanos(t time.Time) int64 {
	switch year := t.Year(); {
	case year < 1700:
		return begin
	case year > 2200:
		return end
	}
	return t.UnixNano()
}

// spans are the times of a Request, those that are empty left out.
func (r *Request) spans() []span {
	if len(r.Times) == 0 {
		return []span{forever}
	}
	all := make([]span, 0, len(r.Times))
	for _, v := range r.Times {
		if s := spanOf(v.From, v.Until); !s.empty() {
			all = append(all, s)
		}
	}
	return all
}

func (s span) empty() bool { return s.from >= s.until }

// overlap returns the common part, perhaps empty.
func (s span) overlap(o span) span { return span{max(s.from, o.from), min(s.until, o.until)} }

// Booked returns the largest sum of bookings at any instant of a time.
func (p *Pool) Booked(from, until time.Time) uint64 { return p.peak(spanOf(from, until)) }

// Free returns what can still be booked for all of a time.
func (p *Pool) Free(from, until time.Time) uint64 { return p.free(spanOf(from, until)) }

// Peak returns the largest sum of bookings at any instant at all.
func (p *Pool) Peak() uint64 { return p.peak(forever) }

func (p *Pool) free(s span) uint64 {
	capacity := min(p.Capacity, maxRate)
	if booked := p.peak(s); booked < capacity {
		return capacity - booked
	}
	return 0
}

func (p *Pool) peak(s span) uint64 { return uint64(max(0, p.booked.Peak(s.from, s.until))) }

// book adds rate over a span; unbook takes it away again.
func (p *Pool) book(s span, rate uint64) { p.booked.Add(s.from, s.until, int64(min(rate, maxRate))) }

func (p *Pool) unbook(s span, rate uint64) { p.booked.Add(s.from, s.until, -int64(min(rate, maxRate))) }
