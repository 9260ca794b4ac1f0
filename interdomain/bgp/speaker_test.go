package bgp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// chain starts AS 65002 (transit) and 65003 (sink) as processes and AS 65001 here:
//
//	65001 .1 ──── .2 65002 .3 ──── .4 65003
func chain(t testing.TB) (source *Speaker, transit, sink *child, addr func(byte) netip.Addr) {
	t.Helper()
	addr = loopback()
	sink = startChild(t, Config{
		AS: 65003, RouterID: addr(4), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(4)},
		Neighbors: []Neighbor{neighbor(65002, addr(4), addr(3), true)},
		Originate: prefixes("203.0.113.0/24"),
	})
	transit = startChild(t, Config{
		AS: 65002, RouterID: addr(2), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(2), addr(3)},
		Neighbors: []Neighbor{neighbor(65001, addr(2), addr(1), true), neighbor(65003, addr(3), addr(4), false)},
		Originate: prefixes("198.51.100.0/24"),
	})
	source = start(t, Config{
		AS: 65001, RouterID: addr(1), ListenPort: -1,
		Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)},
		Originate: prefixes("192.0.2.0/24"),
	})
	return source, transit, sink, addr
}

// interdomain-qosm §3: BGP gives the egress, the ingress (the neighbour's
// interface) and the next AS.
func TestThreeASsLearnEachOther(t *testing.T) {
	source, transit, sink, addr := chain(t)
	began := time.Now()
	dst := netip.MustParseAddr("203.0.113.7")
	eventually(t, "the source has a route to the sink", func() bool { _, ok := source.Lookup(dst); return ok })
	back := request{Op: "lookup", Addr: netip.MustParseAddr("192.0.2.7")}
	eventually(t, "the sink has a route to the source", func() bool { return sink.ask(back).Found })
	t.Logf("converged in %s", time.Since(began).Round(10*time.Millisecond))

	r, _ := source.Lookup(dst)
	want := Route{Prefix: netip.MustParsePrefix("203.0.113.0/24"), NextHop: addr(2), ASPath: []uint32{65002, 65003}, NextAS: 65002}
	if r.Prefix != want.Prefix || !r.equal(&want) || r.NextAS != want.NextAS {
		t.Errorf("source → sink: %+v, want %+v", r, want)
	}
	if r, _ := source.Lookup(netip.MustParseAddr("198.51.100.1")); !slices.Equal(r.ASPath, []uint32{65002}) || r.NextHop != addr(2) {
		t.Errorf("source → transit: %+v", r)
	}
	if r, ok := source.Lookup(netip.MustParseAddr("192.0.2.1")); !ok || !r.Local || r.NextAS != 0 || r.NextHop.IsValid() {
		t.Errorf("source → itself: %+v, %v; want a local route", r, ok)
	}
	if r, ok := source.Lookup(netip.MustParseAddr("8.8.8.8")); ok {
		t.Errorf("a route to nowhere: %+v", r)
	}
	// The transit AS sees the sink's border interface as its next hop, not its own.
	if r := transit.ask(request{Op: "lookup", Addr: dst}).Route; r.NextHop != addr(4) || r.NextAS != 65003 {
		t.Errorf("transit → sink: %+v", r)
	}
	if r := sink.ask(back).Route; r.NextHop != addr(3) || !slices.Equal(r.ASPath, []uint32{65002, 65001}) {
		t.Errorf("sink → source: %+v", r)
	}

	var all []string
	source.Routes(func(r Route) bool { all = append(all, r.Prefix.String()); return true })
	if got := strings.Join(all, " "); got != "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24" {
		t.Errorf("routes: %s", got)
	}
	source.Routes(func(Route) bool { all = nil; return false })

	ps := source.Peers()
	if len(ps) != 1 || ps[0].AS != 65002 || ps[0].Address != addr(2) || !ps[0].Established() || ps[0].Uptime <= 0 || ps[0].Received != 2 || ps[0].Advertised != 1 {
		t.Errorf("peers: %+v", ps)
	}
}

