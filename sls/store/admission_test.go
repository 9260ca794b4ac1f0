package store

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/interqos/interqos/sls"
)

// Ledger and store together, as a node uses them: what is admitted is durable
// before the answer leaves, and what is given back is gone from the disk before
// its capacity is. The node is a process of its own that is killed in the middle;
// half of its failures are those of the disk. interdomain-qosm §5, §6

const (
	admitCapacity = 20 // octets/s
	diskFails     = 50 // one transaction of so many
)

// desk admits and releases.
type desk struct {
	mu sync.Mutex
	l  *sls.Ledger
	b  *Bolt
}

func openDesk(path string) (*desk, error) {
	b, err := Open(path, Options{LockTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	fails := rand.New(rand.NewPCG(1, 2)) // used by the writer alone
	b.fault = func() error {
		if fails.IntN(diskFails) == 0 {
			return errors.New("the disk is tired")
		}
		return nil
	}
	d := &desk{l: sls.New(sls.Config{}), b: b}
	s := sls.SLS{ID: "a", Customer: 1, Provider: 2, Classes: []sls.ClassSpec{{Class: sls.EF, CIR: admitCapacity}}}
	_, records, err := b.Load()
	if err := cmp.Or(err, d.l.LoadSLS([]sls.SLS{s})); err != nil {
		return nil, err
	}
	for _, r := range records {
		if err := d.l.Restore(time.Now(), r.Bookings); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *desk) used() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	u, err := d.l.Usage("a", sls.EF, time.Now())
	if err != nil {
		panic(err)
	}
	return u.Committed + u.Held
}

func (d *desk) admit(id sls.ID, rate uint64) string {
	host := netip.MustParsePrefix("192.0.2.1/32")
	result := make(chan error, 1)
	d.mu.Lock()
	_, err := d.l.Hold(time.Now(), sls.Request{ID: id, Version: 1, Customer: 1, Provider: 2, Source: host, Destination: host, Class: sls.EF, Rate: rate})
	if err != nil {
		d.mu.Unlock()
		return "no"
	}
	bookings, err := d.l.Commit(time.Now(), id, 1, rate)
	if err == nil {
		d.b.Put(Record{ID: id, Version: 1, Bookings: bookings}, func(err error) { result <- err })
	} else {
		result <- err
	}
	d.mu.Unlock()
	if <-result != nil {
		d.mu.Lock()
		d.l.Release(id)
		d.mu.Unlock()
		return "failed"
	}
	return "ok"
}

func (d *desk) release(id sls.ID) string {
	if remove(d.b, id) != nil {
		return "failed"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.l.Release(id) {
		return "no"
	}
	return "ok"
}

// deskChild answers the requests on its standard input, each as soon as it can,
// until it is killed.
func deskChild(path string) {
	d, err := openDesk(path)
	if err != nil {
		fmt.Println("open", err)
		return
	}
	var out sync.Mutex
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		go func(line string) {
			var number, id, rate uint32
			var what, answer string
			if _, err := fmt.Sscan(line, &number, &what, &id, &rate); err != nil {
				answer = err.Error()
			}
			switch what {
			case "admit":
				answer = d.admit(numbered(id).ID, uint64(rate))
			case "release":
				answer = d.release(numbered(id).ID)
			case "used":
				answer = fmt.Sprint(d.used())
			case "there":
				d.mu.Lock()
				answer = fmt.Sprint(len(d.l.Bookings(numbered(id).ID)))
				d.mu.Unlock()
			}
			out.Lock()
			fmt.Println(number, answer)
			out.Unlock()
		}(in.Text())
	}
}

// nodeProcess is the process and those who wait for its answers.
type nodeProcess struct {
	mu      sync.Mutex
	cmd     *exec.Cmd
	in      io.WriteCloser
	waiting map[int]chan string
	next    int
	ended   chan struct{}
}

func startNode(t *testing.T, path string) *nodeProcess {
	t.Helper()
	n := &nodeProcess{cmd: exec.Command(os.Args[0]), waiting: make(map[int]chan string), ended: make(chan struct{})}
	n.cmd.Env = append(os.Environ(), "STORE_TEST_DESK="+path)
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var number int
			var answer string
			if _, err := fmt.Sscan(lines.Text(), &number, &answer); err != nil {
				t.Errorf("the node says %q", lines.Text())
				break
			}
			n.mu.Lock()
			n.waiting[number] <- answer
			delete(n.waiting, number)
			n.mu.Unlock()
		}
		_ = n.cmd.Wait()
		n.mu.Lock()
		for _, w := range n.waiting {
			close(w)
		}
		n.waiting = nil
		n.mu.Unlock()
	}()
	return n
}

