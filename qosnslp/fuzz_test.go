package qosnslp

import (
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// feed reads a fuzzer's octets.
type feed struct{ b []byte }

func (f *feed) next() byte {
	if len(f.b) == 0 {
		return 0
	}
	c := f.b[0]
	f.b = f.b[1:]
	return c
}

func (f *feed) message() wire.Message {
	k := f.next()
	m := wire.Message{Type: wire.MessageType(k%4 + 1)}
	x := f.next()
	m.HasRSN = x&1 != 0 || m.Type == wire.Reserve
	m.HasRII = x&2 != 0
	m.RSN = wire.RSN{Number: uint32(f.next() % 4), Epoch: uint32(x >> 6)}
	m.RII = uint32(f.next() % 8)
	if m.Type == wire.Query {
		m.MessageFlags = x >> 5 & wire.ReserveInit
	}
	if x&4 != 0 || m.Type == wire.Query {
		m.QSPEC = qspec(uint32(x & 3))
	}
	if m.Type == wire.Reserve {
		m.MessageFlags = x >> 3 & (wire.Tear | wire.Replace)
		m.HasRefreshPeriod, m.RefreshPeriod = x&32 != 0, uint32(f.next())*100
		flags := f.next()
		m.Flags = uint16(flags & 15)
		for range flags >> 6 {
			m.SessionIDs = append(m.SessionIDs, gistwire.SID{f.next() % 8})
			m.RSNs.RSNs = append(m.RSNs.RSNs, uint32(f.next()%4))
		}
		if flags&32 != 0 {
			m.BoundSessions = []wire.BoundSession{{Code: wire.BindingCode(f.next() % 6), SID: gistwire.SID{f.next() % 8}}}
		}
		if flags&16 != 0 {
			id := wire.MsgID{ID: [16]byte{f.next() % 4}, Bidirectional: x&16 != 0}
			if x&8 != 0 {
				m.HasMsgID, m.MsgID = true, id
			} else {
				m.HasBoundMsgID, m.BoundMsgID = true, id
			}
		}
		m.HasRSNList, m.RSNs.Epoch = m.SessionIDs != nil, m.RSN.Epoch
	}
	if m.Type == wire.Response || m.Type == wire.Notify {
		m.HasInfoSpec = true
		m.InfoSpec = wire.InfoSpec{Class: wire.ErrorClass(f.next() % 8), Code: f.next() % 10}
		if m.Type == wire.Response && m.InfoSpec.Class == wire.ClassInformational {
			m.SessionIDs = []gistwire.SID{{f.next() % 8}, {f.next() % 8}}
			m.HasRSNList, m.RSNs = true, wire.RSNList{Epoch: 1, RSNs: []uint32{uint32(f.next() % 4), 0}}
		}
	}
	if m.Type != wire.Reserve && m.Type != wire.Response {
		m.HasRSN, m.HasRII = false, m.HasRII && m.Type == wire.Query
	}
	return m
}

// Whatever comes in, and whatever verdicts are given, the machine does not
// panic, what it sends parses, its books are in order, and when nothing comes
// any more all that is not this node's own is gone.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0, 4, 1, 2, 3, 5, 1, 200, 0, 2, 1, 1, 7, 0, 6, 3})
	f.Add([]byte{4, 1, 9, 5, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 6, 5, 7, 255, 3, 3, 3})
	f.Add([]byte{0, 1, 0, 4, 0, 1, 0, 0, 5, 1, 1, 5, 3, 8, 0, 1, 0, 12, 1, 1, 0, 0, 5, 1})
	f.Add([]byte{0, 6, 0, 11, 0, 4, 0, 1, 0, 12, 3, 0, 4, 0, 1, 0, 6, 0, 9, 0, 9, 200, 0, 12, 40})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		in := feed{b}
		seed := uint64(1)
		m := New(Config{Epoch: 1, Proxy: len(b)&1 != 0, AckEvery: len(b) >> 1 & 1, Limits: Limits{Requests: len(b) >> 2 & 1 * 3}, MaxSessions: 6, MaxQuestions: 4, Summary: 3, Rand: func() uint64 {
			seed = seed*6364136223846793005 + 1442695040888963407
			return seed
		}})
		now := start
		var open []uint64
		var handles []gist.MessageStatus
		var snapshots [][]byte
		step := func(ev Event) {
			for _, a := range m.Handle(now, ev) {
				switch a := a.(type) {
				case Question:
					open = append(open, a.Ticket)
					if a.Snapshot != nil {
						snapshots = append(snapshots, a.Snapshot)
					}
				case Send:
					if _, err := wire.Parse(a.NSLPData); err != nil {
						t.Fatalf("sent %x: %v", a.NSLPData, err)
					}
					handles = append(handles, gist.MessageStatus{SID: a.SID, NSLPID: a.NSLPID, Handle: a.Handle, Err: gist.ErrNoPeer})
				}
			}
			check(t, m)
		}
		for len(in.b) > 0 {
			s := gistwire.SID{in.next() % 8}
			code := in.next()
			level := gistwire.NSLPID(1 + code>>7)
			switch op := code % 13; op {
			case 0, 1, 2:
				from := Peer(in.next()%4 + 1)
				mri := hop(1)
				if op == 2 {
					mri = mri.Reverse()
				}
				if from >= 3 {
					mri = hop(from - 1).Reverse()
				}
				msg := in.message()
				step(Received{Peer: from, RecvMessage: gist.RecvMessage{Data: msg.Append(nil), NSLPID: level, SID: s, MRI: mri, SII: gist.SII(from),
					Attr: gist.TransferAttributes{Stateless: code&64 != 0}}})
			case 3:
				n := min(int(in.next()), len(in.b))
				step(Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: in.b[:n:n], NSLPID: 1, SID: s, MRI: hop(1), SII: 1}})
				in.b = in.b[n:]
			case 4, 5:
				if len(open) == 0 {
					continue
				}
				i, how := int(in.next())%len(open), in.next()
				v := Verdict{Ticket: open[i], Accept: how&1 != 0, Last: how&2 != 0, Next: hop(2), NextPeer: 3, QSPEC: qspec(uint32(how & 7))}
				if how&8 != 0 {
					v.Info = wire.InfoSpec{Class: wire.ErrorClass(how >> 5), Code: how & 7}
				}
				if how&16 != 0 {
					v.QSPEC, v.ResponseQSPEC = nil, []byte{1, 2, 3}
				}
				if how&64 != 0 {
					v.Next, v.NextPeer = hop(3), 4
				}
				v.Unchanged = how&128 != 0
				v.OrLast = how&32 != 0
				if v.NSLPID = []gistwire.NSLPID{0, 1, 2, 99}[how>>2&3]; v.NSLPID == 2 {
					v.Bound = []wire.BoundSession{{Code: wire.BindAggregate, SID: s}}
				}
				step(v)
			case 12:
				if how := in.next(); how&1 != 0 {
					step(Preempt{SID: s, By: gistwire.SID{how >> 1 & 7}})
				} else {
					step(Notify{SID: s, Downstream: how&2 != 0, Scoped: how&4 != 0, QSPEC: qspec(uint32(how)),
						Info: wire.InfoSpec{Class: wire.ErrorClass(how >> 5), Code: how >> 3 & 7}})
				}
			case 10:
				step(Rerouted{SID: s})
				step(RoutesChanged{})
			case 11:
				what, mri := in.next(), hop(2)
				switch what >> 6 {
				case 1:
					mri = hop(3)
				case 2:
					mri = hop(1).Reverse()
				}
				step(Notification{gist.NetworkNotification{NSLPID: 1, SID: s, MRI: mri, Type: gist.NotificationType(what%5 + 1),
					Status: gist.RoutingStatus(what/8%3 + 1), SII: gist.SII(what / 32 % 2 * 3)}})
			case 6:
				if in.next()&1 != 0 {
					step(Invite{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(2)})
					continue
				}
				how := in.next()
				step(Initiate{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(uint32(how & 3)), Keep: how&4 != 0, Flags: uint16(how >> 3 & 3)})
			case 7:
				step(Terminate{SID: s})
				step(Query{SID: s, NSLPID: 1, MRI: flow(), QSPEC: qspec(1), Flags: uint16(in.next() & 1)})
			case 8:
				if len(handles) > 0 {
					step(Status{handles[int(in.next())%len(handles)]})
				}
				if len(snapshots) > 0 {
					step(Restore{Snapshot: snapshots[int(in.next())%len(snapshots)]})
				}
			case 9:
				now = now.Add(time.Duration(in.next()) * time.Second / 2)
				step(nil)
			}
		}
		// Quiet: questions get their answers, nothing else comes. Sessions of
		// this node's own are ended.
		for i := range byte(8) {
			step(Terminate{SID: gistwire.SID{i}})
		}
		for range 20_000 {
			asked := open
			open = nil
			for _, tk := range asked {
				step(Verdict{Ticket: tk, Accept: true, Last: true})
			}
			d := m.Deadline()
			if d.IsZero() && len(m.tickets)+len(m.asked) == 0 {
				break
			}
			if d.After(now) {
				now = d
			}
			step(nil)
			for i := range byte(8) { // a queued Initiate may have become a session
				if x := m.sessions[gistwire.SID{i}]; x != nil && x.initiator && x.state == installed {
					step(Terminate{SID: gistwire.SID{i}})
				}
			}
		}
		if len(m.sessions)+len(m.tombs)+len(m.tickets)+len(m.timers.h)+len(m.open)+len(m.queries)+len(m.asked)+len(m.paths)+len(m.binders)+len(m.waiting)+len(m.triggers)+len(m.pinned)+len(m.transits)+m.queryCount != 0 {
			t.Fatalf("left: %+v, %d timers", m.Stats(), len(m.timers.h))
		}
	})
}

