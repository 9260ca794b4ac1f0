package node

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// The tests of this file are the rules of interdomain-qosm §6, one each.

// sent is one QoS-NSLP message that went over the wire.
type simSent struct {
	from, to netip.Addr
	sid      wire.SID
	msg      *nslpwire.Message
	rate     uint64 // of its QSPEC
	at       time.Time
}

// record keeps every QoS-NSLP message from now on.
func (w *simWorld) record() *[]simSent {
	all := new([]simSent)
	w.onMessage = func(from, to netip.Addr, sid wire.SID, msg *nslpwire.Message) {
		s := simSent{from: from, to: to, sid: sid, msg: msg, at: w.net.Now()}
		if q, err := qspec.Parse(msg.QSPEC); err == nil {
			s.rate = q.Rate()
		}
		*all = append(*all, s)
	}
	return all
}

// between counts the messages from one AS to another that match.
func (w *simWorld) count(all []simSent, from, to int, match func(simSent) bool) (n int) {
	for _, s := range all {
		if s.from == w.as[from].cfg.GIST.Address && s.to == w.as[to].cfg.GIST.Address && match(s) {
			n++
		}
	}
	return n
}

func isTear(s simSent) bool { return s.msg.Tears() }

func isFullReserve(s simSent) bool {
	return s.msg.Type == nslpwire.Reserve && !s.msg.Tears() && s.msg.QSPEC != nil
}

// fill books rate in an AS's network, as other users of it would.
func (a *simAS) fill(rate uint64) {
	r := intradomain.Request{ID: intradomain.ID{0: 0xff}, Flow: simFlow, QoS: intradomain.QoS{Class: 46, CIR: rate, PIR: rate}}
	for _, e := range a.cfg.Edges {
		switch {
		case len(a.cfg.Edges) == 1 && a.cfg.AS == 65001:
			r.Egress = e.External
		case e.Neighbor.AS < a.cfg.AS:
			r.Ingress = e.External
		default:
			r.Egress = e.External
		}
	}
	a.device.real.Hold(r, func(err error) {
		if err != nil {
			a.w.fatalf("AS%d: %v", a.cfg.AS, err)
		}
	})
	a.device.real.Commit(r.ID, 0, 0, func(error) {})
}

func (a *simAS) unfill() { a.device.real.Release(intradomain.ID{0: 0xff}, func(error) {}) }

// "A hold lasts 60 s, in memory". interdomain-qosm §6
func TestSimHoldLasts60s(t *testing.T) {
	w := newSimWorld(t, 1)
	w.as[2].device.delay = func() time.Duration { return time.Hour } // never answers
	s := w.session()
	w.reserve(s, mbit(20), 0)
	w.net.Run(100 * time.Millisecond)
	w.as[0].crash(true) // nobody gives up for us
	held := func() (ledger int, device bool) {
		device, _, _ = w.as[1].deviceHas(s.sid)
		return w.as[1].p.l.l.Stats().Held, device
	}
	w.net.Run(59 * time.Second)
	if n, device := held(); n != 1 || !device {
		w.fatalf("after 59 s AS65002 holds %d, its network %v", n, device)
	}
	w.net.Run(2 * time.Second)
	if n, device := held(); n != 0 || device || w.as[1].p.q.domain.Len() != 0 || w.as[2].p.l.l.Stats().Held != 0 {
		w.fatalf("after 61 s AS65002 holds %d, its network %v, %d sessions; AS65003 holds %d", n, device, w.as[1].p.q.domain.Len(), w.as[2].p.l.l.Stats().Held)
	}
	// Also where the driver answers after all.
	w.as[2].device.delay = nil
	w.net.Run(2 * time.Hour)
	for _, a := range w.as[1:] {
		if list := a.problems(nil); len(list) > 0 {
			w.fatalf("%s", joinLines(list))
		}
	}
}

