package qosnslp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/reduced"
	"github.com/interqos/interqos/qosnslp/wire"
)

// domain is RFC 5974 §4.7.1, Figure 14: 1 is the QNI, 2 the ingress edge, 3 and 4
// are stateless and count by class, 5 is the egress edge and 6 the QNR. For each
// end-to-end session the ingress has a local one; in its QSPEC, the toy's highest bit
// says that somebody on the way has refused.
func domain(t *testing.T, seed uint64, capacity uint64) (*world, map[Peer]*reduced.Classes) {
	w := newWorld(t, 6, seed)
	counts := map[Peer]*reduced.Classes{}
	for _, id := range []Peer{3, 4} {
		n := w.node(id)
		n.serves, n.cfg.Stateless = 1, true
		n.boot()
		c := reduced.New(DefaultRefreshPeriod, map[reduced.Class]uint64{1: capacity})
		counts[id] = c
		n.answer = func(q *Question) (Verdict, bool) {
			if q.Kind != Transit {
				w.fatal("a stateless node asks %d", q.Kind)
			}
			v := Verdict{Accept: true, NextPeer: id + 1}
			rate := uint64(binary.BigEndian.Uint32(q.Message.QSPEC[4:]) &^ refusedBit)
			switch {
			case q.Message.Type == wire.Query, marked(q.Message.QSPEC):
			case q.Message.Tears():
				c.Release(w.now, 1, rate)
			case !q.Message.HasRII:
				c.Refresh(w.now, 1, rate)
			case !c.Reserve(w.now, 1, rate):
				v.Accept, v.QSPEC = false, qspec(uint32(rate)|refusedBit)
			}
			return v, true
		}
	}
	local := func(s gistwire.SID) gistwire.SID { s[0] = 0x10; return s }
	isLocal := func(s gistwire.SID) bool { return s[0] == 0x10 }
	in, out := w.node(2), w.node(5)
	in.answer = func(q *Question) (Verdict, bool) {
		switch {
		case isLocal(q.SID):
			if q.Kind != Admit {
				return Verdict{}, false
			}
			return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 3, Next: flow()}, true
		case q.Kind == Admit:
			id := &wire.MsgID{Bidirectional: true, ID: messageID{0: q.SID[15], 4: byte(q.RSN), 15: 1}}
			w.at(0, func() {
				in.handle(Initiate{SID: local(q.SID), NSLPID: 1, MRI: flow(), QSPEC: q.Message.QSPEC, MsgID: id, Stateless: true,
					Bound: []wire.BoundSession{{Code: wire.BindTunnel, SID: q.SID}}})
			})
			return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 5, Next: hop(2), NSLPID: 2, BoundMsgID: id}, true
		case q.Kind == Release, q.Kind == Fail && in.stand[q.SID].qspec == "":
			w.at(0, func() { in.handle(Terminate{SID: local(q.SID)}) })
		}
		return Verdict{}, false
	}
	out.answer = func(q *Question) (Verdict, bool) {
		switch {
		case q.Kind != Admit:
			return Verdict{}, false
		case isLocal(q.SID) && marked(q.Message.QSPEC):
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}, true
		case isLocal(q.SID):
			return Verdict{Accept: true, Last: true}, true
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 6, Next: hop(5), NSLPID: 1}, true
	}
	return w, counts
}

const refusedBit = 1 << 31

func marked(q []byte) bool { return binary.BigEndian.Uint32(q[4:])&refusedBit != 0 }

// wantStateless: "no per-flow QoS NSLP state is stored", and "Nodes […] that do not
// retain reservation state cannot send back RESPONSE messages (and so cannot use the
// refresh reduction extension)". RFC 5974 §4.7.1
func (w *world) wantStateless() {
	w.t.Helper()
	for _, id := range []Peer{3, 4} {
		n := w.node(id)
		st := n.m.Stats()
		if st.Creating+st.Installed+st.Closing+st.Tombstones+st.OpenQuestions+st.QueriesUnderWay+st.Paths+len(n.m.timers.h) != 0 {
			w.fatal("node %d keeps state: %+v", id, st)
		}
		for i, m := range n.sent {
			if m.Type == wire.Response || m.Type == wire.Notify || !n.sends[i].Attr.Stateless {
				w.fatal("node %d sent %v with %+v", id, m.Type, n.sends[i].Attr)
			}
		}
		for _, m := range n.got {
			if m.Type == wire.Response || m.SessionIDs != nil || m.Type == wire.Reserve && m.QSPEC == nil {
				w.fatal("node %d got %+v", id, m)
			}
		}
	}
}

