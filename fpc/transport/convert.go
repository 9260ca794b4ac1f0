package transport

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/interqos/interqos/fpc"
	"github.com/interqos/interqos/fpc/transport/fpcpb"
)

func fromTransactions(txs []fpc.Transaction) []*fpcpb.Transaction {
	out := make([]*fpcpb.Transaction, len(txs))
	for i, tx := range txs {
		commands := make([]*fpcpb.Command, len(tx))
		for j := range tx {
			commands[j] = fromCommand(&tx[j])
		}
		out[i] = &fpcpb.Transaction{Commands: commands}
	}
	return out
}

func fromCommand(c *fpc.Command) *fpcpb.Command {
	out := &fpcpb.Command{Op: fpcpb.Op(c.Op)}
	switch c.Op {
	case fpc.RuleAdd, fpc.RuleMod, fpc.RuleDel:
		out.Rule = fromRule(&c.Rule)
		return out
	case fpc.PropAdd, fpc.PropMod, fpc.PropDel:
		out.Property = fromProperty(&c.Property)
	}
	out.Port = fromPort(&c.Port)
	return out
}

func fromPort(p *fpc.Port) *fpcpb.Port {
	out := &fpcpb.Port{Id: p.ID[:], Version: p.Version, Name: p.Name, Static: p.Static}
	for i := range p.Properties {
		out.Properties = append(out.Properties, fromProperty(&p.Properties[i]))
	}
	return out
}

func fromProperty(p *fpc.Property) *fpcpb.Property {
	out := &fpcpb.Property{Id: uint32(p.ID)}
	switch p.Kind {
	case fpc.PropQoS:
		q := &p.QoS
		out.Value = &fpcpb.Property_PropQos{PropQos: &fpcpb.QoS{Cir: q.CIR, Cbs: q.CBS, Pir: q.PIR, Pbs: q.PBS,
			Mark: q.Mark, Dscp: uint32(q.DSCP), Excess: fpcpb.Excess(q.Excess), ExcessDscp: uint32(q.ExcessDSCP)}}
	case fpc.PropGW:
		out.Value = &fpcpb.Property_PropGw{PropGw: &fpcpb.Endpoint{Address: p.GW.Addr().AsSlice(), Port: uint32(p.GW.Port())}}
	case fpc.PropParent:
		out.Value = &fpcpb.Property_PropParent{PropParent: p.Parent[:]}
	}
	return out
}

func fromRule(r *fpc.Rule) *fpcpb.Rule {
	m := &fpcpb.Descriptor{Source: fromPrefix(r.Match.Source), Destination: fromPrefix(r.Match.Destination)}
	optional := func(has bool, v uint32) *uint32 {
		if !has {
			return nil
		}
		return &v
	}
	m.Protocol = optional(r.Match.HasProtocol, uint32(r.Match.Protocol))
	m.SourcePort = optional(r.Match.HasSourcePort, uint32(r.Match.SourcePort))
	m.DestinationPort = optional(r.Match.HasDestinationPort, uint32(r.Match.DestinationPort))
	return &fpcpb.Rule{Id: r.ID[:], Version: r.Version, Static: r.Static, Match: m, Port: r.Port[:]}
}

func fromPrefix(p netip.Prefix) *fpcpb.Prefix {
	if !p.IsValid() {
		return nil
	}
	return &fpcpb.Prefix{Address: p.Addr().AsSlice(), Bits: uint32(p.Bits())}
}

// decoder turns messages into fpc's types and keeps the first error.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format+": %w", append(args, fpc.ErrInvalid)...)
	}
}

func toTransaction(tx *fpcpb.Transaction) (fpc.Transaction, error) {
	var d decoder
	out := make(fpc.Transaction, len(tx.GetCommands()))
	for i, c := range tx.GetCommands() {
		out[i] = d.command(c)
		if d.err != nil {
			return nil, fmt.Errorf("command %d: %w", i, d.err)
		}
	}
	return out, nil
}

func (d *decoder) command(c *fpcpb.Command) fpc.Command {
	out := fpc.Command{Op: fpc.Op(max(min(c.GetOp(), 255), 0))}
	switch out.Op {
	case fpc.RuleAdd, fpc.RuleMod, fpc.RuleDel:
		out.Rule = d.rule(c.GetRule())
		return out
	case fpc.PropAdd, fpc.PropMod, fpc.PropDel:
		out.Property = d.property(c.GetProperty(), out.Op != fpc.PropDel)
	}
	out.Port = d.port(c.GetPort())
	return out
}

func (d *decoder) id(b []byte) fpc.ID {
	if len(b) != len(fpc.ID{}) {
		d.fail("identifier of %d octets, expected %d", len(b), len(fpc.ID{}))
		return fpc.ID{}
	}
	return fpc.ID(b)
}

func (d *decoder) uint(what string, v, most uint32) uint32 {
	if v > most {
		d.fail("%s %d, expected at most %d", what, v, most)
		return 0
	}
	return v
}

func (d *decoder) port(p *fpcpb.Port) fpc.Port {
	out := fpc.Port{ID: d.id(p.GetId()), Version: p.GetVersion(), Name: p.GetName(), Static: p.GetStatic()}
	for _, prop := range p.GetProperties() {
		out.Properties = append(out.Properties, d.property(prop, true))
	}
	return out
}

