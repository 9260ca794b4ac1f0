package qnectl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/units"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/types/known/durationpb"
)

// enumFlag reads an option that is an enumeration's value in lower case.
func enumFlag(c *urfave.Context, name, prefix string, values map[string]int32) (int32, error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	if v := values[prefix+strings.ToUpper(text)]; v != 0 {
		return v, nil
	}
	return 0, cli.Usagef("--%s %q: there is none; see %s --help", name, text, c.Command.HelpName)
}

// ask is cli.Ask with the services of this AS's daemon.
func ask(c *urfave.Context, low, high int, what string, question func(k *clients, args []string) (any, func(io.Writer) error, error)) error {
	return cli.Ask(c, low, high, what, func(conn *cli.Conn, args []string) (any, func(io.Writer) error, error) {
		return question(newClients(conn), args)
	})
}

func list(c *urfave.Context) error {
	state, err := enumFlag(c, "state", "RESERVATION_STATE_", api.ReservationState_value)
	if err != nil {
		return err
	}
	role, err := enumFlag(c, "role", "ROLE_", api.Role_value)
	if err != nil {
		return err
	}
	return ask(c, 0, 0, "", func(k *clients, _ []string) (any, func(io.Writer) error, error) {
		answer, err := k.reservations.List(c.Context, &api.ListReservationsRequest{
			State: api.ReservationState(state), Role: api.Role(role), NeighborAs: uint32(c.Uint("neighbor")),
			SlsId: c.String("sls"), Source: c.String("from"), Destination: c.String("to"), Limit: uint32(c.Uint("limit")),
		})
		return answer, func(w io.Writer) error { return printList(w, answer) }, err
	})
}

func printList(w io.Writer, answer *api.ListReservationsResponse) error {
	var rows [][]string
	for _, r := range answer.GetReservations() {
		rows = append(rows, []string{
			r.GetSessionId(), cli.Enum(r.GetState()), cli.Enum(r.GetRole()), as(r.GetUpstreamAs()), as(r.GetDownstreamAs()),
			r.GetClass(), units.HumanRate(r.GetRate()), flowText(r.GetFlow()),
		})
	}
	return cli.PrintSome(w, []string{"SESSION", "STATE", "ROLE", "FROM", "TO", "CLASS", "RATE", "FLOW"}, rows, answer.GetTotal())
}

func show(c *urfave.Context) error {
	return ask(c, 1, 1, "session", func(k *clients, args []string) (any, func(io.Writer) error, error) {
		id, err := k.session(c, args[0])
		if err != nil {
			return nil, nil, err
		}
		r, err := k.reservations.Get(c.Context, &api.GetReservationRequest{SessionId: id})
		return r, func(w io.Writer) error { return cli.PrintPairs(w, reservationPairs(r)) }, err
	})
}

func ago(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().Truncate(time.Second).String()
}

func nodeStatus(c *urfave.Context) error {
	return ask(c, 0, 0, "", func(k *clients, _ []string) (any, func(io.Writer) error, error) {
		s, err := k.node.Status(c.Context, &api.StatusRequest{})
		return s, func(w io.Writer) error { return printStatus(w, s) }, err
	})
}

func gistText(g *api.GISTCounts) string {
	return cli.Count(g.GetRoutingStates(), "routing state") + ", " + cli.Count(g.GetAssociations(), "association") + ", " +
		cli.Count(g.GetPending(), "handshake") + " under way"
}

func nslpText(n *api.NSLPCounts) string {
	return cli.Count(n.GetSessions(), "session") + ", " + cli.Count(n.GetPending(), "transaction") + " under way"
}

func printStatus(w io.Writer, s *api.NodeStatus) error {
	ready := "yes"
	if !s.GetReady() {
		ready = "no: " + s.GetNotReadyBecause()
	}
	security := ""
	if s.GetInsecure() {
		security = "INSECURE: no TLS between domains, for labs only"
	}
	err := cli.PrintPairs(w, [][2]string{
		{"node", fmt.Sprintf("AS%d, router id %s, version %s, up %s", s.GetAs(), s.GetRouterId(), s.GetVersion(), ago(s.GetUptime()))},
		{"ready", ready},
		{"security", security},
		{"GIST", gistText(s.GetGist())},
		{"QoS-NSLP", nslpText(s.GetNslp()) + ", " + cli.Count(uint64(s.GetShards()), "shard")},
		{"ledger", fmt.Sprintf("%s, %d committed (%s), %d held (%s)", cli.Count(s.GetLedger().GetSlss(), "SLS"), s.GetLedger().GetCommitted(),
			units.HumanRate(s.GetLedger().GetCommittedRate()), s.GetLedger().GetHeld(), units.HumanRate(s.GetLedger().GetHeldRate()))},
		{"store", fmt.Sprintf("%s, %s, %s, %s", s.GetStore().GetFile(), cli.Count(s.GetStore().GetRecords(), "reservation"),
			cli.Count(s.GetStore().GetSlss(), "SLS"), units.HumanSize(s.GetStore().GetSize()))},
	})
	if err != nil {
		return err
	}
	var peers, edges, drivers [][]string
	for _, p := range s.GetBgpPeers() {
		peers = append(peers, []string{as(p.GetAs()), p.GetAddress(), p.GetState(), ago(p.GetUptime()), fmt.Sprint(p.GetReceived()), fmt.Sprint(p.GetAdvertised())})
	}
	for _, e := range s.GetEdges() {
		edges = append(edges, []string{
			e.GetName(), e.GetInternal(), e.GetExternal(), as(e.GetNeighborAs()), e.GetNeighborAddress(), e.GetDiscovery(),
			fmt.Sprint(e.GetRelayedOut()), fmt.Sprint(e.GetRelayedIn()), fmt.Sprint(e.GetRefused()),
		})
	}
	for _, d := range s.GetDrivers() {
		connected := "yes"
		if !d.GetConnected() {
			connected = "no"
		}
		drivers = append(drivers, []string{d.GetName(), connected, fmt.Sprint(d.GetHeld()), fmt.Sprint(d.GetCommitted()), d.GetError()})
	}
	return cli.PrintSections(w,
		cli.Section{Header: []string{"BGP PEER", "ADDRESS", "STATE", "UP", "RECEIVED", "ADVERTISED"}, Rows: peers},
		cli.Section{Header: []string{"EDGE", "INTERNAL", "EXTERNAL", "NEIGHBOR", "ADDRESS", "DISCOVERY", "OUT", "IN", "REFUSED"}, Rows: edges},
		cli.Section{Header: []string{"DRIVER", "CONNECTED", "HELD", "COMMITTED", "LAST ERROR"}, Rows: drivers})
}

