package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

func listenTCP(t testing.TB, cfg TCPConfig) *TCP {
	t.Helper()
	tcp, err := ListenTCP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tcp.Close(); err != nil {
			t.Error(err)
		}
	})
	return tcp
}

// pair returns two transports with connection 1 from the first to the second.
func pair(t testing.TB, o over, a, b TCPConfig) (from, to *TCP, fromSink, toSink *sink) {
	t.Helper()
	fromSink, toSink = newSink(), newSink()
	a.Handler, b.Handler = fromSink.handle, toSink.handle
	from, to = listenTCP(t, o.dials(a)), listenTCP(t, o.listens(b))
	if err := from.Connect(gist.Connect{Conn: 1, Local: loopback4.Addr(), To: to.LocalAddrs()[0], Stack: o.stack}); err != nil {
		t.Fatal(err)
	}
	events := fromSink.count(t, 1)
	if up, ok := events[0].(gist.ConnUp); !ok || up.Conn != 1 {
		t.Fatalf("first event %+v, want ConnUp of 1", events[0])
	}
	return from, to, fromSink, toSink
}

// over is what connections of a test go over.
type over struct {
	stack gist.Stack
	sctp  *SCTP
}

func (o over) dials(c TCPConfig) TCPConfig {
	c.SCTP = o.sctp
	return c
}

func (o over) listens(c TCPConfig) TCPConfig {
	if c = o.dials(c); o.stack == gist.StackSCTP {
		c.ListenSCTP = []netip.AddrPort{loopback4}
	} else {
		c.Listen = []netip.AddrPort{loopback4}
	}
	return c
}

// overEach runs a test over TCP and over SCTP: its framing everywhere, and all
// of it where the kernel has it.
func overEach(t *testing.T, test func(*testing.T, over)) {
	t.Run("TCP", func(t *testing.T) { test(t, over{}) })
	t.Run("SCTP's framing", func(t *testing.T) { test(t, over{gist.StackSCTP, &SCTP{newPackets(partOfPacket)}}) })
	if sctp, err := NewSCTP(); err == nil {
		t.Run("SCTP", func(t *testing.T) { test(t, over{gist.StackSCTP, sctp}) })
	}
}

func send(t testing.TB, tcp *TCP, id gist.ConnID, payload []byte) {
	t.Helper()
	if err := tcp.Send(gist.SendConn{Conn: id, Payload: payload}); err != nil {
		t.Fatal(err)
	}
}

// RFC 5971 §5.7.2, §5.4: Forwards-TCP.
func TestTCPMessagesBothWaysInOrder(t *testing.T) { overEach(t, checkMessagesBothWaysInOrder) }

func checkMessagesBothWaysInOrder(t *testing.T, o over) {
	from, to, fromSink, toSink := pair(t, o, TCPConfig{}, TCPConfig{})
	const n = 500
	for i := range n {
		send(t, from, 1, message(4*(i%50)))
	}
	events := toSink.count(t, n+1)
	accepted, ok := events[0].(gist.ConnAccepted)
	if !ok || accepted.Conn == 0 || accepted.Conn%2 != 0 || accepted.Local != to.LocalAddrs()[0] || accepted.Remote.Addr() != loopback4.Addr() {
		t.Fatalf("first event %+v, want ConnAccepted with an even id", events[0])
	}
	for i, ev := range events[1:] {
		m, ok := ev.(*gist.ConnMessage)
		if !ok || m.Conn != accepted.Conn || !bytes.Equal(m.Payload, message(4*(i%50))) {
			t.Fatalf("event %d is %+v, want message %d", i+1, ev, i)
		}
	}
	send(t, to, accepted.Conn, message(8))
	got, ok := fromSink.count(t, 2)[1].(*gist.ConnMessage)
	if !ok || got.Conn != 1 || !bytes.Equal(got.Payload, message(8)) {
		t.Errorf("answer %+v, want the message sent", got)
	}
}

