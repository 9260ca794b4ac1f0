package qosnslp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// The new path refuses: the old one stays as long as it works, also where GIST
// would no longer send there by itself, the initiator is told, and the new path is
// asked again. RFC 5974 §3.2.12, §5.2.5.2, §5.2.5.3
func TestRerouteRefused(t *testing.T) {
	w := diamond(t, 2)
	standing(t, w)
	refuse := true
	w.node(4).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.SLSRefuses}}, refuse && q.Kind == Admit && q.Upstream == 3
	}
	n := w.node(1)
	from := len(n.sent)
	w.turn(1, 3)
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)
	if len(n.notified) != 1 || n.notified[0].Peer != Local || n.notified[0].Message.InfoSpec.Code != wire.SLSRefuses {
		w.fatal("the initiator was told %+v", n.notified)
	}
	w.run(2 * time.Minute)
	refreshes, sends := n.since(from, func(m *wire.Message) bool { return isReserve(m) && m.QSPEC == nil })
	if len(refreshes) < 2 {
		w.fatal("%d refreshes", len(refreshes))
	}
	for _, s := range sends {
		if s.Peer != 2 || s.SII != w.sii(2) {
			w.fatal("refresh to %d by SII %d", s.Peer, s.SII)
		}
	}
	if len(w.results[sid(1)]) != 1 {
		w.fatal("%+v", w.results[sid(1)])
	}
	w.run(20 * time.Minute)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)
	refuse = false
	w.run(5 * time.Minute)
	w.wantOn(sid(1), 20, 1, 3, 4, 5)
}

// The new path does not answer: what may be there is torn, the old one stays.
// RFC 5974 §5.2.4, §5.2.5.2
func TestRerouteSilent(t *testing.T) {
	for _, lost := range []func(from, to Peer, m *wire.Message) bool{
		func(_, to Peer, m *wire.Message) bool { return to != 3 || m.Tears() },
		func(from, _ Peer, m *wire.Message) bool { return from != 3 || !isResponse(m) },
	} {
		w := diamond(t, 3)
		standing(t, w)
		w.filter = lost
		from := len(w.node(1).sent)
		w.turn(1, 3)
		w.run(time.Minute)
		if n := w.node(1).notes["no-response"]; n != 1 {
			w.fatal("%d times without an answer", n)
		}
		_, sends := w.node(1).since(from, isTear)
		if len(sends) != 1 || sends[0].Peer != 3 || sends[0].SII != 0 {
			w.fatal("TEARs %+v", sends)
		}
		w.turn(1, 2) // and now it is the old one again
		w.filter = nil
		w.run(10 * time.Minute)
		w.wantOn(sid(1), 20, 1, 2, 4, 5)
	}
}

// "The QoS NSLP mechanism for reservation maintenance after a route change
// includes robustness mechanisms to avoid accidentally tearing down a reservation
// in situations where the peer QNE has remained the same". RFC 5974 §3.2.12.2. The
// peer is the same with another SII handle; it drops the TEAR for its RSN, and
// where it says "Refresh successful" none is sent.
func TestSpuriousRouteChange(t *testing.T) {
	w := standing(t, diamond(t, 4))
	n := w.node(1)
	from := len(n.sent)
	w.suspect(1, gist.RoutingStatusChange, gist.Tentative, 0)
	w.suspect(1, gist.RoutingStatusChange, gist.Good, w.sii(2))
	w.suspect(1, gist.RouteDeletion, gist.Good, w.sii(2))
	w.suspect(1, gist.CommunicationFailure, gist.Good, w.sii(2))
	if msgs, _ := n.since(from, isReserve); len(msgs) != 0 {
		w.fatal("%d messages where nothing has changed", len(msgs))
	}
	w.node(2).lives++
	w.suspect(1, gist.RoutingStatusChange, gist.Good, w.sii(2))
	w.run(time.Second)
	msgs, sends := n.since(from, func(m *wire.Message) bool { return m.Type == wire.Reserve })
	if len(msgs) != 1 || msgs[0].Tears() || msgs[0].QSPEC == nil || !msgs[0].HasRII || msgs[0].RSN.Number <= 2 || sends[0].SII != 0 {
		w.fatal("%d messages, the first %+v", len(msgs), msgs[0])
	}
	answer := w.node(2).last(isResponse)
	w.wantInfo(answer, wire.ClassSuccess, wire.RefreshSuccessful)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)

	// A node that does not answer so gets the TEAR, and must not be hurt by it.
	w.node(2).lives++
	w.filter = func(from, to Peer, m *wire.Message) bool {
		if from == 2 && to == 1 && isResponse(m) {
			r := *m
			r.InfoSpec.Code = wire.ReservationSuccessful
			w.node(1).receive(2, sid(1), n.m.sessions[sid(1)].down.mri.Reverse(), r.Append(nil))
			return false
		}
		return true
	}
	current := n.m.sessions[sid(1)].rsn
	from = len(n.sent)
	w.suspect(1, gist.RoutingStatusChange, gist.Good, w.sii(2))
	w.run(10 * time.Millisecond)
	w.filter = nil
	msgs, sends = n.since(from, isTear)
	if len(msgs) != 1 || sends[0].SII == 0 || sends[0].SII == w.sii(2) || msgs[0].RSN.Number <= current {
		w.fatal("%d TEARs", len(msgs))
	}
	if i, _ := n.m.Session(sid(1)); msgs[0].RSN.Number != i.RSN-1 {
		w.fatal("TEAR with RSN %d, current %d", msgs[0].RSN.Number, i.RSN)
	}
	w.node(2).receive(1, sid(1), n.m.sessions[sid(1)].down.mri, sends[0].NSLPData) // as if both handles were its own
	w.run(5 * time.Minute)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)
}

