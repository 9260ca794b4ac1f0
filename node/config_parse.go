package node

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/strictyaml"
	"github.com/interqos/interqos/qosnslp"
)

// Drivers that the intradomain list may name.
var driverNames = []string{"pathdb", "bng"}

const (
	maxSocketPath = 107 // octets, sun_path of Linux without the final zero
)

// parser turns the file into a Config.
type configParser struct {
	r strictyaml.Reader
	c *Config
	// What is checked when all is read, or only by Load.
	edges       []strictyaml.Object
	qnes        []strictyaml.Value // beside edges
	tlsPart     strictyaml.Object
	recordsPart strictyaml.Object
	badInsecure bool                     // nobody knows what it should say
	secretFiles map[int]strictyaml.Value // index in c.Keys → path
	keyParts    []strictyaml.Object      // beside c.Keys
}

func newParser(name string) *configParser {
	return &configParser{r: strictyaml.Reader{File: name}, c: &Config{File: name}, secretFiles: make(map[int]strictyaml.Value)}
}

// parse fills p.c from the file's content.
func (p *configParser) parse(b []byte) {
	o := p.r.Document(b, "the configuration of a qned").Object("the configuration of a qned, a mapping",
		"as", "router_id", "insecure", "log", "admin", "metrics", "store", "gist", "nslp", "bgp", "edges", "keys", "auth", "path", "intradomain")
	if !o.IsMapping() {
		return
	}
	p.c.AS = o.Need("as").AS("")
	p.c.RouterID = p.routerID(o.Get("router_id"))
	before := p.r.Count()
	p.c.Insecure = o.Get("insecure").Bool(false)
	p.badInsecure = p.r.Count() > before
	p.log(o.Get("log"))
	p.admin(o.Need("admin"))
	p.metrics(o.Get("metrics"))
	p.store(o.Need("store"))
	p.gist(o.Need("gist"))
	p.nslp(o.Get("nslp"))
	p.bgp(o.Get("bgp"))
	p.keys(o.Get("keys"))
	p.auth(o.Get("auth"))
	p.edgeList(o.Get("edges"))
	p.path(o.Get("path"))
	p.drivers(o.Get("intradomain"))
	p.together()
}

func (p *configParser) routerID(v strictyaml.Value) netip.Addr {
	const expected = "the BGP identifier, an IPv4 address"
	a := v.Required(expected).Address("the BGP identifier")
	if a.IsValid() && !a.Is4() {
		v.Bad(expected, "")
		return netip.Addr{}
	}
	return a
}

func (p *configParser) log(v strictyaml.Value) {
	o := v.Object("a mapping with level and format", "level", "format")
	level := o.Get("level").Word("info", "debug", "info", "warn", "error")
	p.c.Log.Level = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[level]
	p.c.Log.Format = o.Get("format").Word("text", "text", "json")
}

func (p *configParser) admin(v strictyaml.Value) {
	o := v.Object("a mapping with listen (unix:/path), and optionally allow and remote", "listen", "allow", "remote")
	if !o.Get("remote").There() {
		o.Get("listen").Required("a Unix socket such as unix:qned.sock, or admin.remote")
	}
	p.c.Admin.Listen = p.unix(o.Get("listen"), "for the API over TCP see admin.remote")
	const allow = "a list of {uid: N or gid: N, role: read or operate}"
	for _, item := range o.Get("allow").List(allow) {
		p.allow(item.Object(allow, "uid", "gid", "role"))
	}
	if remote := o.Get("remote"); remote.There() {
		p.remote(remote)
	}
}

// unix reads unix:/path or unix:path, relative to the file's folder.
func (p *configParser) unix(v strictyaml.Value, otherwise string) Listen {
	const expected = "a Unix socket, unix:/path"
	text, ok := v.Scalar(expected)
	if !ok {
		return Listen{}
	}
	path, ok := strings.CutPrefix(text, "unix:")
	if !ok || path == "" || strings.ContainsRune(path, 0) {
		v.Bad(expected, otherwise)
		return Listen{}
	}
	path = p.c.resolve(path)
	if len(path) > maxSocketPath {
		v.Wrong(fmt.Sprintf("a socket path of %d octets", len(path)), fmt.Sprintf("at most %d", maxSocketPath), "in full it is "+strictyaml.Clip(path))
		return Listen{}
	}
	return Listen{Network: "unix", Address: path}
}

