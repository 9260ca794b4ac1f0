package qosnslp

import (
	"fmt"
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// "The RSN object also contains an Epoch Identifier, which provides a method for
// determining when a peer has restarted" (RFC 5974 §5.3.1); "a RESERVE message with
// an unknown SESSION-ID and […] no QSPEC […] MUST send a RESPONSE message with […]
// 'Full QSPEC required'" (§5.4.1). Whoever restarts, with what it had or without, and
// whether it was refreshed by lists or alone: within two refresh periods all nodes
// have the same again, and none of it has ended in between.
func TestResynchronization(t *testing.T) {
	for _, c := range []struct {
		who     Peer
		forgets bool
		summary int
		loss    float64
	}{
		{2, false, 500, 0}, {2, true, 500, 0}, {3, false, 500, 0}, {3, true, 500, 0}, {1, false, 500, 0}, {4, true, 500, 0},
		{2, false, 1, 0}, {2, true, 1, 0}, {3, true, 1, 0}, {1, false, 1, 0},
		{2, false, 500, 0.1}, {2, true, 500, 0.1}, {3, true, 1, 0.1}, {1, false, 3, 0.1},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			w := newWorld(t, 4, 7)
			for _, n := range w.nodes {
				n.cfg.Summary = c.summary
				n.boot()
			}
			for i := range byte(5) {
				w.reserve(sid(i+1), uint32(i)+10)
			}
			w.run(time.Second)
			w.reserve(sid(2), 99) // RSNs that differ
			w.run(time.Minute)
			epoch := w.node(c.who).epoch
			w.loss, w.dup, w.jitter = c.loss, c.loss, time.Duration(100*c.loss)*time.Millisecond
			if n := w.node(c.who); c.forgets {
				clear(n.disk)
			}
			w.node(c.who).restart()
			if w.node(c.who).epoch == epoch {
				t.Fatal("the same epoch")
			}
			periods := time.Duration(2)
			if c.loss > 0 {
				periods = 8
			}
			w.run(periods * 46 * time.Second)
			w.loss, w.dup, w.jitter = 0, 0, 0
			if c.loss > 0 {
				w.run(2 * time.Minute)
			}
			for i := range byte(5) {
				rate := uint32(i) + 10
				if i == 1 {
					rate = 99
				}
				w.wantStand(sid(i+1), rate)
				w.wantResult(sid(i+1), Reserved)
				if c.who < 4 {
					if next, _ := w.node(c.who + 1).m.Session(sid(i + 1)); next.UpstreamRSN.Epoch == epoch {
						w.fatal("node %d goes on with the old epoch", c.who+1)
					}
				}
			}
			w.run(10 * time.Minute)
			w.wantStand(sid(2), 99)
		})
	}
}

// A list whose RSNs are out of step for what a peer has missed: "the stateful QNE
// MUST include the erroneous SESSION-ID and RSN values", and it gets all of these
// sessions. RFC 5974 §5.3.7
func TestOutOfStepInList(t *testing.T) {
	w := crowd(t, 2, 4)
	w.reserve(sid(3), 12)
	w.run(time.Second)
	w.node(2).m.sessions[sid(3)].upRSN.Number-- // the RESERVE with the other one never came
	w.node(2).m.sessions[sid(4)].upRSN.Epoch++
	w.run(5 * time.Minute)
	m := w.node(2).last(func(m *wire.Message) bool {
		return isResponse(m) && m.InfoSpec.Class == wire.ClassInformational && m.InfoSpec.Code == wire.MismatchingRSNInList
	})
	if len(m.SessionIDs) == 0 || len(m.SessionIDs) != len(m.RSNs.RSNs) {
		w.fatal("%+v", m)
	}
	for i := range byte(4) {
		s, _ := w.node(2).m.Session(sid(i + 1))
		if up, _ := w.node(1).m.Session(sid(i + 1)); s.UpstreamRSN != (wire.RSN{Number: up.RSN, Epoch: w.node(1).epoch}) {
			w.fatal("session %d: %v, and upstream has %d", i+1, s.UpstreamRSN, up.RSN)
		}
		w.wantStand(sid(i+1), uint32(i)+10)
	}
}
