package wire

import (
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// Version is the only version of the protocol. RFC 5810 §6.1
const Version = 1

// HeaderSize is the size of the common header in octets. RFC 5810 §6.1
const HeaderSize = 24

// MaxMessage is the size in octets of the largest message: the header counts
// words of four octets in 16 bits. RFC 5810 §6.1
const MaxMessage = 0xffff * 4

// ID is the address of a CE or an FE, or of many. RFC 5810 §6.1
type ID uint32

// Addresses of many. They are destinations only. RFC 5810 §6.1
const (
	AllCEs ID = 0xfffffffd
	AllFEs ID = 0xfffffffe
	All    ID = 0xffffffff
)

// IDKind is what an ID names, as its type switch says. RFC 5810 §6.1
type IDKind uint8

// Kinds of ID.
const (
	FEID IDKind = iota
	CEID
	MulticastID
	BroadcastID
	ReservedID
)

// Kind returns what the ID names.
func (id ID) Kind() IDKind {
	switch {
	case id < 0x40000000:
		return FEID
	case id < 0x80000000:
		return CEID
	case id < 0xc0000000:
		return ReservedID
	case id < 0xfffffff0:
		return MulticastID
	case id < AllCEs:
		return ReservedID
	}
	return BroadcastID
}

// String returns the ID in hexadecimal.
func (id ID) String() string { return fmt.Sprintf("%#08x", uint32(id)) }

// ACK says when a Config or Heartbeat is to be answered; it has no meaning in
// other messages. RFC 5810 §6.1
type ACK uint8

// ACK indicators.
const (
	NoACK ACK = iota
	SuccessACK
	FailureACK
	AlwaysACK
)

// ExecMode says what is done after an operation failed; zero is reserved.
// RFC 5810 §4.3.1.1
type ExecMode uint8

// Execution modes.
const (
	ExecuteAllOrNone         ExecMode = 1
	ExecuteUntilFailure      ExecMode = 2
	ContinueExecuteOnFailure ExecMode = 3
)

// Phase is the phase of a transaction that a message belongs to.
// RFC 5810 §4.3.1.2.2
type Phase uint8

// Transaction phases.
const (
	StartOfTransaction Phase = iota
	MiddleOfTransaction
	EndOfTransaction
	AbortTransaction
)

// MaxPriority is the highest priority, NormalPriority the usual one.
// RFC 5810 §6.1
const (
	MaxPriority    = 7
	NormalPriority = 1
)

// Flags are the flags of the common header. RFC 5810 §6.1
//
//	 0                   1
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+- ...
//	|ACK| Pri | rsv |EM |A|TP | reserved
type Flags struct {
	ACK      ACK
	Priority uint8 // 0 to MaxPriority; the higher the more important
	Mode     ExecMode
	Atomic   bool // one of the messages of a two-phase commit
	Phase    Phase
}

const (
	ackShift, ackMask     = 30, 3
	priorityShift         = 27
	modeShift, modeMask   = 22, 3
	atomicShift           = 21
	phaseShift, phaseMask = 19, 3
)

func (f Flags) word() uint32 {
	w := uint32(f.ACK)<<ackShift | uint32(f.Priority)<<priorityShift | uint32(f.Mode)<<modeShift | uint32(f.Phase)<<phaseShift
	if f.Atomic {
		w |= 1 << atomicShift
	}
	return w
}

func flagsOf(w uint32) Flags {
	return Flags{
		ACK:      ACK(w >> ackShift & ackMask),
		Priority: uint8(w >> priorityShift & MaxPriority),
		Mode:     ExecMode(w >> modeShift & modeMask),
		Atomic:   w>>atomicShift&1 == 1,
		Phase:    Phase(w >> phaseShift & phaseMask),
	}
}

// Header is the common header of every message. Its length is not a field:
// ParseHeader returns it, and Append counts it. RFC 5810 §6.1
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|version| rsvd  | Message Type  |    Length (words of 4 octets) |
//	|                          Source ID                            |
//	|                        Destination ID                         |
//	|                     Correlator (64 bits)                      |
//	|                             Flags                             |
type Header struct {
	Type        MessageType
	Source      ID     // 0 in an Association Setup asks the CE for one
	Destination ID     //
	Correlator  uint64 // returned in the response; 0 in an Association Teardown
	Flags       Flags
}

// ParseHeader reads the common header at the front of b, and returns it with
// the length of the whole message in octets, HeaderSize to MaxMessage. b may be
// shorter or longer than the message, so that a transport can frame with it.
// Reserved bits are ignored. Errors are *Error. RFC 5810 §6.1
func ParseHeader(b []byte) (Header, int, error) {
	if len(b) < HeaderSize {
		return Header{}, 0, failure(ELengthMismatch, len(b), "the common header has %d octets, here are %d", HeaderSize, len(b))
	}
	r := tlv.NewReader(b[:HeaderSize])
	if v := r.U8() >> 4; v != Version {
		return Header{}, 0, failure(EVersionMismatch, 0, "version %d, want %d", v, Version)
	}
	h := Header{Type: MessageType(r.U8())}
	size := int(r.U16()) * 4
	h.Source, h.Destination = ID(r.U32()), ID(r.U32())
	h.Correlator = r.U64()
	h.Flags = flagsOf(r.U32())
	if size < HeaderSize {
		return Header{}, 0, failure(ELengthMismatch, 2, "length %d octets, less than the header's %d", size, HeaderSize)
	}
	if !h.Type.known() {
		return Header{}, 0, failure(EInvalidMessageType, 1, "message type %#02x is unknown", uint8(h.Type))
	}
	if h.Type == AssociationTeardown {
		h.Correlator = 0 // to be ignored, RFC 5810 §7.5.3
	}
	return h, size, h.check()
}

// check applies the rules for a header that is sent or received.
func (h Header) check() error {
	f := h.Flags
	switch {
	case !h.Type.known():
		return failure(EInvalidMessageType, 1, "message type %#02x is unknown", uint8(h.Type))
	case h.Source.Kind() == ReservedID:
		return failure(EInvalidHeader, 4, "source ID %v is reserved", h.Source)
	case h.Source.Kind() == BroadcastID:
		return failure(EInvalidHeader, 4, "source ID %v is a broadcast ID, for destinations only", h.Source)
	case h.Destination.Kind() == ReservedID:
		return failure(EInvalidDestinationPID, 8, "destination ID %v is reserved", h.Destination)
	case h.Type == AssociationTeardown && h.Correlator != 0:
		return failure(EInvalidHeader, 12, "correlator %#x in an AssociationTeardown, want 0", h.Correlator)
	case f.ACK > ackMask || f.Priority > MaxPriority || f.Mode > modeMask || f.Phase > phaseMask:
		return failure(EInvalidFlags, 20, "flags %+v are out of range", f)
	}
	return nil
}

// append writes the header; the length follows from setLength.
func (h Header) append(b []byte) []byte {
	b = append(b, Version<<4, byte(h.Type), 0, 0)
	b = tlv.AppendU32(b, uint32(h.Source))
	b = tlv.AppendU32(b, uint32(h.Destination))
	b = tlv.AppendU64(b, h.Correlator)
	return tlv.AppendU32(b, h.Flags.word())
}
