package node

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// layerDomain is the layer of interdomain's notes.
const layerDomain = "inter-domain"

// counters counts notes by layer and kind. The kinds are constants of the
// cores, so there is a bounded number of them whatever a stranger sends.
type counters struct {
	mu sync.Mutex
	n  map[[2]string]uint64

	warned   float64 // refusals that were warnings, less those that time made up for
	warnedAt time.Time
}

func (c *counters) note(layer, kind string) { c.add(layer, kind, 1) }

func (c *counters) add(layer, kind string, n uint64) {
	c.mu.Lock()
	if c.n == nil {
		c.n = make(map[[2]string]uint64)
	}
	c.n[[2]string{layer, kind}] += n
	c.mu.Unlock()
}

// each calls f for every counter.
func (c *counters) each(f func(layer, kind string, n uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.n {
		f(k[0], k[1], n)
	}
}

// kindNotAuthenticated is TLS that failed over who the peer is.
const kindNotAuthenticated = "not-authenticated"

// refusals are the notes of GIST and its connections that an operator has to
// hear of: a neighbour with a wrong certificate, or an attack.
var refusals = map[string]bool{
	kindNotAuthenticated: true, "not-authorised": true, "association-refused": true,
	"no-common-stack": true, "weaker-association": true, "bad-confirm": true,
}

const (
	warnEvery = time.Second // a refusal is a warning so often, after
	warnBurst = 10          // so many at once; the rest is counted
)

// warns says whether one more refusal may be a warning.
func (c *counters) warns(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warned = max(0, c.warned-max(0, now.Sub(c.warnedAt).Seconds()/warnEvery.Seconds()))
	c.warnedAt = now
	if c.warned+1 > warnBurst {
		return false
	}
	c.warned++
	return true
}

// note counts what a core noted, and logs it. What strangers can cause, at the
// rate at which they send, is for the debug level; what the domain itself
// decides about its neighbours' requests is for everybody. Refusals are
// warnings, a few a second.
func (n *Node) note(layer, kind string, sid wire.SID, remote netip.AddrPort, detail string) {
	n.counts.note(layer, kind)
	level := slog.LevelDebug
	switch {
	case layer == layerDomain:
		level = slog.LevelInfo
	case refusals[kind] && n.counts.warns(time.Now()):
		level = slog.LevelWarn
	}
	if !n.log.Enabled(context.Background(), level) {
		return
	}
	args := []any{"layer", layer, "kind", kind}
	if sid != (wire.SID{}) {
		args = append(args, "session", sid.String())
	}
	if remote.IsValid() {
		args = append(args, "remote", remote.String())
	}
	n.log.Log(context.Background(), level, detail, args...)
}
