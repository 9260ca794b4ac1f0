// Package node is one qned process: it owns the sockets, the clock, the
// goroutines, the store and the admin API, and drives the cores, which have
// none of these.
package node

import (
	"context"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/interdomain/bgp"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// nslpID is QoS-NSLP at aggregation level 0 (RFC 5974 §6.6).
const nslpID wire.NSLPID = 1

var errStopped = errors.New("the node has stopped")

// Node is one running qned.
type Node struct {
	cfg     *Config                               // as started
	reload  sync.Mutex                            // one reload at a time
	running *Config                               // with what was reloaded since; guarded by reload
	peers   atomic.Pointer[map[netip.Addr]uint32] // the neighbours' QNEs and their ASs, as reloaded last
	log     *slog.Logger
	level   *slog.LevelVar
	version string
	started time.Time

	store    store.Store
	ledger   *sharedLedger
	bgp      *bgp.Speaker
	kernel   *transport.Routes // nil: not to be had
	driver   intradomain.Controller
	trace    *trace
	watchers watchers
	udp      *transport.UDP
	// intercept takes Queries in transit; nil: they pass.
	intercept *transport.Intercept
	tls       tlsKeys         // guarded by reload once it runs
	sctp      *transport.SCTP // nil: none
	shards    []*shard
	edges     []*edge
	slsMu     sync.Mutex // one change of SLSs at a time
	tentative tentatives

	certificate atomic.Pointer[x509.Certificate] // ours between domains; nil: none
	records     atomic.Pointer[recordBook]

	admin    *Admin
	loops    sync.WaitGroup
	sockets  chan struct{} // closed once all sockets are there, or one could not be opened
	opened   bool          // they are there
	stop     context.CancelFunc
	counts   counters
	reconErr atomic.Pointer[string] // why the driver is not reconciled yet; nil: it is
	closers  []func()
}

// shard is one qne with its loop, its own TCP port and connections.
type shard struct {
	node    *Node
	index   int
	edges   []EdgeConfig // as reloaded last
	inbox   inbox
	timer   *time.Timer
	armed   time.Time // for when the timer is set; zero: it is not
	spare   []any     // an inbox that was worked off
	qne     qne
	tcp     *transport.TCP
	conns   map[gist.ConnID]connAddrs
	out     []transport.Outgoing
	stopped chan struct{}

	mu      sync.Mutex
	waiting map[wire.SID]*waiter
}

// Options are what is not in the configuration file.
type Options struct {
	Log     *slog.Logger
	Level   *slog.LevelVar // nil: the level cannot be reloaded
	Version string
}

// Start runs a node until Close. What it opened before an error is closed
// again.
func Start(ctx context.Context, cfg *Config, o Options) (*Node, error) {
	n := &Node{
		cfg: cfg, running: cfg, log: o.Log, level: o.Level, version: o.Version, started: time.Now(),
		ledger: &sharedLedger{l: sls.New(sls.Config{HoldTime: cfg.NSLP.HoldTimeout, MaxReservations: cfg.NSLP.MaxSessions})},
		trace:  &trace{},
	}
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// defers registers what Close has to do, last first.
func (n *Node) defers(f func()) { n.closers = append(n.closers, f) }

// Close ends everything in order: no new requests, loops, sockets, store.
func (n *Node) Close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.closers = nil
	n.stop()
}

func (n *Node) open(ctx context.Context) error {
	if n.cfg.Insecure {
		n.log.Warn("INSECURE: associations between domains may do without TLS; whoever can reach this node's ports can read and forge what is not signed. For labs only.")
	}
	if err := n.openTLS(); err != nil {
		return err
	}
	n.openSCTP()
	records, err := n.openStore()
	if err != nil {
		return err
	}
	if n.driver, err = openDrivers(n.cfg, n.log); err != nil {
		return err
	}
	n.defers(func() { n.logError("intra-domain controller", n.driver.Close()) })
	if err := n.openBGP(ctx); err != nil {
		return err
	}
	if err := n.openShards(); err != nil {
		return err
	}
	n.watchRoutes()
	if err := n.restore(records); err != nil {
		return err
	}
	if err := n.openSockets(); err != nil {
		return err
	}
	n.runLoops(ctx)
	n.reconcile(ctx)
	if err := n.serveMetrics(); err != nil {
		return err
	}
	return n.serveAdmin()
}

func (n *Node) openStore() ([]store.Record, error) {
	st, err := store.Open(n.cfg.Store.Path, store.Options{})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", n.cfg.Store.Path, err)
	}
	n.store = st
	n.defers(func() { n.logError("store", st.Close()) })
	slss, records, err := st.Load()
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", n.cfg.Store.Path, err)
	}
	if err := errors.Join(n.ledger.l.LoadSLS(slss), n.loadTentative()); err != nil {
		return nil, fmt.Errorf("store %s: %w", n.cfg.Store.Path, err)
	}
	return records, nil
}

