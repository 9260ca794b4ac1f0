package bng

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/interqos/interqos/bng"
	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/intradomain"
)

const (
	// attempt bounds one try to reach the gateway, so that verbs are answered
	// near their time.
	attempt = 250 * time.Millisecond
	// pause is after a try that failed without having waited.
	pause = 50 * time.Millisecond
)

// work is the driver's goroutine: the only one that talks to the gateway.
func (d *Driver) work() {
	defer close(d.ended)
	for {
		d.turned()
		d.mu.Lock()
		synced, idle := d.synced(), len(d.waiting) == 0
		d.mu.Unlock()
		switch {
		case d.ctx.Err() != nil:
			d.fail(func(*verb) bool { return true }, ErrClosed)
			return
		case !synced:
			d.connect()
		case idle:
			d.rest()
		default:
			d.batch()
		}
	}
}

// rest waits for work, or until a booking's interval begins or ends.
func (d *Driver) rest() {
	d.mu.Lock()
	at := d.nextChange
	d.mu.Unlock()
	if at.IsZero() {
		d.wait(nil)
		return
	}
	timer := time.NewTimer(max(at.Sub(d.opt.Now()), time.Millisecond))
	defer timer.Stop()
	d.wait(timer.C)
}

// wait waits for work, a lost connection, the end, or a time.
func (d *Driver) wait(timer <-chan time.Time) {
	select {
	case <-d.kick:
	case <-d.client.Lost():
		d.lost(nil)
	case <-d.ctx.Done():
	case <-timer:
	}
}

// lost notes that the gateway may not have what it is to have.
func (d *Driver) lost(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.synced() {
		d.opt.Log.Warn("gateway lost", "error", err)
	}
	d.generation++
}

// connect tries to bring the gateway into line once.
func (d *Driver) connect() {
	ctx, cancel := context.WithTimeout(d.ctx, min(attempt, d.opt.Timeout))
	defer cancel()
	err := d.sync(ctx)
	if err == nil {
		return
	}
	d.opt.Log.Debug("gateway not reached", "error", err)
	now := d.opt.Now()
	d.fail(func(v *verb) bool { return !v.until.After(now) }, fmt.Errorf("%w: %w", ErrUnreachable, err))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	d.wait(timer.C)
}

// fail answers the waiting verbs that match.
func (d *Driver) fail(which func(*verb) bool, err error) {
	d.mu.Lock()
	var failed []*verb
	keep := d.waiting[:0]
	for _, v := range d.waiting {
		if which(v) {
			failed = append(failed, v)
		} else {
			keep = append(keep, v)
		}
	}
	clear(d.waiting[len(keep):])
	d.waiting = keep
	d.mu.Unlock()
	for _, v := range failed {
		v.answer(err)
	}
}

func (v *verb) answer(err error) {
	if v.done != nil {
		v.done(err)
	}
}

// sync reads what the gateway has and makes it what is committed. The first time
// it is the other way round.
func (d *Driver) sync(ctx context.Context) error {
	d.mu.Lock()
	generation := d.generation
	d.mu.Unlock()
	snap, err := d.client.List(ctx)
	if err != nil {
		return err
	}
	subscribers, programs, others := bng.Read(snap)
	d.mu.Lock()
	d.subscribers.Set(subscribers)
	d.epoch = snap.Epoch
	clear(d.installed)
	for _, p := range programs {
		d.installed[p.ID] = p
		if !d.everSeen {
			d.adopt(p)
		}
	}
	repair := d.difference(others)
	d.mu.Unlock()
	if err := d.repair(ctx, repair); err != nil {
		return err
	}
	d.mu.Lock()
	level := slog.LevelDebug // a look that found what it expected is no news
	if !d.everSeen || len(repair) > 0 {
		level = slog.LevelInfo
	}
	d.agreed = generation
	d.everSeen = true
	d.mu.Unlock()
	d.opt.Log.Log(ctx, level, "gateway in line", "dpn", snap.DPN, "subscribers", len(subscribers),
		"found", len(programs), "repaired", len(repair))
	return nil
}

