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

// diamond is 1 → (2 or 3) → 4 → 5; the flow goes by 2 at first.
func diamond(t testing.TB, seed uint64) *world {
	w := newWorld(t, 5, seed)
	w.via[2] = 4
	return w
}

// turn lets flows go on from a node to another peer, and GIST suspect it.
func (w *world) turn(from, to Peer) {
	w.via[from] = to
	w.logf("from %d the way is now by %d", from, to)
	w.suspect(from, gist.RoutingStatusChange, gist.Tentative, 0)
}

// suspect has GIST notify a node of all its sessions' next peers.
func (w *world) suspect(at Peer, what gist.NotificationType, st gist.RoutingStatus, sii gist.SII) {
	n := w.node(at)
	for _, s := range w.sessionsOf(at) {
		n.handle(Notification{gist.NetworkNotification{NSLPID: s.NextNSLPID, SID: s.SID, MRI: s.Next, Type: what, Status: st, SII: sii}})
	}
}

func (w *world) sessionsOf(at Peer) (list []SessionInfo) {
	w.node(at).m.Sessions(func(i SessionInfo) bool { list = append(list, i); return true })
	slices.SortFunc(list, func(a, b SessionInfo) int { return slices.Compare(a.SID[:], b.SID[:]) })
	return list
}

// wantOn wants the reservation at exactly these nodes.
func (w *world) wantOn(s gistwire.SID, rate uint32, on ...Peer) {
	w.t.Helper()
	for _, n := range w.nodes {
		g, ok := n.stand[s]
		_, hold := n.held[s]
		i, known := n.m.Session(s)
		if !slices.Contains(on, n.id) {
			if ok || hold || known {
				w.fatal("node %d has something: committed %v, held %v, session %+v", n.id, ok, hold, i)
			}
			continue
		}
		if !ok || g.qspec != string(qspec(rate)) || hold || !known || i.State != "installed" || i.Pending != "" {
			w.fatal("node %d: committed %v %x, held %v, session %+v, want rate %d", n.id, ok, g.qspec, hold, i, rate)
		}
	}
}

// since are the messages that a node has sent from the n-th on.
func (n *node) since(from int, match func(*wire.Message) bool) (msgs []*wire.Message, sends []Send) {
	for i, m := range n.sent[from:] {
		if match(m) {
			msgs, sends = append(msgs, m), append(sends, n.sends[from+i])
		}
	}
	return msgs, sends
}

func standing(t testing.TB, w *world) *world {
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)
	return w
}

