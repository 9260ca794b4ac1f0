package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limits and defaults.
const (
	// DefaultHoldTime is what RFC 4271 §10 suggests.
	DefaultHoldTime = 90 * time.Second
	// DefaultConnectRetry is also the least that GoBGP takes: it waits
	// between three quarters of it and all of it before each try to connect,
	// the first one, too.
	DefaultConnectRetry = 2 * time.Second

	maxPassword = 80 // octets, TCP_MD5SIG_MAXKEYLEN
)

// Config is what a Speaker is made with.
type Config struct {
	// AS is the own AS number; four octets (RFC 6793) and private numbers
	// (RFC 6996) are fine.
	AS uint32
	// RouterID is the BGP identifier, an IPv4 address.
	RouterID netip.Addr
	// ListenPort is the TCP port to accept sessions on; 0: 179, -1: accept none.
	ListenPort int
	// ListenAddresses are the addresses to accept sessions on; none: all.
	ListenAddresses []netip.Addr
	Neighbors       []Neighbor
	// Originate are the prefixes that this AS announces as its own.
	Originate []netip.Prefix
	// ConnectRetry is how long to wait before a neighbour that did not answer
	// is tried again, in whole seconds; 0: DefaultConnectRetry. Less than that
	// is taken as that.
	ConnectRetry time.Duration
}

// Neighbor is a session from one of our border interfaces to the neighbour's. It
// carries unicast routes of the address family that it runs over, with those two
// addresses as next hops. A neighbour AS with two border interfaces, or with two
// families, is two Neighbors.
type Neighbor struct {
	AS    uint32
	Local netip.Addr
	// Remote is the neighbour's border interface; its port is used to connect, 0: 179.
	Remote netip.AddrPort
	// Passive waits for the neighbour to connect.
	Passive bool
	// Password is for TCP MD5 (RFC 2385), at most 80 octets; empty: none.
	Password string
	// HoldTime is in whole seconds, at least 3; 0: DefaultHoldTime.
	HoldTime time.Duration
}

// check says what is wrong with a configuration, all of it.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("bgp: "+format, args...)) }
	if c.AS == 0 {
		bad("AS is 0, expected an AS number")
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		bad("router id %s, expected an IPv4 address", c.RouterID)
	}
	if c.ListenPort < -1 || c.ListenPort > 65535 {
		bad("listen port %d, expected 1 to 65535, 0 for 179, or -1 for none", c.ListenPort)
	}
	if c.ConnectRetry < 0 || c.ConnectRetry%time.Second != 0 {
		bad("connect retry %s, expected whole seconds", c.ConnectRetry)
	}
	for _, a := range c.ListenAddresses {
		if !a.IsValid() || a.Is4In6() {
			bad("listen address %s, expected an IPv4 or IPv6 address", a)
		}
	}
	seen := map[netip.Addr]bool{}
	for i, n := range c.Neighbors {
		if err := n.check(); err != nil {
			bad("neighbor %d (%s, AS %d): %w", i+1, n.Remote, n.AS, err)
		}
		if seen[n.Remote.Addr()] {
			bad("neighbor %d: %s is there twice, expected one session for each address of the neighbour", i+1, n.Remote.Addr())
		}
		seen[n.Remote.Addr()] = true
		if n.Passive && c.ListenPort == -1 {
			bad("neighbor %d (%s) is passive, and there is no listen port: nobody would connect", i+1, n.Remote)
		}
	}
	for _, p := range c.Originate {
		if err := checkPrefix(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *Neighbor) check() error {
	switch r := n.Remote.Addr(); {
	case n.AS == 0:
		return errors.New("AS is 0, expected an AS number")
	case !r.IsValid() || r.IsUnspecified() || r.Is4In6():
		return fmt.Errorf("remote address %s, expected the neighbour's border interface", r)
	case !n.Local.IsValid() || n.Local.IsUnspecified():
		return fmt.Errorf("local address %s, expected a border interface of ours", n.Local)
	case n.Local.Is4() != r.Is4():
		return fmt.Errorf("local address %s and remote address %s, expected two of the same IP version", n.Local, r)
	case n.Local == r:
		return fmt.Errorf("local and remote address are both %s", r)
	case n.HoldTime != 0 && (n.HoldTime < 3*time.Second || n.HoldTime > 65535*time.Second || n.HoldTime%time.Second != 0):
		return fmt.Errorf("hold time %s, expected whole seconds from 3 s to 65535 s", n.HoldTime)
	case len(n.Password) > maxPassword:
		return fmt.Errorf("password of %d octets, expected at most %d", len(n.Password), maxPassword)
	}
	return nil
}

func checkPrefix(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
		return fmt.Errorf("bgp: prefix %s, expected an IPv4 or IPv6 prefix without host bits", p)
	}
	return nil
}
