package capture_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/capture"
	"github.com/interqos/interqos/internal/dissect"
)

// query is a Query as a datagram.
func query() []byte {
	m, _, _ := association()
	return m.AppendDatagram(nil)
}

// one reads a capture that has one well-formed Query.
func one(t *testing.T, file []byte, o capture.Options) dissect.Message {
	t.Helper()
	messages, remarks, err := readAll(t, bytes.NewReader(file), o)
	if err != nil || len(remarks) != 0 || len(messages) != 1 {
		t.Fatalf("%d messages, %v, %v; want one", len(messages), remarks, err)
	}
	m := messages[0]
	if m.Malformed() || m.Header.Type != wire.Query || !bytes.Equal(m.Event.Octets, query()) {
		t.Fatalf("%s", m.Text())
	}
	return m
}

// RFC 2113 §2.1, RFC 2711 §2.1: from every kind of link, with router alert.
func TestLinkTypes(t *testing.T) {
	v4 := ipPacket(t, "10.1.0.1", "10.2.0.1", 33, layers.IPProtocolUDP, udp(1234, 270, query()))
	v6 := ipPacket(t, "2001:db8::1", "2001:db8::2", 36, layers.IPProtocolUDP, udp(1234, 270, query()))
	mac := make([]byte, 12)
	for _, c := range []struct {
		name  string
		link  uint32
		head4 []byte
		head6 []byte
	}{
		{"Ethernet", 1, append(mac, 8, 0), append(mac[:12:12], 0x86, 0xdd)},
		{"VLAN", 1, append(mac[:12:12], 0x81, 0, 0, 5, 8, 0), append(mac[:12:12], 0x81, 0, 0, 5, 0x86, 0xdd)},
		{"VLAN in VLAN", 1, append(mac[:12:12], 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0), append(mac[:12:12], 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd)},
		{"null", 0, []byte{2, 0, 0, 0}, []byte{30, 0, 0, 0}},
		{"loop", 108, []byte{0, 0, 0, 2}, []byte{0, 0, 0, 24}},
		{"raw", 101, nil, nil},
		{"raw of BSD", 12, nil, nil},
		{"IPv4 and IPv6", 228, nil, nil},
		{"SLL", 113, append(make([]byte, 14), 8, 0), append(make([]byte, 14), 0x86, 0xdd)},
		{"SLL2", 276, append([]byte{8, 0}, make([]byte, 18)...), append([]byte{0x86, 0xdd}, make([]byte, 18)...)},
		{"PPP", 9, []byte{0, 0x21}, []byte{0, 0x57}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := one(t, pcap(c.link, frames(concat(c.head4, v4))), capture.Options{})
			if e := m.Event; e.From.String() != "10.1.0.1:1234" || e.To.String() != "10.2.0.1:270" || e.TTL != 33 || e.RouterAlert != 33 ||
				e.Transport != capture.UDPQMode || !e.Time.Equal(started) || e.Frame != 1 {
				t.Errorf("IPv4: %+v", e)
			}
			link := c.link
			if link == 228 {
				link++
			}
			m = one(t, pcap(link, frames(concat(c.head6, v6))), capture.Options{})
			if e := m.Event; e.From != netip.MustParseAddrPort("[2001:db8::1]:1234") || e.RouterAlert != 36 || e.TTL != 33 {
				t.Errorf("IPv6: %+v", e)
			}
		})
	}
	// Tunnels: the nearest IP header counts.
	inner := ipPacket(t, "10.9.0.1", "10.9.0.2", -1, layers.IPProtocolUDP, udp(270, 270, query()))
	outer := ipPacket(t, "10.1.0.1", "10.2.0.1", -1, layers.IPProtocolIPv4, inner)
	if m := one(t, pcap(101, frames(outer)), capture.Options{}); m.Event.From.String() != "10.9.0.1:270" {
		t.Errorf("in a tunnel: %+v", m.Event)
	}
	_, remarks, err := readAll(t, bytes.NewReader(pcap(147, frames(v4, v4))), capture.Options{})
	if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0].Remark, "link type 147") {
		t.Errorf("unknown link type: %v, %v", remarks, err)
	}
}

// ngBlock is a block of pcapng.
func ngBlock(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&3)...)
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, uint32(len(body)+12))
	return order.AppendUint32(append(b, body...), uint32(len(body)+12))
}

func ngSection(order binary.AppendByteOrder) []byte {
	b := order.AppendUint32(nil, 0x1a2b3c4d)
	b = order.AppendUint16(order.AppendUint16(b, 1), 0)
	return ngBlock(order, 0x0a0d0d0a, order.AppendUint64(b, 1<<64-1))
}

