package intradomain

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrStale is wrapped by the answer to a Hold that is older than what is there.
var ErrStale = errors.New("older than what is there")

// Book is what a driver keeps of its reservations: holds and commitments, and
// the pools that they take from. It is the part of Controller's contract that
// all drivers have in common: idempotence by ID and version, the larger of two
// versions during a modification, all pools or none. A Book is used from one
// goroutine, or under its driver's lock.
type Book struct {
	entries map[ID]entry
	// displacing says which hold counts on what a reservation has committed.
	displacing map[ID]ID
}

// entry has a committed version, a held one, or both.
type entry struct{ committed, held *version }

type version struct {
	request Request
	pools   []*Pool
	// pieces is what is booked: for a commitment all of it, for a hold beside
	// a commitment what it needs more.
	pieces []piece
}

type piece struct {
	pool *Pool
	span span
	rate uint64
}

// NewBook returns an empty Book.
func NewBook() *Book { return &Book{entries: map[ID]entry{}, displacing: map[ID]ID{}} }

// newer compares versions, which are RSNs, as serial numbers, so that they may wrap.
//
// RFC 5974 §5.1.3.2
func newer(a, b uint32) bool { return int32(a-b) > 0 }

// Has says whether this version is held or committed already: Hold of it would
// change nothing. An error wraps ErrStale.
func (b *Book) Has(id ID, v uint32) (bool, error) {
	e := b.entries[id]
	for _, have := range []*version{e.committed, e.held} {
		switch {
		case have == nil:
		case have.request.Version == v:
			return true, nil
		case newer(have.request.Version, v):
			return false, fmt.Errorf("hold of version %d, version %d is there: %w", v, have.request.Version, ErrStale)
		}
	}
	return false, nil
}

// Hold books a request's CIR in all pools, or in none. The answer is nil, a
// *Refusal, or wraps ErrStale. A hold of an earlier version is replaced; if the
// new one is refused, it stays.
func (b *Book) Hold(r Request, pools []*Pool) error {
	if has, err := b.Has(r.ID, r.Version); has || err != nil {
		return err
	}
	e := b.entries[r.ID]
	v := &version{request: r, pools: pools}
	v.plan(b.covers(&r, false)...)
	if e.held != nil {
		e.held.unbook()
	}
	if !v.fits() {
		refusal := b.refuse(v, e.committed)
		if e.held != nil {
			e.held.book()
		}
		return refusal
	}
	if e.held != nil {
		b.spare(&e.held.request)
	}
	v.book()
	e.held = v
	b.entries[r.ID] = e
	b.displace(&r)
	return nil
}

// plan says which pieces a version needs beyond what covers it, its own
// commitment and what it displaces: in each pool the larger of both counts at every
// instant.
func (v *version) plan(covers ...*version) {
	rate := v.request.QoS.CIR
	if rate == 0 {
		return
	}
	spans := v.request.spans()
	v.pieces = make([]piece, 0, len(v.pools)*len(spans))
	for _, pool := range v.pools {
		for _, s := range spans {
			v.beyond(pool, s, rate, covers)
		}
	}
}

// beyond adds what rate over s needs in a pool where the covers have their pieces,
// which are in order of time.
func (v *version) beyond(pool *Pool, s span, rate uint64, covers []*version) {
	if s.empty() || rate == 0 {
		return
	}
	if len(covers) == 0 {
		v.pieces = append(v.pieces, piece{pool, s, rate})
		return
	}
	for _, have := range covers[0].pieces {
		common := s.overlap(have.span)
		if have.pool != pool || common.empty() {
			continue
		}
		v.beyond(pool, span{s.from, common.from}, rate, covers[1:])
		v.beyond(pool, common, rate-min(have.rate, rate), covers[1:])
		s.from = common.until
	}
	v.beyond(pool, s, rate, covers[1:])
}

func (v *version) fits() bool {
	for i := range v.pieces {
		if p := &v.pieces[i]; p.rate > p.pool.free(p.span) {
			return false
		}
	}
	return true
}

func (v *version) book() {
	for i := range v.pieces {
		v.pieces[i].pool.book(v.pieces[i].span, v.pieces[i].rate)
	}
}

func (v *version) unbook() {
	for i := range v.pieces {
		v.pieces[i].pool.unbook(v.pieces[i].span, v.pieces[i].rate)
	}
}

// refuse says what v could have had, and where it was short: what its own
// commitment holds is its to keep.
func (b *Book) refuse(v, committed *version) *Refusal {
	if committed != nil {
		committed.unbook()
		defer committed.book()
	}
	tightest, offer := leastFree(&v.request, v.pools)
	return &Refusal{Where: tightest.Where, Offer: offer,
		Reason: fmt.Sprintf("%d octets/s asked, %d of %d free", v.request.QoS.CIR, offer, tightest.Capacity)}
}

