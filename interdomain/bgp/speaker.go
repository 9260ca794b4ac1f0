// Package bgp discovers egress and ingress: a BGP speaker of the own AS (RFC
// 4271) that peers with the neighbours' border interfaces and answers, from
// memory, by which next hop and through which ASs a destination is reached
// (interdomain-qosm §3). It is the only importer of GoBGP.
//
// One Speaker per process in earnest: GoBGP keeps its selection options in a
// global variable. After Close GoBGP v4.8.0 may leave one goroutine a neighbour,
// where messages were still queued for it (its drainChannel gives up too early);
// everything else ends.
package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// ErrNotRunning is returned before Start and after Close.
var ErrNotRunning = errors.New("bgp: the speaker is not running")

// Speaker is a BGP speaker. Its methods are safe for concurrent use. It runs once:
// after Close make a new one.
type Speaker struct {
	cfg Config
	log *slog.Logger

	table     *table
	callbacks atomic.Pointer[[]func([]netip.Prefix)]

	mu      sync.Mutex // guards state, and server and cancel until it is running
	state   int        // created, running, closed
	server  *server.BgpServer
	cancel  context.CancelFunc
	done    chan struct{} // closed when the last callback has returned
	stopped chan struct{} // closed when all has ended

	watching sync.WaitGroup
}

const (
	created = iota
	running
	closed
)

// New checks the configuration; nothing runs yet.
func New(cfg Config, log *slog.Logger) (*Speaker, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Speaker{cfg: cfg, log: log, table: newTable(), done: make(chan struct{}), stopped: make(chan struct{})}
	s.callbacks.Store(new([]func([]netip.Prefix)))
	return s, nil
}

// Start opens the listeners, originates and begins to connect; sessions come up
// later (Peers says which). The speaker runs until ctx is done or Close is called.
func (s *Speaker) Start(ctx context.Context) error {
	s.mu.Lock()
	if s.state != created {
		s.mu.Unlock()
		return errors.New("bgp: a speaker starts once, make a new one")
	}
	srv := server.NewBgpServer(server.LoggerOption(quieter(s.log), nil))
	go srv.Serve()
	s.server = srv
	// Watchers must end before the server does, so they have a context of their own.
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.deliver(watch)
	err := s.configure(ctx, watch)
	s.watching.Go(func() { s.unstick(watch) })
	s.state = running
	if err != nil {
		s.state = closed
	}
	s.mu.Unlock()
	if err != nil {
		s.shutdown()
		return err
	}
	go func() {
		select {
		case <-ctx.Done():
			s.Close()
		case <-watch.Done():
		}
	}()
	return nil
}

func (s *Speaker) configure(ctx, watch context.Context) error {
	if err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: s.cfg.global()}); err != nil {
		return fmt.Errorf("bgp: start AS %d, port %d: %w", s.cfg.AS, s.cfg.ListenPort, err)
	}
	if err := s.requireNeighborFirst(ctx); err != nil {
		return fmt.Errorf("bgp: import policy: %w", err)
	}
	callbacks := server.WatchEventMessageCallbacks{OnBestPath: s.bestPath, OnPeerUpdate: s.peerUpdate}
	if err := s.server.WatchEvent(watch, callbacks, server.WatchBestPath(true), server.WatchPeer()); err != nil {
		return fmt.Errorf("bgp: watch best paths: %w", err)
	}
	for _, p := range s.cfg.Originate {
		if err := s.announce(p, false); err != nil {
			return err
		}
	}
	for _, n := range s.cfg.Neighbors {
		if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: s.cfg.peer(n)}); err != nil {
			return fmt.Errorf("bgp: neighbor %s, AS %d: %w", n.Remote, n.AS, err)
		}
	}
	return nil
}

// Close tells the neighbours (CEASE), ends all sessions and waits until no
// callback runs any more, so do not call it from one. The routes last learnt can
// still be looked up.
func (s *Speaker) Close() {
	s.mu.Lock()
	before := s.state
	s.state = closed
	s.mu.Unlock()
	switch before {
	case running:
		s.shutdown()
	case closed:
		<-s.stopped
	case created:
		close(s.stopped)
	}
}

// shutdown ends the watchers, then the server. Whoever has changed the state from
// running to closed calls it, without the lock: a callback may be waiting for that.
func (s *Speaker) shutdown() {
	s.cancel()
	<-s.done
	s.watching.Wait()
	s.server.Stop()
	close(s.stopped)
}

func (s *Speaker) running() (*server.BgpServer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != running {
		return nil, ErrNotRunning
	}
	return s.server, nil
}

