package qosnslp

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// inject hands a node a message as if from had sent it over the hop between
// them.
func (w *world) inject(to, from Peer, s gistwire.SID, msg wire.Message) {
	mri := hop(from)
	if from > to {
		mri = hop(to)
		mri.Upstream = true
	}
	w.node(to).receive(from, s, mri, msg.Append(nil))
}

func reserveMsg(rsn, epoch uint32, q []byte) wire.Message {
	return wire.Message{Type: wire.Reserve, HasRSN: true, RSN: wire.RSN{Number: rsn, Epoch: epoch}, QSPEC: q}
}

func (m wireMessage) rii(v uint32) wire.Message { m.HasRII, m.RII = true, v; return wire.Message(m) }

type wireMessage wire.Message

func withRII(m wire.Message, v uint32) wire.Message { return wireMessage(m).rii(v) }

// last returns the last message that a node sent to whom match agrees.
func (n *node) last(match func(*wire.Message) bool) *wire.Message {
	n.w.t.Helper()
	for _, m := range slices.Backward(n.sent) {
		if match(m) {
			return m
		}
	}
	n.w.fatal("node %d sent no such message", n.id)
	return nil
}

func (w *world) wantInfo(m *wire.Message, c wire.ErrorClass, code uint8) {
	w.t.Helper()
	if !m.HasInfoSpec || m.InfoSpec.Class != c || m.InfoSpec.Code != code {
		w.fatal("%v says %v, want %d/0x%02x", m.Type, m.InfoSpec, c, code)
	}
}

// scripted is a chain of three whose first node is the test.
func scripted(t *testing.T) *world {
	w := newWorld(t, 3, 3)
	w.node(1).down = true
	return w
}

// reserved is a chain with one reservation of rate 20.
func reserved(t *testing.T, n int) *world {
	w := newWorld(t, n, 7)
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	return w
}

// "If the RSN is equal to that stored for the current reservation, the current
// state MUST be refreshed." RFC 5974 §5.3.1
func TestEqualRSNRefreshes(t *testing.T) {
	w := reserved(t, 2)
	before, _ := w.node(2).m.Session(sid(1))
	w.run(10 * time.Second)
	w.inject(2, 1, sid(1), reserveMsg(0, w.node(1).epoch, nil))
	after, _ := w.node(2).m.Session(sid(1))
	if got, want := after.Expires, w.now.Add(157500*time.Millisecond); !got.Equal(want) || !after.Expires.After(before.Expires) {
		t.Fatalf("expires %v, want %v", got, want)
	}
}

// "If the RSN is less than the current value, then it indicates an out-of-order
// message, and the RESERVE message MUST be discarded." RFC 5974 §5.3.1
func TestOlderRSNDiscarded(t *testing.T) {
	w := reserved(t, 2)
	w.reserve(sid(1), 30)
	w.run(time.Second)
	asked, sent := w.node(2).asked[Admit], len(w.node(2).sent)
	before, _ := w.node(2).m.Session(sid(1))
	w.run(time.Second)
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, w.node(1).epoch, qspec(99)), 77))
	after, _ := w.node(2).m.Session(sid(1))
	if w.node(2).asked[Admit] != asked || len(w.node(2).sent) != sent || before != after {
		w.fatal("an old RESERVE did something")
	}
}

// The RSN is compared by the serial number arithmetic of RFC 1982.
// RFC 5974 §5.3.1
func TestRSNWraps(t *testing.T) {
	w := scripted(t)
	const e = 5
	w.inject(2, 1, sid(1), withRII(reserveMsg(0xfffffffe, e, qspec(1)), 1))
	w.run(time.Second)
	for i, rsn := range []uint32{0xffffffff, 0, 1} {
		w.inject(2, 1, sid(1), withRII(reserveMsg(rsn, e, qspec(uint32(i)+2)), 2))
		w.run(time.Second)
	}
	if g := w.node(2).stand[sid(1)]; g.qspec != string(qspec(4)) {
		w.fatal("node 2 stands at %x", g.qspec)
	}
	// Half the number space away: neither older nor newer, so not newer.
	w.inject(2, 1, sid(1), withRII(reserveMsg(1+1<<31, e, qspec(9)), 3))
	w.run(time.Second)
	if g := w.node(2).stand[sid(1)]; g.qspec != string(qspec(4)) {
		w.fatal("node 2 stands at %x", g.qspec)
	}
}

