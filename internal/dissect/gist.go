package dissect

import (
	"net/netip"

	"github.com/interqos/interqos/gist/wire"
)

// gistObject takes a GIST object apart (RFC 5971 §A.3, §A.4).
func gistObject(o wire.RawObject) Object {
	x := Object{Name: o.Type.String(), Type: uint16(o.Type), Action: o.Action, Offset: o.Offset, Length: len(o.Value)}
	m, err := wire.ParseObject(o.Type, o.Value)
	if err != nil {
		x.Err = err
		x.Value = Fields{{"octets", hexBytes(o.Value[:min(len(o.Value), maxShown)])}}
		return x
	}
	switch o.Type {
	case wire.ObjMRI:
		x.Value = Fields{{"mri", mri(&m.MRI)}}
	case wire.ObjSID:
		x.Value = Fields{{"sid", m.SID.String()}}
	case wire.ObjNLI:
		n := &m.NLI
		x.Value = Fields{{"nli", Fields{{"peer_identity", hexBytes(n.PeerIdentity)}, {"ip_ttl", n.IPTTL},
			{"validity_ms", n.ValidityMS}, {"address", n.Address.String()}}}}
	case wire.ObjStackProposal:
		var list []Fields
		for _, p := range m.StackProposal {
			list = append(list, Fields{{"protocols", []byte(p)}})
		}
		x.Value = Fields{{"stack_proposal", Fields{{"profiles", list}}}}
	case wire.ObjStackConfig:
		x.Value = Fields{{"stack_configuration", stackConfig(&m.StackConfig)}}
	case wire.ObjQueryCookie:
		x.Value = Fields{{"query_cookie", hexBytes(m.QueryCookie)}}
	case wire.ObjResponderCookie:
		x.Value = Fields{{"responder_cookie", hexBytes(m.ResponderCookie)}}
	case wire.ObjNATTraversal:
		x.Value = Fields{{"nat_traversal", natTraversal(m.NATTraversal)}}
	case wire.ObjNSLPData:
		x.Value = Fields{{"nslp_data", hexBytes(m.NSLPData)}}
	case wire.ObjError:
		x.Value = Fields{{"error_data", errorData(m.Error)}}
	case wire.ObjHelloID:
		x.Value = Fields{{"hello_id", m.HelloID}}
	default:
		x.Value = Fields{{"octets", hexBytes(o.Value)}}
	}
	return x
}

func mri(m *wire.MRI) Fields {
	flow := &m.Flow
	version := 4
	if flow.Source.Addr().Is6() {
		version = 6
	}
	f := Fields{{"mrm", uint8(m.Method)}, {"mrm_text", m.Method.String()}, {"ip_version", version}, {"upstream", m.Upstream},
		{"source", flow.Source.Addr().String()}, {"destination", flow.Destination.Addr().String()}}
	if m.Method == wire.LooseEnd {
		return f
	}
	f.add("source_prefix", flow.Source.Bits())
	f.add("destination_prefix", flow.Destination.Bits())
	for _, o := range []struct {
		has bool
		key string
		v   any
	}{
		{flow.HasProtocol, "protocol", flow.Protocol}, {flow.HasTraffic, "dscp", flow.DSCP},
		{flow.HasLabel, "flow_label", flow.FlowLabel}, {flow.HasSPI, "spi", flow.SPI},
		{flow.HasSrcPort, "source_port", flow.SrcPort}, {flow.HasDstPort, "destination_port", flow.DstPort},
	} {
		if o.has {
			f.add(o.key, o.v)
		}
	}
	if m.Method == wire.OffPath {
		f.add("egress", addr(m.Egress, version))
		f.add("ingress", addr(m.Ingress, version))
	}
	return f
}

// addr writes an address; one that is not known stands as all zeros.
func addr(a netip.Addr, version int) string {
	switch {
	case a.IsValid():
		return a.String()
	case version == 6:
		return netip.IPv6Unspecified().String()
	}
	return netip.IPv4Unspecified().String()
}

func stackConfig(c *wire.StackConfig) Fields {
	var list []Fields
	for i := range c.Options {
		o := &c.Options[i]
		f := Fields{{"protocol", o.Protocol}, {"profile", o.Profile}, {"disabled", o.Disabled}, {"data", hexBytes(o.Data)}}
		if port, ok := o.Port(); ok && (o.Protocol == wire.ForwardsTCP || o.Protocol == wire.ForwardsSCTP) {
			f.add("port", port)
		}
		list = append(list, f)
	}
	return Fields{{"hold_time_ms", c.HoldTimeMS}, {"options", list}}
}

func natTraversal(b []byte) Fields {
	n, err := wire.ParseNATTraversal(b)
	if err != nil { // the message's decoder has judged it before
		return Fields{{"octets", hexBytes(b)}}
	}
	var types []uint16
	for _, t := range n.Translated {
		types = append(types, t&0xfff)
	}
	var opaque []Fields
	for _, o := range n.Opaque {
		opaque = append(opaque, Fields{{"octets", hexBytes(o)}})
	}
	return Fields{{"mri", mri(&n.MRI)}, {"translated", types}, {"nats", opaque}}
}

func errorData(e *wire.ErrorData) Fields {
	h := &e.Header
	f := Fields{{"class", uint8(e.ID.Class())}, {"code", e.ID.Code()}, {"subcode", e.ID.Subcode()}, {"code_text", e.ID.String()},
		{"d_mode", e.DMode}, {"q_mode", e.QMode},
		{"header", Fields{{"version", h.Version}, {"hops", h.HopCount}, {"length", h.Words}, {"nslpid", h.NSLPID},
			{"type", uint8(h.Type)}, {"type_text", h.Type.String()}, {"c", h.C}, {"s", h.S}, {"r", h.R}, {"e", h.E}}}}
	if e.HasSID {
		f.add("sid", e.SID.String())
	}
	if e.HasMRI {
		f.add("mri", mri(&e.MRI))
	}
	var list []Fields
	for i := range e.Info {
		list = append(list, additionalInfo(&e.Info[i]))
	}
	if list != nil {
		f.add("info", list)
	}
	if e.Comment != "" {
		f.add("comment", e.Comment)
	}
	return f
}

func additionalInfo(a *wire.AdditionalInfo) Fields {
	f := Fields{{"type", uint16(a.Type)}}
	if object, offset, ok := a.Object(); ok {
		return append(f, Field{"offset", offset}, Field{"object", hexBytes(object)})
	}
	n, ok := a.Number()
	if !ok {
		return append(f, Field{"octets", hexBytes(a.Value)})
	}
	switch a.Type {
	case wire.AIMessageLength:
		f.add("words", n)
	case wire.AIMTU:
		f.add("mtu", n)
	default:
		f.add("object_type", n&0xfff)
		f.add("object_type_text", wire.ObjectType(n&0xfff).String())
	}
	return f
}
