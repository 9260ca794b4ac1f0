package gist

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The words of testdata/conformance: how stories name addresses, flows, errors
// and the fields of messages. docs/conformance.md lists them.

const storyPort = 270

var (
	storyAddrs = map[string]netip.Addr{
		"me": aAddr, "b": bAddr, "c": cAddr, "nat": addr("192.0.2.77"),
		"source": testFlow.Source.Addr(), "destination": testFlow.Destination.Addr(),
		"q1": q1Addr, "q2": q2Addr, "q3": q3Addr, "edge-in": e2inInt, "edge-out": e2outInt,
		"border": e2inExt, "neighbour": e1Ext, "me6": aAddr6, "b6": bAddr6, "destination6": pc6.Flow.Destination.Addr(),
	}
	// outside is what the flow is called on the other side of a NAT.
	outside    = wire.MRI{Method: wire.PathCoupled, Flow: wire.Flow{Source: netip.MustParsePrefix("192.0.2.77/32"), Destination: testFlow.Destination}}
	storyFlows = map[string]wire.MRI{
		"pc": pc, "pc-up": pc.Reverse(), "pc6": pc6, "pc6-up": pc6.Reverse(), "loose": loose, "loose-up": loose.Reverse(),
		"off-path": hop12, "off-path-up": hop12.Reverse(), "off-path-leaving": {Method: wire.OffPath, Flow: testFlow, Egress: e2inExt, Ingress: e1Ext},
		"wide": {Method: wire.PathCoupled, Flow: wire.Flow{Source: testFlow.Source, Destination: netip.MustParsePrefix("203.0.113.9/7")}}, "off-path-out": hop23, "off-path-out-up": hop23.Reverse(),
		"outside": outside, "outside-up": outside.Reverse(),
	}
	storyTypes  = []string{"query", "response", "confirm", "data", "error", "hello"}
	storyStacks = map[string]Stack{"TCP": StackTCP, "TLS": StackTLS, "SCTP": StackSCTP}
	storyNotify = map[NotificationType]string{
		LastNode: "LastNode", RoutingStatusChange: "RoutingStatusChange", RouteDeletion: "RouteDeletion",
		NodeAuthorisationChange: "NodeAuthorisationChange", CommunicationFailure: "CommunicationFailure",
	}
	storyStatus = map[RoutingStatus]string{Good: "Good", Tentative: "Tentative", Bad: "Bad"}
	storyErrs   = map[string]error{
		"ErrNoPeer": ErrNoPeer, "ErrTimeout": ErrTimeout, "ErrPeerRefused": ErrPeerRefused, "ErrTooLarge": ErrTooLarge,
		"ErrNoRoute": ErrNoRoute, "ErrNoAssociation": ErrNoAssociation, "ErrQueueFull": ErrQueueFull, "ErrLimit": ErrLimit,
		"ErrNoSecurity": ErrNoSecurity, "ErrUnknownSII": ErrUnknownSII, "ErrSelf": ErrSelf, "ErrUnknownNSLPID": ErrUnknownNSLPID,
		"ErrBadData": ErrBadData, "ErrHopCount": ErrHopCount, "ErrBadMRI": ErrBadMRI, "ErrForgotten": ErrForgotten,
		"ErrAuthentication": ErrAuthentication, "ErrNotAuthorised": ErrNotAuthorised,
	}
	// deniable is what an expectation may say is absent.
	deniable = []string{
		"C", "S", "R", "E", "D", "Q", "alert", "foreign", "proposal", "hold", "port", "nli", "qcookie", "rcookie", "data",
		"nat-traversal", "sid", "mri", "info", "reliable", "secure", "explicit", "stateless", "comment", "validity", "ttl", "via",
	}
)

func nameOf[K comparable](m map[string]K, v K) (string, bool) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] == v {
			return k, true
		}
	}
	return "", false
}

func addrName(a netip.Addr) string {
	if n, ok := nameOf(storyAddrs, a); ok {
		return n
	}
	return a.String()
}

func portName(a netip.AddrPort) string {
	if a.Port() == storyPort {
		return addrName(a.Addr())
	}
	return fmt.Sprintf("%s:%d", addrName(a.Addr()), a.Port())
}

func readAddrName(s string) (netip.AddrPort, error) {
	name, port, has := strings.Cut(s, ":")
	a, ok := storyAddrs[name]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("unknown node %q", name)
	}
	if !has {
		return netip.AddrPortFrom(a, storyPort), nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), err
}

