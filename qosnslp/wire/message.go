package wire

import (
	"fmt"

	gistwire "github.com/interqos/interqos/gist/wire"
)

// The common header, RFC 5974 §5.1.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Message Type  | Message Flags |      Generic Flags            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// HeaderLen is the length of the common header in octets.
const HeaderLen = 4

// MessageType is the message type (RFC 5974 §5.1.1, §6.1).
type MessageType uint8

// Message types.
const (
	Reserve  MessageType = 1
	Query    MessageType = 2
	Response MessageType = 3
	Notify   MessageType = 4
)

func (t MessageType) String() string {
	switch t {
	case Reserve:
		return "RESERVE"
	case Query:
		return "QUERY"
	case Response:
		return "RESPONSE"
	case Notify:
		return "NOTIFY"
	}
	return fmt.Sprintf("message type %d", uint8(t))
}

// Message-specific flags.
const (
	Replace     uint8 = 1 << 0 // R of RESERVE (RFC 5974 §5.1.2.1)
	Tear        uint8 = 1 << 1 // T of RESERVE (RFC 5974 §5.1.2.1)
	ReserveInit uint8 = 1 << 0 // R of QUERY (RFC 5974 §5.1.2.2)
)

// Generic flags (RFC 5974 §5.1.1).
const (
	Scoping uint16 = 1 << 0 // S: as far as the next QNE
	Proxy   uint16 = 1 << 1 // P: as far as the P-QNE
	AckReq  uint16 = 1 << 2 // A: acknowledge this refresh
	Break   uint16 = 1 << 3 // B: there are routers that cannot provide QoS
)

// Message is a QoS-NSLP message. What is absent is the zero value; where that
// could be mistaken for something, a Has field tells.
//
// Append writes the objects in the order of RFC 5974 §5.1.2, the ones without a
// field of their own (SESSION_AUTH, DOMAIN-RECORDS, unknown ones) after them in
// the order that they have in Objects.
type Message struct {
	Type             MessageType
	MessageFlags     uint8  // Tear and Replace, or ReserveInit
	Flags            uint16 // generic flags
	HasRSN           bool
	HasRII           bool
	HasRefreshPeriod bool
	HasMsgID         bool
	HasBoundMsgID    bool
	HasInfoSpec      bool
	HasRSNList       bool

	RSN              RSN
	RII              uint32
	RefreshPeriod    uint32 // milliseconds
	BoundSessions    []BoundSession
	SessionIDs       []gistwire.SID // SESSION-ID-LIST
	RSNs             RSNList
	MsgID            MsgID
	BoundMsgID       MsgID
	InfoSpec         InfoSpec
	PacketClassifier []byte // nil: none; see ClassifierFlags for its content
	QSPEC            []byte // nil: none
	QSPEC2           []byte // the second one that a QUERY may have; nil: none
	Objects          []Object
}

// Tears says whether the message is a tearing RESERVE.
func (m *Message) Tears() bool { return m.Type == Reserve && m.MessageFlags&Tear != 0 }

// Object returns the first of Objects that has this type.
func (m *Message) Object(t ObjectType) (Object, bool) {
	for _, o := range m.Objects {
		if o.Type == t {
			return o, true
		}
	}
	return Object{}, false
}

// Append appends the encoded message.
func (m *Message) Append(b []byte) []byte {
	b = append(b, byte(m.Type), m.MessageFlags, byte(m.Flags>>8), byte(m.Flags))
	// RESPONSE = [ RII / RSN ] …, RESERVE = RSN [ RII ] … (RFC 5974 §5.1.2.3, §5.1.2.1)
	if m.HasRSN && m.Type != Response {
		b = m.RSN.append(b)
	}
	if m.HasRII {
		b = appendRII(b, m.RII)
	}
	if m.HasRSN && m.Type == Response {
		b = m.RSN.append(b)
	}
	if m.HasRefreshPeriod {
		b = appendRefreshPeriod(b, m.RefreshPeriod)
	}
	for i := range m.BoundSessions {
		b = m.BoundSessions[i].append(b)
	}
	if m.Type == Response && m.HasInfoSpec {
		b = m.InfoSpec.append(b)
	}
	if len(m.SessionIDs) > 0 {
		b = appendSessionIDList(b, m.SessionIDs)
	}
	if m.HasRSNList {
		b = m.RSNs.append(b)
	}
	if m.HasMsgID {
		b = m.MsgID.append(b, TypeMsgID)
	}
	if m.HasBoundMsgID {
		b = m.BoundMsgID.append(b, TypeBoundMsgID)
	}
	if m.Type == Query && m.PacketClassifier != nil {
		b = AppendObject(b, Mandatory, TypePacketClassifier, m.PacketClassifier)
	}
	if m.Type != Response && m.HasInfoSpec {
		b = m.InfoSpec.append(b)
	}
	if m.Type != Query && m.PacketClassifier != nil {
		b = AppendObject(b, Mandatory, TypePacketClassifier, m.PacketClassifier)
	}
	if m.QSPEC != nil {
		b = AppendObject(b, Mandatory, TypeQSPEC, m.QSPEC)
	}
	if m.QSPEC2 != nil {
		b = AppendObject(b, Mandatory, TypeQSPEC, m.QSPEC2)
	}
	for _, o := range m.Objects {
		b = o.Append(b)
	}
	return b
}

