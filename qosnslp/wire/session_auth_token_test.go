package wire

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// goldenToken has every attribute of RFC 5981 §3.2, as §5.4 (the non-associated
// model) would have them.
const goldenToken = `
	000f 01 03 65646765 2e657861 6d706c 00  # AUTH_ENT_ID, FQDN "edge.exampl", padding
	0007 02 00 010203 00             # SESSION_ID of 3 octets
	0008 03 01 0a01000a              # SOURCE_ADDR, IPv4 10.1.0.10
	0014 03 02 20010db8 00000000 00000000 00000001
	0006 03 03 1389 0000             # UDP_PORT_LIST: 5001
	0008 03 04 0050 01bb             # TCP_PORT_LIST: 80, 443
	0008 03 05 deadbeef              # SPI
	0008 04 01 0a03000a              # DEST_ADDR, IPv4 10.3.0.10
	0008 04 03 1389 138a             # UDP_PORT_LIST: 5001, 5002
	000c 05 01 ee000000 80000000     # START_TIME
	000c 06 01 ee000e10 80000000     # END_TIME, an hour later
	0005 80 07 01 000000             # an X-Type of the private range
	0008 07 00 0001 000b             # NSLP_OBJECT_LIST: QSPEC
	000c 08 00 00000007 aabbccdd     # AUTHENTICATION_DATA
`

func token() AuthToken {
	return AuthToken{
		HasEntity: true, Entity: AuthEntity{EntFQDN, []byte("edge.exampl")}, SessionID: []byte{1, 2, 3},
		Source: AuthAddresses{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.10"), netip.MustParseAddr("2001:db8::1")},
			UDP: []uint16{5001}, TCP: []uint16{80, 443}, SPIs: []uint32{0xdeadbeef}},
		Dest:     AuthAddresses{Addrs: []netip.Addr{netip.MustParseAddr("10.3.0.10")}, UDP: []uint16{5001, 5002}},
		HasStart: true, Start: 0xee00000080000000, HasEnd: true, End: 0xee000e1080000000,
		Other:      []AuthAttribute{{Type: 0x80, SubType: 7, Value: []byte{1}}},
		HasObjects: true, Objects: []ObjectType{TypeQSPEC}, Data: []byte{0, 0, 0, 7, 0xaa, 0xbb, 0xcc, 0xdd},
	}
}

// RFC 5981 §3.2.1 to §3.2.8: every attribute, both ways.
func TestAuthTokenGolden(t *testing.T) {
	b := annotatedHex(t, goldenToken)
	want := token()
	got, err := want.Append([]byte("before"))
	if err != nil || !bytes.Equal(got, append([]byte("before"), b...)) {
		t.Errorf("Append, %v\n got %x\nwant %x", err, got, b)
	}
	var p AuthToken
	covered, err := p.Parse(b)
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Fatalf("Parse %+v, %v", p, err)
	}
	// RFC 5981 §3.2.8: "signs all the data in the object up to the
	// AUTHENTICATION_DATA".
	if !bytes.Equal(covered, b[:len(b)-12]) || !bytes.Equal(covered, want.AppendCovered(nil)) {
		t.Errorf("covered %x", covered)
	}
	// Nor is anything of the value lost where it ends early: it is refused, or
	// it is a whole number of attributes.
	for n := range len(b) {
		if _, err := p.Parse(b[:n]); err == nil {
			if again, err := p.Append(nil); err != nil || !bytes.Equal(again, b[:n]) {
				t.Errorf("%d octets became %x, %v", n, again, err)
			}
		}
	}
}

// RFC 5981 §3.2.1: the forms of AUTH_ENT_ID.
func TestAuthEntity(t *testing.T) {
	for _, c := range []struct {
		sub         uint8
		value, kind string
		text        string // empty: refused
	}{
		{EntIPv4, "\x0a\x01\x00\x0a", "IPV4_ADDRESS", "10.1.0.10"},
		{EntIPv4, "\x0a\x01\x00\x0a\x0a", "", ""},
		{EntIPv6, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "IPV6_ADDRESS", "2001:db8::1"},
		{EntIPv6, "\x0a\x01\x00\x0a", "", ""},
		{EntFQDN, "host.example", "FQDN", `"host.example"`},
		{EntFQDN, "h\xc3\xb6st.example", "", ""},
		{EntFQDN, "http://host.example", "", ""},
		{EntASCIIDN, "CN=edge,O=AS65001", "ASCII_DN", `"CN=edge,O=AS65001"`},
		{EntASCIIDN, "CN=\xc3\xb6", "", ""},
		{EntUnicodeDN, "CN=\xc3\xb6", "UNICODE_DN", `"CN=ö"`},
		{EntUnicodeDN, "CN=\xc3", "", ""},
		{EntURI, "urn:interqos:as:65001", "URI", `"urn:interqos:as:65001"`},
		{EntURI, "no scheme", "", ""},
		{EntKrbPrincipal, "johndoe@nowhere", "KRB_PRINCIPAL", `"johndoe@nowhere"`},
		{EntKrbPrincipal, "johndoe", "", ""},
		{EntX509Cert, "CN=as65001", "X509_V3_CERT", `"CN=as65001"`},
		{EntX509Cert, "\xff", "", ""},
		{EntPGPCert, "\x99\x01", "PGP_CERT", "9901"},
		{EntHMACSigned, "\x00\x00\x00\x0c", "HMAC_SIGNED", "0000000c"},
		{EntHMACSigned, "\x0c", "", ""},
		{11, "\x01", "AUTH_ENT_ID of sub-type 11", "01"},
	} {
		b := AuthAttribute{AuthEntID, c.sub, []byte(c.value)}.Append(nil)
		var p AuthToken
		_, err := p.Parse(b)
		if (err == nil) != (c.text != "") {
			t.Errorf("sub-type %d, %q: %v", c.sub, c.value, err)
		} else if err == nil && (p.Entity.Kind() != c.kind || p.Entity.String() != c.text) {
			t.Errorf("sub-type %d, %q: %s %s, want %s %s", c.sub, c.value, p.Entity.Kind(), p.Entity, c.kind, c.text)
		}
	}
}

