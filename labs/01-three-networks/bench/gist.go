package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/pki"
)

const (
	gistPort = 10275
	querier  = "127.0.11.1"
	answerer = "127.0.11.2"
)

// gistPeer drives one GIST machine over real sockets: what node does, without
// anything above GIST. Who reads from a socket handles what came himself.
type gistPeer struct {
	udp *transport.UDP
	tcp *transport.TCP

	mu  sync.Mutex // everything below
	m   *gist.Machine
	out []transport.Outgoing
	// next makes the answer to a message, in spare if it has no other place; nil:
	// none.
	next func(r *gist.RecvMessage, spare *gist.SendMessage) *gist.SendMessage
	// answers are to what has just come.
	answers []*gist.SendMessage
	spare   []gist.SendMessage

	progress chan struct{} // capacity 1: something has come
}

// newGistPeer makes a peer; without certificates its associations do without TLS.
func newGistPeer(pkiDir, address, peer string) (*gistPeer, error) {
	self, other := netip.MustParseAddr(address), netip.MustParseAddr(peer)
	p := &gistPeer{progress: make(chan struct{}, 1), next: func(_ *gist.RecvMessage, _ *gist.SendMessage) *gist.SendMessage { return nil }}
	cfg := gist.Config{
		Identity: []byte(address), Address: self, Port: gistPort, NSLPIDs: []wire.NSLPID{1, echoNSLP},
		DirectPeers: []netip.Addr{other},
		Route: func(wire.MRI) (gist.QueryRoute, error) {
			return gist.QueryRoute{To: netip.AddrPortFrom(other, gistPort), Direct: true, AllowedPeers: []netip.Addr{other}}, nil
		},
		Rand: func(b []byte) { _, _ = crand.Read(b) }, TLS: pkiDir != "", Insecure: pkiDir == "", DModeData: true,
	}
	addr := []netip.AddrPort{netip.AddrPortFrom(self, gistPort)}
	tcp := transport.TCPConfig{Listen: addr, Handler: p.handle}
	if cfg.TLS {
		cfg.Peers = []gist.PeerEntry{{
			Identities: []gist.Identity{{Namespace: gist.NamespaceURI, Name: pki.ASURI(peerAS[peer])}},
			Peers:      []netip.Addr{other}, OwnAddress: true,
		}}
		keys, err := loadTLS(pkiDir, address)
		if err != nil {
			return nil, err
		}
		tcp.Listen, tcp.ListenTLS = nil, addr
		if tcp.TLS, err = transport.NewTLS(keys); err != nil {
			return nil, err
		}
	}
	var err error
	if p.m, err = gist.New(cfg); err != nil {
		return nil, err
	}
	if p.udp, err = transport.ListenUDP(transport.UDPConfig{Addrs: addr, Handler: p.handle}); err != nil {
		return nil, err
	}
	p.tcp, err = transport.ListenTCP(tcp)
	return p, err
}

// run does what is due until ctx ends.
func (p *gistPeer) run(ctx context.Context) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.handle([]gist.Event{nil})
		}
	}
}

// handle takes events, and everything that follows from them leaves together.
func (p *gistPeer) handle(evs []gist.Event) {
	p.mu.Lock()
	now := time.Now()
	for _, ev := range evs {
		p.do(p.m.Handle(now, ev))
		for _, answer := range p.answers {
			p.do(p.m.Handle(now, answer)) // which brings no message
		}
		p.answers = p.answers[:0]
	}
	p.tcp.Flush()
	if len(p.out) > 0 {
		_ = p.udp.Send(p.out) // GIST retransmits
		p.out = p.out[:0]
	}
	p.mu.Unlock()
	select {
	case p.progress <- struct{}{}:
	default:
	}
}

func (p *gistPeer) stats() gist.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m.Stats()
}

