package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/interqos/interqos/gist/transport"
)

func TestSCTPNeedsInsecureInTheConfiguration(t *testing.T) {
	text := strings.Replace(exampleConfig(t), "shards: 2", "shards: 2\n  sctp: true", 1)
	c, err := Parse("q.yaml", []byte(text))
	if err != nil || !c.GIST.SCTP {
		t.Fatalf("SCTP %v, %v", err == nil && c.GIST.SCTP, err)
	}
	text = strings.Replace(text, "insecure: true", "insecure: false", 1)
	const want = "gist.sctp: found \"true\", expected sctp only with insecure: true (nothing protects what goes over it)"
	if _, err := Parse("q.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, expected %q", err, want)
	}
}

// SCTP is optional: where the kernel has none, the node says so and goes on.
func TestSCTPWhereTheKernelHasIt(t *testing.T) {
	var log bytes.Buffer
	n := &Node{cfg: &Config{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	n.openSCTP()
	if n.sctp != nil || log.Len() != 0 {
		t.Errorf("not asked for: %v, %s", n.sctp, log.String())
	}
	n.cfg.GIST.SCTP = true
	n.openSCTP()
	has := transport.SCTPAvailable() == nil
	if (n.sctp != nil) != has || strings.Contains(log.String(), "associations go over TCP only") == has {
		t.Errorf("the kernel has SCTP: %v; the node: %v, %s", has, n.sctp, log.String())
	}
}
