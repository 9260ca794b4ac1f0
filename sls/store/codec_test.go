package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/sls"
)

// sample is a record with everything that a record can have.
func sample(id byte) Record {
	r := Record{ID: sls.ID{id, 1: 2, 15: 0xee}, Version: 7, Session: []byte("session"), Domain: []byte{1, 2, 3}}
	r.Bookings = []sls.Booking{
		{
			ID: r.ID, Leg: sls.Inbound, Version: 7, SLS: "as1-as2",
			Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1"),
			Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.0/16"),
			Class: sls.EF, Rate: 2_500_000, Peak: 3_000_000, Burst: 1500, Priority: 3, Defending: 0x1234,
			Intervals: []sls.Interval{{}},
		},
		{
			ID: r.ID, Leg: sls.Outbound, Version: 6, SLS: "b", Relative: true, Class: sls.AF11,
			Destination: netip.MustParsePrefix("2001:db8::/32"),
			Intervals: []sls.Interval{
				{Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
				{From: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)},
				{From: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)},
			},
		},
	}
	return r
}

// The bytes of a record, field by field; a file has to stay readable.
// interdomain-qosm §6
func TestRecordGolden(t *testing.T) {
	golden := strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(`
		09020000000000000000000000 0000ee
		01 02 00000007 00000007 00000003
		04 00000007 2e 03 1234 00000000002625a0 00000000002dc6c0 00000000000005dc
		07 6173312d617332 04 7f010201 04 7f020101
		04 0a01000a 20 04 0a030000 10
		01 8000000000000000 7fffffffffffffff
		03 00000006 0a 00 0000000000000000 0000000000000000 0000000000000000
		01 62 00 00 00 ff 10 20010db8000000000000000000000000 20
		03 8000000000000000 000000006b36ec80
		   000000006b5fcb00 000000006b84b500
		   000000006d182000 7fffffffffffffff
		73657373696f6e 010203`)
	want, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	want = tlv.AppendU32(want, crc32.Checksum(want, castagnoli))
	r := sample(9)
	if got := r.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	back, err := ParseRecord(want)
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("got  %+v, %v\nwant %+v", back, err, r)
	}
}

// A record that is cut short anywhere, or of which any octet is changed, is
// refused.
func TestRecordDamaged(t *testing.T) {
	r := sample(1)
	good := r.Append(nil)
	body := good[:len(good)-checksumSize]
	for n := range good {
		if _, err := ParseRecord(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d of %d octets: %v", n, len(good), err)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 0x40
		if _, err := ParseRecord(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("octet %d changed: %v", n, err)
		}
		if n < len(body) {
			if _, err := parseBody(body[:n]); err == nil {
				t.Errorf("body of %d of %d octets is taken", n, len(body))
			}
		}
	}
}

// What cannot be stored is refused when it is handed in.
func TestRecordCheck(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"other id":    func(r *Record) { r.Bookings[0].ID = sls.ID{} },
		"held":        func(r *Record) { r.Bookings[0].Held = true },
		"leg":         func(r *Record) { r.Bookings[0].Leg = 2 },
		"class":       func(r *Record) { r.Bookings[0].Class = 64 },
		"long id":     func(r *Record) { r.Bookings[0].SLS = strings.Repeat("x", 256) },
		"zone":        func(r *Record) { r.Bookings[0].Egress = netip.MustParseAddr("fe80::1%eth0") },
		"prefix":      func(r *Record) { r.Bookings[0].Source = netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33) },
		"subsecond":   func(r *Record) { r.Bookings[0].Intervals[0].From = time.Unix(1, 1) },
		"far":         func(r *Record) { r.Bookings[0].Intervals[0].Until = time.Unix(lastSecond, 0) },
		"intervals":   func(r *Record) { r.Bookings[0].Intervals = make([]sls.Interval, 256) },
		"three legs":  func(r *Record) { r.Bookings = append(r.Bookings, r.Bookings[0]) },
		"large state": func(r *Record) { r.Session = make([]byte, maxRecord) },
	} {
		r := sample(1)
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
		if spoil(&r); !errors.Is(r.check(), ErrRecord) {
			t.Errorf("%s: %v", name, r.check())
		}
	}
}

// Whatever is read is written back the same.
func FuzzRecord(f *testing.F) {
	r := sample(1)
	f.Add(r.Append(nil)[:len(r.Append(nil))-checksumSize])
	empty := Record{}
	f.Add(empty.Append(nil)[:headerSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseBody(body)
		if err != nil {
			return
		}
		if err := r.check(); err != nil && len(body) < maxRecord-2048 {
			t.Fatalf("reads %x as what cannot be stored: %v", body, err)
		}
		if got := r.Append(nil); !bytes.Equal(got[:len(got)-checksumSize], body) {
			t.Fatalf("reads %x\nwrites %x", body, got)
		}
	})
}
