package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// aggregation is RFC 5974 §4.6, Figure 13: node 1 is the aggregator and node 3
// the deaggregator. The aggregate, session A, goes over 2 and ends at 3; the
// individual flow, F, passes from 1 to 3 directly, and ends at 4.
func aggregation(t *testing.T, seed uint64) *world {
	w := newWorld(t, 4, seed)
	w.node(1).answer = func(q *Question) (Verdict, bool) {
		if q.Kind != Admit || q.SID != flowF {
			return Verdict{}, false
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 3, Next: hop(1)}, true
	}
	w.node(3).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Accept: true, Last: true}, q.Kind == Admit && q.SID == aggregateA
	}
	return w
}

var (
	aggregateA = sid(1)
	flowF      = sid(2)
)

func msgID(bidirectional bool) *wire.MsgID {
	return &wire.MsgID{Bidirectional: bidirectional, ID: messageID{7, 15: 1}}
}

func (w *world) sendA(d bool) {
	w.node(1).handle(Initiate{SID: aggregateA, NSLPID: 1, MRI: flow(), QSPEC: qspec(50), MsgID: msgID(d)})
}

func (w *world) sendF(d bool) {
	w.node(1).handle(Initiate{SID: flowF, NSLPID: 1, MRI: flow(), QSPEC: qspec(5), BoundMsgID: msgID(d),
		Bound: []wire.BoundSession{{Code: wire.BindAggregate, SID: aggregateA}}})
}

// stands says at which of the nodes given the session is installed.
func (w *world) stands(f, a bool) {
	w.t.Helper()
	for i, n := range w.nodes {
		id := Peer(i + 1)
		_, hasF := n.stand[flowF]
		_, hasA := n.stand[aggregateA]
		if hasF != (f && id != 2) || hasA != (a && id != 4) || len(n.held) != 0 {
			w.fatal("node %d: F %v, A %v, %d held; want F %v, A %v", id, hasF, hasA, len(n.held), f, a)
		}
	}
}

// wantUnbound checks that nothing waits any more.
func (w *world) wantUnbound() {
	w.t.Helper()
	for _, n := range w.nodes {
		if len(n.m.waiting)+len(n.m.triggers)+len(n.m.messagesDone) != 0 {
			w.fatal("node %d: %d wait, %d triggers", n.id, len(n.m.waiting), len(n.m.triggers))
		}
	}
}

// "The bound signaling (RESERVE (1)) arrives first. The receiving QNE enqueues"
// it; "processing of the waiting RESERVE will be resumed" on "successful
// processing of the RESERVE'". The interior QNE' "simply forwards the message";
// "(4): RESERVE: … MSG-ID object was removed". RFC 5974 §3.2.9, §4.6
func TestBoundMessageFirst(t *testing.T) {
	for _, d := range []bool{false, true} {
		w := aggregation(t, 1)
		w.sendF(d)
		w.run(500 * time.Millisecond)
		if w.node(3).asked[Admit] != 0 || len(w.node(3).m.waiting) != 1 {
			w.fatal("F did not wait")
		}
		w.sendA(d)
		w.run(500 * time.Millisecond)
		w.stands(true, true)
		if m := w.node(2).last(isReserve); !m.HasMsgID || m.MsgID != *msgID(d) {
			w.fatal("the interior node sends %+v", m)
		}
		if m := w.node(3).last(isReserve); m.HasMsgID || m.HasBoundMsgID {
			w.fatal("MSG-ID was not removed")
		}
		w.run(10 * time.Minute)
		w.stands(true, true)
		w.wantUnbound()
	}
}

// "The MsgIDWait timer will be stopped as soon as the related RESERVE' arrived",
// however long that one takes; and the RESERVE' waits for as long as the bound
// one has no answer. RFC 5974 §4.6
func TestMsgIDWaitStops(t *testing.T) {
	w := aggregation(t, 1)
	w.node(3).mute[Commit] = true
	w.sendF(false)
	w.run(500 * time.Millisecond)
	w.sendA(false)
	w.run(10 * time.Second)
	if len(w.node(3).m.waiting) != 1 {
		w.fatal("discarded")
	}
	w = aggregation(t, 1)
	lost := 0
	w.filter = func(from, to Peer, m *wire.Message) bool {
		if from == 4 && lost == 0 {
			lost++
			return false
		}
		return true
	}
	w.sendA(true)
	w.run(500 * time.Millisecond)
	w.sendF(true)
	w.run(5 * time.Second)
	w.stands(true, true)
	if n := w.node(3).asked[Admit]; n != 2 {
		w.fatal("%d admissions: one was discarded", n)
	}
}

