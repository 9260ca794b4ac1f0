package qspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unknownText stands for a latency or jitter that is not known.
const unknownText = "unknown"

// microsText writes microseconds: "40ms", "1500us", "2s".
func microsText(v uint32) string {
	switch {
	case v == Indeterminate:
		return unknownText
	case v != 0 && v%1_000_000 == 0:
		return strconv.Itoa(int(v/1_000_000)) + "s"
	case v != 0 && v%1000 == 0:
		return strconv.Itoa(int(v/1000)) + "ms"
	}
	return strconv.Itoa(int(v)) + "us"
}

// parseMicros reads what microsText writes, and a number alone as microseconds.
func parseMicros(s string) (uint32, error) {
	if s == unknownText {
		return Indeterminate, nil
	}
	number, factor := s, 1.0
	for _, u := range [...]struct {
		unit   string
		factor float64
	}{{"us", 1}, {"ms", 1e3}, {"s", 1e6}} {
		if rest, ok := strings.CutSuffix(s, u.unit); ok {
			number, factor = rest, u.factor
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	whole := math.Round(v * factor)
	if err != nil || !(whole >= 0 && whole <= float64(Indeterminate)) || math.Abs(v*factor-whole) > 1e-4 {
		return 0, fmt.Errorf("%q is not a time; expected whole microseconds below 2^32, like 40ms, 1.5ms, 300us or 2s", s)
	}
	return uint32(whole), nil
}

// String writes variance/99.9 % quantile/minimum latency, or the quantile alone
// where the other two are not known.
func (j PathJitter) String() string {
	if j.Variance == Indeterminate && j.MinLatency == Indeterminate {
		return microsText(j.P999)
	}
	v := unknownText
	if j.Variance != Indeterminate {
		v = strconv.Itoa(int(j.Variance))
	}
	return v + "/" + microsText(j.P999) + "/" + microsText(j.MinLatency)
}

func parseJitterText(s string) (PathJitter, error) {
	j := PathJitter{Variance: Indeterminate, MinLatency: Indeterminate}
	words := strings.Split(s, "/")
	var err error
	if len(words) == 1 {
		j.P999, err = parseMicros(s)
		return j, err
	}
	if len(words) != 3 {
		return j, fmt.Errorf("%q: expected the 99.9 %% quantile, or variance/quantile/minimum latency", s)
	}
	if words[0] != unknownText {
		if j.Variance, err = parseU32(words[0]); err != nil {
			return j, err
		}
	}
	if j.P999, err = parseMicros(words[1]); err != nil {
		return j, err
	}
	j.MinLatency, err = parseMicros(words[2])
	return j, err
}

// lastSecond is the end of the year 9999, the last that RFC 3339 can write.
const lastSecond = 253402300799

func secondText(s int64) string {
	if s < 0 || s > lastSecond {
		return strconv.FormatInt(s, 10)
	}
	return time.Unix(s, 0).UTC().Format(time.RFC3339)
}

func parseSecond(s string) (int64, error) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return v, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Nanosecond() != 0 {
		return 0, fmt.Errorf("%q is not a time; expected one like 2026-12-01T08:00:00Z, or seconds since 1970", s)
	}
	return t.Unix(), nil
}

func intervalsText(list []Interval) string {
	var words []string
	for _, x := range list {
		words = append(words, secondText(x.Start)+".."+secondText(x.End))
	}
	return strings.Join(words, ",")
}

func parseIntervalsText(s string) ([]Interval, error) {
	var list []Interval
	for w := range strings.SplitSeq(s, ",") {
		from, until, ok := strings.Cut(w, "..")
		if !ok {
			return nil, fmt.Errorf("%q is not an interval; expected start..end", w)
		}
		a, err := parseSecond(from)
		if err != nil {
			return nil, err
		}
		b, err := parseSecond(until)
		if err != nil {
			return nil, err
		}
		list = append(list, Interval{a, b})
	}
	return list, nil
}

var dayNames = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

var spanUnits = [...]struct {
	unit    string
	seconds uint32
}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}

// spanText writes seconds: "1h", "90m", "45s".
func spanText(v uint32) string {
	for _, u := range spanUnits {
		if v != 0 && v%u.seconds == 0 {
			return strconv.Itoa(int(v/u.seconds)) + u.unit
		}
	}
	return "0s"
}

