package gist

import (
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// The Q-mode encapsulation (RFC 5971 §5.3.2, §5.8), and Data sent in it.

// source is where a Q-mode message comes from: the source address in its IP
// header, and whether that is the flow's and not ours.
type source struct {
	addr    netip.Addr
	foreign bool
}

// querySource selects the source address of the n-th Query of a handshake, from
// 1. RFC 5971 §5.8.1.2: "A node SHOULD use the flow source address for initial
// Query messages, but SHOULD transition to the signalling source address for
// some retransmissions or as a matter of static configuration". Each second one
// has the signalling source: what goes wrong with the others, the errors about
// this one tell us. Upstream it always has (§5.8.1.3).
func (m *Machine) querySource(mri *wire.MRI, rt *QueryRoute, n uint8) source {
	flow := mri.Flow.Source.Addr()
	switch {
	case mri.Method == wire.OffPath && rt.Local.Is4() != rt.To.Addr().Is4():
		// The edge that relays is reached over the other IP version.
		return source{addr: m.addressLike(rt.To.Addr())}
	case mri.Method == wire.OffPath, mri.Upstream, !m.cfg.FlowSource, rt.SignallingSource,
		n%2 == 0, flow.IsUnspecified(), flow == rt.Local:
		return source{addr: rt.Local}
	}
	return source{addr: flow, foreign: !m.own(flow)}
}

// qmode is the encapsulation of a message that is sent as a Query for mri is: "it
// is essential that the Query mimics the actual data flow as closely as
// possible" (RFC 5971 §5.8.1.2).
func qmode(mri *wire.MRI, rt *QueryRoute, from source) SendDatagram {
	d := SendDatagram{Local: from.addr, Foreign: from.foreign, To: rt.To, TTL: rt.TTL, RouterAlert: rt.RouterAlert}
	if mri.Method == wire.PathCoupled {
		d.DSCP, d.FlowLabel = mri.Flow.DSCP, mri.Flow.FlowLabel // both 0 if not significant
	}
	return d
}

// own says whether a is an address of this node.
func (m *Machine) own(a netip.Addr) bool {
	return a == m.cfg.Address || containsAddr(m.cfg.Addresses, a)
}

// sendStateless sends Data in Q-mode, where "local policy & transfer attributes
// say routing state is not needed" (RFC 5971 §6.1 rule 5, §4.3.3). It "MUST have
// C-flag=1" (§5.5), so that the receiver and NATs on the way can handle it
// without state.
func (m *Machine) sendStateless(s *SendMessage, out *outMsg) error {
	if m.cmodeOnly(&s.MRI) {
		return errText(ErrNoRoute, "no Data in Q-mode here")
	}
	rt, err := m.routeQuery(&s.MRI)
	if err != nil {
		return err
	}
	if s.TTL != 0 && !s.MRI.Upstream {
		rt.TTL = s.TTL
	}
	e := m.dataMessage(s.NSLPID, s.SID, &s.MRI, out)
	e.C = true
	from := m.querySource(&s.MRI, &rt, 1)
	m.setQNLI(e, 0, &rt, from)
	return m.sendDModeData(s, out, e, qmode(&s.MRI, &rt, from))
}

// rxQModeData takes the Data in m.in that is to be processed without routing
// state (C=1). It passes the checks of a Query: they "apply only to messages
// with the Q-mode encapsulation" (RFC 5971 §5.8.1.2).
func (m *Machine) rxQModeData(o *origin) {
	msg := &m.in
	switch {
	case msg.MRI.Method == wire.OffPath:
		m.reject(o, wire.IncorrectEncapsulation, "dmode-data")
		return
	case m.cmodeOnly(&msg.MRI): // RFC 5971 §6.1 rule 4
		m.reject(o, wire.NoRoutingState, "no-routing-state")
		return
	case msg.E: // what is explicitly routed goes to a peer that is known (§7.1.4)
		m.reject(o, wire.InvalidEFlag, "explicit-qmode-data")
		return
	case m.own(msg.NLI.Address) && string(msg.NLI.PeerIdentity) == string(m.cfg.Identity):
		m.note("own-data", o.from, "Data of ours came back")
		return
	case !m.admitQuery(o):
		m.note("rate-limited", o.from, "Data without routing state from this source")
		return
	}
	if !m.checkNAT(o) {
		return
	}
	if _, ok := m.checkPathCoupled(o); ok {
		m.deliver(o, nil, m.findPeer(&msg.NLI))
	}
}
