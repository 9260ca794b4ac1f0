package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/interqos/interqos/internal/tlv"
)

// port is the one that IANA has for the high priority channel.
const port = 6704

// capture writes each message as one SCTP DATA chunk over IPv4.
func capture(t *testing.T, messages [][]byte) string {
	t.Helper()
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(1<<18, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		chunk := &layers.SCTPData{
			SCTPChunk: layers.SCTPChunk{Type: layers.SCTPChunkTypeData, Length: uint16(16 + len(m))}, BeginFragment: true, EndFragment: true,
			TSN: uint32(i + 1), StreamSequence: uint16(i),
		}
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(i + 1), Protocol: layers.IPProtocolSCTP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
		buf := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			ip, &layers.SCTP{SrcPort: 50000, DstPort: port, VerificationTag: 7}, chunk, gopacket.Payload(m))
		if err != nil {
			t.Fatal(err)
		}
		packet := buf.Bytes()
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(packet), Length: len(packet)}, packet); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "forces.pcap")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func tshark(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed: nobody else reads our messages here")
	}
	home := t.TempDir()
	cmd := exec.Command("tshark", append([]string{"-o", "forces.sctp_high_prio_port:6704"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "TZ=UTC", "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("tshark %v: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// address is how tshark prints IDs.
func address(id uint32) string { return netip.AddrFrom4([4]byte(tlv.AppendU32(nil, id))).String() }

// headerFields are what tshark says of a message's common header, as -T fields
// prints them.
var headerFields = []string{"forces.messagetype", "forces.length", "forces.sid", "forces.did", "forces.correlator", "forces.flags.ack", "forces.flags.pri",
	"forces.flags.em", "forces.flags.at", "forces.flags.tp"}

func headerValues(m Message, size int) []string {
	atomic := 0
	if m.Flags.Atomic {
		atomic = 1
	}
	var out []string
	for _, v := range []any{uint8(m.Type), size, address(uint32(m.Source)), address(uint32(m.Destination)), fmt.Sprintf("0x%016x", m.Correlator), m.Flags.ACK, m.Flags.Priority,
		m.Flags.Mode, atomic, m.Flags.Phase} {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// rows asks tshark for fields of each frame.
func rows(t *testing.T, file string, fields ...string) [][]string {
	t.Helper()
	args := []string{"-r", file, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var out [][]string
	for _, line := range strings.Split(strings.TrimRight(tshark(t, args...), "\n"), "\n") {
		out = append(out, strings.Split(line, "|"))
	}
	return out
}

// Wireshark reads the common header of every message that we can write.
// RFC 5810 §6.1
func TestWiresharkReadsHeaders(t *testing.T) {
	var list [][]byte
	want := map[string]int{}
	for _, m := range samples() {
		list = append(list, encode(t, m))
		want[fmt.Sprint(uint8(m.Type))]++
	}
	got := map[string]int{}
	for i, row := range rows(t, capture(t, list), headerFields...) {
		got[row[0]]++
		if want := headerValues(samples()[i], len(list[i])); !slices.Equal(row, want) {
			t.Errorf("frame %d: tshark reads\n%q, sent\n%q", i+1, row, want)
		}
	}
	if !maps.Equal(got, want) || len(got) != 10 {
		t.Errorf("messages by type: tshark reads %v, sent %v", got, want)
	}
}

// readable has every message type and operation, with one operation a message
// and one path an operation: of several, Wireshark's dissector reads the first
// again and again. An empty operation (COMMIT, TRCOMP) it leaves out. It takes a
// redirected packet for IP, and the value of metadata for a length.
func readable() []Message {
	f := Flags{ACK: AlwaysACK, Priority: 5, Mode: ExecuteUntilFailure}
	one := func(t MessageType, o Operation) Message {
		return Message{Header: header(t, ce, fe, 2, f), Select: []LFBSelect{sel(70000, 5, o)}}
	}
	ok := Result{}
	ip := []byte{0x45, 0, 0, 20, 0, 1, 0, 0, 64, 253, 0xf5, 0xe8, 192, 0, 2, 1, 192, 0, 2, 2}
	return []Message{
		{Header: header(AssociationSetup, fe, ce, 1, f), Select: []LFBSelect{sel(FEObject, 1), sel(FEProtocol, 1, op(Report, path(2).full(0, 0, 0, 2)))}},
		{Header: header(AssociationSetupResponse, ce, fe, 1, f), Result: SetupPermissionDenied},
		{Header: header(AssociationTeardown, ce, fe, 0, f), Reason: TeardownOutOfMemory},
		one(Config, op(Set, path(2).full(1, 2, 3, 4))),
		one(Config, op(SetProp, path(60, 1).sparse(ILV{1, []byte{0, 0, 0, 1}}))),
		one(Config, op(Del, path(4, 9))),
		one(Config, Operation{Type: Commit}),
		one(Config, Operation{Type: TRComp}),
		one(ConfigResponse, op(SetResponse, path(2).result(ok))),
		one(ConfigResponse, op(SetPropResponse, path(60, 1).result(Result{Code: EReadOnly}))),
		one(ConfigResponse, op(DelResponse, path(4, 9).result(Result{Code: ENotFound, Extended: true}))),
		one(ConfigResponse, Operation{Type: CommitResponse, Result: &ok}),
		one(Query, op(Get, path(4, 1, 3))),
		one(Query, op(GetProp, path(2))),
		one(QueryResponse, op(GetResponse, path(1).full(0, 0, 0, 1))),
		one(QueryResponse, op(GetPropResponse, path(2).full(0, 0, 0, 3))),
		one(EventNotification, op(Report, path(60, 1).full(0, 0, 0, 3))),
		{Header: header(PacketRedirect, fe, ce, 0, f), Redirect: []Redirect{{Metadata: []ILV{{1, []byte{0, 0, 0, 8}}}, HasPacket: true, Packet: ip}}},
		{Header: header(Heartbeat, ce, fe, 4, f)},
	}
}

// inWords makes the lengths of top-level TLVs, octets by RFC 5810 §6.2, into
// words of four octets, as Wireshark's dissector takes them (and no others).
func inWords(b []byte) {
	for b = b[HeaderSize:]; len(b) > 0; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		n += padding(n)
		tlv.PutU16(b, 2, uint16(n/4))
		b = b[n:]
	}
}

// bodyFields are what tshark says of a message's body. The IDs of paths are not
// among them: the dissector reads each two octets early.
var bodyFields = []string{"forces.tlv.type", "forces.tlv.length", "forces.lfbselect.tlv.type.lfb.classid", "forces.fbselect.tlv.type.lfb.instanceid",
	"forces.lfbselect.tlv.type.operation.type", "forces.lfbselect.tlv.type.operation.length",
	"forces.lfbselect.tlv.type.operation.path.data.flags", "forces.lfbselect.tlv.type.operation.path.data.IDcount",
	"forces.teardown.reason", "forces.astreason.tlv.teardown.reason", "forces.redirect.tlv.redirect.data.tlv.length",
	"_ws.malformed", "_ws.expert.message"}

func bodyValues(m Message, b []byte) []string {
	out := make([]string, len(bodyFields))
	add := func(field int, v any) {
		if out[field] != "" {
			out[field] += ","
		}
		out[field] += fmt.Sprint(v)
	}
	for b = b[HeaderSize:]; len(b) > 0; b = b[binary.BigEndian.Uint16(b[2:]):] {
		add(0, binary.BigEndian.Uint16(b))
		add(1, binary.BigEndian.Uint16(b[2:]))
		if m.Type.selects() && len(b) > 16 {
			if o := binary.BigEndian.Uint16(b[14:]); o > tlvHead && binary.BigEndian.Uint16(b[2:]) > 12 {
				add(5, o)
			}
		}
	}
	for _, s := range m.Select {
		add(2, address(s.Class))
		add(3, address(s.Instance))
		for _, o := range s.Operations {
			if o.Type != Commit && o.Type != TRComp {
				add(4, uint16(o.Type))
			}
			for _, p := range o.Paths {
				add(6, "0x0000")
				add(7, len(p.IDs))
			}
		}
	}
	switch m.Type {
	case AssociationSetupResponse:
		add(8, uint32(m.Result))
	case AssociationTeardown:
		add(9, uint32(m.Reason))
	case PacketRedirect:
		add(10, tlvHead+len(m.Redirect[0].Packet))
	}
	return out
}

// Wireshark reads a body of every message type and operation to its end, with
// nothing malformed and nothing left, and sees in it what was sent, once lengths
// are in the unit that it takes. RFC 5810 §6.2, §7
func TestWiresharkReadsBodies(t *testing.T) {
	var list, translated [][]byte
	want := map[string]int{}
	for _, m := range readable() {
		b := encode(t, m)
		list = append(list, b)
		b = bytes.Clone(b)
		inWords(b)
		translated = append(translated, b)
		want[fmt.Sprint(uint8(m.Type))]++
	}
	got := map[string]int{}
	for i, row := range rows(t, capture(t, translated), append(slices.Clone(headerFields), bodyFields...)...) {
		got[row[0]]++
		m := readable()[i]
		if want := append(headerValues(m, len(list[i])), bodyValues(m, list[i])...); !slices.Equal(row, want) {
			t.Errorf("frame %d, %v: tshark reads\n%q, sent\n%q", i+1, m.Type, row, want)
		}
	}
	if !maps.Equal(got, want) || len(got) != 10 {
		t.Errorf("messages by type: tshark reads %v, sent %v", got, want)
	}
	// The setup response's TLV of 8 octets.
	if row := rows(t, capture(t, list[1:2]), "forces.tlv.length"); row[0][0] != "32" {
		t.Errorf("tshark reads a length of 8 as %v, no longer as words: send it octets, and drop inWords", row)
	}
}
