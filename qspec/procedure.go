package qspec

import (
	"fmt"
	"math/bits"
)

// Message is the kind of QoS-NSLP message that a QSPEC travels in.
type Message uint8

// Kinds of messages, for Check.
const (
	InReserve Message = iota
	InQuery
	InResponse
	// InError is a RESPONSE that refuses, or a NOTIFY: any object may be there,
	// to show what failed (RFC 5975 §4.2.4).
	InError
)

func (m Message) String() string {
	return [...]string{"RESERVE", "QUERY", "RESPONSE", "error RESPONSE"}[m&3]
}

// objects is a set of QSPEC objects.
type objects uint8

const (
	desired   objects = 1 << QoSDesired
	available objects = 1 << QoSAvailable
	reserved  objects = 1 << QoSReserved
	minimum   objects = 1 << MinimumQoS
	never     objects = 1 << 7 // this procedure has no such message
)

// procedure is one row of the tables of RFC 5975 §4.3: the objects that are in
// each message, and those that may be there besides.
type procedure struct {
	must [3]objects // by Message: RESERVE, QUERY, RESPONSE
	may  objects    // in RESERVE and QUERY
}

// procedures is indexed by message sequence and object combination: RFC 5975
// §4.3.1, RFC 5975 §4.3.2, RFC 5975 §4.3.3.
var procedures = [3][3]procedure{
	SenderInitiated: {
		{must: [3]objects{desired, never, reserved}},
		{must: [3]objects{desired | available, never, reserved | available}},
		{must: [3]objects{desired | available | minimum, never, reserved | available}},
	},
	ReceiverInitiated: {
		{must: [3]objects{desired, desired, reserved}},
		{must: [3]objects{desired | available, desired, reserved | available}, may: minimum},
		{must: [3]objects{desired | available, desired | available, reserved}},
	},
	ResourceQuery: {
		{must: [3]objects{never, available, available}},
		{must: [3]objects{never, never, never}},
		{must: [3]objects{never, never, never}},
	},
}

func (q *QSPEC) present() objects {
	var o objects
	for t := QoSDesired; t <= MinimumQoS; t++ {
		if !q.Object(t).Empty() {
			o |= 1 << t
		}
	}
	return o
}

// Check says whether q has the objects that its procedure wants in this message
// (RFC 5975 §4.3), whether what it says can be acted on, and whether it fits
// the length fields. The error is a *Error.
func (q *QSPEC) Check(in Message) error {
	have := q.present()
	if have == 0 {
		return malformed(NoObject, 0, errEmpty)
	}
	if q.Sequence > ResourceQuery || q.Combination > 2 {
		return malformed(NoObject, 0, fmt.Errorf("QSPEC procedure %d/%d is not assigned", q.Sequence, q.Combination))
	}
	if in < InError {
		p := &procedures[q.Sequence][q.Combination]
		if err := q.checkObjects(in, have, p); err != nil {
			return err
		}
	}
	words := 0
	for t := QoSDesired; t <= MinimumQoS; t++ {
		p := q.Object(t)
		if err := p.checkLimits(t); err != nil {
			return err
		}
		words += p.words()
	}
	if words > maxWords {
		return malformed(NoObject, 0, fmt.Errorf("%d words, want at most %d", words, maxWords))
	}
	if len(q.Encapsulated) != 0 && !q.Local {
		return malformed(NoObject, 0, fmt.Errorf("an Initiator QSPEC encapsulates another one"))
	}
	if in >= InResponse {
		return nil
	}
	return q.checkRequest(in)
}

