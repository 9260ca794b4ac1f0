package capture_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/pki"
	nslp "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

var update = flag.Bool("update", false, "write testdata/captures anew (as root); look at the difference before you commit it")

const captures = "../../testdata/captures"

// recordTo is set in the child process that has a network namespace of its own:
// the directory to write captures to.
const recordTo = "INTERQOS_RECORD_CAPTURES"

// recordLong says there that short timers may have their way: not in a test that
// a busy machine has to pass.
const recordLong = "INTERQOS_RECORD_LONG"

// scenarios are what is captured of our own machines and transports. reserve.pcap
// is not among them: that is lab 01 (testdata/captures/README.md).
var scenarios = []struct {
	name string
	run  func(*testing.T)
}{
	{"dmode-ipv4", func(t *testing.T) { dmode(t, "10.1.0.1", "10.2.0.1") }},
	{"dmode-ipv6", func(t *testing.T) { dmode(t, "2001:db8:1::1", "2001:db8:2::1") }},
	{"cmode-tcp", cmode},
	{"errors", badMessages},
	{"tls13", secure},
	{"tls12", func(t *testing.T) { overTLS(t, "tls12.keys", tls12) }},
}

// TestRecord has two GIST machines talk over our transports, in a network
// namespace of its own, and reads what went over the wire. With -update the
// captures are kept in testdata.
func TestRecord(t *testing.T) {
	if dir := os.Getenv(recordTo); dir != "" {
		record(t, dir)
		return
	}
	dir := t.TempDir()
	if *update {
		var err error
		if dir, err = filepath.Abs(captures); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRecord$", "-test.v")
	cmd.Env = append(os.Environ(), recordTo+"="+dir, fmt.Sprintf("%s=%t", recordLong, *update))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if os.IsPermission(err) {
		t.Skipf("needs root, to make a network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, s := range scenarios {
		checkRecorded(t, filepath.Join(dir, s.name+".pcap"), !*update)
	}
}

func record(t *testing.T, dir string) {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", "10.1.0.1/32", "dev", "lo"},
		{"address", "add", "10.2.0.1/32", "dev", "lo"},
		{"address", "add", "2001:db8:1::1/128", "dev", "lo", "nodad"},
		{"address", "add", "2001:db8:2::1/128", "dev", "lo", "nodad"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, s := range scenarios {
		keyLogDir = dir
		stop := sniff(t, filepath.Join(dir, s.name+".pcap"))
		s.run(t)
		stop()
		if t.Failed() {
			t.Fatal(s.name)
		}
	}
}

// sniff writes what goes over the loopback interface to a file, until stop.
func sniff(t *testing.T, file string) (stop func()) {
	t.Helper()
	all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: lo.Index}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(262144, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- copyFrames(fd, w) }()
	return func() {
		// The last frame is one that says so.
		c, err := net.Dial("udp", "10.1.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(lastFrame))
		_ = c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = unix.Close(fd)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

const lastFrame = "this is the end of the capture"

func copyFrames(fd int, w *pcapgo.Writer) error {
	b := make([]byte, 262144)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		// On the loopback interface every frame is seen leaving and arriving.
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		if p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.NoCopy); p.ApplicationLayer() != nil && string(p.ApplicationLayer().Payload()) == lastFrame {
			return nil
		} else if p.Layer(layers.LayerTypeICMPv4) != nil || p.Layer(layers.LayerTypeICMPv6) != nil {
			continue
		}
		ci := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: n, Length: n}
		if err := w.WritePacket(ci, b[:n]); err != nil {
			return err
		}
	}
}

// peer drives one GIST machine over our transports.
type peer struct {
	t    *testing.T
	addr netip.Addr
	m    *gist.Machine
	udp  *transport.UDP
	tcp  *transport.TCP
	in   chan []gist.Event
	got  chan gist.RecvMessage
	seen chan wire.MessageType // what came on associations
	done chan struct{}
	over chan struct{}
}

const (
	udpPort = 270
	tcpPort = 30000
	tlsPort = 30001
	nslpID  = 1
)

// newPeer makes a peer; with security its associations are over TLS alone.
func newPeer(t *testing.T, address string, security *transport.TLS, change func(*gist.Config)) *peer {
	t.Helper()
	p := &peer{t: t, addr: netip.MustParseAddr(address), in: make(chan []gist.Event, 64), got: make(chan gist.RecvMessage, 64), seen: make(chan wire.MessageType, 1024),
		done: make(chan struct{}), over: make(chan struct{})}
	cfg := gist.Config{
		Identity: []byte(address), Address: p.addr, TCPPort: tcpPort, NSLPIDs: []wire.NSLPID{nslpID},
		// RFC 5971 §5.8.1.2: to the flow's end, with router alert.
		Route: func(m wire.MRI) (gist.QueryRoute, error) {
			to := m.Flow.Destination.Addr()
			if m.Upstream {
				to = m.Flow.Source.Addr()
			}
			return gist.QueryRoute{To: netip.AddrPortFrom(to, udpPort), Local: p.addr, TTL: 64, RouterAlert: true}, nil
		},
		Rand: func(b []byte) { _, _ = rand.Read(b) }, Insecure: true,
		T1: time.Minute, // nothing is lost here, and nothing sent again because the machine is slow
	}
	if security != nil {
		// Whoever has a certificate of the authority is a peer.
		cfg.TLS, cfg.Insecure, cfg.TLSPort, cfg.Peers = true, false, tlsPort, []gist.PeerEntry{{}}
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if p.m, err = gist.New(cfg); err != nil {
		t.Fatal(err)
	}
	handler := func(evs []gist.Event) {
		select {
		case p.in <- evs:
		case <-p.done:
		}
	}
	if p.udp, err = transport.ListenUDP(transport.UDPConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(p.addr, udpPort)}, Handler: handler}); err != nil {
		t.Fatal(err)
	}
	streams := transport.TCPConfig{Listen: []netip.AddrPort{netip.AddrPortFrom(p.addr, tcpPort)}, Handler: handler}
	if security != nil {
		streams.Listen, streams.ListenTLS, streams.TLS = nil, []netip.AddrPort{netip.AddrPortFrom(p.addr, tlsPort)}, security
	}
	if p.tcp, err = transport.ListenTCP(streams); err != nil {
		t.Fatal(err)
	}
	go p.run()
	return p
}

func (p *peer) run() {
	defer close(p.over)
	for {
		var due <-chan time.Time
		var timer *time.Timer
		if at := p.m.Deadline(); !at.IsZero() {
			timer = time.NewTimer(time.Until(at))
			due = timer.C
		}
		select {
		case <-p.done:
			return
		case evs := <-p.in:
			for _, ev := range evs {
				p.note(ev)
				p.act(p.m.Handle(time.Now(), ev))
			}
		case <-due:
			p.act(p.m.Handle(time.Now(), nil))
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (p *peer) note(ev gist.Event) {
	var payload []byte
	if m, ok := ev.(*gist.ConnMessage); ok {
		payload = m.Payload
	}
	if h, err := wire.ParseHeader(payload); err == nil {
		p.seen <- h.Type
	}
}

// await waits until a message of this type came on an association.
func (p *peer) await(kind wire.MessageType) {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case k := <-p.seen:
			if k == kind {
				return
			}
		case <-late:
			p.t.Fatalf("no %v came", kind)
		}
	}
}

func (p *peer) act(actions []gist.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case gist.SendDatagram:
			if err := p.udp.Send([]transport.Outgoing{{SendDatagram: a}}); err != nil {
				p.t.Error(err)
			}
		case gist.Connect:
			if err := p.tcp.Connect(a); err != nil {
				p.t.Error(err)
			}
		case *gist.SendConn:
			_ = p.tcp.Send(*a) // ConnDown follows where it fails
		case gist.CloseConn:
			_ = p.tcp.CloseConn(a)
		case *gist.RecvMessage:
			p.got <- *a
		}
	}
}

