package interdomain

import (
	"fmt"
	"time"

	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// commit makes an attempt's holds a committed reservation: in the ledger, then
// in the driver and in the store at once; the verdict waits for both
// (interdomain-qosm §6: commit durably, then forward).
func (m *Machine) commit(now time.Time, s *session, q *qosnslp.Question) {
	if s == nil || s.attempt == nil || s.attempt.version != q.RSN || s.attempt.step != held || s.release != nil {
		// A success RESPONSE for which there is no hold, e.g. after a restart.
		m.note("commit-without-hold", q.SID, fmt.Sprintf("RSN %d", q.RSN))
		m.dropDriver(q.SID, q.RSN)
		a := &attempt{ticket: q.Ticket, since: now}
		a.answers(q.Message)
		rec := m.record(a, nslpwire.VerdictFailed, failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure))
		m.do(Answer{qosnslp.Verdict{
			Ticket: a.close(now), Info: failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure).info,
			Extra: m.appendRecord(records(q.Message), q.SID, a, rec),
		}})
		return
	}
	a := s.attempt
	a.answers(q.Message)
	a.ticket, a.since = q.Ticket, now
	a.serial = m.nextSerial()
	rate, share, err := m.reserved(a, q)
	if err != nil {
		m.noCommit(now, s, a, records(q.Message), err)
		return
	}
	a.terms.Rate = rate
	a.step = committing
	a.reply = reply{qspec: m.responseQSPEC(a, q.Message), extra: records(q.Message)}
	a.ask.snapshot = q.Snapshot
	if settled := m.settledQSPEC(a, share); settled != nil {
		if b, err := qosnslp.WithQSPEC(q.Snapshot, settled); err != nil {
			m.note("snapshot", s.sid, err.Error())
		} else {
			a.ask.snapshot = b
		}
		a.reply.settled = settled
	}
	if a.upstream == 0 && a.downstream == 0 {
		// The flow starts and ends here: no SLS is concerned.
		m.slsCommitted(now, s, a, SLSCommitted{Ref: a.ref(s)})
		return
	}
	m.do(SLSCommit{Ref: a.ref(s), ID: slsID(s.sid), Version: a.version, Rate: rate})
}

func (m *Machine) slsCommitted(now time.Time, s *session, a *attempt, e SLSCommitted) {
	if a.step != committing {
		return
	}
	if e.Err != nil {
		m.noCommit(now, s, a, a.reply.extra, e.Err)
		return
	}
	s.durable = true
	m.do(StorePut{Ref: a.ref(s), Record: Record{
		ID: slsID(s.sid), Version: a.version, Bookings: a.legs(e.Bookings), Session: a.ask.snapshot,
		Domain: encodeDomain(a.upstream, a.downstream, &a.terms),
	}, Gone: e.Displaced})
	m.displaced(s, e.Displaced)
	m.do(DriverCommit{Ref: a.ref(s), ID: intradomain.ID(s.sid), Version: a.version, CIR: a.terms.Rate})
}

func (m *Machine) attemptStoreDone(now time.Time, s *session, a *attempt, err error) {
	if a.step != committing {
		return
	}
	a.storeDone = true
	m.commitStep(now, s, a, "store", err)
}

// commitStep waits for both halves of a commit, then gives the verdict.
func (m *Machine) commitStep(now time.Time, s *session, a *attempt, who string, err error) {
	if err != nil && a.failure == nil {
		a.failure = fmt.Errorf("%s: %w", who, err)
	}
	if !a.driverDone || !a.storeDone {
		return
	}
	if a.failure != nil {
		m.failCommit(now, s, a, a.reply.extra, a.failure)
		return
	}
	m.dropLegs(s, a)
	s.committed, s.version, s.terms = true, a.version, a.terms
	s.upstream, s.downstream, s.since = a.upstream, a.downstream, now.Unix()
	m.endAttempt(s, a)
	ticket := a.close(now)
	if s.release != nil { // it ended while it was being committed
		m.runRelease(s)
		return
	}
	rec := m.record(a, nslpwire.VerdictCommitted, nil)
	m.do(Answer{qosnslp.Verdict{
		Ticket: ticket, Accept: true, QSPEC: a.reply.settled, SlowRefresh: a.terms.slowRefresh(),
		ResponseQSPEC: a.reply.qspec, Extra: m.appendRecord(a.reply.extra, s.sid, a, rec),
	}})
}

