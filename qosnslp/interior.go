package qosnslp

import (
	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Stateless and reduced-state nodes, and the edges of their region (RFC 5974
// §3.2.10.2, §3.3.3, §4.7). The end-to-end session goes from edge to edge on the
// next level, past the nodes inside (level.go). Beside it a local session, with
// message binding (msgbinding.go), visits each of them. They keep nothing of it:
// the verdict on it travels on in its QSPEC, and only the egress edge answers. No
// GIST state leads back, so it answers by the SII handle of the ingress edge, which
// it has from the end-to-end session.

// transit is a message that passes, while there is no verdict on it.
type transit struct {
	heapPos int32
	ticket  uint64
	recv    Received
	msg     *wire.Message
}

func (x *transit) pos() *int32 { return &x.heapPos }

// interior is a stateless node's whole behaviour. It sends no RESPONSE or NOTIFY of
// its own, ever: "Nodes […] that do not retain reservation state cannot send back
// RESPONSE messages". RFC 5974 §4.7.1
func (m *Machine) interior(r *Received) {
	data := r.Data
	msg, err := wire.Parse(data)
	r.Data = nil
	request := msg.Type == wire.Reserve || msg.Type == wire.Query
	if err != nil {
		m.stats.Malformed++
		m.note("malformed", r.SID, r.Peer, "%v", err)
	}
	switch {
	case !request, r.MRI.Upstream:
		// "only sender-initiated signaling can be supported within the
		// reduced-state region". RFC 5974 §4.7.2
		m.note("interior-upstream", r.SID, r.Peer, "%v: no state here leads back", msg.Type)
	case r.Peer == Stranger:
		m.note("stranger-transit", r.SID, r.Peer, "%v", msg.Type)
	case err != nil, msg.QSPEC == nil, msg.Type == wire.Query && msg.MessageFlags&wire.ReserveInit != 0:
		// "none of the QoS NSLP objects SHOULD be processed, and the RESERVE or
		// QUERY message SHOULD be forwarded downstream" (RFC 5974 §5.3.5); and "a
		// stateless QNE cannot support summary or single reduced refreshes"
		// (§5.3.6). Scoped, it ends here.
		if msg.Flags&wire.Scoping == 0 {
			m.passOn(r, data, &Verdict{})
		}
	case len(m.transits) >= m.cfg.MaxQuestions:
		// Unmarked it would look granted: its sender's repeat is another try.
		m.note("no-room", r.SID, r.Peer, "%d open questions", len(m.transits))
	default:
		m.ticket++
		x := &transit{ticket: m.ticket, recv: *r, msg: &msg}
		m.transits[m.ticket] = x
		m.stats.Questions++
		m.timers.want(timed{at: m.after(m.cfg.HoldTimeout), who: x})
		m.do(Question{Ticket: m.ticket, Kind: Transit, SID: r.SID, NSLPID: r.NSLPID, RSN: msg.RSN.Number,
			Upstream: r.Peer, MRI: r.MRI, In: r.RecvMessage, Message: &msg})
	}
}

func (m *Machine) dropTransit(x *transit) {
	m.timers.remove(&x.heapPos)
	delete(m.transits, x.ticket)
}

// transitVerdict: "the RESERVE' is forwarded along the intended path, but the QSPEC
// includes information for subsequent QNEs telling them an error happened upstream".
// RFC 5974 §4.7.1
func (m *Machine) transitVerdict(x *transit, v *Verdict) {
	m.dropTransit(x)
	out := *x.msg
	if v.QSPEC != nil {
		out.QSPEC = v.QSPEC
	}
	if err := sendable(out.QSPEC, v.Extra); err != nil || !v.Accept && v.QSPEC == nil {
		m.note("bad-verdict", x.recv.SID, x.recv.Peer, "refused without a QSPEC that says so, or what cannot be sent: %v", err)
		return
	}
	if out.Flags&wire.Scoping != 0 || v.Last {
		return
	}
	out.Objects = passedOn(out.Objects, v.Extra)
	m.passOn(&x.recv, m.encode(&out), v)
}

// passOn asks GIST "not to retain messaging association state or reverse message
// routing state". RFC 5974 §4.7.1
func (m *Machine) passOn(r *Received, data []byte, v *Verdict) {
	mri := r.MRI
	if v.Next != (gistwire.MRI{}) {
		mri = v.Next
	}
	m.stats.Sent++
	m.stats.Transits++
	m.do(Send{Peer: v.NextPeer, SendMessage: gist.SendMessage{NSLPData: data, NSLPID: r.NSLPID, SID: r.SID, MRI: mri,
		Attr: gist.TransferAttributes{Stateless: true}, HopCount: r.HopCount, HasHopCount: true}})
}

// sourceOf is the SII handle of a message's sender; of one that came without GIST
// state it says nothing about who is upstream in QoS-NSLP.
func sourceOf(r *Received) gist.SII {
	if r.Attr.Stateless {
		return 0
	}
	return r.SII
}

// from says whether a message that travels upstream can be of the peer on this side.
// Behind stateless nodes that is the egress edge, whoever it is.
func (d side) from(p Peer) bool {
	return d.peer == p || d.stateless && p != Stranger
}

// sendBack sends a message towards the QNI.
func (m *Machine) sendBack(data []byte, id gistwire.NSLPID, sid gistwire.SID, to side, bound []wire.BoundSession) {
	if to.stateless && to.mri.Upstream {
		edge, ok := m.ingress(sid, bound)
		if !ok {
			m.note("no-way-back", sid, to.peer, "the end-to-end session that it is bound to is not here")
			return
		}
		to.peer, to.sii, to.stateless = edge.peer, edge.sii, false
	}
	m.send(data, id, sid, to, 0)
}

// ingress is the peer that the end-to-end session of a local one comes from: "the
// RESERVE' message […] is interpreted in conjunction with the reservation state from
// the end-to-end RESERVE message". RFC 5974 §4.7.1
func (m *Machine) ingress(sid gistwire.SID, bound []wire.BoundSession) (side, bool) {
	for _, b := range bound {
		if b.Code != wire.BindTunnel {
			continue
		}
		if s := m.sessions[b.SID]; s != nil {
			up, down := s.up, s.down
			if s.state == creating && s.txn != nil {
				up, down = s.txn.up, s.txn.down
			}
			if up.mri.Upstream { // receiver-initiated: the ingress is where it goes to
				if up = down; m.paths[b.SID] != nil {
					up = m.paths[b.SID].next
				}
			}
			if up.sii != 0 && up.peer != Stranger {
				return up, true
			}
		}
		if s := m.sessions[sid]; s != nil && s.txn != nil && s.txn.hasMsgID {
			if w := m.waiting[s.txn.msgID.ID]; w != nil && w.recv.SID == b.SID && w.recv.SII != 0 {
				return side{peer: w.recv.Peer, sii: w.recv.SII}, true
			}
		}
	}
	return side{}, false
}
