package qosnslp

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// outside is what makes a chain say a code, from outside of its machines: by a
// message, by GIST, or by the layer above. It returns the world and who says it.
type outside struct {
	info wire.InfoSpec
	do   func(t *testing.T) *world
	says Peer // node 2 if 0
	in   wire.MessageType
	why  string // instead: why nothing makes this node say it
}

// at2 is what an injected message from node 1 makes node 2 of a chain say.
func at2(msg wire.Message) func(t *testing.T) *world {
	return func(t *testing.T) *world {
		w := scripted(t)
		w.inject(2, 1, sid(1), msg)
		w.run(time.Second)
		return w
	}
}

// raw2 is at2 for octets.
func raw2(b []byte) func(t *testing.T) *world {
	return func(t *testing.T) *world {
		w := scripted(t)
		w.node(2).receive(1, sid(1), hop(1), b)
		return w
	}
}

// above2 is what the layer above of node 3 says to an Admit.
func above2(v Verdict) func(t *testing.T) *world {
	return func(t *testing.T) *world {
		w := newWorld(t, 3, 1)
		w.node(3).answer = func(q *Question) (Verdict, bool) { return v, q.Kind == Admit }
		w.reserve(sid(1), 20)
		w.run(time.Second)
		return w
	}
}

var fullReserve = withRII(reserveMsg(0, 5, qspec(1)), 9)

func with(change func(*wire.Message)) wire.Message {
	m := fullReserve
	change(&m)
	return m
}

func inviteWorld(t *testing.T) *world {
	w := newWorld(t, 3, 1)
	w.node(1).handle(Invite{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(5)})
	w.run(time.Second)
	return w
}

