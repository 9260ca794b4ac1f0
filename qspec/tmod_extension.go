package qspec

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5976 §3.1, TMOD Extension: the bucket beside TMOD-1's peak rate.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           15          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Peak Bucket Size [Bp] (32-bit IEEE floating point number)    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

func parsePeakBucket(to *float32, v []byte) error {
	*to = math.Float32frombits(binary.BigEndian.Uint32(v))
	return checkPeakBucket(*to)
}

// checkPeakBucket: no sign, no exponent below 127; infinity is "not specified".
func checkPeakBucket(v float32) error {
	if !(v >= 1) {
		return fmt.Errorf("peak bucket size %v, want a number of at least 1", v)
	}
	return nil
}

func appendPeakBucket(b []byte, v float32) []byte { return tlv.AppendU32(b, math.Float32bits(v)) }
