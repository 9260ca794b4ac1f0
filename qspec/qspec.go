// Package qspec is the QSPEC of RFC 5975: its codec, one file per parameter,
// the arithmetic of QoS Desired, Available, Reserved and Minimum, and what
// inter-domain QNEs do with it (interdomain-qosm §2).
//
// A QSPEC read by Parse keeps no pointer to unknown input except RawParam.Value
// and Encapsulated, which alias the bytes given to Parse.
package qspec

import (
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.1.1: the common header, and the objects after it.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Vers.|I|QSPECType|r|r|  QSPEC Proc.  |        Length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                       QSPEC Objects                         //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//        an Initiator QSPEC, encapsulated in a local one      //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Version is the only QSPEC version there is (RFC 5975 §7).
const Version = 0

// Type names the QoS model that a QSPEC is written for (RFC 5975 §7), 5 bits.
type Type uint8

// QSPEC types. TypeInterDomain is ours (local/experimental range).
const (
	TypeDefault     Type = 0
	TypeY1541       Type = 1
	TypeRMD         Type = 2
	TypeInterDomain Type = 13
)

// MessageSequence is the first half of the QSPEC Procedure (RFC 5975 §5.1.1).
type MessageSequence uint8

// Message sequences.
const (
	SenderInitiated   MessageSequence = 0 // two-way transactions, §4.3.1
	ReceiverInitiated MessageSequence = 1 // three-way transactions, §4.3.2
	ResourceQuery     MessageSequence = 2 // §4.3.3
)

// QSPEC is one QSPEC. An object without any parameter is not on the wire.
type QSPEC struct {
	Version     uint8
	Type        Type
	Local       bool // the I flag: a Local QSPEC, otherwise an Initiator QSPEC
	Sequence    MessageSequence
	Combination uint8 // the object combination, 0 to 2: see Check

	Desired, Available, Reserved, Minimum Params

	// Encapsulated is, in a Local QSPEC, the Initiator QSPEC as it stands on
	// the wire. The header's Length does not count it (interdomain-qosm §2).
	Encapsulated []byte
}

const (
	headerLen = 4
	maxWords  = 1<<12 - 1 // a 12-bit length field
)

// Parse reads one QSPEC that fills b. What is wrong is a *Error with the
// INFO-SPEC class and code to answer with. It checks form and the values that
// RFC 5975 prohibits; Check is about object combinations.
func Parse(b []byte) (QSPEC, error) {
	var q QSPEC
	err := q.parse(b)
	return q, err
}

func (q *QSPEC) parse(b []byte) error {
	r := tlv.NewReader(b)
	h := r.U32()
	if err := r.Err(); err != nil {
		return malformed(NoObject, 0, fmt.Errorf("common header: %w", err))
	}
	q.setHeader(h)
	if q.Version != Version {
		// RFC 5975 §3.2
		return &Error{Class: ClassProtocolError, Code: CodeIncompatibleQSPEC, Object: NoObject,
			Err: fmt.Errorf("version %d, want %d", q.Version, Version)}
	}
	words := int(h & maxWords)
	if words == 0 {
		// RFC 5975 §5.1
		return malformed(NoObject, 0, errEmpty)
	}
	objects := r.Sub(4 * words)
	if err := objects.Err(); err != nil {
		return malformed(NoObject, 0, fmt.Errorf("objects: %w", err))
	}
	if err := q.parseObjects(&objects); err != nil {
		return err
	}
	if r.Len() == 0 {
		return nil
	}
	if !q.Local {
		return malformed(NoObject, 0, fmt.Errorf("Initiator QSPEC: %w", r.Close()))
	}
	q.Encapsulated = r.Rest()
	return checkEncapsulated(q.Encapsulated)
}

func (q *QSPEC) setHeader(h uint32) {
	q.Version = uint8(h >> 28)
	q.Local = h>>27&1 == 1
	q.Type = Type(h >> 22 & 0x1f)
	q.Sequence = MessageSequence(h >> 16 & 0x0f)
	q.Combination = uint8(h >> 12 & 0x0f)
}

func (q *QSPEC) header(words int) uint32 {
	h := uint32(q.Version&0x0f)<<28 | uint32(q.Type&0x1f)<<22 |
		uint32(q.Sequence&0x0f)<<16 | uint32(q.Combination&0x0f)<<12 | uint32(words&maxWords)
	if q.Local {
		h |= 1 << 27
	}
	return h
}

// checkEncapsulated looks only at the header: the rest is opaque to the nodes
// in the middle.
func checkEncapsulated(b []byte) error {
	r := tlv.NewReader(b)
	h := r.U32()
	r.Skip(4 * int(h&maxWords))
	if err := r.Close(); err != nil {
		return malformed(NoObject, 0, fmt.Errorf("encapsulated QSPEC: %w", err))
	}
	if h>>27&1 == 1 {
		return malformed(NoObject, 0, fmt.Errorf("encapsulated QSPEC is a local one, want an Initiator QSPEC"))
	}
	return nil
}

// RFC 5975 §5.1.2: every object has this header.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|E|r|r|r|       Object Type     |r|r|r|r|         Length        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// ObjectType names a QSPEC object.
type ObjectType int16

// QSPEC objects (RFC 5975 §7). NoObject is none, in errors.
const (
	NoObject     ObjectType = -1
	QoSDesired   ObjectType = 0
	QoSAvailable ObjectType = 1
	QoSReserved  ObjectType = 2
	MinimumQoS   ObjectType = 3
)

func (t ObjectType) String() string {
	switch t {
	case NoObject:
		return "QSPEC"
	case QoSDesired:
		return "QoS Desired"
	case QoSAvailable:
		return "QoS Available"
	case QoSReserved:
		return "QoS Reserved"
	case MinimumQoS:
		return "Minimum QoS"
	}
	return fmt.Sprintf("object %d", int16(t))
}

// Object returns the parameters of an object, nil for an unknown type.
func (q *QSPEC) Object(t ObjectType) *Params {
	switch t {
	case QoSDesired:
		return &q.Desired
	case QoSAvailable:
		return &q.Available
	case QoSReserved:
		return &q.Reserved
	case MinimumQoS:
		return &q.Minimum
	}
	return nil
}

func (q *QSPEC) parseObjects(r *tlv.Reader) error {
	for r.Len() > 0 {
		h := r.U32()
		t := ObjectType(h >> 16 & 0x0fff)
		v := r.Bytes(4 * int(h&maxWords))
		if err := r.Err(); err != nil {
			return malformed(t, 0, err)
		}
		p := q.Object(t)
		switch {
		case p == nil:
			return malformed(t, 0, fmt.Errorf("unknown object type, want 0 to 3"))
		case !p.Empty():
			return malformed(t, 0, errDuplicate)
		case len(v) == 0:
			return malformed(t, 0, errEmpty)
		}
		p.ObjectFailed = h>>31 == 1
		if err := p.parse(t, v); err != nil {
			return err
		}
	}
	return nil
}

// Append writes q. An object that is Empty is left out; Check says beforehand
// whether what is needed is there and fits.
func (q *QSPEC) Append(b []byte) []byte {
	at := len(b)
	b = tlv.AppendU32(b, 0)
	b = q.Desired.appendObject(b, QoSDesired)
	b = q.Available.appendObject(b, QoSAvailable)
	b = q.Reserved.appendObject(b, QoSReserved)
	b = q.Minimum.appendObject(b, MinimumQoS)
	h := q.header((len(b) - at - headerLen) / 4)
	tlv.PutU16(b, at, uint16(h>>16))
	tlv.PutU16(b, at+2, uint16(h))
	if q.Local {
		b = append(b, q.Encapsulated...)
	}
	return b
}

func (p *Params) appendObject(b []byte, t ObjectType) []byte {
	if p.Empty() {
		return b
	}
	at := len(b)
	b = tlv.AppendU32(b, 0)
	b = p.append(b)
	w0 := uint16(t)
	if p.ObjectFailed {
		w0 |= 1 << 15
	}
	tlv.PutU16(b, at, w0)
	tlv.PutU16(b, at+2, uint16((len(b)-at-headerLen)/4))
	return b
}
