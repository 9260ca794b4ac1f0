package qspec

import (
	"encoding/hex"
	"math/bits"
	"strconv"
)

// MarshalJSON writes q: one member an object, in it one member a parameter.
// Numbers stand in the units of the wire, an infinite peak rate is null, and
// everything else is what the text form has. UnmarshalJSON reads it.
func (q QSPEC) MarshalJSON() ([]byte, error) {
	b := append([]byte(nil), `{"version":`...)
	b = strconv.AppendUint(b, uint64(q.Version), 10)
	b = append(b, `,"type":`...)
	b = strconv.AppendUint(b, uint64(q.Type), 10)
	b = append(b, `,"local":`...)
	b = strconv.AppendBool(b, q.Local)
	b = append(b, `,"sequence":`...)
	b = strconv.AppendUint(b, uint64(q.Sequence), 10)
	b = append(b, `,"combination":`...)
	b = strconv.AppendUint(b, uint64(q.Combination), 10)
	for t := QoSDesired; t <= MinimumQoS; t++ {
		if p := q.Object(t); !p.Empty() {
			b = append(b, `,"`...)
			b = append(b, objectNames[t]...)
			b = append(b, `":`...)
			b = p.appendJSON(b)
		}
	}
	if len(q.Encapsulated) != 0 {
		b = append(b, `,"encapsulated":`...)
		if inner, ok := q.plain(); ok {
			in, _ := inner.MarshalJSON() // never fails
			b = append(b, in...)
		} else {
			b = appendJSONHex(b, q.Encapsulated)
		}
	}
	return append(b, '}'), nil
}

func (p *Params) appendJSON(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	if p.ObjectFailed {
		b = append(b, `"failed":true,`...)
	}
	for s := p.Has & AllParams; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		b = append(b, '"')
		b = append(b, textNames[bit]...)
		b = append(b, `":{"value":`...)
		b = p.appendJSONValue(b, paramTable[bit].id)
		mask := ParamSet(1) << bit
		b = appendJSONFlags(b, p.Must&mask != 0, p.Failed&mask != 0, p.Unsupported&mask != 0)
		b = append(b, `},`...)
	}
	for _, x := range p.Extra {
		b = append(b, '"')
		b = strconv.AppendUint(b, uint64(x.ID), 10)
		b = append(b, `":{"value":`...)
		b = appendJSONHex(b, x.Value)
		b = appendJSONFlags(b, x.Must, x.Failed, x.Unsupported)
		b = append(b, `},`...)
	}
	if len(b) > start {
		b = b[:len(b)-1]
	}
	return append(b, '}')
}

func appendJSONFlags(b []byte, m, e, n bool) []byte {
	if m {
		b = append(b, `,"must":true`...)
	}
	if e {
		b = append(b, `,"failed":true`...)
	}
	if n {
		b = append(b, `,"unsupported":true`...)
	}
	return b
}

func (p *Params) appendJSONValue(b []byte, id ParameterID) []byte {
	switch id {
	case TMOD1ID:
		return p.TMOD1.appendJSON(b)
	case TMOD2ID:
		return p.TMOD2.appendJSON(b)
	case TMODExtID:
		return appendJSONFloat(b, p.PeakBucket)
	case PathLatencyID:
		return strconv.AppendUint(b, uint64(p.PathLatency), 10)
	case SlackTermID:
		return strconv.AppendUint(b, uint64(p.SlackTerm), 10)
	case PathPLRID, PathPERID, DSTEClassID, Y1541ClassID:
		return append(b, p.valueText(id)...)
	}
	// The other texts have no character that JSON escapes.
	b = append(b, '"')
	b = append(b, p.valueText(id)...)
	return append(b, '"')
}

func (t *TMOD) appendJSON(b []byte) []byte {
	b = append(b, `{"rate":`...)
	b = strconv.AppendFloat(b, float64(t.Rate), 'f', -1, 32)
	b = append(b, `,"bucket":`...)
	b = strconv.AppendFloat(b, float64(t.Bucket), 'f', -1, 32)
	b = append(b, `,"peak":`...)
	b = appendJSONFloat(b, t.Peak)
	b = append(b, `,"unit":`...)
	b = strconv.AppendUint(b, uint64(t.Unit), 10)
	b = append(b, `,"mps":`...)
	b = strconv.AppendUint(b, uint64(t.MPS), 10)
	return append(b, '}')
}

// appendJSONFloat writes null for infinity, which JSON has not.
func appendJSONFloat(b []byte, v float32) []byte {
	if v == infinity {
		return append(b, `null`...)
	}
	return strconv.AppendFloat(b, float64(v), 'f', -1, 32)
}

func appendJSONHex(b, v []byte) []byte {
	b = append(b, '"')
	b = hex.AppendEncode(b, v)
	return append(b, '"')
}
