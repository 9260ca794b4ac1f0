package qosnslp

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// world is a chain of nodes 1…n in memory, with a clock of its own. Messages
// and verdicts take time, messages may be lost, repeated and overtaken.
type world struct {
	t     testing.TB
	now   time.Time
	rng   *rand.Rand
	nodes []*node // nodes[0] is node 1
	queue pending
	seq   int

	loss, dup   float64
	delay       time.Duration // of a message, at least
	jitter      time.Duration // more, at random
	think       time.Duration // of a verdict, at most
	filter      func(from, to Peer, m *wire.Message) bool
	unreachable map[[2]Peer]bool // GIST says no peer
	cutOff      func(Send) bool  // likewise
	trace       []string
	results     map[gistwire.SID][]Result
	back        map[gistwire.SID]bool // sender-initiated from the last node to the first
	via         map[Peer]Peer         // next hops that are not the next node; the node itself: it is the last
	coupled     bool                  // all hops have the MRI of the flow, as with the Path-Coupled MRM
}

type node struct {
	w     *world
	id    Peer
	m     *Machine
	cfg   Config
	epoch uint32

	// The node's resources, as the layer above keeps them.
	held  map[gistwire.SID]grant
	stand map[gistwire.SID]grant
	disk  map[gistwire.SID][]byte
	diskQ map[gistwire.SID]string
	asked map[QuestionKind]int
	notes map[string]int

	answer    func(q *Question) (Verdict, bool) // true: use it
	result    func(Result)                      // told, too
	mute      map[QuestionKind]bool             // never answered
	down      bool
	restarted bool
	orLast    bool            // its verdicts' OrLast
	level     gistwire.NSLPID // of what it sends on; 0: as it came
	capacity  uint32          // that it can offer to a QUERY; 0: any
	lives     int
	serves    gistwire.NSLPID // NSLPIDs up to this one; 0: all
	freed     []BoundEnded
	notified  []Notified
	sent      []*wire.Message
	got       []*wire.Message
	sids      []gistwire.SID // of sent
	sends     []Send         // likewise
	doubts    []Invalidate
}

type grant struct {
	version uint32
	qspec   string
}

type event struct {
	at  time.Time
	seq int
	do  func()
}
type pending []event

func (p pending) Len() int { return len(p) }
func (p pending) Less(i, j int) bool {
	return p[i].at.Before(p[j].at) || p[i].at.Equal(p[j].at) && p[i].seq < p[j].seq
}
func (p pending) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *pending) Push(x any)   { *p = append(*p, x.(event)) }
func (p *pending) Pop() any {
	e := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return e
}

// later, as a verdict's ticket, says that the answer comes from elsewhere.
const later = ^uint64(0)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, n int, seed uint64) *world {
	w := &world{t: t, now: start, rng: rand.New(rand.NewPCG(seed, 1)), delay: time.Millisecond,
		via: map[Peer]Peer{}, results: map[gistwire.SID][]Result{}, back: map[gistwire.SID]bool{}, unreachable: map[[2]Peer]bool{}}
	for i := range n {
		nd := &node{w: w, id: Peer(i + 1), notes: map[string]int{}, asked: map[QuestionKind]int{}, mute: map[QuestionKind]bool{},
			held: map[gistwire.SID]grant{}, stand: map[gistwire.SID]grant{}, disk: map[gistwire.SID][]byte{}, diskQ: map[gistwire.SID]string{}}
		nd.boot()
		w.nodes = append(w.nodes, nd)
	}
	return w
}

func (n *node) boot() {
	n.epoch = n.w.rng.Uint32()
	n.cfg.Epoch, n.cfg.Rand = n.epoch, n.w.rng.Uint64
	n.cfg.ErrorSource = wire.SourceAddr(netip.AddrFrom4([4]byte{127, 0, 0, byte(n.id)}))
	n.m = New(n.cfg)
}

// restart loses everything but the disk; holds are gone.
func (n *node) restart() {
	n.restarted = true
	n.lives++ // a new GIST identity, hence another SII
	clear(n.held)
	clear(n.stand)
	n.boot()
	for sid, b := range n.disk {
		n.handle(Restore{Snapshot: b})
		s, err := parseSnapshot(b)
		if err != nil {
			n.w.t.Fatalf("node %d: %v", n.id, err)
		}
		n.stand[sid] = grant{version: s.rsn, qspec: n.diskQ[sid]}
	}
}

func (w *world) node(id Peer) *node { return w.nodes[id-1] }

