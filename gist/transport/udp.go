package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// UDPConfig configures UDP. Zero fields take the defaults named.
type UDPConfig struct {
	// Addrs are bound, one socket each; port 0 takes any free one.
	Addrs   []netip.AddrPort
	Handler Handler
	// PeerHandler takes what the peers of SetPeers send. Nil: Handler does.
	PeerHandler Handler
	// MaxDatagram is the longest datagram taken, in octets; longer ones are
	// dropped and counted. 9216.
	MaxDatagram int
	// Batch is how many datagrams one system call reads or writes. 64.
	Batch int
	// Buffer is the size asked of the kernel for a socket's receive and send
	// buffers, in octets. 1 MiB; the kernel may give less.
	Buffer int
	// Foreign lets datagrams be sent from addresses that are not this node's
	// (gist.SendDatagram.Foreign). It needs CAP_NET_ADMIN.
	Foreign bool
	// OnError hears of sockets that cannot be read; may be nil.
	OnError func(local netip.AddrPort, err error)

	reuse bool // a peer's socket: the address is bound already
}

func (c *UDPConfig) setDefaults() {
	setDefault(&c.MaxDatagram, 9216)
	setDefault(&c.Batch, 64)
	setDefault(&c.Buffer, 1<<20)
	if c.OnError == nil {
		c.OnError = func(netip.AddrPort, error) {}
	}
	if c.PeerHandler == nil {
		c.PeerHandler = c.Handler
	}
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// UDP carries D-mode messages. RFC 5971 §5.3
type UDP struct {
	cfg     UDPConfig
	sockets []*udpSocket
	done    chan struct{}
	wait    sync.WaitGroup

	mu     sync.Mutex // of what follows
	closed bool
	peers  map[peerPath]*udpSocket
	gone   UDPStats // of peers' sockets closed since
}

// Outgoing is a datagram to send. The router alert value is Alert if HasAlert
// is set, else the one that belongs to the NSLPID in the payload.
type Outgoing struct {
	gist.SendDatagram
	Alert    uint16
	HasAlert bool
}

// UDPStats counts.
type UDPStats struct {
	Received, Sent uint64
	TooLong        uint64 // received datagrams dropped, longer than MaxDatagram
	SendErrors     uint64
}

// batchConn is what ipv4.PacketConn and ipv6.PacketConn have in common.
type batchConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

type udpSocket struct {
	local     netip.AddrPort
	v6        bool
	connected bool // to a peer
	conn      *net.UDPConn
	batch     batchConn

	received, sent, tooLong, sendErrors atomic.Uint64

	mu  sync.Mutex // of what follows: the arrays that Send fills
	out []ipv4.Message
	to  []net.UDPAddr
}

// ListenUDP binds the addresses and starts to read.
func ListenUDP(cfg UDPConfig) (*UDP, error) {
	cfg.setDefaults()
	if cfg.Handler == nil {
		return nil, errors.New("gist UDP: no Handler")
	}
	u := &UDP{cfg: cfg, done: make(chan struct{}), peers: make(map[peerPath]*udpSocket)}
	for _, addr := range cfg.Addrs {
		s, err := openUDP(addr, &cfg)
		if err != nil {
			_ = u.Close()
			return nil, fmt.Errorf("gist UDP: bind %v: %w", addr, err)
		}
		u.sockets = append(u.sockets, s)
	}
	for _, s := range u.sockets {
		u.wait.Go(func() { u.read(s) })
	}
	return u, nil
}

func openUDP(addr netip.AddrPort, cfg *UDPConfig) (*udpSocket, error) {
	if !addr.IsValid() {
		return nil, errors.New("no address")
	}
	s := &udpSocket{v6: addr.Addr().Is6()}
	network := "udp4"
	if s.v6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return controlFD(rc, func(fd int) error {
			if err := prepareUDP(fd, s.v6, cfg.reuse, cfg.Buffer); err != nil || !cfg.Foreign {
				return err
			}
			return prepareForeign(fd, s.v6)
		})
	}}
	pc, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	s.conn = pc.(*net.UDPConn) // what ListenPacket returns for udp
	local := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	s.local = netip.AddrPortFrom(addr.Addr(), local.Port())
	if s.v6 {
		s.batch = ipv6.NewPacketConn(s.conn)
	} else {
		s.batch = ipv4.NewPacketConn(s.conn)
	}
	s.out = make([]ipv4.Message, cfg.Batch)
	s.to = make([]net.UDPAddr, cfg.Batch)
	oob := make([]byte, cfg.Batch*oobSize)
	ips := make([]byte, cfg.Batch*16)
	for i := range s.out {
		s.out[i].Buffers = make([][]byte, 1)
		s.out[i].OOB = oob[i*oobSize : i*oobSize : (i+1)*oobSize]
		s.to[i].IP = ips[i*16 : i*16 : (i+1)*16]
		s.out[i].Addr = &s.to[i]
	}
	return s, nil
}

