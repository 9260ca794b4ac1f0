// Package slsctl is the tool for service level specifications.
package slsctl

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const maxFile = 16 << 20 // octets

// App is the command line of slsctl.
func App() *urfave.App {
	id := cli.CompleteWith(completeIDs)
	return &urfave.App{
		Name:  "slsctl",
		Usage: "keep the service level specifications (SLSs) of an AS",
		Description: `Applies, shows and deletes the SLSs that this AS has with its neighbours and
customers, and shows how much of them is in use. It asks the running qned.

An SLS is a YAML document; rates in it are bit/s with k, M, G (powers of 1000),
sizes octets:

    id: as65001-as65002-gold
    customer: 65001
    provider: 65002
    scope: {destinations: [10.3.0.0/16]}
    classes:
      - {class: EF, cir: 100M, largest_flow: 50M}
    status: active

` + cli.ExitHelp,
		Flags: cli.Flags(),
		Commands: []*urfave.Command{
			{
				Name:      "apply",
				Usage:     "create and change SLSs from YAML files",
				ArgsUsage: "[-f] FILE...",
				Description: `All SLSs of a file are applied, or, if anything in it is wrong or cannot be, none.
What stands already and is the same stays as it is.

    slsctl apply -f gold.yaml
    slsctl apply --dry-run -f a.yaml -f b.yaml
    cat gold.yaml | slsctl apply -f -
    slsctl apply -f gold.yaml --confirm-within 10m; slsctl confirm as65001-as65002-gold`,
				Flags: []urfave.Flag{
					&urfave.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Usage: "YAML `FILE` with one or more documents, - for standard input; may be repeated"},
					&urfave.BoolFlag{Name: "dry-run", DisableDefaultText: true, Usage: "only say what would be done"},
					preemptFlag("end reservations that a change leaves no room for, instead of refusing it"),
					&urfave.DurationFlag{Name: "confirm-within", DefaultText: "it stands", Usage: "take the changes back after `DURATION` unless slsctl confirm comes before"},
					whyFlag(),
				},
				Action: apply,
			},
			{
				Name:   "list",
				Usage:  "list the SLSs",
				Action: list,
			},
			{
				Name:         "show",
				Usage:        "show one SLS, whole",
				ArgsUsage:    "ID",
				Description:  `Prints the SLS as YAML that slsctl apply takes, and when and by whom it was changed.`,
				Action:       show,
				BashComplete: id,
			},
			{
				Name:      "usage",
				Usage:     "show what of the SLSs is in use",
				ArgsUsage: "[ID]",
				Description: `For each class: what is sold, what of it is committed (end to end) and what is
held (asked for, not yet answered).

    slsctl usage
    slsctl usage as65001-as65002-gold --at 2027-01-01T20:00:00Z`,
				Flags: []urfave.Flag{
					&urfave.StringFlag{Name: "at", Usage: "`TIME` in RFC 3339, e.g. 2027-01-01T20:00:00Z (default: now)"},
				},
				Action:       usage,
				BashComplete: id,
			},
			deleteCommand(id),
			planCommand(),
			confirmCommand(id),
			historyCommand(id),
			rollbackCommand(id),
			backupCommand(),
			matchCommand(),
			calendarCommand(id),
			schemaCommand(),
			cli.Completion("slsctl"),
		},
	}
}

func connect(c *urfave.Context) (*cli.Conn, api.SLSServiceClient, error) {
	conn, err := cli.Dial(c)
	if err != nil {
		return nil, nil, err
	}
	return conn, api.NewSLSServiceClient(conn), nil
}

func completeIDs(c *urfave.Context) ([]string, error) {
	conn, client, err := connect(c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	answer, err := client.List(c.Context, &api.ListSLSRequest{})
	var ids []string
	for _, s := range answer.GetSls() {
		ids = append(ids, s.GetId())
	}
	return ids, err
}

func read(c *urfave.Context, name string) (string, []byte, error) {
	from, err := cli.Open(c, name)
	if err != nil {
		return name, nil, err
	}
	defer func() { _ = from.Close() }()
	if name == "-" {
		name = "standard input"
	}
	b, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it has more than %d octets", maxFile)
	}
	if err != nil {
		return name, nil, fmt.Errorf("%s: %w", name, err)
	}
	return name, b, nil
}

