package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// The reader of capture files is our own, not gopacket's pcapgo: that one keeps
// eight bits of a link type (so that SLL2 is none), divides by zero on some
// time resolutions, and allocates what a length field says.

// maxPacket is the longest packet that is taken from a file, in octets: what
// other tools take at most, too.
const maxPacket = 262144

// maxBlock bounds a block of a pcapng file other than a packet's.
const maxBlock = 16 << 20

// maxInterfaces bounds the interfaces of a pcapng section.
const maxInterfaces = 4096

// packet is one frame of a capture file.
type packet struct {
	frame int // from 1
	time  time.Time
	link  uint32 // LINKTYPE_ number
	data  []byte // valid until the next
	whole int    // its length on the wire, octets
}

// packetSource reads the packets of a file, in order; io.EOF at its end.
type packetSource interface {
	next() (packet, error)
}

// counter counts the octets that were read, for errors.
type counter struct {
	r  *bufio.Reader
	at int64
}

func (c *counter) full(b []byte) error {
	n, err := io.ReadFull(c.r, b)
	c.at += int64(n)
	return err
}

func (c *counter) skip(n int) error {
	done, err := c.r.Discard(n)
	c.at += int64(done)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

var (
	magicNg   = []byte{0x0a, 0x0d, 0x0d, 0x0a}
	magicGzip = []byte{0x1f, 0x8b}
)

// openFile finds out what kind of capture r is: pcap in either byte order, with
// micro- or nanoseconds, or pcapng; either may be gzip-compressed.
func openFile(r io.Reader) (packetSource, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	if head, _ := br.Peek(2); bytes.Equal(head, magicGzip) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		br = bufio.NewReaderSize(z, 64<<10)
	}
	head, err := br.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%d octets are no capture: expected a pcap or pcapng file", len(head))
		}
		return nil, err
	}
	in := &counter{r: br}
	if bytes.Equal(head, magicNg) {
		return &ngFile{in: in, buf: make([]byte, 0, 2048)}, nil
	}
	return openPcap(in, head)
}

// pcapFile is the classic format: a header of 24 octets, then for each packet
// one of 16.
type pcapFile struct {
	in    *counter
	order binary.ByteOrder
	nano  bool
	link  uint32
	frame int
	buf   []byte
}