// "If the Epoch Identifier is different to that stored for the reservation then
// the RESERVE message MUST be treated as an updated reservation (even if the
// RSN is less than the current stored value)". RFC 5974 §5.3.1
func TestNewEpochIsNewer(t *testing.T) {
	w := scripted(t)
	w.inject(2, 1, sid(1), withRII(reserveMsg(100, 5, qspec(1)), 1))
	w.run(time.Second)
	w.inject(2, 1, sid(1), withRII(reserveMsg(3, 6, qspec(2)), 2))
	w.run(time.Second)
	if g := w.node(3).stand[sid(1)]; g.qspec != string(qspec(2)) {
		w.fatal("node 3 stands at %x", g.qspec)
	}
	i, _ := w.node(2).m.Session(sid(1))
	if (i.UpstreamRSN != wire.RSN{Number: 3, Epoch: 6}) {
		w.fatal("stored RSN %v", i.UpstreamRSN)
	}
}

// "If the RSN is greater than the current stored value and the RESERVE was a
// reduced refresh, the QNE SHOULD send upstream a transient error message
// 'Full QSPEC required'." RFC 5974 §5.3.1
func TestNewerReducedRefresh(t *testing.T) {
	w := reserved(t, 2)
	w.inject(2, 1, sid(1), reserveMsg(9, w.node(1).epoch, nil))
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassTransientFailure, wire.FullQSPECRequired)
	if !m.HasRSN || m.RSN.Number != 9 {
		w.fatal("RESPONSE has RSN %v", m.RSN)
	}
}

// "the node MUST send a RESPONSE message with an INFO-SPEC that indicates a
// missing QSPEC to the upstream peer … The upstream peer SHOULD send a complete
// RESERVE". RFC 5974 §5.4.1
func TestFullQSPECRequired(t *testing.T) {
	w := reserved(t, 3)
	lost := w.node(2)
	clear(lost.disk) // it forgets everything
	lost.restart()
	w.run(2 * time.Minute)
	w.wantStand(sid(1), 20)
	if w.node(1).m.Stats().Syncs == 0 {
		w.fatal("no full RESERVE was sent")
	}
	m := w.node(1).last(func(m *wire.Message) bool { return isReserve(m) && m.QSPEC != nil })
	if !m.HasRII || !m.HasRefreshPeriod || m.RSN.Number == 0 {
		w.fatal("the full RESERVE has RII %v, REFRESH-PERIOD %v, RSN %v", m.HasRII, m.HasRefreshPeriod, m.RSN)
	}
}

// "the QNE MUST NOT add a new RII object nor replace the old RII object";
// "The RSN has local significance only". RFC 5974 §5.3.2, §5.1.3.2
func TestRIIPassesRSNDoesNot(t *testing.T) {
	w := scripted(t)
	w.inject(2, 1, sid(1), withRII(reserveMsg(41, 5, qspec(1)), 0xabcd))
	w.run(time.Second)
	m := w.node(2).last(isReserve)
	if m.RII != 0xabcd || m.RSN.Number != 0 || m.RSN.Epoch != w.node(2).epoch {
		w.fatal("forwarded with RII %x, RSN %v", m.RII, m.RSN)
	}
	if m := w.node(2).last(isResponse); m.RII != 0xabcd || m.HasRSN {
		w.fatal("RESPONSE with RII %x, RSN %v %v", m.RII, m.HasRSN, m.RSN)
	}
}

// "Retransmissions MUST be made with exponentially increasing wait intervals";
// "until QOSNSLP_RETRY_MAX seconds after the initial transmission"; "exactly the
// same as the original message". "an intermediate QNE … MUST NOT set up a
// retransmission timer". RFC 5974 §5.2.4, §5.3.2
func TestRetransmission(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.node(2).cfg.HoldTimeout = time.Hour
	w.node(2).boot()
	var times []time.Duration
	var copies [][]byte
	w.filter = func(from, to Peer, m *wire.Message) bool {
		if from == 1 && isReserve(m) {
			times = append(times, w.now.Sub(start))
			copies = append(copies, m.Append(nil))
		}
		return from != 3
	}
	w.reserve(sid(1), 5)
	w.run(29 * time.Second)
	want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second}
	if !slices.Equal(times, want) {
		w.fatal("sent at %v, want %v", times, want)
	}
	for _, c := range copies {
		if !bytes.Equal(c, copies[0]) {
			w.fatal("retransmission differs")
		}
	}
	// Each repeat was forwarded again, none made up by node 2.
	if n := w.node(2).count(isReserve); n != len(times) {
		w.fatal("node 2 sent %d RESERVEs", n)
	}
	if len(w.results[sid(1)]) != 0 {
		w.fatal("a result before RETRY_MAX")
	}
	w.filter = nil
	w.run(2 * time.Second)
	w.wantResult(sid(1), TimedOut)
	w.run(time.Second)
	w.wantStand(sid(1), 0)
}

