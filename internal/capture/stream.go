package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/interqos/interqos/gist/wire"
)

// stream cuts what one side of a messaging association sends into messages, by
// the length in their common headers (RFC 5971 §5.4).
type stream struct {
	buf    []byte
	at     int64 // where buf begins in the stream
	synced bool  // buf begins with a common header
	begun  bool
	skip   int   // octets of an incomplete message that are still to come
	lost   int64 // octets passed over in search of a header
}

// verdict is what may be said of octets.
type verdict uint8

const (
	no verdict = iota
	maybe
	yes
)

// data takes what comes next in one direction of a connection.
func (r *Reader) data(c *conn, dir int, b []byte, at packet) {
	switch c.mode {
	case modeGIST:
		r.messages(c, dir, TCP, b, at)
	case modeTLS:
		r.records(c, dir, b, at)
	case modeUnknown:
		s := &c.half[dir].stream
		s.buf = append(s.buf, b...)
		r.decide(c, dir)
		if c.mode == modeUnknown {
			return
		}
		for i := range c.half {
			s := &c.half[i].stream
			held := s.buf
			s.buf = nil
			if len(held) > 0 && c.mode != modeOther {
				r.data(c, i, held, at)
			}
		}
	}
}

// decide finds out from the first octets of a direction what a connection
// carries. The first octet of a GIST message is its version, 1, and that of a
// TLS record its type, 20 to 23.
func (r *Reader) decide(c *conn, dir int) {
	b := c.half[dir].stream.buf
	record := isRecord(b)
	message := isMessage(b)
	switch {
	case record == yes:
		c.mode = modeTLS
		c.tls = &tlsConn{}
	case message == yes:
		c.mode = modeGIST
	case record == maybe || message == maybe:
	case r.expected(c.ends[0], c.ends[1]):
		c.mode = modeGIST // its header is wrong, or further on
	default:
		c.mode = modeOther
	}
}

// minMessage is the shortest message, an MA-Hello.
const minMessage = wire.HeaderLen + 8

// isMessage says whether b begins like a GIST message on an association: a common
// header whose fields fit each other, a first object that the type of message
// begins with, and the objects as far as they are there. It is strict where a
// decoder reports or ignores, since it looks for messages in any octets.
func isMessage(b []byte) verdict {
	if len(b) > 0 && b[0] != wire.Version1 {
		return no
	}
	if len(b) < minMessage {
		return maybe
	}
	h, _ := wire.ParseHeader(b)
	end := wire.HeaderLen + 4*int(h.Words)
	switch {
	case h.Type > wire.MAHello || h.Type == wire.Query || h.C || b[7]&0x1f != 0 || end < minMessage,
		h.E && h.Type != wire.Data,
		h.R && (h.Type == wire.Confirm || h.Type == wire.Data || h.Type == wire.Error),
		!isFirst(h.Type, b[wire.HeaderLen:]):
		return no
	}
	for at := wire.HeaderLen; at < end; {
		if at+4 > len(b) {
			return yes // as far as it is there
		}
		head := binary.BigEndian.Uint32(b[at:])
		if head&0x3000f000 != 0 {
			return no // reserved bits
		}
		if at += 4 + 4*int(head&0xfff); at > end {
			return no
		}
	}
	return yes
}

// isFirst says whether a message of this type may begin with this object.
// RFC 5971 §5.1
func isFirst(kind wire.MessageType, b []byte) bool {
	head, value := binary.BigEndian.Uint32(b), b[4:8]
	t, words := wire.ObjectType(head>>16&0xfff), head&0xfff
	switch {
	case head>>28 != 0:
		return false // A, B, and reserved bits
	case kind == wire.MAHello:
		return t == wire.ObjHelloID && words == 1
	case t == wire.ObjNATTraversal:
		return words > 4 && value[3] == 0
	case kind == wire.Error && t == wire.ObjError:
		return words >= 4 && wire.ErrorClass(value[0]) <= wire.PermanentFailure
	case kind == wire.Error && t == wire.ObjNLI:
		return words >= 3 && (value[2]>>4 == 4 || value[2]>>4 == 6)
	case kind == wire.Error || t != wire.ObjMRI:
		return false
	}
	method := wire.MRM(value[0])
	return words >= 3 && (method == wire.PathCoupled || method == wire.LooseEnd || method == wire.OffPath) &&
		value[1] == 0 && (value[2]>>4 == 4 || value[2]>>4 == 6)
}

