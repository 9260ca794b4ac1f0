package qspec

// RFC 5975 §5.2.11, Excess Treatment. The re-mark value is the first six bits
// of its octet.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           11          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Excess Trtmnt |Re-mark Val|             Reserved              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// ExcessTreatment is what is done to traffic beyond the TMOD.
type ExcessTreatment uint8

// Excess treatments. Others are not assigned.
const (
	ExcessDrop    ExcessTreatment = 0
	ExcessShape   ExcessTreatment = 1
	ExcessRemark  ExcessTreatment = 2
	ExcessNoMeter ExcessTreatment = 3 // no metering or policing is permitted
)

// Excess is the Excess Treatment parameter.
type Excess struct {
	Treatment ExcessTreatment
	Remark    uint8 // DSCP, 6 bits, with ExcessRemark
}

func (e *Excess) parse(v []byte) { e.Treatment, e.Remark = ExcessTreatment(v[0]), v[1]>>2 }

func (e *Excess) append(b []byte) []byte { return append(b, uint8(e.Treatment), e.Remark<<2, 0, 0) }
