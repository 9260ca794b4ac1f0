package qspec

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func tmod(rate float32) TMOD { return TMOD{rate, 3000, infinity, 64, 1500} }

func isError(t *testing.T, err error, class, code uint8) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Class != class || e.Code != code {
		t.Errorf("%v, want %d/%#02x", err, class, code)
	}
}

// RFC 5975 §4.3.1, §4.3.2: what a node does with QoS Desired, Available and Minimum
// in each procedure, when it has 1000 octets/s of the 2000 that are desired.
func TestOfferInEachProcedure(t *testing.T) {
	rate := func(r float32) Params { return Params{Has: 1 << TMOD1ID, Must: 1 << TMOD1ID, TMOD1: tmod(r)} }
	for _, c := range []struct {
		name  string
		seq   MessageSequence
		comb  uint8
		in    Message
		have  objects
		least float32
		want  float32 // QoS Available's rate afterwards, 0: not there
		fails bool
	}{
		{"0/0: exactly these resources must be reserved", 0, 0, InReserve, desired, 0, 0, true},
		{"0/1: the QNI would be satisfied with lower values", 0, 1, InReserve, desired | available, 0, 1000, false},
		{"0/2: above Minimum QoS", 0, 2, InReserve, desired | available | minimum, 900, 1000, false},
		{"0/2: Available becomes less than Minimum QoS", 0, 2, InReserve, desired | available | minimum, 1100, 1000, true},
		{"1/0 QUERY: nothing is reserved", 1, 0, InQuery, desired, 0, 0, false},
		{"1/0 RESERVE", 1, 0, InReserve, desired, 0, 0, true},
		{"1/1 QUERY", 1, 1, InQuery, desired | minimum, 1100, 0, false},
		{"1/1 RESERVE, negotiable", 1, 1, InReserve, desired | available | minimum, 900, 1000, false},
		{"1/1 RESERVE, below the minimum", 1, 1, InReserve, desired | available | minimum, 1100, 1000, true},
		{"1/2 QUERY: can be overwritten", 1, 2, InQuery, desired | available, 0, 1000, false},
		{"1/2 RESERVE: cannot be overwritten", 1, 2, InReserve, desired | available, 0, 2000, true},
		{"2/0", 2, 0, InQuery, available, 0, 1000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := QSPEC{Sequence: c.seq, Combination: c.comb}
			for o := QoSDesired; o <= MinimumQoS; o++ {
				if c.have&(1<<o) != 0 {
					*q.Object(o) = rate(2000)
				}
			}
			if c.least != 0 {
				q.Minimum.TMOD1.Rate = c.least
			}
			got := q
			share := RateShare(1000)
			err := got.Admit(c.in, AllParams, &share)
			if (err != nil) != c.fails || got.Available.TMOD1.Rate != c.want {
				t.Fatalf("%v: %v", err, got)
			}
			if c.fails {
				isError(t, err, ClassTransientFailure, CodeReservationFailure)
			}
			if got.Failed() != c.fails {
				t.Errorf("E flags in %v", got)
			}
			if err := CheckPassed(&q, &got, c.in); err != nil {
				t.Errorf("a node that keeps the rules broke them: %v", err)
			}
		})
	}
}

// RFC 5975 §4: M and E and N, in all combinations: a parameter that is not
// supported gets N, and fails with M; one that is supported and cannot be met gets
// E and fails, with M or without.
func TestFlags(t *testing.T) {
	for _, must := range []bool{false, true} {
		for _, supported := range []bool{false, true} {
			for _, met := range []bool{false, true} {
				q := initiatorEF(t)
				q.Desired.Has |= 1 << Y1541ClassID
				q.Desired.Y1541 = 0
				if must {
					q.Desired.Must |= 1 << Y1541ClassID
				}
				known, share := AllParams, RateShare(1e9)
				if !supported {
					known &^= 1 << Y1541ClassID
				} else {
					share.Has |= 1 << Y1541ClassID
					share.Y1541 = 6
					if !met {
						share.Y1541 = 2
					}
				}
				err := q.Admit(InReserve, known, &share)
				fails := supported && !met || !supported && must
				if (err != nil) != fails {
					t.Errorf("M %v, supported %v, met %v: %v", must, supported, met, err)
				}
				if n := q.Desired.Unsupported.Has(Y1541ClassID); n == supported {
					t.Errorf("M %v, supported %v, met %v: N is %v", must, supported, met, n)
				}
				if e := q.Desired.Failed.Has(Y1541ClassID); e != (supported && !met) || e != q.Desired.ObjectFailed {
					t.Errorf("M %v, supported %v, met %v: E is %v, the object's %v", must, supported, met, e, q.Desired.ObjectFailed)
				}
			}
		}
	}
}

// RFC 5975 §4.2.3: the RESPONSE has "E flags … for the parameters that could not be
// satisfied" and "The N flag … for those parameters that could not be interpreted":
// both at once, so a node doesn't stop at the first.
func TestAdmitExaminesEverything(t *testing.T) {
	q := initiatorEF(t)
	q.Desired.Extra = []RawParam{{ID: 99, Must: true}}
	share := RateShare(1000)
	isError(t, q.Admit(InReserve, AllParams, &share), ClassTransientFailure, CodeReservationFailure)
	if !q.Desired.Extra[0].Unsupported || q.Desired.Failed != SetOf(TMOD1ID) {
		t.Errorf("%v", q)
	}
}

