package qosnslp

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

func info(c wire.ErrorClass, code uint8) wire.InfoSpec { return wire.InfoSpec{Class: c, Code: code} }

// "They may be sent in either direction (upstream or downstream)"; "Depending on
// the INFO-SPEC value, it MAY contain a QSPEC object"; "The NOTIFY message should
// be propagated back to the QNI or QNR". RFC 5974 §5.4.4, §5.1.2.4, §5.2.5.3
func TestNotifyTravelsToTheEnd(t *testing.T) {
	for _, down := range []bool{false, true} {
		w := newWorld(t, 4, 1)
		w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20),
			Bound: []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(9)}}})
		w.run(time.Second)
		w.wantResult(sid(1), Reserved)
		from, tell := Peer(3), []Peer{2, 1}
		if down {
			from, tell = 2, []Peer{3, 4}
		}
		extra := wire.Object{Action: wire.Forward, Type: 2040, Value: []byte{1, 2, 3, 4}}
		w.node(from).handle(Notify{SID: sid(1), Downstream: down, Info: info(wire.ClassInformational, wire.CongestionSituation),
			QSPEC: qspec(7), Extra: []wire.Object{extra}})
		w.run(time.Second)
		for _, n := range w.nodes {
			if !slices.Contains(tell, n.id) {
				if len(n.notified) != 0 {
					w.fatal("node %d was notified", n.id)
				}
				continue
			}
			if len(n.notified) != 1 {
				w.fatal("down %v: node %d was notified %d times", down, n.id, len(n.notified))
			}
			got := n.notified[0]
			source, _ := got.Message.InfoSpec.Source.Addr()
			o, _ := got.Message.Object(2040)
			if got.Downstream != down || !bytes.Equal(got.Message.QSPEC, qspec(7)) || source.As4()[3] != byte(from) ||
				!bytes.Equal(o.Value, extra.Value) || len(got.Message.BoundSessions) != 1 {
				w.fatal("node %d: %+v", n.id, got)
			}
		}
		// "A NOTIFY message does not directly cause other messages to be sent."
		for _, n := range w.nodes {
			if c := n.count(func(m *wire.Message) bool { return m.Type == wire.Response }); c > 1 {
				w.fatal("node %d answered: %d RESPONSEs", n.id, c)
			}
		}
		w.wantStand(sid(1), 20)
	}
}

// "A NOTIFY message MUST contain an INFO-SPEC object indicating the reason for
// the notification." RFC 5974 §5.1.2.4; and no error answers it.
func TestNotifyWithoutReason(t *testing.T) {
	w := reserved(t, 3)
	sent := len(w.node(2).sent)
	w.inject(2, 3, sid(1), wire.Message{Type: wire.Notify})
	if len(w.node(2).notified) != 0 || len(w.node(2).sent) != sent || w.node(2).m.Stats().Malformed != 1 {
		w.fatal("notified %v, %d sent, %+v", w.node(2).notified, len(w.node(2).sent)-sent, w.node(2).m.Stats())
	}
}

// "NOTIFY messages do not cause any state to be installed." RFC 5974 §5.4.4.
// What is not of the session's peers is dropped.
func TestNotifyOfOthers(t *testing.T) {
	w := reserved(t, 4)
	msg := wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info(wire.ClassTransientFailure, wire.ReservationPreempted)}
	sent := len(w.node(3).sent) + len(w.node(1).sent) + len(w.node(4).sent)
	w.inject(3, 1, sid(1), msg) // not its upstream peer
	w.inject(1, 3, sid(1), msg) // nor its downstream one
	w.inject(4, 5, sid(1), msg) // the last node has none
	w.inject(3, 4, sid(2), msg) // no such session
	w.run(time.Second)
	for _, n := range w.nodes {
		if len(n.notified) != 0 {
			w.fatal("node %d: %+v", n.id, n.notified)
		}
	}
	if len(w.node(3).sent)+len(w.node(1).sent)+len(w.node(4).sent) != sent {
		w.fatal("a foreign NOTIFY had an answer or went on")
	}
	w.wantStand(sid(1), 20)
}

// The SCOPING flag: "should not travel down the entire path but only as far as
// the next QNE". RFC 5974 §5.1.1
func TestNotifyScoped(t *testing.T) {
	w := reserved(t, 4)
	w.node(3).handle(Notify{SID: sid(1), Info: info(wire.ClassInformational, wire.CongestionSituation), Scoped: true})
	w.run(time.Second)
	if len(w.node(2).notified) != 1 || len(w.node(1).notified) != 0 {
		w.fatal("node 2 %v, node 1 %v", w.node(2).notified, w.node(1).notified)
	}
}

// What two neighbours have between them goes no further; "Reduced refreshes not
// supported" is heeded: "the QNE MUST continue to use full refresh messages".
// RFC 5974 §5.4.1, §5.1.3.6
func TestNotifyBetweenNeighbours(t *testing.T) {
	for _, i := range []wire.InfoSpec{info(1, wire.NoReducedRefresh), info(1, wire.UnknownListedSession), info(1, wire.MismatchingRSNInList),
		info(2, wire.Acknowledgement), info(3, wire.ErroneousValue), info(4, wire.FullQSPECRequired)} {
		w := reserved(t, 4)
		w.inject(3, 4, sid(1), wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: i})
		w.run(2 * time.Minute)
		if len(w.node(3).notified) != 1 || len(w.node(2).notified) != 0 {
			w.fatal("%v: node 3 %v, node 2 %v", i, w.node(3).notified, w.node(2).notified)
		}
		full := w.node(3).last(isReserve).QSPEC != nil
		if full != (i.Class == wire.ClassInformational && i.Code == wire.NoReducedRefresh) {
			w.fatal("%v: node 3 refreshes in full: %v", i, full)
		}
		w.wantStand(sid(1), 20)
	}
}

