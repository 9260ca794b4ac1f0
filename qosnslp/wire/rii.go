package wire

import "github.com/interqos/interqos/internal/tlv"

// RII, RFC 5974 §5.1.3.1:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            Request Identification Information (RII)           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

func appendRII(b []byte, rii uint32) []byte {
	return tlv.AppendU32(appendHeader(b, Mandatory, TypeRII, 1), rii)
}

func parseRII(v []byte) (uint32, *ParseError) {
	if len(v) != 4 {
		return 0, wrongLength(TypeRII, "1 word")
	}
	r := tlv.NewReader(v)
	return r.U32(), nil
}
