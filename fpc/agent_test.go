package fpc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var (
	subscriber = ID{1}
	qos        = QoS{CIR: 1000, CBS: 1500, PIR: 2000, PBS: 1500}
)

func accessPort() Port {
	return Port{ID: subscriber, Name: "alice", Properties: []Property{
		{ID: 1, Kind: PropQoS, QoS: qos}, {ID: 2, Kind: PropGW, GW: netip.MustParseAddrPort("127.0.0.1:9")}}}
}

func flowPort(n byte, version uint32) Port {
	return Port{ID: ID{9, n}, Version: version, Properties: []Property{
		{ID: 1, Kind: PropQoS, QoS: qos}, {ID: 3, Kind: PropParent, Parent: subscriber}}}
}

func rule(n byte, version uint32) Rule {
	return Rule{ID: ID{9, n}, Version: version, Port: ID{9, n}, Match: Descriptor{
		Destination: netip.MustParsePrefix("10.3.0.10/32"), HasProtocol: true, Protocol: 17, HasDestinationPort: true, DestinationPort: uint16(n)}}
}

func fine([]ID) error { return nil }

func newAgent(t *testing.T) *Agent {
	t.Helper()
	a := NewAgent()
	prefix := Rule{ID: ID{2}, Port: subscriber, Match: Descriptor{Destination: netip.MustParsePrefix("10.3.0.10/32")}}
	if _, err := a.Configure(Transaction{{Op: PrtAdd, Port: accessPort()}, {Op: RuleAdd, Rule: prefix}}, fine); err != nil {
		t.Fatal(err)
	}
	return a
}

func add(n byte, version uint32) Transaction {
	return Transaction{{Op: PrtAdd, Port: flowPort(n, version)}, {Op: RuleAdd, Rule: rule(n, version)}}
}

func remove(n byte) Transaction {
	return Transaction{{Op: RuleDel, Rule: Rule{ID: ID{9, n}}}, {Op: PrtDel, Port: Port{ID: ID{9, n}}}}
}

func modify(n byte, version uint32, cir uint64) Transaction {
	q := qos
	q.CIR = cir
	return Transaction{
		{Op: PropMod, Port: Port{ID: ID{9, n}, Version: version}, Property: Property{ID: 1, Kind: PropQoS, QoS: q}},
		{Op: RuleMod, Rule: rule(n, version)}}
}

// draft-ietf-dmm-fpc-cpdp §4.1
func TestAddModifyDelete(t *testing.T) {
	a := newAgent(t)
	apply := func(tx Transaction, changes int) {
		t.Helper()
		got := 0
		if _, err := a.Apply(tx, func(ids []ID) error { got = len(ids); return nil }); err != nil {
			t.Fatal(err)
		}
		if got != changes {
			t.Errorf("%d ports changed, want %d", got, changes)
		}
	}
	apply(add(1, 5), 1)
	apply(add(1, 5), 0) // a repeat
	apply(modify(1, 6, 1500), 1)
	apply(modify(1, 6, 1500), 0)
	p, _ := a.Port(ID{9, 1})
	if q, _ := p.Property(PropQoS); p.Version != 6 || q.QoS.CIR != 1500 {
		t.Errorf("port %+v", p)
	}
	if rules := a.Rules(ID{9, 1}); len(rules) != 1 || rules[0].Version != 6 {
		t.Errorf("rules %+v", rules)
	}
	apply(remove(1), 1)
	apply(remove(1), 0)
	if s := a.Snapshot(); len(s.Ports) != 1 || len(s.Rules) != 1 {
		t.Errorf("left: %+v", s)
	}
}