func flowName(m wire.MRI) string {
	if n, ok := nameOf(storyFlows, m); ok {
		return n
	}
	return fmt.Sprintf("%+v", m)
}

// slug is the name of an error of the catalogue in one word.
func slug(id wire.ErrorID) string {
	return strings.ReplaceAll(strings.ReplaceAll(id.String(), ": ", "/"), " ", "-")
}

func readSlug(s string) (wire.ErrorID, error) {
	for _, id := range wire.Catalogue() {
		if slug(id) == s {
			return id, nil
		}
	}
	return 0, fmt.Errorf("unknown error %q", s)
}

func sidName(s wire.SID) string {
	for i := range 20 {
		if testSID(i) == s {
			return strconv.Itoa(i)
		}
	}
	return s.String()
}

func seconds(ms uint32) string { return (time.Duration(ms) * time.Millisecond).String() }

func stackNames(p wire.StackProposal) string {
	var all []string
	for _, profile := range p {
		if s, ok := stackOf(profile); ok {
			n, _ := nameOf(storyStacks, s)
			all = append(all, n)
		} else {
			all = append(all, hex.EncodeToString(profile))
		}
	}
	return strings.Join(all, ",")
}

// messageWords describes a message.
func messageWords(m *wire.Message) []string {
	w := []string{storyTypes[m.Type]}
	flag := func(set bool, name string) {
		if set {
			w = append(w, name)
		}
	}
	add := func(has bool, key string, value any) {
		if has {
			w = append(w, fmt.Sprintf("%s=%v", key, value))
		}
	}
	flag(m.C, "C")
	flag(m.S, "S")
	flag(m.R, "R")
	flag(m.E, "E")
	add(true, "hops", m.HopCount)
	add(true, "nslp", m.NSLPID)
	add(m.NATTraversal != nil, "nat-traversal", hex.EncodeToString(m.NATTraversal))
	add(m.HasMRI, "mri", flowName(m.MRI))
	add(m.HasSID, "sid", sidName(m.SID))
	add(m.HasNLI, "nli", string(m.NLI.PeerIdentity)+"@"+addrName(m.NLI.Address))
	add(m.HasNLI, "validity", seconds(m.NLI.ValidityMS))
	add(m.HasNLI, "nli-ttl", m.NLI.IPTTL)
	add(m.QueryCookie != nil, "qcookie", hex.EncodeToString(m.QueryCookie))
	add(m.ResponderCookie != nil, "rcookie", hex.EncodeToString(m.ResponderCookie))
	add(len(m.StackProposal) > 0, "proposal", stackNames(m.StackProposal))
	if m.HasStackConfig {
		add(true, "hold", seconds(m.StackConfig.HoldTimeMS))
		for _, o := range m.StackConfig.Options {
			port, ok := o.Port()
			add(ok, "port", fmt.Sprintf("%d:%d", o.Profile, port))
		}
	}
	add(m.NSLPData != nil, "data", strings.TrimRight(string(m.NSLPData), " "))
	add(m.HasHelloID, "hello-id", m.HelloID)
	if e := m.Error; e != nil {
		add(true, "error", slug(e.ID))
		if int(e.Header.Type) < len(storyTypes) {
			add(true, "about", storyTypes[e.Header.Type])
		}
		flag(e.DMode, "D")
		flag(e.QMode, "Q")
		add(e.HasSID, "sid", sidName(e.SID))
		add(e.HasMRI, "mri", flowName(e.MRI))
		for i := range e.Info {
			add(true, "info", infoWord(&e.Info[i]))
		}
	}
	return w
}

func infoWord(a *wire.AdditionalInfo) string {
	if n, ok := a.Number(); ok {
		switch a.Type {
		case wire.AIMTU:
			return fmt.Sprintf("mtu:%d", n)
		case wire.AIObjectType:
			return "object:" + strings.ReplaceAll(wire.ObjectType(n).String(), " ", "-")
		default:
			return fmt.Sprintf("words:%d", n)
		}
	}
	_, offset, _ := a.Object()
	return fmt.Sprintf("value@%d", offset)
}

