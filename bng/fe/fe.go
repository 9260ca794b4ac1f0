// Package fe is the forwarding side of a broadband network gateway: an FPC agent
// in front of a data plane, with the subscribers that its configuration names.
// Sockets are its owner's: package fpc/transport serves it, package
// dataplane/soft forwards.
package fe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/interqos/interqos/bng"
	"github.com/interqos/interqos/dataplane"
	"github.com/interqos/interqos/fpc"
)

// FE is a forwarding element. Its methods may be called from any goroutine.
type FE struct {
	dpn   string
	epoch uint64
	plane dataplane.Plane

	mu    sync.Mutex
	agent *fpc.Agent
}

// New configures a plane with the subscribers and returns the element.
func New(dpn string, subscribers []SubscriberConfig, plane dataplane.Plane) (*FE, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("epoch: %w", err)
	}
	fe := &FE{dpn: dpn, epoch: binary.BigEndian.Uint64(random[:]) | 1, plane: plane, agent: fpc.NewAgent()}
	change := plane.Begin()
	for i := range subscribers {
		if _, err := fe.agent.Configure(subscribers[i].commands(), fe.install(change)); err != nil {
			change.Abort()
			return nil, fmt.Errorf("subscriber %q: %w", subscribers[i].ID, err)
		}
	}
	if err := change.Commit(); err != nil {
		return nil, fmt.Errorf("data plane: %w", err)
	}
	return fe, nil
}

// Configure carries out a client's transactions. All that succeed become visible
// to packets in one step.
func (fe *FE) Configure(epoch uint64, txs []fpc.Transaction) ([]error, error) {
	if epoch != fe.epoch {
		return nil, fpc.ErrEpoch
	}
	fe.mu.Lock()
	defer fe.mu.Unlock()
	results := make([]error, len(txs))
	undo := make([]func(), 0, len(txs))
	change := fe.plane.Begin()
	for i, tx := range txs {
		u, err := fe.agent.Apply(tx, fe.install(change))
		if results[i] = err; err == nil {
			undo = append(undo, u)
		}
	}
	if err := change.Commit(); err != nil {
		for i := range undo {
			undo[len(undo)-1-i]()
		}
		return nil, fmt.Errorf("data plane: %w", err)
	}
	return results, nil
}

// install returns what brings a transaction's ports to the data plane.
func (fe *FE) install(change dataplane.Change) func([]fpc.ID) error {
	return func(changed []fpc.ID) error {
		var u dataplane.Update
		for _, id := range changed {
			if err := fe.translate(id, &u); err != nil {
				return fmt.Errorf("port %v: %w", id, err)
			}
		}
		if err := change.Update(u); err != nil {
			return &planeError{err}
		}
		return nil
	}
}

// planeError gives a data plane's refusal the meaning that it has for a client.
type planeError struct{ err error }

func (e *planeError) Error() string { return e.err.Error() }

func (e *planeError) Unwrap() []error {
	switch {
	case errors.Is(e.err, dataplane.ErrInvalid):
		return []error{e.err, fpc.ErrInvalid}
	case errors.Is(e.err, dataplane.ErrConflict):
		return []error{e.err, fpc.ErrExists}
	case errors.Is(e.err, dataplane.ErrNotFound):
		return []error{e.err, fpc.ErrNotFound}
	}
	return []error{e.err}
}

