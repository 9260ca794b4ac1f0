// Package controllertest is the conformance suite for intra-domain controllers:
// what interdomain-qosm §8 and intradomain.Controller promise, checked on any
// implementation.
package controllertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/interqos/interqos/intradomain"
)

// Fixture is a controller to be tested.
type Fixture struct {
	// New returns a controller without reservations; the suite closes it.
	New func(t *testing.T) intradomain.Controller
	// Request returns the n-th of many requests with different IDs and flows,
	// which all share one bottleneck. Version, QoS rates and times are the
	// suite's to set.
	Request func(n int) intradomain.Request
	// Capacity of the bottleneck, octets per second.
	Capacity uint64
}

// Answer calls a verb and returns its answer. It fails the test if there is none
// within two minutes, or more than one.
func Answer(t testing.TB, verb func(done func(error))) error {
	t.Helper()
	answers := make(chan error, 1)
	var calls atomic.Int32
	verb(func(err error) {
		if calls.Add(1) > 1 {
			t.Error("done called more than once")
			return
		}
		answers <- err
	})
	select {
	case err := <-answers:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("no answer within two minutes")
		return nil
	}
}

// List returns a controller's list.
func List(t testing.TB, c intradomain.Controller) []intradomain.Held {
	t.Helper()
	var list []intradomain.Held
	if err := Answer(t, func(done func(error)) {
		c.List(func(l []intradomain.Held, err error) { list = l; done(err) })
	}); err != nil {
		t.Fatalf("List: %v", err)
	}
	return list
}

type suite struct {
	*testing.T
	f Fixture
	c intradomain.Controller
}

// Run runs the suite.
func Run(t *testing.T, f Fixture) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"hold, commit, release", (*suite).lifecycle},
		{"a hold that fits exactly is admitted, an octet more refused with an offer", (*suite).exact},
		{"a repeat of ID and version changes nothing", (*suite).repeats},
		{"an older version is refused", (*suite).stale},
		{"dropping and releasing what is not there is success", (*suite).absent},
		{"without a hold a commit fails with ErrNoHold", (*suite).noHold},
		{"a commit may shrink the hold", (*suite).shrink},
		{"during a modification the larger version counts", (*suite).modify},
		{"drop keeps what an earlier version committed", (*suite).drop},
		{"a refused modification leaves the reservation as it was", (*suite).refusedModification},
		{"a newer hold replaces an older one", (*suite).replaceHold},
		{"release gives up commitment and hold", (*suite).releaseBoth},
		{"a time that has an end is freed at its end", (*suite).until},
		{"a query tells what is left, and keeps nothing", (*suite).query},
		{"racing holds never exceed the capacity", (*suite).race},
		{"any sequence of verbs agrees with a model", (*suite).model},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{T: t, f: f, c: f.New(t)}
			t.Cleanup(func() {
				if err := s.c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test.run(s)
		})
	}
}

func (s *suite) request(n int, version uint32, cir uint64) intradomain.Request {
	r := s.f.Request(n)
	r.Version = version
	r.QoS.CIR, r.QoS.PIR, r.QoS.CBS, r.QoS.PBS = cir, cir, 10000, 10000
	return r
}

func (s *suite) hold(r intradomain.Request) error {
	s.Helper()
	return Answer(s, func(done func(error)) { s.c.Hold(r, done) })
}

func (s *suite) commit(r intradomain.Request, cir uint64) error {
	s.Helper()
	return Answer(s, func(done func(error)) { s.c.Commit(r.ID, r.Version, cir, done) })
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) mustDrop(r intradomain.Request) {
	s.Helper()
	s.must(Answer(s, func(done func(error)) { s.c.Drop(r.ID, r.Version, done) }))
}

func (s *suite) mustRelease(r intradomain.Request) {
	s.Helper()
	s.must(Answer(s, func(done func(error)) { s.c.Release(r.ID, done) }))
}

// free asserts how much can still be held, by asking for more and for exactly it.
func (s *suite) free(want uint64) {
	s.Helper()
	probe := s.request(9999, 1, want+1)
	var refusal *intradomain.Refusal
	if err := s.hold(probe); !errors.As(err, &refusal) {
		s.Fatalf("hold of %d: %v, expected a Refusal", want+1, err)
	} else if refusal.Offer != want || refusal.Where == "" || refusal.Reason == "" {
		s.Fatalf("refusal %+v, expected an offer of %d, where and why", *refusal, want)
	}
	if want > 0 {
		probe.QoS.CIR, probe.QoS.PIR = want, want
		s.must(s.hold(probe))
	}
	s.mustRelease(probe)
}

// lists asserts what the list says, as "version" or "version*" if committed, by
// order of ID.
func (s *suite) lists(want ...string) {
	s.Helper()
	var got []string
	for _, h := range List(s, s.c) {
		text := fmt.Sprint(h.Version)
		if h.Committed {
			text += "*"
		}
		got = append(got, text)
		if h.Request.ID != h.ID || h.Request.Version != h.Version {
			s.Errorf("listed %x version %d with request %x version %d", h.ID, h.Version, h.Request.ID, h.Request.Version)
		}
	}
	if !slices.Equal(got, want) {
		s.Fatalf("list %q, want %q", got, want)
	}
}