// Lookup returns the best path of the longest prefix that holds dst.
func (s *Speaker) Lookup(dst netip.Addr) (Route, bool) { return s.table.lookup(dst) }

// Every says whether ok holds for the best path of each address in p, nil where
// there is none. The error says that p has too many parts to tell.
func (s *Speaker) Every(p netip.Prefix, ok func(*Route) bool) (bool, error) {
	return s.table.every(p, ok)
}

// Routes calls fn with every best path, in the order of their prefixes, IPv4
// first, until it returns false. It walks a snapshot: fn may take its time.
func (s *Speaker) Routes(fn func(Route) bool) {
	for _, r := range s.table.snapshot.Load().AllSorted() {
		if !fn(*r) {
			return
		}
	}
}

// OnChange has fn called with the prefixes whose best path has come, gone, or
// changed its next hop or AS path, each prefix once a call, whenever Lookup already
// gives the new answer. Calls come one after another from one goroutine; while fn
// runs, further changes gather into its next call. fn must not call Close.
func (s *Speaker) OnChange(fn func(changed []netip.Prefix)) {
	for {
		old := s.callbacks.Load()
		next := append(append([]func([]netip.Prefix){}, *old...), fn)
		if s.callbacks.CompareAndSwap(old, &next) {
			return
		}
	}
}

// deliver applies what the watcher brings, and tells those who want to know.
func (s *Speaker) deliver(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.table.kick:
		}
		changed := s.table.apply()
		if len(changed) == 0 {
			continue
		}
		for _, fn := range *s.callbacks.Load() {
			fn(changed)
		}
	}
}

// Originate announces a prefix as this AS's own. To repeat it changes nothing.
func (s *Speaker) Originate(p netip.Prefix) error { return s.change(p, false) }

// Withdraw takes back what Originate or the configuration announced. To withdraw
// what was not announced changes nothing.
func (s *Speaker) Withdraw(p netip.Prefix) error { return s.change(p, true) }

func (s *Speaker) change(p netip.Prefix, withdraw bool) error {
	if err := checkPrefix(p); err != nil {
		return err
	}
	if _, err := s.running(); err != nil {
		return err
	}
	return s.announce(p, withdraw)
}

func (s *Speaker) announce(p netip.Prefix, withdraw bool) error {
	path, err := ownPath(p, withdraw)
	if err == nil && withdraw {
		err = s.server.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path}})
	} else if err == nil {
		_, err = s.server.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{path}})
	}
	if err != nil {
		return fmt.Errorf("bgp: prefix %s: %w", p, err)
	}
	return nil
}

// ownPath is a path with origin IGP and the next hop left to each session.
func ownPath(p netip.Prefix, withdraw bool) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(p)
	if err != nil {
		return nil, err
	}
	origin := bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)
	path := &apiutil.Path{Nlri: nlri, Withdrawal: withdraw, Age: time.Now().Unix()}
	if p.Addr().Is4() {
		path.Family = bgp.RF_IPv4_UC
		hop, err := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified())
		if err != nil {
			return nil, err
		}
		path.Attrs = []bgp.PathAttributeInterface{origin, hop}
		return path, nil
	}
	path.Family = bgp.RF_IPv6_UC
	reach, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_IPv6_UC, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
	if err != nil {
		return nil, err
	}
	path.Attrs = []bgp.PathAttributeInterface{origin, reach}
	return path, nil
}

// bestPath is GoBGP's watcher.
func (s *Speaker) bestPath(paths []*apiutil.Path, _ time.Time) {
	for _, p := range paths {
		nlri, ok := p.Nlri.(*bgp.IPAddrPrefix)
		if !ok {
			continue // not unicast
		}
		if p.Withdrawal {
			s.table.set(nlri.Prefix, nil)
		} else {
			s.table.set(nlri.Prefix, route(nlri.Prefix, p))
		}
	}
}

// route takes from a path what Route has.
func route(prefix netip.Prefix, p *apiutil.Path) *Route {
	r := &Route{Prefix: prefix}
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			r.NextHop = a.Value
		case *bgp.PathAttributeMpReachNLRI:
			r.NextHop = a.Nexthop
		case *bgp.PathAttributeAsPath:
			for _, segment := range a.Value {
				r.ASPath = append(r.ASPath, segment.GetAS()...)
			}
		}
	}
	if r.NextHop.IsUnspecified() {
		r.NextHop = netip.Addr{}
	}
	if len(r.ASPath) == 0 {
		r.Local = true
	} else {
		r.NextAS = r.ASPath[0]
	}
	return r
}
