package wire

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// ErrorID is class, code and subcode of a GIST error as they stand in the first
// word of an Error object: class in the first octet, code in the next two,
// subcode in the last. RFC 5971 §A.4.1
type ErrorID uint32

// ErrorClass is the severity of an error. RFC 5971 §A.4.3
type ErrorClass uint8

// Error classes.
const (
	Informational    ErrorClass = 0
	Success          ErrorClass = 1
	ProtocolError    ErrorClass = 2
	TransientFailure ErrorClass = 3
	PermanentFailure ErrorClass = 4
)

// The error catalogue. RFC 5971 §A.4.4
const (
	UnknownVersion         ErrorID = 0x02_0001_00 // RFC 5971 §A.4.4.1 Common Header Parse Error
	UnknownType            ErrorID = 0x02_0001_01
	InvalidRFlag           ErrorID = 0x02_0001_02
	IncorrectMessageLength ErrorID = 0x02_0001_03 // with Message Length Info
	InvalidEFlag           ErrorID = 0x02_0001_04
	InvalidCFlag           ErrorID = 0x02_0001_05

	HopLimitExceeded       ErrorID = 0x04_0002_00 // RFC 5971 §A.4.4.2
	IncorrectEncapsulation ErrorID = 0x02_0003_00 // RFC 5971 §A.4.4.3
	IncorrectlyDelivered   ErrorID = 0x02_0004_00 // RFC 5971 §A.4.4.4
	NoRoutingState         ErrorID = 0x02_0005_00 // RFC 5971 §A.4.4.5
	UnknownNSLPID          ErrorID = 0x04_0006_00 // RFC 5971 §A.4.4.6
	EndpointFound          ErrorID = 0x04_0007_00 // RFC 5971 §A.4.4.7
	MessageTooLarge        ErrorID = 0x04_0008_00 // RFC 5971 §A.4.4.8, with MTU Info

	DuplicateObject           ErrorID = 0x02_0009_00 // RFC 5971 §A.4.4.9, with Object Type Info
	UnrecognisedObject        ErrorID = 0x02_0009_01
	MissingObject             ErrorID = 0x02_0009_02
	InvalidObjectType         ErrorID = 0x02_0009_03
	UntranslatedObject        ErrorID = 0x02_0009_04
	InvalidExtensibilityFlags ErrorID = 0x02_0009_05

	IncorrectLength             ErrorID = 0x02_000a_00 // RFC 5971 §A.4.4.10, with Object Value Info
	ValueNotSupported           ErrorID = 0x02_000a_01
	InvalidFlagFieldCombination ErrorID = 0x02_000a_02
	EmptyList                   ErrorID = 0x02_000a_03
	InvalidCookie               ErrorID = 0x02_000a_04
	StackMismatch               ErrorID = 0x02_000a_05 // two of them: Stack-Proposal, then Stack-Configuration-Data

	InvalidIPTTL ErrorID = 0x04_000b_00 // RFC 5971 §A.4.4.11

	MRITooWild           ErrorID = 0x04_000c_00 // RFC 5971 §A.4.4.12, with Object Value Info
	IPVersionMismatch    ErrorID = 0x04_000c_01
	IngressFilterFailure ErrorID = 0x04_000c_02
)

var errorNames = map[ErrorID]string{
	UnknownVersion:              "Common Header Parse Error: Unknown Version",
	UnknownType:                 "Common Header Parse Error: Unknown Type",
	InvalidRFlag:                "Common Header Parse Error: Invalid R-flag",
	IncorrectMessageLength:      "Common Header Parse Error: Incorrect Message Length",
	InvalidEFlag:                "Common Header Parse Error: Invalid E-flag",
	InvalidCFlag:                "Common Header Parse Error: Invalid C-flag",
	HopLimitExceeded:            "Hop Limit Exceeded",
	IncorrectEncapsulation:      "Incorrect Encapsulation",
	IncorrectlyDelivered:        "Incorrectly Delivered Message",
	NoRoutingState:              "No Routing State",
	UnknownNSLPID:               "Unknown NSLPID",
	EndpointFound:               "Endpoint Found",
	MessageTooLarge:             "Message Too Large",
	DuplicateObject:             "Object Type Error: Duplicate Object",
	UnrecognisedObject:          "Object Type Error: Unrecognised Object",
	MissingObject:               "Object Type Error: Missing Object",
	InvalidObjectType:           "Object Type Error: Invalid Object Type",
	UntranslatedObject:          "Object Type Error: Untranslated Object",
	InvalidExtensibilityFlags:   "Object Type Error: Invalid Extensibility Flags",
	IncorrectLength:             "Object Value Error: Incorrect Length",
	ValueNotSupported:           "Object Value Error: Value Not Supported",
	InvalidFlagFieldCombination: "Object Value Error: Invalid Flag-Field Combination",
	EmptyList:                   "Object Value Error: Empty List",
	InvalidCookie:               "Object Value Error: Invalid Cookie",
	StackMismatch:               "Object Value Error: Stack-Proposal - Stack-Configuration-Data Mismatch",
	InvalidIPTTL:                "Invalid IP-Layer TTL",
	MRITooWild:                  "MRI Validation Failure: MRI Too Wild",
	IPVersionMismatch:           "MRI Validation Failure: IP Version Mismatch",
	IngressFilterFailure:        "MRI Validation Failure: Ingress Filter Failure",
}

// Catalogue returns all errors of RFC 5971 §A.4.4, by code and subcode.
func Catalogue() []ErrorID {
	return slices.SortedFunc(maps.Keys(errorNames), func(a, b ErrorID) int { return cmp.Compare(a<<8, b<<8) })
}

// Class returns the error's class.
func (e ErrorID) Class() ErrorClass { return ErrorClass(e >> 24) }

// Code returns the error's code.
func (e ErrorID) Code() uint16 { return uint16(e >> 8) }

// Subcode returns the error's subcode.
func (e ErrorID) Subcode() uint8 { return uint8(e) }

func (e ErrorID) String() string {
	if name, ok := errorNames[e]; ok {
		return name
	}
	return fmt.Sprintf("GIST error class %d code %d subcode %d", e.Class(), e.Code(), e.Subcode())
}

// ParseError says why a message could not be parsed, and holds what the Error
// message that answers it has to carry. Report is complete but for DMode and
// QMode, which the receiver knows.
type ParseError struct {
	Report ErrorData
	Detail string // what was wrong, where, and what was expected
}

func (e *ParseError) Error() string {
	if e.Detail == "" {
		return "GIST " + e.Report.Header.Type.String() + ": " + e.Report.ID.String()
	}
	return "GIST " + e.Report.Header.Type.String() + ": " + e.Report.ID.String() + ": " + e.Detail
}

// Reportable says whether an Error message may answer: never to an Error
// message. RFC 5971 §5.6
func (e *ParseError) Reportable() bool { return e.Report.Header.Type != Error }
