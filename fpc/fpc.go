// Package fpc speaks of a data plane in the terms of Forwarding Policy
// Configuration (draft-ietf-dmm-fpc-cpdp-00): a data-plane node (DPN) has
// logical ports with properties, and rules that direct traffic to ports.
//
// A client (here: a driver of the intra-domain plane) sends commands under the
// draft's names, PRT_ADD to RULE_DEL; an agent beside the data plane keeps the
// tables and hands what changed to the device. What the draft leaves open is
// settled so:
//
//   - Identifiers are 128 bits and chosen by the client (the draft's PRT_ID has
//     16, fewer than a gateway's ports), so that a reservation's port and rule
//     can bear its session's SID.
//   - Commands come in transactions: all of one or none of it. Every port and
//     rule has a version; a repeat of what was done changes nothing and
//     succeeds, an older version is refused.
//   - PROP_QOS, whose format the draft leaves to be done, is a two-rate policer
//     (RFC 2698) with a DSCP and a treatment of excess; PROP_PARENT is ours and
//     puts a flow's port inside a subscriber's.
//
// EVENT_REG, PROBE, NOTIFY and QUERY of the draft are not here yet.
//
// The package is pure: no sockets, no clock, no goroutines.
package fpc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
)

// ID names a port or a rule: PRT_ID, and what a rule is known by.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that this is no identifier.
func (id ID) IsZero() bool { return id == ID{} }

// PropertyID names a property within its port; with the port's ID it is the
// draft's PRT_PROP_ID.
type PropertyID uint8

// PropertyKind says what a property is.
type PropertyKind uint8

// Kinds of properties.
const (
	PropQoS    PropertyKind = iota + 1 // PROP_QOS
	PropGW                             // PROP_GW: the next hop
	PropParent                         // PROP_PARENT, ours: the port whose budget this one draws on
)

func (k PropertyKind) String() string {
	switch k {
	case PropQoS:
		return "PROP_QOS"
	case PropGW:
		return "PROP_GW"
	case PropParent:
		return "PROP_PARENT"
	}
	return fmt.Sprintf("property kind %d", uint8(k))
}

// Excess says what becomes of packets that are not within the guaranteed rate:
// of a flow's port yellow and red ones, of a subscriber's yellow ones. What is
// not dropped draws on the subscriber's budget as best effort does.
//
// RFC 5975 §5.2.11
type Excess uint8

// Treatments of excess.
const (
	ExcessRemark  Excess = iota // forward, marked with QoS.ExcessDSCP
	ExcessDrop                  // drop
	ExcessForward               // forward, marked like the rest
)

func (e Excess) String() string {
	switch e {
	case ExcessRemark:
		return "remark"
	case ExcessDrop:
		return "drop"
	case ExcessForward:
		return "forward"
	}
	return fmt.Sprintf("excess %d", uint8(e))
}

// QoS is the value of a PROP_QOS. Rates are octets of IP packets per second,
// bursts octets.
type QoS struct {
	CIR, CBS uint64 // guaranteed
	PIR, PBS uint64 // maximum
	// Mark says that packets within the guaranteed rate get DSCP.
	Mark   bool
	DSCP   uint8
	Excess Excess
	// ExcessDSCP goes with ExcessRemark, and is 0 otherwise.
	ExcessDSCP uint8
}

// Property is one property of a port. Which value counts says Kind.
type Property struct {
	ID     PropertyID
	Kind   PropertyKind
	QoS    QoS
	GW     netip.AddrPort // a wire of the data plane: UDP address
	Parent ID
}

// Port is a logical port: all traffic directed to it shares its properties.
type Port struct {
	ID      ID
	Version uint32
	// Name is for people, e.g. the subscriber's name.
	Name string
	// Static ports belong to the data-plane node's own configuration; a
	// client can refer to them and not change them.
	Static     bool
	Properties []Property
}

// Property returns the port's first property of a kind.
func (p *Port) Property(kind PropertyKind) (Property, bool) {
	for _, prop := range p.Properties {
		if prop.Kind == kind {
			return prop, true
		}
	}
	return Property{}, false
}

