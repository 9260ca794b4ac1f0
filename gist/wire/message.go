package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// The general object format, RFC 5971 §A.2:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|A|B|r|r|         Type          |r|r|r|r|        Length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                             Value                           //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

const (
	tlvHeaderLen = 4
	typeMask     = 0xfff
	lengthMask   = 0xfff
)

// ObjectType names a TLV object. RFC 5971 §9
type ObjectType uint16

// Object types.
const (
	ObjMRI             ObjectType = 0
	ObjSID             ObjectType = 1
	ObjNLI             ObjectType = 2
	ObjStackProposal   ObjectType = 3
	ObjStackConfig     ObjectType = 4
	ObjQueryCookie     ObjectType = 5
	ObjResponderCookie ObjectType = 6
	ObjNATTraversal    ObjectType = 7
	ObjNSLPData        ObjectType = 8
	ObjError           ObjectType = 9
	ObjHelloID         ObjectType = 10

	numObjects = 11
)

var objectNames = [numObjects]string{
	"Message-Routing-Information", "Session-Identifier", "Network-Layer-Information",
	"Stack-Proposal", "Stack-Configuration-Data", "Query-Cookie", "Responder-Cookie",
	"NAT-Traversal", "NSLP-Data", "Error", "Hello-ID",
}

func (t ObjectType) String() string {
	if t < numObjects {
		return objectNames[t]
	}
	return fmt.Sprintf("object type %d", uint16(t))
}

// Message is one GIST message: the common header and its objects. Slices of a
// parsed message alias the input.
//
// The octet strings (NATTraversal, the cookies, NSLPData) are absent if nil and
// present if not, even when empty. StackProposal is absent if empty.
type Message struct {
	Header
	HasMRI, HasSID, HasNLI, HasStackConfig, HasHelloID bool

	MRI MRI
	SID SID
	NLI NLI

	NATTraversal    []byte // the object's value; see ParseNATTraversal
	QueryCookie     []byte // a whole number of words, as the two below
	ResponderCookie []byte
	NSLPData        []byte

	StackProposal StackProposal
	StackConfig   StackConfig
	HelloID       uint32
	Error         *ErrorData

	// Unknown holds objects of unknown type that have to be retained in
	// messages forwarded (AB=10).
	Unknown []Object
}

// Object is an object of unknown type with the extensibility flags "forward".
type Object struct {
	Type  ObjectType // 12 bits
	Value []byte
}

// grammar is which objects a message of some type may have, in order.
type grammar struct {
	order    []ObjectType
	required []ObjectType
}

// RFC 5971 §5.1: the objects "MUST be carried in a fixed order, depending on
// message type". What depends on the encapsulation or on other objects is in
// decoder.checkObjects.
var grammars = [...]grammar{
	Query: {
		[]ObjectType{ObjNATTraversal, ObjMRI, ObjSID, ObjNLI, ObjQueryCookie, ObjStackProposal, ObjStackConfig, ObjNSLPData},
		[]ObjectType{ObjMRI, ObjSID, ObjNLI, ObjQueryCookie},
	},
	Response: {
		[]ObjectType{ObjNATTraversal, ObjMRI, ObjSID, ObjNLI, ObjQueryCookie, ObjResponderCookie, ObjStackProposal, ObjStackConfig, ObjNSLPData},
		[]ObjectType{ObjMRI, ObjSID, ObjNLI, ObjQueryCookie},
	},
	Confirm: {
		[]ObjectType{ObjMRI, ObjSID, ObjNLI, ObjResponderCookie, ObjStackProposal, ObjStackConfig, ObjNSLPData},
		[]ObjectType{ObjMRI, ObjSID, ObjNLI},
	},
	Data: {
		[]ObjectType{ObjNATTraversal, ObjMRI, ObjSID, ObjNLI, ObjNSLPData},
		[]ObjectType{ObjMRI, ObjSID, ObjNSLPData},
	},
	Error: {
		[]ObjectType{ObjNATTraversal, ObjNLI, ObjError},
		[]ObjectType{ObjError},
	},
	MAHello: {
		[]ObjectType{ObjHelloID},
		[]ObjectType{ObjHelloID},
	},
}

// places is grammars turned round: where in its order a message of some type
// has an object, from 1; 0: nowhere.
var places = func() (p [len(grammars)][numObjects]uint8) {
	for kind := range grammars {
		for i, t := range grammars[kind].order {
			p[kind][t] = uint8(i + 1)
		}
	}
	return p
}()

