package sls

import (
	"fmt"
	"strconv"
	"strings"
)

// Class is a class of service: the DSCP of its per-hop behaviour, 0 to 63. It
// is what the first six bits of a PHB Class parameter say for a PHB with a
// standard code point (RFC 5975 §5.2.12, RFC 3140 §2).
type Class uint8

// The standard classes (RFC 2474 §4.2.2, RFC 2597 §6, RFC 3246 §2.7).
const (
	BE   Class = 0
	CS1  Class = 8
	AF11 Class = 10
	AF12 Class = 12
	AF13 Class = 14
	CS2  Class = 16
	AF21 Class = 18
	AF22 Class = 20
	AF23 Class = 22
	CS3  Class = 24
	AF31 Class = 26
	AF32 Class = 28
	AF33 Class = 30
	CS4  Class = 32
	AF41 Class = 34
	AF42 Class = 36
	AF43 Class = 38
	CS5  Class = 40
	EF   Class = 46
	CS6  Class = 48
	CS7  Class = 56
)

// classNames is the one table of names; "" is a code point without a name.
var classNames = [64]string{
	BE: "BE", CS1: "CS1", AF11: "AF11", AF12: "AF12", AF13: "AF13",
	CS2: "CS2", AF21: "AF21", AF22: "AF22", AF23: "AF23",
	CS3: "CS3", AF31: "AF31", AF32: "AF32", AF33: "AF33",
	CS4: "CS4", AF41: "AF41", AF42: "AF42", AF43: "AF43",
	CS5: "CS5", EF: "EF", CS6: "CS6", CS7: "CS7",
}

// String returns the PHB's name, or the number of a code point without one.
func (c Class) String() string {
	if int(c) < len(classNames) && classNames[c] != "" {
		return classNames[c]
	}
	return strconv.Itoa(int(c))
}

const classForms = "EF, AF11 to AF43, CS0 to CS7, BE, or a DSCP from 0 to 63"

// ParseClass reads a PHB name in any case (EF, AF11 to AF43, CS0 to CS7, BE)
// or a DSCP, 0 to 63.
func ParseClass(s string) (Class, error) {
	if strings.EqualFold(s, "CS0") {
		return BE, nil
	}
	for c, name := range classNames {
		if name != "" && strings.EqualFold(s, name) {
			return Class(c), nil
		}
	}
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n < 64 {
		return Class(n), nil
	}
	return 0, fmt.Errorf("%q is not a class; expected "+classForms, s)
}
