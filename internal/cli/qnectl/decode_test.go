package qnectl

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/cli/clitest"
)

const captures = "../../../testdata/captures/"

// decodeArgs are a command line that decodes a capture of testdata.
func decodeArgs(file string, more ...string) []string {
	args := append([]string{"decode"}, more...)
	if strings.HasSuffix(file, "reserve.pcap") {
		args = append(args, "--port", "10270")
	}
	if keys := strings.TrimSuffix(file, ".pcap") + ".keys"; exists(keys) {
		args = append(args, "--keylog", keys)
	}
	return append(args, file)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Every capture, of ours and of an independent implementation, as text and as
// JSON.
// RFC 5971 §A.3, §A.4: every object and error, field by field.
func TestDecodeGolden(t *testing.T) {
	var files []string
	for _, pattern := range []string{captures + "*.pcap", "../../../gist/wire/testdata/vectors/*.pcap"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pcap")
		t.Run(name, func(t *testing.T) {
			text := clitest.Run(t, App(), "", decodeArgs(file)...)
			lines := clitest.Run(t, App(), "", decodeArgs(file, "-o", "json")...)
			for _, r := range []clitest.Result{text, lines} {
				if r.Status != 0 || r.Stderr != "" {
					t.Errorf("status %d, %s", r.Status, r.Stderr)
				}
			}
			clitest.Golden(t, "decode-"+name+".txt", text.Stdout)
			clitest.Golden(t, "decode-"+name+".json", lines.Stdout)
			checkLines(t, lines.Stdout)
		})
	}
}

// checkLines looks for the keys that every message has, and those of QoS-NSLP.
func checkLines(t *testing.T, lines string) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		want := []string{"frame", "time", "transport", "gist.type", "gist.objects"}
		if m["nslp.type"] != nil {
			want = append(want, "nslp.objects")
		}
		if bytes.Contains(m["nslp.objects"], []byte(`"QSPEC"`)) {
			want = append(want, "qspec")
		}
		for _, key := range want {
			if m[key] == nil && m["gist.error"] == nil {
				t.Errorf("line %d has no %s", i+1, key)
			}
		}
	}
}

func TestDecodeFilter(t *testing.T) {
	file := captures + "cmode-tcp.pcap"
	all := strings.Count(clitest.Run(t, App(), "", decodeArgs(file)...).Stdout, "frame ")
	for _, c := range []struct {
		filter []string
		want   func(n int) bool
	}{
		{[]string{"--filter", "type=MA-Hello"}, func(n int) bool { return n > 0 && n < all }},
		{[]string{"--filter", "type=RESERVE", "--filter", "type=RESPONSE"}, func(n int) bool { return n == 7 }},
		{[]string{"--filter", "sid=5e55"}, func(n int) bool { return n > 7 && n < all }},
		{[]string{"--filter", "sid=5E55104e", "--filter", "type=RESPONSE"}, func(n int) bool { return n == 3 }},
		{[]string{"--filter", "sid=00"}, func(n int) bool { return n == 0 }},
	} {
		r := clitest.Run(t, App(), "", decodeArgs(file, c.filter...)...)
		if n := strings.Count(r.Stdout, "frame "); r.Status != 0 || !c.want(n) {
			t.Errorf("%v: %d of %d messages, %s", c.filter, n, all, r.Stderr)
		}
	}
}

func TestDecodeStdin(t *testing.T) {
	b, err := os.ReadFile(captures + "dmode-ipv6.pcap")
	if err != nil {
		t.Fatal(err)
	}
	r := clitest.Run(t, App(), string(b), "decode", "-")
	if want := clitest.Run(t, App(), "", "decode", captures+"dmode-ipv6.pcap"); r.Status != 0 || r.Stdout != want.Stdout {
		t.Errorf("status %d, %s: differs from the file's", r.Status, r.Stderr)
	}
	// A file that is cut off: what was before is there, and where it ends is said.
	r = clitest.Run(t, App(), string(b[:len(b)-7]), "decode", "-o", "json", "-")
	if r.Status != 1 || strings.Count(r.Stdout, "\n") != 4 || !strings.Contains(r.Stderr, "frame 5, at offset ") {
		t.Errorf("cut: status %d, %d lines, %s", r.Status, strings.Count(r.Stdout, "\n"), r.Stderr)
	}
}

func TestDecodeErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("CLIENT_RANDOM 12 34\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := captures + "tls13.pcap"
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"decode"}, 2, "which file?"},
		{[]string{"decode", "none.pcap"}, 1, "none.pcap"},
		{[]string{"decode", "decode.go"}, 1, "expected a pcap or pcapng file"},
		{[]string{"decode", "-o", "yaml", file}, 2, "-o json"},
		{[]string{"decode", "--filter", "color=red", file}, 2, "expected sid=HEX, or type="},
		{[]string{"decode", "--filter", "type=reserve", file}, 2, "RESERVE"},
		{[]string{"decode", "--port", "70000", file}, 2, "expected 1 to 65535"},
		{[]string{"decode", "--keylog", bad, file}, 1, "line 1: CLIENT_RANDOM: the client's random is \"12\", expected 64"},
		{[]string{"decode", file}, 0, "the key log has no CLIENT_HANDSHAKE_TRAFFIC_SECRET"},
	} {
		r := clitest.Run(t, App(), "", c.args...)
		if r.Status != c.status || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%v: status %d, %q; want %d, ...%s...", c.args, r.Status, r.Stderr, c.status, c.want)
		}
	}
}