// dialRaw connects to a transport without one.
func dialRaw(t testing.TB, to *TCP) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", to.LocalAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// RFC 5971 §5.4: "the length information in the GIST common header allows the
// message boundary to be discovered during parsing."
func TestTCPFramingSplitAtEveryOctet(t *testing.T) {
	first, second := message(8), message(20)
	stream := append(append([]byte(nil), first...), second...)
	for cut := 1; cut < len(stream); cut++ {
		in := newSink()
		to := listenTCP(t, TCPConfig{Handler: in.handle, Listen: []netip.AddrPort{loopback4}})
		nc := dialRaw(t, to)
		if _, err := nc.Write(stream[:cut]); err != nil {
			t.Fatal(err)
		}
		whole := 0
		if cut >= len(first) {
			whole = 2 // accepted and the first message
		}
		in.count(t, whole)
		if _, err := nc.Write(stream[cut:]); err != nil {
			t.Fatal(err)
		}
		events := in.count(t, 3)
		for i, want := range [][]byte{first, second} {
			if m, ok := events[i+1].(*gist.ConnMessage); !ok || !bytes.Equal(m.Payload, want) {
				t.Fatalf("cut at %d: event %d is %+v", cut, i+1, events[i+1])
			}
		}
		_ = nc.Close()
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTCPMessageLongerThanTheReadBuffer(t *testing.T) {
	overEach(t, checkMessageLongerThanTheReadBuffer)
}

func checkMessageLongerThanTheReadBuffer(t *testing.T, o over) {
	from, _, _, toSink := pair(t, o, TCPConfig{}, TCPConfig{})
	m := message(4*4095 - 4)
	for len(m) < 60000 {
		m = append(m, message(4 * 4000)[wire.HeaderLen:]...) // not valid, but framed
	}
	words := (len(m) - wire.HeaderLen) / 4
	m[2], m[3] = byte(words>>8), byte(words)
	send(t, from, 1, message(4))
	send(t, from, 1, m)
	events := toSink.count(t, 3)
	if got := events[2].(*gist.ConnMessage).Payload; !bytes.Equal(got, m) {
		t.Errorf("got %d octets, want the %d sent", len(got), len(m))
	}
}

func TestTCPRefusesWhatIsNoGISTStream(t *testing.T) {
	long := message(0)
	long[2], long[3] = 0xff, 0xff
	for name, c := range map[string]struct {
		stream []byte
		want   error
		text   string
	}{
		"too long":        {long, ErrMessageTooLong, "262148 octets, want at most 65536"},
		"end of a stream": {message(8)[:20], io.ErrUnexpectedEOF, "after 20 octets"},
	} {
		t.Run(name, func(t *testing.T) {
			in, errs := newSink(), make(errorSink, 1)
			to := listenTCP(t, TCPConfig{Handler: in.handle, Listen: []netip.AddrPort{loopback4}, OnError: errs.hear})
			// A stranger: nothing but OnError hears of it.
			nc := dialRaw(t, to)
			if _, err := nc.Write(c.stream); err != nil {
				t.Fatal(err)
			}
			_ = nc.(*net.TCPConn).CloseWrite()
			if err := errs.next(t); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want %q with %q", err, c.want, c.text)
			}
			if n, err := nc.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d octets from a connection that should be closed", n)
			}
			if e := in.all(); len(e) != 0 {
				t.Errorf("events %+v for a stranger without a message, want none", e)
			}
			// After a message: ConnDown says why.
			nc = dialRaw(t, to)
			if _, err := nc.Write(append(message(4), c.stream...)); err != nil {
				t.Fatal(err)
			}
			_ = nc.(*net.TCPConn).CloseWrite()
			events := in.until(t, "ConnDown", has[gist.ConnDown])
			down, _ := find[gist.ConnDown](events)
			if !has[*gist.ConnMessage](events) || !errors.Is(down.Err, c.want) || !strings.Contains(down.Err.Error(), c.text) {
				t.Errorf("events %+v, want the message before, and ConnDown with %v", events, c.want)
			}
		})
	}
}

