package gist

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"
)

// bucket is a token bucket (RFC 5971 §5.3.3). The zero value is full at its
// first use.
type bucket struct {
	tokens float64
	last   instant
	used   bool
}

// take takes a token if there is one.
func (b *bucket) take(now instant, rate, burst int) bool {
	b.fill(now, rate, burst)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// wait is how long it takes until there are so many tokens.
func (b *bucket) wait(tokens float64, rate int) time.Duration {
	return time.Duration((tokens-b.tokens)/float64(rate)*float64(time.Second)) + 1
}

func (b *bucket) fill(now instant, rate, burst int) {
	if !b.used {
		b.used, b.tokens, b.last = true, float64(burst), now
		return
	}
	if now > b.last {
		b.tokens = min(float64(burst), b.tokens+float64(now-b.last)*float64(rate)/float64(time.Second))
		b.last = now
	}
}

// sourceBuckets limits strangers by source address in a fixed amount of
// memory: sources whose hashes collide share a bucket.
type sourceBuckets [512]bucket

func (s *sourceBuckets) take(key uint64, from netip.Addr, now instant, rate, burst int) bool {
	a := from.As16()
	return s[keyedHash(key, a[:])%uint64(len(s))].take(now, rate, burst)
}

// keyedHash spreads b over 64 bits under a key that outsiders do not know. It
// is for hash tables, not for authentication.
func keyedHash(key uint64, b []byte) uint64 {
	h := key ^ uint64(len(b))*0x9e3779b97f4a7c15
	for len(b) >= 8 {
		h = fold(h^binary.LittleEndian.Uint64(b), key|1)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		h = fold(h^binary.LittleEndian.Uint64(last[:]), key|1)
	}
	return fold(h, 0xd6e8feb86659fd93)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
