package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/interqos/interqos/bng"
	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/internal/traffic"
	"github.com/interqos/interqos/internal/units"
	three "github.com/interqos/interqos/labs/01-three-networks"
)

const (
	skip     = 500 * time.Millisecond // in which token buckets spend what they have saved up
	attempts = 12                     // of a measurement

	// The greedy flow comes from several senders: one alone would leave gaps
	// between the bursts of a user-space clock, in which the other flow gets more
	// than its share.
	greedySenders = 5

	// A measurement counts if the machine let the senders send that share of
	// what they should, and lost no more than that of it on the way. In the
	// second half of the attempts leastSent is enough: the machine has no time,
	// and what arrives is compared with what was sent.
	enoughSent, leastSent, enoughLost = 0.97, 0.80, 0.02
	// Before, less than this share of the flow arrives; after, within
	// tolerance of all of it.
	starved, tolerance = 0.60, 0.05
)

func (d *demo) before(ctx context.Context) error {
	d.page.line("UDP through the gateway, from processes of its own to another: the flow that is to be reserved")
	d.page.line("for, and a greedy one that offers five times the subscriber's %s.", units.HumanRate(accessRate))
	d.page.line("")
	t, err := d.measure(ctx, checkBefore)
	if t == nil {
		return err
	}
	d.facts.TrafficBefore = t
	d.page.table(
		[]string{"", ">offered", ">received", ">share", ""},
		trafficRow("flow", &t.Flow), trafficRow("greedy", &t.Greedy))
	if err == nil {
		d.page.good("the flow is starved")
	}
	return err
}

func checkBefore(t *Traffic) error {
	if t.Flow.Share < starved {
		return nil
	}
	return &failure{
		what: "the flow before the reservation", expected: fmt.Sprintf("starved: less than %.0f %% of it arrives", 100*starved),
		found: fmt.Sprintf("%.1f %%", 100*t.Flow.Share), logs: []string{"bngfe"},
	}
}

func trafficRow(name string, f *FlowRate) []string {
	return []string{name, rate(f.Offered), rate(f.Received), fmt.Sprintf("%.1f %%", 100*f.Share), bar(f.Share)}
}

// rate writes a measured rate.
func rate(bps uint64) string { return fmt.Sprintf("%.1f Mbit/s", float64(bps)/1e6) }

// bar is a share as a bar, as far as it goes.
func bar(share float64) string {
	const full = 20
	return strings.Repeat("█", min(full, int(share*full+0.5)))
}

func (d *demo) after(ctx context.Context) error {
	t, err := d.measure(ctx, checkAfter)
	if t == nil {
		return err
	}
	d.facts.TrafficAfter = t
	b := d.facts.TrafficBefore
	side := func(name string, before, after *FlowRate) []string {
		return []string{
			name, rate(after.Offered), rate(before.Received), fmt.Sprintf("%.1f %%", 100*before.Share),
			rate(after.Received), fmt.Sprintf("%.1f %%", 100*after.Share), bar(after.Share),
		}
	}
	d.page.table(
		[]string{"", ">offered", ">received before", ">", ">and now", ">", ""},
		side("flow", &b.Flow, &t.Flow), side("greedy", &b.Greedy, &t.Greedy))
	if err == nil {
		d.page.good("the flow has its rate, marked %s, while the greedy one goes on and gets what is left", class)
	}
	return err
}

func checkAfter(t *Traffic) error {
	fail := func(what, expected, format string, args ...any) error {
		return &failure{what: what, expected: expected, found: fmt.Sprintf(format, args...), logs: []string{"bngfe"}}
	}
	got, total := float64(t.Flow.Received), float64(t.Flow.Received+t.Greedy.Received)
	want := uint64(flowRate)
	if float64(t.Flow.Offered) < enoughSent*flowRate { // more was not sent
		want = t.Flow.Offered
	}
	switch {
	case got < float64(want)*(1-tolerance) || got > float64(want)*(1+tolerance):
		return fail("the reserved flow", fmt.Sprintf("%s within %.0f %%", units.HumanRate(want), 100*tolerance), "%s", rate(t.Flow.Received))
	case t.Flow.DSCP != classDSCP:
		return fail("the reserved flow's DSCP", fmt.Sprintf("%d (%s)", classDSCP, class), "%d", t.Flow.DSCP)
	case t.Greedy.Received == 0:
		return fail("the greedy flow beside it", "what is left of the subscriber's rate", "nothing")
	case total > accessRate*(1+tolerance):
		return fail("both flows together", fmt.Sprintf("at most the subscriber's %s", units.HumanRate(accessRate)), "%s", rate(uint64(total)))
	}
	return nil
}

