package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	fpctransport "github.com/interqos/interqos/fpc/transport"
	three "github.com/interqos/interqos/labs/01-three-networks"
)

// What the story is about. The files in config/ and sls/ have the other side of
// these numbers.
const (
	host       = "10.1.0.10"
	greedyHost = "10.1.0.66"
	subscriber = "10.3.0.10"
	sourcePort = "5000"
	flowPort   = "5001"
	overPort   = "5002"
	class      = "EF"
	classDSCP  = 46 // of EF

	flowRate   = 20_000_000
	accessRate = 40_000_000
	greedyRate = 5 * accessRate
	overRate   = 30_000_000
	leftRate   = 20_000_000 // of the SLS as65002-as65003

	refuser     = 65002
	refuseClass = 6  // QoS model error
	refuseCode  = 65 // an SLS covers it, and has not enough left
)

var roles = []string{"source", "transit", "sink"}

// demo is one run.
type demo struct {
	options
	page    *page
	lab     *three.Lab
	gateway *fpctransport.Client
	facts   Facts
	kept    bool // the networks stay
}

// run tells the story, and cleans up behind it.
func (d *demo) run(ctx context.Context) error {
	begun := time.Now()
	p := d.page
	p.line("")
	p.line("%s", p.paint(bold, "interqos: one reservation across three networks"))
	p.line("")
	p.line("host %s ── AS65001 ───── AS65002 ───── AS65003 ── gateway ── subscriber %s", host, subscriber)
	p.line("                  source      transit        sink")
	dir, err := d.prepare(ctx)
	if err == nil {
		err = d.steps(ctx)
	}
	err = errors.Join(err, d.clean())
	d.facts.Seconds = time.Since(begun).Seconds()
	switch {
	case err == nil:
		d.facts.OK = true
		p.line("")
		p.line("%s", p.paint(green, fmt.Sprintf("All of it was as it should be, in %.0f s.", d.facts.Seconds)))
		if d.kept {
			d.facts.Folder = dir
			return d.sayKept(dir)
		}
	case ctx.Err() != nil: // what it interrupted says nothing
	default:
		d.explain(err, dir)
		return err
	}
	if dir != "" {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// prepare finds the binaries, makes the working folder and claims the addresses.
func (d *demo) prepare(ctx context.Context) (dir string, err error) {
	for _, name := range []string{"bngfe", "qned", "qnectl", "slsctl"} {
		if _, err := os.Stat(filepath.Join(d.bin, name)); err != nil {
			return "", fmt.Errorf("%w: \"make build\" makes it", err)
		}
	}
	if dir, err = workingFolder(); err != nil {
		return "", err
	}
	d.lab, err = three.Prepare(three.Options{Bin: d.bin, Dir: dir, Survive: d.keep})
	if err != nil {
		return dir, err
	}
	if err := d.lab.Claim(ctx, d.wait); err != nil {
		if errors.Is(err, three.ErrTaken) {
			err = fmt.Errorf("%w%s", err, keptHint())
		}
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func (d *demo) steps(ctx context.Context) error {
	steps := []struct {
		title string
		do    func(context.Context) error
	}{
		{"Three networks and a gateway start", d.start},
		{"Every network loads the SLSs that it is a party to", d.load},
		{"Traffic, and nothing is reserved", d.before},
		{"A reservation, end to end", d.reserve},
		{"The same traffic again", d.after},
		{"More than is left", d.overask},
		{"Release", d.release},
		{"The end", d.end},
	}
	for _, s := range steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if d.keep && s.title == "The end" {
			d.kept = true
			break
		}
		d.page.title(s.title)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// clean ends what still runs, unless it is to stay.
func (d *demo) clean() error {
	var err error
	if d.gateway != nil {
		err = d.gateway.Close()
	}
	if d.lab == nil {
		return err
	}
	if d.kept {
		return errors.Join(err, d.remember(), d.lab.Disconnect())
	}
	return errors.Join(err, d.lab.Close())
}

// explain says what went wrong, and lets the processes speak.
func (d *demo) explain(err error, dir string) {
	p := d.page
	p.line("")
	var f *failure
	if errors.As(err, &f) {
		p.line("%s", p.paint(red, "✗ "+f.what))
		p.line("  expected: %s", f.expected)
		p.line("  found:    %s", f.found)
	} else {
		p.line("%s", p.paint(red, "✗ "+strings.ReplaceAll(err.Error(), "\n", "\n     ")))
	}
	if dir == "" || d.lab == nil {
		return
	}
	names := []string{"as65001", "as65002", "as65003", "bngfe"}
	if f != nil && f.logs != nil {
		names = f.logs
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name+".log")); err != nil {
			continue // it was never started
		}
		p.line("")
		p.line("the end of %s.log:", name)
		for l := range strings.Lines(d.lab.Tail(name, 8)) {
			p.line("  %s", strings.TrimRight(l, "\n"))
		}
	}
	p.line("")
	p.line("configurations, logs and stores are in %s", dir)
}

// until polls for a state that comes by itself, and soon.
func (d *demo) until(ctx context.Context, what string, cond func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.lab.Until(ctx, what, cond)
}
