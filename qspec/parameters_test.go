package qspec

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
)

// One row a parameter: its octets, its value, and what is refused of it.
func TestParameters(t *testing.T) {
	tmod := TMOD{2.5e6, 64000, infinity, 64, 1500}
	for _, c := range []struct {
		name, bytes string
		want        Params
	}{
		{"RFC 5975 §5.2.1: r, b, p as IEEE floats, m and MPS as integers",
			"80010005 4a189680 477a0000 7f800000 00000040 000005dc", Params{TMOD1: tmod, Must: 1 << TMOD1ID}},
		{"RFC 5975 §5.2.2: a second TMOD, with M, E and N",
			"e0020005 4a189680 477a0000 7f800000 00000040 000005dc",
			Params{TMOD2: tmod, Must: 1 << TMOD2ID, Failed: 1 << TMOD2ID, Unsupported: 1 << TMOD2ID}},
		{"RFC 5975 §5.2.3: microseconds, (2^32)-1 is indeterminate", "00030001 ffffffff", Params{PathLatency: Indeterminate}},
		{"RFC 5975 §5.2.4: four 32-bit integers, the last reserved", "00040004 00000001 00000002 00000003 00000000",
			Params{PathJitter: PathJitter{1, 2, 3}}},
		{"RFC 5975 §5.2.5: a single precision float, 10^-1 is indeterminate", "00050001 3dcccccd", Params{PathPLR: IndeterminateRatio}},
		{"RFC 5975 §5.2.6: a single precision float", "00060001 3727c5ac", Params{PathPER: 1e-5}},
		{"RFC 5975 §5.2.7: 0 to (2^32)-1 microseconds", "00070001 ffffffff", Params{SlackTerm: 1<<32 - 1}},
		{"RFC 5975 §5.2.8: two 16-bit values, both populated", "00080001 0102 0304", Params{Preemption: Preemption{0x0102, 0x0304}}},
		{"RFC 5975 §5.2.9: a local priority has all ones in the Y.2171 field", "00090001 ff 05 0000",
			Params{Admission: Admission{AdmissionLocal, 5}}},
		{"RFC 5975 §5.2.10: namespace and priority", "000a0001 0203 04 00", Params{RPH: RPH{0x0203, 4}}},
		{"RFC 5975 §5.2.11: the re-mark value is six bits", "000b0001 02 28 0000", Params{Excess: Excess{ExcessRemark, 10}}},
		{"RFC 5975 §5.2.12: a single PHB is its DSCP and ten zeros", "000c0001 b800 0000", Params{PHB: PHB(DSCPEF)}},
		{"RFC 5975 §5.2.13: class type", "000d0001 07000000", Params{DSTE: 7}},
		{"RFC 5975 §5.2.14: QoS class", "000e0001 07000000", Params{Y1541: 7}},
		{"interdomain-qosm §2: Egress ID, IPv6",
			"81000006 60000000 0000fde9 20010db8000000000000000000000001",
			Params{Egress: BorderID{65001, netip.MustParseAddr("2001:db8::1")}, Must: egressBit}},
		{"interdomain-qosm §2: Ingress ID, IPv4", "81010003 40000000 0000fde9 7f010002",
			Params{Ingress: BorderID{65001, netip.MustParseAddr("127.1.0.2")}, Must: ingressBit}},
		{"interdomain-qosm §2: seconds before 1970 are signed", "81020004 ffffffffffffffff 0000000000000001",
			Params{Absolute: []Interval{{-1, 1}}, Must: absoluteTimeBit}},
		{"interdomain-qosm §2: an hour that begins in a minute", "81030003 00 00 0000 0000003c 00000e10",
			Params{Relative: RelativeTime{FromRequest, 0, 0, 60, 3600}, Must: relativeTimeBit}},
		{"RFC 5976 §3.1: a single precision float in octets", "000f0001 477a0000", Params{PeakBucket: 64000}},
		{"RFC 5976 §3.1: infinity is an exponent of all ones", "000f0001 7f800000", Params{PeakBucket: infinity}},
		{"RFC 5976 §3.2: priority, time to restore and extent", "80100001 01 25 0000",
			Params{Restoration: Restoration{RestoreNormal, 2, 5}, Must: 1 << RestorationID}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.bytes)
			id := ParameterID(b[0]&0x0f)<<8 | ParameterID(b[1])
			c.want.Has = maskOf(id)
			var got Params
			if err := got.parse(QoSDesired, b); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Fatalf("parsed %+v, %v", got, err)
			}
			if out := c.want.append(nil); !bytes.Equal(out, b) {
				t.Errorf("wrote %s", hex.EncodeToString(out))
			}
			// One word more or less is another parameter's length.
			for _, words := range []byte{b[3] - 1, b[3] + 1} {
				other := append(bytes.Clone(b), 0, 0, 0, 0)[:4+4*int(words)]
				other[3] = words
				if err := new(Params).parse(QoSDesired, other); err == nil {
					t.Errorf("accepted with %d words", words)
				}
			}
			text := c.want.String()
			if back, err := ParseParams(text); err != nil || !reflect.DeepEqual(back, c.want) {
				t.Errorf("text %q gave %+v, %v", text, back, err)
			}
		})
	}
}

