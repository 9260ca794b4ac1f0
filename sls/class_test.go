package sls

import "testing"

// "A PHB is named or is its DSCP": every name reads back, and so does every
// number. RFC 5975 §5.2.12, RFC 3140 §2, RFC 2474 §4.2.2, RFC 2597 §6,
// RFC 3246 §2.7
func TestClassNames(t *testing.T) {
	for c := range Class(64) {
		got, err := ParseClass(c.String())
		if err != nil || got != c {
			t.Errorf("%d is %q, which reads as %d, %v", uint8(c), c, got, err)
		}
	}
	for text, want := range map[string]Class{"ef": 46, "EF": 46, "af11": 10, "AF43": 38, "CS0": 0, "BE": 0, "be": 0, "cs7": 56, "46": 46, "63": 63, "5": 5} {
		if got, err := ParseClass(text); err != nil || got != want {
			t.Errorf("ParseClass(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "64", "-1", "AF", "AF14", "AF51", "CS8", "EF ", "0x2e", "256", "302"} {
		if got, err := ParseClass(text); err == nil {
			t.Errorf("ParseClass(%q) is %d; want an error", text, got)
		}
	}
}

// "The following values": drop, shape, re-mark, no metering.
// RFC 5975 §5.2.11
func TestExcessValues(t *testing.T) {
	for want, e := range []Excess{Drop, Shape, Remark, NoMetering} {
		if int(e) != want || e.String() != []string{"drop", "shape", "remark", "none"}[want] {
			t.Errorf("%s is %d, want %d", e, uint8(e), want)
		}
	}
}
