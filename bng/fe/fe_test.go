package fe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/interqos/interqos/bng"
	"github.com/interqos/interqos/dataplane"
	"github.com/interqos/interqos/dataplane/soft"
	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/intradomain"
)

const good = `
dpn: bng3
listen: unix:bngfe.sock
wire: 127.3.0.1:9000
subscribers:
  - {id: alice, address: 10.3.0.10, access: "127.3.0.10:9000", cir: 40M}
  - {id: bob, addresses: [10.3.1.0/24, "2001:db8:3::/48"], access: "127.3.0.11:9000", cir: 8M, cbs: 20k, pir: 16M, pbs: 30k, dscp: keep, excess: drop}
`

func parse(t testing.TB, text string) *Config {
	t.Helper()
	c, err := ParseConfig("bngfe.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfig(t *testing.T) {
	c := parse(t, good)
	if c.DPN != "bng3" || c.Listen != "unix:bngfe.sock" || c.Insecure || c.Wire.String() != "127.3.0.1:9000" || c.Metrics.IsValid() || c.LogLevel != "info" {
		t.Errorf("%+v", c)
	}
	alice := fpc.QoS{CIR: 5e6, CBS: 250_000, PIR: 5e6, PBS: 250_000, Mark: true, Excess: fpc.ExcessForward}
	if got := c.Subscribers[0]; got.QoS != alice || got.Addresses[0] != netip.MustParsePrefix("10.3.0.10/32") {
		t.Errorf("alice %+v", got)
	}
	bob := fpc.QoS{CIR: 1e6, CBS: 20_000, PIR: 2e6, PBS: 30_000, Excess: fpc.ExcessDrop}
	if got := c.Subscribers[1]; got.QoS != bob || len(got.Addresses) != 2 {
		t.Errorf("bob %+v", got)
	}
}

func TestConfigErrors(t *testing.T) {
	sub := func(s string) string {
		return "listen: unix:x\nwire: 127.0.0.1:9\nsubscribers:\n- " + s
	}
	for name, test := range map[string]struct{ text, want string }{
		"empty":         {"", "bngfe.yaml:1:1: found an empty file, expected the configuration of a bngfe, a mapping"},
		"not YAML":      {"a: [", "bngfe.yaml:2:1: found a YAML syntax error: did not find expected node content, expected YAML"},
		"a list":        {"[]", "bngfe.yaml:1:1: found a list, expected the configuration of a bngfe, a mapping"},
		"unknown key":   {"listen: unix:x\nwires: 1", `bngfe.yaml:2:1: wires: found an unknown key, expected one of dpn, listen, insecure, wire, metrics, log, subscribers (did you mean wire?)`},
		"missing":       {"listen: unix:x", "bngfe.yaml:1:1: wire: found nothing, expected where packets from the network come in, an IP address and a port, e.g. 127.0.0.1:9000"},
		"twice":         {"wire: 1.1.1.1:1\nwire: 1.1.1.1:1", "bngfe.yaml:2:1: wire: found the key a second time, expected it once (the first is in line 1)"},
		"address":       {"wire: 127.0.0.1", `bngfe.yaml:1:7: wire: found "127.0.0.1", expected where packets from the network come in, an IP address and a port, e.g. 127.0.0.1:9000 (with a port: 127.0.0.1:9000?)`},
		"bool":          {"insecure: yes", `bngfe.yaml:1:11: insecure: found "yes", expected true or false`},
		"level":         {"log: {level: loud}", `bngfe.yaml:1:14: log.level: found "loud", expected one of debug, info, warn, error`},
		"rate":          {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1', cir: 40 MB}"), `bngfe.yaml:4:55: subscribers[0].cir: found "40 MB", expected what can be reserved, a rate in bit/s above 0, e.g. 64k, 20M, 1.5G ("40 MB" is not a number)`},
		"no rate":       {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1'}"), `bngfe.yaml:4:3: subscribers[0].cir: found nothing`},
		"pir":           {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1', cir: 40M, pir: 20M}"), `bngfe.yaml:4:65: subscribers[0].pir: found less than cir: 2500000 and 5000000 octets/s, expected at least cir`},
		"no address":    {sub("{id: a, access: '1.1.1.1:1', cir: 40M}"), `bngfe.yaml:4:3: subscribers[0].address: found nothing, expected an IP address or a prefix`},
		"dscp":          {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1', cir: 40M, dscp: EF}"), `bngfe.yaml:4:66: subscribers[0].dscp: found "EF", expected keep or a DSCP, a whole number from 0 to 63`},
		"same id":       {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1', cir: 40M}\n- {id: a, address: 1.1.1.2, access: '1.1.1.1:1', cir: 40M}"), `bngfe.yaml:5:8: subscribers[1].id: found "a" again, expected each id once`},
		"same address":  {sub("{id: a, address: 1.1.1.1, access: '1.1.1.1:1', cir: 40M}\n- {id: b, address: 1.1.1.1/32, access: '1.1.1.1:1', cir: 40M}"), `bngfe.yaml:5:20: subscribers[1].address: found 1.1.1.1/32, which is "a"'s, expected each address once`},
		"an empty list": {sub("{id: a, addresses: [], access: '1.1.1.1:1', cir: 40M}"), `bngfe.yaml:4:22: subscribers[0].addresses: found an empty list, expected at least one address`},
		"all at once 1": {"wire: x\ninsecure: y", "bngfe.yaml:1:7: wire"},
		"all at once 2": {"wire: x\ninsecure: y", "bngfe.yaml:2:11: insecure"},
	} {
		_, err := ParseConfig("bngfe.yaml", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, test.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("subscribers: [{id: a}]"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig("fuzz", b)
		if err != nil {
			return
		}
		for _, s := range c.Subscribers {
			// What the configuration admits the element takes, but for what
			// only the data plane bounds.
			if _, err := New(c.DPN, []SubscriberConfig{s}, soft.New(func() int64 { return 0 })); err != nil &&
				!errors.Is(err, dataplane.ErrInvalid) && !errors.Is(err, fpc.ErrInvalid) {
				t.Errorf("%+v: %v", s, err)
			}
		}
	})
}

func TestElement(t *testing.T) {
	c := parse(t, good)
	plane := soft.New(func() int64 { return 0 })
	e, err := New(c.DPN, c.Subscribers, plane)
	if err != nil {
		t.Fatal(err)
	}
	snap := e.Snapshot()
	subs, programs, others := bng.Read(snap)
	if snap.DPN != "bng3" || snap.Epoch == 0 || len(subs) != 2 || len(programs)+len(others) != 0 || len(plane.Subscribers()) != 2 {
		t.Fatalf("%+v", snap)
	}
	program := func(n byte, cir uint64) *bng.Program {
		qos, err := bng.Policer(intradomain.QoS{Class: 46, CIR: cir, Excess: intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}})
		if err != nil {
			t.Fatal(err)
		}
		return &bng.Program{ID: intradomain.ID{n}, Version: 1, Parent: bng.SubscriberPort("alice"),
			Match: fpc.Descriptor{Destination: netip.MustParsePrefix("10.3.0.10/32"), HasProtocol: true, Protocol: 17, HasDestinationPort: true, DestinationPort: uint16(n)},
			QoS:   qos}
	}
	configure := func(txs ...fpc.Transaction) []error {
		t.Helper()
		results, err := e.Configure(snap.Epoch, txs)
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	nobody := program(4, 1000)
	nobody.Parent = fpc.ID{99}
	foreign := program(5, 1000)
	foreign.Match.Destination = netip.MustParsePrefix("10.9.0.1/32")
	taken := program(6, 1000)
	taken.Match.DestinationPort = 1
	results := configure(program(1, 3e6).Install(), program(2, 3e6).Install(), program(3, 2e6).Install(), nobody.Install(), foreign.Install(), taken.Install(),
		fpc.Transaction{{Op: fpc.PrtDel, Port: fpc.Port{ID: bng.SubscriberPort("alice")}}})
	for i, want := range []error{nil, dataplane.ErrOverCommitted, nil, fpc.ErrNotFound, fpc.ErrInvalid, fpc.ErrExists, fpc.ErrStatic} {
		if !errors.Is(results[i], want) {
			t.Errorf("transaction %d: %v, want %v", i, results[i], want)
		}
	}
	if _, programs, others := bng.Read(e.Snapshot()); len(programs) != 2 || len(others) != 0 || len(plane.Flows()) != 2 {
		t.Errorf("agent has %d and %d, plane %d", len(programs), len(others), len(plane.Flows()))
	}
	for _, f := range plane.Flows() {
		if f.Excess != dataplane.ExcessRemark || f.ExcessDSCP != 14 || f.Mark.DSCP != 46 {
			t.Errorf("flow %+v", f.Flow)
		}
	}
	if got := e.Counters(nil); len(got) != 4 {
		t.Errorf("counters of %d ports, want 4", len(got))
	}
	if got := e.Counters([]fpc.ID{{1}, {77}}); len(got) != 1 {
		t.Errorf("counters %v", got)
	}
	for _, err := range configure(bng.Remove(intradomain.ID{1}), bng.Remove(intradomain.ID{3}), bng.Remove(intradomain.ID{3})) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := len(plane.Flows()); n != 0 {
		t.Errorf("%d flows left", n)
	}
	if _, err := e.Configure(snap.Epoch+2, nil); !errors.Is(err, fpc.ErrEpoch) {
		t.Errorf("another epoch: %v", err)
	}
}

// failing is a plane whose changes cannot be committed.
type failing struct{ dataplane.Plane }

type failingChange struct{ dataplane.Change }

func (f failing) Begin() dataplane.Change { return failingChange{f.Plane.Begin()} }
func (f failingChange) Commit() error {
	f.Abort()
	return errors.New("no memory")
}

// When the data plane does not take a change, the agent forgets it too.
func TestPlaneFails(t *testing.T) {
	c := parse(t, good)
	plane := soft.New(func() int64 { return 0 })
	e, err := New(c.DPN, c.Subscribers, plane)
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprintf("%+v", e.Snapshot())
	e.plane = failing{plane}
	qos, err := bng.Policer(intradomain.QoS{CIR: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var txs []fpc.Transaction
	for n := range byte(3) {
		p := bng.Program{ID: intradomain.ID{n + 1}, Version: 1, Parent: bng.SubscriberPort("alice"), QoS: qos,
			Match: fpc.Descriptor{Destination: netip.MustParsePrefix("10.3.0.10/32"), HasProtocol: true, Protocol: n}}
		txs = append(txs, p.Install())
	}
	if _, err := e.Configure(e.epoch, txs); err == nil || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("%v", err)
	}
	if after := fmt.Sprintf("%+v", e.Snapshot()); after != before {
		t.Errorf("from\n%s\nto\n%s", before, after)
	}
}
