package gist

import (
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// smState is the state of a Querying-SM or a Responding-SM (RFC 5971 §6.2, §6.3).
type smState uint8

const (
	awaitingResponse smState = iota // Querying-SM
	awaitingConfirm                 // Responding-SM
	established
	awaitingRefresh
)

var smStateNames = [...]string{"Awaiting Response", "Awaiting Confirm", "Established", "Awaiting Refresh"}

func (s smState) String() string { return smStateNames[s] }

// routing is one item of message routing state, with the state machine that
// maintains it: how to reach the peer in the direction that mri gives.
// RFC 5971 §4.2.1
type routing struct {
	sid  wire.SID
	mri  wire.MRI
	nslp wire.NSLPID

	querying    bool // Querying-SM; otherwise Responding-SM
	state       smState
	status      RoutingStatus
	dead        bool
	forget      bool // no further interest: goes when what waits has left
	wantMA      bool // some message needed an association
	wantSecure  bool // and one of them a secure one
	askedMA     bool // the last Query asked for one
	running     bool // a Query is out, or will be: No_Response runs
	verify      bool // Tentative: the next message starts a refresh
	hops        uint8
	flaps       uint8  // route changes in a row
	iface       uint16 // Responding: where the Query was intercepted; 0: not known
	seenTTL     uint8  // of the last D-mode message of the peer, see checkTTL; 0: none
	orphan      bool   // Querying: the session's upstream state has expired, so no refresh
	attempts    uint8  // Queries sent without getting an association or an answer
	sentQueries uint8  // Queries sent with this cookie base

	peer    *peer
	ma      *assoc     // connected; nil: none or not yet
	waitMA  *assoc     // being connected for us
	local   netip.Addr // Querying: where Queries leave from
	nat     *wire.MRI  // what mri is called in messages; nil: no NAT, it is the same
	via     netip.Addr // Responding: our edge that relayed the Query
	lastSeq uint64     // of our last Data on ma

	// cookie is the base of the Query-Cookies of the last handshake: each
	// Query of it adds its number to the last octet.
	cookie [16]byte

	noResponseAt instant // No_Response
	refreshAt    instant // Refresh_QNode
	validUntil   instant // the peer's address, and Expire_RNode
	idleAt       instant // Inactive_QNode; for a responder: interest ends
	lastData     instant
	calmAt       instant // until then a further route change waits for longer
	idlePeriod   time.Duration
	watch        *watched // where Route tells the path
	waiting      *backlog
	tm           alarm

	next               *routing // same SID
	mriPrev, mriNext   *routing // same MRI hash
	userPrev, userNext *routing // same association
	allPrev, allNext   *routing // all there are, see revalidation
	round              uint32
}

// backlog is what a routing state holds while its messages cannot leave.
type backlog struct {
	msgs    []outMsg
	bytes   int
	confirm []byte  // the Confirm, until the association stands
	query   []byte  // NSLP data for the Queries of the next handshake
	resend  int     // messages that "No Routing State" took back
	retryAt instant // the D-mode rate limit lets the next one out; 0: nothing waits for that
}

// outMsg is one message of a signalling application on its way out.
type outMsg struct {
	data     []byte
	handle   uint64
	deadline instant
	attr     TransferAttributes
	hop      uint8
	ttl      uint8 // of IP, in D-mode; 0: the default
	report   bool
	tries    uint8 // how often it was sent before
}

func (r *routing) alarm() *alarm { return &r.tm }

// peer is an adjacent GIST node as its NLI names it; SII handles name these.
type peer struct {
	id     string
	addr   netip.Addr
	port   uint16 // for D-mode
	sii    SII
	refs   int      // routing states and associations
	assocs []*assoc // best first is worked out when asked
	sent   *sentRing
	goneAt instant // unused: forgotten then
	tm     alarm

	host    *host // nil: unused
	queries bucket
	hellos  bucket // answers to MA-Hellos, over all of its associations

	prev, next *peer // in Machine.unused
}

// peerList is a list of peers by their prev and next.
type peerList struct{ next, last *peer }

func (l *peerList) add(p *peer) {
	if p.prev = l.last; p.prev != nil {
		p.prev.next = p
	} else {
		l.next = p
	}
	l.last = p
}

func (l *peerList) remove(p *peer) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.next = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		l.last = p.prev
	}
	p.prev, p.next = nil, nil
}

