package interdomain

import (
	"errors"
	"testing"
	"time"
)

func TestKeyring(t *testing.T) {
	var r Keyring
	for _, c := range []struct {
		key  Key
		fine bool
	}{
		{Key{ID: 1, AS: 65001, Secret: secret(1)}, true},
		{Key{ID: 2, AS: 65001, Secret: secret(2)}, true},
		{Key{ID: 1, AS: 65002, Secret: secret(3)}, false},       // the id is taken
		{Key{ID: 3, AS: 65002, Secret: secret(2)}, false},       // the secret is another key's
		{Key{ID: 4, AS: 65002, Secret: make([]byte, 7)}, false}, // RFC 5981 §4.4: at least 64 bits
		{Key{ID: 5, AS: 65002, Secret: []byte("8 octets")}, true},
		{Key{ID: 6, AS: 65002, Secret: secret(6), From: authNow, Until: authNow}, false}, // valid never
	} {
		if err := r.Add(c.key); (err == nil) != c.fine {
			t.Errorf("key %d: %v", c.key.ID, err)
		}
	}
	if k, ok := r.Signing(65001, authNow); !ok || k.ID != 1 {
		t.Errorf("signing with %+v", k)
	}
	if _, ok := r.Signing(65009, authNow); ok {
		t.Error("a key for nobody")
	}
}

