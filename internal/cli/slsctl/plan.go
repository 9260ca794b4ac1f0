package slsctl

import (
	"cmp"
	"fmt"
	"io"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
)

func whyFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "why", Usage: "why it is done, a `TEXT` for the history"}
}

func planCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "plan",
		Usage:     "show what applying files would change and break",
		ArgsUsage: "[-f] FILE...",
		Description: `Changes nothing. For each SLS: what would be different, and which live and booked
reservations would not fit any more, from when on and why. apply refuses a file
with such an SLS, apply --preempt ends just those reservations. The exit status
is 1 if anything would break.

    slsctl plan -f gold.yaml`,
		Flags: []urfave.Flag{
			&urfave.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Usage: "YAML `FILE` with one or more documents, - for standard input; may be repeated"},
		},
		Action: plan,
	}
}

func plan(c *urfave.Context) error {
	files := append(c.StringSlice("file"), c.Args().Slice()...)
	if len(files) == 0 {
		return cli.Usagef("slsctl plan: which file? E.g. slsctl plan -f gold.yaml")
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	conn, client, err := connect(c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	all := &api.ApplyResponse{}
	for _, file := range files {
		name, text, err := read(c, file)
		if err != nil {
			return err
		}
		answer, err := client.Plan(c.Context, &api.ApplyRequest{Yaml: text, Name: name})
		if err != nil {
			return conn.Explain(err)
		}
		all.Applied = append(all.Applied, answer.GetApplied()...)
	}
	breaks := false
	for _, a := range all.GetApplied() {
		breaks = breaks || len(a.GetBreaks()) > 0
		if format == cli.Table {
			if err := printApplied(c.App.Writer, a, " (planned)", "would not fit"); err != nil {
				return err
			}
		}
	}
	if format != cli.Table {
		if err := cli.Print(c.App.Writer, format, all); err != nil {
			return err
		}
	}
	if breaks {
		return cli.ErrTold
	}
	return nil
}

// printApplied says what becomes of an SLS, and of the reservations in its way.
func printApplied(w io.Writer, a *api.AppliedSLS, note, fate string) error {
	if _, err := fmt.Fprintf(w, "%s %s, version %d%s\n", a.GetId(), cli.Enum(a.GetAction()), a.GetVersion(), note); err != nil {
		return err
	}
	if a.GetAction() == api.AppliedSLS_CHANGED {
		if err := printDiff(w, a.GetDiff()); err != nil {
			return err
		}
	}
	if a.GetConfirmUntil() != nil {
		if _, err := fmt.Fprintf(w, "    taken back at %s unless confirmed: slsctl confirm %s\n", cli.Time(a.GetConfirmUntil()), a.GetId()); err != nil {
			return err
		}
	}
	if len(a.GetBreaks()) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "%s %s:\n", cli.Count(uint64(len(a.GetBreaks())), "reservation"), fate); err != nil {
		return err
	}
	var rows [][]string
	for _, b := range a.GetBreaks() {
		state := "committed"
		if b.GetHeld() {
			state = "held"
		}
		rows = append(rows, []string{b.GetSessionId(), b.GetClass(), units.HumanRate(b.GetRate()), state, cli.Time(b.GetFrom()), b.GetWhy()})
	}
	return cli.PrintTable(w, []string{"SESSION", "CLASS", "RATE", "STATE", "FROM", "WHY"}, rows)
}

func printDiff(w io.Writer, edits []*api.SLSEdit) error {
	for _, e := range edits {
		if _, err := fmt.Fprintf(w, "    %s: %s -> %s\n", e.GetPath(), cmp.Or(e.GetBefore(), "(nothing)"), cmp.Or(e.GetAfter(), "(nothing)")); err != nil {
			return err
		}
	}
	return nil
}

func historyCommand(id urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "history",
		Usage:     "show how an SLS came to be as it is",
		ArgsUsage: "ID",
		Description: `Who changed, confirmed or deleted what, when and why, the latest first; at most the last
100 changes.`,
		BashComplete: id,
		Action: func(c *urfave.Context) error {
			return cli.Ask(c, 1, 1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
				answer, err := api.NewSLSServiceClient(conn).History(c.Context, &api.SLSHistoryRequest{Id: args[0]})
				return answer, func(w io.Writer) error { return printHistory(w, answer) }, err
			})
		},
	}
}

func printHistory(w io.Writer, answer *api.SLSHistoryResponse) error {
	for _, c := range answer.GetChanges() {
		why := ""
		if c.GetWhy() != "" {
			why = ": " + c.GetWhy()
		}
		event := ""
		switch c.GetEvent() {
		case api.SLSChange_CONFIRMED, api.SLSChange_DELETED:
			event = " " + cli.Enum(c.GetEvent())
		}
		if c.GetConfirmUntil() != nil {
			event = " (to be confirmed by " + cli.Time(c.GetConfirmUntil()) + ")"
		}
		if _, err := fmt.Fprintf(w, "version %d%s, %s, by %s%s\n", c.GetVersion(), event, cli.Time(c.GetAt()), cmp.Or(c.GetBy(), "unknown"), why); err != nil {
			return err
		}
		if c.GetVersion() > 1 {
			if err := printDiff(w, c.GetDiff()); err != nil {
				return err
			}
		}
	}
	return nil
}

func rollbackCommand(id urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "rollback",
		Usage:     "apply an earlier version of an SLS again",
		ArgsUsage: "ID",
		Description: `The earlier version becomes a new one, on the same conditions as any change.

    slsctl rollback as65001-as65002-gold
    slsctl rollback as65001-as65002-gold --to 3 --why "as agreed in March"`,
		Flags: []urfave.Flag{
			&urfave.UintFlag{Name: "to", DefaultText: "the one before the current one", Usage: "`VERSION` that is to be in force again"},
			preemptFlag("end reservations that it leaves no room for, instead of refusing it"),
			whyFlag(),
		},
		BashComplete: id,
		Action: func(c *urfave.Context) error {
			return cli.Ask(c, 1, 1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
				answer, err := api.NewSLSServiceClient(conn).Rollback(c.Context, &api.RollbackRequest{
					Id: args[0], Version: uint32(c.Uint("to")), Preempt: c.Bool("preempt"), Why: c.String("why"),
				})
				return answer, func(w io.Writer) error {
					for _, a := range answer.GetApplied() {
						if err := printApplied(w, a, "", "ended"); err != nil {
							return err
						}
					}
					return nil
				}, err
			})
		},
	}
}
