package qnectl

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/cli"
	urfave "github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"
)

// bothWays reserves both directions, each at the AS where it starts, bound to each
// other: "Both ends have to agree" (RFC 5974 §4.4), which is here whoever may ask both.
// Where the second is refused the first is released.
func bothWays(c *urfave.Context, format cli.Format, near *clients, r *api.ReserveRequest) error {
	switch {
	case !c.Bool("bidirectional"):
		return cli.Usagef("--far-socket goes with --bidirectional")
	case !c.IsSet("far-socket"):
		return cli.Usagef("--bidirectional needs --far-socket: the AS that the flow ends in reserves the way back, e.g. --far-socket unix:as65003.sock")
	case r.GetReceiverInitiated():
		return cli.Usagef("--bidirectional and --receiver-initiated: each direction is reserved by its sender; give one of the two")
	case c.Bool("ladder") || c.String("save") != "":
		return cli.Usagef("--ladder and --save are for one direction; leave them out")
	}
	far, err := connect(c, c.String("far-socket"))
	if err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	back := proto.CloneOf(r)
	back.Source, back.Destination = r.GetDestination(), r.GetSource()
	back.SourcePort, back.DestinationPort = r.GetDestinationPort(), r.GetSourcePort()
	if r.GetSessionId() == "" {
		r.SessionId = newSession()
	}
	back.SessionId = newSession()
	r.OppositeSessionId, back.OppositeSessionId = back.GetSessionId(), r.GetSessionId()

	there, err := near.reservations.Reserve(c.Context, r)
	if err != nil {
		return near.Explain(err)
	}
	outcomes := []*api.Outcome{there}
	requests := []*api.ReserveRequest{r}
	if there.GetAccepted() {
		again, err := far.reservations.Reserve(c.Context, back)
		if err == nil {
			outcomes, requests = append(outcomes, again), append(requests, back)
		}
		if err != nil || !again.GetAccepted() {
			if _, lost := near.reservations.Release(c.Context, &api.ReleaseRequest{SessionId: r.GetSessionId()}); lost != nil {
				return fmt.Errorf("the way back was refused, and session %s of the way there could not be released: %w", r.GetSessionId(), near.Explain(lost))
			}
		}
		if err != nil {
			return far.Explain(err)
		}
	}
	if format != cli.Table {
		err = cli.Print(c.App.Writer, format, cli.Map{{Key: "outcomes", Value: cli.List(outcomes)}})
	}
	for i, o := range outcomes {
		if format != cli.Table {
			continue
		}
		if i > 0 {
			if _, err = fmt.Fprintln(c.App.Writer); err != nil {
				return err
			}
		}
		if err := printReserve(c, requests[i], o, buildPath(o, nil)); err != nil {
			return err
		}
	}
	last := outcomes[len(outcomes)-1]
	if err != nil || last.GetAccepted() {
		return err
	}
	if format == cli.Table && len(outcomes) == 2 {
		_, err = fmt.Fprintf(c.App.Writer, "\nsession %s, the way there, is released: both or neither\n", r.GetSessionId())
	}
	if err == nil {
		err = cli.ErrTold
	}
	return err
}

func newSession() string {
	var b [sessionDigits / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
