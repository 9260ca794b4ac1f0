package gist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// Machine is one GIST node: the Node-SM of RFC 5971 §6.1 and the machines that
// it makes. It is used from one goroutine.
type Machine struct {
	cfg     Config
	base    time.Time // instant 0
	last    time.Time // what Handle was called with
	started bool
	now     instant
	out     []Action
	sends   []SendConn // what out points to
	recvs   []RecvMessage
	encoded []byte // what sends point to
	timers  timers

	sessions  map[wire.SID]*routing // chained by next
	byMRI     map[uint64]*routing   // chained by mriNext
	peers     map[peerKey]*peer
	bySII     map[SII]*peer
	lastSII   SII
	assocs    map[ConnID]*assoc
	lastConn  ConnID
	lastHeard *assoc // had the last message; nil: it is gone, or there was none

	hosts    map[netip.Addr]*host // of peers in use
	unused   peerList             // peers that nothing refers to, the longest unused first
	known    known
	stranger bool // the Query in m.in is from nobody we know

	secrets   secrets
	dmode     bucket
	strangers sourceBuckets // Queries by IP source
	reflected sourceBuckets // Queries by the address where the Response goes
	errs      sourceBuckets // Errors by the IP source of what they are about
	errsTo    sourceBuckets // D-mode Errors by destination
	hashKey   uint64
	random    [512]byte // buffered octets of cfg.Rand
	randomAt  int
	helloID   uint32
	stacks    stacks
	in        wire.Message
	inOf      *recalled // in was recalled by it
	recall    recall
	header    wire.Header // of in, with the hop count that it came with
	enc       wire.Message
	encData   wire.Message // for Data, of which it has nothing else
	scratch   []byte
	sending   outMsg    // of the SendMessage being handled
	cookie    [16]byte  // of the Query being made
	confirmed confirmed // of the Confirm being handled
	natted    natted    // what a NAT has made of the message in in
	queued    int       // octets of all backlogs
	pending   int       // accepted connections without a Confirm
	freeLists []*backlog
	paths     pathIndex
	states    revalidation
	mtus      pathMTUs
	lastSlot  instant // after the moments given to those that wait for the D-mode rate limit
	stats     Stats
}

// New makes a machine, or says what its Config lacks.
func New(cfg Config) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	cfg.Identity, cfg.Peers = slices.Clone(cfg.Identity), slices.Clone(cfg.Peers)
	m := &Machine{
		cfg:      cfg,
		sessions: map[wire.SID]*routing{},
		byMRI:    map[uint64]*routing{},
		peers:    map[peerKey]*peer{},
		bySII:    map[SII]*peer{},
		assocs:   map[ConnID]*assoc{},
		hosts:    map[netip.Addr]*host{},
		known:    newKnown(&cfg),
		lastConn: ConnID(cfg.ConnSpace)<<48 - 1,
		stacks:   newStacks(&cfg),
		randomAt: len(Machine{}.random),
	}
	m.hashKey = binary.LittleEndian.Uint64(m.rand(8))
	m.helloID = binary.LittleEndian.Uint32(m.rand(4))
	return m, nil
}

// SetEdges replaces the edges served and the direct peers. State that stands
// is kept.
func (m *Machine) SetEdges(edges []ServedEdge, directPeers []netip.Addr) error {
	cfg := m.cfg
	cfg.Edges, cfg.DirectPeers = slices.Clone(edges), slices.Clone(directPeers)
	if err := cfg.validate(); err != nil {
		return err
	}
	m.cfg, m.known = cfg, newKnown(&cfg)
	return nil
}

