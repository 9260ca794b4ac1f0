package qspec

import (
	"encoding/binary"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.4, Path Jitter.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           4           |r|r|r|r|          4            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Path Jitter STAT1(variance) (32-bit unsigned integer)      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Path Jitter STAT2(99.9%-ile) (32-bit unsigned integer)     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Path Jitter STAT3(minimum Latency) (32-bit unsigned integer)  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Path Jitter STAT4(Reserved)     (32-bit unsigned integer)  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

const pathJitterWords = 4

// PathJitter is the delay variation of a path, in microseconds.
type PathJitter struct {
	Variance   uint32 // STAT1
	P999       uint32 // STAT2, the 99.9 % quantile
	MinLatency uint32 // STAT3
}

func (j *PathJitter) parse(v []byte) {
	j.Variance = binary.BigEndian.Uint32(v)
	j.P999 = binary.BigEndian.Uint32(v[4:])
	j.MinLatency = binary.BigEndian.Uint32(v[8:])
}

func (j *PathJitter) append(b []byte) []byte {
	b = tlv.AppendU32(b, j.Variance)
	b = tlv.AppendU32(b, j.P999)
	b = tlv.AppendU32(b, j.MinLatency)
	return tlv.AppendU32(b, 0)
}

// add composes a node's jitter: variances and minimum latencies of independent
// sections add up. For the quantile the sum is a cautious upper estimate; the
// finer estimate of clause 8 of Y.1541 is not used. False: only a lower bound.
func (j *PathJitter) add(o *PathJitter) bool {
	v := addLocal(&j.Variance, o.Variance)
	q := addLocal(&j.P999, o.P999)
	l := addLocal(&j.MinLatency, o.MinLatency)
	return v && q && l
}

func (j *PathJitter) within(have *PathJitter) bool {
	return have.Variance <= j.Variance && have.P999 <= j.P999 && have.MinLatency <= j.MinLatency
}
