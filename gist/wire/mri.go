package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/internal/tlv"
)

// Message-Routing-Information, RFC 5971 §A.3.1. All methods here begin with
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     MRM-ID    |N|  Reserved   |IP-Ver |  method's flags       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                       Source Address                        //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                      Destination Address                    //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Path-Coupled, RFC 5971 §A.3.1.1, has the flags |P|T|F|S|A|B|D|Reserved | and
// goes on with
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Source Prefix |  Dest Prefix  |   Protocol    | DS-field  |Rsv|
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:       Reserved        |              Flow Label               :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                              SPI                              :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:          Source Port          :       Destination Port        :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Loose-End, RFC 5971 §A.3.1.2, has the flags |D|      Reserved       | and
// ends after the addresses. Off-Path (ours, MRM-ID 120) is the Path-Coupled
// layout followed by Egress Address and Ingress Address of the same IP version.

// Flag bits. The upper four bits of flags1 are the IP version.
const (
	mriN = 0x80

	mriP, mriT, mriF, mriS = 0x08, 0x04, 0x02, 0x01 // flags1, Path-Coupled
	mriA, mriB, mriD       = 0x80, 0x40, 0x20       // flags2, Path-Coupled

	looseD = 0x08 // flags1, Loose-End
)

// Offsets in the object, TLV header included, for error reports.
const (
	mriMethodAt = 4
	mriNAt      = 5
	mriFlagsAt  = 6
)

// valueError says that an object's value is wrong: one of the Object Value
// Error subcodes, and the octet of the object (TLV header included) where.
type valueError struct {
	id     ErrorID
	at     int
	detail string
}

func (e *valueError) Error() string {
	return fmt.Sprintf("%v: octet %d: %s", e.id, e.at, e.detail)
}

func badValue(id ErrorID, at int, format string, args ...any) *valueError {
	return &valueError{id: id, at: at, detail: fmt.Sprintf(format, args...)}
}

// badLength turns a Reader's error into the answer to a wrong object length.
// RFC 5971 §A.2
func badLength(r *tlv.Reader, err error) *valueError {
	return &valueError{id: IncorrectLength, at: tlvHeaderLen + r.Offset(), detail: err.Error()}
}

// ParseMRI reads an MRI object's value (without TLV header). Fields that do not
// count are zero, so that MRIs which say the same are equal. Addresses are kept
// whole also where the prefix is shorter: they "MUST be real node addresses"
// (RFC 5971 §5.8.1.1), a Query goes to one of them, and two MRIs that differ in
// them are two MRIs. Whoever uses a prefix to classify packets masks it.
func ParseMRI(b []byte) (MRI, error) {
	var m MRI
	if bad := m.parse(b); bad != nil {
		return MRI{}, bad
	}
	return m, nil
}

// RFC 5971 §5.8.1.1, §5.8.2.1
func (m *MRI) parse(b []byte) *valueError {
	bad := m.read(b)
	if bad != nil {
		*m = MRI{}
	}
	return bad
}

func (m *MRI) read(b []byte) *valueError {
	r := tlv.NewReader(b)
	head := r.U32()
	if err := r.Err(); err != nil {
		return badLength(&r, err)
	}
	method, n, flags1, flags2 := MRM(head>>24), uint8(head>>16), uint8(head>>8), uint8(head)
	if method != PathCoupled && method != LooseEnd && method != OffPath {
		return badValue(ValueNotSupported, mriMethodAt, "message routing method %d, want 0, 1 or 120", method)
	}
	// RFC 5971 §A.3.1.1, §A.3.1.2: the N-flag is 0 for these methods.
	if n&mriN != 0 {
		return badValue(InvalidFlagFieldCombination, mriNAt, "N-flag set with message routing method %d", method)
	}
	version := flags1 >> 4
	if version != 4 && version != 6 {
		return badValue(ValueNotSupported, mriFlagsAt, "IP version %d, want 4 or 6", version)
	}
	*m = MRI{Method: method}
	source, destination := readAddr(&r, version), readAddr(&r, version)
	var bad *valueError
	if method == LooseEnd {
		m.Upstream = flags1&looseD != 0
		if r.Err() == nil {
			m.Flow.Source = netip.PrefixFrom(source, source.BitLen())
			m.Flow.Destination = netip.PrefixFrom(destination, destination.BitLen())
		}
	} else {
		m.Upstream = flags2&mriD != 0
		bad = m.Flow.read(&r, flags1, flags2, source, destination)
	}
	if method == OffPath {
		m.Egress, m.Ingress = knownAddr(readAddr(&r, version)), knownAddr(readAddr(&r, version))
	}
	if err := r.Close(); err != nil {
		return badLength(&r, err)
	}
	if bad == nil {
		bad = m.checkAddrs()
	}
	return bad
}