// Handle takes one event at a time that is not before the last one, and
// returns what must be done, in order. A nil event only does what is due. The
// slice, and what its pointers point to, is used again at the next call.
func (m *Machine) Handle(now time.Time, ev Event) []Action {
	if !m.started {
		m.started, m.base = true, now
	}
	if now != m.last { // of a batch, all events have the same
		m.last, m.now = now, max(m.now, int64(now.Sub(m.base)))
	}
	m.forgetActions()
	m.natted.renamed = false
	for m.timers.next() <= m.now {
		m.timers.pop().fire(m)
	}
	switch e := ev.(type) {
	case nil:
	case Datagram:
		m.rxDatagram(&e)
	case *Datagram:
		m.rxDatagram(e)
	case *ConnMessage:
		m.rxConn(e.Conn, e.Payload)
	case SendMessage:
		m.sendMessage(&e)
	case *SendMessage:
		m.sendMessage(e)
	case ConnUp:
		m.connUp(&e)
	case ConnAccepted:
		m.connAccepted(&e)
	case ConnDown:
		m.connDown(e.Conn, e.Err)
	case SetStateLifetime:
		m.setStateLifetime(&e)
	case *SetStateLifetime:
		m.setStateLifetime(e)
	case InvalidateRoutingState:
		m.invalidate(&e)
	case DatagramTooLarge:
		m.tooLarge(&e)
	case NotForwarded:
		m.notForwarded(&e)
	case RouteChanged:
		m.routeChanged(&e)
	case SetPeers:
		m.setPeers(e.Entries)
	default:
		m.note("unknown-event", netip.AddrPort{}, fmt.Sprintf("%T", ev))
	}
	return m.out
}

// Deadline is when Handle has to be called next, with a nil event if there is
// no other; zero: never.
func (m *Machine) Deadline() time.Time {
	at := m.timers.next()
	if at == never {
		return time.Time{}
	}
	return m.base.Add(time.Duration(at))
}

// A burst's worth of actions is not kept.
const (
	keepActions = 256
	keepEncoded = 64 << 10
)

// forgetActions makes room for those of another event.
func (m *Machine) forgetActions() {
	if len(m.out) > keepActions || len(m.encoded) > keepEncoded {
		m.out, m.sends, m.recvs, m.encoded = nil, nil, nil, nil
		return
	}
	if len(m.out) > 1 { // one is soon overwritten
		clear(m.out) // do not keep what they point to
		clear(m.recvs)
	}
	m.out, m.sends, m.recvs, m.encoded = m.out[:0], m.sends[:0], m.recvs[:0], m.encoded[:0]
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

// doSend is do for SendConn: no new one for each message.
func (m *Machine) doSend(id ConnID, payload []byte) {
	m.sends = append(m.sends, SendConn{Conn: id, Payload: payload})
	m.do(&m.sends[len(m.sends)-1])
}

// doRecv is do for RecvMessage, of which the caller sets every field: an old one
// may be in it.
func (m *Machine) doRecv() *RecvMessage {
	n := len(m.recvs)
	if n == cap(m.recvs) {
		m.recvs = append(m.recvs, RecvMessage{})
	}
	m.recvs = m.recvs[:n+1]
	r := &m.recvs[n]
	m.do(r)
	return r
}

func (m *Machine) note(kind string, remote netip.AddrPort, detail string) {
	m.stats.Notes++
	m.do(Note{Kind: kind, Remote: remote, Detail: detail})
}

// rand returns n random octets, good until the next call; n is at most 64.
func (m *Machine) rand(n int) []byte {
	if m.randomAt+n > len(m.random) {
		m.cfg.Rand(m.random[:])
		m.randomAt = 0
	}
	m.randomAt += n
	return m.random[m.randomAt-n : m.randomAt : m.randomAt]
}

// between draws a moment between 1/2 and 3/4 of d from now: refreshes are not
// to synchronise. RFC 5971 §4.4.4, §4.4.5
func (m *Machine) between(d time.Duration) time.Duration {
	return d/2 + time.Duration(int64(binary.LittleEndian.Uint16(m.rand(2)))*int64(d/4)>>16)
}

func (m *Machine) serves(id wire.NSLPID) bool { return slices.Contains(m.cfg.NSLPIDs, id) }

// origin is where the message in m.in came from.
type origin struct {
	ma          *assoc // nil: D-mode
	local, from netip.AddrPort
	iface       uint32 // 0: not known
	ttl         uint8  // 0: not known
	alert       bool
	transit     *Transit // nil: addressed to us
	payload     []byte   // with transit, or over an association: the whole message
	recalled    *routing // m.in is Data that is known to name it
}

func (o *origin) ingress() Ingress { return Ingress{Local: o.local, From: o.from, Interface: o.iface} }

// unmapped takes IPv4 addresses out of the IPv6 form that sockets of both
// versions give them: nothing inside knows that form, and wire refuses it.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (m *Machine) rxDatagram(d *Datagram) {
	o := origin{local: unmapped(d.Local), from: unmapped(d.From), iface: d.Interface, ttl: d.TTL, alert: d.RouterAlert}
	m.stats.DatagramsIn++
	if d.Transit != nil {
		o.transit, o.payload = d.Transit, d.Payload
		if !m.rxTransit(&o) {
			return
		}
	}
	m.inOf = nil
	if err := m.in.DecodeDatagram(d.Payload); err != nil {
		m.malformed(&o, err)
		return
	}
	m.receive(&o)
}

