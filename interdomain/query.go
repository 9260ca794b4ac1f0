package interdomain

import (
	"errors"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// What a domain answers to a QUERY (interdomain-qosm §2: 2/0, QoS Available only;
// and sequence 1, the QUERY of a receiver-initiated reservation). Nothing is held: the
// SLSs on both sides and the domain's own network are asked what there would be, QoS
// Available is lowered to that, and the way goes on until there is nothing left.

// inquiry is a QUERY in this domain: until it goes on, and then, kept by qosnslp,
// until its RESPONSE comes back.
type inquiry struct {
	attempt
	sid   wire.SID
	full  bool // all that is asked for could be had here
	early time.Time
}

// maxOpen is how many intervals an Absolute Time Specification can tell.
const maxOpen = qspec.MaxIntervals

func (m *Machine) inspect(now time.Time, q *qosnslp.Question) {
	i := &inquiry{sid: q.SID, full: true, attempt: attempt{
		serial: m.nextSerial(), ticket: q.Ticket, upstream: uint32(q.Upstream), since: now}}
	if q.Upstream != qosnslp.Stranger { // who makes nobody sign
		i.answers(q.Message)
	}
	var no *refusal
	if i.ask, no = m.read(now, q, qspec.InQuery); no == nil {
		i.terms, no = i.ask.terms(now)
	}
	switch {
	case no != nil:
	case q.MRI.Upstream:
		no = incompatible("a QUERY that travels against its flow")
	case i.init() != (q.Message.MessageFlags&nslpwire.ReserveInit != 0):
		no = incompatible("message sequence %d, RESERVE-INIT %t", i.ask.local.Sequence, !i.init())
	default:
		if no = m.enter(&i.attempt, q); no == nil {
			no = m.leave(&i.attempt, q.MRI.Flow.Destination.Addr())
		}
		i.confine(q.Scoped || q.Proxy)
	}
	if no == nil && i.init() && i.upstream == 0 && i.downstream == 0 {
		no = incompatible("the flow stays in this AS: there is no receiver to ask")
	}
	if no != nil {
		m.declined(now, i, no)
		return
	}
	m.inquiries[i.serial] = i
	if i.upstream != 0 {
		i.step = holdingIn
		m.do(SLSAsk{Ref: i.ref(), Request: m.legRequest(i.sid, &i.attempt, sls.Inbound), Limit: maxOpen})
		return
	}
	m.inspectOut(now, i)
}

// init says whether a receiver is invited to reserve.
func (i *inquiry) init() bool { return i.ask.local.Sequence == qspec.ReceiverInitiated }

func (i *inquiry) ref() Ref { return Ref{SID: i.sid, Serial: i.serial} }

func (m *Machine) inspectOut(now time.Time, i *inquiry) {
	if i.downstream == 0 {
		m.inspectDriver(now, i)
		return
	}
	i.step = holdingOut
	m.do(SLSAsk{Ref: i.ref(), Request: m.legRequest(i.sid, &i.attempt, sls.Outbound), Limit: maxOpen})
}

func (m *Machine) slsAsked(now time.Time, e SLSAsked) {
	i := m.inquiries[e.Ref.Serial]
	if i == nil || i.step != holdingIn && i.step != holdingOut {
		return
	}
	if e.Err != nil {
		m.declined(now, i, m.slsRefusal(&i.attempt, e.Err))
		return
	}
	q := &e.Quote
	if q.Earliest.After(i.early) {
		i.early = q.Earliest
	}
	if i.step == holdingIn {
		i.terms.SLSIn = q.SLS
		i.bounds = PathBounds{Latency: q.Delay, Jitter: q.Jitter, Loss: q.Loss}
	} else {
		i.terms.SLSOut = q.SLS
	}
	i.full = i.full && q.Full
	if len(i.terms.Times) > 0 {
		i.lower(q.Times)
	}
	if !i.terms.Relative {
		i.terms.Rate = min(i.terms.Rate, q.Rate)
	}
	if !i.terms.Relative && i.terms.Rate == 0 || i.terms.Relative && !q.Full && len(i.terms.Times) == 0 || i.open != nil && len(i.open) == 0 {
		no := failure(nslpwire.ClassQoSModelError, CodeNoCapacity)
		no.early, no.sls, no.why = i.early, q.SLS, q.Why
		m.declined(now, i, no)
		return
	}
	if i.step == holdingIn {
		m.inspectOut(now, i)
	} else {
		m.inspectDriver(now, i)
	}
}

// lower takes the times in which one SLS has anything.
func (i *inquiry) lower(times []sls.Interval) {
	open := make([]qspec.Interval, 0, len(times))
	for _, v := range times {
		x := qspec.Interval{Start: v.From.Unix(), End: lastSecond}
		if !v.Until.IsZero() {
			x.End = v.Until.Unix()
		}
		open = append(open, x)
	}
	if i.open == nil {
		i.open = open
	} else {
		i.open = append([]qspec.Interval{}, qspec.Intersect(i.open, open)...)
	}
}

func (m *Machine) inspectDriver(now time.Time, i *inquiry) {
	if q, err := m.offer(&i.attempt); err != nil {
		m.declined(now, i, i.ask.cannotMeet(&q, err))
		return
	}
	i.step = holdingDriver
	t := i.terms
	if i.open != nil {
		t.Times = i.open
	}
	m.do(DriverQuery{Ref: i.ref(), Request: t.request(i.sid, 0)})
}

func (m *Machine) driverTold(now time.Time, e DriverTold) {
	i := m.inquiries[e.Ref.Serial]
	if i == nil || i.step != holdingDriver {
		return
	}
	no := failure(nslpwire.ClassQoSModelError, CodeIntraDomain)
	var refused *intradomain.Refusal
	switch {
	case errors.As(e.Err, &refused):
		no.why = refused.Error()
	case e.Err != nil:
		no.why = "intra-domain control: " + e.Err.Error()
	case !i.terms.Relative && e.Rate == 0:
		no.why = "intra-domain control has nothing left"
	default:
		no = nil
	}
	if no != nil {
		m.declined(now, i, no)
		return
	}
	if !i.terms.Relative && e.Rate < i.terms.Rate {
		i.full, i.terms.Rate = false, e.Rate
	}
	m.inspected(now, i)
}

// inspected gives the verdict on a QUERY.
func (m *Machine) inspected(now time.Time, i *inquiry) {
	q, err := m.offer(&i.attempt)
	if err != nil {
		m.declined(now, i, i.ask.cannotMeet(&q, err))
		return
	}
	delete(m.inquiries, i.serial)
	v := qosnslp.Verdict{Ticket: i.close(now), Accept: true, Last: i.downstream == 0}
	switch {
	case !v.Last:
		v.NextPeer = qosnslp.Peer(i.downstream)
		v.Next = wire.MRI{Method: wire.OffPath, Flow: i.terms.Flow, Egress: i.terms.Egress, Ingress: i.terms.NextIngress}
		m.mark(&i.attempt, &q)
		v.QSPEC = q.Append(nil)
		v.Keep = i
	case i.init():
		// RFC 5975 §4.3.2: the RESERVE that answers it.
		initiator, err := q.Unwrap(qspec.InQuery)
		if err != nil {
			v = qosnslp.Verdict{Ticket: v.Ticket, Info: qspecRefusal(err).info}
			break
		}
		reserve := initiator.Reserve()
		v.QSPEC = reserve.Append(nil)
	default:
		answer, err := q.Respond()
		if err != nil {
			m.note("initiator-qspec", i.sid, err.Error())
		}
		v.ResponseQSPEC = answer.Append(nil)
		v.Extra = m.appendRecord(nil, i.sid, &i.attempt, m.queried(i))
	}
	m.do(Answer{v})
}

// queried is what this domain says of a QUERY (interdomain-qosm §7).
func (m *Machine) queried(i *inquiry) nslpwire.DomainRecord {
	r := m.record(&i.attempt, nslpwire.VerdictQueried, nil)
	r.Largest = qspec.RateDown(i.terms.Rate)
	if i.terms.Relative {
		r.Largest = 0
	}
	if !i.full && !i.early.IsZero() {
		r.Earliest = i.early.Unix()
	}
	return r
}

// declined ends a QUERY in this domain with the reason why it goes no further.
func (m *Machine) declined(now time.Time, i *inquiry, no *refusal) {
	delete(m.inquiries, i.serial)
	if no.why != "" {
		m.note("query-declined", i.sid, no.why)
	}
	ticket := i.close(now)
	rec := m.record(&i.attempt, nslpwire.VerdictRefused, no)
	m.do(Answer{qosnslp.Verdict{Ticket: ticket, Info: no.info, ResponseQSPEC: refusedQSPEC(&i.attempt, no),
		Extra: m.appendRecord(nil, i.sid, &i.attempt, rec)}})
}

// conclude passes the RESPONSE to a QUERY on: the border ids as they had been
// received, and this domain's record.
func (m *Machine) conclude(now time.Time, q *qosnslp.Question) {
	i, ok := q.Kept.(*inquiry)
	if !ok {
		m.do(Answer{qosnslp.Verdict{Ticket: q.Ticket, Accept: true, ResponseQSPEC: responseQSPECOf(q.Message), Extra: slices.Clip(records(q.Message))}})
		return
	}
	i.ticket, i.since = q.Ticket, now
	v := qosnslp.Verdict{Ticket: i.close(now), Accept: true}
	v.ResponseQSPEC = m.queryResponse(i, q.Message)
	v.Extra = m.appendRecord(records(q.Message), i.sid, &i.attempt, m.queried(i))
	m.do(Answer{v})
}

func (m *Machine) queryResponse(i *inquiry, msg *nslpwire.Message) []byte {
	if msg == nil || msg.QSPEC == nil {
		return nil
	}
	q, err := qspec.Parse(msg.QSPEC)
	if err != nil {
		m.note("query-response", i.sid, err.Error())
		return nil
	}
	i.ask.restore(&q)
	return q.Append(nil)
}
