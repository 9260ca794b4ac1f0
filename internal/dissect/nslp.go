package dissect

import (
	"encoding/binary"
	"net/netip"
	"strings"

	nslp "github.com/interqos/interqos/qosnslp/wire"
)

// nslpFlags are the flags that the type of message has (RFC 5974 §5.1.1,
// §5.1.2).
func nslpFlags(m *nslp.Message) Fields {
	var f Fields
	switch m.Type {
	case nslp.Reserve:
		f.add("tear", m.MessageFlags&nslp.Tear != 0)
		f.add("replace", m.MessageFlags&nslp.Replace != 0)
	case nslp.Query:
		f.add("reserve_init", m.MessageFlags&nslp.ReserveInit != 0)
	case nslp.Response, nslp.Notify:
	default:
		return nil // nobody knows
	}
	f.add("scoping", m.Flags&nslp.Scoping != 0)
	f.add("proxy", m.Flags&nslp.Proxy != 0)
	if m.Type == nslp.Reserve || m.Type == nslp.Query {
		f.add("ack_req", m.Flags&nslp.AckReq != 0)
	}
	f.add("break", m.Flags&nslp.Break != 0)
	return f
}

// nslpValue takes a QoS-NSLP object apart (RFC 5974 §5.1.3). What a QSPEC holds
// is told elsewhere.
func nslpValue(o nslp.Object) (Fields, error) {
	m, err := nslp.ParseObject(o)
	raw := Fields{{"octets", hexBytes(o.Value[:min(len(o.Value), maxShown)])}}
	if err != nil {
		return raw, err
	}
	switch o.Type {
	case nslp.TypeRII:
		return Fields{{"rii", m.RII}}, nil
	case nslp.TypeRSN:
		return Fields{{"rsn", Fields{{"number", m.RSN.Number}, {"epoch", m.RSN.Epoch}}}}, nil
	case nslp.TypeRefreshPeriod:
		return Fields{{"refresh_period_ms", m.RefreshPeriod}}, nil
	case nslp.TypeBoundSessionID:
		b := m.BoundSessions[0]
		return Fields{{"bound_session", Fields{{"code", uint8(b.Code)}, {"sid", b.SID.String()}}}}, nil
	case nslp.TypePacketClassifier:
		flags, err := nslp.ParseClassifierFlags(o.Value)
		if err != nil {
			return raw, err
		}
		return Fields{{"packet_classifier", classifier(flags)}}, nil
	case nslp.TypeInfoSpec:
		return Fields{{"info_spec", infoSpec(&m.InfoSpec)}}, nil
	case nslp.TypeSessionIDList:
		var list []Fields
		for _, sid := range m.SessionIDs {
			list = append(list, Fields{{"sid", sid.String()}})
		}
		return Fields{{"session_id_list", list}}, nil
	case nslp.TypeRSNList:
		return Fields{{"rsn_list", Fields{{"epoch", m.RSNs.Epoch}, {"rsns", m.RSNs.RSNs}}}}, nil
	case nslp.TypeMsgID:
		return Fields{{"msg_id", Fields{{"d", m.MsgID.Bidirectional}, {"id", hexBytes(m.MsgID.ID[:])}}}}, nil
	case nslp.TypeBoundMsgID:
		return Fields{{"bound_msg_id", Fields{{"d", m.BoundMsgID.Bidirectional}, {"id", hexBytes(m.BoundMsgID.ID[:])}}}}, nil
	case nslp.TypeQSPEC:
		return nil, nil
	case nslp.TypeSessionAuth:
		return sessionAuth(o.Value)
	case nslp.DomainRecords:
		return domainRecords(o.Value)
	}
	return raw, nil
}

func classifier(f nslp.ClassifierFlags) Fields {
	var out Fields
	for i, name := range [8]string{"x", "y", "p", "t", "f", "s", "a", "b"} {
		out.add(name, f>>(7-i)&1 != 0)
	}
	return out
}

