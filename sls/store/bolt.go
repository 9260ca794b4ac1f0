package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/interqos/interqos/sls"
)

// schema is the version of the file's layout: buckets "meta" (the key "schema":
// 32 bits), "sls" (id: JSON), "records" (a number that only grows: a record).
// bucket "history" (id, 0, a number that only grows: JSON), "tentative" (id: JSON).
// Schema 1 had no history, schema 2 nothing tentative.
// Records are not kept under their IDs, because those are random: each write of
// a batch would then fall into another page, while the newest numbers share
// the last one.
const schema = 3

var (
	bucketMeta      = []byte("meta")
	bucketSLS       = []byte("sls")
	bucketRecords   = []byte("records")
	bucketHistory   = []byte("history")
	bucketTentative = []byte("tentative")
	keySchema       = []byte("schema")
)

// Options of a bbolt store. The zero value is good.
type Options struct {
	LockTimeout time.Duration // how long to wait for another process to close the file; zero: 2 s
	MaxWaiting  int           // writes that may wait before Put says ErrOverloaded; zero: 65,536
	MaxBatch    int           // writes in one transaction; zero: 4,096
}

// Bolt is a Store in one bbolt file, which one process can have open at a
// time. One goroutine writes: whatever came while a transaction was being made
// durable goes into the next one, and a single write on an idle store waits
// for nothing.
type Bolt struct {
	db   *bolt.DB
	opts Options

	mu      sync.Mutex
	wake    sync.Cond // the writer waits for queue or closing
	queue   []write
	writing int // operations of the batch that the writer has in hand
	closing bool
	broken  error // set once: ErrUnknownOutcome
	stats   Stats
	ended   chan struct{} // closed when the writer has ended

	// The writer's own.
	keys    map[sls.ID]uint64 // of every stored record
	slss    map[string]bool
	nextKey uint64
	fault   func() error // for tests: called before each commit
}

// write is one operation that waits.
type write struct {
	kind kind
	id   sls.ID
	gone []sls.ID // with putRecord
	sls  string
	data []byte // an SLS or a record
	more []byte // of putTentative: what to do about it; of the others on SLSs: a note
	done func(error)
}

type kind uint8

const (
	putRecord kind = iota
	deleteRecord
	putSLS // more: it is tentative
	confirmSLS
	deleteSLS
)

var _ Store = (*Bolt)(nil)

// Open opens the file at path, or makes it. It returns ErrLocked, ErrSchema,
// ErrCorrupt, or what the file system says.
func Open(path string, opts Options) (*Bolt, error) {
	if opts.LockTimeout == 0 {
		opts.LockTimeout = 2 * time.Second
	}
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 1 << 16
	}
	if opts.MaxBatch == 0 {
		opts.MaxBatch = 4096
	}
	db, err := openFile(path, opts.LockTimeout, false)
	if err != nil {
		return nil, err
	}
	b := &Bolt{
		db: db, opts: opts, ended: make(chan struct{}),
		keys: make(map[sls.ID]uint64), slss: make(map[string]bool),
	}
	b.wake.L = &b.mu
	if err := b.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	b.stats.SLSs, b.stats.Records = len(b.slss), len(b.keys)
	go b.run()
	return b, nil
}

// openFile opens a file that is whole. bbolt maps it and would end the process
// where a page is missing, when it writes already as it opens: so it is looked at
// first without writing.
func openFile(path string, timeout time.Duration, readOnly bool) (*bolt.DB, error) {
	if info, err := os.Stat(path); !readOnly && err == nil && info.Size() > 0 {
		db, err := openFile(path, timeout, true)
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	db, err := mapFile(path, timeout, readOnly)
	if err != nil || !readOnly {
		return db, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(path)
		if err == nil && info.Size() < tx.Size() {
			err = fmt.Errorf("%w: %s has %d octets; expected at least %d: its end is missing", ErrCorrupt, path, info.Size(), tx.Size())
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func mapFile(path string, timeout time.Duration, readOnly bool) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:  timeout,
		ReadOnly: readOnly,
		// The list of free pages is worked out when the file is opened instead
		// of being written with each transaction.
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		// Address space, not memory: growing within it never stops readers.
		InitialMmapSize: 256 << 20,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is still locked after %s; stop the program that uses it, or ask that program", ErrLocked, path, timeout)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	case err != nil:
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	return db, nil
}

// prepare makes the buckets of a new file, checks the schema of an old one, and
// reads which records there are.
func (b *Bolt) prepare() error {
	version, err := readSchema(b.db)
	if err != nil {
		return err
	}
	if version < schema {
		if err := b.migrate(version); err != nil {
			return err
		}
	}
	return b.db.View(func(tx *bolt.Tx) error {
		err := tx.Bucket(bucketSLS).ForEach(func(k, _ []byte) error {
			b.slss[string(k)] = true
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			if len(k) != 8 || len(v) < headerSize {
				return fmt.Errorf("%w: record with a key of %d and %d octets", ErrCorrupt, len(k), len(v))
			}
			key, id := binary.BigEndian.Uint64(k), sls.ID(v[:16])
			if other, twice := b.keys[id]; twice {
				return fmt.Errorf("%w: reservation %s is there as record %d and %d", ErrCorrupt, id, other, key)
			}
			b.keys[id] = key
			b.nextKey = key + 1
			return nil
		})
	})
}

// readSchema returns the schema of a file, 0 if the file is new.
func readSchema(db *bolt.DB) (version uint32, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return nil
		}
		v := meta.Get(keySchema)
		if len(v) != 4 || tx.Bucket(bucketSLS) == nil || tx.Bucket(bucketRecords) == nil {
			return fmt.Errorf("%w: it is not a file of this program", ErrCorrupt)
		}
		if version = binary.BigEndian.Uint32(v); version > schema {
			return fmt.Errorf("%w: found %d, expected at most %d; use a newer version of the program", ErrSchema, version, schema)
		}
		return nil
	})
	return version, err
}

