package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/interqos/interqos/internal/suggest"
	"github.com/interqos/interqos/internal/units"
)

// Every reader of a scalar takes what the value means, for errors; "" says
// nothing about it. It returns the zero value, or the default where it takes
// one, if nothing is there or what is there is wrong.

// say puts what a value means before the form that it should have.
func say(what, form string) string {
	if what == "" {
		return form
	}
	return what + ", " + form
}

// Scalar returns the text of a value, and whether it has one.
func (v Value) Scalar(expected string) (string, bool) {
	if !v.is(yaml.ScalarNode, expected) {
		return "", false
	}
	return v.n.Value, true
}

// parse reads a scalar with a function, which may have a hint on what is wrong.
func parse[T any](v Value, expected string, otherwise T, from func(text string) (value T, hint string, ok bool)) T {
	text, ok := v.Scalar(expected)
	if !ok {
		return otherwise
	}
	value, hint, ok := from(text)
	if !ok {
		v.Bad(expected, hint)
		return otherwise
	}
	return value
}

// Text reads a text that is not empty.
func (v Value) Text(what, otherwise string) string {
	return parse(v, cmp.Or(what, "a text"), otherwise, func(text string) (string, string, bool) {
		return text, "", text != ""
	})
}

// Word reads one of some words.
func (v Value) Word(otherwise string, words ...string) string {
	return parse(v, "one of "+strings.Join(words, ", "), otherwise, func(text string) (string, string, bool) {
		return text, suggest.Hint(text, words), slices.Contains(words, text)
	})
}

// Bool reads true or false.
func (v Value) Bool(otherwise bool) bool {
	return parse(v, "true or false", otherwise, func(text string) (bool, string, bool) {
		return text == "true", "", text == "true" || text == "false"
	})
}

// Number reads a whole number from least to most; a most of math.MaxInt64 goes
// unsaid.
func (v Value) Number(what string, least, most, otherwise int64) int64 {
	form := fmt.Sprintf("a whole number from %d to %d", least, most)
	if most == math.MaxInt64 {
		form = fmt.Sprintf("a whole number from %d", least)
	}
	return parse(v, say(what, form), otherwise, func(text string) (int64, string, bool) {
		n, err := strconv.ParseInt(text, 10, 64)
		return n, "", err == nil && n >= least && n <= most
	})
}

// Decimal reads a number above 0.
func (v Value) Decimal(what string, otherwise float64) float64 {
	return v.float(say(what, "a number above 0"), otherwise, func(f float64) bool { return f > 0 })
}

// Ratio reads a number from 0 to 1.
func (v Value) Ratio(what string, otherwise float64) float64 {
	return v.float(say(what, "a number from 0 to 1"), otherwise, func(f float64) bool { return f >= 0 && f <= 1 })
}

// float reads a number that fits, which a NaN never does; -0 reads as 0.
func (v Value) float(expected string, otherwise float64, fits func(float64) bool) float64 {
	return parse(v, expected, otherwise, func(text string) (float64, string, bool) {
		f, err := strconv.ParseFloat(text, 64)
		return max(f, 0), "", err == nil && !math.IsInf(f, 0) && fits(f)
	})
}

// AS reads an AS number. RFC 7607, RFC 6793 and RFC 7300 keep some from use.
func (v Value) AS(what string) uint32 {
	return parse(v, say(what, "an AS number from 1 to 4294967294"), 0, func(text string) (uint32, string, bool) {
		n, err := strconv.ParseUint(text, 10, 32)
		hint := ""
		if rest, ok := strings.CutPrefix(strings.ToUpper(text), "AS"); ok {
			if _, err := strconv.ParseUint(rest, 10, 32); err == nil {
				hint = "write " + rest
			}
		} else if n > 0 && n < math.MaxUint32 {
			hint = "this one is reserved"
		}
		return uint32(n), hint, err == nil && UsableAS(uint32(n))
	})
}

// UsableAS says whether a domain can have an AS number.
func UsableAS(n uint32) bool {
	return n != 0 && n != 23456 && n != math.MaxUint16 && n != math.MaxUint32
}

