package qosnslp

import "time"

// instant is a moment in nanoseconds since shortly before the machine's first
// event; 0 is never.
type instant int64

// timer is what stands in the timer heap: a session, a tombstone, a batch, a
// query, a path, a transit or an entry of the message bindings. pos is its entry's index plus one; 0: not in it.
type timer interface{ pos() *int32 }

func (s *session) pos() *int32   { return &s.heapPos }
func (t *tombstone) pos() *int32 { return &t.heapPos }
func (b *batch) pos() *int32     { return &b.heapPos }

// timed is an entry of the timer heap. It may be earlier than what it waits
// for, never later: moving a deadline away, as every refresh does, costs
// nothing.
type timed struct {
	at  instant
	who timer
}

func (e *timed) pos() *int32 { return e.who.pos() }

// timers is a binary heap, the machine's only timer structure.
type timers struct{ h []timed }

func (q *timers) next() instant {
	if len(q.h) == 0 {
		return 0
	}
	return q.h[0].at
}

// want makes sure that e fires at e.at or before; at 0 is ignored.
func (q *timers) want(e timed) {
	if e.at == 0 {
		return
	}
	p := *e.pos()
	if p == 0 {
		q.h = append(q.h, e)
		q.up(len(q.h) - 1)
		return
	}
	if i := int(p - 1); e.at < q.h[i].at {
		q.h[i].at = e.at
		q.up(i)
	}
}

// later moves the entry at the heap's top to at.
func (q *timers) later(at instant) {
	q.h[0].at = at
	q.down(0)
}

func (q *timers) remove(pos *int32) {
	if *pos == 0 {
		return
	}
	i, last := int(*pos-1), len(q.h)-1
	*pos = 0
	moved := q.h[last]
	q.h[last] = timed{}
	q.h = q.h[:last]
	if i == last {
		return
	}
	q.h[i] = moved
	*moved.pos() = int32(i + 1)
	q.down(i)
	q.up(int(*moved.pos() - 1))
}

func (q *timers) up(i int) {
	e := q.h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if q.h[parent].at <= e.at {
			break
		}
		q.h[i] = q.h[parent]
		*q.h[i].pos() = int32(i + 1)
		i = parent
	}
	q.h[i] = e
	*e.pos() = int32(i + 1)
}

func (q *timers) down(i int) {
	e := q.h[i]
	for {
		c := 2*i + 1
		if c >= len(q.h) {
			break
		}
		if c+1 < len(q.h) && q.h[c+1].at < q.h[c].at {
			c++
		}
		if e.at <= q.h[c].at {
			break
		}
		q.h[i] = q.h[c]
		*q.h[i].pos() = int32(i + 1)
		i = c
	}
	q.h[i] = e
	*e.pos() = int32(i + 1)
}

// earliest returns the earlier of two, where 0 is never.
func earliest(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// after returns the instant that is d from now.
func (m *Machine) after(d time.Duration) instant { return m.now + instant(d) }
