package wire

import (
	"bytes"
	"testing"
)

// Objects goes through a message as Append made it, of whatever length it is, and
// ParseObject reads each as Parse does. RFC 5971 §A.2
func TestObjects(t *testing.T) {
	m := Message{Header: Header{Type: Data, NSLPID: 1}, HasMRI: true, MRI: MRI{Flow: Flow{Source: prefix("10.1.0.1/32"), Destination: prefix("10.2.0.1/32")}},
		HasSID: true, SID: SID{1, 2, 3}, NSLPData: []byte("data"), Unknown: []Object{{Type: 99, Value: []byte("what")}}}
	b := m.Append(nil)
	var types []ObjectType
	end := HeaderLen
	for o := range Objects(b) {
		types = append(types, o.Type)
		if o.Offset != end || o.Type == 99 && o.Action != extForward {
			t.Errorf("%v at %d, AB=%02b; want it at %d", o.Type, o.Offset, o.Action, end)
		}
		end = o.Offset + tlvHeaderLen + len(o.Value)
		x, err := ParseObject(o.Type, o.Value)
		if err != nil || x.HasMRI != (o.Type == ObjMRI) || x.HasMRI && x.MRI != m.MRI || x.HasSID && x.SID != m.SID || !bytes.Equal(x.NSLPData, m.NSLPData) && o.Type == ObjNSLPData {
			t.Errorf("%v: %+v, %v", o.Type, x, err)
		}
	}
	if end != len(b) || len(types) != 4 {
		t.Errorf("objects %v up to %d of %d octets", types, end, len(b))
	}
	for n := range b {
		last := HeaderLen
		for o := range Objects(b[:n]) {
			last = o.Offset + tlvHeaderLen + len(o.Value)
		}
		if last > max(n, HeaderLen) {
			t.Errorf("%d octets: an object ends at %d", n, last)
		}
	}
	if _, err := ParseObject(ObjSID, []byte("short")); err == nil {
		t.Error("a Session-Identifier of 5 octets is taken")
	}
}
