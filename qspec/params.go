package qspec

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.1.2: every parameter has this header.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|     Parameter ID      |r|r|r|r|         Length        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

const (
	flagM = 1 << 31
	flagE = 1 << 30
	flagN = 1 << 29
)

// ParameterID names a QSPEC parameter, 12 bits.
type ParameterID uint16

// Parameters of RFC 5975 §7, of RFC 5976, and ours (experimental range, interdomain-qosm §1).
const (
	TMOD1ID        ParameterID = 1
	TMOD2ID        ParameterID = 2
	PathLatencyID  ParameterID = 3
	PathJitterID   ParameterID = 4
	PathPLRID      ParameterID = 5
	PathPERID      ParameterID = 6
	SlackTermID    ParameterID = 7
	PreemptionID   ParameterID = 8 // Preemption Priority and Defending Priority
	AdmissionID    ParameterID = 9
	RPHID          ParameterID = 10
	ExcessID       ParameterID = 11
	PHBClassID     ParameterID = 12
	DSTEClassID    ParameterID = 13
	Y1541ClassID   ParameterID = 14
	TMODExtID      ParameterID = 15 // RFC 5976 §3.1
	RestorationID  ParameterID = 16 // RFC 5976 §3.2
	EgressID       ParameterID = 256
	IngressID      ParameterID = 257
	AbsoluteTimeID ParameterID = 258
	RelativeTimeID ParameterID = 259
)

func (id ParameterID) String() string {
	if b := bitOf(id); b >= 0 && paramTable[b].name != "" {
		return paramTable[b].name
	}
	return fmt.Sprintf("parameter %d", uint16(id))
}

// param is what this package knows of one parameter. words is its fixed length,
// 0 where it varies.
type param struct {
	id    ParameterID
	name  string
	words int
}

// paramTable is indexed by the parameter's bit in a ParamSet.
var paramTable = [21]param{
	1:  {TMOD1ID, "TMOD-1", tmodWords},
	2:  {TMOD2ID, "TMOD-2", tmodWords},
	3:  {PathLatencyID, "Path Latency", 1},
	4:  {PathJitterID, "Path Jitter", pathJitterWords},
	5:  {PathPLRID, "Path PLR", 1},
	6:  {PathPERID, "Path PER", 1},
	7:  {SlackTermID, "Slack Term", 1},
	8:  {PreemptionID, "Preemption Priority", 1},
	9:  {AdmissionID, "Admission Priority", 1},
	10: {RPHID, "RPH Priority", 1},
	11: {ExcessID, "Excess Treatment", 1},
	12: {PHBClassID, "PHB Class", 1},
	13: {DSTEClassID, "DSTE Class Type", 1},
	14: {Y1541ClassID, "Y.1541 QoS Class", 1},
	15: {TMODExtID, "TMOD Extension", 1},
	16: {RestorationID, "Restoration Priority", 1},
	17: {EgressID, "Egress ID", 0},
	18: {IngressID, "Ingress ID", 0},
	19: {AbsoluteTimeID, "Absolute Time Specification", 0},
	20: {RelativeTimeID, "Relative Time Specification", relativeTimeWords},
}

// bitOf returns the parameter's bit, -1 for one that is not known here.
func bitOf(id ParameterID) int {
	switch {
	case id >= TMOD1ID && id <= RestorationID:
		return int(id)
	case id >= EgressID && id <= RelativeTimeID:
		return int(id-EgressID) + 17
	}
	return -1
}

// ParamSet is a set of the parameters that this package knows.
type ParamSet uint32

// AllParams is every parameter that this package knows.
const AllParams ParamSet = 0x001ffffe

// SetOf returns the set of these parameters; unknown ones are left out.
func SetOf(ids ...ParameterID) ParamSet {
	var s ParamSet
	for _, id := range ids {
		s |= maskOf(id)
	}
	return s
}

func maskOf(id ParameterID) ParamSet {
	if b := bitOf(id); b >= 0 {
		return 1 << b
	}
	return 0
}

// Has says whether the parameter is in s.
func (s ParamSet) Has(id ParameterID) bool { return s&maskOf(id) != 0 }

// IDs returns the parameters of s in ascending order.
func (s ParamSet) IDs() []ParameterID {
	var ids []ParameterID
	for ; s != 0; s &= s - 1 {
		ids = append(ids, paramTable[bits.TrailingZeros32(uint32(s))].id)
	}
	return ids
}

func (s ParamSet) String() string {
	var names []string
	for _, id := range s.IDs() {
		names = append(names, id.String())
	}
	return strings.Join(names, ", ")
}