func apply(c *urfave.Context) error {
	files := append(c.StringSlice("file"), c.Args().Slice()...)
	if len(files) == 0 {
		return cli.Usagef("slsctl apply: which file? E.g. slsctl apply -f gold.yaml")
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	confirm, err := within(c)
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
		answer, err := client.Apply(c.Context, &api.ApplyRequest{Yaml: text, Name: name, DryRun: c.Bool("dry-run"), Preempt: c.Bool("preempt"), Why: c.String("why"), ConfirmWithin: confirm})
		if err != nil {
			return conn.Explain(err)
		}
		if format == cli.Table {
			for _, a := range answer.GetApplied() {
				note := ""
				if c.Bool("dry-run") {
					note = " (dry run)"
				}
				if err := printApplied(c.App.Writer, a, note, "ended"); err != nil {
					return err
				}
			}
		}
		all.Applied = append(all.Applied, answer.GetApplied()...)
	}
	if format != cli.Table {
		return cli.Print(c.App.Writer, format, all)
	}
	return nil
}

func list(c *urfave.Context) error {
	return cli.Ask(c, 0, 0, "", func(conn *cli.Conn, _ []string) (any, func(io.Writer) error, error) {
		answer, err := api.NewSLSServiceClient(conn).List(c.Context, &api.ListSLSRequest{})
		return answer, func(w io.Writer) error { return printList(w, answer) }, err
	})
}

func printList(w io.Writer, answer *api.ListSLSResponse) error {
	var rows [][]string
	for _, s := range answer.GetSls() {
		rows = append(rows, []string{
			s.GetId(), "AS" + number(s.GetCustomer()), "AS" + number(s.GetProvider()), scope(s), classes(s), s.GetStatus(), number(s.GetVersion()),
		})
	}
	return cli.PrintTable(w, []string{"ID", "CUSTOMER", "PROVIDER", "TO", "CLASSES", "STATUS", "VERSION"}, rows)
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func scope(s *api.SLS) string {
	text := "any"
	if d := s.GetDestinations(); len(d) > 0 {
		text = strings.Join(d, ", ")
	}
	if from := s.GetSources(); len(from) > 0 && from[0] != "any" {
		text += " from " + strings.Join(from, ", ")
	}
	return text
}

func classes(s *api.SLS) string {
	var list []string
	for _, k := range s.GetClasses() {
		if k.GetRelative() {
			list = append(list, k.GetClass()+" relative")
		} else {
			list = append(list, k.GetClass()+" "+units.HumanRate(k.GetCir()))
		}
	}
	return strings.Join(list, ", ")
}

func show(c *urfave.Context) error {
	return cli.Ask(c, 1, 1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
		s, err := api.NewSLSServiceClient(conn).Show(c.Context, &api.ShowSLSRequest{Id: args[0]})
		return s, func(w io.Writer) error {
			text := strings.TrimRight(string(s.GetYaml()), "\n")
			until := ""
			if s.GetConfirmUntil() != nil {
				until = "\n# not confirmed: taken back at " + cli.Time(s.GetConfirmUntil())
			}
			_, err := fmt.Fprintf(w, "# version %d, changed %s by %s%s\n%s\n", s.GetVersion(), cmp.Or(cli.Time(s.GetChangedAt()), "at an unknown time"), cmp.Or(s.GetChangedBy(), "unknown"), until, text)
			return err
		}, err
	})
}

func usage(c *urfave.Context) error {
	r := &api.UsageRequest{}
	var err error
	if r.At, err = instant(c, "at"); err != nil {
		return err
	}
	return cli.Ask(c, 0, 1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
		if len(args) == 1 {
			r.Id = args[0]
		}
		answer, err := api.NewSLSServiceClient(conn).Usage(c.Context, r)
		return answer, func(w io.Writer) error { return printUsage(w, answer) }, err
	})
}

// instant reads an option that is a time; nil: it is not there.
func instant(c *urfave.Context, name string) (*timestamppb.Timestamp, error) {
	text := c.String(name)
	if text == "" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, cli.Usagef("--%s %q: expected a time in RFC 3339, e.g. 2027-01-01T20:00:00Z", name, text)
	}
	return timestamppb.New(t), nil
}

func printUsage(w io.Writer, answer *api.UsageResponse) error {
	var rows [][]string
	for _, u := range answer.GetUsage() {
		used := u.GetCommitted() + u.GetHeld()
		free, percent := "0 bit/s", ""
		if u.GetCapacity() > used {
			free = units.HumanRate(u.GetCapacity() - used)
		}
		if u.GetCapacity() > 0 {
			percent = strconv.FormatFloat(float64(used)/float64(u.GetCapacity())*100, 'f', 1, 64) + " %"
		}
		rows = append(rows, []string{
			u.GetSlsId(), u.GetClass(), units.HumanRate(u.GetCapacity()), units.HumanRate(u.GetCommitted()), units.HumanRate(u.GetHeld()),
			free, percent, number(u.GetReservations()),
		})
	}
	return cli.PrintTable(w, []string{"SLS", "CLASS", "CAPACITY", "COMMITTED", "HELD", "FREE", "USED", "RESERVATIONS"}, rows)
}
