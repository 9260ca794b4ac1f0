package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Link types (LINKTYPE_ numbers) that are read.
const (
	linkNull     = 0
	linkEthernet = 1
	linkPPP      = 9
	linkRawBSD   = 12
	linkRawOBSD  = 14
	linkPPPoE    = 51
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

// ipHeader is what counts of an IP packet.
type ipHeader struct {
	src, dst netip.Addr
	ttl      uint8
	alert    int // router alert value; -1: none
	missing  int // octets that were not captured
}

// packet reads one frame.
func (r *Reader) packet(p packet) {
	first, data := linkPayload(p.link, p.data)
	if first == nil {
		if !r.links[p.link] && len(r.links) < 256 {
			r.links[p.link] = true
			r.remark("", netip.AddrPort{}, netip.AddrPort{}, "frames of link type %d are not read", p.link)
		}
		return
	}
	if len(data) > 0 {
		r.layers(data, first, ipHeader{alert: -1})
	}
}

// linkPayload returns how to decode a frame from where on; nil: not known.
func linkPayload(link uint32, b []byte) (gopacket.Decoder, []byte) {
	switch link {
	case linkNull, linkLoop:
		return layers.LayerTypeLoopback, b
	case linkEthernet:
		return layers.LayerTypeEthernet, b
	case linkPPP:
		return layers.LayerTypePPP, b
	case linkPPPoE:
		return layers.LayerTypePPPoE, b
	case linkRaw, linkRawBSD, linkRawOBSD:
		if len(b) > 0 && b[0]>>4 == 6 {
			return layers.LayerTypeIPv6, b
		}
		return layers.LayerTypeIPv4, b
	case linkIPv4:
		return layers.LayerTypeIPv4, b
	case linkIPv6:
		return layers.LayerTypeIPv6, b
	case linkSLL: // 16 octets, the protocol last
		if len(b) < 16 {
			return gopacket.LayerTypePayload, nil
		}
		return layers.EthernetType(binary.BigEndian.Uint16(b[14:])), b[16:]
	case linkSLL2: // 20 octets, the protocol first; gopacket has no such layer
		if len(b) < 20 {
			return gopacket.LayerTypePayload, nil
		}
		return layers.EthernetType(binary.BigEndian.Uint16(b)), b[20:]
	}
	return nil, nil
}

// layers goes through the layers of a packet, tunnels included: a message
// belongs to the IP header nearest to it. A panic in a layer's decoder is
// caught by gopacket and ends the packet.
func (r *Reader) layers(data []byte, first gopacket.Decoder, ip ipHeader) {
	p := gopacket.NewPacket(data, first, gopacket.DecodeOptions{NoCopy: true})
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			ip = ipHeader4(l)
			if l.Flags&layers.IPv4MoreFragments != 0 || l.FragOffset != 0 {
				key := fragKey{src: ip.src, dst: ip.dst, id: uint32(l.Id), proto: uint8(l.Protocol)}
				r.fragment(key, ip, int(l.FragOffset)*8, l.Flags&layers.IPv4MoreFragments != 0, l.Payload)
				return
			}
		case *layers.IPv6:
			ip = ipHeader6(l)
			if l.HopByHop != nil {
				ip.alert = alert6(l.HopByHop)
			}
		case *layers.IPv6Fragment:
			key := fragKey{src: ip.src, dst: ip.dst, id: l.Identification, proto: uint8(l.NextHeader), v6: true}
			if l.MoreFragments || l.FragmentOffset != 0 {
				r.fragment(key, ip, int(l.FragmentOffset)*8, l.MoreFragments, l.Payload)
			} else {
				r.layers(l.Payload, l.NextHeader, ip) // an atomic fragment (RFC 6946)
			}
			return
		case *layers.UDP:
			if !ip.src.IsValid() {
				return
			}
			from, to := netip.AddrPortFrom(ip.src, uint16(l.SrcPort)), netip.AddrPortFrom(ip.dst, uint16(l.DstPort))
			r.datagram(&ip, from, to, l.Payload, ip.missing)
		case *layers.TCP:
			if !ip.src.IsValid() {
				return
			}
			from, to := netip.AddrPortFrom(ip.src, uint16(l.SrcPort)), netip.AddrPortFrom(ip.dst, uint16(l.DstPort))
			r.segment(from, to, l, ip.missing)
			return
		}
	}
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func ipHeader4(l *layers.IPv4) ipHeader {
	ip := ipHeader{src: addr(l.SrcIP), dst: addr(l.DstIP), ttl: l.TTL, alert: -1}
	ip.missing = max(0, int(l.Length)-len(l.Contents)-len(l.Payload))
	for _, o := range l.Options {
		// RFC 2113 §2.1: option 148, two octets of value.
		if o.OptionType == 148 && len(o.OptionData) == 2 {
			ip.alert = int(binary.BigEndian.Uint16(o.OptionData))
		}
	}
	return ip
}

