package transport

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/interqos/interqos/gist"
)

// TCPConfig configures TCP. Zero fields take the defaults named.
type TCPConfig struct {
	// Listen are the addresses to accept connections on; port 0 takes any free
	// one. None: only outgoing connections.
	Listen  []netip.AddrPort
	Handler Handler
	// ListenTLS are addresses for connections over TLS, which TLS has the
	// certificates for. Nil: no TLS.
	ListenTLS []netip.AddrPort
	TLS       *TLS
	// ListenSCTP are addresses for associations of SCTP, whose sockets SCTP
	// makes. Nil: no SCTP.
	ListenSCTP []netip.AddrPort
	SCTP       *SCTP
	// MaxMessage is the longest message taken or sent, in octets, common
	// header included. 64 KiB.
	MaxMessage int
	// QueueBytes bounds what is queued for writing on one connection, in
	// octets. 1 MiB.
	QueueBytes int
	// TotalQueueBytes bounds what is queued on all of them together. Where it is
	// reached, those that are the furthest behind are broken off. 64 MiB.
	TotalQueueBytes int64
	// DialTimeout is for a connection to stand, and HandshakeTimeout for TLS over
	// it. 5 s.
	DialTimeout, HandshakeTimeout time.Duration
	// WriteTimeout is for the peer to take what is written, and over TCP to
	// acknowledge it (TCP_USER_TIMEOUT). 15 s.
	WriteTimeout time.Duration
	// MessageTimeout is for a whole message to come after its first octets, and
	// for the first whole message after a connection was accepted. 10 s.
	MessageTimeout time.Duration
	// CloseTimeout is for the peer to close its side after CloseConn, and for
	// Close as a whole. 2 s.
	CloseTimeout time.Duration
	// MaxAccepted bounds the accepted connections, MaxPerPeer those of one
	// remote address. 1024 and 64. Where a bound is reached, connections that
	// have not brought a whole message yet make room.
	MaxAccepted, MaxPerPeer int
	// StrangerHandshakes bounds the TLS handshakes that peers which are not
	// expected begin in a second. 500.
	StrangerHandshakes int
	// Expected says whether a configured peer has this address; a quarter of
	// MaxAccepted is kept for those. It must be quick, and may be called from
	// any goroutine. Nil: nobody is expected, and nothing is kept.
	Expected func(netip.Addr) bool
	// OnError hears of what no event tells: connections refused or dropped
	// before their first message, and failures to accept. May be nil.
	OnError func(remote netip.AddrPort, err error)
}

func (c *TCPConfig) setDefaults() {
	setDefault(&c.MaxMessage, 64<<10)
	setDefault(&c.QueueBytes, 1<<20)
	setDefault(&c.TotalQueueBytes, 64<<20)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.WriteTimeout, 15*time.Second)
	setDefault(&c.MessageTimeout, 10*time.Second)
	setDefault(&c.CloseTimeout, 2*time.Second)
	setDefault(&c.MaxAccepted, 1024)
	setDefault(&c.MaxPerPeer, 64)
	setDefault(&c.StrangerHandshakes, 500)
	if c.OnError == nil {
		c.OnError = func(netip.AddrPort, error) {}
	}
}

// TCP carries messaging associations over Forwards-TCP, alone or under TLS, and
// those over Forwards-SCTP, with which they share limits and ConnIDs.
// RFC 5971 §5.7.2, §5.7.3, RFC 6084
type TCP struct {
	cfg       TCPConfig
	listeners []net.Listener // those of Listen, of ListenTLS, of ListenSCTP
	wait      sync.WaitGroup
	lastID    atomic.Uint64 // of accepted connections: even
	queued    atomic.Int64  // octets, on all connections
	last      atomic.Pointer[conn]

	mu       sync.Mutex
	closed   bool
	conns    map[gist.ConnID]*conn
	accepted admission

	flushes []*conn // have messages that wait for Flush; of who calls Queue
}

var _ Stack = (*TCP)(nil)

