package wire

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"
)

// addSeeds gives a fuzz target every sample and every captured message.
func addSeeds(f *testing.F, want bool) {
	for kind := Query; kind <= MAHello; kind++ {
		for _, dmode := range modes(kind) {
			m := sample(kind, dmode)
			m.Unknown = []Object{{Type: 2000, Value: []byte("kept")}}
			if dmode == want {
				f.Add(appendMode(&m, dmode))
			}
		}
	}
	files, err := filepath.Glob("testdata/vectors/*.pcap")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		for _, c := range readCapture(f, file) {
			if c.dmode == want {
				f.Add(c.octet)
			}
		}
	}
}

// survives says whether a message that was parsed from b comes through append
// and parse unchanged, and no longer than it was.
func survives(t *testing.T, b []byte, m Message, dmode bool) {
	size, err := m.Size()
	if err != nil {
		t.Fatalf("parsed, but does not fit: %v", err)
	}
	again := appendMode(&m, dmode)
	if len(again) > len(b) || len(again) < size {
		t.Fatalf("parsed %d octets, appended %d, Size %d", len(b), len(again), size)
	}
	m2, err := parseMode(again, dmode)
	if err != nil {
		t.Fatalf("% x\nparses, but what is appended does not: %v\n% x", b, err, again)
	}
	m.Words = m2.Words // ignored objects (AB=01) are gone
	if !reflect.DeepEqual(m, m2) {
		t.Fatalf("got  %+v\nwant %+v", m2, m)
	}
	if third := appendMode(&m2, dmode); !bytes.Equal(third, again) {
		t.Fatalf("got  % x\nwant % x", third, again)
	}
}

func FuzzParse(f *testing.F) {
	addSeeds(f, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Parse(b); err == nil {
			survives(t, b, m, false)
		}
	})
}

func FuzzParseDatagram(f *testing.F) {
	addSeeds(f, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseDatagram(b); err == nil {
			survives(t, b, m, true)
		}
	})
}

func FuzzParseMRI(f *testing.F) {
	f.Add(AppendMRI(nil, &testMRI))
	f.Add(AppendMRI(nil, &testMRI6))
	f.Add(AppendMRI(nil, &MRI{Method: LooseEnd, Flow: testMRI.Flow}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMRI(b)
		if err != nil {
			return
		}
		again := AppendMRI(nil, &m)
		if m2, err := ParseMRI(again); err != nil || m2 != m || len(again) != len(b) || mriLen(&m) != len(b) {
			t.Fatalf("got %+v, %v; want %+v", m2, err, m)
		}
	})
}

func FuzzParseNATTraversal(f *testing.F) {
	n := NATTraversal{MRI: testMRI, Translated: []uint16{2, 4, 0}, Opaque: [][]byte{[]byte("abc"), {}}}
	f.Add(n.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNATTraversal(b)
		if err != nil {
			return
		}
		if n2, err := ParseNATTraversal(n.Append(nil)); err != nil || !reflect.DeepEqual(n, n2) {
			t.Fatalf("got %+v, %v; want %+v", n2, err, n)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 0x87, 0xe0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if (err == nil) != (len(b) >= HeaderLen) {
			t.Fatalf("%d octets: %v", len(b), err)
		}
		if err != nil {
			return
		}
		want := bytes.Clone(b[:HeaderLen])
		want[7] &^= 0x1f // reserved
		if got := h.Append(nil); !bytes.Equal(got, want) {
			t.Fatalf("got % x, want % x", got, want)
		}
		if n, err := MessageLength(b); (err == nil) != (h.Version == Version1) || err == nil && n != HeaderLen+4*int(h.Words) {
			t.Fatalf("MessageLength %d, %v of %+v", n, err, h)
		}
	})
}

// What is peeked is what parsing says, where that succeeds.
func FuzzPeek(f *testing.F) {
	addSeeds(f, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, hasSID := PeekSID(b)
		method, hasMethod := PeekMethod(b)
		mri, hasMRI := PeekMRI(b)
		m, err := ParseDatagram(b)
		if err != nil {
			return
		}
		if hasSID != m.HasSID || hasSID && sid != m.SID {
			t.Fatalf("PeekSID %v, %t; parsed %v, %t", sid, hasSID, m.SID, m.HasSID)
		}
		if hasMethod != m.HasMRI || hasMethod && method != m.MRI.Method || hasMRI != m.HasMRI || hasMRI && mri != m.MRI {
			t.Fatalf("PeekMethod %v, %t, PeekMRI %+v, %t; parsed %+v, %t", method, hasMethod, mri, hasMRI, m.MRI, m.HasMRI)
		}
	})
}