// measure sends both flows and measures what arrives. A measurement in which the
// machine itself failed to send or lost packets says nothing of the gateway, and
// is made again. So is one that is not as it should be, for a machine that lets
// the gateway or the senders wait makes bursts of what was none; if the gateway
// is to blame it will be so again.
func (d *demo) measure(ctx context.Context, check func(*Traffic) error) (t *Traffic, wrong error) {
	for attempt := 1; attempt <= attempts; attempt++ {
		enough := enoughSent
		if attempt > attempts/2 {
			enough = leastSent
		}
		m, void, err := d.measureOnce(ctx, enough)
		if err != nil {
			return nil, err
		}
		if m.Attempt = attempt; void == "" {
			t, wrong = m, check(m)
			if wrong == nil {
				return t, nil
			}
			void = wrong.Error()
		} else if t == nil {
			wrong = &failure{what: "a measurement of traffic", expected: "a machine with the time to send it", found: void, logs: []string{"bngfe"}}
		}
		if attempt < attempts {
			d.page.line("(again, for the machine may be busy: %s)", void)
		}
	}
	return t, wrong
}

// flowTuple is the flow that is reserved for.
var flowTuple = traffic.Tuple{
	Source:      netip.MustParseAddrPort(host + ":" + sourcePort),
	Destination: netip.MustParseAddrPort(subscriber + ":" + flowPort),
}

// runner is a process that sends or measures.
type runner struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

