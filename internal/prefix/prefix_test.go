package prefix

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func TestHalves(t *testing.T) {
	for _, c := range [][3]string{
		{"0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"},
		{"10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9"},
		{"10.0.0.2/31", "10.0.0.2/32", "10.0.0.3/32"},
		{"::/0", "::/1", "8000::/1"},
		{"2001:db8::/32", "2001:db8::/33", "2001:db8:8000::/33"},
		{"2001:db8::2/127", "2001:db8::2/128", "2001:db8::3/128"},
	} {
		low, high := Halves(netip.MustParsePrefix(c[0]))
		if low.String() != c[1] || high.String() != c[2] {
			t.Errorf("%s: %v and %v, want %s and %s", c[0], low, high, c[1], c[2])
		}
	}
}

// within says whether one of these is in p, and smaller.
func within(all []netip.Prefix) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool {
		return slices.ContainsFunc(all, func(q netip.Prefix) bool { return p.Contains(q.Addr()) && q.Bits() > p.Bits() })
	}
}

func TestEvery(t *testing.T) {
	routes := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.128.0.0/9")}
	var asked []string
	ask := func(p netip.Prefix) (bool, error) {
		asked = append(asked, p.String())
		return p.String() != "10.64.0.0/10", nil
	}
	for _, c := range []struct {
		p     string
		want  bool
		asked int
	}{
		{"10.1.2.3/32", true, 1},
		{"10.1.0.0/16", true, 1},
		{"10.1.77.0/20", true, 1}, // with bits below its length
		{"10.0.0.0/15", true, 2},
		{"10.0.0.0/10", true, 7}, // 10.0/16, 10.1/16, 10.2/15 … 10.32/11
		{"10.0.0.0/8", false, 8}, // and 10.64/10, where it ends
		{"192.0.2.0/24", true, 1},
	} {
		asked = nil
		got, err := Every(netip.MustParsePrefix(c.p), 100, within(routes), ask)
		if err != nil || got != c.want || len(asked) != c.asked {
			t.Errorf("%s: %v, %v, asked about %v; want %v after %d", c.p, got, err, asked, c.want, c.asked)
		}
	}
	if _, err := Every(netip.MustParsePrefix("10.0.0.0/10"), 6, within(routes), ask); !errors.Is(err, ErrRegions) {
		t.Errorf("7 parts of 6: %v", err)
	}
	broken := errors.New("broken")
	calls := 0
	_, err := Every(netip.MustParsePrefix("10.0.0.0/8"), 100, within(routes), func(netip.Prefix) (bool, error) { calls++; return true, broken })
	if !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
