package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/interqos/interqos/sls/store"
)

// Backup writes the store as of now to w, which may be slow: what is read is a
// copy beside the store, so that the store never waits for w.
func (n *Node) Backup(ctx context.Context, w io.Writer) (err error) {
	f, err := os.CreateTemp(filepath.Dir(n.cfg.Store.Path), ".backup-*")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil { // no crash leaves it behind
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := n.store.Backup(f); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return ctx.Err()
}

// RestoreStore makes the store of a configuration from what Backup wrote. It
// touches no file that is there, and so not the store of a qned that runs.
func RestoreStore(cfg *Config, backup io.Reader) (store.Contents, error) {
	if err := store.Restore(cfg.Store.Path, backup); err != nil {
		return store.Contents{}, err
	}
	return store.Inspect(cfg.Store.Path)
}
