package qspec

import (
	"encoding/binary"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.3, Path Latency.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           3           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                Path Latency (32-bit unsigned integer)         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Indeterminate is the Path Latency, or one statistic of the Path Jitter, that
// is not known or beyond range.
const Indeterminate uint32 = 1<<32 - 1

func parsePathLatency(v []byte) uint32 { return binary.BigEndian.Uint32(v) }

func appendPathLatency(b []byte, v uint32) []byte { return tlv.AppendU32(b, v) }

// maxLocal is the most latency, or jitter, that one node can add, in
// microseconds: somewhat over two minutes (RFC 5975 §5.2.3, §5.2.4).
const maxLocal uint32 = 1 << 28

// addLocal adds what one node contributes to what has accumulated: summation
// with a clamp of 2^32-1. A node that doesn't know its own value contributes
// Indeterminate. It returns false if the sum is only a lower bound, for which N
// has to be raised.
func addLocal(to *uint32, local uint32) bool {
	known := local <= maxLocal
	if local != Indeterminate {
		local = min(local, maxLocal)
	}
	if s := *to + local; s >= *to {
		*to = s
	} else {
		*to = Indeterminate
	}
	return known
}
