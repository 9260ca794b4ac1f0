// Package wire is the bit-level format of GIST (RFC 5971 Appendix A): the
// common header, one file per TLV object, and the error catalogue.
package wire

import (
	"encoding/hex"
	"net/netip"
	"strconv"
)

// SID is a Session-Identification value.
type SID [16]byte

func (s SID) String() string { return hex.EncodeToString(s[:]) }

// NSLPID names a signalling application (RFC 5971 §9). 1 to 32 are QoS-NSLP
// aggregation levels 0 to 31.
type NSLPID uint16

// MRM names a message routing method (RFC 5971 §A.3.1).
type MRM uint8

// Message routing methods. OffPath is ours (private range, §9 of RFC 5971).
const (
	PathCoupled MRM = 0
	LooseEnd    MRM = 1
	OffPath     MRM = 120
)

func (m MRM) String() string {
	switch m {
	case PathCoupled:
		return "Path-Coupled"
	case LooseEnd:
		return "Loose-End"
	case OffPath:
		return "Off-Path"
	}
	return "MRM " + strconv.Itoa(int(m))
}

// MRI is Message-Routing-Information (RFC 5971 §A.3.1), flat and comparable, so
// that routing state can be keyed by it.
type MRI struct {
	Method MRM
	NAT    bool // N: NATs need not translate it; false with all three methods here
	Flow   Flow
	// Upstream is the D flag: the message travels towards the flow's source.
	Upstream bool
	// Egress and Ingress are set for OffPath only; the zero Addr is the
	// all-zero address on the wire: not known.
	Egress, Ingress netip.Addr
}

// Equal is ==, and quicker.
func (m *MRI) Equal(o *MRI) bool {
	return m.Method == o.Method && m.NAT == o.NAT && m.Upstream == o.Upstream && m.Flow.equal(&o.Flow) &&
		m.Egress == o.Egress && m.Ingress == o.Ingress
}

func (f *Flow) equal(o *Flow) bool {
	return f.Source == o.Source && f.Destination == o.Destination &&
		f.HasProtocol == o.HasProtocol && f.Protocol == o.Protocol && f.HasTraffic == o.HasTraffic && f.DSCP == o.DSCP &&
		f.HasLabel == o.HasLabel && f.FlowLabel == o.FlowLabel && f.HasSPI == o.HasSPI && f.SPI == o.SPI &&
		f.HasSrcPort == o.HasSrcPort && f.SrcPort == o.SrcPort && f.HasDstPort == o.HasDstPort && f.DstPort == o.DstPort
}

// Reverse returns the same routing information for the other direction.
func (m MRI) Reverse() MRI { m.Upstream = !m.Upstream; return m }

// Flow is the part of an MRI that describes the data flow: the Path-Coupled
// layout without D (RFC 5971 §A.3.1.1). Has… say which optional fields count.
type Flow struct {
	Source, Destination netip.Prefix

	HasProtocol bool // P
	Protocol    uint8
	HasTraffic  bool // T: Traffic Class / DSCP
	DSCP        uint8
	HasLabel    bool // F, IPv6 only
	FlowLabel   uint32
	HasSPI      bool // S
	SPI         uint32
	HasSrcPort  bool // A
	SrcPort     uint16
	HasDstPort  bool // B
	DstPort     uint16
}
