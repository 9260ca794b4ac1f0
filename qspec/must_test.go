package qspec

import (
	"bytes"
	"math"
	"net/netip"
	"reflect"
	"testing"
)

// One test for each MUST of RFC 5975 §3 to §5, in the order of the text. What binds
// somebody else (the authors of a QOSM, links, droppers, QoS-NSLP) is at the end of
// docs/qspec.md.

func parseOf(t *testing.T, hex string) error {
	t.Helper()
	_, err := Parse(unhex(t, hex))
	return err
}

// withTMOD is a QSPEC of QoS Desired with one TMOD-1 of these words.
func withTMOD(words string) string { return "00000007 00000006 80010005" + words }

func refuses(t *testing.T, hex string, code uint8) {
	t.Helper()
	isError(t, parseOf(t, hex), ClassProtocolError, code)
}

// RFC 5975 §3.2: "Later QSPEC versions MUST be backward compatible with earlier QSPEC
// versions": "if a QSPEC version n … device receives an NSLP message specifying QSPEC
// version n+1, then the version n device responds with an 'Incompatible QSPEC' error
// code (0x0f)".
func TestMustVersion(t *testing.T) {
	for v := 1; v < 16; v++ {
		b := unhex(t, goldenInitiator)
		b[0] |= byte(v << 4)
		_, err := Parse(b)
		isError(t, err, 3, 0x0f)
	}
}

// RFC 5975 §3.2: "The QSPEC objects QoS Desired, QoS Available, QoS Reserved and
// Minimum QoS MUST all be supported by QNEs".
func TestMustSupportFourObjects(t *testing.T) {
	for o := QoSDesired; o <= MinimumQoS; o++ {
		var q QSPEC
		*q.Object(o) = Params{Has: 1 << Y1541ClassID, Y1541: 3}
		got, err := Parse(q.Append(nil))
		if err != nil || !reflect.DeepEqual(got, q) || got.Check(InError) != nil {
			t.Errorf("%v: %v, %v", o, got, err)
		}
	}
}

// RFC 5975 §3.2: "each QNE MUST inspect all parameters of this QSPEC object, and if
// resources available to this QNE are less than what a particular parameter says
// currently, the QNE MUST adapt this parameter accordingly."
func TestMustAdaptAvailable(t *testing.T) {
	have := Params{Has: comparables, TMOD1: TMOD{1e6, 3000, 2e6, 64, 1500}, TMOD2: TMOD{1e6, 3000, 2e6, 64, 1500}, PathPLR: 0, PeakBucket: 9000,
		Y1541: 6, Absolute: []Interval{{0, 100}}}
	less := Params{Has: comparables, TMOD1: TMOD{5e5, 2000, 1e6, 128, 1400}, TMOD2: TMOD{5e5, 2000, 1e6, 128, 1400}, PathLatency: 5,
		PathJitter: PathJitter{1, 2, 3}, PathPLR: 1e-3, PathPER: 1e-4, PeakBucket: 4000, Y1541: 1, Absolute: []Interval{{10, 90}}}
	q := QSPEC{Sequence: ResourceQuery, Available: have}
	if failed := q.Offer(InQuery, &less); failed != 0 {
		t.Fatal(failed)
	}
	want := less
	if !reflect.DeepEqual(q.Available, want) {
		t.Errorf("got  %v\nwant %v", q.Available, want)
	}
}

// RFC 5975 §3.3.1: "Both b and r MUST be positive."
func TestMustPositiveRateAndBucket(t *testing.T) {
	refuses(t, withTMOD("00000000 477a0000 7f800000 00000040 000005dc"), CodeMalformedQSPEC)
	refuses(t, withTMOD("4a189680 00000000 7f800000 00000040 000005dc"), CodeMalformedQSPEC)
}

// RFC 5975 §3.3.1: "p MUST be greater than or equal to the token bucket rate, r."
func TestMustPeakAtLeastRate(t *testing.T) {
	refuses(t, withTMOD("4a189680 477a0000 4a18967f 00000040 000005dc"), CodeMalformedQSPEC)
	if err := parseOf(t, withTMOD("4a189680 477a0000 4a189680 00000040 000005dc")); err != nil {
		t.Error(err)
	}
}

