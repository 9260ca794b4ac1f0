package wire

import (
	"cmp"
	"fmt"
	"slices"
)

// The catalogue of INFO-SPEC codes, RFC 5974 §5.1.3.6, §6.4, by class.

// Informational.
const (
	UnknownBoundSession  uint8 = 0x01
	RouteChange          uint8 = 0x02
	NoReducedRefresh     uint8 = 0x03
	CongestionSituation  uint8 = 0x04
	UnknownListedSession uint8 = 0x05
	MismatchingRSNInList uint8 = 0x06
)

// Success.
const (
	ReservationSuccessful uint8 = 0x01
	TeardownSuccessful    uint8 = 0x02
	Acknowledgement       uint8 = 0x03
	RefreshSuccessful     uint8 = 0x04
)

// Protocol errors.
const (
	IllegalMessageType uint8 = 0x01
	WrongMessageLength uint8 = 0x02
	BadGenericFlags    uint8 = 0x03
	BadMessageFlags    uint8 = 0x04
	MissingObject      uint8 = 0x05
	IllegalObject      uint8 = 0x06
	UnknownObject      uint8 = 0x07
	WrongObjectLength  uint8 = 0x08
	WrongDirection     uint8 = 0x09
	UnknownFieldValue  uint8 = 0x0a
	DuplicateObject    uint8 = 0x0b
	MalformedQSPEC     uint8 = 0x0c
	UnknownMRI         uint8 = 0x0d
	ErroneousValue     uint8 = 0x0e
	IncompatibleQSPEC  uint8 = 0x0f
)

// Transient failures.
const (
	NoReversePath        uint8 = 0x01
	NoPathState          uint8 = 0x02
	RIIConflict          uint8 = 0x03
	FullQSPECRequired    uint8 = 0x04
	SyncMismatch         uint8 = 0x05
	ReservationPreempted uint8 = 0x06
	ReservationFailure   uint8 = 0x07
	PathTruncated        uint8 = 0x08
)

// Permanent failures.
const (
	InternalError        uint8 = 0x01
	AuthorizationFailure uint8 = 0x02
)

// QoS model errors of the InterDomain-QOSM (private range of the QSPEC
// registry).
const (
	NoSLS             uint8 = 64 // no SLS covers the request
	SLSRefuses        uint8 = 65 // its capacity or schedule refuses
	PolicyRefuses     uint8 = 66
	IntraDomainFailed uint8 = 67 // intra-domain control refuses or failed
)

var codeTexts = map[ErrorClass]map[uint8]string{
	ClassInformational: {
		UnknownBoundSession:  "unknown BOUND-SESSION-ID",
		RouteChange:          "possible route change on the downstream path",
		NoReducedRefresh:     "reduced refreshes not supported, full QSPEC required",
		CongestionSituation:  "possible congestion on the downstream path",
		UnknownListedSession: "unknown SESSION-ID in SESSION-ID-LIST",
		MismatchingRSNInList: "mismatching RSN in RSN-LIST",
	},
	ClassSuccess: {
		ReservationSuccessful: "reservation successful",
		TeardownSuccessful:    "teardown successful",
		Acknowledgement:       "acknowledgement",
		RefreshSuccessful:     "refresh successful",
	},
	ClassProtocolError: {
		IllegalMessageType: "illegal message type",
		WrongMessageLength: "wrong message length",
		BadGenericFlags:    "bad generic flags",
		BadMessageFlags:    "bad message-specific flags",
		MissingObject:      "mandatory object missing",
		IllegalObject:      "illegal object present",
		UnknownObject:      "unknown object present",
		WrongObjectLength:  "wrong object length",
		WrongDirection:     "RESERVE received from wrong direction",
		UnknownFieldValue:  "unknown object field value",
		DuplicateObject:    "duplicate object present",
		MalformedQSPEC:     "malformed QSPEC",
		UnknownMRI:         "unknown MRI",
		ErroneousValue:     "erroneous value in an object",
		IncompatibleQSPEC:  "incompatible QSPEC",
	},
	ClassTransientFailure: {
		NoReversePath:        "no GIST reverse-path forwarding state",
		NoPathState:          "no path state for a receiver-initiated RESERVE",
		RIIConflict:          "RII conflict",
		FullQSPECRequired:    "full QSPEC required",
		SyncMismatch:         "end-to-end and intra-domain RESERVE out of step",
		ReservationPreempted: "reservation preempted",
		ReservationFailure:   "reservation failure",
		PathTruncated:        "path truncated, next peer dead",
	},
	ClassPermanentFailure: {
		InternalError:        "internal or system error",
		AuthorizationFailure: "authorization failure",
	},
	ClassQoSModelError: {
		NoSLS:             "no SLS covers the request",
		SLSRefuses:        "the SLS's capacity or schedule refuses",
		PolicyRefuses:     "policy refuses",
		IntraDomainFailed: "intra-domain control refuses or failed",
	},
}

// Catalogue returns every class and code that there are words for, in order.
func Catalogue() []InfoSpec {
	var list []InfoSpec
	for c, codes := range codeTexts {
		for code := range codes {
			list = append(list, InfoSpec{Class: c, Code: code})
		}
	}
	slices.SortFunc(list, func(a, b InfoSpec) int { return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Code, b.Code)) })
	return list
}

// CodeText says in words what a class and code mean.
func CodeText(c ErrorClass, code uint8) string {
	if t, ok := codeTexts[c][code]; ok {
		return t
	}
	return fmt.Sprintf("%v, code 0x%02x", c, code)
}

func (c ErrorClass) String() string {
	switch c {
	case ClassInformational:
		return "informational"
	case ClassSuccess:
		return "success"
	case ClassProtocolError:
		return "protocol error"
	case ClassTransientFailure:
		return "transient failure"
	case ClassPermanentFailure:
		return "permanent failure"
	case ClassQoSModelError:
		return "QoS model error"
	case 7:
		return "signaling session failure"
	}
	return fmt.Sprintf("class %d", uint8(c))
}
