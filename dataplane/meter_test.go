package dataplane

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// slowMeter is the text of RFC 2698 §3 in exact fractions: token counts "are
// incremented by one PIR [CIR] times per second up to PBS [CBS]".
type slowMeter struct {
	p      Policer
	tc, tp *big.Rat
	last   int64
}

func rat(v uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(v)) }

func newSlow(p Policer, now int64) *slowMeter {
	return &slowMeter{p, rat(p.CBS), rat(p.PBS), now}
}

func (m *slowMeter) refill(now int64) {
	dt := new(big.Rat).SetFrac64(now-m.last, 1e9)
	fill := func(level *big.Rat, rate, size uint64) *big.Rat {
		level = new(big.Rat).Add(level, new(big.Rat).Mul(dt, rat(rate)))
		if full := rat(size); level.Cmp(full) > 0 {
			return full
		}
		return level
	}
	m.tc, m.tp = fill(m.tc, m.p.CIR, m.p.CBS), fill(m.tp, m.p.PIR, m.p.PBS)
	m.last = now
}

func (m *slowMeter) color(now int64, size int, pre Color) Color {
	m.refill(now)
	b := rat(uint64(size))
	switch {
	case pre == Red || m.tp.Cmp(b) < 0:
		return Red
	case pre == Yellow || m.tc.Cmp(b) < 0:
		m.tp.Sub(m.tp, b)
		return Yellow
	}
	m.tp = new(big.Rat).Sub(m.tp, b)
	m.tc = new(big.Rat).Sub(m.tc, b)
	return Green
}

func (m *slowMeter) charge(now int64, size int) {
	m.refill(now)
	b := rat(uint64(size))
	m.tp, m.tc = new(big.Rat).Sub(m.tp, b), new(big.Rat).Sub(m.tc, b)
}

func drawPolicer(t *rapid.T) Policer {
	rate := func(name string) uint64 {
		return rapid.OneOf(rapid.Uint64Range(0, 10), rapid.Uint64Range(0, 1e7), rapid.Uint64Range(0, MaxRate)).Draw(t, name)
	}
	burst := func(name string) uint64 {
		return rapid.OneOf(rapid.Uint64Range(1, 3000), rapid.Uint64Range(1, MaxBurst)).Draw(t, name)
	}
	p := Policer{CIR: rate("cir"), CBS: burst("cbs"), PIR: rate("pir"), PBS: burst("pbs")}
	p.PIR = max(p.PIR, p.CIR)
	return p
}

// RFC 2698 §3: the same colors as in exact arithmetic, whatever the packets'
// sizes, spacing and colors, and whatever is charged without asking.
func TestMeterIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicer(t)
		now := rapid.Int64Range(0, 1e18).Draw(t, "start")
		m, slow := NewMeter(p, now), newSlow(p, now)
		for range rapid.IntRange(1, 60).Draw(t, "packets") {
			now += rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 2e6), rapid.Int64Range(0, 3e9), rapid.Int64Range(0, 1e15)).Draw(t, "gap")
			size := rapid.IntRange(20, 1500).Draw(t, "size")
			if rapid.IntRange(0, 4).Draw(t, "charge") == 0 {
				m.Charge(&p, now, size)
				slow.charge(now, size)
				exact(t, &m, slow)
				continue
			}
			pre := Color(rapid.IntRange(0, 2).Draw(t, "precolor"))
			if got, want := m.ColorAware(&p, now, size, pre), slow.color(now, size, pre); got != want {
				c, pp := m.Tokens()
				t.Fatalf("at %d, %d octets, %v before: %v, want %v (tokens %d %d, exactly %v %v)", now, size, pre, got, want, c, pp,
					slow.tc.FloatString(12), slow.tp.FloatString(12))
			}
			exact(t, &m, slow)
		}
	})
}

// exact asserts that the buckets hold what they should, to the last fraction.
func exact(t *rapid.T, m *Meter, slow *slowMeter) {
	for name, one := range map[string]struct {
		got  int64
		want *big.Rat
	}{"C": {m.tc, slow.tc}, "P": {m.tp, slow.tp}} {
		if got := new(big.Rat).SetFrac64(one.got, nano); got.Cmp(one.want) != 0 {
			t.Fatalf("bucket %s: %s octets, exactly %s", name, got.FloatString(10), one.want.FloatString(10))
		}
	}
}