func openPcap(in *counter, magic []byte) (packetSource, error) {
	f := &pcapFile{in: in}
	switch [4]byte(magic) {
	case [4]byte{0xa1, 0xb2, 0xc3, 0xd4}:
		f.order = binary.BigEndian
	case [4]byte{0xa1, 0xb2, 0x3c, 0x4d}:
		f.order, f.nano = binary.BigEndian, true
	case [4]byte{0xd4, 0xc3, 0xb2, 0xa1}:
		f.order = binary.LittleEndian
	case [4]byte{0x4d, 0x3c, 0xb2, 0xa1}:
		f.order, f.nano = binary.LittleEndian, true
	default:
		return nil, fmt.Errorf("begins with % x: expected a pcap or pcapng file", magic)
	}
	var h [24]byte
	if err := in.full(h[:]); err != nil {
		return nil, fmt.Errorf("pcap header: %d of 24 octets: %w", in.at, unexpected(err))
	}
	if major := f.order.Uint16(h[4:]); major != 2 {
		return nil, fmt.Errorf("pcap version %d, expected 2", major)
	}
	// The upper bits say how long a frame check sequence is.
	f.link = f.order.Uint32(h[20:]) & 0x03ffffff
	return f, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (f *pcapFile) next() (packet, error) {
	var h [16]byte
	at := f.in.at
	if err := f.in.full(h[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return packet{}, io.EOF
		}
		return packet{}, fmt.Errorf("frame %d, at offset %d: its header: %w", f.frame+1, at, err)
	}
	f.frame++
	n, whole := f.order.Uint32(h[8:]), f.order.Uint32(h[12:])
	if n > maxPacket {
		return packet{}, fmt.Errorf("frame %d, at offset %d: %d octets, expected at most %d", f.frame, at, n, maxPacket)
	}
	f.buf = grow(f.buf, int(n))
	if err := f.in.full(f.buf); err != nil {
		return packet{}, fmt.Errorf("frame %d, at offset %d: want %d octets, have %d: %w", f.frame, at, n, f.in.at-at-16, unexpected(err))
	}
	fraction := int64(f.order.Uint32(h[4:]))
	if !f.nano {
		fraction *= 1000
	}
	return packet{f.frame, time.Unix(int64(f.order.Uint32(h[0:])), fraction).UTC(), f.link, f.buf, int(max(n, whole))}, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// Block types of pcapng.
const (
	ngSection   = 0x0a0d0d0a
	ngInterface = 1
	ngObsolete  = 2 // Packet Block
	ngSimple    = 3
	ngEnhanced  = 6
	ngSecrets   = 10 // Decryption Secrets Block
)

// secretsTLSKeyLog is the type of a Decryption Secrets Block that holds a key
// log.
const secretsTLSKeyLog = 0x544c534b

// ngIface is what counts of a pcapng interface.
type ngIface struct {
	link    uint32
	snaplen uint32
	units   uint64 // of its time stamps, per second
	offset  int64  // seconds
}

// ngFile is pcapng.
type ngFile struct {
	in      *counter
	order   binary.ByteOrder
	ifaces  []ngIface
	frame   int
	buf     []byte
	secrets func([]byte) // takes an embedded key log
}

func (f *ngFile) next() (packet, error) {
	for {
		at := f.in.at
		kind, body, err := f.block()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return packet{}, io.EOF
			}
			return packet{}, fmt.Errorf("block at offset %d, after frame %d: %w", at, f.frame, err)
		}
		var p packet
		switch kind {
		case ngSection:
			f.ifaces = f.ifaces[:0]
			continue
		case ngInterface:
			if err = f.iface(body); err == nil {
				continue
			}
		case ngSecrets:
			f.takeSecrets(body)
			continue
		case ngEnhanced, ngObsolete:
			f.frame++
			p, err = f.enhanced(kind, body)
		case ngSimple:
			f.frame++
			p, err = f.simple(body)
		default:
			continue
		}
		if err != nil {
			return packet{}, fmt.Errorf("frame %d, block at offset %d: %w", f.frame, at, err)
		}
		p.frame = f.frame
		return p, nil
	}
}

// block reads one block: its type, and its body without the lengths.
func (f *ngFile) block() (uint32, []byte, error) {
	var h [12]byte
	if err := f.in.full(h[:8]); err != nil {
		return 0, nil, err
	}
	body := 8
	if bytes.Equal(h[:4], magicNg) { // the same in both byte orders
		if err := f.in.full(h[8:]); err != nil {
			return 0, nil, unexpected(err)
		}
		switch [4]byte(h[8:]) {
		case [4]byte{0x1a, 0x2b, 0x3c, 0x4d}:
			f.order = binary.BigEndian
		case [4]byte{0x4d, 0x3c, 0x2b, 0x1a}:
			f.order = binary.LittleEndian
		default:
			return 0, nil, fmt.Errorf("byte-order magic % x, expected 1a 2b 3c 4d in either order", h[8:])
		}
		body = 12
	}
	kind, length := f.order.Uint32(h[:]), f.order.Uint32(h[4:])
	if length < uint32(body+4) || length%4 != 0 {
		return 0, nil, fmt.Errorf("block of type %#x: length %d, expected a multiple of 4 of at least %d", kind, length, body+4)
	}
	rest := int64(length) - int64(body) - 4
	switch kind {
	case ngSection, ngInterface, ngObsolete, ngSimple, ngEnhanced, ngSecrets:
	default:
		// Of no interest. Skipped in steps: its length may be any.
		for rest > 0 {
			step := min(rest, maxBlock)
			if err := f.in.skip(int(step)); err != nil {
				return 0, nil, err
			}
			rest -= step
		}
	}
	if rest > maxBlock {
		return 0, nil, fmt.Errorf("block of type %#x: %d octets, expected at most %d", kind, length, maxBlock)
	}
	// Grown as it comes: the length is the file's word only.
	f.buf = f.buf[:0]
	for int64(len(f.buf)) < rest {
		n := len(f.buf)
		step := int(min(rest-int64(n), 64<<10))
		f.buf = append(f.buf, make([]byte, step)...)
		if err := f.in.full(f.buf[n:]); err != nil {
			return 0, nil, unexpected(err)
		}
	}
	if err := f.in.skip(4); err != nil {
		return 0, nil, err
	}
	return kind, f.buf, nil
}

