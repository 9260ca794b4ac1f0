package qspec

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.5, Path PLR.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           5           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             Path Packet Loss Ratio (32-bit floating point)    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// IndeterminateRatio is the Path PLR or PER that is not known or beyond range.
const IndeterminateRatio float32 = 0.1

func parsePathPLR(to *float32, v []byte) error { return parseRatio(to, v) }

func appendPathPLR(b []byte, v float32) []byte { return appendRatio(b, v) }

// parseRatio reads a ratio: 0 to 1, without a sign.
func parseRatio(to *float32, v []byte) error {
	*to = math.Float32frombits(binary.BigEndian.Uint32(v))
	return checkRatio(*to)
}

func checkRatio(v float32) error {
	if math.Float32bits(v) > math.Float32bits(1) { // negative, above one, infinite or not a number
		return fmt.Errorf("ratio %v, want 0 to 1", v)
	}
	return nil
}

func appendRatio(b []byte, v float32) []byte { return tlv.AppendU32(b, math.Float32bits(v)) }

// maxLocalRatio is the largest ratio that one node adds (RFC 5975 §5.2.5, §5.2.6).
const maxLocalRatio float32 = 0.01

// addRatio adds a node's ratio to what has accumulated: summation with a clamp
// of 10^-1. False: the sum is only a lower bound, for which N has to be raised.
func addRatio(to *float32, local float32) bool {
	known := local <= maxLocalRatio
	if local < IndeterminateRatio {
		local = min(local, maxLocalRatio)
	}
	*to = min(float32(float64(*to)+float64(local)), IndeterminateRatio)
	return known
}
