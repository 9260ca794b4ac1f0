package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

func listenUDP(t testing.TB, cfg UDPConfig) *UDP {
	t.Helper()
	if cfg.Handler == nil {
		cfg.Handler = func([]gist.Event) {}
	}
	u, err := ListenUDP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

func outgoing(to netip.AddrPort, payload string) Outgoing {
	return Outgoing{SendDatagram: gist.SendDatagram{To: to, Payload: []byte(payload)}}
}

// RFC 5971 §5.3.2, §5.3.2.1: Q-mode is intercepted by the router alert option; the Off-Path
// relay and upstream Queries depend on the IP TTL. One socket sends and sees
// any mixture of both.
func TestUDPCarriesTTLAndRouterAlertOfEachDatagram(t *testing.T) {
	in := newSink()
	rx := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:0")}, Handler: in.handle})
	tx := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}})
	to := rx.LocalAddrs()[0]
	defaultTTL, lo := systemTTL(t), loopbackIndex(t)
	cases := []struct {
		ttl   uint8
		alert bool
	}{{255, true}, {0, false}, {7, false}, {0, true}, {1, true}, {254, false}}
	batch := make([]Outgoing, len(cases))
	for i, c := range cases {
		batch[i] = outgoing(to, string(rune('a'+i)))
		batch[i].TTL, batch[i].RouterAlert = c.ttl, c.alert
	}
	if err := tx.Send(batch); err != nil {
		t.Fatal(err)
	}
	for i, ev := range in.count(t, len(cases)) {
		d := ev.(gist.Datagram)
		want := cases[i].ttl
		if want == 0 {
			want = defaultTTL
		}
		if d.TTL != want || d.RouterAlert != cases[i].alert || string(d.Payload) != string(batch[i].Payload) {
			t.Errorf("datagram %d: TTL %d, router alert %v, %q; want %d, %v, %q",
				i, d.TTL, d.RouterAlert, d.Payload, want, cases[i].alert, batch[i].Payload)
		}
		if d.Interface != lo {
			t.Errorf("datagram %d: by interface %d, want %d", i, d.Interface, lo)
		}
		if d.Local != to || d.From != tx.LocalAddrs()[0] {
			t.Errorf("datagram %d: from %v to %v, want from %v to %v", i, d.From, d.Local, tx.LocalAddrs()[0], to)
		}
	}
}

// loopbackIndex is the index of the loopback interface.
func loopbackIndex(t *testing.T) uint32 {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return uint32(lo.Index)
}

// systemTTL is the TTL of packets that do not ask for one.
func systemTTL(t *testing.T) uint8 {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 8)
	if err != nil {
		t.Fatal(err)
	}
	return uint8(n)
}

// RFC 2711 §2.1, RFC 5971 §5.3.2.2: IPv6, with and without router alert.
func TestUDPIPv6HopLimit(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 loopback here: %v", err)
	} else {
		_ = l.Close()
	}
	in := newSink()
	addr := []netip.AddrPort{netip.MustParseAddrPort("[::1]:0")}
	u := listenUDP(t, UDPConfig{Addrs: addr, Handler: in.handle})
	o := outgoing(u.LocalAddrs()[0], "six")
	o.TTL = 255
	if err := u.Send([]Outgoing{o}); err != nil {
		t.Fatal(err)
	}
	d := in.count(t, 1)[0].(gist.Datagram)
	if d.TTL != 255 || d.RouterAlert || d.From != u.LocalAddrs()[0] {
		t.Errorf("got TTL %d, router alert %v from %v; want 255, false from %v", d.TTL, d.RouterAlert, d.From, u.LocalAddrs()[0])
	}
	// The hop-by-hop option needs CAP_NET_RAW: either it arrives, or the error
	// says what is missing.
	o.RouterAlert = true
	switch err := u.Send([]Outgoing{o}); {
	case err == nil:
		if d := in.count(t, 2)[1].(gist.Datagram); !d.RouterAlert {
			t.Error("sent with a router alert option, received without")
		}
	case !errors.Is(err, ErrRouterAlertIPv6):
		t.Errorf("error %v, want ErrRouterAlertIPv6", err)
	}
}

