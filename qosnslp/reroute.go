package qosnslp

import "github.com/interqos/interqos/gist"

// notified is GIST's NetworkNotification. RFC 5974 §3.2.12
func (m *Machine) notified(n *gist.NetworkNotification) {
	s := m.sessions[n.SID]
	if s == nil || s.nslpid != n.NSLPID || s.state != installed {
		return
	}
	if s.hasDown() && n.MRI == s.down.mri && (n.Type != gist.RoutingStatusChange || n.Status != gist.Good || n.SII != s.down.sii) {
		m.doubted(s)
	}
	if n.Type != gist.RoutingStatusChange || n.Status != gist.Good {
		m.note("gist-notification", n.SID, Local, "type %d status %d: rerouting is not implemented yet", n.Type, n.Status)
	}
}
