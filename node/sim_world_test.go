package node

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/interdomain/bgp"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// The three ASs of labs/01-three-networks in memory, from the same files: the
// very qne and edges of the process, a real ledger and pathdb, a store and a
// driver connection that are slow, fail, and outlive a crash, and a network and
// a clock of simnet's. Everything runs in one goroutine and follows the seed.

const labDir = "../labs/01-three-networks"

var simStart = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// simWorld is the three ASs and the initiator's application in AS65001.
type simWorld struct {
	t    testing.TB
	seed uint64
	net  *simnet.Net
	rng  *rand.Rand
	as   []*simAS
	app  map[wire.SID]*simSession
	next uint16 // last SID given out

	slsTexts simTexts
	// transit is the place of the AS by which AS65001 and AS65003 reach each other,
	// where there are two; 0: the ASs are a chain.
	transit int

	// certs are the certificates that TLS finds at each address.
	certs map[netip.Addr]*gist.Certificate

	// onMessage, where set, sees every QoS-NSLP message as it is sent.
	onMessage func(from, to netip.Addr, sid wire.SID, msg *nslpwire.Message)

	trace    []string
	traceMax int
}

// simAS is what outlives a process of the AS: configuration, what is on disk,
// and the network that the driver controls.
type simAS struct {
	w      *simWorld
	cfg    *Config
	host   *simnet.Host
	edges  []*simnet.Host
	disk   *simStore
	device *simDriver
	slss   []sls.SLS
	p      *simProc // nil while it is down
	starts int
	notes  map[string]int
	last   map[string]string // detail of the last note of a kind
	routes simRoutes
	// surviving says that the network keeps its reservations over a restart.
	surviving bool
	skew      time.Duration // of its clock
	bgpDelay  time.Duration // until routes to others are there after a start
	bestPath  netip.Addr    // the next hop to others, where it is not the chain's
	oversold  string
}

// simProc is one life of a process: the effects of its qne.
type simProc struct {
	as      *simAS
	q       qne
	l       *sharedLedger
	conns   map[gist.ConnID]*simnet.Conn
	even    gist.ConnID
	timer   *simnet.Timer
	expiry  *simnet.Timer
	dead    bool
	started time.Time
	ready   bool // the driver is reconciled
	relays  []*gist.Edge
}

func newSimWorld(t testing.TB, seed uint64, change ...func(*Config)) *simWorld {
	t.Helper()
	w := newSimWorldOf(t, seed)
	w.slsTexts = labTexts(t, "sls", "as65001-as65002", "as65002-as65003")
	for name, text := range labTexts(t, "config", "as65001", "as65002", "as65003").sorted() {
		w.add(name, text, change...)
	}
	w.start()
	return w
}

// newSimWorldOf is the world without any AS.
func newSimWorldOf(t testing.TB, seed uint64) *simWorld {
	w := &simWorld{t: t, seed: seed, net: simnet.New(seed, simStart), rng: rand.New(rand.NewPCG(seed, 7)),
		app: make(map[wire.SID]*simSession), traceMax: 600, certs: make(map[netip.Addr]*gist.Certificate)}
	w.net.Default = simnet.Link{Delay: time.Millisecond}
	w.net.Tap = w.tap
	return w
}

// simTexts are files by their names.
type simTexts map[string]string

func (x simTexts) sorted() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if !yield(name, x[name]) {
				return
			}
		}
	}
}

