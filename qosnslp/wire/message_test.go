package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
)

// octets reads annotated hexadecimal: what follows # on a line is a remark.
func octets(t testing.TB, s string) []byte {
	t.Helper()
	var hexa strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		hexa.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(hexa.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	sidA = gistwire.SID{0xa0, 15: 0xa1}
	sidB = gistwire.SID{0xb0, 15: 0xb1}
)

type golden struct {
	name string
	msg  Message
	hex  string
}

func goldens() []golden {
	return []golden{{
		name: "RESERVE with every object",
		msg: Message{Type: Reserve, MessageFlags: Replace, Flags: Break | Scoping,
			HasRSN: true, RSN: RSN{Number: 7, Epoch: 0x11223344},
			HasRII: true, RII: 0xcafe0001,
			HasRefreshPeriod: true, RefreshPeriod: 30000,
			BoundSessions: []BoundSession{{BindDependent, sidA}, {BindTunnel, sidB}},
			SessionIDs:    []gistwire.SID{sidA, sidB},
			HasRSNList:    true, RSNs: RSNList{Epoch: 5, RSNs: []uint32{1, 2}},
			HasMsgID: true, MsgID: MsgID{Bidirectional: true, ID: [16]byte{0xc0, 15: 0xc1}},
			HasInfoSpec: true, InfoSpec: InfoSpec{Class: ClassInformational, Code: UnknownListedSession},
			PacketClassifier: (ClassifySource | ClassifyDstPort).Append(nil),
			QSPEC:            []byte{0, 0, 0x10, 0},
			Objects: []Object{{Action: Forward, Type: DomainRecords, Value: []byte{1, 2, 3, 4}},
				{Action: Refresh, Type: 2047, Value: []byte{}}},
		},
		hex: `
			01 01 0009                       # RESERVE, R, B and S
			0002 0002 00000007 11223344      # RSN: number, epoch
			0001 0001 cafe0001               # RII
			0003 0001 00007530               # REFRESH-PERIOD: 30,000 ms
			0004 0005 00000004               # BOUND-SESSION-ID: dependent
			     a0000000 00000000 00000000 000000a1
			0004 0005 00000001               # BOUND-SESSION-ID: tunnel
			     b0000000 00000000 00000000 000000b1
			0007 0008                        # SESSION-ID-LIST of two
			     a0000000 00000000 00000000 000000a1
			     b0000000 00000000 00000000 000000b1
			0008 0003 00000005 00000001 00000002   # RSN-LIST: epoch, two RSNs
			0009 0005 00000001               # MSG-ID: D
			     c0000000 00000000 00000000 000000c1
			0006 0001 00 05 10 00            # INFO-SPEC: code 5, class 1, no source
			0005 0001 81 000000              # PACKET-CLASSIFIER: X and B
			000b 0001 00001000               # QSPEC
			87d0 0001 01020304               # DOMAIN-RECORDS, A/B = 10
			c7ff 0000                        # type 2047, A/B = 11, empty`,
	}, {
		name: "reduced refresh",
		msg:  Message{Type: Reserve, HasRSN: true, RSN: RSN{Number: 1, Epoch: 2}},
		hex:  `01 00 0000  0002 0002 00000001 00000002`,
	}, {
		name: "bound message",
		msg: Message{Type: Reserve, HasRSN: true, RSN: RSN{1, 2}, HasBoundMsgID: true,
			BoundMsgID: MsgID{ID: [16]byte{1}}},
		hex: `01 00 0000  0002 0002 00000001 00000002
			000a 0005 00000000 01000000 00000000 00000000 00000000`,
	}, {
		name: "TEAR",
		msg:  Message{Type: Reserve, MessageFlags: Tear, HasRSN: true, RSN: RSN{2, 3}, HasRII: true, RII: 9},
		hex:  `01 02 0000  0002 0002 00000002 00000003  0001 0001 00000009`,
	}, {
		name: "QUERY with two QSPECs",
		msg: Message{Type: Query, MessageFlags: ReserveInit, Flags: Proxy | AckReq, HasRII: true, RII: 1,
			PacketClassifier: []byte{0, 0, 0, 0}, HasInfoSpec: true,
			InfoSpec: InfoSpec{Class: ClassSuccess, Code: Acknowledgement},
			QSPEC:    []byte{1, 1, 1, 1}, QSPEC2: []byte{2, 2, 2, 2}},
		hex: `02 01 0006  0001 0001 00000001  0005 0001 00000000
			0006 0001 00 03 20 00  000b 0001 01010101  000b 0001 02020202`,
	}, {
		name: "RESPONSE with RII",
		msg: Message{Type: Response, Flags: Break, HasRII: true, RII: 0xcafe0001,
			HasInfoSpec: true, InfoSpec: InfoSpec{Class: ClassSuccess, Code: ReservationSuccessful,
				Source: SourceAddr(netip.MustParseAddr("127.3.0.1"))},
			QSPEC: []byte{9, 9, 9, 9}},
		hex: `03 00 0008  0001 0001 cafe0001
			0006 0002 00 01 21 01 7f030001   # class 2, code 1, IPv4, one word
			000b 0001 09090909`,
	}, {
		name: "RESPONSE about an error: RII and RSN",
		msg: Message{Type: Response, HasRII: true, RII: 1, HasRSN: true, RSN: RSN{4, 5},
			HasInfoSpec: true, InfoSpec: InfoSpec{Class: ClassProtocolError, Code: UnknownObject,
				Source: SourceAddr(netip.MustParseAddr("2001:db8::1")), Info: []byte{0x07, 0xf8, 0, 0}},
			SessionIDs: []gistwire.SID{sidA}},
		hex: `03 00 0000  0001 0001 00000001  0002 0002 00000004 00000005
			0006 0006 00 07 32 04 20010db8 00000000 00000000 00000001
			     07f8 0000                   # Object Type Info: type 2040
			0007 0004 a0000000 00000000 00000000 000000a1`,
	}, {
		name: "NOTIFY from a named node",
		msg: Message{Type: Notify, HasInfoSpec: true, InfoSpec: InfoSpec{Class: ClassTransientFailure,
			Code: PathTruncated, Source: SourceName("qne1.example")}},
		hex: `04 00 0000  0006 0004 00 08 43 03 716e6531 2e657861 6d706c65`,
	}}
}

// The golden octets of every kind of message, both ways, and of all objects, which
// "MUST be understood by all QNEs" (RFC 5974 §5.1.3). RFC 5974 §5.1.2, §5.1.2.1,
// §5.1.2.2, §5.1.2.3,
// §5.1.3.1, §5.1.3.2, §5.1.3.3, §5.1.3.4, §5.1.3.5, §5.1.3.6, §5.1.3.7,
// §5.1.3.8, §5.1.3.9, §5.1.3.10, §5.1.3.11
func TestGolden(t *testing.T) {
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			want := octets(t, g.hex)
			if got := g.msg.Append(nil); !bytes.Equal(got, want) {
				t.Errorf("Append:\n got %x\nwant %x", got, want)
			}
			m, err := Parse(want)
			if err != nil {
				t.Fatal(err)
			}
			if !same(&m, &g.msg) {
				t.Errorf("Parse:\n got %+v\nwant %+v", m, g.msg)
			}
		})
	}
}

