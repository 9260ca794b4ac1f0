package store

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/interqos/interqos/sls"
)

// A transaction that fails takes the displaced no more than it puts their successor
// in: on disk, and in what the store knows of it. interdomain-qosm §6
func TestReplaceFailsAsAWhole(t *testing.T) {
	b := openBolt(t, filepath.Join(t.TempDir(), "store.db"))
	defer b.Close()
	if err := errors.Join(put(b, sample(1)), put(b, sample(2))); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space")
	replace := func() error {
		return wait(func(done func(error)) { b.Replace(sample(3), []sls.ID{sample(1).ID, sample(2).ID}, done) })
	}
	b.fault = func() error { return full }
	if err := replace(); !errors.Is(err, full) {
		t.Fatal(err)
	}
	expect(t, b, []string{}, []Record{sample(1), sample(2)})
	b.fault = nil
	if err := replace(); err != nil {
		t.Fatal(err)
	}
	expect(t, b, []string{}, []Record{sample(3)})
}
