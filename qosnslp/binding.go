package qosnslp

import (
	"bytes"
	"maps"
	"slices"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Session binding (RFC 5974 §3.2.8, §4.4, §5.1.3.4, §5.3.3). A session names in
// BOUND-SESSION-ID the ones that it is bound to. Whether it is admitted while
// they are not there is the layer above's to say: an Admit names them with their
// states. When one of them ends here, what is bound to it is told upstream, and
// ends too if its code says that it lives no longer than the other.

// maxBound bounds the BOUND-SESSION-IDs of one session.
const maxBound = 32

// Binding is a BOUND-SESSION-ID of a session that is asked about.
type Binding struct {
	wire.BoundSession
	State string // of the session named: as SessionInfo.State; "": not here
}

// BoundEnded says that a session has ended which another, SID, is bound to, not
// dependent on: codes 0x01 to 0x03, and those of others. "The QNE MAY elect to
// send RESERVE messages with the TEAR flag set" (RFC 5974 §5.4.1): Abandon or
// Terminate it if so.
type BoundEnded struct {
	SID   gistwire.SID
	Bound wire.BoundSession
}

func (BoundEnded) nslpAction() {}

func (m *Machine) bindings(msg *wire.Message) []Binding {
	var out []Binding
	for _, b := range msg.BoundSessions {
		x := Binding{BoundSession: b}
		if s := m.sessions[b.SID]; s != nil {
			x.State = s.state.String()
		}
		out = append(out, x)
	}
	return out
}

func (a *also) bindings() []wire.BoundSession {
	if a == nil {
		return nil
	}
	return a.bound
}

// bind and unbind keep the index of who is bound to whom.
func (m *Machine) bind(s *session) {
	for _, b := range s.also.bindings() {
		if m.binders[b.SID] == nil {
			m.binders[b.SID] = make(map[*session]bool)
		}
		m.binders[b.SID][s] = true
	}
}

func (m *Machine) unbind(s *session) {
	for _, b := range s.also.bindings() {
		delete(m.binders[b.SID], s)
		if len(m.binders[b.SID]) == 0 {
			delete(m.binders, b.SID)
		}
	}
}

// ended notes that a session is over; those bound to it follow when the event
// has been dealt with.
func (m *Machine) ended(sid gistwire.SID) {
	if m.binders[sid] != nil {
		m.endedSIDs = append(m.endedSIDs, sid)
	}
}

// followEnded: "If the QNE has reservations that are bound and dependent to this
// session …, it MUST send a NOTIFY message for each of the reservations"; where
// they are bound only "it MAY". RFC 5974 §5.4.1. "If the bound session … is
// terminated, the binding session … must be terminated also" (§3.2.8).
func (m *Machine) followEnded() {
	for i := 0; i < len(m.endedSIDs); i++ { // it grows on the way
		sid := m.endedSIDs[i]
		bound := slices.Collect(maps.Keys(m.binders[sid]))
		slices.SortFunc(bound, func(a, b *session) int { return bytes.Compare(a.sid[:], b.sid[:]) })
		for _, s := range bound {
			m.boundEnded(s, sid)
		}
	}
	m.endedSIDs = m.endedSIDs[:0]
}

func (m *Machine) boundEnded(s *session, sid gistwire.SID) {
	if s.state != installed {
		return
	}
	told := false
	for _, b := range s.also.bindings() {
		if b.SID != sid || b.Code == wire.BindPreempted {
			continue
		}
		if !told && !s.initiator {
			m.notifyUp(s, m.own(wire.ClassInformational, wire.UnknownBoundSession))
		}
		told = true
		if b.Code == wire.BindDependent {
			m.note("dependent", s.sid, s.up.peer, "it ends with session %v", sid)
			m.end(s, ending{reason: Lost, tear: true, tell: true, info: m.own(wire.ClassTransientFailure, wire.ReservationFailure)})
			return
		}
		m.do(BoundEnded{SID: s.sid, Bound: b})
	}
}
