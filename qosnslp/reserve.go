package qosnslp

import (
	"errors"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

func (m *Machine) received(r *Received) {
	m.stats.Received++
	if r.Peer == Local {
		m.note("no-peer", r.SID, r.Peer, "a message from nobody in particular was dropped")
		return
	}
	if m.cfg.Stateless {
		m.interior(r)
		return
	}
	var err error
	m.scratch, err = wire.Parse(r.Data)
	r.Data = nil
	msg := &m.scratch
	if msg.Type != wire.Reserve || msg.QSPEC != nil {
		// Questions and results point to it. A reduced refresh is not kept.
		kept := m.scratch
		msg = &kept
	}
	if err != nil {
		m.malformed(r, msg, err)
		return
	}
	if e := disagrees(&r.MRI, msg); e != nil {
		m.malformed(r, msg, e)
		return
	}
	m.monitor(r, msg)
	if s := m.sessions[r.SID]; s != nil && !s.expects(r, msg) {
		m.note("other-nslpid", r.SID, r.Peer, "NSLPID %d, the session has %d upstream", r.NSLPID, s.nslpid)
		return
	}
	if !m.admits(r, msg) {
		return
	}
	switch msg.Type {
	case wire.Reserve:
		m.reserve(r, msg)
	case wire.Query:
		m.queried(r, msg)
	case wire.Response:
		m.response(r, msg)
	case wire.Notify:
		m.notify(r, msg)
	}
}

// malformed tells an authenticated sender of a RESERVE or QUERY what is wrong
// with it; other messages, and tears, are never answered by an error.
// RFC 5974 §5.4, §5.2.3
func (m *Machine) malformed(r *Received, msg *wire.Message, err error) {
	m.stats.Malformed++
	m.note("malformed", r.SID, r.Peer, "%v", err)
	var pe *wire.ParseError
	if !errors.As(err, &pe) || r.Peer == Stranger || msg.Tears() || msg.Type == wire.Response || msg.Type == wire.Notify || msg.Type == 0 {
		return
	}
	m.respondTo(r, msg, pe.InfoSpec(m.cfg.ErrorSource))
}

// reserve is RFC 5974 §5.4.1.
func (m *Machine) reserve(r *Received, msg *wire.Message) {
	s := m.sessions[r.SID]
	if s != nil && m.fromFormer(s, r, msg) {
		return
	}
	if !m.reserveFits(s, r, msg) {
		return
	}
	if msg.HasBoundMsgID && msg.QSPEC != nil && !msg.Tears() && !m.synchronized(r, msg) {
		return
	}
	switch {
	case s == nil:
		m.reserveUnknown(r, msg)
	case msg.Tears():
		m.tear(s, r, msg)
	case s.state == closing:
		// "the QNE MUST silently drop the message". RFC 5974 §5.4.1
		m.note("closing", r.SID, r.Peer, "RESERVE for a session that is being torn down")
	case s.txn.upstream() && s.txn.up.peer == r.Peer && s.txn.upRSN == msg.RSN:
		m.repeated(s, r, msg)
	case s.state == creating:
		m.reserveWhileCreating(s, r, msg)
	case s.up.peer == r.Peer && s.up.mri == r.MRI && s.nslpid == r.NSLPID && s.upRSN.Epoch == msg.RSN.Epoch:
		// RFC 5974 §5.3.1
		switch wire.CompareSerial(msg.RSN.Number, s.upRSN.Number) {
		case wire.Same:
			if msg.QSPEC != nil && s.inSum != sumQSPEC(msg.QSPEC) {
				// The peer has forgotten the session and counts anew, or was
				// told to ask for exactly what it got: no mere refresh.
				m.changed(s, r, msg)
				break
			}
			if msg.QSPEC == nil && s.move.wanted() {
				m.live(s, r, msg)
				m.changed(s, r, msg)
				break
			}
			m.refreshed(s, r, msg)
		case wire.Newer:
			m.changed(s, r, msg)
		default:
			m.stats.OutOfOrder++
			m.note("old-rsn", r.SID, r.Peer, "RSN %d, have %d", msg.RSN.Number, s.upRSN.Number)
		}
	default:
		// Another epoch: "MUST be treated as an updated reservation".
		// RFC 5974 §5.3.1. Another peer or MRI: likewise (§5.4.1).
		m.changed(s, r, msg)
	}
}

// reserveFits refuses what cannot be for this node.
func (m *Machine) reserveFits(s *session, r *Received, msg *wire.Message) bool {
	refuse := func(class wire.ErrorClass, code uint8, why string) bool {
		m.note("reserve-refused", r.SID, r.Peer, "%s", why)
		if !msg.Tears() { // RFC 5974 §5.3.5
			m.respondTo(r, msg, m.own(class, code))
		}
		return false
	}
	switch {
	case r.MRI.Upstream && msg.Flags&wire.Proxy == 0 && !m.followsQuery(s, r) && !msg.Tears():
		return refuse(wire.ClassTransientFailure, wire.NoPathState, "a receiver-initiated RESERVE where no QUERY has made a path")
	case s != nil && r.MRI.Upstream != s.upstreamMRI().Upstream, s != nil && !s.last && s.down.peer == r.Peer && s.up.peer != r.Peer && s.state == installed:
		// "an error indicating 'RESERVE received from wrong direction'
		// MUST be sent". RFC 5974 §5.1.2.1
		return refuse(wire.ClassProtocolError, wire.WrongDirection, "RESERVE from the wrong direction")
	case s != nil && r.Peer == Stranger && s.upstreamPeer() != Stranger:
		return refuse(wire.ClassPermanentFailure, wire.AuthorizationFailure, "a stranger's RESERVE for a session of others")
	case s != nil && s.initiator:
		m.note("loop", r.SID, r.Peer, "RESERVE for a session that starts here")
		return false
	case len(msg.BoundSessions) > maxBound:
		return refuse(wire.ClassTransientFailure, wire.ReservationFailure, "too many BOUND-SESSION-IDs")
	}
	return true
}

// reserveUnknown handles a RESERVE for a session that is not there.
func (m *Machine) reserveUnknown(r *Received, msg *wire.Message) {
	if t := m.tombs[r.SID]; t != nil && m.reserveBuried(t, r, msg) {
		return
	}
	switch {
	case msg.Tears():
		m.note("tear-unknown", r.SID, r.Peer, "TEAR for a session that is not here")
		if r.Peer == Stranger {
			return
		}
		m.tearUnknown(r, msg)
		if msg.HasRII { // what it wants is so
			m.respondTo(r, msg, m.own(wire.ClassSuccess, wire.TeardownSuccessful))
		}
		if m.paths[r.SID] == nil && len(m.queries[r.SID]) == 0 {
			// Both have ended it at once, and the TEAR has made the state anew.
			m.do(Forget{gist.SetStateLifetime{NSLPID: r.NSLPID, SID: r.SID, MRI: r.MRI.Reverse()}})
		}
	case msg.QSPEC == nil:
		// "the node MUST send a RESPONSE message with an INFO-SPEC that
		// indicates a missing QSPEC". RFC 5974 §5.4.1
		m.stats.FullQSPEC++
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
	case len(m.sessions) >= m.cfg.MaxSessions, len(m.tickets) >= m.cfg.MaxQuestions:
		m.note("no-room", r.SID, r.Peer, "%d sessions, %d open questions", len(m.sessions), len(m.tickets))
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.ReservationFailure))
	default:
		m.startReserve(m.newSession(r.SID, r.NSLPID), create, r, msg)
	}
}

