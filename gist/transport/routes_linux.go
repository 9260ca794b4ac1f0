package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
)

// Route is how packets to a destination leave this host.
type Route struct {
	Path   gist.Path
	Source netip.Addr // what the kernel would send from; zero: it does not say
}

// RoutesConfig is what WatchRoutes is made with.
type RoutesConfig struct {
	// OnChange is called from one goroutine with what may have changed; what
	// changes meanwhile gathers for its next call. Lookup gives the new answer
	// by then. It must not call Close.
	OnChange func(gist.RouteChanged)
	// OnError is told why changes may have been missed. OnChange then says that
	// everything may have changed. Nil: nobody is told.
	OnError func(error)
	// Ingress has the prefixes of all routes kept in memory, for Arrives.
	Ingress bool
}

// Routes is the kernel's forwarding table and what changes in it: the local
// trigger of RFC 5971 §7.1.2. Its methods are safe for concurrent use.
type Routes struct {
	cfg    RoutesConfig
	handle *netlink.Handle
	dump   *netlink.Handle // for what takes long; nil without RoutesConfig.Ingress
	events *nl.NetlinkSocket
	kick   chan struct{} // holds a token while there is something to tell
	stop   chan struct{}
	loops  sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex
	epoch   uint64 // counts changes: an answer from before one is not kept
	blind   bool   // changes are not told any more: no answer is kept
	cache   map[netip.Addr]Route
	links   map[uint32]bool // whether packets can leave by it
	inner   map[uint32]bool // loopback interfaces
	splits  splits
	changed changes
}

// changes are what OnChange has not been told yet.
type changes struct {
	everything bool
	prefixes   map[netip.Prefix]struct{}
	links      map[uint32]struct{}
}

const (
	maxRouteCache   = 1 << 16
	maxRouteChanges = 1 << 10 // beyond that everything has changed
	routeBuffer     = 1 << 20 // octets of changes that the kernel keeps for us
)

// WatchRoutes begins to watch in the network namespace of the calling thread.
func WatchRoutes(cfg RoutesConfig) (*Routes, error) {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("netlink: subscribe to routes: %w", err)
	}
	// More than is allowed is cut down in silence, and less means a resync.
	_ = events.SetReceiveBufferSize(routeBuffer, false)
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		events.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	r := &Routes{
		cfg: cfg, handle: handle, events: events, kick: make(chan struct{}, 1), stop: make(chan struct{}),
		cache: map[netip.Addr]Route{},
	}
	if cfg.Ingress {
		// With a large table it is busy for a second; the other one is for lookups.
		if r.dump, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			r.Close()
			return nil, fmt.Errorf("netlink: %w", err)
		}
		err = r.readSplits()
	}
	if err == nil {
		err = r.readLinks()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.loops.Go(r.read)
	r.loops.Go(r.tell)
	return r, nil
}

// Close ends the watch, and waits for OnChange.
func (r *Routes) Close() {
	r.once.Do(func() {
		close(r.stop)
		r.events.Close()
		r.loops.Wait()
		r.handle.Close()
		if r.dump != nil {
			r.dump.Close()
		}
	})
}

// Lookup says how packets to dst leave.
func (r *Routes) Lookup(dst netip.Addr) (Route, error) {
	dst = dst.Unmap()
	r.mu.Lock()
	found, ok := r.cache[dst]
	epoch := r.epoch
	r.mu.Unlock()
	if ok {
		return found, nil
	}
	routes, err := r.handle.RouteGet(dst.AsSlice())
	switch {
	case err != nil:
		return Route{}, fmt.Errorf("route to %v: %w", dst, err)
	case len(routes) == 0:
		return Route{}, fmt.Errorf("route to %v: the kernel gives none", dst)
	case routes[0].Type >= unix.RTN_BLACKHOLE && routes[0].Type <= unix.RTN_THROW:
		return Route{}, fmt.Errorf("route to %v: %w", dst, unix.ENETUNREACH)
	}
	found.Path.Interface = uint32(routes[0].LinkIndex)
	if a, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		found.Path.NextHop = a.Unmap()
	}
	if a, ok := netip.AddrFromSlice(routes[0].Src); ok {
		found.Source = a.Unmap()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == epoch && !r.blind {
		if len(r.cache) >= maxRouteCache {
			clear(r.cache)
		}
		r.cache[dst] = found
	}
	return found, nil
}

// MTU is the largest packet that can leave for dst: of the path, where the kernel
// has learned that, or else of the link.
func (r *Routes) MTU(dst netip.Addr) (int, error) { return mtuTo(r.handle, dst, nil) }

