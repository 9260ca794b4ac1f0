// Package gist is the General Internet Signalling Transport (RFC 5971): a node
// with its querying, responding and messaging-association state machines.
//
// A Machine has neither sockets nor a clock. Whoever drives it hands in events
// with the time, carries out the actions that come back in order, and calls
// again at Deadline, with a nil event. ConnMessage is handed in by pointer, and
// Datagram, SendMessage and SetStateLifetime may be; the machine does not keep
// the pointers. The frequent actions, SendConn and RecvMessage, come as pointers
// to what the machine uses again at the next call; the others are values.
//
// Several machines can share one address, each with its share of the sessions:
// they must differ in Config.Identity, TCPPort and ConnSpace, and each gets the
// datagrams of its sessions and the connections of its port.
//
// An Edge is the relay of the Off-Path MRM at a domain's border.
package gist

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// SII is a Source Identification Information handle (RFC 5971 §4.1.1, B.2): it
// names a peer and the interface that it is reached by. Zero is none.
type SII uint64

// ConnID names one messaging association's transport connection. The machine
// chooses the ids of connections that it asks for (odd), the transport those of
// connections that it accepts (even).
type ConnID uint64

// TransferAttributes say how a message should be, or was, carried (RFC 5971
// §4.1.2).
type TransferAttributes struct {
	Reliable bool
	Secure   bool
	// Stateless asks for Data in Q-mode, for which no routing state is made or
	// used: the local processing of §4.1.2. Only where Config.DModeData allows
	// it, and neither reliable nor secure.
	Stateless bool

	// What follows is set on reception (B.2).

	// ExplicitlyRouted: routing state did not validate the message.
	ExplicitlyRouted bool
	// SourceIsEndpoint: the signalling source is an end of the flow, so this
	// is the first or the last GIST hop.
	SourceIsEndpoint bool
	// ReturnRoutable: the signalling source has answered at its address.
	ReturnRoutable bool
}

// Event is something that happened to a Machine.
type Event interface{ gistEvent() }

// Action is something that a Machine wants done.
type Action interface{ gistAction() }

// Datagram is a UDP datagram that arrived. Nobody changes Payload any more:
// RecvMessage.Data is a part of it.
type Datagram struct {
	Local, From netip.AddrPort
	Interface   uint32 // the index of the one that it arrived on; 0: not known
	TTL         uint8  // 0: not known
	RouterAlert bool
	Transit     *Transit // nil: it was addressed to us
	Payload     []byte
}

// Transit is the rest of an intercepted packet, so that it can go on as it came
// (RFC 5971 §4.3.1). The machine only hands it back.
type Transit struct {
	// Header is the packet up to its GIST message: the IP header with its
	// options or extension headers, and the UDP header.
	Header []byte
}

// Ingress is where and whence a Query arrived.
type Ingress struct {
	Local, From netip.AddrPort
	Interface   uint32 // its index; 0: not known
}

// NotForwarded says that a ForwardDatagram could not be sent, because it is
// larger than the next link's MTU.
type NotForwarded struct {
	Datagram Datagram // as it was in the action
	MTU      int      // of that link, in octets
}

// DatagramTooLarge says that a SendDatagram has not left, because it is larger than
// the path MTU to its destination: EMSGSIZE. From then on what is larger goes to
// that destination over associations, or not at all (RFC 5971 §4.3.3).
type DatagramTooLarge struct {
	To      netip.AddrPort
	MTU     int    // of the path, in octets; 0: not known
	Payload []byte // as it was in the action
}

// ConnUp says that a connection asked for by Connect stands, with all the
// protocols of its stack.
type ConnUp struct {
	Conn        ConnID
	Certificate *Certificate // the peer's, verified; nil: the stack has none
}

// ConnAccepted says that a peer opened a connection to us.
type ConnAccepted struct {
	Conn          ConnID
	Local, Remote netip.AddrPort
	Stack         Stack
	Certificate   *Certificate // the peer's, verified; nil: the stack has none
}

