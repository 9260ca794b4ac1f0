package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand"
	"strings"
	"testing"
)

// object is one TLV object of a test message, with any flags.
type object struct {
	ab    uint8
	t     ObjectType
	value []byte
}

// objectsOf takes an encoded C-mode message apart.
func objectsOf(b []byte) []object {
	var list []object
	for off := HeaderLen; off < len(b); {
		head := binary.BigEndian.Uint32(b[off:])
		n := 4 * int(head&lengthMask)
		list = append(list, object{uint8(head >> 30), ObjectType(head >> 16 & typeMask), b[off+4 : off+4+n]})
		off += 4 + n
	}
	return list
}

// assemble puts header and objects together, the length made right.
func assemble(header []byte, list []object) []byte {
	b := append([]byte(nil), header[:HeaderLen]...)
	for _, o := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(o.ab)<<14|uint16(o.t))
		b = binary.BigEndian.AppendUint16(b, uint16(len(o.value)/4))
		b = append(b, o.value...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16((len(b)-HeaderLen)/4))
	return b
}

func withMagic(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, MagicNumber), b...)
}

func parseAs(b []byte, dmode bool) (Message, error) {
	if dmode {
		b = withMagic(b)
	}
	return parseMode(b, dmode)
}

// RFC 5971 §5.3.1: "If the magic number is not present, the message MUST be
// silently dropped."
func TestDatagramWithoutMagicNumber(t *testing.T) {
	m := sample(Query, true)
	for _, b := range [][]byte{nil, {0x4e, 4, 0xbd}, m.Append(nil), {0x4e, 4, 0xbd, 0xa4, 1, 1, 0, 0, 0, 0, 5, 0}} {
		if _, err := ParseDatagram(b); !errors.Is(err, ErrNotGIST) {
			t.Errorf("% x: %v, want ErrNotGIST", b[:min(len(b), 4)], err)
		}
	}
	if _, err := ParseDatagram([]byte{0x4e, 4, 0xbd, 0xa5, 1}); !errors.Is(err, ErrShort) {
		t.Errorf("one octet of header: %v, want ErrShort", err)
	}
}

func TestTruncationAtEveryOctet(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := appendMode(&m, dmode)
		start := 0
		if dmode {
			start = MagicLen
		}
		for cut := range whole {
			b := append([]byte(nil), whole[:cut]...)
			_, err := parseMode(b, dmode)
			if err == nil {
				t.Fatalf("cut to %d of %d octets: no error", cut, len(whole))
			}
			if cut < start+HeaderLen {
				continue
			}
			wantError(t, err, IncorrectMessageLength)
			// The same with the header's length made to fit.
			if (cut-start)%4 == 0 {
				binary.BigEndian.PutUint16(b[start+2:], uint16((cut-start-HeaderLen)/4))
				var bad *ParseError
				if _, err := parseMode(b, dmode); err != nil && !errors.As(err, &bad) {
					t.Errorf("cut to %d octets, length %d: %v, want a ParseError", cut, b[start+3], err)
				}
			}
		}
		if _, err := parseMode(append(whole, 0, 0, 0, 0), dmode); err == nil {
			t.Error("four octets too many: no error")
		}
	})
}

