package gist

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// DefaultPort is GIST's UDP port (RFC 5971 §9).
const DefaultPort = 270

// DefaultHopCount is the GIST hop count of messages whose sender does not say.
const DefaultHopCount = 64

// Defaults of Config.
const (
	DefaultT1                  = 500 * time.Millisecond // RFC 5971 §5.3.3
	DefaultValidityPathCoupled = 30 * time.Second       // RFC 5971 §4.4.4
	DefaultValidityOffPath     = 600 * time.Second
	DefaultMAHoldTime          = 30 * time.Second // RFC 5971 §4.4.5
	DefaultMessageTimeout      = 30 * time.Second
	DefaultInactivity          = 30 * time.Minute
)

// QueryRoute says how a Query for some MRI is to be sent.
type QueryRoute struct {
	// Local is our address: in the NLI, and the source if S=1. Zero: Config.Address
	// or, along the flow's path, one of the flow's IP version.
	Local netip.Addr
	// To is where it goes; zero, with the Path-Coupled and the Loose-End MRM: to
	// the flow's far end. Downstream it can be nothing else (RFC 5971 §5.8.1.2).
	To          netip.AddrPort
	TTL         uint8 // IP TTL, 0: the system's default
	RouterAlert bool
	// Direct says that To is a configured peer QNE and not a relaying edge or
	// the flow's far end.
	Direct bool
	// SignallingSource says that Queries leave with our address as their source
	// also where Config.FlowSource is set: a NAT is known to be on the way.
	SignallingSource bool
	// Path is how packets of the flow leave this node now. Where it is set, a
	// RouteChanged after which it is another one means a route change.
	Path Path
	// AllowedPeers are the NLI addresses accepted in the Response; empty: any.
	AllowedPeers []netip.Addr
}

// ServedEdge is a border edge of our own domain whose relayed Queries a
// responder takes.
type ServedEdge struct {
	Internal   netip.Addr   // the address that it relays from
	External   netip.Addr   // its border interface; zero: not checked against the MRI
	NeighborAS uint32       // the AS that it faces
	PeerQNEs   []netip.Addr // NLI addresses accepted behind it
}

// PeerOffer is a would-be peer that AcceptPeer judges: the Routing-State-Check
// of RFC 5971 §B.2.
type PeerOffer struct {
	NSLPID wire.NSLPID
	SID    wire.SID
	MRI    wire.MRI
	Peer   netip.Addr // NLI address
	PeerID string     // NLI identity, raw octets
	Via    netip.Addr // our edge that relayed the Query; zero: none
	// Data is the Query's NSLP payload, not validated by anything, valid
	// during the call only; nil if it had none, and at the Confirm.
	Data []byte
}

// PeerAnswer is the application's answer to a PeerOffer.
type PeerAnswer struct {
	Accept bool
	// Payload, where it is set, is NSLP data for the Response, which is not
	// protected, if it fits; or, for an intercepted Query that is not accepted,
	// in the place of what it brought (RFC 5971 §4.3.2). Not with the Confirm.
	Payload []byte
}

// Limits bound what a Machine keeps and sends. Zero fields mean the defaults.
type Limits struct {
	RoutingStates       int // 1,000,000
	RoutingPerSession   int // entries under one SID: 64
	Associations        int // 4,096
	PendingAssociations int // accepted connections that have not confirmed yet: 256
	PendingHandshakes   int // Queries without a Response yet: 65,536
	Peers               int // 16,384
	PeersPerAddress     int // identities in use at one address: 64
	AcceptedPerPeer     int // associations that one peer has opened: 8
	QueuedBytes         int // messages that wait, whole machine: 16 MiB
	QueuedPerSession    int // and of one routing state: 256 KiB

	// DModeRate is the mean rate of D-mode messages that this node
	// generates, per second (RFC 5971 §5.3.3): 100,000; burst 10,000.
	DModeRate, DModeBurst int
	// RelayRate is how many Queries per second an edge relays with one
	// neighbour: Off-Path routing state lives long enough for that. 10,000.
	RelayRate int
	// QueryRate is how many Queries per second are answered to one configured
	// source, or to one peer: 50,000; burst 5,000. StrangerRate is likewise for
	// an address of which nothing is known: 1,000; 1,000. Strangers share a
	// fixed number of buckets.
	QueryRate, QueryBurst       int
	StrangerRate, StrangerBurst int
	// ErrorRate is how many Error messages per second one source causes and one
	// destination gets: 100; burst 20.
	ErrorRate, ErrorBurst int
	// HelloRate is how many MA-Hellos per second of one peer are answered: 10;
	// burst 10.
	HelloRate, HelloBurst int
}

