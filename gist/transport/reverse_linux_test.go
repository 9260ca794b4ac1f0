package transport

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/prefix"
)

func (n *netns) ingressRoutes() (*Routes, *routeSink) {
	n.t.Helper()
	s := &routeSink{news: make(chan struct{}, 1)}
	var r *Routes
	n.do(func() (err error) {
		r, err = WatchRoutes(RoutesConfig{OnChange: s.changed, OnError: s.failed, Ingress: true})
		return err
	})
	n.t.Cleanup(r.Close)
	return r, s
}

func (n *netns) routeOf(to string, change func(*netlink.Route)) {
	n.t.Helper()
	n.do(func() error {
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		rt := netlink.Route{Dst: dst}
		change(&rt)
		return netlink.RouteReplace(&rt)
	})
}

func wantArrives(t *testing.T, r *Routes, source string, iface uint32, strict, loose bool) {
	t.Helper()
	for how, want := range map[ReversePath]bool{ReverseStrict: strict, ReverseLoose: loose} {
		for range 2 { // from the kernel, and from memory
			got, err := r.Arrives(netip.MustParsePrefix(source), iface, how)
			if err != nil || got != want {
				t.Errorf("%s by interface %d, filter %d: %v, %v; want %v", source, iface, how, got, err, want)
			}
		}
	}
}

// RFC 5971 §5.8.1.2: "the full range of source addresses (the source-address
// masked with its prefix-length) would pass ingress filtering checks", by what the
// kernel's routes say, with several next hops, policy and routes to nowhere.
func TestArrives(t *testing.T) {
	a, b, c := newNetns(t), newNetns(t), newNetns(t)
	join(t, a, "toB", []string{"10.0.1.1/24", "fd00:1::1/64"}, b, "toA", []string{"10.0.1.2/24", "fd00:1::2/64"})
	join(t, a, "toC", []string{"10.0.2.1/24", "fd00:2::1/64"}, c, "toA", []string{"10.0.2.2/24", "fd00:2::2/64"})
	toB, toC, lo := a.index("toB"), a.index("toC"), a.index("lo")
	a.route("203.0.113.0/24", "10.0.1.2")
	a.route("203.0.113.128/25", "10.0.2.2")
	a.route("2001:db8::/32", "fd00:1::2")
	a.route("2001:db8:8000::/33", "fd00:2::2")
	both := func(one, other string) func(*netlink.Route) {
		return func(rt *netlink.Route) {
			rt.MultiPath = []*netlink.NexthopInfo{
				{LinkIndex: int(toB), Gw: net.ParseIP(one)}, {LinkIndex: int(toC), Gw: net.ParseIP(other)},
			}
		}
	}
	a.routeOf("198.51.100.0/24", both("10.0.1.2", "10.0.2.2"))
	a.routeOf("2001:db8:f::/48", both("fd00:1::2", "fd00:2::2"))
	a.routeOf("198.18.0.0/16", func(rt *netlink.Route) { rt.Type = unix.RTN_BLACKHOLE })
	a.routeOf("198.19.0.0/16", func(rt *netlink.Route) { rt.Type = unix.RTN_UNREACHABLE })
	a.routeOf("203.0.114.0/24", func(rt *netlink.Route) { rt.Table, rt.Gw = 77, net.ParseIP("10.0.2.2") })
	r, s := a.ingressRoutes()
	for _, c := range []struct {
		source string
		iface  uint32
		strict bool
		loose  bool
	}{
		{"10.0.1.2/32", toB, true, true}, // on the link
		{"10.0.1.2/32", toC, false, true},
		{"10.0.1.2/32", 0, true, true}, // who knows
		{"203.0.113.9/32", toB, true, true},
		{"203.0.113.9/32", toC, false, true},
		{"203.0.113.0/25", toB, true, true},
		{"203.0.113.128/26", toC, true, true},
		{"203.0.113.0/24", toB, false, true}, // half of it is elsewhere
		{"203.0.113.0/24", toC, false, true},
		{"203.0.113.0/23", 0, false, false}, // 203.0.112.0/24 is nowhere
		{"198.51.100.7/32", toB, true, true},
		{"198.51.100.7/32", toC, true, true},
		{"198.51.100.0/24", toC, true, true},
		{"198.51.100.7/32", lo, false, true},
		{"198.18.3.4/32", toB, false, false},
		{"198.19.3.4/32", toB, false, false},
		{"192.0.2.1/32", toB, false, false},
		{"203.0.114.1/32", toC, false, false}, // in a table that nothing leads to
		{"10.0.1.1/32", lo, true, true},       // our own
		{"10.0.1.1/32", toB, false, false},
		{"127.0.0.1/32", lo, true, true},
		{"127.0.0.1/32", toB, false, false},
		{"10.0.1.0/24", toB, false, false}, // with our own
		{"0.0.0.0/0", toB, false, false},
		{"224.0.0.1/32", toB, false, false},
		{"2001:db8::1/128", toB, true, true},
		{"2001:db8::1/128", toC, false, true},
		{"2001:db8:f::/64", toB, true, true},
		{"2001:db8:f::/64", toC, true, true},
		{"2001:db8::/32", toB, false, true},
		{"fd00:1::1/128", toB, false, false},
		{"2001:db9::/48", toB, false, false},
	} {
		wantArrives(t, r, c.source, c.iface, c.strict, c.loose)
	}

	// What changes counts as soon as the change has been told.
	a.route("203.0.113.0/24", "10.0.2.2")
	s.until(t, "route replaced", concerning("203.0.113.0/24"))
	wantArrives(t, r, "203.0.113.0/24", toC, true, true)
	a.route("203.0.113.9/32", "10.0.1.2")
	s.until(t, "more specific route", concerning("203.0.113.9/32"))
	wantArrives(t, r, "203.0.113.9/32", toB, true, true)
	wantArrives(t, r, "203.0.113.8/32", toC, true, true)
	wantArrives(t, r, "203.0.113.0/24", toC, false, true)

	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = unix.AF_INET, 77, 77
	_, rule.Dst, _ = net.ParseCIDR("203.0.114.64/26")
	a.do(func() error { return netlink.RuleAdd(rule) })
	s.until(t, "rule", everything)
	wantArrives(t, r, "203.0.114.65/32", toC, true, true)
	wantArrives(t, r, "203.0.114.1/32", toC, false, false)
	wantArrives(t, r, "203.0.114.0/24", toC, false, false)

	for i := range maxRegions {
		a.route("198.20."+strconv.Itoa(i)+".0/24", "10.0.1.2")
		a.route("198.21."+strconv.Itoa(i)+".0/24", "10.0.1.2")
	}
	s.until(t, "many routes", concerning("198.21."+strconv.Itoa(maxRegions-1)+".0/24"))
	wantArrives(t, r, "198.20.0.0/16", toB, true, true)
	if ok, err := r.Arrives(netip.MustParsePrefix("198.20.0.0/15"), toB, ReverseStrict); ok || !errors.Is(err, prefix.ErrRegions) {
		t.Errorf("%d regions: %v, %v", 2*maxRegions, ok, err)
	}
	if len(s.errs) != 0 {
		t.Errorf("errors: %v", s.errs)
	}
}

