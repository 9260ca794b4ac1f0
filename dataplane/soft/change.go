package soft

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/dataplane"
)

// change builds the plane's next tables. An Update works on a copy of the
// struct, under an owner of its own, and replaces it only when all went well.
type change struct {
	plane *Plane
	next  tables
}

// Begin starts a change.
func (p *Plane) Begin() dataplane.Change {
	p.change.Lock()
	return &change{plane: p, next: *p.tab.Load()}
}

// Commit swaps the tables: packets see all of the change from the next one on.
func (c *change) Commit() error {
	c.plane.tab.Store(&c.next)
	c.plane.change.Unlock()
	return nil
}

// Abort forgets the change.
func (c *change) Abort() { c.plane.change.Unlock() }

// Update adds an update to the change, or refuses it and stays as it was.
func (c *change) Update(u dataplane.Update) error {
	e := edit{tables: c.next, own: new(owner), now: c.plane.clock()}
	e.shapes = slices.Clone(e.shapes)
	if err := e.apply(&u); err != nil {
		return err
	}
	c.next = e.tables
	return nil
}

type edit struct {
	tables
	own *owner
	now int64
	// grown lists the subscribers whose reserved rate must be checked.
	grown []dataplane.ID
}

func (e *edit) apply(u *dataplane.Update) error {
	for _, id := range u.DeleteFlows {
		e.deleteFlow(id)
	}
	for _, id := range u.DeleteSubscribers {
		if err := e.deleteSubscriber(id); err != nil {
			return fmt.Errorf("subscriber %x: %w", id, err)
		}
	}
	for i := range u.PutSubscribers {
		s := &u.PutSubscribers[i]
		if err := e.putSubscriber(s); err != nil {
			return fmt.Errorf("subscriber %q: %w", s.Name, err)
		}
	}
	for i := range u.PutFlows {
		f := &u.PutFlows[i]
		if err := e.putFlow(f); err != nil {
			return fmt.Errorf("flow %x: %w", f.ID, err)
		}
	}
	for _, id := range e.grown {
		s, ok := e.subs.get(id)
		if l, _ := e.loads.get(id); ok && l.reserved > s.Policer.CIR {
			return fmt.Errorf("subscriber %q: %d octets/s of %d: %w", s.Name, l.reserved, s.Policer.CIR, dataplane.ErrOverCommitted)
		}
	}
	return nil
}

func (e *edit) putSubscriber(s *dataplane.Subscriber) error {
	if err := s.Policer.Check(); err != nil {
		return err
	}
	if len(s.Prefixes) == 0 || !s.Wire.IsValid() || max(s.Mark.DSCP, s.ExcessDSCP) > 63 || s.Excess > dataplane.ExcessForward {
		return fmt.Errorf("prefixes %v, wire %v, DSCPs %d and %d, excess %d: %w", s.Prefixes, s.Wire, s.Mark.DSCP, s.ExcessDSCP, s.Excess, dataplane.ErrInvalid)
	}
	entry := &subscriber{Subscriber: *s, wire: net.UDPAddrFromAddrPort(s.Wire)}
	entry.Prefixes = slices.Clone(s.Prefixes)
	was, had := e.subs.get(s.ID)
	if had {
		entry.account = was.account
		for _, prefix := range was.Prefixes {
			e.prefixes = e.prefixes.DeletePersist(prefix)
		}
	} else {
		entry.account = &account{meter: dataplane.NewMeter(s.Policer, e.now)}
	}
	for _, prefix := range s.Prefixes {
		if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
			return fmt.Errorf("prefix %v: %w", prefix, dataplane.ErrInvalid)
		}
		if other, ok := e.prefixes.Get(prefix); ok {
			return fmt.Errorf("prefix %v is %q's: %w", prefix, other.Name, dataplane.ErrConflict)
		}
		e.prefixes = e.prefixes.InsertPersist(prefix, entry)
	}
	e.subs = e.subs.set(e.own, s.ID, entry)
	e.grown = append(e.grown, s.ID)
	if had {
		return e.moveFlows(entry)
	}
	return nil
}

// moveFlows makes the subscriber's flows refer to its new version.
func (e *edit) moveFlows(s *subscriber) error {
	if l, _ := e.loads.get(s.ID); l.flows == 0 {
		return nil
	}
	var mine []*flow
	for _, f := range e.flows.all() {
		if f.Subscriber == s.ID {
			mine = append(mine, f)
		}
	}
	for _, f := range mine {
		if err := e.putFlow(&f.Flow); err != nil {
			return fmt.Errorf("flow %x: %w", f.ID, err)
		}
	}
	return nil
}

func (e *edit) deleteSubscriber(id dataplane.ID) error {
	s, ok := e.subs.get(id)
	if !ok {
		return nil
	}
	if l, _ := e.loads.get(id); l.flows > 0 {
		return fmt.Errorf("it has %d flows: %w", l.flows, dataplane.ErrConflict)
	}
	for _, prefix := range s.Prefixes {
		e.prefixes = e.prefixes.DeletePersist(prefix)
	}
	e.subs = e.subs.del(e.own, id)
	e.loads = e.loads.del(e.own, id)
	return nil
}