// Config is what a Machine is made with. Zero durations and limits mean the
// defaults.
type Config struct {
	// Identity is the Peer-Identity (RFC 5971 §4.4.3): 1 to 255 octets, unique
	// among all peers, and best new at every start of the node. Machines that
	// share an address must differ in it.
	Identity []byte
	// Address is the NLI interface address: where peers reach us.
	Address netip.Addr
	// Addresses are all others that this node has. No message is sent to them. The
	// first one of the IP version that Address is not of is for peers that have
	// that version alone.
	Addresses []netip.Addr
	// Port is GIST's UDP port, ours and everybody else's. 0: 270.
	Port uint16
	// TCPPort is what a Response offers for Forwards-TCP alone, TLSPort for TLS
	// over it. 0: Port. With both stacks they must differ. SCTPPort is for
	// Forwards-SCTP. 0: Port.
	TCPPort, TLSPort, SCTPPort uint16
	// NSLPIDs are the signalling applications served.
	NSLPIDs []wire.NSLPID
	// ConnSpace sets the upper 16 bits of the ConnIDs that the machine
	// chooses, so that several machines can share one transport.
	ConnSpace uint16

	// Route says how to send a Query. It must be quick: it is asked on each.
	Route func(mri wire.MRI) (QueryRoute, error)
	// Edges are the border edges that this node serves; DirectPeers the NLI
	// addresses of QNEs that send their Off-Path Queries without a relay.
	Edges       []ServedEdge
	DirectPeers []netip.Addr
	// AcceptPeer, where set, decides whether a Query, and again its Confirm,
	// may make routing state. It must not block. An intercepted Query that it
	// does not accept is forwarded (RFC 5971 §4.3.2), any other is dropped.
	AcceptPeer func(PeerOffer) PeerAnswer

	// FlowSource says that datagrams can be sent from addresses that are not
	// this node's: the first Query of a handshake then has the flow's source
	// address and S=0, as its retransmission has ours and S=1 (RFC 5971
	// §5.8.1.2). Errors of routers about the former go to the flow's source.
	FlowSource bool

	// IngressFilter says whether a flow from all of source may arrive where the
	// Path-Coupled Query did (RFC 5971 §5.8.1.2). It must be quick. Nil: always.
	IngressFilter func(source netip.Prefix, at Ingress) bool

	// Rand fills the slice with cryptographically strong random octets.
	Rand func([]byte)
	// SecretLifetime is how often the secret behind the Responder-Cookies is
	// replaced; a cookie lives once to twice as long. 0: two minutes.
	SecretLifetime time.Duration

	T1                  time.Duration // first retransmission of a Query: 500 ms
	T2                  time.Duration // largest retransmission interval: 64*T1
	ValidityPathCoupled time.Duration // routing state: 30 s
	ValidityOffPath     time.Duration // 600 s
	MAHoldTime          time.Duration // ours, told to peers: 30 s
	MAIdle              time.Duration // unused for so long, an association is no longer wanted: MAHoldTime
	ConnectTimeout      time.Duration // 10 s; also for the first message on an accepted connection
	HelloTimeout        time.Duration // wait for the answer to an MA-Hello: 10 s
	MessageTimeout      time.Duration // SendMessage without Timeout: 30 s
	Inactivity          time.Duration // Inactive_QNode, where SetStateLifetime says nothing: 30 min

	// InvalidCookieErrors has Confirms with a bad cookie answered, which makes
	// the node "a source of backscatter": for debugging only (RFC 5971 §8.5).
	InvalidCookieErrors bool

	// DModeData lets unreliable messages of the Path-Coupled MRM go, and
	// come, outside of messaging associations. Off-Path Data never does.
	DModeData bool
	// MTU is the path MTU to peers if known; 0: 576 octets (RFC 5971 §4.3.3). A
	// smaller one to some destination is learned of a DatagramTooLarge.
	MTU int

	Limits Limits

	// TLS and Insecure say which stacks messaging associations may have: TLS
	// over Forwards-TCP, and Forwards-TCP alone. At least one is needed. A
	// message with the attribute Secure never goes over the latter.
	TLS, Insecure bool
	// SCTP offers Forwards-SCTP too, and prefers it to Forwards-TCP alone. It is
	// no more secure, and needs Insecure.
	SCTP bool
	// Peers is the authorised peer database, in order; nil: there is none, TLS
	// associations are refused and others are not checked.
	Peers []PeerEntry
}