// same compares messages field by field; nil and empty slices are one.
func same(a, b *Message) bool {
	eqObjects := slices.EqualFunc(a.Objects, b.Objects, func(x, y Object) bool {
		return x.Action == y.Action && x.Type == y.Type && bytes.Equal(x.Value, y.Value)
	})
	eqInfo := a.InfoSpec.Class == b.InfoSpec.Class && a.InfoSpec.Code == b.InfoSpec.Code &&
		a.InfoSpec.Source.Type == b.InfoSpec.Source.Type && bytes.Equal(a.InfoSpec.Source.ID, b.InfoSpec.Source.ID) &&
		bytes.Equal(a.InfoSpec.Info, b.InfoSpec.Info)
	return eqObjects && eqInfo && a.Type == b.Type && a.MessageFlags == b.MessageFlags && a.Flags == b.Flags &&
		a.HasRSN == b.HasRSN && a.RSN == b.RSN && a.HasRII == b.HasRII && a.RII == b.RII &&
		a.HasRefreshPeriod == b.HasRefreshPeriod && a.RefreshPeriod == b.RefreshPeriod &&
		slices.Equal(a.BoundSessions, b.BoundSessions) && slices.Equal(a.SessionIDs, b.SessionIDs) &&
		a.HasRSNList == b.HasRSNList && a.RSNs.Epoch == b.RSNs.Epoch && slices.Equal(a.RSNs.RSNs, b.RSNs.RSNs) &&
		a.HasMsgID == b.HasMsgID && a.MsgID == b.MsgID && a.HasBoundMsgID == b.HasBoundMsgID && a.BoundMsgID == b.BoundMsgID &&
		a.HasInfoSpec == b.HasInfoSpec && bytes.Equal(a.PacketClassifier, b.PacketClassifier) &&
		bytes.Equal(a.QSPEC, b.QSPEC) && (a.QSPEC == nil) == (b.QSPEC == nil) && bytes.Equal(a.QSPEC2, b.QSPEC2)
}

