package qosnslp

import (
	"errors"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// L is (K + 0.5) * 1.5 * R with K = 3, R from REFRESH-PERIOD, 30 s without.
// RFC 5974 §5.3.4, §5.1.2.1, §5.4.1, RFC 2205 §3.7. A committed reservation that is not
// refreshed is released, with TEAR downstream.
func TestLifetime(t *testing.T) {
	for _, ms := range []uint32{0, 2000} {
		w := scripted(t)
		msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
		life := 157500 * time.Millisecond
		if ms != 0 {
			msg.HasRefreshPeriod, msg.RefreshPeriod = true, ms
			life = 10500 * time.Millisecond
		}
		var reason ReleaseReason
		w.node(2).answer = func(q *Question) (Verdict, bool) {
			if q.Kind == Release {
				reason = q.Reason
			}
			return Verdict{}, false
		}
		w.inject(2, 1, sid(1), msg)
		w.run(life)
		if i, ok := w.node(2).m.Session(sid(1)); !ok || i.State != "installed" {
			w.fatal("gone before its lifetime: %+v", i)
		}
		w.run(10 * time.Millisecond)
		w.wantStand(sid(1), 0)
		if reason != Expired || w.node(2).count(isTear) != 1 || w.node(2).last(isTear).HasRII {
			w.fatal("reason %d, %d TEARs", reason, w.node(2).count(isTear))
		}
	}
}

// The refresh timer is random in [0.5R, 1.5R], "by default … with reduced
// refreshes"; REFRESH-PERIOD stands in them where R is not the default.
// RFC 2205 §3.7, RFC 5974 §5.3.4, §3.2.5
func TestRefreshTimer(t *testing.T) {
	w := newWorld(t, 2, 5)
	w.node(1).cfg.RefreshPeriod = 10 * time.Second
	w.node(1).boot()
	var at []time.Time
	w.filter = func(from, _ Peer, m *wire.Message) bool {
		if from == 1 && isReserve(m) {
			at = append(at, w.now)
			if len(at) > 1 && (m.QSPEC != nil || m.HasRII) {
				w.fatal("refresh with QSPEC or RII")
			}
			if !m.HasRefreshPeriod || m.RefreshPeriod != 10_000 {
				w.fatal("REFRESH-PERIOD %v %d", m.HasRefreshPeriod, m.RefreshPeriod)
			}
		}
		return true
	}
	w.reserve(sid(1), 5)
	w.run(2000 * time.Second)
	if len(at) < 150 || len(at) > 250 {
		t.Fatalf("%d refreshes in 200 periods", len(at))
	}
	distinct := map[time.Duration]bool{}
	for i := range at[1:] {
		d := at[i+1].Sub(at[i])
		distinct[d] = true
		if d < 5*time.Second || d > 15*time.Second+10*time.Millisecond {
			t.Fatalf("refresh after %v", d)
		}
	}
	if len(distinct) < 100 {
		t.Fatalf("only %d distinct intervals", len(distinct))
	}
}

// "If a QNE has received a RESPONSE mandating the use of full refreshes from its
// downstream peer for a session, the QNE MUST continue to use full refresh
// messages." RFC 5974 §5.4.1
func TestFullRefreshMandated(t *testing.T) {
	w := reserved(t, 2)
	w.inject(1, 2, sid(1), wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Epoch: w.node(1).epoch},
		HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: wire.ClassInformational, Code: wire.NoReducedRefresh}})
	sent := len(w.node(1).sent)
	w.run(5 * time.Minute)
	for _, m := range w.node(1).sent[sent-1:] {
		if !isReserve(m) || m.QSPEC == nil {
			w.fatal("%v with QSPEC %x", m.Type, m.QSPEC)
		}
	}
	if len(w.node(1).sent) < sent+5 || w.node(2).asked[Admit] != 1 {
		w.fatal("%d messages, %d admissions", len(w.node(1).sent)-sent, w.node(2).asked[Admit])
	}
}

