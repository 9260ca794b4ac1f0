package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/interqos/interqos/sls"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_CHILD"); path != "" {
		child(path, os.Getenv("STORE_TEST_LIMIT"))
		return
	}
	if path := os.Getenv("STORE_TEST_DESK"); path != "" {
		deskChild(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func openBolt(t testing.TB, path string) *Bolt {
	t.Helper()
	b, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBolt(t *testing.T) {
	suite(t, func(t *testing.T, place string) Store { return openBolt(t, filepath.Join(place, "store.db")) })
}

// "many answers to one disk write": everything that came while a transaction
// was being made durable goes into the next one, and an error reaches each of
// those that waited for it. interdomain-qosm §6
func TestGroupCommit(t *testing.T) {
	b := openBolt(t, filepath.Join(t.TempDir(), "store.db"))
	defer b.Close()
	full := errors.New("no space")
	started, goOn := make(chan struct{}, 1), make(chan error)
	b.fault = func() error { started <- struct{}{}; return <-goOn }
	answers := make(chan error, 100)
	answer := func(err error) { answers <- err }
	b.Put(sample(0), answer)
	<-started // the writer is busy with the first
	for i := range byte(49) {
		b.Put(sample(i+1), answer)
	}
	if n := b.Stats().Waiting; n != 50 {
		t.Errorf("%d wait, want 50", n)
	}
	goOn <- nil
	if err := <-answers; err != nil {
		t.Error(err)
	}
	<-started
	b.Put(sample(50), answer)
	goOn <- full // the transaction of 49 fails
	for range 49 {
		if err := <-answers; !errors.Is(err, full) {
			t.Errorf("got %v, want %v", err, full)
		}
	}
	<-started
	goOn <- nil // and the store goes on
	if err := <-answers; err != nil {
		t.Error(err)
	}
	if s := b.Stats(); s.Commits != 2 || s.Writes != 2 || s.Failed != 49 {
		t.Errorf("%+v; want 2 commits of 2 writes, 49 failed", s)
	}
	expect(t, b, []string{}, []Record{sample(0), sample(50)})

	// What failed can be tried again, and a delete that failed did not happen.
	go func() { <-started; goOn <- full; <-started; goOn <- nil }()
	if err := remove(b, sample(0).ID); !errors.Is(err, full) {
		t.Error(err)
	}
	if err := put(b, sample(1)); err != nil {
		t.Error(err)
	}
	expect(t, b, []string{}, []Record{sample(0), sample(1), sample(50)})

	// What a full disk did not take can be deleted: there is nothing to write.
	b.fault = func() error { return full }
	if err := put(b, sample(2)); !errors.Is(err, full) {
		t.Error(err)
	}
	if err := remove(b, sample(2).ID); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	b.fault = nil
}

// When a commit fails at its very end, what became of it is looked up: it
// counts and is made durable, it does not, or nobody can know; then the store
// takes no more writes.
func TestOutcome(t *testing.T) {
	b := openBolt(t, filepath.Join(t.TempDir(), "store.db"))
	failure := errors.New("input/output error")
	var newest int
	if err := b.db.View(func(tx *bolt.Tx) error { newest = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.outcome(newest, failure); err != nil {
		t.Errorf("a transaction that counts: %v", err)
	}
	if err := b.outcome(newest+1, failure); !errors.Is(err, failure) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("a transaction that does not count: %v", err)
	}
	b.fault = func() error { return fmt.Errorf("%w: %w", ErrUnknownOutcome, failure) }
	if err := put(b, sample(1)); !errors.Is(err, ErrUnknownOutcome) {
		t.Error(err)
	}
	if err := put(b, sample(2)); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("a write after an unknown outcome: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.outcome(newest, failure); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, failure) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// A full queue says so; a delete finds room always.
func TestOverload(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "store.db"), Options{MaxWaiting: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	started, goOn := make(chan struct{}, 1), make(chan error)
	b.fault = func() error { started <- struct{}{}; return <-goOn }
	answers := make(chan error, 10)
	answer := func(err error) { answers <- err }
	b.Put(sample(0), answer)
	<-started
	b.Put(sample(1), answer)
	b.Put(sample(2), answer)
	b.Put(sample(3), answer)
	if err := <-answers; !errors.Is(err, ErrOverloaded) {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	b.Delete(sample(0).ID, answer)
	goOn <- nil
	<-started
	goOn <- nil
	for range 4 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	expect(t, b, []string{}, []Record{sample(1), sample(2)})
}

// A file of a newer schema, of something else, or in use, is refused with
// words that help.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	if err := openBolt(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, newer, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySchema, binary.BigEndian.AppendUint32(nil, schema+1))
	})
	foreign := filepath.Join(dir, "foreign.db")
	edit(t, foreign, func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(bucketMeta)
		return err
	})
	noise := filepath.Join(dir, "noise.db")
	if err := os.WriteFile(noise, bytes.Repeat([]byte("noise"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := filepath.Join(dir, "used.db")
	defer openBolt(t, inUse).Close()
	for _, test := range []struct {
		path string
		want error
		text string
	}{
		{newer, ErrSchema, "found 4, expected at most 3"},
		{foreign, ErrCorrupt, "not a file of this program"},
		{noise, ErrCorrupt, "noise.db"},
		{inUse, ErrLocked, "still locked after"},
		{filepath.Join(dir, "none", "x.db"), os.ErrNotExist, "x.db"},
	} {
		b, err := Open(test.path, Options{LockTimeout: time.Millisecond})
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.text) {
			t.Errorf("open %s: %v, %v; want %v with %q", test.path, b, err, test.want, test.text)
		}
		_, err = Inspect(test.path)
		if !errors.Is(err, test.want) {
			t.Errorf("inspect %s: %v; want %v", test.path, err, test.want)
		}
	}
}

func edit(t *testing.T, path string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A record that was damaged in the file is told, not loaded.
func TestLoadCorrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	b := openBolt(t, path)
	if err := put(b, sample(1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(tx *bolt.Tx) error {
		r := sample(1)
		data := r.Append(nil)
		data[40] ^= 1
		return tx.Bucket(bucketRecords).Put(recordKey(0), data)
	})
	b = openBolt(t, path)
	defer b.Close()
	if _, _, err := b.Load(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// Inspect and Backup show what is stored.
func TestInspectAndBackup(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	b := openBolt(t, path)
	for i := range byte(5) {
		if err := put(b, sample(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait(func(done func(error)) { b.PutSLS(agreement("gold"), done) }); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	n, err := b.Backup(&copied)
	if err != nil || n != int64(copied.Len()) {
		t.Fatalf("backup of %d, %d octets: %v", n, copied.Len(), err)
	}
	if err := remove(b, sample(4).ID); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Backup(&copied); !errors.Is(err, ErrClosed) {
		t.Errorf("backup of a closed store: %v", err)
	}
	backup := filepath.Join(dir, "backup.db")
	if err := os.WriteFile(backup, copied.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, records := range map[string]int{path: 4, backup: 5} {
		c, err := Inspect(file)
		if err != nil || len(c.Records) != records || len(c.SLSs) != 1 || c.Schema != schema || c.FileSize == 0 {
			t.Errorf("%s: %+v, %v; want %d records, 1 SLS", file, c, err, records)
		}
	}
}

// child is another process: it puts records and says on standard output which
// are acknowledged, until it is killed; or, with a limit on the size of files,
// until a write fails, after which it deletes what it has and goes on.
func child(path, limit string) {
	b, err := Open(path, Options{})
	if err != nil {
		fmt.Println("open", err)
		return
	}
	if limit != "" {
		limitedChild(b, limit)
		return
	}
	out := bufio.NewWriter(os.Stdout)
	acks := make(chan uint32, 1024)
	for g := range 16 {
		go func() {
			for i := uint32(g); ; i += 16 {
				if err := put(b, numbered(i)); err == nil {
					acks <- i
				}
				if i%64 >= 48 { // some are deleted again
					if err := remove(b, numbered(i).ID); err == nil {
						acks <- i | 1<<31
					}
				}
			}
		}()
	}
	for i := range acks {
		fmt.Fprintln(out, i)
		out.Flush()
	}
}

// numbered is a record with a number as its ID.
func numbered(i uint32) Record {
	r := sample(0)
	binary.BigEndian.PutUint32(r.ID[:], i)
	for k := range r.Bookings {
		r.Bookings[k].ID = r.ID
	}
	return r
}

func startChild(t *testing.T, path, limit string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "STORE_TEST_CHILD="+path, "STORE_TEST_LIMIT="+limit)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out)
}

// "what must survive a crash is in the store before the answer leaves": a
// process killed in the middle of its writes loses nothing it was answered.
// interdomain-qosm §6
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for round := range 3 {
		c, lines := startChild(t, path, "")
		acked, gone := make(map[sls.ID]bool), make(map[sls.ID]bool)
		for lines.Scan() {
			n, err := strconv.ParseUint(lines.Text(), 10, 32)
			if err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			i := uint32(n)
			if id := numbered(i &^ (1 << 31)).ID; i>>31 == 1 {
				gone[id] = true
			} else {
				acked[id] = true
			}
			if len(acked) == 500+200*round {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = c.Wait() // killed
		b := openBolt(t, path)
		_, records, err := b.Load()
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[sls.ID]bool)
		for _, r := range records {
			found[r.ID] = true
		}
		lost := 0
		for id := range acked {
			// One whose delete was not answered may be there or not.
			if n := binary.BigEndian.Uint32(id[:]); !found[id] && n%64 < 48 {
				lost++
			}
		}
		for id := range gone {
			if found[id] {
				t.Errorf("round %d: %s is back after its delete was answered", round, id)
			}
		}
		if lost > 0 || len(acked) < 500 {
			t.Errorf("round %d: %d of %d acknowledged records are lost", round, lost, len(acked))
		}
		for _, r := range records {
			if err := remove(b, r.ID); err != nil {
				t.Fatal(err)
			}
			if len(records) > 1000 { // deleting one by one is slow; the next round starts from what is left
				break
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// limitedChild fills the file until it may not grow any more.
func limitedChild(b *Bolt, limit string) {
	signal.Ignore(syscall.SIGXFSZ) // the write then fails with EFBIG
	n, _ := strconv.ParseUint(limit, 10, 64)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: 1 << 40}); err != nil {
		fmt.Println("setrlimit", err)
		return
	}
	big := func(i uint32) Record {
		r := numbered(i)
		r.Session = make([]byte, 100_000)
		return r
	}
	i := uint32(0)
	var failure error
	for ; failure == nil && i < 10_000; i++ {
		failure = put(b, big(i))
	}
	fmt.Println("failed", i-1, strings.Contains(fmt.Sprint(failure), syscall.EFBIG.Error())) // bbolt does not wrap it
	fmt.Println("small", put(b, numbered(1<<20)) == nil, b.Stats().Records)
	for k := range i / 2 {
		if err := remove(b, numbered(k).ID); err != nil {
			fmt.Println("delete", err)
			return
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 40, Max: 1 << 40}); err != nil {
		fmt.Println("setrlimit", err)
	}
	fmt.Println("recovered", put(b, big(1<<21)) == nil, b.Close() == nil)
}

// A disk error is reported to those who wait, nothing of the write is stored,
// and later writes go on.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	c, lines := startChild(t, path, strconv.Itoa(20<<20))
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if err := c.Wait(); err != nil || len(said) != 3 {
		t.Fatalf("%v: %q", err, said)
	}
	var stored, held int
	var enlarged, small, put, closed bool
	if _, err := fmt.Sscan(said[0], new(string), &stored, &enlarged); err != nil || !enlarged || stored < 20 {
		t.Fatalf("%q: want a failure because of the file's size after some records", said)
	}
	if _, err := fmt.Sscan(said[1], new(string), &small, &held); err != nil || held != stored && held != stored+1 || small != (held == stored+1) {
		t.Errorf("%q: want %d records, or one more", said, stored)
	}
	if _, err := fmt.Sscan(said[2], new(string), &put, &closed); err != nil || !put || !closed {
		t.Errorf("%q: want a store that has recovered", said)
	}
	contents, err := Inspect(path)
	if want := held - (stored+1)/2 + 1; err != nil || len(contents.Records) != want {
		t.Errorf("%d records, %v; want %d", len(contents.Records), err, want)
	}
}

// inFlight runs an operation b.N times, n of them at any time.
func inFlight(b *testing.B, n int, op func(i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		group.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				op(int(i))
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// The benchmarks' records: what a transit AS keeps of a session.
func benchRecord(i int) Record {
	r := numbered(uint32(i) * 2654435761) // spread, as SIDs are
	r.Session, r.Domain = make([]byte, 300), make([]byte, 100)
	return r
}

// BenchmarkPutDelete is what a node does: 64 reservations at any time, each put
// and deleted again. The disk is that of TMPDIR.
func BenchmarkPutDelete(b *testing.B) {
	for _, live := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) {
			s := openBolt(b, filepath.Join(b.TempDir(), "store.db"))
			var group sync.WaitGroup
			for i := range live {
				group.Add(1)
				s.Put(benchRecord(1<<24+i), func(error) { group.Done() })
			}
			group.Wait()
			before := s.Stats()
			txBefore := s.db.Stats().TxStats
			pagesBefore := txBefore.GetPageAlloc()
			inFlight(b, 64, func(i int) {
				r := benchRecord(i)
				if err := put(s, r); err != nil {
					b.Error(err)
				}
				if err := remove(s, r.ID); err != nil {
					b.Error(err)
				}
			})
			after := s.Stats()
			b.ReportMetric(float64(after.Writes-before.Writes)/float64(after.Commits-before.Commits), "writes/commit")
			pages := s.db.Stats().TxStats
			b.ReportMetric(float64(pages.GetPageAlloc()-pagesBefore)/float64(b.N), "diskB/op")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkPutDeleteOne is the latency of a store that is idle.
func BenchmarkPutDeleteOne(b *testing.B) {
	s := openBolt(b, filepath.Join(b.TempDir(), "store.db"))
	inFlight(b, 1, func(i int) {
		r := benchRecord(i)
		if err := put(s, r); err != nil {
			b.Error(err)
		}
		if err := remove(s, r.ID); err != nil {
			b.Error(err)
		}
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBareBatch is the baseline: transactions of 64 puts or 64 deletes of
// the same bytes, straight into bbolt with its own settings; an operation is a
// put and a delete. By "sequence" the keys grow, by "sid" they are spread.
func BenchmarkBareBatch(b *testing.B) {
	for _, kind := range []string{"sequence", "sid"} {
		for _, live := range []int{0, 10_000} {
			b.Run(fmt.Sprintf("%s/live=%d", kind, live), func(b *testing.B) {
				db, err := bolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, nil)
				if err != nil {
					b.Fatal(err)
				}
				key := func(r *Record, i int) []byte {
					if kind == "sid" {
						return r.ID[:]
					}
					return recordKey(uint64(i))
				}
				batch := func(from, n int, apply func(x *bolt.Bucket, r *Record, i int) error) {
					err := db.Update(func(tx *bolt.Tx) error {
						x, err := tx.CreateBucketIfNotExists(bucketRecords)
						for i := from; i < from+n && err == nil; i++ {
							r := benchRecord(i)
							err = apply(x, &r, i)
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				put := func(x *bolt.Bucket, r *Record, i int) error { return x.Put(key(r, i), r.Append(nil)) }
				remove := func(x *bolt.Bucket, r *Record, i int) error { return x.Delete(key(r, i)) }
				if live > 0 {
					batch(0, live, put)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := live; i < live+b.N; i += 64 {
					n := min(64, live+b.N-i)
					batch(i, n, put)
					batch(i, n, remove)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
