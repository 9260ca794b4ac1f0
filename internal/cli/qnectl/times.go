package qnectl

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/qspec"
	urfave "github.com/urfave/cli/v2"
)

// timeFlags say when.
func timeFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "start", Usage: "`TIME` from which on: 2026-12-01T08:00:00Z, or +10m from now (default: now)"},
		&urfave.StringFlag{Name: "end", Usage: "`TIME` until when, as --start (default: until released)"},
		&urfave.DurationFlag{Name: "duration", DefaultText: "until released", Usage: "how long, a `DURATION` such as 2h, instead of --end"},
		&urfave.StringFlag{Name: "window", Usage: "only in this weekly `WINDOW`, between --start and --end: mon-fri/08:00+01:00/10h"},
	}
}

// times puts the flags into QSPEC parameters, as the API takes them; "" where there
// are none. What is said from now on is counted from now.
func times(c *urfave.Context, now time.Time) (string, error) {
	if !c.IsSet("start") && !c.IsSet("end") && !c.IsSet("duration") && !c.IsSet("window") {
		return "", nil
	}
	start, end := now, time.Time{}
	var err error
	if c.IsSet("start") {
		if start, err = instant(c.String("start"), now); err != nil {
			return "", cli.Usagef("--start: %v", err)
		}
	}
	d := c.Duration("duration")
	switch {
	case c.IsSet("end") && c.IsSet("duration"):
		return "", cli.Usagef("--end and --duration: give one of the two")
	case c.IsSet("end"):
		if end, err = instant(c.String("end"), now); err != nil {
			return "", cli.Usagef("--end: %v", err)
		}
	case d >= time.Second:
		end = start.Add(d)
	case c.IsSet("duration"):
		return "", cli.Usagef("--duration %s: expected at least a second, e.g. 2h", d)
	default:
		return "", cli.Usagef("--start and --window need --end or --duration: a booking has an end")
	}
	if relative := !c.IsSet("start") || strings.HasPrefix(c.String("start"), "+"); relative && d >= time.Second && !c.IsSet("window") {
		// qned counts from when it has the request.
		in, length := start.Sub(now), d.Round(time.Second)
		if in > math.MaxUint32*time.Second || length > math.MaxUint32*time.Second {
			return "", cli.Usagef("--start and --duration: expected at most %s each", math.MaxUint32*time.Second)
		}
		p := qspec.Params{Has: qspec.SetOf(qspec.RelativeTimeID), Relative: qspec.RelativeTime{Start: uint32(in / time.Second), Duration: uint32(length / time.Second)}}
		return p.String(), nil
	}
	from, until := start.Unix(), end.Unix()
	if end.Nanosecond() > 0 {
		until++
	}
	if from >= until || until <= now.Unix() {
		return "", cli.Usagef("from %s until %s: expected an end after the start, and after now", stamp(start), stamp(end))
	}
	p := qspec.Params{Has: qspec.SetOf(qspec.AbsoluteTimeID), Absolute: []qspec.Interval{{Start: from, End: until}}}
	if w := c.String("window"); w != "" {
		weekly, err := qspec.ParseParams("when=" + w)
		if err != nil || weekly.Relative.Kind != qspec.Weekly {
			return "", cli.Usagef("--window %q: expected days, the start of the window with its offset from UTC, and its length, as in mon-fri/08:00+01:00/10h", w)
		}
		p.Has |= weekly.Has
		p.Relative = weekly.Relative
	}
	return p.String(), nil
}

// instant reads RFC 3339, or +DURATION from now.
func instant(text string, now time.Time) (time.Time, error) {
	if d, ok := strings.CutPrefix(text, "+"); ok {
		length, err := time.ParseDuration(d)
		if err != nil || length < 0 {
			return now, fmt.Errorf("%q: expected a duration after the +, e.g. +10m", text)
		}
		return now.Add(length), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return now, fmt.Errorf("%q: expected a time such as %s, or +10m from now", text, stamp(now))
	}
	return t, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
