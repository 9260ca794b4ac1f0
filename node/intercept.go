package node

import (
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
)

// Interception of Queries that follow a flow's path through this host
// (RFC 5971 §4.3.1), where gist.intercept says so.

// layerIntercept is the layer of its notes.
const layerIntercept = "intercept"

var descIntercept = prometheus.NewDesc("interqos_intercept_packets_total",
	"Packets in transit: taken by GIST, forwarded by GIST, passed on as no GIST Query, or dropped.", []string{"outcome"}, nil)

func (n *Node) openIntercept() error {
	c := n.cfg.GIST.Intercept
	if c == nil {
		return nil
	}
	i, err := transport.ListenIntercept(transport.InterceptConfig{
		Method: c.Method, Port: n.cfg.GIST.Port, IPv4: c.IPv4, IPv6: c.IPv6,
		Table: c.Table, Mark: c.Mark, ForwardMark: c.ForwardMark, RouteTable: c.RouteTable, RulePriority: c.RulePriority,
		Rate: c.Rate, Burst: c.Burst,
		Handler: n.whenOpen(n.fromStrangers),
		OnError: func(local netip.AddrPort, err error) {
			n.note(layerIntercept, "failed", wire.SID{}, local, err.Error())
		},
	})
	if err != nil {
		return err
	}
	n.intercept = i
	n.defers(func() { n.logError("interception", i.Close()) })
	n.log.Info("Queries in transit are intercepted", "method", i.Method(), "ip", i.Versions(), "port", n.cfg.GIST.Port)
	return nil
}

// forwardDatagram sends an intercepted packet on. GIST hears of one that is too
// large, for its sender to be told.
func (s *shard) forwardDatagram(now time.Time, f gist.ForwardDatagram) {
	d := &f.Datagram
	s.node.record(traceEntry{at: now, from: d.From, to: d.Local, payload: d.Payload})
	err := s.node.intercept.Forward(f)
	var tooLarge *transport.TooLargeError
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		s.inbox.put(gist.NotForwarded{Datagram: *d, MTU: tooLarge.MTU})
	default:
		s.node.note(layerIntercept, "not-forwarded", wire.SID{}, d.From, err.Error())
	}
}

// collectIntercept tells Prometheus of the packets in transit.
func (n *Node) collectIntercept(count func(d *prometheus.Desc, v uint64, labels ...string)) {
	if n.intercept == nil {
		return
	}
	st, err := n.intercept.Stats()
	if err != nil { // the table was removed under us
		n.note(layerIntercept, "rules-gone", wire.SID{}, netip.AddrPort{}, err.Error())
	}
	for outcome, v := range map[string]uint64{
		"taken": st.Taken, "forwarded": st.Forwarded, "passed": st.Passed, "not-forwarded": st.Failed,
		"rate-limited": st.Limited, "too-long": st.TooLong, "stranger": st.Strangers,
	} {
		count(descIntercept, v, outcome)
	}
}