// LocalAddrs returns the bound addresses, in the order of UDPConfig.Addrs.
func (u *UDP) LocalAddrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(u.sockets))
	for i, s := range u.sockets {
		addrs[i] = s.local
	}
	return addrs
}

// Stats returns the counts over all sockets.
func (u *UDP) Stats() UDPStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.gone
	for _, s := range u.sockets {
		st.add(s)
	}
	for _, s := range u.peers {
		st.add(s)
	}
	return st
}

func (st *UDPStats) add(s *udpSocket) {
	st.Received += s.received.Load()
	st.Sent += s.sent.Load()
	st.TooLong += s.tooLong.Load()
	st.SendErrors += s.sendErrors.Load()
}

// Close closes the sockets and waits until no Handler call runs any more.
func (u *UDP) Close() error {
	u.mu.Lock()
	if !u.closed {
		u.closed = true
		close(u.done)
		for _, s := range u.sockets {
			_ = s.conn.Close()
		}
		for _, s := range u.peers {
			_ = s.conn.Close()
		}
	}
	u.mu.Unlock()
	u.wait.Wait()
	return nil
}

// read hands on what a socket receives, until it is closed.
func (u *UDP) read(s *udpSocket) {
	batch, handler := u.cfg.Batch, u.cfg.Handler
	if s.connected {
		batch, handler = len(s.out), u.cfg.PeerHandler
	}
	ms := make([]ipv4.Message, batch)
	payload := make([]byte, batch*u.cfg.MaxDatagram)
	oob := make([]byte, batch*oobSize)
	for i := range ms {
		ms[i].Buffers = [][]byte{payload[i*u.cfg.MaxDatagram : (i+1)*u.cfg.MaxDatagram]}
		ms[i].OOB = oob[i*oobSize : (i+1)*oobSize]
	}
	for {
		n, err := s.batch.ReadBatch(ms, 0)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if s.connected && errors.Is(err, unix.ECONNREFUSED) {
				continue // the peer's port was closed when we sent to it
			}
			u.cfg.OnError(s.local, err)
			select { // whatever it is, do not spin on it
			case <-u.done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if events := s.events(ms[:n]); len(events) > 0 {
			handler(events)
		}
	}
}

// events copies received datagrams into events of their own.
func (s *udpSocket) events(ms []ipv4.Message) []gist.Event {
	total := 0
	for i := range ms {
		total += ms[i].N
	}
	events, backing := make([]gist.Event, 0, len(ms)), make([]byte, 0, total)
	s.received.Add(uint64(len(ms)))
	for i := range ms {
		m := &ms[i]
		from, ok := m.Addr.(*net.UDPAddr)
		if m.Flags&unix.MSG_TRUNC != 0 || !ok {
			s.tooLong.Add(1)
			continue
		}
		c := parseControl(m.OOB[:m.NN])
		local := s.local
		if c.destination.IsValid() && s.local.Addr().IsUnspecified() {
			local = netip.AddrPortFrom(c.destination, local.Port())
		}
		at := len(backing)
		backing = append(backing, m.Buffers[0][:m.N]...)
		remote := from.AddrPort()
		events = append(events, gist.Datagram{
			Local:       local,
			From:        netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()),
			Interface:   c.iface,
			TTL:         c.ttl,
			RouterAlert: c.routerAlert,
			Payload:     backing[at:len(backing):len(backing)],
		})
	}
	return events
}

// SendError says that one datagram could not be sent. Err wraps the system's
// error: EMSGSIZE where it does not fit the path MTU, EAGAIN where the socket's
// buffer is full.
type SendError struct {
	Index int // in the slice given to Send
	To    netip.AddrPort
	Err   error
}

func (e *SendError) Error() string { return fmt.Sprintf("datagram to %v: %v", e.To, e.Err) }

func (e *SendError) Unwrap() error { return e.Err }