// "Keeping track of the SII of a certain reservation also provides a means for the
// QoS NSLP to detect route changes. When a QNE receives a RESERVE referring to
// existing state but with a different SII, it knows that its upstream peer has
// changed." RFC 5974 §3.3.2: a refresh without a QSPEC is then not enough ("which
// previously had a different previous-hop QNE", §3.2.12).
func TestPeerChangeIsSeen(t *testing.T) {
	w := reserved(t, 3)
	s := w.node(2).m.sessions[sid(1)]
	from := hop(1)
	from.Ingress = netip.MustParseAddr("127.1.1.9")
	w.node(2).handle(Received{Peer: 3, RecvMessage: gist.RecvMessage{Data: refreshOf(s.upRSN), NSLPID: 1, SID: sid(1), MRI: from, SII: 77}})
	if w.node(2).last(isResponse).InfoSpec.Class == wire.ClassSuccess {
		w.fatal("a refresh from the other side was taken")
	}
	w.node(3).receive(1, sid(1), hop(1), refreshOf(wire.RSN{Number: 0, Epoch: w.node(1).epoch}))
	w.wantInfo(w.node(3).last(isResponse), wire.ClassTransientFailure, wire.FullQSPECRequired)
	if i, _ := w.node(3).m.Session(sid(1)); i.Upstream != 2 {
		w.fatal("a refresh has made %d the upstream peer", i.Upstream)
	}
	m := withRII(reserveMsg(0, w.node(1).epoch, qspec(20)), 5)
	m.MessageFlags = wire.Replace
	w.node(3).receive(1, sid(1), hop(1), m.Append(nil))
	w.run(time.Second)
	if i, _ := w.node(3).m.Session(sid(1)); i.Upstream != 1 || w.node(3).m.Stats().UpstreamMoves != 1 {
		w.fatal("the upstream peer is %d", i.Upstream)
	}
}

// "a node receiving a RESERVE message that has the TEAR flag set and that does not
// come from the current peer QNE (identified by its SII) MUST be ignored and MUST
// NOT be forwarded." RFC 5974 §5.4.1
func TestTearOfFormerPeer(t *testing.T) {
	w := standing(t, diamond(t, 5))
	w.turn(1, 3)
	w.run(time.Second)
	n := w.node(4)
	if n.notes["branch-torn"] != 1 || n.count(isTear) != 0 || n.asked[Release] != 0 {
		w.fatal("notes %v, %d TEARs, %d released", n.notes, n.count(isTear), n.asked[Release])
	}
	if s := n.m.sessions[sid(1)]; len(s.move.formers) != 0 {
		w.fatal("a branch that was torn is remembered: %+v", s.move.formers)
	}
	// Whoever that was has no say any more.
	before := w.expires(4, sid(1))
	w.run(time.Second)
	mri := hop(2)
	mri.Ingress = hopTo(w, 2)
	w.node(4).receive(2, sid(1), mri, tearOf(9, w.node(2).epoch))
	if i, ok := n.m.Session(sid(1)); !ok || i.State != "installed" || w.expires(4, sid(1)) != before {
		w.fatal("torn by a former peer")
	}
}