// "After a restart holds are gone: a success RESPONSE for which there is no hold
// … is turned into release at the driver, TEAR downstream, error upstream."
// interdomain-qosm §6
func TestSimResponseWithoutHold(t *testing.T) {
	w := newSimWorld(t, 2)
	sent := w.record()
	w.as[2].disk.delay = func() time.Duration { return time.Second }
	s := w.session()
	w.reserve(s, mbit(20), 0)
	w.net.Run(500 * time.Millisecond) // AS65003 is writing
	p := w.as[1].p
	p.q.domain = interdomain.New(interdomain.Config{AS: 65002, Borders: borders(w.as[1].cfg), Routes: w.as[1].routes})
	p.l.Release(sls.ID(s.sid))
	r := w.answer(s)
	if r.Kind != qosnslp.Rejected || !r.Info.IsError() {
		w.fatalf("told %s %v, want an error", kindText(r.Kind), r.Info)
	}
	w.net.Run(2 * time.Second)
	if n := w.count(*sent, 1, 2, isTear); n != 1 {
		w.fatalf("%d TEARs downstream, want 1", n)
	}
	w.mustAgree() // nothing anywhere, in the driver neither
}

// "After a restart holds are gone": whatever an AS was doing when it crashed,
// everybody agrees in the end. interdomain-qosm §6
func TestSimRestartWhileReserving(t *testing.T) {
	for i := range 3 {
		for at := 1 * time.Millisecond; at < 30*time.Millisecond; at += time.Millisecond {
			w := newSimWorld(t, uint64(at))
			for _, a := range w.as {
				a.disk.delay = func() time.Duration { return 3 * time.Millisecond }
				a.device.delay = a.disk.delay
			}
			w.net.Run(time.Second)
			s := w.session()
			w.reserve(s, mbit(20), 0)
			w.net.Run(at)
			w.as[i].restart(500*time.Millisecond, true)
			w.net.Run(10 * time.Minute)
			if s.unsure {
				if d, ok := w.as[0].p.q.domain.Session(s.sid); ok {
					s.reserved, s.rate = true, d.Rate
				}
			}
			w.mustAgree()
			if i > 0 && !s.reserved {
				r := s.results[len(s.results)-1]
				if r.Kind != qosnslp.Rejected && r.Kind != qosnslp.TimedOut && r.Kind != qosnslp.Terminated {
					w.fatalf("AS%d restarted after %v: told %s %v", w.as[i].cfg.AS, at, kindText(r.Kind), r.Info)
				}
			}
		}
	}
}

// "A committed reservation not refreshed for its lifetime is released, with TEAR
// downstream." interdomain-qosm §6
func TestSimNotRefreshed(t *testing.T) {
	w := newSimWorld(t, 3)
	s := w.session()
	w.mustReserve(s, mbit(20))
	want := w.wanted()
	sent := w.record()
	w.as[0].crash(true)
	last := w.net.Now()
	w.net.Run(150 * time.Second) // the lifetime is 157.5 s from the last refresh
	for _, a := range w.as[1:] {
		if list := a.problems(want); len(list) > 0 {
			w.fatalf("released too early:\n%s", joinLines(list))
		}
	}
	w.net.Run(10 * time.Second)
	for _, a := range w.as[1:] {
		if list := a.problems(nil); len(list) > 0 {
			w.fatalf("%v after the last refresh:\n%s", w.net.Now().Sub(last), joinLines(list))
		}
	}
	if n := w.count(*sent, 1, 2, isTear); n != 1 {
		w.fatalf("%d TEARs downstream, want 1", n)
	}
}

