package interdomain

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// The domain under test is AS65002 between AS65001 and AS65003.
const (
	west = `{id: west, customer: 65001, provider: 65002, egress: 192.0.2.1, ingress: 192.0.2.2,
  scope: {destinations: [any], sources: [any]}, classes: [{class: EF, cir: 80M, pir: 80M}]}`
	east = `{id: east, customer: 65002, provider: 65003, egress: 192.0.2.5, ingress: 192.0.2.6,
  scope: {destinations: [10.3.0.0/16], sources: [any]}, classes: [{class: EF, cir: 40M, pir: 40M}]}`
)

var borderTable = []Border{
	{Name: "west", Internal: addr("10.2.0.2"), External: addr("192.0.2.2"), NeighborAS: 65001, Neighbor: addr("192.0.2.1"), PeerQNEs: []netip.Addr{addr("10.1.0.1")}},
	{Name: "east", Internal: addr("10.2.0.3"), External: addr("192.0.2.5"), NeighborAS: 65003, Neighbor: addr("192.0.2.6"), PeerQNEs: []netip.Addr{addr("10.3.0.1")}},
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// routeMap is a routing table by destination.
type routeMap map[string]Route

func (r routeMap) Lookup(a netip.Addr) (Route, bool) { rt, ok := r[a.String()]; return rt, ok }

// world is a Machine with a real ledger; its driver and store answer when the
// test says so.
type world struct {
	t       *testing.T
	m       *Machine
	now     time.Time
	ledger  *sls.Ledger
	pending []Action // for driver and store, not answered yet
	answers []qosnslp.Verdict
	notes   []Note
	ticket  uint64
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), ledger: sls.New(sls.Config{})}
	docs, err := sls.Parse("slss", []byte(west+"\n---\n"+east))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if _, err := w.ledger.Put(w.now, d, "test"); err != nil {
			t.Fatal(err)
		}
	}
	w.m = w.newMachine()
	return w
}

func (w *world) newMachine() *Machine {
	return New(Config{AS: 65002, Borders: borderTable, Routes: routeMap{
		"10.3.0.10": {NextHop: addr("192.0.2.6"), NextAS: 65003},
		"10.2.0.10": {Local: true},
		"10.1.0.10": {NextHop: addr("192.0.2.1"), NextAS: 65001},
		"10.9.0.10": {NextHop: addr("203.0.113.9"), NextAS: 65009},
	}})
}

// do hands an event to the machine and follows its actions as far as the ledger.
func (w *world) do(ev Event) {
	w.t.Helper()
	var asked Asked
	if e, ok := ev.(Asked); ok { // by pointer, of which nothing is kept
		asked, ev = e, &asked
	}
	actions := slices.Clone(w.m.Handle(w.now, ev))
	asked = Asked{}
	for _, a := range actions {
		switch a := a.(type) {
		case SLSHold:
			g, err := w.ledger.Hold(w.now, a.Request)
			w.do(SLSHeld{Ref: a.Ref, Grant: g, Err: err})
		case SLSCommit:
			b, err := w.ledger.Commit(w.now, a.ID, a.Version, a.Rate)
			w.do(SLSCommitted{Ref: a.Ref, Bookings: b, Err: err})
		case SLSDrop:
			w.ledger.Drop(a.ID, a.Version)
		case SLSRelease:
			w.ledger.Release(a.ID)
		case Answer:
			w.answers = append(w.answers, a.Verdict)
		case Note:
			w.notes = append(w.notes, a)
		default:
			w.pending = append(w.pending, a)
		}
	}
}

// answer lets driver and store answer everything that waits, with errors by the
// kind of action where there are any.
func (w *world) answer(errs map[string]error) {
	w.t.Helper()
	for len(w.pending) > 0 {
		a := w.pending[0]
		w.pending = w.pending[1:]
		switch a := a.(type) {
		case DriverHold:
			w.do(DriverDone{a.Ref, errs["hold"]})
		case DriverCommit:
			w.do(DriverDone{a.Ref, errs["commit"]})
		case DriverDrop:
			w.do(DriverDone{a.Ref, errs["drop"]})
		case DriverRelease:
			w.do(DriverDone{a.Ref, errs["release"]})
		case StorePut:
			w.do(StoreDone{a.Ref, errs["put"]})
		case StoreDelete:
			w.do(StoreDone{a.Ref, errs["delete"]})
		default:
			w.t.Fatalf("unexpected action %T", a)
		}
	}
}

