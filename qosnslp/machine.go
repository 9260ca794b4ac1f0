package qosnslp

import (
	"fmt"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Defaults of Config.
const (
	DefaultRefreshPeriod = 30 * time.Second // RFC 5974 §5.1.2.1
	DefaultRequestRetry  = 2 * time.Second  // RFC 5974 §5.2.4
	DefaultRetryMax      = 30 * time.Second // RFC 5974 §5.2.4
	DefaultHoldTimeout   = 60 * time.Second
	DefaultMaxSessions   = 1_000_000
	DefaultMaxQuestions  = 65_536
)

// Refresh periods of peers outside these bounds are taken for the bound.
const (
	minPeriod = 10 * time.Millisecond
	maxPeriod = 24 * time.Hour
)

// Machine is the QoS-NSLP of one node, or of one shard of it. It is used from
// one goroutine.
type Machine struct {
	cfg          Config
	base         time.Time // instant 0
	now          instant
	sessions     map[gistwire.SID]*session
	states       [3]int // how many of them are in each state
	tombs        map[gistwire.SID]*tombstone
	tickets      map[uint64]*session
	transits     map[uint64]*transit // by ticket
	queries      map[gistwire.SID][]*query
	asked        map[uint64]*query // by ticket
	paths        map[gistwire.SID]*path
	waiting      map[messageID]*boundMessage
	triggers     map[messageID]*trigger
	messagesDone []messageDone
	queryCount   int
	ticket       uint64
	handle       uint64
	timers       timers
	binders      map[gistwire.SID]map[*session]bool // by the SID that they are bound to
	endedSIDs    []gistwire.SID
	pinned       map[*session]bool    // see move
	open         map[towards][]*batch // those with room
	tears        map[towards][]queuedTear
	tearsTo      []towards // in the order in which they are to be sent
	out          []Action
	buf          []byte
	sids         []gistwire.SID // of the list under way
	rsns         []uint32
	scratch      wire.Message // the one that came last
	stats        Stats
	buckets      map[Peer]*buckets
	lastPeer     Peer // whose lastBuckets are
	lastBuckets  *buckets
	sweepAt      instant
}

// New makes a machine. It panics if there is no Rand: without it RIIs are not
// unique (RFC 5974 §5.3.2).
func New(cfg Config) *Machine {
	if cfg.Rand == nil {
		panic("qosnslp: Config.Rand is nil")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.RefreshPeriod, DefaultRefreshPeriod)
	def(&cfg.RequestRetry, DefaultRequestRetry)
	def(&cfg.RetryMax, DefaultRetryMax)
	def(&cfg.HoldTimeout, DefaultHoldTimeout)
	def(&cfg.RouteDamping, cfg.RefreshPeriod)
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = DefaultMaxSessions
	}
	if cfg.MaxQuestions <= 0 {
		cfg.MaxQuestions = DefaultMaxQuestions
	}
	if cfg.Summary <= 0 {
		cfg.Summary = DefaultSummary
		if cfg.Unreliable {
			cfg.Summary = datagramSummary
		}
	}
	cfg.Summary = min(cfg.Summary, MaxSummary)
	cfg.AckEvery = min(cfg.AckEvery, 255)
	if cfg.Limits.Requests == 0 {
		cfg.Limits.Requests = DefaultPeerRequests
	}
	if cfg.Limits.Answers == 0 {
		cfg.Limits.Answers = DefaultPeerAnswers
	}
	cfg.RefreshPeriod = min(max(cfg.RefreshPeriod, minPeriod), maxPeriod)
	return &Machine{
		cfg:      cfg,
		sessions: make(map[gistwire.SID]*session),
		tombs:    make(map[gistwire.SID]*tombstone),
		tickets:  make(map[uint64]*session),
		transits: make(map[uint64]*transit),
		queries:  make(map[gistwire.SID][]*query),
		paths:    make(map[gistwire.SID]*path),
		binders:  make(map[gistwire.SID]map[*session]bool),
		waiting:  make(map[messageID]*boundMessage),
		triggers: make(map[messageID]*trigger),
		asked:    make(map[uint64]*query),
		open:     make(map[towards][]*batch),
		buckets:  make(map[Peer]*buckets),
		tears:    make(map[towards][]queuedTear),
		pinned:   make(map[*session]bool),
	}
}

