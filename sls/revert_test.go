package sls

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// Revert puts an SLS back as it was, with what is sold of it.
func TestRevert(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := New(Config{})
	docs, err := Parse("slss", []byte(`{id: a, customer: 1, provider: 2, scope: {destinations: [any]}, degree: per-aggregate, classes: [{class: EF, cir: 80M}]}`))
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.Put(now, docs[0], "me")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hold(now, Request{ID: ID{1}, Leg: Inbound, Version: 1, Customer: 1, Provider: 2, Destination: netip.MustParsePrefix("10.0.0.0/8"), Class: 46, Rate: 1e6}); err != nil {
		t.Fatal(err)
	}
	changed := docs[0].clone()
	changed.Classes[0].CIR, changed.Classes[0].PIR, changed.Classes[0].LargestFlow = 2e7, 2e7, 2e7
	if _, err := l.Put(now, changed, "you"); err != nil {
		t.Fatal(err)
	}
	if err := l.Revert(before); err != nil {
		t.Fatal(err)
	}
	got, _ := l.Get("a")
	if got.Version != 1 || got.ChangedBy != "me" || got.Classes[0].CIR != 1e7 {
		t.Errorf("after Revert: version %d by %s, %d octets/s; want version 1 by me, 10,000,000", got.Version, got.ChangedBy, got.Classes[0].CIR)
	}
	u, err := l.Usage("a", 46, now)
	if err != nil || u.Held != 1e6 || u.Capacity != 1e7 {
		t.Errorf("usage %+v, %v; want what was held before", u, err)
	}
	if !l.Drop(ID{1}, 1) {
		t.Error("the hold is gone")
	}
	if u, _ := l.Usage("a", 46, now); u.Held != 0 {
		t.Errorf("%d octets/s held after the drop", u.Held)
	}
	other := before.clone()
	other.ID = "b"
	if err := l.Revert(other); !errors.Is(err, ErrUnknown) {
		t.Errorf("Revert of an SLS that is not there: %v", err)
	}
}
