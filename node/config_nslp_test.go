package node

import (
	"strings"
	"testing"
)

// What one neighbour can make this node send, and which refreshes are acknowledged.
// RFC 5974 §7, §5.1.1
func TestNSLPLimits(t *testing.T) {
	with := func(keys string) string {
		text := exampleConfig(t)
		i := strings.Index(text, "refresh_period: 30s")
		if i < 0 {
			t.Fatal("the example has no refresh_period")
		}
		return text[:i] + keys + text[i:]
	}
	line := "acknowledge_every: 3, peer_requests: 1001, peer_answers: 7, "
	if strings.Contains(exampleConfig(t), "\n  refresh_period: 30s") {
		line = "acknowledge_every: 3\n  peer_requests: 1001\n  peer_answers: 7\n  "
	}
	c, err := Parse("testdata/as65001.yaml", []byte(with(line)))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.NSLP; n.AckEvery != 3 || n.PeerRequests != 1001 || n.PeerAnswers != 7 {
		t.Errorf("%+v", n)
	}
	for _, bad := range []string{strings.Replace(line, ": 3", ": 256", 1), strings.Replace(line, ": 1001", ": 0", 1), strings.Replace(line, ": 7", ": many", 1)} {
		if _, err := Parse("testdata/as65001.yaml", []byte(with(bad))); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	// Each shard has its part of a rate, rounded up; the default stays the default.
	if share(1001, 2) != 501 || share(7, 0) != 7 || share(0, 4) != 0 {
		t.Errorf("%d %d %d", share(1001, 2), share(7, 0), share(0, 4))
	}
}
