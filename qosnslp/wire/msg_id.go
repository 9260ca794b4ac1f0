package wire

import "github.com/interqos/interqos/internal/tlv"

// MSG-ID, RFC 5974 §5.1.3.9, and BOUND-MSG-ID, RFC 5974 §5.1.3.10:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  RESERVED                                   |D|
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                                                               |
//	+                                                               +
//	|                                                               |
//	+                  (Bound) Message ID                           +
//	|                                                               |
//	+                                                               +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// MsgID is the content of MSG-ID and of BOUND-MSG-ID.
type MsgID struct {
	Bidirectional bool // D
	ID            [16]byte
}

func (m *MsgID) append(b []byte, t ObjectType) []byte {
	b = appendHeader(b, Mandatory, t, 5)
	var d uint32
	if m.Bidirectional {
		d = 1
	}
	b = tlv.AppendU32(b, d)
	return append(b, m.ID[:]...)
}

func parseMsgID(t ObjectType, v []byte) (m MsgID, err *ParseError) {
	if len(v) != 20 {
		return m, wrongLength(t, "5 words")
	}
	m.Bidirectional = v[3]&1 != 0
	copy(m.ID[:], v[4:])
	return m, nil
}