// "An implementation … MUST accept the objects in any order." RFC 5974 §5.1
func TestAnyOrder(t *testing.T) {
	for _, g := range goldens() {
		b := octets(t, g.hex)
		var parts [][]byte
		for at, o := range Objects(b) {
			parts = append(parts, b[at:at+ObjectHeaderLen+len(o.Value)])
		}
		if g.msg.QSPEC2 != nil || len(g.msg.BoundSessions) > 1 || len(g.msg.Objects) > 1 {
			// Of several of one type the order counts: turn, don't reverse.
			parts = append(slices.Clone(parts[1:]), parts[0])
		} else {
			slices.Reverse(parts)
		}
		m, err := Parse(append(slices.Clone(b[:HeaderLen]), slices.Concat(parts...)...))
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%s: came out differently", g.name)
		}
	}
}

// Bits that are not defined "MUST be ignored on receiving" (RFC 5974 §5.1.1),
// reserved ones of objects too (§5.1.3).
func TestReservedBitsIgnored(t *testing.T) {
	b := octets(t, goldens()[0].hex)
	want := slices.Clone(b)
	b[1] |= 0xfc
	b[2], b[3] = 0xff, b[3]|0xf0
	for at, o := range Objects(b) {
		b[at] |= 0x30
		b[at+2] |= 0xf0
		switch o.Type {
		case TypeBoundSessionID, TypeMsgID:
			b[at+4] = 0xff
		case TypeInfoSpec:
			b[at+4] = 0xff
		}
	}
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}

// A message cut short anywhere is an error, never a panic; where the cut falls
// between objects, an error only if what is left is not a message.
func TestTruncation(t *testing.T) {
	for _, g := range goldens() {
		b := octets(t, g.hex)
		border := map[int]bool{HeaderLen: true}
		for at, o := range Objects(b) {
			border[at+ObjectHeaderLen+len(o.Value)] = true
		}
		for n := range len(b) {
			_, err := Parse(b[:n:n])
			var pe *ParseError
			if err != nil && !errors.As(err, &pe) {
				t.Fatalf("%s cut at %d: %v is no ParseError", g.name, n, err)
			}
			if !border[n] && err == nil {
				t.Errorf("%s cut at %d: no error", g.name, n)
			}
			if border[n] == (CheckObjects(b[:n]) != nil) {
				t.Errorf("%s cut at %d: CheckObjects says %v", g.name, n, CheckObjects(b[:n]))
			}
		}
	}
}

