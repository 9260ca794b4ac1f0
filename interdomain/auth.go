package interdomain

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Every QoS-NSLP message between domains ends with one SESSION_AUTH object of
// sub-type HMAC_SIGNED (RFC 5981 §4.4, RFC 5981 §6.4, interdomain-qosm §4).
// Seal puts it there and Open checks and removes it.
//
// What is signed, in this order: SID, NSLPID and MRI in the representation of
// RFC 5971 ("MUST be hashed first", RFC 5981 §3.2.7), each without object
// header; the QoS-NSLP common header; the objects of NSLP_OBJECT_LIST in the
// order listed, with their headers; the attributes of SESSION_AUTH up to
// AUTHENTICATION_DATA (RFC 5981 §3.2.8).
//
// Two points are a profile of ours, since RFC 5981 leaves them open or out:
//   - the common header is signed too. The RFC speaks of objects only, so that
//     a flipped TEAR flag would go unnoticed;
//   - our object is the message's last, and lists every other object, one entry
//     an object. What is not listed is not trusted, so such a message is
//     refused as a whole.

// Errors of Seal and Open. All but ErrNoKey are reasons to discard a message
// silently and to log it (RFC 5981 §6.4).
var (
	ErrNoAuth       = errors.New("the message does not end with a SESSION_AUTH that signs it")
	ErrUnknownKey   = errors.New("unknown key id")
	ErrKeyLifetime  = errors.New("signed outside of the key's lifetime")
	ErrBadSignature = errors.New("the signature does not match")
	ErrStale        = errors.New("START_TIME is not recent")
	ErrReplay       = errors.New("START_TIME has not risen: replayed, or overtaken")
	ErrWrongSource  = errors.New("SOURCE_ADDR is not where the message comes from")
	ErrReplayFull   = errors.New("too many sessions in the replay window")
	ErrNoKey        = errors.New("no key to sign with that is valid now")
)

// AuthWindow is how far START_TIME may be from the receiver's clock, either way
// (interdomain-qosm §4).
const AuthWindow = 5 * time.Second

// Binding is what GIST carries and the signature covers: the same values on
// both sides of a hop.
type Binding struct {
	SID    gistwire.SID
	NSLPID gistwire.NSLPID
	MRI    gistwire.MRI
}

// Auth seals and opens messages. It is used from one goroutine, and all messages
// of a session go through the same one.
type Auth struct {
	ring   *Keyring
	began  uint64 // NTP; 0: not known
	last   uint64 // the newest START_TIME given out
	macs   map[uint32]hash.Hash
	replay replayTable

	// Scratch, so that nothing is allocated per message.
	auth   wire.SignedAuth
	buf    []byte
	sum    [sha256.Size]byte
	prefix Binding
}

// DefaultReplaySessions bounds the replay table of NewAuth: sessions that were
// active within one of its two generations.
const DefaultReplaySessions = 1 << 20

// NewAuth returns an Auth with the keys of ring. began is when this node
// started: a message signed before is refused, for the table of what was seen
// before is gone. Zero: no such check. maxSessions bounds the replay table; 0:
// DefaultReplaySessions.
func NewAuth(ring *Keyring, began time.Time, maxSessions int) *Auth {
	a := &Auth{ring: ring, macs: make(map[uint32]hash.Hash)}
	if !began.IsZero() {
		a.began = ntp(began)
	}
	if maxSessions == 0 {
		maxSessions = DefaultReplaySessions
	}
	a.replay.limit = maxSessions
	return a
}

// SetKeys replaces the keys. What the replay table knows stays.
func (a *Auth) SetKeys(ring *Keyring) {
	a.ring = ring
	clear(a.macs)
}

// ntp is an NTP timestamp: seconds since 1900 and 2^-32 parts of one. Eras wrap;
// differences of two timestamps are right as long as they are below 68 years.
func ntp(t time.Time) uint64 {
	const from1900 = 2208988800
	return uint64(t.Unix()+from1900)<<32 + uint64(t.Nanosecond())<<32/1e9
}

// ntpSpan is a duration as a difference of NTP timestamps.
func ntpSpan(d time.Duration) int64 {
	return int64(d/time.Second)<<32 + int64(d%time.Second)<<32/1e9
}

// start returns the START_TIME of the next message: now, or the smallest unit
// after the one before. "This MUST be different for any two messages in
// sequence" (RFC 5981 §4.4); here they rise, over all sessions. After a clock
// was set back by more than the window it follows the clock: what had been
// signed ahead of it was refused by everybody else anyway.
func (a *Auth) start(now time.Time) uint64 {
	n := ntp(now)
	if behind := int64(a.last - n); a.last != 0 && behind >= 0 && behind <= ntpSpan(AuthWindow) {
		n = a.last + 1
	}
	a.last = n
	return n
}

