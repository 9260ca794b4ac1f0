package gist

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// Errors of MessageStatus. They come wrapped with detail.
var (
	ErrNoPeer        = errors.New("gist: nobody answered the Query")
	ErrTimeout       = errors.New("gist: the message's time is over")
	ErrPeerRefused   = errors.New("gist: the peer, or a node on the way to it, refused")
	ErrTooLarge      = errors.New("gist: message too large")
	ErrNoRoute       = errors.New("gist: no way to send a Query for this MRI")
	ErrNoAssociation = errors.New("gist: no messaging association with the peer")
	ErrQueueFull     = errors.New("gist: too much is waiting already")
	ErrLimit         = errors.New("gist: limit reached")
	ErrNoSecurity    = errors.New("gist: no secure transport: TLS is not configured")
	ErrUnknownSII    = errors.New("gist: unknown SII handle")
	ErrSelf          = errors.New("gist: this node is the message's destination")
	ErrUnknownNSLPID = errors.New("gist: NSLPID not served here")
	ErrBadData       = errors.New("gist: NSLP data is empty or not a whole number of words")
	ErrHopCount      = errors.New("gist: the GIST hop count is used up")
	ErrBadMRI        = errors.New("gist: the MRI cannot be sent")
	ErrForgotten     = errors.New("gist: the routing state was given up")
	// ErrAuthentication: the two ends could not agree on who they are. ErrNotAuthorised:
	// the peer has proved who it is, and is not to be our peer for this flow.
	ErrAuthentication = errors.New("gist: the peers could not authenticate each other")
	ErrNotAuthorised  = errors.New("gist: the peer is not authorised")
)

// RefusedError is what a GIST Error message said. It is an ErrPeerRefused.
type RefusedError struct {
	ID   wire.ErrorID
	From netip.Addr // who sent it
	Text string     // its debugging comment
}

func (e *RefusedError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("gist: %v says: %v", e.From, e.ID)
	}
	return fmt.Sprintf("gist: %v says: %v (%s)", e.From, e.ID, e.Text)
}

// Is makes every RefusedError an ErrPeerRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrPeerRefused }

func errText(err error, text string) error { return fmt.Errorf("%w: %s", err, text) }

func errors2(err, cause error) error { return fmt.Errorf("%w: %w", err, cause) }
