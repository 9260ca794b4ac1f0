package wire

import "fmt"

// PACKET-CLASSIFIER, RFC 5974 §5.1.3.5, for the path-coupled MRM, and as we use
// it for the off-path one:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|X|Y|P|T|F|S|A|B|                      Reserved                 |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// The object's content depends on the MRM, which the message does not name: in
// a Message it stays as it is.

// ClassifierFlags says which fields of the MRI the packet classifier uses.
type ClassifierFlags uint8

// Classifier flags.
const (
	ClassifySource      ClassifierFlags = 1 << 7 // X
	ClassifyDestination ClassifierFlags = 1 << 6 // Y
	ClassifyProtocol    ClassifierFlags = 1 << 5 // P
	ClassifyDSCP        ClassifierFlags = 1 << 4 // T
	ClassifyFlowLabel   ClassifierFlags = 1 << 3 // F
	ClassifySPI         ClassifierFlags = 1 << 2 // S
	ClassifySrcPort     ClassifierFlags = 1 << 1 // A
	ClassifyDstPort     ClassifierFlags = 1 << 0 // B
)

// Append appends the PACKET-CLASSIFIER value (four octets, without header).
func (f ClassifierFlags) Append(b []byte) []byte { return append(b, byte(f), 0, 0, 0) }

// ParseClassifierFlags reads the value of a PACKET-CLASSIFIER that belongs to a
// path-coupled or off-path MRI.
func ParseClassifierFlags(v []byte) (ClassifierFlags, error) {
	if len(v) != 4 {
		e := wrongLength(TypePacketClassifier, "1 word")
		e.Object = AppendObject(nil, Mandatory, TypePacketClassifier, v)
		return 0, fmt.Errorf("path-coupled classifier: %w", e)
	}
	return ClassifierFlags(v[0]), nil
}
