package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/internal/prefix"
)

// Route is a best path. What it refers to is shared: do not change it.
type Route struct {
	Prefix netip.Prefix
	// NextHop is the neighbour's border interface: the ingress. Not valid for a
	// prefix that this speaker originates.
	NextHop netip.Addr
	// ASPath is as received, neighbour first, members of sets in order.
	ASPath []uint32
	// NextAS is the first AS of the path; 0: the destination is in this AS.
	NextAS uint32
	// Local says that the destination is in this AS.
	Local bool
}

func (r *Route) equal(o *Route) bool {
	return r.NextHop == o.NextHop && r.Local == o.Local && slices.Equal(r.ASPath, o.ASPath)
}

// table is the best path of every prefix. Readers take a snapshot; there is one
// writer at a time. Between the two, changes wait in a map: what arrives while a
// batch is being applied makes up the next batch.
type table struct {
	snapshot atomic.Pointer[bart.Table[*Route]]

	pendingMu sync.Mutex
	pending   map[netip.Prefix]*Route // nil: withdrawn
	kick      chan struct{}           // holds one token while something is pending
}

func newTable() *table {
	t := &table{pending: map[netip.Prefix]*Route{}, kick: make(chan struct{}, 1)}
	t.snapshot.Store(new(bart.Table[*Route]))
	return t
}

// lookup is the longest match.
func (t *table) lookup(dst netip.Addr) (Route, bool) {
	r, ok := t.snapshot.Load().Lookup(dst.Unmap())
	if !ok {
		return Route{}, false
	}
	return *r, true
}

// every says whether ok holds for the best path of each address of p; nil is
// none.
func (t *table) every(p netip.Prefix, ok func(*Route) bool) (bool, error) {
	routes := t.snapshot.Load()
	divided := func(p netip.Prefix) bool {
		for q := range routes.Subnets(p) {
			if q != p {
				return true
			}
		}
		return false
	}
	return prefix.Every(p, maxRegions, divided, func(p netip.Prefix) (bool, error) {
		r, _ := routes.LookupPrefix(p)
		return ok(r), nil
	})
}

// maxRegions is how many parts with paths of their own a range may have.
const maxRegions = 256

// set notes a prefix's new best path, nil for none, to be applied.
func (t *table) set(p netip.Prefix, r *Route) {
	t.pendingMu.Lock()
	t.pending[p] = r
	t.pendingMu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// apply brings what is pending into a new snapshot and returns the prefixes whose
// route is another one than before.
func (t *table) apply() []netip.Prefix {
	t.pendingMu.Lock()
	batch := t.pending
	t.pending = make(map[netip.Prefix]*Route)
	t.pendingMu.Unlock()
	if len(batch) == 0 {
		return nil
	}

	old := t.snapshot.Load()
	changed := make([]netip.Prefix, 0, len(batch))
	for p, r := range batch {
		before, had := old.Get(p)
		if (r == nil && had) || (r != nil && (!had || !r.equal(before))) {
			changed = append(changed, p)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	next := old
	if len(changed) > old.Size()/256 { // one copy of all costs less than many of parts
		next = old.Clone()
		for _, p := range changed {
			if r := batch[p]; r == nil {
				next.Delete(p)
			} else {
				next.Insert(p, r)
			}
		}
	} else {
		for _, p := range changed {
			if r := batch[p]; r == nil {
				next = next.DeletePersist(p)
			} else {
				next = next.InsertPersist(p, r)
			}
		}
	}
	t.snapshot.Store(next)
	return changed
}
