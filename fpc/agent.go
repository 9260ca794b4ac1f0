package fpc

import (
	"fmt"
	"slices"
)

// Agent keeps what a data-plane node has been told: its ports and rules. It is
// used from one goroutine.
type Agent struct {
	ports map[ID]Port
	rules map[ID]Rule
	// byPort lists the rules that direct to a port, sorted.
	byPort map[ID][]ID
	// children counts the ports that name this one as their parent.
	children map[ID]int
}

// NewAgent returns an agent without ports.
func NewAgent() *Agent {
	return &Agent{ports: map[ID]Port{}, rules: map[ID]Rule{}, byPort: map[ID][]ID{}, children: map[ID]int{}}
}

// Port returns a port. Its Properties must not be changed.
func (a *Agent) Port(id ID) (Port, bool) {
	p, ok := a.ports[id]
	return p, ok
}

// Rules returns the rules that direct to a port, sorted by ID.
func (a *Agent) Rules(port ID) []Rule {
	ids := a.byPort[port]
	rules := make([]Rule, 0, len(ids))
	for _, id := range ids {
		rules = append(rules, a.rules[id])
	}
	return rules
}

// Snapshot returns all ports and rules, each sorted by ID. DPN and Epoch are
// the caller's to fill in.
func (a *Agent) Snapshot() Snapshot {
	s := Snapshot{Ports: make([]Port, 0, len(a.ports)), Rules: make([]Rule, 0, len(a.rules))}
	for _, p := range a.ports {
		s.Ports = append(s.Ports, p)
	}
	for _, r := range a.rules {
		s.Rules = append(s.Rules, r)
	}
	slices.SortFunc(s.Ports, func(x, y Port) int { return compare(x.ID, y.ID) })
	slices.SortFunc(s.Rules, func(x, y Rule) int { return compare(x.ID, y.ID) })
	return s
}

func compare(x, y ID) int { return slices.Compare(x[:], y[:]) }

// Apply carries out a client's transaction, all of it or, when it returns an
// error, none. install is called once, with the ports that changed or whose
// rules changed (deleted ones included), while the agent already answers with
// the new contents; its error undoes the transaction. A transaction that
// changes nothing calls nobody. undo takes back a successful Apply, as long as
// no other has come after it.
func (a *Agent) Apply(tx Transaction, install func(changed []ID) error) (undo func(), err error) {
	return a.apply(tx, false, install)
}

// Configure is Apply by the node's own configuration: what it adds is static,
// and it may change what is.
func (a *Agent) Configure(tx Transaction, install func(changed []ID) error) (undo func(), err error) {
	return a.apply(tx, true, install)
}

func (a *Agent) apply(tx Transaction, static bool, install func([]ID) error) (func(), error) {
	s := staging{a: a, static: static}
	for i := range tx {
		if err := s.command(&tx[i]); err != nil {
			s.undo()
			return nil, &CommandError{Index: i, Op: tx[i].Op, What: tx[i].subject(), Err: err}
		}
	}
	if err := s.finish(); err != nil {
		s.undo()
		return nil, err
	}
	if len(s.changed) > 0 {
		if err := install(s.changed); err != nil {
			s.undo()
			return nil, err
		}
	}
	return s.undo, nil
}

func (c *Command) subject() string {
	switch c.Op {
	case RuleAdd, RuleMod, RuleDel:
		return "rule " + c.Rule.ID.String()
	default:
		return "port " + c.Port.ID.String()
	}
}

// staging is a transaction under way: the agent's tables are changed as it goes,
// and what they were is kept for undoing it.
type staging struct {
	a       *Agent
	static  bool
	changed []ID
	ports   []portWas
	rules   []ruleWas
}

type portWas struct {
	id  ID
	was Port
	had bool
}

type ruleWas struct {
	id  ID
	was Rule
	had bool
}

