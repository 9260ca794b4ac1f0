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

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist"
)

// AlertRange is a range of router alert values.
type AlertRange struct{ First, Last uint16 }

// DefaultAlerts are the router alert values that concern GIST: for IPv4, 0
// ("router shall examine packet", RFC 2113 §2.1) and those of QoS-NSLP; for
// IPv6 those of QoS-NSLP. RFC 5974 §6.6, RFC 5350 §3.1,
// §3.2
func DefaultAlerts(v6 bool) []AlertRange {
	qos := AlertRange{RouterAlertValue(1, v6), RouterAlertValue(32, v6)}
	if v6 {
		return []AlertRange{qos}
	}
	return []AlertRange{{0, 0}, qos}
}

// InterceptMethod is how packets in transit are taken from the kernel.
type InterceptMethod string

// Ways to intercept.
const (
	// InterceptNFTables takes every router alert value, IPv4 and IPv6.
	InterceptNFTables InterceptMethod = "nftables"
	// InterceptRaw takes IPv4 packets of router alert value 0, where nftables
	// is not to be had.
	InterceptRaw InterceptMethod = "raw"
)

// Packet marks that InterceptConfig has if it does not say others: "iq" in
// their upper half.
const (
	DefaultMark        = 0x69710001
	DefaultForwardMark = 0x69710002
)

// InterceptConfig configures Intercept. Zero fields take the defaults named.
type InterceptConfig struct {
	Method InterceptMethod // InterceptNFTables
	// Port is GIST's UDP port. 270.
	Port uint16
	// IPv4 and IPv6 say which IP versions are intercepted. Neither: both, or
	// IPv4 alone where there is no IPv6.
	IPv4, IPv6 bool
	// Alerts4 and Alerts6 are the router alert values taken. DefaultAlerts.
	Alerts4, Alerts6 []AlertRange
	// Rate is how many packets per second are taken on the mean, Burst at once;
	// "any excess packets SHOULD be discarded" (RFC 5971 §5.3.2.3). 20,000 and
	// 2,000.
	Rate, Burst int

	Table        string // nftables table, of our own. "interqos_gist"
	Mark         uint32 // packet mark of what is intercepted. DefaultMark
	ForwardMark  uint32 // and of what goes on. DefaultForwardMark
	RouteTable   int    // table of the local route. 26970
	RulePriority int    // of the rule that leads to it. 269

	Handler Handler
	// MaxDatagram, Batch and Buffer are as in UDPConfig.
	MaxDatagram, Batch, Buffer int
	// OnError hears of sockets that cannot be read, and of packets that could
	// not be forwarded; may be nil.
	OnError func(local netip.AddrPort, err error)
}

func (c *InterceptConfig) setDefaults() error {
	setDefault(&c.MaxDatagram, 9216)
	setDefault(&c.Batch, 32)
	setDefault(&c.Buffer, 1<<20)
	setDefault(&c.Rate, 20_000)
	setDefault(&c.Burst, 2_000)
	setDefault(&c.RouteTable, 26970)
	setDefault(&c.RulePriority, 269)
	or := func(p *uint32, v uint32) {
		if *p == 0 {
			*p = v
		}
	}
	or(&c.Mark, DefaultMark)
	or(&c.ForwardMark, DefaultForwardMark)
	if c.Port == 0 {
		c.Port = gist.DefaultPort
	}
	if c.Table == "" {
		c.Table = "interqos_gist"
	}
	if c.Method == "" {
		c.Method = InterceptNFTables
	}
	if !c.IPv4 && !c.IPv6 {
		c.IPv4, c.IPv6 = true, c.Method == InterceptNFTables && ipv6Enabled()
	}
	if c.Alerts4 == nil {
		c.Alerts4 = DefaultAlerts(false)
	}
	if c.Alerts6 == nil {
		c.Alerts6 = DefaultAlerts(true)
	}
	if c.OnError == nil {
		c.OnError = func(netip.AddrPort, error) {}
	}
	switch {
	case c.Handler == nil:
		return errors.New("no Handler")
	case c.Mark == c.ForwardMark:
		return fmt.Errorf("one mark, %#x, for what is intercepted and what is forwarded", c.Mark)
	case c.Method == InterceptRaw && c.IPv6:
		return errors.New("the raw method intercepts IPv4 only")
	case c.Method != InterceptRaw && c.Method != InterceptNFTables:
		return fmt.Errorf("unknown method %q", c.Method)
	}
	return nil
}

