package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/traffic"
)

// good are facts with which every check is content.
func good() *Facts {
	const session = "5f3a00112233445566778899aabbccdd"
	held := func(as uint32, sides uint64) Held {
		return Held{
			AS: as, LedgerCommitted: 1, LedgerRate: sides * flowRate, DriverCommitted: 1, StoreRecords: 1,
			RoutingStates: sides, Associations: sides, Sessions: 1,
		}
	}
	first := []Held{held(65001, 1), held(65002, 2), held(65003, 1)}
	policers := []Policer{{Session: session, Rate: flowRate, DSCP: classDSCP, Match: "10.1.0.10/32 to 10.3.0.10/32 port 5001 protocol 17"}}
	nslp := func(as uint32, message string) Message {
		return Message{AS: as, Message: message, Layer: "QoS-NSLP", Direction: "sent", Transport: "tls"}
	}
	gist := func(as uint32, message string) Message {
		return Message{AS: as, Message: message, Layer: "GIST", Direction: "sent"}
	}
	f := &Facts{
		TrafficBefore: &Traffic{Flow: FlowRate{Offered: flowRate, Received: flowRate / 4, Share: 0.25}},
		TrafficAfter: &Traffic{
			Flow:   FlowRate{Offered: flowRate, Received: flowRate, DSCP: classDSCP},
			Greedy: FlowRate{Offered: greedyRate, Received: accessRate - flowRate},
		},
		Reservation: &Reservation{
			Answer: Answer{
				Outcome: Outcome{Session: session, OK: true, Granted: flowRate},
				Path: []Hop{
					{AS: 65001, Egress: "127.1.2.1", SLS: "as65001-as65002", Verdict: "committed", Elapsed: 1},
					{AS: 65002, Ingress: "127.2.1.1", Egress: "127.2.3.1", SLS: "as65001-as65002 → as65002-as65003", Verdict: "committed", Elapsed: 1},
					{AS: 65003, Ingress: "127.3.2.1", SLS: "as65002-as65003", Verdict: "committed", Elapsed: 1},
				},
				Messages: []Message{
					gist(65001, "Query"), gist(65002, "Response"), gist(65001, "Confirm"), nslp(65001, "Data{RESERVE}"),
					gist(65002, "Query"), gist(65003, "Response"), gist(65002, "Confirm"), nslp(65002, "Data{RESERVE}"),
					nslp(65003, "Data{RESPONSE}"), nslp(65002, "Data{RESPONSE}"),
				},
			},
			Held: first, Policers: policers,
		},
		Refusal: &Refusal{Answer: Answer{
			Outcome: Outcome{Info: Info{Class: 6, Code: 65}, Largest: leftRate},
			Path:    []Hop{{AS: 65001, Verdict: "released"}, {AS: 65002, Verdict: "refused"}},
		}},
		Release: &Release{Held: []Held{{AS: 65001, Associations: 1}, {AS: 65002, Associations: 2}, {AS: 65003, Associations: 1}}},
	}
	return f
}