// tearUnknown remembers a TEAR, so that a RESERVE which it has overtaken comes
// too late.
func (m *Machine) tearUnknown(r *Received, msg *wire.Message) {
	t := tombstone{sid: r.SID}
	if old := m.tombs[r.SID]; old != nil {
		if old.hasUp && old.peer != r.Peer {
			return
		}
		t = *old
		t.heapPos = 0
	}
	t.hasUp, t.hasAnswer, t.torn, t.upRSN, t.peer = true, false, true, msg.RSN, r.Peer
	t.until = max(t.until, m.after(lifetime(wire.DefaultRefreshPeriod)))
	m.entomb(&t)
}

// reserveBuried handles a RESERVE for a session that is over; false: treat it
// as new.
func (m *Machine) reserveBuried(t *tombstone, r *Received, msg *wire.Message) bool {
	if !t.hasUp || t.upRSN.Epoch != msg.RSN.Epoch || t.peer != r.Peer {
		return false
	}
	order := wire.CompareSerial(msg.RSN.Number, t.upRSN.Number)
	switch {
	case order == wire.Newer:
		return false
	case order == wire.Same && t.hasAnswer && msg.HasRII && msg.RII == t.rii:
		m.stats.Repeated++
		m.respondTo(r, msg, m.own(t.class, t.code))
	case msg.Tears() && order == wire.Same:
		return false
	case order == wire.Same && msg.QSPEC == nil && !t.torn:
		// The peer goes on refreshing: it does not know that the session
		// ended here. RFC 5974 §5.4.1
		m.stats.FullQSPEC++
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
	default:
		m.stats.OutOfOrder++
		m.note("buried", r.SID, r.Peer, "RSN %d of a session that ended with %d", msg.RSN.Number, t.upRSN.Number)
	}
	return true
}