// A repeated (RSN, RII) is answered from state where the answer is known.
func TestRepeatAnsweredFromState(t *testing.T) {
	w := scripted(t)
	msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
	w.inject(2, 1, sid(1), msg)
	w.run(time.Second)
	first := w.node(2).last(isResponse).Append(nil)
	reserves, asked := w.node(2).count(isReserve), w.node(2).asked[Admit]
	w.inject(2, 1, sid(1), msg)
	w.run(time.Second)
	if w.node(2).count(isReserve) != reserves || w.node(2).asked[Admit] != asked || w.node(2).count(isResponse) != 2 {
		w.fatal("the repeat was not answered from state")
	}
	if again := w.node(2).last(isResponse).Append(nil); !bytes.Equal(first, again) {
		w.fatal("another answer: %x, was %x", again, first)
	}
}

// "When receiving a message containing an RII object the node MUST send a
// RESPONSE if the SCOPING flag is set". RFC 5974 §5.3.2, §5.4.1
func TestScoping(t *testing.T) {
	w := scripted(t)
	msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
	msg.Flags = wire.Scoping
	w.inject(2, 1, sid(1), msg)
	w.run(time.Second)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.ReservationSuccessful)
	if len(w.node(3).got) != 0 {
		w.fatal("a scoped RESERVE travelled on")
	}
}

// "A refresh right along the path can be forced by requesting a RESPONSE from
// the far end". RFC 5974 §5.1.2.1. "If the RESERVE message included an RII, and […] the
// QNE is the last QNE on the path", it answers (§5.4.1).
func TestForcedRefresh(t *testing.T) {
	w := reserved(t, 3)
	asked := w.node(3).asked[Admit]
	w.inject(2, 1, sid(1), withRII(reserveMsg(0, w.node(1).epoch, nil), 1234))
	w.run(time.Second)
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassSuccess, wire.RefreshSuccessful)
	if a, _ := m.InfoSpec.Source.Addr(); m.RII != 1234 || a.As4()[3] != 3 || w.node(3).asked[Admit] != asked {
		w.fatal("answered by %v with RII %d", m.InfoSpec.Source, m.RII)
	}
}

// "if a received RESERVE requested acknowledgement through the ACK-REQ flag …
// the stateful QNE SHOULD send back a RESPONSE with an INFO-SPEC carrying the
// acknowledgement success code." RFC 5974 §5.4.1
func TestAckReq(t *testing.T) {
	w := reserved(t, 3)
	msg := reserveMsg(0, w.node(1).epoch, nil)
	msg.Flags = wire.AckReq
	w.inject(2, 1, sid(1), msg)
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassSuccess, wire.Acknowledgement)
	if !m.HasRSN || m.HasRII {
		w.fatal("RSN %v RII %v", m.HasRSN, m.HasRII)
	}
	w.run(time.Second)
	w.wantStand(sid(1), 20)
}

// "a RESERVE message that has the TEAR flag set and that does not come from the
// current peer QNE (identified by its SII) MUST be ignored and MUST NOT be
// forwarded." RFC 5974 §5.4.1
func TestTearOfAnotherPeer(t *testing.T) {
	w := reserved(t, 4)
	tear := reserveMsg(9, w.node(2).epoch, nil)
	tear.MessageFlags = wire.Tear
	w.inject(3, 1, sid(1), withRII(tear, 4)) // node 1 is not node 3's peer
	w.run(time.Second)
	w.wantStand(sid(1), 20)
	if w.node(3).count(isTear)+w.node(3).count(isNotify) != 0 {
		w.fatal("a foreign TEAR was forwarded")
	}
}

