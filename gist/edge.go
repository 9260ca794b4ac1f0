package gist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// EdgeConfig is what an Edge is made with.
type EdgeConfig struct {
	// Identity is the edge's Peer-Identity, in the Error messages that it sends.
	Identity []byte
	// Internal is the edge's address towards the QNEs that it serves, External
	// the one on its border interface.
	Internal, External netip.Addr
	// Port is GIST's UDP port on every node. 0: 270.
	Port uint16
	// Neighbor is the BGP neighbour on the border interface, of NeighborAS.
	Neighbor   netip.Addr
	NeighborAS uint32
	// QNEs are the inter-domain QNEs served; what comes from outside goes to
	// the first.
	QNEs []netip.Addr
	// ForwardingCheck says whether the forwarding table would send the flow
	// of mri out to Neighbor. Nil: always.
	ForwardingCheck func(mri wire.MRI) bool
	// IngressFilter says whether packets from all of source may arrive from
	// Neighbor, where the Query did (RFC 5971 §5.8.1.2). Nil: always.
	IngressFilter func(source netip.Prefix, at Ingress) bool
	// Rate is how many Queries per second are relayed in either direction on
	// the mean, at most Burst at once. 0: 10,000 and 1,000.
	Rate, Burst int
	// ErrorRate is likewise for Error messages. 0: 100 and 20.
	ErrorRate, ErrorBurst int
}

// Edge is a border edge's relay for Queries of the Off-Path MRM: between the
// QNEs of its own domain and one neighbour. It keeps no state of any session.
// It is used from one goroutine.
type Edge struct {
	cfg       EdgeConfig
	base      time.Time
	started   bool
	now       instant
	out       []Action
	msg       wire.Message
	rates     [2]bucket // outbound, inbound
	errRate   bucket
	farRate   bucket // Queries with a wrong IP TTL looked at
	stats     EdgeStats
	fromInner bool
}

// EdgeStats counts what an Edge did.
type EdgeStats struct {
	Out, In, Dropped, Errors uint64
}

// NewEdge makes an Edge, or says what its EdgeConfig lacks.
func NewEdge(cfg EdgeConfig) (*Edge, error) {
	switch {
	case len(cfg.Identity) == 0 || len(cfg.Identity) > 255:
		return nil, fmt.Errorf("gist: edge: Identity has %d octets, want 1 to 255", len(cfg.Identity))
	case !cfg.Internal.IsValid() || !cfg.External.IsValid() || !cfg.Neighbor.IsValid():
		return nil, errors.New("gist: edge: Internal, External and Neighbor must be set")
	case cfg.Internal == cfg.External:
		return nil, fmt.Errorf("gist: edge: Internal and External are both %v", cfg.Internal)
	case cfg.Internal.Is4In6() || cfg.External.Is4In6() || cfg.Neighbor.Is4In6():
		return nil, errors.New("gist: edge: an IPv4 address in IPv6 form: want it as IPv4")
	case cfg.External.Is4() != cfg.Neighbor.Is4():
		return nil, fmt.Errorf("gist: edge: External %v and Neighbor %v differ in IP version", cfg.External, cfg.Neighbor)
	case len(cfg.QNEs) == 0:
		return nil, errors.New("gist: edge: QNEs is empty: want the QNE that serves this edge")
	}
	for _, q := range cfg.QNEs {
		if q.Is4() != cfg.Internal.Is4() {
			return nil, fmt.Errorf("gist: edge: Internal %v and QNE %v differ in IP version", cfg.Internal, q)
		}
	}
	cfg.Identity, cfg.QNEs = slices.Clone(cfg.Identity), slices.Clone(cfg.QNEs)
	or(&cfg.Port, DefaultPort)
	or(&cfg.Rate, 10_000)
	or(&cfg.Burst, 1_000)
	or(&cfg.ErrorRate, 100)
	or(&cfg.ErrorBurst, 20)
	return &Edge{cfg: cfg}, nil
}

// Stats returns the counts.
func (e *Edge) Stats() EdgeStats { return e.stats }

