// Package bng is the intra-domain controller of a broadband network gateway: a
// reservation that ends at a subscriber is admitted against the subscriber's
// access, and its policer programmed in the gateway, in FPC's terms.
//
// A hold is admission in the driver's own table. A commit is answered when the
// gateway has answered. What is committed here is what the gateway is to have:
// when it comes back after a restart, or after its connection was lost, the
// driver reads what it has, removes what nobody has committed, and programs what
// is missing, before anything else. Only the first time, after a restart of this
// side, everything found counts as committed, and List shows it: whoever keeps
// the reservations releases what it does not know.
//
// The driver is the gateway's only client. All commits that wait go to it in one
// call.
package bng

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/interqos/interqos/bng"
	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/intradomain"
)

// Client is the connection to the gateway: package fpc/transport has one. Its
// methods are called from one goroutine, but for Close.
type Client interface {
	// Configure carries out transactions, one result each. The second error
	// wraps fpc.ErrEpoch if the gateway has restarted since the List of that
	// epoch; after any other what was done is not known.
	Configure(ctx context.Context, epoch uint64, txs []fpc.Transaction) ([]error, error)
	// List returns everything the gateway has, waiting for it as ctx lets it.
	List(ctx context.Context) (fpc.Snapshot, error)
	// Lost delivers a value when a connection has ended.
	Lost() <-chan struct{}
	Close() error
}

// ErrUnreachable is wrapped by the answer to a verb that the gateway did not
// answer in time.
var ErrUnreachable = errors.New("the gateway does not answer")

// ErrBusy is wrapped when too many verbs wait already.
var ErrBusy = errors.New("too many verbs wait for the gateway")

// ErrClosed answers verbs after Close.
var ErrClosed = errors.New("the driver is closed")

// Options are a driver's; the zero value has defaults.
type Options struct {
	// Timeout is how long a verb may wait for the gateway. Default 2 s.
	Timeout time.Duration
	// MaxBatch is the largest number of transactions in one call. Default 512.
	MaxBatch int
	// MaxWaiting is the largest number of verbs that wait. Default 65536.
	MaxWaiting int
	// Log, default none.
	Log *slog.Logger
	// Now, default time.Now.
	Now func() time.Time
}

// Driver is a controller of one gateway.
type Driver struct {
	client Client
	opt    Options
	ctx    context.Context
	cancel context.CancelFunc
	kick   chan struct{} // work has come
	ended  chan struct{}

	mu          sync.Mutex
	closed      bool
	book        *intradomain.Book
	subscribers *bng.Subscribers
	// matches says which reservation has a flow: two cannot have the same.
	matches map[fpc.Descriptor]intradomain.ID
	// adopted are commitments that were found in the gateway, which does not
	// tell their times.
	adopted map[intradomain.ID]bool
	// nextChange is when a booking's interval begins or ends next; zero: never.
	nextChange time.Time
	waiting    []*verb
	// generation counts the reasons to read the gateway anew; agreed is the
	// one as of which it is known to have what is committed.
	generation, agreed uint64

	// The gateway's contents as far as known.
	epoch     uint64
	everSeen  bool
	installed map[intradomain.ID]bng.Program
}

// verb is something that has to wait for the gateway.
type verb struct {
	kind    verbKind
	request intradomain.Request // hold
	id      intradomain.ID
	version uint32
	cir     uint64
	rate    uint64 // the answer to a query
	until   time.Time
	done    func(error)
}

type verbKind uint8

const (
	holdVerb verbKind = iota
	commitVerb
	// settleVerb makes the gateway have what is committed of a reservation.
	settleVerb
	queryVerb
	// listVerb waits for the gateway's contents to be read anew.
	listVerb
)

