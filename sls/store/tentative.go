package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/interqos/interqos/sls"
)

// entry is what the history keeps of an event that an SLS alone does not tell.
type entry struct {
	Event string    `json:"event"` // "tentative", "confirmed" or "deleted"
	SLS   sls.SLS   `json:"sls"`
	By    string    `json:"by,omitempty"`
	At    time.Time `json:"at,omitzero"`
	Why   string    `json:"why,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// tentative is the stored form of a Tentative.
type tentative struct {
	SLS    sls.SLS   `json:"sls"`
	Former *sls.SLS  `json:"former,omitempty"`
	Until  time.Time `json:"until"`
}

// PutSLS implements Store.
func (b *Bolt) PutSLS(s sls.SLS, done func(error)) {
	data, err := json.Marshal(s)
	if err != nil || s.ID == "" {
		finish(done, fmt.Errorf("%w: SLS %q: %w", ErrRecord, s.ID, errors.Join(err)))
		return
	}
	b.enqueue(write{kind: putSLS, sls: s.ID, data: data, done: done})
}

// PutTentative implements Store.
func (b *Bolt) PutTentative(t Tentative, done func(error)) {
	data, err := json.Marshal(t.SLS)
	more, err2 := json.Marshal(tentative(t))
	if err = errors.Join(err, err2); err != nil || t.SLS.ID == "" {
		finish(done, fmt.Errorf("%w: SLS %q: %w", ErrRecord, t.SLS.ID, errors.Join(err)))
		return
	}
	b.enqueue(write{kind: putSLS, sls: t.SLS.ID, data: data, more: more, done: done})
}

// ConfirmSLS implements Store.
func (b *Bolt) ConfirmSLS(id string, n Note, done func(error)) {
	b.enqueueNoted(write{kind: confirmSLS, sls: id, done: done}, n)
}

// DeleteSLS implements Store.
func (b *Bolt) DeleteSLS(id string, n Note, done func(error)) {
	b.enqueueNoted(write{kind: deleteSLS, sls: id, done: done}, n)
}

func (b *Bolt) enqueueNoted(w write, n Note) {
	var err error
	if w.more, err = json.Marshal(n); err != nil { // a time that no calendar has
		finish(w.done, fmt.Errorf("%w: SLS %q: %w", ErrRecord, w.sls, err))
		return
	}
	b.enqueue(w)
}

func (c *change) putSLS(w *write) error {
	c.slss[w.sls], c.wrote = true, true
	id, event, t := []byte(w.sls), w.data, c.tx.Bucket(bucketTentative)
	var err error
	if w.more == nil {
		err = t.Delete(id)
	} else {
		var x tentative
		if err = json.Unmarshal(w.more, &x); err == nil {
			event, err = json.Marshal(entry{Event: "tentative", SLS: x.SLS, Until: x.Until})
		}
		err = errors.Join(err, t.Put(id, w.more))
	}
	if err == nil {
		err = remember(c.tx, w.sls, event)
	}
	return errors.Join(err, c.tx.Bucket(bucketSLS).Put(id, w.data))
}

func (c *change) confirmSLS(w *write) error {
	t := c.tx.Bucket(bucketTentative)
	if t.Get([]byte(w.sls)) == nil {
		return nil
	}
	c.wrote = true
	return errors.Join(c.note(w, "confirmed"), t.Delete([]byte(w.sls)))
}

func (c *change) deleteSLS(w *write) error {
	c.slss[w.sls] = false
	if c.tx.Bucket(bucketSLS).Get([]byte(w.sls)) == nil {
		return nil
	}
	c.wrote = true
	return errors.Join(c.note(w, "deleted"), c.tx.Bucket(bucketTentative).Delete([]byte(w.sls)), c.tx.Bucket(bucketSLS).Delete([]byte(w.sls)))
}

// note remembers an event of an SLS that is there.
func (c *change) note(w *write, event string) error {
	e := entry{Event: event}
	var n Note
	err := errors.Join(e.SLS.UnmarshalJSON(c.tx.Bucket(bucketSLS).Get([]byte(w.sls))), json.Unmarshal(w.more, &n))
	if err != nil {
		return fmt.Errorf("%w: SLS %q: %w", ErrCorrupt, w.sls, err)
	}
	e.By, e.At, e.Why = n.By, n.At, n.Why
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return remember(c.tx, w.sls, data)
}

// Tentative implements Store.
func (b *Bolt) Tentative() (all []Tentative, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketTentative).ForEach(func(id, v []byte) error {
			var t tentative
			if err := json.Unmarshal(v, &t); err != nil {
				return fmt.Errorf("%w: tentative change of SLS %q: %w", ErrCorrupt, id, err)
			}
			all = append(all, Tentative(t))
			return nil
		})
	})
	return all, closed(err)
}

// History implements Store.
func (b *Bolt) History(id string) (list []Change, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		prefix := historyKey(id)
		c := tx.Bucket(bucketHistory).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			x, err := parseChange(v)
			if err != nil {
				return fmt.Errorf("%w: history of SLS %q: %w", ErrCorrupt, id, err)
			}
			list = append(list, x)
		}
		return nil
	})
	return list, closed(err)
}

// parseChange reads an entry of a history: an SLS as it was applied, or an entry.
func parseChange(data []byte) (Change, error) {
	var kind struct {
		Event string `json:"event"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return Change{}, err
	}
	var e entry
	c := Change{}
	switch kind.Event {
	case "":
		if err := c.SLS.UnmarshalJSON(data); err != nil {
			return Change{}, err
		}
		c.Note = Note{By: c.SLS.ChangedBy, At: c.SLS.ChangedAt, Why: c.SLS.ChangedWhy}
		return c, nil
	case "tentative":
		c.Event = Applied
	case "confirmed":
		c.Event = Confirmed
	case "deleted":
		c.Event = Deleted
	default:
		return Change{}, fmt.Errorf("event %q; expected tentative, confirmed or deleted", kind.Event)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return Change{}, err
	}
	c.SLS, c.Until, c.Note = e.SLS, e.Until, Note{By: e.By, At: e.At, Why: e.Why}
	if c.Event == Applied {
		c.Note = Note{By: e.SLS.ChangedBy, At: e.SLS.ChangedAt, Why: e.SLS.ChangedWhy}
	}
	return c, nil
}