var outsides = []outside{
	{info: info(1, wire.UnknownBoundSession), in: wire.Notify, do: func(t *testing.T) *world {
		w := newWorld(t, 3, 1)
		w.reserve(sid(2), 5)
		w.run(time.Second)
		w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Bound: []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(2)}}})
		w.run(time.Second)
		w.node(1).handle(Terminate{SID: sid(2)})
		w.run(time.Second)
		return w
	}},
	{info: info(1, wire.RouteChange), in: wire.Notify, do: func(t *testing.T) *world {
		w := reserved(t, 3)
		i, _ := w.node(2).m.Session(sid(1))
		w.node(2).handle(Notification{gist.NetworkNotification{NSLPID: 1, SID: sid(1), MRI: i.MRI.Reverse(), Type: gist.RouteDeletion, SII: 77}})
		w.run(time.Second)
		return w
	}},
	{info: info(1, wire.NoReducedRefresh), why: "every machine here takes reduced refreshes; a stateless node (§3.2.5) sends nothing upstream (§4.7.1)"},
	{info: info(1, wire.CongestionSituation), in: wire.Notify, do: func(t *testing.T) *world {
		w := reserved(t, 3)
		w.node(2).handle(Notify{SID: sid(1), Info: info(1, wire.CongestionSituation)})
		return w
	}},
	{info: info(1, wire.UnknownListedSession), do: func(t *testing.T) *world {
		w := reserved(t, 3)
		msg := reserveMsg(0, w.node(1).epoch, nil)
		msg.SessionIDs, msg.HasRSNList, msg.RSNs = []gistwire.SID{sid(8)}, true, wire.RSNList{Epoch: w.node(1).epoch, RSNs: []uint32{1}}
		w.inject(2, 1, sid(1), msg)
		return w
	}},
	{info: info(1, wire.MismatchingRSNInList), do: func(t *testing.T) *world {
		w := reserved(t, 3)
		w.reserve(sid(2), 5)
		w.run(time.Second)
		msg := reserveMsg(0, w.node(1).epoch, nil)
		msg.SessionIDs, msg.HasRSNList, msg.RSNs = []gistwire.SID{sid(2)}, true, wire.RSNList{Epoch: w.node(1).epoch, RSNs: []uint32{44}}
		w.inject(2, 1, sid(1), msg)
		return w
	}},
	{info: info(2, wire.ReservationSuccessful), says: 3, do: func(t *testing.T) *world { return reserved(t, 3) }},
	{info: info(2, wire.TeardownSuccessful), do: at2(with(func(m *wire.Message) { m.MessageFlags, m.QSPEC = wire.Tear, nil }))},
	{info: info(2, wire.Acknowledgement), do: at2(with(func(m *wire.Message) { m.HasRII, m.Flags = false, wire.AckReq }))},
	{info: info(2, wire.RefreshSuccessful), do: func(t *testing.T) *world {
		w := scripted(t)
		msg := with(func(m *wire.Message) { m.Flags = wire.Scoping })
		w.inject(2, 1, sid(1), msg)
		w.run(time.Second)
		msg.RII, msg.QSPEC = 10, nil
		w.inject(2, 1, sid(1), msg)
		return w
	}},
	{info: info(3, wire.IllegalMessageType), do: raw2([]byte{9, 0, 0, 0})},
	{info: info(3, wire.WrongMessageLength), do: raw2(append(fullReserve.Append(nil), 0, 0))},
	{info: info(3, wire.BadGenericFlags), why: "\"Any bit not defined as a flag for a particular message … MUST be ignored on receiving\" (§5.1.1), and the four that are exclude nothing"},
	{info: info(3, wire.BadMessageFlags), do: func(t *testing.T) *world {
		w := scripted(t)
		mri := hop(1)
		mri.Upstream = true
		q := wire.Message{Type: wire.Query, MessageFlags: wire.ReserveInit, QSPEC: qspec(1)}
		w.node(2).receive(1, sid(1), mri, q.Append(nil))
		return w
	}},
	{info: info(3, wire.MissingObject), do: at2(wire.Message{Type: wire.Reserve, QSPEC: qspec(1)})},
	{info: info(3, wire.IllegalObject), do: at2(with(func(m *wire.Message) { m.QSPEC, m.PacketClassifier = nil, []byte{0, 0, 0, 0} }))},
	{info: info(3, wire.UnknownObject), do: at2(with(func(m *wire.Message) { m.Objects = []wire.Object{{Type: 2040, Value: []byte{1, 2, 3, 4}}} }))},
	{info: info(3, wire.WrongObjectLength), do: raw2(wire.AppendObject(fullReserve.Append(nil), wire.Mandatory, wire.TypeRefreshPeriod, make([]byte, 8)))},
	{info: info(3, wire.WrongDirection), do: func(t *testing.T) *world {
		w := reserved(t, 3)
		w.inject(2, 3, sid(1), fullReserve)
		return w
	}},
	{info: info(3, wire.UnknownFieldValue), do: at2(with(func(m *wire.Message) { m.BoundSessions = []wire.BoundSession{{SID: sid(7)}} }))},
	{info: info(3, wire.DuplicateObject), do: raw2(wire.AppendObject(fullReserve.Append(nil), wire.Mandatory, wire.TypeRII, make([]byte, 4)))},
	{info: info(3, wire.MalformedQSPEC), says: 3, do: above2(Verdict{Info: info(3, wire.MalformedQSPEC)})}, // RFC 5975 §4.2.3
	{info: info(3, wire.UnknownMRI), do: func(t *testing.T) *world {
		w := scripted(t)
		mri := hop(1)
		mri.Method = gistwire.LooseEnd
		w.node(2).receive(1, sid(1), mri, fullReserve.Append(nil))
		return w
	}},
	{info: info(3, wire.ErroneousValue), do: at2(with(func(m *wire.Message) { m.PacketClassifier = wire.ClassifyDSCP.Append(nil) }))},
	{info: info(3, wire.IncompatibleQSPEC), says: 3, do: above2(Verdict{Info: info(3, wire.IncompatibleQSPEC)})},
	{info: info(4, wire.NoReversePath), do: func(t *testing.T) *world {
		w := newWorld(t, 3, 1)
		w.unreachable[[2]Peer{2, 1}] = true // GIST has lost the way that the QUERY came
		w.node(1).handle(Invite{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(5)})
		w.run(time.Second)
		return w
	}},
	{info: info(4, wire.NoPathState), do: func(t *testing.T) *world {
		w := scripted(t)
		mri := hop(2)
		mri.Upstream = true
		w.node(2).receive(3, sid(1), mri, fullReserve.Append(nil))
		return w
	}},
	{info: info(4, wire.RIIConflict), do: func(t *testing.T) *world {
		w := scripted(t)
		q := wire.Message{Type: wire.Query, HasRII: true, RII: 5, QSPEC: qspec(1)}
		w.node(3).mute[Inspect] = true
		w.inject(2, 1, sid(1), q)
		w.inject(2, 3, sid(1), q)
		return w
	}},
	{info: info(4, wire.FullQSPECRequired), do: at2(with(func(m *wire.Message) { m.QSPEC = nil }))},
	{info: info(4, wire.SyncMismatch), do: func(t *testing.T) *world {
		w := scripted(t)
		w.node(2).answer = func(q *Question) (Verdict, bool) {
			return Verdict{Last: true, Accept: q.Kind == Admit, Info: info(6, wire.SLSRefuses)}, q.Kind == Admit || q.Kind == Commit
		}
		id := wire.MsgID{ID: [16]byte{3}}
		w.inject(2, 1, sid(1), with(func(m *wire.Message) { m.HasBoundMsgID, m.BoundMsgID = true, id }))
		w.inject(2, 1, sid(2), with(func(m *wire.Message) { m.HasMsgID, m.MsgID = true, id }))
		w.run(time.Second)
		return w
	}},
	{info: info(4, wire.ReservationPreempted), in: wire.Notify, do: func(t *testing.T) *world {
		w := reserved(t, 3)
		w.node(2).handle(Preempt{SID: sid(1), By: sid(3)})
		return w
	}},
	{info: info(4, wire.ReservationFailure), do: func(t *testing.T) *world {
		w := newWorld(t, 3, 1)
		w.node(2).cfg.MaxSessions = 1
		w.node(2).boot()
		w.reserve(sid(1), 20)
		w.reserve(sid(2), 20)
		w.run(time.Second)
		return w
	}},
	{info: info(4, wire.PathTruncated), in: wire.Notify, do: func(t *testing.T) *world {
		w := reserved(t, 3)
		w.unreachable[[2]Peer{2, 3}] = true
		w.run(time.Minute)
		return w
	}},
	{info: info(5, wire.InternalError), do: func(t *testing.T) *world {
		w := newWorld(t, 3, 1)
		w.node(2).answer = func(q *Question) (Verdict, bool) { return Verdict{Accept: true, QSPEC: []byte{1}}, q.Kind == Admit }
		w.reserve(sid(1), 20)
		w.run(time.Second)
		return w
	}},
	{info: info(5, wire.AuthorizationFailure), do: func(t *testing.T) *world {
		w := inviteWorld(t)
		q := wire.Message{Type: wire.Query, MessageFlags: wire.ReserveInit, QSPEC: qspec(1)}
		w.node(2).receive(Stranger, sid(1), hop(1), q.Append(nil))
		return w
	}},
	// "All these errors and events are created outside the QoS NSLP itself."
	{info: info(6, wire.NoSLS), says: 3, do: above2(Verdict{Info: info(6, wire.NoSLS)})},
	{info: info(6, wire.SLSRefuses), says: 3, do: above2(Verdict{Info: info(6, wire.SLSRefuses)})},
	{info: info(6, wire.PolicyRefuses), says: 3, do: above2(Verdict{Info: info(6, wire.PolicyRefuses)})},
	{info: info(6, wire.IntraDomainFailed), says: 3, do: above2(Verdict{Info: info(6, wire.IntraDomainFailed)})},
}