// Intercept takes Q-mode packets in transit, whoever they are addressed to, and
// forwards those that the node does not want. RFC 5971 §4.3.1, §5.3.2
type Intercept struct {
	cfg     InterceptConfig
	rules   *rules // nil: raw
	net     *netlink.Handle
	forward *forwarder
	sockets []*interceptSocket
	raw     *rawIntercept
	done    chan struct{}
	wait    sync.WaitGroup
	once    sync.Once

	taken, passed, forwarded, strangers, tooLong, failed atomic.Uint64
}

// InterceptStats counts packets.
type InterceptStats struct {
	Taken     uint64 // handed to the Handler
	Passed    uint64 // taken from the kernel, not of Q-mode, and sent on as they were
	Forwarded uint64 // sent on at the word of GIST
	Strangers uint64 // sent to the interception socket itself: dropped
	TooLong   uint64 // longer than MaxDatagram: dropped
	Failed    uint64 // could not be sent on
	Limited   uint64 // dropped in the kernel, above Rate
}

// ListenIntercept sets interception up and starts to read.
func ListenIntercept(cfg InterceptConfig) (*Intercept, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("gist interception: %w", err)
	}
	i := &Intercept{cfg: cfg, done: make(chan struct{})}
	if err := i.open(); err != nil {
		_ = i.Close()
		return nil, fmt.Errorf("gist interception: %w", err)
	}
	for _, s := range i.sockets {
		i.wait.Go(func() { i.read(s) })
	}
	if i.raw != nil {
		i.wait.Go(i.readRaw)
	}
	return i, nil
}

func (i *Intercept) open() (err error) {
	if i.net, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	if i.forward, err = openForwarder(i.cfg.ForwardMark, i.net, i.cfg.IPv4, i.cfg.IPv6); err != nil {
		return err
	}
	if i.cfg.Method == InterceptRaw {
		i.raw, err = openRawIntercept(i.cfg.Buffer)
		return err
	}
	var ports [2]uint16
	for n, v6 := range []bool{false, true} {
		if (v6 && !i.cfg.IPv6) || (!v6 && !i.cfg.IPv4) {
			continue
		}
		s, err := openIntercept(v6, i.cfg.Buffer)
		if err != nil {
			return err
		}
		i.sockets = append(i.sockets, s)
		ports[n] = s.local.Port()
	}
	i.rules, err = install(&i.cfg, i.net, ports[0], ports[1])
	return err
}

// Method is how packets are taken.
func (i *Intercept) Method() InterceptMethod { return i.cfg.Method }

// Versions are the IP versions whose packets are taken.
func (i *Intercept) Versions() (v []int) {
	if i.cfg.IPv4 {
		v = append(v, 4)
	}
	if i.cfg.IPv6 {
		v = append(v, 6)
	}
	return v
}

// Close removes every rule, and waits until no Handler call runs any more.
// Packets in transit pass again.
func (i *Intercept) Close() error {
	i.once.Do(func() {
		if i.rules != nil {
			i.rules.remove()
		}
		close(i.done)
		for _, s := range i.sockets {
			_ = s.conn.Close()
		}
		if i.raw != nil {
			i.raw.close()
		}
	})
	i.wait.Wait()
	if i.forward != nil {
		i.forward.close()
	}
	if i.net != nil {
		i.net.Close()
	}
	return nil
}

// Stats returns the counts; with an error, all but Limited.
func (i *Intercept) Stats() (InterceptStats, error) {
	st := InterceptStats{
		Taken: i.taken.Load(), Passed: i.passed.Load(), Forwarded: i.forwarded.Load(),
		Strangers: i.strangers.Load(), TooLong: i.tooLong.Load(), Failed: i.failed.Load(),
	}
	if i.rules == nil {
		return st, nil
	}
	var err error
	st.Limited, err = i.rules.limited()
	return st, err
}