// RFC 5971 §A.1 and §A.4.4.1: unknown Version or Type, inconsistent C-, R- or
// E-flag.
func TestCommonHeaderParseErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   MessageType
		change func(b []byte)
		want   ErrorID
	}{
		{"version 2", Query, func(b []byte) { b[0] = 2 }, UnknownVersion},
		{"version 0", Data, func(b []byte) { b[0] = 0 }, UnknownVersion},
		{"type 6", Data, func(b []byte) { b[6] = 6 }, UnknownType},
		{"type 127", Data, func(b []byte) { b[6] = 0x7f }, UnknownType},
		{"Query without R", Query, func(b []byte) { b[7] &^= flagR }, InvalidRFlag},
		{"Confirm with R", Confirm, func(b []byte) { b[7] |= flagR }, InvalidRFlag},
		{"Data with R", Data, func(b []byte) { b[7] |= flagR }, InvalidRFlag},
		{"Error with R", Error, func(b []byte) { b[7] |= flagR }, InvalidRFlag},
		{"Response with Responder-Cookie without R", Response, func(b []byte) { b[7] &^= flagR }, InvalidRFlag},
		{"Query with E", Query, func(b []byte) { b[7] |= flagE }, InvalidEFlag},
		{"MA-Hello with E", MAHello, func(b []byte) { b[7] |= flagE }, InvalidEFlag},
		{"Query without C", Query, func(b []byte) { b[6] &^= flagC }, InvalidCFlag},
		{"Response with C", Response, func(b []byte) { b[6] |= flagC }, InvalidCFlag},
		{"Data with C in C-mode", Data, func(b []byte) { b[6] |= flagC }, InvalidCFlag},
		{"a word too many", Query, func(b []byte) { b[3]++ }, IncorrectMessageLength},
		{"a word too few", Query, func(b []byte) { b[3]-- }, IncorrectMessageLength},
		{"last object too long", Data, func(b []byte) { b[len(b)-1]++ }, IncorrectMessageLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			dmode := c.kind == Query
			m := sample(c.kind, dmode)
			b := m.Append(nil)
			c.change(b)
			m, err := parseAs(b, dmode)
			bad := wantError(t, err, c.want)
			// "the original MRI and Session ID MUST NOT be included".
			if bad.Report.HasMRI || bad.Report.HasSID {
				t.Error("the report has MRI or SID")
			}
			header, _ := ParseHeader(b)
			if bad.Report.Header != header || bad.Report.DMode != dmode {
				t.Errorf("the report has header %+v, D %v; want %+v, %v", bad.Report.Header, bad.Report.DMode, header, dmode)
			}
			// RFC 5971 §5.6: the Error message goes to the NLI's address.
			if parsed := c.want != UnknownVersion && c.want != UnknownType; parsed && c.kind == Query && !m.HasNLI {
				t.Error("the NLI was not read")
			}
		})
	}
}

// RFC 5971 §A.4.4.1: "For subcode 3 only, Message Length Info carries the
// calculated message length."
func TestIncorrectMessageLengthReportsTheCalculatedLength(t *testing.T) {
	m := sample(Query, true)
	b := m.Append(nil)
	words := binary.BigEndian.Uint16(b[2:])
	b[3] += 3
	_, err := parseAs(b, true)
	info := wantError(t, err, IncorrectMessageLength).Report.Info
	if n, ok := info[0].Number(); len(info) != 1 || !ok || n != words || info[0].Type != AIMessageLength {
		t.Errorf("info %+v, want Message Length Info of %d", info, words)
	}
}

// RFC 5971 §5.1, §A.4.4.9: "Messages with missing, duplicate, or invalid objects for the
// message type MUST be rejected with an "Object Type Error"".
func TestEveryMandatoryObjectIsMissed(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		list := objectsOf(whole)
		for i, o := range list {
			rest := append(append([]object(nil), list[:i]...), list[i+1:]...)
			_, err := parseAs(assemble(whole, rest), dmode)
			if optional(m.Type, o.t, dmode) {
				if err != nil {
					t.Errorf("without the optional %v: %v", o.t, err)
				}
				continue
			}
			bad := wantError(t, err, MissingObject)
			if got, _ := bad.Report.Info[0].Number(); ObjectType(got) != o.t {
				t.Errorf("without %v: the report names %v", o.t, ObjectType(got))
			}
		}
	})
}

// optional says what the samples may lack without anything else being wrong.
func optional(kind MessageType, t ObjectType, dmode bool) bool {
	switch {
	case kind == Error && t == ObjNLI:
		return !dmode
	case t == ObjNSLPData:
		return kind != Data
	case t == ObjStackConfig:
		return kind == Confirm
	}
	return false
}

func TestEveryObjectTwiceIsADuplicate(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		list := objectsOf(whole)
		for i, o := range list {
			twice := append(append(append([]object(nil), list[:i]...), o), list[i:]...)
			_, err := parseAs(assemble(whole, twice), dmode)
			bad := wantError(t, err, DuplicateObject)
			if got, _ := bad.Report.Info[0].Number(); ObjectType(got) != o.t {
				t.Errorf("%v twice: the report names %v", o.t, ObjectType(got))
			}
		}
	})
}

