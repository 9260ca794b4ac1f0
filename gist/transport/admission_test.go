package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
)

// accepting is an admission without sockets.
type accepting struct {
	t *testing.T
	a admission
}

func newAccepting(t *testing.T, total, perPeer int, expected ...string) *accepting {
	x := &accepting{t: t, a: admission{max: total, perPeer: perPeer, hosts: map[netip.Addr]*acceptedHost{}}}
	if len(expected) > 0 {
		x.a.reserved = total / 4
		x.a.expected = func(a netip.Addr) bool {
			for _, e := range expected {
				if a.String() == e {
					return true
				}
			}
			return false
		}
	}
	return x
}

// from admits a connection; the one that had to go for it is returned.
func (x *accepting) from(a string) (c, evicted *conn, err error) {
	c = &conn{remote: netip.AddrPortFrom(netip.MustParseAddr(a), 1)}
	evicted, err = x.a.admit(c)
	x.check()
	return c, evicted, err
}

// check recounts what the admission counts.
func (x *accepting) check() {
	x.t.Helper()
	total, silent, strangers := 0, 0, 0
	for _, h := range x.a.hosts {
		total += h.conns
		silent += h.silent
		if !h.expected {
			strangers += h.conns
		}
		if h.conns == 0 || h.silent > h.conns || h.conns > x.a.perPeer {
			x.t.Fatalf("host %+v", *h)
		}
	}
	if total != x.a.total || strangers != x.a.strangers || silent != x.a.silent.Len() || total > x.a.max {
		x.t.Fatalf("counts %d, %d strangers, %d silent; found %d, %d, %d", x.a.total, x.a.strangers, x.a.silent.Len(), total, strangers, silent)
	}
}

// RFC 5971 §8.4: "set up large numbers of associations that were never used":
// silent connections lose their places to newcomers, those of the address with
// most of them first, and the oldest of these.
func TestAdmissionOfNewcomersWhereSilentOnesFillTheTable(t *testing.T) {
	x := newAccepting(t, 8, 4)
	honest, _, _ := x.from("192.0.2.9")
	var flood []*conn
	for i := range 7 {
		c, evicted, err := x.from(fmt.Sprintf("198.51.100.%d", i/4))
		if err != nil || evicted != nil {
			t.Fatal(i, evicted, err)
		}
		flood = append(flood, c)
	}
	for i := range 5 { // then everybody has one, and the oldest of all goes
		_, evicted, err := x.from(fmt.Sprintf("203.0.113.%d", i))
		if err != nil || evicted == nil || evicted == honest {
			t.Fatalf("newcomer %d: evicted %p (the honest one is %p), %v", i, evicted, honest, err)
		}
		if i == 0 && evicted != flood[0] {
			t.Errorf("first to go is %v, want the oldest of 198.51.100.0", evicted.remote)
		}
	}
	if !x.a.heard(honest) {
		t.Fatal("the honest connection lost its place")
	}
	x.check()
	for i := range 1000 { // and keeps it now whatever comes
		if _, evicted, err := x.from(fmt.Sprintf("203.0.%d.%d", i/250, i%250)); err != nil || evicted == honest {
			t.Fatal(i, err)
		}
	}
}

func TestAdmissionRefusesWhereEverybodyHasSpoken(t *testing.T) {
	x := newAccepting(t, 4, 2)
	for i := range 4 {
		c, _, err := x.from(fmt.Sprintf("192.0.2.%d", i/2))
		if err != nil || !x.a.heard(c) {
			t.Fatal(i, err)
		}
	}
	if _, _, err := x.from("192.0.2.0"); !errors.Is(err, ErrTooManyConns) || !strings.Contains(err.Error(), "from 192.0.2.0") {
		t.Errorf("third of an address: %v", err)
	}
	if _, _, err := x.from("192.0.2.7"); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("fifth: %v", err)
	}
}

func TestAdmissionOfOneAddressReplacesItsOwn(t *testing.T) {
	x := newAccepting(t, 8, 2)
	first, _, _ := x.from("192.0.2.1")
	second, _, _ := x.from("192.0.2.1")
	other, _, _ := x.from("192.0.2.2")
	if _, evicted, err := x.from("192.0.2.1"); evicted != first || err != nil {
		t.Errorf("evicted %v, %v; want its own first", evicted, err)
	}
	x.a.release(first) // as the end of the connection does: once is enough
	x.check()
	if !x.a.heard(second) || !x.a.heard(other) || x.a.heard(first) {
		t.Error("the wrong connection lost its place")
	}
}

