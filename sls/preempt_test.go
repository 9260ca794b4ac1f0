package sls

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const preemptText = `
{id: a, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8]}, admission: {preemption: true}, classes: [{class: EF, cir: 80M}]}
`

// preempting is a flow of so many million octets/s with its two priorities.
func preempting(n byte, million uint64, preempt, defend uint16) Request {
	r := flow(n, "10.1.0.1", "10.3.0.1")
	r.Rate, r.MinRate, r.Peak = million*1_000_000, 0, 0
	r.Preempting, r.Defending = preempt, defend
	return r
}

// stands puts committed flows into a ledger.
func stands(t *testing.T, l *Ledger, list ...Request) {
	t.Helper()
	for _, r := range list {
		if _, err := l.Hold(epoch, r); err != nil {
			t.Fatalf("%s: %v", r.ID, err)
		}
		if _, err := l.Commit(epoch, r.ID, r.Version, r.Rate); err != nil {
			t.Fatalf("%s: %v", r.ID, err)
		}
	}
}

// left returns the flows that have something committed.
func left(l *Ledger) (ids []byte) {
	for id, res := range l.byID {
		if res.hasCommit() {
			ids = append(ids, id[0])
		}
	}
	slices.Sort(ids)
	return ids
}

// "lowest defending priority first; victims lose their resources at the
// preemptor's commit, not at its hold". interdomain-qosm §6, RFC 5975 §5.2.8
func TestPreemption(t *testing.T) {
	for _, test := range []struct {
		name     string
		before   []Request
		r        Request
		refused  bool
		rest     []byte // after the commit
		displace []byte
	}{
		{name: "room is left", before: []Request{preempting(1, 5, 0, 0)}, r: preempting(9, 5, 7, 7), rest: []byte{1, 9}},
		{name: "the lowest defending goes", before: []Request{preempting(1, 5, 0, 2), preempting(2, 5, 0, 1)}, r: preempting(9, 3, 7, 7), rest: []byte{1, 9}, displace: []byte{2}},
		{name: "the larger of equals goes", before: []Request{preempting(1, 2, 0, 1), preempting(2, 2, 0, 1), preempting(3, 6, 0, 1)}, r: preempting(9, 4, 7, 7), rest: []byte{1, 2, 9}, displace: []byte{3}},
		{name: "as many as are needed", before: []Request{preempting(1, 4, 0, 1), preempting(2, 3, 0, 2), preempting(3, 3, 0, 3)}, r: preempting(9, 7, 7, 7), rest: []byte{3, 9}, displace: []byte{1, 2}},
		{name: "none that is not needed", before: []Request{preempting(1, 2, 0, 1), preempting(2, 8, 0, 2)}, r: preempting(9, 6, 7, 7), rest: []byte{1, 9}, displace: []byte{2}},
		{name: "equal priorities do not preempt", before: []Request{preempting(1, 10, 0, 7)}, r: preempting(9, 5, 7, 7), refused: true, rest: []byte{1}},
		{name: "nor does priority 0", before: []Request{preempting(1, 10, 0, 0)}, r: preempting(9, 5, 0, 7), refused: true, rest: []byte{1}},
		{name: "nor who would not get enough", before: []Request{preempting(1, 2, 0, 1), preempting(2, 8, 0, 9)}, r: preempting(9, 5, 7, 7), refused: true, rest: []byte{1, 2}},
		{name: "more than the SLS sells", before: []Request{preempting(1, 10, 0, 1)}, r: preempting(9, 11, 7, 7), refused: true, rest: []byte{1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := ledgerOf(t, preemptText)
			stands(t, l, test.before...)
			before := left(l)
			_, err := l.Hold(epoch, test.r)
			var no *Refusal
			if test.refused != errors.As(err, &no) {
				t.Fatalf("hold: %v", err)
			}
			if got := left(l); !slices.Equal(got, before) {
				t.Fatalf("the hold has ended some: %v left of %v", got, before)
			}
			if !test.refused {
				if _, err := l.Commit(epoch, test.r.ID, 1, test.r.Rate); err != nil {
					t.Fatal(err)
				}
			}
			if got := left(l); !slices.Equal(got, test.rest) {
				t.Errorf("%v are left, want %v", got, test.rest)
			}
			var gone []byte
			for _, id := range l.Displaced() {
				gone = append(gone, id[0])
			}
			if slices.Sort(gone); !test.refused && !slices.Equal(gone, test.displace) {
				t.Errorf("displaced %v, want %v", gone, test.displace)
			}
			if u := usage(t, l, epoch); u.Committed+u.Held > u.Capacity {
				t.Errorf("%+v", u)
			}
		})
	}
}

