package qosnslp

import (
	"errors"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

type gistStatus = gist.MessageStatus

// refresh sends the downstream peer a refresh: "each QNE independently examines
// its state and sends a refreshing RESERVE message to the next QNE peer".
// RFC 5974 §5.3.4
func (m *Machine) refresh(s *session) {
	if s.alone == aloneForOneRefresh {
		s.alone = 0
	}
	m.slower(s)
	m.nextRefresh(s)
	if s.tail {
		m.lookOn(s)
		m.arm(s)
		return
	}
	if s.hasDown() {
		m.arm(s)
		m.sendRefresh(s)
		m.refreshBranches(s)
	}
}

// sendRefresh sends a refresh of this one session.
func (m *Machine) sendRefresh(s *session) {
	if s.txn != nil && s.txn.kind == syncing {
		return // that refreshes too
	}
	switch {
	case !s.resync:
	case s.up.mri.Upstream:
		m.sync(s)
		return
	default: // the path may have changed while this node was away
		m.reroute(s, true)
		return
	}
	m.beforeRefresh(s)
	msg := m.refreshMessage(s)
	if s.fullRefresh || s.down.stateless {
		msg.MessageFlags = wire.Replace
		msg.Flags |= s.flags() & wire.Scoping
		msg.QSPEC = s.qspec
		if s.also != nil {
			msg.PacketClassifier = s.also.classifier
		}
	}
	s.handle = m.newHandle()
	m.stats.RefreshesSent++
	ack := m.asksAck(s, &s.unack)
	if ack {
		msg.Flags |= wire.AckReq
	}
	data := m.encode(&msg)
	if ack {
		m.awaitAck(s, data)
	}
	m.sendReported(data, s, s.alone == aloneUntilSent)
}

// refreshMessage is a reduced refresh: it "references the reservation using the RSN and
// the SESSION-ID". RFC 5974 §3.2.5
func (m *Machine) refreshMessage(s *session) wire.Message {
	msg := m.reserveMessage(s.rsn, s.also)
	msg.Flags &^= wire.Scoping
	if p := m.sessionPeriod(s); p != wire.DefaultRefreshPeriod {
		msg.HasRefreshPeriod, msg.RefreshPeriod = true, p
	}
	return msg
}

// beforeRefresh ends what lasts until the next refresh.
func (m *Machine) beforeRefresh(s *session) {
	if s.answer != nil && s.answer.until <= m.now {
		s.answer = nil
	}
	if s.refreshBad {
		s.refreshBad = false
	} else if s.ack == nil {
		s.badSince = 0 // the last one was not refused by GIST
	}
}

// sync tells the downstream peer all of what is installed: after a restart,
// after a refused change, or when the peer asks for it.
func (m *Machine) sync(s *session) {
	if s.txn != nil {
		s.needSync = s.needSync || s.txn.kind != syncing
		return
	}
	m.startSync(s)
}

// startSync sends the full RESERVE with a new RSN, for the peer may have seen a
// higher one than it has installed, and with an RII of our own.
func (m *Machine) startSync(s *session) {
	t := &txn{kind: syncing, made: true, quiet: true, rii: m.newRII(), hasRII: true, keep: s.keep,
		rsn: s.takeRSNAfterGap(), up: s.up, upRSN: s.upRSN, down: s.down, qspec: s.qspec, also: s.also}
	s.txn, s.resync = t, false
	m.stats.Syncs++
	m.sendReserve(s, t)
}

// synced ends that; msg is nil where no answer came: then the next refresh
// finds out whether the peer has it.
func (m *Machine) synced(s *session, t *txn, msg *wire.Message) {
	if t.extend {
		m.lookedOn(s, t, msg)
		return
	}
	old := s.branch()
	s.rsn = t.rsn
	s.down.sii = t.down.sii
	if msg != nil && !msg.InfoSpec.IsError() {
		t.resp = msg
		m.left(s, old, t)
	}
	if msg == nil {
		m.note("sync-unanswered", s.sid, s.down.peer, "RSN %d", t.rsn)
		m.done(s)
		return
	}
	if lost(&msg.InfoSpec) || msg.InfoSpec.Class == wire.ClassTransientFailure {
		m.note("lost", s.sid, s.down.peer, "%v", msg.InfoSpec)
		m.end(s, ending{reason: Lost, tear: true, info: m.lostInfo(msg.InfoSpec), tell: true, resp: msg})
		return
	}
	if msg.InfoSpec.IsError() {
		m.note("sync-refused", s.sid, s.down.peer, "%v", msg.InfoSpec)
	}
	s.badSince = 0
	s.alone = 0
	m.nextRefresh(s)
	m.done(s)
}

// lostInfo is how the loss of an installed reservation is told upstream.
func (m *Machine) lostInfo(i wire.InfoSpec) wire.InfoSpec {
	if removes(&i) {
		return i
	}
	return m.own(wire.ClassTransientFailure, wire.ReservationFailure)
}

// unreachable handles a downstream peer that GIST cannot reach. The upstream
// peer is told at once (RFC 5974 §5.4.1: "Path truncated - Next peer dead");
// when the peer's state must have expired, the session ends.
func (m *Machine) unreachable(s *session, err error) {
	if m.sessions[s.sid] != s || !s.hasDown() {
		return
	}
	info := m.own(wire.ClassTransientFailure, wire.PathTruncated)
	switch {
	case s.badSince == 0:
		s.badSince = m.now
		m.note("next-peer-dead", s.sid, s.down.peer, "%v", err)
		if !s.initiator {
			m.notifyUp(s, info)
		}
		m.reroute(s, false) // there may be another way
	case m.now-s.badSince > instant(lifetime(m.sessionPeriod(s))):
		m.end(s, ending{reason: Lost, info: info, tell: true})
	}
}

// sendFailure is what an error RESPONSE says of a message that GIST could not
// deliver.
func (m *Machine) sendFailure(err error, upstream bool) wire.InfoSpec {
	for _, e := range []error{gist.ErrTooLarge, gist.ErrBadData, gist.ErrUnknownNSLPID, gist.ErrNoSecurity} {
		if errors.Is(err, e) {
			return m.own(wire.ClassPermanentFailure, wire.InternalError)
		}
	}
	if upstream && (errors.Is(err, gist.ErrNoRoute) || errors.Is(err, gist.ErrNoPeer) || errors.Is(err, gist.ErrForgotten)) {
		return m.own(wire.ClassTransientFailure, wire.NoReversePath) // towards the flow's source
	}
	for _, e := range []error{gist.ErrQueueFull, gist.ErrLimit} {
		if errors.Is(err, e) {
			return m.own(wire.ClassTransientFailure, wire.ReservationFailure)
		}
	}
	return m.own(wire.ClassTransientFailure, wire.PathTruncated)
}