// ask returns "" if the process ends before it answers.
func (n *nodeProcess) ask(what string, id, rate uint32) string {
	w := make(chan string, 1)
	n.mu.Lock()
	if n.waiting == nil {
		n.mu.Unlock()
		return ""
	}
	n.next++
	n.waiting[n.next] = w
	_, _ = fmt.Fprintln(n.in, n.next, what, id, rate) // it may be gone: then w is closed
	n.mu.Unlock()
	return <-w
}

// step is an operation of the history.
type step struct {
	what string // admit, refused, release, used; ghost and gone: see deskModel
	id   uint32
	rate int
}

// deskState is what is in use, and by which of those that failed.
type deskState struct {
	used   int
	ghosts string
}

// deskModel is one number. An admission that failed, or whose process died, may
// have been there in between: a ghost comes once or not at all, and has gone at
// the latest when its answer or the restart is seen.
var deskModel = porcupine.NondeterministicModel{
	Step: func(state, input, _ any) []any {
		s, in := state.(deskState), input.(step)
		name := fmt.Sprintf("%d ", in.id)
		after := deskState{s.used, s.ghosts}
		switch in.what {
		case "admit":
			if after.used += in.rate; after.used > admitCapacity {
				return nil
			}
		case "refused":
			if s.used+in.rate <= admitCapacity {
				return nil
			}
		case "release":
			after.used -= in.rate
		case "used":
			if s.used != in.rate {
				return nil
			}
		case "ghost":
			if s.used+in.rate > admitCapacity {
				return []any{s}
			}
			return []any{s, deskState{s.used + in.rate, s.ghosts + name}}
		case "gone":
			if rest, was := strings.CutPrefix(" "+s.ghosts, " "+name); was || strings.Contains(" "+s.ghosts, " "+name) {
				if !was {
					rest = strings.TrimPrefix(strings.Replace(" "+s.ghosts, " "+name, " ", 1), " ")
				}
				after = deskState{s.used - in.rate, rest}
			}
		}
		return []any{after}
	},
}

// history collects operations. Its clock only counts, so that it says what came
// before what and nothing else.
type history struct {
	mu    sync.Mutex
	clock int64
	list  []porcupine.Operation
}

func (h *history) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

func (h *history) add(client int, call int64, s step) {
	end := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, porcupine.Operation{ClientId: client, Input: s, Call: call, Return: end})
}

// fleeting adds an admission that was there for a time at most.
func (h *history) fleeting(client int, call int64, s step) {
	middle := h.now()
	h.mu.Lock()
	s.what = "ghost"
	h.list = append(h.list, porcupine.Operation{ClientId: client, Input: s, Call: call, Return: middle})
	h.mu.Unlock()
	s.what = "gone"
	h.add(client, call, s)
}

// client works at one process until it has done its share or the process ends.
// It returns what it has admitted, and the operation that it has no answer to.
type client struct {
	number  int
	random  *rand.Rand
	nextID  uint32
	mine    []step
	pending *step
	call    int64
	done    int
}

func (c *client) work(t *testing.T, n *nodeProcess, h *history, share int) {
	for c.done < share {
		var op step
		switch k := c.random.IntN(10); {
		case k == 0:
			op = step{what: "used"}
		case k < 4 || len(c.mine) == 0:
			c.nextID++
			op = step{"admit", uint32(c.number)<<24 | c.nextID, 1 + c.random.IntN(5)}
			c.done++
		default:
			i := c.random.IntN(len(c.mine))
			op = c.mine[i]
			op.what = "release"
		}
		c.call = h.now()
		answer := n.ask(op.what, op.id, uint32(op.rate))
		drop := func() { c.mine = slices.DeleteFunc(c.mine, func(s step) bool { return s.id == op.id }) }
		switch {
		case answer == "":
			c.pending = &op
			return
		case op.what == "used":
			if _, err := fmt.Sscan(answer, &op.rate); err != nil {
				t.Errorf("used: %q", answer)
			}
			h.add(c.number, c.call, op)
		case op.what == "admit" && answer == "ok":
			h.add(c.number, c.call, op)
			c.mine = append(c.mine, op)
		case op.what == "admit" && answer == "no":
			op.what = "refused"
			h.add(c.number, c.call, op)
		case op.what == "admit" && answer == "failed":
			h.fleeting(c.number, c.call, op)
		case op.what == "release" && answer == "ok":
			h.add(c.number, c.call, op)
			drop()
		case op.what == "release" && answer == "failed": // it still has it
		default:
			t.Errorf("%s of %d: %q", op.what, op.id, answer)
			return
		}
	}
}

