package node

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/strictyaml"
)

// Config is qned's configuration, checked, with every default filled in and
// every path absolute or relative to the working directory.
type Config struct {
	// File is where it was read from.
	File string

	AS       uint32
	RouterID netip.Addr // IPv4
	// Insecure says that associations between domains may do without TLS.
	Insecure bool

	Log         LogConfig
	Admin       AdminConfig
	Metrics     MetricsConfig
	Store       StoreConfig
	GIST        GISTConfig
	NSLP        NSLPConfig
	BGP         BGPConfig
	Edges       []EdgeConfig
	Keys        []KeyConfig
	Auth        AuthConfig
	Path        interdomain.PathBounds // what this domain adds to a path, where no SLS says
	Intradomain []DriverConfig         // in the order in which they are asked
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  slog.Level
	Format string // "text" or "json"
}

// AdminConfig is where the admin API listens, and who may use it.
type AdminConfig struct {
	Listen Listen // a Unix socket; zero: none
	// Allow names who may use the socket besides root and the daemon's own
	// user.
	Allow  []AllowConfig
	Remote *RemoteConfig // nil: none
}

// Listen is an address to listen on: Network "unix" or "tcp"; the zero Listen
// is none.
type Listen struct{ Network, Address string }

func (l Listen) String() string {
	switch l.Network {
	case "":
		return ""
	case "unix":
		return "unix:" + l.Address
	}
	return l.Address
}

// AllowConfig gives a local user or group a role.
type AllowConfig struct {
	UID, GID *uint32 // one of the two
	Role     AdminRole
}

// RemoteConfig is the admin API over TCP, with TLS client certificates.
type RemoteConfig struct {
	Listen           Listen
	Certificate, Key string // PEM files
	ClientCA         string // PEM file
	Roles            []RemoteRole
}

// RemoteRole gives the subject common name of a client certificate a role.
type RemoteRole struct {
	CommonName string
	Role       AdminRole
}

// MetricsConfig is where /metrics, /healthz and /readyz are served.
type MetricsConfig struct{ Listen Listen }

// StoreConfig is the embedded store.
type StoreConfig struct{ Path string }

// GISTConfig is the GIST node. Zero numbers mean the machine's defaults, where
// nothing else is said.
type GISTConfig struct {
	Address   netip.Addr   // of this QNE, its NLI interface address
	Addresses []netip.Addr // its others: of other IP versions, or in other networks
	Port      uint16       // UDP; 270 if not said. One for all nodes, for the MRI has none
	TCPPort   uint16       // messaging associations, over TLS where there is any; the same as Port if not said
	PlainPort uint16       // those without TLS, where both are allowed
	TLS       *TLSConfig   // nil: none
	SCTP      bool         // where the kernel has it, as insecure as plain TCP; ports as those without TLS
	Shards    int          // 0: one per core

	RoutingStateValidity, AssociationHoldTime time.Duration

	Limits GISTLimits

	IngressFilter IngressFilter // of Queries that follow a flow

	Intercept *InterceptConfig // nil: Queries in transit pass
}

// GISTLimits bound what strangers can make this node keep or do.
type GISTLimits struct {
	RoutingStates    int     // at most
	Associations     int     // at most
	Pending          int     // handshakes at a time
	QueriesPerSecond float64 // mean rate relayed or answered per neighbour
	DModePerSecond   int     // mean rate of D-mode messages of our own, all shards together
}

// NSLPConfig is QoS-NSLP. Zero values mean the machine's defaults.
type NSLPConfig struct {
	RefreshPeriod          time.Duration
	RequestRetry, RetryMax time.Duration
	HoldTimeout            time.Duration
	MaxSessions            int
	Summary                int // sessions in one refresh at most; 1: each has its own
	// AckEvery has each so-manieth refresh acknowledged; 0: none.
	AckEvery int
	// PeerRequests and PeerAnswers are qosnslp.Limits of all shards together;
	// 0: the default.
	PeerRequests, PeerAnswers int
	// Proxy makes the node a P-QNE: what has the PROXY flag ends here.
	Proxy bool
}

