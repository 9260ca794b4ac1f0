package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/sls"
	"github.com/interqos/interqos/sls/store"
)

var errInjected = errors.New("injected failure")

// fault says what happens to one operation of the store or of the driver.
type fault uint8

const (
	noFault     fault = iota
	notDone           // it fails, and nothing has happened
	unknownDone       // it is done, and the answer is an error
)

// simStore is the AS's disk. Operations are made durable one after the other,
// each after a while, and then answered.
type simStore struct {
	as      *simAS
	records map[sls.ID][]byte
	queue   []storeOp
	running bool
	delay   func() time.Duration // nil: none
	fault   func(deletes bool, id sls.ID) fault
	hang    bool // answers nothing, does nothing
	puts    int
	life    int
}

type storeOp struct {
	p    *simProc
	id   sls.ID
	data []byte // nil: delete
	gone []sls.ID
	done func(error)
}

func (s *simStore) put(p *simProc, r store.Record, gone []sls.ID, done func(error)) {
	s.enqueue(storeOp{p: p, id: r.ID, data: r.Append(nil), gone: gone, done: done})
}

func (s *simStore) remove(p *simProc, id sls.ID, done func(error)) {
	s.enqueue(storeOp{p: p, id: id, done: done})
}

func (s *simStore) enqueue(op storeOp) {
	s.queue = append(s.queue, op)
	s.run()
}

// run begins the next operation. An answer may come before the call returns, as
// the interface allows, but not into a machine that is at work: qne posts.
func (s *simStore) run() {
	if s.running || len(s.queue) == 0 || s.hang {
		return
	}
	s.running = true
	var d time.Duration
	if s.delay != nil {
		d = s.delay()
	}
	life := s.life
	s.as.w.net.After(d, func() {
		if s.life != life {
			return
		}
		op := s.queue[0]
		s.queue = s.queue[1:]
		s.running = false
		f := noFault
		if s.fault != nil {
			f = s.fault(op.data == nil, op.id)
		}
		if f != notDone {
			s.apply(op)
		}
		var err error
		if f != noFault {
			err = fmt.Errorf("store: %w", errInjected)
		}
		s.as.w.logf("AS%d store: %s deletes %v: %v", s.as.cfg.AS, op.id.String()[28:], op.data == nil, err)
		op.done(err)
		s.run()
	})
}

func (s *simStore) apply(op storeOp) {
	if op.data == nil {
		delete(s.records, op.id)
		return
	}
	s.puts++
	for _, id := range op.gone {
		delete(s.records, id)
	}
	s.records[op.id] = op.data
}

// crash loses what was not answered; the disk may have got to some of it, in
// order.
func (s *simStore) crash() {
	n := 0
	if len(s.queue) > 0 && !s.hang {
		n = s.as.w.rng.IntN(len(s.queue) + 1)
	}
	for _, op := range s.queue[:n] {
		s.apply(op)
	}
	s.queue, s.running = nil, false
	s.life++
}

func (s *simStore) load() []store.Record {
	var all []store.Record
	for _, id := range sortedIDs(s.records) {
		r, err := store.ParseRecord(s.records[id])
		if err != nil {
			s.as.w.fatalf("AS%d: record %s: %v", s.as.cfg.AS, id, err)
		}
		all = append(all, r)
	}
	return all
}

// simDriver is the connection to the controller of the AS's network: operations
// arrive there in order, each after a while.
type simDriver struct {
	as      *simAS
	real    intradomain.Controller
	queue   []driverOp
	running bool
	delay   func() time.Duration
	fault   func(verb string, id intradomain.ID) fault
	life    int
}

type driverOp struct {
	verb string
	id   intradomain.ID
	do   func(done func(error))
	done func(error)
}

func (d *simDriver) enqueue(verb string, id intradomain.ID, do func(done func(error)), done func(error)) {
	d.queue = append(d.queue, driverOp{verb, id, do, done})
	d.run()
}

