package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// RFC 5971 §A.4.4, the catalogue: class (RFC 5971 §A.4.3), code and subcode as
// it lists them.
func TestErrorCatalogue(t *testing.T) {
	want := []struct {
		id      ErrorID
		class   ErrorClass
		code    uint16
		subcode uint8
		name    string
	}{
		{UnknownVersion, ProtocolError, 1, 0, "Unknown Version"},
		{UnknownType, ProtocolError, 1, 1, "Unknown Type"},
		{InvalidRFlag, ProtocolError, 1, 2, "Invalid R-flag"},
		{IncorrectMessageLength, ProtocolError, 1, 3, "Incorrect Message Length"},
		{InvalidEFlag, ProtocolError, 1, 4, "Invalid E-flag"},
		{InvalidCFlag, ProtocolError, 1, 5, "Invalid C-flag"},
		// RFC 5971 §A.4.4.2
		{HopLimitExceeded, PermanentFailure, 2, 0, "Hop Limit Exceeded"},
		// RFC 5971 §A.4.4.3
		{IncorrectEncapsulation, ProtocolError, 3, 0, "Incorrect Encapsulation"},
		// RFC 5971 §A.4.4.4
		{IncorrectlyDelivered, ProtocolError, 4, 0, "Incorrectly Delivered Message"},
		// RFC 5971 §A.4.4.5
		{NoRoutingState, ProtocolError, 5, 0, "No Routing State"},
		// RFC 5971 §A.4.4.6
		{UnknownNSLPID, PermanentFailure, 6, 0, "Unknown NSLPID"},
		// RFC 5971 §A.4.4.7
		{EndpointFound, PermanentFailure, 7, 0, "Endpoint Found"},
		// RFC 5971 §A.4.4.8
		{MessageTooLarge, PermanentFailure, 8, 0, "Message Too Large"},
		// RFC 5971 §A.4.4.9
		{DuplicateObject, ProtocolError, 9, 0, "Duplicate Object"},
		{UnrecognisedObject, ProtocolError, 9, 1, "Unrecognised Object"},
		{MissingObject, ProtocolError, 9, 2, "Missing Object"},
		{InvalidObjectType, ProtocolError, 9, 3, "Invalid Object Type"},
		{UntranslatedObject, ProtocolError, 9, 4, "Untranslated Object"},
		{InvalidExtensibilityFlags, ProtocolError, 9, 5, "Invalid Extensibility Flags"},
		// RFC 5971 §A.4.4.10
		{IncorrectLength, ProtocolError, 10, 0, "Incorrect Length"},
		{ValueNotSupported, ProtocolError, 10, 1, "Value Not Supported"},
		{InvalidFlagFieldCombination, ProtocolError, 10, 2, "Invalid Flag-Field Combination"},
		{EmptyList, ProtocolError, 10, 3, "Empty List"},
		{InvalidCookie, ProtocolError, 10, 4, "Invalid Cookie"},
		{StackMismatch, ProtocolError, 10, 5, "Stack-Proposal - Stack-Configuration-Data Mismatch"},
		// RFC 5971 §A.4.4.11
		{InvalidIPTTL, PermanentFailure, 11, 0, "Invalid IP-Layer TTL"},
		// RFC 5971 §A.4.4.12
		{MRITooWild, PermanentFailure, 12, 0, "MRI Too Wild"},
		{IPVersionMismatch, PermanentFailure, 12, 1, "IP Version Mismatch"},
		{IngressFilterFailure, PermanentFailure, 12, 2, "Ingress Filter Failure"},
	}
	for _, w := range want {
		if w.id.Class() != w.class || w.id.Code() != w.code || w.id.Subcode() != w.subcode || !strings.HasSuffix(w.id.String(), w.name) {
			t.Errorf("%v: class %d, code %d, subcode %d; want %d, %d, %d, %q",
				w.id, w.id.Class(), w.id.Code(), w.id.Subcode(), w.class, w.code, w.subcode, w.name)
		}
	}
	if len(errorNames) != len(want) {
		t.Errorf("%d errors have names, want %d", len(errorNames), len(want))
	}
	if got := ErrorID(0x01_0203_04).String(); got != "GIST error class 1 code 515 subcode 4" {
		t.Errorf("unknown error: %q", got)
	}
}

// RFC 5971 §9: the numbers of message and object types.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		MAHello.String(): "MA-Hello", MessageType(77).String(): "message type 77",
		ObjSID.String(): "Session-Identifier", ObjHelloID.String(): "Hello-ID", ObjectType(2000).String(): "object type 2000",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// RFC 5971 §A.3.1: a method has a name, one that is not known its number.
func TestMRMNames(t *testing.T) {
	for m, want := range map[MRM]string{PathCoupled: "Path-Coupled", LooseEnd: "Loose-End", OffPath: "Off-Path", 99: "MRM 99"} {
		if got := m.String(); got != want {
			t.Errorf("%d: %q, want %q", m, got, want)
		}
	}
}

// RFC 5971 §A.4.2: every AI-Type has a format of its own.
func TestAdditionalInfoRefusesWhatItIsNot(t *testing.T) {
	length := MessageLengthInfo(7)
	if _, _, ok := length.Object(); ok {
		t.Error("Message Length Info gave an object")
	}
	value := ObjectValueInfo(make([]byte, 3000), 2999)
	if _, ok := value.Number(); ok {
		t.Error("Object Value Info gave a number")
	}
	if obj, at, ok := value.Object(); !ok || len(obj) != MaxErrorObject || at != 2999 {
		t.Errorf("object of %d octets at %d, want %d at 2999", len(obj), at, MaxErrorObject)
	}
	value.Value[1] = 0xff // more than there is
	if _, _, ok := value.Object(); ok {
		t.Error("an object longer than the field")
	}
}