// Parse reads a message; its byte slices alias b. On error it returns what it
// could read all the same (an error RESPONSE repeats RII and RSN), and the
// error is a *ParseError.
func Parse(b []byte) (Message, error) {
	var m Message
	if len(b) < HeaderLen {
		return m, &ParseError{Code: WrongMessageLength, Offset: 0, Want: "a common header of 4 octets"}
	}
	m.Type = MessageType(b[0])
	m.MessageFlags = b[1]
	m.Flags = uint16(b[2])<<8 | uint16(b[3])
	if err := m.maskFlags(); err != nil {
		return m, err
	}
	var first *ParseError
	seen := uint32(0)
	for at := HeaderLen; at < len(b); {
		o, next, err := objectAt(b, at)
		if err != nil {
			first = earlier(first, framingError(b, at, o.Type, err))
			break
		}
		if e := m.take(o, &seen); e != nil {
			e.Offset = at
			e.Object = b[at:next]
			first = earlier(first, e)
		}
		at = next
	}
	if first == nil {
		first = m.check()
	}
	if first != nil {
		return m, first
	}
	return m, nil
}

func earlier(a, b *ParseError) *ParseError {
	if a != nil {
		return a
	}
	return b
}

// maskFlags clears what is not defined for this type of message: undefined
// bits are ignored on receiving (RFC 5974 §5.1.1).
func (m *Message) maskFlags() error {
	switch m.Type {
	case Reserve:
		m.MessageFlags &= Tear | Replace
		m.Flags &= Scoping | Proxy | AckReq | Break
	case Query:
		m.MessageFlags &= ReserveInit
		m.Flags &= Scoping | Proxy | AckReq | Break
	case Response, Notify:
		m.MessageFlags = 0
		m.Flags &= Scoping | Proxy | Break
	default:
		return &ParseError{Code: IllegalMessageType, Want: "RESERVE, QUERY, RESPONSE or NOTIFY, not type " + fmt.Sprint(uint8(m.Type))}
	}
	return nil
}

// take stores one object. Objects may come in any order (RFC 5974 §5.1).
func (m *Message) take(o Object, seen *uint32) *ParseError {
	if o.Type > TypeQSPEC || o.Type == 0 {
		if !o.Type.Known() && o.Action == Mandatory {
			return &ParseError{Code: UnknownObject, Type: o.Type, Want: "a type that is known, or A/B bits other than 00"}
		}
		if o.Action == Ignore && !o.Type.Known() {
			return nil // "it MUST be deleted"
		}
		m.Objects = append(m.Objects, o)
		return nil
	}
	bit := uint32(1) << o.Type
	if *seen&bit != 0 && o.Type != TypeBoundSessionID && (o.Type != TypeQSPEC || m.Type != Query || m.QSPEC2 != nil) {
		return &ParseError{Code: DuplicateObject, Type: o.Type, Want: "one object of this type"}
	}
	*seen |= bit
	if !allowed(m.Type, o.Type) {
		return &ParseError{Code: IllegalObject, Type: o.Type, Want: "an object that may stand in " + m.Type.String()}
	}
	return m.takeKnown(o)
}