// RFC 5971 §A.1: "the receiver MUST if possible return a 'Common Header Parse
// Error'". The machine gets what it needs for that, the header, and what it
// sends before it closes arrives. Nothing else of the stream is read.
func TestTCPUnknownVersionIsHandedOn(t *testing.T) { overEach(t, checkUnknownVersionIsHandedOn) }

func checkUnknownVersionIsHandedOn(t *testing.T, o over) {
	if o.stack == gist.StackSCTP {
		return // our sender cannot cut it; TestSCTPUnknownVersionIsHandedOn
	}
	for name, before := range map[string]int{"first message": 0, "after another": 1} {
		t.Run(name, func(t *testing.T) {
			from, to, fromSink, toSink := pair(t, o, TCPConfig{CloseTimeout: patience}, TCPConfig{CloseTimeout: patience})
			for range before {
				send(t, from, 1, message(4))
			}
			strange := message(40)
			strange[0] = 2
			send(t, from, 1, strange)
			toSink.count(t, 1+before+1) // ConnAccepted first
			send(t, from, 1, message(8))
			events := toSink.count(t, 1+before+1)
			id := events[0].(gist.ConnAccepted).Conn
			if m := events[1+before].(*gist.ConnMessage); m.Conn != id || !bytes.Equal(m.Payload, strange[:wire.HeaderLen]) {
				t.Errorf("% x, want the common header", m.Payload)
			}
			send(t, to, id, message(12))
			if err := to.CloseConn(gist.CloseConn{Conn: id}); err != nil {
				t.Fatal(err)
			}
			answer := fromSink.until(t, "ConnDown", has[gist.ConnDown])
			if m, ok := find[*gist.ConnMessage](answer); !ok || !bytes.Equal(m.Payload, message(12)) {
				t.Errorf("events %+v, want the answer", answer)
			}
			if n := len(toSink.all()); n != 1+before+1 {
				t.Errorf("%d events %+v, want nothing after the strange header", n, toSink.all())
			}
		})
	}
}

// What is no GIST at all is of an unknown version, too.
func TestTCPGarbageIsOfAnUnknownVersion(t *testing.T) {
	for name, stream := range map[string]string{"HTTP": "GET / HTTP/1.1\r\n\r\n", "D-mode magic": "\x4e\x04\xbd\xa5\x01\x01\x00\x00"} {
		in := newSink()
		to := listenTCP(t, TCPConfig{Handler: in.handle, Listen: []netip.AddrPort{loopback4}})
		nc := dialRaw(t, to)
		write(t, nc, []byte(stream))
		_ = nc.(*net.TCPConn).CloseWrite()
		events := in.until(t, "ConnDown", has[gist.ConnDown])
		down, _ := find[gist.ConnDown](events)
		if len(events) != 3 || !errors.Is(down.Err, ErrFraming) || !strings.Contains(down.Err.Error(), ", want 1") {
			t.Errorf("%s: events %+v", name, events)
		}
		if n, err := nc.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read %d octets from a connection that should be closed", name, n)
		}
	}
}

