package transport

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// The fallback without nftables: a raw socket with IP_ROUTER_ALERT takes every
// IPv4 UDP packet in transit that has a router alert of value 0, and the kernel
// forwards none of them: what is not of Q-mode is sent on from here.

type rawIntercept struct {
	file *os.File
	buf  []byte
}

func openRawIntercept(buffer int) (*rawIntercept, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, capability("raw socket", err)
	}
	for _, o := range [][3]int{
		{unix.SOL_IP, unix.IP_PKTINFO, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, buffer},
		{unix.SOL_IP, unix.IP_ROUTER_ALERT, 1},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			_ = unix.Close(fd)
			return nil, capability("router alert socket", err)
		}
	}
	return &rawIntercept{file: os.NewFile(uintptr(fd), "router alert socket"), buf: make([]byte, 1<<16)}, nil
}

func (r *rawIntercept) close() { _ = r.file.Close() }

// packet waits for the next one. It is good until the next call.
func (r *rawIntercept) packet() (packet []byte, iface uint32, err error) {
	raw, err := r.file.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	oob := make([]byte, oobSize)
	var n, oobn int
	rerr := raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), r.buf, oob, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	if rerr != nil {
		err = rerr
	}
	if err != nil {
		return nil, 0, err
	}
	var a arrived
	a.parse(oob[:oobn])
	return r.buf[:n], a.iface, nil
}

func (i *Intercept) readRaw() {
	for {
		packet, iface, err := i.raw.packet()
		if err != nil {
			if !i.again(netip.AddrPort{}, err) {
				return
			}
			continue
		}
		if ev, ok := i.rawEvent(packet, iface); ok {
			i.deliver([]gist.Event{ev})
		}
	}
}

// rawEvent judges a packet as the rules of nftables do.
func (i *Intercept) rawEvent(packet []byte, iface uint32) (gist.Datagram, bool) {
	f, err := readHeader(packet)
	if err != nil || !f.hasAlert || f.alert != 0 || !i.inTransit(f.to.Addr()) {
		return gist.Datagram{}, false // the kernel has delivered it, and this is a copy
	}
	header, payload := packet[:f.udp+udpHeaderLen], packet[f.udp+udpHeaderLen:]
	qmode := f.to.Port() == i.cfg.Port && len(payload) <= i.cfg.MaxDatagram && i.wants(false, true, 0) &&
		packet[6]&0x40 != 0 && wire.IsDatagram(payload) &&
		binary.BigEndian.Uint16(packet[f.udp+6:]) != 0 // whether it is right the sender's link may yet have to see to
	if !qmode {
		i.pass(header, payload)
		return gist.Datagram{}, false
	}
	both := append([]byte(nil), packet...)
	return gist.Datagram{
		Local: f.to, From: f.from, Interface: iface, TTL: f.ttl, RouterAlert: true,
		Transit: &gist.Transit{Header: both[:len(header):len(header)]},
		Payload: both[len(header):],
	}, true
}

// inTransit says whether the kernel would forward a packet to a.
func (i *Intercept) inTransit(a netip.Addr) bool {
	routes, err := i.net.RouteGet(a.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_UNICAST
}
