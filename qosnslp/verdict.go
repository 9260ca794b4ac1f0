package qosnslp

import (
	"slices"

	"github.com/interqos/interqos/qosnslp/wire"
)

// verdict takes the answer to a question.
func (m *Machine) verdict(v *Verdict) {
	if q := m.asked[v.Ticket]; q != nil {
		m.queryVerdict(q, v)
		return
	}
	if x := m.transits[v.Ticket]; x != nil {
		m.transitVerdict(x, v)
		return
	}
	s := m.tickets[v.Ticket]
	if s == nil {
		m.stats.LateVerdicts++
		return
	}
	delete(m.tickets, v.Ticket)
	t := s.txn
	t.ticket = 0
	switch t.phase {
	case waitAdmit:
		if t.kind == reroute {
			m.rerouteVerdict(s, t, v)
		} else {
			m.admitVerdict(s, t, v)
		}
	case waitCommit:
		if v.Accept {
			m.committed(s, t, v)
		} else {
			m.commitRefused(s, t, v)
		}
	case waitFail:
		m.failed(s, t, v)
	case waitRelease:
		t.needVerdict = false
		m.mayClose(s, v)
	}
}

func (m *Machine) admitVerdict(s *session, t *txn, v *Verdict) {
	t.giveUpAt = 0
	if !v.Accept {
		t.info, t.outcome = m.refusal(t, v.Info), Rejected
		m.refused(s, t, v)
		return
	}
	if v.Last && !t.routed || t.last {
		t.last = true
		if t.hasMsgID && !m.atEndpoint(s, t) {
			return
		}
		m.askCommit(s, t, nil, nil)
		return
	}
	if err := m.usable(s, t, v); err != nil {
		m.note("bad-verdict", s.sid, v.NextPeer, "%v", err)
		m.fail(s, t, nil, nil, m.refusal(t, m.own(wire.ClassPermanentFailure, wire.InternalError)), Rejected)
		return
	}
	if !t.routed {
		t.down = side{mri: v.Next, peer: v.NextPeer, nslpid: v.level(t.up.at(s.nslpid)), stateless: t.stateless}
		t.down.mri.Upstream = t.up.mri.Upstream
	}
	t.orLast = v.OrLast
	t.qspec, t.also = v.QSPEC, t.also.boundTo(v.Bound)
	if v.BoundMsgID != nil {
		id := *v.BoundMsgID
		t.outBound = &id
	}
	if s.hasDown() && (s.down.mri != t.down.mri || s.down.peer != t.down.peer) {
		m.note("route-change", s.sid, t.down.peer, "the next peer was %d", s.down.peer)
	} else {
		m.unpin(s)
	}
	m.sendReserve(s, t)
}

// refusal is how a refusal is told: that of a change is of class 6, for others
// make receivers remove the reservation that still stands.
func (m *Machine) refusal(t *txn, info wire.InfoSpec) wire.InfoSpec {
	if info.Class == 0 || !info.IsError() {
		info = m.own(wire.ClassPermanentFailure, wire.InternalError)
	}
	if info.Source.Type == wire.SourceNone {
		info.Source = m.cfg.ErrorSource
	}
	if (t.kind == modify || t.kind == reroute) && removes(&info) {
		code := wire.IntraDomainFailed
		if info.Class == wire.ClassPermanentFailure && info.Code == wire.AuthorizationFailure {
			code = wire.PolicyRefuses
		}
		info.Class, info.Code = wire.ClassQoSModelError, code
	}
	return info
}

// removes says whether an INFO-SPEC about an installed reservation means that
// it is gone: failures, but not protocol errors nor requests to ask otherwise.
func removes(i *wire.InfoSpec) bool {
	switch i.Class {
	case wire.ClassInformational, wire.ClassSuccess, wire.ClassProtocolError, wire.ClassQoSModelError:
		return false
	case wire.ClassTransientFailure:
		return i.Code != wire.FullQSPECRequired && i.Code != wire.RIIConflict
	}
	return true
}