// "Refused: class 6, never 4/0x07 …, and every hop that was sent RSN n+1 gets a
// full RESERVE n+2 with the old QSPEC." interdomain-qosm §6
func TestSimRefusedModification(t *testing.T) {
	w := newSimWorld(t, 4)
	s := w.session()
	w.mustReserve(s, mbit(10))
	w.as[2].fill(mbit(970))
	sent := w.record()
	w.reserve(s, mbit(35), 0)
	r := w.answer(s)
	if r.Kind != qosnslp.Rejected || r.Info.Class != nslpwire.ClassQoSModelError || r.Info.Code != interdomain.CodeIntraDomain {
		w.fatalf("told %s %v, want Rejected 6/67", kindText(r.Kind), r.Info)
	}
	if q, err := qspec.Parse(r.QSPEC); err != nil || q.Largest() != mbit(30) {
		w.fatalf("largest %d (%v), want %d: what is its own counts as free", q.Largest(), err, mbit(30))
	}
	w.net.Run(time.Second)
	for i := range 2 {
		var rates []uint64
		for _, m := range *sent {
			if m.from == w.as[i].cfg.GIST.Address && isFullReserve(m) {
				rates = append(rates, m.rate)
			}
		}
		if fmt.Sprint(rates) != fmt.Sprint([]uint64{mbit(35), mbit(10)}) {
			w.fatalf("AS%d sent full RESERVEs with %v", w.as[i].cfg.AS, rates)
		}
	}
	w.as[2].unfill()
	w.mustAgree() // the old amount, everywhere
	w.net.Run(10 * time.Minute)
	w.mustAgree()
}

