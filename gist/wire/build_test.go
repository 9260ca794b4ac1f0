package wire

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// unhex reads annotated octets: everything after # on a line is comment, and
// blanks do not count.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		for _, f := range strings.Fields(line) {
			digits.WriteString(f)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

var testSID = SID{0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xbb}

var testMRI = MRI{
	Method: OffPath,
	Flow: Flow{
		Source: prefix("192.0.2.1/32"), Destination: prefix("198.51.100.0/24"),
		HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 5004,
		HasTraffic: true, DSCP: 46,
	},
	Egress: addr("203.0.113.1"), Ingress: addr("203.0.113.2"),
}

var testMRI6 = MRI{
	Upstream: true,
	Flow: Flow{
		Source: prefix("2001:db8:1::/48"), Destination: prefix("2001:db8:2::1/128"),
		HasProtocol: true, Protocol: 50, HasSPI: true, SPI: 0x01020304, HasLabel: true, FlowLabel: 0xabcde,
	},
}

var testNLI = NLI{PeerIdentity: []byte("qne1.as65001"), Address: addr("192.0.2.7"), ValidityMS: 600_000, IPTTL: 255}

var (
	testProposal = StackProposal{{ForwardsTLS, ForwardsTCP}, {ForwardsTCP}}
	askConfig    = StackConfig{HoldTimeMS: 30_000, Options: []MAOptions{{Protocol: ForwardsTCP, Data: []byte{}}}}
	answerConfig = StackConfig{HoldTimeMS: 40_000, Options: []MAOptions{
		{Protocol: ForwardsTCP, Profile: 1, Data: PortData(5271)},
		{Protocol: ForwardsTCP, Profile: 2, Data: PortData(5270)},
	}}
)

// sample returns a message of every type with all that it may have; each call
// makes new ones. In C-mode there is no Query and no NLI in Data.
func sample(kind MessageType, dmode bool) Message {
	m := Message{
		Header: Header{Version: Version1, HopCount: 30, NSLPID: 1, Type: kind, S: true},
		HasMRI: true, MRI: testMRI, HasSID: true, SID: testSID, HasNLI: true, NLI: testNLI,
	}
	switch kind {
	case Query:
		m.C, m.R = true, true
		m.QueryCookie = []byte("query-cookie")
		m.StackProposal = testProposal
		m.HasStackConfig, m.StackConfig = true, askConfig
		m.NSLPData = []byte("NSLP")
	case Response:
		m.R = true
		m.MRI.Upstream = true
		m.QueryCookie, m.ResponderCookie = []byte("query-cookie"), []byte("responder-cookie")
		m.StackProposal = testProposal
		m.HasStackConfig, m.StackConfig = true, answerConfig
	case Confirm:
		m.ResponderCookie = []byte("responder-cookie")
		m.StackProposal = testProposal
		m.HasStackConfig, m.StackConfig = true, StackConfig{HoldTimeMS: 30_000}
		m.NSLPData = []byte("data with the Confirm   ")
	case Data:
		m.MRI = testMRI6
		m.HasNLI = dmode
		if !dmode {
			m.NLI = NLI{}
		}
		m.NSLPData = []byte{}
	case Error:
		m.NSLPID = 0
		m.HasMRI, m.MRI, m.HasSID, m.SID = false, MRI{}, false, SID{}
		m.Error = &ErrorData{
			ID: InvalidObjectType, DMode: true, QMode: true, HasSID: true, SID: testSID, HasMRI: true, MRI: testMRI6,
			Header:  Header{Version: 1, HopCount: 2, Words: 77, NSLPID: 1, Type: Query, C: true, R: true},
			Info:    []AdditionalInfo{ObjectTypeInfo(ObjHelloID), MTUInfo(1400)},
			Comment: "no Hello-ID in a Query",
		}
	case MAHello:
		m = Message{Header: Header{Version: Version1, HopCount: 1, Type: kind, S: true, R: true}, HasHelloID: true, HelloID: 0xcafe}
	}
	return m
}

// modes are the encapsulations that a message type has.
func modes(kind MessageType) []bool {
	switch kind {
	case Query:
		return []bool{true}
	case MAHello:
		return []bool{false}
	}
	return []bool{false, true}
}

func appendMode(m *Message, dmode bool) []byte {
	if dmode {
		return m.AppendDatagram(nil)
	}
	return m.Append(nil)
}

func parseMode(b []byte, dmode bool) (Message, error) {
	if dmode {
		return ParseDatagram(b)
	}
	return Parse(b)
}

// forAll runs f for samples of every type and encapsulation.
func forAll(t *testing.T, f func(t *testing.T, m Message, dmode bool)) {
	for kind := Query; kind <= MAHello; kind++ {
		for _, dmode := range modes(kind) {
			name := kind.String() + " C-mode"
			if dmode {
				name = kind.String() + " D-mode"
			}
			t.Run(name, func(t *testing.T) { f(t, sample(kind, dmode), dmode) })
		}
	}
}

// wantError checks that err is a ParseError with id, and returns it.
func wantError(t testing.TB, err error, id ErrorID) *ParseError {
	t.Helper()
	var bad *ParseError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v, want a ParseError with %v", err, id)
	}
	if bad.Report.ID != id {
		t.Fatalf("error %v, want %v", err, id)
	}
	return bad
}

// same compares messages but for the length, which Append works out.
func same(a, b Message) bool {
	a.Words, b.Words = 0, 0
	return reflect.DeepEqual(a, b)
}
