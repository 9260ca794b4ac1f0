package node

import (
	"context"
	"iter"
	"sync"
	"time"
)

// sliceTime is about how long a walk keeps a shard from signaling at a time.
const sliceTime = 200 * time.Microsecond

// walk hands everything that one of a shard's machines lists to f, until f
// returns false. Both run in the shard, in slices of sliceTime with signaling
// between them, so that listing very many sessions holds none of them up. What
// comes or goes meanwhile may be missed or, gone and come again, met twice.
func walk[T any](ctx context.Context, s *shard, list iter.Seq[T], f func(T) bool) error {
	w := newWalker(list, f)
	defer w.end()
	for !w.done {
		if err := s.call(ctx, w.slice); err != nil {
			return err
		}
	}
	return nil
}

// walker is a walk between two slices. Its lock is for the end alone: when the
// caller gives up waiting, a slice may still come.
type walker[T any] struct {
	next func() (T, bool)
	stop func()
	f    func(T) bool

	mu   sync.Mutex
	done bool
}

func newWalker[T any](list iter.Seq[T], f func(T) bool) *walker[T] {
	w := &walker[T]{f: f}
	w.next, w.stop = iter.Pull(list)
	return w
}

func (w *walker[T]) slice() {
	const between = 16 // items between two looks at the clock
	w.mu.Lock()
	defer w.mu.Unlock()
	for end := time.Now().Add(sliceTime); !w.done && time.Now().Before(end); {
		for i := 0; i < between && !w.done; i++ {
			v, ok := w.next()
			w.done = !ok || !w.f(v)
		}
	}
}

func (w *walker[T]) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.stop()
}
