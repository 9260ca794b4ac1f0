package gist

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The authorised peer database: RFC 5971 §4.4.2, and §5.7.3.1 for how a
// certificate is compared with it.

// Certificate is what a peer's certificate says of it, after whoever carries the
// connection has verified it.
type Certificate struct {
	CommonName string // the most specific one of the subject
	DNSNames   []string
	URIs       []string
	Addresses  []netip.Addr
	NotAfter   time.Time // the association ends then; zero: it does not
}

// String names the certificate in a log.
func (c *Certificate) String() string {
	if c == nil {
		return "no certificate"
	}
	names := slices.Concat(c.URIs, c.DNSNames)
	for _, a := range c.Addresses {
		names = append(names, a.String())
	}
	return fmt.Sprintf("certificate %q (%s)", c.CommonName, strings.Join(names, ", "))
}

// Namespace says where an identity comes from.
type Namespace uint8

// Namespaces of identities in certificates.
const (
	NamespaceURI Namespace = iota + 1 // subjectAltName uniformResourceIdentifier, octet by octet
	NamespaceDNS                      // subjectAltName dNSName, else the Common Name; "*" as leftmost label
)

// Identity is a name that a certificate has to have.
type Identity struct {
	Namespace Namespace
	Name      string
}

// PeerEntry is one entry of the authorised peer database. The first one that
// matches decides; where none does, nobody is authorised.
type PeerEntry struct {
	// Identities must all be in the peer's certificate. None: the wildcard
	// identity, any certificate.
	Identities []Identity
	// Unauthenticated entries are for associations without certificates, and
	// for no others.
	Unauthenticated bool

	// The scope. Zero fields match everything.

	// Peers are the addresses that the peer's NLI may have: "Peer Address
	// Ownership". With OwnAddress a certificate that names addresses must name
	// this one.
	Peers      []netip.Addr
	OwnAddress bool
	// Border is our border interface towards the peer: the egress of flows that
	// we signal downstream, the ingress of those that come in.
	Border netip.Addr
	// Source and Destination have the flow's in them: "End-System Subnet".
	Source, Destination netip.Prefix

	Deny bool
}

// identifies says whether the entry is about the holder of c; nil is a peer
// without a certificate.
func (e *PeerEntry) identifies(c *Certificate) bool {
	if c == nil {
		return e.Unauthenticated || e.Deny && len(e.Identities) == 0
	}
	if e.Unauthenticated {
		return false
	}
	for i := range e.Identities {
		if !c.has(&e.Identities[i]) {
			return false
		}
	}
	return true
}

func (c *Certificate) has(id *Identity) bool {
	switch id.Namespace {
	case NamespaceURI:
		return slices.Contains(c.URIs, id.Name)
	case NamespaceDNS:
		for _, name := range c.DNSNames {
			if dnsMatch(name, id.Name) {
				return true
			}
		}
		// RFC 5971 §5.7.3.1: "If no such extension is present, then the identity
		// MUST be compared to the (most specific) Common Name".
		return len(c.DNSNames) == 0 && c.CommonName != "" && dnsMatch(c.CommonName, id.Name)
	}
	return false
}

// dnsMatch compares two DNS names "case-insensitive", either of which may have
// "*" "as the left-most name component", which stands for one label. RFC 5971
// §5.7.3.1
func dnsMatch(a, b string) bool {
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	if a == "" || b == "" {
		return false
	}
	if strings.EqualFold(a, b) {
		return true
	}
	return wildcardCovers(a, b) || wildcardCovers(b, a)
}

func wildcardCovers(pattern, name string) bool {
	domain, ok := strings.CutPrefix(pattern, "*.")
	if !ok {
		return false
	}
	label, rest, ok := strings.Cut(name, ".")
	return ok && label != "" && strings.EqualFold(rest, domain)
}

// covers says whether the circumstances are in the entry's scope.
func (e *PeerEntry) covers(c *Certificate, peer, border netip.Addr, flow *wire.Flow) bool {
	switch {
	case len(e.Peers) > 0 && !slices.Contains(e.Peers, peer),
		e.Border.IsValid() && e.Border != border,
		e.Source.IsValid() && !within(e.Source, flow.Source),
		e.Destination.IsValid() && !within(e.Destination, flow.Destination):
		return false
	}
	return !e.OwnAddress || c == nil || len(c.Addresses) == 0 || slices.Contains(c.Addresses, peer)
}

// within says whether all of q is in p.
func within(p, q netip.Prefix) bool {
	return q.IsValid() && p.Bits() <= q.Bits() && p.Contains(q.Addr())
}

// border is our border interface that a flow's signalling passes. mri has the
// direction in which we send; via is the edge that relayed the peer's Query,
// which knows better than what the Query says.
func (m *Machine) border(mri *wire.MRI, via netip.Addr) netip.Addr {
	if n := m.edgeOf(via); via.IsValid() && n > 0 && m.cfg.Edges[n-1].External.IsValid() {
		return m.cfg.Edges[n-1].External
	}
	if mri.Upstream {
		return mri.Ingress
	}
	return mri.Egress
}

// authorised scans the database for the holder of c as the peer at this address
// for this flow: "the first entry where the identity matches that presented by
// the peer, and where the scope information matches". RFC 5971 §4.4.2
func (m *Machine) authorised(c *Certificate, peer netip.Addr, mri *wire.MRI, via netip.Addr) bool {
	if m.cfg.Peers == nil {
		return c == nil
	}
	border := m.border(mri, via)
	for i := range m.cfg.Peers {
		if e := &m.cfg.Peers[i]; e.identifies(c) && e.covers(c, peer, border, &mri.Flow) {
			return !e.Deny
		}
	}
	return false
}

