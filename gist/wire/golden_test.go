package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"testing"
)

// golden are whole messages, octet by octet from the diagrams of Appendix A.
var golden = []struct {
	name  string
	dmode bool
	m     Message
	hex   string
}{
	{"Query", true, sample(Query, true), `
		4e04bda5                    # magic number
		01 1e 0022                  # version 1, 30 hops, 34 words
		0001 80 c0                  # NSLPID 1, C=1 Query, S=1 R=1
		0000 0007                   # MRI, 7 words
		78 00 4c 40                 #   MRM 120; IPv4, P T, B
		c0000201 c6336400           #   192.0.2.1, 198.51.100.0
		20 18 11 b8                 #   /32, /24, UDP, EF
		0000 138c                   #   ports: any, 5004
		cb007101 cb007102           #   egress, ingress
		0001 0004                   # SID
		aa0102030405060708090a0b0c0d0ebb
		0002 0006                   # NLI
		0c ff 40 00 000927c0        #   12 octets of identity, IP-TTL 255, IPv4; 600,000 ms
		716e65312e61733635303031    #   "qne1.as65001"
		c0000207                    #   192.0.2.7
		0005 0003                   # Query-Cookie
		71756572792d636f6f6b6965
		0003 0003                   # Stack-Proposal
		02 000000                   #   2 profiles
		02 02 01 00                 #   TLS, TCP
		01 01 0000                  #   TCP
		0004 0003                   # Stack-Configuration-Data
		01 000000 00007530          #   1 field, 30,000 ms
		01 00 00 00                 #   TCP, all profiles, no data
		0008 0001 4e534c50          # NSLP-Data
	`},
	{"Response", false, sample(Response, false), `
		01 1e 0028 0001 01 c0       # Response, S=1 R=1
		0000 0007                   # MRI
		78 00 4c 60 c0000201 c6336400 20 18 11 b8 0000 138c cb007101 cb007102  # B D
		0001 0004 aa0102030405060708090a0b0c0d0ebb
		0002 0006 0c ff 40 00 000927c0 716e65312e61733635303031 c0000207
		0005 0003 71756572792d636f6f6b6965
		0006 0004 726573706f6e6465722d636f6f6b6965
		0003 0003 02 000000 02 02 01 00 01 01 0000
		0004 0006                   # Stack-Configuration-Data
		02 000000 00009c40          #   2 fields, 40,000 ms
		01 01 02 00 1497 0000       #   TCP for profile 1: port 5271
		01 02 02 00 1496 0000       #   TCP for profile 2: port 5270
	`},
	{"Confirm", false, sample(Confirm, false), `
		01 1e 0027 0001 02 80       # Confirm, S=1
		0000 0007
		78 00 4c 40 c0000201 c6336400 20 18 11 b8 0000 138c cb007101 cb007102
		0001 0004 aa0102030405060708090a0b0c0d0ebb
		0002 0006 0c ff 40 00 000927c0 716e65312e61733635303031 c0000207
		0006 0004 726573706f6e6465722d636f6f6b6965
		0003 0003 02 000000 02 02 01 00 01 01 0000
		0004 0002 00 000000 00007530
		0008 0006 64617461 20776974 68207468 6520436f 6e666972 6d202020
	`},
	{"Data", false, sample(Data, false), `
		01 1e 0013 0001 03 80       # Data, S=1
		0000 000c                   # MRI, 12 words
		00 00 6b 20                 #   Path-Coupled; IPv6, P F S, D
		20010db8000100000000000000000000
		20010db8000200000000000000000001
		30 80 32 00                 #   /48, /128, ESP
		000abcde                    #   flow label
		01020304                    #   SPI
		0001 0004 aa0102030405060708090a0b0c0d0ebb
		0008 0000                   # NSLP-Data, empty
	`},
	{"Error", true, sample(Error, true), `
		4e04bda5
		01 1e 0026 0000 04 80       # Error, NSLPID 0
		0002 0006 0c ff 40 00 000927c0 716e65312e61733635303031 c0000207
		0009 001e                   # Error object
		02 0009 03                  #   Protocol-Error, Object Type Error, Invalid Object Type
		f8 00 0c 02                 #   S M C D Q; MRI of 12 words; 2 infos
		01 02 004d 0001 80 40       #   header of the original
		aa0102030405060708090a0b0c0d0ebb
		00 00 6b 20 20010db8000100000000000000000000 20010db8000200000000000000000001 30 80 32 00 000abcde 01020304
		0003 0001 000a 0000         #   Object Type Info: 10
		0002 0001 0578 0000         #   MTU Info: 1400
		6e6f2048 656c6c6f 2d494420 696e2061 20517565 72790000  # comment
	`},
	{"MA-Hello", false, sample(MAHello, false), `
		01 01 0002 0000 05 c0       # MA-Hello, NSLPID 0, S=1 R=1
		000a 0001 0000cafe          # Hello-ID
	`},
}

