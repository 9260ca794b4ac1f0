package pathdb

import (
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/internal/strictyaml"
	"github.com/interqos/interqos/internal/units"
)

// Config is a topology. Rates are octets per second here, bit/s in the file:
//
//	nodes: [edge-b, core, bng]
//	links:
//	  - {a: edge-b, b: core, capacity: 1G, cost: 10}
//	  - {a: core, b: bng, capacity: 1G, classes: {46: 300M}}
//	attachments:
//	  - {at: edge-b, address: 192.0.2.6}      # a border interface
//	  - {at: bng, address: 10.3.0.0/16}       # addresses inside
type Config struct {
	Nodes       []string
	Links       []LinkConfig
	Attachments []AttachmentConfig
}

// LinkConfig is a link between two nodes, with the capacity in each direction.
type LinkConfig struct {
	A, B     string
	Capacity uint64
	Cost     uint64 // default 1
	// Classes limits what reservations of a class (by DSCP) may take of the
	// capacity.
	Classes map[uint8]uint64
}

// AttachmentConfig says at which node an address or prefix is found.
type AttachmentConfig struct {
	At      string
	Address netip.Prefix
}

// maxCost keeps sums of costs from overflowing.
const maxCost = 1 << 32

// Read reads a Config from its part of a file. What is wrong is noted in the
// part's Reader.
func Read(v strictyaml.Value) Config {
	var c Config
	o := v.Object("a mapping with nodes, links and attachments", "nodes", "links", "attachments")
	for _, n := range o.Need("nodes").List("a list of names") {
		c.Nodes = append(c.Nodes, n.Text("the name of a node", ""))
	}
	for _, l := range o.Get("links").List("a list of links") {
		c.Links = append(c.Links, readLink(l))
	}
	for _, a := range o.Get("attachments").List("a list of attachments") {
		a := a.Object("a mapping with at and address", "at", "address")
		c.Attachments = append(c.Attachments, AttachmentConfig{
			At: a.Need("at").Text("the name of a node", ""), Address: a.Need("address").PrefixOrAddress("what is found there"),
		})
	}
	c.problems(v)
	return c
}

func readLink(v strictyaml.Value) LinkConfig {
	o := v.Object("a mapping with at least a, b and capacity", "a", "b", "capacity", "cost", "classes")
	return LinkConfig{
		A: o.Need("a").Text("the name of a node", ""), B: o.Need("b").Text("the name of a node", ""),
		Capacity: units.Octets(o.Need("capacity").Rate("the capacity in each direction", 1)),
		Cost:     uint64(o.Get("cost").Number("the link's cost", 1, maxCost, 1)),
		Classes:  readClasses(o.Get("classes")),
	}
}

func readClasses(v strictyaml.Value) map[uint8]uint64 {
	if !v.There() {
		return nil
	}
	classes := map[uint8]uint64{}
	for _, e := range v.Entries("a mapping of DSCPs to rates") {
		dscp := e.Key.Number("a DSCP", 0, 63, -1)
		if _, again := classes[uint8(dscp)]; again {
			e.Key.Bad("each DSCP once", "")
		}
		if dscp >= 0 {
			classes[uint8(dscp)] = units.Octets(e.Value.Rate("what reservations of the class may take", 1))
		}
	}
	return classes
}

// Validate says what is wrong with a Config that was not read from a file.
func (c *Config) Validate() error {
	r := strictyaml.Reader{File: "pathdb"}
	c.problems(r.Part(nil, ""))
	return r.Err()
}

// problems notes what is wrong with a Config; v is where it is from.
func (c *Config) problems(v strictyaml.Value) {
	note := func(path, found, expected string) { v.At(path).Wrong(found, expected, "") }
	nodes := map[string]bool{}
	for i, name := range c.Nodes {
		if nodes[name] {
			note(fmt.Sprintf("nodes[%d]", i), fmt.Sprintf("%q again", name), "each node once")
		}
		nodes[name] = true
	}
	known := func(path, name string) {
		if !nodes[name] && name != "" {
			note(path, fmt.Sprintf("%q", name), "one of nodes")
		}
	}
	for i, l := range c.Links {
		at := fmt.Sprintf("links[%d]", i)
		known(at+".a", l.A)
		known(at+".b", l.B)
		if l.A == l.B && l.A != "" {
			note(at+".b", fmt.Sprintf("%q", l.B), "another node than a")
		}
		if l.Cost > maxCost {
			note(at+".cost", fmt.Sprint(l.Cost), fmt.Sprintf("at most %d", maxCost))
		}
		for dscp, rate := range l.Classes {
			if rate > l.Capacity {
				note(fmt.Sprintf("%s.classes.%d", at, dscp), fmt.Sprintf("%d octets/s", rate), fmt.Sprintf("at most the link's %d", l.Capacity))
			}
		}
	}
	seen := map[netip.Prefix]bool{}
	for i, a := range c.Attachments {
		at := fmt.Sprintf("attachments[%d]", i)
		known(at+".at", a.At)
		if seen[a.Address] {
			note(at+".address", fmt.Sprintf("%v again", a.Address), "each address once")
		}
		seen[a.Address] = true
	}
}