func (w *world) at(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{at: w.now.Add(d), seq: w.seq, do: do})
}

// run lets time pass for d.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		next := end
		var due *node
		if len(w.queue) > 0 && w.queue[0].at.Before(next) {
			next = w.queue[0].at
		}
		for _, n := range w.nodes {
			if dl := n.m.Deadline(); !dl.IsZero() && dl.Before(next) && !n.down {
				next, due = dl, n
			}
		}
		switch {
		case due != nil:
			if next.After(w.now) {
				w.now = next
			}
			due.handle(nil)
		case len(w.queue) > 0 && !w.queue[0].at.After(next) && next.Before(end):
			e := heap.Pop(&w.queue).(event)
			if e.at.After(w.now) {
				w.now = e.at
			}
			e.do()
		default:
			w.now = end
			return
		}
	}
}

func (n *node) handle(ev Event) {
	if n.down {
		return
	}
	for _, a := range n.take(ev) {
		n.act(a)
	}
}

// take hands in what may come by pointer that way, and takes it back: nothing
// of it is kept.
func (n *node) take(ev Event) []Action {
	switch ev := ev.(type) {
	case Received:
		defer func() { ev = Received{} }()
		return n.m.Handle(n.w.now, &ev)
	case Verdict:
		defer func() { ev = Verdict{} }()
		return n.m.Handle(n.w.now, &ev)
	}
	return n.m.Handle(n.w.now, ev)
}

func (n *node) act(a Action) {
	w := n.w
	switch a := a.(type) {
	case Send:
		n.deliver(a)
	case Question:
		n.asked[a.Kind]++
		w.logf("s%d: %d asks %s rsn %d reason %d", a.SID[15], n.id, [...]string{"", "admit", "commit", "fail", "release", "inspect", "conclude", "transit"}[a.Kind], a.RSN, a.Reason)
		v := n.decide(&a)
		if n.mute[a.Kind] || v.Ticket == later {
			return
		}
		v.Ticket = a.Ticket
		m := n.m
		var wait time.Duration
		if w.think > 0 {
			wait = time.Duration(w.rng.Int64N(int64(w.think)))
		}
		w.at(wait, func() {
			if n.m == m { // not restarted since
				n.handle(v)
			}
		})
	case Result:
		w.logf("s%d: %d result %d rsn %d %v", a.SID[15], n.id, a.Kind, a.RSN, a.Info)
		w.results[a.SID] = append(w.results[a.SID], a)
		if n.result != nil {
			n.result(a)
		}
	case BoundEnded:
		n.freed = append(n.freed, a)
	case Invalidate:
		n.doubts = append(n.doubts, a)
	case Notified:
		n.notified = append(n.notified, a)
	case Note:
		w.logf("s%d: %d note %s: %s", a.SID[15], n.id, a.Kind, a.Detail)
		n.notes[a.Kind]++
	}
}

