package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
)

func payloads(events []gist.Event) (all []string) {
	for _, ev := range events {
		all = append(all, string(ev.(gist.Datagram).Payload))
	}
	return all
}

// A peer's datagrams come by a socket of their own, with all that is known of
// them, as long as it is a peer.
func TestUDPPeersHaveTheirOwnSocket(t *testing.T) {
	for _, any := range []netip.AddrPort{loopback4, netip.MustParseAddrPort("[::1]:0")} {
		t.Run(any.String(), func(t *testing.T) {
			if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(any)); err != nil {
				t.Skip("no IPv6 here:", err)
			} else {
				_ = c.Close()
			}
			everybody, peers := newSink(), newSink()
			u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{any}, Handler: everybody.handle, PeerHandler: peers.handle})
			to := u.LocalAddrs()[0]
			nobody := func([]gist.Event) {}
			peer := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{any}, Handler: nobody})
			other := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{any}, Handler: nobody})
			from := peer.LocalAddrs()[0]
			say := func(u *UDP, text string) {
				if err := u.Send([]Outgoing{outgoing(to, text)}); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // again changes nothing
				if err := u.SetPeers([]netip.AddrPort{from, {}}); err != nil {
					t.Fatal(err)
				}
			}
			say(peer, "from the peer")
			say(other, "from another")
			d, _ := find[gist.Datagram](peers.count(t, 1))
			if string(d.Payload) != "from the peer" || d.From != from || d.Local != to || d.TTL == 0 {
				t.Errorf("the peer's: %+v", d)
			}
			if got := payloads(everybody.count(t, 1)); len(got) != 1 || got[0] != "from another" {
				t.Errorf("from everybody else: %q", got)
			}
			if err := u.Send([]Outgoing{outgoing(from, "answer")}); err != nil {
				t.Error(err)
			}
			if err := u.SetPeers(nil); err != nil {
				t.Fatal(err)
			}
			say(peer, "from nobody special")
			if got := payloads(everybody.count(t, 2)); got[1] != "from nobody special" {
				t.Errorf("after it was a peer: %q", got)
			}
			if st := u.Stats(); st.Received != 3 {
				t.Errorf("%d received, want 3: those of the closed socket count", st.Received)
			}
		})
	}
}

// However much others send, a peer's datagrams are not lost for it: the socket
// that everybody reaches is full, and its reader is held up.
func TestUDPFloodDoesNotCrowdPeersOut(t *testing.T) {
	peers, release := newSink(), make(chan struct{})
	u := listenUDP(t, UDPConfig{
		Addrs: []netip.AddrPort{loopback4}, Handler: func([]gist.Event) { <-release }, PeerHandler: peers.handle, Buffer: 64 << 10,
	})
	t.Cleanup(func() { close(release) }) // before the Close that listenUDP has registered
	to := u.LocalAddrs()[0]
	peer := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: func([]gist.Event) {}})
	if err := u.SetPeers(peer.LocalAddrs()); err != nil {
		t.Fatal(err)
	}
	stranger, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	flood := make([]byte, 1000)
	for range 2000 { // 2 MB into 64 KiB
		_, _ = stranger.Write(flood)
	}
	for i := range 50 {
		if err := peer.Send([]Outgoing{outgoing(to, fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
		_, _ = stranger.Write(flood)
	}
	for i, p := range payloads(peers.count(t, 50)) {
		if p != fmt.Sprint(i) {
			t.Errorf("datagram %d is %q", i, p)
		}
	}
}

// Peers' sockets do not open the address to others, not even to those who ask to
// share it.
func TestUDPPeersDoNotShareTheAddress(t *testing.T) {
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: func([]gist.Event) {}})
	if err := u.SetPeers([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.9:9")}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
			return controlFD(rc, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1) })
		}}
		if pc, err := lc.ListenPacket(context.Background(), "udp4", u.LocalAddrs()[0].String()); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("somebody else binds it with option %d: %v", o, err)
			_ = pc.Close()
		}
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if err := u.SetPeers(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("SetPeers after Close: %v", err)
	}
}