// SendErrors takes apart what Send returned.
func SendErrors(err error) (all []*SendError) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if se, ok := errors.AsType[*SendError](e); ok {
				all = append(all, se)
			}
		}
	}
	return all
}

// TooLarge says that the datagram does not fit the path.
func (e *SendError) TooLarge() bool { return errors.Is(e.Err, unix.EMSGSIZE) }

// Send sends datagrams without waiting, each from the socket bound to its Local
// address (zero: the first one of the destination's IP version). One that
// cannot be sent keeps no other from being sent; the error returned joins a
// *SendError for each.
func (u *UDP) Send(batch []Outgoing) error {
	var errs []error
	for i := 0; i < len(batch); {
		s := u.socket(&batch[i])
		if s == nil {
			errs = append(errs, &SendError{i, batch[i].To, fmt.Errorf("from %v to %v: %w", batch[i].Local, batch[i].To, ErrNoSocket)})
			i++
			continue
		}
		end := i + 1
		for end < len(batch) && end-i < len(s.out) && u.socket(&batch[end]) == s {
			end++
		}
		errs = s.send(batch[i:end], i, errs)
		i = end
	}
	return errors.Join(errs...)
}

func (u *UDP) socket(o *Outgoing) *udpSocket {
	if !o.To.IsValid() {
		return nil
	}
	v6 := o.To.Addr().Unmap().Is6()
	for _, s := range u.sockets {
		if s.v6 != v6 {
			continue
		}
		if bound := s.local.Addr(); !o.Local.IsValid() || bound == o.Local || bound.IsUnspecified() || o.Foreign {
			return s
		}
	}
	return nil
}

// send sends at most len(s.out) datagrams, the first of which is number base of
// the caller's batch.
func (s *udpSocket) send(batch []Outgoing, base int, errs []error) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		s.fill(i, &batch[i])
	}
	for sent := 0; sent < len(batch); {
		n, err := s.batch.WriteBatch(s.out[sent:len(batch)], unix.MSG_DONTWAIT)
		if err == nil && n > 0 {
			s.sent.Add(uint64(n))
			sent += n
			continue
		}
		o := &batch[sent]
		switch {
		case err == nil:
			err = errors.New("nothing was sent")
		case s.v6 && o.RouterAlert && errors.Is(err, unix.EPERM):
			err = fmt.Errorf("%w: %w", ErrRouterAlertIPv6, err)
		}
		s.sendErrors.Add(1)
		errs = append(errs, &SendError{base + sent, o.To, err})
		sent++
	}
	for i := range batch {
		s.out[i].Buffers[0] = nil // do not keep payloads
	}
	return errs
}

// fill makes message number i of s.out say what o says.
func (s *udpSocket) fill(i int, o *Outgoing) {
	m, to := &s.out[i], &s.to[i]
	m.Buffers[0] = o.Payload
	to.Port = int(o.To.Port())
	to.Zone = o.To.Addr().Zone()
	if s.v6 {
		a := o.To.Addr().As16()
		to.IP = append(to.IP[:0], a[:]...)
	} else {
		a := o.To.Addr().Unmap().As4()
		to.IP = append(to.IP[:0], a[:]...)
	}
	m.OOB = m.OOB[:0]
	if o.TTL != 0 {
		m.OOB = appendTTL(m.OOB, s.v6, o.TTL)
	}
	if o.RouterAlert {
		m.OOB = appendRouterAlert(m.OOB, s.v6, o.alertValue(s.v6))
	}
	if o.DSCP != 0 {
		m.OOB = appendDSCP(m.OOB, s.v6, o.DSCP)
	}
	if s.v6 && o.FlowLabel != 0 {
		m.OOB = appendFlowLabel(m.OOB, o.FlowLabel)
	}
	if (o.Foreign || s.local.Addr().IsUnspecified()) && o.Local.IsValid() && !o.Local.IsUnspecified() {
		m.OOB = appendSource(m.OOB, o.Local)
	}
}

// alertValue is the router alert value to use: by default that of the NSLPID in
// the payload's common header.
func (o *Outgoing) alertValue(v6 bool) uint16 {
	const nslpidAt = wire.MagicLen + 4
	if o.HasAlert || len(o.Payload) < nslpidAt+2 {
		return o.Alert
	}
	return RouterAlertValue(wire.NSLPID(binary.BigEndian.Uint16(o.Payload[nslpidAt:])), v6)
}
