package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Backend is what the admin API is served from: the running node. Its methods
// are called from many goroutines. A session id in a request has been checked:
// it is empty only where the API allows that, and ParseSessionID takes it.
//
// A refused reservation is an Outcome, not an error. Errors that wrap
// ErrNotFound, ErrInvalid, ErrConflict, ErrBusy or ErrUnsupported reach the
// caller as what they are, with their text; others as internal errors.
type Backend interface {
	// Reserve returns when the outcome is known or ctx ends. The request's
	// timeout is already in ctx.
	Reserve(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error)
	Query(ctx context.Context, r *api.ReserveRequest) (*api.Outcome, error)
	Modify(ctx context.Context, r *api.ModifyRequest) (*api.Outcome, error)
	Release(ctx context.Context, sid wire.SID) (*api.Outcome, error)
	// Watch calls tell with what happens to a reservation, until it is gone, ctx
	// ends, or tell returns an error.
	Watch(ctx context.Context, sid wire.SID, tell func(*api.WatchEvent) error) error
	ListReservations(ctx context.Context, r *api.ListReservationsRequest) (*api.ListReservationsResponse, error)
	GetReservation(ctx context.Context, sid wire.SID) (*api.Reservation, error)

	// ApplySLS changes all of the documents' SLSs or none. by is who asks,
	// for the SLSs' history.
	ApplySLS(ctx context.Context, r *api.ApplyRequest, by string) (*api.ApplyResponse, error)
	ListSLS(ctx context.Context) ([]*api.SLS, error)
	ShowSLS(ctx context.Context, id string) (*api.SLS, error)
	// SLSUsage is of one SLS, or, where id is empty, of all.
	SLSUsage(ctx context.Context, id string, at time.Time) ([]*api.SLSUsage, error)
	DeleteSLS(ctx context.Context, r *api.DeleteSLSRequest, by string) (*api.DeleteSLSResponse, error)
	// PlanSLS says what ApplySLS would do, and what it would break.
	PlanSLS(ctx context.Context, r *api.ApplyRequest) (*api.ApplyResponse, error)
	SLSHistory(ctx context.Context, id string) (*api.SLSHistoryResponse, error)
	RollbackSLS(ctx context.Context, r *api.RollbackRequest, by string) (*api.ApplyResponse, error)
	// ConfirmSLS makes an unconfirmed change be for good, or takes it back.
	ConfirmSLS(ctx context.Context, r *api.ConfirmRequest, by string) (*api.ApplyResponse, error)
	// Backup writes the whole store to w.
	Backup(ctx context.Context, w io.Writer) error
	MatchSLS(ctx context.Context, r *api.MatchRequest) (*api.MatchResponse, error)
	SLSCalendar(ctx context.Context, r *api.CalendarRequest) (*api.CalendarResponse, error)

	Status(ctx context.Context) (*api.NodeStatus, error)
	Routes(ctx context.Context, r *api.RoutesRequest) (*api.RoutesResponse, error)
	Trace(ctx context.Context, sid wire.SID) ([]*api.TraceEvent, error)
	Reload(ctx context.Context, dryRun bool) (*api.ReloadResponse, error)
	State(ctx context.Context, r *api.StateRequest) (*api.StateResponse, error)
}

// Kinds of errors that a Backend returns, wrapped with what they are about.
var (
	ErrNotFound    = errors.New("not found")
	ErrInvalid     = errors.New("invalid request")
	ErrConflict    = errors.New("not possible now") // e.g. an SLS with reservations on it
	ErrBusy        = errors.New("too busy")         // a queue is full, a limit is reached
	ErrUnsupported = errors.New("not supported")
)

// ParseSessionID reads a session id: 32 hexadecimal digits. The error wraps
// ErrInvalid.
func ParseSessionID(s string) (wire.SID, error) {
	var sid wire.SID
	if len(s) != 2*len(sid) {
		return sid, fmt.Errorf("%w: session id %q has %d characters, expected 32 hexadecimal digits", ErrInvalid, s, len(s))
	}
	for i := range len(s) {
		var d byte
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c && c <= 'f':
			d = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			d = c - 'A' + 10
		default:
			return wire.SID{}, fmt.Errorf("%w: session id %q has %q at character %d, expected 32 hexadecimal digits", ErrInvalid, s, c, i+1)
		}
		sid[i/2] = sid[i/2]<<4 | d
	}
	return sid, nil
}

