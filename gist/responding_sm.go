package gist

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The Responding-SM (RFC 5971 §6.3), by the third of its policies: "A Confirm is
// required for a Query, and the state machine can only be created when it is
// received; the initial Query will have been handled by the Node-level machine."
// Queries are answered without a trace, also where they refresh, and there is no
// timer that sends Responses again: a lost one is asked for again by the
// querier. So nothing is ever in Awaiting Confirm; its row is here because the
// RFC has it.

type respondEvent uint8

const (
	rrxQuery respondEvent = iota
	rrxConfirm
	rrxData
	tgNSLPDataResponder
	erNoRSMResponder
	toNoConfirm
	toExpireRNode
	// Not in figure 8: the failure of an association (§6.4), and the end of the
	// application's interest (§B.5).
	erMALostResponder
	toInterestOver
	numRespondEvents
)

var respondEventNames = [numRespondEvents]string{
	"rx_Query", "rx_Confirm", "rx_Data", "tg_NSLPData", "er_NoRSM", "to_No_Confirm",
	"to_Expire_RNode", "er_MAFailure", "to_Interest_Over",
}

type respondRule uint8

const (
	rImpossible  respondRule = iota + 1 // cannot be, or silently ignored
	rAnswer                             // rule 1, as far as there is state: a refresh has begun
	rSend                               // rule 3
	rDeliver                            // rule 4
	rRefuseData                         // rule 6
	rStore                              // rule 7
	rConfirmed                          // rules 2, 8: the Confirm is valid
	rTerminate                          // rule 11
	rAssociation                        // the association is gone; the querier makes a new one
	rIgnore                             // rule 10: "silently ignore"
)

var respondTable = [...][numRespondEvents]respondRule{
	awaitingConfirm: {
		rrxQuery: rAnswer, rrxConfirm: rConfirmed, rrxData: rRefuseData, tgNSLPDataResponder: rStore,
		erNoRSMResponder: rTerminate, toNoConfirm: rImpossible, toExpireRNode: rTerminate,
		erMALostResponder: rAssociation, toInterestOver: rTerminate,
	},
	established: {
		rrxQuery: rAnswer, rrxConfirm: rIgnore, rrxData: rDeliver, tgNSLPDataResponder: rSend,
		erNoRSMResponder: rTerminate, toNoConfirm: rImpossible, toExpireRNode: rTerminate,
		erMALostResponder: rAssociation, toInterestOver: rTerminate,
	},
	awaitingRefresh: {
		rrxQuery: rAnswer, rrxConfirm: rConfirmed, rrxData: rDeliver, tgNSLPDataResponder: rSend,
		erNoRSMResponder: rTerminate, toNoConfirm: rImpossible, toExpireRNode: rTerminate,
		erMALostResponder: rAssociation, toInterestOver: rTerminate,
	},
}

func (m *Machine) respondSM(r *routing, ev respondEvent, out *outMsg) { m.runRespond(r, ev, out, nil) }

func (m *Machine) respondSMRx(r *routing, ev respondEvent, o *origin) { m.runRespond(r, ev, nil, o) }

func (m *Machine) runRespond(r *routing, ev respondEvent, out *outMsg, o *origin) {
	switch respondTable[r.state][ev] {
	case rAnswer:
		// The Response has left already. An unconfirmed Query changes nothing
		// else: anybody can send one.
		r.state = awaitingRefresh
	case rSend:
		m.sendBack(r, out)
	case rDeliver:
		m.deliver(o, r, r.peer)
	case rRefuseData:
		m.reject(o, wire.NoRoutingState, "no-routing-state")
	case rStore:
		m.enqueue(r, out)
	case rConfirmed:
		m.takeConfirm(r, o)
	case rTerminate:
		m.endResponding(r, ev)
		return
	case rAssociation:
		// Only the Querying node can open another one; until then messages
		// wait.
	case rImpossible, rIgnore:
	}
	m.arm(r)
}

