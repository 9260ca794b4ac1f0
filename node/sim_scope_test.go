package node

import (
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// "should not travel down the entire path but only as far as the next QNE": a
// scoped reservation has the SLS between the two and the next domain's network up
// to its far border, and nothing beyond. RFC 5974 §5.1.1, §3.2.7
func TestSimScopedReservation(t *testing.T) {
	w := newSimWorld(t, 1)
	s := w.session()
	phb := qspec.PHB(46)
	q, err := qspec.NewInitiator(qspec.Ask{CIR: mbit(20), PHB: &phb})
	if err != nil {
		t.Fatal(err)
	}
	s.pending = "reserve"
	w.as[0].p.handle(qosnslp.Initiate{SID: s.sid, NSLPID: nslpID, QSPEC: q.Append(nil), Flags: nslpwire.Scoping,
		MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}})
	if r := w.answer(s); r.Kind != qosnslp.Reserved {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	check := func(legs int, rate uint64) {
		t.Helper()
		for i, a := range w.as[:2] {
			b := a.p.l.l.Bookings(sls.ID(s.sid))
			if _, committed, has := a.deviceHas(s.sid); len(b) != legs || has != rate || committed != (rate != 0) {
				w.fatalf("AS%d: %d bookings, its network %v with %d", w.as[i].cfg.AS, len(b), committed, has)
			}
		}
		if list := w.as[2].problems(nil); len(list) != 0 {
			w.fatalf("%s", joinLines(list))
		}
	}
	check(1, mbit(20))
	w.as[1].restart(time.Second, true)
	w.net.Run(20 * time.Minute)
	check(1, mbit(20))
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	check(0, 0)
	w.mustAgreeWithin(20 * time.Minute)
}
