package transport

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist/wire"
)

// Ancillary data of single datagrams: one socket sends with any TTL and router
// alert value, and sees both on what arrives.

const (
	ipv4RouterAlert = 148 // RFC 2113 §2.1: copied flag 1, class 0, number 20
	ipv6RouterAlert = 5   // RFC 2711 §2.1

	// oobSize holds every control message of one datagram.
	oobSize = 256
)

// RouterAlertValue returns the router alert value that IANA assigned to the
// QoS-NSLP aggregation level of an NSLPID: 33 to 64 for IPv4, 36 to 67 for
// IPv6. Other NSLPIDs have none; they get 0, "router shall examine packet".
// RFC 5974 §6.6, RFC 5971 §9
func RouterAlertValue(id wire.NSLPID, ipv6 bool) uint16 {
	switch {
	case id < 1 || id > 32:
		return 0
	case ipv6:
		return uint16(id) + 35
	default:
		return uint16(id) + 32
	}
}

// appendControl appends one control message.
func appendControl(b []byte, level, kind int32, data ...byte) []byte {
	length := uint64(unix.CmsgLen(len(data)))
	space := unix.CmsgSpace(len(data))
	start := len(b)
	if unix.SizeofCmsghdr == 16 {
		b = binary.NativeEndian.AppendUint64(b, length)
	} else {
		b = binary.NativeEndian.AppendUint32(b, uint32(length))
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(level))
	b = binary.NativeEndian.AppendUint32(b, uint32(kind))
	for len(b) < start+unix.CmsgLen(0) {
		b = append(b, 0)
	}
	b = append(b, data...)
	for len(b) < start+space {
		b = append(b, 0)
	}
	return b
}

// appendTTL sets the IPv4 TTL or IPv6 hop limit of one datagram.
func appendTTL(b []byte, v6 bool, ttl uint8) []byte {
	var v [4]byte
	binary.NativeEndian.PutUint32(v[:], uint32(ttl))
	if v6 {
		return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, v[:]...)
	}
	return appendControl(b, unix.IPPROTO_IP, unix.IP_TTL, v[:]...)
}

// appendRouterAlert puts the router alert option into one datagram: an IPv4
// option (RFC 2113 §2.1), or a hop-by-hop options header (RFC 2711 §2.1) padded
// to eight octets.
func appendRouterAlert(b []byte, v6 bool, value uint16) []byte {
	if v6 {
		return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS,
			0, 0, ipv6RouterAlert, 2, byte(value>>8), byte(value), 1, 0)
	}
	return appendControl(b, unix.IPPROTO_IP, unix.IP_RETOPTS, ipv4RouterAlert, 4, byte(value>>8), byte(value))
}

// appendDSCP sets the Diffserv codepoint of one datagram.
func appendDSCP(b []byte, v6 bool, dscp uint8) []byte {
	var v [4]byte
	binary.NativeEndian.PutUint32(v[:], uint32(dscp)<<2)
	if v6 {
		return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, v[:]...)
	}
	return appendControl(b, unix.IPPROTO_IP, unix.IP_TOS, v[:]...)
}

// ipv6Flowinfo is the first word of the IPv6 header, without the version; x/sys
// does not name it.
const ipv6Flowinfo = 11

// appendFlowLabel sets the IPv6 flow label of one datagram.
func appendFlowLabel(b []byte, label uint32) []byte {
	var v [4]byte
	binary.BigEndian.PutUint32(v[:], label&0xfffff)
	return appendControl(b, unix.IPPROTO_IPV6, ipv6Flowinfo, v[:]...)
}

// appendSource sets the source address of one datagram.
func appendSource(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return appendControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO,
			0, 0, 0, 0, v[0], v[1], v[2], v[3], 0, 0, 0, 0)
	}
	var info [20]byte
	v := a.As16()
	copy(info[:], v[:])
	return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:]...)
}

