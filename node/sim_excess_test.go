package node

import (
	"testing"
	"time"

	"github.com/interqos/interqos/intradomain"
)

// RFC 5975 §5.2.11: "The Excess Treatment Parameter is set by the QNI", and
// every domain's network gets it, also from a node that comes back.
func TestSimExcessTreatmentReachesEveryNetwork(t *testing.T) {
	w := newSimWorld(t, 11)
	s := w.session() // asks for drop
	w.mustReserve(s, mbit(20))
	want := intradomain.QoS{Class: 46, DSCP: 46, Excess: intradomain.Excess{Treatment: intradomain.ExcessDrop}}
	check := func() {
		t.Helper()
		for _, a := range w.as {
			a.device.real.List(func(list []intradomain.Held, err error) {
				if err != nil || len(list) != 1 {
					w.fatalf("AS%d: %v, %v", a.cfg.AS, list, err)
				}
				got := list[0].Request.QoS
				if got.Class != want.Class || got.DSCP != want.DSCP || got.Excess != want.Excess {
					w.fatalf("AS%d: its network has %+v, want %+v", a.cfg.AS, got, want)
				}
			})
		}
	}
	check()
	w.as[1].device.real.Release(intradomain.ID(s.sid), func(error) {}) // it has lost everything
	w.as[1].restart(time.Second, true)
	w.net.Run(time.Minute)
	w.mustAgree()
	check()
}