// ListenTCP listens on the configured addresses.
func ListenTCP(cfg TCPConfig) (*TCP, error) {
	cfg.setDefaults()
	if cfg.Handler == nil {
		return nil, errors.New("gist TCP: no Handler")
	}
	t := &TCP{cfg: cfg, conns: make(map[gist.ConnID]*conn), accepted: admission{
		max: cfg.MaxAccepted, perPeer: cfg.MaxPerPeer, rate: cfg.StrangerHandshakes, expected: cfg.Expected, hosts: make(map[netip.Addr]*acceptedHost),
	}}
	if cfg.Expected != nil {
		t.accepted.reserved = cfg.MaxAccepted / 4
	}
	lc := net.ListenConfig{Control: t.prepare}
	switch {
	case len(cfg.ListenTLS) > 0 && cfg.TLS == nil:
		return nil, errors.New("gist TCP: ListenTLS without TLS")
	case len(cfg.ListenSCTP) > 0 && cfg.SCTP == nil:
		return nil, errors.New("gist SCTP: ListenSCTP without SCTP")
	}
	for _, addr := range slices.Concat(cfg.Listen, cfg.ListenTLS) {
		l, err := lc.Listen(context.Background(), "tcp", addr.String())
		if err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("gist TCP: listen on %v: %w", addr, err)
		}
		t.listeners = append(t.listeners, l)
	}
	for _, addr := range cfg.ListenSCTP {
		l, err := cfg.SCTP.listen(addr)
		if err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("gist SCTP: listen on %v: %w", addr, err)
		}
		t.listeners = append(t.listeners, l)
	}
	for i, l := range t.listeners {
		stack := gist.StackTCP
		switch {
		case i >= len(cfg.Listen)+len(cfg.ListenTLS):
			stack = gist.StackSCTP
		case i >= len(cfg.Listen):
			stack = gist.StackTLS
		}
		t.wait.Go(func() { t.accept(l, stack) })
	}
	return t, nil
}

// prepare sets the options that a socket of ours needs.
func (t *TCP) prepare(_, _ string, rc syscall.RawConn) error {
	var err error
	ms := min(t.cfg.WriteTimeout.Milliseconds(), math.MaxInt32)
	if cerr := rc.Control(func(fd uintptr) { err = prepareTCP(int(fd), int(ms)) }); cerr != nil {
		return cerr
	}
	return err
}

// LocalAddrs returns the addresses listened on, in the order of
// TCPConfig.Listen, then of ListenTLS and ListenSCTP.
func (t *TCP) LocalAddrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(t.listeners))
	for i, l := range t.listeners {
		addrs[i] = addrPort(l.Addr())
	}
	return addrs
}

// Conns returns how many connections there are, those being opened or closed
// included.
func (t *TCP) Conns() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// addrPort returns an address of TCP or SCTP without an IPv4-mapped form.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case sctpAddr:
		ap = a.AddrPort
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (t *TCP) accept(l net.Listener, stack gist.Stack) {
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, for instance
			t.cfg.OnError(netip.AddrPort{}, fmt.Errorf("accept on %v: %w", l.Addr(), err))
			<-time.After(10 * time.Millisecond) // not to spin on it
			continue
		}
		if err := t.admit(nc, stack); err != nil {
			t.cfg.OnError(addrPort(nc.RemoteAddr()), err)
			_ = nc.Close()
		}
	}
}

// admit starts to serve an accepted connection if the limits allow it.
func (t *TCP) admit(nc net.Conn, stack gist.Stack) error {
	c := newConn(t, gist.ConnID(t.lastID.Add(2)))
	c.nc, c.local, c.remote, c.accepted = nc, addrPort(nc.LocalAddr()), addrPort(nc.RemoteAddr()), true
	c.stack = stack
	if stack == gist.StackTLS {
		c.secure(nc)
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	var evicted *conn
	var err error
	if stack == gist.StackTLS {
		err = t.accepted.handshake(c.remote.Addr(), time.Now())
	}
	if err == nil {
		evicted, err = t.accepted.admit(c)
	}
	if err == nil {
		t.conns[c.id] = c
		t.wait.Go(func() { c.serve(nc) })
	}
	t.mu.Unlock()
	if evicted != nil {
		evicted.fail(fmt.Errorf("no message yet when others needed the place: %w", ErrTooManyConns))
	}
	return err
}

// Connect opens a connection from the given local address; ConnUp or ConnDown
// answers, unless an error is returned.
func (t *TCP) Connect(a gist.Connect) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if t.conns[a.Conn] != nil {
		return fmt.Errorf("connection %d: %w", a.Conn, ErrDuplicateConn)
	}
	if !t.has(a.Stack) {
		return fmt.Errorf("connection %d: %v: %w", a.Conn, a.Stack, ErrNoStack)
	}
	c := newConn(t, a.Conn)
	c.remote, c.stack = a.To, a.Stack
	ctx, cancel := context.WithCancel(context.Background())
	c.cancelDial = cancel
	t.conns[c.id] = c
	t.wait.Go(func() {
		defer cancel()
		c.dial(ctx, a)
	})
	return nil
}

