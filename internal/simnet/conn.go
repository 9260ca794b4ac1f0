package simnet

import (
	"net/netip"
	"slices"
	"time"
)

// Conn is one end of a connection that carries whole messages, in order, each
// once. Set the callbacks before the next Step.
type Conn struct {
	Local, Remote netip.AddrPort
	Up            func()       // on the dialling end, when the other side has accepted
	Message       func([]byte) // the octets are the receiver's
	Down          func(error)  // once, and never after this end's own Close

	net      *Net
	peer     *Conn
	up       bool
	closed   bool      // nothing more is sent or heard on this end
	lastAt   time.Time // when the last thing sent arrives: order is kept
	held     []func()  // what arrives at this end only after the partition
	giveUp   *Timer
	accepted bool
}

// Dial opens a connection from an address of a host to an address and port.
// Up or Down is called later, never from within Dial. Ports of dialling ends
// are chosen by the network.
func (n *Net) Dial(from netip.Addr, to netip.AddrPort) *Conn {
	n.seq++
	c := &Conn{Local: netip.AddrPortFrom(from, uint16(32768+n.seq%28000)), Remote: to, net: n}
	p := &Conn{Local: to, Remote: c.Local, net: n, peer: c, accepted: true}
	c.peer = p
	n.conns[c] = true
	c.transfer(p, func() {
		h := n.hosts[to.Addr()]
		if h == nil || h.down || h.Accept == nil || !h.Accept(p) {
			c.refuse()
			return
		}
		p.up = true
		p.transfer(c, func() {
			c.up = true
			if c.Up != nil {
				c.Up()
			}
		})
	})
	if n.cut[orderedPair(from, to.Addr())] {
		c.waitForHeal()
	}
	return c
}

func (c *Conn) refuse() {
	c.peer.closed = true
	c.peer.transfer(c, func() { c.fail(ErrRefused) })
}

// Send puts a message on the connection; the octets are copied. After the
// connection has ended it does nothing, as writing into a dead socket does.
func (c *Conn) Send(b []byte) {
	if c.closed {
		return
	}
	c.net.stats.Messages++
	if c.net.Tap != nil {
		c.net.Tap("tcp", c.Local, c.Remote, b)
	}
	b = append([]byte(nil), b...)
	p := c.peer
	c.transfer(p, func() {
		if !p.closed && p.Message != nil {
			p.Message(b)
		}
	})
}

// Close ends the connection after what was sent before; the other side hears
// ErrClosed.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.end()
	p := c.peer
	c.transfer(p, func() { p.fail(ErrClosed) })
}

// Break ends the connection at once for both sides with err, and loses what is
// on the way.
func (c *Conn) Break(err error) {
	c.fail(err)
	c.peer.fail(err)
}

// fail ends this end and tells its owner.
func (c *Conn) fail(err error) {
	if c.closed {
		return
	}
	c.end()
	if c.Down != nil {
		c.Down(err)
	}
}

func (c *Conn) end() {
	c.closed = true
	c.held = nil
	if c.giveUp != nil {
		c.giveUp.Stop()
	}
	if c.peer.closed {
		delete(c.net.conns, c)
		delete(c.net.conns, c.peer)
	}
}

// transfer runs fn at the other end when what was sent before has arrived.
// Loss shows as the delay of a retransmission.
func (c *Conn) transfer(to *Conn, fn func()) {
	n := c.net
	l := n.link(c.Local.Addr(), c.Remote.Addr())
	at := n.now.Add(l.delay(n.rng))
	for l.Loss > 0 && n.rng.Float64() < l.Loss {
		at = at.Add(2*l.Delay + 200*time.Millisecond)
	}
	if at.Before(c.lastAt) {
		at = c.lastAt
	}
	c.lastAt = at
	n.At(at, func() {
		if n.cut[orderedPair(c.Local.Addr(), c.Remote.Addr())] || len(to.held) > 0 {
			to.held = append(to.held, fn)
			return
		}
		fn()
	})
}

func (c *Conn) waitForHeal() {
	if c.giveUp != nil || c.closed {
		return
	}
	c.giveUp = c.net.After(c.net.StreamTimeout, func() {
		c.fail(ErrUnreachable)
		c.peer.fail(ErrUnreachable)
	})
}

func (c *Conn) release() {
	if c.giveUp != nil {
		c.giveUp.Stop()
		c.giveUp = nil
	}
	held := c.held
	c.held = nil
	for _, fn := range held { // before anything that is still on its way
		fn()
	}
}

// ends lists one end of each connection in a fixed order.
func (n *Net) ends() []*Conn {
	out := make([]*Conn, 0, len(n.conns))
	for c := range n.conns {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *Conn) int { return a.Local.Compare(b.Local) })
	return out
}

func (n *Net) between(a, b netip.Addr) []*Conn {
	var out []*Conn
	for _, c := range n.ends() {
		if orderedPair(c.Local.Addr(), c.Remote.Addr()) == orderedPair(a, b) {
			out = append(out, c)
		}
	}
	return out
}
