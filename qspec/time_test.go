package qspec

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// interdomain-qosm §2: "the first QNE turns it into an Absolute one".
func TestResolveTimes(t *testing.T) {
	q := initiatorEF(t)
	q.Desired.Has |= relativeTimeBit
	q.Desired.Must |= relativeTimeBit
	q.Desired.Relative = RelativeTime{Kind: FromRequest, Start: 60, Duration: 3600}
	if err := q.ResolveTimes(1000); err != nil {
		t.Fatal(err)
	}
	p := q.Desired
	if p.Has.Has(RelativeTimeID) || !p.Must.Has(AbsoluteTimeID) || !reflect.DeepEqual(p.Absolute, []Interval{{1060, 4660}}) {
		t.Errorf("%v", q)
	}
	// Beside an absolute one it is cut to that; outside it fails with E.
	q.Desired.Has |= relativeTimeBit
	q.Desired.Relative = RelativeTime{Kind: FromRequest, Start: 0, Duration: 3600}
	if err := q.ResolveTimes(2000); err != nil || !reflect.DeepEqual(q.Desired.Absolute, []Interval{{2000, 4660}}) {
		t.Errorf("%v, %v", q, err)
	}
	q.Desired.Has |= relativeTimeBit
	q.Desired.Relative = RelativeTime{Kind: FromRequest, Duration: 10}
	isError(t, q.ResolveTimes(10_000), ClassTransientFailure, CodeReservationFailure)
	if !q.Desired.Failed.Has(RelativeTimeID) || !q.Desired.ObjectFailed {
		t.Errorf("no E in %v", q)
	}
	// A weekly one stays.
	w := QSPEC{Available: Params{Has: absoluteTimeBit | relativeTimeBit, Absolute: []Interval{{0, 1e6}}, Relative: RelativeTime{Kind: Weekly, Days: 1, Duration: 1}}}
	if err := w.ResolveTimes(5); err != nil || !w.Available.Has.Has(RelativeTimeID) {
		t.Errorf("%v, %v", w, err)
	}
}

func drawWeekly(t *rapid.T) RelativeTime {
	return RelativeTime{Kind: Weekly, Days: rapid.Uint8Range(1, 127).Draw(t, "days"), UTCOffset: int16(rapid.IntRange(-14*60, 14*60).Draw(t, "offset")),
		Start: uint32(rapid.IntRange(0, 23).Draw(t, "hour")) * 3600, Duration: uint32(rapid.IntRange(1, 7*24).Draw(t, "hours")) * 3600}
}

// inWindow asks the calendar of package time, hour by hour, whether a second is in
// a weekly window.
func inWindow(w RelativeTime, at int64) bool {
	zone := time.FixedZone("", 60*int(w.UTCOffset))
	for back := range 9 {
		day := time.Unix(at, 0).In(zone).AddDate(0, 0, 1-back)
		weekday := (int(day.Weekday()) + 6) % 7 // Monday is 0
		if w.Days>>(6-weekday)&1 == 0 {
			continue
		}
		start := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, int(w.Start), 0, zone).Unix()
		if start <= at && at < start+int64(w.Duration) {
			return true
		}
	}
	return false
}

// Weekly windows are where the calendar says, also past midnight, before 1970 and
// in any time zone.
func TestWindowsAreWhereTheCalendarSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWeekly(t)
		from := rapid.Int64Range(-1e6, 1e6).Draw(t, "from") * 1800
		within := []Interval{{from, from + 20*86400}}
		list := w.Windows(within, 100)
		for i := 1; i < len(list); i++ {
			if list[i].Start <= list[i-1].End {
				t.Fatalf("%v: not sorted, or not merged", list)
			}
		}
		for at := from; at < within[0].End; at += 1800 {
			if got := covers(list, []Interval{{at, at + 1}}); got != inWindow(w, at) {
				t.Fatalf("%v at %d: %v", w, at, got)
			}
		}
		if limited := w.Windows(within, 1); len(limited) > 1 || len(list) > 0 && limited[0] != list[0] {
			t.Fatalf("limited to one: %v", limited)
		}
	})
}

