package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// migrate brings a file to the schema of this program, in one transaction. What
// is not new (0) is copied first, to the file's path with ".schema" and its number.
func (b *Bolt) migrate(from uint32) error {
	if from != 0 {
		if err := b.keepCopy(fmt.Sprintf("%s.schema%d", b.db.Path(), from)); err != nil {
			return err
		}
	}
	return b.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketSLS, bucketRecords, bucketHistory, bucketTentative} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if from == 1 { // the history begins with what there is
			if err := tx.Bucket(bucketSLS).ForEach(func(id, data []byte) error { return remember(tx, string(id), data) }); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keySchema, binary.BigEndian.AppendUint32(nil, schema))
	})
}

// keepCopy writes the file as it is to another one, which is whole or not there.
func (b *Bolt) keepCopy(path string) error {
	return whole(path, func(f *os.File) error {
		return b.db.View(func(tx *bolt.Tx) error {
			_, err := tx.WriteTo(f)
			return err
		})
	})
}

// whole makes a file that has all that write gives it, durably, or is not there.
func whole(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("store: %w", err), remains(f.Name()))
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func remains(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Restore makes the file of a store from what Backup wrote. It does not touch a
// file that is there; what is no backup leaves nothing behind, and is ErrCorrupt
// or ErrSchema.
func Restore(path string, backup io.Reader) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("store: %s is there already; move it away first", path), err)
	}
	checked := func(f *os.File) error {
		if _, err := io.Copy(f, backup); err != nil {
			return err
		}
		_, err := Inspect(f.Name())
		return err
	}
	return whole(path, checked)
}

// remember adds an SLS to its history, unless it is what was added last.
func remember(tx *bolt.Tx, id string, data []byte) error {
	h := tx.Bucket(bucketHistory)
	prefix := historyKey(id)
	var keys [][]byte
	var last []byte
	c := h.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		keys, last = append(keys, bytes.Clone(k)), v
	}
	if bytes.Equal(last, data) {
		return nil
	}
	for len(keys) >= MaxHistory {
		if err := h.Delete(keys[0]); err != nil {
			return err
		}
		keys = keys[1:]
	}
	n, err := h.NextSequence()
	if err != nil {
		return err
	}
	return h.Put(binary.BigEndian.AppendUint64(prefix, n), data)
}

// historyKey is what the keys of an id's history begin with; no id has a 0.
func historyKey(id string) []byte { return append([]byte(id), 0) }
