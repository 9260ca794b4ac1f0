package wire

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// captured is one GIST message of a capture.
type captured struct {
	dmode bool
	octet []byte
	from  string
}

// readCapture returns the GIST messages of a capture, those of TCP streams cut
// by the common header's length.
func readCapture(t testing.TB, file string) []captured {
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
	var list []captured
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
			list = append(list, captured{true, udp.Payload, p.NetworkLayer().NetworkFlow().Src().String()})
		}
		tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		for b := tcp.Payload; len(b) > 0; {
			n, err := MessageLength(b)
			if err != nil || n > len(b) {
				t.Fatalf("%s: TCP segment with % x: %d, %v; want whole messages", file, b, n, err)
			}
			list = append(list, captured{false, b[:n], p.NetworkLayer().NetworkFlow().Src().String()})
			b = b[n:]
		}
	}
}

// Packets of an independent implementation (testdata/vectors/README.md) parse,
// and come out again octet for octet. Their MRIs have prefix length 0 where RFC
// 5971 §A.3.1.1 has 32 ("In the normal case where the MRI refers only to traffic
// between specific host addresses, the Source/Dest Prefix values would both be
// 32"): by the RFC such an MRI is about any source and any destination, with
// the addresses of two real nodes in it (§5.8.1.1), which stay.
//
// More that differs from the RFC but is no matter of the codec: the IP-TTL of
// upstream D-mode Data is the sender's own TTL (§5.2.2 has the hop count to the
// peer), such Data goes to port 270, and the router alert value is 0.
func TestVectorsOfAnIndependentImplementation(t *testing.T) {
	want := map[string][]MessageType{
		"01-dmode-reserve-tear.pcap":       {Query, Response, Confirm, Data, Data, Data, Data},
		"02-tcp-reserve-tear.pcap":         {Query, Response, Confirm, Data, Data, Data, Data},
		"04-two-node-tcp.pcap":             {Query, Response, Confirm, Data, Data, Data, Data},
		"03-tcp-refresh-mahello-tear.pcap": nil, // by count below
	}
	files, err := filepath.Glob("testdata/vectors/*.pcap")
	if err != nil || len(files) != len(want) {
		t.Fatalf("captures %v, %v; want %d", files, err, len(want))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var types []MessageType
			for i, c := range readCapture(t, file) {
				types = append(types, checkCaptured(t, i, c).Type)
			}
			if w := want[filepath.Base(file)]; w != nil && !slices.Equal(types, w) {
				t.Errorf("messages %v, want %v", types, w)
			}
			count := make(map[MessageType]int)
			for _, k := range types {
				count[k]++
			}
			if count[Query] == 0 || count[Query] != count[Response] || count[Confirm] != count[Query] || count[Data] < 4 {
				t.Errorf("counts %v, want as many Queries, Responses and Confirms, and Data", count)
			}
			if filepath.Base(file) == "03-tcp-refresh-mahello-tear.pcap" && (count[MAHello] == 0 || count[Query] < 2) {
				t.Errorf("counts %v, want MA-Hellos and refreshes", count)
			}
		})
	}
}

func checkCaptured(t *testing.T, i int, c captured) Message {
	t.Helper()
	m, err := parseMode(c.octet, c.dmode)
	if err != nil {
		t.Fatalf("message %d: %v", i, err)
	}
	if again := appendMode(&m, c.dmode); !bytes.Equal(again, c.octet) {
		t.Errorf("message %d, %v:\n got % x\nwant % x", i, m.Type, again, c.octet)
	}
	if !m.HasMRI {
		return m
	}
	f := &m.MRI.Flow
	if f.Source != prefix("10.1.0.1/0") || f.Destination.Bits() != 0 || f.Protocol != 17 || m.MRI.Method != PathCoupled {
		t.Errorf("message %d: MRI %+v, want UDP from 10.1.0.1, with prefix length 0", i, m.MRI)
	}
	if m.HasNLI && (m.NLI.Address.String() != c.from && m.S || len(m.NLI.PeerIdentity) != 16 || m.NLI.ValidityMS == 0) {
		t.Errorf("message %d from %s: NLI %+v, want the sender's", i, c.from, m.NLI)
	}
	return m
}