func TestGoldenMessages(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			want := unhex(t, g.hex)
			if got := appendMode(&g.m, g.dmode); !bytes.Equal(got, want) {
				t.Errorf("append:\n got % x\nwant % x", got, want)
			}
			got, err := parseMode(want, g.dmode)
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, g.m) {
				t.Errorf("parse:\n got %+v\nwant %+v", got, g.m)
			}
		})
	}
}

func TestSamplesSurviveAppendAndParse(t *testing.T) {
	forAll(t, func(t *testing.T, m Message, dmode bool) {
		m.Unknown = []Object{{Type: 2000, Value: []byte("kept")}, {Type: 11, Value: []byte{}}}
		b := appendMode(&m, dmode)
		got, err := parseMode(b, dmode)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, m) {
			t.Errorf("got  %+v\nwant %+v", got, m)
		}
		size, err := m.Size()
		if dmode {
			size += MagicLen
		}
		if err != nil || size != len(b) {
			t.Errorf("Size %d, %v; want %d", size, err, len(b))
		}
	})
}

func TestMRIGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		m    MRI
		hex  string
	}{
		{"Path-Coupled, hosts only", MRI{Flow: Flow{Source: prefix("10.0.0.1/32"), Destination: prefix("10.0.0.2/32")}},
			`00 00 40 00 0a000001 0a000002 20 20 00 00`},
		{"Path-Coupled, source port only", MRI{Flow: Flow{Source: prefix("0.0.0.0/0"), Destination: prefix("10.0.0.2/32"),
			HasProtocol: true, Protocol: 6, HasSrcPort: true, SrcPort: 80}},
			`00 00 48 80 00000000 0a000002 00 20 06 00 0050 0000`},
		// RFC 5971 §A.3.1.2
		{"Loose-End", MRI{Method: LooseEnd, Upstream: true, Flow: Flow{Source: prefix("10.0.0.1/32"), Destination: prefix("10.0.0.2/32")}},
			`01 00 48 00 0a000001 0a000002`},
		{"Loose-End, IPv6", MRI{Method: LooseEnd, Flow: Flow{Source: prefix("2001:db8::1/128"), Destination: prefix("2001:db8::2/128")}},
			`01 00 60 00 20010db8000000000000000000000001 20010db8000000000000000000000002`},
		{"Off-Path, edges not known", MRI{Method: OffPath, Flow: Flow{Source: prefix("10.0.0.1/32"), Destination: prefix("10.0.0.2/32")}},
			`78 00 40 00 0a000001 0a000002 20 20 00 00 00000000 00000000`},
		{"Off-Path, IPv6", MRI{Method: OffPath, Egress: addr("2001:db8::a"),
			Flow: Flow{Source: prefix("2001:db8::1/128"), Destination: prefix("2001:db8::2/128")}},
			`78 00 60 00 20010db8000000000000000000000001 20010db8000000000000000000000002 80 80 00 00
			 20010db800000000000000000000000a 00000000000000000000000000000000`},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := unhex(t, c.hex)
			if got := AppendMRI(nil, &c.m); !bytes.Equal(got, want) || mriLen(&c.m) != len(want) {
				t.Errorf("append (%d):\n got % x\nwant % x", mriLen(&c.m), got, want)
			}
			got, err := ParseMRI(want)
			if err != nil || got != c.m {
				t.Errorf("parse: %+v, %v; want %+v", got, err, c.m)
			}
		})
	}
}

