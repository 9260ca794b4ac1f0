package wire

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/interqos/interqos/internal/tlv"
)

// Stack-Proposal, RFC 5971 §A.3.4:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Prof-Count   |     Reserved                                  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//     Profile 1: a count, that many MA-Protocol-IDs, padding  //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	:                                                               :
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                    Profile N                                //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Stack-Configuration-Data, RFC 5971 §A.3.5:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   MPO-Count   |     Reserved                                  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                           MA-Hold-Time                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// and then, for each MA-protocol-options field,
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|MA-Protocol-ID |     Profile   |    Length     |D|  Reserved   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	//                         Options Data                        //
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Messaging association protocols (MA-Protocol-IDs). RFC 5971 §9, RFC 6084
const (
	ForwardsTCP  byte = 1
	ForwardsTLS  byte = 2
	ForwardsSCTP byte = 3
)

// Profile is one stack of messaging association protocols, top to bottom
// (TLS, TCP), one octet each.
type Profile []byte

// Has says whether the profile lists a protocol.
func (p Profile) Has(protocol byte) bool {
	for _, v := range p { // two or three: quicker than bytes.IndexByte
		if v == protocol {
			return true
		}
	}
	return false
}

// StackProposal lists the profiles that a node offers, best first. Profiles are
// numbered from 1; there are 255 at most.
type StackProposal []Profile

// Equal says whether both list the same profiles in the same order.
func (p StackProposal) Equal(q StackProposal) bool {
	return slices.EqualFunc(p, q, func(a, b Profile) bool { return bytes.Equal(a, b) })
}

// Append appends the object's value (without TLV header).
func (p StackProposal) Append(b []byte) []byte {
	b = append(b, uint8(len(p)), 0, 0, 0)
	for _, profile := range p {
		b = append(b, uint8(len(profile)))
		b = append(b, profile...)
		b = tlv.AppendZeros(b, pad(1+len(profile)))
	}
	return b
}

func (p StackProposal) len() int {
	n := 4
	for _, profile := range p {
		n += words(1+len(profile)) * 4
	}
	return n
}

// parseStackProposal appends the profiles to into. RFC 5971 §A.3.4
func parseStackProposal(b []byte, into StackProposal) (StackProposal, *valueError) {
	r := tlv.NewReader(b)
	count := int(r.U32() >> 24)
	if r.Err() == nil && count == 0 {
		return nil, badValue(ValueNotSupported, tlvHeaderLen, "no profiles, want at least one")
	}
	for i := range count {
		at := tlvHeaderLen + r.Offset()
		layers := int(r.U8())
		profile := Profile(r.Bytes(layers))
		r.Skip(pad(1 + layers))
		if r.Err() != nil {
			break
		}
		if layers == 0 {
			return nil, badValue(EmptyList, at, "profile %d of %d is empty", i+1, count)
		}
		// RFC 5971 §5.2.2: protocol-layer = %x01-FF
		if profile.Has(0) {
			return nil, badValue(ValueNotSupported, at+1+bytes.IndexByte(profile, 0), "profile %d has the reserved protocol 0", i+1)
		}
		into = append(into, profile)
	}
	if err := r.Close(); err != nil {
		return nil, badLength(&r, err)
	}
	return into, nil
}

// StackConfig is Stack-Configuration-Data.
type StackConfig struct {
	HoldTimeMS uint32 // MA-Hold-Time, milliseconds; never 0
	Options    []MAOptions
}

// MAOptions configures one protocol of the accompanying Stack-Proposal
// (MA-protocol-options).
type MAOptions struct {
	Protocol byte
	Profile  uint8 // the profile that it applies to; 0: all
	Disabled bool  // D: the protocol must not be used
	Data     []byte
}

const mpoD = 0x80

// Port returns the port of an option of Forwards-TCP or Forwards-SCTP in a
// Response. RFC 5971 §5.7.2, RFC 6084
func (o *MAOptions) Port() (port uint16, ok bool) {
	if len(o.Data) < 2 {
		return 0, false
	}
	r := tlv.NewReader(o.Data)
	return r.U16(), true
}

// PortData returns the options data of Forwards-TCP or Forwards-SCTP in a
// Response. RFC 5971 §5.7.2, RFC 6084
func PortData(port uint16) []byte { return tlv.AppendU16(nil, port) }

// Lookup returns the entry that configures protocol for the given profile
// number: its own or else the one for all profiles.
func (c *StackConfig) Lookup(protocol byte, profile int) (MAOptions, bool) {
	all := -1
	for i := range c.Options {
		o := &c.Options[i]
		switch {
		case o.Protocol != protocol:
		case o.Profile != 0 && int(o.Profile) == profile:
			return *o, true
		case o.Profile == 0 && all < 0:
			all = i
		}
	}
	if all < 0 {
		return MAOptions{}, false
	}
	return c.Options[all], true
}