func hopTo(w *world, from Peer) netip.Addr { _, m, _ := w.next(from, flow()); return m.Ingress }

func tearOf(rsn, epoch uint32) []byte {
	m := reserveMsg(rsn, epoch, nil)
	m.MessageFlags = wire.Tear
	return m.Append(nil)
}

// "After detecting an upstream route change, a QNE SHOULD consider the new upstream
// peer as current and not fall back to the old upstream peer unless it stops
// receiving refreshes from the old upstream peer for at least the soft-state
// timeout period and then starts receiving messages from the old upstream peer
// again, or it stops receiving refreshes from the new upstream peer for at least
// the soft-state timeout period." RFC 5974 §5.2.5.4
func TestOldUpstreamPeer(t *testing.T) {
	moved := func(seed uint64) *world {
		w := standing(t, diamond(t, seed))
		w.filter = func(from, to Peer, m *wire.Message) bool { return from != 1 || to != 2 || !m.Tears() }
		w.turn(1, 3)
		w.run(time.Second)
		return w
	}
	upstream := func(w *world) Peer { i, _ := w.node(4).m.Session(sid(1)); return i.Upstream }

	w := moved(1) // the old peer goes on refreshing
	w.run(100 * time.Second)
	if n := w.node(4).m.Stats(); n.FormerRefreshes == 0 || upstream(w) != 3 || w.node(4).asked[Admit] != 2 {
		w.fatal("%d refreshes by the old peer, the current is %d", n.FormerRefreshes, upstream(w))
	}
	w.run(10 * time.Minute) // until its state is over
	w.wantOn(sid(1), 20, 1, 3, 4, 5)

	w = moved(2) // the new peer is silent
	w.run(20 * time.Second)
	w.node(1).handle(Notification{}) // nothing
	w.filter = func(from, to Peer, m *wire.Message) bool { return from != 3 && to != 3 && !m.Tears() }
	keepUp := w.node(2).m.sessions[sid(1)]
	for range 14 { // somebody keeps the old branch up
		w.run(15 * time.Second)
		w.node(2).receive(1, sid(1), keepUp.up.mri, refreshOf(keepUp.upRSN))
	}
	if upstream(w) != 2 || w.node(4).notes["fall-back"] != 1 || w.node(4).asked[Release] != 0 {
		w.fatal("the current upstream peer is %d; notes %v", upstream(w), w.node(4).notes)
	}
	for _, id := range []Peer{1, 2, 4, 5} {
		if _, ok := w.node(id).stand[sid(1)]; !ok {
			w.fatal("node %d has nothing", id)
		}
	}

	w = moved(3) // the old one is silent, and starts again
	s := w.node(2).m.sessions[sid(1)]
	old, rsn := s.down.mri, wire.RSN{Number: s.rsn, Epoch: w.node(2).epoch}
	w.node(2).down = true
	w.run(time.Minute)
	w.node(4).receive(2, sid(1), old, refreshOf(rsn))
	if upstream(w) != 3 || w.node(4).last(isResponse).InfoSpec.Code == wire.FullQSPECRequired {
		w.fatal("no more than a refresh by the old peer")
	}
	w.run(5 * time.Minute)
	w.node(4).receive(2, sid(1), old, refreshOf(rsn))
	w.wantInfo(w.node(4).last(isResponse), wire.ClassTransientFailure, wire.FullQSPECRequired)
}

func refreshOf(rsn wire.RSN) []byte {
	m := reserveMsg(rsn.Number, rsn.Epoch, nil)
	return m.Append(nil)
}

