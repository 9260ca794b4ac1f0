package qosnslp

import (
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// proxyWorld is a chain whose node p is a P-QNE.
func proxyWorld(t *testing.T, n int, p Peer, seed uint64) *world {
	w := newWorld(t, n, seed)
	if p != 0 {
		w.node(p).cfg.Proxy = true
		w.node(p).boot()
	}
	return w
}

// standsUpTo checks that exactly the nodes up to this one hold the rate, and that
// those behind it have never heard of the session.
func (w *world) standsUpTo(last Peer, s gistwire.SID, rate uint32) {
	w.t.Helper()
	for _, n := range w.nodes {
		g, ok := n.stand[s]
		i, known := n.m.Session(s)
		switch {
		case n.id <= last && (!ok || g.qspec != string(qspec(rate)) || i.State != "installed" || i.Pending != ""):
			w.fatal("node %d: %v %x, %+v", n.id, ok, g.qspec, i)
		case n.id > last && (ok || known || len(n.got) != 0):
			w.fatal("node %d, behind the P-QNE: %v, %v, %d messages", n.id, ok, known, len(n.got))
		}
	}
}

// wantProxyFlag: "If the PROXY scope flag is set in an incoming QoS NSLP message,
// the QNE must set the same flag in all QoS NSLP messages it sends that are related
// to this session." RFC 5974 §4.8, §5.2.3
func (w *world) wantProxyFlag() {
	w.t.Helper()
	for _, n := range w.nodes {
		for _, m := range n.sent {
			if m.Flags&wire.Proxy == 0 {
				w.fatal("node %d sent a %v without the PROXY flag", n.id, m.Type)
			}
		}
	}
}

// "When receiving a message containing an RII object the node MUST send a RESPONSE
// if […] The PROXY scope flag is set and the QNE is the P-QNE". RFC 5974 §5.3.2,
// §5.4.1, §4.8. The session lives, changes and ends as any other.
func TestProxyReserve(t *testing.T) {
	for seed := range uint64(8) {
		w := proxyWorld(t, 4, 3, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.2, 0.2, 300*time.Millisecond
		}
		reserve := func(rate uint32) {
			w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(rate), Flags: wire.Proxy})
		}
		reserve(20)
		w.run(time.Minute)
		w.wantResult(sid(1), Reserved)
		w.standsUpTo(3, sid(1), 20)
		if i, _ := w.node(3).m.Session(sid(1)); !i.Last {
			w.fatal("the P-QNE is not the last node: %+v", i)
		}
		reserve(30)
		w.run(5 * time.Minute)
		w.standsUpTo(3, sid(1), 30)
		w.node(3).handle(Notify{SID: sid(1), Info: wire.InfoSpec{Class: wire.ClassInformational, Code: wire.RouteChange}})
		w.run(time.Minute)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(10 * time.Minute)
		w.wantStand(sid(1), 0)
		w.wantProxyFlag()
	}
}

// The P-QNE tells the layer above that it is asked as one, and its refusal is
// told to the host.
func TestProxyRefuses(t *testing.T) {
	w := proxyWorld(t, 3, 2, 1)
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.Kind == Admit && !q.Proxy {
			w.fatal("not asked as the P-QNE")
		}
		return Verdict{Info: wire.InfoSpec{Class: wire.ClassPermanentFailure, Code: wire.AuthorizationFailure}}, q.Kind == Admit
	}
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(5), Flags: wire.Proxy})
	w.run(time.Minute)
	if r := w.wantResult(sid(1), Rejected); r.Info.Code != wire.AuthorizationFailure {
		w.fatal("%v", r.Info)
	}
	w.wantProxyFlag()
	w.wantStand(sid(1), 0)
	if len(w.node(3).got) != 0 {
		w.fatal("it went on beyond the P-QNE")
	}
}

// What does not have the flag passes a P-QNE, and what has it ends at the path's
// last node where there is no P-QNE: "This QNE is the last one on the path for the
// given session" is reason enough for the RESPONSE. RFC 5974 §5.3.2
func TestProxyOfOthers(t *testing.T) {
	w := proxyWorld(t, 4, 3, 1)
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 20)
	w = proxyWorld(t, 3, 0, 1)
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(5), Flags: wire.Proxy})
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 5)
	w.wantProxyFlag()
}

