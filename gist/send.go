package gist

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// dmodeOverhead is the "allowance for IP and transport layer encapsulation"
// (RFC 5971 §4.3.3).
const dmodeOverhead = 64

// newMessage returns the machine's message for encoding, empty but for a header.
func (m *Machine) newMessage(t wire.MessageType, nslp wire.NSLPID) *wire.Message {
	m.enc = wire.Message{Header: wire.Header{HopCount: DefaultHopCount, NSLPID: nslp, Type: t, S: true}}
	return &m.enc
}

// setKey sets what names the routing state.
func setKey(e *wire.Message, mri *wire.MRI, sid wire.SID) {
	e.HasMRI, e.MRI, e.HasSID, e.SID = true, *mri, true, sid
}

func (m *Machine) setNLI(e *wire.Message, address netip.Addr, ttl uint8, validity time.Duration) {
	e.HasNLI = true
	e.NLI = wire.NLI{PeerIdentity: m.cfg.Identity, Address: address, ValidityMS: toMS(validity), IPTTL: ttl}
}

// sendDatagram sends e in D-mode if the rate limit lets it: "D-mode messages
// MUST be queued until transmission is re-enabled, or they MAY be dropped"
// (RFC 5971 §5.3.3). Queries look at the limit first and wait. It returns what
// was sent, nil if nothing was.
func (m *Machine) sendDatagram(e *wire.Message, local netip.Addr, to netip.AddrPort, ttl uint8, alert bool) []byte {
	return m.emit(e, SendDatagram{Local: local, To: to, TTL: ttl, RouterAlert: alert})
}

// emit is sendDatagram with all that can be said of a datagram but its payload.
func (m *Machine) emit(e *wire.Message, d SendDatagram) []byte {
	if !m.dmode.take(m.now, m.cfg.Limits.DModeRate, m.cfg.Limits.DModeBurst) {
		m.note("dmode-rate-limited", d.To, e.Type.String())
		return nil
	}
	n, err := e.Size()
	if err != nil {
		m.note("too-long", d.To, err.Error())
		return nil
	}
	b := e.AppendDatagram(make([]byte, 0, wire.MagicLen+n))
	m.stats.DatagramsOut++
	d.Payload = b
	m.do(d)
	return b
}

// encode returns e as it goes over an association, good until the next event.
func (m *Machine) encode(e *wire.Message) []byte {
	start := len(m.encoded)
	var err error
	if m.encoded, err = e.TryAppend(m.encoded); err != nil {
		m.note("too-long", netip.AddrPort{}, err.Error())
		return nil
	}
	return m.encoded[start:len(m.encoded):len(m.encoded)]
}

// sendMessage is the API's SendMessage (RFC 5971 §B.1): tg_NSLPData of its §6.
func (m *Machine) sendMessage(s *SendMessage) {
	out := &m.sending // not a new one for each message
	*out = outMsg{data: s.NSLPData, handle: s.Handle, attr: s.Attr, hop: s.HopCount, ttl: s.TTL, report: s.Report}
	if out.hop == 0 {
		out.hop = DefaultHopCount
	}
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = m.cfg.MessageTimeout
	}
	out.deadline = m.now + int64(timeout)
	if err := m.sendable(s); err != nil {
		m.fail(out, s.NSLPID, s.SID, &s.MRI, err)
		return
	}
	r := m.lookup(s.NSLPID, s.SID, &s.MRI)
	if r == nil || s.SII != 0 || s.Attr.Stateless {
		if err := s.MRI.Check(); err != nil {
			m.fail(out, s.NSLPID, s.SID, &s.MRI, errors2(ErrBadMRI, err))
			return
		}
	}
	if s.SII != 0 || s.Attr.Stateless {
		send := m.sendExplicit
		if s.Attr.Stateless {
			send = m.sendStateless
		}
		if err := send(s, out); err != nil {
			m.fail(out, s.NSLPID, s.SID, &s.MRI, err)
		}
		return
	}
	if r == nil {
		m.nodeTgNSLPData(s, out)
		return
	}
	r.forget = false
	if r.querying {
		m.querySM(r, tgNSLPData, out)
	} else {
		m.respondSM(r, tgNSLPDataResponder, out)
	}
}

