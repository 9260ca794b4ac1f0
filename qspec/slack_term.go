package qspec

import (
	"encoding/binary"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.7, Slack Term.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           7           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|        Slack Term (S)  (32-bit unsigned integer)              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

func parseSlackTerm(v []byte) uint32 { return binary.BigEndian.Uint32(v) }

func appendSlackTerm(b []byte, v uint32) []byte { return tlv.AppendU32(b, v) }
