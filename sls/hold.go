package sls

import (
	"fmt"
	"math"
	"net/netip"
	"time"
)

// MaxIntervals bounds the intervals of one request. A QSPEC names up to eight
// (interdomain-qosm §2), and a weekly window in them many more: this is almost a
// year of working days.
const MaxIntervals = 255

// lastSecond is the last one of the year 9999; no time beyond it is taken.
const lastSecond = 253402300799

// open is the interval of a reservation that is immediate and has no end.
var open = []span{{past, forever}}

// normalize checks a request and puts it into the form that the index takes.
func (l *Ledger) normalize(r *Request) error {
	switch {
	case r.Leg > Outbound:
		return fmt.Errorf("%w: leg %d; expected inbound or outbound", ErrRequest, r.Leg)
	case !r.Destination.IsValid():
		return fmt.Errorf("%w: it has no destination", ErrRequest)
	case r.Source.IsValid() && r.Source.Addr().Unmap().Is4() != r.Destination.Addr().Unmap().Is4():
		return fmt.Errorf("%w: source %s and destination %s are not of one IP version", ErrRequest, r.Source, r.Destination)
	case r.Class > 63:
		return fmt.Errorf("%w: class %d; expected a DSCP from 0 to 63", ErrRequest, uint8(r.Class))
	case r.Priority > 7:
		return fmt.Errorf("%w: priority %d; expected 0 to 7", ErrRequest, r.Priority)
	case len(r.Intervals) > MaxIntervals:
		return fmt.Errorf("%w: %d intervals; expected at most %d", ErrRequest, len(r.Intervals), MaxIntervals)
	}
	if r.Relative {
		r.Rate, r.MinRate, r.Peak = 0, 0, 0
	} else if r.Rate == 0 || r.Rate > MaxRate || r.MinRate > r.Rate || r.Peak > MaxRate {
		return fmt.Errorf("%w: rate %d, minimum %d, peak %d octets/s; expected 0 < rate, minimum <= rate, none above %.0f",
			ErrRequest, r.Rate, r.MinRate, r.Peak, float64(MaxRate))
	}
	r.Destination, r.Source = plain(r.Destination), plain(r.Source)
	r.Egress, r.Ingress = r.Egress.Unmap(), r.Ingress.Unmap()
	return l.readIntervals(r.Intervals)
}

