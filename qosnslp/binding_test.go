package qosnslp

import (
	"slices"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

func (w *world) reserveBound(s gistwire.SID, rate uint32, b ...wire.BoundSession) {
	w.node(1).handle(Initiate{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(rate), Bound: b})
}

// wantGone waits for a session to be nowhere.
func (w *world) wantGone(s gistwire.SID) {
	w.t.Helper()
	w.run(time.Second)
	w.wantStand(s, 0)
}

// "When receiving a message with a BOUND-SESSION-ID object, a QNE MUST copy the
// BOUND-SESSION-ID object into all messages it sends for the same session … MUST
// store the value"; "MUST be ready to process more than one". RFC 5974 §3.2.8, §5.3.3.
// "the RESERVE message MUST include the SESSION-ID of that other session"
// (§5.1.2.1, §5.4.1). All codes of §5.1.3.4.
func TestBoundInAllMessages(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.reserve(sid(2), 4)
	w.run(time.Second)
	bound := []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(11)}, {Code: wire.BindBidirectional, SID: sid(2)},
		{Code: wire.BindAggregate, SID: sid(12)}, {Code: wire.BindDependent, SID: sid(2)}, {Code: wire.BindPreempted, SID: sid(13)}}
	var asked []Binding
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.Kind == Admit {
			asked = q.Bound
		}
		return Verdict{}, false
	}
	w.reserveBound(sid(1), 5, bound...)
	w.run(time.Second)
	w.wantStand(sid(1), 5)
	if len(asked) != 5 || asked[0] != (Binding{bound[0], ""}) || asked[3] != (Binding{bound[3], "installed"}) {
		w.fatal("asked about %+v", asked)
	}
	w.run(3 * time.Minute)
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(6), Bound: bound})
	w.run(time.Second)
	w.node(2).restart()
	if len(w.node(2).m.binders) != 4 {
		w.fatal("after a restart: %v", w.node(2).m.binders)
	}
	w.run(3 * time.Minute)
	w.wantStand(sid(1), 6)
	// An error about the refresh is passed on by RSN.
	i, _ := w.node(2).m.Session(sid(1))
	w.inject(2, 3, sid(1), wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Number: i.RSN, Epoch: w.node(2).epoch},
		HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: wire.ClassProtocolError, Code: wire.ErroneousValue}})
	w.run(time.Second)
	w.node(3).handle(Abandon{SID: sid(1)})
	w.run(time.Second)
	w.wantStand(sid(1), 0)
	kinds := map[string]int{}
	for _, n := range w.nodes {
		for j, m := range n.sent {
			if n.sids[j] != sid(1) {
				continue
			}
			if len(m.BoundSessions) != 5 {
				w.fatal("node %d: %v with %d BOUND-SESSION-IDs", n.id, m.Type, len(m.BoundSessions))
			}
			kinds[m.Type.String()]++
		}
	}
	if kinds["RESERVE"] < 12 || kinds["RESPONSE"] < 4 {
		w.fatal("%v", kinds)
	}
}

// "binding session is alive only if the other session is also alive" (RFC 5974
// §5.1.3.4); the QNE "MUST send a NOTIFY message for each of the reservations"
// (§5.4.1). Whatever way the other session ends, wherever.
func TestDependent(t *testing.T) {
	for what, end := range map[string]func(w *world){
		"terminate": func(w *world) { w.node(1).handle(Terminate{SID: sid(2)}) },
		"abandon":   func(w *world) { w.node(2).handle(Abandon{SID: sid(2)}) },
		"at the end": func(w *world) {
			w.node(3).handle(Abandon{SID: sid(2)})
		},
	} {
		w := newWorld(t, 3, 1)
		w.reserve(sid(2), 4)
		w.run(time.Second)
		dep := wire.BoundSession{Code: wire.BindDependent, SID: sid(2)}
		w.reserveBound(sid(1), 5, dep)
		w.reserveBound(sid(3), 5, wire.BoundSession{Code: wire.BindDependent, SID: sid(1)}) // a chain
		w.reserveBound(sid(4), 5, wire.BoundSession{Code: wire.BindPreempted, SID: sid(2)})
		w.run(time.Second)
		w.wantStand(sid(3), 5)
		end(w)
		w.wantGone(sid(2))
		w.wantGone(sid(1))
		w.wantGone(sid(3))
		w.wantStand(sid(4), 5)
		w.wantResult(sid(1), Terminated)
		w.wantResult(sid(3), Terminated)
		notified := 0
		for _, n := range w.nodes[1:] {
			notified += n.count(isNotify)
		}
		if notified < 2 {
			w.fatal("%s: %d NOTIFYs", what, notified)
		}
		for _, n := range w.nodes {
			for _, m := range n.sent {
				if isNotify(m) {
					w.wantInfo(m, wire.ClassInformational, wire.UnknownBoundSession)
					if len(m.BoundSessions) == 0 {
						w.fatal("a NOTIFY without BOUND-SESSION-ID")
					}
				}
			}
			if len(n.m.binders) != 1 {
				w.fatal("%s: node %d: %v", what, n.id, n.m.binders)
			}
		}
		w.run(time.Hour)
		w.wantStand(sid(4), 5)
	}
}

