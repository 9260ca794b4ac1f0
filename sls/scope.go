package sls

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// peers is the pair of ASs between which an SLS stands.
type peers struct{ customer, provider uint32 }

// index finds the offers that a request can fit without looking at the others.
type index map[peers]*pair

// pair has the SLSs between two ASs: all, by id, and those of each class by
// destination.
type pair struct {
	entries []*entry
	scopes  map[Class]*bart.Table[*place]
}

// place has the offers with one destination. Where they are many they are also
// found by source.
type place struct {
	offers   []*offer
	bySource *bart.Table[[]*offer]
	first    [1]*offer // room for the only one
}

// manyPrefixes and manyOffers are from where on a table is faster than looking
// at each.
const (
	manyPrefixes = 16
	manyOffers   = 16
)

var (
	any4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	any6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	both = []netip.Prefix{any4, any6}
)

// orAny returns the prefixes under which a list is found: that of no prefixes
// under all.
func orAny(list []netip.Prefix) []netip.Prefix {
	if len(list) == 0 {
		return both
	}
	return list
}

func (x index) insert(e *entry) {
	key := peers{e.sls.Customer, e.sls.Provider}
	p := x[key]
	if p == nil {
		p = &pair{scopes: make(map[Class]*bart.Table[*place])}
		x[key] = p
	}
	at, _ := slices.BinarySearchFunc(p.entries, e.sls.ID, compareID)
	p.entries = slices.Insert(p.entries, at, e)
	for _, o := range e.offers {
		t := p.scopes[o.spec.Class]
		if t == nil {
			t = new(bart.Table[*place])
			p.scopes[o.spec.Class] = t
		}
		for _, d := range orAny(e.sls.Destinations) {
			t.Modify(d, func(at *place, _ bool) (*place, bool) {
				if at == nil {
					at = new(place)
				}
				at.insert(o)
				return at, false
			})
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
		for _, d := range orAny(e.sls.Destinations) {
			t.Modify(d, func(at *place, _ bool) (*place, bool) {
				at.remove(o)
				return at, len(at.offers) == 0
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

func (at *place) insert(o *offer) {
	if at.offers == nil {
		at.offers = at.first[:0]
	}
	at.offers = append(at.offers, o)
	switch {
	case at.bySource != nil:
		at.file(o)
	case len(at.offers) > manyOffers:
		at.bySource = new(bart.Table[[]*offer])
		for _, o := range at.offers {
			at.file(o)
		}
	}
}

func (at *place) file(o *offer) {
	for _, source := range orAny(o.entry.sls.Sources) {
		at.bySource.Modify(source, func(list []*offer, _ bool) ([]*offer, bool) { return append(list, o), false })
	}
}

func (at *place) remove(o *offer) {
	other := func(p *offer) bool { return p == o }
	at.offers = slices.DeleteFunc(at.offers, other)
	if at.bySource == nil {
		return
	}
	if len(at.offers) <= manyOffers/2 {
		at.bySource = nil
		return
	}
	for _, source := range orAny(o.entry.sls.Sources) {
		at.bySource.Modify(source, func(list []*offer, _ bool) ([]*offer, bool) {
			list = slices.DeleteFunc(list, other)
			return list, len(list) == 0
		})
	}
}

// unknownSource: how long the prefix is that covers the source is not known yet.
const unknownSource = -2

// from yields the offers that a source can fit, and how long the prefix is that
// covers it; one may come again with a shorter one.
func (at *place) from(source netip.Prefix) iter.Seq2[*offer, int16] {
	return func(yield func(*offer, int16) bool) {
		if at.bySource == nil {
			for _, o := range at.offers {
				if !yield(o, unknownSource) {
					return
				}
			}
			return
		}
		bits := func(p netip.Prefix) int16 { return int16(p.Bits()) }
		if !source.IsValid() { // fits any source, and nothing else
			source = any4
			bits = func(netip.Prefix) int16 { return unknownSource }
		}
		for p, list := range at.bySource.Supernets(source) {
			for _, o := range list {
				if !yield(o, bits(p)) {
					return
				}
			}
		}
	}
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
	ok := false
	for prefix, at := range t.Supernets(r.Destination) {
		for o, source := range at.from(r.Source) {
			if source, ok = o.match(r, source); !ok || o.terms.repeats && found(list, o) {
				continue // what was found before is by a longer prefix
			}
			list = append(list, candidate{offer: o, destination: int16(prefix.Bits()), source: source, bound: interfacesBound(&o.terms)})
		}
	}
	if len(list) > 1 {
		slices.SortFunc(list, compareCandidates)
	}
	return list
}

// compareCandidates puts what Hold tries first before the others.
func compareCandidates(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(b.destination, a.destination), cmp.Compare(b.source, a.source),
		cmp.Compare(b.bound, a.bound), cmp.Compare(a.offer.entry.sls.ID, b.offer.entry.sls.ID))
}

func found(list []candidate, o *offer) bool {
	return slices.ContainsFunc(list, func(c candidate) bool { return c.offer == o })
}

// prefixTable returns a table of many prefixes, and nil for few.
func prefixTable(list []netip.Prefix) *bart.Lite {
	if len(list) <= manyPrefixes {
		return nil
	}
	t := new(bart.Lite)
	for _, p := range list {
		t.Insert(p)
	}
	return t
}

// longest returns the length of the longest of the prefixes that covers q: 0 if
// there are no prefixes, for that is any; -1 if none covers it. table has the
// same prefixes, if they are many.
func longest(list []netip.Prefix, table *bart.Lite, q netip.Prefix) int16 {
	best := int16(-1)
	switch {
	case len(list) == 0:
		return 0
	case table != nil:
		if p, ok := table.LookupPrefixLPM(q); ok {
			best = int16(p.Bits())
		}
	default:
		for _, p := range list {
			if covers(p, q) {
				best = max(best, int16(p.Bits()))
			}
		}
	}
	return best
}
