package bng_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/interqos/interqos/bng/fe"
	"github.com/interqos/interqos/dataplane"
	"github.com/interqos/interqos/dataplane/soft"
	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/fpc/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	driver "github.com/interqos/interqos/intradomain/bng"
	"github.com/interqos/interqos/intradomain/controllertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mbit = 1e6 / 8

const patience = 2 * time.Minute // until a test gives up; none waits so long

// gateway is a bngfe within this process, that can be ended and started again.
type gateway struct {
	testing.TB
	address transport.Address
	plane   *soft.Plane
	server  *transport.Server
	done    chan error
	cir     uint64
	// agent may stand between the server and the element.
	agent func(transport.Agent) transport.Agent
}

func newGateway(t testing.TB) *gateway {
	g := &gateway{TB: t, address: transport.Address{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}, cir: 40 * mbit,
		agent: func(a transport.Agent) transport.Agent { return a }}
	g.start()
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) start() {
	g.Helper()
	start := time.Now()
	g.plane = soft.New(func() int64 { return int64(time.Since(start)) })
	element, err := fe.New("bng3", []fe.SubscriberConfig{{ID: "alice", Addresses: []netip.Prefix{netip.MustParsePrefix("10.3.0.10/32")},
		Access: netip.MustParseAddrPort("127.0.0.1:9"), QoS: fpc.QoS{CIR: g.cir, CBS: 64000, PIR: g.cir, PBS: 64000}}}, g.plane)
	if err != nil {
		g.Fatal(err)
	}
	if g.server, err = transport.Listen(g.address, g.agent(element)); err != nil {
		g.Fatal(err)
	}
	g.done = make(chan error, 1)
	go func(s *transport.Server, done chan error) { done <- s.Serve() }(g.server, g.done)
}

func (g *gateway) stop() {
	if g.server == nil {
		return
	}
	g.server.Close()
	if err := <-g.done; err != nil {
		g.Errorf("Serve: %v", err)
	}
	g.server = nil
}

// flows lists what the data plane has, by ID.
func (g *gateway) flows() map[intradomain.ID]dataplane.Flow {
	all := map[intradomain.ID]dataplane.Flow{}
	for _, f := range g.plane.Flows() {
		all[intradomain.ID(f.ID)] = f.Flow
	}
	return all
}

// eventually polls on a state.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (g *gateway) driver(opt driver.Options) *driver.Driver {
	g.Helper()
	client, err := transport.Dial(g.address)
	if err != nil {
		g.Fatal(err)
	}
	opt.Timeout = patience // a busy machine is no reason
	d := driver.New(client, opt)
	g.Cleanup(func() { d.Close() })
	return d
}

func request(n int, version uint32, cir uint64) intradomain.Request {
	r := intradomain.Request{Version: version, Ingress: netip.MustParseAddr("192.0.2.6"),
		Flow: wire.Flow{Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
			HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: uint16(n)},
		QoS: intradomain.QoS{Class: 46, CIR: cir, CBS: 10000}}
	binary.BigEndian.PutUint64(r.ID[:], uint64(n)+1)
	return r
}

func hold(t testing.TB, c intradomain.Controller, r intradomain.Request) error {
	t.Helper()
	return controllertest.Answer(t, func(done func(error)) { c.Hold(r, done) })
}

func commit(t testing.TB, c intradomain.Controller, r intradomain.Request) error {
	t.Helper()
	return controllertest.Answer(t, func(done func(error)) { c.Commit(r.ID, r.Version, 0, done) })
}

