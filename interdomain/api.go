// Package interdomain is the InterDomain-QOSM of one inter-domain QNE
// (draft-zhang-nsis-interdomain-qosm-02, formats in docs/interdomain-qosm.md):
// what it decides about every reservation that passes it, for each role.
//
// A Machine answers the questions of qosnslp. It has no I/O and no clock: the
// SLS ledger, the intra-domain controller and the durable store are asked by
// actions and answer by events, so a slow one never blocks signaling.
package interdomain

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/sls"
)

// Border is one row of the domain's table of border interfaces: an edge of ours
// and the neighbour that it faces.
type Border struct {
	Name string
	// Internal is where our QNE reaches the edge, External the interface
	// that faces the neighbour.
	Internal, External netip.Addr
	NeighborAS         uint32
	// Neighbor is the neighbour's border interface: the BGP next hop towards
	// it, and its ingress.
	Neighbor netip.Addr
	// PeerQNEs are the NLI addresses that the neighbour's QNEs may have.
	PeerQNEs []netip.Addr
}

// Route is what BGP says of a destination.
type Route struct {
	Local   bool       // the destination is in this AS
	NextHop netip.Addr // the neighbour's border interface
	NextAS  uint32     // first AS of the path
}

// Routes answers longest-match lookups from memory.
type Routes interface {
	Lookup(destination netip.Addr) (Route, bool)
}

// Config is what a Machine is made with.
type Config struct {
	AS      uint32
	Borders []Border
	Routes  Routes
	// ReleaseRetry is how long to wait before a driver or a store that
	// failed to release is asked again; it doubles up to 64 times this.
	// Zero: 1 s.
	ReleaseRetry time.Duration
	// SLSName says under which name an SLS is shown to other domains
	// (DOMAIN-RECORDS, "as the domain chooses to show it"); nil: its id.
	SLSName func(id string) string
	// Path is what this domain adds to a path, where the SLS that a flow comes in
	// by says nothing; zero values are not known.
	Path PathBounds
	// Records signs what this domain says in DOMAIN-RECORDS; nil: unsigned.
	Records *RecordSigner
	// OwnLater: what this node says to its own application is left unsigned. It
	// goes to nobody else, so that SignAppended can sign it when it is looked at,
	// if it ever is.
	OwnLater bool
}

// PathBounds are bounds of what a domain adds to a flow's path.
type PathBounds struct {
	Latency, Jitter time.Duration // mean, and the 99.9 % quantile above the least
	Loss, Errors    float64       // ratios of packets lost, and damaged
}

// Event is something that happened to a Machine.
type Event interface{ domainEvent() }

// Action is something that a Machine wants done.
type Action interface{ domainAction() }

// Ref ties an answer to what was asked; it goes back unchanged.
type Ref struct {
	SID    wire.SID
	Serial uint64
}

// Asked is a question of qosnslp.
type Asked struct{ qosnslp.Question }

// SLSHeld answers SLSHold. Err: nil, a *sls.Refusal, or another error.
type SLSHeld struct {
	Ref   Ref
	Grant sls.Grant
	Err   error
}

// SLSCommitted answers SLSCommit.
type SLSCommitted struct {
	Ref      Ref
	Bookings []sls.Booking
	// Displaced are the reservations that it has ended: see Preempt.
	Displaced []sls.ID
	Err       error
}

// SLSAsked answers SLSAsk. Err: as in SLSHeld.
type SLSAsked struct {
	Ref   Ref
	Quote sls.Quote
	Err   error
}

// DriverTold answers DriverQuery.
type DriverTold struct {
	Ref  Ref
	Rate uint64 // octets/s
	Err  error
}

// DriverDone answers DriverHold, DriverCommit and DriverRelease.
type DriverDone struct {
	Ref Ref
	Err error
}

// StoreDone answers StorePut and StoreDelete.
type StoreDone struct {
	Ref Ref
	Err error
}

// Restore brings back a committed reservation at start-up, before any question.
type Restore struct{ Record Record }

// Record is what must survive a crash.
type Record struct {
	ID       sls.ID
	Version  uint32
	Bookings []sls.Booking
	Session  []byte // the snapshot of qosnslp
	Domain   []byte // the state of this package, see encodeDomain
}

// SLSHold asks the ledger to hold one leg.
type SLSHold struct {
	Ref     Ref
	Request sls.Request
}

// SLSAsk asks the ledger what one leg could have, without holding it.
type SLSAsk struct {
	Ref     Ref
	Request sls.Request
	Limit   int // of the intervals in the answer
}

// SLSCommit asks the ledger to commit every leg of a version, shrunk to Rate.
type SLSCommit struct {
	Ref     Ref
	ID      sls.ID
	Version uint32
	Rate    uint64
}

// SLSDrop gives up the hold of a version. It has no answer.
type SLSDrop struct {
	ID      sls.ID
	Version uint32
}

// SLSRelease gives up everything of a reservation. It has no answer.
type SLSRelease struct{ ID sls.ID }

// SLSReleaseLeg gives up one leg of a reservation, which its path does not have
// any more. It has no answer.
type SLSReleaseLeg struct {
	ID  sls.ID
	Leg sls.Leg
}

// DriverHold asks the intra-domain controller.
type DriverHold struct {
	Ref     Ref
	Request intradomain.Request
}

// DriverQuery asks the intra-domain controller what there would be.
type DriverQuery struct {
	Ref     Ref
	Request intradomain.Request
}

// DriverCommit asks the intra-domain controller.
type DriverCommit struct {
	Ref     Ref
	ID      intradomain.ID
	Version uint32
	CIR     uint64
}

// DriverDrop asks the intra-domain controller; it is answered by DriverDone, and
// asked again when that failed.
type DriverDrop struct {
	Ref     Ref
	ID      intradomain.ID
	Version uint32
}

// DriverRelease asks the intra-domain controller.
type DriverRelease struct {
	Ref Ref
	ID  intradomain.ID
}

// StorePut asks for a record to be made durable, and those of Gone to be deleted
// in the same transaction.
type StorePut struct {
	Ref    Ref
	Record Record
	Gone   []sls.ID
}

// StoreDelete asks for a record to be deleted durably.
type StoreDelete struct {
	Ref Ref
	ID  sls.ID
}

// Answer is a verdict for qosnslp.
type Answer struct{ qosnslp.Verdict }

// Note is something worth a line in the log or a count.
type Note struct {
	Kind   string
	SID    wire.SID
	Detail string
}

func (Asked) domainEvent()        {}
func (SLSHeld) domainEvent()      {}
func (SLSCommitted) domainEvent() {}
func (SLSAsked) domainEvent()     {}
func (DriverTold) domainEvent()   {}
func (DriverDone) domainEvent()   {}
func (StoreDone) domainEvent()    {}
func (Restore) domainEvent()      {}

func (SLSHold) domainAction()       {}
func (SLSCommit) domainAction()     {}
func (SLSDrop) domainAction()       {}
func (SLSRelease) domainAction()    {}
func (SLSReleaseLeg) domainAction() {}
func (SLSAsk) domainAction()        {}
func (DriverQuery) domainAction()   {}
func (DriverHold) domainAction()    {}
func (DriverCommit) domainAction()  {}
func (DriverDrop) domainAction()    {}
func (DriverRelease) domainAction() {}
func (StorePut) domainAction()      {}
func (StoreDelete) domainAction()   {}
func (Answer) domainAction()        {}
func (Note) domainAction()          {}
