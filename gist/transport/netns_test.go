package transport

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netns is a network namespace that ends with the test: it has no name, and
// nothing but this process knows it.
type netns struct {
	t  testing.TB
	fd int
}

// newNetns makes a namespace with its loopback interface up. It skips the test
// where this process may not.
func newNetns(t testing.TB) *netns {
	t.Helper()
	n := &netns{t: t, fd: -1}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Skipf("needs root, to make network namespaces: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(n.fd) })
	n.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return n
}

// try runs f in the namespace.
func (n *netns) try(f func() error) error {
	n.t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			errs <- fmt.Errorf("setns: %w", err)
			return
		}
		errs <- f()
	}()
	return <-errs
}

func (n *netns) do(f func() error) {
	n.t.Helper()
	if err := n.try(f); err != nil {
		n.t.Fatal(err)
	}
}

// join puts a veth link between two namespaces, with addresses in CIDR form.
func join(t testing.TB, a *netns, aName string, aAddrs []string, b *netns, bName string, bAddrs []string) {
	t.Helper()
	a.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.fd),
		})
	})
	a.address(aName, aAddrs...)
	b.address(bName, bAddrs...)
	a.up(aName)
	b.up(bName)
	a.owns(aAddrs)
	b.owns(bAddrs)
	a.knows(aName, b, bName, bAddrs)
	b.knows(bName, a, aName, aAddrs)
}

// owns waits until the kernel takes addresses for its own: those of IPv6 some time
// after the link is up, and until then what is sent to them is in transit.
func (n *netns) owns(addrs []string) {
	n.t.Helper()
	for _, s := range addrs {
		a := netip.MustParsePrefix(s).Addr()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // poll
			var routes []netlink.Route
			n.do(func() (err error) {
				routes, err = netlink.RouteGet(a.AsSlice())
				return err
			})
			if len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
				break
			}
			if time.Now().After(deadline) {
				n.t.Fatalf("%v is not the kernel's own: %v", a, routes)
			}
		}
	}
}

// knows has the kernel know the neighbour's link-layer address for good: what has
// to wait for it to be resolved is dropped where a busy machine takes too long.
func (n *netns) knows(link string, neighbour *netns, its string, addrs []string) {
	n.t.Helper()
	var mac net.HardwareAddr
	neighbour.do(func() error {
		l, err := netlink.LinkByName(its)
		if err == nil {
			mac = l.Attrs().HardwareAddr
		}
		return err
	})
	n.do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			if err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.IP, HardwareAddr: mac,
			}); err != nil {
				return fmt.Errorf("neighbour %s: %w", s, err)
			}
		}
		return nil
	})
}

// up waits until the kernel takes a link for one that packets can go by: some time
// after it has been set up, and before that IPv6 has no addresses.
func (n *netns) up(link string) {
	n.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var state netlink.LinkOperState
		n.do(func() error {
			l, err := netlink.LinkByName(link)
			if err == nil {
				state = l.Attrs().OperState
			}
			return err
		})
		if state == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s is %s", link, state)
		}
		time.Sleep(time.Millisecond) // poll
	}
}

func (n *netns) address(link string, addrs ...string) {
	n.t.Helper()
	n.do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
}

func (n *netns) route(to, via string) {
	n.t.Helper()
	n.do(func() error {
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
	})
}

// router makes the namespace forward.
func (n *netns) router() {
	n.t.Helper()
	n.do(func() error {
		for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// line is A, a router R and B.
type line struct{ a, r, b *netns }

func newLine(t testing.TB) line {
	t.Helper()
	l := line{newNetns(t), newNetns(t), newNetns(t)}
	join(t, l.a, "up", []string{"10.1.0.1/24", "2001:db8:1::1/64"}, l.r, "left", []string{"10.1.0.254/24", "2001:db8:1::fe/64"})
	join(t, l.r, "right", []string{"10.2.0.254/24", "2001:db8:2::fe/64"}, l.b, "down", []string{"10.2.0.1/24", "2001:db8:2::1/64"})
	l.r.router()
	l.a.route("0.0.0.0/0", "10.1.0.254")
	l.a.route("::/0", "2001:db8:1::fe")
	l.b.route("0.0.0.0/0", "10.2.0.254")
	l.b.route("::/0", "2001:db8:2::fe")
	return l
}
