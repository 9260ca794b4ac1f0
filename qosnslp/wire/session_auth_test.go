package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// annotatedHex joins annotated hexadecimal: what follows a # on a line is a comment.
func annotatedHex(t testing.TB, s string) []byte {
	t.Helper()
	var clean strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		clean.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(clean.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenSigned is the value of the object in RFC 5981 §4.4, figure 5.
const goldenSigned = `
	0008 01 0a 000000 0c            # AUTH_ENT_ID, HMAC_SIGNED, transform 12
	0008 03 01 7f010002             # SOURCE_ADDR, IPv4 127.1.0.2
	000c 05 01 ee000000 80000000    # START_TIME, NTP timestamp
	000a 07 00 0002 0002 000b 0000  # NSLP_OBJECT_LIST: 2, RSN, QSPEC, padding
	0018 08 00 00000007             # AUTHENTICATION_DATA, Key-ID 7
	00112233445566778899aabbccddeeff
`

func signed() SignedAuth {
	return SignedAuth{Transform: HMACSHA256, Source: netip.MustParseAddr("127.1.0.2"), Start: 0xee00000080000000,
		Objects: []ObjectType{TypeRSN, TypeQSPEC}, KeyID: 7,
		MAC: []byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}}
}

// RFC 5981 §4.4: the golden bytes of an HMAC_SIGNED object, both ways.
func TestSignedAuthGolden(t *testing.T) {
	b := annotatedHex(t, goldenSigned)
	want := signed()
	if got := want.Append(nil); !bytes.Equal(got, b) {
		t.Errorf("Append\n got %x\nwant %x", got, b)
	}
	var got SignedAuth
	covered, err := got.Parse(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Parse %+v, %v", got, err)
	}
	// RFC 5981 §3.2.8: "signs all the data in the object up to the
	// AUTHENTICATION_DATA".
	if n := len(b) - 24; !bytes.Equal(covered, b[:n]) {
		t.Errorf("covered %x, want the first %d octets", covered, n)
	}
	list, err := ParseSessionAuth(b)
	if err != nil || len(list) != 5 || list[4].Type != AuthenticationData {
		t.Fatalf("%+v, %v", list, err)
	}
	var again []byte
	for _, a := range list {
		again = a.Append(again)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("attributes one by one: %x", again)
	}
}

// RFC 5981 §3.2.7: "padding MUST be added if the number of NSLP objects is even
// and MUST NOT be added if the number of NSLP objects is odd."
func TestSignedAuthObjectListPadding(t *testing.T) {
	for n := range 6 {
		a := signed()
		a.Source = netip.MustParseAddr("2001:db8::1")
		a.Objects = make([]ObjectType, n)
		for i := range a.Objects {
			a.Objects[i] = ObjectType(i + 1)
		}
		b := a.Append(nil)
		if want := 8 + 20 + 12 + (4+2+2*n+3)&^3 + 24; len(b) != want {
			t.Errorf("%d objects: %d octets, want %d", n, len(b), want)
		}
		got := SignedAuth{}
		if _, err := got.Parse(b); err != nil || len(got.Objects) != n || got.Source != a.Source {
			t.Errorf("%d objects: %+v, %v", n, got, err)
		}
	}
}

// RFC 5981 §3.1: the object "MUST have the AB bits set to '10'", type 0x016, and
// its length counts words without the header.
func TestSessionAuthHeader(t *testing.T) {
	a := signed()
	b := a.Append(BeginSessionAuth([]byte{1, 2, 3, 4}))
	if err := EndObject(b, 4); err != nil {
		t.Fatal(err)
	}
	if got, want := b[4:8], []byte{0x80, 0x16, 0, 16}; !bytes.Equal(got, want) {
		t.Errorf("header % x of %d octets", got, len(b)-8)
	}
	for at, o := range Objects(b) {
		if at != 4 || o.Type != TypeSessionAuth || o.Action != Forward || len(o.Value) != len(b)-8 {
			t.Errorf("object %+v at %d", o, at)
		}
	}
	if EndObject(make([]byte, 7), 0) == nil || EndObject(make([]byte, 8+MaxValueLen), 0) == nil {
		t.Error("an object that is not whole words, or too long, got a length")
	}
}

func TestSignedAuthTruncation(t *testing.T) {
	b := annotatedHex(t, goldenSigned)
	for n := range len(b) {
		var a SignedAuth
		if _, err := a.Parse(b[:n]); err == nil {
			t.Errorf("%d octets were accepted", n)
		}
	}
}

func TestSignedAuthRefuses(t *testing.T) {
	const ent, src, start, list = "0008010a0000000c", "000803017f010002", "000c0501ee00000080000000", "000807000001000b"
	const data = "000c080000000007aabbccdd"
	for _, c := range []struct {
		name, bytes string
		notSigned   bool
	}{
		{"another kind of entity: it is somebody else's token", "000801010a000001", true},
		{"no entity", src + start + list + data, true},
		{"RFC 5981 §4.4: MUST contain SOURCE_ADDR", ent + start + list + data, false},
		{"RFC 5981 §4.4: MUST contain START_TIME", ent + src + list + data, false},
		{"RFC 5981 §4.4: MUST contain NSLP_OBJECT_LIST", ent + src + start + data, false},
		{"RFC 5981 §4.4: MUST contain AUTHENTICATION_DATA", ent + src + start + list, false},
		{"RFC 5981 §3.2.8: AUTHENTICATION_DATA MUST be the last attribute", ent + src + start + data + list, false},
		{"an attribute twice", ent + src + src + start + list + data, false},
		{"interdomain-qosm §4: no END_TIME", ent + src + start + "000c0601ee00000080000000" + list + data, false},
		{"a SOURCE_ADDR that is a port list", ent + "0008030300010002" + start + list + data, false},
		{"a START_TIME that is no NTP timestamp", ent + src + "000c0502ee00000080000000" + list + data, false},
		{"more objects than octets", ent + src + start + "000807000002000b" + data, false},
		{"RFC 5981 §3.2.1: the length MUST be > 4", ent + src + start + list + "00040800", false},
		{"a Key-ID without a HMAC", ent + src + start + list + "0008080000000007", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a SignedAuth
			_, err := a.Parse(annotatedHex(t, c.bytes))
			if err == nil || errors.Is(err, ErrNotSigned) != c.notSigned {
				t.Errorf("%v", err)
			}
		})
	}
}

