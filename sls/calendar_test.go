package sls

import (
	"errors"

	"testing"
	"time"

	"pgregory.net/rapid"
)

// "a schedule of recurring windows": a booking in weekly windows is open at the
// same times of the wall clock on both sides of a change of the clocks.
// interdomain-qosm §2, §5
func TestRecurring(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const sun, sat, mon = 1 << 6, 1 << 5, 1
	for _, test := range []struct {
		name    string
		within  [][2]string // UTC
		windows []Window
		zone    *time.Location
		want    string // from/until of each, UTC
	}{
		{"mornings around the spring change", [][2]string{{"2027-03-27 00:00", "2027-03-30 00:00"}},
			[]Window{{sun | sat | mon, 8 * time.Hour, time.Hour}}, berlin,
			"03-27 07:00/03-27 08:00, 03-28 06:00/03-28 07:00, 03-29 06:00/03-29 07:00, "},
		{"mornings around the autumn change", [][2]string{{"2027-10-30 00:00", "2027-11-01 12:00"}},
			[]Window{{sun | sat | mon, 8 * time.Hour, time.Hour}}, berlin,
			"10-30 06:00/10-30 07:00, 10-31 07:00/10-31 08:00, 11-01 07:00/11-01 08:00, "},
		{"a day of 23 hours", [][2]string{{"2027-03-27 00:00", "2027-03-30 00:00"}}, []Window{{sun, 0, 24 * time.Hour}}, berlin,
			"03-27 23:00/03-28 22:00, "},
		{"a day of 25 hours", [][2]string{{"2027-10-29 00:00", "2027-11-03 00:00"}}, []Window{{sun, 0, 24 * time.Hour}}, berlin,
			"10-30 22:00/10-31 23:00, "},
		{"an hour that the clock leaves out", [][2]string{{"2027-03-27 12:00", "2027-03-28 12:00"}}, []Window{{sun, 2 * time.Hour, 2 * time.Hour}}, berlin,
			"03-28 01:00/03-28 02:00, "},
		{"an hour that comes twice", [][2]string{{"2027-10-30 12:00", "2027-10-31 12:00"}}, []Window{{sun, time.Hour, 3 * time.Hour}}, berlin,
			"10-30 23:00/10-31 03:00, "},
		{"cut on both sides", [][2]string{{"2027-03-01 08:30", "2027-03-01 08:45"}}, []Window{{mon, 8 * time.Hour, time.Hour}}, nil,
			"03-01 08:30/03-01 08:45, "},
		{"began a week before", [][2]string{{"2027-03-07 23:00", "2027-03-08 01:00"}}, []Window{{mon, 0, week}}, nil,
			"03-07 23:00/03-08 01:00, "},
		{"two that touch are one", [][2]string{{"2027-03-01 00:00", "2027-03-02 00:00"}},
			[]Window{{mon, 8 * time.Hour, time.Hour}, {mon, 9 * time.Hour, time.Hour}}, nil, "03-01 08:00/03-01 10:00, "},
		{"of two intervals", [][2]string{{"2027-03-01 00:00", "2027-03-02 00:00"}, {"2027-03-08 00:00", "2027-03-08 08:01"}},
			[]Window{{mon, 8 * time.Hour, time.Hour}}, nil, "03-01 08:00/03-01 09:00, 03-08 08:00/03-08 08:01, "},
		{"never", [][2]string{{"2027-03-02 00:00", "2027-03-05 00:00"}}, []Window{{mon, 8 * time.Hour, time.Hour}}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var within []Interval
			for _, v := range test.within {
				within = append(within, Interval{at(v[0]), at(v[1])})
			}
			list, err := Recurring(within, test.windows, test.zone)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, v := range list {
				got += v.From.Format("01-02 15:04/") + v.Until.Format("01-02 15:04, ")
			}
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	day := Window{0x7f, 0, time.Hour}
	year := []Interval{{epoch, epoch.AddDate(1, 0, 0)}}
	for name, try := range map[string]func() ([]Interval, error){
		"no window":     func() ([]Interval, error) { return Recurring(year, nil, nil) },
		"bad window":    func() ([]Interval, error) { return Recurring(year, []Window{{0, 0, time.Hour}}, nil) },
		"open interval": func() ([]Interval, error) { return Recurring([]Interval{{From: epoch}}, []Window{day}, nil) },
		"out of order":  func() ([]Interval, error) { return Recurring(append(year, year...), []Window{day}, nil) },
		"too many times": func() ([]Interval, error) {
			return Recurring([]Interval{{epoch, epoch.AddDate(3, 0, 0)}}, []Window{day}, nil)
		},
		"too many days": func() ([]Interval, error) {
			return Recurring([]Interval{{epoch, epoch.AddDate(7000, 0, 0)}}, []Window{{1, 0, time.Hour}}, nil)
		},
	} {
		if list, err := try(); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %d intervals, %v; want ErrRequest", name, len(list), err)
		}
	}

	// It is what the ledger books: the hour between two windows stays free.
	l := ledgerOf(t, `{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 8M}]}`)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	if r.Intervals, err = Recurring([]Interval{{epoch, epoch.AddDate(0, 0, 200)}}, []Window{day}, berlin); err != nil || len(r.Intervals) != 200 {
		t.Fatalf("%d intervals, %v", len(r.Intervals), err)
	}
	if _, err := l.Hold(epoch, r); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil || len(list[0].Intervals) != 200 {
		t.Fatalf("%d intervals, %v", len(list[0].Intervals), err)
	}
	for hour, want := range map[int]uint64{21: r.Rate, 22: 0, 23: r.Rate} { // UTC, in summer
		from := time.Date(2027, 7, 1, hour, 0, 0, 0, time.UTC)
		if got, err := l.LargestRate(epoch, "a", EF, Interval{from, from.Add(time.Hour)}); err != nil || got != want {
			t.Errorf("at %d: %d, %v; want %d", hour, got, err, want)
		}
	}
}

// What is left, when, is what a sum over all bookings at every second says, within
// the windows of the SLS. interdomain-qosm §5, §7
func TestCalendarQuestionsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{})
		const capacity, largest, seconds = 20, 15, 90
		s := SLS{ID: "a", Customer: 1, Provider: 2, Classes: []ClassSpec{{Class: EF, CIR: capacity, LargestFlow: largest}, {Class: AF11, Relative: true}}}
		open := func(int64) bool { return true }
		if rapid.Bool().Draw(t, "schedule") {
			start, length := rapid.Int64Range(0, 40).Draw(t, "window"), rapid.Int64Range(1, 50).Draw(t, "lasts")
			s.Schedule = []Window{{1 << 0, 12*time.Hour + time.Duration(start)*time.Second, time.Duration(length) * time.Second}} // epoch is a Monday
			open = func(at int64) bool { return at >= start && at < start+length }
		}
		if rapid.Bool().Draw(t, "ends") {
			end := rapid.Int64Range(30, seconds).Draw(t, "valid until")
			s.ValidUntil = epoch.Add(time.Duration(end) * time.Second)
			inside := open
			open = func(at int64) bool { return at < end && inside(at) }
		}
		if _, err := l.Put(epoch, s, "test"); err != nil {
			t.Fatal(err)
		}
		var sold [seconds * 3]int64
		second := func(n int64) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
		for i := range rapid.IntRange(0, 12).Draw(t, "bookings") {
			from := rapid.Int64Range(0, seconds-2).Draw(t, "from")
			until := rapid.Int64Range(from+1, seconds).Draw(t, "until")
			r := flow(byte(i+1), "10.1.0.1", "10.3.0.1")
			r.Rate, r.Intervals = rapid.Uint64Range(1, largest).Draw(t, "rate"), []Interval{{second(from), second(until)}}
			if _, err := l.Hold(epoch, r); err != nil {
				continue
			}
			for at := from; at < until; at++ {
				sold[at] += int64(r.Rate)
			}
			if rapid.Bool().Draw(t, "commit") {
				if _, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil {
					t.Fatal(err)
				}
			}
		}
		now := rapid.Int64Range(0, 30).Draw(t, "now")
		left := func(from, until int64) int64 {
			rest := int64(largest)
			for at := from; at < until; at++ {
				if rest = min(rest, capacity-sold[at]); !open(at) {
					return 0
				}
			}
			return rest
		}
		from := rapid.Int64Range(0, seconds).Draw(t, "ask from")
		length := rapid.Int64Range(1, 40).Draw(t, "ask for")
		until := max(from, now) + length
		got, err := l.LargestRate(second(now), "a", EF, Interval{second(from), second(until)})
		if want := left(max(from, now), until); err != nil || got != uint64(want) {
			t.Fatalf("largest in %d..%d: %d, %v; want %d", from, until, got, err, want)
		}
		rate := rapid.Int64Range(1, largest+1).Draw(t, "ask rate")
		at, ok, err := l.EarliestStart(second(now), "a", EF, uint64(rate), time.Duration(length)*time.Second, second(from))
		if err != nil {
			t.Fatal(err)
		}
		want := int64(-1)
		for try := max(from, now); try <= 2*seconds && want < 0; try++ {
			if left(try, try+length) >= rate {
				want = try
			}
		}
		nextWeek := len(s.Schedule) > 0 && s.ValidUntil.IsZero() && time.Duration(length)*time.Second <= s.Schedule[0].Duration && rate <= largest
		switch {
		case want >= 0 && (!ok || !at.Equal(second(want))), want < 0 && ok && !nextWeek:
			t.Fatalf("earliest %d for %d s from %d: %s, %t; want second %d", rate, length, from, at, ok, want)
		case want < 0 && nextWeek && (!ok || at.Before(epoch.Add(6*24*time.Hour))):
			t.Fatalf("earliest %d for %d s from %d: %s, %t; want next week", rate, length, from, at, ok)
		}
		steps, err := l.Timeline(second(now), "a", EF, second(from), second(until), 1000)
		if err != nil {
			t.Fatal(err)
		}
		next := second(max(from, now))
		for i, s := range steps {
			if !s.From.Equal(next) || !s.From.Before(s.Until) {
				t.Fatalf("step %d is from %s to %s, after %s", i, s.From, s.Until, next)
			}
			for next.Before(s.Until) {
				n := int64(next.Sub(epoch) / time.Second)
				c := uint64(capacity)
				if !open(n) {
					c = 0
				}
				if s.Committed+s.Held != uint64(sold[n]) || s.Capacity != c {
					t.Fatalf("second %d: %+v; want %d of %d", n, s, sold[n], c)
				}
				next = next.Add(time.Second)
			}
			if i > 0 && s.same(&steps[i-1]) {
				t.Fatalf("steps %d and %d are the same", i-1, i)
			}
		}
		if !next.Equal(second(until)) {
			t.Fatalf("steps end at %s, want %s", next, second(until))
		}
		if short, err := l.Timeline(second(now), "a", EF, second(from), second(until), 1); err != nil || len(short) != 1 || short[0] != steps[0] {
			t.Fatalf("one step: %v, %v; want %v", short, err, steps[0])
		}
	})
}

