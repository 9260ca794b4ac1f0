package three

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Who holds what the lab needs, for people to know what to end: by what Linux
// tells under /proc. Nothing is told elsewhere, nor of other users' processes.

// holder is the process that has an IPv4 address of "udp" or "tcp", or under
// "unix" an abstract socket; "" where it is not told.
func holder(network, at string) string {
	inodes := socketsAt(network, at)
	if len(inodes) == 0 {
		return ""
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !slices.Contains(inodes, to) {
			continue
		}
		process, _, _ := strings.Cut(strings.TrimPrefix(fd, "/proc/"), "/")
		if pid, err := strconv.Atoi(process); err == nil {
			return processText(pid)
		}
	}
	return ""
}

// socketsAt are the sockets there, as links in /proc/PID/fd name them.
func socketsAt(network, at string) (inodes []string) {
	column, inode, want := 1, 9, ""
	switch network {
	case "unix":
		column, inode, want = 7, 6, at
	default:
		a, err := netip.ParseAddrPort(at)
		if err != nil || !a.Addr().Is4() {
			return nil
		}
		octets := a.Addr().As4()
		want = fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(octets[:]), a.Port())
	}
	text, err := os.ReadFile("/proc/net/" + network)
	if err != nil {
		return nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) <= max(column, inode) || f[column] != want {
			continue
		}
		inodes = append(inodes, "socket:["+f[inode]+"]")
	}
	return inodes
}

// processText names a process, and how to end it.
func processText(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	command := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	if r := []rune(command); len(r) > 120 {
		command = string(r[:120]) + "…"
	}
	return fmt.Sprintf("process %d (%q)", pid, command)
}

// heldBy explains who is in the way and what to do about it.
func heldBy(network, at string) string {
	who := holder(network, at)
	pid, _, _ := strings.Cut(strings.TrimPrefix(who, "process "), " ")
	switch {
	case who == "" && network == "unix":
		return "by another demo, bench or test of this lab, of another user: wait until it has ended"
	case who == "":
		return "by a process that only root can see: \"sudo ss -lntup\" names it"
	case network == "unix":
		return "by another demo, bench or test of this lab, " + who + ": wait until it has ended, or end it with \"kill " + pid + "\""
	}
	return "by " + who + ": if it is a leftover of this lab, \"kill " + pid + "\" ends it"
}
