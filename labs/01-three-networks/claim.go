package three

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

// claimName is an abstract Unix socket: like the lab's addresses it is one of a
// network namespace, belongs to no user, and goes with its process.
const claimName = "@interqos-lab-01-three-networks"

// ErrTaken says that the lab's addresses are in use.
var ErrTaken = errors.New("the lab's addresses are in use")

// Claim reserves the lab's fixed addresses for this program. Where another uses
// them it waits as long as wait says, and then returns an error that wraps
// ErrTaken. A second call does nothing.
func (l *Lab) Claim(ctx context.Context, wait time.Duration) error {
	if l.claim != nil {
		return nil
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		err := l.tryClaim()
		if !errors.Is(err, ErrTaken) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return err
		case <-again.C:
		}
	}
}

func (l *Lab) tryClaim() error {
	claim, err := net.Listen("unix", claimName)
	if err != nil {
		return fmt.Errorf("%w: they are claimed %s", ErrTaken, heldBy("unix", claimName))
	}
	if err := free(); err != nil {
		return errors.Join(err, claim.Close())
	}
	l.claim = claim
	return nil
}

func (l *Lab) unclaim() error {
	if l.claim == nil {
		return nil
	}
	err := l.claim.Close()
	l.claim = nil
	return err
}

// addresses is what a configuration says of addresses.
type addresses struct {
	Metrics struct{ Listen string }
	GIST    struct {
		Address netip.Addr
		Port    uint16
		TCPPort uint16 `yaml:"tcp_port"`
	}
	BGP struct {
		Port uint16 `yaml:"listen_port"`
	}
	Edges []struct{ Internal, External netip.Addr }
	Wire  string // of the gateway
	// Subscribers' access wires are their receivers' business.
}

// free tries to listen on every address of the lab.
func free() error {
	for _, name := range []string{"as65001", "as65002", "as65003", "bngfe"} {
		text, err := files.ReadFile("config/" + name + ".yaml")
		if err != nil {
			return err
		}
		var a addresses
		if err := yaml.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("%s.yaml: %w", name, err)
		}
		if err := a.free(); err != nil {
			return err
		}
	}
	return nil
}

func (a *addresses) free() error {
	udp, tcp := []string{}, []string{}
	if a.Wire != "" {
		udp = append(udp, a.Wire)
	}
	if a.Metrics.Listen != "" {
		tcp = append(tcp, a.Metrics.Listen)
	}
	if a.GIST.Address.IsValid() {
		udp = append(udp, netip.AddrPortFrom(a.GIST.Address, a.GIST.Port).String())
		tcp = append(tcp, netip.AddrPortFrom(a.GIST.Address, a.GIST.TCPPort).String())
	}
	for _, e := range a.Edges {
		udp = append(udp, netip.AddrPortFrom(e.Internal, a.GIST.Port).String(), netip.AddrPortFrom(e.External, a.GIST.Port).String())
		tcp = append(tcp, netip.AddrPortFrom(e.External, a.BGP.Port).String())
	}
	for _, at := range udp {
		c, err := net.ListenPacket("udp", at)
		if err != nil {
			return taken("udp", at, err)
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	for _, at := range tcp {
		c, err := net.Listen("tcp", at)
		if err != nil {
			return taken("tcp", at, err)
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

func taken(network, at string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the lab needs %s %s: %w", network, at, err)
	}
	return fmt.Errorf("%w: %s %s is held %s: %w", ErrTaken, network, at, heldBy(network, at), err)
}