// Descriptor describes traffic. A zero Prefix means any address; a port or
// protocol counts where its Has… says so.
type Descriptor struct {
	Source, Destination netip.Prefix
	HasProtocol         bool
	Protocol            uint8
	HasSourcePort       bool
	SourcePort          uint16
	HasDestinationPort  bool
	DestinationPort     uint16
}

func (d Descriptor) String() string {
	any := func(p netip.Prefix) string {
		if !p.IsValid() {
			return "any"
		}
		return p.String()
	}
	s := any(d.Source)
	if d.HasSourcePort {
		s += fmt.Sprintf(" port %d", d.SourcePort)
	}
	s += " to " + any(d.Destination)
	if d.HasDestinationPort {
		s += fmt.Sprintf(" port %d", d.DestinationPort)
	}
	if d.HasProtocol {
		s += fmt.Sprintf(" protocol %d", d.Protocol)
	}
	return s
}

// Rule directs the traffic that a descriptor describes to a port.
type Rule struct {
	ID      ID
	Version uint32
	Static  bool // as of a port
	Match   Descriptor
	Port    ID
}

// Op is what a command does, under the draft's name.
type Op uint8

// Commands (draft-ietf-dmm-fpc-cpdp §4.1).
const (
	PrtAdd  Op = iota + 1 // PRT_ADD: Command.Port, properties included
	PrtDel                // PRT_DEL: Command.Port.ID; its rules must be gone, its properties go with it
	PropAdd               // PROP_ADD: Command.Port.ID and Version, Command.Property
	PropMod               // PROP_MOD: as PROP_ADD
	PropDel               // PROP_DEL: Command.Port.ID and Version, Command.Property.ID
	RuleAdd               // RULE_ADD: Command.Rule
	RuleMod               // RULE_MOD: Command.Rule
	RuleDel               // RULE_DEL: Command.Rule.ID
)

var opNames = [...]string{PrtAdd: "PRT_ADD", PrtDel: "PRT_DEL", PropAdd: "PROP_ADD", PropMod: "PROP_MOD",
	PropDel: "PROP_DEL", RuleAdd: "RULE_ADD", RuleMod: "RULE_MOD", RuleDel: "RULE_DEL"}

func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return fmt.Sprintf("command %d", uint8(o))
}

// Command is one message of a client to an agent. Op says which fields count.
type Command struct {
	Op       Op
	Port     Port
	Property Property
	Rule     Rule
}

// Transaction is a list of commands that take effect all or none.
type Transaction []Command

// Counters counts packets by the color that the policer gave them. Green are
// within the guaranteed rate, yellow above it and within the peak rate, red
// above; dropped are those not forwarded, whatever their color.
type Counters struct {
	GreenPackets, GreenOctets     uint64
	YellowPackets, YellowOctets   uint64
	RedPackets, RedOctets         uint64
	DroppedPackets, DroppedOctets uint64
}

// Snapshot is everything that a data-plane node has, at one moment.
type Snapshot struct {
	DPN   string // DPN_ID, by name
	Epoch uint64 // see ErrEpoch; never 0
	Ports []Port
	Rules []Rule
}

// Errors that a caller may tell apart with errors.Is. An agent's answer wraps
// one of them.
var (
	ErrExists   = errors.New("exists already with other contents")
	ErrNotFound = errors.New("does not exist")
	ErrStale    = errors.New("older than what is there")
	ErrInvalid  = errors.New("invalid")
	ErrStatic   = errors.New("belongs to the node's own configuration")
	ErrInUse    = errors.New("still in use")
	// ErrEpoch answers a client that has not seen the node's present epoch:
	// the node has restarted and has forgotten what clients had configured.
	ErrEpoch = errors.New("the data-plane node has restarted")
)

// CommandError says which command of a transaction was refused, and why.
type CommandError struct {
	Index int // within the transaction
	Op    Op
	What  string // e.g. "port 0a0b..."
	Err   error  // wraps one of this package's errors
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("command %d, %v %s: %v", e.Index, e.Op, e.What, e.Err)
}

// Unwrap returns Err.
func (e *CommandError) Unwrap() error { return e.Err }
