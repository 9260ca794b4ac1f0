package qspec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/interqos/interqos/internal/suggest"
)

// TextError says where a text, or JSON, is wrong, and what was probably meant.
type TextError struct {
	Pos        int    // octets from the start of the text
	Word       string // what stands there
	Suggestion string // "" if there is none
	Err        error
}

func (e *TextError) Error() string {
	s := fmt.Sprintf("at octet %d, %q: %v", e.Pos, e.Word, e.Err)
	if e.Suggestion != "" {
		s += "; did you mean " + e.Suggestion + "?"
	}
	return s
}

func (e *TextError) Unwrap() error { return e.Err }

// part is a piece of a text, which knows where it stands.
type part struct {
	s  string
	at int
}

// fail is an error at this part; one that knows better where it is stays.
func (x part) fail(err error) error {
	var e *TextError
	if err == nil || errors.As(err, &e) {
		return err
	}
	const longest = 40
	w := x.s
	if len(w) > longest {
		w = strings.ToValidUTF8(w[:longest], "") + "…"
	}
	return &TextError{Pos: x.at, Word: w, Err: err}
}

// unknown is fail with the nearest of the names that there are.
func (x part) unknown(what, name string, names []string) error {
	e := &TextError{Pos: x.at, Word: name, Suggestion: suggest.Nearest(name, names),
		Err: fmt.Errorf("unknown %s; expected one of %s", what, strings.Join(names, ", "))}
	return e
}

// cut splits at the first sep.
func (x part) cut(sep string) (before, after part, ok bool) {
	i := strings.Index(x.s, sep)
	if i < 0 {
		return x, part{"", x.at + len(x.s)}, false
	}
	return part{x.s[:i], x.at}, part{x.s[i+len(sep):], x.at + i + len(sep)}, true
}

func (x part) trim() part {
	s := strings.TrimLeft(x.s, spaces)
	return part{strings.TrimRight(s, spaces), x.at + len(x.s) - len(s)}
}

const spaces = " \t\r\n"

// word splits off what stands before the next space.
func (x part) word() (word, rest part) {
	x = x.trim()
	i := strings.IndexAny(x.s, spaces)
	if i < 0 {
		i = len(x.s)
	}
	return part{x.s[:i], x.at}, part{x.s[i:], x.at + i}
}

// ParseText reads what String writes. Parameters alone, without an object
// around them, become the request that Request makes of them. An error is a
// *TextError. A whole QSPEC has passed no Check.
func ParseText(s string) (QSPEC, error) {
	whole := part{s, 0}.trim()
	role, rest := whole.word()
	if role.s != "initiator" && role.s != "local" {
		p, err := parseParams(whole, QoSDesired)
		if err != nil {
			return QSPEC{}, err
		}
		q := Request(p)
		return q, whole.fail(q.Check(InReserve))
	}
	q, err := parseWhole(role, rest)
	if err != nil {
		return QSPEC{}, err
	}
	return q, nil
}

// Request makes the Initiator QSPEC of a RESERVE out of what is desired: object
// combination 0. Bounds on what accumulates no node can check alone (RFC 5975
// §3.3.2): with such ones it is combination 2, with QoS Available to collect
// them in and Minimum QoS to hold it against; all else stays all or nothing.
func Request(p Params) QSPEC {
	q := QSPEC{Desired: p}
	if bounds := p.Has & cumulative; bounds != 0 {
		q.Combination = 2
		q.Available.seed(&p, bounds)
		q.Minimum.copyFrom(&p, bounds)
	}
	return q
}

func parseWhole(role, rest part) (QSPEC, error) {
	q := QSPEC{Local: role.s == "local"}
	for rest = rest.trim(); rest.s != ""; rest = rest.trim() {
		var err error
		if rest, err = q.parseClause(rest); err != nil {
			return q, err
		}
	}
	return q, nil
}

