package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// reserveText is reserve with an Initiator QSPEC written as text.
func (w *simWorld) reserveText(s *simSession, text string) {
	q, err := qspec.ParseText(text)
	if err != nil {
		w.fatalf("QSPEC: %v", err)
	}
	s.pending, s.asked = "reserve", q.Rate()
	w.logf("application: reserve %s %s", short(s.sid), text)
	w.as[0].p.handle(qosnslp.Initiate{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
}

func (w *simWorld) mustReserveText(s *simSession, text string) {
	w.t.Helper()
	w.reserveText(s, text)
	if r := w.answer(s); r.Kind != qosnslp.Reserved {
		w.fatalf("%s: %s %v, want Reserved", short(s.sid), kindText(r.Kind), r.Info)
	}
}

// interdomain-qosm §5: "Capacity is a calendar, not a number: a booking for tomorrow
// and a flow running now meet only where they overlap", in every domain; and §6:
// bookings "end by themselves at the last interval's end".
func TestSimBookings(t *testing.T) {
	w := newSimWorld(t, 21)
	hour := func(n int) int64 { return simStart.Add(time.Duration(n) * time.Hour).Unix() }
	booking := func(rate uint64, from, until int) string {
		return fmt.Sprintf("tmod=%dM/64k class=EF time=%d..%d", rate, hour(from), hour(until))
	}
	first, second, third := w.session(), w.session(), w.session()
	w.mustReserveText(first, booking(30, 1, 2))
	w.mustReserveText(second, booking(30, 2, 3)) // the SLS to AS65003 sells 40 Mbit/s
	w.reserveText(third, booking(30, 1, 3))
	if r := w.answer(third); r.Kind != qosnslp.Rejected {
		w.fatalf("sold twice: %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
	// A restart knows the times still.
	w.as[1].restart(5*time.Second, true)
	w.net.Run(20 * time.Minute)
	w.mustAgree()
	w.reserveText(third, booking(30, 1, 3))
	if r := w.answer(third); r.Kind != qosnslp.Rejected {
		w.fatalf("sold twice after a restart: %s %v", kindText(r.Kind), r.Info)
	}
	ended := func(s *simSession, at int) {
		t.Helper()
		w.net.Run(time.Unix(hour(at), 0).Sub(w.net.Now()) - time.Minute)
		if !s.reserved {
			w.fatalf("%s ended before its time", short(s.sid))
		}
		w.net.Run(2 * time.Minute)
		if s.reserved {
			w.fatalf("%s stands after its time", short(s.sid))
		}
		// A TEAR that meets one from the other side may leave routing state: GIST
		// lets it go when its validity is over.
		w.mustAgreeWithin(15 * time.Minute)
	}
	ended(first, 2)
	w.mustReserveText(third, fmt.Sprintf("tmod=10M/64k class=EF time=%d..%d when=mon,tue/14:00Z/1h", hour(0), hour(48)))
	ended(second, 3)
	ended(third, 27) // the last occurrence is Tuesday's
}

// interdomain-qosm §2: kind 0, from the request on.
func TestSimBookingFromTheRequestOn(t *testing.T) {
	w := newSimWorld(t, 22)
	s := w.session()
	w.mustReserveText(s, "tmod=30M/64k class=EF when=in/10m/1h")
	now := w.session()
	w.reserveText(now, "tmod=30M/64k class=EF")
	if r := w.answer(now); r.Kind != qosnslp.Rejected {
		w.fatalf("an open-ended one was sold what is booked in ten minutes: %s %v", kindText(r.Kind), r.Info)
	}
	w.mustReserveText(now, "tmod=30M/64k class=EF when=in/1s/5m")
	w.net.Run(8 * time.Minute)
	if now.reserved || !s.reserved {
		w.fatalf("after eight minutes: %v and %v, want the first gone", now.reserved, s.reserved)
	}
	w.mustAgree()
	w.net.Run(70 * time.Minute)
	if s.reserved {
		w.fatalf("it stands after its time")
	}
	w.mustAgree()
}

// interdomain-qosm §6: "Bookings are soft state too: first period 30 s, then up to 1 h".
// A domain that has lost its upstream for good still lets go of one.
func TestSimBookingsAreRefreshedLessOften(t *testing.T) {
	w := newSimWorld(t, 23)
	s := w.session()
	sent := w.record()
	w.mustReserveText(s, "tmod=10M/64k class=EF when=in/48h/1h")
	refreshes := func() (n int) {
		return w.count(*sent, 0, 1, func(x simSent) bool {
			return x.sid == s.sid && x.msg.Type == nslpwire.Reserve && x.msg.QSPEC == nil && !x.msg.Tears()
		})
	}
	w.net.Run(10 * time.Hour)
	first := refreshes()
	if first < 10 || first > 30 {
		w.fatalf("%d refreshes in ten hours, want between 10 and 30", first)
	}
	w.mustAgree()
	// A restart begins again with short periods, and tells so.
	w.as[1].restart(5*time.Second, true)
	w.net.Run(10 * time.Hour)
	if !s.reserved {
		w.fatalf("lost after a restart")
	}
	w.mustAgree()
	w.as[0].crash(false)
	w.net.Run(6 * time.Hour) // 5.25 periods of at most an hour
	for _, a := range w.as[1:] {
		if _, ok := a.p.q.domain.Session(s.sid); ok {
			w.fatalf("AS%d has it still", a.cfg.AS)
		}
	}
}
