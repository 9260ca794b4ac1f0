package wire

import (
	"encoding/binary"
	"slices"
)

// ReplaceNSLPData returns a copy of a datagram with other NSLP data, and every
// other octet as it is but for the two lengths: who forwards a Query "MUST NOT
// modify any other GIST payloads or their order" (RFC 5971 §4.3.2). Without
// NSLP data there, they become the last object. It is false where data are not a
// whole number of words that fit, or the datagram is not one that Decode takes.
func ReplaceNSLPData(datagram, data []byte) ([]byte, bool) {
	if len(data) == 0 || len(data)%4 != 0 || len(data) > MaxObjectLen {
		return nil, false
	}
	at := MagicLen + HeaderLen
	if len(datagram) < at {
		return nil, false
	}
	end, head := len(datagram), uint32(ObjNSLPData)<<16
	for at < len(datagram) {
		if at+tlvHeaderLen > len(datagram) {
			return nil, false
		}
		word := binary.BigEndian.Uint32(datagram[at:])
		next := at + tlvHeaderLen + 4*int(word&lengthMask)
		if next > len(datagram) {
			return nil, false
		}
		if ObjectType(word>>16&typeMask) == ObjNSLPData {
			end, head = next, word&^lengthMask
			break
		}
		at = next
	}
	object := binary.BigEndian.AppendUint32(nil, head|uint32(len(data)/4))
	out := slices.Concat(datagram[:at], object, data, datagram[end:])
	words := (len(out) - MagicLen - HeaderLen) / 4
	if words > 0xffff {
		return nil, false
	}
	binary.BigEndian.PutUint16(out[MagicLen+2:], uint16(words))
	return out, true
}