// messages takes octets of GIST.
func (r *Reader) messages(c *conn, dir int, transport Transport, b []byte, at packet) {
	h := &c.half[dir]
	s := &h.stream
	if s.skip > 0 {
		n := min(s.skip, len(b))
		s.skip -= n
		s.at += int64(n)
		b = b[n:]
	}
	s.buf = append(s.buf, b...)
	if !s.begun {
		s.begun, s.synced = true, !h.midway
	}
	for {
		if !s.synced && !r.resync(c, dir, transport, at) {
			break
		}
		if len(s.buf) < wire.HeaderLen {
			break
		}
		n, err := wire.MessageLength(s.buf)
		if err != nil {
			// The decoder will say what is wrong; where the message ends
			// nobody knows.
			r.message(c, dir, transport, wire.HeaderLen, 0, at)
			s.drop(1)
			s.synced, s.lost = false, 1
			continue
		}
		if len(s.buf) < n {
			// A length to believe, unless a message comes before its end.
			if isMessage(s.buf) != no {
				break
			}
			if n = nextWhole(s.buf); n == 0 {
				break
			}
		}
		r.message(c, dir, transport, n, 0, at)
		s.drop(n)
	}
	if len(s.buf) == 0 {
		s.buf = nil
	}
}

func (s *stream) drop(n int) {
	s.buf = s.buf[n:]
	s.at += int64(n)
}

// nextWhole finds the next message that is there as a whole; 0: none.
func nextWhole(b []byte) int {
	for i := wire.HeaderLen; i+minMessage <= len(b); i++ {
		if b[i] != wire.Version1 || isMessage(b[i:]) != yes {
			continue
		}
		if n, err := wire.MessageLength(b[i:]); err == nil && i+n <= len(b) {
			return i
		}
	}
	return 0
}

// resync looks for the next common header.
func (r *Reader) resync(c *conn, dir int, transport Transport, at packet) bool {
	s := &c.half[dir].stream
	i := 0
	for i < len(s.buf) && isMessage(s.buf[i:]) == no {
		i++
	}
	s.drop(i)
	s.lost += int64(i)
	if isMessage(s.buf) != yes {
		s.buf = append([]byte(nil), s.buf...) // the array need not stay
		return false
	}
	s.synced = true
	if s.lost > 0 {
		r.streamRemark(c, dir, transport, at, fmt.Sprintf("%d octets before offset %d are no whole GIST message", s.lost, s.at))
		s.lost = 0
	}
	return true
}

// message emits the first n octets of the stream.
func (r *Reader) message(c *conn, dir int, transport Transport, n, missing int, at packet) {
	s := &c.half[dir].stream
	r.emit(Event{Frame: at.frame, Time: at.time, Transport: transport, From: c.ends[dir], To: c.ends[1-dir], RouterAlert: -1,
		Offset: s.at, Octets: append([]byte(nil), s.buf[:n]...), Missing: missing})
}

func (r *Reader) streamRemark(c *conn, dir int, transport Transport, at packet, text string) {
	r.emit(Event{Frame: at.frame, Time: at.time, Transport: transport, From: c.ends[dir], To: c.ends[1-dir], RouterAlert: -1, Remark: text})
}

// gap says that n octets of a direction are not in the capture.
func (r *Reader) gap(c *conn, dir, n int, at packet) {
	switch c.mode {
	case modeTLS:
		r.recordGap(c, dir, n, at)
	case modeGIST:
		r.messageGap(c, dir, TCP, n, at)
	case modeUnknown:
		// What follows begins anywhere.
		c.half[dir].midway = true
		c.half[dir].stream.buf = nil
	}
}

// messageGap ends the message that was begun. If it reaches beyond the gap, its
// rest is passed over; else the next header has to be found.
func (r *Reader) messageGap(c *conn, dir int, transport Transport, n int, at packet) {
	h := &c.half[dir]
	s := &h.stream
	if !s.begun {
		h.midway = true
		s.at += int64(n)
		return
	}
	have := len(s.buf)
	switch size, err := wire.MessageLength(s.buf); {
	case s.skip >= n:
		s.skip -= n
		s.at += int64(n)
		return
	case s.skip > 0 || !s.synced || err != nil:
		r.streamRemark(c, dir, transport, at, fmt.Sprintf("%d octets from offset %d on are not in the capture", n, s.at+int64(have)))
		s.synced, s.skip = false, 0
		s.lost += int64(have)
	default:
		r.message(c, dir, transport, have, size-have, at)
		s.skip = max(0, size-have-n)
		s.synced = have+n <= size
	}
	s.buf = nil
	s.at += int64(have + n)
}

// endStream hands out what is left at the end of a direction.
func (r *Reader) endStream(c *conn, dir int) {
	transport := TCP
	if c.mode == modeTLS {
		transport = TLS
		r.endRecords(c, dir)
	}
	if c.mode != modeGIST && c.mode != modeTLS {
		return
	}
	s := &c.half[dir].stream
	switch size, err := wire.MessageLength(s.buf); {
	case len(s.buf) == 0:
	case !s.synced || err != nil:
		r.streamRemark(c, dir, transport, r.at, fmt.Sprintf("the stream ends with %d octets from offset %d on that are no GIST message", int64(len(s.buf))+s.lost, s.at-s.lost))
	default:
		r.message(c, dir, transport, len(s.buf), size-len(s.buf), r.at)
	}
	s.buf = nil
}