// endResponding is rule 11: "destroy self". Of a loss the application is told
// (RFC 5971 §4.4.6), of an end that it asked for it is not.
func (m *Machine) endResponding(r *routing, ev respondEvent) {
	if ev != toInterestOver {
		m.setStatus(r, Bad)
	}
	if ev == toExpireRNode {
		m.orphanDownstream(r)
	}
	m.destroy(r, errText(ErrNoPeer, "the peer has no routing state any more"))
}

// orphanDownstream ends the refreshes of the session's downstream state: its
// upstream state has expired, so "a signalling session is known to be inactive"
// (RFC 5971 §4.4.4).
func (m *Machine) orphanDownstream(r *routing) {
	for x := m.sessions[r.sid]; x != nil; x = x.next {
		if x.querying && x.nslp == r.nslp && r.mri.Upstream && !x.mri.Upstream && x.mri.Flow == r.mri.Flow {
			x.orphan = true
		}
	}
}

// adoptOrphan: the application has sent something, so the session is active.
func (m *Machine) adoptOrphan(r *routing) {
	if !r.orphan {
		return
	}
	r.orphan = false
	if r.state == established && r.refreshAt == never {
		r.refreshAt = m.now
	}
}

// sendBack sends to the querier: over r's association, or another one to the
// same peer. Where there is none the message waits for the querier to come; so
// it does where the state is Bad.
func (m *Machine) sendBack(r *routing, out *outMsg) {
	m.touch(r)
	if r.status == Bad {
		m.enqueue(r, out)
		return
	}
	if r.ma == nil || out.attr.Secure && !r.ma.stack.Secure() {
		if a := m.usable(r.peer, out.attr.Secure, &r.mri, r.via); a != nil {
			m.setAssoc(r, a)
			m.flush(r)
		}
	}
	if r.hasWaiting() {
		m.enqueue(r, out)
		return
	}
	sent, needMA := m.transmit(r, out)
	switch {
	case sent:
	case needMA:
		m.enqueue(r, out)
	default:
		m.enqueue(r, out)
		m.retryLater(r)
	}
}

func (r *routing) fireResponding(m *Machine) {
	switch {
	case r.validUntil <= m.now:
		m.respondSM(r, toExpireRNode, nil)
	case r.idleAt <= m.now:
		m.respondSM(r, toInterestOver, nil)
	}
}

// rxQuery answers the Query in m.in, or refuses it.
func (m *Machine) rxQuery(o *origin) {
	if !m.admitQuery(o) {
		m.note("rate-limited", o.from, "Queries from this source")
		return
	}
	msg := &m.in
	m.stats.QueriesIn++
	if m.own(msg.NLI.Address) && string(msg.NLI.PeerIdentity) == string(m.cfg.Identity) {
		m.note("own-query", o.from, "a Query of ours came back")
		return
	}
	m.nodeSM(nodeRxQuery, o)
}

