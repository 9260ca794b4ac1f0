// Package dissect turns a GIST message with what it carries, QoS-NSLP and QSPEC,
// into named fields, to be written as text or JSON. What the octets mean is said
// by gist/wire, qosnslp/wire and qspec; the names and their order by this
// package alone.
package dissect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/capture"
	nslp "github.com/interqos/interqos/qosnslp/wire"
	"github.com/interqos/interqos/qspec"
)

// Field is a name and a value: string, bool, a number, hexBytes, Fields,
// []Fields, a list of scalars, or a qspec.QSPEC.
type Field struct {
	Key   string
	Value any
}

// Fields keep their order.
type Fields []Field

func (f *Fields) add(key string, v any) { *f = append(*f, Field{key, v}) }

// hexBytes are octets that are written in hexadecimal.
type hexBytes []byte

func (h hexBytes) String() string { return hex.EncodeToString(h) }

// Object is one object of GIST or QoS-NSLP.
type Object struct {
	Name   string
	Type   uint16
	Action uint8  // the A and B bits
	Offset int    // of its header, from its message's common header on
	Length int    // of its value, octets
	Value  Fields // one field named like the object; none: not understood
	Err    error
}

// Message is a message taken apart.
type Message struct {
	Event capture.Event
	// HasHeader is false for what is shorter than a common header, or no GIST.
	HasHeader bool
	Header    wire.Header
	Objects   []Object
	Err       error // what gist/wire says of it; nil: nothing is wrong

	// NSLP is what it carries if that is QoS-NSLP; see HasNSLP.
	HasNSLP bool
	NSLP    nslp.Message
	NSLPErr error
	Inner   []Object
	QSPECs  []QSPEC

	HasSID bool
	SID    wire.SID
}

// QSPEC is one QSPEC object.
type QSPEC struct {
	Octets []byte
	QSPEC  qspec.QSPEC
	Err    error
}

// QoSNSLPID says whether an NSLPID is QoS-NSLP: 1 to 32 are its aggregation
// levels 0 to 31 (RFC 5974 §6.6).
func QoSNSLPID(id wire.NSLPID) bool { return id >= 1 && id <= 32 }

// GIST takes an event's message apart. It goes on where something is wrong, so
// that a malformed message is shown as far as it can be read.
func GIST(e capture.Event) Message {
	m := Message{Event: e}
	octets := e.Octets
	var parsed wire.Message
	if e.DMode() {
		parsed, m.Err = wire.ParseDatagram(octets)
		octets = octets[min(len(octets), wire.MagicLen):]
	} else {
		parsed, m.Err = wire.Parse(octets)
	}
	notGIST := errors.Is(m.Err, wire.ErrNotGIST)
	if e.Missing > 0 {
		m.Err = fmt.Errorf("%d octets of the message are not in the capture", e.Missing)
	}
	if notGIST {
		return m
	}
	h, err := wire.ParseHeader(octets)
	if err != nil {
		return m
	}
	m.HasHeader, m.Header = true, h
	if parsed.HasSID {
		m.HasSID, m.SID = true, parsed.SID
	}
	if h.Version != wire.Version1 {
		return m
	}
	for o := range wire.Objects(octets) {
		m.Objects = append(m.Objects, gistObject(o))
		if o.Type == wire.ObjNSLPData && !m.HasNSLP && QoSNSLPID(h.NSLPID) && len(o.Value) > 0 {
			m.inner(o.Value)
		}
	}
	return m
}

func (m *Message) inner(b []byte) {
	m.HasNSLP = true
	m.NSLP, m.NSLPErr = nslp.Parse(b)
	for at, o := range nslp.Objects(b) {
		x := Object{Name: o.Type.String(), Type: uint16(o.Type), Action: uint8(o.Action), Offset: at, Length: len(o.Value)}
		x.Value, x.Err = nslpValue(o)
		m.Inner = append(m.Inner, x)
		if o.Type == nslp.TypeQSPEC {
			q := QSPEC{Octets: o.Value}
			q.QSPEC, q.Err = qspec.Parse(o.Value)
			m.QSPECs = append(m.QSPECs, q)
		}
	}
}

// Malformed says whether anything of the message could not be read.
func (m *Message) Malformed() bool {
	if m.Err != nil || m.NSLPErr != nil {
		return true
	}
	for i := range m.QSPECs {
		if m.QSPECs[i].Err != nil {
			return true
		}
	}
	return false
}

// flat returns the message's fields under the names that JSON has.
func (m *Message) flat() Fields {
	e := &m.Event
	f := Fields{{"frame", e.Frame}, {"time", e.Time.Format(time.RFC3339Nano)}, {"transport", string(e.Transport)},
		{"from", e.From.String()}, {"to", e.To.String()}, {"offset", e.Offset}}
	if e.DMode() {
		f.add("ip.ttl", e.TTL)
		if e.RouterAlert >= 0 {
			f.add("ip.router_alert", e.RouterAlert)
		}
	}
	if m.HasHeader {
		h := &m.Header
		f.add("gist.type", h.Type.String())
		f.add("gist.version", h.Version)
		f.add("gist.hops", h.HopCount)
		f.add("gist.length", h.Words)
		f.add("gist.nslpid", h.NSLPID)
		f.add("gist.flags", Fields{{"c", h.C}, {"s", h.S}, {"r", h.R}, {"e", h.E}})
		f.add("gist.objects", objectList(m.Objects))
	}
	if m.Err != nil {
		f.add("gist.error", m.Err.Error())
	}
	if m.Err != nil && len(m.Objects) == 0 {
		f.add("gist.octets", hexBytes(e.Octets[:min(len(e.Octets), maxShown)]))
	}
	if m.HasNSLP {
		m.flatNSLP(&f)
	}
	return f
}

// maxShown is how many octets of what is not understood are shown.
const maxShown = 256

func (m *Message) flatNSLP(f *Fields) {
	f.add("nslp.type", m.NSLP.Type.String())
	f.add("nslp.flags", nslpFlags(&m.NSLP))
	f.add("nslp.objects", objectList(m.Inner))
	if m.NSLPErr != nil {
		f.add("nslp.error", m.NSLPErr.Error())
	}
	for i, q := range m.QSPECs {
		key := "qspec"
		if i > 0 {
			key = fmt.Sprintf("qspec%d", i+1)
		}
		if q.Err != nil {
			f.add(key, Fields{{"error", q.Err.Error()}, {"octets", hexBytes(q.Octets)}})
		} else {
			f.add(key, q.QSPEC)
		}
	}
}

func objectList(list []Object) []Fields {
	out := make([]Fields, 0, len(list))
	for _, o := range list {
		f := Fields{{"name", o.Name}, {"type", o.Type}, {"ab", o.Action}, {"offset", o.Offset}, {"length", o.Length}}
		f = append(f, o.Value...)
		if o.Err != nil {
			f.add("error", o.Err.Error())
		}
		out = append(out, f)
	}
	return out
}
