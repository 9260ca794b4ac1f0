// Package qnectl is the operator's tool for a QNE: reserve, release, look.
package qnectl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	urfave "github.com/urfave/cli/v2"
)

// App is the command line of qnectl.
func App() *urfave.App {
	session := cli.CompleteWith(completeSessions)
	return &urfave.App{
		Name:  "qnectl",
		Usage: "reserve quality of service across networks, and look at a QNE",
		Description: `Asks the running qned of this AS. Rates are bit/s with k, M, G, T (powers of
1000): 64k, 20M, 1.5G. Sizes are octets: 1500, 64k, 64Ki.

A session id is 32 hexadecimal digits; the first few of them are enough where
they are the only ones.

    qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --protocol udp --port 5001 --rate 20M --class EF
    qnectl query --from 10.1.0.10 --to 10.3.0.10 --class EF
    qnectl list
    qnectl release 5f3a

` + cli.ExitHelp,
		Flags: cli.Flags(),
		Commands: []*urfave.Command{
			reserveCommand(),
			queryCommand(),
			modifyCommand(session),
			watchCommand(session),
			{
				Name:         "release",
				Usage:        "end reservations that were made here",
				ArgsUsage:    "SESSION...",
				Description:  `Each is torn down in every domain; the answer comes when that is done.`,
				Flags:        []urfave.Flag{timeoutFlag()},
				Action:       release,
				BashComplete: session,
			},
			{
				Name:  "list",
				Usage: "list the reservations that have a part in this AS",
				Flags: []urfave.Flag{
					&urfave.StringFlag{Name: "state", Usage: "only in this `STATE`: authorized, reserved, committed or releasing"},
					&urfave.StringFlag{Name: "role", Usage: "only where this AS is `ROLE`: first, transit, last or only"},
					&urfave.UintFlag{Name: "neighbor", DefaultText: "any", Usage: "only from or to this `AS`"},
					&urfave.StringFlag{Name: "sls", Usage: "only on this SLS, an `ID`"},
					&urfave.StringFlag{Name: "from", Usage: "only from this `ADDRESS` or prefix"},
					&urfave.StringFlag{Name: "to", Usage: "only to this `ADDRESS` or prefix"},
					&urfave.UintFlag{Name: "limit", Value: 1000, Usage: "at most `N`"},
				},
				Action: list,
			},
			{
				Name:         "show",
				Usage:        "show one reservation",
				ArgsUsage:    "SESSION",
				Action:       show,
				BashComplete: session,
			},
			{
				Name:         "trace",
				Usage:        "show the messages of a session in the order in which they went",
				ArgsUsage:    "SESSION",
				Description:  traceHelp,
				Flags:        []urfave.Flag{peerFlag()},
				Action:       traceSession,
				BashComplete: session,
			},
			{
				Name:   "status",
				Usage:  "show how the node is: neighbours, counts, drivers, store",
				Action: nodeStatus,
			},
			{
				Name:      "routes",
				Usage:     "show where BGP would send an address, or all routes",
				ArgsUsage: "[ADDRESS|PREFIX]",
				Flags:     []urfave.Flag{&urfave.UintFlag{Name: "limit", Value: 1000, Usage: "at most `N`"}},
				Action:    routes,
			},
			{
				Name:         "state",
				Usage:        "show the soft state of GIST and QoS-NSLP",
				ArgsUsage:    "[SESSION]",
				Flags:        []urfave.Flag{&urfave.UintFlag{Name: "limit", Value: 100, Usage: "at most `N` of each list"}},
				Action:       state,
				BashComplete: session,
			},
			{
				Name:  "reload",
				Usage: "have qned read its configuration again",
				Description: `What can change while it runs (keys, log level, prefixes, a neighbour's QNEs,
who may use the API) is in force at once; no state is lost. The rest is
named, and waits for a restart.`,
				Flags:  []urfave.Flag{&urfave.BoolFlag{Name: "dry-run", DisableDefaultText: true, Usage: "only say what would be done"}},
				Action: reload,
			},
			trafficCommand(),
			decodeCommand(),
			pkiCommand(),
			tokenCommand(),
			cli.Completion("qnectl"),
		},
	}
}

// clients are the services of one daemon.
type clients struct {
	*cli.Conn
	reservations api.ReservationServiceClient
	node         api.NodeServiceClient
}

func connect(c *urfave.Context, target string) (*clients, error) {
	conn, err := cli.DialTarget(c, target)
	if err != nil {
		return nil, err
	}
	return newClients(conn), nil
}

func newClients(conn *cli.Conn) *clients {
	return &clients{conn, api.NewReservationServiceClient(conn), api.NewNodeServiceClient(conn)}
}

