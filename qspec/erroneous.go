package qspec

import (
	"encoding/binary"
	"slices"
)

// The QSPEC of a RESPONSE that says Malformed QSPEC (RFC 5975 §4.2.4). It cannot be
// parsed, for what is wrong is in it; both sides walk its headers instead.

// Flag names a parameter whose E flag is set.
type Flag struct {
	Object    ObjectType
	Parameter ParameterID
}

// walk calls f for every parameter of b, with its header and what is there of its
// value, as far as the headers can be followed. Objects of unknown types are
// passed over.
func walk(b []byte, f func(t ObjectType, id ParameterID, h uint32, v []byte, whole bool)) {
	if len(b) < headerLen {
		return
	}
	end := headerLen + 4*int(binary.BigEndian.Uint32(b)&maxWords)
	b = b[headerLen:min(end, len(b))]
	for len(b) >= headerLen {
		h := binary.BigEndian.Uint32(b)
		t := ObjectType(h >> 16 & 0x0fff)
		n := min(headerLen+4*int(h&maxWords), len(b))
		params := b[headerLen:n]
		b = b[n:]
		for len(params) >= headerLen && t <= MinimumQoS {
			h := binary.BigEndian.Uint32(params)
			want := headerLen + 4*int(h&maxWords)
			n := min(want, len(params)&^3)
			f(t, ParameterID(h>>16&0x0fff), h, params[headerLen:n], n == want)
			params = params[n:]
		}
	}
}

// Erroneous returns the QSPEC for the answer to b, which Parse has refused as
// malformed: of every object "only the erroneous QSPEC parameters and no others",
// each marked with the E flag, and their objects too (RFC 5975 §4.2.1, §4.2.4). All
// parameters are examined. nil: what is wrong is not in a parameter.
func Erroneous(b []byte) []byte {
	var out QSPEC
	if len(b) < headerLen {
		return nil
	}
	out.setHeader(binary.BigEndian.Uint32(b))
	var seen [MinimumQoS + 1]Params
	walk(b, func(t ObjectType, id ParameterID, h uint32, v []byte, whole bool) {
		one := make([]byte, headerLen, headerLen+len(v))
		binary.BigEndian.PutUint32(one, h)
		if whole && seen[t].parse(t, append(one, v...)) == nil {
			return
		}
		p := out.Object(t)
		if slices.ContainsFunc(p.Extra, func(x RawParam) bool { return x.ID == id }) {
			return
		}
		p.ObjectFailed = true
		p.Extra = append(p.Extra, RawParam{ID: id, Must: h&flagM != 0, Failed: true, Unsupported: h&flagN != 0, Value: v})
	})
	if out.present() == 0 {
		return nil
	}
	return out.Append(nil)
}

// Flagged returns the parameters of a QSPEC that are marked with the E flag, of
// one that cannot be parsed too. "Any values of" the others "are irrelevant and MUST
// be ignored" (RFC 5975 §4.2.4).
func Flagged(b []byte) []Flag {
	var out []Flag
	walk(b, func(t ObjectType, id ParameterID, h uint32, _ []byte, _ bool) {
		if h&flagE != 0 {
			out = append(out, Flag{t, id})
		}
	})
	return out
}
