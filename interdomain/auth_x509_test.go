package interdomain

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/interqos/interqos/qosnslp/wire"
)

// authority issues certificates for tests.
type authority struct {
	t    testing.TB
	key  crypto.Signer
	cert *x509.Certificate
	next int64
}

// newAuthority makes one with a key of its own, of the one above it if there is
// one.
func newAuthority(t testing.TB, seed uint32, above *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: recordKey(seed), next: 10}
	c := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: authNow.AddDate(-1, 0, 0), NotAfter: authNow.AddDate(1, 0, 0)}
	parent, key := &c, a.key
	if above != nil {
		c.SerialNumber, c.Subject.CommonName = big.NewInt(2), "below"
		parent, key = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, a.key.Public(), key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(key crypto.Signer, edit func(*x509.Certificate)) *x509.Certificate {
	a.t.Helper()
	a.next++
	c := x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: "edge", Organization: []string{"AS65001"}},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: authNow.Add(-time.Hour), NotAfter: authNow.Add(time.Hour)}
	if edit != nil {
		edit(&c)
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *authority) crl(until time.Duration, revoked ...*big.Int) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: authNow.Add(-time.Minute), NextUpdate: authNow.Add(until)}
	for _, n := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: authNow})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// hostToken is what an authorizing entity says, before it signs.
