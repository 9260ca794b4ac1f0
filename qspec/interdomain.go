package qspec

import (
	"errors"
	"fmt"
	"math"
)

// Traffic is what a policer needs of the TMODs of an object (interdomain-qosm
// §2): CIR is TMOD-1.r and PIR TMOD-2.r if it is there, else TMOD-1.p; CBS and
// PBS are the buckets beside them, that of TMOD-1.p being the TMOD Extension (RFC
// 5976 §3.1). All rounded up to whole octets.
type Traffic struct {
	CIR, PIR  uint64 // octets of IP packets per second; PIR Unlimited: not specified
	CBS, PBS  uint64 // octets
	Unit, MPS uint32 // minimum policed unit and maximum packet size, octets
}

// Traffic returns the object's traffic, false if it has no TMOD-1: relative
// QoS, with no rate promised.
func (p *Params) Traffic() (Traffic, bool) {
	if !p.Has.Has(TMOD1ID) {
		return Traffic{}, false
	}
	t := Traffic{CIR: Octets(p.TMOD1.Rate), CBS: Octets(p.TMOD1.Bucket), Unit: p.TMOD1.Unit, MPS: p.TMOD1.MPS}
	switch {
	case p.Has.Has(TMOD2ID):
		t.PIR, t.PBS = Octets(p.TMOD2.Rate), Octets(p.TMOD2.Bucket)
	case p.Has.Has(TMODExtID) && p.PeakBucket != infinity:
		t.PIR, t.PBS = Octets(p.TMOD1.Peak), Octets(p.PeakBucket)
	default:
		t.PIR, t.PBS = Octets(p.TMOD1.Peak), t.CBS
	}
	t.PIR = max(t.PIR, t.CIR)
	return t, true
}

// Traffic returns what a node has to hold now: reservations are "based on
// current parameter values in QoS Available" (RFC 5975 §4.3.1), on QoS Desired
// where that says nothing, and on QoS Reserved in a RESPONSE.
func (q *QSPEC) Traffic() (Traffic, bool) {
	for _, p := range [...]*Params{&q.Reserved, &q.Available, &q.Desired} {
		if t, ok := p.Traffic(); ok {
			return t, true
		}
	}
	return Traffic{}, false
}

// Rate returns the CIR of Traffic in octets per second, 0 for relative QoS.
func (q *QSPEC) Rate() uint64 {
	t, _ := q.Traffic()
	return t.CIR
}

// LeastRate returns the smallest CIR that the request accepts, in octets per
// second: that of Minimum QoS; QoS Desired's where there is nothing to be
// negotiated; 0 where any reduction is accepted, or no rate is asked for.
func (q *QSPEC) LeastRate() uint64 {
	switch {
	case q.Minimum.Has.Has(TMOD1ID):
		return Octets(q.Minimum.TMOD1.Rate)
	case q.Desired.Has.Has(TMOD1ID) && !q.Available.Has.Has(TMOD1ID):
		return Octets(q.Desired.TMOD1.Rate)
	}
	return 0
}

// DSCP returns the PHB that is asked for, false if none is (a Y.1541 class may
// be there instead: Desired.Y1541), or if it is not a standard one.
func (q *QSPEC) DSCP() (uint8, bool) {
	for _, p := range [...]*Params{&q.Desired, &q.Reserved, &q.Available} {
		if p.Has.Has(PHBClassID) {
			return p.PHB.DSCP()
		}
	}
	return 0, false
}

// SetEgress writes the Egress ID, M=1, into QoS Available.
func (q *QSPEC) SetEgress(x BorderID) {
	q.Available.Egress = x
	q.Available.Has |= egressBit
	q.Available.Must |= egressBit
}

// SetIngress writes the Ingress ID, M=1, into QoS Available.
func (q *QSPEC) SetIngress(x BorderID) {
	q.Available.Ingress = x
	q.Available.Has |= ingressBit
	q.Available.Must |= ingressBit
}

// Egress returns the Egress ID, false if there is none.
func (q *QSPEC) Egress() (BorderID, bool) {
	return q.Available.Egress, q.Available.Has&egressBit != 0
}

// Ingress returns the Ingress ID, false if there is none.
func (q *QSPEC) Ingress() (BorderID, bool) {
	return q.Available.Ingress, q.Available.Has&ingressBit != 0
}

// RestoreBorders gives Egress ID and Ingress ID the values that the request
// had when it arrived, "so that no domain sees another's inside"
// (interdomain-qosm §2). Where the request had none they are taken out.
func (q *QSPEC) RestoreBorders(request *QSPEC) {
	const both = egressBit | ingressBit
	p := &q.Available
	p.Has &^= both
	p.Must &^= both
	p.Failed &^= both
	p.Unsupported &^= both
	p.Egress, p.Ingress = BorderID{}, BorderID{}
	p.copyFrom(&request.Available, both)
}

// RateShare returns what a node can give whose only limit is the rate, in
// octets per second: for Offer. It is rounded down.
func RateShare(rate uint64) Params {
	return Params{Has: 1 << TMOD1ID, TMOD1: TMOD{
		Rate: RateDown(rate), Bucket: math.MaxFloat32, Peak: infinity, Unit: 1, MPS: math.MaxUint32}}
}

// OfferRate is Offer(InReserve, RateShare(rate)). A node that has nothing cannot meet a
// request for a rate, even where any reduction is accepted.
func (q *QSPEC) OfferRate(rate uint64) ParamSet {
	share := RateShare(rate)
	failed := q.Offer(InReserve, &share)
	if rate >= MinRate || failed.Has(TMOD1ID) {
		return failed
	}
	for _, p := range [...]*Params{&q.Available, &q.Desired} {
		if p.Has.Has(TMOD1ID) {
			p.SetFailed(1 << TMOD1ID)
			return failed | 1<<TMOD1ID
		}
	}
	return failed
}

