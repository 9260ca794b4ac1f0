package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/fpc/transport/fpcpb"
)

// Agent is what a server serves. Its methods are called from many goroutines.
type Agent interface {
	// Configure carries out transactions by a client that goes by the
	// node's state of an epoch; one result each. The second error is
	// fpc.ErrEpoch, or says that nothing could be done at all.
	Configure(epoch uint64, txs []fpc.Transaction) ([]error, error)
	// Snapshot returns everything there is.
	Snapshot() fpc.Snapshot
	// Counters returns those of the ports that there are, of all if none is
	// given.
	Counters(ports []fpc.ID) map[fpc.ID]fpc.Counters
}

// part is how many items go into one message of a list.
const part = 1000

// Server serves an agent.
type Server struct {
	grpc *grpc.Server
	lis  net.Listener
}

// Address is where an agent listens: "unix:/path", or "host:port" with an
// address of loopback.
type Address struct{ Network, Address string }

// ParseAddress reads an Address. Plain TCP needs insecure, and loopback: whoever
// reaches it commands the data plane.
func ParseAddress(s string, insecure bool) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return Address{}, fmt.Errorf("%q, expected unix: and a path", s)
		}
		return Address{"unix", path}, nil
	}
	ap, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("%q, expected unix:/path or an address and a port", s)
	case !insecure:
		return Address{}, fmt.Errorf("%q is plain TCP, expected unix:/path, or insecure: true beside it", s)
	case !ap.Addr().IsLoopback():
		return Address{}, fmt.Errorf("%q is plain TCP, expected unix:/path or an address of loopback", s)
	}
	return Address{"tcp", ap.String()}, nil
}

func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Address
	}
	return a.Address
}

// Listen opens a server's socket. A Unix socket is for the daemon's own user; one
// that a dead process has left behind is replaced.
func Listen(a Address, agent Agent) (*Server, error) {
	if a.Network == "unix" {
		if err := removeStale(a.Address); err != nil {
			return nil, err
		}
	}
	lis, err := net.Listen(a.Network, a.Address)
	if err != nil {
		return nil, fmt.Errorf("FPC: %w", err)
	}
	if a.Network == "unix" {
		if err := os.Chmod(a.Address, 0o600); err != nil {
			lis.Close()
			return nil, fmt.Errorf("FPC: %w", err)
		}
	}
	s := &Server{grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage)), lis: lis}
	fpcpb.RegisterFPCServer(s.grpc, &service{agent: agent})
	return s, nil
}

const maxMessage = 16 << 20

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("FPC: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("FPC: %s is there and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("FPC: somebody listens on %s already", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("FPC: %w", err)
	}
	return nil
}

// Serve serves until Close, and then returns nil.
func (s *Server) Serve() error {
	if err := s.grpc.Serve(s.lis); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Close breaks all connections.
func (s *Server) Close() { s.grpc.Stop() }

type service struct {
	fpcpb.UnimplementedFPCServer
	agent Agent
}

func (s *service) Configure(_ context.Context, req *fpcpb.ConfigureRequest) (*fpcpb.ConfigureResponse, error) {
	txs := make([]fpc.Transaction, 0, len(req.GetTransactions()))
	results := make([]error, len(req.GetTransactions()))
	var at []int // of the well-formed ones, in the request
	for i, tx := range req.GetTransactions() {
		t, err := toTransaction(tx)
		if err != nil {
			results[i] = err
			continue
		}
		txs, at = append(txs, t), append(at, i)
	}
	done, err := s.agent.Configure(req.GetEpoch(), txs)
	if errors.Is(err, fpc.ErrEpoch) {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	for i, err := range done {
		results[at[i]] = err
	}
	resp := &fpcpb.ConfigureResponse{Results: make([]*fpcpb.Result, len(results))}
	for i, err := range results {
		resp.Results[i] = fromResult(err)
	}
	return resp, nil
}

func (s *service) List(_ *fpcpb.ListRequest, out grpc.ServerStreamingServer[fpcpb.ListResponse]) error {
	snap := s.agent.Snapshot()
	for first := true; first || len(snap.Ports)+len(snap.Rules) > 0; first = false {
		msg := &fpcpb.ListResponse{Dpn: snap.DPN, Epoch: snap.Epoch}
		n := min(part, len(snap.Ports))
		for i := range snap.Ports[:n] {
			msg.Ports = append(msg.Ports, fromPort(&snap.Ports[i]))
		}
		snap.Ports = snap.Ports[n:]
		n = min(part-n, len(snap.Rules))
		for i := range snap.Rules[:n] {
			msg.Rules = append(msg.Rules, fromRule(&snap.Rules[i]))
		}
		snap.Rules = snap.Rules[n:]
		if err := out.Send(msg); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) Counters(req *fpcpb.CountersRequest, out grpc.ServerStreamingServer[fpcpb.CountersResponse]) error {
	var d decoder
	ids := make([]fpc.ID, 0, len(req.GetPorts()))
	for _, b := range req.GetPorts() {
		ids = append(ids, d.id(b))
	}
	if d.err != nil {
		return status.Error(codes.InvalidArgument, d.err.Error())
	}
	msg := &fpcpb.CountersResponse{}
	for id, c := range s.agent.Counters(ids) {
		if len(msg.Counters) == part {
			if err := out.Send(msg); err != nil {
				return err
			}
			msg = &fpcpb.CountersResponse{}
		}
		msg.Counters = append(msg.Counters, fromCounters(id, c))
	}
	return out.Send(msg)
}