func (s *staging) undo() {
	for _, r := range slices.Backward(s.rules) {
		s.a.putRule(r.id, r.was, r.had)
	}
	for _, p := range slices.Backward(s.ports) {
		s.a.putPort(p.id, p.was, p.had)
	}
	s.rules, s.ports, s.changed = nil, nil, nil
}

func (s *staging) touch(id ID) {
	if !slices.Contains(s.changed, id) {
		s.changed = append(s.changed, id)
	}
}

func (s *staging) setPort(id ID, p Port, have bool) {
	was, had := s.a.ports[id]
	s.ports = append(s.ports, portWas{id, was, had})
	s.a.putPort(id, p, have)
	s.touch(id)
}

func (s *staging) setRule(id ID, r Rule, have bool) {
	was, had := s.a.rules[id]
	s.rules = append(s.rules, ruleWas{id, was, had})
	s.a.putRule(id, r, have)
	if had {
		s.touch(was.Port)
	}
	if have {
		s.touch(r.Port)
	}
}

// portBefore is the port as it was before this transaction: a version is
// compared with that, so that one transaction may change several properties
// under one version.
func (s *staging) portBefore(id ID) Port {
	for _, p := range s.ports {
		if p.id == id {
			return p.was
		}
	}
	return s.a.ports[id]
}

func (a *Agent) putPort(id ID, p Port, have bool) {
	if was, ok := a.ports[id]; ok {
		a.child(was, -1)
	}
	if !have {
		delete(a.ports, id)
		return
	}
	a.child(p, +1)
	a.ports[id] = p
}

func (a *Agent) child(p Port, by int) {
	if parent, ok := p.Property(PropParent); ok {
		if a.children[parent.Parent] += by; a.children[parent.Parent] == 0 {
			delete(a.children, parent.Parent)
		}
	}
}

func (a *Agent) putRule(id ID, r Rule, have bool) {
	if was, ok := a.rules[id]; ok {
		if left := slices.DeleteFunc(a.byPort[was.Port], func(x ID) bool { return x == id }); len(left) > 0 {
			a.byPort[was.Port] = left
		} else {
			delete(a.byPort, was.Port)
		}
	}
	if !have {
		delete(a.rules, id)
		return
	}
	ids := a.byPort[r.Port]
	at, _ := slices.BinarySearchFunc(ids, id, compare)
	a.byPort[r.Port] = slices.Insert(ids, at, id)
	a.rules[id] = r
}

// finish checks what only the whole transaction can be asked: nothing refers to
// what is gone.
func (s *staging) finish() error {
	for i := range s.changed {
		id := s.changed[i]
		p, ok := s.a.ports[id]
		if !ok {
			if len(s.a.byPort[id]) > 0 || s.a.children[id] > 0 {
				return fmt.Errorf("port %v: %d rules and %d ports refer to it: %w",
					id, len(s.a.byPort[id]), s.a.children[id], ErrInUse)
			}
			continue
		}
		if parent, ok := p.Property(PropParent); ok {
			if _, ok := s.a.ports[parent.Parent]; !ok {
				return fmt.Errorf("port %v: its parent, port %v, %w", id, parent.Parent, ErrNotFound)
			}
		}
	}
	return nil
}

// newer compares versions as serial numbers, so that they may wrap.
func newer(a, b uint32) bool { return int32(a-b) > 0 }

// command carries out one command.
//
// draft-ietf-dmm-fpc-cpdp §4.3
func (s *staging) command(c *Command) error {
	switch c.Op {
	case PrtAdd:
		return s.addPort(&c.Port)
	case PrtDel:
		return s.delPort(c.Port.ID)
	case PropAdd, PropMod, PropDel:
		return s.property(c)
	case RuleAdd, RuleMod:
		return s.putRule(c.Op, c.Rule)
	case RuleDel:
		return s.delRule(c.Rule.ID)
	}
	return fmt.Errorf("no such command: %w", ErrInvalid)
}

