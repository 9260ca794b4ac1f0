package soft

import (
	"encoding/binary"
	"fmt"
)

// Reason says why a packet was not forwarded.
type Reason uint8

// Reasons. Forwarded is none.
const (
	Forwarded    Reason = iota
	Short               // shorter than its header says, or than any header
	Trailing            // longer than its header says
	BadVersion          // neither IPv4 nor IPv6
	BadChecksum         // IPv4 header checksum
	Options             // IPv4 options or an IPv6 extension header
	Fragment            // no ports to classify by
	NoSubscriber        // the destination is nobody's
	Policed             // excess that is dropped, or beyond the subscriber's rate
	reasons
)

var reasonNames = [reasons]string{"forwarded", "short", "trailing_octets", "bad_version", "bad_checksum", "options",
	"fragment", "no_subscriber", "policed"}

func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// key is what flows are told apart by: an inner 5-tuple, or one with parts of it
// masked out. IPv4 addresses stand in the first four octets.
type key struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	proto            uint8
	v6               bool
}

// packet is what Process needs to know of a packet.
type packet struct {
	key
	dscp uint8
}

const (
	protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite = 6, 17, 33, 132, 136
)

// parse reads the header of an IP packet. The packet is b, whole.
func parse(b []byte, p *packet) Reason {
	if len(b) == 0 {
		return Short
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b, p)
	case 6:
		return parse6(b, p)
	}
	return BadVersion
}

func parse4(b []byte, p *packet) Reason {
	const header = 20
	if len(b) < header {
		return Short
	}
	if ihl := b[0] & 15; ihl < 5 {
		return Short
	} else if ihl > 5 {
		return Options
	}
	switch total := int(binary.BigEndian.Uint16(b[2:])); {
	case total < header || total > len(b):
		return Short
	case total < len(b):
		return Trailing
	}
	if sum16(b[:header]) != 0xffff {
		return BadChecksum
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // more fragments, or an offset
		return Fragment
	}
	p.v6 = false
	p.dscp = b[1] >> 2
	p.proto = b[9]
	p.src, p.dst = [16]byte{}, [16]byte{}
	copy(p.src[:4], b[12:16])
	copy(p.dst[:4], b[16:20])
	return p.ports(b[header:])
}

func parse6(b []byte, p *packet) Reason {
	const header = 40
	if len(b) < header {
		return Short
	}
	switch payload := int(binary.BigEndian.Uint16(b[4:])); {
	case payload > len(b)-header:
		return Short
	case payload < len(b)-header:
		return Trailing
	}
	p.v6 = true
	p.dscp = b[0]<<2&0x3c | b[1]>>6
	p.proto = b[6]
	p.src, p.dst = [16]byte(b[8:24]), [16]byte(b[24:40])
	switch p.proto {
	case 44:
		return Fragment
	case 0, 43, 51, 60, 135, 139, 140: // hop-by-hop, routing, authentication, destination options, mobility, HIP, shim6
		return Options
	}
	return p.ports(b[header:])
}

// ports reads the ports of the transport protocols that begin with them.
func (p *packet) ports(b []byte) Reason {
	p.srcPort, p.dstPort = 0, 0
	switch p.proto {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		if len(b) < 4 {
			return Short
		}
		p.srcPort = binary.BigEndian.Uint16(b)
		p.dstPort = binary.BigEndian.Uint16(b[2:])
	}
	return Forwarded
}

// setDSCP writes the DSCP and leaves the other two bits of the octet as they
// are. An IPv4 header's checksum is updated by the difference.
//
// RFC 2474 §3
func setDSCP(b []byte, dscp uint8) {
	if b[0]>>4 == 6 {
		b[0] = b[0]&0xf0 | dscp>>2
		b[1] = b[1]&0x3f | dscp<<6
		return
	}
	was := binary.BigEndian.Uint16(b)
	b[1] = b[1]&3 | dscp<<2
	now := binary.BigEndian.Uint16(b)
	// HC' = ~(~HC + ~m + m')
	sum := uint32(^binary.BigEndian.Uint16(b[10:])) + uint32(^was) + uint32(now)
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
}

// sum16 is the ones' complement sum of an even number of octets.
func sum16(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	return uint16(sum)
}
