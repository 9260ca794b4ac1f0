// Package calendar sums up rates over time: what is booked, at any instant.
package calendar

import (
	"math"
	"slices"
)

// Past and Forever are the ends of an interval that is open on that side.
const (
	Past    = math.MinInt64
	Forever = math.MaxInt64
)

// Calendar is a sum of rates over time: a step function, kept as the changes
// at its steps in an AVL tree, whose nodes also know the sum of the changes
// below them and the largest and smallest running sum. Every operation takes
// O(log n) in the number of future steps.
//
// Times are numbers of a unit that its user chooses, and above 0 but for Past;
// intervals include their first instant, and not their last. The sum of all
// rates stays below 2^61 at any instant.
//
// What lies before the horizon is folded into one number. A reservation that
// starts now and has no end, the ordinary case, touches only that number.
//
// The zero Calendar is empty, its horizon 0.
type Calendar struct {
	base    int64 // sum in force at the horizon
	horizon int64 // nothing is asked about the time before
	root    int32
	free    int32 // chain of unused nodes through left
	nodes   []step
}

// step is a change of the sum at an instant. Index 0 is the empty tree.
type step struct {
	at, change  int64
	all         sums // of the subtree
	left, right int32
	height      int32
}

// sums are what a run of changes adds up to: in all, and at the highest and
// lowest instant, counted from what was before.
type sums struct{ sum, high, low int64 }

// The extremes over no instant at all. A quarter of the range is left so that
// adding to them does not overflow.
var nothing = sums{high: math.MinInt64 / 4, low: math.MaxInt64 / 4}

func single(change int64) sums { return sums{change, change, change} }

// then appends the run b to the run a.
func (a sums) then(b sums) sums {
	return sums{a.sum + b.sum, max(a.high, a.sum+b.high), min(a.low, a.sum+b.low)}
}

// Add adds rate, which may be negative, from an instant until another.
func (c *Calendar) Add(from, until, rate int64) {
	if until <= from || rate == 0 {
		return
	}
	c.change(from, rate)
	if until != Forever {
		c.change(until, -rate)
	}
}

// Empty says whether the sum is 0 at every instant.
func (c *Calendar) Empty() bool { return c.base == 0 && c.root == 0 }

func (c *Calendar) change(at, change int64) {
	if at <= c.horizon {
		c.base += change
		return
	}
	c.root = c.insert(c.root, at, change)
}

// Advance moves the horizon to now; it never moves back.
func (c *Calendar) Advance(now int64) {
	if now <= c.horizon {
		return
	}
	c.horizon = now
	for c.root != 0 {
		n := c.root
		for c.nodes[n].left != 0 {
			n = c.nodes[n].left
		}
		at, change := c.nodes[n].at, c.nodes[n].change
		if at > now {
			return
		}
		c.base += change
		c.root = c.insert(c.root, at, -change)
	}
}

// At returns the sum in force at t.
func (c *Calendar) At(t int64) int64 {
	v := c.base
	for n := c.root; n != 0; {
		s := &c.nodes[n]
		if s.at > t {
			n = s.left
			continue
		}
		v += c.nodes[s.left].all.sum + s.change
		n = s.right
	}
	return v
}

// Peak returns the largest sum in force at any instant of an interval, and 0 or
// less if the interval is empty or before the horizon.
func (c *Calendar) Peak(from, until int64) int64 {
	from = max(from, c.horizon)
	if until <= from {
		return 0
	}
	v := c.At(from)
	if c.root == 0 {
		return v
	}
	return max(v, v+c.between(c.root, from, until).high)
}

// FirstAbove returns the first instant, not before t, at which the sum is more
// than limit, and Forever if there is none.
func (c *Calendar) FirstAbove(t, limit int64) int64 {
	t = max(t, c.horizon)
	v := c.At(t)
	if v > limit {
		return t
	}
	return c.seek(c.root, t, &v, func(s sums, v int64) bool { return v+s.high > limit })
}

// FirstWithin returns the first instant, not before t, at which the sum is at
// most limit, and Forever if there is none.
func (c *Calendar) FirstWithin(t, limit int64) int64 {
	t = max(t, c.horizon)
	v := c.At(t)
	if v <= limit {
		return t
	}
	return c.seek(c.root, t, &v, func(s sums, v int64) bool { return v+s.low <= limit })
}

// NextChange returns the first instant after t at which the sum changes, and
// Forever if it does not any more.
func (c *Calendar) NextChange(t int64) int64 {
	next := int64(Forever)
	for n := c.root; n != 0; {
		if s := &c.nodes[n]; s.at > t {
			next, n = s.at, s.left
		} else {
			n = s.right
		}
	}
	return next
}