func (q *QSPEC) checkObjects(in Message, have objects, p *procedure) error {
	must, may := p.must[in], objects(0)
	if in != InResponse {
		may = p.may
	}
	if must&never != 0 {
		return malformed(NoObject, 0, fmt.Errorf("QSPEC procedure %d/%d in a %v", q.Sequence, q.Combination, in))
	}
	for t := QoSDesired; t <= MinimumQoS; t++ {
		bit := objects(1) << t
		switch {
		case must&bit != 0 && have&bit == 0:
			return malformed(t, 0, fmt.Errorf("missing in a %v of procedure %d/%d", in, q.Sequence, q.Combination))
		case (must|may)&bit == 0 && have&bit != 0:
			return malformed(t, 0, fmt.Errorf("not allowed in a %v of procedure %d/%d", in, q.Sequence, q.Combination))
		}
	}
	return nil
}

// checkRequest looks at values that are well formed and cannot be met.
func (q *QSPEC) checkRequest(in Message) error {
	t := QoSDesired
	if in == InQuery && q.Desired.Empty() {
		t = QoSAvailable
	}
	p := q.Object(t)
	switch {
	// RFC 5975 §5.2.11: 'shape' without a TMOD fails.
	case p.Has.Has(ExcessID) && p.Excess.Treatment == ExcessShape && !p.Has.Has(TMOD1ID) && !q.Available.Has.Has(TMOD1ID):
		p.SetFailed(1 << ExcessID)
		return failure(t, ExcessID, fmt.Errorf("'shape' without a TMOD"))
	case p.Has.Has(ExcessID) && p.Excess.Treatment > ExcessNoMeter:
		p.SetFailed(1 << ExcessID)
		return failure(t, ExcessID, fmt.Errorf("treatment %d is not assigned", p.Excess.Treatment))
	case p.Has.Has(PHBClassID) && !p.PHB.isSchedulable():
		p.SetFailed(1 << PHBClassID)
		return failure(t, PHBClassID, fmt.Errorf("the set of %v is no PHB scheduling class, want one of assured forwarding", p.PHB))
	case p.Has.Has(DSTEClassID) && p.DSTE > maxDSTEClass:
		p.SetFailed(1 << DSTEClassID)
		return failure(t, DSTEClassID, fmt.Errorf("class type %d, want 0 to %d", p.DSTE, maxDSTEClass))
	case p.Has.Has(Y1541ClassID) && p.Y1541 > maxY1541Class:
		p.SetFailed(1 << Y1541ClassID)
		return failure(t, Y1541ClassID, fmt.Errorf("class %d, want 0 to %d", p.Y1541, maxY1541Class))
	case p.Has.Has(RestorationID) && p.Restoration.checkAssigned() != nil:
		p.SetFailed(1 << RestorationID)
		return failure(t, RestorationID, p.Restoration.checkAssigned())
	case p.Has.Has(AdmissionID) && p.Admission.Y2171 > AdmissionHigh && p.Admission.Y2171 != AdmissionLocal:
		p.SetFailed(1 << AdmissionID)
		return failure(t, AdmissionID, fmt.Errorf("Y.2171 priority %d, want 0 to %d or %d", p.Admission.Y2171, AdmissionHigh, AdmissionLocal))
	case p.Has.Has(RelativeTimeID) && p.Relative.Kind == Weekly && !p.Has.Has(AbsoluteTimeID):
		return malformed(t, RelativeTimeID, fmt.Errorf("a weekly window needs an Absolute Time Specification beside it"))
	}
	return nil
}

// checkLimits is for QSPECs made here: what Parse refuses is not sent either.
func (p *Params) checkLimits(t ObjectType) error {
	if p.Has&^AllParams != 0 {
		return malformed(t, 0, fmt.Errorf("unknown bits %#x in Has", uint32(p.Has&^AllParams)))
	}
	for _, x := range p.Extra {
		if bitOf(x.ID) >= 0 || x.ID > 0x0fff || len(x.Value)%4 != 0 {
			return malformed(t, x.ID, fmt.Errorf("raw parameter of %d octets, want an unknown one and whole words", len(x.Value)))
		}
	}
	return p.checkValues(t)
}

