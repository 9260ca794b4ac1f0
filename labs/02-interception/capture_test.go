package interception_test

import (
	"bufio"
	"encoding/hex"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// capture is a tcpdump of Queries at an interface.
type capture struct {
	t    *testing.T
	cmd  *exec.Cmd
	file string
}

func (s *space) capture(link string) *capture {
	s.t.Helper()
	needs(s.t, "tcpdump", "tshark")
	c := &capture{t: s.t, file: filepath.Join(s.t.TempDir(), link+".pcap")}
	// Packets of UDP to GIST's port; behind IPv6 hop-by-hop options the filter
	// language does not look.
	c.cmd = s.command("tcpdump", "-i", link, "-U", "--immediate-mode", "-Z", "root", "-w", c.file, "udp dst port 270 or ip6[6] == 0")
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	listening := make(chan bool)
	go func() {
		said := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "listening on") && !said {
				said = true
				listening <- true
			}
		}
		if !said {
			listening <- false
		}
	}()
	if !<-listening {
		s.t.Fatal("tcpdump does not listen")
	}
	return c
}

// fields are what tshark tells of a packet; what a router changes comes first.
// Whether the UDP checksum is right is seen only after the router: A's kernel
// leaves it to a network card, and a veth has none.
var fields = []string{
	"ip.ttl", "ipv6.hlim", "udp.payload", "udp.checksum.status",
	"ip.src", "ip.dst", "ip.dsfield", "ip.flags.df", "ip.opt.type", "ip.opt.ra", "ip.hdr_len", "ip.len", "ip.checksum.status",
	"ipv6.src", "ipv6.dst", "ipv6.tclass", "ipv6.flow", "ipv6.plen", "ipv6.nxt", "ipv6.hopopts.nxt", "ipv6.opt.router_alert",
	"udp.srcport", "udp.dstport", "udp.length",
}

// stop ends the capture, and returns its Queries by field.
func (c *capture) stop() (packets []map[string]string) {
	c.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGINT)
	_ = c.cmd.Wait()
	// A name that tshark resolves to GIST's dissector would hide the payload.
	args := []string{"-n", "-r", c.file, "-Y", "udp.dstport == 270 and udp.payload[0:4] == 4e:04:bd:a5 and (ip.opt.ra or ipv6.opt.router_alert)", "-T", "fields",
		"-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-E", "occurrence=f"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		c.t.Fatalf("tshark: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		p := map[string]string{}
		for i, v := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			p[fields[i]] = v
		}
		packets = append(packets, p)
	}
	return packets
}

// compare sees that each Query left the router as it came, one IP hop and one
// GIST hop further, with checksums that tshark finds good.
func compare(t *testing.T, before, after []map[string]string) {
	t.Helper()
	if len(before) == 0 || len(before) != len(after) {
		t.Fatalf("%d Queries before the router, %d after it", len(before), len(after))
	}
	const good = "1"
	for i, in := range before {
		out := after[i]
		for _, f := range fields[4:] {
			if in[f] != out[f] {
				t.Errorf("Query %d: %s is %q before the router, %q after it", i, f, in[f], out[f])
			}
		}
		ttl := "ip.ttl"
		if in["ip.src"] == "" {
			ttl = "ipv6.hlim"
		} else if out["ip.checksum.status"] != good {
			t.Errorf("Query %d: IPv4 checksum has status %s", i, out["ip.checksum.status"])
		}
		if in[ttl] != "64" || out[ttl] != "63" {
			t.Errorf("Query %d: %s is %s before the router, %s after it", i, ttl, in[ttl], out[ttl])
		}
		if out["udp.checksum.status"] != good {
			t.Errorf("Query %d: UDP checksum has status %s", i, out["udp.checksum.status"])
		}
		came, err1 := hex.DecodeString(in["udp.payload"])
		left, err2 := hex.DecodeString(out["udp.payload"])
		if err1 != nil || err2 != nil || len(came) < 12 {
			t.Fatalf("Query %d: payload %q", i, in["udp.payload"])
		}
		const hops = 5 // magic number, version
		came[hops]--
		if string(came) != string(left) {
			t.Errorf("Query %d: the message came as\n%x and left as\n%x", i, came, left)
		}
	}
}
