package wire

import (
	"fmt"
	"testing"
)

// The names that RFC 5810 registers, in the order of the numbers: a name where
// the number is assigned, the number where it is not. RFC 5810 §A.1, §A.2, §A.5
func TestRegisteredNames(t *testing.T) {
	for number, want := range map[MessageType]string{
		0x01: "AssociationSetup", 0x02: "AssociationTeardown", 0x03: "Config", 0x04: "Query", 0x05: "EventNotification",
		0x06: "PacketRedirect", 0x0f: "Heartbeat", 0x11: "AssociationSetupResponse", 0x13: "ConfigResponse", 0x14: "QueryResponse",
		0x00: "message type 0x00", 0x07: "message type 0x07", 0x12: "message type 0x12", 0x80: "message type 0x80",
	} {
		if got := number.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint8(number), got, want)
		}
		if number.known() != (want != fmt.Sprintf("message type %#02x", uint8(number))) {
			t.Errorf("%v: known %v", number, number.known())
		}
	}
	for i, want := range []string{
		"operation 0x0000", "SET", "SET-PROP", "SET-RESPONSE", "SET-PROP-RESPONSE", "DEL", "DEL-RESPONSE", "GET", "GET-PROP", "GET-RESPONSE",
		"GET-PROP-RESPONSE", "REPORT", "COMMIT", "COMMIT-RESPONSE", "TRCOMP", "operation 0x000f",
	} {
		if got := OperType(i).String(); got != want {
			t.Errorf("%#x: %q, want %q", i, got, want)
		}
	}
	for i, want := range []string{
		"E_SUCCESS", "E_INVALID_HEADER", "E_LENGTH_MISMATCH", "E_VERSION_MISMATCH", "E_INVALID_DESTINATION_PID", "E_LFB_UNKNOWN",
		"E_LFB_NOT_FOUND", "E_LFB_INSTANCE_ID_NOT_FOUND", "E_INVALID_PATH", "E_COMPONENT_DOES_NOT_EXIST", "E_EXISTS", "E_NOT_FOUND",
		"E_READ_ONLY", "E_INVALID_ARRAY_CREATION", "E_VALUE_OUT_OF_RANGE", "E_CONTENTS_TOO_LONG", "E_INVALID_PARAMETERS",
		"E_INVALID_MESSAGE_TYPE", "E_INVALID_FLAGS", "E_INVALID_TLV", "E_EVENT_ERROR", "E_NOT_SUPPORTED", "E_MEMORY_ERROR", "E_INTERNAL_ERROR",
	} {
		if got := ResultCode(i).String(); got != want {
			t.Errorf("%#x: %q, want %q", i, got, want)
		}
	}
	if got := ResultCode(0xff).String(); got != "E_UNSPECIFIED_ERROR" {
		t.Errorf("0xff: %q", got)
	}
}

// The numbers inside messages that have no names of their own on the wire.
func TestRegisteredNumbers(t *testing.T) {
	for section, c := range map[string][][2]uint64{
		"RFC 5810 §A.4": {
			{uint64(tlvRedirect), 0x0001}, {uint64(tlvASResult), 0x0010}, {uint64(tlvASTReason), 0x0011}, {uint64(tlvLFBSelect), 0x1000},
			{uint64(tlvPathData), 0x0110}, {uint64(tlvKeyInfo), 0x0111}, {uint64(tlvFullData), 0x0112}, {uint64(tlvSparseData), 0x0113},
			{uint64(tlvResult), 0x0114}, {uint64(tlvMetadata), 0x0115}, {uint64(tlvRedirectData), 0x0116},
		},
		"RFC 5810 §A.6": {{uint64(SetupSuccess), 0}, {uint64(SetupFEIDInvalid), 1}, {uint64(SetupPermissionDenied), 2}},
		"RFC 5810 §A.7": {
			{uint64(TeardownNormal), 0}, {uint64(TeardownHeartbeatsLost), 1}, {uint64(TeardownOutOfBandwidth), 2},
			{uint64(TeardownOutOfMemory), 3}, {uint64(TeardownCrash), 4}, {uint64(TeardownUnspecified), 0xff},
		},
		"RFC 5810 §7.3, RFC 5812 §5": {{uint64(FEObject), 1}, {uint64(FEProtocol), 2}, {uint64(CoreInstance), 1}},
	} {
		for i, v := range c {
			if v[0] != v[1] {
				t.Errorf("%s, the one at %d: %#x, want %#x", section, i, v[0], v[1])
			}
		}
	}
}

// The execution modes and the phases of a transaction as they stand in the flags;
// mode 0 is reserved. RFC 5810 §4.3.1.1, §4.3.1.2.2
func TestModesAndPhases(t *testing.T) {
	for f, want := range map[Flags]uint32{
		{Mode: ExecuteAllOrNone}:                              0x00400000,
		{Mode: ExecuteUntilFailure}:                           0x00800000,
		{Mode: ContinueExecuteOnFailure}:                      0x00c00000,
		{Mode: ExecuteAllOrNone, Atomic: true}:                0x00600000,
		{Atomic: true, Phase: MiddleOfTransaction, Mode: 1}:   0x00680000,
		{Atomic: true, Phase: EndOfTransaction, Mode: 1}:      0x00700000,
		{Atomic: true, Phase: AbortTransaction, Mode: 1}:      0x00780000,
		{Atomic: true, Phase: StartOfTransaction, Mode: 1}:    0x00600000,
		{Mode: ExecuteAllOrNone, Priority: NormalPriority}:    0x08400000,
		{Mode: ExecuteAllOrNone, ACK: AlwaysACK, Priority: 7}: 0xf8400000,
	} {
		b := encode(t, Message{Header: header(Heartbeat, ce, fe, 1, f)})
		if got := uint32(b[20])<<24 | uint32(b[21])<<16 | uint32(b[22])<<8 | uint32(b[23]); got != want {
			t.Errorf("%+v: %08x, want %08x", f, got, want)
		}
		if m, err := Parse(b); err != nil || m.Flags != f {
			t.Errorf("%08x: %+v, %v", want, m.Flags, err)
		}
	}
}