// RFC 5975 §4.2.4: a stateless node forwards the RESERVE "with the E Flags
// appropriately set …. The next stateful QNE then formulates the RESPONSE".
func TestAdmitAfterAFailure(t *testing.T) {
	q := initiatorEF(t)
	share := RateShare(1000)
	if q.Offer(InReserve, &share) == 0 {
		t.Fatal("not refused")
	}
	next := mustParse(t, q, InReserve)
	share = RateShare(1e9)
	isError(t, next.Admit(InReserve, AllParams, &share), ClassTransientFailure, CodeReservationFailure)
	isError(t, (&QSPEC{}).Admit(InReserve, AllParams, &share), ClassProtocolError, CodeMalformedQSPEC)
}

// RFC 5975 §5.2.3 to §5.2.6: "An individual QNE can add a latency value between 1 and
// 2^28", "its local PLR value (up to a maximum of 10^-2)"; one that does not know "MUST
// raise the Not Supported N flag", and its own value is the indeterminate one.
func TestLocalContributions(t *testing.T) {
	ids := SetOf(PathLatencyID, PathJitterID, PathPLRID, PathPERID)
	at := func(v uint32, r float32) Params {
		return Params{Has: ids, PathLatency: v, PathJitter: PathJitter{v, v, v}, PathPLR: r, PathPER: r}
	}
	for _, c := range []struct {
		name  string
		share Params
		want  Params
		n     bool
	}{
		{"the most", at(1<<28, 0.01), at(1<<28+10, 0.0125), false},
		{"more than the most: a lower bound", at(1<<28+1, 0.02), at(1<<28+10, 0.0125), true},
		{"not known", at(Indeterminate, IndeterminateRatio), at(Indeterminate, IndeterminateRatio), true},
	} {
		p := at(10, 0.0025)
		if failed := p.Compose(&c.share); failed != 0 {
			t.Errorf("%s: %v", c.name, failed)
		}
		if c.n {
			c.want.Unsupported = ids
		}
		if math.Abs(float64(p.PathPLR-c.want.PathPLR)) > 1e-8 || p.PathPLR != p.PathPER {
			t.Errorf("%s: PLR %v, PER %v", c.name, p.PathPLR, p.PathPER)
		}
		p.PathPLR, p.PathPER = c.want.PathPLR, c.want.PathPER
		if !reflect.DeepEqual(p, c.want) {
			t.Errorf("%s: %v, want %v", c.name, p, c.want)
		}
	}
}

// RFC 5976 §4.4: "If the available <Path Latency> is 150 ms … and the desired QoS is
// Class 0 …, then the response would be that Class 0 cannot be achieved, and Class 1
// is available", with the latency beside it; below Minimum QoS it is aborted.
func TestY1541Negotiation(t *testing.T) {
	const path = "latency=0 jitter=0/0/0 plr=0"
	q, err := ParseText("initiator type=1 proc=0/2 desired{tmod=1M/3k y1541=0} available{y1541=0 " + path + "} minimum{y1541=1}")
	if err != nil {
		t.Fatal(err)
	}
	node := RateShare(1e9)
	node.Has |= SetOf(Y1541ClassID) | cumulative
	node.Y1541 = 6
	node.PathLatency, node.PathJitter.P999, node.PathPLR = 75_000, 10_000, 1e-4
	for hop, want := range []uint8{0, 1, 1, 1, 1} {
		if err := q.Admit(InReserve, AllParams, &node); err != nil || q.Available.Y1541 != want {
			t.Fatalf("hop %d: %v, %v", hop, err, q)
		}
	}
	// The sixth brings the jitter to 60 ms.
	isError(t, q.Admit(InReserve, AllParams, &node), ClassTransientFailure, CodeReservationFailure)
	if !q.Available.Failed.Has(Y1541ClassID) || q.Available.PathLatency != 450_000 {
		t.Errorf("%v", q)
	}
}

