package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// lastWorld is a chain whose node 2 may be the last one, and cannot reach node 3.
func lastWorld(t *testing.T, seed uint64) *world {
	w := newWorld(t, 4, seed)
	w.node(2).orLast = true
	w.unreachable[[2]Peer{2, 3}] = true
	return w
}

// wantLast checks that the session ends at node 2, and that nothing is beyond.
func (w *world) wantLast(rate uint32) {
	w.t.Helper()
	w.wantAt(sid(1), rate, 1, 2)
	if i, _ := w.node(2).m.Session(sid(1)); !i.Last {
		w.fatal("%+v", i)
	}
}

// "A node on the path, that was not previously the last node, MUST take over as the
// last node on the signaling path if GIST path change detection identifies that there
// are no further downstream nodes on the path"; and it "MUST continue to attempt to
// send messages downstream to probe for path changes". RFC 5974 §5.2.5.1, §3.2.12.1
func TestTakesOverAsLast(t *testing.T) {
	for seed := range uint64(5) {
		w := lastWorld(t, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.1, 0.2, 200*time.Millisecond
		}
		w.reserve(sid(1), 20)
		w.run(time.Minute)
		w.wantResult(sid(1), Reserved)
		w.wantLast(20)
		w.reserve(sid(1), 30)
		w.run(10 * time.Minute)
		w.wantResult(sid(1), Reserved)
		w.wantLast(30)
		tries := 0
		for i, m := range w.node(2).sent {
			if isReserve(m) && w.node(2).sends[i].Peer == 3 {
				tries++
				if m.QSPEC == nil || !m.HasRII {
					w.fatal("node 2 looks on with %+v", m)
				}
			}
		}
		if tries < 10 || tries > 60 {
			w.fatal("%d tries in 11 minutes", tries)
		}
		// "This must be done in order to handle the 'Path Extension' case".
		delete(w.unreachable, [2]Peer{2, 3})
		w.loss = 0
		w.run(2 * time.Minute)
		w.wantStand(sid(1), 30)
		w.run(20 * time.Minute)
		w.wantStand(sid(1), 30)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(10 * time.Minute)
		w.wantStand(sid(1), 0)
	}
}

// A node that may not be the last one says that the path is truncated.
func TestNobodyThere(t *testing.T) {
	w := lastWorld(t, 1)
	w.node(2).orLast = false
	w.reserve(sid(1), 20)
	w.run(time.Minute)
	if r := w.wantResult(sid(1), Rejected); r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.PathTruncated {
		w.fatal("%v", r.Info)
	}
	w.wantStand(sid(1), 0)
}

// The path's own end, or a proxy for it, looks for nobody.
func TestLastNodeIsTheEnd(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.node(3).orLast = true
	w.reserve(sid(1), 20)
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 20)
	if n := w.node(3).count(isReserve); n != 0 {
		w.fatal("%d", n)
	}
}

// There is somebody now, who refuses or does not answer: the path still ends here, and
// what was asked for there is not left behind. Later it is had.
func TestExtensionRefused(t *testing.T) {
	for _, silent := range []bool{false, true} {
		w := lastWorld(t, 1)
		w.reserve(sid(1), 20)
		w.run(time.Minute)
		delete(w.unreachable, [2]Peer{2, 3})
		refuses := true
		w.node(3).answer = func(q *Question) (Verdict, bool) {
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}, refuses && q.Kind == Admit && !silent
		}
		w.filter = func(from, to Peer, m *wire.Message) bool { return !silent || !refuses || !isResponse(m) || from != 3 }
		w.run(10 * time.Minute)
		if i, _ := w.node(2).m.Session(sid(1)); !i.Last || w.node(1).m.Stats().Installed != 1 {
			w.fatal("%+v", i)
		}
		if silent && w.node(2).notes["extension-unanswered"] == 0 || !silent && w.node(2).notes["extension-refused"] == 0 {
			w.fatal("%v", w.node(2).notes)
		}
		refuses = false
		w.run(5 * time.Minute)
		w.wantStand(sid(1), 20)
	}
}

// "Path Truncation": the node behind is gone, and the layer above has no other way.
// RFC 5974 §3.2.12.1, §5.2.5.1
func TestPathTruncation(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(2).orLast = true
	w.reserve(sid(1), 20)
	w.run(time.Minute)
	w.wantStand(sid(1), 20)
	w.unreachable[[2]Peer{2, 3}] = true
	w.via[2] = 2 // GIST and the layer above agree: it ends here
	w.node(2).handle(Rerouted{SID: sid(1)})
	w.run(20 * time.Minute)
	w.wantLast(20)
}

// A restart forgets nothing of it; an end while it looks on leaves nothing.
func TestLastNodeRestarts(t *testing.T) {
	w := lastWorld(t, 1)
	w.reserve(sid(1), 20)
	w.run(time.Minute)
	w.node(2).restart()
	w.run(5 * time.Minute)
	w.wantLast(20)
	delete(w.unreachable, [2]Peer{2, 3})
	w.run(2 * time.Minute)
	w.wantStand(sid(1), 20)
	for wait := time.Duration(0); wait < time.Minute; wait += 777 * time.Millisecond {
		w := lastWorld(t, 1)
		w.reserve(sid(1), 20)
		w.run(time.Second)
		delete(w.unreachable, [2]Peer{2, 3})
		w.delay = 500 * time.Millisecond
		w.run(wait)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(20 * time.Second)
		w.wantStand(sid(1), 0)
	}
}
