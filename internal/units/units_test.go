package units

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "9600": 9600, "64k": 64000, "64K": 64000, "20M": 20e6, "1.5G": 15e8, "2T": 2e12,
		"20Mbit/s": 20e6, "20 Mbit/s": 20e6, " 20M ": 20e6, "100 bps": 100, "0.001k": 1, "0.5k": 500,
		"1.50000000000000000000000000k": 1500, "18446744073709551615": math.MaxUint64,
		"18446744073709551.615k": math.MaxUint64, "007": 7,
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestParseRateErrors(t *testing.T) {
	for text, why := range map[string]string{
		"": "there is no number", "M": "there is no number", "bit/s": "there is no number",
		"-5": "it is negative", "20X": `"20X" is not a number`, "20Mi": `unknown prefix "Mi"`,
		"1.5": "not a whole number", "0.0001k": "not a whole number", "1e6": `"1e6" is not a number`,
		"20MM": `unknown prefix "MM"`, "1.": `"1." is not a number`, ".5M": `".5" is not a number`,
		"18446744073709551616": "too large", "18446744073709552k": "too large",
		"18446744073709551.616k": "too large", "20 M B": "is not a number", "+5": "is not a number",
		"0.00000000000000000001T": "not a whole number", "1.2.3M": "is not a number",
	} {
		_, err := ParseRate(text)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), why) || e.Text != text || e.What != "rate" {
			t.Errorf("ParseRate(%q): %v; want %q", text, err, why)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"1500": 1500, "64k": 64000, "64Ki": 65536, "1.5Mi": 3 << 19, "64 KiB": 65536, "10kB": 10000, "1G": 1e9,
		"0.0009765625Ki": 1,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "1.5", "64Kib", "iK", "64i", "-1k"} {
		if v, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d; want an error", text, v)
		}
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[uint64]string{
		0: "0", 999: "999", 1000: "1k", 64000: "64k", 20e6: "20M", 15e8: "1.5G", 1234567: "1234567", 1000500000: "1000.5M",
		1234567891: "1234567891", 1001: "1.001k", 2e12: "2T", math.MaxUint64: "18446744073709551615",
	} {
		if got := FormatRate(v); got != want {
			t.Errorf("FormatRate(%d) = %q; want %q", v, got, want)
		}
	}
	for v, want := range map[uint64]string{65536: "64Ki", 64000: "64k", 1500: "1.5k", 1024: "1Ki", 1024000: "1.024M", 3 << 30: "3Gi"} {
		if got := FormatSize(v); got != want {
			t.Errorf("FormatSize(%d) = %q; want %q", v, got, want)
		}
	}
}

func TestHuman(t *testing.T) {
	for v, want := range map[uint64]string{
		0: "0 bit/s", 20e6: "20 Mbit/s", 1234567: "1.235 Mbit/s", 1234400: "1.234 Mbit/s", 1500: "1.5 kbit/s",
		1001: "1.001 kbit/s", 25e8: "2.5 Gbit/s",
	} {
		if got := HumanRate(v); got != want {
			t.Errorf("HumanRate(%d) = %q; want %q", v, got, want)
		}
	}
	if got := HumanSize(64000); got != "64 kB" {
		t.Errorf("HumanSize(64000) = %q", got)
	}
	if got := HumanSize(12); got != "12 B" {
		t.Errorf("HumanSize(12) = %q", got)
	}
}

func TestOctetsAndBits(t *testing.T) {
	for bps, want := range map[uint64]uint64{0: 0, 1: 1, 8: 1, 9: 2, 20e6: 25e5, math.MaxUint64: 1 << 61} {
		if got := Octets(bps); got != want {
			t.Errorf("Octets(%d) = %d; want %d", bps, got, want)
		}
	}
	if got := Bits(25e5); got != 20e6 {
		t.Errorf("Bits(2500000) = %d", got)
	}
	if got := Bits(math.MaxUint64); got != math.MaxUint64 {
		t.Errorf("Bits(max) = %d", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "20M", "1.5G", "64Ki", "0.001k", "18446744073709551615", "1.15292150460684697Ti", "5 kbit/s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseRate(s); err == nil {
			if again, err := ParseRate(FormatRate(v)); err != nil || again != v {
				t.Fatalf("%q: %d formats as %q, which is %d, %v", s, v, FormatRate(v), again, err)
			}
			_ = HumanRate(v)
		}
		if v, err := ParseSize(s); err == nil {
			if again, err := ParseSize(FormatSize(v)); err != nil || again != v {
				t.Fatalf("%q: %d formats as %q, which is %d, %v", s, v, FormatSize(v), again, err)
			}
		}
	})
}

func BenchmarkParseRate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRate("1.5G"); err != nil {
			b.Fatal(err)
		}
	}
}
