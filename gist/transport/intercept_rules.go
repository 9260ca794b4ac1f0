package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/interqos/interqos/gist/wire"
)

// The kernel's part of interception: a table of our own in nftables, and for
// each IP version a rule and a local route that have marked packets delivered
// here. In the words of nft(8), for IPv4:
//
//	table inet interqos_gist {
//		chain prerouting {
//			type filter hook prerouting priority mangle; policy accept;
//			meta mark FORWARDMARK return
//			fib daddr type != unicast return
//			meta nfproto ipv4 ip hdrlength > 5 ip frag-off & 0x7fff == 0x4000
//				udp dport 270 udp checksum != 0 @th,64,32 0x4e04bda5 goto take
//		}
//		chain take {
//			limit rate over RATE/second burst BURST packets counter drop
//			meta nfproto ipv4 tproxy ip to 127.0.0.1:PORT meta mark set MARK accept
//		}
//	}
//	ip rule add fwmark MARK lookup TABLE; ip route add local default dev lo table TABLE
//
// RFC 5971 §5.3.2.1: "a node MAY make the initial interception decision based
// purely on IP-Protocol number transport header analysis": which option it is is
// seen later. DF and a checksum MUST be there, and without the magic number
// the packet "SHOULD be forwarded" (§5.3.2.3): such packets never leave the
// kernel. If nobody listens on PORT any more, tproxy does not match, and packets
// pass.

const (
	prerouting = "prerouting"
	take       = "take"
)

// rules are what was put into the kernel.
type rules struct {
	cfg   *InterceptConfig
	nft   *nftables.Conn
	table *nftables.Table
	net   *netlink.Handle
	lock  *net.UnixListener
}

// install puts the rules in, in the place of what a predecessor left behind.
// port4 and port6 are the ports of the sockets; 0: not that IP version.
func install(cfg *InterceptConfig, h *netlink.Handle, port4, port6 uint16) (*rules, error) {
	r := &rules{cfg: cfg, net: h}
	if err := r.claim(); err != nil {
		return nil, err
	}
	err := r.installTable(port4, port6)
	for _, v6 := range []bool{false, true} {
		if err == nil && ((v6 && port6 != 0) || (!v6 && port4 != 0)) {
			err = r.installRoute(v6)
		}
	}
	if err != nil {
		r.remove()
		return nil, err
	}
	return r, nil
}

// claim takes the table's name for this process, in this network namespace: a
// name that a dead process had is free.
func (r *rules) claim() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@interqos-intercept-" + r.cfg.Table})
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("another process intercepts with table %q here already; give each a table, marks and a route table of its own", r.cfg.Table)
	}
	r.lock = l
	return err
}

func (r *rules) installTable(port4, port6 uint16) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return capability("nftables", err)
	}
	r.nft = c
	t := &nftables.Table{Name: r.cfg.Table, Family: nftables.TableFamilyINet}
	c.AddTable(t) // so that there is one to delete, in the same transaction
	c.DelTable(t)
	r.table = c.AddTable(t)
	accept := nftables.ChainPolicyAccept
	pre := c.AddChain(&nftables.Chain{
		Name: prerouting, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &accept,
	})
	to := c.AddChain(&nftables.Chain{Name: take, Table: t})
	rule := func(ch *nftables.Chain, exprs ...[]expr.Any) {
		var all []expr.Any
		for _, e := range exprs {
			all = append(all, e...)
		}
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: all})
	}
	leave := []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	rule(pre, metaIs(expr.MetaKeyMARK, native32(r.cfg.ForwardMark)), leave)
	rule(pre, []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(unix.RTN_UNICAST)},
	}, leave)
	jump := []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: take}}
	if port4 != 0 {
		rule(pre, r.match4(), r.matchUDP(), jump)
	}
	if port6 != 0 {
		rule(pre, r.match6(), r.matchUDP(), jump)
	}
	rule(to, []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(r.cfg.Rate), Unit: expr.LimitTimeSecond, Burst: uint32(r.cfg.Burst), Over: true},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	})
	if port4 != 0 {
		rule(to, r.deliver(nftables.TableFamilyIPv4, loopback(false), port4))
	}
	if port6 != 0 {
		rule(to, r.deliver(nftables.TableFamilyIPv6, loopback(true), port6))
	}
	if err := c.Flush(); err != nil {
		r.table = nil
		return capability("nftables table "+r.cfg.Table, err)
	}
	return nil
}

func loopback(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
func big16(v uint16) []byte    { return binary.BigEndian.AppendUint16(nil, v) }

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

func payloadIs(base expr.PayloadBase, offset uint32, op expr.CmpOp, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(value))},
		&expr.Cmp{Op: op, Register: 1, Data: value},
	}
}

func masked(offset uint32, op expr.CmpOp, mask, value []byte) []expr.Any {
	n := uint32(len(mask))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		&expr.Cmp{Op: op, Register: 1, Data: value},
	}
}

