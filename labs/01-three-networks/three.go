// Package three starts the three networks of lab 01: AS65001 (source), AS65002
// (transit) and AS65003 (sink), each its own qned process, and the sink's
// gateway.
package three

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/labs/internal/run"
)

//go:embed config/*.yaml sls/*.yaml
var files embed.FS

// ASs are the three AS numbers, in the order of the path.
var ASs = []uint32{65001, 65002, 65003}

// Wires of AS65003's gateway, as config/bngfe.yaml has them: a wire is a UDP
// address that takes whole IP packets.
const (
	GatewayWire = "127.3.0.4:10900"  // packets from the network
	AccessWire  = "127.3.0.10:10900" // to the subscriber
)

// Lab is the three networks.
type Lab struct {
	run.Processes
	Nodes []*run.Node

	claim net.Listener // see Claim
}

// Options change the lab from what its files say.
type Options struct {
	Bin string // folder of the binaries
	Dir string // working folder; it must exist
	// Edit changes a configuration or SLS file before it is written; nil: as
	// it is.
	Edit func(name, text string) string
	// StoreDir is where the stores go; empty: Dir.
	StoreDir string
	// Survive has the networks go on when the lab's program ends.
	Survive bool
}

// Prepare writes the files, and makes certificates in the folder pki.
func Prepare(o Options) (*Lab, error) {
	l := &Lab{}
	bin, err := filepath.Abs(o.Bin)
	if err != nil {
		return nil, err
	}
	l.Bin, l.Dir, l.Survive = bin, o.Dir, o.Survive
	if err := makeCertificates(filepath.Join(o.Dir, "pki")); err != nil {
		return nil, err
	}
	return l, fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		text, name := string(b), filepath.Base(path)
		if o.StoreDir != "" {
			text = strings.Replace(text, "store: {path: ", "store: {path: "+o.StoreDir+"/", 1)
		}
		if o.Edit != nil {
			text = o.Edit(name, text)
		}
		return os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600)
	})
}

// makeCertificates makes an authority for this lab alone, and each AS's QNE a
// certificate that says which AS it is of.
func makeCertificates(dir string) error {
	ca, err := pki.NewCA(pki.CAOptions{Name: "lab 01"})
	if err != nil {
		return err
	}
	if err := ca.Save(dir); err != nil {
		return err
	}
	for i, as := range ASs {
		name := fmt.Sprintf("as%d", as)
		p, err := ca.Issue(pki.Request{Name: name, AS: as, IPs: []netip.Addr{netip.AddrFrom4([4]byte{127, byte(i + 1), 0, 1})}})
		if err != nil {
			return err
		}
		if err := p.Save(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// StartGateway starts AS65003's gateway.
func (l *Lab) StartGateway() error {
	_, err := l.Start("bngfe", "bngfe", "-c", "bngfe.yaml")
	return err
}

// StartNetworks starts the three qned and waits until each can reserve.
func (l *Lab) StartNetworks(ctx context.Context) error {
	if err := l.Claim(ctx, 0); err != nil {
		return err
	}
	for _, as := range ASs {
		name := fmt.Sprintf("as%d", as)
		if _, err := l.Start(name, "qned", "-c", name+".yaml"); err != nil {
			return err
		}
		n, err := run.Dial(as, l.Socket(as))
		if err != nil {
			return err
		}
		l.Nodes = append(l.Nodes, n)
	}
	for _, n := range l.Nodes {
		if err := l.Until(ctx, fmt.Sprintf("AS%d to be ready", n.AS), n.Ready); err != nil {
			return err
		}
	}
	return l.Until(ctx, "routes to every network", l.converged)
}

// SocketName returns the file of an AS's admin API, in the lab's folder.
func SocketName(as uint32) string { return fmt.Sprintf("as%d.sock", as) }

// Socket returns the address of an AS's admin API.
func (l *Lab) Socket(as uint32) string { return "unix:" + filepath.Join(l.Dir, SocketName(as)) }

// Close ends everything.
func (l *Lab) Close() error {
	err := l.Disconnect()
	return errors.Join(err, l.Stop(), l.unclaim())
}

// Disconnect ends the connections to the networks, not the networks.
func (l *Lab) Disconnect() error {
	var errs []error
	for _, n := range l.Nodes {
		errs = append(errs, n.Close())
	}
	l.Nodes = nil
	return errors.Join(errs...)
}

// ApplySLSs loads into each AS the SLSs that it is a party to.
func (l *Lab) ApplySLSs(ctx context.Context) error {
	for _, n := range l.Nodes {
		for _, name := range SLSFiles(n.AS) {
			text, err := os.ReadFile(filepath.Join(l.Dir, name))
			if err != nil {
				return err
			}
			if _, err := n.SLS.Apply(ctx, &api.ApplyRequest{Yaml: text, Name: name}); err != nil {
				return fmt.Errorf("AS%d: %s: %w", n.AS, name, err)
			}
		}
	}
	return nil
}

// SLSFiles returns the names of the SLS files that an AS is a party to.
func SLSFiles(as uint32) []string {
	var names []string
	for _, name := range []string{"as65001-as65002.yaml", "as65002-as65003.yaml"} {
		if strings.Contains(name, fmt.Sprint(as)) {
			names = append(names, name)
		}
	}
	return names
}
