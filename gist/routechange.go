package gist

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/gaissmai/bart"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/prefix"
)

// Route changes: RFC 5971 §7.1. Routing state is Good, Tentative (in use, being
// verified) or Bad (not in use). A Querying-SM is Bad exactly in Awaiting
// Response, and verifies in Awaiting Refresh.

// Path is how packets leave this node, for comparison with what it was before.
type Path struct {
	Interface uint32     // its index; 0: not known
	NextHop   netip.Addr // zero: on the link, or not known
}

// watched is a routing state whose path is known, in the list of its group.
type watched struct {
	r          *routing
	group      *pathGroup
	prev, next *watched
	path       Path
}

// pathGroup is all watched states whose Queries go to one destination.
type pathGroup struct {
	dst         netip.Prefix
	first, last *watched
	n           int
}

// pathIndex finds the states that a route change concerns, and checks them in
// slices: a machine with a million of them goes on with its other work between.
type pathIndex struct {
	groups bart.Table[*pathGroup]
	work   []pathCheck // the next at the end
	tm     alarm
}

// pathCheck is something to be checked: all groups in dst or, if left is set,
// so many states of the group that has exactly dst.
type pathCheck struct {
	dst   netip.Prefix
	iface uint32
	left  int
}

const (
	checkSlice    = 1024             // states checked in one go
	checkGap      = time.Millisecond // between two of them
	checkGroups   = 64               // groups looked up in one go
	checkPrefixes = 4096             // beyond so many prefixes to check, all are
)

func (x *pathIndex) alarm() *alarm   { return &x.tm }
func (x *pathIndex) fire(m *Machine) { m.checkPaths() }

// destination is where the Queries for mri go in the end.
func destination(mri *wire.MRI) netip.Prefix {
	if mri.Upstream {
		return mri.Flow.Source.Masked()
	}
	return mri.Flow.Destination.Masked()
}

// watch notes by which path r's Query leaves.
func (m *Machine) watchPath(r *routing, path Path) {
	switch {
	case path == Path{}:
		m.unwatch(r)
	case r.watch != nil:
		r.watch.path = path
	default:
		dst := destination(&r.mri)
		if !dst.IsValid() {
			return
		}
		g, ok := m.paths.groups.Get(dst)
		if !ok {
			g = &pathGroup{dst: dst}
			m.paths.groups.Insert(dst, g)
		}
		r.watch = &watched{r: r, group: g, path: path}
		g.append(r.watch)
	}
}

func (m *Machine) unwatch(r *routing) {
	if w := r.watch; w != nil {
		r.watch = nil
		w.group.remove(w)
		if w.group.n == 0 {
			m.paths.groups.Delete(w.group.dst)
		}
	}
}

func (g *pathGroup) append(w *watched) {
	if w.prev, w.next = g.last, nil; g.last != nil {
		g.last.next = w
	} else {
		g.first = w
	}
	g.last = w
	g.n++
}

func (g *pathGroup) remove(w *watched) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		g.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		g.last = w.prev
	}
	w.prev, w.next = nil, nil
	g.n--
}

var everywhere = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// routeChanged is the local trigger of RFC 5971 §7.1.2.
func (m *Machine) routeChanged(e *RouteChanged) {
	x, prefixes := &m.paths, e.Prefixes
	if x.groups.Size() == 0 {
		return
	}
	if len(prefixes) == 0 {
		prefixes = everywhere
	}
	if len(x.work)+len(prefixes) > checkPrefixes {
		x.work, prefixes, e = x.work[:0], everywhere, &RouteChanged{}
	}
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		p = p.Masked()
		x.work = append(x.work, pathCheck{dst: p, iface: e.Interface})
		for _, g := range x.groups.Supernets(p) { // flows to more than p
			if g.dst != p {
				x.work = append(x.work, pathCheck{dst: g.dst, iface: e.Interface, left: g.n})
			}
		}
	}
	m.checkPaths()
}

// checkPaths checks a slice of what is to be checked.
func (m *Machine) checkPaths() {
	x := &m.paths
	for budget := checkSlice; budget > 0 && len(x.work) > 0; {
		c := x.work[len(x.work)-1]
		x.work = x.work[:len(x.work)-1]
		if c.left == 0 {
			budget -= m.expandCheck(c)
			continue
		}
		g, _ := x.groups.Get(c.dst)
		for ; g != nil && g.n > 0 && c.left > 0 && budget > 0; budget-- {
			w := g.first // to the back: what follows is checked first
			g.remove(w)
			g.append(w)
			c.left--
			m.checkPath(w, c.iface)
		}
		if g != nil && g.n > 0 && c.left > 0 {
			x.work = append(x.work, c)
		}
	}
	if len(x.work) > 0 {
		m.timers.set(x, m.now+int64(checkGap))
	}
}

