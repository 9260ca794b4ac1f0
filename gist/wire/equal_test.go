package wire

import (
	"net/netip"
	"reflect"
	"testing"
)

// Equal looks at every field: whoever adds one to MRI or Flow adds it there.
func TestMRIEqualSeesEveryField(t *testing.T) {
	var seen int
	var walk func(path string, v reflect.Value)
	base := headed()[0].MRI
	same := base
	if !base.Equal(&same) {
		t.Fatal("not equal to its copy")
	}
	other := map[reflect.Type]any{
		reflect.TypeFor[netip.Addr]():   netip.MustParseAddr("2001:db8::77"),
		reflect.TypeFor[netip.Prefix](): netip.MustParsePrefix("2001:db8:77::/48"),
	}
	changed := base
	walk = func(path string, v reflect.Value) {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		switch {
		case other[v.Type()] != nil:
			v.Set(reflect.ValueOf(other[v.Type()]))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case v.CanUint():
			v.SetUint(v.Uint() + 1)
		default:
			t.Fatalf("%s: a %v, which this test does not know", path, v.Type())
		}
		seen++
		if changed.Equal(&base) || base.Equal(&changed) {
			t.Errorf("%s differs, and Equal says no", path)
		}
		v.Set(old)
	}
	walk("MRI", reflect.ValueOf(&changed).Elem())
	if seen < 19 {
		t.Errorf("only %d fields", seen)
	}
}