// match4 matches IPv4 packets with options, with DF, not fragments.
func (r *rules) match4() []expr.Any {
	m := metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV4})
	m = append(m, masked(0, expr.CmpOpGt, []byte{0xf}, []byte{5})...)
	return append(m, masked(6, expr.CmpOpEq, []byte{0x7f, 0xff}, []byte{0x40, 0})...)
}

// match6 matches IPv6 packets that begin with hop-by-hop options and have
// neither AH nor a fragment header. Nor a routing header, which Q-mode would
// allow: the kernel would act on it as if the packet were for this node.
func (r *rules) match6() []expr.Any {
	m := metaIs(expr.MetaKeyNFPROTO, []byte{unix.NFPROTO_IPV6})
	m = append(m, payloadIs(expr.PayloadBaseNetworkHeader, 6, expr.CmpOpEq, []byte{unix.IPPROTO_HOPOPTS})...)
	for _, kind := range []uint8{unix.IPPROTO_AH, unix.IPPROTO_FRAGMENT, unix.IPPROTO_ROUTING} {
		m = append(m,
			&expr.Exthdr{DestRegister: 1, Type: kind, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}})
	}
	return m
}

func (r *rules) matchUDP() []expr.Any {
	m := metaIs(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_UDP})
	m = append(m, payloadIs(expr.PayloadBaseTransportHeader, 2, expr.CmpOpEq, big16(r.cfg.Port))...)
	m = append(m, payloadIs(expr.PayloadBaseTransportHeader, 6, expr.CmpOpNeq, []byte{0, 0})...)
	return append(m, payloadIs(expr.PayloadBaseTransportHeader, udpHeaderLen, expr.CmpOpEq,
		binary.BigEndian.AppendUint32(nil, wire.MagicNumber))...)
}

// deliver gives a packet to the socket, if there is one, and marks it.
func (r *rules) deliver(family nftables.TableFamily, a netip.Addr, port uint16) []expr.Any {
	return append(metaIs(expr.MetaKeyNFPROTO, []byte{byte(family)}),
		&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.Immediate{Register: 2, Data: big16(port)},
		&expr.TProxy{Family: byte(family), TableFamily: byte(nftables.TableFamilyINet), RegAddr: 1, RegPort: 2},
		&expr.Immediate{Register: 1, Data: native32(r.cfg.Mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
		&expr.Verdict{Kind: expr.VerdictAccept})
}

func (r *rules) ipRule(v6 bool) *netlink.Rule {
	rule, mask := netlink.NewRule(), ^uint32(0)
	rule.Family, rule.Mark, rule.Mask = family(v6), r.cfg.Mark, &mask
	rule.Table, rule.Priority = r.cfg.RouteTable, r.cfg.RulePriority
	return rule
}

func (r *rules) route(v6 bool) (*netlink.Route, error) {
	lo, err := r.net.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("interface lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		return nil, errors.New("interface lo is down: intercepted packets are delivered through it")
	}
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if v6 {
		all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: all, Family: family(v6), Table: r.cfg.RouteTable,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	}, nil
}

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (r *rules) installRoute(v6 bool) error {
	route, err := r.route(v6)
	if err != nil {
		return err
	}
	if err := r.net.RouteReplace(route); err != nil {
		return capability(fmt.Sprintf("local route in table %d", r.cfg.RouteTable), err)
	}
	rule := r.ipRule(v6)
	for r.net.RuleDel(rule) == nil { // a predecessor's
	}
	if err := r.net.RuleAdd(rule); err != nil {
		return capability(fmt.Sprintf("ip rule for mark %#x", r.cfg.Mark), err)
	}
	return nil
}

// remove takes out what install put in.
func (r *rules) remove() {
	if r.table != nil {
		r.nft.DelTable(r.table)
		_ = r.nft.Flush() // it may have been removed by hand
		r.table = nil
	}
	for _, v6 := range []bool{false, true} {
		_ = r.net.RuleDel(r.ipRule(v6))
		if route, err := r.route(v6); err == nil {
			_ = r.net.RouteDel(route)
		}
	}
	if r.nft != nil {
		_ = r.nft.CloseLasting()
	}
	_ = r.lock.Close()
}

// limited is how many packets the kernel dropped above the rate.
func (r *rules) limited() (uint64, error) {
	list, err := r.nft.GetRules(r.table, &nftables.Chain{Name: take, Table: r.table})
	if err != nil {
		return 0, fmt.Errorf("nftables table %s: %w", r.cfg.Table, err)
	}
	for _, rule := range list {
		for _, e := range rule.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				return c.Packets, nil
			}
		}
	}
	return 0, fmt.Errorf("nftables table %s: the rate limit is gone: %w", r.cfg.Table, fs.ErrNotExist)
}

// ipv6Enabled says whether this network namespace has IPv6.
func ipv6Enabled() bool {
	_, err := os.Stat("/proc/thread-self/net/if_inet6")
	return err == nil
}