// verdict takes the one verdict that has been given since the last call.
func (w *world) verdict() qosnslp.Verdict {
	w.t.Helper()
	if len(w.answers) != 1 {
		w.t.Fatalf("%d verdicts, want 1: %+v", len(w.answers), w.answers)
	}
	v := w.answers[0]
	w.answers = nil
	if v.Ticket != w.ticket {
		w.t.Fatalf("verdict for ticket %d, want %d", v.Ticket, w.ticket)
	}
	return v
}

var sid1 = wire.SID{1}

func flow(dst string) wire.Flow {
	return wire.Flow{
		Source: netip.MustParsePrefix("10.1.0.10/32"), Destination: netip.PrefixFrom(addr(dst), 32),
		HasProtocol: true, Protocol: 17, HasDstPort: true, DstPort: 5001,
	}
}

// local is the Local QSPEC that AS65001 would send for a rate in bit/s.
func local(t *testing.T, rate, least uint64, edit func(*qspec.QSPEC)) []byte {
	t.Helper()
	phb := qspec.PHB(46)
	q, err := qspec.NewInitiator(qspec.Ask{CIR: rate / 8, LeastCIR: least / 8, PHB: &phb})
	if err != nil {
		t.Fatal(err)
	}
	l, err := qspec.Encapsulate(&q, qspec.InReserve)
	if err != nil {
		t.Fatal(err)
	}
	l.SetEgress(qspec.BorderID{AS: 65001, Addr: addr("192.0.2.1")})
	l.SetIngress(qspec.BorderID{AS: 65002, Addr: addr("192.0.2.2")})
	if edit != nil {
		edit(&l)
	}
	return l.Append(nil)
}

// admit asks for admission as a RESERVE of AS65001 would.
func (w *world) admit(version uint32, q []byte, dst string) {
	w.t.Helper()
	w.ticket++
	w.do(Asked{qosnslp.Question{
		Ticket: w.ticket, Kind: qosnslp.Admit, SID: sid1, RSN: version, Upstream: 65001,
		MRI:     wire.MRI{Method: wire.OffPath, Flow: flow(dst)},
		In:      gist.RecvMessage{Peer: addr("10.1.0.1"), Via: addr("10.2.0.2")},
		Message: &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: q},
	}})
}

func (w *world) ask(k qosnslp.QuestionKind, version uint32, msg *nslpwire.Message) {
	w.t.Helper()
	w.ticket++
	w.do(Asked{qosnslp.Question{
		Ticket: w.ticket, Kind: k, SID: sid1, RSN: version, Upstream: 65001, Downstream: 65003,
		Message: msg, Snapshot: []byte("snapshot"),
	}})
}

// response is what AS65003 answers to what it was sent.
func response(t *testing.T, sent []byte, rate uint64) *nslpwire.Message {
	t.Helper()
	q, err := qspec.Parse(sent)
	if err != nil {
		t.Fatal(err)
	}
	if rate != 0 {
		q.OfferRate(rate)
	}
	r, err := q.Respond()
	if err != nil {
		t.Fatal(err)
	}
	rec, err := nslpwire.AppendDomainRecord(nil, nslpwire.DomainRecord{AS: 65003, Verdict: nslpwire.VerdictCommitted})
	if err != nil {
		t.Fatal(err)
	}
	return &nslpwire.Message{
		Type: nslpwire.Response, HasInfoSpec: true, InfoSpec: nslpwire.InfoSpec{Class: nslpwire.ClassSuccess, Code: 1},
		QSPEC: r.Append(nil), Objects: []nslpwire.Object{{Action: nslpwire.Forward, Type: nslpwire.DomainRecords, Value: rec}},
	}
}

func (w *world) records(v qosnslp.Verdict) []nslpwire.DomainRecord {
	w.t.Helper()
	if len(v.Extra) != 1 || v.Extra[0].Type != nslpwire.DomainRecords {
		w.t.Fatalf("Extra = %+v, want one DOMAIN-RECORDS", v.Extra)
	}
	recs, err := nslpwire.ParseDomainRecords(v.Extra[0].Value)
	if err != nil {
		w.t.Fatal(err)
	}
	return recs
}

