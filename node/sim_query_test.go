package node

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// query asks what could be had, and returns the answer and the records in it.
func (w *simWorld) query(s *simSession, available string) (qosnslp.Result, qspec.QSPEC, []nslpwire.DomainRecord) {
	w.t.Helper()
	return w.queryWith(s, available, 0)
}

// queryWith is query with generic flags.
func (w *simWorld) queryWith(s *simSession, available string, flags uint16) (qosnslp.Result, qspec.QSPEC, []nslpwire.DomainRecord) {
	w.t.Helper()
	q, err := qspec.ParseText("initiator type=0 proc=2/0 available{" + available + "}")
	if err != nil {
		w.fatalf("QSPEC: %v", err)
	}
	n := len(s.results)
	w.as[0].p.handle(qosnslp.Query{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil), Flags: flags})
	if !w.net.WaitFor(5*time.Minute, func() bool { return len(s.results) > n }) {
		w.fatalf("no answer to the QUERY")
	}
	r := s.results[n]
	var recs []nslpwire.DomainRecord
	for _, o := range r.Extra {
		if o.Type == nslpwire.DomainRecords {
			if recs, err = nslpwire.ParseDomainRecords(o.Value); err != nil {
				w.fatalf("DOMAIN-RECORDS: %v", err)
			}
		}
	}
	answer, err := qspec.Parse(r.QSPEC)
	if err != nil {
		w.fatalf("%s %v: %v", kindText(r.Kind), r.Info, err)
	}
	return r, answer, recs
}

// interdomain-qosm §2: QUERY: 2/0, QoS Available only. Each domain lowers it to what it
// has, and says so in DOMAIN-RECORDS; nothing is held, and nothing stays.
func TestSimQuery(t *testing.T) {
	w := newSimWorld(t, 31, func(c *Config) { c.Path = interdomain.PathBounds{Latency: 3 * time.Millisecond} })
	s := w.session()
	ask := func(what string, kind qosnslp.ResultKind, rate uint64, verdicts ...nslpwire.Verdict) (qspec.QSPEC, []nslpwire.DomainRecord) {
		t.Helper()
		r, q, recs := w.query(s, what)
		if r.Kind != kind || q.Rate() != rate && kind == qosnslp.Answered {
			w.fatalf("%s: %s %v, rate %d, want %s with %d; %+v", what, kindText(r.Kind), r.Info, q.Rate(), kindText(kind), rate, recs)
		}
		if len(recs) != len(verdicts) {
			w.fatalf("%s: records %+v, want %v", what, recs, verdicts)
		}
		for i := range verdicts {
			if recs[i].Verdict != verdicts[i] {
				w.fatalf("%s: records %+v, want %v", what, recs, verdicts)
			}
		}
		if e, has := q.Egress(); has {
			w.fatalf("%s: the initiator sees an inside: %v", what, e)
		}
		w.mustAgree()
		return q, recs
	}
	const queried, refused = nslpwire.VerdictQueried, nslpwire.VerdictRefused
	q, recs := ask("tmod=200M/64k class=EF latency=0us", qosnslp.Answered, mbit(40), queried, queried, queried)
	if q.Available.PathLatency != 9000 {
		w.fatalf("latency %d us, want 9000 of three domains", q.Available.PathLatency)
	}
	if recs[2].AS != 65001 || uint64(recs[2].Largest) <= mbit(40) || uint64(recs[0].Largest) != mbit(40) {
		w.fatalf("records %+v, want AS65001 to have more than the path", recs)
	}
	initiator, err := q.Initiator()
	if err != nil || initiator.Rate() != mbit(40) || initiator.Available.PathLatency != 9000 {
		w.fatalf("Initiator QSPEC %v, %v", initiator, err)
	}
	// What is told can be had; beside it there is less.
	other := w.session()
	w.mustReserve(other, mbit(30))
	ask("tmod=20M/64k class=EF", qosnslp.Answered, mbit(10), queried, queried, queried)
	ask("tmod=5M/64k class=EF", qosnslp.Answered, mbit(5), queried, queried, queried)
	w.mustReserve(other, mbit(40))
	_, recs = ask("tmod=20M/64k class=EF", qosnslp.Rejected, 0, refused, queried)
	if recs[0].AS != 65002 || recs[0].Code != interdomain.CodeNoCapacity {
		w.fatalf("records %+v, want AS65002's 65 first", recs)
	}
	ask("tmod=20M/64k class=CS7", qosnslp.Rejected, 0, refused)
	// Time: when the other one's booking is over, all of it can be had.
	w.release(other)
	w.answer(other)
	other = w.session()
	hour := func(n int) int64 { return simStart.Add(time.Duration(n) * time.Hour).Unix() }
	w.mustReserveText(other, fmt.Sprintf("tmod=30M/64k class=EF time=%d..%d", hour(1), hour(2)))
	_, recs = ask(fmt.Sprintf("tmod=40M/64k class=EF time=%d..%d", hour(1), hour(2)), qosnslp.Answered, mbit(10), queried, queried, queried)
	if recs[1].Earliest != hour(2) {
		w.fatalf("AS65002 tells %d as the earliest start of 40 Mbit/s, want %d", recs[1].Earliest, hour(2))
	}
	ask(fmt.Sprintf("tmod=40M/64k class=EF time=%d..%d", hour(2), hour(3)), qosnslp.Answered, mbit(40), queried, queried, queried)
	w.net.Run(20 * time.Minute)
	for _, a := range w.as {
		if n := a.p.q.domain.Inquiries(); n != 0 {
			w.fatalf("AS%d: %d inquiries are left", a.cfg.AS, n)
		}
	}
}