// changes gathers what OnChange brings.
type changes struct {
	mu  sync.Mutex
	all []netip.Prefix
}

func (c *changes) add(ps []netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, ps...)
}

// count says how often a prefix was named, and forgets it.
func (c *changes) take(p netip.Prefix) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.all)
	c.all = slices.DeleteFunc(c.all, func(q netip.Prefix) bool { return p == q })
	return n - len(c.all)
}

// interdomain-qosm §3: detection of route changes is BGP's (best path, next hop).
func TestChangesAreTold(t *testing.T) {
	source, _, sink, _ := chain(t)
	var seen changes
	source.OnChange(seen.add)
	wide, narrow := netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("203.0.113.64/26")
	dst := netip.MustParseAddr("203.0.113.70")
	eventually(t, "the sink's prefix is there", func() bool { r, ok := source.Lookup(dst); return ok && r.Prefix == wide })

	// RFC 4271 §9.1.4: the more specific one has precedence.
	sink.ask(request{Op: "originate", Prefix: narrow})
	eventually(t, "the more specific prefix is told", func() bool { return seen.take(narrow) == 1 })
	if r, _ := source.Lookup(dst); r.Prefix != narrow {
		t.Errorf("longest match: %s, want %s", r.Prefix, narrow)
	}
	if r, _ := source.Lookup(netip.MustParseAddr("203.0.113.1")); r.Prefix != wide {
		t.Errorf("outside the more specific one: %s, want %s", r.Prefix, wide)
	}
	sink.ask(request{Op: "withdraw", Prefix: narrow})
	eventually(t, "the withdrawal is told", func() bool { return seen.take(narrow) == 1 })
	if r, _ := source.Lookup(dst); r.Prefix != wide {
		t.Errorf("after the withdrawal: %s, want %s", r.Prefix, wide)
	}
	// What is repeated changes nothing: the marker after it comes, it does not.
	seen.take(wide)
	sink.ask(request{Op: "originate", Prefix: wide})
	sink.ask(request{Op: "originate", Prefix: narrow})
	eventually(t, "the marker is told", func() bool { return seen.take(narrow) == 1 })
	if n := seen.take(wide); n != 0 {
		t.Errorf("a repeated announcement is told as %d changes", n)
	}
}

// RFC 4271 §8.2.2: a lost connection deletes all routes of it.
func TestLostSessionWithdraws(t *testing.T) {
	source, transit, sink, _ := chain(t)
	var seen changes
	source.OnChange(seen.add)
	far, near := netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	eventually(t, "all prefixes are there", func() bool {
		_, a := source.Lookup(far.Addr())
		_, b := source.Lookup(near.Addr())
		return a && b
	})
	seen.take(far)
	sink.crash()
	eventually(t, "the sink's prefix is told as gone", func() bool { return seen.take(far) == 1 })
	if r, ok := source.Lookup(far.Addr()); ok {
		t.Errorf("a route through a dead AS: %+v", r)
	}
	if _, ok := source.Lookup(near.Addr()); !ok {
		t.Error("the transit AS's own prefix went, too")
	}
	seen.take(near)
	transit.stop()
	eventually(t, "the transit AS's prefix is told as gone", func() bool { return seen.take(near) == 1 })
	eventually(t, "the session is down", func() bool { return !established(source) })
	if _, ok := source.Lookup(netip.MustParseAddr("192.0.2.1")); !ok {
		t.Error("the own prefix went with the neighbour's")
	}
	if p := source.Peers()[0]; p.Uptime != 0 || p.Received != 0 {
		t.Errorf("a session that is down: %+v", p)
	}
}

// RFC 6793 and RFC 6996: four-octet private AS numbers pass as they are.
func TestPrivateASNumbers(t *testing.T) {
	addr := loopback()
	const us, them = 4200000001, 4294967294
	startChild(t, Config{
		AS: them, RouterID: addr(2), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(2)},
		Neighbors: []Neighbor{neighbor(us, addr(2), addr(1), true)}, Originate: prefixes("10.2.0.0/16"),
	})
	s := start(t, Config{AS: us, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(them, addr(1), addr(2), false)}})
	eventually(t, "route", func() bool { _, ok := s.Lookup(netip.MustParseAddr("10.2.3.4")); return ok })
	if r, _ := s.Lookup(netip.MustParseAddr("10.2.3.4")); r.NextAS != them || !slices.Equal(r.ASPath, []uint32{them}) {
		t.Errorf("%+v, want next AS %d", r, uint32(them))
	}
}

