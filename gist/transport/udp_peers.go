package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Peers' sockets: what a configured peer sends has a receive buffer of its own,
// so that a flood of others' datagrams cannot crowd it out in the kernel. The
// system prefers a connected socket to the one that everybody reaches.
// RFC 5971 §8.4

// peerBatch is how many datagrams of a peer one system call reads.
const peerBatch = 16

// peerPath is a local address and a peer's.
type peerPath struct{ local, peer netip.AddrPort }

// SetPeers gives each of these peers a socket of its own at each bound address
// of its IP version, and takes it from others. What they send goes to
// UDPConfig.PeerHandler. Addresses that are unspecified have no such sockets. A
// peer for which there is an error shares the socket of everybody; it does not
// keep others from having theirs.
func (u *UDP) SetPeers(peers []netip.AddrPort) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return ErrClosed
	}
	want := make(map[peerPath]*udpSocket)
	for _, s := range u.sockets {
		if s.local.Addr().IsUnspecified() {
			continue
		}
		for _, p := range peers {
			if p.IsValid() && p.Addr().Is6() == s.v6 {
				want[peerPath{s.local, p}] = s
			}
		}
	}
	for path, s := range u.peers {
		if want[path] == nil {
			_ = s.conn.Close()
			u.gone.add(s)
			delete(u.peers, path)
		}
	}
	var errs []error
	for path, main := range want {
		if u.peers[path] != nil {
			continue
		}
		s, err := u.openPeer(main, path)
		if err != nil {
			errs = append(errs, fmt.Errorf("gist UDP: socket for %v at %v: %w", path.peer, path.local, err))
			continue
		}
		u.peers[path] = s
		u.wait.Go(func() { u.read(s) })
	}
	return errors.Join(errs...)
}

// openPeer binds a second socket to the address of main and connects it. Only
// for that moment may the address be bound again: nobody else can.
func (u *UDP) openPeer(main *udpSocket, path peerPath) (*udpSocket, error) {
	if err := setReuse(main, 1); err != nil {
		return nil, err
	}
	cfg := u.cfg
	cfg.Batch, cfg.reuse = min(cfg.Batch, peerBatch), true
	s, err := openUDP(path.local, &cfg)
	if rerr := setReuse(main, 0); err == nil && rerr != nil {
		_ = s.conn.Close()
		err = rerr
	}
	if err != nil {
		return nil, err
	}
	s.connected = true
	if err := s.connect(path.peer); err != nil {
		_ = s.conn.Close()
		return nil, err
	}
	return s, nil
}

func setReuse(s *udpSocket, on int) error {
	return s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on) })
}

func (s *udpSocket) control(f func(fd int) error) error {
	rc, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	return controlFD(rc, f)
}

func controlFD(rc syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := rc.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *udpSocket) connect(to netip.AddrPort) error {
	var sa unix.Sockaddr
	if s.v6 {
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return s.control(func(fd int) error { return unix.Connect(fd, sa) })
}
