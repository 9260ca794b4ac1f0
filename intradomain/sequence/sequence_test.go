package sequence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/intradomain/controllertest"
	"github.com/interqos/interqos/intradomain/pathdb"
)

func db(t testing.TB, capacity uint64) *pathdb.DB {
	t.Helper()
	d, err := pathdb.New(pathdb.Config{Nodes: []string{"a", "b"}, Links: []pathdb.LinkConfig{{A: "a", B: "b", Capacity: capacity}},
		Attachments: []pathdb.AttachmentConfig{{At: "a", Address: netip.MustParsePrefix("10.1.0.0/16")}, {At: "b", Address: netip.MustParsePrefix("10.3.0.0/16")}}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func request(n int, version uint32, cir uint64) intradomain.Request {
	r := intradomain.Request{Version: version, QoS: intradomain.QoS{CIR: cir, PIR: cir},
		Flow: wire.Flow{Source: netip.MustParsePrefix("10.1.0.1/32"), Destination: netip.MustParsePrefix("10.3.0.1/32")}}
	binary.BigEndian.PutUint64(r.ID[:], uint64(n)+1)
	return r
}

// scripted is a controller that fails where it is told to, and answers from
// another goroutine, later.
type scripted struct {
	intradomain.Controller
	failHold, failCommit bool
	// Holds of waits are answered when gate is closed.
	gate  chan struct{}
	waits intradomain.ID
}

var errScripted = errors.New("device failed")

func (s *scripted) Hold(r intradomain.Request, done func(error)) {
	fail := s.failHold
	go func() {
		if r.ID == s.waits {
			<-s.gate
		}
		if fail {
			done(errScripted)
			return
		}
		s.Controller.Hold(r, done)
	}()
}

func (s *scripted) Commit(id intradomain.ID, v uint32, cir uint64, done func(error)) {
	fail := s.failCommit
	go func() {
		if fail {
			done(errScripted)
			return
		}
		s.Controller.Commit(id, v, cir, done)
	}()
}

// interdomain-qosm §8: "Idempotent by reservation id and version, so that a repeat
// after a crash is harmless", and the rest of the contract.
func TestConformance(t *testing.T) {
	const capacity = 1_000_000
	for name, parts := range map[string]func(t *testing.T) []intradomain.Controller{
		"first is tightest": func(t *testing.T) []intradomain.Controller {
			return []intradomain.Controller{db(t, capacity), &scripted{Controller: db(t, 2*capacity)}}
		},
		"last is tightest": func(t *testing.T) []intradomain.Controller {
			return []intradomain.Controller{&scripted{Controller: db(t, 3*capacity)}, db(t, 2*capacity), db(t, capacity)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			controllertest.Run(t, controllertest.Fixture{
				New:      func(t *testing.T) intradomain.Controller { return New(parts(t)...) },
				Request:  func(n int) intradomain.Request { return request(n, 1, 0) },
				Capacity: capacity,
			})
		})
	}
}

type rig struct {
	*testing.T
	*Sequence
	parts []*scripted
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, parts: []*scripted{{Controller: db(t, 1000)}, {Controller: db(t, 1000)}, {Controller: db(t, 1000)}}}
	r.Sequence = New(r.parts[0], r.parts[1], r.parts[2])
	return r
}

// have asserts what each part has, as controllertest's lists.
func (r *rig) have(want string) {
	r.Helper()
	for i, p := range r.parts {
		got := ""
		for _, h := range controllertest.List(r, p.Controller) {
			got += fmt.Sprintf("%d:%d", h.Version, h.Request.QoS.CIR)
			if h.Committed {
				got += "*"
			}
			got += " "
		}
		if got != want {
			r.Errorf("part %d has %q, want %q", i, got, want)
		}
	}
}

func (r *rig) hold(q intradomain.Request) error {
	return controllertest.Answer(r, func(done func(error)) { r.Hold(q, done) })
}

func (r *rig) commit(q intradomain.Request) error {
	return controllertest.Answer(r, func(done func(error)) { r.Commit(q.ID, q.Version, 0, done) })
}

// Whichever part fails, a hold is in all of them or in none.
func TestHoldIsAllOrNone(t *testing.T) {
	for i := range 3 {
		r := newRig(t)
		r.parts[i].failHold = true
		if err := r.hold(request(1, 1, 100)); !errors.Is(err, errScripted) {
			t.Errorf("%v", err)
		}
		r.have("")
		r.parts[i].failHold = false
		if err := r.hold(request(1, 1, 100)); err != nil {
			t.Error(err)
		}
		r.have("1:100 ")
	}
}

// Whichever part fails, a commit is in all of them, or everything is as before
// the hold: also where there was an earlier version.
func TestCommitIsAllOrNone(t *testing.T) {
	for i := range 3 {
		r := newRig(t)
		first, second := request(1, 1, 100), request(1, 2, 300)
		if err := r.hold(first); err != nil {
			t.Fatal(err)
		}
		r.parts[i].failCommit = true
		if err := r.commit(first); !errors.Is(err, errScripted) {
			t.Errorf("%v", err)
		}
		r.have("")
		r.parts[i].failCommit = false
		for _, err := range []error{r.hold(first), r.commit(first), r.hold(second)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		r.parts[i].failCommit = true
		if err := r.commit(second); !errors.Is(err, errScripted) {
			t.Errorf("%v", err)
		}
		r.parts[i].failCommit = false
		r.have("1:100* ")
		third := request(1, 3, 200)
		for _, err := range []error{r.hold(third), r.commit(third), r.commit(third)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		r.have("3:200* ")
	}
}

// A repeat of a commit that fails somewhere takes nothing away.
func TestRepeatedCommitFails(t *testing.T) {
	r := newRig(t)
	q := request(1, 1, 100)
	for _, err := range []error{r.hold(q), r.commit(q)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.parts[0].failCommit = true
	if err := r.commit(q); !errors.Is(err, errScripted) {
		t.Errorf("%v", err)
	}
	r.have("1:100* ")
}

// Verbs for one reservation keep their order though parts answer late; a release
// that comes while a hold is on its way leaves nothing.
func TestOrderIsKept(t *testing.T) {
	r := newRig(t)
	q := request(1, 1, 100)
	r.parts[1].gate, r.parts[1].waits = make(chan struct{}), q.ID
	held, released := make(chan error, 1), make(chan error, 1)
	r.Hold(q, func(err error) { held <- err })
	r.Release(q.ID, func(err error) { released <- err })
	// Another reservation does not wait for this one.
	if err := r.hold(request(2, 1, 50)); err != nil {
		t.Error(err)
	}
	select {
	case <-released:
		t.Error("released before the hold has been answered")
	default:
	}
	close(r.parts[1].gate)
	if err := <-held; err != nil {
		t.Error(err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
	r.have("1:50 ")
	left := func() (queues, known int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.queues), len(r.known)
	}
	queues, known := left()
	for deadline := time.Now().Add(2 * time.Minute); queues != 0 && time.Now().Before(deadline); queues, known = left() {
		time.Sleep(time.Millisecond) // poll: a queue ends after its last answer
	}
	if queues != 0 || known != 1 {
		t.Errorf("%d queues, %d known", queues, known)
	}
}
