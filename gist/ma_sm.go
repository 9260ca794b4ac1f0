package gist

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The MA-SM (RFC 5971 §6.4).

type maState uint8

const (
	// maAwaitingConnection: a connection that we asked for does not stand yet,
	// or one that we accepted has not brought its first Confirm, so that its
	// peer is not known.
	maAwaitingConnection maState = iota
	maConnected
	maIdle
	numMAStates
)

var maStateNames = [numMAStates]string{"Awaiting Connection", "Connected", "Idle"}

func (s maState) String() string { return maStateNames[s] }

type maEvent uint8

const (
	maTgRawData maEvent = iota
	maRxMessage
	maRxMAHello
	maToSendHello
	maToNoHello
	maTgConnected
	maTgMAIdle
	maErConnect
	maErFailure
	numMAEvents
)

var maEventNames = [numMAEvents]string{
	"tg_RawData", "rx_Message", "rx_MA-Hello", "to_SendHello", "to_NoHello", "tg_Connected",
	"tg_MAIdle", "er_MAConnect", "er_MAFailure",
}

type maRule uint8

const (
	maImpossible maRule = iota + 1
	maPass              // rule 1: to the transport; Connected again
	maHandle            // rule 2: to the other machines; Connected again
	maHello             // rule 3: reply if requested
	maSendHello         // rule 4
	maUp                // rule 6
	maToIdle            // rule 7
	maDie               // rule 8
	maIdleHello         // rule 9: reply if requested, restart NoHello
	maStranger          // a first message that is no Confirm
)

// maTable. Rule 5 of the RFC, "queue message for later transmission", is in the
// routing states: they hold their messages until the association stands.
var maTable = [numMAStates][numMAEvents]maRule{
	maAwaitingConnection: {
		maTgRawData: maImpossible, maRxMessage: maHandle, maRxMAHello: maStranger,
		maToSendHello: maImpossible, maToNoHello: maImpossible, maTgConnected: maUp,
		maTgMAIdle: maImpossible, maErConnect: maDie, maErFailure: maDie,
	},
	maConnected: {
		maTgRawData: maPass, maRxMessage: maHandle, maRxMAHello: maHello,
		maToSendHello: maSendHello, maToNoHello: maImpossible, maTgConnected: maImpossible,
		maTgMAIdle: maToIdle, maErConnect: maImpossible, maErFailure: maDie,
	},
	maIdle: {
		maTgRawData: maPass, maRxMessage: maHandle, maRxMAHello: maIdleHello,
		maToSendHello: maImpossible, maToNoHello: maDie, maTgConnected: maImpossible,
		maTgMAIdle: maImpossible, maErConnect: maImpossible, maErFailure: maDie,
	},
}

// assoc is one messaging association. RFC 5971 §4.2.2
type assoc struct {
	id       ConnID
	peer     *peer // nil: accepted, and no valid Confirm yet
	state    maState
	stack    Stack
	dialled  bool
	heard    bool         // the peer has sent something over it
	gone     bool         // removed: nothing arms it again
	cert     *Certificate // the peer's; nil: the stack has none
	certEnd  instant      // when it expires
	remote   netip.AddrPort
	holdPeer time.Duration // the peer's MA-Hold-Time
	opened   instant

	users   *routing // routing states that use it
	nUsers  int
	waiting []*routing // routing states that wait for it to stand

	lastRx, lastTx instant
	lastReal       instant // a message that was no MA-Hello, in either direction
	unusedSince    instant // never: it is used
	helloAt        instant // SendHello
	giveUpAt       instant // end of connecting, of the hello exchange
	seq, acked     uint64  // messages sent; how many have certainly arrived
	helloSeq       uint64  // seq when the open hello request was sent
	helloID        uint32  // of the open hello request; 0: none
	left           []leftBehind
	tm             alarm
}

func (a *assoc) alarm() *alarm { return &a.tm }

// leftBehind is a session that has left an association, with messages on it that
// have perhaps not arrived: "if there is a chance that the message was not
// delivered [...], an error MUST be indicated to the local signalling
// application" (RFC 5971 §4.1.2), when the association fails.
type leftBehind struct {
	nslp wire.NSLPID
	sid  wire.SID
	mri  wire.MRI
	seq  uint64
}

// maxLeftBehind bounds those; of more, the application is told at once.
const maxLeftBehind = 1024