// addPort: a port of the same identifier is an error, unless it is the same in
// everything, a repeat.
func (s *staging) addPort(p *Port) error {
	if p.ID.IsZero() {
		return fmt.Errorf("an identifier of zeros: %w", ErrInvalid)
	}
	for i, prop := range p.Properties {
		if err := checkProperty(prop, p.ID); err != nil {
			return err
		}
		if slices.ContainsFunc(p.Properties[:i], func(o Property) bool { return o.ID == prop.ID || o.Kind == prop.Kind }) {
			return fmt.Errorf("two properties of identifier %d or kind %v: %w", prop.ID, prop.Kind, ErrInvalid)
		}
	}
	add := *p
	add.Static = s.static
	if was, ok := s.a.ports[p.ID]; ok {
		if was.Version == add.Version && was.Static == add.Static && was.Name == add.Name &&
			slices.Equal(was.Properties, add.Properties) {
			return nil
		}
		return fmt.Errorf("version %d is there: %w", was.Version, ErrExists)
	}
	add.Properties = slices.Clone(p.Properties)
	s.setPort(p.ID, add, true)
	return nil
}

func (s *staging) delPort(id ID) error {
	was, ok := s.a.ports[id]
	if !ok {
		return nil // a repeat
	}
	if was.Static && !s.static {
		return ErrStatic
	}
	s.setPort(id, Port{}, false)
	return nil
}

func (s *staging) property(c *Command) error {
	was, ok := s.a.ports[c.Port.ID]
	if !ok {
		return ErrNotFound
	}
	if was.Static && !s.static {
		return ErrStatic
	}
	before := s.portBefore(c.Port.ID)
	if newer(before.Version, c.Port.Version) {
		return fmt.Errorf("version %d, version %d is there: %w", c.Port.Version, before.Version, ErrStale)
	}
	at := slices.IndexFunc(was.Properties, func(p Property) bool { return p.ID == c.Property.ID })
	repeat := c.Port.Version == before.Version
	if c.Op == PropDel {
		if at < 0 {
			return nil
		}
		if repeat {
			return fmt.Errorf("version %d is there with property %d: %w", before.Version, c.Property.ID, ErrExists)
		}
	} else {
		if err := checkProperty(c.Property, c.Port.ID); err != nil {
			return err
		}
		if at >= 0 && was.Properties[at] == c.Property && was.Version == c.Port.Version {
			return nil
		}
		if repeat || (c.Op == PropAdd && at >= 0) {
			return fmt.Errorf("version %d is there: %w", before.Version, ErrExists)
		}
		if c.Op == PropMod && at < 0 {
			return fmt.Errorf("property %d %w", c.Property.ID, ErrNotFound)
		}
		if slices.ContainsFunc(was.Properties, func(p Property) bool { return p.ID != c.Property.ID && p.Kind == c.Property.Kind }) {
			return fmt.Errorf("a second property of kind %v: %w", c.Property.Kind, ErrInvalid)
		}
	}
	now := was
	now.Version = c.Port.Version
	now.Properties = slices.Clone(was.Properties)
	switch {
	case c.Op == PropDel:
		now.Properties = slices.Delete(now.Properties, at, at+1)
	case at >= 0:
		now.Properties[at] = c.Property
	default:
		now.Properties = append(now.Properties, c.Property)
	}
	s.setPort(c.Port.ID, now, true)
	return nil
}