func (p *configParser) allow(o strictyaml.Object) {
	a := AllowConfig{Role: p.role(o.Need("role"))}
	uid, gid := o.Get("uid"), o.Get("gid")
	if uid.There() == gid.There() && o.IsMapping() {
		found := "neither uid nor gid"
		if uid.There() {
			found = "both uid and gid"
		}
		o.Wrong(found, "one of the two", "")
	}
	if uid.There() {
		n := uint32(uid.Number("a user id", 0, math.MaxUint32-1, 0))
		a.UID = &n
	}
	if gid.There() {
		n := uint32(gid.Number("a group id", 0, math.MaxUint32-1, 0))
		a.GID = &n
	}
	p.c.Admin.Allow = append(p.c.Admin.Allow, a)
}

func (p *configParser) role(v strictyaml.Value) AdminRole {
	switch v.Word("", "read", "operate") {
	case "read":
		return RoleRead
	case "operate":
		return RoleOperate
	}
	return RoleNone
}

func (p *configParser) remote(v strictyaml.Value) {
	o := v.Object("a mapping with listen, cert, key, client_ca and roles", "listen", "cert", "key", "client_ca", "roles")
	r := &RemoteConfig{
		Listen:      hostPort(o.Need("listen"), "an address to listen on"),
		Certificate: p.file(o.Need("cert"), "the server's certificate, a PEM file"),
		Key:         p.file(o.Need("key"), "the certificate's key, a PEM file"),
		ClientCA:    p.file(o.Need("client_ca"), "the clients' certificate authority, a PEM file"),
	}
	const roles = "a list of {cn: NAME, role: read or operate}"
	seen := make(map[string]bool)
	for _, item := range o.Need("roles").List(roles) {
		i := item.Object(roles, "cn", "role")
		name := i.Need("cn")
		const cn = "the common name of a client certificate"
		text, ok := name.Scalar(cn)
		if ok && (text == "" || seen[text]) {
			name.Bad(cn+", each once", "")
		}
		seen[text] = true
		r.Roles = append(r.Roles, RemoteRole{CommonName: text, Role: p.role(i.Need("role"))})
	}
	p.c.Admin.Remote = r
}

// hostPort reads host:port to listen on.
func hostPort(v strictyaml.Value, what string) Listen {
	expected := what + ", host:port, e.g. 127.0.0.1:9400"
	text, ok := v.Scalar(expected)
	if !ok {
		return Listen{}
	}
	_, port, err := net.SplitHostPort(text)
	if _, err2 := strconv.ParseUint(port, 10, 16); err != nil || err2 != nil {
		v.Bad(expected, "")
		return Listen{}
	}
	return Listen{Network: "tcp", Address: text}
}

// file reads the name of a file that has to be said.
func (p *configParser) file(v strictyaml.Value, expected string) string {
	text, ok := v.Scalar(expected)
	if !ok {
		return ""
	}
	if text == "" || strings.ContainsRune(text, 0) {
		v.Bad(expected, "")
		return ""
	}
	return p.c.resolve(text)
}

func (p *configParser) metrics(v strictyaml.Value) {
	o := v.Object("a mapping with listen", "listen")
	p.c.Metrics.Listen = hostPort(o.Get("listen"), "where /metrics, /healthz and /readyz are served")
}

func (p *configParser) store(v strictyaml.Value) {
	o := v.Object("a mapping with path", "path")
	p.c.Store.Path = p.file(o.Need("path"), "the store's file")
}

