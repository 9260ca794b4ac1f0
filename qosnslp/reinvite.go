package qosnslp

import "github.com/interqos/interqos/qosnslp/wire"

// Route changes of receiver-initiated reservations. RFC 5974 §3.2.12 has the node
// where the data's path parts send "a QUERY with the R-flag downstream". That
// takes a QSPEC for a QUERY, which only the QNR has: so it is told by NOTIFY, and
// its QUERY goes all the way. The RESERVE that answers it takes the new path; the
// node where that meets the old one tears the old one as any other does.

// inviteAgain handles GIST's word that the data may go on to another peer, the
// one that RESERVEs come from.
func (m *Machine) inviteAgain(s *session) {
	if s.last {
		m.reinvite(s)
		return
	}
	if v := s.moving(); v.notified != 0 && m.now-v.notified < instant(m.cfg.RequestRetry) {
		return
	}
	s.move.notified = m.now
	m.stats.RouteChangeNotifies++
	m.sendNotify(s, true, m.routeChangeNotify())
}

func (m *Machine) routeChangeNotify() *wire.Message {
	return &wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: m.own(wire.ClassInformational, wire.RouteChange)}
}

// reinvite repeats the QNR's QUERY. After a restart the QNR has none: then its
// application is told.
func (m *Machine) reinvite(s *session) {
	v := s.moving()
	if v.invitation == nil {
		m.do(Notified{SID: s.sid, Peer: Local, Downstream: true, Message: m.routeChangeNotify()})
		return
	}
	if v.again = m.invitesNow(s); v.again {
		return // it may have gone the old way: another follows
	}
	m.stats.Reroutes++
	m.invite(v.invitation)
}

// invitesNow says whether a QUERY of this node's own waits for its RESERVE.
func (m *Machine) invitesNow(s *session) bool {
	for _, q := range m.queries[s.sid] {
		if q.made && q.init {
			return true
		}
	}
	return false
}

// keepInvitation remembers what a QUERY of this node's own asked for.
func (m *Machine) keepInvitation(s *session, q *query) {
	s.moving().invitation = &Invite{SID: q.sid, NSLPID: q.nslpid, MRI: q.up.mri, QSPEC: q.msg.QSPEC, Bound: q.msg.BoundSessions,
		Flags: q.msg.Flags, PacketClassifier: q.msg.PacketClassifier, Extra: q.msg.Objects}
}

// mayHaveMoved is RouteChange that has come down to the QNR. RFC 5974 §5.2.5.3
func (m *Machine) mayHaveMoved(s *session, i *wire.InfoSpec) {
	if s.last && s.up.mri.Upstream && i.Class == wire.ClassInformational && i.Code == wire.RouteChange {
		m.reinvite(s)
	}
}
