package gist

import (
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The Querying-SM (RFC 5971 §6.2).

type queryEvent uint8

const (
	tgNSLPData queryEvent = iota
	qrxResponse
	qrxData
	erNoRSM
	toNoResponse
	toRefreshQNode
	toInactiveQNode
	// Not in figure 7, but in the text: the validity timer of §4.2.1, the
	// failure and the end of connecting of an association (§6.4).
	toValidity
	erMALost
	tgMAConnected
	numQueryEvents
)

var queryEventNames = [numQueryEvents]string{
	"tg_NSLPData", "rx_Response", "rx_Data", "er_NoRSM", "to_No_Response", "to_Refresh_QNode",
	"to_Inactive_QNode", "to_Validity", "er_MAFailure", "tg_Connected",
}

type queryRule uint8

const (
	qImpossible   queryRule = iota + 1 // "MUST be ignored"
	qStore                             // rule 1, and start the handshake if none runs
	qRetryOrDie                        // rule 2
	qRestart                           // rule 3
	qResponse                          // rule 4
	qSend                              // rule 5
	qTerminate                         // rule 6
	qDeliver                           // rule 7
	qRefresh                           // rule 8
	qPeerExpired                       // the peer's address is no longer valid: queue until a Response
	qAssociation                       // the association is lost: as needed, a new handshake
	qConfirm                           // it stands: send the Confirm and what waits
	qAlreadyAsked                      // rule 3, unless a Query is out: its Response repairs that too
)

// queryTable has a row for each state and a cell for each event.
var queryTable = [...][numQueryEvents]queryRule{
	awaitingResponse: {
		tgNSLPData: qStore, qrxResponse: qResponse, qrxData: qDeliver, erNoRSM: qAlreadyAsked,
		toNoResponse: qRetryOrDie, toRefreshQNode: qImpossible, toInactiveQNode: qTerminate,
		toValidity: qPeerExpired, erMALost: qAssociation, tgMAConnected: qImpossible,
	},
	established: {
		tgNSLPData: qSend, qrxResponse: qResponse, qrxData: qDeliver, erNoRSM: qRestart,
		toNoResponse: qImpossible, toRefreshQNode: qRefresh, toInactiveQNode: qTerminate,
		toValidity: qPeerExpired, erMALost: qAssociation, tgMAConnected: qConfirm,
	},
	awaitingRefresh: {
		tgNSLPData: qSend, qrxResponse: qResponse, qrxData: qDeliver, erNoRSM: qRestart,
		toNoResponse: qRetryOrDie, toRefreshQNode: qImpossible, toInactiveQNode: qTerminate,
		toValidity: qPeerExpired, erMALost: qAssociation, tgMAConnected: qConfirm,
	},
}

// querySM runs an event without a message from the network.
func (m *Machine) querySM(r *routing, ev queryEvent, out *outMsg) { m.runQuery(r, ev, out, nil) }

// querySMRx runs the event of the message in m.in.
func (m *Machine) querySMRx(r *routing, ev queryEvent, o *origin) { m.runQuery(r, ev, nil, o) }

func (m *Machine) runQuery(r *routing, ev queryEvent, out *outMsg, o *origin) {
	switch queryTable[r.state][ev] {
	case qStore:
		m.touch(r)
		m.store(r, out)
		m.startQuerying(r)
	case qRetryOrDie:
		m.retryOrDie(r)
	case qRestart:
		m.setStatus(r, Bad) // "not safe to use to send data" (RFC 5971 §7.1.3)
		r.state = awaitingResponse
		m.abandonConnect(r)
		m.stopQuerying(r)
		m.startQuerying(r)
	case qResponse:
		m.takeResponse(r, o)
	case qSend:
		m.sendData(r, out)
	case qTerminate:
		m.destroy(r, ErrForgotten)
		return
	case qDeliver:
		m.deliver(o, r, r.peer)
	case qRefresh: // "stop Refresh_QNode timer": it has just run
		if r.orphan {
			// RFC 5971 §4.4.4: "GIST MUST NOT refresh routing state if a signalling
			// session is known to be inactive, either because upstream state has
			// expired or" because the application has said so.
			m.note("not-refreshed", netip.AddrPort{}, "the session's upstream state has expired")
			break
		}
		r.state = awaitingRefresh
		m.startQuerying(r)
	case qPeerExpired:
		m.peerExpired(r)
	case qAssociation:
		m.associationLost(r)
	case qConfirm:
		m.associationUp(r)
	case qAlreadyAsked:
		m.startQuerying(r)
	case qImpossible:
	}
	m.arm(r)
}

// store is rule 1: "Store the message for later transmission".
func (m *Machine) store(r *routing, out *outMsg) {
	if out.attr.Reliable || out.attr.Secure || m.cmodeOnly(&r.mri) || m.tooLongForDMode(r, out) {
		r.wantMA = true
	}
	if out.attr.Secure {
		r.wantSecure = true
	}
	m.enqueue(r, out)
}

func (m *Machine) tooLongForDMode(r *routing, out *outMsg) bool {
	e := m.dataMessage(r.nslp, r.sid, r.onWire(), out)
	m.setNLI(e, m.cfg.Address, 0, m.validity(r.mri.Method))
	return !m.fitsPath(r, e)
}

// sendData is rule 5. Where only an association will do and there is none, the
// message waits and a handshake makes one (RFC 5971 §4.3.3).
func (m *Machine) sendData(r *routing, out *outMsg) {
	m.touch(r)
	m.adoptOrphan(r)
	if r.hasWaiting() { // order is kept
		m.store(r, out)
		m.startQuerying(r)
		return
	}
	sent, needMA := m.transmit(r, out)
	switch {
	case sent:
		if r.verify && r.state == established {
			r.state = awaitingRefresh
			m.startQuerying(r)
		}
	case needMA:
		m.store(r, out)
		if r.waitMA == nil {
			if r.state == established {
				r.state = awaitingRefresh
			}
			m.startQuerying(r)
		}
	default:
		m.store(r, out)
		m.retryLater(r)
	}
}

// startQuerying begins a handshake unless one runs, or an association is being
// connected at the end of one.
func (m *Machine) startQuerying(r *routing) {
	if !r.running && r.waitMA == nil {
		m.beginHandshake(r, 0)
	}
}

// beginHandshake sends the first Query, now or after delay.
func (m *Machine) beginHandshake(r *routing, delay time.Duration) {
	r.attempts = 0
	m.prepareHandshake(r)
	if delay > 0 {
		r.noResponseAt = m.now + int64(delay)
		return
	}
	m.sendQuery(r)
}

func (m *Machine) prepareHandshake(r *routing) {
	r.running = true
	m.stats.Handshakes++
	r.sentQueries = 0
	m.newQueryCookie(r)
}

func (m *Machine) stopQuerying(r *routing) {
	if r.running {
		r.running = false
		m.stats.Handshakes--
	}
	r.noResponseAt = never
}

// interval is No_Response after n Queries: "retransmissions MUST use a binary
// exponential backoff", from T1 to T2 (RFC 5971 §5.3.3).
func (m *Machine) interval(n uint8) time.Duration {
	return min(m.cfg.T1<<(min(n, 20)-1), m.cfg.T2)
}

// retryOrDie is rule 2. Tentative state that one Query has not verified is Bad:
// a broken path is used for one retransmission interval at most.
func (m *Machine) retryOrDie(r *routing) {
	if r.status == Tentative && r.attempts > 0 {
		m.setStatus(r, Bad)
		r.state, r.refreshAt = awaitingResponse, never
	}
	if r.attempts > 0 && m.interval(r.attempts) >= m.cfg.T2 {
		m.giveUp(r, ErrNoPeer)
		return
	}
	m.sendQuery(r)
}

// giveUp ends a handshake for good: "indicate No Response error to NSLP;
// destroy self".
func (m *Machine) giveUp(r *routing, err error) {
	if r.status != Bad {
		m.setStatus(r, Bad)
	} else if r.peer != nil { // once more: now the state is gone
		m.notify(r, RoutingStatusChange, Bad, 0)
	}
	m.stats.HandshakesFailed++
	m.destroy(r, err)
}

// sendQuery sends the next Query of a handshake, or puts it off until the
// D-mode rate limit lets it out.
func (m *Machine) sendQuery(r *routing) {
	l := &m.cfg.Limits
	m.dmode.fill(m.now, l.DModeRate, l.DModeBurst)
	if need := 1 + float64(l.DModeBurst/keepForHandshakes); m.dmode.tokens < need {
		r.noResponseAt = m.dmodeSlot(need)
		m.note("query-delayed", netip.AddrPort{}, "D-mode rate limit")
		return
	}
	rt, err := m.routeQuery(&r.mri)
	if err != nil {
		m.giveUp(r, err)
		return
	}
	r.attempts++
	r.sentQueries++
	r.noResponseAt = m.now + int64(m.interval(r.attempts))
	r.local = rt.Local
	m.watchPath(r, rt.Path)
	m.cookie = r.queryCookie(r.sentQueries)
	e := m.newMessage(wire.Query, r.nslp)
	e.C, e.R, e.S = true, true, false
	setKey(e, &r.mri, r.sid)
	from := m.querySource(&r.mri, &rt, r.sentQueries)
	m.setQNLI(e, r.hops, &rt, from)
	e.QueryCookie = m.cookie[:]
	if r.askedMA = r.wantMA; r.askedMA {
		e.HasStackConfig = true
		e.StackConfig.HoldTimeMS = toMS(m.cfg.MAHoldTime)
		e.StackProposal, e.StackConfig.Options = m.stacks.inQuery(r.wantSecure)
	}
	if w := r.waiting; w != nil && w.query != nil {
		if e.NSLPData = w.query; !m.fitsDMode(e, rt.To.Addr()) {
			m.note("query-payload-too-large", netip.AddrPort{}, "the Query goes without it")
			e.NSLPData, w.query = nil, nil
		}
	}
	m.stats.QueriesOut++
	m.emit(e, qmode(&r.mri, &rt, from))
}

// setQNLI sets the NLI of a message in Q-mode, and S: whether its address is the
// IP source. Path-Coupled, the address "MUST specifically be set to an address
// bound to an interface associated with the MRI" and a downstream IP-TTL is the
// IP header's (RFC 5971 §5.2.2); Off-Path, it is the node's own, with IP-TTL 0.
func (m *Machine) setQNLI(e *wire.Message, hops uint8, rt *QueryRoute, from source) {
	address, ttl := rt.Local, rt.TTL
	switch {
	case e.MRI.Method == wire.OffPath:
		ttl = 0
	case e.MRI.Upstream:
		ttl = hops
	}
	e.S = from.addr == address && (e.MRI.Method != wire.OffPath || rt.Direct)
	m.setNLI(e, address, ttl, m.validity(e.MRI.Method))
}

// rxResponse checks the Response in m.in against what was asked.
func (m *Machine) rxResponse(r *routing, o *origin) {
	msg := &m.in
	if !r.answers(msg.QueryCookie) {
		m.note("bad-cookie", o.from, "Response with the Query-Cookie of no Query of ours")
		return
	}
	if o.ma != nil {
		m.nliBehindNAT(o.ma.peer)
		if o.ma.peer.addr != msg.NLI.Address || o.ma.peer.id != string(msg.NLI.PeerIdentity) {
			m.note("wrong-association", o.from, "Response's NLI is not the association's peer")
			return
		}
		if !m.authorised(o.ma.cert, o.ma.peer.addr, &r.mri, r.via) {
			m.noteNotAuthorised(o.ma, o.ma.peer.addr, &r.mri, r.via)
			return
		}
	} else if msg.S && o.from.Addr() != msg.NLI.Address {
		// RFC 5971 §7.2.1: "The Querying node MUST check the source address in
		// the IP header with the NLI in the Response, and when it finds a
		// mismatch it MUST terminate the handshake."
		m.note("nat", o.from, "IP source of the Response is not its NLI address")
		if r.running {
			m.giveUp(r, errText(ErrPeerRefused, "a NAT stands between the peers"))
		}
		return
	}
	rt, err := m.routeQuery(&r.mri)
	if err != nil || (len(rt.AllowedPeers) > 0 && !containsAddr(rt.AllowedPeers, msg.NLI.Address)) {
		m.note("peer-not-allowed", o.from, "Response's NLI address is not one that the route allows")
		return
	}
	m.querySMRx(r, qrxResponse, o)
}

func containsAddr(list []netip.Addr, a netip.Addr) bool {
	for _, x := range list {
		if x == a {
			return true
		}
	}
	return false
}

// minValidity is the shortest routing state lifetime that a peer can make us
// refresh for.
const minValidity = 2 * time.Second

// takeResponse is rule 4. "Further Responses received in this state (which may
// be the result of a lost Confirm) MUST be treated the same way."
func (m *Machine) takeResponse(r *routing, o *origin) {
	msg := &m.in
	m.dmode.fill(m.now, m.cfg.Limits.DModeRate, m.cfg.Limits.DModeBurst)
	if noMA := o.ma == nil && r.ma == nil && (!r.wantMA || len(msg.StackProposal) == 0); noMA && m.dmode.tokens < 1 {
		// As if it had been lost: without its Confirm, which could not leave, Data
		// would meet no state there.
		m.note("dmode-rate-limited", o.from, "Confirm")
		return
	}
	p := m.getPeer(&msg.NLI)
	if p == nil {
		m.note("limit", o.from, "peers")
		return
	}
	if o.ma == nil {
		p.port = o.from.Port()
	}
	m.setNAT(r, r.mri)
	old := r.peer
	m.setPeer(r, p)
	if old != nil && old != p {
		m.peerChanged(r, old)
	}
	moved := false
	if ttl := msg.NLI.IPTTL; ttl > 0 && !r.mri.Upstream { // RFC 5971 §5.2.2
		moved = r.hops != 0 && r.hops != ttl
		r.hops = ttl
	}
	m.checkTTL(r, o, false)
	again := !r.running && r.state == established
	if !m.chooseAssociation(r, o) {
		return
	}
	m.sendConfirm(r, o)
	m.stopQuerying(r)
	r.state, r.verify = established, false
	if r.waiting != nil {
		r.waiting.query = nil
	}
	// A peer that asks for less would have us send nothing but Queries.
	life := max(time.Duration(msg.NLI.ValidityMS)*time.Millisecond, minValidity)
	r.validUntil = m.now + int64(life)
	r.refreshAt = m.now + int64(m.between(life))
	if r.status != Good || old != p || moved {
		r.status = Good
		m.notify(r, RoutingStatusChange, Good, p.sii)
	}
	if !again {
		m.stats.HandshakesDone++
	}
	if len(msg.NSLPData) > 0 {
		m.deliver(o, r, p)
	}
	m.flush(r)
	switch {
	case r.dead || r.waitMA != nil:
	case r.wantMA && r.hasWaiting() && !r.served():
		// The messages need an association, or a secure one, and there is none
		// yet.
		m.askAgain(r)
	default:
		r.attempts = 0
	}
}

// askAgain begins a handshake because the last one brought no association: at
// once if it had not asked for one, and otherwise after the backoff that its
// Queries had reached.
func (m *Machine) askAgain(r *routing) {
	r.state = awaitingRefresh
	if r.attempts == 0 || !r.askedMA {
		m.startQuerying(r)
		return
	}
	m.prepareHandshake(r)
	r.noResponseAt = m.now + int64(m.interval(r.attempts))
}

// peerChanged tells of a route change as "a single (add, delete) operation"
// (RFC 5971 §7.1.4); the addition follows.
func (m *Machine) peerChanged(r *routing, old *peer) {
	m.notify(r, RouteDeletion, r.status, old.sii)
	m.setAssoc(r, nil)
	m.leaveQueue(r)
}

// chooseAssociation finds or opens the association for r after the Response in
// m.in; false where r came to an end over it. RFC 5971 §4.4.3, §5.7.1
func (m *Machine) chooseAssociation(r *routing, o *origin) bool {
	switch {
	case o.ma != nil:
		m.adopt(r, o.ma)
		return true
	case r.served():
		return true // ours still stands, the responder's Response came in D-mode
	case !r.wantMA || len(m.in.StackProposal) == 0:
		return true
	case r.ma != nil && r.lastSeq > r.ma.acked:
		// The messages before the first secure one come first (see adopt).
		m.askDelivery(r.ma)
		return true
	}
	if a := m.usable(r.peer, r.wantSecure, &r.mri, r.via); a != nil {
		m.setAssoc(r, a)
		return true
	}
	if r.waitMA != nil {
		return true
	}
	if a := r.peer.connecting(r.wantSecure); a != nil {
		m.waitFor(r, a)
		return true
	}
	stack, port, err := m.negotiate(r.wantSecure)
	if err != nil {
		m.note("no-common-stack", o.from, err.Error())
		m.giveUp(r, err)
		return false
	}
	a := m.connect(r.peer, stack, port)
	if a == nil {
		m.giveUp(r, errText(ErrLimit, "messaging associations"))
		return false
	}
	m.waitFor(r, a)
	return true
}

// adopt makes a, over which the Response came, r's association. The old one is
// left only when nothing sent on it can still be on its way: "MUST NOT open a
// new association to be used for given session and peer while messages on a
// previous association could still be outstanding" (RFC 5971 §4.4.5).
func (m *Machine) adopt(r *routing, a *assoc) {
	if !a.stack.Secure() && (r.wantSecure || r.ma != nil && r.ma.stack.Secure()) {
		m.note("weaker-association", a.remote, "Response over an association without TLS")
		return
	}
	m.leaveQueue(r)
	if r.ma == nil || r.lastSeq <= r.ma.acked {
		m.setAssoc(r, a)
	}
}

// served says whether r has an association for all that it has to send.
func (r *routing) served() bool { return r.ma != nil && (r.ma.stack.Secure() || !r.wantSecure) }

// sendConfirm answers the Response in m.in if it asks for that: "the Confirm
// MUST be sent over [the association] before any other messages for the same
// flow" (RFC 5971 §4.4.1).
func (m *Machine) sendConfirm(r *routing, o *origin) {
	msg := &m.in
	if !msg.R {
		return
	}
	e := m.newMessage(wire.Confirm, r.nslp)
	setKey(e, &r.mri, r.sid)
	address := r.local
	if address.Is4() != r.peer.addr.Is4() || !address.IsValid() {
		address = m.addressLike(r.peer.addr)
	}
	m.setNLI(e, address, 0, time.Duration(msg.NLI.ValidityMS)*time.Millisecond)
	e.ResponderCookie = msg.ResponderCookie
	if r.ma == nil && r.waitMA == nil {
		if r.mri.Method != wire.OffPath {
			e.NLI.IPTTL = dmodeTTL(r, 0)
		}
		m.sendDatagram(e, address, netip.AddrPortFrom(r.peer.addr, r.peer.port), dmodeTTL(r, 0), false)
		return
	}
	e.StackProposal = msg.StackProposal
	if r.waitMA != nil {
		// RFC 5971 §5.1: "The first Confirm on a new association MUST also
		// repeat the Stack-Configuration-Data". Which will be the first is not
		// known yet.
		if len(msg.StackProposal) > 0 {
			e.HasStackConfig = true
			e.StackConfig = wire.StackConfig{HoldTimeMS: toMS(m.cfg.MAHoldTime)}
			m.waitingHoldTime(r.waitMA)
		}
		m.backlog(r).confirm = slices.Clone(m.encode(e))
		return
	}
	m.maTx(r.ma, m.encode(e))
}

// waitingHoldTime notes the peer's MA-Hold-Time from its Response.
func (m *Machine) waitingHoldTime(a *assoc) {
	if m.in.HasStackConfig {
		a.holdPeer = time.Duration(m.in.StackConfig.HoldTimeMS) * time.Millisecond
	}
}

// associationUp sends the Confirm that waited for the association, and then
// what waited for the Confirm.
func (m *Machine) associationUp(r *routing) {
	if w := r.waiting; w != nil && w.confirm != nil {
		m.maTx(r.ma, w.confirm)
		w.confirm = nil
	}
	m.flush(r)
	if r.dead {
		return
	}
	// A refresh was due while we connected, or a message that this association
	// is not secure enough for.
	if r.hasWaiting() {
		r.state = awaitingRefresh
	}
	if r.state == awaitingRefresh {
		m.startQuerying(r)
	}
}

// recent is how fresh a session's traffic must be for a lost association to be
// replaced at once and not when it is next needed.
const recent = int64(10 * time.Second)

// associationLost: r.ma or r.waitMA is gone. What waits, or may soon come, gets
// a new handshake; attempts that ended without an association back off.
func (m *Machine) associationLost(r *routing) {
	if w := r.waiting; w != nil {
		w.confirm = nil
		if !r.hasWaiting() {
			m.dropBacklog(r)
		}
	}
	if r.state != established || r.running {
		return
	}
	if r.waiting == nil && m.now-r.lastData > recent {
		return
	}
	m.askAgain(r)
}

// peerExpired: the entry's validity timer has expired and it "MUST be purged if
// it has not been refreshed" (RFC 5971 §4.2.1). A handshake that runs goes on;
// messages wait for it.
func (m *Machine) peerExpired(r *routing) {
	r.validUntil, r.refreshAt = never, never
	m.abandonConnect(r)
	if !r.running && !r.hasWaiting() {
		m.giveUp(r, ErrNoPeer)
		return
	}
	r.state = awaitingResponse
	m.setAssoc(r, nil)
	m.setPeer(r, nil)
	m.setStatus(r, Bad)
	m.startQuerying(r)
}

// abandonConnect gives up waiting for an association to stand.
func (m *Machine) abandonConnect(r *routing) {
	m.leaveQueue(r)
	if r.waiting != nil {
		r.waiting.confirm = nil
	}
}

// arm sets r's timer for the first of its deadlines.
func (m *Machine) arm(r *routing) {
	if r.dead {
		return
	}
	at := min(r.noResponseAt, r.refreshAt, r.validUntil, r.idleAt)
	if w := r.waiting; w != nil {
		for i := range w.msgs {
			at = min(at, w.msgs[i].deadline)
		}
		if w.retryAt != 0 {
			at = min(at, w.retryAt)
		}
	}
	// A deadline that moved back is looked at when the old one comes: cheaper
	// than moving the timer with each message.
	if r.tm.pos != 0 && r.tm.at <= at && at-r.tm.at < int64(time.Minute) {
		return
	}
	m.timers.set(r, at)
}

// fire runs the timers of r that are due.
func (r *routing) fire(m *Machine) {
	if r.dead || !m.mayBeUsed(r) {
		return
	}
	m.expireQueue(r)
	if w := r.waiting; w != nil && w.retryAt != 0 && w.retryAt <= m.now {
		w.retryAt = 0
		m.flush(r)
		if r.dead {
			return
		}
	}
	if r.forget && !r.hasWaiting() {
		m.destroy(r, ErrForgotten)
		return
	}
	if r.querying {
		r.fireQuerying(m)
	} else {
		r.fireResponding(m)
	}
	m.arm(r)
}

func (r *routing) fireQuerying(m *Machine) {
	if r.state == awaitingResponse && r.peer == nil && !r.hasWaiting() {
		// "If the NSLP has indicated a timeout on the validity of this payload,
		// T2 MUST be chosen so that the process terminates within this timeout"
		// (RFC 5971 §5.3.3).
		m.giveUp(r, ErrNoPeer)
		return
	}
	if r.idleAt <= m.now {
		m.querySM(r, toInactiveQNode, nil)
	}
	if !r.dead && r.validUntil <= m.now {
		m.querySM(r, toValidity, nil)
	}
	if !r.dead && r.refreshAt <= m.now {
		r.refreshAt = never
		m.querySM(r, toRefreshQNode, nil)
	}
	if !r.dead && r.noResponseAt <= m.now {
		r.noResponseAt = never
		m.querySM(r, toNoResponse, nil)
	}
}
