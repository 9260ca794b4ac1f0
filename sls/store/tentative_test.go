package store

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// What is not for good is known after a restart, until it is confirmed, replaced
// or deleted. interdomain-qosm §5
func suiteTentative(t *testing.T, open opener) {
	place := t.TempDir()
	s := open(t, place)
	until := time.Date(2026, 11, 22, 5, 0, 0, 123, time.UTC)
	former, after := agreement("gold"), agreement("gold")
	after.Version = 4
	expectTentative := func(want ...string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place)
		list, err := s.Tentative()
		if err != nil || len(list) != len(want) {
			t.Fatalf("%+v, %v; want %q", list, err, want)
		}
		for i, x := range list {
			if x.SLS.ID != want[i] || !x.Until.Equal(until) || (x.Former != nil) != (x.SLS.ID == "gold") || x.Former != nil && (x.Former.Version != 3 || x.SLS.Version != 4) {
				t.Errorf("%d: %+v, want %s", i, x, want[i])
			}
		}
	}
	do := func(f func(done func(error))) {
		t.Helper()
		if err := wait(f); err != nil {
			t.Fatal(err)
		}
	}
	n := Note{By: "me", At: until, Why: "it works"}
	gold := Tentative{SLS: after, Former: &former, Until: until}
	do(func(done func(error)) { s.PutSLS(former, done) })
	do(func(done func(error)) { s.ConfirmSLS("gold", n, done) }) // there is nothing to confirm
	expectTentative()
	do(func(done func(error)) { s.PutTentative(gold, done) })
	do(func(done func(error)) { s.PutTentative(Tentative{SLS: agreement("lead"), Until: until}, done) })
	expectTentative("gold", "lead")
	do(func(done func(error)) { s.DeleteSLS("lead", n, done) })
	expectTentative("gold")
	do(func(done func(error)) { s.ConfirmSLS("gold", n, done) })
	expectTentative()
	do(func(done func(error)) { s.PutTentative(gold, done) })
	do(func(done func(error)) { s.PutSLS(former, done) })
	expectTentative()
	list, err := s.History("gold")
	if err != nil || len(list) != 5 {
		t.Fatalf("%+v, %v; want five changes", list, err)
	}
	for i, want := range []Change{{}, {Until: until}, {Event: Confirmed, Note: n}, {Until: until}, {}} {
		c := list[i]
		version := uint32(3)
		if i >= 1 && i <= 3 {
			version = 4
		}
		if want.Event == Applied {
			want.Note = Note{By: c.SLS.ChangedBy, At: c.SLS.ChangedAt, Why: c.SLS.ChangedWhy}
		}
		if c.Event != want.Event || c.Note != want.Note || !c.Until.Equal(want.Until) || c.SLS.Version != version {
			t.Errorf("change %d: %+v, want %+v of version %d", i, c, want, version)
		}
	}
	if err := wait(func(done func(error)) { s.PutTentative(Tentative{}, done) }); !errors.Is(err, ErrRecord) {
		t.Errorf("of no SLS: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tentative(); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed store: %v, want ErrClosed", err)
	}
}

// A tentative change or an event that nobody can read is told, and not passed over.
func TestTentativeCorrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	b := openBolt(t, path)
	if err := errors.Join(wait(func(done func(error)) { b.PutSLS(agreement("gold"), done) }), b.Close()); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `{"event": "eaten"}`, `{"event": "deleted", "sls": {"id": 7}}`} {
		edit(t, path, func(tx *bolt.Tx) error {
			return errors.Join(tx.Bucket(bucketTentative).Put([]byte("gold"), []byte(`{"sls": 7}`)), tx.Bucket(bucketHistory).Put(append(historyKey("gold"), 255), []byte(bad)))
		})
		b = openBolt(t, path)
		if list, err := b.Tentative(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("tentative: %+v, %v; want ErrCorrupt", list, err)
		}
		if list, err := b.History("gold"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("history with %q: %+v, %v; want ErrCorrupt", bad, list, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
