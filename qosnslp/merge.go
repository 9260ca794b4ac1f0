package qosnslp

import (
	"slices"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Route changes at the node where the old and the new path meet: a RESERVE of a
// session that stands comes from another peer. RFC 5974 §3.3.2, §5.2.5.4, §5.4.1

// former is an upstream peer that a session had before.
type former struct {
	side  side
	rsn   wire.RSN // of its last refresh
	until instant  // without a refresh its state is over
}

func (f *former) is(r *Received) bool {
	return f.side.peer == r.Peer && f.side.mri == r.MRI && f.side.at(r.NSLPID) == r.NSLPID && (f.side.sii == 0 || f.side.sii == r.SII)
}

// formerOf returns the place of the sender among the former upstream peers, or
// -1.
func (s *session) formerOf(r *Received) int {
	if s.move == nil {
		return -1
	}
	return slices.IndexFunc(s.move.formers, func(f former) bool { return f.is(r) })
}

// moveOf says how a RESERVE with a QSPEC changes the path of the session.
func (s *session) moveOf(r *Received) Move {
	switch {
	case s.state != installed || s.initiator:
		return Stays
	case s.up.mri.Flow != r.MRI.Flow:
		return MoveFlow
	case s.up.peer != r.Peer, s.up.mri != r.MRI, s.nslpid != r.NSLPID:
		return MoveUpstream
	}
	return Stays
}

// fromFormer handles a RESERVE of a former upstream peer, and says whether that
// is all: "a QNE SHOULD consider the new upstream peer as current and not fall
// back to the old upstream peer unless it stops receiving refreshes from the old
// upstream peer for at least the soft-state timeout period and then starts
// receiving messages from the old upstream peer again". RFC 5974 §5.2.5.4
func (m *Machine) fromFormer(s *session, r *Received, msg *wire.Message) bool {
	i := s.formerOf(r)
	if i < 0 || s.state != installed {
		return false
	}
	v := s.move
	f := &v.formers[i]
	order := wire.CompareSerial(msg.RSN.Number, f.rsn.Number)
	switch {
	case msg.Tears():
		// "MUST be ignored and MUST NOT be forwarded" (RFC 5974 §5.4.1); but it
		// says that the old branch is over.
		if f.rsn.Epoch == msg.RSN.Epoch && (order == wire.Older || order == wire.Incomparable) {
			m.stats.OutOfOrder++
			return true
		}
		m.note("branch-torn", r.SID, r.Peer, "the former upstream peer has ended its branch")
		m.dropFormer(s, i)
		return true
	case f.rsn.Epoch != msg.RSN.Epoch || order == wire.Newer && msg.QSPEC != nil || m.now > f.until:
		// No mere refresh: it, or somebody before it, wants the session to be
		// this way again; or it has been silent for its lifetime.
		return false
	case order == wire.Newer:
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.FullQSPECRequired))
		return true
	case order != wire.Same:
		m.stats.OutOfOrder++
		return true
	}
	m.stats.FormerRefreshes++
	f.until = m.after(lifetime(periodOf(msg)))
	if msg.HasRII {
		m.respondTo(r, msg, m.own(wire.ClassSuccess, wire.RefreshSuccessful))
	}
	return true
}

// dropFormer forgets a former upstream peer, and GIST what it knows of the way
// to it.
func (m *Machine) dropFormer(s *session, i int) {
	f := s.move.formers[i]
	s.move.formers = slices.Delete(s.move.formers, i, i+1)
	m.forgetUp(s, f.side)
}

func (m *Machine) forgetUp(s *session, d side) {
	if d.mri != s.up.mri {
		m.do(Forget{gist.SetStateLifetime{NSLPID: d.at(s.nslpid), SID: s.sid, MRI: d.mri.Reverse()}})
	}
}

// dropFormers is dropFormer of all, at the session's end.
func (m *Machine) dropFormers(s *session) {
	if s.move == nil {
		return
	}
	for _, f := range s.move.formers {
		m.forgetUp(s, f.side)
	}
	s.move.formers = nil
}

// arrived makes t's upstream peer the current one, and remembers the one before.
// "The default behavior […] is to replace the existing reservation"; where
// REPLACE is not set, the old branch is let alone. RFC 5974 §5.4.1
func (m *Machine) arrived(s *session, t *txn) {
	if s.initiator || s.up.peer == t.up.peer && s.up.mri == t.up.mri && s.nslpid == t.up.at(s.nslpid) {
		return
	}
	m.stats.UpstreamMoves++
	v := s.moving()
	v.formers = slices.DeleteFunc(v.formers, func(f former) bool {
		return f.side.peer == t.up.peer && f.side.mri == t.up.mri && f.side.nslpid == t.up.nslpid
	})
	old := s.up
	s.up = t.up // what is no longer asked for is compared with it
	if t.oldTorn || old.peer == Stranger {
		m.forgetUp(s, old)
		return
	}
	if len(v.formers) >= maxBranches {
		m.dropFormer(s, 0)
	}
	v.formers = append(v.formers, former{side: old, rsn: s.upRSN, until: m.after(lifetime(s.upPeriod))})
	if !t.keep && (old.peer != t.up.peer || old.sii != t.up.sii) {
		m.tellRouteChange(s, old)
	}
}

// tellRouteChange sends NOTIFY with "Route Change": "it MUST be sent to the old
// peer using the GIST explicit routing mechanism through the use of the
// SII-Handle". RFC 5974 §5.2.5.3
func (m *Machine) tellRouteChange(s *session, to side) {
	if to.sii == 0 || to.peer == Stranger {
		return
	}
	msg := wire.Message{Type: wire.Notify, Flags: s.flags(), BoundSessions: s.also.bindings(),
		HasInfoSpec: true, InfoSpec: m.own(wire.ClassInformational, wire.RouteChange)}
	to.mri = to.mri.Reverse()
	m.stats.RouteChangeNotifies++
	m.send(m.encode(&msg), s.nslpid, s.sid, to, 0)
}

