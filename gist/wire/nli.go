package wire

import (
	"net/netip"

	"github.com/interqos/interqos/internal/tlv"
)

// Network-Layer-Information, RFC 5971 §A.3.3:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   PI-Length   |    IP-TTL     |IP-Ver |        Reserved       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  Routing State Validity Time                  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                       Peer Identity                         //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                     Interface Address                       //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// NLI is Network-Layer-Information.
type NLI struct {
	// PeerIdentity names the node; 255 octets at most.
	PeerIdentity []byte
	Address      netip.Addr // the interface address
	ValidityMS   uint32     // routing state validity time, milliseconds; never 0
	IPTTL        uint8      // initial or reported IP TTL; 0: not known
}

// MaxPeerIdentity is the longest Peer Identity, in octets.
const MaxPeerIdentity = 255

// ParseNLI reads an NLI object's value (without TLV header).
func ParseNLI(b []byte) (NLI, error) {
	n, err := parseNLI(b)
	if err != nil {
		return NLI{}, err
	}
	return n, nil
}

func parseNLI(b []byte) (NLI, *valueError) {
	r := tlv.NewReader(b)
	head := r.U32()
	n := NLI{IPTTL: uint8(head >> 16), ValidityMS: r.U32()}
	idLen, version := int(head>>24), uint8(head>>12)&0xf
	if id := r.Bytes(4 * words(idLen)); id != nil {
		n.PeerIdentity = id[:idLen:idLen]
	}
	if r.Err() == nil && version != 4 && version != 6 {
		return NLI{}, badValue(ValueNotSupported, tlvHeaderLen+2, "IP version %d, want 4 or 6", version)
	}
	n.Address = readAddr(&r, version)
	if err := r.Close(); err != nil {
		return NLI{}, badLength(&r, err)
	}
	if !unicast(n.Address) {
		// RFC 5971 §5.2.2: it "MUST be usable as a destination IP address for
		// packets to be sent back to the node".
		return NLI{}, badValue(ValueNotSupported, tlvHeaderLen+8+4*words(idLen), "interface address %v is not the address of a node", n.Address)
	}
	if n.ValidityMS == 0 {
		return NLI{}, badValue(ValueNotSupported, tlvHeaderLen+4, "routing state validity time 0 is reserved")
	}
	return n, nil
}

// Append appends the object's value (without TLV header). A peer identity
// longer than 255 octets is cut; a missing address is written as 0.0.0.0.
func (n *NLI) Append(b []byte) []byte {
	id := n.PeerIdentity[:min(len(n.PeerIdentity), MaxPeerIdentity)]
	v6 := n.Address.Is6()
	version := uint8(4 << 4)
	if v6 {
		version = 6 << 4
	}
	b = append(b, uint8(len(id)), n.IPTTL, version, 0)
	b = tlv.AppendU32(b, n.ValidityMS)
	b = append(b, id...)
	b = tlv.AppendZeros(b, pad(len(id)))
	return appendAddr(b, n.Address, v6)
}

func (n *NLI) len() int {
	addr := 4
	if n.Address.Is6() {
		addr = 16
	}
	return 8 + words(min(len(n.PeerIdentity), MaxPeerIdentity))*4 + addr
}

// pad returns how many octets are missing from n to a whole number of words.
func pad(n int) int { return -n & 3 }

// words returns how many words n octets take.
func words(n int) int { return (n + 3) / 4 }
