package wire

import (
	"errors"
	"fmt"
	"iter"

	"github.com/interqos/interqos/internal/tlv"
)

// The object header, RFC 5974 §5.1.3:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|A|B|r|r|         Type          |r|r|r|r|        Length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Length counts the value's 32-bit words, without this header.

// Object types (RFC 5974 §6.2, RFC 5981 §3).
const (
	TypeRII              ObjectType = 0x001
	TypeRSN              ObjectType = 0x002
	TypeRefreshPeriod    ObjectType = 0x003
	TypeBoundSessionID   ObjectType = 0x004
	TypePacketClassifier ObjectType = 0x005
	TypeInfoSpec         ObjectType = 0x006
	TypeSessionIDList    ObjectType = 0x007
	TypeRSNList          ObjectType = 0x008
	TypeMsgID            ObjectType = 0x009
	TypeBoundMsgID       ObjectType = 0x00A
	TypeQSPEC            ObjectType = 0x00B
	TypeSessionAuth      ObjectType = 0x016
)

// ObjectHeaderLen is the length of an object's header in octets.
const ObjectHeaderLen = 4

// MaxValueLen is the longest value that an object can have, in octets: the
// Length field has 12 bits and counts words.
const MaxValueLen = 0xfff * 4

// ErrAlignment is wrapped by errors about lengths that are not whole words.
var ErrAlignment = errors.New("not a multiple of four octets")

// Known says whether this module knows the object type: the A and B bits
// count only for those that it doesn't (RFC 5974 §5.1.3).
func (t ObjectType) Known() bool {
	return t >= TypeRII && t <= TypeQSPEC || t == TypeSessionAuth || t == DomainRecords
}

func (t ObjectType) String() string {
	switch t {
	case TypeRII:
		return "RII"
	case TypeRSN:
		return "RSN"
	case TypeRefreshPeriod:
		return "REFRESH-PERIOD"
	case TypeBoundSessionID:
		return "BOUND-SESSION-ID"
	case TypePacketClassifier:
		return "PACKET-CLASSIFIER"
	case TypeInfoSpec:
		return "INFO-SPEC"
	case TypeSessionIDList:
		return "SESSION-ID-LIST"
	case TypeRSNList:
		return "RSN-LIST"
	case TypeMsgID:
		return "MSG-ID"
	case TypeBoundMsgID:
		return "BOUND-MSG-ID"
	case TypeQSPEC:
		return "QSPEC"
	case TypeSessionAuth:
		return "SESSION_AUTH"
	case DomainRecords:
		return "DOMAIN-RECORDS"
	}
	return fmt.Sprintf("object 0x%03x", uint16(t))
}

// AppendObject appends an object with its header. A value that is not a whole
// number of words is padded with zero octets. It panics if value is longer
// than MaxValueLen: callers that take values from elsewhere check first.
func AppendObject(b []byte, action ExtensibilityAction, typ ObjectType, value []byte) []byte {
	b = appendHeader(b, action, typ, (len(value)+3)/4)
	b = append(b, value...)
	return tlv.AppendZeros(b, -len(value)&3)
}

func appendHeader(b []byte, action ExtensibilityAction, typ ObjectType, words int) []byte {
	if words > MaxValueLen/4 {
		panic(fmt.Sprintf("qosnslp/wire: %v of %d words does not fit its Length field", typ, words))
	}
	return append(b, byte(action&3)<<6|byte(typ>>8)&0x0f, byte(typ), byte(words>>8), byte(words))
}

// Append appends the object as it stands on the wire.
func (o Object) Append(b []byte) []byte { return AppendObject(b, o.Action, o.Type, o.Value) }

// objectAt reads the object whose header is at b[at:].
func objectAt(b []byte, at int) (o Object, next int, err error) {
	if len(b)-at < ObjectHeaderLen {
		return o, at, fmt.Errorf("object header at offset %d: have %d octets, want 4: %w", at, len(b)-at, tlv.ErrTruncated)
	}
	h := b[at : at+4]
	o.Action = ExtensibilityAction(h[0] >> 6)
	o.Type = ObjectType(h[0]&0x0f)<<8 | ObjectType(h[1])
	n := (int(h[2]&0x0f)<<8 | int(h[3])) * 4
	at += ObjectHeaderLen
	if n > len(b)-at {
		return o, at, fmt.Errorf("%v at offset %d: Length says %d octets, %d are left: %w", o.Type, at-4, n, len(b)-at, tlv.ErrTruncated)
	}
	o.Value = b[at : at+n : at+n]
	return o, at + n, nil
}

// Objects goes through the objects of an encoded message: for each, the offset
// of its header in b, and the object (Value aliases b). The next object, or the
// message's end, is at offset + ObjectHeaderLen + len(Value). It stops at the
// first object that does not fit; CheckObjects says whether one doesn't.
func Objects(b []byte) iter.Seq2[int, Object] {
	return func(yield func(int, Object) bool) {
		for at := HeaderLen; at < len(b); {
			o, next, err := objectAt(b, at)
			if err != nil || !yield(at, o) {
				return
			}
			at = next
		}
	}
}

// CheckObjects says whether b is a common header followed by whole objects.
func CheckObjects(b []byte) error {
	if len(b) < HeaderLen {
		return fmt.Errorf("common header: have %d octets, want %d: %w", len(b), HeaderLen, tlv.ErrTruncated)
	}
	for at := HeaderLen; at < len(b); {
		_, next, err := objectAt(b, at)
		if err != nil {
			return err
		}
		at = next
	}
	return nil
}

// ParseObject reads the value of one object into the field of a Message that is
// its own, for tools that show messages, malformed ones too. Objects without
// such a field are left alone.
func ParseObject(o Object) (Message, error) {
	var m Message
	if err := m.takeKnown(o); err != nil {
		return m, err
	}
	return m, nil
}