// If neither the machine nor the peer closes, the connection ends by itself.
func TestTCPUnknownVersionEndsInTime(t *testing.T) {
	l, err := net.Listen("tcp", loopback4.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	out := newSink()
	from := listenTCP(t, TCPConfig{Handler: out.handle, MessageTimeout: 20 * time.Millisecond})
	if err := from.Connect(gist.Connect{Conn: 1, To: addrPort(l.Addr())}); err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	write(t, nc, []byte{2, 1, 0, 0, 0, 0, 0, 0})
	down, _ := find[gist.ConnDown](out.until(t, "ConnDown", has[gist.ConnDown]))
	if !errors.Is(down.Err, ErrFraming) {
		t.Errorf("error %v", down.Err)
	}
}

func TestTCPUnknownVersionIsATypedError(t *testing.T) {
	_, _, _, err := (&TCP{cfg: TCPConfig{MaxMessage: 1000}}).frame([]byte{2, 0, 0, 0, 0, 0, 0, 0})
	var bad *wire.ParseError
	if !errors.As(err, &bad) || bad.Report.ID != wire.UnknownVersion {
		t.Errorf("error %v, want a ParseError with Unknown Version", err)
	}
}

func TestTCPBackpressureClosesAndSaysSo(t *testing.T) { overEach(t, checkBackpressureClosesAndSaysSo) }

func checkBackpressureClosesAndSaysSo(t *testing.T, o over) {
	// The peer's handler blocks, so that its TCP window fills up.
	release := make(chan struct{})
	in := newSink()
	to := listenTCP(t, o.listens(TCPConfig{Handler: func(e []gist.Event) {
		<-release
		in.handle(e)
	}}))
	defer close(release)
	out := newSink()
	const queue = 100_000
	from := listenTCP(t, o.dials(TCPConfig{Handler: out.handle, QueueBytes: queue}))
	if err := from.Connect(gist.Connect{Conn: 1, To: to.LocalAddrs()[0], Stack: o.stack}); err != nil {
		t.Fatal(err)
	}
	out.count(t, 1)
	m := message(16000)
	var err error
	var queued int
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
		c := from.conn(1)
		err = from.Send(gist.SendConn{Conn: 1, Payload: m})
		c.mu.Lock()
		queued = max(queued, c.queued)
		c.mu.Unlock()
	}
	if !errors.Is(err, ErrBackpressure) {
		t.Fatalf("error %v, want ErrBackpressure", err)
	}
	if queued > queue {
		t.Errorf("%d octets were queued, want at most %d", queued, queue)
	}
	down := out.count(t, 2)[1].(gist.ConnDown)
	if down.Conn != 1 || !errors.Is(down.Err, ErrBackpressure) {
		t.Errorf("event %+v, want ConnDown with ErrBackpressure", down)
	}
	if err := from.Send(gist.SendConn{Conn: 1, Payload: m}); err == nil {
		t.Error("Send on a lost connection gave no error")
	}
}

// RFC 5971 §4.4.5: "GIST MUST close transport connections carrying reliable
// messages gracefully or report an error condition".
func TestTCPCloseConnDeliversWhatWasSentBefore(t *testing.T) {
	overEach(t, checkCloseConnDeliversWhatWasSentBefore)
}

func checkCloseConnDeliversWhatWasSentBefore(t *testing.T, o over) {
	from, to, fromSink, toSink := pair(t, o, TCPConfig{CloseTimeout: patience}, TCPConfig{})
	const n = 300
	for range n {
		send(t, from, 1, message(1000))
	}
	if err := from.CloseConn(gist.CloseConn{Conn: 1}); err != nil {
		t.Fatal(err)
	}
	if err := from.Send(gist.SendConn{Conn: 1, Payload: message(0)}); !errors.Is(err, ErrUnknownConn) {
		t.Errorf("Send after CloseConn: %v, want ErrUnknownConn", err)
	}
	events := toSink.until(t, "ConnDown", has[gist.ConnDown])
	messages := 0
	for _, ev := range events {
		if _, ok := ev.(*gist.ConnMessage); ok {
			messages++
		}
	}
	down := events[len(events)-1].(gist.ConnDown)
	if messages != n || !errors.Is(down.Err, io.EOF) {
		t.Errorf("%d messages, then %+v; want %d, then the end of the stream", messages, down, n)
	}
	waitNoConns(t, from)
	waitNoConns(t, to)
	if e := fromSink.all(); len(e) != 1 {
		t.Errorf("events %+v where the machine closed, want only ConnUp", e)
	}
}

func waitNoConns(t testing.TB, tcp *TCP) {
	t.Helper()
	for deadline := time.Now().Add(patience); tcp.Conns() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections left", tcp.Conns())
		}
		time.Sleep(time.Millisecond) // poll
	}
}

func TestTCPCloseConnWhileThePeerStillSends(t *testing.T) {
	overEach(t, checkCloseConnWhileThePeerStillSends)
}