// What is wrong with a message, as the error RESPONSE tells it. RFC 5974
// §5.1.1, §5.1.3.6, §5.1.3.11, §5.3.5, §5.3.7. Of binding codes "Value 0 is reserved." RFC 5974 §6.3
func TestParseErrors(t *testing.T) {
	const rsn = "0002 0002 00000001 00000002"
	for _, c := range []struct {
		name, hex string
		code      uint8
		typ       ObjectType
		info      string
	}{
		{"type 0", "00 00 0000", IllegalMessageType, 0, ""},
		{"type 5", "05 00 0000", IllegalMessageType, 0, ""},
		{"no RSN", "01 00 0000 0001 0001 00000001", MissingObject, TypeRSN, "0002 0000"},
		{"no QSPEC in QUERY", "02 00 0000 0001 0001 00000001", MissingObject, TypeQSPEC, "000b 0000"},
		{"no INFO-SPEC in RESPONSE", "03 00 0000 0001 0001 00000001", MissingObject, TypeInfoSpec, "0006 0000"},
		{"no INFO-SPEC in NOTIFY", "04 00 0000", MissingObject, TypeInfoSpec, "0006 0000"},
		{"REFRESH-PERIOD in RESPONSE", "03 00 0000 0006 0001 00012000 0003 0001 00000001", IllegalObject, TypeRefreshPeriod, "0003 0000"},
		{"classifier without QSPEC", "01 00 0000 " + rsn + "0005 0001 00000000", IllegalObject, TypePacketClassifier, "0005 0000"},
		{"RSN-LIST alone", "01 00 0000 " + rsn + "0008 0002 00000000 00000001", IllegalObject, TypeRSNList, "0008 0000"},
		{"lists of different length", "01 00 0000 " + rsn + "0007 0004" + strings.Repeat("00", 16) + "0008 0003 00000000 00000001 00000002", ErroneousValue, TypeRSNList, ""},
		{"both message ids", "01 00 0000 " + rsn + "0009 0005" + strings.Repeat("00", 20) + "000a 0005" + strings.Repeat("00", 20), IllegalObject, TypeBoundMsgID, "000a 0000"},
		{"unknown mandatory object", "01 00 0000 " + rsn + "07f8 0000", UnknownObject, 0x7f8, "07f8 0000"},
		{"type 0 object", "01 00 0000 " + rsn + "0000 0000", UnknownObject, 0, "0000 0000"},
		{"two RSNs", "01 00 0000 " + rsn + rsn, DuplicateObject, TypeRSN, "0002 0000"},
		{"three QSPECs", "02 00 0000 000b 0001 01010101 000b 0001 01010101 000b 0001 01010101", DuplicateObject, TypeQSPEC, "000b 0000"},
		{"two QSPECs in RESERVE", "01 00 0000 " + rsn + "000b 0001 01010101 000b 0001 01010101", DuplicateObject, TypeQSPEC, "000b 0000"},
		{"long RII", "01 00 0000 " + rsn + "0001 0002 00000001 00000002", WrongObjectLength, TypeRII, "0003 0000 0001 0002 00000001 00000002"},
		{"short RSN", "01 00 0000 0002 0001 00000001", WrongObjectLength, TypeRSN, "0002 0000 0002 0001 00000001"},
		{"empty QSPEC", "01 00 0000 " + rsn + "000b 0000", WrongObjectLength, TypeQSPEC, "0001 0000 000b 0000"},
		{"long period", "01 00 0000 " + rsn + "0003 0000", WrongObjectLength, TypeRefreshPeriod, "0001 0000 0003 0000"},
		{"odd BOUND-SESSION-ID", "01 00 0000 " + rsn + "0004 0001 00000001", WrongObjectLength, TypeBoundSessionID, "0002 0000 0004 0001 00000001"},
		{"binding code 0", "01 00 0000 " + rsn + "0004 0005 00000000" + strings.Repeat("11", 16), UnknownFieldValue, TypeBoundSessionID, "0006 0000 0004 0005 00000000" + strings.Repeat("11", 16)},
		{"odd list", "01 00 0000 " + rsn + "0007 0001 00000001", WrongObjectLength, TypeSessionIDList, "0002 0000 0007 0001 00000001"},
		{"RSN-LIST without RSNs", "01 00 0000 " + rsn + "0008 0001 00000001", WrongObjectLength, TypeRSNList, "0002 0000 0008 0001 00000001"},
		{"short MSG-ID", "01 00 0000 " + rsn + "0009 0001 00000001", WrongObjectLength, TypeMsgID, "0002 0000 0009 0001 00000001"},
		{"empty INFO-SPEC", "04 00 0000 0006 0000", WrongObjectLength, TypeInfoSpec, "0001 0000 0006 0000"},
		{"ESI-Length too large", "04 00 0000 0006 0001 00012101", WrongObjectLength, TypeInfoSpec, "0002 0000 0006 0001 00012101"},
		{"object past the end", "01 00 0000 " + rsn + "0001 0002 00000001", WrongObjectLength, TypeRII, "0002 0000 0001 0002 00000001"},
		{"half a header", "01 00 0000 " + rsn + "0001", WrongMessageLength, 0, ""},
		{"half a common header", "01 00", WrongMessageLength, 0, ""},
	} {
		_, err := Parse(octets(t, c.hex))
		var pe *ParseError
		if !errors.As(err, &pe) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		i := pe.InfoSpec(ErrorSource{})
		if pe.Code != c.code || pe.Type != c.typ || i.Class != ClassProtocolError || i.Code != c.code || !bytes.Equal(i.Info, octets(t, c.info)) {
			t.Errorf("%s: code 0x%02x, %v, info %x: %v", c.name, pe.Code, pe.Type, i.Info, err)
		}
		if c.name == "object past the end" && !errors.Is(err, tlv.ErrTruncated) {
			t.Errorf("%s: %v does not wrap the cause", c.name, err)
		}
	}
}