func infoSpec(i *nslp.InfoSpec) Fields {
	f := Fields{{"class", uint8(i.Class)}, {"code", i.Code}, {"code_text", nslp.CodeText(i.Class, i.Code)}, {"source_type", uint8(i.Source.Type)}}
	if s := i.Source.String(); s != "" {
		f.add("source_text", s)
		f.add("source", hexBytes(i.Source.ID))
	}
	if len(i.Info) > 0 {
		f.add("info", hexBytes(i.Info))
		if text := strings.TrimRight(string(i.Info), "\x00"); printable(text) {
			f.add("info_text", text)
		}
	}
	return f
}

func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// sessionAuth is SESSION_AUTH of any kind (RFC 5981 §3.2).
func sessionAuth(v []byte) (Fields, error) {
	attributes, err := nslp.ParseSessionAuth(v)
	if err != nil {
		return Fields{{"octets", hexBytes(v[:min(len(v), maxShown)])}}, err
	}
	var list []Fields
	for _, a := range attributes {
		f := Fields{{"type", uint8(a.Type)}, {"type_text", authName(a.Type)}, {"subtype", a.SubType}, {"value", hexBytes(a.Value)}}
		if text := authText(a); text != "" {
			f.add("value_text", text)
		}
		list = append(list, f)
	}
	return Fields{{"session_auth", list}}, nil
}

var authNames = [...]string{nslp.AuthEntID: "AUTH_ENT_ID", nslp.AuthSessionID: "SESSION_ID", nslp.AuthSourceAddr: "SOURCE_ADDR",
	nslp.AuthDestAddr: "DEST_ADDR", nslp.AuthStartTime: "START_TIME", nslp.AuthEndTime: "END_TIME",
	nslp.AuthObjectList: "NSLP_OBJECT_LIST", nslp.AuthenticationData: "AUTHENTICATION_DATA"}

func authName(t nslp.AuthType) string {
	if int(t) < len(authNames) {
		return authNames[t]
	}
	return ""
}

// authText says in words what a value is, where words help.
func authText(a nslp.AuthAttribute) string {
	switch {
	case (a.Type == nslp.AuthSourceAddr || a.Type == nslp.AuthDestAddr) && (a.SubType == nslp.AddrIPv4 && len(a.Value) == 4 || a.SubType == nslp.AddrIPv6 && len(a.Value) == 16):
		x, _ := netip.AddrFromSlice(a.Value)
		return x.String()
	case (a.Type == nslp.AuthStartTime || a.Type == nslp.AuthEndTime) && a.SubType == nslp.NTPTimestamp && len(a.Value) == 8:
		return ntpTime(binary.BigEndian.Uint64(a.Value))
	case a.Type == nslp.AuthObjectList && len(a.Value) >= 2:
		text := ""
		n := int(binary.BigEndian.Uint16(a.Value))
		for v := a.Value[2:]; len(v) >= 2 && n > 0; v, n = v[2:], n-1 {
			if text != "" {
				text += " "
			}
			text += nslp.ObjectType(binary.BigEndian.Uint16(v) & 0xfff).String()
		}
		return text
	}
	return ""
}

func domainRecords(v []byte) (Fields, error) {
	records, err := nslp.ParseDomainRecords(v)
	if err != nil {
		return Fields{{"octets", hexBytes(v[:min(len(v), maxShown)])}}, err
	}
	var list []Fields
	for i := range records {
		d := &records[i]
		list = append(list, Fields{{"verdict", uint8(d.Verdict)}, {"verdict_text", d.Verdict.String()}, {"as", d.AS},
			{"class", uint8(d.Class)}, {"code", d.Code}, {"microseconds", d.Micros}, {"largest_rate", d.Largest},
			{"earliest", d.Earliest}, {"sls", d.SLSID}, {"key_id", d.KeyID}, {"signature", hexBytes(d.Signature)}})
	}
	return Fields{{"domain_records", list}}, nil
}