// adopt enters what was found as committed.
func (d *Driver) adopt(p bng.Program) {
	r := p.Request()
	var pools []*intradomain.Pool
	if access, ok := d.subscribers.Get(p.Parent); ok {
		pools = append(pools, &access.Pool)
	}
	d.book.Adopt(r, pools)
	d.matches[p.Match] = p.ID
	d.adopted[p.ID] = true
}

// fix is one transaction that brings the gateway into line.
type fix struct {
	id  intradomain.ID
	tx  fpc.Transaction
	put *bng.Program // what is there afterwards; nil: nothing
}

// difference lists what has to be done at the gateway, what is to go first: it
// may be in the way of the rest.
func (d *Driver) difference(others []fpc.ID) []fix {
	var gone, there []fix
	for _, id := range others {
		gone = append(gone, fix{intradomain.ID(id), bng.Remove(intradomain.ID(id)), nil})
	}
	for id := range d.installed {
		if f, ok := d.settle(id); ok && f.put == nil {
			gone = append(gone, f)
		}
	}
	for _, h := range d.book.List() {
		if !h.Committed {
			continue
		}
		if f, ok := d.settle(h.ID); ok && f.put != nil {
			there = append(there, f)
		}
	}
	return append(gone, there...)
}

// want returns the program of a request; false: none, nothing is promised at the
// gateway.
func (d *Driver) want(r intradomain.Request) (bng.Program, bool, error) {
	if r.Egress.IsValid() || r.QoS.CIR == 0 {
		return bng.Program{}, false, nil
	}
	if active, _ := r.ActiveAt(d.opt.Now()); !active {
		return bng.Program{}, false, nil
	}
	match, err := bng.Describe(r.Flow)
	if err != nil {
		return bng.Program{}, false, err
	}
	access, err := d.subscribers.Find(r.Flow.Destination)
	if err != nil {
		return bng.Program{}, false, err
	}
	qos, err := bng.Policer(r.QoS)
	if err != nil {
		return bng.Program{}, false, err
	}
	return bng.Program{ID: r.ID, Version: r.Version, Parent: access.Port, Match: match, QoS: qos}, true, nil
}

// settle returns what makes the gateway have what is committed of a reservation;
// false: nothing to do.
func (d *Driver) settle(id intradomain.ID) (fix, bool) {
	have, is := d.installed[id]
	r, committed := d.book.Committed(id)
	if committed {
		p, any, err := d.want(r)
		if err != nil {
			d.opt.Log.Error("committed, and cannot be at the gateway", "id", fmt.Sprintf("%x", id), "error", err)
		}
		if any {
			return d.change(p)
		}
	}
	if !is {
		return fix{}, false
	}
	return fix{have.ID, bng.Remove(id), nil}, true
}

// change returns what makes the gateway have a program.
func (d *Driver) change(p bng.Program) (fix, bool) {
	have, is := d.installed[p.ID]
	switch {
	case !is:
		return fix{p.ID, p.Install(), &p}, true
	case have == p:
		return fix{}, false
	}
	return fix{p.ID, p.Replace(&have), &p}, true
}

// repair carries out fixes. One that the gateway refuses is logged, and tried
// again at the next sync.
func (d *Driver) repair(ctx context.Context, fixes []fix) error {
	for len(fixes) > 0 {
		n := min(len(fixes), d.opt.MaxBatch)
		results, err := d.configure(ctx, fixes[:n])
		if err != nil {
			return err
		}
		for i, err := range results {
			if err != nil {
				d.opt.Log.Error("gateway refuses repair", "id", fmt.Sprintf("%x", fixes[i].id), "error", err)
			}
		}
		fixes = fixes[n:]
	}
	return nil
}

// configure sends fixes and notes what is installed afterwards.
func (d *Driver) configure(ctx context.Context, fixes []fix) ([]error, error) {
	txs := make([]fpc.Transaction, len(fixes))
	for i := range fixes {
		txs[i] = fixes[i].tx
	}
	results, err := d.client.Configure(ctx, d.epoch, txs)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range fixes {
		switch f := &fixes[i]; {
		case results[i] != nil:
		case f.put == nil:
			delete(d.installed, f.id)
		default:
			d.installed[f.id] = *f.put
		}
	}
	return results, nil
}

// job is a verb with what it does at the gateway.
type job struct {
	*verb
	fix    fix
	needed bool  // a call is needed
	err    error // the answer, without a call
}

