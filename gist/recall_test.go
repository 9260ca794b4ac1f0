package gist

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// twins are two machines to which the same happens, but that one of them is made
// to forget how Data began before each event: it takes every message by the full
// way. What they do must not differ.
type twins struct {
	quick, full *bench
	hits        int // messages that quick did not parse
	conns       []ConnID
	flows       []twinFlow
}

// twinFlow is a flow with a session and a peer of its own. Those behind a NAT have
// another name on the wire.
type twinFlow struct {
	sid      wire.SID
	mri      wire.MRI
	wire     wire.MRI // as Data call it that come in
	peer     netip.Addr
	conn     ConnID
	querying bool // we ask, the peer is at port 7
}

// sidLike is another SID whose Data are remembered in the same slot.
func sidLike(sid wire.SID, n int) wire.SID {
	want := sid.Hash(false) % recallSlots
	for i := 100; ; i++ {
		if s := testSID(i); s.Hash(false)%recallSlots == want {
			if n--; n < 0 {
				return s
			}
		}
	}
}

func newTwins(t *testing.T) *twins {
	same := func(c *Config) {
		c.Address, c.DModeData = bAddr, true
		c.Rand = func(b []byte) { // the order in which maps are gone through does not count
			for i := range b {
				b[i] = 0x5a
			}
		}
		c.Limits.QueryRate, c.Limits.StrangerRate, c.Limits.DModeRate = 1e6, 1e6, 1e6
	}
	name, other := pc, pc
	name.Flow.Source = netip.MustParsePrefix("10.0.0.50/32")
	other.Flow.Source = netip.MustParsePrefix("192.0.2.52/32")
	down := pc
	down.Flow.Destination = netip.MustParsePrefix("10.9.9.9/32")
	a := testSID(5)
	return &twins{quick: onPath(t, same), full: onPath(t, same), conns: []ConnID{2, 4, 6, 1}, flows: []twinFlow{
		{sid: a, mri: pc, wire: pc, peer: cAddr, conn: 2},
		{sid: sidLike(a, 0), mri: pc6, wire: pc6, peer: bAddr6, conn: 4},
		{sid: sidLike(a, 1), mri: loose, wire: loose, peer: cAddr, conn: 2},
		{sid: a, mri: other, wire: name, peer: addr("192.0.2.2"), conn: 6},
		{sid: a, mri: name, wire: name, peer: cAddr, conn: 2},
		{sid: a, mri: down, wire: down.Reverse(), peer: q3Addr, conn: 1, querying: true},
	}}
}

// do gives both the event, and compares what they make of it.
func (w *twins) do(t *testing.T, ev Event) []Action {
	t.Helper()
	w.full.m.recall, w.full.m.inOf = recall{}, nil
	w.full.now = w.quick.now
	if e, ok := ev.(*ConnMessage); ok {
		if h := w.quick.m.recall.find(wire.DataHash(e.Payload) ^ 1); h != nil && w.quick.m.assocs[e.Conn] != nil {
			if _, ok := h.in.Match(e.Payload); ok {
				w.hits++
			}
		}
	}
	acts := w.quick.do(ev)
	got, want := said(acts), said(w.full.do(ev))
	if !slices.Equal(got, want) {
		t.Fatalf("%T: quick\n%q\nfull\n%q", ev, got, want)
	}
	if g, f := w.quick.m.Stats(), w.full.m.Stats(); g != f {
		t.Fatalf("%T: quick %+v\nfull %+v", ev, g, f)
	}
	if g, f := w.quick.m.Deadline(), w.full.m.Deadline(); !g.Equal(f) {
		t.Fatalf("%T: next deadline %v, %v", ev, g, f)
	}
	for _, b := range []*bench{w.quick, w.full} {
		if err := b.m.consistent(); err != nil {
			t.Fatalf("%T: %v", ev, err)
		}
	}
	for _, f := range w.flows {
		if g, f := fmt.Sprint(w.quick.m.RoutingStatesOf(f.sid)), fmt.Sprint(w.full.m.RoutingStatesOf(f.sid)); g != f {
			t.Fatalf("%T: states %v\n%v", ev, g, f)
		}
	}
	return acts
}

// said is actions as text, in an order of their own: some follow the order of maps.
func said(actions []Action) []string {
	var list []string
	for _, a := range actions {
		switch a := a.(type) {
		case *SendConn:
			list = append(list, fmt.Sprintf("%+v", *a))
		case *RecvMessage:
			list = append(list, fmt.Sprintf("%+v", *a))
		default:
			list = append(list, fmt.Sprintf("%T %+v", a, a))
		}
	}
	slices.Sort(list)
	return list
}