// "the interior nodes only store the QSPEC-related reservation state or even no state
// at all"; "a stateless QNE […] always needs full single refreshes" (§5.3.6); the TEAR
// "may include a QSPEC to further specify state removal" (§5.1.2.1). RFC 5974 §4.7.1.
// The end-to-end session is "able to bypass intermediate nodes, and the egress QNE"
// has both of them, bound (RFC 5974 §3.2.10.2).
func TestStatelessInterior(t *testing.T) {
	for seed := range uint64(6) {
		w, counts := domain(t, seed, 1000)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.03, 0.1, 200*time.Millisecond
		}
		for i := range byte(8) {
			w.reserve(sid(10+i), 5)
		}
		w.run(2 * time.Minute)
		for i := range byte(8) {
			for w.result(sid(10+i)).Kind != Reserved {
				w.reserve(sid(10+i), 5)
				w.run(time.Minute)
			}
		}
		w.loss, w.dup, w.jitter = 0, 0, 0
		w.run(10 * time.Minute)
		for i := range byte(8) {
			w.wantAt(sid(10+i), 5, 1, 2, 5, 6)
			l := gistwire.SID{0: 0x10, 15: 10 + i}
			w.wantAt(l, 5, 2, 5)
			if b := w.node(5).m.sessions[l].also.bindings(); !slices.Contains(b, wire.BoundSession{Code: wire.BindTunnel, SID: sid(10 + i)}) {
				w.fatal("at the egress the local session is bound to %v", b)
			}
		}
		for id, c := range counts {
			if n := c.Reserved(w.now, 1); n != 40 {
				w.fatal("node %d counts %d", id, n)
			}
		}
		w.wantStateless()
		for i, m := range w.node(5).sent {
			// RESPONSE' goes straight to the ingress: Figure 14.
			if w.node(5).sids[i][0] == 0x10 && (m.Type != wire.Response || w.node(5).sends[i].Peer != 2 || w.node(5).sends[i].SII != w.sii(2)) {
				w.fatal("the egress sent %+v", w.node(5).sends[i])
			}
		}
		for i := range byte(8) {
			w.node(1).handle(Terminate{SID: sid(10 + i)})
		}
		w.run(10 * time.Minute)
		for i := range byte(8) {
			w.wantAt(sid(10+i), 0)
			w.wantAt(gistwire.SID{0: 0x10, 15: 10 + i}, 0)
		}
		if n := counts[3].Reserved(w.now, 1); n != 0 {
			w.fatal("%d are left", n)
		}
		w.wantStateless()
	}
}

// "if the RESERVE' fails at QNE A, it cannot send an error message back to the ingress
// QNE. Thus, the RESERVE' is forwarded along the intended path, but the QSPEC includes
// information for subsequent QNEs"; "The RESERVE message is only forwarded further if
// the processing of the RESERVE' message was successful at all nodes in the local
// domain". RFC 5974 §4.7.1
func TestInteriorRefuses(t *testing.T) {
	for _, full := range []Peer{3, 4} {
		w, counts := domain(t, 1, 20)
		counts[full].Reserve(w.now, 1, 5)
		for i := range byte(3) {
			w.reserve(sid(10+i), 5)
			w.run(time.Second)
			w.wantResult(sid(10+i), Reserved)
		}
		w.reserve(sid(20), 6)
		w.run(time.Minute)
		if r := w.wantResult(sid(20), Rejected); r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.SyncMismatch {
			w.fatal("%v", r.Info)
		}
		w.run(10 * time.Minute)
		w.wantAt(sid(20), 0)
		w.wantAt(gistwire.SID{0: 0x10, 15: 20}, 0)
		w.wantAt(sid(10), 5, 1, 2, 5, 6)
		for id, c := range counts {
			if n := c.Reserved(w.now, 1); n != 15 {
				w.fatal("node %d counts %d", id, n)
			}
		}
		w.wantStateless()
	}
}