func ipHeader6(l *layers.IPv6) ipHeader {
	ip := ipHeader{src: addr(l.SrcIP), dst: addr(l.DstIP), ttl: l.HopLimit, alert: -1}
	have := len(l.Payload)
	if l.HopByHop != nil {
		have += len(l.HopByHop.Contents)
	}
	ip.missing = max(0, int(l.Length)-have)
	return ip
}

// alert6 finds the router alert among hop-by-hop options. RFC 2711 §2.1
func alert6(h *layers.IPv6HopByHop) int {
	for _, o := range h.Options {
		if o.OptionType == 5 && len(o.OptionData) == 2 {
			return int(binary.BigEndian.Uint16(o.OptionData))
		}
	}
	return -1
}

// protocolOf is how to decode what an IP protocol number announces.
func protocolOf(proto uint8) gopacket.Decoder { return layers.IPProtocol(proto) }

type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
	v6       bool
}

// fragments puts IP fragments together: not gopacket's defragmenters, which
// take every IPv4 header for 20 octets long (a router alert makes it 24), know
// no IPv6 and have no bound.
type fragments struct {
	list   []*fragmented // oldest first
	octets int
}

type fragmented struct {
	key    fragKey
	ip     ipHeader // of the first fragment
	pieces []piece  // by offset, disjoint
	total  int      // -1: the last has not come
	octets int
}

type piece struct {
	at   int
	data []byte
}

// Bounds of what is kept of fragments.
const (
	maxFragmented     = 256
	maxFragmentPieces = 1024
	maxFragmentOctets = 4 << 20
	maxDatagram       = 65535
)

// fragment takes one fragment, and goes on with the packet if it is complete.
func (r *Reader) fragment(key fragKey, ip ipHeader, at int, more bool, data []byte) {
	if ip.missing > 0 || len(data) == 0 || at+len(data) > maxDatagram {
		return // a hole that nothing fills, or no fragment of an IP packet
	}
	f := r.frags.find(key)
	if at == 0 {
		f.ip = ip
	}
	if !more {
		f.total = at + len(data)
	}
	r.frags.add(f, at, data)
	whole, ok := f.whole()
	if !ok {
		if len(f.pieces) == 0 || len(f.pieces) > maxFragmentPieces {
			r.frags.drop(f)
		}
		return
	}
	r.frags.drop(f)
	r.layers(whole, protocolOf(key.proto), f.ip)
}

func (t *fragments) find(key fragKey) *fragmented {
	for _, f := range t.list {
		if f.key == key {
			return f
		}
	}
	for len(t.list) >= maxFragmented {
		t.drop(t.list[0])
	}
	f := &fragmented{key: key, total: -1}
	t.list = append(t.list, f)
	return f
}

func (t *fragments) drop(f *fragmented) {
	for i := range t.list {
		if t.list[i] == f {
			t.octets -= f.octets
			t.list = append(t.list[:i], t.list[i+1:]...)
			return
		}
	}
}

// add keeps what of data is new; what came first counts.
func (t *fragments) add(f *fragmented, at int, data []byte) {
	i := 0
	for ; i < len(f.pieces) && len(data) > 0; i++ {
		p := f.pieces[i]
		if end := p.at + len(p.data); at < end && at+len(data) > p.at {
			if at < p.at {
				front := data[:p.at-at]
				f.insert(i, at, front)
				t.octets += len(front)
				i++
			}
			data = data[min(len(data), end-at):]
			at = end
		} else if at < p.at {
			break
		}
	}
	if len(data) > 0 {
		f.insert(i, at, data)
		t.octets += len(data)
	}
	for t.octets > maxFragmentOctets && len(t.list) > 1 {
		if t.list[0] == f {
			t.drop(t.list[1])
		} else {
			t.drop(t.list[0])
		}
	}
}

func (f *fragmented) insert(i, at int, data []byte) {
	f.pieces = append(f.pieces, piece{})
	copy(f.pieces[i+1:], f.pieces[i:])
	f.pieces[i] = piece{at, append([]byte(nil), data...)}
	f.octets += len(data)
}

func (f *fragmented) whole() ([]byte, bool) {
	if f.total < 0 || !f.ip.src.IsValid() {
		return nil, false
	}
	out := make([]byte, 0, f.total)
	for _, p := range f.pieces {
		if p.at != len(out) {
			return nil, false
		}
		out = append(out, p.data...)
	}
	return out, len(out) == f.total
}