// Handle takes an event in and returns what must be done, in order. The event
// nil only lets time pass. Received and Verdict may also be handed in by
// pointer, which the machine does not keep. The slice is good until the next
// call.
func (m *Machine) Handle(now time.Time, ev Event) []Action {
	clear(m.out)
	m.out = m.out[:0]
	m.setNow(now)
	m.fire()
	switch ev := ev.(type) {
	case nil:
	case Received:
		m.received(&ev)
	case *Received:
		m.received(ev)
	case Status:
		m.status(&ev.MessageStatus)
	case Notification:
		m.notified(&ev.NetworkNotification)
	case Initiate:
		m.initiate(&ev)
	case Terminate:
		m.terminate(ev.SID)
	case Abandon:
		m.abandon(&ev)
	case Notify:
		m.notifyFrom(&ev)
	case Preempt:
		m.preempt(&ev)
	case Rerouted:
		m.rerouteAsked(ev.SID)
	case RoutesChanged:
		m.routesChanged()
	case Invite:
		m.invite(&ev)
	case Query:
		m.queryFrom(&ev)
	case Verdict:
		m.verdict(&ev)
	case *Verdict:
		m.verdict(ev)
	case Restore:
		m.restore(ev.Snapshot)
	}
	m.followMessages()
	m.followEnded()
	m.flushTears()
	return m.out
}

// Deadline says when to call Handle at the latest; zero: there is nothing to
// wait for.
func (m *Machine) Deadline() time.Time {
	at := m.timers.next()
	if at == 0 {
		return time.Time{}
	}
	return m.base.Add(time.Duration(at))
}

func (m *Machine) setNow(now time.Time) {
	if m.base.IsZero() {
		m.base = now.Add(-time.Second)
	}
	// Time never runs backwards here, whatever the clock does.
	m.now = max(m.now, instant(now.Sub(m.base)))
}

// fire does what is due.
func (m *Machine) fire() {
	for at := m.timers.next(); at != 0 && at <= m.now; at = m.timers.next() {
		e := m.timers.h[0]
		switch x := e.who.(type) {
		case *tombstone:
			m.bury(x)
		case *query:
			m.queryDue(x)
		case *boundMessage:
			if x.until > m.now {
				m.timers.later(x.until)
			} else {
				m.boundExpired(x)
			}
		case *trigger:
			if x.until > m.now {
				m.timers.later(x.until)
			} else {
				m.dropTrigger(x)
			}
		case *path:
			if x.until > m.now {
				m.timers.later(x.until)
			} else {
				m.pathExpired(x)
			}
		case *transit:
			m.note("transit-late", x.recv.SID, x.recv.Peer, "no verdict in %v", m.cfg.HoldTimeout)
			m.dropTransit(x)
		case *batch:
			if x.fireAt > m.now {
				m.timers.later(x.fireAt)
			} else {
				m.round(x)
			}
		case *session:
			switch d := x.deadline(); {
			case d == 0:
				m.timers.remove(&x.heapPos)
			case d > m.now:
				m.timers.later(d)
			default:
				m.due(x)
			}
		}
	}
}

// due handles the earliest of a session's deadlines that have passed. Whatever
// it does moves or ends that deadline.
func (m *Machine) due(s *session) {
	passed := func(at instant) bool { return at != 0 && at <= m.now }
	t := s.txn
	switch {
	case passed(s.expireAt) && m.mayFallBack(s) && m.fallBack(s):
	case passed(s.expireAt):
		s.expireAt = 0
		m.stats.Expired++
		m.note("expired", s.sid, s.up.peer, "not refreshed for its lifetime")
		m.end(s, ending{reason: Expired, tear: true})
	case t != nil && passed(t.giveUpAt):
		t.giveUpAt, t.retryAt = 0, 0
		m.gaveUp(s, t)
	case t != nil && passed(t.retryAt):
		m.retransmit(s, t)
	case passed(s.ack.deadline()):
		m.ackDue(s)
	case passed(s.move.deadline()):
		m.moveDue(s)
	case passed(s.refreshAt):
		m.refresh(s)
	}
}

// arm makes sure that the session's next deadline is met.
func (m *Machine) arm(s *session) { m.timers.want(timed{at: s.deadline(), who: s}) }

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) note(kind string, sid gistwire.SID, p Peer, format string, args ...any) {
	detail := format
	if len(args) > 0 {
		detail = fmt.Sprintf(format, args...)
	}
	m.do(Note{Kind: kind, SID: sid, Peer: p, Detail: detail})
}

// own makes an INFO-SPEC of this node.
func (m *Machine) own(c wire.ErrorClass, code uint8) wire.InfoSpec {
	return wire.InfoSpec{Class: c, Code: code, Source: m.cfg.ErrorSource}
}

