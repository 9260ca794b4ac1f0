package gist

import (
	"github.com/interqos/interqos/gist/wire"
)

// NAT traversal: RFC 5971 §7.2. On the two sides of a NAT that knows GIST the same
// flow has two MRIs. The Responding node has a Query's as the NAT translated it,
// and keeps that; all messages but the Query and its Response have the Querying
// node's, which no NAT touches, and "It is the responsibility of the Responding
// node to translate between the two MRIs" (RFC 5971 §7.2.2). So MRIs are renamed
// where a message comes in and where it leaves, and nothing in between knows.

// natted is what is known of NATs that the message in m.in has passed.
type natted struct {
	renamed bool     // in.MRI is our name of the flow
	wire    wire.MRI // and this the one that stood, or will stand, in messages
}

// rename gives the message in m.in our name of its flow.
func (m *Machine) rename(ours wire.MRI) {
	m.natted = natted{true, m.in.MRI}
	m.in.MRI = ours
}

// checkNAT judges the NAT-Traversal object of a message in m.in that is to be
// interpreted without routing state: "A GIST node receiving such a message MUST
// verify that all mandatory objects containing addressing have been translated
// correctly". RFC 5971 §7.2.3
func (m *Machine) checkNAT(o *origin) bool {
	msg := &m.in
	if msg.NATTraversal == nil {
		return true
	}
	n, err := wire.ParseNATTraversal(msg.NATTraversal) // a second time: the first was Decode
	if err != nil || n.MRI.Method != msg.MRI.Method || n.MRI.Upstream != msg.MRI.Upstream {
		m.rejectWith(o, wire.ValueNotSupported, []wire.AdditionalInfo{objectInfo(wire.ObjNATTraversal, msg.NATTraversal, 8)}, "nat-traversal")
		return false
	}
	for _, t := range [...]wire.ObjectType{wire.ObjNLI, wire.ObjStackConfig} {
		if n.Translates(t) || t == wire.ObjStackConfig && !msg.HasStackConfig {
			continue
		}
		m.note("untranslated", o.from, t.String())
		report := m.errorData(wire.UntranslatedObject, []wire.AdditionalInfo{wire.ObjectTypeInfo(t)})
		m.sendError(o, o.from, &report) // the NLI may be of no use here
		return false
	}
	m.natted = natted{true, n.MRI}
	return true
}

// throughNAT gives the Response in m.in the name that its Query had: "MUST use the
// MRI from the NAT-Traversal object as the key to index its internal routing
// state" (RFC 5971 §7.2.3).
func (m *Machine) throughNAT() {
	if m.in.NATTraversal == nil {
		return
	}
	if n, err := wire.ParseNATTraversal(m.in.NATTraversal); err == nil {
		m.rename(n.MRI.Reverse())
	}
}

// errorThroughNAT does so for an Error.
func (m *Machine) errorThroughNAT(e *wire.ErrorData) {
	if m.in.NATTraversal == nil {
		return
	}
	if n, err := wire.ParseNATTraversal(m.in.NATTraversal); err == nil {
		e.MRI = n.MRI
	}
}

// nliBehindNAT: a Response over an association has passed no NAT that knows GIST,
// so its NLI has the address that the responder has on its own side.
func (m *Machine) nliBehindNAT(p *peer) {
	if m.natted.renamed && string(m.in.NLI.PeerIdentity) == p.id {
		m.in.NLI.Address = p.addr
	}
}

// setNAT notes with r whether the handshake in m.in passed a NAT: name is what
// r.mri is called in messages then.
func (m *Machine) setNAT(r *routing, name wire.MRI) {
	switch {
	case !m.natted.renamed && r.nat == nil:
	case !m.natted.renamed:
		m.forgetSession(r.sid)
		r.nat = nil
	case r.nat == nil || *r.nat != name:
		m.forgetSession(r.sid)
		r.nat = &name
	}
}

// onWire is what r's MRI is called in messages.
func (r *routing) onWire() *wire.MRI {
	if r.nat != nil {
		return r.nat
	}
	return &r.mri
}

// stateOf finds the routing state that messages which are not part of a
// handshake call mri. Nodes behind different NATs may use one name; the peer
// that speaks then decides, and after that who is behind no NAT.
func (m *Machine) stateOf(o *origin, nslp wire.NSLPID, sid wire.SID, mri *wire.MRI) *routing {
	var found *routing
	for r := m.sessions[sid]; r != nil; r = r.next {
		if r.nslp != nslp || *r.onWire() != *mri {
			continue
		}
		if found == nil || !m.fromPeer(found, o) && (m.fromPeer(r, o) || found.nat != nil && r.nat == nil) {
			found = r
		}
	}
	if found != nil && !m.mayBeUsed(found) {
		return nil
	}
	return found
}

// stateBack is stateOf for the Data in m.in, whose MRI has the other direction: it
// is turned round for as long as that takes, for a copy costs each message.
func (m *Machine) stateBack(o *origin) *routing {
	mri := &m.in.MRI
	mri.Upstream = !mri.Upstream
	r := m.stateOf(o, m.in.NSLPID, m.in.SID, mri)
	mri.Upstream = !mri.Upstream
	return r
}

// behindNAT gives the Data in m.in, from r's peer behind a NAT, our names for the
// flow and for the peer: what stands in it is valid on the other side.
func (m *Machine) behindNAT(r *routing, o *origin) {
	if r == nil || r.nat == nil {
		return
	}
	m.rename(r.mri.Reverse())
	if o.ma == nil && r.peer != nil && o.from.Addr() == r.peer.addr {
		m.in.NLI.Address, m.in.NLI.PeerIdentity = r.peer.addr, []byte(r.peer.id)
	}
}

// legacyNAT answers a message in m.in whose S-flag says that its IP source is its
// NLI address, and is not: "The receiver MUST return an 'Object Type Error'
// message with subcode 4 ('Untranslated Object') indicating the MRI", "addressed
// to the source address from the IP header"; its own source is where the message
// went, so that the NAT may let it in. RFC 5971 §7.2.1
func (m *Machine) legacyNAT(o *origin) {
	m.note("nat", o.from, "IP source is not the NLI address: a NAT that does not know GIST")
	report := m.errorData(wire.UntranslatedObject, []wire.AdditionalInfo{wire.ObjectTypeInfo(wire.ObjMRI)})
	from := source{addr: m.addressLike(o.from.Addr())}
	if to := o.local.Addr(); m.own(to) {
		from.addr = to
	} else if m.cfg.FlowSource && to.IsValid() { // the Query was intercepted
		from = source{addr: to, foreign: true}
	}
	m.sendErrorFrom(from, o, o.from, &report)
}
