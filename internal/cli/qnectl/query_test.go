package qnectl

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/cli/clitest"
	"github.com/interqos/interqos/node"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// asker is a fake that is queried, changed and watched.
type asker struct {
	*fake
	queried  *api.ReserveRequest
	modified *api.ModifyRequest
	events   []*api.WatchEvent
}

func (f *asker) Query(_ context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	f.queried = r
	return f.outcome, nil
}

func (f *asker) Modify(_ context.Context, r *api.ModifyRequest) (*api.Outcome, error) {
	f.modified = r
	return f.outcome, nil
}

func (f *asker) Watch(_ context.Context, id wire.SID, tell func(*api.WatchEvent) error) error {
	if id.String() != sid {
		return fmt.Errorf("%w: no reservation %s in this AS", node.ErrNotFound, id)
	}
	for _, ev := range f.events {
		if err := tell(ev); err != nil {
			return err
		}
	}
	return nil
}

func newAsker() *asker { return &asker{fake: three()[0]} }

var queryBasic = []string{"query", "--from", "10.1.0.10", "--to", "10.3.0.10", "--class", "EF"}

func TestQuery(t *testing.T) {
	f := newAsker()
	f.outcome = &api.Outcome{SessionId: other, Accepted: true, GrantedRate: 40e6, Info: &api.Info{Class: 2, Code: 3}, ElapsedUs: 5120,
		Qspec: "tmod=40M/64k class=EF!M latency=9ms jitter=0/0us/0us!N plr=0!N",
		Domains: []*api.Domain{
			{As: 65001, Verdict: api.Verdict_VERDICT_QUERIED, SlsId: "gold", ElapsedUs: 300, LargestRate: 80e6, Proof: api.Proof_PROOF_OWN},
			{As: 65002, Verdict: api.Verdict_VERDICT_QUERIED, SlsId: "gold", ElapsedUs: 412, LargestRate: 40e6, Proof: api.Proof_PROOF_VERIFIED},
			{As: 65003, Verdict: api.Verdict_VERDICT_QUERIED, SlsId: "east", ElapsedUs: 120, LargestRate: 40e6, Proof: api.Proof_PROOF_UNSIGNED},
		}}
	socket := clitest.Serve(t, f)
	golden(t, "query.txt", socket, 0, queryBasic...)
	if want := (&api.ReserveRequest{Source: "10.1.0.10", Destination: "10.3.0.10", Class: "EF", CheckRecords: true}); !proto.Equal(f.queried, want) {
		t.Errorf("asked for %v, want %v", f.queried, want)
	}
	golden(t, "query.json", socket, 0, with(queryBasic, "-o", "json")...)
	golden(t, "help-query.txt", socket, 0, "query", "--help")

	f.outcome.Accepted, f.outcome.GrantedRate = false, 10e6
	f.outcome.Qspec = "tmod=10M/64k class=EF!M latency=9ms time=2026-11-21T20:00:00Z..2026-11-21T21:00:00Z!M"
	f.outcome.Domains[1].LargestRate, f.outcome.Domains[1].Earliest = 10e6, timestamppb.New(then.Add(time.Hour))
	f.outcome.Domains[2].LargestRate = 10e6
	golden(t, "query-less.txt", socket, 1, with(queryBasic, "--rate", "20M", "--start", "2126-11-21T20:00:00Z", "--end", "2126-11-21T21:00:00Z")...)
	if f.queried.GetTimes() != "time=2126-11-21T20:00:00Z..2126-11-21T21:00:00Z" || f.queried.GetRate() != 20e6 {
		t.Errorf("asked for %v", f.queried)
	}
	refused(f.fake)
	golden(t, "query-refused.txt", socket, 1, with(queryBasic, "--rate", "100M")...)
	golden(t, "query-refused.json", socket, 1, with(queryBasic, "--rate", "100M", "-o", "json")...)
}

// How far a request goes.
func TestScopes(t *testing.T) {
	f := newAsker()
	socket := clitest.Serve(t, f)
	f.outcome.Scope, f.outcome.Domains = api.Scope_SCOPE_NEXT_HOP, f.outcome.Domains[:2]
	golden(t, "reserve-scope.txt", socket, 0, with(basic, "--scope", "next-hop")...)
	if f.asked.GetScope() != api.Scope_SCOPE_NEXT_HOP || f.asked.GetProxy() {
		t.Errorf("asked for %v", f.asked)
	}
	golden(t, "reserve-scope.json", socket, 0, with(basic, "--scope", "next-hop", "-o", "json")...)
	golden(t, "query-scope.txt", socket, 0, with(queryBasic, "--scope", "next-hop")...)
	if f.queried.GetScope() != api.Scope_SCOPE_NEXT_HOP {
		t.Errorf("asked for %v", f.queried)
	}
	f.outcome.Scope, f.outcome.Proxy = api.Scope_SCOPE_WHOLE_PATH, true
	golden(t, "reserve-proxy.txt", socket, 0, with(basic, "--proxy", "--scope", "whole-path")...)
	if f.asked.GetScope() != api.Scope_SCOPE_WHOLE_PATH || !f.asked.GetProxy() {
		t.Errorf("asked for %v", f.asked)
	}
	golden(t, "query-proxy.txt", socket, 0, with(queryBasic, "--proxy")...)
	if !f.queried.GetProxy() {
		t.Errorf("asked for %v", f.queried)
	}
}

