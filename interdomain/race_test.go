//go:build race

package interdomain

const raceEnabled = true
