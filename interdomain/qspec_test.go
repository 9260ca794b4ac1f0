package interdomain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// text is the Local QSPEC that AS65001 would send for an Initiator QSPEC written
// as text.
func text(t *testing.T, s string) []byte {
	t.Helper()
	q, err := qspec.ParseText(s)
	if err != nil {
		t.Fatal(err)
	}
	l, err := qspec.Encapsulate(&q, qspec.InReserve)
	if err != nil {
		t.Fatal(err)
	}
	l.SetEgress(qspec.BorderID{AS: 65001, Addr: addr("192.0.2.1")})
	l.SetIngress(qspec.BorderID{AS: 65002, Addr: addr("192.0.2.2")})
	return l.Append(nil)
}

func parsed(t *testing.T, b []byte) qspec.QSPEC {
	t.Helper()
	q, err := qspec.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// RFC 5975 §4.3.1: QoS Available collects what accumulates, and a node refuses
// where Minimum QoS is not kept any more; §4.2.2: N tells of what a domain does not
// know of itself, and M of a parameter that it does not know makes it refuse.
func TestWhatAccumulates(t *testing.T) {
	for _, c := range []struct {
		name, asked, sls string
		path             PathBounds
		want             string // in QoS Available of the next RESERVE; "": refused
	}{
		{"what the SLS promises", "tmod=20M/64k class=EF latency<=40ms", "delay: 5ms", PathBounds{}, "latency=5ms"},
		{"jitter and loss", "tmod=20M/64k class=EF jitter<=9ms plr<=0.01", "jitter: 2ms, loss: 0.001", PathBounds{}, "jitter=2ms!N plr=0.001"},
		{"or the domain itself", "tmod=20M/64k class=EF latency<=40ms per<=0.001", "", PathBounds{Latency: 7 * time.Millisecond, Errors: 0.0001}, "latency=7ms per=0.0001"},
		{"not known: N", "tmod=20M/64k class=EF latency<=40ms", "", PathBounds{}, "latency=0us!N"},
		{"too much", "tmod=20M/64k class=EF latency<=4ms", "delay: 5ms", PathBounds{}, ""},
		{"not known and M", "tmod=20M/64k class=EF latency<=40ms!M", "", PathBounds{}, ""},
		{"a parameter that is not supported and M", "tmod=20M/64k class=EF dste=3!M", "", PathBounds{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.m.cfg.Path = c.path
			if c.sls != "" {
				w.put(west, c.sls)
			}
			w.admit(1, text(t, c.asked), "10.3.0.10")
			if c.want == "" {
				v := w.verdict()
				if v.Accept || v.Info.Class != nslpwire.ClassTransientFailure || v.Info.Code != nslpwire.ReservationFailure {
					t.Fatalf("verdict %v, want Reservation Failure; %+v", v.Info, w.notes)
				}
				answer := parsed(t, v.ResponseQSPEC)
				initiator, err := answer.Initiator()
				if err != nil || !strings.Contains(answer.String()+initiator.String(), "!") {
					t.Errorf("no flag in %v, %v", answer, err)
				}
				w.nothing()
				return
			}
			w.answer(nil)
			v := w.verdict()
			if !v.Accept {
				t.Fatalf("refused %v; %+v", v.Info, w.notes)
			}
			p := parsed(t, v.QSPEC).Available
			for _, want := range strings.Fields(c.want) {
				if !slices.Contains(strings.Fields(p.String()), want) {
					t.Errorf("QoS Available %v, want %s", p, want)
				}
			}
		})
	}
}

// RFC 5975 §4.2.2: "if the M flag is not set … the QNE … MUST set the N flag" and
// goes on.
func TestUnsupportedWithoutM(t *testing.T) {
	w := newWorld(t)
	w.admit(1, text(t, "tmod=20M/64k class=EF dste=3 slack=2ms"), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	if !v.Accept {
		t.Fatalf("refused %v; %+v", v.Info, w.notes)
	}
	d := parsed(t, v.QSPEC).Desired
	if want := qspec.SetOf(qspec.DSTEClassID, qspec.SlackTermID); d.Unsupported != want {
		t.Errorf("N on %v, want on %v", d.Unsupported, want)
	}
}

// interdomain-qosm §2: "A request with a class and no TMOD is relative QoS: admitted
// against an SLS that sells the class relatively, with no rate promised"; "The class is
// PHB Class or Y.1541 QoS Class".
func TestRelativeAndY1541(t *testing.T) {
	for _, c := range []struct {
		asked string
		class string // that both SLSs sell
		want  string // "": refused
	}{
		{"class=AF41", "{class: AF41, relative: true}", "AF41 0"},
		{"class=AF41", "{class: AF41, cir: 9M, pir: 9M}", ""},
		{"tmod=1M/3k class=AF41", "{class: AF41, relative: true}", ""},
		{"y1541=0", "{class: EF, relative: true}", "EF 0"},
		{"tmod=1M/3k y1541=2", "{class: AF31, cir: 9M, pir: 9M}", "AF31 1000000"},
		{"tmod=1M/3k y1541=6", "{class: EF, cir: 9M, pir: 9M}", ""}, // RFC 5976 §2.1 names no PHB
	} {
		t.Run(c.asked+" on "+c.class, func(t *testing.T) {
			w := newWorld(t)
			for _, doc := range []string{west, east} {
				i := strings.Index(doc, "classes: [")
				docs, err := sls.Parse("sls", []byte(doc[:i]+"classes: ["+c.class+"]}"))
				if err == nil {
					_, err = w.ledger.Put(w.now, docs[0], "test")
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			w.admit(1, text(t, c.asked), "10.3.0.10")
			if c.want == "" {
				if v := w.verdict(); v.Accept {
					t.Fatal("admitted")
				}
				if w.m.Len() != 0 {
					t.Error("something is left")
				}
				return
			}
			q := w.asked()
			if got := fmt.Sprint(sls.Class(q.Class), 8*q.CIR); got != c.want {
				t.Errorf("the driver is asked for %s bit/s, want %s", got, c.want)
			}
			w.answer(nil)
			v := w.verdict()
			w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
			w.answer(nil)
			if v := w.verdict(); !v.Accept {
				t.Errorf("not committed: %v; %+v", v.Info, w.notes)
			}
		})
	}
}

// interdomain-qosm §2: one to eight intervals, weekly windows in them; what is held
// at ledger and driver is exactly these, and nothing that is over.
func TestTimesAreHeld(t *testing.T) {
	w := newWorld(t)
	monday := time.Date(2027, 1, 18, 0, 0, 0, 0, time.UTC) // newWorld's now is the Friday before
	unix := func(day, hour int) int64 {
		return monday.AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour).Unix()
	}
	for _, c := range []struct {
		name, times string
		want        []qspec.Interval
	}{
		{"an interval", fmt.Sprintf("time=%d..%d", unix(0, 8), unix(0, 9)), []qspec.Interval{{Start: unix(0, 8), End: unix(0, 9)}}},
		{"one of two is over", fmt.Sprintf("time=5..6,%d..%d", unix(0, 8), unix(0, 9)), []qspec.Interval{{Start: unix(0, 8), End: unix(0, 9)}}},
		{"one has begun", fmt.Sprintf("time=5..%d", unix(0, 9)), []qspec.Interval{{Start: w.now.Unix(), End: unix(0, 9)}}},
		{"a weekly window", fmt.Sprintf("time=%d..%d when=tue,thu/08:00Z/1h", unix(0, 0), unix(7, 0)),
			[]qspec.Interval{{Start: unix(1, 8), End: unix(1, 9)}, {Start: unix(3, 8), End: unix(3, 9)}}},
		{"two months of one", fmt.Sprintf("time=%d..%d when=mon-fri/08:00Z/1h", unix(0, 0), unix(60, 0)), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.admit(1, text(t, "tmod=20M/64k class=EF "+c.times), "10.3.0.10")
			w.asked()
			driver := w.pending[0].(DriverHold).Request.Times
			var got []qspec.Interval
			for _, x := range driver {
				got = append(got, qspec.Interval{Start: x.From.Unix(), End: x.Until.Unix()})
			}
			if c.want == nil {
				if len(got) != 44 {
					t.Errorf("%d occurrences, want 44 working days", len(got))
				}
			} else if !slices.Equal(got, c.want) {
				t.Errorf("the driver has %v, want %v", got, c.want)
			}
			for _, b := range w.ledger.Bookings(slsID(sid1)) {
				if !slices.EqualFunc(b.Intervals, driver, func(x sls.Interval, y intradomain.Interval) bool {
					return x.From.Equal(y.From) && x.Until.Equal(y.Until)
				}) {
					t.Errorf("%s has %v, the driver %v", b.SLS, b.Intervals, driver)
				}
			}
			w.answer(nil)
			v := w.verdict()
			w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
			put := w.pending[0].(StorePut)
			w.answer(nil)
			if v := w.verdict(); !v.Accept {
				t.Fatalf("not committed: %v; %+v", v.Info, w.notes)
			}
			// A restart knows the times.
			before, _ := w.m.DriverRequest(sid1)
			w.m = w.newMachine()
			w.do(Restore{put.Record})
			after, _ := w.m.DriverRequest(sid1)
			if len(before.Times) == 0 || !slices.Equal(before.Times, after.Times) {
				t.Errorf("before the restart %v, after it %v", before.Times, after.Times)
			}
		})
	}
	t.Run("too many occurrences", func(t *testing.T) {
		w := newWorld(t)
		w.admit(1, text(t, fmt.Sprintf("tmod=20M/64k class=EF time=%d..%d when=mon-fri/08:00Z/1h", unix(0, 0), unix(1000, 0))), "10.3.0.10")
		v := w.verdict()
		if answer := parsed(t, v.ResponseQSPEC); v.Accept || !answer.Desired.Failed.Has(qspec.RelativeTimeID) {
			t.Errorf("verdict %v, answer %v", v.Info, answer)
		}
		w.nothing()
	})
}

// interdomain-qosm §2: kind 0, "the first QNE turns it into an Absolute one", and
// leaves the Initiator QSPEC as the initiator wrote it.
func TestFirstQNEMakesTimesAbsolute(t *testing.T) {
	w := newWorld(t)
	q, err := qspec.ParseText("tmod=20M/64k class=EF when=in/10m/2h")
	if err != nil {
		t.Fatal(err)
	}
	w.ticket++
	w.do(Asked{qosnslp.Question{Ticket: w.ticket, Kind: qosnslp.Admit, SID: sid1, RSN: 1, Upstream: qosnslp.Local,
		MRI: wire.MRI{Method: wire.OffPath, Flow: flow("10.3.0.10")}, Message: &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: q.Append(nil)}}})
	w.answer(nil)
	v := w.verdict()
	if !v.Accept {
		t.Fatalf("refused %v; %+v", v.Info, w.notes)
	}
	out := parsed(t, v.QSPEC)
	at := w.now.Unix() + 600
	if want := []qspec.Interval{{Start: at, End: at + 7200}}; !slices.Equal(out.Desired.Absolute, want) || out.Desired.Has.Has(qspec.RelativeTimeID) || !out.Desired.Must.Has(qspec.AbsoluteTimeID) {
		t.Errorf("QoS Desired %v, want %v, M=1", out.Desired, want)
	}
	initiator, err := out.Initiator()
	if err != nil || initiator.String() != q.String() {
		t.Errorf("Initiator QSPEC %v, want %v, %v", initiator, q, err)
	}
}

// RFC 5975 §3.2: what is read-only stays, and nobody adds resources on the way: a
// RESPONSE that says so is not committed.
func TestResponseThatChangesWhatItMayNot(t *testing.T) {
	for name, change := range map[string]func(*qspec.QSPEC){
		"more in QoS Available":   func(q *qspec.QSPEC) { q.Available.TMOD1.Rate *= 2 },
		"less latency":            func(q *qspec.QSPEC) { q.Available.PathLatency = 1 },
		"another class reserved":  func(q *qspec.QSPEC) { q.Reserved.PHB = qspec.PHB(10) },
		"a parameter left out":    func(q *qspec.QSPEC) { q.Reserved.Has &^= qspec.SetOf(qspec.PHBClassID) },
		"another procedure":       func(q *qspec.QSPEC) { q.Combination = 1 },
		"less in QoS Reserved":    func(q *qspec.QSPEC) { q.Reserved.TMOD1.Rate /= 2 },
		"an N flag is taken back": func(q *qspec.QSPEC) { q.Available.Unsupported = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(west, "delay: 5ms")
			w.admit(1, text(t, "tmod=20M/64k class=EF latency<=40ms per<=0.01"), "10.3.0.10")
			w.answer(nil)
			v := w.verdict()
			msg := response(t, v.QSPEC, 0)
			q := parsed(t, msg.QSPEC)
			change(&q)
			msg.QSPEC = q.Append(nil)
			w.ask(qosnslp.Commit, 1, msg)
			w.answer(nil)
			if v := w.verdict(); v.Accept {
				t.Error("committed")
			}
			w.nothing()
		})
	}
}

