package node

import (
	"context"
	"sync"
	"time"

	"github.com/interqos/interqos/gist"
)

// What waits for one shard is bounded, in octets and apart from each other, so
// that a flood of datagrams does not hold connections up, nor one of strangers
// configured peers. Above its bound, what comes in datagrams is dropped and
// counted, as a full socket buffer would;
// what comes over connections waits for room, and the peers with it.
const (
	datagramsLimit   = 4 << 20
	connectionsLimit = 16 << 20
	eventOverhead    = 128 // counted for each event besides its payload
)

// sender is who may have sent a datagram.
type sender int

const (
	byStranger sender = iota
	byPeer            // it came from an address that is configured
	senders
)

// octets is what a batch of events counts.
func octets(events []gist.Event) (n int) {
	for _, ev := range events {
		n += eventOverhead
		switch e := ev.(type) {
		case gist.Datagram:
			n += len(e.Payload)
		case *gist.ConnMessage:
			n += len(e.Payload)
		}
	}
	return n
}

// inbox is the queue in front of a shard. Many goroutines put, and one at a time
// takes everything at once: whoever has claimed it.
type inbox struct {
	mu     sync.Mutex
	room   sync.Cond // there is room; after close: nobody is at work
	events []any
	// Octets of those from datagrams, and from connections.
	datagrams   [senders]int
	connections int

	busy   bool // claimed
	closed bool
	wake   chan struct{} // to the shard's loop; capacity 1
}

func (b *inbox) init() {
	b.room.L = &b.mu
	b.wake = make(chan struct{}, 1)
}

// put appends an event that must not be lost, an answer of our own store or
// driver or an API request, and has the shard's loop work on it. It never
// blocks: what these can have under way is bounded by who asked.
func (b *inbox) put(ev any) {
	b.mu.Lock()
	first := len(b.events) == 0 && !b.busy
	b.events = append(b.events, ev)
	b.mu.Unlock()
	if first {
		b.signal()
	}
}

// wait appends events from a connection, and blocks while the shard is far
// behind: the peer's window closes, nothing is lost. It is false after close.
// The caller calls lend next.
func (b *inbox) wait(ev any, octets int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.connections >= connectionsLimit && !b.closed {
		b.room.Wait()
	}
	if b.closed {
		return false
	}
	b.events = append(b.events, ev)
	b.connections += octets
	return true
}

// offer appends a datagram's event unless the shard is far behind. The caller
// calls lend next.
func (b *inbox) offer(ev any, octets int, from sender) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.datagrams[from]+octets > datagramsLimit || b.closed {
		return false
	}
	b.events = append(b.events, ev)
	b.datagrams[from] += octets
	return true
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// claim makes the caller the one who takes, until leave. It is false if there
// is nothing to take, or somebody else is at it: he, or the loop after him,
// takes what the caller has put.
func (b *inbox) claim() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.closed || len(b.events) == 0 {
		return false
	}
	b.busy = true
	return true
}

// leave ends a claim, and says whether there is more by now.
func (b *inbox) leave() (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	if b.closed {
		b.room.Broadcast()
	}
	return len(b.events) > 0
}

// take swaps the queue for an empty one.
func (b *inbox) take(empty []any) []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.connections >= connectionsLimit {
		b.room.Broadcast()
	}
	evs := b.events
	b.events = empty[:0]
	b.datagrams, b.connections = [senders]int{}, 0
	return evs
}

// close waits until nobody is at work, and nobody will be.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.room.Broadcast()
	for b.busy {
		b.room.Wait()
	}
}

func (s *shard) init() {
	s.inbox.init()
	s.timer = time.NewTimer(time.Hour)
}

// timerFired is the event of the shard's timer.
type timerFired struct{}

// run is a shard's loop. Only who has claimed the inbox touches the shard's
// machines: this loop, or a reader that has lent itself.
func (s *shard) run(ctx context.Context) {
	defer s.timer.Stop()
	s.inbox.put(timerFired{}) // arms it
	for {
		for s.inbox.claim() {
			s.turn()
			s.inbox.leave()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.inbox.wake:
		case <-s.timer.C:
			s.inbox.put(timerFired{})
		}
	}
}

// lend has a reader work on what it has put itself, if nobody is at it: that is
// cheaper than to wake the loop for a message or two. What comes in meanwhile
// is the loop's.
func (s *shard) lend() {
	if !s.inbox.claim() {
		return
	}
	s.turn()
	if s.inbox.leave() {
		s.inbox.signal()
	}
}

// maxRounds bounds how often a turn looks into the inbox again before it sends
// what was made: an answer that a driver or a store gives at once is there
// by then.
const maxRounds = 4

// turn works on everything that is in the inbox, and on what is due.
func (s *shard) turn() {
	for range maxRounds {
		evs := s.inbox.take(s.spare)
		s.work(evs)
		s.spare = evs
		if len(evs) == 0 {
			break
		}
	}
	now := s.now()
	if due(now, s.qne.deadline()) {
		s.qne.handle(now, nil)
	}
	s.watched(now)
	s.flush()
	s.arm(now)
}

func (s *shard) work(evs []any) {
	for i, ev := range evs {
		now := s.now()
		switch e := ev.(type) {
		case func():
			e()
		case timerFired:
			s.armed = time.Time{}
		case []gist.Event:
			for _, one := range e {
				s.heard(one)
				s.qne.handle(now, one)
			}
		default:
			s.qne.handle(now, ev)
		}
		evs[i] = nil
	}
}

// arm sets the shard's one timer for the earliest deadline of its machines. A
// deadline that moved back is looked at when the old one comes.
func (s *shard) arm(now time.Time) {
	d := s.qne.deadline()
	if d.IsZero() || !s.armed.IsZero() && !d.Before(s.armed) {
		return
	}
	s.armed = d
	s.timer.Reset(max(d.Sub(now), 0))
}

// call runs f in the shard's loop and waits for it.
func (s *shard) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	s.inbox.put(func() { f(); close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errStopped
	}
}