// Put implements Store.
func (b *Bolt) Put(r Record, done func(error)) { b.Replace(r, nil, done) }

// Replace implements Store.
func (b *Bolt) Replace(r Record, gone []sls.ID, done func(error)) {
	if err := r.check(); err != nil {
		finish(done, err)
		return
	}
	data := r.Append(make([]byte, 0, 512+len(r.Session)+len(r.Domain)))
	b.enqueue(write{kind: putRecord, id: r.ID, gone: slices.Clone(gone), data: data, done: done})
}

// Delete implements Store.
func (b *Bolt) Delete(id sls.ID, done func(error)) {
	b.enqueue(write{kind: deleteRecord, id: id, done: done})
}

func finish(done func(error), err error) {
	if done != nil {
		done(err)
	}
}

// enqueue hands a write to the writer, or ends it at once.
func (b *Bolt) enqueue(w write) {
	b.mu.Lock()
	var err error
	adds := w.kind == putRecord || w.kind == putSLS
	switch {
	case b.closing:
		err = ErrClosed
	case b.broken != nil:
		err = b.broken
	case adds && len(b.queue)+b.writing >= b.opts.MaxWaiting:
		err = fmt.Errorf("%w: %d writes wait", ErrOverloaded, len(b.queue)+b.writing)
	default:
		b.queue = append(b.queue, w)
		if len(b.queue) == 1 {
			b.wake.Signal()
		}
	}
	if err != nil {
		b.stats.Failed++
	}
	b.mu.Unlock()
	if err != nil {
		finish(w.done, err)
	}
}

// run is the writer.
func (b *Bolt) run() {
	defer close(b.ended)
	var spare []write
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.closing {
			b.wake.Wait()
		}
		if len(b.queue) == 0 {
			b.mu.Unlock()
			return
		}
		taken := b.queue
		b.queue, b.writing = spare[:0], len(taken)
		b.mu.Unlock()
		for rest := taken; len(rest) > 0; {
			n := min(len(rest), b.opts.MaxBatch)
			b.batch(rest[:n])
			rest = rest[n:]
		}
		clear(taken)
		b.gather()
		spare = taken
		if cap(spare) > 4*b.opts.MaxBatch {
			spare = nil
		}
	}
}

// gather lets those who have just been answered bring their next writes, as long
// as more come each time that others are let run. It never waits: where nobody
// has anything to do it costs a microsecond.
func (b *Bolt) gather() {
	for waiting := -1; ; {
		runtime.Gosched()
		b.mu.Lock()
		n := len(b.queue)
		b.mu.Unlock()
		if n <= waiting || n >= b.opts.MaxBatch {
			return
		}
		waiting = n
	}
}

// batch makes some writes durable together and tells the waiters.
func (b *Bolt) batch(writes []write) {
	b.mu.Lock()
	err := b.broken
	b.mu.Unlock()
	if err == nil {
		err = b.commit(writes)
	}
	b.mu.Lock()
	if errors.Is(err, ErrUnknownOutcome) {
		b.broken = err
	}
	if err == nil {
		b.stats.Commits++
		b.stats.Writes += uint64(len(writes))
	} else {
		b.stats.Failed += uint64(len(writes))
	}
	b.stats.SLSs, b.stats.Records = len(b.slss), len(b.keys)
	b.writing -= len(writes)
	b.mu.Unlock()
	for i := range writes {
		finish(writes[i].done, err)
	}
}

// commit puts writes into one transaction. All or none of them take effect.
func (b *Bolt) commit(writes []write) error {
	tx, err := b.db.Begin(true)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	number := tx.ID()
	c := change{tx: tx, b: b, keys: make(map[sls.ID]uint64, len(writes)), slss: make(map[string]bool), next: b.nextKey}
	tx.Bucket(bucketRecords).FillPercent = 0.9 // new records go to the end
	for i := range writes {
		if err = c.apply(&writes[i]); err != nil {
			break
		}
	}
	if err == nil && !c.wrote {
		return tx.Rollback() // only deletions of what is not there: a full disk takes them, too
	}
	if err == nil && b.fault != nil {
		err = b.fault()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("store: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		if err := b.outcome(number, err); err != nil {
			return err
		}
	}
	c.adopt()
	return nil
}