// A class without a rate leaves the first QNE nothing to put into QoS Available but the
// border ids, and its own initiator is not told of them.
func TestRelativeFromTheFirstQNE(t *testing.T) {
	w := newWorld(t)
	docs, err := sls.Parse("sls", []byte(strings.Replace(east, "{class: EF, cir: 40M, pir: 40M}", "{class: AF41, relative: true}", 1)))
	if err == nil {
		_, err = w.ledger.Put(w.now, docs[0], "test")
	}
	q, qerr := qspec.ParseText("class=AF41")
	if err != nil || qerr != nil {
		t.Fatal(err, qerr)
	}
	ask := func(kind qosnslp.QuestionKind, msg *nslpwire.Message) qosnslp.Verdict {
		w.ticket++
		w.do(Asked{qosnslp.Question{Ticket: w.ticket, Kind: kind, SID: sid1, RSN: 1, Upstream: qosnslp.Local,
			MRI: wire.MRI{Method: wire.OffPath, Flow: flow("10.3.0.10")}, Message: msg, Snapshot: []byte("snapshot")}})
		w.answer(nil)
		return w.verdict()
	}
	v := ask(qosnslp.Admit, &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: q.Append(nil)})
	if !v.Accept {
		t.Fatalf("refused %v; %+v", v.Info, w.notes)
	}
	out := parsed(t, v.QSPEC)
	if err := out.Check(qspec.InReserve); err != nil || out.Available.Egress.Addr != addr("192.0.2.5") {
		t.Errorf("%v: %v", out, err)
	}
	v = ask(qosnslp.Commit, response(t, v.QSPEC, 0))
	if !v.Accept {
		t.Fatalf("not committed %v; %+v", v.Info, w.notes)
	}
	answer := parsed(t, v.ResponseQSPEC)
	if e, has := answer.Egress(); has {
		t.Errorf("the initiator sees %v", e)
	}
}

