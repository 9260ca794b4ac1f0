package qosnslp

import (
	"fmt"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// Rules of RFC 5974 §5 that no other test is about. Which test is for which of them:
// musts_test.go.

// wantForm checks the octets of a message against all that the RFC demands of any.
func wantForm(b []byte) error {
	m, err := wire.Parse(b)
	if err != nil {
		return err
	}
	flags := map[wire.MessageType]uint8{wire.Reserve: wire.Tear | wire.Replace, wire.Query: wire.ReserveInit}[m.Type]
	if b[1]&^flags != 0 || b[2] != 0 || b[3]&^0x0f != 0 {
		return fmt.Errorf("header % x: flags that are not defined", b[:4])
	}
	if m.Flags&wire.AckReq != 0 && (m.HasRII || m.Type != wire.Reserve && m.Type != wire.Query) {
		return fmt.Errorf("%v with RII %v has ACK-REQ", m.Type, m.HasRII)
	}
	for at, o := range wire.Objects(b) {
		if b[at]&0xf0 != 0 || b[at+2]&0xf0 != 0 {
			return fmt.Errorf("%v has header % x: AB or reserved bits", o.Type, b[at:at+4])
		}
	}
	switch m.Type {
	case wire.Reserve:
		if !m.HasRSN || m.PacketClassifier != nil && m.QSPEC == nil || m.HasRSNList != (m.SessionIDs != nil) || len(m.RSNs.RSNs) != len(m.SessionIDs) {
			return fmt.Errorf("RESERVE with RSN %v, %d sessions, %d RSNs", m.HasRSN, len(m.SessionIDs), len(m.RSNs.RSNs))
		}
	case wire.Query:
		if m.QSPEC == nil || !m.HasRII && m.MessageFlags&wire.ReserveInit == 0 {
			return fmt.Errorf("QUERY with RII %v, QSPEC %x", m.HasRII, m.QSPEC)
		}
	case wire.Response, wire.Notify:
		if !m.HasInfoSpec {
			return fmt.Errorf("%v without INFO-SPEC", m.Type)
		}
	default:
		return fmt.Errorf("type %v", m.Type)
	}
	return nil
}

// All that a chain sends in an hour of everything, under loss, repeats and overtaking:
// "All GIST NSLP-Data objects for the QoS NSLP MUST contain this common header";
// "Any bit not defined as a flag for a particular message MUST be set to zero on
// sending" (RFC 5974 §5.1.1); "The RSN […] MUST always be present in all cases. A QSPEC
// MUST be included in the initial RESERVE sent towards the QNR"; reduced refreshes "MUST
// NOT include a PACKET-CLASSIFIER" (§5.1.2.1); "QUERY messages MUST always include a
// QSPEC"; for resources it "MUST contain an RII object" (§5.1.2.2); "A RESPONSE message
// MUST contain an INFO-SPEC object" (§5.1.2.3); NOTIFY too (§5.1.2.4); reserved bits
// "SHALL be set to 0"; "they MUST have the AB-bits set to "00"" (§5.1.3); "An RSN-LIST
// MUST be carried in RESERVE messages", "populated with RSN values of the same sessions"
// (§5.3.7); "RESERVE messages MUST only be sent towards the QNR" (§5.4.1).
func TestMustFormOfMessages(t *testing.T) {
	w := newWorld(t, 4, 5)
	for _, n := range w.nodes {
		n.cfg.AckEvery = 3
		n.boot()
	}
	w.loss, w.dup, w.jitter, w.think = 0.1, 0.2, 2*time.Second, time.Second
	const invited = 40 // SIDs from here on are receiver-initiated
	for i := range byte(60) {
		switch {
		case i < 10:
			w.query(sid(i), 7)
		case i < 20:
			w.node(1).handle(Initiate{SID: sid(i), NSLPID: 1, MRI: flow(), QSPEC: qspec(3),
				PacketClassifier: wire.ClassifyDestination.Append(nil), Bound: []wire.BoundSession{{Code: wire.BindBidirectional, SID: sid(i + 1)}}})
		case i < invited:
			w.reserve(sid(i), 5)
		default:
			w.invite(sid(i), 6)
		}
	}
	w.run(20 * time.Minute)
	for i := byte(10); i < 60; i++ {
		switch i % 5 {
		case 0:
			w.node(1).handle(Terminate{SID: sid(i)})
			w.node(4).handle(Terminate{SID: sid(i)})
		case 1:
			w.reserve(sid(i%30+10), 8)
		case 2:
			w.node(3).handle(Preempt{SID: sid(i), By: sid(9)})
		case 3:
			w.node(2).handle(Abandon{SID: sid(i), Info: info(wire.ClassTransientFailure, wire.ReservationFailure)})
		}
	}
	w.node(3).restart()
	w.run(40 * time.Minute)
	kinds := map[string]int{}
	for _, n := range w.nodes {
		first := map[gistwire.SID]bool{}
		for i, m := range n.sent {
			if err := wantForm(n.sends[i].NSLPData); err != nil {
				w.fatal("node %d: %v", n.id, err)
			}
			s := n.sids[i]
			up := s[15] >= invited
			switch {
			case m.Type == wire.Reserve && n.sends[i].MRI.Upstream != up:
				w.fatal("node %d sends a RESERVE away from the QNR", n.id)
			case isReserve(m) && !first[s]:
				first[s] = true
				if m.QSPEC == nil {
					w.fatal("node %d: the first RESERVE of session %d has no QSPEC", n.id, s[15])
				}
			}
			kind := m.Type.String()
			if m.SessionIDs != nil {
				kind += " with a list"
			}
			kinds[kind]++
		}
	}
	for _, k := range []string{"RESERVE", "RESERVE with a list", "QUERY", "RESPONSE", "RESPONSE with a list", "NOTIFY"} {
		if kinds[k] == 0 {
			w.fatal("no %s among %v", k, kinds)
		}
	}
}

// "An identifier that MUST be (probabilistically) unique within the context of a
// SESSION-ID and SHOULD be different every time a RESPONSE is desired" (RFC 5974
// §5.1.3.1); "the QNE MUST select the value for the RII such that it is
// probabilistically unique within the given session" (§5.3.2).
func TestMustRIIBeUnique(t *testing.T) {
	w := newWorld(t, 2, 1)
	for i := range uint32(100) {
		w.reserve(sid(1), i+1)
		w.query(sid(1), 5)
		w.run(time.Second)
	}
	seen := map[uint32]bool{}
	for _, m := range w.node(1).sent {
		if m.HasRII && seen[m.RII] {
			w.fatal("RII %x twice", m.RII)
		}
		seen[m.RII] = seen[m.RII] || m.HasRII
	}
	if len(seen) < 200 {
		t.Fatalf("%d RIIs", len(seen))
	}
}

// "It MUST be incremented for each new RESERVE message where the reservation for the
// session changes." RFC 5974 §5.3.1. A refresh has the one of the last change.
func TestMustRaiseRSN(t *testing.T) {
	w := newWorld(t, 3, 1)
	for i := range uint32(4) {
		w.reserve(sid(1), 10+i%2)
		w.run(90 * time.Second)
	}
	w.wantStand(sid(1), 11)
	for _, n := range w.nodes[:2] {
		var last *wire.Message
		changes, refreshes := 0, 0
		for _, m := range n.sent {
			switch order := wire.Newer; {
			case !isReserve(m):
				continue
			case m.QSPEC == nil:
				refreshes++
				if m.RSN != last.RSN {
					w.fatal("node %d refreshes %v with %v", n.id, last.RSN, m.RSN)
				}
				continue
			default:
				if last != nil {
					order = wire.CompareSerial(m.RSN.Number, last.RSN.Number)
				}
				if order != wire.Newer {
					w.fatal("node %d: RSN %v after %v", n.id, m.RSN, last.RSN)
				}
				changes++
				last = m
			}
		}
		if changes != 4 || refreshes < 4 {
			w.fatal("node %d: %d changes, %d refreshes", n.id, changes, refreshes)
		}
	}
}

// "If a mandatory object is missing from a message then the receiving QNE MUST NOT
// propagate the message any further. It MUST construct a RESPONSE message indicating
// the error condition and send it back to the peer QNE that sent the message."
// RFC 5974 §5.2.3
func TestMustNotPropagateIncomplete(t *testing.T) {
	for _, msg := range []wire.Message{
		{Type: wire.Reserve, HasRII: true, RII: 8, QSPEC: qspec(1)},
		{Type: wire.Query, HasRII: true, RII: 8},
		{Type: wire.Query, MessageFlags: wire.ReserveInit, HasRII: true, RII: 8},
	} {
		w := scripted(t)
		w.inject(2, 1, sid(1), msg)
		w.run(time.Minute)
		n := w.node(2)
		if len(w.node(3).got) != 0 || len(n.sent) != 1 || n.sends[0].Peer != 1 || n.asked[Admit]+n.asked[Inspect] != 0 {
			w.fatal("%v: %d messages at node 3, node 2 sent %d and asked %v", msg.Type, len(w.node(3).got), len(n.sent), n.asked)
		}
		w.wantInfo(n.last(isResponse), wire.ClassProtocolError, wire.MissingObject)
	}
}

// "The RESPONSE message MUST be forwarded unconditionally up to the QNI"; of protocol
// errors, transient and permanent failures: it "MUST carry this object, which MUST be
// forwarded unconditionally towards the upstream QNE that generated the RESERVE".
// RFC 5974 §5.3.5
func TestMustForwardInfoSpec(t *testing.T) {
	for _, class := range []wire.ErrorClass{wire.ClassProtocolError, wire.ClassTransientFailure, wire.ClassPermanentFailure, wire.ClassQoSModelError} {
		for code := uint8(1); code < 0x20; code++ {
			w := newWorld(t, 4, 1)
			w.node(4).answer = func(q *Question) (Verdict, bool) {
				return Verdict{Info: wire.InfoSpec{Class: class, Code: code}}, q.Kind == Admit
			}
			w.reserve(sid(1), 5)
			w.run(time.Minute)
			r := w.wantResult(sid(1), Rejected)
			if a, _ := r.Info.Source.Addr(); r.Info.Class != class || r.Info.Code != code || a.As4()[3] != 4 {
				w.fatal("%d/0x%02x: told %v", class, code, r.Info)
			}
			for id := Peer(2); id <= 4; id++ {
				w.wantInfo(w.node(id).last(isResponse), class, code)
			}
		}
	}
}

// "Before performing any state-changing actions, a QNE MUST determine whether the
// request is authorized." RFC 5974 §5.4.1. While that is open nothing is held, nothing
// goes on, and what stands stays.
func TestMustAuthorizeFirst(t *testing.T) {
	w := newWorld(t, 3, 1)
	w.reserve(sid(1), 5)
	w.run(time.Second)
	w.node(2).mute[Admit] = true
	w.node(2).answer = func(q *Question) (Verdict, bool) { return Verdict{Ticket: later}, q.Kind == Admit }
	got := len(w.node(3).got)
	w.reserve(sid(1), 9)
	w.reserve(sid(2), 9)
	w.run(10 * time.Second)
	if n := w.node(2); n.asked[Admit] < 3 || n.asked[Commit] != 1 || len(w.node(3).got) != got || n.stand[sid(1)].qspec != string(qspec(5)) {
		w.fatal("asked %v, node 3 got %d messages, node 2 stands at %x", n.asked, len(w.node(3).got)-got, n.stand[sid(1)].qspec)
	}
	if i, _ := w.node(2).m.Session(sid(1)); i.State != "installed" {
		w.fatal("%+v", i)
	}
	if i, _ := w.node(2).m.Session(sid(2)); i.State == "installed" {
		w.fatal("%+v", i)
	}
}

// At a TEAR "the QNE MUST inform the RMF that the reservation is no longer required."
// RFC 5974 §5.4.1. Once, at each node, and where the session's own change is under way.
func TestMustInformRMF(t *testing.T) {
	for _, changing := range []bool{false, true} {
		w := reserved(t, 4)
		released := map[Peer][]ReleaseReason{}
		for _, n := range w.nodes {
			n.answer = func(q *Question) (Verdict, bool) {
				if q.Kind == Release {
					released[n.id] = append(released[n.id], q.Reason)
				}
				return Verdict{}, false
			}
		}
		if changing {
			w.reserve(sid(1), 21)
			w.run(1500 * time.Microsecond)
		}
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(time.Minute)
		w.wantStand(sid(1), 0)
		for _, n := range w.nodes {
			if r := released[n.id]; len(r) != 1 || r[0] != Torn {
				w.fatal("changing %v: node %d was asked to release for %v", changing, n.id, r)
			}
		}
	}
}

// "If a QNE receives a refreshing RESERVE for a session for which it still has the
// operational state, but the RMF state was removed, the QNE MUST silently drop the
// message and not forward it downstream." RFC 5974 §5.4.1
func TestMustDropRefreshOfRemoved(t *testing.T) {
	w := reserved(t, 3)
	w.node(2).mute[Release] = true
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(time.Second)
	if i, ok := w.node(2).m.Session(sid(1)); !ok || i.State != "closing" {
		w.fatal("%+v", i)
	}
	sent, got, asked := len(w.node(2).sent), len(w.node(3).got), w.node(2).asked[Admit]
	e := w.node(1).epoch
	for _, msg := range []wire.Message{reserveMsg(0, e, nil), withRII(reserveMsg(0, e, nil), 3), reserveMsg(0, e, qspec(20)), withRII(reserveMsg(0, e, qspec(20)), 4)} {
		w.inject(2, 1, sid(1), msg)
	}
	w.run(time.Second)
	if len(w.node(2).sent) != sent || len(w.node(3).got) != got || w.node(2).asked[Admit] != asked {
		w.fatal("node 2 sent %d, node 3 got %d", len(w.node(2).sent)-sent, len(w.node(3).got)-got)
	}
}

// "In other cases, the QNE MUST generate a QUERY message that is then forwarded further
// along the path using the same MRI, Session ID, and Direction as provided when the
// QUERY was received over the GIST API." RFC 5974 §5.4.2. "The QSPEC MUST be passed to
// the RMF".
func TestMustForwardQuery(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.coupled = true
	w.query(sid(1), 7)
	w.invite(sid(2), 8)
	w.run(time.Second)
	for _, n := range w.nodes {
		if n.asked[Inspect] != 2 {
			w.fatal("node %d: the RMF was asked about %d QUERYs", n.id, n.asked[Inspect])
		}
		seen := map[gistwire.SID]int{}
		for i, m := range n.sent {
			if !isQuery(m) {
				continue
			}
			if seen[n.sids[i]]++; n.sends[i].MRI != flow() {
				w.fatal("node %d: MRI %v", n.id, n.sends[i].MRI)
			}
		}
		if want := map[bool]int{true: 1}[n.id < 4]; seen[sid(1)] != want || seen[sid(2)] != want {
			w.fatal("node %d sent %v", n.id, seen)
		}
	}
}

// "If the INFO-SPEC is not used to notify error situations (see above), then if the
// RESPONSE message carries an RSN, the message MUST NOT be forwarded further along the
// path." RFC 5974 §5.4.3
func TestMustNotForwardSuccessByRSN(t *testing.T) {
	for _, i := range []wire.InfoSpec{info(wire.ClassSuccess, wire.Acknowledgement), info(wire.ClassSuccess, wire.RefreshSuccessful),
		info(wire.ClassInformational, wire.UnknownBoundSession), info(wire.ClassInformational, wire.CongestionSituation)} {
		w := reserved(t, 4)
		sent := len(w.node(3).sent)
		x, _ := w.node(3).m.Session(sid(1))
		w.inject(3, 4, sid(1), wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Number: x.RSN, Epoch: w.node(3).epoch},
			HasInfoSpec: true, InfoSpec: i})
		if w.run(time.Second); len(w.node(3).sent) != sent {
			w.fatal("%v was forwarded", i)
		}
		w.wantStand(sid(1), 20)
	}
}

