package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/interqos/interqos/gist"
)

func queue(t testing.TB, tcp *TCP, id gist.ConnID, payload []byte) {
	t.Helper()
	if err := tcp.Queue(gist.SendConn{Conn: id, Payload: payload}); err != nil {
		t.Fatal(err)
	}
}

// slowPair is pair with small buffers in the kernel and a receiver that hears
// nothing before release is closed.
func slowPair(t testing.TB) (from *TCP, toSink *sink, release chan struct{}) {
	t.Helper()
	release, toSink = make(chan struct{}), newSink()
	to := listenTCP(t, TCPConfig{Listen: []netip.AddrPort{loopback4}, Handler: func(e []gist.Event) {
		<-release
		toSink.handle(e)
	}})
	up := newSink()
	from = listenTCP(t, TCPConfig{Handler: up.handle, QueueBytes: 64 << 20, CloseTimeout: patience})
	if err := from.Connect(gist.Connect{Conn: 1, To: to.LocalAddrs()[0]}); err != nil {
		t.Fatal(err)
	}
	up.count(t, 1)
	if err := from.conn(1).nc.(*net.TCPConn).SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	return from, toSink, release
}

// "messages awaiting transmission are bundled", and none overtakes another,
// whoever of flush and the writer writes it. RFC 5971 §5.4
func TestTCPFlushAndWriterKeepTheOrder(t *testing.T) {
	from, toSink, release := slowPair(t)
	const n = 600
	length := func(i int) int { return 4 * (i % 4000) * 5 }
	left := false // something for the writer
	for i := range n {
		if i%7 == 0 {
			send(t, from, 1, message(length(i)))
			continue
		}
		queue(t, from, 1, message(length(i)))
		if i%5 == 0 {
			from.Flush()
			c := from.conn(1)
			c.mu.Lock()
			left = left || len(c.queue) > 0 || c.writing
			c.mu.Unlock()
		}
	}
	from.Flush()
	close(release)
	if !left {
		t.Error("the kernel took everything at once: this test tests nothing")
	}
	for i, ev := range toSink.count(t, n+1)[1:] {
		if m, ok := ev.(*gist.ConnMessage); !ok || !bytes.Equal(m.Payload, message(length(i))) {
			t.Fatalf("event %d is not message %d", i+1, i)
		}
	}
	c := from.conn(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued != 0 {
		t.Errorf("%d octets count as queued after everything has arrived", c.queued)
	}
}

// RFC 5971 §4.4.5: "GIST MUST close transport connections carrying reliable
// messages gracefully"
func TestTCPCloseConnDeliversWhatFlushLeft(t *testing.T) {
	from, toSink, release := slowPair(t)
	const n = 400
	for range n {
		queue(t, from, 1, message(8000))
	}
	from.Flush()
	queue(t, from, 1, message(4)) // nobody flushes this one
	if err := from.CloseConn(gist.CloseConn{Conn: 1}); err != nil {
		t.Fatal(err)
	}
	from.Flush()
	close(release)
	events := toSink.until(t, "ConnDown", has[gist.ConnDown])
	if down := events[len(events)-1].(gist.ConnDown); len(events) != n+3 || !errors.Is(down.Err, io.EOF) {
		t.Errorf("%d events, the last %+v; want ConnAccepted, %d messages and the end of the stream", len(events), down, n+1)
	}
}

// What Queue takes counts for the bounds also where nobody calls Flush.
func TestTCPQueueHasABoundWithoutFlush(t *testing.T) {
	const bound = 200_000
	from, _, fromSink, _ := pair(t, over{}, TCPConfig{QueueBytes: bound}, TCPConfig{})
	m := message(15_000)
	var err error
	for n := 0; err == nil; n += len(m) {
		if n > bound+stageMost {
			t.Fatalf("%d octets are queued, want at most %d", n, bound)
		}
		if c := from.conn(1); len(c.staged) > stageMost {
			t.Fatalf("%d octets wait for Flush without being counted, want at most %d", len(c.staged), stageMost)
		}
		err = from.Queue(gist.SendConn{Conn: 1, Payload: m})
	}
	if !errors.Is(err, ErrBackpressure) {
		t.Errorf("Queue: %v, want ErrBackpressure", err)
	}
	down, _ := find[gist.ConnDown](fromSink.until(t, "ConnDown", has[gist.ConnDown]))
	if !errors.Is(down.Err, ErrBackpressure) {
		t.Errorf("%+v, want ErrBackpressure", down)
	}
	from.Flush()
	if n := from.queued.Load(); n != 0 {
		t.Errorf("%d octets count as queued on no connection", n)
	}
}

func TestTCPFlushOfALostConnection(t *testing.T) {
	from, to, fromSink, _ := pair(t, over{}, TCPConfig{}, TCPConfig{})
	queue(t, from, 1, message(8))
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	fromSink.until(t, "ConnDown", has[gist.ConnDown])
	from.Flush()
	if err := from.Queue(gist.SendConn{Conn: 1, Payload: message(8)}); !errors.Is(err, ErrUnknownConn) {
		t.Errorf("Queue: %v, want ErrUnknownConn", err)
	}
}

// Memory has a bound over all connections: who reads more slowly than the others
// is broken off, the furthest behind first, and who reads keeps its connection.
func TestTCPTotalQueueShedsTheSlowest(t *testing.T) {
	const total = 400_000
	release := make(chan struct{})
	defer close(release)
	slow := listenTCP(t, TCPConfig{Listen: []netip.AddrPort{loopback4}, Handler: func([]gist.Event) { <-release }})
	got := newSink()
	quick := listenTCP(t, TCPConfig{Listen: []netip.AddrPort{loopback4}, Handler: got.handle})
	events := newSink()
	from := listenTCP(t, TCPConfig{Handler: events.handle, QueueBytes: 64 << 20, TotalQueueBytes: total})
	for id, to := range map[gist.ConnID]*TCP{1: slow, 3: slow, 5: quick} {
		if err := from.Connect(gist.Connect{Conn: id, To: to.LocalAddrs()[0]}); err != nil {
			t.Fatal(err)
		}
	}
	events.count(t, 3)
	for _, id := range []gist.ConnID{1, 3} {
		if err := from.conn(id).nc.(*net.TCPConn).SetWriteBuffer(4096); err != nil {
			t.Fatal(err)
		}
	}
	m := message(16000)
	down := make(map[gist.ConnID]error)
	for sent := 0; len(down) == 0; sent++ {
		if sent > 10_000 {
			t.Fatalf("%d messages of %d octets to each, and nobody is broken off", sent, len(m))
		}
		for _, id := range []gist.ConnID{1, 1, 1, 3} {
			if err := from.Send(gist.SendConn{Conn: id, Payload: m}); err != nil {
				down[id] = err
			}
			if n := from.queued.Load(); n > total {
				t.Fatalf("%d octets queued, want at most %d", n, total)
			}
		}
	}
	if down[1] == nil || down[3] != nil {
		t.Errorf("broken off: %v, want connection 1, which is the furthest behind", down)
	}
	for _, ev := range events.until(t, "ConnDown", has[gist.ConnDown])[3:] {
		if d, ok := ev.(gist.ConnDown); ok && (d.Conn != 1 || !errors.Is(d.Err, ErrBackpressure)) {
			t.Errorf("%+v", d)
		}
	}
	send(t, from, 5, message(40))
	got.until(t, "the message", has[*gist.ConnMessage])
	third, fifth := from.conn(3), from.conn(5)
	third.mu.Lock()
	defer third.mu.Unlock()
	fifth.mu.Lock()
	defer fifth.mu.Unlock()
	left := third.queued + fifth.queued
	if n := from.queued.Load(); n != int64(left) {
		t.Errorf("%d octets queued in all, and %d on the connections that are left", n, left)
	}
}
