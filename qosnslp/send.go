package qosnslp

import (
	"slices"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// encode returns the message in a slice of its own, without room behind it:
// whoever appends to it gets a copy.
func (m *Machine) encode(msg *wire.Message) []byte {
	m.buf = msg.Append(m.buf[:0])
	return slices.Clip(slices.Clone(m.buf))
}

// send: "QoS NSLP messages are sent peer-to-peer along the path". RFC 5974 §5.2.2
func (m *Machine) send(data []byte, id gistwire.NSLPID, sid gistwire.SID, to side, handle uint64) {
	m.stats.Sent++
	attr := m.attributes()
	if to.stateless {
		to.sii, attr = 0, gist.TransferAttributes{Stateless: true}
	}
	m.do(Send{Peer: to.peer, SendMessage: gist.SendMessage{
		NSLPData: data, Handle: handle, NSLPID: to.at(id), SID: sid,
		MRI: to.mri, SII: to.sii, Attr: attr,
	}})
}

// sendReported sends the session's refresh; with report GIST says so when it has
// left.
func (m *Machine) sendReported(data []byte, s *session, report bool) {
	m.send(data, s.nslpid, s.sid, s.current(), s.handle)
	if sent, ok := m.out[len(m.out)-1].(Send); ok && report {
		sent.Report = true
		m.out[len(m.out)-1] = sent
	}
}

func (m *Machine) newHandle() uint64 {
	m.handle++
	return m.handle
}

// byState is the side as GIST reaches it by its routing state: no SII. All
// messages of a session go this way, so that the peer's GIST validates them
// (RFC 5971 §4.3.2), save those to a peer that is not the current one.
func (d side) byState() side { d.sii = 0; return d }

// reserve fills in what every RESERVE of a session has.
func (m *Machine) reserveMessage(rsn uint32, a *also) wire.Message {
	msg := wire.Message{Type: wire.Reserve, HasRSN: true, RSN: wire.RSN{Number: rsn, Epoch: m.cfg.Epoch}}
	if a != nil {
		msg.Flags = a.flags
		msg.BoundSessions = a.bound // RFC 5974 §5.3.3
		msg.Objects = a.objects     // RFC 5974 §5.1.3, AB=11
	}
	return msg
}

// sendReserve sends a transaction's full RESERVE for the first time.
func (m *Machine) sendReserve(s *session, t *txn) {
	s.period = 0
	msg := m.reserveMessage(t.rsn, t.also)
	msg.MessageFlags = replaceFlag(t.keep)
	msg.HasRII, msg.RII = true, t.rii
	msg.HasRefreshPeriod, msg.RefreshPeriod = true, m.ownPeriod()
	msg.QSPEC = t.qspec
	if t.also != nil {
		msg.PacketClassifier = t.also.classifier
	}
	switch {
	case t.hasMsgID:
		msg.HasMsgID, msg.MsgID = true, t.msgID
	case t.outBound != nil:
		msg.HasBoundMsgID, msg.BoundMsgID = true, *t.outBound
	}
	if len(t.forward) > 0 {
		msg.Objects = append(slices.Clip(msg.Objects), t.forward...)
	}
	t.data = m.encode(&msg)
	t.sent, t.phase = true, waitResponse
	t.retryAt, t.giveUpAt = 0, m.after(m.cfg.HoldTimeout)
	if t.made {
		// Only the node that created the RII sets up a retransmission
		// timer. RFC 5974 §5.3.2, §5.2.4
		t.wait = m.cfg.RequestRetry
		t.retryAt, t.giveUpAt = m.after(t.wait), m.after(m.cfg.RetryMax)
	}
	m.sendAgain(s, t)
	m.arm(s)
}

// sendAll tells downstream all of what is installed, and wants no RESPONSE.
func (m *Machine) sendAll(s *session) {
	s.period = 0
	msg := m.reserveMessage(s.takeRSN(), s.also)
	msg.MessageFlags = wire.Replace
	msg.HasRefreshPeriod, msg.RefreshPeriod = true, m.ownPeriod()
	msg.QSPEC = s.qspec
	if s.also != nil {
		msg.PacketClassifier = s.also.classifier
	}
	m.send(m.encode(&msg), s.nslpid, s.sid, s.current(), 0)
}

// sendAgain sends the very same message: "the RSN is not modified with each
// retransmission". RFC 5974 §5.2.4
func (m *Machine) sendAgain(s *session, t *txn) {
	t.handle = m.newHandle()
	to := t.down.byState()
	if s.state == installed && t.down.mri == s.down.mri && t.down.peer == s.down.peer {
		to = s.current()
	}
	m.send(t.data, s.nslpid, s.sid, to, t.handle)
}

func (m *Machine) retransmit(s *session, t *txn) {
	t.wait *= 2 // RFC 5974 §5.2.4
	t.retryAt = m.after(t.wait)
	m.stats.Retransmitted++
	m.sendAgain(s, t)
}

// sendTear sends a tearing RESERVE with a new RSN. RFC 5974 §5.1.2.1
func (m *Machine) sendTear(s *session, to side, a *also, rii uint32, hasRII bool) uint64 {
	msg := m.tearMessage(s.takeRSN(), a)
	msg.HasRII, msg.RII = hasRII, rii
	if to.stateless {
		msg.QSPEC = s.qspec // "to further specify state removal". RFC 5974 §5.1.2.1
	}
	h := m.newHandle()
	m.stats.Tears++
	m.send(m.encode(&msg), s.nslpid, s.sid, to, h)
	return h
}

func (m *Machine) tearMessage(rsn uint32, a *also) wire.Message {
	msg := wire.Message{Type: wire.Reserve, MessageFlags: wire.Tear, HasRSN: true,
		RSN: wire.RSN{Number: rsn, Epoch: m.cfg.Epoch}}
	if a != nil {
		msg.Flags = a.flags
		msg.BoundSessions = a.bound
	}
	return msg
}

// tearNew tears what a transaction that comes to nothing may have left downstream:
// a new session, or one on a new path.
func (m *Machine) tearNew(s *session, t *txn) {
	if !t.sent || t.torn {
		return
	}
	switch elsewhere := t.down.mri != s.down.mri || t.down.peer != s.down.peer; {
	case t.kind == create:
		t.torn = true
		m.sendTear(s, t.down.byState(), t.also, 0, false)
	case elsewhere && s.hasDown() && (t.kind == modify || t.kind == reroute):
		t.torn = true
		m.sendTear(s, t.down.byState(), t.also, 0, false)
		m.forgetNew(s, t)
	}
}

// forgetNew tells GIST that nothing goes by a new path that came to nothing.
func (m *Machine) forgetNew(s *session, t *txn) {
	if t.sent && s.hasDown() && t.down.mri != s.down.mri {
		m.do(Forget{gist.SetStateLifetime{NSLPID: t.down.at(s.nslpid), SID: s.sid, MRI: t.down.mri}})
	}
}

// reply is a RESPONSE about to be made.
type reply struct {
	to      side // where the request came from; its MRI as received
	rii     uint32
	hasRII  bool
	rsn     wire.RSN
	hasRSN  bool
	info    wire.InfoSpec
	qspec   []byte
	objects []wire.Object
	flags   uint16
	bound   []wire.BoundSession

	// Of a list that was received, what was wrong in it.
	sids  []gistwire.SID
	rsns  []uint32
	epoch uint32
}

// respond sends a RESPONSE upstream, "using GIST path state" (RFC 5974 §4.1)
// unless to names an SII, and returns its octets. A successful one carries the
// RII only; one about an error "the RII and RSN, if available" (§5.4.3).
func (m *Machine) respond(id gistwire.NSLPID, sid gistwire.SID, r reply) []byte {
	msg := wire.Message{Type: wire.Response, Flags: r.flags, BoundSessions: r.bound,
		HasRII: r.hasRII, RII: r.rii, HasInfoSpec: true, InfoSpec: r.info,
		QSPEC: r.qspec, Objects: r.objects, SessionIDs: r.sids}
	if r.rsns != nil {
		msg.HasRSNList, msg.RSNs = true, wire.RSNList{Epoch: r.epoch, RSNs: r.rsns}
	}
	if r.hasRSN && (r.info.IsError() || !r.hasRII) {
		msg.HasRSN, msg.RSN = true, r.rsn
	}
	if r.qspec != nil && sendable(r.qspec, nil) != nil {
		m.note("bad-verdict", sid, r.to.peer, "%v; left out of the RESPONSE", sendable(r.qspec, nil))
		msg.QSPEC = nil
	}
	data := m.encode(&msg)
	r.to.mri = r.to.mri.Reverse()
	m.stats.Responses++
	m.sendBack(data, id, sid, r.to, r.bound)
	return data
}

// respondTo answers a RESERVE or QUERY on which no state is kept.
func (m *Machine) respondTo(r *Received, msg *wire.Message, info wire.InfoSpec) {
	if !m.mayAnswer(r) {
		return
	}
	to := side{mri: r.MRI, peer: r.Peer, stateless: r.Attr.Stateless}
	if s := m.sessions[r.SID]; s != nil && s.upstreamPeer() != r.Peer {
		to.sii = r.SII // not the current peer: it needs explicit routing
	}
	m.respond(r.NSLPID, r.SID, reply{to: to, rii: msg.RII, hasRII: msg.HasRII,
		rsn: msg.RSN, hasRSN: msg.HasRSN, info: info, flags: msg.Flags & (wire.Proxy | wire.Break), bound: msg.BoundSessions})
}

// replyUp is the reply to a transaction's RESERVE.
func (t *txn) replyUp(s *session) reply {
	r := reply{to: t.up.byState(), rii: t.rii, hasRII: !t.made, rsn: t.upRSN, hasRSN: true}
	if s.state == installed && s.up.peer != t.up.peer && t.kind != reroute {
		r.to.sii = t.up.sii
	}
	if t.also != nil {
		r.flags, r.bound = t.also.flags, t.also.bound
	}
	if t.resp != nil {
		r.flags |= t.resp.Flags & wire.Break // RFC 5974 §5.4.3
	}
	return r
}

// passedOn are the objects of a received message that stand in the one sent
// because of it: AB=10 and 11 (RFC 5974 §5.1.3), and the ones that belong to
// others. Those in extra replace the ones of their type.
func passedOn(in []wire.Object, extra []wire.Object) []wire.Object {
	if len(in) == 0 {
		return extra
	}
	out := make([]wire.Object, 0, len(in)+len(extra))
	for _, o := range in {
		if !slices.ContainsFunc(extra, func(e wire.Object) bool { return e.Type == o.Type }) {
			out = append(out, o)
		}
	}
	return append(out, extra...)
}

// alsoOf keeps what a RESERVE has beyond the ordinary. It copies: the session
// outlives the message.
func alsoOf(msg *wire.Message) *also {
	flags := msg.Flags & (wire.Proxy | wire.Break) // RFC 5974 §5.2.3, §5.4.1
	var objects []wire.Object
	for _, o := range msg.Objects {
		if o.Action == wire.Refresh && !o.Type.Known() {
			o.Value = slices.Clone(o.Value)
			objects = append(objects, o)
		}
	}
	if flags == 0 && msg.BoundSessions == nil && msg.PacketClassifier == nil && objects == nil {
		return nil
	}
	return &also{flags: flags, bound: msg.BoundSessions, classifier: slices.Clone(msg.PacketClassifier), objects: objects}
}

// forwardOf are the objects that travel on in this RESERVE only.
func forwardOf(msg *wire.Message) []wire.Object {
	var out []wire.Object
	for _, o := range msg.Objects {
		if o.Action != wire.Refresh || o.Type.Known() {
			out = append(out, o)
		}
	}
	return out
}
