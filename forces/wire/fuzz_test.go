package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// FuzzParse: what is read is written, and read the same again; the octets are
// then the canonical ones. What is refused says so with an *Error. A decoder
// that is used again reads the same.
func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m))
	}
	dirty := encode(f, samples()[4])
	dirty[45] |= 0x40
	f.Add(dirty)
	var d Decoder
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		again, err2 := d.Parse(b)
		if (err == nil) != (err2 == nil) || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v, %v\nand with a used decoder\n%+v, %v", m, err, again, err2)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code == ESuccess || e.Offset > len(b) {
				t.Fatalf("%#v", err)
			}
			return
		}
		w, err := m.Append(nil)
		if err != nil {
			// Padding that was left out can be what does not fit.
			var e *Error
			if errors.As(err, &e) && e.Code == EContentsTooLong && len(b) > 0xfff0 {
				return
			}
			t.Fatalf("%+v\nis read and not written: %v", m, err)
		}
		m2, err := Parse(w)
		if err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("%+v\ncomes back as\n%+v, %v", m, m2, err)
		}
		if w2 := encode(t, m2); !bytes.Equal(w, w2) {
			t.Fatalf("% x\nis written again as\n% x", w, w2)
		}
	})
}

// FuzzParseHeader: a header that is read is written with the same values, and
// frames no less than itself.
func FuzzParseHeader(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m)[:HeaderSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := ParseHeader(b)
		if err != nil {
			return
		}
		if size < HeaderSize || size > MaxMessage || size%4 != 0 {
			t.Fatalf("size %d", size)
		}
		w := h.append(nil)
		copy(w[2:4], b[2:4])
		if h2, size2, err := ParseHeader(w); err != nil || h2 != h || size2 != size {
			t.Fatalf("%+v, %d comes back as %+v, %d, %v", h, size, h2, size2, err)
		}
	})
}

// FuzzCutILV: ILVs one after the other are written as they were read.
func FuzzCutILV(f *testing.F) {
	f.Add(AppendILV(AppendILV(nil, ILV{1, []byte("abc")}), ILV{1 << 31, []byte{}}))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 9, 7}) // the last one's padding left out
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			v, rest, err := CutILV(b)
			if err != nil {
				return
			}
			w := AppendILV(nil, v)
			if len(rest) >= len(b) || len(rest) > 0 && len(w) != len(b)-len(rest) {
				t.Fatalf("%d octets of %d are left after %d", len(rest), len(b), len(w))
			}
			if v2, rest2, err := CutILV(w); err != nil || v2.ID != v.ID || !bytes.Equal(v2.Value, v.Value) || len(rest2) > 0 {
				t.Fatalf("%+v comes back as %+v, % x, %v", v, v2, rest2, err)
			}
			b = rest
		}
	})
}

// FuzzCutFullData: FULLDATA-TLVs one after the other are written as they were read.
func FuzzCutFullData(f *testing.F) {
	b, err := AppendFullData(nil, []byte("abc"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b, b...))
	f.Add(b[:7])
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			v, rest, err := CutFullData(b)
			if err != nil {
				return
			}
			w, err := AppendFullData(nil, v)
			if err != nil || len(rest) >= len(b) || len(rest) > 0 && len(w) != len(b)-len(rest) {
				t.Fatalf("%d octets of %d are left after %d, %v", len(rest), len(b), len(w), err)
			}
			if v2, rest2, err := CutFullData(w); err != nil || !bytes.Equal(v2, v) || len(rest2) > 0 {
				t.Fatalf("% x comes back as % x, % x, %v", v, v2, rest2, err)
			}
			b = rest
		}
	})
}