// sendable says what is wrong with a message before anything is made for it.
func (m *Machine) sendable(s *SendMessage) error {
	switch {
	case !m.serves(s.NSLPID):
		return fmt.Errorf("%w: %d", ErrUnknownNSLPID, s.NSLPID)
	case len(s.NSLPData) == 0 || len(s.NSLPData)%4 != 0: // RFC 5971 §A.3.10
		return fmt.Errorf("%w: %d octets", ErrBadData, len(s.NSLPData))
	case len(s.NSLPData) > wire.MaxObjectLen:
		return fmt.Errorf("%w: %d octets, want at most %d", ErrTooLarge, len(s.NSLPData), wire.MaxObjectLen)
	case s.Attr.Secure && !m.cfg.TLS:
		return ErrNoSecurity
	case s.HasHopCount && s.HopCount == 0:
		return ErrHopCount
	case s.Attr.Stateless && (s.Attr.Reliable || s.Attr.Secure || s.SII != 0):
		return errText(ErrNoAssociation, "Q-mode is neither reliable nor secure, nor explicitly routed")
	case m.selfIsDestination(&s.MRI):
		return ErrSelf
	}
	return nil
}

// sendExplicit sends by SII handle: such messages "MUST bypass the routing
// state tables at the sender, and this MUST be indicated by setting the E-flag"
// (RFC 5971 §7.1.4, §7.1.5).
func (m *Machine) sendExplicit(s *SendMessage, out *outMsg) error {
	p := m.bySII[s.SII]
	if p == nil {
		return fmt.Errorf("%w: %d", ErrUnknownSII, s.SII)
	}
	mri := &s.MRI
	if r := m.lookup(s.NSLPID, s.SID, mri); r != nil && r.peer == p {
		mri = r.onWire()
	}
	e := m.dataMessage(s.NSLPID, s.SID, mri, out)
	e.E = true
	if a := m.usable(p, s.Attr.Secure, &s.MRI, netip.Addr{}); a != nil {
		m.maTx(a, m.encode(e))
		m.report(out, s.NSLPID, s.SID, &s.MRI, a)
		return nil
	}
	if s.Attr.Reliable || s.Attr.Secure || m.cmodeOnly(&s.MRI) {
		return fmt.Errorf("%w: %v", ErrNoAssociation, p.addr)
	}
	local := m.addressLike(p.addr)
	m.setNLI(e, local, 0, m.validity(s.MRI.Method))
	return m.sendDModeData(s, out, e, SendDatagram{Local: local, To: netip.AddrPortFrom(p.addr, p.port)})
}

// sendDModeData sends Data that uses no routing state.
func (m *Machine) sendDModeData(s *SendMessage, out *outMsg, e *wire.Message, d SendDatagram) error {
	if !m.fitsDMode(e, d.To.Addr()) {
		return fmt.Errorf("%w: %d octets in D-mode, want at most %d", ErrTooLarge, dmodeSize(e), m.mtuTo(d.To.Addr())-dmodeOverhead)
	}
	if m.emit(e, d) == nil {
		return errText(ErrLimit, "D-mode messages")
	}
	m.report(out, s.NSLPID, s.SID, &s.MRI, nil)
	return nil
}

func (m *Machine) dataMessage(nslp wire.NSLPID, sid wire.SID, mri *wire.MRI, out *outMsg) *wire.Message {
	e := &m.encData
	e.Header = wire.Header{HopCount: out.hop, NSLPID: nslp, Type: wire.Data, S: true}
	setKey(e, mri, sid)
	e.HasNLI = false
	e.NSLPData = out.data
	return e
}

// dmodeSize is the size of e as a D-mode message.
func dmodeSize(e *wire.Message) int {
	n, err := e.Size()
	if err != nil {
		return 1 << 30
	}
	return n + wire.MagicLen
}

// fitsDMode says whether e is below the threshold above which a message "MUST be
// sent over C-mode" (RFC 5971 §4.3.3).
func (m *Machine) fitsDMode(e *wire.Message, to netip.Addr) bool {
	return dmodeSize(e)+dmodeOverhead <= m.mtuTo(to)
}

// fitsPath is fitsDMode on the way to r's peer, or to where it will be found.
func (m *Machine) fitsPath(r *routing, e *wire.Message) bool {
	to := farEnd(&r.mri)
	if r.peer != nil {
		to = r.peer.addr
	}
	return m.fitsDMode(e, to)
}

