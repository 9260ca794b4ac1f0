package qosnslp

import (
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// far hands node 2 of three a message of node 1, so many IP hops away.
func (w *world) far(msg wire.Message, mri gistwire.MRI, id gistwire.NSLPID, hops uint8) {
	w.node(2).recv(1, gist.RecvMessage{Data: msg.Append(nil), NSLPID: id, SID: sid(1), MRI: mri, Distance: hops})
}

// "When a stateful QoS NSLP QNE receives a RESERVE message with the BREAK flag not
// set, then the IP-TTL and Original-TTL values in the GIST RecvMessage primitive MUST
// be monitored. If they differ, it is RECOMMENDED to set the BREAK flag in newly
// generated messages (e.g., RESERVE or RESPONSE). In situations where a QNE or a domain
// is able to provide QoS using other means […], the BREAK flag SHOULD NOT be set."
// RFC 5974 §5.4.1, §3.3.5
func TestGapIsSeen(t *testing.T) {
	for name, x := range map[string]struct {
		mri   gistwire.MRI
		id    gistwire.NSLPID
		hops  uint8
		breks bool
	}{
		"adjacent":          {mri: flow(), id: 1},
		"routers between":   {mri: flow(), id: 1, hops: 2, breks: true},
		"off the path":      {mri: hop(1), id: 1, hops: 2},
		"aggregation level": {mri: flow(), id: 2, hops: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := scripted(t)
			w.coupled = true
			w.far(withRII(reserveMsg(0, 5, qspec(1)), 9), x.mri, x.id, x.hops)
			w.run(2 * time.Minute)
			reserves, responses := 0, 0
			for _, m := range w.node(2).sent {
				if (m.Flags&wire.Break != 0) != x.breks {
					w.fatal("%v with flags %x", m.Type, m.Flags)
				}
				reserves += map[bool]int{true: 1}[isReserve(m)]
				responses += map[bool]int{true: 1}[isResponse(m)]
			}
			if reserves < 3 || responses < 1 { // refreshes, too
				w.fatal("%d RESERVEs, %d RESPONSEs", reserves, responses)
			}
			if m := w.node(3).last(isResponse); (m.Flags&wire.Break != 0) != x.breks {
				w.fatal("the QNR answers with flags %x", m.Flags)
			}
		})
	}
}

// "When a stateful QoS NSLP QNE receives a QUERY message with the RESERVE-INIT flag set
// and BREAK flag not set, then the IP-TTL and Original-TTL values in GIST RecvMessage
// primitive MUST be monitored. If they differ, it is RECOMMENDED to set the BREAK flag
// in newly generated messages". RFC 5974 §5.4.2. No other QUERY is meant.
func TestGapIsSeenInQuery(t *testing.T) {
	for _, init := range []bool{false, true} {
		w := scripted(t)
		w.coupled = true
		msg := wire.Message{Type: wire.Query, HasRII: true, RII: 4, QSPEC: qspec(5)}
		if init {
			msg.MessageFlags = wire.ReserveInit
		}
		w.far(msg, flow(), 1, 1)
		w.run(time.Second)
		want := map[bool]uint16{true: wire.Break}[init]
		for _, kind := range []wire.MessageType{wire.Query, wire.Response} {
			if m := w.node(2).last(func(m *wire.Message) bool { return m.Type == kind }); m.Flags&wire.Break != want {
				w.fatal("RESERVE-INIT %v: %v with flags %x", init, kind, m.Flags)
			}
		}
	}
}

// "If a stateful QoS NSLP QNE receives a RESERVE message with the BREAK flag set, then
// the BREAK flag of newly generated messages (e.g., RESERVE or RESPONSE) MUST be set":
// also where a refresh is the first to have it, or the path has become longer.
// RFC 5974 §5.4.1
func TestGapAppears(t *testing.T) {
	for _, hops := range []uint8{0, 3} {
		w := scripted(t)
		w.coupled = true
		w.far(withRII(reserveMsg(0, 5, qspec(1)), 9), flow(), 1, 0)
		w.inject(2, 1, sid(2), withRII(reserveMsg(0, 5, qspec(1)), 9)) // stands in lists with the other
		w.run(time.Minute)
		if m := w.node(2).last(isReserve); m.Flags != 0 {
			w.fatal("flags %x", m.Flags)
		}
		refresh := reserveMsg(0, 5, nil)
		if hops == 0 {
			refresh.Flags = wire.Break
		}
		w.far(refresh, flow(), 1, hops)
		w.run(time.Minute)
		for _, n := range []Peer{2, 3} {
			if i := w.node(n).m.sessions[sid(1)]; i == nil || i.flags() != wire.Break {
				w.fatal("node %d does not know of it", n)
			}
			if i := w.node(n).m.sessions[sid(2)]; i == nil || i.flags() != 0 {
				w.fatal("node %d: the other session, too", n)
			}
		}
	}
}
