// Package tlv reads and writes the bounded, big-endian byte strings that every
// wire package of this module is made of.
//
// A Reader never looks past its own end and remembers its first error, so a
// decoder reads field after field and asks once, at the end, whether all went
// well. Writing is appending: the helpers of encoding/binary's AppendByteOrder
// under shorter names.
package tlv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrTruncated is wrapped by the error of a read past a Reader's end.
var ErrTruncated = errors.New("truncated")

// ErrTrailing is wrapped by the error of Close when bytes were left unread.
var ErrTrailing = errors.New("trailing bytes")

// Reader takes fields off the front of a byte string. The zero value is an
// empty Reader. Byte slices that it returns alias the input.
type Reader struct {
	rest []byte
	at   int // octets consumed, for error messages
	err  error
}

// NewReader returns a Reader over b.
func NewReader(b []byte) Reader { return Reader{rest: b} }

// Err returns the first error met.
func (r *Reader) Err() error { return r.err }

// Len returns how many octets are left.
func (r *Reader) Len() int { return len(r.rest) }

// Offset returns how many octets have been consumed.
func (r *Reader) Offset() int { return r.at }

// Fail records err as the Reader's error unless it already has one.
func (r *Reader) Fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
		r.rest = nil
	}
}

func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		if r.err == nil {
			r.err = fmt.Errorf("offset %d: want %d octets, have %d: %w", r.at, n, len(r.rest), ErrTruncated)
		}
		r.rest = nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	r.at += n
	return b
}

// U8 reads one octet.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two octets.
func (r *Reader) U16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four octets.
func (r *Reader) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight octets.
func (r *Reader) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bytes reads n octets; the result aliases the input.
func (r *Reader) Bytes(n int) []byte { return r.take(n) }

// Rest reads everything that is left; the result aliases the input.
func (r *Reader) Rest() []byte { return r.take(len(r.rest)) }

// Skip passes over n octets.
func (r *Reader) Skip(n int) { r.take(n) }

// Sub returns a Reader that sees exactly the next n octets, and passes over
// them. Its errors are its own; hand them back with Fail.
func (r *Reader) Sub(n int) Reader {
	at := r.at
	b := r.take(n)
	return Reader{rest: b, at: at, err: r.err}
}

// Close returns the first error, or ErrTrailing if anything is left unread.
func (r *Reader) Close() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("offset %d: %d octets: %w", r.at, len(r.rest), ErrTrailing)
	}
	return r.err
}

// AppendU16 appends v.
func AppendU16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }

// AppendU32 appends v.
func AppendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// AppendU64 appends v.
func AppendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// AppendZeros appends n zero octets.
func AppendZeros(b []byte, n int) []byte {
	for range n {
		b = append(b, 0)
	}
	return b
}

// PutU16 overwrites the two octets at offset at, for lengths known late.
func PutU16(b []byte, at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }
