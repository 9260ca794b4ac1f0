package slsctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/clitest"
	"github.com/interqos/interqos/node"
	"github.com/interqos/interqos/sls"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fake has two SLSs.
type fake struct {
	node.Backend
	applied   []*api.ApplyRequest
	deleted   []*api.DeleteSLSRequest
	confirmed []*api.ConfirmRequest
	broken    error       // of Backup
	at        []time.Time // of usage
	matched   []*api.MatchRequest
	rolled    []*api.RollbackRequest
	asked     []*api.CalendarRequest
}

const gold = `id: as65001-as65002-gold
customer: 65001
provider: 65002
classes: [{class: EF, cir: 100M}]
`

func twoSLSs() []*api.SLS {
	return []*api.SLS{
		{
			Id: "as65001-as65002-gold", Version: 3, Customer: 65001, Provider: 65002, Status: "active",
			Destinations: []string{"10.3.0.0/16"}, Sources: []string{"any"}, Degree: "per-flow",
			Classes: []*api.SLSClass{
				{Class: "EF", Cir: 100e6, Cbs: 64000, Pir: 120e6, Pbs: 128000, LargestFlow: 50e6, Excess: "drop"},
				{Class: "AF41", Relative: true},
			},
			ChangedBy: "uid 1000, gid 1000", ChangedAt: timestamppb.New(time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)),
			Yaml: []byte(gold),
		},
		{Id: "hosts", Version: 1, Customer: 65001, Provider: 65001, Status: "suspended", Sources: []string{"10.1.0.0/16"}},
	}
}

func (f *fake) ApplySLS(_ context.Context, r *api.ApplyRequest, _ string) (*api.ApplyResponse, error) {
	if strings.Contains(string(r.GetYaml()), "wrong") {
		return nil, fmt.Errorf("%w: %s:2:9: found \"wrong\", expected an AS number", node.ErrInvalid, r.GetName())
	}
	f.applied = append(f.applied, r)
	if d := r.GetConfirmWithin(); d != nil {
		return &api.ApplyResponse{Applied: []*api.AppliedSLS{{Id: "gold", Action: api.AppliedSLS_CHANGED, Version: 3, ConfirmUntil: timestamppb.New(newYear.Add(d.AsDuration())),
			Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "40M", After: "60M"}}}}}, nil
	}
	return &api.ApplyResponse{Applied: []*api.AppliedSLS{
		{Id: "gold", Action: api.AppliedSLS_CREATED, Version: 1},
		{Id: "silver", Action: api.AppliedSLS_UNCHANGED, Version: 7},
	}}, nil
}

func (f *fake) ListSLS(context.Context) ([]*api.SLS, error) { return twoSLSs(), nil }

func (f *fake) ShowSLS(_ context.Context, id string) (*api.SLS, error) {
	for _, s := range twoSLSs() {
		if s.GetId() == id {
			return s, nil
		}
	}
	return nil, fmt.Errorf("SLS %s: %w", id, node.ErrNotFound)
}

func (f *fake) SLSUsage(_ context.Context, id string, at time.Time) ([]*api.SLSUsage, error) {
	f.at = append(f.at, at)
	all := []*api.SLSUsage{
		{SlsId: "as65001-as65002-gold", Class: "EF", Capacity: 100e6, Committed: 20e6, Held: 500e3, Reservations: 2},
		{SlsId: "as65001-as65002-gold", Class: "AF41"},
		{SlsId: "hosts", Class: "EF", Capacity: 1e9, Committed: 1e9, Reservations: 10},
	}
	if id != "" {
		return all[:2], nil
	}
	return all, nil
}

func (f *fake) DeleteSLS(_ context.Context, r *api.DeleteSLSRequest, _ string) (*api.DeleteSLSResponse, error) {
	id := r.GetId()
	a := &api.AppliedSLS{Id: id, Action: api.AppliedSLS_DELETED, Version: 3}
	if r.GetDryRun() && id == "hosts" {
		a.Breaks = []*api.SLSBreak{{SessionId: "03000000000000000000000000000000", Class: "EF", Rate: 16e6, From: timestamppb.New(newYear), Why: "hosts: is deleted"}}
		return &api.DeleteSLSResponse{Deleted: a}, nil
	}
	if id == "hosts" {
		return nil, fmt.Errorf("SLS hosts: %w: 10 reservations stand on it; release them first", node.ErrConflict)
	}
	f.deleted = append(f.deleted, r)
	return &api.DeleteSLSResponse{Deleted: a}, nil
}

