package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// maxScrapes bounds the connections to /metrics, /healthz and /readyz: strangers'
// must not use up the process's open files.
const maxScrapes = 512

// collector reads the node's counts when Prometheus asks.
type collector struct{ n *Node }

var (
	descSessions = prometheus.NewDesc("interqos_nslp_sessions", "QoS-NSLP sessions.", nil, nil)
	descRouting  = prometheus.NewDesc("interqos_gist_routing_states", "GIST message routing states.", nil, nil)
	descMAs      = prometheus.NewDesc("interqos_gist_associations", "GIST messaging associations.", nil, nil)
	descPending  = prometheus.NewDesc("interqos_gist_pending_handshakes", "GIST handshakes that are not over.", nil, nil)
	descLedger   = prometheus.NewDesc("interqos_ledger_rate_bits", "Sum over all SLSs and classes, bit/s.", []string{"state"}, nil)
	descReserved = prometheus.NewDesc("interqos_ledger_reservations", "Reservations in the ledger.", []string{"state"}, nil)
	descStore    = prometheus.NewDesc("interqos_store_records", "Reservations in the store.", nil, nil)
	descCommits  = prometheus.NewDesc("interqos_store_commits_total", "Transactions made durable.", nil, nil)
	descWrites   = prometheus.NewDesc("interqos_store_writes_total", "Operations made durable.", nil, nil)
	descUDP      = prometheus.NewDesc("interqos_udp_datagrams_total", "GIST datagrams of the QNE.", []string{"direction"}, nil)
	descRelayed  = prometheus.NewDesc("interqos_edge_queries_total", "Queries relayed by an edge.", []string{"edge", "direction"}, nil)
	descNotes    = prometheus.NewDesc("interqos_notes_total", "What a layer noted: bad input, refusals, failures.", []string{"layer", "kind"}, nil)
	descExpiry   = prometheus.NewDesc("interqos_tls_certificate_expiry_seconds", "When our certificate between domains expires, in seconds since 1970.", nil, nil)
	descReady    = prometheus.NewDesc("interqos_ready", "1 if the node can reserve.", nil, nil)
)

// Describe implements prometheus.Collector: the set of notes is not known
// beforehand, so the collector is an unchecked one.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	n := c.n
	gauge := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if g, q, err := n.softState(ctx); err == nil {
		gauge(descRouting, g.RoutingStates)
		gauge(descMAs, g.Associations)
		gauge(descPending, g.Pending)
		gauge(descSessions, q.Sessions)
	}
	l := n.ledgerCounts()
	gauge(descLedger, l.HeldRate, "held")
	gauge(descLedger, l.CommittedRate, "committed")
	gauge(descReserved, l.Held, "held")
	gauge(descReserved, l.Committed, "committed")
	st := n.store.Stats()
	gauge(descStore, uint64(st.Records))
	count(descCommits, st.Commits)
	count(descWrites, st.Writes)
	us := n.udp.Stats()
	count(descUDP, us.Received, "in")
	count(descUDP, us.Sent, "out")
	for _, e := range n.edges {
		count(descRelayed, e.out.Load(), e.cfg.Name, "out")
		count(descRelayed, e.in.Load(), e.cfg.Name, "in")
		count(descRelayed, e.refused.Load(), e.cfg.Name, "refused")
	}
	n.collectIntercept(count)
	n.counts.each(func(layer, kind string, v uint64) { count(descNotes, v, layer, kind) })
	if c := n.certificate.Load(); c != nil {
		gauge(descExpiry, uint64(max(c.NotAfter.Unix(), 0)))
	}
	ready := uint64(0)
	if n.ready() == nil {
		ready = 1
	}
	gauge(descReady, ready)
}

// serveMetrics serves /metrics, /healthz and /readyz.
func (n *Node) serveMetrics() error {
	if n.cfg.Metrics.Listen.Network == "" {
		return nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{n}, collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", n.healthz)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := n.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	l, err := net.Listen(n.cfg.Metrics.Listen.Network, n.cfg.Metrics.Listen.Address)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	l = netutil.LimitListener(l, maxScrapes)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 1 << 14}
	n.loops.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("metrics", "err", err)
		}
	})
	n.defers(func() { n.logError("metrics", srv.Close()) })
	return nil
}

// healthz says whether every shard's loop turns.
func (n *Node) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	for _, s := range n.shards {
		if err := s.call(ctx, func() {}); err != nil {
			http.Error(w, fmt.Sprintf("shard %d does not answer: %v", s.index, err), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

// serveAdmin serves the admin API.
func (n *Node) serveAdmin() error {
	n.admin = NewAdmin(n.cfg.Admin, n, n.log)
	if err := n.admin.Start(); err != nil {
		return fmt.Errorf("admin API: %w", err)
	}
	n.defers(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		n.admin.Close(ctx)
	})
	return nil
}