// parseClause reads one of name=value, object{…} and encapsulated[…].
func (q *QSPEC) parseClause(x part) (rest part, err error) {
	word, rest := x.word()
	name, body, ok := x.cut("{")
	if ok && len(name.s) < len(word.s) {
		body, rest, ok := body.cut("}")
		if !ok {
			return rest, name.fail(errors.New("its { is not closed"))
		}
		return rest, q.parseObjectText(name, body)
	}
	name, body, ok = x.cut("[")
	if !ok || len(name.s) >= len(word.s) {
		return rest, q.parseHeaderText(word)
	}
	body, rest, ok = body.cut("]")
	switch {
	case name.s != "encapsulated":
		return rest, name.unknown("word", name.s, []string{"encapsulated"})
	case !ok:
		return rest, name.fail(errors.New("its [ is not closed"))
	case !q.Local:
		return rest, name.fail(errors.New("an Initiator QSPEC encapsulates nothing; expected local at the start"))
	case q.Encapsulated != nil:
		return rest, name.fail(errDuplicate)
	}
	q.Encapsulated, err = parseEncapsulatedText(body)
	return rest, err
}

func parseEncapsulatedText(x part) ([]byte, error) {
	role, rest := x.word()
	if role.s == "initiator" {
		inner, err := parseWhole(role, rest)
		if err != nil {
			return nil, err
		}
		return inner.Append(nil), nil
	}
	b, err := parseHex(x.s)
	if err == nil {
		err = checkEncapsulated(b)
	}
	return b, x.fail(err)
}

func (q *QSPEC) parseObjectText(name, body part) error {
	plain, failed := strings.CutSuffix(name.s, "!E")
	t, err := objectNamed(part{plain, name.at})
	if err != nil {
		return err
	}
	p, err := parseParams(body, t)
	switch {
	case err != nil:
		return err
	case !q.Object(t).Empty():
		return name.fail(errDuplicate)
	case p.Empty():
		return name.fail(errEmpty)
	}
	p.ObjectFailed = failed
	*q.Object(t) = p
	return nil
}

func objectNamed(x part) (ObjectType, error) {
	for t, n := range objectNames {
		if n == x.s {
			return ObjectType(t), nil
		}
	}
	return NoObject, x.unknown("object", x.s, objectNames[:])
}

func (q *QSPEC) parseHeaderText(word part) error {
	name, value, _ := word.cut("=")
	switch name.s {
	case "type":
		v, err := parseUints(value.s, 31)
		if err != nil {
			return value.fail(err)
		}
		q.Type = Type(v[0])
	case "proc":
		v, err := parseUints(value.s, 15, 15)
		if err != nil {
			return value.fail(err)
		}
		q.Sequence, q.Combination = MessageSequence(v[0]), uint8(v[1])
	default:
		return name.unknown("word", name.s, append([]string{"type", "proc", "encapsulated"}, objectNames[:]...))
	}
	return nil
}

// ParseParams reads parameters such as "tmod=20M/64k class=EF", in any order. An
// error is a *TextError.
func ParseParams(s string) (Params, error) { return parseParams(part{s, 0}, NoObject) }

func parseParams(x part, t ObjectType) (Params, error) {
	var p Params
	for {
		var word part
		if word, x = x.word(); word.s == "" {
			return p, nil
		}
		if err := p.parseWord(word, t); err != nil {
			return Params{}, err
		}
	}
}

func (p *Params) parseWord(word part, t ObjectType) error {
	name, value, ok := word.cut("=")
	if !ok {
		return word.fail(errors.New("not a parameter; expected name=value"))
	}
	plain, bound := strings.CutSuffix(name.s, "<")
	name.s = plain
	value, flags, _ := value.cut("!")
	m, e, n, err := parseFlags(flags.s)
	if err != nil {
		return flags.fail(err)
	}
	id, err := p.named(name)
	if err != nil {
		return err
	}
	if bound && (!cumulative.Has(id) || t != NoObject && !isBound(t, id)) {
		return word.fail(fmt.Errorf("<= is for bounds on what accumulates, in QoS Desired and Minimum QoS; expected %s=", name.s))
	}
	if bitOf(id) < 0 {
		v, err := parseHex(value.s)
		p.Extra = append(p.Extra, RawParam{ID: id, Must: m, Failed: e, Unsupported: n, Value: v})
		return value.fail(err)
	}
	p.put(id, m, e, n)
	if err := p.parseValueText(id, value.s); err != nil {
		return value.fail(err)
	}
	return value.fail(p.checkValue(t, id))
}

