package bgp

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const birdConf = `
log stderr all;
router id 192.0.2.2;
protocol device { scan time 1; }
protocol static {
	ipv4;
	route 203.0.113.0/24 unreachable;
}
protocol static {
	ipv6;
	route 2001:db8:3::/48 unreachable;
}
template bgp edge {
	local as 4200000010;
	hold time 15;
	connect delay time 1;
	error wait time 1, 2;
}
protocol bgp four from edge {
	neighbor 192.0.2.1 as 65001;
	source address 192.0.2.2;
	ipv4 {
		import all;
		export filter { bgp_path.prepend(4200000010); accept; };
		next hop self;
	};
}
protocol bgp six from edge {
	neighbor 2001:db8::1 as 65001;
	source address 2001:db8::2;
	ipv6 { import all; export all; next hop self; };
}
`

// The same over IPv4 and IPv6 with BIRD, in network namespaces that end with the
// processes in them.
func TestPeersWithBIRD(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	for _, tool := range []string{"bird", "birdc", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	apart := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	dir := t.TempDir()
	conf, socket := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "bird.ctl")
	if err := os.WriteFile(conf, []byte(birdConf), 0o600); err != nil {
		t.Fatal(err)
	}
	// BIRD starts when a line says that its network is there, and dies when the
	// pipe is closed, by this test or by its end.
	bird := exec.Command("sh", "-c", `read go; bird -f -c "$0" -s "$1" & read end; kill -9 $!`, conf, socket)
	bird.SysProcAttr = apart
	gate, err := bird.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	bird.Stderr = &log
	if err := bird.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		gate.Close()
		bird.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	us := spawn(t, apart)
	link(t, us.cmd.Process.Pid, bird.Process.Pid)
	if _, err := gate.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}

	us.configure(Config{
		AS: 65001, RouterID: netip.MustParseAddr("192.0.2.1"),
		Neighbors: []Neighbor{
			{AS: 4200000010, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddrPort("192.0.2.2:179")},
			{AS: 4200000010, Local: netip.MustParseAddr("2001:db8::1"), Remote: netip.MustParseAddrPort("[2001:db8::2]:179")},
		},
		Originate: prefixes("198.51.100.0/24", "2001:db8:1::/48"),
	})
	for _, want := range []Route{
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), NextHop: netip.MustParseAddr("192.0.2.2"), ASPath: []uint32{4200000010, 4200000010}},
		{Prefix: netip.MustParsePrefix("2001:db8:3::/48"), NextHop: netip.MustParseAddr("2001:db8::2"), ASPath: []uint32{4200000010}},
	} {
		q := request{Op: "lookup", Addr: want.Prefix.Addr()}
		eventually(t, "route to "+want.Prefix.String(), func() bool { return us.ask(q).Found })
		if r := us.ask(q).Route; r.Prefix != want.Prefix || r.NextHop != want.NextHop || !slices.Equal(r.ASPath, want.ASPath) {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	shows := func(words ...string) func() bool {
		return func() bool {
			out, err := exec.Command("birdc", "-s", socket, "show", "route", "all").Output()
			for _, w := range words {
				if err != nil || !strings.Contains(string(out), w) {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "BIRD has our prefixes, with our addresses as next hops",
		shows("198.51.100.0/24", "BGP.next_hop: 192.0.2.1", "2001:db8:1::/48", "BGP.next_hop: 2001:db8::1", "BGP.as_path: 65001"))
	us.ask(request{Op: "withdraw", Prefix: netip.MustParsePrefix("198.51.100.0/24")})
	eventually(t, "BIRD lost what was withdrawn", func() bool { return !shows("198.51.100.0/24")() && shows("2001:db8:1::/48")() })

	gate.Close()
	eventually(t, "the routes of a dead neighbour are gone", func() bool {
		return !us.ask(request{Op: "lookup", Addr: netip.MustParseAddr("203.0.113.1")}).Found &&
			!us.ask(request{Op: "lookup", Addr: netip.MustParseAddr("2001:db8:3::1")}).Found
	})
}

// link joins the network namespaces of two processes.
func link(t *testing.T, left, right int) {
	t.Helper()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	l, r := strconv.Itoa(left), strconv.Itoa(right)
	run("ip", "link", "add", "left", "netns", l, "type", "veth", "peer", "name", "right", "netns", r)
	for _, side := range [][4]string{{l, "left", "192.0.2.1/30", "2001:db8::1/64"}, {r, "right", "192.0.2.2/30", "2001:db8::2/64"}} {
		inside := []string{"-t", side[0], "-n", "ip"}
		run("nsenter", append(inside, "link", "set", "lo", "up")...)
		run("nsenter", append(inside, "addr", "add", side[2], "dev", side[1])...)
		run("nsenter", append(inside, "addr", "add", side[3], "dev", side[1], "nodad")...)
		run("nsenter", append(inside, "link", "set", side[1], "up")...)
	}
}