func (p *peer) close() {
	close(p.done)
	<-p.over
	_ = p.tcp.Close()
	_ = p.udp.Close()
}

func (p *peer) do(ev gist.Event) { p.in <- []gist.Event{ev} }

func (p *peer) recv() gist.RecvMessage {
	p.t.Helper()
	select {
	case m := <-p.got:
		return m
	case <-time.After(time.Minute):
		p.t.Fatal("no message came")
		return gist.RecvMessage{}
	}
}

func flow(from, to string, port uint16) wire.MRI {
	a, b := netip.MustParseAddr(from), netip.MustParseAddr(to)
	f := wire.Flow{Source: netip.PrefixFrom(a, a.BitLen()), Destination: netip.PrefixFrom(b, b.BitLen()),
		HasProtocol: true, Protocol: 17, HasTraffic: true, DSCP: 46, HasSrcPort: true, SrcPort: 5000, HasDstPort: true, DstPort: port}
	if a.Is6() {
		f.HasLabel, f.FlowLabel = true, 0xabcde
	}
	return wire.MRI{Method: wire.PathCoupled, Flow: f}
}

var (
	testSID     = wire.SID{0x5e, 0x55, 0x10, 0x4e, 15: 1}
	testReserve = reserve()
)

// reserve is a RESERVE that has most of the objects that there are.
func reserve() []byte {
	q, err := qspec.ParseText("initiator type=0 proc=0/2 desired{tmod=20M/64k/40M/64/1500 class=EF excess=drop preempt=3/7 admission=2/2} " +
		"available{tmod=20M/64k latency=1500 jitter=10/20/30 plr=0.001!E} minimum{tmod=10M/64k}")
	if err != nil {
		panic(err)
	}
	m := nslp.Message{Type: nslp.Reserve, MessageFlags: nslp.Replace, Flags: nslp.AckReq, HasRSN: true, RSN: nslp.RSN{Number: 7, Epoch: 0x12345678},
		HasRII: true, RII: 0xcafe, HasRefreshPeriod: true, RefreshPeriod: 30_000, HasMsgID: true, MsgID: nslp.MsgID{Bidirectional: true, ID: [16]byte{1, 15: 2}},
		BoundSessions:    []nslp.BoundSession{{Code: nslp.BindDependent, SID: wire.SID{9, 9}}},
		PacketClassifier: (nslp.ClassifySource | nslp.ClassifyDestination | nslp.ClassifyDstPort).Append(nil), QSPEC: q.Append(nil),
		Objects: []nslp.Object{{Action: nslp.Forward, Type: 1999, Value: []byte("unknown.")}}}
	return m.Append(nil)
}