// Check says what forbids to send m: the rules that ParseMRI has for what
// arrives.
func (m *MRI) Check() error {
	b := AppendMRI(make([]byte, 0, 96), m)
	var got MRI
	if bad := got.parse(b); bad != nil {
		return bad
	}
	if got != *m {
		return badValue(InvalidFlagFieldCombination, mriFlagsAt, "a field without its flag, or addresses of two IP versions")
	}
	return nil
}

// checkAddrs: "The source and destination addresses MUST be real node
// addresses" (RFC 5971 §5.8.1.1). A source that nobody knows, "Minimally, this
// could just be the flow destination address", is unspecified with prefix
// length 0.
func (m *MRI) checkAddrs() *valueError {
	source, destination := m.Flow.Source, m.Flow.Destination
	size := destination.Addr().BitLen() / 8
	at := mriFlagsAt + 2
	switch a := source.Addr(); {
	case !unicast(a) && (!a.IsUnspecified() || source.Bits() > 0):
		return badValue(ValueNotSupported, at, "source %v is not the address of a node", source)
	case !unicast(destination.Addr()):
		return badValue(ValueNotSupported, at+size, "destination %v is not the address of a node", destination)
	case m.Method != OffPath:
		return nil
	}
	at += mriLen(m) - 4 - 2*size // where Egress begins
	for _, a := range []netip.Addr{m.Egress, m.Ingress} {
		if a.IsValid() && !unicast(a) {
			return badValue(ValueNotSupported, at, "edge address %v is not the address of a node", a)
		}
		at += size
	}
	return nil
}

// unicast says whether one node can have the address. IPv4 addresses in IPv6
// form are none: what is IPv4 has IP-Ver 4, so that no flow and no peer has two
// names.
func unicast(a netip.Addr) bool {
	if a.Is4() { // 0.0.0.0, 255.255.255.255, 224.0.0.0/4
		v := a.As4()
		n := binary.BigEndian.Uint32(v[:])
		return n != 0 && n != 1<<32-1 && n>>28 != 0xe
	}
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6()
}

// read reads what follows the addresses in the Path-Coupled layout and judges
// the flags. RFC 5971 §A.3.1.1
func (f *Flow) read(r *tlv.Reader, flags1, flags2 uint8, source, destination netip.Addr) *valueError {
	prefixAt := tlvHeaderLen + r.Offset()
	fixed := r.U32()
	sourceBits, destinationBits := int(fixed>>24), int(fixed>>16&0xff)
	protocol, ds := uint8(fixed>>8), uint8(fixed)
	f.HasProtocol = flags1&mriP != 0
	f.HasTraffic = flags1&mriT != 0
	f.HasLabel = flags1&mriF != 0
	f.HasSPI = flags1&mriS != 0
	f.HasSrcPort = flags2&mriA != 0
	f.HasDstPort = flags2&mriB != 0
	if f.HasProtocol {
		f.Protocol = protocol
	}
	if f.HasTraffic {
		f.DSCP = ds >> 2
	}
	if f.HasLabel {
		f.FlowLabel = r.U32() & 0xfffff
	}
	if f.HasSPI {
		f.SPI = r.U32()
	}
	if f.HasSrcPort || f.HasDstPort {
		ports := r.U32()
		if f.HasSrcPort {
			f.SrcPort = uint16(ports >> 16)
		}
		if f.HasDstPort {
			f.DstPort = uint16(ports)
		}
	}
	if r.Err() != nil {
		return nil // the caller reports the length
	}
	switch {
	case f.HasLabel && flags1>>4 != 6:
		return badValue(InvalidFlagFieldCombination, mriFlagsAt, "F-flag set with IP version %d", flags1>>4)
	case f.HasSPI && !f.HasProtocol:
		return badValue(InvalidFlagFieldCombination, mriFlagsAt, "S-flag set without P-flag")
	case (f.HasSrcPort || f.HasDstPort) && !f.HasProtocol:
		return badValue(InvalidFlagFieldCombination, mriFlagsAt+1, "A- or B-flag set without P-flag")
	case sourceBits > source.BitLen():
		return badValue(ValueNotSupported, prefixAt, "source prefix length %d, want at most %d", sourceBits, source.BitLen())
	case destinationBits > destination.BitLen():
		return badValue(ValueNotSupported, prefixAt+1, "destination prefix length %d, want at most %d", destinationBits, destination.BitLen())
	}
	f.Source = netip.PrefixFrom(source, sourceBits)
	f.Destination = netip.PrefixFrom(destination, destinationBits)
	return nil
}

