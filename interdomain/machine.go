package interdomain

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/sls"
)

// Machine answers the admission questions of one QNE. It is used from one
// goroutine; the slice that Handle returns is reused by the next call.
type Machine struct {
	cfg      Config
	sessions map[wire.SID]*session
	serial   uint64
	actions  []Action
	retries  []retry
	drops    map[uint64]*drop // by serial
	// inquiries are QUERYs that ledger or driver have not answered yet: as many as
	// qosnslp lets through.
	inquiries map[uint64]*inquiry // by serial

	byInternal map[netip.Addr]*Border // our edge's internal address
	byNeighbor map[netip.Addr]*Border // the neighbour's border interface
	byExternal map[netip.Addr]*Border // our border interface
}

// session is one reservation of this domain, from the first question about it
// until everything that it had is given back.
type session struct {
	sid        wire.SID
	upstream   uint32 // AS, 0: this node's own application
	downstream uint32 // AS, 0: the flow ends here
	committed  bool
	version    uint32 // of what is committed
	terms      Terms  // of what is committed
	since      int64  // Unix seconds of the commit, 0: before the last restart
	durable    bool   // the store may have a record
	attempt    *attempt
	release    *release
}

// retry is a release that failed and is tried again.
type retry struct {
	at  time.Time
	sid wire.SID
}

// New returns a Machine.
func New(cfg Config) *Machine {
	if cfg.ReleaseRetry <= 0 {
		cfg.ReleaseRetry = time.Second
	}
	if cfg.SLSName == nil {
		cfg.SLSName = func(id string) string { return id }
	}
	m := &Machine{cfg: cfg, sessions: make(map[wire.SID]*session), drops: make(map[uint64]*drop), inquiries: make(map[uint64]*inquiry)}
	m.SetBorders(cfg.Borders)
	return m
}

// SetBorders replaces the table of border interfaces. What is reserved stays
// as it is; requests from now on see the new table.
func (m *Machine) SetBorders(borders []Border) {
	m.byInternal = make(map[netip.Addr]*Border, len(borders))
	m.byNeighbor = make(map[netip.Addr]*Border, len(borders))
	m.byExternal = make(map[netip.Addr]*Border, len(borders))
	for i := range borders {
		b := &borders[i]
		m.byInternal[b.Internal] = b
		m.byNeighbor[b.Neighbor] = b
		m.byExternal[b.External] = b
	}
	m.cfg.Borders = borders
}

// SetRecordSigner replaces the key that records are signed with; nil: none.
func (m *Machine) SetRecordSigner(s *RecordSigner) { m.cfg.Records = s }

// Handle takes one event, nil for the passing of time alone, and returns what
// must be done, in order. Asked may also be handed in by pointer, which the
// machine does not keep.
func (m *Machine) Handle(now time.Time, ev Event) []Action {
	m.actions = m.actions[:0]
	switch e := ev.(type) {
	case nil:
		m.tick(now)
	case Asked:
		m.asked(now, &e.Question)
	case *Asked:
		m.asked(now, &e.Question)
	case SLSHeld:
		if s, a := m.attemptOf(e.Ref); a != nil {
			m.slsHeld(now, s, a, e)
		}
	case SLSCommitted:
		if s, a := m.attemptOf(e.Ref); a != nil {
			m.slsCommitted(now, s, a, e)
		}
	case SLSAsked:
		m.slsAsked(now, e)
	case DriverTold:
		m.driverTold(now, e)
	case DriverDone:
		m.driverDone(now, e)
	case StoreDone:
		m.storeDone(now, e)
	case Restore:
		m.restore(e.Record)
	}
	return m.actions
}

// Deadline says when Handle has to be called next; zero: never.
func (m *Machine) Deadline() time.Time {
	var first time.Time
	for _, r := range m.retries {
		if first.IsZero() || r.at.Before(first) {
			first = r.at
		}
	}
	for _, d := range m.drops {
		if !d.at.IsZero() && (first.IsZero() || d.at.Before(first)) {
			first = d.at
		}
	}
	return first
}

// tick tries again what failed to be released.
func (m *Machine) tick(now time.Time) {
	rest := m.retries[:0]
	var due []wire.SID
	for _, r := range m.retries {
		if r.at.After(now) {
			rest = append(rest, r)
		} else {
			due = append(due, r.sid)
		}
	}
	m.retries = rest
	for _, sid := range due {
		if s := m.sessions[sid]; s != nil && s.release != nil {
			m.runRelease(s)
		}
	}
	m.retryDrops(now)
}