func (m *Machine) noteNotAuthorised(a *assoc, peer netip.Addr, mri *wire.MRI, via netip.Addr) {
	m.stats.NotAuthorised++
	m.note("not-authorised", a.remote, fmt.Sprintf("%v is not authorised as peer %v at border %v for %v to %v",
		a.cert, peer, m.border(mri, via), mri.Flow.Source, mri.Flow.Destination))
}

// speaksFor says whether what comes over a counts for r: "the association [is]
// associated with the MRI/NSLPID/SID combination" (RFC 5971 §4.3.2). It need not
// be the one that we send over, but it must not be weaker: an NLI alone proves
// nothing.
func (m *Machine) speaksFor(a *assoc, r *routing) bool {
	if a == r.ma {
		return true
	}
	return a.peer == r.peer && (a.stack.Secure() || r.ma == nil || !r.ma.stack.Secure()) &&
		m.authorised(a.cert, a.peer.addr, &r.mri, r.via)
}

// revalidation is the re-validation of all routing states, after the database has
// changed: a slice at a time. A state that is used before it is its turn is
// looked at then, so that nobody is served who is no longer authorised.
type revalidation struct {
	round uint32 // of the database: a state of an earlier one has to be looked at
	// All routing states, those of earlier rounds first.
	first, last *routing
	gone        map[netip.AddrPort]int // states of peers that are out
	tm          alarm
}

func (v *revalidation) alarm() *alarm   { return &v.tm }
func (v *revalidation) fire(m *Machine) { m.revalidate() }

func (v *revalidation) append(r *routing) {
	r.round = v.round
	if r.allPrev, r.allNext = v.last, nil; v.last != nil {
		v.last.allNext = r
	} else {
		v.first = r
	}
	v.last = r
}

func (v *revalidation) remove(r *routing) {
	if r.allPrev != nil {
		r.allPrev.allNext = r.allNext
	} else {
		v.first = r.allNext
	}
	if r.allNext != nil {
		r.allNext.allPrev = r.allPrev
	} else {
		v.last = r.allPrev
	}
	r.allPrev, r.allNext = nil, nil
}

// setPeers replaces the database: "the node MUST re-validate existing MAs and
// the routing state table against the revised contents of the APD", and
// applications are told. RFC 5971 §4.4.2
func (m *Machine) setPeers(entries []PeerEntry) {
	m.cfg.Peers = slices.Clone(entries)
	if entries == nil {
		m.cfg.Peers = []PeerEntry{}
	}
	m.recall = recall{} // by which states are found without looking
	m.states.round++
	if m.states.gone == nil {
		m.states.gone = map[netip.AddrPort]int{}
	}
	m.revalidate()
}

// revalidate looks at a slice of the states.
func (m *Machine) revalidate() {
	v := &m.states
	for budget := checkSlice; v.first != nil && v.first.round != v.round; budget-- {
		if budget == 0 {
			m.timers.set(v, m.now+int64(checkGap))
			return
		}
		m.mayBeUsed(v.first)
	}
	// One line for each peer: they may have many states.
	for _, p := range slices.SortedFunc(maps.Keys(v.gone), netip.AddrPort.Compare) {
		m.note("not-authorised", p,
			fmt.Sprintf("the authorised peer database has changed: %d routing states of peer %v are gone", v.gone[p], p.Addr()))
	}
	v.gone = nil
	for _, a := range m.assocs {
		if a.peer != nil && a.state != maAwaitingConnection && !a.used() && !m.knows(a) {
			m.maClose(a, "the peer is no longer authorised")
		}
	}
}

// mayBeUsed says whether r's peer is still authorised, and ends r if not.
func (m *Machine) mayBeUsed(r *routing) bool {
	v := &m.states
	if r.round == v.round {
		return true
	}
	if r.peer != nil && !m.mayStay(r) {
		v.gone[netip.AddrPortFrom(r.peer.addr, r.peer.port)]++
		r.status = Bad
		m.notify(r, NodeAuthorisationChange, Bad, r.peer.sii)
		m.destroy(r, ErrNotAuthorised)
		return false
	}
	v.remove(r)
	v.append(r)
	return true
}

// mayStay says whether r's peer is still authorised. A peer that no association
// has authenticated yet may stay if anybody with its address might be.
func (m *Machine) mayStay(r *routing) bool {
	if r.ma != nil {
		return m.authorised(r.ma.cert, r.peer.addr, &r.mri, r.via)
	}
	border := m.border(&r.mri, r.via)
	for i := range m.cfg.Peers {
		e := &m.cfg.Peers[i]
		if e.covers(nil, r.peer.addr, border, &r.mri.Flow) && (!e.Deny || len(e.Identities) == 0) {
			return !e.Deny
		}
	}
	return false
}

// knows says whether a's peer could be authorised for some flow.
func (m *Machine) knows(a *assoc) bool {
	return slices.ContainsFunc(m.cfg.Peers, func(e PeerEntry) bool {
		return !e.Deny && e.identifies(a.cert) && (len(e.Peers) == 0 || slices.Contains(e.Peers, a.peer.addr))
	})
}
