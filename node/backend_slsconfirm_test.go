package node

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
	"google.golang.org/protobuf/types/known/durationpb"
)

// manager is the part of a node that keeps SLSs, over a store that can be opened again.
type manager struct {
	*Node
	t    *testing.T
	path string
	st   *store.Bolt
	sh   *shard
}

func openManager(t *testing.T, path string) *manager {
	t.Helper()
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, path: path, st: st, sh: &shard{}}
	m.sh.inbox.init()
	m.sh.inbox.busy = true // the test looks at what it is sent
	cfg := &Config{AS: 65001}
	cfg.Store.Path = path
	m.Node = &Node{cfg: cfg, store: st, log: slog.New(slog.DiscardHandler), ledger: &sharedLedger{l: sls.New(sls.Config{})}, shards: []*shard{m.sh}}
	slss, records, err := st.Load()
	if err = errors.Join(err, m.ledger.l.LoadSLS(slss), m.loadTentative()); err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := m.ledger.l.Restore(time.Now(), r.Bookings); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = st.Close() })
	return m
}

// again is the node after a restart.
func (m *manager) again() *manager {
	m.t.Helper()
	if err := m.st.Close(); err != nil {
		m.t.Fatal(err)
	}
	return openManager(m.t, m.path)
}

// apply applies an SLS with an EF of this rate.
func (m *manager) apply(id, cir string, within time.Duration) (*api.ApplyResponse, error) {
	r := &api.ApplyRequest{Name: "f", Yaml: []byte("{id: " + id + ", customer: 65001, provider: 65002, classes: [{class: EF, cir: " + cir + "}]}")}
	if within != 0 {
		r.ConfirmWithin = durationpb.New(within)
	}
	return m.ApplySLS(m.t.Context(), r, "me")
}

func (m *manager) must(_ *api.ApplyResponse, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// reserve commits 16 Mbit/s, durably.
func (m *manager) reserve(i byte) {
	m.t.Helper()
	r := sls.Request{ID: sls.ID{i}, Leg: sls.Outbound, Version: 1, Customer: 65001, Provider: 65002, Source: mustHost("10.1.0.1"),
		Destination: mustHost("10.3.0.1"), Class: sls.EF, Rate: 2e6, Defending: uint16(100 - i)}
	if _, err := m.ledger.Hold(time.Now(), r); err != nil {
		m.t.Fatal(err)
	}
	bookings, _, err := m.ledger.Commit(time.Now(), r.ID, 1, r.Rate)
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	m.st.Put(store.Record{ID: r.ID, Version: 1, Bookings: bookings}, func(err error) { done <- err })
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
}

// expect compares what ledger, store and history have of an SLS.
func (m *manager) expect(id string, version uint32, cir uint64, reservations, told int) {
	m.t.Helper()
	s, ok := m.ledger.l.Get(id)
	if ok != (version > 0) || ok && (s.Version != version || s.Classes[0].CIR != cir) {
		m.t.Errorf("%+v, want version %d of %d octets/s", s, version, cir)
	}
	slss, records, err := m.st.Load()
	stored := sls.SLS{}
	for _, x := range slss {
		if x.ID == id {
			stored = x
		}
	}
	if err != nil || stored.Version != version || len(records) != reservations || m.ledger.l.Stats().Committed != reservations {
		m.t.Errorf("stored %+v, %d reservations of %d, %v; want version %d and %d reservations", stored, len(records), m.ledger.l.Stats().Committed, err, version, reservations)
	}
	if len(m.sh.inbox.events) != told {
		m.t.Errorf("%d events %v, want %d reservations ended", len(m.sh.inbox.events), m.sh.inbox.events, told)
	}
}

func (m *manager) tentatives() int {
	m.t.Helper()
	list, err := m.st.Tentative()
	if err != nil {
		m.t.Fatal(err)
	}
	return len(list)
}

// A change that nobody confirms is taken back after a restart, at or after the
// deadline; what no longer fits is ended and told. interdomain-qosm §5
func TestConfirmWithin(t *testing.T) {
	m := openManager(t, filepath.Join(t.TempDir(), "a.db"))
	m.must(m.apply("a", "20M", 0))
	m.reserve(1)
	resp, err := m.apply("a", "40M", 10*time.Minute)
	m.must(resp, err)
	until := resp.Applied[0].ConfirmUntil.AsTime()
	m.reserve(2) // under the new terms
	if s, err := m.ShowSLS(t.Context(), "a"); err != nil || !s.ConfirmUntil.AsTime().Equal(until) {
		t.Errorf("%v, %v; want unconfirmed until %s", s, err, until)
	}
	for name, f := range map[string]func() error{
		"apply": func() error { _, err := m.apply("a", "60M", time.Minute); return err },
		"roll":  func() error { _, err := m.RollbackSLS(t.Context(), &api.RollbackRequest{Id: "a"}, "me"); return err },
		"delete": func() error {
			_, err := m.DeleteSLS(t.Context(), &api.DeleteSLSRequest{Id: "a", Preempt: true}, "me")
			return err
		},
	} {
		if err := f(); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "slsctl confirm a") {
			t.Errorf("%s on what is not confirmed: %v", name, err)
		}
	}
	if resp, err := m.apply("a", "40M", time.Hour); err != nil || resp.Applied[0].Action != api.AppliedSLS_UNCHANGED || resp.Applied[0].ConfirmUntil != nil {
		t.Errorf("the same again: %v, %v; want nothing new", resp, err)
	}
	m.returnUnconfirmed(t.Context(), until.Add(-time.Nanosecond))
	m.expect("a", 2, 5e6, 2, 0)

	m = m.again()
	m.returnUnconfirmed(t.Context(), until.Add(-time.Nanosecond))
	m.expect("a", 2, 5e6, 2, 0)
	m.returnUnconfirmed(t.Context(), until)
	m.expect("a", 3, 25e5, 1, 1)
	want := qosnslp.Abandon{SID: wire.SID(sls.ID{2}), Info: nslpwire.InfoSpec{Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationPreempted}}
	if len(m.sh.inbox.events) == 1 && !reflect.DeepEqual(m.sh.inbox.events[0], any(want)) {
		t.Errorf("told %+v, want %+v", m.sh.inbox.events[0], want)
	}
	m.returnUnconfirmed(t.Context(), until.Add(time.Hour)) // once
	m.expect("a", 3, 25e5, 1, 1)
	m = m.again()
	if m.tentatives() != 0 {
		t.Error("it is still to be taken back")
	}
	m.expect("a", 3, 25e5, 1, 0)
	h, err := m.SLSHistory(t.Context(), "a")
	if err != nil || len(h.Changes) != 3 {
		t.Fatalf("%v, %v; want three changes", h, err)
	}
	if c := h.Changes[0]; c.By != "qned" || c.Why != "back to version 1: not confirmed by "+until.Format(time.RFC3339) || c.Version != 3 {
		t.Errorf("the return is %v", c)
	}
	if c := h.Changes[1]; !c.ConfirmUntil.AsTime().Equal(until) || c.By != "me" {
		t.Errorf("the change is %v, want it tentative", c)
	}
}