func (n *Node) openBGP(ctx context.Context) error {
	cfg := bgp.Config{
		AS: n.cfg.AS, RouterID: n.cfg.RouterID, ListenPort: n.cfg.BGP.ListenPort,
		Originate: n.cfg.BGP.Originate, ConnectRetry: n.cfg.BGP.ConnectRetry,
	}
	for _, e := range n.cfg.Edges {
		cfg.ListenAddresses = append(cfg.ListenAddresses, e.External)
		cfg.Neighbors = append(cfg.Neighbors, bgp.Neighbor{
			AS: e.Neighbor.AS, Local: e.External, Remote: netip.AddrPortFrom(e.Neighbor.Address, e.Neighbor.BGPPort),
		})
	}
	var err error
	if n.bgp, err = bgp.New(cfg, n.log.With("part", "bgp")); err != nil {
		return err
	}
	if err := n.bgp.Start(ctx); err != nil {
		return err
	}
	n.defers(n.bgp.Close)
	return nil
}

// routes adapts the BGP table to what interdomain wants to know.
type routes struct{ s *bgp.Speaker }

func (r routes) Lookup(a netip.Addr) (interdomain.Route, bool) {
	rt, ok := r.s.Lookup(a)
	return interdomain.Route{Local: rt.Local, NextHop: rt.NextHop, NextAS: rt.NextAS}, ok
}

func (n *Node) openShards() error {
	count := n.cfg.GIST.Shards
	if count == 0 {
		count = runtime.GOMAXPROCS(0)
	}
	// Random and not the time: a restart may take less than a second
	// (RFC 5974 §5.1.3.2 lets a node choose).
	epoch := uint32(random() >> 32)
	for i := range count {
		s := &shard{node: n, index: i, edges: n.cfg.Edges, stopped: make(chan struct{}),
			waiting: make(map[wire.SID]*waiter), conns: make(map[gist.ConnID]connAddrs)}
		s.init()
		if err := s.open(epoch, count); err != nil {
			return err
		}
		n.shards = append(n.shards, s)
	}
	return nil
}

func (s *shard) open(epoch uint32, shards int) (err error) {
	s.qne, err = newQNE(s.node.cfg, qneParts{
		index: s.index, shards: shards, epoch: epoch, started: s.node.started, sctp: s.node.sctp != nil,
		random: random, fill: func(b []byte) { _, _ = crand.Read(b) }, // never fails, see its documentation
		route: s.route, ingress: s.node.ingress, routes: routes{s.node.bgp}, fx: s,
	})
	s.qne.clock = s.now
	return err
}

func random() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails, see its documentation
	return binary.BigEndian.Uint64(b[:])
}

func (n *Node) newSID() (sid wire.SID) {
	_, _ = crand.Read(sid[:]) // never fails, see its documentation
	return sid
}

func servedEdges(cfg *Config) (all []gist.ServedEdge) {
	for _, e := range cfg.Edges {
		all = append(all, gist.ServedEdge{
			Internal: e.Internal, External: e.External, NeighborAS: e.Neighbor.AS, PeerQNEs: e.Neighbor.QNEs,
		})
	}
	return all
}

