// Package wire is the bit-level format of QoS-NSLP (RFC 5974 §5.1): the common
// header, one file per object, SESSION_AUTH (RFC 5981) and DOMAIN-RECORDS.
package wire

// Object is any NSLP object as it stands on the wire: what is not known to
// this package is kept in this form, and forwarded or refused by its Action
// (RFC 5974 §5.1.2, the A and B bits).
type Object struct {
	Action ExtensibilityAction
	Type   ObjectType
	Value  []byte // without the header; a multiple of four octets
}

// ExtensibilityAction is the A and B bits of an object's header.
type ExtensibilityAction uint8

// What a node does with an object that it does not know (RFC 5974 §5.1.2).
const (
	Mandatory ExtensibilityAction = 0 // reject the message
	Ignore    ExtensibilityAction = 1 // delete the object, go on
	Forward   ExtensibilityAction = 2 // keep the object unchanged
	Refresh   ExtensibilityAction = 3 // as Forward, and store it for refreshes
)

// ObjectType is an NSLP object type, 12 bits.
type ObjectType uint16

// DomainRecords is DOMAIN-RECORDS, ours (private range), A/B = 10.
const DomainRecords ObjectType = 2000

// InfoSpec is INFO-SPEC (RFC 5974 §5.1.3.6).
type InfoSpec struct {
	Class  ErrorClass
	Code   uint8
	Source ErrorSource
	// Info is the optional error-specific information, as on the wire.
	Info []byte
}

// ErrorClass is the INFO-SPEC class, 4 bits.
type ErrorClass uint8

// Classes (RFC 5974 §5.1.3.6).
const (
	ClassInformational    ErrorClass = 1
	ClassSuccess          ErrorClass = 2
	ClassProtocolError    ErrorClass = 3
	ClassTransientFailure ErrorClass = 4
	ClassPermanentFailure ErrorClass = 5
	ClassQoSModelError    ErrorClass = 6
)

// ErrorSource is the error source identifier: an address, or the peer
// identity octets where there is none.
type ErrorSource struct {
	Type ErrorSourceType
	ID   []byte
}

// ErrorSourceType is the ESI type (RFC 5974 §6.5).
type ErrorSourceType uint8
