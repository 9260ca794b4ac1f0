package qnectl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/internal/cli"
	"github.com/interqos/interqos/internal/cli/clitest"
)

// What traffic send sends, traffic receive measures. The command lines run one
// after the other, for the library of options has variables of its own: a
// packet of the one is what the other gets.
func TestTraffic(t *testing.T) {
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c, from := listen(), listen()
	wire := c.LocalAddr()
	r := clitest.Run(t, App(), "", "traffic", "send", "--wire", wire.String(), "--from", "10.1.0.10:4000", "--to", "10.3.0.10:5001", "--rate", "1M",
		"--class", "EF", "--size", "200", "--duration", "50ms")
	if r.Status != cli.ExitOK || !strings.Contains(r.Stdout, "sent") {
		t.Fatalf("send: %+v", r)
	}
	packet := make([]byte, 2048)
	n, err := c.Read(packet)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	received := make(chan clitest.Result, 1)
	go func() {
		received <- clitest.Run(t, App(), "", "traffic", "receive", "--listen", wire.String(), "--window", "100ms", "-o", "json")
	}()
	var got clitest.Result
	for again := time.NewTicker(time.Millisecond); got.Stdout == ""; { // until the receiver listens and has seen enough
		select {
		case got = <-received:
			if got.Status != cli.ExitOK {
				t.Fatalf("receive: %+v", got)
			}
		case <-again.C:
			if _, err := from.WriteTo(packet[:n], wire); err != nil {
				t.Fatal(err)
			}
		}
	}
	var report struct {
		Flows []struct {
			Flow    string
			Packets uint64
			DSCP    uint8
		}
	}
	if err := json.Unmarshal([]byte(got.Stdout), &report); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if len(report.Flows) != 1 || report.Flows[0].Packets == 0 || report.Flows[0].DSCP != 46 || !strings.Contains(report.Flows[0].Flow, "10.3.0.10:5001") {
		t.Errorf("received %+v", report)
	}
}

func TestTrafficUsage(t *testing.T) {
	send := func(more ...string) []string {
		return append([]string{"traffic", "send", "--wire", "127.0.0.1:9", "--from", "10.1.0.10:1", "--to", "10.3.0.10:2", "--rate", "1M"}, more...)
	}
	for want, args := range map[string][]string{
		`--wire "x": expected ADDRESS:PORT, e.g. 127.0.0.1:7000`:         send("--wire", "x"),
		`--listen "": expected ADDRESS:PORT, e.g. 127.0.0.1:7000`:        {"traffic", "receive"},
		`--window -1s: expected a duration of zero or more`:              {"traffic", "receive", "--listen", "127.0.0.1:0", "--window", "-1s"},
		`which command? One of send, receive; see qnectl traffic --help`: {"traffic"},
	} {
		if got := clitest.Run(t, App(), "", args...); got.Status != cli.ExitUsage || got.Stderr != fmt.Sprintf("qnectl: %s\n", want) {
			t.Errorf("got %+v, want %s", got, want)
		}
	}
	for _, args := range [][]string{send("--rate", "x"), send("--class", "XX")} {
		if got := clitest.Run(t, App(), "", args...); got.Status != cli.ExitUsage || !bytes.HasPrefix([]byte(got.Stderr), []byte("qnectl: --")) {
			t.Errorf("got %+v", got)
		}
	}
}