func (e *edit) putFlow(f *dataplane.Flow) error {
	s, ok := e.subs.get(f.Subscriber)
	if !ok {
		return fmt.Errorf("its subscriber %x: %w", f.Subscriber, dataplane.ErrNotFound)
	}
	if err := f.Policer.Check(); err != nil {
		return err
	}
	if len(f.Matches) == 0 || max(f.Mark.DSCP, f.ExcessDSCP) > 63 || f.Excess > dataplane.ExcessForward {
		return fmt.Errorf("%d matches, DSCPs %d and %d, excess %d: %w", len(f.Matches), f.Mark.DSCP, f.ExcessDSCP, f.Excess, dataplane.ErrInvalid)
	}
	entry := &flow{Flow: *f, sub: s}
	entry.Matches = slices.Clone(f.Matches)
	if was, had := e.flows.get(f.ID); had && was.Subscriber == f.Subscriber {
		entry.usage = was.usage
	} else {
		entry.usage = &usage{meter: dataplane.NewMeter(f.Policer, e.now)}
	}
	e.deleteFlow(f.ID)
	for i := range entry.Matches {
		if err := e.addMatch(&entry.Matches[i], entry); err != nil {
			return err
		}
	}
	e.flows = e.flows.set(e.own, f.ID, entry)
	l, _ := e.loads.get(s.ID)
	e.loads = e.loads.set(e.own, s.ID, load{l.flows + 1, l.reserved + f.Policer.CIR})
	e.grown = append(e.grown, s.ID)
	return nil
}

func (e *edit) deleteFlow(id dataplane.ID) {
	f, ok := e.flows.get(id)
	if !ok {
		return
	}
	e.flows = e.flows.del(e.own, id)
	l, _ := e.loads.get(f.Subscriber)
	e.loads = e.loads.set(e.own, f.Subscriber, load{l.flows - 1, l.reserved - f.Policer.CIR})
	for i := range f.Matches {
		m, k := masked(&f.Matches[i])
		at, _ := e.findShape(m)
		if s := &e.shapes[at]; s.table.size > 1 {
			s.table = s.table.del(e.own, k)
		} else {
			e.shapes = slices.Delete(e.shapes, at, at+1)
		}
	}
}

// addMatch enters one match of a flow. What it matches must be addressed to the
// flow's subscriber, or the flow would take other people's packets.
func (e *edit) addMatch(m *dataplane.Match, f *flow) error {
	if err := checkMatch(m); err != nil {
		return err
	}
	if s, ok := lookupPrefix(e.prefixes, m.Destination); !ok || s.ID != f.Subscriber {
		return fmt.Errorf("destination %v is not an address of subscriber %q: %w", m.Destination, f.sub.Name, dataplane.ErrInvalid)
	}
	mask, k := masked(m)
	at, found := e.findShape(mask)
	if !found {
		if len(e.shapes) == maxShapes {
			return fmt.Errorf("match %+v: more than %d different shapes of matches: %w", *m, maxShapes, dataplane.ErrInvalid)
		}
		e.shapes = slices.Insert(e.shapes, at, shape{mask: mask})
	}
	s := &e.shapes[at]
	if other, ok := s.table.get(k); ok {
		return fmt.Errorf("match %+v is flow %x's: %w", *m, other.ID, dataplane.ErrConflict)
	}
	s.table = s.table.set(e.own, k, f)
	return nil
}

func lookupPrefix(t *bart.Table[*subscriber], p netip.Prefix) (*subscriber, bool) {
	_, s, ok := t.LookupPrefixLPM(p)
	return s, ok
}

func checkMatch(m *dataplane.Match) error {
	src, dst := m.Source, m.Destination
	switch {
	case !dst.IsValid():
		return fmt.Errorf("match %+v without a destination: %w", *m, dataplane.ErrInvalid)
	case src.IsValid() && src.Addr().Is4() != dst.Addr().Is4(), src.Addr().Is4In6(), dst.Addr().Is4In6():
		return fmt.Errorf("match %+v: two IP versions: %w", *m, dataplane.ErrInvalid)
	}
	return nil
}

// masked returns a match as shape and key. Bits beyond a prefix do not classify:
// the addresses of a flow that was signalled for are those of nodes, whatever
// the prefix length (RFC 5971 §5.8.1.1).
func masked(m *dataplane.Match) (mask, key) {
	k := mask{v6: m.Destination.Addr().Is6(), dstBits: uint8(m.Destination.Bits()),
		proto: m.HasProtocol, srcPort: m.HasSourcePort, dstPort: m.HasDestinationPort}
	v := key{v6: k.v6, proto: m.Protocol, srcPort: m.SourcePort, dstPort: m.DestinationPort}
	copy(v.dst[:], m.Destination.Addr().AsSlice())
	if m.Source.IsValid() {
		k.srcBits = uint8(m.Source.Bits())
		copy(v.src[:], m.Source.Addr().AsSlice())
	}
	k.apply(&v)
	return k, v
}

// findShape returns where a shape is, or belongs: more specific ones first.
func (e *edit) findShape(m mask) (int, bool) {
	return slices.BinarySearchFunc(e.shapes, m, func(s shape, m mask) int { return s.mask.compare(m) })
}

func (m mask) bits() int {
	n := int(m.srcBits) + int(m.dstBits)
	if m.proto {
		n += 8
	}
	if m.srcPort {
		n += 16
	}
	if m.dstPort {
		n += 16
	}
	return n
}

// compare orders by specificity, and then in any way that is always the same.
func (m mask) compare(o mask) int {
	return cmp.Or(
		cmp.Compare(o.bits(), m.bits()),
		cmp.Compare(o.dstBits, m.dstBits),
		flag(m.dstPort, o.dstPort), flag(m.srcPort, o.srcPort), flag(m.proto, o.proto), flag(m.v6, o.v6))
}

func flag(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
