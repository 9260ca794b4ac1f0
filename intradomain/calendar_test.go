package intradomain

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// interdomain-qosm §5: "Capacity is a calendar, not a number: a booking for
// tomorrow and a flow running now meet only where they overlap."
func TestPoolAgreesWithASlowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Pool{Capacity: 1000}
		type booking struct {
			s    span
			rate uint64
		}
		var model []booking
		at := func(name string) time.Time {
			if m := rapid.IntRange(-1, 12).Draw(t, name); m >= 0 {
				return time.Unix(1000+int64(m), 0)
			}
			return time.Time{}
		}
		// booked is the model's peak: every instant at which anything changes.
		booked := func(s span) (peak uint64) {
			for tick := -1; tick <= 13; tick++ {
				now := int64(1000+tick) * int64(time.Second)
				if now < s.from || now >= s.until {
					continue
				}
				var sum uint64
				for _, b := range model {
					if b.s.from <= now && now < b.s.until {
						sum += b.rate
					}
				}
				peak = max(peak, sum)
			}
			return peak
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(model) > 0 && rapid.Bool().Draw(t, "remove") {
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				p.unbook(model[i].s, model[i].rate)
				model = append(model[:i], model[i+1:]...)
			} else {
				s := spanOf(at("from"), at("until"))
				if s.empty() {
					continue
				}
				rate := uint64(rapid.IntRange(1, 100).Draw(t, "rate"))
				p.book(s, rate)
				model = append(model, booking{s, rate})
			}
			ask := spanOf(at("ask from"), at("ask until"))
			if ask.empty() {
				continue
			}
			if got, want := p.peak(ask), booked(ask); got != want {
				t.Fatalf("peak over %v: %d, want %d; bookings %v, %v", ask, got, want, model, p.booked)
			}
		}
		for _, b := range model {
			p.unbook(b.s, b.rate)
		}
		if p.Peak() != 0 || !p.booked.Empty() {
			t.Fatalf("%d booked and %v after everything was taken away", p.Peak(), p.booked)
		}
	})
}

func TestTimesBeyondInt64(t *testing.T) {
	p := Pool{Capacity: 10}
	p.book(spanOf(time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)), 4)
	if got := p.Booked(time.Time{}, time.Time{}); got != 4 {
		t.Errorf("booked %d, want 4", got)
	}
	if got := p.Free(time.Unix(0, 0), time.Unix(1, 0)); got != 6 {
		t.Errorf("free %d, want 6", got)
	}
}

// What nobody can send is not given away, and what a device says that it has
// does not overflow.
func TestRatesBeyondInt64(t *testing.T) {
	p := Pool{Capacity: math.MaxUint64}
	if got := p.Free(time.Time{}, time.Time{}); got != maxRate {
		t.Errorf("free %d, want %d", got, uint64(maxRate))
	}
	for range 100 {
		p.book(forever, math.MaxUint64)
	}
	if got := p.Free(time.Time{}, time.Time{}); got != 0 {
		t.Errorf("free %d, want 0", got)
	}
	for range 100 {
		p.unbook(forever, math.MaxUint64)
	}
	if got := p.Peak(); got != 0 {
		t.Errorf("booked %d, want 0", got)
	}
}

func BenchmarkPool(b *testing.B) {
	p := Pool{Capacity: 1e12}
	for i := range int64(10_000) {
		p.book(span{i * 1e9, i*1e9 + 60e9}, 1000)
	}
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		s := span{i%10_000*1e9 + 1, i%10_000*1e9 + 30e9}
		if p.free(s) < 1000 {
			b.Fatal("full")
		}
		p.book(s, 1000)
		p.unbook(s, 1000)
	}
}