func (m *Machine) leaveBehind(r *routing) {
	a := r.ma
	if len(a.left) >= maxLeftBehind {
		m.notify(r, CommunicationFailure, r.status, a.peer.sii)
		return
	}
	a.left = append(a.left, leftBehind{r.nslp, r.sid, r.mri, r.lastSeq})
	m.askDelivery(a)
}

// askDelivery has the peer say what has arrived: "GIST MAY use an MA-Hello
// request/reply exchange [...] to verify that messages sent on it have reached
// the peer" (RFC 5971 §4.4.5).
func (m *Machine) askDelivery(a *assoc) {
	if a.helloID == 0 && a.state == maConnected {
		m.maAsk(a)
		m.maArm(a)
	}
}

// outranks is the tie-break where two nodes have opened associations to each
// other at the same time: both then use the one opened by the node with the
// greater identity, and of several the oldest. The RFC leaves the choice free
// ("it is a matter of local policy", §5.7.1).
func (a *assoc) outranks(b *assoc, m *Machine) bool {
	if a.dialled != b.dialled {
		mine := strings.Compare(string(m.cfg.Identity), a.peer.id)
		if mine == 0 {
			mine = m.addressLike(a.peer.addr).Compare(a.peer.addr)
		}
		return a.dialled == (mine > 0)
	}
	return a.opened < b.opened || a.opened == b.opened && a.id < b.id
}

// usable returns the best association to p that may carry messages for mri, or
// nil: it stands, is secure if that is wanted, and its peer is authorised for
// this flow. RFC 5971 §4.4.3: "the verification steps of Section 4.4.2 MUST be
// repeated for the new flow".
func (m *Machine) usable(p *peer, secure bool, mri *wire.MRI, via netip.Addr) *assoc {
	for _, a := range p.assocs {
		if a.state != maAwaitingConnection && (a.stack.Secure() || !secure) && m.authorised(a.cert, p.addr, mri, via) {
			return a
		}
	}
	return nil
}

// connecting returns an association to p that does not stand yet, or nil.
func (p *peer) connecting(secure bool) *assoc {
	for _, a := range p.assocs {
		if a.state == maAwaitingConnection && (a.stack.Secure() || !secure) {
			return a
		}
	}
	return nil
}

// rank keeps the best association in front: those that stand, of them the
// secure ones.
func (m *Machine) rank(p *peer) {
	slices.SortStableFunc(p.assocs, func(a, b *assoc) int {
		up, bup := a.state != maAwaitingConnection, b.state != maAwaitingConnection
		switch {
		case up != bup:
			if up {
				return -1
			}
			return 1
		case a.stack.Secure() != b.stack.Secure():
			if a.stack.Secure() {
				return -1
			}
			return 1
		case a.outranks(b, m):
			return -1
		case b.outranks(a, m):
			return 1
		}
		return 0
	})
}

func (m *Machine) newAssoc(id ConnID, remote netip.AddrPort) *assoc {
	a := &assoc{
		id: id, remote: remote, opened: m.now, lastRx: m.now, lastTx: m.now, certEnd: never,
		unusedSince: m.now, helloAt: never, giveUpAt: m.now + int64(m.cfg.ConnectTimeout),
	}
	m.assocs[id] = a
	m.stats.Associations++
	m.timers.set(a, a.giveUpAt)
	return a
}

func (m *Machine) maBind(a *assoc, p *peer) {
	a.peer = p
	m.ref(p)
	p.assocs = append(p.assocs, a)
	m.rank(p)
}

// connect opens an association to p; nil at the limit.
func (m *Machine) connect(p *peer, stack Stack, port uint16) *assoc {
	if len(m.assocs) >= m.cfg.Limits.Associations {
		return nil
	}
	for m.lastConn += 2; m.assocs[m.lastConn] != nil; m.lastConn += 2 {
	}
	a := m.newAssoc(m.lastConn, netip.AddrPortFrom(p.addr, port))
	a.dialled, a.stack = true, stack
	a.holdPeer = m.cfg.MAHoldTime
	m.maBind(a, p)
	m.do(Connect{Conn: a.id, Local: m.addressLike(a.remote.Addr()), To: a.remote, Stack: stack})
	return a
}

// roomForAccepted says whether p may have another association that it opened.
// An unused one makes room, the oldest first: the peer may have lost it.
func (m *Machine) roomForAccepted(p *peer) bool {
	n := 0
	var oldest *assoc
	for _, a := range p.assocs {
		if a.dialled {
			continue
		}
		n++
		if !a.used() && (oldest == nil || a.opened < oldest.opened) {
			oldest = a
		}
	}
	if n < m.cfg.Limits.AcceptedPerPeer {
		return true
	}
	if oldest == nil {
		return false
	}
	m.maClose(oldest, "the peer has opened others")
	return true
}