// Whichever of the two RESERVEs is first at the egress.
func TestStatelessOrder(t *testing.T) {
	for _, slow := range []gistwire.NSLPID{1, 2} {
		w, _ := domain(t, 1, 100)
		w.filter = func(from, to Peer, m *wire.Message) bool { // its repeat comes
			return to != 5 || m.Type != wire.Reserve || m.HasBoundMsgID != (slow == 2) || w.now.Sub(start) > time.Second
		}
		w.reserve(sid(10), 5)
		w.run(5 * time.Minute)
		w.wantResult(sid(10), Reserved)
		w.wantAt(sid(10), 5, 1, 2, 5, 6)
		w.wantAt(gistwire.SID{0: 0x10, 15: 10}, 5, 2, 5)
		w.wantUnbound()
		w.wantStateless()
	}
}

// After restarts of the edges.
func TestStatelessRestart(t *testing.T) {
	for _, who := range []Peer{2, 5, 3} {
		w, _ := domain(t, 1, 100)
		w.reserve(sid(10), 5)
		w.run(time.Minute)
		w.node(who).restart()
		w.run(20 * time.Minute)
		w.wantAt(sid(10), 5, 1, 2, 5, 6)
		w.wantAt(gistwire.SID{0: 0x10, 15: 10}, 5, 2, 5)
		w.wantStateless()
	}
}

