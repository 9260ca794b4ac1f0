// Package sls keeps service level specifications and what has been sold of
// them (interdomain-qosm §5).
//
// An SLS is the technical part of an agreement: a customer AS may send into a
// provider AS so much traffic of such classes, to such destinations, at such
// times. A Ledger finds the SLS that fits a request, holds and commits
// capacity on it, and never lets the sum of what is held and committed exceed
// what the SLS allows at any instant.
//
// The package is pure: it opens nothing, starts nothing and reads no clock. A
// Ledger has no lock; its caller serializes. Package store keeps what must
// survive a crash.
//
// Rates are octets of IP packets per second throughout. The YAML and JSON form
// speaks bit/s (100M is 12,500,000 octets/s); a rate that is sold is rounded
// down to whole octets, a rate that is asked for is rounded up (OctetsUp), so
// that rounding never sells what is not there.
package sls

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/internal/units"
)

// MaxRate is the largest rate that an SLS or a request may name, in octets per
// second. It keeps every sum far from overflow.
const MaxRate = 1e15

// OctetsUp turns a rate asked for, in bit/s, into octets/s, rounded up.
func OctetsUp(bits uint64) uint64 { return units.Octets(bits) }

// OctetsDown turns a rate sold, in bit/s, into octets/s, rounded down.
func OctetsDown(bits uint64) uint64 { return bits / 8 }

// SLS is one service level specification (interdomain-qosm §5).
type SLS struct {
	ID       string
	Version  uint32 // 1 for the first Put, then one more for each change
	Customer uint32 // AS whose traffic leaves it
	Provider uint32 // AS that the traffic enters
	// Egress is the customer's border interface, Ingress the provider's; the
	// zero Addr is any.
	Egress, Ingress netip.Addr
	// Destinations and Sources limit the traffic; empty is any.
	Destinations, Sources []netip.Prefix
	Degree                Degree
	Classes               []ClassSpec
	// ValidFrom and ValidUntil bound the agreement; zero is unbounded.
	ValidFrom, ValidUntil time.Time
	Schedule              []Window // empty: always
	Zone                  *time.Location
	Admission             Admission
	Status                Status
	// ChangedBy and ChangedAt say who wrote this version and when; Put fills
	// them in. ChangedWhy is what they said about it, at most 1000 octets.
	ChangedBy  string
	ChangedAt  time.Time
	ChangedWhy string
}

// Degree says what one reservation may stand for.
type Degree uint8

// Degrees of a guarantee. PerFlow: a reservation is one flow between two
// single addresses. PerAggregate: it may also cover prefixes.
const (
	PerFlow Degree = iota
	PerAggregate
)

func (d Degree) String() string { return name(degreeNames, d) }

var degreeNames = []string{"per-flow", "per-aggregate"}

// Status is a state of an SLS's lifecycle. Only Active admits.
type Status uint8

// The lifecycle of an SLS (interdomain-qosm §5). Suspended admits nothing new
// and keeps what has been sold.
const (
	Active Status = iota
	Offered
	Negotiated
	Suspended
	Expired
	Withdrawn
)

func (s Status) String() string { return name(statusNames, s) }

var statusNames = []string{"active", "offered", "negotiated", "suspended", "expired", "withdrawn"}

// Excess says what happens to traffic beyond the profile (RFC 5975 §5.2.11);
// the values are the parameter's own.
type Excess uint8

// Excess treatments.
const (
	Drop Excess = iota
	Shape
	Remark
	NoMetering
)

func (e Excess) String() string { return name(excessNames, e) }

var excessNames = []string{"drop", "shape", "remark", "none"}

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", v)
}

// ClassSpec is what an SLS sells of one class.
type ClassSpec struct {
	Class Class
	// Relative sells the class without any rate; the rates and sizes below
	// are then zero.
	Relative    bool
	CIR, PIR    uint64 // octets/s; PIR is at least CIR
	CBS, PBS    uint64 // octets; zero: not agreed
	LargestFlow uint64 // octets/s, largest CIR of one reservation; zero: CIR
	Excess      Excess
	ExcessClass Class // with Remark: the class that excess traffic gets
	// Wire is the DSCP between the domains, Inside the one that the domain
	// which keeps this SLS uses within.
	Wire, Inside  Class
	Delay, Jitter time.Duration // bounds; zero: none agreed
	Loss          float64       // bound on the ratio, 0 to 1; zero: none agreed
}

// Window is a recurring window, in the SLS's time zone.
type Window struct {
	Days     uint8         // one bit per weekday on which it starts, bit 0 is Monday
	Start    time.Duration // wall-clock time of day
	Duration time.Duration // on the wall clock; at most a week, may pass midnight
}

// Admission is how an SLS's capacity is given out.
type Admission struct {
	// Oversubscription multiplies every CIR; 1 sells what there is.
	Oversubscription float64
	Priorities       uint8 // one bit per allowed priority, bit 0 is priority 0
	Preemption       bool
	Policy           string // always empty: policy expressions are not supported yet
}
