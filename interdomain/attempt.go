package interdomain

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// QoS Model Error codes of the InterDomain-QOSM (interdomain-qosm §1).
const (
	CodeNoSLS       = nslpwire.NoSLS             // no SLS covers the request
	CodeNoCapacity  = nslpwire.SLSRefuses        // an SLS does, its capacity or schedule refuses
	CodePolicy      = nslpwire.PolicyRefuses     // policy refuses
	CodeIntraDomain = nslpwire.IntraDomainFailed // intra-domain control refuses or failed
)

// Terms are what a reservation has in this domain. Rates are octets per second.
type Terms struct {
	Flow     wire.Flow
	Class    sls.Class
	Relative bool
	Rate     uint64 // CIR granted so far; what is committed, after the commit
	MinRate  uint64
	Peak     uint64
	Burst    uint64
	// SLSIn and SLSOut are the SLSs that the request fits on either side;
	// empty where the flow starts or ends here.
	SLSIn, SLSOut string
	// PreviousEgress and Ingress are the border that the flow enters by (the
	// neighbour's interface and ours), Egress and NextIngress the one it
	// leaves by (ours and the neighbour's).
	PreviousEgress, Ingress netip.Addr
	Egress, NextIngress     netip.Addr
	Priority                uint8
	// Times are when it is for, Unix seconds, sorted and disjoint; nil: from the
	// commit on until it is released.
	Times []qspec.Interval
	// Inside is the DSCP that its packets have in this domain: the SLS's, or
	// the class itself.
	Inside sls.Class
	// Excess is what becomes of traffic beyond Rate: as the QSPEC says, or else
	// the SLS.
	Excess intradomain.Excess
}

// step is where an attempt stands.
type step uint8

const (
	holdingIn     step = iota // the SLS with the upstream domain
	holdingOut                // the SLS with the downstream domain
	holdingDriver             // the domain's own network
	held                      // accepted; the RESPONSE is awaited
	committing                // driver and store
	dropping                  // the driver gives up a hold
)

// maxPriority is the highest priority that an SLS can name.
const maxPriority = 7

// attempt is one RSN-raising transaction, from its Admit question until it is
// committed or given up.
type attempt struct {
	serial  uint64
	ticket  uint64 // of the question that is open; 0: none
	version uint32
	step    step
	lowered bool // the driver's offer was taken up once already
	// reverse: the RESERVE travels against the flow, over the path of a QUERY.
	reverse bool
	// rerouted: ask.local is what went downstream before, with our share in it.
	rerouted bool

	hasRII bool
	rii    uint32 // of the RESERVE: what our record is signed for

	upstream, downstream uint32 // of the flow
	ask                  ask
	terms                Terms
	open                 []qspec.Interval // of a QUERY's times: when there is anything; nil: always
	bounds               PathBounds       // of the SLS with the upstream domain

	displaces []intradomain.ID // that its commit will end

	since time.Time     // when the open question came
	spent time.Duration // in this domain, before that

	// while committing
	driverDone, storeDone bool
	failure               error
	reply                 reply // what the verdict will carry
}

// reply is the part of a verdict that goes upstream in the RESPONSE.
type reply struct {
	info    nslpwire.InfoSpec
	qspec   []byte
	settled []byte // for the next domain, see settledQSPEC
	extra   []nslpwire.Object
}

func (a *attempt) state() State {
	switch a.step {
	case holdingIn, holdingOut:
		return Authorizing
	case holdingDriver:
		return Authorized
	}
	return Reserved
}

// next is the AS that the message goes on to; 0: none.
func (a *attempt) next() uint32 {
	if a.reverse {
		return a.upstream
	}
	return a.downstream
}

// admit is the flow of interdomain-qosm §6 up to the verdict: authenticate →
// SLS → policy → hold → intra-domain hold → next domain, or the flow's end.
func (m *Machine) admit(now time.Time, s *session, q *qosnslp.Question) {
	if s == nil {
		s = &session{sid: q.SID}
	}
	a := &attempt{
		serial: m.nextSerial(), ticket: q.Ticket, version: q.RSN,
		upstream: uint32(q.Upstream), since: now,
	}
	if q.MRI.Upstream {
		a.reverse, a.upstream, a.downstream = true, uint32(q.Downstream), uint32(q.Upstream)
	}
	if q.Upstream != qosnslp.Stranger { // who makes nobody sign
		a.answers(q.Message)
	}
	if s.release != nil || s.attempt != nil {
		// qosnslp lets one transaction through at a time; a session that is
		// still giving back what it had cannot be reserved again.
		m.refuseUnknown(now, s, a, failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure))
		return
	}
	var no *refusal
	if a.ask, no = m.read(now, q, qspec.InReserve); no == nil {
		a.terms, no = a.ask.terms(now)
	}
	if no != nil {
		m.refuseUnknown(now, s, a, no)
		return
	}
	switch {
	case a.reverse:
		no = m.along(a, q)
	default:
		if no = m.enter(a, q); no == nil {
			no = m.leave(a, q.MRI.Flow.Destination.Addr())
		}
		a.confine(q.Scoped || q.Proxy)
	}
	m.sessions[q.SID] = s
	s.attempt = a
	if no != nil {
		m.refuse(now, s, a, no)
		return
	}
	if a.upstream != 0 {
		m.hold(s, a, sls.Inbound)
	} else {
		m.holdOut(now, s, a)
	}
}

