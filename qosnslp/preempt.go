package qosnslp

import (
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Preemption (RFC 5974 §3.2.13, §5.4.4, RFC 5975 §4.3.5). Who is preempted is the
// layer above's to say. "In this case, the reservation state for this flow is
// torn down in the QNE, and the QNE sends a NOTIFY message to the QNI"; downstream
// is torn at once, for nothing is carried there any more, and the QNI tears what
// is upstream. A NOTIFY that was lost is made up for by the upstream peer's next
// refresh, which finds nothing here.

// Preempt ends an installed session in favour of another. A Release question
// follows with the reason Preempted; downstream gets a TEAR, upstream a NOTIFY
// with 4/0x06 and the other in a BOUND-SESSION-ID ("indicated session caused
// preemption", RFC 5974 §5.1.3.4), this node's own application a Result,
// Terminated with 4/0x06.
type Preempt struct {
	SID gistwire.SID
	By  gistwire.SID // zero: not told
}

func (Preempt) nslpEvent() {}

// Preempted is a ReleaseReason: another reservation has its resources.
const Preempted ReleaseReason = Lost + 1

func (m *Machine) preempt(ev *Preempt) {
	s := m.sessions[ev.SID]
	if s == nil || s.state != installed {
		// What is only being created has no resources that could be taken: its
		// Commit will find that they are gone.
		m.note("preempt-nothing", ev.SID, Local, "no such session is installed here")
		return
	}
	info := m.own(wire.ClassTransientFailure, wire.ReservationPreempted)
	var by []wire.BoundSession
	if ev.By != (gistwire.SID{}) {
		by = []wire.BoundSession{{Code: wire.BindPreempted, SID: ev.By}}
	}
	m.note("preempted", s.sid, s.up.peer, "by session %v", ev.By)
	m.stats.Preempted++
	m.notifyUp(s, info, by...)
	// Who has asked for a change gets the answer to that, too.
	asked := s.txn.upstream() || s.txn != nil && s.txn.kind == probe
	m.end(s, ending{reason: Preempted, tear: true, tell: s.initiator || asked && !s.txn.quiet, info: info})
}

// preempted is what a QNI does: it "would normally tear down the preempted
// reservation". RFC 5974 §5.4.4
func (m *Machine) preempted(s *session, r *Received, msg *wire.Message) {
	if s.down.sii != 0 && s.down.sii != r.SII {
		m.note("notify-not-current", s.sid, r.Peer, "4/0x06 from a peer that the session has moved away from")
		return
	}
	m.end(s, ending{reason: Preempted, tear: true, tell: true, info: msg.InfoSpec})
}
