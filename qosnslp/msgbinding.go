package qosnslp

import "github.com/interqos/interqos/qosnslp/wire"

// Message binding (RFC 5974 §3.2.9, §4.6). A RESERVE with BOUND-MSG-ID, the bound
// message, waits until the RESERVE with the MSG-ID of the same value, the
// triggering one, has been dealt with at the node that ends its session. "For a
// receiving node, there are conceptually two lists indexed by message IDs."

// maxMessages bounds each of the lists.
const maxMessages = 4096

type messageID = [16]byte

// boundMessage is one that waits for its MSG-ID.
type boundMessage struct {
	heapPos int32
	id      messageID
	recv    Received
	msg     *wire.Message
	until   instant
}

// trigger is what is known of a MSG-ID: the session whose RESERVE had it waits
// for the bound message (held), or the result.
type trigger struct {
	heapPos int32
	id      messageID
	held    *session
	ok      bool
	until   instant
}

// messageDone is the result of a RESERVE that others may wait for.
type messageDone struct {
	id    messageID
	bound bool // it had the BOUND-MSG-ID
	ok    bool
}

func (w *boundMessage) pos() *int32 { return &w.heapPos }
func (g *trigger) pos() *int32      { return &g.heapPos }

// synchronized says whether a RESERVE with BOUND-MSG-ID can be processed now.
func (m *Machine) synchronized(r *Received, msg *wire.Message) bool {
	id := msg.BoundMsgID.ID
	w := m.waiting[id]
	switch g := m.triggers[id]; {
	case r.Peer == Stranger:
		m.note("stranger-binding", r.SID, r.Peer, "nothing waits for a stranger")
		return false
	case g != nil && !g.ok && g.held == nil:
		// RFC 5974 §5.1.3.6: "Mismatch synchronization".
		m.respondTo(r, msg, m.own(wire.ClassTransientFailure, wire.SyncMismatch))
		return false
	case g != nil:
		return true
	case w == nil && len(m.waiting) >= maxMessages:
		m.note("no-room", r.SID, r.Peer, "%d messages wait", len(m.waiting))
		return false
	case w == nil:
		w = &boundMessage{id: id}
		m.waiting[id] = w
	case w.recv.SID != r.SID || w.recv.Peer != r.Peer:
		m.note("other-binding", r.SID, r.Peer, "a message of %v waits for this MSG-ID", w.recv.SID)
		return false
	}
	// "it will simply override the waiting message … with the MsgIDWait timer
	// being reset"; "SHOULD be set to … QOSNSLP_REQUEST_RETRY".
	w.recv, w.msg = *r, msg
	w.until = max(w.until, m.after(m.cfg.RequestRetry))
	m.timers.want(timed{at: w.until, who: w})
	return false
}

// boundExpired: "The MsgIDWait timeout will then simply discard the waiting
// message".
func (m *Machine) boundExpired(w *boundMessage) {
	m.note("unbound", w.recv.SID, w.recv.Peer, "no message with the MSG-ID that its RESERVE waits for")
	m.dropBound(w)
}

func (m *Machine) dropBound(w *boundMessage) {
	m.timers.remove(&w.heapPos)
	delete(m.waiting, w.id)
}

func (m *Machine) dropTrigger(g *trigger) {
	m.timers.remove(&g.heapPos)
	delete(m.triggers, g.id)
}

// atEndpoint is where the MSG-ID of a RESERVE counts: at the node that ends its
// session; others "simply forward the message". False: the RESERVE has to wait,
// for it depends on the bound message too (Message_Binding_Type SET).
func (m *Machine) atEndpoint(s *session, t *txn) bool {
	id := t.msgID.ID
	if w := m.waiting[id]; w != nil {
		// "the MsgIDWait timer will be stopped as soon as the related
		// RESERVE' arrived".
		w.until = m.after(m.cfg.HoldTimeout)
		return true
	}
	if t.up.peer == Stranger || !t.msgID.Bidirectional || m.triggers[id] != nil || len(m.triggers) >= maxMessages {
		return true
	}
	t.phase = waitBound
	t.giveUpAt = m.after(m.cfg.RequestRetry)
	m.triggers[id] = &trigger{id: id, held: s}
	m.arm(s)
	return false
}

// settled notes what became of a RESERVE with MSG-ID or BOUND-MSG-ID.
func (m *Machine) settled(t *txn, ok bool) {
	if t.up.peer == Stranger || t.discard {
		return
	}
	if t.hasBoundMsg {
		m.messagesDone = append(m.messagesDone, messageDone{id: t.boundMsg, bound: true, ok: ok})
	}
	if t.hasMsgID && (t.last || !ok && !t.sent) { // refused before it was known to end here
		m.messagesDone = append(m.messagesDone, messageDone{id: t.msgID.ID, ok: ok})
	}
}

// unhold takes back that a RESERVE waits for its bound message.
func (m *Machine) unhold(s *session, t *txn) {
	if g := m.triggers[t.msgID.ID]; t.phase == waitBound && g != nil && g.held == s {
		m.dropTrigger(g)
	}
}

// followMessages goes on with what waited for the messages that are done.
func (m *Machine) followMessages() {
	for i := 0; i < len(m.messagesDone); i++ { // it grows on the way
		d := m.messagesDone[i]
		if d.bound {
			m.boundDone(d)
		} else {
			m.triggerDone(d)
		}
	}
	m.messagesDone = m.messagesDone[:0]
}

// triggerDone: "the MSG-ID and the result (success or failure) should be saved
// for the waiting message"; "Depending on successful processing of the RESERVE'
// …, processing of the waiting RESERVE will be resumed".
func (m *Machine) triggerDone(d messageDone) {
	g := m.triggers[d.id]
	if g == nil && len(m.triggers) < maxMessages {
		g = &trigger{id: d.id}
		m.triggers[d.id] = g
	}
	if g != nil {
		g.held, g.ok, g.until = nil, d.ok, m.after(m.cfg.HoldTimeout)
		m.timers.want(timed{at: g.until, who: g})
	}
	w := m.waiting[d.id]
	if w == nil {
		return
	}
	m.dropBound(w)
	if g != nil {
		m.reserve(&w.recv, w.msg)
	}
}

// boundDone: "Depending on successful processing of the RESERVE (1), processing
// of the waiting RESERVE' will be resumed".
func (m *Machine) boundDone(d messageDone) {
	g := m.triggers[d.id]
	if g == nil || g.held == nil {
		return
	}
	s := g.held
	t := s.txn
	m.dropTrigger(g)
	if d.ok {
		m.askCommit(s, t, nil, nil)
		return
	}
	m.fail(s, t, nil, nil, m.refusal(t, m.own(wire.ClassTransientFailure, wire.SyncMismatch)), Rejected)
}

// boundUnderWay has a RESERVE that is held wait for the bound one's answer.
func (m *Machine) boundUnderWay(t *txn) {
	if g := m.triggers[t.boundMsg]; g != nil && g.held != nil {
		g.held.txn.giveUpAt = m.after(m.cfg.HoldTimeout)
		m.arm(g.held)
	}
}
