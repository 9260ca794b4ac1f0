package gist

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/interqos/interqos/gist/wire"
)

// The events of testdata/conformance.

// in hands an event to the machine, and keeps what comes of it.
func (s *stage) in(words []string) error {
	if s.edge != nil {
		return s.toEdge(words)
	}
	switch {
	case words[0] == "raise" && len(words) > 2:
		return s.raise(words[1:])
	case words[0] == "due" && len(words) > 1:
		return s.due(words[1:])
	}
	ev, err := s.event(words)
	if err != nil {
		return err
	}
	s.got = kept(s.m.Handle(testStart.Add(s.now), ev))
	for _, a := range s.got {
		if f, ok := a.(ForwardDatagram); ok {
			s.forward = &f
		}
	}
	return nil
}

// raise runs an event of a table that nothing causes in this state: such
// transitions "MUST be ignored" (RFC 5971 §6).
func (s *stage) raise(words []string) error {
	m := s.m
	m.out, m.now = m.out[:0], int64(s.now)
	event := words[1]
	switch words[0] {
	case "Querying-SM":
		m.querySM(s.find(true), queryEvent(slices.Index(queryEventNames[:], event)), nil)
	case "Responding-SM":
		m.respondSM(s.find(false), respondEvent(slices.Index(respondEventNames[:], event)), nil)
	case "MA-SM":
		id, err := conn(words[2])
		if err != nil {
			return err
		}
		m.maEvent(m.assocs[id], maEvent(slices.Index(maEventNames[:], event)), nil)
	default:
		return fmt.Errorf("unknown machine %q", words[0])
	}
	s.got = slices.Clone(m.out)
	return nil
}

func (s *stage) event(words []string) (Event, error) {
	verb, rest := words[0], words[1:]
	switch verb {
	case "timer":
		return nil, none(rest)
	case "send":
		return s.sendEvent(rest)
	case "datagram":
		d, err := s.datagram(rest)
		return d, err
	case "conn":
		id, err := conn(rest[0])
		if err != nil {
			return nil, err
		}
		from := "c"
		if a := s.m.assocs[id]; a != nil {
			if n, ok := nameOf(storyAddrs, a.remote.Addr()); ok {
				from = n
			}
		}
		_, b, err := messageOf(rest[1:], from, true, s.names)
		return &ConnMessage{Conn: id, Payload: b[min(wire.MagicLen, len(b)):]}, err
	case "up", "accepted", "down":
		return s.connEvent(verb, rest)
	case "lifetime":
		return lifetime(rest)
	case "invalidate":
		return invalidate(rest)
	case "route-changed":
		return RouteChanged{}, none(rest)
	case "peers":
		return SetPeers{Entries: storyPeers(rest[0])}, none(rest[1:])
	case "not-forwarded":
		if s.forward == nil {
			return nil, errors.New("nothing was forwarded")
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rest[0], "mtu="))
		return NotForwarded{Datagram: s.forward.Datagram, MTU: n}, err
	}
	return nil, errors.New("unknown word")
}

func none(words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("unknown word %q", words[0])
	}
	return nil
}

func conn(word string) (ConnID, error) {
	n, ok := strings.CutPrefix(word, "#")
	if !ok {
		return 0, fmt.Errorf("want #NUMBER of a connection, not %q", word)
	}
	id, err := strconv.ParseUint(n, 10, 64)
	return ConnID(id), err
}

func (s *stage) sendEvent(words []string) (Event, error) {
	e := SendMessage{NSLPData: pad4(words[0]), Handle: 1, NSLPID: testNSLP, SID: testSID(1), MRI: pc}
	if s.m.cfg.Address == q2Addr {
		e.MRI = hop23
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if strings.HasPrefix(value, "$") {
			value = s.names[value]
		}
		var err error
		switch key {
		case "reliable":
			e.Attr.Reliable = true
		case "secure":
			e.Attr.Reliable, e.Attr.Secure = true, true
		case "stateless":
			e.Attr.Stateless = true
		case "report":
			e.Report = true
		case "large": // than any D-mode message may be
			e.NSLPData = pad4(strings.Repeat(words[0], 600))
		case "empty":
			e.NSLPData = nil
		case "nslp":
			err = readNumber(value, &e.NSLPID)
		case "hops":
			e.HasHopCount = true
			err = readNumber(value, &e.HopCount)
		case "handle":
			e.Handle, err = strconv.ParseUint(value, 10, 64)
		case "sii":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 64)
			e.SII = SII(n)
		case "timeout":
			e.Timeout, err = time.ParseDuration(value)
		case "sid":
			var n int
			n, err = strconv.Atoi(value)
			e.SID = testSID(n)
		case "mri":
			var ok bool
			if e.MRI, ok = storyFlows[value]; !ok {
				err = errors.New("unknown flow")
			}
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w, err)
		}
	}
	return e, nil
}