// RFC 5971 §5.1: "The objects following the common header MUST be carried in a
// fixed order".
func TestEveryWrongOrderIsRejected(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		list := objectsOf(whole)
		for i := 1; i < len(list); i++ {
			swapped := append([]object(nil), list...)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			_, err := parseAs(assemble(whole, swapped), dmode)
			wantError(t, err, InvalidObjectType)
			if !strings.Contains(err.Error(), "out of order") {
				t.Errorf("%v before %v: %v, want it to say so", swapped[i-1].t, swapped[i].t, err)
			}
		}
	})
}

func TestEveryObjectNotOfTheMessageTypeIsRejected(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		list := objectsOf(whole)
		for o := range ObjectType(numObjects) {
			if places[m.Type][o] != 0 && (m.Type != Data || o != ObjNLI || dmode) {
				continue
			}
			more := append([]object(nil), list...)
			_, err := parseAs(assemble(whole, append(more, object{t: o, value: make([]byte, 16)})), dmode)
			bad := wantError(t, err, InvalidObjectType)
			if got, _ := bad.Report.Info[0].Number(); ObjectType(got) != o {
				t.Errorf("%v: the report names %v", o, ObjectType(got))
			}
		}
	})
}

// RFC 5971 §A.2.1: the A/B flags decide over objects of unknown type.
func TestObjectExtensibility(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		list := objectsOf(whole)
		for _, unknown := range []ObjectType{11, 2000, 4095} {
			for at := range len(list) + 1 {
				for ab := range uint8(4) {
					more := append(append(append([]object(nil), list[:at]...), object{ab, unknown, []byte("some")}), list[at:]...)
					got, err := parseAs(assemble(whole, more), dmode)
					switch ab {
					case extMandatory:
						wantError(t, err, UnrecognisedObject)
					case extReserved:
						wantError(t, err, InvalidExtensibilityFlags)
					case extIgnore:
						if err != nil || len(got.Unknown) != 0 {
							t.Errorf("AB=01: %v, %v; want it deleted", got.Unknown, err)
						}
					case extForward:
						if err != nil || len(got.Unknown) != 1 || got.Unknown[0].Type != unknown || string(got.Unknown[0].Value) != "some" {
							t.Errorf("AB=10: %v, %v; want it kept", got.Unknown, err)
						}
					}
				}
			}
		}
		// "If a message is received containing an object with AB=11, it MUST be
		// rejected": of a known type too.
		list[0].ab = extReserved
		_, err := parseAs(assemble(whole, list), dmode)
		wantError(t, err, InvalidExtensibilityFlags)
		list[0].ab = extIgnore
		if _, err := parseAs(assemble(whole, list), dmode); err != nil {
			t.Errorf("known object with AB=01: %v, want it read", err)
		}
	})
}

// RFC 5971 §5.5: what can only be sent in one encapsulation is rejected in the
// other.
func TestEncapsulation(t *testing.T) {
	q := sample(Query, true)
	_, err := Parse(q.Append(nil))
	bad := wantError(t, err, IncorrectEncapsulation)
	if !bad.Report.HasMRI || bad.Report.MRI != testMRI || !bad.Report.HasSID || bad.Report.SID != testSID || bad.Report.DMode {
		t.Errorf("report %+v, want MRI and SID, C-mode", bad.Report)
	}
	h := sample(MAHello, false)
	_, err = ParseDatagram(h.AppendDatagram(nil))
	wantError(t, err, IncorrectEncapsulation)
	// RFC 5971 §5.1: NLI "MUST be carried in the D-mode case, but MUST NOT be
	// included otherwise".
	d := sample(Data, false)
	_, err = ParseDatagram(d.AppendDatagram(nil))
	wantError(t, err, MissingObject)
	d = sample(Data, true)
	_, err = Parse(d.Append(nil))
	wantError(t, err, InvalidObjectType)
	e := sample(Error, true)
	e.HasNLI = false
	if _, err = Parse(e.Append(nil)); err != nil {
		t.Errorf("Error message without NLI in C-mode: %v", err)
	}
	_, err = ParseDatagram(e.AppendDatagram(nil))
	wantError(t, err, MissingObject)
}