// "When a route change is believed to have occurred, the QNE SHOULD send a RESERVE
// message, including the full QSPEC. This must contain an RSN which is
// RSN[current] = RSN0 + 2. It SHOULD include an RII […]. An SII-Handle MUST NOT be
// specified […]. When the QNE receives the RESPONSE […], it SHOULD send a RESERVE
// message with the TEAR flag sent down the old path. To do so, it MUST request GIST
// to use its explicit routing mechanism, and the QoS NSLP MUST supply an SII-Handle
// relating to the old peer QNE. […] it MUST contain an RSN that is RSN[current] -
// 1. (RSN[current] remains unchanged.)" RFC 5974 §5.2.5.2
func TestReroute(t *testing.T) {
	for _, coupled := range []bool{false, true} {
		w := diamond(t, 1)
		w.coupled = coupled
		standing(t, w)
		n := w.node(1)
		from := len(n.sent)
		old := n.m.sessions[sid(1)].down
		released := w.node(4).asked[Release]
		w.turn(1, 3)
		w.run(time.Second)
		w.wantOn(sid(1), 20, 1, 3, 4, 5)
		msgs, sends := n.since(from, func(m *wire.Message) bool { return m.Type == wire.Reserve })
		if len(msgs) != 2 || msgs[0].Tears() || !msgs[1].Tears() {
			w.fatal("%d messages", len(msgs))
		}
		if m := msgs[0]; m.RSN.Number != 2 || m.QSPEC == nil || !m.HasRII || sends[0].SII != 0 || sends[0].Peer != 3 || m.MessageFlags&wire.Replace == 0 {
			w.fatal("down the new path %+v, SII %d", m, sends[0].SII)
		}
		if m := msgs[1]; m.RSN.Number != 1 || sends[1].SII != w.sii(2) || sends[1].Peer != 2 || sends[1].MRI != old.mri {
			w.fatal("down the old path %+v, SII %d MRI %+v", m, sends[1].SII, sends[1].MRI)
		}
		if i, _ := n.m.Session(sid(1)); i.RSN != 2 {
			w.fatal("RSN[current] is %d", i.RSN)
		}
		// "it MUST be sent to the old peer using the GIST explicit routing mechanism".
		// RFC 5974 §5.2.5.3
		notes, sends := w.node(4).since(0, isNotify)
		if len(notes) != 1 || sends[0].SII != w.sii(2) || sends[0].Peer != 2 {
			w.fatal("%d NOTIFYs of a route change", len(notes))
		}
		w.wantInfo(notes[0], wire.ClassInformational, wire.RouteChange)
		if w.node(4).asked[Release] != released || w.node(5).asked[Release] != 0 {
			w.fatal("released where both paths go")
		}
		w.run(30 * time.Minute) // and refreshed
		w.wantOn(sid(1), 20, 1, 3, 4, 5)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Second)
		w.wantResult(sid(1), Released)
		w.wantOn(sid(1), 0)
		w.run(time.Hour)
		for _, n := range w.nodes {
			if st := n.m.Stats(); st.Tombstones != 0 || !n.m.Deadline().IsZero() {
				w.fatal("node %d: %+v", n.id, st)
			}
		}
	}
}

// The question says that it is a move, and the layer above has both: "take the
// maximum of the two" is for whoever holds resources. RFC 5974 §5.4.1
func TestRerouteQuestions(t *testing.T) {
	w := diamond(t, 1)
	var moves []Move
	for _, n := range w.nodes {
		n.answer = func(q *Question) (Verdict, bool) {
			if q.Kind == Admit && q.Move != Stays {
				moves = append(moves, q.Move)
				if q.Keep || n.stand[q.SID].version >= q.RSN || q.Message.QSPEC == nil {
					w.fatal("node %d: %+v", n.id, q)
				}
			}
			if q.Kind == Commit && q.RSN != 0 && len(n.stand) == 0 && n.id != 3 {
				w.fatal("node %d: what stood was released before the Commit", n.id)
			}
			return Verdict{}, false
		}
	}
	standing(t, w)
	w.turn(1, 3)
	w.run(time.Second)
	if !slices.Equal(moves, []Move{MoveDownstream, MoveUpstream}) {
		w.fatal("moves %v", moves)
	}
}

