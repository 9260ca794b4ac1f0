package qosnslp

import (
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// disagrees says what in a RESERVE or QUERY does not go with the MRI that it came
// with, which the codec does not see; nil: nothing.
func disagrees(mri *gistwire.MRI, msg *wire.Message) *wire.ParseError {
	if msg.Type != wire.Reserve && msg.Type != wire.Query {
		return nil
	}
	if mri.Method != gistwire.PathCoupled && mri.Method != gistwire.OffPath {
		// "the QoS NSLP is currently only defined for use with the Path-Coupled
		// Message Routing Method", and for ours. RFC 5974 §5.1.3.5
		return &wire.ParseError{Code: wire.UnknownMRI, Want: "the Path-Coupled or the Off-Path MRM, not " + mri.Method.String()}
	}
	if msg.PacketClassifier == nil {
		return nil
	}
	object := wire.AppendObject(nil, wire.Mandatory, wire.TypePacketClassifier, msg.PacketClassifier)
	flags, err := wire.ParseClassifierFlags(msg.PacketClassifier)
	if err != nil {
		return &wire.ParseError{Code: wire.WrongObjectLength, Type: wire.TypePacketClassifier, Object: object, Err: err}
	}
	f := &mri.Flow
	for _, x := range []struct {
		flag wire.ClassifierFlags
		has  bool
	}{
		{wire.ClassifyProtocol, f.HasProtocol}, {wire.ClassifyDSCP, f.HasTraffic}, {wire.ClassifyFlowLabel, f.HasLabel},
		{wire.ClassifySPI, f.HasSPI}, {wire.ClassifySrcPort, f.HasSrcPort}, {wire.ClassifyDstPort, f.HasDstPort},
	} {
		if flags&x.flag != 0 && !x.has {
			// "Flags MUST only be set if the data is present in the MRI".
			// RFC 5974 §5.1.3.5
			return &wire.ParseError{Code: wire.ErroneousValue, Type: wire.TypePacketClassifier, Object: object, Want: "no more flags than the MRI has fields"}
		}
	}
	return nil
}
