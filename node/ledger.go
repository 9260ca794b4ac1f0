package node

import (
	"sync"
	"time"

	"github.com/interqos/interqos/sls"
)

// sharedLedger is the AS's one ledger, used by every shard and by the admin
// API. Everything under the lock is memory.
type sharedLedger struct {
	mu sync.Mutex
	l  *sls.Ledger
}

func (s *sharedLedger) Hold(now time.Time, r sls.Request) (sls.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l.Hold(now, r)
}

// Commit also returns what it has displaced, under the same lock.
func (s *sharedLedger) Ask(now time.Time, r sls.Request, limit int) (sls.Quote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l.Ask(now, r, limit)
}

func (s *sharedLedger) Commit(now time.Time, id sls.ID, version uint32, rate uint64) (b []sls.Booking, displaced []sls.ID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err = s.l.Commit(now, id, version, rate)
	return b, s.l.Displaced(), err
}

func (s *sharedLedger) Drop(id sls.ID, version uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l.Drop(id, version)
}

func (s *sharedLedger) Release(id sls.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l.Release(id)
}

func (s *sharedLedger) ReleaseLeg(id sls.ID, leg sls.Leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.l.ReleaseLeg(id, leg)
}

// with runs f with the ledger locked.
func (s *sharedLedger) with(f func(*sls.Ledger)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.l)
}

// expire gives up holds that are too old and reservations whose SLS is no
// longer available, and returns those that have nothing left.
func (s *sharedLedger) expire(now time.Time) (ended []sls.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !due(now, s.l.Deadline()) {
		return nil
	}
	for _, id := range s.l.Expire(now) {
		if len(s.l.Bookings(id)) == 0 {
			ended = append(ended, id)
		}
	}
	return ended
}
