package qosnslp_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// Three nodes in memory make a reservation, refresh it and end it. There is no GIST:
// the network is a slice of messages. Whoever uses a Machine does what path does here:
// it hands in messages, answers questions, and calls at Deadline.
func Example() {
	p := &path{now: time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC), left: map[qosnslp.Peer]float64{1: 50e6 / 8, 2: 50e6 / 8, 3: 30e6 / 8}}
	for i := range 3 {
		random := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // an example that is the same each time
		p.nodes = append(p.nodes, qosnslp.New(qosnslp.Config{Epoch: random.Uint32(), Rand: random.Uint64}))
	}
	sid := gistwire.SID{0: 0xab, 15: 1} // 128 random bits, in a real node
	flow := gistwire.MRI{Flow: gistwire.Flow{
		Source:      netip.MustParsePrefix("198.51.100.7/32"),
		Destination: netip.MustParsePrefix("203.0.113.9/32"),
	}}
	want, err := qspec.ParseText("tmod=20M/64k class=EF")
	if err != nil {
		fmt.Println(err)
		return
	}
	p.handle(1, qosnslp.Initiate{SID: sid, NSLPID: 1, MRI: flow, QSPEC: want.Append(nil)})
	p.run(time.Second)

	// Node 3 has no room for twice as much: the old reservation stays, and node 2 tells
	// node 3 so.
	if want, err = qspec.ParseText("tmod=40M/64k class=EF"); err != nil {
		fmt.Println(err)
		return
	}
	p.handle(1, qosnslp.Initiate{SID: sid, NSLPID: 1, MRI: flow, QSPEC: want.Append(nil)})
	p.run(time.Second)

	p.quiet = true // refreshes: about every 30 seconds, on each hop
	p.run(10 * time.Minute)
	p.quiet = false
	session, ok := p.nodes[2].Session(sid)
	fmt.Println("after ten minutes node 3 has it:", ok, session.State)

	p.handle(1, qosnslp.Terminate{SID: sid})
	p.run(time.Second)
	_, ok = p.nodes[2].Session(sid)
	fmt.Println("and now:", ok)
	// Output:
	// 1 → 2 RESERVE
	// 2 → 3 RESERVE
	// 3 → 2 RESPONSE: 2/0x01 reservation successful
	// 2 → 1 RESPONSE: 2/0x01 reservation successful
	// the application at node 1: reserved
	// 1 → 2 RESERVE
	// 2 → 3 RESERVE
	// 3 → 2 RESPONSE: 6/0x43 intra-domain control refuses or failed
	// 2 → 1 RESPONSE: 6/0x43 intra-domain control refuses or failed
	// 2 → 3 RESERVE
	// 3 → 2 RESPONSE: 2/0x04 refresh successful
	// the application at node 1: rejected: 6/0x43 intra-domain control refuses or failed
	// 1 → 2 RESERVE
	// 2 → 1 RESPONSE: 2/0x04 refresh successful
	// after ten minutes node 3 has it: true installed
	// 1 → 2 RESERVE, tearing
	// 2 → 3 RESERVE, tearing
	// 3 → 2 RESPONSE: 2/0x02 teardown successful
	// 2 → 1 RESPONSE: 2/0x02 teardown successful
	// the application at node 1: released
	// and now: false
}

// path is nodes in a row, and what stands between a Machine and the world.
type path struct {
	now   time.Time
	nodes []*qosnslp.Machine
	wire  []func()
	left  map[qosnslp.Peer]float64 // octets/s that a node can still give away
	quiet bool
}

func (p *path) handle(at qosnslp.Peer, ev qosnslp.Event) {
	for _, action := range p.nodes[at-1].Handle(p.now, ev) {
		switch a := action.(type) {
		case qosnslp.Send: // a real node gives a.SendMessage to GIST
			p.show(at, a)
			p.wire = append(p.wire, func() {
				p.handle(a.Peer, qosnslp.Received{Peer: at, RecvMessage: gist.RecvMessage{
					Data: a.NSLPData, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, SII: gist.SII(at),
				}})
			})
		case qosnslp.Question: // the answer may come much later
			p.wire = append(p.wire, func() { p.handle(at, p.decide(at, &a)) })
		case qosnslp.Result:
			fmt.Printf("the application at node %d: %s\n", at, map[qosnslp.ResultKind]string{
				qosnslp.Reserved: "reserved", qosnslp.Rejected: "rejected: " + a.Info.String(), qosnslp.Released: "released"}[a.Kind])
		}
	}
}

// decide is the resource management of a node, with next to no memory.
func (p *path) decide(at qosnslp.Peer, q *qosnslp.Question) qosnslp.Verdict {
	v := qosnslp.Verdict{Ticket: q.Ticket, Accept: true}
	if q.Kind != qosnslp.Admit {
		return v // Commit, Fail and Release, here without consequence
	}
	asked, err := qspec.Parse(q.Message.QSPEC)
	if err != nil || float64(asked.Desired.TMOD1.Rate) > p.left[at] {
		// Of class 6: a transient failure would say that what stood is gone, too.
		v.Accept, v.Info = false, wire.InfoSpec{Class: wire.ClassQoSModelError, Code: wire.IntraDomainFailed}
		return v
	}
	v.QSPEC, v.Next, v.NextPeer, v.Last = q.Message.QSPEC, q.MRI, at+1, int(at) == len(p.nodes)
	return v
}

// run lets time pass.
func (p *path) run(d time.Duration) {
	for end := p.now.Add(d); ; {
		if len(p.wire) > 0 {
			next := p.wire[0]
			p.wire = p.wire[1:]
			next()
			continue
		}
		first, at := end, qosnslp.Peer(0)
		for i, n := range p.nodes {
			if due := n.Deadline(); !due.IsZero() && due.Before(first) {
				first, at = due, qosnslp.Peer(i+1)
			}
		}
		p.now = first
		if at == 0 {
			return
		}
		p.handle(at, nil)
	}
}

func (p *path) show(from qosnslp.Peer, a qosnslp.Send) {
	m, err := wire.Parse(a.NSLPData)
	switch {
	case err != nil:
		fmt.Println(err)
	case p.quiet:
	case m.Tears():
		fmt.Printf("%d → %d %v, tearing\n", from, a.Peer, m.Type)
	case m.Type == wire.Response:
		fmt.Printf("%d → %d %v: %v\n", from, a.Peer, m.Type, m.InfoSpec)
	default:
		fmt.Printf("%d → %d %v\n", from, a.Peer, m.Type)
	}
}