// Keys change while messages signed with the old one are under way.
func TestKeyChange(t *testing.T) {
	s, r := authPair(t)
	old, err := s.Seal(authNow, authBinding(1), authHere, 65002, authMessage())
	if err != nil {
		t.Fatal(err)
	}
	var mine, theirs Keyring
	for _, err := range []error{
		mine.Add(Key{ID: 70, AS: 65002, Secret: secret(70)}),
		theirs.Add(Key{ID: 7, AS: 65001, Secret: secret(1)}),
		theirs.Add(Key{ID: 70, AS: 65001, Secret: secret(70)}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.SetKeys(&mine)
	r.SetKeys(&theirs)
	for i, b := range [][]byte{old, nil} {
		if b == nil {
			if b, err = s.Seal(authNow, authBinding(1), authHere, 65002, authMessage()); err != nil {
				t.Fatal(err)
			}
		}
		if _, as, err := r.Open(authNow, authBinding(1), authHere, b); err != nil || as != 65001 {
			t.Errorf("message %d: AS %d, %v", i, as, err)
		}
	}
}

func at(minutes int) time.Time { return authNow.Add(time.Duration(minutes) * time.Minute) }

// RFC 5981 §4.1.1: "At the midpoint of the lifetime overlap between two keys,
// senders should transition from using the current key to the next/longer-lived
// key."
func TestSigningKeyChangesAtTheMidpoint(t *testing.T) {
	for name, c := range map[string]struct {
		keys []Key
		want map[int]uint32 // minute → key id, 0: none
	}{
		"one after the other": {
			[]Key{{ID: 1, Until: at(60)}, {ID: 2, From: at(40), Until: at(120)}, {ID: 3, From: at(100)}},
			map[int]uint32{0: 1, 40: 1, 49: 1, 50: 2, 60: 2, 109: 2, 110: 3, 119: 3, 1000: 3},
		},
		"listed in another order": {
			[]Key{{ID: 3, From: at(100)}, {ID: 1, Until: at(60)}, {ID: 2, From: at(40), Until: at(120)}},
			map[int]uint32{0: 1, 49: 1, 50: 2, 109: 2, 110: 3},
		},
		"the older has no end": {
			[]Key{{ID: 1}, {ID: 2, From: at(40)}},
			map[int]uint32{39: 1, 40: 2},
		},
		"no overlap, and a gap": {
			[]Key{{ID: 1, Until: at(10)}, {ID: 2, From: at(20)}},
			map[int]uint32{9: 1, 10: 0, 19: 0, 20: 2},
		},
		"a short one within a long one": {
			[]Key{{ID: 1, From: at(0), Until: at(100)}, {ID: 2, From: at(20), Until: at(40)}},
			map[int]uint32{-1: 0, 0: 1, 29: 1, 30: 2, 39: 2, 40: 1, 99: 1, 100: 0},
		},
		"three at a time": {
			[]Key{{ID: 1, Until: at(100)}, {ID: 2, From: at(10), Until: at(90)}, {ID: 3, From: at(20), Until: at(200)}},
			map[int]uint32{0: 1, 49: 1, 50: 2, 54: 2, 55: 3, 150: 3},
		},
		"no lifetimes: the first listed": {
			[]Key{{ID: 2}, {ID: 1}},
			map[int]uint32{0: 2, 1000: 2},
		},
	} {
		var r Keyring
		for _, k := range c.keys {
			k.AS, k.Secret = 65002, secret(byte(k.ID))
			if err := r.Add(k); err != nil {
				t.Fatal(err)
			}
		}
		for minute, want := range c.want {
			if k, ok := r.Signing(65002, at(minute)); k.ID != want || ok != (want != 0) {
				t.Errorf("%s: minute %d: signing with %d, want %d", name, minute, k.ID, want)
			}
		}
	}
}

// A change of keys loses no message, whichever clock is ahead, within AuthWindow.
func TestKeyRotationLosesNothing(t *testing.T) {
	for _, ahead := range []time.Duration{-AuthWindow, -time.Second, 0, time.Second, AuthWindow} { // of the receiver's clock
		for _, gap := range []time.Duration{0, time.Minute} { // of overlap
			change := authNow.Add(time.Minute)
			var mine, theirs Keyring
			for _, r := range []struct {
				ring *Keyring
				as   uint32
			}{{&mine, 65002}, {&theirs, 65001}} {
				for _, k := range []Key{{ID: 1, Secret: secret(1), Until: change}, {ID: 2, Secret: secret(2), From: change.Add(-gap)}} {
					k.AS = r.as
					if err := r.ring.Add(k); err != nil {
						t.Fatal(err)
					}
				}
			}
			s, r := NewAuth(&mine, time.Time{}, 0), NewAuth(&theirs, time.Time{}, 0)
			used := make(map[uint32]int)
			for now := authNow; now.Before(authNow.Add(2 * time.Minute)); now = now.Add(250 * time.Millisecond) {
				b, err := s.Seal(now, authBinding(1), authHere, 65002, authMessage())
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := r.Open(now.Add(ahead), authBinding(1), authHere, b); err != nil {
					t.Fatalf("ahead %v, overlap %v, %v before the change: %v", ahead, gap, change.Sub(now), err)
				}
				used[r.auth.KeyID]++
			}
			if used[1] == 0 || used[2] == 0 {
				t.Errorf("overlap %v: keys used %v, want both", gap, used)
			}
		}
	}
}

// RFC 5981 §4.1.1: "receivers simply accept any identified key received within
// its configured lifetime and reject those that are not."
func TestOpenRefusesOutsideTheLifetime(t *testing.T) {
	s, _ := authPair(t)
	var theirs Keyring
	if err := theirs.Add(Key{ID: 7, AS: 65001, Secret: secret(1), From: at(1), Until: at(2)}); err != nil {
		t.Fatal(err)
	}
	r := NewAuth(&theirs, time.Time{}, 0)
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{at(1).Add(-time.Millisecond), ErrKeyLifetime}, {at(1), nil}, {at(2).Add(-time.Millisecond), nil}, {at(2), ErrKeyLifetime},
	} {
		b, err := s.Seal(c.at, authBinding(1), authHere, 65002, authMessage())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Open(c.at, authBinding(1), authHere, b); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.at, err, c.want)
		}
	}
	var mine Keyring
	if err := mine.Add(Key{ID: 7, AS: 65002, Secret: secret(1), Until: at(2)}); err != nil {
		t.Fatal(err)
	}
	s.SetKeys(&mine)
	if _, err := s.Seal(at(2), authBinding(1), authHere, 65002, authMessage()); !errors.Is(err, ErrNoKey) {
		t.Errorf("signed with a key of the past: %v", err)
	}
}
