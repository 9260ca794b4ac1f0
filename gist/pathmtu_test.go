package gist

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// narrow has datagrams of n that are larger than the path to their destination
// refused, as a socket does (EMSGSIZE), which says the path's MTU or does not.
func (n *simNode) narrow(mtu int, told bool) {
	n.refuse = func(d SendDatagram) bool {
		if len(d.Payload)+dmodeOverhead <= mtu {
			return false
		}
		ev := DatagramTooLarge{To: d.To, Payload: d.Payload}
		if told {
			ev.MTU = mtu
		}
		n.net.After(0, func() { n.do(ev) })
		return true
	}
}

// RFC 5971 §4.3.3: "The message size MUST NOT exceed the Path MTU to the next
// peer, if this is known": Data that did not fit goes over an association, once,
// and so does what follows; what is smaller still goes in D-mode.
func TestPathMTUOfData(t *testing.T) {
	for _, told := range []bool{true, false} {
		ch := newChain(t, 1, dmodeData, func(c *Config) { c.MTU = 1280 })
		data := ch.sent(aAddr, wire.Data)
		large, larger := strings.Repeat("large...", 60), strings.Repeat("larger..", 70)
		ch.a.sendUnreliable(testSID(1), pc, large)
		ch.net.Run(time.Second)
		if s := ch.a.m.Stats(); s.Associations != 0 || ch.b.received[large] != 1 {
			t.Fatalf("%d associations, b got %v", s.Associations, len(ch.b.recv))
		}
		ch.a.narrow(512, told)
		ch.a.sendUnreliable(testSID(1), pc, "small...")
		ch.net.Run(time.Second)
		if len(*data) != 2 || ch.b.received["small..."] != 1 {
			t.Errorf("MTU told %v: %d in D-mode", told, len(*data))
		}
		ch.a.sendUnreliable(testSID(1), pc, larger)
		ch.net.Run(time.Second)
		if s := ch.a.m.Stats(); s.Associations != 1 || ch.b.received[larger] != 1 {
			t.Errorf("MTU told %v: %d associations, b got it %d times", told, s.Associations, ch.b.received[larger])
		}
		if got := ch.a.m.mtuTo(bAddr); told && got != 512 || !told && (got <= 512 || got >= 1280) {
			t.Errorf("MTU told %v: taken for %d", told, got)
		}
		sent := len(*data)
		ch.a.sendUnreliable(testSID(2), pc, larger) // another session: it was known before
		ch.net.Run(time.Second)
		if len(*data) != sent || ch.b.received[larger] != 2 {
			t.Errorf("MTU told %v: %d more in D-mode, b got it %d times", told, len(*data)-sent, ch.b.received[larger])
		}
	}
}

// Upstream, the responder has no association to open: its application is told.
func TestPathMTUAtTheResponder(t *testing.T) {
	ch := newChain(t, 2, dmodeData, func(c *Config) { c.MTU = 1280 })
	ch.a.sendUnreliable(testSID(1), pc, "hello...")
	ch.net.Run(time.Second)
	ch.b.narrow(512, true)
	back := SendMessage{NSLPData: make([]byte, 600), Handle: 7, NSLPID: testNSLP, SID: testSID(1), MRI: pc.Reverse()}
	ch.b.do(back)
	ch.net.Run(time.Second)
	first := len(ch.b.status)
	ch.b.do(back)
	ch.net.Run(31 * time.Second)
	if len(ch.b.status) != 2 || ch.b.status[0].Handle != 7 || ch.b.status[0].Err == nil || ch.b.status[1].Err == nil {
		t.Errorf("b was told %v (%d at once)", ch.b.status, first)
	}
	if n := ch.a.received[string(back.NSLPData)]; n != 0 {
		t.Errorf("a got it %d times", n)
	}
}

// A Query that its payload makes too large is sent again without, at once; what
// uses no routing state is refused from then on, until the path MTU is forgotten.
func TestPathMTUOfQueries(t *testing.T) {
	ch := newChain(t, 3, dmodeData, func(c *Config) { c.MTU = 1280 })
	queries := ch.sent(aAddr, wire.Query)
	ch.a.sendUnreliable(testSID(1), pc, "one.")
	ch.net.Run(time.Second)
	ch.a.narrow(512, true)
	*queries = nil
	ch.a.do(InvalidateRoutingState{NSLPID: testNSLP, MRI: pc, Status: Bad, Urgent: true, NSLPData: make([]byte, 600)})
	ch.net.Run(100 * time.Millisecond) // less than T1
	if len(*queries) != 1 || (*queries)[0].NSLPData != nil || len((*queries)[0].StackProposal) == 0 {
		t.Errorf("Queries: %+v", *queries)
	}
	stateless := SendMessage{NSLPData: make([]byte, 600), Handle: 9, NSLPID: testNSLP, SID: testSID(2), MRI: pc, Attr: TransferAttributes{Stateless: true}}
	tooLarge := func() bool {
		ch.a.status = nil
		ch.a.do(stateless)
		return len(ch.a.status) == 1 && errors.Is(ch.a.status[0].Err, ErrTooLarge)
	}
	if !tooLarge() {
		t.Errorf("stateless: %v", ch.a.status)
	}
	ch.a.refuse = nil
	ch.net.Run(pathMTULifetime)
	if tooLarge() {
		t.Errorf("stateless, later: %v", ch.a.status)
	}
}

// Whatever the system tells, memory is bounded, and no MTU is less than IP's or
// more than what is configured.
func TestPathMTUsAreBounded(t *testing.T) {
	b := onPath(t, func(c *Config) { c.MTU = 1280 })
	first := netip.AddrFrom4([4]byte{10, 0, 0, 0})
	for i := range 3 * maxPathMTUs {
		b.now = b.now.Add(time.Millisecond)
		to := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		b.do(DatagramTooLarge{To: netip.AddrPortFrom(to, testPort), MTU: 1, Payload: make([]byte, 100)})
		if got := b.m.mtuTo(to); got != minMTU {
			t.Fatalf("MTU of %d", got)
		}
	}
	if len(b.m.mtus) != maxPathMTUs || b.m.mtuTo(first) != 1280 {
		t.Errorf("%d destinations, the first one's %d", len(b.m.mtus), b.m.mtuTo(first))
	}
	b.do(DatagramTooLarge{To: netip.AddrPortFrom(first, testPort), MTU: 9000, Payload: make([]byte, 3000)})
	if got := b.m.mtuTo(first); got != 1280 {
		t.Errorf("MTU of %d", got)
	}
}
