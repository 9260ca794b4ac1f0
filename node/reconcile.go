package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/intradomain"
)

// reconcile brings the intra-domain controller to what the store says: what is
// committed is held and committed again, which is idempotent, and what no
// stored reservation names is released (interdomain-qosm §6). Until that has
// been done once the node is not ready and refuses new requests.
func (n *Node) reconcile(ctx context.Context) {
	why := "the intra-domain controller is being reconciled"
	n.reconErr.Store(&why)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	n.defers(func() { cancel(); <-done })
	first := make(chan struct{})
	var once sync.Once
	go func() {
		defer close(done)
		defer once.Do(func() { close(first) })
		wait := 100 * time.Millisecond
		for {
			err := n.reconcileOnce(ctx)
			if err == nil {
				n.reconErr.Store(nil)
				return
			}
			why := "intra-domain controller: " + err.Error()
			n.reconErr.Store(&why)
			n.log.Warn("intra-domain controller not reconciled, trying again", "err", err, "in", wait)
			once.Do(func() { close(first) })
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, 10*time.Second)
		}
	}()
	<-first
}

func (n *Node) reconcileOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var want []intradomain.Request
	for _, s := range n.shards {
		err := walk(ctx, s, s.qne.domain.Sessions, func(i interdomain.Info) bool {
			if r, ok := s.qne.domain.DriverRequest(i.SID); ok {
				want = append(want, r)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	have, err := listDriver(ctx, n.driver)
	if err != nil {
		return err
	}
	versions := make(map[intradomain.ID]uint32)
	for _, h := range have {
		version, known, err := n.live(ctx, h.ID)
		if err != nil {
			return err
		}
		if known {
			versions[h.ID] = version
		}
	}
	plan := planRepair(want, have, versions)
	var errs []error
	for _, step := range plan {
		errs = append(errs, n.inShard(ctx, step))
	}
	return errors.Join(errs...)
}

// inShard takes one step of a repair. It is looked at again and begun in the
// session's own shard: what signaling does comes wholly before or after it.
func (n *Node) inShard(ctx context.Context, step repair) error {
	s := n.shardOf(wire.SID(step.id))
	done := make(chan error, 1)
	if err := s.call(ctx, func() { s.qne.repair(step, func(err error) { done <- err }) }); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err == nil && step.kind != holdAgain {
			n.log.Info("released what no stored reservation names", "session", wire.SID(step.id).String(), "version", step.version)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// repair is one step towards an intra-domain controller that has what the store
// says: no reservations that it does not name, no holds of changes that nobody
// commits any more, and everything else.
type repair struct {
	kind    repairKind
	id      intradomain.ID
	version uint32
}

type repairKind uint8

const (
	releaseAll repairKind = iota
	dropHold
	holdAgain
)

// planRepair compares what the controller ought to have with what it has. live
// has the versions of all sessions that there are now, those of attempts under
// way: since want was collected, signaling may have gone on.
func planRepair(want []intradomain.Request, have []intradomain.Held, live map[intradomain.ID]uint32) []repair {
	stored := make(map[intradomain.ID]uint32, len(want))
	for i := range want {
		stored[want[i].ID] = want[i].Version
	}
	var plan []repair
	gone := make(map[intradomain.ID]bool)
	for _, h := range have {
		if gone[h.ID] {
			continue
		}
		now, known := live[h.ID]
		old, named := stored[h.ID]
		switch {
		case known && h.Version == now, named && h.Version == old:
		case known && !h.Committed:
			plan = append(plan, repair{dropHold, h.ID, h.Version})
		default:
			// Also a version that was committed here just before the crash,
			// and in the store not any more.
			gone[h.ID] = true
			plan = append(plan, repair{releaseAll, h.ID, h.Version})
		}
	}
	for i := range want {
		plan = append(plan, repair{holdAgain, want[i].ID, want[i].Version})
	}
	return plan
}

// repair takes a step, unless signaling has made it unnecessary since it was
// planned. done is called in any goroutine.
func (q *qne) repair(step repair, done func(error)) {
	sid := wire.SID(step.id)
	now, known := q.version(sid)
	driver := q.fx.driver()
	r, stands := q.domain.DriverRequest(sid)
	switch {
	case step.kind == releaseAll && (!known || stands && r.Version == now && r.Version != step.version):
		driver.Release(step.id, done)
	case step.kind == dropHold && now != step.version:
		driver.Drop(step.id, step.version, done)
	case step.kind == holdAgain && stands && r.Version == step.version:
		driver.Hold(r, func(err error) {
			if err != nil {
				done(fmt.Errorf("session %s: %w", sid, err))
				return
			}
			driver.Commit(r.ID, r.Version, r.QoS.CIR, done)
		})
	default:
		done(nil)
	}
}

// live returns the version that a session has now, and whether there is one.
func (n *Node) live(ctx context.Context, id intradomain.ID) (version uint32, known bool, err error) {
	sid := wire.SID(id)
	s := n.shardOf(sid)
	err = s.call(ctx, func() { version, known = s.qne.version(sid) })
	return version, known, err
}
