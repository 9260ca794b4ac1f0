// Command bench measures the three networks of lab 01 as separate processes on
// loopback, with commits durable on a real disk, beside a raw UDP echo in the
// same run. It prints what it measures and writes it to a JSON file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	three "github.com/interqos/interqos/labs/01-three-networks"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as in qned
	}
	if len(os.Args) > 2 && os.Args[1] == "-child" {
		child(os.Args[2:])
		return
	}
	bin := flag.String("bin", "bin", "folder of the binaries")
	dir := flag.String("dir", "build/bench", "folder for the stores, on the disk to measure")
	out := flag.String("out", "build/bench.json", "file for the figures")
	live := flag.Int("live", 10_000, "reservations to make, and again with as many live")
	only := flag.Bool("gist", false, "measure GIST only, and no reservations")
	stream := flag.Bool("stream", false, "measure only Data over one association, beside the plain echo of frames")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, *bin, *dir, *out, *live, *only, *stream)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one line of the JSON file.
type figure struct {
	Name          string  `json:"name"`
	Value         float64 `json:"value"`
	Unit          string  `json:"unit"`
	Baseline      string  `json:"baseline,omitempty"`
	BaselineValue float64 `json:"baseline_value,omitempty"`
}

// bench is one run.
type bench struct {
	lab     *three.Lab
	dir     string // short, for sockets and logs
	figures []figure
	echo    float64
	check   bool // the records of each answer are checked
}

func (b *bench) add(name string, value float64, unit string) {
	f := figure{Name: name, Value: value, Unit: unit}
	note := ""
	if unit == "1/s" && b.echo != 0 && name != "udp_echo_64_per_s" {
		f.Baseline, f.BaselineValue = "udp_echo_64_per_s", b.echo
		note = fmt.Sprintf("   %.1f %% of the UDP echo", 100*value/b.echo)
	}
	b.figures = append(b.figures, f)
	fmt.Printf("%-28s %12.6g %-6s%s\n", name, value, unit, note)
}

func measure(ctx context.Context, bin, dir, out string, live int, only, stream bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	store, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if store, err = os.MkdirTemp(store, "store-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	if err := describeDisk(store); err != nil {
		return err
	}
	// The client shares the cores with what it measures: one is enough for it.
	runtime.GOMAXPROCS(1)
	fmt.Printf("machine: %d cores, %s\n\n", runtime.NumCPU(), runtime.Version())
	tmp, err := os.MkdirTemp("", "interqos-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	b := &bench{dir: tmp}
	if stream {
		return errors.Join(b.certificates(), b.stream(ctx))
	}
	if err := b.baseline(ctx); err != nil {
		return err
	}
	if err := b.certificates(); err != nil {
		return err
	}
	if err := b.tlsBaseline(ctx); err != nil {
		return err
	}
	if err := b.handshakes(ctx); err != nil {
		return err
	}
	if err := b.stream(ctx); err != nil {
		return err
	}
	if !only {
		if err := b.reservations(ctx, bin, store, live); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// wide makes room for many small reservations: the files' rates are a demo's. The
// first AS has the others' certificates.
func wide(name, text string) string {
	if i := strings.Index(text, "  - {class: AF41"); i >= 0 {
		text = text[:i]
	}
	text = strings.NewReplacer(
		"log: {level: info", "log: {level: warn",
		"capacity: 1G}", "capacity: 1000G}", "capacity: 500M,", "capacity: 1000G,", "capacity: 200M,", "capacity: 1000G,",
		"cir: 100M", "cir: 1000G", "pir: 120M", "pir: 1000G", "cir: 40M", "cir: 1000G", "pir: 60M", "pir: 1000G",
		", largest_flow: 50M", "",
		"  - bng: {target: unix:bngfe.sock}\n", "",
	).Replace(text)
	if name == "as65001.yaml" {
		text += "auth: {records: {certificates: [pki/as65002.crt, pki/as65003.crt]}}\n"
	}
	return text
}

func (b *bench) reservations(ctx context.Context, bin, store string, live int) (err error) {
	b.lab, err = three.Prepare(three.Options{Bin: bin, Dir: b.dir, StoreDir: store, Edit: wide})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.lab.Close()) }()
	start, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := b.lab.StartNetworks(start); err != nil {
		return err
	}
	if err := b.lab.ApplySLSs(ctx); err != nil {
		return err
	}
	return b.load(ctx, live)
}