// A weekly request is met where every window is covered, not all the time between.
func TestWeeklyCovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		need := Params{Has: absoluteTimeBit | relativeTimeBit, Absolute: []Interval{{0, 30 * 86400}}, Relative: drawWeekly(t)}
		cut := rapid.SliceOfNDistinct(rapid.Int64Range(0, 30*48), 2, 8, rapid.ID[int64]).Draw(t, "have")
		have := Params{Has: absoluteTimeBit, Absolute: drawSpans(cut, 1800)}
		want := covers(have.Absolute, need.Relative.Windows(need.Absolute, 1000))
		if got := Exceeds(&need, &have) == 0; got != want {
			t.Fatalf("%v in %v: met %v, want %v", need, have, got, want)
		}
		// Composition: what is left of the windows, and E if nothing is.
		p := need
		failed := p.Compose(&have)
		left := need.Relative.Windows(Intersect(need.Absolute, have.Absolute), 1000)
		if (failed == 0) != (len(left) > 0) || failed != 0 != p.ObjectFailed {
			t.Fatalf("%v of %v: %v left, failed %v", have, need, left, failed)
		}
	})
}

func drawSpans(cuts []int64, unit int64) []Interval {
	var out []Interval
	for i := 0; i+1 < len(cuts); i += 2 {
		a, b := min(cuts[i], cuts[i+1])*unit, max(cuts[i], cuts[i+1])*unit
		if n := len(out); n > 0 && a < out[n-1].End {
			continue
		}
		out = append(out, Interval{a, b})
	}
	return out
}

// The ends of time do not overflow.
func TestTimesAtTheEnds(t *testing.T) {
	w := RelativeTime{Kind: Weekly, Days: 127, Start: 86399, Duration: 7 * 86400, UTCOffset: -720}
	ever := []Interval{{math.MinInt64, math.MaxInt64}}
	if !w.meets(ever) || len(w.Windows(ever, 3)) == 0 {
		t.Error("never, in all of time")
	}
	if w.meets([]Interval{{math.MaxInt64 - 1, math.MaxInt64}}) {
		t.Error("beyond reach")
	}
	r := RelativeTime{Kind: FromRequest, Start: math.MaxUint32, Duration: math.MaxUint32}
	if x, err := r.Resolve(math.MaxInt64); err != nil || x.Start >= x.End {
		t.Errorf("%v, %v", x, err)
	}
}

// RFC 5975 §3.2 for times: Minimum QoS and QoS Available in one RESERVE.
func TestTimesInReserve(t *testing.T) {
	for _, c := range []struct {
		have  []Interval
		fails bool
	}{
		{[]Interval{{0, 1000}}, false}, {[]Interval{{0, 150}, {150, 1000}}, false}, {[]Interval{{150, 1000}}, true}, {nil, true},
	} {
		q := initiatorEF(t)
		q.Desired.Has |= absoluteTimeBit
		q.Desired.Must |= absoluteTimeBit
		q.Desired.Absolute = []Interval{{100, 200}}
		l, err := Encapsulate(&q, InReserve)
		if err != nil {
			t.Fatal(err)
		}
		share := RateShare(1e9)
		share.Has |= absoluteTimeBit
		share.Absolute = c.have
		err = l.Admit(InReserve, AllParams, &share)
		if (err != nil) != c.fails || l.Desired.Failed.Has(AbsoluteTimeID) != c.fails {
			t.Errorf("%v: %v, %v", c.have, err, l)
		}
		// A node that does not know of times must not book for now.
		q = mustParse(t, q, InReserve)
		if err := q.MarkUnsupported(AllParams &^ absoluteTimeBit); err == nil {
			t.Error("M=1 was passed over")
		}
	}
}