// Handle takes a datagram that arrived at GIST's port, on the inside or on the
// border interface, and returns what must be done: one datagram at most, and
// Notes. The slice is used again at the next call.
func (e *Edge) Handle(now time.Time, d Datagram, onInternal bool) []Action {
	if !e.started {
		e.started, e.base = true, now
	}
	e.now = max(e.now, int64(now.Sub(e.base)))
	clear(e.out)
	e.out = e.out[:0]
	e.fromInner = onInternal
	d.Local, d.From = unmapped(d.Local), unmapped(d.From)
	if onInternal {
		e.outbound(&d)
	} else {
		e.inbound(&d)
	}
	return e.out
}

func (e *Edge) drop(kind string, d *Datagram, detail string) {
	e.stats.Dropped++
	e.out = append(e.out, Note{Kind: kind, Remote: d.From, Detail: detail})
}

// isQuery says, from the common header alone, whether d is a Query: nothing
// else is relayed, and nothing else costs more than this.
func (e *Edge) isQuery(d *Datagram) bool {
	if len(d.Payload) < wire.MagicLen || binary.BigEndian.Uint32(d.Payload) != wire.MagicNumber {
		e.drop("not-gist", d, "no magic number")
		return false
	}
	h, err := wire.ParseHeader(d.Payload[wire.MagicLen:])
	if err != nil || h.Version != wire.Version1 || h.Type != wire.Query {
		e.drop("not-relayed", d, "not a Query")
		return false
	}
	return true
}

// parse reads the Query; what is malformed or of another method is dropped.
func (e *Edge) parse(d *Datagram) bool {
	if err := e.msg.DecodeDatagram(d.Payload); err != nil {
		e.drop("malformed", d, err.Error())
		return false
	}
	switch {
	case e.msg.MRI.Method != wire.OffPath:
		e.drop("not-relayed", d, "not of the Off-Path MRM")
	case e.msg.MRI.Upstream:
		e.drop("upstream-query", d, "Off-Path Queries with D=1 are not relayed")
	default:
		return true
	}
	return false
}

// outbound is step 2 of the discovery: a QNE of ours asks for the next domain.
func (e *Edge) outbound(d *Datagram) {
	c := &e.cfg
	if !slices.Contains(c.QNEs, d.From.Addr()) {
		e.drop("stranger", d, "not a QNE that this edge serves")
		return
	}
	if !e.isQuery(d) || !e.within(0, d) || !e.parse(d) {
		return
	}
	if d.From.Port() != c.Port {
		e.drop("source-port", d, fmt.Sprintf("port %d cannot be kept, want %d", d.From.Port(), c.Port))
		return
	}
	mri := &e.msg.MRI
	switch {
	case mri.Ingress.IsValid() && mri.Ingress != c.Neighbor:
		e.refuseMRI(d, mriIngress, "Ingress Address is not the neighbour on this edge's border")
		return
	case mri.Egress.IsValid() && mri.Egress != c.External:
		e.refuseMRI(d, mriEgress, "Egress Address is not this edge's border interface")
		return
	case c.ForwardingCheck != nil && !c.ForwardingCheck(*mri):
		e.refuseMRI(d, mriDestinationPrefix, "the flow does not leave the domain here")
		return
	}
	to := mri.Ingress
	if !to.IsValid() {
		to = mri.Flow.Destination.Addr()
	}
	if to.Is4() != c.External.Is4() {
		e.refuse(d, wire.IPVersionMismatch, []wire.AdditionalInfo{mriInfo(mri, mriFlags)}, "the flow's IP version is not the interface's")
		return
	}
	if e.relay(d, c.External, netip.AddrPortFrom(to, c.Port), 255, true) {
		e.stats.Out++
	}
}

