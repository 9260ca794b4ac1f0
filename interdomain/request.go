package interdomain

import (
	"errors"
	"fmt"
	"math"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// ask is what a RESERVE asks of this domain.
type ask struct {
	flow wire.Flow
	// local is the Local QSPEC: as received or, at the first QNE, made of
	// the Initiator's (interdomain-qosm §2).
	local    qspec.QSPEC
	snapshot []byte // of qosnslp, from the Commit question
}

// read takes a RESERVE's QSPEC apart.
func (m *Machine) read(q *qosnslp.Question) (ask, *refusal) {
	a := ask{flow: q.MRI.Flow}
	if q.Message == nil || q.Message.QSPEC == nil {
		return a, failure(nslpwire.ClassTransientFailure, nslpwire.FullQSPECRequired)
	}
	var err error
	if a.local, err = qspec.Parse(q.Message.QSPEC); err != nil {
		return a, qspecRefusal(err)
	}
	if q.Upstream == qosnslp.Local {
		if err = a.local.Check(qspec.InReserve); err == nil {
			a.local, err = qspec.Encapsulate(&a.local, qspec.InReserve)
		}
		if err != nil {
			return a, qspecRefusal(err)
		}
	}
	if no := a.check(q.Upstream != qosnslp.Local); no != nil {
		return a, no
	}
	return a, nil
}

// check says whether this node can serve what the QSPEC asks for.
func (a *ask) check(fromPeer bool) *refusal {
	l := &a.local
	if !l.Local || l.Type != qspec.TypeInterDomain || l.Sequence != qspec.SenderInitiated {
		return incompatible("QSPEC type %d, sequence %d, local %t: want a Local QSPEC of type %d, sequence 0", l.Type, l.Sequence, l.Local, qspec.TypeInterDomain)
	}
	if err := l.Check(qspec.InReserve); err != nil {
		return qspecRefusal(err)
	}
	_, hasEgress := l.Egress()
	_, hasIngress := l.Ingress()
	if fromPeer && (!hasEgress || !hasIngress) {
		return incompatible("QoS Available without Egress ID or Ingress ID")
	}
	for _, p := range []*qspec.Params{&l.Desired, &l.Available, &l.Minimum} {
		for _, x := range p.Extra {
			if x.Must {
				return incompatible("parameter %d must be understood, and is not", x.ID)
			}
		}
		if p.Has.Has(qspec.AbsoluteTimeID) || p.Has.Has(qspec.RelativeTimeID) {
			// M=1: a node that doesn't know it must not book for now.
			return incompatible("time specifications are not supported yet")
		}
	}
	d := &l.Desired
	switch {
	case d.Has.Has(qspec.TMOD1ID):
	case d.Has.Has(qspec.PHBClassID): // relative QoS
	default:
		return incompatible("QoS Desired has neither TMOD-1 nor PHB Class")
	}
	if d.Has.Has(qspec.PHBClassID) {
		if _, ok := d.PHB.DSCP(); !ok {
			return incompatible("PHB Class %#04x is not a standard PHB", uint16(d.PHB))
		}
	}
	return nil
}

// terms is what the ledger and the driver will be asked for.
func (a *ask) terms() Terms {
	t := Terms{Flow: a.flow, Priority: a.local.Desired.AdmissionPriority()}
	if dscp, ok := a.local.DSCP(); ok {
		t.Class, t.Inside = sls.Class(dscp), sls.Class(dscp)
	}
	if d := &a.local.Desired; d.Has.Has(qspec.ExcessID) {
		t.Excess = excessOf(d.Excess)
	}
	traffic, ok := a.local.Traffic()
	if !ok {
		t.Relative = true
		return t
	}
	t.Rate = min(traffic.CIR, sls.MaxRate)
	t.MinRate = min(max(a.local.LeastRate(), 1), t.Rate) // 0: any reduction will do
	t.Burst = traffic.CBS
	if traffic.PIR != qspec.Unlimited {
		t.Peak = min(traffic.PIR, sls.MaxRate)
	}
	return t
}

// excessOf puts an Excess Treatment that has been checked into the controller's
// words.
//
// RFC 5975 §5.2.11
func excessOf(x qspec.Excess) intradomain.Excess {
	switch x.Treatment {
	case qspec.ExcessDrop:
		return intradomain.Excess{Treatment: intradomain.ExcessDrop}
	case qspec.ExcessShape:
		return intradomain.Excess{Treatment: intradomain.ExcessShape}
	case qspec.ExcessRemark:
		return intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: x.Remark}
	case qspec.ExcessNoMeter:
		return intradomain.Excess{Treatment: intradomain.ExcessNoMeter}
	}
	return intradomain.Excess{}
}

