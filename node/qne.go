package node

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// qne is one shard: the three machines of a QNE, and what passes between them.
// It does no I/O of its own and reads no clock, so the same code runs under
// sockets and in a simulation. It is used from one goroutine.
type qne struct {
	sources sources // ours, as in NLI and SOURCE_ADDR
	gist    *gist.Machine
	nslp    *qosnslp.Machine
	domain  *interdomain.Machine
	auth    *interdomain.Auth
	// peers are the NLI addresses that each AS's QNEs may have.
	peers map[netip.Addr]uint32
	fx    effects
	// clock, if set, tells how far a decision of the domain has come since the
	// event that it follows from; all else goes by that event's time.
	clock func() time.Time

	// queue is what the machines have for each other, in order. The large
	// events in it point into the slots, which are used again once it is empty.
	queue    []any
	head     int
	received slots[qosnslp.Received]
	asked    slots[interdomain.Asked]
	verdicts slots[qosnslp.Verdict]
	messages slots[gist.SendMessage]
	forgets  slots[gist.SetStateLifetime]
}

// slots are places for events that no machine keeps.
type slots[T any] struct{ events []T }

// put returns a pointer to a copy of ev, good until reset.
func (s *slots[T]) put(ev T) *T {
	s.events = append(s.events, ev)
	return &s.events[len(s.events)-1]
}

func (s *slots[T]) reset() {
	if cap(s.events) > 256 { // of a burst
		s.events = nil
		return
	}
	clear(s.events) // do not keep what they point to
	s.events = s.events[:0]
}

// qneParts is what a qne has besides its configuration.
type qneParts struct {
	index   int    // of the shard
	shards  int    // how many there are; 0: one
	epoch   uint32 // RFC 5974 §5.1.3.2
	started time.Time
	sctp    bool // associations over SCTP are possible
	random  func() uint64
	fill    func([]byte) // with strong random octets
	route   func(wire.MRI) (gist.QueryRoute, error)
	ingress func(netip.Prefix, gist.Ingress) bool // nil: no filter
	routes  interdomain.Routes
	fx      effects
}

// newQNE puts the three machines of a shard together.
func newQNE(cfg *Config, p qneParts) (qne, error) {
	var nonce [8]byte
	p.fill(nonce[:])
	tlsPort, plainPort := cfg.GIST.TCPPort, cfg.GIST.TCPPort
	if cfg.GIST.PlainPort != 0 {
		plainPort = cfg.GIST.PlainPort
	}
	// RFC 5971 §5.3.3: "A single rate limiter applies to all traffic"; each shard
	// has its part of it. 0 stays: GIST's default.
	dmode := share(cfg.GIST.Limits.DModePerSecond, p.shards)
	machine, err := gist.New(gist.Config{
		// New at every start, and different in each shard (RFC 5971 §4.4.3).
		Identity: fmt.Appendf(nil, "AS%d/%d/%x", cfg.AS, p.index, nonce),
		Address:  cfg.GIST.Address, Addresses: cfg.GIST.Addresses, Port: cfg.GIST.Port,
		TLSPort: tlsPort + uint16(p.index), TCPPort: plainPort + uint16(p.index), SCTPPort: plainPort + uint16(p.index),
		NSLPIDs: []wire.NSLPID{nslpID}, ConnSpace: uint16(p.index),
		Route: p.route, IngressFilter: p.ingress, Edges: servedEdges(cfg), DirectPeers: directPeers(cfg),
		Rand:            p.fill,
		FlowSource:      cfg.GIST.Intercept != nil,
		ValidityOffPath: cfg.GIST.RoutingStateValidity, MAHoldTime: cfg.GIST.AssociationHoldTime,
		Limits: gist.Limits{
			RoutingStates: cfg.GIST.Limits.RoutingStates, Associations: cfg.GIST.Limits.Associations,
			PendingHandshakes: cfg.GIST.Limits.Pending, RelayRate: int(math.Ceil(cfg.GIST.Limits.QueriesPerSecond)),
			DModeRate: dmode, DModeBurst: (dmode + 9) / 10,
		},
		TLS: cfg.GIST.TLS != nil, Insecure: cfg.Insecure, SCTP: p.sctp, Peers: peerEntries(cfg),
	})
	if err != nil {
		return qne{}, err
	}
	ring, err := keyring(cfg)
	if err != nil {
		return qne{}, err
	}
	signer, err := recordSigner(cfg)
	if err != nil {
		return qne{}, err
	}
	return qne{
		sources: sourcesOf(cfg), gist: machine, auth: interdomain.NewAuth(ring, p.started, 0), peers: peerASs(cfg), fx: p.fx,
		nslp: qosnslp.New(qosnslp.Config{
			Epoch: p.epoch, Rand: p.random, ErrorSource: nslpwire.SourceAddr(cfg.GIST.Address),
			RefreshPeriod: cfg.NSLP.RefreshPeriod, RequestRetry: cfg.NSLP.RequestRetry,
			RetryMax: cfg.NSLP.RetryMax, HoldTimeout: cfg.NSLP.HoldTimeout, MaxSessions: cfg.NSLP.MaxSessions,
			Summary: cfg.NSLP.Summary, AckEvery: cfg.NSLP.AckEvery, Proxy: cfg.NSLP.Proxy,
			Limits: qosnslp.Limits{Requests: share(cfg.NSLP.PeerRequests, p.shards), Answers: share(cfg.NSLP.PeerAnswers, p.shards)},
		}),
		domain: interdomain.New(interdomain.Config{AS: cfg.AS, Borders: borders(cfg), Routes: p.routes, Records: signer, OwnLater: true, Path: cfg.Path}),
	}, nil
}

