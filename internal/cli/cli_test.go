package cli

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func app(action urfave.ActionFunc) *urfave.App {
	return &urfave.App{
		Name:  "tool",
		Flags: Flags(),
		Commands: []*urfave.Command{
			{Name: "show", Flags: []urfave.Flag{&urfave.StringFlag{Name: "file", Aliases: []string{"f"}}, &urfave.BoolFlag{Name: "dry-run"}}, Action: action},
			{Name: "sub", Subcommands: []*urfave.Command{{Name: "deep", Flags: []urfave.Flag{&urfave.IntFlag{Name: "n"}}, Action: action}}},
			Completion("tool"),
		},
	}
}

// Options may stand anywhere.
func TestPermute(t *testing.T) {
	for line, want := range map[string]string{
		"tool":                                        "tool",
		"tool show":                                   "tool show",
		"tool show a -o json":                         "tool -o json show a",
		"tool show a --output=json b":                 "tool --output=json show a b",
		"tool show a -f x -s unix:y b":                "tool -s unix:y show -f x a b",
		"tool show --dry-run a":                       "tool show --dry-run a",
		"tool -o json show a --dry-run -f show":       "tool -o json show --dry-run -f show a",
		"tool sub a deep":                             "tool sub a deep",
		"tool sub deep a -n 3 -o yaml":                "tool -o yaml sub deep -n 3 a",
		"tool show -- -f":                             "tool show -- -f",
		"tool show -":                                 "tool show -",
		"tool show x --what":                          "tool show --what x",
		"tool show -f":                                "tool show -f",
		"tool show --help x":                          "tool show --help x",
		"tool show show":                              "tool show show",
		"tool show x -f --generate-bash-completion":   "tool show x -f --generate-bash-completion",
		"tool show x -f y -- z --dry-run -o json -- ": "tool show -f y x -- z --dry-run -o json --",
	} {
		if got := strings.Join(permute(app(nil), strings.Fields(line)), " "); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", line, got, want)
		}
	}
}

