package qspec

import (
	"encoding/binary"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.12, PHB Class. For a standard PHB the field is DSCP (6 bits)
// and ten zeros, or ten bits with only the last but one set for a set of PHBs.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           12          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           PHB Field           |            (Reserved)         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// PHBClass is a PHB identification code (RFC 3140).
type PHBClass uint16

// DSCPs of PHBs that are often asked for.
const (
	DSCPDefault uint8 = 0
	DSCPEF      uint8 = 46
)

const (
	phbSet PHBClass = 1 << 1 // bit 14
)

// PHB returns the class of the single standard PHB with this DSCP.
func PHB(dscp uint8) PHBClass { return PHBClass(dscp&0x3f) << 10 }

// PHBSet returns the class of the set of standard PHBs (a PHB scheduling class,
// such as AF1x) that this DSCP belongs to.
func PHBSet(dscp uint8) PHBClass { return PHB(dscp) | phbSet }

// DSCP returns the DSCP of a standard PHB or set; false for an experimental or
// local code.
func (c PHBClass) DSCP() (uint8, bool) {
	if c&^phbSet&0x03ff != 0 {
		return 0, false
	}
	return uint8(c >> 10), true
}

// IsSet says whether c names a set of PHBs.
func (c PHBClass) IsSet() bool { return c&phbSet != 0 }

// isSchedulable says whether a set of standard PHBs is a PHB scheduling class, as it
// must be (RFC 5975 §5.2.12): AF1x to AF4x are (RFC 2597). Of others nothing is known.
func (c PHBClass) isSchedulable() bool {
	d, standard := c.DSCP()
	if !c.IsSet() || !standard {
		return true
	}
	group, drop := d>>3, d>>1&3
	return d&1 == 0 && group >= 1 && group <= 4 && drop != 0
}

func parsePHBClass(v []byte) PHBClass { return PHBClass(binary.BigEndian.Uint16(v)) }

func appendPHBClass(b []byte, c PHBClass) []byte {
	b = tlv.AppendU16(b, uint16(c))
	return tlv.AppendU16(b, 0)
}
