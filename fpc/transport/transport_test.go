package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/fpc/transport/fpcpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is an agent that notes what it is told.
type memory struct {
	mu       sync.Mutex
	epoch    uint64
	txs      []fpc.Transaction
	results  []error
	snapshot fpc.Snapshot
	counters map[fpc.ID]fpc.Counters
}

func (m *memory) Configure(epoch uint64, txs []fpc.Transaction) ([]error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch {
		return nil, fpc.ErrEpoch
	}
	m.txs = append(m.txs, txs...)
	return m.results[:len(txs)], nil
}
func (m *memory) Snapshot() fpc.Snapshot { return m.snapshot }
func (m *memory) Counters(ports []fpc.ID) map[fpc.ID]fpc.Counters {
	out := map[fpc.ID]fpc.Counters{}
	for id, c := range m.counters {
		if len(ports) == 0 || id == ports[0] {
			out[id] = c
		}
	}
	return out
}

func serve(t *testing.T, a Address, agent Agent) *Server {
	t.Helper()
	s, err := Listen(a, agent)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func dial(t *testing.T, a Address) *Client {
	t.Helper()
	c, err := Dial(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func everything() fpc.Transaction {
	qos := fpc.QoS{CIR: 1, CBS: 2, PIR: 3, PBS: 4, Mark: true, DSCP: 46, Excess: fpc.ExcessForward, ExcessDSCP: 10}
	port := fpc.Port{ID: fpc.ID{1}, Version: 7, Name: "alice", Static: true, Properties: []fpc.Property{
		{ID: 1, Kind: fpc.PropQoS, QoS: qos},
		{ID: 2, Kind: fpc.PropGW, GW: netip.MustParseAddrPort("[::1]:9")},
		{ID: 3, Kind: fpc.PropParent, Parent: fpc.ID{5}}}}
	rule := fpc.Rule{ID: fpc.ID{2}, Version: 8, Static: true, Port: fpc.ID{1}, Match: fpc.Descriptor{
		Source: netip.MustParsePrefix("10.1.0.0/16"), Destination: netip.MustParsePrefix("2001:db8::/32"),
		HasProtocol: true, Protocol: 0, HasSourcePort: true, SourcePort: 0, HasDestinationPort: true, DestinationPort: 65535}}
	short := fpc.Port{ID: fpc.ID{1}, Version: 7}
	return fpc.Transaction{
		{Op: fpc.PrtAdd, Port: port}, {Op: fpc.PrtDel, Port: short},
		{Op: fpc.PropAdd, Port: short, Property: port.Properties[0]}, {Op: fpc.PropMod, Port: short, Property: port.Properties[1]},
		{Op: fpc.PropDel, Port: short, Property: fpc.Property{ID: 9}},
		{Op: fpc.RuleAdd, Rule: rule}, {Op: fpc.RuleMod, Rule: fpc.Rule{ID: fpc.ID{2}, Port: fpc.ID{1}}}, {Op: fpc.RuleDel, Rule: fpc.Rule{ID: fpc.ID{2}, Port: fpc.ID{1}}},
	}
}

// What a client says, the agent hears, and the other way round.
func TestEverythingCrosses(t *testing.T) {
	agent := &memory{epoch: 42, results: []error{nil, &fpc.CommandError{Index: 1, Op: fpc.PrtAdd, What: "port x", Err: fpc.ErrExists}, errors.New("plane")}}
	for n := range 2500 { // several parts
		agent.snapshot.Ports = append(agent.snapshot.Ports, fpc.Port{ID: fpc.ID{byte(n >> 8), byte(n)}, Properties: everything()[0].Port.Properties})
		agent.snapshot.Rules = append(agent.snapshot.Rules, fpc.Rule{ID: fpc.ID{3, byte(n >> 8), byte(n)}, Match: everything()[5].Rule.Match})
	}
	agent.snapshot.DPN, agent.snapshot.Epoch = "bng3", 42
	agent.counters = map[fpc.ID]fpc.Counters{}
	for n := range 1500 {
		agent.counters[fpc.ID{byte(n >> 8), byte(n)}] = fpc.Counters{GreenPackets: 1, GreenOctets: 2, YellowPackets: 3, YellowOctets: 4,
			RedPackets: 5, RedOctets: 6, DroppedPackets: 7, DroppedOctets: uint64(n)}
	}
	a := Address{"unix", filepath.Join(t.TempDir(), "s")}
	serve(t, a, agent)
	c := dial(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	snap, err := c.List(ctx)
	if err != nil || !reflect.DeepEqual(snap, agent.snapshot) {
		t.Fatalf("List: %v; %d ports, %d rules", err, len(snap.Ports), len(snap.Rules))
	}
	results, err := c.Configure(ctx, 42, []fpc.Transaction{everything(), {}, {}})
	if err != nil {
		t.Fatal(err)
	}
	if results[0] != nil || !errors.Is(results[1], fpc.ErrExists) || results[1].Error() != agent.results[1].Error() || results[2] == nil {
		t.Errorf("results %v", results)
	}
	if !reflect.DeepEqual(agent.txs[0], everything()) {
		t.Errorf("heard %+v\nsaid  %+v", agent.txs[0], everything())
	}
	if _, err := c.Configure(ctx, 41, []fpc.Transaction{{}}); !errors.Is(err, fpc.ErrEpoch) {
		t.Errorf("another epoch: %v", err)
	}
	all, err := c.Counters(ctx)
	if err != nil || !reflect.DeepEqual(all, agent.counters) {
		t.Errorf("Counters: %v, %d", err, len(all))
	}
	one, err := c.Counters(ctx, fpc.ID{0, 1})
	if err != nil || len(one) != 1 || one[fpc.ID{0, 1}].DroppedOctets != 1 {
		t.Errorf("Counters of one: %v, %v", err, one)
	}
}

// A client notices that its agent has gone, and finds the next one.
func TestReconnect(t *testing.T) {
	a := Address{"unix", filepath.Join(t.TempDir(), "s")}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := dial(t, a)
	first, err := Listen(a, &memory{snapshot: fpc.Snapshot{Epoch: 1}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- first.Serve() }()
	if snap, err := c.List(ctx); err != nil || snap.Epoch != 1 {
		t.Fatalf("%+v, %v", snap, err)
	}
	first.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	select {
	case <-c.Lost():
	case <-ctx.Done():
		t.Fatal("the loss was not noticed")
	}
	if _, err := c.Configure(ctx, 1, nil); err == nil {
		t.Error("Configure succeeded without an agent")
	}
	serve(t, a, &memory{snapshot: fpc.Snapshot{Epoch: 2}})
	if snap, err := c.List(ctx); err != nil || snap.Epoch != 2 {
		t.Errorf("%+v, %v", snap, err)
	}
}

func TestAddress(t *testing.T) {
	for text, test := range map[string]struct {
		insecure bool
		want     string // or a part of the error
	}{
		"unix:/run/x":    {false, "unix:/run/x"},
		"unix:":          {false, "expected unix: and a path"},
		"127.0.0.1:99":   {true, "127.0.0.1:99"},
		"[::1]:99":       {true, "[::1]:99"},
		"127.0.0.2:99":   {false, "insecure: true"},
		"192.0.2.1:99":   {true, "loopback"},
		"localhost:99":   {true, "expected unix:/path or an address and a port"},
		"somewhere else": {true, "expected unix:/path or an address and a port"},
	} {
		a, err := ParseAddress(text, test.insecure)
		got := a.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", text, got, test.want)
		}
	}
}

func TestSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a := Address{"unix", path}
	// What a dead process has left is replaced.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	serve(t, a, &memory{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, expected a socket for its owner", info, err)
	}
	// A living one is not, and neither is a file.
	if _, err := Listen(a, &memory{}); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a second server: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Address{"unix", file}, &memory{}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("on a file: %v", err)
	}
}

// A malformed transaction is refused by itself, and says what is wrong.
func TestMalformed(t *testing.T) {
	good := fromTransactions([]fpc.Transaction{everything()})[0]
	for name, change := range map[string]func(*fpcpb.Transaction){
		"identifier":     func(tx *fpcpb.Transaction) { tx.Commands[0].Port.Id = []byte{1} },
		"no port":        func(tx *fpcpb.Transaction) { tx.Commands[0].Port = nil },
		"no rule":        func(tx *fpcpb.Transaction) { tx.Commands[5].Rule = nil },
		"no value":       func(tx *fpcpb.Transaction) { tx.Commands[2].Property.Value = nil },
		"property":       func(tx *fpcpb.Transaction) { tx.Commands[2].Property.Id = 256 },
		"DSCP":           func(tx *fpcpb.Transaction) { tx.Commands[2].Property.GetPropQos().Dscp = 64 },
		"excess's DSCP":  func(tx *fpcpb.Transaction) { tx.Commands[2].Property.GetPropQos().ExcessDscp = 64 },
		"excess":         func(tx *fpcpb.Transaction) { tx.Commands[2].Property.GetPropQos().Excess = -1 },
		"gateway":        func(tx *fpcpb.Transaction) { tx.Commands[3].Property.GetPropGw().Address = nil },
		"gateway's port": func(tx *fpcpb.Transaction) { tx.Commands[3].Property.GetPropGw().Port = 1 << 16 },
		"prefix":         func(tx *fpcpb.Transaction) { tx.Commands[5].Rule.Match.Source.Bits = 33 },
		"prefix address": func(tx *fpcpb.Transaction) { tx.Commands[5].Rule.Match.Source.Address = []byte{1, 2, 3} },
		"protocol":       func(tx *fpcpb.Transaction) { tx.Commands[5].Rule.Match.Protocol = new(uint32(256)) },
		"port":           func(tx *fpcpb.Transaction) { tx.Commands[5].Rule.Match.DestinationPort = new(uint32(65536)) },
	} {
		tx := proto.CloneOf(good)
		change(tx)
		agent := &memory{results: []error{nil}}
		s := service{agent: agent}
		resp, err := s.Configure(t.Context(), &fpcpb.ConfigureRequest{Transactions: []*fpcpb.Transaction{tx, good}})
		if err != nil {
			t.Fatal(err)
		}
		if r := resp.Results; r[0].Code != fpcpb.Code_INVALID || r[0].Text == "" || r[1].Code != fpcpb.Code_OK || len(agent.txs) != 1 {
			t.Errorf("%s: %v, %d transactions were carried out", name, r, len(agent.txs))
		}
	}
}

func FuzzTransaction(f *testing.F) {
	b, err := proto.Marshal(fromTransactions([]fpc.Transaction{everything()})[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m fpcpb.Transaction
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		tx, err := toTransaction(&m)
		if err != nil {
			return
		}
		again, err := toTransaction(fromTransactions([]fpc.Transaction{tx})[0])
		if err != nil || !reflect.DeepEqual(tx, again) {
			t.Errorf("%+v, again %+v, %v", tx, again, err)
		}
	})
}
