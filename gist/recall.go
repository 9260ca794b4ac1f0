package gist

import (
	"github.com/interqos/interqos/gist/wire"
)

// Most Data of a session begin with the same octets as the one before: those
// that name its routing state. What was found out about them once holds until
// routing state of the session comes or goes, and need not be parsed and looked
// up again. All rules for the message and its routing state are applied all the
// same: what is remembered is what the octets mean, and nothing else.

// recallSlots bounds what is remembered, to some 60 KB. Sessions that share a slot
// are remembered in turn.
const recallSlots = 256 // a power of two

// recall remembers the heads of Data. Its zero value remembers nothing.
type recall struct {
	last  *recalled // used last; nil: none, or it is forgotten
	slots [recallSlots]*recalled
	seen  [recallSlots]uint32 // hash of the last session that wanted the slot
}

// recalled are the heads of the Data of one routing state.
type recalled struct {
	r   *routing      // nil: of none any more
	in  wire.DataHead // of those that name r, and no other of the same session
	out wire.DataHead
}

// find returns what is remembered under a hash; nil: nothing.
func (c *recall) find(hash uint32) *recalled {
	if h := c.slots[hash%recallSlots]; h != nil && h.r != nil {
		return h
	}
	return nil
}

func (r *routing) hash() uint32 { return r.sid.Hash(r.mri.Upstream) }

// slot returns where the heads of r's Data are kept, from its second message in a
// row on: sessions of one message each do not push others out, and cost nothing.
// Nil: nowhere.
func (c *recall) slot(r *routing) *recalled {
	if h := c.last; h != nil && h.r == r {
		return h
	}
	hash := r.hash()
	i := hash % recallSlots
	h := c.slots[i]
	switch {
	case h != nil && h.r == r:
		return h
	case c.seen[i] != hash:
		c.seen[i] = hash
		return nil
	case h == nil:
		h = new(recalled)
		c.slots[i] = h
	}
	*h = recalled{r: r}
	return h
}

// forget is called when r goes, or is called otherwise in messages. A new state
// cannot be called as r is, but by a NAT: see setNAT.
func (c *recall) forget(r *routing) {
	c.last = nil
	if h := c.slots[r.hash()%recallSlots]; h != nil && h.r == r {
		*h = recalled{}
	}
}

// forgetSession is forget for all states of a session.
func (m *Machine) forgetSession(sid wire.SID) {
	for r := m.sessions[sid]; r != nil; r = r.next {
		m.recall.forget(r)
	}
}

// recallData makes m.in the message, if it is Data that begins like another one
// before, and returns the routing state that stateBack would find for it.
func (m *Machine) recallData(payload []byte) *routing {
	c := &m.recall
	if h := c.last; h != nil && m.inOf == h { // all but hop count and data stand in m.in already
		if data, ok := h.in.Match(payload); ok {
			m.in.HopCount, m.in.Words, m.in.NSLPData = payload[wire.HopCountOffset], uint16((len(payload)-wire.HeaderLen)/4), data
			return h.r
		}
	}
	// By the direction in which it is sent; the state is for the other one.
	h := c.find(wire.DataHash(payload) ^ 1)
	if h == nil {
		return nil
	}
	data, ok := h.in.Match(payload)
	if !ok {
		return nil
	}
	header, _ := wire.ParseHeader(payload) // it is there
	m.in.SetData(header, h.r.mri.Reverse(), h.r.sid, data)
	m.inOf, c.last = h, h
	return h.r
}

// learnData remembers how the Data in m.in begins, which stateBack has found r for.
// A session's states that only a NAT or the peer tells apart are left out.
func (m *Machine) learnData(r *routing, o *origin) {
	if o.ma == nil || r == nil || r.nat != nil {
		return
	}
	h := m.recall.slot(r)
	if h == nil {
		return
	}
	for x := m.sessions[r.sid]; x != nil; x = x.next {
		if x != r && x.nslp == r.nslp && *x.onWire() == r.mri {
			return
		}
	}
	m.inOf = nil // what stands there has the old head
	h.in.Set(o.payload)
}

// encodeData is encode for Data by r's state over its association.
func (m *Machine) encodeData(r *routing, out *outMsg) []byte {
	h := m.recall.slot(r)
	if h != nil {
		start := len(m.encoded)
		if b, ok := h.out.Append(m.encoded, out.hop, out.data); ok {
			m.encoded = b
			return b[start:len(b):len(b)]
		}
	}
	b := m.encode(m.dataMessage(r.nslp, r.sid, r.onWire(), out))
	if h != nil && b != nil {
		h.out.Set(b)
	}
	return b
}