// put adds a parameter with its flags.
func (p *Params) put(id ParameterID, m, e, n bool) {
	mask := maskOf(id)
	p.Has |= mask
	if m || id == TMOD1ID {
		p.Must |= mask
	}
	if e {
		p.Failed |= mask
	}
	if n && id != TMOD1ID {
		p.Unsupported |= mask
	}
}

// named returns the parameter of this name, or number if it is an unknown one,
// that p has not yet.
func (p *Params) named(name part) (ParameterID, error) {
	for bit, known := range textNames {
		if known == name.s && known != "" {
			if p.Has&(1<<bit) != 0 {
				return 0, name.fail(errDuplicate)
			}
			return paramTable[bit].id, nil
		}
	}
	v, err := strconv.ParseUint(name.s, 10, 12)
	id := ParameterID(v)
	if err != nil || bitOf(id) >= 0 {
		return 0, name.unknown("parameter", name.s, parameterNames())
	}
	for _, x := range p.Extra {
		if x.ID == id {
			return 0, name.fail(errDuplicate)
		}
	}
	return id, nil
}

func parameterNames() []string {
	var names []string
	for _, n := range textNames {
		if n != "" {
			names = append(names, n)
		}
	}
	return names
}

func parseFlags(s string) (m, e, n bool, err error) {
	if s == "" {
		return
	}
	for f := range strings.SplitSeq(s, "!") {
		switch f {
		case "M":
			m = true
		case "E":
			e = true
		case "N":
			n = true
		default:
			err = fmt.Errorf("unknown flag; expected M, E or N")
		}
	}
	return
}

func (p *Params) parseValueText(id ParameterID, s string) (err error) {
	var v []uint64
	switch id {
	case TMOD1ID:
		p.TMOD1, err = parseTMODText(s)
	case TMOD2ID:
		p.TMOD2, err = parseTMODText(s)
	case PathLatencyID:
		p.PathLatency, err = parseMicros(s)
	case PathJitterID:
		p.PathJitter, err = parseJitterText(s)
	case PathPLRID:
		p.PathPLR, err = parseRatioText(s)
	case PathPERID:
		p.PathPER, err = parseRatioText(s)
	case SlackTermID:
		p.SlackTerm, err = parseMicros(s)
	case PreemptionID:
		if v, err = parseUints(s, 1<<16-1, 1<<16-1); err == nil {
			p.Preemption = Preemption{uint16(v[0]), uint16(v[1])}
		}
	case AdmissionID:
		if v, err = parseUints(s, 255, 255); err == nil {
			p.Admission = Admission{uint8(v[0]), uint8(v[1])}
		}
	case RPHID:
		if v, err = parseUints(s, 1<<16-1, 255); err == nil {
			p.RPH = RPH{uint16(v[0]), uint8(v[1])}
		}
	case ExcessID:
		p.Excess, err = parseExcessText(s)
	case PHBClassID:
		p.PHB, err = parsePHBText(s)
	case DSTEClassID:
		p.DSTE, err = parseU8(s)
	case Y1541ClassID:
		p.Y1541, err = parseU8(s)
	case TMODExtID:
		p.PeakBucket, err = parseOctetsText(s)
	case RestorationID:
		if v, err = parseUints(s, 255, 15, 15); err == nil {
			p.Restoration = Restoration{uint8(v[0]), uint8(v[1]), uint8(v[2])}
		}
	case EgressID:
		p.Egress, err = parseBorderText(s)
	case IngressID:
		p.Ingress, err = parseBorderText(s)
	case AbsoluteTimeID:
		p.Absolute, err = parseIntervalsText(s)
	case RelativeTimeID:
		p.Relative, err = parseRelativeText(s)
	}
	return err
}