// A RESERVE against the flow is taken over the border that its QUERY left by, and with
// the ids that were written into that, only.
func TestReceiverInitiatedIDs(t *testing.T) {
	initiator, err := qspec.ParseText("initiator type=0 proc=1/0 desired{tmod=20M/64k class=EF}")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*qspec.QSPEC)
		mri    func(*wire.MRI)
		ok     bool
	}{
		"as the QUERY left": {ok: true},
		"another egress":    {change: func(q *qspec.QSPEC) { q.SetEgress(qspec.BorderID{AS: 65002, Addr: addr("192.0.2.2")}) }},
		"another AS":        {change: func(q *qspec.QSPEC) { q.SetIngress(qspec.BorderID{AS: 65009, Addr: addr("192.0.2.6")}) }},
		"another border":    {mri: func(m *wire.MRI) { m.Egress, m.Ingress = addr("192.0.2.2"), addr("192.0.2.1") }},
		"sequence 0":        {change: func(q *qspec.QSPEC) { q.Sequence, q.Combination = qspec.SenderInitiated, 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l, err := qspec.Encapsulate(&initiator, qspec.InReserve)
			if err != nil {
				t.Fatal(err)
			}
			l.SetEgress(qspec.BorderID{AS: 65002, Addr: addr("192.0.2.5")})
			l.SetIngress(qspec.BorderID{AS: 65003, Addr: addr("192.0.2.6")})
			if c.change != nil {
				c.change(&l)
			}
			mri := wire.MRI{Method: wire.OffPath, Flow: flow("10.3.0.10"), Upstream: true, Egress: addr("192.0.2.5"), Ingress: addr("192.0.2.6")}
			if c.mri != nil {
				c.mri(&mri)
			}
			w.ticket++
			w.do(Asked{qosnslp.Question{Ticket: w.ticket, Kind: qosnslp.Admit, SID: sid1, RSN: 1, Upstream: 65003, Downstream: 65001, MRI: mri,
				DownstreamMRI: wire.MRI{Method: wire.OffPath, Flow: mri.Flow, Upstream: true, Egress: addr("192.0.2.1"), Ingress: addr("192.0.2.2")},
				Message:       &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: l.Append(nil)}}})
			w.answer(nil)
			v := w.verdict()
			if v.Accept != c.ok {
				t.Fatalf("accepted %t, %v; %+v", v.Accept, v.Info, w.notes)
			}
			if !c.ok {
				w.nothing()
				return
			}
			// On over the border that the QUERY came in by, with that one's ids.
			out := parsed(t, v.QSPEC)
			e, _ := out.Egress()
			i, _ := out.Ingress()
			if (e != qspec.BorderID{AS: 65001, Addr: addr("192.0.2.1")}) || (i != qspec.BorderID{AS: 65002, Addr: addr("192.0.2.2")}) {
				t.Errorf("Egress ID %v, Ingress ID %v", e, i)
			}
			w.sold(0, 20e6)
		})
	}
}
