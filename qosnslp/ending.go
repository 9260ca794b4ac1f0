package qosnslp

import (
	"slices"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"

	"github.com/interqos/interqos/gist"
)

// ending says how a session ends.
type ending struct {
	reason ReleaseReason
	tear   bool // tell downstream

	rii    uint32 // of the TEAR
	hasRII bool
	made   bool // by Terminate

	tell    bool          // tell upstream:
	info    wire.InfoSpec // what
	resp    *wire.Message // the RESPONSE that ended it, or nil
	outcome ResultKind    // what the initiator is told; 0: Terminated
	verdict *Verdict      // what goes with it, or nil: the one on Release
}

// tear handles a tearing RESERVE. RFC 5974 §5.4.1
func (m *Machine) tear(s *session, r *Received, msg *wire.Message) {
	t := s.txn
	up, rsn := s.up, s.upRSN
	if s.state == creating {
		up, rsn = t.up, t.upRSN
	} else if t.upstream() && t.up.peer == up.peer && t.upRSN.Epoch == rsn.Epoch {
		rsn = t.upRSN
	}
	// After a restart of the peer, its RESERVE under way has its new SII.
	next := t.upstream() && t.up.peer == up.peer && t.up.sii == r.SII
	if s.state == installed && t.upstream() && !t.up.leads(s.up) && m.tearWhileMoving(s, t, r, msg) {
		return
	}
	if r.Peer != up.peer || up.sii != 0 && up.sii != r.SII && !next {
		// "a RESERVE message that has the TEAR flag set and that does not
		// come from the current peer QNE (identified by its SII) MUST be
		// ignored and MUST NOT be forwarded". RFC 5974 §5.4.1
		m.note("tear-not-current", r.SID, r.Peer, "the current upstream peer is %d", up.peer)
		return
	}
	if o := wire.CompareSerial(msg.RSN.Number, rsn.Number); rsn.Epoch == msg.RSN.Epoch && (o == wire.Older || o == wire.Incomparable) {
		m.stats.OutOfOrder++
		m.note("old-rsn", r.SID, r.Peer, "TEAR with RSN %d, have %d", msg.RSN.Number, rsn.Number)
		return
	}
	if msg.SessionIDs != nil && r.Peer != Stranger {
		m.summaryTear(r, msg)
	}
	if s.state == installed && r.MRI == s.up.mri && m.mayFallBack(s) && m.fallBack(s) {
		return
	}
	if s.state == closing {
		// "the QNE SHOULD accept the message … as if all is well":
		// downstream has been told already. RFC 5974 §5.4.1
		if msg.HasRII && !t.made {
			t.rii, t.hasRII, t.upRSN = msg.RII, true, msg.RSN
			s.upRSN = msg.RSN
		}
		return
	}
	m.end(s, ending{reason: Torn, tear: true, rii: msg.RII, hasRII: msg.HasRII})
	s.upRSN = msg.RSN
	s.txn.upRSN = msg.RSN
}

// abandon ends a session that the layer above can no longer serve: "an event
// happens that causes a transient error" (RFC 5974 §5.3.5).
func (m *Machine) abandon(e *Abandon) {
	s := m.sessions[e.SID]
	if s == nil || s.state == closing {
		return
	}
	info := m.lostInfo(e.Info)
	info.Source = m.cfg.ErrorSource
	m.end(s, ending{reason: Lost, tear: true, tell: true, info: info})
}

// end begins to close a session, whatever is under way in it: release here,
// TEAR downstream, and an answer upstream once both are done.
func (m *Machine) end(s *session, e ending) {
	old := s.txn
	m.closeTicket(s)
	if old.upstream() {
		m.unhold(s, old)
		m.settled(old, false)
	}
	t := &txn{kind: closeIt, phase: waitRelease, needVerdict: true, reason: e.reason, made: e.made,
		rii: e.rii, hasRII: e.hasRII, rsn: s.rsn, upRSN: s.upRSN, up: s.up, down: s.down, also: s.also,
		info: e.info, resp: e.resp, tellUp: e.tell, outcome: e.outcome, verdict: e.verdict}
	told := s.hasDown() || old != nil && old.extend && old.sent
	if s.state == creating && old != nil {
		t.rsn, t.upRSN, t.up, t.down, t.also = old.rsn, old.upRSN, old.up, old.down, old.also
		told = old.sent && !old.last
		s.qspec = old.qspec
	}
	if e.tell && old != nil && (old.upstream() || old.kind == probe) && !old.made {
		t.rii, t.hasRII = old.rii, true // the error answers that RESERVE
		t.upRSN = old.upRSN
	}
	if e.tell && old != nil && old.quiet && e.outcome == TimedOut {
		t.tellUp = s.initiator
	}
	if old != nil && old.kind != create {
		m.tearNew(s, old)
	}
	listed, to := s.batch != nil, s.current()
	if s.state == creating {
		to = t.down.byState()
	}
	m.delist(s) // "MUST NOT send refresh messages anymore". RFC 5974 §5.1.2.1
	s.txn = t
	s.up, s.upRSN, s.down, s.last = t.up, t.upRSN, t.down, !told
	m.enter(s, closing)
	m.ended(s.sid)
	s.expireAt, s.refreshAt, s.needSync, s.answer, s.handle = 0, 0, false, nil, 0
	s.tail = false
	s.ack = nil
	m.dropQueue(s)
	m.tearBranches(s)
	m.dropFormers(s)
	if told && e.tear {
		t.torn, t.sent = true, true
		if s.resync {
			// Since our restart the peer has not heard of us: to its GIST we
			// are somebody else, whose TEAR "MUST be ignored" (RFC 5974
			// §5.4.1). The RESERVE makes us its current peer again.
			m.sendAll(s)
		}
		if listed && !e.hasRII {
			m.tearLater(s)
		} else {
			t.handle = m.sendTear(s, to, t.also, e.rii, e.hasRII)
		}
		if e.hasRII {
			// A tear is not retransmitted (RFC 5974 §5.2.4); the state is
			// "kept for one refresh interval" at most (§5.4.1).
			t.needResponse = true
			t.giveUpAt = m.after(m.cfg.RetryMax)
			if !e.made {
				t.giveUpAt = m.after(min(m.cfg.RetryMax, m.cfg.RefreshPeriod))
			}
		}
	}
	q := Question{RSN: t.rsn, Upstream: s.up.peer, MRI: s.up.mri, Reason: e.reason}
	if told {
		q.Downstream = s.down.peer
	}
	m.ask(s, Release, q)
	m.arm(s)
}

