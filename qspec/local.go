package qspec

import (
	"errors"
	"fmt"
	"slices"
)

// Encapsulate writes the Local QSPEC with which the first inter-domain QNE sends
// the Initiator's on in this message (RFC 5975 §4.1, interdomain-qosm §2). It asks
// for no less.
//
// RESERVE: QoS Desired, QoS Available and Minimum QoS (procedure 0/2,
// receiver-initiated 1/1). Minimum QoS is QoS Desired if the Initiator leaves
// nothing to negotiate: combination 0, and 1/2, whose RESERVE is read-only;
// otherwise the Initiator's own, with what stands in its QoS Desired alone, for
// that has to be met. Where that leaves nothing, any reduction is accepted, and
// there is no Minimum QoS. QUERY: what the Initiator asks, and QoS Available to
// collect in (2/0, or 1/2).
func Encapsulate(initiator *QSPEC, in Message) (QSPEC, error) {
	q := QSPEC{Type: TypeInterDomain, Local: true, Sequence: initiator.Sequence}
	if initiator.Local {
		return q, errors.New("a Local QSPEC cannot be encapsulated")
	}
	switch {
	case in == InReserve && initiator.Sequence <= ReceiverInitiated:
		q.Desired = initiator.Desired.clone()
		if !initiator.ReadOnly(in, QoSAvailable) {
			q.Available = initiator.Available.clone()
		}
		seedAvailable(&q, initiator)
		localMinimum(&q, initiator, in)
	case in == InQuery && initiator.Sequence == ReceiverInitiated:
		q.Combination = 2
		q.Desired = initiator.Desired.clone()
		q.Available = initiator.Available.clone()
		seedAvailable(&q, initiator)
	case in == InQuery && initiator.Sequence == ResourceQuery:
		q.Available = initiator.Available.clone()
	default:
		return q, fmt.Errorf("message sequence %d in a %v: there is no such procedure", initiator.Sequence, in)
	}
	q.Encapsulated = initiator.Append(nil)
	return q, nil
}

// seedAvailable adds to QoS Available the TMODs of QoS Desired, so that each
// domain can say what it has.
func seedAvailable(q, initiator *QSPEC) {
	const tmods = ParamSet(1<<TMOD1ID | 1<<TMOD2ID)
	q.Available.copyFrom(&initiator.Desired, tmods&^q.Available.Has)
}

func localMinimum(q, initiator *QSPEC, in Message) {
	if initiator.Available.Empty() || initiator.ReadOnly(in, QoSAvailable) {
		q.Minimum = initiator.Desired.clone()
	} else {
		q.Minimum = initiator.Minimum.clone()
		alone := initiator.Desired.Has & comparables &^ cumulative &^ initiator.Available.Has &^ initiator.Minimum.Has
		q.Minimum.copyFrom(&initiator.Desired, alone)
		if alone&absoluteTimeBit != 0 {
			q.Minimum.copyFrom(&initiator.Desired, relativeTimeBit) // a weekly window belongs to it
		}
	}
	q.Combination = 1
	if q.Sequence == SenderInitiated && !q.Minimum.Empty() {
		q.Combination = 2
	}
}

// Initiator parses the encapsulated Initiator QSPEC.
func (q *QSPEC) Initiator() (QSPEC, error) {
	if len(q.Encapsulated) == 0 {
		return QSPEC{}, malformed(NoObject, 0, errors.New("no Initiator QSPEC is encapsulated"))
	}
	return Parse(q.Encapsulated)
}

// Unwrap removes a Local QSPEC at the edge where it ends, and returns the
// Initiator QSPEC updated on behalf of the entire domain (RFC 5975 §4.2.5), to be
// sent on in the same kind of message.
func (q *QSPEC) Unwrap(in Message) (QSPEC, error) {
	initiator, err := q.Initiator()
	if err != nil {
		return QSPEC{}, err
	}
	UpdateInitiator(&initiator, q, in)
	return initiator, nil
}

