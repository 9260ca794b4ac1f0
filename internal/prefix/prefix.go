// Package prefix has what is asked of whole ranges of addresses.
package prefix

import (
	"errors"
	"net/netip"
)

// Halves splits a prefix, which must be masked and of more than one address.
func Halves(p netip.Prefix) (low, high netip.Prefix) {
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}

// ErrRegions is what Every says of a range with too many regions.
var ErrRegions = errors.New("the range of addresses has too many parts")

// Every says whether check holds for all of p. It splits p, and again, as long as
// divided says that a part has a smaller prefix in it, and asks check about what
// remains; after most such parts it gives up with ErrRegions. An error of check
// ends it. p must be valid.
func Every(p netip.Prefix, most int, divided func(netip.Prefix) bool, check func(netip.Prefix) (bool, error)) (bool, error) {
	e := every{left: most, divided: divided, check: check}
	return e.holds(p.Masked())
}

type every struct {
	left    int
	divided func(netip.Prefix) bool
	check   func(netip.Prefix) (bool, error)
}

func (e *every) holds(p netip.Prefix) (bool, error) {
	if !p.IsSingleIP() && e.divided(p) {
		low, high := Halves(p)
		if ok, err := e.holds(low); !ok || err != nil {
			return false, err
		}
		return e.holds(high)
	}
	if e.left--; e.left < 0 {
		return false, ErrRegions
	}
	return e.check(p)
}
