package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"
)

// flood writes a capture packet by packet, as it is read: n frames of link type
// raw, made by next.
type flood struct {
	n    int
	next func(i int) []byte
	i    int
	buf  []byte
}

func (f *flood) Read(b []byte) (int, error) {
	if f.buf == nil {
		f.buf = append(f.buf, 0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, linkRaw)
	}
	if len(f.buf) == 0 {
		if f.i == f.n {
			return 0, io.EOF
		}
		p := f.next(f.i)
		f.i++
		f.buf = append(f.buf, make([]byte, 8)...)
		f.buf = binary.BigEndian.AppendUint32(f.buf, uint32(len(p)))
		f.buf = binary.BigEndian.AppendUint32(f.buf, uint32(len(p)))
		f.buf = append(f.buf, p...)
	}
	n := copy(b, f.buf)
	f.buf = f.buf[n:]
	return n, nil
}

// packet4 is an IPv4 packet between addresses that depend on i.
func packet4(i int, protocol layers.IPProtocol, fragment uint16, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, byte(i >> 8), byte(i), byte(fragment >> 8), byte(fragment), 64, byte(protocol), 0, 0,
		10, byte(i >> 16), byte(i >> 8), byte(i), 10, 0, 0, 1}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	return append(b, payload...)
}

func segment4(i int, seq uint32, payload []byte) []byte {
	b := []byte{0x9c, 0x40, 1, 14}
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, 5<<4, 16, 0xff, 0xff, 0, 0, 0, 0)
	return packet4(i, layers.IPProtocolTCP, 0, append(b, payload...))
}

// Whatever a capture has in it, what is kept of it has bounds: connections that
// never end, streams with holes, messages that are never whole, TLS without a
// handshake, fragments without their rest.
func TestBounds(t *testing.T) {
	header := []byte{1, 9, 0xff, 0xff, 0, 1, 3, 0, 0, 0, 0, 5} // the longest message there is
	part := slices.Concat(header, bytes.Repeat([]byte{0xaa}, 1300))
	hello := slices.Concat([]byte{22, 3, 1, 0x40, 0}, part)
	for _, c := range []struct {
		name string
		n    int
		next func(i int) []byte
	}{
		{"connections", maxConns + 4000, func(i int) []byte { return segment4(i, 1, part[:20]) }},
		{"long messages", 80_000, func(i int) []byte { return segment4(i%400, 1+uint32(i/400*1300), slices.Concat(header, part)[:1300]) }},
		{"holes", 40_000, func(i int) []byte { return segment4(i%3, uint32(2*i*1300), part) }},
		{"one stream with holes", 3 * maxPendingSegs, func(i int) []byte { return segment4(0, uint32(i*3), part[:2]) }},
		{"TLS", 40_000, func(i int) []byte { return segment4(i%3000, uint32(1+i/3000*len(hello)), hello) }},
		{"fragments", 40_000, func(i int) []byte { return packet4(i, layers.IPProtocolUDP, 1<<13|uint16(i%7), part) }},
		{"fragments of one packet", 10_000, func(i int) []byte { return packet4(7, layers.IPProtocolUDP, 1<<13|uint16(i%8000), part[:8]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r *Reader
			r, err := NewReader(&flood{n: c.n, next: func(i int) []byte {
				if i%500 == 499 {
					checkBounds(t, r)
				}
				return c.next(i)
			}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = r.Next()
			}
			if !errors.Is(err, io.EOF) || r.at.frame != c.n {
				t.Fatalf("after frame %d: %v, want %d frames", r.at.frame, err, c.n)
			}
			checkBounds(t, r)
		})
	}
}

func checkBounds(t *testing.T, r *Reader) {
	t.Helper()
	if len(r.conns.m) > maxConns || r.conns.recent.Len() != len(r.conns.m) || r.conns.octets > maxConnsOctets {
		t.Fatalf("%d connections (%d), %d octets", len(r.conns.m), r.conns.recent.Len(), r.conns.octets)
	}
	if len(r.frags.list) > maxFragmented || r.frags.octets > maxFragmentOctets+maxDatagram {
		t.Fatalf("%d packets in fragments, %d octets", len(r.frags.list), r.frags.octets)
	}
	if len(r.offered.known) > maxOffers {
		t.Fatalf("%d offers", len(r.offered.known))
	}
}
