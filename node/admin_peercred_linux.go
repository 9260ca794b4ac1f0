package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// peerCredentials are the transport credentials of a Unix socket: nothing is
// exchanged, the kernel is asked who connected (unix(7), SO_PEERCRED).
type peerCredentials struct{}

// ServerHandshake asks the kernel who is at the other end.
func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("peer credentials: a %T, expected a Unix socket", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("peer credentials: %w", err)
	}
	info := peerCred{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); failed == nil {
			info.pid, info.uid, info.gid = cred.Pid, cred.Uid, cred.Gid
			info.groups = peerGroups(fd)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, nil, fmt.Errorf("peer credentials: %w", err)
	}
	return conn, info, nil
}

// peerGroups returns the supplementary groups of the peer (SO_PEERGROUPS), or
// none where there are more than anybody has or the kernel doesn't tell.
func peerGroups(fd uintptr) []uint32 {
	var groups [1024]uint32
	size := uint32(unsafe.Sizeof(groups))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return append([]uint32(nil), groups[:size/4]...)
}

// ClientHandshake is for the other side, which uses none of this.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are for servers")
}

// Info describes the credentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer-credentials"}
}

// Clone returns a copy.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there is no name.
func (peerCredentials) OverrideServerName(string) error { return nil }