// RFC 4271 §6.8: when both connect, one connection stays.
func TestBothSidesConnect(t *testing.T) {
	addr := loopback()
	startChild(t, Config{
		AS: 65002, RouterID: addr(2), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(2)},
		Neighbors: []Neighbor{neighbor(65001, addr(2), addr(1), false)}, Originate: prefixes("10.2.0.0/16"),
	})
	began := time.Now()
	s := start(t, Config{
		AS: 65001, RouterID: addr(1), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(1)},
		Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)},
	})
	eventually(t, "route", func() bool { _, ok := s.Lookup(netip.MustParseAddr("10.2.3.4")); return ok })
	t.Logf("up after %s", time.Since(began).Round(10*time.Millisecond))
}

// RFC 2385: both sides have the password, or there is no session.
func TestPassword(t *testing.T) {
	addr := loopback()
	n := neighbor(65001, addr(2), addr(1), true)
	n.Password = "correct horse"
	other := neighbor(65001, addr(2), addr(3), true)
	other.Password = "battery staple"
	c := startChild(t, Config{
		AS: 65002, RouterID: addr(2), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(2)},
		Neighbors: []Neighbor{n, other}, Originate: prefixes("10.2.0.0/16"),
	})
	right, wrong := neighbor(65002, addr(1), addr(2), false), neighbor(65002, addr(3), addr(2), false)
	right.Password, wrong.Password = n.Password, n.Password
	startChild(t, Config{AS: 65001, RouterID: addr(3), ListenPort: -1, Neighbors: []Neighbor{wrong}})
	s := start(t, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{right}})
	eventually(t, "route", func() bool { _, ok := s.Lookup(netip.MustParseAddr("10.2.3.4")); return ok })
	// The one with the wrong password began earlier, and has no session.
	for _, p := range c.ask(request{Op: "peers"}).Peers {
		if p.Established() != (p.Address == addr(1)) {
			t.Errorf("peer %s is %s", p.Address, p.State)
		}
	}
}

func TestLifetime(t *testing.T) {
	addr := loopback()
	cfg := Config{
		AS: 65001, RouterID: addr(1), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(1)},
		Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}, Originate: prefixes("10.1.0.0/16", "2001:db8:1::/48"),
	}
	s, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Originate(netip.MustParsePrefix("10.9.0.0/16")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Originate before Start: %v", err)
	}
	// A callback may use the speaker, also while it is being closed.
	s.OnChange(func([]netip.Prefix) { s.Peers() })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.1.2.3", "2001:db8:1::1", "::ffff:10.1.2.3"} {
		eventually(t, a+" is local", func() bool { r, ok := s.Lookup(netip.MustParseAddr(a)); return ok && r.Local })
	}
	if err := s.Originate(netip.MustParsePrefix("10.1.2.3/16")); err == nil {
		t.Error("a prefix with host bits is accepted")
	}
	if err := s.Start(ctx); err == nil {
		t.Error("started twice")
	}
	// The port is taken: a second speaker says so, and leaves nothing behind.
	other, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(ctx); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("second listener: %v", err)
	}
	other.Close()
	// The end of the context is the speaker's end, too; Close waits for it.
	cancel()
	eventually(t, "closed by its context", func() bool { return s.Originate(netip.MustParsePrefix("10.9.0.0/16")) != nil })
	s.Close()
	s.Close()
	if s.Peers() != nil {
		t.Error("a closed speaker has peers")
	}
	// A new one per lifetime takes over at once.
	again := start(t, cfg)
	eventually(t, "the new one has the prefix", func() bool { _, ok := again.Lookup(netip.MustParseAddr("10.1.2.3")); return ok })
}