// share is a shard's part of a rate, rounded up; 0 stays 0.
func share(rate, shards int) int {
	shards = max(shards, 1)
	return (rate + shards - 1) / shards
}

// sources are our addresses as the neighbours' QNEs know them.
type sources struct {
	first netip.Addr
	edges []edgeSource
}

type edgeSource struct {
	as       uint32
	external netip.Addr
	own      netip.Addr
}

func sourcesOf(cfg *Config) sources {
	s := sources{first: cfg.GIST.Address}
	for i := range cfg.Edges {
		e := &cfg.Edges[i]
		s.edges = append(s.edges, edgeSource{e.Neighbor.AS, e.External, cfg.GIST.like(e.Neighbor.QNEs[0])})
	}
	return s
}

// towards is our address for a neighbouring AS: of several edges to it, that of
// the one that mri leads through.
func (s *sources) towards(as uint32, mri *wire.MRI) netip.Addr {
	found := s.first
	for i := len(s.edges) - 1; i >= 0; i-- {
		e := &s.edges[i]
		if e.as != as {
			continue
		}
		if found = e.own; e.external == mri.Egress || e.external == mri.Ingress {
			break
		}
	}
	return found
}

// queryRoute says how the Query for an MRI leaves: to the egress edge that
// relays it or, with configured discovery, straight to the neighbour's QNE.
func queryRoute(edges []EdgeConfig, g *GISTConfig, mri wire.MRI) (gist.QueryRoute, error) {
	for i := range edges {
		e := &edges[i]
		if e.External != mri.Egress || e.Neighbor.Address != mri.Ingress {
			continue
		}
		r := gist.QueryRoute{
			Local: g.like(e.Neighbor.QNEs[0]), To: netip.AddrPortFrom(e.Internal, g.Port), AllowedPeers: e.Neighbor.QNEs,
		}
		if e.Discovery == DiscoveryConfigured {
			r.To, r.Direct = netip.AddrPortFrom(e.Neighbor.QNEs[0], g.Port), true
		}
		return r, nil
	}
	return gist.QueryRoute{}, fmt.Errorf("no edge of ours leads from %v to %v", mri.Egress, mri.Ingress)
}

