package qspec

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unhex joins annotated hexadecimal: what follows a # on a line is a comment.
func unhex(t testing.TB, s string) []byte {
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

func ptr[T any](v T) *T { return &v }

// askEF is 20 Mbit/s of EF, all or nothing.
func askEF() Ask {
	return Ask{CIR: 2_500_000, CBS: 64_000, PHB: ptr(PHB(DSCPEF)), Excess: &Excess{Treatment: ExcessDrop},
		Preemption: &Preemption{3, 7}, Admission: &Admission{AdmissionHigh, AdmissionHigh}}
}

func initiatorEF(t testing.TB) QSPEC {
	t.Helper()
	q, err := NewInitiator(askEF())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func localEF(t testing.TB) QSPEC {
	t.Helper()
	i := initiatorEF(t)
	q, err := Encapsulate(&i, InReserve)
	if err != nil {
		t.Fatal(err)
	}
	q.SetEgress(BorderID{65001, netip.MustParseAddr("127.1.0.2")})
	q.SetIngress(BorderID{65002, netip.MustParseAddr("127.1.0.3")})
	return q
}

const goldenInitiator = `
	0000 000f             # version 0, I=0, type 0, procedure 0/0, 15 words
	0000 000e             # QoS Desired, 14 words
	8001 0005             # TMOD-1, M
	4a189680              # r 2,500,000 octets/s
	477a0000              # b 64,000 octets
	7f800000              # p infinity: not specified
	00000040 000005dc     # m 64, MPS 1500
	0008 0001 0003 0007   # preemption 3, defending 7
	0009 0001 0202 0000   # Y.2171 high, high
	000b 0001 00 00 0000  # excess: drop
	800c 0001 b800 0000   # PHB class, M: EF, DSCP 46
`

// everything has each parameter once.
const goldenEverything = `
	0b40 204d             # version 0, I=1, type 13, procedure 0/2, 77 words
	8000 003a             # QoS Desired, E, 58 words
	c001 0005 4a189680 477a0000 4a989680 00000040 000005dc   # TMOD-1, M E
	2002 0005 4b189680 487a0000 7f800000 00000040 000005dc   # TMOD-2, N
	8003 0001 000186a0                                       # path latency 100 ms
	0004 0004 00000001 00000002 00000003 00000000            # path jitter
	0005 0001 3a83126f                                       # PLR 10^-3
	0006 0001 3727c5ac                                       # PER 10^-5
	0007 0001 00000064                                       # slack term 100 us
	0008 0001 0003 0007                                      # preemption 3, defending 7
	0009 0001 0202 0000                                      # admission priority high
	000a 0001 0005 0200                                      # RPH namespace 5, priority 2
	000b 0001 02 28 0000                                     # excess: re-mark to DSCP 10
	800c 0001 2802 0000                                      # PHB class: the set of AF11
	000d 0001 03 000000                                      # DSTE class type 3
	000e 0001 06 000000                                      # Y.1541 class 6
	000f 0001 487a0000                                       # peak bucket 256,000 octets
	0010 0001 02 15 0000                                     # restoration: high, 200 ms, extent 5
	8102 0008 0000000000000064 00000000000000c8 000000000000012c 0000000000000190  # 100..200, 300..400
	8103 0003 01 f8 003c 00007080 00000e10                   # weekly, Mon-Fri, UTC+1h, 8:00, an hour
	40ff 0001 deadbeef                                       # unknown parameter 255, E
	0001 000b             # QoS Available, 11 words
	8100 0003 40000000 0000fde9 7f010002                     # egress AS65001 127.1.0.2
	8101 0006 60000000 0000fdea 20010db8000000000000000000000001   # ingress AS65002 2001:db8::1
	0002 0002 000e 0001 06 000000                            # QoS Reserved
	0003 0002 0003 0001 000186a0                             # Minimum QoS
	0000 0003 0001 0002 0003 0001 00000000                   # encapsulated Initiator QSPEC
`

func everything() QSPEC {
	const m, e, n = 1<<1 | 1<<3 | 1<<12 | absoluteTimeBit | relativeTimeBit, ParamSet(1 << 1), ParamSet(1 << 2)
	return QSPEC{
		Type: TypeInterDomain, Local: true, Combination: 2,
		Desired: Params{
			Has: AllParams &^ (egressBit | ingressBit), Must: m, Failed: e, Unsupported: n, ObjectFailed: true,
			TMOD1:       TMOD{2.5e6, 64000, 5e6, 64, 1500},
			TMOD2:       TMOD{1e7, 256000, infinity, 64, 1500},
			PathLatency: 100_000, PathJitter: PathJitter{1, 2, 3}, PathPLR: 1e-3, PathPER: 1e-5, SlackTerm: 100,
			Preemption: Preemption{3, 7}, Admission: Admission{2, 2}, RPH: RPH{5, 2},
			Excess: Excess{ExcessRemark, 10}, PHB: PHBSet(10), DSTE: 3, Y1541: 6,
			PeakBucket: 256000, Restoration: Restoration{RestoreHigh, 1, 5},
			Absolute: []Interval{{100, 200}, {300, 400}},
			Relative: RelativeTime{Weekly, 0x7c, 60, 8 * 3600, 3600},
			Extra:    []RawParam{{ID: 255, Failed: true, Value: []byte{0xde, 0xad, 0xbe, 0xef}}},
		},
		Available: Params{Has: egressBit | ingressBit, Must: egressBit | ingressBit,
			Egress:  BorderID{65001, netip.MustParseAddr("127.1.0.2")},
			Ingress: BorderID{65002, netip.MustParseAddr("2001:db8::1")}},
		Reserved:     Params{Has: 1 << Y1541ClassID, Y1541: 6},
		Minimum:      Params{Has: 1 << PathLatencyID, PathLatency: 100_000},
		Encapsulated: []byte{0, 0, 0, 3, 0, 1, 0, 2, 0, 3, 0, 1, 0, 0, 0, 0},
	}
}

// RFC 5975 §5.1: the golden bytes of a simple request and of every parameter.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		want        QSPEC
	}{
		{"initiator", goldenInitiator, initiatorEF(t)},
		{"everything", goldenEverything, everything()},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.bytes)
			if d := cmp.Diff(hex.EncodeToString(b), hex.EncodeToString(c.want.Append(nil))); d != "" {
				t.Errorf("Append (-want +got):\n%s", d)
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("Parse:\n got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// interdomain-qosm §2: "The Local header's Length counts the local objects only;
// the Initiator QSPEC follows at once."
func TestLocalLengthCountsLocalObjectsOnly(t *testing.T) {
	q := localEF(t)
	b := q.Append(nil)
	i := initiatorEF(t)
	inner := i.Append(nil)
	words := int(b[2]&0x0f)<<8 | int(b[3])
	if 4+4*words+len(inner) != len(b) || !strings.HasSuffix(string(b), string(inner)) {
		t.Fatalf("length %d words of %d octets with %d encapsulated", words, len(b), len(inner))
	}
	if b[0] != 0x0b || b[1] != 0x40 {
		t.Errorf("header % x, want I=1, type 13, message sequence 0", b[:4])
	}
}

// A decoder never reads past what is there: every prefix is refused, as
// Malformed QSPEC (RFC 5975 §4.2.3).
func TestTruncationAtEveryByte(t *testing.T) {
	b := unhex(t, goldenEverything)
	// Without the encapsulated QSPEC it is whole again, only of another kind.
	whole := len(b) - 16
	for n := range len(b) {
		_, err := Parse(b[:n])
		var e *Error
		switch {
		case n == whole:
			if err != nil {
				t.Errorf("%d octets: %v", n, err)
			}
		case !errors.As(err, &e) || e.Class != ClassProtocolError || e.Code != CodeMalformedQSPEC:
			t.Errorf("%d octets: %v, want Malformed QSPEC", n, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const tmod = "8001 0005 4a189680 477a0000 7f800000 00000040 000005dc"
	for _, c := range []struct {
		name, bytes string
		code        uint8
		param       ParameterID
	}{
		{"RFC 5975 §5.1: empty QSPECs MUST NOT be used", "00000000", CodeMalformedQSPEC, 0},
		{"RFC 5975 §5.1: empty QSPEC Objects MUST NOT be used", "00000001 00000000", CodeMalformedQSPEC, 0},
		{"RFC 5975 §5.1: duplicate objects MUST NOT be used",
			"00000006 0000 0002 000e0001 01000000 0000 0002 000e0001 01000000", CodeMalformedQSPEC, 0},
		{"RFC 5975 §5.1: duplicate parameters MUST NOT be used",
			"00000005 0000 0004 000e0001 01000000 000e0001 01000000", CodeMalformedQSPEC, Y1541ClassID},
		{"RFC 5975 §5.1: nor of a parameter that is not known",
			"00000003 0000 0002 00ff0000 00ff0000", CodeMalformedQSPEC, 255},
		{"RFC 5975 §3.2: a higher version is Incompatible QSPEC", "10000007 00000006" + tmod, CodeIncompatibleQSPEC, 0},
		{"RFC 5975 §5.2.1: the sign bit MUST be zero",
			"00000007 00000006 80010005 ca189680 477a0000 7f800000 00000040 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §5.2.1: exponents less than 127 are prohibited",
			"00000007 00000006 80010005 3f7fffff 477a0000 7f800000 00000040 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §5.2.1: only the peak rate may be infinite",
			"00000007 00000006 80010005 7f800000 477a0000 7f800000 00000040 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"a rate that is not a number",
			"00000007 00000006 80010005 7fc00000 477a0000 7f800000 00000040 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §3.3.1: p MUST be greater than or equal to r",
			"00000007 00000006 80010005 4a189680 477a0000 477a0000 00000040 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §3.3.1: m MUST be less than or equal to MPS",
			"00000007 00000006 80010005 4a189680 477a0000 7f800000 000005dd 000005dc", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §3.3.1: all 5 sub-parameters MUST be included (an independent implementation sent four)",
			"00001008 00000007 80010004 4a189680 477a0000 7f800000 00000040 80090001 02020000", CodeMalformedQSPEC, TMOD1ID},
		{"RFC 5975 §3.3.3: preemption priority MUST be less than or equal to defending priority",
			"00000003 00000002 00080001 00080007", CodeMalformedQSPEC, PreemptionID},
		{"a loss ratio above one", "00000003 00010002 00050001 3f800001", CodeMalformedQSPEC, PathPLRID},
		{"an object type that is not assigned", "00000003 00040002 000e0001 01000000", CodeMalformedQSPEC, 0},
		{"a border of IP version 6 with four octets", "00000005 00010004 81000003 60000000 0000fde9 7f000001", CodeMalformedQSPEC, EgressID},
		{"an interval that ends before it starts",
			"00000006 00000005 81020004 0000000000000064 0000000000000064", CodeMalformedQSPEC, AbsoluteTimeID},
		{"a weekly window on no day", "00000005 00000004 81030003 01000000 00000000 00000001", CodeMalformedQSPEC, RelativeTimeID},
		{"an Initiator QSPEC with something behind it", "00000003 00000002 000e0001 01000000 00000000", CodeMalformedQSPEC, 0},
		{"a local one inside a local one",
			"0b400003 00000002 000e0001 01000000 0b400003 00000002 000e0001 01000000", CodeMalformedQSPEC, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(unhex(t, c.bytes))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v, want a *Error", err)
			}
			if e.Class != ClassProtocolError || e.Code != c.code || e.Parameter != c.param {
				t.Errorf("%d/%#x parameter %d (%v), want 3/%#x parameter %d", e.Class, e.Code, e.Parameter, e, c.code, c.param)
			}
		})
	}
}

// RFC 5975 §5.1: reserved bits "MUST be ignored on reception".
func TestReservedBitsIgnored(t *testing.T) {
	b := unhex(t, `
		0030 0005       # r bits of the header
		7000 f004       # of an object
		1009 f001 0202ffff
		100e f001 06ffffff`)
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := QSPEC{Desired: Params{Has: SetOf(AdmissionID, Y1541ClassID), Admission: Admission{2, 2}, Y1541: 6}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// RFC 5975 §4.3.2: a Minimum QoS may be zero.
func TestZeroMinimum(t *testing.T) {
	q := QSPEC{Minimum: Params{Has: 1 << TMOD1ID, Must: 1 << TMOD1ID}}
	got, err := Parse(q.Append(nil))
	if err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTextRoundTrip(t *testing.T) {
	for _, q := range []QSPEC{initiatorEF(t), localEF(t), everything()} {
		s := q.String()
		got, err := ParseText(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		if !reflect.DeepEqual(got, q) {
			t.Errorf("%s\ngave %s", s, got)
		}
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct{ text, canonical string }{
		{"tmod=20M/64k class=EF", "tmod=20M/64k class=EF"},
		{"class=46 tmod=2.5M/1500", "tmod=2.5M/1.5k class=EF"},
		{"tmod=20M/64k/40M/64/9000 excess=remark/AF11", "tmod=20M/64k/40M/64/9000 excess=remark/10"},
		{"tmod=8/1", "tmod=8/1"},
		{"class=AF11+!M y1541=3!E!N 200=00000001", "y1541=3!E!N"},
		{"egress=65001@127.0.0.1 ingress=65002@-", "egress=65001@127.0.0.1 ingress=65002@-"},
	} {
		p, err := ParseParams(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got := p.String(); !strings.Contains(got, c.canonical) {
			t.Errorf("%s became %s, want %s", c.text, got, c.canonical)
		}
	}
	for _, bad := range []string{"tmod", "tmod=20M", "tmod=x/1", "class=QQ", "tmod=8/1 tmod=8/1", "excess=maybe",
		"color=red", "class=EF!Q", "12=00000000", "200=00", "time=5..5", "egress=7", "preempt=1", "plr=2", "when=0/0/0/0/0"} {
		if p, err := ParseParams(bad); err == nil {
			t.Errorf("%s was read as %s", bad, p)
		}
	}
	for _, bad := range []string{"initiator type=32", "local proc=1", "initiator wanted{}", "initiator desired{tmod=8/1", "local encapsulated[zz]", "local encapsulated[00"} {
		if q, err := ParseText(bad); err == nil {
			t.Errorf("%s was read as %s", bad, q)
		}
	}
}

func TestJSONIsValidAndComplete(t *testing.T) {
	q := everything()
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	d := got["desired"].(map[string]any)
	if len(d) != 20 { // 18 known, one unknown, and the object's flag
		t.Errorf("%d members in desired: %s", len(d), b)
	}
	if rate := d["tmod"].(map[string]any)["value"].(map[string]any)["rate"]; rate != 2.5e6 {
		t.Errorf("rate %v", rate)
	}
	if _, ok := got["encapsulated"].(map[string]any)["available"]; !ok {
		t.Errorf("no encapsulated QSPEC in %s", b)
	}
}

func TestRates(t *testing.T) {
	for _, v := range []uint64{1, 2, 1<<24 - 1, 1<<24 + 1, 1<<25 + 1, 1<<40 + 1, 1<<63 - 1, 1<<64 - 2} {
		up, down := RateUp(v), RateDown(v)
		if float64(up) < float64(v) || Octets(up) < v {
			t.Errorf("RateUp(%d) = %v", v, up)
		}
		if float64(down) > float64(v) || Octets(down) > v {
			t.Errorf("RateDown(%d) = %v", v, down)
		}
		if n := math.Nextafter32(down, infinity); n != up && down != up {
			t.Errorf("%d lies between %v and %v, which are not neighbours", v, down, up)
		}
	}
	if RateUp(0) != MinRate || RateDown(0) != MinRate || RateUp(Unlimited) != infinity || Octets(infinity) != Unlimited {
		t.Error("0 or Unlimited")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, goldenInitiator))
	f.Add(unhex(f, goldenEverything))
	l := localEF(f)
	f.Add(l.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := Parse(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		out := q.Append(nil)
		if len(out) != len(b) {
			t.Fatalf("%d octets became %d", len(b), len(out))
		}
		again, err := Parse(out)
		if err != nil || !reflect.DeepEqual(q, again) {
			t.Fatalf("%+v\nbecame %+v, %v", q, again, err)
		}
		words := 0
		for o := QoSDesired; o <= MinimumQoS; o++ {
			words += q.Object(o).words()
		}
		if want := len(out) - 4 - len(q.Encapsulated); 4*words != want {
			t.Fatalf("words says %d octets, Append wrote %d", 4*words, want)
		}
		if js, _ := q.MarshalJSON(); !json.Valid(js) {
			t.Fatalf("invalid JSON %s", js)
		}
	})
}

func FuzzParseText(f *testing.F) {
	f.Add("tmod=20M/64k class=EF excess=drop preempt=3/7 admission=2/2")
	l, e := localEF(f), everything()
	f.Add("local }{") // once a panic
	f.Add(l.String())
	f.Add(e.String())
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseText(s)
		if err != nil {
			return
		}
		again, err := ParseText(q.String())
		if err != nil {
			t.Fatalf("%q became %q: %v", s, q.String(), err)
		}
		if again.String() != q.String() {
			t.Fatalf("%q became %q, then %q", s, q.String(), again.String())
		}
	})
}

func BenchmarkParseLocal(b *testing.B) {
	l := localEF(b)
	buf := l.Append(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeEverything decodes and validates a RESERVE's QSPEC with every
// parameter there is, and reads every field as a node does.
func BenchmarkDecodeEverything(b *testing.B) {
	q := everything()
	q.Reserved = Params{}
	q.Desired.Extra, q.Desired.Failed, q.Desired.ObjectFailed = nil, 0, false
	q.Desired.Absolute = []Interval{{0, 30 * 86400}}
	q.Desired.Y1541 = 0
	q.Available.copyFrom(&q.Desired, AllParams)
	q.Minimum.copyFrom(&q.Desired, comparables|relativeTimeBit)
	buf := q.Append(nil)
	share := q.Available.clone()
	share.PathJitter, share.PathLatency, share.PathPLR, share.PathPER = PathJitter{}, 0, 0, 0
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		q, err := Parse(buf)
		if err == nil {
			err = q.Admit(InReserve, AllParams, &share)
		}
		if err != nil {
			b.Fatal(q, err)
		}
	}
}

func BenchmarkAppendEverything(b *testing.B) {
	q := everything()
	buf := q.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = q.Append(buf[:0])
	}
}

func BenchmarkAppendLocal(b *testing.B) {
	l := localEF(b)
	buf := l.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = l.Append(buf[:0])
	}
}

// BenchmarkTransit is what an AS in the middle does to a RESERVE's QSPEC.
func BenchmarkTransit(b *testing.B) {
	l := localEF(b)
	in := l.Append(nil)
	var out []byte
	egress := BorderID{65002, netip.MustParseAddr("127.2.0.2")}
	b.ReportAllocs()
	for b.Loop() {
		q, err := Parse(in)
		if err != nil || q.Check(InReserve) != nil || q.OfferRate(1e9) != 0 {
			b.Fatal(err)
		}
		q.SetEgress(egress)
		out = q.Append(out[:0])
	}
}