func (f *fake) ConfirmSLS(_ context.Context, r *api.ConfirmRequest, _ string) (*api.ApplyResponse, error) {
	f.confirmed = append(f.confirmed, r)
	a := &api.AppliedSLS{Id: r.GetId(), Action: api.AppliedSLS_CONFIRMED, Version: 3}
	switch {
	case r.GetId() == "none":
		return nil, fmt.Errorf("%w: SLS none has no change that waits to be confirmed", node.ErrNotFound)
	case r.GetTakeBack():
		a = &api.AppliedSLS{Id: r.GetId(), Action: api.AppliedSLS_CHANGED, Version: 4, Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "60M", After: "40M"}},
			Breaks: []*api.SLSBreak{{SessionId: "03000000000000000000000000000000", Class: "EF", Rate: 16e6, From: timestamppb.New(newYear), Why: "gold: of 5000000 octets/s of EF, not all that is sold fits from 2027-01-01T00:00:00Z"}}}
	}
	return &api.ApplyResponse{Applied: []*api.AppliedSLS{a}}, nil
}

const copied = 200_000 // octets

func (f *fake) Backup(_ context.Context, w io.Writer) error {
	if f.broken != nil {
		_, _ = w.Write([]byte("half"))
		return f.broken
	}
	_, err := w.Write(bytes.Repeat([]byte("store "), copied)[:copied])
	return err
}

func (f *fake) PlanSLS(_ context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error) {
	a := &api.AppliedSLS{Id: "gold", Action: api.AppliedSLS_CHANGED, Version: 4, Diff: []*api.SLSEdit{
		{Path: "classes[EF].cir", Before: "40M", After: "24M"}, {Path: "valid.to", After: "2028-01-01T00:00:00Z"},
	}}
	if r.GetName() == "standard input" {
		a.Breaks = []*api.SLSBreak{{
			SessionId: "03000000000000000000000000000000", Class: "EF", Rate: 16e6, From: timestamppb.New(newYear),
			Why: "gold: of 3000000 octets/s of EF, not all that is sold fits from 2027-01-01T00:00:00Z",
		}}
	}
	return &api.ApplyResponse{Applied: []*api.AppliedSLS{a, {Id: "new", Action: api.AppliedSLS_CREATED, Version: 1}}}, nil
}

func (f *fake) SLSHistory(_ context.Context, id string) (*api.SLSHistoryResponse, error) {
	return &api.SLSHistoryResponse{Changes: []*api.SLSChange{
		{Version: 4, At: timestamppb.New(newYear), By: "uid 7", Why: "ended", Event: api.SLSChange_DELETED},
		{Version: 4, At: timestamppb.New(newYear), By: "uid 7", Event: api.SLSChange_CONFIRMED},
		{Version: 4, At: timestamppb.New(newYear), By: "uid 7", Event: api.SLSChange_APPLIED, ConfirmUntil: timestamppb.New(newYear.Add(time.Minute)), Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "40M", After: "60M"}}},
		{Version: 3, At: timestamppb.New(newYear), By: "qned", Why: "back to version 1: not confirmed by 2027-01-01T00:00:00Z", Event: api.SLSChange_APPLIED, Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "24M", After: "40M"}}},
		{Version: 2, At: timestamppb.New(newYear), By: "uid 7", Why: "less is used", Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "40M", After: "24M"}}},
		{Version: 1, At: timestamppb.New(newYear.Add(-time.Hour)), By: "uid 0"},
	}}, nil
}

func (f *fake) RollbackSLS(_ context.Context, r *api.RollbackRequest, _ string) (*api.ApplyResponse, error) {
	f.rolled = append(f.rolled, r)
	return &api.ApplyResponse{Applied: []*api.AppliedSLS{{Id: r.GetId(), Action: api.AppliedSLS_CHANGED, Version: 3, Diff: []*api.SLSEdit{{Path: "classes[EF].cir", Before: "24M", After: "40M"}}}}}, nil
}

