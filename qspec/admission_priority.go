package qspec

// RFC 5975 §5.2.9, Admission Priority.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           9           |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Y.2171 Adm Pri.|Admis. Priority|        (Reserved)             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Values of Admission.Y2171. Without the parameter a flow is AdmissionNormal.
const (
	AdmissionBestEffort uint8 = 0
	AdmissionNormal     uint8 = 1
	AdmissionHigh       uint8 = 2
	// AdmissionLocal says that only Admission.Local counts.
	AdmissionLocal uint8 = 0xff
)

// Admission is the admission priority: Y2171 end to end, Local as the local
// administrator defines it. With a Y2171 priority both carry the same value.
type Admission struct {
	Y2171 uint8
	Local uint8
}

func (a *Admission) parse(v []byte) { a.Y2171, a.Local = v[0], v[1] }

func (a *Admission) append(b []byte) []byte { return append(b, a.Y2171, a.Local, 0, 0) }

// AdmissionPriority returns the admission priority of the object's parameters:
// the Y.2171 one, the local one where that is AdmissionLocal, and
// AdmissionNormal where the parameter is missing.
func (p *Params) AdmissionPriority() uint8 {
	if !p.Has.Has(AdmissionID) {
		return AdmissionNormal
	}
	if p.Admission.Y2171 == AdmissionLocal {
		return p.Admission.Local
	}
	return p.Admission.Y2171
}
