package qnectl

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	"github.com/interqos/interqos/qosnslp/wire"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"
)

func timeoutFlag() urfave.Flag {
	return &urfave.DurationFlag{Name: "timeout", DefaultText: "as long as qned does", Usage: "how long to wait for the outcome, a `DURATION` such as 5s"}
}

func peerFlag() urfave.Flag {
	return &urfave.StringSliceFlag{
		Name: "peer-socket", EnvVars: []string{"INTERQOS_PEER_SOCKETS"},
		Usage: "admin API of another AS on the path, for who may see it: `unix:PATH` or HOST:PORT; may be repeated",
	}
}

func reserveCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "reserve",
		Usage: "reserve a rate for a flow, end to end, or change a reservation",
		Description: `Answers when every domain has committed, or one has refused; then nothing is
held anywhere, and the answer says who refused, why, and the largest rate that
could have been had.

A domain tells of itself what it likes: AS and verdict always, SLS and time
mostly, its interfaces never. With --peer-socket, for an operator who may see
them, interfaces and messages are asked from the other ASs too.

    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --protocol udp --port 5001 --rate 20M --class EF
    qnectl reserve --from 10.1.0.0/24 --to 10.3.0.0/24 --rate 100M --min-rate 40M --class AF41
    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --class AF41     (the class alone)
    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --qspec 'tmod=20M/64k class=EF latency<=40ms'
    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --rate 20M --class EF --start +10m --duration 2h
    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --rate 20M --class EF --scope next-hop`,
		Flags: append(flowFlags(), append(askFlags(),
			&urfave.StringFlag{Name: "min-rate", Usage: "least `RATE` that is of use, bit/s (default: all or nothing)"},
			&urfave.BoolFlag{Name: "receiver-initiated", DisableDefaultText: true, Usage: "invite the flow's receiver to reserve: its AS is the initiator then, and can release"},
			scopeFlag(),
			proxyFlag(),
			&urfave.BoolFlag{Name: "bidirectional", DisableDefaultText: true, Usage: "reserve the opposite direction too, from the other end's AS (--far-socket); both or neither"},
			&urfave.StringFlag{Name: "far-socket", Usage: "with --bidirectional, the admin API of the AS that the flow ends in: `unix:PATH` or HOST:PORT"},
			&urfave.StringFlag{Name: "session", Usage: "`ID` of the session to change, or to make: 32 hexadecimal digits"},
			timeoutFlag(),
			peerFlag(),
			&urfave.BoolFlag{Name: "ladder", DisableDefaultText: true, Usage: "show the messages in the order in which they went"},
			&urfave.StringFlag{Name: "save", Usage: "write the answer to a `FILE` too, as JSON, whatever --output is"},
		)...),
		Action: reserve,
	}
}

func scopeFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "scope", DefaultText: "whole-path", Usage: "how far it goes, a `SCOPE`: whole-path, or next-hop for the neighbouring AS alone"}
}

func proxyFlag() urfave.Flag {
	return &urfave.BoolFlag{Name: "proxy", DisableDefaultText: true, Usage: "as far as the first proxy QNE (nslp.proxy) on the path, which answers for all beyond it"}
}

// readScope reads how far a request goes.
func readScope(c *urfave.Context, r *api.ReserveRequest) error {
	switch text := c.String("scope"); text {
	case "":
	case "whole-path":
		r.Scope = api.Scope_SCOPE_WHOLE_PATH
	case "next-hop":
		r.Scope = api.Scope_SCOPE_NEXT_HOP
	default:
		return cli.Usagef("--scope %q: expected whole-path or next-hop", text)
	}
	r.Proxy = c.Bool("proxy")
	switch next := r.GetScope() == api.Scope_SCOPE_NEXT_HOP; {
	case next && r.GetProxy():
		return cli.Usagef("--scope next-hop and --proxy: the path ends at the one or the other; give one of the two")
	case next && r.GetReceiverInitiated():
		return cli.Usagef("--scope next-hop and --receiver-initiated: the receiver is where the whole path ends; to invite a proxy QNE give --proxy instead")
	case (next || r.GetProxy()) && c.Bool("bidirectional"):
		return cli.Usagef("--bidirectional is for the whole path: leave --scope and --proxy out")
	}
	return nil
}

// scopeText says where an answer's path ends, if not where the flow does.
func scopeText(o *api.Outcome) []string {
	switch {
	case o.GetScope() == api.Scope_SCOPE_NEXT_HOP:
		return []string{"scope:    the next hop, up to its far border; nothing beyond it"}
	case o.GetProxy():
		return []string{"scope:    as far as the first proxy QNE of the path, or all of it where there is none"}
	}
	return nil
}

