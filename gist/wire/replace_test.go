package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

func queryToReplace(data []byte) Message {
	return Message{
		Header: Header{NSLPID: 1, Type: Query, C: true, R: true, HopCount: 4},
		HasMRI: true, MRI: MRI{Flow: Flow{Source: netip.MustParsePrefix("10.1.0.1/32"), Destination: netip.MustParsePrefix("10.2.0.2/32")}},
		HasSID: true, SID: SID{1, 2, 3},
		HasNLI: true, NLI: NLI{PeerIdentity: []byte("peer"), Address: netip.MustParseAddr("10.1.0.1"), ValidityMS: 1000},
		QueryCookie: []byte("cookie!!"), NSLPData: data,
	}
}

// RFC 5971 §4.3.2: what is replaced is the NSLP payload and nothing else, so the
// datagram is the one that would have been sent with it.
func TestReplaceNSLPData(t *testing.T) {
	for _, was := range [][]byte{nil, []byte("data"), bytes.Repeat([]byte("long"), 100)} {
		for _, data := range [][]byte{[]byte("next"), bytes.Repeat([]byte("much"), 50)} {
			before, want := queryToReplace(was), queryToReplace(data)
			in := before.AppendDatagram(nil)
			kept := bytes.Clone(in)
			got, ok := ReplaceNSLPData(in, data)
			if !ok || !bytes.Equal(got, want.AppendDatagram(nil)) || !bytes.Equal(in, kept) {
				t.Errorf("%d octets for %d: %t\n% x", len(data), len(was), ok, got)
			}
		}
	}
	m := queryToReplace([]byte("data"))
	in := m.AppendDatagram(nil)
	for _, data := range [][]byte{nil, []byte("odd"), make([]byte, MaxObjectLen+4)} {
		if _, ok := ReplaceNSLPData(in, data); ok {
			t.Errorf("%d octets were taken", len(data))
		}
	}
}

func FuzzReplaceNSLPData(f *testing.F) {
	for _, was := range [][]byte{nil, []byte("data")} {
		m := queryToReplace(was)
		f.Add(m.AppendDatagram(nil), []byte("next"))
	}
	f.Fuzz(func(t *testing.T, datagram, data []byte) {
		before, err := ParseDatagram(datagram)
		if err != nil {
			_, _ = ReplaceNSLPData(datagram, data)
			return
		}
		out, ok := ReplaceNSLPData(datagram, data)
		if !ok {
			return
		}
		after, err := ParseDatagram(out)
		if err != nil {
			if before.Type == Query || before.Type == Data { // others need not have NSLP data
				t.Fatalf("% x with % x: %v", datagram, data, err)
			}
			return
		}
		if !bytes.Equal(after.NSLPData, data) || after.MRI != before.MRI || after.SID != before.SID || !bytes.Equal(after.QueryCookie, before.QueryCookie) {
			t.Fatalf("% x became % x", datagram, out)
		}
	})
}