// The whole catalogue of INFO-SPEC (RFC 5974 §5.1.3.6): each code is said by what
// the RFC has it for, from outside, with its source and, where the code has one,
// its error-specific information; or a reason says why not. Errors go back in a
// RESPONSE (§5.3.5).
func TestErrorCatalogue(t *testing.T) {
	has := make(map[string]bool)
	for _, o := range outsides {
		has[fmt.Sprint(o.info.Class, o.info.Code)] = true
	}
	for _, i := range wire.Catalogue() {
		if !has[fmt.Sprint(i.Class, i.Code)] {
			t.Errorf("nothing says %v", i)
		}
	}
	for _, o := range outsides {
		t.Run(fmt.Sprintf("%d_0x%02x", o.info.Class, o.info.Code), func(t *testing.T) {
			if o.why != "" {
				t.Log(o.why)
				return
			}
			w := o.do(t)
			says, in := max(o.says, 0), o.in
			if says == 0 {
				says = 2
			}
			if in == 0 {
				in = wire.Response
			}
			var found *wire.Message
			for _, m := range w.node(says).sent {
				if m.Type == in && m.InfoSpec.Class == o.info.Class && m.InfoSpec.Code == o.info.Code && found == nil {
					found = m
				}
			}
			if found == nil {
				w.fatal("node %d has not said so", says)
			}
			source, ok := found.InfoSpec.Source.Addr()
			if !ok || source.As4()[3] != byte(says) {
				w.fatal("source %v", found.InfoSpec.Source)
			}
			typ, typed := found.InfoSpec.ObjectType()
			values, err := found.InfoSpec.ObjectValues()
			if err != nil {
				w.fatal("%v", err)
			}
			kind := wire.InfoKindOf(o.info.Class, o.info.Code)
			if o.says == 3 {
				kind = wire.NoInfo // the layer above's, which has none here
			}
			switch {
			case kind == wire.ObjectTypeInfo && (!typed || typ == 0), kind == wire.ObjectValueInfo && (len(values) != 1 || len(values[0].Object) < 4),
				kind == wire.NoInfo && len(found.InfoSpec.Info) != 0:
				w.fatal("kind %d: type %v, values %v, % x", kind, typ, values, found.InfoSpec.Info)
			}
		})
	}
}

// What is told of a bad object is the object itself: here of a classifier, whose
// "Flags MUST only be set if the data is present in the MRI". RFC 5974 §5.1.3.6, §5.1.3.5
func TestOffendingObjectComesBack(t *testing.T) {
	w := at2(with(func(m *wire.Message) { m.PacketClassifier = []byte{byte(wire.ClassifySPI), 1, 2, 3} }))(t)
	values, err := w.node(2).last(isResponse).InfoSpec.ObjectValues()
	want := wire.AppendObject(nil, wire.Mandatory, wire.TypePacketClassifier, []byte{byte(wire.ClassifySPI), 1, 2, 3})
	if err != nil || len(values) != 1 || values[0].Offset != 0 || !bytes.Equal(values[0].Object, want) {
		w.fatal("%+v, %v", values, err)
	}
	// Flags for fields that are there are good: the flow has a protocol.
	w = at2(with(func(m *wire.Message) {
		m.PacketClassifier = (wire.ClassifyProtocol | wire.ClassifyDestination).Append(nil)
	}))(t)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.ReservationSuccessful)
}
