package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/qspec"
)

// What the API asks for, as the Initiator QSPEC that comes of it.
func TestRequestQSPEC(t *testing.T) {
	for _, c := range []struct {
		r    *api.ReserveRequest
		want string
	}{
		{&api.ReserveRequest{Class: "AF41"}, "class=AF41!M"},
		{&api.ReserveRequest{Class: "EF", Rate: 8e6, Burst: 3000}, "tmod=8M/3k/inf/64/1500 excess=drop class=EF!M"},
		{&api.ReserveRequest{Qspec: "tmod=8M/3k class=EF latency<=40ms"}, "tmod=8M/3k class=EF latency<=40ms"},
		{&api.ReserveRequest{Qspec: "tmod=8M/3k class=EF", Times: "when=in/10m/2h"}, "tmod=8M/3k class=EF when=in/10m/2h!M"},
		{&api.ReserveRequest{Qspec: "tmod=8M/3k class=EF", ReceiverInitiated: true}, "initiator type=0 proc=1/0 desired{tmod=8M/3k class=EF}"},
		{&api.ReserveRequest{Class: "EF", Rate: 8e6, MinRate: 4e6, Burst: 3000, ReceiverInitiated: true},
			"initiator type=0 proc=1/1 desired{tmod=8M/3k/inf/64/1500 excess=drop class=EF!M} minimum{tmod=4M/3k/inf/64/1500}"},
	} {
		q, err := requestQSPEC(c.r)
		if err != nil {
			t.Errorf("%v: %v", c.r, err)
			continue
		}
		want, err := qspec.ParseText(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if q.String() != want.String() {
			t.Errorf("%v:\ngot  %v\nwant %v", c.r, q, want)
		}
	}
	for text, r := range map[string]*api.ReserveRequest{
		`did you mean latency?`:                  {Qspec: "tmod=8M/3k latnecy<=40ms"},
		`a Local QSPEC is the domains' own`:      {Qspec: "local type=13 proc=0/0 desired{class=EF}"},
		`times: "class=EF", expected time=A..B`:  {Class: "EF", Rate: 1, Times: "class=EF"},
		`the QSPEC has times of its own`:         {Qspec: "class=EF when=in/1s/1s", Times: "when=in/1s/1s"},
		`a weekly window needs an Absolute Time`: {Class: "EF", Rate: 1, Times: "when=mon/08:00Z/1h"},
		`"XX" is not a class`:                    {Class: "XX", Rate: 1},
		`not allowed in a QUERY`:                 {Qspec: "initiator type=0 proc=1/0 desired{class=EF} minimum{class=EF}", ReceiverInitiated: true},
	} {
		if _, err := requestQSPEC(r); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %s", r, err, text)
		}
	}
}

// A change keeps what it does not name, and settled times rather than those that were
// counted from the request on.
func TestModifiedQSPEC(t *testing.T) {
	sent := func(text string) []byte {
		t.Helper()
		q, err := qspec.ParseText(text)
		if err != nil {
			t.Fatal(err)
		}
		in := qspec.InReserve
		l, err := qspec.Encapsulate(&q, in)
		if err == nil {
			err = l.ResolveTimes(1_800_000_000)
		}
		if err != nil {
			t.Fatal(err)
		}
		return l.Append(nil)
	}
	for _, c := range []struct {
		was  string
		r    *api.ModifyRequest
		want string
	}{
		{"tmod=8M/3k class=EF latency<=40ms", &api.ModifyRequest{Rate: 16e6}, "tmod=16M/3k class=EF latency<=40ms"},
		{"tmod=8M/3k/9M class=EF", &api.ModifyRequest{Rate: 16e6, Burst: 4000}, "tmod=16M/4k/16M class=EF"},
		{"tmod=8M/3k class=EF when=in/10m/1h", &api.ModifyRequest{Rate: 16e6}, "tmod=16M/3k class=EF time=1800000600..1800004200!M"},
		{"tmod=8M/3k class=EF when=in/10m/1h", &api.ModifyRequest{Times: "time=1800000000..1900000000"}, "tmod=8M/3k class=EF time=1800000000..1900000000!M"},
		{"tmod=8M/3k class=EF when=in/10m/1h", &api.ModifyRequest{Qspec: "class=AF41"}, "class=AF41 time=1800000600..1800004200!M"},
		{"tmod=8M/3k class=EF", &api.ModifyRequest{Rate: 16e6, MinRate: 4e6},
			"initiator type=0 proc=0/2 desired{tmod=16M/3k class=EF} available{tmod=16M/3k} minimum{tmod=4M/3k}"},
		{"initiator type=0 proc=0/2 desired{tmod=16M/3k class=EF} available{tmod=16M/3k} minimum{tmod=4M/3k}", &api.ModifyRequest{Rate: 2e6},
			"initiator type=0 proc=0/2 desired{tmod=2M/3k class=EF} available{tmod=2M/3k} minimum{tmod=2M/3k}"},
		{"class=AF41", &api.ModifyRequest{Rate: 8e6}, "tmod=8M/100k/inf/64/1500 class=AF41"},
		{"initiator type=0 proc=1/0 desired{tmod=8M/3k class=EF}", &api.ModifyRequest{Rate: 4e6}, "initiator type=0 proc=1/0 desired{tmod=4M/3k class=EF}"},
	} {
		q, err := modifiedQSPEC(sent(c.was), c.r)
		if err != nil {
			t.Errorf("%s, %v: %v", c.was, c.r, err)
			continue
		}
		want, err := qspec.ParseText(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if q.String() != want.String() {
			t.Errorf("%s, %v:\ngot  %v\nwant %v", c.was, c.r, q, want)
		}
	}
	if _, err := modifiedQSPEC(nil, &api.ModifyRequest{Rate: 1}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a flow that stays inside: %v", err)
	}
}

// A QUERY asks for what is wanted, and collects what accumulates; bounds on that are
// looked at where the answer is.
func TestQuerySPEC(t *testing.T) {
	q, bounds, err := querySPEC(&api.ReserveRequest{Qspec: "tmod=8M/3k class=EF latency<=40ms"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := q.String(), "initiator type=0 proc=2/0 available{tmod=8M/3k latency=0us jitter=0/0us/0us plr=0 per=0 class=EF}"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, kept := range map[string]bool{"tmod=8M/3k latency=9ms": true, "tmod=7M/3k latency=9ms": false, "tmod=8M/3k latency=41ms": false} {
		p, err := qspec.ParseParams(text)
		if err != nil {
			t.Fatal(err)
		}
		if (qspec.Exceeds(&bounds, &p) == 0) != kept {
			t.Errorf("%s keeps what was asked for: %t, want %t", text, !kept, kept)
		}
	}
	q, bounds, err = querySPEC(&api.ReserveRequest{Class: "EF"})
	if err != nil || q.Rate() < 1e12/8 || bounds.Has.Has(qspec.TMOD1ID) {
		t.Errorf("how much there is: %v, %v, %v", q, bounds, err)
	}
}
