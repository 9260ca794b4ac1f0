package sls

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/internal/calendar"
)

// entry is an SLS in the ledger.
type entry struct {
	sls    SLS
	when   availability
	offers []*offer // as sls.Classes
	// The scope, where it has so many prefixes that looking at all takes long.
	destinations, sources *bart.Lite
}

// offer is one class of an SLS, and the account of what is sold of it.
type offer struct {
	terms    terms
	entry    *entry
	spec     ClassSpec
	capacity int64 // octets/s: CIR times over-subscription
	total    calendar.Calendar
	held     calendar.Calendar // the part of total that is not committed
	parts    *part             // what is sold, a list
	count    int
	changing int // of the parts, those held beside a committed one of their leg
}

func newEntry(s SLS) *entry {
	e := &entry{sls: s, when: newAvailability(&s), destinations: prefixTable(s.Destinations), sources: prefixTable(s.Sources)}
	for _, spec := range s.Classes {
		o := &offer{terms: termsOf(e, &spec), entry: e, spec: spec, capacity: int64(float64(spec.CIR) * s.Admission.Oversubscription)}
		e.offers = append(e.offers, o)
	}
	return e
}

func (e *entry) offer(c Class) *offer {
	for _, o := range e.offers {
		if o.spec.Class == c {
			return o
		}
	}
	return nil
}

// candidate is an offer that covers a request, and how closely.
type candidate struct {
	offer       *offer
	destination int16 // bits of the prefix of the scope that matched
	source      int16
	bound       int8 // interfaces that the SLS names
}

func interfacesBound(t *terms) (n int8) {
	if t.egress.IsValid() {
		n++
	}
	if t.ingress.IsValid() {
		n++
	}
	return n
}

// covers reports whether p contains all of q.
func covers(p, q netip.Prefix) bool {
	return q.IsValid() && p.Bits() <= q.Bits() && p.Contains(q.Addr())
}

// misfit is the first reason for which an offer does not cover a request.
type misfit uint8

const (
	fits misfit = iota
	otherPeers
	notActive
	otherEgress
	otherIngress
	otherDestination
	otherSource
	otherClass
	onlyRelative
	notRelative
	notOneFlow
)

// terms are what of an SLS decides whether an offer that was found by peers,
// class and destination covers a request, in one line of the processor's cache:
// among many SLSs nothing else costs as much as to fetch the next.
type terms struct {
	egress, ingress netip.Addr
	status          Status
	degree          Degree
	relative        bool
	anySource       bool
	repeats         bool // may be found by several prefixes
}

func termsOf(e *entry, c *ClassSpec) terms {
	s := &e.sls
	return terms{
		egress: s.Egress, ingress: s.Ingress, status: s.Status, degree: s.Degree, relative: c.Relative,
		anySource: len(s.Sources) == 0, repeats: len(s.Destinations) > 1 || len(s.Sources) > 1,
	}
}

// match reports whether an offer that was found by peers, class and destination
// covers a request, and how long the prefix is that covers the source, which may
// be known already.
func (o *offer) match(r *Request, source int16) (int16, bool) {
	t := &o.terms
	if t.status != Active || t.relative != r.Relative ||
		t.egress.IsValid() && t.egress != r.Egress || t.ingress.IsValid() && t.ingress != r.Ingress ||
		t.degree == PerFlow && !(r.Source.IsSingleIP() && r.Destination.IsSingleIP()) {
		return 0, false
	}
	switch {
	case t.anySource:
		source = 0
	case source == unknownSource:
		source = longest(o.entry.sls.Sources, o.entry.sources, r.Source)
	}
	return source, source >= 0
}

func (o *offer) classMisfit(r *Request) misfit {
	switch {
	case o.spec.Class != r.Class:
		return otherClass
	case o.spec.Relative && !r.Relative:
		return onlyRelative
	case !o.spec.Relative && r.Relative:
		return notRelative
	}
	return fits
}

// misfit checks everything but class, times, sizes and what is left.
func (e *entry) misfit(r *Request) misfit {
	if e.sls.Customer != r.Customer || e.sls.Provider != r.Provider {
		return otherPeers
	}
	if why := e.bindingMisfit(r); why != fits {
		return why
	}
	if longest(e.sls.Destinations, e.destinations, r.Destination) < 0 {
		return otherDestination
	}
	return e.sourceMisfit(r)
}

func (e *entry) bindingMisfit(r *Request) misfit {
	s := &e.sls
	switch {
	case s.Status != Active:
		return notActive
	case s.Egress.IsValid() && s.Egress != r.Egress:
		return otherEgress
	case s.Ingress.IsValid() && s.Ingress != r.Ingress:
		return otherIngress
	}
	return fits
}

