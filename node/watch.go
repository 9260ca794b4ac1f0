package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// watchers are those who want to be told what happens to a session. Nobody watches
// most of the time: then an event costs one look at a number.
type watchers struct {
	count atomic.Int64
	mu    sync.Mutex
	of    map[wire.SID][]*watcher
}

// maxWatchers and watchQueue bound what watching costs.
const (
	maxWatchers = 256
	watchQueue  = 512 // events of one watcher that wait
)

// watcher is one of them. One that is too slow is told so, and loses no event before.
type watcher struct {
	events chan *api.WatchEvent
	late   bool
	last   *api.Reservation // as it was told
}

func (w *watchers) add(sid wire.SID, x *watcher) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count.Load() >= maxWatchers {
		return fmt.Errorf("%w: %d watch already", ErrBusy, maxWatchers)
	}
	if w.of == nil {
		w.of = make(map[wire.SID][]*watcher)
	}
	w.of[sid] = append(w.of[sid], x)
	w.count.Add(1)
	return nil
}

func (w *watchers) remove(sid wire.SID, x *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.of[sid]
	for i := range list {
		if list[i] == x {
			w.of[sid] = append(list[:i:i], list[i+1:]...)
			w.count.Add(-1)
			break
		}
	}
	if len(w.of[sid]) == 0 {
		delete(w.of, sid)
	}
}

// tell gives an event to those who watch a session. w.mu is held.
func (x *watcher) tell(ev *api.WatchEvent) {
	if x.late {
		return
	}
	select {
	case x.events <- ev:
	default:
		x.late = true
		close(x.events)
	}
}

// session is for what happens to one session; make is called if anybody watches it.
func (w *watchers) session(sid wire.SID, make func() *api.WatchEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.of[sid]
	if len(list) == 0 {
		return
	}
	if ev := make(); ev != nil {
		for _, x := range list {
			x.tell(ev)
		}
	}
}

// watched looks whether a reservation that somebody watches has changed. It is called
// by whoever has the shard.
func (s *shard) watched(now time.Time) {
	w := &s.node.watchers
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for sid, list := range w.of {
		if s.node.shardOf(sid) != s {
			continue
		}
		var r *api.Reservation
		if i, ok := s.qne.domain.Session(sid); ok {
			r = apiReservation(&i)
		}
		for _, x := range list {
			if r == nil && x.last == nil || r != nil && x.last != nil && proto.Equal(r, x.last) {
				continue
			}
			x.last = r
			x.tell(&api.WatchEvent{Time: timestamppb.New(now), Reservation: r, Gone: r == nil})
		}
	}
}

// told is what this node's application hears.
func (w *watchers) told(r *qosnslp.Result) {
	w.session(r.SID, func() *api.WatchEvent {
		i := apiInfo(r.Info)
		return &api.WatchEvent{Time: timestamppb.Now(), Info: i}
	})
}

// notified is a NOTIFY, of a neighbour or of this node.
func (w *watchers) notified(sid wire.SID, info nslpwire.InfoSpec) {
	w.session(sid, func() *api.WatchEvent {
		return &api.WatchEvent{Time: timestamppb.Now(), Notification: apiInfo(info)}
	})
}

// record keeps a message that was sent, and shows it to those who watch.
func (n *Node) record(e traceEntry) {
	n.trace.add(e)
	if n.watchers.count.Load() != 0 {
		shown := e
		n.watchers.sent(n.cfg.AS, &shown)
	}
}

// sent is a message on its way.
func (w *watchers) sent(as uint32, e *traceEntry) {
	sid, ok := e.sid()
	if !ok {
		return
	}
	w.session(sid, func() *api.WatchEvent {
		m := e.event(as, 0)
		if m == nil {
			return nil
		}
		return &api.WatchEvent{Time: timestamppb.New(e.at), Message: m}
	})
}

// Watch tells what happens to a reservation.
func (n *Node) Watch(ctx context.Context, sid wire.SID, tell func(*api.WatchEvent) error) error {
	s := n.shardOf(sid)
	x := &watcher{events: make(chan *api.WatchEvent, watchQueue)}
	known := false
	var err error
	if cerr := s.call(ctx, func() {
		if _, known = s.qne.domain.Session(sid); known {
			if err = n.watchers.add(sid, x); err == nil {
				s.watched(s.now()) // as it is
			}
		}
	}); cerr != nil {
		return cerr
	}
	switch {
	case !known:
		return fmt.Errorf("%w: no reservation %s in this AS; \"qnectl list\" shows what there is", ErrNotFound, sid)
	case err != nil:
		return err
	}
	defer n.watchers.remove(sid, x)
	for {
		select {
		case ev, ok := <-x.events:
			if !ok {
				return fmt.Errorf("%w: events of %s came faster than they were read", ErrBusy, sid)
			}
			if err := tell(ev); err != nil || ev.Gone {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.stopped:
			return errStopped
		}
	}
}