func (d *simDriver) run() {
	if d.running || len(d.queue) == 0 {
		return
	}
	d.running = true
	var wait time.Duration
	if d.delay != nil {
		wait = d.delay()
	}
	life := d.life
	d.as.w.net.After(wait, func() {
		if d.life != life {
			return
		}
		op := d.queue[0]
		d.queue = d.queue[1:]
		d.running = false
		f := noFault
		if d.fault != nil {
			f = d.fault(op.verb, op.id)
		}
		var err error
		if f != notDone {
			op.do(func(e error) { err = e })
		}
		var no *intradomain.Refusal
		if f != noFault && !errors.As(err, &no) {
			err = fmt.Errorf("driver: %w", errInjected)
		}
		d.as.w.logf("AS%d driver: %s of %x: %v", d.as.cfg.AS, op.verb, op.id[14:], err)
		op.done(err)
		d.run()
	})
}

// crash cuts the connection: some of what was sent arrives, in order.
func (d *simDriver) crash() {
	n := 0
	if len(d.queue) > 0 {
		n = d.as.w.rng.IntN(len(d.queue) + 1)
	}
	for _, op := range d.queue[:n] {
		op.do(func(error) {})
	}
	d.queue, d.running = nil, false
	d.life++
}

func (d *simDriver) Hold(r intradomain.Request, done func(error)) {
	d.enqueue("hold", r.ID, func(f func(error)) { d.real.Hold(r, f) }, done)
}

func (d *simDriver) Commit(id intradomain.ID, version uint32, cir uint64, done func(error)) {
	d.enqueue("commit", id, func(f func(error)) { d.real.Commit(id, version, cir, f) }, done)
}

func (d *simDriver) Drop(id intradomain.ID, version uint32, done func(error)) {
	d.enqueue("drop", id, func(f func(error)) { d.real.Drop(id, version, f) }, done)
}

func (d *simDriver) Release(id intradomain.ID, done func(error)) {
	d.enqueue("release", id, func(f func(error)) { d.real.Release(id, f) }, done)
}

func (d *simDriver) Query(r intradomain.Request, done func(uint64, error)) {
	var rate uint64
	d.enqueue("query", r.ID, func(f func(error)) {
		d.real.Query(r, func(has uint64, err error) { rate = has; f(err) })
	}, func(err error) { done(rate, err) })
}

func (d *simDriver) List(done func([]intradomain.Held, error)) {
	var list []intradomain.Held
	d.enqueue("list", intradomain.ID{}, func(f func(error)) {
		d.real.List(func(h []intradomain.Held, err error) { list = h; f(err) })
	}, func(err error) { done(list, err) })
}

func (d *simDriver) Close() error { return nil }

// have is what the network has, whatever the connection does.
func (d *simDriver) have() (list []intradomain.Held) {
	d.real.List(func(h []intradomain.Held, _ error) { list = h })
	return list
}

// watchedLedger is the ledger, with a look after each change at whether more is
// sold than there is.
type watchedLedger struct{ p *simProc }

func (w watchedLedger) Hold(now time.Time, r sls.Request) (sls.Grant, error) {
	defer w.p.as.checkSold()
	return w.p.l.Hold(now, r)
}

func (w watchedLedger) Ask(now time.Time, r sls.Request, limit int) (sls.Quote, error) {
	return w.p.l.Ask(now, r, limit)
}

func (w watchedLedger) Commit(now time.Time, id sls.ID, version uint32, rate uint64) ([]sls.Booking, []sls.ID, error) {
	defer w.p.as.checkSold()
	return w.p.l.Commit(now, id, version, rate)
}

func (w watchedLedger) Drop(id sls.ID, version uint32) bool {
	w.p.as.w.logf("AS%d ledger: drop %s version %d", w.p.as.cfg.AS, id.String()[28:], version)
	return w.p.l.Drop(id, version)
}

func (w watchedLedger) ReleaseLeg(id sls.ID, leg sls.Leg) bool {
	w.p.as.w.logf("AS%d ledger: release leg %d of %s", w.p.as.cfg.AS, leg, id.String()[28:])
	return w.p.l.ReleaseLeg(id, leg)
}

func (w watchedLedger) Release(id sls.ID) bool {
	w.p.as.w.logf("AS%d ledger: release %s", w.p.as.cfg.AS, id.String()[28:])
	return w.p.l.Release(id)
}
