package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/interqos/interqos/sls"
)

// opener opens the store that is kept at a place; the suite runs over each
// implementation of Store.
type opener func(t *testing.T, place string) Store

// suite is what every Store has to pass. interdomain-qosm §6
func suite(t *testing.T, open opener) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, opener)
	}{
		{"what is acknowledged is there after reopening", suiteReopen},
		{"writes take effect in order and are answered in order", suiteOrder},
		{"deleting what is not there is success", suiteDeleteNothing},
		{"a record and what it displaces change together", suiteReplace},
		{"a bad record is refused and nothing is stored", suiteBadRecord},
		{"a closed store answers", suiteClosed},
		{"close writes what is waiting", suiteCloseFlushes},
		{"what is handed in may be changed afterwards", suiteCopies},
		{"many at once", suiteConcurrent},
		{"the past of an SLS is kept, and bounded", suiteHistory},
		{"what is not for good is known until it is", suiteTentative},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

// wait calls a writing method and returns what it is answered.
func wait(write func(done func(error))) error {
	c := make(chan error, 1)
	write(func(err error) { c <- err })
	return <-c
}

func put(s Store, r Record) error { return wait(func(done func(error)) { s.Put(r, done) }) }

func remove(s Store, id sls.ID) error { return wait(func(done func(error)) { s.Delete(id, done) }) }

func agreement(id string) sls.SLS {
	s := sls.SLS{
		ID: id, Version: 3, Customer: 65001, Provider: 65002, ChangedBy: "somebody",
		Destinations: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")},
		Classes:      []sls.ClassSpec{{Class: sls.EF, CIR: 12_500_000}},
	}
	if err := s.Normalize(); err != nil {
		panic(err)
	}
	return s
}

func expect(t *testing.T, s Store, slss []string, records []Record) {
	t.Helper()
	gotSLSs, got, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, x := range gotSLSs {
		ids = append(ids, x.ID)
	}
	if !slices.Equal(ids, slss) {
		t.Errorf("SLSs %v, want %v", ids, slss)
	}
	byID := func(a, b Record) int { return bytes.Compare(a.ID[:], b.ID[:]) }
	slices.SortFunc(got, byID)
	slices.SortFunc(records, byID)
	if len(got) != len(records) {
		t.Fatalf("%d records, want %d", len(got), len(records))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], records[i]) {
			t.Errorf("record %d:\n got %+v\nwant %+v", i, got[i], records[i])
		}
	}
	if st := s.Stats(); st.SLSs != len(slss) || st.Records != len(records) || st.Waiting != 0 {
		t.Errorf("%+v; want %d SLSs, %d records, none waiting", st, len(slss), len(records))
	}
}

