package qspec

import (
	"encoding/binary"
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// Absolute Time Specification (258), interdomain-qosm §2: one to eight
// intervals, sorted, disjoint.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|          258          |r|r|r|r|    Length, 4 n        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//      start, 64 bits, signed seconds since the epoch         //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//      end, 64 bits, > start                                  //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// MaxIntervals is how many intervals an Absolute Time Specification has at most.
const MaxIntervals = 8

// Interval is a span of time, [Start, End), in seconds since
// 1970-01-01T00:00:00Z.
type Interval struct{ Start, End int64 }

func parseAbsolute(to *[]Interval, v []byte) error {
	if len(v) == 0 || len(v)%16 != 0 || len(v) > 16*MaxIntervals {
		return fmt.Errorf("length %d words, want 4 words for each of 1 to %d intervals", len(v)/4, MaxIntervals)
	}
	list := make([]Interval, 0, len(v)/16)
	for ; len(v) > 0; v = v[16:] {
		list = append(list, Interval{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))})
	}
	*to = list
	return checkIntervals(list)
}

func checkIntervals(list []Interval) error {
	if len(list) == 0 || len(list) > MaxIntervals {
		return fmt.Errorf("%d intervals, want 1 to %d", len(list), MaxIntervals)
	}
	for i, x := range list {
		if x.Start >= x.End {
			return fmt.Errorf("interval %d ends at %d, not after its start %d", i+1, x.End, x.Start)
		}
		if i > 0 && x.Start < list[i-1].End {
			return fmt.Errorf("interval %d starts at %d, before the one before it ends", i+1, x.Start)
		}
	}
	return nil
}

func appendAbsolute(b []byte, list []Interval) []byte {
	for _, x := range list {
		b = tlv.AppendU64(b, uint64(x.Start))
		b = tlv.AppendU64(b, uint64(x.End))
	}
	return b
}

// Intersect returns the time that both sorted lists cover, nil for none. It
// writes to neither. More than MaxIntervals are cut off at the end: what is
// left is still covered by both.
func Intersect(a, b []Interval) []Interval {
	var out []Interval
	for len(a) > 0 && len(b) > 0 && len(out) < MaxIntervals {
		x := Interval{max(a[0].Start, b[0].Start), min(a[0].End, b[0].End)}
		if x.Start < x.End {
			out = append(out, x)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// covers says whether have covers all of want; touching intervals count as one.
func covers(have, want []Interval) bool {
	for _, w := range want {
		at := w.Start
		for _, h := range have {
			if h.Start <= at && at < h.End {
				at = h.End
			}
		}
		if at < w.End {
			return false
		}
	}
	return true
}

// subtract returns the time of a that b does not cover.
func subtract(a, b []Interval) []Interval {
	var out []Interval
	for _, x := range a {
		at := x.Start
		for _, y := range b {
			if y.Start > at && at < x.End {
				out = append(out, Interval{at, min(y.Start, x.End)})
			}
			at = max(at, y.End)
		}
		if at < x.End {
			out = append(out, Interval{at, x.End})
		}
	}
	return out
}
