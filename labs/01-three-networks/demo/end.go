package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	three "github.com/interqos/interqos/labs/01-three-networks"
	"github.com/interqos/interqos/sls/store"
)

// end ends every process, and reads the stores' files.
func (d *demo) end(context.Context) error {
	all := d.lab.All()
	err := errors.Join(d.gateway.Close(), d.lab.Close())
	d.gateway = nil
	for _, p := range all {
		d.facts.Processes = append(d.facts.Processes, Ended{Name: p.Name, PID: p.PID(), Status: p.Status()})
	}
	rows := [][]string{{"process", ">pid", "ended with", "store", ">reservations in it", ">SLSs"}}
	for _, p := range d.facts.Processes {
		rows = append(rows, []string{p.Name, fmt.Sprint(p.PID), p.Status, "", "", ""})
	}
	if err != nil {
		d.page.table(rows...)
		return fmt.Errorf("ending the processes: %w", err)
	}
	for i, as := range three.ASs {
		file := fmt.Sprintf("as%d.db", as)
		c, err := store.Inspect(filepath.Join(d.lab.Dir, file))
		if err != nil {
			return err
		}
		s := Stored{AS: as, File: file, Reservations: len(c.Records), SLSs: len(c.SLSs)}
		d.facts.Stores = append(d.facts.Stores, s)
		row := rows[i+2] // behind the title and the gateway
		row[3], row[4], row[5] = file, fmt.Sprint(s.Reservations), fmt.Sprint(s.SLSs)
	}
	d.page.table(rows...)
	for _, s := range d.facts.Stores {
		if want := len(three.SLSFiles(s.AS)); s.Reservations != 0 || s.SLSs != want {
			return &failure{
				what: "the store " + s.File, expected: fmt.Sprintf("no reservation and %d SLSs", want),
				found: fmt.Sprintf("%d and %d", s.Reservations, s.SLSs), logs: []string{fmt.Sprintf("as%d", s.AS)},
			}
		}
	}
	d.page.good("every process has ended with status 0, and no store has a reservation")
	return nil
}

// keptFile says, in the working folder, what was left running.
const keptFile = "demo.json"

type kept struct {
	Processes []Ended `json:"processes"`
}

// remember writes down what is left running, for stopKept.
func (d *demo) remember() error {
	var k kept
	for _, p := range d.lab.All() {
		k.Processes = append(k.Processes, Ended{Name: p.Name, PID: p.PID()})
	}
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.lab.Dir, keptFile), text, 0o600)
}

// sayKept says how to play with what is left running.
func (d *demo) sayKept(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.page.w, `
  The networks go on, in %[1]s. To play with them:

    cd %[1]s
    export PATH=%[2]s:$PATH
    export INTERQOS_SOCKET=unix:as65001.sock
    export INTERQOS_PEER_SOCKETS=unix:as65002.sock,unix:as65003.sock

    qnectl status
    qnectl routes
    qnectl reserve --from %[3]s --to %[4]s --protocol udp --port %[5]s --rate 20M --class EF --ladder
    qnectl list
    qnectl state
    slsctl -s unix:as65002.sock usage
    qnectl traffic receive --listen %[6]s --window 5s &
    qnectl traffic send --wire %[7]s --from %[3]s:%[9]s --to %[4]s:%[5]s --rate 20M --duration 7s
    qnectl release SESSION
    tail -f as65002.log

  To end them, and remove the folder:

    %[8]s -stop %[1]s

`, dir, d.lab.Bin, host, subscriber, flowPort, three.AccessWire, three.GatewayWire, self, sourcePort)
	return err
}

// keptHint names the folders of demos that were left running and still do.
func keptHint() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "interqos-demo-*", keptFile))
	if err != nil {
		return ""
	}
	hint := ""
	for _, file := range found {
		dir := filepath.Dir(file)
		k, err := readKept(dir)
		if err == nil && slices.ContainsFunc(k.Processes, func(p Ended) bool { return ours(p.PID, dir) }) {
			hint += "\na demo was left running; to end it: " + self + " -stop " + dir
		}
	}
	return hint
}

func readKept(dir string) (kept, error) {
	var k kept
	text, err := os.ReadFile(filepath.Join(dir, keptFile))
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, fmt.Errorf("%s: %w", keptFile, err)
	}
	return k, nil
}

// stopKept ends what a demo left running in a folder, and removes the folder.
func stopKept(ctx context.Context, w *os.File, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	k, err := readKept(dir)
	if err != nil {
		return fmt.Errorf("no demo was left running in %s: %w", dir, err)
	}
	for i := len(k.Processes) - 1; i >= 0; i-- {
		p := k.Processes[i]
		if !ours(p.PID, dir) {
			_, _ = fmt.Fprintf(w, "%s (%d) has ended already\n", p.Name, p.PID)
			continue
		}
		if err := syscall.Kill(p.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("%s (%d): %w", p.Name, p.PID, err)
		}
		if err := gone(ctx, p.PID, dir); err != nil {
			return fmt.Errorf("%s (%d): %w", p.Name, p.PID, err)
		}
		_, _ = fmt.Fprintf(w, "%s (%d) has ended\n", p.Name, p.PID)
	}
	return os.RemoveAll(dir)
}

// ours says whether a process still is one that was started in the folder: its
// number may have been given to another.
func ours(pid int, dir string) bool {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && strings.TrimSuffix(cwd, " (deleted)") == dir
}

// gone polls until a process has ended.
func gone(ctx context.Context, pid int, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for ours(pid, dir) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("has not ended after SIGTERM: %w", ctx.Err())
		case <-t.C:
		}
	}
	return nil
}
