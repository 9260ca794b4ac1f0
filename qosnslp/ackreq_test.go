package qosnslp

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

func asksAck(m *wire.Message) bool { return m.Type == wire.Reserve && m.Flags&wire.AckReq != 0 }

// acked is a chain in which each so-manieth refresh is acknowledged, with n
// reservations.
func acked(t *testing.T, nodes, every, summary, n int, seed uint64) *world {
	w := newWorld(t, nodes, seed)
	for _, x := range w.nodes {
		x.cfg.AckEvery, x.cfg.Summary = every, summary
		x.boot()
	}
	for i := range n {
		w.reserve(sid(byte(i+1)), 20)
	}
	w.run(time.Second)
	for i := range n {
		w.wantResult(sid(byte(i+1)), Reserved)
	}
	return w
}

// "a QNE may include the ACK-REQ flag to request confirmation of a refresh message
// reception from its immediate peer"; "The ACK-REQ flag must not be set for RESERVE
// messages that already include an RII object"; "Currently, the flag is only used
// with refresh messages." RFC 5974 §5.2.4, §5.1.1
func TestAckedRefreshes(t *testing.T) {
	for _, every := range []int{0, 1, 3} {
		w := acked(t, 3, every, 1, 1, 5)
		w.run(10 * time.Minute)
		w.reserve(sid(1), 30)
		w.run(10 * time.Minute)
		w.wantStand(sid(1), 30)
		for _, n := range w.nodes[:2] {
			asked, refreshes := n.count(asksAck), int(n.m.Stats().RefreshesSent)
			if every == 0 && asked != 0 || every > 0 && (asked < refreshes/every-1 || asked > refreshes/every+1) {
				w.fatal("every %d: node %d asked %d times in %d refreshes", every, n.id, asked, refreshes)
			}
			for _, m := range n.sent {
				if asksAck(m) && (m.HasRII || m.Tears() || m.QSPEC != nil) {
					w.fatal("ACK-REQ in %+v", m)
				}
			}
			if st := n.m.Stats(); st.Retransmitted != 0 || st.Unacknowledged != 0 {
				w.fatal("node %d: %+v", n.id, st)
			}
		}
		acks := w.node(2).count(func(m *wire.Message) bool {
			return m.Type == wire.Response && m.InfoSpec.Class == wire.ClassSuccess && m.InfoSpec.Code == wire.Acknowledgement && m.HasRSN && !m.HasRII
		})
		if acks != w.node(1).count(asksAck) {
			w.fatal("%d acknowledgements of %d", acks, w.node(1).count(asksAck))
		}
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Hour)
		w.wantStand(sid(1), 0)
	}
}

// "Retransmissions MUST be made with exponentially increasing wait intervals";
// "did not receive a RESPONSE from its immediate stateful peer within the
// retransmission period of QOSNSLP_RETRY_MAX, the QNE SHOULD send a NOTIFY to its
// immediate upstream stateful peer and indicate 'Path truncated - Next peer
// dead'". RFC 5974 §5.2.4, §5.4.1. GIST has noticed nothing.
func TestNotAcknowledged(t *testing.T) {
	for _, summary := range []int{1, 500} {
		w := acked(t, 3, 1, summary, 5, 5)
		var times []time.Duration
		var copies [][]byte
		w.filter = func(from, to Peer, m *wire.Message) bool {
			if from == 2 && to == 3 && asksAck(m) && (summary > 1 || w.node(2).sids[len(w.node(2).sids)-1] == sid(1)) {
				times = append(times, w.now.Sub(start))
				copies = append(copies, m.Append(nil))
			}
			return from != 3 && to != 3
		}
		w.run(80 * time.Second)
		if len(times) < 4 {
			w.fatal("%v", times)
		}
		for i, want := range []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second} {
			if times[i+1]-times[0] != want || !bytes.Equal(copies[i+1], copies[0]) {
				w.fatal("sent at %v; want 0, 2, 6, 14 s after the first, and equal", times)
			}
		}
		for i := range byte(5) {
			var told []wire.InfoSpec
			for _, x := range w.node(1).notified {
				if x.SID == sid(i+1) {
					told = append(told, x.Message.InfoSpec)
				}
			}
			if len(told) == 0 || !slices.ContainsFunc(told, func(x wire.InfoSpec) bool {
				a, _ := x.Source.Addr()
				return x.Class == wire.ClassTransientFailure && x.Code == wire.PathTruncated && a.As4()[3] == 2
			}) {
				w.fatal("summary %d: of session %d the initiator was told %v", summary, i+1, told)
			}
		}
		// It comes back in time: nothing is lost.
		w.filter = nil
		w.run(10 * time.Minute)
		for i := range byte(5) {
			w.wantStand(sid(i+1), 20)
		}
		// It does not: it is over.
		w.filter = func(from, to Peer, _ *wire.Message) bool { return from != 3 && to != 3 }
		w.run(10 * time.Minute)
		w.filter = nil
		w.run(time.Hour)
		for i := range byte(5) {
			if r := w.result(sid(i + 1)); r.Kind != Terminated {
				w.fatal("told %d %v", r.Kind, r.Info)
			}
			w.wantStand(sid(i+1), 0)
		}
	}
}

// Loss and repeats do not make a peer dead that lives.
func TestAckedUnderLoss(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := acked(t, 4, 1, int(1+seed%2*20), 4, seed)
		w.loss, w.dup, w.jitter = 0.1, 0.2, 300*time.Millisecond
		w.run(10 * time.Minute)
		w.loss = 0
		w.run(5 * time.Minute)
		for i := range byte(4) {
			w.wantStand(sid(i+1), 20)
		}
	}
}

// "if a received RESERVE requested acknowledgement through the ACK-REQ flag … and
// the processing of the message was successful, the stateful QNE SHOULD send back a
// RESPONSE with an INFO-SPEC carrying the acknowledgement success code": of any
// RESERVE without RII but a TEAR. RFC 5974 §5.4.1
func TestAcknowledgesFullReserve(t *testing.T) {
	w := scripted(t)
	msg := reserveMsg(0, 5, qspec(1))
	msg.Flags = wire.AckReq
	w.inject(2, 1, sid(1), msg)
	w.run(time.Second)
	m := w.node(2).last(isResponse)
	w.wantInfo(m, wire.ClassSuccess, wire.Acknowledgement)
	if m.HasRII || m.RSN != msg.RSN || w.node(2).last(isReserve).Flags&wire.AckReq != 0 {
		w.fatal("RII %v, RSN %v, forwarded with %x", m.HasRII, m.RSN, w.node(2).last(isReserve).Flags)
	}
	msg.RSN.Number = 7 // with the same QSPEC
	w.inject(2, 1, sid(1), msg)
	w.wantInfo(w.node(2).last(isResponse), wire.ClassSuccess, wire.Acknowledgement)
	n := w.node(2).count(isResponse)
	tear := reserveMsg(8, 5, nil)
	tear.MessageFlags, tear.Flags = wire.Tear, wire.AckReq
	w.inject(2, 1, sid(1), tear)
	w.run(time.Second)
	if w.node(2).count(isResponse) != n {
		w.fatal("a TEAR was acknowledged")
	}
	w.wantStand(sid(1), 0)
}