// sold checks what the ledger has on both SLSs, in bit/s.
func (w *world) sold(committed, held uint64) {
	w.t.Helper()
	for _, id := range []string{"west", "east"} {
		u, err := w.ledger.Usage(id, 46, w.now)
		if err != nil {
			w.t.Fatal(err)
		}
		if 8*u.Committed != committed || 8*u.Held != held {
			w.t.Errorf("SLS %s: committed %d, held %d bit/s; want %d and %d", id, 8*u.Committed, 8*u.Held, committed, held)
		}
	}
}

// nothing checks that the machine, the ledger and the driver are done.
func (w *world) nothing() {
	w.t.Helper()
	w.sold(0, 0)
	if w.m.Len() != 0 || len(w.pending) != 0 {
		w.t.Errorf("%d sessions, %d actions wait; want none", w.m.Len(), len(w.pending))
	}
}

// reserve brings the session to committed at rate.
func (w *world) reserve(version uint32, rate uint64) qosnslp.Verdict {
	w.t.Helper()
	w.admit(version, local(w.t, rate, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	if !v.Accept {
		w.t.Fatalf("refused: %+v; %+v", v, w.notes)
	}
	w.ask(qosnslp.Commit, version, response(w.t, v.QSPEC, 0))
	w.answer(nil)
	if c := w.verdict(); !c.Accept {
		w.t.Fatalf("not committed: %+v; %+v", c, w.notes)
	}
	return v
}

func TestAdmitHoldsOnBothSidesAndNamesTheNextIngress(t *testing.T) {
	// interdomain-qosm §6: RESERVE from a peer → authenticate → SLS → policy →
	// hold → intra-domain hold from ingress to egress → next domain
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	if len(w.pending) != 1 {
		t.Fatalf("actions %+v, want one DriverHold", w.pending)
	}
	h, ok := w.pending[0].(DriverHold)
	if !ok || h.Request.Ingress != addr("192.0.2.2") || h.Request.Egress != addr("192.0.2.5") || h.Request.QoS.CIR != 20e6/8 {
		t.Fatalf("driver asked for %+v, want 192.0.2.2 to 192.0.2.5 with 2,500,000 octets/s", w.pending[0])
	}
	w.sold(0, 20e6)
	w.answer(nil)
	v := w.verdict()
	if !v.Accept || v.Last || v.NextPeer != 65003 || v.Next.Egress != addr("192.0.2.5") || v.Next.Ingress != addr("192.0.2.6") {
		t.Fatalf("verdict %+v, want on to AS65003 by 192.0.2.5 and 192.0.2.6", v)
	}
	q, err := qspec.Parse(v.QSPEC)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := q.Egress()
	i, _ := q.Ingress()
	if e != (qspec.BorderID{AS: 65002, Addr: addr("192.0.2.5")}) || i != (qspec.BorderID{AS: 65003, Addr: addr("192.0.2.6")}) {
		t.Errorf("Egress ID %+v, Ingress ID %+v", e, i)
	}
}

func TestCommitIsDurableBeforeTheVerdict(t *testing.T) {
	// interdomain-qosm §6: success RESPONSE: commit (durably), then forward
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
	put, ok := w.pending[0].(StorePut)
	if !ok || put.Record.Version != 1 || len(put.Record.Bookings) != 2 || string(put.Record.Session) != "snapshot" {
		t.Fatalf("first action %+v, want a StorePut with two bookings and the snapshot", w.pending[0])
	}
	commit := w.pending[1].(DriverCommit)
	w.pending = nil
	w.do(DriverDone{commit.Ref, nil})
	if len(w.answers) != 0 {
		t.Fatalf("verdict %+v before the store has answered", w.answers)
	}
	w.do(StoreDone{put.Ref, nil})
	c := w.verdict()
	if !c.Accept {
		t.Fatalf("verdict %+v, want accepted", c)
	}
	recs := w.records(c)
	if len(recs) != 2 || recs[0].AS != 65003 || recs[1].AS != 65002 || recs[1].Verdict != nslpwire.VerdictCommitted || recs[1].SLSID != "west" {
		t.Errorf("records %+v, want AS65003's, then ours on SLS west", recs)
	}
	w.sold(20e6, 0)
}

func TestResponseRestoresEgressAndIngressAsReceived(t *testing.T) {
	// interdomain-qosm §2: in RESPONSE restores the values that it had received,
	// so that no domain sees another's inside
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
	w.answer(nil)
	q, err := qspec.Parse(w.verdict().ResponseQSPEC)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := q.Egress()
	i, _ := q.Ingress()
	if e.AS != 65001 || e.Addr != addr("192.0.2.1") || i.AS != 65002 || i.Addr != addr("192.0.2.2") {
		t.Errorf("Egress ID %+v, Ingress ID %+v; want what AS65001 had sent", e, i)
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name    string
		rule    string
		qspec   func(t *testing.T) []byte
		dst     string
		via     string
		class   nslpwire.ErrorClass
		code    uint8
		largest uint64 // bit/s
	}{
		{"capacity of the next SLS", "interdomain-qosm §7: the largest rate that the path so far and itself could give",
			func(t *testing.T) []byte { return local(t, 60e6, 0, nil) }, "10.3.0.10", "10.2.0.2", 6, CodeNoCapacity, 40e6},
		{"no SLS", "interdomain-qosm §1: 64 no SLS covers the request",
			func(t *testing.T) []byte {
				return local(t, 1e6, 0, func(q *qspec.QSPEC) { q.Desired.PHB, q.Minimum.PHB = qspec.PHB(10), qspec.PHB(10) })
			}, "10.3.0.10", "10.2.0.2", 6, CodeNoSLS, 0},
		{"AS in Egress ID", "interdomain-qosm §4: AS in Egress ID = AS of the certificate = customer of the SLS",
			func(t *testing.T) []byte {
				return local(t, 1e6, 0, func(q *qspec.QSPEC) { q.SetEgress(qspec.BorderID{AS: 65009, Addr: addr("192.0.2.1")}) })
			}, "10.3.0.10", "10.2.0.2", 5, 2, 0},
		{"AS in Ingress ID", "interdomain-qosm §4: AS in Ingress ID = its own",
			func(t *testing.T) []byte {
				return local(t, 1e6, 0, func(q *qspec.QSPEC) { q.SetIngress(qspec.BorderID{AS: 65009, Addr: addr("192.0.2.2")}) })
			}, "10.3.0.10", "10.2.0.2", 5, 2, 0},
		{"interface in Ingress ID", "interdomain-qosm §4: interface = that of the relaying edge",
			func(t *testing.T) []byte {
				return local(t, 1e6, 0, func(q *qspec.QSPEC) { q.SetIngress(qspec.BorderID{AS: 65002, Addr: addr("192.0.2.5")}) })
			}, "10.3.0.10", "10.2.0.2", 5, 2, 0},
		{"another neighbour's edge", "interdomain-qosm §4: interface = that of the relaying edge",
			func(t *testing.T) []byte { return local(t, 1e6, 0, nil) }, "10.3.0.10", "10.2.0.3", 5, 2, 0},
		{"no route", "", func(t *testing.T) []byte { return local(t, 1e6, 0, nil) }, "10.8.0.10", "10.2.0.2", 4, 7, 0},
		{"route to no border of ours", "", func(t *testing.T) []byte { return local(t, 1e6, 0, nil) }, "10.9.0.10", "10.2.0.2", 4, 7, 0},
		{"route back", "", func(t *testing.T) []byte { return local(t, 1e6, 0, nil) }, "10.1.0.10", "10.2.0.2", 4, 7, 0},
		{"no QSPEC", "RFC 5974 §5.4.1", func(*testing.T) []byte { return nil }, "10.3.0.10", "10.2.0.2", 4, 4, 0},
		{"garbage QSPEC", "RFC 5975 §4.2.3", func(*testing.T) []byte { return []byte{1, 2, 3, 4} }, "10.3.0.10", "10.2.0.2", 3, 12, 0},
		{"a time that has passed", "interdomain-qosm §2: Composition is intersection; an empty one fails with E",
			func(t *testing.T) []byte {
				return local(t, 1e6, 0, func(q *qspec.QSPEC) {
					q.Desired.Has |= qspec.SetOf(qspec.AbsoluteTimeID)
					q.Desired.Absolute = []qspec.Interval{{Start: 1, End: 2}}
				})
			}, "10.3.0.10", "10.2.0.2", 4, 7, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.ticket++
			w.do(Asked{qosnslp.Question{
				Ticket: w.ticket, Kind: qosnslp.Admit, SID: sid1, RSN: 1, Upstream: 65001,
				MRI:     wire.MRI{Method: wire.OffPath, Flow: flow(c.dst)},
				In:      gist.RecvMessage{Peer: addr("10.1.0.1"), Via: addr(c.via)},
				Message: &nslpwire.Message{Type: nslpwire.Reserve, QSPEC: c.qspec(t)},
			}})
			v := w.verdict()
			if v.Accept || v.Info.Class != c.class || v.Info.Code != c.code {
				t.Fatalf("%s: verdict %+v, want refused with %d/%d; notes %+v", c.rule, v, c.class, c.code, w.notes)
			}
			recs := w.records(v)
			if len(recs) != 1 || recs[0].AS != 65002 || recs[0].Verdict != nslpwire.VerdictRefused || 8*uint64(recs[0].Largest) != c.largest {
				t.Errorf("records %+v, want ours, refused, largest %d bit/s", recs, c.largest)
			}
			if c.largest != 0 {
				q, err := qspec.Parse(v.ResponseQSPEC)
				if err != nil {
					t.Fatal(err)
				}
				if 8*q.Largest() != c.largest || !q.Available.Failed.Has(qspec.TMOD1ID) {
					t.Errorf("RESPONSE offers %d bit/s, E %t; want %d with E", 8*q.Largest(), q.Available.Failed.Has(qspec.TMOD1ID), c.largest)
				}
			}
			w.nothing()
		})
	}
}

func TestDriverOfferLowersQoSAvailable(t *testing.T) {
	// interdomain-qosm §2: A domain that has less lowers QoS Available and goes
	// on; only below Minimum QoS does it refuse.
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 5e6, nil), "10.3.0.10")
	h := w.pending[0].(DriverHold)
	w.pending = nil
	w.do(DriverDone{h.Ref, &intradomain.Refusal{Where: "link a-b", Reason: "full", Offer: 10e6 / 8}})
	if h = w.pending[0].(DriverHold); h.Request.QoS.CIR != 10e6/8 {
		t.Fatalf("driver asked for %d octets/s, want its offer", h.Request.QoS.CIR)
	}
	w.answer(nil)
	v := w.verdict()
	q, err := qspec.Parse(v.QSPEC)
	if err != nil || !v.Accept {
		t.Fatalf("verdict %+v, %v", v, err)
	}
	if q.Rate() != 10e6/8 {
		t.Errorf("QoS Available says %d octets/s, want 1,250,000", q.Rate())
	}
	// At commit every hold shrinks to QoS Reserved.
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 8e6/8))
	if c := w.pending[1].(DriverCommit); c.CIR != 1e6 {
		t.Errorf("driver commits %d octets/s, want what the path reserved", c.CIR)
	}
	w.answer(nil)
	w.verdict()
	w.sold(8e6, 0)
}

