package wire

import "github.com/interqos/interqos/internal/tlv"

// RSN, RFC 5974 §5.1.3.2:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|               Reservation Sequence Number (RSN)               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       Epoch Identifier                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// RSN orders what a node asks of its downstream peer in one session, within
// one epoch.
type RSN struct {
	Number uint32
	Epoch  uint32
}

// Order is how one RSN stands to another.
type Order int8

// Orders. Incomparable is what RFC 1982 §3.2 leaves undefined.
const (
	Older        Order = -1
	Same         Order = 0
	Newer        Order = 1
	Incomparable Order = 2
)

// CompareSerial says how the serial number a stands to b (RFC 1982 §3.2).
func CompareSerial(a, b uint32) Order {
	switch d := int32(a - b); {
	case d == 0:
		return Same
	case d > 0:
		return Newer
	case d == -1<<31:
		return Incomparable
	}
	return Older
}

func (n RSN) append(b []byte) []byte {
	b = appendHeader(b, Mandatory, TypeRSN, 2)
	b = tlv.AppendU32(b, n.Number)
	return tlv.AppendU32(b, n.Epoch)
}

func parseRSN(v []byte) (RSN, *ParseError) {
	if len(v) != 8 {
		return RSN{}, wrongLength(TypeRSN, "2 words")
	}
	r := tlv.NewReader(v)
	return RSN{Number: r.U32(), Epoch: r.U32()}, nil
}
