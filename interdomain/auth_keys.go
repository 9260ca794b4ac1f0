package interdomain

import (
	"crypto/hmac"
	"fmt"
	"slices"
	"time"
)

// MinKeyLen is the least length of a secret: "at least 64 bits" (RFC 5981 §4.4).
const MinKeyLen = 8

// Key is a secret shared with a neighbour.
type Key struct {
	ID     uint32 // the Key-ID on the wire, the same on both sides
	AS     uint32 // the neighbour
	Name   string // for people
	Secret []byte // at least MinKeyLen octets; 32 are good
	// From and Until are its lifetime, Until not part of it; zero: no bound.
	// "Each key must also be configured with lifetime parameters" (RFC 5981
	// §4.1.1).
	From, Until time.Time
}

// ValidAt says whether t is in the key's lifetime.
func (k *Key) ValidAt(t time.Time) bool {
	return (k.From.IsZero() || !t.Before(k.From)) && (k.Until.IsZero() || t.Before(k.Until))
}

// Keyring is the keys of one node, any number for each neighbour, so that keys
// can overlap while they are changed (RFC 5981 §4.1.1). The zero value is empty.
type Keyring struct {
	keys map[uint32]Key
	byAS map[uint32][]turn
}

// turn is from when on a key signs, while it is valid.
type turn struct {
	id uint32
	at time.Time // zero: from its beginning
}

// Add adds a key. Of keys that begin at the same time the one that was added
// first signs.
func (r *Keyring) Add(k Key) error {
	if len(k.Secret) < MinKeyLen {
		return fmt.Errorf("key %d (%s): secret of %d octets, want at least %d", k.ID, k.Name, len(k.Secret), MinKeyLen)
	}
	if !k.From.IsZero() && !k.Until.IsZero() && !k.From.Before(k.Until) {
		return fmt.Errorf("key %d (%s): valid until %v, want a time after it begins, %v", k.ID, k.Name, k.Until, k.From)
	}
	if _, ok := r.keys[k.ID]; ok {
		return fmt.Errorf("key %d (%s): this key id is there already", k.ID, k.Name)
	}
	for _, other := range r.keys {
		// The key id is outside of what is signed: it has to name one secret.
		if hmac.Equal(other.Secret, k.Secret) {
			return fmt.Errorf("key %d (%s): same secret as key %d (%s)", k.ID, k.Name, other.ID, other.Name)
		}
	}
	if r.keys == nil {
		r.keys, r.byAS = make(map[uint32]Key), make(map[uint32][]turn)
	}
	k.Secret = append([]byte(nil), k.Secret...)
	r.keys[k.ID] = k
	r.byAS[k.AS] = r.turns(append(r.byAS[k.AS], turn{id: k.ID}))
	return nil
}

// turns orders the keys of an AS, the one that begins last first, and says when
// each takes over from the one that it follows: "At the midpoint of the lifetime
// overlap between two keys, senders should transition from using the current key
// to the next/longer-lived key" (RFC 5981 §4.1.1). Where the older has no end
// there is no such midpoint, and the newer signs from its beginning.
func (r *Keyring) turns(all []turn) []turn {
	slices.SortStableFunc(all, func(a, b turn) int {
		return r.keys[b.id].From.Compare(r.keys[a.id].From)
	})
	for i := range all {
		next := r.keys[all[i].id]
		all[i].at = next.From
		for _, t := range all[i+1:] {
			old := r.keys[t.id]
			if old.From.Equal(next.From) {
				continue
			}
			end := old.Until
			if !next.Until.IsZero() && next.Until.Before(end) {
				end = next.Until
			}
			if overlap := end.Sub(next.From); !old.Until.IsZero() && overlap > 0 {
				all[i].at = next.From.Add(overlap / 2)
			}
			break
		}
	}
	return all
}

// Key returns the key with this id.
func (r *Keyring) Key(id uint32) (Key, bool) {
	k, ok := r.keys[id]
	return k, ok
}

// Signing returns the key that a message to this AS is signed with at a time:
// the newest one whose turn it is, or else any that is valid.
func (r *Keyring) Signing(as uint32, now time.Time) (Key, bool) {
	var valid Key
	found := false
	for _, t := range r.byAS[as] {
		k := r.keys[t.id]
		if !k.ValidAt(now) {
			continue
		}
		if t.at.IsZero() || !now.Before(t.at) {
			return k, true
		}
		if !found {
			valid, found = k, true
		}
	}
	return valid, found
}
