package qosnslp

import (
	"bytes"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

func isQuery(m *wire.Message) bool { return m.Type == wire.Query }

func queryMsg(rii uint32, q []byte) wire.Message {
	return wire.Message{Type: wire.Query, HasRII: true, RII: rii, QSPEC: q}
}

func (w *world) query(s gistwire.SID, rate uint32) {
	w.node(1).handle(Query{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(rate)})
}

// wantNoQuery checks that nothing is left of any QUERY.
func (w *world) wantNoQuery() {
	w.t.Helper()
	for _, n := range w.nodes {
		if st := n.m.Stats(); st.QueriesUnderWay+st.OpenQuestions+len(n.m.queries)+len(n.m.asked) != 0 || len(n.m.sessions) == 0 && len(n.m.timers.h) != 0 {
			w.fatal("node %d: %+v, %d timers", n.id, st, len(n.m.timers.h))
		}
	}
}

// "the QUERY … may request information on whether a flow can be admitted, and
// so a node processing the query might record the available bandwidth"; at the
// QNR a RESPONSE, "passed to GIST to be forwarded peer-to-peer back along the
// path". RFC 5974 §4.2. "the QNE MUST copy the RII object (if present) unchanged
// into the new QUERY message" (§5.4.2); "without making a reservation". "A RESPONSE
// message MUST be sent when the QNR processes a […] QUERY message containing an RII
// object" (RFC 5974 §5.4.3).
func TestQuery(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(2).capacity, w.node(3).capacity = 30, 12
	w.query(sid(1), 20)
	w.run(time.Second)
	r := w.wantResult(sid(1), Answered)
	if !bytes.Equal(r.QSPEC, qspec(12)) || r.Info.Class != wire.ClassSuccess {
		w.fatal("%x %v", r.QSPEC, r.Info)
	}
	rii := w.node(1).last(isQuery).RII
	for _, n := range w.nodes {
		if n.asked[Admit] != 0 || len(n.held)+len(n.stand)+len(n.m.sessions)+len(n.m.tombs) != 0 {
			w.fatal("node %d reserved something", n.id)
		}
		if n.id < 4 && (n.last(isQuery).RII != rii || n.count(isQuery) != 1 || n.asked[Conclude] != 1) || n.id > 1 && n.last(isResponse).RII != rii {
			w.fatal("node %d: RII, or %d QUERYs, %d asked", n.id, n.count(isQuery), n.asked[Conclude])
		}
	}
	w.wantNoQuery()
}

// Under loss, repeats and overtaking the QNI retransmits with the same RII, and
// only it (RFC 5974 §5.2.4, §5.3.2); each query ends, with an answer or without,
// and nothing is left of it.
func TestQueryUnderLoss(t *testing.T) {
	answered := 0
	for seed := range uint64(40) {
		w := newWorld(t, 4, seed)
		w.loss, w.dup, w.jitter, w.think = 0.2, 0.3, 3*time.Second, 2*time.Second
		w.node(3).capacity = 5
		for i := range byte(3) {
			w.query(sid(i), 20)
		}
		w.run(5 * time.Minute)
		for i := range byte(3) {
			rs := w.results[sid(i)]
			if len(rs) != 1 {
				w.fatal("%d results", len(rs))
			}
			if rs[0].Kind == Answered {
				answered++
				if !bytes.Equal(rs[0].QSPEC, qspec(5)) {
					w.fatal("%x", rs[0].QSPEC)
				}
			}
		}
		for _, n := range w.nodes[1:] {
			if n.m.Stats().Retransmitted != 0 || n.count(isNotify) != 0 {
				w.fatal("node %d retransmits, or notifies", n.id)
			}
		}
		w.wantNoQuery()
	}
	if answered < 60 {
		t.Fatalf("%d of 120 answered", answered)
	}
}

// "the QNE MUST generate a RESPONSE message … if … the SCOPING flag is set".
// RFC 5974 §5.4.2
func TestQueryScoped(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(1).handle(Query{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(9), Flags: wire.Scoping})
	w.run(time.Second)
	w.wantResult(sid(1), Answered)
	if w.node(2).count(isQuery) != 0 || w.node(2).count(isResponse) != 1 {
		w.fatal("it went further")
	}
	w.wantNoQuery()
}

// An error goes all the way up; a peer that cannot be reached is one.
// RFC 5974 §5.3.5
func TestQueryRefused(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(3).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}, ResponseQSPEC: qspec(2)}, q.Kind == Inspect
	}
	w.query(sid(1), 20)
	w.run(time.Second)
	r := w.wantResult(sid(1), Rejected)
	if r.Info.Class != wire.ClassQoSModelError || r.Info.Code != wire.NoSLS || !bytes.Equal(r.QSPEC, qspec(2)) || w.node(4).asked[Inspect] != 0 {
		w.fatal("%v %x", r.Info, r.QSPEC)
	}
	w.unreachable[[2]Peer{2, 3}] = true
	w.query(sid(1), 20)
	w.run(time.Second)
	if r = w.wantResult(sid(1), Rejected); r.Info.Code != wire.PathTruncated {
		w.fatal("%v", r.Info)
	}
	w.wantNoQuery()
}

