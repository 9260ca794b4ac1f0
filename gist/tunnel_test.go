package gist

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// RFC 5979 §4.3, RFC 5979 §3.1: the Flow ID of each tunnelling protocol, as it
// stands in an MRI.
func TestTunnelMRI(t *testing.T) {
	v4 := func(k TunnelKind) Tunnel {
		return Tunnel{Kind: k, Entry: addr("192.0.2.1"), Exit: addr("192.0.2.2"), SourcePort: 40000}
	}
	v6 := func(k TunnelKind) Tunnel {
		return Tunnel{Kind: k, Entry: addr("2001:db8::1"), Exit: addr("2001:db8::2")}
	}
	label, esp, ah, gre6 := v6(IPv6Gen), v6(IPsecESP), v4(IPsecAH), v6(GRE)
	label.FlowLabel, esp.SPI, ah.SPI, ah.SourcePort, gre6.SourcePort = 0xabcde, 0x01020304, 256, 0, 40000
	udp := `00 00 48 80 c0000201 c0000202 20 20 11 00 9c40 0000`
	for _, c := range []struct {
		tunnel Tunnel
		hex    string
		flow   TunnelFlow
	}{
		{v4(GRE), udp, BySourcePort},
		{v4(GREIPv4), udp, BySourcePort},
		{v4(IPv4InIPv4), udp, BySourcePort},
		{v4(MinEnc), udp, BySourcePort},
		{v4(IPv6InIPv4), udp, BySourcePort},
		{gre6, `00 00 68 80 20010db8000000000000000000000001 20010db8000000000000000000000002 80 80 11 00 9c40 0000`, BySourcePort},
		{label, `00 00 62 00 20010db8000000000000000000000001 20010db8000000000000000000000002 80 80 00 00 000abcde`, ByFlowLabel},
		{esp, `00 00 69 00 20010db8000000000000000000000001 20010db8000000000000000000000002 80 80 32 00 01020304`, BySPI},
		{ah, `00 00 49 00 c0000201 c0000202 20 20 33 00 00000100`, BySPI},
	} {
		mri, err := c.tunnel.MRI()
		if err != nil {
			t.Errorf("%+v: %v", c.tunnel, err)
			continue
		}
		if got := fmt.Sprintf("%x", wire.AppendMRI(nil, &mri)); got != strings.ReplaceAll(c.hex, " ", "") {
			t.Errorf("%v: %s, want %s", c.tunnel.Kind, got, c.hex)
		}
		if got := TunnelFlowOf(&mri); got != c.flow {
			t.Errorf("%v: told by %d, want %d", c.tunnel.Kind, got, c.flow)
		}
	}
	mri, err := DiffservTunnelMRI(addr("192.0.2.1"), addr("192.0.2.2"), 46)
	if err != nil || TunnelFlowOf(&mri) != ByDSCP || mri.Flow.DSCP != 46 {
		t.Errorf("by DSCP: %+v, %v", mri, err)
	}
	for _, other := range []wire.MRI{
		{Flow: testFlow, Method: wire.LooseEnd},
		{Flow: wire.Flow{Source: netip.MustParsePrefix("10.0.0.0/8"), Destination: netip.MustParsePrefix("10.1.0.1/32"), HasTraffic: true}},
		{Flow: wire.Flow{Source: netip.MustParsePrefix("10.0.0.1/32"), Destination: netip.MustParsePrefix("10.1.0.1/32"), HasProtocol: true, Protocol: 6, HasSrcPort: true}},
		{Flow: wire.Flow{Source: netip.MustParsePrefix("10.0.0.1/32"), Destination: netip.MustParsePrefix("10.1.0.1/32")}},
	} {
		if got := TunnelFlowOf(&other); got != NoTunnelFlow {
			t.Errorf("%+v: told by %d, want none", other, got)
		}
	}
}

// RFC 5979 §3.1: the protocols by name.
func TestTunnelKindNames(t *testing.T) {
	seen := map[string]bool{}
	for k := TunnelKind(1); k < numTunnelKinds; k++ {
		if s := k.String(); s == "" || seen[s] {
			t.Errorf("tunnel kind %d is called %q", uint8(k), s)
		}
		seen[k.String()] = true
	}
	if s := numTunnelKinds.String(); seen[s] || s == "" {
		t.Errorf("what is no tunnel is called %q", s)
	}
}