// mayClose removes a session when its release is done here and, if it was to be
// confirmed, downstream. v is the verdict that said so, or nil.
func (m *Machine) mayClose(s *session, v *Verdict) {
	t := s.txn
	if v != nil && t.verdict == nil {
		kept := *v
		t.verdict = &kept
	}
	if t.needVerdict || t.needResponse {
		return
	}
	info := m.own(wire.ClassSuccess, wire.TeardownSuccessful)
	switch {
	case t.tellUp:
		info = t.info
		kind := t.outcome
		if kind == 0 {
			kind = Terminated
		}
		var passed []wire.Object
		if t.resp != nil {
			passed = t.resp.Objects
		}
		t.tellLost(m, s, kind, passed)
	case t.made:
		if t.resp != nil {
			info = t.resp.InfoSpec
		}
		m.do(Result{SID: s.sid, RSN: t.rsn, Kind: Released, Info: info, Response: t.resp})
	case t.hasRII && !t.unconfirmed:
		// "an error situation SHOULD NOT trigger the generation of a
		// RESPONSE message" where TEAR is set: without a confirmation from
		// downstream none goes upstream. RFC 5974 §5.3.5
		rep := reply{to: s.up.byState(), rii: t.rii, hasRII: true, info: info}
		if t.also != nil {
			rep.flags, rep.bound = t.also.flags, t.also.bound
		}
		m.respond(s.nslpid, s.sid, rep)
	}
	m.forget(s, s.up, s.down, !s.last)
	until := m.outlives(s)
	if !s.initiator {
		until = max(until, m.after(lifetime(s.upPeriod)))
	}
	if s.up.peer == Stranger {
		m.remove(s, s.prior)
		return
	}
	m.remove(s, &tombstone{hasUp: !s.initiator, upRSN: s.upRSN, peer: s.up.peer, rii: t.rii,
		hasAnswer: t.hasRII && !t.made && !t.unconfirmed, class: info.Class, code: info.Code,
		torn: t.reason == Torn, until: until})
}

// tellLost tells upstream, or the application, that the session is gone.
func (t *txn) tellLost(m *Machine, s *session, kind ResultKind, passed []wire.Object) {
	v := t.verdict
	if v == nil {
		v = &Verdict{}
	}
	extra := v.Extra
	if objectsFit(extra) != nil {
		extra = nil
	}
	objects := passedOn(passed, extra)
	if s.initiator {
		m.do(Result{SID: s.sid, RSN: t.rsn, Kind: kind, Info: t.info, Response: t.resp, QSPEC: v.ResponseQSPEC, Extra: objects})
		return
	}
	rep := t.replyUp(s)
	rep.hasRII = t.hasRII
	rep.info, rep.qspec, rep.objects = t.info, v.ResponseQSPEC, objects
	m.respond(s.nslpid, s.sid, rep)
}

// forget tells GIST that routing state is no longer required: "It MAY signal
// to GIST". RFC 5974 §5.4.1
func (m *Machine) forget(s *session, up, down side, told bool) {
	state := func(d side, mri gistwire.MRI) {
		m.do(Forget{gist.SetStateLifetime{NSLPID: d.at(s.nslpid), SID: s.sid, MRI: mri}})
	}
	if told {
		state(down, down.mri)
	}
	if !s.initiator {
		state(up, up.mri.Reverse())
	}
}

func objectsFit(objects []wire.Object) error {
	return sendable([]byte{0, 0, 0, 0}, slices.Clip(objects))
}
