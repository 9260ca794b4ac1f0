// Package simnet is a network in memory: datagrams that are lost, late, out of
// order and doubled, byte-message connections that are ordered until they
// break, and a clock that moves only when an event is due.
//
// There are no goroutines. Every callback runs inside Step, one after the
// other, in an order that depends on the seed alone: a failing run is repeated
// by its seed. A Net is used from one goroutine.
//
// It carries opaque octets between addresses and knows no protocol, so that
// the machines of any layer, or a whole AS, can stand on it.
package simnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Errors that a connection ends with.
var (
	// ErrRefused: nobody listens at the address.
	ErrRefused = errors.New("simnet: connection refused")
	// ErrClosed: the other side closed the connection.
	ErrClosed = errors.New("simnet: closed by the other side")
	// ErrUnreachable: the network was cut for longer than StreamTimeout.
	ErrUnreachable = errors.New("simnet: unreachable")
	// ErrReset: the test broke the connection, or a host went away.
	ErrReset = errors.New("simnet: connection reset")
)

// Link is how a pair of addresses is connected. The zero value is perfect.
type Link struct {
	Loss      float64       // probability that a datagram is lost
	Duplicate float64       // probability that a datagram arrives twice
	Delay     time.Duration // one way, at least
	Jitter    time.Duration // up to this much more, drawn anew each time: datagrams overtake each other
	Hops      uint8         // how much the TTL falls on the way
}

// Datagram is a datagram on its way.
type Datagram struct {
	From, To    netip.AddrPort
	TTL         uint8 // 0: not told
	RouterAlert bool
	Payload     []byte
}

// Host is what is attached at one or several addresses. A nil callback
// discards.
type Host struct {
	Name string
	// Datagram gets a datagram addressed to, or diverted to, the host. Payload
	// is the receiver's.
	Datagram func(Datagram)
	// Accept gets a connection that somebody opened to port; false refuses.
	Accept func(*Conn) bool
	down   bool
}

// Stats counts what the network did.
type Stats struct {
	Sent, Delivered, Lost, Duplicated, Unroutable uint64
	Messages                                      uint64 // on connections
}

// Net is the network and its clock. Make one with New.
type Net struct {
	// Default is the link between addresses that SetLink does not name.
	Default Link
	// StreamTimeout is how long a connection lives across a partition.
	StreamTimeout time.Duration
	// Divert, where set, sees each datagram when it arrives and may name
	// another host to get it: a router on the path that intercepts. Nil leaves
	// it to the destination.
	Divert func(Datagram) *Host
	// Tap, where set, sees each datagram and connection message as it is sent:
	// kind is "udp" or "tcp". It must not change payload.
	Tap func(kind string, from, to netip.AddrPort, payload []byte)

	now    time.Time
	rng    *rand.Rand
	queue  queue
	seq    uint64
	hosts  map[netip.Addr]*Host
	links  map[pair]Link
	cut    map[pair]bool
	conns  map[*Conn]bool // one of each two ends
	stats  Stats
	inStep bool
}

type pair struct{ a, b netip.Addr }

func orderedPair(a, b netip.Addr) pair {
	if b.Less(a) {
		a, b = b, a
	}
	return pair{a, b}
}

// New makes an empty network whose chances follow seed and whose clock shows
// start.
func New(seed uint64, start time.Time) *Net {
	return &Net{
		StreamTimeout: 20 * time.Second,
		now:           start,
		rng:           rand.New(rand.NewPCG(seed, 0x5eed)),
		hosts:         map[netip.Addr]*Host{},
		links:         map[pair]Link{},
		cut:           map[pair]bool{},
		conns:         map[*Conn]bool{},
	}
}

// Now is the network's time.
func (n *Net) Now() time.Time { return n.now }

// Rand is the network's source of chance, for tests that must follow the same
// seed.
func (n *Net) Rand() *rand.Rand { return n.rng }

// Stats returns the counts so far.
func (n *Net) Stats() Stats { return n.stats }

// Attach puts a host at addresses, in place of what was there.
func (n *Net) Attach(h *Host, addrs ...netip.Addr) {
	for _, a := range addrs {
		n.hosts[a] = h
	}
}

// SetLink sets the link between two addresses, in both directions.
func (n *Net) SetLink(a, b netip.Addr, l Link) { n.links[orderedPair(a, b)] = l }

// Partition cuts two addresses from each other. Datagrams are lost;
// connections wait, and break after StreamTimeout.
func (n *Net) Partition(a, b netip.Addr) {
	n.cut[orderedPair(a, b)] = true
	for _, c := range n.between(a, b) {
		c.waitForHeal()
	}
}

// Heal ends a partition.
func (n *Net) Heal(a, b netip.Addr) {
	delete(n.cut, orderedPair(a, b))
	for _, c := range n.between(a, b) {
		c.release()
		c.peer.release()
	}
}