// inbound is step 3: the neighbour's edge asks for our QNE.
func (e *Edge) inbound(d *Datagram) {
	c := &e.cfg
	if d.From.Addr() != c.Neighbor {
		e.drop("stranger", d, "not the configured neighbour")
		return
	}
	if !e.isQuery(d) {
		return
	}
	if d.TTL != 255 {
		// From further away, whoever it says that it is: it costs the neighbour
		// nothing of its rate, neither of Queries nor of Errors.
		if !e.farRate.take(e.now, c.ErrorRate, c.ErrorBurst) {
			e.drop("rate-limited", d, fmt.Sprintf("IP TTL %d, want 255", d.TTL))
		} else if e.parse(d) {
			e.refuse(d, wire.InvalidIPTTL, nil, fmt.Sprintf("IP TTL %d, want 255", d.TTL))
		}
		return
	}
	if !e.within(1, d) || !e.parse(d) {
		return
	}
	mri := &e.msg.MRI
	switch {
	case mri.Flow.Source.Addr().Is4() != c.External.Is4():
		e.refuse(d, wire.IPVersionMismatch, []wire.AdditionalInfo{mriInfo(mri, mriFlags)}, "the flow's IP version is not the interface's")
		return
	case mri.Ingress.IsValid() && mri.Ingress != c.External:
		e.refuseMRI(d, mriIngress, "Ingress Address is not this edge's border interface")
		return
	case mri.Egress.IsValid() && mri.Egress != c.Neighbor:
		e.refuseMRI(d, mriEgress, "Egress Address is not the neighbour's")
		return
	case c.IngressFilter != nil && !c.IngressFilter(mri.Flow.Source.Masked(), Ingress{Local: d.Local, From: d.From, Interface: d.Interface}):
		e.refuseMRI(d, mriSource, "the flow's source would not pass the ingress filter")
		return
	}
	if e.relay(d, c.Internal, netip.AddrPortFrom(c.QNEs[0], c.Port), 0, false) {
		e.stats.In++
	}
}

// within is the rate limit of a direction: "mean N per second".
func (e *Edge) within(direction int, d *Datagram) bool {
	if e.rates[direction].take(e.now, e.cfg.Rate, e.cfg.Burst) {
		return true
	}
	e.drop("rate-limited", d, "Queries with this neighbour")
	return false
}

// relay sends the Query on with its hop count decremented: a node that forwards
// a Query "MUST NOT modify it except in the GIST hop count" (RFC 5971 §4.3.2).
func (e *Edge) relay(d *Datagram, local netip.Addr, to netip.AddrPort, ttl uint8, alert bool) bool {
	if e.msg.HopCount <= 1 { // RFC 5971 §4.3.4: zero once decremented
		e.refuse(d, wire.HopLimitExceeded, nil, "the hop count ends here")
		return false
	}
	b := slices.Clone(d.Payload)
	b[wire.MagicLen+wire.HopCountOffset]--
	e.out = append(e.out, SendDatagram{Local: local, To: to, TTL: ttl, RouterAlert: alert, Payload: b})
	return true
}

func (e *Edge) refuseMRI(d *Datagram, part mriPart, why string) {
	e.refuse(d, wire.IngressFilterFailure, []wire.AdditionalInfo{mriInfo(&e.msg.MRI, part)}, why)
}

// refuse drops the Query and says why to the node that its NLI names. RFC 5971
// §5.6: in D-mode, with the edge's own NLI.
func (e *Edge) refuse(d *Datagram, id wire.ErrorID, info []wire.AdditionalInfo, why string) {
	c := &e.cfg
	e.drop("refused", d, id.String()+": "+why)
	near := e.fromInner || d.TTL == 255 // else farRate has let it through
	if near && !e.errRate.take(e.now, c.ErrorRate, c.ErrorBurst) {
		e.out = append(e.out, Note{Kind: "error-rate-limited", Remote: d.From, Detail: id.String()})
		return
	}
	local := c.External
	if e.fromInner {
		local = c.Internal
	}
	q := &e.msg
	to := q.NLI.Address
	if e.fromInner && to.Is4() != local.Is4() {
		to = d.From.Addr() // our own QNE, which its peers know by the other IP version
	}
	if to.Is4() != local.Is4() {
		e.out = append(e.out, Note{Kind: "error-unaddressable", Remote: d.From, Detail: q.NLI.Address.String()})
		return
	}
	report := wire.Message{
		Header: wire.Header{HopCount: DefaultHopCount, Type: wire.Error, S: true},
		HasNLI: true, NATTraversal: q.NATTraversal,
		NLI: wire.NLI{PeerIdentity: c.Identity, Address: local, ValidityMS: toMS(DefaultValidityOffPath)},
		Error: &wire.ErrorData{
			ID: id, DMode: true, QMode: true, Header: q.Header, Info: info, Comment: why,
			HasSID: true, SID: q.SID, HasMRI: true, MRI: q.MRI,
		},
	}
	e.stats.Errors++
	e.out = append(e.out, SendDatagram{
		Local: local, To: netip.AddrPortFrom(to, c.Port), Payload: report.AppendDatagram(nil),
	})
}
