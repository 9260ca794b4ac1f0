package gist

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// stimulus brings a machine to raise an error. What it returns came of the
// message sent last.
type stimulus struct {
	id   wire.ErrorID
	info []wire.AIType // "fields MUST be included", in order
	do   func(t *testing.T) (*bench, Event)
	// The message came over an association; there is neither SID nor MRI in it,
	// or "the original MRI and Session ID MUST NOT be included".
	cmode, anonymous bool
}

// rawTLV appends an object to a datagram.
func rawTLV(datagram []byte, ab uint8, kind wire.ObjectType, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(slices.Clone(datagram), uint16(ab)<<14|uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)/4))
	b = append(b, value...)
	binary.BigEndian.PutUint16(b[wire.MagicLen+2:], uint16((len(b)-wire.MagicLen-wire.HeaderLen)/4))
	return b
}

// withValue replaces the value of an object of a datagram.
func withValue(datagram []byte, kind wire.ObjectType, value []byte) []byte {
	b := slices.Clone(datagram[:wire.MagicLen+wire.HeaderLen])
	for off := len(b); off < len(datagram); {
		head := binary.BigEndian.Uint32(datagram[off:])
		end := off + 4 + 4*int(head&0xfff)
		if wire.ObjectType(head>>16&0xfff) == kind {
			b = rawTLV(b, uint8(head>>30), kind, value)
		} else {
			b = rawTLV(b, uint8(head>>30), wire.ObjectType(head>>16&0xfff), datagram[off+4:end])
		}
		off = end
	}
	return b
}

// queried is a stimulus by a Query from the peer c, changed as a message, as a
// datagram, or as octets.
func queried(change func(*wire.Message, *Datagram), octets func([]byte) []byte, config ...func(*Config)) func(*testing.T) (*bench, Event) {
	return func(t *testing.T) (*bench, Event) {
		var all []func(*wire.Message, *Datagram)
		if change != nil {
			all = append(all, change)
		}
		d := queryOf(pc, cAddr, all...)
		if octets != nil {
			d.Payload = octets(slices.Clone(d.Payload))
		}
		return onPath(t, append([]func(*Config){func(c *Config) { c.DModeData = true }}, config...)...), d
	}
}

// overMA is a stimulus over the association of a confirmed peer.
func overMA(change func(b *bench, data *wire.Message) (ConnID, *wire.Message)) func(*testing.T) (*bench, Event) {
	return func(t *testing.T) (*bench, Event) {
		b := newBench(t)
		d := b.confirmed(testSID(1))
		conn, m := change(b, &d)
		return b, &ConnMessage{Conn: conn, Payload: m.Append(nil)}
	}
}

func header(at int, change func(byte) byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[wire.MagicLen+at] = change(b[wire.MagicLen+at])
		return b
	}
}

var (
	objectType  = []wire.AIType{wire.AIObjectType}
	objectValue = []wire.AIType{wire.AIObjectValue}
)