// "If Message_Binding_Type is UNSET …, then the triggering message can be
// processed normally, but the MSG-ID and the result … should be saved for the
// waiting message." RFC 5974 §4.6
func TestTriggerFirst(t *testing.T) {
	w := aggregation(t, 1)
	w.sendA(false)
	w.run(500 * time.Millisecond)
	w.stands(false, true)
	w.sendF(false)
	w.run(10 * time.Millisecond)
	w.stands(true, true)
	w.run(10 * time.Minute)
	w.wantUnbound()
}

// "If Message_Binding_Type is SET …, then the triggering message … starts a
// MsgIDWait timer"; "Depending on successful processing of the RESERVE (1),
// processing of the waiting RESERVE' will be resumed". RFC 5974 §4.6
func TestTriggerWaits(t *testing.T) {
	w := aggregation(t, 1)
	w.sendA(true)
	w.run(500 * time.Millisecond)
	if i, _ := w.node(3).m.Session(aggregateA); i.Pending != "bound" || w.node(3).asked[Commit] != 0 {
		w.fatal("%+v", i)
	}
	w.sendF(true)
	w.run(10 * time.Millisecond)
	w.stands(true, true)
	w.wantResult(aggregateA, Reserved)
	w.run(2 * time.Minute) // the result is kept so long
	w.wantUnbound()

	// F is refused further on: A fails too, out of step with it.
	w = aggregation(t, 1)
	w.node(4).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, q.Kind == Admit
	}
	w.sendA(true)
	w.run(500 * time.Millisecond)
	w.sendF(true)
	w.run(500 * time.Millisecond)
	w.stands(false, false)
	if r := w.wantResult(aggregateA, Rejected); r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.SyncMismatch {
		w.fatal("%v", r.Info)
	}
	w.run(2 * time.Minute)
	w.wantUnbound()
}

// "The 'triggering message' does not arrive at all": "The MsgIDWait timeout will
// then simply discard the waiting message"; a retransmission waits anew, and a
// trigger that is late is still in time for one. So too for the trigger that
// waits. RFC 5974 §4.6
func TestMessageWaitsInVain(t *testing.T) {
	for name, first := range map[string]func(*world, bool){"F": (*world).sendF, "A": (*world).sendA} {
		w := aggregation(t, 1)
		first(w, true)
		w.run(1900 * time.Millisecond)
		if len(w.node(3).m.waiting)+len(w.node(3).m.triggers) != 1 {
			w.fatal("%s does not wait", name)
		}
		w.run(2 * time.Minute)
		w.stands(false, false)
		w.wantUnbound()
		if w.node(3).count(isResponse) != 0 || w.node(3).notes["unbound"] == 0 {
			w.fatal("%s: it was answered, or not discarded: %v", name, w.node(3).notes)
		}
		s := map[string][2]ResultKind{"F": {TimedOut}, "A": {0, TimedOut}}[name]
		if s[0] != 0 {
			w.wantResult(flowF, s[0])
		} else {
			w.wantResult(aggregateA, s[1])
		}
		if st := w.node(3).m.Stats(); st.Creating+st.Installed+st.Closing != 0 {
			w.fatal("%+v", st)
		}
	}
	w := aggregation(t, 1)
	w.sendF(false)
	w.run(5 * time.Second)
	w.sendA(false)
	w.run(10 * time.Second)
	w.stands(true, true)
	w = aggregation(t, 1)
	w.sendA(true)
	w.run(5 * time.Second)
	w.sendF(true)
	w.run(10 * time.Second)
	w.stands(true, true)
}

// A trigger that fails: the waiting RESERVE, or one that comes later, is told
// that it is out of step. RFC 5974 §4.6, §5.1.3.6
func TestTriggerFails(t *testing.T) {
	for _, boundFirst := range []bool{true, false} {
		w := aggregation(t, 1)
		w.node(3).answer = func(q *Question) (Verdict, bool) {
			return Verdict{Accept: true, Last: true}, q.Kind == Admit && q.SID == aggregateA
		}
		refuse := w.node(3).answer
		w.node(3).answer = func(q *Question) (Verdict, bool) {
			if q.Kind == Commit && q.SID == aggregateA {
				delete(w.node(3).held, q.SID)
				return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.IntraDomainFailed}}, true
			}
			return refuse(q)
		}
		if boundFirst {
			w.sendF(false)
		}
		w.run(500 * time.Millisecond)
		w.sendA(false)
		w.run(500 * time.Millisecond)
		if !boundFirst {
			w.sendF(false)
		}
		w.run(500 * time.Millisecond)
		w.stands(false, false)
		if r := w.wantResult(flowF, Rejected); r.Info.Code != wire.SyncMismatch || r.Info.Class != wire.ClassTransientFailure {
			w.fatal("%v", r.Info)
		}
		w.run(10 * time.Minute)
		w.wantUnbound()
	}
}

