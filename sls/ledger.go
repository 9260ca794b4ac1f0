package sls

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"time"
)

// Errors that a caller tells apart. Hold also returns *Refusal; Put and Delete
// return *Conflict and *Invalid.
var (
	// ErrNoHold: there is no hold of this version; it expired, or never was.
	ErrNoHold = errors.New("sls: no hold of this version")
	// ErrStale: the ledger already has a higher version of this reservation.
	ErrStale = errors.New("sls: a higher version is already held or committed")
	// ErrTooMany: the limit on holds or on reservations is reached.
	ErrTooMany = errors.New("sls: too many reservations")
	// ErrRequest: the request itself makes no sense.
	ErrRequest = errors.New("sls: bad request")
	// ErrUnknown: there is no such SLS, or it does not sell this class.
	ErrUnknown = errors.New("sls: unknown SLS or class")
)

// Config bounds a Ledger.
type Config struct {
	HoldTime        time.Duration // life of a hold; zero: 60 s (interdomain-qosm §6)
	MaxHolds        int           // IDs with a hold at the same time; zero: 100,000
	MaxReservations int           // IDs in all; zero: 10,000,000
}

// Ledger is the account of what is sold (interdomain-qosm §5). It is used from
// one goroutine at a time. Its time never goes back: a now before one that was
// handed in earlier counts as the later one.
type Ledger struct {
	cfg   Config
	nano  int64 // now, in nanoseconds and in seconds since 1970
	now   int64
	slss  map[string]*entry
	index index
	byID  map[ID]*reservation
	due   deadlines
	holds int // reservations with a hold
	firm  int // reservations with a committed leg

	// Room to work in, kept from call to call.
	spans []span
	segs  []segment
	found []candidate

	displaced []ID // by the last Commit
}

// reservation is what the ledger has under one ID.
type reservation struct {
	id              ID
	committed, held [2]*part // by leg
	heldVersion     uint32   // the newest held
	heldUntil       int64    // nanoseconds
	due             int64    // nanoseconds: key in the heap
	place           int32    // index in the heap plus one; 0: not in it
}

// New returns an empty ledger.
func New(cfg Config) *Ledger {
	cfg.HoldTime = cmp.Or(cfg.HoldTime, 60*time.Second)
	cfg.MaxHolds = cmp.Or(cfg.MaxHolds, 100_000)
	cfg.MaxReservations = cmp.Or(cfg.MaxReservations, 10_000_000)
	return &Ledger{
		cfg: cfg, slss: make(map[string]*entry), index: make(index), byID: make(map[ID]*reservation),
	}
}

func (l *Ledger) advance(now time.Time) {
	if t := now.Unix(); t >= math.MaxInt64/int64(time.Second) {
		l.now, l.nano = max(l.now, t), math.MaxInt64-1
	} else if t > 0 {
		l.now, l.nano = max(l.now, t), max(l.nano, now.UnixNano())
	}
}

// newer reports whether version a is after b, in serial number arithmetic.
// RFC 5974 §5.3.1
func newer(a, b uint32) bool { return int32(a-b) > 0 }

// Hold takes capacity for a request under the ID's hold, which lasts HoldTime
// from the first Hold of that version. Among the SLSs that cover the request
// the most specific one that has the full rate serves it; if none has, and the
// request takes less, the one that has most. A higher version than what is
// committed is a modification: the larger of the two counts until Commit or
// Drop (interdomain-qosm §6). A repeat of a version already held or committed
// on this leg returns what was granted then. A request that nothing is left for
// may preempt: see Request.Preempting. Hold returns *Refusal, ErrStale,
// ErrTooMany or ErrRequest.
func (l *Ledger) Hold(now time.Time, r Request) (Grant, error) {
	l.advance(now)
	if err := l.normalize(&r); err != nil {
		return Grant{}, err
	}
	res := l.byID[r.ID]
	var before, old *part // an earlier hold of this leg, and what it has committed
	if res != nil {
		before, old = res.held[r.Leg], res.committed[r.Leg]
		for _, p := range []*part{before, old} {
			switch {
			case p == nil:
			case p.version == r.Version:
				return p.grant(), nil
			case newer(p.version, r.Version):
				return Grant{}, fmt.Errorf("%w: version %d after %d", ErrStale, r.Version, p.version)
			}
		}
	}
	if err := l.roomFor(res); err != nil {
		return Grant{}, err
	}
	if before != nil {
		l.chargeHold(before, -1)
	}
	o, q := l.choose(&r, old)
	var prey []*part
	if o == nil {
		o, q, prey = l.preempt(&r, res, old, before)
	}
	if o == nil {
		refusal := l.refuse(&r, l.found, old)
		if before != nil {
			l.chargeHold(before, +1)
		}
		return Grant{}, refusal
	}
	if before != nil {
		before.unlist()
		before.spare()
	}
	p := l.hold(res, &r, o, q, prey)
	return p.grant(), nil
}