// Seal appends SESSION_AUTH to the encoded message msg for the neighbour peerAS,
// and returns the result as append does. source is this node's NLI address. On
// error it returns msg.
func (a *Auth) Seal(now time.Time, to Binding, source netip.Addr, peerAS uint32, msg []byte) ([]byte, error) {
	key, ok := a.ring.Signing(peerAS, now)
	if !ok {
		return msg, fmt.Errorf("AS %d: %w", peerAS, ErrNoKey)
	}
	if err := wire.CheckObjects(msg); err != nil {
		return msg, fmt.Errorf("message to be signed: %w", err)
	}
	s := &a.auth
	*s = wire.SignedAuth{Transform: wire.HMACSHA256, Source: plain(source), Objects: s.Objects[:0], KeyID: key.ID}
	for _, o := range wire.Objects(msg) {
		s.Objects = append(s.Objects, o.Type)
	}
	if len(s.Objects) > wire.MaxAuthObjects {
		return msg, fmt.Errorf("message of %d objects, want at most %d", len(s.Objects), wire.MaxAuthObjects)
	}
	s.Start = a.start(now)
	at := len(msg)
	out := wire.BeginSessionAuth(msg)
	out = s.AppendCovered(out)
	h := a.begin(key, to)
	h.Write(msg)
	h.Write(out[at+wire.ObjectHeaderLen:])
	s.MAC = h.Sum(a.sum[:0])[:wire.HMACSHA256Len]
	out = s.AppendData(out)
	if err := wire.EndObject(out, at); err != nil {
		return msg, err
	}
	return out, nil
}

// plain is an address as SOURCE_ADDR can carry it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// begin starts a HMAC over what GIST carries.
func (a *Auth) begin(key Key, b Binding) hash.Hash {
	h := a.macs[key.ID]
	if h == nil {
		h = hmac.New(sha256.New, key.Secret)
		a.macs[key.ID] = h
	}
	h.Reset()
	a.prefix = b
	a.buf = append(a.buf[:0], b.SID[:]...)
	a.buf = tlv.AppendU16(a.buf, uint16(b.NSLPID))
	a.buf = gistwire.AppendMRI(a.buf, &a.prefix.MRI)
	h.Write(a.buf)
	return h
}

// Open checks the SESSION_AUTH at the end of msg, which came from source (the
// peer's NLI address), and returns the message without it, a part of msg, and
// the AS that the key is shared with. Other parties' SESSION_AUTH objects stay.
// Nothing is remembered of a message that fails.
func (a *Auth) Open(now time.Time, from Binding, source netip.Addr, msg []byte) (inner []byte, as uint32, err error) {
	at, value, err := lastObject(msg)
	if err != nil {
		return nil, 0, err
	}
	s := &a.auth
	covered, err := s.Parse(value)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNoAuth, err)
	}
	key, ok := a.ring.Key(s.KeyID)
	if !ok || s.Transform != wire.HMACSHA256 {
		return nil, 0, fmt.Errorf("key id %d, transform %d: %w", s.KeyID, s.Transform, ErrUnknownKey)
	}
	if err := a.checkTime(now, s.Start); err != nil {
		return nil, 0, err
	}
	if signed := signedAt(now, s.Start); !key.ValidAt(signed) {
		return nil, 0, fmt.Errorf("key id %d (%s), %s: %w", key.ID, key.Name, signed.UTC().Format(time.RFC3339), ErrKeyLifetime)
	}
	inner = msg[:at:at]
	h := a.begin(key, from)
	if !writeListed(h, inner, s.Objects) {
		return nil, 0, fmt.Errorf("NSLP_OBJECT_LIST does not name what is in the message: %w", ErrBadSignature)
	}
	h.Write(covered)
	if !hmac.Equal(h.Sum(a.sum[:0])[:wire.HMACSHA256Len], s.MAC) {
		return nil, 0, fmt.Errorf("key id %d (%s): %w", key.ID, key.Name, ErrBadSignature)
	}
	if s.Source != plain(source) {
		return nil, 0, fmt.Errorf("signed for %v, came from %v: %w", s.Source, source, ErrWrongSource)
	}
	if err := a.replay.admit(now, replayKey{key.ID, from.SID}, s.Start); err != nil {
		return nil, 0, err
	}
	return inner, key.AS, nil
}

