package qosnslp

import (
	"slices"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Stats counts what a machine has done since its start, and what it holds now.
type Stats struct {
	// Now: sessions by state, tombstones of past ones, questions without a
	// verdict, requests under way.
	Creating, Installed, Closing int
	Tombstones, OpenQuestions    int
	QueriesUnderWay, Paths       int // of QUERYs with RESERVE-INIT

	Received, Sent, Malformed uint64 // messages
	Questions, LateVerdicts   uint64
	Queries                   uint64 // received, or this node's own
	Committed, Refused        uint64 // creating and changing RESERVEs
	Refreshed, RefreshesSent  uint64 // sessions; messages
	SummaryRefreshes          uint64 // of these messages, those with a list
	SummaryTears              uint64 // sent, with a list
	ListErrors                uint64 // entries of received lists that were not taken
	Syncs                     uint64 // full RESERVEs to make downstream equal
	Retransmitted, Repeated   uint64 // ours; those of others
	OutOfOrder                uint64 // RESERVEs with an old RSN
	FullQSPEC                 uint64 // "Full QSPEC required" sent
	Responses, StrayResponses uint64 // sent; received without a match
	Transits                  uint64 // messages that a stateless node has sent on
	Tears                     uint64 // sent
	Notifies, Notified        uint64 // NOTIFYs sent; received
	LimitedRequests           uint64 // of a peer above its limit, dropped
	LimitedAnswers            uint64 // to a peer above its limit, not sent
	Unacknowledged            uint64 // refreshes with ACK-REQ that had no answer
	Preempted                 uint64 // sessions ended here in favour of others
	Expired, Restored         uint64 // sessions

	Reroutes, Rerouted, RerouteRefused uint64 // new paths asked for; taken; not had
	UpstreamMoves, FormerRefreshes     uint64 // new upstream peers; refreshes of those before
	RouteChangeNotifies                uint64 // NOTIFY "Route Change" sent
}

// Stats returns the counts. It takes no longer with many sessions than with few.
func (m *Machine) Stats() Stats {
	st := m.stats
	st.Creating, st.Installed, st.Closing = m.states[creating], m.states[installed], m.states[closing]
	st.Tombstones, st.OpenQuestions = len(m.tombs), len(m.tickets)+len(m.asked)+len(m.transits)
	st.QueriesUnderWay, st.Paths = m.queryCount, len(m.paths)
	return st
}

// SessionInfo describes a session to people and to the admin API.
type SessionInfo struct {
	SID         gistwire.SID
	NSLPID      gistwire.NSLPID // on the side of upstream
	NextNSLPID  gistwire.NSLPID // towards downstream
	State       string          // creating, installed, closing
	Pending     string          // what is waited for: admit, response, commit, fail, release, bound; "": nothing
	Initiator   bool
	Last        bool
	Upstream    Peer
	Downstream  Peer
	MRI         gistwire.MRI // as received from upstream
	Next        gistwire.MRI // towards downstream
	UpstreamRSN wire.RSN
	RSN         uint32 // this node's own
	Queued      int    // requests that wait
	Flags       uint16 // generic flags of its messages: wire.Scoping, wire.Proxy, wire.Break
	// Expires is when the session ends if it is not refreshed, Refresh when
	// this node refreshes it downstream; zero: never.
	Expires, Refresh time.Time
}

// Session returns one session.
func (m *Machine) Session(sid gistwire.SID) (SessionInfo, bool) {
	s := m.sessions[sid]
	if s == nil {
		return SessionInfo{}, false
	}
	return m.info(s), true
}

// QSPEC returns what the next peer has been told of an installed session; nil where
// there is none.
func (m *Machine) QSPEC(sid gistwire.SID) []byte {
	if s := m.sessions[sid]; s != nil {
		return s.qspec
	}
	return nil
}

// Bound returns the sessions that one is bound to.
func (m *Machine) Bound(sid gistwire.SID) []wire.BoundSession {
	if s := m.sessions[sid]; s != nil {
		return slices.Clone(s.also.bindings())
	}
	return nil
}

// Sessions calls f for every session, in no particular order, until it returns
// false. f may call the machine, as where iter.Pull puts the loop off: a session
// that is there all the time is met once, one that comes or goes perhaps.
func (m *Machine) Sessions(f func(SessionInfo) bool) {
	for _, s := range m.sessions {
		if !f(m.info(s)) {
			return
		}
	}
}

func (m *Machine) info(s *session) SessionInfo {
	i := SessionInfo{SID: s.sid, NSLPID: s.nslpid, NextNSLPID: s.down.at(s.nslpid), State: s.state.String(), Initiator: s.initiator, Last: s.last,
		Upstream: s.up.peer, Downstream: s.down.peer, MRI: s.up.mri, Next: s.down.mri,
		UpstreamRSN: s.upRSN, RSN: s.rsn, Queued: len(s.queue),
		Flags: s.flags()}
	if t := s.txn; t != nil {
		i.Pending = t.phase.String()
		if s.state == creating {
			i.Upstream, i.Downstream, i.MRI, i.Next, i.NextNSLPID = t.up.peer, t.down.peer, t.up.mri, t.down.mri, t.down.at(s.nslpid)
			i.UpstreamRSN, i.RSN, i.Last = t.upRSN, t.rsn, t.last
		}
	}
	at := func(x instant) time.Time {
		if x == 0 {
			return time.Time{}
		}
		return m.base.Add(time.Duration(x))
	}
	i.Expires, i.Refresh = at(s.expireAt), at(s.refreshAt)
	if s.batch != nil {
		i.Refresh = at(s.batch.fireAt)
	}
	return i
}