// actionWords describes an action.
func actionWords(a Action) []string {
	flag := func(w []string, set bool, name string) []string {
		if set {
			return append(w, name)
		}
		return w
	}
	attrs := func(w []string, t TransferAttributes) []string {
		w = flag(w, t.Reliable, "reliable")
		w = flag(w, t.Secure, "secure")
		w = flag(w, t.Stateless, "stateless")
		return flag(w, t.ExplicitlyRouted, "explicit")
	}
	switch a := a.(type) {
	case SendDatagram:
		w := []string{"datagram", "to=" + portName(a.To), "local=" + addrName(a.Local), fmt.Sprintf("ttl=%d", a.TTL)}
		w = flag(flag(w, a.RouterAlert, "alert"), a.Foreign, "foreign")
		m, err := wire.ParseDatagram(a.Payload)
		if err != nil {
			return append(w, "unreadable:"+err.Error())
		}
		return append(w, messageWords(&m)...)
	case ForwardDatagram:
		m, err := wire.ParseDatagram(a.Datagram.Payload)
		if err != nil {
			return []string{"forward", "unreadable:" + err.Error()}
		}
		return append([]string{"forward", "to=" + portName(a.Datagram.Local), "from=" + portName(a.Datagram.From)}, messageWords(&m)...)
	case Connect:
		n, _ := nameOf(storyStacks, a.Stack)
		return []string{"connect", fmt.Sprintf("#%d", a.Conn), "to=" + portName(a.To), "stack=" + n}
	case *SendConn:
		m, err := wire.Parse(a.Payload)
		if err != nil {
			return []string{"conn", "unreadable:" + err.Error()}
		}
		return append([]string{"conn", fmt.Sprintf("#%d", a.Conn)}, messageWords(&m)...)
	case CloseConn:
		return []string{"close", fmt.Sprintf("#%d", a.Conn)}
	case *RecvMessage:
		w := []string{
			"deliver", "data=" + strings.TrimRight(string(a.Data), " "), "sid=" + sidName(a.SID), "mri=" + flowName(a.MRI),
			"peer=" + addrName(a.Peer), fmt.Sprintf("sii=%d", a.SII), fmt.Sprintf("hops=%d", a.HopCount), fmt.Sprintf("distance=%d", a.Distance),
		}
		if a.Via.IsValid() {
			w = append(w, "via="+addrName(a.Via))
		}
		return attrs(w, a.Attr)
	case MessageStatus:
		w := []string{"status", fmt.Sprintf("handle=%d", a.Handle)}
		if a.Err == nil {
			return attrs(append(w, "sent"), a.Attr)
		}
		for _, name := range slices.Sorted(maps.Keys(storyErrs)) {
			if errors.Is(a.Err, storyErrs[name]) {
				w = append(w, name)
			}
		}
		var refused *RefusedError
		if errors.As(a.Err, &refused) {
			w = append(w, "error="+slug(refused.ID))
		}
		return w
	case NetworkNotification:
		w := []string{"notify", storyNotify[a.Type], "sid=" + sidName(a.SID), "mri=" + flowName(a.MRI), fmt.Sprintf("sii=%d", a.SII)}
		if a.Status != 0 {
			w = append(w, storyStatus[a.Status])
		}
		return w
	case Note:
		return []string{"note", a.Kind}
	}
	return []string{fmt.Sprintf("%T", a)}
}

// matches says why the words of an action are not what a line wants; names are
// bound to what is seen first.
func matches(want, got []string, names map[string]string) error {
	if want[0] != got[0] {
		return fmt.Errorf("want %s", want[0])
	}
	for _, w := range want[1:] {
		if denied, ok := strings.CutPrefix(w, "!"); ok {
			if !slices.Contains(deniable, denied) {
				return fmt.Errorf("unknown word %s", w)
			}
			for _, g := range got[1:] {
				if g == denied || strings.HasPrefix(g, denied+"=") {
					return fmt.Errorf("want no %s", denied)
				}
			}
			continue
		}
		key, value, has := strings.Cut(w, "=")
		ok := slices.ContainsFunc(got[1:], func(g string) bool {
			gk, gv, ghas := strings.Cut(g, "=")
			if !has || !ghas || gk != key || !strings.HasPrefix(value, "$") {
				return g == w || has && value == "*" && ghas && gk == key
			}
			if names[value] == "" {
				names[value] = gv
			}
			return names[value] == gv
		})
		if !ok {
			if seen := names[value]; seen != "" {
				w += " (" + seen + ")"
			}
			return fmt.Errorf("want %s", w)
		}
	}
	return nil
}