// repeated handles the RESERVE under way when it comes again: it is forwarded
// again, or its answer is on the way.
func (m *Machine) repeated(s *session, r *Received, msg *wire.Message) {
	t := s.txn
	if msg.QSPEC == nil {
		m.note("early-refresh", r.SID, r.Peer, "reduced refresh of RSN %d, which has no answer yet", msg.RSN.Number)
		return
	}
	m.stats.Repeated++
	t.up.sii = sourceOf(r)
	if t.phase == waitBound {
		t.giveUpAt = max(t.giveUpAt, m.after(m.cfg.RequestRetry)) // RFC 5974 §4.6
	}
	if t.phase == waitResponse && !t.made && msg.HasRII && msg.RII == t.rii {
		m.sendAgain(s, t)
	}
}

// reserveWhileCreating handles any other RESERVE than the one that is being
// worked on.
func (m *Machine) reserveWhileCreating(s *session, r *Received, msg *wire.Message) {
	t := s.txn
	if t.up.peer == r.Peer && t.upRSN.Epoch == msg.RSN.Epoch && wire.CompareSerial(msg.RSN.Number, t.upRSN.Number) != wire.Newer {
		m.stats.OutOfOrder++
		m.note("old-rsn", r.SID, r.Peer, "RSN %d, have %d", msg.RSN.Number, t.upRSN.Number)
		return
	}
	if msg.QSPEC == nil {
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
		return
	}
	m.enqueueReceived(s, r, msg)
}

// refreshed handles a RESERVE with the RSN that is installed: "the current
// state MUST be refreshed". RFC 5974 §5.3.1
func (m *Machine) refreshed(s *session, r *Received, msg *wire.Message) {
	if msg.MessageFlags&wire.Replace != 0 && msg.QSPEC == nil && s.up.sii != 0 && s.up.sii != r.SII {
		// The path has changed: the QSPEC is needed. RFC 5974 §5.4.1
		m.stats.FullQSPEC++
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
		return
	}
	m.stats.Refreshed++
	m.live(s, r, msg)
	if msg.SessionIDs != nil && r.Peer != Stranger {
		m.summary(r, msg)
	}
	switch {
	case msg.HasRII:
		m.refreshWithRII(s, r, msg)
	case msg.Flags&wire.Scoping != 0:
		m.respondTo(r, msg, m.own(wire.ClassSuccess, wire.RefreshSuccessful)) // RFC 5974 §5.4.3
	default:
		m.acknowledges(r, msg)
	}
}

