package wire

import "github.com/interqos/interqos/internal/tlv"

// NAT-Traversal, RFC 5971 §A.3.9:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| MRI-Length    | Type-Count    |  NAT-Count    |  Reserved     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//            Original Message-Routing-Information             //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                 List of translated objects                  //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Length of opaque information  |                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                              //
//	//                Information replaced by NAT #1 ... N          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// NATTraversal is the value of a NAT-Traversal object, taken apart.
type NATTraversal struct {
	MRI MRI // as the message was first sent
	// Translated lists the objects that every NAT on the way translated, each
	// as the first 16 bits of its TLV header.
	Translated []uint16
	Opaque     [][]byte // what each NAT replaced
}

// Translates says whether every NAT translated the objects of type t.
func (n *NATTraversal) Translates(t ObjectType) bool {
	for _, v := range n.Translated {
		if ObjectType(v&typeMask) == t {
			return true
		}
	}
	return false
}

// ParseNATTraversal takes Message.NATTraversal apart.
func ParseNATTraversal(b []byte) (NATTraversal, error) {
	n, err := parseNATTraversal(b)
	if err != nil {
		return NATTraversal{}, err
	}
	return n, nil
}

func parseNATTraversal(b []byte) (NATTraversal, *valueError) {
	r := tlv.NewReader(b)
	mriWords, types, nats := int(r.U8()), int(r.U8()), int(r.U8())
	r.Skip(1)
	mriAt := r.Offset()
	mri := r.Bytes(4 * mriWords)
	var n NATTraversal
	for range types {
		n.Translated = append(n.Translated, r.U16())
		if r.Err() != nil {
			break
		}
	}
	r.Skip(pad(2 * types))
	for range nats {
		length := int(r.U16())
		n.Opaque = append(n.Opaque, r.Bytes(length))
		r.Skip(pad(2 + length))
		if r.Err() != nil {
			break
		}
	}
	if err := r.Close(); err != nil {
		return NATTraversal{}, badLength(&r, err)
	}
	var bad *valueError
	if bad = n.MRI.parse(mri); bad != nil {
		return NATTraversal{}, badValue(bad.id, mriAt+bad.at, "original MRI: %s", bad.detail)
	}
	return n, nil
}

// Append appends the object's value (without TLV header). At most 255 types, 255
// opaque fields, and 65535 octets of each are written.
func (n *NATTraversal) Append(b []byte) []byte {
	types := n.Translated[:min(len(n.Translated), 0xff)]
	nats := n.Opaque[:min(len(n.Opaque), 0xff)]
	b = append(b, uint8(mriLen(&n.MRI)/4), uint8(len(types)), uint8(len(nats)), 0)
	b = AppendMRI(b, &n.MRI)
	for _, t := range types {
		b = tlv.AppendU16(b, t)
	}
	b = tlv.AppendZeros(b, pad(2*len(types)))
	for _, o := range nats {
		o = o[:min(len(o), 0xffff)]
		b = tlv.AppendU16(b, uint16(len(o)))
		b = append(b, o...)
		b = tlv.AppendZeros(b, pad(2+len(o)))
	}
	return b
}