func (p *gistPeer) do(actions []gist.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case gist.SendDatagram:
			p.out = append(p.out, transport.Outgoing{SendDatagram: a})
		case gist.Connect:
			if a.Local == (netip.Addr{}) {
				a.Local = p.udp.LocalAddrs()[0].Addr()
			}
			if err := p.tcp.Connect(a); err != nil {
				go p.handle([]gist.Event{gist.ConnDown{Conn: a.Conn, Err: err}})
			}
		case *gist.SendConn:
			_ = p.tcp.Queue(*a) // a ConnDown follows where it fails
		case *gist.RecvMessage:
			if len(p.answers) == len(p.spare) {
				p.spare = append(p.spare, gist.SendMessage{})
			}
			if answer := p.next(a, &p.spare[len(p.answers)]); answer != nil {
				p.answers = append(p.answers, answer)
			}
		case gist.CloseConn:
			_ = p.tcp.CloseConn(a)
		}
	}
}

// gistResponder is the child process: it takes whatever comes.
func gistResponder(pkiDir string) error {
	p, err := newGistPeer(pkiDir, answerer, querier)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.next = echo
	p.mu.Unlock()
	fmt.Println("ready")
	p.run(context.Background())
	return nil
}

// withPeer runs f with a peer whose other end is a child process.
func withPeer(ctx context.Context, pkiDir string, f func(context.Context, *gistPeer) error) error {
	_, stop, err := startChild(ctx, "gist-responder", pkiDir)
	if err != nil {
		return err
	}
	defer stop()
	p, err := newGistPeer(pkiDir, querier, answerer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		_ = p.udp.Close() // the measurement is over
		_ = p.tcp.Close()
	}()
	wg.Go(func() { p.run(ctx) })
	return f(ctx, p)
}

// handshakes measures full GIST handshakes (Query, Response, Confirm, and the
// Data message that wanted it), 64 in flight: of sessions that share one messaging
// association over TLS, and of sessions that have none, all in D-mode.
func (b *bench) handshakes(ctx context.Context) error {
	for _, over := range []struct {
		name, pki string
		message   func(int) gist.SendMessage
	}{
		{"gist_handshake_per_s", b.pkiDir(), sendData},
		{"gist_handshake_dmode_per_s", "", sendDModeData},
	} {
		err := withPeer(ctx, over.pki, func(ctx context.Context, p *gistPeer) error {
			if _, err := p.round(ctx, over.message, 0, 2_000); err != nil { // the association, heaps
				return err
			}
			rate, err := p.round(ctx, over.message, 2_000, 20_000)
			b.add(over.name, rate, "1/s")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// round makes count sessions and waits until the machine has made them all.
func (p *gistPeer) round(ctx context.Context, message func(int) gist.SendMessage, first, count int) (float64, error) {
	start, sent := time.Now(), first
	for ctx.Err() == nil {
		stats := p.stats()
		done := int(stats.HandshakesDone)
		if done >= first+count {
			return float64(count) / time.Since(start).Seconds(), nil
		}
		if stats.HandshakesFailed > 0 || time.Since(start) > time.Minute {
			return 0, fmt.Errorf("GIST: %d handshakes failed, %d of %d done", stats.HandshakesFailed, done-first, count)
		}
		var evs []gist.Event
		for ; sent < min(done+inFlight, first+count); sent++ {
			evs = append(evs, message(sent))
		}
		if len(evs) > 0 {
			p.handle(evs)
		}
		select {
		case <-p.progress:
		case <-ctx.Done():
		}
	}
	return 0, ctx.Err()
}

// sendData is a message of a new session.
func sendData(i int) gist.SendMessage {
	var sid wire.SID
	binary.BigEndian.PutUint64(sid[8:], uint64(i+1))
	host := func(net byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)}), 32)
	}
	return gist.SendMessage{
		NSLPData: make([]byte, messageSize-80), NSLPID: 1, SID: sid,
		MRI:  wire.MRI{Method: wire.OffPath, Flow: wire.Flow{Source: host(1), Destination: host(3)}},
		Attr: gist.TransferAttributes{Reliable: true},
	}
}

// sendDModeData is one that needs no association: along the path of a flow.
func sendDModeData(i int) gist.SendMessage {
	m := sendData(i)
	m.MRI.Method, m.Attr.Reliable = wire.PathCoupled, false
	return m
}
