package interdomain

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/interqos/interqos/internal/cms"
	"github.com/interqos/interqos/qosnslp/wire"
)

// A SESSION_AUTH object whose AUTH_ENT_ID is X509_V3_CERT has in it the subject of
// the authorizing entity's certificate, and in AUTHENTICATION_DATA a signed-data
// (RFC 5652) with the certificates, perhaps revocation lists, and a signature over
// the attributes before it (RFC 5981 §4.3.1.1, §6.1).

// Errors of CertificateVerifier.
var (
	ErrAuthKind    = errors.New("SESSION_AUTH of a kind that is not supported here")
	ErrCertificate = errors.New("the certificate is not accepted")
	ErrRevoked     = errors.New("the certificate is revoked")
)

// SignX509 makes t a token of the owner of chain's first certificate: it sets
// AUTH_ENT_ID and AUTHENTICATION_DATA. crls, in DER, may say that none of the
// chain is revoked.
//
// RFC 5981 §4.3.1.1
func SignX509(t *wire.AuthToken, key crypto.Signer, chain []*x509.Certificate, crls [][]byte) error {
	if len(chain) == 0 {
		return errors.New("SESSION_AUTH: no certificate to sign with")
	}
	t.HasEntity, t.Entity = true, wire.AuthEntity{SubType: wire.EntX509Cert, Value: []byte(chain[0].Subject.String())}
	data, err := cms.Sign(t.AppendCovered(nil), key, chain, crls)
	if err != nil {
		return fmt.Errorf("SESSION_AUTH: %w", err)
	}
	t.Data = data
	return nil
}

// CertificateVerifier checks tokens that are signed with certificates. It is used
// from one goroutine.
type CertificateVerifier struct {
	roots *x509.CertPool
	limit int
	// paths are the certification paths that were found good, by what they were
	// found from.
	paths map[[sha256.Size]byte]validity
}

// validity is how long a path that was found stays good.
type validity struct{ from, until time.Time }

// MaxCertificatePaths is how many paths a CertificateVerifier remembers unless
// it is told otherwise.
const MaxCertificatePaths = 256

// NewCertificateVerifier trusts the authorities of roots, and remembers at most
// limit paths; 0: MaxCertificatePaths.
func NewCertificateVerifier(roots *x509.CertPool, limit int) *CertificateVerifier {
	if limit <= 0 {
		limit = MaxCertificatePaths
	}
	if roots == nil {
		roots = x509.NewCertPool() // not the system's
	}
	return &CertificateVerifier{roots: roots, limit: limit, paths: make(map[[sha256.Size]byte]validity)}
}

// Verify checks a token, of which covered is what AuthToken.Parse says, and
// returns the certificate of who signed it, with these steps of RFC 5981
// §4.3.1.1: the certification path (RFC 5280, section 6), the revocation lists that came
// with it, the signature; and that the subject is whom the token names.
func (v *CertificateVerifier) Verify(now time.Time, t *wire.AuthToken, covered []byte) (*x509.Certificate, error) {
	if !t.HasEntity || t.Entity.SubType != wire.EntX509Cert {
		return nil, fmt.Errorf("AUTH_ENT_ID %s, want X509_V3_CERT: %w", t.Entity.Kind(), ErrAuthKind)
	}
	s, err := cms.Parse(t.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	signer := s.Certificates[0]
	if string(t.Entity.Value) != signer.Subject.String() {
		return nil, fmt.Errorf("AUTH_ENT_ID %s, the certificate is of %q: %w", t.Entity, signer.Subject, ErrCertificate)
	}
	// The path first: nobody makes us work for a signature with a key of his own.
	if err := v.path(now, s); err != nil {
		return nil, err
	}
	if err := s.Check(covered); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return signer, nil
}

// path validates the certification path, or knows that it has.
func (v *CertificateVerifier) path(now time.Time, s *cms.Signed) error {
	h := sha256.New()
	for _, c := range s.Certificates {
		h.Write(c.Raw)
	}
	for _, l := range s.CRLs {
		h.Write(l.Raw)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if good, ok := v.paths[key]; ok && !now.Before(good.from) && !now.After(good.until) {
		return nil
	}
	delete(v.paths, key)
	others := x509.NewCertPool()
	for _, c := range s.Certificates[1:] {
		others.AddCert(c)
	}
	signer := s.Certificates[0]
	if signer.KeyUsage != 0 && signer.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return fmt.Errorf("%q is not for signatures: %w", signer.Subject, ErrCertificate)
	}
	chains, err := signer.Verify(x509.VerifyOptions{Roots: v.roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	var last error
	for _, chain := range chains {
		good, err := unrevoked(now, chain, s.CRLs)
		if err != nil {
			last = err
			continue
		}
		if len(v.paths) >= v.limit {
			clear(v.paths)
		}
		v.paths[key] = good
		return nil
	}
	return last
}

// unrevoked checks a path against the revocation lists, and says for how long it
// holds. A list counts if the next certificate of the path issued it; one that
// does, and is wrong or late, is not passed over.
func unrevoked(now time.Time, chain []*x509.Certificate, lists []*x509.RevocationList) (validity, error) {
	good := validity{chain[0].NotBefore, chain[0].NotAfter}
	for i, c := range chain {
		good.narrow(c.NotBefore, c.NotAfter)
		if i+1 == len(chain) {
			break
		}
		issuer := chain[i+1]
		for _, l := range lists {
			if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
				continue
			}
			if err := l.CheckSignatureFrom(issuer); err != nil {
				return good, fmt.Errorf("revocation list of %q: %w: %w", issuer.Subject, err, ErrCertificate)
			}
			if now.Before(l.ThisUpdate) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
				return good, fmt.Errorf("revocation list of %q, from %v to %v, is not of now: %w", issuer.Subject, l.ThisUpdate, l.NextUpdate, ErrCertificate)
			}
			good.narrow(l.ThisUpdate, l.NextUpdate)
			for _, e := range l.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
					return good, fmt.Errorf("%q, serial number %x: %w", c.Subject, c.SerialNumber, ErrRevoked)
				}
			}
		}
	}
	return good, nil
}

func (v *validity) narrow(from, until time.Time) {
	if from.After(v.from) {
		v.from = from
	}
	if !until.IsZero() && until.Before(v.until) {
		v.until = until
	}
}
