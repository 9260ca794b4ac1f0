// Package soft is a data plane in user space that needs no privileges: it
// forwards whole IPv4 and IPv6 packets, each carried in one UDP datagram (a
// "wire"), from a network-side socket to the access wire of the subscriber to
// whom the packet is addressed. Inside, the packets keep their own addresses.
//
// What it does with a packet says package dataplane. It forwards downstream, to
// the subscriber; upstream is not there yet. It is a step on a wire and no
// router: it does not count the TTL down. Packets that it cannot judge (short,
// fragments, options, extension headers) are dropped and counted by reason.
//
// Packets find their entry without a lock in tables that never change: a Change
// builds new ones beside them, sharing what stays, and swaps a pointer. What a
// packet does change, buckets and counters, belongs to its subscriber and is
// under that subscriber's lock.
package soft

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/dataplane"
)

// maxShapes bounds the number of different shapes of match: a packet is looked
// up once for each.
const maxShapes = 64

// Plane is the forwarding table with its meters. Sockets are Wire's.
type Plane struct {
	clock func() int64
	tab   atomic.Pointer[tables]
	// change is held from Begin to Commit or Abort.
	change sync.Mutex
	drops  [reasons]counter
}

type counter struct{ packets, octets atomic.Uint64 }

// tables is one state of the plane. Nothing in it changes once it is published.
type tables struct {
	subs     pmap[dataplane.ID, *subscriber]
	loads    pmap[dataplane.ID, load]
	flows    pmap[dataplane.ID, *flow]
	prefixes *bart.Table[*subscriber]
	shapes   []shape // most specific first
}

// load is what a subscriber's flows reserve.
type load struct {
	flows    int
	reserved uint64 // sum of CIR, octets per second
}

// shape is a table of the matches that leave out the same parts.
type shape struct {
	mask  mask
	table pmap[key, *flow]
}

// mask says which parts of a packet a match looks at.
type mask struct {
	v6                      bool
	srcBits, dstBits        uint8
	proto, srcPort, dstPort bool
}

// subscriber is one version of an entry; account is what lasts.
type subscriber struct {
	dataplane.Subscriber
	wire *net.UDPAddr
	*account
}

// account is a subscriber's buckets and counters. Its lock is for those of its
// flows too.
type account struct {
	mu       sync.Mutex
	meter    dataplane.Meter
	counters dataplane.Counters
}

// flow is one version of an entry; usage is what lasts.
type flow struct {
	dataplane.Flow
	sub *subscriber
	*usage
}

// usage is a flow's buckets and counters, under its subscriber's lock.
type usage struct {
	meter    dataplane.Meter
	counters dataplane.Counters
}

// New returns an empty plane. clock gives nanoseconds and does not go back.
func New(clock func() int64) *Plane {
	p := &Plane{clock: clock}
	p.tab.Store(&tables{prefixes: new(bart.Table[*subscriber])})
	return p
}

// Verdict is what becomes of a packet.
type Verdict struct {
	Reason Reason // Forwarded: send it to Wire
	Color  dataplane.Color
	Wire   *net.UDPAddr
}

// Process decides about the packet b at a time (of the plane's clock), and
// changes its DSCP if it has to.
func (p *Plane) Process(now int64, b []byte) Verdict {
	var pkt packet
	v := Verdict{Reason: parse(b, &pkt)}
	if v.Reason == Forwarded {
		t := p.tab.Load()
		if f := t.classify(&pkt); f != nil {
			v = f.police(now, b, pkt.dscp)
		} else if s, ok := t.prefixes.Lookup(pkt.destination()); ok {
			v = s.police(now, b, pkt.dscp)
		} else {
			v.Reason = NoSubscriber
		}
	}
	if v.Reason != Forwarded {
		p.drops[v.Reason].add(1, len(b))
	}
	return v
}

func (k *key) destination() netip.Addr {
	if k.v6 {
		return netip.AddrFrom16(k.dst)
	}
	return netip.AddrFrom4([4]byte(k.dst[:4]))
}

// classify returns the flow with the most specific match.
func (t *tables) classify(p *packet) *flow {
	for i := range t.shapes {
		s := &t.shapes[i]
		if s.mask.v6 != p.v6 {
			continue
		}
		k := p.key
		s.mask.apply(&k)
		if f, ok := s.table.get(k); ok {
			return f
		}
	}
	return nil
}

func (m *mask) apply(k *key) {
	maskBits(&k.src, m.srcBits)
	maskBits(&k.dst, m.dstBits)
	if !m.proto {
		k.proto = 0
	}
	if !m.srcPort {
		k.srcPort = 0
	}
	if !m.dstPort {
		k.dstPort = 0
	}
}

func maskBits(a *[16]byte, n uint8) {
	at := int(n) / 8
	if rest := n % 8; rest != 0 {
		a[at] &= 0xff << (8 - rest)
		at++
	}
	clear(a[at:])
}

