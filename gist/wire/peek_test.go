package wire

import (
	"net/netip"
	"testing"
)

// RFC 5971 §5.1, §5.3.1: the magic number first, and objects in a fixed order.
func TestPeekFindsWhatADatagramIsAbout(t *testing.T) {
	m := Message{
		Header: Header{NSLPID: 1, Type: Query, C: true, HopCount: 4},
		HasMRI: true, MRI: MRI{Flow: Flow{Source: netip.MustParsePrefix("10.1.0.1/32"), Destination: netip.MustParsePrefix("10.2.0.2/32")}},
		HasSID: true, SID: SID{1, 2, 3},
		HasNLI: true, NLI: NLI{PeerIdentity: []byte("peer"), Address: netip.MustParseAddr("10.1.0.1"), ValidityMS: 1000},
		QueryCookie: []byte{1, 2, 3, 4},
	}
	b := m.AppendDatagram(nil)
	sid, ok := PeekSID(b)
	if !ok || sid != m.SID {
		t.Fatalf("PeekSID = %v, %t, want %v", sid, ok, m.SID)
	}
	if method, ok := PeekMethod(b); !ok || method != PathCoupled || !IsDatagram(b) {
		t.Errorf("PeekMethod = %v, %t; IsDatagram = %t", method, ok, IsDatagram(b))
	}
	if mri, ok := PeekMRI(b); !ok || mri != m.MRI {
		t.Errorf("PeekMRI = %v, %t, want %v", mri, ok, m.MRI)
	}
	for n := range len(b) { // a truncated datagram gives the same or nothing
		if method, ok := PeekMethod(b[:n]); ok && method != PathCoupled {
			t.Errorf("first %d octets: PeekMethod = %v", n, method)
		}
		if mri, ok := PeekMRI(b[:n]); ok && mri != m.MRI {
			t.Errorf("first %d octets: PeekMRI = %v", n, mri)
		}
		if IsDatagram(b[:n]) != (n >= MagicLen) {
			t.Errorf("first %d octets: IsDatagram = %t", n, IsDatagram(b[:n]))
		}
		if sid, ok := PeekSID(b[:n]); ok && sid != m.SID {
			t.Errorf("first %d octets: PeekSID = %v", n, sid)
		}
	}
	hello := Message{Header: Header{Type: MAHello}, HasHelloID: true, HelloID: 7}
	if _, ok := PeekSID(hello.AppendDatagram(nil)); ok {
		t.Error("an MA-Hello names a session")
	}
	b[MagicLen+HeaderLen+tlvHeaderLen] = 99
	if method, ok := PeekMethod(b); !ok || method != 99 {
		t.Errorf("PeekMethod = %v, %t of a method that nobody knows", method, ok)
	}
	if mri, ok := PeekMRI(b); ok {
		t.Errorf("PeekMRI = %v of a method that nobody knows", mri)
	}
	b[0]++
	if IsDatagram(b) {
		t.Error("a datagram without the magic number")
	}
}