// RFC 5971 §A.2: "If the Length is not consistent with the contents of the
// object, an "Object Value Error" message with subcode 0".
func TestEveryWrongObjectLength(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		whole := m.Append(nil)
		for i, o := range objectsOf(whole) {
			switch o.t {
			case ObjQueryCookie, ObjResponderCookie, ObjNSLPData:
				continue // of any length
			}
			shorter, longer := objectsOf(whole), objectsOf(whole)
			shorter[i].value = o.value[:len(o.value)-4]
			longer[i].value = append(append([]byte(nil), o.value...), 0, 0, 0, 0)
			for _, list := range [][]object{shorter, longer} {
				_, err := parseAs(assemble(whole, list), dmode)
				if o.t == ObjError && len(list[i].value) > len(o.value) {
					// More nulls after the comment are padding.
					if err != nil {
						t.Errorf("longer comment: %v", err)
					}
					continue
				}
				bad := wantError(t, err, IncorrectLength)
				obj, _, ok := bad.Report.Info[0].Object()
				if !ok || len(bad.Report.Info) != 1 || !bytes.Equal(obj[4:], list[i].value) {
					t.Errorf("%v of %d octets: info %+v, want the object", o.t, len(list[i].value), bad.Report.Info)
				}
				if bad.Reportable() != (m.Type != Error) {
					t.Error("an Error message must not be answered, all others can be")
				}
			}
		}
	})
}

func TestObjectValueErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   MessageType
		dmode  bool
		object ObjectType
		value  string
		want   ErrorID
		at     int
	}{
		{"NLI IP version", Query, true, ObjNLI, `00 40 50 00 00000001 0a000001`, ValueNotSupported, 6},
		// RFC 5971 §5.2.2: the interface-address "MUST be usable as a destination
		// IP address for packets to be sent back to the node".
		{"NLI address multicast", Query, true, ObjNLI, `00 40 40 00 00000001 e0000001`, ValueNotSupported, 12},
		{"NLI address unspecified", Query, true, ObjNLI, `01 40 40 00 00000001 78000000 00000000`, ValueNotSupported, 16},
		{"NLI address IPv4 in IPv6 form", Query, true, ObjNLI, `00 40 60 00 00000001 00000000000000000000ffff0a000001`, ValueNotSupported, 12},
		// RFC 5971 §A.3.3: "The value 0 (zero) is reserved and MUST NOT be used."
		{"NLI validity", Query, true, ObjNLI, `00 40 40 00 00000000 0a000001`, ValueNotSupported, 8},
		// RFC 5971 §A.3.4: "If there are no profiles (Prof-Count=0), [...]
		// subcode 1"; "if a particular profile is empty [...] subcode 3".
		{"no profiles", Query, true, ObjStackProposal, `00 000000`, ValueNotSupported, 4},
		{"empty profile", Query, true, ObjStackProposal, `02 000000 01 01 0000 00000000`, EmptyList, 12},
		{"protocol 0", Query, true, ObjStackProposal, `01 000000 02 01 00 00`, ValueNotSupported, 10},
		// RFC 5971 §A.3.5: hold time "0 (zero) is reserved and MUST NOT be used."
		{"hold time", Query, true, ObjStackConfig, `00 000000 00000000`, ValueNotSupported, 8},
		// RFC 5971 §5.2.2, RFC 5971 §A.3.8: R=1 and Hello-ID=0.
		{"Hello-ID", MAHello, false, ObjHelloID, `00000000`, ValueNotSupported, 4},
		{"MRI in an Error", Error, true, ObjError, `02000500 40000400 0101000000018080 02004000 0a0000010a00000220200000`, ValueNotSupported, 20},
		// RFC 5971 §A.4.1: Q "can't be set if D=0".
		{"Q without D", Error, true, ObjError, `02000500 08000000 0101000000018080`, InvalidFlagFieldCombination, 8},
		{"MRI length without M", Error, true, ObjError, `02000500 10000100 0101000000018080 00000000`, InvalidFlagFieldCombination, 8},
		{"comment without null", Error, true, ObjError, `02000500 20000000 0101000000018080 41424344`, IncorrectLength, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sample(c.kind, c.dmode)
			whole := m.Append(nil)
			list := objectsOf(whole)
			for i := range list {
				if list[i].t == c.object {
					list[i].value = unhex(t, c.value)
				}
			}
			_, err := parseAs(assemble(whole, list), c.dmode)
			bad := wantError(t, err, c.want)
			obj, at, ok := bad.Report.Info[0].Object()
			if !ok || at != c.at || !bytes.Equal(obj[4:], unhex(t, c.value)) {
				t.Errorf("Object Value Info at %d with % x, want %d and the object", at, obj, c.at)
			}
			if c.kind == Query && (!bad.Report.HasMRI || !bad.Report.HasSID) {
				t.Error("the report lacks MRI or SID, which could be decoded")
			}
		})
	}
}

