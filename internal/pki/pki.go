// Package pki makes the certificates of a lab or a small network: one authority,
// and certificates for the QNEs of ASs and for clients of the admin API. An
// operator with an authority of his own needs none of it.
//
// A QNE's certificate says its AS in a URI of the subject alternative name,
// urn:interqos:as:65001 (ASURI), beside its addresses. Keys are ECDSA on P-256
// and certificates follow the profile of RFC 5280.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lifetimes where none is given, and how far validity begins in the past: the
// clocks of two networks differ.
const (
	DefaultCALifetime = 10 * 365 * 24 * time.Hour
	DefaultLifetime   = 90 * 24 * time.Hour
	Backdate          = 5 * time.Minute
)

// minLifetime keeps a slip of the pen from making what is no use to anybody.
const minLifetime = time.Minute

// endOfTime is the last moment that a certificate can name. RFC 5280 §4.1.2.5
var endOfTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// CAOptions say how a new authority is made. Zero fields take the defaults
// named.
type CAOptions struct {
	// Name is the common name. "interqos CA".
	Name string
	// Lifetime is from now on. DefaultCALifetime.
	Lifetime time.Duration
	// Now is the clock. time.Now.
	Now func() time.Time
	// Rand makes serial numbers; keys always come from the system's source.
	// crypto/rand.
	Rand io.Reader
}

// CA is an authority: it can issue certificates.
type CA struct {
	// Cert is the authority's own certificate.
	Cert *x509.Certificate
	// Old are earlier authorities that the bundle still has, so that what they
	// issued is trusted until it is renewed.
	Old []*x509.Certificate
	// Now and Rand are as in CAOptions.
	Now  func() time.Time
	Rand io.Reader

	key *ecdsa.PrivateKey
}

// Request says what a certificate is for.
type Request struct {
	// Name is the common name, and what the files are called. For a client of
	// the admin API it is what admin.remote.roles names.
	Name string
	// AS is the AS that the certificate speaks for; 0: none.
	AS  uint32
	IPs []netip.Addr
	DNS []string
	// Lifetime is from now on. DefaultLifetime.
	Lifetime time.Duration
}

// Pair is a certificate and its key, both in PEM.
type Pair struct{ CertPEM, KeyPEM []byte }

const asPrefix = "urn:interqos:as:"

// ASURI is the URI that says that a certificate speaks for an AS.
func ASURI(as uint32) string { return asPrefix + strconv.FormatUint(uint64(as), 10) }

// ASOf returns the AS that a certificate speaks for. It has to name exactly one.
func ASOf(c *x509.Certificate) (as uint32, ok bool) {
	for _, u := range c.URIs {
		text := u.String()
		if !strings.HasPrefix(text, asPrefix) {
			continue
		}
		n, err := strconv.ParseUint(text[len(asPrefix):], 10, 32)
		if ok || err != nil || n == 0 || text != ASURI(uint32(n)) {
			return 0, false
		}
		as, ok = uint32(n), true
	}
	return as, ok
}

// NewCA makes an authority that signs itself.
func NewCA(o CAOptions) (*CA, error) {
	if o.Name == "" {
		o.Name = "interqos CA"
	}
	if len(o.Name) > maxCommonName || strings.ContainsFunc(o.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("name %q: expected up to %d octets of text", o.Name, maxCommonName)
	}
	if o.Lifetime == 0 {
		o.Lifetime = DefaultCALifetime
	}
	ca := &CA{Now: o.Now, Rand: o.Rand}
	ca.setDefaults()
	template, err := ca.template(o.Name, o.Lifetime)
	if err != nil {
		return nil, err
	}
	// RFC 5280 §4.2.1.9: no authority below this one.
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), ca.Rand); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificate(ca.Rand, template, template, ca.key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", o.Name, err)
	}
	if ca.Cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read back the certificate of %s: %w", o.Name, err)
	}
	return ca, nil
}

func (ca *CA) setDefaults() {
	if ca.Now == nil {
		ca.Now = time.Now
	}
	if ca.Rand == nil {
		ca.Rand = rand.Reader
	}
}

