package transport

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"
)

// admission decides which accepted connections are kept. Until its first whole
// message is there a connection is silent, and nothing is known of who holds
// it: where there is no room, a silent one goes and not the newcomer, so that
// nobody can keep others out by connecting and saying nothing. It is guarded by
// TCP.mu. RFC 5971 §8.4
type admission struct {
	max, perPeer int
	reserved     int // of max, for expected peers only
	expected     func(netip.Addr) bool

	rate       int // TLS handshakes a second with strangers, and so many at once
	handshakes float64
	counted    time.Time // when handshakes was true

	total, strangers int // all; those of addresses that are not expected
	hosts            map[netip.Addr]*acceptedHost
	silent           list.List // of *conn, the oldest first
}

// acceptedHost counts one remote address's accepted connections.
type acceptedHost struct {
	conns, silent int
	expected      bool
}

// admit puts c on the books. Where that needs another connection's place, it is
// returned, off the books, for the caller to break off.
func (a *admission) admit(c *conn) (evicted *conn, err error) {
	from := c.remote.Addr()
	h := a.hosts[from]
	if h == nil {
		h = &acceptedHost{expected: a.expected != nil && a.expected(from)}
	}
	switch {
	case h.conns >= a.perPeer:
		if evicted = a.victim(func(_ *acceptedHost, of netip.Addr) bool { return of == from }); evicted == nil {
			return nil, fmt.Errorf("%d accepted connections from %v: %w", h.conns, from, ErrTooManyConns)
		}
	case !h.expected && a.strangers >= a.max-a.reserved:
		if evicted = a.victim(func(v *acceptedHost, _ netip.Addr) bool { return !v.expected }); evicted == nil {
			return nil, fmt.Errorf("%d accepted connections of strangers: %w", a.strangers, ErrTooManyConns)
		}
	case a.total >= a.max:
		if evicted = a.victim(func(v *acceptedHost, _ netip.Addr) bool { return h.expected || !v.expected }); evicted == nil {
			return nil, fmt.Errorf("%d accepted connections: %w", a.total, ErrTooManyConns)
		}
	}
	if evicted != nil {
		a.release(evicted)
	}
	a.hosts[from] = h
	h.conns++
	h.silent++
	a.total++
	if !h.expected {
		a.strangers++
	}
	c.silent = a.silent.PushBack(c)
	c.admitted = true
	return evicted, nil
}

// handshake says whether a TLS handshake with this address may begin now. To sign
// costs us more than it costs a stranger to ask, so that the connections are not
// all that has to be bounded: who stands, and who is expected, is not to wait for
// strangers' handshakes. RFC 5971 §8.4
func (a *admission) handshake(from netip.Addr, now time.Time) error {
	if a.expected != nil && a.expected(from) {
		return nil
	}
	a.handshakes = max(0, a.handshakes-max(0, now.Sub(a.counted).Seconds())*float64(a.rate))
	a.counted = now
	if a.handshakes+1 > float64(a.rate) {
		return fmt.Errorf("more than %d TLS handshakes of strangers in a second: %w", a.rate, ErrTooManyConns)
	}
	a.handshakes++
	return nil
}

// victim is the silent connection to give up, among those of hosts that may
// lose one: the oldest of the address that has most of them. An address with
// one connection keeps it as long as another has two.
func (a *admission) victim(may func(*acceptedHost, netip.Addr) bool) *conn {
	var found *conn
	most := 0
	for e := a.silent.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn) // nothing else is put there
		from := c.remote.Addr()
		if h := a.hosts[from]; h.silent > most && may(h, from) {
			found, most = c, h.silent
		}
	}
	return found
}

// heard says that a whole message came over c; false: c has lost its place.
func (a *admission) heard(c *conn) bool {
	if c.silent != nil {
		a.silent.Remove(c.silent)
		c.silent = nil
		a.hosts[c.remote.Addr()].silent--
	}
	return c.admitted
}

// release takes c off the books, once.
func (a *admission) release(c *conn) {
	if !c.admitted {
		return
	}
	a.heard(c)
	c.admitted = false
	from := c.remote.Addr()
	h := a.hosts[from]
	a.total--
	if !h.expected {
		a.strangers--
	}
	if h.conns--; h.conns == 0 {
		delete(a.hosts, from)
	}
}
