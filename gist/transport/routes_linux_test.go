package transport

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// routeSink keeps what a watch tells.
type routeSink struct {
	mu     sync.Mutex
	events []gist.RouteChanged
	errs   []error
	news   chan struct{}
}

func (n *netns) watchRoutes() (*Routes, *routeSink) {
	n.t.Helper()
	s := &routeSink{news: make(chan struct{}, 1)}
	var r *Routes
	n.do(func() (err error) {
		r, err = WatchRoutes(RoutesConfig{OnChange: s.changed, OnError: s.failed})
		return err
	})
	n.t.Cleanup(r.Close)
	return r, s
}

func (s *routeSink) changed(e gist.RouteChanged) {
	s.mu.Lock()
	s.events = append(s.events, e)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *routeSink) failed(err error) {
	s.mu.Lock()
	s.errs = append(s.errs, err)
	s.mu.Unlock()
}

// until waits for an event that is as ok wants it, and forgets all up to it.
func (s *routeSink) until(t *testing.T, what string, ok func(gist.RouteChanged) bool) {
	t.Helper()
	for deadline := time.After(patience); ; {
		s.mu.Lock()
		for i, e := range s.events {
			if ok(e) {
				s.events = s.events[i+1:]
				s.mu.Unlock()
				return
			}
		}
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-deadline:
			t.Fatalf("no event: %s; %v", what, s.events)
		}
	}
}

func everything(e gist.RouteChanged) bool { return len(e.Prefixes) == 0 && e.Interface == 0 }

func (n *netns) index(link string) (index uint32) {
	n.t.Helper()
	n.do(func() error {
		l, err := netlink.LinkByName(link)
		if err == nil {
			index = uint32(l.Attrs().Index)
		}
		return err
	})
	return index
}

func wantRoute(t *testing.T, r *Routes, dst string, index uint32, via string) {
	t.Helper()
	got, err := r.Lookup(netip.MustParseAddr(dst))
	if want := (gist.Path{Interface: index, NextHop: netip.MustParseAddr(via)}); err != nil || got.Path != want {
		t.Errorf("route to %s: %+v, %v; want %+v", dst, got, err, want)
	}
}

// RFC 5971 §7.1.2, "Local Trigger": the kernel's own word on routes, links, addresses
// and rules, IPv4 and IPv6.
func TestRoutes(t *testing.T) {
	a, b, c := newNetns(t), newNetns(t), newNetns(t)
	join(t, a, "toB", []string{"10.0.1.1/24", "fd00:1::1/64"}, b, "toA", []string{"10.0.1.2/24", "fd00:1::2/64"})
	join(t, a, "toC", []string{"10.0.2.1/24", "fd00:2::1/64"}, c, "toA", []string{"10.0.2.2/24", "fd00:2::2/64"})
	a.route("203.0.113.0/24", "10.0.1.2")
	a.route("2001:db8::/32", "fd00:1::2")
	r, s := a.watchRoutes()
	toB, toC := a.index("toB"), a.index("toC")
	for range 2 { // from the kernel, and from memory
		wantRoute(t, r, "203.0.113.9", toB, "10.0.1.2")
		wantRoute(t, r, "2001:db8::9", toB, "fd00:1::2")
	}
	if got, err := r.Lookup(netip.MustParseAddr("203.0.113.9")); err != nil || got.Source != netip.MustParseAddr("10.0.1.1") {
		t.Errorf("source %v, %v", got.Source, err)
	}
	if got, err := r.Lookup(netip.MustParseAddr("10.0.2.2")); err != nil || got.Path != (gist.Path{Interface: toC}) {
		t.Errorf("on the link: %+v, %v", got, err)
	}
	if _, err := r.Lookup(netip.MustParseAddr("198.51.100.1")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
	concerns := func(p string) func(gist.RouteChanged) bool {
		return func(e gist.RouteChanged) bool {
			for _, q := range e.Prefixes {
				if q == netip.MustParsePrefix(p) {
					return true
				}
			}
			return false
		}
	}
	a.route("203.0.113.0/24", "10.0.2.2")
	s.until(t, "route replaced", concerns("203.0.113.0/24"))
	wantRoute(t, r, "203.0.113.9", toC, "10.0.2.2")
	a.route("2001:db8::/32", "fd00:2::2")
	s.until(t, "IPv6 route replaced", concerns("2001:db8::/32"))
	wantRoute(t, r, "2001:db8::9", toC, "fd00:2::2")
	a.route("203.0.113.9/32", "10.0.1.2")
	s.until(t, "more specific route", concerns("203.0.113.9/32"))
	wantRoute(t, r, "203.0.113.9", toB, "10.0.1.2")

	set := func(change func(netlink.Link) error) {
		a.do(func() error {
			l, err := netlink.LinkByName("toB")
			if err != nil {
				return err
			}
			return change(l)
		})
	}
	set(netlink.LinkSetDown)
	s.until(t, "link down", func(e gist.RouteChanged) bool { return e.Interface == toB })
	wantRoute(t, r, "203.0.113.9", toC, "10.0.2.2") // by the shorter prefix
	set(netlink.LinkSetUp)
	s.until(t, "link up", everything)

	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = unix.AF_INET, 77, 77
	a.do(func() error { return netlink.RuleAdd(rule) })
	s.until(t, "rule", everything)

	set(func(l netlink.Link) error {
		addr, err := netlink.ParseAddr("10.0.1.1/24")
		if err != nil {
			return err
		}
		return netlink.AddrDel(l, addr)
	})
	s.until(t, "address gone", func(e gist.RouteChanged) bool { return e.Interface == toB })
	if len(s.errs) != 0 {
		t.Errorf("errors: %v", s.errs)
	}
}

// What the kernel could not keep for us is made up for: everything may have
// changed, and no old answer is given.
func TestRoutesOverrun(t *testing.T) {
	a, b := newNetns(t), newNetns(t)
	join(t, a, "toB", []string{"10.0.1.1/24"}, b, "toA", []string{"10.0.1.2/24", "10.0.1.3/24"})
	a.route("203.0.113.0/24", "10.0.1.2")
	r, s := a.watchRoutes()
	index := a.index("toB")
	wantRoute(t, r, "203.0.113.9", index, "10.0.1.2")
	if err := r.events.SetReceiveBufferSize(1, false); err != nil { // the least that there is
		t.Fatal(err)
	}
	r.mu.Lock() // the reader waits
	for i := range 256 {
		a.route("198.18."+strconv.Itoa(i)+".0/24", "10.0.1.2")
	}
	a.route("203.0.113.0/24", "10.0.1.3")
	r.mu.Unlock()
	s.until(t, "resync", everything)
	wantRoute(t, r, "203.0.113.9", index, "10.0.1.3")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) == 0 || !errors.Is(s.errs[0], unix.ENOBUFS) {
		t.Errorf("errors: %v", s.errs)
	}
}

