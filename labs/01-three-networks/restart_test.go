package three_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// "Restarting qned loses no committed reservation, admits nothing twice and leaves
// no orphan policer": each network is killed in turn, and the gateway.
func TestRestart(t *testing.T) {
	w := start(t, quick)
	var sids []string
	for i := range 4 {
		sids = append(sids, w.reserve(i))
	}
	w.stand(len(sids))
	for i, name := range []string{"as65002", "as65001", "as65003", "bngfe"} {
		w.kill(name)
		if name == "bngfe" {
			w.until("AS65003 to miss its gateway", func(ctx context.Context) error {
				if standing(ctx, w.Nodes[2], uint64(len(sids)), 1) == nil {
					return errors.New("it does not")
				}
				return nil
			})
		}
		w.revive(name)
		w.ready()
		w.stand(len(sids))     // all are still there, each once
		w.refreshed(len(sids)) // and are kept
		sids = append(sids, w.reserve(4+i))
		w.stand(len(sids))
		w.release(sids[0]) // one from before the crash
		sids = sids[1:]
		w.stand(len(sids))
	}
	for _, sid := range sids {
		w.release(sid)
	}
	w.stand(0)
}

// A network that is killed in the middle of many requests: whatever the initiator
// was told is what every AS has when all is quiet again.
func TestKilledInFlight(t *testing.T) {
	w := start(t, quick)
	w.release(w.reserve(1000)) // associations stand
	told := w.flood(66, func() { w.kill("as65002") })
	w.revive("as65002")
	w.ready()
	sids := w.agree(<-told)
	w.refreshed(len(sids))
	w.stand(len(sids))
	w.releaseAll(sids)
	w.stand(0)
}

// answer is what the initiator was told of a session: that it is accepted, that it
// is not, or nothing, for the connection to it was lost.
type answer struct {
	accepted, unknown bool
	text              string
}

// workers is how many requests are under way at a time.
const workers = 64

// flood asks for reservations, workers at a time, until count of them have been
// answered. If middle is not nil it is called then, while others go on: each worker
// until it is told no, or middle has come back. All answers are handed over when there are
// no more to come.
func (w *world) flood(count int, middle func()) <-chan map[string]answer {
	w.t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	answers := make(map[string]answer)
	var asked int
	var begun, over bool
	enough := make(chan struct{})
	// next is a request's number; negative: no more.
	next := func(told *answer) int {
		mu.Lock()
		defer mu.Unlock()
		if over || middle == nil && asked == count || begun && told != nil && !told.accepted {
			return -1
		}
		asked++
		return asked - 1
	}
	for range workers {
		all.Go(func() {
			var told *answer
			for i := next(told); i >= 0; i = next(told) {
				r := request(i)
				r.SessionId = fmt.Sprintf("%032x", 1+i)
				out, err := w.Nodes[0].Reserve(w.t.Context(), r)
				told = &answer{accepted: out.GetAccepted(), text: out.GetInfo().GetText()}
				if err != nil {
					told.text = err.Error()
					told.unknown = status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled
				}
				mu.Lock()
				answers[r.SessionId] = *told
				if len(answers) == count {
					begun = true
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	if middle != nil {
		middle()
	}
	mu.Lock()
	over = middle != nil
	mu.Unlock()
	done := make(chan map[string]answer, 1)
	go func() {
		all.Wait()
		done <- answers
	}()
	return done
}

// agree waits until every AS has the same sessions: those that the initiator was
// told are accepted, and none of those that it was told are not. It returns them.
func (w *world) agree(answers map[string]answer) (sids []string) {
	w.t.Helper()
	accepted, unknown := 0, 0
	for _, a := range answers {
		if a.accepted {
			accepted++
		} else if a.unknown {
			unknown++
		}
	}
	w.t.Logf("%d asked for, %d accepted, of %d nothing was heard", len(answers), accepted, unknown)
	if accepted == 0 {
		w.t.Fatal("none was accepted")
	}
	w.until("all to have what the initiator was told", func(ctx context.Context) error {
		sids = nil
		have := make(map[string]int)
		for _, n := range w.Nodes {
			st, err := n.Admin.State(ctx, stateOf(""))
			if err != nil {
				return err
			}
			for _, s := range st.Sessions {
				have[s.SessionId]++
			}
		}
		for sid, a := range answers {
			switch n := have[sid]; {
			case n != 0 && n != len(w.Nodes), n == 0 && a.accepted, n != 0 && !a.accepted && !a.unknown:
				return fmt.Errorf("%d networks have session %s; the initiator was told accepted %t, unknown %t (%s)", n, sid, a.accepted, a.unknown, a.text)
			case n != 0:
				sids = append(sids, sid)
			}
		}
		return nil
	})
	w.stand(len(sids))
	return sids
}
