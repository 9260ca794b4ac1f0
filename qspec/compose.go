package qspec

import "math/bits"

// comparables are the parameters of which one can say whether a node gives
// what is asked. The rest are directives (RFC 5975 §3.3.3), or say where and
// not how well.
const comparables = ParamSet(1<<TMOD1ID|1<<TMOD2ID|1<<PathLatencyID|1<<PathJitterID|
	1<<PathPLRID|1<<PathPERID|1<<PHBClassID|1<<DSTEClassID|1<<Y1541ClassID|1<<TMODExtID) | absoluteTimeBit

const (
	egressBit       ParamSet = 1 << 17
	ingressBit      ParamSet = 1 << 18
	absoluteTimeBit ParamSet = 1 << 19
	relativeTimeBit ParamSet = 1 << 20
)

// cumulative parameters grow along the path: QoS Available starts them at
// nothing, not at what is desired (RFC 5975 §4.3.1).
const cumulative = ParamSet(1<<PathLatencyID | 1<<PathJitterID | 1<<PathPLRID | 1<<PathPERID)

// Exceeds returns those parameters present in both of which need asks more than
// have gives (RFC 5975 §4.3.1): a higher rate, bucket, peak rate or packet size,
// a smaller minimum policed unit, less delay, jitter, loss or errors, another
// class, time that is not covered. A peak rate of infinity asks for none.
func Exceeds(need, have *Params) ParamSet {
	var out ParamSet
	for s := need.Has & have.Has & comparables; s != 0; s &= s - 1 {
		if bit := bits.TrailingZeros32(uint32(s)); !satisfied(need, have, paramTable[bit].id) {
			out |= 1 << bit
		}
	}
	return out
}

func satisfied(need, have *Params, id ParameterID) bool {
	switch id {
	case TMOD1ID:
		return need.TMOD1.within(&have.TMOD1)
	case TMOD2ID:
		return need.TMOD2.within(&have.TMOD2)
	case PathLatencyID:
		return have.PathLatency <= need.PathLatency
	case PathJitterID:
		return need.PathJitter.within(&have.PathJitter)
	case PathPLRID:
		return have.PathPLR <= need.PathPLR
	case PathPERID:
		return have.PathPER <= need.PathPER
	case PHBClassID:
		return have.PHB == need.PHB
	case DSTEClassID:
		return have.DSTE == need.DSTE
	case Y1541ClassID:
		return Y1541Meets(have.Y1541, need.Y1541)
	case TMODExtID:
		return need.PeakBucket == infinity || need.PeakBucket <= have.PeakBucket
	case AbsoluteTimeID:
		return need.timeCoveredBy(have.Absolute)
	}
	return true
}

// Compose brings what one node can give into QoS Available (RFC 5975 §3.2,
// §3.3): the minimum of a TMOD, the sum of what accumulates, the tightest Y.1541
// class that both keep, the intersection of times. Only parameters that are
// there already change: they "may be updated, but they cannot be deleted", nor
// does a node add any. N flags of share are raised, and those of parameters that
// the node knows a lower bound of only ("MUST raise the Not Supported N flag and
// either leave the value … or add its best estimate"). It returns, with E
// raised, those for which nothing is left: times that do not meet, or a minimum
// policed unit above the maximum packet size.
func (p *Params) Compose(share *Params) ParamSet {
	p.Unsupported |= share.Unsupported & p.Has &^ (1 << TMOD1ID)
	var failed ParamSet
	for s := p.Has & share.Has; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		known, ok := p.compose(share, paramTable[bit].id)
		if !known {
			p.Unsupported |= 1 << bit
		}
		if !ok {
			failed |= 1 << bit
		}
	}
	if failed != 0 {
		p.SetFailed(failed)
	}
	return failed
}

// compose returns whether the outcome is more than a bound, and whether there
// is one.
func (p *Params) compose(share *Params, id ParameterID) (known, ok bool) {
	switch id {
	case TMOD1ID:
		p.TMOD1.min(&share.TMOD1)
		return true, p.TMOD1.Unit <= p.TMOD1.MPS
	case TMOD2ID:
		p.TMOD2.min(&share.TMOD2)
		return true, p.TMOD2.Unit <= p.TMOD2.MPS
	case PathLatencyID:
		return addLocal(&p.PathLatency, share.PathLatency), true
	case PathJitterID:
		return p.PathJitter.add(&share.PathJitter), true
	case PathPLRID:
		return addRatio(&p.PathPLR, share.PathPLR), true
	case PathPERID:
		return addRatio(&p.PathPER, share.PathPER), true
	case SlackTermID:
		// RFC 2212: a node uses of the slack what it needs; share is what it leaves.
		p.SlackTerm = min(p.SlackTerm, share.SlackTerm)
	case Y1541ClassID:
		p.Y1541 = commonY1541(p.Y1541, share.Y1541)
	case TMODExtID:
		p.PeakBucket = min(p.PeakBucket, share.PeakBucket)
	case AbsoluteTimeID:
		both := Intersect(p.Absolute, share.Absolute)
		if !p.occursIn(both) {
			return true, false
		}
		p.Absolute = both
	}
	return true, true
}

// copyFrom takes the values and flags of the parameters of s from o.
func (p *Params) copyFrom(o *Params, s ParamSet) {
	for s &= o.Has; s != 0; s &= s - 1 {
		bit := bits.TrailingZeros32(uint32(s))
		mask := ParamSet(1) << bit
		p.copyValue(o, paramTable[bit].id)
		p.Has |= mask
		p.Must = p.Must&^mask | o.Must&mask
		p.Failed = p.Failed&^mask | o.Failed&mask
		p.Unsupported = p.Unsupported&^mask | o.Unsupported&mask
	}
}

func (p *Params) copyValue(o *Params, id ParameterID) {
	switch id {
	case TMOD1ID:
		p.TMOD1 = o.TMOD1
	case TMOD2ID:
		p.TMOD2 = o.TMOD2
	case PathLatencyID:
		p.PathLatency = o.PathLatency
	case PathJitterID:
		p.PathJitter = o.PathJitter
	case PathPLRID:
		p.PathPLR = o.PathPLR
	case PathPERID:
		p.PathPER = o.PathPER
	case SlackTermID:
		p.SlackTerm = o.SlackTerm
	case PreemptionID:
		p.Preemption = o.Preemption
	case AdmissionID:
		p.Admission = o.Admission
	case RPHID:
		p.RPH = o.RPH
	case ExcessID:
		p.Excess = o.Excess
	case PHBClassID:
		p.PHB = o.PHB
	case DSTEClassID:
		p.DSTE = o.DSTE
	case Y1541ClassID:
		p.Y1541 = o.Y1541
	case TMODExtID:
		p.PeakBucket = o.PeakBucket
	case RestorationID:
		p.Restoration = o.Restoration
	case EgressID:
		p.Egress = o.Egress
	case IngressID:
		p.Ingress = o.Ingress
	case AbsoluteTimeID:
		p.Absolute = o.Absolute
	case RelativeTimeID:
		p.Relative = o.Relative
	}
}