// translate adds to u what a port with its rules is in the data plane: a static
// one with a wire a subscriber, one with a parent a flow. A port without rules is
// not there.
func (fe *FE) translate(id fpc.ID, u *dataplane.Update) error {
	p, ok := fe.agent.Port(id)
	rules := fe.agent.Rules(id)
	if !ok || len(rules) == 0 {
		u.DeleteFlows = append(u.DeleteFlows, dataplane.ID(id))
		u.DeleteSubscribers = append(u.DeleteSubscribers, dataplane.ID(id))
		return nil
	}
	qos, hasQoS := p.Property(fpc.PropQoS)
	gw, hasGW := p.Property(fpc.PropGW)
	parent, hasParent := p.Property(fpc.PropParent)
	switch {
	case !hasQoS:
		return fmt.Errorf("rules but no PROP_QOS: %w", fpc.ErrInvalid)
	case p.Static && hasGW && !hasParent:
		s := dataplane.Subscriber{ID: dataplane.ID(id), Name: p.Name, Wire: gw.GW, Policer: policer(qos.QoS),
			Mark: dataplane.Marking{Set: qos.QoS.Mark, DSCP: qos.QoS.DSCP}, Excess: excess(qos.QoS.Excess), ExcessDSCP: qos.QoS.ExcessDSCP}
		for _, r := range rules {
			if r.Match != (fpc.Descriptor{Destination: r.Match.Destination}) {
				return fmt.Errorf("rule %v: %v, expected a destination and nothing else: %w", r.ID, r.Match, fpc.ErrInvalid)
			}
			s.Prefixes = append(s.Prefixes, r.Match.Destination)
		}
		u.PutSubscribers = append(u.PutSubscribers, s)
	case !p.Static && hasParent && !hasGW:
		f := dataplane.Flow{ID: dataplane.ID(id), Subscriber: dataplane.ID(parent.Parent), Policer: policer(qos.QoS),
			Mark: dataplane.Marking{Set: qos.QoS.Mark, DSCP: qos.QoS.DSCP}, Excess: excess(qos.QoS.Excess), ExcessDSCP: qos.QoS.ExcessDSCP}
		for _, r := range rules {
			f.Matches = append(f.Matches, dataplane.Match(r.Match))
		}
		u.PutFlows = append(u.PutFlows, f)
	default:
		return fmt.Errorf("expected a client's port with PROP_PARENT and without PROP_GW: %w", fpc.ErrInvalid)
	}
	return nil
}

func policer(q fpc.QoS) dataplane.Policer {
	return dataplane.Policer{CIR: q.CIR, CBS: q.CBS, PIR: q.PIR, PBS: q.PBS}
}

func excess(e fpc.Excess) dataplane.Excess {
	switch e {
	case fpc.ExcessDrop:
		return dataplane.ExcessDrop
	case fpc.ExcessForward:
		return dataplane.ExcessForward
	}
	return dataplane.ExcessRemark
}

// Snapshot returns everything there is. The agent's tables change only together
// with the plane's.
func (fe *FE) Snapshot() fpc.Snapshot {
	fe.mu.Lock()
	defer fe.mu.Unlock()
	s := fe.agent.Snapshot()
	s.DPN, s.Epoch = fe.dpn, fe.epoch
	return s
}

// Counters returns the data plane's counters of the given ports, of all if none
// is given.
func (fe *FE) Counters(ports []fpc.ID) map[fpc.ID]fpc.Counters {
	all := map[fpc.ID]fpc.Counters{}
	if len(ports) == 0 {
		for _, s := range fe.plane.Subscribers() {
			all[fpc.ID(s.ID)] = counters(s.Counters)
		}
		for _, f := range fe.plane.Flows() {
			all[fpc.ID(f.ID)] = counters(f.Counters)
		}
	}
	for _, id := range ports {
		if c, ok := fe.plane.Counters(dataplane.ID(id)); ok {
			all[id] = counters(c)
		}
	}
	return all
}

func counters(c dataplane.Counters) fpc.Counters {
	return fpc.Counters{
		GreenPackets: c.Green.Packets, GreenOctets: c.Green.Octets,
		YellowPackets: c.Yellow.Packets, YellowOctets: c.Yellow.Octets,
		RedPackets: c.Red.Packets, RedOctets: c.Red.Octets,
		DroppedPackets: c.Dropped.Packets, DroppedOctets: c.Dropped.Octets,
	}
}

// commands says a subscriber in FPC's terms.
func (c *SubscriberConfig) commands() fpc.Transaction {
	port := fpc.Port{ID: bng.SubscriberPort(c.ID), Name: c.ID, Properties: []fpc.Property{
		{ID: 1, Kind: fpc.PropQoS, QoS: c.QoS},
		{ID: 2, Kind: fpc.PropGW, GW: c.Access},
	}}
	tx := fpc.Transaction{{Op: fpc.PrtAdd, Port: port}}
	for _, p := range c.Addresses {
		tx = append(tx, fpc.Command{Op: fpc.RuleAdd, Rule: fpc.Rule{ID: bng.PrefixRule(p), Port: port.ID,
			Match: fpc.Descriptor{Destination: p}}})
	}
	return tx
}