func response(class nslp.ErrorClass, code uint8) []byte {
	m := nslp.Message{Type: nslp.Response, HasRII: true, RII: 0xcafe, HasInfoSpec: true,
		InfoSpec: nslp.InfoSpec{Class: class, Code: code, Source: nslp.SourceAddr(netip.MustParseAddr("10.2.0.1"))}}
	return m.Append(nil)
}

// dmode is a handshake and Data both ways, all in datagrams.
func dmode(t *testing.T, from, to string) {
	dModeData := func(c *gist.Config) { c.DModeData = true; c.MTU = 1500 }
	a, b := newPeer(t, from, nil, dModeData), newPeer(t, to, nil, dModeData)
	defer b.close()
	defer a.close()
	a.do(gist.SendMessage{NSLPData: testReserve, NSLPID: nslpID, SID: testSID, MRI: flow(from, to, 5001)})
	m := b.recv()
	b.do(gist.SendMessage{NSLPData: response(nslp.ClassSuccess, nslp.ReservationSuccessful), NSLPID: nslpID, SID: m.SID, MRI: m.MRI.Reverse()})
	a.recv()
}

// cmode is a messaging association over TCP that lives on: refreshes of routing
// state on it, MA-Hellos when it is silent, and its end.
func cmode(t *testing.T) {
	rounds := 1
	short := func(c *gist.Config) {
		if os.Getenv(recordLong) != "true" {
			return
		}
		rounds = 3
		c.ValidityPathCoupled, c.MAHoldTime, c.MAIdle = 6*time.Second, 3*time.Second, time.Minute
	}
	a, b := newPeer(t, "10.1.0.1", nil, short), newPeer(t, "10.2.0.1", nil, short)
	defer b.close()
	defer a.close()
	reliable := gist.TransferAttributes{Reliable: true}
	mri := flow("10.1.0.1", "10.2.0.1", 5001)
	for i := range rounds {
		a.do(gist.SendMessage{NSLPData: testReserve, NSLPID: nslpID, SID: testSID, MRI: mri, Attr: reliable})
		m := b.recv()
		b.do(gist.SendMessage{NSLPData: response(nslp.ClassTransientFailure, nslp.ReservationFailure), NSLPID: nslpID, SID: m.SID, MRI: m.MRI.Reverse(), Attr: reliable})
		a.recv()
		if i < rounds-1 { // silence: MA-Hellos, and refreshes of the routing state
			b.await(wire.MAHello)
			b.await(wire.Confirm)
		}
	}
	summary := nslp.Message{Type: nslp.Reserve, HasRSN: true, RSN: nslp.RSN{Number: 8, Epoch: 0x12345678}, SessionIDs: []wire.SID{testSID, {7}},
		HasRSNList: true, RSNs: nslp.RSNList{Epoch: 0x12345678, RSNs: []uint32{8, 9}}}
	a.do(gist.SendMessage{NSLPData: summary.Append(nil), NSLPID: nslpID, SID: testSID, MRI: mri, Attr: reliable})
	b.recv()
}

