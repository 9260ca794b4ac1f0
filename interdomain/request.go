package interdomain

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// ask is what a RESERVE or QUERY asks of this domain.
type ask struct {
	flow wire.Flow
	// in is the message that local travels in.
	in qspec.Message
	// local is the Local QSPEC: as received or, at the first QNE, made of
	// the Initiator's (interdomain-qosm §2).
	local    qspec.QSPEC
	own      bool   // local is made here, and its border ids are to be told to nobody
	snapshot []byte // of qosnslp, from the Commit question
}

// supported are the parameters that are acted on, or carried as what they are. Of
// the others, N tells (RFC 5975 §4.2.2).
const supported = qspec.AllParams

var unsupported = qspec.SetOf(qspec.SlackTermID, qspec.RPHID, qspec.DSTEClassID, qspec.RestorationID)

// read takes the QSPEC of a RESERVE or a QUERY apart.
func (m *Machine) read(now time.Time, q *qosnslp.Question, in qspec.Message) (ask, *refusal) {
	a := ask{flow: q.MRI.Flow, in: in}
	if q.Message == nil || q.Message.QSPEC == nil {
		return a, failure(nslpwire.ClassTransientFailure, nslpwire.FullQSPECRequired)
	}
	var err error
	if a.local, err = qspec.Parse(q.Message.QSPEC); err != nil {
		no := qspecRefusal(err)
		no.answer = qspec.Erroneous(q.Message.QSPEC) // RFC 5975 §4.2.4
		return a, no
	}
	if q.Upstream == qosnslp.Local {
		if err = a.encapsulate(now, m.cfg.AS); err != nil {
			no := qspecRefusal(err)
			answer := a.local.Refusal()
			no.answer = answer.Append(nil)
			return a, no
		}
	}
	no := a.check(q.Upstream != qosnslp.Local, q.MRI.Upstream)
	if no != nil && no.answer == nil && a.local.Failed() {
		no.answer = a.refusal(&a.local)
	}
	return a, no
}

// encapsulate is what the first QNE does with the Initiator's QSPEC: a Local QSPEC
// around it, in which times from the request on are absolute.
//
// RFC 5975 §4.1
func (a *ask) encapsulate(now time.Time, as uint32) error {
	if err := a.local.Check(a.in); err != nil {
		return err
	}
	local, err := qspec.Encapsulate(&a.local, a.in)
	if err != nil {
		return err
	}
	a.local, a.own = local, true
	// Where there is nothing to be negotiated they are all of QoS Available.
	a.local.SetEgress(qspec.BorderID{AS: as})
	a.local.SetIngress(qspec.BorderID{AS: as})
	return a.local.ResolveTimes(now.Unix())
}

// restore gives the border ids the values that they had when they arrived.
func (a *ask) restore(q *qspec.QSPEC) {
	if a.own {
		q.RestoreBorders(&qspec.QSPEC{})
		return
	}
	q.RestoreBorders(&a.local)
}

// refusal is the RESPONSE's QSPEC for a refusal of q, nil where nothing is to be said.
func (a *ask) refusal(q *qspec.QSPEC) []byte {
	out := q.RespondRefusal()
	a.restore(&out)
	if out.Desired.Empty() && out.Available.Empty() && out.Minimum.Empty() {
		return nil
	}
	return out.Append(make([]byte, 0, 256))
}

