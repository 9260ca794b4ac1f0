package qnectl

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/clitest"
	"github.com/interqos/interqos/node"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	sid   = "5f3a00112233445566778899aabbccdd"
	other = "5f3b00112233445566778899aabbccdd"
)

var then = time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)

// fake is one of three ASs in a row.
type fake struct {
	node.Backend
	as           uint32
	outcome      *api.Outcome
	reservations []*api.Reservation
	events       []*api.TraceEvent
	asked        *api.ReserveRequest
	released     []string
	filter       *api.ListReservationsRequest
	traceErr     error
}

func (f *fake) Reserve(_ context.Context, r *api.ReserveRequest) (*api.Outcome, error) {
	f.asked = r
	return f.outcome, nil
}

func (f *fake) Release(_ context.Context, id wire.SID) (*api.Outcome, error) {
	f.released = append(f.released, id.String())
	if id.String() == other {
		return &api.Outcome{SessionId: id.String(), ElapsedUs: 2e6, Info: &api.Info{Class: 4, Code: 8, Source: "127.1.0.1"}}, nil
	}
	return &api.Outcome{SessionId: id.String(), Rsn: 2, Accepted: true, ElapsedUs: 812, Info: &api.Info{Class: 2, Code: 2}}, nil
}

func (f *fake) ListReservations(_ context.Context, r *api.ListReservationsRequest) (*api.ListReservationsResponse, error) {
	f.filter = r
	return &api.ListReservationsResponse{Reservations: f.reservations, Total: uint64(len(f.reservations))}, nil
}

func (f *fake) GetReservation(_ context.Context, id wire.SID) (*api.Reservation, error) {
	for _, r := range f.reservations {
		if r.GetSessionId() == id.String() {
			return r, nil
		}
	}
	return nil, fmt.Errorf("session %s: %w", id, node.ErrNotFound)
}

func (f *fake) Trace(context.Context, wire.SID) ([]*api.TraceEvent, error) {
	return f.events, f.traceErr
}

func (f *fake) Status(context.Context) (*api.NodeStatus, error) {
	return &api.NodeStatus{
		As: f.as, RouterId: fmt.Sprintf("127.%d.0.1", f.as-65000), Version: "v0.1.0", Uptime: durationpb.New(90*time.Second + 5e6),
		Insecure: true, Shards: 2, Ready: f.as != 65003, NotReadyBecause: "no driver is connected",
		Gist:   &api.GISTCounts{RoutingStates: 4, Associations: 2, Pending: 1},
		Nslp:   &api.NSLPCounts{Sessions: 2},
		Ledger: &api.LedgerCounts{Slss: 1, Committed: 1, CommittedRate: 20e6},
		Store:  &api.Store{File: "/var/lib/interqos/qned.db", Records: 1, Slss: 1, Size: 65536},
		BgpPeers: []*api.BGPPeer{
			{As: 65002, Address: "127.2.1.1", State: "established", Uptime: durationpb.New(time.Minute), Received: 2, Advertised: 1},
		},
		Edges: map[uint32][]*api.Edge{
			65001: {{
				Name: "to-as65002", Internal: "127.1.0.2", External: "127.1.2.1", NeighborAs: 65002, NeighborAddress: "127.2.1.1",
				NeighborQnes: []string{"127.2.0.1"}, Discovery: "relay", RelayedOut: 3,
			}},
			65002: {{Name: "to-as65001", Internal: "127.2.0.2", External: "127.2.1.1", NeighborAs: 65001, NeighborAddress: "127.1.2.1"}},
		}[f.as],
		Drivers: []*api.Driver{{Name: "pathdb", Connected: true, Committed: 1}, {Name: "bng", Error: "connection refused"}},
	}, nil
}

func (f *fake) Routes(_ context.Context, r *api.RoutesRequest) (*api.RoutesResponse, error) {
	if r.GetLookup() == "192.0.2.1" {
		return &api.RoutesResponse{}, nil
	}
	return &api.RoutesResponse{Total: 5, Routes: []*api.Route{
		{Prefix: "10.1.0.0/16"},
		{Prefix: "10.3.0.0/16", NextHop: "127.2.1.1", AsPath: []uint32{65002, 65003}, NextAs: 65002, Edge: "to-as65002", Egress: "127.1.2.1", Ingress: "127.2.1.1"},
	}}, nil
}

