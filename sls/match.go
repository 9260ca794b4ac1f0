package sls

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
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
}

// offer is one class of an SLS, and the account of what is sold of it.
type offer struct {
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
	e := &entry{sls: s, when: newAvailability(&s)}
	for _, spec := range s.Classes {
		o := &offer{entry: e, spec: spec, capacity: int64(float64(spec.CIR) * s.Admission.Oversubscription)}
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

// peers is the pair of ASs between which an SLS stands.
type peers struct{ customer, provider uint32 }

// index finds the offers that a request can fit without looking at the others.
type index map[peers]*pair

// pair has the SLSs between two ASs: all, by id, and those of each class by
// destination.
type pair struct {
	entries []*entry
	scopes  map[Class]*bart.Table[[]*offer]
}

var (
	any4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	any6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// destinations returns the prefixes under which an SLS is found.
func (s *SLS) destinations() []netip.Prefix {
	if len(s.Destinations) == 0 {
		return []netip.Prefix{any4, any6}
	}
	return s.Destinations
}

func (x index) insert(e *entry) {
	key := peers{e.sls.Customer, e.sls.Provider}
	p := x[key]
	if p == nil {
		p = &pair{scopes: make(map[Class]*bart.Table[[]*offer])}
		x[key] = p
	}
	at, _ := slices.BinarySearchFunc(p.entries, e.sls.ID, compareID)
	p.entries = slices.Insert(p.entries, at, e)
	for _, o := range e.offers {
		t := p.scopes[o.spec.Class]
		if t == nil {
			t = new(bart.Table[[]*offer])
			p.scopes[o.spec.Class] = t
		}
		for _, d := range e.sls.destinations() {
			t.Modify(d, func(list []*offer, _ bool) ([]*offer, bool) { return append(list, o), false })
		}
	}
}

func (x index) remove(e *entry) {
	key := peers{e.sls.Customer, e.sls.Provider}
	p := x[key]
	if p == nil {
		return
	}
	if at, ok := slices.BinarySearchFunc(p.entries, e.sls.ID, compareID); ok {
		p.entries = slices.Delete(p.entries, at, at+1)
	}
	for _, o := range e.offers {
		t := p.scopes[o.spec.Class]
		for _, d := range e.sls.destinations() {
			t.Modify(d, func(list []*offer, _ bool) ([]*offer, bool) {
				list = slices.DeleteFunc(list, func(other *offer) bool { return other == o })
				return list, len(list) == 0
			})
		}
		if t.Size() == 0 {
			delete(p.scopes, o.spec.Class)
		}
	}
	if len(p.entries) == 0 {
		delete(x, key)
	}
}

func compareID(e *entry, id string) int { return cmp.Compare(e.sls.ID, id) }

// candidate is an offer that covers a request, and how closely.
type candidate struct {
	offer       *offer
	destination int16 // bits of the prefix of the scope that matched
	source      int16
	bound       int8 // interfaces that the SLS names
}

// candidates appends the offers that cover a request, whatever they have left,
// to list: the most specific destination first, then the most specific source,
// then the one bound to interfaces, then by id.
func (x index) candidates(list []candidate, r *Request) []candidate {
	p := x[peers{r.Customer, r.Provider}]
	if p == nil {
		return list
	}
	t := p.scopes[r.Class]
	if t == nil {
		return list
	}
	for prefix, offers := range t.Supernets(r.Destination) {
		for _, o := range offers {
			if o.misfit(r) != fits || len(o.entry.sls.Destinations) > 1 && found(list, o) {
				continue // what was found before is by a longer prefix
			}
			list = append(list, candidate{
				offer: o, destination: int16(prefix.Bits()), source: sourceBits(o.entry.sls.Sources, r.Source),
				bound: interfacesBound(&o.entry.sls),
			})
		}
	}
	if len(list) > 1 {
		slices.SortFunc(list, func(a, b candidate) int {
			return cmp.Or(
				cmp.Compare(b.destination, a.destination), cmp.Compare(b.source, a.source),
				cmp.Compare(b.bound, a.bound), cmp.Compare(a.offer.entry.sls.ID, b.offer.entry.sls.ID))
		})
	}
	return list
}

func found(list []candidate, o *offer) bool {
	return slices.ContainsFunc(list, func(c candidate) bool { return c.offer == o })
}

func interfacesBound(s *SLS) (n int8) {
	if s.Egress.IsValid() {
		n++
	}
	if s.Ingress.IsValid() {
		n++
	}
	return n
}

// sourceBits returns the length of the longest of the prefixes that covers
// source: 0 if there are no prefixes, for that is any; -1 if none covers it.
func sourceBits(sources []netip.Prefix, source netip.Prefix) int16 {
	if len(sources) == 0 {
		return 0
	}
	best := int16(-1)
	for _, p := range sources {
		if covers(p, source) {
			best = max(best, int16(p.Bits()))
		}
	}
	return best
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

// misfit checks everything but times, sizes and what is left.
func (o *offer) misfit(r *Request) misfit {
	if why := o.entry.misfit(r); why != fits {
		return why
	}
	return o.classMisfit(r)
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

func (e *entry) misfit(r *Request) misfit {
	s := &e.sls
	switch {
	case s.Customer != r.Customer || s.Provider != r.Provider:
		return otherPeers
	case s.Status != Active:
		return notActive
	case s.Egress.IsValid() && s.Egress != r.Egress:
		return otherEgress
	case s.Ingress.IsValid() && s.Ingress != r.Ingress:
		return otherIngress
	case len(s.Destinations) > 0 && !slices.ContainsFunc(s.Destinations, func(p netip.Prefix) bool { return covers(p, r.Destination) }):
		return otherDestination
	case sourceBits(s.Sources, r.Source) < 0:
		return otherSource
	case s.Degree == PerFlow && !(r.Source.IsSingleIP() && r.Destination.IsSingleIP()):
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
		q := l.quote(c.offer, &r, old)
		f := Fit{SLS: c.offer.entry.sls.ID, Why: q.why.text(c.offer, &r, q.rate)}
		if f.Fits = q.serves(&r); f.Fits {
			f.Rate = q.rate
		}
		all = append(all, f)
	}
	for _, s := range l.sorted() {
		if e := l.slss[s]; !covering[e] {
			all = append(all, Fit{SLS: s, Why: e.explain(&r)})
		}
	}
	return all, nil
}
