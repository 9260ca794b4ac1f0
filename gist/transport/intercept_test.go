package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// query is a Query for an NSLPID as a datagram; what it says of its flow is of
// no interest here.
func query(nslp wire.NSLPID) []byte {
	m := wire.Message{
		Header: wire.Header{Type: wire.Query, NSLPID: nslp, HopCount: 9, C: true, R: true},
		HasMRI: true, HasSID: true, SID: wire.SID{15: 1}, HasNLI: true,
		MRI: wire.MRI{Flow: wire.Flow{
			Source:      netip.MustParsePrefix("10.1.0.1/32"),
			Destination: netip.MustParsePrefix("10.2.0.1/32"),
		}},
		NLI:         wire.NLI{PeerIdentity: []byte("test"), Address: netip.MustParseAddr("10.1.0.1"), ValidityMS: 30000},
		QueryCookie: make([]byte, 16),
	}
	return m.AppendDatagram(nil)
}

func (n *netns) listenUDP(cfg UDPConfig) (u *UDP) {
	n.t.Helper()
	if cfg.Handler == nil {
		cfg.Handler = func([]gist.Event) {}
	}
	n.do(func() (err error) {
		u, err = ListenUDP(cfg)
		return err
	})
	n.t.Cleanup(func() { _ = u.Close() })
	return u
}

func (n *netns) intercept(cfg InterceptConfig) (i *Intercept) {
	n.t.Helper()
	n.do(func() (err error) {
		i, err = ListenIntercept(cfg)
		return err
	})
	n.t.Cleanup(func() { _ = i.Close() })
	return i
}

// sender sends whole packets from a namespace.
func (n *netns) sender() (send func(header, payload []byte)) {
	n.t.Helper()
	var f *forwarder
	n.do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		n.t.Cleanup(h.Close)
		f, err = openForwarder(1, h, true, true)
		return err
	})
	n.t.Cleanup(f.close)
	return func(header, payload []byte) {
		n.t.Helper()
		if err := f.forward(&gist.Transit{Header: header}, payload); err != nil {
			n.t.Fatal(err)
		}
	}
}

// sniffer sees the IP packets to UDP ports that arrive at an interface.
type sniffer struct {
	t    *testing.T
	file *os.File
}

func (n *netns) sniff(t *testing.T, link string) *sniffer {
	t.Helper()
	s := &sniffer{t: t}
	n.do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.file = os.NewFile(uintptr(fd), "sniffer of "+link)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { _ = s.file.Close() })
	return s
}

// next returns the next UDP packet.
func (s *sniffer) next() []byte {
	s.t.Helper()
	raw, err := s.file.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	_ = s.file.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1<<16)
	for {
		var n int
		if rerr := raw.Read(func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(err, unix.EAGAIN)
		}); rerr != nil || err != nil {
			s.t.Fatalf("waited for a packet: %v %v", rerr, err)
		}
		if _, err := readHeader(b[:n]); err == nil {
			return b[:n]
		}
	}
}

// want waits for a packet that is header and payload, its TTL lower by hops,
// with nothing else changed: of IPv4's identification the RFC 6864, section 4.1 says
// that nobody may read it.
func (s *sniffer) want(name string, header, payload []byte, hops uint8) {
	s.t.Helper()
	got := s.next()
	want, f, err := appendForwarded(nil, header, payload)
	if err != nil {
		s.t.Fatal(err)
	}
	if f.from.Addr().Is4() {
		want[8] = header[8] - hops
		copy(want[4:6], got[4:6])
		copy(want[10:12], got[10:12])
		if sum := checksum(got[:f.udp], 0); sum != 0 {
			s.t.Errorf("%s: IPv4 header checksum is off by %#x", name, sum)
		}
	} else {
		want[7] = header[7] - hops
	}
	if !bytes.Equal(got, want) {
		s.t.Errorf("%s: arrived as\n% x, want\n% x", name, got, want)
	}
}