// transmit sends out by r's state if it can be sent now. needMA says that only
// an association will do and that there is none; otherwise the D-mode rate limit
// does not let it out yet. RFC 5971 §4.3.3
func (m *Machine) transmit(r *routing, out *outMsg) (sent, needMA bool) {
	if r.ma == nil && (r.waitMA != nil || out.attr.Reliable || m.cmodeOnly(&r.mri)) {
		return false, true
	}
	if out.attr.Secure && (r.ma == nil || !r.ma.stack.Secure()) { // RFC 5971 §4.1.2
		return false, true
	}
	var b []byte
	if r.ma == nil {
		e := m.dataMessage(r.nslp, r.sid, r.onWire(), out)
		local, ttl := m.dmodeSource(r, out)
		if m.setNLI(e, local, ttl, m.validity(r.mri.Method)); !m.fitsPath(r, e) {
			return false, true
		}
		if r.peer != nil {
			b = m.sendDatagram(e, local, netip.AddrPortFrom(r.peer.addr, r.peer.port), dmodeTTL(r, out.ttl), false)
		}
	} else if b = m.encodeData(r, out); b != nil {
		r.lastSeq = m.maTx(r.ma, b)
	}
	if b == nil {
		return false, false
	}
	if r.peer.sent == nil {
		r.peer.sent = new(sentRing)
	}
	r.peer.sent.put(r, out)
	m.report(out, r.nslp, r.sid, &r.mri, r.ma)
	return true, false
}

// report tells what a message has left with, if that was asked for; a nil is
// D-mode. RFC 5971 §B.3
func (m *Machine) report(out *outMsg, nslp wire.NSLPID, sid wire.SID, mri *wire.MRI, a *assoc) {
	if out.report && out.handle != 0 {
		m.do(MessageStatus{Handle: out.handle, NSLPID: nslp, SID: sid, MRI: *mri, Attr: TransferAttributes{
			Reliable: a != nil, Secure: a != nil && a.stack.Secure(), Stateless: out.attr.Stateless,
		}})
	}
}

// defaultTTL is the IP TTL of D-mode messages downstream: it stands in the NLI
// too, so that it must be known.
const defaultTTL = 64

// dmodeTTL is the IP TTL of a message in the normal encapsulation. Upstream the
// system's: no NLI says what it was when it was sent, so it must not vary.
func dmodeTTL(r *routing, wanted uint8) uint8 {
	switch {
	case r.mri.Upstream || r.mri.Method == wire.OffPath:
		return 0
	case wanted != 0:
		return wanted
	}
	return defaultTTL
}

// dmodeSource returns the NLI address and IP-TTL of D-mode Data: downstream, the
// IP-TTL is the IP header's; upstream, the distance stored (RFC 5971 §5.2.2).
func (m *Machine) dmodeSource(r *routing, out *outMsg) (local netip.Addr, ttl uint8) {
	local = r.local
	if !local.IsValid() || r.mri.Method == wire.OffPath {
		local = m.addressFor(&r.mri)
	}
	if r.mri.Upstream {
		return local, r.hops
	}
	return local, dmodeTTL(r, out.ttl)
}

// touch restarts Inactive_QNode.
func (m *Machine) touch(r *routing) {
	r.lastData = m.now
	if r.idlePeriod > 0 {
		r.idleAt = m.now + int64(r.idlePeriod)
	}
}

// hasWaiting says whether messages of r wait, or will when they come back.
func (r *routing) hasWaiting() bool {
	return r.waiting != nil && len(r.waiting.msgs)+r.waiting.resend > 0
}

// backlog returns r's backlog, new if need be.
func (m *Machine) backlog(r *routing) *backlog {
	if r.waiting == nil {
		if n := len(m.freeLists); n > 0 {
			r.waiting = m.freeLists[n-1]
			m.freeLists = m.freeLists[:n-1]
		} else {
			r.waiting = new(backlog)
		}
	}
	return r.waiting
}

// dropBacklog gives an empty backlog back.
func (m *Machine) dropBacklog(r *routing) {
	w := r.waiting
	if w == nil {
		return
	}
	m.queued -= w.bytes
	r.waiting = nil
	clear(w.msgs)
	*w = backlog{msgs: w.msgs[:0]}
	if len(m.freeLists) < 64 {
		m.freeLists = append(m.freeLists, w)
	}
}

// enqueue keeps out until r can send; false, with a MessageStatus, where a
// bound is reached.
func (m *Machine) enqueue(r *routing, out *outMsg) bool {
	w, n, l := m.backlog(r), len(out.data), &m.cfg.Limits
	if w.bytes+n > l.QueuedPerSession || m.queued+n > l.QueuedBytes {
		m.fail(out, r.nslp, r.sid, &r.mri, fmt.Errorf("%w: %d octets of this session, %d in all", ErrQueueFull, w.bytes, m.queued))
		return false
	}
	w.bytes += n
	m.queued += n
	w.msgs = append(w.msgs, *out)
	m.timers.notLater(r, out.deadline)
	return true
}

