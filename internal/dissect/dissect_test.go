package dissect

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/capture"
)

func event(tr capture.Transport, octets []byte) capture.Event {
	return capture.Event{
		Frame: 7, Time: time.Date(2027, 1, 2, 3, 4, 5, 6000, time.UTC), Transport: tr, TTL: 63, RouterAlert: 33,
		From: netip.MustParseAddrPort("192.0.2.1:270"), To: netip.MustParseAddrPort("192.0.2.2:270"), Octets: octets,
	}
}

func query() *wire.Message {
	return &wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: 77, Type: wire.Query, C: true, R: true},
		HasMRI: true, MRI: wire.MRI{Method: wire.PathCoupled, Flow: wire.Flow{
			Source: netip.MustParsePrefix("198.51.100.7/32"), Destination: netip.MustParsePrefix("203.0.113.9/32"),
		}},
		HasSID: true, SID: wire.SID{15: 5}, HasNLI: true,
		NLI:         wire.NLI{PeerIdentity: []byte("peer"), Address: netip.MustParseAddr("192.0.2.1"), ValidityMS: 30_000, IPTTL: 64},
		QueryCookie: []byte("0123456789abcdef"),
	}
}

// decoded is the JSON of a message, read again.
func decoded(t *testing.T, m *Message) map[string]any {
	t.Helper()
	line, err := m.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(line, &v); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return v
}

