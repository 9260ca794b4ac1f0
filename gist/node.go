package gist

import (
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// The Node-SM (RFC 5971 §6.1) has a single state, Idle; its table has one row.

type nodeEvent uint8

const (
	nodeRxQuery nodeEvent = iota
	nodeRxResponse
	nodeRxConfirm
	nodeRxData
	nodeErNoRSM
	nodeTgNSLP
	numNodeEvents
)

var nodeEventNames = [numNodeEvents]string{"rx_Query", "rx_Response", "rx_Confirm", "rx_Data", "er_NoRSM", "tg_NSLPData"}

type nodeRule uint8

const (
	nodeAnswerQuery    nodeRule = iota + 1 // rule 1: send Response with R=1, no state
	nodeDiscard                            // rule 2 and the second rule 4
	nodeCreateResponse                     // rule 3: create Responding-SM
	nodeNoRoutingState                     // rule 4: only Data with matching state
	nodeCreateQuerying                     // rule 5: create Querying-SM
)

var nodeTable = [numNodeEvents]nodeRule{
	nodeRxQuery:    nodeAnswerQuery,
	nodeRxResponse: nodeDiscard,
	nodeRxConfirm:  nodeCreateResponse,
	nodeRxData:     nodeNoRoutingState,
	nodeErNoRSM:    nodeDiscard,
	nodeTgNSLP:     nodeCreateQuerying,
}

// nodeRx gives the message in m.in to the machine of its routing state, or to
// the Node-SM.
func (m *Machine) nodeRx(o *origin) {
	msg := &m.in
	switch msg.Type {
	case wire.Query:
		m.rxQuery(o)
	case wire.Response:
		m.throughNAT()
		back := msg.MRI.Reverse()
		r := m.lookup(msg.NSLPID, msg.SID, &back)
		if r == nil || !r.querying {
			m.nodeSM(nodeRxResponse, o)
			return
		}
		m.rxResponse(r, o)
	case wire.Confirm:
		m.rxConfirm(o)
	case wire.Data:
		r := o.recalled
		if r == nil {
			r = m.stateBack(o)
			m.learnData(r, o)
			m.behindNAT(r, o)
		}
		m.rxData(o, r)
	}
}

func (m *Machine) nodeSM(ev nodeEvent, o *origin) {
	switch nodeTable[ev] {
	case nodeAnswerQuery:
		m.respond(o)
	case nodeDiscard:
		// RFC 5971 §4.4.6: "an error message MUST NOT be generated, but the
		// condition MAY be logged".
		m.note("unexpected-"+m.in.Type.String(), o.from, "no Query of ours is waiting for it")
	case nodeCreateResponse:
		m.confirmState(o)
	case nodeNoRoutingState:
		m.reject(o, wire.NoRoutingState, "no-routing-state")
	}
}

// nodeTgNSLPData is rule 5.
func (m *Machine) nodeTgNSLPData(s *SendMessage, out *outMsg) {
	if m.stats.Handshakes >= m.cfg.Limits.PendingHandshakes {
		m.fail(out, s.NSLPID, s.SID, &s.MRI, errText(ErrLimit, "handshakes that wait for a Response"))
		return
	}
	if _, err := m.routeQuery(&s.MRI); err != nil {
		m.fail(out, s.NSLPID, s.SID, &s.MRI, err)
		return
	}
	r := m.newRouting(s.NSLPID, s.SID, &s.MRI, true)
	if r == nil {
		m.fail(out, s.NSLPID, s.SID, &s.MRI, errText(ErrLimit, "routing states"))
		return
	}
	m.querySM(r, tgNSLPData, out)
}

// rxData delivers the Data in m.in after the checks of RFC 5971 §4.3.2, "in the
// sequence given".
func (m *Machine) rxData(o *origin, r *routing) {
	msg := &m.in
	if o.ma == nil {
		if msg.C {
			m.rxQModeData(o)
			return
		}
		if !m.checkDModeData(o) {
			return
		}
		if msg.E {
			m.deliver(o, nil, m.findPeer(&msg.NLI))
			return
		}
	} else if msg.E {
		m.deliver(o, nil, o.ma.peer)
		return
	}
	switch {
	case r == nil:
		m.nodeSM(nodeRxData, o)
	case r.peer == nil:
		m.note("data-before-response", o.from, "the handshake is not done")
	case o.ma != nil && !m.speaksFor(o.ma, r):
		m.reject(o, wire.IncorrectlyDelivered, "wrong-association")
	case o.ma == nil && (msg.NLI.Address != r.peer.addr || string(msg.NLI.PeerIdentity) != r.peer.id):
		m.reject(o, wire.NoRoutingState, "wrong-peer")
	default:
		m.checkTTL(r, o, true)
		switch {
		case r.dead: // over a Query that could not be sent
		case r.querying:
			m.querySMRx(r, qrxData, o)
		default:
			m.respondSMRx(r, rrxData, o)
		}
	}
}

// checkDModeData: Data outside an association is taken where policy allows it;
// what routing state does not vouch for, from a source no faster than Queries.
func (m *Machine) checkDModeData(o *origin) bool {
	msg := &m.in
	switch {
	case m.cmodeOnly(&msg.MRI):
		m.reject(o, wire.IncorrectEncapsulation, "dmode-data")
		return false
	case msg.S && o.from.Addr() != msg.NLI.Address: // RFC 5971 §5.3.1
		m.note("nat", o.from, "IP source is not the NLI address")
		return false
	case msg.E && !m.admitQuery(o):
		m.note("rate-limited", o.from, "Data without routing state from this source")
		return false
	}
	return true
}

// knownPeerAddr says whether a is listed as an Off-Path peer anywhere.
func (m *Machine) knownPeerAddr(a netip.Addr) bool {
	if m.knownSource(a) {
		return true
	}
	for i := range m.cfg.Edges {
		for _, q := range m.cfg.Edges[i].PeerQNEs {
			if q == a {
				return true
			}
		}
	}
	return false
}

// setStateLifetime is the API's SetStateLifetime (RFC 5971 §B.5). A zero SID
// means every session.
func (m *Machine) setStateLifetime(s *SetStateLifetime) {
	if s.SID == (wire.SID{}) {
		for _, r := range m.withMRI(s.NSLPID, &s.MRI) {
			m.setLifetime(r, s)
		}
		return
	}
	if r := m.lookup(s.NSLPID, s.SID, &s.MRI); r != nil {
		m.setLifetime(r, s)
	}
}

func (m *Machine) setLifetime(r *routing, s *SetStateLifetime) {
	switch {
	case s.Lifetime == Forever:
		r.forget, r.idlePeriod, r.idleAt = false, 0, never
		return
	case s.Lifetime > 0:
		r.forget = false
		r.idlePeriod = s.Lifetime
		r.idleAt = m.now + int64(s.Lifetime)
		m.timers.notLater(r, r.idleAt)
		return
	}
	if r.hasWaiting() {
		r.forget = true // what waits is still sent
		return
	}
	m.destroy(r, ErrForgotten)
}

// withMRI lists the routing states for mri; NSLPID 0 is all.
func (m *Machine) withMRI(nslp wire.NSLPID, mri *wire.MRI) []*routing {
	var out []*routing
	for r := m.byMRI[m.mriHash(mri)]; r != nil; r = r.mriNext {
		if r.mri == *mri && (nslp == 0 || r.nslp == nslp) {
			out = append(out, r)
		}
	}
	return out
}
