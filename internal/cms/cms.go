// Package cms is the part of the Cryptographic Message Syntax (RFC 5652) that
// SESSION_AUTH needs: a signed-data over content that stands elsewhere, with one
// signer and his certificates.
//
//	ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT }
//	SignedData  ::= SEQUENCE { version, digestAlgorithms SET,
//	                  encapContentInfo { id-data }, certificates [0] OPTIONAL,
//	                  crls [1] OPTIONAL, signerInfos SET }
package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // linked in for crypto.Hash
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// MaxCertificates and MaxCRLs bound what one signed-data may carry.
const (
	MaxCertificates = 8
	MaxCRLs         = 8
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519       = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// algorithms are the signatures that are made and understood: RSA as section
// 8.2 of RFC 3447 (PKCS #1 v1.5) has it, ECDSA by RFC 5753, Ed25519 by RFC 8419. MD5 and
// SHA-1 are not among them.
var algorithms = []struct {
	signature, digest asn1.ObjectIdentifier
	hash              crypto.Hash
	x509              x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, oidSHA256, crypto.SHA256, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, oidSHA384, crypto.SHA384, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, oidSHA512, crypto.SHA512, x509.SHA512WithRSA},
	{oidRSA, oidSHA256, crypto.SHA256, x509.SHA256WithRSA},
	{oidRSA, oidSHA384, crypto.SHA384, x509.SHA384WithRSA},
	{oidRSA, oidSHA512, crypto.SHA512, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, oidSHA256, crypto.SHA256, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, oidSHA384, crypto.SHA384, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, oidSHA512, crypto.SHA512, x509.ECDSAWithSHA512},
	{oidEd25519, oidSHA512, 0, x509.PureEd25519},
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

type signedData struct {
	Version          int
	DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
	Encapsulated     encapsulated
	Certificates     asn1.RawValue `asn1:"optional,tag:0"`
	CRLs             asn1.RawValue `asn1:"optional,tag:1"`
	Signers          []signerInfo  `asn1:"set"`
}

type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signerInfo struct {
	Version            int
	Signer             issuerAndSerial
	DigestAlgorithm    pkix.AlgorithmIdentifier
	SignedAttrs        asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	UnsignedAttrs      asn1.RawValue `asn1:"optional,tag:1"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

// Signed is a signed-data that has been read, and not been checked.
type Signed struct {
	// Certificates has the signer's first, whatever their order was.
	Certificates []*x509.Certificate
	CRLs         []*x509.RevocationList

	algorithm x509.SignatureAlgorithm
	hash      crypto.Hash // of the content, where attributes are signed
	attrs     []byte      // the signed attributes as they are signed; nil: the content itself is
	digest    []byte      // what the signed attributes say of the content
	signature []byte
}

// Parse reads a signed-data over content that stands elsewhere.
func Parse(der []byte) (*Signed, error) {
	var outer contentInfo
	if err := whole(der, &outer, ""); err != nil {
		return nil, fmt.Errorf("CMS: ContentInfo: %w", err)
	}
	if !outer.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("CMS: content of type %v, want signed-data", outer.Type)
	}
	var d signedData
	if err := whole(outer.Content.Bytes, &d, ""); err != nil {
		return nil, fmt.Errorf("CMS: SignedData: %w", err)
	}
	switch {
	case !d.Encapsulated.Type.Equal(oidData) || len(d.Encapsulated.Content.FullBytes) > 0:
		return nil, fmt.Errorf("CMS: SignedData of type %v, want id-data whose content stands elsewhere", d.Encapsulated.Type)
	case len(d.Signers) != 1:
		return nil, fmt.Errorf("CMS: SignedData of %d signers, want 1", len(d.Signers))
	}
	s := &Signed{signature: d.Signers[0].Signature}
	for rest := d.Certificates.Bytes; len(rest) > 0; {
		raw, more, err := element(rest)
		if err != nil || len(s.Certificates) == MaxCertificates {
			return nil, fmt.Errorf("CMS: certificate %d, want at most %d: %w", len(s.Certificates)+1, MaxCertificates, or(err, errTooMany))
		}
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("CMS: certificate %d: %w", len(s.Certificates)+1, err)
		}
		s.Certificates, rest = append(s.Certificates, c), more
	}
	for rest := d.CRLs.Bytes; len(rest) > 0; {
		raw, more, err := element(rest)
		if err != nil || len(s.CRLs) == MaxCRLs {
			return nil, fmt.Errorf("CMS: revocation list %d, want at most %d: %w", len(s.CRLs)+1, MaxCRLs, or(err, errTooMany))
		}
		l, err := x509.ParseRevocationList(raw)
		if err != nil {
			return nil, fmt.Errorf("CMS: revocation list %d: %w", len(s.CRLs)+1, err)
		}
		s.CRLs, rest = append(s.CRLs, l), more
	}
	if err := s.signer(&d.Signers[0]); err != nil {
		return nil, fmt.Errorf("CMS: SignerInfo: %w", err)
	}
	return s, nil
}

var errTooMany = errors.New("too many")

func or(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// whole reads exactly one value.
func whole(der []byte, to any, params string) error {
	rest, err := asn1.UnmarshalWithParams(der, to, params)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d octets behind it", len(rest))
	}
	return err
}

// element takes one value off the front.
func element(b []byte) (raw, rest []byte, err error) {
	var v asn1.RawValue
	rest, err = asn1.Unmarshal(b, &v)
	return v.FullBytes, rest, err
}

func (s *Signed) signer(i *signerInfo) error {
	if i.Version != 1 {
		return fmt.Errorf("version %d, want 1: issuer and serial number name the signer", i.Version)
	}
	at := -1
	for n, c := range s.Certificates {
		if bytes.Equal(c.RawIssuer, i.Signer.Issuer.FullBytes) && c.SerialNumber.Cmp(i.Signer.Serial) == 0 {
			at = n
		}
	}
	if at < 0 {
		return fmt.Errorf("the certificate with serial number %x, which signed, is not among the %d", i.Signer.Serial, len(s.Certificates))
	}
	s.Certificates[0], s.Certificates[at] = s.Certificates[at], s.Certificates[0]
	for _, a := range algorithms {
		if a.signature.Equal(i.SignatureAlgorithm.Algorithm) && a.digest.Equal(i.DigestAlgorithm.Algorithm) {
			s.algorithm, s.hash = a.x509, a.hash
			if a.hash == 0 { // Ed25519: SHA-512 where attributes are signed. Section 3.1 of RFC 8419
				s.hash = crypto.SHA512
			}
			return s.attributes(i.SignedAttrs)
		}
	}
	return fmt.Errorf("signature algorithm %v with digest %v, want RSA (PKCS #1 v1.5), ECDSA or Ed25519 with SHA-256, -384 or -512",
		i.SignatureAlgorithm.Algorithm, i.DigestAlgorithm.Algorithm)
}

// attributes reads signed attributes: they are signed as "an EXPLICIT SET OF tag,
// rather than the IMPLICIT [0]", and must have the content's type and digest.
//
// Sections 5.3 and 5.4 of RFC 5652.
func (s *Signed) attributes(v asn1.RawValue) error {
	if len(v.FullBytes) == 0 {
		return nil
	}
	s.attrs = bytes.Clone(v.FullBytes)
	s.attrs[0] = asn1.TagSet | 0x20
	hasType := false
	for rest := v.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return fmt.Errorf("signed attributes: %w", err)
		}
		switch {
		case a.Type.Equal(oidContentType):
			var t asn1.ObjectIdentifier
			if err := whole(a.Values.Bytes, &t, ""); err != nil || !t.Equal(oidData) || hasType {
				return errors.New("signed attributes: content-type, want id-data, once")
			}
			hasType = true
		case a.Type.Equal(oidMessageDigest):
			if err := whole(a.Values.Bytes, &s.digest, ""); err != nil || len(s.digest) == 0 {
				return errors.New("signed attributes: message-digest, want one value")
			}
		}
	}
	if !hasType || s.digest == nil {
		return errors.New("signed attributes without content-type or message-digest")
	}
	return nil
}

// Check says why the signature is not one of the first certificate's key over
// content; nil: it is. What the certificate is worth is another matter.
func (s *Signed) Check(content []byte) error {
	signed := content
	if s.attrs != nil {
		h := s.hash.New()
		h.Write(content)
		if !bytes.Equal(h.Sum(nil), s.digest) {
			return errors.New("CMS: the content is not what was signed")
		}
		signed = s.attrs
	}
	if err := s.Certificates[0].CheckSignature(s.algorithm, signed, s.signature); err != nil {
		return fmt.Errorf("CMS: %w", err)
	}
	return nil
}

// Sign makes a signed-data over content that stands elsewhere. chain begins with
// the certificate of key; crls are in DER.
func Sign(content []byte, key crypto.Signer, chain []*x509.Certificate, crls [][]byte) ([]byte, error) {
	if len(chain) == 0 {
		return nil, errors.New("CMS: no certificate to sign with")
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(chain[0].PublicKey) {
		return nil, errors.New("CMS: the key is not that of the first certificate")
	}
	var want x509.SignatureAlgorithm
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		want = x509.SHA256WithRSA
	case *ecdsa.PublicKey:
		want = map[elliptic.Curve]x509.SignatureAlgorithm{elliptic.P256(): x509.ECDSAWithSHA256, elliptic.P384(): x509.ECDSAWithSHA384,
			elliptic.P521(): x509.ECDSAWithSHA512}[k.Curve]
	case ed25519.PublicKey:
		want = x509.PureEd25519
	}
	for _, a := range algorithms {
		if a.x509 != want {
			continue
		}
		digest := content
		if a.hash != 0 {
			h := a.hash.New()
			h.Write(content)
			digest = h.Sum(nil)
		}
		signature, err := key.Sign(nil, digest, a.hash) // deterministic, as in RFC 6979
		if err != nil {
			return nil, fmt.Errorf("CMS: %w", err)
		}
		d := signedData{
			Version:          1,
			DigestAlgorithms: []pkix.AlgorithmIdentifier{{Algorithm: a.digest}},
			Encapsulated:     encapsulated{Type: oidData},
			Certificates:     asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true},
			Signers: []signerInfo{{
				Version: 1, Signer: issuerAndSerial{asn1.RawValue{FullBytes: chain[0].RawIssuer}, chain[0].SerialNumber},
				DigestAlgorithm:    pkix.AlgorithmIdentifier{Algorithm: a.digest},
				SignatureAlgorithm: pkix.AlgorithmIdentifier{Algorithm: a.signature}, Signature: signature,
			}},
		}
		for _, c := range chain {
			d.Certificates.Bytes = append(d.Certificates.Bytes, c.Raw...)
		}
		if len(crls) > 0 {
			d.CRLs = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: bytes.Join(crls, nil)}
		}
		inner, err := asn1.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("CMS: %w", err)
		}
		return asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}})
	}
	return nil, fmt.Errorf("CMS: a key of type %T cannot sign, want RSA, ECDSA or Ed25519", key.Public())
}
