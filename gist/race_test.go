//go:build race

package gist

const raceEnabled = true
