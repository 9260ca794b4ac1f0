package qosnslp

import (
	"slices"
	"testing"
	"time"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// region is RFC 5974 §4.5, Figure 11 and 12: 1 is the QNI, 2 the aggregator, 3 and
// 4 are inside the region, 5 is the deaggregator and 6 the QNR. The aggregate goes
// from 2 to 5 on level 0; end-to-end sessions are on level 1 from 2 to 5, and pass
// 3 and 4 by.
func region(t *testing.T, seed uint64) *world {
	w := newWorld(t, 6, seed)
	w.node(3).serves, w.node(4).serves = 1, 1
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.SID == aggregateA || q.Kind != Admit && q.Kind != Inspect {
			return Verdict{}, false
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 5, Next: hop(2), NSLPID: q.NSLPID + 1,
			Bound: []wire.BoundSession{{Code: wire.BindAggregate, SID: aggregateA}}}, true
	}
	w.node(5).answer = func(q *Question) (Verdict, bool) {
		switch {
		case q.Kind != Admit && q.Kind != Inspect:
			return Verdict{}, false
		case q.SID == aggregateA:
			return Verdict{Accept: true, Last: true}, true
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 6, Next: hop(5), NSLPID: q.NSLPID - 1}, true
	}
	return w
}

func (w *world) aggregate(rate uint32) {
	w.node(2).handle(Initiate{SID: aggregateA, NSLPID: 1, MRI: flow(), QSPEC: qspec(rate)})
}

// wantAt checks that exactly these nodes have the session, with the rate.
func (w *world) wantAt(s gistwire.SID, rate uint32, at ...Peer) {
	w.t.Helper()
	for _, n := range w.nodes {
		g, ok := n.stand[s]
		i, known := n.m.Session(s)
		if want := slices.Contains(at, n.id); ok != want || known != want || want && (g.qspec != string(qspec(rate)) || i.State != "installed" || i.Pending != "") {
			w.fatal("node %d: %v %x, %v %+v; want rate %d at %v", n.id, ok, g.qspec, known, i, rate, at)
		}
	}
}

// "messages have their aggregation level incremented on entry to an aggregation
// region and decremented on exit"; "the interior routers are not required to do any
// rewriting"; "The egress stops this marking process by reassigning the QoS NSLP
// default NSLPID value". RFC 5974 §4.5, §3.3.1. Many sessions share an aggregate,
// which "can be updated independently", and nothing of them is inside.
func TestLevels(t *testing.T) {
	for seed := range uint64(6) {
		w := region(t, seed)
		if seed > 0 {
			w.loss, w.dup, w.jitter = 0.1, 0.2, 200*time.Millisecond
		}
		w.aggregate(50)
		w.run(time.Minute)
		w.wantResult(aggregateA, Reserved)
		for i := range byte(20) {
			w.reserve(sid(10+i), 2)
		}
		w.run(2 * time.Minute)
		for i := range byte(20) {
			for w.result(sid(10+i)).Kind != Reserved { // all its repeats were lost
				w.reserve(sid(10+i), 2)
				w.run(time.Minute)
			}
		}
		w.loss = 0
		w.run(10 * time.Minute)
		for i := range byte(20) {
			w.wantAt(sid(10+i), 2, 1, 2, 5, 6)
		}
		w.aggregate(90)
		w.run(10 * time.Minute)
		w.wantAt(aggregateA, 90, 2, 3, 4, 5)
		w.wantAt(sid(10), 2, 1, 2, 5, 6)
		if i, _ := w.node(2).m.Session(sid(10)); i.NSLPID != 1 || i.NextNSLPID != 2 || i.Downstream != 5 {
			w.fatal("aggregator %+v", i)
		}
		if i, _ := w.node(5).m.Session(sid(10)); i.NSLPID != 2 || i.NextNSLPID != 1 || i.Upstream != 2 {
			w.fatal("deaggregator %+v", i)
		}
		// "Session binding information carried in the RESERVE message enables the
		// deaggregator to associate the end-to-end and aggregate reservations".
		bound := []wire.BoundSession{{Code: wire.BindAggregate, SID: aggregateA}}
		if s := w.node(5).m.sessions[sid(10)]; !slices.Equal(s.also.bindings(), bound) {
			w.fatal("the deaggregator does not know the aggregate: %+v", s.also)
		}
		for i := range byte(20) {
			w.node(1).handle(Terminate{SID: sid(10 + i)})
		}
		w.node(2).handle(Terminate{SID: aggregateA})
		w.run(10 * time.Minute)
		for i := range byte(20) {
			w.wantAt(sid(10+i), 0)
		}
		w.wantAt(aggregateA, 0)
	}
}