// RFC 5975 §3.3.1: "The flow MUST be rejected if the requested maximum packet size is
// larger than the MTU of the link".
func TestMTU(t *testing.T) {
	for _, c := range []struct {
		text  string
		fails bool
	}{
		{"initiator proc=0/0 desired{tmod=8k/3k/inf/64/1500}", true},
		{"initiator proc=0/0 desired{tmod=8k/3k/inf/64/1400}", false},
		{"initiator proc=0/1 desired{tmod=8k/3k/inf/64/1500} available{tmod=8k/3k/inf/64/1500}", true},
		{"initiator proc=0/2 desired{tmod=8k/3k/inf/64/1500} available{tmod=8k/3k/inf/64/1500} minimum{tmod=8k/1k/inf/64/1400}", false},
	} {
		q, err := ParseText(c.text)
		if err != nil {
			t.Fatal(err)
		}
		share := RateShare(1e9)
		share.TMOD1.MPS = 1400
		if err := q.Admit(InReserve, AllParams, &share); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

// RFC 5975 §3.2: "QoS Desired … is a read-only QSPEC object"; QoS Available "may be
// updated, but … cannot be deleted"; §5.2.9: the Y.2171 priority MUST NOT change.
func TestCheckPassed(t *testing.T) {
	base := "local type=13 proc=0/2 desired{tmod=8M/3k/inf/64/1500 class=EF!M 200=00000001} " +
		"available{tmod=8M/3k/inf/64/1500 latency=10 admission=1/1 time=0..100 egress=1@10.0.0.1!M} minimum{tmod=4M/3k/inf/64/1500}"
	for _, c := range []struct {
		name   string
		change func(*QSPEC)
		in     Message
		ok     bool
	}{
		{"nothing", func(*QSPEC) {}, InReserve, true},
		{"Available lowered", func(q *QSPEC) { q.Available.TMOD1.Rate /= 2; q.Available.PathLatency++ }, InReserve, true},
		{"Available lowered in a RESPONSE", func(q *QSPEC) { q.Available.TMOD1.Rate /= 2 }, InResponse, false},
		{"Available raised", func(q *QSPEC) { q.Available.TMOD1.Rate *= 2 }, InReserve, false},
		{"less latency than before", func(q *QSPEC) { q.Available.PathLatency-- }, InReserve, false},
		{"more time than before", func(q *QSPEC) { q.Available.Absolute = []Interval{{0, 101}} }, InReserve, false},
		{"a parameter deleted", func(q *QSPEC) { q.Available.Has &^= SetOf(PathLatencyID) }, InReserve, false},
		{"a parameter added", func(q *QSPEC) { q.Available.Has |= SetOf(PathPERID) }, InReserve, false},
		{"an ingress of its own", func(q *QSPEC) { q.SetIngress(BorderID{AS: 7}) }, InReserve, true},
		{"another egress", func(q *QSPEC) { q.SetEgress(BorderID{AS: 7}) }, InReserve, true},
		{"Desired changed", func(q *QSPEC) { q.Desired.TMOD1.Rate /= 2 }, InReserve, false},
		{"Minimum changed", func(q *QSPEC) { q.Minimum.TMOD1.Bucket /= 2 }, InReserve, false},
		{"E raised", func(q *QSPEC) { q.Desired.SetFailed(SetOf(TMOD1ID)) }, InReserve, true},
		{"N raised", func(q *QSPEC) { q.Desired.Unsupported |= SetOf(PHBClassID) }, InReserve, true},
		{"M taken away", func(q *QSPEC) { q.Desired.Must &^= SetOf(PHBClassID) }, InReserve, false},
		{"an unknown parameter changed", func(q *QSPEC) { q.Desired.Extra = []RawParam{{ID: 200, Value: []byte{0, 0, 0, 2}}} }, InReserve, false},
		{"an unknown parameter taken away", func(q *QSPEC) { q.Desired.Extra = nil }, InReserve, false},
		{"the local priority reset", func(q *QSPEC) { q.Available.Admission.Local = 5 }, InReserve, true},
		{"the Y.2171 priority reset", func(q *QSPEC) { q.Available.Admission.Y2171 = 2 }, InReserve, false},
		{"another procedure", func(q *QSPEC) { q.Combination = 1 }, InReserve, false},
	} {
		got, err := ParseText(base)
		if err != nil {
			t.Fatal(err)
		}
		sent, _ := ParseText(base)
		c.change(&sent)
		if err := CheckPassed(&got, &sent, c.in); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What has been said cannot be taken back.
	got, _ := ParseText("initiator desired!E{class=EF!N}")
	sent, _ := ParseText("initiator desired{class=EF!N}")
	if CheckPassed(&got, &sent, InReserve) == nil {
		t.Error("E was taken back")
	}
	sent, _ = ParseText("initiator desired!E{class=EF}")
	if CheckPassed(&got, &sent, InReserve) == nil {
		t.Error("N was taken back")
	}
}

// Whatever a node has, what it sends on keeps the rules of RFC 5975 §3.2.
func TestAdmitKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := QSPEC{Desired: drawParams(t, "desired"), Available: drawParams(t, "available"), Combination: 1}
		in := rapid.SampledFrom([]Message{InReserve, InQuery}).Draw(t, "message")
		if in == InQuery || rapid.Bool().Draw(t, "receiver-initiated") {
			q.Sequence, q.Combination = ReceiverInitiated, 2
		}
		got := q
		got.Desired, got.Available = q.Desired.clone(), q.Available.clone()
		share := drawParams(t, "share")
		known := AllParams &^ ParamSet(rapid.Uint32().Draw(t, "unsupported"))
		err := got.Admit(in, known, &share)
		if broken := CheckPassed(&q, &got, in); broken != nil {
			t.Fatalf("%v (%v)", broken, err)
		}
		if (err != nil) != got.Failed() && in == InReserve && q.Desired.Must == 0 {
			t.Fatalf("%v with E flags %v", err, got)
		}
	})
}
