package node

import (
	"fmt"
	"math"

	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/internal/strictyaml"
)

// InterceptConfig says how Queries in transit are intercepted. Zero values mean
// the transport's defaults.
type InterceptConfig struct {
	Method            transport.InterceptMethod
	IPv4, IPv6        bool // neither: what the host has
	Table             string
	Mark, ForwardMark uint32
	RouteTable        int
	RulePriority      int
	Rate, Burst       int // packets per second, packets
}

// intercept reads gist.intercept.
func (p *configParser) intercept(o strictyaml.Value) *InterceptConfig {
	if !o.There() {
		return nil
	}
	c := &InterceptConfig{}
	m := o.Object("a mapping, {} for the defaults", "method", "ip_version", "table", "mark", "forward_mark",
		"route_table", "rule_priority", "rate", "burst")
	c.Method = transport.InterceptMethod(m.Get("method").Word(string(transport.InterceptNFTables), string(transport.InterceptNFTables), string(transport.InterceptRaw)))
	version := m.Get("ip_version")
	switch version.Word("all", "all", "4", "6") {
	case "4":
		c.IPv4 = true
	case "6":
		c.IPv6 = true
		if c.Method == transport.InterceptRaw {
			version.Wrong("6", "4 with the raw method", "it takes IPv4 packets only")
		}
	}
	if table := m.Get("table"); table.There() {
		c.Table = p.name(table, "the name of an nftables table for this process alone")
	}
	mark, forward := m.Get("mark"), m.Get("forward_mark")
	c.Mark = uint32(mark.Number("a packet mark", 1, math.MaxUint32, transport.DefaultMark))
	c.ForwardMark = uint32(forward.Number("a packet mark", 1, math.MaxUint32, transport.DefaultForwardMark))
	if c.Mark == c.ForwardMark {
		where := forward
		if !where.There() {
			where = mark
		}
		where.Wrong(fmt.Sprint(c.Mark), "marks that differ", "forward_mark keeps what is forwarded from being intercepted again")
	}
	c.RouteTable = int(m.Get("route_table").Number("the number of a route table for this process alone", 1, math.MaxInt32, 0))
	c.RulePriority = int(m.Get("rule_priority").Number("the priority of an ip rule", 1, 32765, 0))
	c.Rate = int(m.Get("rate").Number("packets per second", 1, 1e8, 0))
	c.Burst = int(m.Get("burst").Number("packets at once", 1, 1e8, 0))
	return c
}