// "In some circumstances, a route change may occur, but the path then falls back to
// the original route." RFC 5974 §5.2.5.4. A path that goes back and forth sends no
// TEAR each time, and the reservation stands all the while.
func TestRouteFlapping(t *testing.T) {
	w := standing(t, diamond(t, 6))
	from := len(w.node(1).sent)
	for i := range Peer(20) {
		w.turn(1, 2+(i+1)%2)
		w.run(5 * time.Second)
		for _, id := range []Peer{1, w.by(1), 4, 5} {
			if _, ok := w.node(id).stand[sid(1)]; !ok {
				w.fatal("after %d changes node %d has nothing", i+1, id)
			}
		}
	}
	msgs, _ := w.node(1).since(from, isTear)
	if len(msgs) > 2 {
		w.fatal("%d TEARs for 20 changes", len(msgs))
	}
	if n := w.node(4).asked[Release] + w.node(5).asked[Release]; n != 0 {
		w.fatal("%d releases on the common path", n)
	}
	w.run(2 * time.Minute) // calm: the other branch is torn
	w.wantOn(sid(1), 20, 1, w.by(1), 4, 5)
	if v := w.node(1).m.sessions[sid(1)].move; len(v.branches) != 0 {
		w.fatal("%d branches are left", len(v.branches))
	}
	w.turn(1, 5-w.by(1)) // and from now on at once again
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, w.by(1), 4, 5)
}

// "On receiving such a NOTIFY message, the QoS NSLP SHOULD use the
// InvalidateRoutingState API call to inform GIST that routing state may be out of
// date. The QoS NSLP SHOULD send a NOTIFY message upstream. The NOTIFY message
// should be propagated back to the QNI"; it is sent where GIST tells of a change
// upstream: "it MUST be sent to the old peer using the GIST explicit routing
// mechanism through the use of the SII-Handle". RFC 5974 §5.2.5.3, §3.2.12
func TestUpstreamRouteChange(t *testing.T) {
	w := reserved(t, 4)
	n := w.node(3)
	s := n.m.sessions[sid(1)]
	note := gist.NetworkNotification{NSLPID: 1, SID: sid(1), MRI: s.up.mri.Reverse(), Type: gist.RoutingStatusChange, Status: gist.Good, SII: w.sii(2)}
	n.handle(Notification{note})
	if n.count(isNotify) != 0 {
		w.fatal("a NOTIFY where all is well")
	}
	note.Status = gist.Tentative
	for range 3 {
		n.handle(Notification{note})
	}
	w.run(time.Second)
	msgs, sends := n.since(0, isNotify)
	if len(msgs) != 1 || sends[0].SII != w.sii(2) || sends[0].Peer != 2 || !sends[0].MRI.Upstream {
		w.fatal("%d NOTIFYs %+v", len(msgs), sends)
	}
	w.wantInfo(msgs[0], wire.ClassInformational, wire.RouteChange)
	for id := Peer(1); id <= 2; id++ {
		d := w.node(id).doubts
		if len(d) != 1 || d[0].MRI != w.node(id).m.sessions[sid(1)].down.mri || d[0].Status != gist.Tentative || !d[0].Urgent {
			w.fatal("node %d: GIST was told %+v", id, d)
		}
	}
	if len(w.node(1).notified) != 1 {
		w.fatal("the QNI was told %d times", len(w.node(1).notified))
	}
	w.run(time.Minute)
	n.handle(Notification{note})
	if n.count(isNotify) != 2 {
		w.fatal("no NOTIFY later on")
	}
	w.wantStand(sid(1), 20)
}

// "A node on the path, that was not previously the last node, MUST take over as the
// last node on the signaling path if GIST path change detection identifies that
// there are no further downstream nodes on the path"; and the case of path
// extension: its upstream peer has the QSPEC that it takes. RFC 5974 §5.2.5.1
func TestLastNodeChanges(t *testing.T) {
	w := reserved(t, 3)
	w.via[2] = 2 // itself
	w.suspect(2, gist.LastNode, gist.Bad, 0)
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 2)
	if i, _ := w.node(2).m.Session(sid(1)); !i.Last {
		w.fatal("%+v", i)
	}
	_, sends := w.node(2).since(0, isTear)
	if len(sends) != 1 || sends[0].SII != w.sii(3) {
		w.fatal("TEARs %+v", sends)
	}
	w.run(10 * time.Minute)
	w.wantOn(sid(1), 20, 1, 2)
	delete(w.via, 2)
	w.node(2).handle(Rerouted{SID: sid(1)})
	w.run(time.Second)
	w.wantInfo(w.node(2).since1(isResponse), wire.ClassTransientFailure, wire.FullQSPECRequired)
	w.wantOn(sid(1), 20, 1, 2, 3)
	w.run(10 * time.Minute)
	w.wantOn(sid(1), 20, 1, 2, 3)
}

// since1 is the last but one.
func (n *node) since1(match func(*wire.Message) bool) *wire.Message {
	msgs, _ := n.since(0, match)
	return msgs[len(msgs)-2]
}

