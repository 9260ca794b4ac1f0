package qspec

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawTMOD(t *rapid.T, label string) TMOD {
	r := rapid.Float32Range(1, 1e12).Draw(t, label+" r")
	p := rapid.Float32Range(r, 1e13).Draw(t, label+" p")
	if rapid.Bool().Draw(t, label+" no peak") {
		p = infinity
	}
	mps := rapid.Uint32Range(1, 9000).Draw(t, label+" MPS")
	return TMOD{r, rapid.Float32Range(1, 1e9).Draw(t, label+" b"), p, rapid.Uint32Range(1, mps).Draw(t, label+" m"), mps}
}

func drawIntervals(t *rapid.T, label string, most int) []Interval {
	cuts := rapid.SliceOfNDistinct(rapid.Int64Range(0, 1000), 2, 2*most, rapid.ID[int64]).Draw(t, label)
	slices.Sort(cuts)
	var out []Interval
	for ; len(cuts) > 1; cuts = cuts[2:] {
		out = append(out, Interval{cuts[0], cuts[1]})
	}
	return out
}

// drawParams draws everything that is composed, two of which one node can add together;
// ratios are multiples of 2^-20, whose sums are exact.
func drawParams(t *rapid.T, label string) Params {
	ratio := func(l string) float32 {
		return float32(rapid.IntRange(0, 1<<12).Draw(t, label+l)) / (1 << 20)
	}
	return Params{
		Has: comparables | 1<<SlackTermID, TMOD1: drawTMOD(t, label+" 1"), TMOD2: drawTMOD(t, label+" 2"),
		PathLatency: rapid.Uint32Range(0, maxLocal/2).Draw(t, label+" latency"), SlackTerm: rapid.Uint32().Draw(t, label+" slack"),
		PathJitter: PathJitter{rapid.Uint32Range(0, maxLocal/2).Draw(t, label+" v"), rapid.Uint32Range(0, maxLocal/2).Draw(t, label+" q"), rapid.Uint32Range(0, maxLocal/2).Draw(t, label+" l")},
		PathPLR:    ratio(" plr"), PathPER: ratio(" per"), PHB: PHB(DSCPEF),
		Y1541: rapid.Uint8Range(0, maxY1541Class).Draw(t, label+" class"), PeakBucket: rapid.Float32Range(1, 1e9).Draw(t, label+" Bp"),
		Absolute: drawIntervals(t, label+" time", 2),
	}
}

// RFC 5975 §3.3.1, §3.3.2, §5.2: composition is the same in any order and
// grouping, so QoS Available does not depend on where along the path a node is.
func TestComposeCommutesAndAssociates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawParams(t, "a"), drawParams(t, "b"), drawParams(t, "c")
		// Time that becomes empty keeps its last value, so order shows there.
		if len(Intersect(Intersect(a.Absolute, b.Absolute), c.Absolute)) == 0 {
			b.Absolute, c.Absolute = a.Absolute, a.Absolute
		}
		compose := func(x, y Params) Params {
			x.Compose(&y)
			x.Failed, x.ObjectFailed = 0, false
			return x
		}
		if x, y := compose(a, b), compose(b, a); !reflect.DeepEqual(x, y) {
			t.Fatalf("a∘b %v\nb∘a %v", x, y)
		}
		if x, y := compose(compose(a, b), c), compose(a, compose(b, c)); !reflect.DeepEqual(x, y) {
			t.Fatalf("(a∘b)∘c %v\na∘(b∘c) %v", x, y)
		}
	})
}

// RFC 5975 §3.2: "if resources available to this QNE are less …, the QNE MUST
// adapt this parameter accordingly": composing never makes a path look better.
func TestComposeNeverImproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, need := drawParams(t, "a"), drawParams(t, "b"), drawParams(t, "need")
		before, alone := Exceeds(&need, &a), Exceeds(&need, &b)
		sum := a
		failed := sum.Compose(&b)
		after := Exceeds(&need, &sum)
		if lost := (before | alone) &^ after &^ failed; lost != 0 {
			t.Fatalf("%v was short before and is not any more: %v ∘ %v = %v", lost, a, b, sum)
		}
		if got := Exceeds(&sum, &sum); got != 0 {
			t.Fatalf("%v exceeds itself", got)
		}
		if sum.Has != a.Has {
			t.Fatalf("parameters were added or deleted")
		}
	})
}

