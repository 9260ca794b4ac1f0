// Package bng is what the control side of a broadband network gateway knows: its
// subscribers, what of their access is reserved, and how a reservation is said
// in FPC's terms. It has no sockets and no clock.
package bng

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
)

// Subscriber is a customer's access. Rates are octets per second.
type Subscriber struct {
	Port     fpc.ID // of the access
	Name     string
	Prefixes []netip.Prefix
	QoS      fpc.QoS // of the access: its CIR is what can be reserved
}

// SubscriberPort is the identifier of the port of the subscriber of a name.
func SubscriberPort(name string) fpc.ID {
	sum := sha256.Sum256([]byte("subscriber " + name))
	return fpc.ID(sum[:16])
}

// PrefixRule is the identifier of the rule that directs a subscriber's prefix to
// its port.
func PrefixRule(p netip.Prefix) fpc.ID {
	sum := sha256.Sum256([]byte("prefix " + p.String()))
	return fpc.ID(sum[:16])
}

// Subscribers is a table of subscribers with what is reserved of their access.
type Subscribers struct {
	byPort   map[fpc.ID]*Access
	prefixes *bart.Table[*Access]
}

// Access is a subscriber, and the pool that reservations for it take from.
type Access struct {
	Subscriber
	Pool intradomain.Pool
}

// NewSubscribers returns an empty table.
func NewSubscribers() *Subscribers {
	return &Subscribers{byPort: map[fpc.ID]*Access{}, prefixes: new(bart.Table[*Access])}
}

// Set makes the table contain these subscribers. What is reserved stays, also
// where a subscriber has less now, or is gone: then nothing more is admitted.
func (t *Subscribers) Set(list []Subscriber) {
	for _, a := range t.byPort {
		a.Pool.Capacity = 0
	}
	t.prefixes = new(bart.Table[*Access])
	for _, s := range list {
		a := t.byPort[s.Port]
		if a == nil {
			a = &Access{}
			t.byPort[s.Port] = a
		}
		a.Subscriber = s
		a.Pool.Where = "subscriber " + s.Name
		a.Pool.Capacity = s.QoS.CIR
		for _, p := range s.Prefixes {
			t.prefixes.Insert(p, a)
		}
	}
	for id, a := range t.byPort {
		if a.Pool.Capacity == 0 && a.Pool.Peak() == 0 {
			delete(t.byPort, id)
		}
	}
}

// Find returns the subscriber of a flow: its destination's.
func (t *Subscribers) Find(destination netip.Prefix) (*Access, error) {
	if destination.IsValid() {
		if _, a, ok := t.prefixes.LookupPrefixLPM(destination); ok {
			return a, nil
		}
	}
	return nil, &intradomain.Refusal{Where: "bng", Reason: fmt.Sprintf("no subscriber has %v", destination)}
}

// Get returns the subscriber of a port.
func (t *Subscribers) Get(port fpc.ID) (*Access, bool) {
	a, ok := t.byPort[port]
	return a, ok
}

// Identifiers of a port's properties.
const (
	propQoS fpc.PropertyID = iota + 1
	propGW
	propParent
)

// Describe returns a flow as an FPC descriptor. What a descriptor cannot say is
// refused.
func Describe(f wire.Flow) (fpc.Descriptor, error) {
	refuse := func(what string) (fpc.Descriptor, error) {
		return fpc.Descriptor{}, &intradomain.Refusal{Where: "bng", Reason: what}
	}
	d := fpc.Descriptor{
		Source: f.Source, Destination: f.Destination,
		HasProtocol: f.HasProtocol, HasSourcePort: f.HasSrcPort, HasDestinationPort: f.HasDstPort,
	}
	switch {
	case f.HasSPI:
		return refuse("a flow described by its SPI cannot be classified")
	case f.HasLabel:
		return refuse("a flow described by its flow label cannot be classified")
	case f.HasTraffic:
		return refuse("a flow described by its DSCP cannot be classified")
	case !f.HasProtocol && (f.HasSrcPort || f.HasDstPort):
		return refuse("a flow described by ports and no protocol cannot be classified")
	}
	// What doesn't count is zero, so that equal descriptors are equal.
	if d.Source.IsValid() {
		if d.Source = d.Source.Masked(); d.Source.Bits() == 0 {
			d.Source = netip.Prefix{}
		}
	}
	if d.Destination.IsValid() {
		d.Destination = d.Destination.Masked()
	}
	if f.HasProtocol {
		d.Protocol = f.Protocol
	}
	if f.HasSrcPort {
		d.SourcePort = f.SrcPort
	}
	if f.HasDstPort {
		d.DestinationPort = f.DstPort
	}
	return d, nil
}

// flowOf is Describe's inverse.
func flowOf(d fpc.Descriptor) wire.Flow {
	return wire.Flow{Source: d.Source, Destination: d.Destination,
		HasProtocol: d.HasProtocol, Protocol: d.Protocol,
		HasSrcPort: d.HasSourcePort, SrcPort: d.SourcePort,
		HasDstPort: d.HasDestinationPort, DstPort: d.DestinationPort}
}

// minBurst is the least burst of a policer, octets: below a packet's size no
// packet would ever be green.
const minBurst = 1500