// A plan that breaks something is a failure, and says what.
func TestPlanAndRollback(t *testing.T) {
	f := &fake{}
	socket := clitest.Serve(t, f)
	got := clitest.Run(t, App(), gold, "plan", "-s", socket, "-f", "-")
	if got.Status != cli.ExitFailed || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
	clitest.Golden(t, "plan-breaks.txt", got.Stdout)
	if got := clitest.Run(t, App(), "", "rollback", "-s", socket, "gold", "--to", "1", "--preempt", "--why", "as agreed"); got.Status != cli.ExitOK {
		t.Errorf("%+v", got)
	}
	want := &api.RollbackRequest{Id: "gold", Version: 1, Preempt: true, Why: "as agreed"}
	if len(f.rolled) != 1 || !proto.Equal(f.rolled[0], want) {
		t.Errorf("asked %v, want %v", f.rolled, want)
	}
	if got := clitest.Run(t, App(), gold, "apply", "-s", socket, "-f", "-", "--preempt", "--why", "x"); got.Status != cli.ExitOK {
		t.Errorf("%+v", got)
	}
	if n := len(f.applied); n != 1 || !f.applied[0].GetPreempt() || f.applied[0].GetWhy() != "x" {
		t.Errorf("applied %v", f.applied)
	}
}

var newYear = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func (f *fake) MatchSLS(_ context.Context, r *api.MatchRequest) (*api.MatchResponse, error) {
	f.matched = append(f.matched, r)
	resp := &api.MatchResponse{
		Covering: []*api.SLSFit{{SlsId: "small", Why: "small: of 1000000 octets/s of EF, 500000 can still be had at that time", Largest: 4e6, Earliest: timestamppb.New(newYear)}},
		Others:   []*api.SLSFit{{SlsId: "back", Why: "back: is from AS2 to AS1, not from AS1 to AS2"}},
		More:     3,
	}
	if r.GetRate() < 100e6 {
		resp.SlsId, resp.Rate = "gold", r.GetRate()
		resp.Covering = append(resp.Covering, &api.SLSFit{SlsId: "gold", Fits: true, Rate: r.GetRate()}, &api.SLSFit{SlsId: "wide", Fits: true, Rate: r.GetRate()})
	}
	return resp, nil
}

func (f *fake) SLSCalendar(_ context.Context, r *api.CalendarRequest) (*api.CalendarResponse, error) {
	f.asked = append(f.asked, r)
	hour := func(n int) *timestamppb.Timestamp { return timestamppb.New(newYear.Add(time.Duration(n) * time.Hour)) }
	resp := &api.CalendarResponse{SlsId: r.GetId(), Class: "EF", From: hour(0), Until: hour(24), Largest: 20e6, Steps: []*api.CalendarStep{
		{From: hour(0), Until: hour(8), Committed: 20e6, Capacity: 100e6},
		{From: hour(8), Until: hour(9), Committed: 50e6, Held: 30e6, Capacity: 100e6},
		{From: hour(9), Until: hour(24), Committed: 0},
	}}
	if r.GetRate() == 40e6 {
		resp.Earliest = hour(9)
	}
	return resp, nil
}

