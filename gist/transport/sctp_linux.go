package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What Linux has for SCTP in linux/sctp.h, and golang.org/x/sys has not; RFC 6458
// describes it.
const (
	sctpInitMsg = 2  // struct sctp_initmsg
	sctpNoDelay = 3  // int
	sctpStatus  = 14 // struct sctp_status

	sctpSndInfo = 2 // a control message: struct sctp_sndinfo

	sndInfoLen       = 16  // sid, flags (16 bits each); ppid, context, association (32)
	statusLen        = 176 // with the primary address
	statusInStreams  = 16
	statusOutStreams = 18
)

// ErrNoSCTP: this kernel has no SCTP.
var ErrNoSCTP = errors.New("no SCTP: the kernel module sctp is needed")

// SCTPAvailable says why this machine has no SCTP; nil: it has.
func SCTPAvailable() error {
	var first error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err == nil {
			return unix.Close(fd)
		}
		if first == nil {
			first = fmt.Errorf("%w: %w", ErrNoSCTP, err)
		}
	}
	return first
}

// linuxSCTP are one-to-one sockets (RFC 6458).
type linuxSCTP struct{}

func sctpSockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func sctpAddrPort(sa unix.Sockaddr, err error) (netip.AddrPort, error) {
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("a socket address of type %T", sa)
}

func (linuxSCTP) socket(local netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET6
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return -1, err
	}
	if err = prepareSCTP(fd, family); err == nil {
		err = unix.Bind(fd, sctpSockaddr(local))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// prepareSCTP sets the options that a socket of ours needs. What is accepted has
// those of its listener.
func prepareSCTP(fd, family int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, sctpNoDelay, 1); err != nil {
		return fmt.Errorf("SCTP_NODELAY: %w", err)
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_SCTP, sctpInitMsg, string(initMsg(sctpStreams))); err != nil {
		return fmt.Errorf("SCTP_INITMSG: %w", err)
	}
	return nil
}

// initMsg is struct sctp_initmsg: outgoing and incoming streams, and two values
// that stay the system's.
func initMsg(streams uint16) []byte {
	b := binary.NativeEndian.AppendUint16(nil, streams)
	b = binary.NativeEndian.AppendUint16(b, streams)
	return append(b, 0, 0, 0, 0)
}

func (linuxSCTP) connect(fd int, to netip.AddrPort) error {
	return unix.Connect(fd, sctpSockaddr(to))
}

func (linuxSCTP) accept(listener int) (fd int, remote netip.AddrPort, err error) {
	fd, sa, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, remote, err
	}
	if remote, err = sctpAddrPort(sa, nil); err != nil {
		_ = unix.Close(fd)
		return -1, remote, err
	}
	return fd, remote, nil
}

func (linuxSCTP) localAddr(fd int) (netip.AddrPort, error) { return sctpAddrPort(unix.Getsockname(fd)) }

func (linuxSCTP) remoteAddr(fd int) (netip.AddrPort, error) {
	return sctpAddrPort(unix.Getpeername(fd))
}

func (linuxSCTP) streams(fd int) (int, error) {
	var b [statusLen]byte
	n := uint32(len(b))
	// golang.org/x/sys has getsockopt for none of SCTP's structures.
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, sctpStatus,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("SCTP_STATUS: %w", errno)
	}
	return streamsIn(b[:n])
}

// streamsIn reads struct sctp_status: streams are used in pairs of both
// directions (RFC 6084).
func streamsIn(status []byte) (int, error) {
	if len(status) < statusOutStreams+2 {
		return 0, fmt.Errorf("SCTP_STATUS: %d octets, want %d", len(status), statusLen)
	}
	return int(min(binary.NativeEndian.Uint16(status[statusInStreams:]), binary.NativeEndian.Uint16(status[statusOutStreams:]))), nil
}

func (linuxSCTP) recv(fd int, b []byte) (n int, end bool, err error) {
	n, _, flags, _, err := unix.Recvmsg(fd, b, nil, 0)
	// Notifications are not asked for.
	return n, flags&unix.MSG_EOR != 0, err
}

func (linuxSCTP) send(fd int, b []byte, stream uint16) error {
	n, err := unix.SendmsgN(fd, b, sndInfo(stream), nil, unix.MSG_NOSIGNAL)
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d octets of %d: %w", n, len(b), io.ErrShortWrite)
	}
	return err
}

// sndInfo is a control message with struct sctp_sndinfo: a stream, in order, and
// no payload protocol identifier, for GIST has none.
func sndInfo(stream uint16) []byte {
	b := make([]byte, unix.CmsgSpace(sndInfoLen))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_SCTP, sctpSndInfo
	h.SetLen(unix.CmsgLen(sndInfoLen))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], stream)
	return b
}
