package qnectl

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/traffic"
	"github.com/interqos/interqos/internal/units"
	"github.com/interqos/interqos/sls"
	urfave "github.com/urfave/cli/v2"
)

func trafficCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "traffic",
		Usage: "send and measure test traffic on the wires of a user-space data plane",
		Description: `A wire of the user-space data plane is a UDP socket whose datagrams carry whole IP
packets. The flow is the one inside; rates are bit/s of those IP packets.`,
		Subcommands: []*urfave.Command{
			{
				Name:  "send",
				Usage: "send one flow at a steady rate",
				Description: `Ends after --duration, or when interrupted.

    qnectl traffic send --wire 127.3.9.1:7000 --from 10.1.0.10:5000 --to 10.3.0.10:5001 --rate 20M --duration 10s`,
				Flags: []urfave.Flag{
					&urfave.StringFlag{Name: "wire", Usage: "UDP `ADDRESS:PORT` that takes the packets"},
					&urfave.StringFlag{Name: "from", Usage: "the flow's source `ADDRESS:PORT`"},
					&urfave.StringFlag{Name: "to", Usage: "the flow's destination `ADDRESS:PORT`"},
					&urfave.StringFlag{Name: "rate", Usage: "bit/s of IP packets, a `RATE` such as 20M"},
					&urfave.IntFlag{Name: "size", Value: 1400, Usage: "`OCTETS` of an IP packet"},
					&urfave.StringFlag{Name: "class", Value: "BE", Usage: "`CLASS` that the packets are marked with: a PHB or a DSCP"},
					&urfave.UintFlag{Name: "stream", Usage: "`NUMBER` that tells several senders of one flow apart"},
					&urfave.DurationFlag{Name: "duration", DefaultText: "until interrupted", Usage: "how long, a `DURATION` such as 10s"},
				},
				Action: send,
			},
			{
				Name:  "receive",
				Usage: "measure what arrives",
				Description: `Measures for --window, or until interrupted, and prints what arrived of each flow.

    qnectl traffic receive --listen 127.3.9.10:7001 --skip 2s --window 5s`,
				Flags: []urfave.Flag{
					&urfave.StringFlag{Name: "listen", Usage: "UDP `ADDRESS:PORT` to listen on, an access wire"},
					&urfave.DurationFlag{Name: "skip", DefaultText: "none", Usage: "time after the first packet that does not count, a `DURATION`: what token buckets had saved up"},
					&urfave.DurationFlag{Name: "window", DefaultText: "until interrupted", Usage: "time that counts, a `DURATION` such as 5s"},
				},
				Action: receive,
			},
		},
	}
}

func addrPort(c *urfave.Context, name string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(c.String(name))
	if err != nil {
		return a, cli.Usagef("--%s %q: expected ADDRESS:PORT, e.g. 127.0.0.1:7000", name, c.String(name))
	}
	return a, nil
}

func notNegative(c *urfave.Context, names ...string) error {
	for _, name := range names {
		if c.Duration(name) < 0 {
			return cli.Usagef("--%s %s: expected a duration of zero or more", name, c.Duration(name))
		}
	}
	return nil
}

func send(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	if err := notNegative(c, "duration"); err != nil {
		return err
	}
	config := traffic.SendConfig{Stream: uint32(c.Uint("stream")), Size: c.Int("size"), Duration: c.Duration("duration")}
	for _, one := range []struct {
		name string
		to   *netip.AddrPort
	}{{"wire", &config.Wire}, {"from", &config.Flow.Source}, {"to", &config.Flow.Destination}} {
		if *one.to, err = addrPort(c, one.name); err != nil {
			return err
		}
	}
	if config.Rate, err = units.ParseRate(c.String("rate")); err != nil {
		return cli.Usagef("--rate: %v", err)
	}
	class, err := sls.ParseClass(c.String("class"))
	if err != nil {
		return cli.Usagef("--class: %v", err)
	}
	config.DSCP = uint8(class)
	r, err := traffic.Send(c.Context, config)
	if err != nil {
		return err
	}
	if format != cli.Table {
		return cli.Print(c.App.Writer, format, cli.Map{
			{Key: "flow", Value: r.Flow}, {Key: "packets", Value: r.Packets}, {Key: "octets", Value: r.Octets}, {Key: "failed", Value: r.Failed},
			{Key: "elapsed_ns", Value: r.Elapsed.Nanoseconds()}, {Key: "rate", Value: r.Rate}, {Key: "skipped_ns", Value: r.Skipped.Nanoseconds()},
		})
	}
	return cli.PrintPairs(c.App.Writer, [][2]string{
		{"flow", r.Flow},
		{"sent", fmt.Sprintf("%d packets, %s, in %s", r.Packets, units.HumanSize(r.Octets), r.Elapsed.Round(time.Millisecond))},
		{"rate", units.HumanRate(r.Rate)},
		{"failed", some(r.Failed, "packets that the kernel did not take")},
		{"skipped", some(uint64(r.Skipped.Milliseconds()), "ms in which the machine did not let the sender run")},
	})
}

// some writes a count with what it is of; empty where there are none.
func some(n uint64, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, what)
}

func receive(c *urfave.Context) error {
	if _, err := cli.Args(c, 0, 0, ""); err != nil {
		return err
	}
	format, err := cli.OutputFormat(c)
	if err != nil {
		return err
	}
	if err := notNegative(c, "skip", "window"); err != nil {
		return err
	}
	listen, err := addrPort(c, "listen")
	if err != nil {
		return err
	}
	r, err := traffic.Receive(c.Context, traffic.ReceiveConfig{Listen: listen, Skip: c.Duration("skip"), Window: c.Duration("window")})
	if err != nil {
		return err
	}
	if format != cli.Table {
		flows := make([]any, 0, len(r.Flows))
		for _, f := range r.Flows {
			flows = append(flows, cli.Map{
				{Key: "flow", Value: f.Flow}, {Key: "stream", Value: f.Stream}, {Key: "packets", Value: f.Packets}, {Key: "octets", Value: f.Octets},
				{Key: "lost", Value: f.Lost}, {Key: "reordered", Value: f.Reordered}, {Key: "rate", Value: f.Rate}, {Key: "dscp", Value: f.DSCP},
				{Key: "delay_mean_ns", Value: f.DelayMean.Nanoseconds()}, {Key: "delay_max_ns", Value: f.DelayMax.Nanoseconds()},
			})
		}
		return cli.Print(c.App.Writer, format, cli.Map{
			{Key: "listen", Value: r.Listen}, {Key: "window_ns", Value: r.Window.Nanoseconds()}, {Key: "flows", Value: flows},
			{Key: "before", Value: r.Before}, {Key: "foreign", Value: r.Foreign},
		})
	}
	var rows [][]string
	for _, f := range r.Flows {
		rows = append(rows, []string{
			f.Flow, fmt.Sprint(f.Stream), units.HumanRate(f.Rate), fmt.Sprint(f.Packets), fmt.Sprint(f.Lost), fmt.Sprint(f.Reordered),
			sls.Class(f.DSCP).String(), cli.Micros(uint64(f.DelayMean.Microseconds())), cli.Micros(uint64(f.DelayMax.Microseconds())),
		})
	}
	if _, err := fmt.Fprintf(c.App.Writer, "measured for %s on %s\n", r.Window.Round(time.Millisecond), r.Listen); err != nil {
		return err
	}
	return cli.PrintTable(c.App.Writer, []string{"FLOW", "STREAM", "RATE", "PACKETS", "LOST", "REORDERED", "CLASS", "MEAN DELAY", "LARGEST"}, rows)
}