// askCommit is asked when the success RESPONSE is there, or, at the last node,
// when the RESERVE was admitted.
func (m *Machine) askCommit(s *session, t *txn, r *Received, msg *wire.Message) {
	t.phase = waitCommit
	t.retryAt, t.giveUpAt = 0, 0
	t.resp = msg
	q := Question{RSN: t.rsn, Upstream: t.up.peer, MRI: t.up.mri, Message: msg, Snapshot: m.snapshot(s, t)}
	if !t.last {
		q.Downstream = t.down.peer
	}
	if r != nil {
		q.In = r.RecvMessage
	}
	m.ask(s, Commit, q)
}

// committed installs what the transaction asked for.
func (m *Machine) committed(s *session, t *txn, v *Verdict) {
	m.stats.Committed++
	if t.kind == reroute {
		m.rerouted(s, t, v)
		return
	}
	m.settled(t, true)
	m.gotAll(s)
	old, hadDown, moved := s.branch(), s.hasDown(), false
	if s.state == installed {
		moved = s.up.peer != t.up.peer || s.up.mri != t.up.mri
		m.arrived(s, t)
	}
	m.enter(s, installed)
	s.prior = nil
	if t.up.mri.Upstream {
		m.invited(s, t)
	}
	s.up, s.upRSN, s.upPeriod, s.inSum = t.up, t.upRSN, t.upPeriod, t.inSum
	s.nslpid = t.up.at(s.nslpid)
	m.unbind(s)
	s.down, s.last, s.rsn, s.qspec, s.also, s.keep = t.down, t.last, t.rsn, t.qspec, t.also, t.keep
	m.bind(s)
	m.unpin(s)
	if hadDown {
		m.left(s, old, t)
	}
	if !t.keep {
		m.dropKept(s)
	}
	s.badSince, s.refreshBad = 0, false
	if s.tail = t.last && t.orLast; s.last && !s.tail {
		s.qspec = nil
	} else {
		s.qspec = slices.Clone(t.qspec)
		if v.QSPEC != nil && sendable(v.QSPEC, nil) == nil {
			s.qspec = slices.Clone(v.QSPEC)
		}
	}
	m.setMostPeriod(s, v.SlowRefresh)
	s.alone = 0
	m.nextRefresh(s)
	if !s.initiator {
		s.expireAt = m.after(lifetime(s.upPeriod))
	}
	info := m.own(wire.ClassSuccess, wire.ReservationSuccessful)
	var passed []wire.Object
	if t.resp != nil {
		info, passed = t.resp.InfoSpec, t.resp.Objects
		if moved && info.Class == wire.ClassSuccess && info.Code == wire.RefreshSuccessful {
			// Downstream of here nothing was new, but here it was: upstream must
			// not take its old path for this one. RFC 5974 §5.2.5.2
			info.Code = wire.ReservationSuccessful
		}
	}
	m.tellUp(s, t, Reserved, info, v, passed)
	m.done(s)
	if t.newTorn && m.sessions[s.sid] == s && s.state == installed && s.up.leads(t.up) {
		m.tornMeanwhile(s)
	}
}

// commitRefused: "A refusal becomes an error upstream and a tear downstream";
// of a change, the old QSPEC goes downstream, if it still stands.
func (m *Machine) commitRefused(s *session, t *txn, v *Verdict) {
	if (t.kind == modify || t.kind == reroute) && v.Gone {
		// Not the refusal's own class: upstream would keep what it has.
		m.stats.Refused++
		kept := *v
		m.end(s, ending{reason: Refused, tear: true, tell: true, resp: t.resp, verdict: &kept,
			info: m.own(wire.ClassTransientFailure, wire.ReservationFailure)})
		return
	}
	t.info, t.outcome = m.refusal(t, v.Info), Rejected
	m.tearNew(s, t)
	m.refused(s, t, v)
}

