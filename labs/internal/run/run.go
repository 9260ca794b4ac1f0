// Package run starts the processes of a lab, waits for what they say of
// themselves, and ends them again.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/interqos/interqos/api"
)

// Processes are the processes of one lab, in the order in which they were
// started.
type Processes struct {
	Bin string // folder of the binaries
	Dir string // working folder: configurations, sockets, logs
	// Survive has the processes go on when the one that started them ends.
	Survive bool

	mu  sync.Mutex
	all []*Process
}

// Process is one of them. Its output goes to NAME.log in the lab's folder.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid when done is closed
}

// Start starts a binary of Bin with its standard output and error in NAME.log.
func (p *Processes) Start(name, binary string, args ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(p.Dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd := exec.Command(filepath.Join(p.Bin, binary), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Dir, log, log
	// A Ctrl-C at the terminal is for the lab, which ends its processes in
	// order. A lab that is killed takes them with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if p.Survive {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w (is it built? \"make build\")", name, err)
	}
	proc := &Process{Name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	p.mu.Lock()
	p.all = append(p.all, proc)
	p.mu.Unlock()
	return proc, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Status is how the process ended, as the system puts it; empty while it runs.
func (p *Process) Status() string {
	if p.Running() {
		return ""
	}
	return p.cmd.ProcessState.String()
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks a process to end, and kills it after the grace period. The error
// says how it ended if that was not with status 0.
func (p *Process) Stop(grace time.Duration) error {
	if p.Running() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill() // Wait tells how it ended
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.Name, grace)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.Name, p.err)
	}
	return nil
}

// Stop ends all processes, last first.
func (p *Processes) Stop() error {
	p.mu.Lock()
	all := p.all
	p.all = nil
	p.mu.Unlock()
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		errs = append(errs, all[i].Stop(30*time.Second)) // far more than it takes, also on a busy machine
	}
	return errors.Join(errs...)
}

// All returns the processes in the order in which they were started.
func (p *Processes) All() []*Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// Check returns an error with the end of the log if any process has ended.
func (p *Processes) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.all {
		if !proc.Running() {
			return fmt.Errorf("%s has ended: %v\n%s", proc.Name, proc.Status(), p.Tail(proc.Name, 12))
		}
	}
	return nil
}

// Tail returns the last n lines of a process's log.
func (p *Processes) Tail(name string, n int) string {
	b, err := os.ReadFile(filepath.Join(p.Dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Until asks cond again and again until it returns nil, ctx ends, or a process
// has ended.
func (p *Processes) Until(ctx context.Context, what string, cond func(context.Context) error) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if ended := p.Check(); ended != nil {
			return fmt.Errorf("waiting for %s: %w", what, ended)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last: %w", what, ctx.Err(), err)
		case <-t.C:
		}
	}
}

// Node is a connection to one qned's admin API.
type Node struct {
	AS     uint32
	Target string // unix:…
	conn   *grpc.ClientConn

	api.ReservationServiceClient
	SLS   api.SLSServiceClient
	Admin api.NodeServiceClient
}

// Dial prepares a connection; it stands when the node does.
func Dial(as uint32, target string) (*Node, error) {
	quick := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, err
	}
	return &Node{
		AS: as, Target: target, conn: conn,
		ReservationServiceClient: api.NewReservationServiceClient(conn),
		SLS:                      api.NewSLSServiceClient(conn), Admin: api.NewNodeServiceClient(conn),
	}, nil
}

// Close ends the connection.
func (n *Node) Close() error { return n.conn.Close() }

// Ready is nil when the node can reserve.
func (n *Node) Ready(ctx context.Context) error {
	st, err := n.Admin.Status(ctx, &api.StatusRequest{})
	if err != nil {
		return err
	}
	if !st.Ready {
		return fmt.Errorf("AS%d: %s", n.AS, st.NotReadyBecause)
	}
	return nil
}

// Empty is nil when the node holds nothing of any reservation: not in the
// ledger, its driver, the store, GIST or QoS-NSLP.
func (n *Node) Empty(ctx context.Context) error {
	st, err := n.Admin.Status(ctx, &api.StatusRequest{})
	if err != nil {
		return err
	}
	var held, committed uint64
	for _, d := range st.Drivers {
		if d.Error != "" {
			return fmt.Errorf("AS%d: driver %s: %s", n.AS, d.Name, d.Error)
		}
		held, committed = held+d.Held, committed+d.Committed
	}
	for _, c := range []struct {
		what string
		n    uint64
	}{
		{"ledger holds", st.Ledger.Held}, {"ledger reservations", st.Ledger.Committed},
		{"ledger rate held", st.Ledger.HeldRate}, {"ledger rate committed", st.Ledger.CommittedRate},
		{"driver holds", held}, {"driver reservations", committed}, {"store records", st.Store.Records},
		{"GIST routing states", st.Gist.RoutingStates}, {"GIST handshakes under way", st.Gist.Pending},
		{"QoS-NSLP sessions", st.Nslp.Sessions}, {"QoS-NSLP transactions under way", st.Nslp.Pending},
	} {
		if c.n != 0 {
			return fmt.Errorf("AS%d: %d %s", n.AS, c.n, c.what)
		}
	}
	return nil
}