func (m *Machine) waitFor(r *routing, a *assoc) {
	r.waitMA = a
	a.waiting = append(a.waiting, r)
	a.unusedSince = never
}

func (m *Machine) connUp(e *ConnUp) {
	if a := m.assocs[e.Conn]; a != nil && a.dialled {
		m.setCertificate(a, e.Certificate)
		m.maEvent(a, maTgConnected, nil)
	}
}

func (m *Machine) setCertificate(a *assoc, c *Certificate) {
	if a.cert = c; c != nil && !c.NotAfter.IsZero() {
		a.certEnd = int64(c.NotAfter.Sub(m.base))
	}
}

func (m *Machine) connAccepted(e *ConnAccepted) {
	l := &m.cfg.Limits
	if m.pending >= l.PendingAssociations || len(m.assocs) >= l.Associations || m.assocs[e.Conn] != nil {
		m.note("limit", e.Remote, "accepted connections")
		m.do(CloseConn{e.Conn})
		return
	}
	if !m.stacks.allows(e.Stack) {
		m.note("stack-not-offered", e.Remote, e.Stack.String())
		m.do(CloseConn{e.Conn})
		return
	}
	a := m.newAssoc(e.Conn, unmapped(e.Remote))
	a.stack = e.Stack
	m.setCertificate(a, e.Certificate)
	m.pending++
}

func (m *Machine) connDown(id ConnID, err error) {
	a := m.assocs[id]
	if a == nil {
		return
	}
	detail := "closed"
	if err != nil {
		detail = err.Error()
	}
	if errors.Is(err, ErrAuthentication) {
		m.note("not-authenticated", a.remote, detail)
		m.stats.AssociationsFailed++
		m.maRemove(a, err)
		return
	}
	kind := "association-down"
	if a.dialled && a.state != maAwaitingConnection && !a.heard {
		kind, detail = "association-refused", detail+", before the peer sent anything: perhaps it does not want us"
	}
	m.note(kind, a.remote, detail)
	ev := maErFailure
	if a.state == maAwaitingConnection {
		ev = maErConnect
	}
	m.maEvent(a, ev, nil)
}

// maRx passes the message in m.in, which came over a, on to the other machines:
// false where it must not be.
func (m *Machine) maRx(a *assoc) bool {
	if a.state == maAwaitingConnection && (a.dialled || m.in.Type != wire.Confirm) {
		m.maClose(a, "first message is "+m.in.Type.String()+", want Confirm")
		return false
	}
	m.maEvent(a, maRxMessage, nil)
	return true
}

func (m *Machine) maRxHello(a *assoc) { m.maEvent(a, maRxMAHello, nil) }

// maTx sends a message over a and returns its number.
func (m *Machine) maTx(a *assoc, b []byte) uint64 {
	if b != nil {
		m.maEvent(a, maTgRawData, b)
	}
	return a.seq
}

// maSend sends e, an answer that belongs to a itself.
func (m *Machine) maSend(a *assoc, e *wire.Message) {
	if b := m.encode(e); b != nil {
		a.lastTx = m.now
		m.stats.ConnMessagesOut++
		m.doSend(a.id, b)
	}
}

func (m *Machine) maEvent(a *assoc, ev maEvent, b []byte) {
	switch maTable[a.state][ev] {
	case maPass:
		m.maActive(a)
		a.lastTx = m.now
		a.seq++
		m.stats.ConnMessagesOut++
		m.doSend(a.id, b)
	case maHandle:
		a.lastRx, a.heard = m.now, true
		m.maActive(a)
	case maHello, maIdleHello:
		a.lastRx, a.heard = m.now, true
		m.maGotHello(a)
	case maSendHello:
		m.maAsk(a)
	case maUp:
		m.maStands(a)
	case maToIdle:
		a.state = maIdle
		a.helloAt = never
	case maDie:
		m.maDead(a, ev)
		return
	case maStranger:
		m.maClose(a, "first message is an MA-Hello, want Confirm")
		return
	case maImpossible:
	}
	if ev <= maRxMessage && a.helloAt != never && a.tm.pos != 0 {
		return // with traffic no deadline comes nearer
	}
	m.maArm(a)
}

// maActive: "If real data is transferred over the MA, the state machine
// transitions back to Connected."
func (m *Machine) maActive(a *assoc) {
	a.lastReal = m.now
	if a.state == maIdle {
		a.state = maConnected
	}
}

