package qosnslp

import (
	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Receiver-initiated reservations (RFC 5974 §4.3): a QUERY with RESERVE-INIT
// goes from the data sender, the QNR, to the receiver, the QNI. The RESERVE
// comes back over the nodes that the QUERY passed. In a session of this kind the
// sides are still those of the RESERVE: up is towards the QNI, and the MRIs of
// its RESERVEs have the direction Upstream.

// path is where a QUERY with RESERVE-INIT came from and went: "the RESERVE
// message must follow the same path that has been followed by the QUERY
// message". RFC 5974 §5.4.1. It is needed until the RESERVE is committed.
type path struct {
	heapPos int32
	sid     gistwire.SID
	nslpid  gistwire.NSLPID
	next    side // of the RESERVE: where the QUERY came from
	from    side // where the RESERVE comes from; at the QNI: Local
	until   instant
}

func (p *path) pos() *int32 { return &p.heapPos }

// invite is what a QNR's application does. RFC 5974 §4.3
func (m *Machine) invite(ev *Invite) {
	if err := sendable(ev.QSPEC, ev.Extra); err != nil {
		m.note("query-refused", ev.SID, Local, "%v", err)
		m.do(Result{SID: ev.SID, Kind: Rejected, Info: m.own(wire.ClassPermanentFailure, wire.InternalError)})
		return
	}
	if s := m.sessions[ev.SID]; !m.queryRoom(ev.SID) || len(m.paths) >= m.cfg.MaxQuestions || s != nil && !s.up.mri.Upstream {
		m.note("query-refused", ev.SID, Local, "too many queries, or the SID is of a sender-initiated reservation")
		m.do(Result{SID: ev.SID, Kind: Rejected, Info: m.own(wire.ClassTransientFailure, wire.ReservationFailure)})
		return
	}
	// "must not include the RII object": the RESERVE is the answer.
	msg := &wire.Message{Type: wire.Query, MessageFlags: wire.ReserveInit, Flags: ev.Flags & wire.Proxy, QSPEC: ev.QSPEC,
		PacketClassifier: ev.PacketClassifier, BoundSessions: ev.Bound, Objects: ev.Extra}
	mri := ev.MRI
	mri.Upstream = false
	m.startQuery(&query{made: true, init: true, sid: ev.SID, nslpid: ev.NSLPID, up: side{mri: mri, peer: Local, nslpid: ev.NSLPID}, msg: msg}, gist.RecvMessage{})
}

// inviting says whether a received QUERY with RESERVE-INIT can be taken in.
func (m *Machine) inviting(r *Received, msg *wire.Message) bool {
	p, s := m.paths[r.SID], m.sessions[r.SID]
	refuse := func(class wire.ErrorClass, code uint8, why string) bool {
		m.note("query-refused", r.SID, r.Peer, "%s", why)
		m.respondTo(r, msg, m.own(class, code))
		return false
	}
	switch {
	case r.MRI.Upstream:
		return refuse(wire.ClassProtocolError, wire.BadMessageFlags, "RESERVE-INIT in a QUERY that travels upstream")
	case r.Peer == Stranger && (p != nil && p.next.peer != Stranger || s != nil && s.up.peer != Stranger && s.down.peer != Stranger):
		return refuse(wire.ClassPermanentFailure, wire.AuthorizationFailure, "a stranger's RESERVE-INIT for a session of others")
	case len(msg.BoundSessions) > maxBound:
		return refuse(wire.ClassTransientFailure, wire.ReservationFailure, "too many BOUND-SESSION-IDs")
	case p == nil && len(m.paths) >= m.cfg.MaxQuestions:
		return refuse(wire.ClassTransientFailure, wire.ReservationFailure, "too many paths")
	}
	return true
}

// followsQuery says whether a RESERVE upstream comes on the path of a QUERY, or
// is of a session that came that way.
func (m *Machine) followsQuery(s *session, r *Received) bool {
	if p := m.paths[r.SID]; p != nil && p.from.peer == r.Peer && p.from.at(p.nslpid) == r.NSLPID {
		return true
	}
	return s != nil && (!s.upstreamMRI().Upstream || s.upstreamPeer() == r.Peer)
}

// setPath remembers the path of a QUERY with RESERVE-INIT that was accepted.
func (m *Machine) setPath(q *query) {
	m.dropPath(q.sid)
	p := &path{sid: q.sid, nslpid: q.nslpid, from: q.down, next: q.up, until: m.after(m.cfg.HoldTimeout)}
	p.next.mri = p.next.mri.Reverse()
	m.paths[q.sid] = p
	m.timers.want(timed{at: p.until, who: p})
}

func (m *Machine) dropPath(sid gistwire.SID) {
	if p := m.paths[sid]; p != nil {
		m.timers.remove(&p.heapPos)
		delete(m.paths, sid)
	}
}

// pathExpired: no RESERVE came.
func (m *Machine) pathExpired(p *path) {
	m.dropPath(p.sid)
	if m.sessions[p.sid] != nil {
		return
	}
	m.note("no-reserve", p.sid, p.from.peer, "no RESERVE has followed the QUERY")
	for _, x := range []side{p.next, p.from} {
		if x.peer != Local {
			m.do(Forget{gist.SetStateLifetime{NSLPID: x.at(p.nslpid), SID: p.sid, MRI: x.mri}})
		}
	}
}

// next is where the RESERVE of a receiver-initiated session goes on to; false:
// there is no path state for it.
func (m *Machine) next(sid gistwire.SID) (side, bool) {
	if p := m.paths[sid]; p != nil {
		return p.next.byState(), true
	}
	if s := m.sessions[sid]; s != nil && s.state == installed && s.up.mri.Upstream {
		if s.last {
			return side{peer: Local}, true
		}
		return s.down, true
	}
	return side{}, false
}

// route fills in where a receiver-initiated RESERVE goes; the layer above is
// told, not asked.
func (m *Machine) route(s *session, t *txn) {
	if !t.up.mri.Upstream {
		return
	}
	t.down, t.routed = m.next(s.sid)
	t.last = t.last || t.routed && t.down.peer == Local
}

// answerInvitation is what the QNI does: it "creates a RESERVE message, which
// contains a QSPEC received from the RMF". RFC 5974 §5.4.2
func (m *Machine) answerInvitation(q *query, v *Verdict) {
	if err := sendable(v.QSPEC, v.Extra); err != nil {
		m.note("bad-verdict", q.sid, q.up.peer, "%v", err)
		m.answerQuery(q, m.own(wire.ClassPermanentFailure, wire.InternalError), &Verdict{})
		return
	}
	s := m.sessions[q.sid]
	room := s != nil || len(m.sessions) < m.cfg.MaxSessions && len(m.tickets) < m.cfg.MaxQuestions
	if !room || s != nil && (!s.initiator || s.state == closing || !s.upstreamMRI().Upstream) {
		m.answerQuery(q, m.own(wire.ClassTransientFailure, wire.ReservationFailure), &Verdict{})
		return
	}
	m.setPath(q)
	if q.hasRII {
		m.answerQuery(q, m.own(wire.ClassSuccess, wire.Acknowledgement), &Verdict{})
	} else {
		m.endQuery(q)
	}
	if s != nil && s.txn.upstream() && s.txn.down.peer == q.up.peer && s.txn.down.mri == q.up.mri.Reverse() {
		return // a repeat: the RESERVE is under way
	}
	m.initiate(&Initiate{SID: q.sid, NSLPID: q.nslpid, MRI: q.up.mri.Reverse(), QSPEC: v.QSPEC, Extra: v.Extra,
		Flags: q.msg.Flags, Bound: q.msg.BoundSessions, PacketClassifier: q.msg.PacketClassifier, brk: q.msg.Flags&wire.Break != 0})
}

// invited ends the QUERYs of this node's own that a RESERVE has answered.
func (m *Machine) invited(s *session, t *txn) {
	m.dropPath(s.sid)
	for {
		var own *query
		for _, q := range m.queries[s.sid] {
			if q.made && q.init {
				own = q
			}
		}
		if own == nil {
			break
		}
		m.keepInvitation(s, own)
		m.do(Result{SID: s.sid, RSN: t.rsn, Kind: Answered, Info: m.own(wire.ClassSuccess, wire.ReservationSuccessful)})
		m.endQuery(own)
	}
	if v := s.move; v != nil && v.invitation != nil && v.again {
		v.again = false
		m.reinvite(s)
	}
}

// upstreamMRI is the MRI of the session's RESERVEs on the side of the QNI.
func (s *session) upstreamMRI() gistwire.MRI {
	if s.state == creating && s.txn != nil {
		return s.txn.up.mri
	}
	return s.up.mri
}
