package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist/wire"
)

// Forwards-SCTP, RFC 6084: one SCTP association is one connection. A message is
// one user message of SCTP, on the stream of its session, so that a lost packet
// holds up only the sessions of its stream. Not used are several addresses of a
// node, partial reliability, and DTLS.

// SCTP makes the sockets of Forwards-SCTP.
type SCTP struct{ kernel sctpKernel }

// sctpStreams is how many streams we ask for, in each direction. RFC 6084
// leaves to local policy which sessions share one.
const sctpStreams = 64

// sctpKernel is what the sockets of SCTP have of their own; sockets do not block.
type sctpKernel interface {
	// socket makes a socket with a local address.
	socket(local netip.AddrPort) (fd int, err error)
	// connect begins to connect it; unix.EINPROGRESS: it will be writable.
	connect(fd int, to netip.AddrPort) error
	accept(listener int) (fd int, remote netip.AddrPort, err error)
	// localAddr and remoteAddr are those of a socket.
	localAddr(fd int) (netip.AddrPort, error)
	remoteAddr(fd int) (netip.AddrPort, error)
	// streams is how many an association has in both directions.
	streams(fd int) (int, error)
	// recv gets a user message or the next part of one; end says that it was
	// the last part. n is 0 at the end of the association.
	recv(fd int, b []byte) (n int, end bool, err error)
	// send sends one whole user message.
	send(fd int, b []byte, stream uint16) error
}

// NewSCTP returns what Forwards-SCTP needs, or why this machine has none.
func NewSCTP() (*SCTP, error) {
	if err := SCTPAvailable(); err != nil {
		return nil, err
	}
	return &SCTP{linuxSCTP{}}, nil
}

// sctpAddr is an address of SCTP as a net.Addr.
type sctpAddr struct{ netip.AddrPort }

// Network is "sctp".
func (sctpAddr) Network() string { return "sctp" }

func (s *SCTP) opError(op string, a netip.AddrPort, err error) error {
	return &net.OpError{Op: op, Net: "sctp", Addr: sctpAddr{a}, Err: err}
}

// waitError is why the runtime did not wait for a socket: a deadline, or that we
// have closed it, for which package os has no error of its own.
func waitError(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return net.ErrClosed
}

// pollable hands a socket to the runtime, which waits for it.
func pollable(fd int) (*os.File, syscall.RawConn, error) {
	f := os.NewFile(uintptr(fd), "sctp")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, raw, nil
}

