package sls

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawPrefix draws from a small world, so that prefixes meet.
func drawPrefix(t *rapid.T, six bool, label string) netip.Prefix {
	bits := rapid.IntRange(0, 5).Draw(t, label+" bits")
	top := byte(rapid.IntRange(0, 31).Draw(t, label)) << 3
	if six {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{top}), bits).Masked()
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{top}), bits).Masked()
}

func drawPrefixes(t *rapid.T, label string) []netip.Prefix {
	most := rapid.SampledFrom([]int{0, 1, 1, 3, manyPrefixes + 8}).Draw(t, label+" at most")
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) netip.Prefix {
		return drawPrefix(t, rapid.Bool().Draw(t, "IPv6"), label)
	}), 0, most, rapid.ID).Draw(t, label)
}

// The index finds what looking at every SLS finds, in the same order, also
// after some have gone. "the most specific scope wins". interdomain-qosm §5
func TestIndexAgainstAll(t *testing.T) {
	interfaces := []netip.Addr{{}, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{})
		narrow := rapid.Bool().Draw(t, "many at one destination")
		for i := range rapid.IntRange(1, 3*manyOffers).Draw(t, "SLSs") {
			s := SLS{
				ID: fmt.Sprintf("s%02d", i), Customer: 1, Provider: uint32(rapid.IntRange(2, 3).Draw(t, "provider")),
				Egress: rapid.SampledFrom(interfaces).Draw(t, "egress"), Sources: drawPrefixes(t, "sources"),
				Degree: Degree(rapid.IntRange(0, 1).Draw(t, "degree")), Status: Status(rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(t, "status")),
				Classes: []ClassSpec{{Class: EF, CIR: 8}, {Class: AF11, Relative: rapid.Bool().Draw(t, "relative"), CIR: 0}},
			}
			if s.Classes[1].CIR = 8; s.Classes[1].Relative {
				s.Classes[1].CIR = 0
			}
			if !narrow {
				s.Destinations = drawPrefixes(t, "destinations")
			}
			if _, err := l.Put(epoch, s, "test"); err != nil {
				t.Fatal(err)
			}
		}
		check := func() {
			six := rapid.Bool().Draw(t, "request IPv6")
			r := Request{
				Customer: 1, Provider: 2, Egress: rapid.SampledFrom(interfaces).Draw(t, "from interface"), Rate: 1,
				Destination: drawPrefix(t, six, "to"), Class: rapid.SampledFrom([]Class{EF, AF11, AF21}).Draw(t, "class"),
				Relative: rapid.Bool().Draw(t, "relative request"),
			}
			if rapid.IntRange(0, 4).Draw(t, "source known") > 0 {
				r.Source = drawPrefix(t, six, "from")
			}
			if rapid.Bool().Draw(t, "a flow") {
				r.Destination = netip.PrefixFrom(r.Destination.Addr(), r.Destination.Addr().BitLen())
				if r.Source.IsValid() {
					r.Source = netip.PrefixFrom(r.Source.Addr(), r.Source.Addr().BitLen())
				}
			}
			var want []candidate
			slow := func(list []netip.Prefix, q netip.Prefix) int16 {
				best := int16(-1)
				for _, p := range list {
					if covers(p, q) {
						best = max(best, int16(p.Bits()))
					}
				}
				if len(list) == 0 {
					return 0
				}
				return best
			}
			for _, id := range l.sorted() {
				e := l.slss[id]
				s := &e.sls
				d, from, o := slow(s.Destinations, r.Destination), slow(s.Sources, r.Source), e.offer(r.Class)
				if s.Provider == 2 && s.Status == Active && (!s.Egress.IsValid() || s.Egress == r.Egress) && d >= 0 && from >= 0 &&
					(s.Degree == PerAggregate || r.Source.IsSingleIP() && r.Destination.IsSingleIP()) && o != nil && o.spec.Relative == r.Relative {
					want = append(want, candidate{o, d, from, interfacesBound(&o.terms)})
				}
			}
			slices.SortFunc(want, compareCandidates)
			if got := l.index.candidates(nil, &r); !slices.Equal(got, want) {
				t.Fatalf("%+v: %d candidates, want %d:\n%+v\n%+v", r, len(got), len(want), got, want)
			}
			for _, id := range l.sorted() {
				e := l.slss[id]
				covering := slices.ContainsFunc(want, func(c candidate) bool { return c.offer.entry == e })
				if why := e.explain(&r); (why == "") != covering {
					t.Fatalf("%s covers %t, explained with %q", id, covering, why)
				}
			}
		}
		check()
		for _, id := range l.sorted() {
			if rapid.Bool().Draw(t, "goes") {
				if err := l.Delete(epoch, id); err != nil {
					t.Fatal(err)
				}
			}
		}
		check()
	})
}

