package simnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	start = time.Unix(1_000_000, 0)
	a     = netip.MustParseAddr("10.0.0.1")
	b     = netip.MustParseAddr("10.0.0.2")
	ap    = netip.AddrPortFrom(a, 270)
	bp    = netip.AddrPortFrom(b, 270)
)

// log of what arrives, for two runs to be compared.
func lossyRun(seed uint64) string {
	n := New(seed, start)
	n.Default = Link{Loss: 0.3, Duplicate: 0.2, Delay: time.Millisecond, Jitter: 10 * time.Millisecond}
	var log strings.Builder
	n.Attach(&Host{Datagram: func(d Datagram) { fmt.Fprintf(&log, "%v %x\n", n.Now().Sub(start), d.Payload) }}, b)
	for i := range 200 {
		n.After(time.Duration(i)*time.Millisecond, func() { n.Send(Datagram{From: ap, To: bp, Payload: []byte{byte(i)}}) })
	}
	n.Run(time.Second)
	fmt.Fprint(&log, n.Stats())
	return log.String()
}

func TestSameSeedSameRun(t *testing.T) {
	if lossyRun(1) != lossyRun(1) {
		t.Error("two runs with one seed differ")
	}
	if lossyRun(1) == lossyRun(2) {
		t.Error("two seeds gave the same run")
	}
}

func TestLossDuplicationReordering(t *testing.T) {
	n := New(7, start)
	n.Default = Link{Loss: 0.3, Duplicate: 0.2, Jitter: 20 * time.Millisecond}
	var got []int
	n.Attach(&Host{Datagram: func(d Datagram) { got = append(got, int(d.Payload[0])<<8|int(d.Payload[1])) }}, b)
	for i := range 1000 {
		n.Send(Datagram{From: ap, To: bp, Payload: []byte{byte(i >> 8), byte(i)}})
	}
	n.Run(time.Second)
	s := n.Stats()
	if s.Lost == 0 || s.Duplicated == 0 || slices.IsSorted(got) {
		t.Errorf("want loss, duplicates and disorder, got %v, sorted %v", s, slices.IsSorted(got))
	}
	if int(s.Delivered) != len(got) || s.Sent+s.Duplicated != s.Delivered+s.Lost {
		t.Errorf("counts do not add up: %v, delivered %d", s, len(got))
	}
}

func TestPayloadIsCopiedAndTTLFalls(t *testing.T) {
	n := New(1, start)
	n.SetLink(a, b, Link{Hops: 2})
	var got []Datagram
	n.Attach(&Host{Datagram: func(d Datagram) { got = append(got, d) }}, b)
	p := []byte{1}
	n.Send(Datagram{From: ap, To: bp, TTL: 255, RouterAlert: true, Payload: p})
	n.Send(Datagram{From: ap, To: bp, TTL: 2, Payload: p})
	p[0] = 9
	n.Run(0)
	if len(got) != 1 || got[0].Payload[0] != 1 || got[0].TTL != 253 || !got[0].RouterAlert {
		t.Errorf("got %+v", got)
	}
}

func TestDivert(t *testing.T) {
	n := New(1, start)
	var where []string
	host := func(name string) *Host {
		return &Host{Name: name, Datagram: func(Datagram) { where = append(where, name) }}
	}
	router := host("router")
	n.Attach(host("b"), b)
	n.Divert = func(d Datagram) *Host {
		if d.RouterAlert {
			return router
		}
		return nil
	}
	n.Send(Datagram{From: ap, To: bp, RouterAlert: true})
	n.Send(Datagram{From: ap, To: bp})
	n.Run(0)
	if !slices.Equal(where, []string{"router", "b"}) {
		t.Errorf("went to %v", where)
	}
}

func TestTimers(t *testing.T) {
	n := New(1, start)
	var ran []int
	n.After(2*time.Second, func() { ran = append(ran, 2) })
	n.After(time.Second, func() { ran = append(ran, 1) })
	n.After(time.Second, func() { ran = append(ran, 11) })
	n.After(time.Second, func() { ran = append(ran, 99) }).Stop()
	n.At(start.Add(-time.Hour), func() { ran = append(ran, 0) })
	n.Run(3 * time.Second)
	if !slices.Equal(ran, []int{0, 1, 11, 2}) || !n.Now().Equal(start.Add(3*time.Second)) {
		t.Errorf("ran %v, clock %v", ran, n.Now())
	}
	if n.Step() {
		t.Error("Step ran something on an empty queue")
	}
	if n.WaitFor(time.Minute, func() bool { return false }) {
		t.Error("WaitFor says true of a condition that never held")
	}
}

