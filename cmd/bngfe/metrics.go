package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/interqos/interqos/dataplane"
	"github.com/interqos/interqos/dataplane/soft"
)

// collector reads the data plane's own counters when asked.
type collector struct {
	plane *soft.Plane
	wire  *soft.Wire
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bngfe_"+name, help, labels, nil)
}

var (
	entriesDesc = desc("entries", "Entries of the forwarding table.", "kind")
	wirePackets = desc("wire_packets_total", "Packets on the network wire's socket: received, sent to an access wire, or not taken by the kernel.", "what")
	wireOctets  = desc("wire_octets_total", "Octets on the network wire's socket.", "what")
	dropPackets = desc("dropped_packets_total", "Packets not forwarded.", "reason")
	dropOctets  = desc("dropped_octets_total", "Octets not forwarded.", "reason")
	subPackets  = desc("subscriber_packets_total", "Packets by the color that the subscriber's policer gave.", "subscriber", "color")
	subOctets   = desc("subscriber_octets_total", "Octets by the color that the subscriber's policer gave.", "subscriber", "color")
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{entriesDesc, wirePackets, wireOctets, dropPackets, dropOctets, subPackets, subOctets} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	subscribers, flows := c.plane.Size()
	ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(subscribers), "subscriber")
	ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(flows), "flow")
	count := func(packets, octets *prometheus.Desc, n dataplane.Count, labels ...string) {
		ch <- prometheus.MustNewConstMetric(packets, prometheus.CounterValue, float64(n.Packets), labels...)
		ch <- prometheus.MustNewConstMetric(octets, prometheus.CounterValue, float64(n.Octets), labels...)
	}
	w := c.wire.Stats()
	count(wirePackets, wireOctets, dataplane.Count{Packets: w.ReceivedPackets, Octets: w.ReceivedOctets}, "received")
	count(wirePackets, wireOctets, dataplane.Count{Packets: w.SentPackets, Octets: w.SentOctets}, "sent")
	count(wirePackets, wireOctets, dataplane.Count{Packets: w.FailedPackets, Octets: w.FailedOctets}, "failed")
	for _, r := range soft.Reasons() {
		count(dropPackets, dropOctets, c.plane.Drops(r), r.String())
	}
	for _, s := range c.plane.Subscribers() {
		count(subPackets, subOctets, s.Counters.Green, s.Name, "green")
		count(subPackets, subOctets, s.Counters.Yellow, s.Name, "yellow")
		count(subPackets, subOctets, s.Counters.Red, s.Name, "red")
	}
}