// Append appends the object's value (without TLV header).
func (c *StackConfig) Append(b []byte) []byte {
	b = append(b, uint8(len(c.Options)), 0, 0, 0)
	b = tlv.AppendU32(b, c.HoldTimeMS)
	for i := range c.Options {
		o := &c.Options[i]
		flags := uint8(0)
		if o.Disabled {
			flags = mpoD
		}
		b = append(b, o.Protocol, o.Profile, uint8(len(o.Data)), flags)
		b = append(b, o.Data...)
		b = tlv.AppendZeros(b, pad(len(o.Data)))
	}
	return b
}

func (c *StackConfig) len() int {
	n := 8
	for i := range c.Options {
		n += 4 + words(len(c.Options[i].Data))*4
	}
	return n
}

// parseStackConfig appends the options to into. RFC 5971 §A.3.5
func parseStackConfig(b []byte, into []MAOptions) (StackConfig, *valueError) {
	r := tlv.NewReader(b)
	count := int(r.U32() >> 24)
	c := StackConfig{HoldTimeMS: r.U32(), Options: into}
	for range count {
		head := r.U32()
		length := int(head >> 8 & 0xff)
		data := r.Bytes(4 * words(length))
		if r.Err() != nil {
			break
		}
		c.Options = append(c.Options, MAOptions{
			Protocol: uint8(head >> 24),
			Profile:  uint8(head >> 16),
			Disabled: head&mpoD != 0,
			Data:     data[:length:length],
		})
	}
	if err := r.Close(); err != nil {
		return StackConfig{}, badLength(&r, err)
	}
	if c.HoldTimeMS == 0 {
		return StackConfig{}, badValue(ValueNotSupported, tlvHeaderLen+4, "MA-Hold-Time 0 is reserved")
	}
	return c, nil
}

// checkStack says what is inconsistent between a proposal and the configuration
// that came with it; nil: nothing. In a Confirm the configuration is
// abbreviated to the hold time. RFC 5971 §5.7.1, §5.7.2
func checkStack(kind MessageType, p StackProposal, c *StackConfig) *valueError {
	for i := range c.Options {
		o := &c.Options[i]
		if int(o.Profile) > len(p) {
			return badValue(StackMismatch, 0, "options for profile %d, want at most %d", o.Profile, len(p))
		}
		offered := p
		if o.Profile != 0 {
			offered = p[o.Profile-1 : o.Profile]
		}
		if !slices.ContainsFunc(offered, func(q Profile) bool { return q.Has(o.Protocol) }) {
			return badValue(StackMismatch, 0, "options for protocol %d, which profile %d does not list", o.Protocol, o.Profile)
		}
	}
	if kind == Confirm {
		return nil
	}
	for i, profile := range p {
		if err := checkPort(kind, c, profile, ForwardsTCP, "Forwards-TCP", i+1); err != nil {
			return err
		}
		// RFC 6084 asks the same of SCTP.
		if err := checkPort(kind, c, profile, ForwardsSCTP, "Forwards-SCTP", i+1); err != nil {
			return err
		}
	}
	return nil
}

// checkPort says what a profile with a transport protocol lacks: options, and in
// a Response a port.
func checkPort(kind MessageType, c *StackConfig, profile Profile, protocol byte, name string, number int) *valueError {
	if !profile.Has(protocol) {
		return nil
	}
	o, ok := c.Lookup(protocol, number)
	if !ok {
		return badValue(StackMismatch, 0, "profile %d offers %s without its options", number, name)
	}
	if _, hasPort := o.Port(); kind == Response && !hasPort && !o.Disabled {
		return badValue(StackMismatch, 0, "profile %d offers %s without a port", number, name)
	}
	return nil
}

// check says what Append could not write; nil: nothing.
func (p StackProposal) check() error {
	if len(p) > 0xff {
		return fmt.Errorf("stack proposal: %d profiles, want at most 255: %w", len(p), ErrTooLong)
	}
	for i, profile := range p {
		if len(profile) > 0xff {
			return fmt.Errorf("stack proposal: profile %d: %d layers, want at most 255: %w", i+1, len(profile), ErrTooLong)
		}
	}
	return nil
}

func (c *StackConfig) check() error {
	if len(c.Options) > 0xff {
		return fmt.Errorf("stack configuration: %d options, want at most 255: %w", len(c.Options), ErrTooLong)
	}
	for i := range c.Options {
		if n := len(c.Options[i].Data); n > 0xff {
			return fmt.Errorf("stack configuration: option %d: %d octets, want at most 255: %w", i+1, n, ErrTooLong)
		}
	}
	return nil
}
