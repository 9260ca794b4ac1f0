// Command demo makes one reservation across three networks, sends real traffic
// before and after it, asks for too much, releases, and checks for itself that
// everything was as it should be. Exit status: 0 all of it was; 1 something was
// not, or could not be done; 2 wrong usage; 130 interrupted.
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
	"syscall"
	"time"

	three "github.com/interqos/interqos/labs/01-three-networks"
)

type options struct {
	bin    string
	json   bool
	keep   bool
	wait   time.Duration
	window time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "`folder` of qned, bngfe, qnectl and slsctl")
	flag.BoolVar(&o.json, "json", false, "print what was found as JSON; the story goes to standard error")
	flag.BoolVar(&o.keep, "keep", false, "leave the networks running, and say how to play with them")
	flag.DurationVar(&o.wait, "wait", 0, "how `long` to wait for another demo, bench or test of this lab to end")
	flag.DurationVar(&o.window, "window", 3*time.Second, "how `long` to measure traffic")
	stop := flag.String("stop", "", "end what a demo with -keep left running in this `folder`")
	flag.Parse()
	if flag.NArg() > 0 || o.window < 100*time.Millisecond || o.wait < 0 {
		fmt.Fprintln(os.Stderr, "demo: expected only options, a window of at least 100ms and no negative wait; see demo -help")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	var err error
	if *stop != "" {
		err = stopKept(ctx, os.Stdout, *stop)
	} else {
		err = tell(ctx, o)
	}
	interrupted := ctx.Err() != nil
	cancel()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; everything has been ended")
		os.Exit(130)
	default:
		if *stop != "" { // the story tells its own errors
			fmt.Fprintln(os.Stderr, "demo:", err)
		}
		os.Exit(1)
	}
}

// tell runs the demo and, if asked to, prints its facts.
func tell(ctx context.Context, o options) error {
	out := os.Stdout
	if o.json {
		out = os.Stderr
	}
	d := &demo{options: o, page: newPage(out)}
	err := d.run(ctx)
	if o.json {
		if err != nil {
			d.facts.Error = err.Error()
		}
		e := json.NewEncoder(os.Stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(&d.facts))
	}
	return err
}

// workingFolder makes the folder of one run. Sockets are in it, whose paths must
// be short.
func workingFolder() (string, error) {
	dir, err := os.MkdirTemp("", "interqos-demo-")
	if err != nil {
		return "", err
	}
	const room = 107 // octets of sun_path
	if longest := filepath.Join(dir, three.SocketName(three.ASs[0])); len(longest) > room {
		return "", errors.Join(os.Remove(dir),
			fmt.Errorf("%s: %d octets, and a Unix socket's path has at most %d: set TMPDIR to a shorter folder", longest, len(longest), room))
	}
	return dir, nil
}
