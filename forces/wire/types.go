package wire

import "fmt"

// MessageType is the type of a message. RFC 5810 §A.1
type MessageType uint8

// Message types.
const (
	AssociationSetup         MessageType = 0x01 // RFC 5810 §7.5.1
	AssociationTeardown      MessageType = 0x02 // RFC 5810 §7.5.3
	Config                   MessageType = 0x03 // RFC 5810 §7.6.1
	Query                    MessageType = 0x04 // RFC 5810 §7.7.1
	EventNotification        MessageType = 0x05 // RFC 5810 §7.8
	PacketRedirect           MessageType = 0x06 // RFC 5810 §7.9
	Heartbeat                MessageType = 0x0f // RFC 5810 §7.10
	AssociationSetupResponse MessageType = 0x11 // RFC 5810 §7.5.2
	ConfigResponse           MessageType = 0x13 // RFC 5810 §7.6.2
	QueryResponse            MessageType = 0x14 // RFC 5810 §7.7.2
)

// String returns the name in the RFC.
func (t MessageType) String() string {
	switch t {
	case AssociationSetup:
		return "AssociationSetup"
	case AssociationTeardown:
		return "AssociationTeardown"
	case Config:
		return "Config"
	case Query:
		return "Query"
	case EventNotification:
		return "EventNotification"
	case PacketRedirect:
		return "PacketRedirect"
	case Heartbeat:
		return "Heartbeat"
	case AssociationSetupResponse:
		return "AssociationSetupResponse"
	case ConfigResponse:
		return "ConfigResponse"
	case QueryResponse:
		return "QueryResponse"
	}
	return fmt.Sprintf("message type %#02x", uint8(t))
}

func (t MessageType) known() bool {
	switch t {
	case AssociationSetup, AssociationTeardown, Config, Query, EventNotification, PacketRedirect, Heartbeat,
		AssociationSetupResponse, ConfigResponse, QueryResponse:
		return true
	}
	return false
}

// selects says whether the body of the message is LFBselect-TLVs.
func (t MessageType) selects() bool {
	switch t {
	case AssociationSetup, Config, ConfigResponse, Query, QueryResponse, EventNotification:
		return true
	}
	return false
}

// allows says whether the message may hold the operation. RFC 5810 §7
func (t MessageType) allows(o OperType) bool {
	switch t {
	case AssociationSetup, EventNotification:
		return o == Report
	case Config:
		return o == Set || o == SetProp || o == Del || o == Commit || o == TRComp
	case ConfigResponse:
		return o == SetResponse || o == SetPropResponse || o == DelResponse || o == CommitResponse
	case Query:
		return o == Get || o == GetProp
	case QueryResponse:
		return o == GetResponse || o == GetPropResponse
	}
	return false
}

// Types of TLVs outside of OPER-TLVs. RFC 5810 §A.4
const (
	tlvRedirect     uint16 = 0x0001
	tlvASResult     uint16 = 0x0010
	tlvASTReason    uint16 = 0x0011
	tlvPathData     uint16 = 0x0110
	tlvKeyInfo      uint16 = 0x0111
	tlvFullData     uint16 = 0x0112
	tlvSparseData   uint16 = 0x0113
	tlvResult       uint16 = 0x0114
	tlvMetadata     uint16 = 0x0115
	tlvRedirectData uint16 = 0x0116
	tlvTableRange   uint16 = 0x0117 // RFC 7391 §3.1
	tlvExtResult    uint16 = 0x0118 // RFC 7391 §3.2.3
	tlvLFBSelect    uint16 = 0x1000
)

// OperType is the type of an OPER-TLV. RFC 5810 §7.1.6, §A.2
type OperType uint16

// Operations.
const (
	Set             OperType = 0x0001
	SetProp         OperType = 0x0002
	SetResponse     OperType = 0x0003
	SetPropResponse OperType = 0x0004
	Del             OperType = 0x0005
	DelResponse     OperType = 0x0006
	Get             OperType = 0x0007
	GetProp         OperType = 0x0008
	GetResponse     OperType = 0x0009
	GetPropResponse OperType = 0x000a
	Report          OperType = 0x000b
	Commit          OperType = 0x000c
	CommitResponse  OperType = 0x000d
	TRComp          OperType = 0x000e
)

var operNames = [...]string{
	Set: "SET", SetProp: "SET-PROP", SetResponse: "SET-RESPONSE", SetPropResponse: "SET-PROP-RESPONSE",
	Del: "DEL", DelResponse: "DEL-RESPONSE", Get: "GET", GetProp: "GET-PROP", GetResponse: "GET-RESPONSE",
	GetPropResponse: "GET-PROP-RESPONSE", Report: "REPORT", Commit: "COMMIT", CommitResponse: "COMMIT-RESPONSE", TRComp: "TRCOMP",
}

// String returns the name in the RFC.
func (o OperType) String() string {
	if int(o) < len(operNames) && operNames[o] != "" {
		return operNames[o]
	}
	return fmt.Sprintf("operation %#04x", uint16(o))
}

// Response returns the operation that answers o, and whether one does.
func (o OperType) Response() (OperType, bool) {
	switch o {
	case Set:
		return SetResponse, true
	case SetProp:
		return SetPropResponse, true
	case Del:
		return DelResponse, true
	case Get:
		return GetResponse, true
	case GetProp:
		return GetPropResponse, true
	case Commit:
		return CommitResponse, true
	}
	return 0, false
}

// leaf says whether the last PATH-DATA-TLV of a path may hold such data.
// RFC 5810 §7 table 2, with what §7.6 to §7.8 say in words
func (o OperType) leaf(d DataKind) bool {
	switch o {
	case Set, SetProp:
		return d == FullData || d == SparseData
	case SetResponse, SetPropResponse, DelResponse:
		return d == ResultData
	case Get, GetProp:
		return d == NoData
	case GetResponse, GetPropResponse:
		return d == FullData || d == SparseData || d == ResultData
	case Del, Report:
		return d == NoData || d == FullData || d == SparseData
	}
	return false
}

// ranges says whether a path may select by a table range. RFC 7391 §3.1
func (o OperType) ranges() bool { return o == Get || o == Del }

// SetupResult is the answer to an Association Setup. RFC 5810 §7.5.2, §A.6
type SetupResult uint32

// Association setup results.
const (
	SetupSuccess          SetupResult = 0
	SetupFEIDInvalid      SetupResult = 1
	SetupPermissionDenied SetupResult = 2
)

// TeardownReason is why an association ends. RFC 5810 §7.5.3, §A.7
type TeardownReason uint32

// Association teardown reasons.
const (
	TeardownNormal         TeardownReason = 0
	TeardownHeartbeatsLost TeardownReason = 1
	TeardownOutOfBandwidth TeardownReason = 2
	TeardownOutOfMemory    TeardownReason = 3
	TeardownCrash          TeardownReason = 4
	TeardownUnspecified    TeardownReason = 255
)

// LFB classes and the instance that the protocol itself names.
// RFC 5810 §7.3, RFC 5812 §5
const (
	FEObject     uint32 = 1
	FEProtocol   uint32 = 2
	CoreInstance uint32 = 1
)
