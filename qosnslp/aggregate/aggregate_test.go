package aggregate

import (
	"math"
	"slices"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func sid(i int) gistwire.SID { return gistwire.SID{14: byte(i >> 8), 15: byte(i)} }

func newAggregate(t *testing.T, p Policy) *Aggregate {
	t.Helper()
	a, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPolicy(t *testing.T) {
	for _, p := range []Policy{{}, {Block: 10, Max: 15}, {Block: 1, Idle: -1}, {Block: 1, Retry: -1}, {Block: 1, MaxSessions: -1}} {
		if _, err := New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
}

// It grows by blocks, with the session that needs it beside it; those that come
// meanwhile wait, and share the next growth. RFC 5974 §4.5
func TestGrow(t *testing.T) {
	a := newAggregate(t, Policy{Block: 10, Max: 40, Retry: time.Minute})
	want := func(i int, rate uint64, d Decision, size uint64) {
		t.Helper()
		if gd, gs := a.Admit(start, sid(i), rate); gd != d || gs != size {
			t.Fatalf("session %d: %d, size %d; want %d, %d", i, gd, gs, d, size)
		}
	}
	want(1, 4, Grows, 10)
	want(2, 4, Waits, 0)
	want(3, 7, Waits, 0)
	want(4, 17, Waits, 0)
	want(9, 41, Refused, 0)
	want(9, math.MaxUint64, Refused, 0)
	o := a.Resized(start, true)
	if !slices.Equal(o.Go, []gistwire.SID{sid(2)}) || !o.Grow || o.Size != 40 || len(o.Refused) != 0 {
		t.Fatalf("%+v", o)
	}
	want(5, 2, Fits, 0)
	o = a.Resized(start, false)
	if len(o.Go) != 0 || o.Grow || !slices.Equal(o.Refused, []gistwire.SID{sid(3), sid(4)}) || a.Used() != 10 || a.Size() != 10 {
		t.Fatalf("%+v", o)
	}
	want(6, 1, Refused, 0) // it was refused a moment ago
	a.Remove(start, sid(5))
	want(6, 2, Fits, 0)
	if d, size := a.Admit(start.Add(time.Minute), sid(7), 1); d != Grows || size != 20 {
		t.Fatalf("%d %d", d, size)
	}
	// Refused: the one that went on beside it is gone, too.
	a.Resized(start.Add(time.Minute), false)
	if in, waiting := a.Sessions(); in != 3 || waiting != 0 || a.Used() != 10 {
		t.Fatalf("%d, %d, %d used", in, waiting, a.Used())
	}
	if o := a.Resized(start, true); o.Grow || a.Size() != 10 {
		t.Fatal("a change that nobody asked for")
	}
}

// A change of a session keeps what it has until there is more.
func TestChange(t *testing.T) {
	a := newAggregate(t, Policy{Block: 10})
	a.Admit(start, sid(1), 8)
	a.Resized(start, true)
	if d, size := a.Admit(start, sid(1), 12); d != Waits || size != 20 || a.Used() != 8 {
		t.Fatalf("%d %d", d, size)
	}
	if d, _ := a.Admit(start, sid(1), 13); d != Waits {
		t.Fatal("changed while it waits")
	}
	if o := a.Resized(start, true); !slices.Equal(o.Go, []gistwire.SID{sid(1)}) || a.Used() != 13 {
		t.Fatalf("%+v", o)
	}
	if d, _ := a.Admit(start, sid(1), 3); d != Fits || a.Used() != 3 {
		t.Fatal("less")
	}
}

// It shrinks only after Idle, to the most that was used in that time, and what comes
// while it does is not let in on what is about to go.
func TestShrink(t *testing.T) {
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	a := newAggregate(t, Policy{Block: 10, Idle: time.Minute})
	for i := range 5 {
		if d, _ := a.Admit(at(0), sid(i), 10); d == Grows {
			a.Resized(at(0), true)
		}
	}
	if a.Size() != 50 || !a.Deadline().IsZero() {
		t.Fatal(a.Size())
	}
	a.Remove(at(10), sid(0))
	a.Remove(at(20), sid(1))
	if d, _ := a.Admit(at(30), sid(1), 5); d != Fits {
		t.Fatal(d)
	}
	if _, ok := a.Shrink(at(69)); ok || !a.Deadline().Equal(at(70)) {
		t.Fatal("too early")
	}
	size, ok := a.Shrink(at(70))
	if !ok || size != 40 {
		t.Fatal(size, ok)
	}
	if d, _ := a.Admit(at(71), sid(7), 10); d != Waits || !a.Deadline().IsZero() {
		t.Fatal(d)
	}
	if o := a.Resized(at(72), true); a.Size() != 40 || !o.Grow || o.Size != 50 {
		t.Fatalf("%d %+v", a.Size(), o)
	}
	a.Resized(at(73), true)
	for i := range 8 {
		a.Remove(at(80), sid(i))
	}
	if size, ok := a.Shrink(at(200)); !ok || size != 40 { // since 80 s
		t.Fatal(size, ok)
	}
	a.Resized(at(201), true)
	if size, ok := a.Shrink(at(261)); !ok || size != 0 {
		t.Fatal(size, ok)
	}
}

func TestLost(t *testing.T) {
	a := newAggregate(t, Policy{Block: 10, MaxSessions: 3})
	a.Admit(start, sid(2), 5)
	a.Admit(start, sid(3), 50)
	a.Admit(start, sid(1), 50)
	if d, _ := a.Admit(start, sid(4), 1); d != Refused {
		t.Fatal("more than MaxSessions")
	}
	if got := a.Lost(); !slices.Equal(got, []gistwire.SID{sid(1), sid(2), sid(3)}) || a.Size() != 0 || a.Used() != 0 {
		t.Fatal(got)
	}
	if d, size := a.Admit(start, sid(2), 5); d != Grows || size != 10 {
		t.Fatal(d, size)
	}
}

// Whatever comes in whatever order: what was let in is never more than what stands,
// but for the one session that goes on beside a growth; nobody is forgotten, and in
// the end it is as small as it can be.
func TestNeverTooSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := uint64(rapid.IntRange(1, 20).Draw(t, "block"))
		a, err := New(Policy{Block: block, Max: block * uint64(rapid.IntRange(0, 9).Draw(t, "max")), Idle: 10 * time.Second,
			Retry: 5 * time.Second, MaxSessions: rapid.IntRange(0, 12).Draw(t, "sessions")})
		if err != nil {
			t.Fatal(err)
		}
		now := start
		var asked []uint64
		waits := map[gistwire.SID]bool{}
		rider, rate := uint64(0), uint64(0)
		resized := func(ok bool) {
			o := a.Resized(now, ok)
			asked, rider = nil, 0
			if o.Grow {
				asked = append(asked, o.Size)
			}
			for _, s := range append(o.Go, o.Refused...) {
				if !waits[s] {
					t.Fatalf("%v has not waited", s)
				}
				delete(waits, s)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := sid(rapid.IntRange(0, 15).Draw(t, "sid"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				rate = uint64(rapid.IntRange(0, 50).Draw(t, "rate"))
				d, size := a.Admit(now, s, rate)
				delete(waits, s)
				if d == Waits {
					waits[s] = true
				}
				if d == Grows {
					rider = rate
				}
				if size != 0 {
					asked = append(asked, size)
				}
			case 2:
				a.Remove(now, s)
				delete(waits, s)
			case 3:
				if len(asked) > 0 {
					resized(rapid.Bool().Draw(t, "ok"))
				}
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "s")) * time.Second)
				if size, ok := a.Shrink(now); ok {
					asked = append(asked, size)
				}
			}
			if len(asked) > 1 {
				t.Fatalf("%d changes at a time", len(asked))
			}
			if _, n := a.Sessions(); n != len(waits) {
				t.Fatalf("%d wait, want %d", n, len(waits))
			}
			have := a.Size()
			if len(asked) > 0 {
				have = min(have, asked[0])
			}
			if a.Used() > have+rider {
				t.Fatalf("%d used of %d, and %d beside it", a.Used(), have, rider)
			}
		}
		for range 40 {
			if len(asked) > 0 {
				resized(true)
			}
		}
		now = now.Add(time.Hour)
		for range 3 {
			if size, ok := a.Shrink(now); ok {
				asked = append(asked, size)
				resized(true)
			}
			now = now.Add(time.Hour)
		}
		if len(waits) != 0 || a.Size() < a.Used() || a.Size() >= a.Used()+block {
			t.Fatalf("%d wait; %d used of %d", len(waits), a.Used(), a.Size())
		}
	})
}