// enter checks where the request comes in: AS in Egress ID = AS that signed =
// customer of the SLS, AS in Ingress ID = our own, interface = that of the
// relaying edge (interdomain-qosm §4).
func (m *Machine) enter(a *attempt, q *qosnslp.Question) *refusal {
	if a.upstream == 0 {
		return nil
	}
	b := m.borderOf(q, a.upstream)
	egress, _ := a.ask.local.Egress()
	ingress, _ := a.ask.local.Ingress()
	switch {
	case b == nil:
		return unauthorized("no border of ours faces AS%d with QNE %s behind edge %s", a.upstream, q.In.Peer, q.In.Via)
	case egress.AS != a.upstream:
		return unauthorized("Egress ID names AS%d, the message is of AS%d", egress.AS, a.upstream)
	case ingress.AS != m.cfg.AS:
		return unauthorized("Ingress ID names AS%d, this is AS%d", ingress.AS, m.cfg.AS)
	case ingress.Addr != b.External:
		return unauthorized("Ingress ID names %s, the Query came by %s", ingress.Addr, b.External)
	case egress.Addr != b.Neighbor:
		return unauthorized("Egress ID names %s, the neighbour's interface there is %s", egress.Addr, b.Neighbor)
	}
	a.terms.PreviousEgress, a.terms.Ingress = b.Neighbor, b.External
	return nil
}

// confine has what is scoped to this domain end at its far border, or else does
// nothing. RFC 5974 §3.2.7
func (a *attempt) confine(here bool) {
	if here {
		a.downstream, a.terms.NextIngress = 0, netip.Addr{}
	}
}

// along checks a RESERVE that travels against the flow: it comes over the border
// that its QUERY left by, so that border's ids are the ones that this domain wrote
// into the QUERY, and it goes on over the one that the QUERY came in by.
func (m *Machine) along(a *attempt, q *qosnslp.Question) *refusal {
	if a.downstream != 0 {
		b := m.byNeighbor[q.MRI.Ingress]
		egress, _ := a.ask.local.Egress()
		ingress, _ := a.ask.local.Ingress()
		switch {
		case b == nil || b.NeighborAS != a.downstream || b.External != q.MRI.Egress:
			return unauthorized("no border of ours leads from %s to %s of AS%d", q.MRI.Egress, q.MRI.Ingress, a.downstream)
		case egress != qspec.BorderID{AS: m.cfg.AS, Addr: b.External}:
			return unauthorized("Egress ID names AS%d and %s, its QUERY left by %s", egress.AS, egress.Addr, b.External)
		case ingress != qspec.BorderID{AS: a.downstream, Addr: b.Neighbor}:
			return unauthorized("Ingress ID names AS%d and %s, its QUERY went to %s of AS%d", ingress.AS, ingress.Addr, b.Neighbor, a.downstream)
		}
		a.terms.Egress, a.terms.NextIngress = b.External, b.Neighbor
	} else if q.Message.Flags&nslpwire.Proxy != 0 {
		// A P-QNE's own: the flow may go on. RFC 5974 §4.8
		if no := m.leave(a, q.MRI.Flow.Destination.Addr()); no != nil {
			return no
		}
		a.confine(true)
	}
	if a.upstream != 0 {
		b := m.byExternal[q.DownstreamMRI.Ingress]
		if b == nil || b.NeighborAS != a.upstream {
			return unauthorized("no border of ours at %s faces AS%d", q.DownstreamMRI.Ingress, a.upstream)
		}
		a.terms.PreviousEgress, a.terms.Ingress = b.Neighbor, b.External
	}
	return nil
}

