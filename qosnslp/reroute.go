package qosnslp

import (
	"maps"
	"slices"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Route changes at the node where the paths part (RFC 5974 §3.2.12, §5.2.5): the
// layer above is asked where the flow goes now, the reservation is made on the
// new path, and then the old one is torn down by its SII handle. merge.go has
// the node where they meet again.

// Move says what an Admit question is about besides resources: the session
// stands, and its path changes. Whatever both paths share counts the larger of
// the old and the new, never the sum, until the Commit or Fail.
type Move uint8

// Moves.
const (
	// Stays: the path is as it was, or there was none.
	Stays Move = iota
	// MoveDownstream: this node's own question, because the flow may go on to
	// another peer. Message is the RESERVE that stands there; an accepting verdict
	// has Unchanged, or as for any Admit the next peer and the QSPEC for it.
	MoveDownstream
	// MoveUpstream: the RESERVE comes from another peer than the one before, or
	// over another path: this node is where the paths meet.
	MoveUpstream
	// MoveFlow: the RESERVE has another flow, as after a handover (RFC 5980 §4.2).
	MoveFlow
)

// maxBranches bounds the old ways downstream, and the old upstream peers, that a
// session remembers.
const maxBranches = 3

// branch is an old way downstream of which the peer has not been told that it is
// over.
type branch struct {
	side   side
	rsn    uint32  // that the reservation has there
	qspec  []byte  // likewise
	keep   bool    // REPLACE was not set: it is refreshed as long as the session
	tearAt instant // otherwise
}

// move is what few sessions have: that their path has changed.
type move struct {
	wantsAll   bool // the upstream peer is to send all of it: what is here may be another\'s
	branches   []branch
	formers    []former
	moved      instant // the last time
	retryAt    instant // the new path refused: it is asked again
	backoff    uint8   // so many times it could not be reached
	notified   instant // upstream was told of a possible change there
	tearing    uint64  // handle of the last TEAR by SII
	torn       side    // where that went
	invitation *Invite // at the QNR, of a receiver-initiated session
	again      bool    // asked for while a request was under way
	toNew      bool    // GIST has another peer than the one that has the reservation
	pinned     bool    // the new path refused: what is sent bypasses routing state
}

func (s *session) moving() *move {
	if s.move == nil {
		s.move = new(move)
	}
	return s.move
}

// deadline is the first of what waits; 0: never.
func (v *move) deadline() instant {
	if v == nil {
		return 0
	}
	at := v.retryAt
	for i := range v.branches {
		at = earliest(at, v.branches[i].tearAt)
	}
	return at
}

// notified is GIST's NetworkNotification. RFC 5974 §3.2.12, §5.2.5
func (m *Machine) notified(n *gist.NetworkNotification) {
	s := m.sessions[n.SID]
	if s == nil || s.state != installed {
		return
	}
	switch {
	case s.tail && n.MRI == s.down.mri && n.NSLPID == s.down.at(s.nslpid):
		if n.Type == gist.RoutingStatusChange && n.Status == gist.Good {
			m.lookOn(s)
		}
	case s.hasDown() && n.MRI == s.down.mri && n.NSLPID == s.down.at(s.nslpid):
		m.downNotified(s, n)
	case !s.initiator && n.MRI == s.up.mri.Reverse() && n.NSLPID == s.nslpid:
		m.upNotified(s, n)
	}
}

// downNotified: what is the next peer now? GIST tells of changes that are none
// (RFC 5974 §3.2.12.2), so a change of the peer's SII handle, or the word of the
// layer above, is what counts.
func (m *Machine) downNotified(s *session, n *gist.NetworkNotification) {
	good := n.Type == gist.RoutingStatusChange && n.Status == gist.Good
	other := good && s.down.sii != 0 && n.SII != s.down.sii
	if good && !other {
		return // as it should be
	}
	m.doubted(s)
	switch {
	case n.Type == gist.CommunicationFailure, n.Type == gist.RouteDeletion: // the addition follows
	case n.Type == gist.RoutingStatusChange && n.Status == gist.Bad:
		if s.txn == nil || s.txn.kind != reroute {
			m.reroute(s, false) // perhaps the layer above knows of another way
		}
	default:
		m.reroute(s, other)
	}
}

// reroute asks the layer above where the flow goes on now: "the QNE SHOULD send a
// RESERVE message, including the full QSPEC. This must contain an RSN which is
// RSN[current] = RSN0 + 2. It SHOULD include an RII". toNew: GIST has found
// another peer on the same way. RFC 5974 §5.2.5.2
func (m *Machine) reroute(s *session, toNew bool) {
	if !s.hasDown() || s.up.mri.Upstream {
		return
	}
	if full := len(m.tickets) >= m.cfg.MaxQuestions; s.txn != nil || full {
		v := s.moving()
		v.again, v.toNew = true, v.toNew || toNew
		if full {
			v.retryAt = m.after(m.cfg.RequestRetry)
			m.arm(s)
		}
		return
	}
	if v := s.move; v != nil {
		v.again, v.retryAt = false, 0
		toNew = toNew || v.toNew
		v.toNew = false
	}
	t := &txn{kind: reroute, phase: waitAdmit, made: true, quiet: true, rii: m.newRII(), hasRII: true,
		rsn: s.takeRSNAfterGap(), upRSN: s.upRSN, upPeriod: s.upPeriod, inSum: s.inSum, up: s.up, down: s.down,
		qspec: s.qspec, also: s.also, keep: s.keep, toNew: toNew}
	s.txn = t
	m.stats.Reroutes++
	msg := m.reserveMessage(t.rsn, t.also)
	msg.MessageFlags = replaceFlag(t.keep)
	msg.HasRII, msg.RII, msg.QSPEC = true, t.rii, t.qspec
	if t.also != nil {
		msg.PacketClassifier = t.also.classifier
	}
	t.giveUpAt = m.after(m.cfg.HoldTimeout)
	m.ask(s, Admit, Question{RSN: t.rsn, Upstream: t.up.peer, Downstream: t.down.peer, MRI: t.up.mri, Message: &msg, Move: MoveDownstream})
	m.arm(s)
}

func replaceFlag(keep bool) uint8 {
	if keep {
		return 0
	}
	return wire.Replace
}

// rerouteVerdict is the layer above's answer.
func (m *Machine) rerouteVerdict(s *session, t *txn, v *Verdict) {
	t.giveUpAt = 0
	next := side{mri: v.Next, peer: v.NextPeer, nslpid: v.level(s.nslpid), stateless: s.down.stateless}
	next.mri.Upstream = false
	switch {
	case !v.Accept:
		t.info, t.outcome = m.refusal(t, v.Info), Rejected
		m.rerouteRefused(s, t, v)
	case v.Unchanged:
		m.unpin(s)
		toNew := t.toNew
		m.done(s)
		if toNew && s.txn == nil && m.sessions[s.sid] == s && s.hasDown() {
			m.startSync(s)
		}
	case v.Last:
		// "MUST take over as the last node on the signaling path if GIST path
		// change detection identifies that there are no further downstream nodes".
		// RFC 5974 §5.2.5.1
		t.last = true
		m.askCommit(s, t, nil, nil)
	default:
		if err := m.usable(s, t, v); err != nil {
			m.note("bad-verdict", s.sid, v.NextPeer, "%v", err)
			m.fail(s, t, nil, nil, m.own(wire.ClassPermanentFailure, wire.InternalError), Rejected)
			return
		}
		t.orLast = v.OrLast
		t.down, t.qspec, t.also = next, v.QSPEC, t.also.boundTo(v.Bound)
		if next.mri != s.down.mri || next.peer != s.down.peer {
			m.note("route-change", s.sid, next.peer, "the next peer was %d", s.down.peer)
		}
		m.sendReserve(s, t)
	}
}

// rerouted: the reservation stands on the new path.
func (m *Machine) rerouted(s *session, t *txn, v *Verdict) {
	m.stats.Rerouted++
	old := s.branch()
	m.unbind(s)
	s.down, s.last, s.rsn, s.also = t.down, t.last, t.rsn, t.also
	m.bind(s)
	s.qspec = nil
	if s.tail = t.last && t.orLast; !s.last || s.tail {
		s.qspec = slices.Clone(t.qspec)
		if v.QSPEC != nil && sendable(v.QSPEC, nil) == nil {
			s.qspec = slices.Clone(v.QSPEC)
		}
	}
	s.badSince, s.refreshBad, s.alone, s.resync = 0, false, 0, false
	m.unpin(s)
	m.left(s, old, t)
	m.nextRefresh(s)
	m.done(s)
}

// branch is the way that the session goes now.
func (s *session) branch() branch { return branch{side: s.down, rsn: s.rsn, qspec: s.qspec} }

// left is what becomes of the way that a session went before, now that t has made
// it stand on another. "If the RESPONSE […] contains the code 'Refresh successful'
// […] the path is unchanged": that is said of the same way only, for a path that
// falls back to a former one finds the reservation there, too. RFC 5974 §5.2.5.2
func (m *Machine) left(s *session, b branch, t *txn) {
	old := b.side
	if s.down.mri == old.mri && s.down.peer == old.peer && !s.last {
		if i := t.resp; i == nil || old.sii == 0 || s.down.sii == old.sii ||
			i.InfoSpec.Class == wire.ClassSuccess && i.InfoSpec.Code == wire.RefreshSuccessful {
			return
		}
	}
	v := s.moving()
	flapping := v.moved != 0 && old.mri.Flow == s.down.mri.Flow && m.now-v.moved < instant(m.cfg.RouteDamping)
	v.moved = m.now
	// It may be one that was left before.
	v.branches = slices.DeleteFunc(v.branches, func(b branch) bool {
		return b.side.leads(s.down) || b.side.leads(old)
	})
	b.keep = t.keep
	switch {
	case t.keep && old.sii == 0 && old.mri == s.down.mri:
		m.tearBranch(s, b, t.rsn-1) // it cannot be reached any more
		return
	case t.keep:
	case flapping:
		// The path may fall back (RFC 5974 §5.2.5.4): what stands there is not
		// torn and made anew each time.
		b.tearAt = v.moved + instant(m.cfg.RouteDamping)
	default:
		m.tearBranch(s, b, t.rsn-1)
		return
	}
	if len(v.branches) >= maxBranches {
		m.tearBranch(s, v.branches[0], s.rsn-1)
		v.branches = slices.Delete(v.branches, 0, 1)
	}
	v.branches = append(v.branches, b)
}

// dropKept tears the branches that were kept: REPLACE is set now. RFC 5974 §5.4.1
func (m *Machine) dropKept(s *session) {
	if s.move == nil {
		return
	}
	for i := 0; i < len(s.move.branches); {
		if b := s.move.branches[i]; b.keep {
			s.move.branches = slices.Delete(s.move.branches, i, i+1)
			m.tearBranch(s, b, s.rsn-1)
		} else {
			i++
		}
	}
}

// leads says whether two sides are the same way to the same peer.
func (d side) leads(o side) bool {
	return d.mri == o.mri && d.peer == o.peer && d.nslpid == o.nslpid && (d.sii == 0 || o.sii == 0 || d.sii == o.sii)
}

// single says whether a session's refreshes cannot stand in lists: they bypass
// routing state, or go to several peers.
func (v *move) single() bool {
	return v != nil && (v.pinned || slices.ContainsFunc(v.branches, func(b branch) bool { return b.keep }))
}

// tearBranch sends "a RESERVE message with the TEAR flag sent down the old path.
// To do so, it MUST request GIST to use its explicit routing mechanism, and the
// QoS NSLP MUST supply an SII-Handle relating to the old peer QNE. When sending
// this RESERVE message, it MUST contain an RSN that is RSN[current] - 1".
// RFC 5974 §5.2.5.2
func (m *Machine) tearBranch(s *session, b branch, rsn uint32) {
	elsewhere := b.side.mri != s.down.mri || s.last
	if b.side.sii == 0 {
		// Nothing was heard of it since our restart: to its GIST we are somebody
		// else, whose TEAR "MUST be ignored" (RFC 5974 §5.4.1).
		m.note("branch-left", s.sid, b.side.peer, "no SII handle since a restart: what is reserved there is left to expire")
		if elsewhere {
			m.do(Forget{gist.SetStateLifetime{NSLPID: b.side.at(s.nslpid), SID: s.sid, MRI: b.side.mri}})
		}
		return
	}
	v := s.moving()
	msg := m.tearMessage(rsn, s.also)
	v.tearing, v.torn = m.newHandle(), b.side
	m.stats.Tears++
	m.send(m.encode(&msg), s.nslpid, s.sid, b.side, v.tearing)
	if elsewhere {
		m.do(Forget{gist.SetStateLifetime{NSLPID: b.side.at(s.nslpid), SID: s.sid, MRI: b.side.mri}})
	}
}

// tearNotSent: there is no association to the old peer any more. Where the old
// path has an MRI of its own, routing state leads there.
func (m *Machine) tearNotSent(s *session, err error) {
	v := s.move
	v.tearing = 0
	to := v.torn
	if to.mri == s.down.mri && !s.last {
		m.note("branch-left", s.sid, to.peer, "%v: what is reserved there is left to expire", err)
		return
	}
	msg := m.tearMessage(s.rsn-1, s.also)
	m.send(m.encode(&msg), s.nslpid, s.sid, to.byState(), 0)
	m.do(Forget{gist.SetStateLifetime{NSLPID: to.at(s.nslpid), SID: s.sid, MRI: to.mri}})
}

// tearBranches ends all old ways, at the end of the session.
func (m *Machine) tearBranches(s *session) {
	if s.move == nil {
		return
	}
	for _, b := range s.move.branches {
		m.tearBranch(s, b, s.takeRSN())
	}
	s.move.branches = nil
}

// moveDue does what a move's deadline is for.
func (m *Machine) moveDue(s *session) {
	v := s.move
	if v.retryAt != 0 && v.retryAt <= m.now {
		v.retryAt = 0
		m.reroute(s, false)
	}
	for i := 0; i < len(v.branches); {
		if b := v.branches[i]; b.tearAt == 0 || b.tearAt > m.now {
			i++
		} else {
			v.branches = slices.Delete(v.branches, i, i+1)
			m.tearBranch(s, b, s.rsn-1)
		}
	}
	m.arm(s)
}

// refreshBranches refreshes what is kept: "The QNE MAY elect to keep sending
// refreshing RESERVE messages." RFC 5974 §5.4.1
func (m *Machine) refreshBranches(s *session) {
	if s.move == nil {
		return
	}
	for _, b := range s.move.branches {
		if b.keep {
			msg := m.refreshMessage(s)
			msg.RSN.Number = b.rsn
			m.stats.RefreshesSent++
			m.send(m.encode(&msg), s.nslpid, s.sid, b.side, 0)
		}
	}
}

// branchAnswered handles a RESPONSE about a branch that is kept, and says whether it
// was one: its peer wants all of it, or has it no longer.
func (m *Machine) branchAnswered(s *session, r *Received, msg *wire.Message) bool {
	if s.move == nil {
		return false
	}
	i := slices.IndexFunc(s.move.branches, func(b branch) bool {
		return b.keep && b.rsn == msg.RSN.Number && b.side.peer == r.Peer && b.side.mri.Reverse() == r.MRI
	})
	if i < 0 {
		return false
	}
	b := &s.move.branches[i]
	switch info := &msg.InfoSpec; {
	case info.Class == wire.ClassTransientFailure && info.Code == wire.FullQSPECRequired:
		b.rsn = s.takeRSN()
		full := m.reserveMessage(b.rsn, s.also)
		full.HasRefreshPeriod, full.RefreshPeriod = true, m.ownPeriod()
		full.QSPEC = b.qspec
		m.send(m.encode(&full), s.nslpid, s.sid, b.side, 0)
	case lost(info):
		m.note("branch-lost", s.sid, r.Peer, "%v", *info)
		s.move.branches = slices.Delete(s.move.branches, i, i+1)
	}
	return true
}

// rerouteRefused: the new path does not have it, so the old one stays as long as
// it works. Upstream is told as of any possible route change (RFC 5974 §5.2.5.3),
// with what the new path said; and the new path is asked again.
func (m *Machine) rerouteRefused(s *session, t *txn, v *Verdict) {
	if t.sent && t.down.leads(s.down) {
		// Spurious: it is about the path that the reservation has.
		if t.resp != nil && lost(&t.info) {
			m.end(s, ending{reason: Lost, tear: true, info: m.lostInfo(t.info), tell: true, resp: t.resp})
			return
		}
		s.needSync = t.resp != nil
		m.done(s)
		return
	}
	m.stats.RerouteRefused++
	if t.oldLost {
		m.nothingLeft(s, t)
		return
	}
	m.forgetNew(s, t)
	w := s.moving()
	if w.pinned = w.pinned || t.sent && t.down.mri != s.down.mri; w.pinned {
		m.pinned[s] = true
	}
	// A refusal is not to be had otherwise by asking often; who cannot be reached
	// may be off the path again already.
	wait := lifetime(m.ownPeriod())
	if t.sent && t.resp == nil {
		wait = min(wait, m.cfg.RequestRetry<<min(w.backoff, 16))
		w.backoff++
	}
	w.retryAt = m.after(wait)
	info := t.info
	m.note("reroute-refused", s.sid, t.down.peer, "%v; the reservation towards %d stays", info, s.down.peer)
	var passed []wire.Object
	if t.resp != nil {
		passed = t.resp.Objects
	}
	objects := passedOn(passed, v.Extra)
	if objectsFit(objects) != nil {
		objects = nil
	}
	msg := wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info, Objects: objects}
	if !m.sendNotify(s, false, &msg) {
		m.do(Notified{SID: s.sid, Peer: Local, Message: &msg})
	}
	m.done(s)
}

