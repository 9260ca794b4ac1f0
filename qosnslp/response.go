package qosnslp

import (
	"slices"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// response is RFC 5974 §5.4.3.
func (m *Machine) response(r *Received, msg *wire.Message) {
	if q := m.queryOf(r, msg); q != nil {
		m.queryAnswered(q, r, msg)
		return
	}
	s := m.sessions[r.SID]
	if s == nil {
		m.strayResponse(r, msg)
		return
	}
	if r.MRI.Upstream == s.upstreamMRI().Upstream {
		m.note("response-direction", r.SID, r.Peer, "RESPONSE that travels as the RESERVE does")
		return
	}
	t := s.txn
	switch {
	case t != nil && (t.sent || t.needResponse) && t.down.from(r.Peer) && msg.HasRII && t.rii == msg.RII && t.hasRII:
		// "MUST attempt to match it to the outstanding response requests".
		m.matched(s, t, r, msg)
	case msg.HasRSN && msg.RSN.Epoch == m.cfg.Epoch:
		m.responseByRSN(s, r, msg)
	default:
		// Neither RII nor RSN that are ours: it goes no further.
		m.stats.StrayResponses++
		m.note("stray-response", r.SID, r.Peer, "%v", msg.InfoSpec)
	}
}

// matched handles the RESPONSE to the transaction's RESERVE.
func (m *Machine) matched(s *session, t *txn, r *Received, msg *wire.Message) {
	if t.kind == closeIt {
		if t.needResponse {
			t.needResponse = false
			t.resp = msg
			m.mayClose(s, nil)
		}
		return
	}
	if t.phase != waitResponse {
		m.stats.StrayResponses++ // a repeat
		return
	}
	t.down.sii = r.SII
	switch {
	case msg.InfoSpec.Class == wire.ClassInformational:
		m.note("informational", r.SID, r.Peer, "%v", msg.InfoSpec)
		if !t.made {
			m.forwardResponse(s, t, msg)
		}
	case t.kind == probe:
		m.probed(s, t, msg)
	case t.kind == syncing:
		m.synced(s, t, msg)
	case !msg.InfoSpec.IsError():
		m.askCommit(s, t, r, msg)
	case t.kind == modify && removes(&msg.InfoSpec):
		m.end(s, ending{reason: Refused, tear: true, info: msg.InfoSpec, tell: true, resp: msg})
	default:
		m.fail(s, t, r, msg, msg.InfoSpec, Rejected)
	}
}

// forwardResponse passes a RESPONSE on as it came: "it must forward the
// RESPONSE to the next peer". RFC 5974 §5.4.3
func (m *Machine) forwardResponse(s *session, t *txn, msg *wire.Message) []byte {
	rep := t.replyUp(s)
	rep.info, rep.qspec, rep.objects = msg.InfoSpec, msg.QSPEC, passedOn(msg.Objects, nil)
	rep.flags |= msg.Flags & wire.Break
	return m.respond(s.nslpid, s.sid, rep)
}

func (m *Machine) probed(s *session, t *txn, msg *wire.Message) {
	if lost(&msg.InfoSpec) {
		m.end(s, ending{reason: Refused, tear: true, info: msg.InfoSpec, tell: true, resp: msg})
		return
	}
	data := m.forwardResponse(s, t, msg)
	m.remember(s, t.rii, t.upRSN, data)
	m.done(s)
}

// lost says whether an error about an installed reservation that nobody asked
// to change means that it is gone: as removes, and QoS model errors too.
func lost(i *wire.InfoSpec) bool { return removes(i) || i.Class == wire.ClassQoSModelError }

// responseByRSN handles a RESPONSE that names one of our RSNs: "If the match
// succeeds, then the INFO-SPEC MUST be processed". RFC 5974 §5.4.3
func (m *Machine) responseByRSN(s *session, r *Received, msg *wire.Message) {
	t := s.txn
	n := msg.RSN.Number
	switch {
	case t != nil && t.phase == waitResponse && t.sent && t.rsn == n && t.down.from(r.Peer) && t.kind != probe:
		if msg.InfoSpec.IsError() {
			m.matched(s, t, r, msg)
		}
	case s.hasDown() && s.rsn == n && s.down.from(r.Peer):
		s.ack = nil // it lives
		m.aboutRefresh(s, r, msg)
	case m.branchAnswered(s, r, msg):
	default:
		// "If there is no match for RSN, the message SHOULD be silently
		// dropped." RFC 5974 §5.4.3
		m.stats.StrayResponses++
	}
}

// aboutRefresh handles what the downstream peer says of the reservation that
// is installed.
func (m *Machine) aboutRefresh(s *session, r *Received, msg *wire.Message) {
	i := &msg.InfoSpec
	if b := s.batch; b != nil && b.primary == s && i.IsError() {
		// The peer has not looked at the list. RFC 5974 §5.3.6
		if i.Class == wire.ClassProtocolError {
			m.note("no-lists", s.sid, s.down.peer, "%v", *i)
			m.dissolve(b, aloneUntilSync)
			return
		}
		m.dissolve(b, aloneForOneRefresh)
	}
	switch {
	case i.Class == wire.ClassTransientFailure && i.Code == wire.FullQSPECRequired:
		// "The upstream peer SHOULD send a complete RESERVE". RFC 5974 §5.4.1
		m.sync(s)
	case i.Class == wire.ClassInformational && i.Code == wire.NoReducedRefresh:
		// "the QNE MUST continue to use full refresh messages". RFC 5974 §5.4.1
		if s.batch != nil && s.batch.primary == s {
			m.dissolve(s.batch, aloneForOneRefresh)
		}
		s.fullRefresh = true
		m.refresh(s)
	case i.Class == wire.ClassInformational && (i.Code == wire.UnknownListedSession || i.Code == wire.MismatchingRSNInList):
		m.listRefused(r, msg)
	case !i.IsError():
		s.badSince = 0 // "the message MUST NOT be forwarded further"
	case lost(i) && s.leaving():
		// It goes another way already, or ends if it is not had there.
		m.note("old-path-lost", r.SID, r.Peer, "%v", *i)
		s.txn.oldLost = true
	case lost(i):
		m.note("lost", r.SID, r.Peer, "%v", *i)
		m.end(s, ending{reason: Refused, tear: true, info: *i, tell: true, resp: msg})
	default:
		// "the node MUST use the stored upstream peer RSN value … and
		// forward the RESPONSE message". RFC 5974 §5.4.3
		m.note("error-response", r.SID, r.Peer, "%v", *i)
		if !s.initiator {
			m.respond(s.nslpid, s.sid, reply{to: s.up.byState(), rsn: s.upRSN, hasRSN: true, info: *i,
				qspec: msg.QSPEC, objects: passedOn(msg.Objects, nil), flags: s.flags() | msg.Flags&wire.Break, bound: s.also.bindings()})
		}
	}
}

// maxLateTears bounds how often one past session answers late RESPONSEs.
const maxLateTears = 3

// strayResponse handles a RESPONSE for a session that is not there. If it says
// that downstream holds something that this node does not stand for any more
// (after a restart, or a time-out), downstream is told.
func (m *Machine) strayResponse(r *Received, msg *wire.Message) {
	m.stats.StrayResponses++
	t := m.tombs[r.SID]
	if r.Peer == Stranger || msg.InfoSpec.Class != wire.ClassSuccess || msg.InfoSpec.Code != wire.ReservationSuccessful || !msg.HasRII || t != nil && t.tears >= maxLateTears {
		return
	}
	m.note("orphan", r.SID, r.Peer, "a reservation was made downstream that nobody here holds: torn")
	s := &session{sid: r.SID, nslpid: r.NSLPID}
	dead := tombstone{sid: r.SID}
	if t != nil {
		s.nextRSN, dead = t.nextRSN, *t
		dead.heapPos = 0
	}
	down := side{mri: r.MRI.Reverse(), peer: r.Peer}
	m.sendTear(s, down.byState(), nil, 0, false)
	m.do(Forget{gist.SetStateLifetime{NSLPID: s.nslpid, SID: s.sid, MRI: down.mri}})
	dead.nextRSN = s.nextRSN
	dead.tears++
	// If the TEAR is lost, the peer has it for a lifetime from about now: as
	// long our RSNs must not start anew.
	dead.until = max(dead.until, m.outlives(s))
	m.entomb(&dead)
}

// status handles GIST's word that a message could not be sent or, where that was
// to be told, that it was.
func (m *Machine) status(st *gistStatus) {
	s := m.sessions[st.SID]
	if st.Err == nil {
		if s != nil && s.handle == st.Handle {
			m.refreshSent(s)
		}
		return
	}
	if m.queryNotSent(st) {
		return
	}
	if s == nil || st.Handle == 0 {
		m.note("not-sent", st.SID, Local, "%v", st.Err)
		return
	}
	t := s.txn
	switch {
	case t != nil && t.handle == st.Handle:
		m.note("not-sent", s.sid, t.down.peer, "%v", st.Err)
		m.notSent(s, t, st.Err)
	case s.move != nil && s.move.tearing == st.Handle:
		m.tearNotSent(s, st.Err)
	case s.handle == st.Handle:
		if b := s.batch; b != nil && b.primary == s && b.handle == st.Handle {
			for _, s := range slices.Clone(b.members) {
				s.refreshBad = true
				m.doubted(s)
				m.unreachable(s, st.Err)
			}
			break
		}
		s.refreshBad = true
		m.doubted(s)
		m.unreachable(s, st.Err)
	default:
		m.note("not-sent", s.sid, s.down.peer, "%v", st.Err)
	}
}

// notSent ends a transaction whose message GIST could not deliver.
func (m *Machine) notSent(s *session, t *txn, err error) {
	switch {
	case t.kind == closeIt:
		m.gaveUp(s, t)
	case t.phase != waitResponse:
	case m.nobody(s, t, err):
	case t.kind == syncing:
		m.synced(s, t, nil)
		m.unreachable(s, err)
	case t.kind == probe:
		m.done(s)
		m.unreachable(s, err)
	default:
		m.fail(s, t, nil, nil, m.refusal(t, m.sendFailure(err, t.down.mri.Upstream)), Rejected)
	}
}

// gaveUp handles a transaction whose time is over.
func (m *Machine) gaveUp(s *session, t *txn) {
	switch {
	case t.kind == closeIt:
		if t.needResponse {
			m.note("tear-unconfirmed", s.sid, t.down.peer, "no RESPONSE to the TEAR; what is held downstream expires by itself")
			t.needResponse, t.unconfirmed = false, true
		}
		m.mayClose(s, nil)
	case t.kind == syncing:
		m.synced(s, t, nil)
	case t.kind == probe:
		m.done(s)
	case t.phase == waitBound:
		m.note("unbound", s.sid, t.up.peer, "no message with the BOUND-MSG-ID that its RESERVE waits for")
		m.unhold(s, t)
		t.discard = true // "in order to discard the message". RFC 5974 §4.6
		m.fail(s, t, nil, nil, m.refusal(t, m.own(wire.ClassTransientFailure, wire.SyncMismatch)), TimedOut)
	case t.phase == waitAdmit && t.kind == create:
		m.note("admit-late", s.sid, t.up.peer, "no verdict in %v", m.cfg.HoldTimeout)
		m.end(s, ending{reason: Lost, info: m.own(wire.ClassTransientFailure, wire.ReservationFailure), tell: true, outcome: TimedOut})
	default:
		m.note("no-response", s.sid, t.down.peer, "RSN %d", t.rsn)
		m.fail(s, t, nil, nil, m.refusal(t, m.own(wire.ClassTransientFailure, wire.PathTruncated)), TimedOut)
	}
}
