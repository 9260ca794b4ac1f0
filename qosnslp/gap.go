package qosnslp

import (
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Routers between two QNEs that know nothing of QoS NSLP (RFC 5974 §3.3.5). GIST
// counts them: the difference of Original-TTL and IP-TTL is gist.RecvMessage's
// Distance.

// monitor sets BREAK in a received RESERVE, or QUERY with RESERVE-INIT, that has come
// past such routers: the IP-TTL "MUST be monitored. If they differ, it is RECOMMENDED
// to set the BREAK flag in newly generated messages". From here on it is as if the
// peer had set it. RFC 5974 §5.4.1, §5.4.2
//
// Not so where what is passed by "is able to provide QoS using other means": off the
// path the peers stand for their networks, and on the higher aggregation levels there
// is a session below.
func (m *Machine) monitor(r *Received, msg *wire.Message) {
	asks := msg.Type == wire.Reserve && !msg.Tears() || msg.Type == wire.Query && msg.MessageFlags&wire.ReserveInit != 0
	level, _ := Level(r.NSLPID)
	if !asks || r.Distance == 0 || r.MRI.Method != gistwire.PathCoupled || level > 0 || msg.Flags&wire.Break != 0 {
		return
	}
	msg.Flags |= wire.Break
	if msg.QSPEC != nil {
		m.note("gap", r.SID, r.Peer, "%d IP hops to the upstream peer that know nothing of QoS NSLP", r.Distance)
	}
}

// breaks has the session's messages carry BREAK from now on. It does not change
// s.also, which a transaction may have.
func (s *session) breaks() {
	if s.flags()&wire.Break != 0 {
		return
	}
	var a also
	if s.also != nil {
		a = *s.also
	}
	a.flags |= wire.Break
	s.also = &a
}
