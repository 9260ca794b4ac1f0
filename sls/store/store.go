// Package store keeps what must survive a crash: the SLSs, and a record of
// each committed reservation (interdomain-qosm §6: commit durably, then
// forward).
//
// A write is durable when its done function is called with nil, and not
// before. Writes take effect in the order of the calls. Their done functions
// are called in that order, from the store's own goroutine; they must not
// block.
package store

import (
	"errors"
	"io"
	"time"

	"github.com/interqos/interqos/sls"
)

// Record is one committed reservation.
type Record struct {
	ID       sls.ID
	Version  uint32 // the RSN that is committed
	Bookings []sls.Booking
	Session  []byte // opaque: the NSLP's snapshot
	Domain   []byte // opaque: the inter-domain state
}

// Errors that a caller tells apart.
var (
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store: closed")
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("store: another process has the file open")
	// ErrSchema: the file was written by a newer version of this program.
	ErrSchema = errors.New("store: schema is newer than this program knows")
	// ErrCorrupt: what is stored cannot be read.
	ErrCorrupt = errors.New("store: corrupt")
	// ErrRecord: a record that cannot be stored as it is.
	ErrRecord = errors.New("store: bad record")
	// ErrOverloaded: too many writes wait; this one was not taken.
	ErrOverloaded = errors.New("store: overloaded")
	// ErrUnknownOutcome: the disk failed while the end of a transaction was
	// written, so that it may or may not be found after a restart. The store
	// takes no more writes.
	ErrUnknownOutcome = errors.New("store: outcome of a write unknown, restart needed")
)

// Store keeps SLSs and reservations. Its methods may be called from any
// goroutine. The writing methods never block and keep nothing of what they are
// given. done, which may be nil, is called exactly once: before the method
// returns with ErrOverloaded (Put, Replace, PutSLS and PutTentative only: what makes
// room always finds some), ErrClosed or ErrRecord; else later, with nil or what went wrong. After
// an error nothing of the write is stored, but for ErrUnknownOutcome.
type Store interface {
	// Load returns everything that is stored: SLSs by id, records in no order.
	Load() ([]sls.SLS, []Record, error)
	// PutSLS stores an SLS for good, and remembers it for History.
	PutSLS(s sls.SLS, done func(error))
	// PutTentative stores an SLS, and in one with it that this is not for good.
	PutTentative(t Tentative, done func(error))
	// ConfirmSLS makes what PutTentative stored be for good, as PutSLS and
	// DeleteSLS do, too. Where there is nothing tentative it is success.
	ConfirmSLS(id string, n Note, done func(error))
	// Tentative returns what is not for good, by id.
	Tentative() ([]Tentative, error)
	// History returns the last MaxHistory changes of an SLS, the oldest first,
	// also of one that was deleted.
	History(id string) ([]Change, error)
	// DeleteSLS removes an SLS. Deleting what is not there is success.
	DeleteSLS(id string, n Note, done func(error))
	// Put adds a record, or replaces the one with its ID.
	Put(r Record, done func(error))
	// Replace is Put, and a Delete of gone, in one: a crash finds all of it or
	// none. What a preempting reservation displaces goes with its record.
	Replace(r Record, gone []sls.ID, done func(error))
	// Delete removes a reservation. Deleting what is not there is success.
	Delete(id sls.ID, done func(error))
	// Backup writes a copy of the store, as of now, while the store goes on.
	Backup(w io.Writer) (octets int64, err error)
	Stats() Stats
	// Close writes what is waiting, and ends the store.
	Close() error
}

// Note is who changed something, when and why.
type Note struct {
	By  string
	At  time.Time
	Why string
}

// Tentative is an SLS that its former terms replace at a time, unless it is
// confirmed before.
type Tentative struct {
	SLS    sls.SLS
	Former *sls.SLS // nil: it was new
	Until  time.Time
}

// Event is what happened to an SLS.
type Event uint8

// The events of a history.
const (
	Applied Event = iota
	Confirmed
	Deleted
)

// Change is one entry of an SLS's history.
type Change struct {
	Event Event
	SLS   sls.SLS // what was applied, confirmed or deleted
	Note
	Until time.Time // Applied and tentative: when it would be taken back; else zero
}

// MaxHistory bounds what is kept of the past of one SLS.
const MaxHistory = 100

// Stats counts what a store has and has done.
type Stats struct {
	SLSs, Records int
	Commits       uint64 // transactions made durable
	Writes        uint64 // operations in them
	Failed        uint64 // operations that failed
	Waiting       int    // operations not yet durable
	FileSize      int64  // octets; 0 where there is no file
}