// Params is the content of one QSPEC object. A value counts only if its
// parameter is in Has; the Set… methods see to both. The M flag of TMOD-1 is
// always set and its N flag never (RFC 5975 §5.2.1).
type Params struct {
	Has         ParamSet
	Must        ParamSet // M flags: must be interpreted
	Failed      ParamSet // E flags: could not be met, or is erroneous
	Unsupported ParamSet // N flags: somebody on the path did not understand it

	// ObjectFailed is the object's own E flag.
	ObjectFailed bool

	TMOD1, TMOD2     TMOD
	PathLatency      uint32 // microseconds; Indeterminate: not known
	PathJitter       PathJitter
	PathPLR, PathPER float32 // ratios, 0 to 1; IndeterminateRatio: not known
	SlackTerm        uint32  // microseconds
	Preemption       Preemption
	Admission        Admission
	RPH              RPH
	Excess           Excess
	PHB              PHBClass
	DSTE             uint8   // DSTE class type, 0 to 7
	Y1541            uint8   // Y.1541 QoS class, 0 to 7
	PeakBucket       float32 // the TMOD Extension: Bp, octets; +Inf: not specified
	Restoration      Restoration
	Egress, Ingress  BorderID
	Absolute         []Interval
	Relative         RelativeTime

	// Extra are the parameters that this package does not know, in the order
	// received.
	Extra []RawParam
}

// RawParam is a parameter that this package does not know.
type RawParam struct {
	ID                        ParameterID
	Must, Failed, Unsupported bool   // M, E, N
	Value                     []byte // a multiple of four octets
}

// Empty says whether there is no parameter.
func (p *Params) Empty() bool { return p.Has == 0 && len(p.Extra) == 0 }

// clone shares no list whose elements anybody changes.
func (p *Params) clone() Params {
	c := *p
	c.Extra = slices.Clone(p.Extra)
	return c
}

// words returns how long the object is on the wire, its header included.
func (p *Params) words() int {
	if p.Empty() {
		return 0
	}
	n := 1
	for s := p.Has & AllParams; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		n += 1 + paramTable[bit].words
		switch paramTable[bit].id {
		case EgressID:
			n += p.Egress.words()
		case IngressID:
			n += p.Ingress.words()
		case AbsoluteTimeID:
			n += 4 * len(p.Absolute)
		}
	}
	for i := range p.Extra {
		n += 1 + len(p.Extra[i].Value)/4
	}
	return n
}

// FailedAny says whether any E flag is set, the object's own included.
func (p *Params) FailedAny() bool {
	if p.ObjectFailed || p.Failed != 0 {
		return true
	}
	return slices.ContainsFunc(p.Extra, func(x RawParam) bool { return x.Failed })
}

// SetFailed raises the E flags of those parameters of s that are present, and
// the object's (RFC 5975 §4.2.1).
func (p *Params) SetFailed(s ParamSet) {
	p.Failed |= s & p.Has
	p.ObjectFailed = true
}

// parse reads the parameters of an object; b is its value and nothing else. It
// is the hottest loop of the codec, and b is sliced by hand instead of through
// a tlv.Reader.
func (p *Params) parse(t ObjectType, b []byte) error {
	for len(b) > 0 {
		h := binary.BigEndian.Uint32(b) // b is whole words
		id := ParameterID(h >> 16 & 0x0fff)
		n := 4 * int(h&maxWords)
		b = b[4:]
		if n > len(b) {
			return malformed(t, id, fmt.Errorf("want %d octets, have %d: %w", n, len(b), tlv.ErrTruncated))
		}
		v := b[:n:n]
		b = b[n:]
		bit := bitOf(id)
		if bit < 0 {
			if err := p.addRaw(t, id, h, v); err != nil {
				return err
			}
			continue
		}
		mask := ParamSet(1) << bit
		if p.Has&mask != 0 {
			return malformed(t, id, errDuplicate)
		}
		if want := paramTable[bit].words; want != 0 && n != 4*want {
			return malformed(t, id, fmt.Errorf("length %d words, want %d", n/4, want))
		}
		if err := p.parseValue(t, id, v); err != nil {
			return malformed(t, id, err)
		}
		p.setFlags(mask, h)
	}
	return nil
}

func (p *Params) setFlags(mask ParamSet, h uint32) {
	p.Has |= mask
	if h&flagM != 0 || mask == 1<<TMOD1ID {
		p.Must |= mask
	}
	if h&flagE != 0 {
		p.Failed |= mask
	}
	if h&flagN != 0 && mask != 1<<TMOD1ID {
		p.Unsupported |= mask
	}
}