// roomFor checks the bounds before a hold is added.
func (l *Ledger) roomFor(res *reservation) error {
	if res == nil && len(l.byID) >= l.cfg.MaxReservations {
		return fmt.Errorf("%w: %d reservations", ErrTooMany, len(l.byID))
	}
	if (res == nil || !res.hasHold()) && l.holds >= l.cfg.MaxHolds {
		return fmt.Errorf("%w: %d holds", ErrTooMany, l.holds)
	}
	return nil
}

// choose finds the offer that serves a request, nil if none does. The
// candidates stay in l.found.
func (l *Ledger) choose(r *Request, old *part) (*offer, quote) {
	l.found = l.index.candidates(l.found[:0], r)
	var best *offer
	var most quote
	for _, c := range l.found {
		q := l.quote(c.offer, r, old)
		if q.why == canServe {
			return c.offer, q
		}
		if q.serves(r) && (best == nil || q.rate > most.rate) {
			best, most = c.offer, q
		}
	}
	return best, most
}

// hold enters a new held part, in the place of an earlier one of its leg.
func (l *Ledger) hold(res *reservation, r *Request, o *offer, q quote, prey []*part) *part {
	if res == nil {
		res = &reservation{id: r.ID}
		l.byID[r.ID] = res
	}
	if !res.hasHold() {
		l.holds++
	}
	if !res.hasHold() || newer(r.Version, res.heldVersion) {
		res.heldVersion = r.Version
		res.heldUntil = l.nano + int64(l.cfg.HoldTime)
	}
	p := &part{
		owner: res, offer: o, version: r.Version, leg: r.Leg, isHeld: true,
		rate: q.rate, peak: min(r.Peak, o.spec.PIR), burst: r.Burst, priority: r.Priority, defending: r.Defending,
		source: r.Source, destination: r.Destination, egress: r.Egress, ingress: r.Ingress,
	}
	if len(l.spans) != 1 || l.spans[0] != open[0] || q.cut != forever {
		p.spans = slices.Clone(l.spans)
		last := &p.spans[len(p.spans)-1]
		last.until = min(last.until, q.cut)
	}
	res.set(r.Leg, res.committed[r.Leg], p)
	p.enlist()
	p.hunt(prey)
	l.chargeHold(p, +1)
	l.schedule(res)
	return p
}

func (p *part) grant() Grant {
	s := &p.offer.spec
	g := Grant{
		SLS: p.offer.entry.sls.ID, Rate: p.rate, Peak: p.peak,
		Wire: s.Wire, Inside: s.Inside, Excess: s.Excess, ExcessClass: s.ExcessClass,
		Delay: s.Delay, Jitter: s.Jitter, Loss: s.Loss,
	}
	g.Displaces = p.preyIDs()
	if end := p.end(); end != forever {
		g.Until = time.Unix(end, 0).UTC()
	}
	return g
}

// set says what a leg has.
func (res *reservation) set(leg Leg, committed, held *part) {
	res.countChange(leg, -1)
	res.committed[leg], res.held[leg] = committed, held
	res.countChange(leg, +1)
}

// countChange counts a leg's modification, which is one reservation, held and
// committed.
func (res *reservation) countChange(leg Leg, sign int) {
	if c, h := res.committed[leg], res.held[leg]; c != nil && h != nil && c.offer == h.offer {
		h.offer.changing += sign
	}
}

func (res *reservation) hasHold() bool   { return res.held != [2]*part{} }
func (res *reservation) hasCommit() bool { return res.committed != [2]*part{} }

