package intradomain

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func want(t *testing.T, p *Pool, step string, booked uint64) {
	t.Helper()
	if got := p.Peak(); got != booked {
		t.Errorf("%s: %d are booked, want %d", step, got, booked)
	}
}

func asks(id byte, rate uint64, displaces ...byte) Request {
	r := Request{ID: ID{id}, QoS: QoS{CIR: rate}}
	for _, d := range displaces {
		r.Displaces = append(r.Displaces, ID{d})
	}
	return r
}

// "victims lose their resources at the preemptor's commit, not at its hold".
// interdomain-qosm §6
func TestDisplace(t *testing.T) {
	b, p := NewBook(), &Pool{Where: "link", Capacity: 10}
	pools := []*Pool{p}
	hold := func(r Request) error { return b.Hold(r, pools) }
	stand := func(id byte, rate uint64) {
		t.Helper()
		if err := errors.Join(hold(asks(id, rate)), b.Commit(ID{id}, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	stand(1, 6)
	stand(2, 3)
	if hold(asks(9, 7)) == nil || hold(asks(9, 8, 1)) == nil {
		t.Error("there was room for what does not fit")
	}
	if err := hold(asks(9, 7, 1, 1, 77)); err != nil {
		t.Fatal(err)
	}
	want(t, p, "held", 10)
	if hold(asks(8, 1)) == nil || hold(asks(8, 4, 1)) == nil {
		t.Error("what one hold counts on was given to another")
	}
	b.Drop(ID{9}, 0)
	want(t, p, "dropped", 9)
	if err := hold(asks(9, 7, 1)); err != nil {
		t.Fatal(err)
	}
	b.Release(ID{1}) // before its time: nobody else gets it
	want(t, p, "the other went", 10)
	if err := b.Commit(ID{9}, 0, 0); err != nil {
		t.Fatal(err)
	}
	want(t, p, "committed", 10)
	// As it is: committed, and then the others are released.
	if err := hold(asks(7, 9, 9, 2)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ID{7}, 0, 0); err != nil {
		t.Fatal(err)
	}
	b.Release(ID{9})
	b.Release(ID{2})
	want(t, p, "all displaced", 9)
	b.Release(ID{7})
	want(t, p, "released", 0)
	if len(b.displacing) != 0 {
		t.Errorf("%v", b.displacing)
	}
}

// At no time is more booked than there is, and what is booked is what is committed
// and what holds need beyond what they count on.
func TestDisplaceNeverOverbooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, p := NewBook(), &Pool{Where: "link", Capacity: 12}
		versions := map[ID]uint32{}
		id := func() ID { return ID{byte(rapid.IntRange(1, 5).Draw(t, "id"))} }
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				r := Request{ID: id(), QoS: QoS{CIR: rapid.Uint64Range(1, 12).Draw(t, "rate")}}
				versions[r.ID]++
				r.Version = versions[r.ID]
				for range rapid.IntRange(0, 3).Draw(t, "displaces") {
					r.Displaces = append(r.Displaces, id())
				}
				var no *Refusal
				if err := b.Hold(r, []*Pool{p}); err != nil && !errors.As(err, &no) {
					t.Fatal(err)
				}
			},
			"commit": func(t *rapid.T) {
				x := id()
				h := b.entries[x].held
				if h == nil {
					return
				}
				var gone []ID
				for v, by := range b.displacing {
					if by == x {
						gone = append(gone, v)
					}
				}
				if err := b.Commit(x, h.request.Version, rapid.Uint64Range(0, 12).Draw(t, "rate")); err != nil {
					t.Fatal(err)
				}
				for _, v := range gone {
					b.Release(v)
				}
			},
			"drop":    func(t *rapid.T) { x := id(); b.Drop(x, versions[x]) },
			"release": func(t *rapid.T) { b.Release(id()) },
			"": func(t *rapid.T) {
				sum := uint64(0)
				for x, e := range b.entries {
					covered := uint64(0)
					if e.committed != nil {
						sum += e.committed.request.QoS.CIR
						covered = e.committed.request.QoS.CIR
					}
					if e.held == nil {
						continue
					}
					for v, by := range b.displacing {
						if by == x {
							covered += b.entries[v].committed.request.QoS.CIR
						}
					}
					sum += e.held.request.QoS.CIR - min(covered, e.held.request.QoS.CIR)
				}
				if got := p.Peak(); got != sum || got > p.Capacity {
					t.Fatalf("%d are booked, want %d, of %d", got, sum, p.Capacity)
				}
			},
		})
	})
}