// ask puts a question to the layer above; one is open per session at most.
func (m *Machine) ask(s *session, kind QuestionKind, q Question) {
	m.closeTicket(s)
	m.ticket++
	m.tickets[m.ticket] = s
	s.txn.ticket = m.ticket
	q.Ticket, q.Kind, q.SID, q.NSLPID = m.ticket, kind, s.sid, s.txn.up.at(s.nslpid)
	m.stats.Questions++
	m.do(q)
}

// closeTicket forgets the open question of a session: its verdict is ignored.
func (m *Machine) closeTicket(s *session) {
	if s.txn != nil && s.txn.ticket != 0 {
		delete(m.tickets, s.txn.ticket)
		s.txn.ticket = 0
	}
}

func (m *Machine) newSession(sid gistwire.SID, id gistwire.NSLPID) *session {
	s := &session{sid: sid, nslpid: id}
	if t := m.tombs[sid]; t != nil {
		s.nextRSN, s.prior = t.nextRSN, t
		m.bury(t)
	}
	m.sessions[sid] = s
	m.states[s.state]++
	return s
}

// enter makes a session be in a state. Stats counts them so, without looking at
// all.
func (m *Machine) enter(s *session, state sessionState) {
	m.states[s.state]--
	s.state = state
	m.states[s.state]++
}

// remove ends the session's record; what is to be remembered of it is in t, or
// nothing if that is nil.
func (m *Machine) remove(s *session, t *tombstone) {
	m.closeTicket(s)
	delete(m.pinned, s)
	m.dropPath(s.sid)
	m.unbind(s)
	m.delist(s)
	m.timers.remove(&s.heapPos)
	if m.sessions[s.sid] == s {
		m.states[s.state]--
		delete(m.sessions, s.sid)
	}
	s.txn = nil
	if t != nil {
		t.sid, t.nextRSN = s.sid, s.nextRSN
		m.entomb(t)
	}
}

// entomb keeps a tombstone until its time; there are at most as many as
// sessions.
func (m *Machine) entomb(t *tombstone) {
	if old := m.tombs[t.sid]; old != nil {
		m.bury(old)
	}
	if len(m.tombs) >= m.cfg.MaxSessions {
		m.note("tombstones-full", t.sid, t.peer, "a late message of this session will look like a new one")
		return
	}
	m.tombs[t.sid] = t
	m.timers.want(timed{at: t.until, who: t})
}

func (m *Machine) bury(t *tombstone) {
	m.timers.remove(&t.heapPos)
	delete(m.tombs, t.sid)
}

// lifetime is L for a refresh period R in milliseconds: (K + 0.5) * 1.5 * R
// with K = 3 (RFC 5974 §5.3.4, RFC 2205 §3.7).
func lifetime(ms uint32) time.Duration {
	return period(ms) * 21 / 4
}

// outlives is when the downstream peer's state must be gone, whatever became of
// our messages: its lifetime may begin as late as its Commit. Until then our
// RSNs must not start anew, for it would take them for those it knows.
func (m *Machine) outlives(s *session) instant {
	return m.after(lifetime(m.sessionPeriod(s)) + m.cfg.HoldTimeout)
}

func period(ms uint32) time.Duration {
	return min(max(time.Duration(ms)*time.Millisecond, minPeriod), maxPeriod)
}

// jittered is a random time between 0.5 and 1.5 of d (RFC 2205 §3.7).
func (m *Machine) jittered(d time.Duration) time.Duration {
	return d/2 + time.Duration(m.cfg.Rand()%uint64(d))
}

// ownPeriod is R in milliseconds as this node tells it to its peers.
func (m *Machine) ownPeriod() uint32 {
	return uint32(m.cfg.RefreshPeriod / time.Millisecond)
}

// sendable says whether GIST and the object header can carry it.
func sendable(qspec []byte, objects []wire.Object) error {
	if len(qspec) == 0 || len(qspec)%4 != 0 || len(qspec) > wire.MaxValueLen {
		return fmt.Errorf("QSPEC of %d octets: want 4 to %d, whole words", len(qspec), wire.MaxValueLen)
	}
	for _, o := range objects {
		if len(o.Value) > wire.MaxValueLen {
			return fmt.Errorf("%v of %d octets: want at most %d", o.Type, len(o.Value), wire.MaxValueLen)
		}
	}
	return nil
}

// attributes of every message that is sent.
func (m *Machine) attributes() gist.TransferAttributes {
	return gist.TransferAttributes{Reliable: !m.cfg.Unreliable, Secure: m.cfg.Secure}
}
