package qosnslp

import (
	"slices"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// NOTIFY (RFC 5974 §5.1.2.4, §5.4.4): news of a session that nobody asked for.
// They are "sent peer-to-peer" like all others (§3.1.1): a node hands one to the
// layer above, and sends it on towards the end of the path that it travels to,
// unless it is scoped or tells of two neighbours' own affairs. It installs
// nothing, and it is answered by nothing.

// Notify sends a NOTIFY about an installed session to the neighbour upstream, or
// downstream: what the layer above has to say of it, e.g. that what is measured
// is not what was promised. At the end of the path that it would travel to, the
// initiator for one upstream, it comes back as Notified from Local.
type Notify struct {
	SID        gistwire.SID
	Downstream bool // as the RESERVE travels; else towards the QNI
	Info       wire.InfoSpec
	QSPEC      []byte        // nil: none
	Extra      []wire.Object // further objects
	Scoped     bool          // the neighbour is not to send it on
}

// Notified is a NOTIFY that has come, and goes on if it is not meant for this
// node only. The layer above may act on it: Abandon, Terminate, Notify.
type Notified struct {
	SID        gistwire.SID
	Peer       Peer // who sent it, Local: this node's Notify
	Downstream bool // it travels as the RESERVE does
	Message    *wire.Message
}

func (Notify) nslpEvent()    {}
func (Notified) nslpAction() {}

// notifyFrom is what the layer above does.
func (m *Machine) notifyFrom(ev *Notify) {
	s := m.sessions[ev.SID]
	if s == nil || s.state != installed {
		m.note("notify-refused", ev.SID, Local, "no such session is installed here")
		return
	}
	if err := sendable([]byte{0, 0, 0, 0}, ev.Extra); err != nil || ev.QSPEC != nil && sendable(ev.QSPEC, nil) != nil {
		m.note("notify-refused", ev.SID, Local, "an object or a QSPEC that cannot be sent")
		return
	}
	msg := wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: ev.Info, QSPEC: ev.QSPEC, Objects: ev.Extra}
	if msg.InfoSpec.Source.Type == wire.SourceNone {
		msg.InfoSpec.Source = m.cfg.ErrorSource
	}
	if ev.Scoped {
		msg.Flags |= wire.Scoping
	}
	if !m.sendNotify(s, ev.Downstream, &msg) {
		m.do(Notified{SID: s.sid, Peer: Local, Downstream: ev.Downstream, Message: &msg})
	}
}

// notify handles a received NOTIFY. RFC 5974 §5.4.4
func (m *Machine) notify(r *Received, msg *wire.Message) {
	m.note("notify", r.SID, r.Peer, "%v", msg.InfoSpec)
	s := m.sessions[r.SID]
	if s == nil || s.state != installed {
		return
	}
	down := r.MRI.Upstream == s.up.mri.Upstream
	if i := msg.InfoSpec; !down && i.Class == wire.ClassInformational && i.Code == wire.RouteChange && !m.toldRouteChange(s, r) {
		return
	}
	if down && r.Peer != s.up.peer || !down && (s.last || !s.down.from(r.Peer)) {
		m.note("notify-not-current", r.SID, r.Peer, "a NOTIFY that is not of the session's peer on that side was dropped")
		return
	}
	m.stats.Notified++
	m.do(Notified{SID: s.sid, Peer: r.Peer, Downstream: down, Message: msg})
	if down {
		m.mayHaveMoved(s, &msg.InfoSpec)
	}
	if m.ownAffair(s, r, msg, down) || msg.Flags&wire.Scoping != 0 {
		return
	}
	i := msg.InfoSpec
	if i.Class == wire.ClassTransientFailure && i.Code == wire.ReservationPreempted && !down && s.initiator {
		m.preempted(s, r, msg)
		return
	}
	on := wire.Message{Type: wire.Notify, Flags: msg.Flags & wire.Break, HasInfoSpec: true, InfoSpec: i, QSPEC: msg.QSPEC,
		BoundSessions: because(msg.BoundSessions), Objects: passedOn(msg.Objects, nil)}
	m.sendNotify(s, down, &on)
}

// ownAffair says whether a NOTIFY speaks of messages between the sender and this
// node, or asks for some: that goes no further.
func (m *Machine) ownAffair(s *session, r *Received, msg *wire.Message, down bool) bool {
	switch i := msg.InfoSpec; {
	case i.Class == wire.ClassInformational && i.Code == wire.NoReducedRefresh:
		if !down {
			m.aboutRefresh(s, r, msg) // "MUST continue to use full refresh messages". RFC 5974 §5.4.1
		}
	case i.Class == wire.ClassInformational && (i.Code == wire.UnknownListedSession || i.Code == wire.MismatchingRSNInList):
	case i.Class == wire.ClassSuccess && i.Code == wire.Acknowledgement:
	case i.Class == wire.ClassTransientFailure && i.Code == wire.FullQSPECRequired:
	case i.Class == wire.ClassProtocolError:
	default:
		return false
	}
	return true
}

// because are the bindings that tell why: of the message, not of the session.
func because(bound []wire.BoundSession) []wire.BoundSession {
	return slices.DeleteFunc(slices.Clone(bound), func(b wire.BoundSession) bool { return b.Code != wire.BindPreempted })
}

// sendNotify sends a NOTIFY with what all messages of the session have (RFC 5974
// §5.2.3, §5.3.3); false: the path ends here.
func (m *Machine) sendNotify(s *session, down bool, msg *wire.Message) bool {
	to := s.down.byState()
	if !down {
		to = s.up.byState()
		to.mri = to.mri.Reverse()
	}
	if down && !s.hasDown() || !down && s.initiator {
		return false
	}
	msg.Flags |= s.flags()
	msg.BoundSessions = append(slices.Clone(s.also.bindings()), msg.BoundSessions...)
	m.stats.Notifies++
	m.sendBack(m.encode(msg), s.nslpid, s.sid, to, s.also.bindings())
	return true
}

// notifyUp tells the upstream peer something that this node has found.
func (m *Machine) notifyUp(s *session, info wire.InfoSpec, bound ...wire.BoundSession) {
	m.sendNotify(s, false, &wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info, BoundSessions: bound})
}