// upNotified: "GIST may notify the QoS NSLP that a possible upstream route change
// has occurred […] the QoS NSLP SHOULD send a NOTIFY message with Informational
// code 0x02". Once in a refresh period is enough. RFC 5974 §5.2.5.3
func (m *Machine) upNotified(s *session, n *gist.NetworkNotification) {
	switch {
	case n.Type == gist.CommunicationFailure:
		return
	case n.Type == gist.RoutingStatusChange && (n.Status == gist.Bad && !s.up.mri.Upstream || n.Status == gist.Good && (s.up.sii == 0 || n.SII == s.up.sii)):
		return // GIST has nobody there to tell, or all is well
	}
	if s.up.mri.Upstream {
		m.inviteAgain(s)
		return
	}
	if v := s.moving(); v.notified == 0 || m.now-v.notified >= instant(m.cfg.RefreshPeriod) {
		v.notified = m.now
		m.tellRouteChange(s, s.up)
	}
}

// Invalidate tells GIST that routing state may be out of date.
type Invalidate struct{ gist.InvalidateRoutingState }

func (Invalidate) nslpAction() {}

// toldRouteChange handles "Route Change" from the downstream peer: "the QoS NSLP
// SHOULD use the InvalidateRoutingState API call […] and SHOULD send a NOTIFY
// message upstream", which whoever handles any NOTIFY does. It says whether it
// goes on: not where the paths part here. RFC 5974 §5.2.5.3, §3.2.12
func (m *Machine) toldRouteChange(s *session, r *Received) bool {
	if v := s.move; v != nil && (s.down.peer != r.Peer || s.down.mri.Reverse() != r.MRI) {
		// "forwarded upstream until it hits a QNE that can issue a tearing RESERVE
		// downstream": an old branch of ours.
		for i, b := range v.branches {
			if b.side.peer == r.Peer && b.side.mri.Reverse() == r.MRI && !b.keep && b.tearAt <= m.now {
				v.branches = slices.Delete(v.branches, i, i+1)
				m.tearBranch(s, b, s.rsn-1)
				break
			}
		}
		return false
	}
	if s.txn != nil && s.txn.kind == reroute {
		return false // it is about what is under way
	}
	m.do(Invalidate{gist.InvalidateRoutingState{NSLPID: s.down.at(s.nslpid), MRI: s.down.mri, Status: gist.Tentative, Urgent: true}})
	return true
}

// mayFallBack: no request of the current upstream peer is under way.
func (m *Machine) mayFallBack(s *session) bool {
	return s.state == installed && s.move != nil && len(s.move.formers) > 0 && !s.txn.upstream()
}

// tearWhileMoving handles a TEAR of the old or of the new upstream peer while the
// RESERVE of the new one is under way, and says whether it was one: the session
// ends when both have torn their branch. RFC 5974 §5.4.1
func (m *Machine) tearWhileMoving(s *session, t *txn, r *Received, msg *wire.Message) bool {
	after := func(d side, rsn wire.RSN) bool {
		o := wire.CompareSerial(msg.RSN.Number, rsn.Number)
		return d.peer == r.Peer && d.mri == r.MRI && (d.sii == 0 || d.sii == r.SII) &&
			(rsn.Epoch != msg.RSN.Epoch || o == wire.Same || o == wire.Newer)
	}
	switch {
	case after(t.up, t.upRSN):
		t.newTorn = true
	case after(s.up, s.upRSN):
		t.oldTorn = true
	default:
		return false
	}
	if msg.HasRII {
		m.respondTo(r, msg, m.own(wire.ClassSuccess, wire.TeardownSuccessful))
	}
	switch {
	case t.oldTorn && t.newTorn:
		m.end(s, ending{reason: Torn, tear: true})
	case t.newTorn && (t.phase == waitAdmit || t.phase == waitResponse):
		t.quiet = true
		m.fail(s, t, nil, nil, m.own(wire.ClassTransientFailure, wire.ReservationFailure), TimedOut)
	}
	return true
}

// tornMeanwhile ends the branch that has been torn while its RESERVE was being
// committed.
func (m *Machine) tornMeanwhile(s *session) {
	if !m.mayFallBack(s) || !m.fallBack(s) {
		m.end(s, ending{reason: Torn, tear: true})
	}
}

// gotAll: what is here is what the upstream peer wants.
func (m *Machine) gotAll(s *session) {
	if s.move != nil {
		s.move.wantsAll = false
	}
}

// fallBack makes a former upstream peer that has not torn its branch the current one
// again, where the current one has torn its branch or has been silent for the
// lifetime; false: there is none. RFC 5974 §5.2.5.4
func (m *Machine) fallBack(s *session) bool {
	v := s.move
	for i := len(v.formers) - 1; i >= 0; i-- {
		f := v.formers[i]
		if f.until <= m.now {
			m.dropFormer(s, i)
			continue
		}
		v.formers = slices.Delete(v.formers, i, i+1)
		old := s.up
		m.note("fall-back", s.sid, f.side.peer, "the upstream peer was %d", old.peer)
		s.up, s.upRSN, s.expireAt = f.side, f.rsn, f.until
		s.nslpid = f.side.at(s.nslpid)
		s.inSum, s.answer = 0, nil
		m.forgetUp(s, old)
		m.wantAll(s, f.side, f.rsn)
		m.arm(s)
		return true
	}
	return false
}