func TestModify(t *testing.T) {
	f := newAsker()
	f.outcome.GrantedRate = 30e6
	socket := clitest.Serve(t, f)
	golden(t, "modify.txt", socket, 0, "modify", "5f3a", "--rate", "30M", "--min-rate", "10M")
	if want := (&api.ModifyRequest{SessionId: sid, Rate: 30e6, MinRate: 10e6, CheckRecords: true}); !proto.Equal(f.modified, want) {
		t.Errorf("asked for %v, want %v", f.modified, want)
	}
	golden(t, "modify.json", socket, 0, "modify", sid, "--qspec", "tmod=30M/64k class=EF", "-o", "json")
	if f.modified.GetQspec() != "tmod=30M/64k class=EF" {
		t.Errorf("asked for %v", f.modified)
	}
	golden(t, "modify-help.txt", socket, 0, "modify", "--help")
	refused(f.fake)
	golden(t, "modify-refused.txt", socket, 1, "modify", sid, "--rate", "300M")
}

func TestWatch(t *testing.T) {
	f := newAsker()
	r := f.reservations[0]
	changed := proto.CloneOf(r)
	changed.Rate, changed.Rsn = 30e6, 2
	stamp := func(n int) *timestamppb.Timestamp { return timestamppb.New(then.Add(time.Duration(n) * time.Second)) }
	f.events = []*api.WatchEvent{
		{Time: stamp(0), Reservation: r},
		{Time: stamp(1), Message: &api.TraceEvent{Message: "Data{RESERVE}", To: "127.2.0.1:270", Note: "RSN 2"}},
		{Time: stamp(2), Reservation: changed},
		{Time: stamp(2), Info: &api.Info{Class: 2, Code: 1}},
		{Time: stamp(2), Notification: &api.Info{Class: 4, Code: 6, Source: "127.2.0.1"}},
		{Time: stamp(3), Gone: true},
	}
	socket := clitest.Serve(t, f)
	golden(t, "watch.txt", socket, 0, "watch", "5f3a")
	golden(t, "watch-changes.txt", socket, 0, "watch", "5f3a", "--changes")
	golden(t, "watch.json", socket, 0, "watch", "5f3a", "-o", "json")
	got := clitest.Run(t, App(), "", "-s", socket, "watch", strings.Repeat("0", 32))
	if got.Status != 1 || !strings.Contains(got.Stderr, "no reservation 0000") {
		t.Errorf("got %+v", got)
	}
}