// settle finds out, from the next process, what became of the operation that the
// last one did not answer, and whether what it answered is there.
func (c *client) settle(t *testing.T, n *nodeProcess, h *history) {
	if c.pending != nil {
		op := *c.pending
		there := n.ask("there", op.id, 0)
		switch {
		case op.what == "admit" && there == "1":
			h.add(c.number, c.call, op)
			c.mine = append(c.mine, op)
		case op.what == "admit":
			h.fleeting(c.number, c.call, op)
		case op.what == "release" && there == "0":
			h.add(c.number, c.call, op)
			c.mine = slices.DeleteFunc(c.mine, func(s step) bool { return s.id == op.id })
		}
		c.pending = nil
	}
	for _, s := range c.mine {
		if there := n.ask("there", s.id, 0); there != "1" {
			t.Errorf("%d was admitted, and after a crash there are %s of it", s.id, there)
		}
	}
}

// "The sum of what is admitted never exceeds the SLS at any instant, whatever
// fails or races": 10,000 requests of eight clients, while the disk fails and the
// process is killed five times, are linearizable; nothing is admitted twice, and
// nothing is lost that was answered. interdomain-qosm §5, §6
func TestAdmissionsAreLinearizable(t *testing.T) {
	admissions := 10_000
	if testing.Short() || raceEnabled {
		admissions = 2000
	}
	// Between two bouts nothing is under way, so that each is a history of its own:
	// a short one, for what it takes to check one grows by leaps with its length.
	const clients, kills = 8, 5
	bouts, unknown := admissions/40, 0
	path := filepath.Join(t.TempDir(), "store.db")
	var all []*client
	for i := range clients {
		all = append(all, &client{number: i, random: rand.New(rand.NewPCG(7, uint64(i)))})
	}
	standing := func() (sum int) {
		for _, c := range all {
			for _, s := range c.mine {
				sum += s.rate
			}
		}
		return sum
	}
	counts := map[string]int{}
	n := startNode(t, path)
	for bout := range bouts {
		h, before := &history{}, standing()
		share := admissions / clients * (bout + 1) / bouts
		kill := bout%(bouts/kills) == bouts/kills-1
		var group sync.WaitGroup
		for _, c := range all {
			group.Go(func() {
				if kill && c.number == 0 { // it kills the process in the middle of the others' work
					c.work(t, n, h, share-admissions/clients/bouts/2)
					_ = n.cmd.Process.Kill()
				}
				c.work(t, n, h, share)
			})
		}
		group.Wait()
		if kill {
			<-n.ended
			n = startNode(t, path)
			for _, c := range all {
				c.settle(t, n, h)
			}
		}
		// What stands is the sum of what the clients have, and no more.
		if used := n.ask("used", 0, 0); used != fmt.Sprint(standing()) {
			t.Errorf("after bout %d there are %s in use; the clients have %d", bout, used, standing())
		}
		for _, op := range h.list {
			counts[op.Input.(step).what]++
		}
		if result := check(before, h.list); result == porcupine.Unknown {
			unknown++ // the search took too long, and has found nothing
		} else if result != porcupine.Ok {
			t.Errorf("bout %d, from %d on, %d operations: %s", bout, before, len(h.list), result)
		}
		if bout == 0 { // the check bites: it finds one admission more than there was room for
			bad := append(slices.Clone(h.list), porcupine.Operation{ClientId: clients, Input: step{"admit", 1 << 30, admitCapacity}, Call: h.clock / 2, Return: h.clock/2 + 1})
			if check(before, bad) == porcupine.Ok {
				t.Error("a history with an admission beyond the capacity passes")
			}
		}
	}
	_ = n.cmd.Process.Kill()
	<-n.ended
	t.Log(counts)
	if unknown > bouts/20 {
		t.Errorf("%d of %d bouts could not be checked in time", unknown, bouts)
	}
	for _, what := range []string{"admit", "refused", "release", "used", "ghost"} {
		if counts[what] == 0 {
			t.Errorf("nothing in the history is %s: %v", what, counts)
		}
	}
}

func check(before int, list []porcupine.Operation) porcupine.CheckResult {
	model := deskModel
	model.Init = func() []any { return []any{deskState{used: before}} }
	return porcupine.CheckOperationsTimeout(model.ToModel(), list, 3*time.Second)
}