// ngInterface has a time resolution, if resol is not 0.
func ngInterface(order binary.AppendByteOrder, link uint16, resol byte) []byte {
	b := order.AppendUint32(order.AppendUint16(order.AppendUint16(nil, link), 0), 65535)
	if resol != 0 {
		b = append(order.AppendUint16(order.AppendUint16(b, 9), 1), resol, 0, 0, 0)
		b = order.AppendUint32(b, 0)
	}
	return ngBlock(order, 1, b)
}

func ngPacket(order binary.AppendByteOrder, iface uint32, stamp uint64, data []byte) []byte {
	b := order.AppendUint32(nil, iface)
	b = order.AppendUint32(order.AppendUint32(b, uint32(stamp>>32)), uint32(stamp))
	b = order.AppendUint32(order.AppendUint32(b, uint32(len(data))), uint32(len(data)))
	return ngBlock(order, 6, append(b, data...))
}

func TestFileFormats(t *testing.T) {
	v4 := ipPacket(t, "10.1.0.1", "10.2.0.1", 33, layers.IPProtocolUDP, udp(1234, 270, query()))
	micros, nanos := uint64(started.UnixMicro()), uint64(started.UnixNano())
	big, little := binary.BigEndian, binary.LittleEndian
	zipped := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return out.Bytes()
	}
	binaryTime := uint64(started.Unix())<<20 | uint64(started.Nanosecond())<<20/1e9
	for _, c := range []struct {
		name  string
		file  []byte
		off   time.Duration // how exact its time is
		timed bool
	}{
		{"pcap, little endian, microseconds", pcapFile(little, false, 101, frames(v4)), 0, true},
		{"pcap, big endian, microseconds", pcapFile(big, false, 101, frames(v4)), 0, true},
		{"pcap, little endian, nanoseconds", pcapFile(little, true, 101, frames(v4)), 0, true},
		{"pcap, big endian, nanoseconds", pcapFile(big, true, 101, frames(v4)), 0, true},
		{"pcap, compressed", zipped(pcapFile(big, true, 101, frames(v4))), 0, true},
		{"pcapng, little endian", concat(ngSection(little), ngInterface(little, 101, 0), ngPacket(little, 0, micros, v4)), 0, true},
		{"pcapng, big endian, nanoseconds", concat(ngSection(big), ngInterface(big, 101, 9), ngPacket(big, 0, nanos, v4)), 0, true},
		{"pcapng, powers of two", concat(ngSection(big), ngInterface(big, 101, 0x80|20), ngPacket(big, 0, binaryTime, v4)), time.Microsecond, true},
		{"pcapng, second interface, unknown block", concat(ngSection(big), ngInterface(big, 1, 0), ngInterface(big, 101, 0), ngBlock(big, 0xbad, []byte("what?")), ngPacket(big, 1, micros, v4)), 0, true},
		{"pcapng, second section in another byte order", concat(ngSection(big), ngInterface(big, 1, 0), ngSection(little), ngInterface(little, 101, 0), ngPacket(little, 0, micros, v4)), 0, true},
		{"pcapng, simple packet", concat(ngSection(big), ngInterface(big, 101, 0), ngBlock(big, 3, append(big.AppendUint32(nil, uint32(len(v4))), v4...))), 0, false},
		{"pcapng, compressed", zipped(concat(ngSection(big), ngInterface(big, 101, 0), ngPacket(big, 0, micros, v4))), 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := one(t, c.file, capture.Options{})
			if d := m.Event.Time.Sub(started).Abs(); c.timed && d > c.off {
				t.Errorf("time %v, want %v", m.Event.Time, started)
			}
		})
	}
}

