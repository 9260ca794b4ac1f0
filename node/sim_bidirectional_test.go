package node

import (
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// RFC 5974 §4.4: "Binding two sender-initiated reservations together"; "Both directions
// of the flows are bound by inserting the BOUND-SESSION-ID object at the QNI and QNR".
// When one of them is over, so is the other.
func TestSimBidirectional(t *testing.T) {
	w := newSimWorld(t, 41)
	// The SLSs of the way back: the same ones between the other parties.
	for i, a := range w.as {
		for _, s := range w.as[i].slss {
			back := s
			back.ID += "-back"
			back.Customer, back.Provider = s.Provider, s.Customer
			back.Egress, back.Ingress = s.Ingress, s.Egress
			back.Destinations, back.Sources = nil, nil
			if _, err := a.p.l.l.Put(a.now(), back, "test"); err != nil {
				t.Fatal(err)
			}
		}
	}
	there, back := w.session(), w.session()
	q, err := qspec.ParseText("tmod=10M/64k class=EF")
	if err != nil {
		t.Fatal(err)
	}
	initiate := func(a *simAS, s, other *simSession) {
		a.p.handle(qosnslp.Initiate{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil),
			Bound: []nslpwire.BoundSession{{Code: nslpwire.BindBidirectional, SID: other.sid}}})
	}
	back.flow.Source, back.flow.Destination = there.flow.Destination, there.flow.Source
	initiate(w.as[0], there, back)
	initiate(w.as[2], back, there)
	has := func(s *simSession, want int) bool {
		n := 0
		for _, a := range w.as {
			if i, ok := a.p.q.nslp.Session(s.sid); ok && i.State == "installed" {
				n++
			}
		}
		return n == want
	}
	if !w.net.WaitFor(time.Minute, func() bool { return has(there, 3) && has(back, 3) }) {
		w.fatalf("the two directions do not stand")
	}
	w.net.Run(10 * time.Minute)
	if !has(there, 3) || !has(back, 3) {
		w.fatalf("they do not stay")
	}
	w.modify(there, 5) // and is bound as before
	w.as[2].p.handle(qosnslp.Terminate{SID: back.sid})
	if !w.net.WaitFor(time.Minute, func() bool { return has(there, 0) && has(back, 0) }) {
		w.fatalf("the way there outlives the way back")
	}
	w.net.Run(time.Minute)
	for _, a := range w.as {
		if n := a.p.q.domain.Len(); n != 0 {
			w.fatalf("AS%d: %d reservations are left", a.cfg.AS, n)
		}
	}
}
