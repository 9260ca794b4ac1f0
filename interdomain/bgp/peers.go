package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// Peer is what a session with a neighbour is like now.
type Peer struct {
	AS      uint32
	Address netip.Addr
	// State is idle, connect, active, opensent, openconfirm or established.
	State string
	// Uptime is how long the session has been established; 0: it is not.
	Uptime time.Duration
	// Received and Advertised count prefixes.
	Received, Advertised uint64
}

// Established says that routes are exchanged.
func (p Peer) Established() bool { return p.State == "established" }

// Peers returns the neighbours by address; none if the speaker does not run. It
// goes through the whole table to count: not for a hot path.
func (s *Speaker) Peers() []Peer {
	srv, err := s.running()
	if err != nil {
		return nil
	}
	var out []Peer
	now := time.Now()
	err = srv.ListPeer(context.Background(), &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		peer := Peer{AS: p.GetConf().GetPeerAsn(), Address: addr, State: sessionState(p.GetState().GetSessionState())}
		for _, f := range p.GetAfiSafis() {
			peer.Received += f.GetState().GetReceived()
			peer.Advertised += f.GetState().GetAdvertised()
		}
		if up := p.GetTimers().GetState().GetUptime(); peer.Established() && up != nil {
			peer.Uptime = max(now.Sub(up.AsTime()), 1)
		}
		out = append(out, peer)
	})
	if err != nil {
		return nil // closed meanwhile
	}
	slices.SortFunc(out, func(a, b Peer) int { return a.Address.Compare(b.Address) })
	return out
}

func sessionState(s api.PeerState_SessionState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SESSION_STATE_"))
}

// peerUpdate logs sessions that come and go.
func (s *Speaker) peerUpdate(ev *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	if ev.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	st := ev.Peer.State
	switch {
	case st.SessionState == bgp.BGP_FSM_ESTABLISHED:
		s.log.Info("BGP session is up", "neighbor", st.NeighborAddress, "as", st.PeerASN)
	case st.SessionState == bgp.BGP_FSM_IDLE && st.DisconnectMessage != "":
		s.log.Warn("BGP session is down", "neighbor", st.NeighborAddress, "as", st.PeerASN, "reason", st.DisconnectMessage)
	}
}

func (c *Config) global() *api.Global {
	g := &api.Global{
		Asn:        c.AS,
		RouterId:   c.RouterID.String(),
		ListenPort: int32(c.ListenPort),
		Families:   []uint32{0, 1}, // indices in the OpenConfig list: IPv4 and IPv6 unicast
	}
	for _, a := range c.ListenAddresses {
		g.ListenAddresses = append(g.ListenAddresses, a.String())
	}
	return g
}

func (c *Config) peer(n Neighbor) *api.Peer {
	hold := uint64(cmp.Or(n.HoldTime, DefaultHoldTime) / time.Second)
	p := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: n.Remote.Addr().String(),
			PeerAsn:         n.AS,
			AuthPassword:    n.Password,
		},
		Transport: &api.Transport{
			LocalAddress: n.Local.String(),
			RemotePort:   uint32(cmp.Or(n.Remote.Port(), 179)),
			PassiveMode:  n.Passive,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           uint64(cmp.Or(c.ConnectRetry, DefaultConnectRetry) / time.Second),
			HoldTime:               hold,
			KeepaliveInterval:      max(hold/3, 1),
			IdleHoldTimeAfterReset: 1,
		}},
	}
	family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	if n.Remote.Addr().Is6() {
		family.Afi = api.Family_AFI_IP6
	}
	p.AfiSafis = []*api.AfiSafi{{Config: &api.AfiSafiConfig{Family: family, Enabled: true}}}
	// Between loopback addresses of one machine there is no link to be on.
	if n.AS != c.AS && n.Local.IsLoopback() {
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: 2}
	}
	return p
}

// requireNeighborFirst has routes refused whose AS path does not begin with the
// neighbour's own AS: the next AS is whom the next hop's certificate and SLS are
// looked for, so a neighbour must not name somebody else.
//
// RFC 4271 §6.3: the leftmost AS may be checked against the peer's.
func (s *Speaker) requireNeighborFirst(ctx context.Context) error {
	policy := &api.Policy{Name: "neighbor-first"}
	for i, n := range s.cfg.Neighbors {
		if n.AS == s.cfg.AS {
			continue
		}
		name := fmt.Sprintf("neighbor-%d", i)
		r := n.Remote.Addr()
		for _, set := range []*api.DefinedSet{
			{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: name, List: []string{netip.PrefixFrom(r, r.BitLen()).String()}},
			{DefinedType: api.DefinedType_DEFINED_TYPE_AS_PATH, Name: name + "-as", List: []string{fmt.Sprintf("^%d_", n.AS)}},
		} {
			if err := s.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
				return err
			}
		}
		policy.Statements = append(policy.Statements, &api.Statement{
			Name: name,
			Conditions: &api.Conditions{
				NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name},
				AsPathSet:   &api.MatchSet{Type: api.MatchSet_TYPE_INVERT, Name: name + "-as"},
			},
			Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT},
		})
	}
	if len(policy.Statements) == 0 {
		return nil
	}
	if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return err
	}
	return s.server.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name:          "global",
		Direction:     api.PolicyDirection_POLICY_DIRECTION_IMPORT,
		Policies:      []*api.Policy{{Name: policy.Name}},
		DefaultAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
	}})
}
