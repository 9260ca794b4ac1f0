package node

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// recordCertificate is what our records are signed for; zero: they are not.
func recordCertificate(cfg *Config) tls.Certificate {
	if c := cfg.Auth.Records.Certificate; c.Leaf != nil || cfg.GIST.TLS == nil {
		return c
	}
	return cfg.GIST.TLS.Certificate
}

// recordAuthorities are those of other ASs' certificates; nil: none.
func recordAuthorities(cfg *Config) *x509.CertPool {
	if p := cfg.Auth.Records.CAs; p != nil || cfg.GIST.TLS == nil {
		return p
	}
	return cfg.GIST.TLS.CAs
}

// recordSigner signs our records; nil: nobody does.
func recordSigner(cfg *Config) (*interdomain.RecordSigner, error) {
	c := recordCertificate(cfg)
	if c.Leaf == nil {
		return nil, nil
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that signs nothing")
	}
	s := &interdomain.RecordSigner{KeyID: interdomain.RecordKeyID(c.Leaf.RawSubjectPublicKeyInfo), Key: key}
	_, err := interdomain.SignRecord(nil, nslpwire.DomainRecord{}, wire.SID{}, 0, s)
	return s, err
}

// recordBook is the certificates that records are checked with.
type recordBook struct {
	known map[recordKey]*x509.Certificate
	cas   *x509.CertPool
}

type recordKey struct{ as, id uint32 }

func newRecordBook(cfg *Config) *recordBook {
	b := &recordBook{known: make(map[recordKey]*x509.Certificate), cas: recordAuthorities(cfg)}
	all := cfg.Auth.Records.Others
	if own := recordCertificate(cfg).Leaf; own != nil {
		all = append(slices.Clone(all), own)
	}
	for _, c := range all {
		if as, ok := pki.ASOf(c); ok {
			b.known[recordKey{as, interdomain.RecordKeyID(c.RawSubjectPublicKeyInfo)}] = c
		}
	}
	return b
}

// keys looks a record's key up in the certificates that are valid now.
func (b *recordBook) keys(now time.Time) interdomain.RecordKeys {
	return func(as, keyID uint32) (crypto.PublicKey, bool) {
		c := b.known[recordKey{as, keyID}]
		if c == nil || signedBy(c, b.cas, now) != nil {
			return nil, false
		}
		return c.PublicKey, true
	}
}

// signedBy says why a certificate is not one of the authorities' at a time.
func signedBy(c *x509.Certificate, cas *x509.CertPool, at time.Time) error {
	if cas == nil {
		return errors.New("there are no authorities")
	}
	_, err := c.Verify(x509.VerifyOptions{Roots: cas, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

var recordProofs = map[interdomain.RecordTrust]api.Proof{
	interdomain.RecordUnsigned:   api.Proof_PROOF_UNSIGNED,
	interdomain.RecordUnknownKey: api.Proof_PROOF_UNKNOWN_KEY,
	interdomain.RecordBad:        api.Proof_PROOF_BAD,
	interdomain.RecordProved:     api.Proof_PROOF_VERIFIED,
}

// domains is what the domains said of a request, from source to destination,
// and what of it is proved (interdomain-qosm §7).
func (b *recordBook) domains(now time.Time, sid wire.SID, r *qosnslp.Result) ([]*api.Domain, error) {
	var all []*api.Domain
	for _, x := range r.Extra {
		if x.Type != nslpwire.DomainRecords {
			continue
		}
		var rii uint32
		if r.Response != nil {
			rii = r.Response.RII
		}
		recs, trust, err := interdomain.VerifyRecords(x.Value, sid, rii, b.keys(now))
		if err != nil {
			return nil, err
		}
		for i := range recs {
			d := apiDomain(&recs[i])
			if d.Proof = recordProofs[trust[i]]; r.Response == nil {
				d.Proof = api.Proof_PROOF_OWN // nobody else had a say
			}
			all = append(all, d)
		}
	}
	// Each domain appends on the way back: the last one stands first.
	slices.Reverse(all)
	return all, nil
}
