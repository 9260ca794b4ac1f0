package wire

import "github.com/interqos/interqos/internal/tlv"

// REFRESH-PERIOD, RFC 5974 §5.1.3.3, in milliseconds:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      Refresh Period (R)                       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// DefaultRefreshPeriod is R where there is no REFRESH-PERIOD, in milliseconds
// (RFC 5974 §5.1.2.1).
const DefaultRefreshPeriod = 30_000

func appendRefreshPeriod(b []byte, ms uint32) []byte {
	return tlv.AppendU32(appendHeader(b, Mandatory, TypeRefreshPeriod, 1), ms)
}

func parseRefreshPeriod(v []byte) (uint32, *ParseError) {
	if len(v) != 4 {
		return 0, wrongLength(TypeRefreshPeriod, "1 word")
	}
	r := tlv.NewReader(v)
	return r.U32(), nil
}
