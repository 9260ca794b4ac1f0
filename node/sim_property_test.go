package node

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/sls"
)

// Seeds of the property test: INTERQOS_SIM_SEED runs one with its trace,
// INTERQOS_SIM_RUNS so many, from that one or the first.
const (
	envSimSeed = "INTERQOS_SIM_SEED"
	envSimRuns = "INTERQOS_SIM_RUNS"
)

// After any interleaving of requests, loss, repetition, overtaking, broken
// connections, partitions, restarts and failures, and then quiet: what every AS
// has committed, on paper and in its network, is what the initiator was told,
// nothing is held, and at no instant was more sold than an SLS allows
// (interdomain-qosm §5, §6).
func TestSimAgreement(t *testing.T) {
	first, runs, trace := uint64(1), 200, 600
	if testing.Short() {
		runs = 30
	}
	if n, ok := envNumber(t, envSimSeed); ok {
		first, runs, trace = n, 1, 1_000_000
	}
	if n, ok := envNumber(t, envSimRuns); ok {
		runs, trace = int(n), 0 // to find seeds; a trace is of one
	}
	for i := range runs {
		seed := first + uint64(i)
		ok := t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) { newChaos(t, seed, trace).run() })
		if !ok {
			t.Logf("again with: %s=%d go test -run TestSimAgreement ./node", envSimSeed, seed)
		}
		if !ok && trace > 0 {
			return
		}
	}
}

