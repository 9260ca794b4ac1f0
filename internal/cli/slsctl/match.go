package slsctl

import (
	"fmt"
	"io"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func matchCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "match",
		Usage: "say which SLS would serve a request, and why the others would not",
		Description: `Holds nothing. What is left out, of source, peers and interfaces, may be any. The
table has first the SLSs that cover the request, in the order in which they are
tried, then the others. The exit status is 1 if no SLS would serve it.

    slsctl match --from 10.1.0.10 --to 10.3.0.10 --class EF --rate 20M
    slsctl match --to 10.3.0.0/24 --class AF41 --rate 1G --min-rate 100M --at 2027-01-01T20:00:00Z --for 2h`,
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "from", Usage: "source `ADDRESS` or prefix (default: any)"},
			&urfave.StringFlag{Name: "to", Usage: "destination `ADDRESS` or prefix"},
			&urfave.StringFlag{Name: "class", Usage: "class of service: a PHB `NAME` such as EF, AF41, CS5, or a DSCP"},
			&urfave.StringFlag{Name: "rate", Usage: "rate (CIR), bit/s: a `RATE` such as 20M"},
			&urfave.StringFlag{Name: "min-rate", Usage: "least `RATE` that is of use, bit/s (default: all or nothing)"},
			&urfave.StringFlag{Name: "peak", Usage: "peak `RATE` (PIR), bit/s"},
			&urfave.BoolFlag{Name: "relative", DisableDefaultText: true, Usage: "the class without a rate"},
			&urfave.UintFlag{Name: "priority", Usage: "admission `PRIORITY`, 0 to 7"},
			&urfave.StringFlag{Name: "at", Usage: "`TIME` at which it starts, in RFC 3339 (default: now)"},
			&urfave.DurationFlag{Name: "for", DefaultText: "open", Usage: "how long it lasts, a `DURATION` such as 2h"},
			&urfave.UintFlag{Name: "customer", DefaultText: "any", Usage: "`AS` whose traffic it is"},
			&urfave.UintFlag{Name: "provider", DefaultText: "any", Usage: "`AS` that the traffic enters"},
			&urfave.StringFlag{Name: "egress", Usage: "`ADDRESS` of the customer's border interface (default: any)"},
			&urfave.StringFlag{Name: "ingress", Usage: "`ADDRESS` of the provider's border interface (default: any)"},
			&urfave.UintFlag{Name: "limit", DefaultText: "1000", Usage: "how many SLSs that do not cover the request to tell of, a `NUMBER`"},
		},
		Action: match,
	}
}

func match(c *urfave.Context) error {
	r := &api.MatchRequest{
		Source: c.String("from"), Destination: c.String("to"), Class: c.String("class"), Relative: c.Bool("relative"),
		Priority: uint32(c.Uint("priority")), Customer: uint32(c.Uint("customer")), Provider: uint32(c.Uint("provider")),
		Egress: c.String("egress"), Ingress: c.String("ingress"), Limit: uint32(c.Uint("limit")),
	}
	if r.Destination == "" || r.Class == "" || !r.Relative && c.String("rate") == "" {
		return cli.Usagef("slsctl match: where to, which class, which rate? E.g. slsctl match --to 10.3.0.10 --class EF --rate 20M")
	}
	if err := rates(c, map[string]*uint64{"rate": &r.Rate, "min-rate": &r.MinRate, "peak": &r.Peak}); err != nil {
		return err
	}
	var err error
	if r.From, r.Until, err = fromFor(c, "at"); err != nil {
		return err
	}
	var answer *api.MatchResponse
	err = cli.Ask(c, 0, 0, "", func(conn *cli.Conn, _ []string) (any, func(io.Writer) error, error) {
		var err error
		answer, err = api.NewSLSServiceClient(conn).Match(c.Context, r)
		return answer, func(w io.Writer) error { return printMatch(w, r, answer) }, err
	})
	if err == nil && answer.GetSlsId() == "" {
		return cli.ErrTold
	}
	return err
}

// rates reads options that are rates.
func rates(c *urfave.Context, all map[string]*uint64) error {
	for name, to := range all {
		text := c.String(name)
		if text == "" {
			continue
		}
		var err error
		if *to, err = units.ParseRate(text); err != nil {
			return cli.Usagef("--%s %v", name, err)
		}
	}
	return nil
}

// fromFor reads when an interval starts and, from --for, when it ends.
func fromFor(c *urfave.Context, at string) (from, until *timestamppb.Timestamp, err error) {
	if from, err = instant(c, at); err != nil || !c.IsSet("for") {
		return from, nil, err
	}
	length := c.Duration("for")
	if length <= 0 {
		return nil, nil, cli.Usagef("--for %s: expected more than 0, e.g. 2h", length)
	}
	start := time.Now()
	if from != nil {
		start = from.AsTime()
	}
	return from, timestamppb.New(start.Add(length)), nil
}