// live starts the session's lifetime anew. RFC 5974 §5.3.4. BREAK may have come since
// the last one: "newly generated messages" have it, too (RFC 5974 §5.4.1).
func (m *Machine) live(s *session, r *Received, msg *wire.Message) {
	if msg.Flags&wire.Break != 0 {
		s.breaks()
	}
	s.up.sii, s.up.stateless = sourceOf(r), r.Attr.Stateless
	m.lives(s, periodOf(msg))
}

func (m *Machine) lives(s *session, period uint32) {
	s.upPeriod = period
	s.expireAt = m.after(lifetime(period))
	if s.answer != nil && s.answer.until <= m.now {
		s.answer = nil
	}
	m.arm(s)
}

func periodOf(msg *wire.Message) uint32 {
	if msg.HasRefreshPeriod {
		return msg.RefreshPeriod
	}
	return wire.DefaultRefreshPeriod
}

// refreshWithRII answers a refresh that wants a RESPONSE: a repeat from the
// state, another at the path's end or at the next hop if scoped; otherwise it
// goes on along the path. RFC 5974 §5.1.2.1, §5.3.2
func (m *Machine) refreshWithRII(s *session, r *Received, msg *wire.Message) {
	if a := s.answer; a != nil && a.rii == msg.RII && a.rsn == msg.RSN {
		m.stats.Repeated++
		to := s.up.byState()
		to.mri = to.mri.Reverse()
		m.sendBack(a.data, s.nslpid, s.sid, to, s.also.bindings())
		return
	}
	if s.last || msg.Flags&wire.Scoping != 0 {
		m.respondOK(s, msg, wire.RefreshSuccessful)
		return
	}
	if s.txn != nil {
		if s.txn.kind == probe && s.txn.rii == msg.RII {
			m.sendAgain(s, s.txn)
		}
		return // it is asked again, if it matters
	}
	t := &txn{kind: probe, rii: msg.RII, hasRII: true, rsn: s.rsn, upRSN: msg.RSN,
		up: s.up, down: s.down, qspec: s.qspec, also: s.also, forward: forwardOf(msg)}
	s.txn = t
	m.sendReserve(s, t)
}

// respondOK answers a RESERVE of the current peer, and remembers the answer.
func (m *Machine) respondOK(s *session, msg *wire.Message, code uint8) {
	rep := reply{to: s.up.byState(), rii: msg.RII, hasRII: true, info: m.own(wire.ClassSuccess, code), flags: s.flags()}
	if s.also != nil {
		rep.bound = s.also.bound
	}
	data := m.respond(s.nslpid, s.sid, rep)
	m.remember(s, msg.RII, msg.RSN, data)
}

// remember keeps a RESPONSE for repeats of its request.
func (m *Machine) remember(s *session, rii uint32, rsn wire.RSN, data []byte) {
	s.answer = &answer{rii: rii, rsn: rsn, until: m.after(m.cfg.HoldTimeout), data: data}
}

// changed handles a RESERVE that raises the RSN, or comes from a peer that is
// not the one of the last.
func (m *Machine) changed(s *session, r *Received, msg *wire.Message) {
	switch {
	case msg.QSPEC == nil:
		// "the QNE SHOULD send upstream a transient error message 'Full
		// QSPEC required'". RFC 5974 §5.3.1
		m.stats.FullQSPEC++
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
	case m.answeredBefore(s, r, msg):
	case m.unchanged(s, r, msg):
	case s.txn != nil && s.txn.kind == probe:
		m.closeTicket(s)
		s.txn = nil // the change finds out as well
		m.startReserve(s, modify, r, msg)
	case s.txn != nil:
		m.enqueueReceived(s, r, msg)
	case len(m.tickets) >= m.cfg.MaxQuestions:
		m.note("no-room", r.SID, r.Peer, "%d open questions", len(m.tickets))
	default:
		m.startReserve(s, modify, r, msg)
	}
}