// RFC 5971 §A.3.5: options apply to one profile; "the special value 0 indicates
// 'applies to all profiles'".
func TestStackConfigLookup(t *testing.T) {
	c := StackConfig{Options: []MAOptions{
		{Protocol: ForwardsTCP, Data: PortData(1)},
		{Protocol: ForwardsTCP, Profile: 2, Data: PortData(2)},
		{Protocol: 3, Profile: 1},
	}}
	for _, w := range []struct {
		protocol byte
		profile  int
		port     uint16
		ok       bool
	}{{ForwardsTCP, 1, 1, true}, {ForwardsTCP, 2, 2, true}, {3, 1, 0, true}, {3, 2, 0, false}, {ForwardsTLS, 1, 0, false}} {
		o, ok := c.Lookup(w.protocol, w.profile)
		if port, _ := o.Port(); ok != w.ok || port != w.port {
			t.Errorf("protocol %d in profile %d: port %d, %v; want %d, %v", w.protocol, w.profile, port, ok, w.port, w.ok)
		}
	}
	if _, ok := (&MAOptions{Data: []byte{1}}).Port(); ok {
		t.Error("one octet gave a port")
	}
}

func TestStackProposalEqual(t *testing.T) {
	for _, c := range []struct {
		other StackProposal
		want  bool
	}{
		{StackProposal{{2, 1}, {1}}, true},
		{StackProposal{{1}, {2, 1}}, false},
		{StackProposal{{2, 1}}, false},
		{StackProposal{{2, 1}, {1, 1}}, false},
		{nil, false},
	} {
		if got := testProposal.Equal(c.other); got != c.want {
			t.Errorf("%v: %v, want %v", c.other, got, c.want)
		}
	}
}

func TestDisabledOptionNeedsNoPort(t *testing.T) {
	m := sample(Response, true)
	m.StackConfig = StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP, Disabled: true, Data: []byte{}}}}
	got, err := ParseDatagram(m.AppendDatagram(nil))
	if err != nil || !got.StackConfig.Options[0].Disabled {
		t.Errorf("options %+v, %v; want the D-flag", got.StackConfig.Options, err)
	}
}

// Values are padded to whole words by Append (RFC 5971 §A.2).
func TestAppendPads(t *testing.T) {
	m := sample(Data, false)
	m.NSLPData = []byte("12345")
	got, err := Parse(m.Append(nil))
	if err != nil || string(got.NSLPData) != "12345\x00\x00\x00" {
		t.Errorf("NSLP data %q, %v", got.NSLPData, err)
	}
}

func TestVersionAndIdentityOfAppendedMessages(t *testing.T) {
	m := sample(Confirm, true)
	m.Version = 0
	m.NLI.PeerIdentity = make([]byte, 300)
	got, err := ParseDatagram(m.AppendDatagram(nil))
	if err != nil || got.Version != Version1 || len(got.NLI.PeerIdentity) != MaxPeerIdentity {
		t.Errorf("version %d, identity of %d octets, %v; want 1 and 255", got.Version, len(got.NLI.PeerIdentity), err)
	}
}

// Decoding into the same Message again keeps nothing of the message before.
func TestDecodeAgain(t *testing.T) {
	var m Message
	for _, kind := range []MessageType{Query, MAHello, Response, Error, Data, Confirm} {
		dmode := kind == Query
		want := sample(kind, dmode)
		b := appendMode(&want, dmode)
		err := error(nil)
		if dmode {
			err = m.DecodeDatagram(b)
		} else {
			err = m.Decode(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := m
		got.StackProposal = slices.Clip(got.StackProposal)
		if len(got.StackProposal) == 0 {
			got.StackProposal = nil
		}
		if len(got.StackConfig.Options) == 0 {
			got.StackConfig.Options = nil
		}
		if len(got.Unknown) == 0 {
			got.Unknown = nil
		}
		if !same(got, want) {
			t.Errorf("%v:\n got %+v\nwant %+v", kind, got, want)
		}
	}
	if err := m.Decode([]byte{1, 2, 3}); !errors.Is(err, ErrShort) || m.HasSID || m.NSLPData != nil {
		t.Errorf("after a short message: %v, %+v; want nothing left", err, m)
	}
}

func TestParseAliasesItsInput(t *testing.T) {
	m := sample(Data, false)
	m.NSLPData = []byte("before")
	b := m.Append(nil)
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	copy(b[len(b)-8:], "behind")
	if string(got.NSLPData) != "behind\x00\x00" {
		t.Errorf("NSLP data %q, want it to alias the input", got.NSLPData)
	}
	if cap(got.NSLPData) != len(got.NSLPData) {
		t.Error("appending to NSLP data would write behind it")
	}
}

func TestDecodeAndAppendAllocateNothing(t *testing.T) {
	for kind := Query; kind <= MAHello; kind++ {
		if kind == Error {
			continue // rare: ErrorData is allocated
		}
		dmode := kind == Query
		s := sample(kind, dmode)
		b := appendMode(&s, dmode)
		var m Message
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if dmode {
				err = m.DecodeDatagram(b)
			} else {
				err = m.Decode(b)
			}
			if err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations to decode, want none", kind, n)
		}
		out := make([]byte, 0, 1024)
		if n := testing.AllocsPerRun(100, func() { out = s.AppendDatagram(out[:0]) }); n > 0 {
			t.Errorf("%v: %v allocations to append, want none", kind, n)
		}
	}
}