// readLinks learns by which links packets can leave now.
func (r *Routes) readLinks() error {
	links, err := r.handle.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // a change follows then
		return fmt.Errorf("netlink: list of links: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links, r.inner = make(map[uint32]bool, len(links)), make(map[uint32]bool, 1)
	for _, l := range links {
		r.links[uint32(l.Attrs().Index)] = l.Attrs().RawFlags&linkRuns == linkRuns
		r.inner[uint32(l.Attrs().Index)] = l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0
	}
	return nil
}

// linkRuns are the flags of a link that packets can leave by.
const linkRuns = unix.IFF_UP | unix.IFF_RUNNING

// read takes what the kernel tells, until Close.
func (r *Routes) read() {
	for {
		msgs, _, err := r.events.Receive()
		switch {
		case errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF):
			return
		case errors.Is(err, unix.ENOBUFS): // the kernel had more to tell than it could keep
			r.missed(err)
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil: // the watch is over: no answer can be trusted to last
			r.mu.Lock()
			r.blind = true
			r.mu.Unlock()
			r.missed(err)
			return
		}
		r.mu.Lock()
		for i := range msgs {
			r.take(&msgs[i])
		}
		stale := r.splits.stale
		r.mu.Unlock()
		if stale {
			r.reread()
			continue
		}
		r.wake()
	}
}

// missed: everything may have changed.
func (r *Routes) missed(err error) {
	if r.cfg.OnError != nil {
		r.cfg.OnError(fmt.Errorf("netlink: changes of routes missed: %w", err))
	}
	if err := r.readLinks(); err != nil && r.cfg.OnError != nil {
		r.cfg.OnError(err)
	}
	r.reread()
}

func (r *Routes) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// everything, prefix and link note a change; mu is held.
func (r *Routes) everything() {
	r.forget()
	r.changed = changes{everything: true}
}

func (r *Routes) prefix(p netip.Prefix) {
	r.forget()
	if c := &r.changed; !c.everything {
		if c.prefixes == nil {
			c.prefixes = map[netip.Prefix]struct{}{}
		}
		if c.prefixes[p] = struct{}{}; len(c.prefixes) > maxRouteChanges {
			r.everything()
		}
	}
}

func (r *Routes) link(index uint32) {
	r.forget()
	if c := &r.changed; !c.everything {
		if c.links == nil {
			c.links = map[uint32]struct{}{}
		}
		c.links[index] = struct{}{}
	}
}

func (r *Routes) forget() {
	r.epoch++
	clear(r.cache)
	clear(r.splits.known)
}

// take notes what one message of the kernel means; mu is held.
func (r *Routes) take(m *syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if p, ok := routeOf(m.Data); ok {
			if r.cfg.Ingress {
				r.splits.prefixes.Insert(p)
			}
			r.prefix(p)
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) >= unix.SizeofIfInfomsg {
			info := nl.DeserializeIfInfomsg(m.Data)
			r.linkIs(uint32(info.Index), m.Header.Type == unix.RTM_NEWLINK && info.Flags&linkRuns == linkRuns)
		}
	case unix.RTM_DELADDR:
		// The routes that prefer it are not told of.
		if len(m.Data) >= unix.SizeofIfAddrmsg {
			r.link(binary.NativeEndian.Uint32(m.Data[4:]))
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r.splits.stale = true
	}
}

// linkIs: what left by a link that has gone down leaves by another one, and the
// kernel does not tell of each route; any flow may leave by one that has come
// up.
func (r *Routes) linkIs(index uint32, runs bool) {
	switch was := r.links[index]; {
	case was && !runs:
		r.link(index)
	case !was && runs:
		r.everything()
	}
	r.links[index] = runs
}

// routeOf returns the destination of a route; not of what the kernel has merely
// looked up.
func routeOf(b []byte) (netip.Prefix, bool) {
	if len(b) < unix.SizeofRtMsg {
		return netip.Prefix{}, false
	}
	rt := nl.DeserializeRtMsg(b)
	if rt.Flags&unix.RTM_F_CLONED != 0 {
		return netip.Prefix{}, false
	}
	addr := netip.IPv4Unspecified()
	switch rt.Family {
	case unix.AF_INET:
	case unix.AF_INET6:
		addr = netip.IPv6Unspecified()
	default:
		return netip.Prefix{}, false
	}
	// The parser steps over an attribute and its padding: give the last one its own.
	b = append(b[unix.SizeofRtMsg:len(b):len(b)], make([]byte, -len(b)&(unix.NLMSG_ALIGNTO-1))...)
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return netip.Prefix{}, false
	}
	for _, a := range attrs {
		if a.Attr.Type != unix.RTA_DST {
			continue
		}
		if dst, ok := netip.AddrFromSlice(a.Value); ok && dst.BitLen() == addr.BitLen() {
			addr = dst
		}
	}
	p := netip.PrefixFrom(addr, int(rt.Dst_len))
	return p, p.IsValid()
}

// tell hands on what has gathered.
func (r *Routes) tell() {
	for {
		select {
		case <-r.stop:
			return
		case <-r.kick:
		}
		r.mu.Lock()
		c := r.changed
		r.changed = changes{}
		r.mu.Unlock()
		if c.everything {
			r.cfg.OnChange(gist.RouteChanged{})
			continue
		}
		for index := range c.links {
			r.cfg.OnChange(gist.RouteChanged{Interface: index})
		}
		if len(c.prefixes) > 0 {
			ev := gist.RouteChanged{Prefixes: make([]netip.Prefix, 0, len(c.prefixes))}
			for p := range c.prefixes {
				ev.Prefixes = append(ev.Prefixes, p)
			}
			r.cfg.OnChange(ev)
		}
	}
}
