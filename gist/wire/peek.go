package wire

import "encoding/binary"

// IsDatagram says whether a UDP payload begins with the magic number.
// RFC 5971 §5.3.1
func IsDatagram(payload []byte) bool {
	return len(payload) >= MagicLen && binary.BigEndian.Uint32(payload) == MagicNumber
}

// PeekSID returns the session that a datagram is about without decoding the
// rest, so that a node can hand it to whoever keeps that session. It is false
// for what has no Session-Identifier (Error, MA-Hello) or is too short; what it
// returns has not been validated.
func PeekSID(datagram []byte) (SID, bool) {
	if len(datagram) < MagicLen {
		return SID{}, false
	}
	return MessageSID(datagram[MagicLen:])
}

// MessageSID is PeekSID for a message of a messaging association, which has no
// magic number.
func MessageSID(message []byte) (SID, bool) {
	v, ok := peek(message, ObjSID)
	if !ok || len(v) != len(SID{}) {
		return SID{}, false
	}
	return SID(v), true
}

// PeekMethod returns the message routing method of the datagram's MRI, known
// here or not, without decoding the rest. It is false where there is no whole
// MRI.
func PeekMethod(datagram []byte) (MRM, bool) {
	if len(datagram) < MagicLen {
		return 0, false
	}
	v, ok := peek(datagram[MagicLen:], ObjMRI)
	if !ok || len(v) == 0 {
		return 0, false
	}
	return MRM(v[0]), true
}

// PeekMRI returns the datagram's MRI without decoding the rest. It is false
// where there is none that can be read.
func PeekMRI(datagram []byte) (MRI, bool) {
	if len(datagram) < MagicLen {
		return MRI{}, false
	}
	v, ok := peek(datagram[MagicLen:], ObjMRI)
	if !ok {
		return MRI{}, false
	}
	mri, err := ParseMRI(v)
	return mri, err == nil
}

// peek finds one of the objects that every message begins with: NAT-Traversal,
// MRI, SID (RFC 5971 §5.1).
func peek(message []byte, want ObjectType) (value []byte, ok bool) {
	at := HeaderLen
	for n := 0; n < 3; n++ {
		if at+tlvHeaderLen > len(message) {
			return nil, false
		}
		t := ObjectType(binary.BigEndian.Uint16(message[at:]) & typeMask)
		end := at + tlvHeaderLen + 4*int(binary.BigEndian.Uint16(message[at+2:])&lengthMask)
		if t == want {
			if end > len(message) {
				return nil, false
			}
			return message[at+tlvHeaderLen : end], true
		}
		at = end
	}
	return nil, false
}