// Commit makes every leg's hold of this version the reservation, shrunk to
// rate (octets/s; ignored for a relative one), in place of what an earlier
// version had. It returns all legs of the reservation as they are now; the
// caller may keep them. A hold that preempts ends others with that: see
// Displaced. Committing the same version again changes nothing and
// returns the same. It returns ErrNoHold when no leg has this version, and
// ErrRequest when rate is zero or more than is held; nothing is changed then.
func (l *Ledger) Commit(now time.Time, id ID, version uint32, rate uint64) ([]Booking, error) {
	l.advance(now)
	l.displaced = l.displaced[:0]
	res := l.byID[id]
	if res == nil {
		return nil, fmt.Errorf("%w: reservation %s", ErrNoHold, id)
	}
	held, done := false, false
	for leg := range res.held {
		if p := res.held[leg]; p != nil && p.version == version && l.nano < res.heldUntil {
			held = true
			if !p.offer.spec.Relative && (rate == 0 || rate > p.rate) {
				return nil, fmt.Errorf("%w: commit of %d octets/s, of which %d are held on %s",
					ErrRequest, rate, p.rate, p.offer.entry.sls.ID)
			}
		}
		if p := res.committed[leg]; p != nil && p.version == version {
			done = true
		}
	}
	if !held && !done {
		return nil, fmt.Errorf("%w: reservation %s version %d", ErrNoHold, id, version)
	}
	if held {
		l.commit(res, version, rate)
	}
	return committedBookings(res), nil
}

func (l *Ledger) commit(res *reservation, version uint32, rate uint64) {
	if !res.hasCommit() {
		l.firm++
	}
	for leg, p := range res.held {
		if p == nil || p.version != version {
			continue
		}
		old := res.committed[leg]
		if p.isHeld = false; old == nil && rate == p.rate && !p.offer.spec.Relative && p.chase == nil {
			l.confirm(p)
		} else {
			l.chargeHold(p, -1)
			if !p.offer.spec.Relative {
				p.rate = rate
			}
			if p.hunts() {
				l.displace(p)
			}
			var hunter *part
			if old != nil {
				hunter = l.unsettle(old)
				l.charge(old, -1)
				old.unlist()
			}
			l.charge(p, +1)
			l.settlePrey(hunter, old, p)
		}
		res.set(Leg(leg), p, nil)
	}
	if !res.hasHold() {
		l.holds--
	}
	l.schedule(res)
}

func committedBookings(res *reservation) []Booking {
	list := make([]Booking, 0, len(res.committed))
	for _, p := range res.committed {
		if p != nil {
			list = append(list, p.booking())
		}
	}
	return list
}

// Drop gives up the hold of this version on all legs; what is committed stays.
// It says whether there was one.
func (l *Ledger) Drop(id ID, version uint32) bool {
	res := l.byID[id]
	if res == nil {
		return false
	}
	return l.dropHolds(res, func(p *part) bool { return p.version == version })
}

// dropHolds gives up the holds that which picks.
func (l *Ledger) dropHolds(res *reservation, which func(*part) bool) bool {
	dropped := false
	for leg, p := range res.held {
		if p != nil && which(p) {
			l.chargeHold(p, -1)
			p.spare()
			p.unlist()
			res.set(Leg(leg), res.committed[leg], nil)
			dropped = true
		}
	}
	if dropped && !res.hasHold() {
		l.holds--
	}
	l.settle(res)
	return dropped
}

// settle forgets a reservation of which nothing is left, or else sees to its
// deadline.
func (l *Ledger) settle(res *reservation) {
	if res.hasHold() || res.hasCommit() {
		l.schedule(res)
		return
	}
	l.due.remove(res)
	delete(l.byID, res.id)
}

// Release gives up everything of a reservation. It says whether there was
// anything.
func (l *Ledger) Release(id ID) bool {
	_, ok := l.byID[id]
	l.ReleaseLeg(id, Inbound)
	l.ReleaseLeg(id, Outbound)
	return ok
}

// ReleaseLeg gives up one leg of a reservation, held and committed, as when a
// changed route no longer uses it. It says whether there was anything.
func (l *Ledger) ReleaseLeg(id ID, leg Leg) bool {
	res := l.byID[id]
	if res == nil || leg > Outbound || res.held[leg] == nil && res.committed[leg] == nil {
		return false
	}
	l.dropHolds(res, func(p *part) bool { return p.leg == leg })
	l.dropCommitted(res, leg)
	return true
}

