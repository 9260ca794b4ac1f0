package gist

import "math"

// Times inside a machine are nanoseconds since its first event.
type instant = int64

const never instant = math.MaxInt64

// timed is what can stand in the timer heap, at most once: it works out itself
// which of its deadlines has passed.
type timed interface {
	alarm() *alarm
	fire(m *Machine)
}

// alarm is the heap's part of a timed. The zero value is not armed.
type alarm struct {
	at  instant
	pos int32 // in the heap, from 1; 0: not armed
}

// timers is the machine's only timer structure: a 4-ary heap by time.
type timers struct{ heap []timerSlot }

type timerSlot struct {
	at instant
	t  timed
}

func (ts *timers) next() instant {
	if len(ts.heap) == 0 {
		return never
	}
	return ts.heap[0].at
}

// set arms t for at, moves it, or disarms it with never.
func (ts *timers) set(t timed, at instant) {
	a := t.alarm()
	switch {
	case at == never:
		ts.remove(a)
	case a.pos == 0:
		a.at = at
		ts.heap = append(ts.heap, timerSlot{at, t})
		a.pos = int32(len(ts.heap))
		ts.up(len(ts.heap) - 1)
	case at != a.at:
		i := int(a.pos) - 1
		earlier := at < a.at
		a.at = at
		ts.heap[i].at = at
		if earlier {
			ts.up(i)
		} else {
			ts.down(i)
		}
	}
}

// notLater arms t for at unless it fires before that anyway: what is due later
// is looked at again then.
func (ts *timers) notLater(t timed, at instant) {
	if a := t.alarm(); at != never && (a.pos == 0 || at < a.at) {
		ts.set(t, at)
	}
}

func (ts *timers) remove(a *alarm) {
	if a.pos == 0 {
		return
	}
	i, last := int(a.pos)-1, len(ts.heap)-1
	a.pos = 0
	moved := ts.heap[last]
	ts.heap[last] = timerSlot{}
	ts.heap = ts.heap[:last]
	if i == last {
		return
	}
	ts.heap[i] = moved
	moved.t.alarm().pos = int32(i) + 1
	ts.up(i)
	ts.down(int(moved.t.alarm().pos) - 1)
}

// pop takes the earliest off the heap.
func (ts *timers) pop() timed {
	t := ts.heap[0].t
	ts.remove(t.alarm())
	return t
}

func (ts *timers) up(i int) {
	h := ts.heap
	for i > 0 {
		p := (i - 1) / 4
		if h[p].at <= h[i].at {
			return
		}
		ts.swap(i, p)
		i = p
	}
}

func (ts *timers) down(i int) {
	h := ts.heap
	for {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < len(h); c++ {
			if h[c].at < h[least].at {
				least = c
			}
		}
		if least == i {
			return
		}
		ts.swap(i, least)
		i = least
	}
}

func (ts *timers) swap(i, j int) {
	h := ts.heap
	h[i], h[j] = h[j], h[i]
	h[i].t.alarm().pos = int32(i) + 1
	h[j].t.alarm().pos = int32(j) + 1
}