// After a restart both edges of the region go on at the levels they had.
func TestLevelsSurvive(t *testing.T) {
	w := region(t, 1)
	w.aggregate(50)
	w.reserve(sid(10), 2)
	w.run(time.Second)
	w.node(2).restart()
	w.node(5).restart()
	w.run(20 * time.Minute)
	w.wantAt(sid(10), 2, 1, 2, 5, 6)
	w.wantAt(aggregateA, 50, 2, 3, 4, 5)
}

// Receiver-initiated and QUERY, too: what comes back is on the level of the side
// that it comes from.
func TestLevelsReceiverInitiated(t *testing.T) {
	w := region(t, 1)
	w.aggregate(50)
	w.invite(sid(10), 2)
	w.query(sid(11), 3)
	w.run(time.Minute)
	w.wantAt(sid(10), 2, 1, 2, 5, 6)
	w.wantResult(sid(11), Answered)
	w.run(20 * time.Minute)
	w.wantAt(sid(10), 2, 1, 2, 5, 6)
	w.node(6).handle(Terminate{SID: sid(10)})
	w.run(time.Minute)
	w.wantAt(sid(10), 0)
}

// Regions in regions: the level goes up to 31 and no further. RFC 5974 §6.6: "NSLP
// IDs […] aggregation levels 0 to 31".
func TestLevelBounds(t *testing.T) {
	for _, to := range []gistwire.NSLPID{0, 32, 33, 500} {
		w := newWorld(t, 3, 1)
		w.node(2).answer = func(q *Question) (Verdict, bool) {
			if q.Kind != Admit && q.Kind != Inspect {
				return Verdict{}, false
			}
			return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 3, Next: hop(2), NSLPID: to}, true
		}
		w.node(1).handle(Initiate{SID: sid(1), NSLPID: 31, MRI: flow(), QSPEC: qspec(5)})
		w.node(1).handle(Query{SID: sid(2), NSLPID: 31, MRI: flow(), QSPEC: qspec(5)})
		w.run(time.Minute)
		if to > 32 {
			for _, s := range []gistwire.SID{sid(1), sid(2)} {
				if r := w.wantResult(s, Rejected); r.Info.Class != wire.ClassPermanentFailure || r.Info.Code != wire.InternalError {
					w.fatal("%v", r.Info)
				}
			}
			w.wantStand(sid(1), 0)
			continue
		}
		w.wantResult(sid(1), Reserved)
		w.wantResult(sid(2), Answered)
		want := gistwire.NSLPID(31)
		if to != 0 {
			want = to
		}
		if i, _ := w.node(3).m.Session(sid(1)); i.NSLPID != want {
			w.fatal("%+v", i)
		}
	}
	if id, ok := LevelNSLPID(MaxLevel); !ok || id != 32 {
		t.Error("level 31")
	}
	for _, l := range []int{-1, 32} {
		if _, ok := LevelNSLPID(l); ok {
			t.Errorf("level %d", l)
		}
	}
	if _, ok := Level(33); ok {
		t.Error("NSLPID 33")
	}
}

