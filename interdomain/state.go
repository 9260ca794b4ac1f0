package interdomain

import (
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/intradomain"
	"github.com/interqos/interqos/qspec"
	"github.com/interqos/interqos/sls"
)

// stateVersion is the first octet of Record.Domain; withoutTimes is the one before
// it, whose reservations are all open-ended.
const withoutTimes = 2

const stateVersion = 3

// encodeDomain writes what this package wants to know of a committed
// reservation after a restart.
func encodeDomain(upstream, downstream uint32, t *Terms) []byte {
	b := make([]byte, 0, 160)
	b = append(b, stateVersion, flags(t), uint8(t.Class), t.Priority, uint8(t.Inside), uint8(t.Excess.Treatment), t.Excess.DSCP)
	b = tlv.AppendU32(b, upstream)
	b = tlv.AppendU32(b, downstream)
	for _, v := range []uint64{t.Rate, t.MinRate, t.Peak, t.Burst} {
		b = tlv.AppendU64(b, v)
	}
	for _, s := range []string{t.SLSIn, t.SLSOut} {
		b = tlv.AppendU16(b, uint16(len(s)))
		b = append(b, s...)
	}
	for _, a := range []netip.Addr{t.PreviousEgress, t.Ingress, t.Egress, t.NextIngress} {
		b = appendAddr(b, a)
	}
	b = appendPrefix(b, t.Flow.Source)
	b = appendPrefix(b, t.Flow.Destination)
	b = append(b, t.Flow.Protocol, t.Flow.DSCP)
	b = tlv.AppendU32(b, t.Flow.FlowLabel)
	b = tlv.AppendU32(b, t.Flow.SPI)
	b = tlv.AppendU16(b, t.Flow.SrcPort)
	b = tlv.AppendU16(b, t.Flow.DstPort)
	b = append(b, uint8(len(t.Times))) // at most sls.MaxIntervals
	for _, x := range t.Times {
		b = tlv.AppendU64(b, uint64(x.Start))
		b = tlv.AppendU64(b, uint64(x.End))
	}
	return b
}

// Bits of the second octet.
const (
	flagRelative = 1 << iota
	flagProtocol
	flagTraffic
	flagLabel
	flagSPI
	flagSrcPort
	flagDstPort
)

func flags(t *Terms) (f uint8) {
	for _, b := range []struct {
		set bool
		bit uint8
	}{
		{t.Relative, flagRelative}, {t.Flow.HasProtocol, flagProtocol}, {t.Flow.HasTraffic, flagTraffic},
		{t.Flow.HasLabel, flagLabel}, {t.Flow.HasSPI, flagSPI}, {t.Flow.HasSrcPort, flagSrcPort}, {t.Flow.HasDstPort, flagDstPort},
	} {
		if b.set {
			f |= b.bit
		}
	}
	return f
}

func decodeDomain(b []byte) (upstream, downstream uint32, t Terms, err error) {
	r := tlv.NewReader(b)
	v := r.U8()
	if v != stateVersion && v != withoutTimes {
		return 0, 0, t, fmt.Errorf("inter-domain state: version %d, this program reads %d", v, stateVersion)
	}
	f := r.U8()
	t.Class = sls.Class(r.U8())
	t.Priority = r.U8()
	t.Inside = sls.Class(r.U8())
	t.Excess = intradomain.Excess{Treatment: intradomain.Treatment(r.U8()), DSCP: r.U8()}
	upstream, downstream = r.U32(), r.U32()
	t.Rate, t.MinRate, t.Peak, t.Burst = r.U64(), r.U64(), r.U64(), r.U64()
	t.SLSIn = string(r.Bytes(int(r.U16())))
	t.SLSOut = string(r.Bytes(int(r.U16())))
	for _, a := range []*netip.Addr{&t.PreviousEgress, &t.Ingress, &t.Egress, &t.NextIngress} {
		*a = readAddr(&r)
	}
	t.Flow = wire.Flow{Source: readPrefix(&r), Destination: readPrefix(&r), Protocol: r.U8(), DSCP: r.U8(),
		FlowLabel: r.U32(), SPI: r.U32(), SrcPort: r.U16(), DstPort: r.U16()}
	t.Relative = f&flagRelative != 0
	t.Flow.HasProtocol, t.Flow.HasTraffic = f&flagProtocol != 0, f&flagTraffic != 0
	t.Flow.HasLabel, t.Flow.HasSPI = f&flagLabel != 0, f&flagSPI != 0
	t.Flow.HasSrcPort, t.Flow.HasDstPort = f&flagSrcPort != 0, f&flagDstPort != 0
	if v != withoutTimes {
		for range r.U8() {
			t.Times = append(t.Times, qspec.Interval{Start: int64(r.U64()), End: int64(r.U64())})
		}
	}
	if err := r.Close(); err != nil {
		return 0, 0, Terms{}, fmt.Errorf("inter-domain state: %w", err)
	}
	return upstream, downstream, t, nil
}

func appendAddr(b []byte, a netip.Addr) []byte {
	s := a.AsSlice()
	b = append(b, uint8(len(s)))
	return append(b, s...)
}

func readAddr(r *tlv.Reader) netip.Addr {
	n := int(r.U8())
	s := r.Bytes(n)
	if n == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(s)
	if !ok {
		r.Fail(fmt.Errorf("offset %d: an address of %d octets, want 0, 4 or 16", r.Offset(), n))
	}
	return a
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	b = appendAddr(b, p.Addr())
	return append(b, uint8(max(p.Bits(), 0)))
}

func readPrefix(r *tlv.Reader) netip.Prefix {
	a := readAddr(r)
	bits := int(r.U8())
	if !a.IsValid() {
		if bits != 0 {
			r.Fail(fmt.Errorf("offset %d: prefix length %d without an address", r.Offset(), bits))
		}
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		r.Fail(fmt.Errorf("offset %d: prefix length %d of %s", r.Offset(), bits, a))
	}
	return p
}

// restore brings a committed reservation back. The ledger and qosnslp restore
// their own parts of the record.
func (m *Machine) restore(rec Record) {
	sid := wire.SID(rec.ID)
	up, down, t, err := decodeDomain(rec.Domain)
	if err != nil {
		m.note("restore-failed", sid, err.Error())
		return
	}
	m.sessions[sid] = &session{
		sid: sid, upstream: up, downstream: down, committed: true, version: rec.Version, terms: t, durable: true,
	}
}

// DriverRequest is DriverRequests of one session; false if it has nothing
// committed, or is being released.
func (m *Machine) DriverRequest(sid wire.SID) (intradomain.Request, bool) {
	s := m.sessions[sid]
	if s == nil || !s.committed || s.release != nil {
		return intradomain.Request{}, false
	}
	return s.terms.request(sid, s.version), true
}

// DriverRequests returns what the intra-domain controller ought to have: one
// committed request for each reservation. At start-up whoever drives the
// machine holds and commits them again (that is idempotent), and releases what
// the controller lists beyond them.
func (m *Machine) DriverRequests() []intradomain.Request {
	var all []intradomain.Request
	for _, s := range m.sessions {
		if s.committed && s.release == nil {
			all = append(all, s.terms.request(s.sid, s.version))
		}
	}
	return all
}
