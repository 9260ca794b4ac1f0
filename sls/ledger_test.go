package sls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const plainText = `
{id: a, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8]},
 classes: [{class: EF, cir: 80M, pir: 96M, excess: remark, excess_class: AF13, dscp_wire: CS5, dscp_inside: 44, delay: 20ms, jitter: 1ms, loss: 0.01},
           {class: AF11, relative: true}]}
`

func usage(t *testing.T, l *Ledger, at time.Time) Usage {
	t.Helper()
	u, err := l.Usage("a", EF, at)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// "A raise holds the difference; the old amount stays until the commit."
// interdomain-qosm §6
func TestModification(t *testing.T) {
	l := ledgerOf(t, plainText)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(step string, committed, held uint64, reservations int) {
		t.Helper()
		if u := usage(t, l, epoch); u != (Usage{committed, held, 10_000_000, reservations}) {
			t.Errorf("%s: %+v; want %d committed, %d held, %d reservations", step, u, committed, held, reservations)
		}
	}
	must(l.Hold(epoch, r))
	expect("hold", 0, 1_000_000, 1)
	must(l.Commit(epoch, r.ID, 1, 900_000))
	expect("commit, shrunk", 900_000, 0, 1)
	r.Version, r.Rate = 2, 3_000_000
	must(l.Hold(epoch, r))
	expect("raise", 900_000, 2_100_000, 1)
	if !l.Drop(r.ID, 2) || l.Drop(r.ID, 2) {
		t.Error("a hold has to be dropped once")
	}
	expect("refused elsewhere", 900_000, 0, 1)
	r.Version, r.Rate = 3, 500_000
	must(l.Hold(epoch, r))
	expect("lowering holds nothing", 900_000, 0, 1)
	must(l.Commit(epoch, r.ID, 3, 500_000))
	expect("lowered", 500_000, 0, 1)
	r.Version, r.Rate = 4, 10_000_000
	must(l.Hold(epoch, r)) // all of it: its own half does not count twice
	expect("raise to all", 500_000, 9_500_000, 1)
	if ids := l.Expire(epoch.Add(60 * time.Second)); !slices.Equal(ids, []ID{r.ID}) {
		t.Errorf("expired %v", ids)
	}
	expect("the hold expired, the reservation has not", 500_000, 0, 1)
	if _, err := l.Commit(epoch.Add(time.Minute), r.ID, 4, 1); !errors.Is(err, ErrNoHold) {
		t.Errorf("commit of what expired: %v", err)
	}
	r.Version = 3
	r.Rate = 500_000
	if g, err := l.Hold(epoch, r); err != nil || g.Rate != 500_000 {
		t.Errorf("repeat of what is committed: %+v, %v", g, err)
	}
	r.Version = 2
	if _, err := l.Hold(epoch, r); !errors.Is(err, ErrStale) {
		t.Errorf("an old version: %v", err)
	}
	if !l.Release(r.ID) || l.Release(r.ID) {
		t.Error("a reservation has to be released once")
	}
	expect("released", 0, 0, 0)
}

// "a success RESPONSE for which there is no hold ... is turned into release":
// a hold lasts 60 s and not longer, whether Expire was called or not, and one
// time for all legs. interdomain-qosm §6
func TestHoldExpires(t *testing.T) {
	l := ledgerOf(t, plainText)
	in, out := flow(1, "10.1.0.1", "10.3.0.1"), flow(1, "10.1.0.1", "10.3.0.1")
	out.Leg = Outbound
	for i, r := range []Request{in, out} {
		if _, err := l.Hold(epoch.Add(time.Duration(i)*10*time.Second), r); err != nil {
			t.Fatal(err)
		}
	}
	due := epoch.Add(60 * time.Second)
	if !l.Deadline().Equal(due) {
		t.Errorf("deadline %s, want %s", l.Deadline(), due)
	}
	if ids := l.Expire(due.Add(-1)); ids != nil {
		t.Errorf("expired early: %v", ids)
	}
	if _, err := l.Commit(due, in.ID, 1, in.Rate); !errors.Is(err, ErrNoHold) {
		t.Errorf("commit at the deadline: %v", err)
	}
	if ids := l.Expire(due); len(ids) != 1 || l.Stats() != (Stats{SLSs: 1}) || !l.Deadline().IsZero() {
		t.Errorf("expired %v, %+v", ids, l.Stats())
	}
}

// A clock that steps back does not give time back. interdomain-qosm §5
func TestClockStepsBack(t *testing.T) {
	l := ledgerOf(t, plainText)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	r.Rate = 10_000_000
	r.Intervals = []Interval{{From: epoch.Add(time.Hour), Until: epoch.Add(2 * time.Hour)}}
	if _, err := l.Hold(epoch, r); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil {
		t.Fatal(err)
	}
	l.Expire(epoch.Add(90 * time.Minute))
	other := flow(2, "10.1.0.1", "10.3.0.1")
	var no *Refusal
	if g, err := l.Hold(epoch, other); !errors.As(err, &no) || !no.Earliest.Equal(epoch.Add(2*time.Hour)) {
		t.Errorf("%+v, %v; want a refusal until the booking ends", g, err)
	}
}

// Both legs of a transit AS are one reservation, committed together.
func TestBothLegs(t *testing.T) {
	l := ledgerOf(t, plainText+"---\n{id: b, customer: 2, provider: 3, classes: [{class: EF, cir: 8M}]}")
	in, out := flow(1, "10.1.0.1", "10.3.0.1"), flow(1, "10.1.0.1", "10.3.0.1")
	out.Leg, out.Customer, out.Provider = Outbound, 2, 3
	in.Peak, in.Burst, in.Priority = 13_000_000, 3000, 5
	in.Rate, in.MinRate, out.MinRate = 4_000_000, 1, 1
	if g, err := l.Hold(epoch, in); err != nil || !reflect.DeepEqual(g, Grant{
		SLS: "a", Rate: 4_000_000, Peak: 12_000_000, Wire: CS5, Inside: 44, Excess: Remark, ExcessClass: AF13,
		Delay: 20 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.01,
	}) {
		t.Errorf("%+v, %v", g, err)
	}
	if g, err := l.Hold(epoch, out); err != nil || !reflect.DeepEqual(g, Grant{SLS: "b", Rate: 1_000_000, Wire: EF, Inside: EF}) {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := l.Commit(epoch, in.ID, 1, 2_000_000); !errors.Is(err, ErrRequest) || l.Stats().Committed != 0 {
		t.Errorf("commit of more than one leg holds: %v", err)
	}
	bookings, err := l.Commit(epoch, in.ID, 1, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	want := []Booking{
		{
			ID: in.ID, Leg: Inbound, Version: 1, SLS: "a", Egress: in.Egress, Ingress: in.Ingress, Source: in.Source, Destination: in.Destination,
			Class: EF, Rate: 1_000_000, Peak: 12_000_000, Burst: 3000, Priority: 5, Intervals: []Interval{{}},
		},
		{
			ID: in.ID, Leg: Outbound, Version: 1, SLS: "b", Egress: in.Egress, Ingress: in.Ingress, Source: in.Source, Destination: in.Destination,
			Class: EF, Rate: 1_000_000, Intervals: []Interval{{}},
		},
	}
	for name, got := range map[string][]Booking{"commit": bookings, "bookings": l.Bookings(in.ID), "by SLS": slices.AppendSeq(slices.Collect(l.BySLS("a")), l.BySLS("b"))} {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	if again, err := l.Commit(epoch, in.ID, 1, 5); err != nil || fmt.Sprint(again) != fmt.Sprint(want) {
		t.Errorf("again: %+v, %v", again, err)
	}

	// What a store gives back makes the same ledger; what has no SLS is told.
	l2 := New(Config{})
	if err := l2.LoadSLS(l.SLSs()); err != nil {
		t.Fatal(err)
	}
	lost, held := want[0], want[0]
	lost.ID, lost.SLS = ID{7}, "gone"
	held.ID, held.Held = ID{8}, true
	err = l2.Restore(epoch, append(want, lost, held, want[0]))
	for _, id := range []ID{lost.ID, held.ID, want[0].ID} {
		if !strings.Contains(fmt.Sprint(err), "reservation "+id.String()) {
			t.Errorf("%s is not named in %v", id, err)
		}
	}
	if !errors.Is(err, ErrUnknown) || usage(t, l2, epoch) != usage(t, l, epoch) || l2.Stats() != l.Stats() {
		t.Errorf("restored: %v, %+v, %+v", err, usage(t, l2, epoch), l2.Stats())
	}
	if !l.ReleaseLeg(in.ID, Outbound) || len(l.Bookings(in.ID)) != 1 {
		t.Errorf("after the outbound leg is released: %+v", l.Bookings(in.ID))
	}
}

// Relative QoS is "admitted against an SLS that sells the class relatively,
// with no rate promised". interdomain-qosm §2
func TestRelative(t *testing.T) {
	l := ledgerOf(t, plainText)
	for i := range byte(20) {
		r := flow(i, "10.1.0.1", "10.3.0.1")
		r.Class, r.Relative = AF11, true
		if g, err := l.Hold(epoch, r); err != nil || g.Rate != 0 {
			t.Fatalf("%+v, %v", g, err)
		}
		if b, err := l.Commit(epoch, r.ID, 1, 12345); err != nil || !b[0].Relative || b[0].Rate != 0 {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	if u, err := l.Usage("a", AF11, epoch); err != nil || u != (Usage{Reservations: 20}) {
		t.Errorf("%+v, %v", u, err)
	}
}

// Refusals say which of the codes 64 to 66 it is, and what could be had.
// interdomain-qosm §1, interdomain-qosm §7
func TestRefusal(t *testing.T) {
	l := ledgerOf(t, strings.Replace(plainText, "{id: a,", "{id: a, admission: {priorities: [0, 3..5]},", 1))
	first := flow(1, "10.1.0.1", "10.3.0.1")
	first.Rate = 7_000_000
	first.Intervals = []Interval{{Until: epoch.Add(time.Hour)}}
	if _, err := l.Hold(epoch, first); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{"priority", func(r *Request) { r.Priority = 7 }, "66 a 0 - a: does not take priority 7"},
		{"nothing sold there", func(r *Request) { r.Class = CS1 }, "64  0 - a: sells EF, AF11, not CS1"},
		{
			"too little now", func(r *Request) { r.Rate = 4_000_000 },
			"65 a 3000000 13:00 a: of 10000000 octets/s of EF, 3000000 can still be had at that time",
		},
		{
			"never", func(r *Request) { r.Rate = 11_000_000 },
			"65 a 3000000 - a: of 10000000 octets/s of EF, 3000000 can still be had at that time",
		},
		{
			"peak", func(r *Request) { r.Peak = 12_000_001 },
			"65 a 1000000 - a: peak 12000001 octets/s is more than its PIR 12000000",
		},
		{
			"too little for ten minutes from half past", func(r *Request) {
				r.Rate = 4_000_000
				r.Intervals = []Interval{{epoch.Add(30 * time.Minute), epoch.Add(40 * time.Minute)}}
			}, "65 a 3000000 13:00 a: of 10000000 octets/s of EF, 3000000 can still be had at that time",
		},
	} {
		r := flow(2, "10.1.0.1", "10.3.0.1")
		test.change(&r)
		_, err := l.Hold(epoch, r)
		var no *Refusal
		if !errors.As(err, &no) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		earliest := "-"
		if !no.Earliest.IsZero() {
			earliest = no.Earliest.Format("15:04")
		}
		if got := fmt.Sprintf("%d %s %d %s %s", no.Code, no.SLS, no.Largest, earliest, strings.Join(no.Why, "; ")); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
		if l.Stats().Held != 1 {
			t.Errorf("%s: a refused request holds something", test.name)
		}
	}
}

// A refused modification leaves the earlier hold as it was.
func TestRefusedKeepsHold(t *testing.T) {
	l := ledgerOf(t, plainText)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	for version, rate := range []uint64{4_000_000, 20_000_000} {
		r.Version, r.Rate = uint32(version), rate
		_, err := l.Hold(epoch, r)
		if (err == nil) != (version == 0) {
			t.Fatal(err)
		}
	}
	if u := usage(t, l, epoch); u.Held != 4_000_000 || u.Reservations != 1 {
		t.Errorf("%+v", u)
	}
	if _, err := l.Commit(epoch, r.ID, 0, 4_000_000); err != nil {
		t.Error(err)
	}
}

// "The RSN is manipulated using the serial number arithmetic rules": 0 comes
// after 4294967295. RFC 5974 §5.3.1
func TestVersionWraps(t *testing.T) {
	l := ledgerOf(t, plainText)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	for _, step := range []struct {
		version uint32
		want    error
	}{{0xffffffff, nil}, {0, nil}, {0xffffffff, ErrStale}, {5, nil}, {4, ErrStale}} {
		r.Version = step.version
		if _, err := l.Hold(epoch, r); !errors.Is(err, step.want) {
			t.Errorf("version %d: %v, want %v", step.version, err, step.want)
		}
	}
}

// Bounds hold, and nonsense is told as such.
func TestBounds(t *testing.T) {
	l := ledgerOf(t, plainText)
	l.cfg.MaxHolds, l.cfg.MaxReservations = 2, 3
	for i := range byte(4) {
		r := flow(i, "10.1.0.1", "10.3.0.1")
		r.Rate = 1
		_, err := l.Hold(epoch, r)
		if want := i == 3; errors.Is(err, ErrTooMany) != want {
			t.Errorf("reservation %d: %v", i, err)
		}
		if i == 0 {
			if _, err := l.Commit(epoch, r.ID, 1, 1); err != nil {
				t.Error(err)
			}
		}
	}
	for name, spoil := range map[string]func(*Request){
		"leg":            func(r *Request) { r.Leg = 2 },
		"no destination": func(r *Request) { r.Destination = netip.Prefix{} },
		"two versions":   func(r *Request) { r.Source = netip.MustParsePrefix("::1/128") },
		"class":          func(r *Request) { r.Class = 64 },
		"priority":       func(r *Request) { r.Priority = 8 },
		"no rate":        func(r *Request) { r.Rate = 0 },
		"rate":           func(r *Request) { r.Rate = MaxRate + 1 },
		"minimum":        func(r *Request) { r.MinRate = r.Rate + 1 },
		"peak":           func(r *Request) { r.Peak = 1 << 63 },
		"intervals":      func(r *Request) { r.Intervals = make([]Interval, 9) },
		"empty":          func(r *Request) { r.Intervals = []Interval{{epoch.Add(time.Hour), epoch.Add(time.Hour)}} },
		"past":           func(r *Request) { r.Intervals = []Interval{{epoch.Add(-time.Hour), epoch}} },
		"far":            func(r *Request) { r.Intervals = []Interval{{Until: time.Unix(lastSecond+1, 0)}} },
		"order": func(r *Request) {
			r.Intervals = []Interval{{epoch.Add(2 * time.Hour), epoch.Add(3 * time.Hour)}, {epoch, epoch.Add(time.Hour)}}
		},
		"after no end": func(r *Request) { r.Intervals = []Interval{{From: epoch}, {From: epoch.Add(time.Hour)}} },
	} {
		r := flow(9, "10.1.0.1", "10.3.0.1")
		if spoil(&r); func() error { _, err := l.Hold(epoch, r); return err }() == nil {
			t.Errorf("%s: taken", name)
		} else if _, err := l.Hold(epoch, r); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A change that commitments do not fit is refused, and says which; every
// change is "versioned with who and when". interdomain-qosm §5
func TestPut(t *testing.T) {
	l := ledgerOf(t, plainText)
	old, _ := l.Get("a")
	if old.Version != 1 || old.ChangedBy != "test" || !old.ChangedAt.Equal(epoch) {
		t.Errorf("%+v", old)
	}
	if same, err := l.Put(epoch.Add(time.Hour), old, "other"); err != nil || same.Version != 1 || same.ChangedBy != "test" {
		t.Errorf("put of the same: %+v, %v", same, err)
	}
	r := flow(1, "10.1.0.1", "10.3.0.1")
	r.Peak = 1_500_000
	if _, err := l.Hold(epoch, r); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*SLS)
		want   string // in the Conflict; empty: taken
	}{
		{"less", func(s *SLS) { s.Classes[0].CIR, s.Classes[0].LargestFlow = 999_999, 0 }, "1000000 octets/s are sold"},
		{"just enough", func(s *SLS) { s.Classes[0].CIR, s.Classes[0].LargestFlow = 1_000_000, 0 }, ""},
		{"smaller flows", func(s *SLS) { s.Classes[0].LargestFlow = 999_999 }, "more than its largest flow"},
		{"smaller peak", func(s *SLS) { s.Classes[0].CIR, s.Classes[0].LargestFlow, s.Classes[0].PIR = 1_000_000, 0, 1_400_000 }, "more than its PIR"},
		{"other class", func(s *SLS) { s.Classes = s.Classes[1:] }, "sells AF11, not EF"},
		{"now relative", func(s *SLS) { s.Classes[0] = ClassSpec{Class: EF, Relative: true} }, "only relatively"},
		{"other scope", func(s *SLS) { s.Destinations = []netip.Prefix{netip.MustParsePrefix("10.4.0.0/16")} }, "covers destinations 10.4.0.0/16"},
		{"other peers", func(s *SLS) { s.Provider = 3 }, "is from AS1 to AS3"},
		{"other interface", func(s *SLS) { s.Egress = netip.MustParseAddr("127.1.2.9") }, "bound to egress"},
		{"priorities", func(s *SLS) { s.Admission.Priorities = 0xfe }, "priority 0"},
		{"an end", func(s *SLS) { s.ValidUntil = epoch.AddDate(1, 0, 0) }, "not available throughout"},
		{"withdrawn", func(s *SLS) { s.Status = Withdrawn }, "withdrawn"},
		{"suspended", func(s *SLS) { s.Status = Suspended }, ""},
		{"suspended and less", func(s *SLS) { s.Status, s.Classes[0].CIR, s.Classes[0].LargestFlow = Suspended, 100, 0 }, "octets/s"},
		{"over-subscribed", func(s *SLS) { s.Admission.Oversubscription = 2 }, ""},
		{"invalid", func(s *SLS) { s.Admission.Policy = "true" }, "not supported yet"},
	} {
		s := old.clone()
		test.change(&s)
		before, _ := l.Get("a")
		after, err := l.Put(epoch, s, "operator")
		var conflict *Conflict
		var invalid *Invalid
		switch {
		case test.want == "":
			if err != nil || after.Version != before.Version+1 || after.ChangedBy != "operator" {
				t.Errorf("%s: %+v, %v", test.name, after, err)
			}
		case !errors.As(err, &conflict) && !errors.As(err, &invalid) || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		default:
			if kept, _ := l.Get("a"); kept.Version != before.Version {
				t.Errorf("%s: refused, and changed all the same", test.name)
			}
		}
	}
	if u := usage(t, l, epoch); u != (Usage{1_000_000, 0, 20_000_000, 1}) {
		t.Errorf("after all: %+v", u)
	}
	var conflict *Conflict
	if err := l.Delete(epoch, "a"); !errors.As(err, &conflict) || conflict.Count != 1 {
		t.Errorf("delete: %v", err)
	}
	l.Release(r.ID)
	if err := l.Delete(epoch, "a"); err != nil || len(l.SLSs()) != 0 || len(l.index) != 0 {
		t.Errorf("delete: %v, %v, %v", err, l.SLSs(), l.index)
	}
	if err := l.Delete(epoch, "a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("delete again: %v", err)
	}
}

func benchID(i int) ID {
	var id ID
	binary.BigEndian.PutUint64(id[4:], uint64(i)*0x9e3779b97f4a7c15)
	return id
}

// BenchmarkHoldCommitRelease has 100,000 reservations in the ledger: all at
// once and open-ended, or all booked for some time in the future.
func BenchmarkHoldCommitRelease(b *testing.B) {
	for _, kind := range []string{"open", "booked"} {
		b.Run(kind, func(b *testing.B) {
			l := ledgerOf(b, `{id: a, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8]}, classes: [{class: EF, cir: 800G}]}`)
			fill := func(r *Request, i int) {
				r.ID = benchID(i)
				if kind == "booked" {
					from := epoch.Add(time.Duration(i%100_000*37%100_003) * time.Second)
					r.Intervals[0] = Interval{from, from.Add(time.Hour)}
				}
			}
			r := flow(0, "10.1.0.1", "10.3.0.1")
			if kind == "booked" {
				r.Intervals = make([]Interval, 1)
			}
			step := func(i int) {
				fill(&r, i)
				if _, err := l.Hold(epoch, r); err != nil {
					b.Fatal(err)
				}
				if _, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil {
					b.Fatal(err)
				}
			}
			for i := range 100_000 {
				r.Rate = 100_000
				step(i)
			}
			b.ReportAllocs()
			cpu := cpuTime(b)
			for i := 100_000; b.Loop(); i++ {
				step(i)
				l.Release(r.ID)
			}
			cpu.report()
		})
	}
}

// BenchmarkUsage asks what is sold where 100,000 reservations are.
func BenchmarkUsage(b *testing.B) {
	l := ledgerOf(b, `{id: a, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8]}, classes: [{class: EF, cir: 800G}]}`)
	r := flow(0, "10.1.0.1", "10.3.0.1")
	r.Rate = 100_000
	for i := range 100_000 {
		r.ID = benchID(i)
		if _, err := l.Hold(epoch, r); err != nil {
			b.Fatal(err)
		}
		if _, err := l.Commit(epoch, r.ID, 1, r.Rate); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if u := l.Total(epoch); u.Reservations != 100_000 {
			b.Fatalf("%+v", u)
		}
	}
}

func BenchmarkHoldDrop(b *testing.B) {
	l := ledgerOf(b, plainText)
	r := flow(1, "10.1.0.1", "10.3.0.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Hold(epoch, r); err != nil {
			b.Fatal(err)
		}
		l.Drop(r.ID, 1)
	}
}

// BenchmarkMatch looks for the SLS among 10,000: of as many peers, or all
// between two peers with a prefix each, on top of ones for any.
func BenchmarkMatch(b *testing.B) {
	for _, kind := range []string{"peers", "prefixes"} {
		b.Run(kind, func(b *testing.B) {
			l := New(Config{})
			for i := range 10_000 {
				s := SLS{ID: fmt.Sprintf("s%d", i), Customer: 1, Provider: 2, Classes: []ClassSpec{{Class: EF, CIR: 1e9}}}
				if kind == "peers" {
					s.Provider += uint32(i)
				} else if i%5000 != 0 {
					s.Destinations = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}
				}
				if _, err := l.Put(epoch, s, "bench"); err != nil {
					b.Fatal(err)
				}
			}
			r := flow(1, "10.1.0.1", "10.3.7.1")
			if err := l.normalize(&r); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if o, _ := l.choose(&r, nil); o == nil {
					b.Fatal("no match")
				}
			}
		})
	}
}

// BenchmarkMemory tells what 10,000 reservations of a transit AS, both legs
// committed, take in the ledger.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		l := ledgerOf(b, plainText+"---\n{id: b, customer: 2, provider: 3, classes: [{class: EF, cir: 8M}]}")
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 10_000 {
			r := flow(0, "10.1.0.1", "10.3.0.1")
			r.ID, r.Rate = benchID(i), 10
			_, errIn := l.Hold(epoch, r)
			r.Leg, r.Customer, r.Provider = Outbound, 2, 3
			_, errOut := l.Hold(epoch, r)
			_, err := l.Commit(epoch, r.ID, 1, 10)
			if err := errors.Join(errIn, errOut, err); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/10_000, "B/reservation")
		runtime.KeepAlive(l)
	}
}