// draft-ietf-dmm-fpc-cpdp §4.3: "In case the DPN holds already a registration for
// a logical port with the same identifier, the Agent should throw an error message
// to the Client", and the other rules of the commands.
func TestRefusals(t *testing.T) {
	bad := func(change func(*Port)) Transaction {
		p := flowPort(2, 1)
		change(&p)
		return Transaction{{Op: PrtAdd, Port: p}}
	}
	badRule := func(change func(*Rule)) Transaction {
		tx := add(2, 1)
		change(&tx[1].Rule)
		return tx
	}
	for name, test := range map[string]struct {
		tx   Transaction
		want error
	}{
		"another version of a port that is there":   {add(1, 6), ErrExists},
		"other contents under the same version":     {modify(1, 5, 1), ErrExists},
		"an older version":                          {modify(1, 4, 1), ErrStale},
		"an older rule":                             {Transaction{{Op: RuleMod, Rule: rule(1, 4)}}, ErrStale},
		"a property of no port":                     {modify(7, 1, 1), ErrNotFound},
		"a property that is not there":              {Transaction{{Op: PropMod, Port: Port{ID: ID{9, 1}, Version: 6}, Property: Property{ID: 7, Kind: PropGW, GW: netip.MustParseAddrPort("1.1.1.1:1")}}}, ErrNotFound},
		"a property that is there":                  {Transaction{{Op: PropAdd, Port: Port{ID: ID{9, 1}, Version: 6}, Property: Property{ID: 1, Kind: PropQoS, QoS: qos}}}, ErrExists},
		"a second property of a kind":               {Transaction{{Op: PropAdd, Port: Port{ID: ID{9, 1}, Version: 6}, Property: Property{ID: 8, Kind: PropQoS, QoS: qos}}}, ErrInvalid},
		"a rule to no port":                         {badRule(func(r *Rule) { r.Port = ID{77} }), ErrNotFound},
		"a rule to a static port":                   {badRule(func(r *Rule) { r.Port = subscriber }), ErrStatic},
		"deleting a static port":                    {Transaction{{Op: PrtDel, Port: Port{ID: subscriber}}}, ErrStatic},
		"deleting a static rule":                    {Transaction{{Op: RuleDel, Rule: Rule{ID: ID{2}}}}, ErrStatic},
		"changing a static port":                    {Transaction{{Op: PropDel, Port: Port{ID: subscriber, Version: 9}, Property: Property{ID: 1}}}, ErrStatic},
		"deleting a port that has a rule":           {Transaction{{Op: PrtDel, Port: Port{ID: ID{9, 1}}}}, ErrInUse},
		"no parent":                                 {bad(func(p *Port) { p.Properties[1].Parent = ID{77} }), ErrNotFound},
		"its own parent":                            {bad(func(p *Port) { p.Properties[1].Parent = p.ID }), ErrInvalid},
		"no identifier":                             {bad(func(p *Port) { p.ID = ID{} }), ErrInvalid},
		"two properties of an identifier":           {bad(func(p *Port) { p.Properties[1].ID = 1 }), ErrInvalid},
		"an unknown property":                       {bad(func(p *Port) { p.Properties[0].Kind = 9 }), ErrInvalid},
		"PIR below CIR":                             {bad(func(p *Port) { p.Properties[0].QoS.PIR = 1 }), ErrInvalid},
		"no burst":                                  {bad(func(p *Port) { p.Properties[0].QoS.PBS = 0 }), ErrInvalid},
		"DSCP 64":                                   {bad(func(p *Port) { p.Properties[0].QoS.DSCP = 64 }), ErrInvalid},
		"DSCP 64 for excess":                        {bad(func(p *Port) { p.Properties[0].QoS.ExcessDSCP = 64 }), ErrInvalid},
		"a DSCP for excess that is dropped":         {bad(func(p *Port) { q := &p.Properties[0].QoS; q.Excess, q.ExcessDSCP = ExcessDrop, 10 }), ErrInvalid},
		"a port and no protocol":                    {badRule(func(r *Rule) { r.Match.HasProtocol = false }), ErrInvalid},
		"two versions of IP":                        {badRule(func(r *Rule) { r.Match.Source = netip.MustParsePrefix("::/0") }), ErrInvalid},
		"no such command":                           {Transaction{{Op: 99}}, ErrInvalid},
		"a good command before a bad one of others": {append(add(3, 1), Command{Op: PrtDel, Port: Port{ID: subscriber}}), ErrStatic},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t)
			if _, err := a.Apply(add(1, 5), fine); err != nil {
				t.Fatal(err)
			}
			before := fmt.Sprintf("%+v", a)
			_, err := a.Apply(test.tx, func([]ID) error { t.Error("install was called"); return nil })
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if after := fmt.Sprintf("%+v", a); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

// Bits beyond a prefix do not classify, and a rule repeated without them is the
// same rule.
func TestRuleIsMasked(t *testing.T) {
	a := newAgent(t)
	tx := add(1, 5)
	tx[1].Rule.Match.Source = netip.MustParsePrefix("10.1.2.3/8")
	if _, err := a.Apply(tx, fine); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParsePrefix("10.0.0.0/8")
	if s := a.Snapshot(); len(s.Rules) == 0 || !slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Match.Source == want }) {
		t.Errorf("rules %+v, want one with source %v", s.Rules, want)
	}
	tx[1].Rule.Match.Source = want
	if _, err := a.Apply(tx[1:2], func([]ID) error { t.Error("install was called"); return nil }); err != nil {
		t.Errorf("the masked rule: %v, want it to be there already", err)
	}
}