// A stateless node sends at most one message for each that it gets, of the same type
// and never a RESPONSE or NOTIFY, asks without reliability, and keeps nothing.
func FuzzInterior(f *testing.F) {
	msg := wire.Message{Type: wire.Reserve, HasRSN: true, HasRII: true, QSPEC: qspec(5)}
	f.Add(msg.Append(nil), byte(1), []byte(nil))
	f.Add(msg.Append(nil), byte(0), qspec(9))
	f.Add([]byte{2, 1, 0, 0}, byte(3), []byte{1})
	f.Fuzz(func(t *testing.T, data []byte, how byte, answer []byte) {
		m := New(Config{Epoch: 1, Stateless: true, Rand: func() uint64 { return 1 }})
		mri := flow()
		mri.Upstream = how&4 != 0
		todo := []Event{Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: data, NSLPID: 1, SID: sid(1), MRI: mri, HopCount: how}}}
		sent := 0
		for len(todo) > 0 {
			ev := todo[0]
			todo = todo[1:]
			for _, a := range m.Handle(start, ev) {
				switch a := a.(type) {
				case Question:
					todo = append(todo, Verdict{Ticket: a.Ticket, Accept: how&1 != 0, Last: how&2 != 0, QSPEC: answer})
				case Send:
					sent++
					if x := a.NSLPData[0]; x != data[0] || x != byte(wire.Reserve) && x != byte(wire.Query) || !a.Attr.Stateless || a.Attr.Reliable || a.HopCount != how {
						t.Fatalf("sent %+v for %x", a, data)
					}
				case Note:
				default:
					t.Fatalf("%T", a)
				}
			}
		}
		if st := m.Stats(); sent > 1 || mri.Upstream && sent != 0 || st.OpenQuestions+st.Tombstones+st.Creating+len(m.timers.h) != 0 {
			t.Fatalf("%d sent, %+v", sent, st)
		}
	})
}