func (w *world) logf(format string, args ...any) {
	if len(w.trace) > 400 {
		return
	}
	w.trace = append(w.trace, fmt.Sprintf("%8v ", w.now.Sub(start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// deliver is GIST and the network.
func (n *node) deliver(a Send) {
	w := n.w
	msg, err := wire.Parse(a.NSLPData)
	if err != nil {
		w.t.Fatalf("node %d sends a message that does not parse: %v", n.id, err)
	}
	n.sent, n.sids, n.sends = append(n.sent, &msg), append(n.sids, a.SID), append(n.sends, a)
	w.logf("s%d: %d → %d %v%s rsn %v/%d.%d rii %v/%x qspec %d info %v", a.SID[15], n.id, a.Peer, msg.Type, map[bool]string{true: " TEAR"}[msg.Tears()],
		msg.HasRSN, msg.RSN.Number, msg.RSN.Epoch%1000, msg.HasRII, msg.RII, len(msg.QSPEC), msg.InfoSpec)
	if a.Peer == Stranger {
		return
	}
	if a.Attr.Stateless && (a.Attr.Reliable || a.Attr.Secure || a.SII != 0) {
		w.fatal("node %d sends without state, but %+v to SII %d", n.id, a.Attr, a.SII)
	}
	if n.cfg.Stateless && a.Peer == Local {
		a.Peer = n.id + 1
	}
	if a.Peer == Local || int(a.Peer) > len(w.nodes) {
		w.t.Fatalf("node %d sends to peer %d", n.id, a.Peer)
	}
	if a.SII != 0 && a.SII != w.sii(a.Peer) {
		w.logf("   no such SII")
		if a.Handle != 0 {
			w.at(0, func() {
				n.handle(Status{gist.MessageStatus{Handle: a.Handle, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, Err: gist.ErrUnknownSII}})
			})
		}
		return
	}
	if w.unreachable[[2]Peer{n.id, a.Peer}] || w.cutOff != nil && w.cutOff(a) {
		if a.Handle != 0 {
			w.at(w.delay, func() {
				n.handle(Status{gist.MessageStatus{Handle: a.Handle, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, Err: gist.ErrNoPeer}})
			})
		}
		return
	}
	if a.Report {
		w.at(0, func() {
			n.handle(Status{gist.MessageStatus{Handle: a.Handle, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, Attr: a.Attr}})
		})
	}
	copies := 1
	if w.rng.Float64() < w.dup {
		copies = 2
	}
	for range copies {
		if w.rng.Float64() < w.loss || w.filter != nil && !w.filter(n.id, a.Peer, &msg) {
			w.logf("   lost")
			continue
		}
		d := w.delay
		if w.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(w.jitter)))
		}
		to := w.node(a.Peer)
		data := append([]byte(nil), a.NSLPData...)
		w.at(d, func() {
			to.recv(n.id, gist.RecvMessage{Data: data, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, HopCount: a.HopCount,
				Attr: gist.TransferAttributes{Stateless: a.Attr.Stateless, ExplicitlyRouted: a.SII != 0}})
		})
	}
}

func (n *node) receive(from Peer, sid gistwire.SID, mri gistwire.MRI, data []byte) {
	n.receiveOn(1, from, sid, mri, data)
}

func (n *node) receiveOn(id gistwire.NSLPID, from Peer, sid gistwire.SID, mri gistwire.MRI, data []byte) {
	n.recv(from, gist.RecvMessage{Data: data, NSLPID: id, SID: sid, MRI: mri})
}

func (n *node) recv(from Peer, r gist.RecvMessage) {
	if n.serves != 0 && r.NSLPID > n.serves {
		n.w.fatal("node %d gets a message for NSLPID %d, which it does not serve", n.id, r.NSLPID)
	}
	if msg, err := wire.Parse(r.Data); err == nil {
		n.got = append(n.got, &msg)
	}
	r.SII = n.w.sii(from)
	n.handle(Received{Peer: from, RecvMessage: r})
}

// sii is what GIST calls a peer: one that has restarted is another.
func (w *world) sii(p Peer) gist.SII {
	if int(p) > len(w.nodes) {
		return gist.SII(p) * 1000
	}
	return gist.SII(p)*1000 + gist.SII(w.node(p).lives)
}

// decide is the layer above: it admits everything and keeps the books.
func (n *node) decide(q *Question) Verdict {
	if n.answer != nil {
		if v, ok := n.answer(q); ok {
			if q.Kind == Admit && v.Accept {
				n.held[q.SID] = grant{q.RSN, string(q.Message.QSPEC)}
			}
			return v
		}
	}
	switch q.Kind {
	case Admit:
		if q.Message == nil {
			n.w.t.Fatal("Admit without a message")
		}
		v := Verdict{Accept: true, QSPEC: q.Message.QSPEC}
		v.OrLast, v.NSLPID = n.orLast, n.level
		v.NextPeer, v.Next, v.Last = n.w.next(n.id, q.MRI)
		if q.Move == MoveDownstream && v.NextPeer == q.Downstream && !v.Last {
			return Verdict{Accept: true, Unchanged: true}
		}
		n.held[q.SID] = grant{q.RSN, string(q.Message.QSPEC)}
		if n.w.back[q.SID] {
			v.NextPeer, v.Next, v.Last = n.id-1, hop(n.id), n.id == 1
			v.Next.Flow.Source, v.Next.Flow.Destination = v.Next.Flow.Destination, v.Next.Flow.Source
			return v
		}
		return v
	case Commit:
		h, ok := n.held[q.SID]
		if !ok || h.version != q.RSN {
			return Verdict{Info: wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.IntraDomainFailed}}
		}
		delete(n.held, q.SID)
		n.stand[q.SID] = h
		n.disk[q.SID] = q.Snapshot
		n.diskQ[q.SID] = h.qspec
		return Verdict{Accept: true}
	case Fail:
		if n.held[q.SID].version == q.RSN {
			delete(n.held, q.SID)
		}
		return Verdict{Accept: true}
	case Release:
		delete(n.held, q.SID)
		delete(n.stand, q.SID)
		delete(n.disk, q.SID)
		delete(n.diskQ, q.SID)
		return Verdict{Accept: true}
	case Inspect:
		have := q.Message.QSPEC
		if n.capacity != 0 && binary.BigEndian.Uint32(have[4:]) > n.capacity {
			have = qspec(n.capacity)
		}
		v := Verdict{Accept: true, QSPEC: have, ResponseQSPEC: have}
		v.NextPeer, v.Next, v.Last = n.w.next(n.id, q.MRI)
		return v
	case Transit:
		return Verdict{Accept: true, NextPeer: n.id + 1}
	case Conclude:
		return Verdict{Accept: true, ResponseQSPEC: q.Message.QSPEC}
	}
	n.w.t.Fatalf("question kind %d", q.Kind)
	return Verdict{}
}