func TestOutput(t *testing.T) {
	f := &fake{}
	socket := clitest.Serve(t, f)
	for name, args := range map[string][]string{
		"list.txt":        {"list"},
		"list.json":       {"list", "-o", "json"},
		"show.txt":        {"show", "as65001-as65002-gold"},
		"show.yaml":       {"-o", "yaml", "show", "as65001-as65002-gold"},
		"usage.txt":       {"usage"},
		"usage-one.txt":   {"usage", "as65001-as65002-gold"},
		"usage-at.json":   {"usage", "hosts", "--at", "2027-01-01T20:00:00+01:00", "--output=json"},
		"apply.txt":       {"apply", "-f", "-"},
		"apply-dry.txt":   {"apply", "--dry-run", "-"},
		"apply.yaml":      {"apply", "-f", "-", "-o", "yaml"},
		"delete.txt":      {"delete", "a", "b", "--why", "ended", "--preempt"},
		"delete.json":     {"delete", "c", "-o", "json"},
		"confirm.txt":     {"confirm", "a", "b"},
		"confirm.json":    {"confirm", "a", "-o", "json"},
		"takeback.txt":    {"confirm", "a", "--take-back", "--why", "worse"},
		"within.txt":      {"apply", "-", "--confirm-within", "10m"},
		"within.json":     {"apply", "-", "--confirm-within", "10m", "-o", "json"},
		"help.txt":        {"--help"},
		"help-apply.txt":  {"apply", "--help"},
		"history.txt":     {"history", "gold"},
		"history.json":    {"history", "gold", "-o", "json"},
		"rollback.txt":    {"rollback", "gold"},
		"match.txt":       {"match", "--to", "10.3.0.1", "--class", "EF", "--rate", "20M"},
		"match.json":      {"match", "--from", "10.1.0.0/24", "--to", "10.3.0.1", "--class", "EF", "--rate", "20M", "-o", "json"},
		"calendar.txt":    {"calendar", "gold"},
		"calendar-at.txt": {"calendar", "gold", "--from", "2027-01-01T00:00:00Z", "--for", "24h", "--rate", "40M", "--length", "2h"},
		"calendar.yaml":   {"calendar", "gold", "-o", "yaml"},
		"schema.json":     {"schema", "json"},
		"schema.yang":     {"schema", "yang"},
		"yang-data.json":  {"schema", "yang-data", "-"},
		"completion.bash": {"completion", "bash"},
		"completion.zsh":  {"completion", "zsh"},
		"completion.fish": {"completion", "fish"},
	} {
		t.Run(name, func(t *testing.T) {
			got := clitest.Run(t, App(), gold, append([]string{"--socket", socket}, args...)...)
			if got.Status != cli.ExitOK || got.Stderr != "" {
				t.Fatalf("status %d, %s", got.Status, got.Stderr)
			}
			clitest.Golden(t, name, strings.ReplaceAll(got.Stdout, cli.Version(), "VERSION"))
		})
	}
	if want := time.Date(2027, 1, 1, 19, 0, 0, 0, time.UTC); !slices.ContainsFunc(f.at, want.Equal) || len(f.at) != 3 {
		t.Errorf("usage was asked for %s, want %s among three", f.at, want)
	}
	for i, want := range []proto.Message{
		&api.DeleteSLSRequest{Id: "a", Why: "ended", Preempt: true}, &api.DeleteSLSRequest{Id: "b", Why: "ended", Preempt: true}, &api.DeleteSLSRequest{Id: "c"},
	} {
		if len(f.deleted) != 3 || !slices.ContainsFunc(f.deleted, func(r *api.DeleteSLSRequest) bool { return proto.Equal(r, want) }) {
			t.Errorf("deleted %v, want %d: %v", f.deleted, i, want)
		}
	}
	if want := (&api.ConfirmRequest{Id: "a", TakeBack: true, Why: "worse"}); len(f.confirmed) != 4 || !slices.ContainsFunc(f.confirmed, func(r *api.ConfirmRequest) bool { return proto.Equal(r, want) }) {
		t.Errorf("confirmed %v, want %v among four", f.confirmed, want)
	}
}

// What is in the way of a deletion is a failure. A backup is whole or not there.
func TestDeleteDryAndBackup(t *testing.T) {
	f := &fake{}
	socket := clitest.Serve(t, f)
	got := clitest.Run(t, App(), "", "delete", "-s", socket, "hosts", "--dry-run")
	if got.Status != cli.ExitFailed || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
	clitest.Golden(t, "delete-dry.txt", got.Stdout)
	dir := t.TempDir()
	path := filepath.Join(dir, "b.db")
	got = clitest.Run(t, App(), "", "backup", "-s", socket, path)
	text, err := os.ReadFile(path)
	if got.Status != cli.ExitOK || err != nil || len(text) != copied || got.Stdout != path+": 200000 octets\n" {
		t.Errorf("%+v, %d octets, %v", got, len(text), err)
	}
	if got := clitest.Run(t, App(), "", "backup", "-s", socket, "-"); got.Status != cli.ExitOK || got.Stdout != string(text) {
		t.Errorf("%d, %s, %d octets", got.Status, got.Stderr, len(got.Stdout))
	}
	f.broken = fmt.Errorf("%w: the disk is full", node.ErrBusy)
	got = clitest.Run(t, App(), "", "backup", "-s", socket, path)
	left, err := os.ReadFile(path)
	if files, _ := os.ReadDir(dir); got.Status != cli.ExitFailed || !strings.Contains(got.Stderr, "the disk is full") || err != nil || string(left) != string(text) || len(files) != 1 {
		t.Errorf("%+v, %d octets, %v, %v; want the former file and no other", got, len(left), err, files)
	}
}

