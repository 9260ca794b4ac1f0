package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/sls"
)

// A record as it is stored (interdomain-qosm §6):
//
//	| ID (128)                                                        |
//	| format (8): 1 | bookings (8) | Version (32)                     |
//	| length of Session (32) | length of Domain (32)                  |
//	// bookings, one after the other                                 //
//	// Session                                                       //
//	// Domain                                                        //
//	| CRC-32C of all before (32)                                      |
//
// and a booking in it:
//
//	| flags (8): bit 0 leg, bit 1 relative, bit 2 Defending follows   |
//	| Version (32) | class (8) | priority (8) | Defending (16)         |
//	| Rate, Peak, Burst (64 each)                                     |
//	| length (8), SLS id                                              |
//	| length (8): 0, 4 or 16, Egress; the same, Ingress               |
//	| length (8), address, prefix length (8): Source, Destination     |
//	| intervals (8), each From and Until (64 each), signed seconds    |
//
// The least and the largest number of an interval are its open ends.

const (
	recordFormat  = 1
	maxRecord     = 1 << 20 // octets
	headerSize    = 16 + 1 + 1 + 4 + 4 + 4
	maxBookings   = 2
	checksumSize  = 4
	flagOutbound  = 1
	flagRelative  = 2
	flagDefending = 4 // absent: 0
	openFrom      = -1 << 63
	openUntil     = 1<<63 - 1
	lastSecond    = 253402300800 // the year 10000
	secondsBefore = -lastSecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check says why a record cannot be stored, and nil if it can.
func (r *Record) check() error {
	if len(r.Bookings) > maxBookings {
		return fmt.Errorf("%w: %s has %d bookings; expected at most %d", ErrRecord, r.ID, len(r.Bookings), maxBookings)
	}
	if n := headerSize + len(r.Session) + len(r.Domain) + 1024; n > maxRecord {
		return fmt.Errorf("%w: %s has %d octets; expected at most %d", ErrRecord, r.ID, n, maxRecord)
	}
	for i := range r.Bookings {
		b := &r.Bookings[i]
		switch {
		case b.ID != r.ID:
			return fmt.Errorf("%w: %s has a booking of %s", ErrRecord, r.ID, b.ID)
		case b.Held:
			return fmt.Errorf("%w: %s has a booking that is only held", ErrRecord, r.ID)
		case b.Leg > sls.Outbound || b.Class > 63:
			return fmt.Errorf("%w: %s has a booking of leg %d, class %d", ErrRecord, r.ID, b.Leg, b.Class)
		case len(b.SLS) > 255 || len(b.Intervals) > sls.MaxIntervals:
			return fmt.Errorf("%w: %s has a booking with an id of %d octets, %d intervals", ErrRecord, r.ID, len(b.SLS), len(b.Intervals))
		case b.Egress.Zone() != "" || b.Ingress.Zone() != "":
			return fmt.Errorf("%w: %s has an address with a zone", ErrRecord, r.ID)
		case badPrefix(b.Source) || badPrefix(b.Destination):
			return fmt.Errorf("%w: %s has a prefix that is not valid", ErrRecord, r.ID)
		}
		for _, v := range b.Intervals {
			for _, t := range []time.Time{v.From, v.Until} {
				if !t.IsZero() && (t.Nanosecond() != 0 || t.Unix() <= secondsBefore || t.Unix() >= lastSecond) {
					return fmt.Errorf("%w: %s has an interval that is not in whole seconds to the year 9999", ErrRecord, r.ID)
				}
			}
		}
	}
	return nil
}

// badPrefix reports whether p is neither a prefix nor the zero Prefix.
func badPrefix(p netip.Prefix) bool { return p.Addr().IsValid() && !p.IsValid() }

// Append appends the stored form of a record.
func (r *Record) Append(b []byte) []byte {
	start := len(b)
	b = append(b, r.ID[:]...)
	b = append(b, recordFormat, byte(len(r.Bookings)))
	b = tlv.AppendU32(b, r.Version)
	b = tlv.AppendU32(b, uint32(len(r.Session)))
	b = tlv.AppendU32(b, uint32(len(r.Domain)))
	for i := range r.Bookings {
		b = appendBooking(b, &r.Bookings[i])
	}
	b = append(b, r.Session...)
	b = append(b, r.Domain...)
	return tlv.AppendU32(b, crc32.Checksum(b[start:], castagnoli))
}

func appendBooking(b []byte, k *sls.Booking) []byte {
	var flags byte
	if k.Leg == sls.Outbound {
		flags |= flagOutbound
	}
	if k.Relative {
		flags |= flagRelative
	}
	if k.Defending != 0 {
		flags |= flagDefending
	}
	b = append(b, flags)
	b = tlv.AppendU32(b, k.Version)
	b = append(b, byte(k.Class), k.Priority)
	if k.Defending != 0 {
		b = tlv.AppendU16(b, k.Defending)
	}
	b = tlv.AppendU64(b, k.Rate)
	b = tlv.AppendU64(b, k.Peak)
	b = tlv.AppendU64(b, k.Burst)
	b = append(b, byte(len(k.SLS)))
	b = append(b, k.SLS...)
	b = appendAddr(b, k.Egress)
	b = appendAddr(b, k.Ingress)
	for _, p := range []netip.Prefix{k.Source, k.Destination} {
		b = appendAddr(b, p.Addr())
		b = append(b, byte(p.Bits()))
	}
	b = append(b, byte(len(k.Intervals)))
	for _, v := range k.Intervals {
		b = tlv.AppendU64(b, uint64(seconds(v.From, openFrom)))
		b = tlv.AppendU64(b, uint64(seconds(v.Until, openUntil)))
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	b = append(b, byte(a.BitLen()/8))
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	if a.Is6() {
		v := a.As16()
		return append(b, v[:]...)
	}
	return b
}

func seconds(t time.Time, open int64) int64 {
	if t.IsZero() {
		return open
	}
	return t.Unix()
}

// ParseRecord reads what Append wrote. The error wraps ErrCorrupt. The record
// shares no memory with b.
func ParseRecord(b []byte) (Record, error) {
	if len(b) < headerSize+checksumSize {
		return Record{}, fmt.Errorf("%w: a record of %d octets; expected at least %d", ErrCorrupt, len(b), headerSize+checksumSize)
	}
	body := b[:len(b)-checksumSize]
	if found, want := binary.BigEndian.Uint32(b[len(body):]), crc32.Checksum(body, castagnoli); found != want {
		return Record{}, fmt.Errorf("%w: checksum %08x; expected %08x", ErrCorrupt, found, want)
	}
	r, err := parseBody(body)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return r, nil
}

// parseBody reads a record without its checksum.
func parseBody(b []byte) (Record, error) {
	in := tlv.NewReader(b)
	var r Record
	copy(r.ID[:], in.Bytes(16))
	if f := in.U8(); f != recordFormat && in.Err() == nil {
		return r, fmt.Errorf("record format %d; expected %d", f, recordFormat)
	}
	count := int(in.U8())
	r.Version = in.U32()
	session, domain := in.U32(), in.U32()
	if count > maxBookings || session > maxRecord || domain > maxRecord {
		return r, fmt.Errorf("%d bookings, %d and %d octets of state; expected at most %d, %d", count, session, domain, maxBookings, maxRecord)
	}
	for range count {
		r.Bookings = append(r.Bookings, readBooking(&in, r.ID))
	}
	r.Session = append(r.Session, in.Bytes(int(session))...)
	r.Domain = append(r.Domain, in.Bytes(int(domain))...)
	return r, in.Close()
}

func readBooking(in *tlv.Reader, id sls.ID) sls.Booking {
	k := sls.Booking{ID: id}
	flags := in.U8()
	if flags > flagOutbound|flagRelative|flagDefending {
		in.Fail(fmt.Errorf("offset %d: flags %#02x; expected no more than bits 0 to 2", in.Offset(), flags))
	}
	k.Leg = sls.Leg(flags & flagOutbound)
	k.Relative = flags&flagRelative != 0
	k.Version = in.U32()
	k.Class, k.Priority = sls.Class(in.U8()), in.U8()
	if flags&flagDefending != 0 {
		if k.Defending = in.U16(); k.Defending == 0 {
			in.Fail(fmt.Errorf("offset %d: a Defending of 0; expected it to be left out", in.Offset()))
		}
	}
	if k.Class > 63 {
		in.Fail(fmt.Errorf("offset %d: class %d; expected a DSCP", in.Offset(), uint8(k.Class)))
	}
	k.Rate, k.Peak, k.Burst = in.U64(), in.U64(), in.U64()
	k.SLS = string(in.Bytes(int(in.U8())))
	k.Egress, k.Ingress = readAddr(in), readAddr(in)
	k.Source, k.Destination = readPrefix(in), readPrefix(in)
	count := int(in.U8())
	if count > sls.MaxIntervals {
		in.Fail(fmt.Errorf("offset %d: %d intervals; expected at most %d", in.Offset(), count, sls.MaxIntervals))
		return k
	}
	for range count {
		k.Intervals = append(k.Intervals, sls.Interval{From: readTime(in, openFrom), Until: readTime(in, openUntil)})
	}
	return k
}

func readAddr(in *tlv.Reader) netip.Addr {
	n := int(in.U8())
	if n != 0 && n != 4 && n != 16 {
		in.Fail(fmt.Errorf("offset %d: an address of %d octets; expected 0, 4 or 16", in.Offset(), n))
	}
	a, _ := netip.AddrFromSlice(in.Bytes(n))
	return a
}

func readPrefix(in *tlv.Reader) netip.Prefix {
	a := readAddr(in)
	n := in.U8()
	if !a.IsValid() && n == 0xff || in.Err() != nil { // what Bits of the zero Prefix says
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, int(n))
	if !p.IsValid() {
		in.Fail(fmt.Errorf("offset %d: %s/%d; expected a prefix", in.Offset(), a, n))
	}
	return p
}

func readTime(in *tlv.Reader, open int64) time.Time {
	t := int64(in.U64())
	if t == open || in.Err() != nil {
		return time.Time{}
	}
	if u := time.Unix(t, 0).UTC(); t > secondsBefore && t < lastSecond && !u.IsZero() {
		return u
	}
	in.Fail(fmt.Errorf("offset %d: time %d; expected one up to the year 9999", in.Offset(), t))
	return time.Time{}
}
