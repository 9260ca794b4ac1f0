package soft

import (
	"hash/maphash"
	"iter"
	"math/bits"
)

// A pmap is a persistent hash map (a hash array mapped trie): set and del return
// a new map that shares with the old one all but the path to what changed. The
// plane publishes such a map through an atomic pointer, so that packets read
// without a lock while a change of any size becomes visible in one step and
// costs what changed, not what is there.
//
// Maps made under one owner mutate the nodes made under it in place: a change of
// many entries copies each node once.
type pmap[K comparable, V any] struct {
	root *pnode[K, V]
	size int
}

// owner marks the nodes that a change under way may mutate.
type owner struct{ _ byte }

const (
	pmapBits  = 5
	pmapWidth = 1 << pmapBits
)

type pnode[K comparable, V any] struct {
	owner    *owner
	leafBits uint32 // which of the 32 places hold an entry,
	kidBits  uint32 // and which a node further down
	leaves   []pleaf[K, V]
	kids     []*pnode[K, V]
}

type pleaf[K comparable, V any] struct {
	hash  uint64
	key   K
	value V
}

var seed = maphash.MakeSeed()

func (m pmap[K, V]) get(key K) (V, bool) {
	return m.find(maphash.Comparable(seed, key), key)
}

func (m pmap[K, V]) find(hash uint64, key K) (value V, ok bool) {
	n := m.root
	for rest := hash; n != nil; rest >>= pmapBits {
		bit := uint32(1) << (rest % pmapWidth)
		if n.kidBits&bit != 0 {
			n = n.kids[bits.OnesCount32(n.kidBits&(bit-1))]
			continue
		}
		if n.leafBits&bit != 0 {
			// Past the hash's last bit several entries share a place.
			at := bits.OnesCount32(n.leafBits & (bit - 1))
			for ; at < len(n.leaves) && n.leaves[at].hash == hash; at++ {
				if l := &n.leaves[at]; l.key == key {
					return l.value, true
				}
			}
		}
		break
	}
	return value, false
}

// set returns the map with key's value set.
func (m pmap[K, V]) set(own *owner, key K, value V) pmap[K, V] {
	hash := maphash.Comparable(seed, key)
	root, grew := m.root.set(own, pleaf[K, V]{hash, key, value}, 0)
	if grew {
		m.size++
	}
	m.root = root
	return m
}

// del returns the map without key.
func (m pmap[K, V]) del(own *owner, key K) pmap[K, V] {
	hash := maphash.Comparable(seed, key)
	if _, ok := m.find(hash, key); !ok {
		return m
	}
	m.root = m.root.del(own, hash, key, 0)
	m.size--
	return m
}

// all ranges over the entries, in no order.
func (m pmap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.walk(yield) }
}

func (n *pnode[K, V]) walk(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.leaves {
		if !yield(n.leaves[i].key, n.leaves[i].value) {
			return false
		}
	}
	for _, kid := range n.kids {
		if !kid.walk(yield) {
			return false
		}
	}
	return true
}

// mine returns n or, if a change other than own's made it, a copy.
func (n *pnode[K, V]) mine(own *owner) *pnode[K, V] {
	if n == nil {
		return &pnode[K, V]{owner: own}
	}
	if n.owner == own {
		return n
	}
	c := *n
	c.owner = own
	c.leaves = append(make([]pleaf[K, V], 0, len(n.leaves)+1), n.leaves...)
	c.kids = append(make([]*pnode[K, V], 0, len(n.kids)+1), n.kids...)
	return &c
}

// deep is the depth at which a hash has no bits left: entries that get there
// have the same hash, and a node there keeps them all under its first place.
const deep = (64 + pmapBits - 1) / pmapBits

func (n *pnode[K, V]) set(own *owner, l pleaf[K, V], depth int) (*pnode[K, V], bool) {
	n = n.mine(own)
	if depth == deep {
		n.leafBits = 1
		for i := range n.leaves {
			if n.leaves[i].key == l.key {
				n.leaves[i] = l
				return n, false
			}
		}
		n.leaves = append(n.leaves, l)
		return n, true
	}
	bit := uint32(1) << (l.hash >> (depth * pmapBits) % pmapWidth)
	leafAt := bits.OnesCount32(n.leafBits & (bit - 1))
	kidAt := bits.OnesCount32(n.kidBits & (bit - 1))
	switch {
	case n.kidBits&bit != 0:
		kid, grew := n.kids[kidAt].set(own, l, depth+1)
		n.kids[kidAt] = kid
		return n, grew
	case n.leafBits&bit == 0:
		n.leafBits |= bit
		n.leaves = insert(n.leaves, leafAt, l)
		return n, true
	case n.leaves[leafAt].key == l.key:
		n.leaves[leafAt] = l
		return n, false
	}
	// Two entries want one place: both move down.
	kid, _ := (*pnode[K, V])(nil).set(own, n.leaves[leafAt], depth+1)
	kid, _ = kid.set(own, l, depth+1)
	n.leafBits &^= bit
	n.leaves = remove(n.leaves, leafAt)
	n.kidBits |= bit
	n.kids = insert(n.kids, kidAt, kid)
	return n, true
}

// del removes an entry that is there.
func (n *pnode[K, V]) del(own *owner, hash uint64, key K, depth int) *pnode[K, V] {
	n = n.mine(own)
	if depth == deep {
		for i := range n.leaves {
			if n.leaves[i].key == key {
				n.leaves = remove(n.leaves, i)
				break
			}
		}
		if len(n.leaves) == 0 {
			return nil
		}
		return n
	}
	bit := uint32(1) << (hash >> (depth * pmapBits) % pmapWidth)
	if n.kidBits&bit == 0 {
		n.leafBits &^= bit
		n.leaves = remove(n.leaves, bits.OnesCount32(n.leafBits&(bit-1)))
	} else {
		kidAt := bits.OnesCount32(n.kidBits & (bit - 1))
		kid := n.kids[kidAt].del(own, hash, key, depth+1)
		switch {
		case kid == nil:
			n.kidBits &^= bit
			n.kids = remove(n.kids, kidAt)
		case len(kid.kids) == 0 && len(kid.leaves) == 1:
			// A single entry moves up, so that depth follows size.
			n.kidBits &^= bit
			n.kids = remove(n.kids, kidAt)
			n.leaves = insert(n.leaves, bits.OnesCount32(n.leafBits&(bit-1)), kid.leaves[0])
			n.leafBits |= bit
		default:
			n.kids[kidAt] = kid
		}
	}
	if len(n.kids) == 0 && len(n.leaves) == 0 {
		return nil
	}
	return n
}

func insert[T any](s []T, at int, v T) []T {
	s = append(s, v)
	copy(s[at+1:], s[at:])
	s[at] = v
	return s
}

func remove[T any](s []T, at int) []T {
	var zero T
	copy(s[at:], s[at+1:])
	s[len(s)-1] = zero
	return s[:len(s)-1]
}
