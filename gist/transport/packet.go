package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The headers of IP packets that are forwarded: taken apart, put together from
// what a socket says of a packet, and made ready to go on.

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	udpHeaderLen  = 8
)

// errNotUDP: a packet is not plain UDP over IP.
var errNotUDP = errors.New("not a whole UDP packet")

// ErrTTL: a packet's TTL does not let it go further.
var ErrTTL = errors.New("IP TTL is used up")

// packetFacts are what a forwarder needs to know of a packet's headers.
type packetFacts struct {
	from, to netip.AddrPort
	ttl      uint8
	tos      uint8  // traffic class in IPv6
	flow     uint32 // IPv6 flow label
	alert    uint16 // the router alert's value, if hasAlert
	hasAlert bool
	udp      int // where the UDP header begins
}

// readHeader reads the headers of a packet, up to and including UDP. RFC 5971
// §5.3.2.1, §5.3.2.2: UDP follows IPv4 options, or IPv6 hop-by-hop, destination
// and routing headers; a fragment, a tunnel or AH is not what GIST makes.
func readHeader(b []byte) (f packetFacts, err error) {
	if len(b) == 0 {
		return f, fmt.Errorf("%w: empty", errNotUDP)
	}
	var from, to netip.Addr
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0xf) * 4
		if n < ipv4HeaderLen || len(b) < n+udpHeaderLen {
			return f, fmt.Errorf("%w: IPv4 header of %d octets in %d", errNotUDP, n, len(b))
		}
		if b[9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return f, fmt.Errorf("%w: IPv4 protocol %d, fragment field %#x", errNotUDP, b[9], binary.BigEndian.Uint16(b[6:]))
		}
		from, to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		f.tos, f.ttl, f.udp = b[1], b[8], n
		f.alert, f.hasAlert = routerAlert4(b[ipv4HeaderLen:n])
	case 6:
		if len(b) < ipv6HeaderLen+udpHeaderLen {
			return f, fmt.Errorf("%w: IPv6 in %d octets", errNotUDP, len(b))
		}
		from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		word := binary.BigEndian.Uint32(b)
		f.tos, f.flow, f.ttl = uint8(word>>20), word&0xfffff, b[7]
		if err := f.extensions(b); err != nil {
			return f, err
		}
	default:
		return f, fmt.Errorf("%w: IP version %d", errNotUDP, b[0]>>4)
	}
	u := b[f.udp:]
	f.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(u))
	f.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(u[2:]))
	return f, nil
}

// extensions walks IPv6 extension headers to UDP.
func (f *packetFacts) extensions(b []byte) error {
	next, at := b[6], ipv6HeaderLen
	for first := true; next != unix.IPPROTO_UDP; first = false {
		switch {
		case next == unix.IPPROTO_HOPOPTS && first, next == unix.IPPROTO_ROUTING, next == unix.IPPROTO_DSTOPTS:
		default:
			return fmt.Errorf("%w: IPv6 next header %d", errNotUDP, next)
		}
		if len(b) < at+8 || len(b) < at+8+8*int(b[at+1]) {
			return fmt.Errorf("%w: IPv6 extension header %d is cut off", errNotUDP, next)
		}
		end := at + 8 + 8*int(b[at+1])
		if next == unix.IPPROTO_HOPOPTS {
			f.alert, f.hasAlert = routerAlert6(b[at+2 : end])
		}
		next, at = b[at], end
	}
	if len(b) < at+udpHeaderLen {
		return fmt.Errorf("%w: %d octets after the extension headers", errNotUDP, len(b)-at)
	}
	f.udp = at
	return nil
}

// arrived is what a UDP socket's ancillary data say of an intercepted packet.
type arrived struct {
	from, to   netip.AddrPort
	ttl, tos   uint8
	flowinfo   uint32 // IPv6 traffic class and flow label
	extensions []byte // IPv4 options, or IPv6 extension headers in their order
	firstKind  uint8  // IPv6: the kind of the first extension header
	iface      uint32
}

// header puts together the headers that the packet had. What a UDP socket
// cannot know is the IPv4 identification: it is left 0, for the kernel to fill
// in; a packet with DF set "MUST" be read without it (RFC 6864, section 4.1).
func (a *arrived) header() []byte {
	n := len(a.extensions)
	var b []byte
	if a.from.Addr().Is4() {
		n = (n + 3) &^ 3
		b = make([]byte, ipv4HeaderLen+n+udpHeaderLen)
		b[0], b[1] = 4<<4|byte((ipv4HeaderLen+n)/4), a.tos
		binary.BigEndian.PutUint16(b[6:], 0x4000) // DF: the rules take no others
		b[8], b[9] = a.ttl, unix.IPPROTO_UDP
		from, to := a.from.Addr().As4(), a.to.Addr().As4()
		copy(b[12:], from[:])
		copy(b[16:], to[:])
		copy(b[ipv4HeaderLen:], a.extensions)
		n += ipv4HeaderLen
	} else {
		b = make([]byte, ipv6HeaderLen+n+udpHeaderLen)
		binary.BigEndian.PutUint32(b, 6<<28|a.flowinfo&0x0fffffff)
		b[6], b[7] = unix.IPPROTO_UDP, a.ttl
		if n > 0 {
			b[6] = a.firstKind
		}
		from, to := a.from.Addr().As16(), a.to.Addr().As16()
		copy(b[8:], from[:])
		copy(b[24:], to[:])
		copy(b[ipv6HeaderLen:], a.extensions)
		n += ipv6HeaderLen
	}
	binary.BigEndian.PutUint16(b[n:], a.from.Port())
	binary.BigEndian.PutUint16(b[n+2:], a.to.Port())
	return b
}

// appendForwarded appends the packet that goes on: header as it came but for
// the TTL, and the lengths and the UDP checksum of payload. The kernel fills in
// the IPv4 header's checksum.
func appendForwarded(b, header, payload []byte) ([]byte, packetFacts, error) {
	f, err := readHeader(header)
	if err != nil {
		return b, f, err
	}
	if len(header) != f.udp+udpHeaderLen {
		return b, f, fmt.Errorf("%w: headers of %d octets end at %d", errNotUDP, len(header), f.udp+udpHeaderLen)
	}
	if f.ttl <= 1 {
		return b, f, ErrTTL
	}
	start := len(b)
	b = append(append(b, header...), payload...)
	p := b[start:]
	if len(p) > 0xffff {
		return b[:start], f, fmt.Errorf("packet of %d octets, want at most %d", len(p), 0xffff)
	}
	if f.from.Addr().Is4() {
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		p[8]--
		p[10], p[11] = 0, 0
	} else {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-ipv6HeaderLen))
		p[7]--
	}
	u := p[f.udp:]
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[6], u[7] = 0, 0
	sum := checksum(u, pseudoHeader(f.from.Addr(), f.to.Addr(), len(u)))
	if sum == 0 {
		sum = 0xffff // RFC 768: zero says that there is none
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return b, f, nil
}

// pseudoHeader is the sum over UDP's pseudo-header. RFC 768, RFC 8200 §8.1
func pseudoHeader(from, to netip.Addr, length int) uint32 {
	sum := uint32(unix.IPPROTO_UDP) + uint32(length)
	for _, a := range []netip.Addr{from, to} {
		v := a.As16()
		words := v[:]
		if a.Is4() {
			words = v[12:]
		}
		for i := 0; i < len(words); i += 2 {
			sum += uint32(words[i])<<8 | uint32(words[i+1])
		}
	}
	return sum
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
