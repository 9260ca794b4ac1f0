package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// withRouting has a routing header, of a type that gopacket does not read.
const withRouting = "ipv6, hop, destination, routing"

// headers returns the headers of packets as they may arrive, by name: what
// stands in options and extension headers is kept as it is.
func headers() map[string][]byte {
	port := []byte{1, 14, 1, 14, 0, 0, 0, 0} // UDP, 270 to 270
	v4 := func(options ...byte) []byte {
		b := []byte{0x45 + byte(len(options)/4), 0xb8, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1}
		return append(append(b, options...), port...)
	}
	v6 := func(next byte, ext ...byte) []byte {
		b := []byte{0x6b, 0x8a, 0xbc, 0xde, 0, 0, next, 64}
		b = append(b, netip.MustParseAddr("2001:db8:1::1").AsSlice()...)
		b = append(b, netip.MustParseAddr("2001:db8:2::1").AsSlice()...)
		return append(append(b, ext...), port...)
	}
	return map[string][]byte{
		"ipv4":               v4(148, 4, 0, 33),
		"ipv4, not first":    v4(1, 30, 7, 4, 0, 0, 0, 0, 148, 4, 0, 33),
		"ipv4, no options":   v4(),
		"ipv6":               v6(0, 17, 0, 5, 2, 0, 36, 1, 0),
		"ipv6, padded first": v6(0, 17, 1, 1, 4, 0, 0, 0, 0, 5, 2, 0, 36, 1, 2, 0, 0),
		"ipv6, destination":  v6(0, 60, 0, 5, 2, 0, 36, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0),
		withRouting: v6(0, 60, 0, 5, 2, 0, 36, 1, 0,
			43, 0, 1, 4, 0, 0, 0, 0, 17, 2, 4, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
		"ipv6, no extensions": v6(17),
	}
}

// RFC 5971 §4.3.4: a packet that goes on is the one that came, but for the TTL,
// and gopacket finds its lengths and its UDP checksum right.
func TestForwardedPacketIsTheOneThatCame(t *testing.T) {
	for name, header := range headers() {
		if name == withRouting {
			continue
		}
		for _, payload := range [][]byte{[]byte("even"), []byte("odd"), nil, query(3)} {
			p, f, err := appendForwarded([]byte("before"), header, payload)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			p = p[len("before"):]
			if f.ttl != 64 || f.tos != 0xb8 || f.from.Port() != 270 || f.udp != len(header)-8 {
				t.Errorf("%s: facts %+v", name, f)
			}
			first, ttlAt := layers.LayerTypeIPv4, 8
			if header[0]>>4 == 6 {
				first, ttlAt = layers.LayerTypeIPv6, 7
			}
			parsed := gopacket.NewPacket(p, first, gopacket.Default)
			udp, ok := parsed.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if !ok || parsed.ErrorLayer() != nil {
				t.Errorf("%s: gopacket sees no UDP: %v", name, parsed)
				continue
			}
			if err := udp.SetNetworkLayerForChecksum(parsed.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
			again := gopacket.NewSerializeBuffer()
			if err := gopacket.SerializeLayers(again, gopacket.SerializeOptions{ComputeChecksums: true, FixLengths: true}, udp, gopacket.Payload(payload)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Bytes(), p[f.udp:]) {
				t.Errorf("%s: UDP % x, gopacket makes % x", name, p[f.udp:f.udp+8], again.Bytes()[:8])
			}
			if p[ttlAt] != 63 {
				t.Errorf("%s: TTL %d, want 63", name, p[ttlAt])
			}
			// All else is as it came: lengths, TTL and UDP checksum aside.
			same := bytes.Clone(p[:len(header)])
			same[ttlAt] = 64
			if first == layers.LayerTypeIPv4 {
				binary.BigEndian.PutUint16(same[2:], 0)
			} else {
				binary.BigEndian.PutUint16(same[4:], 0)
			}
			copy(same[f.udp+4:], header[f.udp+4:])
			if !bytes.Equal(same, header) {
				t.Errorf("%s: header\n% x, came\n% x", name, same, header)
			}
		}
	}
}

// RFC 5971 §5.3.2.1 to 5.3.2.3: what GIST does not make is not taken for it, and
// nothing is forwarded beyond its TTL.
func TestReadHeaderRefuses(t *testing.T) {
	base, base6 := headers()["ipv4"], headers()[withRouting]
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"IP version 5":         change(base, 0, 0x56),
		"short IPv4 header":    change(base, 0, 0x44),
		"TCP":                  change(base, 9, 6),
		"first fragment":       change(base, 6, 0x20),
		"last fragment":        change(base, 7, 1),
		"IPv6 in IPv4":         change(base, 9, 41),
		"IPv6 fragment header": change(base6, 40, 44),
		"IPv6 AH":              change(base6, 40, 51),
		"second hop-by-hop":    change(base6, 40, 0),
		"extension too long":   change(base6, 41, 200),
	} {
		if _, err := readHeader(b); !errors.Is(err, errNotUDP) {
			t.Errorf("%s: error %v", name, err)
		}
		if out, _, err := appendForwarded(nil, b, nil); err == nil || len(out) != 0 {
			t.Errorf("%s: forwarded as % x, %v", name, out, err)
		}
	}
	for _, b := range [][]byte{base, base6} {
		for n := range b {
			if _, err := readHeader(b[:n]); !errors.Is(err, errNotUDP) {
				t.Errorf("first %d octets of % x: error %v", n, b, err)
			}
		}
	}
	for ttl := range byte(2) {
		if _, _, err := appendForwarded(nil, change(base, 8, ttl), nil); !errors.Is(err, ErrTTL) {
			t.Errorf("TTL %d: error %v", ttl, err)
		}
	}
	if _, _, err := appendForwarded(nil, append(bytes.Clone(base), 0), nil); !errors.Is(err, errNotUDP) {
		t.Errorf("header with an octet too many: %v", err)
	}
	if _, _, err := appendForwarded(nil, base, make([]byte, 0xffff)); err == nil {
		t.Error("a packet of more than 65,535 octets was made")
	}
}

// What a socket tells of a packet makes the packet's headers again.
func TestHeaderFromAncillaryData(t *testing.T) {
	for name, want := range headers() {
		f, err := readHeader(want)
		if err != nil {
			t.Fatal(name, err)
		}
		a := arrived{from: f.from, to: f.to, ttl: f.ttl, tos: f.tos}
		if want[0]>>4 == 4 {
			a.extensions = want[20:f.udp]
		} else {
			a.flowinfo = binary.BigEndian.Uint32(want)
			if f.udp > 40 {
				a.firstKind, a.extensions = want[6], want[40:f.udp]
			}
		}
		if got := a.header(); !bytes.Equal(got, want) {
			t.Errorf("%s:\n% x, want\n% x", name, got, want)
		}
	}
}

// Whatever arrives: reading ends, stays inside the packet, and what is forwarded
// reads as what came, one hop further.
func FuzzForwardedPacket(f *testing.F) {
	for _, h := range headers() {
		f.Add(h, []byte("payload"))
	}
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		facts, err := readHeader(header)
		if err == nil && (facts.udp+8 > len(header) || !facts.from.IsValid() || !facts.to.IsValid()) {
			t.Fatalf("% x: %+v", header, facts)
		}
		out, _, err := appendForwarded(nil, header, payload)
		if err != nil {
			return
		}
		again, err := readHeader(out)
		if err != nil {
			t.Fatalf("% x: %v", out, err)
		}
		facts.ttl--
		if again != facts {
			t.Fatalf("forwarded %+v, came %+v", again, facts)
		}
		if u := out[facts.udp:]; checksum(u, pseudoHeader(facts.from.Addr(), facts.to.Addr(), len(u))) != 0 {
			t.Fatalf("UDP checksum of % x", out)
		}
	})
}

// Whatever the control messages are.
func FuzzAncillaryData(f *testing.F) {
	f.Add(appendTTL(appendRouterAlert(nil, false, 33), false, 9), false)
	f.Add(appendTTL(appendRouterAlert(nil, true, 33), true, 9), true)
	f.Fuzz(func(t *testing.T, oob []byte, v6 bool) {
		a := arrived{from: netip.AddrPortFrom(loopback(v6), 270)}
		a.parse(oob)
		if !a.to.IsValid() || a.to.Addr().Is4() == v6 || len(a.extensions) > 2048 {
			return
		}
		if h := a.header(); len(h) < 28+len(a.extensions) {
			t.Fatalf("header of %d octets for %d of extensions", len(h), len(a.extensions))
		}
	})
}