// RFC 2113 §2.1: the option is 10010100, 00000100 and a 2 octet value. What
// arrives is looked at with a bare socket.
func TestUDPRouterAlertValue(t *testing.T) {
	raw, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback4))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	rc, err := raw.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVOPTS, 1); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}})
	to := raw.LocalAddr().(*net.UDPAddr).AddrPort()

	m := wire.Message{Header: wire.Header{Type: wire.Data, NSLPID: 5}}
	byNSLPID := outgoing(to, string(m.AppendDatagram(nil)))
	given := byNSLPID
	given.HasAlert, given.Alert = true, 0x1234
	for _, c := range []struct {
		o    Outgoing
		want byte
		high byte
	}{{byNSLPID, 37, 0}, {given, 0x34, 0x12}} {
		c.o.RouterAlert = true
		if err := u.Send([]Outgoing{c.o}); err != nil {
			t.Fatal(err)
		}
		buf, oob := make([]byte, 100), make([]byte, 100)
		_, n, _, _, err := raw.ReadMsgUDP(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		if want := []byte{148, 4, c.high, c.want}; !bytes.Contains(oob[:n], want) {
			t.Errorf("ancillary data % x, want the option % x", oob[:n], want)
		}
	}
}

// RFC 5974 §6.6: "A block of 32 new IPv4 RAO values and a block of 32 new IPv6
// RAO values have been assigned". interdomain-qosm §1, RFC 5971 §9: NSLPIDs 1 to
// 32 have router alert values 33 to 64 (IPv4) and 36 to 67 (IPv6).
func TestRouterAlertValue(t *testing.T) {
	for _, c := range []struct {
		id     wire.NSLPID
		v4, v6 uint16
	}{{0, 0, 0}, {1, 33, 36}, {32, 64, 67}, {33, 0, 0}, {32704, 0, 0}} {
		if v4, v6 := RouterAlertValue(c.id, false), RouterAlertValue(c.id, true); v4 != c.v4 || v6 != c.v6 {
			t.Errorf("NSLPID %d: %d and %d, want %d and %d", c.id, v4, v6, c.v4, c.v6)
		}
	}
}

func TestUDPAnyAddressTellsWhereADatagramWasSentTo(t *testing.T) {
	in := newSink()
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}, Handler: in.handle})
	port := u.LocalAddrs()[0].Port()
	o := outgoing(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), port), "x")
	o.Local = netip.MustParseAddr("127.0.0.9")
	if err := u.Send([]Outgoing{o}); err != nil {
		t.Fatal(err)
	}
	d := in.count(t, 1)[0].(gist.Datagram)
	if d.Local != o.To || d.From.Addr() != o.Local {
		t.Errorf("from %v to %v, want from %v to %v", d.From, d.Local, o.Local, o.To)
	}
}

func TestUDPChoosesTheSocketByLocalAddress(t *testing.T) {
	in := newSink()
	rx := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: in.handle})
	tx := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.4:0"), netip.MustParseAddrPort("127.0.0.5:0"),
	}})
	to := rx.LocalAddrs()[0]
	batch := []Outgoing{outgoing(to, "0"), outgoing(to, "1"), outgoing(to, "2"), outgoing(to, "3")}
	batch[0].Local = netip.MustParseAddr("127.0.0.5")
	batch[1].Local = netip.MustParseAddr("127.0.0.6") // not ours
	batch[3].Local = netip.MustParseAddr("127.0.0.5")
	err := tx.Send(batch)
	var bad *SendError
	if !errors.As(err, &bad) || bad.Index != 1 || !errors.Is(err, ErrNoSocket) {
		t.Errorf("error %v, want ErrNoSocket for datagram 1", err)
	}
	if err := tx.Send([]Outgoing{{}}); !errors.Is(err, ErrNoSocket) {
		t.Errorf("no destination: error %v, want ErrNoSocket", err)
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	if err := tx.Send([]Outgoing{outgoing(mapped, "2")}); err != nil {
		t.Errorf("IPv4 address in IPv6 form: %v", err)
	}
	want := map[string]netip.AddrPort{"0": tx.LocalAddrs()[1], "2": tx.LocalAddrs()[0], "3": tx.LocalAddrs()[1]}
	for _, ev := range in.count(t, 4) {
		d := ev.(gist.Datagram)
		if d.From != want[string(d.Payload)] {
			t.Errorf("%q came from %v, want %v", d.Payload, d.From, want[string(d.Payload)])
		}
	}
}

// RFC 5971 §5.3.2.1: "the sender MUST set the Don't Fragment (DF) bit": what is
// too long is an error, and the others are sent all the same.
func TestUDPOneFailureDoesNotKeepOthersFromBeingSent(t *testing.T) {
	in := newSink()
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: in.handle, Batch: 4})
	to := u.LocalAddrs()[0]
	var batch []Outgoing
	for i := range 10 {
		batch = append(batch, outgoing(to, string(rune('0'+i))))
	}
	batch[5].Payload = make([]byte, 70000)
	err := u.Send(batch)
	var bad *SendError
	if !errors.As(err, &bad) || bad.Index != 5 || !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("error %v, want EMSGSIZE for datagram 5", err)
	}
	var got []byte
	for _, ev := range in.count(t, 9) {
		got = append(got, ev.(gist.Datagram).Payload...)
	}
	if string(got) != "012346789" {
		t.Errorf("received %q, want all but 5", got)
	}
	if st := u.Stats(); st.Sent != 9 || st.SendErrors != 1 || st.Received != 9 {
		t.Errorf("stats %+v, want 9 sent, 1 error, 9 received", st)
	}
}