// handshake has f's state made or refreshed, with its Confirm over conn.
func (w *twins) handshake(t *testing.T, f *twinFlow, conn ConnID, noNAT bool, send *SendMessage) {
	name := f.wire
	if noNAT {
		name = f.mri
	}
	var acts []Action
	if f.querying {
		acts = w.do(t, *send)
	} else {
		acts = w.do(t, natQuery(f.mri, nil, func(m *wire.Message, d *Datagram) {
			m.SID, m.NLI.Address, d.From = f.sid, f.peer, netip.AddrPortFrom(f.peer, testPort)
			if f.mri == name {
				m.NATTraversal = nil
			}
		}))
	}
	for _, a := range acts {
		var m wire.Message
		var err error
		switch a := a.(type) {
		case SendDatagram:
			m, err = wire.ParseDatagram(a.Payload)
		case *SendConn:
			m, err = wire.Parse(a.Payload)
		default:
			continue
		}
		switch {
		case err == nil && m.Type == wire.Query:
			p := echo(acts, nil)
			for _, a := range w.do(t, Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: netip.AddrPortFrom(q3Addr, testPort), Payload: p}) {
				if c, ok := a.(Connect); ok {
					f.conn = c.Conn
					w.conns[3] = c.Conn
					w.do(t, ConnUp{Conn: c.Conn})
				}
			}
			return
		case err == nil && m.Type == wire.Response:
			q := mustQuery(f.sid)
			q.MRI, q.NLI.Address = name, f.peer
			c := confirmTo(&q, &m)
			w.do(t, &ConnMessage{Conn: conn, Payload: c.Append(nil)})
			return
		}
	}
}

// data is Data of f's peer as it comes in.
func (f *twinFlow) data(hops uint8, n int) *wire.Message {
	return &wire.Message{
		Header: wire.Header{HopCount: hops, NSLPID: testNSLP, Type: wire.Data, S: true},
		HasMRI: true, MRI: f.wire, HasSID: true, SID: f.sid, NSLPData: make([]byte, 4*n),
	}
}

// step does what four octets of a script say.
func (w *twins) step(t *testing.T, op, a, b, c byte) {
	f := &w.flows[int(a)%len(w.flows)]
	back := f.mri.Reverse()
	if f.querying {
		back = f.mri
	}
	send := &SendMessage{NSLPData: make([]byte, 4+4*int(c&7)), Handle: uint64(b), NSLPID: testNSLP, SID: f.sid, MRI: back,
		Attr: TransferAttributes{Reliable: true}, Report: c&8 != 0, HopCount: c >> 4}
	conn := f.conn
	if op&0x10 != 0 {
		conn = w.conns[int(b)%len(w.conns)]
	}
	switch op & 15 {
	case 0, 1: // good Data, perhaps by the wrong way
		w.do(t, &ConnMessage{Conn: conn, Payload: f.data(b, int(c)).Append(nil)})
	case 2, 3, 4: // with an octet changed
		p := f.data(9, int(op>>5)).Append(nil)
		p[int(b)%len(p)] ^= c
		w.do(t, &ConnMessage{Conn: conn, Payload: p})
	case 5: // cut or longer
		p := f.data(9, int(op>>5)).Append(nil)
		p = append(p, make([]byte, c&7)...)
		w.do(t, &ConnMessage{Conn: conn, Payload: p[:max(0, len(p)-int(b)%len(p))]})
	case 6: // flags, types, and objects that are there besides
		m := f.data(c&3, 2)
		m.E, m.S, m.NSLPID = b&1 != 0, b&2 != 0, m.NSLPID+wire.NSLPID(b>>2&1)
		if b&8 != 0 {
			m.Unknown = []wire.Object{{Type: 99, Value: make([]byte, 4)}}
		}
		if b&16 != 0 {
			m.HasNLI, m.NLI = true, wire.NLI{Address: f.peer, ValidityMS: 1000}
		}
		if b&32 != 0 {
			m.MRI = m.MRI.Reverse()
		}
		w.do(t, &ConnMessage{Conn: conn, Payload: m.Append(nil)})
	case 7: // the same over UDP
		m := f.data(9, 2)
		m.HasNLI, m.NLI = true, wire.NLI{Address: f.peer, PeerIdentity: []byte("q1"), ValidityMS: 1000}
		w.do(t, Datagram{Local: netip.AddrPortFrom(bAddr, testPort), From: netip.AddrPortFrom(f.peer, testPort), Payload: m.AppendDatagram(nil)})
	case 8, 9:
		w.do(t, send)
	case 10:
		send.Attr = TransferAttributes{Secure: c&1 != 0, Stateless: c&2 != 0}
		send.SII = SII(b & 3)
		send.NSLPData = send.NSLPData[:len(send.NSLPData)-int(c>>2&1)]
		w.do(t, *send)
	case 11:
		w.handshake(t, f, conn, c&1 != 0, send)
	case 12:
		w.do(t, SetStateLifetime{NSLPID: testNSLP, SID: f.sid, MRI: back, Lifetime: time.Duration(b&3) * time.Minute})
	case 13:
		ev := []Event{
			SetPeers{Entries: []PeerEntry{{Unauthenticated: true, Peers: []netip.Addr{f.peer}}}}, SetPeers{Entries: []PeerEntry{{Unauthenticated: true}}},
			InvalidateRoutingState{MRI: back, Status: RoutingStatus(2 + b&1)}, ConnDown{Conn: conn}, RouteChanged{},
		}
		w.do(t, ev[int(c)%len(ev)])
	case 14:
		w.do(t, ConnAccepted{Conn: w.conns[int(b)%3], Remote: netip.AddrPortFrom(f.peer, 4000)})
	case 15:
		w.quick.now = w.quick.now.Add(time.Duration(c) * time.Duration(b) * time.Millisecond)
		w.do(t, nil)
	}
}