// borderOf finds the border that a request came in by: the edge that relayed
// its Query or, with configured discovery, the one that faces the peer's QNE.
func (m *Machine) borderOf(q *qosnslp.Question, as uint32) *Border {
	if q.In.Via.IsValid() {
		if b := m.byInternal[q.In.Via]; b != nil && b.NeighborAS == as {
			return b
		}
		return nil
	}
	for i := range m.cfg.Borders {
		b := &m.cfg.Borders[i]
		if b.NeighborAS != as {
			continue
		}
		for _, p := range b.PeerQNEs {
			if p == q.In.Peer {
				return b
			}
		}
	}
	return nil
}

// leave finds where the flow goes on: the next AS and its ingress, from BGP.
func (m *Machine) leave(a *attempt, destination netip.Addr) *refusal {
	r, ok := m.cfg.Routes.Lookup(destination)
	if !ok {
		return &refusal{
			info: failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure).info,
			why:  fmt.Sprintf("no route to %s", destination),
		}
	}
	if r.Local {
		return nil
	}
	b := m.byNeighbor[r.NextHop]
	if b == nil || b.NeighborAS != r.NextAS {
		return &refusal{
			info: failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure).info,
			why:  fmt.Sprintf("route to %s leaves towards AS%d by %s, which is not in the table of border interfaces", destination, r.NextAS, r.NextHop),
		}
	}
	if r.NextAS == a.upstream {
		return &refusal{
			info: failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure).info,
			why:  fmt.Sprintf("route to %s leads back to AS%d", destination, r.NextAS),
		}
	}
	a.downstream = r.NextAS
	a.terms.Egress, a.terms.NextIngress = b.External, b.Neighbor
	return nil
}

func (m *Machine) hold(s *session, a *attempt, leg sls.Leg) {
	a.step = holdingOut
	if leg == sls.Inbound {
		a.step = holdingIn
	}
	m.do(SLSHold{Ref: a.ref(s), Request: m.legRequest(s.sid, a, leg)})
}

// legRequest is what the ledger is asked for, on the side of one neighbour.
func (m *Machine) legRequest(sid wire.SID, a *attempt, leg sls.Leg) sls.Request {
	r := sls.Request{
		ID: slsID(sid), Leg: leg, Version: a.version,
		Source: a.terms.Flow.Source, Destination: a.terms.Flow.Destination,
		Class: a.terms.Class, Relative: a.terms.Relative,
		Rate: a.terms.Rate, MinRate: a.terms.MinRate, Peak: a.terms.Peak, Burst: a.terms.Burst,
		Priority: min(a.terms.Priority, maxPriority), Intervals: a.terms.intervals(),
	}
	a.ask.priorities(&r)
	if leg == sls.Inbound {
		r.Customer, r.Provider = a.upstream, m.cfg.AS
		r.Egress, r.Ingress = a.terms.PreviousEgress, a.terms.Ingress
	} else {
		r.Customer, r.Provider = m.cfg.AS, a.downstream
		r.Egress, r.Ingress = a.terms.Egress, a.terms.NextIngress
	}
	return r
}

func (m *Machine) holdOut(now time.Time, s *session, a *attempt) {
	if a.downstream != 0 {
		m.hold(s, a, sls.Outbound)
	} else {
		m.holdDriver(now, s, a)
	}
}

func (m *Machine) slsHeld(now time.Time, s *session, a *attempt, e SLSHeld) {
	if a.step != holdingIn && a.step != holdingOut {
		return
	}
	if e.Err != nil {
		m.refuse(now, s, a, m.slsRefusal(a, e.Err))
		return
	}
	a.terms.Rate = e.Grant.Rate
	a.counts(e.Grant.Displaces)
	if e.Grant.Peak != 0 {
		a.terms.Peak = min(a.terms.Peak, e.Grant.Peak)
	}
	if a.step == holdingIn {
		a.terms.SLSIn = e.Grant.SLS
		a.bounds = PathBounds{Latency: e.Grant.Delay, Jitter: e.Grant.Jitter, Loss: e.Grant.Loss}
		a.agreed(&e.Grant)
		m.holdOut(now, s, a)
		return
	}
	a.terms.SLSOut = e.Grant.SLS
	if a.upstream == 0 {
		a.agreed(&e.Grant)
	}
	m.holdDriver(now, s, a)
}