// flush sends what waits, what was taken back first, as far as it can be sent.
func (m *Machine) flush(r *routing) {
	w := r.waiting
	if w == nil || r.waitMA != nil {
		return
	}
	if w.resend > 0 {
		m.requeueTakenBack(r)
	}
	sent := 0
	for i := range w.msgs {
		n := len(w.msgs[i].data)
		ok, needMA := m.transmit(r, &w.msgs[i])
		if !ok {
			if !needMA {
				m.retryLater(r)
			}
			r.wantMA = r.wantMA || needMA // too large for the path to the peer, which was not known
			break
		}
		w.bytes -= n
		m.queued -= n
		sent++
	}
	if sent == len(w.msgs) && w.confirm == nil && w.query == nil {
		m.dropBacklog(r)
	} else {
		w.msgs = slices.Delete(w.msgs, 0, sent)
	}
	if r.forget && r.waiting == nil {
		m.destroy(r, ErrForgotten)
	}
}

// requeueTakenBack puts messages that the peer had no state for before those
// that wait; each is sent three times at most.
func (m *Machine) requeueTakenBack(r *routing) {
	w := r.waiting
	back := r.peer.sent.takeBack(r, w.resend)
	w.resend = 0
	keep := back[:0]
	for _, out := range back {
		if out.tries >= 3 || out.deadline <= m.now {
			m.fail(&out, r.nslp, r.sid, &r.mri, errText(ErrPeerRefused, "no routing state there, again and again"))
			continue
		}
		w.bytes += len(out.data)
		m.queued += len(out.data)
		keep = append(keep, out)
	}
	w.msgs = slices.Insert(w.msgs, 0, keep...)
}

// expireQueue fails the messages whose time is over.
func (m *Machine) expireQueue(r *routing) {
	w := r.waiting
	if w == nil {
		return
	}
	w.msgs = slices.DeleteFunc(w.msgs, func(out outMsg) bool {
		if out.deadline > m.now {
			return false
		}
		w.bytes -= len(out.data)
		m.queued -= len(out.data)
		m.fail(&out, r.nslp, r.sid, &r.mri, ErrTimeout)
		return true
	})
	if !r.hasWaiting() && w.confirm == nil && w.query == nil {
		m.dropBacklog(r)
	}
}

// failAll fails everything that waits.
func (m *Machine) failAll(r *routing, err error) {
	w := r.waiting
	if w == nil {
		return
	}
	for i := range w.msgs {
		m.fail(&w.msgs[i], r.nslp, r.sid, &r.mri, err)
	}
	m.dropBacklog(r)
}

// fail is MessageStatus (RFC 5971 §B.3).
func (m *Machine) fail(out *outMsg, nslp wire.NSLPID, sid wire.SID, mri *wire.MRI, err error) {
	m.stats.MessagesFailed++
	if out.handle == 0 {
		m.note("message-failed", netip.AddrPort{}, err.Error())
		return
	}
	m.do(MessageStatus{Handle: out.handle, NSLPID: nslp, SID: sid, MRI: *mri, Err: err})
}

// notify is NetworkNotification (RFC 5971 §B.4).
func (m *Machine) notify(r *routing, t NotificationType, st RoutingStatus, sii SII) {
	m.do(NetworkNotification{NSLPID: r.nslp, SID: r.sid, MRI: r.mri, Type: t, Status: st, SII: sii})
}

// deliver is RecvMessage of the NSLP data in m.in (RFC 5971 §B.2). r nil: no
// routing state has validated it, and p nil: nor is its sender a peer, so it is
// who its NLI says.
func (m *Machine) deliver(o *origin, r *routing, p *peer) {
	msg := &m.in
	rm := m.doRecv()
	rm.Data, rm.NSLPID, rm.SID, rm.MRI = msg.NSLPData, msg.NSLPID, msg.SID, msg.MRI
	rm.TTL, rm.HopCount, rm.Inbound = o.ttl, msg.HopCount, o.local.Addr()
	if p != nil {
		rm.SII, rm.Peer, rm.PeerID = p.sii, p.addr, p.id
	} else {
		rm.SII, rm.Peer, rm.PeerID = 0, msg.NLI.Address, string(msg.NLI.PeerIdentity)
	}
	rm.Attr = TransferAttributes{
		Reliable: o.ma != nil, Secure: o.ma != nil && o.ma.stack.Secure(), Stateless: msg.C,
		ExplicitlyRouted: r == nil, ReturnRoutable: r != nil || o.ma != nil, SourceIsEndpoint: nearEnd(&msg.MRI) == rm.Peer,
	}
	rm.Certificate = nil
	if o.ma != nil {
		rm.Certificate = o.ma.cert
	}
	rm.Via, rm.Distance = netip.Addr{}, 0
	if r != nil {
		rm.Via, rm.Distance = r.via, r.hops
		m.touch(r)
	}
	m.stats.MessagesIn++
}
