package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/fpc/transport/fpcpb"
)

// Client speaks to an agent. Its methods may be called from any goroutine. It
// connects by itself, again and again, with growing pauses.
type Client struct {
	conn *grpc.ClientConn
	rpc  fpcpb.FPCClient
	stop context.CancelFunc
	lost chan struct{}
	done chan struct{}
}

// Dial returns a client of the agent at an address. It does not wait for the
// connection.
func Dial(a Address) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///"+a.String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, a.Network, a.Address)
		}),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("FPC: %v: %w", a, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{conn: conn, rpc: fpcpb.NewFPCClient(conn), stop: stop, lost: make(chan struct{}, 1), done: make(chan struct{})}
	go c.watch(ctx)
	return c, nil
}

// watch tells of every connection that was there and is not any more.
func (c *Client) watch(ctx context.Context) {
	defer close(c.done)
	for state := c.conn.GetState(); ; {
		was := state
		if !c.conn.WaitForStateChange(ctx, was) {
			return
		}
		state = c.conn.GetState()
		if was == connectivity.Ready {
			select {
			case c.lost <- struct{}{}:
			default:
			}
		}
		if state == connectivity.Idle {
			c.conn.Connect()
		}
	}
}

// Lost delivers a value when a connection has ended: the node may have restarted.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Configure has transactions carried out by the agent, and returns one result
// each. The second error wraps fpc.ErrEpoch if epoch (of the List that the
// caller goes by) is not the node's, and then nothing was done; after any other
// error what was done is not known.
func (c *Client) Configure(ctx context.Context, epoch uint64, txs []fpc.Transaction) ([]error, error) {
	resp, err := c.rpc.Configure(ctx, &fpcpb.ConfigureRequest{Epoch: epoch, Transactions: fromTransactions(txs)})
	if status.Code(err) == codes.FailedPrecondition {
		return nil, fmt.Errorf("FPC Configure: %w", fpc.ErrEpoch)
	}
	if err != nil {
		return nil, fmt.Errorf("FPC Configure: %w", err)
	}
	if len(resp.GetResults()) != len(txs) {
		return nil, fmt.Errorf("FPC Configure: %d results for %d transactions", len(resp.GetResults()), len(txs))
	}
	results := make([]error, len(txs))
	for i, r := range resp.GetResults() {
		results[i] = toResult(r)
	}
	return results, nil
}

// List returns everything that the node has. It waits for a connection as long
// as ctx lets it.
func (c *Client) List(ctx context.Context) (fpc.Snapshot, error) {
	var snap fpc.Snapshot
	stream, err := c.rpc.List(ctx, &fpcpb.ListRequest{}, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return snap, fmt.Errorf("FPC List: %w", err)
	}
	var d decoder
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fpc.Snapshot{}, fmt.Errorf("FPC List: %w", err)
		}
		snap.DPN, snap.Epoch = msg.GetDpn(), msg.GetEpoch()
		for _, p := range msg.GetPorts() {
			snap.Ports = append(snap.Ports, d.port(p))
		}
		for _, r := range msg.GetRules() {
			snap.Rules = append(snap.Rules, d.rule(r))
		}
	}
	if d.err != nil {
		return fpc.Snapshot{}, fmt.Errorf("FPC List: %w", d.err)
	}
	return snap, nil
}

// Counters returns those of the given ports, of all if none is given.
func (c *Client) Counters(ctx context.Context, ports ...fpc.ID) (map[fpc.ID]fpc.Counters, error) {
	req := &fpcpb.CountersRequest{}
	for _, id := range ports {
		req.Ports = append(req.Ports, id[:])
	}
	stream, err := c.rpc.Counters(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("FPC Counters: %w", err)
	}
	all := map[fpc.ID]fpc.Counters{}
	var d decoder
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, d.err
		}
		if err != nil {
			return nil, fmt.Errorf("FPC Counters: %w", err)
		}
		for _, pc := range msg.GetCounters() {
			all[d.id(pc.GetPort())] = toCounters(pc)
		}
	}
}

// Close ends the connection.
func (c *Client) Close() error {
	c.stop()
	<-c.done
	return c.conn.Close()
}