func labTexts(t testing.TB, folder string, names ...string) simTexts {
	t.Helper()
	texts := make(simTexts)
	for _, name := range names {
		file := filepath.Join(labDir, folder, name+".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	return texts
}

// add makes an AS of its configuration.
func (w *simWorld) add(file, text string, change ...func(*Config)) {
	w.t.Helper()
	cfg, err := Parse(file, []byte(text)) // certificates are the simulation's own
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range change {
		f(cfg)
	}
	a := &simAS{w: w, cfg: cfg, notes: make(map[string]int), last: make(map[string]string), surviving: true}
	a.disk = &simStore{as: a, records: make(map[sls.ID][]byte)}
	a.routes = simRoutes{as: a, index: len(w.as)}
	w.as = append(w.as, a)
	for _, own := range cfg.GIST.all() {
		w.certs[own] = simCertificate(cfg.AS, cfg.GIST.all()...)
	}
}

func (w *simWorld) start() {
	for _, a := range w.as {
		a.attach()
		a.device = &simDriver{as: a, real: a.newDriver()}
		a.loadSLS()
		a.boot()
	}
	w.net.Run(time.Millisecond) // until the drivers are reconciled
}

func simCertificate(as uint32, addresses ...netip.Addr) *gist.Certificate {
	return &gist.Certificate{CommonName: "qne", URIs: []string{pki.ASURI(as)}, Addresses: addresses}
}

// loadSLS gives the AS the SLSs that it is a party of.
func (a *simAS) loadSLS() {
	for f, text := range a.w.slsTexts.sorted() {
		list, err := sls.Parse(f, []byte(text))
		if err != nil {
			a.w.t.Fatal(err)
		}
		for _, s := range list {
			if s.Customer == a.cfg.AS || s.Provider == a.cfg.AS {
				a.slss = append(a.slss, s)
			}
		}
	}
}

// newDriver is the pathdb of the configuration; gateways are another test's.
func (a *simAS) newDriver() intradomain.Controller {
	for _, d := range a.cfg.Intradomain {
		if d.Name != "pathdb" {
			continue
		}
		open, err := readDriver(a.cfg, d)
		if err != nil {
			a.w.t.Fatal(err)
		}
		c, err := open(nil)
		if err != nil {
			a.w.t.Fatal(err)
		}
		return c
	}
	a.w.t.Fatal("no pathdb in the configuration")
	return nil
}

func (a *simAS) attach() {
	a.host = &simnet.Host{Name: fmt.Sprintf("AS%d", a.cfg.AS), Datagram: func(d simnet.Datagram) {
		if a.p != nil {
			a.p.handle(gist.Datagram{Local: d.To, From: d.From, TTL: d.TTL, RouterAlert: d.RouterAlert, Payload: d.Payload})
		}
	}, Accept: func(c *simnet.Conn) bool { return a.p != nil && a.p.accept(c) }}
	a.w.net.Attach(a.host, a.cfg.GIST.all()...)
	for i := range a.cfg.Edges {
		e := &a.cfg.Edges[i]
		h := &simnet.Host{Name: e.Name, Datagram: func(d simnet.Datagram) {
			if a.p != nil {
				a.p.relay(i, d)
			}
		}}
		a.edges = append(a.edges, h)
		a.w.net.Attach(h, e.Internal, e.External)
	}
}

// boot starts a process with nothing but what is on disk, as Start does.
func (a *simAS) boot() {
	w := a.w
	a.starts++
	p := &simProc{as: a, l: &sharedLedger{l: sls.New(sls.Config{HoldTime: a.cfg.NSLP.HoldTimeout})}, conns: make(map[gist.ConnID]*simnet.Conn), started: a.now()}
	a.p = p
	if !a.surviving {
		a.device.real = a.newDriver()
	}
	if err := p.l.l.LoadSLS(a.slss); err != nil {
		w.fatalf("AS%d: %v", a.cfg.AS, err)
	}
	fill := func(b []byte) {
		for i := range b {
			b[i] = byte(w.rng.Uint32())
		}
	}
	var err error
	p.q, err = newQNE(a.cfg, qneParts{
		epoch: w.rng.Uint32(), started: a.now(), random: w.rng.Uint64, fill: fill,
		route: func(mri wire.MRI) (gist.QueryRoute, error) {
			return offPathRoute(a.cfg.Edges, &a.cfg.GIST, a.routes, mri)
		},
		routes: a.routes, fx: p,
	})
	if err != nil {
		w.fatalf("AS%d: %v", a.cfg.AS, err)
	}
	for i := range a.cfg.Edges {
		r, err := newRelay(a.cfg, &a.cfg.Edges[i], a.routes, func(source netip.Prefix, at gist.Ingress) bool {
			ok, err := borderIngress(&a.cfg.Edges[i], a.routes, nil, source, at)
			return ok && err == nil
		})
		if err != nil {
			w.fatalf("AS%d: %v", a.cfg.AS, err)
		}
		p.relays = append(p.relays, r)
	}
	for _, r := range a.disk.load() {
		if err := p.l.l.Restore(a.now(), r.Bookings); err != nil {
			w.fatalf("AS%d: the ledger cannot restore %s: %v", a.cfg.AS, r.ID, err)
		}
		p.q.restore(a.now(), &r)
	}
	a.checkSold()
	for _, h := range append([]*simnet.Host{a.host}, a.edges...) {
		w.net.Up(h)
	}
	p.reconcile(100 * time.Millisecond)
	p.rearm()
}

// crash ends the process at once. What was being written may or may not be on
// disk; the peers learn at once (the kernel resets) or late (the power went).
func (a *simAS) crash(reset bool) {
	if a.p == nil {
		return
	}
	a.w.logf("AS%d crashes", a.cfg.AS)
	p := a.p
	p.dead, a.p = true, nil
	for _, t := range []*simnet.Timer{p.timer, p.expiry} {
		if t != nil {
			t.Stop()
		}
	}
	for _, h := range append([]*simnet.Host{a.host}, a.edges...) {
		a.w.net.Down(h, reset)
	}
	a.disk.crash()
	a.device.crash()
	if a == a.w.as[0] {
		a.w.appLost(p)
	}
}

// restart is a crash and a new start after a while.
func (a *simAS) restart(down time.Duration, reset bool) {
	a.crash(reset)
	a.w.net.After(down, func() {
		if a.p == nil {
			a.w.logf("AS%d starts again", a.cfg.AS)
			a.boot()
		}
	})
}

// now is the AS's clock.
func (a *simAS) now() time.Time { return a.w.net.Now().Add(a.skew) }

func (p *simProc) now() time.Time { return p.as.now() }

// handle gives the qne an event, as the shard's loop does.
func (p *simProc) handle(ev any) {
	if p.dead {
		return
	}
	p.q.handle(p.now(), ev)
	if d := p.q.deadline(); due(p.now(), d) {
		p.q.handle(p.now(), nil)
	}
	p.rearm()
}

func (p *simProc) rearm() {
	if p.dead {
		return
	}
	for _, t := range []*simnet.Timer{p.timer, p.expiry} {
		if t != nil {
			t.Stop()
		}
	}
	p.timer, p.expiry = nil, nil
	if at := p.q.deadline(); !at.IsZero() {
		p.timer = p.as.w.net.At(at.Add(-p.as.skew), func() { p.handle(nil) })
	}
	if at := p.l.l.Deadline(); !at.IsZero() {
		p.expiry = p.as.w.net.At(at.Add(-p.as.skew), p.expire)
	}
}

// expire is what Node.expireHolds does.
func (p *simProc) expire() {
	for _, id := range p.l.expire(p.now()) {
		p.post(qosnslp.Abandon{SID: wire.SID(id), Info: nslpwire.InfoSpec{
			Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationFailure,
		}})
	}
	p.rearm()
}

func (p *simProc) accept(c *simnet.Conn) bool {
	if c.Local.Port() != p.as.cfg.GIST.TCPPort {
		return false
	}
	p.even += 2
	up := gist.ConnAccepted{Conn: p.even, Local: c.Local, Remote: c.Remote}
	if p.as.cfg.GIST.TLS != nil {
		up.Stack, up.Certificate = gist.StackTLS, p.as.w.certs[c.Remote.Addr()]
		if up.Certificate == nil {
			return false
		}
	}
	p.watch(p.even, c)
	p.handle(up)
	return true
}

func (p *simProc) watch(id gist.ConnID, c *simnet.Conn) {
	p.conns[id] = c
	c.Message = func(b []byte) { p.handle(&gist.ConnMessage{Conn: id, Payload: b}) }
	c.Down = func(err error) {
		delete(p.conns, id)
		p.handle(gist.ConnDown{Conn: id, Err: err})
	}
}

// relay is the edge i, as edge.handle.
func (p *simProc) relay(i int, d simnet.Datagram) {
	inside := d.To.Addr() == p.as.cfg.Edges[i].Internal
	in := gist.Datagram{Local: d.To, From: d.From, TTL: d.TTL, RouterAlert: d.RouterAlert, Payload: d.Payload}
	for _, a := range p.relays[i].Handle(p.now(), in, inside) {
		switch a := a.(type) {
		case gist.SendDatagram:
			p.sendDatagram(p.now(), a)
		case gist.Note:
			p.note("edge "+p.as.cfg.Edges[i].Name, a.Kind, wire.SID{}, a.Remote, a.Detail)
		}
	}
}

// The effects of a qne.

func (p *simProc) forwardDatagram(_ time.Time, f gist.ForwardDatagram) {
	p.as.w.fatalf("nothing is intercepted here, and yet %+v is forwarded", f)
}

func (p *simProc) sendDatagram(_ time.Time, d gist.SendDatagram) {
	if !d.Local.IsValid() {
		d.Local = p.as.cfg.GIST.Address
	}
	ttl := d.TTL
	if ttl == 0 {
		ttl = 64
	}
	p.as.w.net.Send(simnet.Datagram{From: netip.AddrPortFrom(d.Local, p.as.cfg.GIST.Port), To: d.To, TTL: ttl, RouterAlert: d.RouterAlert, Payload: d.Payload})
}

func (p *simProc) connect(c gist.Connect) {
	if !c.Local.IsValid() {
		c.Local = p.as.cfg.GIST.Address
	}
	conn := p.as.w.net.Dial(c.Local, c.To)
	p.watch(c.Conn, conn)
	conn.Up = func() {
		up := gist.ConnUp{Conn: c.Conn}
		if c.Stack == gist.StackTLS {
			up.Certificate = p.as.w.certs[c.To.Addr()]
		}
		p.handle(up)
	}
}

func (p *simProc) sendConn(_ time.Time, c *gist.SendConn) {
	if conn := p.conns[c.Conn]; conn != nil {
		conn.Send(c.Payload)
	}
}

func (p *simProc) closeConn(c gist.CloseConn) {
	if conn := p.conns[c.Conn]; conn != nil {
		delete(p.conns, c.Conn)
		conn.Close()
	}
}

func (p *simProc) ledger() ledger                 { return watchedLedger{p} }
func (p *simProc) driver() intradomain.Controller { return p.as.device }
func (p *simProc) preempt(ev qosnslp.Preempt)     { p.post(ev) }
func (p *simProc) put(r store.Record, gone []sls.ID, done func(error)) {
	p.as.disk.put(p, r, gone, done)
}
func (p *simProc) remove(id sls.ID, done func(error)) { p.as.disk.remove(p, id, done) }
func (p *simProc) post(ev any)                        { p.as.w.net.After(0, func() { p.handle(ev) }) }

func (p *simProc) result(r qosnslp.Result) {
	p.as.w.logf("AS%d tells its application of %s: %s %v", p.as.cfg.AS, short(r.SID), kindText(r.Kind), r.Info)
	if p.as == p.as.w.as[0] {
		p.as.w.told(r)
	}
}

func (p *simProc) notified(n qosnslp.Notified) {
	p.as.notes["notified/"+n.Message.InfoSpec.String()]++
}

func (p *simProc) note(layer, kind string, sid wire.SID, remote netip.AddrPort, detail string) {
	p.as.notes[layer+"/"+kind]++
	p.as.last[layer+"/"+kind] = detail
	p.as.w.logf("AS%d %s %s %s %s %s", p.as.cfg.AS, layer, kind, short(sid), remote, detail)
}

// reconcile is reconcileOnce until it succeeds, without waiting for anything.
func (p *simProc) reconcile(wait time.Duration) {
	want := p.q.domain.DriverRequests()
	var steps []func(done func(error))
	var failed bool
	var run func()
	again := func() {
		p.as.w.net.After(wait, func() {
			if !p.dead {
				p.reconcile(min(2*wait, 10*time.Second))
			}
		})
	}
	run = func() {
		if p.dead {
			return
		}
		if len(steps) == 0 {
			if p.ready = !failed; failed {
				again()
			}
			return
		}
		step := steps[0]
		steps = steps[1:]
		step(func(err error) {
			failed = failed || err != nil
			p.as.w.net.After(0, run)
		})
	}
	p.as.device.List(func(have []intradomain.Held, err error) {
		if p.dead {
			return
		}
		if err != nil {
			again()
			return
		}
		live := make(map[intradomain.ID]uint32)
		for _, h := range have {
			if v, known := p.q.version(wire.SID(h.ID)); known {
				live[h.ID] = v
			}
		}
		for _, step := range planRepair(want, have, live) {
			steps = append(steps, func(done func(error)) { p.q.repair(step, done) })
		}
		run()
	})
}

// hop is the next AS, by its place, on the way from one to another.
func (w *simWorld) hop(from, to int) int {
	if w.transit != 0 { // AS65001 and AS65003 with two between them
		if from != 1 && from != 3 && to != 1 && to != 3 {
			return w.transit
		}
		return to
	}
	return from + 1 - 2*b2i(to < from)
}

// simRoutes is the routing of a chain of ASs.
type simRoutes struct {
	as    *simAS
	index int
}

func (r simRoutes) Lookup(d netip.Addr) (interdomain.Route, bool) {
	a := r.as
	for j, other := range a.w.as {
		for _, prefix := range other.cfg.BGP.Originate {
			if !prefix.Contains(d) {
				continue
			}
			if j == r.index {
				return interdomain.Route{Local: true}, true
			}
			if a.p != nil && a.now().Before(a.p.started.Add(a.bgpDelay)) {
				return interdomain.Route{}, false
			}
			next := a.w.as[a.w.hop(r.index, j)].cfg.AS
			for _, e := range a.cfg.Edges {
				if a.bestPath.IsValid() {
					return interdomain.Route{NextHop: a.bestPath, NextAS: next}, true
				}
				if e.Neighbor.AS == next {
					return interdomain.Route{NextHop: e.Neighbor.Address, NextAS: next}, true
				}
			}
		}
	}
	return interdomain.Route{}, false
}

// Every is asked about single addresses only.
func (r simRoutes) Every(p netip.Prefix, ok func(*bgp.Route) bool) (bool, error) {
	rt, found := r.Lookup(p.Addr())
	if !found {
		return ok(nil), nil
	}
	return ok(&bgp.Route{NextHop: rt.NextHop, NextAS: rt.NextAS, Local: rt.Local}), nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tap reads QoS-NSLP messages off the wire.
func (w *simWorld) tap(kind string, from, to netip.AddrPort, payload []byte) {
	var m wire.Message
	var err error
	if kind == "udp" {
		m, err = wire.ParseDatagram(payload)
	} else {
		m, err = wire.Parse(payload)
	}
	if err != nil {
		return
	}
	if len(m.NSLPData) == 0 {
		w.logf("   %s > %s %s %s %v", from.Addr(), to.Addr(), kind, short(m.SID), m.Type)
		return
	}
	msg, err := nslpwire.Parse(bytes.Clone(m.NSLPData))
	if err != nil {
		return
	}
	tear := ""
	if msg.Tears() {
		tear = " TEAR"
	}
	rate := uint64(0)
	if q, err := qspec.Parse(msg.QSPEC); err == nil {
		rate = q.Rate()
	}
	w.logf("   %s > %s %s %s %v%s rsn %v %d.%x rii %v %x rate %d %v", from.Addr(), to.Addr(), kind, short(m.SID), msg.Type, tear,
		msg.HasRSN, msg.RSN.Number, msg.RSN.Epoch&0xfff, msg.HasRII, msg.RII&0xffff, rate, msg.InfoSpec)
	if w.onMessage != nil {
		w.onMessage(from.Addr(), to.Addr(), m.SID, &msg)
	}
}

func (w *simWorld) logf(format string, args ...any) {
	if w.traceMax == 0 {
		return
	}
	if len(w.trace) >= 2*w.traceMax {
		w.trace = append(w.trace[:0], w.trace[w.traceMax:]...)
	}
	w.trace = append(w.trace, fmt.Sprintf("%10.3f ", w.net.Now().Sub(simStart).Seconds())+fmt.Sprintf(format, args...))
}

// fatalf ends the test with the last events before it.
func (w *simWorld) fatalf(format string, args ...any) {
	w.t.Helper()
	w.dump()
	w.t.Fatalf("seed %d, at %v: %s", w.seed, w.net.Now().Sub(simStart), fmt.Sprintf(format, args...))
}

func (w *simWorld) dump() {
	w.t.Helper()
	from := max(0, len(w.trace)-w.traceMax)
	for _, l := range w.trace[from:] {
		w.t.Log(l)
	}
}

// short is a session in a trace: its last octets.
func short(sid wire.SID) string {
	if sid == (wire.SID{}) {
		return "-"
	}
	return fmt.Sprintf("s%d", int(sid[14])<<8|int(sid[15]))
}

func kindText(k qosnslp.ResultKind) string {
	return [...]string{"?", "Reserved", "Rejected", "TimedOut", "Released", "Terminated", "Answered"}[k]
}