func TestFileErrors(t *testing.T) {
	big := binary.BigEndian
	section, iface := ngSection(big), ngInterface(big, 101, 0)
	good := pcap(101, frames([]byte("x")))
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"nothing", "0 octets are no capture", nil},
		{"text", "expected a pcap or pcapng file", []byte("hello, world, hello")},
		{"version", "pcap version 9, expected 2", append(append([]byte{}, good[:4]...), append([]byte{9, 0}, good[6:]...)...)},
		{"header cut", "10 of 24 octets", good[:10]},
		{"frame header cut", "frame 1, at offset 24: its header", good[:30]},
		{"frame cut", "frame 1, at offset 24: want 1 octets, have 0", good[:40]},
		{"huge frame", "octets, expected at most 262144", pcapFile(big, false, 101, []frame{{data: make([]byte, 300000)}})},
		{"byte order", "byte-order magic", []byte("\x0a\x0d\x0d\x0a\x00\x00\x00\x1cabcd")},
		{"block length", "length 7, expected a multiple of 4", concat(section, []byte{0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0})},
		{"huge block", "expected at most 16777216", concat(section, []byte{0, 0, 0, 6, 0xff, 0xff, 0xff, 0xfc})},
		{"block cut", "after frame 0: unexpected EOF", concat(section, iface[:len(iface)-5])},
		{"no interface", "interface 3, but the section has 1", concat(section, iface, ngPacket(big, 3, 0, []byte("x")))},
		{"time resolution", "time resolution 10^-77", concat(section, ngInterface(big, 101, 77))},
		{"binary time resolution", "time resolution 2^-127", concat(section, ngInterface(big, 101, 0xff))},
		{"packet longer than its block", "captured, but the block has", concat(section, iface, ngBlock(big, 6, append(make([]byte, 12), 0, 0, 1, 0, 0, 0, 1, 0)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := readAll(t, bytes.NewReader(c.file), capture.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want ...%s...", err, c.want)
			}
		})
	}
}

// A pcapng file can bring its key log along, in a Decryption Secrets Block.
func TestEmbeddedKeyLog(t *testing.T) {
	keys, err := os.ReadFile(captures + "/tls13.keys")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(captures + "/tls13.pcap")
	if err != nil {
		t.Fatal(err)
	}
	order := binary.LittleEndian
	secrets := append(order.AppendUint32(order.AppendUint32(nil, 0x544c534b), uint32(len(keys))), keys...)
	ng := concat(ngSection(order), ngInterface(order, 1, 0), ngBlock(order, 10, secrets))
	for b := file[24:]; len(b) > 0; {
		n := order.Uint32(b[8:])
		ng = append(ng, ngPacket(order, 0, 0, b[16:16+n])...)
		b = b[16+n:]
	}
	messages, remarks, err := readAll(t, bytes.NewReader(ng), capture.Options{})
	if got := kinds(messages); err != nil || len(remarks) > 0 || got["tls Data RESERVE"] != 2 {
		t.Errorf("%v, %v, %v", got, remarks, err)
	}
}

func TestFragments(t *testing.T) {
	whole := udp(1234, 270, query())
	for _, version := range []int{4, 6} {
		fragment := func(at, end int) []byte {
			more := end < len(whole)
			if version == 4 {
				b := ipPacket(t, "10.1.0.1", "10.2.0.1", 33, layers.IPProtocolUDP, whole[at:end])
				flags := uint16(at / 8)
				if more {
					flags |= 1 << 13
				}
				binary.BigEndian.PutUint16(b[6:], flags)
				return b
			}
			head := binary.BigEndian.AppendUint16([]byte{17, 0}, uint16(at))
			if more {
				head[3] |= 1
			}
			head = binary.BigEndian.AppendUint32(head, 99)
			return ipPacket(t, "2001:db8::1", "2001:db8::2", 36, layers.IPProtocolIPv6Fragment, append(head, whole[at:end]...))
		}
		n := len(whole)
		pieces := [][]byte{fragment(0, 24), fragment(24, 48), fragment(48, n)}
		for _, c := range []struct {
			name string
			list [][]byte
		}{
			{"in order", pieces},
			{"last first", [][]byte{pieces[2], pieces[1], pieces[0]}},
			{"twice", [][]byte{pieces[0], pieces[0], pieces[1], pieces[1], pieces[2]}},
			{"overlapping", [][]byte{fragment(0, 40), fragment(16, 56), fragment(32, n)}},
			{"overlapping at the front", [][]byte{fragment(16, 40), fragment(0, 32), fragment(32, n)}},
			{"within", [][]byte{fragment(8, 16), fragment(0, 48), fragment(48, n)}},
		} {
			m := one(t, pcap(101, frames(c.list...)), capture.Options{})
			if m.Event.RouterAlert < 33 || m.Event.From.Port() != 1234 || m.Event.Frame != len(c.list) {
				t.Errorf("IPv%d, %s: %+v", version, c.name, m.Event)
			}
		}
		for _, list := range [][][]byte{pieces[:2], pieces[1:], {pieces[0], pieces[2]}} {
			if messages, _, err := readAll(t, bytes.NewReader(pcap(101, frames(list...))), capture.Options{}); len(messages) != 0 || err != nil {
				t.Errorf("IPv%d, a fragment missing: %d messages, %v", version, len(messages), err)
			}
		}
	}
}

