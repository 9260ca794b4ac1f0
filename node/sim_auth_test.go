package node

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/internal/simnet"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// The tests of this file are about who may ask, interdomain-qosm §4.

// noTrace wants no session in an AS, at any layer but GIST, whose own state
// says nothing of a reservation and ends by itself.
func (a *simAS) noTrace() {
	a.w.t.Helper()
	st := a.p.q.nslp.Stats()
	if n := a.p.q.domain.Len() + st.Creating + st.Installed + st.Closing + len(a.disk.records) + len(a.device.have()); n != 0 || a.p.l.l.Stats().Held+a.p.l.l.Stats().Committed != 0 {
		a.w.fatalf("AS%d has something: %d sessions, %+v, ledger %+v, store %d, driver %d", a.cfg.AS, a.p.q.domain.Len(), st, a.p.l.l.Stats(), len(a.disk.records), len(a.device.have()))
	}
}

// "A failed check is discarded silently and logged": a wrong key, and a key of
// another neighbour. interdomain-qosm §4
func TestSimWrongKey(t *testing.T) {
	secret := func(f func(as2, as1 *Config)) func(*Config) {
		var transit Config
		text, err := os.ReadFile(labDir + "/config/as65002.yaml")
		if err != nil {
			t.Fatal(err)
		}
		data, err := Parse("as65002.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		transit = *data
		return func(c *Config) {
			if c.AS == 65001 {
				f(&transit, c)
			}
		}
	}
	for name, change := range map[string]func(*Config){
		"wrong secret": secret(func(_, c *Config) { c.Keys[0].Secret = bytes.Repeat([]byte{7}, 32) }),
		"unknown key":  secret(func(_, c *Config) { c.Keys[0].ID = 99 }),
		// Signed well, but by a key that AS65003's messages are signed with.
		"key of another AS": secret(func(transit, c *Config) { c.Keys[0].ID, c.Keys[0].Secret = 23, transit.Keys[1].Secret }),
	} {
		w := newSimWorld(t, 20, change)
		sent := w.record()
		s := w.session()
		w.reserve(s, mbit(20), 0)
		if r := w.answer(s); r.Kind != qosnslp.TimedOut {
			w.fatalf("%s: told %s %v, want TimedOut", name, kindText(r.Kind), r.Info)
		}
		w.as[1].noTrace()
		w.as[2].noTrace()
		if w.as[1].notes["auth/discarded"] == 0 {
			w.fatalf("%s: nothing was logged", name)
		}
		if n := w.count(*sent, 1, 0, func(simSent) bool { return true }); n != 0 {
			w.fatalf("%s: %d answers, want silence", name, n)
		}
		w.net.Run(time.Hour)
		w.mustAgree() // GIST's state is gone as well
	}
}

// START_TIME is "within 5 s of the receiver's clock". interdomain-qosm §4
func TestSimStaleClock(t *testing.T) {
	for _, skew := range []time.Duration{-6 * time.Second, 6 * time.Second, 4 * time.Second, -4 * time.Second} {
		w := newSimWorld(t, 21)
		w.as[0].crash(true)
		w.as[0].skew = skew
		w.as[0].boot()
		w.net.Run(6 * time.Second) // what was signed before a start is refused as well
		s := w.session()
		w.reserve(s, mbit(20), 0)
		r := w.answer(s)
		switch within := skew.Abs() < 5*time.Second; {
		case within && r.Kind != qosnslp.Reserved:
			w.fatalf("clock off by %v: told %s %v", skew, kindText(r.Kind), r.Info)
		case !within && r.Kind != qosnslp.TimedOut:
			w.fatalf("clock off by %v: told %s %v", skew, kindText(r.Kind), r.Info)
		case !within:
			w.as[1].noTrace()
			if !strings.Contains(w.as[1].last["auth/discarded"], "not recent") {
				w.fatalf("logged: %q", w.as[1].last["auth/discarded"])
			}
		}
	}
}

// START_TIME is "rising strictly per key and SID": what was heard once is not
// heard again, at once or later, and neither is what was changed on the way.
// interdomain-qosm §4
func TestSimReplay(t *testing.T) {
	w := newSimWorld(t, 22)
	var heard [][]byte
	w.net.Tap = func(kind string, from, to netip.AddrPort, b []byte) {
		w.tap(kind, from, to, b)
		if m, err := wire.Parse(b); kind == "tcp" && err == nil && m.Type == wire.Data && from.Addr() == w.as[0].cfg.GIST.Address {
			heard = append(heard, slices.Clone(b))
		}
	}
	s := w.session()
	w.mustReserve(s, mbit(20))
	w.release(s)
	w.answer(s)
	if len(heard) != 2 {
		w.fatalf("heard %d messages, want RESERVE and TEAR", len(heard))
	}
	again := func(b []byte, why string) {
		t.Helper()
		// GIST drops what it has no routing state for: the attacker has that.
		m, err := wire.Parse(b)
		if err != nil {
			w.fatalf("%v", err)
		}
		w.as[0].p.handle(gist.SendMessage{NSLPData: m.NSLPData, NSLPID: m.NSLPID, SID: m.SID, MRI: m.MRI, Attr: gist.TransferAttributes{Reliable: true}})
		before := w.as[1].notes["auth/discarded"]
		w.net.Run(time.Second)
		if w.as[1].notes["auth/discarded"] != before+1 || !strings.Contains(w.as[1].last["auth/discarded"], why) {
			w.fatalf("logged %d times: %q, want %q", w.as[1].notes["auth/discarded"]-before, w.as[1].last["auth/discarded"], why)
		}
		w.as[1].noTrace()
		w.as[2].noTrace()
	}
	for _, b := range heard {
		again(b, "START_TIME has not risen")
	}
	changed := slices.Clone(heard[0])
	m, err := wire.Parse(changed)
	if err != nil {
		w.fatalf("%v", err)
	}
	m.NSLPData[len(m.NSLPData)/2] ^= 1 // of changed
	again(changed, "signature")
	w.net.Run(10 * time.Second)
	again(heard[0], "not recent")
}

// simClaim is what a neighbour says of the border that its RESERVE crosses.
type simClaim struct {
	egress, ingress qspec.BorderID
	mri             wire.MRI
}

// claim sends a RESERVE from one AS to another that is signed well and says
// what c says, and returns the answer.
func (w *simWorld) claim(from, to int, c simClaim) *nslpwire.Message {
	w.t.Helper()
	a := w.as[from]
	phb := qspec.PHB(46)
	initiator, err := qspec.NewInitiator(qspec.Ask{CIR: mbit(5), PHB: &phb})
	if err != nil {
		w.fatalf("%v", err)
	}
	local, err := qspec.Encapsulate(&initiator, qspec.InReserve)
	if err != nil {
		w.fatalf("%v", err)
	}
	local.SetEgress(c.egress)
	local.SetIngress(c.ingress)
	msg := nslpwire.Message{Type: nslpwire.Reserve, MessageFlags: nslpwire.Replace, HasRSN: true, RSN: nslpwire.RSN{Number: 1, Epoch: 5},
		HasRII: true, RII: 77, QSPEC: local.Append(nil)}
	w.next++
	sid := wire.SID{0: 0xba, 14: byte(w.next >> 8), 15: byte(w.next)}
	data, err := a.p.q.auth.Seal(a.now(), interdomain.Binding{SID: sid, NSLPID: nslpID, MRI: c.mri}, a.cfg.GIST.Address, w.as[to].cfg.AS, msg.Append(nil))
	if err != nil {
		w.fatalf("%v", err)
	}
	sent := w.record()
	a.p.handle(gist.SendMessage{NSLPData: data, Handle: 1, NSLPID: nslpID, SID: sid, MRI: c.mri, Attr: gist.TransferAttributes{Reliable: true}})
	w.net.Run(time.Second)
	for _, s := range *sent {
		if s.from == w.as[to].cfg.GIST.Address && s.sid == sid && s.msg.Type == nslpwire.Response {
			return s.msg
		}
	}
	w.fatalf("no answer: %v", w.as[to].last)
	return nil
}

// "The receiver requires: AS in Egress ID = AS of the certificate = customer of
// the SLS, AS in Ingress ID = its own, interface = that of the relaying edge";
// "a valid sender that is not entitled gets 5/0x02". interdomain-qosm §4
func TestSimClaims(t *testing.T) {
	addr := netip.MustParseAddr
	hop12 := wire.MRI{Method: wire.OffPath, Flow: simFlow, Egress: addr("127.1.2.1"), Ingress: addr("127.2.1.1")}
	back := simFlow
	back.Source, back.Destination = simFlow.Destination, simFlow.Source
	hop32 := wire.MRI{Method: wire.OffPath, Flow: back, Egress: addr("127.3.2.1"), Ingress: addr("127.2.3.1")}
	id := func(as uint32, a string) qspec.BorderID { return qspec.BorderID{AS: as, Addr: addr(a)} }
	for _, c := range []struct {
		name string
		from int
		simClaim
	}{
		{"Egress ID of another AS", 0, simClaim{id(65003, "127.1.2.1"), id(65002, "127.2.1.1"), hop12}},
		{"Egress ID of the receiver", 0, simClaim{id(65002, "127.1.2.1"), id(65002, "127.2.1.1"), hop12}},
		{"another egress interface", 0, simClaim{id(65001, "127.1.2.9"), id(65002, "127.2.1.1"), hop12}},
		{"Ingress ID of another AS", 0, simClaim{id(65001, "127.1.2.1"), id(65003, "127.2.1.1"), hop12}},
		{"the receiver's other border", 0, simClaim{id(65001, "127.1.2.1"), id(65002, "127.2.3.1"), hop12}},
		{"AS65003 in the name of AS65001", 2, simClaim{id(65001, "127.1.2.1"), id(65002, "127.2.1.1"), hop32}},
		{"AS65003 in the name of AS65001, by its own border", 2, simClaim{id(65001, "127.3.2.1"), id(65002, "127.2.3.1"), hop32}},
	} {
		w := newSimWorld(t, 23)
		r := w.claim(c.from, 1, c.simClaim)
		if r.InfoSpec.Class != nslpwire.ClassPermanentFailure || r.InfoSpec.Code != nslpwire.AuthorizationFailure {
			w.fatalf("%s: answer %v, want 5/0x02", c.name, r.InfoSpec)
		}
		for _, a := range w.as {
			a.noTrace()
		}
	}
	// The same with the truth is served, as far as there is an SLS.
	w := newSimWorld(t, 23)
	if r := w.claim(0, 1, simClaim{id(65001, "127.1.2.1"), id(65002, "127.2.1.1"), hop12}); r.InfoSpec.IsError() {
		w.fatalf("the truth: %v", r.InfoSpec)
	}
	if r := w.claim(2, 1, simClaim{id(65003, "127.3.2.1"), id(65002, "127.2.3.1"), hop32}); r.InfoSpec.Class != nslpwire.ClassQoSModelError || r.InfoSpec.Code != interdomain.CodeNoSLS {
		w.fatalf("no SLS in that direction: %v, want 6/64", r.InfoSpec)
	}
}

// "An edge admits nobody else's": a RESERVE from who is no neighbouring AS's QNE
// is refused and leaves nothing behind, and its TEAR does nothing to the
// sessions of others. interdomain-qosm §4
func TestSimStranger(t *testing.T) {
	// Without TLS, for with it GIST lets no stranger through to QoS-NSLP.
	w := newSimWorld(t, 24, func(c *Config) { c.Insecure, c.GIST.TLS = true, nil })
	s := w.session()
	w.mustReserve(s, mbit(20))
	x := newSimStranger(w, "10.1.0.66")
	target := w.as[1].cfg.GIST.Address
	flow := wire.Flow{Source: netip.PrefixFrom(x.addr, 32), Destination: netip.PrefixFrom(target, 32)}
	mri := wire.MRI{Method: wire.PathCoupled, Flow: flow}
	phb := qspec.PHB(46)
	q, err := qspec.NewInitiator(qspec.Ask{CIR: mbit(5), PHB: &phb})
	if err != nil {
		w.fatalf("%v", err)
	}
	reserve := nslpwire.Message{Type: nslpwire.Reserve, MessageFlags: nslpwire.Replace, HasRSN: true, RSN: nslpwire.RSN{Number: 1, Epoch: 5},
		HasRII: true, RII: 78, QSPEC: q.Append(nil)}
	tear := nslpwire.Message{Type: nslpwire.Reserve, MessageFlags: nslpwire.Tear, HasRSN: true, RSN: nslpwire.RSN{Number: 1 << 20, Epoch: 5}}
	send := func(sid wire.SID, m nslpwire.Message) {
		x.handle(gist.SendMessage{NSLPData: m.Append(nil), NSLPID: nslpID, SID: sid, MRI: mri, Attr: gist.TransferAttributes{Reliable: true}})
	}
	foreign := wire.SID{0: 0xcc}
	send(foreign, reserve)
	send(s.sid, reserve)
	send(s.sid, tear)
	w.net.Run(5 * time.Second)
	if len(x.heard) == 0 {
		w.fatalf("the stranger did not reach the QNE: %v %v", x.notes, w.as[1].last)
	}
	for _, m := range x.heard {
		msg, err := nslpwire.Parse(m.Data)
		if err != nil || msg.InfoSpec.Class != nslpwire.ClassPermanentFailure && msg.InfoSpec.Class != nslpwire.ClassQoSModelError && msg.InfoSpec.Class != nslpwire.ClassProtocolError {
			w.fatalf("the stranger was told %v (%v)", msg.InfoSpec, err)
		}
	}
	if _, ok := w.as[1].p.q.nslp.Session(foreign); ok || w.as[1].p.q.domain.Len() != 1 {
		w.fatalf("the stranger left a session behind")
	}
	w.net.Run(time.Hour)
	w.mustAgree()
}

// simStranger is a GIST node of nobody's.
type simStranger struct {
	w     *simWorld
	addr  netip.Addr
	m     *gist.Machine
	conns map[gist.ConnID]*simnet.Conn
	heard []gist.RecvMessage
	notes []gist.Action
	timer *simnet.Timer
}

func newSimStranger(w *simWorld, address string) *simStranger {
	x := &simStranger{w: w, addr: netip.MustParseAddr(address), conns: make(map[gist.ConnID]*simnet.Conn)}
	port := w.as[0].cfg.GIST.Port
	var err error
	x.m, err = gist.New(gist.Config{
		Identity: []byte("stranger"), Address: x.addr, Port: port, NSLPIDs: []wire.NSLPID{nslpID}, Insecure: true,
		Rand: func(b []byte) {
			for i := range b {
				b[i] = byte(w.rng.Uint32())
			}
		},
		Route: func(mri wire.MRI) (gist.QueryRoute, error) {
			return gist.QueryRoute{Local: x.addr, To: netip.AddrPortFrom(mri.Flow.Destination.Addr(), port), TTL: 64, RouterAlert: true}, nil
		},
	})
	if err != nil {
		w.fatalf("%v", err)
	}
	w.net.Attach(&simnet.Host{Name: "stranger", Datagram: func(d simnet.Datagram) {
		x.handle(gist.Datagram{Local: d.To, From: d.From, TTL: d.TTL, RouterAlert: d.RouterAlert, Payload: d.Payload})
	}}, x.addr)
	return x
}

func (x *simStranger) handle(ev gist.Event) {
	for _, a := range slices.Clone(x.m.Handle(x.w.net.Now(), ev)) {
		x.act(a)
	}
	if x.timer != nil {
		x.timer.Stop()
		x.timer = nil
	}
	if at := x.m.Deadline(); !at.IsZero() {
		x.timer = x.w.net.At(at, func() { x.handle(nil) })
	}
}

func (x *simStranger) act(a gist.Action) {
	switch a := a.(type) {
	case gist.SendDatagram:
		x.w.net.Send(simnet.Datagram{From: netip.AddrPortFrom(x.addr, x.w.as[0].cfg.GIST.Port), To: a.To, TTL: max(a.TTL, 1), RouterAlert: a.RouterAlert, Payload: a.Payload})
	case gist.Connect:
		c := x.w.net.Dial(x.addr, a.To)
		x.conns[a.Conn] = c
		c.Up = func() { x.handle(gist.ConnUp{Conn: a.Conn}) }
		c.Message = func(b []byte) { x.handle(&gist.ConnMessage{Conn: a.Conn, Payload: b}) }
		c.Down = func(err error) { delete(x.conns, a.Conn); x.handle(gist.ConnDown{Conn: a.Conn, Err: err}) }
	case *gist.SendConn:
		if c := x.conns[a.Conn]; c != nil {
			c.Send(a.Payload)
		}
	case gist.CloseConn:
		if c := x.conns[a.Conn]; c != nil {
			delete(x.conns, a.Conn)
			c.Close()
		}
	case *gist.RecvMessage:
		x.heard = append(x.heard, *a)
	default:
		x.notes = append(x.notes, a)
	}
}

// interdomain-qosm §4: "the responder's certificate must be of the AS that BGP
// gives as next", and the querier's of the AS that the relaying edge faces. Who
// has another one gets no further than the association, others go on, and with
// the right one all is well.
func TestSimWrongCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		whose int // AS that presents it
		says  uint32
		notes int // AS that refuses it
	}{
		"querier, of nobody":     {0, 65099, 1},
		"querier, of the sink":   {0, 65003, 1},
		"responder, of nobody":   {1, 65099, 0},
		"responder, of the sink": {1, 65003, 0},
	} {
		w := newSimWorld(t, 31)
		address := w.as[c.whose].cfg.GIST.Address
		right := w.certs[address]
		w.certs[address] = simCertificate(c.says, address)
		s := w.session()
		w.reserve(s, mbit(20), 0)
		if r := w.answer(s); r.Kind == qosnslp.Reserved {
			w.fatalf("%s: reserved", name)
		}
		refuser := w.as[c.notes]
		if refuser.notes["gist/not-authorised"] == 0 || !strings.Contains(refuser.last["gist/not-authorised"], pki.ASURI(c.says)) {
			w.fatalf("%s: AS%d notes %v", name, refuser.cfg.AS, refuser.notes)
		}
		if m := refuser.p.q.gist.Stats(); c.notes == 1 && m.RoutingStates != 0 {
			w.fatalf("%s: AS%d has %+v", name, refuser.cfg.AS, m)
		}
		w.certs[address] = right
		w.net.Run(2 * time.Minute)
		w.mustReserve(w.session(), mbit(20))
		w.net.Run(time.Hour)
		w.mustAgree()
	}
}

// A signature and a certificate of different ASs do not make one sender, though
// each is good.
func TestSimCertificateAndSignatureAgree(t *testing.T) {
	w := newSimWorld(t, 32)
	s := w.session()
	w.mustReserve(s, mbit(20))
	transit, mri := w.as[1], wire.MRI{Method: wire.OffPath}
	sealed, err := w.as[0].p.q.auth.Seal(w.as[0].now(), interdomain.Binding{SID: s.sid, NSLPID: nslpID, MRI: mri},
		w.as[0].cfg.GIST.Address, 65002, (&nslpwire.Message{Type: nslpwire.Notify}).Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	m := gist.RecvMessage{Data: sealed, NSLPID: nslpID, SID: s.sid, MRI: mri, Peer: w.as[0].cfg.GIST.Address, Certificate: simCertificate(65003, w.as[0].cfg.GIST.Address)}
	transit.p.q.receive(transit.now(), &m)
	if transit.notes["auth/discarded"] != 1 || !strings.Contains(transit.last["auth/discarded"], "signed by AS65001, and came over an association with") {
		t.Errorf("notes %v %v", transit.notes, transit.last)
	}
}
