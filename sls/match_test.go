package sls

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// ledgerOf makes a ledger of the SLSs of a YAML text.
func ledgerOf(t testing.TB, text string) *Ledger {
	t.Helper()
	list, err := Parse(t.Name(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	l := New(Config{})
	for _, s := range list {
		if _, err := l.Put(epoch, s, "test"); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// flow is a request for one flow, EF, 1,000,000 octets/s, from AS1 to AS2.
func flow(n byte, source, destination string) Request {
	r := Request{
		ID: ID{n}, Leg: Inbound, Version: 1, Customer: 1, Provider: 2, Class: EF, Rate: 1_000_000,
		Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1"),
	}
	for p, text := range map[*netip.Prefix]string{&r.Source: source, &r.Destination: destination} {
		if a, err := netip.ParseAddr(text); err == nil {
			*p = netip.PrefixFrom(a, a.BitLen())
		} else {
			*p = netip.MustParsePrefix(text)
		}
	}
	return r
}

const matchText = `
{id: wide, customer: 1, provider: 2, classes: [{class: EF, cir: 80M}]}
---
{id: ten, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8, "2001:db8::/32"]}, classes: [{class: EF, cir: 80M}]}
---
{id: ten-three, customer: 1, provider: 2, scope: {destinations: [10.3.0.0/16, 10.0.0.0/8]}, classes: [{class: EF, cir: 80M}]}
---
{id: ten-three-from, customer: 1, provider: 2, scope: {destinations: [10.3.0.0/16], sources: [10.1.0.0/16, 10.1.7.0/24]}, classes: [{class: EF, cir: 80M}]}
---
{id: ten-three-bound, customer: 1, provider: 2, egress: 127.1.2.1, scope: {destinations: [10.3.0.0/16], sources: [10.1.0.0/16]}, classes: [{class: EF, cir: 80M}]}
---
{id: elsewhere, customer: 1, provider: 2, ingress: 127.2.1.9, scope: {destinations: [10.3.0.0/16]}, classes: [{class: EF, cir: 80M}]}
---
{id: six-aggregate, customer: 1, provider: 2, degree: per-aggregate, scope: {destinations: ["2001:db8:3::/48"]}, classes: [{class: EF, cir: 80M}]}
---
{id: relative, customer: 1, provider: 2, classes: [{class: AF11, relative: true}]}
---
{id: backwards, customer: 2, provider: 1, classes: [{class: EF, cir: 80M}]}
---
{id: asleep, customer: 1, provider: 2, scope: {destinations: [10.3.1.0/24]}, classes: [{class: EF, cir: 80M}], status: offered}
`

// "the most specific scope wins". interdomain-qosm §5
func TestMostSpecificWins(t *testing.T) {
	for _, test := range []struct {
		name                string
		source, destination string
		change              func(*Request)
		want                string
	}{
		{"longest destination, then source, then interface", "10.1.0.1", "10.3.0.1", nil, "ten-three-bound"},
		{"longest source before the interface", "10.1.7.1", "10.3.0.1", nil, "ten-three-from"},
		{"another interface", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Egress = netip.MustParseAddr("127.1.2.2") }, "ten-three-from"},
		{"an interface that is not known", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Egress = netip.Addr{} }, "ten-three-from"},
		{"another source", "10.9.0.1", "10.3.0.1", nil, "ten-three"},
		{"equal scopes go by id", "10.9.0.1", "10.4.0.1", nil, "ten"},
		{"any", "10.9.0.1", "192.0.2.1", nil, "wide"},
		{"an IPv4 address in an IPv6 one", "::ffff:10.1.0.1", "::ffff:10.3.0.1", nil, "ten-three-bound"},
		{"IPv6", "2001:db8:1::1", "2001:db8:9::1", nil, "ten"},
		{"IPv6, a flow on a per-aggregate SLS", "2001:db8:1::1", "2001:db8:3::1", nil, "six-aggregate"},
		{"IPv6, a prefix", "2001:db8:1::/48", "2001:db8:3::/56", nil, "six-aggregate"},
		{"a prefix does not fit per flow", "10.1.0.0/24", "10.3.0.1", nil, ""},
		{"a source that is not known does not fit per flow", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Source = netip.Prefix{} }, ""},
		{"relative", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Class, r.Relative = AF11, true }, "relative"},
		{"a rate of a class sold relatively", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Class = AF11 }, ""},
		{"relative of a class sold with a rate", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Relative = true }, ""},
		{"a class not sold", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Class = AF12 }, ""},
		{"the other direction", "10.3.0.1", "10.1.0.1", func(r *Request) { r.Customer, r.Provider = 2, 1 }, "backwards"},
		{"other peers", "10.1.0.1", "10.3.0.1", func(r *Request) { r.Provider = 3 }, ""},
	} {
		l := ledgerOf(t, matchText)
		r := flow(1, test.source, test.destination)
		if test.change != nil {
			test.change(&r)
		}
		got, err := l.Hold(epoch, r)
		var no *Refusal
		if test.want == "" {
			if !errors.As(err, &no) || no.Code != NoSLS || no.SLS != "" || no.Largest != 0 || len(no.Why) == 0 {
				t.Errorf("%s: %+v, %v; want code 64", test.name, got, err)
			}
			continue
		}
		if err != nil || got.SLS != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got.SLS, err, test.want)
		}
		fits, err := l.Match(epoch, Request{
			ID: ID{2}, Customer: r.Customer, Provider: r.Provider, Egress: r.Egress, Ingress: r.Ingress,
			Source: r.Source, Destination: r.Destination, Class: r.Class, Relative: r.Relative, Rate: r.Rate,
		})
		if err != nil || fits[0].SLS != test.want || !fits[0].Fits || len(fits) != 10 {
			t.Errorf("%s: match says %+v, %v", test.name, fits, err)
		}
		for _, f := range fits {
			if f.Fits != (f.Why == "") {
				t.Errorf("%s: %+v fits with a reason, or does not without", test.name, f)
			}
		}
	}
}