func (f *fake) Reload(_ context.Context, dry bool) (*api.ReloadResponse, error) {
	if dry {
		return &api.ReloadResponse{}, nil
	}
	return &api.ReloadResponse{Applied: []string{"keys", "log.level"}, NeedsRestart: []string{"gist.port"}}, nil
}

func (f *fake) State(context.Context, *api.StateRequest) (*api.StateResponse, error) {
	return &api.StateResponse{
		Gist: &api.GISTCounts{RoutingStates: 1, Associations: 1}, Nslp: &api.NSLPCounts{Sessions: 1},
		RoutingStates: []*api.RoutingState{{SessionId: sid, NslpId: 1, Flow: flow(), Method: "off-path", Direction: "downstream", Peer: "127.2.0.1", Status: "good", Expires: timestamppb.New(then)}},
		Associations:  []*api.Association{{Local: "127.1.0.1:40000", Remote: "127.2.0.1:270", PeerId: "as65002", State: "connected", RoutingStates: 1}},
		Sessions:      []*api.Session{{SessionId: sid, Rsn: 1, State: "committed", Downstream: 65002, Refreshed: timestamppb.New(then)}},
	}, nil
}

func flow() *api.Flow {
	return &api.Flow{Source: "10.1.0.10", Destination: "10.3.0.10", Protocol: 17, DestinationPort: 5001}
}

// three ASs with one reservation through them.
func three() []*fake {
	one := func(as uint32, role api.Role) *api.Reservation {
		return &api.Reservation{
			SessionId: sid, Rsn: 1, State: api.ReservationState_RESERVATION_STATE_COMMITTED, Role: role, Flow: flow(),
			Class: "EF", Rate: 20e6, Peak: 25e6, Burst: 64000, Since: timestamppb.New(then), Refreshed: timestamppb.New(then.Add(time.Minute)),
		}
	}
	first, transit, last := one(65001, api.Role_ROLE_FIRST), one(65002, api.Role_ROLE_TRANSIT), one(65003, api.Role_ROLE_LAST)
	first.DownstreamAs, first.Egress, first.NextIngress, first.SlsOut = 65002, "127.1.2.1", "127.2.1.1", "as65001-as65002-gold"
	transit.UpstreamAs, transit.PreviousEgress, transit.Ingress, transit.SlsIn = 65001, "127.1.2.1", "127.2.1.1", "as65001-as65002-gold"
	transit.DownstreamAs, transit.Egress, transit.NextIngress, transit.SlsOut = 65003, "127.2.3.1", "127.3.2.1", "as65002-as65003-gold"
	last.UpstreamAs, last.PreviousEgress, last.Ingress, last.SlsIn = 65002, "127.2.3.1", "127.3.2.1", "as65002-as65003-gold"
	ases := []*fake{
		{as: 65001, reservations: []*api.Reservation{first}, outcome: &api.Outcome{
			SessionId: sid, Rsn: 1, Accepted: true, GrantedRate: 20e6, Info: &api.Info{Class: 2, Code: 1}, ElapsedUs: 1834,
			Domains: []*api.Domain{
				{As: 65001, Verdict: api.Verdict_VERDICT_COMMITTED, SlsId: "gold", ElapsedUs: 1834, Egress: "127.1.2.1"},
				{As: 65002, Verdict: api.Verdict_VERDICT_COMMITTED, SlsId: "gold", ElapsedUs: 412},
				{As: 65003, Verdict: api.Verdict_VERDICT_COMMITTED, SlsId: "gold", ElapsedUs: 397},
			},
		}},
		{as: 65002, reservations: []*api.Reservation{transit}},
		{as: 65003, reservations: []*api.Reservation{last}},
	}
	at := then
	send := func(as uint32, node, from, to, transport, layer, message, note string) {
		at = at.Add(137 * time.Microsecond)
		f := ases[as-65001]
		f.events = append(f.events, &api.TraceEvent{
			TimeNs: at.UnixNano(), As: as, Seq: uint64(len(f.events) + 1), From: from, To: to, Layer: layer, Message: message,
			Transport: transport, Note: note, Direction: api.TraceEvent_SENT, Node: node,
		})
	}
	send(65001, "qne", "127.1.0.1:270", "127.1.0.2:270", "udp", "GIST", "Query", "")
	send(65001, "to-as65002", "127.1.2.1:270", "127.2.1.1:270", "udp", "GIST", "Query", "")
	send(65002, "to-as65001", "127.2.0.2:270", "127.2.0.1:270", "udp", "GIST", "Query", "")
	send(65002, "qne", "127.2.0.1:270", "127.1.0.1:270", "udp", "GIST", "Response", "")
	send(65001, "qne", "127.1.0.1:0", "127.2.0.1:270", "tcp", "GIST", "Confirm", "")
	send(65001, "qne", "127.1.0.1:40000", "127.2.0.1:270", "tcp", "QoS-NSLP", "Data{RESERVE}", "RSN 1")
	send(65002, "qne", "127.2.0.1:40001", "127.3.0.1:270", "tcp", "QoS-NSLP", "Data{RESERVE}", "RSN 1")
	send(65003, "qne", "127.3.0.1:270", "127.2.0.1:40001", "tcp", "QoS-NSLP", "Data{RESPONSE}", "success")
	send(65002, "qne", "127.2.0.1:270", "127.1.0.1:40000", "tcp", "QoS-NSLP", "Data{RESPONSE}", "success")
	// What the receivers say of two of them, and a decision.
	ases[1].events = append(ases[1].events, &api.TraceEvent{
		TimeNs: then.Add(time.Millisecond).UnixNano(), As: 65002, Seq: 90, From: "127.1.0.1:40000", To: "127.2.0.1:270", Layer: "QoS-NSLP",
		Message: "Data{RESERVE}", Transport: "tcp", Direction: api.TraceEvent_RECEIVED, Node: "qne",
	})
	ases[2].events = append(ases[2].events, &api.TraceEvent{
		TimeNs: then.Add(1050 * time.Microsecond).UnixNano(), As: 65003, Seq: 91, Layer: "driver", Message: "policer in place", Note: "bng, subscriber 10.3.0.10",
		Direction: api.TraceEvent_INTERNAL, Node: "qne",
	})
	return ases
}