// ConnMessage is one whole GIST message from a connection. Nobody changes
// Payload any more: RecvMessage.Data is a part of it.
type ConnMessage struct {
	Conn    ConnID
	Payload []byte
}

// ConnDown says that a connection failed or was closed by the peer; never sent
// for one that the machine closed itself. An Err that is an ErrAuthentication
// says that another try would end the same way.
type ConnDown struct {
	Conn ConnID
	Err  error
}

// SendMessage is B.1, from a signalling application. The machine may keep
// NSLPData for long after the message was sent, to send it again; the caller does
// not change it any more.
type SendMessage struct {
	NSLPData []byte
	Handle   uint64 // 0: no MessageStatus wanted
	NSLPID   wire.NSLPID
	SID      wire.SID
	MRI      wire.MRI
	SII      SII // explicit routing; 0: by routing state
	Attr     TransferAttributes
	Timeout  time.Duration // 0: the machine's default
	// HopCount is the GIST hop count. 0 is the machine's default or, with
	// HasHopCount, as it came from a RecvMessage that is passed on, refused:
	// the message has been through enough nodes (RFC 5971 §4.3.3).
	HopCount    uint8
	HasHopCount bool
	// TTL is the IP TTL of a downstream D-mode message; 0: the default.
	TTL uint8
	// Report wants a MessageStatus without Err when the message leaves, with
	// the attributes that it goes with.
	Report bool
}

// Forever is a SetStateLifetime.Lifetime without end.
const Forever time.Duration = 1<<63 - 1

// SetStateLifetime is B.5. Lifetime 0: no further interest. Forever: until then.
// The zero SID is every session.
type SetStateLifetime struct {
	NSLPID   wire.NSLPID
	MRI      wire.MRI
	SID      wire.SID
	Lifetime time.Duration
}

// InvalidateRoutingState is B.6.
type InvalidateRoutingState struct {
	NSLPID wire.NSLPID // 0: all
	MRI    wire.MRI
	Status RoutingStatus // Bad or Tentative
	// NSLPData goes in the Queries of the next handshake, unprotected, if it
	// fits; nil: none.
	NSLPData []byte
	// Urgent: the handshake begins now, and not with the next message.
	Urgent bool
}

// SetPeers replaces the authorised peer database. What it no longer allows ends
// (RFC 5971 §4.4.2).
type SetPeers struct{ Entries []PeerEntry }

// RouteChanged says that the forwarding of packets to some destinations may
// have changed here: the local trigger of RFC 5971 §7.1.2. The machine asks
// Route again for the flows concerned, and for no others.
type RouteChanged struct {
	Prefixes  []netip.Prefix // empty: every destination
	Interface uint32         // only flows that leave by it; 0: by any
}

// SendDatagram asks for a UDP datagram. Whoever carries it out may keep
// Payload.
type SendDatagram struct {
	Local       netip.Addr // the interface address to send from
	To          netip.AddrPort
	TTL         uint8 // 0: the system's default
	RouterAlert bool
	// Foreign says that Local is the flow's source and may be no address of this
	// node: the socket needs IP_TRANSPARENT.
	Foreign   bool
	DSCP      uint8  // as the flow has it (RFC 5971 §5.8.1.2)
	FlowLabel uint32 // likewise, IPv6
	Payload   []byte
}

// ForwardDatagram asks for an intercepted packet to go on where its IP header
// says, with its IP TTL decremented and Payload in the place of the message,
// but otherwise as it came (RFC 5971 §4.3.4). Whoever carries it out may keep
// it.
type ForwardDatagram struct{ Datagram Datagram }

// Connect asks for a connection, answered by ConnUp or ConnDown.
type Connect struct {
	Conn  ConnID
	Local netip.Addr
	To    netip.AddrPort
	Stack Stack
}

// SendConn asks for a message to be written to a connection, in order. Payload is
// good until the machine is called again; who cannot take it answers ConnDown.
type SendConn struct {
	Conn    ConnID
	Payload []byte
}