// check says whether this node can serve what the QSPEC asks for.
func (a *ask) check(fromPeer, upstream bool) *refusal {
	l := &a.local
	sequences := []qspec.MessageSequence{qspec.SenderInitiated}
	switch {
	case a.in == qspec.InQuery:
		sequences = []qspec.MessageSequence{qspec.ReceiverInitiated, qspec.ResourceQuery}
	case upstream:
		sequences[0] = qspec.ReceiverInitiated
	}
	if !l.Local || l.Type != qspec.TypeInterDomain || !slices.Contains(sequences, l.Sequence) {
		return incompatible("QSPEC type %d, sequence %d, local %t: want a Local QSPEC of type %d, sequence %d", l.Type, l.Sequence, l.Local, qspec.TypeInterDomain, sequences)
	}
	if err := l.Check(a.in); err != nil {
		return qspecRefusal(err)
	}
	_, hasEgress := l.Egress()
	_, hasIngress := l.Ingress()
	if fromPeer && (!hasEgress || !hasIngress) {
		return incompatible("QoS Available without Egress ID or Ingress ID")
	}
	if l.Failed() { // RFC 5975 §4.2.4
		return qspecRefusal(&qspec.Error{Class: qspec.ClassTransientFailure, Code: qspec.CodeReservationFailure, Object: qspec.NoObject,
			Err: errors.New("a node before this one has set an E flag")})
	}
	if err := l.MarkUnsupported(supported &^ unsupported); err != nil {
		return qspecRefusal(err)
	}
	d := a.wanted()
	if !d.Has.Has(qspec.TMOD1ID) && !d.Has.Has(qspec.PHBClassID) && !d.Has.Has(qspec.Y1541ClassID) {
		return incompatible("neither TMOD-1 nor PHB Class nor Y.1541 QoS Class is asked for")
	}
	if _, ok := a.class(); !ok {
		id := qspec.PHBClassID
		if !d.Has.Has(id) {
			id = qspec.Y1541ClassID
		}
		d.SetFailed(qspec.SetOf(id))
		return incompatible("the class that is asked for has no standard PHB: %v", d)
	}
	return nil
}

// wanted is the object that says what is asked for: QoS Desired, and in a QUERY for
// resources QoS Available.
func (a *ask) wanted() *qspec.Params {
	if a.local.Desired.Empty() {
		return &a.local.Available
	}
	return &a.local.Desired
}

// class returns the DSCP of the PHB that is asked for, or of that which goes with
// the Y.1541 class; best effort where neither is. RFC 5976 §2.1
func (a *ask) class() (sls.Class, bool) {
	d := a.wanted()
	phb := d.PHB
	switch {
	case d.Has.Has(qspec.PHBClassID):
	case d.Has.Has(qspec.Y1541ClassID):
		var ok bool
		if phb, ok = qspec.Y1541PHB(d.Y1541); !ok {
			return 0, false
		}
	default:
		return sls.BE, true
	}
	dscp, ok := phb.DSCP()
	return sls.Class(dscp), ok
}

// terms is what the ledger and the driver will be asked for.
func (a *ask) terms(now time.Time) (Terms, *refusal) {
	d := a.wanted()
	t := Terms{Flow: a.flow, Priority: d.AdmissionPriority()}
	t.Class, _ = a.class()
	t.Inside = t.Class
	if d.Has.Has(qspec.ExcessID) {
		t.Excess = excessOf(d.Excess)
	}
	var no *refusal
	if t.Times, no = a.times(now); no != nil {
		return t, no
	}
	traffic, ok := a.local.Traffic()
	if !ok {
		t.Relative = true
		return t, nil
	}
	t.Rate = min(traffic.CIR, sls.MaxRate)
	t.MinRate = min(max(a.local.LeastRate(), 1), t.Rate) // 0: any reduction will do
	t.Burst = traffic.CBS
	if traffic.PIR != qspec.Unlimited {
		t.Peak = min(traffic.PIR, sls.MaxRate)
	}
	return t, nil
}