func TestUDPDropsAndCountsWhatIsTooLong(t *testing.T) {
	in := newSink()
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: in.handle, MaxDatagram: 100})
	to := u.LocalAddrs()[0]
	long, fits := outgoing(to, string(make([]byte, 101))), outgoing(to, string(make([]byte, 100)))
	if err := u.Send([]Outgoing{long, fits}); err != nil {
		t.Fatal(err)
	}
	if d := in.count(t, 1)[0].(gist.Datagram); len(d.Payload) != 100 {
		t.Errorf("%d octets, want 100", len(d.Payload))
	}
	if st := u.Stats(); st.TooLong != 1 {
		t.Errorf("%d too long, want 1", st.TooLong)
	}
}

func TestUDPPayloadsAreTheReceivers(t *testing.T) {
	in := newSink()
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}, Handler: in.handle})
	to := u.LocalAddrs()[0]
	for i, s := range []string{"first", "other", "third"} {
		if err := u.Send([]Outgoing{outgoing(to, s)}); err != nil {
			t.Fatal(err)
		}
		in.count(t, i+1)
	}
	d := in.all()[0].(gist.Datagram)
	if string(d.Payload) != "first" || cap(d.Payload) != len(d.Payload) {
		t.Errorf("payload %q (capacity %d), want \"first\" untouched", d.Payload, cap(d.Payload))
	}
}

func TestUDPBindErrorNamesTheAddress(t *testing.T) {
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}})
	_, err := ListenUDP(UDPConfig{Addrs: []netip.AddrPort{loopback4, u.LocalAddrs()[0]}, Handler: func([]gist.Event) {}})
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("error %v, want EADDRINUSE", err)
	}
}

// RFC 2113 §2.1, RFC 2711 §2.1: found wherever it stands among the options.
func TestRouterAlertReadsOnlyWhatIsThere(t *testing.T) {
	for _, c := range []struct {
		b     []byte
		value uint16
		want  bool
	}{
		{nil, 0, false},
		{[]byte{148, 4, 0, 0}, 0, true},
		{[]byte{1, 1, 148, 4, 0, 33}, 33, true},
		{[]byte{7, 7, 4, 0, 0, 0, 0, 148, 4, 1, 2, 0}, 0x102, true},
		{[]byte{148, 3, 0, 148, 4, 0, 1}, 1, true}, // a router alert of a wrong length is none
		{[]byte{0, 148, 4, 0, 0}, 0, false},
		{[]byte{148, 4, 0}, 0, false},
		{[]byte{148}, 0, false},
		{[]byte{7, 0, 148, 4, 0, 0}, 0, false},
		{[]byte{7, 200}, 0, false},
		{[]byte{7}, 0, false},
	} {
		if got, ok := routerAlert4(c.b); ok != c.want || got != c.value {
			t.Errorf("IPv4 options % x: %v %v, want %v %v", c.b, got, ok, c.value, c.want)
		}
	}
	for _, c := range []struct {
		b     []byte
		value uint16
		want  bool
	}{
		{nil, 0, false},
		{[]byte{5, 2, 0, 36, 1, 0}, 36, true},
		{[]byte{0, 0, 5, 2, 0, 36}, 36, true},
		{[]byte{1, 3, 0, 0, 0, 5, 2, 0, 0}, 0, true},
		{[]byte{5, 1, 0, 5, 2, 1, 2}, 0x102, true},
		{[]byte{5, 2, 0}, 0, false},
		{[]byte{1, 200, 5, 2}, 0, false},
		{[]byte{1}, 0, false},
	} {
		if got, ok := routerAlert6(c.b); ok != c.want || got != c.value {
			t.Errorf("hop-by-hop options % x: %v %v, want %v %v", c.b, got, ok, c.value, c.want)
		}
	}
}

func TestUDPSendAllocatesNothing(t *testing.T) {
	sinkhole, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback4))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sinkhole.Close() }()
	u := listenUDP(t, UDPConfig{Addrs: []netip.AddrPort{loopback4}})
	batch := []Outgoing{outgoing(sinkhole.LocalAddr().(*net.UDPAddr).AddrPort(), "payload")}
	batch[0].TTL, batch[0].RouterAlert = 255, true
	if n := testing.AllocsPerRun(100, func() {
		if err := u.Send(batch); err != nil {
			t.Fatal(err)
		}
	}); n > 0 && !raceEnabled {
		t.Errorf("%v allocations for each datagram sent, want none", n)
	}
}
