package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// "… or when an event happens that causes a transient error": a domain in the
// middle, the last or the first gives a session up; nothing of it stays
// anywhere, and the initiator is told. RFC 5974 §5.3.5
func TestAbandon(t *testing.T) {
	for at := Peer(1); at <= 3; at++ {
		w := newWorld(t, 3, uint64(at))
		w.reserve(sid(1), 7)
		w.run(time.Second)
		w.wantResult(sid(1), Reserved)
		w.node(at).handle(Abandon{SID: sid(1), Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
		w.run(time.Second)
		r := w.wantResult(sid(1), Terminated)
		if r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.ReservationFailure {
			w.fatal("node %d gave up: told %v", at, r.Info)
		}
		w.wantStand(sid(1), 0)
		for id := Peer(1); id <= 3; id++ {
			if st := w.node(id).m.Stats(); st.Creating+st.Installed+st.Closing != 0 {
				w.fatal("node %d gave up: node %d still has a session", at, id)
			}
		}
	}
}

// Giving up what is not there, or is over already, does nothing.
func TestAbandonUnknown(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.node(1).handle(Abandon{SID: sid(9)})
	w.run(time.Second)
	if n := w.node(1).count(func(*wire.Message) bool { return true }); n != 0 {
		w.fatal("%d messages were sent", n)
	}
}

// "a RESERVE message that has the TEAR flag set and that does not come from the
// current peer QNE (identified by its SII) MUST be ignored": a node that has
// restarted, and has another SII since, makes itself the current peer before it
// tears. RFC 5974 §5.4.1
func TestTearRightAfterRestart(t *testing.T) {
	for at := Peer(1); at <= 2; at++ {
		w := newWorld(t, 3, uint64(at))
		w.reserve(sid(1), 7)
		w.run(time.Second)
		w.wantStand(sid(1), 7)
		w.node(at).restart()
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Second)
		w.wantResult(sid(1), Released)
		w.wantStand(sid(1), 0)
	}
}

// "If the RSN is the same … the current state MUST be refreshed" (RFC 5974
// §5.3.1) is of a peer that knows the session. One that has forgotten it, and
// counts anew under the same epoch, is told by its QSPEC: it gets what it asks
// for, not what was there.
func TestForgottenSessionIsChanged(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.reserve(sid(1), 7)
	w.run(time.Second)
	w.wantStand(sid(1), 7)
	n := w.node(1)
	n.m = New(n.cfg) // the same epoch
	clear(n.stand)
	w.reserve(sid(1), 9)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 9)
}

// A late RESPONSE of a session that is over is torn, and GIST told that nobody
// wants its routing state: "it MAY signal to GIST". RFC 5974 §5.4.1
func TestOrphanIsForgotten(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.node(3).mute[Commit] = true
	w.reserve(sid(1), 7)
	w.run(40 * time.Second) // given up, and torn
	msg := wire.Message{Type: wire.Response, HasRII: true, RII: 1, HasInfoSpec: true,
		InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}}
	forgotten := false
	for _, a := range w.node(1).m.Handle(w.now, Received{Peer: 2, RecvMessage: gist.RecvMessage{Data: msg.Append(nil), NSLPID: 1, SID: sid(1), MRI: hop(1).Reverse(), SII: 20}}) {
		if f, ok := a.(Forget); ok && f.MRI == hop(1) && f.SID == sid(1) {
			forgotten = true
		}
	}
	if !forgotten {
		t.Error("GIST keeps the routing state")
	}
}
