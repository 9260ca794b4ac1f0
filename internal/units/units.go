// Package units reads and writes the rates and sizes that people put into
// files and command lines.
//
// A rate is in bits per second with decimal prefixes: "20M" is 20,000,000
// bit/s. A size is in octets: "64k" is 64,000 octets, "64Ki" is 65,536. What
// cannot be said exactly in whole bits per second or whole octets is an error,
// never rounded.
package units

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// prefix is one decimal or binary prefix.
type prefix struct {
	name   string
	factor uint64
}

var decimal = []prefix{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

var binary = []prefix{{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}}

// Error says why a text is not a rate or a size.
type Error struct {
	What string // "rate" or "size"
	Text string // as found
	Why  string
}

func (e *Error) Error() string {
	example := `a whole or decimal number of bit/s with an optional k, M, G or T, e.g. 64k, 20M, 1.5G`
	if e.What == "size" {
		example = `a whole or decimal number of octets with an optional k, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024), e.g. 1500, 64k, 128Ki`
	}
	return fmt.Sprintf("%q is not a %s: %s; expected %s", e.Text, e.What, e.Why, example)
}

// ParseRate reads a rate in bit/s: "9600", "64k", "20M", "1.5G", "2.5Tbit/s".
// The prefixes are k (or K), M, G and T, powers of 1000; "bit/s", "bps" or
// "b/s" may follow. Errors are *Error.
func ParseRate(s string) (uint64, error) {
	t := strings.TrimSpace(s)
	for _, unit := range []string{"bit/s", "bps", "b/s"} {
		if rest, ok := strings.CutSuffix(t, unit); ok {
			t = strings.TrimRight(rest, " ")
			break
		}
	}
	v, why := parse(t, decimal)
	if why != "" {
		return 0, &Error{What: "rate", Text: s, Why: why}
	}
	return v, nil
}

// ParseSize reads a size in octets: "1500", "64k" (64,000), "64Ki" (65,536),
// "1.5M". "B" may follow. Errors are *Error.
func ParseSize(s string) (uint64, error) {
	t := strings.TrimSpace(s)
	if rest, ok := strings.CutSuffix(t, "B"); ok {
		t = strings.TrimRight(rest, " ")
	}
	v, why := parse(t, append(binary, decimal...))
	if why != "" {
		return 0, &Error{What: "size", Text: s, Why: why}
	}
	return v, nil
}

// parse reads a non-negative decimal number with one of the prefixes.
func parse(s string, prefixes []prefix) (v uint64, why string) {
	factor := uint64(1)
	number := strings.TrimRight(s, "kKMGTi")
	if suffix := s[len(number):]; suffix != "" {
		found := false
		for _, p := range prefixes {
			if suffix == p.name || suffix == "K" && p.name == "k" || suffix == "ki" && p.name == "Ki" {
				factor, found = p.factor, true
				break
			}
		}
		if !found {
			return 0, fmt.Sprintf("unknown prefix %q", suffix)
		}
		number = strings.TrimRight(number, " ")
	}
	whole, fraction, point := strings.Cut(number, ".")
	switch {
	case number == "":
		return 0, "there is no number"
	case number[0] == '-':
		return 0, "it is negative"
	case !digits(whole) || point && !digits(fraction):
		return 0, fmt.Sprintf("%q is not a number", number)
	}
	w, err := strconv.ParseUint(whole, 10, 64)
	hi, v := bits.Mul64(w, factor)
	if err != nil || hi != 0 {
		return 0, "it is too large"
	}
	f, why := parseFraction(strings.TrimRight(fraction, "0"), factor)
	if why != "" {
		return 0, why
	}
	if v > math.MaxUint64-f {
		return 0, "it is too large"
	}
	return v + f, ""
}

// parseFraction returns 0.digits times factor, which has to be whole.
func parseFraction(digits string, factor uint64) (uint64, string) {
	if digits == "" {
		return 0, ""
	}
	const notWhole = "it is not a whole number of the unit"
	if len(digits) > 19 { // more places than any factor has: 2^40 has 40, but 10^19 is what fits
		return 0, notWhole
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, notWhole
	}
	scale := uint64(1)
	for range digits {
		scale *= 10
	}
	hi, lo := bits.Mul64(n, factor)
	q, r := bits.Div64(hi, lo, scale) // n < scale, so hi < scale
	if r != 0 {
		return 0, notWhole
	}
	return q, ""
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// FormatRate writes a rate in bit/s exactly, so that ParseRate reads it back:
// "20M", "1.5G", "64k", "1234567".
func FormatRate(bps uint64) string { return format(bps, decimal) }

// FormatSize writes a size in octets exactly, so that ParseSize reads it back:
// "64k", "64Ki", "1500".
func FormatSize(octets uint64) string {
	if octets >= 1024 && octets%1024 == 0 && octets%1000 != 0 {
		for _, p := range binary {
			if octets%p.factor == 0 {
				return strconv.FormatUint(octets/p.factor, 10) + p.name
			}
		}
	}
	return format(octets, decimal)
}

// format uses the largest prefix that leaves at most three decimal places; a
// number that would need all of them below a million's prefix stays plain.
func format(v uint64, prefixes []prefix) string {
	for _, p := range prefixes {
		if v < p.factor {
			continue
		}
		if v%(p.factor/1000) != 0 || p.factor == 1e3 && v >= 1e6 && v%1e3 != 0 {
			continue
		}
		milli := v / (p.factor / 1000)
		s := strconv.FormatUint(milli/1000, 10)
		if rest := milli % 1000; rest != 0 {
			s += strings.TrimRight(fmt.Sprintf(".%03d", rest), "0")
		}
		return s + p.name
	}
	return strconv.FormatUint(v, 10)
}

// HumanRate writes a rate in bit/s for people, with its unit and at most three
// decimal places: "20 Mbit/s", "1.235 Mbit/s", "0 bit/s". It may round.
func HumanRate(bps uint64) string {
	for _, p := range decimal {
		if bps >= p.factor {
			return human(bps, p.factor) + " " + p.name + "bit/s"
		}
	}
	return strconv.FormatUint(bps, 10) + " bit/s"
}

// HumanSize writes a size in octets for people: "64 kB", "1.5 MB", "12 B". It
// may round.
func HumanSize(octets uint64) string {
	for _, p := range decimal {
		if octets >= p.factor {
			return human(octets, p.factor) + " " + p.name + "B"
		}
	}
	return strconv.FormatUint(octets, 10) + " B"
}

// human rounds to three places, half up.
func human(v, factor uint64) string {
	milli := v / (factor / 1000)
	if rest := v % (factor / 1000); rest >= (factor/1000+1)/2 && factor > 1000 {
		milli++
	}
	s := strconv.FormatUint(milli/1000, 10)
	if rest := milli % 1000; rest != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%03d", rest), "0")
	}
	return s
}

// Octets turns a rate in bit/s into whole octets per second, rounded up.
func Octets(bps uint64) uint64 { return bps/8 + (bps%8+7)/8 }

// Bits turns a rate in octets per second into bit/s. What does not fit is the
// largest rate there is.
func Bits(octetsPerSecond uint64) uint64 {
	if octetsPerSecond > math.MaxUint64/8 {
		return math.MaxUint64
	}
	return octetsPerSecond * 8
}
