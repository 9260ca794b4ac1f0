package reduced

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const period = 30 * time.Second

// "reservation states with a coarser granularity (e.g., per-class) are used".
// RFC 5974 §4.7. The classes are the domain's own: "The use of local QoS models within
// a domain is performed in the RMF." RFC 5974 §3.2.10.1
func TestClasses(t *testing.T) {
	c := New(period, map[Class]uint64{46: 100, 10: 50})
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	want := func(s int, class Class, amount uint64) {
		t.Helper()
		if got := c.Reserved(at(s), class); got != amount {
			t.Fatalf("at %d s class %d has %d, want %d", s, class, got, amount)
		}
	}
	if !c.Reserve(at(0), 46, 60) || c.Reserve(at(1), 46, 41) || !c.Reserve(at(1), 46, 40) || !c.Reserve(at(1), 10, 50) {
		t.Fatal("admission")
	}
	want(2, 46, 100)
	want(2, 10, 50)
	if c.Reserve(at(2), 7, 0) || c.Refresh(at(2), 7, 1) {
		t.Fatal("a class that there is not")
	}
	// 60 is refreshed, 40 is not: after its third window it is gone.
	for s := 30; s <= 120; s += 30 {
		if !c.Refresh(at(s), 46, 60) {
			t.Fatalf("at %d s", s)
		}
	}
	want(89, 46, 60)
	want(150, 46, 60)
	c.Release(at(150), 46, 60)
	want(151, 46, 0)
	want(1000, 10, 0)
	c.Refresh(at(2000), 46, 90)
	if c.Refresh(at(2001), 46, 20) {
		t.Error("more than the capacity, and nobody says so")
	}
	if c.Reserve(at(2001), 46, 1) {
		t.Error("admitted into what is full")
	}
	c.Refresh(at(2001), 46, math.MaxUint64)
	c.Refresh(at(2002), 46, 5)
	want(2003, 46, math.MaxUint64)
}

func TestPeriod(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	New(0, nil)
}

// With reservations that come, are refreshed once a period, and end with or without
// a word: never less is counted than there is, but for what was lost in the last
// windows, and nothing is three periods after the last.
func TestNeverTooLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New(period, map[Class]uint64{1: 1000})
		type flow struct {
			amount uint64
			next   time.Time
		}
		type loss struct {
			amount uint64
			at     time.Time
		}
		var flows []*flow
		var losses []loss
		lossy := rapid.Bool().Draw(t, "lossy")
		now := start
		refresh := func(until time.Time) { // in the order of time
			for {
				var first *flow
				for _, f := range flows {
					if first == nil || f.next.Before(first.next) {
						first = f
					}
				}
				if first == nil || first.next.After(until) {
					return
				}
				at := first.next
				first.next = at.Add(period)
				if lossy && rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
					losses = append(losses, loss{first.amount, at})
					continue
				}
				c.Refresh(at, 1, first.amount)
			}
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			refresh(now)
			switch k := rapid.IntRange(0, 9).Draw(t, "what"); {
			case k < 4:
				n := uint64(rapid.IntRange(1, 300).Draw(t, "amount"))
				if c.Reserve(now, 1, n) {
					flows = append(flows, &flow{amount: n, next: now.Add(period)})
				}
			case k < 6 && len(flows) > 0:
				i := rapid.IntRange(0, len(flows)-1).Draw(t, "which")
				if k == 4 {
					c.Release(now, 1, flows[i].amount)
				}
				flows = append(flows[:i], flows[i+1:]...)
			}
			var real, lost uint64
			for _, f := range flows {
				real += f.amount
			}
			for _, l := range losses {
				if now.Sub(l.at) < 3*period {
					lost += l.amount
				}
			}
			if got := c.Reserved(now, 1); got+lost < real {
				t.Fatalf("%d counted, %d reserved, %d lost", got, real, lost)
			}
		}
		if got := c.Reserved(now.Add(3*period), 1); got != 0 {
			t.Fatalf("%d are left", got)
		}
	})
}
