package node

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"
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

// recordBook is what records are checked with. Any number of goroutines use it.
type recordBook struct {
	as     uint32
	own    *interdomain.RecordSigner // nil: ours are not signed
	known  map[recordKey]*recordCert
	cas    *x509.CertPool
	checks func() // for tests: a signature of a certificate is about to be checked
}

type recordKey struct{ as, id uint32 }

// recordCert is a certificate, and for how long it has been found good: to find a
// path to an authority costs more than to check the record.
type recordCert struct {
	*x509.Certificate
	good atomic.Pointer[validity]
}

// validity is a time, both ends of it part of it.
type validity struct{ from, until time.Time }

func (v *validity) has(t time.Time) bool { return !t.Before(v.from) && !t.After(v.until) }

func newRecordBook(cfg *Config) (*recordBook, error) {
	signer, err := recordSigner(cfg)
	if err != nil {
		return nil, err
	}
	b := &recordBook{as: cfg.AS, own: signer, known: make(map[recordKey]*recordCert), cas: recordAuthorities(cfg)}
	all := cfg.Auth.Records.Others
	if own := recordCertificate(cfg).Leaf; own != nil {
		all = append(slices.Clone(all), own)
	}
	for _, c := range all {
		if as, ok := pki.ASOf(c); ok {
			b.known[recordKey{as, interdomain.RecordKeyID(c.RawSubjectPublicKeyInfo)}] = &recordCert{Certificate: c}
		}
	}
	return b, nil
}

// keys looks a record's key up in the certificates that are valid now.
func (b *recordBook) keys(now time.Time) interdomain.RecordKeys {
	return func(as, keyID uint32) (crypto.PublicKey, bool) {
		c := b.known[recordKey{as, keyID}]
		if c == nil || !b.valid(c, now) {
			return nil, false
		}
		return c.PublicKey, true
	}
}

// valid says whether a certificate is one of the authorities' now, from memory if
// it was at another time and nothing on the path has begun or expired since.
func (b *recordBook) valid(c *recordCert, now time.Time) bool {
	if v := c.good.Load(); v != nil && v.has(now) {
		return true
	}
	if b.checks != nil {
		b.checks()
	}
	chains, err := pathsOf(c.Certificate, b.cas, now)
	if err != nil {
		return false
	}
	v := &validity{c.NotBefore, c.NotAfter}
	for _, other := range chains[0][1:] {
		if other.NotBefore.After(v.from) {
			v.from = other.NotBefore
		}
		if other.NotAfter.Before(v.until) {
			v.until = other.NotAfter
		}
	}
	c.good.Store(v)
	return true
}

// signedBy says why a certificate is not one of the authorities' at a time.
func signedBy(c *x509.Certificate, cas *x509.CertPool, at time.Time) error {
	_, err := pathsOf(c, cas, at)
	return err
}

// pathsOf are the paths of a certificate to the authorities, at least one.
func pathsOf(c *x509.Certificate, cas *x509.CertPool, at time.Time) ([][]*x509.Certificate, error) {
	if cas == nil {
		return nil, errors.New("there are no authorities")
	}
	return c.Verify(x509.VerifyOptions{Roots: cas, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
}

var recordProofs = map[interdomain.RecordTrust]api.Proof{
	interdomain.RecordUnsigned:   api.Proof_PROOF_UNSIGNED,
	interdomain.RecordUnknownKey: api.Proof_PROOF_UNKNOWN_KEY,
	interdomain.RecordBad:        api.Proof_PROOF_BAD,
	interdomain.RecordProved:     api.Proof_PROOF_VERIFIED,
}

// domains is what the domains said of a request, from source to destination. With
// check it says what of it is proved (interdomain-qosm §7); that takes longer than
// all else that this node does for a reservation, so only who looks at it asks.
func (b *recordBook) domains(now time.Time, sid wire.SID, r *qosnslp.Result, check bool) ([]*api.Domain, error) {
	var all []*api.Domain
	for _, x := range r.Extra {
		if x.Type != nslpwire.DomainRecords {
			continue
		}
		var recs []nslpwire.DomainRecord
		var trust []interdomain.RecordTrust
		var err error
		if check && r.Response != nil {
			recs, trust, err = b.proved(now, sid, r, x.Value)
		} else {
			recs, err = nslpwire.ParseDomainRecords(x.Value)
		}
		if err != nil {
			return nil, err
		}
		all = slices.Grow(all, len(recs))
		for i := range recs {
			d := apiDomain(&recs[i])
			switch {
			case r.Response == nil:
				d.Proof = api.Proof_PROOF_OWN // nobody else had a say
			case check:
				d.Proof = recordProofs[trust[i]]
			}
			all = append(all, d)
		}
	}
	// Each domain appends on the way back: the last one stands first.
	slices.Reverse(all)
	return all, nil
}

// proved reads a list and says what its signatures are worth. The record that this
// node has appended is signed now: until somebody asks nobody sees it.
func (b *recordBook) proved(now time.Time, sid wire.SID, r *qosnslp.Result, list []byte) ([]nslpwire.DomainRecord, []interdomain.RecordTrust, error) {
	rii := r.Response.RII
	if b.own != nil && r.Response.HasRII {
		received, _ := r.Response.Object(nslpwire.DomainRecords)
		var err error
		if list, err = interdomain.SignAppended(list, len(received.Value), b.as, r.SID, rii, b.own); err != nil {
			return nil, nil, err
		}
	}
	return interdomain.VerifyRecords(list, sid, rii, b.keys(now))
}