func concerning(p string) func(gist.RouteChanged) bool {
	return func(e gist.RouteChanged) bool {
		for _, q := range e.Prefixes {
			if q == netip.MustParsePrefix(p) {
				return true
			}
		}
		return everything(e)
	}
}

// Without RoutesConfig.Ingress single addresses are answered, by asking each
// time, and ranges are not.
func TestArrivesWithoutPrefixes(t *testing.T) {
	a, b := newNetns(t), newNetns(t)
	join(t, a, "toB", []string{"10.0.1.1/24"}, b, "toA", []string{"10.0.1.2/24"})
	r, _ := a.watchRoutes()
	wantArrives(t, r, "10.0.1.2/32", a.index("toB"), true, true)
	if ok, err := r.Arrives(netip.MustParsePrefix("10.0.1.2/31"), 0, ReverseLoose); ok || !errors.Is(err, errSplitsUnread) {
		t.Errorf("range: %v, %v", ok, err)
	}
	if ok, err := r.Arrives(netip.Prefix{}, 0, ReverseLoose); ok || err == nil {
		t.Errorf("no range: %v, %v", ok, err)
	}
}

// RFC 5971 §5.8.1.2: "if the GIST node can detect that no flow could arrive over
// the same interface as the Query, it MUST be rejected with an appropriate error
// message". A sends R, on the way to B, Queries for flows of its own and for
// others', with the source that the flow has; R intercepts them.
func TestSpoofedQueriesAreRefused(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	l.r.intercept(InterceptConfig{Handler: atR.handle})
	r, _ := l.r.ingressRoutes()
	machine, err := gist.New(gist.Config{
		Identity: []byte("R"), Address: netip.MustParseAddr("10.1.0.254"), Addresses: []netip.Addr{netip.MustParseAddr("2001:db8:1::fe")},
		NSLPIDs: []wire.NSLPID{1}, Insecure: true, Rand: func(b []byte) { _, _ = rand.Read(b) },
		Route: func(wire.MRI) (gist.QueryRoute, error) { return gist.QueryRoute{}, errors.New("R asks nobody") },
		IngressFilter: func(source netip.Prefix, at gist.Ingress) bool {
			ok, err := r.Arrives(source, at.Interface, ReverseStrict)
			if err != nil {
				t.Errorf("%v: %v", source, err)
			}
			return ok
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var send func(q wire.Message)
	var u *UDP
	l.a.do(func() (err error) {
		u, err = ListenUDP(UDPConfig{Addrs: []netip.AddrPort{
			netip.MustParseAddrPort("10.1.0.1:270"), netip.MustParseAddrPort("[2001:db8:1::1]:270"),
		}, Handler: func([]gist.Event) {}, Foreign: true})
		return err
	})
	t.Cleanup(func() { _ = u.Close() })
	send = func(q wire.Message) {
		src, dst := q.MRI.Flow.Source.Addr(), q.MRI.Flow.Destination.Addr()
		if err := u.Send([]Outgoing{{SendDatagram: gist.SendDatagram{
			Local: src, To: netip.AddrPortFrom(dst, 270), TTL: 64, RouterAlert: true, Foreign: true, Payload: q.AppendDatagram(nil),
		}}}); err != nil {
			t.Fatalf("%v: %v", src, err)
		}
	}
	for i, c := range []struct {
		source string
		want   wire.MessageType
	}{
		{"10.1.0.1/32", wire.Response},
		{"10.1.0.77/32", wire.Response}, // another host of A's network
		{"10.2.0.77/32", wire.Error},    // one of B's
		{"192.0.2.1/32", wire.Error},    // one of nobody's
		{"10.1.0.254/32", wire.Error},   // R itself; its kernel drops what bears this source, see below
		{"10.1.0.64/26", wire.Response}, // a range of A's network
		{"10.1.0.1/15", wire.Error},     // and more than that
		{"2001:db8:1::7/128", wire.Response},
		{"2001:db8:2::7/128", wire.Error},
		{"2001:db8:1::8/125", wire.Response},
	} {
		source := netip.MustParsePrefix(c.source)
		dst, from := netip.MustParsePrefix("10.2.0.1/32"), netip.MustParseAddr("10.1.0.1")
		if source.Addr().Is6() {
			dst, from = netip.MustParsePrefix("2001:db8:2::1/128"), netip.MustParseAddr("2001:db8:1::1")
		}
		q := wire.Message{
			Header: wire.Header{HopCount: 8, NSLPID: 1, Type: wire.Query, C: true, R: true},
			HasMRI: true, MRI: wire.MRI{Method: wire.PathCoupled, Flow: wire.Flow{Source: source, Destination: dst}},
			HasSID: true, SID: wire.SID{byte(i)},
			HasNLI:      true,
			NLI:         wire.NLI{PeerIdentity: []byte("A"), Address: from, ValidityMS: 30000, IPTTL: 64},
			QueryCookie: []byte("0123456789abcdef"),
		}
		if c.source == "10.1.0.254/32" { // Linux never delivers its own address as a source
			q.S = true
			at := gist.Datagram{Local: netip.MustParseAddrPort("10.2.0.1:270"), From: netip.AddrPortFrom(from, 270), Interface: l.r.index("left"),
				TTL: 63, RouterAlert: true, Transit: &gist.Transit{}, Payload: q.AppendDatagram(nil)}
			answered(t, machine, c.source, at, c.want)
			continue
		}
		seen := len(atR.all())
		send(q)
		answered(t, machine, c.source, atR.count(t, seen+1)[seen].(gist.Datagram), c.want)
	}
}

func answered(t *testing.T, m *gist.Machine, name string, d gist.Datagram, want wire.MessageType) {
	t.Helper()
	for _, a := range m.Handle(time.Now(), d) {
		s, ok := a.(gist.SendDatagram)
		if !ok {
			continue
		}
		answer, err := wire.ParseDatagram(s.Payload)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if answer.Type != want || want == wire.Error && answer.Error.ID != wire.IngressFilterFailure {
			t.Errorf("%s: answered %v %+v, want %v", name, answer.Type, answer.Error, want)
		}
		return
	}
	t.Errorf("%s: no answer", name)
}

// Asking about an address of a known region, as for each Query.
func BenchmarkArrives(b *testing.B) {
	a, c := newNetns(b), newNetns(b)
	join(b, a, "toB", []string{"10.0.1.1/24"}, c, "toA", []string{"10.0.1.2/24"})
	a.route("0.0.0.0/0", "10.0.1.2")
	r, _ := a.ingressRoutes()
	toB := a.index("toB")
	i := uint32(0)
	for b.Loop() {
		i++
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		if ok, err := r.Arrives(p, toB, ReverseStrict); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
