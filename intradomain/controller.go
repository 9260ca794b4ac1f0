// Package intradomain is the interface between the inter-domain control plane
// and whatever controls the resources inside one AS (interdomain-qosm §8), and
// what its drivers share.
package intradomain

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// ID names a reservation: the session's SID.
type ID [16]byte

// QoS is what is asked of a domain's network. Rates are octets of IP packets
// per second, sizes octets.
type QoS struct {
	Class    uint8 // DSCP of the PHB, e.g. 46 for EF
	DSCP     uint8 // what its packets are marked with inside this domain; 0: Class
	CIR, PIR uint64
	CBS, PBS uint64
	Excess   Excess
}

// Excess says what becomes of traffic that the reserved rate does not cover:
// out of CIR and CBS, or above the peak.
//
// RFC 5975 §5.2.11
type Excess struct {
	Treatment Treatment
	DSCP      uint8 // with ExcessRemark
}

// Treatment is what is done to excess.
type Treatment uint8

// Treatments of excess. Where nothing is said a controller "can do whatever it
// finds suitable".
const (
	ExcessAny     Treatment = iota // nothing is said
	ExcessDrop                     // drop
	ExcessShape                    // delay until it is within the rate; what cannot is refused by Hold
	ExcessRemark                   // forward with another DSCP
	ExcessNoMeter                  // neither meter nor police the flow
)

func (t Treatment) String() string {
	names := [...]string{"any", "drop", "shape", "remark", "no metering"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("treatment %d", uint8(t))
}

// Request asks for resources from ingress to egress.
type Request struct {
	ID      ID
	Version uint32 // the RSN; a repeat of (ID, Version) changes nothing
	// Ingress and Egress are border interface addresses of this domain. The
	// zero Addr means inside: the flow starts or ends in this domain, at
	// Flow's source or destination.
	Ingress, Egress netip.Addr
	Flow            wire.Flow
	QoS             QoS
	// Times are when it is needed, sorted and disjoint; empty: from now on until
	// released.
	Times []Interval
	// Displaces are reservations that this one's commit ends: what they have
	// counts as free for it, and for nobody else. Who commits it releases them.
	Displaces []ID
}

// Interval is a span of time, From included and Until not. A zero From is now, a
// zero Until is open.
type Interval struct{ From, Until time.Time }

// ActiveAt says whether a request's traffic is to be served at an instant, and
// when that changes next; zero: never.
func (r *Request) ActiveAt(now time.Time) (active bool, change time.Time) {
	if len(r.Times) == 0 {
		return true, time.Time{}
	}
	for _, v := range r.Times {
		switch {
		case now.Before(v.From):
			return false, v.From
		case v.Until.IsZero() || now.Before(v.Until):
			return true, v.Until
		}
	}
	return false, time.Time{}
}

// Refusal is a driver's no, with what it could have given.
type Refusal struct {
	Where  string // e.g. "link core1-core2", "subscriber 10.3.0.10"
	Reason string
	Offer  uint64 // largest rate now, octets per second; 0: none or not known
}

func (r *Refusal) Error() string { return r.Where + ": " + r.Reason }

// ErrNoHold is wrapped by the answer to a Commit of what is not held.
var ErrNoHold = errors.New("no such hold")

// Held is one reservation as a driver knows it.
type Held struct {
	ID        ID
	Version   uint32
	Committed bool
	Request   Request
}

// Controller is an intra-domain resource controller. Every verb is idempotent
// by ID and version. done is called exactly once, possibly before the verb
// returns and from any goroutine, with nil, a *Refusal, or another error (the
// controller failed or cannot be reached); it must not block.
type Controller interface {
	// Hold keeps resources for a request without giving them to traffic. A
	// Hold with a higher version than what is committed is a modification:
	// the larger of the two counts until Commit or Drop.
	Hold(r Request, done func(error))
	// Commit makes the hold of this version effective: traffic gets it. cir,
	// octets per second, shrinks the hold to what the whole path gives; 0, or
	// more than is held, means all that is held. Without a hold of this
	// version (and unless it is committed already): ErrNoHold.
	Commit(id ID, version uint32, cir uint64, done func(error))
	// Drop gives up the hold of this version; what an earlier version
	// committed stays.
	Drop(id ID, version uint32, done func(error))
	// Release gives up everything the reservation has. Releasing what is not
	// there is success.
	Release(id ID, done func(error))
	// Query tells how much of a request's CIR could be had, octets per second,
	// without keeping anything: at most the CIR. done gets a *Refusal where it
	// could not be had at any rate.
	Query(r Request, done func(rate uint64, err error))
	// List returns everything held or committed.
	List(done func([]Held, error))
	// Close ends the controller's connections; reservations stay.
	Close() error
}
