package wire

import (
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
)

// BOUND-SESSION-ID, RFC 5974 §5.1.3.4:
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  RESERVED                     |  Binding Code |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                                                               |
//	+                                                               +
//	|                                                               |
//	+                          Session ID                           +
//	|                                                               |
//	+                                                               +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// BindingCode says why a session is bound to another.
type BindingCode uint8

// Binding codes.
const (
	BindTunnel        BindingCode = 0x01 // tunnel and end-to-end sessions
	BindBidirectional BindingCode = 0x02
	BindAggregate     BindingCode = 0x03
	BindDependent     BindingCode = 0x04 // alive only while the other session is
	BindPreempted     BindingCode = 0x05 // the indicated session caused preemption
)

// BoundSession is one BOUND-SESSION-ID.
type BoundSession struct {
	Code BindingCode
	SID  gistwire.SID
}

func (s *BoundSession) append(b []byte) []byte {
	b = appendHeader(b, Mandatory, TypeBoundSessionID, 5)
	b = tlv.AppendU32(b, uint32(s.Code))
	return append(b, s.SID[:]...)
}

func parseBoundSession(v []byte) (s BoundSession, err *ParseError) {
	if len(v) != 20 {
		return s, wrongLength(TypeBoundSessionID, "5 words")
	}
	if s.Code = BindingCode(v[3]); s.Code == 0 {
		// "Value 0 is reserved." RFC 5974 §6.3
		return s, &ParseError{Code: UnknownFieldValue, Type: TypeBoundSessionID, Want: "a binding code from 1"}
	}
	copy(s.SID[:], v[4:])
	return s, nil
}