// "victims lose their resources at the preemptor's commit": what a crash finds is
// the one or the others. interdomain-qosm §6
func suiteReplace(t *testing.T, open opener) {
	place := t.TempDir()
	s := open(t, place)
	a, b, c := sample(1), sample(2), sample(3)
	bad := sample(4)
	bad.Bookings[0].Held = true
	gone := []sls.ID{a.ID, b.ID, {99}}
	if err := wait(func(done func(error)) { s.Replace(bad, gone, done) }); !errors.Is(err, ErrRecord) {
		t.Errorf("a bad record: %v", err)
	}
	for _, err := range []error{put(s, a), put(s, b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	expect(t, s, []string{}, []Record{a, b})
	if err := wait(func(done func(error)) {
		s.Replace(c, gone, done)
		clear(gone)
	}); err != nil {
		t.Fatal(err)
	}
	expect(t, s, []string{}, []Record{c})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place)
	expect(t, s, []string{}, []Record{c})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func suiteReopen(t *testing.T, open opener) {
	place := t.TempDir()
	s := open(t, place)
	a, b, c := sample(1), sample(2), sample(3)
	terms := agreement("gold")
	for _, err := range []error{
		wait(func(done func(error)) { s.PutSLS(terms, done) }),
		wait(func(done func(error)) { s.PutSLS(agreement("silver"), done) }),
		wait(func(done func(error)) { s.PutSLS(agreement("lead"), done) }),
		wait(func(done func(error)) { s.DeleteSLS("silver", Note{}, done) }),
		put(s, a), put(s, b), put(s, c),
		remove(s, b.ID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.Version, a.Session = 8, []byte("changed")
	if err := put(s, a); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		expect(t, s, []string{"gold", "lead"}, []Record{a, c})
		slss, _, _ := s.Load()
		got, _ := json.Marshal(slss[0])
		if want, _ := json.Marshal(terms); !bytes.Equal(got, want) {
			t.Errorf("SLS %s, want %s", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place)
	}
	// Records put back after a reopening do not collide with older ones.
	if err := cmp.Or(put(s, b), remove(s, a.ID)); err != nil {
		t.Fatal(err)
	}
	expect(t, s, []string{"gold", "lead"}, []Record{b, c})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func suiteOrder(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	var order []int
	all := make(chan struct{})
	const n = 300
	r := sample(1)
	for i := range n {
		done := func(err error) { // one goroutine calls these
			if err != nil {
				t.Error(err)
			}
			if order = append(order, i); len(order) == n {
				close(all)
			}
		}
		r.Version = uint32(i)
		switch i % 3 {
		case 0, 1:
			s.Put(r, done)
		case 2:
			s.Delete(r.ID, done)
		}
	}
	<-all
	if !slices.IsSorted(order) {
		t.Errorf("answered in the order %v", order)
	}
	expect(t, s, []string{}, nil) // the last one was a delete
	r.Version = n
	if err := put(s, r); err != nil {
		t.Fatal(err)
	}
	expect(t, s, []string{}, []Record{r})
}

func suiteDeleteNothing(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	if err := remove(s, sls.ID{9}); err != nil {
		t.Error(err)
	}
	if err := wait(func(done func(error)) { s.DeleteSLS("nothing", Note{}, done) }); err != nil {
		t.Error(err)
	}
	s.Delete(sls.ID{8}, nil) // nobody waits
	expect2 := sample(1)
	if err := put(s, expect2); err != nil {
		t.Fatal(err)
	}
	expect(t, s, []string{}, []Record{expect2})
}

func suiteBadRecord(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	bad := sample(1)
	bad.Bookings[0].Held = true
	if err := put(s, bad); !errors.Is(err, ErrRecord) {
		t.Errorf("a held booking: %v", err)
	}
	if err := wait(func(done func(error)) { s.PutSLS(sls.SLS{}, done) }); !errors.Is(err, ErrRecord) {
		t.Errorf("an SLS without an id: %v", err)
	}
	expect(t, s, []string{}, nil)
}

func suiteClosed(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	for _, err := range []error{
		put(s, sample(1)), remove(s, sls.ID{1}),
		wait(func(done func(error)) { s.PutSLS(agreement("x"), done) }),
		wait(func(done func(error)) { s.DeleteSLS("x", Note{}, done) }),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	if _, _, err := s.Load(); !errors.Is(err, ErrClosed) {
		t.Errorf("load: %v, want ErrClosed", err)
	}
}

func suiteCloseFlushes(t *testing.T, open opener) {
	place := t.TempDir()
	s := open(t, place)
	var want []Record
	for i := range byte(100) {
		want = append(want, sample(i))
		s.Put(want[i], nil)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place)
	defer s.Close()
	expect(t, s, []string{}, want)
}

func suiteCopies(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	r, want := sample(1), sample(1)
	err := wait(func(done func(error)) {
		s.Put(r, done)
		clear(r.Session)
		clear(r.Bookings)
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s, []string{}, []Record{want})
}

func suiteConcurrent(t *testing.T, open opener) {
	s := open(t, t.TempDir())
	defer s.Close()
	var group sync.WaitGroup
	var mu sync.Mutex
	var want []Record
	for g := range byte(8) {
		group.Go(func() {
			for i := range byte(20) {
				r := sample(g)
				r.ID[1] = i
				for k := range r.Bookings {
					r.Bookings[k].ID = r.ID
				}
				err := put(s, r)
				if i%2 == 0 {
					err = cmp.Or(err, remove(s, r.ID))
				} else {
					mu.Lock()
					want = append(want, r)
					mu.Unlock()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	expect(t, s, []string{}, want)
}