// More changes than are worth telling one by one are one: everything.
func TestRoutesGather(t *testing.T) {
	r := &Routes{cache: map[netip.Addr]Route{}, links: map[uint32]bool{}}
	for i := range maxRouteChanges {
		r.prefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	if len(r.changed.prefixes) != maxRouteChanges || r.changed.everything {
		t.Fatalf("%d prefixes", len(r.changed.prefixes))
	}
	r.prefix(netip.MustParsePrefix("192.0.2.0/24"))
	r.prefix(netip.MustParsePrefix("198.51.100.0/24"))
	r.linkIs(3, true)
	if !r.changed.everything || len(r.changed.prefixes) != 0 {
		t.Errorf("%+v", r.changed)
	}
}

// FuzzRouteOf: what is not a route is none, and what is has a prefix.
func FuzzRouteOf(f *testing.F) {
	f.Add([]byte{unix.AF_INET, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 203, 0, 113, 0})
	f.Add([]byte{unix.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{unix.AF_INET6, 128, 0, 0, 254, 3, 0, 1, 0, 2, 0, 0})
	f.Add([]byte{unix.AF_INET, 8, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 5, 0, 1, 0, 10}) // without its padding
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := routeOf(b); ok && !p.IsValid() {
			t.Errorf("%x: %v", b, p)
		}
	})
}

// gistNode is a machine on real sockets.
type gistNode struct {
	t     *testing.T
	udp   *UDP
	mu    sync.Mutex
	m     *gist.Machine
	timer *time.Timer
	got   map[uint32]int
	told  []gist.NetworkNotification
	ended bool
}