// times are the intervals that are asked for, without those that are over: what
// QoS Available still has of them, or else all of QoS Desired's; of a weekly window
// its occurrences in them. nil: from now on.
func (a *ask) times(now time.Time) ([]qspec.Interval, *refusal) {
	p := &a.local.Available
	if !p.Has.Has(qspec.AbsoluteTimeID) {
		p = a.wanted()
	}
	if !p.Has.Has(qspec.AbsoluteTimeID) {
		return nil, nil
	}
	refuse := func(id qspec.ParameterID, format string, args ...any) ([]qspec.Interval, *refusal) {
		p.SetFailed(qspec.SetOf(id))
		no := failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure)
		no.why = fmt.Sprintf(format, args...)
		no.answer = a.refusal(&a.local)
		return nil, no
	}
	ahead := qspec.Intersect(p.Absolute, []qspec.Interval{{Start: now.Unix(), End: math.MaxInt64}})
	if len(ahead) > 0 && ahead[len(ahead)-1].End > lastSecond {
		return refuse(qspec.AbsoluteTimeID, "the times asked for end after the year 9999")
	}
	if p.Has.Has(qspec.RelativeTimeID) && p.Relative.Kind == qspec.Weekly {
		ahead = p.Relative.Windows(ahead, sls.MaxIntervals+1)
		if len(ahead) > sls.MaxIntervals {
			return refuse(qspec.RelativeTimeID, "the weekly window has more than %d occurrences in the times asked for", sls.MaxIntervals)
		}
	}
	if len(ahead) == 0 {
		return refuse(qspec.AbsoluteTimeID, "nothing of the times asked for is left")
	}
	return ahead, nil
}

// lastSecond is the last one of the year 9999, as far as ledgers count.
const lastSecond = 253402300799

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

// offer brings what this domain holds into the QSPEC: rate and times, and its share
// of what accumulates along the path. Of what it does not know of itself, N tells.
// The error is a *qspec.Error: it cannot be met.
//
// RFC 5975 §4.2, RFC 5975 §4.3
func (m *Machine) offer(a *attempt) (qspec.QSPEC, error) {
	q := a.ask.local
	var share qspec.Params
	if !a.terms.Relative {
		share = qspec.RateShare(a.terms.Rate)
	}
	known := supported &^ unsupported
	if !a.rerouted {
		known = m.pathShare(a, &share)
	}
	if len(a.terms.Times) > 0 {
		share.Has |= qspec.SetOf(qspec.AbsoluteTimeID)
		if share.Absolute = a.open; share.Absolute == nil {
			share.Absolute = a.ask.wanted().Absolute // all of it is held, or else there is no offer
		}
	}
	err := q.Admit(a.ask.in, known, &share)
	return q, err
}

// pathShare fills in what this domain adds to the path: what the SLS with the
// upstream domain promises, or else what the domain says of itself. It returns the
// parameters that the domain can serve.
func (m *Machine) pathShare(a *attempt, share *qspec.Params) qspec.ParamSet {
	p := m.cfg.Path
	if a.bounds.Latency > 0 {
		p.Latency = a.bounds.Latency
	}
	if a.bounds.Jitter > 0 {
		p.Jitter = a.bounds.Jitter
	}
	if a.bounds.Loss > 0 {
		p.Loss = a.bounds.Loss
	}
	known := supported &^ unsupported
	for _, x := range []struct {
		id  qspec.ParameterID
		has bool
	}{
		{qspec.PathLatencyID, p.Latency > 0}, {qspec.PathJitterID, p.Jitter > 0}, {qspec.PathPLRID, p.Loss > 0}, {qspec.PathPERID, p.Errors > 0},
	} {
		if x.has {
			share.Has |= qspec.SetOf(x.id)
		} else {
			known &^= qspec.SetOf(x.id)
		}
	}
	share.PathLatency = micros(p.Latency)
	// Only the quantile is agreed; the other two are not known, and N says so.
	share.PathJitter = qspec.PathJitter{P999: micros(p.Jitter), Variance: qspec.Indeterminate, MinLatency: qspec.Indeterminate}
	share.PathPLR, share.PathPER = float32(p.Loss), float32(p.Errors)
	return known
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), int64(qspec.Indeterminate)-1))
}