// UpdateInitiator carries what the local one learned over to the Initiator
// QSPEC (RFC 5975 §4.2.5): values, where the Initiator's are read-write in this
// message or were left untouched by a refusal inside, and flags. What accumulates
// and was not followed inside is marked N. What failed and has no place in the
// Initiator's objects raises the E flag of an object.
func UpdateInitiator(initiator, local *QSPEC, in Message) {
	if in == InError || !initiator.ReadOnly(in, QoSAvailable) {
		initiator.Available.updateFrom(&local.Available)
	}
	var failed, unsupported ParamSet
	any := false
	for t := QoSDesired; t <= MinimumQoS; t++ {
		p := local.Object(t)
		failed |= p.Failed
		unsupported |= p.Unsupported
		any = any || p.FailedAny()
		initiator.updateRaw(p)
	}
	for t := QoSDesired; t <= MinimumQoS; t++ {
		p := initiator.Object(t)
		p.Unsupported |= unsupported & p.Has &^ (1 << TMOD1ID)
	}
	if any {
		initiator.raise(failed)
	}
}

// updateFrom takes the values of what both have; p's flags are never taken back.
// The Y.2171 priority stays (RFC 5975 §5.2.9).
func (p *Params) updateFrom(local *Params) {
	m, e, n, y2171 := p.Must, p.Failed, p.Unsupported, p.Admission.Y2171
	p.copyFrom(local, p.Has)
	p.Must = m
	p.Failed |= e
	p.Unsupported |= n | p.Has&cumulative&^local.Has
	if p.Has.Has(AdmissionID) {
		p.Admission.Y2171 = y2171
	}
}

// raise sets the E flags in QoS Available where it has the parameter, else in
// QoS Desired.
func (q *QSPEC) raise(failed ParamSet) {
	inAvailable := failed & q.Available.Has
	inDesired := failed & q.Desired.Has &^ inAvailable
	if inAvailable != 0 || q.Desired.Empty() {
		q.Available.SetFailed(inAvailable)
	}
	if inDesired != 0 || inAvailable == 0 && !q.Desired.Empty() {
		q.Desired.SetFailed(inDesired)
	}
}

func (q *QSPEC) updateRaw(from *Params) {
	for _, x := range from.Extra {
		for t := QoSDesired; t <= MinimumQoS; t++ {
			p := q.Object(t)
			if i := slices.IndexFunc(p.Extra, func(y RawParam) bool { return y.ID == x.ID }); i >= 0 {
				p.Extra[i].Failed = p.Extra[i].Failed || x.Failed
				p.Extra[i].Unsupported = p.Extra[i].Unsupported || x.Unsupported
			}
		}
	}
}

// asked is the message that q is the request of, for a node that answers it.
func (q *QSPEC) asked() Message {
	if q.Sequence == ResourceQuery {
		return InQuery
	}
	return InReserve
}

// Respond is what the last inter-domain QNE answers a Local QSPEC with: the
// Initiator QSPEC updated from it, and both turned into what a RESPONSE carries,
// the Initiator's encapsulated again.
func (q *QSPEC) Respond() (QSPEC, error) {
	out := q.Response()
	if len(q.Encapsulated) == 0 {
		return out, nil
	}
	initiator, err := q.Unwrap(q.asked())
	if err != nil {
		return QSPEC{}, err
	}
	answer := initiator.Response()
	out.Encapsulated = answer.Append(nil)
	return out, nil
}

// RespondRefusal is Respond for a refusal. An encapsulated QSPEC that cannot be
// read is left out: the answer has to leave.
func (q *QSPEC) RespondRefusal() QSPEC {
	out := q.Refusal()
	initiator, err := q.Unwrap(InError)
	if err != nil {
		return out
	}
	answer := initiator.Refusal()
	out.Encapsulated = answer.Append(nil)
	return out
}
