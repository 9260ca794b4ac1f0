package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// "The node performs appropriate actions (e.g., installing the reservation)
// based on the QSPEC object in the message." RFC 5974 §4.1. Each has the complete QSPEC
// (RFC 5974 §5.3.8), and is sent to by its neighbours only (RFC 5974 §5.2.2).
func TestReserveRefreshTear(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 20)
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 20)
	for _, n := range w.nodes {
		for _, s := range n.sends {
			if s.Peer != n.id-1 && s.Peer != n.id+1 {
				w.fatal("node %d sends to node %d", n.id, s.Peer)
			}
		}
	}
	for _, n := range w.nodes[:2] {
		if n.m.Stats().RefreshesSent < 10 {
			w.fatal("node %d sent %d refreshes in 10 min", n.id, n.m.Stats().RefreshesSent)
		}
	}
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(time.Second)
	w.wantResult(sid(1), Released)
	w.wantStand(sid(1), 0)
	if n := w.node(2).notes; len(n) != 0 {
		w.fatal("notes at node 2: %v", n)
	}
	w.run(time.Hour)
	for _, n := range w.nodes {
		if st := n.m.Stats(); st.Tombstones != 0 || !n.m.Deadline().IsZero() {
			w.fatal("node %d: %+v, deadline %v", n.id, st, n.m.Deadline())
		}
	}
}

// A refused modification leaves the old reservation, at every node, and a
// refused creation nothing. interdomain-qosm §6
func TestRefused(t *testing.T) {
	for refuser := Peer(1); refuser <= 3; refuser++ {
		w := newWorld(t, 3, uint64(refuser))
		refuse := false
		w.node(refuser).answer = func(q *Question) (Verdict, bool) {
			if q.Kind != Admit || !refuse || string(q.Message.QSPEC) == string(qspec(20)) {
				return Verdict{}, false
			}
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.SLSRefuses}, ResponseQSPEC: qspec(5)}, true
		}
		refuse = true
		w.reserve(sid(1), 99)
		w.run(time.Second)
		r := w.wantResult(sid(1), Rejected)
		if r.Info.Class != wire.ClassQoSModelError || r.Info.Code != wire.SLSRefuses {
			w.fatal("info %v", r.Info)
		}
		w.wantStand(sid(1), 0)

		w.reserve(sid(2), 20)
		w.run(time.Second)
		w.wantResult(sid(2), Reserved)
		w.reserve(sid(2), 99)
		w.run(time.Second)
		r = w.wantResult(sid(2), Rejected)
		if r.Info.Class != wire.ClassQoSModelError {
			w.fatal("info %v", r.Info)
		}
		w.wantStand(sid(2), 20)
		w.run(5 * time.Minute)
		w.wantStand(sid(2), 20)
		refuse = false
		w.reserve(sid(2), 30)
		w.run(time.Second)
		w.wantResult(sid(2), Reserved)
		w.wantStand(sid(2), 30)
	}
}