// restore brings back what a record of the store says.
func (q *qne) restore(now time.Time, r *store.Record) {
	q.handle(now, interdomain.Restore{Record: interdomain.Record(*r)})
	q.handle(now, qosnslp.Restore{Snapshot: r.Session})
}

// version is the RSN that a session has here, of the attempt that is under way
// if there is one.
func (q *qne) version(sid wire.SID) (version uint32, known bool) {
	i, known := q.domain.Session(sid)
	return i.Version, known
}

// effects is what a qne's actions come down to. Everything that takes time
// answers by post.
type effects interface {
	sendDatagram(now time.Time, d gist.SendDatagram)
	forwardDatagram(now time.Time, f gist.ForwardDatagram)
	connect(c gist.Connect)
	sendConn(now time.Time, c *gist.SendConn)
	closeConn(c gist.CloseConn)

	ledger() ledger
	driver() intradomain.Controller
	put(r store.Record, gone []sls.ID, done func(error))
	remove(id sls.ID, done func(error))

	// post hands the qne an event from any goroutine.
	post(ev any)
	// preempt hands it to the qne that has the session.
	preempt(ev qosnslp.Preempt)
	result(r qosnslp.Result)
	notified(n qosnslp.Notified)
	note(layer, kind string, sid wire.SID, remote netip.AddrPort, detail string)
}

// ledger is the part of sls.Ledger that a qne uses, made safe for all shards.
type ledger interface {
	Hold(now time.Time, r sls.Request) (sls.Grant, error)
	Ask(now time.Time, r sls.Request, limit int) (sls.Quote, error)
	Commit(now time.Time, id sls.ID, version uint32, rate uint64) ([]sls.Booking, []sls.ID, error)
	Drop(id sls.ID, version uint32) bool
	Release(id sls.ID) bool
	ReleaseLeg(id sls.ID, leg sls.Leg) bool
}

// stranger is the peer label of who is not a neighbouring AS's QNE: whatever
// it asks for is refused (interdomain-qosm §4: an edge admits nobody else's).
const stranger qosnslp.Peer = 1<<32 - 1

// handle takes one event of any of the three machines, nil for the passing of
// time alone, and does everything that follows from it.
func (q *qne) handle(now time.Time, ev any) {
	if ev == nil {
		q.tick(now)
	} else {
		q.push(ev)
	}
	for q.head < len(q.queue) {
		next := q.queue[q.head]
		q.queue[q.head] = nil
		q.head++
		q.step(now, next)
	}
	q.queue, q.head = q.queue[:0], 0
	q.received.reset()
	q.asked.reset()
	q.verdicts.reset()
	q.messages.reset()
	q.forgets.reset()
}

// tick lets every machine do what is due.
func (q *qne) tick(now time.Time) {
	if due(now, q.gist.Deadline()) {
		q.gistDo(now, q.gist.Handle(now, nil))
	}
	if due(now, q.nslp.Deadline()) {
		q.nslpDo(now, q.nslp.Handle(now, nil))
	}
	if due(now, q.domain.Deadline()) {
		q.domainDo(now, q.domain.Handle(now, nil))
	}
}