// Forward sends an intercepted packet on. An error that is a *TooLargeError
// has to be told to the machine, as gist.NotForwarded.
func (i *Intercept) Forward(a gist.ForwardDatagram) error {
	d := &a.Datagram
	if d.Transit == nil {
		return errors.New("gist interception: not an intercepted packet")
	}
	if err := i.forward.forward(d.Transit, d.Payload); err != nil {
		i.failed.Add(1)
		return err
	}
	i.forwarded.Add(1)
	return nil
}

// pass sends on what is no Q-mode packet: "it MUST be forwarded transparently
// at the IP level" (RFC 5971 §4.3.1).
func (i *Intercept) pass(header, payload []byte) {
	if err := i.forward.forward(&gist.Transit{Header: header}, payload); err != nil {
		i.failed.Add(1)
		i.cfg.OnError(netip.AddrPort{}, err)
		return
	}
	i.passed.Add(1)
}

// wants says whether the router alert value is one of ours.
func (i *Intercept) wants(v6, has bool, value uint16) bool {
	ranges := i.cfg.Alerts4
	if v6 {
		ranges = i.cfg.Alerts6
	}
	for _, r := range ranges {
		if has && r.First <= value && value <= r.Last {
			return true
		}
	}
	return false
}

// interceptSocket gets the packets of one IP version.
type interceptSocket struct {
	local netip.AddrPort
	v6    bool
	conn  *net.UDPConn
	batch batchConn
}

// openIntercept opens a transparent socket on the loopback interface: the rules
// hand it packets of any destination, and others cannot reach it.
func openIntercept(v6 bool, buffer int) (*interceptSocket, error) {
	s := &interceptSocket{v6: v6}
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) { err = prepareIntercept(int(fd), v6, buffer) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(loopback(v6), 0).String())
	if err != nil {
		return nil, capability("transparent socket", err)
	}
	s.conn = pc.(*net.UDPConn) // what ListenPacket returns for udp
	s.local = s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if v6 {
		s.batch = ipv6.NewPacketConn(s.conn)
	} else {
		s.batch = ipv4.NewPacketConn(s.conn)
	}
	return s, nil
}

func prepareIntercept(fd int, v6 bool, buffer int) error {
	options := [][2]int{
		{unix.IP_TRANSPARENT, 1},
		{unix.IP_RECVORIGDSTADDR, 1},
		{unix.IP_PKTINFO, 1},
		{unix.IP_RECVTTL, 1},
		{unix.IP_RECVTOS, 1},
		{unix.IP_RECVOPTS, 1},
	}
	level := unix.SOL_IP
	if v6 {
		level = unix.SOL_IPV6
		options = [][2]int{
			{unix.IPV6_V6ONLY, 1},
			{unix.IPV6_TRANSPARENT, 1},
			{unix.IPV6_RECVORIGDSTADDR, 1},
			{unix.IPV6_RECVPKTINFO, 1},
			{unix.IPV6_RECVHOPLIMIT, 1},
			{ipv6Flowinfo, 1},
			{unix.IPV6_RECVHOPOPTS, 1},
			{unix.IPV6_RECVDSTOPTS, 1},
		}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			return fmt.Errorf("socket option %d: %w", o[0], err)
		}
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
}

// interceptOOB holds the control messages of one packet: IPv6 extension headers
// can be long.
const interceptOOB = 8192

func (i *Intercept) read(s *interceptSocket) {
	ms := make([]ipv4.Message, i.cfg.Batch)
	payload, oob := make([]byte, i.cfg.Batch*i.cfg.MaxDatagram), make([]byte, i.cfg.Batch*interceptOOB)
	for n := range ms {
		ms[n].Buffers = [][]byte{payload[n*i.cfg.MaxDatagram : (n+1)*i.cfg.MaxDatagram]}
		ms[n].OOB = oob[n*interceptOOB : (n+1)*interceptOOB]
	}
	for {
		n, err := s.batch.ReadBatch(ms, 0)
		if err != nil {
			if !i.again(s.local, err) {
				return
			}
			continue
		}
		events := make([]gist.Event, 0, n)
		for k := range ms[:n] {
			if ev, ok := i.event(s, &ms[k]); ok {
				events = append(events, ev)
			}
		}
		i.deliver(events)
	}
}

