// Package pathdb is an intra-domain controller over a configured topology: nodes,
// links with capacities, and which addresses are found at which node. A request
// takes the cheapest path from its ingress to its egress and books its rate on
// all links of it, over its time, or on none.
//
// It programs no device and answers before a verb returns.
package pathdb

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
)

// DB is a topology and what is booked on it.
type DB struct {
	mu    sync.Mutex
	book  *intradomain.Book
	nodes []node
	where bart.Table[int] // node of an address
	// paths remembers the cheapest paths found: the topology does not change.
	paths map[[2]int]*path
}

type node struct {
	name string
	out  []*link // in the order of the configuration
}

// link is one direction of a configured link.
type link struct {
	to      int
	cost    uint64
	total   *intradomain.Pool
	classes map[uint8]*intradomain.Pool
}

type path struct {
	links []*link
	// pools of a request of a class, made when first asked for.
	pools map[uint8][]*intradomain.Pool
}

// New returns a DB with nothing booked.
func New(c Config) (*DB, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	db := &DB{book: intradomain.NewBook(), paths: map[[2]int]*path{}}
	index := map[string]int{}
	for _, name := range c.Nodes {
		index[name] = len(db.nodes)
		db.nodes = append(db.nodes, node{name: name})
	}
	for i := range c.Links {
		l := &c.Links[i]
		db.addLink(index[l.A], index[l.B], l)
		db.addLink(index[l.B], index[l.A], l)
	}
	for _, a := range c.Attachments {
		db.where.Insert(a.Address, index[a.At])
	}
	return db, nil
}

func (db *DB) addLink(from, to int, c *LinkConfig) {
	name := fmt.Sprintf("link %s-%s", db.nodes[from].name, db.nodes[to].name)
	l := &link{to: to, cost: max(c.Cost, 1), total: &intradomain.Pool{Where: name, Capacity: c.Capacity}}
	for dscp, rate := range c.Classes {
		if l.classes == nil {
			l.classes = map[uint8]*intradomain.Pool{}
		}
		l.classes[dscp] = &intradomain.Pool{Where: fmt.Sprintf("%s class %d", name, dscp), Capacity: rate}
	}
	db.nodes[from].out = append(db.nodes[from].out, l)
}

// Hold books a request on its path.
//
// interdomain-qosm §8
func (db *DB) Hold(r intradomain.Request, done func(error)) { done(db.hold(r)) }

func (db *DB) hold(r intradomain.Request) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if has, err := db.book.Has(r.ID, r.Version); has || err != nil {
		return err
	}
	pools, err := db.pools(&r)
	if err != nil {
		return err
	}
	return db.book.Hold(r, pools)
}

// pools returns what a request takes from.
func (db *DB) pools(r *intradomain.Request) ([]*intradomain.Pool, error) {
	from, err := db.locate("ingress", r.Ingress, r.Flow.Source)
	if err != nil {
		return nil, err
	}
	to, err := db.locate("egress", r.Egress, r.Flow.Destination)
	if err != nil {
		return nil, err
	}
	p := db.path(from, to)
	if p == nil {
		return nil, &intradomain.Refusal{Where: db.nodes[from].name + " to " + db.nodes[to].name, Reason: "no path"}
	}
	pools, ok := p.pools[r.QoS.Class]
	if !ok {
		for _, l := range p.links {
			pools = append(pools, l.total)
			if class := l.classes[r.QoS.Class]; class != nil {
				pools = append(pools, class)
			}
		}
		p.pools[r.QoS.Class] = pools
	}
	return pools, nil
}

// locate finds the node of a border interface or, for a flow that begins or ends
// inside, of its address.
func (db *DB) locate(what string, border netip.Addr, inside netip.Prefix) (int, error) {
	at := border
	if !at.IsValid() {
		at = inside.Addr()
	}
	if n, ok := db.where.Lookup(at); at.IsValid() && ok {
		return n, nil
	}
	return 0, &intradomain.Refusal{Where: what, Reason: fmt.Sprintf("%v is attached to no node", at)}
}

// path returns the cheapest path, nil if there is none.
func (db *DB) path(from, to int) *path {
	p, ok := db.paths[[2]int{from, to}]
	if !ok {
		if links, found := db.shortest(from, to); found {
			p = &path{links: links, pools: map[uint8][]*intradomain.Pool{}}
		}
		db.paths[[2]int{from, to}] = p
	}
	return p
}

