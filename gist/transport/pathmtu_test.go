package transport

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/interqos/interqos/gist"
)

// RFC 5971 §4.3.3, §5.3.2.1: what does not fit the path does not leave, with DF
// set, and whoever sent it learns how large the path's MTU is, IPv4 and IPv6.
func TestDatagramTooLargeForThePath(t *testing.T) {
	l := newLine(t)
	for _, mtu := range []struct{ dst, via string }{{"10.2.0.1/32", "10.1.0.254"}, {"2001:db8:2::1/128", "2001:db8:1::fe"}} {
		l.a.route(mtu.dst, mtu.via)
		l.a.do(func() error {
			routes, err := netlink.RouteGet(netip.MustParsePrefix(mtu.dst).Addr().AsSlice())
			if err != nil {
				return err
			}
			dst, err := netlink.ParseIPNet(mtu.dst)
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: routes[0].Gw, MTU: 1300})
		})
	}
	r, _ := l.a.watchRoutes()
	u := l.a.listenUDP(UDPConfig{Addrs: []netip.AddrPort{
		netip.MustParseAddrPort("10.1.0.1:270"), netip.MustParseAddrPort("[2001:db8:1::1]:270"),
	}, Handler: func([]gist.Event) {}})
	b := newSink()
	l.b.listenUDP(UDPConfig{Addrs: []netip.AddrPort{
		netip.MustParseAddrPort("10.2.0.1:270"), netip.MustParseAddrPort("[2001:db8:2::1]:270"),
	}, Handler: b.handle})
	to4, to6 := netip.MustParseAddrPort("10.2.0.1:270"), netip.MustParseAddrPort("[2001:db8:2::1]:270")
	batch := []Outgoing{}
	for _, to := range []netip.AddrPort{to4, to6} {
		for _, n := range []int{1300 - 64, 1300} {
			batch = append(batch, Outgoing{SendDatagram: gist.SendDatagram{To: to, Payload: make([]byte, n)}})
		}
	}
	errs := SendErrors(u.Send(batch))
	if len(errs) != 2 || errs[0].Index != 1 || errs[1].Index != 3 || errs[0].To != to4 || errs[1].To != to6 {
		t.Fatalf("%v", errs)
	}
	for _, e := range errs {
		if mtu, err := r.MTU(e.To.Addr()); !e.TooLarge() || err != nil || mtu != 1300 {
			t.Errorf("%v: too large %v, MTU %d, %v", e, e.TooLarge(), mtu, err)
		}
	}
	b.count(t, 2)
	if mtu, err := r.MTU(netip.MustParseAddr("10.1.0.254")); err != nil || mtu != 1500 {
		t.Errorf("on the link: %d, %v", mtu, err)
	}
	if errs := SendErrors(u.Send([]Outgoing{{SendDatagram: gist.SendDatagram{To: netip.MustParseAddrPort("[::1]:1"), Local: netip.MustParseAddr("::1")}}})); len(errs) != 1 || errs[0].TooLarge() {
		t.Errorf("no socket: %v", errs)
	}
}
