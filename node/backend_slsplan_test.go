package node

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// A change is planned, refused, made at the expense of whom the plan named, found
// in the history, and taken back. interdomain-qosm §5
func TestChangeUnderLoad(t *testing.T) {
	path := t.TempDir() + "/a.db"
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &shard{}
	s.inbox.init()
	s.inbox.busy = true // the test looks at what it is sent
	n := &Node{cfg: &Config{AS: 65001}, store: st, log: slog.New(slog.DiscardHandler), ledger: &sharedLedger{l: sls.New(sls.Config{})}, shards: []*shard{s}}
	ctx := t.Context()
	terms := func(cir string) []byte {
		return []byte("{id: a, customer: 65001, provider: 65002, classes: [{class: EF, cir: " + cir + "}]}")
	}
	apply := func(cir, why string, preempt, dry bool) (*api.ApplyResponse, error) {
		return n.ApplySLS(ctx, &api.ApplyRequest{Name: "f", Yaml: terms(cir), Why: why, Preempt: preempt, DryRun: dry}, "me")
	}
	if _, err := apply("40M", "first", false, false); err != nil {
		t.Fatal(err)
	}
	sid := func(i byte) sls.ID { return sls.ID{i} }
	for i := range byte(2) { // 16 Mbit/s each, the first defends
		r := sls.Request{ID: sid(i + 1), Leg: sls.Outbound, Version: 1, Customer: 65001, Provider: 65002, Source: mustHost("10.1.0.1"),
			Destination: mustHost("10.3.0.1"), Class: sls.EF, Rate: 2e6, Defending: uint16(1 - i)}
		if _, err := n.ledger.Hold(time.Now(), r); err != nil {
			t.Fatal(err)
		}
		bookings, _, err := n.ledger.Commit(time.Now(), r.ID, 1, r.Rate)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		st.Put(store.Record{ID: r.ID, Version: 1, Bookings: bookings}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	victim := wire.SID(sid(2)).String()
	plan, err := n.PlanSLS(ctx, &api.ApplyRequest{Name: "f", Yaml: terms("20M")})
	if err != nil || len(plan.Applied) != 1 || len(plan.Applied[0].Breaks) != 1 || plan.Applied[0].Breaks[0].SessionId != victim || plan.Applied[0].Version != 2 || len(plan.Applied[0].Diff) == 0 {
		t.Fatalf("%v, %v; want %s in the way of version 2", plan, err, victim)
	}
	if _, err := apply("20M", "", false, false); !errors.Is(err, ErrConflict) {
		t.Fatalf("applied: %v, want a conflict", err)
	}
	if _, err := apply("20M", "", true, true); !errors.Is(err, ErrInvalid) {
		t.Fatalf("dry run that preempts: %v, want invalid", err)
	}
	// Another SLS of the file is bad: nobody is ended.
	bad := append(terms("20M"), "\n---\n{id: b, customer: 65001, provider: 65002, classes: [{class: EF, cir: 1M}], valid: {from: 2027-01-01, to: 2026-01-01}}"...)
	if _, err := n.ApplySLS(ctx, &api.ApplyRequest{Name: "f", Yaml: bad, Preempt: true}, "me"); err == nil {
		t.Fatal("a bad file is applied")
	}
	if len(s.inbox.events) != 0 || n.ledger.l.Stats().Committed != 2 {
		t.Fatalf("events %v, %+v; want nobody ended yet", s.inbox.events, n.ledger.l.Stats())
	}
	done, err := apply("20M", "less is used", true, false)
	if err != nil || len(done.Applied[0].Breaks) != 1 || done.Applied[0].Breaks[0].SessionId != victim {
		t.Fatalf("%v, %v; want %s ended", done, err, victim)
	}
	want := qosnslp.Abandon{SID: wire.SID(sid(2)), Info: nslpwire.InfoSpec{Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationPreempted}}
	if len(s.inbox.events) != 1 || !reflect.DeepEqual(s.inbox.events[0], any(want)) {
		t.Errorf("events %v, want %v", s.inbox.events, want)
	}
	if _, err := n.RollbackSLS(ctx, &api.RollbackRequest{Id: "a"}, "you"); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []*api.RollbackRequest{{Id: "none"}, {Id: "a", Version: 99}} {
		if _, err := n.RollbackSLS(ctx, bad, "you"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v, want not found", bad, err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	// What is in the file says the same.
	if st, err = store.Open(path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	n.store = st
	slss, records, err := st.Load()
	if err != nil || len(slss) != 1 || slss[0].Version != 3 || slss[0].Classes[0].CIR != 5e6 || len(records) != 1 || records[0].ID != sid(1) {
		t.Errorf("%v, %v, %v; want version 3 with 40 Mbit/s, and the first reservation", slss, records, err)
	}
	h, err := n.SLSHistory(ctx, "a")
	if err != nil || len(h.Changes) != 3 {
		t.Fatalf("%v, %v; want three changes", h, err)
	}
	for i, want := range []struct{ by, why, before, after string }{
		{"you", "rollback to version 1", "20M", "40M"}, {"me", "less is used", "40M", "20M"}, {"me", "first", "", "40M"},
	} {
		c := h.Changes[i]
		cir := &api.SLSEdit{}
		for _, e := range c.Diff {
			if e.Path == "classes[EF].cir" {
				cir = e
			}
		}
		if c.Version != uint32(3-i) || c.By != want.by || c.Why != want.why || cir.Before != want.before || cir.After != want.after || c.At == nil {
			t.Errorf("change %d: %v, want %+v", i, c, want)
		}
	}
	if _, err := n.SLSHistory(ctx, "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("history of none: %v", err)
	}
}
