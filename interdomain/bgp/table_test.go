package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes in whatever batches, the table says what a linear search
// over the same routes says, and tells exactly what changed.
func TestTableAgainstLinearSearch(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), 0})
		p, _ := a.Prefix(rapid.IntRange(8, 28).Draw(t, "bits"))
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		tab, model := newTable(), map[netip.Prefix]Route{}
		for range rapid.IntRange(1, 10).Draw(t, "batches") {
			before := maps.Clone(model)
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				p := prefix.Draw(t, "prefix")
				if rapid.Bool().Draw(t, "withdraw") {
					tab.set(p, nil)
					delete(model, p)
					continue
				}
				as := uint32(rapid.IntRange(1, 3).Draw(t, "as"))
				r := Route{Prefix: p, ASPath: []uint32{as}, NextAS: as}
				tab.set(p, &r)
				model[p] = r
			}
			got := tab.apply()
			var want []netip.Prefix
			for p := range union(before, model) {
				a, had := before[p]
				b, has := model[p]
				if had != has || !a.equal(&b) {
					want = append(want, p)
				}
			}
			slices.SortFunc(got, netip.Prefix.Compare)
			slices.SortFunc(want, netip.Prefix.Compare)
			if !slices.Equal(got, want) {
				t.Fatalf("told %v, want %v", got, want)
			}
			for range 20 {
				dst := prefix.Draw(t, "dst").Addr().Next()
				r, ok := tab.lookup(dst)
				best, found := Route{}, false
				for p, m := range model {
					if p.Contains(dst) && (!found || p.Bits() > best.Prefix.Bits()) {
						best, found = m, true
					}
				}
				if ok != found || r.Prefix != best.Prefix || !r.equal(&best) {
					t.Fatalf("%s: %+v %v, want %+v %v", dst, r, ok, best, found)
				}
			}
		}
	})
}

func union(a, b map[netip.Prefix]Route) map[netip.Prefix]Route {
	u := maps.Clone(a)
	maps.Copy(u, b)
	return u
}

// Readers see the whole of a batch or nothing of it.
func TestReadersSeeWholeBatches(t *testing.T) {
	tab := newTable()
	ps := prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24")
	dst := netip.MustParseAddr("10.1.1.1")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if r, ok := tab.lookup(dst); ok && r.Prefix != ps[2] {
				t.Errorf("half a batch: %s", r.Prefix)
				return
			}
		}
	})
	for i := range 500 {
		for _, p := range ps {
			if i%2 == 0 {
				tab.set(p, &Route{Prefix: p})
			} else {
				tab.set(p, nil)
			}
		}
		tab.apply()
	}
	close(stop)
	wg.Wait()
}

func TestMappedAddressIsIPv4(t *testing.T) {
	tab := newTable()
	tab.set(prefixes("192.0.2.0/24")[0], &Route{Prefix: prefixes("192.0.2.0/24")[0]})
	tab.apply()
	if _, ok := tab.lookup(netip.MustParseAddr("::ffff:192.0.2.1")); !ok {
		t.Error("an IPv4 destination in IPv6 form finds no route")
	}
	if _, ok := tab.lookup(netip.Addr{}); ok {
		t.Error("no destination has a route")
	}
}

// A range is as good as the worst best path in it.
func TestEveryBestPath(t *testing.T) {
	tab := newTable()
	for p, as := range map[string]uint32{"10.0.0.0/8": 1, "10.64.0.0/10": 2, "192.0.2.0/25": 1, "192.0.2.128/25": 1, "2001:db8::/32": 1} {
		q := netip.MustParsePrefix(p)
		tab.set(q, &Route{Prefix: q, NextAS: as})
	}
	tab.apply()
	by1 := func(r *Route) bool { return r != nil && r.NextAS == 1 }
	for _, c := range []struct {
		p    string
		want bool
	}{
		{"10.1.2.3/32", true},
		{"10.0.0.0/10", true},
		{"10.64.1.0/24", false},
		{"10.0.0.0/8", false}, // with 10.64.0.0/10
		{"192.0.2.0/24", true},
		{"192.0.0.0/22", false}, // there are gaps
		{"198.51.100.1/32", false},
		{"2001:db8:1::/48", true},
		{"::/0", false},
	} {
		if got, err := tab.every(netip.MustParsePrefix(c.p), by1); err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", c.p, got, err, c.want)
		}
	}
	many := filled(1000)
	if _, err := many.every(netip.MustParsePrefix("20.0.0.0/8"), func(*Route) bool { return true }); err == nil {
		t.Error("a thousand parts were looked at")
	}
}

// filled is a table of n routes, /24 to /8, with paths as they are in the Internet.
func filled(n int) *table {
	tab := newTable()
	hop := netip.MustParseAddr("192.0.2.1")
	p := netip.MustParsePrefix("20.0.0.0/24")
	for i := range n {
		q := p
		if i%16 == 0 {
			q, _ = p.Addr().Prefix(20)
		}
		as := uint32(i%60000 + 1)
		tab.set(q, &Route{Prefix: q, NextHop: hop, ASPath: []uint32{65002, 3356, as}, NextAS: 65002})
		p = nextPrefix(p)
	}
	tab.apply()
	return tab
}

func BenchmarkLookup(b *testing.B) {
	tab := filled(100_000)
	dsts := make([]netip.Addr, 4096)
	for i := range dsts {
		n := uint32(i) * 2654435761
		dsts[i] = netip.AddrFrom4([4]byte{20 + byte(n>>30&1), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tab.lookup(dsts[i&4095])
		i++
	}
}

// One route flaps in a table of 100,000.
func BenchmarkUpdateOne(b *testing.B) {
	tab := filled(100_000)
	p := netip.MustParsePrefix("20.0.7.0/24")
	r := &Route{Prefix: p}
	b.ReportAllocs()
	for b.Loop() {
		tab.set(p, nil)
		tab.apply()
		tab.set(p, r)
		tab.apply()
	}
}

// A whole table arrives.
func BenchmarkUpdateBulk(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		filled(100_000)
	}
	b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "routes/s")
}

// A neighbour in another process originates 20,000 prefixes one by one; measured
// until the last can be looked up here.
func BenchmarkLearn(b *testing.B) {
	const count = 20_000
	addr := loopback()
	c := startChild(b, Config{
		AS: 65002, RouterID: addr(2), ListenPort: testPort, ListenAddresses: []netip.Addr{addr(2)},
		Neighbors: []Neighbor{neighbor(65001, addr(2), addr(1), true)},
	})
	s := start(b, Config{AS: 65001, RouterID: addr(1), ListenPort: -1, Neighbors: []Neighbor{neighbor(65002, addr(1), addr(2), false)}})
	eventually(b, "session", func() bool { return established(s) })
	b.ReportAllocs()
	next := 20
	for b.Loop() {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(next), 0, 0, 0}), 24)
		next++
		c.ask(request{Op: "originate", Prefix: p, Count: count})
		eventually(b, "all routes", func() bool { return s.table.snapshot.Load().Size() >= count*(next-20) })
	}
	b.ReportMetric(count*float64(b.N)/b.Elapsed().Seconds(), "routes/s")
}