// Under loss, duplication and reordering, with the path changing under requests,
// the reservation ends up on the path that there is, and nothing elsewhere.
// RFC 5974 §3.2.12, §5.2.5
func TestRerouteProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// 1 → (2, 3) → 4 → (5, 6) → 7
		w := newWorld(t, 7, rapid.Uint64().Draw(rt, "seed"))
		w.via[2], w.via[5] = 4, 7
		w.coupled = rapid.Bool().Draw(rt, "coupled")
		w.loss = rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "loss")
		w.dup = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "dup")
		w.jitter = time.Duration(rapid.SampledFrom([]int{0, 5, 3000}).Draw(rt, "jitter ms")) * time.Millisecond
		w.think = time.Duration(rapid.SampledFrom([]int{0, 5, 4000}).Draw(rt, "think ms")) * time.Millisecond
		refusals := rapid.SampledFrom([]float64{0, 0.2}).Draw(rt, "refusals")
		restarts := rapid.Bool().Draw(rt, "restarts")
		for _, n := range w.nodes {
			n.cfg.Summary = rapid.SampledFrom([]int{1, 2, 500}).Draw(rt, "summary")
			n.boot()
			n.answer = func(q *Question) (Verdict, bool) {
				if q.Kind == Admit && n.stand[q.SID].qspec != string(q.Message.QSPEC) && w.rng.Float64() < refusals {
					return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, true
				}
				return Verdict{}, false
			}
		}
		calm := w.loss == 0 && !restarts && refusals == 0 && w.think < time.Second
		sids := []gistwire.SID{sid(1), sid(2)}
		steps := []string{"reserve", "reserve", "turn 1", "turn 1", "turn 4", "turn 4", "terminate", "restart", "unseen"}
		for range rapid.IntRange(2, 16).Draw(rt, "steps") {
			s := rapid.SampledFrom(sids).Draw(rt, "sid")
			switch rapid.SampledFrom(steps).Draw(rt, "step") {
			case "reserve":
				w.reserve(s, rapid.Uint32Range(1, 9).Draw(rt, "rate"))
			case "turn 1":
				w.turn(1, 5-w.by(1))
			case "turn 4":
				w.turn(4, 11-w.by(4))
			case "unseen": // until somebody says so
				w.via[1] = 5 - w.by(1)
			case "terminate":
				w.logf("terminate %v", s)
				w.node(1).handle(Terminate{SID: s})
			case "restart":
				if restarts {
					n := rapid.IntRange(1, 7).Draw(rt, "who")
					w.logf("restart of %d", n)
					w.node(Peer(n)).restart()
				}
			}
			w.run(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 10, 1000, 5000, 40000, 200000}).Draw(rt, "pause ms")) * time.Millisecond)
		}
		w.logf("quiet")
		w.loss, w.dup, w.jitter, w.think, refusals = 0, 0, 0, 0, 0
		w.run(time.Minute)
		for range 2 {
			w.turn(1, w.by(1))
			w.turn(4, w.by(4))
			w.run(20 * time.Minute)
		}
		path := []Peer{1, w.by(1), 4, w.by(4), 7}
		for _, s := range sids {
			if calm && slices.ContainsFunc(w.results[s], func(r Result) bool { return r.Kind == Terminated || r.Kind == TimedOut }) {
				w.dump()
				rt.Fatalf("the network has ended %v", s)
			}
			want, ok := w.node(1).stand[s]
			checkTold(w, s, ok, w.toldVersion(s, want))
			for _, n := range w.nodes {
				g, has := n.stand[s]
				_, held := n.held[s]
				i, known := n.m.Session(s)
				on := ok && slices.Contains(path, n.id)
				if has != on || known != on || held || on && (g.qspec != want.qspec || i.State != "installed" || i.Pending != "") {
					w.dump()
					rt.Fatalf("sid %v, path %v: node %d has %v %x, held %v, session %+v; the initiator has %v %x", s, path, n.id, has, g.qspec, held, i, ok, want.qspec)
				}
				if on && !i.Last && i.Downstream != path[slices.Index(path, n.id)+1] {
					w.dump()
					rt.Fatalf("node %d sends to %d on path %v", n.id, i.Downstream, path)
				}
			}
		}
		w.node(1).down = true
		w.run(30 * time.Minute)
		for _, n := range w.nodes[1:] {
			if st := n.m.Stats(); len(n.stand)+len(n.held)+st.Creating+st.Installed+st.Closing+st.OpenQuestions != 0 {
				w.dump()
				rt.Fatalf("node %d still has something: %+v", n.id, st)
			}
		}
	})
}

// by is the next hop of a node.
func (w *world) by(from Peer) Peer {
	if to, ok := w.via[from]; ok {
		return to
	}
	return from + 1
}

// toldVersion is what stands with the version that the application was told of: a
// move of this node's own has another one.
func (w *world) toldVersion(s gistwire.SID, have grant) grant {
	if rs := w.results[s]; len(rs) > 0 && w.node(1).m.Stats().Reroutes > 0 {
		have.version = rs[len(rs)-1].RSN
	}
	return have
}
