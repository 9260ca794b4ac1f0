package qosnslp

import (
	"encoding/binary"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/aggregate"
	"github.com/interqos/interqos/qosnslp/wire"
)

// aggregator is the layer above of region's node 2, with qosnslp/aggregate: the
// aggregate's session is made, grows, shrinks and ends as the sessions in it need.
type aggregator struct {
	w       *world
	n       *node
	a       *aggregate.Aggregate
	waiting map[gistwire.SID]Question
	changes int
	tick    bool
}

func newAggregator(w *world, p aggregate.Policy) *aggregator {
	a, err := aggregate.New(p)
	if err != nil {
		w.t.Fatal(err)
	}
	g := &aggregator{w: w, n: w.node(2), a: a, waiting: map[gistwire.SID]Question{}}
	g.n.answer = g.answer
	g.n.result = func(r Result) {
		switch {
		case r.SID != aggregateA:
		case r.Kind == Reserved, r.Kind == Released:
			g.follow(a.Resized(w.now, true))
		case r.Kind == Terminated:
			for _, s := range a.Lost() {
				g.n.handle(Abandon{SID: s, Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
			}
		default:
			g.follow(a.Resized(w.now, false))
		}
	}
	return g
}

func (g *aggregator) carried(q *Question) Verdict {
	return Verdict{Ticket: q.Ticket, Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 5, Next: hop(2), NSLPID: q.NSLPID + 1,
		Bound: []wire.BoundSession{{Code: wire.BindAggregate, SID: aggregateA}}}
}

func (g *aggregator) answer(q *Question) (Verdict, bool) {
	if q.SID == aggregateA {
		return Verdict{}, false
	}
	defer g.arm()
	switch q.Kind {
	case Admit:
		d, size := g.a.Admit(g.w.now, q.SID, uint64(binary.BigEndian.Uint32(q.Message.QSPEC[4:])))
		switch d {
		case aggregate.Fits:
			return g.carried(q), true
		case aggregate.Grows:
			id := g.ask(size, true)
			v := g.carried(q)
			v.BoundMsgID = id
			return v, true
		case aggregate.Waits:
			g.waiting[q.SID] = *q
			if size != 0 {
				g.ask(size, false)
			}
			return Verdict{Ticket: later}, true
		}
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}, true
	case Fail:
		if _, ok := g.n.stand[q.SID]; !ok {
			g.a.Remove(g.w.now, q.SID)
		}
	case Release:
		g.a.Remove(g.w.now, q.SID)
	}
	return Verdict{}, false
}

// ask has the aggregate's session have this size; with bound a session's RESERVE
// waits for it at the deaggregator.
func (g *aggregator) ask(size uint64, bound bool) *wire.MsgID {
	g.changes++
	id := &wire.MsgID{ID: messageID{0: 9, 15: byte(g.changes), 14: byte(g.changes >> 8)}}
	ev := Initiate{SID: aggregateA, NSLPID: 1, MRI: flow(), QSPEC: qspec(uint32(size))}
	if bound {
		ev.MsgID = id
	}
	g.w.at(0, func() {
		if size == 0 {
			g.n.handle(Terminate{SID: aggregateA})
			return
		}
		g.n.handle(ev)
	})
	return id
}

func (g *aggregator) follow(o aggregate.Outcome) {
	give := func(s gistwire.SID, v Verdict) {
		q := g.waiting[s]
		delete(g.waiting, s)
		v.Ticket = q.Ticket
		g.n.held[s] = grant{q.RSN, string(q.Message.QSPEC)}
		if !v.Accept {
			delete(g.n.held, s)
		}
		g.w.at(0, func() { g.n.handle(v) })
	}
	for _, s := range o.Go {
		q := g.waiting[s]
		give(s, g.carried(&q))
	}
	for _, s := range o.Refused {
		give(s, Verdict{Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
	}
	if o.Grow {
		g.ask(o.Size, false)
	}
	g.arm()
}

// arm calls Shrink at its deadline.
func (g *aggregator) arm() {
	at := g.a.Deadline()
	if g.tick || at.IsZero() {
		return
	}
	g.tick = true
	g.w.at(at.Sub(g.w.now), func() {
		g.tick = false
		if size, ok := g.a.Shrink(g.w.now); ok {
			g.ask(size, false)
		}
		g.arm()
	})
}

// "the reservations for a number of flows may be aggregated", "in order to reduce
// signaling and per-flow state in the network". RFC 5974 §3.2.10.3, §4.5. Under
// loss, repeats and overtaking the aggregate never carries more than it is; the nodes
// inside have one session, and it changes much less often than the flows do.
func TestAggregateFollowsFlows(t *testing.T) {
	for seed := range uint64(6) {
		w := region(t, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.03, 0.1, 100*time.Millisecond
		}
		g := newAggregator(w, aggregate.Policy{Block: 20, Idle: time.Minute, Retry: time.Second})
		reserve := func(i byte, rate uint32) {
			for range 6 {
				w.reserve(sid(10+i), rate)
				w.run(40 * time.Second)
				if w.result(sid(10+i)).Kind == Reserved {
					return
				}
			}
			w.fatal("flow %d is not reserved", i)
		}
		for i := range byte(30) {
			w.reserve(sid(10+i), uint32(1+i%5))
			w.run(time.Duration(w.rng.IntN(3)) * time.Second)
		}
		w.run(time.Minute)
		used := uint32(0)
		for i := range byte(30) {
			if w.result(sid(10+i)).Kind != Reserved {
				reserve(i, uint32(1+i%5))
			}
			used += uint32(1 + i%5)
		}
		w.loss, w.dup, w.jitter = 0, 0, 0
		w.run(10 * time.Minute)
		for i := range byte(30) {
			w.wantAt(sid(10+i), uint32(1+i%5), 1, 2, 5, 6)
		}
		if g.a.Used() != uint64(used) || g.a.Size() < g.a.Used() || g.a.Size() >= g.a.Used()+20 {
			w.fatal("%d used of %d, want %d", g.a.Used(), g.a.Size(), used)
		}
		w.wantAt(aggregateA, uint32(g.a.Size()), 2, 3, 4, 5)
		if st := w.node(3).m.Stats(); st.Installed != 1 || g.changes > 12 {
			w.fatal("%+v inside, %d changes", st, g.changes)
		}
		for i := range byte(20) {
			w.node(1).handle(Terminate{SID: sid(10 + i)})
		}
		w.run(10 * time.Minute)
		if g.a.Size() >= g.a.Used()+20 {
			w.fatal("it has not shrunk: %d used of %d", g.a.Used(), g.a.Size())
		}
		w.wantAt(aggregateA, uint32(g.a.Size()), 2, 3, 4, 5)
		for i := range byte(30) {
			w.node(1).handle(Terminate{SID: sid(10 + i)})
		}
		w.run(20 * time.Minute)
		w.wantAt(aggregateA, 0)
		for i := range byte(30) {
			w.wantAt(sid(10+i), 0)
		}
		if g.a.Size() != 0 || len(g.waiting) != 0 {
			w.fatal("%d is left, %d wait", g.a.Size(), len(g.waiting))
		}
		w.wantUnbound()
	}
}

// The aggregate cannot grow: the session that asks for it is refused, and nothing of
// it stays; those that are in it stay. It ends: what it carried ends.
func TestAggregateRefused(t *testing.T) {
	w := region(t, 1)
	w.node(4).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.SLSRefuses}}, q.Kind == Admit && binary.BigEndian.Uint32(q.Message.QSPEC[4:]) > 20
	}
	g := newAggregator(w, aggregate.Policy{Block: 10, Retry: time.Minute})
	for i := range byte(4) {
		w.reserve(sid(10+i), 8)
	}
	w.run(2 * time.Minute)
	reserved := 0
	for i := range byte(4) {
		if w.result(sid(10+i)).Kind == Reserved {
			reserved++
			w.wantAt(sid(10+i), 8, 1, 2, 5, 6)
		} else {
			w.wantAt(sid(10+i), 0)
		}
	}
	if reserved == 0 || reserved > 2 || g.a.Used() != uint64(8*reserved) || g.a.Used() > g.a.Size() {
		w.fatal("%d reserved, %d used of %d", reserved, g.a.Used(), g.a.Size())
	}
	w.node(4).handle(Abandon{SID: aggregateA, Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
	w.run(10 * time.Minute)
	for i := range byte(4) {
		w.wantAt(sid(10+i), 0)
	}
	w.wantAt(aggregateA, 0)
	w.wantUnbound()
}
