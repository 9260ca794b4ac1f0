package qnectl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	"github.com/interqos/interqos/qspec"
	urfave "github.com/urfave/cli/v2"
)

func queryCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "query",
		Usage: "ask what could be had for a flow, end to end, without reserving it",
		Description: `Every domain on the path is asked, and nothing is held. Without --rate it asks how
much there is. Exit status 1 where not all of it could be had.

    qnectl query --from 10.1.0.10 --to 10.3.0.10 --class EF
    qnectl query --from 10.1.0.10 --to 10.3.0.10 --rate 30M --class EF --start 2026-12-01T08:00:00Z --duration 2h`,
		Flags:  append(flowFlags(), append(askFlags(), scopeFlag(), proxyFlag(), timeoutFlag())...),
		Action: query,
	}
}

func query(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	r, err := reserveRequest(c, "class")
	if err != nil {
		return err
	}
	format, k, err := begin(c)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	o, err := k.reservations.Query(c.Context, r)
	if err != nil {
		return k.Explain(err)
	}
	path := buildPath(o, nil)
	if format != cli.Table {
		err = cli.Print(c.App.Writer, format, cli.Map{{Key: "outcome", Value: o}, {Key: "path", Value: path.could()}})
	} else {
		err = printQuery(c, r, o, path)
	}
	if err == nil && !o.GetAccepted() {
		err = cli.ErrTold
	}
	return err
}

func printQuery(c *urfave.Context, r *api.ReserveRequest, o *api.Outcome, path path) error {
	flow := flowText(&api.Flow{
		Source: r.GetSource(), Destination: r.GetDestination(), Protocol: r.GetProtocol(),
		SourcePort: r.GetSourcePort(), DestinationPort: r.GetDestinationPort(),
	})
	var b strings.Builder
	switch {
	case o.GetAccepted():
		fmt.Fprintf(&b, "possible: %s for %s\n", askedText(o.GetGrantedRate(), r), flow)
	case o.GetGrantedRate() > 0:
		fmt.Fprintf(&b, "possible: %s for %s, not all of what was asked for\n", units.HumanRate(o.GetGrantedRate()), flow)
	default:
		fmt.Fprintf(&b, "not possible: %s for %s\n", askedText(r.GetRate(), r), flow)
		printRefusal(&b, o, path)
	}
	if o.GetGrantedRate() > 0 || o.GetAccepted() {
		for _, line := range slices.Concat(pathText(o.GetQspec()), whenText(o.GetQspec()), scopeText(o)) {
			fmt.Fprintln(&b, line)
		}
	}
	fmt.Fprintf(&b, "time:     %s; nothing is held\n", cli.Micros(o.GetElapsedUs()))
	if _, err := fmt.Fprint(c.App.Writer, b.String()); err != nil || len(path) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(c.App.Writer); err != nil {
		return err
	}
	var rows [][]string
	for _, h := range path {
		largest := ""
		if h.GetLargestRate() > 0 {
			largest = units.HumanRate(h.GetLargestRate())
		}
		rows = append(rows, []string{as(h.GetAs()), largest, cli.Time(h.GetEarliest()), h.sls(), cli.Enum(h.GetVerdict()), cli.Micros(h.GetElapsedUs())})
	}
	return cli.PrintTable(c.App.Writer, []string{"AS", "LARGEST RATE", "ALL OF IT FROM", "SLS", "VERDICT", "TIME"}, rows)
}

// pathText says what an answer tells of the path.
func pathText(text string) (lines []string) {
	p, err := qspec.ParseParams(text)
	if err != nil {
		return nil
	}
	sums := p
	sums.Has &= qspec.SetOf(qspec.PathLatencyID, qspec.PathJitterID, qspec.PathPLRID, qspec.PathPERID)
	if sums.Has &^= sums.Unsupported; sums.Has != 0 {
		sums.Must = 0
		lines = append(lines, "path:     "+sums.String())
	}
	return lines
}

// whenText says for when.
func whenText(text string) (lines []string) {
	when, err := qspec.ParseParams(text)
	if err != nil {
		return nil
	}
	if when.Has &= qspec.SetOf(qspec.AbsoluteTimeID, qspec.RelativeTimeID); when.Has != 0 {
		when.Must = 0
		lines = append(lines, "when:     "+strings.NewReplacer("time=", "", "when=", "in ", "..", " to ").Replace(when.String()))
	}
	return lines
}

// could is the path for scripts, of a query.
func (p path) could() []any {
	out := make([]any, 0, len(p))
	for _, h := range p {
		out = append(out, cli.Map{
			{Key: "as", Value: h.GetAs()},
			{Key: "largest_rate", Value: h.GetLargestRate()},
			{Key: "earliest", Value: cli.Time(h.GetEarliest())},
			{Key: "sls", Value: h.sls()},
			{Key: "verdict", Value: cli.Enum(h.GetVerdict())},
			{Key: "elapsed_us", Value: h.GetElapsedUs()},
			{Key: "record", Value: cli.Enum(h.GetProof())},
		})
	}
	return out
}
