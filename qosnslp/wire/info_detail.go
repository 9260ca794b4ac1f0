package wire

import (
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// The optional error-specific information at the end of an INFO-SPEC, RFC 5974
// §5.1.3.6. Nothing in it says which kind it is: the code does. "If the type of an
// object is erroneous", Object Type Info:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Object Type           |           Reserved            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// "If a field in an object had an incorrect value", one or more Object Value Info:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Rsvd  |  Real Object Length   |            Offset             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                           Object                            //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// The RFC gives no units: as in the object header, the length is in words; Offset
// is in octets here.

// InfoKind is a kind of error-specific information.
type InfoKind uint8

// Kinds of error-specific information.
const (
	NoInfo InfoKind = iota
	ObjectTypeInfo
	ObjectValueInfo
)

// InfoKindOf says which kind goes with an error.
func InfoKindOf(c ErrorClass, code uint8) InfoKind {
	if c != ClassProtocolError {
		return NoInfo
	}
	switch code {
	case MissingObject, IllegalObject, UnknownObject, DuplicateObject:
		return ObjectTypeInfo
	case WrongObjectLength, UnknownFieldValue, ErroneousValue, MalformedQSPEC:
		return ObjectValueInfo
	}
	return NoInfo
}

// ObjectValue is one Object Value Info.
type ObjectValue struct {
	Offset int    // of what is included, from the object's beginning; 0: all of it
	Object []byte // with its header if Offset is 0; whole words, at most 4095
}

// maxObjectWords is what Real Object Length can count.
const maxObjectWords = 0x0fff

// AppendInfo appends Object Type Info.
func (t ObjectType) AppendInfo(b []byte) []byte {
	return tlv.AppendU16(tlv.AppendU16(b, uint16(t)), 0)
}

// Append appends Object Value Info. What cannot be written is left out.
func (o *ObjectValue) Append(b []byte) []byte {
	if n := len(o.Object); n%4 != 0 || n == 0 || n/4 > maxObjectWords || o.Offset < 0 || o.Offset > 0xffff {
		return b
	}
	b = tlv.AppendU16(b, uint16(len(o.Object)/4))
	return append(tlv.AppendU16(b, uint16(o.Offset)), o.Object...)
}

// ObjectType returns the type of the object that the error is about; false: it
// does not say.
func (i *InfoSpec) ObjectType() (ObjectType, bool) {
	if InfoKindOf(i.Class, i.Code) != ObjectTypeInfo || len(i.Info) < 4 {
		return 0, false
	}
	return ObjectType(uint16(i.Info[0])<<8 | uint16(i.Info[1])), true
}

// ObjectValues returns the objects that the error is about; they alias Info. It is
// for diagnosis: an error says that Info is not what its code promises.
func (i *InfoSpec) ObjectValues() ([]ObjectValue, error) {
	if InfoKindOf(i.Class, i.Code) != ObjectValueInfo {
		return nil, nil
	}
	var list []ObjectValue
	for at := 0; at < len(i.Info); {
		v := i.Info[at:]
		if len(v) < 4 {
			return list, fmt.Errorf("Object Value Info at octet %d: %d octets, want a header of 4", at, len(v))
		}
		n := 4 * (int(v[0]&0x0f)<<8 | int(v[1]))
		if n == 0 || n > len(v)-4 {
			return list, fmt.Errorf("Object Value Info at octet %d: an object of %d octets, %d are there", at, n, len(v)-4)
		}
		list = append(list, ObjectValue{Offset: int(v[2])<<8 | int(v[3]), Object: v[4 : 4+n : 4+n]})
		at += 4 + n
	}
	return list, nil
}