func TestDriverRefusalBelowMinimum(t *testing.T) {
	// interdomain-qosm §1: 67 intra-domain control refuses or failed
	for _, err := range []error{&intradomain.Refusal{Where: "link a-b", Reason: "full", Offer: 2e6 / 8}, errors.New("no connection")} {
		w := newWorld(t)
		w.admit(1, local(t, 20e6, 5e6, nil), "10.3.0.10")
		w.answer(map[string]error{"hold": err})
		v := w.verdict()
		if v.Accept || v.Info.Class != 6 || v.Info.Code != CodeIntraDomain {
			t.Errorf("%v: verdict %+v, want refused with 6/67", err, v)
		}
		w.nothing()
	}
}

func TestFailGivesUpTheHold(t *testing.T) {
	// interdomain-qosm §6: failure: release, add the record, forward
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	msg := response(t, v.QSPEC, 0)
	msg.InfoSpec = nslpwire.InfoSpec{Class: 6, Code: CodeNoCapacity}
	w.ask(qosnslp.Fail, 1, msg)
	if _, ok := w.pending[0].(DriverDrop); !ok {
		t.Fatalf("actions %+v, want a DriverDrop", w.pending)
	}
	w.answer(nil)
	f := w.verdict()
	if f.Info.Code != CodeNoCapacity {
		t.Errorf("INFO-SPEC %+v, want the one of the RESPONSE", f.Info)
	}
	if recs := w.records(f); recs[len(recs)-1].Verdict != nslpwire.VerdictReleased {
		t.Errorf("records %+v, want ours to say released", recs)
	}
	w.nothing()
}