// checkTime is "within 5 s of the receiver's clock" (interdomain-qosm §4).
func (a *Auth) checkTime(now time.Time, start uint64) error {
	off := int64(start - ntp(now))
	if w := ntpSpan(AuthWindow); off > w || off < -w {
		return fmt.Errorf("off by %.3f s, at most %v: %w", float64(off)/(1<<32), AuthWindow, ErrStale)
	}
	if a.began != 0 && int64(start-a.began) < 0 {
		return fmt.Errorf("signed before this node started: %w", ErrStale)
	}
	return nil
}

// signedAt is a START_TIME near now that has passed checkTime. A key's lifetime
// is judged by it and not by our clock, so that both sides change keys at once
// whatever their clocks differ by; AuthWindow bounds that.
func signedAt(now time.Time, start uint64) time.Time {
	off := int64(start - ntp(now))
	return now.Add(time.Duration(off>>32)*time.Second + time.Duration((off&0xffffffff)*1e9>>32))
}

// lastObject finds the last object, which has to be a SESSION_AUTH.
func lastObject(msg []byte) (at int, value []byte, err error) {
	if err := wire.CheckObjects(msg); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNoAuth, err)
	}
	var last wire.Object
	for i, o := range wire.Objects(msg) {
		at, last = i, o
	}
	if last.Type != wire.TypeSessionAuth {
		return 0, nil, ErrNoAuth
	}
	return at, last.Value, nil
}

// writeListed hashes the common header and the objects of msg in the order of
// the list. It is false unless every object is listed, and no other. Lists in
// the message's own order, as Seal writes them, are hashed in one piece.
func writeListed(h hash.Hash, msg []byte, list []wire.ObjectType) bool {
	n, inOrder := 0, true
	for _, o := range wire.Objects(msg) {
		inOrder = inOrder && n < len(list) && list[n] == o.Type
		n++
	}
	if n != len(list) {
		return false
	}
	if inOrder {
		h.Write(msg)
		return true
	}
	h.Write(msg[:wire.HeaderLen])
	var used [wire.MaxAuthObjects]bool
	for _, t := range list {
		if !writeNext(h, msg, t, used[:n]) {
			return false
		}
	}
	return true
}

// writeNext hashes the first object of a type that was not hashed yet.
func writeNext(h hash.Hash, msg []byte, t wire.ObjectType, used []bool) bool {
	i := 0
	for at, o := range wire.Objects(msg) {
		if o.Type == t && !used[i] {
			used[i] = true
			h.Write(msg[at : at+wire.ObjectHeaderLen+len(o.Value)])
			return true
		}
		i++
	}
	return false
}

type replayKey struct {
	key uint32
	sid gistwire.SID
}

// replayTable remembers the newest START_TIME of each key and session, for as
// long as a copy of the message could still pass checkTime: until START_TIME +
// AuthWindow. START_TIME is at most AuthWindow ahead of the clock when it is
// noted, so 2 AuthWindow after that the entry is of no use: whatever it would
// refuse is refused as stale. Entries live in two generations of that length.
// The older one is dropped whole; each entry thus stays for one to two
// generations. Only authenticated messages leave an entry, and the number of
// entries of a generation is limited: beyond it messages of further sessions
// are refused, since forgetting would let replays in.
// "If a SESSION_AUTH object is replayed, it MUST be detected". RFC 5981 §7
type replayTable struct {
	limit    int
	now, old map[replayKey]uint64
	turned   time.Time
}

func (t *replayTable) admit(now time.Time, k replayKey, start uint64) error {
	t.turn(now)
	last, seen := t.now[k]
	if !seen {
		last, seen = t.old[k]
	}
	if seen && int64(start-last) <= 0 {
		return ErrReplay
	}
	if len(t.now) >= t.limit {
		if _, here := t.now[k]; !here {
			return ErrReplayFull
		}
	}
	t.now[k] = start
	return nil
}

// turn begins a new generation when the current one is old enough. After the
// clock was set back the generation begins again where it is: entries then stay
// for longer, never for less.
func (t *replayTable) turn(now time.Time) {
	const generation = 2 * AuthWindow
	age := now.Sub(t.turned)
	switch {
	case t.now == nil:
		t.now, t.old = make(map[replayKey]uint64), make(map[replayKey]uint64)
	case age >= generation:
		t.now, t.old = t.old, t.now
		clear(t.now)
	case age >= 0:
		return
	}
	t.turned = now
}