// police meters a packet that belongs to no flow.
func (s *subscriber) police(now int64, b []byte, dscp uint8) Verdict {
	s.mu.Lock()
	v := s.admit(now, len(b))
	s.mu.Unlock()
	if v.Reason == Forwarded {
		mark(b, dscp, s.Mark)
		if v.Color == dataplane.Yellow && s.Excess == dataplane.ExcessRemark {
			mark(b, dscp, dataplane.Marking{Set: true, DSCP: s.ExcessDSCP})
		}
	}
	return v
}

// admit meters what has to find its octets in the subscriber's buckets.
func (s *subscriber) admit(now int64, size int) Verdict {
	v := Verdict{Wire: s.wire, Color: s.account.meter.Color(&s.Policer, now, size)}
	if v.Color == dataplane.Red || v.Color == dataplane.Yellow && s.Excess == dataplane.ExcessDrop {
		v.Reason = Policed
	}
	count(&s.account.counters, v, size)
	return v
}

// police meters a packet of the flow. Whatever is not green is excess.
//
// RFC 5975 §5.2.11
func (f *flow) police(now int64, b []byte, dscp uint8) Verdict {
	s := f.sub
	pre := dataplane.Green
	if f.ColorAware {
		pre = dataplane.Precolor(dscp)
	}
	v := Verdict{Wire: s.wire}
	s.mu.Lock()
	v.Color = f.usage.meter.ColorAware(&f.Policer, now, len(b), pre)
	switch {
	case v.Color == dataplane.Green:
		s.account.meter.Charge(&s.Policer, now, len(b))
		count(&s.account.counters, v, len(b))
	case f.Excess == dataplane.ExcessDrop:
		v.Reason = Policed
		count(&s.account.counters, v, len(b))
	default:
		v.Reason = s.admit(now, len(b)).Reason
	}
	count(&f.usage.counters, v, len(b))
	s.mu.Unlock()
	switch {
	case v.Reason != Forwarded:
	case v.Color == dataplane.Green, f.Excess == dataplane.ExcessForward:
		mark(b, dscp, f.Mark)
	default:
		mark(b, dscp, dataplane.Marking{Set: true, DSCP: f.ExcessDSCP})
	}
	return v
}

func mark(b []byte, dscp uint8, m dataplane.Marking) {
	if m.Set && m.DSCP != dscp {
		setDSCP(b, m.DSCP)
	}
}

func count(c *dataplane.Counters, v Verdict, size int) {
	add := func(n *dataplane.Count) {
		n.Packets++
		n.Octets += uint64(size)
	}
	switch v.Color {
	case dataplane.Green:
		add(&c.Green)
	case dataplane.Yellow:
		add(&c.Yellow)
	case dataplane.Red:
		add(&c.Red)
	}
	if v.Reason != Forwarded {
		add(&c.Dropped)
	}
}

// Drops returns how many packets a reason dropped since the start.
func (p *Plane) Drops(r Reason) dataplane.Count {
	if r >= reasons {
		return dataplane.Count{}
	}
	return dataplane.Count{Packets: p.drops[r].packets.Load(), Octets: p.drops[r].octets.Load()}
}

// Reasons lists every reason for which a packet may be dropped.
func Reasons() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := Forwarded + 1; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// Subscribers lists the subscribers in order of ID.
func (p *Plane) Subscribers() []dataplane.SubscriberEntry {
	t := p.tab.Load()
	list := make([]dataplane.SubscriberEntry, 0, t.subs.size)
	for _, s := range t.subs.all() {
		s.mu.Lock()
		list = append(list, dataplane.SubscriberEntry{Subscriber: s.Subscriber, Counters: s.account.counters})
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b dataplane.SubscriberEntry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// Flows lists the flows in order of ID.
func (p *Plane) Flows() []dataplane.FlowEntry {
	t := p.tab.Load()
	list := make([]dataplane.FlowEntry, 0, t.flows.size)
	for _, f := range t.flows.all() {
		f.sub.mu.Lock()
		list = append(list, dataplane.FlowEntry{Flow: f.Flow, Counters: f.usage.counters})
		f.sub.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b dataplane.FlowEntry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// Size returns how many subscribers and flows there are.
func (p *Plane) Size() (subscribers, flows int) {
	t := p.tab.Load()
	return t.subs.size, t.flows.size
}

// Counters returns those of a flow or a subscriber.
func (p *Plane) Counters(id dataplane.ID) (dataplane.Counters, bool) {
	t := p.tab.Load()
	if f, ok := t.flows.get(id); ok {
		f.sub.mu.Lock()
		defer f.sub.mu.Unlock()
		return f.usage.counters, true
	}
	if s, ok := t.subs.get(id); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.account.counters, true
	}
	return dataplane.Counters{}, false
}

// Close does nothing: a plane without a Wire forwards nothing.
func (p *Plane) Close() error { return nil }

var _ dataplane.Plane = (*Plane)(nil)