func checkCloseConnWhileThePeerStillSends(t *testing.T, o over) {
	from, to, _, toSink := pair(t, o, TCPConfig{CloseTimeout: 50 * time.Millisecond}, TCPConfig{})
	send(t, from, 1, message(0))
	accepted := toSink.count(t, 2)[0].(gist.ConnAccepted)
	if err := from.CloseConn(gist.CloseConn{Conn: 1}); err != nil {
		t.Fatal(err)
	}
	for range 100 { // until the end of the stream has arrived
		if to.Send(gist.SendConn{Conn: accepted.Conn, Payload: message(100)}) != nil {
			break
		}
	}
	toSink.until(t, "ConnDown", has[gist.ConnDown])
	waitNoConns(t, from)
}

func TestTCPConnectFailureIsConnDown(t *testing.T) { overEach(t, checkConnectFailureIsConnDown) }

func checkConnectFailureIsConnDown(t *testing.T, o over) {
	gone := listenTCP(t, o.listens(TCPConfig{Handler: newSink().handle}))
	to := gone.LocalAddrs()[0]
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	out := newSink()
	from := listenTCP(t, o.dials(TCPConfig{Handler: out.handle}))
	if err := from.Connect(gist.Connect{Conn: 3, To: to, Stack: o.stack}); err != nil {
		t.Fatal(err)
	}
	down, ok := out.count(t, 1)[0].(gist.ConnDown)
	if !ok || down.Conn != 3 || down.Err == nil || !strings.Contains(down.Err.Error(), "refused") {
		t.Errorf("event %+v, want ConnDown of 3 with the reason", down)
	}
	if from.Conns() != 0 {
		t.Errorf("%d connections left", from.Conns())
	}
}

func TestTCPConnectUsesTheLocalAddress(t *testing.T) { overEach(t, checkConnectUsesTheLocalAddress) }

func checkConnectUsesTheLocalAddress(t *testing.T, o over) {
	in := newSink()
	to := listenTCP(t, o.listens(TCPConfig{Handler: in.handle}))
	from := listenTCP(t, o.dials(TCPConfig{Handler: newSink().handle}))
	local := netip.MustParseAddr("127.0.0.7")
	if err := from.Connect(gist.Connect{Conn: 1, Local: local, To: to.LocalAddrs()[0], Stack: o.stack}); err != nil {
		t.Fatal(err)
	}
	send(t, from, 1, message(0)) // already while it is being opened
	if a := in.count(t, 2)[0].(gist.ConnAccepted); a.Remote.Addr() != local {
		t.Errorf("connection from %v, want %v", a.Remote, local)
	}
}

func TestTCPCloseConnWhileConnecting(t *testing.T) { overEach(t, checkCloseConnWhileConnecting) }

func checkCloseConnWhileConnecting(t *testing.T, o over) {
	in, out := newSink(), newSink()
	to := listenTCP(t, o.listens(TCPConfig{Handler: in.handle}))
	from := listenTCP(t, o.dials(TCPConfig{Handler: out.handle, CloseTimeout: patience}))
	for id := gist.ConnID(1); id < 40; id += 2 {
		if err := from.Connect(gist.Connect{Conn: id, To: to.LocalAddrs()[0], Stack: o.stack}); err != nil {
			t.Fatal(err)
		}
		send(t, from, id, message(0))
		if err := from.CloseConn(gist.CloseConn{Conn: id}); err != nil {
			t.Fatal(err)
		}
	}
	in.until(t, "what was sent before", func(events []gist.Event) bool {
		n := 0
		for _, ev := range events {
			if _, ok := ev.(*gist.ConnMessage); ok {
				n++
			}
		}
		return n == 20
	})
	if err := from.Connect(gist.Connect{Conn: 99, To: to.LocalAddrs()[0], Stack: o.stack}); err != nil {
		t.Fatal(err)
	}
	if err := from.CloseConn(gist.CloseConn{Conn: 99}); err != nil { // nothing sent: not even opened
		t.Fatal(err)
	}
	waitNoConns(t, from)
	if has[gist.ConnDown](out.all()) {
		t.Errorf("events %+v, want no ConnDown where the machine closed", out.all())
	}
}

