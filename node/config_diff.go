package node

import (
	"bytes"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Changes is what differs between two configurations, as key paths.
type Changes struct {
	Live    []string // can be brought into force while the node runs
	Restart []string // waits for a restart
}

// Empty says that nothing differs.
func (c Changes) Empty() bool { return len(c.Live) == 0 && len(c.Restart) == 0 }

func (c *Changes) live(path string, differs bool) {
	if differs {
		c.Live = append(c.Live, path)
	}
}

func (c *Changes) restart(path string, differs bool) {
	if differs {
		c.Restart = append(c.Restart, path)
	}
}

// Live returns the running configuration with everything of the next one that
// can be brought into force without a restart: afterwards Diff names nothing
// live.
func Live(running, next *Config) *Config {
	c := *running
	c.Log.Level = next.Log.Level
	c.Admin.Allow = next.Admin.Allow
	if a, b := running.Admin.Remote, next.Admin.Remote; sameRemote(a, b) && a != nil {
		remote := *a
		remote.Roles = b.Roles
		c.Admin.Remote = &remote
	}
	c.BGP.Originate = next.BGP.Originate
	c.Keys = next.Keys
	c.Auth = next.Auth
	if running.GIST.TLS != nil && next.GIST.TLS != nil {
		c.GIST.TLS = next.GIST.TLS
	}
	c.Edges = slices.Clone(running.Edges)
	for i, a := range c.Edges {
		for _, b := range next.Edges {
			if sameEdge(a, b) {
				c.Edges[i].Neighbor.QNEs, c.Edges[i].Neighbor.Names = b.Neighbor.QNEs, b.Neighbor.Names
			}
		}
	}
	return &c
}

// sameEdge says that two edges differ at most in the neighbour's QNEs and names.
func sameEdge(a, b EdgeConfig) bool {
	return a.Name == b.Name && a.Internal == b.Internal && a.External == b.External && a.Discovery == b.Discovery && a.IngressFilter == b.IngressFilter &&
		a.Neighbor.AS == b.Neighbor.AS && a.Neighbor.Address == b.Neighbor.Address && a.Neighbor.BGPPort == b.Neighbor.BGPPort
}

// sameRemote says that two differ at most in the roles.
func sameRemote(a, b *RemoteConfig) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Listen == b.Listen && a.Certificate == b.Certificate && a.Key == b.Key && a.ClientCA == b.ClientCA
}

// Diff says what differs between the running configuration and a new one, and
// what of it can be brought into force without loss of state.
func Diff(running, next *Config) Changes {
	var c Changes
	c.restart("as", running.AS != next.AS)
	c.restart("router_id", running.RouterID != next.RouterID)
	c.restart("insecure", running.Insecure != next.Insecure)
	c.live("log.level", running.Log.Level != next.Log.Level)
	c.restart("log.format", running.Log.Format != next.Log.Format)
	c.admin(running.Admin, next.Admin)
	c.restart("metrics.listen", running.Metrics != next.Metrics)
	c.restart("store.path", running.Store != next.Store)
	c.gist(running.GIST, next.GIST)
	c.restart("nslp", running.NSLP != next.NSLP)
	c.restart("path", running.Path != next.Path)
	c.restart("bgp.listen_port", running.BGP.ListenPort != next.BGP.ListenPort)
	c.live("bgp.originate", !sameSet(running.BGP.Originate, next.BGP.Originate))
	c.restart("bgp.connect_retry", running.BGP.ConnectRetry != next.BGP.ConnectRetry)
	c.edges(running.Edges, next.Edges)
	c.live("keys", !slices.EqualFunc(running.Keys, next.Keys, func(a, b KeyConfig) bool {
		return a.ID == b.ID && a.AS == b.AS && a.Name == b.Name && bytes.Equal(a.Secret, b.Secret) && a.From.Equal(b.From) && a.Until.Equal(b.Until)
	}))
	c.live("auth.records", !running.Auth.Records.same(&next.Auth.Records))
	c.restart("intradomain", !slices.EqualFunc(running.Intradomain, next.Intradomain, func(a, b DriverConfig) bool {
		return a.Name == b.Name && sameNode(a.Node, b.Node)
	}))
	return c
}

func (c *Changes) admin(a, b AdminConfig) {
	c.restart("admin.listen", a.Listen != b.Listen)
	c.live("admin.allow", !slices.EqualFunc(a.Allow, b.Allow, func(a, b AllowConfig) bool {
		return samePointer(a.UID, b.UID) && samePointer(a.GID, b.GID) && a.Role == b.Role
	}))
	c.restart("admin.remote", !sameRemote(a.Remote, b.Remote))
	c.live("admin.remote.roles", sameRemote(a.Remote, b.Remote) && a.Remote != nil && !slices.Equal(a.Remote.Roles, b.Remote.Roles))
}

func (c *Changes) gist(a, b GISTConfig) {
	c.restart("gist.address", a.Address != b.Address)
	c.restart("gist.addresses", !slices.Equal(a.Addresses, b.Addresses))
	c.restart("gist.port", a.Port != b.Port)
	c.restart("gist.tcp_port", a.TCPPort != b.TCPPort)
	c.restart("gist.plain_port", a.PlainPort != b.PlainPort)
	c.restart("gist.sctp", a.SCTP != b.SCTP)
	if (a.TLS == nil) != (b.TLS == nil) {
		c.restart("gist.tls", true)
	} else {
		c.live("gist.tls", !a.TLS.same(b.TLS))
	}
	c.restart("gist.shards", a.Shards != b.Shards)
	c.restart("gist.routing_state_validity", a.RoutingStateValidity != b.RoutingStateValidity)
	c.restart("gist.association_hold_time", a.AssociationHoldTime != b.AssociationHoldTime)
	c.restart("gist.limits", a.Limits != b.Limits)
	c.restart("gist.ingress_filter", a.IngressFilter != b.IngressFilter)
	c.restart("gist.intercept", !samePointer(a.Intercept, b.Intercept))
}

// edges compares by name: an edge that comes, goes or moves needs a restart,
// for its sockets and its BGP session do.
func (c *Changes) edges(running, next []EdgeConfig) {
	byName := make(map[string]EdgeConfig, len(next))
	for _, e := range next {
		byName[e.Name] = e
	}
	for _, a := range running {
		path := "edges." + a.Name
		b, there := byName[a.Name]
		delete(byName, a.Name)
		if !there {
			c.restart(path, true)
			continue
		}
		if sameEdge(a, b) {
			c.live(path+".neighbor.qnes", !slices.Equal(a.Neighbor.QNEs, b.Neighbor.QNEs))
			c.live(path+".neighbor.names", !slices.Equal(a.Neighbor.Names, b.Neighbor.Names))
		} else {
			c.restart(path, true)
		}
	}
	for _, b := range next {
		if _, added := byName[b.Name]; added {
			c.restart("edges."+b.Name, true)
		}
	}
}

func samePointer[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameSet[T fmt.Stringer](a, b []T) bool {
	text := func(list []T) []string {
		out := make([]string, len(list))
		for i, one := range list {
			out[i] = one.String()
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(text(a), text(b))
}

// sameNode compares two parts of a file by content: not by place, style or
// comments.
func sameNode(a, b *yaml.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Kind == b.Kind && a.Value == b.Value && a.ShortTag() == b.ShortTag() &&
		slices.EqualFunc(a.Content, b.Content, sameNode)
}