// RFC 5971 §5.7.1: Stack-Proposal and Stack-Configuration-Data "both present but
// not consistent" is subcode 5, with both objects in that order.
func TestStackMismatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   MessageType
		config StackConfig
	}{
		{"profile does not exist", Query, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP}, {Protocol: ForwardsTCP, Profile: 3}}}},
		{"protocol not offered", Query, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP}, {Protocol: 3}}}},
		{"protocol not in that profile", Query, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP}, {Protocol: ForwardsTLS, Profile: 2}}}},
		// RFC 5971 §5.7.2: "If this protocol is offered, MA-protocol-options data
		// MUST also be carried in the SCD object."
		{"TCP without options", Query, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP, Profile: 1}}}},
		{"TCP without port", Response, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP}}}},
		{"Confirm: profile does not exist", Confirm, StackConfig{HoldTimeMS: 1, Options: []MAOptions{{Protocol: ForwardsTCP, Profile: 9}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sample(c.kind, true)
			m.StackConfig = c.config
			_, err := ParseDatagram(m.AppendDatagram(nil))
			info := wantError(t, err, StackMismatch).Report.Info
			if len(info) != 2 {
				t.Fatalf("%d infos, want 2", len(info))
			}
			for i, want := range []ObjectType{ObjStackProposal, ObjStackConfig} {
				if obj, _, ok := info[i].Object(); !ok || ObjectType(binary.BigEndian.Uint16(obj)) != want {
					t.Errorf("info %d has % x, want %v", i, obj, want)
				}
			}
		})
	}
}

