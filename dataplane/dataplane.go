// Package dataplane is the interface to what forwards packets: it classifies,
// polices, marks and counts them. A plane has subscribers, each an address or
// prefix with an access wire and a policer, and flows, each reserved traffic
// with a policer of its own inside a subscriber's.
//
// # What a plane does with a packet
//
// The direction is downstream, to the subscriber. The packet's flow is the
// entry with the most specific match; its subscriber that of the flow, or else
// the one whose prefix is the longest match of the destination. Both policers
// are two-rate three-color markers (RFC 2698); there is no queue, so no packet
// is delayed and none reordered.
//
//   - A packet of a flow that its policer finds green (within the reserved rate)
//     is always forwarded, with the flow's DSCP. Its octets are taken from both
//     of the subscriber's buckets whether they hold them or not: a bucket may go
//     into debt.
//   - One that it does not find green, yellow or red, is excess, and the flow
//     says what becomes of it: it is dropped, or it goes on to the subscriber's
//     policer beside best effort, with another DSCP or with the flow's.
//   - Everything else is metered by the subscriber's policer, which takes only
//     what is in the buckets: red is dropped, the rest forwarded.
//
// # What excess is
//
// RFC 5975 §5.2.11 calls "traffic not covered by the <TMOD> parameter"
// out-of-profile, and has one treatment for all of it. What a TMOD covers is
// within the token bucket (CIR, CBS) and not faster than the peak rate (PIR):
// what RFC 2698 §3 finds green. So yellow (out of the committed rate) and red
// (above the peak rate) are both excess. That RFC 2698 §5 drops red and forwards
// yellow is its example of a service, and here would ignore what was asked for:
// a flow without a peak rate of its own has PIR = CIR, and its excess is all red.
//
//   - drop: "all marked traffic MUST be dropped": yellow and red.
//   - re-mark: yellow and red get the DSCP that is "indicated in the 'Re-mark
//     Value'"; they are not the reserved class any more and find room in the
//     subscriber's buckets or not, as best effort does.
//   - no metering or policing: the flow's policer only counts, and its excess has
//     the same mark as the rest. It finds room in the subscriber's buckets or
//     not: the "special care so that excess traffic should not cause a problem".
//   - shape: a plane without a queue cannot delay, and has no such treatment.
//
// So the reserved traffic comes first without a queue: best effort gets what the
// reserved flows have left of the subscriber's rate, also where they use less
// than they reserved, and a greedy one finds the buckets empty or in debt while
// a reserved packet never asks. The subscriber's total stays within its rate
// because the reserved rates of its flows never exceed it (a plane refuses an
// update that would make them): over any time t it is at most
//
//	PIR·t + PBS + the sum of its flows' CBS
//
// and no debt is larger than that last sum.
package dataplane

import (
	"errors"
	"net/netip"
)

// ID names a subscriber or a flow.
type ID [16]byte

// Policer is what a meter goes by: octets of IP packets per second, octets.
type Policer struct {
	CIR, CBS uint64
	PIR, PBS uint64
}

// Excess says what becomes of a flow's packets that are not green, and of a
// subscriber's that are yellow.
//
// RFC 5975 §5.2.11
type Excess uint8

// Treatments of excess.
const (
	ExcessRemark  Excess = iota // forward with another DSCP
	ExcessDrop                  // drop
	ExcessForward               // forward, marked as if it were green
)

// Marking says what happens to the DSCP of a forwarded packet.
type Marking struct {
	Set  bool // false: left as it is
	DSCP uint8
}

// Subscriber is a customer's access.
type Subscriber struct {
	ID       ID
	Name     string
	Prefixes []netip.Prefix
	Wire     netip.AddrPort // where its packets go
	Policer  Policer
	Mark     Marking // of what belongs to no flow
	Excess   Excess  // of what the policer finds yellow; red is dropped
	// ExcessDSCP goes with ExcessRemark.
	ExcessDSCP uint8
}

// Match describes a flow's packets. A zero Prefix is any address.
type Match struct {
	Source, Destination netip.Prefix
	HasProtocol         bool
	Protocol            uint8
	HasSourcePort       bool
	SourcePort          uint16
	HasDestinationPort  bool
	DestinationPort     uint16
}

// Flow is reserved traffic of a subscriber.
type Flow struct {
	ID         ID
	Subscriber ID
	Matches    []Match
	Policer    Policer
	// ColorAware: the packet's DSCP says which color it had (AF's drop
	// precedence; RFC 2597 §6), and it does not get a better one.
	ColorAware bool
	Mark       Marking // of green packets
	Excess     Excess  // of yellow and red ones
	ExcessDSCP uint8   // goes with ExcessRemark
}

// Update is a change that takes effect all or not at all. An entry that is there
// already gets new contents and keeps its buckets and counters. Deleting what is
// not there is no error.
type Update struct {
	DeleteFlows       []ID
	DeleteSubscribers []ID
	PutSubscribers    []Subscriber
	PutFlows          []Flow
}

// Count is packets and their octets.
type Count struct{ Packets, Octets uint64 }

// Counters counts by the color that the entry's policer gave; Dropped are those
// not forwarded, whatever their color. A flow's packets count in the subscriber
// too: green ones as green, excess as the subscriber's policer found it.
type Counters struct{ Green, Yellow, Red, Dropped Count }

// SubscriberEntry is a row of a plane's own table.
type SubscriberEntry struct {
	Subscriber
	Counters Counters
}

// FlowEntry is a row of a plane's own table.
type FlowEntry struct {
	Flow
	Counters Counters
}

// Plane is a data plane. Its methods may be called from any goroutine.
type Plane interface {
	// Begin starts a change; one at a time: it waits for the one before to
	// Commit or Abort.
	Begin() Change
	// Subscribers and Flows are the plane's own table, at one moment, in
	// order of ID.
	Subscribers() []SubscriberEntry
	Flows() []FlowEntry
	// Counters returns those of a flow or a subscriber.
	Counters(id ID) (Counters, bool)
	// Close ends forwarding.
	Close() error
}

// Change collects updates that become visible to packets in one step.
type Change interface {
	// Update adds an update, or refuses it whole with an error and stays as
	// it was.
	Update(Update) error
	// Commit makes all updates visible at once. An error: none is.
	Commit() error
	// Abort forgets them.
	Abort()
}

// Errors of Update, wrapped.
var (
	ErrInvalid       = errors.New("invalid entry")
	ErrConflict      = errors.New("conflicts with another entry")
	ErrNotFound      = errors.New("no such entry")
	ErrOverCommitted = errors.New("more reserved than the subscriber's rate")
)