// RFC 5971 §4.3.1, §5.3.2: packets in transit with a router alert are taken,
// wherever the option stands, and go on with every option, extension header,
// the DSCP, the flow label and the source that they came with.
func TestInterceptAndForwardEveryHeader(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle})
	send, atB := l.a.sender(), l.b.sniff(t, "down")
	taken := 0
	for name, header := range headers() {
		f, err := readHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		sent := query(3)
		send(header, sent)
		if f.hasAlert && name != withRouting {
			d := atR.count(t, taken+1)[taken].(gist.Datagram)
			taken++
			// Sent as a forwarder does: with a hop less.
			if d.From != f.from || d.Local != f.to || d.TTL != 63 || !d.RouterAlert || d.Transit == nil || d.Interface == 0 || !bytes.Equal(d.Payload, sent) {
				t.Errorf("%s: R got %+v %+v", name, d, d.Transit)
			}
			sent[wire.MagicLen+wire.HopCountOffset]--
			d.Payload = sent
			if err := i.Forward(gist.ForwardDatagram{Datagram: d}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		atB.want(name, header, sent, 2)
	}
	st, err := i.Stats()
	if err != nil || st != (InterceptStats{Taken: uint64(taken), Forwarded: uint64(taken)}) {
		t.Errorf("stats %+v, %v; want %d taken and forwarded", st, err, taken)
	}
}

// RFC 5971 §4.3.1: "unless the message exactly matches the Q-mode encapsulation
// rules (Section 5.3.2) it MUST be forwarded transparently at the IP level".
func TestOtherPacketsPass(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle})
	send, atB := l.a.sender(), l.b.sniff(t, "down")
	v4, v6 := headers()["ipv4"], headers()["ipv6"]
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	for name, header := range map[string][]byte{
		"another port":                 change(v4, 27, 15),
		"another port, IPv6":           change(v6, 51, 15),
		"DF clear":                     change(v4, 6, 0),
		"a value not of GIST":          change(v4, 23, 1),  // RFC 3175
		"a value not of GIST, IPv6":    change(v6, 45, 1),  // RSVP
		"an option, but not this one":  change(v4, 20, 30), // experimental
		"another hop-by-hop option":    change(v6, 42, 30), // experimental, to be skipped
		"no router alert, but padding": append(change(v4[:20], 0, 0x46), append([]byte{1, 1, 1, 1}, v4[24:]...)...),
	} {
		send(header, query(3))
		atB.want(name, header, query(3), 2)
	}
	noMagic := query(3)
	noMagic[3]++
	send(v4, noMagic)
	atB.want("no magic number", v4, noMagic, 2)
	send(v6, noMagic)
	atB.want("no magic number, IPv6", v6, noMagic, 2)

	// Had any been taken, it would come before this one.
	send(v4, query(5))
	if d := atR.count(t, 1)[0].(gist.Datagram); !bytes.Equal(d.Payload, query(5)) {
		t.Errorf("R took %+v", d)
	}
	if st, err := i.Stats(); err != nil || st.Taken != 1 || st.Passed != 5 || st.Failed != 0 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

// A packet that is addressed to the router itself is nobody's in transit: it
// goes to the socket that is bound to the address.
func TestOwnPacketsAreNotIntercepted(t *testing.T) {
	l := newLine(t)
	caught, own := newSink(), newSink()
	l.r.intercept(InterceptConfig{Handler: caught.handle})
	addrs := []netip.AddrPort{netip.MustParseAddrPort("10.1.0.254:270"), netip.MustParseAddrPort("[2001:db8:1::fe]:270")}
	l.r.listenUDP(UDPConfig{Addrs: addrs, Handler: own.handle})
	a := l.a.listenUDP(UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:270"), netip.MustParseAddrPort("[2001:db8:1::1]:270")}})
	for n, to := range addrs {
		if err := a.Send([]Outgoing{{SendDatagram: gist.SendDatagram{To: to, RouterAlert: true, Payload: query(3)}}}); err != nil {
			t.Fatal(err)
		}
		if d := own.count(t, n+1)[n].(gist.Datagram); d.Local != to || d.Transit != nil {
			t.Errorf("got %+v", d)
		}
	}
	if got := caught.all(); len(got) != 0 {
		t.Errorf("intercepted %+v", got)
	}
}

// kernelState is what interception may leave behind: tables, rules and routes.
func (n *netns) kernelState() (state []string) {
	n.t.Helper()
	n.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if err != nil {
			return err
		}
		for _, table := range tables {
			state = append(state, "table "+table.Name)
		}
		rules, err := netlink.RuleList(netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, r := range rules {
			state = append(state, "rule "+r.String())
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: 26970}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range routes {
				state = append(state, "route "+r.String())
			}
		}
		return nil
	})
	return state
}

