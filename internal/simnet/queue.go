package simnet

import "time"

type item struct {
	at    time.Time
	seq   uint64
	timer *Timer
}

func (i item) before(j item) bool {
	if i.at.Equal(j.at) {
		return i.seq < j.seq
	}
	return i.at.Before(j.at)
}

// queue is a binary heap by time, first come first served at equal times.
type queue []item

func (q *queue) push(it item) {
	h := append(*q, it)
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if !h[i].before(h[p]) {
			break
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
	*q = h
}

func (q *queue) pop() item {
	h := *q
	top := h[0]
	last := len(h) - 1
	h[0], h[last] = h[last], item{}
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	*q = h
	return top
}