// A QUERY under loss and duplication is answered, or told to be unanswered, and leaves
// nothing behind.
func TestSimQueryUnderLoss(t *testing.T) {
	answered := 0
	for seed := range uint64(12) {
		w := newSimWorld(t, 4000+seed)
		for _, x := range (&chaos{simWorld: w}).between() {
			w.net.SetLink(x[0], x[1], simnet.Link{Delay: time.Millisecond, Loss: 0.2, Duplicate: 0.2})
		}
		s := w.session()
		q, err := qspec.ParseText("initiator type=0 proc=2/0 available{tmod=20M/64k class=EF}")
		if err != nil {
			t.Fatal(err)
		}
		w.as[0].p.handle(qosnslp.Query{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
		if !w.net.WaitFor(5*time.Minute, func() bool { return len(s.results) > 0 }) {
			w.fatalf("neither an answer nor a time-out")
		}
		if s.results[0].Kind == qosnslp.Answered {
			answered++
		}
		w.net.Run(30 * time.Minute)
		w.mustAgree()
	}
	if answered < 8 {
		t.Errorf("%d of 12 were answered", answered)
	}
}

// interdomain-qosm §2: "Receiver-initiated: sequence 1". The QUERY goes with the flow,
// the RESERVE against it over the same borders, and every domain has what it would
// have of one by the sender.
func TestSimReceiverInitiated(t *testing.T) {
	w := newSimWorld(t, 32)
	s := w.session()
	invite := func(text string) qosnslp.Result {
		t.Helper()
		q, err := qspec.ParseText(text)
		if err != nil {
			t.Fatal(err)
		}
		n := len(s.results)
		w.as[0].p.handle(qosnslp.Invite{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
		if !w.net.WaitFor(5*time.Minute, func() bool { return len(s.results) > n }) {
			w.fatalf("no answer to the invitation")
		}
		w.net.Run(time.Second) // until the receiver has its RESPONSE
		return s.results[n]
	}
	has := func(rate uint64) {
		t.Helper()
		for i, a := range w.as {
			r, ok := a.p.q.domain.Session(s.sid)
			if !ok || r.State != interdomain.Committed || r.Rate != rate {
				w.fatalf("AS%d: %v %+v, want %d committed", a.cfg.AS, ok, r, rate)
			}
			if up, down := i > 0, i < 2; (r.Upstream != 0) != up || (r.Downstream != 0) != down {
				w.fatalf("AS%d: from AS%d to AS%d: not as the flow goes", a.cfg.AS, r.Upstream, r.Downstream)
			}
		}
		s.reserved, s.rate = true, rate
	}
	for _, c := range []struct {
		text string
		rate uint64
	}{
		{"initiator type=0 proc=1/0 desired{tmod=20M/64k class=EF}", mbit(20)},
		{"initiator type=0 proc=1/1 desired{tmod=30M/64k class=EF} minimum{tmod=5M/64k}", mbit(30)},    // a change
		{"initiator type=0 proc=1/2 desired{tmod=60M/64k class=EF} available{tmod=60M/64k}", mbit(40)}, // as much as the QUERY finds
	} {
		if r := invite(c.text); r.Kind != qosnslp.Answered {
			w.fatalf("%s: %s %v", c.text, kindText(r.Kind), r.Info)
		}
		has(c.rate)
	}
	w.net.Run(30 * time.Minute) // the receiver refreshes
	has(mbit(40))
	// The receiver ends what it has initiated.
	w.as[2].p.handle(qosnslp.Terminate{SID: s.sid})
	w.net.Run(time.Minute)
	s.reserved = false
	w.mustAgreeWithin(15 * time.Minute)
}

// A flow whose receiver is in this very AS has nobody to invite.
func TestSimReceiverInitiatedWithinOneDomain(t *testing.T) {
	w := newSimWorld(t, 33)
	s := w.session()
	s.flow.Destination = netip.MustParsePrefix("10.1.0.11/32")
	q, err := qspec.ParseText("initiator type=0 proc=1/0 desired{tmod=20M/64k class=EF}")
	if err != nil {
		t.Fatal(err)
	}
	w.as[0].p.handle(qosnslp.Invite{SID: s.sid, NSLPID: nslpID, MRI: wire.MRI{Method: wire.OffPath, Flow: s.flow}, QSPEC: q.Append(nil)})
	if len(s.results) != 1 || s.results[0].Kind != qosnslp.Rejected {
		w.fatalf("results %+v", s.results)
	}
}
