package transport

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

const (
	writeChunk      = 256 << 10 // at most so much is written under one deadline
	readBuffer      = 16 << 10
	busyReadBuffer  = 64 << 10 // of a connection that has filled the usual one
	strangersBuffer = 2 << 10  // until the first whole message of an accepted connection
)

// conn is one connection: a goroutine that reads, which is also the only one to
// deliver its events, and one that writes what flush could not.
type conn struct {
	t        *TCP
	id       gist.ConnID
	accepted bool

	// Set before the goroutines start.
	local, remote netip.AddrPort
	stack         gist.Stack
	nc            net.Conn
	tls           *tlsState // nil: the stack has no TLS
	direct        directWriter
	cancelDial    context.CancelFunc

	wake chan struct{} // tells the writer; capacity 1
	dead chan struct{} // closed by the reader when it has ended

	mu      sync.Mutex
	queue   []byte // whole messages, not yet taken to be written
	queued  int    // octets in the queue and in the hands of who writes
	writing bool   // the writer, or flush, has taken messages
	ready   bool   // it stands, with all the protocols of its stack
	closing bool   // no more messages; close when the queue is written
	cause   error  // why the connection failed; nil: it has not

	announced bool // the reader's: ConnAccepted or ConnUp was delivered

	// Of who calls Queue and Flush.
	staged  []byte // whole messages that wait for Flush
	flushes bool   // on its list

	// The admission's, guarded by t.mu.
	admitted bool          // on its books
	silent   *list.Element // no message yet
}

func newConn(t *TCP, id gist.ConnID) *conn {
	return &conn{t: t, id: id, wake: make(chan struct{}, 1), dead: make(chan struct{})}
}

// dial opens the connection and serves it.
func (c *conn) dial(ctx context.Context, a gist.Connect) {
	nc, err := c.open(ctx, a)
	if err == nil && a.Stack == gist.StackTLS {
		c.mu.Lock()
		c.secure(nc)
		c.mu.Unlock()
		err = c.handshake(ctx)
	}
	c.mu.Lock()
	if err == nil {
		c.local = addrPort(nc.LocalAddr())
		if c.tls == nil {
			c.nc = nc
		}
		c.direct.open(nc)
		c.ready = true
	}
	closing := c.closing // CloseConn came first
	c.mu.Unlock()
	if err != nil {
		c.fail(err)
		close(c.dead)
		c.deliverDown()
		return
	}
	c.announced = true
	if !closing {
		c.t.cfg.Handler([]gist.Event{gist.ConnUp{Conn: c.id, Certificate: c.certificate()}})
	}
	c.poke()
	c.run()
}

// open opens the lowest protocol of the stack.
func (c *conn) open(ctx context.Context, a gist.Connect) (net.Conn, error) {
	if a.Stack == gist.StackSCTP {
		ctx, cancel := context.WithTimeout(ctx, c.t.cfg.DialTimeout)
		defer cancel()
		return c.t.cfg.SCTP.dial(ctx, a.Local, a.To)
	}
	d := net.Dialer{Timeout: c.t.cfg.DialTimeout, Control: c.t.prepare}
	if a.Local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Local, 0))
	}
	return d.DialContext(ctx, "tcp", a.To.String())
}

// certificate is what the peer's says; nil where the stack has none.
func (c *conn) certificate() *gist.Certificate {
	if c.tls == nil {
		return nil
	}
	return c.tls.facts
}

// serve serves an accepted connection.
func (c *conn) serve(nc net.Conn) {
	if c.tls != nil {
		if err := c.handshake(context.Background()); err != nil {
			c.fail(err)
			close(c.dead)
			c.deliverDown()
			return
		}
	}
	c.mu.Lock()
	c.direct.open(nc)
	c.ready = true
	c.mu.Unlock()
	c.run()
}

// run serves a connection that stands until it is closed.
func (c *conn) run() {
	c.t.wait.Go(c.write)
	err := c.read()
	c.fail(err)
	close(c.dead)
	c.deliverDown()
}

// deliverDown ends a connection: ConnDown is its last event, unless we closed
// it ourselves or the machine never heard of it.
func (c *conn) deliverDown() {
	c.mu.Lock()
	cause, closing := c.cause, c.closing
	c.mu.Unlock()
	c.t.forget(c)
	switch {
	case closing:
	case c.accepted && !c.announced:
		c.t.cfg.OnError(c.remote, cause)
	default:
		c.t.cfg.Handler([]gist.Event{gist.ConnDown{Conn: c.id, Err: cause}})
	}
}

// fail breaks the connection off; the first cause counts.
func (c *conn) fail(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
		c.written(c.queued) // nobody will
		c.queue = nil
	}
	nc := c.nc
	c.mu.Unlock()
	if c.cancelDial != nil {
		c.cancelDial()
	}
	if nc != nil {
		_ = nc.Close()
	}
}