// "a REPLACE flag is provided in the QoS NSLP common header, which, when not set,
// indicates that the reservation on the old branch should be kept" (RFC 5974
// §3.2.12); "the value REPLACE=0 is also indicating that a tearing RESERVE SHOULD
// NOT be sent on the old branch"; "a QNE SHOULD NOT remove the old reservation state
// if the SII […] is different"; "The QNE MAY elect to keep sending refreshing
// RESERVE messages." (§5.4.1)
func TestKeepOldBranch(t *testing.T) {
	w := diamond(t, 8)
	var kept bool
	w.node(4).answer = func(q *Question) (Verdict, bool) {
		kept = kept || q.Kind == Admit && q.Move == MoveUpstream && q.Keep
		return Verdict{}, false
	}
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Keep: true})
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 2, 4, 5)
	w.turn(1, 3)
	w.run(time.Hour)
	w.wantOn(sid(1), 20, 1, 2, 3, 4, 5)
	if !kept || w.node(1).count(isTear) != 0 || w.node(4).count(isNotify) != 0 {
		w.fatal("kept %v, %d TEARs, %d NOTIFYs", kept, w.node(1).count(isTear), w.node(4).count(isNotify))
	}
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(time.Second)
	w.wantResult(sid(1), Released)
	w.run(10 * time.Minute)
	w.wantOn(sid(1), 0)
	if n := w.node(1).count(isTear); n != 2 {
		w.fatal("%d TEARs for two branches", n)
	}
}

// What is kept is told all of itself where it asks, and forgotten where it is gone.
// RFC 5974 §5.4.1
func TestKeptBranchAsks(t *testing.T) {
	w := diamond(t, 15)
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Keep: true})
	w.run(time.Second)
	w.turn(1, 3)
	w.run(time.Minute)
	clear(w.node(2).disk)
	w.node(2).restart()
	w.node(2).lives-- // the SII handle is still the one that node 1 has
	w.run(2 * time.Minute)
	w.wantOn(sid(1), 20, 1, 2, 3, 4, 5)
	w.node(2).handle(Abandon{SID: sid(1), Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationPreempted}})
	w.run(10 * time.Minute)
	w.wantOn(sid(1), 20, 1, 3, 4, 5)
	w.wantResult(sid(1), Reserved)
}

// "the QNI or a QNE MAY set the REPLACE flag in the common header to zero": without
// it the branches that were kept are torn. RFC 5974 §5.4.1
func TestKeptBranchReplaced(t *testing.T) {
	w := diamond(t, 8)
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Keep: true})
	w.run(time.Second)
	w.turn(1, 3)
	w.run(time.Minute)
	w.wantOn(sid(1), 20, 1, 2, 3, 4, 5)
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 3, 4, 5)
}

// "if the MRI changes, end-to-end signaling usually cannot be avoided": a new flow
// under the same SID updates the state, and the old path's is torn; on the common
// path "they refer to the same NSLP state". RFC 5980 §4.1, §4.2, §4.4.2, RFC 5974
// §5.4.1
func TestMobility(t *testing.T) {
	for _, coupled := range []bool{false, true} {
		for _, handover := range []struct {
			to Peer
			on []Peer
		}{{2, []Peer{1, 2, 4, 5}}, {3, []Peer{1, 3, 4, 5}}} {
			w := diamond(t, 9)
			w.coupled = coupled
			standing(t, w)
			w.via[1] = handover.to
			at := flow()
			at.Flow.Source = netip.MustParsePrefix("10.1.7.7/32")
			moves := map[Move]int{}
			for _, n := range w.nodes {
				n.answer = func(q *Question) (Verdict, bool) { moves[q.Move]++; return Verdict{}, false }
			}
			released := w.node(4).asked[Release] + w.node(5).asked[Release]
			w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: at, QSPEC: qspec(20)})
			w.run(time.Second)
			w.wantResult(sid(1), Reserved)
			w.run(5 * time.Minute)
			w.wantOn(sid(1), 20, handover.on...)
			if n := len(handover.on); moves[MoveFlow] != n-b2i(handover.to == 3) {
				w.fatal("moves %v", moves)
			}
			if w.node(4).asked[Release]+w.node(5).asked[Release] != released {
				w.fatal("the common path was released")
			}
			for _, id := range handover.on {
				if i, _ := w.node(id).m.Session(sid(1)); i.MRI.Flow != at.Flow {
					w.fatal("node %d has flow %+v", id, i.MRI.Flow)
				}
			}
			w.node(1).handle(Terminate{SID: sid(1)})
			w.run(time.Second)
			w.wantOn(sid(1), 0)
		}
	}
}

