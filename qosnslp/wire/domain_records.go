package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/interqos/interqos/internal/tlv"
)

// DOMAIN-RECORDS, interdomain-qosm §7, is a list to which each domain appends
// on the way back. A record is
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|      record length, words     |    verdict    |     flags     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                        AS number                              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| class | rsvd  |     code      |        SLS id length          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|              microseconds spent in this domain                |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           largest rate now, octets/s, float32                 |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          earliest start of the full rate, 64-bit seconds      |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//          SLS id, padded with zeros to a whole word          //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                          key id                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                        signature                            //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// The length counts the whole record. An unsigned one has key id 0 and no
// signature.

// Verdict is what a domain did with a reservation.
type Verdict uint8

// Verdicts. One that is not in this table is shown as a number.
const (
	VerdictCommitted Verdict = 1 // reserved here, and kept
	VerdictRefused   Verdict = 2 // refused here
	VerdictReleased  Verdict = 3 // held here, and released because another domain refused
	VerdictFailed    Verdict = 4 // something broke here: controller, store, peer
	VerdictNoAnswer  Verdict = 5 // held here, and released because no answer came in time
	VerdictQueried   Verdict = 6 // a QUERY: nothing was held
)

var verdictNames = [...]string{VerdictCommitted: "committed", VerdictRefused: "refused", VerdictReleased: "released",
	VerdictFailed: "failed", VerdictNoAnswer: "no answer", VerdictQueried: "queried"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) && verdictNames[v] != "" {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// DomainRecord is what one domain says of its part. Everything but AS and
// Verdict may be empty.
type DomainRecord struct {
	Verdict Verdict
	Flags   uint8 // none is defined
	AS      uint32
	Class   ErrorClass // of the INFO-SPEC that it gave, 0: none
	Code    uint8
	SLSID   string  // as the domain chooses to show it
	Micros  uint32  // microseconds spent in this domain
	Largest float32 // largest rate now, octets per second; 0: not told
	// Earliest is when the full rate could start, seconds since 1970; 0: not
	// told.
	Earliest int64
	KeyID    uint32 // 0: not signed
	// Signature is a multiple of four octets, nil where KeyID is 0.
	Signature []byte
}

// Bounds of DOMAIN-RECORDS.
const (
	MaxDomainRecords    = 64
	MaxSLSIDLen         = 255 // octets
	MaxRecordSignature  = 512 // octets
	recordFixedLen      = 28  // before the SLS id
	minDomainRecordsLen = recordFixedLen + 4
)

// ErrRecordsFull says that DOMAIN-RECORDS takes no more records.
var ErrRecordsFull = errors.New("DOMAIN-RECORDS is full")

// SplitDomainRecords cuts the value of a DOMAIN-RECORDS object into records as
// they stand on the wire, for hashing.
func SplitDomainRecords(b []byte) ([][]byte, error) {
	var out [][]byte
	for r := tlv.NewReader(b); r.Len() > 0; {
		x, err := nextRecord(&r, len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// LastDomainRecord returns the last record of the value of a DOMAIN-RECORDS object
// as it stands on the wire; nil where there is none.
func LastDomainRecord(b []byte) ([]byte, error) {
	var last []byte
	n := 0
	for r := tlv.NewReader(b); r.Len() > 0; n++ {
		x, err := nextRecord(&r, n)
		if err != nil {
			return nil, err
		}
		last = x
	}
	return last, nil
}

func nextRecord(r *tlv.Reader, before int) ([]byte, error) {
	if before == MaxDomainRecords {
		return nil, fmt.Errorf("more than %d records: %w", MaxDomainRecords, ErrRecordsFull)
	}
	rest := *r
	n := 4 * int(rest.U16())
	if n < minDomainRecordsLen {
		return nil, fmt.Errorf("DOMAIN-RECORDS: record %d of %d octets, want at least %d", before+1, n, minDomainRecordsLen)
	}
	x := r.Bytes(n)
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("DOMAIN-RECORDS: record %d: %w", before+1, err)
	}
	return x, nil
}

// ParseDomainRecords reads the value of a DOMAIN-RECORDS object. Signatures
// alias b.
func ParseDomainRecords(b []byte) ([]DomainRecord, error) {
	var out []DomainRecord
	for r := tlv.NewReader(b); r.Len() > 0; {
		x, err := nextRecord(&r, len(out))
		if err != nil {
			return nil, err
		}
		if out == nil { // the others will be about as long
			out = make([]DomainRecord, 0, min(1+r.Len()/len(x), MaxDomainRecords))
		}
		rec, err := parseRecord(x)
		if err != nil {
			return nil, fmt.Errorf("DOMAIN-RECORDS: record %d: %w", len(out)+1, err)
		}
		out = append(out, rec)
	}
	return out, nil
}

func parseRecord(b []byte) (DomainRecord, error) {
	var d DomainRecord
	r := tlv.NewReader(b)
	r.Skip(2)
	d.Verdict, d.Flags = Verdict(r.U8()), r.U8()
	d.AS = r.U32()
	d.Class, d.Code = ErrorClass(r.U8()>>4), r.U8()
	n := int(r.U16())
	d.Micros = r.U32()
	d.Largest = math.Float32frombits(r.U32())
	d.Earliest = int64(r.U64())
	d.SLSID = string(r.Bytes(n))
	r.Skip(-n & 3)
	d.KeyID = r.U32()
	if s := r.Rest(); len(s) > 0 {
		d.Signature = s
	}
	if err := r.Err(); err != nil {
		return d, err
	}
	return d, d.check()
}

func (d *DomainRecord) check() error {
	switch {
	case len(d.SLSID) > MaxSLSIDLen:
		return fmt.Errorf("SLS id of %d octets, want at most %d", len(d.SLSID), MaxSLSIDLen)
	case d.Class > 15:
		return fmt.Errorf("INFO-SPEC class %d, want at most 15", d.Class)
	case !(d.Largest >= 0 && d.Largest <= math.MaxFloat32):
		return fmt.Errorf("largest rate %v, want a finite number of at least 0", d.Largest)
	case len(d.Signature)%4 != 0 || len(d.Signature) > MaxRecordSignature:
		return fmt.Errorf("signature of %d octets, want whole words and at most %d", len(d.Signature), MaxRecordSignature)
	case (d.KeyID == 0) != (len(d.Signature) == 0):
		return fmt.Errorf("key id %d with a signature of %d octets", d.KeyID, len(d.Signature))
	}
	return nil
}

// appendUnsigned appends the record up to its key id: what is signed of it.
func (d *DomainRecord) appendUnsigned(b []byte) []byte {
	id := (len(d.SLSID) + 3) &^ 3
	b = tlv.AppendU16(b, uint16((recordFixedLen+id+4+len(d.Signature))/4))
	b = append(b, byte(d.Verdict), d.Flags)
	b = tlv.AppendU32(b, d.AS)
	b = append(b, byte(d.Class)<<4, d.Code)
	b = tlv.AppendU16(b, uint16(len(d.SLSID)))
	b = tlv.AppendU32(b, d.Micros)
	b = tlv.AppendU32(b, math.Float32bits(d.Largest))
	b = tlv.AppendU64(b, uint64(d.Earliest))
	b = append(b, d.SLSID...)
	b = tlv.AppendZeros(b, id-len(d.SLSID))
	return tlv.AppendU32(b, d.KeyID)
}

// AppendDomainRecord appends a record to the value of a DOMAIN-RECORDS object;
// nil is an empty list. On error, ErrRecordsFull among them, list is as before.
func AppendDomainRecord(list []byte, d DomainRecord) ([]byte, error) {
	if err := d.check(); err != nil {
		return list, fmt.Errorf("DOMAIN-RECORDS: %w", err)
	}
	records := 0
	for r := tlv.NewReader(list); r.Len() > 0; records++ {
		if _, err := nextRecord(&r, records); err != nil {
			return list, err
		}
	}
	size := recordFixedLen + (len(d.SLSID)+3)&^3 + 4 + len(d.Signature)
	if records == MaxDomainRecords || len(list)+size > MaxValueLen {
		return list, fmt.Errorf("%d records, %d octets: %w", records, len(list), ErrRecordsFull)
	}
	list = d.appendUnsigned(slices.Grow(list, size))
	return append(list, d.Signature...), nil
}
