// gistnode is one GIST node with a trivial signalling application, for labs: it
// sends what it is told on standard input and prints, as one JSON object a line,
// what happens to it.
package main

import (
	"bufio"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/pki"
)

// Command is a line on standard input: a message to send, or a question.
type Command struct {
	NSLPID   uint16     `json:"nslpid"`
	SID      uint32     `json:"sid"`
	From, To netip.Addr // the flow's ends
	Text     string     `json:"text"` // "": tell the session's peers instead
	Reliable bool       `json:"reliable"`
	Secure   bool       `json:"secure"`
	Seconds  int        `json:"seconds"` // until the message has failed; 0: the default
}

// Report is a line on standard output.
type Report struct {
	Event  string     `json:"event"` // ready, received, failed, status, note, peer
	SID    uint32     `json:"sid,omitempty"`
	NSLPID uint16     `json:"nslpid,omitempty"`
	Text   string     `json:"text,omitempty"` // of a message; the error; the kind of a note
	Detail string     `json:"detail,omitempty"`
	Peer   netip.Addr `json:"peer,omitzero"`
	Secure bool       `json:"secure,omitempty"`
}

type node struct {
	m         *gist.Machine
	address   netip.Addr
	udp       *transport.UDP
	tcp       *transport.TCP
	intercept *transport.Intercept
	kernel    *transport.Routes
	relay     bool
	queue     chan gist.Event
	commands  chan Command
	out       *json.Encoder
	outMu     sync.Mutex
}

var (
	address   = flag.String("address", "", "our address, as in NLI")
	nslps     = flag.String("nslp", "1", "NSLPIDs that are served, with commas between")
	identity  = flag.String("identity", "", "Peer-Identity")
	port      = flag.Uint("port", gist.DefaultPort, "GIST's UDP port")
	intercept = flag.String("intercept", "", "intercept Queries in transit: nftables or raw")
	decline   = flag.Bool("decline", false, "the application wants no peer")
	relay     = flag.Bool("relay", false, "send every message on")
	dir       = flag.String("pki", "", "folder with certificates; none: no TLS")
	name      = flag.String("name", "", "name of our certificate in -pki")
	peerAS    = flag.Uint("peer-as", 0, "the AS that peers' certificates must speak for")
	source    = flag.Bool("flow-source", false, "Queries have the flow's source at first")
	validity  = flag.Duration("validity", 0, "of routing state")
)

const tcpPort = 4270

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gistnode:", err)
		os.Exit(1)
	}
}

func run() error {
	n := &node{relay: *relay, queue: make(chan gist.Event, 1<<12), commands: make(chan Command), out: json.NewEncoder(os.Stdout)}
	var err error
	if n.address, err = netip.ParseAddr(*address); err != nil {
		return err
	}
	if err := n.machine(); err != nil {
		return err
	}
	defer n.close()
	if err := n.open(); err != nil {
		return err
	}
	go n.read()
	n.print(Report{Event: "ready"})
	n.loop()
	return nil
}

func (n *node) machine() error {
	cfg := gist.Config{
		Identity: []byte(*identity), Address: n.address, Port: uint16(*port), TCPPort: tcpPort, TLSPort: tcpPort,
		Rand:       func(b []byte) { _, _ = crand.Read(b) }, // never fails, see its documentation
		Insecure:   *dir == "",
		TLS:        *dir != "",
		Route:      n.route,
		FlowSource: *source,

		ValidityPathCoupled: *validity,
	}
	for _, s := range strings.Split(*nslps, ",") {
		id, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return fmt.Errorf("-nslp: %w", err)
		}
		cfg.NSLPIDs = append(cfg.NSLPIDs, wire.NSLPID(id))
	}
	if *decline {
		cfg.AcceptPeer = func(gist.PeerOffer) gist.PeerAnswer { return gist.PeerAnswer{} }
	}
	if *dir != "" {
		cfg.Peers = []gist.PeerEntry{{
			Identities: []gist.Identity{{Namespace: gist.NamespaceURI, Name: pki.ASURI(uint32(*peerAS))}}, OwnAddress: true,
		}}
	}
	var err error
	n.m, err = gist.New(cfg)
	return err
}

func (n *node) open() (err error) {
	n.kernel, err = transport.WatchRoutes(transport.RoutesConfig{OnChange: func(e gist.RouteChanged) { n.queue <- e }})
	if err != nil {
		return err
	}
	handle := func(events []gist.Event) {
		for _, ev := range events {
			n.queue <- ev
		}
	}
	onError := func(remote netip.AddrPort, err error) {
		n.print(Report{Event: "note", Text: "transport", Detail: err.Error(), Peer: remote.Addr()})
	}
	tcp := transport.TCPConfig{Handler: handle, OnError: onError}
	listen := []netip.AddrPort{netip.AddrPortFrom(n.address, tcpPort)}
	if *dir == "" {
		tcp.Listen = listen
	} else {
		tcp.ListenTLS = listen
		if tcp.TLS, err = certificates(); err != nil {
			return err
		}
	}
	if n.tcp, err = transport.ListenTCP(tcp); err != nil {
		return err
	}
	n.udp, err = transport.ListenUDP(transport.UDPConfig{
		Addrs: []netip.AddrPort{netip.AddrPortFrom(n.address, uint16(*port))}, Handler: handle, OnError: onError, Foreign: *source,
	})
	if err != nil || *intercept == "" {
		return err
	}
	n.intercept, err = transport.ListenIntercept(transport.InterceptConfig{
		Method: transport.InterceptMethod(*intercept), Port: uint16(*port), Handler: handle, OnError: onError,
	})
	return err
}

