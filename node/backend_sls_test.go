package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// What was not applied leaves everything as it was: a dry run, and a file of
// which a later document is refused.
func TestApplyLeavesNothingBehind(t *testing.T) {
	st, err := store.Open(t.TempDir()+"/a.db", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	n := &Node{cfg: &Config{AS: 65001}, store: st, log: slog.New(slog.DiscardHandler), ledger: &sharedLedger{l: sls.New(sls.Config{})}}
	ctx := context.Background()
	doc := func(id, cir string) string {
		return "{id: " + id + ", customer: 65001, provider: 65002, scope: {destinations: [any]}, classes: [{class: EF, cir: " + cir + "}]}\n---\n"
	}
	apply := func(text string, dry bool) (*api.ApplyResponse, error) {
		return n.ApplySLS(ctx, &api.ApplyRequest{Name: "f", Yaml: []byte(text), DryRun: dry}, "me")
	}
	if _, err := apply(doc("a", "40M"), false); err != nil {
		t.Fatal(err)
	}
	resp, err := apply(doc("a", "50M")+doc("b", "1M"), true)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Applied[0].Action != api.AppliedSLS_CHANGED || resp.Applied[1].Action != api.AppliedSLS_CREATED {
		t.Errorf("dry run says %v, want a changed and b created", resp.Applied)
	}
	check := func(when string) {
		t.Helper()
		all, err := n.ListSLS(ctx)
		if err != nil || len(all) != 1 || all[0].Id != "a" || all[0].Version != 1 || all[0].Classes[0].Cir != 40e6 {
			t.Errorf("%s: %v, %v; want a alone, version 1, 40 Mbit/s", when, all, err)
		}
		stored, _, err := st.Load()
		if err != nil || len(stored) != 1 || stored[0].Version != 1 {
			t.Errorf("%s: stored %v, %v; want a alone, version 1", when, stored, err)
		}
	}
	check("after a dry run")

	// Something is sold of a: a smaller one is refused, after b was taken.
	if _, err := n.ledger.Hold(n.started, sls.Request{ID: sls.ID{1}, Leg: sls.Outbound, Version: 1, Customer: 65001, Provider: 65002,
		Source: mustHost("10.1.0.1"), Destination: mustHost("10.3.0.1"), Class: 46, Rate: 4e6}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(doc("b", "1M")+doc("a", "2M"), false); !errors.Is(err, ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	check("after a file that was refused")
	if _, err := apply("{id: c, customer: 1, provider: 2, scope: {destinations: [any]}, classes: [{class: EF, cir: 1M}]}", false); !errors.Is(err, ErrInvalid) {
		t.Errorf("an SLS of others: %v, want invalid", err)
	}
	check("after an SLS of others")
}

func mustHost(s string) netip.Prefix {
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}
