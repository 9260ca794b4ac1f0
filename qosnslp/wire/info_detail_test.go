package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// "An error message may contain more than one Object Value Info object"; "If Offset
// is bigger than "0", the erroneous object from offset … to the end of the object
// is included." RFC 5974 §5.1.3.6
func TestObjectValueInfo(t *testing.T) {
	want := []ObjectValue{
		{Object: AppendObject(nil, Mandatory, TypeRII, []byte{1, 2, 3, 4, 5, 6, 7, 8})},
		{Offset: 8, Object: []byte{5, 6, 7, 8}},
	}
	i := InfoSpec{Class: ClassProtocolError, Code: WrongObjectLength}
	for k := range want {
		i.Info = want[k].Append(i.Info)
	}
	golden := []byte{0, 3, 0, 0, 0, 1, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 8, 5, 6, 7, 8}
	if !bytes.Equal(i.Info, golden) {
		t.Fatalf("% x", i.Info)
	}
	if got, err := i.ObjectValues(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range golden {
		cut := InfoSpec{Class: i.Class, Code: i.Code, Info: golden[:n]}
		if got, err := cut.ObjectValues(); (err == nil) != (n == 0 || n == 16) || len(got) != n/16 {
			t.Errorf("%d octets: %+v, %v", n, got, err)
		}
	}
	// What cannot be written is left out.
	for _, bad := range []ObjectValue{{}, {Object: []byte{1}}, {Object: make([]byte, 4*4096)}, {Offset: 1 << 16, Object: make([]byte, 4)}} {
		if got := bad.Append(nil); got != nil {
			t.Errorf("%d octets at %d became % x", len(bad.Object), bad.Offset, got[:4])
		}
	}
}

// "This object provides information about the type of object that caused the
// error." RFC 5974 §5.1.3.6
func TestObjectTypeInfo(t *testing.T) {
	i := InfoSpec{Class: ClassProtocolError, Code: UnknownObject, Info: ObjectType(2040).AppendInfo(nil)}
	if got, ok := i.ObjectType(); !ok || got != 2040 || !bytes.Equal(i.Info, []byte{0x07, 0xf8, 0, 0}) {
		t.Errorf("%v %v, % x", got, ok, i.Info)
	}
	for _, none := range []InfoSpec{{Class: ClassProtocolError, Code: UnknownObject}, {Class: ClassTransientFailure, Code: UnknownObject, Info: i.Info},
		{Class: ClassProtocolError, Code: WrongDirection, Info: i.Info}} {
		if got, ok := none.ObjectType(); ok {
			t.Errorf("%v: %v", none, got)
		}
		if got, err := none.ObjectValues(); got != nil || err != nil {
			t.Errorf("%v: %v, %v", none, got, err)
		}
	}
}

// Every code of the catalogue has its words, and no two the same.
func TestCatalogue(t *testing.T) {
	seen := make(map[string]bool)
	for _, i := range Catalogue() {
		text := CodeText(i.Class, i.Code)
		if seen[text] || strings.Contains(text, "code 0x") {
			t.Errorf("%d/0x%02x: %q", i.Class, i.Code, text)
		}
		seen[text] = true
	}
	if len(seen) != 6+4+15+8+2+4 {
		t.Errorf("%d codes", len(seen))
	}
}

func FuzzObjectValues(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 0, 1, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 8, 5, 6, 7, 8})
	f.Add([]byte{0xf0, 1, 0, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		i := InfoSpec{Class: ClassProtocolError, Code: ErroneousValue, Info: b}
		list, err := i.ObjectValues()
		var out []byte
		for k := range list {
			out = list[k].Append(out)
		}
		again := InfoSpec{Class: i.Class, Code: i.Code, Info: out}
		got, err2 := again.ObjectValues()
		if err2 != nil || !reflect.DeepEqual(got, list) && len(list) > 0 || err == nil && len(out) != len(b) {
			t.Fatalf("% x: %+v, %v; again %+v, %v", b, list, err, got, err2)
		}
	})
}