func (p *Params) addRaw(t ObjectType, id ParameterID, h uint32, v []byte) error {
	for i := range p.Extra {
		if p.Extra[i].ID == id {
			return malformed(t, id, errDuplicate)
		}
	}
	p.Extra = append(p.Extra, RawParam{ID: id, Must: h&flagM != 0, Failed: h&flagE != 0,
		Unsupported: h&flagN != 0, Value: v})
	return nil
}

func (p *Params) parseValue(t ObjectType, id ParameterID, v []byte) error {
	switch id {
	case TMOD1ID:
		return p.TMOD1.parse(t, v)
	case TMOD2ID:
		return p.TMOD2.parse(t, v)
	case PathLatencyID:
		p.PathLatency = parsePathLatency(v)
	case PathJitterID:
		p.PathJitter.parse(v)
	case PathPLRID:
		return parsePathPLR(&p.PathPLR, v)
	case PathPERID:
		return parsePathPER(&p.PathPER, v)
	case SlackTermID:
		p.SlackTerm = parseSlackTerm(v)
	case PreemptionID:
		return p.Preemption.parse(v)
	case AdmissionID:
		p.Admission.parse(v)
	case RPHID:
		p.RPH.parse(v)
	case ExcessID:
		p.Excess.parse(v)
	case PHBClassID:
		p.PHB = parsePHBClass(v)
	case DSTEClassID:
		p.DSTE = parseDSTEClass(v)
	case Y1541ClassID:
		p.Y1541 = parseY1541Class(v)
	case TMODExtID:
		return parsePeakBucket(&p.PeakBucket, v)
	case RestorationID:
		p.Restoration.parse(v)
	case EgressID:
		return p.Egress.parse(v)
	case IngressID:
		return p.Ingress.parse(v)
	case AbsoluteTimeID:
		return parseAbsolute(&p.Absolute, v)
	case RelativeTimeID:
		return p.Relative.parse(v)
	}
	return nil
}

func (p *Params) append(b []byte) []byte {
	for s := p.Has & AllParams; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		mask := ParamSet(1) << bit
		h := uint32(paramTable[bit].id) << 16
		if p.Must&mask != 0 || mask == 1<<TMOD1ID {
			h |= flagM
		}
		if p.Failed&mask != 0 {
			h |= flagE
		}
		if p.Unsupported&mask != 0 && mask != 1<<TMOD1ID {
			h |= flagN
		}
		at := len(b)
		b = tlv.AppendU32(b, h)
		b = p.appendValue(b, paramTable[bit].id)
		tlv.PutU16(b, at+2, uint16((len(b)-at-headerLen)/4)&maxWords)
	}
	for i := range p.Extra {
		b = p.Extra[i].append(b)
	}
	return b
}

func (p *Params) appendValue(b []byte, id ParameterID) []byte {
	switch id {
	case TMOD1ID:
		return p.TMOD1.append(b)
	case TMOD2ID:
		return p.TMOD2.append(b)
	case PathLatencyID:
		return appendPathLatency(b, p.PathLatency)
	case PathJitterID:
		return p.PathJitter.append(b)
	case PathPLRID:
		return appendPathPLR(b, p.PathPLR)
	case PathPERID:
		return appendPathPER(b, p.PathPER)
	case SlackTermID:
		return appendSlackTerm(b, p.SlackTerm)
	case PreemptionID:
		return p.Preemption.append(b)
	case AdmissionID:
		return p.Admission.append(b)
	case RPHID:
		return p.RPH.append(b)
	case ExcessID:
		return p.Excess.append(b)
	case PHBClassID:
		return appendPHBClass(b, p.PHB)
	case DSTEClassID:
		return appendDSTEClass(b, p.DSTE)
	case Y1541ClassID:
		return appendY1541Class(b, p.Y1541)
	case TMODExtID:
		return appendPeakBucket(b, p.PeakBucket)
	case RestorationID:
		return p.Restoration.append(b)
	case EgressID:
		return p.Egress.append(b)
	case IngressID:
		return p.Ingress.append(b)
	case AbsoluteTimeID:
		return appendAbsolute(b, p.Absolute)
	case RelativeTimeID:
		return p.Relative.append(b)
	}
	return b
}

func (x *RawParam) append(b []byte) []byte {
	h := uint32(x.ID&0x0fff)<<16 | uint32(len(x.Value)/4&maxWords)
	if x.Must {
		h |= flagM
	}
	if x.Failed {
		h |= flagE
	}
	if x.Unsupported {
		h |= flagN
	}
	b = tlv.AppendU32(b, h)
	return append(b, x.Value[:len(x.Value)&^3]...)
}