// Under loss, repeats and overtaking both stand or each initiator knows better;
// nothing waits for ever.
func TestMessageBindingUnderLoss(t *testing.T) {
	both := 0
	for seed := range uint64(60) {
		w := aggregation(t, seed)
		w.loss, w.dup, w.jitter, w.think = 0.2, 0.2, time.Second, 500*time.Millisecond
		d := seed%2 == 0
		if seed%3 == 0 {
			w.sendF(d)
			w.sendA(d)
		} else {
			w.sendA(d)
			w.sendF(d)
		}
		w.run(3 * time.Minute)
		w.loss, w.dup, w.jitter, w.think = 0, 0, 0, 0
		w.run(20 * time.Minute)
		_, f := w.node(1).stand[flowF]
		_, a := w.node(1).stand[aggregateA]
		w.stands(f, a)
		w.wantUnbound()
		if f && a {
			both++
		}
	}
	if both < 20 {
		t.Fatalf("both stand in %d of 60 cases", both)
	}
}

// Nobody takes another's place in the list, nothing waits for strangers, a TEAR
// ends what waits, and "Only one MSG-ID or BOUND-MSG-ID object per message is
// allowed". RFC 5974 §4.6
func TestMessageBindingRefused(t *testing.T) {
	w := scripted(t)
	bound := func(rsn uint32) wire.Message {
		m := withRII(reserveMsg(rsn, 5, qspec(1)), 3)
		m.HasBoundMsgID, m.BoundMsgID = true, *msgID(false)
		return m
	}
	w.inject(2, 1, sid(1), bound(0))
	w.inject(2, 1, sid(2), bound(0))
	m := bound(0)
	m.BoundMsgID.ID[0]++
	w.node(2).receive(Stranger, sid(3), hop(1), m.Append(nil))
	if n := w.node(2); len(n.m.waiting) != 1 || n.notes["other-binding"] != 1 || n.notes["stranger-binding"] != 1 {
		w.fatal("%d wait, notes %v", len(n.m.waiting), n.notes)
	}
	w.run(time.Minute)
	w.wantUnbound()
	if w.node(2).asked[Admit] != 0 {
		w.fatal("admitted")
	}

	held := withRII(reserveMsg(0, 5, qspec(1)), 4)
	held.HasMsgID, held.MsgID = true, *msgID(true)
	w.inject(3, 2, sid(4), held)
	w.run(time.Millisecond)
	if len(w.node(3).m.triggers) != 1 {
		w.fatal("it does not wait")
	}
	w.run(1500 * time.Millisecond)
	w.inject(3, 2, sid(4), held) // "the MsgIDWait timer being reset"
	w.run(1500 * time.Millisecond)
	if len(w.node(3).m.triggers) != 1 {
		w.fatal("the timer was not reset")
	}
	tear := reserveMsg(1, 5, nil)
	tear.MessageFlags = wire.Tear
	w.inject(3, 2, sid(4), tear)
	w.run(time.Second)
	if _, ok := w.node(3).m.Session(sid(4)); ok || len(w.node(3).held) != 0 {
		w.fatal("it is still there")
	}
	w.run(2 * time.Minute)
	w.wantUnbound()

	acts := w.node(2).m.Handle(w.now, Initiate{SID: sid(5), NSLPID: 1, MRI: flow(), QSPEC: qspec(1), MsgID: msgID(false), BoundMsgID: msgID(false)})
	if r, ok := acts[len(acts)-1].(Result); !ok || r.Kind != Rejected {
		w.fatal("%+v", acts)
	}
}

// An aggregator in the middle makes the next peer wait. RFC 5974 §4.6
func TestAggregatorBinds(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 3, Next: hop(2), BoundMsgID: msgID(false)}, q.Kind == Admit
	}
	w.reserve(sid(1), 5)
	w.run(time.Second)
	if m := w.node(2).last(isReserve); !m.HasBoundMsgID || m.BoundMsgID != *msgID(false) || len(w.node(3).m.waiting) != 1 {
		w.fatal("%+v", m)
	}
}