// agreed takes over what an SLS says of the traffic inside this domain. The one
// that it comes in by counts; at the first QNE, the one that it leaves by.
//
// "If no Excess Treatment Parameter is specified [...] a QNE can do whatever it
// finds suitable": what the SLS says. Where that is to shape, nobody has been
// promised a queue, and what a full one would drop is dropped.
//
// RFC 5975 §5.2.11
func (a *attempt) agreed(g *sls.Grant) {
	a.terms.Inside = g.Inside
	if a.ask.local.Desired.Has.Has(qspec.ExcessID) {
		return
	}
	switch g.Excess {
	case sls.Drop, sls.Shape:
		a.terms.Excess = intradomain.Excess{Treatment: intradomain.ExcessDrop}
	case sls.Remark:
		a.terms.Excess = intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: uint8(g.ExcessClass)}
	case sls.NoMetering:
		a.terms.Excess = intradomain.Excess{Treatment: intradomain.ExcessNoMeter}
	}
}

// holdDriver asks the domain's own network, unless the path is not good enough
// already: what accumulates does not get better on the way.
func (m *Machine) holdDriver(now time.Time, s *session, a *attempt) {
	if q, err := m.offer(a); err != nil {
		m.refuse(now, s, a, a.ask.cannotMeet(&q, err))
		return
	}
	a.step = holdingDriver
	r := a.terms.request(s.sid, a.version)
	r.Displaces = a.displaces
	m.do(DriverHold{Ref: a.ref(s), Request: r})
}

// cannotMeet is the refusal of what QSPEC arithmetic has found short: q has the
// flags (RFC 5975 §4.2.4).
func (a *ask) cannotMeet(q *qspec.QSPEC, err error) *refusal {
	no := qspecRefusal(err)
	no.answer = a.refusal(q)
	return no
}

// intervals are the times as a ledger takes them.
func (t *Terms) intervals() []sls.Interval {
	if len(t.Times) == 0 {
		return nil
	}
	list := make([]sls.Interval, len(t.Times))
	for i, x := range t.Times {
		list[i] = sls.Interval{From: time.Unix(x.Start, 0), Until: time.Unix(x.End, 0)}
	}
	return list
}

// slowestRefresh is the longest refresh period of a booking (interdomain-qosm §6).
const slowestRefresh = time.Hour

func (t *Terms) slowRefresh() time.Duration {
	if len(t.Times) == 0 {
		return 0
	}
	return slowestRefresh
}

// End is when a booking is over; zero: it is none.
func (t *Terms) End() time.Time {
	if len(t.Times) == 0 {
		return time.Time{}
	}
	return time.Unix(t.Times[len(t.Times)-1].End, 0)
}

// request is what the intra-domain controller is asked for.
func (t *Terms) request(sid wire.SID, version uint32) intradomain.Request {
	var times []intradomain.Interval
	for _, x := range t.Times {
		times = append(times, intradomain.Interval{From: time.Unix(x.Start, 0), Until: time.Unix(x.End, 0)})
	}
	return intradomain.Request{
		ID: intradomain.ID(sid), Version: version, Times: times,
		Ingress: t.Ingress, Egress: t.Egress, Flow: t.Flow,
		QoS: intradomain.QoS{
			Class: uint8(t.Class), DSCP: uint8(t.Inside), CIR: t.Rate, PIR: max(t.Peak, t.Rate), CBS: t.Burst, PBS: t.Burst,
			Excess: t.Excess,
		},
	}
}

func (m *Machine) attemptDriverDone(now time.Time, s *session, a *attempt, err error) {
	switch a.step {
	case holdingDriver:
		m.driverHeld(now, s, a, err)
	case committing:
		a.driverDone = true
		m.commitStep(now, s, a, "driver", err)
	case dropping:
		if err != nil { // nobody waits for what may take long
			m.note("driver-drop-failed", s.sid, err.Error())
			m.dropLater(now, s.sid, a.version)
		}
		m.dropped(now, s, a)
	}
}

func (m *Machine) driverHeld(now time.Time, s *session, a *attempt, err error) {
	if s.release != nil { // the session ended while the driver was at work
		m.endAttempt(s, a)
		m.runRelease(s)
		return
	}
	var no *intradomain.Refusal
	switch {
	case err == nil:
		a.step = held
		m.accept(now, s, a)
	case errors.As(err, &no) && !a.lowered && no.Offer >= a.terms.MinRate && no.Offer < a.terms.Rate && no.Offer > 0:
		// A domain that has less lowers QoS Available and goes on; only below
		// Minimum QoS does it refuse (interdomain-qosm §2).
		a.lowered = true
		a.terms.Rate = no.Offer
		m.holdDriver(now, s, a)
	case errors.As(err, &no):
		m.refuse(now, s, a, &refusal{
			info:    failure(nslpwire.ClassQoSModelError, CodeIntraDomain).info,
			largest: min(no.Offer, a.terms.Rate), why: no.Error(),
		})
	default:
		m.dropDriver(s.sid, a.version) // it may hold it all the same
		m.refuse(now, s, a, &refusal{
			info: failure(nslpwire.ClassQoSModelError, CodeIntraDomain).info,
			why:  "intra-domain control: " + err.Error(),
		})
	}
}