// RFC 5971 §A.3.1.1: Protocol "MUST be ignored if P=0", a port whose flag is
// clear "is regarded as padding", reserved bits "MUST be ignored on reception":
// two octet strings that say the same are one MRI.
func TestMRIIsCanonical(t *testing.T) {
	noise := unhex(t, `00 7f 48 5f 0a0001fe 0a0002fe 18 18 11 ff ffff 1234`) // source port, DSCP: padding
	clean := unhex(t, `00 00 48 40 0a0001fe 0a0002fe 18 18 11 00 0000 1234`)
	a, err := ParseMRI(noise)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseMRI(clean)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("got %+v and %+v, want them equal", a, b)
	}
	if got := AppendMRI(nil, &a); !bytes.Equal(got, clean) {
		t.Errorf("append: % x, want % x", got, clean)
	}
	if m := map[MRI]int{a: 1}; m[b] != 1 {
		t.Error("equal MRIs hash differently")
	}
	noP, err := ParseMRI(unhex(t, `00 00 40 00 0a000001 0a000002 20 20 11 fc`))
	if err != nil || noP.Flow.Protocol != 0 || noP.Flow.DSCP != 0 {
		t.Errorf("got %+v, %v; want protocol and DSCP 0 without P and T", noP, err)
	}
}

// RFC 5971 §5.8.1.1: "The source and destination addresses MUST be real node
// addresses, but prefix lengths other than 32 or 128 [...] MAY be used": the
// bits beyond a prefix survive, and tell MRIs apart, since a Query goes to
// exactly that address and the Response "MUST echo the MRI" (RFC 5971 §5.1).
func TestMRIKeepsRealAddresses(t *testing.T) {
	for _, text := range []string{
		`00 00 40 00 0a0001fe 0a0002fe 18 18 00 00`,
		`00 00 40 00 0a0001fe 0a0002fe 00 00 00 00`,
		`00 00 60 00 20010db8000100000000000000000abc 20010db8000200000000000000000def 30 7f 00 00`,
		`78 00 40 20 0a0001fe 0a0002fe 18 10 00 00 cb007101 cb007102`,
	} {
		want := unhex(t, text)
		m, err := ParseMRI(want)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := AppendMRI(nil, &m); !bytes.Equal(got, want) {
			t.Errorf("append:\n got % x\nwant % x", got, want)
		}
		other := m
		other.Flow.Source = m.Flow.Source.Masked()
		if other == m {
			t.Errorf("%v and %v are one MRI, want two", other.Flow.Source, m.Flow.Source)
		}
	}
}

// RFC 5971 §A.3.1.1: every combination of IP version and of the flags P, T, F,
// S, A, B, D either says what the object is or is an "Invalid Flag-Field
// Combination"; and the fields that are there are exactly those flagged.
func TestMRIFlagCombinations(t *testing.T) {
	for bits := range 1 << 7 {
		for _, v6 := range []bool{false, true} {
			p, tr, f, s := bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
			a, b, d := bits&16 != 0, bits&32 != 0, bits&64 != 0
			flags1, flags2 := byte(0x40), byte(0)
			body := unhex(t, `0a000001 0a000002 20 20 11 b8`)
			if v6 {
				flags1 = 0x60
				body = unhex(t, `20010db8000000000000000000000001 20010db8000000000000000000000002 80 80 11 b8`)
			}
			want := MRI{Upstream: d, Flow: Flow{HasProtocol: p, HasTraffic: tr, HasLabel: f, HasSPI: s, HasSrcPort: a, HasDstPort: b}}
			for _, x := range []struct {
				set   bool
				flags *byte
				bit   byte
			}{{p, &flags1, 8}, {tr, &flags1, 4}, {f, &flags1, 2}, {s, &flags1, 1}, {a, &flags2, 0x80}, {b, &flags2, 0x40}, {d, &flags2, 0x20}} {
				if x.set {
					*x.flags |= x.bit
				}
			}
			if p {
				want.Flow.Protocol = 17
			}
			if tr {
				want.Flow.DSCP = 46
			}
			if f {
				body = append(body, 0xff, 0xfa, 0xbc, 0xde) // reserved bits set
				want.Flow.FlowLabel = 0xabcde
			}
			if s {
				body = append(body, 1, 2, 3, 4)
				want.Flow.SPI = 0x01020304
			}
			if a || b {
				body = append(body, 0, 80, 0, 0)
			}
			if a {
				want.Flow.SrcPort = 80
			}
			got, err := ParseMRI(append([]byte{0, 0, flags1, flags2}, body...))
			if f && !v6 || s && !p || (a || b) && !p {
				var bad *valueError
				if !errors.As(err, &bad) || bad.id != InvalidFlagFieldCombination {
					t.Errorf("flags %02x %02x: got %v, want Invalid Flag-Field Combination", flags1, flags2, err)
				}
				continue
			}
			want.Flow.Source, want.Flow.Destination = prefix("10.0.0.1/32"), prefix("10.0.0.2/32")
			if v6 {
				want.Flow.Source, want.Flow.Destination = prefix("2001:db8::1/128"), prefix("2001:db8::2/128")
			}
			if err != nil || got != want {
				t.Errorf("flags %02x %02x: got %+v, %v; want %+v", flags1, flags2, got, err, want)
			}
			if again, err := ParseMRI(AppendMRI(nil, &got)); err != nil || again != got || got.Check() != nil {
				t.Errorf("flags %02x %02x: again %+v, %v; Check %v", flags1, flags2, again, err, got.Check())
			}
		}
	}
}

