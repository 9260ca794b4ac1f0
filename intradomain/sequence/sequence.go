// Package sequence makes one intra-domain controller out of several: each has
// its part of the domain, and a reservation has all of them or none.
//
// A request is held in the given order. It is committed in reverse order: the
// last is the one at the flow's end, whose device has to answer, and what has
// answered first is not undone by what merely keeps books. What fails is undone
// in every part before the answer is given.
package sequence

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/interqos/interqos/intradomain"
)

// Sequence is a controller of controllers. Verbs for one reservation are
// carried out one after another in the order in which they came; those for
// different reservations don't wait for each other.
type Sequence struct {
	parts []intradomain.Controller

	mu sync.Mutex
	// queues holds, for a reservation with a verb under way, the verbs that
	// wait.
	queues map[intradomain.ID][]func()
	// known is what has been held and committed through this Sequence, for
	// undoing.
	known map[intradomain.ID]state
}

type state struct{ committed, held *intradomain.Request }

// New returns the sequence of the given controllers, which it then owns.
func New(parts ...intradomain.Controller) *Sequence {
	return &Sequence{parts: parts, queues: map[intradomain.ID][]func(){}, known: map[intradomain.ID]state{}}
}

// enter runs a verb now, or when those before it for the same reservation are
// done. The verb calls leave at its end.
func (s *Sequence) enter(id intradomain.ID, verb func()) {
	s.mu.Lock()
	waiting, busy := s.queues[id]
	if busy {
		s.queues[id] = append(waiting, verb)
		s.mu.Unlock()
		return
	}
	s.queues[id] = nil
	s.mu.Unlock()
	verb()
}

func (s *Sequence) leave(id intradomain.ID) {
	s.mu.Lock()
	waiting := s.queues[id]
	if len(waiting) == 0 {
		delete(s.queues, id)
		s.mu.Unlock()
		return
	}
	s.queues[id] = waiting[1:]
	s.mu.Unlock()
	waiting[0]()
}

// each calls verb for the parts one after another until one fails; end gets how
// many succeeded.
func (s *Sequence) each(parts []intradomain.Controller, verb func(intradomain.Controller, func(error)), end func(int, error)) {
	var step func(i int)
	step = func(i int) {
		if i == len(parts) {
			end(i, nil)
			return
		}
		verb(parts[i], func(err error) {
			if err != nil {
				end(i, err)
				return
			}
			step(i + 1)
		})
	}
	step(0)
}

// all calls verb for every part, whatever the others answer; end gets the errors
// joined.
func (s *Sequence) all(parts []intradomain.Controller, verb func(intradomain.Controller, func(error)), end func(error)) {
	var errs []error
	s.each(parts, func(c intradomain.Controller, done func(error)) {
		verb(c, func(err error) {
			errs = append(errs, err)
			done(nil)
		})
	}, func(int, error) { end(errors.Join(errs...)) })
}

// Hold holds a request in every part, or in none.
//
// interdomain-qosm §8
func (s *Sequence) Hold(r intradomain.Request, done func(error)) {
	finish := func(err error) {
		done(err)
		s.leave(r.ID)
	}
	s.enter(r.ID, func() {
		s.each(s.parts, func(c intradomain.Controller, done func(error)) { c.Hold(r, done) },
			func(_ int, err error) {
				if err == nil {
					s.note(r.ID, func(st *state) {
						if st.committed == nil || st.committed.Version != r.Version {
							st.held = &r
						}
					})
					finish(nil)
					return
				}
				if errors.Is(err, intradomain.ErrStale) {
					finish(err) // nothing has changed anywhere
					return
				}
				s.unhold(r, func() { finish(err) })
			})
	})
}

// unhold takes a failed hold back in every part. One that it was to replace is
// held again where a part has replaced it already; if somebody else has taken its
// place meanwhile, it is gone everywhere.
func (s *Sequence) unhold(r intradomain.Request, end func()) {
	s.mu.Lock()
	before := s.known[r.ID].held
	s.mu.Unlock()
	s.dropAll(r.ID, r.Version, func(error) {
		if before == nil || before.Version == r.Version {
			end()
			return
		}
		s.all(s.parts, func(c intradomain.Controller, done func(error)) { c.Hold(*before, done) }, func(err error) {
			if err == nil {
				end()
				return
			}
			s.dropAll(before.ID, before.Version, func(error) { end() })
		})
	})
}

func (s *Sequence) note(id intradomain.ID, change func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.known[id]
	if change(&st); st == (state{}) {
		delete(s.known, id)
		return
	}
	s.known[id] = st
}