// accept gives the verdict on an Admit: everything is held.
func (m *Machine) accept(now time.Time, s *session, a *attempt) {
	q, err := m.offer(a)
	if err != nil {
		m.dropDriver(s.sid, a.version)
		m.refuse(now, s, a, a.ask.cannotMeet(&q, err))
		return
	}
	v := qosnslp.Verdict{Ticket: a.close(now), Accept: true, Last: a.next() == 0}
	if !v.Last {
		v.NextPeer = qosnslp.Peer(a.next())
		if !a.reverse { // whose path is known
			v.Next = wire.MRI{Method: wire.OffPath, Flow: a.terms.Flow, Egress: a.terms.Egress, Ingress: a.terms.NextIngress}
		}
		m.mark(a, &q)
		v.QSPEC = q.Append(make([]byte, 0, 256))
	}
	m.do(Answer{v})
}

// refusal is a domain's no.
type refusal struct {
	info    nslpwire.InfoSpec
	largest uint64 // octets/s that could have been had; 0: not told
	early   time.Time
	sls     string // the SLS that said no
	why     string // for the log
	answer  []byte // the RESPONSE's QSPEC, where it is known; nil: see refusedQSPEC
}

func failure(c nslpwire.ErrorClass, code uint8) *refusal {
	return &refusal{info: nslpwire.InfoSpec{Class: c, Code: code}}
}

func unauthorized(format string, args ...any) *refusal {
	r := failure(nslpwire.ClassPermanentFailure, nslpwire.AuthorizationFailure)
	r.why = fmt.Sprintf(format, args...)
	return r
}

func (m *Machine) slsRefusal(a *attempt, err error) *refusal {
	var no *sls.Refusal
	if !errors.As(err, &no) {
		r := failure(nslpwire.ClassPermanentFailure, nslpwire.InternalError)
		r.why = "ledger: " + err.Error()
		return r
	}
	r := failure(nslpwire.ClassQoSModelError, uint8(no.Code))
	r.largest, r.early, r.sls, r.why = min(no.Largest, a.terms.Rate), no.Earliest, no.SLS, no.Error()
	return r
}

// refuse ends an attempt with a no: what it holds is given up, and the
// RESPONSE says who, why, and how much there would have been.
func (m *Machine) refuse(now time.Time, s *session, a *attempt, no *refusal) {
	m.do(SLSDrop{ID: slsID(s.sid), Version: a.version})
	m.endAttempt(s, a)
	m.refuseUnknown(now, s, a, no)
	m.forget(s)
}

// refuseUnknown is refuse for an attempt that is not, or no longer, the
// session's.
func (m *Machine) refuseUnknown(now time.Time, s *session, a *attempt, no *refusal) {
	if no.why != "" {
		m.note("refused", s.sid, no.why)
	}
	ticket := a.close(now)
	rec := m.record(a, nslpwire.VerdictRefused, no)
	m.do(Answer{qosnslp.Verdict{
		Ticket: ticket, Info: no.info,
		ResponseQSPEC: refusedQSPEC(a, no),
		Extra:         m.appendRecord(nil, s.sid, a, rec),
	}})
}

// answers notes which RII the records of this attempt are signed for, unless it
// knows already: all QNEs of the path have the same.
func (a *attempt) answers(msg *nslpwire.Message) {
	if msg != nil && msg.HasRII && !a.hasRII {
		a.hasRII, a.rii = true, msg.RII
	}
}

func (m *Machine) endAttempt(s *session, a *attempt) {
	if s.attempt == a {
		s.attempt = nil
	}
}

// close takes the open ticket, and adds the time since its question to what
// was spent in this domain.
func (a *attempt) close(now time.Time) uint64 {
	t := a.ticket
	a.ticket = 0
	a.spent += now.Sub(a.since)
	return t
}

func (a *attempt) ref(s *session) Ref { return Ref{SID: s.sid, Serial: a.serial} }

// CodeText says in words what a QoS Model Error code of the InterDomain-QOSM
// means.
func CodeText(code uint8) (string, bool) {
	switch code {
	case CodeNoSLS:
		return "no SLS covers the request", true
	case CodeNoCapacity:
		return "the SLS has not enough left, or is not available then", true
	case CodePolicy:
		return "policy refuses", true
	case CodeIntraDomain:
		return "intra-domain control refuses or failed", true
	}
	return "", false
}
