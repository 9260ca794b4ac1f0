package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/bng"
	fpctransport "github.com/interqos/interqos/fpc/transport"
	"github.com/interqos/interqos/internal/units"
	three "github.com/interqos/interqos/labs/01-three-networks"
	"github.com/interqos/interqos/labs/internal/run"
)

// start starts everything, waits until it can reserve, and shows it.
func (d *demo) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := d.lab.StartGateway(); err != nil {
		return err
	}
	if err := d.lab.StartNetworks(ctx); err != nil {
		return err
	}
	if err := d.showGateway(ctx); err != nil {
		return err
	}
	rows := [][]string{{"", ">qned", "QNE", "border edge", "neighbour", "BGP", "routes learned, by AS path"}}
	g := d.facts.Gateway
	for i, n := range d.lab.Nodes {
		f, err := network(ctx, n)
		if err != nil {
			return err
		}
		f.Role, f.PID = roles[i], d.lab.All()[i+1].PID()
		d.facts.Networks = append(d.facts.Networks, f)
		rows = append(rows, networkRows(&f)...)
	}
	d.page.table(rows...)
	for _, s := range g.Subscribers {
		d.page.line("gateway  bngfe %d, wire %s; subscriber %s: %s, %s", g.PID, g.Wire, s.Name, strings.Join(s.Prefixes, ", "), units.HumanRate(s.Rate))
	}
	if err := d.checkNetworks(); err != nil {
		return err
	}
	d.page.good("every network knows the way to every other, and has a certificate that names its AS")
	return nil
}

func (d *demo) showGateway(ctx context.Context) error {
	addr, err := fpctransport.ParseAddress("unix:"+filepath.Join(d.lab.Dir, "bngfe.sock"), false)
	if err != nil {
		return err
	}
	if d.gateway, err = fpctransport.Dial(addr); err != nil {
		return err
	}
	snap, err := d.gateway.List(ctx)
	if err != nil {
		return err
	}
	g := &Gateway{PID: d.lab.All()[0].PID(), DPN: snap.DPN, Wire: three.GatewayWire}
	subscribers, _, _ := bng.Read(snap)
	for _, s := range subscribers {
		one := Subscriber{Name: s.Name, Rate: units.Bits(s.QoS.PIR)}
		for _, p := range s.Prefixes {
			one.Prefixes = append(one.Prefixes, strings.TrimSuffix(p.String(), "/32"))
		}
		g.Subscribers = append(g.Subscribers, one)
	}
	d.facts.Gateway = g
	return nil
}

// network asks a node what it is.
func network(ctx context.Context, n *run.Node) (Network, error) {
	f := Network{AS: n.AS, Socket: n.Target}
	st, err := n.Admin.Status(ctx, &api.StatusRequest{})
	if err != nil {
		return f, err
	}
	f.QNE = st.RouterId
	for _, e := range st.Edges {
		f.Edges = append(f.Edges, Edge{Name: e.Name, External: e.External, NeighborAS: e.NeighborAs, Neighbor: e.NeighborAddress})
	}
	for _, p := range st.BgpPeers {
		f.BGP = append(f.BGP, Peer{AS: p.As, Address: p.Address, State: p.State})
	}
	routes, err := n.Admin.Routes(ctx, &api.RoutesRequest{})
	if err != nil {
		return f, err
	}
	for _, r := range routes.Routes {
		f.Routes = append(f.Routes, Route{Prefix: r.Prefix, ASPath: r.AsPath, NextHop: r.NextHop})
	}
	return f, nil
}

// networkRows is one row for each edge.
func networkRows(f *Network) [][]string {
	var rows [][]string
	for _, e := range f.Edges {
		row := []string{"", "", "", e.External, fmt.Sprintf("%s AS%d", e.Neighbor, e.NeighborAS), "", ""}
		if rows == nil {
			row[0], row[1], row[2] = fmt.Sprintf("AS%d", f.AS), fmt.Sprint(f.PID), f.QNE
		}
		for _, p := range f.BGP {
			if p.Address == e.Neighbor {
				row[5] = p.State
			}
		}
		var learned []string
		for _, r := range f.Routes {
			if r.NextHop == e.Neighbor {
				path := strings.Trim(fmt.Sprint(r.ASPath), "[]")
				learned = append(learned, r.Prefix+" by "+path)
			}
		}
		for i, text := range learned {
			if i > 0 {
				rows, row = append(rows, row), make([]string, len(row))
			}
			row[6] = text
		}
		rows = append(rows, row)
	}
	return rows
}

func (d *demo) checkNetworks() error {
	for _, f := range d.facts.Networks {
		for _, p := range f.BGP {
			if p.State != "established" {
				return &failure{what: fmt.Sprintf("AS%d's BGP session with AS%d", f.AS, p.AS), expected: "established", found: p.State}
			}
		}
		if learned := len(f.Routes) - 1; learned != len(three.ASs)-1 {
			return &failure{what: fmt.Sprintf("routes that AS%d has learned", f.AS), expected: fmt.Sprint(len(three.ASs) - 1), found: fmt.Sprint(learned)}
		}
	}
	for _, s := range d.facts.Gateway.Subscribers {
		if len(s.Prefixes) == 1 && s.Prefixes[0] == subscriber && s.Rate == accessRate {
			return nil
		}
	}
	return &failure{
		what: "the gateway's subscribers", expected: fmt.Sprintf("%s with %s", subscriber, units.HumanRate(accessRate)),
		found: fmt.Sprintf("%+v", d.facts.Gateway.Subscribers), logs: []string{"bngfe"},
	}
}

// load has slsctl load the SLSs, and shows what the transit network then has.
func (d *demo) load(ctx context.Context) error {
	for _, as := range three.ASs {
		args := []string{"-s", "unix:" + three.SocketName(as), "apply"}
		for _, name := range three.SLSFiles(as) {
			args = append(args, "-f", name)
		}
		if _, err := d.tell(ctx, 0, "slsctl", args...); err != nil {
			return err
		}
	}
	if _, err := d.tell(ctx, 0, "slsctl", "-s", "unix:"+three.SocketName(three.ASs[1]), "usage"); err != nil {
		return err
	}
	var err error
	if d.facts.SLSs, err = d.usage(ctx); err != nil {
		return err
	}
	for _, l := range d.facts.SLSs {
		if want := len(three.SLSFiles(l.AS)); len(l.Usage) < want {
			return &failure{what: fmt.Sprintf("SLSs of AS%d", l.AS), expected: fmt.Sprintf("%d with their classes", want), found: fmt.Sprintf("%+v", l.Usage)}
		}
		for _, u := range l.Usage {
			if u.Committed+u.Held != 0 || u.Reservations != 0 {
				return &failure{what: fmt.Sprintf("SLS %s in AS%d", u.SLS, l.AS), expected: "nothing in use", found: fmt.Sprintf("%+v", u)}
			}
		}
	}
	d.page.good("both parties of each SLS have it; nothing is in use")
	return nil
}

// usage asks every network how much of its SLSs is in use.
func (d *demo) usage(ctx context.Context) ([]Loaded, error) {
	var all []Loaded
	for _, as := range three.ASs {
		var answer struct{ Usage []Usage }
		if err := d.ask(ctx, &answer, "slsctl", "-s", "unix:"+three.SocketName(as), "usage"); err != nil {
			return nil, err
		}
		all = append(all, Loaded{AS: as, Usage: answer.Usage})
	}
	return all, nil
}
