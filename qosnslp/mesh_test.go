package qosnslp

import (
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
	"pgregory.net/rapid"
)

// Over random meshes, with several initiators at their edge whose sessions meet and
// part again, on links of random aggregation levels: after any operations, route
// changes and faults, and then quiet, every node's installed state is exactly what the
// initiators hold, on the paths that there are; and after every initiator has stopped,
// all is gone within the lifetime that the RFC gives. RFC 5974 §3.2.1, §5.3.4
func TestMesh(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(3, 9).Draw(rt, "nodes")
		edges := rapid.IntRange(1, min(3, size-2)).Draw(rt, "initiators")
		w := newWorld(t, size, rapid.Uint64().Draw(rt, "seed"))
		turn := func(i Peer) { // to a node further on: no loops
			w.via[i] = Peer(rapid.IntRange(max(int(i), edges)+1, size).Draw(rt, "via"))
		}
		restarts := rapid.Bool().Draw(rt, "restarts")
		refusals := rapid.SampledFrom([]float64{0, 0.2}).Draw(rt, "refusals")
		for _, n := range w.nodes {
			if int(n.id) < size {
				turn(n.id)
			}
			n.level = gistwire.NSLPID(rapid.IntRange(1, 3).Draw(rt, "level"))
			n.cfg.Summary = rapid.SampledFrom([]int{1, 3, 500}).Draw(rt, "summary")
			n.boot()
			n.answer = func(q *Question) (Verdict, bool) {
				if q.Kind == Admit && n.stand[q.SID].qspec != string(q.Message.QSPEC) && w.rng.Float64() < refusals {
					return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, true
				}
				return Verdict{}, false
			}
		}
		w.loss = rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "loss")
		w.dup = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "dup")
		w.jitter = time.Duration(rapid.SampledFrom([]int{0, 5, 3000}).Draw(rt, "jitter ms")) * time.Millisecond
		w.think = time.Duration(rapid.SampledFrom([]int{0, 5, 4000}).Draw(rt, "think ms")) * time.Millisecond

		var sids []gistwire.SID
		for i := range byte(5) {
			sids = append(sids, sid(i))
		}
		from := func(s gistwire.SID) *node { return w.node(Peer(int(s[15])%edges + 1)) }
		for range rapid.IntRange(2, 20).Draw(rt, "steps") {
			s := rapid.SampledFrom(sids).Draw(rt, "sid")
			who := Peer(rapid.IntRange(1, size).Draw(rt, "who"))
			switch rapid.SampledFrom([]string{"reserve", "reserve", "reserve", "turn", "turn", "terminate", "restart"}).Draw(rt, "step") {
			case "reserve":
				from(s).handle(Initiate{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(rapid.Uint32Range(1, 9).Draw(rt, "rate"))})
			case "terminate":
				from(s).handle(Terminate{SID: s})
			case "turn":
				if int(who) < size {
					turn(who)
					w.suspect(who, gist.RoutingStatusChange, gist.Tentative, 0)
				}
			case "restart":
				if restarts {
					w.logf("restart of %d", who)
					w.node(who).restart()
				}
			}
			w.run(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 10, 1000, 5000, 40000, 200000}).Draw(rt, "pause ms")) * time.Millisecond)
		}
		w.logf("quiet")
		w.loss, w.dup, w.jitter, w.think, refusals = 0, 0, 0, 0, 0
		w.run(time.Minute)
		for range size { // a change may show at a node only when those before it have moved
			for i := range w.nodes[:size-1] {
				w.suspect(Peer(i+1), gist.RoutingStatusChange, gist.Tentative, 0)
			}
			w.run(10 * time.Minute)
		}
		for _, s := range sids {
			want, ok := from(s).stand[s]
			path := []Peer{from(s).id}
			for int(path[len(path)-1]) < size {
				path = append(path, w.via[path[len(path)-1]])
			}
			if rs := w.results[s]; len(rs) > 0 && !from(s).restarted && (rs[len(rs)-1].Kind == Reserved && !ok || rs[len(rs)-1].Kind == Released && ok) {
				w.dump()
				rt.Fatalf("sid %v: told %d, stands %v", s, rs[len(rs)-1].Kind, ok)
			}
			for _, n := range w.nodes {
				g, has := n.stand[s]
				_, held := n.held[s]
				i, known := n.m.Session(s)
				on := ok && slices.Contains(path, n.id)
				if has != on || known != on || held || on && (g.qspec != want.qspec || i.State != "installed" || i.Pending != "") {
					w.dump()
					rt.Fatalf("sid %v, path %v: node %d has %v %x, held %v, session %+v; the initiator has %v %x", s, path, n.id, has, g.qspec, held, i, ok, want.qspec)
				}
				if on && !i.Last && (i.Downstream != w.via[n.id] || i.NextNSLPID != n.level) {
					w.dump()
					rt.Fatalf("node %d sends to %d, NSLPID %d, on path %v", n.id, i.Downstream, i.NextNSLPID, path)
				}
			}
		}
		w.logf("the initiators stop")
		for _, n := range w.nodes[:edges] {
			n.down = true
		}
		w.run(lifetime(wire.DefaultRefreshPeriod) + time.Second) // and the TEARs behind it
		for _, n := range w.nodes[edges:] {
			if st := n.m.Stats(); len(n.stand)+len(n.held)+st.Creating+st.Installed+st.Closing+st.OpenQuestions != 0 {
				w.dump()
				rt.Fatalf("node %d still has something: %+v", n.id, st)
			}
		}
		w.run(time.Hour)
		for _, n := range w.nodes[edges:] {
			if st := n.m.Stats(); st.Tombstones != 0 || len(n.m.timers.h) != 0 {
				w.dump()
				rt.Fatalf("node %d: %+v, %d timers", n.id, st, len(n.m.timers.h))
			}
		}
	})
}