// "A raise holds the difference; the old amount stays until the commit."
// interdomain-qosm §6
func TestSimRaiseHoldsTheDifference(t *testing.T) {
	w := newSimWorld(t, 5)
	s := w.session()
	w.mustReserve(s, mbit(30))
	w.as[2].device.delay = func() time.Duration { return time.Second }
	w.reserve(s, mbit(40), 0) // all that the SLS has
	w.net.Run(500 * time.Millisecond)
	for _, a := range w.as[1:] {
		u, err := a.p.l.l.Usage("as65002-as65003", 46, a.now())
		if err != nil || u.Committed != mbit(30) || u.Held != mbit(10) {
			w.fatalf("AS%d: %+v (%v), want %d committed and %d held", a.cfg.AS, u, err, mbit(30), mbit(10))
		}
	}
	if _, committed, _ := w.as[1].deviceHas(s.sid); !committed {
		w.fatalf("AS65002's network gave up the old amount before the commit")
	}
	if r := w.answer(s); r.Kind != qosnslp.Reserved || s.rate != mbit(40) {
		w.fatalf("told %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
}

// "A repeated (RSN, RII) is forwarded again, or answered from state."
// interdomain-qosm §6
func TestSimRepeatedReserve(t *testing.T) {
	w := newSimWorld(t, 6)
	sent := w.record()
	w.as[2].device.delay = func() time.Duration { return 3 * time.Second }
	s := w.session()
	w.reserve(s, mbit(20), 0)
	w.net.Run(2500 * time.Millisecond) // one retransmission, while there is no answer
	if n := w.count(*sent, 1, 2, isFullReserve); n != 2 {
		w.fatalf("AS65002 forwarded %d times, want 2", n)
	}
	if w.answer(s); !s.reserved {
		w.fatalf("not reserved")
	}
	w.as[2].device.delay = nil
	// The same again with the answer lost: from state.
	before := w.as[1].p.q.nslp.Stats().Repeated
	lost := false
	repeat := w.session()
	keep := w.onMessage
	w.onMessage = func(from, to netip.Addr, sid wire.SID, msg *nslpwire.Message) {
		keep(from, to, sid, msg)
		if msg.Type == nslpwire.Response && to == w.as[0].cfg.GIST.Address && !lost {
			lost = true
			// What is on its way is lost, and what would replace it too.
			w.net.After(0, func() {
				for _, id := range sortedConns(w.as[1].p.conns) {
					if c := w.as[1].p.conns[id]; c.Remote.Addr() == to {
						c.Break(simnet.ErrReset)
					}
				}
			})
		}
	}
	*sent = nil
	w.reserve(repeat, mbit(10), 0)
	if r := w.answer(repeat); r.Kind != qosnslp.Reserved || !lost {
		w.fatalf("told %s %v", kindText(r.Kind), r.Info)
	}
	if n := w.count(*sent, 1, 2, isFullReserve); n != 1 {
		w.fatalf("AS65002 forwarded %d times, want 1", n)
	}
	if w.count(*sent, 0, 1, isFullReserve) > 1 && w.as[1].p.q.nslp.Stats().Repeated == before {
		w.fatalf("the repeat was not answered from state")
	}
	w.mustAgree()
}

// "A domain that has less lowers QoS Available and goes on; only below Minimum
// QoS does it refuse." interdomain-qosm §2
func TestSimDriverOffer(t *testing.T) {
	w := newSimWorld(t, 7)
	w.as[1].fill(mbit(480)) // of 500 on the way
	s := w.session()
	w.reserve(s, mbit(30), mbit(10))
	if r := w.answer(s); r.Kind != qosnslp.Reserved || s.rate != mbit(20) {
		w.fatalf("told %s %v, rate %d", kindText(r.Kind), r.Info, s.rate)
	}
	w.release(s)
	w.answer(s)
	all := w.session()
	w.reserve(all, mbit(30), 0)
	r := w.answer(all)
	if r.Kind != qosnslp.Rejected || r.Info.Code != interdomain.CodeIntraDomain {
		w.fatalf("told %s %v, want Rejected 6/67", kindText(r.Kind), r.Info)
	}
	if q, err := qspec.Parse(r.QSPEC); err != nil || q.Largest() != mbit(20) {
		w.fatalf("largest %d (%v), want %d", q.Largest(), err, mbit(20))
	}
	w.as[1].unfill()
	w.mustAgree()
}

// "A success RESPONSE … whose commit fails, is turned into release at the
// driver, TEAR downstream, error upstream": in any of the ASs, at the store or
// at the driver, whether or not it was done all the same. interdomain-qosm §6
func TestSimCommitFails(t *testing.T) {
	for i := range 3 {
		for _, f := range []fault{notDone, unknownDone} {
			for _, atDriver := range []bool{false, true} {
				for _, change := range []bool{false, true} {
					w := newSimWorld(t, 8)
					s := w.session()
					if change {
						w.mustReserve(s, mbit(10))
					}
					a, done := w.as[i], false
					once := func(match bool) fault {
						if done || !match {
							return noFault
						}
						done = true
						return f
					}
					if atDriver {
						a.device.fault = func(verb string, _ intradomain.ID) fault { return once(verb == "commit") }
					} else {
						a.disk.fault = func(deletes bool, _ sls.ID) fault { return once(!deletes) }
					}
					w.reserve(s, mbit(20), 0)
					r := w.answer(s)
					if want := map[bool]qosnslp.ResultKind{false: qosnslp.Rejected, true: qosnslp.Terminated}[change]; r.Kind != want || !done {
						w.fatalf("AS%d, driver %v, change %v: told %s %v", a.cfg.AS, atDriver, change, kindText(r.Kind), r.Info)
					}
					w.net.Run(time.Second)
					w.mustAgree() // nothing anywhere
				}
			}
		}
	}
}

// A commit that failed is answered when the store has forgotten it: until then a
// crash would bring back what was refused.
func TestSimFailedCommitIsGoneWhenTold(t *testing.T) {
	for i := range 3 {
		w := newSimWorld(t, 17)
		tries := 0
		w.as[i].disk.fault = func(deletes bool, _ sls.ID) fault {
			if !deletes {
				return unknownDone
			}
			if tries++; tries < 3 {
				return notDone
			}
			return noFault
		}
		s := w.session()
		w.reserve(s, mbit(20), 0)
		w.net.Run(time.Second)
		if len(s.results) > 0 {
			w.fatalf("AS%d still has it stored; told %s", w.as[i].cfg.AS, kindText(s.results[0].Kind))
		}
		if r := w.answer(s); r.Kind != qosnslp.Rejected || tries != 3 {
			w.fatalf("told %s %v after %d tries", kindText(r.Kind), r.Info, tries)
		}
		w.net.Run(time.Second) // the TEAR downstream
		w.mustAgree()
	}
}

// A driver that fails on Hold may have done it all the same: it is told to drop
// it until it says so. interdomain-qosm §6: "nothing stays behind"
func TestSimHoldFails(t *testing.T) {
	for i := range 3 {
		w := newSimWorld(t, 9)
		drops := 0
		w.as[i].device.fault = func(verb string, _ intradomain.ID) fault {
			switch {
			case verb == "hold":
				return unknownDone
			case verb == "drop" && drops < 3:
				drops++
				return notDone
			}
			return noFault
		}
		s := w.session()
		w.reserve(s, mbit(20), 0)
		if r := w.answer(s); r.Kind != qosnslp.Rejected || r.Info.Code != interdomain.CodeIntraDomain {
			w.fatalf("told %s %v", kindText(r.Kind), r.Info)
		}
		w.net.Run(time.Minute)
		if drops != 3 {
			w.fatalf("AS%d: dropped %d times in vain, want 3", w.as[i].cfg.AS, drops)
		}
		w.mustAgree()
	}
}

// "Driver holds that no stored reservation names are released at start-up."
// interdomain-qosm §6
func TestSimStartReleasesOrphans(t *testing.T) {
	w := newSimWorld(t, 10)
	s := w.session()
	w.mustReserve(s, mbit(10))
	a := w.as[1]
	a.fill(mbit(100)) // somebody's of a former life
	w.as[2].device.delay = func() time.Duration { return time.Hour }
	w.reserve(s, mbit(20), 0) // a change: held when it crashes
	other := w.session()
	w.reserve(other, mbit(5), 0)
	w.net.Run(100 * time.Millisecond)
	if n := len(a.device.have()); n != 4 {
		w.fatalf("AS65002's network has %d entries, want 4", n)
	}
	w.net.Partition(w.as[0].cfg.GIST.Address, a.cfg.GIST.Address)
	a.restart(100*time.Millisecond, true)
	w.net.Run(2 * time.Second)
	have := a.device.have()
	if len(have) != 1 || !have[0].Committed || have[0].ID != intradomain.ID(s.sid) || have[0].Request.QoS.CIR != mbit(10) {
		w.fatalf("AS65002's network has %+v, want the one committed reservation", have)
	}
}

// "Restarting qned loses no committed reservation, admits nothing twice and
// leaves no orphan": each AS in turn, and its network's controller as well.
// interdomain-qosm §6
func TestSimRestartKeepsWhatIsCommitted(t *testing.T) {
	for i := range 3 {
		for _, surviving := range []bool{true, false} {
			for _, reset := range []bool{true, false} {
				w := newSimWorld(t, 11)
				w.as[i].surviving = surviving
				s := w.session()
				w.mustReserve(s, mbit(30))
				w.as[i].restart(5*time.Second, reset)
				w.net.Run(20 * time.Second)
				if !w.as[i].p.ready {
					w.fatalf("AS%d is not ready again", w.as[i].cfg.AS)
				}
				more := w.session()
				w.reserve(more, mbit(20), 0) // 10 are left
				if r := w.answer(more); r.Kind == qosnslp.Reserved {
					w.fatalf("AS%d sold the same capacity twice", w.as[i].cfg.AS)
				}
				w.net.Run(10 * time.Minute)
				if n := len(s.results); n != 1 {
					w.fatalf("AS%d restarted: the application was told %d times", w.as[i].cfg.AS, n)
				}
				w.mustAgree()
			}
		}
	}
}

// A release just after a restart reaches everybody at once, though to the
// others' GIST the AS is a new peer, whose TEAR does not count.
func TestSimReleaseAfterRestart(t *testing.T) {
	for i := range 2 {
		w := newSimWorld(t, 15)
		s := w.session()
		w.mustReserve(s, mbit(10))
		w.as[i].restart(time.Second, true)
		w.net.Run(1500 * time.Millisecond)
		w.release(s)
		if r := w.answer(s); r.Kind != qosnslp.Released {
			w.fatalf("told %s %v", kindText(r.Kind), r.Info)
		}
		w.mustAgreeWithin(3 * time.Second)
	}
}

// A flow that starts and ends in one AS concerns no SLS: its network alone
// decides, and it is kept like any other.
func TestSimWithinOneDomain(t *testing.T) {
	w := newSimWorld(t, 16)
	s := w.session()
	s.flow.Destination = netip.MustParsePrefix("10.1.0.20/32")
	w.mustReserve(s, mbit(50))
	w.as[0].restart(time.Second, true)
	w.net.Run(10 * time.Minute)
	if _, committed, rate := w.as[0].deviceHas(s.sid); !committed || rate != mbit(50) || len(w.as[0].disk.records) != 1 {
		w.fatalf("after the restart: in the network %v with %d, %d records", committed, rate, len(w.as[0].disk.records))
	}
	w.as[1].noTrace()
	w.release(s)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("told %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
}

// "Once TEAR is queued that SID is never listed or re-reserved".
// interdomain-qosm §6
func TestSimTornSIDIsNotReserved(t *testing.T) {
	w := newSimWorld(t, 12)
	s := w.session()
	w.mustReserve(s, mbit(10))
	w.release(s)
	w.answer(s)
	sent := w.record()
	w.reserve(s, mbit(10), 0)
	if r := w.answer(s); r.Kind != qosnslp.Rejected || len(*sent) != 0 {
		w.fatalf("told %s %v after %d messages", kindText(r.Kind), r.Info, len(*sent))
	}
	w.mustAgree()
}

// "What is committed is in the store before the answer leaves": as long as the
// store does not say that it has it, nobody upstream is told.
func TestSimStoreBeforeAnswer(t *testing.T) {
	for i := range 3 {
		w := newSimWorld(t, 13)
		w.as[i].disk.hang = true
		s := w.session()
		w.reserve(s, mbit(10), 0)
		w.net.Run(time.Second)
		if len(s.results) > 0 {
			w.fatalf("AS%d has stored nothing; told %s", w.as[i].cfg.AS, kindText(s.results[0].Kind))
		}
		w.as[i].disk.hang = false
		w.as[i].disk.run()
		if r := w.answer(s); r.Kind != qosnslp.Reserved {
			w.fatalf("told %s %v", kindText(r.Kind), r.Info)
		}
		w.mustAgree()
		// The same for a release: a crash must not bring it back.
		w.as[i].disk.hang = true
		w.release(s)
		w.net.Run(time.Second)
		if len(s.results) != 1 {
			w.fatalf("AS%d still has it stored; told %s", w.as[i].cfg.AS, kindText(s.results[1].Kind))
		}
		if n := w.as[i].p.l.l.Stats().Committed; n != 1 {
			w.fatalf("AS%d sells again what its store still has", w.as[i].cfg.AS)
		}
		w.as[i].disk.hang = false
		w.as[i].disk.run()
		if r := w.answer(s); r.Kind != qosnslp.Released {
			w.fatalf("told %s %v", kindText(r.Kind), r.Info)
		}
		w.mustAgree()
	}
}

// The same where the store does not wait but fails: it is asked again, and the
// initiator hears of the release only when a crash cannot bring it back.
func TestSimReleaseWhileStoreFails(t *testing.T) {
	w := newSimWorld(t, 14)
	s := w.session()
	w.mustReserve(s, mbit(10))
	fails := 0
	w.as[0].disk.fault = func(bool, sls.ID) fault {
		if fails++; fails <= 3 {
			return notDone
		}
		return noFault
	}
	w.release(s)
	w.net.Run(time.Second + time.Millisecond) // a second try
	if len(s.results) != 1 || fails != 2 {
		w.fatalf("told %d times after %d tries", len(s.results), fails)
	}
	w.as[0].restart(time.Second, true) // it is back, and known to be
	w.net.Run(time.Minute)
	if d, ok := w.as[0].p.q.domain.Session(s.sid); ok {
		s.reserved, s.rate, s.unsure = true, d.Rate, false
	}
	if !s.reserved {
		w.fatalf("what the store has is not there after the restart")
	}
	w.net.Run(10 * time.Minute)
	w.mustAgree()
	w.release(s)
	w.net.Run(10 * time.Second)
	if r := w.answer(s); r.Kind != qosnslp.Released {
		w.fatalf("told %s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
}
