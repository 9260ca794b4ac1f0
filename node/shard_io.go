package node

import (
	"net/netip"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/transport"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qosnslp"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

// now is the wall clock: what SESSION_AUTH's START_TIME and bookings mean.
func (s *shard) now() time.Time { return time.Now() }

// connAddrs are the two ends of a connection and what it is, for the trace.
type connAddrs struct {
	local, remote netip.AddrPort
	stack         gist.Stack
}

// heard keeps the addresses of connections.
func (s *shard) heard(ev gist.Event) {
	switch e := ev.(type) {
	case gist.ConnAccepted:
		s.conns[e.Conn] = connAddrs{local: e.Local, remote: e.Remote, stack: e.Stack}
	case gist.ConnDown:
		delete(s.conns, e.Conn)
	}
}

// fromConnections is the Handler of the shard's own connections.
func (s *shard) fromConnections(events []gist.Event) {
	if s.inbox.wait(events, octets(events)) {
		s.lend()
	}
}

// fromStrangers and fromPeers are the Handlers of the sockets that everybody
// reaches, and of those that each configured peer has.
func (n *Node) fromStrangers(events []gist.Event) { n.fromDatagrams(events, byStranger) }

func (n *Node) fromPeers(events []gist.Event) { n.fromDatagrams(events, byPeer) }

// fromDatagrams hands what came in by UDP to the shards that it is for.
func (n *Node) fromDatagrams(events []gist.Event, from sender) {
	if len(n.shards) == 1 {
		n.offer(n.shards[0], events, from)
		return
	}
	parts := make([][]gist.Event, len(n.shards))
	for _, ev := range events {
		d, ok := ev.(gist.Datagram)
		if !ok {
			continue
		}
		if sid, ok := wire.PeekSID(d.Payload); ok {
			i := n.shardOf(sid).index
			parts[i] = append(parts[i], ev)
			continue
		}
		for i := range parts { // an Error names no session: everybody's
			parts[i] = append(parts[i], ev)
		}
	}
	for i, part := range parts {
		if len(part) > 0 {
			n.offer(n.shards[i], part, from)
		}
	}
}

// lendLimit is how many datagrams at once their one reader works on itself: of
// more, the shards' loops take their parts side by side.
const lendLimit = 8

func (n *Node) offer(s *shard, events []gist.Event, from sender) {
	switch {
	case !s.inbox.offer(events, octets(events), from):
		n.counts.add("udp", "overload", uint64(len(events)))
	case len(events) <= lendLimit:
		s.lend()
	default:
		s.inbox.signal()
	}
}

// flush sends what the last batch of events made.
func (s *shard) flush() {
	s.tcp.Flush()
	if len(s.out) == 0 {
		return
	}
	if err := s.node.udp.Send(s.out); err != nil {
		s.node.sent(err)
		s.tooLarge(transport.SendErrors(err))
	}
	clear(s.out)
	s.out = s.out[:0]
}

// tooLarge tells GIST of datagrams that did not fit the path to their destination.
func (s *shard) tooLarge(errs []*transport.SendError) {
	for _, e := range errs {
		if !e.TooLarge() {
			continue
		}
		ev := gist.DatagramTooLarge{To: e.To, Payload: s.out[e.Index].Payload}
		if k := s.node.kernel; k != nil {
			if mtu, err := k.MTU(e.To.Addr()); err == nil {
				ev.MTU = mtu
			}
		}
		s.inbox.put(ev)
	}
}

func (s *shard) sendDatagram(now time.Time, d gist.SendDatagram) {
	if !d.Local.IsValid() {
		d.Local = s.node.cfg.GIST.like(d.To.Addr())
	}
	s.out = append(s.out, transport.Outgoing{SendDatagram: d})
	s.node.record(traceEntry{
		at: now, from: netip.AddrPortFrom(d.Local, s.node.cfg.GIST.Port), to: d.To, payload: d.Payload,
	})
}

func (s *shard) connect(c gist.Connect) {
	if !c.Local.IsValid() {
		c.Local = s.node.cfg.GIST.like(c.To.Addr())
	}
	s.conns[c.Conn] = connAddrs{local: netip.AddrPortFrom(c.Local, 0), remote: c.To, stack: c.Stack}
	if err := s.tcp.Connect(c); err != nil {
		s.inbox.put(gist.ConnDown{Conn: c.Conn, Err: err})
	}
}

func (s *shard) sendConn(now time.Time, c *gist.SendConn) {
	a := s.conns[c.Conn]
	s.node.record(traceEntry{at: now, from: a.local, to: a.remote, stream: true, stack: a.stack, payload: c.Payload})
	if err := s.tcp.Queue(*c); err != nil {
		// The connection's own ConnDown follows, or has come before.
		s.node.note("tcp", "send-failed", wire.SID{}, a.remote, err.Error())
	}
}

func (s *shard) closeConn(c gist.CloseConn) {
	delete(s.conns, c.Conn)
	if err := s.tcp.CloseConn(c); err != nil {
		s.node.note("tcp", "close-failed", wire.SID{}, netip.AddrPort{}, err.Error())
	}
}

func (s *shard) ledger() ledger                 { return s.node.ledger }
func (s *shard) driver() intradomain.Controller { return s.node.driver }
func (s *shard) put(r store.Record, gone []sls.ID, done func(error)) {
	s.node.store.Replace(r, gone, done)
}
func (s *shard) remove(id sls.ID, done func(error)) { s.node.store.Delete(id, done) }
func (s *shard) post(ev any)                        { s.inbox.put(ev) }
func (s *shard) preempt(ev qosnslp.Preempt)         { s.node.shardOf(ev.SID).inbox.put(ev) }

func (s *shard) note(layer, kind string, sid wire.SID, remote netip.AddrPort, detail string) {
	if layer == layerDomain && kind == "refused" {
		s.because(sid, detail)
	}
	s.node.note(layer, kind, sid, remote, detail)
}

// notified is a NOTIFY of a session: who watches it sees it.
func (s *shard) notified(n qosnslp.Notified) {
	if s.node.watchers.count.Load() != 0 {
		s.node.watchers.notified(n.SID, n.Message.InfoSpec)
	}
}

// waiter is somebody who waits for a session's next result.
type waiter struct {
	answer chan qosnslp.Result
	why    string // this domain's own reason, if it refuses; valid after answer
}

// because keeps the reason for who waits for the session.
func (s *shard) because(sid wire.SID, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[sid]; w != nil {
		w.why = why
	}
}

// expect says who waits for a session's next result; false: somebody else does
// already.
func (s *shard) expect(sid wire.SID, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.waiting[sid]; taken {
		return false
	}
	s.waiting[sid] = w
	return true
}

func (s *shard) unexpect(sid wire.SID) {
	s.mu.Lock()
	delete(s.waiting, sid)
	s.mu.Unlock()
}

func (s *shard) result(r qosnslp.Result) {
	s.mu.Lock()
	w := s.waiting[r.SID]
	delete(s.waiting, r.SID)
	s.mu.Unlock()
	if s.node.watchers.count.Load() != 0 {
		heard := r
		s.node.watchers.told(&heard)
	}
	if w != nil {
		w.answer <- r // capacity 1, and this is the only one
		return
	}
	s.node.log.Info("a session of ours changed", "session", r.SID.String(), "kind", r.Kind, "info", r.Info.String())
}
