package node

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/sls"
)

// The API's bit/s are the ledger's octets/s, and its instants the ledger's.
// interdomain-qosm §5
func TestMatchAndCalendar(t *testing.T) {
	n := &Node{cfg: &Config{AS: 65001}, ledger: &sharedLedger{l: sls.New(sls.Config{})}}
	list, err := sls.Parse("t", []byte(`[{id: a, customer: 65001, provider: 65002, classes: [{class: EF, cir: 40M}]},
 {id: b, customer: 65001, provider: 65003, classes: [{class: EF, cir: 80M}, {class: AF41, cir: 8M}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.ledger.l.LoadSLS(list); err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(time.Hour).Truncate(time.Second)
	if _, err := n.ledger.Hold(time.Now(), sls.Request{ID: sls.ID{1}, Leg: sls.Outbound, Version: 1, Customer: 65001, Provider: 65002,
		Source: mustHost("10.1.0.1"), Destination: mustHost("10.3.0.1"), Class: sls.EF, Rate: 4e6,
		Intervals: []sls.Interval{{From: start, Until: start.Add(time.Hour)}}}); err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(start.Add(d)) }
	ask := &api.MatchRequest{Source: "10.1.0.9", Destination: "10.3.0.9", Class: "EF", Rate: 20e6, From: at(0), Until: at(time.Hour)}
	m, err := n.MatchSLS(t.Context(), ask)
	if err != nil || m.SlsId != "b" || m.Rate != 20e6 || len(m.Covering) != 2 || m.Covering[0].Largest != 8e6 || !m.Covering[0].Earliest.AsTime().Equal(start.Add(time.Hour)) {
		t.Errorf("%v, %v; want b, and a only an hour later", m, err)
	}
	ask.Provider, ask.Class, ask.Limit = 65003, "AF11", 1
	if m, err := n.MatchSLS(t.Context(), ask); err != nil || m.SlsId != "" || len(m.Others) != 1 || m.More != 1 {
		t.Errorf("%v, %v; want nothing, one of two told", m, err)
	}
	r := &api.CalendarRequest{Id: "a", From: at(-time.Minute), Until: at(2 * time.Hour), Rate: 20e6, Length: durationpb.New(30 * time.Minute)}
	c, err := n.SLSCalendar(t.Context(), r)
	if err != nil || c.Class != "EF" || c.Largest != 8e6 || !c.Earliest.AsTime().Equal(start.Add(time.Hour)) || len(c.Steps) != 3 || c.Steps[1].Held != 32e6 || c.Steps[1].Capacity != 40e6 {
		t.Errorf("%v, %v", c, err)
	}
	for _, bad := range []*api.CalendarRequest{{Id: "none"}, {Id: "b"}, {Id: "b", Class: "xx"}, {Id: "b", Class: "AF21"}, {Id: "a", Until: at(-48 * time.Hour)}} {
		if c, err := n.SLSCalendar(t.Context(), bad); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v, %v; want not found or invalid", bad, c, err)
		}
	}
	for _, bad := range []*api.MatchRequest{
		{Class: "EF", Rate: 1}, {Destination: "10.0.0.1", Class: "x", Rate: 1}, {Destination: "10.0.0.1", Class: "EF"}, {Destination: "10.0.0.1", Class: "EF", Rate: 1, Priority: 8},
		{Destination: "10.0.0.1", Class: "EF", Rate: 1, Egress: "x"}, {Destination: "10.0.0.1", Class: "EF", Rate: 1, Source: "::1"},
		{Destination: "10.0.0.1", Class: "EF", Rate: 1, From: at(1), Until: at(0)}, {Destination: "10.0.0.1", Class: "EF", Rate: 1, From: &timestamppb.Timestamp{Nanos: -1}},
	} {
		if m, err := n.MatchSLS(t.Context(), bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v, %v; want invalid", bad, m, err)
		}
	}
}