func directPeers(cfg *Config) (all []netip.Addr) {
	for _, e := range cfg.Edges {
		if e.Discovery == DiscoveryConfigured {
			all = append(all, e.Neighbor.QNEs...)
		}
	}
	return all
}

// peerSockets reports peers that could not be given sockets of their own: they
// have no route yet, for instance. They are served without.
func (n *Node) peerSockets(err error) {
	if err != nil {
		n.log.Warn("a peer has to share its receive buffer with strangers", "err", err)
	}
}

// udpPeers are who sends us datagrams: our edges, and our neighbours' QNEs.
func udpPeers(cfg *Config) (all []netip.AddrPort) {
	for _, e := range cfg.Edges {
		for _, a := range append([]netip.Addr{e.Internal}, e.Neighbor.QNEs...) {
			all = append(all, netip.AddrPortFrom(a, cfg.GIST.Port))
		}
	}
	return all
}

func borders(cfg *Config) (all []interdomain.Border) {
	for _, e := range cfg.Edges {
		all = append(all, interdomain.Border{
			Name: e.Name, Internal: e.Internal, External: e.External,
			NeighborAS: e.Neighbor.AS, Neighbor: e.Neighbor.Address, PeerQNEs: e.Neighbor.QNEs,
		})
	}
	return all
}

func peerASs(cfg *Config) map[netip.Addr]uint32 {
	m := make(map[netip.Addr]uint32)
	for _, e := range cfg.Edges {
		for _, q := range e.Neighbor.QNEs {
			m[q] = e.Neighbor.AS
		}
	}
	return m
}