func (e *entry) sourceMisfit(r *Request) misfit {
	switch {
	case longest(e.sls.Sources, e.sources, r.Source) < 0:
		return otherSource
	case e.sls.Degree == PerFlow && !(r.Source.IsSingleIP() && r.Destination.IsSingleIP()):
		return notOneFlow
	}
	return fits
}

// explain says in a sentence why an SLS does not cover a request, and "" if it
// does.
func (e *entry) explain(r *Request) string {
	why, o := e.misfit(r), e.offer(r.Class)
	if why == fits {
		why = otherClass
		if o != nil {
			why = o.classMisfit(r)
		}
	}
	s := &e.sls
	switch why {
	case otherPeers:
		return fmt.Sprintf("%s: is from AS%d to AS%d, not from AS%d to AS%d", s.ID, s.Customer, s.Provider, r.Customer, r.Provider)
	case notActive:
		return fmt.Sprintf("%s: is %s, not active", s.ID, s.Status)
	case otherEgress:
		return fmt.Sprintf("%s: is bound to egress %s, the request leaves by %s", s.ID, s.Egress, orUnknown(r.Egress.IsValid(), r.Egress))
	case otherIngress:
		return fmt.Sprintf("%s: is bound to ingress %s, the request enters by %s", s.ID, s.Ingress, orUnknown(r.Ingress.IsValid(), r.Ingress))
	case otherDestination:
		return fmt.Sprintf("%s: covers destinations %s, not %s", s.ID, join(s.Destinations), r.Destination)
	case otherSource:
		return fmt.Sprintf("%s: covers sources %s, not %s", s.ID, join(s.Sources), orUnknown(r.Source.IsValid(), r.Source))
	case otherClass:
		return fmt.Sprintf("%s: sells %s, not %s", s.ID, join(classesOf(s)), r.Class)
	case onlyRelative:
		return fmt.Sprintf("%s: sells %s only relatively, without a rate", s.ID, r.Class)
	case notRelative:
		return fmt.Sprintf("%s: sells %s only with a rate", s.ID, r.Class)
	case notOneFlow:
		return fmt.Sprintf("%s: is per flow, and %s to %s is not one flow", s.ID, orUnknown(r.Source.IsValid(), r.Source), r.Destination)
	}
	return ""
}

func orUnknown(known bool, v fmt.Stringer) string {
	if !known {
		return "one that is not known"
	}
	return v.String()
}

func classesOf(s *SLS) []Class {
	classes := make([]Class, len(s.Classes))
	for i, c := range s.Classes {
		classes[i] = c.Class
	}
	return classes
}

// join writes a list for people, the first few of it.
func join[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for i, v := range list {
		if i == 4 && len(list) > 5 {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.String())
	}
	return b.String()
}

// Fit is how one SLS stands to a request.
type Fit struct {
	SLS  string
	Fits bool   // it could serve the request, at Rate
	Rate uint64 // octets/s, at most what was asked
	Why  string // why it does not fit, or fits with less than asked
	// Largest is the rate in octets/s that it has for the times asked for, and
	// Earliest when the full rate is to be had for as long, both of an SLS that
	// covers the request without serving it in full; zero: none.
	Largest  uint64
	Earliest time.Time
}

// Match tells how every SLS stands to a request, without holding anything:
// those that cover it in the order in which Hold tries them, then the others by
// id, with the reason. It returns ErrRequest if the request makes no sense.
func (l *Ledger) Match(now time.Time, r Request) ([]Fit, error) {
	l.advance(now)
	if err := l.normalize(&r); err != nil {
		return nil, err
	}
	var all []Fit
	covering := make(map[*entry]bool)
	var old *part
	if res := l.byID[r.ID]; res != nil {
		old = res.committed[r.Leg]
	}
	for _, c := range l.index.candidates(nil, &r) {
		covering[c.offer.entry] = true
		all = append(all, l.fit(c.offer, &r, old))
	}
	for _, s := range l.sorted() {
		if e := l.slss[s]; !covering[e] {
			all = append(all, Fit{SLS: s, Why: e.explain(&r)})
		}
	}
	return all, nil
}

// fit tells how an offer that covers a request, whose intervals are in l.spans,
// stands to it.
func (l *Ledger) fit(o *offer, r *Request, old *part) Fit {
	q := l.quote(o, r, old)
	f := Fit{SLS: o.entry.sls.ID, Why: q.why.text(o, r, q.rate)}
	if f.Fits = q.serves(r); f.Fits {
		f.Rate = q.rate
	}
	if q.why != canServe {
		f.Largest = q.rate
		if at := l.earliest(o, r); at != forever {
			f.Earliest = time.Unix(at, 0).UTC()
		}
	}
	return f
}