func FuzzSessionAuth(f *testing.F) {
	f.Add(annotatedHex(f, goldenSigned))
	f.Add(annotatedHex(f, "0008010100000000 00050301aa000000 000c08000000000711223344"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseSessionAuth(b)
		if err != nil {
			return
		}
		var out []byte
		for _, a := range list {
			out = a.Append(out)
		}
		again, err := ParseSessionAuth(out)
		if err != nil || !reflect.DeepEqual(list, again) {
			t.Fatalf("%x became %x: %v", b, out, err)
		}
	})
}

func FuzzSignedAuth(f *testing.F) {
	f.Add(annotatedHex(f, goldenSigned))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again SignedAuth
		covered, err := a.Parse(b)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, covered) {
			t.Fatalf("covered %x is no prefix of %x", covered, b)
		}
		out := a.Append(nil)
		if _, err := again.Parse(out); err != nil || !reflect.DeepEqual(a, again) {
			t.Fatalf("%x became %x: %v", b, out, err)
		}
	})
}

// RFC 5981 §8: the numbers of the registry, which §3.2 of its text has
// differently from the seventh on.
func TestSessionAuthNumbers(t *testing.T) {
	for got, want := range map[AuthType]uint8{AuthEntID: 1, AuthSessionID: 2, AuthSourceAddr: 3, AuthDestAddr: 4,
		AuthStartTime: 5, AuthEndTime: 6, AuthObjectList: 7, AuthenticationData: 8} {
		if b := (AuthAttribute{Type: got, Value: []byte{1}}).Append(nil); b[2] != want {
			t.Errorf("X-Type %d on the wire, want %d", b[2], want)
		}
	}
	if EntHMACSigned != 10 || TypeSessionAuth != 0x016 {
		t.Errorf("HMAC_SIGNED %d, SESSION_AUTH %#x", EntHMACSigned, TypeSessionAuth)
	}
}
