package gist

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// wired is two machines whose actions are handed across by a loop: no network.
type wired struct {
	m     [2]*Machine
	now   time.Time
	todo  []wiredEvent
	conn  map[[2]uint64][2]uint64 // (machine, connection) to the other end
	got   [2]int
	other func(from int, a Action)
}

type wiredEvent struct {
	to int
	ev Event
}

func newWired(tb testing.TB, change ...func(*Config)) *wired {
	tb.Helper()
	w := &wired{now: testStart, conn: map[[2]uint64][2]uint64{}}
	addrs := [2]netip.Addr{q1Addr, q2Addr}
	for i := range 2 {
		peer := addrs[1-i]
		cfg := Config{
			Identity: []byte{'m', byte('0' + i)}, Address: addrs[i], Port: testPort, TCPPort: tcpPort,
			NSLPIDs: []wire.NSLPID{testNSLP}, Rand: testRand(uint64(i)), Insecure: true,
			DirectPeers: []netip.Addr{peer},
			Route: func(wire.MRI) (QueryRoute, error) {
				return QueryRoute{To: netip.AddrPortFrom(peer, testPort), Direct: true}, nil
			},
		}
		for _, f := range change {
			f(&cfg)
		}
		m, err := New(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		w.m[i] = m
	}
	return w
}

func (w *wired) do(to int, ev Event) {
	w.todo = append(w.todo, wiredEvent{to, ev})
	for i := 0; i < len(w.todo); i++ {
		e := w.todo[i]
		for _, a := range w.m[e.to].Handle(w.now, e.ev) {
			w.act(e.to, a)
		}
	}
	clear(w.todo)
	w.todo = w.todo[:0]
}

func (w *wired) act(from int, a Action) {
	switch a := a.(type) {
	case SendDatagram:
		w.todo = append(w.todo, wiredEvent{1 - from, &Datagram{Local: a.To, From: netip.AddrPortFrom(a.Local, testPort), TTL: 255, Payload: a.Payload}})
	case *SendConn:
		end := w.conn[[2]uint64{uint64(from), uint64(a.Conn)}]
		w.todo = append(w.todo, wiredEvent{int(end[0]), &ConnMessage{Conn: ConnID(end[1]), Payload: slices.Clone(a.Payload)}})
	case Connect:
		there := uint64(1000 + 2*len(w.conn))
		w.conn[[2]uint64{uint64(from), uint64(a.Conn)}] = [2]uint64{uint64(1 - from), there}
		w.conn[[2]uint64{uint64(1 - from), there}] = [2]uint64{uint64(from), uint64(a.Conn)}
		w.todo = append(w.todo, wiredEvent{1 - from, ConnAccepted{Conn: ConnID(there), Remote: netip.AddrPortFrom(a.Local, 9)}},
			wiredEvent{from, ConnUp{Conn: a.Conn}})
	case *RecvMessage:
		w.got[from]++
	}
	if w.other != nil {
		w.other(from, a)
	}
}

// A full handshake (Query, Response, Confirm) with the association up, and the
// Data that asked for it; both sides together.
func BenchmarkHandshake(b *testing.B) {
	w := newWired(b, func(c *Config) { c.Limits.QueryRate, c.Limits.DModeRate = 1e9, 1e9 })
	data := make([]byte, 300)
	send := &SendMessage{NSLPData: data, NSLPID: testNSLP, MRI: hop12, Attr: TransferAttributes{Reliable: true}}
	send.SID = testSID(0)
	w.do(0, send)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		send.SID = testSID(i)
		w.now = w.now.Add(20 * time.Microsecond)
		w.do(0, send)
		if i > 20_000 { // state does not grow without end
			w.do(0, SetStateLifetime{NSLPID: testNSLP, SID: testSID(i - 20_000), MRI: hop12})
			w.do(1, SetStateLifetime{NSLPID: testNSLP, SID: testSID(i - 20_000), MRI: hop12.Reverse()})
		}
	}
	if w.got[1] != i+1 {
		b.Fatalf("%d of %d messages arrived", w.got[1], i+1)
	}
}

// One Data message over an association, both sides together.
func BenchmarkData(b *testing.B) {
	w := newWired(b)
	send := &SendMessage{NSLPData: make([]byte, 300), NSLPID: testNSLP, SID: testSID(1), MRI: hop12, Attr: TransferAttributes{Reliable: true}}
	w.do(0, send)
	b.ReportAllocs()
	for b.Loop() {
		w.do(0, send)
	}
	if w.got[0] != 0 || w.got[1] < b.N {
		b.Fatalf("%d of %d messages arrived", w.got[1], b.N)
	}
}

