package three

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// Whoever has an address is named, and nobody for one that is free.
func TestHolder(t *testing.T) {
	if _, err := os.Stat("/proc/net/udp"); err != nil {
		t.Skip("needs Linux's /proc")
	}
	self := fmt.Sprintf("process %d (", os.Getpid())
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("@interqos-holder-test-%d", os.Getpid())
	unix, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	places := [][2]string{{"udp", udp.LocalAddr().String()}, {"tcp", tcp.Addr().String()}, {"unix", name}}
	for _, p := range places {
		if got := holder(p[0], p[1]); !strings.HasPrefix(got, self) {
			t.Errorf("%s %s: %q, want %q", p[0], p[1], got, self)
		}
		if got := heldBy(p[0], p[1]); !strings.Contains(got, fmt.Sprintf("\"kill %d\"", os.Getpid())) {
			t.Errorf("%s %s: %q", p[0], p[1], got)
		}
	}
	for _, err := range []error{udp.Close(), tcp.Close(), unix.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, p := range append(places, [2]string{"udp", "no address"}, [2]string{"udp", "[::1]:9"}) {
		if got := holder(p[0], p[1]); got != "" {
			t.Errorf("%s %s, free: %q", p[0], p[1], got)
		}
		if got := heldBy(p[0], p[1]); strings.Contains(got, "kill") || got == "" {
			t.Errorf("%s %s, free: %q", p[0], p[1], got)
		}
	}
}
