package gist

import (
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// IP tunnels. A message that enters one is forwarded in it like any packet (RFC
// 5971 §7.3); whoever signals for the tunnel itself describes the tunnel's
// packets by a Flow ID of their own (RFC 5979 §4.3). That description is here;
// binding the two sessions is the signalling application's.

// TunnelKind is an IP tunnelling protocol. RFC 5979 §3.1
type TunnelKind uint8

// Tunnelling protocols, by the names of RFC 5979.
const (
	GRE        TunnelKind = iota + 1 // RFC 2784
	GREIPv4                          // RFC 1702
	IPv4InIPv4                       // RFC 2003
	MinEnc                           // RFC 2004
	IPv6InIPv4                       // RFC 4213
	IPv6Gen                          // RFC 2473
	IPsecESP                         // RFC 4303, tunnel mode
	IPsecAH                          // RFC 4302, tunnel mode
	numTunnelKinds
)

var tunnelNames = [numTunnelKinds]string{
	GRE: "GRE", GREIPv4: "GREIPv4", IPv4InIPv4: "IPv4INIPv4", MinEnc: "MINENC", IPv6InIPv4: "IPv6INIPv4",
	IPv6Gen: "IPv6GEN", IPsecESP: "IPsec ESP", IPsecAH: "IPsec AH",
}

func (k TunnelKind) String() string {
	if k == 0 || k >= numTunnelKinds {
		return fmt.Sprintf("tunnel kind %d", uint8(k))
	}
	return tunnelNames[k]
}

// Protocol numbers of the headers that follow a tunnel's IP header.
const (
	protocolUDP = 17
	protocolESP = 50
	protocolAH  = 51
)

// Tunnel is one session's packets between two tunnel end-points. Of the last
// three fields exactly the one that the tunnel's kind has is set.
type Tunnel struct {
	Kind        TunnelKind
	Entry, Exit netip.Addr // addresses of the tunnel's IP header
	FlowLabel   uint32     // IPv6Gen: 20 bits, unique to the session
	SPI         uint32     // IPsec
	// SourcePort is, for all other kinds, that of the UDP header which the
	// entry-point inserts between the tunnel's header and the packet.
	SourcePort uint16
}

// MRI returns the Path-Coupled MRI of the tunnel's packets, downstream, or says
// what is wrong with t. RFC 5979 §4.3
func (t Tunnel) MRI() (wire.MRI, error) {
	if err := t.check(); err != nil {
		return wire.MRI{}, err
	}
	f := wire.Flow{
		Source:      netip.PrefixFrom(t.Entry, t.Entry.BitLen()),
		Destination: netip.PrefixFrom(t.Exit, t.Exit.BitLen()),
	}
	switch t.Kind {
	case IPv6Gen:
		f.HasLabel, f.FlowLabel = true, t.FlowLabel
	case IPsecESP, IPsecAH:
		f.HasProtocol, f.Protocol = true, protocolESP
		if t.Kind == IPsecAH {
			f.Protocol = protocolAH
		}
		f.HasSPI, f.SPI = true, t.SPI
	default:
		f.HasProtocol, f.Protocol = true, protocolUDP
		f.HasSrcPort, f.SrcPort = true, t.SourcePort
	}
	m := wire.MRI{Method: wire.PathCoupled, Flow: f}
	return m, m.Check()
}

func (t *Tunnel) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("gist: %v tunnel from %v to %v: %s", t.Kind, t.Entry, t.Exit, fmt.Sprintf(format, args...))
	}
	var label, spi, port bool
	switch t.Kind {
	case IPv6Gen:
		label = true
	case IPsecESP, IPsecAH:
		spi = true
	case GRE, GREIPv4, IPv4InIPv4, MinEnc, IPv6InIPv4:
		port = true
	default:
		return fail("not one of the tunnelling protocols")
	}
	v4 := t.Entry.Is4()
	switch {
	case v4 != t.Exit.Is4():
		return fail("two IP versions")
	case t.Entry == t.Exit:
		return fail("one end")
	case t.Kind == IPv6Gen && v4:
		return fail("the tunnel's header is IPv6")
	case (t.Kind == GREIPv4 || t.Kind == IPv4InIPv4 || t.Kind == MinEnc || t.Kind == IPv6InIPv4) && !v4:
		return fail("the tunnel's header is IPv4")
	case label && (t.FlowLabel == 0 || t.FlowLabel > 0xfffff): // 0: unlabelled, RFC 3697
		return fail("flow label %#x, want 1 to 0xfffff", t.FlowLabel)
	case spi && t.SPI < 256: // 0 is not sent, 1 to 255 are reserved: RFC 4303
		return fail("SPI %d, want at least 256", t.SPI)
	case port && t.SourcePort == 0:
		return fail("source port 0")
	case !label && t.FlowLabel != 0, !spi && t.SPI != 0, !port && t.SourcePort != 0:
		return fail("flow label %#x, SPI %d, source port %d, want only the one of this kind", t.FlowLabel, t.SPI, t.SourcePort)
	}
	return nil
}

// DiffservTunnelMRI describes a preconfigured session of a tunnel, whose packets
// are told from others by their DSCP. RFC 5979 §4.3: "if the tunnel QoS is
// Diffserv based, the Diffserv Code Point (DSCP) field value may be used to
// identify the corresponding tunnel session".
func DiffservTunnelMRI(entry, exit netip.Addr, dscp uint8) (wire.MRI, error) {
	if dscp > 63 {
		return wire.MRI{}, fmt.Errorf("gist: tunnel from %v to %v: DSCP %d, want at most 63", entry, exit, dscp)
	}
	if !entry.IsValid() || !exit.IsValid() || entry == exit {
		return wire.MRI{}, fmt.Errorf("gist: tunnel from %v to %v: want two ends", entry, exit)
	}
	m := wire.MRI{Method: wire.PathCoupled, Flow: wire.Flow{
		Source:      netip.PrefixFrom(entry, entry.BitLen()),
		Destination: netip.PrefixFrom(exit, exit.BitLen()),
		HasTraffic:  true, DSCP: dscp,
	}}
	return m, m.Check()
}

// TunnelFlow is what the Flow ID of a tunnel says to a node in or behind it: the
// end-points, and which field tells the session's packets from others.
type TunnelFlow uint8

// Kinds of tunnel Flow ID.
const (
	NoTunnelFlow TunnelFlow = iota
	ByFlowLabel             // IPv6Gen
	BySPI                   // IPsec
	BySourcePort            // UDP inserted: all others
	ByDSCP                  // preconfigured
)

// TunnelFlowOf says which form of tunnel Flow ID mri has. Flows that are no
// tunnel's can have the same form: a tunnel exit-point knows its tunnels, and a
// node between the ends treats all flows alike.
func TunnelFlowOf(mri *wire.MRI) TunnelFlow {
	f := &mri.Flow
	if mri.Method != wire.PathCoupled || !f.Source.IsSingleIP() || !f.Destination.IsSingleIP() {
		return NoTunnelFlow
	}
	type fields struct{ protocol, traffic, label, spi, srcPort, dstPort bool }
	switch (fields{f.HasProtocol, f.HasTraffic, f.HasLabel, f.HasSPI, f.HasSrcPort, f.HasDstPort}) {
	case fields{label: true}:
		return ByFlowLabel
	case fields{protocol: true, spi: true}:
		return BySPI
	case fields{protocol: true, srcPort: true}:
		if f.Protocol == protocolUDP {
			return BySourcePort
		}
	case fields{traffic: true}:
		return ByDSCP
	}
	return NoTunnelFlow
}
