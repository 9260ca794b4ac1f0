package bng

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
)

func fine([]fpc.ID) error { return nil }

func access(name, prefix string, cir uint64) Subscriber {
	return Subscriber{Port: SubscriberPort(name), Name: name, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)},
		QoS: fpc.QoS{CIR: cir, CBS: 1, PIR: cir, PBS: 1}}
}

// What is programmed reads back as it was, through an agent.
func TestProgramReadsBack(t *testing.T) {
	a := fpc.NewAgent()
	alice := access("alice", "10.3.0.10/32", 1000)
	static := fpc.Transaction{
		{Op: fpc.PrtAdd, Port: fpc.Port{ID: alice.Port, Name: "alice", Properties: []fpc.Property{{ID: 1, Kind: fpc.PropQoS, QoS: alice.QoS}}}},
		{Op: fpc.RuleAdd, Rule: fpc.Rule{ID: PrefixRule(alice.Prefixes[0]), Port: alice.Port, Match: fpc.Descriptor{Destination: alice.Prefixes[0]}}}}
	if _, err := a.Configure(static, fine); err != nil {
		t.Fatal(err)
	}
	flow := wire.Flow{Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
		HasProtocol: true, Protocol: 17, HasSrcPort: true, SrcPort: 4000, HasDstPort: true, DstPort: 5001}
	match, err := Describe(flow)
	if err != nil {
		t.Fatal(err)
	}
	asked := intradomain.QoS{Class: 44, DSCP: 44, CIR: 500, PIR: 600, CBS: 9000, PBS: 9000,
		Excess: intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}}
	p := Program{ID: intradomain.ID{7}, Version: 3, Parent: alice.Port, Match: match, QoS: policer(t, asked)}
	check := func(want ...Program) {
		t.Helper()
		subs, programs, others := Read(a.Snapshot())
		if len(subs) != 1 || !reflect.DeepEqual(subs[0], alice) || len(others) != 0 || !reflect.DeepEqual(programs, want) {
			t.Fatalf("read %+v\n%+v\n%v\nwant %+v", subs, programs, others, want)
		}
	}
	apply := func(tx fpc.Transaction) {
		t.Helper()
		if _, err := a.Apply(tx, fine); err != nil {
			t.Fatal(err)
		}
	}
	apply(p.Install())
	check(p)
	r := p.Request()
	if r.ID != p.ID || r.Version != 3 || r.Flow != flow || r.QoS != asked {
		t.Errorf("request %+v", r)
	}
	newer := p
	newer.Version, newer.QoS.CIR, newer.Match.DestinationPort = 4, 550, 5002
	apply(newer.Replace(&p))
	check(newer)
	apply(p.Replace(&newer)) // back to an earlier version
	check(p)
	apply(Remove(p.ID))
	check()
	// Half of a program is somebody else's.
	apply(p.Install()[:1])
	if _, programs, others := Read(a.Snapshot()); len(programs) != 0 || len(others) != 1 {
		t.Errorf("half a program: %v, %v", programs, others)
	}
}

