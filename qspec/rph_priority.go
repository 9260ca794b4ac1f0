package qspec

import (
	"encoding/binary"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.10, RPH Priority.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           10          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         RPH Namespace         | RPH Priority  |   (Reserved)  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// RPH is a resource priority header value (RFC 4412). It counts only beside an
// Admission Priority.
type RPH struct {
	Namespace uint16
	Priority  uint8
}

func (p *RPH) parse(v []byte) { p.Namespace, p.Priority = binary.BigEndian.Uint16(v), v[2] }

func (p *RPH) append(b []byte) []byte {
	b = tlv.AppendU16(b, p.Namespace)
	return append(b, p.Priority, 0)
}

// RPHPriority returns the resource priority header value that counts: RFC 5975
// §5.2.10 applies it "only to flows with high admission priority", and ignores it
// without an Admission Priority.
func (p *Params) RPHPriority() (RPH, bool) {
	if !p.Has.Has(RPHID) || !p.Has.Has(AdmissionID) || p.Admission.Y2171 != AdmissionLocal && p.Admission.Y2171 < AdmissionHigh {
		return RPH{}, false
	}
	return p.RPH, true
}
