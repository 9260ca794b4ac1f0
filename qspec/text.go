package qspec

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// The text form, for people (docs/qspec.md has all of it). Parameters are written as
//
//	tmod=20M/64k/inf/64/1500 class=EF latency<=40ms excess=drop preempt=3/7
//	egress=65001@10.0.1.1 time=2026-12-01T08:00:00Z..2026-12-01T10:00:00Z
//
// TMOD is rate/bucket/peak rate/minimum policed unit/maximum packet size, rates
// in bit/s and sizes in octets, both with k, M, G, T for powers of 1000; what is
// left out at the end is not specified, 64 and 1500. A value may be followed by
// its flags: !M, !E, !N. A whole QSPEC is
//
//	initiator type=0 proc=0/0 desired{…} available{…} reserved{…} minimum{…}
//	local type=13 proc=0/2 desired{…} … encapsulated[initiator …]
//
// where !E after an object's name is its own E flag. In QoS Desired and Minimum QoS
// what accumulates is a bound, and is written with <=.

var objectNames = [...]string{QoSDesired: "desired", QoSAvailable: "available", QoSReserved: "reserved", MinimumQoS: "minimum"}

// textNames is indexed like paramTable.
var textNames = [21]string{1: "tmod", 2: "tmod2", 3: "latency", 4: "jitter", 5: "plr", 6: "per", 7: "slack",
	8: "preempt", 9: "admission", 10: "rph", 11: "excess", 12: "class", 13: "dste", 14: "y1541",
	15: "peakbucket", 16: "restore", 17: "egress", 18: "ingress", 19: "time", 20: "when"}

func (q QSPEC) String() string {
	var b strings.Builder
	role := "initiator"
	if q.Local {
		role = "local"
	}
	fmt.Fprintf(&b, "%s type=%d proc=%d/%d", role, q.Type, q.Sequence, q.Combination)
	for t := QoSDesired; t <= MinimumQoS; t++ {
		p := q.Object(t)
		if p.Empty() {
			continue
		}
		b.WriteByte(' ')
		b.WriteString(objectNames[t])
		if p.ObjectFailed {
			b.WriteString("!E")
		}
		b.WriteByte('{')
		b.WriteString(p.text(t))
		b.WriteByte('}')
	}
	if len(q.Encapsulated) != 0 {
		if inner, ok := q.plain(); ok {
			fmt.Fprintf(&b, " encapsulated[%s]", inner.String())
		} else {
			fmt.Fprintf(&b, " encapsulated[%x]", q.Encapsulated)
		}
	}
	return b.String()
}

// plain returns the encapsulated QSPEC if its words say all of its octets.
func (q *QSPEC) plain() (QSPEC, bool) {
	inner, err := Parse(q.Encapsulated)
	if err != nil || inner.Local || !bytes.Equal(inner.Append(nil), q.Encapsulated) {
		return QSPEC{}, false
	}
	return inner, true
}

// isBound says whether the parameter is a bound in this object, not a value.
func isBound(t ObjectType, id ParameterID) bool {
	return (t == QoSDesired || t == MinimumQoS) && cumulative.Has(id)
}

func (p Params) String() string { return p.text(NoObject) }

func (p *Params) text(t ObjectType) string {
	var words []string
	for s := p.Has & AllParams; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		mask := ParamSet(1) << bit
		is := "="
		if isBound(t, paramTable[bit].id) {
			is = "<="
		}
		flags := flagText(p.Must&mask != 0 && mask != 1<<TMOD1ID, p.Failed&mask != 0, p.Unsupported&mask != 0)
		words = append(words, textNames[bit]+is+p.valueText(paramTable[bit].id)+flags)
	}
	for _, x := range p.Extra {
		words = append(words, fmt.Sprintf("%d=%x%s", x.ID, x.Value, flagText(x.Must, x.Failed, x.Unsupported)))
	}
	return strings.Join(words, " ")
}

func flagText(m, e, n bool) string {
	s := ""
	for _, f := range [...]struct {
		on   bool
		text string
	}{{m, "!M"}, {e, "!E"}, {n, "!N"}} {
		if f.on {
			s += f.text
		}
	}
	return s
}

func (p *Params) valueText(id ParameterID) string {
	switch id {
	case TMOD1ID:
		return p.TMOD1.String()
	case TMOD2ID:
		return p.TMOD2.String()
	case PathLatencyID:
		return microsText(p.PathLatency)
	case PathJitterID:
		return p.PathJitter.String()
	case PathPLRID:
		return strconv.FormatFloat(float64(p.PathPLR), 'g', -1, 32)
	case PathPERID:
		return strconv.FormatFloat(float64(p.PathPER), 'g', -1, 32)
	case SlackTermID:
		return microsText(p.SlackTerm)
	case PreemptionID:
		return fmt.Sprintf("%d/%d", p.Preemption.Preempting, p.Preemption.Defending)
	case AdmissionID:
		return fmt.Sprintf("%d/%d", p.Admission.Y2171, p.Admission.Local)
	case RPHID:
		return fmt.Sprintf("%d/%d", p.RPH.Namespace, p.RPH.Priority)
	case ExcessID:
		return p.Excess.String()
	case PHBClassID:
		return p.PHB.String()
	case DSTEClassID:
		return strconv.Itoa(int(p.DSTE))
	case Y1541ClassID:
		return strconv.Itoa(int(p.Y1541))
	case TMODExtID:
		return octetsText(p.PeakBucket)
	case RestorationID:
		return fmt.Sprintf("%d/%d/%d", p.Restoration.Priority, p.Restoration.TimeToRestore, p.Restoration.Extent)
	case EgressID:
		return p.Egress.String()
	case IngressID:
		return p.Ingress.String()
	case AbsoluteTimeID:
		return intervalsText(p.Absolute)
	case RelativeTimeID:
		return p.Relative.String()
	}
	return ""
}