// What cannot be sent: Check has the rules of ParseMRI.
func TestMRICheck(t *testing.T) {
	for name, change := range map[string]func(*MRI){
		"two IP versions": func(m *MRI) { m.Flow.Source = prefix("2001:db8::1/128") },
		"no destination":  func(m *MRI) { m.Flow.Destination = netip.Prefix{} },
		"IPv4 in IPv6 form": func(m *MRI) {
			m.Flow.Source, m.Flow.Destination = prefix("::ffff:10.0.0.1/128"), prefix("::ffff:10.0.0.2/128")
		},
		"a port and no protocol": func(m *MRI) { m.Flow.HasProtocol, m.Flow.Protocol = false, 0 },
		"a field, no flag":       func(m *MRI) { m.Flow.SPI = 7 },
		"method":                 func(m *MRI) { m.Method = 9 },
		"edge of another family": func(m *MRI) { m.Egress = addr("2001:db8::1") },
	} {
		m := testMRI
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if err := m.Check(); err == nil {
			t.Errorf("%s: no error for %+v", name, m)
		}
	}
}

func TestMRIRejects(t *testing.T) {
	for _, c := range []struct {
		name string
		hex  string
		id   ErrorID
		at   int
	}{
		{"method unknown", `02 00 40 00 0a000001 0a000002`, ValueNotSupported, 4},
		// RFC 5971 §A.3.1.1: "The N-flag has a value of 0 for this MRM."
		{"N", `00 80 40 00 0a000001 0a000002 20 20 00 00`, InvalidFlagFieldCombination, 5},
		{"IP version", `00 00 50 00 0a000001 0a000002 20 20 00 00`, ValueNotSupported, 6},
		// "F MUST NOT be set if IP-Ver is not 6."
		{"F with IPv4", `00 00 42 00 0a000001 0a000002 20 20 00 00 00000001`, InvalidFlagFieldCombination, 6},
		// "The S-flag MUST be 0 if the P-flag is 0."
		{"S without P", `00 00 41 00 0a000001 0a000002 20 20 00 00 00000001`, InvalidFlagFieldCombination, 6},
		// "If P=0, the A/B flags MUST both be zero".
		{"A without P", `00 00 40 80 0a000001 0a000002 20 20 00 00 00010000`, InvalidFlagFieldCombination, 7},
		{"B without P", `00 00 40 40 0a000001 0a000002 20 20 00 00 00000001`, InvalidFlagFieldCombination, 7},
		{"source prefix", `00 00 40 00 0a000001 0a000002 21 20 00 00`, ValueNotSupported, 16},
		{"destination prefix", `00 00 40 00 0a000001 0a000002 20 ff 00 00`, ValueNotSupported, 17},
		{"a word too many", `00 00 40 00 0a000001 0a000002 20 20 00 00 00000000`, IncorrectLength, 20},
		{"ports missing", `00 00 48 80 0a000001 0a000002 20 20 11 00`, IncorrectLength, 20},
		{"Off-Path without edges", `78 00 40 00 0a000001 0a000002 20 20 00 00`, IncorrectLength, 20},
		{"Loose-End too long", `01 00 40 00 0a000001 0a000002 20 20 00 00`, IncorrectLength, 16},
		{"empty", ``, IncorrectLength, 4},
		// RFC 5971 §5.8.1.1: "MUST be real node addresses".
		{"multicast source", `00 00 40 00 e0000001 0a000002 20 20 00 00`, ValueNotSupported, 8},
		{"unspecified source of one node", `00 00 40 00 00000000 0a000002 20 20 00 00`, ValueNotSupported, 8},
		{"broadcast destination", `00 00 40 00 0a000001 ffffffff 20 20 00 00`, ValueNotSupported, 12},
		{"unspecified destination", `00 00 40 00 0a000001 00000000 20 00 00 00`, ValueNotSupported, 12},
		{"multicast destination, IPv6", `01 00 60 00 20010db8000000000000000000000001 ff020000000000000000000000000001`, ValueNotSupported, 24},
		{"IPv4 in IPv6 form", `00 00 60 00 00000000000000000000ffff0a000001 20010db8000000000000000000000002 80 80 00 00`, ValueNotSupported, 8},
		{"multicast egress", `78 00 40 00 0a000001 0a000002 20 20 00 00 e0000001 00000000`, ValueNotSupported, 20},
		{"multicast ingress", `78 00 48 80 0a000001 0a000002 20 20 11 00 00500000 0a000009 e0000001`, ValueNotSupported, 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseMRI(unhex(t, c.hex))
			var bad *valueError
			if !errors.As(err, &bad) || bad.id != c.id || bad.at != c.at {
				t.Errorf("got %v, want %v at octet %d", err, c.id, c.at)
			}
		})
	}
}