func TestCommitWithoutHoldIsRefused(t *testing.T) {
	// interdomain-qosm §6: a success RESPONSE for which there is no hold, or
	// whose commit fails, is turned into release at the driver, TEAR downstream,
	// error upstream.
	w := newWorld(t)
	w.ask(qosnslp.Commit, 1, nil)
	if v := w.verdict(); v.Accept || !v.Info.IsError() {
		t.Errorf("verdict %+v, want refused", v)
	}
	for _, kind := range []string{"commit", "put"} {
		w := newWorld(t)
		w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
		w.answer(nil)
		v := w.verdict()
		w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
		w.answer(map[string]error{kind: errors.New("broken")})
		if v := w.verdict(); v.Accept || v.Info.Code != CodeIntraDomain {
			t.Errorf("%s failed: verdict %+v, want refused", kind, v)
		}
		w.nothing()
	}
}

// RFC 5974 §5.2.5.2: "Refresh successful" means that the next domain has it
// already. All or nothing, the amount is known without a QSPEC; where less
// would do it is not, and the RESPONSE has to say it.
func TestSuccessWithoutQSPEC(t *testing.T) {
	for _, c := range []struct {
		least uint64
		want  bool
	}{{0, true}, {5e6, false}} {
		w := newWorld(t)
		w.admit(1, local(t, 20e6, c.least, nil), "10.3.0.10")
		w.answer(nil)
		msg := response(t, w.verdict().QSPEC, 0)
		msg.QSPEC = nil
		msg.InfoSpec.Code = nslpwire.RefreshSuccessful
		w.ask(qosnslp.Commit, 1, msg)
		w.answer(nil)
		if v := w.verdict(); v.Accept != c.want {
			t.Errorf("least rate %d: accepted %t, want %t; %+v", c.least, v.Accept, c.want, w.notes)
		}
	}
}

