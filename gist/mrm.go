package gist

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// What depends on the message routing method: RFC 5971 §5.8, and section 3 of
// the InterDomain-QOSM design for Off-Path.

// cmodeOnly says whether the method's Data goes over associations only.
func (m *Machine) cmodeOnly(mri *wire.MRI) bool {
	return mri.Method == wire.OffPath || !m.cfg.DModeData
}

// validity is the routing state lifetime that this node wants. RFC 5971
// §4.4.4: "2 * (number of routing states) / (rate limit in packets/second)" is
// its least value.
func (m *Machine) validity(method wire.MRM) time.Duration {
	v, rate := m.cfg.ValidityPathCoupled, m.cfg.Limits.DModeRate
	if method == wire.OffPath { // whose Queries have to pass an edge, too
		v, rate = m.cfg.ValidityOffPath, min(rate, m.cfg.Limits.RelayRate)
	}
	stress := time.Duration(2 * float64(m.stats.RoutingStates) / float64(rate) * float64(time.Second))
	return max(v, stress)
}

// maxValidityOffPath is the longest lifetime that a peer can ask of us.
const maxValidityOffPath = 24 * time.Hour

// agreedValidity is what a responder requires, from what the querier proposes.
// Off-Path, nothing below our own will do.
func (m *Machine) agreedValidity(method wire.MRM, proposedMS uint32) time.Duration {
	own := m.validity(method)
	proposed := time.Duration(proposedMS) * time.Millisecond
	if method == wire.OffPath { // what either needs, for the number of its states
		return max(own, min(proposed, maxValidityOffPath))
	}
	return min(max(proposed, min(own, 10*time.Second)), own)
}

func toMS(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 1), 0xffffffff))
}

// edgeOf returns the number, from 1, of our edge with this internal address.
func (m *Machine) edgeOf(a netip.Addr) int {
	for i := range m.cfg.Edges {
		if m.cfg.Edges[i].Internal == a {
			return i + 1
		}
	}
	return 0
}

// knownSource says whether Off-Path datagrams from a are worth an answer.
func (m *Machine) knownSource(a netip.Addr) bool {
	return m.edgeOf(a) > 0 || slices.Contains(m.cfg.DirectPeers, a)
}

// arrival is what the rules of a method say of a Query that arrived.
type arrival struct {
	edge uint16         // relayed by, from 1
	via  netip.Addr     // its address
	to   netip.AddrPort // where the Response goes
	hops uint8          // IP hops from the peer; 0: not known
}

// checkQuery applies the method's rules to the Query in m.in; false where it
// was rejected or dropped.
func (m *Machine) checkQuery(o *origin) (arrival, bool) {
	if m.in.MRI.Method == wire.OffPath {
		return m.checkOffPath(o)
	}
	return m.checkPathCoupled(o)
}

// checkPathCoupled has the checks of Q-mode messages that follow the flow, those
// of the Loose-End MRM among them, for which no others are defined.
func (m *Machine) checkPathCoupled(o *origin) (a arrival, ok bool) {
	msg := &m.in
	mri := &msg.MRI
	a.to = netip.AddrPortFrom(msg.NLI.Address, o.from.Port())
	if msg.S && o.from.Addr() != msg.NLI.Address {
		m.legacyNAT(o)
		return a, false
	}
	// RFC 5971 §5.8.1.2, §7.4: the flow is of the encapsulation's IP version.
	if o.from.Addr().Is4() != mri.Flow.Destination.Addr().Is4() {
		m.rejectMRI(o, wire.IPVersionMismatch, mriFlags)
		return a, false
	}
	switch {
	case mri.Method == wire.LooseEnd && mri.Upstream:
		// RFC 5971 §A.3.1.2: "for Q-mode messages, the only valid value is D=0".
		m.rejectMRI(o, wire.InvalidFlagFieldCombination, mriFlags)
		return a, false
	case mri.Method == wire.LooseEnd:
	case mri.Upstream && o.ttl != 0 && o.ttl < 254:
		// RFC 5971 §5.8.1.3: "SHOULD reject a message that has been propagated
		// more than one IP hop"
		m.reject(o, wire.InvalidIPTTL, "ip-ttl")
		return a, false
	case !mri.Upstream && m.cfg.IngressFilter != nil && !m.cfg.IngressFilter(mri.Flow.Source.Masked(), o.ingress()):
		// "the full range of source addresses (the source-address masked with
		// its prefix-length)"
		m.rejectMRI(o, wire.IngressFilterFailure, mriSource)
		return a, false
	}
	// RFC 5971 §5.2.2: the difference is the distance to the upstream peer.
	if !mri.Upstream && msg.NLI.IPTTL > 0 && o.ttl > 0 && msg.NLI.IPTTL >= o.ttl {
		a.hops = msg.NLI.IPTTL - o.ttl
	}
	return a, true
}

