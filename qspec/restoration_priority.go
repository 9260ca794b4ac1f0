package qspec

import "fmt"

// RFC 5976 §3.2, Restoration Priority.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|M|E|N|r|           16          |r|r|r|r|          1            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Rest. Priority|  TTR  |  EOR  |        (Reserved)             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

// Values of Restoration.Priority.
const (
	RestoreBestEffort uint8 = 0
	RestoreNormal     uint8 = 1
	RestoreHigh       uint8 = 2
)

// Highest values that RFC 5976 §5.2 assigns.
const (
	maxTimeToRestore = 2
	maxExtent        = 5
)

// Restoration is the urgency with which a service has to come back after a
// failure.
type Restoration struct {
	Priority      uint8
	TimeToRestore uint8 // 4 bits; 0: unspecified, 1: at most 200 ms, 2: at most 2 s
	Extent        uint8 // 4 bits; 0: unspecified, 1 to 5: RFC 5976 §3.2, EOR
}

func (r *Restoration) parse(v []byte) {
	r.Priority, r.TimeToRestore, r.Extent = v[0], v[1]>>4, v[1]&0x0f
}

func (r *Restoration) append(b []byte) []byte {
	return append(b, r.Priority, r.TimeToRestore<<4|r.Extent&0x0f, 0, 0)
}

// checkAssigned looks for values that mean nothing (RFC 5976 §5.2).
func (r *Restoration) checkAssigned() error {
	if r.Priority > RestoreHigh || r.TimeToRestore > maxTimeToRestore || r.Extent > maxExtent {
		return fmt.Errorf("priority %d, time to restore %d, extent %d; want at most %d, %d, %d",
			r.Priority, r.TimeToRestore, r.Extent, RestoreHigh, maxTimeToRestore, maxExtent)
	}
	return nil
}
