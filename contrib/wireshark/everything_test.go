package wireshark_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/cli/clitest"
	"github.com/interqos/interqos/internal/cli/qnectl"
	nslp "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// everything writes a capture with the objects and parameters that the recorded
// ones do not have, so that no field goes without comparison.
func everything(t *testing.T) string {
	t.Helper()
	return write(t, "everything.pcap", messages(t))
}

// messages are those datagrams.
func messages(t *testing.T) (list [][]byte) {
	t.Helper()
	for _, payload := range payloads(t) {
		m := data(payload)
		list = append(list, m.AppendDatagram(nil))
	}
	for _, m := range errorMessages() {
		list = append(list, m.AppendDatagram(nil))
	}
	return list
}

func write(t *testing.T, name string, datagrams [][]byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, b := range datagrams {
		datagram(t, w, b)
	}
	return file
}

// datagram writes one UDP datagram over IPv6.
func datagram(t *testing.T, w *pcapgo.Writer, payload []byte) {
	t.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 64, SrcIP: netip.MustParseAddr("2001:db8::1").AsSlice(), DstIP: netip.MustParseAddr("2001:db8::2").AsSlice()}
	udp := &layers.UDP{SrcPort: 270, DstPort: 270}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv6}, ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	n := len(b.Bytes())
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1e9, 0), CaptureLength: n, Length: n}, b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

var sid = gistwire.SID{1, 2, 3, 15: 4}

// mri6 is an Off-Path MRI with all that one over IPv6 can have.
func mri6() gistwire.MRI {
	a := netip.MustParseAddr
	return gistwire.MRI{Method: gistwire.OffPath, Upstream: true, Egress: a("2001:db8:e::1"), Ingress: a("2001:db8:f::1"),
		Flow: gistwire.Flow{Source: netip.PrefixFrom(a("2001:db8:a::1"), 128), Destination: netip.MustParsePrefix("2001:db8:b::/48"), HasProtocol: true, Protocol: 50,
			HasTraffic: true, DSCP: 10, HasLabel: true, FlowLabel: 0x54321, HasSPI: true, SPI: 0xdeadbeef}}
}

func nli6() gistwire.NLI {
	return gistwire.NLI{PeerIdentity: []byte("seven o"), Address: netip.MustParseAddr("2001:db8::1"), ValidityMS: 600_000}
}

func data(payload []byte) gistwire.Message {
	return gistwire.Message{Header: gistwire.Header{HopCount: 3, NSLPID: 32, Type: gistwire.Data, E: true}, HasMRI: true, MRI: mri6(),
		HasSID: true, SID: sid, HasNLI: true, NLI: nli6(), NSLPData: payload,
		Unknown: []gistwire.Object{{Type: 99, Value: []byte("not known of yet")}}}
}