// maGotHello answers a request, and takes note of an answer: what was sent
// before the question has arrived.
func (m *Machine) maGotHello(a *assoc) {
	id := m.in.HelloID
	switch {
	case m.in.R:
		// Nobody needs more answers than a few in a second.
		if !a.peer.hellos.take(m.now, m.cfg.Limits.HelloRate, m.cfg.Limits.HelloBurst) {
			m.note("hello-rate-limited", a.remote, "MA-Hellos of this peer")
			return
		}
		m.sendHello(a, id, false)
	case id != 0 && id == a.helloID:
		a.acked, a.helloID, a.giveUpAt = a.helloSeq, 0, never
		a.left = slices.DeleteFunc(a.left, func(l leftBehind) bool { return l.seq <= a.acked })
	}
}

func (m *Machine) sendHello(a *assoc, id uint32, request bool) {
	e := m.newMessage(wire.MAHello, 0)
	e.R = request
	e.HasHelloID, e.HelloID = true, id
	m.stats.HellosOut++
	m.maSend(a, e)
}

// maAsk is rule 4. Ours ask for an answer, so that they also find out whether
// the peer lives and what has arrived there (RFC 5971 §4.4.5).
func (m *Machine) maAsk(a *assoc) {
	if a.helloID != 0 {
		m.sendHello(a, 0, false)
		return
	}
	if m.helloID++; m.helloID == 0 {
		m.helloID = 1
	}
	a.helloID, a.helloSeq = m.helloID, a.seq
	a.giveUpAt = m.now + int64(m.cfg.HelloTimeout)
	m.sendHello(a, a.helloID, true)
}

// maStands is rule 6.
func (m *Machine) maStands(a *assoc) {
	a.state = maConnected
	a.lastRx, a.lastTx, a.giveUpAt = m.now, m.now, never
	if !a.dialled {
		m.pending--
	}
	m.rank(a.peer)
	waiting, refused := a.waiting, 0
	a.waiting = nil
	for _, r := range waiting {
		r.waitMA = nil
		if !m.authorised(a.cert, a.peer.addr, &r.mri, r.via) {
			refused++
			m.noteNotAuthorised(a, a.peer.addr, &r.mri, r.via)
			m.giveUp(r, errText(ErrNotAuthorised, a.cert.String()))
			continue
		}
		m.setAssoc(r, a)
		m.querySM(r, tgMAConnected, nil)
	}
	if refused > 0 && refused == len(waiting) {
		// RFC 5971 §4.4.2: "it MUST be torn down without further GIST exchanges"
		m.maClose(a, "the peer is not authorised")
	}
}

// maUnused starts the wait for tg_MAIdle when the last user has gone.
func (m *Machine) maUnused(a *assoc) {
	if a.nUsers == 0 && len(a.waiting) == 0 && a.unusedSince == never {
		a.unusedSince = m.now
		m.maArm(a)
	}
}

// maClose closes the connection and forgets the association.
func (m *Machine) maClose(a *assoc, why string) {
	m.note("association-closed", a.remote, why)
	m.do(CloseConn{a.id})
	m.maRemove(a, nil)
}

// maDead is rule 8: "report failure to routing state machines and signalling
// applications; destroy self".
func (m *Machine) maDead(a *assoc, ev maEvent) {
	if ev == maToNoHello {
		m.maClose(a, "nobody needs it")
		return
	}
	m.stats.AssociationsFailed++
	m.maRemove(a, nil)
}

// maRemove takes a away from the routing states that use it or wait for it.
// Where a message may not have arrived "this MUST be reported as a
// NetworkNotification error" (RFC 5971 §6.4). Our own handshakes end with
// refused where that is given, for another association would fare no better.
func (m *Machine) maRemove(a *assoc, refused error) {
	delete(m.assocs, a.id)
	a.gone, m.lastHeard = true, nil
	m.stats.Associations--
	if !a.dialled && a.state == maAwaitingConnection {
		m.pending--
	}
	a.unusedSince = m.now // not to be armed again
	m.timers.remove(&a.tm)
	p := a.peer
	if p != nil {
		if i := slices.Index(p.assocs, a); i >= 0 {
			p.assocs = slices.Delete(p.assocs, i, i+1)
		}
	}
	for i := range a.left {
		l := &a.left[i]
		m.do(NetworkNotification{NSLPID: l.nslp, SID: l.sid, MRI: l.mri, Type: CommunicationFailure, SII: p.sii})
	}
	lost := a.waiting
	a.waiting = nil // at once: one by one would take the square of their number
	for _, r := range lost {
		r.waitMA = nil
	}
	for r := a.users; r != nil; r = r.userNext {
		lost = append(lost, r)
	}
	for _, r := range lost {
		if r.lastSeq > a.acked {
			m.notify(r, CommunicationFailure, r.status, p.sii)
		}
		m.setAssoc(r, nil)
		if a.heard { // it was good for something: the next one may come at once
			r.attempts = 0
		}
		switch {
		case r.querying && refused != nil:
			m.giveUp(r, refused)
		case r.querying:
			m.querySM(r, erMALost, nil)
		default:
			m.respondSM(r, erMALostResponder, nil)
		}
	}
	m.timers.remove(&a.tm)
	if p != nil {
		m.unref(p)
	}
}

