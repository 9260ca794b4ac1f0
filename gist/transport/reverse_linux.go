package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/internal/prefix"
)

// Ingress filtering with the kernel's routes: RFC 5971 §5.8.1.2, RFC 3704.

// ReversePath says how exact an ingress filter is.
type ReversePath int

const (
	// ReverseStrict: packets to the source would leave by the interface that
	// those from it have come by (RFC 3704, section 2.2).
	ReverseStrict ReversePath = iota
	// ReverseLoose: there is a route to the source (RFC 3704, section 2.4).
	ReverseLoose
)

// reverse is what the routes to all addresses of a region have in common.
type reverse struct {
	routed     bool // there is one, and it leads somewhere
	local      bool // to this host
	interfaces []uint32
}

// splits are the prefixes of all routes and rules that there may be, in whatever
// table: addresses whose longest one is the same have the same route. There may
// be some too many, and never too few.
type splits struct {
	prefixes bart.Lite
	loaded   bool
	stale    bool                     // to be read again
	known    map[netip.Prefix]reverse // by the longest of prefixes
}

const (
	maxReverse = 1 << 16 // regions remembered
	// maxRegions is how many regions a wildcarded source may have: looking is
	// work, and who signals for so much of the world has no one way in.
	maxRegions = 256
)

var errSplitsUnread = errors.New("the routes have not been read yet")

// Arrives says whether packets from all addresses of source can arrive on the
// interface with this index (0: not known, which is as loose): the ingress
// filter of RFC 5971 §5.8.1.2. This host's own addresses arrive on loopback
// interfaces only. An error says why it cannot be told. Ranges of addresses need
// RoutesConfig.Ingress.
func (r *Routes) Arrives(source netip.Prefix, iface uint32, how ReversePath) (bool, error) {
	if !source.IsValid() {
		return false, fmt.Errorf("source %v is no range", source)
	}
	return prefix.Every(source, maxRegions, r.divided, func(p netip.Prefix) (bool, error) {
		found, err := r.reverse(p)
		switch {
		case err != nil:
			return false, fmt.Errorf("route to %v: %w", p, err)
		case !found.routed:
			return false, nil
		case found.local:
			return iface == 0 || r.loopback(iface), nil
		}
		return how == ReverseLoose || iface == 0 || slices.Contains(found.interfaces, iface), nil
	})
}

// divided says whether a known prefix is a part of p.
func (r *Routes) divided(p netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.splits.prefixes.Subnets(p) {
		if q != p {
			return true
		}
	}
	return false
}

// reverse is the route to all of p, which no other divides.
func (r *Routes) reverse(p netip.Prefix) (reverse, error) {
	r.mu.Lock()
	region, _ := r.splits.prefixes.LookupPrefixLPM(p)
	found, ok := r.splits.known[region]
	epoch, loaded := r.epoch, r.splits.loaded
	r.mu.Unlock()
	switch {
	case ok && loaded:
		return found, nil
	case !loaded && !p.IsSingleIP():
		return reverse{}, errSplitsUnread
	}
	found, err := r.askReverse(p.Addr())
	if err != nil {
		return reverse{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == epoch && !r.blind && r.splits.loaded {
		if len(r.splits.known) >= maxReverse {
			clear(r.splits.known)
		}
		r.splits.known[region] = found
	}
	return found, nil
}

// askReverse asks the kernel for the entry of its tables, and not for what it
// would do with one packet: of several next hops that would be one alone.
func (r *Routes) askReverse(a netip.Addr) (found reverse, err error) {
	routes, err := r.handle.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return reverse{}, nil // none, or one that says so: unreachable, prohibit, blackhole
	case err != nil:
		return reverse{}, err
	}
	for i := range routes {
		rt := &routes[i]
		switch rt.Type {
		case unix.RTN_LOCAL:
			return reverse{routed: true, local: true}, nil
		case unix.RTN_UNICAST:
			found.routed = true
			if rt.LinkIndex != 0 {
				found.interfaces = append(found.interfaces, uint32(rt.LinkIndex))
			}
			for _, hop := range rt.MultiPath {
				found.interfaces = append(found.interfaces, uint32(hop.LinkIndex))
			}
		}
	}
	return found, nil
}

func (r *Routes) loopback(iface uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inner[iface]
}

// readSplits learns all prefixes that routes and rules have. What the kernel
// tells of routes meanwhile waits to be read.
func (r *Routes) readSplits() error {
	r.mu.Lock()
	r.splits = splits{known: map[netip.Prefix]reverse{}}
	r.mu.Unlock()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == unix.AF_INET6 {
			any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		batch := []netip.Prefix{any} // what has no route is a region, too
		add := func(p netip.Prefix) {
			if batch = append(batch, p); len(batch) == 1024 {
				r.addSplits(batch)
				batch = batch[:0]
			}
		}
		err := r.dump.RouteListFilteredIter(family, &netlink.Route{}, netlink.RT_FILTER_TABLE, func(rt netlink.Route) bool {
			if p, ok := prefixOf(rt.Dst); ok {
				add(p)
			}
			return true
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what came meanwhile was told
			return fmt.Errorf("netlink: list of routes: %w", err)
		}
		rules, err := r.dump.RuleList(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("netlink: list of rules: %w", err)
		}
		for i := range rules {
			if p, ok := prefixOf(rules[i].Dst); ok {
				add(p)
			}
		}
		r.addSplits(batch)
	}
	r.mu.Lock()
	r.forget() // what was asked meanwhile
	r.splits.loaded = true
	r.mu.Unlock()
	return nil
}

// reread is for news that routes do not tell of: everything may have changed.
func (r *Routes) reread() {
	if r.cfg.Ingress {
		if err := r.readSplits(); err != nil && r.cfg.OnError != nil {
			r.cfg.OnError(err)
		}
	}
	r.mu.Lock()
	r.splits.stale = false
	r.everything()
	r.mu.Unlock()
	r.wake()
}

func (r *Routes) addSplits(batch []netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range batch {
		r.splits.prefixes.Insert(p)
	}
}

// prefixOf is a route's destination; nil is everything, which is known already.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if ok && bits == 32 {
		a = a.Unmap()
	}
	p := netip.PrefixFrom(a, ones)
	return p.Masked(), ok && a.BitLen() == bits && p.IsValid()
}
