package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/interqos/interqos/api"
)

const inFlight = 64

// request is one of many small reservations, each its own flow.
func request(i int) *api.ReserveRequest {
	return &api.ReserveRequest{
		Source:      fmt.Sprintf("10.1.%d.%d", i/250%250, i%250+1),
		Destination: fmt.Sprintf("10.3.%d.%d", i/250%250, i%250+1),
		Protocol:    17, DestinationPort: uint32(1024 + i/62500), Class: "EF", Rate: 64_000,
	}
}

// load measures reservations through the three processes.
func (b *bench) load(ctx context.Context, live int) error {
	warm, err := b.reserve(ctx, 1_000_000, 500, inFlight) // associations, pools, heaps
	if err != nil {
		return err
	}
	if err := b.release(ctx, warm.sids); err != nil {
		return err
	}
	seq, err := b.reserve(ctx, 2_000_000, 2_000, 1)
	if err != nil {
		return err
	}
	b.add("reserve_3as_seq_per_s", seq.rate, "1/s")
	if err := b.release(ctx, seq.sids); err != nil {
		return err
	}
	before, err := b.heaps(ctx)
	if err != nil {
		return err
	}
	start, err := b.spent(ctx)
	if err != nil {
		return err
	}
	first, err := b.reserve(ctx, 0, live, inFlight)
	if err != nil {
		return err
	}
	end, err := b.spent(ctx)
	if err != nil {
		return err
	}
	b.add("reserve_3as_64_per_s", first.rate, "1/s")
	b.add("reserve_3as_p50_us", first.quantile(0.50), "us")
	b.add("reserve_3as_p99_us", first.quantile(0.99), "us")
	b.add("reserve_allocs", (end.mallocs-start.mallocs)/float64(live), "allocs")
	b.add("store_writes_per_commit", (end.writes-start.writes)/(end.commits-start.commits), "")
	b.add("reserve_cpu_us", (end.cpu-start.cpu)*1e6/float64(live), "us")
	full, err := b.heaps(ctx)
	if err != nil {
		return err
	}
	for i, n := range b.lab.Nodes {
		fmt.Printf("  live heap of AS%d: %.1f MB before, %.1f MB with %d reservations\n", n.AS, before[i]/1e6, full[i]/1e6, live)
	}
	b.add("session_bytes", (sum(full)-sum(before))/float64(live)/float64(len(full)), "B")
	second, err := b.reserve(ctx, live, live, inFlight)
	if err != nil {
		return err
	}
	b.add("reserve_3as_64_live_per_s", second.rate, "1/s")
	fmt.Printf("  with %d live the rate is %.0f %% of the rate with none\n", live, 100*second.rate/first.rate)
	// The same, and the first AS checks what the domains have signed.
	b.check = true
	checked, err := b.reserve(ctx, 2*live, live, inFlight)
	if err != nil {
		return err
	}
	b.check = false
	b.add("reserve_3as_64_checked_per_s", checked.rate, "1/s")
	if err := b.release(ctx, checked.sids); err != nil {
		return err
	}
	began := time.Now()
	if err := b.release(ctx, append(first.sids, second.sids...)); err != nil {
		return err
	}
	b.add("release_3as_64_per_s", float64(2*live)/time.Since(began).Seconds(), "1/s")
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, n := range b.lab.Nodes {
		if err := b.lab.Until(wait, fmt.Sprintf("AS%d to hold nothing", n.AS), n.Empty); err != nil {
			return err
		}
	}
	fmt.Println("  after the release no AS holds anything")
	return nil
}

// result is what became of a number of reservations.
type result struct {
	sids  []string
	times []time.Duration
	rate  float64
}

func (r *result) quantile(q float64) float64 {
	slices.Sort(r.times)
	return float64(r.times[int(q*float64(len(r.times)-1))].Microseconds())
}

// reserve makes count reservations, the flows numbered from first, with so many
// in flight.
func (b *bench) reserve(ctx context.Context, first, count, flight int) (*result, error) {
	r := &result{sids: make([]string, count), times: make([]time.Duration, count)}
	start := time.Now()
	err := each(count, flight, func(i int) error {
		at := time.Now()
		ask := request(first + i)
		ask.CheckRecords = b.check
		out, err := b.lab.Nodes[0].Reserve(ctx, ask)
		if err != nil {
			return err
		}
		if !out.Accepted {
			return fmt.Errorf("reservation %d refused: %s", i, out.Info.GetText())
		}
		for _, d := range out.Domains {
			if b.check && d.Proof != api.Proof_PROOF_VERIFIED {
				return fmt.Errorf("reservation %d: what AS%d says is not proved: %v", i, d.As, d.Proof)
			}
		}
		r.times[i], r.sids[i] = time.Since(at), out.SessionId
		return nil
	})
	r.rate = float64(count) / time.Since(start).Seconds()
	return r, err
}

func (b *bench) release(ctx context.Context, sids []string) error {
	return each(len(sids), inFlight, func(i int) error {
		out, err := b.lab.Nodes[0].Release(ctx, &api.ReleaseRequest{SessionId: sids[i]})
		if err == nil && !out.Accepted {
			err = fmt.Errorf("session %s not released: %s", sids[i], out.Info.GetText())
		}
		return err
	})
}

// each runs f(0) … f(count-1) by so many workers, and stops at the first error.
func each(count, workers int, f func(int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if errs[w] = f(i); errs[w] != nil {
					next.Store(int64(count))
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// cost is what all processes together have used so far.
type cost struct {
	mallocs, cpu    float64 // heap objects, seconds
	writes, commits float64 // of the stores
}

func (b *bench) spent(ctx context.Context) (c cost, err error) {
	for i := range b.lab.Nodes {
		m, err := b.metrics(ctx, i)
		if err != nil {
			return c, err
		}
		c.mallocs += m["go_memstats_mallocs_total"]
		c.cpu += m["process_cpu_seconds_total"]
		c.writes += m["interqos_store_writes_total"]
		c.commits += m["interqos_store_commits_total"]
	}
	return c, nil
}

// heaps is the live heap of each process, as its garbage collector found it
// when it last ran to its end after this was called.
func (b *bench) heaps(ctx context.Context) ([]float64, error) {
	var live []float64
	for i := range b.lab.Nodes {
		first, err := b.metrics(ctx, i)
		if err != nil {
			return nil, err
		}
		for {
			m, err := b.metrics(ctx, i)
			if err != nil {
				return nil, err
			}
			// Asking allocates, so the collector comes round.
			if m["go_gc_cycles_total_gc_cycles_total"] >= first["go_gc_cycles_total_gc_cycles_total"]+2 {
				live = append(live, m["go_gc_heap_live_bytes"])
				break
			}
		}
	}
	return live, nil
}

// metrics reads a process's Prometheus metrics that have no labels.
func (b *bench) metrics(ctx context.Context, i int) (map[string]float64, error) {
	url := fmt.Sprintf("http://127.%d.0.1:10940/metrics", i+1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	m := make(map[string]float64)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	if len(m) == 0 {
		return nil, fmt.Errorf("%s: %s, no metrics", url, resp.Status)
	}
	return m, lines.Err()
}
