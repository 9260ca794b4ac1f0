package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/internal/strictyaml"
)

// AuthConfig is auth: who proves what to whom beyond the next hop.
type AuthConfig struct{ Records RecordsConfig }

// RecordsConfig is auth.records: the signatures in DOMAIN-RECORDS. Parse fills in
// the names of the files, Load what is in them.
type RecordsConfig struct {
	// What ours are signed with, and the authorities of others' certificates.
	// Empty: those of gist.tls.
	CertificateFile, KeyFile, CAFile string
	// CertificateFiles have the certificates of ASs whose records are checked.
	CertificateFiles []string

	Certificate tls.Certificate // zero: that of gist.tls
	CAs         *x509.CertPool  // nil: those of gist.tls
	Others      []*x509.Certificate
}

// same says whether two mean the same, whatever their files are called.
func (c *RecordsConfig) same(d *RecordsConfig) bool {
	return slices.EqualFunc(c.Certificate.Certificate, d.Certificate.Certificate, slices.Equal[[]byte]) &&
		(c.CAs == d.CAs || c.CAs != nil && d.CAs != nil && c.CAs.Equal(d.CAs)) &&
		slices.EqualFunc(c.Others, d.Others, (*x509.Certificate).Equal)
}

func (p *configParser) auth(v strictyaml.Value) {
	o := v.Object("a mapping with records", "records")
	const expected = "a mapping with certificates, and certificate, key and ca where they are not those of gist.tls"
	p.recordsPart = o.Get("records").Object(expected, "certificate", "key", "ca", "certificates")
	r, part := &p.c.Auth.Records, p.recordsPart
	certificate, key := part.Get("certificate"), part.Get("key")
	if certificate.There() || key.There() {
		r.CertificateFile = p.file(part.Need("certificate"), "the certificate that our records are signed for, a PEM file")
		r.KeyFile = p.file(part.Need("key"), "the certificate's key, a PEM file")
	}
	if ca := part.Get("ca"); ca.There() {
		r.CAFile = p.file(ca, "the authorities of the certificates, a PEM file")
	}
	for _, item := range part.Get("certificates").List("a list of PEM files with certificates of ASs") {
		if name := p.file(item, "a PEM file with certificates of ASs"); name != "" {
			r.CertificateFiles = append(r.CertificateFiles, name)
		}
	}
	if len(r.CertificateFiles) > 0 && r.CAFile == "" && p.c.GIST.TLS == nil {
		part.Get("ca").Required("the authorities of the certificates, a PEM file (there is no gist.tls)")
	}
}

// readAuth reads the files of auth.
func (p *configParser) readAuth() {
	if p.r.Err() != nil {
		return
	}
	r := &p.c.Auth.Records
	var err error
	if r.CertificateFile != "" {
		certificate := p.recordsPart.Get("certificate")
		if info, err := os.Stat(r.KeyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
			p.recordsPart.Get("key").Wrong(fmt.Sprintf("%s with mode %04o", r.KeyFile, info.Mode().Perm()), "a file that only its owner and group can read", "chmod 600 it")
			return
		}
		if r.Certificate, err = tls.LoadX509KeyPair(r.CertificateFile, r.KeyFile); err != nil {
			certificate.Wrong(err.Error(), "a certificate in PEM and the key that belongs to it", tlsHint)
			return
		}
		if as, ok := pki.ASOf(r.Certificate.Leaf); !ok || as != p.c.AS {
			certificate.Wrong(r.CertificateFile+", which is not of our AS", "a certificate with the URI "+pki.ASURI(p.c.AS), "qnectl pki show says what is in it")
		}
	}
	if r.CAFile != "" {
		if r.CAs, err = readAuthorities(r.CAFile); err != nil {
			p.recordsPart.Get("ca").Wrong(err.Error(), "certificates of authorities in PEM", tlsHint)
			return
		}
	}
	if _, err := recordSigner(p.c); err != nil {
		p.recordsPart.Get("certificate").Wrong(err.Error(), "a key that can sign DOMAIN-RECORDS", "")
	}
	items := p.recordsPart.Get("certificates").List("")
	for i, name := range r.CertificateFiles {
		certs, err := pki.ReadCerts(name)
		if err != nil {
			items[i].Wrong(err.Error(), "certificates in PEM", "")
			continue
		}
		for _, c := range certs {
			if _, ok := pki.ASOf(c); !ok {
				items[i].Wrong(fmt.Sprintf("%s: %q names no AS", name, c.Subject.CommonName), "certificates of ASs, with a URI such as "+pki.ASURI(p.c.AS), "")
				continue
			}
			// Whether it has expired is looked at when a record is checked.
			if err := signedBy(c, recordAuthorities(p.c), c.NotAfter); err != nil {
				items[i].Wrong(fmt.Sprintf("%s: %q: %v", name, c.Subject.CommonName, err), "certificates of the authorities", "")
				continue
			}
			r.Others = append(r.Others, c)
		}
	}
}