func TestAuthTokenRefuses(t *testing.T) {
	for _, c := range []struct{ name, bytes, says string }{
		{"RFC 5981 §3.2: padding MUST be zero", "0005020001000100", "padding"},
		{"RFC 5981 §3.2.2: the SubType MUST be zero", "0008020101020304", "sub-type 1, want 0"},
		{"RFC 5981 §3.2.2: Length MUST be > 4", "00040200", "want more than 4"},
		{"RFC 5981 §3.2.3: a second UDP list", "0006030313890000 0006030313890000", "a second list of ports"},
		{"RFC 5981 §3.2.4: a second TCP list", "0006040413890000 0006040413890000", "a second list of ports"},
		{"RFC 5981 §3.2.3: half a port", "0007030313890100", "ports in 3 octets"},
		{"RFC 5981 §3.2.3: an SPI of 2 octets", "0006030513890000", "want 4"},
		{"RFC 5981 §3.2.3: two addresses in one", "000c0301 0a010001 0a010002", "8 octets, want 4"},
		{"RFC 5981 §8: a sub-type that nobody assigned", "0008040600000001", "want 1 to 5"},
		{"RFC 5981 §8: reserved", "0008000000000001", "X-Type 0"},
		{"RFC 5981 §3.2.5: no NTP timestamp", "000c0502ee00000080000000", "NTP_TIMESTAMP"},
		{"RFC 5981 §3.2.6: a short time", "00080601ee000000", "want 8"},
		{"it ends before it starts", "000c0501ee00000080000000 000c0601ee00000070000000", "not after"},
		{"a second entity", "0008010a0000000c 0008010a0000000c", "twice"},
		{"RFC 5981 §3.2.7: a list and no signature", "000807000001000b", "MUST also be present"},
		{"RFC 5981 §3.2.8: it MUST be the last", "000c080000000007aabbccdd 0008020001020304", "not the last"},
	} {
		var p AuthToken
		if covered, err := p.Parse(annotatedHex(t, c.bytes)); err == nil || covered != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// RFC 5981 §3.2.7, §3.2.8: "ignored upon reception".
	var p AuthToken
	if _, err := p.Parse(annotatedHex(t, "000a 07 01 0002 f002 000b ffff 000c 08 05 00000007aabbccdd")); err != nil || len(p.Objects) != 2 || p.Objects[0] != TypeRSN {
		t.Errorf("%+v, %v", p, err)
	}
}

// Append refuses what Parse would.
func TestAuthTokenAppendRefuses(t *testing.T) {
	for name, edit := range map[string]func(*AuthToken){
		"too long":           func(x *AuthToken) { x.SessionID = make([]byte, MaxValueLen) },
		"beyond 16 bits":     func(x *AuthToken) { x.Data = make([]byte, 1<<16) },
		"an empty entity":    func(x *AuthToken) { x.Entity.Value = nil },
		"no signature":       func(x *AuthToken) { x.Data = nil },
		"no time between":    func(x *AuthToken) { x.End = x.Start },
		"too many to be had": func(x *AuthToken) { x.Objects = make([]ObjectType, MaxAuthObjects+1) },
	} {
		x := token()
		edit(&x)
		if b, err := x.Append([]byte("before")); err == nil || string(b) != "before" {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
}

func FuzzAuthToken(f *testing.F) {
	x := token()
	b, err := x.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(annotatedHex(f, goldenSigned))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, again AuthToken
		covered, err := p.Parse(b)
		if err != nil {
			if covered != nil {
				t.Fatalf("refused (%v), and covered %x", err, covered)
			}
			return
		}
		if !bytes.HasPrefix(b, covered) {
			t.Fatalf("covered %x is no prefix of %x", covered, b)
		}
		out, err := p.Append(nil)
		if err != nil && len(b) <= MaxValueLen-4*MaxAuthObjects {
			t.Fatalf("%+v of %x: %v", p, b, err)
		}
		if err != nil {
			return // longer than an object may be
		}
		if _, err := again.Parse(out); err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%x became %x: %v", b, out, err)
		}
	})
}