// What is confirmed stays, also after a restart; what is taken back by hand goes
// at once; an SLS that was new is deleted with what stands on it.
func TestConfirm(t *testing.T) {
	m := openManager(t, filepath.Join(t.TempDir(), "a.db"))
	ctx := t.Context()
	late := time.Now().Add(time.Hour)
	m.must(m.apply("a", "20M", 0))
	m.must(m.apply("a", "40M", time.Minute))
	m.must(m.ConfirmSLS(ctx, &api.ConfirmRequest{Id: "a", Why: "it works"}, "you"))
	m.returnUnconfirmed(ctx, late)
	m.expect("a", 2, 5e6, 0, 0)
	m = m.again()
	m.returnUnconfirmed(ctx, late)
	m.expect("a", 2, 5e6, 0, 0)
	for name, r := range map[string]*api.ConfirmRequest{"none": {Id: "none"}, "twice": {Id: "a"}, "back": {Id: "a", TakeBack: true}} {
		if _, err := m.ConfirmSLS(ctx, r, "you"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
	if _, err := m.ConfirmSLS(ctx, &api.ConfirmRequest{Id: "a", Why: strings.Repeat("x", 1001)}, "you"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a long why: %v", err)
	}
	m.must(m.apply("a", "60M", time.Minute))
	m.must(m.ConfirmSLS(ctx, &api.ConfirmRequest{Id: "a", TakeBack: true, Why: "worse"}, "you"))
	m.expect("a", 4, 5e6, 0, 0)
	h, err := m.SLSHistory(ctx, "a")
	if err != nil || len(h.Changes) != 5 || h.Changes[0].Why != "back to version 2: worse" || h.Changes[0].By != "you" ||
		h.Changes[2].Event != api.SLSChange_CONFIRMED || h.Changes[2].By != "you" || h.Changes[2].Why != "it works" || len(h.Changes[2].Diff) != 0 {
		t.Errorf("%v, %v", h, err)
	}

	m.must(m.apply("b", "80M", time.Minute))
	if _, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "a"}, "me"); err != nil {
		t.Fatal(err)
	}
	m.reserve(7) // on b
	m = m.again()
	m.returnUnconfirmed(ctx, late)
	m.expect("b", 0, 0, 0, 1)
	h, err = m.SLSHistory(ctx, "b")
	if err != nil || len(h.Changes) != 2 || h.Changes[0].Event != api.SLSChange_DELETED || h.Changes[0].By != "qned" || m.tentatives() != 0 {
		t.Errorf("%v, %v; want it deleted by qned", h, err)
	}
	for _, within := range []time.Duration{time.Millisecond, -time.Second, 169 * time.Hour} {
		if _, err := m.apply("c", "1M", within); !errors.Is(err, ErrInvalid) {
			t.Errorf("within %s: %v, want invalid", within, err)
		}
	}
}