// respond is rule 1 of the Node-SM: a Response with R=1 and no state.
func (m *Machine) respond(o *origin) {
	msg := &m.in
	if !m.checkNAT(o) {
		return
	}
	a, ok := m.checkQuery(o)
	if !ok {
		return
	}
	local := m.addressLike(a.to.Addr())
	if to := o.local.Addr(); msg.MRI.Method != wire.OffPath && to.Is4() == a.to.Addr().Is4() && m.own(to) {
		local = to // the one that the peer has asked
	}
	if local.Is4() != a.to.Addr().Is4() {
		// RFC 5971 §7.4: "it is intrinsically impossible for an IPv4-only or
		// IPv6-only GIST node to support signalling for flows using the other IP
		// version": it is no peer for them.
		m.note("ip-version", o.from, "no address of the IP version that the peer has")
		if o.transit != nil {
			m.decline(o, nil)
		}
		return
	}
	answer := m.accepts(a.via, msg.NSLPData)
	if !answer.Accept {
		if o.transit != nil {
			m.decline(o, answer.Payload)
			return
		}
		m.note("not-accepted", o.from, "the signalling application does not want this peer")
		return
	}
	c := rcookie{edge: a.edge, port: a.to.Port(), hops: a.hops}
	if o.transit != nil {
		c.iface = uint16(o.iface)
	}
	back := msg.MRI.Reverse()
	ma := m.reusable(&back, a.via)
	if ma == nil && !m.mayAnswer(o) {
		return
	}
	if ma != nil {
		c.flags |= cookieReuse
	} else if len(msg.StackProposal) > 0 {
		c.flags |= cookieStack
	}
	m.scratch = m.appendCookie(m.scratch[:0], c, a.via)
	e := m.newMessage(wire.Response, msg.NSLPID)
	e.R = true
	setKey(e, &back, msg.SID)
	ttl := uint8(0)
	if back.Upstream {
		ttl = a.hops // RFC 5971 §5.2.2
	}
	m.setNLI(e, local, ttl, m.agreedValidity(msg.MRI.Method, msg.NLI.ValidityMS))
	e.NATTraversal = msg.NATTraversal // RFC 5971 §7.2.3
	e.QueryCookie = msg.QueryCookie
	e.ResponderCookie = m.scratch
	if c.flags&cookieStack != 0 {
		e.StackProposal = m.stacks.proposal
		e.HasStackConfig = true
		e.StackConfig = wire.StackConfig{HoldTimeMS: toMS(m.cfg.MAHoldTime), Options: m.stacks.responseOptions}
	}
	e.NSLPData = answer.Payload
	if ma != nil {
		m.maTx(ma, m.encode(e))
	} else {
		if !m.fitsDMode(e, a.to.Addr()) {
			m.note("response-payload-too-large", o.from, "the Response goes without it")
			e.NSLPData = nil
		}
		m.sendDatagram(e, local, a.to, 0, false)
	}
	if r := m.lookup(msg.NSLPID, msg.SID, &back); r != nil && !r.querying {
		m.respondSMRx(r, rrxQuery, o)
	}
}

func (m *Machine) accepts(via netip.Addr, data []byte) PeerAnswer {
	if m.cfg.AcceptPeer == nil {
		return PeerAnswer{Accept: true}
	}
	msg := &m.in
	return m.cfg.AcceptPeer(PeerOffer{
		NSLPID: msg.NSLPID, SID: msg.SID, MRI: msg.MRI,
		Peer: msg.NLI.Address, PeerID: string(msg.NLI.PeerIdentity), Via: via, Data: data,
	})
}

// reusable returns the association to the sender of the Query in m.in that the
// Response goes over: "a perfect match" of identity and address (RFC 5971
// §4.4.3), authorised for this flow, and "equivalent or better" than something
// that the Query offers (§5.7.1). Than what we would offer it is never weaker:
// we have no other.
func (m *Machine) reusable(back *wire.MRI, via netip.Addr) *assoc {
	msg := &m.in
	p := m.findPeer(&msg.NLI)
	if p == nil {
		return nil
	}
	known, secure := false, true
	for _, profile := range msg.StackProposal {
		if s, ok := stackOf(profile); ok {
			known, secure = true, secure && s.Secure()
		}
	}
	if !known {
		return nil
	}
	return m.usable(p, secure, back, via)
}

