package dataplane

import (
	"fmt"
	"math/bits"
)

// Color is a metering result.
//
// RFC 2698 §3
type Color uint8

// Colors, best first.
const (
	Green Color = iota
	Yellow
	Red
)

func (c Color) String() string {
	switch c {
	case Green:
		return "green"
	case Yellow:
		return "yellow"
	case Red:
		return "red"
	}
	return fmt.Sprintf("color %d", uint8(c))
}

// A bucket counts in 10⁻⁹ octets, so that a rate in octets per second over a time
// in nanoseconds is a whole number of them and refilling rounds nothing away,
// however often it happens.
const nano = 1e9

// MaxBurst bounds CBS and PBS, octets: what fits a bucket.
const MaxBurst = 4 << 30

// MaxRate bounds CIR and PIR, octets per second.
const MaxRate = 1 << 40

// Check says whether a meter can go by these values: "The PIR must be equal to or
// greater than the CIR", "both of them must be configured to be greater than 0".
//
// RFC 2698 §2
func (p Policer) Check() error {
	switch {
	case p.PIR < p.CIR:
		return fmt.Errorf("PIR %d octets/s below CIR %d: %w", p.PIR, p.CIR, ErrInvalid)
	case p.PIR > MaxRate:
		return fmt.Errorf("PIR %d octets/s, expected at most %d: %w", p.PIR, uint64(MaxRate), ErrInvalid)
	case p.CBS == 0 || p.PBS == 0 || p.CBS > MaxBurst || p.PBS > MaxBurst:
		return fmt.Errorf("CBS %d and PBS %d octets, expected 1 to %d: %w", p.CBS, p.PBS, uint64(MaxBurst), ErrInvalid)
	}
	return nil
}

// Meter holds the token buckets of one two-rate three-color marker. Its zero
// value is not ready: see NewMeter. Times are nanoseconds of a clock that does
// not go back (if it does, it stands still here).
type Meter struct {
	tc, tp int64 // tokens in 10⁻⁹ octets; negative: debt
	last   int64
}

// NewMeter returns a meter with full buckets: "The token buckets P and C are
// initially (at time 0) full".
//
// RFC 2698 §3
func NewMeter(p Policer, now int64) Meter {
	return Meter{tc: int64(p.CBS) * nano, tp: int64(p.PBS) * nano, last: now}
}

// Tokens returns what is in the buckets, octets rounded down, negative for debt,
// as of the last packet.
func (m *Meter) Tokens() (c, p int64) { return floor(m.tc), floor(m.tp) }

func floor(t int64) int64 {
	if t < 0 {
		return -((-t + nano - 1) / nano)
	}
	return t / nano
}

// refill brings the buckets up to now. A burst size that has been lowered
// takes effect here too.
func (m *Meter) refill(p *Policer, now int64) {
	dt := now - m.last
	if dt > 0 {
		m.last = now
	} else {
		dt = 0
	}
	m.tc = fill(m.tc, p.CIR, p.CBS, uint64(dt))
	m.tp = fill(m.tp, p.PIR, p.PBS, uint64(dt))
}

// fill adds rate·dt tokens, up to size. The product may need 128 bits: whatever
// does not fit 63 fills any bucket.
func fill(level int64, rate, size, dt uint64) int64 {
	full := int64(size) * nano
	hi, lo := bits.Mul64(rate, dt)
	if level >= full || hi != 0 || lo >= uint64(full-level) {
		return full
	}
	return level + int64(lo)
}

// Color meters a packet of size octets in color-blind mode.
//
// RFC 2698 §3
func (m *Meter) Color(p *Policer, now int64, size int) Color {
	return m.ColorAware(p, now, size, Green)
}

// ColorAware meters a packet that has been given a color before: the result is
// never better. Color-blind is the same with green.
//
// RFC 2698 §3
func (m *Meter) ColorAware(p *Policer, now int64, size int, pre Color) Color {
	m.refill(p, now)
	b := int64(size) * nano
	switch {
	case pre == Red || m.tp < b: // Tp(t)-B < 0
		return Red
	case pre == Yellow || m.tc < b: // Tc(t)-B < 0
		m.tp -= b
		return Yellow
	}
	m.tp -= b
	m.tc -= b
	return Green
}

// maxDebt keeps a bucket from wrapping. No admitted load comes near it.
const maxDebt = -(MaxBurst * nano)

// Charge takes a packet's octets out of both buckets, whatever they hold: a
// bucket may go into debt. It is how reserved traffic comes first (see the
// package's comment).
func (m *Meter) Charge(p *Policer, now int64, size int) {
	m.refill(p, now)
	b := int64(size) * nano
	m.tc = max(m.tc-b, maxDebt)
	m.tp = max(m.tp-b, maxDebt)
}

// Precolor reads the color that an AF codepoint says: "within each AF class IP
// packets are marked with one of three possible drop precedence values". Other
// codepoints say green.
//
// RFC 2597 §6
func Precolor(dscp uint8) Color {
	if class := dscp >> 3; class < 1 || class > 4 || dscp&1 != 0 {
		return Green
	}
	switch dscp >> 1 & 3 {
	case 2:
		return Yellow
	case 3:
		return Red
	}
	return Green
}