func payloads(t *testing.T) [][]byte {
	t.Helper()
	parse := func(text string) []byte {
		q, err := qspec.ParseText(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return q.Append(nil)
	}
	most := parse("local type=13 proc=0/2 desired{tmod=1M/1k tmod2=2M/2k!M rph=3/4 admission=255/9 excess=remark/10 y1541=5 peakbucket=64k restore=2/1/5 dste=6!N class=phb:1234 slack=77 " +
		"time=1000..2000,3000..4000!M when=mon/01:00-01:00/2h!M}" +
		" available!E{tmod=1M/1k!E latency=5 jitter=1/2/3 plr=0.0001 per=0.00002 egress=65001@2001:db8::5!M ingress=65002@10.0.0.6!M} reserved{tmod=3M/4k} minimum{tmod=1k/1k}")
	record, err := nslp.AppendDomainRecord(nil, nslp.DomainRecord{Verdict: nslp.VerdictRefused, AS: 4200000001, Class: 6, Code: 65, SLSID: "gold",
		Micros: 1234, Largest: 125000, Earliest: -5, KeyID: 7, Signature: []byte("signature of AS!")})
	if err != nil {
		t.Fatal(err)
	}
	query := nslp.Message{Type: nslp.Query, MessageFlags: nslp.ReserveInit, Flags: nslp.Break | nslp.Proxy, HasRII: true, RII: 1, QSPEC: most,
		QSPEC2: parse("initiator type=1 proc=2/0 available{tmod=20M/64k}"), PacketClassifier: []byte{0xff, 0, 0, 0}}
	reserve := nslp.Message{Type: nslp.Reserve, Flags: nslp.Scoping, HasRSN: true, HasBoundMsgID: true, BoundMsgID: nslp.MsgID{Bidirectional: true, ID: sid}}
	notify := nslp.Message{Type: nslp.Notify, HasInfoSpec: true, InfoSpec: nslp.InfoSpec{Class: nslp.ClassProtocolError, Code: nslp.UnknownObject,
		Source: nslp.SourceName("qne.example"), Info: []byte{0, 99, 0, 0}}, Objects: []nslp.Object{{Action: nslp.Forward, Type: nslp.DomainRecords, Value: record}}}
	missing := nslp.Message{Type: nslp.Response, HasRII: true}
	unknown := nslp.Message{Type: nslp.Reserve, HasRSN: true, Objects: []nslp.Object{{Type: 1234, Value: []byte("????")}}}
	strange := nslp.Message{Type: nslp.Notify, HasInfoSpec: true, InfoSpec: nslp.InfoSpec{Class: nslp.ClassSuccess, Code: 1}, QSPEC: raw()}
	list := [][]byte{{9, 0, 0, 0}, missing.Append(nil), unknown.Append(nil)}
	for _, m := range []nslp.Message{query, reserve, notify, strange} {
		list = append(list, m.Append(nil))
	}
	return list
}

// raw is a QSPEC with a parameter of an id that nobody knows.
func raw() []byte {
	q := qspec.QSPEC{Desired: qspec.Params{Extra: []qspec.RawParam{{ID: 200, Must: true, Unsupported: true, Value: []byte("what is this")}}}}
	return q.Append(nil)
}

// errorMessages have every kind of additional information, and none that fits.
func errorMessages() []gistwire.Message {
	var list []gistwire.Message
	for _, info := range [][]gistwire.AdditionalInfo{
		{gistwire.ObjectValueInfo([]byte{0, 1, 0, 1, 1, 2, 3, 4}, 4), gistwire.ObjectTypeInfo(gistwire.ObjSID)},
		{{Type: 3, Value: []byte("two words")[:8]}, {Type: 77, Value: []byte("else")}},
	} {
		list = append(list, gistwire.Message{Header: gistwire.Header{Type: gistwire.Error}, HasNLI: true, NLI: nli6(),
			Error: &gistwire.ErrorData{ID: gistwire.UnrecognisedObject, HasMRI: true, MRI: mri6(), Info: info, Comment: "seven"}})
	}
	return list
}

// Octets changed at random, and messages cut short, are malformed or mean
// something else; nothing of them is an error in the dissector itself, and
// qnectl reads on, too.
func TestMutations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var list [][]byte
	for _, whole := range messages(t) {
		for range 100 {
			b := slices.Clone(whole)
			for range 1 + r.IntN(3) {
				b[4+r.IntN(len(b)-4)] = byte(r.Uint32())
			}
			if r.IntN(4) == 0 {
				b = b[:4+r.IntN(len(b)-4)]
			}
			list = append(list, b)
		}
	}
	file := write(t, "mutations.pcap", list)
	out := tshark(t, "-r", file, "-T", "fields", "-e", "frame.number", "-e", "gist.version", "-e", "_ws.expert.message", "-e", "_ws.lua.error")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(list) {
		t.Fatalf("%d lines for %d frames", len(lines), len(list))
	}
	malformed := 0
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 4 || f[3] != "" || strings.Contains(f[2], ".lua") {
			t.Fatalf("frame: %s", line)
		}
		if f[2] != "" {
			malformed++
		}
	}
	if malformed < len(list)/4 || malformed == len(list) {
		t.Errorf("%d of %d are malformed to the dissector", malformed, len(list))
	}
	res := clitest.Run(t, qnectl.App(), "", "decode", "-o", "json", file)
	if n := strings.Count(res.Stdout, "\n"); res.Status != 0 || n != len(list) {
		t.Errorf("qnectl: status %d, %d lines for %d frames: %s", res.Status, n, len(list), res.Stderr)
	}
}