// A return that the store does not take changes nothing, and is tried again later.
func TestReturnFails(t *testing.T) {
	m := openManager(t, filepath.Join(t.TempDir(), "a.db"))
	m.must(m.apply("a", "20M", 0))
	resp, err := m.apply("a", "40M", time.Minute)
	m.must(resp, err)
	m.reserve(1)
	m.reserve(2)
	until := resp.Applied[0].ConfirmUntil.AsTime()
	if err := m.st.Close(); err != nil {
		t.Fatal(err)
	}
	m.returnUnconfirmed(t.Context(), until)
	if s, _ := m.ledger.l.Get("a"); s.Version != 2 || m.ledger.l.Stats().Committed != 2 {
		t.Errorf("%+v, %+v; want nothing changed", s, m.ledger.l.Stats())
	}
	if ids := m.tentative.due(until.Add(returnRetry - 1)); len(ids) != 0 {
		t.Errorf("due already: %v", ids)
	}
	if ids := m.tentative.due(until.Add(returnRetry)); len(ids) != 1 {
		t.Errorf("due are %v, want a", ids)
	}
	m = openManager(t, m.path) // as after a crash in the middle
	m.returnUnconfirmed(t.Context(), until)
	m.expect("a", 3, 25e5, 1, 1)
}

// Who is in the way of a deletion is named; who deleted what is in the history, and
// rollback brings it back.
func TestDeleteSLS(t *testing.T) {
	m := openManager(t, filepath.Join(t.TempDir(), "a.db"))
	ctx := t.Context()
	m.must(m.apply("a", "200M", 0))
	for i := range byte(7) {
		m.reserve(i + 1)
	}
	_, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "a"}, "me")
	for _, want := range []string{"reservation " + wire.SID(sls.ID{1}).String() + ", EF, 16000000 bit/s, committed", "and 2 more", "--preempt"} {
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want a conflict with %q", err, want)
		}
	}
	dry, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "a", DryRun: true}, "me")
	if err != nil || len(dry.Deleted.Breaks) != 7 {
		t.Errorf("%v, %v; want all seven", dry, err)
	}
	m.expect("a", 1, 25e6, 7, 0)
	for _, dry := range []bool{false, true} {
		if _, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "none", DryRun: dry}, "me"); !errors.Is(err, ErrNotFound) {
			t.Errorf("none: %v", err)
		}
	}
	done, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "a", Preempt: true, Why: "ended by mutual consent"}, "me")
	if err != nil || len(done.Deleted.Breaks) != 7 {
		t.Fatalf("%v, %v; want all seven ended", done, err)
	}
	m.expect("a", 0, 0, 0, 7)
	h, err := m.SLSHistory(ctx, "a")
	if err != nil || len(h.Changes) != 2 {
		t.Fatalf("%v, %v", h, err)
	}
	if c := h.Changes[0]; c.Event != api.SLSChange_DELETED || c.By != "me" || c.Why != "ended by mutual consent" || c.At == nil || c.Version != 1 {
		t.Errorf("the deletion is %v", c)
	}
	m.must(m.RollbackSLS(ctx, &api.RollbackRequest{Id: "a"}, "you"))
	m.expect("a", 1, 25e6, 0, 7)
	if h, err := m.SLSHistory(ctx, "a"); err != nil || len(h.Changes) != 3 || len(h.Changes[0].Diff) == 0 || h.Changes[0].Diff[0].Before != "" {
		t.Errorf("%v, %v; want it new", h, err)
	}
	// Where the store does not take it, nothing is deleted.
	if err := m.st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.DeleteSLS(ctx, &api.DeleteSLSRequest{Id: "a"}, "me"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	if _, ok := m.ledger.l.Get("a"); !ok {
		t.Error("it is gone")
	}
}

// A backup of a running node is a store that another one starts with.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	m := openManager(t, filepath.Join(dir, "a.db"))
	m.must(m.apply("a", "40M", 0))
	m.reserve(1)
	m.must(m.apply("a", "60M", time.Minute))
	var copied bytes.Buffer
	if err := m.Backup(t.Context(), &copied); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	full := errors.New("disk full")
	if err := m.Backup(t.Context(), writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
	if _, err := RestoreStore(m.cfg, bytes.NewReader(copied.Bytes())); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over a store in use: %v", err)
	}
	other := *m.cfg
	other.Store.Path = filepath.Join(dir, "b.db")
	if c, err := RestoreStore(&other, &copied); err != nil || len(c.SLSs) != 1 || len(c.Records) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	m = openManager(t, other.Store.Path)
	m.expect("a", 2, 75e5, 1, 0)
	m.returnUnconfirmed(t.Context(), time.Now().Add(time.Hour))
	m.expect("a", 3, 5e6, 1, 0)
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

var _ io.Writer = writer(nil)
