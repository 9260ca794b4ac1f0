package node

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
)

// newTestShard returns a shard with real machines, and nothing that it talks to.
func newTestShard(t *testing.T) *shard {
	t.Helper()
	s := &shard{node: &Node{}, stopped: make(chan struct{})}
	s.init()
	var err error
	s.qne, err = newQNE(newSimWorld(t, 1).as[0].cfg, qneParts{
		started: time.Now(), random: random, fill: func(b []byte) { clear(b) },
		route: func(wire.MRI) (gist.QueryRoute, error) { return gist.QueryRoute{}, errStopped },
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.tcp, err = transport.ListenTCP(transport.TCPConfig{Handler: func([]gist.Event) {}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.tcp.Close() })
	return s
}

// However events come, by readers that lend themselves or by others, each is
// worked on once, one at a time, in the order of who put it, and none waits for
// ever.
func TestShardWorksOnEveryEventOnceInOrder(t *testing.T) {
	s := newTestShard(t)
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { s.run(ctx) })
	const putters, each = 6, 3000
	var next [putters]int // without a lock: the race detector watches
	working := false
	var all sync.WaitGroup
	for p := range putters {
		all.Go(func() {
			for i := range each {
				done := make(chan struct{})
				ev := func() {
					if working || next[p] != i {
						t.Errorf("event %d of putter %d comes when %d was expected, another at work: %t", i, p, next[p], working)
					}
					working = true
					next[p]++
					working = false
					close(done)
				}
				switch {
				case p%2 == 1:
					s.inbox.put(ev)
				case p == 4:
					s.inbox.offer(ev, 0, byPeer)
					s.inbox.signal()
				default:
					s.inbox.wait(ev, 0)
					s.lend()
				}
				if i%64 == 0 { // this one has nobody to push it on
					<-done
				}
			}
		})
	}
	all.Wait()
	if err := s.call(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	cancel()
	loop.Wait()
	for p, n := range next {
		if n != each {
			t.Errorf("%d events of putter %d, want %d", n, p, each)
		}
	}
}

// After the inbox is closed a reader has nothing to do, and is not held up.
func TestShardTakesNothingAfterClose(t *testing.T) {
	s := newTestShard(t)
	s.inbox.put(func() { t.Error("worked on after close") })
	s.inbox.close()
	if s.inbox.wait(func() {}, 0) || s.inbox.offer(func() {}, 0, byStranger) {
		t.Error("a closed inbox takes events")
	}
	s.lend()
}

func TestShardCloseWaitsForWhoIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shard{node: &Node{}}
		s.inbox.init()
		s.inbox.put(func() {})
		if !s.inbox.claim() {
			t.Fatal("no claim of an inbox with an event")
		}
		closed := false
		go func() {
			s.inbox.close()
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Error("close came back while somebody was at work")
		}
		s.inbox.leave()
		synctest.Wait()
		if !closed || s.inbox.claim() {
			t.Errorf("closed %t; want closed, and nothing to claim", closed)
		}
	})
}

// The timer of a shard is set for the earliest deadline whoever has made it.
func TestShardTimerIsArmedByWhoLendsItself(t *testing.T) {
	s := newTestShard(t)
	start := time.Now()
	s.armed = start.Add(time.Minute)
	s.arm(start) // no machine has a deadline: nothing changes
	if want := start.Add(time.Minute); s.armed != want {
		t.Errorf("armed for %v, want %v", s.armed, want)
	}
	s.inbox.wait(timerFired{}, 0)
	s.lend()
	if !s.armed.IsZero() {
		t.Errorf("armed for %v after the timer fired and nothing is due, want not at all", s.armed)
	}
}

