package qspec

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/internal/tlv"
)

// Egress ID (256) and Ingress ID (257), interdomain-qosm §2.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|     Parameter ID      |r|r|r|r|     Length, 3 or 6    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|IP-Ver |                       Reserved                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                        AS number                              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//              interface address, 4 or 16 octets              //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// BorderID is one border interface: of the domain that the flow leaves (Egress
// ID), or of the one that it enters (Ingress ID).
type BorderID struct {
	AS   uint32
	Addr netip.Addr // unspecified or zero: not known; zero is sent as 0.0.0.0
}

func (x *BorderID) parse(v []byte) error {
	if len(v) != 12 && len(v) != 24 {
		return fmt.Errorf("length %d words, want 3 or 6", len(v)/4)
	}
	x.AS = binary.BigEndian.Uint32(v[4:])
	x.Addr, _ = netip.AddrFromSlice(v[8:])
	want := uint8(4)
	if len(v) == 24 {
		want = 6
	}
	if got := v[0] >> 4; got != want {
		return fmt.Errorf("IP version %d with an address of %d octets", got, len(v)-8)
	}
	return nil
}

func (x *BorderID) words() int {
	if x.Addr.Is6() {
		return 6
	}
	return 3
}

func (x *BorderID) append(b []byte) []byte {
	version := byte(4)
	if x.Addr.Is6() {
		version = 6
	}
	b = append(b, version<<4, 0, 0, 0)
	b = tlv.AppendU32(b, x.AS)
	if version == 6 {
		a := x.Addr.As16()
		return append(b, a[:]...)
	}
	if !x.Addr.IsValid() {
		return tlv.AppendU32(b, 0)
	}
	a := x.Addr.As4()
	return append(b, a[:]...)
}