// What a predecessor that crashed has left is replaced, and hinders no packet
// until then; at the end nothing is left, and what others have put in stays.
func TestRulesAreReplacedAndRemoved(t *testing.T) {
	l := newLine(t)
	l.r.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(&nftables.Table{Name: "somebody_elses", Family: nftables.TableFamilyINet})
		return c.Flush()
	})
	before := l.r.kernelState()
	atR := newSink()
	crashed := l.r.intercept(InterceptConfig{Handler: atR.handle})
	with := l.r.kernelState()
	if len(with) != len(before)+5 { // a table, and a rule and a route for each IP version
		t.Fatalf("have %q, before %q", with, before)
	}

	err := l.r.try(func() error {
		_, err := ListenIntercept(InterceptConfig{Handler: atR.handle})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "another process intercepts") {
		t.Errorf("a second one with the same table: error %v", err)
	}
	if now := l.r.kernelState(); strings.Join(now, "\n") != strings.Join(with, "\n") {
		t.Errorf("the second one changed %q into %q", with, now)
	}

	_ = crashed.rules.lock.Close() // as a kill does, and the sockets' end
	crashed.rules = nil
	_ = crashed.Close()
	send, atB := l.a.sender(), l.b.sniff(t, "down")
	for _, name := range []string{"ipv4", "ipv6"} {
		send(headers()[name], query(3))
		atB.want(name+" after the crash", headers()[name], query(3), 2)
	}

	next := l.r.intercept(InterceptConfig{Handler: atR.handle})
	if now := l.r.kernelState(); strings.Join(now, "\n") != strings.Join(with, "\n") {
		t.Errorf("after a crash: have %q, want %q", now, with)
	}
	send(headers()["ipv4"], query(3))
	atR.count(t, 1)
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if now := l.r.kernelState(); strings.Join(now, "\n") != strings.Join(before, "\n") {
		t.Errorf("left behind: have %q, want %q", now, before)
	}
}

// RFC 5971 §5.8.1.2: by default a Query has the flow's source address, and "GIST
// SHOULD set the Diffserv codepoint and (for IPv6) flow label to match the values
// in the MRI".
func TestQueryMimicsTheFlow(t *testing.T) {
	l := newLine(t)
	atB := l.b.sniff(t, "down")
	r := l.r.listenUDP(UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.2.0.254:270"), netip.MustParseAddrPort("[2001:db8:2::fe]:270")}, Foreign: true})
	for _, c := range [][2]string{{"198.51.100.7", "10.2.0.1:270"}, {"2001:db8:77::7", "[2001:db8:2::1]:270"}} {
		from, to := netip.MustParseAddr(c[0]), netip.MustParseAddrPort(c[1])
		if err := r.Send([]Outgoing{{SendDatagram: gist.SendDatagram{
			Local: from, Foreign: true, To: to, TTL: 9, RouterAlert: true, DSCP: 46, FlowLabel: 0xabcde, Payload: query(3),
		}}}); err != nil {
			t.Fatal(err)
		}
		p := atB.next()
		f, err := readHeader(p)
		want := packetFacts{
			from: netip.AddrPortFrom(from, 270), to: to, ttl: 9, tos: 46 << 2, flow: 0xabcde,
			alert: RouterAlertValue(3, from.Is6()), hasAlert: true, udp: f.udp,
		}
		if from.Is4() {
			want.flow = 0
		}
		if err != nil || f != want || !bytes.Equal(p[f.udp+8:], query(3)) {
			t.Errorf("arrived as %+v, %v; want %+v", f, err, want)
		}
	}
}

// RFC 5971 §5.3.2.3: "a GIST node SHOULD have a rate limiter [...]. Any excess
// packets SHOULD be discarded"; they are counted.
func TestInterceptionIsLimited(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle, Rate: 1, Burst: 5})
	a := l.a.listenUDP(UDPConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.1.0.1:270")}})
	const n = 64
	batch := make([]Outgoing, n)
	for k := range batch {
		batch[k] = Outgoing{SendDatagram: gist.SendDatagram{To: netip.MustParseAddrPort("10.2.0.1:270"), RouterAlert: true, Payload: query(3)}}
	}
	if err := a.Send(batch); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		st, err := i.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if st.Taken+st.Limited == n {
			if st.Limited == 0 || st.Taken < 5 { // a minute would be needed to let all in
				t.Errorf("%+v", st)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v of %d", st, n)
		}
		time.Sleep(time.Millisecond) // poll
	}
}