// again says that a socket has nothing to give or to take now.
func again(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// sctpListener accepts associations.
type sctpListener struct {
	s     *SCTP
	file  *os.File
	raw   syscall.RawConn
	local netip.AddrPort
}

const sctpBacklog = 128

func (s *SCTP) listen(addr netip.AddrPort) (net.Listener, error) {
	fd, err := s.kernel.socket(addr)
	if err != nil {
		return nil, s.opError("listen", addr, err)
	}
	l := &sctpListener{s: s}
	if err = unix.Listen(fd, sctpBacklog); err == nil {
		l.local, err = s.kernel.localAddr(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, s.opError("listen", addr, err)
	}
	if l.file, l.raw, err = pollable(fd); err != nil {
		return nil, s.opError("listen", addr, err)
	}
	return l, nil
}

// Accept waits for the next association.
func (l *sctpListener) Accept() (net.Conn, error) {
	var fd int
	var remote netip.AddrPort
	var aerr error
	err := l.raw.Read(func(listener uintptr) bool {
		fd, remote, aerr = l.s.kernel.accept(int(listener))
		return !again(aerr)
	})
	if err = waitError(err); err == nil {
		err = aerr
	}
	if err != nil {
		return nil, l.s.opError("accept", l.local, err)
	}
	return l.s.newConn(fd, remote)
}

// Close ends Accept.
func (l *sctpListener) Close() error { return l.file.Close() }

// Addr is where it listens.
func (l *sctpListener) Addr() net.Addr { return sctpAddr{l.local} }

// dial opens an association. An invalid local address leaves the choice to the
// kernel.
func (s *SCTP) dial(ctx context.Context, local netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if to.Addr().Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	fd, err := s.kernel.socket(netip.AddrPortFrom(local, 0))
	if err != nil {
		return nil, s.opError("dial", to, err)
	}
	// What waits for a socket has to come after connect: before, the socket
	// looks as if it had been hung up.
	if err := s.kernel.connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return nil, s.opError("dial", to, err)
	}
	f, raw, err := pollable(fd)
	if err != nil {
		return nil, s.opError("dial", to, err)
	}
	if err := s.connected(ctx, f, raw); err != nil {
		_ = f.Close()
		return nil, s.opError("dial", to, err)
	}
	c, err := s.conn(f, raw, fd, to)
	if err != nil {
		return nil, s.opError("dial", to, err)
	}
	return c, nil
}

// connected waits until an association stands or ctx has ended.
func (s *SCTP) connected(ctx context.Context, f *os.File, raw syscall.RawConn) error {
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failure error
	err := raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failure = err
		case code != 0:
			failure = unix.Errno(code)
		default:
			_, err := s.kernel.remoteAddr(int(fd))
			return err == nil // not yet: ENOTCONN
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err = waitError(err); err == nil {
		err = failure
	}
	return err
}

// newConn serves a socket that was accepted.
func (s *SCTP) newConn(fd int, remote netip.AddrPort) (net.Conn, error) {
	f, raw, err := pollable(fd)
	if err != nil {
		return nil, s.opError("accept", remote, err)
	}
	c, err := s.conn(f, raw, fd, remote)
	if err != nil {
		return nil, s.opError("accept", remote, err)
	}
	return c, nil
}

// conn makes a connection of an association that stands.
func (s *SCTP) conn(f *os.File, raw syscall.RawConn, fd int, remote netip.AddrPort) (*sctpConn, error) {
	local, err := s.kernel.localAddr(fd)
	streams := 0
	if err == nil {
		streams, err = s.kernel.streams(fd)
	}
	if err == nil && streams < 1 {
		err = fmt.Errorf("an association of %d streams", streams)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	c := &sctpConn{kernel: s.kernel, file: f, raw: raw, local: local, remote: remote, streams: streams}
	c.recv, c.send = c.tryRecv, c.trySend
	return c, nil
}

// sctpConn is an association as a net.Conn of whole messages: each Write is one,
// and what Read returns are the octets of messages, one after the other, of
// which each was one user message of SCTP.
type sctpConn struct {
	kernel        sctpKernel
	file          *os.File
	raw           syscall.RawConn
	local, remote netip.AddrPort
	streams       int

	// The reader's.
	recv  func(fd uintptr) bool // made once, not for each read
	in    []byte
	n     int
	end   bool
	rerr  error
	frame messageFrame

	// The writer's.
	send   func(fd uintptr) bool
	out    []byte
	stream uint16
	werr   error
}

func (c *sctpConn) tryRecv(fd uintptr) bool {
	c.n, c.end, c.rerr = c.kernel.recv(int(fd), c.in)
	return !again(c.rerr)
}

// Read returns a user message or a part of one.
func (c *sctpConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.in = b
	err := c.raw.Read(c.recv)
	c.in = nil
	if err = waitError(err); err == nil {
		err = c.rerr
	}
	switch {
	case err != nil:
		return 0, err
	case c.n == 0:
		return 0, io.EOF
	}
	if err := c.frame.add(b[:c.n], c.end); err != nil {
		return 0, fmt.Errorf("from %v: %w", c.remote, err)
	}
	return c.n, nil
}

func (c *sctpConn) trySend(fd uintptr) bool {
	c.werr = c.kernel.send(int(fd), c.out, c.stream)
	return !again(c.werr)
}

// Write sends one message.
func (c *sctpConn) Write(b []byte) (int, error) {
	c.out, c.stream = b, streamOf(b, c.streams)
	err := c.raw.Write(c.send)
	c.out = nil
	if err = waitError(err); err == nil {
		err = c.werr
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// streamOf is the stream of a message's session: a session's messages stay in
// order only if all go on one (RFC 6084). Both ends find the same one, if they
// have the same number of them. What belongs to no session has the first.
func streamOf(message []byte, streams int) uint16 {
	sid, ok := wire.MessageSID(message)
	if !ok {
		return 0
	}
	// Any part of a SID is as random as the others.
	return uint16(binary.BigEndian.Uint64(sid[8:]) % uint64(min(streams, sctpStreams)))
}

// CloseWrite ends the association after what was sent before.
func (c *sctpConn) CloseWrite() error {
	var serr error
	if err := c.raw.Control(func(fd uintptr) { serr = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return net.ErrClosed
	}
	return serr
}

// The rest of a net.Conn.

func (c *sctpConn) Close() error                       { return c.file.Close() }
func (c *sctpConn) LocalAddr() net.Addr                { return sctpAddr{c.local} }
func (c *sctpConn) RemoteAddr() net.Addr               { return sctpAddr{c.remote} }
func (c *sctpConn) SetDeadline(t time.Time) error      { return c.file.SetDeadline(t) }
func (c *sctpConn) SetReadDeadline(t time.Time) error  { return c.file.SetReadDeadline(t) }
func (c *sctpConn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// messageFrame checks that user messages of SCTP are GIST messages, part by part.
type messageFrame struct {
	head [wire.HeaderLen]byte
	have int // octets of this message
	want int // how many it says that it has; 0: not known yet
	// It is of a version of GIST that is not known, and so is its length: who
	// reads the stream will see.
	foreign bool
}

var errRecord = fmt.Errorf("%w: a user message of SCTP is not one GIST message", ErrFraming)

func (m *messageFrame) add(part []byte, end bool) error {
	if m.have < len(m.head) {
		copy(m.head[m.have:], part)
	}
	m.have += len(part)
	if m.want == 0 && m.have >= len(m.head) {
		want, err := wire.MessageLength(m.head[:])
		m.want, m.foreign = want, err != nil
	}
	switch {
	case m.foreign && end:
		*m = messageFrame{}
	case m.foreign:
	case m.want > 0 && m.have > m.want, m.want > 0 && m.have == m.want && !end:
		return fmt.Errorf("%w: %d octets or more of one that says it has %d", errRecord, m.have, m.want)
	case end && m.have != m.want:
		return fmt.Errorf("%w: %d octets of one that says it has %d", errRecord, m.have, m.want)
	case end:
		m.have, m.want = 0, 0
	}
	return nil
}