// "If the timer expires without receiving a RESPONSE … the QNE MUST NOT generate
// any RESPONSE or NOTIFY message to notify this error." RFC 5974 §5.3.2
func TestQueryUnanswered(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(4).down = true
	w.query(sid(1), 20)
	w.run(2 * time.Minute)
	w.wantResult(sid(1), TimedOut)
	if n := w.node(1).count(isQuery); n < 4 {
		w.fatal("%d QUERYs", n)
	}
	for _, n := range w.nodes {
		if n.count(isResponse)+n.count(isNotify) != 0 {
			w.fatal("node %d answers", n.id)
		}
	}
	w.wantNoQuery()
}

// "A QUERY message for requesting information about network resources MUST
// contain an RII object". RFC 5974 §5.1.2.2. An RII that another peer's QUERY of
// the session has is "an RII collision" (§5.3.2), and what one SID can have under
// way is bounded.
func TestQueryForm(t *testing.T) {
	w := scripted(t)
	w.inject(2, 1, sid(1), wire.Message{Type: wire.Query, QSPEC: qspec(1)})
	w.wantInfo(w.node(2).last(isResponse), wire.ClassProtocolError, wire.MissingObject)
	w.node(3).down = true
	w.inject(2, 1, sid(1), queryMsg(3, qspec(1)))
	w.run(time.Second)
	w.inject(2, 1, sid(1), queryMsg(3, qspec(1)))
	w.run(time.Second)
	if n := w.node(2).count(isQuery); n != 2 || w.node(2).asked[Inspect] != 1 {
		w.fatal("%d QUERYs, %d asked", n, w.node(2).asked[Inspect])
	}
	w.inject(2, 3, sid(1), queryMsg(3, qspec(1)))
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassTransientFailure, wire.RIIConflict)
	for i := range uint32(4) {
		w.inject(2, 1, sid(1), queryMsg(4+i, qspec(1)))
	}
	w.run(time.Second)
	if n := len(w.node(2).m.queries[sid(1)]); n != maxQueriesOfSession {
		w.fatal("%d under way", n)
	}
	w.wantInfo(w.node(2).last(isResponse), wire.ClassTransientFailure, wire.ReservationFailure)
	w.run(2 * time.Minute)
	w.wantNoQuery()
}

// "a QNE MUST copy the BOUND-SESSION-ID object into all messages it sends for
// the same session" (RFC 5974 §5.3.3); BREAK too (§5.4.2, §5.4.3); the second
// QSPEC, the classifier and AB=10 objects travel on.
func TestQueryCopied(t *testing.T) {
	w := scripted(t)
	m := queryMsg(3, qspec(1))
	m.Flags = wire.Break
	m.BoundSessions = []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(9)}}
	m.PacketClassifier, m.QSPEC2 = []byte{0xc0, 0, 0, 0}, qspec(7)
	m.Objects = []wire.Object{{Action: wire.Forward, Type: 900, Value: []byte{1, 2, 3, 4}}}
	w.inject(2, 1, sid(1), m)
	w.run(time.Second)
	got := w.node(2).last(isQuery)
	if got.Flags != wire.Break || len(got.BoundSessions) != 1 || got.BoundSessions[0] != m.BoundSessions[0] ||
		!bytes.Equal(got.QSPEC2, m.QSPEC2) || !bytes.Equal(got.PacketClassifier, m.PacketClassifier) || len(got.Objects) != 1 {
		w.fatal("%+v", got)
	}
	up := w.node(2).last(isResponse)
	if up.Flags != wire.Break || len(up.BoundSessions) != 1 || up.RII != 3 {
		w.fatal("%+v", up)
	}
}

// GIST's routing state for a QUERY is let go with it, but not that of a session
// with the same SID. RFC 5974 §5.4.1
func TestQueryForgets(t *testing.T) {
	for _, reserved := range []bool{false, true} {
		d := newMiddle(t)
		if reserved {
			d.reserve(sid(1), 0, qspec(1))
		}
		q := queryMsg(3, qspec(1))
		tk := d.recv(1, hop(1), sid(1), &q)
		d.m.Handle(d.now, Verdict{Ticket: tk, Accept: true, Next: hop(2), NextPeer: 3, QSPEC: qspec(1)})
		resp := wire.Message{Type: wire.Response, HasRII: true, RII: 3, HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.Acknowledgement}}
		tk = d.recv(3, hop(2).Reverse(), sid(1), &resp)
		var forgets, sends int
		for _, a := range d.m.Handle(d.now, Verdict{Ticket: tk, Accept: true}) {
			switch a := a.(type) {
			case Forget:
				forgets++
			case Send:
				sends++
				if !a.MRI.Upstream || a.Peer != 1 {
					t.Errorf("RESPONSE to %d, upstream %v", a.Peer, a.MRI.Upstream)
				}
			}
		}
		if want := map[bool]int{false: 2}[reserved]; forgets != want || sends != 1 {
			t.Errorf("reserved %v: %d Forgets, want %d; %d messages", reserved, forgets, want, sends)
		}
	}
}

// What it is asked with is checked as for Initiate.
func TestQueryLimits(t *testing.T) {
	d := newMiddle(t)
	for _, q := range [][]byte{nil, {1, 2, 3}} {
		acts := d.m.Handle(d.now, Query{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: q})
		if r, ok := acts[len(acts)-1].(Result); !ok || r.Kind != Rejected {
			t.Fatalf("%+v", acts)
		}
	}
	d.m.Handle(d.now, Query{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(1)})
	if acts := d.m.Handle(d.now, Status{gist.MessageStatus{SID: sid(1), Handle: 77, Err: gist.ErrNoPeer}}); len(acts) != 1 {
		t.Fatalf("%+v", acts)
	}
}