func (p *Params) checkValues(t ObjectType) error {
	const checked = ParamSet(1<<TMOD1ID|1<<TMOD2ID|1<<TMODExtID|1<<PreemptionID|1<<PathPLRID|1<<PathPERID) | absoluteTimeBit | relativeTimeBit
	for s := p.Has & checked; s != 0; s &= s - 1 {
		id := paramTable[bits.TrailingZeros32(uint32(s))].id
		if err := p.checkValue(t, id); err != nil {
			return malformed(t, id, err)
		}
	}
	return nil
}

func (p *Params) checkValue(t ObjectType, id ParameterID) error {
	switch id {
	case TMOD1ID:
		return p.TMOD1.check(t)
	case TMOD2ID:
		return p.TMOD2.check(t)
	case TMODExtID:
		return checkPeakBucket(p.PeakBucket)
	case PreemptionID:
		return p.Preemption.check()
	case PathPLRID:
		return checkRatio(p.PathPLR)
	case PathPERID:
		return checkRatio(p.PathPER)
	case AbsoluteTimeID:
		return checkIntervals(p.Absolute)
	case RelativeTimeID:
		return p.Relative.check()
	}
	return nil
}

// Response returns the QSPEC of the success RESPONSE to a RESERVE or QUERY with
// q, as the last node makes it (RFC 5975 §4.3.1): QoS Reserved has the
// parameters of QoS Desired, with values from QoS Available where it has them,
// and QoS Available goes back as it arrived. Encapsulated is left out: see
// Respond.
func (q *QSPEC) Response() QSPEC {
	out := QSPEC{Version: q.Version, Type: q.Type, Local: q.Local, Sequence: q.Sequence, Combination: q.Combination}
	if q.Sequence != ResourceQuery {
		out.Reserved = q.Desired.clone()
		out.Reserved.copyFrom(&q.Available, q.Desired.Has)
	}
	if !(q.Sequence == ReceiverInitiated && q.Combination == 2) {
		out.Available = q.Available.clone()
	}
	return out
}

// Reserve returns the QSPEC of the RESERVE with which the receiver answers the
// QUERY of a receiver-initiated reservation (RFC 5975 §4.3.2). Procedure 1/0 and 1/1:
// QoS Desired and Minimum QoS as they arrived, and QoS Available seeded from QoS
// Desired if there is a Minimum QoS, that is if QoS is negotiable. Procedure 1/2: QoS
// Desired with the values of QoS Available where that has them, and QoS Available
// as it arrived.
func (q *QSPEC) Reserve() QSPEC {
	out := QSPEC{Version: q.Version, Type: q.Type, Local: q.Local, Sequence: q.Sequence, Combination: q.Combination,
		Desired: q.Desired.clone(), Available: q.Available.clone(), Minimum: q.Minimum.clone()}
	out.Desired.copyFrom(&q.Available, q.Desired.Has)
	if q.Combination == 1 {
		if q.Minimum.Empty() { // not negotiable after all
			out.Combination = 0
		}
		out.Available.seed(&q.Desired, q.Minimum.Has)
	}
	return out
}

// seed gives QoS Available the values of QoS Desired for what is negotiable,
// cumulative parameters excepted: those start at nothing (RFC 5975 §4.3.1).
func (p *Params) seed(from *Params, s ParamSet) {
	p.copyFrom(from, s&^cumulative)
	p.Has |= s & cumulative
	p.Must |= from.Must & s & cumulative
}

// Refusal returns the QSPEC of the RESPONSE that refuses q: QoS Available as
// it is now, and of the other objects those in which something failed (RFC
// 5975 §4.2.4).
func (q *QSPEC) Refusal() QSPEC {
	out := *q
	out.Encapsulated = nil
	keep := !q.Available.Empty()
	for _, p := range [...]*Params{&out.Desired, &out.Reserved, &out.Minimum} {
		if !p.FailedAny() && (keep || p != &out.Desired) {
			*p = Params{}
		}
	}
	return out
}
