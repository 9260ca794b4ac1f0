// Package traffic makes and measures test traffic: whole IP packets, each
// carried in a UDP datagram (the wires of the user-space data plane).
//
// Every packet is an IP/UDP packet with lab addresses inside, whose payload says
// which flow it belongs to and its place in it:
//
//	magic (4) | stream (4) | sequence (8) | sent, ns (8) | zeros
package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Tuple is a flow's inner 5-tuple. Protocol is UDP.
type Tuple struct {
	Source, Destination netip.AddrPort
}

func (t Tuple) String() string { return fmt.Sprintf("%v > %v", t.Source, t.Destination) }

const (
	magic   = 0x71305452 // "q0TR"
	payload = 24
	udp     = 8
	v4      = 20
	v6      = 40
	// MinSize is the smallest packet of either IP version, octets.
	MinSize = v6 + udp + payload
	// MaxSize is the largest, octets: what a datagram on a wire can carry.
	MaxSize = 9000
)

// template is a packet of a flow, to be copied and stamped.
func template(t Tuple, dscp uint8, size int) ([]byte, error) {
	src, dst := t.Source.Addr(), t.Destination.Addr()
	switch {
	case !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4():
		return nil, fmt.Errorf("traffic: flow %v: expected two addresses of one IP version", t)
	case size < MinSize || size > MaxSize:
		return nil, fmt.Errorf("traffic: packets of %d octets, expected %d to %d", size, MinSize, MaxSize)
	case dscp > 63:
		return nil, fmt.Errorf("traffic: DSCP %d, expected 0 to 63", dscp)
	}
	b := make([]byte, size)
	var transport []byte
	if src.Is4() {
		b[0] = 0x45
		b[1] = dscp << 2
		binary.BigEndian.PutUint16(b[2:], uint16(size))
		binary.BigEndian.PutUint16(b[6:], 0x4000) // don't fragment
		b[8], b[9] = 64, 17
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^sum(b[:v4]))
		transport = b[v4:]
	} else {
		b[0], b[1] = 0x60|dscp>>2, dscp<<6
		binary.BigEndian.PutUint16(b[4:], uint16(size-v6))
		b[6], b[7] = 17, 64
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		transport = b[v6:]
	}
	binary.BigEndian.PutUint16(transport, t.Source.Port())
	binary.BigEndian.PutUint16(transport[2:], t.Destination.Port())
	binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	// No UDP checksum: nobody but Receive looks at it.
	binary.BigEndian.PutUint32(transport[udp:], magic)
	return b, nil
}

// stamp writes a packet's place in its stream.
func stamp(b []byte, stream uint32, sequence uint64, sent int64) {
	at := v4 + udp
	if b[0]>>4 == 6 {
		at = v6 + udp
	}
	binary.BigEndian.PutUint32(b[at+4:], stream)
	binary.BigEndian.PutUint64(b[at+8:], sequence)
	binary.BigEndian.PutUint64(b[at+16:], uint64(sent))
}

// arrival is what a received packet says.
type arrival struct {
	tuple    Tuple
	dscp     uint8
	stream   uint32
	sequence uint64
	sent     int64
}

var errForeign = errors.New("traffic: not a packet of this package")

// read takes a packet apart.
func read(b []byte, a *arrival) error {
	if len(b) < v4 {
		return errForeign
	}
	var src, dst netip.Addr
	var transport []byte
	switch {
	case b[0] == 0x45 && b[9] == 17:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		a.dscp = b[1] >> 2
		transport = b[v4:]
	case b[0]>>4 == 6 && len(b) >= v6 && b[6] == 17:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		a.dscp = b[0]<<2&0x3c | b[1]>>6
		transport = b[v6:]
	default:
		return errForeign
	}
	if len(transport) < udp+payload || binary.BigEndian.Uint32(transport[udp:]) != magic {
		return errForeign
	}
	a.tuple = Tuple{netip.AddrPortFrom(src, binary.BigEndian.Uint16(transport)),
		netip.AddrPortFrom(dst, binary.BigEndian.Uint16(transport[2:]))}
	a.stream = binary.BigEndian.Uint32(transport[udp+4:])
	a.sequence = binary.BigEndian.Uint64(transport[udp+8:])
	a.sent = int64(binary.BigEndian.Uint64(transport[udp+16:]))
	return nil
}

func sum(b []byte) uint16 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	s = s>>16 + s&0xffff
	s += s >> 16
	return uint16(s)
}