func (p *configParser) gist(v strictyaml.Value) {
	o := v.Object("a mapping with at least address", "address", "addresses", "port", "tcp_port", "plain_port", "tls", "sctp", "shards",
		"routing_state_validity", "association_hold_time", "limits", "ingress_filter", "intercept")
	g := &p.c.GIST
	g.Address = o.Need("address").Address("this QNE's own address")
	p.addresses(o.Get("addresses"))
	g.Port = uint16(o.Get("port").Number("a UDP port", 1, math.MaxUint16, 270))
	g.TCPPort = uint16(o.Get("tcp_port").Number("a TCP port", 1, math.MaxUint16, int64(g.Port)))
	g.Shards = int(o.Get("shards").Number("the number of shards, 0 for one per core", 0, 256, 0))
	g.RoutingStateValidity = o.Get("routing_state_validity").Duration("how long routing state stays valid", time.Second, 24*time.Hour, 0)
	g.AssociationHoldTime = o.Get("association_hold_time").Duration("how long an idle messaging association is kept", time.Second, 24*time.Hour, 0)
	l := o.Get("limits").Object("a mapping of limits", "routing_states", "associations", "pending", "queries_per_second", "dmode_per_second")
	g.Limits = GISTLimits{
		RoutingStates:    int(l.Get("routing_states").Number("how many routing states at most", 1, 1e9, 0)),
		Associations:     int(l.Get("associations").Number("how many messaging associations at most", 1, 1e6, 0)),
		Pending:          int(l.Get("pending").Number("how many handshakes at a time", 1, 1e9, 0)),
		QueriesPerSecond: l.Get("queries_per_second").Decimal("the mean rate of Queries per neighbour", 0),
		DModePerSecond:   int(l.Get("dmode_per_second").Number("the mean rate of D-mode messages", 100, 1e7, 100_000)),
	}
	g.IngressFilter = ingressFilter(o.Get("ingress_filter"), IngressStrict)
	g.Intercept = p.intercept(o.Get("intercept"))
	p.tls(o.Get("tls"))
	g.SCTP = o.Get("sctp").Bool(false)
	p.stacks(o)
}

// addresses reads gist.addresses.
func (p *configParser) addresses(v strictyaml.Value) {
	g := &p.c.GIST
	for _, item := range v.List("a list of this QNE's other addresses") {
		switch a := item.Address("another address of this QNE"); {
		case !a.IsValid():
		case slices.Contains(g.all(), a):
			item.Bad("each of this QNE's addresses once", "gist.address is one of them")
		default:
			g.Addresses = append(g.Addresses, a)
		}
	}
}

func (p *configParser) nslp(v strictyaml.Value) {
	o := v.Object("a mapping", "refresh_period", "request_retry", "retry_max", "hold_timeout", "max_sessions", "summary", "acknowledge_every", "peer_requests", "peer_answers", "proxy")
	n := &p.c.NSLP
	n.RefreshPeriod = o.Get("refresh_period").Duration("the refresh period R", 100*time.Millisecond, 24*time.Hour, 0)
	n.RequestRetry = o.Get("request_retry").Duration("QOSNSLP_REQUEST_RETRY", 10*time.Millisecond, time.Hour, 0)
	n.RetryMax = o.Get("retry_max").Duration("QOSNSLP_RETRY_MAX", 10*time.Millisecond, time.Hour, 0)
	if n.RetryMax != 0 && n.RequestRetry > n.RetryMax {
		o.Get("retry_max").Bad("at least request_retry, "+n.RequestRetry.String(), "")
	}
	n.HoldTimeout = o.Get("hold_timeout").Duration("how long a hold lasts without an answer", time.Second, time.Hour, 0)
	n.MaxSessions = int(o.Get("max_sessions").Number("how many sessions at most", 1, 1e9, 0))
	n.AckEvery = int(o.Get("acknowledge_every").Number("how many refreshes for one that is acknowledged; 0: none", 0, 255, 0))
	n.PeerRequests = int(o.Get("peer_requests").Number("messages a second of one neighbour that make this node send others", 1, 1e9, 0))
	n.PeerAnswers = int(o.Get("peer_answers").Number("error answers a second to one neighbour", 1, 1e9, 0))
	n.Proxy = o.Get("proxy").Bool(false)
	n.Summary = int(o.Get("summary").Number("how many sessions one summary refresh names", 1, qosnslp.MaxSummary, 0))
}

