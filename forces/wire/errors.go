package wire

import "fmt"

// ResultCode is the result of an operation: one octet in a RESULT-TLV, four in
// an EXTENDEDRESULT-TLV. RFC 5810 §7.1.7, §A.5; RFC 7391 §3.2.3
type ResultCode uint32

// Result values. E_CONTENTS_TOO_LONG is 0x0f as in RFC 5810 §A.5: table 4 of
// §7.1.7 has 0x0d, which is taken.
const (
	ESuccess               ResultCode = 0x00
	EInvalidHeader         ResultCode = 0x01
	ELengthMismatch        ResultCode = 0x02
	EVersionMismatch       ResultCode = 0x03
	EInvalidDestinationPID ResultCode = 0x04
	ELFBUnknown            ResultCode = 0x05
	ELFBNotFound           ResultCode = 0x06
	ELFBInstanceIDNotFound ResultCode = 0x07
	EInvalidPath           ResultCode = 0x08
	EComponentDoesNotExist ResultCode = 0x09
	EExists                ResultCode = 0x0a
	ENotFound              ResultCode = 0x0b
	EReadOnly              ResultCode = 0x0c
	EInvalidArrayCreation  ResultCode = 0x0d
	EValueOutOfRange       ResultCode = 0x0e
	EContentsTooLong       ResultCode = 0x0f
	EInvalidParameters     ResultCode = 0x10
	EInvalidMessageType    ResultCode = 0x11
	EInvalidFlags          ResultCode = 0x12
	EInvalidTLV            ResultCode = 0x13
	EEventError            ResultCode = 0x14
	ENotSupported          ResultCode = 0x15
	EMemoryError           ResultCode = 0x16
	EInternalError         ResultCode = 0x17
	ETimedOut              ResultCode = 0x18 // from here RFC 7391 §3.2.1
	EInvalidTFlags         ResultCode = 0x19
	EInvalidOp             ResultCode = 0x1a
	ECongestNT             ResultCode = 0x1b
	EComponentNotATable    ResultCode = 0x1c
	EPerm                  ResultCode = 0x1d
	EBusy                  ResultCode = 0x1e
	EEmpty                 ResultCode = 0x1f
	EUnknown               ResultCode = 0x20
	EUnspecifiedError      ResultCode = 0xff
)

var resultNames = [...]string{
	ESuccess: "E_SUCCESS", EInvalidHeader: "E_INVALID_HEADER", ELengthMismatch: "E_LENGTH_MISMATCH",
	EVersionMismatch: "E_VERSION_MISMATCH", EInvalidDestinationPID: "E_INVALID_DESTINATION_PID", ELFBUnknown: "E_LFB_UNKNOWN",
	ELFBNotFound: "E_LFB_NOT_FOUND", ELFBInstanceIDNotFound: "E_LFB_INSTANCE_ID_NOT_FOUND", EInvalidPath: "E_INVALID_PATH",
	EComponentDoesNotExist: "E_COMPONENT_DOES_NOT_EXIST", EExists: "E_EXISTS", ENotFound: "E_NOT_FOUND", EReadOnly: "E_READ_ONLY",
	EInvalidArrayCreation: "E_INVALID_ARRAY_CREATION", EValueOutOfRange: "E_VALUE_OUT_OF_RANGE",
	EContentsTooLong: "E_CONTENTS_TOO_LONG", EInvalidParameters: "E_INVALID_PARAMETERS",
	EInvalidMessageType: "E_INVALID_MESSAGE_TYPE", EInvalidFlags: "E_INVALID_FLAGS", EInvalidTLV: "E_INVALID_TLV",
	EEventError: "E_EVENT_ERROR", ENotSupported: "E_NOT_SUPPORTED", EMemoryError: "E_MEMORY_ERROR",
	EInternalError: "E_INTERNAL_ERROR", ETimedOut: "E_TIMED_OUT", EInvalidTFlags: "E_INVALID_TFLAGS", EInvalidOp: "E_INVALID_OP",
	ECongestNT: "E_CONGEST_NT", EComponentNotATable: "E_COMPONENT_NOT_A_TABLE", EPerm: "E_PERM", EBusy: "E_BUSY", EEmpty: "E_EMPTY",
	EUnknown: "E_UNKNOWN", EUnspecifiedError: "E_UNSPECIFIED_ERROR",
}

// String returns the name in the RFC.
func (c ResultCode) String() string {
	if uint64(c) < uint64(len(resultNames)) && resultNames[c] != "" {
		return resultNames[c]
	}
	return fmt.Sprintf("result %#x", uint32(c))
}

// Error says what is wrong with a message, with the result that a response to
// it carries.
type Error struct {
	Code   ResultCode
	Offset int // in octets from the message's start; -1: see Reason
	Reason string
}

// Error returns result, place and reason.
func (e *Error) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("forces: %v: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("forces: %v: octet %d: %s", e.Code, e.Offset, e.Reason)
}

func failure(code ResultCode, offset int, format string, args ...any) error {
	return &Error{Code: code, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}