func release(t testing.TB, c intradomain.Controller, id intradomain.ID) error {
	t.Helper()
	return controllertest.Answer(t, func(done func(error)) { c.Release(id, done) })
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// interdomain-qosm §8: "Idempotent by reservation id and version, so that a repeat
// after a crash is harmless", and the rest of the contract.
func TestConformance(t *testing.T) {
	controllertest.Run(t, controllertest.Fixture{
		New: func(t *testing.T) intradomain.Controller {
			return newGateway(t).driver(driver.Options{})
		},
		Request:  func(n int) intradomain.Request { return request(n, 1, 0) },
		Capacity: 40 * mbit,
	})
}

// A hold changes nothing in the data plane, a commit is answered when the policer
// is there, and a release when it is gone.
func TestPolicerFollowsTheReservation(t *testing.T) {
	g := newGateway(t)
	d := g.driver(driver.Options{})
	r := request(1, 1, 20*mbit)
	must(t, hold(t, d, r))
	if n := len(g.flows()); n != 0 {
		t.Errorf("%d flows after hold", n)
	}
	must(t, commit(t, d, r))
	f, ok := g.flows()[r.ID]
	if want := (dataplane.Policer{CIR: 20 * mbit, CBS: 10000, PIR: 20 * mbit, PBS: 125000}); !ok || f.Policer != want || f.Mark.DSCP != 46 {
		t.Errorf("after commit %+v, want %+v", f, want)
	}
	r2 := request(1, 2, 30*mbit)
	must(t, hold(t, d, r2))
	if got := g.flows()[r.ID].Policer.CIR; got != 20*mbit {
		t.Errorf("a hold has changed the policer to %d", got)
	}
	must(t, controllertest.Answer(t, func(done func(error)) { d.Commit(r2.ID, 2, 25*mbit, done) }))
	if got := g.flows()[r.ID].Policer; got.CIR != 25*mbit || got.PIR != 25*mbit {
		t.Errorf("modified and shrunk: %+v", got)
	}
	must(t, release(t, d, r.ID))
	if n := len(g.flows()); n != 0 {
		t.Errorf("%d flows after release", n)
	}
}

func TestRefusals(t *testing.T) {
	g := newGateway(t)
	d := g.driver(driver.Options{Now: func() time.Time { return time.Unix(1000, 0) }})
	refused := func(r intradomain.Request, where string, offer uint64) {
		t.Helper()
		var refusal *intradomain.Refusal
		if err := hold(t, d, r); !errors.As(err, &refusal) || refusal.Where != where || refusal.Offer != offer {
			t.Errorf("%v (%+v), want %s to offer %d", err, refusal, where, offer)
		}
	}
	refused(request(1, 1, 40*mbit+1), "subscriber alice", 40*mbit)
	other := request(1, 1, 1000)
	other.Flow.Destination = netip.MustParsePrefix("10.3.0.11/32")
	refused(other, "bng", 0)
	spi := request(1, 1, 1000)
	spi.Flow.HasSPI = true
	refused(spi, "bng", 0)
	// RFC 5975 §5.2.11: what was asked for, "shape", cannot be done here.
	shape := request(1, 1, 1000)
	shape.QoS.Excess.Treatment = intradomain.ExcessShape
	refused(shape, "bng", 0)
	must(t, hold(t, d, request(1, 1, 1000)))
	same := request(1, 1, 1000)
	same.ID[15] = 9
	refused(same, "subscriber alice", 0) // the flow is another reservation's
	must(t, release(t, d, request(1, 1, 0).ID), hold(t, d, same))
	// What leaves the domain elsewhere, or has no rate, needs no policer.
	through := other
	through.Egress = netip.MustParseAddr("192.0.2.9")
	through.QoS.Excess.Treatment = intradomain.ExcessShape
	none := request(3, 1, 0)
	for _, r := range []intradomain.Request{through, none} {
		must(t, hold(t, d, r), commit(t, d, r))
	}
	if n := len(g.flows()); n != 0 {
		t.Errorf("%d flows", n)
	}
}

// RFC 5975 §5.2.11: the treatment of excess that was asked for is the policer's,
// also after a modification and a restart of this side.
func TestExcessReachesThePolicer(t *testing.T) {
	g := newGateway(t)
	first := g.driver(driver.Options{})
	has := func(d intradomain.Controller, want intradomain.Excess, plane dataplane.Excess) {
		t.Helper()
		flows := g.plane.Flows()
		if len(flows) != 1 || flows[0].Excess != plane || flows[0].ExcessDSCP != want.DSCP || flows[0].Mark.DSCP != 44 {
			t.Errorf("flows %+v", flows)
		}
		if list := controllertest.List(t, d); len(list) != 1 || list[0].Request.QoS.Excess != want || list[0].Request.QoS.DSCP != 44 {
			t.Errorf("listed %+v", list)
		}
	}
	for n, test := range []struct {
		excess intradomain.Excess
		plane  dataplane.Excess
	}{
		{intradomain.Excess{Treatment: intradomain.ExcessDrop}, dataplane.ExcessDrop},
		{intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}, dataplane.ExcessRemark},
		{intradomain.Excess{Treatment: intradomain.ExcessNoMeter}, dataplane.ExcessForward},
	} {
		r := request(1, uint32(n+1), mbit)
		r.QoS.DSCP, r.QoS.Excess = 44, test.excess
		must(t, hold(t, first, r), commit(t, first, r))
		has(first, test.excess, test.plane)
	}
	must(t, first.Close())
	has(g.driver(driver.Options{}), intradomain.Excess{Treatment: intradomain.ExcessNoMeter}, dataplane.ExcessForward)
}

