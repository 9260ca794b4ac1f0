package qosnslp

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

// middle drives one node between two peers that are the test.
type middle struct {
	t   testing.TB
	m   *Machine
	now time.Time
}

func newMiddle(t testing.TB) *middle {
	seed := uint64(1)
	return &middle{t: t, now: start, m: New(Config{Epoch: 1, Limits: Limits{-1, -1}, Rand: func() uint64 {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed
	}})}
}

// recv hands in a message and returns the ticket of the question that it makes.
func (d *middle) recv(from Peer, mri gistwire.MRI, s gistwire.SID, msg *wire.Message) uint64 {
	data := msg.Append(make([]byte, 0, 256)) // GIST makes a copy for the NSLP
	return d.ticket(d.m.Handle(d.now, Received{Peer: from, RecvMessage: gist.RecvMessage{Data: data, NSLPID: 1, SID: s, MRI: mri, SII: gist.SII(from)}}))
}

func (d *middle) ticket(actions []Action) uint64 {
	for _, a := range actions {
		if q, ok := a.(Question); ok {
			return q.Ticket
		}
	}
	return 0
}

func (d *middle) reserve(s gistwire.SID, rsn uint32, q []byte) {
	msg := withRII(reserveMsg(rsn, 5, q), 77)
	msg.HasRefreshPeriod, msg.RefreshPeriod = true, 30000
	tk := d.recv(1, hop(1), s, &msg)
	d.m.Handle(d.now, Verdict{Ticket: tk, Accept: true, Next: hop(2), NextPeer: 3, QSPEC: q})
	resp := wire.Message{Type: wire.Response, HasRII: true, RII: 77, HasInfoSpec: true, QSPEC: q,
		InfoSpec: wire.InfoSpec{Class: wire.ClassSuccess, Code: wire.ReservationSuccessful}}
	tk = d.recv(3, hop(2).Reverse(), s, &resp)
	if tk == 0 {
		d.t.Fatal("no Commit")
	}
	d.m.Handle(d.now, Verdict{Ticket: tk, Accept: true, ResponseQSPEC: q})
}

func (d *middle) tear(s gistwire.SID, rsn uint32) {
	msg := reserveMsg(rsn, 5, nil)
	msg.MessageFlags = wire.Tear
	tk := d.recv(1, hop(1), s, &msg)
	d.m.Handle(d.now, Verdict{Ticket: tk, Accept: true})
}

func sidOf(i uint64) (s gistwire.SID) {
	binary.BigEndian.PutUint64(s[:], i*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(s[8:], i)
	return s
}

// One reservation through a node in the middle: RESERVE, verdict, RESPONSE,
// verdict, TEAR, verdict, beside 10,000 others.
func BenchmarkReservationThroughMiddle(b *testing.B) {
	d := newMiddle(b)
	q := make([]byte, 160)
	for i := range uint64(10_000) {
		d.reserve(sidOf(i), 0, q)
	}
	i := uint64(1 << 32)
	b.ReportAllocs()
	for b.Loop() {
		i++
		d.now = d.now.Add(time.Microsecond)
		s := sidOf(i)
		d.reserve(s, 0, q)
		d.tear(s, 1)
	}
}

// A reduced refresh from upstream, beside 10,000 other sessions.
func BenchmarkRefresh(b *testing.B) {
	d := newMiddle(b)
	q := make([]byte, 160)
	for i := range uint64(10_000) {
		d.reserve(sidOf(i), 0, q)
	}
	msg := reserveMsg(0, 5, nil)
	data := msg.Append(nil)
	ev := Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: data, NSLPID: 1, MRI: hop(1), SII: 1}}
	i := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		ev.SID = sidOf(i % 10_000)
		i++
		d.m.Handle(d.now, ev)
	}
}

// Refreshes that this node sends, one each Handle.
func BenchmarkSendRefresh(b *testing.B) {
	d := newMiddle(b)
	d.m.cfg.Summary = 1
	q := make([]byte, 160)
	for i := range uint64(10_000) {
		d.reserve(sidOf(i), 0, q)
	}
	for _, s := range d.m.sessions {
		s.expireAt = 0
	}
	b.ReportAllocs()
	for b.Loop() {
		d.now = d.m.Deadline()
		d.m.Handle(d.now, nil)
	}
}

// A refresh round of a million sessions, at a node in the middle: what comes
// from upstream and what goes downstream, in lists of 500. At the default period
// a round may take 3 s of a core, a tenth of it.
func BenchmarkSummaryRound1M(b *testing.B) {
	const n, each = 1_000_000, DefaultSummary
	d := newMiddle(b)
	q := make([]byte, 160)
	for i := range uint64(n) {
		d.reserve(sidOf(i), 0, q)
	}
	var rounds [][]byte
	for at := uint64(0); at < n; at += each {
		msg := reserveMsg(0, 5, nil)
		msg.HasRSNList, msg.RSNs.Epoch = true, 5
		for i := at + 1; i < at+each; i++ {
			msg.SessionIDs, msg.RSNs.RSNs = append(msg.SessionIDs, sidOf(i)), append(msg.RSNs.RSNs, 0)
		}
		rounds = append(rounds, msg.Append(nil))
	}
	b.ReportAllocs()
	for b.Loop() {
		for i, data := range rounds {
			d.now = d.now.Add(DefaultRefreshPeriod / time.Duration(len(rounds)))
			ev := Received{Peer: 1, RecvMessage: gist.RecvMessage{Data: data, NSLPID: 1, SID: sidOf(uint64(i * each)), MRI: hop(1), SII: 1}}
			d.m.Handle(d.now, &ev)
		}
	}
	b.StopTimer()
	if st := d.m.Stats(); st.Installed != n || st.ListErrors != 0 || st.SummaryRefreshes == 0 && b.N > 1 {
		b.Fatalf("%+v", st)
	}
	b.ReportMetric(100*b.Elapsed().Seconds()/float64(b.N)/DefaultRefreshPeriod.Seconds(), "%core")
}

// An installed session takes less than 1 KB, its QSPEC included.
func TestSessionMemory(t *testing.T) {
	const n = 10_000
	d := newMiddle(t)
	q := make([]byte, 160)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range uint64(n) {
		d.reserve(sidOf(i), 0, q)
	}
	// The answers kept for repeats go with the first refresh after their time.
	d.now = d.now.Add(61 * time.Second)
	for i := range uint64(n) {
		d.recv(1, hop(1), sidOf(i), &wire.Message{Type: wire.Reserve, HasRSN: true, RSN: wire.RSN{Epoch: 5}})
	}
	d.m.out = nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d octets per session", per)
	if per < 100 || per > 1024 {
		t.Errorf("%d octets per session, want at most 1 KB", per)
	}
	runtime.KeepAlive(d)
}