func (f *ngFile) iface(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("interface description of %d octets, expected at least 8", len(b))
	}
	if len(f.ifaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces", maxInterfaces)
	}
	i := ngIface{link: uint32(f.order.Uint16(b)), snaplen: f.order.Uint32(b[4:]), units: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		if n > len(b)-4 || code == 0 {
			break
		}
		v := b[4 : 4+n]
		switch {
		case code == 9 && n == 1: // if_tsresol
			units, err := ngUnits(v[0])
			if err != nil {
				return err
			}
			i.units = units
		case code == 14 && n == 8: // if_tsoffset
			i.offset = int64(f.order.Uint64(v))
		}
		b = b[min(len(b), 4+(n+3)&^3):]
	}
	f.ifaces = append(f.ifaces, i)
	return nil
}

// ngUnits reads if_tsresol: units per second, a power of ten or of two.
func ngUnits(v uint8) (uint64, error) {
	exponent := int(v & 0x7f)
	if v&0x80 != 0 {
		if exponent > 63 {
			return 0, fmt.Errorf("time resolution 2^-%d, expected at most 2^-63", exponent)
		}
		return 1 << exponent, nil
	}
	if exponent > 19 {
		return 0, fmt.Errorf("time resolution 10^-%d, expected at most 10^-19", exponent)
	}
	units := uint64(1)
	for range exponent {
		units *= 10
	}
	return units, nil
}

func (i *ngIface) at(high, low uint32) time.Time {
	ts := uint64(high)<<32 | uint64(low)
	h, l := bits.Mul64(ts%i.units, 1e9)
	nanos, _ := bits.Div64(h, l, i.units) // below 1e9: h < units
	return time.Unix(int64(ts/i.units)+i.offset, int64(nanos)).UTC()
}

// enhanced reads an Enhanced Packet Block, or the obsolete Packet Block, which
// differs in having 16 bits each of interface and drop count.
func (f *ngFile) enhanced(kind uint32, b []byte) (packet, error) {
	if len(b) < 20 {
		return packet{}, fmt.Errorf("packet block of %d octets, expected at least 20", len(b))
	}
	id := f.order.Uint32(b)
	if kind == ngObsolete {
		id = uint32(f.order.Uint16(b))
	}
	if id >= uint32(len(f.ifaces)) {
		return packet{}, fmt.Errorf("interface %d, but the section has %d", id, len(f.ifaces))
	}
	i := &f.ifaces[id]
	n, whole := f.order.Uint32(b[12:]), f.order.Uint32(b[16:])
	if n > maxPacket || int(n) > len(b)-20 {
		return packet{}, fmt.Errorf("%d octets captured, but the block has %d; expected at most %d", n, len(b)-20, maxPacket)
	}
	return packet{time: i.at(f.order.Uint32(b[4:]), f.order.Uint32(b[8:])), link: i.link, data: b[20 : 20+n], whole: int(max(n, whole))}, nil
}

func (f *ngFile) simple(b []byte) (packet, error) {
	if len(b) < 4 || len(f.ifaces) == 0 {
		return packet{}, fmt.Errorf("simple packet block of %d octets with %d interfaces, expected at least 4 and 1", len(b), len(f.ifaces))
	}
	i := &f.ifaces[0]
	whole := f.order.Uint32(b)
	n := min(uint32(len(b)-4), whole, maxPacket)
	if i.snaplen > 0 {
		n = min(n, i.snaplen)
	}
	return packet{link: i.link, data: b[4 : 4+n], whole: int(max(n, whole))}, nil
}

func (f *ngFile) takeSecrets(b []byte) {
	if len(b) < 8 || f.secrets == nil || f.order.Uint32(b) != secretsTLSKeyLog {
		return
	}
	n := int(min(f.order.Uint32(b[4:]), uint32(len(b)-8)))
	f.secrets(b[8 : 8+n])
}