// flowFlags say which flow.
func flowFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "from", Usage: "source `ADDRESS` or prefix of the flow"},
		&urfave.StringFlag{Name: "to", Usage: "destination `ADDRESS` or prefix of the flow"},
		&urfave.StringFlag{Name: "protocol", Usage: "`PROTOCOL` of the flow: udp, tcp, …, or its number (default: any)"},
		&urfave.UintFlag{Name: "port", DefaultText: "any", Usage: "destination `PORT` of the flow"},
		&urfave.UintFlag{Name: "source-port", DefaultText: "any", Usage: "source `PORT` of the flow"},
	}
}

// askFlags say what for.
func askFlags() []urfave.Flag {
	return append([]urfave.Flag{
		&urfave.StringFlag{Name: "rate", Usage: "rate to reserve (CIR), bit/s: a `RATE` such as 20M; without it, the class alone"},
		&urfave.StringFlag{Name: "class", Usage: "class of service: a PHB `NAME` such as EF, AF41, CS5, or a DSCP"},
		&urfave.StringFlag{Name: "peak", Usage: "peak `RATE` (PIR), bit/s (default: the rate)"},
		&urfave.StringFlag{Name: "burst", Usage: "bucket `SIZE`, octets (default: qned chooses)"},
		&urfave.UintFlag{Name: "priority", Usage: "admission `PRIORITY`: 1 normal (if not said), 2 high, 3 to 7 as the domains define it"},
		qspecFlag(),
	}, timeFlags()...)
}

func qspecFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "qspec", Usage: "instead of these, a `QSPEC`: 'tmod=20M/64k class=EF latency<=40ms'"}
}

func timeout(c *urfave.Context) (*durationpb.Duration, error) {
	if !c.IsSet("timeout") {
		return nil, nil
	}
	if c.Duration("timeout") <= 0 {
		return nil, cli.Usagef("--timeout %s: expected a duration above zero, e.g. 5s", c.Duration("timeout"))
	}
	return durationpb.New(c.Duration("timeout")), nil
}

// reserveRequest reads the flags of reserve and query; need are those without
// which there is nothing to ask for.
func reserveRequest(c *urfave.Context, need ...string) (*api.ReserveRequest, error) {
	if c.String("qspec") != "" {
		for _, name := range []string{"class", "rate", "peak", "burst", "min-rate", "priority"} {
			if c.IsSet(name) {
				return nil, cli.Usagef("--qspec and --%s: the QSPEC says all of it; give one of the two", name)
			}
		}
		need = nil
	}
	var missing []string
	for _, name := range append([]string{"from", "to"}, need...) {
		if c.String(name) == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) > 0 {
		return nil, cli.Usagef("qnectl %s needs %s; e.g. qnectl %[1]s --from 10.1.0.10 --to 10.3.0.10 --rate 20M --class EF", c.Command.Name, strings.Join(missing, ", "))
	}
	r := &api.ReserveRequest{
		SessionId: c.String("session"), Source: c.String("from"), Destination: c.String("to"), Class: c.String("class"),
		SourcePort: uint32(c.Uint("source-port")), DestinationPort: uint32(c.Uint("port")), Priority: uint32(c.Uint("priority")),
		Qspec: c.String("qspec"), ReceiverInitiated: c.Bool("receiver-initiated"),
		CheckRecords: true, // the column RECORD
	}
	for _, limit := range []struct {
		name string
		max  uint
	}{{"port", 65535}, {"source-port", 65535}, {"priority", 7}} {
		if c.Uint(limit.name) > limit.max {
			return nil, cli.Usagef("--%s %d: expected at most %d", limit.name, c.Uint(limit.name), limit.max)
		}
	}
	var err error
	if r.Protocol, err = parseProtocol(c.String("protocol")); err != nil {
		return nil, cli.Usagef("--protocol %q: %v", c.String("protocol"), err)
	}
	if err := rates(c, &r.Rate, &r.Peak, &r.MinRate, &r.Burst); err != nil {
		return nil, err
	}
	if r.Qspec == "" && r.Rate == 0 && (r.Peak != 0 || r.MinRate != 0 || r.Burst != 0) {
		return nil, cli.Usagef("--peak, --min-rate and --burst go with a --rate; without one it is the class alone, with no rate promised")
	}
	if r.Times, err = times(c, time.Now()); err != nil {
		return nil, err
	}
	if err := readScope(c, r); err != nil {
		return nil, err
	}
	r.Timeout, err = timeout(c)
	return r, err
}

// rates reads the flags for rates and the bucket.
func rates(c *urfave.Context, rate, peak, least, burst *uint64) (err error) {
	for _, x := range []struct {
		name string
		to   *uint64
	}{{"rate", rate}, {"peak", peak}, {"min-rate", least}} {
		if c.String(x.name) == "" {
			continue
		}
		if *x.to, err = units.ParseRate(c.String(x.name)); err != nil {
			return cli.Usagef("--%s: %v", x.name, err)
		}
		if *x.to == 0 {
			return cli.Usagef("--%s %s: expected a rate above zero", x.name, c.String(x.name))
		}
	}
	if c.String("burst") != "" {
		if *burst, err = units.ParseSize(c.String("burst")); err != nil {
			return cli.Usagef("--burst: %v", err)
		}
	}
	return nil
}