// leaving says whether a request is under way that takes the session to another
// path downstream, or may.
func (s *session) leaving() bool {
	t := s.txn
	return t != nil && (t.kind == reroute || t.kind == modify && t.sent && !t.down.leads(s.down))
}

// nothingLeft ends a session that a new path, or a new upstream peer, does not
// have, after the old one has lost it.
func (m *Machine) nothingLeft(s *session, t *txn) {
	e := ending{reason: Torn, tear: true}
	if t.oldLost {
		e.reason, e.tell, e.info = Lost, true, m.lostInfo(t.info)
	}
	s.txn = nil
	m.end(s, e)
}

// unpin: the way is the one that it should be.
func (m *Machine) unpin(s *session) {
	if v := s.move; v != nil {
		v.pinned, v.retryAt, v.backoff = false, 0, 0
		delete(m.pinned, s)
	}
}

// routesChanged asks anew about the sessions whose new path has refused: GIST has
// no routing state for them that it could tell of.
func (m *Machine) routesChanged() {
	for _, s := range slices.SortedFunc(maps.Keys(m.pinned), func(a, b *session) int { return slices.Compare(a.sid[:], b.sid[:]) }) {
		m.reroute(s, false)
	}
}

// current is the side that the session's own messages go to: by routing state
// or, where GIST would not take them there any more, by SII handle.
func (s *session) current() side {
	if s.move != nil && s.move.pinned {
		return s.down
	}
	return s.down.byState()
}

