package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// fileSystems names the ones that are often met, by the magic number that
// statfs gives.
var fileSystems = map[int64]string{
	0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x794C7630: "overlayfs", 0x2FC12FC1: "zfs", 0xF2F52010: "f2fs",
}

const tmpfs, ramfs = 0x01021994, 0x858458F6

// describeDisk prints the file system and what a synchronous write costs there.
// Memory is refused: it would make durable commits look free.
func describeDisk(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	magic := int64(st.Type) //nolint:unconvert // it has 32 bits on some machines
	if magic == tmpfs || magic == ramfs {
		return fmt.Errorf("%s is on tmpfs, where nothing is durable; choose a folder on a disk with -dir", dir)
	}
	name, ok := fileSystems[magic]
	if !ok {
		name = fmt.Sprintf("file system %#x", magic)
	}
	times, err := syncWrites(filepath.Join(dir, "probe"), 200)
	if err != nil {
		return err
	}
	slices.Sort(times)
	fmt.Printf("disk: %s, a synchronous 4 KiB write takes %s (median), %s (99th percentile)\n",
		name, times[len(times)/2].Round(time.Microsecond), times[len(times)*99/100].Round(time.Microsecond))
	return nil
}

func syncWrites(path string, n int) ([]time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(path) // the folder goes, too
	}()
	block := make([]byte, 4096)
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		if _, err := f.WriteAt(block, 0); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		times[i] = time.Since(start)
	}
	return times, nil
}
