package qspec

import (
	"testing"
)

// RFC 5975 §4.1, interdomain-qosm §2: every procedure of the Initiator has a Local
// QSPEC that its messages may carry, and that asks for no less.
func TestEncapsulateEveryProcedure(t *testing.T) {
	const d, a, m = "desired{tmod=8M/3k class=EF} ", "available{tmod=6M/3k latency=10} ", "minimum{tmod=4M/3k} "
	for _, c := range []struct {
		text      string
		in        Message
		procedure string
		minimum   string
	}{
		{"proc=0/0 " + d, InReserve, "proc=0/2", "tmod=8M/3k class=EF"},
		{"proc=0/1 " + d + a, InReserve, "proc=0/2", "class=EF"},
		{"proc=0/1 desired{tmod=8M/3k} " + a, InReserve, "proc=0/1", ""},
		{"proc=0/2 " + d + a + m, InReserve, "proc=0/2", "tmod=4M/3k class=EF"},
		{"proc=1/0 " + d, InQuery, "proc=1/2", ""},
		{"proc=1/0 " + d, InReserve, "proc=1/1", "tmod=8M/3k class=EF"},
		{"proc=1/1 " + d + m, InQuery, "proc=1/2", ""},
		{"proc=1/1 " + d + a + m, InReserve, "proc=1/1", "tmod=4M/3k class=EF"},
		{"proc=1/1 desired{tmod=8M/3k} " + a, InReserve, "proc=1/1", ""},
		{"proc=1/2 " + d + a, InQuery, "proc=1/2", ""},
		{"proc=1/2 " + d + a, InReserve, "proc=1/1", "tmod=8M/3k class=EF"},
		{"proc=2/0 " + a, InQuery, "proc=2/0", ""},
	} {
		t.Run(c.text, func(t *testing.T) {
			i, err := ParseText("initiator type=0 " + c.text)
			if err != nil {
				t.Fatal(err)
			}
			i = mustParse(t, i, c.in)
			l, err := Encapsulate(&i, c.in)
			if err != nil {
				t.Fatal(err)
			}
			l = mustParse(t, l, c.in)
			want, err := ParseText("local type=13 " + c.procedure)
			if err != nil {
				t.Fatal(err)
			}
			if l.header(0) != want.header(0) || l.Minimum.String() != c.minimum {
				t.Errorf("%v", l)
			}
			if low := Exceeds(&i.Desired, &l.Desired); low != 0 || l.Desired.Has != i.Desired.Has {
				t.Errorf("the local one asks for less: %v", l)
			}
			if !l.Available.Has.Has(TMOD1ID) {
				t.Errorf("nowhere for a domain to say what it has: %v", l)
			}
			back, err := l.Unwrap(c.in)
			if err != nil || back.String() != i.String() {
				t.Errorf("unwrapped %v, want %v, %v", back, i, err)
			}
		})
	}
}

// RFC 5975 §4.2.5: "The edge QNE must update the Initiator QSPEC on behalf of the
// entire domain": in the RESERVE and in the QUERY; but not what is read-only there,
// nor the Y.2171 priority.
func TestUnwrapUpdates(t *testing.T) {
	for _, c := range []struct {
		name, initiator string
		in              Message
		want            string
	}{
		{"RESERVE 0/1", "initiator type=0 proc=0/1 desired{tmod=8M/3k} available{tmod=8M/3k latency=10}", InReserve,
			"initiator type=0 proc=0/1 desired{tmod=8M/3k} available{tmod=4M/3k latency=15}"},
		{"QUERY 1/2", "initiator type=0 proc=1/2 desired{tmod=8M/3k} available{tmod=8M/3k latency=10}", InQuery,
			"initiator type=0 proc=1/2 desired{tmod=8M/3k} available{tmod=4M/3k latency=15}"},
		{"RESERVE 1/2: cannot be overwritten", "initiator type=0 proc=1/2 desired{tmod=4M/3k} available{tmod=8M/3k latency=10}", InReserve,
			"initiator type=0 proc=1/2 desired{tmod=4M/3k} available{tmod=8M/3k latency=10}"},
		{"QUERY 2/0", "initiator type=0 proc=2/0 available{tmod=8M/3k latency=10}", InQuery,
			"initiator type=0 proc=2/0 available{tmod=4M/3k latency=15}"},
	} {
		i, err := ParseText(c.initiator)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Encapsulate(&i, c.in)
		if err != nil {
			t.Fatal(err)
		}
		share := RateShare(500_000)
		share.Has |= 1 << PathLatencyID
		share.PathLatency = 5
		if err := l.Admit(c.in, AllParams, &share); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := l.Unwrap(c.in)
		want, err2 := ParseText(c.want)
		if err != nil || err2 != nil || got.String() != want.String() {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// A domain whose Local QSPEC does not carry what accumulates cannot update it: "it
// raises the parameter-specific, Not Supported N flag" (RFC 5975 §3.4).
func TestUnwrapMarksWhatWasNotFollowed(t *testing.T) {
	i := QSPEC{Sequence: ResourceQuery, Available: Params{Has: SetOf(TMOD1ID, PathLatencyID, AdmissionID),
		Must: SetOf(TMOD1ID), TMOD1: tmod(1000), PathLatency: 5, Admission: Admission{1, 1}}}
	l, err := Encapsulate(&i, InQuery)
	if err != nil {
		t.Fatal(err)
	}
	l.Available.Has &^= SetOf(PathLatencyID)
	l.Available.Admission = Admission{2, 4}
	got, err := l.Unwrap(InQuery)
	if err != nil || got.Available.Unsupported != SetOf(PathLatencyID) || got.Available.PathLatency != 5 {
		t.Errorf("%v, %v", got, err)
	}
	if got.Available.Admission != (Admission{1, 4}) {
		t.Errorf("priority %v: Y.2171 MUST NOT change, the local one may", got.Available.Admission)
	}
	if _, err := (&QSPEC{Local: true}).Unwrap(InReserve); err == nil {
		t.Error("nothing was unwrapped")
	}
}

// RFC 5975 §4.3.2: a receiver-initiated reservation through a domain, from the
// sender's QUERY to the RESPONSE.
func TestReceiverInitiatedThroughADomain(t *testing.T) {
	query, err := ParseText("initiator type=0 proc=1/2 desired{tmod=8M/3k class=EF} available{tmod=8M/3k latency=0}")
	if err != nil {
		t.Fatal(err)
	}
	share := RateShare(750_000)
	share.Has |= 1 << PathLatencyID
	share.PathLatency = 40_000
	through := func(q QSPEC, in Message) QSPEC {
		l, err := Encapsulate(&q, in)
		if err != nil {
			t.Fatal(err)
		}
		l = mustParse(t, l, in)
		if err := l.Admit(in, AllParams, &share); err != nil {
			t.Fatal(err)
		}
		l = mustParse(t, l, in)
		out, err := l.Unwrap(in)
		if err != nil {
			t.Fatal(err)
		}
		return mustParse(t, out, in)
	}
	arrived := through(mustParse(t, query, InQuery), InQuery)
	reserve := arrived.Reserve()
	if reserve.Rate() != 750_000 || reserve.Available.PathLatency != 40_000 || reserve.Desired.Has != query.Desired.Has {
		t.Fatalf("the QNI asks %v", reserve)
	}
	at := through(mustParse(t, reserve, InReserve), InReserve)
	response := mustParse(t, at.Response(), InResponse)
	if response.Rate() != 750_000 || response.Reserved.Has != query.Desired.Has {
		t.Errorf("%v", response)
	}
}
