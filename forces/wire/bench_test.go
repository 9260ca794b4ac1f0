package wire

import "testing"

// policers is a Config that sets n rows of a table, as policers are programmed.
func policers(n int) Message {
	m := Message{Header: header(Config, ce, fe, 1, Flags{ACK: AlwaysACK, Priority: 4, Mode: ExecuteAllOrNone})}
	rows := make([]PathData, n)
	for i := range rows {
		rows[i] = path(uint32(i)).full(make([]byte, 32)...)
	}
	m.Select = []LFBSelect{sel(70000, 1, op(Set, path(4).under(rows...)))}
	return m
}

// Writing into a buffer that is large enough, and reading with a decoder that is
// used again, allocate nothing.
func TestAllocations(t *testing.T) {
	list := append(samples(), policers(1000))
	var d Decoder
	buf := make([]byte, 0, MaxMessage)
	for _, m := range list {
		b := encode(t, m)
		for range 2 { // the first grows
			if _, err := d.Parse(b); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(20, func() {
			if _, err := d.Parse(b); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("reading %v: %v allocations", m.Type, n)
		}
		if n := testing.AllocsPerRun(20, func() {
			if _, err := m.Append(buf); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("writing %v: %v allocations", m.Type, n)
		}
	}
}

// The most expensive bodies that fit into a message cost what MaxNodes says,
// whatever their kind.
func TestMemoryIsBounded(t *testing.T) {
	for name, part := range map[string][]byte{
		"LFBselects": {0x10, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1},
		"redirects":  {0, 1, 0, 4},
	} {
		kind := Query
		if name == "redirects" {
			kind = PacketRedirect
		}
		b := header(kind, ce, fe, 1, Flags{}).append(nil)
		for len(b)+len(part) <= MaxMessage {
			b = append(b, part...)
		}
		b[2], b[3] = byte(len(b)/4>>8), byte(len(b)/4)
		var d Decoder
		_, err := d.Parse(b)
		e, ok := err.(*Error)
		if !ok || e.Code != EMemoryError {
			t.Errorf("%s: %v, want %v", name, err, EMemoryError)
		}
		if n := cap(d.selects.buf) + cap(d.redirects.buf); n != 0 {
			t.Errorf("%s: room for %d was made before they were refused", name, n)
		}
	}
}

func BenchmarkAppend1000Rows(b *testing.B) {
	m := policers(1000)
	buf := make([]byte, 0, MaxMessage)
	b.ReportAllocs()
	for b.Loop() {
		out, err := m.Append(buf)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(out)))
	}
}

func BenchmarkParse1000Rows(b *testing.B) {
	m := policers(1000)
	buf := encode(b, m)
	var d Decoder
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := d.Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	buf := encode(b, samples()[0])
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseHeader(buf); err != nil {
			b.Fatal(err)
		}
	}
}