// RFC 5971 §A.3.9: lists of types and of opaque fields, padded to words.
func TestNATTraversal(t *testing.T) {
	n := NATTraversal{MRI: testMRI, Translated: []uint16{uint16(ObjNLI), 0x8000 | 2001, uint16(ObjStackConfig)}, Opaque: [][]byte{[]byte("abc"), {}, []byte("de")}}
	want := unhex(t, `
		07 03 03 00                   # MRI of 7 words, 3 types, 3 NATs
		78 00 4c 40 c0000201 c6336400 20 18 11 b8 0000 138c cb007101 cb007102
		0002 87d1 0004 0000           # NLI, 2001 (forward), Stack-Configuration-Data, padding
		0003 616263 000000            # "abc"
		0000 0000
		0002 6465
	`)
	if got := n.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("append:\n got % x\nwant % x", got, want)
	}
	got, err := ParseNATTraversal(want)
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("parse: %+v, %v; want %+v", got, err, n)
	}
	if !n.Translates(ObjNLI) || !n.Translates(2001) || n.Translates(ObjMRI) {
		t.Error("Translates does not say what the list says")
	}
	for cut := range want {
		if _, err := ParseNATTraversal(want[:cut]); err == nil {
			t.Errorf("cut to %d octets: no error", cut)
		}
	}

	m := sample(Query, true)
	m.NATTraversal = want
	b := m.AppendDatagram(nil)
	parsed, err := ParseDatagram(b)
	if err != nil || !bytes.Equal(parsed.NATTraversal, want) {
		t.Errorf("in a Query: % x, %v; want it kept as it was", parsed.NATTraversal, err)
	}
	// RFC 5971 §7.2.3: "The error message MUST include the NAT-Traversal object
	// as the first TLV after the common header".
	e := sample(Error, true)
	e.NATTraversal = want
	if b := e.AppendDatagram(nil); !bytes.Equal(b[MagicLen+HeaderLen:][:4], []byte{0, 7, 0, byte(len(want) / 4)}) {
		t.Errorf("Error message begins with % x, want the NAT-Traversal object", b[MagicLen+HeaderLen:][:4])
	}
}