// dropCommitted gives up what a leg has committed. A hold of the leg goes on,
// charged in full.
func (l *Ledger) dropCommitted(res *reservation, leg Leg) {
	p := res.committed[leg]
	if p == nil {
		return
	}
	h := res.held[leg]
	if h != nil {
		l.chargeHold(h, -1)
	}
	hunter := l.unsettle(p)
	l.charge(p, -1)
	p.unlist()
	res.set(leg, nil, h)
	if h != nil {
		l.chargeHold(h, +1)
	}
	l.settlePrey(hunter, p, nil)
	if !res.hasCommit() {
		l.firm--
	}
	l.settle(res)
}

// Expire gives up holds that are too old and reservations whose last interval
// has ended, and returns their IDs; the caller may keep them. Bookings tells
// what is left of one: a modification whose hold expired keeps what was
// committed before.
func (l *Ledger) Expire(now time.Time) []ID {
	l.advance(now)
	var ids []ID
	for len(l.due) > 0 && l.due[0].due <= l.nano {
		res := l.due[0]
		ids = append(ids, res.id)
		if res.hasHold() && res.heldUntil <= l.nano {
			l.dropHolds(res, func(*part) bool { return true })
		}
		for leg, p := range res.committed {
			if p != nil && p.end() <= l.now {
				l.dropCommitted(res, Leg(leg))
			}
		}
	}
	return ids
}

// Deadline returns when Expire has something to do next; zero: never.
func (l *Ledger) Deadline() time.Time {
	if len(l.due) == 0 {
		return time.Time{}
	}
	return time.Unix(0, l.due[0].due)
}

// schedule puts a reservation at its place among the deadlines.
func (l *Ledger) schedule(res *reservation) {
	due := int64(math.MaxInt64)
	if res.hasHold() {
		due = res.heldUntil
	}
	for _, p := range res.committed {
		if p != nil {
			due = min(due, nanos(p.end()))
		}
	}
	if due == math.MaxInt64 {
		l.due.remove(res)
		return
	}
	l.due.put(res, due)
}

// Restore puts committed bookings back at start-up, after LoadSLS. What was
// promised is restored even if it is more than an SLS now allows. Bookings
// whose SLS or class is gone, and those of a leg that is already there, are
// left out and named in the error.
func (l *Ledger) Restore(now time.Time, bookings []Booking) error {
	l.advance(now)
	var errs []error
	for i := range bookings {
		if err := l.restore(&bookings[i]); err != nil {
			errs = append(errs, fmt.Errorf("reservation %s, %s: %w", bookings[i].ID, bookings[i].Leg, err))
		}
	}
	return errors.Join(errs...)
}

func (l *Ledger) restore(b *Booking) error {
	e := l.slss[b.SLS]
	if e == nil {
		return fmt.Errorf("%w: SLS %q", ErrUnknown, b.SLS)
	}
	o := e.offer(b.Class)
	if o == nil || o.spec.Relative != b.Relative {
		return fmt.Errorf("%w: %s of SLS %q", ErrUnknown, b.Class, b.SLS)
	}
	res := l.byID[b.ID]
	if b.Held || b.Leg > Outbound || b.Rate > MaxRate || res != nil && res.committed[b.Leg] != nil {
		return fmt.Errorf("%w: held, of an unknown leg, too large, or already there", ErrRequest)
	}
	p := &part{
		offer: o, version: b.Version, leg: b.Leg, priority: b.Priority, defending: b.Defending,
		rate: b.Rate, peak: b.Peak, burst: b.Burst,
		source: b.Source, destination: b.Destination, egress: b.Egress, ingress: b.Ingress,
	}
	for _, v := range b.Intervals {
		s := span{past, forever}
		if !v.From.IsZero() {
			s.from = v.From.Unix()
		}
		if !v.Until.IsZero() {
			s.until = ceilSecond(v.Until)
		}
		p.spans = append(p.spans, s)
	}
	if len(p.spans) == 1 && p.spans[0] == open[0] {
		p.spans = nil
	}
	if res == nil {
		res = &reservation{id: b.ID}
		l.byID[b.ID] = res
	}
	if !res.hasCommit() {
		l.firm++
	}
	p.owner = res
	res.set(b.Leg, p, res.held[b.Leg])
	p.enlist()
	l.charge(p, +1)
	l.schedule(res)
	return nil
}

