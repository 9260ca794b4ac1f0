package slsctl

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"
)

func preemptFlag(what string) urfave.Flag {
	return &urfave.BoolFlag{Name: "preempt", DisableDefaultText: true, Usage: what}
}

// within reads --confirm-within; nil: it is not there.
func within(c *urfave.Context) (*durationpb.Duration, error) {
	if !c.IsSet("confirm-within") {
		return nil, nil
	}
	d := c.Duration("confirm-within")
	if d < time.Second {
		return nil, cli.Usagef("--confirm-within %s: expected a duration of at least 1s, e.g. 10m", d)
	}
	return durationpb.New(d), nil
}

func confirmCommand(id urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "confirm",
		Usage:     "let a change stand that was applied with --confirm-within",
		ArgsUsage: "ID...",
		Description: `Without it the SLS's former terms are in force again once the time is over, also
after a restart of qned: as a new version, at the expense of the reservations that
don't fit them any more, whose initiators are told. An SLS that was new is deleted.

    slsctl apply -f gold.yaml --confirm-within 10m
    slsctl confirm as65001-as65002-gold
    slsctl confirm as65001-as65002-gold --take-back --why "more loss than before"`,
		Flags: []urfave.Flag{
			&urfave.BoolFlag{Name: "take-back", DisableDefaultText: true, Usage: "bring the former terms back at once, instead"},
			whyFlag(),
		},
		BashComplete: id,
		Action: func(c *urfave.Context) error {
			return cli.Ask(c, 1, -1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
				all := &api.ApplyResponse{}
				table := func(w io.Writer) error {
					for _, a := range all.GetApplied() {
						if err := printApplied(w, a, "", "ended"); err != nil {
							return err
						}
					}
					return nil
				}
				for _, id := range args {
					answer, err := api.NewSLSServiceClient(conn).Confirm(c.Context, &api.ConfirmRequest{Id: id, TakeBack: c.Bool("take-back"), Why: c.String("why")})
					if err != nil { // what is done is told all the same
						if len(all.GetApplied()) > 0 {
							err = errors.Join(conn.Explain(err), table(c.App.Writer))
						}
						return nil, nil, err
					}
					all.Applied = append(all.Applied, answer.GetApplied()...)
				}
				return all, table, nil
			})
		},
	}
}

func deleteCommand(id urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "delete",
		Usage:     "delete SLSs",
		ArgsUsage: "ID...",
		Description: `Refused while reservations stand on the SLS: --dry-run shows them all, --preempt ends
them. The history says who deleted it; slsctl rollback brings it back.

    slsctl delete as65001-as65002-gold --why "ended by mutual consent"`,
		Flags: []urfave.Flag{
			&urfave.BoolFlag{Name: "dry-run", DisableDefaultText: true, Usage: "only say what is in the way; the exit status is 1 if anything is"},
			preemptFlag("end the reservations on it, instead of refusing it"),
			whyFlag(),
		},
		Action:       remove,
		BashComplete: id,
	}
}

func remove(c *urfave.Context) error {
	args, err := cli.Args(c, 1, -1, "SLS")
	if err != nil {
		return err
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
	dry := c.Bool("dry-run")
	all := &api.ApplyResponse{}
	breaks := false
	for _, id := range args {
		answer, err := client.Delete(c.Context, &api.DeleteSLSRequest{Id: id, DryRun: dry, Preempt: c.Bool("preempt"), Why: c.String("why")})
		if err != nil {
			return conn.Explain(err)
		}
		a := answer.GetDeleted()
		breaks = breaks || len(a.GetBreaks()) > 0
		all.Applied = append(all.Applied, a)
		if format == cli.Table {
			note, fate := "", "ended"
			if dry {
				note, fate = " (dry run)", "in the way"
			}
			if err := printApplied(c.App.Writer, a, note, fate); err != nil {
				return err
			}
		}
	}
	if format != cli.Table {
		if err := cli.Print(c.App.Writer, format, all); err != nil {
			return err
		}
	}
	if dry && breaks && !c.Bool("preempt") {
		return cli.ErrTold
	}
	return nil
}

func backupCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "backup",
		Usage:     "save all SLSs and reservations in a file",
		ArgsUsage: "FILE",
		Description: `Writes a copy of qned's store as of now, history included, while qned goes on. FILE is
whole or not there; one that is there is replaced. - is standard output.

To restore it: stop qned, move its store (store.path) away, run
"qned -c CONFIG --restore FILE", start qned.`,
		Action: backup,
	}
}

func backup(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "file")
	if err != nil {
		return err
	}
	conn, client, err := connect(c)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	receive := func(w io.Writer) (octets int64, err error) {
		stream, err := client.Backup(c.Context, &api.BackupRequest{})
		for err == nil {
			var piece *api.BackupChunk
			if piece, err = stream.Recv(); err == nil {
				octets += int64(len(piece.GetData()))
				if _, err := w.Write(piece.GetData()); err != nil {
					return octets, err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return octets, nil
		}
		return octets, conn.Explain(err)
	}
	if args[0] == "-" {
		_, err := receive(c.App.Writer)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(args[0]), filepath.Base(args[0])+".*")
	if err != nil {
		return err
	}
	octets, err := receive(f)
	err = cmp.Or(err, f.Sync())
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), args[0])
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %d octets\n", args[0], octets)
	return err
}