func reserve(c *urfave.Context) error {
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
	if c.Bool("bidirectional") || c.IsSet("far-socket") {
		return bothWays(c, format, k, r)
	}
	o, err := k.reservations.Reserve(c.Context, r)
	if err != nil {
		return k.Explain(err)
	}
	views := look(c, k, o.GetSessionId())
	path := buildPath(o, views)
	events := merge(views)
	answer := cli.Map{
		{Key: "outcome", Value: o},
		{Key: "path", Value: path.fields()},
		{Key: "messages", Value: cli.List(events)},
	}
	if format != cli.Table {
		err = cli.Print(c.App.Writer, format, answer)
	} else {
		err = printReserve(c, r, o, path)
		if err == nil && c.Bool("ladder") {
			if _, err = fmt.Fprintln(c.App.Writer); err == nil {
				err = printLadder(c.App.Writer, events, path.order(), addresses(views, events))
			}
		}
	}
	if err != nil {
		return err
	}
	if file := c.String("save"); file != "" {
		if err := save(file, answer); err != nil {
			return err
		}
	}
	if !o.GetAccepted() {
		return cli.ErrTold
	}
	return nil
}

// save writes an answer to a file.
func save(file string, answer cli.Map) error {
	var b bytes.Buffer
	if err := cli.Print(&b, cli.JSON, answer); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
		return fmt.Errorf("--save: %w", err)
	}
	return nil
}

func printReserve(c *urfave.Context, r *api.ReserveRequest, o *api.Outcome, path path) error {
	flow := flowText(&api.Flow{
		Source: r.GetSource(), Destination: r.GetDestination(), Protocol: r.GetProtocol(),
		SourcePort: r.GetSourcePort(), DestinationPort: r.GetDestinationPort(),
	})
	w := c.App.Writer
	var b strings.Builder
	if o.GetAccepted() {
		fmt.Fprintf(&b, "reserved: %s for %s\n", askedText(o.GetGrantedRate(), r), flow)
		if o.GetGrantedRate() < r.GetRate() {
			fmt.Fprintf(&b, "          less than the %s asked for, at least the %s needed\n", units.HumanRate(r.GetRate()), units.HumanRate(r.GetMinRate()))
		}
		for _, line := range append(whenText(o.GetQspec()), scopeText(o)...) {
			fmt.Fprintln(&b, line)
		}
		fmt.Fprintf(&b, "session:  %s, RSN %d\n", o.GetSessionId(), o.GetRsn())
	} else {
		fmt.Fprintf(&b, "refused:  %s for %s\n", askedText(r.GetRate(), r), flow)
		printRefusal(&b, o, path)
		fmt.Fprintf(&b, "session:  %s, RSN %d; nothing of this request is held\n", o.GetSessionId(), o.GetRsn())
	}
	fmt.Fprintf(&b, "time:     %s\n", cli.Micros(o.GetElapsedUs()))
	if _, err := fmt.Fprint(w, b.String()); err != nil {
		return err
	}
	if len(path) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return path.print(w)
}

// askedText is what was asked for or granted: "20 Mbit/s of EF", "the class AF41, with
// no rate promised", or a QSPEC.
func askedText(rate uint64, r *api.ReserveRequest) string {
	switch {
	case r.GetQspec() != "":
		return r.GetQspec()
	case rate == 0:
		return "the class " + r.GetClass() + ", with no rate promised,"
	}
	return units.HumanRate(rate) + " of " + r.GetClass()
}

// printRefusal says who refused, why, and what there would have been.
func printRefusal(b *strings.Builder, o *api.Outcome, path path) {
	who, info := path.refuser(o)
	fmt.Fprintf(b, "by:       %s\n", who)
	fmt.Fprintf(b, "because:  %s\n", infoText(info))
	if largest := path.largest(o); largest > 0 {
		fmt.Fprintf(b, "possible: at most %s now\n", units.HumanRate(largest))
	}
	if earliest := path.earliest(); earliest != "" {
		fmt.Fprintf(b, "          the full rate from %s\n", earliest)
	}
}

// infoText says what an INFO-SPEC means: what the node said, or else the words
// of RFC 5974 §5.1.3.6 and interdomain-qosm §1.
func infoText(i *api.Info) string {
	if i == nil {
		return "no reason was given"
	}
	text := i.GetText()
	if text == "" {
		text = wire.CodeText(wire.ErrorClass(i.GetClass()), uint8(i.GetCode()))
	}
	text += fmt.Sprintf(" (%s, class %d code %d", wire.ErrorClass(i.GetClass()), i.GetClass(), i.GetCode())
	if i.GetSource() != "" {
		text += ", from " + i.GetSource()
	}
	return text + ")"
}