// messageOf makes a message from words; from is who sends it.
func messageOf(words []string, from string, conn bool, names map[string]string) (*wire.Message, []byte, error) {
	kind := slices.Index(storyTypes, words[0])
	if kind < 0 {
		return nil, nil, fmt.Errorf("unknown message type %q", words[0])
	}
	m := &wire.Message{Header: wire.Header{HopCount: 64, NSLPID: testNSLP, Type: wire.MessageType(kind), S: true}}
	if kind < int(wire.Error) {
		m.HasMRI, m.MRI, m.HasSID, m.SID = true, pc, true, testSID(1)
	}
	if kind < int(wire.Data) || !conn && kind != int(wire.MAHello) {
		m.HasNLI, m.NLI = true, wire.NLI{PeerIdentity: []byte(from), Address: storyAddrs[from], ValidityMS: 30_000}
	}
	switch m.Type {
	case wire.Query:
		m.C, m.R, m.QueryCookie = true, true, []byte("a Query's cookie")
	case wire.Response:
		m.MRI = pc.Reverse()
	case wire.Error:
		m.NSLPID = 0
		m.Error = &wire.ErrorData{
			DMode: !conn, HasSID: true, SID: testSID(1), HasMRI: true, MRI: pc, Header: wire.Header{Version: 1, HopCount: 64, NSLPID: testNSLP, S: true},
		}
	case wire.MAHello:
		m.NSLPID = 0
	}
	var octets []func([]byte) ([]byte, error)
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if strings.HasPrefix(value, "$") {
			if value = names[value]; value == "" {
				return nil, nil, fmt.Errorf("%s has no value yet", w)
			}
		}
		if edit, err := octetEdit(key, value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", w, err)
		} else if edit != nil {
			octets = append(octets, edit)
		} else if err := setField(m, key, value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", w, err)
		}
	}
	if !conn && kind < int(wire.Error) && !m.MRI.Upstream && m.MRI.Method != wire.OffPath && !slices.ContainsFunc(words, isTTL) {
		m.NLI.IPTTL = 64
	}
	b := m.AppendDatagram(nil)
	for _, edit := range octets {
		var err error
		if b, err = edit(b); err != nil {
			return nil, nil, err
		}
	}
	return m, b, nil
}

func isTTL(w string) bool { return strings.HasPrefix(w, "nli-ttl=") }

// octetEdit is what makes a message that no Message can be: octet=AT:VALUE of
// the common header, object=AB:TYPE:OCTETS at the end, value=TYPE:HEX instead.
func octetEdit(key, value string) (func([]byte) ([]byte, error), error) {
	part := strings.Split(value, ":")
	var n [3]uint64
	if key != "octet" && key != "object" && key != "value" {
		return nil, nil
	}
	if want := map[string]int{"octet": 2, "object": 3, "value": 2}[key]; len(part) != want {
		return nil, fmt.Errorf("%d parts, want %d", len(part), want)
	}
	for i, p := range part {
		if key == "value" && i == 1 {
			break
		}
		var err error
		if n[i], err = strconv.ParseUint(p, 0, 16); err != nil {
			return nil, err
		}
	}
	switch key {
	case "octet":
		return func(b []byte) ([]byte, error) { b[wire.MagicLen+n[0]] = byte(n[1]); return b, nil }, nil
	case "object":
		return func(b []byte) ([]byte, error) {
			return rawTLV(b, uint8(n[0]), wire.ObjectType(n[1]), make([]byte, n[2])), nil
		}, nil
	}
	return func(b []byte) ([]byte, error) {
		v, err := hex.DecodeString(part[1])
		return withValue(b, wire.ObjectType(n[0]), v), err
	}, nil
}

func readSeconds(value string, into *uint32) error {
	d, err := time.ParseDuration(value)
	*into = uint32(d.Milliseconds())
	return err
}

func readNumber[T ~uint8 | ~uint16 | ~uint32](value string, into *T) error {
	n, err := strconv.ParseUint(value, 0, 32)
	*into = T(n)
	return err
}

