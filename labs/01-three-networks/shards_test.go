package three_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/interqos/interqos/api"
)

// Sessions are spread over shards by their SID, and each shard is a whole QNE:
// what works with one works with two, also after a crash.
func TestTwoShards(t *testing.T) {
	two := func(name string) func(string, string) string { return swap(name, "shards: 1", "shards: 2") }
	w := start(t, quick, two("as65001.yaml"), two("as65002.yaml"), two("as65003.yaml"))
	const count = 200
	answers := <-w.flood(count, nil)
	for sid, a := range answers {
		if !a.accepted {
			t.Fatalf("session %s: %s", sid, a.text)
		}
	}
	sids := w.agree(answers)
	for _, n := range w.Nodes {
		st, err := n.Admin.Status(t.Context(), &api.StatusRequest{})
		if err != nil || st.Shards != 2 {
			t.Fatalf("AS%d: %d shards, %v", n.AS, st.GetShards(), err)
		}
		list, err := n.List(t.Context(), &api.ListReservationsRequest{})
		if err != nil || list.Total != count || len(list.Reservations) != count {
			t.Errorf("AS%d lists %d of %d reservations, %v", n.AS, len(list.GetReservations()), list.GetTotal(), err)
		}
		// With many associations a shard whose sessions went elsewhere would
		// have none.
		state, err := n.Admin.State(t.Context(), stateOf(""))
		if want := 2 * len(st.Edges); err != nil || len(state.Associations) < want {
			t.Errorf("AS%d has %d associations, expected one for each shard and neighbour, %d; %v", n.AS, len(state.GetAssociations()), want, err)
		}
	}
	// An even and an odd SID are in different shards.
	for i := range 2 {
		w.traced(fmt.Sprintf("%032x", 100+i))
	}
	w.releaseAll(sids[:count-10])
	sids = sids[count-10:]
	w.stand(len(sids))
	w.kill("as65002")
	w.revive("as65002")
	w.ready()
	w.stand(len(sids))
	w.refreshed(len(sids))
	sids = append(sids, w.reserve(5000), w.reserve(5001))
	w.stand(len(sids))
	w.releaseAll(sids)
	w.stand(0)
}

// traced wants every network to remember what it sent for a session.
func (w *world) traced(sid string) {
	w.t.Helper()
	for i, want := range []string{"Data{RESERVE}", "Data{RESPONSE}", "Data{RESPONSE}"} {
		n := w.Nodes[i]
		tr, err := n.Admin.Trace(w.t.Context(), &api.TraceRequest{SessionId: sid})
		if err != nil {
			w.t.Fatal(err)
		}
		found := false
		for _, e := range tr.Events {
			found = found || e.Message == want
		}
		st, err := n.Admin.State(w.t.Context(), stateOf(sid))
		if err != nil || !found || len(st.Sessions) != 1 || len(st.RoutingStates) == 0 {
			w.t.Errorf("AS%d, session %s: a %s in the trace: %v; sessions %v, routing states %v, %v", n.AS, sid, want, found, st.GetSessions(), st.GetRoutingStates(), err)
		}
	}
}

// releaseAll releases sessions, 64 at a time.
func (w *world) releaseAll(sids []string) {
	w.t.Helper()
	var workers sync.WaitGroup
	next := make(chan string, len(sids))
	errs := make(chan error, len(sids))
	for _, sid := range sids {
		next <- sid
	}
	close(next)
	for range 64 {
		workers.Go(func() {
			for sid := range next {
				out, err := w.Nodes[0].Release(w.t.Context(), &api.ReleaseRequest{SessionId: sid})
				if err == nil && !out.Accepted {
					err = errors.New(out.Info.GetText())
				}
				if err != nil {
					errs <- fmt.Errorf("session %s not released: %w", sid, err)
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	for err := range errs {
		w.t.Error(err)
	}
}
