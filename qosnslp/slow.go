package qosnslp

import "time"

// Bookings are soft state too, and long-lived ones: "first period 30 s, then up to 1
// h" (interdomain-qosm §6). After each refresh the period doubles, up to what the
// layer above has said; each tells the next peer how long it now has to wait. A full
// RESERVE begins again with R: it may go to another peer, or one that has restarted.
//
// RFC 5974 §5.3.4

// sessionPeriod is the refresh period of a session in milliseconds, as its peer knows it.
func (m *Machine) sessionPeriod(s *session) uint32 { return max(s.period, m.ownPeriod()) }

// slower doubles it.
func (m *Machine) slower(s *session) {
	if own := m.ownPeriod(); s.mostPeriod > own {
		s.period = min(2*max(s.period, own), s.mostPeriod)
	}
}

func (m *Machine) setMostPeriod(s *session, d time.Duration) {
	s.period, s.mostPeriod = 0, uint32(min(d, maxPeriod)/time.Millisecond)
}