func TestCalendarQuestionErrors(t *testing.T) {
	l := ledgerOf(t, `{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 8M}, {class: AF11, relative: true}]}
---
{id: asleep, customer: 1, provider: 2, classes: [{class: EF, cir: 8M}], status: suspended}`)
	hour := Interval{epoch, epoch.Add(time.Hour)}
	ask := func(id string, c Class, v Interval, rate uint64) (errs []error) {
		_, largest := l.LargestRate(epoch, id, c, v)
		_, _, earliest := l.EarliestStart(epoch, id, c, rate, v.Until.Sub(v.From), v.From)
		_, timeline := l.Timeline(epoch, id, c, v.From, v.Until, 10)
		return []error{largest, earliest, timeline}
	}
	for _, test := range []struct {
		id   string
		c    Class
		v    Interval
		rate uint64
		want [3]error
	}{
		{"a", EF, hour, 1, [3]error{}},
		{"b", EF, hour, 1, [3]error{ErrUnknown, ErrUnknown, ErrUnknown}},
		{"a", AF21, hour, 1, [3]error{ErrUnknown, ErrUnknown, ErrUnknown}},
		{"a", AF11, hour, 1, [3]error{ErrRequest, ErrRequest, ErrRequest}},
		{"a", EF, Interval{epoch, epoch.Add(-1)}, 1, [3]error{ErrRequest, ErrRequest, ErrRequest}},
		{"a", EF, hour, 0, [3]error{nil, ErrRequest, nil}},
		{"a", EF, hour, MaxRate + 1, [3]error{nil, ErrRequest, nil}},
	} {
		for i, err := range ask(test.id, test.c, test.v, test.rate) {
			if !errors.Is(err, test.want[i]) {
				t.Errorf("%s %s %v %d, question %d: %v, want %v", test.id, test.c, test.v, test.rate, i, err, test.want[i])
			}
		}
	}
	if rate, err := l.LargestRate(epoch, "asleep", EF, hour); rate != 0 || err != nil {
		t.Errorf("of a suspended one: %d, %v; want 0", rate, err)
	}
	if _, ok, err := l.EarliestStart(epoch, "asleep", EF, 1, 0, time.Time{}); ok || err != nil {
		t.Errorf("of a suspended one: %t, %v; want never", ok, err)
	}
	if at, ok, err := l.EarliestStart(epoch, "a", EF, 1, 0, time.Time{}); !ok || err != nil || !at.Equal(epoch) {
		t.Errorf("at once, for ever: %s, %t, %v; want now", at, ok, err)
	}
}
