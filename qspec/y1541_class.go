package qspec

// RFC 5975 §5.2.14, Y.1541 QoS Class, with the arithmetic of RFC 5976.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           14          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Y.1541 QoS Cls.|                (Reserved)                     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// maxY1541Class is the highest class allowed.
const maxY1541Class = 7

func parseY1541Class(v []byte) uint8 { return v[0] }

func appendY1541Class(b []byte, c uint8) []byte { return append(b, c, 0, 0, 0) }

// Objectives are the bounds of a Y.1541 class, end to end. Indeterminate and
// IndeterminateRatio: the class does not bound it.
type Objectives struct {
	Latency  uint32  // mean, microseconds
	Jitter   uint32  // 99.9 % quantile above the minimum, microseconds
	PLR, PER float32 // ratios
}

// y1541Classes is RFC 5976 §2.1. It has no error ratios: those are of Y.1541,
// tables 1 and 3.
var y1541Classes = [maxY1541Class + 1]Objectives{
	0: {100_000, 50_000, 1e-3, 1e-4},
	1: {400_000, 50_000, 1e-3, 1e-4},
	2: {100_000, Indeterminate, 1e-3, 1e-4},
	3: {400_000, Indeterminate, 1e-3, 1e-4},
	4: {1_000_000, Indeterminate, 1e-3, 1e-4},
	5: {Indeterminate, Indeterminate, IndeterminateRatio, IndeterminateRatio},
	6: {100_000, 50_000, 1e-5, 1e-6},
	7: {400_000, 50_000, 1e-5, 1e-6},
}

// unspecifiedY1541 is the class that bounds nothing.
const unspecifiedY1541 = 5

// Y1541Objectives returns the bounds of a class, false for one that there is
// not.
func Y1541Objectives(class uint8) (Objectives, bool) {
	if class > maxY1541Class {
		return Objectives{}, false
	}
	return y1541Classes[class], true
}

// Meets says whether what has the bounds o keeps those of want.
func (o Objectives) Meets(want Objectives) bool {
	return o.Latency <= want.Latency && o.Jitter <= want.Jitter && o.PLR <= want.PLR && o.PER <= want.PER
}

func (o Objectives) loosest(x Objectives) Objectives {
	return Objectives{max(o.Latency, x.Latency), max(o.Jitter, x.Jitter), max(o.PLR, x.PLR), max(o.PER, x.PER)}
}

// Y1541Of returns the tightest class whose bounds a path with these values
// keeps; class 5 always does. There is one: the bounds of the classes are closed
// under their minimum.
func Y1541Of(path Objectives) uint8 {
	best := uint8(unspecifiedY1541)
	for c := range y1541Classes {
		if path.Meets(y1541Classes[c]) && y1541Classes[c].Meets(y1541Classes[best]) {
			best = uint8(c)
		}
	}
	return best
}

// Y1541Meets says whether class have keeps every bound of class need. The order
// is partial: class 1 and class 2 keep each other's bounds neither way.
func Y1541Meets(have, need uint8) bool {
	if have > maxY1541Class || need > maxY1541Class {
		return have == need
	}
	return y1541Classes[have].Meets(y1541Classes[need])
}

// commonY1541 is the tightest class that both keep.
func commonY1541(a, b uint8) uint8 {
	if a > maxY1541Class || b > maxY1541Class {
		return unspecifiedY1541
	}
	return Y1541Of(y1541Classes[a].loosest(y1541Classes[b]))
}

// lowerY1541 lowers the class in QoS Available to what the accumulated values
// still keep: with 150 ms "Class 0 cannot be achieved, and Class 1 is available"
// (RFC 5976 §4.4). What is not accumulated here does not count.
func (p *Params) lowerY1541() {
	if !p.Has.Has(Y1541ClassID) || p.Y1541 > maxY1541Class {
		return
	}
	path := y1541Classes[p.Y1541]
	if p.Has.Has(PathLatencyID) {
		path.Latency = max(path.Latency, p.PathLatency)
	}
	if p.Has.Has(PathJitterID) {
		path.Jitter = max(path.Jitter, p.PathJitter.P999)
	}
	if p.Has.Has(PathPLRID) {
		path.PLR = max(path.PLR, p.PathPLR)
	}
	if p.Has.Has(PathPERID) {
		path.PER = max(path.PER, p.PathPER)
	}
	p.Y1541 = Y1541Of(path)
}

// Y1541PHB returns the PHB that RFC 5976 §2.1 suggests for a class: EF for 0 and 1,
// assured forwarding for 2 to 4 (there it does not say which: ours is the higher
// group for the shorter delay), the default for 5; false for 6 and 7, of which
// it says nothing.
func Y1541PHB(class uint8) (PHBClass, bool) {
	switch class {
	case 0, 1:
		return PHB(DSCPEF), true
	case 2:
		return PHBSet(26), true // AF31
	case 3:
		return PHBSet(18), true // AF21
	case 4:
		return PHBSet(10), true // AF11
	case unspecifiedY1541:
		return PHB(DSCPDefault), true
	}
	return 0, false
}
