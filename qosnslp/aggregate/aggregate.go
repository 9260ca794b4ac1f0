// Package aggregate is what an aggregator decides (RFC 5974 §3.2.10.3, §4.5): how
// much one reservation for many end-to-end sessions is to be, and which of them it
// has room for. It is a layer above a qosnslp.Machine, which signals what is decided
// here: "the QoS NSLP does not specify how reservations need to be combined in an
// aggregate".
package aggregate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
)

// Policy says how an aggregate grows and shrinks. Rates and sizes have one unit, the
// layer above's.
type Policy struct {
	// Block: the size is a multiple of it, so that few sessions change it. Not 0.
	Block uint64
	// Max is the largest size. 0: none but what the path refuses.
	Max uint64
	// Idle: the size goes down when less has been enough for so long, to the most
	// that was needed in that time.
	Idle time.Duration
	// Retry: after a growth was refused none is asked for for so long.
	Retry time.Duration
	// MaxSessions bounds the sessions, those that wait included. 0: 65,536.
	MaxSessions int
}

// DefaultMaxSessions is Policy.MaxSessions.
const DefaultMaxSessions = 65_536

// Decision is what becomes of a session.
type Decision uint8

// Decisions.
const (
	// Refused: there is no room, and the aggregate does not grow for it.
	Refused Decision = iota
	// Fits: the aggregate as it stands carries it.
	Fits
	// Grows: it does when it has become as large as Size says, and is to be asked
	// for that now. The session's RESERVE can go on at once with a BOUND-MSG-ID,
	// and the aggregate's with the MSG-ID (RFC 5974 §4.6).
	Grows
	// Waits: the aggregate's size is changing already; Resized says what becomes
	// of the session.
	Waits
)

// Aggregate is the sum of the sessions in one aggregate. It is used from one
// goroutine.
type Aggregate struct {
	policy   Policy
	size     uint64 // that stands
	asked    uint64 // for, where changing
	changing bool
	used     uint64
	sessions map[gistwire.SID]uint64
	rider    gistwire.SID // that the growth under way is for, if it goes on beside it
	hasRider bool
	waiting  []waiter
	low      time.Time // since then less than the size is enough; zero: it is not
	peak     uint64    // the most that was used since
	noGrowth time.Time // until then
}

type waiter struct {
	sid  gistwire.SID
	rate uint64
}

// Outcome is what follows from a change of the aggregate's size.
type Outcome struct {
	Go      []gistwire.SID // they have waited, and fit now
	Refused []gistwire.SID // they have waited in vain
	Grow    bool           // for those that wait still: ask for Size next
	Size    uint64
}

// New makes an aggregate of size 0.
func New(p Policy) (*Aggregate, error) {
	switch {
	case p.Block == 0:
		return nil, errors.New("aggregate: Block is 0: want the step in which it grows")
	case p.Max%p.Block != 0:
		return nil, fmt.Errorf("aggregate: Max is %d: want a multiple of Block, %d", p.Max, p.Block)
	case p.Idle < 0 || p.Retry < 0 || p.MaxSessions < 0:
		return nil, errors.New("aggregate: a negative Idle, Retry or MaxSessions")
	}
	if p.MaxSessions == 0 {
		p.MaxSessions = DefaultMaxSessions
	}
	return &Aggregate{policy: p, sessions: make(map[gistwire.SID]uint64)}, nil
}

// Admit takes in a session, or changes its rate. With Grows, size is what the
// aggregate is to be asked for.
func (a *Aggregate) Admit(now time.Time, sid gistwire.SID, rate uint64) (d Decision, size uint64) {
	old, known := a.sessions[sid]
	i := a.waits(sid)
	switch {
	case known && rate <= old && !(a.hasRider && a.rider == sid): // less never has to wait
		if i >= 0 {
			a.waiting = slices.Delete(a.waiting, i, i+1)
		}
		a.set(now, sid, rate)
		return Fits, 0
	case i >= 0:
		a.waiting[i].rate = rate
		return Waits, 0
	}
	if !known && len(a.sessions)+len(a.waiting) >= a.policy.MaxSessions {
		return Refused, 0
	}
	need := a.used - old + rate
	size, possible := a.blocks(need)
	if !possible || need < rate {
		return Refused, 0
	}
	switch {
	case need <= a.sure():
		a.set(now, sid, rate)
		return Fits, 0
	case a.changing:
		a.waiting = append(a.waiting, waiter{sid, rate})
		return Waits, 0
	case now.Before(a.noGrowth):
		return Refused, 0
	}
	if !known { // a change goes on with what it has until there is more
		a.set(now, sid, rate)
		a.rider, a.hasRider = sid, true
		a.ask(size)
		return Grows, size
	}
	a.waiting = append(a.waiting, waiter{sid, rate})
	a.ask(size)
	return Waits, size
}

// sure is what the aggregate has, whatever becomes of a change under way.
func (a *Aggregate) sure() uint64 {
	if a.changing {
		return min(a.size, a.asked)
	}
	return a.size
}

func (a *Aggregate) ask(size uint64) { a.asked, a.changing = size, true }