// refused makes the middle AS refuse.
func refused(f *fake) {
	f.reservations, f.events = nil, nil
	f.outcome = &api.Outcome{
		SessionId: other, Rsn: 1, Info: &api.Info{Class: 6, Code: 65, Text: "", Source: "127.2.0.1"}, LargestRate: 80e6, ElapsedUs: 903,
		Domains: []*api.Domain{
			{As: 65001, Verdict: api.Verdict_VERDICT_RELEASED, SlsId: "gold", ElapsedUs: 903},
			{As: 65002, Verdict: api.Verdict_VERDICT_REFUSED, SlsId: "gold", ElapsedUs: 120, LargestRate: 80e6,
				Info: &api.Info{Class: 6, Code: 65}, Earliest: timestamppb.New(then.Add(time.Hour))},
		},
	}
}

var basic = []string{"reserve", "--from", "10.1.0.10", "--to", "10.3.0.10", "--protocol", "udp", "--port", "5001", "--rate", "20M", "--class", "EF"}

func with(args []string, more ...string) []string { return append(slices.Clone(args), more...) }

func serve(t *testing.T, ases []*fake) (sockets []string, peers []string) {
	for _, f := range ases {
		sockets = append(sockets, clitest.Serve(t, f))
	}
	for _, s := range sockets[1:] {
		peers = append(peers, "--peer-socket", s)
	}
	return sockets, peers
}

func golden(t *testing.T, name, socket string, status int, args ...string) {
	t.Helper()
	got := clitest.Run(t, App(), "", append([]string{"-s", socket}, args...)...)
	if got.Status != status || got.Stderr != "" {
		t.Errorf("%s: status %d, want %d; %s", name, got.Status, status, got.Stderr)
	}
	clitest.Golden(t, name, strings.ReplaceAll(got.Stdout, cli.Version(), "VERSION"))
}