// leastFree returns the pool that has the least left for all of a request's times,
// and how much; nil and the largest rate there is where there are no pools.
func leastFree(r *Request, pools []*Pool) (tightest *Pool, free uint64) {
	free = math.MaxUint64
	for _, s := range r.spans() {
		for _, pool := range pools {
			if f := pool.free(s); tightest == nil || f < free {
				tightest, free = pool, f
			}
		}
	}
	return tightest, free
}

// Free returns the largest rate that a request could have in all of its pools,
// octets per second: what its own commitment has counts as free. Without pools it
// is the largest there is.
func (b *Book) Free(r *Request, pools []*Pool) uint64 {
	if c := b.entries[r.ID].committed; c != nil {
		c.unbook()
		defer c.book()
	}
	_, free := leastFree(r, pools)
	return free
}

// Prepare returns the request as Commit with the same values will make it
// effective, and done true if it is already. The error wraps ErrNoHold.
func (b *Book) Prepare(id ID, v uint32, cir uint64) (r Request, done bool, err error) {
	e := b.entries[id]
	if e.committed != nil && e.committed.request.Version == v {
		return e.committed.request, true, nil
	}
	if e.held == nil || e.held.request.Version != v {
		return Request{}, false, fmt.Errorf("version %d of %x: %w", v, id, ErrNoHold)
	}
	return Shrink(e.held.request, cir), false, nil
}

// Shrink returns a request with its CIR lowered to cir, unless that is 0 or no
// less. A PIR that was no more than the CIR goes with it.
func Shrink(r Request, cir uint64) Request {
	if cir != 0 && cir < r.QoS.CIR {
		if r.QoS.PIR <= r.QoS.CIR {
			r.QoS.PIR = cir
		}
		r.QoS.CIR = cir
	}
	return r
}

// Commit makes a hold the reservation's only version, shrunk to cir unless that
// is 0. The error wraps ErrNoHold.
func (b *Book) Commit(id ID, v uint32, cir uint64) error {
	r, done, err := b.Prepare(id, v, cir)
	if done || err != nil {
		return err
	}
	e := b.entries[id]
	e.held.unbook()
	if e.committed != nil {
		e.committed.unbook()
	}
	b.spare(&e.held.request)
	r.Displaces = nil // they go by themselves
	b.put(r, e.held.pools)
	return nil
}

// put books a commitment, whether or not it fits.
func (b *Book) put(r Request, pools []*Pool) {
	v := &version{request: r, pools: pools}
	v.plan()
	v.book()
	b.entries[r.ID] = entry{committed: v}
	b.settle(r.ID)
}

// Adopt enters what a device turns out to have as committed, whether or not it
// fits. What the Book knows of the same reservation goes.
func (b *Book) Adopt(r Request, pools []*Pool) {
	b.Release(r.ID)
	b.put(r, pools)
}

// Drop gives up a hold.
func (b *Book) Drop(id ID, v uint32) {
	e := b.entries[id]
	if e.held == nil || e.held.request.Version != v {
		return
	}
	e.held.unbook()
	b.spare(&e.held.request)
	if e.held = nil; e.committed == nil {
		delete(b.entries, id)
		return
	}
	b.entries[id] = e
}

// Release gives up everything that a reservation has.
func (b *Book) Release(id ID) {
	e := b.entries[id]
	if e.held != nil {
		e.held.unbook()
		b.spare(&e.held.request)
	}
	if e.committed != nil {
		e.committed.unbook()
	}
	delete(b.entries, id)
	b.settle(id)
}

// Committed returns a reservation's committed request.
func (b *Book) Committed(id ID) (Request, bool) {
	if e := b.entries[id]; e.committed != nil {
		return e.committed.request, true
	}
	return Request{}, false
}

// Held returns a reservation's held request.
func (b *Book) Held(id ID) (Request, bool) {
	if e := b.entries[id]; e.held != nil {
		return e.held.request, true
	}
	return Request{}, false
}

// Len returns how many reservations there are.
func (b *Book) Len() int { return len(b.entries) }

// List returns everything held or committed, in order of ID; of a reservation
// that is being modified both versions, the committed one first.
func (b *Book) List() []Held {
	list := make([]Held, 0, len(b.entries))
	for id, e := range b.entries {
		if e.committed != nil {
			list = append(list, Held{ID: id, Version: e.committed.request.Version, Committed: true, Request: e.committed.request})
		}
		if e.held != nil {
			list = append(list, Held{ID: id, Version: e.held.request.Version, Request: e.held.request})
		}
	}
	SortHeld(list)
	return list
}

// SortHeld sorts by ID, committed ones first.
func SortHeld(list []Held) {
	slices.SortStableFunc(list, func(x, y Held) int {
		if c := bytes.Compare(x.ID[:], y.ID[:]); c != 0 || x.Committed == y.Committed {
			return c
		}
		if x.Committed {
			return -1
		}
		return 1
	})
}