// Refuse writes why a node refuses: into QoS Available the largest rate that
// the path so far and itself could give, in octets per second (0 becomes
// MinRate), and E on what was short (interdomain-qosm §7). What is not in QoS
// Available is marked where it stands. Refusal makes the answer.
func (q *QSPEC) Refuse(largest uint64, short ParamSet) {
	p := &q.Available
	if p.Has.Has(TMOD1ID) {
		p.TMOD1.Rate = min(p.TMOD1.Rate, RateDown(largest))
	}
	if here := short & p.Has; here != 0 || short == 0 && !p.Empty() {
		p.SetFailed(here)
	}
	if rest := short & q.Desired.Has &^ p.Has; rest != 0 || p.Empty() {
		q.Desired.SetFailed(rest)
	}
}

// Largest returns the rate that a refusal offers, in octets per second: 0 if
// there is none or nothing could be had.
func (q *QSPEC) Largest() uint64 {
	if !q.Available.Has.Has(TMOD1ID) || q.Available.TMOD1.Rate <= MinRate {
		return 0
	}
	return uint64(q.Available.TMOD1.Rate)
}

// Ask is a simple request, as a person makes it. Rates are octets of IP packets
// per second, sizes octets.
type Ask struct {
	CIR uint64 // 0: relative QoS, a class without a rate
	CBS uint64 // 0: a tenth of a second of CIR, at least two packets of MPS
	// PIR 0: not specified. With PBS it becomes a TMOD-2, without TMOD-1's peak
	// rate.
	PIR, PBS uint64
	Unit     uint32 // minimum policed unit m; 0: 64 or MPS
	MPS      uint32 // maximum packet size; 0: 1500
	// LeastCIR, if not 0, is the smallest CIR accepted; otherwise it is all or
	// nothing.
	LeastCIR uint64

	PHB        *PHBClass
	Y1541      *uint8
	Excess     *Excess
	Preemption *Preemption
	Admission  *Admission
	Absolute   []Interval
	Relative   *RelativeTime
}

// Defaults of Ask.
const (
	DefaultUnit uint32 = 64
	DefaultMPS  uint32 = 1500
)

// NewInitiator writes the Initiator QSPEC of a RESERVE: object combination 0,
// or 2 where less is accepted.
func NewInitiator(a Ask) (QSPEC, error) {
	q := QSPEC{Type: TypeDefault}
	p := &q.Desired
	if a.CIR == 0 && a.PHB == nil && a.Y1541 == nil {
		return q, errors.New("a request needs a rate or a class")
	}
	if a.CIR != 0 {
		p.setAsked(a)
	}
	if a.PHB != nil {
		p.set(PHBClassID, true)
		p.PHB = *a.PHB
	}
	if a.Y1541 != nil {
		p.set(Y1541ClassID, true)
		p.Y1541 = *a.Y1541
	}
	if a.Excess != nil {
		p.set(ExcessID, false)
		p.Excess = *a.Excess
	}
	if a.Preemption != nil {
		p.set(PreemptionID, false)
		p.Preemption = *a.Preemption
	}
	if a.Admission != nil {
		if y := a.Admission.Y2171; y != AdmissionLocal && y != a.Admission.Local {
			// RFC 5975 §5.2.9
			return q, fmt.Errorf("admission priority %d/%d: with a Y.2171 priority both are the same", y, a.Admission.Local)
		}
		p.set(AdmissionID, false)
		p.Admission = *a.Admission
	}
	if len(a.Absolute) != 0 {
		p.set(AbsoluteTimeID, true)
		p.Absolute = a.Absolute
	}
	if a.Relative != nil {
		p.set(RelativeTimeID, true)
		p.Relative = *a.Relative
	}
	if a.LeastCIR != 0 && a.CIR != 0 {
		q.Combination = 2
		const tmods = ParamSet(1<<TMOD1ID | 1<<TMOD2ID)
		q.Available.copyFrom(p, tmods)
		q.Minimum.copyFrom(p, 1<<TMOD1ID)
		q.Minimum.TMOD1.Rate = min(RateUp(a.LeastCIR), p.TMOD1.Rate)
	}
	return q, q.Check(InReserve)
}

func (p *Params) set(id ParameterID, must bool) {
	p.Has |= maskOf(id)
	if must {
		p.Must |= maskOf(id)
	}
}

func (p *Params) setAsked(a Ask) {
	if a.MPS == 0 {
		a.MPS = DefaultMPS
	}
	if a.Unit == 0 {
		a.Unit = min(DefaultUnit, a.MPS)
	}
	if a.CBS == 0 {
		a.CBS = max(a.CIR/10, 2*uint64(a.MPS))
	}
	p.set(TMOD1ID, true)
	p.TMOD1 = TMOD{Rate: RateUp(a.CIR), Bucket: RateUp(a.CBS), Peak: infinity, Unit: a.Unit, MPS: a.MPS}
	switch {
	case a.PIR != 0 && a.PBS != 0:
		p.set(TMOD2ID, true)
		p.TMOD2 = TMOD{Rate: RateUp(a.PIR), Bucket: RateUp(a.PBS), Peak: infinity, Unit: a.Unit, MPS: a.MPS}
	case a.PIR != 0:
		p.TMOD1.Peak = max(RateUp(a.PIR), p.TMOD1.Rate)
	}
}
