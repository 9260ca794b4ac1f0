package qosnslp

import (
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// initiate is what a QNI does (RFC 5974 §4.1).
func (m *Machine) initiate(ev *Initiate) {
	reject := func(code uint8, class wire.ErrorClass, why string) {
		m.note("initiate-refused", ev.SID, Local, "%s", why)
		m.do(Result{SID: ev.SID, Kind: Rejected, Info: m.own(class, code)})
	}
	if ev.MsgID != nil && ev.BoundMsgID != nil {
		// "Only one MSG-ID or BOUND-MSG-ID object per message is allowed."
		// RFC 5974 §4.6
		reject(wire.InternalError, wire.ClassPermanentFailure, "MSG-ID and BOUND-MSG-ID in one message")
		return
	}
	if len(ev.Bound) > maxBound {
		reject(wire.ReservationFailure, wire.ClassTransientFailure, "too many BOUND-SESSION-IDs")
		return
	}
	if err := sendable(ev.QSPEC, ev.Extra); err != nil {
		reject(wire.InternalError, wire.ClassPermanentFailure, err.Error())
		return
	}
	s := m.sessions[ev.SID]
	switch {
	case s == nil:
		if t := m.tombs[ev.SID]; t != nil && t.torn {
			// "once TEAR is queued": late messages of the old session
			// could not be told from the new one's.
			reject(wire.ReservationFailure, wire.ClassTransientFailure, "the SID was torn down a short while ago: choose another")
			return
		}
		if _, ok := m.next(ev.SID); ev.MRI.Upstream && !ok && ev.Flags&wire.Proxy == 0 {
			reject(wire.NoPathState, wire.ClassTransientFailure, "no QUERY has made a path for it")
			return
		}
		if len(m.sessions) >= m.cfg.MaxSessions || len(m.tickets) >= m.cfg.MaxQuestions {
			reject(wire.ReservationFailure, wire.ClassTransientFailure, "no room for another session")
			return
		}
		s = m.newSession(ev.SID, ev.NSLPID)
		s.initiator = true
	case s.state == closing:
		reject(wire.ReservationFailure, wire.ClassTransientFailure, "the session is being torn down")
		return
	case !s.initiator:
		reject(wire.InternalError, wire.ClassPermanentFailure, "the session belongs to another initiator")
		return
	case s.txn != nil:
		kept := *ev
		m.enqueue(s, queued{init: &kept})
		return
	}
	m.startInitiate(s, ev)
}

func (m *Machine) startInitiate(s *session, ev *Initiate) {
	t := &txn{kind: create, phase: waitAdmit, made: true, quiet: true, rii: m.newRII(), hasRII: true,
		inSum: sumQSPEC(ev.QSPEC), up: side{mri: ev.MRI, peer: Local, nslpid: ev.NSLPID}, keep: ev.Keep, stateless: ev.Stateless}
	if s.state == installed {
		t.kind, t.rsn = modify, s.takeRSNAfterGap()
		if s.up.mri.Flow != ev.MRI.Flow {
			t.move = MoveFlow
		}
	} else {
		t.rsn = s.takeRSN()
	}
	msg := m.reserveMessage(t.rsn, nil)
	msg.MessageFlags = replaceFlag(t.keep)
	msg.HasRII, msg.RII = true, t.rii
	msg.QSPEC = ev.QSPEC
	msg.Objects = ev.Extra
	msg.BoundSessions, msg.PacketClassifier = ev.Bound, ev.PacketClassifier
	msg.Flags = ev.Flags & wire.Proxy
	if ev.brk {
		msg.Flags |= wire.Break // RFC 5974 §5.4.2
	}
	t.also, t.forward = alsoOf(&msg), forwardOf(&msg)
	if ev.Flags&wire.Scoping != 0 {
		t.also = t.also.scope()
	}
	if t.outBound = ev.BoundMsgID; ev.MsgID != nil {
		t.hasMsgID, t.msgID = true, *ev.MsgID
	}
	m.route(s, t)
	s.txn = t
	m.askAdmit(s, t, &msg)
}

// newRII picks a random value: probabilistically unique. RFC 5974 §5.3.2
func (m *Machine) newRII() uint32 { return uint32(m.cfg.Rand() >> 32) }

// terminate tears a session of this node's own.
func (m *Machine) terminate(sid gistwire.SID) {
	s := m.sessions[sid]
	switch {
	case s == nil:
		m.do(Result{SID: sid, Kind: Released, Info: m.own(wire.ClassSuccess, wire.TeardownSuccessful)})
	case !s.initiator:
		m.note("terminate-refused", sid, s.up.peer, "the session belongs to another initiator")
		m.do(Result{SID: sid, Kind: Rejected, Info: m.own(wire.ClassPermanentFailure, wire.InternalError)})
	case s.state == closing:
		s.txn.made = true // the Result is still to come
	default:
		m.end(s, ending{reason: Torn, tear: true, rii: m.newRII(), hasRII: true, made: true})
	}
}

// enqueue lets a request wait for the one under way; what does not fit is
// dropped, and comes again if it mattered to its sender.
func (m *Machine) enqueue(s *session, q queued) {
	if len(s.queue) >= maxQueue {
		if q.init != nil {
			m.do(Result{SID: s.sid, Kind: Rejected, Info: m.own(wire.ClassTransientFailure, wire.ReservationFailure)})
		}
		m.note("queue-full", s.sid, s.up.peer, "%d requests wait in this session", len(s.queue))
		return
	}
	s.queue = append(s.queue, q)
}

func (m *Machine) enqueueReceived(s *session, r *Received, msg *wire.Message) {
	kept := *r // by value: refreshes, the most of all messages, stay off the heap
	m.enqueue(s, queued{recv: &kept, msg: msg})
}

// dropQueue ends the requests that wait in a session that is over.
func (m *Machine) dropQueue(s *session) {
	for _, q := range s.queue {
		if q.init != nil {
			m.do(Result{SID: s.sid, Kind: Rejected, Info: m.own(wire.ClassTransientFailure, wire.ReservationFailure)})
		}
	}
	s.queue = nil
}

// done ends the transaction under way, and begins what waited for that.
func (m *Machine) done(s *session) {
	m.closeTicket(s)
	s.txn = nil
	if s.state != installed {
		return
	}
	for s.txn == nil && m.sessions[s.sid] == s && s.state == installed {
		if s.needSync {
			s.needSync = false
			if s.hasDown() {
				m.startSync(s)
				break
			}
		}
		if len(s.queue) == 0 {
			break
		}
		q := s.queue[0]
		s.queue = s.queue[1:]
		if q.init != nil {
			m.startInitiate(s, q.init)
		} else {
			m.reserve(q.recv, q.msg)
		}
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
	if v := s.move; v != nil && v.again && s.txn == nil && m.sessions[s.sid] == s {
		m.reroute(s, false)
	}
	if m.sessions[s.sid] == s {
		m.arm(s)
	}
}