func readAddr(r *tlv.Reader, version uint8) netip.Addr {
	if version == 6 {
		if b := r.Bytes(16); b != nil {
			return netip.AddrFrom16([16]byte(b))
		}
	} else if b := r.Bytes(4); b != nil {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.Addr{}
}

// knownAddr makes the all-zero address, "not known", the zero Addr.
func knownAddr(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// isV6 says which IP version the flow's addresses have on the wire.
func (f *Flow) isV6() bool {
	if a := f.Destination.Addr(); a.IsValid() {
		return a.Is6()
	}
	return f.Source.Addr().Is6()
}

// AppendMRI appends an MRI object's value (without TLV header). An address that
// is missing, or not of the version of the flow's destination, is written as
// all zeros.
func AppendMRI(b []byte, m *MRI) []byte {
	f := &m.Flow
	v6 := f.isV6()
	version := uint8(4 << 4)
	if v6 {
		version = 6 << 4
	}
	if m.Method == LooseEnd {
		if m.Upstream {
			version |= looseD
		}
		b = append(b, byte(m.Method), 0, version, 0)
		b = appendAddr(b, f.Source.Addr(), v6)
		return appendAddr(b, f.Destination.Addr(), v6)
	}
	flags1, flags2 := f.flags()
	if m.Upstream {
		flags2 |= mriD
	}
	b = append(b, byte(m.Method), 0, version|flags1, flags2)
	b = appendAddr(b, f.Source.Addr(), v6)
	b = appendAddr(b, f.Destination.Addr(), v6)
	b = append(b, prefixBits(f.Source), prefixBits(f.Destination), f.Protocol, f.DSCP<<2)
	if f.HasLabel {
		b = tlv.AppendU32(b, f.FlowLabel&0xfffff)
	}
	if f.HasSPI {
		b = tlv.AppendU32(b, f.SPI)
	}
	if f.HasSrcPort || f.HasDstPort {
		b = tlv.AppendU16(b, f.SrcPort)
		b = tlv.AppendU16(b, f.DstPort)
	}
	if m.Method == OffPath {
		b = appendAddr(b, m.Egress, v6)
		b = appendAddr(b, m.Ingress, v6)
	}
	return b
}

func (f *Flow) flags() (flags1, flags2 uint8) {
	if f.HasProtocol {
		flags1 |= mriP
	}
	if f.HasTraffic {
		flags1 |= mriT
	}
	if f.HasLabel {
		flags1 |= mriF
	}
	if f.HasSPI {
		flags1 |= mriS
	}
	if f.HasSrcPort {
		flags2 |= mriA
	}
	if f.HasDstPort {
		flags2 |= mriB
	}
	return flags1, flags2
}

func prefixBits(p netip.Prefix) uint8 { return uint8(max(p.Bits(), 0)) }

func appendAddr(b []byte, a netip.Addr, v6 bool) []byte {
	switch {
	case v6 && a.Is6():
		v := a.As16()
		return append(b, v[:]...)
	case v6:
		return tlv.AppendZeros(b, 16)
	case a.Is4():
		v := a.As4()
		return append(b, v[:]...)
	default:
		return tlv.AppendZeros(b, 4)
	}
}

// mriLen is how many octets AppendMRI appends.
func mriLen(m *MRI) int {
	addr := 4
	if m.Flow.isV6() {
		addr = 16
	}
	if m.Method == LooseEnd {
		return 4 + 2*addr
	}
	n := 8 + 2*addr
	if m.Flow.HasLabel {
		n += 4
	}
	if m.Flow.HasSPI {
		n += 4
	}
	if m.Flow.HasSrcPort || m.Flow.HasDstPort {
		n += 4
	}
	if m.Method == OffPath {
		n += 2 * addr
	}
	return n
}
