package soft

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/interqos/interqos/dataplane"
)

const patience = 2 * time.Minute // until a test gives up; none waits so long

// startWire runs a plane with a real clock on a socket of loopback.
func startWire(t testing.TB, p *Plane) *Wire {
	t.Helper()
	w, err := Listen(p, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- w.Serve() }()
	t.Cleanup(func() {
		w.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

func realClock() func() int64 {
	start := time.Now()
	return func() int64 { return int64(time.Since(start)) }
}

func receiver(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// The same as TestReservedFlowGetsItsRate through real sockets, by the test's own
// clock: in every tick come ten packets of best effort, one of the flow, and a
// marker, whose arrival says that everything before it has been decided and sent.
func TestReservedFlowThroughSockets(t *testing.T) {
	var now atomic.Int64
	p := New(now.Load)
	conn, at := receiver(t)
	s, other := subscriber1(), subscriber1()
	s.Wire, other.Wire = at, at
	s.Policer = dataplane.Policer{CIR: 4 * mbit, CBS: 20000, PIR: 4 * mbit, PBS: 20000} // two packets a tick
	other.ID, other.Prefixes = dataplane.ID{7}, []netip.Prefix{netip.MustParsePrefix("10.3.0.77/32")}
	f := flow1()
	f.Policer = dataplane.Policer{CIR: 2 * mbit, CBS: 2000, PIR: 2 * mbit, PBS: 2000} // one
	update := func(u dataplane.Update) {
		t.Helper()
		c := p.Begin()
		if err := c.Update(u); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	update(dataplane.Update{PutSubscribers: []dataplane.Subscriber{s, other}})
	w := startWire(t, p)
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(w.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}

	const size, reserved, greedy, marker = 1000, 5001, 80, 9
	packet := map[uint16][]byte{
		reserved: ip("10.1.0.10", "10.3.0.10", 4000, reserved, 0, size),
		greedy:   ip("10.1.0.66", "10.3.0.10", 4000, greedy, 0, size),
		marker:   ip("10.1.0.66", "10.3.0.77", 4000, marker, 0, size),
	}
	type kind struct {
		port uint16
		dscp uint8
	}
	b := make([]byte, 2*size)
	tick := func(arrived map[kind]int) {
		t.Helper()
		now.Add(4e6)
		for i := range 12 {
			port := uint16(greedy)
			switch i {
			case 10:
				port = reserved
			case 11:
				port = marker
			}
			if _, err := out.Write(packet[port]); err != nil {
				t.Fatal(err)
			}
		}
		for {
			n, err := conn.Read(b)
			if err != nil || n != size {
				t.Fatalf("%d octets, %v; have %v", n, err, arrived)
			}
			k := kind{binary.BigEndian.Uint16(b[22:]), b[1] >> 2}
			if k.port == marker {
				return
			}
			arrived[k]++
		}
	}
	const ticks = 100
	expect := func(when string, want map[kind]int) {
		t.Helper()
		for range 20 { // buckets spend what they had saved up
			tick(map[kind]int{})
		}
		arrived := map[kind]int{}
		for range ticks {
			tick(arrived)
		}
		if !maps.Equal(arrived, want) {
			t.Errorf("%s: packets by port and DSCP %v, want %v", when, arrived, want)
		}
	}
	starved := map[kind]int{{greedy, 0}: 2 * ticks}
	expect("nothing is reserved", starved)
	update(dataplane.Update{PutFlows: []dataplane.Flow{f}})
	expect("reserved", map[kind]int{{greedy, 0}: ticks, {reserved, 46}: ticks})
	if c, _ := p.Counters(f.ID); c.Green.Packets != ticks+20 || c.Yellow.Packets+c.Red.Packets+c.Dropped.Packets != 0 {
		t.Errorf("the flow's counters: %+v, want %d packets, all of them green", c, ticks+20)
	}
	update(dataplane.Update{DeleteFlows: []dataplane.ID{f.ID}})
	expect("released", starved)
}

func TestWireCountsAndEnds(t *testing.T) {
	p := New(realClock())
	conn, at := receiver(t)
	s := subscriber1()
	s.Wire = at
	c := p.Begin()
	if err := c.Update(dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	w := startWire(t, p)
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(w.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	good := ip("10.1.0.10", "10.3.0.10", 1, 2, 0, 1400)
	for _, b := range [][]byte{{1}, make([]byte, maxPacket+100), good} {
		if _, err := out.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 2000)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(b); err != nil || n != len(good) || string(b[:n]) != string(good) {
		t.Errorf("got %d octets, %v", n, err)
	}
	want := WireStats{ReceivedPackets: 3, ReceivedOctets: 1 + maxPacket + 1400, SentPackets: 1, SentOctets: 1400}
	for deadline := time.Now().Add(patience); w.Stats() != want && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // poll: the last counter follows the packet
	}
	if got := w.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Packets of 1400 octets through both sockets: sent to the wire, policed,
// received. What counts is packets per second of the wire's own goroutine, so
// sender and receiver batch as well.
func BenchmarkWire(b *testing.B) {
	r := benchPlane(b, 1)
	conn, at := receiver(b)
	s := r.Subscribers()[0].Subscriber
	s.Wire = at
	f := r.Flows()[0].Flow
	f.Policer = s.Policer // nothing is dropped
	r.must(dataplane.Update{PutSubscribers: []dataplane.Subscriber{s}, PutFlows: []dataplane.Flow{f}})
	w, err := Listen(r.Plane, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	out, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	// The wire's loop is driven from here, on one core: a batch in, judged, out.
	sender, sink := &Wire{plane: r.Plane, conn: out, batch: batchConn(out)}, batchConn(conn)
	in, decided, load, drain := messages(maxPacket), messages(0), messages(0), messages(2048)
	for i := range load {
		load[i].Buffers[0] = ip("10.1.0.10", "10.3.0.0", 4000, 5000, 0, 1400)
		load[i].Addr = net.UDPAddrFromAddrPort(w.Addr())
	}
	const group = 32 // what fits a default socket buffer
	var own time.Duration
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		r.now += 1e6
		sender.write(load[:group])
		for got := 0; got < group; {
			start := time.Now()
			k, err := w.batch.ReadBatch(in, 0)
			if err != nil {
				b.Fatal(err)
			}
			w.write(decided[:w.decide(in[:k], decided)])
			own += time.Since(start)
			got += k
		}
		for got := 0; got < group; {
			k, err := sink.ReadBatch(drain, 0)
			if err != nil {
				b.Fatal(err)
			}
			got += k
		}
		n += group
	}
	b.ReportMetric(float64(n)/own.Seconds(), "packets/s")
}

func batchConn(c *net.UDPConn) *ipv4.PacketConn { return ipv4.NewPacketConn(c) }
