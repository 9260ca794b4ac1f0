package sls

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Put refuses exactly what Plan says would break something; without what breaks
// it goes; and nothing breaks that need not. interdomain-qosm §5
func TestPlanAgainstPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{})
		terms := func(label string) SLS {
			s := SLS{ID: "a", Customer: 1, Provider: 2, Classes: []ClassSpec{{Class: EF}}}
			c := &s.Classes[0]
			c.CIR = rapid.Uint64Range(5, 30).Draw(t, label+" cir")
			c.LargestFlow = rapid.Uint64Range(c.CIR/2, c.CIR).Draw(t, label+" largest flow")
			if rapid.IntRange(0, 3).Draw(t, label+" ends") == 0 {
				s.ValidUntil = epoch.Add(time.Duration(rapid.IntRange(5, 60).Draw(t, label+" end")) * time.Second)
			}
			return s
		}
		first := terms("old")
		if _, err := l.Put(epoch, first, "test"); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(0, 10).Draw(t, "reservations") {
			r := flow(byte(rapid.IntRange(1, 6).Draw(t, "id")), "10.1.0.1", "10.3.0.1")
			r.Version, r.Rate = uint32(i+1), rapid.Uint64Range(1, 12).Draw(t, "rate")
			r.Defending, r.Priority = uint16(rapid.IntRange(0, 2).Draw(t, "defending")), uint8(rapid.IntRange(0, 1).Draw(t, "priority"))
			r.Intervals, _ = drawSpans(t, 0)
			if _, err := l.Hold(epoch, r); err == nil && rapid.IntRange(0, 3).Draw(t, "commit") > 0 {
				if _, err := l.Commit(epoch, r.ID, r.Version, r.Rate); err != nil {
					t.Fatal(err)
				}
			}
		}
		second := terms("new")
		now := epoch.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "later")) * time.Second)
		plan, err := l.Plan(now, second)
		if err != nil {
			t.Fatal(err)
		}
		if plan.After.Version == 2 && len(plan.Diff) == 0 {
			t.Fatalf("no difference between %+v and %+v", plan.Before, plan.After)
		}
		var ids []ID
		for i, b := range plan.Breaks {
			if b.From.Before(now) || b.Why == "" || b.SLS != "a" || i > 0 && b.From.Before(plan.Breaks[i-1].From) {
				t.Fatalf("%+v", plan.Breaks)
			}
			if !slices.Contains(ids, b.ID) {
				ids = append(ids, b.ID)
			}
		}
		try := func() error {
			_, err := l.Put(now, second, "test")
			return err
		}
		for i := range ids { // all but this one go, and then this one, too
			if err := try(); err == nil {
				t.Fatalf("%d of %d that break are left, and it is taken: %+v", len(ids)-i, len(ids), plan.Breaks)
			} else if c, ok := errors.AsType[*Conflict](err); !ok || c.Count == 0 {
				t.Fatal(err)
			}
			if !l.Release(ids[i]) {
				t.Fatalf("%s is not there", ids[i])
			}
		}
		if err := try(); err != nil {
			t.Fatalf("without %v: %v", ids, err)
		}
		if s, _ := l.Get("a"); s.Version != plan.After.Version {
			t.Fatalf("version %d, planned %d", s.Version, plan.After.Version)
		}
	})
}

func TestPlan(t *testing.T) {
	l := ledgerOf(t, `{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 40M}, {class: AF11, cir: 8M}], admission: {preemption: true}}`)
	book := func(n byte, rate uint64, defend uint16, from, hours int) {
		r := flow(n, "10.1.0.1", "10.3.0.1")
		r.Rate, r.Defending = rate, defend
		if hours > 0 {
			r.Intervals = []Interval{{epoch.Add(time.Duration(from) * time.Hour), epoch.Add(time.Duration(from+hours) * time.Hour)}}
		}
		if _, err := l.Hold(epoch, r); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Commit(epoch, r.ID, 1, rate); err != nil {
			t.Fatal(err)
		}
	}
	book(1, 1e6, 0, 0, 0)   // for ever
	book(2, 2e6, 9, 10, 5)  // from 10 to 15, defended
	book(3, 2e6, 5, 12, 10) // from 12 to 22
	book(4, 1e6, 0, 50, 1)
	parse := func(text string) SLS {
		list, err := Parse("t", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	// 24 Mbit/s are 3,000,000 octets/s: too little from 12 to 15.
	less := parse(`{id: a, customer: 1, provider: 2, classes: [{class: EF, cir: 24M}], admission: {preemption: true}}`)
	plan, err := l.Plan(epoch, less)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(plan.Diff)
	want := "[{classes[AF11].cir 8M } {classes[AF11].class AF11 } {classes[AF11].dscp_inside AF11 } {classes[AF11].dscp_wire AF11 } " +
		"{classes[AF11].excess drop } {classes[AF11].largest_flow 8M } {classes[AF11].pir 8M } {classes[EF].cir 40M 24M} {classes[EF].largest_flow 40M 24M} {classes[EF].pir 40M 24M}]"
	if got != want {
		t.Errorf("diff\n%s, want\n%s", got, want)
	}
	// 1 defends least and is there all the time; with it gone the others do not
	// fit either (4,000,000), so 3 goes, and then 1 need not.
	at := epoch.Add(12 * time.Hour)
	if len(plan.Breaks) != 1 || plan.Breaks[0].ID != (ID{3}) || !plan.Breaks[0].From.Equal(at) || plan.Breaks[0].Rate != 2e6 || plan.Breaks[0].Held {
		t.Errorf("%+v; want 3, from %s", plan.Breaks, at)
	}
	if s, _ := l.Get("a"); s.Version != 1 || s.Classes[0].CIR != 5e6 {
		t.Errorf("planning has changed %+v", s)
	}
	same, _ := l.Get("a")
	if p, err := l.Plan(epoch, same); err != nil || len(p.Diff)+len(p.Breaks) != 0 || p.After.Version != 1 {
		t.Errorf("%+v, %v; want nothing new", p, err)
	}
	less.ID = "b"
	if p, err := l.Plan(epoch, less); err != nil || p.Before != nil || len(p.Diff) < 10 || p.After.Version != 1 {
		t.Errorf("%+v, %v; want a new one", p, err)
	}
	less.Classes = nil
	if _, err := l.Plan(epoch, less); err == nil {
		t.Error("an SLS without classes is planned")
	}
	if all, err := l.PlanDelete(epoch, "a"); err != nil || len(all) != 4 {
		t.Errorf("%v, %v; want all four in the way", all, err)
	}
	if _, err := l.PlanDelete(epoch, "b"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v, want ErrUnknown", err)
	}
}