// A TEAR, an Abandon, and a late verdict while the path is being changed: both
// branches go. RFC 5974 §5.2.5.2
func TestEndWhileRerouting(t *testing.T) {
	for what, f := range map[string]func(w *world){
		"asked":    func(w *world) { w.node(1).mute[Admit] = true },
		"reserved": func(w *world) { w.node(5).mute[Admit], w.node(4).mute[Admit] = true, true },
		"commit":   func(w *world) { w.node(1).mute[Commit] = true },
	} {
		w := standing(t, diamond(t, 10))
		f(w)
		w.turn(1, 3)
		w.run(time.Second)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(40 * time.Second)
		w.wantResult(sid(1), Released)
		for _, n := range w.nodes {
			clear(n.mute)
		}
		w.run(5 * time.Minute)
		for _, n := range w.nodes {
			if _, ok := n.m.Session(sid(1)); ok {
				w.fatal("%s: node %d has the session", what, n.id)
			}
		}
	}
}

// A restarted node does not know the SII handle of the old path's peer, and to its
// GIST it is somebody else: no TEAR of it would count. What is there expires.
// RFC 5974 §5.2.5.2, §5.4.1
func TestRerouteAfterRestart(t *testing.T) {
	for _, coupled := range []bool{false, true} {
		w := diamond(t, 11)
		w.coupled = coupled
		standing(t, w)
		w.node(1).restart()
		w.turn(1, 3)
		w.run(time.Second)
		if n := w.node(1).count(isTear); n != 0 || w.node(1).notes["branch-left"] != 1 {
			w.fatal("coupled %v, %d TEARs, notes %v", coupled, n, w.node(1).notes)
		}
		w.run(10 * time.Minute)
		w.wantOn(sid(1), 20, 1, 3, 4, 5)
	}
}

// There is no association to the old peer any more: its own MRI leads there.
// RFC 5974 §5.2.5.2
func TestTearNotSentBySII(t *testing.T) {
	w := standing(t, diamond(t, 12))
	cut := true
	w.cutOff = func(a Send) bool { return cut && a.SII != 0 }
	w.turn(1, 3)
	w.run(time.Second)
	w.wantOn(sid(1), 20, 1, 3, 4, 5)
	_, sends := w.node(1).since(0, isTear)
	if len(sends) != 2 || sends[0].SII == 0 || sends[1].SII != 0 || sends[0].MRI != sends[1].MRI {
		w.fatal("%+v", sends)
	}
}

// Where GIST has no peer any more, another way is asked for before the session is
// given up. RFC 5974 §3.2.12
func TestDeadPeerRerouted(t *testing.T) {
	w := standing(t, diamond(t, 13))
	w.node(2).down = true
	w.unreachable[[2]Peer{1, 2}] = true
	w.via[1] = 3
	w.run(time.Minute)
	w.run(5 * time.Minute)
	for _, id := range []Peer{1, 3, 4, 5} {
		if _, ok := w.node(id).stand[sid(1)]; !ok {
			w.fatal("node %d has nothing", id)
		}
	}
	if slices.ContainsFunc(w.results[sid(1)], func(r Result) bool { return r.Kind == Terminated }) {
		w.fatal("given up")
	}
}

// What it would have been told while it was away it asks after its restart.
// RFC 5974 §3.2.12
func TestRouteChangedWhileAway(t *testing.T) {
	w := diamond(t, 14)
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Keep: true})
	w.node(1).handle(Initiate{SID: sid(2), NSLPID: 1, MRI: flow(), QSPEC: qspec(20)})
	w.run(time.Second)
	w.node(1).down = true
	w.run(10 * time.Second)
	w.via[1] = 3
	w.node(1).down = false
	w.node(1).restart()
	w.run(time.Minute)
	if i, _ := w.node(1).m.Session(sid(2)); i.Downstream != 3 {
		w.fatal("%+v", i)
	}
	w.run(10 * time.Minute)
	w.wantOn(sid(2), 20, 1, 3, 4, 5)
	w.wantOn(sid(1), 20, 1, 2, 3, 4, 5) // what is kept is known to be
}