func (d *demo) runTraffic(ctx context.Context, args ...string) (*runner, error) {
	r := &runner{cmd: d.tool(ctx, "qnectl", append([]string{"-o", "json", "traffic"}, args...)...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	return r, r.cmd.Start()
}

// report waits for the end of the process and reads what it says.
func (r *runner) report(v any) error {
	if err := r.cmd.Wait(); err != nil {
		return toolError(r.cmd, err, r.err.String())
	}
	return json.Unmarshal(r.out.Bytes(), v)
}

// measureOnce also says why the measurement does not count, if it doesn't.
func (d *demo) measureOnce(ctx context.Context, enough float64) (t *Traffic, void string, err error) {
	ctx, cancel := context.WithTimeout(ctx, skip+d.window+toolTime)
	defer cancel()
	before, err := d.count(ctx)
	if err != nil {
		return nil, "", err
	}
	receiver, err := d.runTraffic(ctx, "receive", "--listen", three.AccessWire, "--skip", skip.String(), "--window", d.window.String())
	if err != nil {
		return nil, "", err
	}
	senders, err := d.startSenders(ctx)
	if err != nil {
		return nil, "", err // the context ends the others
	}
	var arrived traffic.ReceiveReport
	err = receiver.report(&arrived)
	sent := make([]traffic.SendReport, len(senders))
	for i, s := range senders {
		_ = s.cmd.Process.Signal(syscall.SIGINT) // Wait tells if it has ended before
		err = errors.Join(err, s.report(&sent[i]))
	}
	if err != nil {
		return nil, "", err
	}
	after, err := d.count(ctx)
	if err != nil {
		return nil, "", err
	}
	t = &Traffic{Window: arrived.Window, Flow: flowRateOf(sent[:1], &arrived), Greedy: flowRateOf(sent[1:], &arrived)}
	return t, notEnough(t, enough, sent, after.since(before), arrived.Flow(flowTuple)), nil
}

// counts are packets, as the gateway counts them.
type counts struct {
	seen     uint64 // for all subscribers, of all flows
	reserved bool   // the policer of a reserved flow is there
	dropped  uint64 // by it
}

func (c counts) since(before counts) counts {
	return counts{seen: c.seen - before.seen, reserved: c.reserved, dropped: c.dropped - before.dropped}
}

func (d *demo) count(ctx context.Context) (counts, error) {
	var c counts
	snap, err := d.gateway.List(ctx)
	if err != nil {
		return c, err
	}
	counters, err := d.gateway.Counters(ctx)
	if err != nil {
		return c, err
	}
	subscribers, programs, _ := bng.Read(snap)
	for _, s := range subscribers {
		n := counters[s.Port]
		c.seen += n.GreenPackets + n.YellowPackets + n.RedPackets
	}
	for _, p := range programs {
		c.reserved = true
		c.dropped += counters[fpc.ID(p.ID)].DroppedPackets
	}
	return c, nil
}

// startSenders starts the flow's sender, and then the greedy ones.
func (d *demo) startSenders(ctx context.Context) ([]*runner, error) {
	var senders []*runner
	for i := range 1 + greedySenders {
		from, to, bps := flowTuple.Source.String(), flowTuple.Destination.String(), uint64(flowRate)
		if i > 0 {
			from, to, bps = greedyHost+":6000", subscriber+":6001", greedyRate/greedySenders
		}
		s, err := d.runTraffic(ctx, "send", "--wire", three.GatewayWire, "--from", from, "--to", to,
			"--stream", fmt.Sprint(i), "--rate", units.FormatRate(bps))
		if err != nil {
			return nil, err
		}
		senders = append(senders, s)
	}
	return senders, nil
}

// flowRateOf adds up what the senders of one flow sent, and what arrived of it.
func flowRateOf(sent []traffic.SendReport, arrived *traffic.ReceiveReport) FlowRate {
	f := FlowRate{Flow: sent[0].Flow}
	for _, s := range sent {
		f.Offered += s.Rate
	}
	for _, a := range arrived.Flows {
		if a.Flow == f.Flow {
			f.Received += a.Rate
			f.Lost += a.Lost
			f.DSCP = a.DSCP
			f.DelayMax = max(f.DelayMax, float64(a.DelayMax.Nanoseconds())/1e3)
		}
	}
	if f.Offered > 0 {
		f.Share = float64(f.Received) / float64(f.Offered)
	}
	return f
}

// notEnough says why a measurement does not count; empty if it does. enough is the
// share that has to be sent, arrived what came of the flow in the window.
func notEnough(t *Traffic, enough float64, sent []traffic.SendReport, gateway counts, arrived traffic.FlowReport) string {
	if got := t.Flow.Offered; float64(got) < enough*flowRate {
		return "of the flow, " + rate(got) + " was sent"
	}
	if got := t.Greedy.Offered; float64(got) < enough*greedyRate {
		return "of the greedy flow, " + rate(got) + " was sent"
	}
	var packets uint64
	for _, s := range sent {
		packets += s.Packets
	}
	if float64(gateway.seen) < (1-enoughLost)*float64(packets) {
		return fmt.Sprintf("%d packets were sent, %d reached the gateway", packets, gateway.seen)
	}
	if !gateway.reserved {
		return ""
	}
	if lost := arrived.Lost; float64(lost) > float64(gateway.dropped)+enoughLost*float64(arrived.Packets) {
		return fmt.Sprintf("%d packets of the flow were lost, %d of them by the gateway", lost, gateway.dropped)
	}
	// What came in the window and what is missing between is what was sent in
	// it, unless the sender or the receiver had to wait.
	if arrived.Packets > 0 {
		got := float64(t.Flow.Received) * float64(arrived.Packets+arrived.Lost) / float64(arrived.Packets)
		if all := float64(t.Flow.Offered); got < enoughSent*all || got > (2-enoughSent)*all {
			return "within the window, " + rate(uint64(got)) + " of the flow was on its way"
		}
	}
	return ""
}
