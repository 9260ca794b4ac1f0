package pki

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// ParseLifetime reads a number of years, weeks, days, hours or minutes: 10y, 2w,
// 90d, 36h, 30m.
func ParseLifetime(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'y': year, 'w': 7 * day, 'd': day, 'h': time.Hour, 'm': time.Minute}
	if text != "" {
		unit := units[text[len(text)-1]]
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
		if err == nil && unit > 0 && n > 0 && n <= uint64(math.MaxInt64/unit) {
			return time.Duration(n) * unit, nil
		}
	}
	return 0, fmt.Errorf("%q: expected a number and a unit of y (365 days), w, d, h or m (minutes): 10y, 90d, 36h", text)
}

// HumanLifetime writes a duration by its largest unit that fits: "10y", "89d",
// "23h". It is rounded, so that it is not a day less after a moment.
func HumanLifetime(d time.Duration) string {
	if d = d.Round(time.Minute); d.Abs() >= 2*day {
		d = d.Round(time.Hour)
	}
	switch {
	case d < 0:
		return "-" + HumanLifetime(-d)
	case d >= year && d%year == 0:
		return fmt.Sprintf("%dy", d/year)
	case d >= 2*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}