// RFC 5975 §3.3.1: "If the peak rate is unknown or unspecified, then p MUST be set to
// infinity."
func TestMustUnspecifiedPeakIsInfinite(t *testing.T) {
	q, err := NewInitiator(Ask{CIR: 1000})
	if err != nil || !math.IsInf(float64(q.Desired.TMOD1.Peak), 1) {
		t.Errorf("%v, %v", q, err)
	}
	p, err := ParseParams("tmod=8k/1k")
	if err != nil || !math.IsInf(float64(p.TMOD1.Peak), 1) {
		t.Errorf("%v, %v", p, err)
	}
}

// RFC 5975 §3.3.1: "The flow MUST be rejected if the requested maximum packet size is
// larger than the MTU of the link."
func TestMustRejectAboveMTU(t *testing.T) {
	for _, mtu := range []uint32{1499, 1500} {
		q := initiatorEF(t)
		share := RateShare(1e9)
		share.TMOD1.MPS = mtu
		if err := q.Admit(InReserve, AllParams, &share); (err != nil) != (mtu < 1500) {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
}

// RFC 5975 §3.3.1: "Both m and MPS MUST be positive, and m MUST be less than or equal to
// MPS."
func TestMustUnitAndPacketSize(t *testing.T) {
	refuses(t, withTMOD("4a189680 477a0000 7f800000 00000000 000005dc"), CodeMalformedQSPEC)
	refuses(t, withTMOD("4a189680 477a0000 7f800000 00000000 00000000"), CodeMalformedQSPEC)
	refuses(t, withTMOD("4a189680 477a0000 7f800000 000005dd 000005dc"), CodeMalformedQSPEC)
	if err := parseOf(t, withTMOD("4a189680 477a0000 7f800000 000005dc 000005dc")); err != nil {
		t.Error(err)
	}
}

// RFC 5975 §3.3.1: "All 5 of the sub-parameters MUST be included in the TMOD parameter."
func TestMustFiveSubParameters(t *testing.T) {
	for words := range 9 {
		b := unhex(t, "80010005 4a189680 477a0000 7f800000 00000040 000005dc 00000000 00000000 00000000")[:4+4*words]
		b[3] = byte(words)
		if err := new(Params).parse(QoSDesired, b); (err == nil) != (words == 5) {
			t.Errorf("%d words: %v", words, err)
		}
	}
}

// RFC 5975 §3.3.2: "Each QNE MUST add the propagation delay … the jitter … the PLR … the
// PER of its outgoing link": composition is summation.
func TestMustAddPathParameters(t *testing.T) {
	p := Params{Has: cumulative, PathLatency: 10, PathJitter: PathJitter{1, 2, 3}, PathPLR: 0.25 / 64, PathPER: 0.125 / 64}
	p.Compose(&Params{Has: cumulative, PathLatency: 5, PathJitter: PathJitter{10, 20, 30}, PathPLR: 0.5 / 64, PathPER: 0.25 / 64})
	want := Params{Has: cumulative, PathLatency: 15, PathJitter: PathJitter{11, 22, 33}, PathPLR: 0.75 / 64, PathPER: 0.375 / 64}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%v, want %v", p, want)
	}
}

// RFC 5975 §3.3.3: "For any specific flow, its preemption priority MUST always be less
// than or equal to the defending priority."
func TestMustPreemptionAtMostDefending(t *testing.T) {
	refuses(t, "00000003 00000002 00080001 00080007", CodeMalformedQSPEC)
	for _, hex := range []string{"00000003 00000002 00080001 00070007", "00000003 00000002 00080001 00000007"} {
		if err := parseOf(t, hex); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewInitiator(Ask{CIR: 1, Preemption: &Preemption{8, 7}}); err == nil {
		t.Error("made here")
	}
}

// RFC 5975 §4: "The QNI sets the M flag for each QSPEC parameter it populates that MUST
// be interpreted …. If a QNE does not support the parameter, it sets the N flag and
// fails the reservation." RFC 5975 §5.1.2: "the subsequent parameter MUST be
// interpreted".
func TestMustInterpretWithM(t *testing.T) {
	for id := TMOD2ID; id <= RestorationID; id++ {
		q := initiatorEF(t)
		q.Desired.put(id, true, false, false)
		err := q.MarkUnsupported(AllParams &^ SetOf(id))
		isError(t, err, ClassTransientFailure, CodeReservationFailure)
		if !q.Desired.Unsupported.Has(id) {
			t.Errorf("%v: no N flag", id)
		}
	}
}

// RFC 5975 §4.1: "The Local QSPEC MUST be consistent with the Initiator QSPEC. That is, it
// MUST NOT specify a lower level of resources"; RFC 5975 §5.2.9: "the local domain MUST
// specify an <Admission Priority> in the Local QSPEC that is functionally equivalent".
func TestMustLocalBeConsistent(t *testing.T) {
	i := initiatorEF(t)
	l, err := Encapsulate(&i, InReserve)
	if err != nil {
		t.Fatal(err)
	}
	if low := Exceeds(&i.Desired, &l.Desired) | Exceeds(&i.Desired, &l.Minimum); low != 0 {
		t.Errorf("lower: %v", low)
	}
	if l.Desired.Has != i.Desired.Has || l.Desired.Admission != i.Desired.Admission || l.Desired.Preemption != i.Desired.Preemption {
		t.Errorf("%v", l)
	}
}

// RFC 5975 §4.2.1: "the TMOD parameter and all QSPEC parameters with the M flag set MUST be
// examined by the RMF …, and the E flag set to indicate whether the parameter could or
// could not be satisfied. Additionally, the E flag in the corresponding QSPEC object MUST
// be raised".
func TestMustRaiseE(t *testing.T) {
	need := Params{Has: comparables, Must: comparables, TMOD1: tmod(2000), TMOD2: tmod(2000), PathLatency: 1, PathJitter: PathJitter{1, 1, 1}, PathPLR: 1e-4,
		PathPER: 1e-4, PHB: PHB(46), DSTE: 1, Y1541: 0, PeakBucket: 9000, Absolute: []Interval{{0, 100}}}
	share := Params{Has: comparables, TMOD1: tmod(1000), TMOD2: tmod(1000), PathLatency: 2, PathJitter: PathJitter{2, 2, 2}, PathPLR: 1e-3,
		PathPER: 1e-3, PHB: PHB(10), DSTE: 2, Y1541: 1, PeakBucket: 4000, Absolute: []Interval{{0, 50}}}
	q := QSPEC{Desired: need}
	isError(t, q.Admit(InReserve, AllParams, &share), ClassTransientFailure, CodeReservationFailure)
	if q.Desired.Failed != comparables || !q.Desired.ObjectFailed {
		t.Errorf("E on %v, object %v", q.Desired.Failed, q.Desired.ObjectFailed)
	}
}

const twoErrors = `
	0b40 200f                                          # a Local QSPEC
	0000 000b                                          # QoS Desired
	8001 0005 4a189680 477a0000 47000000 00000040 000005dc   # p below r
	800c 0001 b800 0000                                # PHB Class: fine
	0008 0001 0008 0007                                # preemption above defending
	00c8 0000                                          # unknown: fine
	0001 0002 a005 0001 bf800000                       # QoS Available: a negative loss ratio`

// RFC 5975 §4.2.1: "Normally, all QSPEC parameters MUST be examined by the RMF, and the
// erroneous parameters appropriately flagged"; §4.2.4: the RESPONSE "includes, if
// possible, only the erroneous QSPEC parameters and no others".
func TestMustFlagWhatIsErroneous(t *testing.T) {
	b := unhex(t, twoErrors)
	refuses(t, twoErrors, CodeMalformedQSPEC)
	got := Erroneous(b)
	want := unhex(t, `
		0b40 200c
		8000 0008 c001 0005 4a189680 477a0000 47000000 00000040 000005dc 4008 0001 0008 0007
		8001 0002 e005 0001 bf800000`)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if good := unhex(t, goldenEverything); Erroneous(good) != nil {
		t.Error("something is wrong with the golden one")
	}
	for n := range b { // cut anywhere: whatever comes out is no longer than what came in
		if out := Erroneous(b[:n]); len(out) > n {
			t.Errorf("%d octets made %d", n, len(out))
		}
	}
	twice := Erroneous(unhex(t, "00000005 0000 0004 000e0001 01000000 000e0001 02000000"))
	if !bytes.Equal(twice, unhex(t, "00000003 8000 0002 400e0001 02000000")) {
		t.Errorf("of two the second is wrong: %x", twice)
	}
}

// RFC 5975 §4.2.1: "if … any QSPEC parameter is found to be erroneous, then any QSPEC
// parameters not satisfied are ignored and the E Flags in the QSPEC object MUST NOT be
// set for those parameters".
func TestMustNotFlagUnsatisfiedBesideErroneous(t *testing.T) {
	q := initiatorEF(t)
	q.Desired.Preemption = Preemption{8, 7}
	share := RateShare(1)
	isError(t, q.Admit(InReserve, AllParams, &share), ClassProtocolError, CodeMalformedQSPEC)
	if q.Failed() {
		t.Errorf("E flags in %v", q)
	}
}

// RFC 5975 §4.2.2: "A QNE MUST set the Not Supported N flag if it cannot interpret the
// QSPEC parameter."
func TestMustSetN(t *testing.T) {
	for o := QoSDesired; o <= MinimumQoS; o++ {
		if o == QoSReserved {
			continue // what has been reserved is not asked for
		}
		var q QSPEC
		*q.Object(o) = Params{Has: SetOf(DSTEClassID, Y1541ClassID), Extra: []RawParam{{ID: 999}}}
		if err := q.MarkUnsupported(AllParams &^ SetOf(DSTEClassID)); err != nil {
			t.Errorf("%v: %v, though M is not set", o, err)
		}
		if p := q.Object(o); p.Unsupported != SetOf(DSTEClassID) || !p.Extra[0].Unsupported {
			t.Errorf("%v: %v", o, q)
		}
	}
}

// RFC 5975 §4.2.4: a stateless node "MUST continue to forward the RESERVE message to the
// next stateful QNE, with the E Flags appropriately set": they survive the wire, and the
// next node sees the failure; for reservation failures and for malformed QSPECs.
func TestMustForwardEFlags(t *testing.T) {
	q := initiatorEF(t)
	if q.OfferRate(1) == 0 {
		t.Fatal("not refused")
	}
	got, err := Parse(q.Append(nil))
	if err != nil || !got.Failed() || got.Desired.Failed != SetOf(TMOD1ID) {
		t.Errorf("%v, %v", got, err)
	}
	if f := Flagged(Erroneous(unhex(t, twoErrors))); len(f) != 3 {
		t.Errorf("%v", f)
	}
}

// RFC 5975 §4.2.4: "If QSPEC parameters are returned in the INFO-SPEC that are not marked
// with the E flag, then any values of these parameters are irrelevant and MUST be
// ignored by the QNI."
func TestMustIgnoreUnflagged(t *testing.T) {
	b := unhex(t, twoErrors)
	if f := Flagged(b); f != nil {
		t.Errorf("nothing is marked, and got %v", f)
	}
	b[8] |= 0x40 // E on TMOD-1
	if f := Flagged(b); !reflect.DeepEqual(f, []Flag{{QoSDesired, TMOD1ID}}) {
		t.Errorf("%v", f)
	}
}

// RFC 5975 §4.3.1: "The QSPEC parameter IDs and values included in the QoS Reserved object
// in the RESPONSE message MUST be the same as those in the QoS Desired object".
func TestMustReservedBeDesired(t *testing.T) {
	q := everything()
	q.Available.Has = 0
	got := q.Response()
	if !reflect.DeepEqual(got.Reserved, q.Desired) {
		t.Errorf("%v", got)
	}
}

// RFC 5975 §5.1: "Any part of the object used for padding or defined as reserved ("r")
// MUST be set to 0 on transmission and MUST be ignored on reception."
func TestMustReservedBits(t *testing.T) {
	q, err := Parse(unhex(t, "0030000d 7000f00c 9009f001 0202ffff 900ef001 06ffffff 900df001 01ffffff 900cf001 b800ffff 900bf001 022bffff 9010f001 0112ffff"))
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "0000000d 0000000c 80090001 02020000 800b0001 02280000 800c0001 b8000000 800d0001 01000000 800e0001 06000000 80100001 01120000")
	if got := q.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// RFC 5975 §5.1: "Empty QSPECs and empty QSPEC Objects MUST NOT be used."
func TestMustNotBeEmpty(t *testing.T) {
	refuses(t, "00000000", CodeMalformedQSPEC)
	refuses(t, "00000001 00000000", CodeMalformedQSPEC)
	isError(t, (&QSPEC{}).Check(InError), ClassProtocolError, CodeMalformedQSPEC)
}

// RFC 5975 §5.1: "Duplicate objects, duplicate parameters, and/or multiple occurrences of
// a parameter MUST NOT be used."
func TestMustNotBeDuplicate(t *testing.T) {
	refuses(t, "00000006 00010002 000e0001 01000000 00010002 000e0001 01000000", CodeMalformedQSPEC)
	refuses(t, "00000005 00000004 000e0001 01000000 000e0001 01000000", CodeMalformedQSPEC)
	refuses(t, "00000003 00000002 00ff0000 00ff0000", CodeMalformedQSPEC)
}

// RFC 5975 §5.2.1, §5.2.2: "the sign bit MUST be zero (all values MUST be non-negative).
// Exponents less than 127 … are prohibited."
func TestMustNonNegative(t *testing.T) {
	for _, id := range []string{"80010005", "80020005"} {
		for _, words := range []string{"ca189680 477a0000 7f800000", "4a189680 c77a0000 7f800000", "4a189680 477a0000 ff800000", "80000000 477a0000 7f800000",
			"3f7fffff 477a0000 7f800000", "4a189680 3f7fffff 7f800000", "3f800000 477a0000 3f7fffff"} {
			refuses(t, "00000007 00000006"+id+words+"00000040 000005dc", CodeMalformedQSPEC)
		}
	}
}

// RFC 5975 §5.2.3 to §5.2.6: "A QNE that cannot accurately predict the latency … jitter …
// PLR … PER of packets it is processing MUST raise the Not Supported N flag and either
// leave the value … as is, or add its best estimate of its lower bound."
func TestMustRaiseNWhereUnpredictable(t *testing.T) {
	for _, id := range cumulative.IDs() {
		p := Params{Has: cumulative, PathLatency: 7, PathPLR: 0.001}
		before := p
		p.Compose(&Params{Unsupported: SetOf(id)})
		before.Unsupported = SetOf(id)
		if !reflect.DeepEqual(p, before) {
			t.Errorf("%v: %v", id, p)
		}
	}
}

// RFC 5975 §5.2.7: "Slack term S MUST be nonnegative": it has no sign, and composing
// never wraps.
func TestMustSlackNonNegative(t *testing.T) {
	p := Params{Has: SetOf(SlackTermID), SlackTerm: 1<<32 - 1}
	p.Compose(&Params{Has: p.Has, SlackTerm: 3})
	if p.SlackTerm != 3 {
		t.Errorf("%v", p)
	}
	if _, err := ParseParams("slack=-1"); err == nil {
		t.Error("a negative slack term was read")
	}
}

// RFC 5975 §5.2.8: "both MUST be populated if the parameter is used".
func TestMustPopulateBothPriorities(t *testing.T) {
	if err := parseOf(t, "00000002 00000001 00080000"); err == nil {
		t.Error("accepted without a value")
	}
	if _, err := ParseParams("preempt=3"); err == nil {
		t.Error("accepted with one of two")
	}
}

// RFC 5975 §5.2.9: "Downstream QNEs MUST NOT change the value in the <Y.2171 Admission
// Priority> field … and MUST treat the flow priority according to the value populated";
// "MUST NOT reset the value of the <Y.2171 Admission Priority> field".
func TestMustNotChangeY2171(t *testing.T) {
	for _, y := range []uint8{AdmissionBestEffort, AdmissionNormal, AdmissionHigh, AdmissionLocal} {
		got := QSPEC{Combination: 1, Available: Params{Has: SetOf(AdmissionID), Admission: Admission{y, 2}}}
		sent := got
		sent.Available.Admission.Y2171 ^= 3
		if CheckPassed(&got, &sent, InReserve) == nil {
			t.Errorf("%d was changed", y)
		}
		share := Params{Has: SetOf(AdmissionID), Admission: Admission{1, 1}}
		q := got
		q.Offer(InReserve, &share)
		want := y
		if y == AdmissionLocal {
			want = 2
		}
		if q.Available.AdmissionPriority() != want {
			t.Errorf("%d is treated as %d", y, q.Available.AdmissionPriority())
		}
	}
	if _, err := NewInitiator(Ask{CIR: 1, Admission: &Admission{2, 1}}); err == nil {
		t.Error("the QNI populates both fields with the same value")
	}
}

// RFC 5975 §5.2.9: "A reservation without an <Y.2171 Admission Priority> parameter MUST be
// treated as a reservation with an <Y.2171 Admission Priority> = 1."
func TestMustDefaultToNormalPriority(t *testing.T) {
	q, err := ParseText("class=EF")
	if p := q.Desired.AdmissionPriority(); err != nil || p != 1 {
		t.Errorf("%d, %v", p, err)
	}
}

// RFC 5975 §5.2.10: RPH "is applicable only to flows with high admission priority", and "is
// ignored in instances without <Admission Priority>".
func TestRPHPriority(t *testing.T) {
	for text, want := range map[string]bool{"rph=5/2 class=EF": false, "rph=5/2 admission=1/1": false, "rph=5/2 admission=2/2": true,
		"rph=5/2 admission=255/9": true, "admission=2/2": false} {
		p, err := ParseParams(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.RPHPriority(); ok != want || ok && got != (RPH{5, 2}) {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
}

// RFC 5975 §5.2.11: "When excess treatment is set to 're-mark', the Excess Treatment
// Parameter MUST carry the re-mark value".
func TestMustCarryRemarkValue(t *testing.T) {
	p := Params{Has: SetOf(ExcessID), Excess: Excess{ExcessRemark, 10}}
	if b := p.append(nil); b[5]>>2 != 10 {
		t.Errorf("% x", b)
	}
	if _, err := ParseParams("excess=remark"); err == nil {
		t.Error("re-mark without a value was read")
	}
}

// RFC 5975 §5.2.12: a set of PHBs "MUST constitute a PHB Scheduling Class": of the standard
// ones AF1x to AF4x.
func TestMustSetBeASchedulingClass(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{{"class=AF11+", true}, {"class=AF42+", true}, {"class=EF", true}, {"class=EF+", false}, {"class=CS1+", false}, {"class=phb:1233", true}} {
		p, err := ParseParams(c.text)
		if err != nil {
			t.Fatal(err)
		}
		q := QSPEC{Desired: p}
		if err := q.Check(InReserve); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

// Strangers make no garbage: what a RESERVE's QSPEC allocates is what is kept of it.
func TestAllocations(t *testing.T) {
	l := localEF(t)
	b := l.Append(nil)
	egress := BorderID{65002, netip.MustParseAddr("127.2.0.2")}
	var out []byte
	if n := testing.AllocsPerRun(100, func() {
		q, err := Parse(b)
		if err != nil || q.Check(InReserve) != nil || q.OfferRate(1e9) != 0 {
			t.Fatal(err)
		}
		q.SetEgress(egress)
		out = q.Append(out[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	b = unhex(t, goldenEverything)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Parse(b); err != nil {
			t.Fatal(err)
		}
	}); n > 2 { // the list of times, and of unknown parameters
		t.Errorf("%v allocations", n)
	}
}

func FuzzErroneous(f *testing.F) {
	f.Add(unhex(f, twoErrors))
	f.Add(unhex(f, goldenEverything))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := Erroneous(b)
		if len(out) > len(b) {
			t.Fatalf("%d octets made %d", len(b), len(out))
		}
		if out != nil && len(Flagged(out)) == 0 {
			t.Fatalf("nothing is marked in %x", out)
		}
	})
}