// What a stateless node does with each kind of message, one by one. It tells GIST to
// keep nothing of it ("inform the underlying GIST of this situation", RFC 5974
// §3.3.3), and "only sender-initiated signaling can be supported within the
// reduced-state region" (RFC 5974 §4.7.2): nothing that travels upstream goes on. "It
// MUST also copy the same RSN into the RESERVE message" (RFC 5974 §5.3.1). What it cannot
// process "SHOULD be forwarded downstream" (RFC 5974 §5.3.5, §5.3.6).
func TestInteriorMessages(t *testing.T) {
	reserve := wire.Message{Type: wire.Reserve, HasRSN: true, RSN: wire.RSN{Number: 7, Epoch: 3}, HasRII: true, RII: 9, QSPEC: qspec(5),
		HasMsgID: true, MsgID: *msgID(true), BoundSessions: []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(3)}},
		HasRefreshPeriod: true, RefreshPeriod: 5000,
		Objects: []wire.Object{{Action: wire.Ignore, Type: 2040, Value: []byte{1, 2, 3, 4}}, {Action: wire.Forward, Type: 2041, Value: []byte{5, 6, 7, 8}}}}
	with := func(f func(*wire.Message)) []byte { m := reserve; f(&m); return m.Append(nil) }
	without := with(func(m *wire.Message) { m.Objects = m.Objects[1:] }) // "it MUST be deleted" (§5.1.3)
	unknown := with(func(m *wire.Message) { m.Objects[0].Action = wire.Mandatory; m.Objects = m.Objects[:1:1] })
	reserve.Objects[0].Action = wire.Ignore
	info := wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}
	query := func(flags uint8) []byte {
		m := wire.Message{Type: wire.Query, MessageFlags: flags, HasRII: flags == 0, RII: 4, QSPEC: qspec(5)}
		return m.Append(nil)
	}
	reduced := with(func(m *wire.Message) { m.QSPEC, m.HasRII, m.HasMsgID = nil, false, false })
	list := wire.Message{Type: wire.Reserve, HasRSN: true, SessionIDs: []gistwire.SID{sid(4)}, HasRSNList: true, RSNs: wire.RSNList{RSNs: []uint32{1}}}
	for name, x := range map[string]struct {
		in, out []byte
		up      bool
		peer    Peer
		asked   int
	}{
		"RESERVE":                        {in: with(func(*wire.Message) {}), out: without, asked: 1},
		"TEAR":                           {in: with(func(m *wire.Message) { m.MessageFlags = wire.Tear; m.Objects = nil }), out: with(func(m *wire.Message) { m.MessageFlags = wire.Tear; m.Objects = nil }), asked: 1},
		"QUERY":                          {in: query(0), out: query(0), asked: 1},
		"scoped RESERVE":                 {in: with(func(m *wire.Message) { m.Flags = wire.Scoping }), asked: 1},
		"scoped reduced refresh":         {in: func() []byte { m := list; m.Flags = wire.Scoping; return m.Append(nil) }()},
		"RESERVE upstream":               {in: without, up: true},
		"stranger's RESERVE":             {in: without, peer: Stranger},
		"reduced refresh, forwarded":     {in: reduced, out: reduced},
		"summary refresh, forwarded":     {in: list.Append(nil), out: list.Append(nil)},
		"RESERVE-INIT, forwarded":        {in: query(wire.ReserveInit), out: query(wire.ReserveInit)},
		"mandatory unknown, forwarded":   {in: unknown, out: unknown},
		"QUERY without QSPEC, forwarded": {in: []byte{2, 0, 0, 0}, out: []byte{2, 0, 0, 0}},
		"RESPONSE":                       {in: (&wire.Message{Type: wire.Response, HasInfoSpec: true, InfoSpec: info, HasRII: true}).Append(nil)},
		"NOTIFY":                         {in: (&wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info}).Append(nil)},
		"unknown type":                   {in: []byte{9, 0, 0, 0}},
		"nothing":                        {in: nil},
	} {
		m := New(Config{Epoch: 1, Stateless: true, Rand: func() uint64 { return 1 }})
		mri, peer := flow(), Peer(1)
		mri.Upstream = x.up
		if x.peer != 0 {
			peer = x.peer
		}
		var sends []Send
		asked := 0
		todo := []Event{Received{Peer: peer, RecvMessage: gist.RecvMessage{Data: x.in, NSLPID: 1, SID: sid(1), MRI: mri, HopCount: 9, Attr: gist.TransferAttributes{Stateless: true}}}}
		for len(todo) > 0 {
			ev := todo[0]
			todo = todo[1:]
			for _, a := range m.Handle(start, ev) {
				switch a := a.(type) {
				case Question:
					asked++
					if a.Kind != Transit || a.SID != sid(1) || a.Upstream != 1 || a.Message == nil || a.MRI != mri {
						t.Errorf("%s: asks %+v", name, a)
					}
					todo = append(todo, Verdict{Ticket: a.Ticket, Accept: true, NextPeer: 2})
				case Send:
					sends = append(sends, a)
				case Note:
				default:
					t.Errorf("%s: %T", name, a)
				}
			}
		}
		if asked != x.asked || len(sends) != map[bool]int{true: 1}[x.out != nil] {
			t.Errorf("%s: asked %d times, sent %d", name, asked, len(sends))
			continue
		}
		for _, s := range sends {
			if !bytes.Equal(s.NSLPData, x.out) || s.MRI != mri || s.SID != sid(1) || s.NSLPID != 1 || s.HopCount != 9 || !s.HasHopCount || !s.Attr.Stateless || s.Attr.Reliable || s.SII != 0 {
				t.Errorf("%s: sent %+v\nwant %x", name, s, x.out)
			}
		}
		if st := m.Stats(); st.OpenQuestions+st.Tombstones+st.Creating != 0 || !m.Deadline().IsZero() {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// Questions about what passes are bounded in number and time; what has no verdict
// that says so does not go on as if it had been granted.
func TestTransitBounds(t *testing.T) {
	m := New(Config{Epoch: 1, Stateless: true, MaxQuestions: 3, Rand: func() uint64 { return 1 }})
	msg := wire.Message{Type: wire.Reserve, HasRSN: true, QSPEC: qspec(5)}
	var tickets []uint64
	for range 5 {
		for _, a := range m.Handle(start, Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: msg.Append(nil), NSLPID: 1, SID: sid(1), MRI: flow()}}) {
			if q, ok := a.(Question); ok {
				tickets = append(tickets, q.Ticket)
			}
		}
	}
	if len(tickets) != 3 || m.Stats().OpenQuestions != 3 {
		t.Fatalf("%d asked", len(tickets))
	}
	sent := func(v Verdict) (n int) {
		for _, a := range m.Handle(start, v) {
			if _, ok := a.(Send); ok {
				n++
			}
		}
		return n
	}
	if sent(Verdict{Ticket: tickets[0]}) != 0 || sent(Verdict{Ticket: tickets[0], Accept: true}) != 0 {
		t.Error("refused, and sent on all the same")
	}
	if sent(Verdict{Ticket: tickets[1], QSPEC: []byte{1}}) != 0 || sent(Verdict{Ticket: tickets[2], QSPEC: qspec(6), NextPeer: 2}) != 1 {
		t.Error("the verdict's QSPEC")
	}
	m.Handle(start, Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: msg.Append(nil), NSLPID: 1, SID: sid(1), MRI: flow()}})
	if m.Deadline() != start.Add(DefaultHoldTimeout) {
		t.Errorf("deadline %v", m.Deadline())
	}
	m.Handle(start.Add(DefaultHoldTimeout), nil)
	if m.Stats().OpenQuestions != 0 || !m.Deadline().IsZero() {
		t.Error("no verdict, and never forgotten")
	}
}

