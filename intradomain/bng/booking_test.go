package bng_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/interqos/interqos/intradomain"
	driver "github.com/interqos/interqos/intradomain/bng"
	"github.com/interqos/interqos/intradomain/controllertest"
)

// interdomain-qosm §2: a booking holds its share of the access in its intervals
// only, and its policer is at the gateway in these and at no other time, also when
// this side has restarted in the middle of one.
func TestBookingInAdvance(t *testing.T) {
	g := newGateway(t)
	var seconds atomic.Int64
	seconds.Store(1000)
	clock := driver.Options{Now: func() time.Time { return time.Unix(seconds.Load(), 0) }}
	d := g.driver(clock)
	r := request(1, 1, 30*mbit)
	r.Times = []intradomain.Interval{{From: time.Unix(2000, 0), Until: time.Unix(3000, 0)}, {From: time.Unix(4000, 0), Until: time.Unix(5000, 0)}}
	must(t, hold(t, d, r), commit(t, d, r))
	before := request(2, 1, 30*mbit)
	before.Times = []intradomain.Interval{{Until: time.Unix(2000, 0)}}
	must(t, hold(t, d, before)) // it ends when the other begins
	within := request(3, 1, 30*mbit)
	within.Times = []intradomain.Interval{{From: time.Unix(4500, 0), Until: time.Unix(6000, 0)}}
	if err := hold(t, d, within); err == nil {
		t.Error("the access was sold twice in 4500 to 5000")
	}
	at := func(d *driver.Driver, second int64, want bool) {
		t.Helper()
		seconds.Store(second)
		controllertest.List(t, d) // has the driver look at its clock
		eventually(t, "the policer follows the clock", func() bool {
			_, is := g.flows()[r.ID]
			return is == want
		})
	}
	at(d, 1999, false)
	at(d, 2000, true)
	at(d, 3000, false)
	at(d, 4000, true)
	must(t, d.Close())
	second := g.driver(clock)
	controllertest.List(t, second) // finds it in the gateway, which knows no times
	must(t, hold(t, second, r), commit(t, second, r))
	at(second, 4999, true)
	at(second, 5000, false)
}