// Duration reads a duration from least to most; a most of math.MaxInt64 goes
// unsaid.
func (v Value) Duration(what string, least, most, otherwise time.Duration) time.Duration {
	bounds := "from " + shortDuration(least)
	if most != math.MaxInt64 {
		bounds += " to " + shortDuration(most)
	}
	expected := say(what, "a duration "+bounds+", e.g. 500ms, 30s, 5m, 1h30m")
	return parse(v, expected, otherwise, func(text string) (time.Duration, string, bool) {
		d, err := time.ParseDuration(text)
		hint := ""
		if _, errN := strconv.ParseFloat(text, 64); err != nil && errN == nil {
			hint = "which unit? " + Clip(text) + "s?"
		}
		return d, hint, err == nil && d >= least && d <= most
	})
}

// shortDuration writes 1h0m0s as 1h.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Rate reads a rate of at least so many bit/s; one that is not there is 0.
func (v Value) Rate(what string, least uint64) uint64 {
	return v.quantity(what, "a rate in bit/s", "64k, 20M, 1.5G", least, units.ParseRate)
}

// Size reads a size of at least so many octets; one that is not there is 0.
func (v Value) Size(what string, least uint64) uint64 {
	return v.quantity(what, "a size in octets", "1500, 64k, 128Ki", least, units.ParseSize)
}

func (v Value) quantity(what, form, examples string, least uint64, from func(string) (uint64, error)) uint64 {
	switch {
	case least == 1:
		form += " above 0"
	case least > 1:
		form += fmt.Sprintf(" of at least %d", least)
	}
	return parse(v, say(what, form+", e.g. "+examples), 0, func(text string) (uint64, string, bool) {
		n, err := from(text)
		hint := ""
		if bad, ok := errors.AsType[*units.Error](err); ok {
			hint = Clip(bad.Why)
		}
		return n, hint, err == nil && n >= least
	})
}

// Address reads a unicast address.
func (v Value) Address(what string) netip.Addr {
	expected := say(what, "an IPv4 or IPv6 address")
	text, ok := v.Scalar(expected)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		hint := ""
		if p, err := netip.ParsePrefix(text); err == nil {
			hint = "without the prefix length: " + p.Addr().String()
		} else if p, err := netip.ParseAddrPort(text); err == nil {
			hint = "without the port: " + p.Addr().String()
		}
		v.Bad(expected, hint)
		return netip.Addr{}
	case a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast():
		v.Bad(say(what, "a unicast address without a zone"), "")
		return netip.Addr{}
	}
	return a
}

// AddrPort reads an address with a port.
func (v Value) AddrPort(what string) netip.AddrPort {
	expected := say(what, "an IP address and a port, e.g. 127.0.0.1:9000")
	return parse(v, expected, netip.AddrPort{}, func(text string) (netip.AddrPort, string, bool) {
		p, err := netip.ParseAddrPort(text)
		hint := ""
		if a, err := netip.ParseAddr(text); err == nil {
			hint = "with a port: " + netip.AddrPortFrom(a, 9000).String() + "?"
		}
		return p, hint, err == nil
	})
}

// Prefix reads a prefix whose host bits are zero.
func (v Value) Prefix(what string) netip.Prefix {
	return parse(v, say(what, "a prefix such as 10.3.0.0/16"), netip.Prefix{}, func(text string) (netip.Prefix, string, bool) {
		if p, ok := hostPrefix(text); ok {
			return p, "did you mean " + p.String() + "?", false
		}
		return parsePrefix(text)
	})
}

// PrefixOrAddress reads a prefix whose host bits are zero, or an address as the
// prefix of just itself.
func (v Value) PrefixOrAddress(what string) netip.Prefix {
	return parse(v, say(what, "an address, or a prefix such as 10.3.0.0/16"), netip.Prefix{}, func(text string) (netip.Prefix, string, bool) {
		if p, ok := hostPrefix(text); ok {
			return p, "", true
		}
		return parsePrefix(text)
	})
}

// hostPrefix reads an address, but no IPv4 one in the clothes of IPv6, as the
// prefix of just itself.
func hostPrefix(text string) (netip.Prefix, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func parsePrefix(text string) (p netip.Prefix, hint string, ok bool) {
	p, err := netip.ParsePrefix(text)
	a, errA := netip.ParseAddr(text)
	switch {
	case p.Addr().Is4In6() || errA == nil && a.Is4In6():
		return p, "an IPv4 one is written as such", false
	case p != p.Masked():
		return p, "it has host bits: did you mean " + p.Masked().String() + "?", false
	}
	return p, "", err == nil
}