// rxConfirm checks the Confirm in m.in and has the state made or refreshed.
func (m *Machine) rxConfirm(o *origin) {
	msg := &m.in
	if msg.ResponderCookie == nil {
		m.confirmFailed(o, "no Responder-Cookie; each of our Responses has one")
		return
	}
	c, via, ok := m.openCookie(msg.ResponderCookie)
	switch {
	case !ok:
		if m.cfg.InvalidCookieErrors {
			m.rejectWith(o, wire.InvalidCookie, []wire.AdditionalInfo{objectInfo(wire.ObjResponderCookie, msg.ResponderCookie, 4)}, "bad-cookie")
		}
		m.confirmFailed(o, "Responder-Cookie is not one of ours, or of another peer or flow, or too old")
		return
	case c.flags&cookieStack != 0 && o.ma != nil && !msg.StackProposal.Equal(m.stacks.proposal):
		// RFC 5971 §8.6: the proposal that we made is not what the querier saw.
		m.confirmFailed(o, "Stack-Proposal is not the one that we sent")
		return
	case c.flags&(cookieStack|cookieReuse) != 0 && o.ma == nil:
		m.reject(o, wire.IncorrectEncapsulation, "encapsulation") // RFC 5971 §A.4.4.3
		return
	case !m.stillAllowed(c, via):
		m.confirmFailed(o, "the peer is no longer allowed")
		return
	}
	if o.ma != nil {
		back := msg.MRI.Reverse()
		if !m.authorised(o.ma.cert, msg.NLI.Address, &back, via) {
			m.noteNotAuthorised(o.ma, msg.NLI.Address, &back, via)
			m.dropConfirm(o, "the peer is not authorised")
			return
		}
		if !m.bind(o) {
			return
		}
	} else if msg.S && o.from.Addr() != msg.NLI.Address {
		m.note("nat", o.from, "IP source of the Confirm is not its NLI address")
		return
	}
	m.confirmed = confirmed{c, via}
	m.nodeSM(nodeRxConfirm, o)
}

// confirmed is what the cookie of the Confirm in m.in says.
type confirmed struct {
	rcookie
	via netip.Addr
}

// stillAllowed repeats at the Confirm what was asked at the Query: who may be a
// peer is configuration, and may have changed.
func (m *Machine) stillAllowed(c rcookie, via netip.Addr) bool {
	msg := &m.in
	if msg.MRI.Method == wire.OffPath {
		allowed := m.cfg.DirectPeers
		if c.edge > 0 {
			allowed = m.cfg.Edges[c.edge-1].PeerQNEs
		}
		if !containsAddr(allowed, msg.NLI.Address) {
			return false
		}
	}
	return m.accepts(via, nil).Accept
}

// confirmFailed: "the Responding node MUST NOT create the message routing state
// (or MUST delete it if it already exists) and SHOULD log an error condition
// locally. If this is the first message on a new MA, the MA MUST be torn down"
// (RFC 5971 §5.7.1). State is deleted only at the word of its own peer.
func (m *Machine) confirmFailed(o *origin, why string) {
	m.note("bad-confirm", o.from, why)
	m.dropConfirm(o, why)
}

func (m *Machine) dropConfirm(o *origin, why string) {
	msg := &m.in
	if o.ma == nil {
		return
	}
	if o.ma.state == maAwaitingConnection {
		m.maClose(o.ma, why)
		return
	}
	back := msg.MRI.Reverse()
	if r := m.stateOf(o, msg.NSLPID, msg.SID, &back); r != nil && !r.querying && r.ma == o.ma {
		r.status = Bad
		m.notify(r, RoutingStatusChange, Bad, 0)
		m.destroy(r, errText(ErrPeerRefused, "a Confirm that does not hold"))
	}
}

// bind makes the peer of the Confirm in m.in the association's, if it is the
// first, and otherwise sees that it is the same.
func (m *Machine) bind(o *origin) bool {
	msg, a := &m.in, o.ma
	if a.state != maAwaitingConnection {
		if a.peer.addr != msg.NLI.Address || a.peer.id != string(msg.NLI.PeerIdentity) {
			m.reject(o, wire.IncorrectlyDelivered, "wrong-association")
			return false
		}
		return true
	}
	if !msg.HasStackConfig {
		// RFC 5971 §4.4.5: "If the object is missing in the Confirm, an 'Object
		// Type Error' message with subcode 2 ('Missing Object') MUST be returned."
		m.rejectWith(o, wire.MissingObject, []wire.AdditionalInfo{wire.ObjectTypeInfo(wire.ObjStackConfig)}, "bad-confirm")
		m.maClose(a, "first Confirm without Stack-Configuration-Data")
		return false
	}
	p := m.getPeer(&msg.NLI)
	if p == nil {
		m.maClose(a, "too many peers")
		return false
	}
	if !m.roomForAccepted(p) {
		m.maClose(a, "the peer has opened too many associations")
		return false
	}
	a.holdPeer = time.Duration(msg.StackConfig.HoldTimeMS) * time.Millisecond
	m.maBind(a, p)
	m.maEvent(a, maTgConnected, nil)
	return true
}