// An egress edge that does not know the end-to-end session has nobody to answer; it
// does not try the stateless nodes.
func TestEgressWithoutEndToEnd(t *testing.T) {
	w := newWorld(t, 3, 1)
	msg := wire.Message{Type: wire.Reserve, HasRSN: true, RSN: wire.RSN{Number: 1, Epoch: 9}, HasRII: true, RII: 5, QSPEC: qspec(5),
		BoundSessions: []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(2)}}}
	in := gist.RecvMessage{Data: msg.Append(nil), NSLPID: 1, SID: sid(1), MRI: flow(), Attr: gist.TransferAttributes{Stateless: true}}
	w.node(3).recv(2, in)
	w.run(time.Second)
	msg.QSPEC, msg.RSN.Number = nil, 2
	in.Data = msg.Append(nil)
	w.node(3).recv(2, in)
	w.run(time.Second)
	if len(w.node(3).sent) != 0 || w.node(3).notes["no-way-back"] != 2 {
		w.fatal("sent %d, notes %v", len(w.node(3).sent), w.node(3).notes)
	}
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 0)
}

// "If a receiver-initiated reservation over a stateless or reduced-state domain is
// required, this can be implemented as shown in Figure 15": the RESERVE passes from the
// egress to the ingress, which "needs to send a sender-initiated RESERVE' over the
// stateless domain" and "needs to wait for a RESPONSE'. If the RESPONSE' notifies that
// the reservation was accomplished successfully, then the ingress QNE sends a RESERVE
// message further upstream." RFC 5974 §4.7.2
func TestStatelessReceiverInitiated(t *testing.T) {
	for _, room := range []uint64{100, 3} {
		w, counts := domain(t, 1, room)
		in, out := w.node(2), w.node(5)
		local := gistwire.SID{0: 0x10, 15: 10}
		edge := in.answer
		var waits Question
		in.answer = func(q *Question) (Verdict, bool) {
			switch {
			case q.SID == local, q.Kind == Release:
				return edge(q)
			case q.Kind == Inspect:
				return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 5, Next: hop(2), NSLPID: 2}, true
			case q.Kind != Admit:
				return Verdict{}, false
			}
			waits = *q
			w.at(0, func() {
				in.handle(Initiate{SID: local, NSLPID: 1, MRI: flow(), QSPEC: q.Message.QSPEC, Stateless: true,
					Bound: []wire.BoundSession{{Code: wire.BindTunnel, SID: q.SID}}})
			})
			return Verdict{Ticket: later}, true
		}
		in.result = func(r Result) {
			if r.SID != local || r.Kind != Reserved && r.Kind != Rejected {
				return
			}
			v := Verdict{Ticket: waits.Ticket, Accept: r.Kind == Reserved, QSPEC: waits.Message.QSPEC, Info: r.Info}
			if v.Accept {
				in.held[waits.SID] = grant{waits.RSN, string(waits.Message.QSPEC)}
			}
			w.at(0, func() { in.handle(v) })
		}
		edgeOut := out.answer
		out.answer = func(q *Question) (Verdict, bool) {
			switch {
			case q.Kind == Inspect:
				return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 6, Next: hop(5), NSLPID: 1}, true
			case q.Kind == Admit && q.MRI.Upstream:
				return Verdict{Accept: true, QSPEC: q.Message.QSPEC}, true
			}
			return edgeOut(q)
		}
		w.invite(sid(10), 5)
		w.run(10 * time.Minute)
		w.wantStateless()
		if room < 5 {
			w.wantAt(sid(10), 0)
			w.wantAt(local, 0)
			continue
		}
		w.wantAt(sid(10), 5, 1, 2, 5, 6)
		w.wantAt(local, 5, 2, 5)
		if counts[3].Reserved(w.now, 1) != 5 || waits.MRI.Upstream != true {
			w.fatal("%d counted", counts[3].Reserved(w.now, 1))
		}
		w.node(6).handle(Terminate{SID: sid(10)})
		w.run(10 * time.Minute)
		w.wantAt(sid(10), 0)
		w.wantAt(local, 0)
		w.wantStateless()
	}
}
