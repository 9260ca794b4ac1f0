package three_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/fpc"
	fpctransport "github.com/interqos/interqos/fpc/transport"
	three "github.com/interqos/interqos/labs/01-three-networks"
	"github.com/interqos/interqos/labs/internal/run"
)

const (
	claimWait = 10 * time.Minute // for another lab on this machine
	patience  = 3 * time.Minute  // for a state that comes by itself; only a failure waits so long
	flowRate  = 100_000          // bit/s, of every reservation here
)

// bin is the folder of the commands, built once.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := built(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func built(m *testing.M) (code int, err error) {
	if testing.Short() {
		return m.Run(), nil
	}
	if bin, err = os.MkdirTemp("", "interqos-bin-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	cmd := exec.Command("go", "build", "-o", bin+"/", "./cmd/...")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return m.Run(), nil
}

// world is a lab of real processes that a test kills and starts again.
type world struct {
	*three.Lab
	t       *testing.T
	dir     string
	procs   map[string]*run.Process // those that have to run
	gateway *fpctransport.Client
	logs    int
}

// quick has every soft state live for less than a minute: a reservation that is not
// refreshed is gone after 5.25 refresh periods, routing state after its validity.
// That is much longer than it takes, also on a busy machine, to start a process
// again and find the neighbours by BGP.
func quick(name, text string) string {
	text = with("nslp: {refresh_period: 6s, request_retry: 250ms, retry_max: 10s, hold_timeout: 20s}\n")(name, text)
	return strings.Replace(text, ", shards: ", ", routing_state_validity: 25s, shards: ", 1)
}