// What the initiator's or the last node's own layer above has to say comes back
// to it.
func TestNotifyAtTheEnd(t *testing.T) {
	w := reserved(t, 2)
	for _, test := range []struct {
		n    Peer
		down bool
	}{{1, false}, {2, true}} {
		n := w.node(test.n)
		n.handle(Notify{SID: sid(1), Downstream: test.down, Info: info(wire.ClassInformational, wire.CongestionSituation)})
		if len(n.notified) != 1 || n.notified[0].Peer != Local || n.count(isNotify) != 0 {
			w.fatal("node %d: %+v", n.id, n.notified)
		}
	}
	w.node(1).handle(Notify{SID: sid(7), Info: info(1, wire.CongestionSituation)})
	w.node(1).handle(Notify{SID: sid(1), Info: info(1, wire.CongestionSituation), QSPEC: []byte{1}})
	if len(w.node(1).notified) != 1 || w.node(1).notes["notify-refused"] != 2 {
		w.fatal("%v %v", w.node(1).notified, w.node(1).notes)
	}
}

// "The NOTIFY message carries information to the QNI that one QNE no longer has a
// reservation for the session … The QNI would normally tear down the preempted
// reservation"; 0x05: "Indicated session caused preemption". "the reservation
// state for this flow is torn down in the QNE". RFC 5974 §5.4.4, §5.1.3.4,
// RFC 5975 §4.3.5. "A BOUND-SESSION-ID object can carry the Session ID of the flow
// that caused the preemption of the signaled session." RFC 5974 §3.2.13
func TestPreempted(t *testing.T) {
	for at := Peer(1); at <= 4; at++ {
		t.Run(fmt.Sprint("node ", at), func(t *testing.T) {
			w := reserved(t, 4)
			w.node(at).handle(Preempt{SID: sid(1), By: sid(8)})
			w.run(time.Second)
			r := w.wantResult(sid(1), Terminated)
			if r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.ReservationPreempted {
				w.fatal("told %v", r.Info)
			}
			if a, _ := r.Info.Source.Addr(); a.As4()[3] != byte(at) {
				w.fatal("told by %v", a)
			}
			w.wantStand(sid(1), 0)
			for n := at - 1; n >= 1; n-- {
				if got := w.node(n).notified; len(got) != 1 || !slices.Equal(got[0].Message.BoundSessions, []wire.BoundSession{{Code: wire.BindPreempted, SID: sid(8)}}) {
					w.fatal("node %d: %+v", n, got)
				}
			}
			if at < 4 && w.node(at).count(isTear) != 1 {
				w.fatal("node %d has not told downstream", at)
			}
			w.run(20 * time.Minute)
			w.wantStand(sid(1), 0)
		})
	}
}

// A change under way is answered, too, and what it holds is released.
func TestPreemptedWhileChanging(t *testing.T) {
	w := reserved(t, 4)
	w.filter = func(from, to Peer, m *wire.Message) bool { return from != 4 } // no answer to the change
	w.reserve(sid(1), 30)
	w.run(time.Second)
	w.node(2).handle(Preempt{SID: sid(1), By: sid(8)})
	w.run(time.Second)
	if r := w.wantResult(sid(1), Terminated); r.Info.Code != wire.ReservationPreempted {
		w.fatal("told %v", r.Info)
	}
	if m := w.node(2).last(isResponse); !m.HasRII || m.InfoSpec.Code != wire.ReservationPreempted {
		w.fatal("the change's RESPONSE: %v", m.InfoSpec)
	}
	w.filter = nil
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 0)
	// Nothing there, and what is being set up has nothing to take.
	w.node(3).handle(Preempt{SID: sid(1)})
	w.node(2).mute[Admit] = true
	w.reserve(sid(2), 20)
	w.run(10 * time.Millisecond)
	w.node(2).handle(Preempt{SID: sid(2)})
	if n := w.node(3).notes["preempt-nothing"] + w.node(2).notes["preempt-nothing"]; n != 2 {
		w.fatal("%d", n)
	}
}

// An old branch's news ends nothing.
func TestPreemptedElsewhere(t *testing.T) {
	w := reserved(t, 3)
	w.node(2).lives++ // to GIST it is another
	w.inject(1, 2, sid(1), wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info(wire.ClassTransientFailure, wire.ReservationPreempted)})
	w.node(2).lives--
	w.run(time.Second)
	w.wantStand(sid(1), 20)
}

// Under loss, repeats and overtaking: whatever becomes of the NOTIFY and of the
// TEARs, a preempted reservation that is not admitted again is gone everywhere
// within a lifetime, and others stand.
func TestPreemptedUnderLoss(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		w := newWorld(t, 4, seed)
		w.reserve(sid(1), 20)
		w.reserve(sid(2), 30)
		w.run(10 * time.Second)
		w.wantResult(sid(1), Reserved)
		w.loss, w.dup, w.jitter = 0.1, 0.2, 50*time.Millisecond
		at := w.node(Peer(2 + seed%3))
		at.answer = func(q *Question) (Verdict, bool) {
			return Verdict{Info: info(wire.ClassQoSModelError, wire.SLSRefuses)}, q.Kind == Admit && q.SID == sid(1)
		}
		at.handle(Preempt{SID: sid(1), By: sid(2)})
		w.run(10 * time.Minute)
		w.wantResult(sid(1), Terminated)
		w.wantStand(sid(1), 0)
		w.loss = 0
		w.run(5 * time.Minute)
		w.wantStand(sid(2), 30)
	}
}
