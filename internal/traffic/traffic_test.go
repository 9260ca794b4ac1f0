package traffic

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

var flow4 = Tuple{netip.MustParseAddrPort("10.1.0.10:4000"), netip.MustParseAddrPort("10.3.0.10:5001")}
var flow6 = Tuple{netip.MustParseAddrPort("[2001:db8:1::10]:4000"), netip.MustParseAddrPort("[2001:db8:3::10]:5001")}

func TestPacketsReadAsWritten(t *testing.T) {
	for _, flow := range []Tuple{flow4, flow6} {
		b, err := template(flow, 46, 200)
		if err != nil {
			t.Fatal(err)
		}
		stamp(b, 7, 1<<40, 123456789)
		want := arrival{flow, 46, 7, 1 << 40, 123456789}
		var got arrival
		if err := read(b, &got); err != nil || got != want {
			t.Errorf("read %+v, %v, want %+v", got, err, want)
		}
		for n := range len(b) - (len(b) - MinSize) - 1 {
			var a arrival
			if n < v4+udp+payload && read(b[:n], &a) == nil {
				t.Errorf("%d octets of a packet were taken for one", n)
			}
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	mixed := Tuple{flow4.Source, flow6.Destination}
	for name, f := range map[string]func() ([]byte, error){
		"two versions": func() ([]byte, error) { return template(mixed, 0, 100) },
		"too small":    func() ([]byte, error) { return template(flow4, 0, MinSize-1) },
		"too large":    func() ([]byte, error) { return template(flow4, 0, MaxSize+1) },
		"DSCP":         func() ([]byte, error) { return template(flow4, 64, 100) },
		"no address":   func() ([]byte, error) { return template(Tuple{}, 0, 100) },
	} {
		if b, err := f(); err == nil {
			t.Errorf("%s: got a packet %x", name, b)
		}
	}
}

// Whatever the moments at which it is asked, the pacer hands out what the rate
// says, to the packet.
func TestPacerIsExact(t *testing.T) {
	p := pacer{rate: 100e6, size: 1400}
	n := 0
	for at := time.Duration(0); at <= 10*time.Second; at += 977 * time.Microsecond {
		n += p.due(at)
	}
	n += p.due(10 * time.Second)
	if want := 1_000_000_000 / (1400 * 8); n != want {
		t.Errorf("%d packets in 10 s, want %d", n, want)
	}
	if p.skipped != 0 {
		t.Errorf("skipped %v", p.skipped)
	}
}

// A pause longer than catchUp is not made up for.
func TestPacerSkips(t *testing.T) {
	p := pacer{rate: 8 * 1000 * 1000, size: 1000} // a packet every ms
	p.due(100 * time.Millisecond)
	before := p.sent
	got := p.due(1100 * time.Millisecond)
	if got != 11 {
		t.Errorf("%d packets after a pause of a second, want 11", got)
	}
	if p.skipped < 900*time.Millisecond {
		t.Errorf("skipped %v", p.skipped)
	}
	if p.sent != before+11 {
		t.Errorf("sent %d", p.sent)
	}
	if got := p.due(1105 * time.Millisecond); got < 4 || got > 6 {
		t.Errorf("%d packets in 5 ms after the pause, want 5", got)
	}
}

// What Send sends is what Receive measures.
func TestSendAndReceive(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	wire := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	flows := []Tuple{flow4, flow6}
	var sent []SendReport
	for i, flow := range flows { // what they send waits in the receiver's buffer
		r, err := Send(t.Context(), SendConfig{Wire: wire, Flow: flow, Stream: uint32(i), Rate: uint64(i+1) * 400e3, Size: 500, DSCP: 46, Duration: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if r.Packets == 0 || r.Octets != r.Packets*500 || r.Failed != 0 || r.Elapsed != 100*time.Millisecond {
			t.Errorf("sent %+v", r)
		}
		sent = append(sent, r)
	}
	// All of it is there, and is read at once.
	got, err := Receive(t.Context(), ReceiveConfig{Conn: conn, Window: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Flows) != len(flows) || got.Before != 0 || got.Foreign != 0 {
		t.Fatalf("received %+v", got)
	}
	for i, flow := range flows {
		f := got.Flow(flow)
		if f.Packets != sent[i].Packets || f.Octets != sent[i].Octets || f.Lost != 0 || f.Reordered != 0 || f.DSCP != 46 {
			t.Errorf("received %+v of %+v", f, sent[i])
		}
	}
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := Receive(ctx, ReceiveConfig{Conn: conn})
		done <- err
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReceiveCountsLossAndReordering(t *testing.T) {
	start := time.Unix(1000, 0)
	m := meter{c: &ReceiveConfig{Skip: time.Second, Window: 2 * time.Second}, flows: map[streamKey]*stream{}}
	m.begin(start)
	b, _ := template(flow4, 0, 1000)
	for i, seq := range []uint64{0, 1, 2, 3, 7, 6, 9} { // 0 to 1 before the window
		stamp(b, 1, seq, start.UnixNano())
		m.add(start.Add(time.Duration(i)*500*time.Millisecond), bytes.Clone(b))
	}
	m.add(start.Add(2*time.Second), []byte("something else"))
	var r ReceiveReport
	m.report(&r, start.Add(time.Minute))
	want := FlowReport{Flow: flow4.String(), Stream: 1, Packets: 5, Octets: 5000, Lost: 3, Reordered: 1, Rate: 20000,
		DelayMean: 2 * time.Second, DelayMax: 3 * time.Second}
	if len(r.Flows) != 1 || r.Flows[0] != want {
		t.Errorf("got %+v, want %+v", r.Flows, want)
	}
	if r.Before != 2 || r.Foreign != 1 || r.Window != 2*time.Second {
		t.Errorf("got %+v", r)
	}
}

func FuzzRead(f *testing.F) {
	for _, flow := range []Tuple{flow4, flow6} {
		b, _ := template(flow, 46, MinSize)
		stamp(b, 1, 2, 3)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a arrival
		if read(b, &a) != nil {
			return
		}
		// What was read, written again, reads the same.
		again, err := template(a.tuple, a.dscp, MinSize)
		if err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
		stamp(again, a.stream, a.sequence, a.sent)
		var b2 arrival
		if err := read(again, &b2); err != nil || a != b2 {
			t.Errorf("%+v, then %+v, %v", a, b2, err)
		}
	})
}