// answeredBefore repeats the answer to a change that was refused a moment ago.
func (m *Machine) answeredBefore(s *session, r *Received, msg *wire.Message) bool {
	a := s.answer
	if a == nil || !msg.HasRII || a.rii != msg.RII || a.rsn != msg.RSN {
		return false
	}
	m.stats.Repeated++
	m.sendBack(a.data, s.nslpid, s.sid, side{mri: r.MRI.Reverse(), peer: r.Peer, stateless: r.Attr.Stateless}, s.also.bindings())
	return true
}

// unchanged takes a RESERVE with a new RSN, or from a peer with a new epoch,
// whose QSPEC is the one that is installed: there is no resource to set up, so
// nothing is asked and nothing sent on ("The QNE MUST create a new RESERVE …
// when a new resource setup was done", RFC 5974 §5.4.1). The answer is the one
// of §5.2.5.2 for a path that is the same.
func (m *Machine) unchanged(s *session, r *Received, msg *wire.Message) bool {
	if m.paths[s.sid] != nil {
		// "The QNE MUST create a new RESERVE … If the RESERVE-INIT flag is
		// included in an arrived QUERY." RFC 5974 §5.4.1
		return false
	}
	if s.up.peer != r.Peer || s.up.mri != r.MRI || s.nslpid != r.NSLPID || s.txn.upstream() || s.inSum != sumQSPEC(msg.QSPEC) {
		return false
	}
	s.upRSN = msg.RSN
	m.gotAll(s)
	m.live(s, r, msg)
	if msg.HasRII {
		m.respondOK(s, msg, wire.RefreshSuccessful)
	}
	m.acknowledges(r, msg)
	return true
}

// startReserve begins to create or change a reservation: "a QNE MUST determine
// whether the request is authorized" first. RFC 5974 §5.4.1
func (m *Machine) startReserve(s *session, kind txnKind, r *Received, msg *wire.Message) {
	t := &txn{kind: kind, phase: waitAdmit, rii: msg.RII, hasRII: true,
		upRSN: msg.RSN, upPeriod: periodOf(msg), inSum: sumQSPEC(msg.QSPEC),
		keep: msg.MessageFlags&wire.Replace == 0, move: s.moveOf(r),
		up: side{mri: r.MRI, sii: sourceOf(r), peer: r.Peer, nslpid: r.NSLPID, stateless: r.Attr.Stateless}, in: r.RecvMessage,
		also: alsoOf(msg), forward: forwardOf(msg), proxied: m.proxies(msg)}
	t.last = t.last || t.proxied
	t.ackReq = msg.Flags&wire.AckReq != 0 && !msg.HasRII
	if kind == create {
		t.rsn = s.takeRSN()
	} else {
		t.rsn = s.takeRSNAfterGap()
	}
	if !msg.HasRII { // the first inter-domain QNE adds a missing one
		t.made, t.quiet, t.rii = true, true, m.newRII()
	}
	t.answersScoped(msg)
	t.hasMsgID, t.msgID = msg.HasMsgID, msg.MsgID
	t.hasBoundMsg, t.boundMsg = msg.HasBoundMsgID, msg.BoundMsgID.ID
	m.route(s, t)
	s.txn = t
	m.askAdmit(s, t, msg)
	if t.hasBoundMsg {
		m.boundUnderWay(t)
	}
}

// askAdmit: "the complete QSPEC is passed to the Resource Management Function (RMF),
// along with other information from the message". RFC 5974 §5.3.8
func (m *Machine) askAdmit(s *session, t *txn, msg *wire.Message) {
	t.giveUpAt = m.after(m.cfg.HoldTimeout)
	q := Question{RSN: t.rsn, Upstream: t.up.peer, MRI: t.up.mri, In: t.in, Message: msg, Bound: m.bindings(msg), Proxy: t.proxied, Scoped: t.scoped, Move: t.move, Keep: t.keep}
	if t.routed && !t.last {
		q.Downstream, q.DownstreamMRI = t.down.peer, t.down.mri
	}
	m.ask(s, Admit, q)
	m.arm(s)
}
