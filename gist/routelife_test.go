package gist

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// routed looks for contradictions between states, statuses and the path index.
func (m *Machine) routed() error {
	watching := 0
	for sid, r := range m.sessions {
		for ; r != nil; r = r.next {
			switch {
			case r.watch != nil && (r.watch.r != r || r.watch.group.dst != destination(&r.mri)):
				return fmt.Errorf("%v is watched as another", sid)
			case r.querying && (r.status == Bad) != (r.state == awaitingResponse):
				return fmt.Errorf("%v: status %d in %v", sid, r.status, r.state)
			case r.querying && r.status == Tentative && !r.running && !r.verify && r.waitMA == nil:
				return fmt.Errorf("%v is Tentative, and nobody verifies it", sid)
			case r.querying && r.state == awaitingResponse && !r.running && r.hasWaiting():
				return fmt.Errorf("%v: nobody asks, and messages wait", sid)
			}
			if r.watch != nil {
				watching++
			}
		}
	}
	for dst, g := range m.paths.groups.All() {
		n := 0
		for w := g.first; w != nil; w = w.next {
			n++
		}
		if n != g.n || n == 0 || g.dst != dst {
			return fmt.Errorf("group %v counts %d, has %d", dst, g.n, n)
		}
		watching -= n
	}
	if watching != 0 {
		return fmt.Errorf("%d states more are watched than groups have", watching)
	}
	if len(m.paths.work) > 0 && m.paths.tm.pos == 0 {
		return fmt.Errorf("%d checks wait for ever", len(m.paths.work))
	}
	return nil
}

// A random life of route changes, losses, calls of the application and restarts on
// a path with a fork: no contradiction at any moment, at most one of the two
// ways in use, and when all is quiet messages flow, and then nothing is left.
func TestRandomRouteLife(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		randomRouteLife(t, seed)
	}
}

func randomRouteLife(t *testing.T, seed uint64) {
	t.Helper()
	f := newFork(t, seed, func(c *Config) {
		c.DModeData, c.Inactivity, c.MessageTimeout = seed%2 == 0, 5*time.Minute, 20*time.Second
		c.Limits.DModeRate, c.Limits.DModeBurst = 50, 20
	})
	f.net.Default = simnet.Link{Loss: 0.1, Duplicate: 0.1, Delay: 2 * time.Millisecond, Jitter: 50 * time.Millisecond, Hops: 3}
	r := rand.New(rand.NewPCG(seed, 4))
	nodes := []*simNode{f.a, f.b, f.c}
	back := pc.Reverse()
	for range 200 {
		sid := testSID(r.IntN(5))
		switch r.IntN(14) {
		case 0, 1:
			f.path.Interface = 1 + r.Uint32N(2)
			f.a.do(RouteChanged{Interface: r.Uint32N(3)})
		case 2:
			f.err = nil
			if r.IntN(3) == 0 {
				f.err = fmt.Errorf("unreachable")
			}
			f.a.do(RouteChanged{})
		case 3:
			ev := InvalidateRoutingState{MRI: pc, Status: RoutingStatus(2 + r.IntN(2)), Urgent: r.IntN(2) == 0}
			if r.IntN(2) == 0 {
				ev.NSLPData = []byte("why?")
			}
			f.a.do(ev)
		case 4:
			n := nodes[1+r.IntN(2)]
			n.do(InvalidateRoutingState{MRI: back, Status: RoutingStatus(2 + r.IntN(2))})
		case 5:
			n := nodes[1+r.IntN(2)]
			n.sendUnreliable(sid, back, "back")
		case 6:
			f.a.do(SetStateLifetime{NSLPID: testNSLP, SID: sid, MRI: pc, Lifetime: []time.Duration{0, time.Minute, Forever}[r.IntN(3)]})
		case 7:
			f.net.Default.Hops = uint8(2 + r.IntN(3))
		case 8:
			if r.IntN(3) == 0 {
				nodes[r.IntN(3)].restart([]string{"", "again"}[r.IntN(2)])
			}
		case 9:
			for _, c := range nodes[r.IntN(3)].conns {
				c.Break(simnet.ErrReset)
				break
			}
		case 10:
			f.a.send(sid, pc, "hard")
		default:
			f.a.sendUnreliable(sid, pc, "soft")
		}
		f.net.Run(time.Duration(r.IntN(2000)) * time.Millisecond)
		for _, n := range nodes {
			n.check()
			if err := n.m.routed(); err != nil {
				t.Fatalf("seed %d: %s: %v", seed, n.cfg.Identity, err)
			}
		}
	}
	f.err = nil
	f.net.Default = simnet.Link{Delay: time.Millisecond, Hops: 3}
	f.a.do(RouteChanged{})
	f.net.Run(2 * time.Minute)
	f.a.send(testSID(7), pc, "last")
	f.net.Run(time.Minute)
	onPath, off := f.b, f.c
	if f.path.Interface == 2 {
		onPath, off = off, onPath
	}
	if onPath.received["last"] != 1 || off.received["last"] != 0 {
		t.Fatalf("seed %d: on the path %v, off it %v; %v", seed, onPath.received, off.received, f.a.status)
	}
	f.a.do(SetStateLifetime{NSLPID: testNSLP, MRI: wire.MRI{Method: pc.Method, Flow: pc.Flow}})
	f.net.Run(10 * time.Minute)
	for _, n := range nodes {
		n.check()
		n.wantEmpty()
		if n.m.paths.groups.Size() != 0 || len(n.m.paths.work) != 0 {
			t.Errorf("seed %d: %s has %d groups, %d checks", seed, n.cfg.Identity, n.m.paths.groups.Size(), len(n.m.paths.work))
		}
	}
}