func TestReserve(t *testing.T) {
	ases := three()
	sockets, peers := serve(t, ases)
	golden(t, "reserve.txt", sockets[0], 0, basic...)
	want := &api.ReserveRequest{Source: "10.1.0.10", Destination: "10.3.0.10", Protocol: 17, DestinationPort: 5001, Class: "EF", Rate: 20e6, CheckRecords: true}
	if !proto.Equal(ases[0].asked, want) {
		t.Errorf("asked for %v, want %v", ases[0].asked, want)
	}
	golden(t, "reserve-peers.txt", sockets[0], 0, with(basic, peers...)...)
	golden(t, "reserve-ladder.txt", sockets[0], 0, with(with(basic, "--ladder"), peers...)...)
	golden(t, "reserve-ladder-alone.txt", sockets[0], 0, with(basic, "--ladder")...)
	golden(t, "reserve.json", sockets[0], 0, with(with(basic, "-o", "json"), peers...)...)

	saved := filepath.Join(t.TempDir(), "answer.json")
	golden(t, "reserve-peers.txt", sockets[0], 0, with(with(basic, "--save", saved), peers...)...)
	if text, err := os.ReadFile(saved); err != nil {
		t.Error(err)
	} else {
		clitest.Golden(t, "reserve.json", string(text))
	}
	golden(t, "reserve-all.txt", sockets[0], 0, with(basic, "--source-port", "4000", "--peak", "45M", "--burst", "64Ki", "--min-rate", "10M",
		"--priority", "3", "--session", sid, "--timeout", "5s", "--rate", "30M")...)
	want = &api.ReserveRequest{
		SessionId: sid, Source: "10.1.0.10", Destination: "10.3.0.10", Protocol: 17, SourcePort: 4000, DestinationPort: 5001, Class: "EF",
		Rate: 30e6, Peak: 45e6, Burst: 65536, MinRate: 10e6, Priority: 3, Timeout: durationpb.New(5 * time.Second),
		CheckRecords: true,
	}
	if !proto.Equal(ases[0].asked, want) {
		t.Errorf("asked for %v, want %v", ases[0].asked, want)
	}
}

// Where there are certificates to check records with, or one is wrong, the table
// says of each AS whether it is proved that it said so.
func TestReserveProofs(t *testing.T) {
	ases := three()
	sockets, _ := serve(t, ases)
	domains := ases[0].outcome.Domains
	for name, proofs := range map[string][]api.Proof{
		"reserve-verified.txt": {api.Proof_PROOF_VERIFIED, api.Proof_PROOF_VERIFIED, api.Proof_PROOF_UNKNOWN_KEY},
		"reserve-changed.txt":  {api.Proof_PROOF_UNSIGNED, api.Proof_PROOF_BAD, api.Proof_PROOF_UNSIGNED},
		"reserve.txt":          {api.Proof_PROOF_VERIFIED, api.Proof_PROOF_UNKNOWN_KEY, api.Proof_PROOF_UNSIGNED},
	} {
		for i, p := range proofs {
			domains[i].Proof = p
		}
		golden(t, name, sockets[0], 0, basic...)
	}
}

func TestReserveRefused(t *testing.T) {
	ases := three()
	refused(ases[0])
	sockets, _ := serve(t, ases)
	golden(t, "refused.txt", sockets[0], 1, with(basic, "--rate", "100M")...)
	golden(t, "refused.json", sockets[0], 1, with(basic, "--rate", "100M", "-o", "json")...)

	// Nobody says who: the error source does, if it is there.
	ases[0].outcome.Domains = nil
	got := clitest.Run(t, App(), "", with(basic, "-s", sockets[0])...)
	if !strings.Contains(got.Stdout, "by:       the node 127.2.0.1\n") || strings.Contains(got.Stdout, "VERDICT") {
		t.Errorf("got %s", got.Stdout)
	}
	ases[0].outcome.Info = nil
	got = clitest.Run(t, App(), "", with(basic, "-s", sockets[0])...)
	if !strings.Contains(got.Stdout, "by:       a domain that does not say so\nbecause:  no reason was given\n") {
		t.Errorf("got %s", got.Stdout)
	}
}