// New returns a driver that owns the client.
func New(client Client, opt Options) *Driver {
	if opt.Timeout <= 0 {
		opt.Timeout = 2 * time.Second
	}
	if opt.MaxBatch <= 0 {
		opt.MaxBatch = 512
	}
	if opt.MaxWaiting <= 0 {
		opt.MaxWaiting = 1 << 16
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	d := &Driver{client: client, opt: opt, kick: make(chan struct{}, 1), ended: make(chan struct{}),
		book: intradomain.NewBook(), subscribers: bng.NewSubscribers(),
		matches: map[fpc.Descriptor]intradomain.ID{}, adopted: map[intradomain.ID]bool{}, installed: map[intradomain.ID]bng.Program{}, generation: 1}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	go d.work()
	return d
}

// synced says that the gateway is reached and in line. d.mu is held.
func (d *Driver) synced() bool { return d.agreed == d.generation }

// enqueue lets a verb wait for the worker. d.mu is held; the answer to a verb
// that cannot wait is given by the caller.
func (d *Driver) enqueue(v *verb) error {
	switch {
	case d.closed:
		return ErrClosed
	case len(d.waiting) >= d.opt.MaxWaiting:
		return ErrBusy
	}
	v.until = d.opt.Now().Add(d.opt.Timeout)
	d.waiting = append(d.waiting, v)
	select {
	case d.kick <- struct{}{}:
	default:
	}
	return nil
}

// Hold admits a request. It is answered at once, unless the gateway's
// subscribers are not known yet or its connection is lost.
//
// interdomain-qosm §8
func (d *Driver) Hold(r intradomain.Request, done func(error)) {
	d.mu.Lock()
	var err error
	if d.synced() {
		err = d.hold(r)
	} else if err = d.enqueue(&verb{kind: holdVerb, request: r, id: r.ID, done: done}); err == nil {
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	done(err)
}

// hold is Hold under d.mu.
func (d *Driver) hold(r intradomain.Request) error {
	if has, err := d.book.Has(r.ID, r.Version); has || err != nil {
		d.learn(r, has)
		return err
	}
	if r.Egress.IsValid() {
		// It leaves this domain elsewhere: the gateway has no part in it.
		return d.book.Hold(r, nil)
	}
	access, err := d.subscribers.Find(r.Flow.Destination)
	if err != nil {
		return err
	}
	match, err := bng.Describe(r.Flow)
	if err == nil {
		_, err = bng.Policer(r.QoS)
	}
	if err != nil {
		return err
	}
	if owner, taken := d.matches[match]; taken && owner != r.ID {
		return &intradomain.Refusal{Where: access.Pool.Where, Reason: fmt.Sprintf("flow %v is reserved already", match)}
	}
	if err := d.book.Hold(r, []*intradomain.Pool{&access.Pool}); err != nil {
		return err
	}
	d.matches[match] = r.ID
	return nil
}

// learn takes the times of an adopted commitment from whoever kept them. d.mu is
// held.
func (d *Driver) learn(r intradomain.Request, has bool) {
	if c, ok := d.book.Committed(r.ID); !has || !ok || !d.adopted[r.ID] || c.Version != r.Version {
		return
	}
	delete(d.adopted, r.ID)
	var pools []*intradomain.Pool
	if access, err := d.subscribers.Find(r.Flow.Destination); err == nil {
		pools = append(pools, &access.Pool)
	}
	d.book.Adopt(r, pools)
	d.expect(&r)
}

// expect sees to it that a booking's next change is not missed. d.mu is held.
func (d *Driver) expect(r *intradomain.Request) {
	_, change := r.ActiveAt(d.opt.Now())
	if change.IsZero() || !d.nextChange.IsZero() && !change.Before(d.nextChange) {
		return
	}
	d.nextChange = change
	select {
	case d.kick <- struct{}{}: // whoever waits, waits for this time
	default:
	}
}

// turned puts bookings whose interval has begun or ended into the queue.
func (d *Driver) turned() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nextChange.IsZero() || d.opt.Now().Before(d.nextChange) {
		return
	}
	d.nextChange = time.Time{}
	for _, h := range d.book.List() {
		if !h.Committed || len(h.Request.Times) == 0 {
			continue
		}
		if _, needed := d.settle(h.ID); needed && d.enqueue(&verb{kind: settleVerb, id: h.ID}) != nil {
			d.generation++ // the next contact compares everything
		}
		d.expect(&h.Request)
	}
}

// Query tells what the subscriber's access has left. It is answered at once,
// unless the gateway's subscribers are not known yet.
func (d *Driver) Query(r intradomain.Request, done func(uint64, error)) {
	v := &verb{kind: queryVerb, request: r, id: r.ID}
	v.done = func(err error) { done(v.rate, err) }
	d.mu.Lock()
	var err error
	if d.everSeen {
		v.rate, err = d.query(&r)
	} else if err = d.enqueue(v); err == nil {
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	v.done(err)
}

func (d *Driver) query(r *intradomain.Request) (uint64, error) {
	if r.Egress.IsValid() {
		return r.QoS.CIR, nil
	}
	access, err := d.subscribers.Find(r.Flow.Destination)
	if err != nil {
		return 0, err
	}
	match, err := bng.Describe(r.Flow)
	if err == nil {
		_, err = bng.Policer(r.QoS)
	}
	if err != nil {
		return 0, err
	}
	if owner, taken := d.matches[match]; taken && owner != r.ID {
		return 0, &intradomain.Refusal{Where: access.Pool.Where, Reason: fmt.Sprintf("flow %v is reserved already", match)}
	}
	return min(d.book.Free(r, []*intradomain.Pool{&access.Pool}), r.QoS.CIR), nil
}

// forget drops a version's claim on its flow, unless the reservation still has
// another version with it.
func (d *Driver) forget(r intradomain.Request) {
	match, err := bng.Describe(r.Flow)
	if err != nil || d.matches[match] != r.ID {
		return
	}
	same := func(o intradomain.Request, ok bool) bool {
		m, err := bng.Describe(o.Flow)
		return ok && err == nil && m == match
	}
	if !same(d.book.Committed(r.ID)) && !same(d.book.Held(r.ID)) {
		delete(d.matches, match)
	}
}

// Commit programs a hold's policer, and answers when the gateway has.
func (d *Driver) Commit(id intradomain.ID, version uint32, cir uint64, done func(error)) {
	d.mu.Lock()
	_, already, err := d.book.Prepare(id, version, cir)
	if err == nil && !(already && d.synced()) {
		if err = d.enqueue(&verb{kind: commitVerb, id: id, version: version, cir: cir, done: done}); err == nil {
			d.mu.Unlock()
			return
		}
	}
	d.mu.Unlock()
	done(err)
}

// Drop gives up a hold.
func (d *Driver) Drop(id intradomain.ID, version uint32, done func(error)) {
	d.mu.Lock()
	if held, ok := d.book.Held(id); ok && held.Version == version {
		d.book.Drop(id, version)
		d.forget(held)
	}
	d.mu.Unlock()
	done(nil)
}

// Release gives up everything a reservation has, and answers when the gateway
// has. Also after an error nothing of it will come back: the gateway loses it as
// soon as it is reached.
func (d *Driver) Release(id intradomain.ID, done func(error)) {
	d.mu.Lock()
	held, wasHeld := d.book.Held(id)
	committed, wasCommitted := d.book.Committed(id)
	d.book.Release(id)
	delete(d.adopted, id)
	if wasHeld {
		d.forget(held)
	}
	if wasCommitted {
		d.forget(committed)
	}
	err := d.enqueue(&verb{kind: settleVerb, id: id, done: done})
	if errors.Is(err, ErrBusy) {
		d.generation++ // the next contact compares everything
	}
	d.mu.Unlock()
	if err != nil {
		done(err)
	}
}

// List returns everything held or committed, after comparing it with what the
// gateway really has.
func (d *Driver) List(done func([]intradomain.Held, error)) {
	d.mu.Lock()
	d.generation++
	err := d.enqueue(&verb{kind: listVerb, done: func(err error) {
		if err != nil {
			done(nil, err)
			return
		}
		d.mu.Lock()
		list := d.book.List()
		d.mu.Unlock()
		done(list, nil)
	}})
	d.mu.Unlock()
	if err != nil {
		done(nil, err)
	}
}

// Close ends the driver and its client. Verbs that wait are answered with
// ErrClosed; reservations stay.
func (d *Driver) Close() error {
	d.mu.Lock()
	already := d.closed
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	<-d.ended
	if already {
		return nil
	}
	return d.client.Close()
}

// Ready says whether the gateway has been reached and has what is committed.
func (d *Driver) Ready() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced()
}

var _ intradomain.Controller = (*Driver)(nil)
