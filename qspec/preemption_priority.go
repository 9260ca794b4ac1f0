package qspec

import (
	"encoding/binary"
	"fmt"

	"github.com/interqos/interqos/internal/tlv"
)

// RFC 5975 §5.2.8, Preemption Priority and Defending Priority.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           8           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Preemption Priority        |      Defending Priority       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Preemption is the pair of priorities of RFC 3181. Higher is more; a flow's
// preemption priority never exceeds its own defending priority.
type Preemption struct {
	Preempting uint16 // of a new flow, against the others' Defending
	Defending  uint16 // of an admitted flow
}

func (p *Preemption) parse(v []byte) error {
	p.Preempting = binary.BigEndian.Uint16(v)
	p.Defending = binary.BigEndian.Uint16(v[2:])
	return p.check()
}

func (p *Preemption) check() error {
	// RFC 5975 §3.3.3
	if p.Preempting > p.Defending {
		return fmt.Errorf("preemption priority %d exceeds defending priority %d", p.Preempting, p.Defending)
	}
	return nil
}

func (p *Preemption) append(b []byte) []byte {
	b = tlv.AppendU16(b, p.Preempting)
	return tlv.AppendU16(b, p.Defending)
}