func certificates() (*transport.TLS, error) {
	pair, err := tls.LoadX509KeyPair(pki.CertFile(*dir, *name), pki.KeyFile(*dir, *name))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(pki.BundleFile(*dir))
	if err != nil {
		return nil, err
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", pki.BundleFile(*dir))
	}
	return transport.NewTLS(transport.TLSConfig{Certificate: pair, CAs: cas})
}

func (n *node) close() {
	if n.intercept != nil {
		_ = n.intercept.Close()
	}
	if n.udp != nil {
		_ = n.udp.Close()
	}
	if n.tcp != nil {
		_ = n.tcp.Close()
	}
	if n.kernel != nil {
		n.kernel.Close()
	}
}

func (n *node) route(mri wire.MRI) (gist.QueryRoute, error) {
	end := mri.Flow.Destination.Addr()
	if mri.Upstream {
		end = mri.Flow.Source.Addr()
	}
	rt, err := n.kernel.Lookup(end)
	if err != nil {
		return gist.QueryRoute{}, err
	}
	return gist.QueryRoute{TTL: 64, RouterAlert: true, Path: rt.Path}, nil
}

// read takes commands until the end of the input, which ends the node.
func (n *node) read() {
	defer close(n.commands)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var c Command
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			n.print(Report{Event: "note", Text: "bad-command", Detail: err.Error()})
			continue
		}
		n.commands <- c
	}
}

func (n *node) loop() {
	timer := time.NewTimer(time.Hour)
	for {
		wait := time.Hour
		if at := n.m.Deadline(); !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case ev := <-n.queue:
			n.handle(ev)
		case c, more := <-n.commands:
			if !more {
				return
			}
			n.command(c)
		case <-timer.C:
			n.handle(nil)
		}
	}
}

func sid(n uint32) (s wire.SID) {
	binary.BigEndian.PutUint32(s[12:], n)
	return s
}

func number(s wire.SID) uint32 { return binary.BigEndian.Uint32(s[12:]) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (n *node) command(c Command) {
	if c.Text == "" {
		states := n.m.RoutingStatesOf(sid(c.SID))
		for _, s := range states {
			n.print(Report{Event: "peer", SID: c.SID, NSLPID: uint16(s.NSLPID), Peer: s.Peer, Text: s.State})
		}
		if len(states) == 0 {
			n.print(Report{Event: "peer", SID: c.SID})
		}
		return
	}
	data := []byte(c.Text)
	for len(data)%4 != 0 {
		data = append(data, ' ')
	}
	n.handle(gist.SendMessage{
		NSLPData: data, Handle: 1, NSLPID: wire.NSLPID(c.NSLPID), SID: sid(c.SID),
		MRI:     wire.MRI{Flow: wire.Flow{Source: host(c.From), Destination: host(c.To)}},
		Attr:    gist.TransferAttributes{Reliable: c.Reliable, Secure: c.Secure},
		Timeout: time.Duration(c.Seconds) * time.Second,
	})
}

func (n *node) handle(ev gist.Event) {
	pending := []gist.Event{ev}
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		for _, a := range append([]gist.Action(nil), n.m.Handle(time.Now(), next)...) {
			if more := n.do(a); more != nil {
				pending = append(pending, more)
			}
		}
	}
	n.tcp.Flush()
}

// do carries out an action; what comes of it at once is an event.
func (n *node) do(a gist.Action) gist.Event {
	switch a := a.(type) {
	case gist.SendDatagram:
		if err := n.udp.Send([]transport.Outgoing{{SendDatagram: a}}); err != nil {
			n.print(Report{Event: "note", Text: "not-sent", Detail: err.Error()})
		}
	case gist.ForwardDatagram:
		err := n.intercept.Forward(a)
		var tooLarge *transport.TooLargeError
		if errors.As(err, &tooLarge) {
			return gist.NotForwarded{Datagram: a.Datagram, MTU: tooLarge.MTU}
		}
		if err != nil {
			n.print(Report{Event: "note", Text: "not-forwarded", Detail: err.Error()})
		}
	case gist.Connect:
		if !a.Local.IsValid() {
			a.Local = n.address
		}
		if err := n.tcp.Connect(a); err != nil {
			return gist.ConnDown{Conn: a.Conn, Err: err}
		}
	case *gist.SendConn:
		_ = n.tcp.Queue(*a) // its ConnDown follows
	case gist.CloseConn:
		_ = n.tcp.CloseConn(a) // it may have gone by itself
	case *gist.RecvMessage:
		if len(a.Data) == 0 {
			return nil
		}
		n.print(Report{
			Event: "received", SID: number(a.SID), NSLPID: uint16(a.NSLPID), Text: strings.TrimRight(string(a.Data), " "),
			Peer: a.Peer, Secure: a.Attr.Secure,
		})
		if n.relay {
			return gist.SendMessage{NSLPData: a.Data, Handle: 1, NSLPID: a.NSLPID, SID: a.SID, MRI: a.MRI, Attr: gist.TransferAttributes{Reliable: a.Attr.Reliable, Secure: a.Attr.Secure}}
		}
	case gist.MessageStatus:
		if a.Err != nil {
			n.print(Report{Event: "failed", SID: number(a.SID), NSLPID: uint16(a.NSLPID), Text: a.Err.Error()})
		}
	case gist.NetworkNotification:
		n.print(Report{Event: "status", SID: number(a.SID), NSLPID: uint16(a.NSLPID), Text: fmt.Sprint(a.Type), Detail: fmt.Sprint(a.Status)})
	case gist.Note:
		n.print(Report{Event: "note", Text: a.Kind, Detail: a.Detail, Peer: a.Remote.Addr()})
	}
	return nil
}

func (n *node) print(r Report) {
	n.outMu.Lock()
	defer n.outMu.Unlock()
	_ = n.out.Encode(r) // a reader that is gone ends the input too
}
