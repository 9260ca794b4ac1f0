package interdomain

import (
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
)

// release gives back everything that a session has, and goes on trying until
// driver and store have both said that it is gone.
type release struct {
	serial  uint64
	ticket  uint64          // of the question; 0: none asked, or answered
	verdict qosnslp.Verdict // the answer, but for the ticket
	driver  outcome
	store   outcome
	backoff uint
}

type outcome uint8

const (
	toDo outcome = iota
	asked
	done
)

// startRelease answers a Release question.
func (m *Machine) startRelease(now time.Time, s *session, q *qosnslp.Question) {
	if s == nil {
		m.do(Answer{qosnslp.Verdict{Ticket: q.Ticket, Accept: true}})
		return
	}
	yes := qosnslp.Verdict{Accept: true}
	if r := s.release; r != nil { // already on its way, e.g. after a failed commit
		m.answerRelease(r)
		r.ticket, r.verdict = q.Ticket, yes
		if r.store == done && r.driver != asked {
			m.answerRelease(r)
		}
		return
	}
	s.release = &release{ticket: q.Ticket, verdict: yes}
	if a := s.attempt; a != nil {
		if a.step == holdingDriver || a.step == committing || a.step == dropping {
			return // runRelease follows the answer that is under way
		}
		m.endAttempt(s, a)
	}
	m.runRelease(s)
}

// answerRelease gives the verdict that a release's question waits for.
func (m *Machine) answerRelease(r *release) {
	if r.ticket != 0 {
		v := r.verdict
		v.Ticket = r.ticket
		r.ticket = 0
		m.do(Answer{v})
	}
}

// runRelease asks whoever has not yet said that it is gone.
func (m *Machine) runRelease(s *session) {
	r := s.release
	r.serial = m.nextSerial()
	ref := Ref{SID: s.sid, Serial: r.serial}
	if r.driver != done {
		r.driver = asked
	}
	switch {
	case r.store == done:
	case s.durable:
		r.store = asked
	default:
		r.store = done
	}
	if r.store == done {
		m.do(SLSRelease{ID: slsID(s.sid)})
	}
	if r.store == asked {
		m.do(StoreDelete{Ref: ref, ID: slsID(s.sid)})
	}
	if r.driver == asked {
		m.do(DriverRelease{Ref: ref, ID: intradomain.ID(s.sid)})
	}
}

func (m *Machine) releaseStep(now time.Time, s *session, which *outcome, who string, err error) {
	if *which != asked {
		return
	}
	r := s.release
	if err != nil {
		*which = toDo
		m.note("release-failed", s.sid, who+": "+err.Error())
	} else {
		*which = done
		if which == &r.store {
			// Not earlier: a record that a crash brings back must not find its
			// share sold to somebody else.
			m.do(SLSRelease{ID: slsID(s.sid)})
		}
	}
	if r.driver == asked || r.store == asked {
		return
	}
	if r.store == done {
		// Not before a crash cannot bring it back. What the driver still has
		// is released at the latest at the next start; this goes on trying.
		m.answerRelease(r)
	}
	if r.driver == done && r.store == done {
		delete(m.sessions, s.sid)
		return
	}
	wait := m.cfg.ReleaseRetry << min(r.backoff, 6)
	r.backoff++
	m.retries = append(m.retries, retry{at: now.Add(wait), sid: s.sid})
}

// drop is a hold of an attempt that is over, which the driver may still have.
type drop struct {
	sid     wire.SID
	version uint32
	holding bool      // the answer to the DriverHold itself is awaited first
	at      time.Time // of the next try; zero: asked
	backoff uint
}

// dropDriver has the driver give up a hold whatever became of it, and goes on
// trying until it says that it has.
func (m *Machine) dropDriver(sid wire.SID, version uint32) {
	serial := m.nextSerial()
	m.drops[serial] = &drop{sid: sid, version: version}
	m.do(DriverDrop{Ref: Ref{SID: sid, Serial: serial}, ID: intradomain.ID(sid), Version: version})
}

// dropLater is dropDriver after a first try that failed.
func (m *Machine) dropLater(now time.Time, sid wire.SID, version uint32) {
	m.drops[m.nextSerial()] = &drop{sid: sid, version: version, at: now.Add(m.cfg.ReleaseRetry)}
}

// abandon ends an attempt whose DriverHold has no answer yet. The hold is given
// up after that has come: a driver may handle requests side by side.
func (m *Machine) abandon(s *session) {
	a := s.attempt
	m.drops[a.serial] = &drop{sid: s.sid, version: a.version, holding: true}
	m.do(SLSDrop{ID: slsID(s.sid), Version: a.version})
	m.endAttempt(s, a)
	m.forget(s)
}

func (m *Machine) dropDone(now time.Time, d *drop, serial uint64, err error) {
	if d.holding {
		d.holding = false
		m.do(DriverDrop{Ref: Ref{SID: d.sid, Serial: serial}, ID: intradomain.ID(d.sid), Version: d.version})
		return
	}
	if err == nil {
		delete(m.drops, serial)
		return
	}
	m.note("driver-drop-failed", d.sid, err.Error())
	d.at = now.Add(m.cfg.ReleaseRetry << min(d.backoff, 6))
	d.backoff++
}

func (m *Machine) retryDrops(now time.Time) {
	var due []uint64
	for serial, d := range m.drops {
		if !d.at.IsZero() && !d.at.After(now) {
			due = append(due, serial)
		}
	}
	slices.Sort(due)
	for _, serial := range due {
		d := m.drops[serial]
		d.at = time.Time{}
		m.do(DriverDrop{Ref: Ref{SID: d.sid, Serial: serial}, ID: intradomain.ID(d.sid), Version: d.version})
	}
}
