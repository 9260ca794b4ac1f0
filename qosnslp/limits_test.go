package qosnslp

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// limitedWorld is a chain of four with the test in node 1's place and low limits
// at node 2.
func limitedWorld(t *testing.T, l Limits) *world {
	w := newWorld(t, 4, 3)
	w.node(1).down = true
	w.node(2).cfg.Limits = l
	w.node(2).boot()
	return w
}

// "QNEs should perform rate-limiting": what a peer makes this node send to others.
// RFC 5974 §7, §5.1.2.1
func TestPeerRequestsAreLimited(t *testing.T) {
	w := limitedWorld(t, Limits{Requests: 10})
	two := w.node(2)
	for i := range byte(100) {
		w.inject(2, 1, sid(i), withRII(reserveMsg(0, 5, qspec(1)), 9))
	}
	if got := two.asked[Admit]; got != 10 || two.notes["rate-limit"] != 1 || two.m.Stats().LimitedRequests != 90 || two.count(isResponse) != 0 {
		w.fatal("%d were asked about, %v, %d RESPONSEs", got, two.notes, two.count(isResponse))
	}
	w.run(500 * time.Millisecond)
	w.inject(2, 1, sid(200), wire.Message{Type: wire.Query, HasRII: true, RII: 1, QSPEC: qspec(1)})
	if two.asked[Inspect] != 1 {
		w.fatal("half a second later there is no room")
	}
	// What is dropped comes again: nothing is lost but time.
	for try := 0; len(two.stand) < 100; try++ {
		if try > 20 {
			w.fatal("%d of 100 after %d s", len(two.stand), try)
		}
		w.run(time.Second)
		for i := range byte(100) {
			if _, ok := two.stand[sid(i)]; !ok {
				w.inject(2, 1, sid(i), withRII(reserveMsg(0, 5, qspec(1)), 9))
			}
		}
	}
	// Refreshes and TEARs are never held back.
	for i := range byte(100) {
		w.inject(2, 1, sid(i), reserveMsg(0, 5, nil))
		tear := reserveMsg(1, 5, nil)
		tear.MessageFlags = wire.Tear
		w.inject(2, 1, sid(i), tear)
	}
	w.run(time.Minute)
	if st := two.m.Stats(); st.Refreshed < 100 || st.Installed != 0 {
		w.fatal("%+v", st)
	}
}

// One peer's limit is not another's.
func TestPeersHaveLimitsOfTheirOwn(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.node(2).cfg.Limits = Limits{Requests: 3, Answers: 3}
	w.node(2).boot()
	for range 50 {
		w.inject(2, 3, sid(99), wire.Message{Type: wire.Notify, HasInfoSpec: true, InfoSpec: info(1, wire.CongestionSituation)})
		w.inject(2, 3, sid(99), wire.Message{Type: wire.Query}) // malformed
	}
	if got := w.node(2).count(isResponse); got != 3 {
		w.fatal("%d errors answered", got)
	}
	w.reserve(sid(1), 20)
	w.run(time.Second)
	w.wantResult(sid(1), Reserved)
	w.wantStand(sid(1), 20)
}

// "An attacker could send erroneous messages on purpose, forcing the QNE to
// constantly reply with an error message." RFC 5974 §7
func TestPeerAnswersAreLimited(t *testing.T) {
	w := limitedWorld(t, Limits{Answers: 10})
	two := w.node(2)
	bad := [...]wire.Message{
		{Type: wire.Reserve, QSPEC: qspec(1)}, // no RSN
		reserveMsg(0, 5, nil),                 // unknown
		{Type: wire.Query, HasRII: true},      // no QSPEC
		withRII(wire.Message{Type: wire.Reserve, MessageFlags: wire.Tear, HasRSN: true}, 3),
	}
	for i := range byte(200) {
		w.inject(2, 1, sid(i), bad[int(i)%len(bad)])
	}
	if got := two.count(isResponse); got != 10 || two.m.Stats().LimitedAnswers != 190 {
		w.fatal("%d answers, %+v", got, two.m.Stats())
	}
	w.run(2 * time.Second)
	w.inject(2, 1, sid(1), bad[0])
	if got := two.count(isResponse); got != 11 {
		w.fatal("%d answers", got)
	}
}