// What could be read of a bad message is returned: "the RII and RSN, if
// available, MUST be included in the RESPONSE". RFC 5974 §5.4.3
func TestParseReturnsWhatItRead(t *testing.T) {
	m, err := Parse(octets(t, `01 00 0000  07f8 0000  0002 0002 00000001 00000002  0001 0001 00000009`))
	if err == nil || !m.HasRSN || !m.HasRII || m.RII != 9 || m.RSN != (RSN{1, 2}) {
		t.Errorf("%v: %+v", err, m)
	}
}

// AB=01: "If the object is not understood, it MUST be deleted". RFC 5974 §5.1.3
func TestIgnoredObjectIsDeleted(t *testing.T) {
	m, err := Parse(octets(t, `01 00 0000 0002 0002 00000001 00000002 47f8 0001 01020304 87f9 0000`))
	if err != nil || len(m.Objects) != 1 || m.Objects[0].Type != 0x7f9 || m.Objects[0].Action != Forward {
		t.Errorf("%v: %v", err, m.Objects)
	}
}

// SESSION_AUTH is known, whatever its A/B bits, and stays as it is.
func TestSessionAuthKept(t *testing.T) {
	for _, action := range []string{"00", "40", "80", "c0"} {
		b := octets(t, "01 00 0000 0002 0002 00000001 00000002"+action+"16 0001 01020304")
		m, err := Parse(b)
		if err != nil || len(m.Objects) != 1 || !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%s: %v %v", action, err, m.Objects)
		}
	}
}