// "If an RII object is present, and […] the PROXY scope flag is set and the QNE is
// a P-QNE, the QNE MUST generate a RESPONSE message". RFC 5974 §5.4.2
func TestProxyQuery(t *testing.T) {
	w := proxyWorld(t, 4, 3, 1)
	w.node(3).capacity = 7
	w.node(1).handle(Query{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(20), Flags: wire.Proxy})
	w.run(time.Second)
	if r := w.wantResult(sid(1), Answered); string(r.QSPEC) != string(qspec(7)) {
		w.fatal("%x", r.QSPEC)
	}
	if len(w.node(4).got) != 0 {
		w.fatal("it went on beyond the P-QNE")
	}
	w.wantProxyFlag()
	w.wantNoQuery()
}

// "The receiver-oriented reservation for outgoing flows works the same way as in
// Figure 8, except that the P-QNE is the QNI." RFC 5974 §4.8
func TestProxyIsQNI(t *testing.T) {
	w := proxyWorld(t, 4, 3, 1)
	w.node(1).handle(Invite{SID: sid(1), NSLPID: 1, MRI: flow(), QSPEC: qspec(9), Flags: wire.Proxy})
	w.run(20 * time.Minute)
	w.standsUpTo(3, sid(1), 9)
	w.wantProxyFlag()
	if i, _ := w.node(3).m.Session(sid(1)); !i.Initiator {
		w.fatal("%+v", i)
	}
	w.node(3).handle(Terminate{SID: sid(1)})
	w.run(time.Minute)
	w.wantStand(sid(1), 0)
}

// "For incoming data flows, the end host is the QNI, and it sends a RESERVE towards
// the data sender with the PROXY scope flag set. Here the end host sets the MRI so
// that it indicates the end host as the receiver of the data, and sets the D-flag."
// RFC 5974 §4.8
func TestProxyIncomingFlow(t *testing.T) {
	for seed := range uint64(5) {
		w := proxyWorld(t, 4, 3, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.2, 0.2, 300*time.Millisecond
		}
		up := flow()
		up.Upstream = true
		reserve := func(rate uint32) {
			w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: up, QSPEC: qspec(rate), Flags: wire.Proxy})
		}
		reserve(9)
		w.run(time.Minute)
		w.wantResult(sid(1), Reserved)
		w.standsUpTo(3, sid(1), 9)
		if i, _ := w.node(2).m.Session(sid(1)); !i.MRI.Upstream || !i.Next.Upstream {
			w.fatal("the D-flag is not set: %+v", i)
		}
		reserve(4)
		w.run(20 * time.Minute)
		w.standsUpTo(3, sid(1), 4)
		w.node(1).handle(Terminate{SID: sid(1)})
		w.run(10 * time.Minute)
		w.wantStand(sid(1), 0)
	}
}

// "In some cases, GIST will be unable to determine the appropriate next hop for the
// message, and so will indicate a failure to deliver it". RFC 5974 §4.8. Without
// the flag a RESERVE upstream still needs the path of a QUERY.
func TestProxyUpstreamNotFound(t *testing.T) {
	w := proxyWorld(t, 3, 3, 1)
	w.unreachable[[2]Peer{2, 3}] = true
	up := flow()
	up.Upstream = true
	w.node(1).handle(Initiate{SID: sid(1), NSLPID: 1, MRI: up, QSPEC: qspec(9), Flags: wire.Proxy})
	w.run(time.Minute)
	if r := w.wantResult(sid(1), Rejected); r.Info.Class != wire.ClassTransientFailure || r.Info.Code != wire.NoReversePath {
		w.fatal("%v", r.Info)
	}
	w.node(1).handle(Initiate{SID: sid(2), NSLPID: 1, MRI: up, QSPEC: qspec(9)})
	if r := w.wantResult(sid(2), Rejected); r.Info.Code != wire.NoPathState {
		w.fatal("%v", r.Info)
	}
}