// Rerouted is the layer above's word that the flow may go on by another way
// now: the Admit question with MoveDownstream follows. GIST tells of most changes
// by itself.
type Rerouted struct{ SID gistwire.SID }

func (Rerouted) nslpEvent() {}

// RoutesChanged is Rerouted of all sessions whose new path has refused.
type RoutesChanged struct{}

func (RoutesChanged) nslpEvent() {}

func (m *Machine) rerouteAsked(sid gistwire.SID) {
	s := m.sessions[sid]
	if s == nil || s.state != installed {
		return
	}
	if s.tail {
		m.lookOn(s)
		return
	}
	if s.last && !s.initiator {
		// Path extension: what it takes is in the QSPEC that upstream has.
		// RFC 5974 §5.2.5.1
		s.inSum = 0 // it is not the one that is installed, whatever it says
		m.wantAll(s, s.up.byState(), s.upRSN)
		return
	}
	m.reroute(s, false)
}

// wanted says whether a refresh without a QSPEC is not enough.
func (v *move) wanted() bool { return v != nil && v.wantsAll }

// wantAll has an upstream peer send all of the session: "Full QSPEC required".
// RFC 5974 §5.4.1
func (m *Machine) wantAll(s *session, to side, rsn wire.RSN) {
	s.moving().wantsAll = true
	m.stats.FullQSPEC++
	m.respond(s.nslpid, s.sid, reply{to: to, rsn: rsn, hasRSN: true, info: m.own(wire.ClassTransientFailure, wire.FullQSPECRequired),
		flags: s.flags(), bound: s.also.bindings()})
}