// "If a mandatory object is missing from a message then the receiving QNE … MUST
// construct a RESPONSE message indicating the error condition and send it back".
// RFC 5974 §5.2.3, §5.4. Errors never answer errors, nor tears (§5.3.5).
func TestMalformed(t *testing.T) {
	w := scripted(t)
	for _, m := range []wire.Message{
		{Type: wire.Reserve, HasRII: true, RII: 8, QSPEC: qspec(1)},
		{Type: wire.Reserve, MessageFlags: wire.Tear},
		{Type: wire.Response, HasRII: true},
		{Type: wire.Notify},
	} {
		w.inject(2, 1, sid(1), m)
	}
	w.node(2).receive(1, sid(1), hop(1), []byte{9, 0, 0, 0})
	w.node(2).receive(1, sid(1), hop(1), []byte{1, 0, 0})
	if n := w.node(2).count(isResponse); n != 2 || w.node(2).notes["malformed"] != 6 {
		w.fatal("%d RESPONSEs, notes %v", n, w.node(2).notes)
	}
	w.wantInfo(w.node(2).sent[0], wire.ClassProtocolError, wire.MissingObject)
	if w.node(2).sent[0].RII != 8 {
		w.fatal("RII %d", w.node(2).sent[0].RII)
	}
	w.wantInfo(w.node(2).sent[1], wire.ClassProtocolError, wire.IllegalMessageType)
	w.wantStand(sid(1), 0)
}

// A node in the middle whose RESPONSE does not come within HoldTimeout gives up
// what it holds, tells upstream, and tears what may be held downstream.
func TestHoldTimeout(t *testing.T) {
	w := scripted(t)
	w.filter = func(from, _ Peer, _ *wire.Message) bool { return from != 3 }
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	w.run(59 * time.Second)
	if w.node(2).asked[Fail] != 0 || w.node(2).count(isReserve) != 1 {
		w.fatal("gave up early, or retransmitted")
	}
	w.run(2 * time.Second)
	if w.node(2).asked[Fail] != 1 {
		w.fatal("did not give up")
	}
	w.wantInfo(w.node(2).last(isResponse), wire.ClassTransientFailure, wire.PathTruncated)
	w.wantStand(sid(1), 0)
	// The late RESPONSE changes nothing more than another TEAR.
	w.inject(2, 3, sid(1), wire.Message{Type: wire.Response, HasRII: true, RII: 9, HasInfoSpec: true,
		InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}})
	w.run(time.Second)
	w.wantStand(sid(1), 0)
}

// After a restart holds are gone: a success RESPONSE for which there is no hold
// is turned into TEAR downstream. The initiator's retransmission then makes the
// reservation anew.
func TestRestartInTheMiddle(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.think = 100 * time.Millisecond
	w.reserve(sid(1), 20)
	for range 300 {
		if w.node(2).count(isReserve) == 0 {
			w.run(time.Millisecond)
		}
	}
	w.node(2).restart() // its RESERVE is on the way to node 3
	w.run(time.Second)
	if w.node(2).count(isTear) == 0 || len(w.node(3).stand) != 0 {
		w.fatal("node 3 still holds %v", w.node(3).stand)
	}
	w.run(10 * time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 20)
}

// A committed session survives a restart: peers are found again by a full
// RESERVE with the new epoch, and nobody is asked to admit it again; the node itself
// asks whether the path is still the same.
func TestRestore(t *testing.T) {
	for n := Peer(1); n <= 3; n++ {
		w := reserved(t, 3)
		w.run(5 * time.Second)
		asked := w.node(3).asked[Admit] + w.node(2).asked[Admit]
		w.node(n).restart()
		w.run(30 * time.Second)
		w.wantStand(sid(1), 20)
		if n < 3 {
			if i, _ := w.node(n + 1).m.Session(sid(1)); i.UpstreamRSN.Epoch != w.node(n).epoch {
				w.fatal("node %d does not know the new epoch", n+1)
			}
		}
		w.run(20 * time.Minute)
		w.wantStand(sid(1), 20)
		if got := w.node(3).asked[Admit] + w.node(2).asked[Admit]; got != asked+b2i(n == 2) {
			w.fatal("%d admissions after a restart", got-asked)
		}
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Second)
		w.wantResult(sid(1), Released)
		w.wantStand(sid(1), 0)
	}
}

