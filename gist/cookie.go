package gist

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// The Responder-Cookie (RFC 5971 §8.5): "liveness data + reception interface +
// hash (locally known secret, Q-Node NLI identity and address, MRI, NSLPID,
// liveness data)". The liveness data is the tag of the secret's generation,
// which is random. Ours, in octets:
//
//	 0       4       6       8  9  10     12                   28
//	+-------+-------+-------+--+--+------+----------------------+
//	| tag   | edge  | port  |h |f | if   | HMAC-SHA-256, 16     |
//	+-------+-------+-------+--+--+------+----------------------+
//
// edge is the number of the relaying edge from 1, or 0; port where the Response
// went; h the IP hops from the peer; f the flags below; if the low 16 bits of the
// index of the interface where the Query was intercepted, or 0. The hash covers
// all of it, the edge's address and the SID besides what the RFC lists. Where NATs have
// translated the Query, what they made of its NLI and MRI follows, since they
// leave the Confirm as it is (RFC 5971 §7.2.3): the length of the NLI (32 bits),
// its value, the MRI's value. The hash then covers these, and the MRI that the
// Confirm will have.
const (
	cookieLen    = 28
	cookieMACAt  = 12
	cookieMACLen = 16

	cookieStack = 1 // the Response carried our Stack-Proposal
	cookieReuse = 2 // the Response went over an association
	cookieNAT   = 4 // the Query was translated
)

// rcookie is what a Responder-Cookie remembers for us.
type rcookie struct {
	edge  uint16
	port  uint16
	hops  uint8
	flags uint8
	iface uint16
}

// secrets are the two newest generations of the key behind our cookies. They
// are replaced when they are used, not by a timer.
type secrets struct {
	gen [2]secret // the newest first
	buf []byte
	sum [sha256.Size]byte
}

type secret struct {
	tag  uint32
	mac  hash.Hash // nil: none
	born instant
}

func (m *Machine) rotateSecrets() {
	s, life := &m.secrets, int64(m.cfg.SecretLifetime)
	age := m.now - s.gen[0].born
	if s.gen[0].mac != nil && age < life {
		return
	}
	if age < 2*life {
		s.gen[1] = s.gen[0]
	} else {
		s.gen[1] = secret{}
	}
	tag := binary.BigEndian.Uint32(m.rand(4))
	if tag == s.gen[1].tag {
		tag++
	}
	s.gen[0] = secret{tag: tag, mac: hmac.New(sha256.New, m.rand(32)), born: m.now}
}

// appendCookie makes the Responder-Cookie for the Query in m.in.
func (m *Machine) appendCookie(b []byte, c rcookie, via netip.Addr) []byte {
	m.rotateSecrets()
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, m.secrets.gen[0].tag)
	b = binary.BigEndian.AppendUint16(b, c.edge)
	b = binary.BigEndian.AppendUint16(b, c.port)
	if m.natted.renamed {
		c.flags |= cookieNAT
	}
	b = append(b, c.hops, c.flags)
	b = binary.BigEndian.AppendUint16(b, c.iface)
	b = append(b, m.cookieMAC(m.secrets.gen[0].mac, b[at:], via)...)
	if m.natted.renamed {
		n := len(b)
		b = append(b, 0, 0, 0, 0)
		b = m.in.NLI.Append(b)
		binary.BigEndian.PutUint32(b[n:], uint32(len(b)-n-4))
		b = wire.AppendMRI(b, &m.in.MRI)
	}
	return b
}