// When the gateway comes back after a restart it gets what is committed, and
// nothing that is only held or was released meanwhile.
func TestGatewayRestarts(t *testing.T) {
	g := newGateway(t)
	// While the gateway is away an hour passes whenever the driver looks.
	var away atomic.Bool
	var passed atomic.Int64
	d := g.driver(driver.Options{Now: func() time.Time {
		if away.Load() {
			passed.Add(int64(time.Hour))
		}
		return time.Now().Add(time.Duration(passed.Load()))
	}})
	for n := range 20 {
		r := request(n, 1, mbit)
		must(t, hold(t, d, r))
		if n < 10 {
			must(t, commit(t, d, r))
		}
	}
	g.stop()
	// Unreachable: an error, in bounded time.
	away.Store(true)
	eventually(t, "the loss is noticed", func() bool { return !d.Ready() })
	if err := commit(t, d, request(15, 1, mbit)); !errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("commit without a gateway: %v", err)
	}
	if err := hold(t, d, request(30, 1, mbit)); !errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("hold without a gateway: %v", err)
	}
	if err := release(t, d, request(3, 1, 0).ID); !errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("release without a gateway: %v", err)
	}
	away.Store(false)
	g.start()
	eventually(t, "the gateway is in line again", func() bool { return d.Ready() })
	flows := g.flows()
	for n := range 20 {
		_, is := flows[request(n, 1, 0).ID]
		if want := n < 10 && n != 3; is != want {
			t.Errorf("reservation %d is there: %v, want %v", n, is, want)
		}
	}
	must(t, commit(t, d, request(15, 1, mbit)))
	if len(g.flows()) != 10 {
		t.Errorf("%d flows, want 10", len(g.flows()))
	}
}

// A commit that is under way while the gateway restarts succeeds once it is back.
func TestCommitWaitsForTheGateway(t *testing.T) {
	g := newGateway(t)
	d := g.driver(driver.Options{})
	r := request(1, 1, mbit)
	must(t, hold(t, d, r))
	g.stop()
	answer := make(chan error, 1)
	d.Commit(r.ID, 1, 0, func(err error) { answer <- err })
	g.start()
	must(t, <-answer)
	if len(g.flows()) != 1 {
		t.Errorf("%d flows", len(g.flows()))
	}
}

