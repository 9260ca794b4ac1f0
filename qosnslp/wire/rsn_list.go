package wire

import "github.com/interqos/interqos/internal/tlv"

// RSN-LIST, RFC 5974 §5.1.3.8:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       Epoch Identifier                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             Reservation Sequence Number 1 (RSN1)              |
//	:                                                               :
//	|             Reservation Sequence Number n (RSNn)              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// RSNList is an RSN-LIST: the RSNs of the sessions in the SESSION-ID-LIST, in
// the same order.
type RSNList struct {
	Epoch uint32
	RSNs  []uint32
}

func (l *RSNList) append(b []byte) []byte {
	b = appendHeader(b, Mandatory, TypeRSNList, 1+len(l.RSNs))
	b = tlv.AppendU32(b, l.Epoch)
	for _, n := range l.RSNs {
		b = tlv.AppendU32(b, n)
	}
	return b
}

func parseRSNList(v []byte) (l RSNList, err *ParseError) {
	if len(v) < 8 {
		return l, wrongLength(TypeRSNList, "an epoch and one or more RSNs")
	}
	r := tlv.NewReader(v)
	l.Epoch = r.U32()
	l.RSNs = make([]uint32, r.Len()/4)
	for i := range l.RSNs {
		l.RSNs[i] = r.U32()
	}
	return l, nil
}