func TestPeerThatCannotBeSeen(t *testing.T) {
	ases := three()
	ases[2].traceErr = fmt.Errorf("%w: trace", node.ErrBusy)
	sockets, _ := serve(t, ases)
	got := clitest.Run(t, App(), "", with(basic, "-s", sockets[0], "--peer-socket", sockets[1], "--peer-socket", sockets[2], "--peer-socket", "unix:/nonexistent/s")...)
	if got.Status != 0 || !strings.Contains(got.Stderr, "qnectl: warning: too busy: trace\n") ||
		!strings.Contains(got.Stderr, "qnectl: warning: cannot reach qned: there is no socket /nonexistent/s") {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(got.Stdout, "AS65002  127.2.1.1  127.2.3.1") || !strings.Contains(got.Stdout, "AS65003") {
		t.Errorf("got %s", got.Stdout)
	}
}

func TestLook(t *testing.T) {
	ases := three()
	ases[0].reservations = append(ases[0].reservations, &api.Reservation{SessionId: other, State: api.ReservationState_RESERVATION_STATE_RELEASING})
	sockets, peers := serve(t, ases)
	for name, args := range map[string][]string{
		"list.txt":        {"list"},
		"list.json":       {"list", "--output", "json"},
		"show.txt":        {"show", "5f3a"},
		"show.yaml":       {"show", sid, "-o", "yaml"},
		"trace.txt":       with([]string{"trace", "5F3A0"}, peers...),
		"trace.json":      {"trace", sid, "-o", "json"},
		"status.txt":      {"status"},
		"status.json":     {"status", "-o", "json"},
		"routes.txt":      {"routes"},
		"state.txt":       {"state"},
		"state.json":      {"state", sid, "-o", "json"},
		"reload.txt":      {"reload"},
		"reload-dry.txt":  {"reload", "--dry-run"},
		"help.txt":        {"--help"},
		"help-res.txt":    {"reserve", "--help"},
		"help-send.txt":   {"traffic", "send", "--help"},
		"completion.fish": {"completion", "fish"},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, sockets[0], 0, args...) })
	}
	golden(t, "status-not-ready.txt", sockets[2], 0, "status")
}

func TestListFilter(t *testing.T) {
	f := three()[0]
	socket := clitest.Serve(t, f)
	got := clitest.Run(t, App(), "", "list", "-s", socket, "--state", "committed", "--role", "transit", "--neighbor", "65002", "--sls", "gold",
		"--from", "10.1.0.0/16", "--to", "10.3.0.10", "--limit", "5")
	want := &api.ListReservationsRequest{
		State: api.ReservationState_RESERVATION_STATE_COMMITTED, Role: api.Role_ROLE_TRANSIT, NeighborAs: 65002, SlsId: "gold",
		Source: "10.1.0.0/16", Destination: "10.3.0.10", Limit: 5,
	}
	if got.Status != 0 || !proto.Equal(f.filter, want) {
		t.Errorf("got %+v, asked for %v", got, f.filter)
	}
}

func TestRelease(t *testing.T) {
	f := three()[0]
	socket := clitest.Serve(t, f)
	got := clitest.Run(t, App(), "", "release", "5f3", "-s", socket)
	if want := sid + " released everywhere, in 812 µs\n"; got.Status != 0 || got.Stdout != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	got = clitest.Run(t, App(), "", "release", "--timeout", "1s", sid, other, "-s", socket)
	want := sid + " released everywhere, in 812 µs\n" +
		other + " is released here; not everywhere: path truncated, next peer dead (transient failure, class 4 code 8, from 127.1.0.1)\n"
	if got.Status != 1 || got.Stdout != want || got.Stderr != "" {
		t.Errorf("got %+v, want %q", got, want)
	}
	if want := []string{sid, sid, other}; !slices.Equal(f.released, want) {
		t.Errorf("released %v, want %v", f.released, want)
	}
	got = clitest.Run(t, App(), "", "release", other, "-s", socket, "-o", "json")
	if got.Status != 1 || !strings.Contains(got.Stdout, `"accepted": false`) {
		t.Errorf("got %+v", got)
	}
}