// Strangers that have spoken cannot take the places of configured peers.
func TestAdmissionKeepsRoomForExpectedPeers(t *testing.T) {
	x := newAccepting(t, 8, 8, "192.0.2.1", "192.0.2.2")
	for i := range 6 {
		c, _, err := x.from(fmt.Sprintf("198.51.100.%d", i))
		if err != nil || !x.a.heard(c) {
			t.Fatal(i, err)
		}
	}
	if _, _, err := x.from("198.51.100.99"); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("a seventh stranger: %v", err)
	}
	for range 2 {
		if c, evicted, err := x.from("192.0.2.1"); err != nil || evicted != nil || !x.a.heard(c) {
			t.Fatalf("expected peer: evicted %v, %v", evicted, err)
		}
	}
	if _, _, err := x.from("192.0.2.2"); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("full of those who have spoken: %v", err)
	}
	// Nor do silent ones of an expected address make room for a stranger.
	x = newAccepting(t, 4, 4, "192.0.2.1")
	for range 4 {
		if _, _, err := x.from("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, evicted, err := x.from("198.51.100.1"); !errors.Is(err, ErrTooManyConns) || evicted != nil {
		t.Errorf("a stranger in place of an expected peer: %v, %v", evicted, err)
	}
}

// Silent connections from many addresses, held for good, do not keep a peer out,
// and who had spoken before goes on.
func TestTCPSilentConnectionsDoNotKeepPeersOut(t *testing.T) {
	in, errs := newSink(), make(errorSink, 100)
	to := listenTCP(t, TCPConfig{
		Handler: in.handle, Listen: []netip.AddrPort{loopback4}, OnError: errs.hear, MaxAccepted: 16, MaxPerPeer: 4,
	})
	dial := func(a string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a)}}
		nc, err := d.Dial("tcp", to.LocalAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return nc
	}
	old := dial("127.0.0.1")
	write(t, old, message(0))
	in.count(t, 2)
	for i := range 40 { // none says a word, or ends
		dial(fmt.Sprintf("127.0.1.%d", i%20))
	}
	write(t, dial("127.0.0.2"), message(4))
	write(t, old, message(8))
	messages := func(events []gist.Event) (n int) {
		for _, ev := range events {
			if _, ok := ev.(*gist.ConnMessage); ok {
				n++
			}
		}
		return n
	}
	events := in.until(t, "three messages", func(e []gist.Event) bool { return messages(e) == 3 })
	if has[gist.ConnDown](events) {
		t.Errorf("a connection that had spoken was broken off: %+v", events)
	}
	if err := errs.next(t); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("a silent one went with %v, want ErrTooManyConns", err)
	}
	// Those broken off are on their way out.
	for deadline := time.Now().Add(patience); to.Conns() > 16; time.Sleep(time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatalf("%d connections", to.Conns())
		}
	}
}

// A length in a header makes nobody set memory aside: the buffer follows what
// has come.
func TestTCPBufferFollowsWhatHasCome(t *testing.T) {
	c := &conn{t: &TCP{cfg: TCPConfig{MaxMessage: 64 << 10}}}
	head := message(0)[:8]
	binary.BigEndian.PutUint16(head[2:], 16000)
	_, _, need, err := c.t.frame(head)
	if err != nil || need != 8+4*16000 {
		t.Fatal(need, err)
	}
	size := strangersBuffer
	for have := len(head); have < need; have++ {
		if size = c.bufferSize(have, need, size, false); size > max(2*have, strangersBuffer) || size < have {
			t.Fatalf("a buffer of %d octets for the %d that have come", size, have)
		}
	}
	c.announced = true
	if size = c.bufferSize(0, 8, size, false); size != readBuffer {
		t.Errorf("%d octets after a long message, want %d", size, readBuffer)
	}
	if size = c.bufferSize(100, 300, size, true); size != busyReadBuffer {
		t.Errorf("%d octets after many messages at once, want %d", size, busyReadBuffer)
	}
	if size = c.bufferSize(0, 8, size, false); size != busyReadBuffer {
		t.Errorf("%d octets after one more message, want %d as before", size, busyReadBuffer)
	}
}

