package qosnslp

import (
	"errors"
	"slices"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// ACK-REQ (RFC 5974 §5.1.1, §5.2.4, §5.4.1): a refresh that the next peer is to
// acknowledge, so that one whose QoS NSLP is dead is found out although its GIST
// still answers. "Currently, the flag is only used with refresh messages", and
// "must not be set for RESERVE messages that already include an RII object"; a
// TEAR never has it. Which refreshes have it is Config.AckEvery.

// ackWait is a refresh that has not been acknowledged yet.
type ackWait struct {
	rsn               uint32
	data              []byte // "exactly the same as the original message"
	wait              time.Duration
	retryAt, giveUpAt instant
}

func (a *ackWait) deadline() instant {
	if a == nil {
		return 0
	}
	return earliest(a.retryAt, a.giveUpAt)
}

var errNotAcknowledged = errors.New("the next peer has not acknowledged a refresh")

// asksAck says whether the next refresh of a session, or of the batch whose
// primary it is, is to be acknowledged, and counts it.
func (m *Machine) asksAck(s *session, since *uint8) bool {
	if m.cfg.AckEvery <= 0 || s.ack != nil {
		return false
	}
	if *since = min(*since, 254) + 1; int(*since) < m.cfg.AckEvery {
		return false
	}
	*since = 0
	return true
}

// awaitAck begins to wait. RFC 5974 §5.2.4
func (m *Machine) awaitAck(s *session, data []byte) {
	s.ack = &ackWait{rsn: s.rsn, data: data, wait: m.cfg.RequestRetry,
		retryAt: m.after(m.cfg.RequestRetry), giveUpAt: m.after(m.cfg.RetryMax)}
	m.arm(s)
}

// ackDue handles the deadline of that.
func (m *Machine) ackDue(s *session) {
	a := s.ack
	switch {
	case !s.hasDown() || a.rsn != s.rsn || s.txn != nil && s.txn.kind == syncing:
		s.ack = nil // the reservation, or the peer, is another
	case a.giveUpAt > m.now:
		a.wait *= 2
		a.retryAt = m.after(a.wait)
		m.stats.Retransmitted++
		m.send(a.data, s.nslpid, s.sid, s.current(), 0)
	default:
		m.unacknowledged(s)
	}
}

// unacknowledged: "did not receive a RESPONSE from its immediate stateful peer
// within the retransmission period of QOSNSLP_RETRY_MAX, the QNE SHOULD send a
// NOTIFY to its immediate upstream stateful peer and indicate 'Path truncated -
// Next peer dead'". RFC 5974 §5.4.1. That goes for all whose refresh it was.
func (m *Machine) unacknowledged(s *session) {
	s.ack = nil
	m.stats.Unacknowledged++
	m.note("not-acknowledged", s.sid, s.down.peer, "no answer to a refresh in %v", m.cfg.RetryMax)
	members := []*session{s}
	if b := s.batch; b != nil && b.primary == s {
		members = slices.Clone(b.members)
	}
	for _, s := range members {
		s.refreshBad, s.unack = true, 254 // the next one, too
		m.doubted(s)
		m.unreachable(s, errNotAcknowledged)
	}
}

// acknowledges answers a RESERVE with ACK-REQ whose processing was successful,
// unless it has had a RESPONSE. RFC 5974 §5.4.1
func (m *Machine) acknowledges(r *Received, msg *wire.Message) {
	if msg.Flags&wire.AckReq != 0 && !msg.HasRII {
		m.respondTo(r, msg, m.own(wire.ClassSuccess, wire.Acknowledgement))
	}
}
