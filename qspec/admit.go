package qspec

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
)

// What a node on the path does with a QSPEC, and may not do.

// ReadOnly says whether nodes may not change the parameters of an object that
// travels in this message. Only QoS Available is read-write, in RESERVE and
// QUERY; in a RESPONSE it "just transports the result" (RFC 5975 §3.2), and in the
// RESERVE of procedure 1/2 that of the QUERY (RFC 5975 §4.3.2).
func (q *QSPEC) ReadOnly(in Message, t ObjectType) bool {
	return t != QoSAvailable || in >= InResponse ||
		in == InReserve && q.Sequence == ReceiverInitiated && q.Combination == 2
}

// Failed says whether an E flag is set anywhere: a RESERVE that arrives so has
// failed at a stateless node before this one (RFC 5975 §4.2.4).
func (q *QSPEC) Failed() bool {
	return q.Desired.FailedAny() || q.Available.FailedAny() || q.Reserved.FailedAny() || q.Minimum.FailedAny()
}

// Admit is what a node's resource management does with the QSPEC of a RESERVE or
// QUERY: Check, then N on what is not in known, then Offer. Every parameter is
// examined before it returns, so that all E and N flags are set (RFC 5975
// §4.2.1). The error is a *Error: the message goes no further, and Refusal is
// the answer; a stateless node sends it on as it is now.
func (q *QSPEC) Admit(in Message, known ParamSet, share *Params) error {
	if err := q.Check(in); err != nil {
		return err
	}
	if q.Failed() {
		return failure(NoObject, 0, fmt.Errorf("a node before this one has set an E flag"))
	}
	err := q.MarkUnsupported(known)
	short := q.Offer(in, share)
	switch {
	case err != nil:
		return err
	case short != 0:
		return failure(q.failedIn(short), short.IDs()[0], fmt.Errorf("cannot be met: %v", short))
	}
	return nil
}

func (q *QSPEC) failedIn(s ParamSet) ObjectType {
	for t := QoSDesired; t <= MinimumQoS; t++ {
		if q.Object(t).Failed&s != 0 {
			return t
		}
	}
	return NoObject
}

// MarkUnsupported raises N on every parameter of what is asked (QoS Desired,
// QoS Available and Minimum QoS) that is not in known or not known to this
// package at all. If one of them must be interpreted the reservation fails
// with the error returned (RFC 5975 §4.2.2); without M it goes on.
func (q *QSPEC) MarkUnsupported(known ParamSet) error {
	known |= 1 << TMOD1ID // RFC 5975 §3.3.1: mandatory to interpret
	var err *Error
	for _, t := range [...]ObjectType{QoSDesired, QoSAvailable, MinimumQoS} {
		p := q.Object(t)
		unknown := p.Has &^ known
		p.Unsupported |= unknown
		if bad := unknown & p.Must; bad != 0 && err == nil {
			err = failure(t, bad.IDs()[0], fmt.Errorf("must be interpreted and is not supported"))
		}
		for i := range p.Extra {
			x := &p.Extra[i]
			x.Unsupported = true
			if x.Must && err == nil {
				err = failure(t, x.ID, fmt.Errorf("must be interpreted and is not supported"))
			}
		}
	}
	if err != nil {
		return err
	}
	return nil
}

// Offer brings what this node can give into the QSPEC of a RESERVE or a QUERY
// on its way, and returns the parameters that cannot be met, with E raised on
// them and on their object (RFC 5975 §4.2.1, §4.3.1). Nothing returned: the
// node goes on, with QoS Available possibly lowered.
//
//   - without QoS Available everything in QoS Desired has to be met;
//   - with it, it is lowered to share, and only what stands in QoS Desired alone
//     has to be met; where it is ReadOnly it does not count;
//   - with Minimum QoS besides, QoS Available must not fall below it;
//   - a QUERY reserves nothing: it collects QoS Available, and QoS Desired is the
//     business of the RESERVE that answers it.
func (q *QSPEC) Offer(in Message, share *Params) ParamSet {
	var failed, negotiable ParamSet
	if !q.ReadOnly(in, QoSAvailable) {
		failed = q.Available.Compose(share)
		q.Available.lowerY1541()
		if short := Exceeds(&q.Minimum, &q.Available); short != 0 {
			q.Available.SetFailed(short)
			failed |= short
		}
		negotiable = q.Available.Has
	}
	if in == InQuery {
		return failed
	}
	for _, p := range [...]*Params{&q.Desired, &q.Minimum} {
		if short := Exceeds(p, share) &^ negotiable; short != 0 {
			p.SetFailed(short)
			failed |= short
		}
	}
	if big := q.exceedsMTU(share); big != 0 {
		q.Desired.SetFailed(big)
		failed |= big
	}
	return failed
}