// catalogue has a stimulus for each error of RFC 5971 §A.4.4.
var catalogue = []stimulus{
	{id: wire.UnknownVersion, anonymous: true, do: queried(nil, header(0, func(byte) byte { return 2 }))},
	{id: wire.UnknownType, anonymous: true, do: queried(nil, header(6, func(b byte) byte { return b | 0x11 }))},
	{id: wire.InvalidRFlag, anonymous: true, do: queried(nil, header(7, func(b byte) byte { return b &^ 0x40 }))},
	{id: wire.IncorrectMessageLength, anonymous: true, info: []wire.AIType{wire.AIMessageLength},
		do: queried(nil, header(3, func(b byte) byte { return b + 1 }))},
	{id: wire.InvalidEFlag, anonymous: true, do: queried(nil, header(7, func(b byte) byte { return b | 0x20 }))},
	{id: wire.InvalidCFlag, anonymous: true, do: queried(nil, header(6, func(b byte) byte { return b &^ 0x80 }))},
	{id: wire.HopLimitExceeded, do: queried(func(m *wire.Message, _ *Datagram) { m.HopCount = 0 }, nil)},
	{id: wire.IncorrectEncapsulation, cmode: true, do: overMA(func(_ *bench, d *wire.Message) (ConnID, *wire.Message) {
		q := mustQuery(d.SID)
		return accepted, &q
	})},
	{id: wire.IncorrectlyDelivered, cmode: true, do: overMA(func(b *bench, d *wire.Message) (ConnID, *wire.Message) {
		q := mustQuery(testSID(3)) // of another peer, with an association of its own
		q.NLI = wire.NLI{PeerIdentity: []byte("q3"), Address: q3Addr, ValidityMS: 1000}
		q.MRI.Ingress = e2outExt
		r := b.response(b.do(Datagram{From: netip.AddrPortFrom(e2outInt, testPort), Payload: q.AppendDatagram(nil)}))
		b.do(ConnAccepted{Conn: 40})
		c := confirmTo(&q, &r)
		b.conn(40, &c)
		return 40, d
	})},
	{id: wire.NoRoutingState, cmode: true, do: overMA(func(_ *bench, d *wire.Message) (ConnID, *wire.Message) {
		d.SID = testSID(9)
		return accepted, d
	})},
	{id: wire.UnknownNSLPID, cmode: true, do: overMA(func(_ *bench, d *wire.Message) (ConnID, *wire.Message) {
		d.NSLPID = 99
		return accepted, d
	})},
	{id: wire.EndpointFound, do: queried(func(m *wire.Message, d *Datagram) {
		m.NSLPID, d.Local = 99, netip.AddrPortFrom(aAddr, testPort)
	}, nil)},
	{id: wire.MessageTooLarge, info: []wire.AIType{wire.AIMTU}, do: func(t *testing.T) (*bench, Event) {
		d := queryOf(pc, cAddr)
		d.Transit = &Transit{}
		return onPath(t), NotForwarded{Datagram: d, MTU: 300}
	}},
	{id: wire.DuplicateObject, info: objectType, do: queried(nil, func(b []byte) []byte { return rawTLV(b, 0, wire.ObjSID, make([]byte, 16)) })},
	{id: wire.UnrecognisedObject, info: objectType, do: queried(nil, func(b []byte) []byte { return rawTLV(b, 0, 99, nil) })},
	{id: wire.MissingObject, info: objectType, do: queried(func(m *wire.Message, _ *Datagram) { m.QueryCookie = nil }, nil)},
	{id: wire.InvalidObjectType, info: objectType, do: queried(nil, func(b []byte) []byte { return rawTLV(b, 0, wire.ObjHelloID, make([]byte, 4)) })},
	{id: wire.UntranslatedObject, info: objectType, do: queried(func(_ *wire.Message, d *Datagram) { d.From = netip.MustParseAddrPort("192.0.2.77:270") }, nil)},
	{id: wire.InvalidExtensibilityFlags, info: objectType, do: queried(nil, func(b []byte) []byte { return rawTLV(b, 3, 99, nil) })},
	{id: wire.IncorrectLength, info: objectValue, do: queried(nil, func(b []byte) []byte { return withValue(b, wire.ObjStackConfig, make([]byte, 4)) })},
	{id: wire.ValueNotSupported, info: objectValue, do: queried(nil, func(b []byte) []byte { return withValue(b, wire.ObjStackProposal, make([]byte, 4)) })},
	{id: wire.InvalidFlagFieldCombination, info: objectValue, do: queried(func(m *wire.Message, _ *Datagram) { m.MRI = loose.Reverse() }, nil)},
	{id: wire.EmptyList, info: objectValue, do: queried(nil, func(b []byte) []byte { return withValue(b, wire.ObjStackProposal, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })},
	{id: wire.InvalidCookie, info: objectValue, cmode: true, do: func(t *testing.T) (*bench, Event) {
		b := newBench(t, func(c *Config) { c.InvalidCookieErrors = true })
		q, r := b.upTo(testSID(1))
		c := confirmTo(&q, &r)
		c.ResponderCookie = slices.Clone(c.ResponderCookie)
		c.ResponderCookie[20] ^= 1
		return b, &ConnMessage{Conn: accepted, Payload: c.Append(nil)}
	}},
	{id: wire.StackMismatch, info: []wire.AIType{wire.AIObjectValue, wire.AIObjectValue}, do: queried(func(m *wire.Message, _ *Datagram) {
		m.StackConfig.Options = []wire.MAOptions{{Protocol: wire.ForwardsTCP, Profile: 9}}
	}, nil)},
	{id: wire.InvalidIPTTL, do: queried(func(m *wire.Message, d *Datagram) { m.MRI, d.TTL = pc.Reverse(), 253 }, nil)},
	{id: wire.MRITooWild, info: objectValue, do: queried(func(m *wire.Message, d *Datagram) {
		m.NSLPID, d.Transit = 99, &Transit{}
		m.MRI.Flow.Destination = netip.PrefixFrom(m.MRI.Flow.Destination.Addr(), wildestIPv4-1)
	}, nil)},
	{id: wire.IPVersionMismatch, info: objectValue, do: queried(func(m *wire.Message, _ *Datagram) { m.MRI = pc6 }, nil)},
	{id: wire.IngressFilterFailure, info: objectValue, do: queried(nil, nil, func(c *Config) {
		c.IngressFilter = func(netip.Prefix, Ingress) bool { return false }
	})},
}

// errorsIn returns the Error messages sent, and those among them over a
// connection.
func errorsIn(actions []Action) (all []wire.Message, overMA int) {
	for _, a := range actions {
		var m wire.Message
		switch a := a.(type) {
		case SendDatagram:
			m, _ = wire.ParseDatagram(a.Payload)
		case *SendConn:
			if m, _ = wire.Parse(a.Payload); m.Type == wire.Error {
				overMA++
			}
		}
		if m.Type == wire.Error {
			all = append(all, m)
		}
	}
	return all, overMA
}

// RFC 5971 §A.4.4, error by error: it is raised, in the mode of the message that
// caused it, with what "MUST be included" (§A.4.1, §5.6), and nothing else comes
// of the message.
func TestErrorCatalogue(t *testing.T) {
	for _, id := range wire.Catalogue() {
		if !slices.ContainsFunc(catalogue, func(s stimulus) bool { return s.id == id }) {
			t.Errorf("%v has no stimulus", id)
		}
	}
	for _, s := range catalogue {
		t.Run(s.id.String(), func(t *testing.T) {
			b, ev := s.do(t)
			before := b.m.Stats().RoutingStates
			all, overMA := errorsIn(b.do(ev))
			if len(all) != 1 {
				t.Fatalf("%d Errors", len(all))
			}
			m, e := &all[0], all[0].Error
			if e.ID != s.id {
				t.Fatalf("got %v", e.ID)
			}
			// "The NSLPID in the common header of the Error message has the value
			// zero"; NLI in D-mode; "the error MUST be sent back over the same
			// messaging association".
			if m.NSLPID != 0 || m.HasNLI == s.cmode || (overMA == 1) != s.cmode || e.DMode == s.cmode || m.HopCount == 0 {
				t.Errorf("header %+v, NLI %v, %d over the association, D %v", m.Header, m.HasNLI, overMA, e.DMode)
			}
			if m.HasNLI && m.NLI.Address != b.m.cfg.Address {
				t.Errorf("NLI %+v", m.NLI)
			}
			if e.HasSID == s.anonymous || e.HasMRI == s.anonymous {
				t.Errorf("SID %v, MRI %v", e.HasSID, e.HasMRI)
			}
			var original []byte
			switch ev := ev.(type) {
			case Datagram:
				original = ev.Payload[wire.MagicLen:]
			case NotForwarded:
				original = slices.Clone(ev.Datagram.Payload[wire.MagicLen:])
				original[wire.HopCountOffset]++ // it had been decremented
			case *ConnMessage:
				original = ev.Payload
			}
			if got := e.Header.Append(nil); !bytes.Equal(got, original[:wire.HeaderLen]) {
				t.Errorf("common header % x, of the message % x", got, original[:wire.HeaderLen])
			}
			var info []wire.AIType
			for i := range e.Info {
				info = append(info, e.Info[i].Type)
			}
			if !slices.Equal(info, s.info) {
				t.Errorf("additional information %v, want %v", info, s.info)
			}
			if got := b.m.Stats().RoutingStates; got != before {
				t.Errorf("%d routing states, were %d", got, before)
			}
		})
	}
}

// RFC 5971 §5.6: the same rate control for all, and "Error messages MUST NOT be
// generated in reaction to incoming Error messages", whatever they say.
func TestErrorsAreBounded(t *testing.T) {
	for _, s := range catalogue {
		b, ev := s.do(t)
		sent := 0
		for range 100 {
			all, _ := errorsIn(b.do(ev))
			sent += len(all)
		}
		if sent > b.m.cfg.Limits.ErrorBurst {
			t.Errorf("%v: %d Errors in an instant, want at most %d", s.id, sent, b.m.cfg.Limits.ErrorBurst)
		}
		b = onPath(t)
		b.do(SendMessage{NSLPData: []byte("data"), NSLPID: testNSLP, SID: testSID(1), MRI: pc, Attr: TransferAttributes{Reliable: true}})
		for kind := range wire.MAHello + 1 {
			in := wire.Message{
				Header: wire.Header{HopCount: 9, Type: wire.Error, S: true},
				HasNLI: true, NLI: wire.NLI{PeerIdentity: []byte("c"), Address: cAddr, ValidityMS: 1000},
				Error: &wire.ErrorData{
					ID: s.id, DMode: true, HasSID: true, SID: testSID(1), HasMRI: true, MRI: pc,
					Header: wire.Header{Version: 1, Type: kind, NSLPID: testNSLP, HopCount: 9},
				},
			}
			for _, d := range [][]byte{in.AppendDatagram(nil), rawTLV(in.AppendDatagram(nil), 3, 99, nil)} {
				if all, _ := errorsIn(b.do(Datagram{From: netip.AddrPortFrom(cAddr, testPort), Payload: d})); len(all) != 0 {
					t.Errorf("%v about a %v was answered with %v", s.id, kind, all[0].Error.ID)
				}
			}
		}
	}
}

// RFC 5971 §A.4.3: what an Error does to the Querying node that waits, by class.
func TestErrorClassesAtTheQuerier(t *testing.T) {
	for _, c := range []struct {
		id   wire.ErrorID
		ends bool
	}{
		{wire.ErrorID(uint32(wire.Informational)<<24 | 0x7700), false}, // "not [...] changing the condition"
		{wire.ErrorID(uint32(wire.Success)<<24 | 0x7700), false},
		{wire.ErrorID(uint32(wire.TransientFailure)<<24 | 0x7700), false}, // "worthwhile to retry"
		{wire.UnknownNSLPID, true},
		{wire.MRITooWild, true},
		{wire.UnknownType, true},
	} {
		b := onPath(t)
		b.do(SendMessage{NSLPData: []byte("data"), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: pc, Attr: TransferAttributes{Reliable: true}})
		in := wire.Message{
			Header: wire.Header{HopCount: 9, Type: wire.Error, S: true},
			HasNLI: true, NLI: wire.NLI{PeerIdentity: []byte("c"), Address: cAddr, ValidityMS: 1000},
			Error: &wire.ErrorData{
				ID: c.id, DMode: true, QMode: true, HasSID: true, SID: testSID(1), HasMRI: true, MRI: pc,
				Header: wire.Header{Version: 1, Type: wire.Query, NSLPID: testNSLP, HopCount: 9, C: true, R: true},
			},
		}
		b.do(Datagram{From: netip.AddrPortFrom(cAddr, testPort), Payload: in.AppendDatagram(nil)})
		if got := b.m.Stats().RoutingStates == 0; got != c.ends {
			t.Errorf("%v: the handshake has ended: %v", c.id, got)
		}
		b.now = b.now.Add(b.m.cfg.T1 + time.Millisecond)
		if sent, _ := outOf(b.do(nil)); (len(sent) == 1) == c.ends {
			t.Errorf("%v: %d Queries after T1", c.id, len(sent))
		}
	}
}

// RFC 5971 §A.1, §A.4.4.1: a message of another version on an association is
// answered, with the highest version that is supported in the answer's header.
// The association then ends, for where the next message begins is not known, and
// applications hear of what may be lost.
func TestUnknownVersionOverAnAssociation(t *testing.T) {
	for name, first := range map[string]bool{"first message": true, "of a peer": false} {
		t.Run(name, func(t *testing.T) {
			b, conn := newBench(t), accepted
			if first {
				conn = 40
				b.do(ConnAccepted{Conn: conn})
			} else {
				b.confirmed(testSID(1))
				b.do(SendMessage{NSLPID: testNSLP, SID: testSID(1), MRI: hop12.Reverse(), NSLPData: []byte("back"), Attr: TransferAttributes{Reliable: true}})
			}
			actions := b.do(&ConnMessage{Conn: conn, Payload: []byte{2, 0x40, 0, 9, 0, 1, 3, 0}})
			all, overMA := errorsIn(actions)
			if len(all) != 1 || overMA != 1 || all[0].Error.ID != wire.UnknownVersion || all[0].Version != wire.Version1 {
				t.Fatalf("%+v", actions)
			}
			if h := all[0].Error.Header; h.Version != 2 || h.Words != 9 || all[0].Error.HasSID || all[0].Error.HasMRI {
				t.Errorf("%+v", all[0].Error)
			}
			said, closed, told := -1, -1, 0
			for i, a := range actions {
				switch a := a.(type) {
				case *SendConn:
					said = i
				case CloseConn:
					closed = i
					if a.Conn != conn {
						t.Errorf("closes %d", a.Conn)
					}
				case NetworkNotification:
					if a.Type == CommunicationFailure {
						told++
					}
				}
			}
			if closed < said || b.m.Stats().Associations != 0 || (told == 1) == first {
				t.Errorf("%+v", actions)
			}
		})
	}
}
