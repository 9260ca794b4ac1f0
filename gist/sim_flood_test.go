package gist

import (
	"fmt"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/simnet"
)

// Sessions that stand while a flood goes on, on a network in memory: RFC 5971
// §8.4.

const liveSessions = 1000

// flooded is a node under 100,000 spoofed messages a second: Queries of all
// methods, and Confirms with cookies of nobody.
type flooded struct {
	n       *simNode
	s       *spoofer
	offPath []byte
	confirm []byte
	sent    int
}

func newFlooded(n *simNode) *flooded {
	q := mustQuery(testSID(12345))
	c := wire.Message{
		Header: wire.Header{HopCount: 9, NSLPID: testNSLP, Type: wire.Confirm, S: true},
		HasMRI: true, MRI: pc, HasSID: true, SID: testSID(54321), HasNLI: true, NLI: q.NLI, ResponderCookie: make([]byte, cookieLen),
	}
	return &flooded{n: n, s: newSpoofer(), offPath: queryFor(testSID(12345), "xx", addr("198.18.7.7")), confirm: c.AppendDatagram(nil)}
}

// burst hands in so many messages, and lets nothing that comes of them onto the
// network: there is nobody at the other end.
func (f *flooded) burst(n int) {
	for i := range n {
		d := f.s.next()
		switch i % 10 {
		case 8:
			d.Payload = f.offPath
		case 9:
			d.Payload = f.confirm
		}
		f.n.m.Handle(f.n.net.Now(), d)
	}
	f.sent += n
	f.n.rearm()
}

// run lets time go on for as long as a flood of floodSize messages takes at
// 100,000 a second, and calls f each millisecond.
func (f *flooded) run(each func(ms int)) {
	for ms := range floodSize() / 100 {
		f.burst(100)
		each(ms)
		f.n.net.Run(time.Millisecond)
	}
}

// Of a thousand live sessions' Data none is lost in C-mode, and no state goes,
// while a million spoofed messages come in.
func TestLiveSessionsInCModeUnderFlood(t *testing.T) {
	d := newDomains(t, 41, func(c *Config) { c.ValidityOffPath = 3 * time.Second }) // refreshed all the time
	for i := range liveSessions {
		d.q1.send(testSID(i), hop12, fmt.Sprintf("first %d", i))
	}
	d.net.Run(2 * time.Second)
	if n := len(d.q2.recv); n != liveSessions {
		t.Fatalf("%d of %d sessions stand", n, liveSessions)
	}
	d.q2.notices, d.q1.notices = nil, nil
	f := newFlooded(d.q2)
	sent := 0
	f.run(func(ms int) {
		d.q1.send(testSID(ms%liveSessions), hop12, fmt.Sprintf("%d", ms))
		d.q2.send(testSID(ms%liveSessions), hop12.Reverse(), fmt.Sprintf("%d", ms))
		sent++
	})
	d.net.Run(time.Second)
	for i := range sent {
		data := pad4(fmt.Sprintf("%d", i))
		if there, back := d.q2.received[string(data)], d.q1.received[string(data)]; there != 1 || back != 1 {
			t.Fatalf("message %d: arrived %d times, and %d times the other way", i, there, back)
		}
	}
	wantUntouched(t, d.q1, d.q2)
	if n := d.q1.m.Stats().QueriesOut; floodSize() == 1_000_000 && n < 3*liveSessions {
		t.Errorf("%d Queries: the states were hardly refreshed meanwhile", n)
	}
	if n := len(d.q2.m.peers); n != 1 {
		t.Errorf("%d peers after %d spoofed messages", n, f.sent)
	}
}

// wantUntouched: every session's state stands, nothing has failed, and nobody
// was told of any change.
func wantUntouched(t *testing.T, nodes ...*simNode) {
	t.Helper()
	for _, n := range nodes {
		n.check()
		if s := n.m.Stats(); s.RoutingStates != liveSessions || s.MessagesFailed != 0 || s.HandshakesFailed != 0 {
			t.Errorf("%s: %+v", n.cfg.Identity, s)
		}
		if len(n.notices) != 0 || len(n.status) != 0 {
			t.Errorf("%s was told %v, %v", n.cfg.Identity, n.notices, n.status)
		}
		for info := range n.m.RoutingStates {
			if info.Status != Good {
				t.Fatalf("%s: session %v is %v", n.cfg.Identity, info.SID, info.Status)
			}
		}
	}
}

// In D-mode, where a flooded socket loses two in ten of what peers send,
// retransmission recovers all: the handshakes' by GIST, the Data's by the
// application, which waits for an answer to each (as QoS-NSLP does).
func TestLiveSessionsInDModeUnderFlood(t *testing.T) {
	ch := newChain(t, 42, func(c *Config) {
		c.DModeData, c.ValidityPathCoupled = true, 12*time.Second
	})
	ch.net.Default.Hops = 1
	ch.b.onRecv = func(r RecvMessage) {
		ch.b.do(SendMessage{NSLPData: append([]byte("ack "), r.Data...), NSLPID: r.NSLPID, SID: r.SID, MRI: r.MRI.Reverse()})
	}
	for i := range liveSessions {
		ch.a.sendUnreliable(testSID(i), pc, "first")
	}
	ch.net.Run(time.Second)
	if n := len(ch.b.recv); n != liveSessions {
		t.Fatalf("%d of %d sessions stand", n, liveSessions)
	}
	ch.a.notices, ch.b.notices = nil, nil
	ch.net.Default = simnet.Link{Delay: time.Millisecond, Hops: 1, Loss: 0.2}
	again := 0
	var try func(sid wire.SID, data string, wait time.Duration)
	try = func(sid wire.SID, data string, wait time.Duration) {
		ch.a.sendUnreliable(sid, pc, data)
		ch.net.After(wait, func() {
			if ch.a.received["ack "+data] == 0 {
				again++
				try(sid, data, min(2*wait, 800*time.Millisecond))
			}
		})
	}
	f := newFlooded(ch.b)
	sent := 0
	f.run(func(ms int) {
		try(testSID(ms%liveSessions), string(pad4(fmt.Sprintf("%d", ms))), 100*time.Millisecond)
		sent++
	})
	ch.net.Default.Loss = 0 // the flood is over
	ch.net.Run(40 * time.Second)
	for i := range liveSessions { // a refresh that failed is made good by the next message
		try(testSID(i), string(pad4(fmt.Sprintf("%d", sent+i))), 100*time.Millisecond)
	}
	sent += liveSessions
	ch.net.Run(time.Second)
	for i := range sent {
		if ch.a.received["ack "+string(pad4(fmt.Sprintf("%d", i)))] == 0 {
			t.Fatalf("message %d of %d was never answered", i, sent)
		}
	}
	if again == 0 {
		t.Error("nothing was lost: nothing is proved")
	}
	for _, n := range []*simNode{ch.a, ch.b} {
		n.check()
		if s := n.m.Stats(); s.RoutingStates != liveSessions || s.QueuedBytes != 0 {
			t.Errorf("%s: %+v", n.cfg.Identity, s)
		}
	}
}
