// Package suggest finds what somebody may have meant.
package suggest

import "math"

// Hint says "did you mean x?" of the nearest of some words, or nothing where
// none is near.
func Hint(found string, words []string) string {
	if best := Nearest(found, words); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

// Nearest returns the nearest of some words; empty where none is near.
func Nearest(found string, words []string) string {
	best, distance := "", len(found)/3+2
	for _, word := range words {
		if d := editDistance(found, word); d < distance {
			best, distance = word, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements of octets
// that make b of a; of long words it only says that they are far apart.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return math.MaxInt32
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
