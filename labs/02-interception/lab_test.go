package interception_test

import (
	"fmt"
	"testing"
)

// With no GIST on the router the kernel forwards the Query, and A and B are
// peers.
func TestRouterWithoutGIST(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		l := newLab(t)
		b := l.b.start(v.b)
		a := l.a.start(v.a)
		a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: "past the router", Reliable: true})
		if r := b.received("past the router"); r.Peer != v.a {
			t.Errorf("B received it from %s, want %s", r.Peer, v.a)
		}
		a.peer(1, 1, v.b)
	})
}

// RFC 5971 §4.3.1: with a GIST node on the router that serves the NSLPID, the
// router intercepts A's Query and becomes A's peer, and B's for what it sends on.
// The same where Queries have the flow's source (§5.8.1.2), and with the raw
// method for IPv4 packets of router alert value 0, that of other NSLPIDs.
func TestRouterIsPeer(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		l := newLab(t)
		b := l.b.start(v.b)
		r := l.r1.start(v.r1, "-intercept", "nftables", "-relay", "-flow-source")
		a := l.a.start(v.a, "-flow-source")
		a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: "by the router", Reliable: true})
		if got := r.received("by the router"); got.Peer != v.a {
			t.Errorf("R received it from %s, want %s", got.Peer, v.a)
		}
		if got := b.received("by the router"); got.Peer != v.r1 {
			t.Errorf("B received it from %s, want %s", got.Peer, v.r1)
		}
		a.peer(1, 1, v.r1)
		if b.has(func(r report) bool { return r.Event == "received" && r.Peer == v.a }) {
			t.Error("B heard of A directly too")
		}
	})
	t.Run("raw", func(t *testing.T) {
		l := newLab(t)
		b := l.b.start("10.2.0.1", "-nslp", "77")
		l.r1.start("10.1.0.254", "-nslp", "77", "-intercept", "raw", "-relay")
		a := l.a.start("10.1.0.1", "-nslp", "77")
		a.send(command{NSLPID: 77, SID: 1, From: "10.1.0.1", To: "10.2.0.1", Text: "raw", Reliable: true})
		if got := b.received("raw"); got.Peer != "10.1.0.254" {
			t.Errorf("B received it from %s, want R", got.Peer)
		}
		a.peer(77, 1, "10.1.0.254")
	})
}

// RFC 5971 §4.3.4, §4.3.2: a GIST node that does not serve the NSLPID, or whose
// application declines, forwards the Query, and A and B are peers. tshark, which
// we did not write, compares the packet on both sides of the router.
func TestRouterForwardsUnharmed(t *testing.T) {
	for name, args := range map[string][]string{"NSLPID not served": {"-nslp", "77"}, "declined": {"-decline"}} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, v version) {
				l := newLab(t)
				b := l.b.start(v.b)
				r := l.r1.start(v.r1, append([]string{"-intercept", "nftables"}, args...)...)
				before, after := l.r1.capture("to-a"), l.r1.capture("to-b")
				a := l.a.start(v.a, "-flow-source")
				a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: "forwarded", Reliable: true})
				if got := b.received("forwarded"); got.Peer != v.a {
					t.Errorf("B received it from %s, want %s", got.Peer, v.a)
				}
				a.peer(1, 1, v.b)
				r.until("to say that it forwarded", func(r report) bool { return r.Event == "note" && r.Text == "forwarded" })
				compare(t, before.stop(), after.stop())
			})
		})
	}
}

// A router that crashes leaves rules in its kernel that hinder nobody: Queries
// pass it. Started again, it replaces them, and is the peer again.
func TestRouterRestarts(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		l := newLab(t)
		b := l.b.start(v.b)
		r := l.r1.start(v.r1, "-intercept", "nftables", "-relay")
		a := l.a.start(v.a, "-validity", "2s")
		say := func(sid uint32, text string) {
			a.send(command{NSLPID: 1, SID: sid, From: v.a, To: v.b, Text: text, Reliable: true})
		}
		say(1, "one")
		if got := b.received("one"); got.Peer != v.r1 {
			t.Fatalf("B received it from %s, want %s", got.Peer, v.r1)
		}
		r.kill()
		say(2, "two") // a session of which nobody knows yet
		if got := b.received("two"); got.Peer != v.a {
			t.Errorf("with R gone B received it from %s, want %s", got.Peer, v.a)
		}
		a.peer(1, 1, v.b) // the refresh finds the next one
		r = l.r1.start(v.r1, "-intercept", "nftables", "-relay")
		a.peer(1, 1, v.r1)
		say(1, "three")
		if got := b.received("three"); got.Peer != v.r1 {
			t.Errorf("with R back B received it from %s, want %s", got.Peer, v.r1)
		}
		r.received("three")
	})
}

// RFC 5971 §7.1.2: A's kernel leads the flow over the other router, A hears of it
// and finds the new peer; of the messages that it sends meanwhile none is lost.
func TestRouteChangeUnderTraffic(t *testing.T) {
	each(t, func(t *testing.T, v version) {
		l := newLab(t)
		b := l.b.start(v.b)
		l.r1.start(v.r1, "-intercept", "nftables", "-relay")
		r2 := l.r2.start(v.r2, "-intercept", "nftables", "-relay")
		a := l.a.start(v.a)
		sent := 0
		say := func() {
			a.send(command{NSLPID: 1, SID: 1, From: v.a, To: v.b, Text: fmt.Sprintf("message %d", sent), Reliable: true})
			sent++
		}
		say()
		if got := b.received("message 0"); got.Peer != v.r1 {
			t.Fatalf("B received it from %s, want %s", got.Peer, v.r1)
		}
		for range 5 {
			say()
		}
		l.over(2)
		for !r2.has(func(r report) bool { return r.Event == "received" }) {
			say()
			b.received(fmt.Sprintf("message %d", sent-1)) // sets the pace, and ends the test if it never comes
			if sent > 10_000 {
				t.Fatal("10,000 messages, and none over R2")
			}
		}
		a.peer(1, 1, v.r2)
		for i := range sent {
			b.received(fmt.Sprintf("message %d", i))
		}
	})
}