// Down takes a host off the network, as a crash does: its connections break
// for the other side, at once if reset is set and at StreamTimeout otherwise.
// Timers that it set with At still run; they are its own affair.
func (n *Net) Down(h *Host, reset bool) {
	h.down = true
	for _, c := range n.ends() {
		for _, e := range [2]*Conn{c, c.peer} {
			if n.hosts[e.Local.Addr()] != h || e.closed {
				continue
			}
			e.closed = true
			e.held = nil
			if reset {
				e.peer.fail(ErrReset)
			} else {
				e.peer.waitForHeal()
			}
		}
	}
}

// Up puts a host back after Down, without connections.
func (n *Net) Up(h *Host) { h.down = false }

func (n *Net) link(a, b netip.Addr) Link {
	if l, ok := n.links[orderedPair(a, b)]; ok {
		return l
	}
	return n.Default
}

func (l Link) delay(r *rand.Rand) time.Duration {
	d := l.Delay
	if l.Jitter > 0 {
		d += time.Duration(r.Int64N(int64(l.Jitter)))
	}
	return d
}

// Send puts a datagram on the network. The payload is copied.
func (n *Net) Send(d Datagram) {
	n.stats.Sent++
	if n.Tap != nil {
		n.Tap("udp", d.From, d.To, d.Payload)
	}
	l := n.link(d.From.Addr(), d.To.Addr())
	copies := 1
	if l.Duplicate > 0 && n.rng.Float64() < l.Duplicate {
		copies = 2
		n.stats.Duplicated++
	}
	for range copies {
		if l.Loss > 0 && n.rng.Float64() < l.Loss {
			n.stats.Lost++
			continue
		}
		c := d
		c.Payload = append([]byte(nil), d.Payload...)
		if c.TTL > 0 {
			if c.TTL <= l.Hops {
				n.stats.Lost++
				continue
			}
			c.TTL -= l.Hops
		}
		n.At(n.now.Add(l.delay(n.rng)), func() { n.deliver(c) })
	}
}

func (n *Net) deliver(d Datagram) {
	if n.cut[orderedPair(d.From.Addr(), d.To.Addr())] {
		n.stats.Lost++
		return
	}
	h := n.hosts[d.To.Addr()]
	if n.Divert != nil {
		if other := n.Divert(d); other != nil {
			h = other
		}
	}
	if h == nil || h.down || h.Datagram == nil {
		n.stats.Unroutable++
		return
	}
	n.stats.Delivered++
	h.Datagram(d)
}

// Timer is a callback that can be stopped.
type Timer struct{ fn func() }

// Stop keeps the callback from running. It may be called at any time.
func (t *Timer) Stop() { t.fn = nil }

// At runs fn when the clock reaches t, or in the next Step if it already has.
func (n *Net) At(t time.Time, fn func()) *Timer {
	if t.Before(n.now) {
		t = n.now
	}
	tm := &Timer{fn: fn}
	n.seq++
	n.queue.push(item{t, n.seq, tm})
	return tm
}

// After runs fn when d has passed.
func (n *Net) After(d time.Duration, fn func()) *Timer { return n.At(n.now.Add(d), fn) }

// Next is the time of the next event; false if there is none.
func (n *Net) Next() (time.Time, bool) {
	for len(n.queue) > 0 && n.queue[0].timer.fn == nil {
		n.queue.pop()
	}
	if len(n.queue) == 0 {
		return time.Time{}, false
	}
	return n.queue[0].at, true
}

// Step moves the clock to the next event and runs it; false if there is none.
func (n *Net) Step() bool {
	if n.inStep {
		panic("simnet: Step from inside a callback")
	}
	if _, ok := n.Next(); !ok {
		return false
	}
	it := n.queue.pop()
	n.now = it.at
	fn := it.timer.fn
	it.timer.fn = nil
	n.inStep = true
	fn()
	n.inStep = false
	return true
}

// RunUntil runs every event up to and including t, and sets the clock to t.
func (n *Net) RunUntil(t time.Time) {
	for {
		at, ok := n.Next()
		if !ok || at.After(t) {
			break
		}
		n.Step()
	}
	if n.now.Before(t) {
		n.now = t
	}
}

// Run runs the network for d.
func (n *Net) Run(d time.Duration) { n.RunUntil(n.now.Add(d)) }

// WaitFor runs events until cond holds, which is asked after each of them, for
// at most limit of the network's time. It says whether cond held.
func (n *Net) WaitFor(limit time.Duration, cond func() bool) bool {
	end := n.now.Add(limit)
	for !cond() {
		at, ok := n.Next()
		if !ok || at.After(end) {
			n.now = end
			return cond()
		}
		n.Step()
	}
	return true
}

func (s Stats) String() string {
	return fmt.Sprintf("sent %d delivered %d lost %d doubled %d unroutable %d messages %d",
		s.Sent, s.Delivered, s.Lost, s.Duplicated, s.Unroutable, s.Messages)
}
