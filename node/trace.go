package node

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist"
	gistwire "github.com/interqos/interqos/gist/wire"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// traceSize is how many of the latest messages a node remembers.
const traceSize = 1 << 13

// trace remembers the latest messages that the node sent, as octets; what they
// say is worked out only when somebody asks.
type trace struct {
	mu      sync.Mutex
	entries [traceSize]traceEntry
	next    uint64
}

type traceEntry struct {
	at       time.Time
	from, to netip.AddrPort
	stream   bool // a connection; otherwise a datagram
	stack    gist.Stack
	edge     string
	payload  []byte
}

func (t *trace) add(e traceEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := &t.entries[t.next%traceSize]
	t.next++
	old := slot.payload[:0] // the octets are somebody else's
	if cap(old) > 4*len(e.payload)+256 {
		old = nil
	}
	e.payload = append(old, e.payload...)
	*slot = e
}

// session returns what was sent for one session, oldest first.
func (t *trace) session(as uint32, sid gistwire.SID) []*api.TraceEvent {
	t.mu.Lock()
	first := uint64(0)
	if t.next > traceSize {
		first = t.next - traceSize
	}
	var entries []traceEntry
	var numbers []uint64
	for i := first; i < t.next; i++ {
		if e := t.entries[i%traceSize]; e.is(sid) {
			e.payload = slices.Clone(e.payload)
			entries, numbers = append(entries, e), append(numbers, i)
		}
	}
	t.mu.Unlock()

	var events []*api.TraceEvent
	for i := range entries {
		e := &entries[i]
		if ev := e.event(as, numbers[i]); ev != nil {
			events = append(events, ev)
		}
	}
	return events
}

// event is what a person sees of it; nil: it is no message.
func (e *traceEntry) event(as uint32, number uint64) *api.TraceEvent {
	m, err := e.parse()
	if err != nil {
		return nil
	}
	ev := &api.TraceEvent{
		TimeNs: e.at.UnixNano(), As: as, Seq: number,
		From: e.from.String(), To: e.to.String(), Transport: "udp",
		Direction: api.TraceEvent_SENT, Node: "qne",
	}
	switch {
	case e.stream && e.stack.Secure():
		ev.Transport = "tls"
	case e.stream:
		ev.Transport = "tcp"
	}
	if e.edge != "" {
		ev.Node = e.edge
	}
	ev.Layer, ev.Message, ev.Note = describe(&m)
	return ev
}

// is says whether the message is one of session sid.
func (e *traceEntry) is(sid gistwire.SID) bool {
	found, ok := e.sid()
	return ok && found == sid
}

func (e *traceEntry) sid() (gistwire.SID, bool) {
	if e.stream {
		return gistwire.MessageSID(e.payload)
	}
	return gistwire.PeekSID(e.payload)
}

func (e *traceEntry) parse() (gistwire.Message, error) {
	if e.stream {
		return gistwire.Parse(e.payload)
	}
	return gistwire.ParseDatagram(e.payload)
}

// describe names a message the way that a person would in a ladder diagram.
func describe(m *gistwire.Message) (layer, message, note string) {
	if len(m.NSLPData) == 0 {
		return "GIST", m.Type.String(), ""
	}
	n, err := nslpwire.Parse(m.NSLPData)
	if err != nil {
		return "QoS-NSLP", fmt.Sprintf("%v{?}", m.Type), err.Error()
	}
	name := n.Type.String()
	switch {
	case n.Tears():
		name = "RESERVE TEAR"
	case n.Type == nslpwire.Reserve && n.QSPEC == nil:
		name = "RESERVE refresh"
	}
	if n.HasRSN {
		note = fmt.Sprintf("RSN %d", n.RSN.Number)
	}
	if n.HasInfoSpec {
		note = n.InfoSpec.String()
	}
	if n.QSPEC != nil {
		if q, err := qspec.Parse(n.QSPEC); err == nil {
			note += "; " + q.String()
		}
	}
	return "QoS-NSLP", fmt.Sprintf("%v{%s}", m.Type, name), note
}
