package capture

import (
	"container/list"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket/layers"
)

// TCP streams are put together here and not by gopacket's reassembly: it hands
// out connections in no order at the end, can be led to dereference nil, and
// does not know what a truncated packet lacks.

// Bounds of what is kept of TCP connections.
const (
	maxConns       = 16384
	maxConnsOctets = 64 << 20  // of all connections, waiting for more
	maxPending     = 256 << 10 // octets out of order, one direction
	maxPendingSegs = 512
	maxPendingTime = 10 * time.Second // by the capture's clock
)

// conn is a TCP connection. Its halves are what ends[0] and ends[1] sent.
type conn struct {
	ends  [2]netip.AddrPort
	half  [2]half
	mode  mode
	tls   *tlsConn
	place *list.Element
	size  int // octets kept, as last counted
}

// mode is what a connection carries.
type mode uint8

const (
	modeUnknown mode = iota
	modeGIST
	modeTLS
	modeOther
)

// half is one direction of a connection.
type half struct {
	started  bool
	ended    bool
	midway   bool // the capture begins within it
	isn      uint32
	next     uint32 // expected sequence number
	pending  []segment
	pendings int // octets in it
	stream   stream
}

// segment is data that came before what should precede it.
type segment struct {
	seq     uint32
	data    []byte
	missing int // octets after data that were not captured
	frame   int
	time    time.Time
}

type connKey [2]netip.AddrPort

type connTable struct {
	m      map[connKey]*conn
	recent *list.List // of *conn, least recently used first
	octets int
}

func (t *connTable) init() { t.m, t.recent = map[connKey]*conn{}, list.New() }

func keyOf(from, to netip.AddrPort) (connKey, int) {
	if from.Compare(to) <= 0 {
		return connKey{from, to}, 0
	}
	return connKey{to, from}, 1
}

func (t *connTable) add(key connKey) *conn {
	c := &conn{ends: key}
	c.place = t.recent.PushBack(c)
	t.m[key] = c
	return c
}

func (t *connTable) remove(c *conn) {
	if t.m[c.ends] == c {
		delete(t.m, c.ends)
		t.recent.Remove(c.place)
		t.octets -= c.size
	}
}

func (t *connTable) oldest() *conn { return t.recent.Front().Value.(*conn) }

func (t *connTable) all() (list []*conn) {
	for e := t.recent.Front(); e != nil; e = e.Next() {
		list = append(list, e.Value.(*conn))
	}
	return list
}

// used counts what c keeps now, and makes room if that is too much in all.
func (r *Reader) used(c *conn) {
	n := 0
	for i := range c.half {
		n += c.half[i].pendings + len(c.half[i].stream.buf)
	}
	if c.tls != nil {
		n += c.tls.size()
	}
	t := &r.conns
	t.octets += n - c.size
	c.size = n
	t.recent.MoveToBack(c.place)
	for (t.octets > maxConnsOctets || len(t.m) > maxConns) && t.oldest() != c {
		old := t.oldest()
		r.endConn(old)
		t.remove(old)
	}
}

// segment takes one TCP segment.
func (r *Reader) segment(from, to netip.AddrPort, l *layers.TCP, missing int) {
	key, dir := keyOf(from, to)
	c := r.conns.m[key]
	if c != nil && l.SYN && c.half[dir].started && c.half[dir].isn != l.Seq {
		r.endConn(c) // the ports are used again
		r.conns.remove(c)
		c = nil
	}
	if c == nil {
		if !l.SYN && len(l.Payload)+missing == 0 {
			return
		}
		c = r.conns.add(key)
	}
	if c.mode == modeOther {
		r.conns.recent.MoveToBack(c.place)
		return
	}
	h := &c.half[dir]
	seq := l.Seq
	if l.SYN {
		if !h.started {
			h.started, h.isn, h.next = true, seq, seq+1
		}
		seq++
	}
	if !h.started && len(l.Payload)+missing > 0 {
		h.started, h.midway, h.next = true, true, seq
		h.isn = seq - 1
	}
	if h.started && !h.ended {
		r.arrive(c, dir, segment{seq, l.Payload, missing, r.at.frame, r.at.time})
	}
	switch {
	case l.RST:
		r.endConn(c)
	case l.FIN && h.started && !h.ended && seq+uint32(len(l.Payload)+missing) == h.next:
		r.endHalf(c, dir)
	}
	r.used(c)
}

// arrive puts a segment into its place. The sequence numbers of TCP compare
// modulo 2^32.
func (r *Reader) arrive(c *conn, dir int, s segment) {
	h := &c.half[dir]
	if len(s.data)+s.missing == 0 {
		return
	}
	if int32(s.seq-h.next) > 0 {
		h.wait(s)
		for h.overdue(r.at.time) {
			r.skipHole(c, dir)
		}
		return
	}
	r.take(c, dir, s, r.at)
	for len(h.pending) > 0 && int32(h.pending[0].seq-h.next) <= 0 {
		r.take(c, dir, h.pop(), r.at)
	}
}

// wait keeps a copy of a segment, in order of sequence numbers.
func (h *half) wait(s segment) {
	i, _ := slices.BinarySearchFunc(h.pending, s, func(a, b segment) int { return int(int32(a.seq - b.seq)) })
	if i < len(h.pending) && h.pending[i].seq == s.seq && len(h.pending[i].data) >= len(s.data) {
		return
	}
	s.data = append([]byte(nil), s.data...)
	h.pending = slices.Insert(h.pending, i, s)
	h.pendings += len(s.data)
}

func (h *half) pop() segment {
	s := h.pending[0]
	h.pending = slices.Delete(h.pending, 0, 1)
	h.pendings -= len(s.data)
	return s
}

// overdue says whether there is no point in waiting any more.
func (h *half) overdue(now time.Time) bool {
	if len(h.pending) == 0 {
		return false
	}
	return h.pendings > maxPending || len(h.pending) > maxPendingSegs || now.Sub(h.pending[0].time) > maxPendingTime
}

// skipHole gives up waiting for what precedes the first pending segment.
func (r *Reader) skipHole(c *conn, dir int) {
	h := &c.half[dir]
	first := h.pop()
	at := packet{frame: first.frame, time: first.time}
	r.gap(c, dir, int(first.seq-h.next), at)
	h.next = first.seq
	r.take(c, dir, first, at)
	for len(h.pending) > 0 && int32(h.pending[0].seq-h.next) <= 0 {
		s := h.pop()
		r.take(c, dir, s, packet{frame: s.frame, time: s.time})
	}
}

// take hands on what is new of a segment that does not come too early. at is
// the frame to which what it completes belongs.
func (r *Reader) take(c *conn, dir int, s segment, at packet) {
	h := &c.half[dir]
	old := int(h.next - s.seq) // octets of it that came before
	if old >= len(s.data)+s.missing {
		return // a retransmission
	}
	data := s.data[min(old, len(s.data)):]
	missing := s.missing - max(0, old-len(s.data))
	h.next = s.seq + uint32(len(s.data)+s.missing)
	if len(data) > 0 {
		r.data(c, dir, data, at)
	}
	if missing > 0 {
		r.gap(c, dir, missing, at)
	}
}

// endHalf is the end of one direction.
func (r *Reader) endHalf(c *conn, dir int) {
	h := &c.half[dir]
	if h.ended {
		return
	}
	for len(h.pending) > 0 {
		r.skipHole(c, dir)
	}
	h.ended = true
	r.endStream(c, dir)
}

// endConn is the end of both.
func (r *Reader) endConn(c *conn) {
	for dir := range c.half {
		r.endHalf(c, dir)
	}
}