// Treatment of an object of unknown type, by its A and B bits.
// RFC 5971 §A.2.1
const (
	extMandatory = 0 // AB=00: reject the message
	extIgnore    = 1 // AB=01: delete the object
	extForward   = 2 // AB=10: keep it in what is forwarded
	extReserved  = 3 // AB=11: reject the message, known type or not
)

// ErrTooLong is wrapped by Size when a length field cannot hold a length.
var ErrTooLong = errors.New("too long for its length field")

// Size returns how many octets Append will append, or an error that wraps
// ErrTooLong.
func (m *Message) Size() (int, error) {
	n := HeaderLen
	for _, t := range m.order() {
		if !m.has(t) {
			continue
		}
		v := m.valueLen(t)
		if v > MaxObjectLen {
			return 0, tooLong(t, v)
		}
		n += tlvHeaderLen + v
	}
	for i := range m.Unknown {
		v := words(len(m.Unknown[i].Value)) * 4
		if v > MaxObjectLen {
			return 0, tooLong(m.Unknown[i].Type, v)
		}
		n += tlvHeaderLen + v
	}
	if n > MaxMessageLen {
		return 0, messageTooLong(n)
	}
	return n, m.checkStacks()
}

func tooLong(t ObjectType, n int) error {
	return fmt.Errorf("%v: %d octets, want at most %d: %w", t, n, MaxObjectLen, ErrTooLong)
}

func messageTooLong(n int) error {
	return fmt.Errorf("message: %d octets, want at most %d: %w", n, MaxMessageLen, ErrTooLong)
}

// checkStacks finds lists that are too long to be counted.
func (m *Message) checkStacks() error {
	if len(m.StackProposal) == 0 && len(m.StackConfig.Options) == 0 {
		return nil
	}
	if err := m.StackProposal.check(); err != nil {
		return err
	}
	return m.StackConfig.check()
}

// order returns the object types that Append writes, in order.
func (m *Message) order() []ObjectType {
	if int(m.Type) < len(grammars) {
		return grammars[m.Type].order
	}
	return nil
}

func (m *Message) has(t ObjectType) bool {
	switch t {
	case ObjMRI:
		return m.HasMRI
	case ObjSID:
		return m.HasSID
	case ObjNLI:
		return m.HasNLI
	case ObjStackProposal:
		return len(m.StackProposal) > 0
	case ObjStackConfig:
		return m.HasStackConfig
	case ObjQueryCookie:
		return m.QueryCookie != nil
	case ObjResponderCookie:
		return m.ResponderCookie != nil
	case ObjNATTraversal:
		return m.NATTraversal != nil
	case ObjNSLPData:
		return m.NSLPData != nil
	case ObjError:
		return m.Error != nil
	case ObjHelloID:
		return m.HasHelloID
	}
	return false
}

// valueLen returns the padded length of an object's value in octets.
func (m *Message) valueLen(t ObjectType) int {
	switch t {
	case ObjMRI:
		return mriLen(&m.MRI)
	case ObjSID:
		return len(m.SID)
	case ObjNLI:
		return m.NLI.len()
	case ObjStackProposal:
		return m.StackProposal.len()
	case ObjStackConfig:
		return m.StackConfig.len()
	case ObjError:
		return m.Error.len()
	case ObjHelloID:
		return 4
	}
	return words(len(m.octets(t))) * 4
}

// octets returns the value of an object that is but an octet string. RFC 5971
// §A.3.6, §A.3.7, §A.3.10
func (m *Message) octets(t ObjectType) []byte {
	switch t {
	case ObjQueryCookie:
		return m.QueryCookie
	case ObjResponderCookie:
		return m.ResponderCookie
	case ObjNATTraversal:
		return m.NATTraversal
	default:
		return m.NSLPData
	}
}

// AppendDatagram appends the message as it is sent in a UDP datagram: after the
// magic number. RFC 5971 §5.3.1
func (m *Message) AppendDatagram(b []byte) []byte {
	return m.Append(tlv.AppendU32(b, MagicNumber))
}