func TestTCPConnectErrors(t *testing.T) { overEach(t, checkConnectErrors) }

func checkConnectErrors(t *testing.T, o over) {
	from, to, _, _ := pair(t, o, TCPConfig{}, TCPConfig{})
	if err := from.Connect(gist.Connect{Conn: 1, To: to.LocalAddrs()[0], Stack: o.stack}); !errors.Is(err, ErrDuplicateConn) {
		t.Errorf("Connect with an id in use: %v, want ErrDuplicateConn", err)
	}
	if err := from.Send(gist.SendConn{Conn: 5}); !errors.Is(err, ErrUnknownConn) {
		t.Errorf("Send: %v, want ErrUnknownConn", err)
	}
	if err := from.CloseConn(gist.CloseConn{Conn: 5}); !errors.Is(err, ErrUnknownConn) {
		t.Errorf("CloseConn: %v, want ErrUnknownConn", err)
	}
	if err := from.Send(gist.SendConn{Conn: 1, Payload: make([]byte, 70000)}); !errors.Is(err, ErrMessageTooLong) {
		t.Errorf("Send of 70000 octets: %v, want ErrMessageTooLong", err)
	}
	send(t, from, 1, message(0)) // that did no harm
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if err := from.Connect(gist.Connect{Conn: 7, To: to.LocalAddrs()[0], Stack: o.stack}); !errors.Is(err, ErrClosed) {
		t.Errorf("Connect after Close: %v, want ErrClosed", err)
	}
}

func TestTCPLimitsAcceptedConnections(t *testing.T) {
	in, errs := newSink(), make(errorSink, 10)
	to := listenTCP(t, TCPConfig{
		Handler: in.handle, Listen: []netip.AddrPort{loopback4}, OnError: errs.hear,
		MaxAccepted: 3, MaxPerPeer: 2,
	})
	dialFrom := func(a string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a)}}
		nc, err := d.Dial("tcp", to.LocalAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = nc.Write(message(0)) // may meet a connection closed already
		return nc
	}
	one := dialFrom("127.0.0.1")
	dialFrom("127.0.0.1")
	in.count(t, 4)
	dialFrom("127.0.0.1")
	if err := errs.next(t); !errors.Is(err, ErrTooManyConns) || !strings.Contains(err.Error(), "from 127.0.0.1") {
		t.Errorf("third from one address: %v, want ErrTooManyConns that names it", err)
	}
	dialFrom("127.0.0.2")
	in.count(t, 6)
	dialFrom("127.0.0.3")
	if err := errs.next(t); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("fourth: %v, want ErrTooManyConns", err)
	}
	_ = one.Close() // makes room
	in.until(t, "ConnDown", has[gist.ConnDown])
	dialFrom("127.0.0.1")
	in.count(t, 9)
}

// pipe returns a transport in a synctest bubble, and the far end of a connection
// that it accepted: time is the bubble's.
func pipe(t *testing.T, cfg TCPConfig) (*TCP, net.Conn) {
	t.Helper()
	tcp := listenTCP(t, cfg)
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	if err := tcp.admit(near, gist.StackTCP); err != nil {
		t.Fatal(err)
	}
	return tcp, far
}

func write(t *testing.T, nc net.Conn, b []byte) {
	t.Helper()
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestTCPStrangersFirstMessageHasToComeInTime(t *testing.T) {
	for name, octets := range map[string]int{"nothing": 0, "a part": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in, errs := newSink(), make(errorSink, 1)
				tcp, far := pipe(t, TCPConfig{Handler: in.handle, OnError: errs.hear, MessageTimeout: time.Second})
				time.Sleep(999 * time.Millisecond) // synctest
				write(t, far, message(0)[:octets])
				synctest.Wait()
				if tcp.Conns() != 1 {
					t.Fatal("the connection was closed too early")
				}
				time.Sleep(2 * time.Millisecond) // synctest
				synctest.Wait()
				if err := errs.next(t); !errors.Is(err, ErrIdle) {
					t.Errorf("error %v, want ErrIdle", err)
				}
				if e := in.all(); len(e) != 0 || tcp.Conns() != 0 {
					t.Errorf("events %+v and %d connections, want none", e, tcp.Conns())
				}
			})
		})
	}
}

