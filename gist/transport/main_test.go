package transport

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/interqos/interqos/gist"
	"github.com/interqos/interqos/gist/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute // until a test gives up; none waits so long

// sink collects events.
type sink struct {
	mu      sync.Mutex
	events  []gist.Event
	changed chan struct{}
}

func newSink() *sink { return &sink{changed: make(chan struct{}, 1)} }

func (s *sink) handle(events []gist.Event) {
	s.mu.Lock()
	s.events = append(s.events, events...)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *sink) all() []gist.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]gist.Event(nil), s.events...)
}

// until waits until the events satisfy ok, and returns them.
func (s *sink) until(t testing.TB, what string, ok func([]gist.Event) bool) []gist.Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		if events := s.all(); ok(events) {
			return events
		}
		select {
		case <-s.changed:
		case <-deadline:
			t.Fatalf("waited for %s, have %+v", what, s.all())
		}
	}
}

func (s *sink) count(t testing.TB, n int) []gist.Event {
	t.Helper()
	return s.until(t, "events", func(e []gist.Event) bool { return len(e) >= n })
}

// find returns the first event of type E.
func find[E gist.Event](events []gist.Event) (e E, ok bool) {
	for _, ev := range events {
		if e, ok = ev.(E); ok {
			return e, true
		}
	}
	return e, false
}

func has[E gist.Event](events []gist.Event) bool {
	_, ok := find[E](events)
	return ok
}

// errorSink collects what OnError hears.
type errorSink chan error

func (s errorSink) hear(_ netip.AddrPort, err error) {
	select {
	case s <- err:
	default:
	}
}

func (s errorSink) next(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s:
		return err
	case <-time.After(patience):
		t.Fatal("waited for an error")
		return nil
	}
}

var loopback4 = netip.MustParseAddrPort("127.0.0.1:0")

// message returns a GIST Data message with about n octets of NSLP data.
func message(n int) []byte {
	m := wire.Message{
		Header: wire.Header{Type: wire.Data, NSLPID: 1, HopCount: 9, S: true},
		HasMRI: true, HasSID: true, SID: wire.SID{15: 1},
		MRI: wire.MRI{Flow: wire.Flow{
			Source:      netip.MustParsePrefix("192.0.2.1/32"),
			Destination: netip.MustParsePrefix("198.51.100.1/32"),
		}},
		NSLPData: make([]byte, n),
	}
	return m.Append(nil)
}
