package node

import (
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// "Preemption: lowest defending priority first; victims lose their resources at
// the preemptor's commit, not at its hold, and get NOTIFY 4/0x06."
// interdomain-qosm §6. The SLS between AS65002 and AS65003 has 40 Mbit/s.

// allowPreemption has the SLSs of some ASs say so, before and after restarts.
func (w *simWorld) allowPreemption(ases ...int) {
	for _, i := range ases {
		a := w.as[i]
		for j := range a.slss {
			a.slss[j].Admission.Preemption = true
			if _, err := a.p.l.l.Put(a.now(), a.slss[j], "test"); err != nil {
				w.fatalf("AS%d: %v", a.cfg.AS, err)
			}
		}
	}
}

func (w *simWorld) priority(preempting, defending uint16) *simSession {
	s := w.session()
	s.preempt = qspec.Preemption{Preempting: preempting, Defending: defending}
	return s
}

// contended is a world with a weak reservation of 30 and a strong one of 10.
func contended(t *testing.T, seed uint64, ases ...int) (w *simWorld, weak, strong *simSession) {
	w = newSimWorld(t, seed)
	w.allowPreemption(ases...)
	weak, strong = w.priority(0, 1), w.priority(0, 5)
	w.mustReserve(weak, mbit(30))
	w.mustReserve(strong, mbit(10))
	return w, weak, strong
}

func isPreemption(s simSent) bool {
	i := s.msg.InfoSpec
	return s.msg.Type == nslpwire.Notify && i.Class == nslpwire.ClassTransientFailure && i.Code == nslpwire.ReservationPreempted
}

func TestSimPreemption(t *testing.T) {
	w, weak, strong := contended(t, 3, 0, 1, 2)
	sent := w.record()
	s := w.priority(3, 3)
	w.mustReserve(s, mbit(30))
	if r := w.answer(weak); r.Kind != qosnslp.Terminated || r.Info.Class != nslpwire.ClassTransientFailure || r.Info.Code != nslpwire.ReservationPreempted {
		w.fatalf("the weak one was told %s %v", kindText(r.Kind), r.Info)
	}
	told := 0
	for what, n := range w.as[0].notes {
		if strings.HasPrefix(what, "notified/4/0x06") {
			told += n
		}
	}
	if told != 1 {
		w.fatalf("who watches the weak one sees %d NOTIFYs of its preemption: %v", told, w.as[0].notes)
	}
	w.net.Run(time.Second)
	w.mustAgree() // nothing of the weak one is left anywhere; the others stand
	if !strong.reserved || !s.reserved || weak.reserved {
		w.fatalf("stand: strong %v, new %v, weak %v", strong.reserved, s.reserved, weak.reserved)
	}
	found := false
	for _, m := range *sent {
		if isPreemption(m) {
			found = true
			b := m.msg.BoundSessions
			if m.sid != weak.sid || len(b) != 1 || b[0] != (nslpwire.BoundSession{Code: nslpwire.BindPreempted, SID: s.sid}) {
				w.fatalf("NOTIFY for %s, bound to %v", short(m.sid), b)
			}
		}
	}
	if !found {
		w.fatalf("no NOTIFY")
	}
	w.net.Run(20 * time.Minute)
	w.mustAgree()
	// It comes back as soon as there is room.
	w.release(s)
	w.answer(s)
	w.mustReserve(weak2(w, weak), mbit(30))
	w.mustAgree()
}

// weak2 is the same request under a new SID: the old one is torn.
func weak2(w *simWorld, old *simSession) *simSession {
	s := w.session()
	s.preempt = old.preempt
	return s
}

// "preemptor fails": the hold has done nobody any harm, at the AS that had held
// and at the one that refused.
func TestSimPreemptorFailsDownstream(t *testing.T) {
	w, weak, strong := contended(t, 4, 0, 1, 2)
	w.as[2].device.fault = func(verb string, _ intradomain.ID) fault {
		if verb == "hold" {
			return notDone
		}
		return noFault
	}
	sent := w.record()
	s := w.priority(3, 3)
	w.reserve(s, mbit(30), 0)
	if r := w.answer(s); r.Kind != qosnslp.Rejected || r.Info.Code != interdomain.CodeIntraDomain {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.as[2].device.fault = nil
	w.net.Run(5 * time.Minute)
	if n := w.count(*sent, 1, 0, isPreemption) + w.count(*sent, 2, 1, isPreemption); n != 0 || !weak.reserved || !strong.reserved {
		w.fatalf("%d NOTIFYs, weak %v, strong %v", n, weak.reserved, strong.reserved)
	}
	w.mustAgree()
}

// Where the network inside is as full as the SLS, what the victims have there is
// free for the preemptor, and not before its commit.
func TestSimPreemptionInTheNetwork(t *testing.T) {
	w, weak, strong := contended(t, 7, 0, 1, 2)
	w.as[1].fill(mbit(455)) // of 500: 5 are left
	s := w.priority(3, 3)
	w.mustReserve(s, mbit(30))
	w.net.Run(time.Second)
	w.as[1].unfill()
	if w.mustAgree(); weak.reserved || !strong.reserved {
		w.fatalf("weak %v, strong %v", weak.reserved, strong.reserved)
	}
	// What the victims of the SLS do not have, the network cannot give.
	w.as[1].fill(mbit(460))
	t2 := w.priority(4, 4)
	w.reserve(t2, mbit(40), 0)
	if r := w.answer(t2); r.Kind != qosnslp.Rejected {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.as[1].unfill()
	w.net.Run(time.Second)
	if w.mustAgree(); !s.reserved {
		w.fatalf("what stood is gone")
	}
}

// Between its hold and its commit the weak one stands; also where the answer
// never comes.
func TestSimPreemptionWaitsForTheCommit(t *testing.T) {
	w, weak, _ := contended(t, 5, 0, 1, 2)
	w.as[2].device.delay = func() time.Duration { return 5 * time.Second }
	s := w.priority(3, 3)
	w.reserve(s, mbit(30), 0)
	w.net.Run(4 * time.Second)
	if _, committed, rate := w.as[1].deviceHas(weak.sid); !committed || rate != mbit(30) || len(w.as[1].p.l.l.Bookings(sls.ID(weak.sid))) != 2 {
		w.fatalf("AS65002: committed %v, rate %d", committed, rate)
	}
	w.as[2].device.delay = nil
	w.as[2].crash(true)
	w.answer(s)
	w.as[2].boot()
	w.mustAgreeWithin(20 * time.Minute) // GIST lets go after 600 s at the latest
	if !weak.reserved || s.reserved {
		w.fatalf("weak %v, new %v", weak.reserved, s.reserved)
	}
}

// The SLS says whether: AS65003 does not allow it, and refuses as if there were
// no priorities. interdomain-qosm §5
func TestSimPreemptionNotAllowed(t *testing.T) {
	w, weak, _ := contended(t, 6, 0, 1)
	s := w.priority(3, 3)
	w.reserve(s, mbit(30), 0)
	if r := w.answer(s); r.Kind != qosnslp.Rejected || r.Info.Class != nslpwire.ClassQoSModelError || r.Info.Code != interdomain.CodeNoCapacity {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.net.Run(time.Second)
	if w.mustAgree(); !weak.reserved {
		w.fatalf("the weak one is gone")
	}
	// Nor does a priority that is not above the defending ones.
	w.allowPreemption(2)
	equal := w.priority(1, 9)
	w.reserve(equal, mbit(30), 0)
	if r := w.answer(equal); r.Kind != qosnslp.Rejected {
		w.fatalf("%s %v", kindText(r.Kind), r.Info)
	}
	w.mustAgree()
}

// "victims lose their resources at the preemptor's commit": a crash at any moment
// leaves the one or the other, never both. interdomain-qosm §6
func TestSimPreemptionAndCrash(t *testing.T) {
	for seed := uint64(1); seed <= 30; seed++ {
		w, _, strong := contended(t, seed, 0, 1, 2)
		for _, a := range w.as {
			a.disk.delay = func() time.Duration { return time.Duration(w.rng.IntN(20)) * time.Millisecond }
			a.device.delay = a.disk.delay
		}
		s := w.priority(3, 3)
		w.reserve(s, mbit(30), 0)
		w.net.Run(time.Duration(20+w.rng.IntN(150)) * time.Millisecond)
		w.as[1+seed%2].restart(time.Duration(w.rng.IntN(3000))*time.Millisecond, seed%3 != 0)
		w.answer(s)
		w.mustAgreeWithin(15 * time.Minute)
		if !strong.reserved {
			w.fatalf("the strong one is gone")
		}
	}
}