func routes(c *urfave.Context) error {
	return ask(c, 0, 1, "address", func(k *clients, args []string) (any, func(io.Writer) error, error) {
		lookup := strings.Join(args, "")
		answer, err := k.node.Routes(c.Context, &api.RoutesRequest{Lookup: lookup, Limit: uint32(c.Uint("limit"))})
		return answer, func(w io.Writer) error { return printRoutes(w, lookup, answer) }, err
	})
}

func printRoutes(w io.Writer, lookup string, answer *api.RoutesResponse) error {
	var rows [][]string
	for _, r := range answer.GetRoutes() {
		var asPath []string
		for _, n := range r.GetAsPath() {
			asPath = append(asPath, strconv.FormatUint(uint64(n), 10))
		}
		next := as(r.GetNextAs())
		if next == "" {
			next = "(this AS)"
		}
		rows = append(rows, []string{r.GetPrefix(), next, strings.Join(asPath, " "), r.GetNextHop(), r.GetEdge(), r.GetEgress(), r.GetIngress()})
	}
	if len(rows) == 0 && lookup != "" {
		return fmt.Errorf("no route to %s", lookup)
	}
	return cli.PrintSome(w, []string{"PREFIX", "NEXT AS", "AS PATH", "NEXT HOP", "EDGE", "EGRESS", "NEXT INGRESS"}, rows, answer.GetTotal())
}

func state(c *urfave.Context) error {
	return ask(c, 0, 1, "session", func(k *clients, args []string) (any, func(io.Writer) error, error) {
		r := &api.StateRequest{Limit: uint32(c.Uint("limit"))}
		if len(args) == 1 {
			var err error
			if r.SessionId, err = k.session(c, args[0]); err != nil {
				return nil, nil, err
			}
		}
		s, err := k.node.State(c.Context, r)
		return s, func(w io.Writer) error { return printState(w, s) }, err
	})
}

func printState(w io.Writer, s *api.StateResponse) error {
	if _, err := fmt.Fprintf(w, "GIST: %s; QoS-NSLP: %s\n", gistText(s.GetGist()), nslpText(s.GetNslp())); err != nil {
		return err
	}
	var routing, associations, sessions [][]string
	for _, r := range s.GetRoutingStates() {
		routing = append(routing, []string{r.GetSessionId(), r.GetDirection(), r.GetMethod(), r.GetPeer(), r.GetStatus(), cli.Time(r.GetExpires()), flowText(r.GetFlow())})
	}
	for _, a := range s.GetAssociations() {
		associations = append(associations, []string{a.GetLocal(), a.GetRemote(), a.GetPeerId(), a.GetState(), fmt.Sprint(a.GetRoutingStates())})
	}
	for _, n := range s.GetSessions() {
		sessions = append(sessions, []string{
			n.GetSessionId(), fmt.Sprint(n.GetRsn()), n.GetState(), as(n.GetUpstream()), as(n.GetDownstream()), cli.Time(n.GetRefreshed()), cli.Time(n.GetExpires()),
		})
	}
	return cli.PrintSections(w,
		cli.Section{Header: []string{"ROUTING STATE", "DIRECTION", "METHOD", "PEER", "STATUS", "EXPIRES", "FLOW"}, Rows: routing},
		cli.Section{Header: []string{"ASSOCIATION", "REMOTE", "PEER", "STATE", "ROUTING STATES"}, Rows: associations},
		cli.Section{Header: []string{"SESSION", "RSN", "STATE", "UPSTREAM", "DOWNSTREAM", "REFRESHED", "EXPIRES"}, Rows: sessions})
}

func reload(c *urfave.Context) error {
	dry := c.Bool("dry-run")
	return ask(c, 0, 0, "", func(k *clients, _ []string) (any, func(io.Writer) error, error) {
		answer, err := k.node.Reload(c.Context, &api.ReloadRequest{DryRun: dry})
		return answer, func(w io.Writer) error { return printReload(w, answer, dry) }, err
	})
}

func printReload(w io.Writer, answer *api.ReloadResponse, dry bool) error {
	var b strings.Builder
	if len(answer.GetApplied())+len(answer.GetNeedsRestart()) == 0 {
		b.WriteString("nothing has changed\n")
	}
	verb := "in force:  "
	if dry {
		verb = "would be in force:  "
	}
	for _, path := range answer.GetApplied() {
		b.WriteString(verb + path + "\n")
	}
	for _, path := range answer.GetNeedsRestart() {
		b.WriteString("waits for a restart:  " + path + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