func (n *netns) gistNode(address, dst string, routes func() *Routes) *gistNode {
	n.t.Helper()
	a := netip.MustParseAddr(address)
	g := &gistNode{t: n.t.(*testing.T), got: map[uint32]int{}}
	m, err := gist.New(gist.Config{
		Identity: []byte(address), Address: a, NSLPIDs: []wire.NSLPID{1}, Insecure: true, DModeData: true,
		Rand: func(b []byte) { _, _ = rand.Read(b) },
		Route: func(mri wire.MRI) (gist.QueryRoute, error) {
			rt, err := routes().Lookup(mri.Flow.Destination.Addr())
			return gist.QueryRoute{To: netip.AddrPortFrom(netip.MustParseAddr(dst), gist.DefaultPort), TTL: 64, RouterAlert: true, Path: rt.Path}, err
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	g.m = m
	g.timer = time.AfterFunc(time.Hour, func() { g.do(nil) })
	g.udp = n.listenUDP(UDPConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(a, gist.DefaultPort)}, Handler: g.take})
	n.t.Cleanup(func() {
		g.mu.Lock()
		g.ended = true
		g.timer.Stop()
		g.mu.Unlock()
	})
	return g
}

func (g *gistNode) take(events []gist.Event) {
	for _, ev := range events {
		g.do(ev)
	}
}

func (g *gistNode) do(ev gist.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	for _, a := range g.m.Handle(time.Now(), ev) {
		switch a := a.(type) {
		case gist.SendDatagram:
			if err := g.udp.Send([]Outgoing{{SendDatagram: a}}); err != nil {
				g.t.Log(err) // as if it had been lost
			}
		case *gist.RecvMessage:
			g.got[binary.BigEndian.Uint32(a.Data)]++
		case gist.NetworkNotification:
			g.told = append(g.told, a)
		}
	}
	if at := g.m.Deadline(); !at.IsZero() {
		g.timer.Reset(max(time.Until(at), 0))
	}
}

// `ip route replace` while messages flow: the state is Bad, the Query is
// intercepted on the new way, and the messages arrive there; RFC 5971 §7.1.
func TestRouteReplacedUnderTraffic(t *testing.T) {
	a, b, c := newNetns(t), newNetns(t), newNetns(t)
	join(t, a, "toB", []string{"10.0.1.1/24"}, b, "toA", []string{"10.0.1.2/24"})
	join(t, a, "toC", []string{"10.0.2.1/24"}, c, "toA", []string{"10.0.2.2/24"})
	const dst = "203.0.113.9"
	a.address("lo", "10.9.0.1/32")
	b.address("lo", "10.9.0.2/32")
	c.address("lo", "10.9.0.3/32")
	a.route("10.9.0.2/32", "10.0.1.2")
	a.route("10.9.0.3/32", "10.0.2.2")
	b.route("10.9.0.1/32", "10.0.1.1")
	c.route("10.9.0.1/32", "10.0.2.1")
	a.route(dst+"/32", "10.0.1.2")
	for _, n := range []*netns{b, c} {
		n.route(dst+"/32", map[*netns]string{b: "10.0.1.1", c: "10.0.2.1"}[n]) // never taken: intercepted before
	}
	none := func() *Routes { return nil }
	nodeB, nodeC := b.gistNode("10.9.0.2", dst, none), c.gistNode("10.9.0.3", dst, none)
	for n, g := range map[*netns]*gistNode{b: nodeB, c: nodeC} {
		n.intercept(InterceptConfig{IPv4: true, Handler: g.take})
	}
	var routes *Routes
	nodeA := a.gistNode("10.9.0.1", dst, func() *Routes { return routes })
	a.do(func() (err error) {
		routes, err = WatchRoutes(RoutesConfig{OnChange: func(e gist.RouteChanged) { nodeA.do(e) }})
		return err
	})
	t.Cleanup(routes.Close)

	flow := wire.Flow{Source: netip.MustParsePrefix("10.9.0.1/32"), Destination: netip.MustParsePrefix(dst + "/32")}
	sent := uint32(0)
	send := func() {
		nodeA.do(gist.SendMessage{NSLPData: binary.BigEndian.AppendUint32(nil, sent), NSLPID: 1, SID: wire.SID{1}, MRI: wire.MRI{Flow: flow}})
		sent++
	}
	count := func(g *gistNode) int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.got)
	}
	// send until g has so many more.
	traffic := func(g *gistNode, n int) {
		t.Helper()
		deadline, before := time.Now().Add(patience), count(g)
		for count(g) < before+n {
			if time.Now().After(deadline) {
				t.Fatalf("B has %d, C has %d of %d", count(nodeB), count(nodeC), sent)
			}
			send()
			time.Sleep(time.Millisecond) // poll
		}
	}
	traffic(nodeB, 20)
	if count(nodeC) != 0 {
		t.Fatal("C is not on the path")
	}
	a.route(dst+"/32", "10.0.2.2")
	traffic(nodeC, 20)
	first := sent // what was sent before may still be on its way to B
	traffic(nodeC, 20)
	nodeB.mu.Lock()
	for n := range nodeB.got {
		if n >= first {
			t.Errorf("B got message %d; C was the peer when message %d was sent", n, first)
		}
	}
	nodeB.mu.Unlock()
	nodeA.mu.Lock()
	var told []gist.NotificationType
	var status []gist.RoutingStatus
	for _, n := range nodeA.told {
		told = append(told, n.Type)
		if n.Type == gist.RoutingStatusChange {
			status = append(status, n.Status)
		}
	}
	nodeA.mu.Unlock()
	if len(status) < 3 || status[0] != gist.Good || status[1] != gist.Bad || status[len(status)-1] != gist.Good {
		t.Errorf("A was told %v, %v", told, status)
	}
	// And back: the link to C goes down, and nobody says so of the route.
	a.route("203.0.113.0/24", "10.0.1.2")
	a.do(func() error {
		l, err := netlink.LinkByName("toC")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	traffic(nodeB, 20)
}