// A list of a downstream peer that is said to be unknown makes as many refreshes:
// each of its entries counts.
func TestListedErrorsAreLimited(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.node(2).cfg.Limits = Limits{Requests: 50}
	w.node(2).cfg.Summary = 500
	w.node(2).boot()
	var all []gistwire.SID
	for i := range byte(40) {
		w.reserve(sid(i), 20)
		all = append(all, sid(i))
		w.run(time.Second)
	}
	// It says so of the primary's RSN, over and over.
	list := wire.Message{Type: wire.Response, HasRSN: true, RSN: wire.RSN{Epoch: w.node(2).epoch}, HasInfoSpec: true,
		InfoSpec: info(1, wire.UnknownListedSession), SessionIDs: all}
	before := len(w.node(2).sent)
	for range 20 {
		w.inject(2, 3, sid(0), list)
	}
	if got := len(w.node(2).sent) - before; got > 50 || w.node(2).m.Stats().LimitedRequests != 19 {
		w.fatal("%d messages, %d limited", got, w.node(2).m.Stats().LimitedRequests)
	}
}

// No error is answered by an error, whoever made it and whatever is wrong with it.
// RFC 5974 §5.4, §7
func TestErrorsAreNotAnswered(t *testing.T) {
	w := reserved(t, 3)
	quiet := len(w.node(2).sent)
	for _, typ := range []wire.MessageType{wire.Response, wire.Notify} {
		good := wire.Message{Type: typ, HasInfoSpec: true, InfoSpec: info(wire.ClassProtocolError, wire.ErroneousValue)}
		for _, b := range [][]byte{
			{byte(typ), 0, 0, 0},                              // no INFO-SPEC
			{byte(typ), 0xff, 0xff, 0xff},                     // flags
			good.Append(nil)[:7],                              // cut
			append(good.Append(nil), good.Append(nil)[4:]...), // twice
			append(good.Append(nil), 0, 0, 0),                 // not whole words
			append(good.Append(nil), 0x07, 0xf8, 0, 0),        // unknown mandatory object
		} {
			for from := Peer(1); from <= 3; from += 2 {
				for _, s := range []gistwire.SID{sid(1), sid(5)} {
					mri := hop(from)
					if from > 2 {
						mri = hop(2)
						mri.Upstream = true
					}
					w.node(2).receive(from, s, mri, b)
				}
			}
		}
	}
	if got := len(w.node(2).sent); got != quiet {
		w.fatal("%d answers, the last %+v", got-quiet, w.node(2).sent[got-1])
	}
	w.wantStand(sid(1), 20)
}

// The table of peers is bounded; who has not been heard of for a while is
// forgotten, and those beyond the bound share one place.
func TestLimitsOfManyPeers(t *testing.T) {
	m := New(Config{Rand: func() uint64 { return 4 }, Limits: Limits{Requests: 5}})
	from := func(at time.Time, p Peer) int {
		s := sid(1)
		binary.BigEndian.PutUint32(s[:], uint32(p))
		msg := withRII(reserveMsg(0, 5, qspec(1)), 1)
		n := 0
		for _, a := range m.Handle(at, Received{Peer: p, RecvMessage: gist.RecvMessage{Data: msg.Append(nil), NSLPID: 1, SID: s, MRI: hop(1)}}) {
			if q, ok := a.(Question); ok && q.Kind == Admit {
				n++
			}
		}
		return n
	}
	admitted := 0
	for p := range Peer(3 * maxBuckets) {
		admitted += from(start, p+1)
	}
	if len(m.buckets) > maxBuckets+1 || admitted != maxBuckets+5 {
		t.Fatalf("%d buckets, %d admitted", len(m.buckets), admitted)
	}
	if from(start.Add(time.Minute), 3*maxBuckets+1) != 1 || len(m.buckets) > 2 {
		t.Fatalf("%d buckets after a minute", len(m.buckets))
	}
}

// The defaults are above what two neighbours have between them: 20,000 reservations
// made, refreshed and torn in a second.
func TestDefaultLimitsAreOutOfTheWay(t *testing.T) {
	d := newMiddle(t)
	d.m = New(Config{Epoch: 1, Rand: d.m.cfg.Rand})
	for i := range uint32(20_000) {
		s := sid(2)
		binary.BigEndian.PutUint32(s[:], i)
		d.now = start.Add(time.Duration(i) * time.Second / 20_000)
		d.reserve(s, 0, qspec(1))
		msg := reserveMsg(0, 5, nil)
		d.recv(1, hop(1), s, &msg)
		d.tear(s, 1)
	}
	if st := d.m.Stats(); st.LimitedRequests+st.LimitedAnswers != 0 || st.Committed != 20_000 {
		t.Fatalf("%+v", st)
	}
}
