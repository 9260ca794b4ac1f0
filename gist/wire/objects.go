package wire

import (
	"encoding/binary"
	"iter"
)

// RawObject is an object of a message as it stands on the wire, of whatever
// type.
type RawObject struct {
	Offset int   // of its TLV header, from the common header on
	Action uint8 // the A and B bits: RFC 5971 §A.2.1
	Type   ObjectType
	Value  []byte
}

// Objects goes through the objects of a message that begins with its common
// header, without judging them: for tools that show messages, malformed ones
// too. Values alias b. It stops at the first object that does not fit.
func Objects(b []byte) iter.Seq[RawObject] {
	return func(yield func(RawObject) bool) {
		for at := HeaderLen; at+tlvHeaderLen <= len(b); {
			head := binary.BigEndian.Uint32(b[at:])
			end := at + tlvHeaderLen + 4*int(head&lengthMask)
			if end > len(b) {
				return
			}
			o := RawObject{at, uint8(head >> 30), ObjectType(head >> 16 & typeMask), b[at+tlvHeaderLen : end : end]}
			if !yield(o) {
				return
			}
			at = end
		}
	}
}

// ParseObject reads the value of one object into the field of a Message that is
// its own. What is not of a known type is left alone.
func ParseObject(t ObjectType, value []byte) (Message, error) {
	var m Message
	if t < numObjects {
		if bad := m.readValue(t, value); bad != nil {
			return m, bad
		}
	}
	return m, nil
}