// cookieMAC binds the cookie's head to the message in m.in: a Query, or a
// Confirm that travels in the same direction. RFC 5971 §8.5
func (m *Machine) cookieMAC(mac hash.Hash, head []byte, via netip.Addr) []byte {
	s, msg := &m.secrets, &m.in
	s.buf = append(s.buf[:0], head...)
	s.buf = binary.BigEndian.AppendUint16(s.buf, uint16(msg.NSLPID))
	s.buf = append(s.buf, msg.SID[:]...)
	v := via.As16()
	s.buf = append(s.buf, v[:]...)
	a := msg.NLI.Address.As16()
	s.buf = append(s.buf, a[:]...)
	s.buf = append(s.buf, uint8(len(msg.NLI.PeerIdentity)))
	s.buf = append(s.buf, msg.NLI.PeerIdentity...)
	s.buf = wire.AppendMRI(s.buf, &msg.MRI)
	if m.natted.renamed {
		s.buf = wire.AppendMRI(s.buf, &m.natted.wire)
	}
	mac.Reset()
	mac.Write(s.buf)
	return mac.Sum(s.sum[:0])[:cookieMACLen]
}

// openCookie checks the Responder-Cookie of the Confirm in m.in.
func (m *Machine) openCookie(b []byte) (c rcookie, via netip.Addr, ok bool) {
	if len(b) < cookieLen || (len(b) > cookieLen) != (b[9]&cookieNAT != 0) {
		return c, via, false
	}
	m.rotateSecrets()
	tag := binary.BigEndian.Uint32(b)
	var mac hash.Hash
	for i := range m.secrets.gen {
		if g := &m.secrets.gen[i]; g.mac != nil && g.tag == tag {
			mac = g.mac
		}
	}
	if mac == nil { // the liveness data alone sorts out blind floods
		return c, via, false
	}
	c = rcookie{
		edge: binary.BigEndian.Uint16(b[4:]), port: binary.BigEndian.Uint16(b[6:]),
		hops: b[8], flags: b[9], iface: binary.BigEndian.Uint16(b[10:]),
	}
	if c.edge > 0 {
		if int(c.edge) > len(m.cfg.Edges) {
			return c, via, false
		}
		via = m.cfg.Edges[c.edge-1].Internal
	}
	came := m.in.NLI
	if c.flags&cookieNAT != 0 && !m.readTranslations(b[cookieLen:]) {
		return c, via, false
	}
	want := m.cookieMAC(mac, b[:cookieMACAt], via)
	ok = subtle.ConstantTimeCompare(want, b[cookieMACAt:cookieLen]) == 1
	if !ok && m.natted.renamed {
		m.in.NLI, m.in.MRI, m.natted = came, m.natted.wire, natted{}
	}
	return c, via, ok
}

// readTranslations puts what NATs had made of the Query into the Confirm in m.in.
func (m *Machine) readTranslations(b []byte) bool {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return false
	}
	n := 4 + int(binary.BigEndian.Uint32(b))
	nli, err := wire.ParseNLI(b[4:n])
	if err != nil {
		return false
	}
	mri, err := wire.ParseMRI(b[n:])
	if err != nil {
		return false
	}
	m.in.NLI.Address, m.in.NLI.PeerIdentity = nli.Address, nli.PeerIdentity
	m.rename(mri)
	return true
}

// newQueryCookie begins a handshake: 128 random bits. RFC 5971 §8.5
func (m *Machine) newQueryCookie(r *routing) { copy(r.cookie[:], m.rand(16)) }

// queryCookie is the cookie of the n-th Query of a handshake, from 1:
// "retransmitted Queries MUST use different Query-Cookie values" (RFC 5971
// §5.3.3). All of one handshake are told apart from others by 120 random bits.
func (r *routing) queryCookie(n uint8) [16]byte {
	c := r.cookie
	c[15] += n
	return c
}

// answers says whether b is the cookie of any Query of r's last handshake:
// nodes "MUST be prepared to receive and match a reply to any of them, not just
// the one most recently sent" (RFC 5971 §5.3.3).
func (r *routing) answers(b []byte) bool {
	if len(b) != len(r.cookie) || subtle.ConstantTimeCompare(b[:15], r.cookie[:15]) != 1 {
		return false
	}
	n := b[15] - r.cookie[15]
	return n >= 1 && n <= r.sentQueries
}
