package gist

import (
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

func withSCTP(c *Config) { c.Insecure, c.SCTP = true, true }

// RFC 6084: Forwards-SCTP is offered by its MA-Protocol-ID, 3, with empty options
// in a Query and the port in a Response; the association is opened to that port.
func TestSCTPAssociation(t *testing.T) {
	ch := newChain(t, 1, withSCTP)
	ch.b.onRecv = func(r RecvMessage) { ch.b.send(r.SID, r.MRI, string(r.Data)) }
	ch.a.send(testSID(1), pc, "down")
	ch.net.Run(time.Second)
	if ch.c.received["down"] != 1 {
		t.Fatalf("c %v; %v %v", ch.c.received, ch.b.notes, ch.c.notes)
	}
	if r := ch.c.recv[0]; !r.Attr.Reliable || r.Attr.Secure || r.Certificate != nil {
		t.Errorf("c was told %+v, want what is reliable and not secure", r)
	}
	for _, n := range []*simNode{ch.a, ch.b, ch.c} {
		n.check()
		for id, c := range n.conns {
			if c.Remote.Port() != sctpPort && c.Local.Port() != sctpPort {
				t.Errorf("%s: connection %d from %v to %v, want port %d at one end", n.cfg.Identity, id, c.Local, c.Remote, sctpPort)
			}
		}
	}
}

// Who has no SCTP uses what both have.
func TestSCTPAtOneEndOnly(t *testing.T) {
	for name, who := range map[string]string{"the querier has it": "a", "the responder has it": "b"} {
		t.Run(name, func(t *testing.T) {
			ch := newChain(t, 1, func(c *Config) {
				if string(c.Identity) == who {
					withSCTP(c)
				}
			})
			ch.a.send(testSID(1), pc, "down")
			ch.net.Run(time.Second)
			if ch.b.received["down"] != 1 {
				t.Fatalf("b %v; %v", ch.b.received, ch.b.notes)
			}
			for _, c := range ch.a.conns {
				if c.Remote.Port() != tcpPort {
					t.Errorf("an association to port %d", c.Remote.Port())
				}
			}
		})
	}
}

func TestSCTPInTheStackProposal(t *testing.T) {
	all := func(c *Config) { withSCTP(c); c.TLS, c.TLSPort, c.SCTPPort = true, tlsPort, sctpPort }
	b := newBench(t, all)
	ask := func(sid int, secure bool) wire.Message {
		sent, _ := outOf(b.do(SendMessage{NSLPData: []byte("abcd"), Handle: 4, NSLPID: testNSLP, SID: testSID(sid), MRI: hop23, Attr: TransferAttributes{Reliable: true, Secure: secure}}))
		q, err := wire.ParseDatagram(sent[0].Payload) // it is consistent
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := ask(1, false)
	if want := (wire.StackProposal{{wire.ForwardsTLS, wire.ForwardsTCP}, {wire.ForwardsSCTP}, {wire.ForwardsTCP}}); !q.StackProposal.Equal(want) {
		t.Errorf("proposal %v, want %v", q.StackProposal, want)
	}
	for _, o := range q.StackConfig.Options {
		if len(o.Data) != 0 || o.Profile != 0 {
			t.Errorf("option %+v in a Query", o)
		}
	}
	if len(q.StackConfig.Options) != 2 {
		t.Errorf("%d options, want those of Forwards-TCP and Forwards-SCTP", len(q.StackConfig.Options))
	}
	// RFC 5971 §5.7.1: only what is "suitable for the transfer attributes".
	q = ask(2, true)
	if len(q.StackProposal) != 1 || len(q.StackConfig.Options) != 1 || q.StackConfig.Options[0].Protocol != wire.ForwardsTCP {
		t.Errorf("for a secure message: %v, %+v", q.StackProposal, q.StackConfig.Options)
	}
	query := mustQuery(testSID(3))
	r := b.response(b.udp(&query))
	for i, want := range []uint16{tlsPort, sctpPort, tcpPort} {
		if o, ok := r.StackConfig.Lookup(stackTable[b.m.stacks.list[i]].port, i+1); !ok {
			t.Errorf("profile %d has no options", i+1)
		} else if port, _ := o.Port(); port != want {
			t.Errorf("profile %d: port %d, want %d", i+1, port, want)
		}
	}
}

// What a peer's Response offers decides.
func TestSCTPNegotiated(t *testing.T) {
	offer := func(first byte, disabled bool) func(*wire.Message) {
		return func(m *wire.Message) {
			m.StackProposal = wire.StackProposal{{first}, {wire.ForwardsTCP}}
			m.StackConfig.Options = []wire.MAOptions{
				{Protocol: first, Profile: 1, Disabled: disabled, Data: wire.PortData(13)}, {Protocol: wire.ForwardsTCP, Profile: 2, Data: wire.PortData(11)},
			}
		}
	}
	for name, c := range map[string]struct {
		config func(*Config)
		change func(*wire.Message)
		stack  Stack
		port   uint16
	}{
		"both have it":    {withSCTP, offer(wire.ForwardsSCTP, false), StackSCTP, 13},
		"disabled":        {withSCTP, offer(wire.ForwardsSCTP, true), StackTCP, 11},
		"we have it not":  {nil, offer(wire.ForwardsSCTP, false), StackTCP, 11},
		"it is not SCTP":  {withSCTP, offer(9, false), StackTCP, 11},
		"TLS is better":   {func(c *Config) { mixed(c); withSCTP(c) }, nil, StackTLS, 12},
		"they have TCP's": {withSCTP, nil, StackTCP, 11},
	} {
		b := newBench(t, func(cfg *Config) {
			if c.config != nil {
				c.config(cfg)
			}
		})
		acts := b.do(SendMessage{NSLPData: []byte("abcd"), Handle: 4, NSLPID: testNSLP, SID: testSID(1), MRI: hop23, Attr: TransferAttributes{Reliable: true}})
		got, ok := connectIn(b.answer(acts, c.change))
		if !ok || got.Stack != c.stack || got.To.Port() != c.port {
			t.Errorf("%s: %+v, want %v at port %d", name, got, c.stack, c.port)
		}
	}
}

// Nothing protects what goes over SCTP here, so that it needs to be said.
func TestSCTPNeedsInsecure(t *testing.T) {
	cfg := Config{
		Identity: []byte("x"), Address: aAddr, NSLPIDs: []wire.NSLPID{1}, TLS: true, SCTP: true, Rand: testRand(1),
		Route: func(wire.MRI) (QueryRoute, error) { return QueryRoute{}, nil },
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "SCTP without Insecure") {
		t.Errorf("SCTP beside TLS alone: %v", err)
	}
	cfg.SCTP = false
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	acts := m.Handle(testStart, ConnAccepted{Conn: 2, Stack: StackSCTP})
	closed := false
	for _, a := range acts {
		if c, ok := a.(CloseConn); ok && c.Conn == 2 {
			closed = true
		}
	}
	if !closed {
		t.Errorf("an association of SCTP that is not offered: %v", acts)
	}
}