// Serial number arithmetic. RFC 1982 §3.2, RFC 5974 §5.3.1
func TestCompareSerial(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want Order
	}{
		{0, 0, Same}, {1, 0, Newer}, {0, 1, Older}, {0, 0xffffffff, Newer}, {0xffffffff, 0, Older},
		{0x7fffffff, 0, Newer}, {0x80000000, 0, Incomparable}, {0, 0x80000000, Incomparable},
		{0x80000001, 0, Older}, {100, 0x80000064, Incomparable},
	} {
		if got := CompareSerial(c.a, c.b); got != c.want {
			t.Errorf("CompareSerial(%#x, %#x) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// Objects and AppendObject, as what signs messages uses them.
func TestObjects(t *testing.T) {
	b := octets(t, goldens()[3].hex)
	n := len(b)
	b = AppendObject(b, Forward, TypeSessionAuth, []byte{1, 2, 3, 4, 5}) // padded
	var at int
	var found Object
	for i, o := range Objects(b) {
		if o.Type == TypeSessionAuth {
			at, found = i, o
		}
	}
	if at != n || found.Action != Forward || !bytes.Equal(found.Value, []byte{1, 2, 3, 4, 5, 0, 0, 0}) || len(b) != n+12 {
		t.Errorf("at %d: %v", at, found)
	}
	for range Objects(b) {
		break // stopping early is fine
	}
	for i := range Objects([]byte{1, 0}) {
		t.Errorf("object at %d of half a header", i)
	}
}

// The numbers that IANA assigned, and which objects there are. RFC 5974 §6.1, §6.2, §6.4,
// §6.5, §5.1.3
func TestAssignedNumbers(t *testing.T) {
	names := []string{"", "RII", "RSN", "REFRESH-PERIOD", "BOUND-SESSION-ID", "PACKET-CLASSIFIER", "INFO-SPEC",
		"SESSION-ID-LIST", "RSN-LIST", "MSG-ID", "BOUND-MSG-ID", "QSPEC"}
	for i, name := range names[1:] {
		if typ := ObjectType(i + 1); typ.String() != name || !typ.Known() {
			t.Errorf("object type %d is %v, want %s", i+1, typ, name)
		}
	}
	for i, name := range []string{"RESERVE", "QUERY", "RESPONSE", "NOTIFY"} {
		if typ := MessageType(i + 1); typ.String() != name {
			t.Errorf("message type %d is %v, want %s", i+1, typ, name)
		}
	}
	for i, name := range []string{"informational", "success", "protocol error", "transient failure", "permanent failure", "QoS model error"} {
		if c := ErrorClass(i + 1); c.String() != name {
			t.Errorf("error class %d is %v, want %s", i+1, c, name)
		}
	}
	for _, typ := range []ObjectType{0, 0x00c, 0x015, 1999, 2001, 4095} {
		if typ.Known() {
			t.Errorf("object type %d is known", typ)
		}
	}
	for addr, want := range map[string]ErrorSourceType{"192.0.2.1": 1, "2001:db8::1": 2} {
		if s := SourceAddr(netip.MustParseAddr(addr)); s.Type != want {
			t.Errorf("%s has type %d, want %d", addr, s.Type, want)
		}
	}
	if s := SourceName("qne.example"); s.Type != 3 || len(s.ID) != 12 {
		t.Errorf("a name has type %d and %d octets", s.Type, len(s.ID))
	}
}

// Every code has a text, every class a name.
func TestTexts(t *testing.T) {
	for class, codes := range codeTexts {
		for code, text := range codes {
			if CodeText(class, code) != text || text == "" {
				t.Errorf("%v %d: %q", class, code, CodeText(class, code))
			}
		}
	}
	for got, want := range map[string]string{
		InfoSpec{Class: 6, Code: 64, Source: SourceAddr(netip.MustParseAddr("127.0.0.1"))}.String(): "6/0x40 no SLS covers the request (from 127.0.0.1)",
		InfoSpec{Class: 7, Code: 1}.String():                    "7/0x01 signaling session failure, code 0x01",
		InfoSpec{Class: 9, Source: SourceName("a.b")}.String():  `9/0x00 class 9, code 0x00 (from "a.b")`,
		ErrorSource{Type: 14, ID: []byte{1}}.String():           "type 14 01",
		ObjectType(2040).String():                               "object 0x7f8",
		TypeBoundMsgID.String() + " " + DomainRecords.String():  "BOUND-MSG-ID DOMAIN-RECORDS",
		MessageType(1).String() + " " + MessageType(9).String(): "RESERVE message type 9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// An INFO-SPEC longer than an object can be is cut, not a panic.
func TestInfoSpecTooLong(t *testing.T) {
	m := Message{Type: Notify, HasInfoSpec: true, InfoSpec: InfoSpec{Class: 4, Code: 7,
		Source: ErrorSource{Type: SourceFQDN, ID: make([]byte, 5000)}, Info: make([]byte, 40000)}}
	if _, err := Parse(m.Append(nil)); err != nil {
		t.Error(err)
	}
}
