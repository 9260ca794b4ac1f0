package suggest

import (
	"strings"
	"testing"
)

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"pathbd", "pathdb", 2}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestHint(t *testing.T) {
	words := []string{"reserve", "release", "list"}
	for found, want := range map[string]string{
		"reserv": "did you mean reserve?", "relaese": "did you mean release?", "lst": "did you mean list?",
		"frobnicate": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := Hint(found, words); got != want {
			t.Errorf("Hint(%.20q) = %q, want %q", found, got, want)
		}
	}
}