func (s *Sequence) dropAll(id intradomain.ID, version uint32, end func(error)) {
	s.note(id, func(st *state) {
		if st.held != nil && st.held.Version == version {
			st.held = nil
		}
	})
	s.all(s.parts, func(c intradomain.Controller, done func(error)) { c.Drop(id, version, done) }, end)
}

// Query asks every part: what all of them have is the least of it.
func (s *Sequence) Query(r intradomain.Request, done func(uint64, error)) {
	rate := r.QoS.CIR
	s.each(s.parts, func(c intradomain.Controller, done func(error)) {
		c.Query(r, func(has uint64, err error) {
			rate = min(rate, has)
			done(err)
		})
	}, func(_ int, err error) {
		if err != nil {
			rate = 0
		}
		done(rate, err)
	})
}

// Commit commits a hold in every part, or in none: what had been committed when
// one fails is put back to the version before, or released if there was none,
// and so is the hold.
func (s *Sequence) Commit(id intradomain.ID, version uint32, cir uint64, done func(error)) {
	finish := func(err error) {
		done(err)
		s.leave(id)
	}
	s.enter(id, func() {
		reversed := slices.Clone(s.parts)
		slices.Reverse(reversed)
		s.each(reversed, func(c intradomain.Controller, done func(error)) { c.Commit(id, version, cir, done) },
			func(n int, err error) {
				if err == nil {
					s.note(id, func(st *state) {
						if st.held != nil && st.held.Version == version {
							st.committed, st.held = shrunk(st.held, cir), nil
						}
					})
					finish(nil)
					return
				}
				s.uncommit(id, version, reversed[:n], func(undo error) {
					if undo != nil {
						err = fmt.Errorf("%w; undoing it: %w", err, undo)
					}
					finish(err)
				})
			})
	})
}

func shrunk(r *intradomain.Request, cir uint64) *intradomain.Request {
	if cir == 0 || cir >= r.QoS.CIR {
		return r
	}
	return new(intradomain.Shrink(*r, cir))
}

// uncommit takes a failed commit back: in the parts that have it the version
// before is restored, and in all of them the hold is dropped.
func (s *Sequence) uncommit(id intradomain.ID, version uint32, parts []intradomain.Controller, end func(error)) {
	s.mu.Lock()
	st := s.known[id]
	s.mu.Unlock()
	if st.committed != nil && st.committed.Version == version {
		end(nil) // a repeat: there is no version before
		return
	}
	s.all(parts, func(c intradomain.Controller, done func(error)) { restore(c, id, st.committed, done) },
		func(err error) {
			s.dropAll(id, version, func(dropped error) { end(errors.Join(err, dropped)) })
		})
}

// restore makes before, or nothing, what a part has of the reservation.
func restore(c intradomain.Controller, id intradomain.ID, before *intradomain.Request, done func(error)) {
	c.Release(id, func(err error) {
		if err != nil || before == nil {
			done(err)
			return
		}
		c.Hold(*before, func(err error) {
			if err != nil {
				done(err)
				return
			}
			c.Commit(id, before.Version, 0, done)
		})
	})
}

// Drop gives up a hold in every part.
func (s *Sequence) Drop(id intradomain.ID, version uint32, done func(error)) {
	s.enter(id, func() {
		s.dropAll(id, version, func(err error) {
			done(err)
			s.leave(id)
		})
	})
}

// Release gives up everything in every part. An error says that some part may
// still have something; the others have not.
func (s *Sequence) Release(id intradomain.ID, done func(error)) {
	s.enter(id, func() {
		s.note(id, func(st *state) { *st = state{} })
		s.all(s.parts, func(c intradomain.Controller, done func(error)) { c.Release(id, done) },
			func(err error) {
				done(err)
				s.leave(id)
			})
	})
}

// List returns what any part has. Committed is what all parts have committed:
// what only some have shows as held.
func (s *Sequence) List(done func([]intradomain.Held, error)) {
	type key struct {
		id      intradomain.ID
		version uint32
	}
	found := map[key]*intradomain.Held{}
	commits := map[key]int{}
	s.each(s.parts, func(c intradomain.Controller, next func(error)) {
		c.List(func(list []intradomain.Held, err error) {
			for _, h := range list {
				k := key{h.ID, h.Version}
				if found[k] == nil {
					found[k] = &h
				}
				if h.Committed {
					commits[k]++
				}
			}
			next(err)
		})
	}, func(_ int, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		list := make([]intradomain.Held, 0, len(found))
		for k, h := range found {
			h.Committed = commits[k] == len(s.parts)
			list = append(list, *h)
		}
		intradomain.SortHeld(list)
		done(list, nil)
	})
}

// Close closes every part.
func (s *Sequence) Close() error {
	var errs []error
	for _, c := range s.parts {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

var _ intradomain.Controller = (*Sequence)(nil)
