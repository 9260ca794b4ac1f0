package capture_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// checkRecorded compares what a capture has with what it should have. In a live
// one messages may have been sent again, and nobody waits for MA-Hellos.
func checkRecorded(t *testing.T, file string, live bool) {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(file), ".pcap")
	want := recorded[name]
	if live && name == "cmode-tcp" {
		want = recordedLive
	}
	messages, remarks := readFile(t, file)
	got := kinds(messages)
	if len(remarks) > 0 {
		t.Errorf("%s: remark: %s", file, remarks[0].Remark)
	}
	if want.exact && !live && !maps.Equal(got, want.kinds) {
		t.Errorf("%s: %v\nwant %v", file, got, want.kinds)
	}
	for k, n := range want.kinds {
		if got[k] < n {
			t.Errorf("%s: %d of %q, want at least %d", file, got[k], k, n)
		}
	}
	for k, n := range got {
		if want.kinds[k] == 0 && (!live || strings.Contains(k, "malformed")) {
			t.Errorf("%s: %d of %q, want none", file, n, k)
		}
	}
}

// The captures of testdata have the messages that they are there for, and are
// understood to the last octet.
func TestRecordedCaptures(t *testing.T) {
	files, err := filepath.Glob(captures + "/*.pcap")
	if err != nil || len(files) != len(recorded) {
		t.Fatalf("%d captures, %v; want %d", len(files), err, len(recorded))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { checkRecorded(t, file, false) })
	}
}