// forwardQSPEC is the QSPEC for the next domain: QoS Available lowered to what
// this one holds, its own egress and the next one's ingress.
func (m *Machine) forwardQSPEC(a *attempt) []byte {
	q := a.ask.local
	if !a.terms.Relative {
		q.OfferRate(a.terms.Rate)
	}
	q.SetEgress(qspec.BorderID{AS: m.cfg.AS, Addr: a.terms.Egress})
	q.SetIngress(qspec.BorderID{AS: a.downstream, Addr: a.terms.NextIngress})
	return q.Append(make([]byte, 0, 256))
}

// reserved reads what the path has reserved from the RESPONSE, in octets per
// second and as it stands there; at the last node it is what this domain has.
func (m *Machine) reserved(a *attempt, q *qosnslp.Question) (rate uint64, share float32, err error) {
	if q.Message == nil || a.terms.Relative {
		return a.terms.Rate, 0, nil
	}
	if q.Message.QSPEC == nil && a.terms.Rate == a.terms.MinRate {
		// All or nothing, and the next domain has it already: it has found
		// nothing to set up (RFC 5974 §5.2.5.2).
		return a.terms.Rate, 0, nil
	}
	r, err := qspec.Parse(q.Message.QSPEC)
	if err != nil {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: %w", a.downstream, err)
	}
	if !r.Reserved.Has.Has(qspec.TMOD1ID) {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: no TMOD-1 in QoS Reserved", a.downstream)
	}
	share = r.Reserved.TMOD1.Rate
	rate = qspec.Octets(share)
	if rate > qspec.Octets(qspec.RateUp(a.terms.Rate)) || rate < a.terms.MinRate {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: reserved %d octets/s, want %d to %d", a.downstream, rate, a.terms.MinRate, a.terms.Rate)
	}
	return min(rate, a.terms.Rate), share, nil
}

// settledQSPEC is what the next domain is told when it has to be told all of
// the reservation again (interdomain-qosm §6: "the old QSPEC"): exactly what it
// has reserved, no more, no less. With the range that was asked for at first it
// might give another amount than upstream knows of. nil where there was none.
func (m *Machine) settledQSPEC(a *attempt, share float32) []byte {
	q := a.ask.local
	if share == 0 || q.Desired.TMOD1.Rate == share && q.LeastRate() == qspec.Octets(share) {
		return nil
	}
	q.Desired.TMOD1.Rate = share
	if q.Available.Has.Has(qspec.TMOD1ID) {
		q.Available.TMOD1.Rate = share
	}
	if !q.Minimum.Has.Has(qspec.TMOD1ID) {
		q.Minimum.Has |= qspec.SetOf(qspec.TMOD1ID)
		q.Minimum.TMOD1 = q.Desired.TMOD1
		q.Combination = 2
	}
	q.Minimum.TMOD1.Rate = share
	q.SetEgress(qspec.BorderID{AS: m.cfg.AS, Addr: a.terms.Egress})
	q.SetIngress(qspec.BorderID{AS: a.downstream, Addr: a.terms.NextIngress})
	return q.Append(make([]byte, 0, 256))
}

// responseQSPEC is the QSPEC of the RESPONSE that goes upstream. The last QNE
// makes it, and updates the Initiator QSPEC from the local one; the others
// restore the Egress and Ingress ID that they had received.
func (m *Machine) responseQSPEC(a *attempt, msg *nslpwire.Message) []byte {
	if a.step == dropping && (msg == nil || msg.QSPEC == nil) {
		return nil // nobody answered, or nobody said
	}
	if msg == nil || msg.QSPEC == nil {
		q := a.ask.local
		if !a.terms.Relative {
			q.OfferRate(a.terms.Rate)
		}
		q, err := q.Respond()
		if err != nil {
			m.note("initiator-qspec", wire.SID{}, err.Error())
		}
		return q.Append(make([]byte, 0, 256))
	}
	q, err := qspec.Parse(msg.QSPEC)
	if err != nil {
		return nil
	}
	q.RestoreBorders(&a.ask.local)
	return q.Append(make([]byte, 0, 256))
}