// Preemption is for the SLS to allow. interdomain-qosm §5
func TestPreemptionNotAllowed(t *testing.T) {
	l := ledgerOf(t, `{id: a, customer: 1, provider: 2, scope: {destinations: [10.0.0.0/8]}, classes: [{class: EF, cir: 80M}]}`)
	stands(t, l, preempting(1, 10, 0, 0))
	var no *Refusal
	if _, err := l.Hold(epoch, preempting(9, 1, 7, 7)); !errors.As(err, &no) || no.Code != NoCapacity {
		t.Errorf("%v", err)
	}
}

// A hold that came to nothing has done its prey no harm, and they can be
// another's prey.
func TestPreemptorFails(t *testing.T) {
	for name, fails := range map[string]func(l *Ledger, id ID){
		"dropped":  func(l *Ledger, id ID) { l.Drop(id, 1) },
		"released": func(l *Ledger, id ID) { l.Release(id) },
		"expired":  func(l *Ledger, _ ID) { l.Expire(epoch.Add(time.Minute)) },
	} {
		l := ledgerOf(t, preemptText)
		stands(t, l, preempting(1, 6, 0, 1), preempting(2, 4, 0, 1))
		first, second := preempting(8, 6, 7, 7), preempting(9, 6, 7, 7)
		if _, err := l.Hold(epoch, first); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Hold(epoch, second); err == nil {
			t.Errorf("%s: two holds count on the same prey", name)
		}
		fails(l, first.ID)
		if u := usage(t, l, epoch); u.Committed != 10_000_000 || u.Held != 0 || !slices.Equal(left(l), []byte{1, 2}) {
			t.Errorf("%s: %+v, left %v", name, u, left(l))
		}
		if _, err := l.Hold(epoch.Add(time.Minute), second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the prey gives back before the hold is committed is the hold's, and
// nobody else's.
func TestPreyGoesEarly(t *testing.T) {
	l := ledgerOf(t, preemptText)
	stands(t, l, preempting(1, 10, 0, 1))
	hunter := preempting(9, 8, 7, 7)
	if _, err := l.Hold(epoch, hunter); err != nil {
		t.Fatal(err)
	}
	l.Release(preempting(1, 0, 0, 0).ID)
	if u := usage(t, l, epoch); u.Held != 8_000_000 || u.Committed != 0 {
		t.Errorf("%+v", u)
	}
	if _, err := l.Hold(epoch, preempting(2, 3, 0, 0)); err == nil {
		t.Error("what the hold waits for was sold")
	}
	if _, err := l.Commit(epoch, hunter.ID, 1, hunter.Rate); err != nil || len(l.Displaced()) != 0 {
		t.Errorf("%v, displaced %v", err, l.Displaced())
	}
}

// "At commit every hold shrinks to QoS Reserved" (interdomain-qosm §2): what it
// counted on goes all the same, for the network inside has counted on it, too.
func TestPreemptorShrinks(t *testing.T) {
	l := ledgerOf(t, preemptText)
	stands(t, l, preempting(1, 5, 0, 1), preempting(2, 5, 0, 2))
	hunter := preempting(9, 8, 7, 7)
	g, err := l.Hold(epoch, hunter)
	if err != nil || len(g.Displaces) != 2 {
		t.Fatalf("%+v, %v", g, err)
	}
	if _, err := l.Commit(epoch, hunter.ID, 1, 4_000_000); err != nil {
		t.Fatal(err)
	}
	if got := left(l); !slices.Equal(got, []byte{9}) || !slices.Equal(l.Displaced(), g.Displaces) {
		t.Errorf("left %v, displaced %v", got, l.Displaced())
	}
	if u := usage(t, l, epoch); u.Committed != 4_000_000 || u.Held != 0 {
		t.Errorf("%+v", u)
	}
}

// "The sum of what is held and committed never exceeds what the SLS sells, at
// any instant": whatever preempts, changes, expires or is given back, in
// whatever order. interdomain-qosm §5
func TestPreemptionNeverOversells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{HoldTime: 10 * time.Second})
		s := modelSLS("a", "10.0.0.0/8", 30)
		s.Admission.Preemption = true
		s.Classes[0].LargestFlow = 30
		if _, err := l.Put(epoch, s, "test"); err != nil {
			t.Fatal(err)
		}
		versions := make(map[ID]uint32)
		now := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				id := drawID(t)
				intervals, _ := drawSpans(t, now)
				rate := rapid.Uint64Range(1, 30).Draw(t, "rate")
				versions[id]++
				defend := rapid.Uint16Range(0, 4).Draw(t, "defending")
				_, err := l.Hold(epoch.Add(time.Duration(now)*time.Second), Request{
					ID: id, Leg: Leg(rapid.IntRange(0, 1).Draw(t, "leg")), Version: versions[id], Customer: 65001, Provider: 65002,
					Source: modelSLS("", "10.1.0.1/32", 1).Destinations[0], Destination: modelSLS("", "10.3.0.1/32", 1).Destinations[0],
					Class: EF, Rate: rate, MinRate: rapid.Uint64Range(1, rate).Draw(t, "least"), Intervals: intervals,
					Preempting: rapid.Uint16Range(0, defend).Draw(t, "preempting"), Defending: defend,
				})
				var no *Refusal
				if err != nil && !errors.As(err, &no) {
					t.Fatal(err)
				}
			},
			"commit": func(t *rapid.T) {
				id := drawID(t)
				least := uint64(31)
				var victims []ID
				for _, b := range l.Bookings(id) {
					if b.Held && b.Version == versions[id] {
						least = min(least, b.Rate)
					}
				}
				if res := l.byID[id]; res != nil {
					for _, p := range res.held {
						if p != nil && p.version == versions[id] && p.hunts() {
							for _, v := range p.chase.prey {
								victims = append(victims, v.owner.id)
							}
						}
					}
				}
				if _, err := l.Commit(epoch.Add(time.Duration(now)*time.Second), id, versions[id], rapid.Uint64Range(1, least).Draw(t, "rate")); err != nil {
					if len(l.Displaced()) != 0 {
						t.Fatalf("a commit that failed (%v) has ended %v", err, l.Displaced())
					}
					return
				}
				for _, gone := range l.Displaced() {
					if !slices.Contains(victims, gone) || l.byID[gone] != nil {
						t.Fatalf("displaced %v, of prey %v", gone, victims)
					}
				}
			},
			"drop":    func(t *rapid.T) { id := drawID(t); l.Drop(id, versions[id]) },
			"release": func(t *rapid.T) { l.ReleaseLeg(drawID(t), Leg(rapid.IntRange(0, 1).Draw(t, "leg"))) },
			"pass": func(t *rapid.T) {
				now += rapid.Int64Range(1, 6).Draw(t, "seconds")
				l.Expire(epoch.Add(time.Duration(now) * time.Second))
			},
			"change": func(t *rapid.T) {
				s.Classes[0].CIR = rapid.Uint64Range(20, 40).Draw(t, "cir")
				s.Classes[0].LargestFlow = s.Classes[0].CIR
				var no *Conflict
				if _, err := l.Put(epoch.Add(time.Duration(now)*time.Second), s, "test"); err != nil && !errors.As(err, &no) {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				o := l.slss["a"].offers[0]
				for at := now; at <= now+modelEnd; at++ {
					var committed, sum int64
					for p := o.parts; p != nil; p = p.next {
						has := p.at(epoch.Unix() + at)
						if !p.isHeld {
							committed += has
							sum += has
							continue
						}
						if old := p.owner.committed[p.leg]; old != nil {
							has -= old.at(epoch.Unix() + at)
						}
						if p.hunts() {
							for _, v := range p.chase.prey {
								has -= v.at(epoch.Unix() + at)
							}
						}
						sum += max(0, has)
					}
					when := epoch.Add(time.Duration(at) * time.Second)
					u := l.usage(o, when)
					if int64(u.Committed) != committed || int64(u.Committed+u.Held) != sum || sum > o.capacity {
						t.Fatalf("at %d s: %+v, want %d committed, %d in all, of %d", at, u, committed, sum, o.capacity)
					}
				}
			},
		})
	})
}

// at returns what a part has at a second.
func (p *part) at(t int64) int64 {
	for _, s := range p.times() {
		if s.from <= t && t < s.until {
			return int64(p.rate)
		}
	}
	return 0
}
