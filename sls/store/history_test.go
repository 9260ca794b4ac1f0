package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// "every change versioned with who and when". interdomain-qosm §5
func suiteHistory(t *testing.T, open opener) {
	place := t.TempDir()
	s := open(t, place)
	const more = 5
	gone := Note{By: "me", At: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC), Why: "no longer needed"}
	other := agreement("gol") // whose id the other's begins with
	if err := wait(func(done func(error)) { s.PutSLS(other, done) }); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(MaxHistory + more) {
		terms := agreement("gold")
		terms.Version, terms.ChangedWhy = i+1, "because"
		for range 2 { // the same again is nothing new
			if err := wait(func(done func(error)) { s.PutSLS(terms, done) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := wait(func(done func(error)) { s.DeleteSLS("gold", gone, done) }); err != nil {
		t.Fatal(err)
	}
	if err := wait(func(done func(error)) { s.DeleteSLS("gold", gone, done) }); err != nil { // again: nothing new
		t.Fatal(err)
	}
	for range 2 {
		list, err := s.History("gold")
		if err != nil || len(list) != MaxHistory {
			t.Fatalf("%d versions, %v; want %d", len(list), err, MaxHistory)
		}
		if last := list[MaxHistory-1]; last.Event != Deleted || last.Note != gone || last.SLS.Version != MaxHistory+more {
			t.Fatalf("the last is %+v, want deleted by %+v", last, gone)
		}
		for i, c := range list[:MaxHistory-1] {
			x := c.SLS
			if c.Event != Applied || c.By != "somebody" || x.Version != uint32(i+more+2) || x.ChangedBy != "somebody" || x.ChangedWhy != "because" {
				t.Fatalf("%d is version %d by %q because %q", i, x.Version, x.ChangedBy, x.ChangedWhy)
			}
		}
		if list, err := s.History("gol"); err != nil || len(list) != 1 {
			t.Errorf("%d versions of the other, %v; want 1", len(list), err)
		}
		if list, err := s.History("go"); err != nil || len(list) != 0 {
			t.Errorf("%d versions of none, %v", len(list), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.History("gold"); !errors.Is(err, ErrClosed) {
			t.Errorf("of a closed store: %v, want ErrClosed", err)
		}
		s = open(t, place)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file of schema 1 is brought to the one of today, and kept as it was beside it.
func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	b := openBolt(t, path)
	r := sample(1)
	if err := errors.Join(put(b, r), wait(func(done func(error)) { b.PutSLS(agreement("gold"), done) }), b.Close()); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bolt.Tx) error {
		return errors.Join(tx.DeleteBucket(bucketHistory), tx.Bucket(bucketMeta).Put(keySchema, binary.BigEndian.AppendUint32(nil, 1)))
	})
	for range 2 {
		b = openBolt(t, path)
		expect(t, b, []string{"gold"}, []Record{r})
		if list, err := b.History("gold"); err != nil || len(list) != 1 || list[0].SLS.Version != 3 {
			t.Errorf("history %v, %v; want what there was", list, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := Inspect(path); err != nil || c.Schema != schema {
		t.Errorf("schema %d, %v; want %d", c.Schema, err, schema)
	}
	if c, err := Inspect(path + ".schema1"); err != nil || c.Schema != 1 || len(c.Records) != 1 || len(c.SLSs) != 1 {
		t.Errorf("the copy: %+v, %v", c, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 2 {
		t.Errorf("%v, %v; want the file and its copy", files, err)
	}
}

func TestRestoreBackup(t *testing.T) {
	dir := t.TempDir()
	b := openBolt(t, filepath.Join(dir, "a.db"))
	r := sample(1)
	var backup bytes.Buffer
	if err := errors.Join(put(b, r), wait(func(done func(error)) { b.PutSLS(agreement("gold"), done) })); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Backup(&backup); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(b, sample(2)), b.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "b.db")
	if err := Restore(path, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	b = openBolt(t, path)
	expect(t, b, []string{"gold"}, []Record{r})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Restore(path, bytes.NewReader(backup.Bytes())); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over a file that is there: %v", err)
	}
	for name, bad := range map[string][]byte{"nothing": {}, "a half": backup.Bytes()[:backup.Len()/2], "noise": bytes.Repeat([]byte("x"), 1<<16)} {
		if err := Restore(filepath.Join(dir, "c.db"), bytes.NewReader(bad)); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
	half := filepath.Join(dir, "half.db")
	if err := os.WriteFile(half, backup.Bytes()[:backup.Len()/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := Open(half, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a file that lacks its end is opened: %v, %v", b, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 3 {
		t.Errorf("%v, %v; want three files, and no leftovers", files, err)
	}
}