// The examples in the documentation are what is printed.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/slsctl.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"within.txt", "confirm.txt", "takeback.txt", "delete-dry.txt", "history.txt"} {
		if text, err := os.ReadFile(filepath.Join("testdata", name)); err != nil || !strings.Contains(string(page), "\n"+string(text)+"```") && !strings.Contains(string(page), "\n"+string(text)+"$ ") {
			t.Errorf("docs/slsctl.md lacks %s (%v):\n%s", name, err, text)
		}
	}
}

func TestApply(t *testing.T) {
	f := &fake{}
	socket := clitest.Serve(t, f)
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for name, text := range map[string]string{good: gold, bad: "wrong"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := clitest.Run(t, App(), "", "apply", "-f", good, "-s", socket, "-f", bad, "--dry-run")
	want := "slsctl: " + bad + ":2:9: found \"wrong\", expected an AS number\n"
	if got.Status != cli.ExitFailed || got.Stderr != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if len(f.applied) != 1 || string(f.applied[0].GetYaml()) != gold || f.applied[0].GetName() != good || !f.applied[0].GetDryRun() {
		t.Errorf("applied %v", f.applied)
	}
	got = clitest.Run(t, App(), "", "apply", "-s", socket, filepath.Join(dir, "none.yaml"))
	if got.Status != cli.ExitFailed || !strings.Contains(got.Stderr, "none.yaml: no such file") {
		t.Errorf("got %+v", got)
	}
}

func TestFailures(t *testing.T) {
	socket := clitest.Serve(t, &fake{})
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"not found":     {[]string{"show", "x"}, 1, "SLS x: not found"},
		"in use":        {[]string{"delete", "hosts"}, 1, "SLS hosts: not possible now: 10 reservations stand on it; release them first"},
		"no file":       {[]string{"apply"}, 2, "slsctl apply: which file? E.g. slsctl apply -f gold.yaml"},
		"no id":         {[]string{"show"}, 2, "slsctl show: which SLS? See slsctl show --help"},
		"two ids":       {[]string{"show", "x", "y"}, 2, `slsctl show: "y" is one argument too many; see slsctl show --help`},
		"time":          {[]string{"usage", "--at", "tomorrow"}, 2, `--at "tomorrow": expected a time in RFC 3339, e.g. 2027-01-01T20:00:00Z`},
		"format":        {[]string{"list", "-o", "xml"}, 2, `--output "xml": expected table, json or yaml`},
		"no command":    {nil, 2, "which command? One of apply, list, show, usage, delete, plan, confirm, history, rollback, backup, match, calendar, schema, completion; see slsctl --help"},
		"wrong command": {[]string{"aply"}, 2, `slsctl has no command "aply": did you mean apply?`},
		"within":        {[]string{"apply", "-", "--confirm-within", "1ms"}, 2, "--confirm-within 1ms: expected a duration of at least 1s, e.g. 10m"},
		"not waiting":   {[]string{"confirm", "none"}, 1, "not found: SLS none has no change that waits to be confirmed"},
		"backup where":  {[]string{"backup"}, 2, "slsctl backup: which file? See slsctl backup --help"},
		"wrong option":  {[]string{"list", "--al"}, 2, "there is no option -al; see slsctl list --help"},
		"plan what":     {[]string{"plan"}, 2, "slsctl plan: which file? E.g. slsctl plan -f gold.yaml"},
		"match what":    {[]string{"match", "--to", "10.3.0.1"}, 2, "slsctl match: where to, which class, which rate? E.g. slsctl match --to 10.3.0.10 --class EF --rate 20M"},
		"rate":          {[]string{"match", "--to", "10.3.0.1", "--class", "EF", "--rate", "much"}, 2, `--rate "much" is not a rate: "much" is not a number; expected a whole or decimal number of bit/s with an optional k, M, G or T, e.g. 64k, 20M, 1.5G`},
		"no time":       {[]string{"match", "--to", "10.3.0.1", "--class", "EF", "--rate", "1M", "--for", "-2h"}, 2, "--for -2h0m0s: expected more than 0, e.g. 2h"},
		"length":        {[]string{"calendar", "gold", "--length", "2h"}, 2, "--length 2h0m0s: expected a duration above 0, and --rate"},
		"no language":   {[]string{"schema"}, 2, "slsctl schema: which language: json, yang or yang-data? See slsctl schema --help"},
		"language":      {[]string{"schema", "xsd"}, 2, `slsctl schema: "xsd" is not json, yang or yang-data`},
		"data of what":  {[]string{"schema", "yang-data"}, 2, "slsctl schema yang-data: which file? E.g. slsctl schema yang-data gold.yaml"},
		"too much":      {[]string{"schema", "yang", "x"}, 2, `slsctl schema: "x" is one argument too many; see slsctl schema --help`},
		"shell":         {[]string{"completion", "tcsh"}, 2, `slsctl completion: "tcsh" is not bash, zsh or fish`},
		"socket":        {[]string{"list", "--socket", "nowhere"}, 2, `--socket "nowhere": expected unix:PATH or HOST:PORT`},
		"TCP":           {[]string{"list", "--socket", "127.0.0.1:1"}, 2, "--socket 127.0.0.1:1: over TCP the API needs --cert, --key and --ca"},
		"no daemon": {[]string{"list", "--socket", "unix:/nonexistent/s"}, 3, "cannot reach qned: there is no socket /nonexistent/s. Is qned running? " +
			"Otherwise its socket is admin.listen in its configuration; name it with --socket unix:PATH or INTERQOS_SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			got := clitest.Run(t, App(), "", append([]string{"--socket", socket}, test.args...)...)
			if got.Status != test.status || got.Stderr != "slsctl: "+test.want+"\n" || got.Stdout != "" {
				t.Errorf("got %+v, want %d, %q", got, test.status, test.want)
			}
		})
	}
}

