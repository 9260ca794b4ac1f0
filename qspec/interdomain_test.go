package qspec

import (
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// mustParse sends q over the wire.
func mustParse(t testing.TB, q QSPEC, in Message) QSPEC {
	t.Helper()
	if err := q.Check(in); err != nil {
		t.Fatalf("%v: %v", err, q)
	}
	got, err := Parse(q.Append(nil))
	if err != nil {
		t.Fatalf("%v: %v", err, q)
	}
	return got
}

// interdomain-qosm §2: "Object combination 2, with Minimum QoS equal to QoS
// Desired if the Initiator sent combination 0 (all or nothing) and to the
// Initiator's own Minimum QoS otherwise; combination 1 only if it accepts any
// reduction."
func TestEncapsulateCombination(t *testing.T) {
	zero := initiatorEF(t)
	ask := askEF()
	ask.LeastCIR = 1_000_000
	two, err := NewInitiator(ask)
	if err != nil {
		t.Fatal(err)
	}
	one := initiatorEF(t)
	one.Combination = 1
	one.Available.copyFrom(&one.Desired, 1<<TMOD1ID)
	onlyRate := one
	onlyRate.Desired = Params{}
	onlyRate.Desired.copyFrom(&one.Desired, 1<<TMOD1ID)

	for _, c := range []struct {
		name        string
		initiator   QSPEC
		combination uint8
		minimum     Params
		least       uint64
	}{
		{"0", zero, 2, zero.Desired, 2_500_000},
		{"2: its own minimum, and the class, which stands in QoS Desired alone", two, 2,
			Params{Has: SetOf(TMOD1ID, PHBClassID), Must: SetOf(TMOD1ID, PHBClassID), PHB: PHB(DSCPEF),
				TMOD1: TMOD{1e6, 64000, infinity, 64, 1500}}, 1_000_000},
		{"1 with a class that has to be met", one, 2,
			Params{Has: SetOf(PHBClassID), Must: SetOf(PHBClassID), PHB: PHB(DSCPEF)}, 0},
		{"1, any reduction accepted", onlyRate, 1, Params{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := Encapsulate(&c.initiator, InReserve)
			if err != nil {
				t.Fatal(err)
			}
			got := mustParse(t, q, InReserve)
			if got.Combination != c.combination || !reflect.DeepEqual(got.Minimum, c.minimum) {
				t.Errorf("combination %d, minimum %v; want %d, %v", got.Combination, got.Minimum, c.combination, c.minimum)
			}
			if !got.Local || got.Type != TypeInterDomain || got.Sequence != SenderInitiated {
				t.Errorf("%v, want a Local QSPEC of type 13, sequence 0", got)
			}
			// RFC 5975 §4.1: "it MUST NOT specify a lower level of resources".
			if short := Exceeds(&c.initiator.Desired, &got.Desired); short != 0 {
				t.Errorf("the local one asks for less %v", short)
			}
			if got.LeastRate() != c.least || got.Rate() != 2_500_000 {
				t.Errorf("rate %d, at least %d; want 2500000, %d", got.Rate(), got.LeastRate(), c.least)
			}
			if inner, err := got.Initiator(); err != nil || !reflect.DeepEqual(inner, c.initiator) {
				t.Errorf("encapsulated %v, %v", inner, err)
			}
		})
	}
}

func TestEncapsulateRefuses(t *testing.T) {
	i := initiatorEF(t)
	if _, err := Encapsulate(&i, InQuery); err == nil {
		t.Error("a sender-initiated QUERY was encapsulated")
	}
	if _, err := Encapsulate(&i, InResponse); err == nil {
		t.Error("a RESPONSE was encapsulated")
	}
	l := localEF(t)
	if _, err := Encapsulate(&l, InReserve); err == nil {
		t.Error("a local one was encapsulated")
	}
	q := QSPEC{Sequence: ResourceQuery, Available: Params{Has: SetOf(PathLatencyID)}}
	got, err := Encapsulate(&q, InQuery)
	if err != nil {
		t.Fatal(err)
	}
	mustParse(t, got, InQuery)
}

// Three domains, enough everywhere: what was asked comes back as reserved.
func TestThreeDomainsSucceed(t *testing.T) {
	q := mustParse(t, localEF(t), InReserve)
	arrived := q
	for as := range uint32(2) {
		if failed := q.OfferRate(1e8); failed != 0 {
			t.Fatalf("domain %d: %v", as, failed)
		}
		q.SetEgress(BorderID{65002 + as, netip.MustParseAddr("127.2.0.2")})
		q = mustParse(t, q, InReserve)
	}
	r, err := q.Respond()
	if err != nil {
		t.Fatal(err)
	}
	r = mustParse(t, r, InResponse)
	if r.Rate() != 2_500_000 || r.Reserved.Has != q.Desired.Has {
		t.Errorf("reserved %v", r)
	}
	r.RestoreBorders(&arrived)
	if e, ok := r.Egress(); !ok || e.AS != 65001 {
		t.Errorf("egress %v, want the one that the request arrived with", e)
	}
	i, err := r.Initiator()
	if err != nil {
		t.Fatal(err)
	}
	mustParse(t, i, InResponse)
	if i.Rate() != 2_500_000 || i.Reserved.FailedAny() {
		t.Errorf("the initiator is told %v", i)
	}
}

// interdomain-qosm §2: "A domain that has less lowers QoS Available and goes on;
// only below Minimum QoS does it refuse."
func TestLowerThenRefuse(t *testing.T) {
	ask := askEF()
	ask.LeastCIR = 1_000_000
	i, err := NewInitiator(ask)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Encapsulate(&i, InReserve)
	if err != nil {
		t.Fatal(err)
	}
	if failed := q.OfferRate(1_500_000); failed != 0 || q.Rate() != 1_500_000 {
		t.Fatalf("lowered to %d, failed %v", q.Rate(), failed)
	}
	r, err := q.Respond()
	if err != nil {
		t.Fatal(err)
	}
	inner, err := r.Initiator()
	if err != nil || inner.Rate() != 1_500_000 || r.Rate() != 1_500_000 {
		t.Fatalf("reserved %d, the initiator is told %v, %v", r.Rate(), inner, err)
	}
	if failed := q.OfferRate(900_000); failed != SetOf(TMOD1ID) || !q.Available.Failed.Has(TMOD1ID) || !q.Available.ObjectFailed {
		t.Fatalf("failed %v: %v", failed, q)
	}
}

// interdomain-qosm §7: "On refusal the refuser writes into QoS Available of the
// RESPONSE the largest rate …, with E on what was short"; RFC 5975 §4.2.5: "E
// flags could still be raised in the latter".
func TestRefusal(t *testing.T) {
	q := mustParse(t, localEF(t), InReserve)
	failed := q.OfferRate(1_250_000)
	if failed != SetOf(TMOD1ID) {
		t.Fatalf("failed %v", failed)
	}
	q.Refuse(1_250_000, failed)
	r := mustParse(t, q.RespondRefusal(), InError)
	if r.Largest() != 1_250_000 || !r.Available.Failed.Has(TMOD1ID) || !r.Available.ObjectFailed {
		t.Errorf("refused with %v", r)
	}
	i, err := r.Initiator()
	if err != nil {
		t.Fatal(err)
	}
	if !i.Desired.Failed.Has(TMOD1ID) || !i.Desired.ObjectFailed {
		t.Errorf("the initiator is told %v", i)
	}
	q.Refuse(0, failed)
	if q.Largest() != 0 {
		t.Errorf("largest %d", q.Largest())
	}
	mustParse(t, q.RespondRefusal(), InError)
}

// Nothing is not a reduction: where any is accepted a node without a rate refuses
// all the same, and relative QoS does not care.
func TestOfferNothing(t *testing.T) {
	one := initiatorEF(t)
	one.Combination = 1
	one.Available.copyFrom(&one.Desired, 1<<TMOD1ID)
	if failed := one.OfferRate(0); failed != SetOf(TMOD1ID) || !one.Available.Failed.Has(TMOD1ID) {
		t.Errorf("failed %v", failed)
	}
	relative, err := NewInitiator(Ask{PHB: ptr(PHB(DSCPEF))})
	if err != nil {
		t.Fatal(err)
	}
	if failed := relative.OfferRate(0); failed != 0 || relative.Desired.FailedAny() {
		t.Errorf("failed %v", failed)
	}
}

// A class refused has no place in QoS Available: E stands in QoS Desired.
func TestRefuseClass(t *testing.T) {
	q := localEF(t)
	share := RateShare(1e9)
	share.Has |= 1 << PHBClassID
	share.PHB = PHB(10)
	failed := q.Offer(InReserve, &share)
	if failed != SetOf(PHBClassID) || !q.Desired.Failed.Has(PHBClassID) {
		t.Fatalf("%v: %v", failed, q)
	}
	r := q.RespondRefusal()
	if !r.Desired.Failed.Has(PHBClassID) {
		t.Errorf("%v", r)
	}
}

// RFC 5975 §4.2.5: "This update concerns both parameter values and flags."
func TestUpdateInitiator(t *testing.T) {
	i := QSPEC{Combination: 1, Desired: initiatorEF(t).Desired}
	i.Desired.Extra = []RawParam{{ID: 77, Value: []byte{1, 2, 3, 4}}}
	i.Available = Params{Has: SetOf(TMOD1ID, PathLatencyID), TMOD1: i.Desired.TMOD1, PathLatency: 10, Unsupported: SetOf(PathLatencyID)}
	l, err := Encapsulate(&i, InReserve)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.MarkUnsupported(AllParams &^ SetOf(ExcessID)); err != nil {
		t.Fatal(err)
	}
	share := RateShare(1_000_000)
	share.Has |= 1 << PathLatencyID
	share.PathLatency = 5
	if failed := l.Offer(InReserve, &share); failed != 0 {
		t.Fatal(failed)
	}
	UpdateInitiator(&i, &l, InReserve)
	if i.Available.TMOD1.Rate != 1e6 || i.Available.PathLatency != 15 || !i.Available.Unsupported.Has(PathLatencyID) {
		t.Errorf("values %v", i)
	}
	if !i.Desired.Extra[0].Unsupported || !i.Desired.Unsupported.Has(ExcessID) || i.Desired.FailedAny() {
		t.Errorf("flags %v", i)
	}
	if _, ok := i.Egress(); ok {
		t.Error("the initiator sees an Egress ID")
	}
	l.Desired.SetFailed(0) // a failure that cannot be located
	UpdateInitiator(&i, &l, InReserve)
	if !i.Desired.ObjectFailed {
		t.Errorf("no E flag in %v", i)
	}
}

// interdomain-qosm §2: "CIR is TMOD-1.r, PIR is TMOD-2.r if there, else TMOD-1.p
// …, rounded up"; "A request with a class and no TMOD is relative QoS".
func TestTraffic(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  Ask
		want Traffic
		ok   bool
	}{
		{"no peak", Ask{CIR: 1000, CBS: 3000}, Traffic{1000, Unlimited, 3000, 3000, 64, 1500}, true},
		{"peak", Ask{CIR: 1000, CBS: 3000, PIR: 2000}, Traffic{1000, 2000, 3000, 3000, 64, 1500}, true},
		{"two buckets", Ask{CIR: 1000, CBS: 3000, PIR: 2000, PBS: 6000, MPS: 40}, Traffic{1000, 2000, 3000, 6000, 40, 40}, true},
		{"rounded up", Ask{CIR: 1<<24 + 1}, Traffic{1<<24 + 2, Unlimited, (1<<24 + 1) / 10, (1<<24 + 1) / 10, 64, 1500}, true},
		{"relative", Ask{PHB: ptr(PHB(DSCPEF))}, Traffic{}, false},
	} {
		q, err := NewInitiator(c.ask)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, ok := q.Traffic(); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
	if _, err := NewInitiator(Ask{}); err == nil {
		t.Error("a request for nothing was made")
	}
	q := localEF(t)
	if d, ok := q.DSCP(); d != DSCPEF || !ok {
		t.Errorf("DSCP %d, %v", d, ok)
	}
}

func TestResolve(t *testing.T) {
	r := RelativeTime{Kind: FromRequest, Start: 60, Duration: 3600}
	if got, err := r.Resolve(1000); err != nil || got != (Interval{1060, 4660}) {
		t.Errorf("%v, %v", got, err)
	}
	r = RelativeTime{Kind: Weekly, Days: 1, Duration: 1}
	if _, err := r.Resolve(0); err == nil {
		t.Error("a weekly window has no single interval")
	}
}

// What is reserved is never more than desired, never more than any domain has,
// and never less than the minimum, whatever the domains have.
func TestReservedIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cir := rapid.Uint64Range(1, 1<<40).Draw(t, "cir")
		least := rapid.Uint64Range(0, cir).Draw(t, "least")
		i, err := NewInitiator(Ask{CIR: cir, LeastCIR: least})
		if err != nil {
			t.Fatal(err)
		}
		q, err := Encapsulate(&i, InReserve)
		if err != nil {
			t.Fatal(err)
		}
		shares := rapid.SliceOfN(rapid.Uint64Range(1, 1<<41), 1, 5).Draw(t, "domains")
		refused := false
		for _, s := range shares {
			before := q.Rate()
			if q.OfferRate(s) != 0 {
				refused = true
				if s >= before {
					t.Fatalf("a domain with %d refused %d", s, before)
				}
				break
			}
			if q.Rate() > max(s, 1) {
				t.Fatalf("%d held where %d is", q.Rate(), s)
			}
		}
		if refused {
			return
		}
		r := q.Response()
		if r.Rate() > Octets(RateUp(cir)) || r.Rate() < q.LeastRate() {
			t.Fatalf("reserved %d of %d, at least %d", r.Rate(), cir, least)
		}
	})
}