func (s *staging) putRule(op Op, r Rule) error {
	r.Static = s.static
	if r.ID.IsZero() {
		return fmt.Errorf("an identifier of zeros: %w", ErrInvalid)
	}
	if err := checkDescriptor(r.Match); err != nil {
		return err
	}
	r.Match = r.Match.masked()
	was, ok := s.a.rules[r.ID]
	switch {
	case ok && was == r:
		return nil
	case !ok && op == RuleMod:
		return ErrNotFound
	case ok && op == RuleAdd:
		return fmt.Errorf("version %d is there: %w", was.Version, ErrExists)
	case ok && was.Static && !s.static:
		return ErrStatic
	case ok && newer(was.Version, r.Version):
		return fmt.Errorf("version %d, version %d is there: %w", r.Version, was.Version, ErrStale)
	case ok && was.Version == r.Version:
		return fmt.Errorf("version %d is there: %w", was.Version, ErrExists)
	}
	port, ok := s.a.ports[r.Port]
	if !ok {
		return fmt.Errorf("port %v %w", r.Port, ErrNotFound)
	}
	if port.Static && !s.static {
		return fmt.Errorf("port %v: %w", r.Port, ErrStatic)
	}
	s.setRule(r.ID, r, true)
	return nil
}

func (s *staging) delRule(id ID) error {
	was, ok := s.a.rules[id]
	if !ok {
		return nil // a repeat
	}
	if was.Static && !s.static {
		return ErrStatic
	}
	s.setRule(id, Rule{}, false)
	return nil
}

func checkProperty(p Property, port ID) error {
	switch p.Kind {
	case PropQoS:
		return checkQoS(p.QoS)
	case PropGW:
		if !p.GW.IsValid() {
			return fmt.Errorf("%v without an address: %w", p.Kind, ErrInvalid)
		}
	case PropParent:
		if p.Parent.IsZero() || p.Parent == port {
			return fmt.Errorf("%v %v, expected another port: %w", p.Kind, p.Parent, ErrInvalid)
		}
	default:
		return fmt.Errorf("%v, expected PROP_QOS, PROP_GW or PROP_PARENT: %w", p.Kind, ErrInvalid)
	}
	return nil
}

// checkQoS: "The PIR must be equal to or greater than the CIR", and "both of
// them [PBS, CBS] must be configured to be greater than 0".
//
// RFC 2698 §2
func checkQoS(q QoS) error {
	switch {
	case q.PIR < q.CIR:
		return fmt.Errorf("PIR %d below CIR %d octets/s: %w", q.PIR, q.CIR, ErrInvalid)
	case q.CBS == 0 || q.PBS == 0:
		return fmt.Errorf("CBS %d and PBS %d octets, expected more than 0: %w", q.CBS, q.PBS, ErrInvalid)
	case max(q.DSCP, q.ExcessDSCP) > 63:
		return fmt.Errorf("DSCPs %d and %d, expected 0 to 63: %w", q.DSCP, q.ExcessDSCP, ErrInvalid)
	case q.Excess > ExcessForward:
		return fmt.Errorf("%v: %w", q.Excess, ErrInvalid)
	case q.ExcessDSCP != 0 && q.Excess != ExcessRemark:
		return fmt.Errorf("DSCP %d for excess that is not re-marked: %w", q.ExcessDSCP, ErrInvalid)
	}
	return nil
}

// masked returns d without the bits beyond its prefixes, which do not classify:
// equal rules are equal then.
func (d Descriptor) masked() Descriptor {
	if d.Source.IsValid() {
		d.Source = d.Source.Masked()
	}
	if d.Destination.IsValid() {
		d.Destination = d.Destination.Masked()
	}
	return d
}

func checkDescriptor(d Descriptor) error {
	switch {
	case d.Source.IsValid() && d.Destination.IsValid() && d.Source.Addr().Is4() != d.Destination.Addr().Is4():
		return fmt.Errorf("%v: two IP versions: %w", d, ErrInvalid)
	case d.Source.Addr().Is4In6() || d.Destination.Addr().Is4In6():
		return fmt.Errorf("%v: an IPv4-mapped IPv6 address: %w", d, ErrInvalid)
	case (d.HasSourcePort || d.HasDestinationPort) && !d.HasProtocol:
		return fmt.Errorf("%v: a port without a protocol: %w", d, ErrInvalid)
	}
	return nil
}
