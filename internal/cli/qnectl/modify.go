package qnectl

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
)

func modifyCommand(session urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "modify",
		Usage:     "change a reservation that was made here",
		ArgsUsage: "SESSION",
		Description: `What is not named stays. Until every domain has agreed, and where one refuses, the
old one stands.

    qnectl modify 5f3a --rate 30M
    qnectl modify 5f3a --qspec 'tmod=30M/64k class=EF latency<=40ms'`,
		Flags: append([]urfave.Flag{
			&urfave.StringFlag{Name: "rate", Usage: "new `RATE` (CIR), bit/s"},
			&urfave.StringFlag{Name: "peak", Usage: "new peak `RATE` (PIR), bit/s"},
			&urfave.StringFlag{Name: "burst", Usage: "new bucket `SIZE`, octets"},
			&urfave.StringFlag{Name: "min-rate", Usage: "new least `RATE` that is of use, bit/s"},
			qspecFlag(),
		}, append(timeFlags(), timeoutFlag(), peerFlag())...),
		Action:       modify,
		BashComplete: session,
	}
}

func modify(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "session")
	if err != nil {
		return err
	}
	r := &api.ModifyRequest{Qspec: c.String("qspec"), CheckRecords: true}
	if err := rates(c, &r.Rate, &r.Peak, &r.MinRate, &r.Burst); err != nil {
		return err
	}
	if r.Times, err = times(c, time.Now()); err != nil {
		return err
	}
	if r.Timeout, err = timeout(c); err != nil {
		return err
	}
	if r.Qspec == "" && r.Times == "" && r.Rate|r.Peak|r.MinRate|r.Burst == 0 {
		return cli.Usagef("qnectl modify needs something to change, e.g. --rate 30M")
	}
	format, k, err := begin(c)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if r.SessionId, err = k.session(c, args[0]); err != nil {
		return err
	}
	o, err := k.reservations.Modify(c.Context, r)
	if err != nil {
		return k.Explain(err)
	}
	path := buildPath(o, look(c, k, o.GetSessionId()))
	if format != cli.Table {
		err = cli.Print(c.App.Writer, format, cli.Map{{Key: "outcome", Value: o}, {Key: "path", Value: path.fields()}})
	} else {
		err = printModify(c.App.Writer, o, path)
	}
	if err == nil && !o.GetAccepted() {
		err = cli.ErrTold
	}
	return err
}

func printModify(w io.Writer, o *api.Outcome, path path) error {
	var b strings.Builder
	if o.GetAccepted() {
		what := "no rate promised"
		if o.GetGrantedRate() > 0 {
			what = units.HumanRate(o.GetGrantedRate())
		}
		fmt.Fprintf(&b, "changed:  %s\n", what)
	} else {
		fmt.Fprintln(&b, "refused:  the reservation stays as it was")
		printRefusal(&b, o, path)
	}
	fmt.Fprintf(&b, "session:  %s, RSN %d\ntime:     %s\n", o.GetSessionId(), o.GetRsn(), cli.Micros(o.GetElapsedUs()))
	if _, err := fmt.Fprint(w, b.String()); err != nil || len(path) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return path.print(w)
}

func watchCommand(session urfave.BashCompleteFunc) *urfave.Command {
	return &urfave.Command{
		Name:      "watch",
		Usage:     "show what happens to a reservation, as it happens, until it is gone",
		ArgsUsage: "SESSION",
		Description: `Changes of the reservation in this AS, the messages that this AS sends for it, the
NOTIFYs that pass or end here, and what its initiator is told. With -o json, one
object a line.`,
		Flags:        []urfave.Flag{&urfave.BoolFlag{Name: "changes", DisableDefaultText: true, Usage: "leave the messages out"}},
		Action:       watch,
		BashComplete: session,
	}
}

func watch(c *urfave.Context) error {
	args, err := cli.Args(c, 1, 1, "session")
	if err != nil {
		return err
	}
	format, k, err := begin(c)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	id, err := k.session(c, args[0])
	if err != nil {
		return err
	}
	stream, err := k.reservations.Watch(c.Context, &api.WatchRequest{SessionId: id})
	if err != nil {
		return k.Explain(err)
	}
	for {
		ev, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return k.Explain(err)
		case c.Bool("changes") && ev.GetMessage() != nil:
			continue
		}
		if format == cli.Table {
			_, err = fmt.Fprintf(c.App.Writer, "%s  %s\n", ev.GetTime().AsTime().Format("15:04:05.000000"), eventText(ev))
		} else {
			err = cli.PrintLine(c.App.Writer, format, ev)
		}
		if err != nil {
			return err
		}
	}
}

// eventText is one event as a line.
func eventText(ev *api.WatchEvent) string {
	switch m, r := ev.GetMessage(), ev.GetReservation(); {
	case ev.GetGone():
		return "gone"
	case m != nil:
		text := fmt.Sprintf("sent %s to %s", m.GetMessage(), m.GetTo())
		if m.GetNote() != "" {
			text += ": " + m.GetNote()
		}
		return text
	case ev.GetNotification() != nil:
		return "notified: " + infoText(ev.GetNotification())
	case ev.GetInfo() != nil:
		return "the initiator is told: " + infoText(ev.GetInfo())
	default:
		rate := units.HumanRate(r.GetRate())
		if r.GetRelative() {
			rate = "no rate promised"
		}
		return fmt.Sprintf("%s: %s of %s for %s, RSN %d", cli.Enum(r.GetState()), rate, r.GetClass(), flowText(r.GetFlow()), r.GetRsn())
	}
}