// Data there and back: the four passes of a machine that an echo takes, on both
// sides together, with nothing carried in between.
func BenchmarkDataEcho(b *testing.B) {
	w := newWired(b)
	send := &SendMessage{NSLPData: make([]byte, 220), NSLPID: testNSLP, SID: testSID(1), MRI: hop12, Attr: TransferAttributes{Reliable: true}}
	w.do(0, send)
	var there, back ConnMessage
	for from, to := range w.conn {
		if from[0] == 0 {
			there.Conn, back.Conn = ConnID(to[1]), ConnID(from[1])
		}
	}
	var answer SendMessage
	b.ReportAllocs()
	for b.Loop() {
		out := w.m[0].Handle(w.now, send)
		there.Payload = out[0].(*SendConn).Payload
		in := w.m[1].Handle(w.now, &there)
		r := in[0].(*RecvMessage)
		answer = SendMessage{NSLPData: r.Data, NSLPID: r.NSLPID, SID: r.SID, MRI: r.MRI.Reverse(), Attr: TransferAttributes{Reliable: true}}
		out = w.m[1].Handle(w.now, &answer)
		back.Payload = out[0].(*SendConn).Payload
		in = w.m[0].Handle(w.now, &back)
		if len(in[0].(*RecvMessage).Data) != 220 {
			b.Fatal("not what was sent")
		}
	}
}

// What a Query costs that leads to nothing: the responder's side of a flood.
func BenchmarkQueryFlood(b *testing.B) {
	w := newWired(b, func(c *Config) { c.Limits.QueryRate, c.Limits.DModeRate = 1e9, 1e9 })
	q := &Datagram{Local: netip.AddrPortFrom(q2Addr, testPort), From: netip.AddrPortFrom(q1Addr, testPort), Payload: queryFor(testSID(1), "xx", q1Addr)}
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Microsecond)
		w.m[1].Handle(w.now, q)
	}
}

// memoryPerState makes n sessions, each for a flow of its own, between two
// machines, and returns how much memory one item of routing state takes: with
// its places in the indexes and the timer heap, on the mean of both sides.
func memoryPerState(tb testing.TB, n int) float64 {
	w := newWired(tb, func(c *Config) {
		c.Limits.QueryRate, c.Limits.DModeRate, c.Limits.RoutingStates = 1e9, 1e9, n+1
	})
	send := func(i int) {
		w.now = w.now.Add(20 * time.Microsecond)
		mri := hop12
		mri.Flow.Source = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(i>>16), byte(i >> 8), byte(i)}), 32)
		w.do(0, &SendMessage{NSLPData: make([]byte, 300), NSLPID: testNSLP, SID: testSID(i), MRI: mri, Attr: TransferAttributes{Reliable: true}})
	}
	send(0)
	before := heapInUse()
	for i := 1; i <= n; i++ {
		send(i)
	}
	used := heapInUse() - before
	for _, m := range w.m {
		if s := m.Stats(); s.RoutingStates != n+1 || s.QueuedBytes != 0 || len(m.byMRI) != n+1 {
			tb.Fatalf("%+v, %d MRIs", s, len(m.byMRI))
		}
		// One timer structure: a place in it for each state, and no more.
		if timers := len(m.timers.heap); timers > n+1+2 {
			tb.Errorf("%d timers for %d states", timers, n+1)
		}
	}
	runtime.KeepAlive(w)
	return float64(used) / float64(2*n)
}

// At most 1 KB of memory for each routing state.
func TestMemoryPerRoutingState(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector's own memory is not told from ours: 1,000 states, for their timers")
		memoryPerState(t, 1000)
		return
	}
	per := memoryPerState(t, 50_000)
	t.Logf("%.0f octets for each routing state", per)
	if per > 1024 {
		t.Errorf("%.0f octets for each routing state, want at most 1024", per)
	}
}

// The same with a million: go test -run '^$' -bench MillionRoutingStates
// -benchtime 1x ./gist
func BenchmarkMillionRoutingStates(b *testing.B) {
	for b.Loop() {
		per := memoryPerState(b, 1_000_000)
		b.ReportMetric(per, "B/state")
		if per > 1024 {
			b.Errorf("%.0f octets for each routing state, want at most 1024", per)
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// Data over an association costs the machines no allocation at either end: the
// actions are used again, and what arrives is handed on where it is.
func TestDataAllocatesNothing(t *testing.T) {
	w := newWired(t)
	send := &SendMessage{NSLPData: make([]byte, 300), NSLPID: testNSLP, SID: testSID(1), MRI: hop12, Attr: TransferAttributes{Reliable: true}}
	w.do(0, send)
	arrives := new(ConnMessage)
	for from, to := range w.conn { // both ends of the only connection
		if from[0] == 0 {
			arrives.Conn = ConnID(to[1])
		}
	}
	allocs := testing.AllocsPerRun(1000, func() {
		out := w.m[0].Handle(w.now, send)
		if len(out) != 1 {
			t.Fatalf("%d actions of the sender, want 1", len(out))
		}
		arrives.Payload = out[0].(*SendConn).Payload
		in := w.m[1].Handle(w.now, arrives)
		if len(in) != 1 {
			t.Fatalf("%d actions of the receiver, want 1", len(in))
		}
		if got := in[0].(*RecvMessage).Data; &got[0] != &arrives.Payload[len(arrives.Payload)-len(got)] {
			t.Fatal("Data is not a part of what arrived")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for each message, want none", allocs)
	}
}