// What cannot be a tunnel's Flow ID is refused, with the reason.
func TestTunnelMRIRefuses(t *testing.T) {
	a4, b4, a6, b6 := addr("192.0.2.1"), addr("192.0.2.2"), addr("2001:db8::1"), addr("2001:db8::2")
	for want, tunnel := range map[string]Tunnel{
		"not one of":              {Entry: a4, Exit: b4},
		"two IP versions":         {Kind: GRE, Entry: a4, Exit: b6, SourcePort: 1},
		"one end":                 {Kind: GRE, Entry: a4, Exit: a4, SourcePort: 1},
		"header is IPv6":          {Kind: IPv6Gen, Entry: a4, Exit: b4, FlowLabel: 1},
		"header is IPv4":          {Kind: IPv6InIPv4, Entry: a6, Exit: b6, SourcePort: 1},
		"flow label 0x100000":     {Kind: IPv6Gen, Entry: a6, Exit: b6, FlowLabel: 1 << 20},
		"flow label 0x0":          {Kind: IPv6Gen, Entry: a6, Exit: b6},
		"SPI 255":                 {Kind: IPsecESP, Entry: a6, Exit: b6, SPI: 255},
		"source port 0":           {Kind: MinEnc, Entry: a4, Exit: b4},
		"only the one":            {Kind: IPsecAH, Entry: a4, Exit: b4, SPI: 256, SourcePort: 7},
		"not the address of a n":  {Kind: GRE, Entry: addr("224.0.0.1"), Exit: b4, SourcePort: 7},
		"is not the address of a": {Kind: GRE, Entry: addr("::ffff:192.0.2.1"), Exit: b6, SourcePort: 7},
	} {
		if _, err := tunnel.MRI(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", tunnel, err, want)
		}
	}
	for _, c := range []struct {
		a, b netip.Addr
		dscp uint8
	}{{a4, b4, 64}, {a4, a4, 1}, {a4, netip.Addr{}, 1}, {a4, b6, 1}} {
		if _, err := DiffservTunnelMRI(c.a, c.b, c.dscp); err == nil {
			t.Errorf("from %v to %v by DSCP %d: no error", c.a, c.b, c.dscp)
		}
	}
}

// RFC 5971 §7.3: "the tunnel counts as a new flow", with a session of its own:
// the end-to-end handshake passes over the node in the tunnel, which becomes a
// peer of the tunnel's session only.
func TestTunnelIsAFlowOfItsOwn(t *testing.T) {
	entry, exit := bAddr, cAddr
	mri, err := Tunnel{Kind: IPv4InIPv4, Entry: entry, Exit: exit, SourcePort: 40000}.MRI()
	if err != nil {
		t.Fatal(err)
	}
	ch := newChain(t, 79)
	middle := newSimNode(t, ch.net, Config{Identity: []byte("mid"), Address: addr("172.19.0.1"), Route: func(mri wire.MRI) (QueryRoute, error) {
		return QueryRoute{To: netip.AddrPortFrom(mri.Flow.Destination.Addr(), testPort), TTL: 64, RouterAlert: true}, nil
	}})
	divert := ch.net.Divert
	ch.net.Divert = func(d simnet.Datagram) *simnet.Host {
		if d.RouterAlert && d.From.Addr() == entry && d.To.Addr() == exit {
			return middle.host // in the tunnel, and not itself in a tunnel
		}
		return divert(d) // the tunnel hides what is inside it
	}
	ch.a.send(testSID(1), pc, "e2e.")
	ch.b.onRecv = func(r RecvMessage) {
		ch.b.send(testSID(2), mri, "tunl") // the entry-point's session for the tunnel
		ch.b.send(r.SID, pc, "e2e.")
	}
	middle.onRecv = func(r RecvMessage) { middle.send(r.SID, r.MRI, string(r.Data)) }
	ch.net.Run(2 * time.Second)
	if ch.c.received["e2e."] != 1 || ch.c.received["tunl"] != 1 || middle.received["tunl"] != 1 || middle.received["e2e."] != 0 {
		t.Errorf("exit %v, middle %v; entry told %v", ch.c.received, middle.received, ch.b.status)
	}
}
