package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// packets stand in for the kernel's SCTP: Unix sockets that keep the boundaries
// of packets, under names made of addresses. What is received comes in parts, as
// SCTP does where a user message is longer than the buffer.
type packets struct {
	prefix string
	part   int // octets

	port  atomic.Uint32
	mu    sync.Mutex
	rest  map[int][]byte // of the packet that is being received, by socket
	sent  map[uint16]int // by stream
	count int            // streams
}

const partOfPacket = 1000

var packetNets atomic.Uint32

func newPackets(part int) *packets {
	p := &packets{
		prefix: fmt.Sprintf("@interqos-%d-%d/", os.Getpid(), packetNets.Add(1)), part: part,
		rest: make(map[int][]byte), sent: make(map[uint16]int), count: sctpStreams,
	}
	p.port.Store(40000)
	return p
}

func (p *packets) sockaddr(a netip.AddrPort) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: p.prefix + a.String()}
}

func (p *packets) addrPort(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(strings.TrimPrefix(sa.(*unix.SockaddrUnix).Name, p.prefix))
}

func (p *packets) fresh(fd int) {
	p.mu.Lock()
	delete(p.rest, fd)
	p.mu.Unlock()
}

func (p *packets) socket(local netip.AddrPort) (int, error) {
	if local.Port() == 0 {
		local = netip.AddrPortFrom(local.Addr(), uint16(p.port.Add(1)))
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	p.fresh(fd)
	if err := unix.Bind(fd, p.sockaddr(local)); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (p *packets) connect(fd int, to netip.AddrPort) error { return unix.Connect(fd, p.sockaddr(to)) }

func (p *packets) accept(listener int) (int, netip.AddrPort, error) {
	fd, sa, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	p.fresh(fd)
	remote, err := p.addrPort(sa, nil)
	return fd, remote, err
}

func (p *packets) localAddr(fd int) (netip.AddrPort, error) { return p.addrPort(unix.Getsockname(fd)) }

func (p *packets) remoteAddr(fd int) (netip.AddrPort, error) { return p.addrPort(unix.Getpeername(fd)) }

func (p *packets) streams(int) (int, error) { return p.count, nil }

func (p *packets) recv(fd int, b []byte) (n int, end bool, err error) {
	p.mu.Lock()
	rest := p.rest[fd]
	p.mu.Unlock()
	if len(rest) == 0 {
		whole := make([]byte, wire.MaxMessageLen+1)
		n, _, err := unix.Recvfrom(fd, whole, 0)
		if n <= 0 || err != nil {
			return 0, false, err
		}
		rest = whole[:n]
	}
	n = copy(b[:min(len(b), p.part)], rest)
	p.mu.Lock()
	p.rest[fd] = rest[n:]
	p.mu.Unlock()
	return n, n == len(rest), nil
}

func (p *packets) send(fd int, b []byte, stream uint16) error {
	_, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL)
	if err == nil {
		p.mu.Lock()
		p.sent[stream]++
		p.mu.Unlock()
	}
	return err
}

// sctpPair is pair over packets.
func sctpPair(t *testing.T, p *packets) (from, to *TCP, fromSink, toSink *sink) {
	return pair(t, over{gist.StackSCTP, &SCTP{p}}, TCPConfig{}, TCPConfig{})
}

// rawPackets connects to a transport without one.
func rawPackets(t *testing.T, p *packets, to *TCP) (fd int) {
	t.Helper()
	fd, err := p.socket(netip.MustParseAddrPort("127.0.0.9:0"))
	if err == nil {
		all := to.LocalAddrs()
		err = p.connect(fd, all[len(all)-1])
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// ofSession is a Data message of a session.
func ofSession(sid wire.SID, n int) []byte {
	m, err := wire.Parse(message(n))
	if err != nil {
		panic(err)
	}
	m.SID = sid
	return m.Append(nil)
}

// RFC 6084: all messages of a session go on one stream, which is the same in both
// directions.
func TestSCTPStreamOfASession(t *testing.T) {
	p := newPackets(partOfPacket)
	from, to, _, toSink := sctpPair(t, p)
	const sessions = 200
	sids := make([]wire.SID, sessions)
	perStream := make(map[uint16]int)
	for i := range sids {
		binary.BigEndian.PutUint64(sids[i][8:], uint64(i)*0x9e3779b97f4a7c15)
		stream := streamOf(ofSession(sids[i], 0), p.count)
		if again := streamOf(ofSession(sids[i], 400), p.count); again != stream || int(stream) >= p.count {
			t.Fatalf("session %d: streams %d and %d", i, stream, again)
		}
		perStream[stream] += 2
		send(t, from, 1, ofSession(sids[i], 40))
	}
	if len(perStream) < p.count/2 {
		t.Errorf("%d sessions share %d streams of %d", sessions, len(perStream), p.count)
	}
	accepted := toSink.count(t, sessions+1)[0].(gist.ConnAccepted)
	if accepted.Stack != gist.StackSCTP || accepted.Certificate != nil {
		t.Errorf("%+v, want SCTP without a certificate", accepted)
	}
	for _, sid := range sids {
		send(t, to, accepted.Conn, ofSession(sid, 40))
	}
	waitFor(t, "the answers", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		n := 0
		for _, k := range p.sent {
			n += k
		}
		return n == 2*sessions
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for stream, n := range p.sent {
		if perStream[stream] != n {
			t.Errorf("stream %d: %d messages, want %d", stream, n, perStream[stream])
		}
	}
	hello := wire.Message{Header: wire.Header{Type: wire.MAHello}}
	if s := streamOf(hello.Append(nil), p.count); s != 0 {
		t.Errorf("what belongs to no session goes on stream %d, want 0", s)
	}
	if s := streamOf(ofSession(sids[7], 0), 1); s != 0 {
		t.Errorf("with one stream a message goes on stream %d", s)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		time.Sleep(time.Millisecond) // poll
	}
}

// A message of SCTP that is not one GIST message ends the association, and
// nothing of it is delivered.
func TestSCTPRefusesWhatIsNotOneMessage(t *testing.T) {
	long := message(0)
	long[2], long[3] = 0xff, 0xff
	for name, c := range map[string]struct {
		packet []byte
		want   error
		text   string
	}{
		"two":         {append(message(8), message(8)...), ErrFraming, "says it has 60"},
		"cut off":     {message(8)[:40], ErrFraming, "40 octets of one that says it has 60"},
		"a header":    {message(8)[:5], ErrFraming, "5 octets of one that says it has 0"},
		"an octet":    {append(message(8), 0), ErrFraming, "61 octets or more of one that says it has 60"},
		"a long one":  {long, ErrFraming, "64 octets of one that says it has 262148"},
		"really long": {append(long, make([]byte, 90000)...), ErrMessageTooLong, "262148 octets, want at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPackets(partOfPacket)
			in, errs := newSink(), make(errorSink, 1)
			to := listenTCP(t, over{gist.StackSCTP, &SCTP{p}}.listens(TCPConfig{Handler: in.handle, OnError: errs.hear}))
			if name == "a long one" {
				c.text = fmt.Sprintf("%d octets of one", len(c.packet))
			}
			stranger := rawPackets(t, p, to)
			if err := p.send(stranger, c.packet, 0); err != nil {
				t.Fatal(err)
			}
			if err := errs.next(t); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want %q with %q", err, c.want, c.text)
			}
			if e := in.all(); len(e) != 0 {
				t.Errorf("events %+v for a stranger without a message", e)
			}
			peer := rawPackets(t, p, to)
			for _, b := range [][]byte{message(4), c.packet} {
				if err := p.send(peer, b, 0); err != nil {
					t.Fatal(err)
				}
			}
			events := in.until(t, "ConnDown", has[gist.ConnDown])
			down, _ := find[gist.ConnDown](events)
			if len(events) != 3 || !errors.Is(down.Err, c.want) || !strings.Contains(down.Err.Error(), "127.0.0.9") {
				t.Errorf("events %+v, want one message, then ConnDown that names the peer", events)
			}
		})
	}
}

func TestSCTPEndInTheMiddle(t *testing.T) {
	p := newPackets(partOfPacket)
	from, to, fromSink, toSink := sctpPair(t, p)
	send(t, from, 1, message(0))
	toSink.count(t, 2)
	if err := to.Close(); err != nil { // both ends, in order
		t.Fatal(err)
	}
	down := fromSink.count(t, 2)[1].(gist.ConnDown)
	if !errors.Is(down.Err, io.EOF) {
		t.Errorf("ConnDown with %v, want the end of the stream", down.Err)
	}
	waitNoConns(t, from)
}

func TestSCTPConnectIsBounded(t *testing.T) {
	p := newPackets(partOfPacket)
	s := &SCTP{p}
	l, err := s.listen(loopback4)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	// Nobody accepts, and nothing answers: the socket stays unconnected.
	silent := &SCTP{silentKernel{p}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := silent.dial(ctx, loopback4.Addr(), addrPort(l.Addr())); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "dial sctp 127.0.0.1:") {
		t.Errorf("dial: %v, want the deadline and where to", err)
	}
	out := newSink()
	from := listenTCP(t, TCPConfig{Handler: out.handle, SCTP: silent, DialTimeout: 10 * time.Millisecond})
	if err := from.Connect(gist.Connect{Conn: 1, Local: loopback4.Addr(), To: addrPort(l.Addr()), Stack: gist.StackSCTP}); err != nil {
		t.Fatal(err)
	}
	if down, ok := out.count(t, 1)[0].(gist.ConnDown); !ok || !errors.Is(down.Err, context.DeadlineExceeded) {
		t.Errorf("event %+v, want ConnDown", down)
	}
}

// silentKernel never gets an answer to a connect.
type silentKernel struct{ *packets }

func (silentKernel) connect(int, netip.AddrPort) error { return unix.EINPROGRESS }

func TestSCTPNeedsToBeConfigured(t *testing.T) {
	if _, err := ListenTCP(TCPConfig{Handler: newSink().handle, ListenSCTP: []netip.AddrPort{loopback4}}); err == nil || !strings.Contains(err.Error(), "without SCTP") {
		t.Errorf("ListenSCTP without SCTP: %v", err)
	}
	tcp := listenTCP(t, TCPConfig{Handler: newSink().handle})
	if err := tcp.Connect(gist.Connect{Conn: 1, To: loopback4, Stack: gist.StackSCTP}); !errors.Is(err, ErrNoStack) {
		t.Errorf("Connect: %v, want ErrNoStack", err)
	}
	p := newPackets(partOfPacket)
	one := listenTCP(t, over{gist.StackSCTP, &SCTP{p}}.listens(TCPConfig{Handler: newSink().handle}))
	if _, err := ListenTCP(TCPConfig{Handler: newSink().handle, SCTP: &SCTP{p}, ListenSCTP: one.LocalAddrs()}); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "gist SCTP: listen on 127.0.0.1:") {
		t.Errorf("the same address twice: %v", err)
	}
}

// TCP, TLS and SCTP of one transport share ConnIDs and limits.
func TestSCTPBesideTCP(t *testing.T) {
	p := newPackets(partOfPacket)
	in, errs := newSink(), make(errorSink, 10)
	to := listenTCP(t, TCPConfig{
		Handler: in.handle, OnError: errs.hear, Listen: []netip.AddrPort{loopback4}, ListenSCTP: []netip.AddrPort{loopback4}, SCTP: &SCTP{p}, MaxAccepted: 2,
	})
	from := listenTCP(t, TCPConfig{Handler: newSink().handle, SCTP: &SCTP{p}})
	for i, stack := range []gist.Stack{gist.StackTCP, gist.StackSCTP} {
		id := gist.ConnID(2*i + 1)
		if err := from.Connect(gist.Connect{Conn: id, Local: loopback4.Addr(), To: to.LocalAddrs()[i], Stack: stack}); err != nil {
			t.Fatal(err)
		}
		send(t, from, id, message(0))
		in.count(t, 2*i+2)
	}
	first, second := in.all()[0].(gist.ConnAccepted), in.all()[2].(gist.ConnAccepted)
	if first.Stack != gist.StackTCP || second.Stack != gist.StackSCTP || first.Conn == second.Conn {
		t.Errorf("%+v, %+v", first, second)
	}
	_ = rawPackets(t, p, to)
	if err := errs.next(t); !errors.Is(err, ErrTooManyConns) {
		t.Errorf("a third: %v, want ErrTooManyConns", err)
	}
}

// What goes to the kernel and comes from it, octet by octet: RFC 6458, as
// linux/sctp.h lays it out.
func TestSCTPStructures(t *testing.T) {
	u16 := func(n uint16) []byte { return binary.NativeEndian.AppendUint16(nil, n) }
	u32 := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	if got, want := initMsg(64), bytes.Join([][]byte{u16(64), u16(64), u16(0), u16(0)}, nil); !bytes.Equal(got, want) {
		t.Errorf("sctp_initmsg % x, want % x", got, want)
	}
	status := make([]byte, statusLen)
	copy(status, bytes.Join([][]byte{u32(1), u32(4), u32(100000), u16(5), u16(6), u16(10), u16(64), u32(1452)}, nil))
	if n, err := streamsIn(status); n != 10 || err != nil {
		t.Errorf("%d streams, %v; want the smaller of 10 and 64", n, err)
	}
	if _, err := streamsIn(status[:10]); err == nil {
		t.Error("a short sctp_status is no error")
	}
	list, err := unix.ParseSocketControlMessage(sndInfo(7))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d control messages, %v", len(list), err)
	}
	if h := list[0].Header; h.Level != unix.IPPROTO_SCTP || h.Type != sctpSndInfo {
		t.Errorf("control message %d of level %d", h.Type, h.Level)
	}
	if got, want := list[0].Data, append(u16(7), make([]byte, sndInfoLen-2)...); !bytes.Equal(got, want) {
		t.Errorf("sctp_sndinfo % x, want % x", got, want)
	}
	for _, text := range []string{"127.0.0.1:270", "[2001:db8::1]:271"} {
		a := netip.MustParseAddrPort(text)
		if back, err := sctpAddrPort(sctpSockaddr(a), nil); back != a || err != nil {
			t.Errorf("%v came back as %v, %v", a, back, err)
		}
	}
}