// has says whether a stack is configured.
func (t *TCP) has(s gist.Stack) bool {
	switch s {
	case gist.StackTCP:
		return true
	case gist.StackTLS:
		return t.cfg.TLS != nil
	case gist.StackSCTP:
		return t.cfg.SCTP != nil
	}
	return false
}

// Send queues a message, to be written by another goroutine. An error other
// than ErrMessageTooLong means that the connection is lost; its ConnDown is
// delivered (or has been). Send, Queue, Flush and CloseConn are called from one
// goroutine at a time.
func (t *TCP) Send(a gist.SendConn) error {
	c, err := t.target(a)
	if err != nil {
		return err
	}
	if err = c.unstage(); err == nil {
		err = c.enqueue(a.Payload, false)
	}
	if err == nil {
		c.poke()
	}
	return err
}

// Queue is Send for who calls Flush soon: all messages until then leave
// together, and that the connection is lost may be found out as late.
func (t *TCP) Queue(a gist.SendConn) error {
	c, err := t.target(a)
	if err != nil {
		return err
	}
	if !c.flushes {
		if err := c.takes(len(a.Payload)); err != nil {
			return err
		}
		c.flushes = true
		t.flushes = append(t.flushes, c)
	}
	return c.stage(a.Payload)
}

// target finds the connection that a message goes to.
func (t *TCP) target(a gist.SendConn) (*conn, error) {
	if len(a.Payload) > t.cfg.MaxMessage {
		return nil, fmt.Errorf("%d octets, want at most %d: %w", len(a.Payload), t.cfg.MaxMessage, ErrMessageTooLong)
	}
	if c := t.last.Load(); c != nil && c.id == a.Conn {
		return c, nil
	}
	if c := t.conn(a.Conn); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("connection %d: %w", a.Conn, ErrUnknownConn)
}

// count counts octets that were queued.
func (t *TCP) count(n int) {
	if t.queued.Add(int64(n)) > t.cfg.TotalQueueBytes {
		t.shed()
	}
}

// shed breaks off the connections that have the most octets queued, until all of
// them together have no more than they may: readers that are slow, before those
// that are not.
func (t *TCP) shed() {
	for {
		all := t.queued.Load()
		if all <= t.cfg.TotalQueueBytes {
			return
		}
		var most *conn
		size := 0
		t.mu.Lock()
		for _, c := range t.conns {
			c.mu.Lock()
			if c.queued > size {
				most, size = c, c.queued
			}
			c.mu.Unlock()
		}
		t.mu.Unlock()
		if most == nil {
			return // somebody else was faster
		}
		most.fail(fmt.Errorf("%d octets queued for %v, of %d on all connections, want at most %d: %w",
			size, most.remote, all, t.cfg.TotalQueueBytes, ErrBackpressure))
	}
}

// Flush writes what Queue queued, as far as that goes without waiting; the rest
// is written by other goroutines.
func (t *TCP) Flush() {
	for i, c := range t.flushes {
		c.flushes = false
		c.flush()
		t.flushes[i] = nil
	}
	t.flushes = t.flushes[:0]
}

// CloseConn closes a connection after what was sent before. No event follows
// but those on their way already.
func (t *TCP) CloseConn(a gist.CloseConn) error {
	c := t.conn(a.Conn)
	if c == nil {
		return fmt.Errorf("connection %d: %w", a.Conn, ErrUnknownConn)
	}
	_ = c.unstage() // a connection that refuses is lost already
	c.closeGracefully()
	return nil
}

// conn finds a connection, and remembers it: the next message is often for the
// same one.
func (t *TCP) conn(id gist.ConnID) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conns[id]
	if c != nil {
		t.last.Store(c)
	}
	return c
}

// forget takes a connection off the books, so that its id may be used again.
func (t *TCP) forget(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[c.id] != c {
		return
	}
	delete(t.conns, c.id)
	t.last.CompareAndSwap(c, nil)
	t.accepted.release(c)
}

// heard says that the first whole message came over an accepted connection;
// false: it has lost its place to another.
func (t *TCP) heard(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.accepted.heard(c)
}

// Close closes the listeners and, gracefully but within CloseTimeout, all
// connections. It returns when no Handler call runs any more.
func (t *TCP) Close() error {
	t.mu.Lock()
	t.closed = true
	for _, l := range t.listeners {
		_ = l.Close()
	}
	conns := make([]*conn, 0, len(t.conns))
	for _, c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.closeGracefully()
	}
	force := time.AfterFunc(t.cfg.CloseTimeout, func() {
		for _, c := range conns {
			c.fail(ErrClosed)
		}
	})
	defer force.Stop()
	t.wait.Wait()
	return nil
}
