package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
)

// forwarder puts intercepted packets back on their way, with the source that
// they came with. RFC 5971 §4.3.4, §5.3.2.4
type forwarder struct {
	mark uint32
	fd4  int // raw sockets; -1: none
	fd6  int
	net  *netlink.Handle

	mu  sync.Mutex // of the buffers
	buf []byte
	oob []byte
}

// openForwarder opens a raw socket for each IP version. Its packets bear mark,
// so that nothing intercepts them again here.
func openForwarder(mark uint32, h *netlink.Handle, v4, v6 bool) (*forwarder, error) {
	f := &forwarder{mark: mark, fd4: -1, fd6: -1, net: h}
	var err error
	if v4 {
		if f.fd4, err = openRaw(unix.AF_INET, mark); err != nil {
			return nil, err
		}
	}
	if v6 {
		if f.fd6, err = openRaw(unix.AF_INET6, mark); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

// openRaw opens a socket that sends whole packets from any source address; it
// receives nothing, for no packet is of protocol 255.
func openRaw(family int, mark uint32) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return -1, capability("raw socket to forward intercepted packets", err)
	}
	// Transparent, so that the flow's source may be named: the route is chosen
	// by it too.
	options := [][3]int{{unix.SOL_SOCKET, unix.SO_MARK, int(mark)}, {unix.SOL_IP, unix.IP_HDRINCL, 1}, {unix.SOL_IP, unix.IP_TRANSPARENT, 1}}
	if family == unix.AF_INET6 {
		options = [][3]int{{unix.SOL_SOCKET, unix.SO_MARK, int(mark)}, {unix.SOL_IPV6, unix.IPV6_HDRINCL, 1}, {unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			_ = unix.Close(fd)
			return -1, capability("raw socket to forward intercepted packets", err)
		}
	}
	return fd, nil
}

// capability says what is missing where the system denies something.
func capability(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w (interception needs CAP_NET_ADMIN and CAP_NET_RAW)", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fd := range []int{f.fd4, f.fd6} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	f.fd4, f.fd6 = -1, -1
}

// TooLargeError says that a packet does not fit the next link.
type TooLargeError struct {
	To  netip.Addr
	MTU int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("packet to %v is larger than the next link's MTU of %d octets", e.To, e.MTU)
}

// Unwrap makes it an EMSGSIZE.
func (e *TooLargeError) Unwrap() error { return unix.EMSGSIZE }

// forward sends a packet on with payload in place of its message.
func (f *forwarder) forward(t *gist.Transit, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	packet, facts, err := appendForwarded(f.buf[:0], t.Header, payload)
	if err != nil {
		return err
	}
	f.buf = packet
	from, to := facts.from.Addr(), facts.to.Addr()
	if to.Is4() {
		f.correctRecords(packet[ipv4HeaderLen:facts.udp], to)
		// What the kernel routes by, besides the destination.
		f.oob = appendControl(appendSource(f.oob[:0], from), unix.IPPROTO_IP, unix.IP_TOS, facts.tos)
		err = sendRaw(f.fd4, packet, f.oob, &unix.SockaddrInet4{Addr: to.As4()})
	} else {
		f.oob = appendControl(appendSource(f.oob[:0], from), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, native32(uint32(facts.tos))...)
		err = sendRaw(f.fd6, packet, f.oob, &unix.SockaddrInet6{Addr: to.As16()})
	}
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		mtu, merr := f.mtu(to)
		if merr != nil { // the route has gone meanwhile
			return fmt.Errorf("forward from %v to %v: %w, and the next link's MTU: %w", facts.from, facts.to, err, merr)
		}
		return &TooLargeError{To: to, MTU: mtu}
	case err != nil:
		return fmt.Errorf("forward from %v to %v: %w", facts.from, facts.to, err)
	}
	return nil
}

// Options that routers write their address into. RFC 791 §3.1
const (
	ipv4RecordRoute = 7
	ipv4Timestamp   = 68
)

// correctRecords puts this router's address where the kernel has recorded the
// packet's destination: it took the packet as delivered, and "IP options MUST be
// processed as for a normally forwarded IP packet" (RFC 5971 §5.3.2.4).
func (f *forwarder) correctRecords(options []byte, to netip.Addr) {
	for b := options; len(b) > 1 && b[0] != 0; {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return
		}
		// The pointer counts from one, to the first octet that is free.
		last := -1
		switch {
		case b[0] == ipv4RecordRoute && n >= 3:
			last = int(b[2]) - 1 - 4
		case b[0] == ipv4Timestamp && n >= 4 && b[3]&0xf == 1:
			last = int(b[2]) - 1 - 8
		}
		if last >= 3 && last+4 <= n && netip.AddrFrom4([4]byte(b[last:last+4])) == to {
			if own := f.source(to); own.IsValid() {
				v := own.As4()
				copy(b[last:], v[:])
			}
		}
		b = b[n:]
	}
}

// source is the address that the kernel uses towards a.
func (f *forwarder) source(a netip.Addr) netip.Addr {
	routes, err := f.net.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{Mark: f.mark})
	if err != nil || len(routes) == 0 {
		return netip.Addr{}
	}
	own, _ := netip.AddrFromSlice(routes[0].Src)
	return own.Unmap()
}

func sendRaw(fd int, packet, oob []byte, to unix.Sockaddr) error {
	if fd < 0 {
		return ErrNoSocket
	}
	for {
		_, err := unix.SendmsgN(fd, packet, oob, to, unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// mtu is the largest packet that can be sent on to a.
func (f *forwarder) mtu(a netip.Addr) (int, error) {
	return mtuTo(f.net, a, &netlink.RouteGetOptions{Mark: f.mark})
}

// mtuTo asks the kernel for the path MTU that it knows towards a, or else for that
// of the link.
func mtuTo(h *netlink.Handle, a netip.Addr, o *netlink.RouteGetOptions) (int, error) {
	routes, err := h.RouteGetWithOptions(a.AsSlice(), o)
	switch {
	case err != nil:
		return 0, err
	case len(routes) == 0:
		return 0, unix.ENETUNREACH
	case routes[0].MTU > 0:
		return routes[0].MTU, nil
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0, err
	}
	return link.Attrs().MTU, nil
}