// A stream is taken apart at the same places however it is cut, and never
// beyond what is there. RFC 5971 §5.4
func FuzzFrame(f *testing.F) {
	two := append(message(8), message(0)...)
	f.Add(two, uint8(3))
	f.Add(two[:len(two)-1], uint8(0))
	f.Add([]byte{1, 2, 0xff, 0xff, 0, 0, 0, 0}, uint8(1))
	f.Add([]byte{2, 2, 0, 0, 0, 0, 0, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		tcp := &TCP{cfg: TCPConfig{MaxMessage: 4096}}
		whole, count, need, err := tcp.frame(b)
		if whole > len(b) || whole < 0 || err == nil && (need <= len(b)-whole || need > 4096) {
			t.Fatalf("%d octets: whole %d, need %d, %v", len(b), whole, need, err)
		}
		if n := int(cut); err == nil && n < len(b) {
			first, some, _, err := tcp.frame(b[:n])
			if err != nil {
				t.Fatalf("the first %d octets: %v", n, err)
			}
			rest, others, again, err := tcp.frame(b[first:])
			if first+rest != whole || some+others != count || again != need || err != nil {
				t.Fatalf("cut at %d: whole %d and %d, need %d, %v; in one piece %d, %d", n, first, rest, again, err, whole, need)
			}
		}
	})
}

// RFC 5971 §8.4: strangers' TLS handshakes are so many a second; expected peers'
// are not counted.
func TestAdmissionBoundsTLSHandshakes(t *testing.T) {
	x := newAccepting(t, 8, 8, "192.0.2.1")
	x.a.rate = 100
	peer, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_000_000, 0)
	begun := 0
	try := func(n int) {
		for i := range n {
			from := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			switch err := x.a.handshake(from, now); {
			case err == nil:
				begun++
			case !errors.Is(err, ErrTooManyConns):
				t.Fatal(err)
			}
			if err := x.a.handshake(peer, now); err != nil {
				t.Fatalf("an expected peer: %v", err)
			}
		}
	}
	try(1000)
	if begun != 100 {
		t.Errorf("%d at once, want 100", begun)
	}
	begun = 0
	for range 100 { // a second
		now = now.Add(10 * time.Millisecond)
		try(10)
	}
	if begun < 99 || begun > 100 { // the last one may be a rounding short
		t.Errorf("%d in a second, want 100", begun)
	}
	now = now.Add(-time.Hour)
	if begun = 0; x.a.handshake(peer, now) != nil {
		t.Error("the clock was set back, and an expected peer is refused")
	}
}

// Over a socket: the connection is closed before anything is worked out for it.
func TestTLSHandshakesOfStrangersAreBounded(t *testing.T) {
	a := newAuthority(t)
	_, to, _, _, errs := tlsEnds(t, a.config(1), a.config(2), func(c *TCPConfig) { c.StrangerHandshakes = 1 })
	to.mu.Lock()
	to.accepted.handshakes, to.accepted.counted = 1, time.Now().Add(time.Hour) // the second is used up
	to.mu.Unlock()
	if n, err := dialRaw(t, to).Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d octets", n)
	}
	if err := errs.next(t); !errors.Is(err, ErrTooManyConns) || !strings.Contains(err.Error(), "1 TLS handshakes") {
		t.Errorf("error %v", err)
	}
}

// TLS handshakes that are begun and not gone on with keep no peer out either.
func TestTLSHandshakesThatStopDoNotKeepPeersOut(t *testing.T) {
	a := newAuthority(t)
	from, to, fromSink, toSink, _ := tlsEnds(t, a.config(1), a.config(2), func(c *TCPConfig) { c.MaxAccepted, c.MaxPerPeer = 8, 2 })
	hello := []byte{22, 3, 1, 2, 0, 1, 0} // a ClientHello of 512 octets begins
	for i := range 30 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i/2+1))}}
		nc, err := d.Dial("tcp", to.LocalAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = nc.Write(hello) // may meet a connection that had to go already
	}
	if err := from.Connect(gist.Connect{Conn: 1, Local: loopback4.Addr(), To: to.LocalAddrs()[0], Stack: gist.StackTLS}); err != nil {
		t.Fatal(err)
	}
	if up, ok := fromSink.count(t, 1)[0].(gist.ConnUp); !ok {
		t.Fatalf("%+v, want ConnUp", up)
	}
	send(t, from, 1, message(4))
	if events := toSink.count(t, 2); !has[gist.ConnAccepted](events) || !has[*gist.ConnMessage](events) {
		t.Errorf("%+v", events)
	}
}
