package qosnslp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/qosnslp/wire"
)

// A snapshot is a committed session as it is kept across restarts: everything
// but SII handles and timers. All numbers are big-endian.
//
//	version(8) flags(8) SID(128) NSLPID(16) upstream peer(32) its RSN(32)
//	and epoch(32) its period(32) sum of its QSPEC(64) installed RSN(32)
//	next RSN(32) MRI of upstream
//	unless last and not tail: downstream peer(32) MRI length(16) QSPEC
//	if level: NSLPID(16) downstream
//	if also: generic flags(16) count(8) BOUND-SESSION-IDs length(16)
//	PACKET-CLASSIFIER count(8) objects with their headers
const snapshotVersion = 1

const (
	snapInitiator = 1 << iota
	snapLast
	snapFullRefresh
	snapAlso
	snapLevel
	snapStateless
	snapTail
	snapKeep
)

// ErrSnapshot is wrapped by every error about a snapshot.
var ErrSnapshot = errors.New("session snapshot")

// snapshot is what the session will be once t is committed.
func (m *Machine) snapshot(s *session, t *txn) []byte {
	after := *s
	after.tail = t.last && t.orLast
	after.nslpid = t.up.at(s.nslpid)
	after.up, after.upRSN, after.upPeriod, after.inSum = t.up, t.upRSN, t.upPeriod, t.inSum
	after.down, after.last, after.rsn, after.qspec, after.also = t.down, t.last, t.rsn, t.qspec, t.also
	after.keep = t.keep
	m.buf = appendSnapshot(m.buf[:0], &after)
	return slices.Clone(m.buf)
}