// Admin serves the admin API: on a Unix socket, where the kernel says who the
// caller is, and optionally over TCP, where a TLS client certificate does.
type Admin struct {
	backend Backend
	log     *slog.Logger
	config  AdminConfig
	access  atomic.Pointer[adminAccess]

	servers   []*grpc.Server
	listeners []net.Listener
	serving   sync.WaitGroup
	closing   chan struct{} // ends the streams
}

// NewAdmin prepares the admin API; Start listens.
func NewAdmin(config AdminConfig, backend Backend, log *slog.Logger) *Admin {
	a := &Admin{backend: backend, log: log, config: config, closing: make(chan struct{})}
	a.Reconfigure(config)
	return a
}

// Reconfigure brings new admin.allow and admin.remote.roles into force. What
// else differs waits for a restart.
func (a *Admin) Reconfigure(config AdminConfig) { a.access.Store(newAccess(config)) }

// Start listens and serves until Close. On an error nothing listens.
func (a *Admin) Start() error {
	err := a.start()
	if err != nil {
		for _, l := range a.listeners {
			_ = l.Close()
		}
		a.listeners, a.servers = nil, nil
		return fmt.Errorf("admin: %w", err)
	}
	for i, s := range a.servers {
		a.serving.Go(func() {
			if err := s.Serve(a.listeners[i]); err != nil {
				a.log.Error("admin API stopped", "listen", a.listeners[i].Addr(), "error", err)
			}
		})
	}
	return nil
}

func (a *Admin) start() error {
	if a.config.Listen.Network != "" {
		// Who may not use the API is told so by it, unless there is nobody
		// else who may: then the file mode is enough.
		mode := fs.FileMode(0o600)
		if len(a.config.Allow) > 0 {
			mode = 0o666
		}
		l, err := listenUnix(a.config.Listen.Address, mode)
		if err != nil {
			return err
		}
		a.listeners = append(a.listeners, l)
		a.servers = append(a.servers, a.newServer(peerCredentials{}))
	}
	if remote := a.config.Remote; remote != nil {
		config, err := remoteTLS(remote)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", remote.Listen.Address)
		if err != nil {
			return err
		}
		a.listeners = append(a.listeners, l)
		a.servers = append(a.servers, a.newServer(credentials.NewTLS(config)))
	}
	return nil
}

func (a *Admin) newServer(c credentials.TransportCredentials) *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(c),
		grpc.UnaryInterceptor(a.intercept),
		grpc.StreamInterceptor(a.interceptStream),
		grpc.MaxConcurrentStreams(1024),
		grpc.ConnectionTimeout(10*time.Second),
		// Goroutines that stay keep their grown stacks from call to call.
		grpc.NumStreamWorkers(32),
	)
	api.RegisterReservationServiceServer(s, reservationService{backend: a.backend})
	api.RegisterSLSServiceServer(s, slsService{backend: a.backend})
	api.RegisterNodeServiceServer(s, nodeService{backend: a.backend})
	return s
}

// Addrs returns where the API listens: the Unix socket first, if there is one.
func (a *Admin) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(a.listeners))
	for i, l := range a.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Close stops listening and waits for the calls that are under way, until ctx
// ends; then it cuts them off.
func (a *Admin) Close(ctx context.Context) {
	cut := context.AfterFunc(ctx, func() {
		for _, s := range a.servers {
			s.Stop()
		}
	})
	defer cut()
	close(a.closing) // who watches would go on for good
	for _, s := range a.servers {
		s.GracefulStop()
	}
	a.serving.Wait()
}

// listenUnix listens on a Unix socket; one that a dead process left behind is
// replaced.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there and not a socket; expected nothing or a socket", path)
	default:
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("%s: another process is listening on it; is qned running already?", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func remoteTLS(r *RemoteConfig) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(r.Certificate, r.Key)
	if err != nil {
		return nil, fmt.Errorf("admin.remote: certificate %s with key %s: %w", r.Certificate, r.Key, err)
	}
	pem, err := os.ReadFile(r.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin.remote.client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("admin.remote.client_ca: %s has no certificate in PEM form", r.ClientCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
	}, nil
}
