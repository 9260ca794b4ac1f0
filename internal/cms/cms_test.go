package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var content = []byte("what is signed stands elsewhere")

// identity is a key with a certificate of an authority.
type identity struct {
	key   crypto.Signer
	chain []*x509.Certificate // the authority last
	caKey crypto.Signer
}

func newIdentity(t testing.TB, key crypto.Signer) identity {
	t.Helper()
	_, caKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string, ca bool, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(0x7fff_0001), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			c.SerialNumber = big.NewInt(1)
			c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, caKey)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := issue("authority", true, nil, caKey.Public())
	return identity{key, []*x509.Certificate{issue("signer", false, ca, key.Public()), ca}, caKey}
}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	all := make(map[string]crypto.Signer)
	for name, f := range map[string]func() (crypto.Signer, error){
		"Ed25519": func() (crypto.Signer, error) { _, k, err := ed25519.GenerateKey(rand.Reader); return k, err },
		"P-256":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521":   func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA":     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	} {
		k, err := f()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = k
	}
	return all
}

func crl(t testing.TB, id identity, revoked *big.Int) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked, RevocationTime: time.Now()}},
	}, id.chain[1], id.caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSignParseCheck(t *testing.T) {
	for name, key := range keys(t) {
		id := newIdentity(t, key)
		der, err := Sign(content, key, id.chain, [][]byte{crl(t, id, big.NewInt(5))})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := Parse(der)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(s.Certificates) != 2 || !s.Certificates[0].Equal(id.chain[0]) || len(s.CRLs) != 1 {
			t.Errorf("%s: %d certificates, %d lists", name, len(s.Certificates), len(s.CRLs))
		}
		if err := s.Check(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.Check(append(content[:len(content):len(content)], 0)) == nil {
			t.Errorf("%s: other content is signed too", name)
		}
	}
}

// Whatever octet changes, the signature breaks, or it does not parse, or it is of
// what is not signed: the certificates' own signatures, which Check leaves to who
// validates the path, and the lists of algorithms.
func TestEveryOctet(t *testing.T) {
	id := newIdentity(t, keys(t)["P-256"])
	der, err := Sign(content, id.key, id.chain[:1], nil)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(der, id.chain[0].Raw)
	for i := range der {
		if i >= at && i < at+len(id.chain[0].Raw) {
			continue // the certificate has a signature of its own
		}
		b := bytes.Clone(der)
		b[i] ^= 1 << (i % 8)
		s, err := Parse(b)
		if err != nil || s.Check(content) != nil {
			continue
		}
		if !s.Certificates[0].Equal(id.chain[0]) {
			t.Errorf("octet %d changed, and another signed", i)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	id := newIdentity(t, keys(t)["P-256"])
	good, err := Sign(content, id.key, id.chain[:1], nil)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]*x509.Certificate, MaxCertificates+1)
	for i := range many {
		many[i] = id.chain[0]
	}
	tooMany, err := Sign(content, id.key, many, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "cut": good[:len(good)-1], "more behind": append(bytes.Clone(good), 0),
		"no certificate of the signer": bytes.Replace(good, id.chain[0].Raw, id.chain[1].Raw[:0], 1),
		"too many certificates":        tooMany,
		"MD5":                          bytes.ReplaceAll(good, []byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}, []byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 9}),
	} {
		if s, err := Parse(der); err == nil || s != nil {
			t.Errorf("%s was read", name)
		}
	}
	other := newIdentity(t, keys(t)["P-256"])
	if _, err := Sign(content, other.key, id.chain, nil); err == nil {
		t.Error("signed with a key that is not the certificate's")
	}
	if _, err := Sign(content, id.key, nil, nil); err == nil {
		t.Error("signed with no certificate")
	}
}

func put(t *testing.T, dir, name, kind string, der ...[]byte) string {
	t.Helper()
	var b []byte
	for _, d := range der {
		if kind == "" {
			b = append(b, d...)
		} else {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What we sign openssl accepts, and what it signs, with signed attributes and
// without, we do: for every kind of key that it has for CMS.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed: nobody else looks at our signatures here")
	}
	for name, key := range keys(t) {
		if name == "Ed25519" {
			continue // openssl 3.0 has no Ed25519 in CMS
		}
		id, dir := newIdentity(t, key), t.TempDir()
		der, err := Sign(content, key, id.chain[:1], nil)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text, ours := put(t, dir, "content", "", content), put(t, dir, "ours.der", "", der)
		ca, cert := put(t, dir, "ca.pem", "CERTIFICATE", id.chain[1].Raw), put(t, dir, "cert.pem", "CERTIFICATE", id.chain[0].Raw)
		private := put(t, dir, "key.pem", "PRIVATE KEY", pkcs8)
		out, err := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", ours, "-binary", "-content", text, "-CAfile", ca,
			"-purpose", "any", "-out", os.DevNull).CombinedOutput()
		if err != nil {
			t.Errorf("%s: openssl refuses what we sign: %v\n%s", name, err, out)
		}
		for _, more := range [][]string{{}, {"-noattr"}} {
			theirs := filepath.Join(dir, "theirs.der")
			args := append([]string{"cms", "-sign", "-binary", "-in", text, "-signer", cert, "-inkey", private, "-outform", "DER", "-out", theirs}, more...)
			if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
				t.Fatalf("%s %v: %v\n%s", name, more, err, out)
			}
			b, err := os.ReadFile(theirs)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(b)
			if err != nil {
				t.Errorf("%s %v: %v", name, more, err)
				continue
			}
			if err := s.Check(content); err != nil {
				t.Errorf("%s %v: %v", name, more, err)
			}
			if s.Check([]byte("other")) == nil {
				t.Errorf("%s %v: other content is signed too", name, more)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	id := newIdentity(f, keys(f)["P-256"])
	der, err := Sign(content, id.key, id.chain, [][]byte{crl(f, id, big.NewInt(5))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if s != nil {
				t.Fatal("refused, and something read")
			}
			return
		}
		if len(s.Certificates) == 0 || len(s.Certificates) > MaxCertificates || len(s.CRLs) > MaxCRLs {
			t.Fatalf("%d certificates, %d lists", len(s.Certificates), len(s.CRLs))
		}
		if s.Check([]byte("never signed")) == nil {
			t.Fatalf("forged %x", b)
		}
	})
}
