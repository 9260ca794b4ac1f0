package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// interdomain-qosm §7, two records: one of a domain that refused and signed,
// one that tells nothing but AS and verdict.
const goldenRecords = `
	000b 02 00                   # 11 words, refused
	0000fdea                     # AS65002
	60 41 0006                   # QoS Model Error 65, SLS id of 6 octets
	00000190                     # 400 us
	49989680                     # largest 1,250,000 octets/s
	0000000065000000             # earliest
	736c732d3137 0000            # "sls-17"
	00000009 deadbeef            # key 9, a (short) signature
	0008 01 00 0000fde9 00 00 0000 00000000 00000000 0000000000000000 00000000
`

func twoRecords() []DomainRecord {
	return []DomainRecord{
		{Verdict: VerdictRefused, AS: 65002, Class: ClassQoSModelError, Code: 65, SLSID: "sls-17", Micros: 400,
			Largest: 1_250_000, Earliest: 0x65000000, KeyID: 9, Signature: []byte{0xde, 0xad, 0xbe, 0xef}},
		{Verdict: VerdictCommitted, AS: 65001},
	}
}

func TestDomainRecordsGolden(t *testing.T) {
	want := annotatedHex(t, goldenRecords)
	var list []byte
	for _, r := range twoRecords() {
		var err error
		if list, err = AppendDomainRecord(list, r); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(list, want) {
		t.Errorf("Append\n got %x\nwant %x", list, want)
	}
	got, err := ParseDomainRecords(want)
	if err != nil || !reflect.DeepEqual(got, twoRecords()) {
		t.Errorf("Parse %+v, %v", got, err)
	}
	raw, err := SplitDomainRecords(want)
	if err != nil || len(raw) != 2 || len(raw[0]) != 44 || len(raw[1]) != 32 {
		t.Errorf("Split %x, %v", raw, err)
	}
}

func TestDomainRecordsTruncation(t *testing.T) {
	b := annotatedHex(t, goldenRecords)
	for n := range len(b) {
		_, err := ParseDomainRecords(b[:n])
		if whole := n == 0 || n == 44; (err == nil) != whole {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

func TestDomainRecordsRefuses(t *testing.T) {
	for _, c := range []struct{ name, bytes string }{
		{"a record shorter than its fields", "0007 0100 0000fde9 00000000 00000000 00000000 00000000 00000000"},
		{"a record of no length", "00000000"},
		{"an SLS id beyond the record", "0008 0100 0000fde9 00000005 00000000 00000000 0000000000000000 00000000"},
		{"a signature without a key id", "0009 0100 0000fde9 00000000 00000000 00000000 0000000000000000 00000000 11111111"},
		{"a key id without a signature", "0008 0100 0000fde9 00000000 00000000 00000000 0000000000000000 00000001"},
		{"a rate that is negative", "0008 0100 0000fde9 00000000 00000000 c0000000 0000000000000000 00000000"},
		{"a rate that is not a number", "0008 0100 0000fde9 00000000 00000000 7fc00000 0000000000000000 00000000"},
	} {
		if got, err := ParseDomainRecords(annotatedHex(t, c.bytes)); err == nil {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	for _, r := range []DomainRecord{
		{SLSID: strings.Repeat("x", MaxSLSIDLen+1)}, {Class: 16}, {Largest: float32(math.NaN())}, {KeyID: 1},
		{Signature: []byte{1, 2, 3, 4}}, {KeyID: 1, Signature: []byte{1, 2, 3}}, {KeyID: 1, Signature: make([]byte, MaxRecordSignature+4)},
	} {
		if list, err := AppendDomainRecord([]byte(nil), r); err == nil || list != nil {
			t.Errorf("%+v was appended", r)
		}
	}
}

// A list is bounded: whoever is beyond the bound adds nothing, and says so.
func TestDomainRecordsAreBounded(t *testing.T) {
	var list []byte
	var err error
	for i := range MaxDomainRecords {
		if list, err = AppendDomainRecord(list, DomainRecord{AS: uint32(i), Verdict: VerdictCommitted}); err != nil {
			t.Fatal(err)
		}
	}
	full := bytes.Clone(list)
	if list, err = AppendDomainRecord(list, DomainRecord{}); !errors.Is(err, ErrRecordsFull) || !bytes.Equal(list, full) {
		t.Errorf("%v", err)
	}
	one, _ := AppendDomainRecord(nil, DomainRecord{})
	if _, err := ParseDomainRecords(append(full, one...)); !errors.Is(err, ErrRecordsFull) {
		t.Errorf("%v", err)
	}
	// And by the length of an object.
	big := DomainRecord{KeyID: 1, Signature: make([]byte, MaxRecordSignature), SLSID: strings.Repeat("x", MaxSLSIDLen)}
	list = nil
	for err = nil; err == nil; list, err = AppendDomainRecord(list, big) {
	}
	if !errors.Is(err, ErrRecordsFull) || len(list) > MaxValueLen || len(list) < MaxValueLen-1000 {
		t.Errorf("%d octets, %v", len(list), err)
	}
	if got, err := ParseDomainRecords(list); err != nil || len(got) == 0 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestVerdictNames(t *testing.T) {
	for v, want := range map[Verdict]string{VerdictCommitted: "committed", VerdictNoAnswer: "no answer", 0: "verdict 0", 99: "verdict 99"} {
		if got := v.String(); got != want {
			t.Errorf("%d: %q, want %q", v, got, want)
		}
	}
}

func FuzzDomainRecords(f *testing.F) {
	f.Add(annotatedHex(f, goldenRecords))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseDomainRecords(b)
		raw, rawErr := SplitDomainRecords(b)
		if err != nil {
			return
		}
		if rawErr != nil || !bytes.Equal(bytes.Join(raw, nil), b) {
			t.Fatalf("split %x: %v", raw, rawErr)
		}
		var out []byte
		for _, r := range list {
			if out, err = AppendDomainRecord(out, r); errors.Is(err, ErrRecordsFull) {
				return // longer than an object may be
			} else if err != nil {
				t.Fatal(err)
			}
		}
		again, err := ParseDomainRecords(out)
		if err != nil || !reflect.DeepEqual(list, again) || len(out) != len(b) {
			t.Fatalf("%x became %x: %v", b, out, err)
		}
	})
}

func BenchmarkAppendDomainRecord(b *testing.B) {
	list, _ := AppendDomainRecord(nil, twoRecords()[0])
	list = append(make([]byte, 0, 1024), list...)
	r := twoRecords()[1]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendDomainRecord(list, r); err != nil {
			b.Fatal(err)
		}
	}
}
