package sls

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ID names a reservation: the session's SID.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Leg is the side of this AS on which a reservation uses an SLS. A transit AS
// has both legs under one ID.
type Leg uint8

const (
	// Inbound: this AS is the provider, the request came from the customer.
	Inbound Leg = iota
	// Outbound: this AS is the customer of the next one.
	Outbound
)

func (g Leg) String() string { return name([]string{"inbound", "outbound"}, g) }

// Interval is a span of time, From included and Until not. A zero From is now,
// a zero Until is open. The ledger counts in whole seconds: From is rounded
// down, Until up.
type Interval struct{ From, Until time.Time }

// Request asks for capacity on whichever SLS fits.
type Request struct {
	ID      ID
	Leg     Leg
	Version uint32 // the RSN; a repeat of (ID, Leg, Version) changes nothing

	Customer, Provider uint32 // AS numbers
	// Egress is the customer's border interface, Ingress the provider's. The
	// zero Addr is not known and fits only an SLS that takes any.
	Egress, Ingress netip.Addr
	// Source and Destination of the flow. A zero Source is not known and fits
	// only an SLS that takes any source and is per aggregate.
	Source, Destination netip.Prefix

	Class    Class
	Relative bool // the class without a rate: Rate, MinRate, Peak are ignored
	// Rate is the CIR wanted and MinRate the least that will do, octets/s. A
	// zero MinRate means all or nothing, as does MinRate equal to Rate.
	Rate, MinRate uint64
	Peak          uint64 // PIR, octets/s; zero: not told
	Burst         uint64 // octets; kept, not checked
	Priority      uint8  // 0 to 7
	// Preempting and Defending are the priorities of RFC 5975 §5.2.8. Where
	// not even MinRate is left, and the SLS allows preemption, the hold counts on
	// committed reservations whose Defending is less than Preempting; its Commit
	// ends them. Preempting 0 preempts nobody.
	Preempting, Defending uint16
	Intervals             []Interval // sorted, disjoint, at most MaxIntervals; empty: now and open
}

// Grant is the answer to a Hold that succeeded.
type Grant struct {
	SLS  string
	Rate uint64 // octets/s, from MinRate to Rate
	Peak uint64 // octets/s: what was asked, or the SLS's PIR if that is less
	// Until is when the reservation ends by itself: the end of the last
	// interval, or of the SLS's validity or schedule window for an open-ended
	// one; zero: never.
	Until        time.Time
	Wire, Inside Class // DSCP between the domains, and inside this one
	Excess       Excess
	ExcessClass  Class
	// Delay, Jitter and Loss are the SLS's bounds; zero: none agreed.
	Delay, Jitter time.Duration
	Loss          float64
	// Displaces are the reservations that it counts on, and that Commit ends.
	Displaces []ID
}

// Booking is one leg of a reservation as it is kept: what Commit returns and
// Restore takes.
type Booking struct {
	ID      ID
	Leg     Leg
	Version uint32
	SLS     string
	Held    bool // not committed; such a booking is never stored

	Egress, Ingress     netip.Addr
	Source, Destination netip.Prefix
	Class               Class
	Relative            bool
	Rate, Peak, Burst   uint64 // octets/s, octets/s, octets
	Priority            uint8
	Defending           uint16 // RFC 5975 §5.2.8
	// Intervals are whole seconds. A single one with zero From and Until is
	// an immediate, open-ended reservation.
	Intervals []Interval
}

// Code says why a request is refused: the INFO-SPEC code of class 6
// (interdomain-qosm §1).
type Code uint8

// Codes of a Refusal.
const (
	NoSLS      Code = 64 // no SLS covers the request
	NoCapacity Code = 65 // an SLS does, its capacity, flow size or schedule refuses
	Policy     Code = 66 // the SLS does not take this priority
)

func (c Code) String() string {
	switch c {
	case NoSLS:
		return "no SLS covers the request"
	case NoCapacity:
		return "the SLS has not enough at that time"
	case Policy:
		return "policy refuses"
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Refusal is the ledger's no, with what it could have given (interdomain-qosm
// §7).
type Refusal struct {
	Code Code
	SLS  string // the most specific SLS that covers the request; empty with NoSLS
	// Largest rate in octets/s for the requested times; 0: none.
	Largest uint64
	// Earliest start at which the full rate is to be had, for as long as was
	// asked; zero: none found.
	Earliest time.Time
	Why      []string // one sentence for each SLS that was looked at, at most a few
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: %s", r.Code, strings.Join(r.Why, "; "))
}

// Conflict says which reservations do not fit a change to an SLS.
type Conflict struct {
	SLS   string
	Count int      // reservations in the way
	Why   []string // the first few, one sentence each
}

func (c *Conflict) Error() string {
	are := "reservations are"
	if c.Count == 1 {
		are = "reservation is"
	}
	return fmt.Sprintf("SLS %s: %d %s in the way: %s", c.SLS, c.Count, are, strings.Join(c.Why, "; "))
}