func due(now, deadline time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

// deadline says when handle has to be called next; zero: never.
func (q *qne) deadline() time.Time {
	first := q.gist.Deadline()
	for _, d := range []time.Time{q.nslp.Deadline(), q.domain.Deadline()} {
		if !d.IsZero() && (first.IsZero() || d.Before(first)) {
			first = d
		}
	}
	return first
}

func (q *qne) push(ev any) { q.queue = append(q.queue, ev) }

func (q *qne) step(now time.Time, ev any) {
	switch e := ev.(type) {
	case gist.Event:
		q.gistDo(now, q.gist.Handle(now, e))
		if _, ok := ev.(gist.RouteChanged); ok {
			q.push(qosnslp.RoutesChanged{})
		}
	case qosnslp.Event:
		q.nslpDo(now, q.nslp.Handle(now, e))
	case *interdomain.Asked:
		q.domainDo(now, q.domain.Handle(now, e))
	case interdomain.Event:
		at := now
		if q.clock != nil {
			at = q.clock()
		}
		q.domainDo(now, q.domain.Handle(at, e))
	}
}

func (q *qne) gistDo(now time.Time, actions []gist.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case gist.SendDatagram:
			q.fx.sendDatagram(now, a)
		case gist.ForwardDatagram:
			q.fx.forwardDatagram(now, a)
		case *gist.SendConn:
			q.fx.sendConn(now, a)
		case gist.Connect:
			q.fx.connect(a)
		case gist.CloseConn:
			q.fx.closeConn(a)
		case *gist.RecvMessage:
			q.receive(now, a)
		case gist.MessageStatus:
			q.push(qosnslp.Status{MessageStatus: a})
		case gist.NetworkNotification:
			q.push(qosnslp.Notification{NetworkNotification: a})
		case gist.Note:
			q.fx.note("gist", a.Kind, wire.SID{}, a.Remote, a.Detail)
		}
	}
}

// receive authenticates a message and hands it to QoS-NSLP. A failed check is
// discarded in silence towards the sender, and logged (interdomain-qosm §4).
func (q *qne) receive(now time.Time, m *gist.RecvMessage) {
	if len(m.Data) == 0 {
		return // a null message: GIST has installed routing state, that is all
	}
	if m.MRI.Method != wire.OffPath {
		q.push(q.received.put(qosnslp.Received{RecvMessage: *m, Peer: stranger}))
		return
	}
	inner, as, err := q.auth.Open(now, interdomain.Binding{SID: m.SID, NSLPID: m.NSLPID, MRI: m.MRI}, m.Peer, m.Data)
	if err != nil {
		q.fx.note("auth", "discarded", m.SID, netip.AddrPortFrom(m.Peer, 0), err.Error())
		return
	}
	if q.peers[m.Peer] != as {
		q.fx.note("auth", "discarded", m.SID, netip.AddrPortFrom(m.Peer, 0), "signed by an AS that this address is not a QNE of")
		return
	}
	if c := m.Certificate; c != nil && !slices.Contains(c.URIs, pki.ASURI(as)) {
		q.fx.note("auth", "discarded", m.SID, netip.AddrPortFrom(m.Peer, 0), fmt.Sprintf("signed by AS%d, and came over an association with %v", as, c))
		return
	}
	m.Data = inner
	q.push(q.received.put(qosnslp.Received{RecvMessage: *m, Peer: qosnslp.Peer(as)}))
}

func (q *qne) nslpDo(now time.Time, actions []qosnslp.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case qosnslp.Question:
			q.push(q.asked.put(interdomain.Asked{Question: a}))
		case qosnslp.Send:
			q.send(now, &a)
		case qosnslp.BoundEnded:
			q.boundEnded(&a)
		case qosnslp.Forget:
			q.push(q.forgets.put(a.SetStateLifetime))
		case qosnslp.Invalidate:
			q.push(a.InvalidateRoutingState)
		case qosnslp.Result:
			q.fx.result(a)
		case qosnslp.Notified:
			q.fx.note("qos-nslp", "notified", a.SID, netip.AddrPort{}, a.Message.InfoSpec.String())
			q.fx.notified(a)
		case qosnslp.Note:
			q.fx.note("qos-nslp", a.Kind, a.SID, netip.AddrPort{}, a.Detail)
		}
	}
}

