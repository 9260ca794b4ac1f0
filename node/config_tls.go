package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/internal/strictyaml"
)

// TLSConfig is gist.tls: TLS between domains. Parse fills in the names of the
// files, Load what is in them.
type TLSConfig struct {
	CertificateFile, KeyFile, CAFile string
	MinVersion                       uint16
	KeyLog                           string // a file; empty: none

	Certificate tls.Certificate
	CAs         *x509.CertPool
}

// same says whether two mean the same, whatever their files are called.
func (c *TLSConfig) same(d *TLSConfig) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c.MinVersion == d.MinVersion && c.KeyLog == d.KeyLog &&
		slices.EqualFunc(c.Certificate.Certificate, d.Certificate.Certificate, slices.Equal[[]byte]) &&
		(c.CAs == d.CAs || c.CAs != nil && d.CAs != nil && c.CAs.Equal(d.CAs))
}

const (
	tlsExpected = "a mapping with certificate, key and ca"
	tlsHint     = "qnectl pki makes certificates; in a lab insecure: true does without"
)

func (p *configParser) tls(v strictyaml.Value) {
	if !v.There() {
		return
	}
	o := v.Object(tlsExpected, "certificate", "key", "ca", "min_version", "keylog")
	if !o.IsMapping() {
		return
	}
	c := &TLSConfig{
		CertificateFile: p.file(o.Need("certificate"), "this QNE's certificate, a PEM file"),
		KeyFile:         p.file(o.Need("key"), "the certificate's key, a PEM file"),
		CAFile:          p.file(o.Need("ca"), "the authorities of the neighbours' certificates, a PEM file"),
		MinVersion:      tls.VersionTLS13,
	}
	if o.Get("min_version").Word("1.3", "1.3", "1.2") == "1.2" {
		c.MinVersion = tls.VersionTLS12
	}
	if k := o.Get("keylog"); k.There() {
		c.KeyLog = p.file(k, "the file that the secrets of all connections are written to, for debugging")
	}
	p.c.GIST.TLS, p.tlsPart = c, o
}

// stacks checks that there is a way for messaging associations.
func (p *configParser) stacks(gist strictyaml.Object) {
	g := &p.c.GIST
	if g.SCTP && !p.c.Insecure && !p.badInsecure {
		gist.Get("sctp").Bad("sctp only with insecure: true", "nothing protects what goes over it")
	}
	port := gist.Get("plain_port")
	switch {
	case g.TLS == nil && !p.c.Insecure && !p.badInsecure && !gist.Get("tls").There() && gist.IsMapping():
		gist.Get("tls").Required(tlsExpected + " (" + tlsHint + ")")
	case g.TLS != nil && p.c.Insecure:
		const expected = "a TCP port for associations without TLS, which insecure: true allows beside gist.tls"
		g.PlainPort = uint16(port.Required(expected).Number(expected, 1, 65535, 0))
		if n := max(g.Shards, 1); g.PlainPort != 0 && int(g.PlainPort) < int(g.TCPPort)+n && int(g.TCPPort) < int(g.PlainPort)+n {
			port.Bad(fmt.Sprintf("ports apart from those from tcp_port %d on, one for each shard", g.TCPPort), "")
		}
	case port.There():
		port.Bad("plain_port only with gist.tls and insecure: true", "without one of them tcp_port is the only port")
	}
}

// readTLS reads the files of gist.tls, and looks whether peers can accept what
// is in them.
func (p *configParser) readTLS() {
	c := p.c.GIST.TLS
	if c == nil || p.r.Err() != nil {
		return
	}
	wrong := func(key, found, expected, hint string) { p.tlsPart.Get(key).Wrong(found, expected, hint) }
	var err error
	if c.CAs, err = readAuthorities(c.CAFile); err != nil {
		wrong("ca", err.Error(), "certificates of authorities in PEM", tlsHint)
	}
	const own = "a certificate that the neighbours can accept"
	switch info, err := os.Stat(c.KeyFile); {
	case err != nil:
		wrong("key", err.Error(), "the certificate's key", tlsHint)
		return
	case info.Mode().Perm()&0o007 != 0:
		wrong("key", fmt.Sprintf("%s with mode %04o", c.KeyFile, info.Mode().Perm()), "a file that only its owner and group can read", "chmod 600 it")
		return
	}
	if c.Certificate, err = tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile); err != nil {
		wrong("certificate", err.Error(), "a certificate in PEM and the key that belongs to it", tlsHint)
		return
	}
	if err := fitFor(c.Certificate.Leaf, p.c.AS, p.c.GIST.all(), time.Now()); err != nil {
		wrong("certificate", c.CertificateFile+": "+err.Error(), own, "qnectl pki show says what is in it")
	}
}

func readAuthorities(file string) (*x509.CertPool, error) {
	certs, err := pki.ReadCerts(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !c.IsCA {
			return nil, fmt.Errorf("%s: the certificate %q is not an authority's", file, c.Subject.CommonName)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// fitFor says why peers would refuse a certificate of this QNE, nil if they
// would not for anything that is in it.
func fitFor(c *x509.Certificate, as uint32, addresses []netip.Addr, now time.Time) error {
	var errs []error
	if of, ok := pki.ASOf(c); !ok {
		errs = append(errs, fmt.Errorf("it names no AS, expected the URI %s", pki.ASURI(as)))
	} else if of != as {
		errs = append(errs, fmt.Errorf("it is of AS%d, expected AS%d", of, as))
	}
	for i, address := range addresses {
		key := "gist.address"
		if i > 0 {
			key = "gist.addresses:"
		}
		if len(c.IPAddresses) > 0 && !slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool {
			a, ok := netip.AddrFromSlice(ip)
			return ok && a.Unmap() == address
		}) {
			errs = append(errs, fmt.Errorf("it names addresses, and %s %v is not among them", key, address))
		}
	}
	switch {
	case now.After(c.NotAfter):
		errs = append(errs, fmt.Errorf("it expired on %s", c.NotAfter.UTC().Format(time.RFC3339)))
	case now.Before(c.NotBefore):
		errs = append(errs, fmt.Errorf("it is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339)))
	}
	if u := c.ExtKeyUsage; len(u) > 0 && !slices.Contains(u, x509.ExtKeyUsageAny) &&
		(!slices.Contains(u, x509.ExtKeyUsageServerAuth) || !slices.Contains(u, x509.ExtKeyUsageClientAuth)) {
		errs = append(errs, errors.New("its extended key usage is not for TLS servers and clients both"))
	}
	return errors.Join(errs...)
}

// names reads the DNS names of which a neighbour's certificate has to have one.
func (p *configParser) names(v strictyaml.Value) (all []string) {
	const expected = "a DNS name, perhaps with *. before it"
	for _, item := range v.List("a list of DNS names") {
		text, ok := item.Scalar(expected)
		if !ok {
			continue
		}
		if rest := strings.TrimPrefix(text, "*."); rest == "" || strings.ContainsAny(rest, "* /:@") {
			item.Bad(expected, "")
			continue
		}
		all = append(all, text)
	}
	return all
}
