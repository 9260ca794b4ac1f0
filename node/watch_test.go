package node

import (
	"testing"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// A NOTIFY is seen by who watches its session, and by nobody else. RFC 5974 §5.4.4
func TestWatchersAreNotified(t *testing.T) {
	s := &shard{node: &Node{}}
	msg := nslpwire.Message{Type: nslpwire.Notify, HasInfoSpec: true,
		InfoSpec: nslpwire.InfoSpec{Class: nslpwire.ClassTransientFailure, Code: nslpwire.ReservationPreempted}}
	sid, other := wire.SID{1}, wire.SID{2}
	s.notified(qosnslp.Notified{SID: sid, Message: &msg}) // nobody watches
	x, y := &watcher{events: make(chan *api.WatchEvent, 1)}, &watcher{events: make(chan *api.WatchEvent, 1)}
	for sid, w := range map[wire.SID]*watcher{sid: x, other: y} {
		if err := s.node.watchers.add(sid, w); err != nil {
			t.Fatal(err)
		}
	}
	s.notified(qosnslp.Notified{SID: sid, Message: &msg})
	if len(x.events) != 1 || len(y.events) != 0 {
		t.Fatalf("%d and %d events, want one of the session itself", len(x.events), len(y.events))
	}
	ev := <-x.events
	if n := ev.GetNotification(); n.GetClass() != 4 || n.GetCode() != 6 || n.GetText() == "" || ev.GetTime() == nil || ev.GetInfo() != nil || ev.GetGone() {
		t.Errorf("event %v", ev)
	}
}