func printMatch(w io.Writer, r *api.MatchRequest, answer *api.MatchResponse) error {
	verdict := "No SLS would serve it."
	if id := answer.GetSlsId(); id != "" {
		verdict = id + " would serve it."
		if answer.GetRate() < r.GetRate() {
			verdict = fmt.Sprintf("%s would serve it with %s.", id, units.HumanRate(answer.GetRate()))
		}
	}
	if _, err := fmt.Fprintln(w, verdict); err != nil {
		return err
	}
	var rows [][]string
	for _, f := range answer.GetCovering() {
		fits, rate := "no", "-"
		if f.GetFits() {
			if fits = "yes"; !r.GetRelative() {
				rate = units.HumanRate(f.GetRate())
			}
		} else if f.GetLargest() > 0 {
			rate = "up to " + units.HumanRate(f.GetLargest())
		}
		if f.GetSlsId() == answer.GetSlsId() {
			fits = "first"
		}
		rows = append(rows, []string{f.GetSlsId(), fits, rate, cli.Time(f.GetEarliest()), f.GetWhy()})
	}
	for _, f := range answer.GetOthers() {
		rows = append(rows, []string{f.GetSlsId(), "no", "-", "", f.GetWhy()})
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := cli.PrintTable(w, []string{"SLS", "SERVES", "RATE", "IN FULL FROM", "WHY NOT"}, rows); err != nil {
		return err
	}
	if answer.GetMore() > 0 {
		_, err := fmt.Fprintf(w, "… and %s that do not cover it\n", cli.Count(answer.GetMore(), "SLS"))
		return err
	}
	return nil
}

func calendarCommand(id urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "calendar",
		Usage:     "show what of an SLS is sold when, and what can be had",
		ArgsUsage: "ID",
		Description: `One line for each stretch of time in which nothing changes. Then the largest rate
that a new reservation could have in all of that time, and, with --rate, from
when on that rate is to be had for as long as --length says.

    slsctl calendar as65001-as65002-gold --class EF
    slsctl calendar gold --from 2027-01-01T00:00:00Z --for 168h --rate 40M --length 2h`,
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "class", Usage: "class of service, a `NAME` (default: the SLS's only one)"},
			&urfave.StringFlag{Name: "from", Usage: "`TIME` in RFC 3339, e.g. 2027-01-01T20:00:00Z (default: now)"},
			&urfave.DurationFlag{Name: "for", DefaultText: "24h", Usage: "how long, a `DURATION`"},
			&urfave.StringFlag{Name: "rate", Usage: "`RATE` whose earliest start is asked for, bit/s"},
			&urfave.DurationFlag{Name: "length", DefaultText: "as long as the SLS is available", Usage: "how long that rate is wanted, a `DURATION`"},
			&urfave.UintFlag{Name: "limit", DefaultText: "1000", Usage: "how many lines at most, a `NUMBER`"},
		},
		Action:       calendar,
		BashComplete: id,
	}
}

func calendar(c *urfave.Context) error {
	r := &api.CalendarRequest{Class: c.String("class"), Limit: uint32(c.Uint("limit"))}
	if err := rates(c, map[string]*uint64{"rate": &r.Rate}); err != nil {
		return err
	}
	var err error
	if r.From, r.Until, err = fromFor(c, "from"); err != nil {
		return err
	}
	if length := c.Duration("length"); length < 0 || length > 0 && r.GetRate() == 0 {
		return cli.Usagef("--length %s: expected a duration above 0, and --rate", length)
	} else if length > 0 {
		r.Length = durationpb.New(length)
	}
	return cli.Ask(c, 1, 1, "SLS", func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
		r.Id = args[0]
		answer, err := api.NewSLSServiceClient(conn).Calendar(c.Context, r)
		return answer, func(w io.Writer) error { return printCalendar(w, r, answer) }, err
	})
}

// barWidth is how many characters the picture of the whole capacity takes.
const barWidth = 20

func printCalendar(w io.Writer, r *api.CalendarRequest, answer *api.CalendarResponse) error {
	var rows [][]string
	for _, s := range answer.GetSteps() {
		used := s.GetCommitted() + s.GetHeld()
		free := "not available"
		if s.GetCapacity() > 0 {
			free = units.HumanRate(s.GetCapacity() - min(used, s.GetCapacity()))
		}
		rows = append(rows, []string{
			cli.Time(s.GetFrom()), cli.Time(s.GetUntil()), units.HumanRate(s.GetCommitted()), units.HumanRate(s.GetHeld()), free, bar(s),
		})
	}
	if err := cli.PrintTable(w, []string{"FROM", "UNTIL", "COMMITTED", "HELD", "FREE", "USED"}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\nIn all of this time a new reservation could have %s of %s.\n", units.HumanRate(answer.GetLargest()), answer.GetClass()); err != nil {
		return err
	}
	if r.GetRate() == 0 {
		return nil
	}
	when := "no time was found at which it is to be had"
	if at := answer.GetEarliest(); at != nil {
		when = "to be had from " + cli.Time(at)
	}
	_, err := fmt.Fprintf(w, "%s: %s.\n", units.HumanRate(r.GetRate()), when)
	return err
}

// bar draws what is committed (#) and held (+) of the capacity.
func bar(s *api.CalendarStep) string {
	if s.GetCapacity() == 0 {
		return ""
	}
	part := func(v uint64) int { return int((float64(v)/float64(s.GetCapacity()))*barWidth + 0.5) }
	b := make([]byte, barWidth)
	for i := range b {
		switch {
		case i < part(s.GetCommitted()):
			b[i] = '#'
		case i < part(s.GetCommitted()+s.GetHeld()):
			b[i] = '+'
		default:
			b[i] = '.'
		}
	}
	return string(b)
}
