package wire

import "github.com/interqos/interqos/internal/tlv"

// What stands inside data is laid out by the LFB class. These write and read its
// two constructs: RFC 5810 §7.1.8.

// AppendFullData appends value in a FULLDATA-TLV with its padding, as a field
// of variable length stands inside another FULLDATA-TLV. An error is *Error, and
// b is returned as it was.
func AppendFullData(b, value []byte) ([]byte, error) {
	w := writer{b: b, start: len(b)}
	w.leaf(tlvFullData, value)
	if w.err != nil {
		return b, w.err
	}
	return w.b, nil
}

// CutFullData takes a FULLDATA-TLV and its padding off the front of b. Both
// results alias b. Errors are *Error.
func CutFullData(b []byte) (value, rest []byte, err error) {
	r := tlv.NewReader(b)
	t, v, err := next(&r)
	if err != nil {
		return nil, b, err
	}
	if t != tlvFullData {
		return nil, b, failure(EInvalidTLV, 0, "TLV type %#04x, want a FULLDATA-TLV", t)
	}
	return v.Rest(), r.Rest(), nil
}

// AppendILV appends v and its padding. Its value has to be shorter than 2^32-8
// octets; more than 64 KiB fit into no TLV. RFC 5810 §6.3
func AppendILV(b []byte, v ILV) []byte {
	n := ilvHead + len(v.Value)
	b = tlv.AppendU32(b, v.ID)
	b = tlv.AppendU32(b, uint32(n))
	b = append(b, v.Value...)
	return tlv.AppendZeros(b, padding(n))
}

// CutILV takes an ILV and its padding off the front of b, as arrays and structs
// hold them inside an ILV's value. Both results alias b. Errors are *Error.
func CutILV(b []byte) (v ILV, rest []byte, err error) {
	r := tlv.NewReader(b)
	v, err = nextILV(&r)
	if err != nil {
		return ILV{}, b, err
	}
	return v, r.Rest(), nil
}

const ilvHead = 8

func nextILV(r *tlv.Reader) (ILV, error) {
	at := r.Offset()
	if r.Len() < ilvHead {
		return ILV{}, failure(EInvalidTLV, at, "an ILV has %d octets or more, %d are left", ilvHead, r.Len())
	}
	id, n := r.U32(), uint64(r.U32())
	if n < ilvHead || n-ilvHead > uint64(r.Len()) {
		return ILV{}, failure(EInvalidTLV, at+4, "ILV %d has length %d, want %d to %d", id, n, ilvHead, r.Len()+ilvHead)
	}
	v := ILV{ID: id, Value: r.Bytes(int(n) - ilvHead)}
	r.Skip(min(padding(int(n)), r.Len()))
	return v, nil
}

const tlvHead = 4

// next takes a TLV and its padding off r. The padding of the last may be
// missing: whether an outer length covers it is not said. RFC 5810 §6.2
func next(r *tlv.Reader) (uint16, tlv.Reader, error) {
	at := r.Offset()
	if r.Len() < tlvHead {
		return 0, tlv.Reader{}, failure(EInvalidTLV, at, "a TLV has %d octets or more, %d are left", tlvHead, r.Len())
	}
	t, n := r.U16(), int(r.U16())
	if n < tlvHead || n-tlvHead > r.Len() {
		return 0, tlv.Reader{}, failure(EInvalidTLV, at+2, "TLV %#04x has length %d, want %d to %d", t, n, tlvHead, r.Len()+tlvHead)
	}
	v := r.Sub(n - tlvHead)
	r.Skip(min(padding(n), r.Len()))
	return t, v, nil
}
