package capture_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/interqos/interqos/gist/wire"
)

// started is when captures made here begin; frames follow each other by a
// millisecond.
var started = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

// record is a frame of a capture. whole is its length on the wire, 0: all of it.
type frame struct {
	data  []byte
	whole int
}

func frames(data ...[]byte) (list []frame) {
	for _, b := range data {
		list = append(list, frame{data: b})
	}
	return list
}

// pcapFile writes the classic format.
func pcapFile(order binary.AppendByteOrder, nano bool, link uint32, list []frame) []byte {
	magic, unit := uint32(0xa1b2c3d4), int64(1000)
	if nano {
		magic, unit = 0xa1b23c4d, 1
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 65535), link)
	for i, f := range list {
		at := started.Add(time.Duration(i) * time.Millisecond)
		b = order.AppendUint32(b, uint32(at.Unix()))
		b = order.AppendUint32(b, uint32(int64(at.Nanosecond())/unit))
		b = order.AppendUint32(b, uint32(len(f.data)))
		b = order.AppendUint32(b, uint32(max(f.whole, len(f.data))))
		b = append(b, f.data...)
	}
	return b
}

func pcap(link uint32, list []frame) []byte { return pcapFile(binary.LittleEndian, false, link, list) }

// serialize makes octets of layers.
func serialize(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

// ipPacket is an IP packet, with the option for a router alert if alert is not
// negative.
func ipPacket(t testing.TB, from, to string, alert int, protocol layers.IPProtocol, payload []byte) []byte {
	t.Helper()
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 33, Id: 77, Protocol: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		if alert >= 0 {
			ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{byte(alert >> 8), byte(alert)}}}
		}
		return serialize(t, ip, gopacket.Payload(payload))
	}
	ip := &layers.IPv6{Version: 6, HopLimit: 33, NextHeader: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	if alert >= 0 {
		ip.NextHeader = layers.IPProtocolIPv6HopByHop
		payload = append([]byte{byte(protocol), 0, 5, 2, byte(alert >> 8), byte(alert), 1, 0}, payload...)
	}
	return serialize(t, ip, gopacket.Payload(payload))
}

// udp is a UDP datagram, without a checksum.
func udp(from, to uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// tcpFlags of a segment.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// side is one side of a TCP connection.
type side struct {
	t        testing.TB
	from, to string
	ports    [2]uint16
	isn, seq uint32
}

// raw is a segment as an IP packet, at an offset from what was sent so far.
func (s *side) raw(offset int, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, s.ports[0])
	b = binary.BigEndian.AppendUint16(b, s.ports[1])
	b = binary.BigEndian.AppendUint32(b, s.seq+uint32(offset))
	b = append(b, 0, 0, 0, 0, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return ipPacket(s.t, s.from, s.to, -1, layers.IPProtocolTCP, append(b, payload...))
}

// open gives the connection a beginning.
func (s *side) open(isn uint32) { s.isn, s.seq = isn, isn+1 }

// syn is the first segment, whenever it is asked for.
func (s *side) syn() []byte { return s.raw(int(int32(s.isn-s.seq)), syn, nil) }

// send is the next segment.
func (s *side) send(payload []byte) []byte {
	b := s.raw(0, ack, payload)
	s.seq += uint32(len(payload))
	return b
}

func (s *side) fin() []byte { return s.raw(0, fin|ack, nil) }

// newSides are a client's and a server's; the port is where GIST listens.
func newSides(t testing.TB, port uint16) (client, server *side) {
	client = &side{t: t, from: "10.1.0.1", to: "10.2.0.1", ports: [2]uint16{40000, port}}
	server = &side{t: t, from: "10.2.0.1", to: "10.1.0.1", ports: [2]uint16{port, 40000}}
	client.open(0xffffff00) // wraps soon
	server.open(1000)
	return client, server
}

// stream are messages one after the other, the i-th of session i.
func stream(n int) (octets []byte, ends []int) {
	_, _, turns := association()
	for i := range n {
		m := turns[0][1]
		m.SID = wire.SID{1, 15: byte(i)}
		octets = m.Append(octets)
		ends = append(ends, len(octets))
	}
	return octets, ends
}

func concat(list ...[]byte) (out []byte) {
	for _, b := range list {
		out = append(out, b...)
	}
	return out
}
