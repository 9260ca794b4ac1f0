package intradomain

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is held, committed, dropped and released, in whatever times: pools are
// booked with the larger of both versions at every instant, never beyond their
// capacity, and not at all when everything is released.
func TestBookAgreesWithASlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pools := []*Pool{{Where: "a", Capacity: 100}, {Where: "b", Capacity: 120}, {Where: "c", Capacity: 80}}
		b := NewBook()
		type side struct {
			r     Request
			pools []*Pool
		}
		committed, held := map[ID]side{}, map[ID]side{}
		uses := func(s side, p *Pool, tick int64) uint64 {
			for _, q := range s.pools {
				for _, sp := range s.r.spans() {
					if q == p && sp.from <= tick && tick < sp.until {
						return s.r.QoS.CIR
					}
				}
			}
			return 0
		}
		booked := func(p *Pool, tick int64) (sum uint64) {
			for n := range byte(4) {
				sum += max(uses(committed[ID{n}], p, tick), uses(held[ID{n}], p, tick))
			}
			return sum
		}
		ticks := []int64{1} // before every time that is drawn
		for n := range int64(8) {
			ticks = append(ticks, (1000+n)*int64(time.Second))
		}
		at := func(name string) time.Time {
			if m := rapid.IntRange(-3, 6).Draw(t, name); m >= 0 {
				return time.Unix(1000+int64(m), 0)
			}
			return time.Time{}
		}
		times := func() []Interval {
			if rapid.IntRange(0, 2).Draw(t, "one interval") > 0 {
				return []Interval{{at("from"), at("until")}}
			}
			var all []Interval
			for n := int64(rapid.IntRange(0, 2).Draw(t, "begin")); n < 7; {
				until := n + int64(rapid.IntRange(1, 3).Draw(t, "length"))
				all = append(all, Interval{time.Unix(1000+n, 0), time.Unix(1000+until, 0)})
				n = until + int64(rapid.IntRange(1, 3).Draw(t, "gap"))
			}
			return all
		}
		version := map[ID]uint32{}
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			id := ID{byte(rapid.IntRange(0, 3).Draw(t, "id"))}
			switch rapid.IntRange(0, 5).Draw(t, "verb") {
			case 0, 1, 2:
				version[id]++
				s := side{r: Request{ID: id, Version: version[id], Times: times(),
					QoS: QoS{CIR: uint64(rapid.IntRange(0, 70).Draw(t, "cir"))}}}
				first := rapid.IntRange(0, 2).Draw(t, "first")
				s.pools = pools[first : first+rapid.IntRange(1, 3-first).Draw(t, "pools")]
				was := held[id]
				held[id] = s
				fits := true
				for _, p := range s.pools {
					for _, tick := range ticks {
						fits = fits && (booked(p, tick) <= p.Capacity || uses(s, p, tick) <= uses(committed[id], p, tick))
					}
				}
				err := b.Hold(s.r, s.pools)
				if fits != (err == nil) {
					t.Fatalf("hold %+v: %v, model says %v", s.r, err, fits)
				}
				var refusal *Refusal
				if err != nil {
					if !errors.As(err, &refusal) || refusal.Offer >= s.r.QoS.CIR {
						t.Fatalf("hold %+v: %v, offer %+v", s.r, err, refusal)
					}
					held[id] = was
				}
			case 3:
				if s, ok := held[id]; ok && s.pools != nil {
					cir := uint64(rapid.IntRange(0, 80).Draw(t, "cir"))
					if err := b.Commit(id, s.r.Version, cir); err != nil {
						t.Fatal(err)
					}
					s.r = Shrink(s.r, cir)
					committed[id] = s
					delete(held, id)
				}
			case 4:
				b.Drop(id, held[id].r.Version)
				delete(held, id)
			case 5:
				b.Release(id)
				delete(held, id)
				delete(committed, id)
			}
			for _, p := range pools {
				for _, tick := range ticks {
					if got, want := p.peak(span{tick, tick + 1}), booked(p, tick); got != want {
						t.Fatalf("pool %s at %d: %d booked, model says %d", p.Where, tick, got, want)
					}
				}
			}
		}
		for n := range byte(4) {
			b.Release(ID{n})
		}
		for _, p := range pools {
			if p.Peak() != 0 || !p.booked.Empty() {
				t.Fatalf("pool %s: %d booked after release, %v", p.Where, p.Peak(), p.booked)
			}
		}
		if b.Len() != 0 {
			t.Fatalf("%d reservations after release", b.Len())
		}
	})
}

// Of a refused modification the offer counts what the reservation has itself.
func TestOfferCountsItsOwn(t *testing.T) {
	p := &Pool{Where: "p", Capacity: 100}
	b := NewBook()
	for _, r := range []Request{{ID: ID{1}, Version: 1, QoS: QoS{CIR: 30}}, {ID: ID{2}, Version: 1, QoS: QoS{CIR: 50}}} {
		if err := b.Hold(r, []*Pool{p}); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(r.ID, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	var refusal *Refusal
	if err := b.Hold(Request{ID: ID{1}, Version: 2, QoS: QoS{CIR: 51}}, []*Pool{p}); !errors.As(err, &refusal) || refusal.Offer != 50 {
		t.Errorf("%v, %+v", err, refusal)
	}
	if err := b.Hold(Request{ID: ID{1}, Version: 2, QoS: QoS{CIR: 50}}, []*Pool{p}); err != nil {
		t.Error(err)
	}
}

// Versions are serial numbers: they may wrap.
func TestVersionsWrap(t *testing.T) {
	b := NewBook()
	last := Request{ID: ID{1}, Version: ^uint32(0)}
	if err := b.Hold(last, nil); err != nil {
		t.Fatal(err)
	}
	next := Request{ID: ID{1}, Version: 0}
	if err := b.Hold(next, nil); err != nil {
		t.Errorf("version 0 after %d: %v", last.Version, err)
	}
	if err := b.Hold(last, nil); !errors.Is(err, ErrStale) {
		t.Errorf("version %d after 0: %v", last.Version, err)
	}
}

func TestAdoptBooksWhatDoesNotFit(t *testing.T) {
	p := &Pool{Where: "p", Capacity: 10}
	b := NewBook()
	b.Adopt(Request{ID: ID{1}, Version: 3, QoS: QoS{CIR: 15}}, []*Pool{p})
	if p.Peak() != 15 || p.Free(time.Time{}, time.Time{}) != 0 {
		t.Errorf("booked %d, free %d", p.Peak(), p.Free(time.Time{}, time.Time{}))
	}
	if err := b.Hold(Request{ID: ID{1}, Version: 4, QoS: QoS{CIR: 12}}, []*Pool{p}); err != nil {
		t.Errorf("a smaller version of what does not fit: %v", err)
	}
	if got := fmt.Sprint(b.List()); len(b.List()) != 2 {
		t.Error(got)
	}
}
