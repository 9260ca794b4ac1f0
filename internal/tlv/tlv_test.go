package tlv

import (
	"bytes"
	"errors"
	"testing"
)

func TestReaderReadsInOrder(t *testing.T) {
	r := NewReader([]byte{1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 'a', 'b', 'c'})
	if got := r.U8(); got != 1 {
		t.Errorf("U8 = %d", got)
	}
	if got := r.U16(); got != 2 {
		t.Errorf("U16 = %d", got)
	}
	if got := r.U32(); got != 3 {
		t.Errorf("U32 = %d", got)
	}
	if got := r.U64(); got != 4 {
		t.Errorf("U64 = %d", got)
	}
	sub := r.Sub(2)
	if got := sub.Rest(); !bytes.Equal(got, []byte("ab")) {
		t.Errorf("Sub = %q", got)
	}
	if err := r.Close(); !errors.Is(err, ErrTrailing) {
		t.Errorf("Close with one octet left = %v, want ErrTrailing", err)
	}
}

func TestReaderKeepsFirstErrorAndReadsZerosAfter(t *testing.T) {
	r := NewReader([]byte{1, 2, 3})
	_ = r.U16()
	if got := r.U32(); got != 0 {
		t.Errorf("U32 past the end = %d, want 0", got)
	}
	first := r.Err()
	if !errors.Is(first, ErrTruncated) {
		t.Fatalf("error = %v, want ErrTruncated", first)
	}
	if got := r.U8(); got != 0 {
		t.Errorf("U8 after an error = %d, want 0", got)
	}
	r.Fail(errors.New("later"))
	if r.Err() != first {
		t.Errorf("error = %v, want the first one", r.Err())
	}
}

func TestSubCannotSeePastItsLength(t *testing.T) {
	r := NewReader([]byte{1, 2, 3, 4})
	sub := r.Sub(1)
	_ = sub.U16()
	if !errors.Is(sub.Err(), ErrTruncated) {
		t.Errorf("sub.Err() = %v, want ErrTruncated", sub.Err())
	}
	if r.Err() != nil || r.Len() != 3 {
		t.Errorf("parent: err %v, %d left; want no error and 3", r.Err(), r.Len())
	}
}

func TestAppend(t *testing.T) {
	b := AppendU16(nil, 1)
	b = AppendU32(b, 2)
	b = AppendU64(b, 3)
	b = AppendZeros(b, 2)
	PutU16(b, 0, 9)
	want := []byte{0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0}
	if !bytes.Equal(b, want) {
		t.Errorf("got % x, want % x", b, want)
	}
}
