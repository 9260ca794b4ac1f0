// Package reduced is what a reduced-state interior node keeps of the reservations
// that pass it (RFC 5974 §4.7, §3.2.10.1): an amount for each class, and nothing of
// any session. It is a layer above a stateless qosnslp.Machine: it answers Transit
// questions.
package reduced

import "time"

// Class is a traffic class, as the local QoS model numbers them.
type Class uint16

// Classes counts what is reserved in each class. The initiating edge refreshes each
// reservation once in a period; what is no longer refreshed is no longer counted
// after three periods at the latest. One refresh of each reservation may be lost,
// or move over a window's end, before less is counted than there is. A repeated
// request is counted twice until its window is over, for nobody here can tell.
//
// The unit of amounts is the local QoS model's. Classes is used from one goroutine.
type Classes struct {
	period  time.Duration
	classes map[Class]*counter
}

// counter has windows of a period: index 0 is the current one, 1 the one before.
type counter struct {
	capacity uint64
	ends     time.Time // of the current window; zero: there was none yet
	fresh    [2]uint64 // new requests
	again    [2]uint64 // refreshes
	before   uint64    // all of the window before those
}

// New counts for the classes given, up to their capacities. The period is the edges'
// refresh period and must be positive.
func New(period time.Duration, capacities map[Class]uint64) *Classes {
	if period <= 0 {
		panic("reduced: the period is not positive")
	}
	c := &Classes{period: period, classes: make(map[Class]*counter, len(capacities))}
	for k, v := range capacities {
		c.classes[k] = &counter{capacity: v}
	}
	return c
}

// Reserve takes in a new request; false: the class has no room for it, or there is
// no such class, and nothing is counted.
func (c *Classes) Reserve(now time.Time, class Class, amount uint64) bool {
	k := c.at(now, class)
	if k == nil {
		return false
	}
	if used := k.reserved(); used > k.capacity || amount > k.capacity-used {
		return false
	}
	k.fresh[0] += amount
	return true
}

// Refresh counts a reservation that was taken in before, here or where its path was.
// It is never refused; false: there is no such class, or more is reserved in it now
// than it has.
func (c *Classes) Refresh(now time.Time, class Class, amount uint64) bool {
	k := c.at(now, class)
	if k == nil {
		return false
	}
	k.again[0] = add(k.again[0], amount)
	return k.reserved() <= k.capacity
}

// Release gives back a reservation at once.
func (c *Classes) Release(now time.Time, class Class, amount uint64) {
	k := c.at(now, class)
	if k == nil {
		return
	}
	for i := range k.fresh {
		n := min(k.fresh[i], amount)
		k.fresh[i] -= n
		amount -= n
	}
	for _, p := range []*uint64{&k.again[0], &k.again[1], &k.before} {
		*p -= min(*p, amount)
	}
}

// Reserved returns what is reserved in a class.
func (c *Classes) Reserved(now time.Time, class Class) uint64 {
	if k := c.at(now, class); k != nil {
		return k.reserved()
	}
	return 0
}

// at returns the counter of a class as of now.
func (c *Classes) at(now time.Time, class Class) *counter {
	k := c.classes[class]
	if k == nil {
		return nil
	}
	if now.Sub(k.ends) >= 3*c.period { // nothing of what is counted is of use
		*k = counter{capacity: k.capacity, ends: now.Add(c.period)}
	}
	for !now.Before(k.ends) {
		k.ends = k.ends.Add(c.period)
		k.before = add(k.fresh[1], k.again[1])
		k.fresh[1], k.again[1] = k.fresh[0], k.again[0]
		k.fresh[0], k.again[0] = 0, 0
	}
	return k
}

// reserved: what is new has to be added to what is refreshed; of that the current
// window has only a part so far, so the one before counts, which may lack one that
// the window before it had.
func (k *counter) reserved() uint64 {
	return add(k.fresh[0], max(k.again[0], add(k.fresh[1], max(k.again[1], k.before))))
}

// add stops at the largest number.
func add(a, b uint64) uint64 {
	if s := a + b; s >= a {
		return s
	}
	return ^uint64(0)
}
