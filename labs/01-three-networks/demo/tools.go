package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// toolTime is how long a tool may take for what is no measurement, on a machine
// that has much else to do.
const toolTime = time.Minute

// tool prepares one of the project's tools, to run in the working folder.
func (d *demo) tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(d.lab.Bin, name), args...)
	cmd.Dir = d.lab.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// toolError says how a tool ended that should not have ended so.
func toolError(cmd *exec.Cmd, err error, stderr string) error {
	line := filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args[1:], " ")
	return fmt.Errorf("%s: %w\n%s", line, err, strings.TrimSpace(stderr))
}

// tell runs a tool, shows the command line and what it printed, and returns
// that. status is the exit status that it should have.
func (d *demo) tell(ctx context.Context, status int, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cmd := d.tool(ctx, name, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	d.page.command(append([]string{name}, args...), out.String())
	var exit *exec.ExitError
	switch {
	case err == nil && status == 0, errors.As(err, &exit) && exit.ExitCode() == status:
		return out.String(), nil
	case err == nil:
		return "", &failure{what: name + " " + args[0], expected: fmt.Sprintf("exit status %d", status), found: "0"}
	}
	return "", toolError(cmd, err, problems.String())
}

// ask runs a tool with -o json and reads the answer.
func (d *demo) ask(ctx context.Context, answer any, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cmd := d.tool(ctx, name, append(args, "-o", "json")...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		return toolError(cmd, err, problems.String())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return toolError(cmd, err, string(out))
	}
	return nil
}