// Explain says which SLS would serve and why each other one would not, without
// being told what the asker does not know. interdomain-qosm §5
func TestExplain(t *testing.T) {
	l := ledgerOf(t, matchText+`---
{id: evening, customer: 1, provider: 3, classes: [{class: EF, cir: 80M}], time_zone: Europe/Berlin, schedule: [{days: [mon..sun], start: "20:00", duration: 2h}]}
---
{id: small, customer: 1, provider: 3, scope: {destinations: [10.3.0.0/16]}, classes: [{class: EF, cir: 8M}]}
`)
	if _, err := l.Hold(epoch, flow(1, "10.1.0.1", "10.3.0.1")); err != nil { // of 80M on ten-three-from
		t.Fatal(err)
	}
	q := Question{
		Source: netip.MustParsePrefix("10.1.0.9/32"), Destination: netip.MustParsePrefix("10.3.1.1/32"), Class: EF,
		Rate: OctetsUp(76_000_000),
	}
	a, err := l.Explain(epoch, q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range slices.Concat(a.Covering, a.Others) {
		got = append(got, fmt.Sprintf("%s %t %s %s", f.SLS, f.Fits, f.Why, f.Earliest.Format(time.RFC3339)))
	}
	const never = " 0001-01-01T00:00:00Z"
	want := []string{ // epoch is 13:00 in Berlin
		"ten-three-bound false ten-three-bound: of 10000000 octets/s of EF, 9000000 can still be had at that time" + never,
		"ten-three-from true " + never,
		"elsewhere true " + never,
		"small false small: 9500000 octets/s is more than its largest flow, 1000000" + never,
		"ten-three true " + never,
		"ten true " + never,
		"backwards true " + never,
		"evening false evening: is not available throughout the time asked for 2027-03-01T19:00:00Z",
		"wide true " + never,
		"asleep false asleep: is offered, not active" + never,
		"relative false relative: sells AF11, not EF" + never,
		"six-aggregate false six-aggregate: covers destinations 2001:db8:3::/48, not 10.3.1.1/32" + never,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := a.Best(q.Rate); got != 1 {
		t.Errorf("best is %d, want 1, which has all of it", got)
	}

	// Less of what is known: fewer fit. At another time: others do.
	q.Customer, q.Provider, q.Limit = 1, 3, 2
	q.Intervals = []Interval{{From: epoch.Add(7 * time.Hour), Until: epoch.Add(8 * time.Hour)}}
	q.MinRate = 1
	if a, err = l.Explain(epoch, q); err != nil {
		t.Fatal(err)
	}
	if len(a.Covering) != 2 || !a.Covering[0].Fits || a.Covering[0].Rate != 1_000_000 || !a.Covering[1].Fits || a.Best(q.Rate) != 1 {
		t.Errorf("%+v; want small with less and evening with all of it", a.Covering)
	}
	if len(a.Others) != 2 || a.More != 8 || a.Others[0].Why != "asleep: is from AS1 to AS2, not from AS1 to AS3" {
		t.Errorf("%+v, %d more; want two others by id and 8 more", a.Others, a.More)
	}
	q.Source = netip.Prefix{} // any: a flow from somewhere
	if a, err = l.Explain(epoch, q); err != nil || a.Best(q.Rate) != 1 {
		t.Errorf("from anywhere: %+v, %v", a, err)
	}
	q.Destination = netip.Prefix{}
	if _, err := l.Explain(epoch, q); !errors.Is(err, ErrRequest) {
		t.Errorf("to nowhere: %v, want ErrRequest", err)
	}
}

// BenchmarkMatchLarge matches among 100,000 SLSs with 1,000,000 prefixes, all
// between the same two peers: ten destinations each; or for any destination,
// with ten sources each.
func BenchmarkMatchLarge(b *testing.B) {
	for _, kind := range []string{"destinations", "sources"} {
		b.Run(kind, func(b *testing.B) {
			var list []SLS
			for i := range 100_000 {
				s := SLS{ID: fmt.Sprintf("s%d", i), Customer: 1, Provider: 2, Classes: []ClassSpec{{Class: EF, CIR: 1e9}}}
				var prefixes []netip.Prefix
				for k := range 10 {
					n := i*10 + k // 1,000,000 /28 in 10.0.0.0/8
					prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 12), byte(n >> 4), byte(n << 4)}), 28))
				}
				if s.Destinations = prefixes; kind == "sources" {
					s.Sources, s.Destinations = prefixes, nil
				}
				list = append(list, s)
			}
			l := New(Config{})
			if err := l.LoadSLS(list); err != nil {
				b.Fatal(err)
			}
			var requests []Request
			for i := range 1024 {
				n := i * 7919 % 1_000_000
				in := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 12), byte(n >> 4), byte(n<<4) | 5}), 32)
				r := flow(1, "192.0.2.1", "192.0.2.2")
				if r.Destination = in; kind == "sources" {
					r.Source, r.Destination = in, r.Source
				}
				if err := l.normalize(&r); err != nil {
					b.Fatal(err)
				}
				requests = append(requests, r)
			}
			b.ReportAllocs()
			cpu := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				if o, _ := l.choose(&requests[i%len(requests)], nil); o == nil {
					b.Fatal("no match")
				}
			}
			cpu.report()
		})
	}
}

// processorTime is what a loop has used of the processor: what a machine that is
// busy with other things would have needed without them.
type processorTime struct {
	b    *testing.B
	from time.Duration
}

func cpuTime(b *testing.B) processorTime { return processorTime{b, usedTime(b)} }

func (p processorTime) report() {
	p.b.ReportMetric(float64(usedTime(p.b)-p.from)/float64(p.b.N), "cpu-ns/op")
}

func usedTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