// begin sets every flow up, so that scripts need not find out how.
func (w *twins) begin(t *testing.T) {
	for i := range w.flows {
		f := &w.flows[i]
		if !f.querying && w.quick.m.assocs[f.conn] == nil {
			w.do(t, ConnAccepted{Conn: f.conn, Remote: netip.AddrPortFrom(f.peer, 4000)})
		}
		w.step(t, 11, byte(i), 1, 0)
	}
	if s := w.quick.m.Stats(); s.RoutingStates != len(w.flows) || s.Associations != 4 {
		t.Fatalf("%d states and %d associations, want %d and 4", s.RoutingStates, s.Associations, len(w.flows))
	}
}

// Whatever comes, and whatever becomes of the states: a machine that remembers how
// Data began does what one does that parses each and looks its state up. RFC 5971
// §4.3.1, RFC 5971 §4.3.2
func TestRecallChangesNothing(t *testing.T) {
	seeds := 25
	if testing.Short() {
		seeds = 10
	}
	hits := 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		w := newTwins(t)
		w.begin(t)
		for range 300 {
			op := byte(r.Uint32())
			if r.IntN(2) == 0 {
				op &= 0xe0 // good Data by the right way
			}
			w.step(t, op, byte(r.IntN(6)), byte(r.IntN(64)), byte(r.IntN(64)))
		}
		hits += w.hits
	}
	if hits < 10*seeds {
		t.Errorf("%d messages were recalled in %d lives: the test shows nothing", hits, seeds)
	}
}

// FuzzRecall is TestRecallChangesNothing for scripts, and for messages, that nobody has
// thought of.
func FuzzRecall(f *testing.F) {
	data := newTwins(&testing.T{}).flows[0].data(7, 3).Append(nil)
	f.Add([]byte{0, 0, 9, 1, 0, 0, 9, 1, 0, 0, 9, 1}, data)
	f.Add([]byte{0, 0, 9, 1, 0, 0, 9, 1, 12, 0, 0, 0, 0, 0, 9, 1, 11, 0, 1, 0, 0, 0, 9, 1, 0, 0, 9, 1, 0, 0, 9, 1}, data)
	f.Add([]byte{0, 3, 9, 1, 0, 3, 9, 1, 0, 4, 9, 1, 0, 4, 9, 1, 12, 3, 0, 0, 0, 4, 9, 1, 0, 4, 9, 1, 0, 4, 9, 1}, data[:20])
	f.Add([]byte{12, 3, 0, 0, 0, 4, 9, 1, 0, 4, 9, 1, 0, 4, 9, 1, 11, 3, 1, 0, 0, 3, 9, 1, 0, 3, 9, 1, 0, 4, 9, 1}, data[:20])
	f.Add([]byte{8, 3, 9, 1, 8, 3, 9, 1, 8, 3, 9, 1, 11, 3, 1, 1, 8, 3, 9, 1, 8, 3, 9, 1, 8, 3, 9, 1, 11, 3, 1, 0, 8, 3, 9, 1}, data[:20])
	f.Add([]byte{8, 5, 9, 1, 8, 5, 9, 1, 8, 5, 9, 9, 0, 5, 9, 1, 0, 5, 9, 1, 0, 5, 9, 1, 13, 5, 3, 0}, []byte{})
	f.Add([]byte{0, 1, 0, 1, 0, 1, 9, 1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 2, 0, 1, 5, 2, 3, 3, 6, 2, 255, 1}, data)
	f.Fuzz(func(t *testing.T, script, payload []byte) {
		w := newTwins(t)
		w.begin(t)
		for len(script) >= 4 && len(script) < 4*200 {
			w.step(t, script[0], script[1], script[2], script[3])
			w.do(t, &ConnMessage{Conn: w.conns[int(script[1]>>4)%4], Payload: payload})
			script = script[4:]
		}
	})
}