// BGPConfig is the embedded BGP speaker.
type BGPConfig struct {
	ListenPort   int // -1: none; 179 if not said
	Originate    []netip.Prefix
	ConnectRetry time.Duration // 0: the speaker's default
}

// EdgeConfig is one border edge and the neighbour that it faces.
type EdgeConfig struct {
	Name               string
	Internal, External netip.Addr
	Neighbor           NeighborConfig
	Discovery          Discovery
	IngressFilter      IngressFilter
}

// NeighborConfig is the AS on the other side of an edge.
type NeighborConfig struct {
	AS      uint32
	Address netip.Addr // its border interface
	BGPPort uint16     // 179 if not said
	QNEs    []netip.Addr
	Names   []string // DNS names of which a certificate has to have one; none: any of the AS
}

// Discovery is how the next QNE is found (interdomain-qosm §3).
type Discovery string

// Ways of discovery.
const (
	DiscoveryRelay      Discovery = "relay"      // through both edges
	DiscoveryConfigured Discovery = "configured" // straight to the neighbour's first QNE
)

// KeyConfig is a key shared with a neighbour, for SESSION_AUTH.
type KeyConfig struct {
	ID     uint32
	AS     uint32
	Name   string
	Secret Secret
	// From and Until are its lifetime; zero: no bound.
	From, Until time.Time
}

// Secret is the octets of a key. It does not print.
type Secret []byte

func (Secret) String() string { return "[secret]" }

// GoString keeps the secret out of %#v.
func (Secret) GoString() string { return "[secret]" }

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText keeps the secret out of JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// DriverConfig is one intra-domain driver; Node is its own part of the file,
// for its own decoder, and Path is its key path for error messages.
type DriverConfig struct {
	Name string // "pathdb", "bng"
	Path string // "intradomain[0].pathdb"
	Node *yaml.Node
}

// AdminRole is what a caller of the admin API may do.
type AdminRole uint8

// Roles. Operate includes read.
const (
	RoleNone AdminRole = iota
	RoleRead
	RoleOperate
)

func (r AdminRole) String() string {
	switch r {
	case RoleRead:
		return "read"
	case RoleOperate:
		return "operate"
	}
	return "none"
}

// ConfigError is one thing that is wrong in a configuration.
type ConfigError = strictyaml.Error

// ConfigErrors is everything that is wrong in a configuration, in the order of
// the file.
type ConfigErrors = strictyaml.Errors

// Load reads a configuration file. What is wrong with its content is a
// ConfigErrors with everything that is wrong.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	p := newParser(path)
	p.parse(b)
	p.readSecrets()
	p.liveKeys(time.Now())
	p.readTLS()
	p.readAuth()
	return p.finish()
}

// Parse reads a configuration from memory; name is the file's name, for error
// messages, and its folder is where relative paths start. It opens no file: the
// Secret of a key with a secret_file stays empty, and so do the certificates.
func Parse(name string, b []byte) (*Config, error) {
	p := newParser(name)
	p.parse(b)
	return p.finish()
}

func (p *configParser) finish() (*Config, error) {
	if err := p.r.Err(); err != nil {
		return nil, err
	}
	return p.c, nil
}

// resolve makes a relative path of the file relative to the file's folder.
func (c *Config) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(c.File), path)
}

// all are the addresses of this QNE, the first one first.
func (g *GISTConfig) all() []netip.Addr { return append([]netip.Addr{g.Address}, g.Addresses...) }

// at are all addresses, with a port.
func (g *GISTConfig) at(port uint16) (all []netip.AddrPort) {
	for _, a := range g.all() {
		all = append(all, netip.AddrPortFrom(a, port))
	}
	return all
}

// like is this QNE's address for who has a: the first one of a's IP version. If
// there is none, the first.
func (g *GISTConfig) like(a netip.Addr) netip.Addr {
	for _, own := range g.all() {
		if own.Is4() == a.Is4() {
			return own
		}
	}
	return g.Address
}