func parseTMODText(s string) (TMOD, error) {
	t := TMOD{Peak: infinity, Unit: DefaultUnit, MPS: DefaultMPS}
	words := strings.Split(s, "/")
	if len(words) < 2 || len(words) > 5 {
		return t, fmt.Errorf("%q: expected rate/bucket[/peak rate[/minimum policed unit[/maximum packet size]]]", s)
	}
	for i, w := range words {
		if i == 2 && w == "inf" {
			continue
		}
		v, err := parseQuantity(w)
		if err != nil {
			return t, err
		}
		switch i {
		case 0:
			t.Rate = roundUp32(v / 8)
		case 1:
			t.Bucket = roundUp32(v)
		case 2:
			t.Peak = roundUp32(v / 8)
		default:
			if v > 1<<32-1 || v != float64(uint32(v)) {
				return t, fmt.Errorf("%q is not a whole number of 32 bits", w)
			}
			if i == 3 {
				t.Unit = uint32(v)
			} else {
				t.MPS = uint32(v)
			}
		}
	}
	return t, nil
}

// parseOctetsText reads what octetsText writes.
func parseOctetsText(s string) (float32, error) {
	if s == "inf" {
		return infinity, nil
	}
	v, err := parseQuantity(s)
	return roundUp32(v), err
}

func parseExcessText(s string) (Excess, error) {
	name, dscp, remark := strings.Cut(s, "/")
	var e Excess
	if remark {
		d, err := ParseDSCP(dscp)
		if err != nil {
			return e, err
		}
		e.Remark = d
	}
	for i, n := range excessNames {
		if n == name {
			e.Treatment = ExcessTreatment(i)
			if e.Treatment == ExcessRemark && !remark {
				return e, errors.New("without the class to re-mark to; expected remark/DSCP")
			}
			return e, nil
		}
	}
	v, err := parseU8(name)
	if err != nil {
		return e, fmt.Errorf("%q is not an excess treatment; expected drop, shape, remark/DSCP, nometer or a number", name)
	}
	e.Treatment = ExcessTreatment(v)
	return e, nil
}

func parseBorderText(s string) (BorderID, error) {
	as, addr, ok := strings.Cut(s, "@")
	v, err := parseU32(as)
	if err != nil || !ok {
		return BorderID{}, fmt.Errorf("%q is not a border; expected AS@address", s)
	}
	a, err := parseAddrText(addr)
	return BorderID{v, a}, err
}

// parseUints reads as many numbers as there are limits, with slashes between.
func parseUints(s string, limits ...uint64) ([]uint64, error) {
	words := strings.Split(s, "/")
	if len(words) != len(limits) {
		return nil, fmt.Errorf("%q: expected %d numbers with / between them", s, len(limits))
	}
	out := make([]uint64, len(words))
	for i, w := range words {
		v, err := strconv.ParseUint(w, 10, 64)
		if err != nil || v > limits[i] {
			return nil, fmt.Errorf("%q: expected a number from 0 to %d", w, limits[i])
		}
		out[i] = v
	}
	return out, nil
}

func parseU32(s string) (uint32, error) {
	v, err := parseUints(s, 1<<32-1)
	if err != nil {
		return 0, err
	}
	return uint32(v[0]), nil
}

func parseU8(s string) (uint8, error) {
	v, err := parseUints(s, 255)
	if err != nil {
		return 0, err
	}
	return uint8(v[0]), nil
}

func parseRatioText(s string) (float32, error) {
	v, err := strconv.ParseFloat(s, 32)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q is not a ratio; expected 0 to 1", s)
	}
	return float32(v), nil
}

func parseAddrText(s string) (netip.Addr, error) {
	if s == "-" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() != "" {
		return a, fmt.Errorf("%q has a zone", s)
	}
	return a, err
}

func parseHex(s string) ([]byte, error) {
	v, err := hex.DecodeString(s)
	if err == nil && len(v)%4 != 0 {
		err = fmt.Errorf("%d octets, want whole words of four", len(v))
	}
	return v, err
}