// enqueue puts messages into the queue, for poke to have them written; where
// owned, b becomes the connection's.
func (c *conn) enqueue(b []byte, owned bool) error {
	c.mu.Lock()
	err := c.refusal(len(b))
	if err == nil {
		c.put(b, owned)
	}
	c.mu.Unlock()
	switch {
	case err == nil:
		c.t.count(len(b))
	case owned:
		giveBack(b)
	}
	return c.refused(err)
}

// takes says whether n more octets can be queued.
func (c *conn) takes(n int) error {
	c.mu.Lock()
	err := c.refusal(n)
	c.mu.Unlock()
	return c.refused(err)
}

// refused breaks the connection off where err is that its queue is full.
func (c *conn) refused(err error) error {
	if errors.Is(err, ErrBackpressure) {
		c.fail(err)
	}
	return err
}

// refusal says why n more octets cannot be queued. c.mu is held.
func (c *conn) refusal(n int) error {
	switch {
	case c.cause != nil:
		return fmt.Errorf("connection %d: %w", c.id, c.cause)
	case c.closing:
		return fmt.Errorf("connection %d is being closed: %w", c.id, ErrUnknownConn)
	case c.queued+n > c.t.cfg.QueueBytes:
		return fmt.Errorf("%d octets queued for %v, want at most %d: %w", c.queued, c.remote, c.t.cfg.QueueBytes, ErrBackpressure)
	}
	return nil
}

// put adds to the queue. c.mu is held.
func (c *conn) put(b []byte, owned bool) {
	c.queued += len(b)
	switch {
	case len(c.queue) == 0 && owned:
		giveBack(c.queue)
		c.queue = b
		return
	case c.queue == nil:
		c.queue = getBuffer()
	}
	c.queue = append(c.queue, b...)
	if owned {
		giveBack(b)
	}
}

// written takes octets off the books. c.mu is held.
func (c *conn) written(n int) {
	if n = min(n, c.queued); n > 0 { // of a connection that has failed nothing is left
		c.queued -= n
		c.t.queued.Add(-int64(n))
	}
}

func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) closeGracefully() {
	c.mu.Lock()
	c.closing = true
	pointless := !c.ready && len(c.queue) == 0
	c.mu.Unlock()
	switch {
	case pointless && c.accepted:
		c.fail(ErrClosed)
	case pointless:
		c.cancelDial()
	}
	c.poke()
}

// write writes what is queued, everything at once, until the connection ends.
// RFC 5971 §5.4: messages awaiting transmission are bundled, none waits for
// more to come.
func (c *conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.dead:
			return
		}
		for {
			c.mu.Lock()
			if c.writing { // flush is at it, and pokes if it leaves anything
				c.mu.Unlock()
				break
			}
			batch := c.queue
			c.queue = nil
			c.writing = len(batch) > 0 || c.tls != nil && c.tls.wire.pending()
			closing, work := c.closing, c.writing
			c.mu.Unlock()
			if !work {
				if closing {
					c.finish()
					return
				}
				break
			}
			if err := c.writeAll(batch); err != nil {
				c.fail(fmt.Errorf("write to %v: %w", c.remote, err))
				return
			}
			giveBack(batch)
			c.mu.Lock()
			c.writing = false
			c.mu.Unlock()
		}
	}
}

// writeAll writes a batch, each chunk of it under a deadline of its own.
func (c *conn) writeAll(batch []byte) error {
	if c.tls != nil {
		return c.writeTLS(batch)
	}
	for len(batch) > 0 {
		n := min(len(batch), writeChunk)
		if c.stack == gist.StackSCTP { // of which each Write is one message
			n, _ = wire.MessageLength(batch) // ours
		}
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.t.cfg.WriteTimeout)); err != nil {
			return err
		}
		if _, err := c.nc.Write(batch[:n]); err != nil {
			return err
		}
		batch = batch[n:]
		c.mu.Lock()
		c.written(n)
		c.mu.Unlock()
	}
	return c.nc.SetWriteDeadline(time.Time{}) // flush has none
}

// finish ends our side after all was written, and gives the peer time to end
// its own: closing at once could take back what it has not read yet.
func (c *conn) finish() {
	if c.closeWrite() == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(c.t.cfg.CloseTimeout))
		select {
		case <-c.dead: // the reader saw the peer's end or the deadline
			return
		case <-time.After(2 * c.t.cfg.CloseTimeout):
		}
	}
	c.fail(net.ErrClosed)
}

// closeWrite ends our side: TLS says so before TCP does.
func (c *conn) closeWrite() error {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if err := half.CloseWrite(); err != nil || c.tls == nil {
		return err
	}
	return c.tls.wire.drain(c.t.cfg.CloseTimeout)
}

