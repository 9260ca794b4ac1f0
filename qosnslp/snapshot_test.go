package qosnslp

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp/wire"
)

func snapshotSessions() []*session {
	v6 := gistwire.MRI{Method: gistwire.OffPath, NAT: true, Upstream: true,
		Egress: netip.MustParseAddr("2001:db8::1"), Ingress: netip.MustParseAddr("2001:db8::2"),
		Flow: gistwire.Flow{Source: netip.MustParsePrefix("2001:db8:1::/48"), Destination: netip.MustParsePrefix("::/0"),
			HasProtocol: true, Protocol: 17, HasTraffic: true, DSCP: 46, HasLabel: true, FlowLabel: 0xfffff,
			HasSPI: true, SPI: 7, HasSrcPort: true, SrcPort: 1, HasDstPort: true, DstPort: 2}}
	return []*session{
		{state: installed, sid: sid(1), nslpid: 1, up: side{mri: hop(1), peer: 1, nslpid: 1}, down: side{mri: hop(2), peer: 3, nslpid: 1},
			upRSN: wire.RSN{Number: 4, Epoch: 5}, rsn: 6, nextRSN: 7, upPeriod: 30000, inSum: 8, qspec: qspec(9)},
		{state: installed, initiator: true, sid: sid(2), nslpid: 32, up: side{mri: flow(), nslpid: 32}, down: side{mri: v6, peer: 3, nslpid: 31, stateless: true},
			fullRefresh: true, qspec: qspec(1), also: &also{flags: wire.Proxy, classifier: []byte{1, 0, 0, 0},
				bound:   []wire.BoundSession{{Code: 1, SID: sid(3)}},
				objects: []wire.Object{{Action: wire.Refresh, Type: 2047, Value: []byte{1, 2, 3, 4}}, {Action: wire.Refresh, Type: 2046, Value: []byte{}}}}},
		{state: installed, last: true, tail: true, sid: sid(4), nslpid: 1, up: side{mri: hop(1), peer: 1, nslpid: 1},
			down: side{mri: hop(2), peer: 3, nslpid: 1}, qspec: qspec(4)},
		{state: installed, last: true, sid: sid(3), nslpid: 1, up: side{peer: 1, nslpid: 1}, down: side{nslpid: 1}},
	}
}

// A snapshot has the persistent state of RFC 5974 §5.2.1, everything but handles
// and timers, both ways.
func TestSnapshot(t *testing.T) {
	for _, s := range snapshotSessions() {
		b := appendSnapshot(nil, s)
		got, err := parseSnapshot(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v\nwant %+v", got, s)
		}
		for n := range b {
			if _, err := parseSnapshot(b[:n]); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("cut at %d: %v", n, err)
			}
		}
		if _, err := parseSnapshot(append(b, 0)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("trailing octet: %v", err)
		}
		b[0]++
		if _, err := parseSnapshot(b); !errors.Is(err, ErrSnapshot) {
			t.Errorf("another version: %v", err)
		}
	}
}

// What cannot be restored leaves a note, and nothing else.
func TestRestoreBad(t *testing.T) {
	m := New(Config{Rand: func() uint64 { return 1 }})
	for _, b := range [][]byte{nil, {1}, {9, 9}} {
		if a := m.Handle(start, Restore{Snapshot: b}); len(a) != 1 || a[0].(Note).Kind != "bad-snapshot" {
			t.Errorf("%v", a)
		}
	}
	s := appendSnapshot(nil, snapshotSessions()[0])
	m.Handle(start, Restore{Snapshot: s})
	if a := m.Handle(start, Restore{Snapshot: s}); len(a) != 1 || a[0].(Note).Kind != "restore-known" {
		t.Errorf("%v", a)
	}
	if st := m.Stats(); st.Installed != 1 || st.Restored != 1 {
		t.Errorf("%+v", st)
	}
}