// path is what the domain says of itself (RFC 5975 §5.2.3 to §5.2.6): no more than one
// node may add.
func (p *configParser) path(v strictyaml.Value) {
	const most = (1 << 28) * time.Microsecond
	o := v.Object("a mapping with latency, jitter, loss and errors", "latency", "jitter", "loss", "errors")
	p.c.Path.Latency = o.Get("latency").Duration("the mean delay across this domain", 0, most, 0)
	p.c.Path.Jitter = o.Get("jitter").Duration("the 99.9 % quantile of the delay above the least", 0, most, 0)
	for _, ratio := range []struct {
		key, what string
		to        *float64
	}{{"loss", "the share of packets that are lost", &p.c.Path.Loss}, {"errors", "the share of packets that are damaged", &p.c.Path.Errors}} {
		if *ratio.to = o.Get(ratio.key).Ratio(ratio.what, 0); *ratio.to > 0.01 {
			o.Get(ratio.key).Bad("at most 0.01, what one node may add (RFC 5975 §5.2.5)", "")
		}
	}
}

func (p *configParser) bgp(v strictyaml.Value) {
	o := v.Object("a mapping", "listen_port", "originate", "connect_retry")
	port := o.Get("listen_port")
	p.c.BGP.ListenPort = int(port.Number("a TCP port, or -1 for no listener", -1, math.MaxUint16, 179))
	if p.c.BGP.ListenPort == 0 {
		port.Bad("a TCP port from 1, or -1 for no listener", "")
	}
	seen := make(map[netip.Prefix]bool)
	for _, item := range o.Get("originate").List("a list of prefixes") {
		prefix := item.Prefix("a prefix of this AS")
		if prefix.IsValid() && seen[prefix] {
			item.Bad("each prefix once", "")
			continue
		}
		seen[prefix] = true
		p.c.BGP.Originate = append(p.c.BGP.Originate, prefix)
	}
	retry := o.Get("connect_retry")
	p.c.BGP.ConnectRetry = retry.Duration("how long to wait before connecting again", time.Second, time.Hour, 0)
	if p.c.BGP.ConnectRetry%time.Second != 0 {
		retry.Wrong(p.c.BGP.ConnectRetry.String(), "whole seconds", "")
	}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// name reads a name that people type.
func (p *configParser) name(v strictyaml.Value, what string) string {
	expected := what + ", letters, digits, '.', '_' and '-', at most 64"
	text, ok := v.Scalar(expected)
	if ok && !nameForm.MatchString(text) {
		v.Bad(expected, "")
		return ""
	}
	return text
}

func (p *configParser) edgeList(v strictyaml.Value) {
	for _, item := range v.List("a list of edges") {
		o := item.Object("an edge, a mapping", "name", "internal", "external", "neighbor", "discovery", "ingress_filter")
		if o.IsMapping() {
			p.edge(o)
		}
	}
}

func (p *configParser) edge(o strictyaml.Object) {
	e := EdgeConfig{
		Name:      p.name(o.Need("name"), "the edge's name"),
		Internal:  o.Need("internal").Address("the address where our QNE reaches the edge"),
		External:  o.Need("external").Address("the address that faces the neighbour"),
		Discovery: Discovery(o.Get("discovery").Word(string(DiscoveryRelay), string(DiscoveryRelay), string(DiscoveryConfigured))),

		IngressFilter: ingressFilter(o.Get("ingress_filter"), IngressLoose),
	}
	n := o.Need("neighbor").Object("a mapping with as, address and qnes", "as", "address", "bgp_port", "qnes", "names")
	e.Neighbor.AS = n.Need("as").AS("")
	e.Neighbor.Address = n.Need("address").Address("the neighbour's border interface")
	e.Neighbor.BGPPort = uint16(n.Get("bgp_port").Number("the neighbour's BGP port", 1, math.MaxUint16, 179))
	list := n.Need("qnes")
	items := list.List("a list of the addresses of the neighbour's QNEs")
	if list.IsList() && len(items) == 0 {
		list.Wrong("an empty list", "at least one address", "")
	}
	for _, item := range items {
		if a := item.Address("a QNE of the neighbour"); a.IsValid() {
			e.Neighbor.QNEs = append(e.Neighbor.QNEs, a)
		}
	}
	e.Neighbor.Names = p.names(n.Get("names"))
	p.c.Edges = append(p.c.Edges, e)
	p.edges, p.qnes = append(p.edges, o), append(p.qnes, list)
}

func ingressFilter(v strictyaml.Value, otherwise IngressFilter) IngressFilter {
	return IngressFilter(v.Word(string(otherwise), string(IngressStrict), string(IngressLoose), string(IngressOff)))
}

func (p *configParser) drivers(v strictyaml.Value) {
	one := "a mapping with one key, the driver's name: one of " + strings.Join(driverNames, ", ")
	for _, item := range v.List("a list of drivers, each {" + strings.Join(driverNames, ": …} or {") + ": …}") {
		o := item.Object(one, driverNames...)
		if o.IsMapping() && len(o.Entries(one)) != 1 {
			o.Bad(one, "")
			continue
		}
		for _, name := range driverNames {
			driver := o.Get(name)
			driver.Entries("the driver's configuration, a mapping")
			if driver.IsMapping() {
				p.c.Intradomain = append(p.c.Intradomain, DriverConfig{Name: name, Path: driver.Path(), Node: driver.Node()})
			}
		}
	}
}

// reachable checks that this QNE has addresses that its edge and the neighbour's
// QNEs can answer to.
func (p *configParser) reachable(i int, e *EdgeConfig) {
	g := &p.c.GIST
	if !g.Address.IsValid() {
		return
	}
	if e.Internal.IsValid() && g.like(e.Internal).Is4() != e.Internal.Is4() {
		p.edges[i].Get("internal").Bad("an address of an IP version that this QNE has", "see gist.addresses")
	}
	for _, q := range e.Neighbor.QNEs {
		switch {
		case q.Is4() != e.Neighbor.QNEs[0].Is4():
			p.qnes[i].Wrong(fmt.Sprintf("%v and %v", e.Neighbor.QNEs[0], q), "addresses of one IP version", "the one in which this QNE is to be their peer")
			return
		case g.like(q).Is4() != q.Is4():
			p.qnes[i].Wrong(q.String(), "an address of an IP version that this QNE has", "see gist.addresses")
			return
		}
	}
}

// together checks what depends on more than one part of the file.
func (p *configParser) together() {
	keys := make(map[uint32]bool)
	for _, k := range p.c.Keys {
		keys[k.AS] = true
	}
	names, neighbors := make(map[string]int), make(map[netip.Addr]int)
	for i, e := range p.c.Edges {
		o := p.edges[i]
		neighbor := o.Get("neighbor")
		line := o.Line()
		if first, again := names[e.Name]; again && e.Name != "" {
			o.Get("name").Bad("a name of its own", fmt.Sprintf("the edge in line %d has it too", first))
		} else if e.Name == "qne" {
			o.Get("name").Bad("another name", "qne is what the QNE itself is called")
		}
		names[e.Name] = line
		if first, again := neighbors[e.Neighbor.Address]; again && e.Neighbor.Address.IsValid() {
			neighbor.Wrong("address "+e.Neighbor.Address.String(), "a neighbour of its own", fmt.Sprintf("the edge in line %d has it too", first))
		}
		neighbors[e.Neighbor.Address] = line
		if e.External.IsValid() && e.Neighbor.Address.IsValid() && e.External.Is4() != e.Neighbor.Address.Is4() {
			o.Get("external").Bad("an address of the same IP version as the neighbour's, "+e.Neighbor.Address.String(), "")
		}
		p.reachable(i, &e)
		if e.Internal.IsValid() && (slices.Contains(p.c.GIST.all(), e.Internal) || e.Internal == e.External) {
			o.Get("internal").Bad("an address of the edge's own", "the QNE, or the edge's external side, has it too")
		}
		if e.External.IsValid() && e.External == e.Neighbor.Address {
			o.Get("external").Bad("an address of our own", "it is the neighbour's too")
		}
		switch as := e.Neighbor.AS; {
		case as == 0:
		case as == p.c.AS:
			neighbor.Wrong(fmt.Sprintf("as %d", as), "another AS than our own", "")
		case !keys[as]:
			neighbor.Wrong(fmt.Sprintf("no key for AS %d", as), "one in keys", "every message between domains is signed")
		}
	}
}