func (s *suite) lifecycle() {
	r := s.request(1, 1, s.f.Capacity/4)
	s.lists()
	s.must(s.hold(r))
	s.lists("1")
	s.free(s.f.Capacity - s.f.Capacity/4)
	s.must(s.commit(r, 0))
	s.lists("1*")
	s.free(s.f.Capacity - s.f.Capacity/4)
	s.mustRelease(r)
	s.lists()
	s.free(s.f.Capacity)
}

func (s *suite) exact() {
	s.free(s.f.Capacity)
	s.must(s.hold(s.request(1, 1, s.f.Capacity)))
	s.free(0)
}

func (s *suite) repeats() {
	r := s.request(1, 7, s.f.Capacity)
	for range 3 {
		s.must(s.hold(r))
	}
	s.lists("7")
	for range 3 {
		s.must(s.commit(r, 0))
	}
	s.must(s.hold(r)) // after a crash of whoever asked
	s.lists("7*")
	for range 3 {
		s.mustRelease(r)
	}
	s.free(s.f.Capacity)
}

func (s *suite) stale() {
	r := s.request(1, 5, 1000)
	s.must(s.hold(r))
	older := s.request(1, 4, 1000)
	if err := s.hold(older); !errors.Is(err, intradomain.ErrStale) {
		s.Errorf("hold of version 4 after 5: %v, expected ErrStale", err)
	}
	s.must(s.commit(r, 0))
	if err := s.hold(older); !errors.Is(err, intradomain.ErrStale) {
		s.Errorf("hold of version 4 after 5 was committed: %v, expected ErrStale", err)
	}
	s.mustDrop(older)
	s.lists("5*")
}

func (s *suite) absent() {
	r := s.request(1, 1, 1000)
	s.mustDrop(r)
	s.mustRelease(r)
	s.must(s.hold(r))
	r.Version = 2
	s.mustDrop(r)
	s.lists("1")
}

func (s *suite) noHold() {
	r := s.request(1, 1, 1000)
	if err := s.commit(r, 0); !errors.Is(err, intradomain.ErrNoHold) {
		s.Errorf("commit without a hold: %v", err)
	}
	s.must(s.hold(r))
	r.Version = 2
	if err := s.commit(r, 0); !errors.Is(err, intradomain.ErrNoHold) {
		s.Errorf("commit of another version than is held: %v", err)
	}
	r.Version = 1
	s.mustDrop(r)
	if err := s.commit(r, 0); !errors.Is(err, intradomain.ErrNoHold) {
		s.Errorf("commit after drop: %v", err)
	}
	s.lists()
}

func (s *suite) shrink() {
	r := s.request(1, 1, s.f.Capacity)
	s.must(s.hold(r))
	s.must(s.commit(r, s.f.Capacity/2))
	s.free(s.f.Capacity - s.f.Capacity/2)
	if list := List(s, s.c); len(list) != 1 || list[0].Request.QoS.CIR != s.f.Capacity/2 {
		s.Errorf("list %+v, expected a CIR of %d", list, s.f.Capacity/2)
	}
	more := s.request(2, 1, 1000)
	s.must(s.hold(more))
	s.must(s.commit(more, 2000)) // more than is held: all that is
	s.free(s.f.Capacity - s.f.Capacity/2 - 1000)
}

func (s *suite) modify() {
	c := s.f.Capacity
	r1 := s.request(1, 1, c/2)
	s.must(s.hold(r1))
	s.must(s.commit(r1, 0))
	r2 := s.request(1, 2, c/4)
	s.must(s.hold(r2))
	s.lists("1*", "2")
	s.free(c - c/2)
	s.must(s.commit(r2, 0))
	s.lists("2*")
	s.free(c - c/4)
	r3 := s.request(1, 3, c)
	s.must(s.hold(r3)) // its own is not in its way
	s.free(0)
	s.must(s.commit(r3, 0))
	s.lists("3*")
	s.free(0)
}

func (s *suite) drop() {
	c := s.f.Capacity
	r1 := s.request(1, 1, c/4)
	s.must(s.hold(r1))
	s.must(s.commit(r1, 0))
	r2 := s.request(1, 2, c/2)
	s.must(s.hold(r2))
	s.mustDrop(r2)
	s.lists("1*")
	s.free(c - c/4)
	s.mustDrop(r1) // committed: not a hold
	s.lists("1*")
}

func (s *suite) refusedModification() {
	c := s.f.Capacity
	r1 := s.request(1, 1, c/4)
	s.must(s.hold(r1))
	s.must(s.commit(r1, 0))
	s.must(s.hold(s.request(2, 1, c/4)))
	var refusal *intradomain.Refusal
	if err := s.hold(s.request(1, 2, c)); !errors.As(err, &refusal) || refusal.Offer != c-c/4 {
		s.Fatalf("%v (%+v), expected an offer of %d: its own and what is free", err, refusal, c-c/4)
	}
	s.lists("1*", "1")
	s.free(c - 2*(c/4))
}

