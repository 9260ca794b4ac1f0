package qspec

import (
	"testing"

	"pgregory.net/rapid"
)

// RFC 5976 §2.1: the bounds of each class, in the RFC's words.
func TestY1541Objectives(t *testing.T) {
	const ms = 1000
	for class, want := range []struct {
		delay, variation uint32
		loss             float32
	}{
		{100 * ms, 50 * ms, 1e-3}, {400 * ms, 50 * ms, 1e-3}, {100 * ms, Indeterminate, 1e-3}, {400 * ms, Indeterminate, 1e-3},
		{1000 * ms, Indeterminate, 1e-3}, {Indeterminate, Indeterminate, IndeterminateRatio}, {100 * ms, 50 * ms, 1e-5}, {400 * ms, 50 * ms, 1e-5},
	} {
		got, ok := Y1541Objectives(uint8(class))
		if !ok || got.Latency != want.delay || got.Jitter != want.variation || got.PLR != want.loss {
			t.Errorf("class %d: %+v", class, got)
		}
		if c := Y1541Of(got); c != uint8(class) {
			t.Errorf("a path that just keeps class %d is of class %d", class, c)
		}
	}
	if _, ok := Y1541Objectives(8); ok {
		t.Error("there is a class 8")
	}
}

// The tightest class that both keep is kept by both, and no tighter one is; it is
// the same in any order and grouping.
func TestY1541Arithmetic(t *testing.T) {
	for a := range uint8(8) {
		for b := range uint8(8) {
			c := commonY1541(a, b)
			if c != commonY1541(b, a) || !Y1541Meets(a, c) || !Y1541Meets(b, c) {
				t.Errorf("classes %d and %d have %d in common", a, b, c)
			}
			for d := range uint8(8) {
				if Y1541Meets(a, d) && Y1541Meets(b, d) && !Y1541Meets(c, d) {
					t.Errorf("classes %d and %d: %d is tighter than %d", a, b, d, c)
				}
				if commonY1541(c, d) != commonY1541(a, commonY1541(b, d)) {
					t.Errorf("classes %d, %d, %d do not associate", a, b, d)
				}
			}
		}
	}
	if Y1541Meets(1, 2) || Y1541Meets(2, 1) || !Y1541Meets(6, 5) || !Y1541Meets(9, 9) || Y1541Meets(9, 5) {
		t.Error("the order of the classes")
	}
	if commonY1541(9, 0) != 5 {
		t.Error("a class that there is not promises nothing")
	}
}

func TestY1541OfIsTheTightest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := Objectives{rapid.Uint32Range(0, 2_000_000).Draw(t, "latency"), rapid.Uint32Range(0, 100_000).Draw(t, "jitter"),
			rapid.Float32Range(0, 0.1).Draw(t, "plr"), rapid.Float32Range(0, 0.1).Draw(t, "per")}
		got := Y1541Of(path)
		if !path.Meets(y1541Classes[got]) {
			t.Fatalf("%+v does not keep class %d", path, got)
		}
		for c := range uint8(8) {
			if path.Meets(y1541Classes[c]) && !Y1541Meets(got, c) {
				t.Fatalf("%+v keeps class %d, and got %d", path, c, got)
			}
		}
	})
}

// RFC 5976 §2.1: which PHB a class might be implemented with.
func TestY1541PHB(t *testing.T) {
	for class, want := range []string{"EF", "EF", "AF31+", "AF21+", "AF11+", "BE"} {
		if c, ok := Y1541PHB(uint8(class)); !ok || c.String() != want {
			t.Errorf("class %d: %v", class, c)
		}
	}
	if _, ok := Y1541PHB(6); ok {
		t.Error("RFC 5976 names no PHB for class 6")
	}
}

// RFC 5976 §2.2, §3.1: rate, peak rate, bucket and peak bucket of one request.
func TestY1541Traffic(t *testing.T) {
	p := Params{Has: SetOf(TMOD1ID, TMODExtID), TMOD1: TMOD{1000, 3000, 2000, 64, 1500}, PeakBucket: 4500}
	want := Traffic{1000, 2000, 3000, 4500, 64, 1500}
	if got, ok := p.Traffic(); !ok || got != want {
		t.Errorf("%+v", got)
	}
	p.PeakBucket, want.PBS = infinity, 3000 // not specified
	if got, _ := p.Traffic(); got != want {
		t.Errorf("%+v", got)
	}
}
