package qosnslp

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// A RESERVE that its own TEAR has overtaken makes nothing: "RSN values MUST also
// be interpreted in order to distinguish whether the tear down is valid".
// RFC 5974 §5.3.6
func TestTearOvertakesReserve(t *testing.T) {
	w := scripted(t)
	tear := reserveMsg(1, 5, nil)
	tear.MessageFlags = wire.Tear
	w.inject(2, 1, sid(1), withRII(tear, 10))
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.TeardownSuccessful)
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	w.run(time.Second)
	if w.node(2).asked[Admit] != 0 {
		w.fatal("an overtaken RESERVE was asked about")
	}
	w.inject(2, 1, sid(1), withRII(reserveMsg(2, 5, qspec(1)), 11))
	if w.node(2).asked[Admit] != 1 {
		w.fatal("a newer one was not")
	}
}

// A repeat of a change that was refused is answered from state: asked again it
// might be granted, and the initiator was told otherwise.
func TestRepeatOfRefusedChange(t *testing.T) {
	w := scripted(t)
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	w.run(time.Second)
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}, q.Kind == Admit
	}
	change := withRII(reserveMsg(1, 5, qspec(2)), 10)
	w.inject(2, 1, sid(1), change)
	w.run(time.Second)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassQoSModelError, wire.IntraDomainFailed)
	w.node(2).answer = nil
	w.inject(2, 1, sid(1), change)
	w.run(time.Second)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassQoSModelError, wire.IntraDomainFailed)
	if w.node(2).asked[Admit] != 2 || w.node(3).stand[sid(1)].qspec != string(qspec(1)) {
		w.fatal("the repeat was asked about")
	}
}

// Whoever waits in the queue of a session that ends is told.
func TestQueueEnds(t *testing.T) {
	w := newWorld(t, 2, 3)
	w.think = time.Second
	w.reserve(sid(1), 1)
	w.reserve(sid(1), 2)
	w.reserve(sid(1), 3)
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(10 * time.Second)
	rs := w.results[sid(1)]
	if len(rs) != 3 || rs[0].Kind != Rejected || rs[1].Kind != Rejected || rs[2].Kind != Released {
		w.fatal("results %v", rs)
	}
	w.wantStand(sid(1), 0)
}

// After a restart the first thing that downstream hears is the whole RESERVE.
func TestRestoreSaysAll(t *testing.T) {
	w := reserved(t, 3)
	w.node(2).restart()
	sent := len(w.node(2).sent)
	w.run(30 * time.Second)
	m := w.node(2).sent[sent]
	if !isReserve(m) || m.QSPEC == nil || !m.HasRII || m.RSN.Number == 0 || m.RSN.Epoch != w.node(2).epoch {
		w.fatal("sent %v with QSPEC %x, RII %v, RSN %v", m.Type, m.QSPEC, m.HasRII, m.RSN)
	}
}

// A transient or permanent failure as the answer to a change says that the
// reservation is gone: the session ends at each node on the way. Of class 6 it
// says that the old one stays.
func TestFailureOfChange(t *testing.T) {
	for _, c := range []struct {
		class wire.ErrorClass
		code  uint8
		ends  bool
	}{
		{wire.ClassTransientFailure, wire.ReservationFailure, true},
		{wire.ClassPermanentFailure, wire.AuthorizationFailure, true},
		{wire.ClassTransientFailure, wire.RIIConflict, false},
		{wire.ClassProtocolError, wire.MalformedQSPEC, false},
		{wire.ClassQoSModelError, wire.SLSRefuses, false},
	} {
		w := reserved(t, 3)
		w.node(3).mute[Admit] = true
		w.reserve(sid(1), 30)
		w.run(time.Second)
		w.inject(2, 3, sid(1), wire.Message{Type: wire.Response, HasRII: true, RII: w.node(2).last(isReserve).RII,
			HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: c.class, Code: c.code}})
		w.node(3).mute[Admit] = false
		w.run(2 * time.Second)
		if c.ends {
			w.wantResult(sid(1), Terminated)
			w.run(5 * time.Minute)
			w.wantStand(sid(1), 0)
		} else {
			w.wantResult(sid(1), Rejected)
			w.run(3 * time.Minute)
			w.wantStand(sid(1), 20)
		}
	}
}

// "The default behavior, in order to protect the QNE from a possible
// denial-of-service attack, is to silently drop the message." RFC 5974 §5.4.
// Strangers leave nothing behind, neither state nor tombstones, and change
// nothing that others left.
func TestStrangers(t *testing.T) {
	w := reserved(t, 3)
	n := w.node(2)
	n.answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassPermanentFailure, Code: wire.AuthorizationFailure}}, q.Kind == Admit && q.Upstream == Stranger
	}
	w.reserve(sid(2), 5)
	w.run(time.Second)
	w.node(1).handle(Terminate{SID: sid(2)})
	w.run(time.Second)
	before, tomb := n.m.Stats(), *n.m.tombs[sid(2)]
	tear := reserveMsg(9, 77, nil)
	tear.MessageFlags = wire.Tear
	ok := wire.Message{Type: wire.Response, HasRII: true, RII: 9, HasInfoSpec: true,
		InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}}
	w.filter = func(_, to Peer, _ *wire.Message) bool { return to != Stranger }
	for i := range byte(10) {
		for _, msg := range []wire.Message{
			withRII(reserveMsg(9, 77, qspec(1)), 9), reserveMsg(9, 77, nil), withRII(tear, 9),
			{Type: wire.Reserve, QSPEC: qspec(1)}, ok, {Type: wire.Notify},
		} {
			mri := hop(1)
			if msg.Type != wire.Reserve {
				mri = hop(2).Reverse()
			}
			n.receive(Stranger, sid(i), mri, msg.Append(nil))
			w.run(time.Millisecond)
		}
	}
	after := n.m.Stats()
	if after.Installed != before.Installed || after.Creating+after.Closing+after.OpenQuestions != 0 || after.Tombstones != before.Tombstones || after.Tears != before.Tears {
		w.fatal("%+v\n%+v", before, after)
	}
	if got := n.m.tombs[sid(2)]; got.upRSN != tomb.upRSN || got.peer != tomb.peer || got.until != tomb.until {
		w.fatal("tombstone %+v, was %+v", got, tomb)
	}
	w.wantStand(sid(1), 20)
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(time.Second)
	w.wantResult(sid(1), Released)
}

// The timers fire in order, whatever is put in, moved and taken out.
func TestTimers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q timers
	all := make([]*session, 200)
	due := make(map[*session]instant)
	for i := range all {
		all[i] = &session{}
	}
	for range 20_000 {
		s := all[rng.IntN(len(all))]
		switch rng.IntN(4) {
		case 0, 1:
			at := instant(rng.IntN(1000) + 1)
			q.want(timed{at: at, who: s})
			if old, ok := due[s]; !ok || at < old {
				due[s] = at
			}
		case 2:
			q.remove(&s.heapPos)
			delete(due, s)
		case 3:
			var first instant
			for _, at := range due {
				first = earliest(first, at)
			}
			if q.next() != first {
				t.Fatalf("next is %d, want %d", q.next(), first)
			}
			if first != 0 {
				top := q.h[0].who.(*session)
				if rng.IntN(2) == 0 {
					q.later(first + 50)
					due[top] = first + 50
				} else {
					q.remove(&top.heapPos)
					delete(due, top)
				}
			}
		}
		if len(q.h) != len(due) {
			t.Fatalf("%d entries, want %d", len(q.h), len(due))
		}
	}
}
