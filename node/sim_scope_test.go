package node

import (
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// confined wants a session to stand in the first two ASs, with so many bookings in
// each ledger, and nothing of it in the third.
func (w *simWorld) confined(s *simSession, legs int, rate uint64) {
	w.t.Helper()
	for i, a := range w.as[:2] {
		b := a.p.l.l.Bookings(sls.ID(s.sid))
		if _, committed, has := a.deviceHas(s.sid); len(b) != legs || has != rate || committed != (rate != 0) {
			w.fatalf("AS%d: %d bookings, its network %v with %d", w.as[i].cfg.AS, len(b), committed, has)
		}
	}
	if list := w.as[2].problems(nil); len(list) != 0 {
		w.fatalf("%s", joinLines(list))
	}
	if i, ok := w.as[2].p.q.nslp.Session(s.sid); ok {
		w.fatalf("AS65003 has %+v", i)
	}
}

// "should not travel down the entire path but only as far as the next QNE": a
// scoped reservation has the SLS between the two and the next domain's network up
// to its far border, and nothing beyond. RFC 5974 §5.1.1, §3.2.7
func TestSimScopedReservation(t *testing.T) {
	w := newSimWorld(t, 1)
	s := w.session()
	w.reserveWith(s, 20, nslpwire.Scoping)
	if r := w.answer(s); r.Kind != qosnslp.Reserved {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	check := func(legs int, rate uint64) { t.Helper(); w.confined(s, legs, rate) }
	check(1, mbit(20))
	w.as[1].restart(time.Second, true)
	w.net.Run(20 * time.Minute)
	check(1, mbit(20))
	w.modify(s, 25) // as far as ever
	check(1, mbit(25))
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	check(0, 0)
	w.mustAgreeWithin(20 * time.Minute)
}

// A scoped QUERY is answered by the next domain, with a record: "The QNE is the last one
// on the path ... the SCOPING flag is set". RFC 5974 §5.4.2
func TestSimScopedQuery(t *testing.T) {
	w := newSimWorld(t, 51)
	s := w.session()
	r, q, recs := w.queryWith(s, "tmod=200M/64k class=EF", nslpwire.Scoping)
	// The SLS to AS65003 has 40 Mbit/s; nobody has asked it.
	if r.Kind != qosnslp.Answered || q.Rate() <= mbit(40) || len(recs) != 2 || recs[0].AS != 65002 || recs[1].AS != 65001 {
		w.fatalf("%s %v, rate %d, records %+v", kindText(r.Kind), r.Info, q.Rate(), recs)
	}
	w.mustAgree()
}

// "a QNE is set by administrator assignment to work as a proxy QNE (P-QNE) for a certain
// region, e.g., for an administrative domain"; "The P-QNE is the QNR". AS65002 is one:
// what has the flag ends at its far border, what has not goes on. RFC 5974 §4.8
func TestSimProxy(t *testing.T) {
	// AS65001 is one for its neighbours; what it initiates goes on all the same.
	w := newSimWorld(t, 52, func(c *Config) { c.NSLP.Proxy = c.AS != 65003 })
	s := w.session()
	w.reserveWith(s, 20, nslpwire.Proxy)
	if r := w.answer(s); r.Kind != qosnslp.Reserved {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.confined(s, 1, mbit(20))
	w.as[1].restart(time.Second, true)
	w.as[0].restart(time.Second, true)
	w.net.Run(20 * time.Minute)
	w.confined(s, 1, mbit(20))
	w.reserveWith(s, 45, nslpwire.Proxy) // more than AS65003 would have
	if r := w.answer(s); r.Kind != qosnslp.Reserved {
		w.fatalf("the change: %s %v", kindText(r.Kind), r.Info)
	}
	w.confined(s, 1, mbit(45))

	r, q, recs := w.queryWith(w.session(), "tmod=5M/64k class=EF", nslpwire.Proxy)
	if r.Kind != qosnslp.Answered || q.Rate() != mbit(5) || len(recs) != 2 || recs[0].AS != 65002 {
		w.fatalf("%s %v, rate %d, records %+v", kindText(r.Kind), r.Info, q.Rate(), recs)
	}
	whole := w.session()
	w.mustReserve(whole, mbit(10))
	if i, ok := w.as[2].p.q.nslp.Session(whole.sid); !ok || i.State != "installed" {
		w.fatalf("without the flag AS65003 has %v %+v", ok, i)
	}
	w.release(whole)
	w.answer(whole)
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.confined(s, 0, 0)
	w.mustAgreeWithin(20 * time.Minute)
}

// "The receiver-oriented reservation for outgoing flows works the same way as in Figure
// 8, except that the P-QNE is the QNI." RFC 5974 §4.8
func TestSimProxyInvited(t *testing.T) {
	w := newSimWorld(t, 53, func(c *Config) { c.NSLP.Proxy = c.AS == 65002 })
	s := w.session()
	q, err := qspec.ParseText("initiator type=0 proc=1/0 desired{tmod=20M/64k class=EF}")
	if err != nil {
		t.Fatal(err)
	}
	w.as[0].p.handle(qosnslp.Invite{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil), Flags: nslpwire.Proxy})
	if !w.net.WaitFor(time.Minute, func() bool { return len(s.results) > 0 }) || s.results[0].Kind != qosnslp.Answered {
		w.fatalf("results %+v", s.results)
	}
	w.net.Run(20 * time.Minute)
	w.confined(s, 1, mbit(20))
	i, ok := w.as[1].p.q.nslp.Session(s.sid)
	if d, has := w.as[1].p.q.domain.Session(s.sid); !ok || !i.Initiator || i.Flags&nslpwire.Proxy == 0 || !has || !d.Egress.IsValid() || d.NextIngress.IsValid() {
		w.fatalf("AS65002 has %v %+v, %v %+v", ok, i, has, d)
	}
	w.as[1].p.handle(qosnslp.Terminate{SID: s.sid})
	w.net.Run(time.Minute)
	w.confined(s, 0, 0)
	w.mustAgreeWithin(20 * time.Minute)
}

// On a path without a P-QNE, what has the flag ends where the flow does: "This QNE is the
// last one on the path". RFC 5974 §5.3.2
func TestSimProxyNowhere(t *testing.T) {
	w := newSimWorld(t, 54)
	s := w.session()
	w.reserveWith(s, 20, nslpwire.Proxy)
	if r := w.answer(s); r.Kind != qosnslp.Reserved || s.rate != mbit(20) {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.net.Run(20 * time.Minute)
	w.mustAgree()
	if i, ok := w.as[2].p.q.nslp.Session(s.sid); !ok || i.Flags&nslpwire.Proxy == 0 {
		w.fatalf("AS65003 has %v %+v, want the flag in all messages of the session", ok, i)
	}
}

// reserveWith reserves, in Mbit/s, with generic flags.
func (w *simWorld) reserveWith(s *simSession, rate uint64, flags uint16) {
	w.t.Helper()
	phb := qspec.PHB(46)
	q, err := qspec.NewInitiator(qspec.Ask{CIR: mbit(rate), PHB: &phb})
	if err != nil {
		w.fatalf("QSPEC: %v", err)
	}
	s.pending, s.asked = "reserve", mbit(rate)
	w.as[0].p.handle(qosnslp.Initiate{SID: s.sid, NSLPID: nslpID, QSPEC: q.Append(nil), Flags: flags, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}})
}

// modify changes the rate, in Mbit/s, of a reservation of AS65001, as Node.Modify does.
func (w *simWorld) modify(s *simSession, rate uint64) {
	w.t.Helper()
	ev, ok := w.as[0].p.q.standing(s.sid)
	if !ok {
		w.fatalf("%s does not stand", short(s.sid))
	}
	q, err := modifiedQSPEC(ev.QSPEC, &api.ModifyRequest{Rate: rate * 1_000_000})
	if err != nil {
		w.fatalf("%v", err)
	}
	ev.QSPEC = q.Append(nil)
	s.pending, s.asked = "reserve", mbit(rate)
	w.as[0].p.handle(ev)
	if r := w.answer(s); r.Kind != qosnslp.Reserved || s.rate != mbit(rate) {
		w.fatalf("%s %v, rate %d", kindText(r.Kind), r.Info, s.rate)
	}
}