// For every SLS that does not fit, the reason is told. interdomain-qosm §7
func TestWhyNot(t *testing.T) {
	l := ledgerOf(t, matchText)
	r := flow(1, "10.9.0.1", "10.3.1.1")
	fits, err := l.Match(epoch, r)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range fits {
		got[f.SLS] = f.Why
	}
	for id, want := range map[string]string{
		"ten-three":       "",
		"ten-three-from":  "ten-three-from: covers sources 10.1.0.0/16, 10.1.7.0/24, not 10.9.0.1/32",
		"elsewhere":       "elsewhere: is bound to ingress 127.2.1.9, the request enters by 127.2.1.1",
		"six-aggregate":   "six-aggregate: covers destinations 2001:db8:3::/48, not 10.3.1.1/32",
		"relative":        "relative: sells AF11, not EF",
		"backwards":       "backwards: is from AS2 to AS1, not from AS1 to AS2",
		"asleep":          "asleep: is offered, not active",
		"ten-three-bound": "ten-three-bound: covers sources 10.1.0.0/16, not 10.9.0.1/32",
	} {
		if got[id] != want {
			t.Errorf("%s: %q, want %q", id, got[id], want)
		}
	}
	r.Provider = 7
	_, err = l.Hold(epoch, r)
	if want := "no SLS covers the request: no SLS is between AS1 and AS7"; fmt.Sprint(err) != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// When the most specific SLS is full, the next one that has the full rate
// serves; a request that takes less gets most of what there is.
func TestFallBack(t *testing.T) {
	l := ledgerOf(t, `
{id: narrow, customer: 1, provider: 2, scope: {destinations: [10.3.0.0/16]}, classes: [{class: EF, cir: 8M}]}
---
{id: broad, customer: 1, provider: 2, classes: [{class: EF, cir: 24M, largest_flow: 16M}]}
`)
	hold := func(n byte, rate, least uint64) string {
		r := flow(n, "10.1.0.1", "10.3.0.1")
		r.Rate, r.MinRate = rate, least
		g, err := l.Hold(epoch, r)
		var no *Refusal
		if errors.As(err, &no) {
			return fmt.Sprintf("%d %s %d", no.Code, no.SLS, no.Largest)
		}
		return fmt.Sprintf("%s %d", g.SLS, g.Rate)
	}
	for i, test := range []struct {
		rate, least uint64
		want        string
	}{
		{600_000, 0, "narrow 600000"},
		{600_000, 0, "broad 600000"},           // narrow has only 400,000 left
		{2_500_000, 0, "65 narrow 2000000"},    // more than the largest flow of broad
		{2_500_000, 1, "broad 2000000"},        // takes less
		{500_000, 450_000, "65 narrow 400000"}, // both have 400,000
		{500_000, 400_000, "narrow 400000"},    // equal: the more specific one
		{500_000, 1, "broad 400000"},
		{1, 0, "65 narrow 0"},
	} {
		if got := hold(byte(i+1), test.rate, test.least); got != test.want {
			t.Errorf("hold %d: %s, want %s", i, got, test.want)
		}
	}
}

// "capacity over time": a flow that has no end stops at the end of the SLS's
// window; one that is booked has to fit the windows. interdomain-qosm §5
func TestSchedule(t *testing.T) {
	const text = `
{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 80M}], time_zone: Europe/Berlin,
 valid: {from: 2027-03-22, to: 2027-04-05},
 schedule: [{days: [mon..fri], start: "08:00", duration: 10h}, {days: [fri], start: "18:00", duration: 8h}, {days: [sat], start: "22:00", duration: 6h}]}
`
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		name                   string
		now, from, until       string // UTC; empty: as in a request without
		wantUntil, wantNotTill string // Grant.Until, or Refusal.Earliest
	}{
		{"in a window", "2027-03-22 08:00", "", "", "2027-03-22 17:00", ""},
		{"before the day's window", "2027-03-23 06:59", "", "", "", "2027-03-23 07:00"},
		{"at its first second", "2027-03-23 07:00", "", "", "2027-03-23 17:00", ""},
		{"at its end", "2027-03-23 17:00", "", "", "", "2027-03-24 07:00"},
		{"windows that touch are one, past midnight", "2027-03-26 08:00", "", "", "2027-03-27 01:00", ""},
		{"before it is valid", "2027-03-01 10:00", "", "", "", "2027-03-22 07:00"},
		{"after it is valid", "2027-04-05 10:00", "", "", "", ""},
		{"through the night in which summer time begins", "2027-03-27 21:00", "", "", "2027-03-28 02:00", ""},
		{"in summer time an hour earlier", "2027-03-29 06:00", "", "", "2027-03-29 16:00", ""},
		{"booked within a window", "2027-03-01 10:00", "2027-03-30 06:00", "2027-03-30 16:00", "2027-03-30 16:00", ""},
		{"booked beyond a window", "2027-03-01 10:00", "2027-03-30 06:00", "2027-03-30 16:01", "", "2027-04-02 06:00"},
		{"longer than any window", "2027-03-01 10:00", "2027-03-23 00:00", "2027-03-25 00:00", "", ""},
		{"booked beyond the validity", "2027-03-01 10:00", "2027-04-05 07:00", "2027-04-05 08:00", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := ledgerOf(t, text)
			r := flow(1, "10.1.0.1", "10.3.0.1")
			if test.from != "" {
				r.Intervals = []Interval{{From: at(test.from), Until: at(test.until)}}
			}
			g, err := l.Hold(at(test.now), r)
			if test.wantUntil != "" {
				if err != nil || !g.Until.Equal(at(test.wantUntil)) {
					t.Fatalf("until %s, %v; want %s", g.Until, err, test.wantUntil)
				}
				if _, err := l.Commit(at(test.now), r.ID, 1, r.Rate); err != nil {
					t.Fatal(err)
				}
				if !l.Deadline().Equal(g.Until) || len(l.Expire(g.Until.Add(-1))) != 0 || len(l.Expire(g.Until)) != 1 || l.Stats().Committed != 0 {
					t.Fatalf("does not end at %s", g.Until)
				}
				return
			}
			var no *Refusal
			if !errors.As(err, &no) || no.Code != NoCapacity || !strings.Contains(no.Error(), "not available throughout") {
				t.Fatalf("%+v, %v; want code 65", g, err)
			}
			want := time.Time{}
			if test.wantNotTill != "" {
				want = at(test.wantNotTill)
			}
			if !no.Earliest.Equal(want) {
				t.Fatalf("earliest %s, want %s", no.Earliest, want)
			}
		})
	}
}

// A schedule without a gap is none, also where a day has 23 or 25 hours.
func TestScheduleWithoutGap(t *testing.T) {
	l := ledgerOf(t, `
{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 80M}], time_zone: Europe/Berlin,
 schedule: [{days: [mon..fri], start: "06:00", duration: 24h}, {days: [sat], start: "06:00", duration: 48h}]}`)
	if g, err := l.Hold(epoch, flow(1, "10.1.0.1", "10.3.0.1")); err != nil || !g.Until.IsZero() {
		t.Errorf("%+v, %v; want no end", g, err)
	}
	l = ledgerOf(t, `
{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 80M}], time_zone: Europe/Berlin,
 schedule: [{days: [mon..fri], start: "06:00", duration: 24h}, {days: [sat], start: "06:00", duration: 47h59m59s}]}`)
	g, err := l.Hold(time.Date(2027, 10, 29, 12, 0, 0, 0, time.UTC), flow(1, "10.1.0.1", "10.3.0.1"))
	// Monday 05:59:59 after the night in which summer time ends.
	if want := time.Date(2027, 11, 1, 4, 59, 59, 0, time.UTC); err != nil || !g.Until.Equal(want) {
		t.Errorf("%+v, %v; want an end at %s", g, err, want)
	}
}