func TestParseErrorSaysWhatWhereAndWhatWasExpected(t *testing.T) {
	m := sample(Query, true)
	b := m.AppendDatagram(nil)
	b[MagicLen+HeaderLen+4] = 99
	_, err := ParseDatagram(b)
	const want = "GIST Query: Object Value Error: Value Not Supported: Message-Routing-Information: octet 4: " +
		"message routing method 99, want 0, 1 or 120"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// An error report always fits into a message and parses again, so that whatever
// a stranger sends can be answered.
func TestEveryReportCanBeSent(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	reports := 0
	for range 20000 {
		kind := MessageType(rng.Intn(6))
		dmode := rng.Intn(2) == 0
		m := sample(kind, dmode)
		if rng.Intn(3) == 0 {
			m.NSLPData = make([]byte, 4*rng.Intn(4096))
		}
		b := appendMode(&m, dmode)
		for range 1 + rng.Intn(3) {
			b[rng.Intn(min(len(b), 160))] ^= 1 << rng.Intn(8)
		}
		_, err := parseMode(b, dmode)
		var bad *ParseError
		if !errors.As(err, &bad) {
			continue
		}
		reports++
		e := Message{Header: Header{HopCount: 1, Type: Error, S: true}, HasNLI: true, NLI: testNLI, Error: &bad.Report}
		size, err := e.Size()
		if err != nil || size > 1000 {
			t.Fatalf("report of %d octets, %v", size, err)
		}
		if _, err := ParseDatagram(e.AppendDatagram(nil)); err != nil {
			t.Fatalf("report %+v does not parse: %v", bad.Report, err)
		}
	}
	if reports < 5000 {
		t.Errorf("only %d reports made", reports)
	}
}

func TestSizeSaysWhatDoesNotFit(t *testing.T) {
	fits := sample(Data, false)
	fits.NSLPData = make([]byte, MaxObjectLen)
	if n, err := fits.Size(); err != nil || n != len(fits.Append(nil)) {
		t.Errorf("%d octets of NSLP data: Size %d, %v", MaxObjectLen, n, err)
	}
	many := sample(Data, false)
	for range 17 {
		many.Unknown = append(many.Unknown, Object{Type: 2000, Value: make([]byte, MaxObjectLen)})
	}
	for name, change := range map[string]func(m *Message){
		"NSLP data":      func(m *Message) { m.NSLPData = make([]byte, MaxObjectLen+1) },
		"message":        func(m *Message) { m.Unknown = many.Unknown },
		"unknown object": func(m *Message) { m.Unknown = []Object{{Type: 2000, Value: make([]byte, MaxObjectLen+4)}} },
		"profiles":       func(m *Message) { m.StackProposal = make(StackProposal, 256) },
		"layers":         func(m *Message) { m.StackProposal = StackProposal{make(Profile, 256)} },
		"options":        func(m *Message) { m.StackConfig.Options = make([]MAOptions, 256) },
		"options data":   func(m *Message) { m.StackConfig.Options = []MAOptions{{Data: make([]byte, 256)}} },
	} {
		m := sample(Query, true)
		change(&m)
		if _, err := m.Size(); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v, want ErrTooLong", name, err)
		}
		before := []byte("before")
		if b, err := m.TryAppend(before); !errors.Is(err, ErrTooLong) || string(b) != "before" {
			t.Errorf("%s: TryAppend %q, %v, want ErrTooLong", name, b, err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Append of what Size refuses did not panic")
		}
	}()
	fits.NSLPData = make([]byte, MaxObjectLen+1)
	fits.Append(nil)
}

// RFC 6084 asks of Forwards-SCTP what RFC 5971 §5.7.2 asks of TCP: options where
// it is offered, and in a Response with a port.
func TestStackSCTP(t *testing.T) {
	tcp, port := MAOptions{Protocol: ForwardsTCP, Data: PortData(2)}, PortData(1)
	for _, c := range []struct {
		name    string
		kind    MessageType
		options []MAOptions
		want    string
	}{
		{"as it should be", Query, []MAOptions{tcp, {Protocol: ForwardsSCTP}}, ""},
		{"with a port", Response, []MAOptions{tcp, {Protocol: ForwardsSCTP, Profile: 1, Data: port}}, ""},
		{"disabled", Response, []MAOptions{tcp, {Protocol: ForwardsSCTP, Disabled: true}}, ""},
		{"without options", Query, []MAOptions{tcp}, "profile 1 offers Forwards-SCTP without its options"},
		{"without a port", Response, []MAOptions{tcp, {Protocol: ForwardsSCTP}}, "profile 1 offers Forwards-SCTP without a port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sample(c.kind, true)
			m.StackProposal = StackProposal{{ForwardsSCTP}, {ForwardsTCP}}
			m.StackConfig = StackConfig{HoldTimeMS: 1, Options: c.options}
			got, err := ParseDatagram(m.AppendDatagram(nil))
			if c.want != "" {
				if bad := wantError(t, err, StackMismatch); !strings.Contains(bad.Error(), c.want) {
					t.Errorf("%v, want %q", bad, c.want)
				}
				return
			}
			if err != nil || !got.StackProposal.Equal(m.StackProposal) {
				t.Fatalf("%v, %v", got.StackProposal, err)
			}
			if o, ok := got.StackConfig.Lookup(ForwardsSCTP, 1); !ok || o.Disabled != c.options[1].Disabled {
				t.Errorf("options %+v", o)
			} else if p, ok := o.Port(); ok && p != 1 {
				t.Errorf("port %d", p)
			}
		})
	}
}