func (s *suite) replaceHold() {
	c := s.f.Capacity
	r1, r2 := s.request(1, 1, c/2), s.request(1, 2, c/4)
	s.must(s.hold(r1))
	s.must(s.hold(r2))
	s.lists("2")
	s.free(c - c/4)
	if err := s.commit(r1, 0); !errors.Is(err, intradomain.ErrNoHold) {
		s.Errorf("commit of what was replaced: %v", err)
	}
	if err := s.hold(s.request(1, 3, c+1)); err == nil {
		s.Error("more than the capacity was held")
	}
	s.lists("2")
	s.must(s.commit(r2, 0))
	s.free(c - c/4)
}

func (s *suite) releaseBoth() {
	r1 := s.request(1, 1, 1000)
	s.must(s.hold(r1))
	s.must(s.commit(r1, 0))
	s.must(s.hold(s.request(1, 2, 2000)))
	s.mustRelease(r1)
	s.lists()
	s.free(s.f.Capacity)
}

func (s *suite) until() {
	end := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	r := s.request(1, 1, s.f.Capacity)
	r.Times = []intradomain.Interval{{Until: end}}
	s.must(s.hold(r))
	s.must(s.commit(r, 0))
	s.free(0)
	s.mustRelease(r)
	s.free(s.f.Capacity)
}

func (s *suite) query() {
	ask := func(r intradomain.Request) (rate uint64) {
		s.Helper()
		s.must(Answer(s, func(done func(error)) {
			s.c.Query(r, func(has uint64, err error) { rate = has; done(err) })
		}))
		return rate
	}
	want := func(what string, got, want uint64) {
		s.Helper()
		if got != want {
			s.Errorf("%s: %d octets/s, want %d", what, got, want)
		}
	}
	c := s.f.Capacity
	want("all of it", ask(s.request(1, 1, c)), c)
	want("more than there is", ask(s.request(1, 1, 2*c)), c)
	s.lists()
	r := s.request(1, 1, c/4)
	s.must(s.hold(r))
	s.must(s.commit(r, 0))
	want("beside another", ask(s.request(2, 1, 2*c)), c-c/4)
	want("for the one that has it", ask(s.request(1, 2, 2*c)), c)
	later := s.request(2, 1, 2*c)
	later.Times = []intradomain.Interval{{From: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}}
	want("later, for it has no end", ask(later), c-c/4)
	s.lists("1*")
	s.mustRelease(r)
}

func (s *suite) race() {
	const asks = 64
	share := s.f.Capacity / 16
	var wg sync.WaitGroup
	var admitted atomic.Int32
	for n := range asks {
		wg.Go(func() {
			r := s.request(n, 1, share)
			err := Answer(s, func(done func(error)) { s.c.Hold(r, done) })
			var refusal *intradomain.Refusal
			switch {
			case err == nil:
				admitted.Add(1)
				if err := Answer(s, func(done func(error)) { s.c.Commit(r.ID, r.Version, 0, done) }); err != nil {
					s.Errorf("commit: %v", err)
				}
			case !errors.As(err, &refusal):
				s.Errorf("hold: %v", err)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 16 {
		s.Errorf("%d sixteenths were admitted", admitted.Load())
	}
	for n := range asks {
		wg.Go(func() {
			if err := Answer(s, func(done func(error)) { s.c.Release(s.f.Request(n).ID, done) }); err != nil {
				s.Errorf("release: %v", err)
			}
		})
	}
	wg.Wait()
	s.lists()
	s.free(s.f.Capacity)
}

// pair is what a model knows of a reservation: versions and rates.
type pair struct{ committedV, heldV, committed, held uint64 }

func (p pair) counts() uint64 { return max(p.committed, p.held) }

func (s *suite) model() {
	rng := rand.New(rand.NewPCG(1, 2))
	const reservations = 6
	have := map[int]pair{}
	for step := range 400 {
		n := rng.IntN(reservations)
		p := have[n]
		var others uint64
		for m, o := range have {
			if m != n {
				others += o.counts()
			}
		}
		switch what := rng.IntN(10); {
		case what < 5:
			v, rate := max(p.committedV, p.heldV)+1, 1+rng.Uint64N(s.f.Capacity/2)
			err := s.hold(s.request(n, uint32(v), rate))
			if fits := others+max(rate, p.committed) <= s.f.Capacity; fits != (err == nil) {
				s.Fatalf("step %d: hold of %d beside %d and own %d of %d: %v", step, rate, others, p.committed, s.f.Capacity, err)
			}
			if err == nil {
				p.heldV, p.held = v, rate
			}
		case what < 8 && p.heldV != 0:
			s.must(s.commit(s.request(n, uint32(p.heldV), 0), 0))
			p = pair{committedV: p.heldV, committed: p.held}
		case what < 9 && p.heldV != 0:
			s.mustDrop(s.request(n, uint32(p.heldV), 0))
			p.heldV, p.held = 0, 0
		default:
			s.mustRelease(s.request(n, 0, 0))
			p = pair{}
		}
		have[n] = p
	}
	var sum uint64
	for _, p := range have {
		sum += p.counts()
	}
	s.free(s.f.Capacity - sum)
}
