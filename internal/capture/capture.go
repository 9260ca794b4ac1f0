// Package capture takes the GIST messages (RFC 5971) out of a capture of
// network traffic: pcap or pcapng, IPv4 and IPv6, whole or fragmented, datagrams
// (§5.3) and messaging associations over TCP and TLS (§5.4, §5.7).
//
// It reads a file from front to back and keeps what it needs to put streams
// together, no more: every table and buffer has a bound.
package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// DefaultPort is where GIST is expected if Options do not say (RFC 5971 §9).
const DefaultPort = 270

// Transport says how a message was carried.
type Transport string

// Transports. A D-mode message is in Q-mode if its C flag is set or its packet
// has a router alert option (RFC 5971 §5.3.2, §A.1).
const (
	UDP      Transport = "udp"
	UDPQMode Transport = "udp-qmode"
	TCP      Transport = "tcp"
	TLS      Transport = "tls"
)

// Options say what to look for.
type Options struct {
	// Ports are where GIST is expected, on UDP and TCP; none: 270. On other
	// ports only what is certainly GIST is taken: a datagram with the magic
	// number, and a stream that begins with a GIST message or that a Response
	// offered (RFC 5971 §5.7.2).
	Ports []uint16
	// KeyLog opens TLS. Nil: only what the capture itself has (a Decryption
	// Secrets Block of pcapng).
	KeyLog *KeyLog
}

// Event is one GIST message, or a Remark about what could not be read.
type Event struct {
	Frame     int // the frame that completed it, from 1
	Time      time.Time
	Transport Transport
	From, To  netip.AddrPort
	TTL       uint8 // of the IP packet; D-mode only
	// RouterAlert is the value of the packet's router alert option; -1: none.
	RouterAlert int
	// Offset is where the message begins: in the datagram's payload, or in
	// what its sender wrote to the stream, as far as it is in the capture.
	Offset int64
	// Octets are the message from its common header on; in D-mode the magic
	// number stands before it.
	Octets []byte
	// Missing counts octets of the message that the capture does not have.
	Missing int
	// Remark says what was not understood; then there is no message.
	Remark string
}

// DMode says whether the message came in a datagram.
func (e *Event) DMode() bool { return e.Transport == UDP || e.Transport == UDPQMode }

// Reader reads one capture.
type Reader struct {
	source  packetSource
	options Options
	ports   map[uint16]bool
	offered offers
	frags   fragments
	conns   connTable
	queue   []Event
	links   map[uint32]bool // link types remarked upon
	done    error

	at packet // the one being read
}

// NewReader begins to read a capture.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	source, err := openFile(r)
	if err != nil {
		return nil, err
	}
	if o.KeyLog == nil {
		o.KeyLog = NewKeyLog()
	}
	out := &Reader{source: source, options: o, ports: map[uint16]bool{}, links: map[uint32]bool{}}
	for _, p := range o.Ports {
		out.ports[p] = true
	}
	if len(o.Ports) == 0 {
		out.ports[DefaultPort] = true
	}
	out.conns.init()
	if ng, ok := source.(*ngFile); ok {
		ng.secrets = func(b []byte) { o.KeyLog.addText(b) }
	}
	return out, nil
}

// Next returns the next message or remark. At the capture's end it returns
// io.EOF; an error about the file ends the reading too.
func (r *Reader) Next() (Event, error) {
	for len(r.queue) == 0 {
		if r.done != nil {
			return Event{}, r.done
		}
		p, err := r.source.next()
		if err != nil {
			r.done = err
			r.finish()
			continue
		}
		r.at = p
		r.packet(p)
	}
	e := r.queue[0]
	r.queue = r.queue[1:]
	if len(r.queue) == 0 {
		r.queue = nil // its array goes
	}
	return e, nil
}

// finish hands out what waited for more.
func (r *Reader) finish() {
	for _, c := range r.conns.all() {
		r.endConn(c)
	}
}

func (r *Reader) emit(e Event) { r.queue = append(r.queue, e) }

func (r *Reader) remark(transport Transport, from, to netip.AddrPort, format string, args ...any) {
	r.emit(Event{Frame: r.at.frame, Time: r.at.time, Transport: transport, From: from, To: to, RouterAlert: -1, Remark: fmt.Sprintf(format, args...)})
}

// datagram takes a UDP datagram. Datagrams that do not begin with the magic
// number are not GIST (RFC 5971 §5.3.1); on GIST's ports they are shown.
func (r *Reader) datagram(ip *ipHeader, from, to netip.AddrPort, payload []byte, missing int) {
	magic := len(payload) >= wire.MagicLen && binary.BigEndian.Uint32(payload) == wire.MagicNumber
	if !magic && !r.ports[from.Port()] && !r.ports[to.Port()] {
		return
	}
	e := Event{Frame: r.at.frame, Time: r.at.time, Transport: UDP, From: from, To: to, TTL: ip.ttl, RouterAlert: ip.alert,
		Octets: append([]byte(nil), payload...), Missing: missing}
	if len(payload) == 0 {
		e.Octets, e.Missing = nil, 0
		e.Remark = fmt.Sprintf("a datagram on GIST's port with 0 of %d octets in the capture", missing)
	}
	if magic {
		h, err := wire.ParseHeader(payload[wire.MagicLen:])
		if ip.alert >= 0 || err == nil && h.C {
			e.Transport = UDPQMode
		}
		if err == nil && h.Type == wire.Response {
			r.offered.learn(payload, from)
		}
	}
	r.emit(e)
}

// offers are the addresses at which Responses offered messaging associations:
// the port is anybody's choice (RFC 5971 §5.7.2).
type offers struct {
	known map[netip.AddrPort]bool
	order []netip.AddrPort
}

const maxOffers = 4096

func (o *offers) learn(datagram []byte, from netip.AddrPort) {
	m, err := wire.ParseDatagram(datagram)
	if err != nil || !m.HasStackConfig {
		return
	}
	addr := from.Addr()
	if m.HasNLI {
		addr = m.NLI.Address
	}
	for i := range m.StackConfig.Options {
		if port, ok := m.StackConfig.Options[i].Port(); ok && port != 0 {
			o.add(netip.AddrPortFrom(addr, port))
		}
	}
}

func (o *offers) add(a netip.AddrPort) {
	if o.known[a] {
		return
	}
	if o.known == nil {
		o.known = map[netip.AddrPort]bool{}
	}
	if len(o.order) == maxOffers {
		delete(o.known, o.order[0])
		o.order = o.order[1:]
	}
	o.known[a] = true
	o.order = append(o.order, a)
}

func (o *offers) has(a netip.AddrPort) bool { return o.known[a] }

// expected says whether GIST is expected between these two.
func (r *Reader) expected(a, b netip.AddrPort) bool {
	return r.ports[a.Port()] || r.ports[b.Port()] || r.offered.has(a) || r.offered.has(b)
}
