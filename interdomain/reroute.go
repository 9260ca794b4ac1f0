package interdomain

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// reroute answers the question where a reservation that stands goes on now:
// "addresses are derived anew; the new path first" (interdomain-qosm §6). Only
// what is not as before is held: the way out, and this domain's own network from
// the old ingress to the new egress, at the rate that is committed. "One SID
// counts max(old, new) on an SLS that both paths share": the ledger and the driver
// see to that.
//
// RFC 5974 §5.2.5.2
func (m *Machine) reroute(now time.Time, s *session, q *qosnslp.Question) {
	stays := func(kind, detail string) {
		if kind != "" {
			m.note(kind, q.SID, detail)
		}
		m.do(Answer{qosnslp.Verdict{Ticket: q.Ticket, Accept: true, Unchanged: true}})
	}
	if s == nil || !s.committed || s.attempt != nil || s.release != nil {
		stays("", "")
		return
	}
	r, ok := m.cfg.Routes.Lookup(s.terms.Flow.Destination.Addr())
	if !ok {
		// As while a neighbour restarts: that says nothing of where it would go.
		stays("reroute-no-route", s.terms.Flow.Destination.String())
		return
	}
	if b := m.byNeighbor[r.NextHop]; r.Local == (s.downstream == 0) &&
		(r.Local || r.NextAS == s.downstream && r.NextHop == s.terms.NextIngress && b != nil && b.External == s.terms.Egress) {
		stays("", "")
		return
	}
	a := &attempt{
		serial: m.nextSerial(), ticket: q.Ticket, version: q.RSN,
		upstream: s.upstream, since: now, terms: s.terms, rerouted: true,
	}
	a.answers(q.Message)
	a.ask.flow = s.terms.Flow
	var err error
	if a.ask.local, err = qspec.Parse(q.Message.QSPEC); err != nil {
		stays("reroute-qspec", err.Error())
		return
	}
	a.terms.MinRate = a.terms.Rate // all of it, or the old path
	a.terms.Egress, a.terms.NextIngress, a.terms.SLSOut = netip.Addr{}, netip.Addr{}, ""
	s.attempt = a
	if no := m.leave(a, s.terms.Flow.Destination.Addr()); no != nil {
		m.refuse(now, s, a, no)
		return
	}
	switch {
	case a.downstream != 0:
		m.hold(s, a, sls.Outbound)
	case a.upstream != 0:
		m.hold(s, a, sls.Inbound) // the flow ends here now: the one leg that it has
	default:
		m.holdDriver(now, s, a)
	}
}

// legs are the bookings of the legs that an attempt has: a way that a changed
// route no longer uses is not kept.
func (a *attempt) legs(all []sls.Booking) []sls.Booking {
	kept := all[:0]
	for _, b := range all {
		if b.Leg == sls.Inbound && a.upstream != 0 || b.Leg == sls.Outbound && a.downstream != 0 {
			kept = append(kept, b)
		}
	}
	return kept
}

// dropLegs gives up the legs that what is committed now does not have any more.
func (m *Machine) dropLegs(s *session, a *attempt) {
	if s.downstream != 0 && a.downstream == 0 {
		m.do(SLSReleaseLeg{ID: slsID(s.sid), Leg: sls.Outbound})
	}
	if s.upstream != 0 && a.upstream == 0 {
		m.do(SLSReleaseLeg{ID: slsID(s.sid), Leg: sls.Inbound})
	}
}