// What is asked for gets there; a request that nothing serves is a failure.
func TestMatchAndCalendar(t *testing.T) {
	f := &fake{}
	socket := clitest.Serve(t, f)
	got := clitest.Run(t, App(), "", "match", "-s", socket, "--from", "10.1.0.1", "--to", "10.3.0.1", "--class", "AF41", "--rate", "1G",
		"--min-rate", "100M", "--peak", "2G", "--priority", "2", "--at", "2027-01-01T20:00:00+01:00", "--for", "2h", "--customer", "1",
		"--provider", "2", "--egress", "127.0.0.1", "--ingress", "127.0.0.2", "--limit", "9")
	if got.Status != cli.ExitFailed || got.Stderr != "" || !strings.HasPrefix(got.Stdout, "No SLS would serve it.\n") {
		t.Errorf("%+v", got)
	}
	from := time.Date(2027, 1, 1, 19, 0, 0, 0, time.UTC)
	want := &api.MatchRequest{
		Source: "10.1.0.1", Destination: "10.3.0.1", Class: "AF41", Rate: 1e9, MinRate: 100e6, Peak: 2e9, Priority: 2, Customer: 1, Provider: 2,
		Egress: "127.0.0.1", Ingress: "127.0.0.2", From: timestamppb.New(from), Until: timestamppb.New(from.Add(2 * time.Hour)), Limit: 9,
	}
	if len(f.matched) != 1 || !proto.Equal(f.matched[0], want) {
		t.Errorf("asked %v, want %v", f.matched, want)
	}
	if got := clitest.Run(t, App(), "", "calendar", "-s", socket, "gold", "--class", "EF", "--from", "2027-01-01T20:00:00+01:00", "--for", "1h",
		"--rate", "1M", "--length", "30m", "--limit", "7"); got.Status != cli.ExitOK || !strings.HasSuffix(got.Stdout, "1 Mbit/s: no time was found at which it is to be had.\n") {
		t.Errorf("%+v", got)
	}
	ask := &api.CalendarRequest{
		Id: "gold", Class: "EF", From: timestamppb.New(from), Until: timestamppb.New(from.Add(time.Hour)), Rate: 1e6,
		Length: durationpb.New(30 * time.Minute), Limit: 7,
	}
	if len(f.asked) != 1 || !proto.Equal(f.asked[0], ask) {
		t.Errorf("asked %v, want %v", f.asked, ask)
	}
}

func TestSocketFromEnvironment(t *testing.T) {
	t.Setenv("INTERQOS_SOCKET", clitest.Serve(t, &fake{}))
	if got := clitest.Run(t, App(), "", "list"); got.Status != cli.ExitOK {
		t.Errorf("got %+v", got)
	}
}

// The SLS in the help text is one that qned takes.
func TestExampleInHelp(t *testing.T) {
	var example strings.Builder
	for line := range strings.Lines(App().Description) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			example.WriteString(text)
		}
	}
	list, err := sls.Parse("help", []byte(example.String()))
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v\n%s", list, err, example.String())
	}
}
