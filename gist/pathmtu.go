package gist

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// Path MTUs: a D-mode message "MUST NOT exceed the Path MTU to the next peer, if
// this is known" (RFC 5971 §4.3.3). One that the system has learned to be smaller
// than Config.MTU counts for its destination, and for so long as the system
// itself would keep it (RFC 1191, section 6.3).

const (
	pathMTULifetime = 10 * time.Minute
	maxPathMTUs     = 1024
	minMTU          = 68 // of IPv4 (RFC 791): no path has less
)

type pathMTU struct {
	mtu   int
	until instant
}

// pathMTUs are those below Config.MTU, by destination.
type pathMTUs map[netip.Addr]pathMTU

// mtuTo is the largest packet that may go to a in one piece.
func (m *Machine) mtuTo(a netip.Addr) int {
	if len(m.mtus) > 0 {
		if p, ok := m.mtus[a]; ok && p.until > m.now {
			return min(p.mtu, m.cfg.MTU)
		}
	}
	return m.cfg.MTU
}

func (m *Machine) setMTU(a netip.Addr, mtu int) {
	if mtu >= m.cfg.MTU {
		delete(m.mtus, a)
		return
	}
	if _, known := m.mtus[a]; !known && len(m.mtus) >= maxPathMTUs {
		var oldest netip.Addr
		at := never
		for b, p := range m.mtus {
			if p.until < at || p.until == at && b.Less(oldest) {
				oldest, at = b, p.until
			}
		}
		delete(m.mtus, oldest)
	}
	if m.mtus == nil {
		m.mtus = pathMTUs{}
	}
	m.mtus[a] = pathMTU{max(mtu, minMTU), m.now + int64(pathMTULifetime)}
}

// tooLarge is a datagram of ours that did not leave. What can be is sent in
// another way at once: Data over an association, a Query without its payload. All
// else is as if it were lost.
func (m *Machine) tooLarge(e *DatagramTooLarge) {
	to := e.To.Addr().Unmap()
	mtu := e.MTU
	if tried := len(e.Payload) + dmodeOverhead; mtu <= 0 || mtu >= tried {
		mtu = tried - 4 // not known: messages are of 32-bit words
	}
	m.setMTU(to, mtu)
	m.note("path-mtu", e.To, fmt.Sprintf("a datagram of %d octets did not fit the path: MTU %d", len(e.Payload), m.mtuTo(to)))
	msg := &m.in
	if msg.DecodeDatagram(e.Payload) != nil || !msg.HasMRI || !msg.HasSID {
		return
	}
	r := m.lookup(msg.NSLPID, msg.SID, &msg.MRI)
	if r == nil {
		return // Data that uses no routing state, or a Response: nobody waits for it here
	}
	switch msg.Type {
	case wire.Query:
		m.queryTooLarge(r)
	case wire.Data:
		if r.peer == nil || r.peer.addr != to {
			return
		}
		out, ok := r.peer.sent.take(r, msg.NSLPData)
		switch {
		case !ok: // too long ago
		case r.querying:
			m.querySM(r, tgNSLPData, &out)
		default:
			m.respondSM(r, tgNSLPDataResponder, &out)
		}
	}
}

// queryTooLarge sends a Query again without the payload that made it too large:
// the sender "SHOULD begin messaging association setup" (RFC 5971 §4.3.4).
func (m *Machine) queryTooLarge(r *routing) bool {
	w := r.waiting
	if !r.running || w == nil || w.query == nil {
		return false
	}
	w.query, r.wantMA = nil, true
	m.sendQuery(r)
	m.arm(r)
	return true
}

// take removes and returns the last message of r with this payload.
func (s *sentRing) take(r *routing, data []byte) (outMsg, bool) {
	if s == nil {
		return outMsg{}, false
	}
	for i := range len(s.msgs) {
		e := &s.msgs[(s.next-1-i+2*len(s.msgs))%len(s.msgs)]
		if e.r == r && bytes.Equal(e.out.data, data) {
			out := e.out
			*e = sentMsg{}
			return out, true
		}
	}
	return outMsg{}, false
}