// "If a stateful QoS NSLP QNE receives a RESPONSE message with the BREAK flag set, then
// the BREAK flag of newly generated message (e.g., RESPONSE) MUST be set." RFC 5974
// §5.4.3
func TestMustCopyBreakOfResponse(t *testing.T) {
	for _, i := range []wire.InfoSpec{info(wire.ClassSuccess, wire.ReservationSuccessful), info(wire.ClassTransientFailure, wire.ReservationFailure)} {
		w := scripted(t)
		w.node(3).down = true
		w.inject(2, 1, sid(1), withRII(reserveMsg(0, 5, qspec(1)), 9))
		w.run(time.Second)
		w.inject(2, 3, sid(1), wire.Message{Type: wire.Response, Flags: wire.Break, HasRII: true, RII: 9, HasInfoSpec: true, InfoSpec: i})
		w.run(time.Second)
		if m := w.node(2).last(isResponse); m.Flags&wire.Break == 0 || m.InfoSpec.Class != i.Class {
			w.fatal("flags %x, %v", m.Flags, m.InfoSpec)
		}
	}
}

// A TEAR of the old or of the new upstream peer, while the RESERVE of the new one is
// under way: each ends its own branch only, and both together the session, downstream
// too. RFC 5974 §5.4.1
func TestTearWhileUpstreamMoves(t *testing.T) {
	type tears []Peer
	for name, x := range map[string]struct {
		from tears
		ends bool // the session
		asks bool // what the new peer asks for is still under way
	}{
		"of the old one":  {from: tears{2}, asks: true},
		"of the new one":  {from: tears{3}},
		"old, then new":   {from: tears{2, 3}, ends: true},
		"new, then old":   {from: tears{3, 2}, ends: true},
		"the old, twice":  {from: tears{2, 2}, asks: true},
		"of someone else": {from: tears{1}, asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := standing(t, diamond(t, 5))
			w.filter = func(from, _ Peer, _ *wire.Message) bool { return from != 5 && from != 4 }
			w.turn(1, 3)
			w.run(100 * time.Millisecond)
			n := w.node(4)
			if i, _ := n.m.Session(sid(1)); i.Pending == "" {
				w.fatal("nothing is under way: %+v", i)
			}
			for _, p := range x.from {
				mri := hop(p)
				mri.Ingress = hopTo(w, p)
				n.receive(p, sid(1), mri, tearOf(9, w.node(p).epoch))
			}
			i, ok := n.m.Session(sid(1))
			over := !ok || i.State == "closing"
			if over != x.ends || (n.asked[Release] != 0) != x.ends || (n.count(isTear) != 0) != x.ends {
				w.fatal("%+v; %d releases, %d TEARs", i, n.asked[Release], n.count(isTear))
			}
			if s := n.m.sessions[sid(1)]; !x.ends && (s.txn.upstream() && s.txn.phase == waitResponse) != x.asks {
				w.fatal("under way: %+v", i)
			}
		})
	}
}

// "a QNE MUST copy the BOUND-SESSION-ID object into all messages it sends for the same
// session" (RFC 5974 §5.3.3), and so the Proxy flag (RFC 5974 §5.2.3): in a NOTIFY, too.
func TestMustCopyIntoNotify(t *testing.T) {
	w := scripted(t)
	msg := withRII(reserveMsg(0, 5, qspec(1)), 9)
	msg.Flags = wire.Proxy
	msg.BoundSessions = []wire.BoundSession{{Code: wire.BindTunnel, SID: sid(8)}}
	w.inject(2, 1, sid(1), msg)
	w.run(time.Second)
	w.node(2).handle(Preempt{SID: sid(1)})
	if m := w.node(2).last(isNotify); m.Flags != wire.Proxy || len(m.BoundSessions) != 1 || m.BoundSessions[0] != msg.BoundSessions[0] {
		w.fatal("NOTIFY with flags %x, bound to %v", m.Flags, m.BoundSessions)
	}
}