// "The RSN value MUST be processed": an old TEAR is one of an old state.
// RFC 5974 §5.4.1, §5.3.6
func TestOldTear(t *testing.T) {
	w := reserved(t, 2)
	w.reserve(sid(1), 30)
	w.run(time.Second)
	tear := reserveMsg(0, w.node(1).epoch, nil)
	tear.MessageFlags = wire.Tear
	w.inject(2, 1, sid(1), tear)
	w.run(time.Second)
	w.wantStand(sid(1), 30)
}

// "When the QNE sends out a tearing RESERVE, it MUST NOT send refresh messages
// anymore." "Retransmissions SHOULD be disabled for tear messages."
// RFC 5974 §5.1.2.1, §5.2.4
func TestNothingAfterTear(t *testing.T) {
	w := reserved(t, 3)
	w.node(2).down = true // nobody answers
	w.node(1).handle(Terminate{SID: sid(1)})
	sent := len(w.node(1).sent)
	w.run(29 * time.Second)
	if got := len(w.results[sid(1)]); got != 1 {
		w.fatal("%d results", got)
	}
	w.run(10 * time.Minute)
	if len(w.node(1).sent) != sent || w.node(1).count(isTear) != 1 {
		w.fatal("sent after the TEAR")
	}
	w.wantResult(sid(1), Released)
	if w.node(1).notes["tear-unconfirmed"] != 1 {
		w.fatal("nobody was told that the TEAR was not confirmed")
	}
}

// The RESPONSE to a TEAR with RII leaves when this node and downstream have
// released, not before.
func TestTearConfirmedLast(t *testing.T) {
	w := reserved(t, 3)
	w.node(2).mute[Release] = true
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(10 * time.Second)
	if len(w.results[sid(1)]) != 1 || w.node(2).count(isResponse) != 1 {
		w.fatal("confirmed before the release")
	}
	if w.node(3).count(isResponse) != 2 {
		w.fatal("node 3 did not confirm")
	}
	var ticket uint64
	for tk := range w.node(2).m.tickets {
		ticket = tk
	}
	w.node(2).handle(Verdict{Ticket: ticket, Accept: true})
	w.run(time.Second)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.TeardownSuccessful)
	w.wantResult(sid(1), Released)
}

// "If a reservation is already installed and a RESERVE message is received with
// the same session identifier from the other direction … then an error
// indicating 'RESERVE received from wrong direction' MUST be sent".
// RFC 5974 §5.1.2.1
func TestWrongDirection(t *testing.T) {
	w := reserved(t, 3)
	w.inject(2, 3, sid(1), withRII(reserveMsg(0, 99, qspec(1)), 6))
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassProtocolError, wire.WrongDirection)
	if m.RII != 6 || !m.HasRSN {
		w.fatal("RII %v RSN %v", m.RII, m.HasRSN)
	}
	w.run(time.Second)
	w.wantStand(sid(1), 20)
}

// "If there is no match for RSN, the message SHOULD be silently dropped"; with
// neither RII nor RSN it "MUST NOT be forwarded further along the path".
// RFC 5974 §5.4.3
func TestUnmatchedResponse(t *testing.T) {
	w := reserved(t, 3)
	sent := len(w.node(2).sent)
	bad := wire.Message{Type: wire.Response, HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}
	w.inject(2, 3, sid(1), bad)
	bad.HasRSN, bad.RSN = true, wire.RSN{Number: 55, Epoch: w.node(2).epoch}
	w.inject(2, 3, sid(1), bad)
	bad.RSN = wire.RSN{Number: 0, Epoch: w.node(2).epoch + 1}
	w.inject(2, 3, sid(1), bad)
	bad.HasRSN, bad.HasRII, bad.RII = false, true, 123
	w.inject(2, 3, sid(1), bad)
	bad.HasRII, bad.HasRSN, bad.RSN = false, true, wire.RSN{Number: 0, Epoch: w.node(2).epoch}
	w.inject(2, 4, sid(1), bad) // not the downstream peer
	if len(w.node(2).sent) != sent {
		w.fatal("an unmatched RESPONSE was answered or forwarded")
	}
	w.run(time.Second)
	w.wantStand(sid(1), 20)
}