func (m *Message) takeKnown(o Object) (err *ParseError) {
	switch o.Type {
	case TypeRII:
		m.RII, err = parseRII(o.Value)
		m.HasRII = err == nil
	case TypeRSN:
		m.RSN, err = parseRSN(o.Value)
		m.HasRSN = err == nil
	case TypeRefreshPeriod:
		m.RefreshPeriod, err = parseRefreshPeriod(o.Value)
		m.HasRefreshPeriod = err == nil
	case TypeBoundSessionID:
		var s BoundSession
		if s, err = parseBoundSession(o.Value); err == nil {
			m.BoundSessions = append(m.BoundSessions, s)
		}
	case TypePacketClassifier:
		if err = needValue(o); err == nil {
			m.PacketClassifier = o.Value
		}
	case TypeInfoSpec:
		m.InfoSpec, err = parseInfoSpec(o.Value)
		m.HasInfoSpec = err == nil
	case TypeSessionIDList:
		m.SessionIDs, err = parseSessionIDList(o.Value)
	case TypeRSNList:
		m.RSNs, err = parseRSNList(o.Value)
		m.HasRSNList = err == nil
	case TypeMsgID:
		m.MsgID, err = parseMsgID(o.Type, o.Value)
		m.HasMsgID = err == nil
	case TypeBoundMsgID:
		m.BoundMsgID, err = parseMsgID(o.Type, o.Value)
		m.HasBoundMsgID = err == nil
	case TypeQSPEC:
		if err = needValue(o); err != nil {
			break
		}
		if m.QSPEC == nil {
			m.QSPEC = o.Value
		} else {
			m.QSPEC2 = o.Value
		}
	}
	return err
}

// allowed is the ABNF of RFC 5974 §5.1.2, one bit for each object type.
func allowed(m MessageType, o ObjectType) bool {
	const (
		lists   = 1<<TypeSessionIDList | 1<<TypeRSNList
		reserve = 1<<TypeRSN | 1<<TypeRII | 1<<TypeRefreshPeriod | 1<<TypeBoundSessionID | lists |
			1<<TypeMsgID | 1<<TypeBoundMsgID | 1<<TypeInfoSpec | 1<<TypePacketClassifier | 1<<TypeQSPEC
		query = 1<<TypeRII | 1<<TypeBoundSessionID | 1<<TypePacketClassifier | 1<<TypeInfoSpec | 1<<TypeQSPEC
		// §5.3.3: BOUND-SESSION-ID is copied into all messages of a session.
		response = 1<<TypeRII | 1<<TypeRSN | 1<<TypeInfoSpec | lists | 1<<TypeQSPEC | 1<<TypeBoundSessionID
		notify   = 1<<TypeInfoSpec | 1<<TypeQSPEC | 1<<TypeBoundSessionID
	)
	set := [...]uint32{Reserve: reserve, Query: query, Response: response, Notify: notify}
	return set[m]>>o&1 != 0
}

// check looks at the message as a whole.
func (m *Message) check() *ParseError {
	missing := func(t ObjectType) *ParseError {
		return &ParseError{Code: MissingObject, Type: t, Want: "the object, mandatory in " + m.Type.String()}
	}
	illegal := func(t ObjectType, why string) *ParseError {
		return &ParseError{Code: IllegalObject, Type: t, Want: why}
	}
	switch {
	case m.Type == Reserve && !m.HasRSN:
		return missing(TypeRSN)
	case m.Type == Query && m.QSPEC == nil:
		return missing(TypeQSPEC)
	case (m.Type == Response || m.Type == Notify) && !m.HasInfoSpec:
		return missing(TypeInfoSpec)
	case m.Type == Reserve && m.QSPEC == nil && m.PacketClassifier != nil:
		return illegal(TypePacketClassifier, "a QSPEC beside it")
	case m.Type == Reserve && m.SessionIDs != nil && !m.HasRSNList:
		return missing(TypeRSNList) // RFC 5974 §5.3.7
	case m.HasRSNList && m.SessionIDs == nil:
		return illegal(TypeRSNList, "a SESSION-ID-LIST beside it")
	case m.HasRSNList && len(m.RSNs.RSNs) != len(m.SessionIDs):
		// RFC 5974 §5.3.7
		return &ParseError{Code: ErroneousValue, Type: TypeRSNList, Want: fmt.Sprintf("%d RSNs, one for each SESSION-ID", len(m.SessionIDs))}
	case m.HasMsgID && m.HasBoundMsgID:
		return illegal(TypeBoundMsgID, "MSG-ID or BOUND-MSG-ID, not both")
	}
	return nil
}