// noCommit answers no to a commit that neither driver nor store have heard of.
// The hold is given up; of a change, the old amount stays (interdomain-qosm §6).
func (m *Machine) noCommit(now time.Time, s *session, a *attempt, list []nslpwire.Object, err error) {
	if !s.committed {
		m.failCommit(now, s, a, list, err)
		return
	}
	m.note("commit-failed", s.sid, err.Error())
	m.endAttempt(s, a)
	m.do(SLSDrop{ID: slsID(s.sid), Version: a.version})
	m.dropDriver(s.sid, a.version)
	no := failure(nslpwire.ClassQoSModelError, CodeIntraDomain)
	rec := m.record(a, nslpwire.VerdictFailed, no)
	m.do(Answer{qosnslp.Verdict{Ticket: a.close(now), Info: no.info, Extra: m.appendRecord(list, s.sid, a, rec)}})
}

// failCommit answers no to a commit, and gives back everything that the
// session has: its hold here cannot become a reservation, and of a change the
// old amount may be overwritten, so none of it stays.
func (m *Machine) failCommit(now time.Time, s *session, a *attempt, list []nslpwire.Object, err error) {
	m.note("commit-failed", s.sid, err.Error())
	m.endAttempt(s, a)
	rec := m.record(a, nslpwire.VerdictFailed, failure(nslpwire.ClassQoSModelError, CodeIntraDomain))
	ticket := a.close(now)
	if s.release == nil {
		// The answer waits as that of a Release does: a crash must not bring
		// back what was said to be gone.
		s.release = &release{ticket: ticket, verdict: qosnslp.Verdict{
			Info: failure(nslpwire.ClassQoSModelError, CodeIntraDomain).info, Extra: m.appendRecord(list, s.sid, a, rec), Gone: true,
		}}
	}
	m.runRelease(s)
}

// fail gives up what the attempt of this RSN holds; what an earlier one
// committed stays (interdomain-qosm §6).
func (m *Machine) fail(now time.Time, s *session, q *qosnslp.Question) {
	info := failure(nslpwire.ClassTransientFailure, nslpwire.ReservationFailure).info
	if q.Message != nil && q.Message.HasInfoSpec {
		info = q.Message.InfoSpec
	}
	if s != nil && s.attempt != nil && s.attempt.version == q.RSN && s.attempt.step == holdingDriver && s.release == nil {
		m.abandon(s) // no verdict in time
	}
	if s == nil || s.attempt == nil || s.attempt.version != q.RSN || s.attempt.step != held || s.release != nil {
		a := &attempt{ticket: q.Ticket, since: now}
		a.answers(q.Message)
		m.do(Answer{qosnslp.Verdict{
			Ticket: a.close(now), Accept: true, Info: info,
			ResponseQSPEC: responseQSPECOf(q.Message),
			Extra:         m.appendRecord(records(q.Message), q.SID, a, m.record(a, nslpwire.VerdictReleased, nil)),
		}})
		return
	}
	a := s.attempt
	a.answers(q.Message)
	a.ticket, a.since = q.Ticket, now
	a.serial = m.nextSerial()
	a.step = dropping
	a.reply = reply{info: info, qspec: m.responseQSPEC(a, q.Message), extra: records(q.Message)}
	m.do(SLSDrop{ID: slsID(s.sid), Version: a.version})
	m.do(DriverDrop{Ref: a.ref(s), ID: intradomain.ID(s.sid), Version: a.version})
}

// dropped follows the driver's word that the hold is gone.
func (m *Machine) dropped(now time.Time, s *session, a *attempt) {
	m.endAttempt(s, a)
	ticket := a.close(now)
	if s.release != nil {
		m.runRelease(s)
		return
	}
	verdict := nslpwire.VerdictReleased
	if len(a.reply.extra) == 0 && a.next() != 0 {
		verdict = nslpwire.VerdictNoAnswer
	}
	m.do(Answer{qosnslp.Verdict{
		Ticket: ticket, Accept: true, Info: a.reply.info, ResponseQSPEC: a.reply.qspec,
		Extra: m.appendRecord(a.reply.extra, s.sid, a, m.record(a, verdict, nil)),
	}})
	m.forget(s)
}
