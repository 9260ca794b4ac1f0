package soft

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/interqos/interqos/dataplane"
)

// pmap agrees with a map, and what a change makes does not show in older maps.
func TestPersistentMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var m pmap[uint32, int]
	model := map[uint32]int{}
	type version struct {
		m     pmap[uint32, int]
		model map[uint32]int
	}
	var old []version
	own := new(owner)
	check := func(m pmap[uint32, int], model map[uint32]int) {
		t.Helper()
		if m.size != len(model) {
			t.Fatalf("size %d, want %d", m.size, len(model))
		}
		n := 0
		for k, v := range m.all() {
			n++
			if model[k] != v {
				t.Fatalf("%d: %d, want %d", k, v, model[k])
			}
		}
		for k, v := range model {
			if got, ok := m.get(k); !ok || got != v {
				t.Fatalf("%d: %d %v, want %d", k, got, ok, v)
			}
		}
		if n != len(model) {
			t.Fatalf("%d entries, want %d", n, len(model))
		}
	}
	for step := range 20000 {
		if step%1000 == 0 {
			copied := make(map[uint32]int, len(model))
			for k, v := range model {
				copied[k] = v
			}
			old = append(old, version{m, copied})
			own = new(owner)
		}
		k := rng.Uint32N(3000)
		if rng.IntN(5) < 2 {
			m = m.del(own, k)
			delete(model, k)
		} else {
			m = m.set(own, k, step)
			model[k] = step
		}
	}
	check(m, model)
	for _, v := range old {
		check(v.m, v.model)
	}
	for k := range model {
		m = m.del(own, k)
	}
	if m.size != 0 || m.root != nil {
		t.Errorf("%d entries after all were deleted", m.size)
	}
}

// Keys whose hashes are the same, or share all but the last bits, are still
// different keys.
func TestPersistentMapCollisions(t *testing.T) {
	own := new(owner)
	for _, other := range []uint64{7, 7 | 1<<63, 7 | 1<<59} {
		var root *pnode[string, int]
		root, _ = root.set(own, pleaf[string, int]{7, "a", 1}, 0)
		root, _ = root.set(own, pleaf[string, int]{other, "b", 2}, 0)
		root, grew := root.set(own, pleaf[string, int]{other, "b", 3}, 0)
		m := pmap[string, int]{root: root, size: 2}
		a, okA := m.find(7, "a")
		b, okB := m.find(other, "b")
		_, okC := m.find(other, "c")
		if grew || a != 1 || b != 3 || !okA || !okB || okC {
			t.Errorf("other hash %x: a %d %v, b %d %v, c %v", other, a, okA, b, okB, okC)
		}
		root = root.del(own, 7, "a", 0)
		m.root = root
		if _, ok := m.find(7, "a"); ok {
			t.Errorf("other hash %x: a is there after deletion", other)
		}
		if b, ok := m.find(other, "b"); !ok || b != 3 {
			t.Errorf("other hash %x: b %d %v after the deletion of a", other, b, ok)
		}
		if root = root.del(own, other, "b", 0); root != nil {
			t.Errorf("other hash %x: not empty", other)
		}
	}
}

func benchPlane(b *testing.B, flows int) *rig {
	r := newRig(b)
	s := subscriber1()
	s.Policer = dataplane.Policer{CIR: dataplane.MaxRate, CBS: dataplane.MaxBurst, PIR: dataplane.MaxRate, PBS: dataplane.MaxBurst}
	s.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}})
	var u dataplane.Update
	for n := range flows {
		f := flow1()
		binary.BigEndian.PutUint64(f.ID[:], uint64(n)+100)
		f.Matches = []dataplane.Match{{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 3, byte(n >> 8), byte(n)}), 32),
			HasProtocol: true, Protocol: protoUDP, HasDestinationPort: true, DestinationPort: uint16(5000 + n>>16)}}
		u.PutFlows = append(u.PutFlows, f)
	}
	r.must(u)
	return r
}

func BenchmarkProcess(b *testing.B) {
	for _, flows := range []int{0, 1, 10000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			r := benchPlane(b, flows)
			packets := make([][]byte, 1024)
			for n := range packets {
				at := n * 61 % max(flows, 1)
				packets[n] = ip("10.1.0.10", netip.AddrFrom4([4]byte{10, 3, byte(at >> 8), byte(at)}).String(), 4000, 5000, 0, 1400)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				r.Process(int64(n)*1000, packets[n%len(packets)])
			}
		})
	}
}

// What a change of one flow costs beside many others.
func BenchmarkChange(b *testing.B) {
	for _, flows := range []int{1, 10000} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			r := benchPlane(b, flows)
			f := flow1()
			f.Matches[0].Destination = netip.MustParsePrefix("10.3.255.255/32")
			b.ReportAllocs()
			for b.Loop() {
				r.must(dataplane.Update{PutFlows: []dataplane.Flow{f}})
				r.must(dataplane.Update{DeleteFlows: []dataplane.ID{f.ID}})
			}
		})
	}
}