// A Commit that is refused: error upstream, TEAR downstream; of a change, the
// old QSPEC downstream instead.
func TestCommitRefused(t *testing.T) {
	w := newWorld(t, 3, 3)
	refuse := true
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.Kind == Commit && refuse {
			delete(w.node(2).held, q.SID)
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassPermanentFailure, Code: wire.InternalError}}, true
		}
		return Verdict{}, false
	}
	w.reserve(sid(1), 20)
	w.run(time.Second)
	if r := w.wantResult(sid(1), Rejected); r.Info.Class != wire.ClassPermanentFailure {
		w.fatal("info %v", r.Info)
	}
	w.wantStand(sid(1), 0)
	refuse = false
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantStand(sid(1), 20)
	refuse = true
	w.reserve(sid(1), 30)
	w.run(time.Second)
	if r := w.wantResult(sid(1), Rejected); r.Info.Class != wire.ClassQoSModelError {
		w.fatal("a refused change of class %v", r.Info)
	}
	w.wantStand(sid(1), 20)
}

// One RSN-raising transaction per session and hop: others queue, and there are
// not more of them than fit. RFC 5974 §5.2.1
func TestQueue(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.think = 50 * time.Millisecond
	for i := range uint32(1 + maxQueue + 2) {
		w.reserve(sid(1), i+1)
	}
	if i, _ := w.node(1).m.Session(sid(1)); i.Queued != maxQueue {
		t.Fatalf("%d wait", i.Queued)
	}
	w.run(10 * time.Second)
	var reserved, rejected int
	for _, r := range w.results[sid(1)] {
		switch r.Kind {
		case Reserved:
			reserved++
		case Rejected:
			rejected++
		}
	}
	if reserved != 1+maxQueue || rejected != 2 {
		w.fatal("%d reserved, %d rejected", reserved, rejected)
	}
	w.wantStand(sid(1), 1+maxQueue)
}

// State is bounded, and refused strangers leave none behind.
func TestBounds(t *testing.T) {
	w := newWorld(t, 2, 3)
	n := w.node(2)
	n.cfg.MaxSessions, n.cfg.MaxQuestions = 10, 5
	n.boot()
	w.node(1).down = true
	n.mute[Admit] = true
	for i := range byte(20) {
		w.inject(2, 1, sid(i), withRII(reserveMsg(0, 5, qspec(1)), 9))
	}
	if st := n.m.Stats(); st.Creating != 5 || st.OpenQuestions != 5 || n.count(isResponse) != 15 {
		w.fatal("%+v", st)
	}
	w.wantInfo(n.last(isResponse), wire.ClassTransientFailure, wire.ReservationFailure)
	n.mute[Admit] = false
	w.run(2 * time.Minute)
	if st := n.m.Stats(); st.Creating+st.OpenQuestions+st.Installed+st.Closing != 0 || len(n.held) != 0 {
		w.fatal("%+v, held %d", st, len(n.held))
	}
	n.answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassPermanentFailure, Code: wire.AuthorizationFailure}}, q.Kind == Admit
	}
	for i := range 300 {
		w.inject(2, 1, gistwire.SID{1, byte(i), byte(i >> 8)}, withRII(reserveMsg(0, 5, qspec(1)), 9))
		w.run(time.Millisecond)
	}
	if st := n.m.Stats(); st.Creating != 0 || st.Tombstones > 10 {
		w.fatal("%+v", st)
	}
	w.run(10 * time.Minute)
	if st := n.m.Stats(); st.Tombstones != 0 || len(n.m.timers.h) != 0 {
		w.fatal("%+v", st)
	}
}

// A verdict for a question that is no longer open is ignored, and a Release was
// asked.
func TestLateVerdict(t *testing.T) {
	w := scripted(t)
	n := w.node(2)
	n.mute[Admit] = true
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	ticket := n.m.ticket
	tear := reserveMsg(1, 5, nil)
	tear.MessageFlags = wire.Tear
	w.inject(2, 1, sid(1), withRII(tear, 10))
	if n.asked[Release] != 1 {
		w.fatal("no Release")
	}
	n.handle(Verdict{Ticket: ticket, Accept: true, Next: hop(2), NextPeer: 3, QSPEC: qspec(1)})
	w.run(time.Second)
	if len(w.node(3).got) != 0 || n.m.Stats().LateVerdicts != 1 {
		w.fatal("the late verdict was used")
	}
	w.wantStand(sid(1), 0)
	w.wantInfo(n.last(isResponse), wire.ClassSuccess, wire.TeardownSuccessful)
}

