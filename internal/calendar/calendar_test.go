package calendar

import (
	"testing"

	"pgregory.net/rapid"
)

// span is an interval [from, until).
type span struct{ from, until int64 }

// slowCalendar is the obvious model: a list of intervals.
type slowCalendar struct {
	spans []span
	rates []int64
}

func (c *slowCalendar) at(t int64) (v int64) {
	for i, s := range c.spans {
		if s.from <= t && t < s.until {
			v += c.rates[i]
		}
	}
	return v
}

// The tests' calendars have all their steps from 0 to end.
const end = 60

func (c *slowCalendar) first(t int64, ok func(v int64) bool) int64 {
	for last := max(t, end); t <= last; t++ {
		if ok(c.at(t)) {
			return t
		}
	}
	return Forever
}

// checkTree asserts the AVL condition, the order and the sums of a subtree.
func checkTree(t *rapid.T, c *Calendar, n int32) (height int32, all sums) {
	if n == 0 {
		return 0, nothing
	}
	s := c.nodes[n]
	lh, l := checkTree(t, c, s.left)
	rh, r := checkTree(t, c, s.right)
	if d := lh - rh; d < -1 || d > 1 || s.height != 1+max(lh, rh) {
		t.Fatalf("node at %d: heights %d and %d, says %d", s.at, lh, rh, s.height)
	}
	if s.left != 0 && c.nodes[s.left].at >= s.at || s.right != 0 && c.nodes[s.right].at <= s.at {
		t.Fatalf("node at %d is out of order", s.at)
	}
	if want := l.then(single(s.change)).then(r); s.all != want || s.change == 0 {
		t.Fatalf("node at %d: sums %v, want %v, change %d", s.at, s.all, want, s.change)
	}
	return s.height, s.all
}

// The calendar answers every question as a list of intervals does.
// interdomain-qosm §5
func TestCalendarAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Calendar
		var slow slowCalendar
		edge := func(label string, open int64) int64 {
			v := rapid.Int64Range(0, end).Draw(t, label)
			if rapid.IntRange(0, 4).Draw(t, label+" open") == 0 {
				return open
			}
			return v
		}
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				s := span{edge("from", Past), edge("until", Forever)}
				r := rapid.Int64Range(1, 5).Draw(t, "rate")
				c.Add(s.from, s.until, r)
				slow.spans, slow.rates = append(slow.spans, s), append(slow.rates, r)
			case 2:
				if n := len(slow.spans); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(t, "which")
					c.Add(slow.spans[i].from, slow.spans[i].until, -slow.rates[i])
					slow.spans[i], slow.rates[i] = slow.spans[n-1], slow.rates[n-1]
					slow.spans, slow.rates = slow.spans[:n-1], slow.rates[:n-1]
				}
			case 3:
				c.Advance(c.horizon + rapid.Int64Range(0, 5).Draw(t, "advance"))
			}
			checkTree(t, &c, c.root)
		}
		for at := c.horizon; at <= end; at++ {
			if got, want := c.At(at), slow.at(at); got != want {
				t.Fatalf("at %d: %d, want %d", at, got, want)
			}
		}
		ask := span{edge("ask from", Past), edge("ask until", Forever)}
		want := int64(0)
		for at := max(ask.from, c.horizon); at < min(ask.until, max(c.horizon, end)+1); at++ {
			want = max(want, slow.at(at))
		}
		if got := max(0, c.Peak(ask.from, ask.until)); got != want {
			t.Fatalf("peak of %v: %d, want %d", ask, got, want)
		}
		from, limit := max(c.horizon, edge("search", Past)), rapid.Int64Range(0, 20).Draw(t, "limit")
		if got, want := c.FirstAbove(from, limit), slow.first(from, func(v int64) bool { return v > limit }); got != want {
			t.Fatalf("first above %d from %d: %d, want %d", limit, from, got, want)
		}
		if got, want := c.FirstWithin(from, limit), slow.first(from, func(v int64) bool { return v <= limit }); got != want {
			t.Fatalf("first within %d from %d: %d, want %d", limit, from, got, want)
		}
		for _, s := range slow.spans {
			c.Add(s.from, s.until, -slow.rates[0])
			slow.rates = slow.rates[1:]
		}
		if !c.Empty() {
			t.Fatalf("after taking all out: root %d, base %d", c.root, c.base)
		}
	})
}

func BenchmarkCalendarPeak(b *testing.B) {
	var c Calendar
	seed := uint64(1)
	next := func(n int64) int64 { // xorshift: the same for every run
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return int64(seed % uint64(n))
	}
	for range 100_000 {
		from := next(1e9)
		c.Add(from, from+1+next(1e6), 1+next(1000))
	}
	b.ReportAllocs()
	for b.Loop() {
		from := next(1e9)
		c.Peak(from, from+1e6)
	}
}