// RFC 5971 §4.3.4: what does not fit the next link is told to the machine.
func TestTooLargeToForward(t *testing.T) {
	l := newLine(t)
	l.r.do(func() error {
		right, err := netlink.LinkByName("right")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(right, 1280)
	})
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle})
	send := l.a.sender()
	large := append(query(3), make([]byte, 1240)...)
	for n, name := range []string{"ipv4", "ipv6"} {
		send(headers()[name], large)
		d := atR.count(t, n+1)[n].(gist.Datagram)
		var tooLarge *TooLargeError
		if err := i.Forward(gist.ForwardDatagram{Datagram: d}); !errors.As(err, &tooLarge) || tooLarge.MTU != 1280 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// RFC 5971 §5.3.2.4: "On packets forwarded by GIST without NSLP processing, IP
// options MUST be processed as for a normally forwarded IP packet": routers
// record their own address, whether GIST sees the packet or not.
func TestRecordsOfForwardedPackets(t *testing.T) {
	l := newLine(t)
	options := []byte{148, 4, 0, 33, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	header := bytes.Clone(headers()["ipv4"])
	header = append(append(header[:20:20], options...), header[24:]...)
	header[0] = 0x40 + byte(20+len(options))/4
	send, atB := l.a.sender(), l.b.sniff(t, "down")
	records := func(packet []byte) [2]netip.Addr {
		return [2]netip.Addr{netip.AddrFrom4([4]byte(packet[27:31])), netip.AddrFrom4([4]byte(packet[39:43]))}
	}
	send(header, query(3))
	byKernel := records(atB.next())
	// Which of its addresses goes with a time is the router's affair.
	outside, inside := netip.MustParseAddr("10.2.0.254"), netip.MustParseAddr("10.1.0.254")
	if byKernel[0] != outside || (byKernel[1] != inside && byKernel[1] != outside) {
		t.Fatalf("the kernel records %v", byKernel)
	}
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle})
	send(header, query(3))
	if err := i.Forward(gist.ForwardDatagram{Datagram: atR.count(t, 1)[0].(gist.Datagram)}); err != nil {
		t.Fatal(err)
	}
	if got := records(atB.next()); got != [2]netip.Addr{outside, outside} {
		t.Errorf("recorded %v, want %v", got, outside)
	}
}

// A forwarded packet that comes by again, by whatever way, is not intercepted
// again: its mark says whose it is.
func TestForwardedPacketIsNotInterceptedAgain(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle})
	// A link whose other end is in the same namespace.
	l.r.do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "round"}, PeerName: "about"}); err != nil {
			return err
		}
		about, err := netlink.LinkByName("about")
		if err != nil {
			return err
		}
		round, err := netlink.LinkByName("round")
		if err != nil {
			return err
		}
		for _, link := range []netlink.Link{round, about} {
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		if err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: round.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.IPv4(10, 9, 0, 2), HardwareAddr: about.Attrs().HardwareAddr,
		}); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: round.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(10, 9, 0, 0).To4(), Mask: net.CIDRMask(24, 32)}})
	})
	l.r.up("round") // or the kernel drops what goes there
	l.r.up("about")
	seen := l.r.sniff(t, "about")
	header := bytes.Clone(headers()["ipv4"])
	copy(header[16:], []byte{10, 9, 0, 2})
	send := l.a.sender()
	send(header, query(3))
	d := atR.count(t, 1)[0].(gist.Datagram)
	if err := i.Forward(gist.ForwardDatagram{Datagram: d}); err != nil {
		t.Fatal(err)
	}
	seen.want("forwarded", header, query(3), 2)
	send(headers()["ipv4"], query(5))
	if d := atR.count(t, 2)[1].(gist.Datagram); !bytes.Equal(d.Payload, query(5)) {
		t.Errorf("intercepted again: %+v", d)
	}
}