// mark writes the border towards where the message goes next: this domain's egress
// and the next one's ingress, and in a RESERVE that travels upstream the same two of
// the border that its QUERY came in by.
func (m *Machine) mark(a *attempt, q *qspec.QSPEC) {
	if a.reverse {
		q.SetEgress(qspec.BorderID{AS: a.upstream, Addr: a.terms.PreviousEgress})
		q.SetIngress(qspec.BorderID{AS: m.cfg.AS, Addr: a.terms.Ingress})
		return
	}
	q.SetEgress(qspec.BorderID{AS: m.cfg.AS, Addr: a.terms.Egress})
	q.SetIngress(qspec.BorderID{AS: a.downstream, Addr: a.terms.NextIngress})
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
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: %w", a.next(), err)
	}
	if err := m.passed(a, &r); err != nil {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: %w", a.next(), err)
	}
	if !r.Reserved.Has.Has(qspec.TMOD1ID) {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: no TMOD-1 in QoS Reserved", a.next())
	}
	share = r.Reserved.TMOD1.Rate
	rate = qspec.Octets(share)
	if rate > qspec.Octets(qspec.RateUp(a.terms.Rate)) || rate < a.terms.MinRate {
		return 0, 0, fmt.Errorf("RESPONSE of AS%d: reserved %d octets/s, want %d to %d", a.next(), rate, a.terms.MinRate, a.terms.Rate)
	}
	return min(rate, a.terms.Rate), share, nil
}

// passed says whether the domains on the way to the last QNE and back have kept to
// what they may change: QoS Available has got no better than it was when it left
// here, and QoS Reserved is QoS Desired with the values of QoS Available.
//
// RFC 5975 §3.2, RFC 5975 §4.3.1
func (m *Machine) passed(a *attempt, r *qspec.QSPEC) error {
	sent, err := m.offer(a)
	if err != nil {
		return err
	}
	m.mark(a, &sent)
	back := sent
	back.Available = r.Available
	if err := qspec.CheckPassed(&sent, &back, a.ask.in); err != nil {
		return err
	}
	want := back.Response()
	return qspec.CheckPassed(&want, r, qspec.InResponse)
}

// settledQSPEC is what the next domain is told when it has to be told all of
// the reservation again (interdomain-qosm §6: "the old QSPEC"): exactly what it
// has reserved, no more, no less. With the range that was asked for at first it
// might give another amount than upstream knows of. nil where there was none.
func (m *Machine) settledQSPEC(a *attempt, share float32) []byte {
	q, err := m.offer(a)
	if err != nil || share == 0 || q.Desired.TMOD1.Rate == share && q.LeastRate() == qspec.Octets(share) {
		return nil
	}
	q.Desired.TMOD1.Rate = share
	if q.Available.Has.Has(qspec.TMOD1ID) {
		q.Available.TMOD1.Rate = share
	}
	if !q.Minimum.Has.Has(qspec.TMOD1ID) {
		q.Minimum.Has |= qspec.SetOf(qspec.TMOD1ID)
		q.Minimum.TMOD1 = q.Desired.TMOD1
		if q.Sequence == qspec.SenderInitiated {
			q.Combination = 2
		}
	}
	q.Minimum.TMOD1.Rate = share
	m.mark(a, &q)
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
		q, err := m.offer(a)
		if err == nil {
			q, err = q.Respond()
		}
		if err != nil {
			m.note("initiator-qspec", wire.SID{}, err.Error())
		}
		a.ask.restore(&q)
		return q.Append(make([]byte, 0, 256))
	}
	q, err := qspec.Parse(msg.QSPEC)
	if err != nil {
		return nil
	}
	a.ask.restore(&q)
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
func refusedQSPEC(a *attempt, no *refusal) []byte {
	q := a.ask.local
	switch {
	case no.answer != nil:
		return no.answer
	case q.Available.Empty():
		return nil
	}
	short := qspec.SetOf(qspec.TMOD1ID)
	if a.terms.Relative {
		short = qspec.SetOf(qspec.PHBClassID, qspec.Y1541ClassID)
	}
	if len(a.terms.Times) > 0 && no.largest == 0 {
		short |= qspec.SetOf(qspec.AbsoluteTimeID)
	}
	q.Refuse(no.largest, short)
	return a.ask.refusal(&q)
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
		b = slices.Clip(list[0].Value) // appending makes a copy
	}
	var err error
	if m.cfg.Records != nil && a.hasRII && !(m.cfg.OwnLater && a.upstream == 0) {
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
