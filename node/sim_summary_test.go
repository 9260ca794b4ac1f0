package node

import (
	"testing"
	"time"
)

// "The SII-Handle identifies a peer and should be the same for all sessions
// whose downstream peer is the same" (RFC 5974 §3.2.6): with GIST beneath, under
// signatures, and over a restart in the middle, the sessions between two domains
// are refreshed by lists, and nobody finds fault with them.
func TestSimSummaryRefresh(t *testing.T) {
	w := newSimWorld(t, 6)
	var all []*simSession
	for range 8 {
		s := w.session()
		w.mustReserve(s, mbit(2))
		all = append(all, s)
	}
	check := func(when string) {
		w.net.Run(30 * time.Minute)
		w.mustAgree()
		for i, a := range w.as {
			st := a.p.q.nslp.Stats()
			if st.Installed != len(all) || st.ListErrors != 0 {
				w.fatalf("%s: AS%d has %d sessions, %d errors in lists", when, a.cfg.AS, st.Installed, st.ListErrors)
			}
			if i < len(w.as)-1 && (st.SummaryRefreshes < 20 || st.RefreshesSent > 3*st.SummaryRefreshes) {
				w.fatalf("%s: AS%d sent %d refreshes, %d with a list", when, a.cfg.AS, st.RefreshesSent, st.SummaryRefreshes)
			}
		}
	}
	check("at first")
	w.as[1].restart(5*time.Second, false)
	check("after a restart")
	// So long that GIST gives up: what only stood in lists must get its routing
	// state back, too.
	w.as[1].restart(3*time.Minute, false)
	w.net.Run(20 * time.Minute)
	w.mustAgree()
	w.wantRouting(len(all))
	for _, s := range all {
		w.release(s)
	}
	w.net.Run(10 * time.Minute)
	w.mustAgree()
}

// wantRouting wants each AS to have routing state for so many sessions towards
// each of its neighbours.
func (w *simWorld) wantRouting(sessions int) {
	w.t.Helper()
	for _, a := range w.as {
		if n := a.p.q.gist.Stats().RoutingStates; n != sessions*a.legs() {
			w.fatalf("AS%d has %d routing states, want %d", a.cfg.AS, n, sessions*a.legs())
		}
	}
}