// pairOf dials from a to b and records what b hears.
func pairOf(t *testing.T, n *Net) (dialled, accepted *Conn, got *[]byte, ends *[]error) {
	t.Helper()
	got, ends = new([]byte), new([]error)
	n.Attach(&Host{}, a)
	n.Attach(&Host{Accept: func(c *Conn) bool {
		accepted = c
		c.Message = func(m []byte) { *got = append(*got, m...) }
		c.Down = func(err error) { *ends = append(*ends, err) }
		return true
	}}, b)
	dialled = n.Dial(a, bp)
	up := false
	dialled.Up = func() { up = true }
	if !n.WaitFor(10*time.Second, func() bool { return up }) {
		t.Fatal("no connection")
	}
	return dialled, accepted, got, ends
}

func TestConnKeepsOrderAndCloses(t *testing.T) {
	n := New(3, start)
	n.Default = Link{Loss: 0.3, Delay: time.Millisecond, Jitter: 50 * time.Millisecond}
	c, _, got, ends := pairOf(t, n)
	var want []byte
	for i := range 100 {
		c.Send([]byte{byte(i)})
		want = append(want, byte(i))
	}
	c.Close()
	c.Send([]byte{255})
	n.Run(5 * time.Minute)
	if string(*got) != string(want) {
		t.Errorf("got % x", *got)
	}
	if len(*ends) != 1 || !errors.Is((*ends)[0], ErrClosed) {
		t.Errorf("other side heard %v", *ends)
	}
	if len(n.conns) != 0 {
		t.Errorf("%d connections kept", len(n.conns))
	}
}

func TestConnRefused(t *testing.T) {
	n := New(1, start)
	var got error
	c := n.Dial(a, bp)
	c.Down = func(err error) { got = err }
	n.Run(time.Second)
	if !errors.Is(got, ErrRefused) {
		t.Errorf("got %v", got)
	}
}

func TestConnBreak(t *testing.T) {
	n := New(1, start)
	n.Default = Link{Delay: time.Millisecond}
	c, s, got, ends := pairOf(t, n)
	var mine error
	c.Down = func(err error) { mine = err }
	c.Send([]byte{1})
	s.Break(ErrReset)
	n.Run(time.Second)
	if len(*got) != 0 || !errors.Is(mine, ErrReset) || len(*ends) != 1 {
		t.Errorf("got %x, ends %v and %v", *got, mine, *ends)
	}
}

func TestPartition(t *testing.T) {
	n := New(1, start)
	n.Default = Link{Delay: time.Millisecond}
	c, _, got, ends := pairOf(t, n)
	n.Partition(a, b)
	c.Send([]byte{1})
	c.Send([]byte{2})
	n.Run(10 * time.Second)
	if len(*got) != 0 || len(*ends) != 0 {
		t.Fatalf("through a partition: %x, %v", *got, *ends)
	}
	n.Heal(a, b)
	n.Run(time.Second)
	if string(*got) != "\x01\x02" {
		t.Errorf("after healing got %x", *got)
	}
	n.Partition(a, b)
	c.Send([]byte{3})
	n.Run(n.StreamTimeout)
	if len(*ends) != 1 || !errors.Is((*ends)[0], ErrUnreachable) {
		t.Errorf("ended with %v", *ends)
	}
}

func TestHostDown(t *testing.T) {
	n := New(1, start)
	c, _, got, _ := pairOf(t, n)
	var mine error
	c.Down = func(err error) { mine = err }
	h := n.hosts[b]
	n.Down(h, true)
	n.Run(time.Second)
	if !errors.Is(mine, ErrReset) {
		t.Errorf("dialler heard %v", mine)
	}
	n.Send(Datagram{From: ap, To: bp})
	n.Run(time.Second)
	if n.Stats().Unroutable != 1 {
		t.Errorf("datagram to a host that is down: %v", n.Stats())
	}
	n.Up(h)
	c = n.Dial(a, bp)
	n.Run(time.Second)
	c.Send([]byte{7})
	n.Run(time.Second)
	if string(*got) != "\x07" {
		t.Errorf("after it came back got %x", *got)
	}
}