// Several sessions "admitted all or none" (interdomain-qosm §2): each depends on
// the others; when one is refused, those that stood already go.
func TestAllOrNone(t *testing.T) {
	for refuser := Peer(1); refuser <= 3; refuser++ {
		w := newWorld(t, 3, 1)
		w.node(refuser).answer = func(q *Question) (Verdict, bool) {
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, q.Kind == Admit && q.SID == sid(3)
		}
		for i := range byte(3) {
			var others []wire.BoundSession
			for j := range byte(3) {
				if i != j {
					others = append(others, wire.BoundSession{Code: wire.BindDependent, SID: sid(j + 1)})
				}
			}
			w.reserveBound(sid(i+1), 5, others...)
			w.run(time.Second)
		}
		for i := range byte(3) {
			w.wantGone(sid(i + 1))
			w.wantResult(sid(i+1), map[bool]ResultKind{true: Rejected, false: Terminated}[i == 2])
		}
	}
}

// Bound, but not dependent, with codes 0x01 to 0x03: the QNE "MAY send a NOTIFY",
// and what else to do is the layer above's. RFC 5974 §5.4.1
func TestBoundOnly(t *testing.T) {
	for _, code := range []wire.BindingCode{wire.BindTunnel, wire.BindBidirectional, wire.BindAggregate} {
		w := newWorld(t, 3, 1)
		w.reserve(sid(2), 4)
		b := wire.BoundSession{Code: code, SID: sid(2)}
		w.reserveBound(sid(1), 5, b)
		w.run(time.Second)
		w.node(1).handle(Terminate{SID: sid(2)})
		w.run(time.Second)
		w.wantStand(sid(1), 5)
		for _, n := range w.nodes {
			if len(n.freed) != 1 || n.freed[0] != (BoundEnded{sid(1), b}) {
				w.fatal("node %d: %v", n.id, n.freed)
			}
		}
		if w.node(2).count(isNotify) == 0 {
			w.fatal("no NOTIFY")
		}
		w.run(time.Hour)
		w.wantStand(sid(1), 5)
	}
}

// RFC 5974 §4.4, Figure 9: two sender-initiated sessions, one each way, bound to
// each other "by inserting the BOUND-SESSION-ID object at the QNI and QNR".
func TestBidirectionalSenders(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.back[sid(2)] = true
	w.reserveBound(sid(1), 5, wire.BoundSession{Code: wire.BindBidirectional, SID: sid(2)})
	rev := flow()
	rev.Flow.Source, rev.Flow.Destination = rev.Flow.Destination, rev.Flow.Source
	w.node(4).handle(Initiate{SID: sid(2), NSLPID: 1, MRI: rev, QSPEC: qspec(7), Bound: []wire.BoundSession{{Code: wire.BindBidirectional, SID: sid(1)}}})
	w.run(time.Second)
	w.wantStand(sid(1), 5)
	w.wantStand(sid(2), 7)
	w.run(time.Hour)
	w.wantStand(sid(1), 5)
	w.wantStand(sid(2), 7)
	if i, _ := w.node(2).m.Session(sid(2)); i.Upstream != 3 || i.Downstream != 1 {
		w.fatal("%+v", i)
	}
	w.node(4).handle(Terminate{SID: sid(2)})
	w.wantGone(sid(2))
	w.wantStand(sid(1), 5)
	if n := w.node(1).freed; len(n) != 1 || n[0].SID != sid(1) {
		w.fatal("%v", n)
	}
}

// RFC 5974 §4.4, Figure 10: A, here the last node, is the QNI of both sessions:
// of the sender-initiated one of its own flow, and of the receiver-initiated one
// of the flow towards it, which a QUERY asks for.
func TestBidirectionalSenderReceiver(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.back[sid(1)] = true
	rev := flow()
	rev.Flow.Source, rev.Flow.Destination = rev.Flow.Destination, rev.Flow.Source
	w.node(4).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: rev, QSPEC: qspec(5), Bound: []wire.BoundSession{{Code: wire.BindBidirectional, SID: sid(2)}}})
	w.node(1).handle(Invite{SID: sid(2), NSLPID: 1, MRI: flow(), QSPEC: qspec(7), Bound: []wire.BoundSession{{Code: wire.BindBidirectional, SID: sid(1)}}})
	w.run(time.Second)
	w.wantStand(sid(1), 5)
	w.wantStand(sid(2), 7)
	for _, s := range []gistwire.SID{sid(1), sid(2)} {
		if i, _ := w.node(4).m.Session(s); !i.Initiator {
			w.fatal("%+v", i)
		}
	}
	if m := w.node(4).last(isReserve); len(m.BoundSessions) != 1 || m.BoundSessions[0].Code != wire.BindBidirectional {
		w.fatal("%+v", m)
	}
	w.run(time.Hour)
	w.wantStand(sid(1), 5)
	w.wantStand(sid(2), 7)
}

// What a session can be bound to is bounded.
func TestBoundBounds(t *testing.T) {
	w := scripted(t)
	m := withRII(reserveMsg(0, 5, qspec(1)), 3)
	m.BoundSessions = slices.Repeat([]wire.BoundSession{{Code: wire.BindTunnel}}, maxBound+1)
	w.inject(2, 1, sid(1), m)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassTransientFailure, wire.ReservationFailure)
	if w.node(2).asked[Admit] != 0 {
		w.fatal("asked")
	}
}
