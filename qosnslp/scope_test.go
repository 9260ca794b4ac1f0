package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

func initiateScoped(w *world, rate uint32) {
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(rate), Flags: wire.Scoping})
}

// "should not travel down the entire path but only as far as the next QNE
// (scope="next hop")". RFC 5974 §5.1.1, §3.2.7. It is made, changed, refreshed,
// learned again after a loss of memory, and torn, and the third node never hears
// of it.
func TestScopedReservation(t *testing.T) {
	for seed := uint64(0); seed < 8; seed++ {
		w := newWorld(t, 3, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.1, 0.2, 200*time.Millisecond
		}
		for _, rate := range []uint32{20, 30} {
			initiateScoped(w, rate)
			w.run(2 * time.Minute)
			w.wantResult(sid(1), Reserved)
			w.standsUpTo(2, sid(1), rate)
		}
		two := w.node(2)
		if i, _ := two.m.Session(sid(1)); !i.Last {
			w.fatal("%+v", i)
		}
		w.loss = 0
		clear(two.disk)
		two.restart()
		w.run(3 * time.Minute)
		w.standsUpTo(2, sid(1), 30)
		w.node(1).restart()
		w.run(3 * time.Minute)
		w.standsUpTo(2, sid(1), 30)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Minute)
		w.wantStand(sid(1), 0)
		for _, m := range w.node(1).sent {
			if full := m.QSPEC != nil; isReserve(m) && full != (m.Flags&wire.Scoping != 0) {
				w.fatal("RESERVE, full %v, with flags %x", full, m.Flags)
			}
		}
	}
}

// "A RESPONSE message MUST be sent … if the QNE receives a scoped RESERVE"; "the
// RESPONSE message MUST contain the RII object copied from the RESERVE", or where
// there is none the RSN, with which it "MUST NOT be forwarded further along the
// path". RFC 5974 §5.4.3
func TestScopedIsAnswered(t *testing.T) {
	for _, rii := range []bool{true, false} {
		w := scripted(t)
		var scoped []bool
		w.node(2).answer = func(q *Question) (Verdict, bool) {
			if q.Kind == Admit {
				scoped = append(scoped, q.Scoped)
			}
			return Verdict{}, false
		}
		msg := reserveMsg(0, 5, qspec(1))
		msg.Flags, msg.HasRII, msg.RII = wire.Scoping, rii, 77
		for i, code := range []uint8{wire.ReservationSuccessful, wire.RefreshSuccessful, wire.RefreshSuccessful} {
			if i == 2 {
				msg.QSPEC = nil // reduced
			}
			msg.RII++
			w.inject(2, 1, sid(1), msg)
			w.run(time.Second)
			m := w.node(2).last(isResponse)
			w.wantInfo(m, wire.ClassSuccess, code)
			if m.HasRII != rii || rii && m.RII != msg.RII || m.HasRSN == rii || !rii && m.RSN != msg.RSN || w.node(2).count(isResponse) != i+1 {
				w.fatal("%d: RII %v %d, RSN %v, %d RESPONSEs", i, m.HasRII, m.RII, m.RSN, w.node(2).count(isResponse))
			}
		}
		if len(scoped) != 1 || !scoped[0] || len(w.node(3).got) != 0 {
			w.fatal("asked %v, node 3 got %d", scoped, len(w.node(3).got))
		}
	}
}

// The flag is for one hop: a session that is scoped no longer goes on.
func TestScopeEnds(t *testing.T) {
	w := newWorld(t, 3, 1)
	initiateScoped(w, 20)
	w.run(time.Second)
	w.reserve(sid(1), 30)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 30)
}