// checkOffPath takes Queries from our own edges, for peers listed behind them,
// and from direct peers. Whoever else sends one is not answered.
func (m *Machine) checkOffPath(o *origin) (a arrival, ok bool) {
	msg := &m.in
	peer, source := msg.NLI.Address, o.from.Addr()
	n := m.edgeOf(source)
	switch {
	case n > 0:
		e := &m.cfg.Edges[n-1]
		if !slices.Contains(e.PeerQNEs, peer) {
			m.note("peer-not-listed", o.from, "NLI address is not listed behind the relaying edge")
			return a, false
		}
		if in := msg.MRI.Ingress; e.External.IsValid() && in.IsValid() && in != e.External {
			m.rejectMRI(o, wire.IngressFilterFailure, mriIngress)
			return a, false
		}
		if msg.S { // the edge has changed the IP source: RFC 5971 §5.3.2.1
			m.rejectWith(o, wire.UntranslatedObject, []wire.AdditionalInfo{wire.ObjectTypeInfo(wire.ObjMRI)}, "nat")
			return a, false
		}
		a.edge, a.via = uint16(n), e.Internal
		a.to = netip.AddrPortFrom(peer, m.cfg.Port)
	case slices.Contains(m.cfg.DirectPeers, source) && source == peer:
		a.to = netip.AddrPortFrom(peer, o.from.Port())
	default:
		m.note("stranger", o.from, "Off-Path Query from none of our edges")
		return a, false
	}
	if msg.MRI.Upstream && a.edge > 0 {
		m.note("upstream-query", o.from, "relayed Off-Path Query with D=1")
		return a, false
	}
	if msg.NSLPData != nil {
		// Discovery is "a Query without NSLP-Data": nobody has vouched for it.
		m.rejectWith(o, wire.InvalidObjectType, []wire.AdditionalInfo{wire.ObjectTypeInfo(wire.ObjNSLPData)}, "nslp-data")
		return a, false
	}
	if len(msg.StackProposal) == 0 {
		m.rejectWith(o, wire.MissingObject, []wire.AdditionalInfo{wire.ObjectTypeInfo(wire.ObjStackProposal)}, "no-stack-proposal")
		return a, false
	}
	return a, true
}

// routeQuery asks how a Query for mri is sent, and checks what it is told.
func (m *Machine) routeQuery(mri *wire.MRI) (QueryRoute, error) {
	if mri.Method == wire.LooseEnd && mri.Upstream { // RFC 5971 §A.3.1.2
		return QueryRoute{}, errText(ErrNoRoute, "the Loose-End MRM has no upstream encapsulation")
	}
	rt, err := m.cfg.Route(*mri)
	if err != nil {
		return rt, errors2(ErrNoRoute, err)
	}
	if !rt.Local.IsValid() {
		rt.Local = m.addressFor(mri)
	}
	if mri.Method != wire.OffPath {
		err = m.alongPath(mri, &rt)
	} else if mri.Upstream && !rt.Direct {
		err = errText(ErrNoRoute, "an Off-Path Query goes upstream only to a configured peer")
	}
	switch {
	case err != nil:
		return rt, err
	case !rt.To.IsValid():
		return rt, errText(ErrNoRoute, "Route gave no destination")
	case m.own(rt.To.Addr()): // RFC 5971 §4.3.3
		return rt, ErrSelf
	}
	return rt, nil
}

// alongPath completes the route of a Query that follows the flow, by the rules
// of RFC 5971 §5.8.1.2, §5.8.1.3 and §5.8.2.2, which leave little to Route.
func (m *Machine) alongPath(mri *wire.MRI, rt *QueryRoute) error {
	end := farEnd(mri)
	switch {
	case !rt.To.IsValid() && end.IsUnspecified():
		return errText(ErrNoRoute, "the flow's source is not known")
	case !rt.To.IsValid():
		rt.To = netip.AddrPortFrom(end, m.cfg.Port)
	case !mri.Upstream && !rt.Direct && rt.To.Addr() != end:
		return fmt.Errorf("%w: a downstream Query goes to the flow's destination, %v, and not to %v", ErrNoRoute, end, rt.To)
	}
	v6 := end.Is6()
	if rt.To.Addr().Is6() != v6 || rt.Local.Is6() != v6 {
		// RFC 5971 §7.4: "GIST MUST use the same IP version for Q-mode
		// encapsulated messages as given by the MRI of the flow".
		return fmt.Errorf("%w: from %v to %v, in another IP version than the flow's", ErrNoRoute, rt.Local, rt.To)
	}
	if v6 && !rt.Direct { // RFC 5971 §5.3.2.2: "MUST include it without exception"
		rt.RouterAlert = true
	}
	if mri.Upstream {
		rt.TTL = 255 // RFC 5971 §5.8.1.3: "MUST be set to 255"
	}
	return nil
}

// addressFor is the address of ours that goes with mri: "A node MUST follow a
// policy of using a global address of the same IP version as in the MRI" (RFC
// 5971 §5.2.2). Off-Path, peers know each other by their configured ones.
func (m *Machine) addressFor(mri *wire.MRI) netip.Addr {
	if mri.Method == wire.OffPath {
		return m.cfg.Address
	}
	return m.addressLike(mri.Flow.Destination.Addr())
}

// addressLike is our address of a's IP version.
func (m *Machine) addressLike(a netip.Addr) netip.Addr {
	if m.cfg.Address.Is4() != a.Is4() {
		for _, other := range m.cfg.Addresses {
			if other.Is4() == a.Is4() {
				return other
			}
		}
	}
	return m.cfg.Address
}

// selfIsDestination: "GIST MUST verify that it is not the direct destination of
// an outgoing message" (RFC 5971 §4.3.3), and refuses state beyond the flow's
// end (§4.2.1). The flow's end is the address that stands in the MRI, whatever
// the prefix.
func (m *Machine) selfIsDestination(mri *wire.MRI) bool {
	return mri.Method != wire.OffPath && m.own(farEnd(mri))
}

// farEnd is the end of the flow that a message along mri goes to.
func farEnd(mri *wire.MRI) netip.Addr {
	if mri.Upstream {
		return mri.Flow.Source.Addr()
	}
	return mri.Flow.Destination.Addr()
}

// nearEnd is the end of the flow that a message along mri comes from.
func nearEnd(mri *wire.MRI) netip.Addr {
	if mri.Upstream {
		return mri.Flow.Destination.Addr()
	}
	return mri.Flow.Source.Addr()
}
