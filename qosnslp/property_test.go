package qosnslp

import (
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
	"pgregory.net/rapid"
)

// After any interleaving of requests, losses, repeats, overtaking, late
// verdicts, refusals and restarts, and then quiet: every node holds exactly
// what the initiator was told, and when the initiator has died all is gone
// within the lifetime.
func TestQuiescence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.IntRange(2, 4).Draw(rt, "nodes"), rapid.Uint64().Draw(rt, "seed"))
		w.loss = rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "loss")
		w.dup = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "dup")
		w.jitter = time.Duration(rapid.SampledFrom([]int{0, 5, 3000}).Draw(rt, "jitter ms")) * time.Millisecond
		w.think = time.Duration(rapid.SampledFrom([]int{0, 5, 4000, 70000}).Draw(rt, "think ms")) * time.Millisecond
		refusals := rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "refusals")
		for _, n := range w.nodes {
			n.cfg.Summary = rapid.SampledFrom([]int{1, 2, 3, 500}).Draw(rt, "summary")
			n.cfg.AckEvery = rapid.SampledFrom([]int{0, 1, 3}).Draw(rt, "acknowledged")
			n.boot()
			n.answer = func(q *Question) (Verdict, bool) {
				if q.Kind == Admit && q.RSN > 0 && n.stand[q.SID].qspec == string(q.Message.QSPEC) {
					return Verdict{}, false // what is held already is not refused
				}
				if (q.Kind == Admit || q.Kind == Commit) && w.rng.Float64() < refusals {
					if q.Kind == Commit {
						delete(n.held, q.SID)
					}
					return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, true
				}
				return Verdict{}, false
			}
		}
		sids := []gistwire.SID{sid(1), sid(2), sid(3), sid(4)}
		for range rapid.IntRange(1, 16).Draw(rt, "steps") {
			s := rapid.SampledFrom(sids).Draw(rt, "sid")
			switch rapid.SampledFrom([]string{"reserve", "reserve", "reserve", "terminate", "restart", "query", "wait", "preempt", "notify"}).Draw(rt, "step") {
			case "reserve":
				w.reserve(s, rapid.Uint32Range(1, 9).Draw(rt, "rate"))
			case "terminate":
				w.logf("terminate %v", s)
				w.node(1).handle(Terminate{SID: s})
			case "restart":
				n := rapid.IntRange(1, len(w.nodes)).Draw(rt, "who")
				w.logf("restart of %d", n)
				w.node(Peer(n)).restart()
			case "query":
				w.query(sid(9), 3)
			case "preempt":
				n := rapid.IntRange(1, len(w.nodes)).Draw(rt, "who")
				w.logf("%v is preempted at %d", s, n)
				w.node(Peer(n)).handle(Preempt{SID: s, By: sid(77)})
			case "notify":
				n := rapid.IntRange(1, len(w.nodes)).Draw(rt, "who")
				w.node(Peer(n)).handle(Notify{SID: s, Downstream: n%2 == 0, Info: info(1, wire.CongestionSituation)})
			case "wait":
			}
			w.run(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 10, 1000, 5000, 40000, 200000}).Draw(rt, "pause ms")) * time.Millisecond)
		}
		patience := 20 * time.Minute
		if w.loss == 0 && w.think < 5*time.Second && !w.anyRestart() {
			patience = 100 * time.Second // nothing may be left to expiry
		}
		w.logf("quiet")
		w.loss, w.dup, w.jitter, w.think, refusals = 0, 0, 0, 0, 0
		w.run(patience)
		first := w.nodes[0]
		for _, s := range sids {
			want, standing := first.stand[s]
			checkTold(w, s, standing, want)
			for _, n := range w.nodes {
				g, ok := n.stand[s]
				_, held := n.held[s]
				i, known := n.m.Session(s)
				if ok != standing || g.qspec != want.qspec || held || known != standing || known && (i.State != "installed" || i.Pending != "") {
					w.dump()
					rt.Fatalf("sid %v: node %d has %v %x, held %v, session %+v; the initiator has %v %x", s, n.id, ok, g.qspec, held, i, standing, want.qspec)
				}
			}
		}
		w.logf("the initiator dies")
		first.down = true
		w.run(20 * time.Minute)
		for _, n := range w.nodes[1:] {
			if st := n.m.Stats(); len(n.stand)+len(n.held)+st.Creating+st.Installed+st.Closing+st.OpenQuestions+st.QueriesUnderWay != 0 {
				w.dump()
				rt.Fatalf("node %d still has something: %+v", n.id, st)
			}
		}
		w.run(time.Hour)
		for _, n := range w.nodes[1:] {
			if st := n.m.Stats(); st.Tombstones != 0 || len(n.m.timers.h) != 0 {
				rt.Fatalf("node %d: %+v, %d timers", n.id, st, len(n.m.timers.h))
			}
		}
	})
}

// checkTold compares what the application was told with what its node holds.
func checkTold(w *world, s gistwire.SID, standing bool, want grant) {
	rs := w.results[s]
	if len(rs) == 0 {
		return
	}
	switch last := rs[len(rs)-1]; last.Kind {
	case Reserved:
		if !standing && !w.nodes[0].restarted || standing && !w.nodes[0].restarted && want.version != last.RSN {
			w.fatal("told Reserved with RSN %d, the node has %v %d", last.RSN, standing, want.version)
		}
	case Terminated, Released:
		if standing && !w.nodes[0].restarted {
			w.fatal("told that it is over, the node has %d", want.version)
		}
	}
}

func (w *world) dump() {
	for _, l := range w.trace {
		w.t.Log(l)
	}
}

func (w *world) anyRestart() bool {
	for _, n := range w.nodes {
		if n.restarted {
			return true
		}
	}
	return false
}
