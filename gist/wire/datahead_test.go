package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
)

// headed are Data messages with a head: the shortest one, and the longest.
func headed() []Message {
	long := MRI{
		Method: OffPath, Upstream: true, Egress: netip.MustParseAddr("2001:db8::1"), Ingress: netip.MustParseAddr("2001:db8::2"),
		Flow: Flow{
			Source: netip.MustParsePrefix("2001:db8:1::99/48"), Destination: netip.MustParsePrefix("2001:db8:2::7/128"),
			HasProtocol: true, Protocol: 17, HasTraffic: true, DSCP: 46, HasLabel: true, FlowLabel: 0xabcde,
			HasSPI: true, SPI: 7, HasSrcPort: true, SrcPort: 1, HasDstPort: true, DstPort: 2,
		},
	}
	short := MRI{Method: LooseEnd, Flow: Flow{Source: netip.MustParsePrefix("192.0.2.1/32"), Destination: netip.MustParsePrefix("192.0.2.2/32")}}
	var list []Message
	for _, mri := range []MRI{long, short} {
		list = append(list, Message{
			Header: Header{Version: Version1, HopCount: 9, NSLPID: 3, Type: Data, S: true},
			HasMRI: true, MRI: mri, HasSID: true, SID: SID{1, 2, 3}, NSLPData: []byte("datadata"),
		})
	}
	return list
}

// A message with the same head is what Decode says of it, and Append writes what
// Message.Append does.
func TestDataHead(t *testing.T) {
	for _, m := range headed() {
		first := m.Append(nil)
		var h DataHead
		if h.Set(first); h.n == 0 {
			t.Fatalf("no head of % x", first)
		}
		if m.MRI.Method == OffPath && int(h.n) != maxDataHead {
			t.Errorf("the longest head has %d octets, want %d", h.n, maxDataHead)
		}
		m.HopCount, m.NSLPData = 0, bytes.Repeat([]byte("other data, "), 100)
		want := m.Append(nil)
		got, ok := h.Append([]byte("before"), 0, m.NSLPData)
		if !ok || !bytes.Equal(got[6:], want) {
			t.Errorf("Append: % x, want % x", got[6:], want)
		}
		data, ok := h.Match(want)
		if !ok || !bytes.Equal(data, m.NSLPData) || cap(data) != len(data) {
			t.Errorf("Match: %v, % x", ok, data)
		}
		if DataHash(first) != DataHash(want) || DataHash(want) != m.SID.Hash(m.MRI.Upstream) || DataHash(want)^1 != m.SID.Hash(!m.MRI.Upstream) {
			t.Errorf("hashes %x, %x, SID %x", DataHash(first), DataHash(want), m.SID.Hash(m.MRI.Upstream))
		}
		m.MRI.Upstream = !m.MRI.Upstream
		if _, ok := h.Match(m.Append(nil)); ok {
			t.Error("the other direction has this head, too")
		}
	}
}

// What Append cannot write it leaves to Message.Append, and so it does with b.
func TestDataHeadAppendRefuses(t *testing.T) {
	var set, none DataHead
	set.Set(new(headed()[0]).Append(nil))
	for name, c := range map[string]struct {
		h    *DataHead
		data []byte
	}{
		"no head": {&none, make([]byte, 4)}, "no whole words": {&set, make([]byte, 5)}, "too long": {&set, make([]byte, MaxObjectLen+4)},
	} {
		if b, ok := c.h.Append([]byte("b"), 1, c.data); ok || string(b) != "b" {
			t.Errorf("%s: %v, %d octets", name, ok, len(b))
		}
	}
	if _, ok := set.Append(nil, 1, make([]byte, MaxObjectLen)); !ok {
		t.Error("the longest data are refused")
	}
}

// What is not Data of MRI, SID and NSLP data alone has no head, and what begins
// with one and is malformed after it does not match.
func TestDataHeadOfNothingElse(t *testing.T) {
	m := headed()[1]
	good := m.Append(nil)
	with := func(change func(*Message)) []byte {
		c := m
		change(&c)
		return c.Append(nil)
	}
	for name, b := range map[string][]byte{
		"Confirm": with(func(c *Message) {
			c.Type, c.HasNLI, c.NLI = Confirm, true, NLI{Address: netip.MustParseAddr("192.0.2.1"), ValidityMS: 1}
		}),
		"Q-mode": with(func(c *Message) { c.C = true }),
		"NLI": with(func(c *Message) {
			c.HasNLI, c.NLI = true, NLI{Address: netip.MustParseAddr("192.0.2.1"), ValidityMS: 1}
		}),
		"NAT-Traversal": with(func(c *Message) { c.NATTraversal = []byte("nat.") }),
		"unknown":       with(func(c *Message) { c.Unknown = []Object{{Type: 99}} }),
		"no data":       with(func(c *Message) { c.NSLPData = nil }),
		"short":         good[:20],
		"header":        good[:HeaderLen],
		"empty":         nil,
	} {
		var h DataHead
		h.Set(good)
		if h.Set(b); h.n != 0 {
			t.Errorf("%s has a head", name)
		}
	}
	var h DataHead
	h.Set(good)
	at := headAt + int(h.n)
	long := append(bytes.Clone(good[:at]), make([]byte, 4+4*0x1008)...)
	binary.BigEndian.PutUint16(long[2:], uint16((len(long)-HeaderLen)/4))
	binary.BigEndian.PutUint32(long[at:], uint32(ObjNSLPData)<<16|0x1008)
	for name, b := range map[string][]byte{
		"version": append([]byte{2}, good[1:]...), "longer": append(bytes.Clone(good), 0, 0, 0, 0), "cut": good[:len(good)-4],
		"a length of more than 12 bits": long, "head only": good[:at],
		"flags": append(append(bytes.Clone(good[:at]), 0x40), good[at+1:]...),
	} {
		if _, ok := h.Match(b); ok {
			t.Errorf("%s matches", name)
		}
	}
}

// Whatever a head of one message matches, Decode takes, and finds to be the same
// but for hop count and data.
func FuzzDataHead(f *testing.F) {
	for _, m := range headed() {
		b := m.Append(nil)
		f.Add(b, b)
		m.NSLPData, m.HopCount = nil, 1
		f.Add(b, m.Append(nil))
		m.NSLPData = make([]byte, 0)
		f.Add(b, m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		m, err := Parse(first)
		_ = DataHash(first)
		if err != nil {
			return
		}
		var h DataHead
		h.Set(first)
		// As it comes, and with the head in common.
		for _, b := range [][]byte{second, append(bytes.Clone(first[:min(headAt+int(h.n), len(first))]), second...)} {
			data, ok := h.Match(b)
			if !ok {
				continue
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatalf("% x has the head of % x, but %v", b, first, err)
			}
			var quick Message
			quick.SetData(got.Header, m.MRI, m.SID, data)
			quick.StackProposal, quick.StackConfig.Options, quick.Unknown = got.StackProposal, got.StackConfig.Options, got.Unknown // empty
			if !reflect.DeepEqual(quick, got) || len(got.StackProposal)+len(got.Unknown)+len(got.StackConfig.Options) > 0 {
				t.Fatalf("% x:\n%+v\nwant\n%+v", b, quick, got)
			}
			again, ok := h.Append(nil, got.HopCount, data)
			if !ok || !bytes.Equal(again, b) {
				t.Fatalf("% x became % x", b, again)
			}
		}
	})
}
