package qspec

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.1, TMOD-1, and RFC 5975 §5.2.2, TMOD-2 (ID 2, with M and N).
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|1|E|0|r|           1           |r|r|r|r|          5            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  TMOD Rate-1 (r) (32-bit IEEE floating point number)          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  TMOD Size-1 (b) (32-bit IEEE floating point number)          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Peak Data Rate-1 (p) (32-bit IEEE floating point number)     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Minimum Policed Unit-1 (m) (32-bit unsigned integer)         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Maximum Packet Size-1 (MPS) (32-bit unsigned integer)        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

const tmodWords = 5

// TMOD is a traffic model: a token bucket with a peak rate (RFC 5975 §3.3.1).
type TMOD struct {
	Rate   float32 // r, octets of IP packets per second
	Bucket float32 // b, octets
	Peak   float32 // p, octets per second; +Inf: not specified
	Unit   uint32  // m, minimum policed unit, octets
	MPS    uint32  // maximum packet size, octets
}

// Unlimited is the uint64 for an infinite rate.
const Unlimited uint64 = math.MaxUint64

// MinRate is the smallest rate that a TMOD can carry (RFC 5975 §5.2.1: no
// exponent below 127). A QoS Available of this rate means: nothing.
const MinRate = 1

var infinity = float32(math.Inf(1))

func (t *TMOD) parse(obj ObjectType, v []byte) error {
	r, b, p := binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])
	t.Rate, t.Bucket, t.Peak = math.Float32frombits(r), math.Float32frombits(b), math.Float32frombits(p)
	t.Unit, t.MPS = binary.BigEndian.Uint32(v[12:]), binary.BigEndian.Uint32(v[16:])
	return t.check(obj)
}

// check enforces RFC 5975 §3.3.1 and the number ranges of §5.2.1. Minimum QoS
// may be zero (§4.3.2); m may exceed MPS where both were composed on the way.
func (t *TMOD) check(obj ObjectType) error {
	zero := obj == MinimumQoS || obj == NoObject
	for _, f := range [...]struct {
		name     string
		v        float32
		infinite bool
	}{{"rate", t.Rate, false}, {"bucket", t.Bucket, false}, {"peak rate", t.Peak, true}} {
		switch {
		case f.v >= 1 && f.v <= math.MaxFloat32:
		case f.infinite && f.v == infinity:
		case zero && math.Float32bits(f.v) == 0:
		default:
			return fmt.Errorf("%s %v, want a finite number of at least 1", f.name, f.v)
		}
	}
	switch {
	case t.Peak < t.Rate:
		return fmt.Errorf("peak rate %v is below the rate %v", t.Peak, t.Rate)
	case obj != QoSDesired:
		return nil
	case t.Unit == 0 || t.MPS == 0:
		return fmt.Errorf("minimum policed unit %d, maximum packet size %d, want both positive", t.Unit, t.MPS)
	case t.Unit > t.MPS:
		return fmt.Errorf("minimum policed unit %d exceeds the maximum packet size %d", t.Unit, t.MPS)
	}
	return nil
}

func (t *TMOD) append(b []byte) []byte {
	b = tlv.AppendU32(b, math.Float32bits(t.Rate))
	b = tlv.AppendU32(b, math.Float32bits(t.Bucket))
	b = tlv.AppendU32(b, math.Float32bits(t.Peak))
	b = tlv.AppendU32(b, t.Unit)
	return tlv.AppendU32(b, t.MPS)
}

// min is the composition of RFC 5975 §3.3.1: the minimum of r, b, p and MPS,
// the maximum of m.
func (t *TMOD) min(o *TMOD) {
	t.Rate = min(t.Rate, o.Rate)
	t.Bucket = min(t.Bucket, o.Bucket)
	t.Peak = min(t.Peak, o.Peak)
	t.Unit = max(t.Unit, o.Unit)
	t.MPS = min(t.MPS, o.MPS)
}

// within says whether have gives what t asks. A peak rate of infinity asks for
// none: it is the RFC's word for "not specified".
func (t *TMOD) within(have *TMOD) bool {
	return t.Rate <= have.Rate && t.Bucket <= have.Bucket &&
		(t.Peak == infinity || t.Peak <= have.Peak) &&
		t.MPS <= have.MPS && t.Unit >= have.Unit
}

// RateUp returns the smallest float that is at least v octets (per second): for
// what is asked, so that no less is reserved. Unlimited gives infinity, 0 gives
// MinRate.
func RateUp(v uint64) float32 {
	if v == Unlimited {
		return infinity
	}
	v = max(v, MinRate)
	f := float32(v)
	if !atLeast(f, v) {
		f = math.Nextafter32(f, infinity)
	}
	return f
}

// RateDown returns the largest float that is at most v octets (per second): for
// what is offered. Unlimited gives the largest finite float, 0 gives MinRate.
func RateDown(v uint64) float32 {
	if v == Unlimited {
		return math.MaxFloat32
	}
	v = max(v, MinRate)
	f := float32(v)
	if atLeast(f, v) && !exactly(f, v) {
		f = math.Nextafter32(f, 0)
	}
	return f
}

// two64 is 2^64, which float32 has and uint64 has not.
const two64 = float32(1 << 63 * 2.0)

func atLeast(f float32, v uint64) bool { return f >= two64 || uint64(f) >= v }
func exactly(f float32, v uint64) bool { return f < two64 && uint64(f) == v }

// Octets returns f rounded up to whole octets (per second), Unlimited if it
// does not fit.
func Octets(f float32) uint64 {
	if f >= two64 {
		return Unlimited
	}
	return uint64(math.Ceil(float64(f)))
}