func (a *Aggregate) waits(sid gistwire.SID) int {
	return slices.IndexFunc(a.waiting, func(w waiter) bool { return w.sid == sid })
}

// blocks rounds up to what the size can be; false: it cannot be as much.
func (a *Aggregate) blocks(need uint64) (uint64, bool) {
	n := need / a.policy.Block
	if need%a.policy.Block != 0 {
		n++
	}
	size := n * a.policy.Block
	return size, size >= need && (a.policy.Max == 0 || size <= a.policy.Max)
}

func (a *Aggregate) set(now time.Time, sid gistwire.SID, rate uint64) {
	a.used += rate - a.sessions[sid]
	a.sessions[sid] = rate
	a.watch(now)
}

// watch notes since when the aggregate is larger than it needs to be.
func (a *Aggregate) watch(now time.Time) {
	size, _ := a.blocks(a.used)
	switch {
	case size >= a.size:
		a.low = time.Time{}
	case a.low.IsZero():
		a.low, a.peak = now, a.used
	default:
		a.peak = max(a.peak, a.used)
	}
}

// Remove ends a session; one that is not here is no error.
func (a *Aggregate) Remove(now time.Time, sid gistwire.SID) {
	if i := a.waits(sid); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
	a.drop(now, sid)
	if a.hasRider && a.rider == sid {
		a.hasRider = false
	}
}

// drop gives back what a session has been let in with.
func (a *Aggregate) drop(now time.Time, sid gistwire.SID) {
	if rate, ok := a.sessions[sid]; ok {
		a.used -= rate
		delete(a.sessions, sid)
		a.watch(now)
	}
}

// Resized says that the aggregate has the size that was asked for, or that this was
// refused and it has the one before.
func (a *Aggregate) Resized(now time.Time, ok bool) Outcome {
	if !a.changing {
		return Outcome{}
	}
	grew := a.asked > a.size
	if ok {
		a.size = a.asked
	} else if grew {
		a.noGrowth = now.Add(a.policy.Retry)
		if a.hasRider { // its RESERVE comes to nothing with the aggregate's
			a.drop(now, a.rider)
		}
	}
	a.changing, a.hasRider = false, false
	a.low = time.Time{}
	a.watch(now)
	return a.serve(now, ok || !grew)
}

// serve lets in who has waited; for the others the aggregate grows, if it may.
func (a *Aggregate) serve(now time.Time, may bool) (out Outcome) {
	var rest []waiter
	need := a.used
	for _, w := range a.waiting {
		switch more := need - a.sessions[w.sid] + w.rate; {
		case more <= a.size && len(rest) == 0:
			need = more
			a.set(now, w.sid, w.rate)
			out.Go = append(out.Go, w.sid)
		default:
			size, possible := a.blocks(more)
			if !may || !possible || more < w.rate {
				out.Refused = append(out.Refused, w.sid)
				continue
			}
			need, out.Grow, out.Size = more, true, max(out.Size, size)
			rest = append(rest, w)
		}
	}
	if a.waiting = rest; out.Grow {
		a.ask(out.Size)
	}
	return out
}

// Deadline says when to call Shrink; zero: there is nothing to give back.
func (a *Aggregate) Deadline() time.Time {
	if a.low.IsZero() || a.changing {
		return time.Time{}
	}
	return a.low.Add(a.policy.Idle)
}

// Shrink says whether the aggregate is to be asked for less now. Size 0: it carries
// nothing any more, and may be ended.
func (a *Aggregate) Shrink(now time.Time) (size uint64, ok bool) {
	if at := a.Deadline(); at.IsZero() || now.Before(at) {
		return 0, false
	}
	size, _ = a.blocks(a.peak)
	if size >= a.size {
		a.low = time.Time{}
		a.watch(now)
		return 0, false
	}
	a.ask(size)
	return size, true
}

// Lost says that the aggregate is gone. It returns the sessions that it carried and
// those that waited, in the order of their SIDs, and is empty: they end, or are
// admitted anew, "the QNE may use this information to initiate a teardown for
// end-to-end sessions bound to the aggregate" (RFC 5974 §5.3.3).
func (a *Aggregate) Lost() []gistwire.SID {
	var out []gistwire.SID
	for sid := range a.sessions {
		out = append(out, sid)
	}
	for _, w := range a.waiting {
		if _, ok := a.sessions[w.sid]; !ok {
			out = append(out, w.sid)
		}
	}
	slices.SortFunc(out, func(x, y gistwire.SID) int { return bytes.Compare(x[:], y[:]) })
	*a = Aggregate{policy: a.policy, sessions: make(map[gistwire.SID]uint64), noGrowth: a.noGrowth}
	return out
}

// Size is what stands, Used the sum of the sessions that were let in.
func (a *Aggregate) Size() uint64 { return a.size }

// Used returns the sum of the rates of the sessions that were let in.
func (a *Aggregate) Used() uint64 { return a.used }

// Sessions returns how many were let in and how many wait.
func (a *Aggregate) Sessions() (in, waiting int) { return len(a.sessions), len(a.waiting) }
