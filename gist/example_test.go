package gist_test

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

// Two nodes, 192.0.2.1 and 192.0.2.2, and a wire between them that is a slice.
// A's application sends a message about a flow; B's gets it.
func Example() {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	nodes := map[netip.Addr]*gist.Machine{a: newNode(a, b), b: newNode(b, a)}
	flow := wire.Flow{
		Source:      netip.MustParsePrefix("198.51.100.7/32"),
		Destination: netip.MustParsePrefix("203.0.113.9/32"),
	}

	var datagrams []gist.Datagram // on their way
	handle := func(at netip.Addr, now time.Time, ev gist.Event) {
		for _, action := range nodes[at].Handle(now, ev) {
			switch x := action.(type) {
			case gist.SendDatagram:
				datagrams = append(datagrams, gist.Datagram{
					From: netip.AddrPortFrom(x.Local, gist.DefaultPort), Local: x.To, TTL: x.TTL, Payload: x.Payload,
				})
			case *gist.RecvMessage:
				fmt.Printf("%s: the application gets %q from %s\n", at, x.Data, x.Peer)
			case gist.MessageStatus:
				fmt.Printf("%s: not sent: %v\n", at, x.Err)
			}
		}
	}

	now := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	handle(a, now, gist.SendMessage{
		NSLPID: 1, SID: wire.SID{1}, MRI: wire.MRI{Method: wire.PathCoupled, Flow: flow}, NSLPData: []byte("hello, B"),
	})
	for len(datagrams) > 0 {
		d := datagrams[0]
		datagrams = datagrams[1:]
		message, err := wire.ParseDatagram(d.Payload)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s → %s: %s\n", d.From.Addr(), d.Local.Addr(), message.Type)
		now = now.Add(time.Millisecond)
		handle(d.Local.Addr(), now, d)
	}
	fmt.Println("A has to be called again by itself:", !nodes[a].Deadline().IsZero())
	// Output:
	// 192.0.2.1 → 192.0.2.2: Query
	// 192.0.2.2 → 192.0.2.1: Response
	// 192.0.2.1 → 192.0.2.2: Confirm
	// 192.0.2.1 → 192.0.2.2: Data
	// 192.0.2.2: the application gets "hello, B" from 192.0.2.1
	// A has to be called again by itself: true
}

func newNode(address, next netip.Addr) *gist.Machine {
	machine, err := gist.New(gist.Config{
		Identity: []byte(address.String()), // new at every start, in a real node
		Address:  address,
		NSLPIDs:  []wire.NSLPID{1},
		// Whatever the flow, the next node is the other one: no router on the way intercepts anything.
		Route: func(wire.MRI) (gist.QueryRoute, error) {
			return gist.QueryRoute{To: netip.AddrPortFrom(next, gist.DefaultPort), Direct: true, TTL: 64}, nil
		},
		Rand:      func(b []byte) { _, _ = rand.Read(b) }, // never fails, see its documentation
		DModeData: true,                                   // unreliable messages go in datagrams
		Insecure:  true,
	})
	if err != nil {
		panic(err)
	}
	return machine
}
