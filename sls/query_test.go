package sls

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// interdomain-qosm §2: a QUERY is answered with what a booking would find, and
// nothing is held by asking.
func TestAsk(t *testing.T) {
	now := time.Date(2030, 1, 7, 6, 0, 0, 0, time.UTC) // a Monday
	hour := func(h int) time.Time { return time.Date(2030, 1, 7, h, 0, 0, 0, time.UTC) }
	docs, err := Parse("x", []byte(`{id: west, customer: 1, provider: 2, scope: {destinations: [any], sources: [any]},
  classes: [{class: EF, cir: 80M, pir: 80M, delay: 5ms}, {class: AF11, relative: true}],
  schedule: [{days: [mon, tue], start: "08:00", duration: 10h}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := New(Config{})
	if _, err := l.Put(now, docs[0], "test"); err != nil {
		t.Fatal(err)
	}
	request := func(rate uint64, times ...Interval) Request {
		return Request{ID: ID{9}, Customer: 1, Provider: 2, Class: EF, Rate: rate, MinRate: rate, Intervals: times,
			Source: netip.MustParsePrefix("10.1.0.1/32"), Destination: netip.MustParsePrefix("10.2.0.1/32")}
	}
	booked := request(50e6/8, Interval{hour(9), hour(12)})
	booked.ID = ID{1}
	if _, err := l.Hold(now, booked); err != nil {
		t.Fatal(err)
	}
	before := l.Stats()
	for _, c := range []struct {
		name     string
		r        Request
		rate     uint64 // bit/s
		times    []Interval
		full     bool
		earliest time.Time
	}{
		{"beside the booking", request(40e6/8, Interval{hour(10), hour(11)}), 30e6, []Interval{{hour(10), hour(11)}}, false, hour(12)},
		{"after it", request(80e6/8, Interval{hour(12), hour(14)}), 80e6, []Interval{{hour(12), hour(14)}}, true, time.Time{}},
		{"the part that is in the schedule", request(30e6/8, Interval{hour(6), hour(20)}), 30e6, []Interval{{hour(8), hour(18)}}, false, time.Time{}},
		{"two windows of it", request(30e6/8, Interval{hour(6), hour(6 + 48)}), 30e6, []Interval{{hour(8), hour(18)}, {hour(32), hour(42)}}, false, time.Time{}},
		{"never in it", request(30e6/8, Interval{hour(19), hour(20)}), 0, nil, false, hour(32)},
		{"now, when it is closed", request(30e6 / 8), 0, nil, false, hour(8)},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := l.Ask(now, c.r, 8)
			if err != nil || 8*q.Rate != c.rate || q.Full != c.full || !q.Earliest.Equal(c.earliest) || len(q.Times) != len(c.times) ||
				q.SLS != "west" || q.Delay != 5*time.Millisecond || q.Full != (q.Why == "") {
				t.Fatalf("%+v, %v", q, err)
			}
			for i := range c.times {
				if q.Times[i] != c.times[i] {
					t.Errorf("times %v, want %v", q.Times, c.times)
				}
			}
			// What is told can be had.
			if r := c.r; q.Rate > 0 {
				r.Rate, r.MinRate, r.Intervals = q.Rate, q.Rate, q.Times
				if _, err := l.Hold(now, r); err != nil {
					t.Errorf("and yet: %v", err)
				}
				l.Release(r.ID)
			}
		})
	}
	relative := request(0, Interval{hour(10), hour(11)})
	relative.Class, relative.Relative = AF11, true
	if q, err := l.Ask(now, relative, 8); err != nil || !q.Full {
		t.Errorf("relative: %+v, %v", q, err)
	}
	other := request(1)
	other.Provider = 3
	var no *Refusal
	if _, err := l.Ask(now, other, 8); !errors.As(err, &no) || no.Code != NoSLS {
		t.Errorf("no SLS: %v", err)
	}
	if l.Stats() != before {
		t.Errorf("asking changed %+v to %+v", before, l.Stats())
	}
}