// secure is an association over TLS.
func secure(t *testing.T) {
	keys, err := os.Create(filepath.Join(keyLogDir, "tls13.keys"))
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	ca, err := pki.NewCA(pki.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	security := func(address string, as uint32, keys io.Writer) *transport.TLS {
		pair, err := ca.Issue(pki.Request{Name: "qne", AS: as, IPs: []netip.Addr{netip.MustParseAddr(address)}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca.Cert)
		s, err := transport.NewTLS(transport.TLSConfig{Certificate: c, CAs: roots, KeyLog: keys})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := newPeer(t, "10.1.0.1", security("10.1.0.1", 65001, keys), nil), newPeer(t, "10.2.0.1", security("10.2.0.1", 65002, nil), nil)
	defer b.close()
	defer a.close()
	attr := gist.TransferAttributes{Reliable: true, Secure: true}
	for range 2 {
		a.do(gist.SendMessage{NSLPData: testReserve, NSLPID: nslpID, SID: testSID, MRI: flow("10.1.0.1", "10.2.0.1", 5001), Attr: attr})
		m := b.recv()
		b.do(gist.SendMessage{NSLPData: response0(), NSLPID: nslpID, SID: m.SID, MRI: m.MRI.Reverse(), Attr: attr})
		a.recv()
	}
}

// badMessages are messages that a stranger sends to a node, and its Errors.
func badMessages(t *testing.T) {
	b := newPeer(t, "10.2.0.1", nil, nil)
	defer b.close()
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.1.0.1:270")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.2.0.1:270")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	query := wire.Message{Header: wire.Header{HopCount: 10, NSLPID: nslpID, Type: wire.Query, C: true, S: true, R: true}, HasMRI: true,
		MRI: flow("10.1.0.1", "10.2.0.1", 5001), HasSID: true, SID: testSID, HasNLI: true,
		NLI:         wire.NLI{PeerIdentity: []byte("stranger"), Address: netip.MustParseAddr("10.1.0.1"), ValidityMS: 30_000, IPTTL: 64},
		QueryCookie: []byte("cook")}
	answer := make([]byte, 2048)
	for _, change := range []func([]byte) []byte{
		func(q []byte) []byte { q[4] = 9; return q },                                         // version
		func(q []byte) []byte { q[10] = 0x80 | 77; return q },                                // type
		func(q []byte) []byte { q[7]--; return q },                                           // Message Length
		func(q []byte) []byte { return append(q[:8], append([]byte{0, 200}, q[10:]...)...) }, // NSLPID
		func(q []byte) []byte { q[18] = 0x90; return q },                                     // IP version in the MRI
		func(q []byte) []byte { q[7] += 2; return append(q, 0, 0xcc, 0, 1, 1, 2, 3, 4) },     // an unknown object
	} {
		if _, err := c.Write(change(query.AppendDatagram(nil))); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(answer); err != nil {
			t.Fatal(err)
		}
	}
	// What no Error answers: an Error of another kind, octets that are none.
	e := wire.Message{Header: wire.Header{HopCount: 1, NSLPID: nslpID, Type: wire.Error}, HasNLI: true, NLI: query.NLI,
		Error: &wire.ErrorData{ID: wire.MessageTooLarge, DMode: true, QMode: true, HasSID: true, SID: testSID, HasMRI: true, MRI: query.MRI,
			Header: query.Header, Info: []wire.AdditionalInfo{wire.MTUInfo(1280)}, Comment: "too large for <this> link"}}
	_, _ = c.Write(e.AppendDatagram(nil))
	loose := query
	loose.MRI = wire.MRI{Method: wire.LooseEnd, Upstream: true, Flow: wire.Flow{Source: query.MRI.Flow.Source, Destination: query.MRI.Flow.Destination}}
	nat := wire.NATTraversal{MRI: query.MRI, Translated: []uint16{0, 2}, Opaque: [][]byte{[]byte("first"), {}}}
	loose.NATTraversal = nat.Append(nil)
	if _, err := c.Write(loose.AppendDatagram(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("no GIST at all")); err != nil {
		t.Fatal(err)
	}
}