// expandCheck puts the groups within c.dst on the list or, where they are many,
// both halves of c.dst. It returns what that cost, in states checked.
func (m *Machine) expandCheck(c pathCheck) int {
	x := &m.paths
	start, found := len(x.work), 0
	for _, g := range x.groups.Subnets(c.dst) {
		if found++; found > checkGroups && c.dst.Bits() < c.dst.Addr().BitLen() {
			x.work = x.work[:start]
			m.splitCheck(c)
			break
		}
		x.work = append(x.work, pathCheck{dst: g.dst, iface: c.iface, left: g.n})
	}
	return 1 + found/8
}

func (m *Machine) splitCheck(c pathCheck) {
	x := &m.paths
	if g, ok := x.groups.Get(c.dst); ok {
		x.work = append(x.work, pathCheck{dst: c.dst, iface: c.iface, left: g.n})
	}
	low, high := prefix.Halves(c.dst)
	x.work = append(x.work, pathCheck{dst: high, iface: c.iface}, pathCheck{dst: low, iface: c.iface})
}

// checkPath asks the forwarding table again: where the path is as it was, the
// peer is too, and nothing need be done (RFC 5971 §7.1.3, the first option). Nor
// where Route cannot tell the path just now, as while a BGP session is down.
func (m *Machine) checkPath(w *watched, iface uint32) {
	if iface != 0 && w.path.Interface != iface {
		return
	}
	r := w.r
	rt, err := m.routeQuery(&r.mri)
	if err == nil && rt.Path == (Path{}) {
		return
	}
	if err == nil && rt.Path == w.path && (rt.Local == r.local || r.mri.Method == wire.OffPath) {
		return
	}
	var least time.Duration
	if err == nil {
		w.path = rt.Path
	} else { // a route that is replaced may be missing for a moment
		least = m.cfg.T1
		m.note("no-route", netip.AddrPort{}, err.Error())
	}
	m.note("route-change", netip.AddrPort{}, "the path of a flow has changed here")
	if r.mri.Method == wire.OffPath {
		// Where an Off-Path message goes stands in its MRI: the egress may have
		// become the wrong one, but what goes there is not delivered wrongly.
		m.suspect(r, least)
	} else {
		m.pathBroken(r, least)
	}
	m.arm(r)
}

// damp says how long the Query that a route change wants has to wait. The first
// goes at once; where changes follow one another, each waits twice as long as
// the last, up to 8 T1: "to wait for the network to stabilise" (RFC 5971 §7.1.3,
// §7.1.4).
func (m *Machine) damp(r *routing) time.Duration {
	if m.now >= r.calmAt {
		r.flaps = 0
	}
	var delay time.Duration
	if r.flaps > 0 {
		delay = m.interval(r.flaps)
	}
	r.flaps = min(r.flaps+1, 4)
	r.calmAt = m.now + int64(delay) + int64(m.cfg.T2)
	return delay
}

// pathBroken: the flow leaves by another way, so the peer is perhaps not on it
// any more. The state is Bad, messages wait, a handshake begins (RFC 5971
// §7.1.3, the third option).
func (m *Machine) pathBroken(r *routing, least time.Duration) {
	m.startAnew(r, least)
	m.doubtUpstream(r)
}

// startAnew makes r Bad until another handshake has been done, which begins after
// the time given at least.
func (m *Machine) startAnew(r *routing, least time.Duration) {
	m.setStatus(r, Bad)
	r.state, r.refreshAt = awaitingResponse, never
	m.abandonConnect(r)
	m.verifyPath(r, least)
}

// suspect: the path may have changed. The state is Tentative and still used,
// and verified by a Query (RFC 5971 §7.1.3, the second option). If that is not
// answered within one No_Response, it is Bad (retryOrDie).
func (m *Machine) suspect(r *routing, least time.Duration) {
	if r.status != Good || r.state == awaitingResponse || r.waitMA != nil {
		return
	}
	m.setStatus(r, Tentative)
	r.state = awaitingRefresh
	m.verifyPath(r, least)
}