// next is where a flow goes on from a node.
func (w *world) next(from Peer, mri gistwire.MRI) (Peer, gistwire.MRI, bool) {
	to := from + 1
	if x, ok := w.via[from]; ok {
		to = x
	}
	out := hop(from)
	if to != from+1 {
		out.Ingress = netip.AddrFrom4([4]byte{127, 1, byte(from), 100 + byte(to)})
	}
	if out.Flow = mri.Flow; w.coupled {
		out = gistwire.MRI{Flow: mri.Flow}
	}
	return to, out, to == from || int(from) == len(w.nodes)
}

// hop is the MRI from a node to the next.
func hop(from Peer) gistwire.MRI {
	m := flow()
	m.Method = gistwire.OffPath
	m.Egress = netip.AddrFrom4([4]byte{127, 1, byte(from), 1})
	m.Ingress = netip.AddrFrom4([4]byte{127, 1, byte(from), 2})
	return m
}

func flow() gistwire.MRI {
	return gistwire.MRI{Flow: gistwire.Flow{Source: netip.MustParsePrefix("10.1.0.10/32"),
		Destination: netip.MustParsePrefix("10.3.0.10/32"), HasProtocol: true, Protocol: 17}}
}

func sid(i byte) gistwire.SID { return gistwire.SID{0: 0xee, 15: i} }

func qspec(rate uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0xd, 0, 2}, rate)
}

func (w *world) reserve(s gistwire.SID, rate uint32) {
	w.node(1).handle(Initiate{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(rate)})
}

func (w *world) result(s gistwire.SID) Result {
	w.t.Helper()
	rs := w.results[s]
	if len(rs) == 0 {
		w.fatal("no result for %v", s)
	}
	return rs[len(rs)-1]
}

func (w *world) fatal(format string, args ...any) {
	w.t.Helper()
	for _, l := range w.trace {
		w.t.Log(l)
	}
	w.t.Fatalf(format, args...)
}

func (w *world) wantResult(s gistwire.SID, k ResultKind) Result {
	w.t.Helper()
	r := w.result(s)
	if r.Kind != k {
		w.fatal("result is %d %v, want %d", r.Kind, r.Info, k)
	}
	return r
}

// wantStand checks that all nodes hold exactly this rate; 0: nothing at all.
func (w *world) wantStand(s gistwire.SID, rate uint32) {
	w.t.Helper()
	for _, n := range w.nodes {
		g, ok := n.stand[s]
		_, hold := n.held[s]
		i, known := n.m.Session(s)
		if rate == 0 {
			if ok || hold || known {
				w.fatal("node %d still has something: committed %v, held %v, session %+v", n.id, ok, hold, i)
			}
			continue
		}
		if !ok || g.qspec != string(qspec(rate)) || hold {
			w.fatal("node %d: committed %v %x, held %v, want rate %d", n.id, ok, g.qspec, hold, rate)
		}
		if !known || i.State != "installed" || i.Pending != "" {
			w.fatal("node %d: session %+v", n.id, i)
		}
	}
}

// count says how many messages of a kind a node has sent.
func (n *node) count(match func(*wire.Message) bool) int {
	c := 0
	for _, m := range n.sent {
		if match(m) {
			c++
		}
	}
	return c
}

func isReserve(m *wire.Message) bool  { return m.Type == wire.Reserve && !m.Tears() }
func isTear(m *wire.Message) bool     { return m.Tears() }
func isResponse(m *wire.Message) bool { return m.Type == wire.Response }
func isNotify(m *wire.Message) bool   { return m.Type == wire.Notify }