// template has what all certificates have in common.
func (ca *CA) template(name string, lifetime time.Duration) (*x509.Certificate, error) {
	if lifetime < minLifetime {
		return nil, fmt.Errorf("lifetime %s: expected %s or more", lifetime, minLifetime)
	}
	now := ca.Now().UTC().Truncate(time.Second)
	until := now.Add(lifetime)
	if until.After(endOfTime) {
		return nil, fmt.Errorf("lifetime %s: a certificate ends in the year 9999 at the latest", lifetime)
	}
	// RFC 5280 §4.1.2.2: positive, at most 20 octets; random, so that nobody
	// can know what will be signed.
	serial := make([]byte, 16)
	if _, err := io.ReadFull(ca.Rand, serial); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-Backdate),
		NotAfter:     until,
	}, nil
}

// maxCommonName is the upper bound of a common name. RFC 5280 appendix A.1
const maxCommonName = 64

var (
	goodName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	goodLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

// CheckName says what is wrong with the name of a certificate; nil: nothing.
func CheckName(name string) error {
	switch {
	case len(name) > maxCommonName || !goodName.MatchString(name):
		return fmt.Errorf("name %q: expected up to %d letters, digits, dots, underscores and hyphens, the first a letter or digit", name, maxCommonName)
	case strings.EqualFold(name, caName):
		return fmt.Errorf("name %q is the authority's own", name)
	}
	return nil
}

func checkDNS(name string) error {
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if len(label) > 63 || !goodLabel.MatchString(label) {
			return fmt.Errorf("DNS name %q: expected one such as qne1.example.net, without wildcards", name)
		}
	}
	if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 {
		return fmt.Errorf("DNS name %q: expected a name of up to 253 octets, not an address", name)
	}
	return nil
}

// Issue makes a key and a certificate for it. It can be used as a server and as
// a client: a QNE is both.
func (ca *CA) Issue(r Request) (*Pair, error) {
	if err := CheckName(r.Name); err != nil {
		return nil, err
	}
	if r.Lifetime == 0 {
		r.Lifetime = DefaultLifetime
	}
	template, err := ca.template(r.Name, r.Lifetime)
	if err != nil {
		return nil, err
	}
	if now, end := ca.Now(), ca.Cert.NotAfter; template.NotAfter.After(end) {
		if !now.Before(end) {
			return nil, fmt.Errorf("the authority %q ended %s: %w", ca.Cert.Subject.CommonName, timeText(end), ErrOutlives)
		}
		return nil, fmt.Errorf("lifetime %s: the certificate would outlive the authority %q, which ends %s, in %s: %w",
			HumanLifetime(r.Lifetime), ca.Cert.Subject.CommonName, timeText(end), HumanLifetime(end.Sub(now)), ErrOutlives)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.BasicConstraintsValid = true
	if r.AS != 0 {
		uri, err := url.Parse(ASURI(r.AS))
		if err != nil {
			return nil, fmt.Errorf("AS %d: %w", r.AS, err)
		}
		template.URIs = []*url.URL{uri}
	}
	for _, a := range r.IPs {
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("address %v: expected a node's own address, without a zone", a)
		}
		ip := net.IP(a.Unmap().AsSlice())
		if !slices.ContainsFunc(template.IPAddresses, ip.Equal) {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	for _, name := range r.DNS {
		name = strings.ToLower(name)
		if err := checkDNS(name); err != nil {
			return nil, err
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), ca.Rand)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificate(ca.Rand, template, ca.Cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", r.Name, err)
	}
	keyPEM, err := marshalKey(key)
	if err != nil {
		return nil, err
	}
	return &Pair{CertPEM: marshalCert(der), KeyPEM: keyPEM}, nil
}

// ErrOutlives: a certificate would be valid for longer than its authority.
var ErrOutlives = errors.New("ask for less, or make a new authority (qnectl pki rotate-ca)")

const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
)

func marshalCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})
}

func marshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