// ErrNoStack is returned by New for a Config that allows no stack.
var ErrNoStack = errors.New("gist: nothing to carry messaging associations: want TLS, or Insecure for plain TCP")

func (c *Config) validate() error {
	switch {
	case len(c.Identity) == 0 || len(c.Identity) > 255:
		return fmt.Errorf("gist: Identity has %d octets, want 1 to 255", len(c.Identity))
	case !c.Address.IsValid() || c.Address.IsUnspecified() || c.Address.IsMulticast():
		return fmt.Errorf("gist: Address %v is not an address that peers can reach", c.Address)
	case len(c.NSLPIDs) == 0:
		return errors.New("gist: no NSLPIDs: want at least one signalling application")
	case slices.Contains(c.NSLPIDs, 0):
		return errors.New("gist: NSLPID 0 is GIST's own")
	case c.Route == nil:
		return errors.New("gist: Route is not set")
	case c.Rand == nil:
		return errors.New("gist: Rand is not set")
	case !c.TLS && !c.Insecure:
		return ErrNoStack
	case c.SCTP && !c.Insecure:
		return errors.New("gist: SCTP without Insecure: nothing here protects what goes over it")
	case c.TLS && c.Insecure && c.TCPPort == c.TLSPort:
		return fmt.Errorf("gist: TLS and plain TCP both on port %d: want ports of their own", c.TCPPort)
	}
	for _, a := range append([]netip.Addr{c.Address}, c.Addresses...) {
		if !a.IsValid() || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
			return fmt.Errorf("gist: %v among our addresses is not the address of a node", a)
		}
	}
	for i, e := range c.Edges {
		if !e.Internal.IsValid() {
			return fmt.Errorf("gist: edge %d has no internal address", i)
		}
	}
	if len(c.Edges) > 0xfffe {
		return fmt.Errorf("gist: %d edges, want at most %d", len(c.Edges), 0xfffe)
	}
	return nil
}

func or[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (c *Config) setDefaults() {
	or(&c.Port, DefaultPort)
	or(&c.TCPPort, c.Port)
	or(&c.TLSPort, c.Port)
	or(&c.SCTPPort, c.Port)
	or(&c.SecretLifetime, 2*time.Minute)
	or(&c.T1, DefaultT1)
	or(&c.T2, 64*c.T1)
	or(&c.ValidityPathCoupled, DefaultValidityPathCoupled)
	or(&c.ValidityOffPath, DefaultValidityOffPath)
	or(&c.MAHoldTime, DefaultMAHoldTime)
	or(&c.MAIdle, c.MAHoldTime)
	or(&c.ConnectTimeout, 10*time.Second)
	or(&c.HelloTimeout, 10*time.Second)
	or(&c.MessageTimeout, DefaultMessageTimeout)
	or(&c.Inactivity, DefaultInactivity)
	or(&c.MTU, 576)
	l := &c.Limits
	or(&l.RoutingStates, 1_000_000)
	or(&l.RoutingPerSession, 64)
	or(&l.Associations, 4096)
	or(&l.PendingAssociations, 256)
	or(&l.PendingHandshakes, 65536)
	or(&l.Peers, 16384)
	or(&l.PeersPerAddress, 64)
	or(&l.AcceptedPerPeer, 8)
	or(&l.QueuedBytes, 16<<20)
	or(&l.QueuedPerSession, 256<<10)
	or(&l.DModeRate, 100_000)
	or(&l.DModeBurst, 10_000)
	or(&l.RelayRate, 10_000)
	or(&l.QueryRate, 50_000)
	or(&l.QueryBurst, 5_000)
	or(&l.StrangerRate, 1000)
	or(&l.StrangerBurst, 1000)
	or(&l.ErrorRate, 100)
	or(&l.ErrorBurst, 20)
	or(&l.HelloRate, 10)
	or(&l.HelloBurst, 10)
}
