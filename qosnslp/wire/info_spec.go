package wire

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/interqos/interqos/internal/tlv"
)

// INFO-SPEC, RFC 5974 §5.1.3.6:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Reserved   |  Error Code   |E-Class|ESI Typ|   ESI-Length  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                   Error Source Identifier                   //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//             Optional error-specific information             //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Error source identifier types (RFC 5974 §5.1.3.6).
const (
	SourceNone ErrorSourceType = 0
	SourceIPv4 ErrorSourceType = 1
	SourceIPv6 ErrorSourceType = 2
	SourceFQDN ErrorSourceType = 3
)

// SourceAddr is the error source for an address; the zero Addr gives none.
func SourceAddr(a netip.Addr) ErrorSource {
	switch {
	case !a.IsValid():
		return ErrorSource{}
	case a.Unmap().Is4():
		return ErrorSource{Type: SourceIPv4, ID: a.Unmap().AsSlice()}
	}
	return ErrorSource{Type: SourceIPv6, ID: a.AsSlice()}
}

// SourceName is the error source for a domain name of at most 1020 octets.
func SourceName(fqdn string) ErrorSource {
	id := append([]byte(fqdn), 0, 0, 0)
	return ErrorSource{Type: SourceFQDN, ID: id[:(len(fqdn)+3)/4*4]}
}

// Addr returns the address of a source that is one.
func (s ErrorSource) Addr() (netip.Addr, bool) {
	if s.Type == SourceIPv4 && len(s.ID) == 4 || s.Type == SourceIPv6 && len(s.ID) == 16 {
		return netip.AddrFromSlice(s.ID)
	}
	return netip.Addr{}, false
}

func (s ErrorSource) String() string {
	if a, ok := s.Addr(); ok {
		return a.String()
	}
	if s.Type == SourceFQDN {
		return fmt.Sprintf("%q", strings.TrimRight(string(s.ID), "\x00"))
	}
	if s.Type == SourceNone && len(s.ID) == 0 {
		return ""
	}
	return fmt.Sprintf("type %d %x", s.Type, s.ID)
}

// IsError says whether the INFO-SPEC is an error; Informational and Success
// are none. What a class of the future means is not known: an error, to be safe.
func (i *InfoSpec) IsError() bool {
	return i.Class != ClassInformational && i.Class != ClassSuccess
}

func (i InfoSpec) String() string {
	s := fmt.Sprintf("%d/0x%02x %s", i.Class, i.Code, CodeText(i.Class, i.Code))
	if src := i.Source.String(); src != "" {
		s += " (from " + src + ")"
	}
	return s
}

// maxSourceLen is what ESI-Length (8 bits of words) can count.
const maxSourceLen = 255 * 4

func (i *InfoSpec) append(b []byte) []byte {
	id := i.Source.ID[:min(len(i.Source.ID), maxSourceLen)]
	info := i.Info[:min(len(i.Info), MaxValueLen-4-maxSourceLen)]
	idWords, infoWords := (len(id)+3)/4, (len(info)+3)/4
	b = appendHeader(b, Mandatory, TypeInfoSpec, 1+idWords+infoWords)
	b = append(b, 0, i.Code, byte(i.Class)<<4|byte(i.Source.Type)&0x0f, byte(idWords))
	b = append(b, id...)
	b = tlv.AppendZeros(b, -len(id)&3)
	b = append(b, info...)
	return tlv.AppendZeros(b, -len(info)&3)
}

func parseInfoSpec(v []byte) (i InfoSpec, err *ParseError) {
	if len(v) < 4 {
		return i, wrongLength(TypeInfoSpec, "at least 1 word")
	}
	n := int(v[3]) * 4
	if n > len(v)-4 {
		return i, wrongLength(TypeInfoSpec, fmt.Sprintf("the %d octets that ESI-Length says", n))
	}
	i.Code = v[1]
	i.Class = ErrorClass(v[2] >> 4)
	i.Source.Type = ErrorSourceType(v[2] & 0x0f)
	if n > 0 {
		i.Source.ID = v[4 : 4+n : 4+n]
	}
	if rest := v[4+n:]; len(rest) > 0 {
		i.Info = rest
	}
	return i, nil
}