func TestTCPRestOfAMessageHasToComeInTimeButNotTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newSink()
		tcp, far := pipe(t, TCPConfig{Handler: in.handle, MessageTimeout: time.Second})
		write(t, far, message(0))
		// Silence between messages is the machine's business; only after the
		// first octets of one does time count, and trickling does not help.
		time.Sleep(time.Hour) // synctest
		synctest.Wait()
		if len(in.all()) != 2 || tcp.Conns() != 1 {
			t.Fatalf("events %+v, want ConnAccepted and a message on an idle connection", in.all())
		}
		write(t, far, message(0)[:3])
		time.Sleep(700 * time.Millisecond) // synctest
		write(t, far, message(0)[3:6])
		time.Sleep(700 * time.Millisecond) // synctest
		synctest.Wait()
		down, _ := find[gist.ConnDown](in.all())
		if !errors.Is(down.Err, ErrIdle) {
			t.Errorf("ConnDown with %v, want ErrIdle", down.Err)
		}
	})
}

// A peer that does not read must not pin memory for ever.
func TestTCPWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newSink()
		tcp, far := pipe(t, TCPConfig{Handler: in.handle, WriteTimeout: time.Minute})
		write(t, far, message(0))
		id := in.count(t, 2)[0].(gist.ConnAccepted).Conn
		send(t, tcp, id, message(100)) // a pipe has no buffer: nobody takes it
		time.Sleep(59 * time.Second)   // synctest
		synctest.Wait()
		if has[gist.ConnDown](in.all()) {
			t.Fatal("the connection was closed too early")
		}
		time.Sleep(2 * time.Second) // synctest
		synctest.Wait()
		down, _ := find[gist.ConnDown](in.all())
		if !errors.Is(down.Err, os.ErrDeadlineExceeded) {
			t.Errorf("ConnDown with %v, want a timeout", down.Err)
		}
	})
}

func TestTCPCloseIsBoundedWithASilentPeer(t *testing.T) {
	l, err := net.Listen("tcp", loopback4.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	out := newSink()
	from := listenTCP(t, TCPConfig{Handler: out.handle, CloseTimeout: 20 * time.Millisecond})
	if err := from.Connect(gist.Connect{Conn: 1, To: addrPort(l.Addr())}); err != nil {
		t.Fatal(err)
	}
	out.count(t, 1)
	if err := from.Close(); err != nil { // the peer never closes its side
		t.Fatal(err)
	}
	if from.Conns() != 0 {
		t.Errorf("%d connections after Close", from.Conns())
	}
}

func TestTCPPayloadsAreTheReceivers(t *testing.T) { overEach(t, checkPayloadsAreTheReceivers) }

func checkPayloadsAreTheReceivers(t *testing.T, o over) {
	from, _, _, toSink := pair(t, o, TCPConfig{}, TCPConfig{})
	for i := range 20 {
		m := message(40)
		m[1] = byte(i)
		send(t, from, 1, m)
		toSink.count(t, i+2)
	}
	for i, ev := range toSink.all()[1:] {
		if m := ev.(*gist.ConnMessage); m.Payload[1] != byte(i) || cap(m.Payload) != len(m.Payload) {
			t.Errorf("message %d was changed after it was delivered", i)
		}
	}
}

func ExampleTCP() {
	answered := make(chan []byte, 1)
	server, err := ListenTCP(TCPConfig{
		Listen:  []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Handler: func([]gist.Event) {},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Close() }()
	client, err := ListenTCP(TCPConfig{Handler: func(events []gist.Event) {
		for _, ev := range events {
			fmt.Printf("%T\n", ev)
			answered <- nil
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()
	if err := client.Connect(gist.Connect{Conn: 1, To: server.LocalAddrs()[0]}); err != nil {
		fmt.Println(err)
	}
	<-answered
	// Output: gist.ConnUp
}