// What is on the wrong level for its direction is not the session's: a RESPONSE
// from upstream's level, a TEAR or a reduced refresh on downstream's.
func TestWrongLevel(t *testing.T) {
	w := region(t, 1)
	w.aggregate(50)
	w.reserve(sid(10), 2)
	w.run(time.Second)
	i, _ := w.node(5).m.Session(sid(10))
	tear := wire.Message{Type: wire.Reserve, MessageFlags: wire.Tear, HasRSN: true, RSN: wire.RSN{Number: i.UpstreamRSN.Number + 1, Epoch: i.UpstreamRSN.Epoch}}
	w.node(5).receiveOn(1, 2, sid(10), i.MRI, tear.Append(nil))
	reduced := wire.Message{Type: wire.Reserve, HasRSN: true, RSN: i.UpstreamRSN}
	refreshed := w.node(5).m.Stats().Refreshed
	w.node(5).receiveOn(1, 2, sid(10), i.MRI, reduced.Append(nil))
	lost := wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Number: i.RSN, Epoch: w.node(5).cfg.Epoch}, HasInfoSpec: true,
		InfoSpec: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}}
	w.node(5).receiveOn(2, 6, sid(10), i.Next.Reverse(), lost.Append(nil))
	w.run(time.Second)
	if n := w.node(5).notes["other-nslpid"]; n != 3 || w.node(5).m.Stats().Refreshed != refreshed {
		w.fatal("%d dropped", n)
	}
	w.wantAt(sid(10), 2, 1, 2, 5, 6)
}

// Upstream the path has come to enter a region: the RESERVE is on another level, and
// what was on the old one is over.
func TestLevelChanges(t *testing.T) {
	w := newWorld(t, 3, 1)
	up := gistwire.NSLPID(0)
	w.node(1).answer = func(q *Question) (Verdict, bool) {
		if q.Kind != Admit {
			return Verdict{}, false
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 2, Next: hop(1), NSLPID: up}, true
	}
	w.node(2).answer = func(q *Question) (Verdict, bool) {
		if q.Kind != Admit {
			return Verdict{}, false
		}
		return Verdict{Accept: true, QSPEC: q.Message.QSPEC, NextPeer: 3, Next: hop(2), NSLPID: 1}, true
	}
	w.reserve(sid(1), 5)
	w.run(time.Second)
	up = 2
	w.reserve(sid(1), 6)
	w.run(20 * time.Minute)
	w.wantStand(sid(1), 6)
	if i, _ := w.node(2).m.Session(sid(1)); i.NSLPID != 2 || i.NextNSLPID != 1 {
		w.fatal("%+v", i)
	}
	w.node(1).handle(Terminate{SID: sid(1)})
	w.run(10 * time.Minute)
	w.wantStand(sid(1), 0)
}

// "When receiving a teardown message […] for an aggregate reservation, the QNE may
// use this information to initiate a teardown for end-to-end sessions bound to the
// aggregate." RFC 5974 §5.3.3. The layer above is told of each, at both edges; here
// the aggregator's ends them, and elsewhere they are kept.
func TestAggregateEnds(t *testing.T) {
	for _, ends := range []bool{true, false} {
		w := region(t, 1)
		w.aggregate(50)
		w.run(time.Second)
		for i := range byte(5) {
			w.reserve(sid(10+i), 2)
		}
		w.run(time.Second)
		w.node(4).handle(Abandon{SID: aggregateA, Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
		w.run(time.Second)
		w.wantResult(aggregateA, Terminated)
		for _, n := range []Peer{2, 5} {
			if len(w.node(n).freed) != 5 || w.node(n).freed[0].Bound.Code != wire.BindAggregate {
				w.fatal("node %d was told %+v", n, w.node(n).freed)
			}
		}
		if ends {
			for _, f := range w.node(2).freed {
				w.node(2).handle(Abandon{SID: f.SID, Info: wire.InfoSpec{Class: wire.ClassTransientFailure, Code: wire.ReservationFailure}})
			}
		}
		w.run(10 * time.Minute)
		for i := range byte(5) {
			if ends {
				w.wantAt(sid(10+i), 0)
				w.wantResult(sid(10+i), Terminated)
			} else {
				w.wantAt(sid(10+i), 2, 1, 2, 5, 6)
			}
		}
	}
}