// No verdict at all within HoldTimeout: Release, and an error upstream.
func TestNoVerdict(t *testing.T) {
	w := scripted(t)
	n := w.node(2)
	n.mute[Admit] = true
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	w.run(61 * time.Second)
	w.wantInfo(n.last(isResponse), wire.ClassTransientFailure, wire.ReservationFailure)
	if m := n.last(isResponse); m.RII != 9 || !m.HasRSN {
		w.fatal("RII %d RSN %v", m.RII, m.HasRSN)
	}
	w.wantStand(sid(1), 0)
}

// "the RII and RSN, if available, MUST be included" in a RESPONSE about an
// error. RFC 5974 §5.4.3
func TestErrorHasRIIAndRSN(t *testing.T) {
	w := scripted(t)
	w.node(3).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}, ResponseQSPEC: qspec(7),
			Extra: []wire.Object{{Action: wire.Forward, Type: wire.DomainRecords, Value: []byte{0, 0, 0, 3}}}}, q.Kind == Admit
	}
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.Kind != Fail {
			return Verdict{}, false
		}
		o, _ := q.Message.Object(wire.DomainRecords)
		return Verdict{Accept: true, ResponseQSPEC: q.Message.QSPEC,
			Extra: []wire.Object{{Action: wire.Forward, Type: wire.DomainRecords, Value: append([]byte{0, 0, 0, 2}, o.Value...)}}}, true
	}
	w.inject(2, 1, sid(1), withRII(reserveMsg(40, 5, qspec(1)), 9))
	w.run(time.Second)
	m := w.node(2).last(isResponse)
	if m.RII != 9 || (m.RSN != wire.RSN{Number: 40, Epoch: 5}) || string(m.QSPEC) != string(qspec(7)) {
		w.fatal("RII %d RSN %v QSPEC %x", m.RII, m.RSN, m.QSPEC)
	}
	if o, _ := m.Object(wire.DomainRecords); string(o.Value) != "\x00\x00\x00\x02\x00\x00\x00\x03" || len(m.Objects) != 1 {
		w.fatal("objects %v", m.Objects)
	}
	// The repeat is answered in short.
	w.inject(2, 1, sid(1), withRII(reserveMsg(40, 5, qspec(1)), 9))
	w.wantInfo(w.node(2).last(isResponse), wire.ClassQoSModelError, wire.NoSLS)
	if w.node(2).asked[Admit] != 1 {
		w.fatal("asked again")
	}
}

// A RESERVE that GIST could not deliver is an error RESPONSE of this node.
func TestNotSent(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.unreachable[[2]Peer{2, 3}] = true
	w.reserve(sid(1), 20)
	w.run(time.Second)
	r := w.wantResult(sid(1), Rejected)
	if a, _ := r.Info.Source.Addr(); r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.PathTruncated || a.As4()[3] != 2 {
		w.fatal("info %v", r.Info)
	}
	w.wantStand(sid(1), 0)
	for err, want := range map[error]wire.ErrorClass{gist.ErrTooLarge: wire.ClassPermanentFailure, gist.ErrQueueFull: wire.ClassTransientFailure, errors.New("?"): wire.ClassTransientFailure} {
		if i := w.node(1).m.sendFailure(err, false); i.Class != want {
			t.Errorf("%v: %v", err, i)
		}
	}
}

// "the QNE SHOULD send a NOTIFY to its immediate upstream stateful peer and
// indicate 'Path truncated - Next peer dead' in the INFO-SPEC." RFC 5974 §5.4.1.
// When downstream's state must have expired, the session ends.
func TestNextPeerDead(t *testing.T) {
	w := reserved(t, 3)
	w.unreachable[[2]Peer{2, 3}] = true
	w.node(3).down = true
	w.run(50 * time.Second)
	w.wantInfo(w.node(2).last(isNotify), wire.ClassTransientFailure, wire.PathTruncated)
	if w.node(1).notes["notify"] != 1 {
		w.fatal("the initiator was not told")
	}
	if len(w.results[sid(1)]) != 1 {
		w.fatal("ended too early")
	}
	w.run(5 * time.Minute)
	if r := w.wantResult(sid(1), Terminated); r.Info.Code != wire.PathTruncated {
		w.fatal("info %v", r.Info)
	}
	w.node(3).down = false
	w.run(5 * time.Minute)
	w.wantStand(sid(1), 0)
}

// A peer that comes back before that is told all again only if it asks, and the
// session goes on.
func TestNextPeerBack(t *testing.T) {
	w := reserved(t, 3)
	w.unreachable[[2]Peer{2, 3}] = true
	w.run(50 * time.Second)
	clear(w.unreachable)
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 20)
	if n := w.node(2).count(isNotify); n != 1 {
		w.fatal("%d NOTIFYs", n)
	}
}