// exceedsMTU is RFC 5975 §3.3.1: "The flow MUST be rejected if the requested maximum
// packet size is larger than the MTU of the link", negotiable or not. Who sends a
// smaller one in Minimum QoS has said that it will do.
func (q *QSPEC) exceedsMTU(share *Params) ParamSet {
	if !q.Desired.Has.Has(TMOD1ID) || !share.Has.Has(TMOD1ID) {
		return 0
	}
	mps := q.Desired.TMOD1.MPS
	if q.Minimum.Has.Has(TMOD1ID) && q.Minimum.TMOD1.MPS != 0 {
		mps = min(mps, q.Minimum.TMOD1.MPS)
	}
	if mps > share.TMOD1.MPS {
		return 1 << TMOD1ID
	}
	return 0
}

// CheckPassed says whether a node that got the QSPEC was allowed to send the other
// one on, in the same message (RFC 5975 §3.2, §5.1.2): objects and parameters are
// the same, M flags too; E and N flags are only ever raised; in a read-only object
// no value changes; in a read-write one none gets better, and the Y.2171 priority
// stays (§5.2.9). Egress ID and Ingress ID are every domain's own.
func CheckPassed(got, sent *QSPEC, in Message) error {
	if got.header(0) != sent.header(0) {
		return malformed(NoObject, 0, fmt.Errorf("type or procedure changed on the way"))
	}
	for t := QoSDesired; t <= MinimumQoS; t++ {
		if id, err := got.Object(t).checkPassed(sent.Object(t), got.ReadOnly(in, t)); err != nil {
			return malformed(t, id, err)
		}
	}
	return nil
}

func (p *Params) checkPassed(o *Params, readOnly bool) (ParameterID, error) {
	const borders = egressBit | ingressBit
	switch {
	case p.Has&^borders != o.Has&^borders || readOnly && p.Has != o.Has:
		return 0, fmt.Errorf("parameters added or deleted: had %v, have %v", p.Has, o.Has)
	case (p.Must^o.Must)&p.Has&o.Has != 0:
		return 0, fmt.Errorf("changed M flags: had %v, have %v", p.Must, o.Must)
	case p.Failed&^o.Failed != 0 || p.ObjectFailed && !o.ObjectFailed:
		return 0, fmt.Errorf("an E flag was taken back")
	case p.Unsupported&^o.Unsupported&^borders != 0:
		return 0, fmt.Errorf("an N flag was taken back")
	case len(p.Extra) != len(o.Extra):
		return 0, fmt.Errorf("%d unknown parameters became %d", len(p.Extra), len(o.Extra))
	}
	for i, x := range p.Extra {
		y := o.Extra[i]
		if x.ID != y.ID || x.Must != y.Must || x.Failed && !y.Failed || x.Unsupported && !y.Unsupported || !bytes.Equal(x.Value, y.Value) {
			return x.ID, fmt.Errorf("an unknown parameter changed")
		}
	}
	for s := p.Has & o.Has; s != 0; s &= s - 1 {
		id := paramTable[bits.TrailingZeros32(uint32(s))].id
		switch {
		case readOnly && !p.sameValue(o, id):
			return id, fmt.Errorf("changed in a read-only object")
		case id == AdmissionID && p.Admission.Y2171 != o.Admission.Y2171:
			return id, fmt.Errorf("Y.2171 priority changed from %d to %d", p.Admission.Y2171, o.Admission.Y2171)
		case !readOnly && comparables.Has(id) && !p.noWorse(o, id):
			return id, fmt.Errorf("better than before")
		}
	}
	return 0, nil
}

// noWorse says whether p gives what o does: nobody adds resources on the way. An
// unspecified peak rate is infinite here.
func (p *Params) noWorse(o *Params, id ParameterID) bool {
	switch id {
	case TMOD1ID:
		return o.TMOD1.Peak <= p.TMOD1.Peak && o.TMOD1.within(&p.TMOD1)
	case TMOD2ID:
		return o.TMOD2.Peak <= p.TMOD2.Peak && o.TMOD2.within(&p.TMOD2)
	case TMODExtID:
		return o.PeakBucket <= p.PeakBucket
	case PHBClassID, DSTEClassID:
		return true // a directive: it has no order
	case AbsoluteTimeID:
		return covers(p.Absolute, o.Absolute)
	}
	return satisfied(o, p, id)
}

// sameValue compares one parameter bit by bit, as it stands on the wire.
func (p *Params) sameValue(o *Params, id ParameterID) bool {
	if id == AbsoluteTimeID {
		return slices.Equal(p.Absolute, o.Absolute)
	}
	var a, b [tmodWords * 4]byte
	return bytes.Equal(p.appendValue(a[:0], id), o.appendValue(b[:0], id))
}
