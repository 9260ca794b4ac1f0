package gist

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// What one peer or stranger may take of a node, so that others have theirs:
// RFC 5971 §8.4. Memory that a stranger can fill is of fixed size; what grows
// belongs to addresses that have passed a return routability check.

// host is an address that peers have, with what all of them take together.
type host struct {
	peers  int // that routing states or associations refer to
	states int // routing states
}

// known are the sources that the configuration names, each with a bucket of its
// own for Queries: no stranger can empty it by filling the shared ones.
type known map[netip.Addr]*bucket

func newKnown(cfg *Config) known {
	k := known{}
	for i := range cfg.Edges {
		k[cfg.Edges[i].Internal] = new(bucket)
		for _, q := range cfg.Edges[i].PeerQNEs {
			k[q] = new(bucket)
		}
	}
	for _, a := range cfg.DirectPeers {
		k[a] = new(bucket)
	}
	return k
}

// admitQuery takes a token for the Query in m.in: from the bucket of its source
// if that is configured, of its peer if there is one already, or else from the
// buckets that strangers share, by the IP source and by the address where the
// Response would go. "A non-conformant node can generate uncorrelated Queries
// at an arbitrary rate, which makes it hard to apply rate-limiting without also
// affecting genuine handshake attempts" (RFC 5971 §8.4): those of strangers only.
func (m *Machine) admitQuery(o *origin) bool {
	l, msg := &m.cfg.Limits, &m.in
	m.stranger = false
	if b := m.known[o.from.Addr()]; b != nil {
		return b.take(m.now, l.QueryRate, l.QueryBurst)
	}
	if p := m.findPeer(&msg.NLI); p != nil && p.refs > 0 {
		return p.queries.take(m.now, l.QueryRate, l.QueryBurst)
	}
	m.stranger = true
	return m.strangers.take(m.hashKey, o.from.Addr(), m.now, l.StrangerRate, l.StrangerBurst) &&
		(o.from.Addr() == msg.NLI.Address ||
			m.reflected.take(m.hashKey, msg.NLI.Address, m.now, l.StrangerRate, l.StrangerBurst))
}

// Of the D-mode rate limit's burst (RFC 5971 §5.3.3), answers to strangers leave
// a half to our own Queries, without which state that stands would not be
// refreshed, and Queries leave an eighth to Confirms and Data: many handshakes
// begun at once would otherwise keep each other from coming to an end.
const (
	keepForPeers      = 2
	keepForHandshakes = 8
)

// mayAnswer says whether the D-mode rate limit lets an answer to what o brought
// out, before anything is worked out for it.
func (m *Machine) mayAnswer(o *origin) bool {
	l := &m.cfg.Limits
	m.dmode.fill(m.now, l.DModeRate, l.DModeBurst)
	keep := 0.0
	if m.stranger {
		keep = float64(l.DModeBurst / keepForPeers)
	}
	if m.dmode.tokens < 1+keep {
		m.note("dmode-rate-limited", o.from, m.in.Type.String())
		return false
	}
	return true
}

// dmodeSlot is when who lacks so many tokens of the D-mode rate limit is to try
// again: one after the other, for all at once would find one token.
func (m *Machine) dmodeSlot(tokens float64) instant {
	rate := m.cfg.Limits.DModeRate
	slot := max(m.now+int64(m.dmode.wait(tokens, rate)), m.lastSlot)
	m.lastSlot = slot + int64(time.Second)/int64(rate)
	return slot
}

// retryLater has r's messages tried again when the rate limit lets the next one
// out: "D-mode messages MUST be queued until transmission is re-enabled" (RFC
// 5971 §5.3.3).
func (m *Machine) retryLater(r *routing) {
	if w := r.waiting; w != nil && r.peer != nil && w.retryAt == 0 {
		w.retryAt = m.dmodeSlot(1)
		m.timers.notLater(r, w.retryAt)
	}
}

// roomFor says whether a new routing state of a peer at this address fits. In
// the last quarter of the table an address that is not configured gets no more
// than half of its share, so that nobody can fill it alone.
func (m *Machine) roomFor(a netip.Addr) bool {
	all, n := m.cfg.Limits.RoutingStates, m.stats.RoutingStates
	if n < all-all/4 || m.known[a] != nil {
		return true
	}
	h := m.hosts[a]
	return h == nil || h.states < all/(2*len(m.hosts))
}

// useHost counts a peer that begins to be used.
func (m *Machine) useHost(p *peer) {
	if p.host = m.hosts[p.addr]; p.host == nil {
		p.host = new(host)
		m.hosts[p.addr] = p.host
	}
	p.host.peers++
}

func (m *Machine) leaveHost(p *peer) {
	if p.host.peers--; p.host.peers == 0 {
		delete(m.hosts, p.addr)
	}
	p.host = nil
}

// makePeerRoom says whether one more peer with this NLI can be kept. Those that
// are remembered for their SII handles only, the longest unused first, make
// room; one address has a bounded number of identities in use.
func (m *Machine) makePeerRoom(nli *wire.NLI) bool {
	if h := m.hosts[nli.Address]; h != nil && h.peers >= m.cfg.Limits.PeersPerAddress {
		return false
	}
	if len(m.peers) < m.cfg.Limits.Peers {
		return true
	}
	oldest := m.unused.next
	if oldest == nil {
		return false
	}
	m.forgetPeer(oldest)
	return true
}
