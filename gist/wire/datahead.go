package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/interqos/interqos/internal/tlv"
)

// DataHead is what all Data of a session that go one way over messaging
// associations have in common: from the NSLPID on, with the message's type and
// flags, up to the NSLP-Data object. Who sees the same octets again need not
// parse them again. The zero value is the head of no message. RFC 5971 §5.1
type DataHead struct {
	n      uint8
	octets [maxDataHead]byte
}

// The longest: the end of the common header, an Off-Path MRI of IPv6 with all
// its fields, and a SID.
const (
	headAt      = 4 // NSLPID, in the common header
	maxDataHead = HeaderLen - headAt + tlvHeaderLen + 84 + tlvHeaderLen + len(SID{})
)

// dataObject is the first half of the TLV header of NSLP-Data as we write it.
const dataObject = uint16(ObjNSLPData)

// Set takes the head of a message that Decode has taken, or makes h the zero
// value: where the message is not of type Data or has anything but MRI, SID and,
// as its last object, NSLP-Data.
func (h *DataHead) Set(message []byte) {
	*h = DataHead{}
	end := dataHeadEnd(message)
	if end == 0 || end-headAt > maxDataHead {
		return
	}
	h.n = uint8(end - headAt)
	copy(h.octets[:], message[headAt:end])
	if _, ok := h.Match(message); !ok {
		*h = DataHead{}
	}
}

// dataHeadEnd is where the NSLP-Data object begins, with nothing but MRI and SID
// before it; 0: there is something else.
func dataHeadEnd(message []byte) int {
	if len(message) < HeaderLen || MessageType(message[6]) != Data { // C=0
		return 0
	}
	at := HeaderLen
	for _, want := range [...]ObjectType{ObjMRI, ObjSID} {
		if at+tlvHeaderLen > len(message) {
			return 0
		}
		head := binary.BigEndian.Uint32(message[at:])
		if ObjectType(head>>16&typeMask) != want {
			return 0
		}
		at += tlvHeaderLen + 4*int(head&lengthMask)
	}
	if at+tlvHeaderLen > len(message) {
		return 0
	}
	return at
}

// Match returns the NSLP data of a whole message that begins with h; false: it
// does not, and Decode has to say what it is. The message then differs in
// nothing but its hop count and its data from the one that h was set from.
func (h *DataHead) Match(message []byte) (data []byte, ok bool) {
	end := headAt + int(h.n)
	if h.n == 0 || len(message) < end+tlvHeaderLen || !bytes.Equal(message[headAt:end], h.octets[:h.n]) {
		return nil, false
	}
	words := (len(message) - end - tlvHeaderLen) / 4
	object := binary.BigEndian.Uint32(message[end:])
	if message[0] != Version1 || HeaderLen+4*int(binary.BigEndian.Uint16(message[2:])) != len(message) ||
		object != uint32(dataObject)<<16|uint32(words) || words > lengthMask {
		return nil, false
	}
	return message[end+tlvHeaderLen : len(message) : len(message)], true
}

// Append appends the message with this head, hop count and NSLP data: what
// Message.Append does for it. It is false, and b as it was, where data are not a
// whole number of words that fit, or h is the zero value.
func (h *DataHead) Append(b []byte, hops uint8, data []byte) ([]byte, bool) {
	if h.n == 0 || len(data)%4 != 0 || len(data) > MaxObjectLen {
		return b, false
	}
	words := (int(h.n) - HeaderLen + headAt + tlvHeaderLen + len(data)) / 4
	b = append(b, Version1, hops, byte(words>>8), byte(words))
	b = append(b, h.octets[:h.n]...)
	b = tlv.AppendU16(b, dataObject)
	b = tlv.AppendU16(b, uint16(len(data)/4))
	return append(b, data...), true
}

// DataHash spreads Data messages over tables by session and direction: the same
// number for all that have the same head, whatever for what is no Data. See
// SID.Hash.
func DataHash(message []byte) uint32 {
	const mri = HeaderLen + tlvHeaderLen
	if len(message) < mri+4 {
		return 0
	}
	at := mri + 4*int(binary.BigEndian.Uint16(message[HeaderLen+2:])&lengthMask) + tlvHeaderLen
	if at+len(SID{}) > len(message) {
		return 0
	}
	upstream := message[mri+3]&mriD != 0
	if MRM(message[mri]) == LooseEnd {
		upstream = message[mri+2]&looseD != 0
	}
	sid := (*SID)(message[at:])
	return sid.Hash(upstream)
}

// Hash spreads sessions over tables, the messages of each direction by
// themselves: the two are next to each other. It is no protection from who chooses
// SIDs so that they collide.
func (s *SID) Hash(upstream bool) uint32 {
	h := binary.LittleEndian.Uint64(s[:]) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(s[8:]), 29)
	h = h * 0x9e3779b97f4a7c15 >> 31
	if upstream {
		return uint32(h) | 1
	}
	return uint32(h) &^ 1
}