// setField changes one field of a message; an empty value takes an object away.
func setField(m *wire.Message, key, value string) (err error) {
	switch key {
	case "C", "!C":
		m.C = key == "C"
	case "S", "!S":
		m.S = key == "S"
	case "R", "!R":
		m.R = key == "R"
	case "E":
		m.E = true
	case "hops":
		return readNumber(value, &m.HopCount)
	case "nslp":
		return readNumber(value, &m.NSLPID)
	case "sid", "mri":
		return setKeyWord(m, key, value)
	case "nli":
		id, name, ok := strings.Cut(value, "@")
		if !ok {
			name = id
		}
		m.HasNLI, m.NLI.PeerIdentity, m.NLI.Address = true, []byte(id), storyAddrs[name]
		if !m.NLI.Address.IsValid() {
			return fmt.Errorf("unknown node %q", name)
		}
	case "!nli":
		m.HasNLI = false
	case "validity":
		return readSeconds(value, &m.NLI.ValidityMS)
	case "nli-ttl":
		return readNumber(value, &m.NLI.IPTTL)
	case "qcookie":
		m.QueryCookie, err = hex.DecodeString(value)
	case "!qcookie":
		m.QueryCookie = nil
	case "rcookie":
		m.ResponderCookie, err = hex.DecodeString(value)
	case "proposal":
		return setProposal(m, value)
	case "!hold":
		m.HasStackConfig = false
	case "hold":
		m.HasStackConfig = true
		return readSeconds(value, &m.StackConfig.HoldTimeMS)
	case "data":
		m.NSLPData = pad4(value)
	case "hello-id":
		m.HasHelloID = true
		return readNumber(value, &m.HelloID)
	case "nat-traversal":
		return setNATWord(m, value)
	case "error", "about", "D", "Q":
		return setErrorWord(m, key, value)
	default:
		return errors.New("unknown word")
	}
	return err
}

func setKeyWord(m *wire.Message, key, value string) error {
	if key == "sid" {
		i, err := strconv.Atoi(value)
		m.SID = testSID(i)
		if m.Error != nil {
			m.Error.SID = m.SID
		}
		return err
	}
	mri, ok := storyFlows[value]
	if !ok {
		return fmt.Errorf("unknown flow %q", value)
	}
	m.MRI = mri
	if m.Error != nil {
		m.Error.MRI = mri
	}
	return nil
}

// setProposal: "TLS,TCP" with the options that belong to it; in a Response each
// profile has its port.
func setProposal(m *wire.Message, value string) error {
	m.StackProposal, m.HasStackConfig, m.StackConfig = nil, true, wire.StackConfig{HoldTimeMS: 30_000}
	for i, name := range strings.Split(value, ",") {
		s, ok := storyStacks[name]
		if !ok {
			return fmt.Errorf("unknown stack %q", name)
		}
		m.StackProposal = append(m.StackProposal, stackTable[s].profile)
		switch m.Type {
		case wire.Query:
			m.StackConfig.Options = withOption(m.StackConfig.Options, stackTable[s].port)
		case wire.Response:
			m.StackConfig.Options = append(m.StackConfig.Options, wire.MAOptions{
				Protocol: stackTable[s].port, Profile: uint8(i + 1), Data: wire.PortData(1000 + uint16(s)),
			})
		}
	}
	return nil
}

// setNATWord: "outside", what the flow was called where the message began, with
// NLI and Stack-Configuration-Data translated; or the octets, as captured.
func setNATWord(m *wire.Message, value string) (err error) {
	if mri, ok := storyFlows[value]; ok {
		n := wire.NATTraversal{
			MRI: mri, Translated: []uint16{uint16(wire.ObjNLI), uint16(wire.ObjStackConfig)}, Opaque: [][]byte{[]byte("10.0.0.1")},
		}
		m.NATTraversal = n.Append(nil)
		return nil
	}
	m.NATTraversal, err = hex.DecodeString(value)
	return err
}

func setErrorWord(m *wire.Message, key, value string) (err error) {
	if m.Error == nil {
		return errors.New("only in an error")
	}
	e := m.Error
	switch key {
	case "error":
		e.ID, err = readSlug(value)
	case "about":
		i := slices.Index(storyTypes, value)
		if i < 0 {
			return fmt.Errorf("unknown message type %q", value)
		}
		e.Header.Type = wire.MessageType(i)
		e.Header.C, e.Header.R = e.Header.Type == wire.Query, e.Header.Type == wire.Query
		e.QMode = e.DMode && e.Header.C
	case "D":
		e.DMode = true
	default:
		e.DMode, e.QMode = true, true
	}
	return err
}