// isClosing says whether CloseConn was called: what still arrives is of no
// interest.
func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// read takes the stream apart into messages until it ends; the error says why.
// RFC 5971 §5.4
func (c *conn) read() error {
	size := readBuffer
	if c.accepted {
		size = strangersBuffer
	}
	buf := make([]byte, size)
	have := 0
	deadline := false
	var foreign error // set: the stream is of a version of GIST that is not known
	if c.accepted {
		// Strangers get as long for their first message.
		c.setReadDeadline(&deadline, true)
	}
	for {
		n, err := c.nc.Read(buf[have:])
		have += n
		if n > 0 && c.tls != nil {
			c.tls.worked = true
		}
		if n > 0 && foreign == nil && !c.isClosing() {
			full := have == len(buf) && c.tls == nil // of which a read is one record at most
			whole, count, need, ferr := c.t.frame(buf[:have])
			if errors.Is(ferr, ErrFraming) {
				// The machine gets the header, to answer and to close: "the receiver
				// MUST if possible return a 'Common Header Parse Error'" (RFC 5971
				// §A.1). What follows cannot be read.
				foreign, ferr = ferr, nil
				whole, count = whole+wire.HeaderLen, count+1
			}
			if whole > 0 {
				c.deliver(buf[:whole], count)
				have = copy(buf, buf[whole:have])
			}
			if ferr != nil {
				return fmt.Errorf("from %v: %w", c.remote, ferr)
			}
			if foreign != nil {
				have = 0
				c.setReadDeadline(&deadline, true)
				continue
			}
			if size := c.bufferSize(have, need, len(buf), full && count > 1); size != len(buf) {
				buf = append(make([]byte, 0, size), buf[:have]...)[:size]
			}
			// The rest of a message has to come in time, counted from its
			// first octets.
			if partial := have > 0 || !c.announced; partial != deadline || whole > 0 {
				c.setReadDeadline(&deadline, partial)
			}
		} else if n > 0 {
			have = 0
		}
		if err != nil && foreign != nil {
			return fmt.Errorf("from %v: %w", c.remote, foreign)
		}
		if err != nil {
			return c.readError(err, have)
		}
	}
}

// bufferSize is how large the read buffer should be, with have octets in it and
// the next message of need octets, if known: a length in a header is but a
// claim, so that the buffer grows with what has come, and shrinks after it. Busy
// says that one read has filled it with several messages: then there is more.
func (c *conn) bufferSize(have, need, size int, busy bool) int {
	switch {
	case have == size:
		return min(need, 2*size) // need is more: else a whole message would be there
	case c.announced && busy:
		return max(size, busyReadBuffer)
	case c.announced && (size < readBuffer || have == 0 && size != busyReadBuffer):
		return readBuffer
	}
	return size
}

// setReadDeadline starts or stops the time for a message to arrive.
func (c *conn) setReadDeadline(set *bool, on bool) {
	if !on && !*set {
		return
	}
	var when time.Time
	if on {
		when = time.Now().Add(c.t.cfg.MessageTimeout)
	}
	*set = on
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing { // finish has a deadline of its own
		_ = c.nc.SetReadDeadline(when)
	}
}

func (c *conn) readError(err error, have int) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF) && have > 0:
		return fmt.Errorf("from %v: end of stream after %d octets of a message: %w", c.remote, have, io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF) && c.tls != nil && c.tls.wire.cut:
		return fmt.Errorf("from %v: end of stream without TLS's close_notify: %w", c.remote, io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("from %v: %d octets in %v: %w", c.remote, have, c.t.cfg.MessageTimeout, ErrIdle)
	case c.tls != nil && !c.tls.worked && refusal(err):
		// In TLS 1.3 a client hears only now that its certificate is not wanted.
		return handshakeError(c.remote, err)
	}
	return err
}

// frame says how many octets of b are whole messages, how many those are, and
// how long the buffer has to be for the next one, as far as that is known.
func (t *TCP) frame(b []byte) (whole, count, need int, err error) {
	for ; len(b)-whole >= wire.HeaderLen; count++ {
		n, err := wire.MessageLength(b[whole:])
		if err != nil {
			return whole, count, 0, fmt.Errorf("%w: %w", ErrFraming, err)
		}
		if n > t.cfg.MaxMessage {
			return whole, count, 0, fmt.Errorf("%d octets, want at most %d: %w", n, t.cfg.MaxMessage, ErrMessageTooLong)
		}
		if n > len(b)-whole {
			return whole, count, n, nil
		}
		whole += n
	}
	return whole, count, wire.HeaderLen, nil
}

// deliver hands on count whole messages, in a copy of their own. A connection
// that a stranger opened is announced together with its first message.
func (c *conn) deliver(b []byte, count int) {
	if !c.announced && !c.t.heard(c) {
		return // the connection is broken off; the next read says so
	}
	b = append([]byte(nil), b...) // which zeroes nothing before
	messages := make([]gist.ConnMessage, count)
	events := make([]gist.Event, 0, count+1)
	if !c.announced {
		c.announced = true
		events = append(events, gist.ConnAccepted{
			Conn: c.id, Local: c.local, Remote: c.remote, Stack: c.stack, Certificate: c.certificate(),
		})
	}
	for i := range messages {
		n, err := wire.MessageLength(b)
		if err != nil { // of another version: the header alone
			n = wire.HeaderLen
		}
		messages[i] = gist.ConnMessage{Conn: c.id, Payload: b[:n:n]}
		events = append(events, &messages[i])
		b = b[n:]
	}
	c.t.cfg.Handler(events)
}