// As over TCP: the machine gets the header, and nothing after it.
func TestSCTPUnknownVersionIsHandedOn(t *testing.T) {
	p, in := newPackets(partOfPacket), newSink()
	to := listenTCP(t, over{gist.StackSCTP, &SCTP{p}}.listens(TCPConfig{Handler: in.handle}))
	peer := rawPackets(t, p, to)
	strange := message(40)
	strange[0] = 2
	for _, b := range [][]byte{message(4), strange, message(8)} {
		if err := p.send(peer, b, 0); err != nil {
			t.Fatal(err)
		}
	}
	events := in.count(t, 3)
	if m, ok := events[2].(*gist.ConnMessage); !ok || !bytes.Equal(m.Payload, strange[:wire.HeaderLen]) {
		t.Fatalf("events %+v, want the common header", events)
	}
	if err := to.CloseConn(gist.CloseConn{Conn: events[2].(*gist.ConnMessage).Conn}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the connection to end", func() bool { return to.Conns() == 0 })
	if events := in.all(); len(events) != 3 {
		t.Errorf("events %+v, want nothing after the common header", events)
	}
}

// Parts of messages, in any cut: what is accepted is whole messages, one a user
// message.
func FuzzSCTPFrame(f *testing.F) {
	f.Add(message(8), uint16(7), true)
	f.Add(append(message(8), message(0)...), uint16(3), true)
	f.Add(message(40)[:20], uint16(100), false)
	f.Add([]byte("GET / HTTP/1.1"), uint16(4), true)
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, end bool) {
		var m messageFrame
		size := int(cut%1000) + 1
		var err error
		for rest := b; len(rest) > 0 && err == nil; {
			n := min(size, len(rest))
			err = m.add(rest[:n], end && n == len(rest))
			rest = rest[n:]
		}
		whole := 0
		if len(b) >= wire.HeaderLen {
			var foreign error
			if whole, foreign = wire.MessageLength(b[:wire.HeaderLen]); foreign != nil {
				if err != nil || end != (m == messageFrame{}) {
					t.Errorf("of a version that is not known: %v, %+v", err, m)
				}
				return
			}
		}
		switch {
		case len(b) == 0:
		case end && (err == nil) != (whole == len(b)):
			t.Errorf("%d octets of a message of %d: %v", len(b), whole, err)
		case end && err == nil && (m.have != 0 || m.want != 0):
			t.Errorf("%d octets of %d are left over", m.have, m.want)
		case !end && err == nil && len(b) >= wire.HeaderLen && len(b) >= whole:
			t.Errorf("%d octets of a message of %d, and it goes on", len(b), whole)
		}
	})
}

