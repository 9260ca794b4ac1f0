package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// quiet has no effects but releases, which are done at once.
type quiet struct {
	effects
	posts   func(any)
	network intradomain.Controller
}

func (quiet) sendDatagram(time.Time, gist.SendDatagram)             {}
func (quiet) note(string, string, wire.SID, netip.AddrPort, string) {}
func (quiet) result(qosnslp.Result)                                 {}
func (quiet) ledger() ledger                                        { return &sharedLedger{l: sls.New(sls.Config{})} }
func (q quiet) driver() intradomain.Controller                      { return q.network }
func (q quiet) post(ev any)                                         { q.posts(ev) }
func (quiet) remove(_ sls.ID, done func(error))                     { done(nil) }

// crowd returns a node with one shard, which has n committed reservations of
// AS65002 and does not run yet.
func crowd(t testing.TB, n int) (*Node, *shard) {
	t.Helper()
	w := newSimWorld(t, 1)
	one := w.session()
	w.mustReserve(one, mbit(1))
	a := w.as[1]
	rec, err := store.ParseRecord(a.disk.records[sls.ID(one.sid)])
	if err != nil {
		t.Fatal(err)
	}
	s := &shard{node: &Node{cfg: a.cfg}, stopped: make(chan struct{})}
	s.node.shards = []*shard{s}
	s.init()
	s.qne, err = newQNE(a.cfg, qneParts{
		started: time.Now(), random: random, fill: func(b []byte) { clear(b) },
		route:  func(wire.MRI) (gist.QueryRoute, error) { return gist.QueryRoute{}, errStopped },
		routes: a.routes, fx: quiet{posts: func(ev any) { s.inbox.put(ev) }, network: a.newDriver()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.tcp, err = transport.ListenTCP(transport.TCPConfig{Handler: func([]gist.Event) {}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.tcp.Close() })
	for i := range n {
		sid := numbered(i)
		r := store.Record{ID: sls.ID(sid), Version: rec.Version, Domain: rec.Domain,
			Session: bytes.ReplaceAll(rec.Session, one.sid[:], sid[:])}
		s.qne.restore(time.Now(), &r)
	}
	if st := s.qne.nslp.Stats(); s.qne.domain.Len() != n || st.Installed != n {
		t.Fatalf("%d reservations, %d sessions, want %d", s.qne.domain.Len(), st.Installed, n)
	}
	return s.node, s
}

func numbered(i int) (sid wire.SID) {
	binary.BigEndian.PutUint32(sid[4:], uint32(i)+1)
	sid[15] = 1
	return sid
}

// run lets a shard's loop turn until the test, or the returned function, ends it.
func run(t testing.TB, s *shard) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() {
		defer close(s.stopped)
		s.run(ctx)
	})
	end = sync.OnceFunc(func() {
		cancel()
		s.inbox.close()
		loop.Wait()
	})
	t.Cleanup(end)
	return end
}

// Whoever is there all the time is listed, once, while others go.
func TestListingWhileSessionsEnd(t *testing.T) {
	const all, ending = 4000, 1000
	n, s := crowd(t, all)
	run(t, s)
	var going sync.WaitGroup
	going.Go(func() {
		for i := range ending {
			s.inbox.put(qosnslp.Abandon{SID: numbered(2 * i), Info: nslpwire.InfoSpec{
				Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationFailure}})
		}
	})
	for range 3 {
		list, err := n.ListReservations(t.Context(), &api.ListReservationsRequest{Limit: all})
		if err != nil {
			t.Fatal(err)
		}
		if int(list.Total) != len(list.Reservations) || !slices.IsSortedFunc(list.Reservations, func(a, b *api.Reservation) int {
			if a.SessionId < b.SessionId {
				return -1
			}
			return 1
		}) {
			t.Errorf("%d listed, total %d; want as many, in order, each once", len(list.Reservations), list.Total)
		}
		state, err := n.State(t.Context(), &api.StateRequest{Limit: all})
		if err != nil {
			t.Fatal(err)
		}
		listed, dumped := map[string]bool{}, map[string]bool{}
		for _, r := range list.Reservations {
			listed[r.SessionId] = true
		}
		for _, r := range state.Sessions {
			dumped[r.SessionId] = true
		}
		for i := range all {
			if id := numbered(i).String(); (i%2 == 1 || i >= 2*ending) && !(listed[id] && dumped[id]) {
				t.Fatalf("session %d has been there all the time: listed %t, dumped %t", i, listed[id], dumped[id])
			}
		}
	}
	going.Wait()
}

func TestListLimitsAndTotals(t *testing.T) {
	n, s := crowd(t, 300)
	run(t, s)
	list, err := n.ListReservations(t.Context(), &api.ListReservationsRequest{Limit: 7, NeighborAs: 65001})
	if err != nil || len(list.Reservations) != 7 || list.Total != 300 {
		t.Errorf("%d of %d reservations (%v), want 7 of 300", len(list.GetReservations()), list.GetTotal(), err)
	}
	if list, err = n.ListReservations(t.Context(), &api.ListReservationsRequest{NeighborAs: 65009}); err != nil || list.Total != 0 {
		t.Errorf("of another neighbour: %v, %v", list, err)
	}
	state, err := n.State(t.Context(), &api.StateRequest{Limit: 7})
	if err != nil || len(state.Sessions) != 7 || state.Nslp.Sessions != 300 {
		t.Errorf("%d of %d sessions (%v), want 7 of 300", len(state.GetSessions()), state.GetNslp().GetSessions(), err)
	}
	state, err = n.State(t.Context(), &api.StateRequest{SessionId: numbered(8).String()})
	if err != nil || len(state.Sessions) != 1 || state.Sessions[0].SessionId != numbered(8).String() {
		t.Errorf("one session: %v, %v", state.GetSessions(), err)
	}
}

// A walk that its caller gives up, or that outlives the shard, ends, and f is
// not called any more.
func TestWalkEnds(t *testing.T) {
	_, s := crowd(t, 300)
	end := run(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := walk(ctx, s, s.qne.domain.Sessions, func(interdomain.Info) bool {
		calls++
		cancel()
		for began := time.Now(); time.Since(began) < 2*sliceTime; { // that long: this is the slice's last item
		}
		return true
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	was := calls
	if err := s.call(t.Context(), func() {}); err != nil || calls != was {
		t.Errorf("%d calls after the end (%v)", calls-was, err)
	}
	end()
	if err := walk(t.Context(), s, s.qne.domain.Sessions, func(interdomain.Info) bool { return true }); !errors.Is(err, errStopped) {
		t.Errorf("stopped: %v", err)
	}
}

// BenchmarkWalkSlice lists 100,000 reservations with no other work for the
// shard: how long it is kept at a time, and what an item costs.
func BenchmarkWalkSlice(b *testing.B) {
	const n = 100_000
	_, s := crowd(b, n)
	var turns []time.Duration
	var met int
	b.ReportAllocs()
	for b.Loop() {
		var found []interdomain.Info
		w := newWalker(s.qne.domain.Sessions, func(i interdomain.Info) bool {
			met++
			if len(found) < 1000 {
				found = append(found, i)
			}
			return true
		})
		for !w.done {
			start := time.Now()
			w.slice()
			turns = append(turns, time.Since(start))
		}
		w.end()
	}
	if met != n*b.N {
		b.Fatalf("%d items, want %d", met, n*b.N)
	}
	slices.Sort(turns)
	b.ReportMetric(float64(turns[len(turns)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(turns[len(turns)-1].Microseconds()), "µs-longest")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(met), "ns/item")
}

// BenchmarkCounts is what metrics ask of a shard with 100,000 sessions.
func BenchmarkCounts(b *testing.B) {
	n, s := crowd(b, 100_000)
	run(b, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := n.softState(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