// again waits a little after an error; false: it is time to end.
func (i *Intercept) again(local netip.AddrPort, err error) bool {
	select {
	case <-i.done: // the error says that it is closed
		return false
	default:
	}
	i.cfg.OnError(local, err)
	select { // whatever it is, do not spin on it
	case <-i.done:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

func (i *Intercept) deliver(events []gist.Event) {
	if len(events) > 0 {
		i.taken.Add(uint64(len(events)))
		i.cfg.Handler(events)
	}
}

// event makes a received packet an event, or sends it on if it is none for GIST.
func (i *Intercept) event(s *interceptSocket, m *ipv4.Message) (gist.Datagram, bool) {
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok || m.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		i.tooLong.Add(1)
		return gist.Datagram{}, false
	}
	remote := from.AddrPort()
	a := arrived{from: netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), remote.Port())}
	a.parse(m.OOB[:m.NN])
	if !a.to.IsValid() || a.to.Port() != i.cfg.Port || a.to == s.local {
		i.strangers.Add(1)
		return gist.Datagram{}, false
	}
	header := a.header()
	f, err := readHeader(header)
	if err != nil {
		i.failed.Add(1)
		i.cfg.OnError(s.local, err)
		return gist.Datagram{}, false
	}
	if !i.wants(s.v6, f.hasAlert, f.alert) {
		i.pass(header, m.Buffers[0][:m.N])
		return gist.Datagram{}, false
	}
	return gist.Datagram{
		Local: a.to, From: a.from, Interface: a.iface, TTL: a.ttl, RouterAlert: true,
		Transit: &gist.Transit{Header: header},
		Payload: append([]byte(nil), m.Buffers[0][:m.N]...),
	}, true
}

// parse reads the control messages of a packet.
func (a *arrived) parse(b []byte) {
	for len(b) >= unix.CmsgLen(0) {
		head, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		switch head.Level {
		case unix.SOL_IP:
			a.parse4(head.Type, data)
		case unix.SOL_IPV6:
			a.parse6(head.Type, data)
		}
		b = rest
	}
}

func (a *arrived) parse4(kind int32, data []byte) {
	switch {
	case kind == unix.IP_TTL && len(data) >= 4:
		a.ttl = uint8(binary.NativeEndian.Uint32(data))
	case kind == unix.IP_TOS && len(data) >= 1:
		a.tos = data[0]
	case kind == unix.IP_RECVOPTS:
		a.extensions = append(a.extensions, data...)
	case kind == unix.IP_PKTINFO && len(data) >= 12:
		a.iface = binary.NativeEndian.Uint32(data)
	case kind == unix.IP_RECVORIGDSTADDR && len(data) >= 8:
		a.to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:8])), binary.BigEndian.Uint16(data[2:]))
	}
}

func (a *arrived) parse6(kind int32, data []byte) {
	switch {
	case kind == unix.IPV6_HOPLIMIT && len(data) >= 4:
		a.ttl = uint8(binary.NativeEndian.Uint32(data))
	case kind == ipv6Flowinfo && len(data) >= 4:
		a.flowinfo = binary.BigEndian.Uint32(data)
	case kind == unix.IPV6_PKTINFO && len(data) >= 20:
		a.iface = binary.NativeEndian.Uint32(data[16:])
	case kind == unix.IPV6_RECVORIGDSTADDR && len(data) >= 24:
		a.to = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[8:24])), binary.BigEndian.Uint16(data[2:]))
	case kind == unix.IPV6_HOPOPTS:
		a.extend(unix.IPPROTO_HOPOPTS, data)
	case kind == unix.IPV6_DSTOPTS:
		a.extend(unix.IPPROTO_DSTOPTS, data)
	}
}

// extend takes an extension header; the kernel tells them in their order.
func (a *arrived) extend(kind uint8, header []byte) {
	if len(a.extensions) == 0 {
		a.firstKind = kind
	}
	a.extensions = append(a.extensions, header...)
}