// Policer completes a request's QoS to that of a port: a PIR below the CIR is the
// CIR; a burst that is not given is what 50 ms bring. Excess of which nothing is
// said goes on as best effort. A *intradomain.Refusal says what a gateway cannot
// do.
//
// RFC 2698 §2
// RFC 5975 §5.2.11
func Policer(q intradomain.QoS) (fpc.QoS, error) {
	out := fpc.QoS{CIR: q.CIR, PIR: max(q.PIR, q.CIR), Mark: true, DSCP: cmp.Or(q.DSCP, q.Class)}
	out.CBS = max(cmp.Or(q.CBS, q.CIR/20), minBurst)
	out.PBS = max(cmp.Or(q.PBS, out.PIR/20), out.CBS)
	switch q.Excess.Treatment {
	case intradomain.ExcessAny:
		out.Excess = fpc.ExcessRemark
	case intradomain.ExcessDrop:
		out.Excess = fpc.ExcessDrop
	case intradomain.ExcessRemark:
		out.Excess, out.ExcessDSCP = fpc.ExcessRemark, q.Excess.DSCP
	case intradomain.ExcessNoMeter:
		out.Excess = fpc.ExcessForward
	default:
		return fpc.QoS{}, &intradomain.Refusal{Where: "bng", Reason: fmt.Sprintf(
			"excess treatment %q: the gateway has no queue to shape in; it can drop, re-mark or not meter", q.Excess.Treatment)}
	}
	return out, nil
}

// excessOf is the part of Policer's inverse that a data plane can tell.
func excessOf(q fpc.QoS) intradomain.Excess {
	switch q.Excess {
	case fpc.ExcessDrop:
		return intradomain.Excess{Treatment: intradomain.ExcessDrop}
	case fpc.ExcessForward:
		return intradomain.Excess{Treatment: intradomain.ExcessNoMeter}
	}
	return intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: q.ExcessDSCP}
}

// Program is a reservation as a data plane has it, or is to have it: one port
// inside its subscriber's and one rule, both under the reservation's ID and
// version.
type Program struct {
	ID      intradomain.ID
	Version uint32
	Parent  fpc.ID
	Match   fpc.Descriptor
	QoS     fpc.QoS
}

// Install returns the commands that make it be there.
func (p *Program) Install() fpc.Transaction {
	id := fpc.ID(p.ID)
	return fpc.Transaction{
		{Op: fpc.PrtAdd, Port: fpc.Port{ID: id, Version: p.Version, Properties: []fpc.Property{
			{ID: propQoS, Kind: fpc.PropQoS, QoS: p.QoS},
			{ID: propParent, Kind: fpc.PropParent, Parent: p.Parent},
		}}},
		{Op: fpc.RuleAdd, Rule: fpc.Rule{ID: id, Version: p.Version, Match: p.Match, Port: id}},
	}
}

// Replace returns the commands that make it be there instead of an earlier
// version.
func (p *Program) Replace(was *Program) fpc.Transaction {
	if p.Parent != was.Parent || int32(p.Version-was.Version) <= 0 {
		return append(Remove(p.ID), p.Install()...)
	}
	id := fpc.ID(p.ID)
	return fpc.Transaction{
		{Op: fpc.PropMod, Port: fpc.Port{ID: id, Version: p.Version}, Property: fpc.Property{ID: propQoS, Kind: fpc.PropQoS, QoS: p.QoS}},
		{Op: fpc.RuleMod, Rule: fpc.Rule{ID: id, Version: p.Version, Match: p.Match, Port: id}},
	}
}

// Remove returns the commands that make it be gone.
func Remove(id intradomain.ID) fpc.Transaction {
	return fpc.Transaction{
		{Op: fpc.RuleDel, Rule: fpc.Rule{ID: fpc.ID(id)}},
		{Op: fpc.PrtDel, Port: fpc.Port{ID: fpc.ID(id)}},
	}
}

// Request returns the reservation that a program is of, as far as a data plane
// can tell.
func (p *Program) Request() intradomain.Request {
	return intradomain.Request{ID: p.ID, Version: p.Version, Flow: flowOf(p.Match),
		QoS: intradomain.QoS{Class: p.QoS.DSCP, DSCP: p.QoS.DSCP, CIR: p.QoS.CIR, PIR: p.QoS.PIR, CBS: p.QoS.CBS, PBS: p.QoS.PBS,
			Excess: excessOf(p.QoS)}}
}

// Read takes apart what a data-plane node has: its subscribers, and the
// reservations programmed. What is neither (another client's, or half of one) is
// in others: ports without a policer, a parent, or exactly one rule.
func Read(s fpc.Snapshot) (subscribers []Subscriber, programs []Program, others []fpc.ID) {
	rules := map[fpc.ID][]fpc.Rule{}
	for _, r := range s.Rules {
		rules[r.Port] = append(rules[r.Port], r)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		qos, hasQoS := p.Property(fpc.PropQoS)
		if p.Static {
			if !hasQoS {
				continue
			}
			sub := Subscriber{Port: p.ID, Name: p.Name, QoS: qos.QoS}
			for _, r := range rules[p.ID] {
				sub.Prefixes = append(sub.Prefixes, r.Match.Destination)
			}
			subscribers = append(subscribers, sub)
			continue
		}
		parent, hasParent := p.Property(fpc.PropParent)
		mine := rules[p.ID]
		if !hasQoS || !hasParent || len(mine) != 1 || mine[0].ID != p.ID || mine[0].Version != p.Version {
			others = append(others, p.ID)
			continue
		}
		programs = append(programs, Program{ID: intradomain.ID(p.ID), Version: p.Version, Parent: parent.Parent,
			Match: mine[0].Match, QoS: qos.QoS})
	}
	slices.SortFunc(subscribers, func(a, b Subscriber) int { return cmp.Compare(a.Name, b.Name) })
	return subscribers, programs, others
}