// seek finds the first step after t whose running sum, starting from *v, is
// one that hit reports. hit is asked about whole subtrees first.
func (c *Calendar) seek(n int32, t int64, v *int64, hit func(sums, int64) bool) int64 {
	if n == 0 {
		return Forever
	}
	s := &c.nodes[n]
	if s.at <= t {
		return c.seek(s.right, t, v, hit)
	}
	if t == Past && !hit(s.all, *v) {
		*v += s.all.sum
		return Forever
	}
	if at := c.seek(s.left, t, v, hit); at != Forever {
		return at
	}
	if hit(single(s.change), *v) {
		return s.at
	}
	*v += s.change
	return c.seek(s.right, Past, v, hit) // all of it is after t
}

// between sums up the steps after lo and before hi.
func (c *Calendar) between(n int32, lo, hi int64) sums {
	for n != 0 {
		s := &c.nodes[n]
		switch {
		case s.at <= lo:
			n = s.right
		case s.at >= hi:
			n = s.left
		default:
			return c.after(s.left, lo).then(single(s.change)).then(c.before(s.right, hi))
		}
	}
	return nothing
}

func (c *Calendar) after(n int32, lo int64) sums {
	r := nothing
	for n != 0 {
		s := &c.nodes[n]
		if s.at <= lo {
			n = s.right
			continue
		}
		r = single(s.change).then(c.nodes[s.right].all).then(r)
		n = s.left
	}
	return r
}

func (c *Calendar) before(n int32, hi int64) sums {
	r := nothing
	for n != 0 {
		s := &c.nodes[n]
		if s.at >= hi {
			n = s.left
			continue
		}
		r = r.then(c.nodes[s.left].all).then(single(s.change))
		n = s.right
	}
	return r
}

// insert adds change to the step at the instant, makes the step if it is not
// there, and takes it away if nothing of it is left.
func (c *Calendar) insert(n int32, at, change int64) int32 {
	if n == 0 {
		return c.newStep(at, change)
	}
	switch s := &c.nodes[n]; {
	case at < s.at:
		l := c.insert(s.left, at, change)
		c.nodes[n].left = l // s may be stale: insert can move the nodes
	case at > s.at:
		r := c.insert(s.right, at, change)
		c.nodes[n].right = r
	default:
		s.change += change
		if s.change == 0 {
			return c.remove(n)
		}
	}
	return c.balance(n)
}

func (c *Calendar) remove(n int32) int32 {
	left, right := c.nodes[n].left, c.nodes[n].right
	c.nodes[n] = step{left: c.free}
	c.free = n
	if left == 0 || right == 0 {
		return max(left, right)
	}
	right, least := c.detachFirst(right)
	c.nodes[least].left, c.nodes[least].right = left, right
	return c.balance(least)
}

// detachFirst takes the earliest step out of a subtree.
func (c *Calendar) detachFirst(n int32) (rest, first int32) {
	s := &c.nodes[n]
	if s.left == 0 {
		return s.right, n
	}
	s.left, first = c.detachFirst(s.left)
	return c.balance(n), first
}

func (c *Calendar) newStep(at, change int64) int32 {
	n := c.free
	switch {
	case n != 0:
		c.free = c.nodes[n].left
	case len(c.nodes) == 0:
		c.nodes = append(c.nodes, step{all: nothing}, step{})
		n = 1
	default:
		c.nodes = append(c.nodes, step{})
		n = int32(len(c.nodes) - 1)
	}
	c.nodes[n] = step{at: at, change: change, all: single(change), height: 1}
	return n
}

// balance restores the AVL condition at n, and its sums.
func (c *Calendar) balance(n int32) int32 {
	s := &c.nodes[n]
	switch d := c.nodes[s.left].height - c.nodes[s.right].height; {
	case d > 1:
		if l := &c.nodes[s.left]; c.nodes[l.left].height < c.nodes[l.right].height {
			s.left = c.rotateLeft(s.left)
		}
		return c.rotateRight(n)
	case d < -1:
		if r := &c.nodes[s.right]; c.nodes[r.right].height < c.nodes[r.left].height {
			s.right = c.rotateRight(s.right)
		}
		return c.rotateLeft(n)
	}
	c.update(n)
	return n
}

func (c *Calendar) rotateLeft(n int32) int32 {
	r := c.nodes[n].right
	c.nodes[n].right, c.nodes[r].left = c.nodes[r].left, n
	c.update(n)
	c.update(r)
	return r
}

func (c *Calendar) rotateRight(n int32) int32 {
	l := c.nodes[n].left
	c.nodes[n].left, c.nodes[l].right = c.nodes[l].right, n
	c.update(n)
	c.update(l)
	return l
}

func (c *Calendar) update(n int32) {
	s := &c.nodes[n]
	l, r := &c.nodes[s.left], &c.nodes[s.right]
	s.height = 1 + max(l.height, r.height)
	s.all = l.all.then(single(s.change)).then(r.all)
}

// Clone returns a copy that shares nothing with the calendar.
func (c *Calendar) Clone() Calendar {
	d := *c
	d.nodes = slices.Clone(c.nodes)
	return d
}
