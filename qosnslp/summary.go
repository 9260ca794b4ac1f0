package qosnslp

import (
	"slices"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Bounds of what one summary message names, its primary session included. What
// GIST sends unreliably must fit a datagram.
const (
	DefaultSummary  = 500
	MaxSummary      = wire.MaxSessionIDs + 1
	datagramSummary = 20
)

// Values of session.alone.
const (
	aloneForOneRefresh = 1
	aloneUntilSent     = 2 // GIST has no peer for it, or doubts it
	aloneUntilSync     = 3 // the peer wants no list with it
)

// towards is what sessions must share to be in one summary message: "The QoS
// NSLP uses this information to decide whether summary refresh messages can be
// sent or when a summary tear is possible". RFC 5974 §3.2.6
type towards struct {
	peer     Peer
	sii      gist.SII
	nslpid   gistwire.NSLPID
	upstream bool // the way that the RESERVE goes
}

func (s *session) towards() towards {
	return towards{s.down.peer, s.down.sii, s.down.at(s.nslpid), s.down.mri.Upstream}
}

// batch is the sessions that are refreshed together. It has the one refresh
// timer of them all.
type batch struct {
	heapPos int32
	to      towards
	members []*session
	fireAt  instant
	primary *session // of the last round; only compared
	handle  uint64   // of the last round
	unack   uint8    // rounds since one had ACK-REQ
}

// queuedTear is a TEAR that leaves at the end of the event.
type queuedTear struct {
	sid gistwire.SID
	rsn uint32
	to  side
}

// listable says whether a session's refresh can be an entry of a list. What
// must stand in each of its messages, or is not known of its peer, cannot be.
func (m *Machine) listable(s *session) bool {
	return m.cfg.Summary > 1 && s.hasDown() && s.alone == 0 && !s.fullRefresh && !s.down.stateless && !s.resync &&
		s.also == nil && s.mostPeriod == 0 && s.down.sii != 0 && !s.move.single()
}

// nextRefresh says when the session is refreshed next: with its batch, or on a
// timer of its own.
func (m *Machine) nextRefresh(s *session) {
	switch {
	case !s.hasDown():
		m.delist(s)
		if s.refreshAt = 0; s.tail {
			s.refreshAt = m.after(m.jittered(m.cfg.RefreshPeriod))
		}
		return
	case !m.listable(s):
		m.delist(s)
		if s.down.stateless { // those who count it do so once in a period
			s.refreshAt = m.after(m.cfg.RefreshPeriod)
			return
		}
		s.refreshAt = m.after(m.jittered(period(m.sessionPeriod(s))))
		return
	}
	s.refreshAt = 0
	to := s.towards()
	if s.batch != nil && s.batch.to == to {
		return
	}
	m.delist(s)
	open := m.open[to]
	if len(open) == 0 {
		b := &batch{to: to, fireAt: m.after(m.jittered(m.cfg.RefreshPeriod))}
		m.timers.want(timed{at: b.fireAt, who: b})
		open = append(open, b)
		m.open[to] = open
	}
	m.join(s, open[len(open)-1])
}

func (m *Machine) join(s *session, b *batch) {
	s.batch, s.place = b, int32(len(b.members))
	b.members = append(b.members, s)
	if len(b.members) >= m.cfg.Summary {
		m.shut(b)
	}
}

// shut takes a batch out of those with room.
func (m *Machine) shut(b *batch) {
	open := m.open[b.to]
	if i := slices.Index(open, b); i >= 0 {
		open = slices.Delete(open, i, i+1)
	}
	if len(open) == 0 {
		delete(m.open, b.to)
		return
	}
	m.open[b.to] = open
}

// delist takes a session out of its batch.
func (m *Machine) delist(s *session) {
	b := s.batch
	if b == nil {
		return
	}
	if len(b.members) >= m.cfg.Summary {
		m.open[b.to] = append(m.open[b.to], b)
	}
	last := len(b.members) - 1
	moved := b.members[last]
	b.members[s.place], moved.place = moved, s.place
	b.members[last] = nil
	b.members = b.members[:last]
	s.batch = nil
	if last == 0 {
		m.shut(b)
		m.timers.remove(&b.heapPos)
	}
}

// dissolve has the sessions of a batch refreshed one by one, over half a
// period: the peer did not take their list.
func (m *Machine) dissolve(b *batch, alone uint8) {
	for _, s := range slices.Clone(b.members) {
		m.delist(s)
		s.alone = alone
		s.refreshAt = m.after(m.jittered(m.cfg.RefreshPeriod / 2))
		m.arm(s)
	}
}

// doubted has a session refreshed alone because GIST has no peer for it, or
// doubts the one it has, until GIST has sent a message of its own: a session that
// only stands in lists sends none, so that what GIST has lost is not made again,
// and in a list it would go to the peer of another, which may still know it.
func (m *Machine) doubted(s *session) {
	if m.cfg.Summary <= 1 || !s.hasDown() || s.alone >= aloneUntilSent {
		return
	}
	s.alone = aloneUntilSent
	if s.batch != nil {
		m.delist(s)
		s.refreshAt = m.after(m.jittered(m.cfg.RefreshPeriod / 2))
		m.arm(s)
	}
}

// refreshSent is GIST's word that a refresh of this one session has left: there
// is routing state for it again.
func (m *Machine) refreshSent(s *session) {
	if s.alone == aloneUntilSent && s.hasDown() {
		s.alone = 0
		m.nextRefresh(s)
		m.arm(s)
	}
}

// round refreshes a batch: a reduced refresh of its first session that "may
// further include a SESSION-ID and RSN-LIST". RFC 5974 §5.4.1, §3.2.6
func (m *Machine) round(b *batch) {
	b.fireAt = m.after(m.jittered(m.cfg.RefreshPeriod))
	m.timers.later(b.fireAt)
	b.primary = nil
	m.sids, m.rsns = m.sids[:0], m.rsns[:0]
	for _, s := range b.members {
		switch {
		case s.txn != nil:
			// The peer may have another RSN a moment from now.
			m.sendRefresh(s)
			continue
		case b.primary == nil:
			b.primary = s
		default:
			m.beforeRefresh(s)
			m.sids, m.rsns = append(m.sids, s.sid), append(m.rsns, s.rsn)
		}
	}
	p := b.primary
	switch {
	case p == nil:
	case len(m.sids) == 0:
		b.primary = nil
		m.sendRefresh(p)
	default:
		m.beforeRefresh(p)
		msg := m.refreshMessage(p)
		msg.SessionIDs = m.sids
		msg.HasRSNList, msg.RSNs = true, wire.RSNList{Epoch: m.cfg.Epoch, RSNs: m.rsns}
		b.handle = m.newHandle()
		p.handle = b.handle
		m.stats.RefreshesSent++
		m.stats.SummaryRefreshes++
		ack := m.asksAck(p, &b.unack)
		if ack {
			msg.Flags |= wire.AckReq
		}
		data := m.encode(&msg)
		if ack {
			m.awaitAck(p, data)
		}
		m.send(data, p.nslpid, p.sid, p.down.byState(), b.handle)
	}
	m.merge(b)
}

// merge empties a batch that has become small into another one.
func (m *Machine) merge(b *batch) {
	if 2*len(b.members) > m.cfg.Summary {
		return
	}
	for _, o := range m.open[b.to] {
		if o != b && len(o.members)+len(b.members) <= m.cfg.Summary {
			for len(b.members) > 0 {
				s := b.members[len(b.members)-1]
				m.delist(s)
				m.join(s, o)
			}
			return
		}
	}
}

// summary handles the list of a RESERVE that refreshed its primary session.
// RFC 5974 §5.3.6, §5.3.7
func (m *Machine) summary(r *Received, msg *wire.Message) {
	var unknown, other []gistwire.SID
	var rsns []uint32
	for i, sid := range msg.SessionIDs {
		s, rsn := m.sessions[sid], msg.RSNs.RSNs[i]
		switch {
		case s == nil, s.state != closing && !s.listedBy(r):
			unknown = append(unknown, sid)
		case s.state == closing:
			// "the QNE MUST silently drop". RFC 5974 §5.4.1
		case s.state != installed, s.move.wanted(), s.upRSN != wire.RSN{Number: rsn, Epoch: msg.RSNs.Epoch}:
			other, rsns = append(other, sid), append(rsns, rsn)
		default:
			m.stats.Refreshed++
			m.lives(s, periodOf(msg))
		}
	}
	tell := func(code uint8, sids []gistwire.SID, rsns []uint32) {
		if len(sids) == 0 {
			return
		}
		m.stats.ListErrors += uint64(len(sids))
		m.note("list-refused", r.SID, r.Peer, "%d of %d listed sessions: %s", len(sids), len(msg.SessionIDs), wire.CodeText(wire.ClassInformational, code))
		if !m.mayAnswer(r) {
			return
		}
		m.respond(r.NSLPID, r.SID, reply{to: side{mri: r.MRI, peer: r.Peer}, rsn: msg.RSN, hasRSN: true,
			info: m.own(wire.ClassInformational, code), sids: sids, rsns: rsns, epoch: msg.RSNs.Epoch})
	}
	// "include all unknown SESSION-IDs in a SESSION-ID-LIST". RFC 5974 §5.3.6
	tell(wire.UnknownListedSession, unknown, nil)
	// "MUST include the erroneous SESSION-ID and RSN values". RFC 5974 §5.3.7
	tell(wire.MismatchingRSNInList, other, rsns)
}

// listedBy says whether a list may speak of the session: it is the current
// upstream peer's, as GIST knows that peer.
func (s *session) listedBy(r *Received) bool {
	return s.nslpid == r.NSLPID && s.upstreamMRI().Upstream == r.MRI.Upstream && s.upstreamPeer() == r.Peer && (s.up.sii == 0 || s.up.sii == r.SII)
}

// summaryTear handles the list of a tearing RESERVE: "for each session in the
// SESSION-ID-LIST, the stateful QNE MUST inform the RMF that the reservation is
// no longer required"; what is unknown or older is silently ignored.
// RFC 5974 §5.3.6, §3.2.6
func (m *Machine) summaryTear(r *Received, msg *wire.Message) {
	for i, sid := range msg.SessionIDs {
		s := m.sessions[sid]
		rsn := wire.RSN{Number: msg.RSNs.RSNs[i], Epoch: msg.RSNs.Epoch}
		if s == nil || s.state != installed || !s.listedBy(r) || s.upRSN.Epoch != rsn.Epoch {
			m.stats.ListErrors++
			continue
		}
		one := *r
		one.SID = sid
		m.tear(s, &one, &wire.Message{Type: wire.Reserve, MessageFlags: wire.Tear, HasRSN: true, RSN: rsn})
	}
}

// listRefused handles what the downstream peer says of a list that it got.
func (m *Machine) listRefused(r *Received, msg *wire.Message) {
	for i, sid := range msg.SessionIDs {
		s := m.sessions[sid]
		if s == nil || s.batch == nil || s.down.peer != r.Peer {
			continue // it ended, or does not stand in lists any more
		}
		if msg.InfoSpec.Code == wire.UnknownListedSession {
			// Asked alone, the peer may know it, or want all of it.
			m.delist(s)
			s.alone = aloneUntilSync
			m.refresh(s)
			continue
		}
		if i < len(msg.RSNs.RSNs) && msg.RSNs.RSNs[i] == s.rsn && msg.RSNs.Epoch == m.cfg.Epoch {
			m.sync(s)
		}
	}
}

// tearLater queues the TEAR of a session that was in a batch; those of one
// event and peer leave together. RFC 5974 §3.2.6
func (m *Machine) tearLater(s *session) {
	to := s.towards()
	q := m.tears[to]
	q = append(q, queuedTear{sid: s.sid, rsn: s.takeRSN(), to: s.down})
	if len(q) == 1 {
		m.tearsTo = append(m.tearsTo, to)
	}
	m.stats.Tears++
	if len(q) >= m.cfg.Summary {
		m.sendTears(to, q)
		q = q[:0]
		m.tearsTo = slices.DeleteFunc(m.tearsTo, func(x towards) bool { return x == to })
	}
	m.tears[to] = q
}

func (m *Machine) flushTears() {
	for _, to := range m.tearsTo {
		m.sendTears(to, m.tears[to])
	}
	clear(m.tears)
	m.tearsTo = m.tearsTo[:0]
}

func (m *Machine) sendTears(to towards, q []queuedTear) {
	msg := wire.Message{Type: wire.Reserve, MessageFlags: wire.Tear, HasRSN: true,
		RSN: wire.RSN{Number: q[0].rsn, Epoch: m.cfg.Epoch}}
	if len(q) > 1 {
		m.stats.SummaryTears++
		msg.HasRSNList, msg.RSNs.Epoch = true, m.cfg.Epoch
		for _, t := range q[1:] {
			msg.SessionIDs = append(msg.SessionIDs, t.sid)
			msg.RSNs.RSNs = append(msg.RSNs.RSNs, t.rsn)
		}
	}
	m.send(m.encode(&msg), to.nslpid, q[0].sid, q[0].to.byState(), 0)
}