// RFC 5975 §5.2.12: "Bit 15 is set to 1" for an experimental or local code, and
// bit 14 for a set of PHBs.
func TestPHBClass(t *testing.T) {
	for c, want := range map[PHBClass]struct {
		dscp uint8
		ok   bool
		set  bool
		text string
	}{
		0xb800: {46, true, false, "EF"}, 0x2802: {10, true, true, "AF11+"}, 0x1231: {0, false, false, "phb:1231"},
		0x1233: {0, false, true, "phb:1233"}, 0: {0, true, false, "BE"}, 0x0400: {1, true, false, "1"},
	} {
		d, ok := c.DSCP()
		if d != want.dscp || ok != want.ok || c.IsSet() != want.set || c.String() != want.text {
			t.Errorf("%04x: DSCP %d %v, set %v, %q", uint16(c), d, ok, c.IsSet(), c)
		}
		if back, err := parsePHBText(want.text); err != nil || back != c {
			t.Errorf("%q is %04x, %v", want.text, uint16(back), err)
		}
	}
}

// RFC 5975 §5.2.9: "A reservation without an <Y.2171 Admission Priority>
// parameter MUST be treated as a reservation with an <Y.2171 Admission
// Priority> = 1."
func TestAdmissionPriorityDefault(t *testing.T) {
	p := Params{}
	if p.AdmissionPriority() != 1 {
		t.Errorf("%d", p.AdmissionPriority())
	}
	p = Params{Has: SetOf(AdmissionID), Admission: Admission{AdmissionHigh, AdmissionHigh}}
	if p.AdmissionPriority() != AdmissionHigh {
		t.Errorf("%d", p.AdmissionPriority())
	}
}

// RFC 5975 §5.1.1: version, I, type, procedure and length, each in its place.
func TestCommonHeader(t *testing.T) {
	for _, c := range []struct {
		word uint32
		q    QSPEC
	}{
		{0x00000003, QSPEC{}},
		{0x08000003, QSPEC{Local: true}},
		{0x07c00003, QSPEC{Type: 31}},
		{0x00020003, QSPEC{Sequence: ResourceQuery}},
		{0x00002003, QSPEC{Combination: 2}},
		{0x0b41f003, QSPEC{Local: true, Type: TypeInterDomain, Sequence: ReceiverInitiated, Combination: 15}},
	} {
		if got := c.q.header(3); got != c.word {
			t.Errorf("%+v: %08x, want %08x", c.q, got, c.word)
		}
		var q QSPEC
		if q.setHeader(c.word); !reflect.DeepEqual(q, c.q) {
			t.Errorf("%08x: %+v", c.word, q)
		}
	}
}