// Usage is what an SLS has sold of a class at one instant; octets/s.
type Usage struct {
	Committed, Held, Capacity uint64
	// Reservations counts those of any time, committed or held.
	Reservations int
}

// Usage returns what is sold of a class at an instant; one that has passed
// counts as now. ErrUnknown if there is no such SLS or it does not sell the
// class.
func (l *Ledger) Usage(id string, c Class, at time.Time) (Usage, error) {
	e := l.slss[id]
	if e == nil {
		return Usage{}, fmt.Errorf("%w: SLS %q", ErrUnknown, id)
	}
	o := e.offer(c)
	if o == nil {
		return Usage{}, fmt.Errorf("%w: %s of SLS %q", ErrUnknown, c, id)
	}
	return l.usage(o, at), nil
}

// Total returns the sum of every SLS's and class's Usage at an instant.
func (l *Ledger) Total(at time.Time) Usage {
	var sum Usage
	for _, e := range l.slss {
		for _, o := range e.offers {
			u := l.usage(o, at)
			sum.Committed += u.Committed
			sum.Held += u.Held
			sum.Capacity += u.Capacity
			sum.Reservations += u.Reservations
		}
	}
	return sum
}

// usage looks at no single reservation.
func (l *Ledger) usage(o *offer, at time.Time) Usage {
	o.total.Advance(l.now)
	o.held.Advance(l.now)
	t := max(at.Unix(), l.now)
	held := o.held.At(t)
	return Usage{Committed: uint64(o.total.At(t) - held), Held: uint64(held), Capacity: uint64(o.capacity),
		Reservations: o.count - o.changing}
}

// Bookings returns what the ledger has for a reservation: committed legs, then
// held ones.
func (l *Ledger) Bookings(id ID) []Booking {
	res := l.byID[id]
	if res == nil {
		return nil
	}
	list := committedBookings(res)
	for _, p := range res.held {
		if p != nil {
			list = append(list, p.booking())
		}
	}
	return list
}

// BySLS yields the bookings of one SLS, in no order. The ledger must not be
// changed meanwhile.
func (l *Ledger) BySLS(id string) iter.Seq[Booking] {
	return func(yield func(Booking) bool) {
		e := l.slss[id]
		if e == nil {
			return
		}
		for _, o := range e.offers {
			for p := o.parts; p != nil; p = p.next {
				if !yield(p.booking()) {
					return
				}
			}
		}
	}
}

// Stats counts what the ledger has.
type Stats struct {
	SLSs, Committed, Held int // SLSs; reservations with a committed leg; with a hold
}

// Stats returns counts.
func (l *Ledger) Stats() Stats {
	return Stats{SLSs: len(l.slss), Committed: l.firm, Held: l.holds}
}

// sorted returns the ids of all SLSs in order.
func (l *Ledger) sorted() []string { return slices.Sorted(maps.Keys(l.slss)) }

// deadlines is a heap of reservations by due.
type deadlines []*reservation

// put enters a reservation, or moves it to its new place.
func (d *deadlines) put(res *reservation, due int64) {
	res.due = due
	if res.place == 0 {
		*d = append(*d, res)
		res.place = int32(len(*d))
	}
	d.fix(int(res.place) - 1)
}

func (d *deadlines) remove(res *reservation) {
	if res.place == 0 {
		return
	}
	h, i := *d, int(res.place)-1
	last := len(h) - 1
	h.swap(i, last)
	h[last] = nil
	*d = h[:last]
	res.place = 0
	if i < last {
		d.fix(i)
	}
}

func (d deadlines) swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = int32(i+1), int32(j+1)
}

func (d deadlines) fix(i int) {
	for i > 0 && d[i].due < d[(i-1)/2].due {
		d.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for _, c := range []int{2*i + 1, 2*i + 2} {
			if c < len(d) && d[c].due < d[least].due {
				least = c
			}
		}
		if least == i {
			return
		}
		d.swap(i, least)
		i = least
	}
}
