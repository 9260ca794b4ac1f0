package qosnslp

import (
	"bytes"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
	"pgregory.net/rapid"
)

func (w *world) invite(s gistwire.SID, rate uint32) {
	w.node(1).handle(Invite{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(rate)})
}

func (w *world) lastNode() *node { return w.nodes[len(w.nodes)-1] }

func initMsg(q []byte) wire.Message {
	return wire.Message{Type: wire.Query, MessageFlags: wire.ReserveInit, QSPEC: q}
}

// kinds of the results of one SID, in order.
func (w *world) kinds(s gistwire.SID) (ks []ResultKind) {
	for _, r := range w.results[s] {
		ks = append(ks, r.Kind)
	}
	return ks
}

// RFC 5974 §4.3: QUERY with RESERVE-INIT from the QNR; at the QNI it becomes a
// RESERVE, "forwarded peer-to-peer along the reverse of the path that the QUERY
// message took"; "The reservation can subsequently be refreshed with RESERVE
// messages in the upstream direction". "The QNI must not include the RII object".
func TestReceiverInitiated(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(2).capacity = 15
	w.invite(sid(1), 20)
	w.run(time.Second)
	w.wantStand(sid(1), 15)
	if ks := w.kinds(sid(1)); len(ks) != 2 || ks[0] != Answered || ks[1] != Reserved {
		w.fatal("results %v", ks)
	}
	for _, n := range w.nodes {
		i, _ := n.m.Session(sid(1))
		if i.Initiator != (n.id == 4) || i.Last != (n.id == 1) || n.id > 1 && i.Downstream != n.id-1 || n.id < 4 && (i.Upstream != n.id+1 || !i.MRI.Upstream) {
			w.fatal("node %d: %+v", n.id, i)
		}
		if n.id < 4 && (n.last(isQuery).HasRII || n.last(isQuery).MessageFlags != wire.ReserveInit) || n.count(isQuery) > 1 {
			w.fatal("node %d: QUERY", n.id)
		}
	}
	w.wantNoQuery()
	w.run(20 * time.Minute)
	w.wantStand(sid(1), 15)
	for _, n := range w.nodes[1:] {
		if n.m.Stats().RefreshesSent < 20 {
			w.fatal("node %d sent %d refreshes", n.id, n.m.Stats().RefreshesSent)
		}
	}
	// The QNI changes it without another QUERY, and ends it.
	up := flow()
	up.Upstream = true
	w.node(4).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: up, QSPEC: qspec(9)})
	w.run(time.Second)
	w.wantStand(sid(1), 9)
	w.node(4).handle(Terminate{SID: sid(1)})
	w.run(time.Second)
	w.wantResult(sid(1), Released)
	w.wantStand(sid(1), 0)
	w.run(time.Hour)
	for _, n := range w.nodes {
		if st := n.m.Stats(); st.Paths != 0 || !n.m.Deadline().IsZero() {
			w.fatal("node %d: %+v", n.id, st)
		}
	}
}

// Where no QUERY has passed: "no path state for a receiver-initiated RESERVE"
// (RFC 5974 §5.1.3.6), also from another peer than the one that the QUERY went
// to, for "the RESERVE message must follow the same path" (§5.4.1).
func TestNoPathState(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(1).down, w.node(3).down = true, true
	up := func(from Peer) {
		m := withRII(reserveMsg(0, 5, qspec(1)), 3)
		w.node(2).receive(from, sid(1), hop(2).Reverse(), m.Append(nil))
		w.run(time.Millisecond)
	}
	up(3)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassTransientFailure, wire.NoPathState)
	w.inject(2, 1, sid(1), initMsg(qspec(1)))
	w.run(time.Second)
	up(4)
	if n := w.node(2).count(isResponse); n != 2 || w.node(2).asked[Admit] != 0 {
		w.fatal("%d RESPONSEs, %d admissions", n, w.node(2).asked[Admit])
	}
	up(3)
	if w.node(2).asked[Admit] != 1 {
		w.fatal("not admitted on the path of the QUERY")
	}
	// Without a RESERVE the path is forgotten.
	w.inject(2, 1, sid(2), initMsg(qspec(1)))
	w.run(time.Second)
	if w.node(2).m.Stats().Paths != 2 {
		w.fatal("%+v", w.node(2).m.Stats())
	}
	w.run(10 * time.Minute)
	if st := w.node(2).m.Stats(); st.Paths != 0 || st.Creating+st.Installed != 0 {
		w.fatal("%+v", st)
	}
	acts := w.node(2).m.Handle(w.now, Initiate{SID: sid(3), NSLPID: 1, MRI: hop(2).Reverse(), QSPEC: qspec(1)})
	if r, ok := acts[len(acts)-1].(Result); !ok || r.Info.Code != wire.NoPathState {
		w.fatal("%+v", acts)
	}
}