// All or nothing, whatever the commands: after an error, the data plane's too,
// or an undo, the agent is as it was; and what it knows of references agrees with
// what it has.
func TestTransactionsAreAllOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewAgent()
		if _, err := a.Configure(Transaction{{Op: PrtAdd, Port: accessPort()}}, fine); err != nil {
			t.Fatal(err)
		}
		command := rapid.Custom(func(t *rapid.T) Command {
			n, v := rapid.ByteRange(0, 3).Draw(t, "n"), rapid.Uint32Range(1, 4).Draw(t, "version")
			port := flowPort(n, v)
			if rapid.IntRange(0, 3).Draw(t, "parent") == 0 {
				port.Properties[1].Parent = ID{9, (n + 1) % 4}
			}
			r := rule(n, v)
			r.Port = ID{9, rapid.ByteRange(0, 3).Draw(t, "port")}
			q := qos
			q.PIR += uint64(v)
			return Command{Op: Op(rapid.IntRange(1, 8).Draw(t, "op")), Port: port, Rule: r,
				Property: Property{ID: PropertyID(rapid.IntRange(1, 2).Draw(t, "property")), Kind: PropQoS, QoS: q}}
		})
		for range rapid.IntRange(1, 30).Draw(t, "transactions") {
			before := fmt.Sprintf("%+v", a)
			tx := Transaction(rapid.SliceOfN(command, 1, 4).Draw(t, "tx"))
			fails := rapid.Bool().Draw(t, "plane refuses")
			called := 0
			undo, err := a.Apply(tx, func([]ID) error {
				called++
				if fails {
					return errors.New("refused")
				}
				return nil
			})
			switch {
			case called > 1, called == 1 && fails != (err != nil):
				t.Fatalf("install was called %d times, %v", called, err)
			case err != nil:
				undo = func() {}
			case rapid.Bool().Draw(t, "keep"):
				check(t, a)
				continue
			}
			undo()
			if after := fmt.Sprintf("%+v", a); after != before {
				t.Fatalf("%v: changed from\n%s\nto\n%s", err, before, after)
			}
		}
	})
}

func check(t *rapid.T, a *Agent) {
	byPort, children := map[ID]int{}, map[ID]int{}
	for id, r := range a.rules {
		byPort[r.Port]++
		if _, ok := a.ports[r.Port]; !ok || id != r.ID {
			t.Fatalf("rule %v directs to no port", id)
		}
	}
	for _, p := range a.ports {
		if parent, ok := p.Property(PropParent); ok {
			children[parent.Parent]++
			if _, ok := a.ports[parent.Parent]; !ok {
				t.Fatalf("port %v has no parent", p.ID)
			}
		}
		if len(a.byPort[p.ID]) != byPort[p.ID] {
			t.Fatalf("port %v: %d rules, %d noted", p.ID, byPort[p.ID], len(a.byPort[p.ID]))
		}
	}
	if fmt.Sprint(children) != fmt.Sprint(a.children) {
		t.Fatalf("children %v, noted %v", children, a.children)
	}
}