// check looks at the machine's books.
func check(t *testing.T, m *Machine) {
	for i, e := range m.timers.h {
		if *e.pos() != int32(i+1) {
			t.Fatalf("heap entry %d is at %d", i, *e.pos())
		}
		if p := m.timers.h[(i-1)/2]; i > 0 && p.at > e.at {
			t.Fatalf("heap entry %d before its parent", i)
		}
	}
	var states [3]int
	for sid, s := range m.sessions {
		states[s.state]++
		if s.sid != sid || m.tombs[sid] != nil {
			t.Fatalf("session %v", sid)
		}
		d := s.deadline()
		if d != 0 && (s.heapPos == 0 || m.timers.h[s.heapPos-1].at > d) {
			t.Fatalf("session %v: deadline %d is not in the heap", sid, d)
		}
		if (s.state != installed) != (s.txn != nil && (s.txn.kind == create || s.txn.kind == closeIt)) {
			t.Fatalf("session %v is %v with transaction %+v", sid, s.state, s.txn)
		}
		if s.state == installed && !s.initiator && s.expireAt == 0 {
			t.Fatalf("session %v lives for ever", sid)
		}
		if v := s.move; v != nil && max(len(v.branches), len(v.formers)) > maxBranches {
			t.Fatalf("session %v has %d old branches and %d former peers", sid, len(v.branches), len(v.formers))
		}
		if len(s.queue) > maxQueue {
			t.Fatalf("%d wait", len(s.queue))
		}
	}
	batches := map[*batch]int{}
	for _, s := range m.sessions {
		b := s.batch
		if b == nil {
			continue
		}
		batches[b]++
		if b.members[s.place] != s || b.to != s.towards() || !s.hasDown() || s.refreshAt != 0 {
			t.Fatalf("session %v is in a batch of %v, place %d", s.sid, b.to, s.place)
		}
	}
	for b, n := range batches {
		if open := slices.Contains(m.open[b.to], b); n != len(b.members) || n > m.cfg.Summary || open != (n < m.cfg.Summary) || b.heapPos == 0 {
			t.Fatalf("a batch of %d with %d of %d sessions, open %v", len(b.members), n, m.cfg.Summary, open)
		}
	}
	if len(m.tears)+len(m.tearsTo) != 0 {
		t.Fatal("TEARs that nobody sends")
	}
	if states != m.states {
		t.Fatalf("sessions by state %v, counted %v", states, m.states)
	}
	count := 0
	for sid, qs := range m.queries {
		count += len(qs)
		for _, q := range qs {
			if d := q.deadline(); q.sid != sid || d == 0 || q.heapPos == 0 || m.timers.h[q.heapPos-1].at > d || q.ticket != 0 && m.asked[q.ticket] != q {
				t.Fatalf("query %+v", q)
			}
		}
		if len(qs) == 0 || len(qs) > maxQueriesOfSession {
			t.Fatalf("%d queries of %v", len(qs), sid)
		}
	}
	if count != m.queryCount || count > m.cfg.MaxQuestions || len(m.asked) > count {
		t.Fatalf("%d queries, counted %d", count, m.queryCount)
	}
	for id, w := range m.waiting {
		if w.id != id || w.heapPos == 0 {
			t.Fatalf("waiting %+v", w)
		}
	}
	for id, g := range m.triggers {
		if g.id != id || (g.held == nil) != (g.heapPos != 0) || g.held != nil && (m.sessions[g.held.sid] != g.held || g.held.txn == nil || g.held.txn.phase != waitBound) {
			t.Fatalf("trigger %+v", g)
		}
	}
	for sid, bs := range m.binders {
		for s := range bs {
			if m.sessions[s.sid] != s || !slices.ContainsFunc(s.also.bindings(), func(b wire.BoundSession) bool { return b.SID == sid }) {
				t.Fatalf("session %v is not bound to %v", s.sid, sid)
			}
		}
	}
	for sid, p := range m.paths {
		if p.sid != sid || p.heapPos == 0 {
			t.Fatalf("path %+v", p)
		}
	}
	for tk, s := range m.tickets {
		if s.txn == nil || s.txn.ticket != tk || m.sessions[s.sid] != s {
			t.Fatalf("ticket %d", tk)
		}
	}
	if len(m.sessions) > m.cfg.MaxSessions+8 || len(m.tombs) > m.cfg.MaxSessions {
		t.Fatalf("%d sessions, %d tombstones", len(m.sessions), len(m.tombs))
	}
}

// A snapshot that is accepted comes out again octet for octet.
func FuzzSnapshot(f *testing.F) {
	for _, s := range snapshotSessions() {
		f.Add(appendSnapshot(nil, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSnapshot(b)
		if err != nil {
			return
		}
		if got := appendSnapshot(nil, s); string(got) != string(b) {
			t.Fatalf("%x came out as %x", b, got)
		}
		m := New(Config{Rand: func() uint64 { return 1 }})
		m.Handle(start, Restore{Snapshot: b})
		check(t, m)
		for _, a := range m.Handle(start.Add(time.Minute), nil) {
			if send, ok := a.(Send); ok {
				if _, err := wire.Parse(send.NSLPData); err != nil && len(s.qspec) > 0 {
					t.Fatalf("sends %x: %v", send.NSLPData, err)
				}
			}
		}
	})
}