// keyring is the secrets shared with the neighbours, for their lifetimes. Of
// several of one AS without any the first signs; all are accepted, so that keys
// can overlap while they are changed.
func keyring(cfg *Config) (*interdomain.Keyring, error) {
	ring := new(interdomain.Keyring)
	for _, k := range cfg.Keys {
		if err := ring.Add(interdomain.Key{ID: k.ID, AS: k.AS, Name: k.Name, Secret: k.Secret, From: k.From, Until: k.Until}); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// restore gives every part what it had committed before the last stop.
func (n *Node) restore(records []store.Record) error {
	now := time.Now()
	for i := range records {
		r := &records[i]
		if err := n.ledger.l.Restore(now, r.Bookings); err != nil {
			n.log.Error("a committed reservation cannot be restored in the ledger", "session", r.ID.String(), "err", err)
		}
		s := n.shardOf(wire.SID(r.ID))
		s.qne.restore(now, r)
	}
	if len(records) > 0 {
		n.log.Info("restored committed reservations", "count", len(records))
	}
	return nil
}

// whenOpen keeps what arrives until everything that an answer may leave by is
// there: a socket reads as soon as it is open.
func (n *Node) whenOpen(h transport.Handler) transport.Handler {
	return func(events []gist.Event) {
		if <-n.sockets; n.opened {
			h(events)
		}
	}
}

func (n *Node) openSockets() (err error) {
	n.sockets = make(chan struct{})
	defer func() {
		n.opened = err == nil
		close(n.sockets)
	}()
	peers := peerASs(n.cfg)
	n.peers.Store(&peers)
	book, err := newRecordBook(n.cfg)
	if err != nil {
		return err
	}
	n.records.Store(book)
	for _, s := range n.shards {
		plain, secure := n.listenOn(s)
		var sctp []netip.AddrPort
		if n.sctp != nil {
			sctp = plain
		}
		tcp, err := transport.ListenTCP(transport.TCPConfig{
			Listen: plain, ListenTLS: secure, TLS: n.tls.tls, ListenSCTP: sctp, SCTP: n.sctp,
			Handler: n.whenOpen(s.fromConnections),
			Expected: func(a netip.Addr) bool {
				_, ok := (*n.peers.Load())[a]
				return ok
			},
			OnError: func(remote netip.AddrPort, err error) {
				kind := "not-accepted"
				if errors.Is(err, gist.ErrAuthentication) {
					kind = kindNotAuthenticated
				}
				n.note("tcp", kind, wire.SID{}, remote, err.Error())
			},
		})
		if err != nil {
			return fmt.Errorf("messaging associations: %w", err)
		}
		s.tcp = tcp
		n.defers(func() { n.logError("forwards-TCP", tcp.Close()) })
	}
	udp, err := transport.ListenUDP(transport.UDPConfig{
		Addrs:   n.cfg.GIST.at(n.cfg.GIST.Port),
		Handler: n.whenOpen(n.fromStrangers), PeerHandler: n.whenOpen(n.fromPeers),
		Foreign: n.cfg.GIST.Intercept != nil,
		OnError: n.socketError,
	})
	if err != nil {
		return err
	}
	n.udp = udp
	n.defers(func() { n.logError("UDP", udp.Close()) })
	n.peerSockets(n.udp.SetPeers(udpPeers(n.cfg)))
	for _, cfg := range n.cfg.Edges {
		e, err := n.newEdge(cfg)
		if err != nil {
			return fmt.Errorf("edge %s: %w", cfg.Name, err)
		}
		n.edges = append(n.edges, e)
		n.defers(func() { n.logError("edge", e.udp.Close()) })
	}
	return n.openIntercept()
}

// openSCTP looks whether the kernel has the SCTP that the configuration asks for:
// an optional stack, so that a node without it goes on (RFC 6084).
func (n *Node) openSCTP() {
	if !n.cfg.GIST.SCTP {
		return
	}
	var err error
	if n.sctp, err = transport.NewSCTP(); err != nil {
		n.log.Warn("gist.sctp: associations go over TCP only", "err", err)
	}
}

// listenOn is where a shard accepts connections, without TLS and with it.
func (n *Node) listenOn(s *shard) (plain, secure []netip.AddrPort) {
	g := &n.cfg.GIST
	at := func(port uint16) []netip.AddrPort { return g.at(port + uint16(s.index)) }
	switch {
	case g.TLS == nil:
		return at(g.TCPPort), nil
	case g.PlainPort == 0:
		return nil, at(g.TCPPort)
	}
	return at(g.PlainPort), at(g.TCPPort)
}

func (n *Node) runLoops(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	for _, s := range n.shards {
		n.loops.Go(func() {
			defer close(s.stopped)
			s.run(ctx)
		})
	}
	n.loops.Go(func() { n.expireHolds(ctx) })
	n.loops.Go(func() { n.watchConfirmations(ctx) })
	n.defers(func() {
		cancel()
		for _, s := range n.shards {
			s.inbox.close()
		}
		n.loops.Wait()
	})
}

// expireHolds lets the shared ledger give up what nobody committed in time, and
// what has come to the end of its SLS's validity or window. A session that has
// nothing left on any SLS is over.
func (n *Node) expireHolds(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, id := range n.ledger.expire(now) {
				sid := wire.SID(id)
				n.note(layerDomain, "expired", sid, netip.AddrPort{}, "its SLS ended, or nobody committed it in time")
				n.shardOf(sid).inbox.put(qosnslp.Abandon{SID: sid, Info: nslpwire.InfoSpec{
					Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationFailure,
				}})
			}
		}
	}
}

// shardOf spreads sessions over shards by their SID.
func (n *Node) shardOf(sid wire.SID) *shard {
	if len(n.shards) == 1 {
		return n.shards[0]
	}
	return n.shards[binary.BigEndian.Uint64(sid[8:])%uint64(len(n.shards))]
}

func (n *Node) socketError(local netip.AddrPort, err error) {
	n.log.Error("socket", "local", local.String(), "err", err)
}

func (n *Node) logError(what string, err error) {
	if err != nil {
		n.log.Error("closing "+what, "err", err)
	}
}

// sent counts and logs datagrams that could not be sent; GIST retransmits.
func (n *Node) sent(err error) {
	if err != nil {
		n.counts.note("udp", "send-failed")
		n.log.Warn("datagrams not sent", "err", err)
	}
}
