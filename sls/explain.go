package sls

import (
	"net/netip"
	"slices"
	"time"
)

// Question asks which SLS would serve a request that nobody has made yet. What
// it leaves open fits every SLS, other than in a Request, where it is something
// that is not known.
type Question struct {
	Source, Destination netip.Prefix // a zero Source: any
	Customer, Provider  uint32       // AS numbers; zero: any
	Egress, Ingress     netip.Addr   // border interfaces; zero: any

	Class               Class
	Relative            bool
	Rate, MinRate, Peak uint64 // octets/s, as in a Request
	Priority            uint8
	Intervals           []Interval
	Limit               int // of SLSs that do not cover the request in the answer; zero: all
}

// Answer says how the SLSs stand to a Question.
type Answer struct {
	// Covering are the SLSs that cover it, in the order in which Hold tries
	// those between the same peers.
	Covering []Fit
	// Others are those that do not, by id, each with the reason.
	Others []Fit
	More   int // others beyond the limit
}

// Explain answers a Question; nothing is held. Of the SLSs that cover it the
// first that Fits with the full rate would serve it, or else the one that Fits
// with most. It looks at every SLS. It returns ErrRequest if the question makes
// no sense.
func (l *Ledger) Explain(now time.Time, q Question) (Answer, error) {
	l.advance(now)
	r := Request{
		Customer: q.Customer, Provider: q.Provider, Egress: q.Egress, Ingress: q.Ingress, Source: q.Source, Destination: q.Destination,
		Class: q.Class, Relative: q.Relative, Rate: q.Rate, MinRate: q.MinRate, Peak: q.Peak, Priority: q.Priority, Intervals: q.Intervals,
	}
	if err := l.normalize(&r); err != nil {
		return Answer{}, err
	}
	var covering []candidate
	var others []*entry
	for _, e := range l.slss {
		as := q.as(&r, &e.sls)
		if o := e.offer(r.Class); o != nil && e.misfit(&as) == fits && o.classMisfit(&as) == fits {
			covering = append(covering, candidate{
				offer: o, destination: longest(e.sls.Destinations, e.destinations, as.Destination),
				source: longest(e.sls.Sources, e.sources, as.Source), bound: interfacesBound(&o.terms),
			})
			continue
		}
		others = append(others, e)
	}
	slices.SortFunc(covering, compareCandidates)
	slices.SortFunc(others, func(a, b *entry) int { return compareID(a, b.sls.ID) })
	var a Answer
	for _, c := range covering {
		as := q.as(&r, &c.offer.entry.sls)
		a.Covering = append(a.Covering, l.fit(c.offer, &as, nil))
	}
	if q.Limit > 0 && len(others) > q.Limit {
		a.More = len(others) - q.Limit
		others = others[:q.Limit]
	}
	for _, e := range others {
		as := q.as(&r, &e.sls)
		a.Others = append(a.Others, Fit{SLS: e.sls.ID, Why: e.explain(&as)})
	}
	return a, nil
}

// as returns the request with what the question leaves open as an SLS has it.
func (q *Question) as(r *Request, s *SLS) Request {
	as := *r
	if q.Customer == 0 {
		as.Customer = s.Customer
	}
	if q.Provider == 0 {
		as.Provider = s.Provider
	}
	if !q.Egress.IsValid() {
		as.Egress = s.Egress
	}
	if !q.Ingress.IsValid() {
		as.Ingress = s.Ingress
	}
	if !q.Source.IsValid() && len(s.Sources) > 0 {
		for _, p := range s.Sources {
			if p.Addr().Is4() == as.Destination.Addr().Is4() {
				as.Source = p
				break
			}
		}
	}
	if !q.Source.IsValid() && s.Degree == PerFlow && as.Destination.IsSingleIP() {
		// Some single address of it.
		switch {
		case as.Source.IsValid():
			as.Source = netip.PrefixFrom(as.Source.Addr(), as.Source.Addr().BitLen())
		case as.Destination.Addr().Is4():
			as.Source = netip.PrefixFrom(any4.Addr(), 32)
		default:
			as.Source = netip.PrefixFrom(any6.Addr(), 128)
		}
	}
	return as
}

// Best returns the place in Covering of the SLS that would serve the question,
// which asked for rate; -1: none would.
func (a *Answer) Best(rate uint64) int {
	best := -1
	for i, f := range a.Covering {
		switch {
		case f.Fits && f.Rate == rate:
			return i
		case f.Fits && (best < 0 || f.Rate > a.Covering[best].Rate):
			best = i
		}
	}
	return best
}