func (p *peer) alarm() *alarm { return &p.tm }

type peerKey struct {
	id   string
	addr netip.Addr
}

// sentRing remembers the last messages sent to a peer: what a "No Routing
// State" error takes back is sent again from here. RFC 5971 §4.4.6
type sentRing struct {
	next int
	msgs [32]sentMsg
}

type sentMsg struct {
	r   *routing
	out outMsg
}

// takeBack removes and returns the last n messages of r, oldest first.
func (s *sentRing) takeBack(r *routing, n int) []outMsg {
	if s == nil {
		return nil
	}
	var out []outMsg
	for i := range len(s.msgs) {
		e := &s.msgs[(s.next-1-i+2*len(s.msgs))%len(s.msgs)]
		if len(out) == n {
			break
		}
		if e.r == r {
			out = append(out, e.out)
			*e = sentMsg{}
		}
	}
	slices.Reverse(out)
	return out
}

// put notes that out has left once more.
func (s *sentRing) put(r *routing, out *outMsg) {
	e := &s.msgs[s.next]
	e.r, e.out = r, *out
	e.out.tries++
	s.next = (s.next + 1) % len(s.msgs)
}

// lookup finds the routing state for a message that is to be sent along mri: it
// "MUST also take the SID into account" (RFC 5971 §8.3).
func (m *Machine) lookup(nslp wire.NSLPID, sid wire.SID, mri *wire.MRI) *routing {
	if h := m.recall.last; h != nil && h.r.is(nslp, sid, mri) {
		return h.r
	}
	if h := m.recall.find(sid.Hash(mri.Upstream)); h != nil && h.r.is(nslp, sid, mri) {
		m.recall.last = h
		return h.r
	}
	for r := m.sessions[sid]; r != nil; r = r.next {
		if r.is(nslp, sid, mri) {
			if !m.mayBeUsed(r) {
				return nil
			}
			return r
		}
	}
	return nil
}

// is says whether r is the state for a message that is to be sent along mri.
func (r *routing) is(nslp wire.NSLPID, sid wire.SID, mri *wire.MRI) bool {
	return r.sid == sid && r.nslp == nslp && r.mri.Equal(mri)
}

func (m *Machine) mriHash(mri *wire.MRI) uint64 {
	m.scratch = wire.AppendMRI(m.scratch[:0], mri)
	return keyedHash(m.hashKey, m.scratch)
}

// newRouting installs an empty item of routing state, or returns nil where a
// limit forbids it.
func (m *Machine) newRouting(nslp wire.NSLPID, sid wire.SID, mri *wire.MRI, querying bool) *routing {
	if m.stats.RoutingStates >= m.cfg.Limits.RoutingStates {
		return nil
	}
	head, n := m.sessions[sid], 0
	for r := head; r != nil; r = r.next {
		n++
	}
	if n >= m.cfg.Limits.RoutingPerSession {
		return nil
	}
	r := &routing{
		nslp: nslp, sid: sid, mri: *mri, querying: querying, status: Bad, next: head,
		noResponseAt: never, refreshAt: never, validUntil: never, idleAt: never, lastData: -never / 2,
	}
	if querying {
		r.idlePeriod = m.cfg.Inactivity
		r.idleAt = m.now + int64(r.idlePeriod)
		m.stats.Querying++
	}
	m.sessions[sid] = r
	h := m.mriHash(mri)
	if r.mriNext = m.byMRI[h]; r.mriNext != nil {
		r.mriNext.mriPrev = r
	}
	m.byMRI[h] = r
	m.states.append(r)
	m.stats.RoutingStates++
	return r
}

// destroy removes r and everything that belongs to it alone. What still waits
// fails with err.
func (m *Machine) destroy(r *routing, err error) {
	if r.dead {
		return
	}
	r.dead = true
	m.recall.forget(r)
	m.stopQuerying(r)
	m.timers.remove(&r.tm)
	m.unlinkSession(r)
	m.unlinkMRI(r)
	m.states.remove(r)
	m.setAssoc(r, nil)
	m.leaveQueue(r)
	m.setPeer(r, nil)
	m.unwatch(r)
	m.stats.RoutingStates--
	if r.querying {
		m.stats.Querying--
	}
	m.failAll(r, err)
}