// start starts the three networks and the gateway. Each edit changes a file
// before it is written.
func start(t *testing.T, edits ...func(name, text string) string) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: starts four processes")
	}
	dir, err := os.MkdirTemp("", "iq") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, procs: make(map[string]*run.Process)}
	t.Cleanup(w.end)
	w.Lab, err = three.Prepare(three.Options{Bin: bin, Dir: dir, Edit: func(name, text string) string {
		for _, edit := range edits {
			text = edit(name, text)
		}
		return text
	}})
	if err == nil {
		err = w.Claim(t.Context(), claimWait)
	}
	if err == nil {
		err = w.StartGateway()
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err = w.StartNetworks(ctx)
	}
	if err == nil {
		err = w.ApplySLSs(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range w.All() {
		w.procs[p.Name] = p
	}
	if w.gateway, err = fpctransport.Dial(fpctransport.Address{Network: "unix", Address: filepath.Join(dir, "bngfe.sock")}); err != nil {
		t.Fatal(err)
	}
	return w
}

// with adds a line to every qned's file.
func with(line string) func(name, text string) string {
	return func(name, text string) string {
		if strings.Contains(text, "\nrouter_id: ") {
			text += line
		}
		return text
	}
}

// swap replaces text in one file.
func swap(file string, oldnew ...string) func(name, text string) string {
	return func(name, text string) string {
		if name != file {
			return text
		}
		for i := 0; i < len(oldnew); i += 2 {
			if !strings.Contains(text, oldnew[i]) {
				panic(file + " has no " + oldnew[i])
			}
		}
		return strings.NewReplacer(oldnew...).Replace(text)
	}
}

// end ends everything; who still runs has to end with status 0.
func (w *world) end() {
	if w.gateway != nil {
		w.gateway.Close()
	}
	if w.Lab != nil {
		for _, p := range w.procs {
			if err := p.Stop(patience); err != nil {
				w.t.Errorf("at the end: %v", err)
			}
		}
		_ = w.Close() // how the others ended was the test's doing
	}
	if w.t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
		for _, l := range logs {
			w.t.Logf("the end of %s:\n%s", filepath.Base(l), w.Tail(strings.TrimSuffix(filepath.Base(l), ".log"), 25))
		}
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

// kill ends a process as a crash would, and keeps its log.
func (w *world) kill(name string) {
	w.t.Helper()
	p := w.procs[name]
	delete(w.procs, name)
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.until(name+" to be dead", func(context.Context) error {
		if p.Running() {
			return errors.New("it runs")
		}
		return nil
	})
}

// revive starts a process again that has ended.
func (w *world) revive(name string) {
	w.t.Helper()
	w.logs++
	log := filepath.Join(w.dir, name)
	if err := os.Rename(log+".log", fmt.Sprintf("%s-%d.log", log, w.logs)); err != nil {
		w.t.Fatal(err)
	}
	binary := "qned"
	if name == "bngfe" {
		binary = name
	}
	p, err := w.Start(name, binary, "-c", name+".yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	w.procs[name] = p
}

// until asks again and again until cond returns nil. No process may end
// meanwhile.
func (w *world) until(what string, cond func(context.Context) error) {
	w.t.Helper()
	w.within(patience, what, cond)
}

func (w *world) within(limit time.Duration, what string, cond func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	var last error
	for {
		err := cond(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			last = err
		}
		for name, p := range w.procs {
			if !p.Running() {
				w.t.Fatalf("waiting for %s: %s has ended: %s", what, name, p.Status())
			}
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("waited %s for %s: %v", limit, what, last)
		case <-t.C:
		}
	}
}

// ready waits until every network can reserve, and has routes to the others.
func (w *world) ready() {
	w.t.Helper()
	for _, n := range w.Nodes {
		w.until(fmt.Sprintf("AS%d to be ready", n.AS), n.Ready)
	}
	for _, n := range w.Nodes {
		for i := range three.ASs {
			dst := fmt.Sprintf("10.%d.0.10", i+1)
			w.until(fmt.Sprintf("AS%d's route to %s", n.AS, dst), func(ctx context.Context) error {
				r, err := n.Admin.Routes(ctx, &api.RoutesRequest{Lookup: dst})
				if err == nil && len(r.Routes) == 0 {
					err = errors.New("none")
				}
				return err
			})
		}
	}
}

// request is one of many small reservations for the gateway's subscriber, each
// its own flow.
func request(i int) *api.ReserveRequest {
	return &api.ReserveRequest{
		Source: "10.1.0.10", Destination: "10.3.0.10", Protocol: 17, DestinationPort: uint32(1024 + i), Class: "EF",
		Rate: flowRate, Timeout: durationpb.New(patience),
	}
}

// reserve wants a reservation to be accepted.
func (w *world) reserve(i int) string {
	w.t.Helper()
	out, err := w.Nodes[0].Reserve(w.t.Context(), request(i))
	if err != nil {
		w.t.Fatalf("reservation %d: %v", i, err)
	}
	if !out.Accepted {
		w.t.Fatalf("reservation %d refused: %v", i, out)
	}
	return out.SessionId
}

// release wants a release to be accepted.
func (w *world) release(sid string) {
	w.t.Helper()
	out, err := w.Nodes[0].Release(w.t.Context(), &api.ReleaseRequest{SessionId: sid})
	if err != nil || !out.Accepted {
		w.t.Fatalf("session %s not released: %v %v", sid, out, err)
	}
}

// stand waits until exactly count reservations stand everywhere, and nothing
// else: in ledger, driver, store, GIST, QoS-NSLP and the gateway.
func (w *world) stand(count int) {
	w.t.Helper()
	for i, n := range w.Nodes {
		w.until(fmt.Sprintf("exactly %d reservations in AS%d", count, n.AS), func(ctx context.Context) error {
			sides := uint64(1)
			if i == 1 { // transit: two SLSs, two peers
				sides = 2
			}
			return standing(ctx, n, uint64(count), sides)
		})
	}
	w.policers(count)
}

func standing(ctx context.Context, n *run.Node, count, sides uint64) error {
	st, err := n.Admin.Status(ctx, &api.StatusRequest{})
	if err != nil {
		return err
	}
	d := st.Drivers[0]
	if d.Error != "" {
		return fmt.Errorf("driver %s: %s", d.Name, d.Error)
	}
	for _, c := range []struct {
		what      string
		got, want uint64
	}{
		{"ledger holds", st.Ledger.Held, 0}, {"rate held", st.Ledger.HeldRate, 0},
		{"ledger reservations", st.Ledger.Committed, count}, {"rate committed", st.Ledger.CommittedRate, count * sides * flowRate},
		{"driver holds", d.Held, 0}, {"driver reservations", d.Committed, count}, {"store records", st.Store.Records, count},
		{"QoS-NSLP sessions", st.Nslp.Sessions, count}, {"QoS-NSLP transactions under way", st.Nslp.Pending, 0},
		{"GIST handshakes under way", st.Gist.Pending, 0}, {"GIST routing states", st.Gist.RoutingStates, count * sides},
	} {
		if c.got != c.want {
			return fmt.Errorf("AS%d: %d %s, expected %d", n.AS, c.got, c.what, c.want)
		}
	}
	return nil
}

// policers waits until the gateway has exactly count ports that are no
// subscribers, each with a rule.
func (w *world) policers(count int) {
	w.t.Helper()
	w.until(fmt.Sprintf("exactly %d policers", count), func(ctx context.Context) error {
		snap, err := w.gateway.List(ctx)
		if err != nil {
			return err
		}
		rules := make(map[fpc.ID]bool)
		for _, r := range snap.Rules {
			rules[r.Port] = true
		}
		n := 0
		for i := range snap.Ports {
			if p := &snap.Ports[i]; !p.Static {
				n++
				if !rules[p.ID] {
					return fmt.Errorf("the port of %s has no rule", p.ID)
				}
			}
		}
		if n != count {
			return fmt.Errorf("%d policers", n)
		}
		return nil
	})
}

// expiries is when each session of a network expires unless it is refreshed.
func expiries(ctx context.Context, n *run.Node) (map[string]time.Time, error) {
	st, err := n.Admin.State(ctx, &api.StateRequest{Limit: 10_000})
	if err != nil {
		return nil, err
	}
	m := make(map[string]time.Time)
	for _, s := range st.Sessions {
		if s.Expires != nil {
			m[s.SessionId] = s.Expires.AsTime()
		}
	}
	return m, nil
}

// refreshed waits until every session has been refreshed from now on in every
// network but its first.
func (w *world) refreshed(count int) {
	w.t.Helper()
	before := make([]map[string]time.Time, len(w.Nodes))
	for i, n := range w.Nodes[1:] {
		w.until(fmt.Sprintf("AS%d's sessions", n.AS), func(ctx context.Context) (err error) {
			if before[i], err = expiries(ctx, n); err == nil && len(before[i]) != count {
				err = fmt.Errorf("%d sessions, expected %d", len(before[i]), count)
			}
			return err
		})
	}
	for i, n := range w.Nodes[1:] {
		w.until(fmt.Sprintf("AS%d's sessions to be refreshed", n.AS), func(ctx context.Context) error {
			now, err := expiries(ctx, n)
			for sid, old := range before[i] {
				if err == nil && !now[sid].After(old) {
					err = fmt.Errorf("session %s expires at %s, and did before", sid, old)
				}
			}
			return err
		})
	}
}

func stateOf(sid string) *api.StateRequest { return &api.StateRequest{SessionId: sid, Limit: 10_000} }
