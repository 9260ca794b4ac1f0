package gist

import (
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// Error messages: RFC 5971 §5.6.

// reject drops the message in m.in, notes why, and answers with an Error.
func (m *Machine) reject(o *origin, id wire.ErrorID, kind string) { m.rejectWith(o, id, nil, kind) }

// rejectMRI is reject with the MRI as additional information, "so the error
// originator can indicate the part of the MRI that caused the problem" (RFC 5971
// §A.4.4.12).
func (m *Machine) rejectMRI(o *origin, id wire.ErrorID, part mriPart) {
	m.rejectWith(o, id, []wire.AdditionalInfo{mriInfo(&m.in.MRI, part)}, "mri")
}

// mriPart is a field of an MRI object.
type mriPart uint8

const (
	mriFlags mriPart = iota // IP-Ver and what follows it
	mriSource
	mriSourcePrefix
	mriDestinationPrefix
	mriEgress
	mriIngress
)

// offset is where in the object, TLV header included, the part stands.
func (p mriPart) offset(objectLen, addrLen int) int {
	switch p {
	case mriSource:
		return 8
	case mriSourcePrefix:
		return 8 + 2*addrLen
	case mriDestinationPrefix:
		return 8 + 2*addrLen + 1
	case mriEgress:
		return objectLen - 2*addrLen
	case mriIngress:
		return objectLen - addrLen
	default:
		return 6
	}
}

// mriInfo is the Object Value Info that MRI Validation Failure carries.
func mriInfo(mri *wire.MRI, part mriPart) wire.AdditionalInfo {
	value := wire.AppendMRI(nil, mri)
	return objectInfo(wire.ObjMRI, value, part.offset(4+len(value), mri.Flow.Destination.Addr().BitLen()/8))
}

// objectInfo is an Object Value Info for the object with this value, and the
// octet of it, TLV header included, where the error is.
func objectInfo(t wire.ObjectType, value []byte, at int) wire.AdditionalInfo {
	words := len(value) / 4
	obj := append([]byte{byte(t >> 8), byte(t), byte(words >> 8), byte(words)}, value...)
	return wire.ObjectValueInfo(obj, at)
}

func (m *Machine) rejectWith(o *origin, id wire.ErrorID, info []wire.AdditionalInfo, kind string) {
	m.note(kind, o.from, id.String())
	report := m.errorData(id, info)
	m.reportError(o, &report)
}

// errorData describes the message in m.in.
func (m *Machine) errorData(id wire.ErrorID, info []wire.AdditionalInfo) wire.ErrorData {
	msg := &m.in
	mri := &msg.MRI
	if m.natted.renamed && msg.NATTraversal == nil { // the peer knows it by the name that it came with
		mri = &m.natted.wire
	}
	return wire.ErrorData{
		ID: id, Header: m.header, Info: info,
		HasSID: msg.HasSID, SID: msg.SID, HasMRI: msg.HasMRI, MRI: *mri,
	}
}

// reportError sends report to where the message in m.in came from: over its
// association, or to the NLI's address, or else to the IP source if S says that
// this is safe. "Error messages MUST NOT be generated in reaction to incoming
// Error messages."
func (m *Machine) reportError(o *origin, report *wire.ErrorData) {
	msg := &m.in
	if report.Header.Type == wire.Error {
		return
	}
	if o.ma == nil && msg.HasMRI && msg.MRI.Method == wire.OffPath && !m.knownPeerAddr(o.from.Addr()) {
		m.note("stranger", o.from, "Off-Path datagram from none of our edges and peers: not answered")
		return
	}
	to := o.from
	if o.ma == nil {
		switch {
		case msg.HasNLI:
			to = netip.AddrPortFrom(msg.NLI.Address, o.from.Port())
			if msg.HasMRI && msg.MRI.Method == wire.OffPath && m.edgeOf(o.from.Addr()) > 0 {
				to = netip.AddrPortFrom(msg.NLI.Address, m.cfg.Port)
			}
		case !report.Header.S:
			m.note("error-unaddressable", o.from, report.ID.String())
			return
		}
	}
	m.sendError(o, to, report)
}

func (m *Machine) sendError(o *origin, to netip.AddrPort, report *wire.ErrorData) {
	m.sendErrorFrom(source{addr: m.addressLike(to.Addr())}, o, to, report)
}

func (m *Machine) sendErrorFrom(from source, o *origin, to netip.AddrPort, report *wire.ErrorData) {
	l := &m.cfg.Limits
	if !m.errs.take(m.hashKey, o.from.Addr(), m.now, l.ErrorRate, l.ErrorBurst) ||
		o.ma == nil && !m.errsTo.take(m.hashKey, to.Addr(), m.now, l.ErrorRate, l.ErrorBurst) {
		m.note("error-rate-limited", o.from, report.ID.String())
		return
	}
	m.stranger = true // anybody can make us send Errors
	if o.ma == nil && !m.mayAnswer(o) {
		return
	}
	report.DMode = o.ma == nil
	report.QMode = o.ma == nil && report.Header.C && (report.Header.Type == wire.Query || report.Header.Type == wire.Data)
	e := m.newMessage(wire.Error, 0)
	e.Error = report
	// RFC 5971 §7.2.3: a NAT-Traversal object comes back with "any other error
	// message generated as a reply".
	e.NATTraversal = m.in.NATTraversal
	m.stats.ErrorsOut++
	if o.ma != nil {
		m.maSend(o.ma, e)
		return
	}
	local := m.addressLike(to.Addr())
	if local.Is4() != to.Addr().Is4() {
		m.note("error-unaddressable", to, report.ID.String())
		return
	}
	m.setNLI(e, local, 0, m.validity(wire.PathCoupled))
	e.S = from.addr == local
	if !m.fitsDMode(e, to.Addr()) { // what is wrong with an object can be said without it
		for i := range report.Info {
			report.Info[i].Shorten()
		}
		if !m.fitsDMode(e, to.Addr()) { // RFC 5971 §5.6
			m.note("error-too-large", to, report.ID.String())
			return
		}
	}
	m.emit(e, SendDatagram{Local: from.addr, Foreign: from.foreign, To: to})
}

// rxError acts on the Error message in m.in: RFC 5971 §4.4.6. No Error is ever
// answered with another.
func (m *Machine) rxError(o *origin) {
	e := m.in.Error
	m.stats.ErrorsIn++
	m.note("error-received", o.from, e.ID.String())
	if !e.HasSID || !e.HasMRI || (o.ma != nil && o.ma.peer == nil) || e.ID.Class() <= wire.Success {
		return // RFC 5971 §A.4.3: the first two classes change nothing
	}
	m.errorThroughNAT(e)
	r := m.stateOf(o, e.Header.NSLPID, e.SID, &e.MRI)
	switch {
	case r == nil:
	case e.Header.Type == wire.Query:
		if r.querying {
			m.queryRefused(r, o, e)
		}
	case !m.fromPeer(r, o):
		m.note("error-not-from-peer", o.from, e.ID.String())
	case e.Header.Type == wire.Confirm:
		m.confirmRefused(r, o, e)
	case e.Header.Type == wire.Data:
		m.dataRefused(r, e)
	}
}

// lostState says whether the sender of the error has no routing state for us, or
// no application that could have it.
func lostState(id wire.ErrorID) bool {
	return id == wire.NoRoutingState || id == wire.IncorrectlyDelivered || id == wire.UnknownNSLPID
}

// dataRefused: the peer has lost its state, and a handshake repairs that; or
// the Data could not be processed, and is lost.
func (m *Machine) dataRefused(r *routing, e *wire.ErrorData) {
	switch {
	case !lostState(e.ID):
		m.notify(r, CommunicationFailure, r.status, r.peer.sii)
	case r.querying:
		m.backlog(r).resend++
		m.querySM(r, erNoRSM, nil)
	default:
		m.respondSM(r, erNoRSMResponder, nil)
	}
}

// confirmRefused: the peer has made no state. Where the cookie has only become
// too old another handshake will do, but not without a pause (RFC 5971 §4.4.6). It
// is no "local IP routing indication", after which the upstream direction were
// in doubt, too (§7.1.3).
func (m *Machine) confirmRefused(r *routing, o *origin, e *wire.ErrorData) {
	switch {
	case !r.querying:
	case e.ID == wire.InvalidCookie:
		m.startAnew(r, m.cfg.T1)
		m.arm(r)
	case lostState(e.ID):
		m.querySM(r, erNoRSM, nil)
	default:
		m.giveUp(r, &RefusedError{ID: e.ID, From: o.from.Addr(), Text: e.Comment})
	}
}

// fromPeer says whether the message in m.in comes from r's peer.
func (m *Machine) fromPeer(r *routing, o *origin) bool {
	if r.peer == nil {
		return false
	}
	if o.ma != nil {
		return m.speaksFor(o.ma, r)
	}
	// What answers to messages on an association comes over it too; anybody
	// can forge a source address.
	return r.ma == nil && o.from.Addr() == r.peer.addr
}

// queryRefused: what the Query found will not be our peer. A Transient-Failure
// is worth another try (RFC 5971 §A.4.3): the next Query is on its way anyhow.
func (m *Machine) queryRefused(r *routing, o *origin, e *wire.ErrorData) {
	if !r.running || e.ID.Class() == wire.TransientFailure {
		return
	}
	if e.ID == wire.MessageTooLarge && m.queryTooLarge(r) {
		return
	}
	err := &RefusedError{ID: e.ID, From: o.from.Addr(), Text: e.Comment}
	if e.ID == wire.EndpointFound { // RFC 5971 §4.3.4
		m.notify(r, LastNode, r.status, 0)
	}
	m.giveUp(r, err)
}