// checks runs every check on facts, and returns the first failure.
func checks(f *Facts) error {
	d := demo{facts: *f}
	for _, err := range []error{
		checkBefore(f.TrafficBefore), checkAfter(f.TrafficAfter), checkReserved(&f.Reservation.Answer), d.checkOnlyFirst(f.Reservation.Held, f.Reservation.Policers),
		f.Refusal.check(), checkNothing(f.Release.Held, f.Release.Policers),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestChecks: whatever is not as it should be is found, and said.
func TestChecks(t *testing.T) {
	if err := checks(good()); err != nil {
		t.Fatal(err)
	}
	// Where the machine is slow a message is sent again.
	again := good()
	m := &again.Reservation.Messages
	*m = slices.Insert(*m, 3, (*m)[1], (*m)[2])
	*m = append(*m, (*m)[5])
	if err := checks(again); err != nil {
		t.Errorf("with messages sent again: %v", err)
	}
	for want, spoil := range map[string]func(f *Facts){
		"starved: less than 60 % of it arrives, found 60.0 %":                 func(f *Facts) { f.TrafficBefore.Flow.Share = starved },
		"the reserved flow: expected 20 Mbit/s within 5 %, found 18.9 Mbit/s": func(f *Facts) { f.TrafficAfter.Flow.Received = 18_900_000 },
		"within 5 %, found 21.1 Mbit/s":                                       func(f *Facts) { f.TrafficAfter.Flow.Received = 21_100_000 },
		"the reserved flow's DSCP":                                            func(f *Facts) { f.TrafficAfter.Flow.DSCP = 0 },
		"the greedy flow beside it":                                           func(f *Facts) { f.TrafficAfter.Greedy.Received = 0 },
		"both flows together":                                                 func(f *Facts) { f.TrafficAfter.Greedy.Received = 23_000_000 },
		"the answer to the reservation":                                       func(f *Facts) { f.Reservation.Outcome.Granted-- },
		"the path":                                                            func(f *Facts) { f.Reservation.Path = f.Reservation.Path[:2] },
		"AS65002 on the path":                                                 func(f *Facts) { f.Reservation.Path[1].Egress = "127.2.9.1" },
		"AS65003 on the path":                                                 func(f *Facts) { f.Reservation.Path[2].Elapsed = 0 },
		"AS65001 on the path":                                                 func(f *Facts) { f.Reservation.Path[0].Verdict = "released" },
		"the ladder of messages": func(f *Facts) {
			f.Reservation.Messages = slices.Delete(f.Reservation.Messages, 8, 9)
		},
		"how AS65002 sent Data{RESERVE}: expected over TLS":    func(f *Facts) { f.Reservation.Messages[7].Transport = "tcp" },
		"what AS65002 has of reservations: expected {AS:65002": func(f *Facts) { f.Reservation.Held[1].LedgerHeld = 1 },
		"the gateway's policers: expected [{":                  func(f *Facts) { f.Reservation.Policers = nil },
		"the answer to asking for too much":                    func(f *Facts) { f.Refusal.Path[1].AS = 65003 },
		"largest rate 20 Mbit/s, found accepted":               func(f *Facts) { f.Refusal.Outcome.Largest = 10_000_000 },
		"refused by AS65002, class 6 code 64":                  func(f *Facts) { f.Refusal.Outcome.Info.Code = 64 },
		"what AS65003 has of reservations: expected nothing":   func(f *Facts) { f.Release.Held[2].RoutingStates = 1 },
		"what AS65001 has of reservations: expected nothing":   func(f *Facts) { f.Release.Held[0].StoreRecords = 1 },
		"the gateway's policers: expected none":                func(f *Facts) { f.Release.Policers = f.Reservation.Policers },
	} {
		f := good()
		spoil(f)
		if err := checks(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found %v, want %q", err, want)
		}
	}
}

// TestNotEnough: a measurement counts only if the machine did its part.
func TestNotEnough(t *testing.T) {
	sent := []traffic.SendReport{{Packets: 1000}, {Packets: 9000}}
	const all = 1000 // packets of the flow in a window in which it had its rate
	for _, c := range []struct {
		flow, greedy  uint64 // bit/s sent
		arrived, lost uint64 // packets of the flow
		gateway       counts
		want          string
	}{
		{flowRate, greedyRate, all, 0, counts{seen: 10_000}, ""},
		{flowRate, greedyRate, all, 700, counts{seen: 9_900}, ""}, // nothing is reserved: that is the gateway's doing
		{flowRate, greedyRate, 0, 0, counts{seen: 9_900}, ""},
		{flowRate, greedyRate, all, 0, counts{seen: 10_000, reserved: true}, ""},
		{flowRate, greedyRate, 300, 700, counts{seen: 9_900, reserved: true, dropped: 700}, ""}, // and this
		{flowRate, greedyRate, 0, 0, counts{seen: 9_900, reserved: true, dropped: 1000}, ""},
		{19_000_000, greedyRate, all, 0, counts{seen: 10_000}, "of the flow, 19.0 Mbit/s was sent"},
		{flowRate, 180_000_000, all, 0, counts{seen: 10_000}, "of the greedy flow, 180.0 Mbit/s was sent"},
		{flowRate, greedyRate, all, 0, counts{seen: 9_700}, "10000 packets were sent, 9700 reached the gateway"},
		{flowRate, greedyRate, 950, 50, counts{seen: 10_000, reserved: true, dropped: 10}, "50 packets of the flow were lost, 10 of them by the gateway"},
		{flowRate, greedyRate, 960, 0, counts{seen: 10_000, reserved: true}, "within the window, 19.2 Mbit/s of the flow was on its way"},
		{flowRate, greedyRate, 1060, 0, counts{seen: 10_000, reserved: true}, "within the window, 21.2 Mbit/s of the flow was on its way"},
	} {
		m := &Traffic{Flow: FlowRate{Offered: c.flow, Received: c.arrived * flowRate / all, Lost: c.lost}, Greedy: FlowRate{Offered: c.greedy}}
		if got := notEnough(m, enoughSent, sent, c.gateway, traffic.FlowReport{Packets: c.arrived, Lost: c.lost}); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestLessWasSent: on a machine without the time for all of it, what arrives is
// compared with what was sent.
func TestLessWasSent(t *testing.T) {
	sent := []traffic.SendReport{{Packets: 1000}, {Packets: 9000}}
	m := &Traffic{
		Flow:   FlowRate{Offered: flowRate * 9 / 10, Received: flowRate * 9 / 10, DSCP: classDSCP},
		Greedy: FlowRate{Offered: greedyRate * 9 / 10, Received: accessRate - flowRate},
	}
	if got := notEnough(m, leastSent, sent, counts{seen: 10_000, reserved: true}, traffic.FlowReport{Packets: 900}); got != "" {
		t.Errorf("does not count: %s", got)
	}
	if err := checkAfter(m); err != nil {
		t.Error(err)
	}
	m.Flow.Received = m.Flow.Offered * 94 / 100
	if err := checkAfter(m); err == nil || !strings.Contains(err.Error(), "expected 18 Mbit/s within 5 %, found 16.9 Mbit/s") {
		t.Errorf("found %v", err)
	}
	m.Flow.Offered = flowRate / 2
	if got := notEnough(m, leastSent, sent, counts{seen: 10_000, reserved: true}, traffic.FlowReport{Packets: 900}); got != "of the flow, 10.0 Mbit/s was sent" {
		t.Errorf("half of it: %q", got)
	}
}

// TestPage: tables line up, command lines break before options, and colour is
// only there where it was asked for.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	p := page{w: &b}
	p.table([]string{"", ">rate", "note"}, []string{"flow", "20", "a"}, []string{"√", "200", ""})
	p.command([]string{"qnectl", strings.Repeat("x", 80), "--peer-socket", "unix:a"}, "one\n\ntwo\n")
	want := "        rate  note\n" +
		"  flow    20  a\n" +
		"  √      200\n" +
		"  $ qnectl " + strings.Repeat("x", 80) + " \\\n" +
		"        --peer-socket unix:a\n" +
		"  one\n\n  two\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	p.color = true
	p.good("done")
	if !strings.HasPrefix(b.String(), "  \x1b[32m✓ done\x1b[0m") {
		t.Errorf("%q", b.String())
	}
}