// The tests of overEach go over the kernel's SCTP where it has one.
func TestSCTPOfTheKernel(t *testing.T) {
	sctp, err := NewSCTP()
	if err != nil {
		if !errors.Is(err, ErrNoSCTP) {
			t.Errorf("error %v, want ErrNoSCTP", err)
		}
		t.Skipf("only SCTP's framing was tested: %v", err)
	}
	for _, at := range []netip.AddrPort{loopback4, netip.MustParseAddrPort("[::1]:0")} {
		t.Run(at.String(), func(t *testing.T) {
			in, out := newSink(), newSink()
			to := listenTCP(t, TCPConfig{Handler: in.handle, ListenSCTP: []netip.AddrPort{at}, SCTP: sctp})
			from := listenTCP(t, TCPConfig{Handler: out.handle, SCTP: sctp})
			if err := from.Connect(gist.Connect{Conn: 1, To: to.LocalAddrs()[0], Stack: gist.StackSCTP}); err != nil {
				t.Fatal(err)
			}
			const n = 100
			for i := range n {
				send(t, from, 1, ofSession(wire.SID{15: byte(i)}, 4*i))
			}
			sizes := make(map[int]bool)
			for _, ev := range in.count(t, n+1)[1:] { // streams may overtake each other
				sizes[len(ev.(*gist.ConnMessage).Payload)] = true
			}
			if len(sizes) != n {
				t.Errorf("%d messages of different sizes, want %d", len(sizes), n)
			}
		})
	}
}