func parseSpan(s string) (uint32, error) {
	for _, u := range spanUnits {
		if number, ok := strings.CutSuffix(s, u.unit); ok {
			v, err := strconv.ParseUint(number, 10, 32)
			if err == nil && v*uint64(u.seconds) <= math.MaxUint32 {
				return uint32(v) * u.seconds, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not a span of time; expected one like 45s, 90m, 1h or 2d, below 2^32 seconds", s)
}

// String writes "in/60s/1h", an hour that begins in a minute, or
// "mon,fri/08:00+01:00/1h".
func (t RelativeTime) String() string {
	if t.Kind == FromRequest {
		return "in/" + spanText(t.Start) + "/" + spanText(t.Duration)
	}
	var days []string
	for i, name := range dayNames {
		if t.Days>>(6-i)&1 == 1 {
			days = append(days, name)
		}
	}
	sign, offset := "+", int(t.UTCOffset)
	if offset < 0 {
		sign, offset = "-", -offset
	}
	clock := fmt.Sprintf("%02d:%02d", t.Start/3600, t.Start/60%60)
	if t.Start%60 != 0 {
		clock += fmt.Sprintf(":%02d", t.Start%60)
	}
	return fmt.Sprintf("%s/%s%s%02d:%02d/%s", strings.Join(days, ","), clock, sign, offset/60, offset%60, spanText(t.Duration))
}

func parseRelativeText(s string) (RelativeTime, error) {
	var t RelativeTime
	words := strings.Split(s, "/")
	if len(words) != 3 {
		return t, fmt.Errorf("%q: expected in/start/duration, or days/hh:mm+hh:mm/duration", s)
	}
	var err error
	if t.Duration, err = parseSpan(words[2]); err != nil {
		return t, err
	}
	if words[0] == "in" {
		t.Start, err = parseSpan(words[1])
		return t, err
	}
	t.Kind = Weekly
	if t.Days, err = parseDays(words[0]); err != nil {
		return t, err
	}
	return t, t.parseClock(words[1])
}

// parseDays reads days and spans of days: "mon-fri,sun".
func parseDays(s string) (uint8, error) {
	var days uint8
	for w := range strings.SplitSeq(s, ",") {
		first, last, span := strings.Cut(w, "-")
		if !span {
			last = first
		}
		a, err := dayNamed(first)
		if err != nil {
			return 0, err
		}
		b, err := dayNamed(last)
		if err != nil {
			return 0, err
		}
		for i := a; ; i = (i + 1) % 7 {
			days |= 1 << (6 - i)
			if i == b {
				break
			}
		}
	}
	return days, nil
}

func dayNamed(s string) (int, error) {
	for i, n := range dayNames {
		if n == strings.ToLower(s) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not a day; expected mon, tue, wed, thu, fri, sat or sun", s)
}

// parseClock reads hh:mm[:ss], and the offset from UTC, Z or +hh:mm or -hh:mm.
func (t *RelativeTime) parseClock(s string) error {
	var clock, offset string
	sign := 0
	if rest, ok := strings.CutSuffix(s, "Z"); ok {
		clock = rest
	} else if i := strings.IndexAny(s, "+-"); i >= 0 {
		clock, offset, sign = s[:i], s[i+1:], 1
		if s[i] == '-' {
			sign = -1
		}
	} else {
		return fmt.Errorf("%q has no offset from UTC; expected one like 08:00Z or 08:00+01:00", s)
	}
	v, err := sexagesimal(clock, 24)
	if err != nil {
		return err
	}
	t.Start = uint32(v)
	if sign == 0 {
		return nil
	}
	if v, err = sexagesimal(offset, 547); err != nil {
		return err
	}
	minutes := sign * v / 60
	if v%60 != 0 || minutes < math.MinInt16 || minutes > math.MaxInt16 {
		return fmt.Errorf("%q is not an offset from UTC in minutes", offset)
	}
	t.UTCOffset = int16(minutes)
	return nil
}

// sexagesimal reads hh:mm or hh:mm:ss, fewer hours than below, as seconds.
func sexagesimal(s string, below uint64) (int, error) {
	words := strings.Split(s, ":")
	bad := fmt.Errorf("%q is not a time of day; expected one like 08:00 or 08:00:30", s)
	if len(words) < 2 || len(words) > 3 {
		return 0, bad
	}
	out := 0
	for i, w := range words {
		v, err := strconv.ParseUint(w, 10, 16)
		if err != nil || i == 0 && v >= below || i > 0 && v >= 60 || len(w) < 2 {
			return 0, bad
		}
		out = 60*out + int(v)
	}
	if len(words) == 2 {
		out *= 60
	}
	return out, nil
}