// The first inter-domain QNE adds a missing RII: it retransmits, and the
// RESPONSE stops there: it "MUST NOT be forwarded further along the path if it contains
// an Informational or Success INFO-SPEC class". An error goes on upstream by RSN. RFC
// 5974 §5.4.3
func TestMissingRII(t *testing.T) {
	w := scripted(t)
	w.loss = 0
	dropped := 0
	w.filter = func(from, _ Peer, m *wire.Message) bool {
		if from == 3 && dropped == 0 {
			dropped++
			return false
		}
		return true
	}
	w.inject(2, 1, sid(1), reserveMsg(0, 5, qspec(1)))
	w.run(10 * time.Second)
	if w.node(2).count(isReserve) != 2 || w.node(2).count(isResponse) != 0 || len(w.node(2).stand) != 1 {
		w.fatal("%d RESERVEs, %d RESPONSEs", w.node(2).count(isReserve), w.node(2).count(isResponse))
	}
	w.node(3).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.NoSLS}}, q.Kind == Admit
	}
	w.inject(2, 1, sid(2), reserveMsg(3, 5, qspec(1)))
	w.run(10 * time.Second)
	m := w.node(2).last(isResponse)
	if m.HasRII || m.RSN.Number != 3 || !m.InfoSpec.IsError() {
		w.fatal("%v RII %v RSN %v", m.InfoSpec, m.HasRII, m.RSN)
	}
}

// Once TEAR is queued the SID is not reserved again; the receiver drops what is
// not newer.
func TestNoReturnAfterTear(t *testing.T) {
	w := reserved(t, 3)
	w.node(1).handle(Terminate{SID: sid(1)})
	w.reserve(sid(1), 5)
	w.run(time.Second)
	w.reserve(sid(1), 5)
	for _, r := range w.results[sid(1)][1:] {
		if r.Kind == Reserved {
			w.fatal("reserved again")
		}
	}
	w.node(1).down = true
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, w.node(1).epoch, qspec(20)), 5))
	w.inject(2, 1, sid(1), reserveMsg(0, w.node(1).epoch, nil))
	w.run(time.Second)
	w.wantStand(sid(1), 0)
	// The peer's next life is something else.
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, w.node(1).epoch+1, qspec(20)), 5))
	w.run(time.Second)
	if len(w.node(3).stand) != 1 {
		w.fatal("a new epoch was not let in")
	}
}

// GIST may drop the routing state when a session is over. RFC 5974 §5.4.1
func TestForget(t *testing.T) {
	m := New(Config{Epoch: 1, Rand: func() uint64 { return 1 << 40 }})
	now := start
	var ticket uint64
	var forgets []gistwire.MRI
	step := func(ev Event) {
		now = now.Add(time.Millisecond)
		for _, a := range m.Handle(now, ev) {
			switch a := a.(type) {
			case Question:
				ticket = a.Ticket
			case Forget:
				forgets = append(forgets, a.MRI)
			}
		}
	}
	recv := func(msg wire.Message, mri gistwire.MRI, from Peer) {
		step(Received{Peer: from, RecvMessage: gist.RecvMessage{NSLPID: 1, SID: sid(1), MRI: mri, SII: gist.SII(from), Data: msg.Append(nil)}})
	}
	recv(withRII(reserveMsg(0, 5, qspec(1)), 9), hop(1), 1)
	step(Verdict{Ticket: ticket, Accept: true, Next: hop(2), NextPeer: 3, QSPEC: qspec(1)})
	recv(wire.Message{Type: wire.Response, HasRII: true, RII: 9, HasInfoSpec: true,
		InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}}, hop(2).Reverse(), 3)
	step(Verdict{Ticket: ticket, Accept: true})
	tear := reserveMsg(1, 5, nil)
	tear.MessageFlags = wire.Tear
	recv(tear, hop(1), 1)
	if len(forgets) != 0 {
		t.Fatal("forgotten before the release")
	}
	step(Verdict{Ticket: ticket, Accept: true})
	if len(forgets) != 2 || forgets[0] != hop(2) || forgets[1] != hop(1).Reverse() {
		t.Fatalf("forgotten: %v", forgets)
	}
}
