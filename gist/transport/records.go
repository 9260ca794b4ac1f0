package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// records is the TCP connection under a tls.Conn. During the handshake it only
// passes on. Afterwards it keeps the records that TLS makes, so that all of a
// batch leaves with one system call, written by whoever writes the connection;
// and it reads ahead, so that the small reads of TLS cost none.
type records struct {
	net.Conn
	in    *bufio.Reader
	limit int    // octets in out
	poke  func() // has the connection's writer look
	cut   bool   // the reader's: TCP has ended before TLS

	mu      sync.Mutex
	held    bool
	sealing bool   // who seals will look himself
	out     []byte // sealed, and not in the hands of who writes
}

var errRecords = errors.New("the peer has TLS send more than it reads")

const readAhead = 64 << 10 // several records

func newRecords(nc net.Conn, limit int, poke func()) *records {
	r := &records{Conn: nc, limit: limit, poke: poke}
	r.in = bufio.NewReaderSize(nc, strangersBuffer)
	return r
}

// hold ends the handshake.
func (r *records) hold() {
	r.mu.Lock()
	r.held = true
	r.mu.Unlock()
	// The peer has proved who it is: it gets a larger buffer, and what was read
	// ahead goes first.
	var source io.Reader = r.Conn
	if ahead := r.in.Buffered(); ahead > 0 {
		head, _ := r.in.Peek(ahead) // it is there
		source = io.MultiReader(bytes.NewReader(head), r.Conn)
	}
	r.in = bufio.NewReaderSize(source, readAhead)
}

func (r *records) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.cut = r.cut || errors.Is(err, io.EOF)
	return n, err
}

// Write gets whole records from TLS: messages that are being sealed, and alerts
// and key updates of its own.
func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	if !r.held {
		r.mu.Unlock()
		return r.Conn.Write(p)
	}
	if len(r.out)+len(p) > r.limit {
		r.mu.Unlock()
		return 0, errRecords
	}
	if r.out == nil {
		r.out = getBuffer()
	}
	r.out = append(r.out, p...)
	own := !r.sealing
	r.mu.Unlock()
	if own {
		r.poke()
	}
	return len(p), nil
}

// SetWriteDeadline does nothing after the handshake: TLS's own deadlines are
// not ours.
func (r *records) SetWriteDeadline(t time.Time) error {
	r.mu.Lock()
	held := r.held
	r.mu.Unlock()
	if held {
		return nil
	}
	return r.Conn.SetWriteDeadline(t)
}

func (r *records) SetDeadline(t time.Time) error {
	return errors.Join(r.Conn.SetReadDeadline(t), r.SetWriteDeadline(t))
}

// seal has TLS make records of messages, as few as possible.
func (r *records) seal(t *tls.Conn, messages []byte) error {
	if len(messages) == 0 {
		return nil
	}
	r.mu.Lock()
	r.sealing = true
	r.mu.Unlock()
	_, err := t.Write(messages)
	r.mu.Lock()
	r.sealing = false
	r.mu.Unlock()
	return err
}

// pending says whether there are records to write.
func (r *records) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.out) > 0
}

func (r *records) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.out
	r.out = nil
	return b
}

// try writes without waiting; false: something is left.
func (r *records) try(d *directWriter) (all bool, err error) {
	b := r.take()
	if len(b) == 0 {
		return true, nil
	}
	n, err := d.try(b)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case n < len(b): // what is left goes before what TLS made meanwhile
		r.out = append(b[:copy(b, b[n:])], r.out...)
	default:
		giveBack(b)
	}
	return len(r.out) == 0, nil
}

// drain writes everything, in the time given for each buffer.
func (r *records) drain(timeout time.Duration) error {
	for {
		b := r.take()
		if len(b) == 0 {
			return nil
		}
		if err := r.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if _, err := r.Conn.Write(b); err != nil {
			return err
		}
		giveBack(b)
		if err := r.Conn.SetWriteDeadline(time.Time{}); err != nil { // flush has none
			return err
		}
	}
}