func envNumber(t *testing.T, name string) (uint64, bool) {
	s := os.Getenv(name)
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// chaos is one run: what can go wrong, and how often.
type chaos struct {
	*simWorld
	storms   bool // datagrams lost, doubled, late
	breaks   bool // connections break
	cuts     bool // partitions
	crashes  bool
	slow     bool // store and driver
	faulty   bool // store and driver fail
	preempts bool // requests have priorities, and the SLSs heed them
	disturb  bool // all of that is going on
	sessions []*simSession
	counts   map[string]int
}

func newChaos(t testing.TB, seed uint64, trace int) *chaos {
	c := &chaos{counts: make(map[string]int)}
	c.simWorld = newSimWorld(t, seed, func(cfg *Config) {
		if seed%4 == 0 {
			for i := range cfg.Edges {
				cfg.Edges[i].Discovery = DiscoveryConfigured
			}
		}
	})
	c.traceMax = trace
	if c.preempts = seed%3 == 0; c.preempts {
		c.allowPreemption(0, 1, 2)
	}
	flip := func() bool { return c.rng.IntN(2) == 0 }
	c.storms, c.breaks, c.cuts, c.crashes, c.slow, c.faulty = flip(), flip(), flip(), flip(), flip(), flip()
	for _, a := range c.as {
		a.surviving = flip()
		if flip() { // START_TIME lets clocks differ by 5 s, the way included
			a.skew = time.Duration(c.rng.IntN(4000)-2000) * time.Millisecond
		}
		if flip() {
			a.bgpDelay = time.Duration(c.rng.IntN(8000)) * time.Millisecond
		}
		a.disk.delay, a.device.delay = c.delay, c.delay
		a.disk.fault = func(bool, sls.ID) fault { return c.draw() }
		a.device.fault = func(string, intradomain.ID) fault { return c.draw() }
	}
	c.logf("storms %v breaks %v cuts %v crashes %v slow %v faulty %v", c.storms, c.breaks, c.cuts, c.crashes, c.slow, c.faulty)
	return c
}

// delay of one operation of a store or driver.
func (c *chaos) delay() time.Duration {
	switch {
	case !c.disturb || !c.slow:
		return 200 * time.Microsecond
	case c.rng.IntN(20) == 0:
		return time.Duration(c.rng.IntN(70_000)) * time.Millisecond
	}
	return time.Duration(c.rng.IntN(300)) * time.Millisecond
}

func (c *chaos) draw() fault {
	if !c.disturb || !c.faulty || c.rng.IntN(8) != 0 {
		return noFault
	}
	return fault(1 + c.rng.IntN(2))
}

func (c *chaos) run() {
	c.disturb = true
	c.links(true)
	for range 10 + c.rng.IntN(40) {
		c.step()
		c.net.Run(c.pause())
	}
	c.logf("---- quiet")
	c.disturb = false
	c.heal()
	c.settle()
	c.mustAgree()
	c.count()
	if c.rng.IntN(2) == 0 {
		c.releaseAll()
	} else {
		c.initiatorDies()
	}
}

func (c *chaos) pause() time.Duration {
	ms := []int{0, 1, 3, 10, 50, 400, 2000, 7000, 40_000, 100_000}[c.rng.IntN(10)]
	return time.Duration(ms) * time.Millisecond
}

// between are the addresses that datagrams and connections between ASs go by.
func (c *chaos) between() (all [][2]netip.Addr) {
	for i, a := range c.as[:len(c.as)-1] {
		b := c.as[i+1]
		all = append(all, [2]netip.Addr{a.cfg.GIST.Address, b.cfg.GIST.Address})
		for _, e := range a.cfg.Edges {
			if e.Neighbor.AS == b.cfg.AS {
				all = append(all, [2]netip.Addr{e.External, e.Neighbor.Address})
			}
		}
	}
	return all
}

func (c *chaos) links(bad bool) {
	l := simnet.Link{Delay: 2 * time.Millisecond}
	if bad && c.storms {
		l.Loss, l.Duplicate = 0.3*c.rng.Float64(), 0.3*c.rng.Float64()
		l.Jitter = time.Duration(c.rng.IntN(800)) * time.Millisecond
	}
	for _, p := range c.between() {
		c.net.SetLink(p[0], p[1], l)
	}
}

// step does one random thing.
func (c *chaos) step() {
	switch k := c.rng.IntN(100); {
	case k < 35:
		c.request()
	case k < 50:
		c.change()
	case k < 62:
		c.end()
	case k < 72 && c.crashes:
		c.counts["crash"]++
		c.as[c.rng.IntN(len(c.as))].restart(time.Duration(c.rng.IntN(10_000))*time.Millisecond, c.rng.IntN(2) == 0)
	case k < 80 && c.breaks:
		c.breakConn()
	case k < 88 && c.cuts:
		c.cut()
	case c.storms:
		c.links(true)
	}
}

func (c *chaos) up() bool { return c.as[0].p != nil }

func (c *chaos) request() {
	if !c.up() || len(c.sessions) >= 12 {
		return
	}
	s := c.session()
	if c.preempts {
		s.preempt.Defending = uint16(1 + c.rng.IntN(4))
		s.preempt.Preempting = uint16(c.rng.IntN(int(s.preempt.Defending) + 1))
	}
	c.sessions = append(c.sessions, s)
	rate := mbit(uint64(1 + c.rng.IntN(30)))
	least := uint64(0)
	if c.rng.IntN(3) == 0 {
		least = max(rate/4, 1)
	}
	c.counts["reserve"]++
	c.reserve(s, rate, least)
}

func (c *chaos) pick() *simSession {
	if !c.up() || len(c.sessions) == 0 {
		return nil
	}
	s := c.sessions[c.rng.IntN(len(c.sessions))]
	if s.pending != "" {
		return nil // the API takes one request of a session at a time
	}
	return s
}

func (c *chaos) change() {
	if s := c.pick(); s != nil {
		c.counts["change"]++
		rate := mbit(uint64(1 + c.rng.IntN(40)))
		least := uint64(0)
		if c.rng.IntN(3) == 0 {
			least = max(rate/4, 1)
		}
		c.reserve(s, rate, least)
	}
}

func (c *chaos) end() {
	if s := c.pick(); s != nil {
		c.counts["release"]++
		c.release(s)
	}
}

func (c *chaos) breakConn() {
	a := c.as[c.rng.IntN(len(c.as))]
	if a.p == nil {
		return
	}
	for _, id := range sortedConns(a.p.conns) {
		if c.rng.IntN(2) == 0 {
			c.counts["break"]++
			c.logf("connection %d of AS%d breaks", id, a.cfg.AS)
			a.p.conns[id].Break(simnet.ErrReset)
		}
	}
}

func (c *chaos) cut() {
	all := c.between()
	p := all[c.rng.IntN(len(all))]
	c.counts["cut"]++
	c.logf("cut between %v and %v", p[0], p[1])
	c.net.Partition(p[0], p[1])
	c.net.After(time.Duration(c.rng.IntN(90_000))*time.Millisecond, func() {
		c.logf("healed between %v and %v", p[0], p[1])
		c.net.Heal(p[0], p[1])
	})
}

func (c *chaos) heal() {
	c.links(false)
	for _, p := range c.between() {
		c.net.Heal(p[0], p[1])
	}
	for _, a := range c.as {
		if a.p == nil {
			a.boot()
		}
	}
}

// lifetimeOf is what QoS-NSLP gives a session that nobody refreshes.
const simLifetime = 158 * time.Second // 5.25 times 30 s

// settle lets several lifetimes pass, and makes sure of the sessions about which
// the application was left in doubt by its own AS's crash: whatever stands,
// everybody must agree on it.
func (c *chaos) settle() {
	c.net.Run(5 * simLifetime)
	for _, s := range c.sessions {
		if s.unsure {
			c.resolve(s)
		}
	}
}

// resolve takes what the initiator's AS has for what the application was told.
func (w *simWorld) resolve(s *simSession) {
	s.reserved, s.unsure = false, false
	if i, ok := w.as[0].p.q.domain.Session(s.sid); ok {
		s.reserved, s.rate = true, i.Rate
	}
}

// count is for whoever wants to know what the runs were made of.
func (c *chaos) count() {
	for _, s := range c.sessions {
		for _, r := range s.results {
			c.counts["told "+kindText(r.Kind)]++
		}
		if s.reserved {
			c.counts["standing"]++
		}
	}
	for _, a := range c.as {
		c.counts["preempted"] += a.notes[layerDomain+"/preempted"]
	}
	c.t.Log(c.counts)
}

func (c *chaos) releaseAll() {
	c.logf("---- release all")
	for _, s := range c.sessions {
		c.release(s)
	}
	c.net.Run(simLifetime)
	for _, s := range c.sessions {
		if r := s.results[len(s.results)-1]; r.Kind != qosnslp.Released {
			c.fatalf("%s: released, and told %s %v", short(s.sid), kindText(r.Kind), r.Info)
		}
	}
	c.mustAgree()
}

// initiatorDies: what is not refreshed is released within the lifetime, with
// TEAR downstream (interdomain-qosm §6).
func (c *chaos) initiatorDies() {
	c.logf("---- the initiator dies")
	c.as[0].crash(true)
	c.net.Run(simLifetime + 10*time.Second)
	for _, a := range c.as[1:] {
		if list := a.problems(nil); len(list) > 0 {
			c.fatalf("the initiator is dead for longer than the lifetime:\n%s", joinLines(list))
		}
	}
}