// What waits for a shard is bounded in octets: datagrams above that are dropped
// and counted, and do not hold connections up; connections wait.
func TestShardInboxIsBoundedInOctets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		s := &shard{node: n}
		s.inbox.init()
		batch := func() []gist.Event {
			return []gist.Event{gist.Datagram{Payload: make([]byte, 9000)}, gist.Datagram{Payload: make([]byte, 900)}}
		}
		s.inbox.busy = true // somebody is at work, and for long
		for range 2000 {
			n.offer(s, batch(), byStranger)
		}
		const fit = datagramsLimit / (9900 + 2*eventOverhead)
		if len(s.inbox.events) != fit {
			t.Errorf("%d batches wait, want %d", len(s.inbox.events), fit)
		}
		dropped := uint64(0)
		n.counts.each(func(layer, kind string, c uint64) {
			if layer == "udp" && kind == "overload" {
				dropped = c
			}
		})
		if dropped != 2*(2000-fit) {
			t.Errorf("%d datagrams counted as dropped, want %d", dropped, 2*(2000-fit))
		}
		n.offer(s, batch(), byPeer)
		if len(s.inbox.events) != fit+1 {
			t.Error("strangers leave a peer no room")
		}
		read := 0
		go func() {
			for range 600 {
				s.fromConnections([]gist.Event{&gist.ConnMessage{Payload: make([]byte, 32<<10)}})
				read++
			}
		}()
		synctest.Wait()
		const room = (connectionsLimit-1)/(32<<10+eventOverhead) + 1
		if read != room {
			t.Errorf("%d messages were read while nobody worked on them, want %d", read, room)
		}
		s.inbox.take(nil)
		synctest.Wait()
		if read != 600 || len(s.inbox.events) != 600-room {
			t.Errorf("%d messages read and %d wait after the rest was taken, want 600 and %d", read, len(s.inbox.events), 600-room)
		}
		s.inbox.busy = false
	})
}

// RFC 5971 §5.3.3: "A single rate limiter applies to all traffic": shards share
// what the configuration says.
func TestShardsShareTheDModeRate(t *testing.T) {
	cfg := newSimWorld(t, 1).as[0].cfg
	cfg.GIST.Limits.DModePerSecond = 2000
	flow := wire.MRI{Method: wire.OffPath, Flow: simFlow, Egress: netip.MustParseAddr("127.1.2.1"), Ingress: netip.MustParseAddr("127.2.1.1")}
	for shards, burst := range map[int]int{0: 200, 1: 200, 2: 100, 3: 67} {
		q, err := newQNE(cfg, qneParts{
			shards: shards, started: time.Now(), random: random, fill: func(b []byte) { clear(b) },
			route: func(wire.MRI) (gist.QueryRoute, error) {
				return gist.QueryRoute{To: netip.MustParseAddrPort("127.1.0.2:10270")}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		left, now := 0, time.Unix(1_000_000, 0)
		for i := range 300 {
			for _, a := range q.gist.Handle(now, gist.SendMessage{
				NSLPID: nslpID, SID: wire.SID{1, byte(i >> 8), byte(i)}, MRI: flow, NSLPData: []byte("data"), Attr: gist.TransferAttributes{Reliable: true},
			}) {
				if _, ok := a.(gist.SendDatagram); ok {
					left++
				}
			}
		}
		// An eighth is kept for Confirms and Data.
		if want := burst - burst/8; left != want {
			t.Errorf("%d shards: %d Queries left at once, want %d", shards, left, want)
		}
	}
}

// RFC 5971 §4.3.3: GIST hears of the datagrams that did not fit the path, and of
// no others that could not be sent.
func TestTooLargeDatagramsAreTold(t *testing.T) {
	s := newTestShard(t)
	s.node = &Node{}
	to := netip.MustParseAddrPort("192.0.2.1:270")
	s.out = []transport.Outgoing{{}, {SendDatagram: gist.SendDatagram{To: to, Payload: []byte("large")}}}
	s.tooLarge([]*transport.SendError{{Index: 0, To: to, Err: syscall.EAGAIN}, {Index: 1, To: to, Err: fmt.Errorf("send: %w", syscall.EMSGSIZE)}})
	evs := s.inbox.take(nil)
	if len(evs) != 1 {
		t.Fatalf("told %v", evs)
	}
	if e, ok := evs[0].(gist.DatagramTooLarge); !ok || e.To != to || string(e.Payload) != "large" || e.MTU != 0 {
		t.Errorf("told %+v", evs[0])
	}
}