// At a million packets a second each refill is far less than an octet, and none
// of it is rounded away: over ten seconds the rate is there to the octet.
func TestMeterDoesNotRoundRefillsAway(t *testing.T) {
	p := Policer{CIR: 999_983, CBS: 1500, PIR: 1_999_993, PBS: 1500}
	m := NewMeter(p, 0)
	var green, yellow uint64
	for now := int64(0); now < 10e9; now += 1000 {
		switch m.Color(&p, now, 40) {
		case Green:
			green += 40
		case Yellow:
			yellow += 40
		}
	}
	if want := 10*p.CIR + p.CBS; green > want || want-green > 2*40 {
		t.Errorf("green %d octets, want %d but for a packet or two", green, want)
	}
	if want := 10*p.PIR + p.PBS; green+yellow > want || want-green-yellow > 2*40 {
		t.Errorf("green and yellow %d octets, want %d but for a packet or two", green+yellow, want)
	}
}

// RFC 2698 §3: "Tp(0) = PBS [...] Tc(0) = CBS".
func TestBucketsBeginFull(t *testing.T) {
	p := Policer{CIR: 1, CBS: 3000, PIR: 1, PBS: 4000}
	m := NewMeter(p, 5)
	var got []Color
	for range 5 {
		got = append(got, m.Color(&p, 5, 1000))
	}
	want := [5]Color{Green, Green, Green, Yellow, Red}
	if [5]Color(got) != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestClockThatGoesBackStandsStill(t *testing.T) {
	p := Policer{CIR: 1000, CBS: 1000, PIR: 1000, PBS: 1000}
	m := NewMeter(p, 1e9)
	m.Color(&p, 1e9, 1000)
	if got := m.Color(&p, 0, 100); got != Red {
		t.Errorf("a second back: %v", got)
	}
	if got := m.Color(&p, 1e9+1e8, 100); got != Green {
		t.Errorf("a tenth of a second later: %v", got)
	}
}

// Debt is paid back at the rate, and not forgiven.
func TestDebt(t *testing.T) {
	p := Policer{CIR: 1000, CBS: 1000, PIR: 1000, PBS: 1000}
	m := NewMeter(p, 0)
	m.Charge(&p, 0, 2500)
	if c, pp := m.Tokens(); c != -1500 || pp != -1500 {
		t.Errorf("tokens %d, %d", c, pp)
	}
	if got := m.Color(&p, 1500e6-1, 0); got != Red {
		t.Errorf("a nanosecond early: %v", got)
	}
	if got := m.Color(&p, 1500e6, 0); got != Green {
		t.Errorf("when paid back: %v", got)
	}
	for range 200 {
		m.Charge(&p, 1500e6, MaxBurst)
	}
	if c, _ := m.Tokens(); c >= 0 {
		t.Errorf("tokens %d: the bucket wrapped", c)
	}
}

// RFC 2698 §2
func TestPolicerCheck(t *testing.T) {
	good := Policer{CIR: 10, CBS: 1, PIR: 10, PBS: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, p := range map[string]Policer{
		"PIR below CIR": {CIR: 11, CBS: 1, PIR: 10, PBS: 1},
		"no CBS":        {CIR: 10, PIR: 10, PBS: 1},
		"no PBS":        {CIR: 10, CBS: 1, PIR: 10},
		"CBS too large": {CIR: 10, CBS: MaxBurst + 1, PIR: 10, PBS: 1},
		"PIR too large": {CIR: 10, CBS: 1, PIR: MaxRate + 1, PBS: 1},
	} {
		if err := p.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// RFC 2597 §6: AF11 = 001010, AF12 = 001100, AF13 = 001110, and so on to AF43 =
// 100110.
func TestPrecolor(t *testing.T) {
	want := map[uint8]Color{}
	for class := uint8(1); class <= 4; class++ {
		want[class<<3|1<<1], want[class<<3|2<<1], want[class<<3|3<<1] = Green, Yellow, Red
	}
	for dscp := range uint8(64) {
		if got := Precolor(dscp); got != want[dscp] {
			t.Errorf("DSCP %06b: %v, want %v", dscp, got, want[dscp])
		}
	}
}

func BenchmarkMeter(b *testing.B) {
	p := Policer{CIR: 2_500_000, CBS: 64000, PIR: 5_000_000, PBS: 64000}
	m := NewMeter(p, 0)
	b.ReportAllocs()
	for now := int64(0); b.Loop(); now += 100_000 {
		m.Color(&p, now, 1400)
	}
}