func (m *Machine) asked(now time.Time, q *qosnslp.Question) {
	s := m.sessions[q.SID]
	switch q.Kind {
	case qosnslp.Admit:
		if q.Move == qosnslp.MoveDownstream {
			m.reroute(now, s, q)
		} else {
			m.admit(now, s, q)
		}
	case qosnslp.Commit:
		m.commit(now, s, q)
	case qosnslp.Fail:
		m.fail(now, s, q)
	case qosnslp.Release:
		m.startRelease(now, s, q)
	case qosnslp.Inspect:
		m.inspect(now, q)
	case qosnslp.Conclude:
		m.conclude(now, q)
	}
}

// attemptOf returns the attempt that an answer belongs to, nil if it is over.
func (m *Machine) attemptOf(ref Ref) (*session, *attempt) {
	s := m.sessions[ref.SID]
	if s == nil || s.attempt == nil || s.attempt.serial != ref.Serial {
		return s, nil
	}
	return s, s.attempt
}

func (m *Machine) driverDone(now time.Time, e DriverDone) {
	s, a := m.attemptOf(e.Ref)
	switch {
	case a != nil:
		m.attemptDriverDone(now, s, a, e.Err)
	case s != nil && s.release != nil && s.release.serial == e.Ref.Serial:
		m.releaseStep(now, s, &s.release.driver, "driver", e.Err)
	case m.drops[e.Ref.Serial] != nil:
		m.dropDone(now, m.drops[e.Ref.Serial], e.Ref.Serial, e.Err)
	}
}

func (m *Machine) storeDone(now time.Time, e StoreDone) {
	s, a := m.attemptOf(e.Ref)
	switch {
	case a != nil:
		m.attemptStoreDone(now, s, a, e.Err)
	case s != nil && s.release != nil && s.release.serial == e.Ref.Serial:
		m.releaseStep(now, s, &s.release.store, "store", e.Err)
	}
}

func (m *Machine) do(a Action) { m.actions = append(m.actions, a) }

func (m *Machine) note(kind string, sid wire.SID, detail string) {
	m.do(Note{Kind: kind, SID: sid, Detail: detail})
}

func (m *Machine) nextSerial() uint64 {
	m.serial++
	return m.serial
}

// forget drops a session that has nothing any more.
func (m *Machine) forget(s *session) {
	if !s.committed && s.attempt == nil && s.release == nil {
		delete(m.sessions, s.sid)
	}
}

// Info is what a person may ask about one reservation.
type Info struct {
	SID                  wire.SID
	Version              uint32
	State                State
	Upstream, Downstream uint32    // AS; 0: this domain's own end of the flow
	Since                time.Time // of the commit; zero: none, or before the last restart
	Terms
}

// State is the logical state of a reservation in this domain
// (interdomain-qosm §6).
type State uint8

// States, in order.
const (
	Authorizing State = iota
	Authorized        // SLS and policy say yes
	Reserved          // SLS capacity and intra-domain resources are held
	Committed         // the end-to-end RESPONSE has passed
	Releasing
)

func (s State) String() string {
	switch s {
	case Authorizing:
		return "authorizing"
	case Authorized:
		return "authorized"
	case Reserved:
		return "reserved"
	case Committed:
		return "committed"
	case Releasing:
		return "releasing"
	}
	return "unknown"
}

// Session returns what is known of one reservation.
func (m *Machine) Session(sid wire.SID) (Info, bool) {
	s := m.sessions[sid]
	if s == nil {
		return Info{}, false
	}
	return s.info(), true
}

// Sessions calls f for every reservation until it returns false. f may call the
// machine, as where iter.Pull puts the loop off: a reservation that is there all
// the time is met once, one that comes or goes perhaps.
func (m *Machine) Sessions(f func(Info) bool) {
	for _, s := range m.sessions {
		if !f(s.info()) {
			return
		}
	}
}

// Len returns the number of reservations in any state.
func (m *Machine) Len() int { return len(m.sessions) }

func (s *session) info() Info {
	i := Info{SID: s.sid, Upstream: s.upstream, Downstream: s.downstream}
	if s.since != 0 {
		i.Since = time.Unix(s.since, 0)
	}
	switch {
	case s.release != nil:
		i.State, i.Version, i.Terms = Releasing, s.version, s.terms
	case s.attempt != nil:
		i.State, i.Version, i.Terms = s.attempt.state(), s.attempt.version, s.attempt.terms
		i.Upstream, i.Downstream = s.attempt.upstream, s.attempt.downstream
		if s.committed {
			i.State = Committed
		}
	case s.committed:
		i.State, i.Version, i.Terms = Committed, s.version, s.terms
	}
	return i
}

func slsID(sid wire.SID) sls.ID { return sls.ID(sid) }

// Inquiries returns how many QUERYs wait for the ledger or the driver.
func (m *Machine) Inquiries() int { return len(m.inquiries) }