// Append appends the message as it is sent on a messaging association. The
// objects that the message's type has are written in their order, others are
// left out; values are padded with zeros to whole words. Append panics where
// Size returns an error: ask Size before sending what somebody else made.
// RFC 5971 §A.1, §A.2
func (m *Message) Append(b []byte) []byte {
	b, err := m.TryAppend(b)
	if err != nil {
		panic(fmt.Sprintf("gist/wire: %v; Size was not asked", err))
	}
	return b
}

// TryAppend is Append with Size's error, and b as it was then.
func (m *Message) TryAppend(b []byte) ([]byte, error) {
	start := len(b)
	h := m.Header
	if h.Version == 0 {
		h.Version = Version1
	}
	b = h.Append(b)
	for _, t := range m.order() {
		if !m.has(t) {
			continue
		}
		at := len(b)
		b = m.appendValue(append(b, byte(t>>8), byte(t), 0, 0), t)
		n := len(b) - at - tlvHeaderLen
		if n > MaxObjectLen {
			return b[:start], tooLong(t, words(n)*4)
		}
		b = endObject(b, at, n)
	}
	for i := range m.Unknown {
		o := &m.Unknown[i]
		if n := len(o.Value); n > MaxObjectLen {
			return b[:start], tooLong(o.Type, words(n)*4)
		}
		at := len(b)
		b = tlv.AppendU16(b, extForward<<14|uint16(o.Type)&typeMask)
		b = append(b, 0, 0)
		b = append(b, o.Value...)
		b = endObject(b, at, len(o.Value))
	}
	n := len(b) - start
	if n > MaxMessageLen {
		return b[:start], messageTooLong(n)
	}
	if err := m.checkStacks(); err != nil {
		return b[:start], err
	}
	tlv.PutU16(b, start+2, uint16((n-HeaderLen)/4))
	return b, nil
}

// endObject pads the object of n octets that begins at at and writes its length.
func endObject(b []byte, at, n int) []byte {
	tlv.PutU16(b, at+2, uint16(words(n)))
	for range pad(n) {
		b = append(b, 0)
	}
	return b
}

// appendValue appends an object's value. That of a SID are its octets (RFC 5971
// §A.3.2).
func (m *Message) appendValue(b []byte, t ObjectType) []byte {
	switch t {
	case ObjMRI:
		return AppendMRI(b, &m.MRI)
	case ObjSID:
		return append(b, m.SID[:]...)
	case ObjNLI:
		return m.NLI.Append(b)
	case ObjStackProposal:
		return m.StackProposal.Append(b)
	case ObjStackConfig:
		return m.StackConfig.Append(b)
	case ObjError:
		return m.Error.Append(b)
	case ObjHelloID:
		return tlv.AppendU32(b, m.HelloID)
	}
	return append(b, m.octets(t)...)
}

// Parse reads a message as it stands on a messaging association (C-mode) and
// checks it by the rules for its type. An error that can be reported to the
// sender is a *ParseError; the Message then has what could be read.
func Parse(b []byte) (Message, error) {
	var m Message
	err := m.Decode(b)
	return m, err
}

// ParseDatagram reads a message as it stands in a UDP datagram (D-mode): after
// the magic number. A datagram without it gives ErrNotGIST.
func ParseDatagram(b []byte) (Message, error) {
	var m Message
	err := m.DecodeDatagram(b)
	return m, err
}

// Decode is Parse into an existing Message, whose slices StackProposal,
// StackConfig.Options and Unknown are used again.
func (m *Message) Decode(b []byte) error {
	return m.decode(b, false)
}

// DecodeDatagram is ParseDatagram into an existing Message, whose slices are
// used again as with Decode. RFC 5971 §5.3.1
func (m *Message) DecodeDatagram(b []byte) error {
	if len(b) < MagicLen || binary.BigEndian.Uint32(b) != MagicNumber {
		m.reset()
		return ErrNotGIST
	}
	return m.decode(b[MagicLen:], true)
}

// SetData makes m what Decode makes of a Data message with a DataHead.
func (m *Message) SetData(h Header, mri MRI, sid SID, data []byte) {
	m.reset()
	m.Header, m.HasMRI, m.MRI, m.HasSID, m.SID, m.NSLPData = h, true, mri, true, sid, data
}

func (m *Message) reset() {
	*m = Message{
		StackProposal: m.StackProposal[:0],
		StackConfig:   StackConfig{Options: m.StackConfig.Options[:0]},
		Unknown:       m.Unknown[:0],
	}
}