// Datagrams: the magic number makes them GIST on any port (RFC 5971 §5.3.1);
// what has none is shown on GIST's ports only. Cut ones are shown as that.
func TestDatagrams(t *testing.T) {
	packet := func(port uint16, payload []byte) []byte {
		return ipPacket(t, "10.1.0.1", "10.2.0.1", -1, layers.IPProtocolUDP, udp(999, port, payload))
	}
	q := query()
	cut := packet(270, q)
	for _, c := range []struct {
		name  string
		list  []frame
		ports []uint16
		want  map[string]int
	}{
		{"other port", frames(packet(5000, q)), nil, map[string]int{"udp-qmode Query": 1}},
		{"no magic number, other port", frames(packet(5000, q[4:])), nil, map[string]int{}},
		{"no magic number", frames(packet(270, q[4:])), nil, map[string]int{"udp malformed": 1}},
		{"no magic number, port asked for", frames(packet(5000, q[4:])), []uint16{5000}, map[string]int{"udp malformed": 1}},
		{"no magic number, port not asked for", frames(packet(270, q[4:])), []uint16{5000}, map[string]int{}},
		{"magic number alone", frames(packet(270, q[:4])), nil, map[string]int{"udp malformed": 1}},
		{"short", frames(packet(270, q[:9])), nil, map[string]int{"udp malformed": 1}},
		{"empty", frames(packet(270, nil)), nil, map[string]int{"remark": 1}},
		{"all of it cut", []frame{{data: cut[:28], whole: len(cut)}}, nil, map[string]int{"remark": 1}},
		{"cut within the magic number", []frame{{data: cut[:30], whole: len(cut)}}, nil, map[string]int{"udp malformed": 1}},
		{"cut by the capture", []frame{{data: cut[:100], whole: len(cut)}}, nil, map[string]int{"udp-qmode Query malformed": 1}},
	} {
		messages, remarks, err := readAll(t, bytes.NewReader(pcap(101, c.list)), capture.Options{Ports: c.ports})
		got := kinds(messages)
		if len(remarks) > 0 {
			got["remark"] = len(remarks)
		}
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, %v; want %v", c.name, got, remarks, err, c.want)
		}
		if c.name == "cut by the capture" && (len(messages) != 1 || !strings.Contains(messages[0].Text(), "octets of the message are not in the capture") || len(messages[0].Objects) == 0) {
			t.Errorf("%s: %v", c.name, messages)
		}
	}
}

// FuzzReader reads captures of any octets, and frames of any octets in a capture
// that is one: it ends, with bounded results, and what it calls a message has
// its place in the file.
func FuzzReader(f *testing.F) {
	files, err := os.ReadDir(captures)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range files {
		if b, err := os.ReadFile(captures + "/" + e.Name()); err == nil && strings.HasSuffix(e.Name(), ".pcap") {
			f.Add(b)
		}
	}
	order := binary.BigEndian
	f.Add(concat(ngSection(order), ngInterface(order, 101, 9), ngPacket(order, 0, 1, query()), ngBlock(order, 3, []byte{0, 0, 0, 1, 9})))
	keys := keysOf(f, captures+"/tls13.keys")
	f.Fuzz(func(t *testing.T, b []byte) {
		link := []uint32{1, 101, 113, 276, 0}[len(b)%5]
		inFrames := slices.Collect(slices.Chunk(b, 300))
		for _, file := range [][]byte{b, pcap(link, frames(inFrames...))} {
			r, err := capture.NewReader(bytes.NewReader(file), capture.Options{KeyLog: keys})
			if err != nil {
				continue
			}
			octets, last := 0, 0
			for {
				e, err := r.Next()
				if err != nil {
					if _, again := r.Next(); !errors.Is(again, err) && again.Error() != err.Error() {
						t.Fatalf("after %v: %v", err, again)
					}
					break
				}
				if e.Frame < 0 || e.Remark == "" && e.Octets == nil || e.Remark != "" && e.Octets != nil {
					t.Fatalf("%+v after frame %d", e, last)
				}
				last, octets = e.Frame, octets+len(e.Octets)
				if e.Remark != "" {
					_ = dissect.RemarkText(&e)
					continue
				}
				m := dissect.GIST(e)
				if line, err := m.JSON(); err != nil || bytes.ContainsRune(line, '\n') {
					t.Fatalf("%v: %s", err, line)
				}
				if text := m.Text(); !strings.HasPrefix(text, "frame ") {
					t.Fatal(text)
				}
			}
			if octets > 2*len(file) { // compressed input apart
				if _, err := gzip.NewReader(bytes.NewReader(file)); err != nil {
					t.Fatalf("%d octets of messages out of %d", octets, len(file))
				}
			}
		}
	})
}