func (m *Machine) unlinkSession(r *routing) {
	head := m.sessions[r.sid]
	if head == r {
		if r.next == nil {
			delete(m.sessions, r.sid)
		} else {
			m.sessions[r.sid] = r.next
		}
		return
	}
	for p := head; p != nil; p = p.next {
		if p.next == r {
			p.next = r.next
			return
		}
	}
}

func (m *Machine) unlinkMRI(r *routing) {
	if r.mriNext != nil {
		r.mriNext.mriPrev = r.mriPrev
	}
	if r.mriPrev != nil {
		r.mriPrev.mriNext = r.mriNext
		return
	}
	h := m.mriHash(&r.mri)
	if r.mriNext != nil {
		m.byMRI[h] = r.mriNext
	} else {
		delete(m.byMRI, h)
	}
}

// setAssoc makes a the association that r uses.
func (m *Machine) setAssoc(r *routing, a *assoc) {
	if r.ma == a {
		return
	}
	if old := r.ma; old != nil {
		if r.lastSeq > old.acked && !r.dead && !old.gone {
			m.leaveBehind(r)
		}
		if r.userPrev != nil {
			r.userPrev.userNext = r.userNext
		} else {
			old.users = r.userNext
		}
		if r.userNext != nil {
			r.userNext.userPrev = r.userPrev
		}
		r.userPrev, r.userNext, r.ma = nil, nil, nil
		old.nUsers--
		m.maUnused(old)
	}
	if a != nil {
		r.ma, r.lastSeq = a, 0
		if r.userNext = a.users; a.users != nil {
			a.users.userPrev = r
		}
		a.users = r
		a.nUsers++
		a.unusedSince = never
	}
}

// leaveQueue takes r off the list of those that wait for an association.
func (m *Machine) leaveQueue(r *routing) {
	if a := r.waitMA; a != nil {
		if i := slices.Index(a.waiting, r); i >= 0 {
			a.waiting = slices.Delete(a.waiting, i, i+1)
		}
		r.waitMA = nil
		m.maUnused(a)
	}
}

// findPeer returns the peer with this NLI, or nil.
func (m *Machine) findPeer(nli *wire.NLI) *peer {
	return m.peers[peerKey{string(nli.PeerIdentity), nli.Address}]
}

// getPeer returns the peer with this NLI, new if need be; nil at the limit.
func (m *Machine) getPeer(nli *wire.NLI) *peer {
	if p := m.findPeer(nli); p != nil {
		return p
	}
	if !m.makePeerRoom(nli) {
		return nil
	}
	m.lastSII++
	p := &peer{id: string(nli.PeerIdentity), addr: nli.Address, port: m.cfg.Port, sii: m.lastSII, goneAt: never}
	m.peers[peerKey{p.id, p.addr}] = p
	m.bySII[p.sii] = p
	m.unusedFromNow(p)
	return p
}

func (m *Machine) setPeer(r *routing, p *peer) {
	if r.peer == p {
		return
	}
	if p != nil {
		m.ref(p)
		p.host.states++
	}
	if r.peer != nil {
		r.peer.host.states--
		m.unref(r.peer)
	}
	r.peer = p
}

func (m *Machine) ref(p *peer) {
	if p.refs++; p.refs > 1 {
		return
	}
	p.goneAt = never
	m.timers.remove(&p.tm)
	m.unused.remove(p)
	m.useHost(p)
}

// unref lets go of a peer. Its SII handle stays good for a while.
func (m *Machine) unref(p *peer) {
	if p.refs--; p.refs == 0 {
		p.sent = nil
		m.leaveHost(p)
		m.unusedFromNow(p)
	}
}

func (m *Machine) unusedFromNow(p *peer) {
	p.goneAt = m.now + int64(m.cfg.Inactivity)
	m.timers.set(p, p.goneAt)
	m.unused.add(p)
}

// fire forgets a peer that nothing has used for long.
func (p *peer) fire(m *Machine) { m.forgetPeer(p) }

// forgetPeer forgets a peer that nothing refers to.
func (m *Machine) forgetPeer(p *peer) {
	m.timers.remove(&p.tm)
	m.unused.remove(p)
	delete(m.peers, peerKey{p.id, p.addr})
	delete(m.bySII, p.sii)
}