// "If the INFO-SPEC object is used to send error notifications then the node
// MUST use the stored upstream peer RSN value, associated with the same
// session, and forward the RESPONSE message further along the path towards the
// QNI." RFC 5974 §5.4.3
func TestErrorByRSNGoesUp(t *testing.T) {
	w := newWorld(t, 4, 9)
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.reserve(sid(1), 30)
	w.run(time.Second)
	w.inject(3, 4, sid(1), wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Number: 2, Epoch: w.node(3).epoch},
		HasInfoSpec: true, InfoSpec: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationPreempted}})
	w.run(time.Second)
	m := w.node(3).last(isResponse)
	w.wantInfo(m, wire.ClassTransientFailure, wire.ReservationPreempted)
	if (m.RSN != wire.RSN{Number: 2, Epoch: w.node(2).epoch}) {
		w.fatal("RSN %v", m.RSN)
	}
	r := w.wantResult(sid(1), Terminated)
	if r.Info.Code != wire.ReservationPreempted {
		w.fatal("told %v", r.Info)
	}
	w.wantStand(sid(1), 0)
}

// "If the Proxy scope flag was set in an incoming QoS NSLP message, the QNE must
// set the same flag in all QoS NSLP messages it sends that are related to this
// session"; likewise BREAK; "a QNE MUST copy the BOUND-SESSION-ID object into
// all messages it sends for the same session". RFC 5974 §5.2.3, §5.4.1, §5.3.3
func TestCopied(t *testing.T) {
	w := scripted(t)
	msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
	msg.Flags = wire.Proxy | wire.Break
	msg.BoundSessions = []wire.BoundSession{{Code: wire.BindDependent, SID: sid(7)}, {Code: wire.BindTunnel, SID: sid(8)}}
	msg.PacketClassifier = wire.ClassifyDestination.Append(nil)
	w.inject(2, 1, sid(1), msg)
	w.run(2 * time.Minute)
	for _, n := range []Peer{2, 3} {
		for _, m := range w.node(n).sent {
			if m.Flags != wire.Proxy|wire.Break || !slices.Equal(m.BoundSessions, msg.BoundSessions) {
				w.fatal("node %d sent %v with flags %x, bound %v", n, m.Type, m.Flags, m.BoundSessions)
			}
			if isReserve(m) && (m.QSPEC != nil) != (m.PacketClassifier != nil) {
				w.fatal("QSPEC %v, PACKET-CLASSIFIER %v: reduced refreshes MUST NOT include it (RFC 5974 §5.1.2.1)", m.QSPEC, m.PacketClassifier)
			}
		}
	}
	if w.node(2).count(isReserve) < 3 {
		w.fatal("too few messages to judge")
	}
}

// AB=00: "the entire message containing it MUST be rejected, and an error
// message sent back"; 01: "it MUST be deleted"; 10: "retained unchanged in any
// message forwarded … but not stored locally"; 11: "also used in any refresh".
// RFC 5974 §5.1.3
func TestUnknownObjects(t *testing.T) {
	for _, action := range []wire.ExtensibilityAction{wire.Mandatory, wire.Ignore, wire.Forward, wire.Refresh} {
		t.Run(fmt.Sprint(action), func(t *testing.T) {
			w := scripted(t)
			o := wire.Object{Action: action, Type: 2040, Value: []byte{1, 2, 3, 4}}
			msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
			msg.Objects = []wire.Object{o}
			w.inject(2, 1, sid(1), msg)
			w.run(2 * time.Minute)
			if action == wire.Mandatory {
				m := w.node(2).last(isResponse)
				w.wantInfo(m, wire.ClassProtocolError, wire.UnknownObject)
				if !bytes.Equal(m.InfoSpec.Info, []byte{2040 >> 8, 2040 & 0xff, 0, 0}) || m.RII != 9 || !m.HasRSN {
					w.fatal("INFO-SPEC %x, RII %d, RSN %v", m.InfoSpec.Info, m.RII, m.HasRSN)
				}
				w.wantStand(sid(1), 0)
				return
			}
			for _, m := range w.node(2).sent {
				if !isReserve(m) {
					continue
				}
				first := m.QSPEC != nil
				want := first && action == wire.Forward || action == wire.Refresh
				got, has := m.Object(2040)
				if has != want || has && !(got.Action == action && bytes.Equal(got.Value, o.Value)) {
					w.fatal("RESERVE (full %v) with %v %v", first, has, got)
				}
			}
		})
	}
}