// What cannot be is told with what would be right.
func TestAskFailures(t *testing.T) {
	socket := clitest.Serve(t, newAsker())
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"two ways":        {with(basic, "--qspec", "class=EF"), "--qspec and --class: the QSPEC says all of it; give one of the two"},
		"no class":        {queryBasic[:5], "qnectl query needs --class; e.g. qnectl query --from 10.1.0.10 --to 10.3.0.10 --rate 20M --class EF"},
		"least of none":   {with(queryBasic[1:], "--min-rate", "1M"), "--peak, --min-rate and --burst go with a --rate; without one it is the class alone, with no rate promised"},
		"no end":          {with(basic, "--start", "+1h"), "--start and --window need --end or --duration: a booking has an end"},
		"both ends":       {with(basic, "--end", "+2h", "--duration", "1h"), "--end and --duration: give one of the two"},
		"backwards":       {with(basic, "--start", "2126-01-01T00:00:00Z", "--end", "2125-01-01T00:00:00Z"), "from 2126-01-01T00:00:00Z until 2125-01-01T00:00:00Z: expected an end after the start, and after now"},
		"short":           {with(basic, "--duration", "1ms"), "--duration 1ms: expected at least a second, e.g. 2h"},
		"window":          {with(basic, "--duration", "100h", "--window", "mon"), `--window "mon": expected days, the start of the window with its offset from UTC, and its length, as in mon-fri/08:00+01:00/10h`},
		"relative":        {with(basic, "--start", "+x", "--duration", "1h"), `--start: "+x": expected a duration after the +, e.g. +10m`},
		"no such scope":   {with(basic, "--scope", "next-domain"), `--scope "next-domain": expected whole-path or next-hop`},
		"two ends":        {with(queryBasic[1:], "--scope", "next-hop", "--proxy"), "--scope next-hop and --proxy: the path ends at the one or the other; give one of the two"},
		"scoped receiver": {with(basic, "--scope", "next-hop", "--receiver-initiated"), "--scope next-hop and --receiver-initiated: the receiver is where the whole path ends; to invite a proxy QNE give --proxy instead"},
		"half as far":     {with(basic, "--proxy", "--bidirectional"), "--bidirectional is for the whole path: leave --scope and --proxy out"},
		"nothing changed": {[]string{"modify", sid}, "qnectl modify needs something to change, e.g. --rate 30M"},
		"a rate of zero":  {[]string{"modify", sid, "--rate", "0"}, "--rate 0: expected a rate above zero"},
	} {
		t.Run(name, func(t *testing.T) {
			args := c.args
			if args[0] == "--from" {
				args = append([]string{"reserve"}, args...)
			}
			got := clitest.Run(t, App(), "", append([]string{"-s", socket}, args...)...)
			if got.Status != 2 || got.Stderr != "qnectl: "+c.want+"\n" {
				t.Errorf("got %+v\nwant %s", got, c.want)
			}
		})
	}
}

// Times as the API takes them: from the request on where they are relative, so that
// qned counts, otherwise absolute.
func TestTimes(t *testing.T) {
	f := newAsker()
	socket := clitest.Serve(t, f)
	for want, args := range map[string][]string{
		"when=in/10m/2h": {"--start", "+10m", "--duration", "2h"},
		"when=in/0s/90s": {"--duration", "90s"},
		"time=2126-01-01T08:00:00Z..2126-01-01T10:00:00Z":                                          {"--start", "2126-01-01T09:00:00+01:00", "--duration", "2h"},
		"time=2126-01-01T00:00:00Z..2126-02-01T00:00:00Z when=mon,tue,wed,thu,fri/08:00+01:00/10h": {"--start", "2126-01-01T00:00:00Z", "--end", "2126-02-01T00:00:00Z", "--window", "mon-fri/08:00+01:00/10h"},
	} {
		got := clitest.Run(t, App(), "", append(with(basic, args...), "-s", socket)...)
		if got.Status != 0 || f.asked.GetTimes() != want {
			t.Errorf("%v: %q, want %q; %s", args, f.asked.GetTimes(), want, got.Stderr)
		}
	}
}

// pair is one end of a bidirectional reservation.
type pair struct {
	*fake
	released []string
}

func (p *pair) Release(_ context.Context, id wire.SID) (*api.Outcome, error) {
	p.released = append(p.released, id.String())
	return &api.Outcome{Accepted: true}, nil
}

// Both directions or neither.
func TestBothWays(t *testing.T) {
	near, far := &pair{fake: three()[0]}, &pair{fake: three()[0]}
	here, there := clitest.Serve(t, near), clitest.Serve(t, far)
	both := with(basic, "--session", sid, "--bidirectional", "--far-socket", there)
	golden(t, "bothways.txt", here, 0, both...)
	a, b := near.asked, far.asked
	if a.GetSessionId() != sid || a.GetOppositeSessionId() != b.GetSessionId() || b.GetOppositeSessionId() != sid || len(b.GetSessionId()) != 32 ||
		b.GetSource() != "10.3.0.10" || b.GetDestination() != "10.1.0.10" || b.GetSourcePort() != 5001 || b.GetDestinationPort() != 0 || b.GetRate() != 20e6 {
		t.Errorf("asked for %v and %v", a, b)
	}
	refused(far.fake)
	golden(t, "bothways-refused.txt", here, 1, both...)
	if len(near.released) != 1 || near.released[0] != sid || len(far.released) != 0 {
		t.Errorf("released %v and %v, want the way there", near.released, far.released)
	}
	golden(t, "bothways-refused.json", here, 1, with(both, "-o", "json")...)
	refused(near.fake)
	far.asked = nil
	golden(t, "bothways-first.txt", here, 1, both...)
	if far.asked != nil {
		t.Errorf("the way back was asked for all the same: %v", far.asked)
	}
	got := clitest.Run(t, App(), "", with(basic, "-s", here, "--bidirectional")...)
	if got.Status != 2 || !strings.Contains(got.Stderr, "--bidirectional needs --far-socket") {
		t.Errorf("got %+v", got)
	}
}