// shortest is Dijkstra's algorithm. Of several cheapest paths it takes that with
// the fewest links, and of those the one that came first.
func (db *DB) shortest(from, to int) ([]*link, bool) {
	type label struct {
		cost uint64
		hops int
		via  *link
		prev int
		done bool
	}
	labels := make([]label, len(db.nodes))
	for i := range labels {
		labels[i].cost = math.MaxUint64
	}
	labels[from].cost = 0
	queue := frontier{{node: from}}
	for len(queue) > 0 {
		at := heap.Pop(&queue).(reached)
		here := &labels[at.node]
		if here.done {
			continue
		}
		if here.done = true; at.node == to {
			break
		}
		for _, l := range db.nodes[at.node].out {
			next, cost, hops := &labels[l.to], here.cost+l.cost, here.hops+1
			if cost < next.cost || cost == next.cost && hops < next.hops {
				next.cost, next.hops, next.via, next.prev = cost, hops, l, at.node
				heap.Push(&queue, reached{l.to, cost, hops})
			}
		}
	}
	if !labels[to].done {
		return nil, false
	}
	var links []*link
	for n := to; n != from; n = labels[n].prev {
		links = append(links, labels[n].via)
	}
	slices.Reverse(links)
	return links, true
}

type reached struct {
	node int
	cost uint64
	hops int
}

type frontier []reached

func (f frontier) Len() int { return len(f) }
func (f frontier) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(f[i].cost, f[j].cost), cmp.Compare(f[i].hops, f[j].hops), cmp.Compare(f[i].node, f[j].node)) < 0
}
func (f frontier) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frontier) Push(x any)   { *f = append(*f, x.(reached)) }
func (f *frontier) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// Query tells what the path of a request has left.
func (db *DB) Query(r intradomain.Request, done func(uint64, error)) {
	db.mu.Lock()
	pools, err := db.pools(&r)
	rate := uint64(0)
	if err == nil {
		rate = min(db.book.Free(&r, pools), r.QoS.CIR)
	}
	db.mu.Unlock()
	done(rate, err)
}

// Commit makes a hold lasting.
func (db *DB) Commit(id intradomain.ID, version uint32, cir uint64, done func(error)) {
	db.mu.Lock()
	err := db.book.Commit(id, version, cir)
	db.mu.Unlock()
	done(err)
}

// Drop gives up a hold.
func (db *DB) Drop(id intradomain.ID, version uint32, done func(error)) {
	db.mu.Lock()
	db.book.Drop(id, version)
	db.mu.Unlock()
	done(nil)
}

// Release gives up all that a reservation has.
func (db *DB) Release(id intradomain.ID, done func(error)) {
	db.mu.Lock()
	db.book.Release(id)
	db.mu.Unlock()
	done(nil)
}

// List returns what is held or committed.
func (db *DB) List(done func([]intradomain.Held, error)) {
	db.mu.Lock()
	list := db.book.List()
	db.mu.Unlock()
	done(list, nil)
}

// Close does nothing: there is nothing to end.
func (db *DB) Close() error { return nil }

// LinkUse is a link's capacity and what is booked on it at its fullest, octets
// per second.
type LinkUse struct {
	Where            string
	Capacity, Booked uint64
}

// Links returns the use of every link, each direction by itself, and of every
// class limit, in the order of the configuration.
func (db *DB) Links() []LinkUse {
	db.mu.Lock()
	defer db.mu.Unlock()
	var uses []LinkUse
	add := func(p *intradomain.Pool) { uses = append(uses, LinkUse{p.Where, p.Capacity, p.Peak()}) }
	for i := range db.nodes {
		for _, l := range db.nodes[i].out {
			add(l.total)
			for dscp := range uint8(64) {
				if p := l.classes[dscp]; p != nil {
					add(p)
				}
			}
		}
	}
	return uses
}

// Path names the nodes on the way of a flow from one border interface, or
// address inside, to another.
func (db *DB) Path(ingress, egress netip.Addr, flow wire.Flow) ([]string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	from, err := db.locate("ingress", ingress, flow.Source)
	if err != nil {
		return nil, err
	}
	to, err := db.locate("egress", egress, flow.Destination)
	if err != nil {
		return nil, err
	}
	p := db.path(from, to)
	if p == nil {
		return nil, &intradomain.Refusal{Where: db.nodes[from].name + " to " + db.nodes[to].name, Reason: "no path"}
	}
	names := []string{db.nodes[from].name}
	for _, l := range p.links {
		names = append(names, db.nodes[l.to].name)
	}
	return names, nil
}

var _ intradomain.Controller = (*DB)(nil)