// Composition again with the same minimum-like share changes nothing.
func TestComposeIsIdempotentForRates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, share := Params{Has: 1 << TMOD1ID, TMOD1: drawTMOD(t, "a")}, Params{Has: 1 << TMOD1ID, TMOD1: drawTMOD(t, "b")}
		a.Compose(&share)
		once := a
		a.Compose(&share)
		if !reflect.DeepEqual(a, once) {
			t.Fatalf("%v then %v", once, a)
		}
	})
}

func TestIntersectIsWhatBothCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawIntervals(t, "a", 4), drawIntervals(t, "b", 4)
		both := Intersect(a, b)
		if len(both) > 0 {
			if err := checkIntervals(both); err != nil {
				t.Fatal(err)
			}
		}
		in := func(list []Interval, s int64) bool {
			return slices.ContainsFunc(list, func(x Interval) bool { return x.Start <= s && s < x.End })
		}
		for s := range int64(1001) {
			if in(both, s) != (in(a, s) && in(b, s)) {
				t.Fatalf("second %d of %v and %v: %v", s, a, b, both)
			}
		}
		if !covers(a, both) || !covers(b, both) {
			t.Fatalf("%v is not covered by %v and %v", both, a, b)
		}
	})
}

// RFC 5975 §5.2.3: "summation with a clamp of (2^32) - 1"; §5.2.5: "a clamp of
// 10^-1 on the maximum value".
func TestCumulativeClamp(t *testing.T) {
	p := Params{Has: SetOf(PathLatencyID, PathPLRID), PathLatency: Indeterminate - 5, PathPLR: 0.095}
	p.Compose(&Params{Has: p.Has, PathLatency: 6, PathPLR: 0.01})
	if p.PathLatency != Indeterminate || p.PathPLR != IndeterminateRatio || p.Unsupported != 0 {
		t.Errorf("%v", p)
	}
}

// RFC 5975 §5.2.3: "A QNE that cannot accurately predict the latency … MUST
// raise the Not Supported N flag".
func TestComposeRaisesN(t *testing.T) {
	p := Params{Has: SetOf(PathLatencyID), PathLatency: 7}
	p.Compose(&Params{Unsupported: SetOf(PathLatencyID, PathJitterID)})
	if p.Unsupported != SetOf(PathLatencyID) || p.PathLatency != 7 {
		t.Errorf("%v", p)
	}
}

// interdomain-qosm §2: "Composition is intersection; an empty one fails with E."
func TestComposeEmptyTimeFails(t *testing.T) {
	p := Params{Has: SetOf(AbsoluteTimeID), Absolute: []Interval{{10, 20}}}
	if got := p.Compose(&Params{Has: p.Has, Absolute: []Interval{{20, 30}}}); got != SetOf(AbsoluteTimeID) {
		t.Errorf("failed %v", got)
	}
	if !p.Failed.Has(AbsoluteTimeID) || !p.ObjectFailed || len(p.Absolute) != 1 {
		t.Errorf("%v", p)
	}
}

// RFC 5975 §3.3.1: an unspecified peak rate asks for none, so a finite one on
// the path does not break it; a specified one is compared.
func TestPeakRate(t *testing.T) {
	need := Params{Has: 1 << TMOD1ID, TMOD1: TMOD{1000, 1500, infinity, 64, 1500}}
	have := need
	have.TMOD1.Peak = 1e6
	if Exceeds(&need, &have) != 0 {
		t.Error("an unspecified peak rate is exceeded")
	}
	need.TMOD1.Peak = 2e6
	if Exceeds(&need, &have) != SetOf(TMOD1ID) {
		t.Error("a specified peak rate is not")
	}
}