// begin reads the format and connects to this AS's daemon.
func begin(c *urfave.Context) (cli.Format, *clients, error) {
	format, err := cli.OutputFormat(c)
	if err != nil {
		return "", nil, err
	}
	k, err := connect(c, c.String("socket"))
	return format, k, err
}

const sessionDigits = 32

// session finds the session that the beginning of an id names.
func (k *clients) session(c *urfave.Context, text string) (string, error) {
	text = strings.ToLower(text)
	if strings.Trim(text, "0123456789abcdef") != "" || len(text) > sessionDigits || text == "" {
		return "", cli.Usagef("session %q: expected up to %d hexadecimal digits", text, sessionDigits)
	}
	if len(text) == sessionDigits {
		return text, nil
	}
	answer, err := k.reservations.List(c.Context, &api.ListReservationsRequest{Limit: 1e6})
	if err != nil {
		return "", k.Explain(err)
	}
	var found []string
	for _, r := range answer.GetReservations() {
		if strings.HasPrefix(r.GetSessionId(), text) {
			found = append(found, r.GetSessionId())
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no reservation's session id begins with %s; see qnectl list", text)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d sessions begin with %s, e.g. %s and %s: give more digits", len(found), text, found[0], found[1])
}

func completeSessions(c *urfave.Context) ([]string, error) {
	k, err := connect(c, c.String("socket"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.Close() }()
	answer, err := k.reservations.List(c.Context, &api.ListReservationsRequest{})
	var ids []string
	for _, r := range answer.GetReservations() {
		ids = append(ids, r.GetSessionId())
	}
	return ids, err
}

func release(c *urfave.Context) error {
	args, err := cli.Args(c, 1, -1, "session")
	if err != nil {
		return err
	}
	timeout, err := timeout(c)
	if err != nil {
		return err
	}
	format, k, err := begin(c)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	var outcomes []*api.Outcome
	failed := false
	for _, arg := range args {
		id, err := k.session(c, arg)
		if err != nil {
			return err
		}
		o, err := k.reservations.Release(c.Context, &api.ReleaseRequest{SessionId: id, Timeout: timeout})
		if err != nil {
			return k.Explain(err)
		}
		failed = failed || !o.GetAccepted()
		outcomes = append(outcomes, o)
		if format != cli.Table {
			continue
		}
		text := fmt.Sprintf("%s released everywhere, in %s", id, cli.Micros(o.GetElapsedUs()))
		if !o.GetAccepted() {
			text = fmt.Sprintf("%s is released here; not everywhere: %s", id, infoText(o.GetInfo()))
		}
		if _, err := fmt.Fprintln(c.App.Writer, text); err != nil {
			return err
		}
	}
	if format != cli.Table {
		if err := cli.Print(c.App.Writer, format, cli.Map{{Key: "outcomes", Value: cli.List(outcomes)}}); err != nil {
			return err
		}
	}
	if failed {
		return cli.ErrTold
	}
	return nil
}

func as(n uint32) string {
	if n == 0 {
		return ""
	}
	return "AS" + strconv.FormatUint(uint64(n), 10)
}

// protocols that have a name on the command line.
var protocols = []struct {
	name   string
	number uint32
}{{"icmp", 1}, {"tcp", 6}, {"udp", 17}, {"dccp", 33}, {"esp", 50}, {"icmpv6", 58}, {"sctp", 132}, {"udplite", 136}}

var errProtocol = errors.New("expected icmp, tcp, udp, dccp, esp, icmpv6, sctp, udplite, or a number from 0 (any) to 255")

func parseProtocol(text string) (uint32, error) {
	for _, p := range protocols {
		if strings.EqualFold(text, p.name) {
			return p.number, nil
		}
	}
	if text == "" || text == "any" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, errProtocol
	}
	return uint32(n), nil
}

// flowText writes a flow as "10.1.0.10 → 10.3.0.10, udp port 5001".
func flowText(f *api.Flow) string {
	if f == nil {
		return ""
	}
	text := f.GetSource() + " → " + f.GetDestination()
	if f.GetProtocol() == 0 {
		return text
	}
	name := "protocol " + strconv.FormatUint(uint64(f.GetProtocol()), 10)
	for _, p := range protocols {
		if p.number == f.GetProtocol() {
			name = p.name
		}
	}
	text += ", " + name
	switch source, destination := f.GetSourcePort(), f.GetDestinationPort(); {
	case source != 0 && destination != 0:
		text += fmt.Sprintf(" port %d → %d", source, destination)
	case source != 0:
		text += fmt.Sprintf(" from port %d", source)
	case destination != 0:
		text += fmt.Sprintf(" port %d", destination)
	}
	return text
}