// RFC 5971 §5.1: the common header, then each object by its name and place, in
// datagrams after a magic number and in streams without.
func TestQuery(t *testing.T) {
	q, c := query(), query()
	c.Type, c.C = wire.Response, false // a Query in a stream is malformed
	c.ResponderCookie = []byte("01234567")
	datagram, stream := GIST(event(capture.UDPQMode, q.AppendDatagram(nil))), GIST(event(capture.TCP, c.Append(nil)))
	for name, m := range map[string]*Message{"datagram": &datagram, "stream": &stream} {
		if !m.HasHeader || m.Malformed() || m.HasNSLP || m.SID != q.SID {
			t.Fatalf("%s: %+v", name, m)
		}
		v := decoded(t, m)
		if v["gist.type"] != m.Header.Type.String() || v["gist.hops"] != 9.0 || v["gist.nslpid"] != 77.0 || v["frame"] != 7.0 {
			t.Errorf("%s: %v", name, v)
		}
		if flags := v["gist.flags"].(map[string]any); flags["c"] != (name == "datagram") || flags["s"] != false || flags["r"] != true || flags["e"] != false {
			t.Errorf("%s: flags %v", name, flags)
		}
		var names []string
		at := 8.0 // after the common header
		for _, o := range v["gist.objects"].([]any) {
			o := o.(map[string]any)
			names = append(names, o["name"].(string))
			if o["offset"] != at {
				t.Errorf("%s: %v is at %v, want %v", name, o["name"], o["offset"], at)
			}
			at += 4 + o["length"].(float64)
		}
		if want := 8 + 4*float64(m.Header.Words); at != want {
			t.Errorf("%s: objects end at %v of %v", name, at, want)
		}
		if len(names) != len(m.Objects) || len(names) < 4 {
			t.Errorf("%s: objects %v", name, names)
		}
	}
	if v := decoded(t, &datagram); v["ip.ttl"] != 63.0 || v["ip.router_alert"] != 33.0 {
		t.Errorf("IP header: %v", v)
	}
	if v := decoded(t, &stream); v["ip.ttl"] != nil {
		t.Errorf("a stream has an IP TTL: %v", v)
	}
	text := datagram.Text()
	for _, want := range []string{"frame 7", "192.0.2.1:270 → 192.0.2.2:270", "IP TTL 63, router alert 33", "GIST Query", "flags C R", "203.0.113.9"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// What is wrong is said, and shown as far as it can be read.
func TestMalformed(t *testing.T) {
	whole := query().AppendDatagram(nil)
	cut := whole[:len(whole)-6]
	version := append([]byte(nil), whole...)
	version[wire.MagicLen] = 9
	for name, c := range map[string]struct {
		e       capture.Event
		header  bool
		objects int
	}{
		"no GIST":         {event(capture.UDP, []byte("something else, of some length")), false, 0},
		"nothing":         {event(capture.UDP, nil), false, 0},
		"a header's half": {event(capture.UDP, whole[:wire.MagicLen+3]), false, 0},
		"cut off":         {event(capture.UDP, cut), true, 3},
		"another version": {event(capture.UDP, version), true, 0},
		"encapsulation":   {event(capture.TCP, query().Append(nil)), true, 4},
	} {
		m := GIST(c.e)
		if m.HasHeader != c.header || !m.Malformed() || len(m.Objects) < c.objects {
			t.Errorf("%s: header %v, %d objects, %v", name, m.HasHeader, len(m.Objects), m.Err)
		}
		if v := decoded(t, &m); v["gist.error"] == nil || !strings.Contains(m.Text(), "MALFORMED") {
			t.Errorf("%s: not said: %v", name, v)
		}
	}
	e := event(capture.TCP, query().Append(nil))
	e.Missing = 12
	if m := GIST(e); m.Err == nil || !strings.Contains(m.Err.Error(), "12 octets") {
		t.Errorf("missing octets: %v", m.Err)
	}
}

// QoS-NSLP is taken apart for its own NSLPIDs alone (RFC 5974 §6.6).
func TestInner(t *testing.T) {
	for id, want := range map[wire.NSLPID]bool{0: false, 1: true, 32: true, 33: false, 77: false} {
		if got := QoSNSLPID(id); got != want {
			t.Errorf("NSLPID %d: %v", id, got)
		}
		m := query()
		m.Type, m.C, m.R, m.QueryCookie, m.NSLPID, m.NSLPData = wire.Data, false, false, nil, id, []byte{1, 0, 0, 0}
		d := GIST(event(capture.TCP, m.Append(nil)))
		if d.HasNSLP != want {
			t.Errorf("NSLPID %d: taken apart %v", id, d.HasNSLP)
		}
		if v := decoded(t, &d); (v["nslp.type"] != nil) != want {
			t.Errorf("NSLPID %d: %v", id, v)
		}
	}
}

func TestRemark(t *testing.T) {
	e := capture.Event{Frame: 3, Remark: "not understood"}
	if got := RemarkText(&e); !strings.Contains(got, "frame 3") || !strings.Contains(got, "not understood") || strings.Contains(got, "TTL") {
		t.Errorf("%q", got)
	}
}

// Whatever the octets are, every message is one JSON object on one line and a
// text of printable lines, and what the codec refuses is called malformed.
func FuzzDissect(f *testing.F) {
	q := query()
	f.Add(q.AppendDatagram(nil), true)
	f.Add(q.Append(nil), false)
	q.NSLPID, q.NSLPData = 1, []byte{1, 0, 0, 0}
	f.Add(q.AppendDatagram(nil), true)
	f.Add([]byte{0x4e, 0x04, 0xbd, 0xa5, 1}, true)
	files, _ := filepath.Glob("../../testdata/captures/*.pcap")
	for _, name := range files[:min(len(files), 4)] {
		seed(f, name)
	}
	f.Fuzz(func(t *testing.T, octets []byte, datagram bool) {
		tr := capture.TCP
		if datagram {
			tr = capture.UDP
		}
		m := GIST(event(tr, octets))
		line, err := m.JSON()
		if err != nil || !json.Valid(line) || strings.ContainsRune(string(line), '\n') {
			t.Fatalf("%v: %s", err, line)
		}
		text := m.Text()
		if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
			t.Fatalf("%q", text)
		}
		for _, r := range text {
			if r < ' ' && r != '\n' {
				t.Fatalf("control character in %q", text)
			}
		}
		var w wire.Message
		if datagram {
			err = w.DecodeDatagram(octets)
		} else {
			err = w.Decode(octets)
		}
		if err != nil && !m.Malformed() {
			t.Fatalf("refused with %v, and not called malformed", err)
		}
	})
}

// seed adds the messages of a capture.
func seed(f *testing.F, name string) {
	file, err := os.Open(name)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	r, err := capture.NewReader(file, capture.Options{})
	if err != nil {
		f.Fatal(err)
	}
	for range 20 {
		e, err := r.Next()
		if err != nil {
			return
		}
		if e.Remark == "" {
			f.Add(e.Octets, e.DMode())
		}
	}
}
