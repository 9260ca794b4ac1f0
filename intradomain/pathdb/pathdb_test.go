package pathdb

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/strictyaml"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/intradomain/controllertest"
)

const topology = `
nodes: [edge-b, core1, core2, bng]
links:
  - {a: edge-b, b: core1, capacity: 1G, cost: 10}
  - {a: core1, b: bng, capacity: 800M, cost: 10, classes: {46: 400M}}
  - {a: edge-b, b: core2, capacity: 10G, cost: 15}
  - {a: core2, b: bng, capacity: 10G, cost: 15}
attachments:
  - {at: edge-b, address: 192.0.2.6}
  - {at: bng, address: 10.3.0.0/16}
  - {at: core2, address: "2001:db8:3::/48"}
`

func read(t testing.TB, text string) (Config, error) {
	t.Helper()
	r := &strictyaml.Reader{File: "as3.yaml"}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	c := Read(r.Part(doc.Content[0], "intradomain[0].pathdb"))
	return c, r.Err()
}

func open(t testing.TB) *DB {
	t.Helper()
	c, err := read(t, topology)
	if err != nil {
		t.Fatal(err)
	}
	db, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func request(n int, class uint8, cir uint64) intradomain.Request {
	r := intradomain.Request{Version: 1, Ingress: netip.MustParseAddr("192.0.2.6"),
		Flow: wire.Flow{Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.MustParsePrefix("10.3.0.10/32"),
			HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: uint16(n)},
		QoS: intradomain.QoS{Class: class, CIR: cir}}
	binary.BigEndian.PutUint64(r.ID[:], uint64(n)+1)
	return r
}

// interdomain-qosm §8: "Idempotent by reservation id and version, so that a repeat
// after a crash is harmless", and the rest of the contract.
func TestConformance(t *testing.T) {
	controllertest.Run(t, controllertest.Fixture{
		New:      func(t *testing.T) intradomain.Controller { return open(t) },
		Request:  func(n int) intradomain.Request { return request(n, 10, 0) },
		Capacity: 100e6,
	})
}

func TestShortestPath(t *testing.T) {
	db := open(t)
	flow := request(1, 0, 0).Flow
	got, err := db.Path(netip.MustParseAddr("192.0.2.6"), netip.Addr{}, flow)
	if want := []string{"edge-b", "core1", "bng"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	// Of two paths of the same cost that with fewer links; of those the first.
	c := Config{Nodes: []string{"a", "b", "c", "d", "e"}, Links: []LinkConfig{
		{A: "a", B: "b", Capacity: 1, Cost: 1}, {A: "b", B: "c", Capacity: 1, Cost: 1}, {A: "c", B: "d", Capacity: 1, Cost: 1},
		{A: "a", B: "e", Capacity: 1, Cost: 1}, {A: "e", B: "d", Capacity: 1, Cost: 2}},
		Attachments: []AttachmentConfig{{"a", netip.MustParsePrefix("10.0.0.1/32")}, {"d", netip.MustParsePrefix("10.0.0.2/32")}}}
	for range 20 {
		db, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := db.Path(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), wire.Flow{})
		if want := []string{"a", "e", "d"}; err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
	}
}

// A request is admitted on all links of its path at once, and says where it was
// refused.
func TestRefusalSaysWhere(t *testing.T) {
	db := open(t)
	refused := func(r intradomain.Request, where string, offer uint64) {
		t.Helper()
		var refusal *intradomain.Refusal
		if err := db.hold(r); !errors.As(err, &refusal) || refusal.Where != where || refusal.Offer != offer {
			t.Errorf("%v (%+v), expected %s to offer %d", err, refusal, where, offer)
		}
	}
	refused(request(1, 46, 51e6), "link core1-bng class 46", 50e6)
	refused(request(1, 10, 101e6), "link core1-bng", 100e6)
	// What one class leaves of a link, another may take.
	if err := db.hold(request(1, 46, 50e6)); err != nil {
		t.Error(err)
	}
	if err := db.hold(request(2, 10, 50e6)); err != nil {
		t.Error(err)
	}
	refused(request(3, 10, 1), "link core1-bng", 0)
	outside := request(4, 10, 1)
	outside.Flow.Destination = netip.MustParsePrefix("10.4.0.1/32")
	refused(outside, "egress", 0)
	outside.Ingress = netip.MustParseAddr("192.0.2.7")
	refused(outside, "ingress", 0)
	// Each direction has the link's capacity to itself.
	back := request(5, 10, 100e6)
	back.Ingress, back.Egress = netip.Addr{}, netip.MustParseAddr("192.0.2.6")
	back.Flow.Source, back.Flow.Destination = back.Flow.Destination, back.Flow.Source
	if err := db.hold(back); err != nil {
		t.Error(err)
	}
	for _, use := range db.Links() {
		want := map[string]uint64{"link core1-bng": 100e6, "link edge-b-core1": 100e6, "link core1-bng class 46": 50e6,
			"link bng-core1": 100e6, "link core1-edge-b": 100e6}[use.Where]
		if use.Booked != want {
			t.Errorf("%+v, want %d", use, want)
		}
	}
}

func TestInsideOneNodeTakesNoLink(t *testing.T) {
	db := open(t)
	r := request(1, 46, 1e12)
	r.Ingress = netip.Addr{}
	r.Flow.Source = netip.MustParsePrefix("10.3.9.9/32")
	if err := db.hold(r); err != nil {
		t.Error(err)
	}
}

// Capacity is a calendar: bookings meet only where they overlap.
func TestBookingsOverTime(t *testing.T) {
	db := open(t)
	hour := func(h int) time.Time { return time.Date(2030, 1, 1, h, 0, 0, 0, time.UTC) }
	hold := func(n int, cir uint64, from, until time.Time) error {
		r := request(n, 10, cir)
		r.Times = []intradomain.Interval{{From: from, Until: until}}
		return db.hold(r)
	}
	for i, one := range []struct {
		cir         uint64
		from, until time.Time
		ok          bool
	}{
		{60e6, hour(1), hour(3), true},
		{60e6, hour(3), hour(5), true}, // begins when the first ends
		{60e6, hour(2), hour(4), false},
		{40e6, hour(2), hour(4), true},
		{1, hour(2), hour(3), false},
		{60e6, time.Time{}, hour(1), true},
		{1, time.Time{}, time.Time{}, false}, // from now on, for good: meets 2 to 4
		{100e6, hour(5), time.Time{}, true},
		{1, hour(30), hour(31), false},
	} {
		if err := hold(i, one.cir, one.from, one.until); (err == nil) != one.ok {
			t.Errorf("booking %d, %+v: %v", i, one, err)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"not a mapping": {"[1]", `as3.yaml:1:1: intradomain[0].pathdb: found a list, expected a mapping with nodes, links and attachments`},
		"unknown key":   {"nodes: [a]\nlink: []", `as3.yaml:2:1: intradomain[0].pathdb.link: found an unknown key, expected one of nodes, links, attachments (did you mean links?)`},
		"no nodes":      {"links: []", `as3.yaml:1:1: intradomain[0].pathdb.nodes: found nothing, expected a list of names`},
		"node twice":    {"nodes: [a, a]", `as3.yaml:1:12: intradomain[0].pathdb.nodes[1]: found "a" again, expected each node once`},
		"unknown node": {"nodes: [a]\nlinks:\n- {a: a, b: z, capacity: 1G}",
			`as3.yaml:3:13: intradomain[0].pathdb.links[0].b: found "z", expected one of nodes`},
		"loop": {"nodes: [a]\nlinks:\n- {a: a, b: a, capacity: 1G}",
			`as3.yaml:3:13: intradomain[0].pathdb.links[0].b: found "a", expected another node than a`},
		"rate": {"nodes: [a, b]\nlinks:\n- {a: a, b: b, capacity: fast}",
			`as3.yaml:3:26: intradomain[0].pathdb.links[0].capacity: found "fast", expected the capacity in each direction, a rate in bit/s above 0, e.g. 64k, 20M, 1.5G ("fast" is not a number)`},
		"class above link": {"nodes: [a, b]\nlinks:\n- {a: a, b: b, capacity: 8M, classes: {46: 80M}}",
			`as3.yaml:3:44: intradomain[0].pathdb.links[0].classes.46: found 10000000 octets/s, expected at most the link's 1000000`},
		"class": {"nodes: [a, b]\nlinks:\n- {a: a, b: b, capacity: 8M, classes: {EF: 8M}}",
			`as3.yaml:3:40: intradomain[0].pathdb.links[0].classes.EF: found "EF", expected a DSCP, a whole number from 0 to 63`},
		"prefix": {"nodes: [a]\nattachments: [{at: a, address: 10.3.0.1/16}]",
			`as3.yaml:2:32: intradomain[0].pathdb.attachments[0].address: found "10.3.0.1/16", expected what is found there, an address, or a prefix such as 10.3.0.0/16 (it has host bits: did you mean 10.3.0.0/16?)`},
		"class twice": {"nodes: [a, b]\nlinks:\n- {a: a, b: b, capacity: 8M, classes: {8: 8M, 08: 8M}}",
			`as3.yaml:3:47: intradomain[0].pathdb.links[0].classes.08: found "08", expected each DSCP once`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got\n%v\nwant\n%s", err, test.want)
			}
		})
	}
	bad := Config{Nodes: []string{"a"}, Links: []LinkConfig{{A: "a", B: "b", Capacity: 1}}}
	if _, err := New(bad); err == nil || !strings.Contains(err.Error(), `links[0].b: found "b", expected one of nodes`) {
		t.Errorf("New: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(topology))
	f.Add([]byte("nodes: [a]\nlinks: {}"))
	f.Add([]byte("nodes: &x [a, *x]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &strictyaml.Reader{File: "fuzz"}
		c := Read(r.Document(b, "a topology"))
		if r.Err() == nil {
			if _, err := New(c); err != nil {
				t.Errorf("read without error, and then %v", err)
			}
		}
	})
}

func BenchmarkHold(b *testing.B) {
	db := open(b)
	done := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	r := request(1, 10, 1)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		binary.BigEndian.PutUint64(r.ID[:], uint64(n)+1)
		db.Hold(r, done)
		db.Commit(r.ID, r.Version, 0, done)
		db.Release(r.ID, done)
	}
}