// boundEnded ends what is half of a bidirectional reservation with its other half,
// where it was initiated: "The QNE MAY elect to send RESERVE messages with the TEAR flag
// set". RFC 5974 §5.4.1
func (q *qne) boundEnded(e *qosnslp.BoundEnded) {
	if e.Bound.Code != nslpwire.BindBidirectional {
		return
	}
	if i, ok := q.nslp.Session(e.SID); ok && i.Initiator {
		q.fx.note("qos-nslp", "opposite-ended", e.SID, netip.AddrPort{}, "the session of the opposite direction is over: "+e.Bound.SID.String())
		q.push(qosnslp.Terminate{SID: e.SID})
	}
}

// send signs a message for the AS that it goes to, and gives it to GIST.
func (q *qne) send(now time.Time, s *qosnslp.Send) {
	m := &s.SendMessage
	if s.Peer != stranger {
		signed, err := q.auth.Seal(now, interdomain.Binding{SID: m.SID, NSLPID: m.NSLPID, MRI: m.MRI}, q.sources.towards(uint32(s.Peer), &m.MRI), uint32(s.Peer), m.NSLPData)
		if err != nil {
			q.push(qosnslp.Status{MessageStatus: gist.MessageStatus{Handle: m.Handle, NSLPID: m.NSLPID, SID: m.SID, MRI: m.MRI, Err: err}})
			return
		}
		m.NSLPData = signed
	}
	q.push(q.messages.put(*m))
}

func (q *qne) domainDo(now time.Time, actions []interdomain.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case interdomain.Answer:
			q.push(q.verdicts.put(a.Verdict))
		case interdomain.SLSHold:
			g, err := q.fx.ledger().Hold(now, a.Request)
			q.push(interdomain.SLSHeld{Ref: a.Ref, Grant: g, Err: err})
		case interdomain.SLSAsk:
			t, err := q.fx.ledger().Ask(now, a.Request, a.Limit)
			q.push(interdomain.SLSAsked{Ref: a.Ref, Quote: t, Err: err})
		case interdomain.SLSCommit:
			b, displaced, err := q.fx.ledger().Commit(now, a.ID, a.Version, a.Rate)
			q.push(interdomain.SLSCommitted{Ref: a.Ref, Bookings: b, Displaced: displaced, Err: err})
		case interdomain.SLSDrop:
			q.fx.ledger().Drop(a.ID, a.Version)
		case interdomain.SLSRelease:
			q.fx.ledger().Release(a.ID)
		case interdomain.SLSReleaseLeg:
			q.fx.ledger().ReleaseLeg(a.ID, a.Leg)
		case interdomain.DriverHold:
			q.fx.driver().Hold(a.Request, q.driverDone(a.Ref))
		case interdomain.DriverQuery:
			q.fx.driver().Query(a.Request, func(rate uint64, err error) {
				q.fx.post(interdomain.DriverTold{Ref: a.Ref, Rate: rate, Err: err})
			})
		case interdomain.DriverCommit:
			q.fx.driver().Commit(a.ID, a.Version, a.CIR, q.driverDone(a.Ref))
		case interdomain.DriverDrop:
			q.fx.driver().Drop(a.ID, a.Version, q.driverDone(a.Ref))
		case interdomain.DriverRelease:
			q.fx.driver().Release(a.ID, q.driverDone(a.Ref))
		case interdomain.StorePut:
			q.fx.put(store.Record(a.Record), a.Gone, q.storeDone(a.Ref))
		case interdomain.Preempt:
			q.fx.preempt(qosnslp.Preempt{SID: a.SID, By: a.By})
		case interdomain.StoreDelete:
			q.fx.remove(a.ID, q.storeDone(a.Ref))
		case interdomain.Note:
			q.fx.note(layerDomain, a.Kind, a.SID, netip.AddrPort{}, a.Detail)
		}
	}
}

func (q *qne) driverDone(ref interdomain.Ref) func(error) {
	return func(err error) { q.fx.post(interdomain.DriverDone{Ref: ref, Err: err}) }
}

func (q *qne) storeDone(ref interdomain.Ref) func(error) {
	return func(err error) { q.fx.post(interdomain.StoreDone{Ref: ref, Err: err}) }
}
