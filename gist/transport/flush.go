package transport

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a node answers with is mostly a message or two, and the kernel has room
// for them: whoever made them writes them himself. That saves waking the
// writer for each, which costs more than to write.

// directWriter writes to a connection without waiting.
type directWriter struct {
	raw   syscall.RawConn              // nil: there is no direct way
	write func(fd uintptr) (done bool) // made once, not for each write
	batch []byte
	n     int
	err   error
}

func (d *directWriter) open(nc net.Conn) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return // the writer will see what is wrong with it
	}
	d.raw = raw
	d.write = func(fd uintptr) bool {
		d.n, d.err = unix.Write(int(fd), d.batch)
		return true
	}
}

// try writes as much of batch as the kernel takes now.
func (d *directWriter) try(batch []byte) (int, error) {
	d.batch, d.n, d.err = batch, 0, nil
	err := d.raw.Write(d.write)
	d.batch = nil
	if err == nil {
		err = d.err
	}
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return d.n, nil
}

// stageMost is how many octets may wait for flush before they count as queued.
const stageMost = 64 << 10

// stage has a message wait for flush. That takes no lock.
func (c *conn) stage(payload []byte) error {
	if c.staged == nil {
		c.staged = getBuffer()
	}
	c.staged = append(c.staged, payload...)
	if len(c.staged) < stageMost {
		return nil
	}
	return c.unstage()
}

// unstage puts what is staged into the queue; the writer is not told.
func (c *conn) unstage() error {
	b := c.staged
	c.staged = nil
	if len(b) == 0 {
		return nil
	}
	return c.enqueue(b, true)
}

// flush writes what is staged and queued without waiting, and leaves to the
// writer what the kernel does not take now.
func (c *conn) flush() {
	_ = c.unstage() // a connection that refuses is lost, and says so itself
	c.mu.Lock()
	if c.writing || c.direct.raw == nil || c.cause != nil || len(c.queue) == 0 || c.tls != nil && c.tls.wire.pending() {
		c.mu.Unlock()
		c.poke()
		return
	}
	batch := c.queue
	c.queue = nil
	c.writing = true
	c.mu.Unlock()
	if c.tls != nil {
		c.flushTLS(batch)
		return
	}

	n, err := c.direct.try(batch)
	if err != nil {
		c.fail(fmt.Errorf("write to %v: %w", c.remote, err))
		return // as the writer does: nothing is written any more
	}
	c.mu.Lock()
	c.writing = false
	c.written(n)
	switch {
	case c.cause != nil: // nothing is written any more
	case n < len(batch): // the rest goes before what came meanwhile
		c.queue = append(batch[:copy(batch, batch[n:])], c.queue...)
	default:
		giveBack(batch)
	}
	more := len(c.queue) > 0 || c.closing
	c.mu.Unlock()
	if more {
		c.poke()
	}
}