func run(action urfave.ActionFunc, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = Run(context.Background(), app(action), append([]string{"tool"}, args...), strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

func TestExitStatus(t *testing.T) {
	for want, err := range map[int]error{
		ExitOK: nil, ExitFailed: errors.New("no"), ExitUsage: Usagef("so"), ExitUnreachable: &UnreachableError{"gone"},
	} {
		status, _, stderr := run(func(*urfave.Context) error { return err }, "show")
		if status != want || (err == nil) != (stderr == "") || err != nil && stderr != "tool: "+err.Error()+"\n" {
			t.Errorf("%v: status %d, want %d, %q", err, status, want, stderr)
		}
	}
	if status, _, stderr := run(func(*urfave.Context) error { return ErrTold }, "show"); status != ExitFailed || stderr != "" {
		t.Errorf("told: %d, %q", status, stderr)
	}
}

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"":                "which command? One of show, sub, completion; see tool --help",
		"shw":             `tool has no command "shw": did you mean show?`,
		"xyzzy":           `tool has no command "xyzzy": one of show, sub, completion`,
		"sub":             "which command? One of deep; see tool sub --help",
		"sub dep":         `tool sub has no command "dep": did you mean deep?`,
		"show --fil x":    "there is no option -fil; see tool show --help",
		"sub deep -n x":   `invalid value "x" for flag -n: parse error; see tool sub deep --help`,
		"--colour x show": "there is no option -colour; see tool --help",
		"show -f":         "flag needs an argument: -f; see tool show --help",
	} {
		status, stdout, stderr := run(func(*urfave.Context) error { return nil }, strings.Fields(line)...)
		if status != ExitUsage || stdout != "" || stderr != "tool: "+want+"\n" {
			t.Errorf("tool %s: %d, %q, %q; want %q", line, status, stdout, stderr, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	status := Run(ctx, app(func(c *urfave.Context) error {
		cancel()
		<-c.Context.Done()
		return c.Context.Err()
	}), []string{"tool", "show"}, nil, &out, &errs)
	if status != ExitFailed || errs.String() != "tool: interrupted\n" {
		t.Errorf("%d, %q", status, errs.String())
	}
}

func TestPrint(t *testing.T) {
	v := Map{
		{"text", "a \"b\" <c>\n"}, {"number", uint64(math.MaxUint64)}, {"yes", true}, {"half", 0.5}, {"none", nil}, {"empty", []any{}}, {"like a number", "12"},
		{"status", &api.NodeStatus{As: 65001, Uptime: durationpb.New(1500 * time.Millisecond), Edges: []*api.Edge{{Name: "e"}}}},
		{"reservation", &api.Reservation{State: api.ReservationState_RESERVATION_STATE_COMMITTED, Role: api.Role(77), Since: timestamppb.New(time.Unix(0, 5e8))}},
		{"applied", List([]*api.AppliedSLS{{Action: api.AppliedSLS_CREATED}, {}})},
		{"apply", &api.ApplyRequest{Yaml: []byte("a: 1\xff\n")}},
	}
	wants := map[Format][]string{
		JSON: {
			`"text": "a \"b\" <c>\n",`, `"number": 18446744073709551615,`, `"yes": true,`, `"half": 0.5,`, `"none": null,`, `"empty": [],`,
			`"like a number": "12",`, `"as": 65001,`, `"uptime": 1.5,`, `"gist": null,`, `"state": "committed",`, `"role": "77",`,
			`"since": "1970-01-01T00:00:00.5Z",`, `"refreshed": null,`, `"action": "created",`, `"yaml": "a: 1?\n",`,
		},
		YAML: {
			"text: |", "number: 18446744073709551615\n", "yes: true\n", "none: null\n", "empty: []\n", "like a number: \"12\"\n", "  as: 65001\n",
			"  state: committed\n", "  uptime: 1.5\n", "  - id: \"\"\n",
		},
	}
	for format, want := range wants {
		var b bytes.Buffer
		if err := Print(&b, format, v); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s has no %q:\n%s", format, w, b.String())
			}
		}
	}
}

func TestPrintTable(t *testing.T) {
	var b bytes.Buffer
	if err := PrintTable(&b, []string{"A", "LONG"}, [][]string{{"µs", ""}, {"abc", "x"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A    LONG\nµs   -\nabc  x\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := PrintPairs(&b, [][2]string{{"a", "1"}, {"left out", ""}, {"bcd", "2"}}); err != nil {
		t.Fatal(err)
	}
	if want := "a    1\nbcd  2\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestWords(t *testing.T) {
	for us, want := range map[uint64]string{0: "0 µs", 999: "999 µs", 1000: "1.00 ms", 1234567: "1.23 s"} {
		if got := Micros(us); got != want {
			t.Errorf("Micros(%d) = %q, want %q", us, got, want)
		}
	}
	if Count(1, "x") != "1 x" || Count(0, "x") != "0 xs" {
		t.Error(Count(1, "x"), Count(0, "x"))
	}
	if got := Enum(api.Verdict_VERDICT_REFUSED) + " " + Enum(api.Verdict_VERDICT_UNSPECIFIED); got != "refused -" {
		t.Error(got)
	}
}

// The scripts are ones that their shells can read.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, script, _ := run(nil, "completion", shell)
		if status != ExitOK || !strings.Contains(script, "tool") || strings.Contains(script, "PROGRAM") {
			t.Errorf("%s: %d\n%s", shell, status, script)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not here: its script is not parsed", shell)
			continue
		}
		check := exec.Command(path, "-n")
		check.Stdin = strings.NewReader(script)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v: %s", shell, err, out)
		}
	}
}

func TestCompleteCommands(t *testing.T) {
	// The library looks at the process's own arguments for the last word.
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"tool", "--generate-bash-completion"}
	_, out, _ := run(nil, "--generate-bash-completion")
	if got := strings.Fields(out); !slices.Contains(got, "show") || !slices.Contains(got, "completion") {
		t.Errorf("got %q", out)
	}
}
