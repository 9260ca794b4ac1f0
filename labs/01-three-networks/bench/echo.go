package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// messageSize is about that of a RESERVE between domains with its GIST header.
const messageSize = 300

// child is this program started by itself as the other end of a measurement.
func child(args []string) {
	var err error
	switch args[0] {
	case "udp-echo":
		err = echoServer()
	case "frame-echo":
		err = frameServer()
	case "tls-echo":
		err = tlsEchoServer(args[1])
	case "gist-responder":
		err = gistResponder(args[1])
	default:
		err = fmt.Errorf("no child %q", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// startChild starts this program as a child and returns the first line that it
// prints, and what ends it.
func startChild(ctx context.Context, args ...string) (line string, stop func(), err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, exe, append([]string{"-child"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		_ = cmd.Wait()
	}
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("child %v: %w", args, err)
	}
	return strings.TrimSpace(line), stop, nil
}

func echoServer() error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	fmt.Println(c.LocalAddr())
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteToUDPAddrPort(b[:n], from); err != nil {
			return err
		}
	}
}

// baseline measures a raw UDP echo between two processes.
func (b *bench) baseline(ctx context.Context) error {
	line, stop, err := startChild(ctx, "udp-echo")
	if err != nil {
		return err
	}
	defer stop()
	to, err := netip.ParseAddrPort(line)
	if err != nil {
		return err
	}
	for _, flight := range []int{1, inFlight} {
		rate, err := echoRate(to, flight, time.Second)
		if err != nil {
			return err
		}
		if flight == 1 {
			b.add("udp_echo_seq_per_s", rate, "1/s")
			continue
		}
		b.echo = rate
		b.add("udp_echo_64_per_s", rate, "1/s")
	}
	return nil
}

func echoRate(to netip.AddrPort, flight int, length time.Duration) (float64, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }() // only read and written above
	msg := make([]byte, messageSize)
	for range flight {
		if _, err := c.Write(msg); err != nil {
			return 0, err
		}
	}
	start, n := time.Now(), 0
	if err := c.SetDeadline(start.Add(length + 2*time.Second)); err != nil {
		return 0, err
	}
	for time.Since(start) < length {
		for range 64 { // the clock costs, too
			if _, err := c.Read(msg); err != nil {
				return 0, fmt.Errorf("UDP echo: %w", err)
			}
			n++
			if _, err := c.Write(msg); err != nil {
				return 0, fmt.Errorf("UDP echo: %w", err)
			}
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}
