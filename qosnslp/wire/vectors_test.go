package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	gistwire "github.com/interqos/interqos/gist/wire"
)

// captured are the NSLP payloads of a capture, in order.
func captured(t testing.TB, file string) [][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	take := func(m gistwire.Message, err error) {
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if m.NSLPData != nil {
			out = append(out, m.NSLPData)
		}
	}
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
			take(gistwire.ParseDatagram(udp.Payload))
		}
		if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
			for b := tcp.Payload; len(b) > 0; {
				n, err := gistwire.MessageLength(b)
				if err != nil || n > len(b) {
					t.Fatalf("%s: %v", file, err)
				}
				take(gistwire.Parse(b[:n]))
				b = b[n:]
			}
		}
	}
}

// Every QoS-NSLP message of an independent implementation parses, and comes out
// again octet for octet. Where it differs from the RFC is a matter of meaning:
// its PACKET-CLASSIFIER is a draft's layout of the same length (16 bits of MRM,
// then the flags), which read as flags of RFC 5974 §5.1.3.5 are none; and its
// INFO-SPEC has a mapped IPv6 address as source and plain text where the RFC
// has error-specific information.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("../../gist/wire/testdata/vectors/*.pcap")
	if err != nil || len(files) != 4 {
		t.Fatalf("%d captures, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			count := map[MessageType]int{}
			for i, b := range captured(t, file) {
				m, err := Parse(b)
				if err != nil {
					t.Fatalf("message %d: %v\n%x", i, err, b)
				}
				if got := m.Append(nil); !bytes.Equal(got, b) {
					t.Errorf("message %d:\n got %x\nwant %x", i, got, b)
				}
				count[m.Type]++
				checkVector(t, &m)
			}
			if count[Reserve] < 2 || count[Response] < 2 {
				t.Errorf("messages: %v", count)
			}
		})
	}
}

func checkVector(t *testing.T, m *Message) {
	t.Helper()
	if m.PacketClassifier != nil {
		if f, err := ParseClassifierFlags(m.PacketClassifier); err != nil || f != 0 {
			t.Errorf("classifier %x: %x %v", m.PacketClassifier, f, err)
		}
	}
	if m.Type == Reserve && !m.Tears() && m.QSPEC != nil && len(m.QSPEC) != 36 {
		t.Errorf("QSPEC of %d octets", len(m.QSPEC))
	}
	if m.Type == Response {
		if a, ok := m.InfoSpec.Source.Addr(); !ok || !a.Is4In6() || m.InfoSpec.Class != ClassSuccess || !m.HasRII {
			t.Errorf("INFO-SPEC %v, RII %v", m.InfoSpec, m.HasRII)
		}
	}
}
