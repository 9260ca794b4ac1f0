package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist"
)

// Reload reads the configuration file again and brings into force what can be
// changed in a running node. No state is lost; what needs a restart is named
// and left as it is.
func (n *Node) Reload(ctx context.Context, dryRun bool) (*api.ReloadResponse, error) {
	next, err := Load(n.cfg.File)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n.reload.Lock()
	defer n.reload.Unlock()
	d := Diff(n.running, next)
	resp := &api.ReloadResponse{Applied: d.Live, NeedsRestart: d.Restart}
	if dryRun || d.Empty() {
		return resp, nil
	}
	if err := n.apply(ctx, next); err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if len(d.Restart) > 0 {
		level = slog.LevelWarn // the file and the process differ from now on
	}
	n.log.Log(ctx, level, "configuration reloaded", "applied", d.Live, "needs_restart", d.Restart)
	return resp, nil
}

// apply brings the live parts of next into force. running is a copy that Diff
// compares with; cfg itself, which the loops read, does not change.
func (n *Node) apply(ctx context.Context, next *Config) error {
	ring, err := keyring(next)
	if err != nil {
		return fmt.Errorf("%w: keys: %w", ErrInvalid, err)
	}
	now := Live(n.running, next)
	book, err := newRecordBook(now)
	if err != nil {
		return fmt.Errorf("%w: auth.records: %w", ErrInvalid, err)
	}
	if err := n.replaceTLS(now.GIST.TLS); err != nil {
		return err
	}
	if n.level != nil {
		n.level.Set(now.Log.Level)
	}
	n.admin.Reconfigure(now.Admin)
	peers := peerASs(now)
	n.peers.Store(&peers)
	n.records.Store(book)
	n.peerSockets(n.udp.SetPeers(udpPeers(now)))
	var errs []error
	for _, p := range n.running.BGP.Originate {
		if !slices.Contains(now.BGP.Originate, p) {
			errs = append(errs, n.bgp.Withdraw(p))
		}
	}
	for _, p := range now.BGP.Originate {
		if !slices.Contains(n.running.BGP.Originate, p) {
			errs = append(errs, n.bgp.Originate(p))
		}
	}
	for _, s := range n.shards {
		var refused error
		err := s.call(ctx, func() {
			s.edges = now.Edges
			s.qne.auth.SetKeys(ring)
			s.qne.domain.SetRecordSigner(book.own)
			s.qne.peers, s.qne.sources = peers, sourcesOf(now)
			s.qne.domain.SetBorders(borders(now))
			refused = s.qne.gist.SetEdges(servedEdges(now), directPeers(now))
			// Ends what it no longer allows, with the edges as they are now.
			s.qne.handle(s.now(), gist.SetPeers{Entries: peerEntries(now)})
		})
		errs = append(errs, err, refused)
	}
	n.running = now
	return errors.Join(errs...)
}