func hostToken() wire.AuthToken {
	return wire.AuthToken{
		SessionID: bytes.Repeat([]byte{7}, 16),
		Source:    wire.AuthAddresses{Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.10")}},
		Dest:      wire.AuthAddresses{Addrs: []netip.Addr{netip.MustParseAddr("10.3.0.10")}, UDP: []uint16{5001}},
		HasStart:  true, Start: ntp(authNow), HasEnd: true, End: ntp(authNow.Add(time.Hour)),
	}
}

// signedToken is a token as it stands in an object.
func signedToken(t testing.TB, key crypto.Signer, chain []*x509.Certificate, crls ...[]byte) []byte {
	t.Helper()
	x := hostToken()
	if err := SignX509(&x, key, chain, crls); err != nil {
		t.Fatal(err)
	}
	b, err := x.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func verifyToken(v *CertificateVerifier, now time.Time, b []byte) (*x509.Certificate, error) {
	var t wire.AuthToken
	covered, err := t.Parse(b)
	if err != nil {
		return nil, err
	}
	return v.Verify(now, &t, covered)
}

// RFC 5981 §4.3.1.1: the steps of the verification, each with what it is there
// to refuse.
func TestX509Tokens(t *testing.T) {
	ca := newAuthority(t, 1, nil)
	below := newAuthority(t, 2, ca)
	stranger := newAuthority(t, 3, nil) // under the same name
	key := ecdsaKey(t, elliptic.P256())
	leaf := ca.issue(key, nil)
	deep := below.issue(key, nil)
	for name, c := range map[string]struct {
		token []byte
		at    time.Duration
		want  error
	}{
		"Path Validation (RFC 5280, section 6)":  {signedToken(t, key, []*x509.Certificate{leaf}), 0, nil},
		"the chain":                              {signedToken(t, key, []*x509.Certificate{deep, below.cert}), 0, nil},
		"the chain is not whole":                 {signedToken(t, key, []*x509.Certificate{deep}), 0, ErrCertificate},
		"expired":                                {signedToken(t, key, []*x509.Certificate{leaf}), 2 * time.Hour, ErrCertificate},
		"not yet valid":                          {signedToken(t, key, []*x509.Certificate{leaf}), -2 * time.Hour, ErrCertificate},
		"of an authority that nobody trusts":     {signedToken(t, key, []*x509.Certificate{stranger.issue(key, nil), stranger.cert}), 0, ErrCertificate},
		"not for signatures":                     {signedToken(t, key, []*x509.Certificate{ca.issue(key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}), 0, ErrCertificate},
		"not listed":                             {signedToken(t, key, []*x509.Certificate{leaf}, ca.crl(time.Hour, big.NewInt(99))), 0, nil},
		"listed":                                 {signedToken(t, key, []*x509.Certificate{leaf}, ca.crl(time.Hour, leaf.SerialNumber)), 0, ErrRevoked},
		"an authority of the chain is listed":    {signedToken(t, key, []*x509.Certificate{deep, below.cert}, ca.crl(time.Hour, below.cert.SerialNumber)), 0, ErrRevoked},
		"a list of the past":                     {signedToken(t, key, []*x509.Certificate{leaf}, ca.crl(time.Minute)), 2 * time.Minute, ErrCertificate},
		"another's list under the same name":     {signedToken(t, key, []*x509.Certificate{leaf}, stranger.crl(time.Hour)), 0, ErrCertificate},
		"a list of an authority not of the path": {signedToken(t, key, []*x509.Certificate{leaf}, below.crl(time.Hour, leaf.SerialNumber)), 0, nil},
	} {
		v := NewCertificateVerifier(ca.pool(), 0)
		for range 2 { // the second time perhaps from memory
			got, err := verifyToken(v, authNow.Add(c.at), c.token)
			if !errors.Is(err, c.want) || (err == nil) != (got != nil) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if remembered := len(v.paths) == 1; remembered != (c.want == nil) {
			t.Errorf("%s: %d paths are remembered", name, len(v.paths))
		}
	}
}

// A path that was found good is not good for longer than its certificates and
// lists are, and only so many are remembered.
func TestCertificatePathsAreBounded(t *testing.T) {
	ca := newAuthority(t, 1, nil)
	key := ecdsaKey(t, elliptic.P256())
	v := NewCertificateVerifier(ca.pool(), 4)
	leaf := ca.issue(key, nil)
	short := signedToken(t, key, []*x509.Certificate{leaf}, ca.crl(10*time.Minute))
	for _, c := range []struct {
		at   time.Duration
		want error
	}{{0, nil}, {10 * time.Minute, nil}, {10*time.Minute + time.Second, ErrCertificate}, {0, nil}} {
		if _, err := verifyToken(v, authNow.Add(c.at), short); !errors.Is(err, c.want) {
			t.Errorf("after %v: %v, want %v", c.at, err, c.want)
		}
	}
	for range 20 {
		if _, err := verifyToken(v, authNow, signedToken(t, key, []*x509.Certificate{ca.issue(key, nil)})); err != nil {
			t.Fatal(err)
		}
		if len(v.paths) > 4 {
			t.Fatalf("%d paths are remembered", len(v.paths))
		}
	}
}

// RFC 5981 §6.1: "The output of the authentication algorithm [...] is appended":
// whatever octet of a token changes, it is refused; but for the certificate's own
// part, which its own signature guards, and what is "ignored upon reception".
func TestX509TokenRefusesEveryChange(t *testing.T) {
	ca := newAuthority(t, 1, nil)
	key := ecdsaKey(t, elliptic.P256())
	leaf := ca.issue(key, nil)
	good := signedToken(t, key, []*x509.Certificate{leaf})
	v := NewCertificateVerifier(ca.pool(), 0)
	var x wire.AuthToken
	covered, err := x.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		signer, err := verifyToken(v, authNow, b)
		if err != nil {
			continue
		}
		var y wire.AuthToken
		again, err := y.Parse(b)
		if err != nil || !bytes.Equal(again, covered) || !signer.Equal(leaf) {
			t.Errorf("octet %d changed, and accepted", i)
		}
	}
	// Another's name, with his own certificate and signature, is not his.
	other := hostToken()
	if err := SignX509(&other, key, []*x509.Certificate{leaf}, nil); err != nil {
		t.Fatal(err)
	}
	other.Entity.Value = []byte("CN=somebody else")
	if _, err := v.Verify(authNow, &other, other.AppendCovered(nil)); !errors.Is(err, ErrCertificate) {
		t.Errorf("another's name: %v", err)
	}
}

// RFC 5981 §6.2.3: "return an error if the identity type is not supported."
func TestX509OtherKinds(t *testing.T) {
	v := NewCertificateVerifier(newAuthority(t, 1, nil).pool(), 0)
	for sub, value := range map[uint8]string{wire.EntKrbPrincipal: "johndoe@nowhere", wire.EntPGPCert: "\x99\x01", wire.EntFQDN: "host.example",
		wire.EntHMACSigned: "\x00\x00\x00\x0c", 200: "x"} {
		x := hostToken()
		x.HasEntity, x.Entity, x.Data = true, wire.AuthEntity{SubType: sub, Value: []byte(value)}, []byte{1, 2, 3, 4}
		if _, err := v.Verify(authNow, &x, x.AppendCovered(nil)); !errors.Is(err, ErrAuthKind) {
			t.Errorf("%s: %v", x.Entity.Kind(), err)
		}
	}
}

// Who trusts nobody accepts nobody; not whom the machine's own authorities name.
func TestX509NoAuthorities(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	token := signedToken(t, key, []*x509.Certificate{newAuthority(t, 1, nil).issue(key, nil)})
	if _, err := verifyToken(NewCertificateVerifier(nil, 0), authNow, token); !errors.Is(err, ErrCertificate) {
		t.Error(err)
	}
}

func FuzzVerifyX509(f *testing.F) {
	ca := newAuthority(f, 1, nil)
	key := recordKey(5)
	leaf := ca.issue(key, nil)
	good := signedToken(f, key, []*x509.Certificate{leaf}, ca.crl(time.Hour))
	var x wire.AuthToken
	covered, err := x.Parse(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		v := NewCertificateVerifier(ca.pool(), 0)
		signer, err := verifyToken(v, authNow, b)
		if err != nil {
			if signer != nil {
				t.Fatal("refused, and somebody signed")
			}
			return
		}
		// Without the key the fuzzer has only what was signed.
		var y wire.AuthToken
		if again, err := y.Parse(b); err != nil || !bytes.Equal(again, covered) || !signer.Equal(leaf) {
			t.Fatalf("forged %x", b)
		}
	})
}

func BenchmarkVerifyX509(b *testing.B) {
	ca := newAuthority(b, 1, nil)
	key := ecdsaKey(b, elliptic.P256())
	token := signedToken(b, key, []*x509.Certificate{ca.issue(key, nil)})
	v := NewCertificateVerifier(ca.pool(), 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyToken(v, authNow, token); err != nil {
			b.Fatal(err)
		}
	}
}
