package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The common header, RFC 5971 §A.1:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Version    |   GIST hops   |        Message Length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           NSLPID              |C|   Type      |S|R|E| Reserved|
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Version1 is the only version of GIST there is.
const Version1 = 1

// Sizes in octets.
const (
	HeaderLen     = 8                    // the common header
	MagicLen      = 4                    // the magic number before a D-mode message
	MaxMessageLen = HeaderLen + 4*0xffff // a whole message, common header included
	MaxObjectLen  = 4 * 0xfff            // an object's value: its length has 12 bits of words
)

// MagicNumber stands before the common header in every UDP datagram.
// RFC 5971 §5.3.1
const MagicNumber uint32 = 0x4e04bda5

// HopCountOffset is where the hop count stands in an encoded message, counted
// from the common header. In a datagram it is MagicLen further.
const HopCountOffset = 1

// MessageType is the kind of a GIST message. RFC 5971 §9
type MessageType uint8

// Message types.
const (
	Query    MessageType = 0
	Response MessageType = 1
	Confirm  MessageType = 2
	Data     MessageType = 3
	Error    MessageType = 4
	MAHello  MessageType = 5
)

var messageTypeNames = [...]string{"Query", "Response", "Confirm", "Data", "Error", "MA-Hello"}

func (t MessageType) String() string {
	if int(t) < len(messageTypeNames) {
		return messageTypeNames[t]
	}
	return fmt.Sprintf("message type %d", uint8(t))
}

// Header is the GIST common header. RFC 5971 §5.2.1
type Header struct {
	Version  uint8 // Message.Append writes 1 for 0
	HopCount uint8 // GIST nodes that may still process the message
	// Words is the Message Length: 32-bit words after the common header. It is
	// set by parsing; Message.Append works it out and ignores this field.
	Words  uint16
	NSLPID NSLPID
	Type   MessageType
	C      bool // context-free: Query, and Data in Q-mode
	S      bool // the IP source address is the signalling peer's
	R      bool // a reply is asked for
	E      bool // explicitly routed (Data only)
}

// Octets of the header's flags.
const (
	flagC = 0x80
	flagS = 0x80
	flagR = 0x40
	flagE = 0x20
)

// ErrShort is wrapped when fewer octets are there than the common header has:
// no Error message can answer that.
var ErrShort = errors.New("shorter than the common header")

// ErrNotGIST is returned for a datagram that does not begin with the magic
// number; it is dropped in silence. RFC 5971 §5.3.1
var ErrNotGIST = errors.New("no GIST magic number")

// ParseHeader reads a common header without judging it: any version, type and
// flags. The reserved bits are ignored.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, fmt.Errorf("common header: want %d octets, have %d: %w", HeaderLen, len(b), ErrShort)
	}
	return Header{
		Version:  b[0],
		HopCount: b[1],
		Words:    binary.BigEndian.Uint16(b[2:]),
		NSLPID:   NSLPID(binary.BigEndian.Uint16(b[4:])),
		C:        b[6]&flagC != 0,
		Type:     MessageType(b[6] &^ flagC),
		S:        b[7]&flagS != 0,
		R:        b[7]&flagR != 0,
		E:        b[7]&flagE != 0,
	}, nil
}

// Append appends the header's eight octets, Version and Words as they are.
func (h *Header) Append(b []byte) []byte {
	kind, flags := uint8(h.Type)&^flagC, uint8(0)
	if h.C {
		kind |= flagC
	}
	if h.S {
		flags |= flagS
	}
	if h.R {
		flags |= flagR
	}
	if h.E {
		flags |= flagE
	}
	return append(b, h.Version, h.HopCount, byte(h.Words>>8), byte(h.Words),
		byte(h.NSLPID>>8), byte(h.NSLPID), kind, flags)
}

// MessageLength returns the length of a whole message in octets, common header
// included, from the common header's octets: what the framing of a stream
// needs. A version other than 1 is an error, since its length field may stand
// elsewhere. RFC 5971 §5.4
func MessageLength(first8 []byte) (int, error) {
	if len(first8) >= HeaderLen && first8[0] == Version1 { // each message passes here more than once
		return HeaderLen + 4*int(binary.BigEndian.Uint16(first8[2:])), nil
	}
	h, err := ParseHeader(first8)
	if err == nil {
		err = &ParseError{Report: ErrorData{ID: UnknownVersion, Header: h},
			Detail: fmt.Sprintf("version %d, want %d", h.Version, Version1)}
	}
	return 0, err
}