// control is what the ancillary data of a received datagram say.
type control struct {
	ttl         uint8
	routerAlert bool
	destination netip.Addr
	iface       uint32
}

func parseControl(b []byte) (c control) {
	for len(b) >= unix.CmsgLen(0) {
		head, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return c
		}
		switch head.Level {
		case unix.IPPROTO_IP:
			c.read4(head.Type, data)
		case unix.IPPROTO_IPV6:
			c.read6(head.Type, data)
		}
		b = rest
	}
	return c
}

func (c *control) read4(kind int32, data []byte) {
	switch {
	case kind == unix.IP_TTL && len(data) >= 4:
		c.ttl = uint8(binary.NativeEndian.Uint32(data))
	case kind == unix.IP_RECVOPTS:
		_, c.routerAlert = routerAlert4(data)
	case kind == unix.IP_PKTINFO && len(data) >= 12:
		c.iface = binary.NativeEndian.Uint32(data)
		c.destination = netip.AddrFrom4([4]byte(data[8:12]))
	}
}

func (c *control) read6(kind int32, data []byte) {
	switch {
	case kind == unix.IPV6_HOPLIMIT && len(data) >= 4:
		c.ttl = uint8(binary.NativeEndian.Uint32(data))
	case kind == unix.IPV6_HOPOPTS && len(data) >= 2:
		_, c.routerAlert = routerAlert6(data[2:])
	case kind == unix.IPV6_PKTINFO && len(data) >= 20:
		c.iface = binary.NativeEndian.Uint32(data[16:])
		c.destination = netip.AddrFrom16([16]byte(data[:16]))
	}
}

// routerAlert4 returns the value of the router alert among IPv4 options.
// RFC 2113 §2.1
func routerAlert4(b []byte) (value uint16, found bool) {
	for len(b) > 0 {
		switch {
		case b[0] == 0: // end of options
			return 0, false
		case b[0] == 1: // no operation
			b = b[1:]
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return 0, false
		case b[0] == ipv4RouterAlert && b[1] == 4:
			return binary.BigEndian.Uint16(b[2:]), true
		default:
			b = b[b[1]:]
		}
	}
	return 0, false
}

// routerAlert6 returns the value of the router alert among hop-by-hop options,
// which begin after the header's first two octets. RFC 2711 §2.1
func routerAlert6(b []byte) (value uint16, found bool) {
	for len(b) > 0 {
		switch {
		case b[0] == 0: // Pad1
			b = b[1:]
		case len(b) < 2 || 2+int(b[1]) > len(b):
			return 0, false
		case b[0] == ipv6RouterAlert && b[1] == 2:
			return binary.BigEndian.Uint16(b[2:]), true
		default:
			b = b[2+int(b[1]):]
		}
	}
	return 0, false
}

// prepareUDP sets up a UDP socket before it is bound.
func prepareUDP(fd int, v6, reuse bool, buffer int) error {
	type option struct{ level, name, value int }
	options := []option{
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		{unix.IPPROTO_IP, unix.IP_RECVOPTS, 1},
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, // the interface, for ingress filters
		// RFC 5971 §5.3.2.1: "the sender MUST set the Don't Fragment (DF) bit".
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO},
	}
	if v6 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO},
		}
	}
	if reuse {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	if buffer > 0 {
		options = append(options,
			option{unix.SOL_SOCKET, unix.SO_RCVBUF, buffer},
			option{unix.SOL_SOCKET, unix.SO_SNDBUF, buffer})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// prepareForeign lets a socket send from any address.
func prepareForeign(fd int, v6 bool) error {
	level, name := unix.SOL_IP, unix.IP_TRANSPARENT
	if v6 {
		level, name = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, name, 1); err != nil {
		return capability("socket that sends from a flow's source address", err)
	}
	return nil
}

// prepareTCP sets up a TCP socket: what was written has to be acknowledged in
// userTimeoutMS milliseconds.
func prepareTCP(fd, userTimeoutMS int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeoutMS)
}