func TestHoldThatExpiredCannotBeCommitted(t *testing.T) {
	// interdomain-qosm §6: A hold lasts 60 s
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	w.now = w.now.Add(61 * time.Second)
	w.ledger.Expire(w.now)
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
	w.answer(nil)
	if v := w.verdict(); v.Accept {
		t.Error("committed a hold that had expired")
	}
	w.nothing()
}

func TestModification(t *testing.T) {
	// interdomain-qosm §6: A raise holds the difference; the old amount stays
	// until the commit.
	w := newWorld(t)
	w.reserve(1, 20e6)
	w.admit(2, local(t, 30e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	if !v.Accept {
		t.Fatalf("raise refused: %+v", w.notes)
	}
	w.sold(20e6, 10e6)
	w.ask(qosnslp.Commit, 2, response(t, v.QSPEC, 0))
	w.answer(nil)
	w.verdict()
	w.sold(30e6, 0)

	w.admit(3, local(t, 60e6, 0, nil), "10.3.0.10")
	if v := w.verdict(); v.Accept || v.Info.Class != 6 {
		t.Errorf("verdict %+v, want refused with class 6", v)
	}
	w.sold(30e6, 0)
	if i, ok := w.m.Session(sid1); !ok || i.State != Committed || i.Version != 2 || i.Rate != 30e6/8 {
		t.Errorf("session %+v, %t; want version 2 as committed", i, ok)
	}
}

func TestReleaseTriesUntilItIsDone(t *testing.T) {
	w := newWorld(t)
	w.reserve(1, 20e6)
	w.ask(qosnslp.Release, 1, nil)
	w.answer(map[string]error{"release": errors.New("gateway does not answer")})
	if v := w.verdict(); !v.Accept {
		t.Errorf("verdict %+v: the session is over whatever the driver says", v)
	}
	w.sold(0, 0)
	if w.m.Len() != 1 {
		t.Fatal("the session was forgotten before the driver had released it")
	}
	w.admit(2, local(t, 1e6, 0, nil), "10.3.0.10")
	if v := w.verdict(); v.Accept {
		t.Error("reserved again while the driver still has the old reservation")
	}
	d := w.m.Deadline()
	if got := d.Sub(w.now); got != time.Second {
		t.Fatalf("tries again in %s, want 1s", got)
	}
	w.now = d
	w.do(nil)
	if len(w.pending) != 1 {
		t.Fatalf("actions %+v, want the driver alone asked again", w.pending)
	}
	w.answer(nil)
	w.nothing()
}

func TestReleaseWhileTheDriverIsAtWork(t *testing.T) {
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	hold := w.pending[0]
	w.pending = nil
	w.ask(qosnslp.Release, 1, nil)
	if len(w.pending) != 0 || len(w.answers) != 0 {
		t.Fatalf("%+v %+v: want to wait for the hold's answer", w.pending, w.answers)
	}
	w.pending = append(w.pending, hold)
	w.answer(nil)
	if v := w.verdict(); !v.Accept {
		t.Errorf("verdict %+v", v)
	}
	w.nothing()

	w = newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
	w.ask(qosnslp.Release, 1, nil)
	w.answer(nil)
	if v := w.verdict(); !v.Accept {
		t.Errorf("verdict %+v", v)
	}
	w.nothing()
}

func TestRestore(t *testing.T) {
	// interdomain-qosm §6: Driver holds that no stored reservation names are
	// released at start-up: DriverRequests names those that there are.
	w := newWorld(t)
	w.admit(1, local(t, 20e6, 0, nil), "10.3.0.10")
	w.answer(nil)
	v := w.verdict()
	w.ask(qosnslp.Commit, 1, response(t, v.QSPEC, 0))
	rec := w.pending[0].(StorePut).Record
	w.answer(nil)
	w.verdict()
	before, _ := w.m.Session(sid1)
	w.m = w.newMachine()
	w.do(Restore{rec})
	after, ok := w.m.Session(sid1)
	before.Since = time.Time{}
	if !ok || !reflect.DeepEqual(after, before) {
		t.Errorf("restored %+v\nwant     %+v", after, before)
	}
	rs := w.m.DriverRequests()
	if len(rs) != 1 || rs[0].ID != intradomain.ID(sid1) || rs[0].QoS.CIR != 20e6/8 {
		t.Errorf("DriverRequests %+v", rs)
	}
	w.ask(qosnslp.Release, 1, nil)
	w.answer(nil)
	w.verdict()
	w.nothing()
}

func TestRestoreOfGarbageIsNoted(t *testing.T) {
	w := newWorld(t)
	w.do(Restore{Record{ID: sls.ID{1}, Domain: []byte{9}}})
	if len(w.notes) != 1 || !strings.Contains(w.notes[0].Detail, "version 9, this program reads 3") {
		t.Errorf("notes %+v", w.notes)
	}
	if w.m.Len() != 0 {
		t.Error("a session was made of it")
	}
}

func FuzzDecodeDomain(f *testing.F) {
	t := Terms{Flow: flow("10.3.0.10"), Class: 46, Rate: 1, SLSIn: "west", Ingress: addr("192.0.2.2"),
		Inside: 44, Excess: intradomain.Excess{Treatment: intradomain.ExcessRemark, DSCP: 14}, Times: []qspec.Interval{{Start: -1, End: 2}}}
	f.Add(encodeDomain(65001, 65003, &t))
	v6 := Terms{Flow: wire.Flow{Source: netip.MustParsePrefix("2001:db8::/32"), Destination: netip.MustParsePrefix("2001:db8:3::1/128")}, Relative: true}
	f.Add(encodeDomain(0, 0, &v6))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		up, down, terms, err := decodeDomain(b)
		if err != nil {
			return
		}
		again := encodeDomain(up, down, &terms)
		u2, d2, t2, err := decodeDomain(again)
		if err != nil || u2 != up || d2 != down || !reflect.DeepEqual(t2, terms) {
			t.Fatalf("decode, encode, decode: %v\n%+v\n%+v", err, terms, t2)
		}
	})
}

func TestDecodeDomainTruncated(t *testing.T) {
	terms := Terms{Flow: flow("10.3.0.10"), Class: 46, Rate: 1, SLSIn: "west", Times: []qspec.Interval{{Start: 1, End: 2}}}
	b := encodeDomain(65001, 65003, &terms)
	for n := range b {
		if _, _, _, err := decodeDomain(b[:n]); err == nil {
			t.Errorf("the first %d of %d octets decode", n, len(b))
		}
	}
}