// outcome finds out what became of a transaction whose commit failed: whether
// the page that makes it count was written. If so it counts once it is synced,
// and if it cannot be, nobody knows what a restart would find.
func (b *Bolt) outcome(number int, failure error) error {
	counts := false
	err := b.db.View(func(tx *bolt.Tx) error {
		counts = tx.ID() >= number
		return nil
	})
	switch {
	case err == nil && !counts:
		return fmt.Errorf("store: write: %w", failure)
	case err == nil:
		if err = b.db.Sync(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, errors.Join(failure, err))
}

// change is a transaction that is being put together, and what it will have
// done to the writer's index.
type change struct {
	tx   *bolt.Tx
	b    *Bolt
	keys map[sls.ID]uint64 // gone marks a deleted one
	slss map[string]bool
	next uint64

	wrote bool // anything at all
}

const gone = ^uint64(0)

func (c *change) apply(w *write) error {
	switch w.kind {
	case putSLS:
		return c.putSLS(w)
	case confirmSLS:
		return c.confirmSLS(w)
	case deleteSLS:
		return c.deleteSLS(w)
	}
	if w.kind == deleteRecord {
		return c.remove(w.id)
	}
	for _, id := range w.gone {
		if err := c.remove(id); err != nil {
			return err
		}
	}
	key, exists := c.key(w.id)
	c.wrote = true
	if !exists {
		key = c.next
		c.next++
		c.keys[w.id] = key
	}
	return c.tx.Bucket(bucketRecords).Put(recordKey(key), w.data)
}

// key returns the key of a record, if it is there.
func (c *change) key(id sls.ID) (uint64, bool) {
	key, ok := c.keys[id]
	if !ok {
		key, ok = c.b.keys[id]
	}
	return key, ok && key != gone
}

func (c *change) remove(id sls.ID) error {
	key, exists := c.key(id)
	if !exists {
		return nil
	}
	c.wrote = true
	c.keys[id] = gone
	return c.tx.Bucket(bucketRecords).Delete(recordKey(key))
}

func recordKey(key uint64) []byte { return binary.BigEndian.AppendUint64(nil, key) }

// adopt brings the index up to the transaction.
func (c *change) adopt() {
	c.b.nextKey = c.next
	for id, key := range c.keys {
		if key == gone {
			delete(c.b.keys, id)
		} else {
			c.b.keys[id] = key
		}
	}
	for id, there := range c.slss {
		if there {
			c.b.slss[id] = true
		} else {
			delete(c.b.slss, id)
		}
	}
}

// Load implements Store.
func (b *Bolt) Load() ([]sls.SLS, []Record, error) { return load(b.db) }

func load(db *bolt.DB) (slss []sls.SLS, records []Record, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketSLS) == nil || tx.Bucket(bucketRecords) == nil {
			return nil // a file that was made and not yet prepared
		}
		err := tx.Bucket(bucketSLS).ForEach(func(k, v []byte) error {
			var s sls.SLS
			if err := s.UnmarshalJSON(v); err != nil {
				return fmt.Errorf("%w: SLS %q: %w", ErrCorrupt, k, err)
			}
			slss = append(slss, s)
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketRecords).ForEach(func(k, v []byte) error {
			r, err := ParseRecord(v)
			if err != nil {
				return fmt.Errorf("record %x: %w", k, err)
			}
			records = append(records, r)
			return nil
		})
	})
	return slss, records, closed(err)
}

// closed calls bbolt's word for a closed file ours.
func closed(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Stats implements Store.
func (b *Bolt) Stats() Stats {
	b.mu.Lock()
	s := b.stats
	s.Waiting = len(b.queue) + b.writing
	b.mu.Unlock()
	if info, err := os.Stat(b.db.Path()); err == nil {
		s.FileSize = info.Size()
	}
	return s
}

// Close implements Store.
func (b *Bolt) Close() error {
	b.mu.Lock()
	already := b.closing
	b.closing = true
	b.wake.Signal()
	b.mu.Unlock()
	<-b.ended
	if already {
		return nil
	}
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// Backup writes a copy of the store, as of now, to w while the store goes on.
// The copy is a file that Open and Inspect take.
func (b *Bolt) Backup(w io.Writer) (octets int64, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		octets, err = tx.WriteTo(w)
		return err
	})
	return octets, closed(err)
}

// Contents is what a store's file has.
type Contents struct {
	Schema   uint32
	SLSs     []sls.SLS
	Records  []Record
	FileSize int64 // octets
}

// Inspect reads the file of a store that no process has open, and changes
// nothing. It waits half a second for another process to close it, and then
// returns ErrLocked.
func Inspect(path string) (Contents, error) {
	var c Contents
	db, err := openFile(path, 500*time.Millisecond, true)
	if err != nil {
		return c, err
	}
	c.Schema, err = readSchema(db)
	if err == nil {
		c.SLSs, c.Records, err = load(db)
	}
	if info, statErr := os.Stat(path); statErr == nil {
		c.FileSize = info.Size()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return Contents{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}