// used says whether anything here needs the association.
func (a *assoc) used() bool { return a.nUsers > 0 || len(a.waiting) > 0 }

// maArm works out when a has to be looked at. Times that moved back with
// traffic are found out when the timer fires.
func (m *Machine) maArm(a *assoc) {
	if a.gone {
		return
	}
	if a.state == maConnected && a.helloAt == never {
		a.helloAt = m.helloTime(a)
	}
	at := a.giveUpAt
	switch a.state {
	case maConnected:
		at = min(at, a.helloAt)
		if !a.used() {
			at = min(at, a.idleFrom(m))
		}
	case maIdle:
		at = min(at, m.noHello(a))
	}
	if a.state != maAwaitingConnection {
		at = min(at, a.certEnd)
	}
	if a.tm.pos != 0 && a.tm.at <= at {
		return
	}
	m.timers.set(a, at)
}

// helloTime is when the next MA-Hello is due: before the peer's hold time has
// passed since we sent anything, and, to learn whether it lives, before ours
// has since it did. RFC 5971 §4.4.5: between 1/2 and 3/4 of it, at random.
func (m *Machine) helloTime(a *assoc) instant {
	peer := max(a.holdPeer, time.Second)
	at := a.lastTx + int64(m.between(peer))
	if a.helloID == 0 {
		at = min(at, a.lastRx+int64(m.between(max(m.cfg.MAHoldTime, time.Second))))
	}
	return max(at, m.now)
}

// idleFrom is when an unused association becomes Idle.
func (a *assoc) idleFrom(m *Machine) instant {
	return max(a.unusedSince, a.lastReal) + int64(m.cfg.MAIdle)
}

// noHello is when an Idle association goes: "A node MUST NOT tear down an MA if
// it has received traffic from its peer over that period" (RFC 5971 §4.4.5).
func (m *Machine) noHello(a *assoc) instant { return a.lastRx + int64(m.cfg.MAHoldTime) }

// fire runs what is due of: the end of connecting, of a hello exchange,
// SendHello, tg_MAIdle and NoHello.
func (a *assoc) fire(m *Machine) {
	switch {
	case a.giveUpAt <= m.now && a.state == maAwaitingConnection:
		m.do(CloseConn{a.id})
		m.note("association-down", a.remote, fmt.Sprintf("not set up within %v", m.cfg.ConnectTimeout))
		m.maEvent(a, maErConnect, nil)
	case a.giveUpAt <= m.now:
		m.do(CloseConn{a.id})
		m.note("association-down", a.remote, fmt.Sprintf("no answer to MA-Hello within %v", m.cfg.HelloTimeout))
		m.maEvent(a, maErFailure, nil)
	case a.certEnd <= m.now && a.state != maAwaitingConnection:
		m.do(CloseConn{a.id})
		m.note("association-down", a.remote, "the peer's certificate has expired")
		m.maEvent(a, maErFailure, nil)
	case a.state == maConnected && !a.used() && a.idleFrom(m) <= m.now:
		m.maEvent(a, maTgMAIdle, nil)
	case a.state == maConnected && a.helloAt <= m.now:
		if due := m.helloDue(a); due {
			m.maEvent(a, maToSendHello, nil)
		}
		a.helloAt = m.helloTime(a)
	case a.state == maIdle && m.noHello(a) <= m.now:
		m.maEvent(a, maToNoHello, nil)
	}
	m.maArm(a)
}

// helloDue says whether the traffic since SendHello was set has not made the
// MA-Hello needless.
func (m *Machine) helloDue(a *assoc) bool {
	return m.now-a.lastTx >= int64(max(a.holdPeer, time.Second)/2) ||
		m.now-a.lastRx >= int64(max(m.cfg.MAHoldTime, time.Second)/2)
}
