package gist

import (
	"fmt"
	"slices"

	"github.com/interqos/interqos/gist/wire"
)

// Intercepted packets, and the bypasses of figure 4 of RFC 5971: what this node
// does not want to be a peer for goes on as it came.

// A flow to a prefix shorter than this is "too general to be forwarded along a
// unique path" (RFC 5971 §4.3.4): nobody has been assigned so many addresses,
// so they lie in several networks.
const (
	wildestIPv4 = 8
	wildestIPv6 = 16
)

// rxTransit looks at an intercepted packet before it is parsed. False: it has
// gone on, or was refused, and is not for this node.
func (m *Machine) rxTransit(o *origin) bool {
	if !wire.IsDatagram(o.payload) {
		m.passOn(o, 0, "no magic number") // RFC 5971 §5.3.2.3
		return false
	}
	h, err := wire.ParseHeader(o.payload[wire.MagicLen:])
	switch {
	case err != nil:
		m.passOn(o, 0, "no common header")
	case !h.C && h.Type != wire.Query:
		// Somebody's message to its peer, not to whoever is on the way.
		m.passOn(o, 0, "not of Q-mode")
	case h.Version == wire.Version1 && !m.serves(h.NSLPID):
		m.bypass(o, h, "NSLPID not served here")
	case h.Version == wire.Version1 && foreignMethod(o.payload):
		m.bypass(o, h, "message routing method not of those intercepted here")
	default:
		return true
	}
	return false
}

// foreignMethod: nodes on the way have no part in a method that they do not
// know (RFC 5971 §3.3), nor in Off-Path, whose Queries name who is to get them.
func foreignMethod(datagram []byte) bool {
	method, ok := wire.PeekMethod(datagram)
	return ok && method != wire.PathCoupled && method != wire.LooseEnd
}

// bypass forwards a Q-mode message that no application here is for: RFC 5971
// §4.3.4, cases 2 and 3. It reads no more than the common header and the MRI.
func (m *Machine) bypass(o *origin, h wire.Header, why string) {
	if h.HopCount <= 1 { // zero once decremented
		m.refuseTransit(o, h, wire.HopLimitExceeded, nil, "hop-limit")
		return
	}
	if info, wild := tooWild(o.payload); wild {
		m.refuseTransit(o, h, wire.MRITooWild, info, "mri")
		return
	}
	m.passOn(o, 1, why)
}

// tooWild is the third check of RFC 5971 §4.3.4; a method that is not
// understood passes.
func tooWild(datagram []byte) (info []wire.AdditionalInfo, wild bool) {
	mri, ok := wire.PeekMRI(datagram)
	if !ok || mri.Method != wire.PathCoupled {
		return nil, false
	}
	end, part := mri.Flow.Destination, mriDestinationPrefix
	if mri.Upstream {
		end, part = mri.Flow.Source, mriSourcePrefix
	}
	least := wildestIPv6
	if end.Addr().Is4() {
		least = wildestIPv4
	}
	if end.Bits() >= least {
		return nil, false
	}
	return []wire.AdditionalInfo{mriInfo(&mri, part)}, true
}

// decline forwards the Query in m.in, whose application does not want to be a
// peer: RFC 5971 §4.3.2, "GIST MUST propagate the Query [...]. No message is
// sent back to the Querying node. The application MAY provide an updated NSLP
// payload".
func (m *Machine) decline(o *origin, payload []byte) {
	if m.in.HopCount == 0 { // decremented already
		m.reject(o, wire.HopLimitExceeded, "hop-limit")
		return
	}
	if payload != nil {
		updated, ok := wire.ReplaceNSLPData(o.payload, payload)
		if !ok {
			m.note("payload-refused", o.from, fmt.Sprintf("%d octets of NSLP data for a Query that goes on, want whole words", len(payload)))
		} else {
			o.payload = updated
		}
	}
	m.passOn(o, 1, "the signalling application does not want to be a peer")
}

// passOn forwards the packet, its hop count lower by hops: it "MUST NOT" be
// modified "except in the GIST hop count" (RFC 5971 §4.3.2). The IP TTL is
// lowered by who sends it; where that ends its way it is dropped, as in any
// router.
func (m *Machine) passOn(o *origin, hops uint8, why string) {
	if o.ttl <= 1 {
		m.note("ttl-exceeded", o.from, "IP TTL ends here: "+why)
		return
	}
	payload := slices.Clone(o.payload)
	if hops > 0 {
		payload[wire.MagicLen+wire.HopCountOffset] -= hops
	}
	m.stats.Forwarded++
	m.note("forwarded", o.from, why)
	m.do(ForwardDatagram{Datagram{Local: o.local, From: o.from, Interface: o.iface, TTL: o.ttl, RouterAlert: o.alert, Transit: o.transit, Payload: payload}})
}

// refuseTransit drops the packet with an Error to its sender, whom the NLI
// names (RFC 5971 §5.6); for that alone the rest is read.
func (m *Machine) refuseTransit(o *origin, h wire.Header, id wire.ErrorID, info []wire.AdditionalInfo, kind string) {
	m.inOf = nil
	_ = m.in.DecodeDatagram(o.payload) // what is wrong with it is not our affair
	m.header = h
	m.rejectWith(o, id, info, kind)
}

// notForwarded is the first check of RFC 5971 §4.3.4, made by the kernel.
func (m *Machine) notForwarded(e *NotForwarded) {
	d := &e.Datagram
	o := origin{local: d.Local, from: d.From, iface: d.Interface, ttl: d.TTL, alert: d.RouterAlert, transit: d.Transit, payload: d.Payload}
	if !wire.IsDatagram(d.Payload) {
		return
	}
	h, err := wire.ParseHeader(d.Payload[wire.MagicLen:])
	if err != nil {
		return
	}
	if e.MTU <= 0 { // the Error "MUST" say it (RFC 5971 §A.4.4, §A.4.4.8)
		m.note("too-large", d.From, "larger than the next link's MTU, which is not known: no Error")
		return
	}
	h.HopCount++ // as it came
	m.refuseTransit(&o, h, wire.MessageTooLarge, []wire.AdditionalInfo{wire.MTUInfo(uint16(min(e.MTU, 0xffff)))}, "too-large")
}