func (t TMOD) String() string {
	s := quantity(8*float64(t.Rate)) + "/" + quantity(float64(t.Bucket))
	if t.Peak == infinity && t.Unit == DefaultUnit && t.MPS == DefaultMPS {
		return s
	}
	peak := "inf"
	if t.Peak != infinity {
		peak = quantity(8 * float64(t.Peak))
	}
	return fmt.Sprintf("%s/%s/%d/%d", s, peak, t.Unit, t.MPS)
}

// octetsText writes a size in octets, inf for one that is not specified.
func octetsText(v float32) string {
	if v == infinity {
		return "inf"
	}
	return quantity(float64(v))
}

func (x BorderID) String() string {
	a := "-"
	if x.Addr.IsValid() {
		a = x.Addr.String()
	}
	return fmt.Sprintf("%d@%s", x.AS, a)
}

var excessNames = [...]string{"drop", "shape", "remark", "nometer"}

func (e Excess) String() string {
	s := strconv.Itoa(int(e.Treatment))
	if int(e.Treatment) < len(excessNames) {
		s = excessNames[e.Treatment]
	}
	if e.Treatment == ExcessRemark || e.Remark != 0 {
		s += "/" + strconv.Itoa(int(e.Remark))
	}
	return s
}

// dscpNames are the PHBs with a name: class selectors are csN, assured
// forwarding afXY.
var dscpNames = func() map[uint8]string {
	m := map[uint8]string{DSCPDefault: "BE", DSCPEF: "EF", 44: "VA"}
	for i := uint8(1); i < 8; i++ {
		m[i<<3] = fmt.Sprintf("CS%d", i)
	}
	for x := uint8(1); x < 5; x++ {
		for y := uint8(1); y < 4; y++ {
			m[x<<3|y<<1] = fmt.Sprintf("AF%d%d", x, y)
		}
	}
	return m
}()

// DSCPName returns the name of a PHB by its DSCP: "EF", "AF41", "CS3", "BE", or
// the number.
func DSCPName(dscp uint8) string {
	if s := dscpNames[dscp]; s != "" {
		return s
	}
	return strconv.Itoa(int(dscp))
}

// ParseDSCP reads what DSCPName writes, in any case, or a number from 0 to 63.
func ParseDSCP(s string) (uint8, error) {
	for d, name := range dscpNames {
		if strings.EqualFold(s, name) {
			return d, nil
		}
	}
	d, err := strconv.ParseUint(s, 10, 8)
	if err != nil || d > 63 {
		return 0, fmt.Errorf("%q is not a class; expected EF, AF11 to AF43, CS1 to CS7, VA, BE or a DSCP from 0 to 63", s)
	}
	return uint8(d), nil
}

// String writes a class: "EF", "AF11+" for the set that it belongs to, "phb:…" in
// hexadecimal for an experimental or local code.
func (c PHBClass) String() string {
	d, ok := c.DSCP()
	switch {
	case !ok:
		return fmt.Sprintf("phb:%04x", uint16(c))
	case c.IsSet():
		return DSCPName(d) + "+"
	}
	return DSCPName(d)
}

func parsePHBText(s string) (PHBClass, error) {
	if code, ok := strings.CutPrefix(s, "phb:"); ok {
		v, err := strconv.ParseUint(code, 16, 16)
		return PHBClass(v), err
	}
	name, set := strings.CutSuffix(s, "+")
	d, err := ParseDSCP(name)
	if set {
		return PHBSet(d), err
	}
	return PHB(d), err
}

var suffixes = [...]struct {
	s string
	f float64
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

// quantity writes v so that parseQuantity gives it back exactly.
func quantity(v float64) string {
	for _, x := range suffixes {
		s := strconv.FormatFloat(v/x.f, 'f', -1, 64)
		if back, err := strconv.ParseFloat(s, 64); err == nil && v >= x.f && len(s) <= 7 && back*x.f == v {
			return s + x.s
		}
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

func parseQuantity(s string) (float64, error) {
	factor := 1.0
	number := s
	for _, x := range suffixes {
		if rest, ok := strings.CutSuffix(s, x.s); ok {
			number, factor = rest, x.f
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%q is not a number; expected one like 1500, 64k, 20M or 1.5G", s)
	}
	return v * factor, nil
}

// roundUp32 is the smallest float32 that is at least v.
func roundUp32(v float64) float32 {
	f := float32(v)
	if float64(f) < v {
		f = math.Nextafter32(f, infinity)
	}
	return f
}