// batch carries out waiting verbs: as many as fit one call, each reservation's
// first verb only, for a second one depends on how the first goes.
func (d *Driver) batch() {
	var calls []job
	var fixes []fix
	for _, j := range d.take() {
		if !j.needed {
			d.finish(&j)
			continue
		}
		calls, fixes = append(calls, j), append(fixes, j.fix)
	}
	if len(calls) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.opt.Timeout)
	defer cancel()
	results, err := d.configure(ctx, fixes)
	if err != nil {
		d.again(calls, err)
		return
	}
	for i := range calls {
		calls[i].err = results[i]
		d.finish(&calls[i])
	}
}

// take removes verbs from the queue and plans them. If meanwhile the gateway has
// to be read anew, it takes none.
func (d *Driver) take() []job {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.synced() {
		return nil
	}
	jobs := make([]job, 0, min(len(d.waiting), d.opt.MaxBatch))
	seen := make(map[intradomain.ID]bool, cap(jobs))
	for _, v := range d.waiting {
		if len(jobs) == d.opt.MaxBatch || seen[v.id] && v.kind != listVerb {
			break
		}
		seen[v.id] = true
		jobs = append(jobs, d.plan(v))
	}
	n := copy(d.waiting, d.waiting[len(jobs):])
	clear(d.waiting[n:])
	d.waiting = d.waiting[:n]
	return jobs
}

// plan says what a verb needs of the gateway.
func (d *Driver) plan(v *verb) job {
	j := job{verb: v}
	switch v.kind {
	case holdVerb:
		j.err = d.hold(v.request)
	case queryVerb:
		v.rate, j.err = d.query(&v.request)
	case settleVerb:
		j.fix, j.needed = d.settle(v.id)
	case commitVerb:
		r, already, err := d.book.Prepare(v.id, v.version, v.cir)
		switch {
		case err != nil:
			j.err = err
		case already:
			j.fix, j.needed = d.settle(v.id)
		default:
			j.fix, j.needed, j.err = d.program(r)
		}
	}
	return j
}

// program returns what makes the gateway have a request.
func (d *Driver) program(r intradomain.Request) (f fix, needed bool, err error) {
	p, any, err := d.want(r)
	if err != nil {
		return fix{}, false, err
	}
	if any {
		f, needed = d.change(p)
		return f, needed, nil
	}
	if _, is := d.installed[r.ID]; is {
		return fix{r.ID, bng.Remove(r.ID), nil}, true, nil
	}
	return fix{}, false, nil
}

// finish books what the gateway has done, and answers.
func (d *Driver) finish(j *job) {
	d.mu.Lock()
	err := j.err
	if j.kind == commitVerb && err == nil {
		err = d.committed(j.verb)
	}
	if errors.Is(err, fpc.ErrExists) || errors.Is(err, fpc.ErrNotFound) || errors.Is(err, fpc.ErrStale) {
		d.generation++ // it has not what it was thought to have
	}
	d.mu.Unlock()
	j.answer(err)
}

// committed books a commit that the gateway has carried out. d.mu is held.
func (d *Driver) committed(v *verb) error {
	was, _ := d.book.Committed(v.id)
	err := d.book.Commit(v.id, v.version, v.cir)
	if err == nil {
		delete(d.adopted, v.id)
		d.forget(was)
		if r, ok := d.book.Committed(v.id); ok {
			d.expect(&r)
		}
		return nil
	}
	// Dropped or released while the gateway was busy: it has what nobody wants
	// any more.
	if d.enqueue(&verb{kind: settleVerb, id: v.id}) != nil {
		d.generation++
	}
	return err
}

// again puts verbs back whose call had no result, but for those whose time is
// up. Whether the gateway did what they want will be seen.
func (d *Driver) again(jobs []job, err error) {
	d.lost(err)
	now := d.opt.Now()
	var back, late []*verb
	for i := range jobs {
		if v := jobs[i].verb; v.until.After(now) {
			back = append(back, v)
		} else {
			late = append(late, v)
		}
	}
	d.mu.Lock()
	d.waiting = append(back, d.waiting...)
	d.mu.Unlock()
	for _, v := range late {
		v.answer(fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
}