// confirmState is rule 3 of the Node-SM and rule 2 of the Responding-SM: the
// state is made, or refreshed, by a Confirm that has passed every check.
func (m *Machine) confirmState(o *origin) {
	msg := &m.in
	back := msg.MRI.Reverse()
	p := m.getPeer(&msg.NLI)
	if p == nil {
		m.note("limit", o.from, "peers")
		return
	}
	r := m.lookup(msg.NSLPID, msg.SID, &back)
	if r != nil && r.querying {
		// RFC 5971 §5.8.1.3: "if the SIDs match, the routing state installed by
		// the downstream exchange MUST take precedence".
		if msg.MRI.Upstream {
			m.note("upstream-confirm", o.from, "a downstream exchange has made this state already")
			return
		}
		r = m.replaceQuerying(r)
	} else if r == nil && m.roomFor(p.addr) {
		r = m.newRouting(msg.NSLPID, msg.SID, &back, false)
	}
	if r == nil {
		m.note("limit", o.from, "routing states")
		return
	}
	if r.peer == nil {
		r.state = awaitingConfirm
	}
	m.respondSMRx(r, rrxConfirm, o)
}

// takeConfirm is rules 2 and 8 of the Responding-SM.
func (m *Machine) takeConfirm(r *routing, o *origin) {
	msg, c, p, old := &m.in, &m.confirmed, m.findPeer(&m.in.NLI), r.peer
	r.state = established
	m.setPeer(r, p)
	if o.ma == nil {
		p.port = c.port
	}
	if old != nil && old != p {
		m.notify(r, RouteDeletion, r.status, old.sii)
		m.setAssoc(r, nil)
	}
	// RFC 5971 §7.1.2: "it can detect if this interface changes even when the peer
	// does not"; and so for the distance.
	moved := old == p && (r.via != c.via || r.hops != c.hops || r.iface != c.iface)
	r.via, r.hops, r.iface = c.via, c.hops, c.iface
	m.setNAT(r, m.natted.wire.Reverse())
	m.checkTTL(r, o, false)
	if o.ma != nil {
		m.follow(r, o.ma)
	}
	r.validUntil = m.now + int64(m.agreedValidity(msg.MRI.Method, msg.NLI.ValidityMS))
	if r.status != Good || old != p || moved {
		r.status = Good
		m.notify(r, RoutingStatusChange, Good, p.sii)
	}
	if len(msg.NSLPData) > 0 {
		m.deliver(o, r, p)
	}
	m.flush(r)
}

// follow makes a, where the querier has put the session, r's association; but
// not while messages on the one that it had, no less secure and to the same
// peer, "could still be outstanding" (RFC 5971 §4.4.5).
func (m *Machine) follow(r *routing, a *assoc) {
	if old := r.ma; old != nil && old != a && old.peer == a.peer && r.lastSeq > old.acked && (old.stack.Secure() || !a.stack.Secure()) {
		m.askDelivery(old)
		return
	}
	m.setAssoc(r, a)
}

// replaceQuerying puts a Responding-SM in the place of a Querying-SM; what
// waits in it stays.
func (m *Machine) replaceQuerying(old *routing) *routing {
	w := old.waiting
	old.waiting = nil
	m.destroy(old, nil)
	r := m.newRouting(old.nslp, old.sid, &old.mri, false)
	if w != nil {
		w.confirm, w.resend = nil, 0
		r.waiting = w
	}
	return r
}