// property reads a property; PROP_DEL gives only its identifier.
func (d *decoder) property(p *fpcpb.Property, value bool) fpc.Property {
	out := fpc.Property{ID: fpc.PropertyID(d.uint("property", p.GetId(), 255))}
	switch v := p.GetValue().(type) {
	case *fpcpb.Property_PropQos:
		q := v.PropQos
		out.Kind = fpc.PropQoS
		out.QoS = fpc.QoS{CIR: q.GetCir(), CBS: q.GetCbs(), PIR: q.GetPir(), PBS: q.GetPbs(), Mark: q.GetMark(),
			DSCP:       uint8(d.uint("DSCP", q.GetDscp(), 63)),
			Excess:     fpc.Excess(d.uint("excess", uint32(q.GetExcess()), uint32(fpc.ExcessForward))),
			ExcessDSCP: uint8(d.uint("DSCP of excess", q.GetExcessDscp(), 63))}
	case *fpcpb.Property_PropGw:
		out.Kind = fpc.PropGW
		a, _ := netip.AddrFromSlice(v.PropGw.GetAddress())
		out.GW = netip.AddrPortFrom(a, uint16(d.uint("port", v.PropGw.GetPort(), 65535)))
		if !a.IsValid() {
			d.fail("address of %d octets, expected 4 or 16", len(v.PropGw.GetAddress()))
		}
	case *fpcpb.Property_PropParent:
		out.Kind = fpc.PropParent
		out.Parent = d.id(v.PropParent)
	default:
		if value {
			d.fail("property %d without a value", p.GetId())
		}
	}
	return out
}

func (d *decoder) rule(r *fpcpb.Rule) fpc.Rule {
	out := fpc.Rule{ID: d.id(r.GetId()), Version: r.GetVersion(), Static: r.GetStatic()}
	if len(r.GetPort()) > 0 { // RULE_DEL names none
		out.Port = d.id(r.GetPort())
	}
	m := r.GetMatch()
	out.Match.Source = d.prefix(m.GetSource())
	out.Match.Destination = d.prefix(m.GetDestination())
	if m != nil && m.Protocol != nil {
		out.Match.HasProtocol = true
		out.Match.Protocol = uint8(d.uint("protocol", *m.Protocol, 255))
	}
	if m != nil && m.SourcePort != nil {
		out.Match.HasSourcePort = true
		out.Match.SourcePort = uint16(d.uint("port", *m.SourcePort, 65535))
	}
	if m != nil && m.DestinationPort != nil {
		out.Match.HasDestinationPort = true
		out.Match.DestinationPort = uint16(d.uint("port", *m.DestinationPort, 65535))
	}
	return out
}

func (d *decoder) prefix(p *fpcpb.Prefix) netip.Prefix {
	if p == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(p.GetAddress())
	if !ok || p.GetBits() > uint32(a.BitLen()) {
		d.fail("prefix of %d octets and length %d", len(p.GetAddress()), p.GetBits())
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(p.GetBits()))
}

var resultCodes = []struct {
	code fpcpb.Code
	err  error
}{
	{fpcpb.Code_EXISTS, fpc.ErrExists},
	{fpcpb.Code_NOT_FOUND, fpc.ErrNotFound},
	{fpcpb.Code_STALE, fpc.ErrStale},
	{fpcpb.Code_INVALID, fpc.ErrInvalid},
	{fpcpb.Code_STATIC, fpc.ErrStatic},
	{fpcpb.Code_IN_USE, fpc.ErrInUse},
}

func fromResult(err error) *fpcpb.Result {
	if err == nil {
		return &fpcpb.Result{}
	}
	out := &fpcpb.Result{Code: fpcpb.Code_FAILED, Text: err.Error()}
	for _, c := range resultCodes {
		if errors.Is(err, c.err) {
			out.Code = c.code
			break
		}
	}
	return out
}

// resultError is an agent's refusal with its text, and the error of package fpc
// that it wraps.
type resultError struct {
	text string
	err  error
}

func (e *resultError) Error() string { return e.text }
func (e *resultError) Unwrap() error { return e.err }

func toResult(r *fpcpb.Result) error {
	if r.GetCode() == fpcpb.Code_OK {
		return nil
	}
	for _, c := range resultCodes {
		if c.code == r.GetCode() {
			return &resultError{r.GetText(), c.err}
		}
	}
	return &resultError{text: r.GetText()}
}

func fromCount(packets, octets uint64) *fpcpb.Count {
	return &fpcpb.Count{Packets: packets, Octets: octets}
}

func fromCounters(id fpc.ID, c fpc.Counters) *fpcpb.PortCounters {
	return &fpcpb.PortCounters{Port: id[:],
		Green:   fromCount(c.GreenPackets, c.GreenOctets),
		Yellow:  fromCount(c.YellowPackets, c.YellowOctets),
		Red:     fromCount(c.RedPackets, c.RedOctets),
		Dropped: fromCount(c.DroppedPackets, c.DroppedOctets)}
}

func toCounters(c *fpcpb.PortCounters) fpc.Counters {
	return fpc.Counters{
		GreenPackets: c.GetGreen().GetPackets(), GreenOctets: c.GetGreen().GetOctets(),
		YellowPackets: c.GetYellow().GetPackets(), YellowOctets: c.GetYellow().GetOctets(),
		RedPackets: c.GetRed().GetPackets(), RedOctets: c.GetRed().GetOctets(),
		DroppedPackets: c.GetDropped().GetPackets(), DroppedOctets: c.GetDropped().GetOctets(),
	}
}