// The fallback takes IPv4 packets of value 0, and sends on what is not for GIST.
func TestRawInterception(t *testing.T) {
	l := newLine(t)
	atR := newSink()
	i := l.r.intercept(InterceptConfig{Handler: atR.handle, Method: InterceptRaw})
	if before := l.r.kernelState(); strings.Contains(strings.Join(before, " "), "interqos") {
		t.Errorf("the raw method made %q", before)
	}
	send, atB := l.a.sender(), l.b.sniff(t, "down")
	zero := bytes.Clone(headers()["ipv4"])
	zero[23] = 0
	binary.BigEndian.PutUint16(zero[4:], 0x1234) // a raw socket sees the identification
	port := bytes.Clone(zero)
	port[27] = 15
	send(port, query(3))
	atB.want("another port", port, query(3), 2)
	send(headers()["ipv4"], query(3))
	atB.want("another value", headers()["ipv4"], query(3), 2)
	send(zero, query(3))
	d := atR.count(t, 1)[0].(gist.Datagram)
	if d.TTL != 63 || d.Local.String() != "10.2.0.1:270" || d.Transit == nil || d.Interface == 0 || !bytes.Equal(d.Payload, query(3)) {
		t.Errorf("R got %+v", d)
	}
	if err := i.Forward(gist.ForwardDatagram{Datagram: d}); err != nil {
		t.Fatal(err)
	}
	atB.want("forwarded", zero, query(3), 2)
	if st, err := i.Stats(); err != nil || st != (InterceptStats{Taken: 1, Passed: 1, Forwarded: 1}) {
		t.Errorf("stats %+v, %v", st, err)
	}
}

// Without the capability the error says which one is missing, and nothing is
// left half made.
func TestInterceptionNeedsCapabilities(t *testing.T) {
	n := newNetns(t)
	before := n.kernelState()
	for _, method := range []InterceptMethod{InterceptNFTables, InterceptRaw} {
		err := n.try(func() error {
			var data [2]unix.CapUserData
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			if err := unix.Capset(&header, &data[0]); err != nil { // of this thread, which ends
				return err
			}
			_, err := ListenIntercept(InterceptConfig{Handler: func([]gist.Event) {}, Method: method})
			return err
		})
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: error %v", method, err)
		}
	}
	if now := n.kernelState(); len(now) != len(before) {
		t.Errorf("left behind: %q", now)
	}
}

// RFC 2113 §2.1, RFC 5350 §3.1, §3.2, RFC 5974 §6.6: which router alert values are
// looked at. 1 to 32 and 4 to 35 are RSVP aggregation, and in IPv6 0 is Multicast
// Listener Discovery.
func TestDefaultAlerts(t *testing.T) {
	i := Intercept{cfg: InterceptConfig{Alerts4: DefaultAlerts(false), Alerts6: DefaultAlerts(true)}}
	for value := range uint16(100) {
		if got, want := i.wants(false, true, value), value == 0 || value >= 33 && value <= 64; got != want {
			t.Errorf("IPv4 value %d: %v, want %v", value, got, want)
		}
		if got, want := i.wants(true, true, value), value >= 36 && value <= 67; got != want {
			t.Errorf("IPv6 value %d: %v, want %v", value, got, want)
		}
	}
	if i.wants(false, false, 0) || i.wants(true, false, 36) {
		t.Error("wanted without a router alert")
	}
}

func TestInterceptConfigIsChecked(t *testing.T) {
	handler := func([]gist.Event) {}
	for want, cfg := range map[string]InterceptConfig{
		"no Handler":     {},
		"one mark":       {Handler: handler, Mark: 7, ForwardMark: 7},
		"IPv4 only":      {Handler: handler, Method: InterceptRaw, IPv6: true},
		"unknown method": {Handler: handler, Method: "magic"},
	} {
		if _, err := ListenIntercept(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}
