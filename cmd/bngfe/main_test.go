package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/interqos/interqos/bng/fe"
	"github.com/interqos/interqos/dataplane/soft"
	"github.com/interqos/interqos/fpc/transport"
)

const config = `
dpn: bng3
listen: unix:s
wire: 127.0.0.1:0
subscribers:
  - {id: alice, address: 10.3.0.10, access: "127.0.0.1:9", cir: 40M}
`

func TestRun(t *testing.T) {
	dir := t.TempDir()
	c, err := fe.ParseConfig("bngfe.yaml", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, c, dir, slog.New(slog.DiscardHandler)) }()
	client, err := transport.Dial(transport.Address{Network: "unix", Address: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wait, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	snap, err := client.List(wait)
	if err != nil || snap.DPN != "bng3" || len(snap.Ports) != 1 || snap.Ports[0].Name != "alice" {
		t.Errorf("%+v, %v", snap, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestRunSaysWhatFails(t *testing.T) {
	c, err := fe.ParseConfig("bngfe.yaml", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	c.Listen = "127.0.0.1:0"
	if err := run(t.Context(), c, t.TempDir(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("plain TCP without insecure: no error")
	}
}

func TestMetrics(t *testing.T) {
	plane := soft.New(func() int64 { return 0 })
	c, err := fe.ParseConfig("bngfe.yaml", []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fe.New(c.DPN, c.Subscribers, plane); err != nil {
		t.Fatal(err)
	}
	plane.Process(0, []byte{0x50})
	wire, err := soft.Listen(plane, c.Wire)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{plane: plane, wire: wire})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"bngfe_entries subscriber": 1, "bngfe_entries flow": 0,
		"bngfe_dropped_packets_total bad_version": 1, "bngfe_dropped_octets_total bad_version": 1,
		"bngfe_subscriber_packets_total green alice": 0, "bngfe_wire_packets_total received": 0} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v (%v), want %v", name, v, ok, want)
		}
	}
}