// After a restart of this side the list says what the gateway really has, and
// what nobody knows can be released; repeats of what was committed are harmless.
func TestDriverRestarts(t *testing.T) {
	g := newGateway(t)
	first := g.driver(driver.Options{})
	for n := range 5 {
		r := request(n, 3, mbit)
		must(t, hold(t, first, r), commit(t, first, r))
	}
	must(t, hold(t, first, request(9, 3, mbit))) // a hold dies with its process
	must(t, first.Close())
	d := g.driver(driver.Options{})
	list := controllertest.List(t, d)
	if len(list) != 5 {
		t.Fatalf("%d listed, want 5", len(list))
	}
	for n, h := range list {
		want := request(n, 3, mbit)
		if !h.Committed || h.ID != want.ID || h.Version != 3 || h.Request.Flow != want.Flow || h.Request.QoS.CIR != mbit || h.Request.QoS.Class != 46 {
			t.Errorf("%+v", h)
		}
	}
	must(t, hold(t, d, request(0, 3, mbit)), commit(t, d, request(0, 3, mbit)))
	var refusal *intradomain.Refusal
	if err := hold(t, d, request(20, 1, 36*mbit)); !errors.As(err, &refusal) || refusal.Offer != 35*mbit {
		t.Errorf("%v, %+v, want what the others leave", err, refusal)
	}
	must(t, release(t, d, list[4].ID))
	if len(g.flows()) != 4 {
		t.Errorf("%d flows, want 4", len(g.flows()))
	}
}

// List repairs what the gateway has lost or has too much.
func TestListCompares(t *testing.T) {
	g := newGateway(t)
	d := g.driver(driver.Options{})
	r := request(1, 1, mbit)
	must(t, hold(t, d, r), commit(t, d, r))
	client, err := transport.Dial(g.address)
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	snap, err := client.List(ctx)
	must(t, err)
	id, stranger := fpc.ID(r.ID), fpc.ID{0xee}
	match := fpc.Descriptor{Destination: netip.MustParsePrefix("10.3.0.10/32")}
	var parent fpc.ID
	for _, p := range snap.Ports {
		if p.Static {
			parent = p.ID
		}
	}
	results, err := client.Configure(ctx, snap.Epoch, []fpc.Transaction{
		{{Op: fpc.RuleDel, Rule: fpc.Rule{ID: id}}, {Op: fpc.PrtDel, Port: fpc.Port{ID: id}}},
		{{Op: fpc.PrtAdd, Port: fpc.Port{ID: stranger, Version: 1, Properties: []fpc.Property{
			{ID: 1, Kind: fpc.PropQoS, QoS: fpc.QoS{CIR: 1, CBS: 1, PIR: 1, PBS: 1}}, {ID: 2, Kind: fpc.PropParent, Parent: parent}}}},
			{Op: fpc.RuleAdd, Rule: fpc.Rule{ID: stranger, Version: 1, Port: stranger, Match: match}}},
	})
	must(t, err)
	must(t, results...)
	if _, ok := g.flows()[intradomain.ID(stranger)]; !ok || len(g.flows()) != 1 {
		t.Fatalf("%v", g.flows())
	}
	if list := controllertest.List(t, d); len(list) != 1 || list[0].ID != r.ID {
		t.Errorf("list %+v", list)
	}
	if _, ok := g.flows()[r.ID]; !ok || len(g.flows()) != 1 {
		t.Errorf("%v", g.flows())
	}
}

// gate lets calls of Configure wait, so that a test can do something meanwhile.
type gate struct {
	transport.Agent
	mu      sync.Mutex
	entered chan struct{}
	open    chan struct{}
}

func (g *gate) Configure(epoch uint64, txs []fpc.Transaction) ([]error, error) {
	g.mu.Lock()
	entered, open := g.entered, g.open
	g.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
		<-open
	}
	return g.Agent.Configure(epoch, txs)
}

