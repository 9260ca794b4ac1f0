package node

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

func sortedIDs[K ~[16]byte, V any](m map[K]V) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int { return bytes.Compare(a[:], b[:]) })
}

// simSession is what the initiator's application knows of a session.
type simSession struct {
	sid     wire.SID
	flow    wire.Flow
	pending string // "reserve", "terminate": an answer is awaited
	asked   uint64 // octets/s, of the last reserve
	// reserved is what it was told stands; rate is in octets/s.
	reserved bool
	rate     uint64
	// unsure: its own AS crashed with a request under way. Whatever stands
	// then, all ASs must agree on it.
	unsure  bool
	results []qosnslp.Result
	preempt qspec.Preemption // of its requests; zero: without
}

// session makes the application's record of a new session.
func (w *simWorld) session() *simSession {
	w.next++
	s := &simSession{sid: wire.SID{0: 0xa1, 14: byte(w.next >> 8), 15: byte(w.next)}}
	s.flow = simFlow
	s.flow.HasDstPort, s.flow.DstPort = true, 5000+w.next
	w.app[s.sid] = s
	return s
}

// mbit is a rate in octets/s.
func mbit(n uint64) uint64 { return n * 1_000_000 / 8 }

// reserve asks for rate, at least least, both in octets/s; least 0: all or
// nothing.
func (w *simWorld) reserve(s *simSession, rate, least uint64) {
	phb := qspec.PHB(46)
	ask := qspec.Ask{CIR: rate, LeastCIR: least, PHB: &phb, Excess: &qspec.Excess{Treatment: qspec.ExcessDrop}}
	if s.preempt != (qspec.Preemption{}) {
		ask.Preemption = &s.preempt
	}
	q, err := qspec.NewInitiator(ask)
	if err != nil {
		w.fatalf("QSPEC: %v", err)
	}
	s.pending, s.asked = "reserve", rate
	w.logf("application: reserve %s %d (least %d)", short(s.sid), rate, least)
	w.as[0].p.handle(qosnslp.Initiate{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
}

func (w *simWorld) release(s *simSession) {
	s.pending = "terminate"
	w.logf("application: release %s", short(s.sid))
	w.as[0].p.handle(qosnslp.Terminate{SID: s.sid})
}

// told is the application hearing a result.
func (w *simWorld) told(r qosnslp.Result) {
	s := w.app[r.SID]
	if s == nil {
		w.fatalf("a result for a session that the application never asked for: %s", r.SID)
	}
	s.results = append(s.results, r)
	switch r.Kind {
	case qosnslp.Reserved:
		q, err := qspec.Parse(r.QSPEC)
		if err != nil {
			w.fatalf("Reserved without a QSPEC: %v", err)
		}
		s.reserved, s.rate, s.pending, s.unsure = true, q.Rate(), "", false
	case qosnslp.Rejected, qosnslp.TimedOut:
		// What stood before stands.
		s.pending = ""
	case qosnslp.Released:
		s.reserved, s.pending, s.unsure = false, "", false
	case qosnslp.Terminated:
		s.reserved, s.pending, s.unsure = false, "", false
	}
}

// appLost: the process that would have told the application is gone, be it the
// answer to a request or that the network is about to end a session.
func (w *simWorld) appLost(p *simProc) {
	for _, s := range w.app {
		i, ok := p.q.nslp.Session(s.sid)
		if s.pending != "" || ok && i.State == "closing" {
			s.pending, s.unsure = "", true
		}
	}
}

// do runs the network until the application has its answer, and returns it.
func (w *simWorld) answer(s *simSession) qosnslp.Result {
	w.t.Helper()
	n := len(s.results)
	if s.pending == "" && n > 0 {
		return s.results[n-1]
	}
	if !w.net.WaitFor(5*time.Minute, func() bool { return len(s.results) > n && s.pending == "" }) {
		w.fatalf("no answer about %s", short(s.sid))
	}
	return s.results[len(s.results)-1]
}

// mustReserve reserves and wants it to succeed in full.
func (w *simWorld) mustReserve(s *simSession, rate uint64) {
	w.t.Helper()
	w.reserve(s, rate, 0)
	if r := w.answer(s); r.Kind != qosnslp.Reserved || s.rate != rate {
		w.fatalf("%s: %s %v, rate %d, want Reserved with %d", short(s.sid), kindText(r.Kind), r.Info, s.rate, rate)
	}
}

// soldAt is what there is of a class at an instant, the zero one being now: the larger
// of what is held and committed for each reservation.
func soldAt(all []sls.Booking, class sls.Class, at time.Time) (sum uint64) {
	most := make(map[sls.ID]uint64)
	for _, b := range all {
		for _, v := range b.Intervals {
			if b.Class == class && !v.From.After(at) && (v.Until.IsZero() || v.Until.After(at)) {
				most[b.ID] = max(most[b.ID], b.Rate)
			}
		}
	}
	for _, rate := range most {
		sum += rate
	}
	return sum
}

// checkSold recounts every SLS at every instant, against what is sold (interdomain-qosm §5).
// Where a hold may count on what its commit ends, it is what is committed.
func (a *simAS) checkSold() {
	for _, s := range a.slss {
		var all []sls.Booking
		instants := map[time.Time]bool{{}: true} // where anything begins
		for b := range a.p.l.l.BySLS(s.ID) {
			if b.Held && s.Admission.Preemption {
				continue
			}
			all = append(all, b)
			for _, v := range b.Intervals {
				instants[v.From] = true
			}
		}
		for _, c := range s.Classes {
			sum := uint64(0)
			for at := range instants {
				sum = max(sum, soldAt(all, c.Class, at))
			}
			if sum > c.CIR && a.oversold == "" {
				a.oversold = fmt.Sprintf("AS%d at %v: SLS %s sells %d of %s, committed and held are %d", a.cfg.AS, a.w.net.Now().Sub(simStart), s.ID, c.CIR, c.Class, sum)
				a.w.logf("OVERSOLD: %s", a.oversold)
			}
		}
	}
}

// problems compares everything that an AS has with what it should have: want
// is the committed rate of each session.
func (a *simAS) problems(want map[wire.SID]uint64) (list []string) {
	bad := func(format string, args ...any) {
		list = append(list, fmt.Sprintf("AS%d: ", a.cfg.AS)+fmt.Sprintf(format, args...))
	}
	if a.p == nil {
		bad("is down")
		return list
	}
	if a.oversold != "" {
		bad("%s", a.oversold)
	}
	if !a.p.ready {
		bad("the driver is not reconciled")
	}
	a.ledgerProblems(want, bad)
	a.storeProblems(want, bad)
	a.driverProblems(want, bad)
	a.softProblems(want, bad)
	return list
}

func (a *simAS) ledgerProblems(want map[wire.SID]uint64, bad func(string, ...any)) {
	st := a.p.l.l.Stats()
	if st.Held != 0 || st.Committed != len(want) {
		bad("ledger: %d held, %d committed, want 0 and %d", st.Held, st.Committed, len(want))
	}
	for _, sid := range sortedIDs(want) {
		if p := a.bookingsProblem(a.p.l.l.Bookings(sls.ID(sid)), want[sid]); p != "" {
			bad("ledger: %s: %s", short(sid), p)
		}
	}
}

// legs is how many legs a reservation has in an AS of the chain.
func (a *simAS) legs() int {
	if a.w.transit != 0 {
		return 1 + a.routes.index%2
	}
	return len(a.cfg.Edges)
}

// onPath says whether the path of all flows leads through it.
func (a *simAS) onPath() bool {
	return a.w.transit == 0 || a.routes.index%2 == 0 || a.routes.index == a.w.transit
}

func (a *simAS) bookingsProblem(bookings []sls.Booking, rate uint64) string {
	if len(bookings) != a.legs() {
		return fmt.Sprintf("%d bookings, want %d", len(bookings), a.legs())
	}
	for _, b := range bookings {
		if b.Held || b.Rate != rate {
			return fmt.Sprintf("%s held %v rate %d, want committed with %d", b.SLS, b.Held, b.Rate, rate)
		}
	}
	return ""
}

func (a *simAS) storeProblems(want map[wire.SID]uint64, bad func(string, ...any)) {
	records := a.disk.load()
	if len(a.disk.queue) > 0 {
		bad("store: %d writes wait", len(a.disk.queue))
	}
	for _, r := range records {
		rate, ok := want[wire.SID(r.ID)]
		if !ok {
			bad("store: has %s", short(wire.SID(r.ID)))
		} else if p := a.bookingsProblem(r.Bookings, rate); p != "" {
			bad("store: %s: %s", short(wire.SID(r.ID)), p)
		}
	}
	if len(records) < len(want) {
		bad("store: %d records, want %d", len(records), len(want))
	}
}

func (a *simAS) driverProblems(want map[wire.SID]uint64, bad func(string, ...any)) {
	have := a.device.have()
	for _, h := range have {
		rate, ok := want[wire.SID(h.ID)]
		if !ok || !h.Committed || h.Request.QoS.CIR != rate {
			bad("driver: %s committed %v rate %d version %d, want %d", short(wire.SID(h.ID)), h.Committed, h.Request.QoS.CIR, h.Version, rate)
		}
	}
	if len(have) < len(want) {
		bad("driver: has %d, want %d", len(have), len(want))
	}
	if len(a.device.queue) > 0 {
		bad("driver: %d operations wait", len(a.device.queue))
	}
}

func (a *simAS) softProblems(want map[wire.SID]uint64, bad func(string, ...any)) {
	q := &a.p.q
	q.domain.Sessions(func(i interdomain.Info) bool {
		if rate, ok := want[i.SID]; !ok || i.State != interdomain.Committed || i.Rate != rate {
			bad("inter-domain: %s %v rate %d, want %d", short(i.SID), i.State, i.Rate, rate)
		}
		return true
	})
	if q.domain.Len() < len(want) {
		bad("inter-domain: %d sessions, want %d", q.domain.Len(), len(want))
	}
	n := 0
	q.nslp.Sessions(func(i qosnslp.SessionInfo) bool {
		n++
		if _, ok := want[i.SID]; !ok || i.State != "installed" || i.Pending != "" || i.Queued != 0 {
			bad("QoS-NSLP: %s %s pending %q, %d queued", short(i.SID), i.State, i.Pending, i.Queued)
		}
		return true
	})
	if n < len(want) {
		bad("QoS-NSLP: %d sessions, want %d", n, len(want))
	}
	q.gist.RoutingStates(func(i gist.RoutingStateInfo) bool {
		if _, ok := want[i.SID]; !ok {
			bad("GIST: routing state of %s", short(i.SID))
		}
		return true
	})
}

// wanted is what the initiator was told.
func (w *simWorld) wanted() map[wire.SID]uint64 {
	want := make(map[wire.SID]uint64)
	for sid, s := range w.app {
		if s.reserved {
			want[sid] = s.rate
		}
	}
	return want
}

// problems says where any AS differs from what the initiator was told.
func (w *simWorld) problems() (list []string) {
	for sid, s := range w.app {
		if s.pending != "" {
			list = append(list, fmt.Sprintf("%s: no answer to %s", short(sid), s.pending))
		}
	}
	want := w.wanted()
	for _, a := range w.as {
		if a.onPath() {
			list = append(list, a.problems(want)...)
		} else {
			list = append(list, a.problems(nil)...)
		}
	}
	return list
}

// mustAgree is the whole property, now.
func (w *simWorld) mustAgree() {
	w.t.Helper()
	if list := w.problems(); len(list) > 0 {
		w.fatalf("the ASs differ from what the initiator was told:\n%s", joinLines(list))
	}
}

// mustAgreeWithin waits for it.
func (w *simWorld) mustAgreeWithin(limit time.Duration) {
	w.t.Helper()
	if !w.net.WaitFor(limit, func() bool { return len(w.problems()) == 0 }) {
		w.mustAgree()
	}
}

func joinLines(list []string) string {
	var b bytes.Buffer
	for _, l := range list {
		b.WriteString("\t" + l + "\n")
	}
	return b.String()
}

// heldBy says whether the driver of the AS has a hold or commitment of a
// session, and at which rate.
func (a *simAS) deviceHas(sid wire.SID) (held, committed bool, rate uint64) {
	for _, h := range a.device.have() {
		if h.ID == intradomain.ID(sid) {
			held, committed, rate = held || !h.Committed, committed || h.Committed, h.Request.QoS.CIR
		}
	}
	return held, committed, rate
}

func sortedConns(m map[gist.ConnID]*simnet.Conn) []gist.ConnID { return slices.Sorted(maps.Keys(m)) }
