package qosnslp

import (
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// crowd makes sessions 1 to k stand in a chain of n nodes.
func crowd(t *testing.T, n int, k byte) *world {
	w := newWorld(t, n, uint64(k))
	for i := range k {
		w.reserve(sid(i+1), uint32(i)+10)
	}
	w.run(time.Second)
	for i := range k {
		w.wantResult(sid(i+1), Reserved)
	}
	return w
}

func lists(m *wire.Message) bool        { return m.SessionIDs != nil }
func summaryTears(m *wire.Message) bool { return m.Tears() && m.SessionIDs != nil }

// list is a reduced refresh of sid(1) that names more; RSNs count from first.
func list(epoch uint32, rsns []uint32, sids ...gistwire.SID) wire.Message {
	m := reserveMsg(0, epoch, nil)
	m.SessionIDs, m.HasRSNList, m.RSNs = sids, true, wire.RSNList{Epoch: epoch, RSNs: rsns}
	return m
}

func (w *world) expires(n Peer, s gistwire.SID) time.Time {
	i, ok := w.node(n).m.Session(s)
	if !ok {
		w.fatal("node %d has no session %v", n, s)
	}
	return i.Expires
}

// "For limiting the number of individual messages, the QoS NSLP supports summary
// refresh". RFC 5974 §3.2.6. One message a period keeps sixty sessions alive,
// changed ones too, and those that end are never named again: "When the QNE
// sends out a tearing RESERVE, it MUST NOT send refresh messages anymore"
// (§5.1.2.1).
func TestSummaryRefresh(t *testing.T) {
	w := crowd(t, 3, 60)
	gone := map[gistwire.SID]bool{}
	w.filter = func(_, _ Peer, m *wire.Message) bool {
		for _, s := range m.SessionIDs {
			if gone[s] {
				w.fatal("%v is listed after its TEAR", s)
			}
		}
		return true
	}
	w.run(30 * time.Minute)
	w.reserve(sid(7), 99)
	for i := range byte(30) {
		gone[sid(i+31)] = true
		w.node(1).handle(Terminate{SID: sid(i + 31)})
	}
	w.run(30 * time.Minute)
	w.wantStand(sid(7), 99)
	w.wantStand(sid(30), 39)
	w.wantStand(sid(31), 0)
	for _, n := range w.nodes[:2] {
		st := n.m.Stats()
		if st.SummaryRefreshes < 60 || st.RefreshesSent > 400 || n.notes["list-refused"] != 0 {
			w.fatal("node %d: %+v, notes %v", n.id, st, n.notes)
		}
	}
	if n := w.node(2).m.Stats(); n.Refreshed < 60*40 || n.ListErrors != 0 {
		w.fatal("%+v", n)
	}
}

// Lists are bounded, and what a list cannot say goes alone: "a QNE MUST copy the
// BOUND-SESSION-ID object into all messages". RFC 5974 §5.3.3
func TestSummaryBounds(t *testing.T) {
	w := newWorld(t, 2, 3)
	w.node(1).cfg.Summary = 8
	w.node(1).boot()
	for i := range byte(40) {
		w.reserve(sid(i), 5)
	}
	bound := wire.BoundSession{Code: wire.BindTunnel, SID: sid(1)}
	w.run(time.Second)
	w.node(1).m.sessions[sid(0)].also = &also{bound: []wire.BoundSession{bound}}
	w.node(1).m.nextRefresh(w.node(1).m.sessions[sid(0)])
	w.node(1).m.arm(w.node(1).m.sessions[sid(0)])
	w.run(20 * time.Minute)
	biggest := 0
	for _, m := range w.node(1).sent {
		biggest = max(biggest, len(m.SessionIDs)+1)
		if lists(m) && (slices.Contains(m.SessionIDs, sid(0)) || m.BoundSessions != nil) {
			w.fatal("a bound session is listed")
		}
	}
	if biggest != 8 {
		w.fatal("the longest list names %d", biggest)
	}
	for i := range byte(40) {
		w.wantStand(sid(i), 5)
	}
}

// "if it finds one or more unknown SESSION-ID values, it SHOULD construct an
// informational RESPONSE message … and include all unknown SESSION-IDs";
// "The stateful QNE MUST include the erroneous SESSION-ID and RSN values in
// SESSION-ID-LIST and RSN-LIST"; "even if some sessions were not in synch, the
// remaining sessions … are refreshed". RFC 5974 §5.3.6, §5.3.7
func TestListErrors(t *testing.T) {
	w := scripted(t)
	for i := range byte(4) {
		w.inject(2, 1, sid(i+1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	}
	w.inject(2, 3, sid(5), withRII(reserveMsg(0, 5, qspec(1)), 9)) // wrong side: refused
	w.run(20 * time.Second)
	before := w.expires(2, sid(3))
	sent := len(w.node(2).sent)
	w.inject(2, 1, sid(1), list(5, []uint32{0, 7, 0, 0}, sid(2), sid(3), sid(4), sid(8)))
	if len(w.node(2).sent) != sent+2 {
		w.fatal("%d messages", len(w.node(2).sent)-sent)
	}
	unknown, other := w.node(2).sent[sent], w.node(2).sent[sent+1]
	w.wantInfo(unknown, wire.ClassInformational, wire.UnknownListedSession)
	w.wantInfo(other, wire.ClassInformational, wire.MismatchingRSNInList)
	if !slices.Equal(unknown.SessionIDs, []gistwire.SID{sid(8)}) || unknown.HasRSNList || unknown.RSN != (wire.RSN{Epoch: 5}) {
		w.fatal("%+v", unknown)
	}
	if !slices.Equal(other.SessionIDs, []gistwire.SID{sid(3)}) || !slices.Equal(other.RSNs.RSNs, []uint32{7}) || other.RSNs.Epoch != 5 {
		w.fatal("%+v", other)
	}
	for _, s := range []gistwire.SID{sid(1), sid(2), sid(4)} {
		if !w.expires(2, s).After(before) {
			w.fatal("%v was not refreshed", s)
		}
	}
	if w.expires(2, sid(3)) != before {
		w.fatal("the mismatching session was refreshed")
	}
}

// "If the primary SESSION-ID is not understood, the SESSION-ID-LIST object MUST
// NOT be processed"; "If the primary session and RSN reference … were not
// understood, the stateful QNE MUST NOT process the RSN-LIST. Instead, an error
// RESPONSE SHOULD be sent back"; where the counts differ "a protocol error
// indicating a bad value"; "An RSN-LIST MUST be carried". RFC 5974 §5.3.6, §5.3.7
func TestListNotProcessed(t *testing.T) {
	w := scripted(t)
	for i := range byte(2) {
		w.inject(2, 1, sid(i+1), withRII(reserveMsg(3, 5, qspec(1)), 9))
	}
	w.run(20 * time.Second)
	before := w.expires(2, sid(2))
	good := func() wire.Message { m := list(5, []uint32{3}, sid(2)); m.RSN.Number = 3; return m }
	for what, c := range map[string]struct {
		from    Peer
		primary gistwire.SID
		change  func(*wire.Message)
		class   wire.ErrorClass // 0: silence
		code    uint8
	}{
		"unknown primary": {1, sid(9), nil, wire.ClassTransientFailure, wire.FullQSPECRequired},
		"newer primary":   {1, sid(1), func(m *wire.Message) { m.RSN.Number = 4 }, wire.ClassTransientFailure, wire.FullQSPECRequired},
		"older primary":   {1, sid(1), func(m *wire.Message) { m.RSN.Number = 2 }, 0, 0},
		"counts":          {1, sid(1), func(m *wire.Message) { m.RSNs.RSNs = []uint32{3, 3} }, wire.ClassProtocolError, wire.ErroneousValue},
		"no RSN-LIST":     {1, sid(1), func(m *wire.Message) { m.HasRSNList = false }, wire.ClassProtocolError, wire.MissingObject},
		"tear, unknown":   {1, sid(10), func(m *wire.Message) { m.MessageFlags = wire.Tear }, 0, 0},
		"stranger":        {Stranger, sid(1), nil, wire.ClassPermanentFailure, wire.AuthorizationFailure},
	} {
		m := good()
		if c.change != nil {
			c.change(&m)
		}
		sent := len(w.node(2).sent)
		w.node(2).receive(c.from, c.primary, hop(1), m.Append(nil))
		switch answers := w.node(2).sent[sent:]; {
		case c.class == 0 && len(answers) != 0:
			w.fatal("%s: answered %v", what, answers[0].InfoSpec)
		case c.class != 0:
			if len(answers) != 1 {
				w.fatal("%s: %d answers", what, len(answers))
			}
			w.wantInfo(answers[0], c.class, c.code)
		}
		if w.expires(2, sid(2)) != before {
			w.fatal("%s: the list was processed", what)
		}
	}
	w.inject(2, 1, sid(1), good())
	if w.expires(2, sid(2)) == before {
		w.fatal("the good list was not processed")
	}
}

// Nobody refreshes or tears a session of another peer by listing it, nor with
// another SII. RFC 5974 §5.4.1
func TestListsOfOthers(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.node(1).down, w.node(4).down = true, true
	w.node(3).answer = func(q *Question) (Verdict, bool) {
		return Verdict{Accept: true, Last: true}, q.Kind == Admit
	}
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
	w.node(2).receive(4, sid(2), hop(1), withRIIBytes(0, 5))
	w.run(20 * time.Second)
	w.node(2).m.sessions[sid(2)].up.sii = 0 // as after a restart: the peer is what counts
	before := w.expires(2, sid(2))
	m := list(5, []uint32{0}, sid(2))
	w.inject(2, 1, sid(1), m)
	if w.expires(2, sid(2)) != before {
		w.fatal("refreshed")
	}
	w.wantInfo(w.node(2).last(isResponse), wire.ClassInformational, wire.UnknownListedSession)
	m.MessageFlags, m.RSN.Number, m.RSNs.RSNs[0] = wire.Tear, 1, 1
	w.inject(2, 1, sid(1), m)
	w.run(time.Second)
	if _, ok := w.node(2).m.Session(sid(1)); ok {
		w.fatal("the primary session is still there")
	}
	if w.expires(2, sid(2)) != before {
		w.fatal("torn by another peer")
	}
	w.node(2).handle(Received{Peer: 4, RecvMessage: gist.RecvMessage{Data: withRIIBytes(0, 5), NSLPID: 1, SID: sid(3), MRI: hop(1), SII: 7001}})
	w.run(time.Second)
	tear := list(5, []uint32{1}, sid(3))
	tear.MessageFlags, tear.RSN.Number = wire.Tear, 1
	w.node(2).receive(4, sid(2), hop(1), tear.Append(nil))
	w.run(time.Second)
	if _, ok := w.node(2).m.Session(sid(3)); !ok {
		w.fatal("torn with another SII")
	}
}

func withRIIBytes(rsn, epoch uint32) []byte {
	m := withRII(reserveMsg(rsn, epoch, qspec(1)), 9)
	return m.Append(nil)
}

// "The downstream stateful QNE must then also tear down the other sessions
// indicated. The downstream stateful QNE must silently ignore any unknown
// SESSION-IDs"; an old RSN is "silently discarded". RFC 5974 §3.2.6, §5.3.6, §5.4.1. It
// travels on as a summary tear.
func TestSummaryTear(t *testing.T) {
	w := crowd(t, 4, 6)
	e := w.node(1).epoch
	m := list(e, []uint32{1, 1, 1, 0, 1}, sid(2), sid(3), sid(99), sid(4), sid(2))
	m.MessageFlags, m.RSN.Number = wire.Tear, 1
	w.node(2).m.sessions[sid(4)].upRSN.Number = 5
	answers := w.node(2).count(isResponse)
	other := list(e, []uint32{9}, sid(5))
	other.MessageFlags, other.RSN.Number, other.RSNs.Epoch = wire.Tear, 1, e+1
	w.inject(2, 1, sid(6), other)
	w.inject(2, 1, sid(1), m)
	w.run(time.Second)
	for _, n := range w.nodes[1:] {
		for i := range byte(6) {
			_, there := n.m.Session(sid(i + 1))
			if _, stands := n.stand[sid(i+1)]; there != (i >= 3 && i < 5) || stands != there {
				w.fatal("node %d, session %d: there %v, committed %v", n.id, i+1, there, stands)
			}
		}
	}
	for _, n := range w.nodes[1:3] {
		if n.count(isTear) != 2 || n.count(summaryTears) != 1 || len(n.last(isTear).SessionIDs) != 2 {
			w.fatal("node %d: %d TEARs, %d with a list", n.id, n.count(isTear), n.count(summaryTears))
		}
	}
	if w.node(2).count(isResponse) != answers {
		w.fatal("a TEAR was answered")
	}
}

// Where many expire at once, their TEARs leave together, within the bound.
func TestExpiryTearsTogether(t *testing.T) {
	w := crowd(t, 3, 30)
	w.node(2).m.cfg.Summary = 10
	w.node(1).down = true
	w.run(20 * time.Minute)
	if st := w.node(3).m.Stats(); st.Installed != 0 || len(w.node(3).stand) != 0 {
		w.fatal("%+v", st)
	}
	if n := w.node(2).count(isTear); n > 10 {
		w.fatal("%d TEARs", n)
	}
}

// A peer that has forgotten everything is told all of it, whichever session it
// was asked about first. RFC 5974 §5.4.1
func TestListToPeerThatForgot(t *testing.T) {
	w := crowd(t, 3, 40)
	w.run(time.Minute)
	clear(w.node(2).disk)
	w.node(2).restart()
	w.run(4 * time.Minute)
	for i := range byte(40) {
		w.wantStand(sid(i+1), uint32(i)+10)
	}
	w.run(2 * time.Minute)
	if b := w.node(1).m.sessions[sid(1)].batch; b == nil || len(b.members) != 40 {
		w.fatal("the lists have not come back: %+v", b)
	}
}

// What the peer says of a list: a session it does not know is asked alone, one
// with another RSN is told all of it, and if lists are not its thing they end.
// RFC 5974 §5.3.6, §5.3.7
func TestListAnswers(t *testing.T) {
	answer := func(w *world, class wire.ErrorClass, code uint8, more func(*wire.Message)) {
		b := w.node(1).m.sessions[sid(1)].batch
		m := wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Epoch: w.node(1).epoch}, HasInfoSpec: true,
			InfoSpec: wire.InfoSpec{Class: class, Code: code}}
		more(&m)
		w.inject(1, 2, b.primary.sid, m)
	}
	w := crowd(t, 2, 9)
	w.run(time.Minute)
	syncs, sent := w.node(1).m.Stats().Syncs, len(w.node(1).sent)
	e := w.node(1).epoch
	answer(w, wire.ClassInformational, wire.UnknownListedSession, func(m *wire.Message) { m.SessionIDs = []gistwire.SID{sid(4), sid(99)} })
	if len(w.node(1).sent) != sent+1 || w.node(1).m.sessions[sid(4)].batch != nil {
		w.fatal("%d messages", len(w.node(1).sent)-sent)
	}
	answer(w, wire.ClassInformational, wire.MismatchingRSNInList, func(m *wire.Message) {
		m.SessionIDs, m.HasRSNList = []gistwire.SID{sid(5), sid(6), sid(7)}, true
		m.RSNs = wire.RSNList{Epoch: e, RSNs: []uint32{0, 4, 0}}
	})
	if n := w.node(1).m.Stats().Syncs; n != syncs+2 {
		w.fatal("%d full RESERVEs, want those of sessions 5 and 7", n-syncs)
	}
	w.run(5 * time.Minute)
	answer(w, wire.ClassProtocolError, wire.UnknownObject, func(*wire.Message) {})
	sent = w.node(1).count(lists)
	w.run(10 * time.Minute)
	if w.node(1).count(lists) != sent {
		w.fatal("lists go on")
	}
	for i := range byte(9) {
		w.wantStand(sid(i+1), uint32(i)+10)
	}
}

// Where GIST says that the next peer may be another, the session is asked about
// alone, so that the message takes the new way. RFC 5974 §3.2.6
func TestListAfterRouteChange(t *testing.T) {
	w := crowd(t, 2, 5)
	n := w.node(1)
	s := n.m.sessions[sid(3)]
	note := gist.NetworkNotification{SID: sid(3), NSLPID: 1, MRI: s.down.mri, Type: gist.RoutingStatusChange, Status: gist.Good, SII: s.down.sii}
	n.handle(Notification{note})
	if s.batch == nil {
		w.fatal("the same peer as before, and yet not in the list")
	}
	note.SII++
	n.handle(Notification{note})
	sent := len(n.sent)
	w.run(3 * time.Minute)
	single, listed := 0, 0
	for i, m := range n.sent[sent:] {
		named := slices.Contains(m.SessionIDs, sid(3))
		switch {
		case n.sids[sent+i] == sid(3) && m.SessionIDs == nil:
			single++
		case named && single == 0:
			w.fatal("listed before it was asked about alone")
		case named || n.sids[sent+i] == sid(3):
			listed++
		}
	}
	if single != 1 || listed == 0 {
		w.fatal("alone %d times, then listed %d times", single, listed)
	}
}

// GIST cannot reach the peer: that holds for every session of the batch.
func TestListUnreachable(t *testing.T) {
	w := crowd(t, 3, 5)
	w.unreachable[[2]Peer{2, 3}] = true
	w.run(20 * time.Minute)
	for i := range byte(5) {
		w.wantResult(sid(i+1), Terminated)
		for _, n := range w.nodes {
			if _, ok := n.m.Session(sid(i + 1)); ok {
				w.fatal("node %d has session %d", n.id, i+1)
			}
		}
	}
}

// A session that GIST has lost its peer of stays out of lists until a message of
// its own has left: what only stands in lists has no routing state made for it.
// RFC 5974 §3.2.6
func TestDoubtedUntilSent(t *testing.T) {
	for what, lost := range map[string]gist.NetworkNotification{
		"gone":         {Type: gist.RoutingStatusChange, Status: gist.Bad},
		"in doubt":     {Type: gist.RoutingStatusChange, Status: gist.Tentative, SII: 2000},
		"messages":     {Type: gist.CommunicationFailure, Status: gist.Good, SII: 2000},
		"unauthorised": {Type: gist.NodeAuthorisationChange, Status: gist.Bad, SII: 2000},
	} {
		w := crowd(t, 2, 5)
		n := w.node(1)
		s := n.m.sessions[sid(3)]
		lost.SID, lost.NSLPID, lost.MRI = sid(3), 1, s.down.mri
		var alone, listed int
		down := true
		w.filter = func(_, to Peer, m *wire.Message) bool {
			listed += b2i(slices.Contains(m.SessionIDs, sid(3)))
			return true
		}
		n.handle(Notification{lost})
		w.cutOff = func(a Send) bool {
			if a.SID != sid(3) || a.Peer != 2 {
				return false
			}
			alone++
			return down
		}
		w.run(2 * time.Minute)
		if alone < 2 || listed != 0 {
			w.fatal("%s: alone %d times, listed %d times while it cannot be sent", what, alone, listed)
		}
		down, alone = false, 0
		w.run(3 * time.Minute)
		if alone == 0 || listed == 0 {
			w.fatal("%s: alone %d times, then listed %d times", what, alone, listed)
		}
		w.wantStand(sid(3), 12)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