// What is dropped or released while its commit is on the way leaves no policer.
func TestReleaseDuringCommit(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprintf("drop=%v", drop), func(t *testing.T) {
			g := newGateway(t)
			g.stop()
			gt := &gate{}
			g.agent = func(a transport.Agent) transport.Agent { gt.Agent = a; return gt }
			g.start()
			d := g.driver(driver.Options{})
			r := request(1, 1, 30*mbit)
			must(t, hold(t, d, r))
			gt.mu.Lock()
			gt.entered, gt.open = make(chan struct{}, 10), make(chan struct{})
			gt.mu.Unlock()
			committed, released := make(chan error, 1), make(chan error, 1)
			d.Commit(r.ID, 1, 0, func(err error) { committed <- err })
			<-gt.entered
			if drop {
				d.Drop(r.ID, 1, func(err error) { released <- err })
			} else {
				d.Release(r.ID, func(err error) { released <- err })
			}
			// Its capacity is free for others, who come after it.
			next := request(2, 1, 30*mbit)
			must(t, hold(t, d, next))
			close(gt.open)
			if err := <-committed; !errors.Is(err, intradomain.ErrNoHold) {
				t.Errorf("commit: %v", err)
			}
			must(t, <-released)
			eventually(t, "its policer is gone", func() bool { return len(g.flows()) == 0 })
			must(t, commit(t, d, next))
			if flows := g.flows(); len(flows) != 1 || flows[next.ID].ID != dataplane.ID(next.ID) {
				t.Errorf("flows %v", flows)
			}
		})
	}
}

// A gateway whose subscriber has less after its restart gets what fits of what is
// committed; more is not admitted.
func TestSubscriberShrinks(t *testing.T) {
	g := newGateway(t)
	d := g.driver(driver.Options{})
	for n := range 2 {
		r := request(n, 1, 15*mbit)
		must(t, hold(t, d, r), commit(t, d, r))
	}
	g.stop()
	g.cir = 20 * mbit
	g.start()
	eventually(t, "the gateway has what fits", func() bool { return len(g.flows()) == 1 })
	eventually(t, "the driver is ready", func() bool { return d.Ready() })
	var refusal *intradomain.Refusal
	if err := hold(t, d, request(5, 1, mbit)); !errors.As(err, &refusal) || refusal.Offer != 0 {
		t.Errorf("%v", err)
	}
}

func TestClosed(t *testing.T) {
	g := newGateway(t)
	g.stop()
	d := g.driver(driver.Options{})
	waiting := make(chan error, 1)
	d.Hold(request(1, 1, mbit), func(err error) { waiting <- err })
	must(t, d.Close(), d.Close())
	if err := <-waiting; !errors.Is(err, driver.ErrClosed) {
		t.Errorf("a hold that waited: %v", err)
	}
	for name, err := range map[string]error{
		"hold":    hold(t, d, request(1, 1, mbit)),
		"release": release(t, d, intradomain.ID{1}),
		"list":    controllertest.Answer(t, func(done func(error)) { d.List(func(_ []intradomain.Held, err error) { done(err) }) }),
	} {
		if !errors.Is(err, driver.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBusy(t *testing.T) {
	g := newGateway(t)
	g.stop()
	d := g.driver(driver.Options{MaxWaiting: 2})
	for n := range 2 {
		d.Hold(request(n, 1, mbit), func(error) {})
	}
	if err := hold(t, d, request(3, 1, mbit)); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("%v", err)
	}
}

// Policers programmed and removed, with many under way, over a Unix socket.
func BenchmarkCommit(b *testing.B) {
	for _, inFlight := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("in-flight=%d", inFlight), func(b *testing.B) {
			g := newGateway(b)
			d := g.driver(driver.Options{})
			must(b, hold(b, d, request(60000, 1, 1)))
			slots := make(chan struct{}, inFlight)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				slots <- struct{}{}
				r := request(n, 1, 1)
				r.Flow.SrcPort, r.Flow.HasSrcPort = uint16(n>>16), true
				fail := func(err error) {
					if err != nil {
						b.Error(err)
					}
				}
				d.Hold(r, fail)
				d.Commit(r.ID, 1, 0, func(err error) {
					fail(err)
					d.Release(r.ID, func(err error) {
						fail(err)
						<-slots
					})
				})
			}
			for range inFlight {
				slots <- struct{}{}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "policers/s")
		})
	}
}
