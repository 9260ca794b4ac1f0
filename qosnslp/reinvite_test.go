package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// turnData is turn for receiver-initiated sessions: GIST at from suspects the way
// that the data go on, where RESERVEs come from.
func (w *world) turnData(from, to Peer) {
	w.via[from] = to
	w.logf("from %d the way is now by %d", from, to)
	for _, s := range w.sessionsOf(from) {
		w.node(from).handle(Notification{gist.NetworkNotification{NSLPID: 1, SID: s.SID, MRI: s.MRI.Reverse(), Type: gist.RoutingStatusChange, Status: gist.Tentative}})
	}
}

// "the operation for a receiver-initiated reservation session differs […] it must
// send a QUERY with the R-flag downstream. […] This node must then send a full
// RESERVE upstream to set up the reservation state along the new path." RFC 5974
// §3.2.12. Here the QNR is told ("propagated back to the QNI or QNR", RFC 5974
// §5.2.5.3), and sends the QUERY.
func TestReceiverInitiatedReroute(t *testing.T) {
	for _, parts := range []struct {
		at, to Peer
		on     []Peer
	}{{1, 3, []Peer{1, 3, 4, 5, 7}}, {4, 6, []Peer{1, 2, 4, 6, 7}}} {
		for seed := range uint64(12) {
			// The data go 1 → (2, 3) → 4 → (5, 6) → 7; RESERVEs come back.
			w := newWorld(t, 7, seed)
			w.via[2], w.via[5] = 4, 7
			w.coupled = seed%2 == 1
			w.invite(sid(1), 20)
			w.run(time.Second)
			w.wantOn(sid(1), 20, 1, 2, 4, 5, 7)
			if seed > 1 {
				w.loss, w.dup, w.jitter = 0.05*float64(seed%4), 0.1, time.Duration(seed)*time.Millisecond
			}
			tears := 0
			w.filter = func(from, to Peer, m *wire.Message) bool { tears += b2i(m.Tears()); return true }
			w.turnData(parts.at, parts.to)
			w.run(time.Second)
			if seed <= 1 {
				w.wantOn(sid(1), 20, parts.on...)
				if tears != 1 && tears != 2 {
					w.fatal("%d TEARs", tears)
				}
			}
			w.turnData(parts.at, parts.to)
			w.run(time.Minute)
			w.loss, w.dup, w.jitter = 0, 0, 0
			w.turnData(parts.at, parts.to)
			w.run(30 * time.Minute)
			w.wantOn(sid(1), 20, parts.on...)
			w.node(7).handle(Terminate{SID: sid(1)})
			w.run(time.Minute)
			w.wantOn(sid(1), 0)
		}
	}
}

// A QNR that has restarted has no QUERY to repeat: its application is told.
// RFC 5974 §3.2.12
func TestRerouteOfRestartedQNR(t *testing.T) {
	w := newWorld(t, 5, 1)
	w.via[2] = 4
	w.invite(sid(1), 20)
	w.run(time.Second)
	n := w.node(1)
	n.restart()
	w.turnData(1, 3)
	if len(n.notified) != 1 || !n.notified[0].Downstream || n.notified[0].Message.InfoSpec.Code != wire.RouteChange {
		w.fatal("told %+v", n.notified)
	}
	w.invite(sid(1), 20)
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 3, 4, 5)
}