func (m *Machine) rxConn(id ConnID, payload []byte) {
	a := m.lastHeard
	if a == nil || a.id != id {
		a = m.assocs[id]
		m.lastHeard = a
	}
	if a == nil {
		m.note("unknown-connection", netip.AddrPort{}, "message on a connection that is closed here")
		return
	}
	o := origin{ma: a, from: a.remote, payload: payload}
	m.stats.ConnMessagesIn++
	if o.recalled = m.recallData(payload); o.recalled != nil {
		m.receive(&o)
		return
	}
	m.inOf = nil
	if err := m.in.Decode(payload); err != nil {
		m.malformed(&o, err)
		switch {
		case isVersion(err):
			m.maClose(a, "version of GIST not known: where its messages end is not, either")
		case a.state == maAwaitingConnection:
			m.maClose(a, "malformed first message")
		}
		return
	}
	m.receive(&o)
}

// isVersion says whether err is that the message's version is not known.
func isVersion(err error) bool {
	var pe *wire.ParseError
	return errors.As(err, &pe) && pe.Report.ID == wire.UnknownVersion
}

// malformed answers, where that is allowed, what could not be parsed.
func (m *Machine) malformed(o *origin, err error) {
	var pe *wire.ParseError
	if !errors.As(err, &pe) {
		m.note("not-gist", o.from, err.Error())
		return
	}
	m.note("malformed", o.from, pe.Detail)
	if pe.Reportable() {
		report := pe.Report
		m.reportError(o, &report)
	}
}

// receive takes the message in m.in through the checks that all messages
// share, and on to the machine that it is for.
func (m *Machine) receive(o *origin) {
	msg := &m.in
	m.header = msg.Header
	if msg.HopCount == 0 { // RFC 5971 §4.3.1
		m.reject(o, wire.HopLimitExceeded, "hop-limit")
		return
	}
	msg.HopCount--
	if (msg.Type == wire.Query && o.ma != nil) || (msg.Type == wire.MAHello && o.ma == nil) {
		m.reject(o, wire.IncorrectEncapsulation, "encapsulation") // RFC 5971 §5.5
		return
	}
	switch msg.Type {
	case wire.Error:
		m.rxError(o)
		return
	case wire.MAHello:
		m.maRxHello(o.ma)
		return
	}
	if !m.serves(msg.NSLPID) {
		m.unknownNSLPID(o)
		return
	}
	if o.ma != nil && !m.maRx(o.ma) {
		return
	}
	m.nodeRx(o)
}

// unknownNSLPID is RFC 5971 §4.3.4, cases 4 and 5: a message that is addressed
// to us, for an application that is not here. For one in transit see rxTransit.
func (m *Machine) unknownNSLPID(o *origin) {
	switch {
	case m.in.Type == wire.Response:
		m.note("unknown-nslpid", o.from, "Response for an NSLPID not served here")
	case m.in.C && m.in.MRI.Method != wire.OffPath: // in Q-mode
		m.reject(o, wire.EndpointFound, "unknown-nslpid")
	default:
		m.reject(o, wire.UnknownNSLPID, "unknown-nslpid")
	}
}