// CloseConn asks for a connection to be closed after what was sent before.
type CloseConn struct{ Conn ConnID }

// RecvMessage is B.2, to a signalling application. It is good until the machine
// is called again, Data for longer: a part of the event's Payload, which is not
// to be changed. Who keeps little of it for long copies that.
type RecvMessage struct {
	Data     []byte
	NSLPID   wire.NSLPID
	SID      wire.SID
	MRI      wire.MRI
	SII      SII
	Peer     netip.Addr // the peer's NLI interface address
	PeerID   string     // the peer's identity from NLI, raw octets
	Via      netip.Addr // off-path: our edge that relayed the peer's Query; zero: none
	Inbound  netip.Addr // our address that a D-mode message came in on; zero: over an association
	Attr     TransferAttributes
	TTL      uint8 // 0: not known
	Distance uint8 // IP hops from the peer; 0: not known
	HopCount uint8
	// Certificate is the peer's, where the message came over TLS (RFC 5971 §8.2);
	// it is not to be changed.
	Certificate *Certificate
}

// MessageStatus is B.3: the message with this handle could not be sent or, where
// Err is nil, has left with these attributes.
type MessageStatus struct {
	Handle uint64
	NSLPID wire.NSLPID
	SID    wire.SID
	MRI    wire.MRI
	Attr   TransferAttributes
	Err    error // ErrNoPeer, ErrTimeout, ErrPeerRefused, ErrTooLarge, … wrapped with detail
}

// NotificationType is B.4's.
type NotificationType uint8

// Network notifications (B.4).
const (
	// LastNode: there is no further node of this application on the path.
	LastNode NotificationType = iota + 1
	// RoutingStatusChange: Good with the peer's SII when state is made, or made
	// again; the others where the application has not said so itself. Bad a
	// second time: nobody was found, the state is gone.
	RoutingStatusChange
	// RouteDeletion: the peer with this SII is not on the path any more.
	RouteDeletion
	// NodeAuthorisationChange: the peer is no longer authorised.
	NodeAuthorisationChange
	// CommunicationFailure: messages to the peer may have been lost.
	CommunicationFailure
)

// RoutingStatus is the validity of routing state (RFC 5971 §7.1.3).
type RoutingStatus uint8

// Routing status values.
const (
	Good RoutingStatus = iota + 1
	Tentative
	Bad
)

// NetworkNotification is B.4, to a signalling application.
type NetworkNotification struct {
	NSLPID wire.NSLPID
	SID    wire.SID
	MRI    wire.MRI
	Type   NotificationType
	Status RoutingStatus // with RoutingStatusChange
	SII    SII           // the peer, where known
}

// Note is something worth a line in the log or a count; it changes nothing.
// Kind is a short constant ("bad-cookie", "rate-limited"); bad input from the
// wire that is dropped in silence still leaves a Note.
type Note struct {
	Kind   string
	Remote netip.AddrPort
	Detail string
}

func (Datagram) gistEvent()               {}
func (NotForwarded) gistEvent()           {}
func (ConnUp) gistEvent()                 {}
func (ConnAccepted) gistEvent()           {}
func (*ConnMessage) gistEvent()           {}
func (ConnDown) gistEvent()               {}
func (SendMessage) gistEvent()            {}
func (SetStateLifetime) gistEvent()       {}
func (InvalidateRoutingState) gistEvent() {}
func (RouteChanged) gistEvent()           {}
func (SetPeers) gistEvent()               {}
func (DatagramTooLarge) gistEvent()       {}

func (SendDatagram) gistAction()        {}
func (ForwardDatagram) gistAction()     {}
func (Connect) gistAction()             {}
func (*SendConn) gistAction()           {}
func (CloseConn) gistAction()           {}
func (*RecvMessage) gistAction()        {}
func (MessageStatus) gistAction()       {}
func (NetworkNotification) gistAction() {}
func (Note) gistAction()                {}