// plain returns a prefix masked, and as IPv4 if it is IPv4 mapped into IPv6.
func plain(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// readIntervals sets l.spans from a request's intervals.
func (l *Ledger) readIntervals(intervals []Interval) error {
	l.spans = l.spans[:0]
	if len(intervals) == 0 {
		l.spans = append(l.spans, open...)
		return nil
	}
	for i, v := range intervals {
		s := span{past, forever}
		if !v.From.IsZero() {
			s.from = v.From.Unix()
		}
		if !v.Until.IsZero() {
			s.until = ceilSecond(v.Until)
		}
		switch {
		case s.until <= s.from || s.until <= l.now:
			return fmt.Errorf("%w: interval %d ends at %s, before it starts or in the past", ErrRequest, i+1, stamp(s.until))
		case s.from != past && max(s.from, -s.from) > lastSecond, s.until != forever && s.until > lastSecond:
			return fmt.Errorf("%w: interval %d lies beyond the year 9999", ErrRequest, i+1)
		case i > 0 && s.from < l.spans[i-1].until:
			return fmt.Errorf("%w: interval %d starts before the one before it ends", ErrRequest, i+1)
		}
		l.spans = append(l.spans, s)
	}
	return nil
}

func stamp(t int64) string {
	if t == forever {
		return "no end"
	}
	return time.Unix(t, 0).UTC().Format(time.RFC3339)
}

// leastRate is the smallest rate that will do for a request.
func leastRate(r *Request) uint64 {
	if r.MinRate == 0 {
		return r.Rate
	}
	return r.MinRate
}

// obstacle is why an offer that covers a request does not serve it in full.
type obstacle uint8

const (
	canServe obstacle = iota
	badPriority
	notThen    // not valid, or outside of the schedule
	peakTooBig // more than the SLS's PIR
	flowTooBig
	tooLittle // not enough is left
)

// quote is what an offer can do for a request.
type quote struct {
	rate uint64 // octets/s, at most what was asked
	cut  int64  // where availability ends an open request; else forever
	why  obstacle
}

// quote works out what an offer has for a request whose intervals are in
// l.spans. old is what the same leg of the reservation has committed: on the
// same offer, the larger of the two counts and never the sum.
func (l *Ledger) quote(o *offer, r *Request, old *part) quote {
	q := quote{rate: r.Rate, cut: forever}
	if o.entry.sls.Admission.Priorities>>r.Priority&1 == 0 {
		return quote{why: badPriority}
	}
	for _, s := range l.spans {
		end, ok := o.entry.when.covers(s, l.now)
		if !ok {
			return quote{why: notThen}
		}
		if s.until == forever {
			q.cut = end
		}
	}
	if r.Relative {
		return q
	}
	if q.rate > o.spec.LargestFlow {
		q.rate, q.why = o.spec.LargestFlow, flowTooBig
	}
	o.total.Advance(l.now)
	l.segments(l.spans, q.cut, o, old)
	for _, g := range l.segs {
		left := uint64(max(0, o.capacity-o.total.Peak(g.from, g.until))) + uint64(g.old)
		if left < q.rate {
			q.rate, q.why = left, tooLittle
		}
	}
	if r.Peak > o.spec.PIR && q.why == canServe {
		q.why = peakTooBig
	}
	return q
}

// serves reports whether what is quoted will do for a request. One that takes
// less than the full rate also takes a smaller peak.
func (q quote) serves(r *Request) bool {
	switch q.why {
	case canServe:
		return true
	case flowTooBig, tooLittle:
		return q.rate > 0 && q.rate >= leastRate(r)
	case peakTooBig:
		return leastRate(r) < r.Rate
	}
	return false
}

// segment is a part of a new reservation's time in which the committed one it
// replaces has the same rate throughout.
type segment struct {
	span
	old int64
}

// segments sets l.segs: spans, with an open end cut at cut, divided where old
// changes, if old is on the same offer.
func (l *Ledger) segments(spans []span, cut int64, o *offer, old *part) {
	l.segs = l.segs[:0]
	put := func(from, until, rate int64) {
		if from < until {
			l.segs = append(l.segs, segment{span{from, until}, rate})
		}
	}
	var olds []span // those that do not end before the next span begins
	if old != nil && old.offer == o {
		olds = old.times()
	}
	for _, s := range spans {
		from, until := s.from, min(s.until, cut)
		for len(olds) > 0 && olds[0].until <= from {
			olds = olds[1:]
		}
		for _, b := range olds {
			if b.from >= until {
				break
			}
			put(from, b.from, 0)
			put(max(from, b.from), min(until, b.until), int64(old.rate))
			from = min(until, b.until)
		}
		put(from, until, 0)
	}
}

// text says in a sentence what the obstacle is, and "" if there is none.
func (w obstacle) text(o *offer, r *Request, rate uint64) string {
	s := &o.entry.sls
	switch w {
	case badPriority:
		return fmt.Sprintf("%s: does not take priority %d", s.ID, r.Priority)
	case notThen:
		return fmt.Sprintf("%s: is not available throughout the time asked for", s.ID)
	case peakTooBig:
		return fmt.Sprintf("%s: peak %d octets/s is more than its PIR %d", s.ID, r.Peak, o.spec.PIR)
	case flowTooBig:
		return fmt.Sprintf("%s: %d octets/s is more than its largest flow, %d", s.ID, r.Rate, o.spec.LargestFlow)
	case tooLittle:
		return fmt.Sprintf("%s: of %d octets/s of %s, %d can still be had at that time", s.ID, o.capacity, r.Class, rate)
	}
	return ""
}

const maxWhy = 8 // sentences in a Refusal

// refuse makes the Refusal of a request that none of the candidates serves.
func (l *Ledger) refuse(r *Request, candidates []candidate, old *part) *Refusal {
	no := &Refusal{Code: NoSLS}
	if len(candidates) > 0 {
		no.Code, no.SLS = Policy, candidates[0].offer.entry.sls.ID
	}
	earliest := int64(forever)
	for _, c := range candidates {
		q := l.quote(c.offer, r, old)
		if q.why != badPriority {
			no.Code = NoCapacity
		}
		no.Largest = max(no.Largest, q.rate)
		earliest = min(earliest, l.earliest(c.offer, r))
		if len(no.Why) < maxWhy {
			no.Why = append(no.Why, q.why.text(c.offer, r, q.rate))
		}
	}
	if earliest != forever {
		no.Earliest = time.Unix(earliest, 0).UTC()
	}
	p := l.index[peers{r.Customer, r.Provider}]
	if p == nil {
		no.Why = append(no.Why, fmt.Sprintf("no SLS is between AS%d and AS%d", r.Customer, r.Provider))
		return no
	}
	for i, e := range p.entries {
		if len(no.Why) >= maxWhy {
			no.Why = append(no.Why, fmt.Sprintf("and more SLSs between these peers, of which %d were not looked at", len(p.entries)-i))
			break
		}
		if why := e.explain(r); why != "" {
			no.Why = append(no.Why, why)
		}
	}
	return no
}

// maxSearch bounds the search for a gap; beyond it, none is told.
const maxSearch = 256

// earliest returns the first instant from which an offer has the full rate for
// as long as the request's interval is, and forever if it finds none. A request
// of several intervals has no single answer. What the reservation itself has
// is taken as in use, which can only make the answer later.
func (l *Ledger) earliest(o *offer, r *Request) int64 {
	limit := o.capacity - int64(r.Rate)
	tooBig := !r.Relative && (r.Rate > o.spec.LargestFlow || r.Peak > o.spec.PIR || limit < 0)
	if len(l.spans) != 1 || tooBig || o.entry.sls.Admission.Priorities>>r.Priority&1 == 0 {
		return forever
	}
	s := l.spans[0]
	t := max(s.from, l.now)
	length := int64(0) // open: for as long as the SLS is available
	if s.until != forever {
		length = s.until - t
	}
	for range maxSearch {
		w, ok := o.entry.when.next(t)
		if !ok {
			return forever
		}
		t = max(t, w.from)
		end := w.until
		if length > 0 {
			if w.until != forever && length > w.until-t {
				t = w.until
				continue
			}
			end = t + length
		}
		busy := end
		if !r.Relative {
			busy = o.total.FirstAbove(t, limit)
		}
		if busy >= end {
			return t
		}
		if t = o.total.FirstWithin(busy, limit); t == forever {
			return forever
		}
	}
	return forever
}

// part is one leg of a reservation, committed or held.
type part struct {
	owner               *reservation
	offer               *offer
	next, prev          *part  // in offer.parts
	spans               []span // nil: open
	rate, peak, burst   uint64
	source, destination netip.Prefix
	egress, ingress     netip.Addr
	version             uint32
	chase               *chase // nil: it neither preempts nor would be preempted
	leg                 Leg
	priority            uint8
	isHeld              bool
	defending           uint16
}

func (p *part) times() []span {
	if p.spans == nil {
		return open
	}
	return p.spans
}

// end returns when the part's last interval ends.
func (p *part) end() int64 {
	if p.spans == nil {
		return forever
	}
	return p.spans[len(p.spans)-1].until
}

// enlist and unlist keep the list of an offer's parts.
func (p *part) enlist() {
	o := p.offer
	o.count++
	p.next = o.parts
	if p.next != nil {
		p.next.prev = p
	}
	o.parts = p
}

func (p *part) unlist() {
	o := p.offer
	o.count--
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		o.parts = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.next, p.prev = nil, nil
}

// charge enters a committed part into its offer's account, or with sign -1
// takes it out.
func (l *Ledger) charge(p *part, sign int64) {
	if p.offer.spec.Relative {
		return
	}
	p.offer.total.Advance(l.now)
	for _, s := range p.times() {
		p.offer.total.Add(s.from, s.until, sign*int64(p.rate))
	}
}

// chargeHold enters a held part, or with sign -1 takes it out: what it needs
// beyond what the leg has committed, and its prey have, on the same offer.
func (l *Ledger) chargeHold(p *part, sign int64) {
	if p.offer.spec.Relative {
		return
	}
	o := p.offer
	o.total.Advance(l.now)
	o.held.Advance(l.now)
	l.segments(p.times(), forever, o, p.owner.committed[p.leg])
	if p.hunts() {
		l.cover(p.chase.prey)
	}
	for _, g := range l.segs {
		more := sign * max(0, int64(p.rate)-g.old)
		o.total.Add(g.from, g.until, more)
		o.held.Add(g.from, g.until, more)
	}
}

// confirm makes a held part a committed one, where it replaces none and keeps
// its rate: the total stays as it is.
func (l *Ledger) confirm(p *part) {
	p.offer.held.Advance(l.now)
	for _, s := range p.times() {
		p.offer.held.Add(s.from, s.until, -int64(p.rate))
	}
}

// booking writes a part the way callers see it.
func (p *part) booking() Booking {
	b := Booking{
		ID: p.owner.id, Leg: p.leg, Version: p.version, SLS: p.offer.entry.sls.ID, Held: p.isHeld,
		Egress: p.egress, Ingress: p.ingress, Source: p.source, Destination: p.destination,
		Class: p.offer.spec.Class, Relative: p.offer.spec.Relative,
		Rate: p.rate, Peak: p.peak, Burst: p.burst, Priority: p.priority, Defending: p.defending,
	}
	if p.spans == nil {
		b.Intervals = []Interval{{}}
		return b
	}
	for _, s := range p.spans {
		var v Interval
		if s.from != past {
			v.From = time.Unix(s.from, 0).UTC()
		}
		if s.until != forever {
			v.Until = time.Unix(s.until, 0).UTC()
		}
		b.Intervals = append(b.Intervals, v)
	}
	return b
}

// nanos turns an instant in seconds into nanoseconds for the deadline heap.
func nanos(t int64) int64 {
	if t >= math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return t * int64(time.Second)
}