func TestDescribeRefusesWhatCannotBeClassified(t *testing.T) {
	dst := netip.MustParsePrefix("10.3.0.10/32")
	for name, f := range map[string]wire.Flow{
		"SPI":               {Destination: dst, HasSPI: true},
		"label":             {Destination: dst, HasLabel: true},
		"DSCP":              {Destination: dst, HasTraffic: true},
		"port, no protocol": {Destination: dst, HasDstPort: true},
	} {
		var refusal *intradomain.Refusal
		if _, err := Describe(f); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Values that don't count don't make a difference.
	a, _ := Describe(wire.Flow{Source: netip.MustParsePrefix("10.0.0.0/0"), Destination: netip.MustParsePrefix("10.3.0.10/24"), Protocol: 17, SrcPort: 9, DstPort: 9})
	b, _ := Describe(wire.Flow{Destination: netip.MustParsePrefix("10.3.0.0/24")})
	if a != b {
		t.Errorf("%+v and %+v", a, b)
	}
}

func policer(t *testing.T, q intradomain.QoS) fpc.QoS {
	t.Helper()
	p, err := Policer(q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// RFC 5975 §5.2.11: "how the QNE SHOULD process out-of-profile traffic". What a
// gateway has reads back as what was asked.
func TestExcessTreatment(t *testing.T) {
	for _, test := range []struct {
		asked intradomain.Excess
		want  fpc.Excess
		dscp  uint8
		back  intradomain.Excess
	}{
		{intradomain.Excess{}, fpc.ExcessRemark, 0, intradomain.Excess{Treatment: intradomain.ExcessRemark}},
		{intradomain.Excess{Treatment: intradomain.ExcessDrop}, fpc.ExcessDrop, 0, intradomain.Excess{Treatment: intradomain.ExcessDrop}},
		{intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}, fpc.ExcessRemark, 14, intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}},
		{intradomain.Excess{Treatment: intradomain.ExcessNoMeter}, fpc.ExcessForward, 0, intradomain.Excess{Treatment: intradomain.ExcessNoMeter}},
	} {
		got := policer(t, intradomain.QoS{Class: 46, CIR: 1000, Excess: test.asked})
		if got.Excess != test.want || got.ExcessDSCP != test.dscp || excessOf(got) != test.back {
			t.Errorf("%+v: %v, DSCP %d, reads back as %+v", test.asked, got.Excess, got.ExcessDSCP, excessOf(got))
		}
	}
	for _, cannot := range []intradomain.Treatment{intradomain.ExcessShape, intradomain.ExcessNoMeter + 1} {
		var refusal *intradomain.Refusal
		if _, err := Policer(intradomain.QoS{CIR: 1000, Excess: intradomain.Excess{Treatment: cannot}}); !errors.As(err, &refusal) {
			t.Errorf("%v: %v", cannot, err)
		}
	}
}

// RFC 2698 §2
func TestPolicerCompletes(t *testing.T) {
	for _, test := range []struct {
		in   intradomain.QoS
		want fpc.QoS
	}{
		{intradomain.QoS{Class: 46, CIR: 2_500_000}, fpc.QoS{CIR: 2_500_000, CBS: 125_000, PIR: 2_500_000, PBS: 125_000, Mark: true, DSCP: 46}},
		{intradomain.QoS{Class: 46, DSCP: 44, CIR: 2_500_000}, fpc.QoS{CIR: 2_500_000, CBS: 125_000, PIR: 2_500_000, PBS: 125_000, Mark: true, DSCP: 44}},
		{intradomain.QoS{CIR: 100, PIR: 50, CBS: 20, PBS: 10}, fpc.QoS{CIR: 100, CBS: 1500, PIR: 100, PBS: 1500, Mark: true}},
		{intradomain.QoS{CIR: 1000, PIR: 4_000_000, CBS: 3000, PBS: 5000}, fpc.QoS{CIR: 1000, CBS: 3000, PIR: 4_000_000, PBS: 5000, Mark: true}},
	} {
		if got := policer(t, test.in); got != test.want {
			t.Errorf("%+v: %+v, want %+v", test.in, got, test.want)
		}
	}
}

func TestSubscribersChange(t *testing.T) {
	table := NewSubscribers()
	table.Set([]Subscriber{access("alice", "10.3.0.10/32", 1000), access("bob", "10.3.0.0/24", 2000)})
	find := func(address, want string) *Access {
		t.Helper()
		a, err := table.Find(netip.MustParsePrefix(address))
		if err != nil || a.Name != want {
			t.Fatalf("%s: %v, %v, want %s", address, a, err, want)
		}
		return a
	}
	find("10.3.0.11/32", "bob")
	alice := find("10.3.0.10/32", "alice")
	book := intradomain.NewBook()
	r := intradomain.Request{ID: intradomain.ID{1}, Version: 1, QoS: intradomain.QoS{CIR: 600}}
	if err := book.Hold(r, []*intradomain.Pool{&alice.Pool}); err != nil {
		t.Fatal(err)
	}
	// What is reserved stays while subscribers change.
	table.Set([]Subscriber{access("alice", "10.3.0.12/32", 700)})
	if again := find("10.3.0.12/32", "alice"); again != alice || again.Pool.Capacity != 700 || again.Pool.Peak() != 600 {
		t.Errorf("%+v", again)
	}
	var refusal *intradomain.Refusal
	if _, err := table.Find(netip.MustParsePrefix("10.3.0.10/32")); !errors.As(err, &refusal) {
		t.Errorf("an address that is nobody's any more: %v", err)
	}
	table.Set(nil)
	if a, ok := table.Get(SubscriberPort("alice")); !ok || a.Pool.Capacity != 0 {
		t.Errorf("gone with a reservation: %+v, %v", a, ok)
	}
	book.Release(r.ID)
	table.Set(nil)
	if _, ok := table.Get(SubscriberPort("alice")); ok {
		t.Error("it is still there without one")
	}
}
