package qspec

import (
	"encoding/binary"
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// Relative Time Specification (259), interdomain-qosm §2.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|          259          |r|r|r|r|          3            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Kind      |    Days     |R|  UTC offset, minutes (signed) |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                             start                             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                            duration                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

const relativeTimeWords = 3

const secondsPerDay = 86400

// RelativeKind says how a RelativeTime is meant.
type RelativeKind uint8

// Kinds of Relative Time Specifications.
const (
	FromRequest RelativeKind = 0 // Start seconds after the request, Duration long
	Weekly      RelativeKind = 1 // on Days at second Start of the local day
)

// RelativeTime is a Relative Time Specification. Bit 6 of Days is Monday, bit 0
// Sunday.
type RelativeTime struct {
	Kind      RelativeKind
	Days      uint8
	UTCOffset int16  // minutes
	Start     uint32 // seconds
	Duration  uint32 // seconds
}

func (t *RelativeTime) parse(v []byte) error {
	t.Kind, t.Days = RelativeKind(v[0]), v[1]>>1
	t.UTCOffset = int16(binary.BigEndian.Uint16(v[2:]))
	t.Start, t.Duration = binary.BigEndian.Uint32(v[4:]), binary.BigEndian.Uint32(v[8:])
	return t.check()
}

func (t *RelativeTime) check() error {
	switch {
	case t.Kind > Weekly:
		return fmt.Errorf("kind %d, want 0 or 1", t.Kind)
	case t.Duration == 0:
		return fmt.Errorf("duration 0, want at least a second")
	case t.Kind == FromRequest && (t.Days != 0 || t.UTCOffset != 0):
		return fmt.Errorf("days %#x and UTC offset %d in kind 0, want 0", t.Days, t.UTCOffset)
	case t.Kind == Weekly && t.Days == 0:
		return fmt.Errorf("a weekly window without a day")
	case t.Kind == Weekly && (t.Start >= secondsPerDay || t.Duration > 7*secondsPerDay):
		return fmt.Errorf("weekly window from second %d for %d s, want a start within the day and at most a week", t.Start, t.Duration)
	}
	return nil
}

func (t *RelativeTime) append(b []byte) []byte {
	b = append(b, uint8(t.Kind), t.Days<<1)
	b = tlv.AppendU16(b, uint16(t.UTCOffset))
	b = tlv.AppendU32(b, t.Start)
	return tlv.AppendU32(b, t.Duration)
}

// Resolve turns a time of kind FromRequest into an interval, for a request made
// at this second since 1970 (the first QNE does this).
func (t *RelativeTime) Resolve(request int64) (Interval, error) {
	if t.Kind != FromRequest {
		return Interval{}, fmt.Errorf("relative time of kind %d has no single interval", t.Kind)
	}
	start := min(max(request, -farthest), farthest) + int64(t.Start)
	return Interval{start, start + int64(t.Duration)}, nil
}

// farthest bounds the times that weekly windows are looked for in, so that no
// arithmetic overflows: more than 10^11 years.
const farthest int64 = 1 << 62

// next returns the first occurrence of a weekly window that ends after this
// second, false if there is none within reach.
func (t *RelativeTime) next(after int64) (Interval, bool) {
	if after > farthest || t.Kind != Weekly {
		return Interval{}, false
	}
	after = max(after, -farthest)
	offset := 60 * int64(t.UTCOffset)
	today := floorDiv(after+offset, secondsPerDay)
	for day := today - 8; day <= today+8; day++ {
		weekday := floorMod(day+3, 7) // 1970-01-01 was a Thursday
		if t.Days>>(6-weekday)&1 == 0 {
			continue
		}
		start := day*secondsPerDay - offset + int64(t.Start)
		if x := (Interval{start, start + int64(t.Duration)}); x.End > after {
			return x, true
		}
	}
	return Interval{}, false
}

func floorDiv(a, b int64) int64 {
	d := a / b
	if a%b < 0 {
		d--
	}
	return d
}

func floorMod(a, b int64) int64 { return a - b*floorDiv(a, b) }

// Windows returns the first occurrences of a weekly window within the sorted
// intervals, cut to them, those that touch being one: at most limit. It takes no
// more steps than weekdays times limit, however long the intervals are.
func (t *RelativeTime) Windows(within []Interval, limit int) []Interval {
	var out []Interval
	for _, in := range within {
		for at := in.Start; at < in.End; {
			x, ok := t.next(at)
			if !ok || x.Start >= in.End {
				break
			}
			x = Interval{max(x.Start, at), min(x.End, in.End)}
			at = x.End
			if n := len(out); n > 0 && out[n-1].End == x.Start {
				out[n-1].End = x.End
				if x.End-out[n-1].Start > 8*secondsPerDay { // a whole week has no gap: nor has any other
					out[n-1].End, at = in.End, in.End
				}
				continue
			}
			if len(out) == limit {
				return out
			}
			out = append(out, x)
		}
	}
	return out
}

// meets says whether the weekly window occurs in any of the intervals.
func (t *RelativeTime) meets(list []Interval) bool {
	for _, in := range list {
		if x, ok := t.next(in.Start); ok && x.Start < in.End {
			return true
		}
	}
	return false
}

// weekly says whether the Absolute Time Specification holds in weekly windows only.
func (p *Params) weekly() bool {
	return p.Has&(absoluteTimeBit|relativeTimeBit) == absoluteTimeBit|relativeTimeBit && p.Relative.Kind == Weekly
}

// occursIn says whether anything of p's times is in the intervals.
func (p *Params) occursIn(list []Interval) bool {
	if p.weekly() {
		return p.Relative.meets(list)
	}
	return len(list) > 0
}

// timeCoveredBy says whether have covers p's times: all of its intervals or, with a
// weekly window, the occurrences in them.
func (p *Params) timeCoveredBy(have []Interval) bool {
	if !p.weekly() {
		return covers(have, p.Absolute)
	}
	return !p.Relative.meets(subtract(p.Absolute, have))
}

// ResolveTimes is the first QNE's part (interdomain-qosm §2): a time from the
// request on becomes an absolute one, in QoS Desired, QoS Available and Minimum
// QoS, for a request made at this second since 1970. Beside an Absolute Time
// Specification it is cut to that; nothing left fails with E.
func (q *QSPEC) ResolveTimes(request int64) error {
	for _, t := range [...]ObjectType{QoSDesired, QoSAvailable, MinimumQoS} {
		p := q.Object(t)
		if !p.Has.Has(RelativeTimeID) || p.Relative.Kind != FromRequest {
			continue
		}
		x, err := p.Relative.Resolve(request)
		if err != nil {
			return malformed(t, RelativeTimeID, err)
		}
		list := []Interval{x}
		if p.Has.Has(AbsoluteTimeID) {
			if list = Intersect(p.Absolute, list); len(list) == 0 {
				p.SetFailed(absoluteTimeBit | relativeTimeBit)
				return failure(t, RelativeTimeID, fmt.Errorf("[%d, %d) is outside the Absolute Time Specification beside it", x.Start, x.End))
			}
		}
		p.Absolute = list
		p.Must = p.Must&^relativeTimeBit | absoluteTimeBit // times have M=1
		p.Has = p.Has&^relativeTimeBit | absoluteTimeBit
		p.Failed &^= relativeTimeBit
		p.Unsupported &^= relativeTimeBit
		p.Relative = RelativeTime{}
	}
	return nil
}