// responseQSPECOf forwards a RESPONSE's QSPEC for which this node has no
// attempt any more: without anything that tells of the domain downstream.
func responseQSPECOf(msg *nslpwire.Message) []byte {
	if msg == nil || msg.QSPEC == nil {
		return nil
	}
	q, err := qspec.Parse(msg.QSPEC)
	if err != nil {
		return nil
	}
	q.RestoreBorders(&qspec.QSPEC{})
	return q.Append(nil)
}

// refusedQSPEC tells the largest rate that the path so far and this domain
// could give, with E on what was short (interdomain-qosm §7).
func refusedQSPEC(a *attempt, largest uint64) []byte {
	q := a.ask.local
	if q.Available.Empty() || a.terms.Relative {
		return nil
	}
	q.Refuse(largest, qspec.SetOf(qspec.TMOD1ID))
	q = q.RespondRefusal()
	return q.Append(make([]byte, 0, 256))
}

func qspecRefusal(err error) *refusal {
	var e *qspec.Error
	if !errors.As(err, &e) {
		e = &qspec.Error{Class: qspec.ClassProtocolError, Code: qspec.CodeMalformedQSPEC}
	}
	r := failure(nslpwire.ErrorClass(e.Class), e.Code)
	r.why = err.Error()
	return r
}

// incompatible is RFC 5975 §4.2.3, Incompatible QSPEC.
func incompatible(format string, args ...any) *refusal {
	r := failure(nslpwire.ClassProtocolError, nslpwire.IncompatibleQSPEC)
	r.why = fmt.Sprintf(format, args...)
	return r
}

// records returns the DOMAIN-RECORDS of a message, as the list that this
// domain's record is appended to.
func records(msg *nslpwire.Message) []nslpwire.Object {
	if msg == nil {
		return nil
	}
	if o, ok := msg.Object(nslpwire.DomainRecords); ok {
		return []nslpwire.Object{o}
	}
	return nil
}

// appendRecord appends a record to a list of none or one DOMAIN-RECORDS, signed
// where there is a key and an RII to tie it to. A list that is full, or cannot be
// read, goes on as it is.
func (m *Machine) appendRecord(list []nslpwire.Object, sid wire.SID, a *attempt, r nslpwire.DomainRecord) []nslpwire.Object {
	var b []byte
	if len(list) > 0 {
		b = append(make([]byte, 0, len(list[0].Value)+160), list[0].Value...)
	}
	var err error
	if m.cfg.Records != nil && a.hasRII {
		b, err = SignRecord(b, r, sid, a.rii, m.cfg.Records)
	} else {
		b, err = nslpwire.AppendDomainRecord(b, r)
	}
	if err != nil {
		m.note("domain-records", sid, err.Error())
		return list
	}
	return []nslpwire.Object{{Action: nslpwire.Forward, Type: nslpwire.DomainRecords, Value: b}}
}

// record is what this domain says of itself.
func (m *Machine) record(a *attempt, v nslpwire.Verdict, no *refusal) nslpwire.DomainRecord {
	r := nslpwire.DomainRecord{
		AS: m.cfg.AS, Verdict: v,
		Micros: uint32(min(a.spent.Microseconds(), math.MaxUint32)),
	}
	id := a.terms.SLSIn
	if id == "" {
		id = a.terms.SLSOut
	}
	if no != nil {
		r.Class, r.Code = no.info.Class, no.info.Code
		r.Largest = float32(no.largest)
		if !no.early.IsZero() {
			r.Earliest = no.early.Unix()
		}
		if no.sls != "" {
			id = no.sls
		}
	}
	if id != "" {
		r.SLSID = m.cfg.SLSName(id)
	}
	return r
}