// "If a reservation is already installed and a RESERVE message is received with
// the same session identifier from the other direction (… or vice versa), then
// an error indicating "RESERVE received from wrong direction" MUST be sent".
// RFC 5974 §5.1.2.1
func TestWrongDirectionOfReceivers(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.invite(sid(1), 5)
	w.run(time.Second)
	w.wantStand(sid(1), 5)
	w.inject(2, 1, sid(1), withRII(reserveMsg(7, 5, qspec(1)), 3))
	w.wantInfo(w.node(2).last(isResponse), wire.ClassProtocolError, wire.WrongDirection)
	w.wantStand(sid(1), 5)
}

// "If this node was not expecting to perform a receiver-initiated reservation,
// then an error MUST be sent back along the path." RFC 5974 §5.4.2. It carries
// neither RII nor RSN, so that it "MUST NOT be forwarded further" (§5.4.3).
func TestReceiverUnwilling(t *testing.T) {
	for unwilling := Peer(2); unwilling <= 3; unwilling++ {
		w := newWorld(t, 3, 1)
		w.node(unwilling).answer = func(q *Question) (Verdict, bool) {
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassPermanentFailure, Code: wire.AuthorizationFailure}}, q.Kind == Inspect
		}
		w.invite(sid(1), 5)
		w.run(2 * time.Minute)
		w.wantInfo(w.node(unwilling).last(isResponse), wire.ClassPermanentFailure, wire.AuthorizationFailure)
		w.wantResult(sid(1), map[Peer]ResultKind{2: Rejected, 3: TimedOut}[unwilling])
		if w.node(2).count(isResponse) > 1 && unwilling == 3 {
			w.fatal("forwarded")
		}
		w.wantStand(sid(1), 0)
		w.wantNoQuery()
	}
}

// "QUERY messages with the RESERVE-INIT flag set MUST be answered … e.g.,
// following handovers, to set up new path state in GIST and to request that the
// other party to send a RESERVE back on this new GIST path." RFC 5974 §5.4.2.
// Every node sends the RESERVE on, though nothing has changed in it (§5.4.1).
func TestInviteAgain(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.invite(sid(1), 5)
	w.run(10 * time.Second)
	w.invite(sid(1), 5)
	w.run(10 * time.Second)
	w.wantStand(sid(1), 5)
	for _, n := range w.nodes {
		if n.asked[Admit] != 2 || n.asked[Commit] != 2 {
			w.fatal("node %d admitted %d times, committed %d times", n.id, n.asked[Admit], n.asked[Commit])
		}
	}
	// A repeat while the RESERVE is under way makes no other one.
	w = newWorld(t, 3, 1)
	w.think = 100 * time.Millisecond
	w.dup = 1
	w.invite(sid(1), 5)
	w.run(time.Second)
	w.wantStand(sid(1), 5)
	if n := w.node(3).asked[Admit]; n > 2 {
		w.fatal("%d reservations made", n)
	}
}