// fail asks for the release of what the transaction holds. r and msg are the
// error RESPONSE, or nil where this node gives up.
func (m *Machine) fail(s *session, t *txn, r *Received, msg *wire.Message, info wire.InfoSpec, outcome ResultKind) {
	t.phase = waitFail
	t.retryAt, t.giveUpAt = 0, 0
	t.resp, t.info, t.outcome = msg, info, outcome
	if msg == nil { // downstream may hold it, or come to
		m.tearNew(s, t)
	}
	q := Question{RSN: t.rsn, Upstream: t.up.peer, MRI: t.up.mri, Message: msg, Downstream: t.down.peer}
	if r != nil {
		q.In = r.RecvMessage
	}
	m.ask(s, Fail, q)
}

func (m *Machine) failed(s *session, t *txn, v *Verdict) {
	if v.Info.Class != 0 && v.Info.IsError() && t.resp == nil {
		t.info = m.refusal(t, v.Info)
	}
	m.refused(s, t, v)
}

// refused ends a transaction that came to nothing: what was asked for is not
// held any more, the error goes upstream.
func (m *Machine) refused(s *session, t *txn, v *Verdict) {
	m.stats.Refused++
	if t.kind == reroute {
		m.rerouteRefused(s, t, v)
		return
	}
	var passed []wire.Object
	if t.resp != nil {
		passed = t.resp.Objects
	}
	m.settled(t, false)
	if !t.discard || s.initiator {
		m.tellUp(s, t, t.outcome, t.info, v, passed)
	}
	if t.oldTorn || t.oldLost {
		m.nothingLeft(s, t)
		return
	}
	if t.kind == modify {
		// Hops that saw the refused RSN get the old QSPEC under a new one.
		s.needSync = t.sent
		m.forgetNew(s, t)
		m.done(s)
		return
	}
	m.ended(s.sid)
	m.forget(s, t.up, t.down, t.sent)
	until := m.after(m.cfg.HoldTimeout)
	if t.sent { // our RSNs go on for as long as downstream may know them
		until = max(until, m.outlives(s))
	}
	m.dropQueue(s)
	if p := s.prior; !t.sent && (t.discard || t.up.peer == Stranger || p != nil && p.hasUp && p.peer != t.up.peer) {
		// Refused to another than the SID's last peer: that one's past counts.
		m.remove(s, p)
		return
	}
	m.remove(s, &tombstone{hasUp: !s.initiator, upRSN: t.upRSN, peer: t.up.peer, rii: t.rii,
		hasAnswer: !t.made, class: t.info.Class, code: t.info.Code, until: until})
}

// tellUp sends the outcome of a creating or changing RESERVE to whoever asked.
func (m *Machine) tellUp(s *session, t *txn, kind ResultKind, info wire.InfoSpec, v *Verdict, passed []wire.Object) {
	extra := v.Extra
	if err := objectsFit(extra); err != nil {
		m.note("bad-verdict", s.sid, t.up.peer, "%v; left out of the RESPONSE", err)
		extra = nil
	}
	objects := passedOn(passed, extra)
	if s.initiator {
		m.do(Result{SID: s.sid, RSN: t.rsn, Kind: kind, Info: info, Response: t.resp, QSPEC: v.ResponseQSPEC, Extra: objects})
		return
	}
	if t.quiet && t.ackReq && !info.IsError() {
		info = m.own(wire.ClassSuccess, wire.Acknowledgement) // RFC 5974 §5.4.1
	} else if t.quiet && (!info.IsError() || kind == TimedOut) {
		// Nobody upstream asked; and "If the timer expires without receiving
		// a RESPONSE … the QNE MUST NOT generate any RESPONSE or NOTIFY
		// message to notify this error". RFC 5974 §5.3.2
		return
	}
	rep := t.replyUp(s)
	rep.info, rep.qspec, rep.objects = info, v.ResponseQSPEC, objects
	data := m.respond(s.nslpid, s.sid, rep)
	if rep.hasRII && (s.state != installed || s.up.peer == t.up.peer) {
		m.remember(s, t.rii, t.upRSN, data)
	}
}
