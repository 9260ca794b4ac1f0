package gist

import (
	"errors"
	"fmt"
	"slices"

	"github.com/interqos/interqos/gist/wire"
)

// Which protocols messaging associations have: RFC 5971 §5.7.

// Stack is what a messaging association consists of.
type Stack uint8

// Stacks.
const (
	StackTCP  Stack = iota // Forwards-TCP alone (RFC 5971 §5.7.2): reliable, not secure
	StackTLS               // TLS over it (§5.7.3)
	StackSCTP              // Forwards-SCTP alone (RFC 6084): reliable, not secure
	numStacks
)

func (s Stack) String() string {
	if s < numStacks {
		return stackTable[s].name
	}
	return fmt.Sprintf("stack %d", uint8(s))
}

// Secure says whether the stack protects messages and authenticates both ends:
// whether it serves the transfer attribute Secure (RFC 5971 §4.1.2, §8.1).
func (s Stack) Secure() bool { return s == StackTLS }

var stackTable = [numStacks]struct {
	name    string
	profile wire.Profile // "top to bottom" (RFC 5971 §5.7.1)
	port    byte         // the protocol whose options have the port
}{
	StackTCP:  {"Forwards-TCP", wire.Profile{wire.ForwardsTCP}, wire.ForwardsTCP},
	StackTLS:  {"TLS over Forwards-TCP", wire.Profile{wire.ForwardsTLS, wire.ForwardsTCP}, wire.ForwardsTCP},
	StackSCTP: {"Forwards-SCTP", wire.Profile{wire.ForwardsSCTP}, wire.ForwardsSCTP},
}

// stackOf returns the stack that a profile describes, if we know it.
func stackOf(p wire.Profile) (Stack, bool) {
	for s := range numStacks {
		if slices.Equal(stackTable[s].profile, p) {
			return s, true
		}
	}
	return 0, false
}

// stacks is what policy lets this node offer, best first. "The Response does
// not depend on the Stack-Proposal in the Query" (RFC 5971 §8.6): it is the same
// for everybody.
type stacks struct {
	list            []Stack
	proposal        wire.StackProposal
	queryOptions    []wire.MAOptions
	responseOptions []wire.MAOptions
	// For messages that only a secure stack may carry.
	secure        wire.StackProposal
	secureOptions []wire.MAOptions
}

func newStacks(c *Config) (s stacks) {
	ports := [numStacks]uint16{StackTCP: c.TCPPort, StackTLS: c.TLSPort, StackSCTP: c.SCTPPort}
	if c.TLS {
		s.list = append(s.list, StackTLS)
	}
	if c.SCTP { // where it is there, it was wanted
		s.list = append(s.list, StackSCTP)
	}
	if c.Insecure {
		s.list = append(s.list, StackTCP)
	}
	for i, k := range s.list {
		protocol := stackTable[k].port
		s.proposal = append(s.proposal, stackTable[k].profile)
		s.queryOptions = withOption(s.queryOptions, protocol)
		if k.Secure() {
			s.secure = append(s.secure, stackTable[k].profile)
			s.secureOptions = withOption(s.secureOptions, protocol)
		}
		s.responseOptions = append(s.responseOptions, wire.MAOptions{
			Protocol: protocol, Profile: uint8(i + 1), Data: wire.PortData(ports[k]),
		})
	}
	return s
}

// withOption adds what a Query has to say of a transport protocol: "no
// additional options data" (RFC 5971 §5.7.2, RFC 6084), once for all profiles.
func withOption(list []wire.MAOptions, protocol byte) []wire.MAOptions {
	if slices.ContainsFunc(list, func(o wire.MAOptions) bool { return o.Protocol == protocol }) {
		return list
	}
	return append(list, wire.MAOptions{Protocol: protocol})
}

// inQuery is what a Query offers: it "MUST only include protocol configurations
// that are suitable for the transfer attributes of the messages" (RFC 5971
// §5.7.1).
func (s *stacks) inQuery(secure bool) (wire.StackProposal, []wire.MAOptions) {
	if secure {
		return s.secure, s.secureOptions
	}
	return s.proposal, s.queryOptions
}

func (s *stacks) allows(k Stack) bool { return slices.Contains(s.list, k) }

var errNoCommonStack = errors.New("gist: the peer offers no stack of messaging association protocols that we may use")

// negotiate picks the best stack that we may use of those that the Response in
// m.in offers, and its port. RFC 5971 §5.7.1, §8.6
func (m *Machine) negotiate(secure bool) (Stack, uint16, error) {
	msg := &m.in
	for _, k := range m.stacks.list {
		if secure && !k.Secure() {
			continue
		}
		for i, profile := range msg.StackProposal {
			if s, ok := stackOf(profile); !ok || s != k || disabled(&msg.StackConfig, profile, i+1) {
				continue
			}
			opt, ok := msg.StackConfig.Lookup(stackTable[k].port, i+1)
			if port, hasPort := opt.Port(); ok && hasPort && port != 0 {
				return k, port, nil
			}
		}
	}
	want, _ := m.stacks.inQuery(secure)
	return 0, 0, fmt.Errorf("%w: %w: it offers %v, want one of %v", ErrPeerRefused, errNoCommonStack, msg.StackProposal, want)
}

// disabled says whether a protocol of the profile is flagged as not usable:
// it "MUST NOT be used for a messaging association" (RFC 5971 §5.7.1).
func disabled(c *wire.StackConfig, profile wire.Profile, number int) bool {
	for _, protocol := range profile {
		if o, ok := c.Lookup(protocol, number); ok && o.Disabled {
			return true
		}
	}
	return false
}