// RFC 5975 §5.1.2: every object has the same header, with its own E flag, and
// every parameter M, E and N; of TMOD-1 they are 1, E and 0.
func TestObjectAndParameterHeaders(t *testing.T) {
	for o := QoSDesired; o <= MinimumQoS; o++ {
		for _, failed := range []bool{false, true} {
			var q QSPEC
			p := q.Object(o)
			p.Has, p.ObjectFailed = 1<<Y1541ClassID, failed
			p.Must, p.Failed, p.Unsupported = p.Has, p.Has, p.Has
			e := byte(0)
			if failed {
				e = 0x80
			}
			want := []byte{0, 0, 0, 3, e, byte(o), 0, 2, 0xe0, 14, 0, 1, 0, 0, 0, 0}
			if got := q.Append(nil); !bytes.Equal(got, want) {
				t.Errorf("%v: % x, want % x", o, got, want)
			}
			if got, err := Parse(want); err != nil || !reflect.DeepEqual(got, q) {
				t.Errorf("%v: %+v, %v", o, got, err)
			}
		}
	}
	b := unhex(t, "20010005 4a189680 477a0000 7f800000 00000040 000005dc") // M=0, N=1
	var p Params
	if err := p.parse(QoSDesired, b); err != nil || p.Must != 1<<TMOD1ID || p.Unsupported != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// RFC 5975 §7: the numbers of parameters, and ours in the experimental range.
func TestParameterNumbers(t *testing.T) {
	want := map[ParameterID]string{1: "TMOD-1", 2: "TMOD-2", 3: "Path Latency", 4: "Path Jitter", 5: "Path PLR",
		6: "Path PER", 7: "Slack Term", 8: "Preemption Priority", 9: "Admission Priority", 10: "RPH Priority",
		11: "Excess Treatment", 12: "PHB Class", 13: "DSTE Class Type", 14: "Y.1541 QoS Class", 15: "TMOD Extension", 16: "Restoration Priority", 256: "Egress ID",
		257: "Ingress ID", 258: "Absolute Time Specification", 259: "Relative Time Specification"}
	ids := AllParams.IDs()
	if len(ids) != len(want) {
		t.Errorf("%d parameters, want %d", len(ids), len(want))
	}
	for _, id := range ids {
		if id.String() != want[id] || !SetOf(id).Has(id) {
			t.Errorf("%d is %q, want %q", uint16(id), id, want[id])
		}
	}
	for _, id := range []ParameterID{0, 17, 255, 260, 4095} {
		if SetOf(id) != 0 {
			t.Errorf("parameter %d is known", uint16(id))
		}
	}
}

// RFC 5975 §4.2.1: "the E flag in the corresponding QSPEC object MUST be raised
// when a resource cannot be satisfied for this parameter."
func TestOfferRaisesE(t *testing.T) {
	q := initiatorEF(t) // procedure 0/0: QoS Desired alone
	if failed := q.OfferRate(1000); failed != SetOf(TMOD1ID) {
		t.Fatalf("failed %v", failed)
	}
	got := mustParse(t, q.Refusal(), InError)
	if got.Desired.Failed != SetOf(TMOD1ID) || !got.Desired.ObjectFailed {
		t.Errorf("%v", got)
	}
}

// RFC 5975 §4.2.4: "The QSPEC in the RESPONSE message includes the failed QSPEC
// parameters marked with the E Flag".
func TestRefusalShowsWhatFailed(t *testing.T) {
	q := localEF(t)
	q.Refuse(1000, SetOf(TMOD1ID, PHBClassID))
	got := mustParse(t, q.Refusal(), InError)
	if !got.Available.Failed.Has(TMOD1ID) || !got.Desired.Failed.Has(PHBClassID) {
		t.Errorf("%v", got)
	}
	if !got.Minimum.Empty() || got.Encapsulated != nil {
		t.Errorf("objects in which nothing failed: %v", got)
	}
}

// RFC 5975 §4.3.1: "The QSPEC parameter IDs … in the QoS Reserved object … MUST
// be the same as those in the QoS Desired object …. For those QSPEC parameters
// that were also included in the QoS Available object …, their value is copied
// from the QoS Available object"; and "All parameters in the QoS Available
// object in the RESPONSE message are copied".
func TestResponseCopies(t *testing.T) {
	q := QSPEC{Combination: 1,
		Desired:   Params{Has: SetOf(TMOD1ID, PHBClassID), Must: SetOf(TMOD1ID), TMOD1: TMOD{2e6, 3000, infinity, 64, 1500}, PHB: PHB(46)},
		Available: Params{Has: SetOf(TMOD1ID, PathLatencyID), Must: SetOf(TMOD1ID), TMOD1: TMOD{1e6, 3000, infinity, 64, 1500}, PathLatency: 9}}
	got := mustParse(t, q.Response(), InResponse)
	want := q.Desired
	want.TMOD1 = q.Available.TMOD1
	if !reflect.DeepEqual(got.Reserved, want) || !reflect.DeepEqual(got.Available, q.Available) {
		t.Errorf("%v", got)
	}
}

// RFC 5975 §4.3.3: a resource query carries QoS Available both ways.
func TestResourceQuery(t *testing.T) {
	q := QSPEC{Sequence: ResourceQuery, Available: Params{Has: SetOf(PathLatencyID), PathLatency: 5}}
	if failed := q.Offer(InQuery, &Params{Has: SetOf(PathLatencyID), PathLatency: 7}); failed != 0 {
		t.Fatal(failed)
	}
	arrived := mustParse(t, q, InQuery)
	got := mustParse(t, arrived.Response(), InResponse)
	if got.Available.PathLatency != 12 || !got.Reserved.Empty() {
		t.Errorf("%v", got)
	}
}