// RFC 5975 §4.3, tables 1 to 3: which objects belong in which message.
func TestCheckObjectCombinations(t *testing.T) {
	type row struct {
		seq  MessageSequence
		comb uint8
		in   Message
		must objects
		may  objects
	}
	rows := []row{
		{0, 0, InReserve, desired, 0}, {0, 0, InResponse, reserved, 0},
		{0, 1, InReserve, desired | available, 0}, {0, 1, InResponse, reserved | available, 0},
		{0, 2, InReserve, desired | available | minimum, 0}, {0, 2, InResponse, reserved | available, 0},
		{1, 0, InQuery, desired, 0}, {1, 0, InReserve, desired, 0}, {1, 0, InResponse, reserved, 0},
		{1, 1, InQuery, desired, minimum}, {1, 1, InReserve, desired | available, minimum}, {1, 1, InResponse, reserved | available, 0},
		{1, 2, InQuery, desired | available, 0}, {1, 2, InReserve, desired | available, 0}, {1, 2, InResponse, reserved, 0},
		{2, 0, InQuery, available, 0}, {2, 0, InResponse, available, 0},
	}
	for seq := range MessageSequence(4) {
		for comb := range uint8(4) {
			for in := InReserve; in < InError; in++ {
				i := slices.IndexFunc(rows, func(r row) bool { return r.seq == seq && r.comb == comb && r.in == in })
				for have := range objects(16) {
					q := QSPEC{Sequence: seq, Combination: comb}
					for o := QoSDesired; o <= MinimumQoS; o++ {
						if have&(1<<o) != 0 {
							q.Object(o).Has = 1 << Y1541ClassID
						}
					}
					want := i >= 0 && have&rows[i].must == rows[i].must && have&^(rows[i].must|rows[i].may) == 0
					if err := q.Check(in); (err == nil) != want {
						t.Errorf("procedure %d/%d, objects %04b in a %v: %v, want fine: %v", seq, comb, have, in, err, want)
					}
				}
			}
		}
	}
}

func TestCheckValues(t *testing.T) {
	for _, c := range []struct {
		name        string
		p           Params
		class, code uint8
		id          ParameterID
	}{
		{"RFC 5975 §5.2.11: 'shape' and no TMOD: the E flag is set and the reservation fails",
			Params{Has: SetOf(ExcessID, PHBClassID), Excess: Excess{Treatment: ExcessShape}}, 4, 7, ExcessID},
		{"an excess treatment that is not assigned", Params{Has: SetOf(ExcessID), Excess: Excess{Treatment: 4}}, 4, 7, ExcessID},
		{"RFC 5975 §5.2.14: values allowed are 0 to 7", Params{Has: SetOf(Y1541ClassID), Y1541: 8}, 4, 7, Y1541ClassID},
		{"RFC 5975 §5.2.13: values allowed are 0 to 7", Params{Has: SetOf(DSTEClassID), DSTE: 8}, 4, 7, DSTEClassID},
		{"interdomain-qosm §2: a weekly window needs an absolute time beside it",
			Params{Has: SetOf(RelativeTimeID), Relative: RelativeTime{Weekly, 1, 0, 0, 60}}, 3, 12, RelativeTimeID},
		{"what Parse refuses is not sent", Params{Has: SetOf(TMOD1ID), TMOD1: TMOD{Rate: float32(math.NaN())}}, 3, 12, TMOD1ID},
		{"nor a raw copy of a known parameter", Params{Extra: []RawParam{{ID: Y1541ClassID}}}, 3, 12, Y1541ClassID},
		{"nor more than the length field can say", Params{Extra: []RawParam{{ID: 99, Value: make([]byte, 4*4094)}}}, 3, 12, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := QSPEC{Desired: c.p}
			err := q.Check(InReserve)
			var e *Error
			if !errors.As(err, &e) || e.Class != c.class || e.Code != c.code || e.Parameter != c.id {
				t.Fatalf("%v (%+v)", err, e)
			}
			if c.class == ClassTransientFailure && (!q.Desired.Failed.Has(c.id) || !q.Desired.ObjectFailed) {
				t.Error("E is not raised on the parameter and its object")
			}
		})
	}
}

// RFC 5975 §4.2.2: "A QNE MUST set the Not Supported N flag if it cannot
// interpret the QSPEC parameter"; §4: with M it "fails the reservation".
func TestMarkUnsupported(t *testing.T) {
	q := initiatorEF(t)
	q.Desired.Extra = []RawParam{{ID: 77}}
	if err := q.MarkUnsupported(AllParams); err != nil {
		t.Fatal(err)
	}
	if !q.Desired.Extra[0].Unsupported || q.Desired.Unsupported != 0 {
		t.Errorf("%v", q)
	}
	err := q.MarkUnsupported(AllParams &^ SetOf(PHBClassID, TMOD1ID))
	var e *Error
	if !errors.As(err, &e) || e.Class != 4 || e.Code != 7 || e.Parameter != PHBClassID {
		t.Fatalf("%v", err)
	}
	if q.Desired.Unsupported != SetOf(PHBClassID) {
		t.Errorf("N on %v, want it on PHB Class only: every QNE interprets TMOD-1", q.Desired.Unsupported)
	}
	q.Desired.Extra[0].Must = true
	if err := q.MarkUnsupported(AllParams); !errors.As(err, &e) || e.Parameter != 77 {
		t.Errorf("%v", err)
	}
}