// datagram: "from=c to=me ttl=62 alert transit MESSAGE"; the message's words begin
// with its type. The source says who the NLI is of, if nothing else does.
func (s *stage) datagram(words []string) (Datagram, error) {
	d := Datagram{TTL: 62}
	to, speaker := "me", ""
	if s.m != nil && s.m.cfg.Address == q2Addr || s.edge != nil {
		to = "q2"
	}
	for len(words) > 0 && !slices.Contains(storyTypes, words[0]) {
		key, value, _ := strings.Cut(words[0], "=")
		var err error
		switch key {
		case "from":
			speaker, _, _ = strings.Cut(value, ":")
			d.From, err = readAddrName(value)
		case "to":
			to = value
		case "ttl":
			err = readNumber(value, &d.TTL)
		case "alert":
			d.RouterAlert = true
		case "transit":
			d.Transit, d.Interface = &Transit{}, 1
		case "interface":
			var n int
			n, err = strconv.Atoi(value)
			d.Transit, d.Interface = &Transit{}, uint32(n)
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return d, fmt.Errorf("%s: %w", words[0], err)
		}
		words = words[1:]
	}
	if len(words) == 0 || !d.From.IsValid() {
		return d, errors.New("want from=NODE and a message")
	}
	var err error
	if d.Local, err = readAddrName(to); err != nil {
		return d, err
	}
	_, d.Payload, err = messageOf(words, speaker, false, s.names)
	return d, err
}

func (s *stage) connEvent(verb string, words []string) (Event, error) {
	id, err := conn(words[0])
	if err != nil {
		return nil, err
	}
	var cert *Certificate
	stack, from := StackTCP, netip.AddrPortFrom(cAddr, 4000)
	var down error
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "certificate":
			cert = &Certificate{DNSNames: []string{value}}
		case "expires":
			d, err := time.ParseDuration(value)
			if cert == nil || err != nil {
				return nil, fmt.Errorf("%s: want a certificate first, and a time", w)
			}
			cert.NotAfter = testStart.Add(d)
		case "stack":
			var ok bool
			if stack, ok = storyStacks[value]; !ok {
				return nil, fmt.Errorf("unknown stack %q", value)
			}
		case "from":
			if from, err = readAddrName(value); err != nil {
				return nil, err
			}
		case "not-authenticated":
			down = ErrAuthentication
		default:
			return nil, fmt.Errorf("unknown word %q", w)
		}
	}
	switch verb {
	case "up":
		return ConnUp{Conn: id, Certificate: cert}, nil
	case "accepted":
		return ConnAccepted{Conn: id, Local: netip.AddrPortFrom(s.m.cfg.Address, s.m.cfg.TCPPort), Remote: from, Stack: stack, Certificate: cert}, nil
	}
	return ConnDown{Conn: id, Err: down}, nil
}

func lifetime(words []string) (Event, error) {
	e := SetStateLifetime{NSLPID: testNSLP, MRI: pc, SID: testSID(1)}
	if words[0] == "forever" {
		e.Lifetime = Forever
	} else {
		var err error
		if e.Lifetime, err = time.ParseDuration(words[0]); err != nil {
			return nil, err
		}
	}
	for _, w := range words[1:] {
		name, ok := strings.CutPrefix(w, "mri=")
		mri, known := storyFlows[name]
		if !ok || !known {
			return nil, fmt.Errorf("unknown word %q", w)
		}
		e.MRI = mri
	}
	return e, nil
}

func invalidate(words []string) (Event, error) {
	e := InvalidateRoutingState{NSLPID: testNSLP, MRI: pc}
	var ok bool
	if name := words[0]; name == storyStatus[Bad] {
		e.Status = Bad
	} else if e.Status = Tentative; name != storyStatus[Tentative] {
		return nil, fmt.Errorf("unknown status %q", name)
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "urgent":
			e.Urgent = true
		case "data":
			e.NSLPData = pad4(value)
		case "mri":
			if e.MRI, ok = storyFlows[value]; !ok {
				return nil, fmt.Errorf("unknown flow %q", value)
			}
		default:
			return nil, fmt.Errorf("unknown word %q", w)
		}
	}
	return e, nil
}

// toEdge: "inside datagram …", "outside datagram …".
func (s *stage) toEdge(words []string) error {
	if len(words) < 3 || words[1] != "datagram" || words[0] != "inside" && words[0] != "outside" {
		return errors.New("want: inside or outside, datagram …")
	}
	d, err := s.datagram(words[2:])
	if err == nil {
		s.got = slices.Clone(s.edge.Handle(testStart.Add(s.now), d, words[0] == "inside"))
	}
	return err
}