// An RII in such a QUERY gets its RESPONSE, ACK-REQ its acknowledgement.
// RFC 5974 §5.4.2. What the QUERY carried stands in the RESERVE: classifier
// (§5.1.2.2), BOUND-SESSION-ID (§5.3.3), BREAK (§5.4.2).
func TestInitObjects(t *testing.T) {
	w := scripted(t)
	m := initMsg(qspec(4))
	m.HasRII, m.RII, m.Flags = true, 8, wire.Break
	m.BoundSessions = []wire.BoundSession{{Code: wire.BindBidirectional, SID: sid(2)}}
	m.PacketClassifier = []byte{0xc0, 0, 0, 0}
	w.inject(2, 1, sid(1), m)
	w.run(time.Second)
	if r := w.node(2).sent; r[len(r)-1].Type != wire.Reserve {
		w.fatal("no RESERVE at the end, but %v", r[len(r)-1].Type)
	}
	got := w.node(2).last(isReserve)
	if got.Flags&wire.Break == 0 || !bytes.Equal(got.PacketClassifier, m.PacketClassifier) || len(got.BoundSessions) != 1 || got.BoundSessions[0] != m.BoundSessions[0] {
		w.fatal("%+v", got)
	}
	if r := w.node(2).last(isResponse); r.RII != 8 || r.InfoSpec.IsError() {
		w.fatal("%+v", r)
	}
	m = initMsg(qspec(4))
	m.Flags = wire.AckReq
	w.inject(2, 1, sid(3), m)
	w.run(time.Millisecond)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.Acknowledgement)
	if w.node(2).last(isResponse).HasRII {
		w.fatal("an RII that nobody has set")
	}
}

// A stranger moves no path of others, and nobody sends RESERVE-INIT upstream.
func TestInitRefused(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.invite(sid(1), 5)
	w.run(time.Second)
	m := initMsg(qspec(1))
	w.node(2).receive(Stranger, sid(1), hop(1), m.Append(nil))
	w.wantInfo(w.node(2).last(isResponse), wire.ClassPermanentFailure, wire.AuthorizationFailure)
	w.node(2).receive(3, sid(5), hop(2).Reverse(), m.Append(nil))
	w.wantInfo(w.node(2).last(isResponse), wire.ClassProtocolError, wire.BadMessageFlags)
	w.run(time.Second)
	w.wantStand(sid(1), 5)
}

// As TestQuiescence, for reservations that the last node has made because the
// first one invited it.
func TestReceiverQuiescence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.IntRange(2, 4).Draw(rt, "nodes"), rapid.Uint64().Draw(rt, "seed"))
		w.loss = rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "loss")
		w.dup = rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(rt, "dup")
		w.jitter = time.Duration(rapid.SampledFrom([]int{0, 5, 3000}).Draw(rt, "jitter ms")) * time.Millisecond
		w.think = time.Duration(rapid.SampledFrom([]int{0, 5, 4000, 70000}).Draw(rt, "think ms")) * time.Millisecond
		receiver := w.lastNode()
		sids := []gistwire.SID{sid(1), sid(2), sid(3)}
		up := flow()
		up.Upstream = true
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			s := rapid.SampledFrom(sids).Draw(rt, "sid")
			rate := rapid.Uint32Range(1, 9).Draw(rt, "rate")
			switch rapid.SampledFrom([]string{"invite", "invite", "modify", "terminate", "abandon", "restart"}).Draw(rt, "step") {
			case "invite":
				w.invite(s, rate)
			case "modify":
				receiver.handle(Initiate{SID: s, NSLPID: 1, MRI: up, QSPEC: qspec(rate)})
			case "terminate":
				receiver.handle(Terminate{SID: s})
			case "abandon":
				w.node(1).handle(Abandon{SID: s, Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
			case "restart":
				w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "who")].restart()
			}
			w.run(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 10, 1000, 5000, 40000, 200000}).Draw(rt, "pause ms")) * time.Millisecond)
		}
		w.logf("quiet")
		w.loss, w.dup, w.jitter, w.think = 0, 0, 0, 0
		w.run(20 * time.Minute)
		for _, s := range sids {
			want, standing := receiver.stand[s]
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
		receiver.down = true
		w.run(20 * time.Minute)
		for _, n := range w.nodes[:len(w.nodes)-1] {
			if st := n.m.Stats(); len(n.stand)+len(n.held)+st.Creating+st.Installed+st.Closing+st.OpenQuestions+st.QueriesUnderWay+st.Paths != 0 {
				w.dump()
				rt.Fatalf("node %d still has something: %+v", n.id, st)
			}
		}
	})
}