// verifyPath has a new handshake begin, after damping and at least the time
// given; a Query that waits to leave will do, and goes by the path that there
// is then.
func (m *Machine) verifyPath(r *routing, least time.Duration) {
	if r.running && r.sentQueries == 0 {
		return
	}
	m.stopQuerying(r)
	m.beginHandshake(r, max(m.damp(r), least))
}

// doubtUpstream: a route change downstream "can be an indication that upstream
// routing may also have changed" (RFC 5971 §7.1.3).
func (m *Machine) doubtUpstream(r *routing) {
	if u := m.goodUpstream(r); u != nil {
		m.setStatus(u, Tentative)
	}
}

// goodUpstream returns the state of the flow's upstream direction if a peer has
// made it and it is Good, or nil.
func (m *Machine) goodUpstream(r *routing) *routing {
	back := r.mri.Reverse()
	if u := m.lookup(r.nslp, r.sid, &back); !r.mri.Upstream && u != nil && !u.querying && u.status == Good {
		return u
	}
	return nil
}

// checkTTL looks at the IP TTL of a D-mode message of r's peer: where it is not
// what it was, the route from there has changed (RFC 5971 §7.1.2: "arriving
// [...] with a different IP layer TTL", which the system does not tell of TCP).
// Downstream, the NLI says with what TTL the message was sent; the distance is
// then that to the upstream peer (§5.2.2). Where doubt is set, this is a hint
// to verify the path; Query and Confirm verify it themselves.
func (m *Machine) checkTTL(r *routing, o *origin, doubt bool) {
	msg := &m.in
	if r.dead || o.ma != nil || o.ttl == 0 || msg.MRI.Method == wire.OffPath {
		return
	}
	ttl := o.ttl
	if sent := msg.NLI.IPTTL; !msg.MRI.Upstream && sent >= ttl {
		ttl += 255 - sent
		if doubt {
			r.hops = sent - o.ttl
		}
	}
	old := r.seenTTL
	if r.seenTTL = ttl; old == 0 || old == ttl || !doubt || r.status != Good {
		return
	}
	m.note("ttl-change", o.from, fmt.Sprintf("IP TTL of the peer's messages %d, was %d", ttl, old))
	if r.querying {
		m.suspect(r, 0)
		m.arm(r)
	} else {
		m.setStatus(r, Tentative)
	}
}

// setStatus changes the status, and says so: "whenever GIST updates the routing
// status, it informs the signalling application" (RFC 5971 §7.1.3).
func (m *Machine) setStatus(r *routing, st RoutingStatus) {
	if r.status == st {
		return
	}
	r.status = st
	var sii SII
	if st != Bad && r.peer != nil {
		sii = r.peer.sii
	}
	m.notify(r, RoutingStatusChange, st, sii)
}

// invalidate is the API's InvalidateRoutingState (RFC 5971 §B.6, §7.1.3). It
// makes nothing better, and the application is not told of the change that it
// made.
func (m *Machine) invalidate(e *InvalidateRoutingState) {
	if e.Status != Bad && e.Status != Tentative {
		m.note("bad-status", netip.AddrPort{}, "InvalidateRoutingState wants Bad or Tentative")
		return
	}
	for _, r := range m.withMRI(e.NSLPID, &e.MRI) {
		r.status = max(r.status, e.Status)
		if r.querying && len(e.NSLPData) > 0 && r.mri.Method != wire.OffPath {
			m.backlog(r).query = e.NSLPData
		}
		if r.querying {
			m.querySMInvalidate(r, e.Urgent)
		}
	}
}

// querySMInvalidate is RFC 5971 §7.1.3 at the Querying node: Bad state moves to
// Awaiting Response, Tentative to Awaiting Refresh; now, if that is urgent or "if
// the upstream routing state is still known to be Good", or with the next
// message.
func (m *Machine) querySMInvalidate(r *routing, urgent bool) {
	switch {
	case r.status == Bad && r.state != awaitingResponse:
		r.state, r.refreshAt = awaitingResponse, never
		m.abandonConnect(r)
		m.stopQuerying(r)
	case r.status == Tentative:
		r.verify = true
	}
	if urgent || r.hasWaiting() || m.goodUpstream(r) != nil {
		if r.state == established {
			r.state = awaitingRefresh
		}
		m.startQuerying(r)
	}
	m.arm(r)
}
