package wire

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
)

// Whatever Parse accepts comes out again as octets that parse to the same.
func FuzzParse(f *testing.F) {
	for _, g := range goldens() {
		f.Add(octets(f, g.hex))
	}
	files, _ := filepath.Glob("../../gist/wire/testdata/vectors/*.pcap")
	for _, file := range files {
		for _, b := range captured(f, file) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("%v is no ParseError", err)
			}
			i := pe.InfoSpec(ErrorSource{})
			reply := Message{Type: Response, HasInfoSpec: true, InfoSpec: i}
			if _, err := Parse(reply.Append(nil)); err != nil {
				t.Fatalf("the RESPONSE about %v: %v", pe, err)
			}
			return
		}
		out := m.Append(nil)
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%x came out as %x: %v", b, out, err)
		}
		if !same(&m, &again) || !bytes.Equal(again.Append(nil), out) {
			t.Fatalf("%x came out as %x:\n%+v\n%+v", b, out, m, again)
		}
		if CheckObjects(out) != nil {
			t.Fatalf("CheckObjects: %v", CheckObjects(out))
		}
	})
}

func FuzzClassifierFlags(f *testing.F) {
	f.Add([]byte{0x81, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClassifierFlags(b)
		if err != nil {
			return
		}
		if again, err := ParseClassifierFlags(c.Append(nil)); err != nil || again != c {
			t.Fatalf("%x: %x %v", b, again, err)
		}
	})
}

func benchMessage() Message {
	m := goldens()[0].msg
	m.BoundSessions, m.SessionIDs, m.HasRSNList, m.HasMsgID, m.HasInfoSpec = nil, nil, false, false, false
	m.QSPEC = make([]byte, 120)
	m.Objects = nil
	return m
}

func BenchmarkParseReserve(b *testing.B) {
	msg := benchMessage()
	data := msg.Append(nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendReserve(b *testing.B) {
	msg := benchMessage()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = msg.Append(buf[:0])
	}
}
