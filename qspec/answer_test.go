package qspec

import (
	"testing"
)

// RFC 5975 §4.3.2: what the receiver's RESERVE says, in each case.
func TestReserveAnswersQuery(t *testing.T) {
	for _, c := range []struct{ name, query, want string }{
		{"1/0: QoS Desired", "initiator type=3 proc=1/0 desired{tmod=8M/3k class=EF!M}",
			"initiator type=3 proc=1/0 desired{tmod=8M/3k class=EF!M}"},
		{"1/1: QoS Available if QoS is negotiable, that is with Minimum QoS", "initiator proc=1/1 desired{tmod=8M/3k latency<=40ms class=EF} minimum{tmod=4M/3k latency<=50ms!M}",
			"initiator proc=1/1 desired{tmod=8M/3k latency<=40ms class=EF} available{tmod=8M/3k latency=0us} minimum{tmod=4M/3k latency<=50ms!M}"},
		{"1/1 without it", "initiator proc=1/1 desired{tmod=8M/3k}", "initiator proc=1/0 desired{tmod=8M/3k}"},
		{"1/2: values of QoS Available where it has them", "initiator proc=1/2 desired{tmod=8M/3k class=EF} available{tmod=5M/3k latency=40ms!N}",
			"initiator proc=1/2 desired{tmod=5M/3k class=EF} available{tmod=5M/3k latency=40ms!N}"},
	} {
		q, err := ParseText(c.query)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ParseText(c.want)
		if err != nil {
			t.Fatal(err)
		}
		q = mustParse(t, q, InQuery)
		if got := mustParse(t, q.Reserve(), InReserve); got.String() != want.String() {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, got, want)
		}
	}
}

// RFC 5975 §4.3.1: every parameter's value "is copied from the QoS Available object (in
// RESERVE) into the QoS Reserved object (in RESPONSE)", with its flags.
func TestReservedTakesEveryValueFromAvailable(t *testing.T) {
	const low = "tmod=1M/1k tmod2=1M/1k latency=9us jitter=1/1us/1us plr=0.01 per=0.01 slack=1us preempt=1/1 admission=1/1 rph=1/1 " +
		"excess=drop class=EF dste=1 y1541=1 peakbucket=1k restore=1/1/1 egress=1@10.0.0.1 ingress=1@10.0.0.1 time=0..1 when=in/1s/1s"
	const high = "tmod=8M/3k/9M/9/99!E tmod2=8M/3k!M latency=7s!N jitter=4/5us/6us plr=0.05 per=0.05 slack=7us preempt=2/3 admission=2/2 rph=2/3 " +
		"excess=shape class=AF11+ dste=2 y1541=6 peakbucket=9k restore=2/2/2 egress=2@10.0.0.2 ingress=2@::1 time=0..9,10..11 when=mon/08:00Z/1h"
	q := QSPEC{Combination: 1}
	var err error
	if q.Desired, err = ParseParams(high); err != nil {
		t.Fatal(err)
	}
	if q.Available, err = ParseParams(low); err != nil {
		t.Fatal(err)
	}
	if q.Desired.Has != AllParams || q.Available.Has != AllParams {
		t.Fatalf("not all of them: %v", AllParams&^q.Desired.Has)
	}
	got := q.Response()
	if got.Reserved.String() != q.Available.String() || got.Available.String() != q.Available.String() {
		t.Errorf("%v", got)
	}
	q.Available = Params{}
	if got := q.Response(); got.Reserved.String() != q.Desired.String() {
		t.Errorf("%v", got)
	}
}

// Values that mean nothing fail with E (RFC 5975 §5.2.9, §5.2.12; RFC 5976 §5.2).
func TestUnassignedValuesFail(t *testing.T) {
	for text, id := range map[string]ParameterID{
		"class=EF restore=3/0/0": RestorationID, "class=EF restore=0/3/0": RestorationID, "class=EF restore=0/0/6": RestorationID,
		"class=EF admission=3/3": AdmissionID, "class=EF+": PHBClassID,
	} {
		p, err := ParseParams(text)
		if err != nil {
			t.Fatal(err)
		}
		q := QSPEC{Desired: p}
		isError(t, q.Check(InReserve), ClassTransientFailure, CodeReservationFailure)
		if q.Desired.Failed != SetOf(id) || !q.Desired.ObjectFailed {
			t.Errorf("%s: %v", text, q)
		}
		if _, err := ParseText(text); err == nil {
			t.Errorf("%s was read as a request", text)
		}
	}
	for _, text := range []string{"class=EF restore=2/2/5", "class=EF admission=255/77", "class=EF admission=0/0"} {
		if _, err := ParseText(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What an error says: the INFO-SPEC's words, the object, the parameter.
func TestErrorsSayWhatAndWhere(t *testing.T) {
	for _, c := range []struct {
		e    Error
		want string
	}{
		{Error{ClassProtocolError, CodeMalformedQSPEC, MinimumQoS, TMOD2ID, errEmpty}, "malformed QSPEC: Minimum QoS: TMOD-2: empty"},
		{Error{ClassProtocolError, CodeIncompatibleQSPEC, NoObject, 0, errEmpty}, "incompatible QSPEC: empty"},
		{Error{ClassTransientFailure, CodeReservationFailure, QoSReserved, 0, errEmpty}, "reservation failure: QoS Reserved: empty"},
		{Error{ClassQoSModelError, 65, ObjectType(9), 300, errEmpty}, "QSPEC error 6/0x41: object 9: parameter 300: empty"},
		{Error{ClassQoSModelError, 65, QoSAvailable, EgressID, errEmpty}, "QSPEC error 6/0x41: QoS Available: Egress ID: empty"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
