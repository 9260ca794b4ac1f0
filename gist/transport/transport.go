// Package transport has the sockets of GIST: UDP for D-mode (RFC 5971 §5.3) and
// TCP for messaging associations (§5.4, §5.7.2), alone or under TLS (§5.7.3). It carries out the actions of
// a gist.Machine that concern sockets and turns what arrives into its events.
// It runs on Linux.
//
// Events come in batches, by calls of a Handler. Lifecycle events are ordered
// and never dropped: a Handler that blocks holds back the socket that it reads
// from, until the peer's TCP or the kernel's UDP buffer is full. No method that
// carries out an action blocks or calls the Handler, so one goroutine may both
// take events and carry out actions.
package transport

import (
	"errors"

	"github.com/interqos/interqos/gist"
)

// Handler takes a batch of events, in order. The slice and all payloads in it
// are the receiver's for good: nothing is used again, and nothing needs to be
// released. A Handler is called from several goroutines, but never twice at a
// time for one connection or one UDP socket; it has to return for Close to
// return.
type Handler func(events []gist.Event)

// Stack is one way to carry messaging associations: TCP here, alone or
// under TLS. What happens to a connection comes back as
// gist.ConnUp, ConnAccepted, ConnMessage and ConnDown.
type Stack interface {
	// Connect opens a connection; ConnUp or ConnDown answers.
	Connect(gist.Connect) error
	// Send queues one whole message, in a copy. It and CloseConn are called from
	// one goroutine at a time.
	Send(gist.SendConn) error
	// CloseConn closes a connection after what was sent before; no event
	// follows.
	CloseConn(gist.CloseConn) error
	// Close closes all connections and waits until no Handler call runs any
	// more.
	Close() error
}

var (
	// ErrUnknownConn: there is no such connection (any more). Where it was one
	// that failed, its ConnDown has been or is being delivered.
	ErrUnknownConn = errors.New("unknown connection")
	// ErrDuplicateConn: Connect with an id that is in use.
	ErrDuplicateConn = errors.New("connection id in use")
	// ErrBackpressure: the peer takes messages more slowly than they were
	// sent, and the write queue's bound was reached.
	ErrBackpressure = errors.New("write queue full")
	// ErrFraming: what a peer sends is not a stream of GIST messages.
	ErrFraming = errors.New("no GIST message")
	// ErrMessageTooLong: a message is longer than the configured maximum.
	ErrMessageTooLong = errors.New("message longer than the maximum")
	// ErrTooManyConns: a connection was refused by a limit.
	ErrTooManyConns = errors.New("too many connections")
	// ErrIdle: no whole message came in time.
	ErrIdle = errors.New("no whole message in time")
	// ErrNoStack: Connect asked for a stack that is not configured.
	ErrNoStack = errors.New("stack not configured")
	// ErrClosed: the transport is closed.
	ErrClosed = errors.New("transport closed")
	// ErrNoSocket: no socket is bound to the local address asked for.
	ErrNoSocket = errors.New("no socket for the local address")
	// ErrRouterAlertIPv6: the hop-by-hop option needs CAP_NET_RAW.
	ErrRouterAlertIPv6 = errors.New("IPv6 router alert option needs CAP_NET_RAW")
)