func TestFailures(t *testing.T) {
	f := three()[0]
	f.reservations = append(f.reservations, &api.Reservation{SessionId: other})
	socket := clitest.Serve(t, f)
	for name, test := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"nothing said": {[]string{"reserve", "--to", "10.3.0.10"}, 2, "qnectl reserve needs --from, --class; e.g. qnectl reserve --from 10.1.0.10 --to 10.3.0.10 --rate 20M --class EF"},
		"rate":         {with(basic, "--rate", "20X"), 2, `--rate: "20X" is not a rate: "20X" is not a number; expected a whole or decimal number of bit/s with an optional k, M, G or T, e.g. 64k, 20M, 1.5G`},
		"burst":        {with(basic, "--burst", "x"), 2, `--burst: "x" is not a size: "x" is not a number; expected a whole or decimal number of octets with an optional k, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024), e.g. 1500, 64k, 128Ki`},
		"protocol":     {with(basic, "--protocol", "upd"), 2, `--protocol "upd": expected icmp, tcp, udp, dccp, esp, icmpv6, sctp, udplite, or a number from 0 (any) to 255`},
		"port":         {with(basic, "--port", "65536"), 2, "--port 65536: expected at most 65535"},
		"timeout":      {with(basic, "--timeout", "-1s"), 2, "--timeout -1s: expected a duration above zero, e.g. 5s"},
		"argument":     {with(basic, "now"), 2, `qnectl reserve: "now" is one argument too many; see qnectl reserve --help`},
		"address":      {with(basic, "--to", "10.3.0.300"), 1, `destination "10.3.0.300", expected an IPv4 or IPv6 address or prefix`},
		"session":      {[]string{"show", "xyz"}, 2, `session "xyz": expected up to 32 hexadecimal digits`},
		"no session":   {[]string{"show", "77"}, 1, "no reservation's session id begins with 77; see qnectl list"},
		"two sessions": {[]string{"show", "5f3"}, 1, "2 sessions begin with 5f3, e.g. " + sid + " and " + other + ": give more digits"},
		"not found":    {[]string{"show", "00000000000000000000000000000000"}, 1, "session 00000000000000000000000000000000: not found"},
		"state":        {[]string{"list", "--state", "happy"}, 2, `--state "happy": there is none; see qnectl list --help`},
		"no route":     {[]string{"routes", "192.0.2.1"}, 1, "no route to 192.0.2.1"},
		"which":        {[]string{"release"}, 2, "qnectl release: which session? See qnectl release --help"},
		"no daemon":    {[]string{"status", "-s", "unix:/nonexistent/s"}, 3, "cannot reach qned: there is no socket /nonexistent/s. Is qned running? Otherwise its socket is admin.listen in its configuration; name it with --socket unix:PATH or INTERQOS_SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			got := clitest.Run(t, App(), "", append([]string{"-s", socket}, test.args...)...)
			if got.Status != test.status || got.Stderr != "qnectl: "+test.want+"\n" || got.Stdout != "" {
				t.Errorf("got %+v\nwant %d, %s", got, test.status, test.want)
			}
		})
	}
}

func TestParseProtocol(t *testing.T) {
	for text, want := range map[string]uint32{"": 0, "any": 0, "0": 0, "UDP": 17, "tcp": 6, "47": 47, "255": 255} {
		if got, err := parseProtocol(text); err != nil || got != want {
			t.Errorf("parseProtocol(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}

// The shell completes session ids from the running qned.
func TestCompleteSessions(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"qnectl", "show", "--generate-bash-completion"}
	socket := clitest.Serve(t, three()[0])
	if got := clitest.Run(t, App(), "", "--socket", socket, "show", "--generate-bash-completion"); got.Stdout != sid+"\n" {
		t.Errorf("got %+v", got)
	}
	if got := clitest.Run(t, App(), "", "--socket", "unix:/nonexistent/s", "show", "--generate-bash-completion"); got.Stdout+got.Stderr != "" {
		t.Errorf("without a qned: %+v", got)
	}
	os.Args = []string{"qnectl", "release", "--t", "--generate-bash-completion"}
	if got := clitest.Run(t, App(), "", "release", "--t", "--generate-bash-completion"); !strings.Contains(got.Stdout, "--timeout") {
		t.Errorf("got %+v", got)
	}
}