// WithQSPEC returns a snapshot with another QSPEC for the next peer, as in an
// accepted Commit's Verdict. A session without a next peer has none.
func WithQSPEC(snapshot, qspec []byte) ([]byte, error) {
	s, err := parseSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	if err := sendable(qspec, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if s.last {
		return snapshot, nil
	}
	s.qspec = qspec
	return appendSnapshot(make([]byte, 0, len(snapshot)), s), nil
}

func appendSnapshot(b []byte, s *session) []byte {
	var flags byte
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(s.initiator, snapInitiator)
	set(s.last, snapLast)
	set(s.fullRefresh, snapFullRefresh)
	set(s.also != nil, snapAlso)
	set(s.keep, snapKeep)
	further := !s.last || s.tail
	set(s.tail, snapTail)
	set(further && s.down.stateless, snapStateless)
	level := further && s.down.at(s.nslpid) != s.nslpid
	set(level, snapLevel)
	b = append(b, snapshotVersion, flags)
	b = append(b, s.sid[:]...)
	b = tlv.AppendU16(b, uint16(s.nslpid))
	b = tlv.AppendU32(b, uint32(s.up.peer))
	b = tlv.AppendU32(b, s.upRSN.Number)
	b = tlv.AppendU32(b, s.upRSN.Epoch)
	b = tlv.AppendU32(b, s.upPeriod)
	b = tlv.AppendU64(b, s.inSum)
	b = tlv.AppendU32(b, s.rsn)
	b = tlv.AppendU32(b, s.nextRSN)
	b = appendMRI(b, &s.up.mri)
	if further {
		b = tlv.AppendU32(b, uint32(s.down.peer))
		b = appendMRI(b, &s.down.mri)
		b = tlv.AppendU16(b, uint16(len(s.qspec)))
		b = append(b, s.qspec...)
	}
	if level {
		b = tlv.AppendU16(b, uint16(s.down.nslpid))
	}
	if a := s.also; a != nil {
		b = tlv.AppendU16(b, a.flags)
		bound := a.bound[:min(len(a.bound), 255)]
		b = append(b, byte(len(bound)))
		for _, x := range bound {
			b = append(b, byte(x.Code))
			b = append(b, x.SID[:]...)
		}
		b = tlv.AppendU16(b, uint16(len(a.classifier)))
		b = append(b, a.classifier...)
		objects := a.objects[:min(len(a.objects), 255)]
		b = append(b, byte(len(objects)))
		for _, o := range objects {
			b = tlv.AppendU16(append(b, byte(o.Action)), uint16(o.Type))
			b = tlv.AppendU16(b, uint16(len(o.Value)))
			b = append(b, o.Value...)
		}
	}
	return b
}

// parseSnapshot reads a snapshot; the session copies what it keeps.
func parseSnapshot(b []byte) (*session, error) {
	r := tlv.NewReader(b)
	if v := r.U8(); r.Err() == nil && v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrSnapshot, v, snapshotVersion)
	}
	flags := r.U8()
	if flags&snapTail != 0 && flags&snapLast == 0 {
		return nil, fmt.Errorf("%w: unknown flags 0x%02x", ErrSnapshot, flags)
	}
	s := &session{state: installed, initiator: flags&snapInitiator != 0, last: flags&snapLast != 0,
		tail: flags&snapTail != 0, keep: flags&snapKeep != 0, fullRefresh: flags&snapFullRefresh != 0}
	further := !s.last || s.tail
	copy(s.sid[:], r.Bytes(16))
	s.nslpid = gistwire.NSLPID(r.U16())
	s.up.peer = Peer(r.U32())
	s.upRSN = wire.RSN{Number: r.U32(), Epoch: r.U32()}
	s.upPeriod = r.U32()
	s.inSum = r.U64()
	s.rsn = r.U32()
	s.nextRSN = r.U32()
	readMRI(&r, &s.up.mri)
	if further {
		s.down.peer = Peer(r.U32())
		readMRI(&r, &s.down.mri)
		s.qspec = slices.Clone(r.Bytes(int(r.U16())))
		if r.Err() == nil && (len(s.qspec) == 0 || len(s.qspec)%4 != 0 || len(s.qspec) > wire.MaxValueLen) {
			r.Fail(fmt.Errorf("QSPEC of %d octets", len(s.qspec)))
		}
	}
	s.up.nslpid, s.down.nslpid = s.nslpid, s.nslpid
	s.down.stateless = flags&snapStateless != 0
	if s.down.stateless && !further {
		r.Fail(errors.New("a last node with stateless nodes behind it"))
	}
	if flags&snapLevel != 0 {
		s.down.nslpid = gistwire.NSLPID(r.U16())
		if _, ok := Level(s.down.nslpid); r.Err() == nil && (!ok || !further || s.down.nslpid == s.nslpid) {
			r.Fail(fmt.Errorf("NSLPID %d downstream, %d upstream", s.down.nslpid, s.nslpid))
		}
	}
	if flags&snapAlso != 0 {
		s.also = readAlso(&r)
	}
	if s.initiator != (s.up.peer == Local) {
		r.Fail(fmt.Errorf("upstream peer %d of an initiator, or none of another", s.up.peer))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func readAlso(r *tlv.Reader) *also {
	a := &also{flags: r.U16()}
	for range int(r.U8()) {
		x := wire.BoundSession{Code: wire.BindingCode(r.U8())}
		copy(x.SID[:], r.Bytes(16))
		if r.Err() != nil {
			return nil
		}
		a.bound = append(a.bound, x)
	}
	if n := int(r.U16()); n > 0 {
		a.classifier = slices.Clone(r.Bytes(n))
		if n%4 != 0 || n > wire.MaxValueLen {
			r.Fail(fmt.Errorf("PACKET-CLASSIFIER of %d octets", n))
		}
	}
	for range int(r.U8()) {
		o := wire.Object{Action: wire.ExtensibilityAction(r.U8()), Type: wire.ObjectType(r.U16())}
		n := int(r.U16())
		o.Value = slices.Clone(r.Bytes(n))
		if n%4 != 0 || n > wire.MaxValueLen || o.Action > wire.Refresh || o.Type > 0xfff {
			r.Fail(fmt.Errorf("object 0x%x with action %d of %d octets", uint16(o.Type), o.Action, n))
		}
		if r.Err() != nil {
			return nil
		}
		a.objects = append(a.objects, o)
	}
	return a
}

const (
	mriNAT = 1 << iota
	mriUpstream
)

const (
	flowProtocol = 1 << iota
	flowTraffic
	flowLabel
	flowSPI
	flowSrcPort
	flowDstPort
)

func appendMRI(b []byte, m *gistwire.MRI) []byte {
	flag := func(on bool, bit byte) byte {
		if on {
			return bit
		}
		return 0
	}
	f := &m.Flow
	b = append(b, byte(m.Method), flag(m.NAT, mriNAT)|flag(m.Upstream, mriUpstream),
		flag(f.HasProtocol, flowProtocol)|flag(f.HasTraffic, flowTraffic)|flag(f.HasLabel, flowLabel)|
			flag(f.HasSPI, flowSPI)|flag(f.HasSrcPort, flowSrcPort)|flag(f.HasDstPort, flowDstPort))
	b = appendPrefix(b, f.Source)
	b = appendPrefix(b, f.Destination)
	b = append(b, f.Protocol, f.DSCP)
	b = tlv.AppendU32(b, f.FlowLabel)
	b = tlv.AppendU32(b, f.SPI)
	b = tlv.AppendU16(b, f.SrcPort)
	b = tlv.AppendU16(b, f.DstPort)
	b = appendAddr(b, m.Egress)
	return appendAddr(b, m.Ingress)
}

func readMRI(r *tlv.Reader, m *gistwire.MRI) {
	m.Method = gistwire.MRM(r.U8())
	top, has := r.U8(), r.U8()
	if top >= mriUpstream<<1 || has >= flowDstPort<<1 {
		r.Fail(fmt.Errorf("unknown MRI flags 0x%02x 0x%02x", top, has))
	}
	m.NAT, m.Upstream = top&mriNAT != 0, top&mriUpstream != 0
	f := &m.Flow
	f.HasProtocol, f.HasTraffic, f.HasLabel = has&flowProtocol != 0, has&flowTraffic != 0, has&flowLabel != 0
	f.HasSPI, f.HasSrcPort, f.HasDstPort = has&flowSPI != 0, has&flowSrcPort != 0, has&flowDstPort != 0
	f.Source = readPrefix(r)
	f.Destination = readPrefix(r)
	f.Protocol, f.DSCP = r.U8(), r.U8()
	f.FlowLabel, f.SPI = r.U32(), r.U32()
	f.SrcPort, f.DstPort = r.U16(), r.U16()
	m.Egress = readAddr(r)
	m.Ingress = readAddr(r)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

func readAddr(r *tlv.Reader) netip.Addr {
	n := int(r.U8())
	if n == 0 {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(r.Bytes(n))
	if !ok {
		r.Fail(fmt.Errorf("address of %d octets", n))
	}
	return a
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	if !p.IsValid() {
		return appendAddr(b, netip.Addr{})
	}
	return append(appendAddr(b, p.Addr()), byte(p.Bits()))
}

func readPrefix(r *tlv.Reader) netip.Prefix {
	a := readAddr(r)
	if !a.IsValid() {
		return netip.Prefix{}
	}
	bits := int(r.U8())
	if bits > a.BitLen() {
		r.Fail(fmt.Errorf("prefix length %d of %v", bits, a))
	}
	return netip.PrefixFrom(a, bits)
}

// restore brings back a committed session. Downstream is told all of it soon,
// under the new epoch; the restarts of many spread it over a refresh period.
func (m *Machine) restore(b []byte) {
	s, err := parseSnapshot(b)
	if err != nil {
		m.note("bad-snapshot", gistwire.SID{}, Local, "%v", err)
		return
	}
	if m.sessions[s.sid] != nil {
		m.note("restore-known", s.sid, s.up.peer, "the session is there already")
		return
	}
	if t := m.tombs[s.sid]; t != nil {
		m.bury(t)
	}
	m.sessions[s.sid] = s
	m.states[s.state]++
	m.bind(s)
	m.stats.Restored++
	if !s.initiator {
		s.expireAt = m.after(lifetime(s.upPeriod))
	}
	if !s.last || s.tail {
		s.resync = !s.last
		s.refreshAt = m.after(m.jittered(m.cfg.RefreshPeriod / 2))
	}
	m.arm(s)
}
