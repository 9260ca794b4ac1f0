package interdomain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	gistwire "github.com/interqos/interqos/gist/wire"
	"github.com/interqos/interqos/internal/tlv"
	"github.com/interqos/interqos/qosnslp/wire"
)

// A record of DOMAIN-RECORDS is signed "over SID, RII, this record, and the hash
// of the record before it in the list" (interdomain-qosm §7): this record up to
// its key id, and SHA-256 over all octets of the one before it, its signature
// included; 32 zero octets for the first. Whoever changes, drops or moves a
// record before a signed one breaks that signature. Records after the last
// signed one can be cut off.

// recordMessage appends what is signed of a record.
func recordMessage(b []byte, sid gistwire.SID, rii uint32, unsigned, before []byte) []byte {
	b = append(b, sid[:]...)
	b = tlv.AppendU32(b, rii)
	b = append(b, unsigned...)
	var sum [sha256.Size]byte
	if before != nil {
		sum = sha256.Sum256(before)
	}
	return append(b, sum[:]...)
}

// RecordSigner signs the records of one AS.
type RecordSigner struct {
	KeyID uint32 // RecordKeyID of the certificate
	Key   crypto.Signer
}

// RecordKeyID names the key of a certificate in a record: the first 32 bits of
// SHA-256 over its SubjectPublicKeyInfo in DER, never 0. It is a name only; which
// key that is of an AS the verifier's own certificates say.
func RecordKeyID(subjectPublicKeyInfo []byte) uint32 {
	sum := sha256.Sum256(subjectPublicKeyInfo)
	return max(binary.BigEndian.Uint32(sum[:]), 1)
}

// SignRecord appends record to the value of a DOMAIN-RECORDS object, signed. On
// error list is as before.
func SignRecord(list []byte, record wire.DomainRecord, sid gistwire.SID, rii uint32, with *RecordSigner) ([]byte, error) {
	scheme, err := schemeOf(with.Key.Public())
	if err != nil {
		return list, err
	}
	before, err := wire.LastDomainRecord(list)
	if err != nil {
		return list, err
	}
	// The signature's place is part of what is signed: zeros for now.
	record.KeyID, record.Signature = with.KeyID, zeros[:scheme.length]
	out, err := wire.AppendDomainRecord(list, record)
	if err != nil {
		return list, err
	}
	at := len(out) - scheme.length
	message := recordMessage(make([]byte, 0, recordMessageLen), sid, rii, out[len(list):at], before)
	if err := scheme.sign(out[at:], with.Key, message); err != nil {
		return list, fmt.Errorf("DOMAIN-RECORDS: signing: %w", err)
	}
	return out, nil
}

var zeros [wire.MaxRecordSignature]byte

// recordMessageLen is room for what is signed of a record and for its digest,
// where the SLS's id is not long.
const recordMessageLen = 192

// SignAppended signs the record that this AS has appended unsigned
// (Config.OwnLater) to a list that was received octets long. A list to which
// nothing was appended is returned as it is: what others have written in our
// name, we do not sign. list is not written to.
func SignAppended(list []byte, received int, as uint32, sid gistwire.SID, rii uint32, with *RecordSigner) ([]byte, error) {
	if received >= len(list) {
		return list, nil
	}
	ours, err := wire.ParseDomainRecords(list[received:])
	if err != nil {
		return list, err
	}
	if len(ours) != 1 || ours[0].AS != as || ours[0].KeyID != 0 {
		return list, nil
	}
	return SignRecord(list[:received:received], ours[0], sid, rii, with)
}

// scheme is how a kind of key signs: the length of a signature is part of what
// is signed, so it has to be known before.
//
//	Ed25519              64 octets, RFC 8032
//	ECDSA on P-256       64 octets, r and s, over SHA-256
//	ECDSA on P-384       96 octets, over SHA-384
//	ECDSA on P-521      132 octets, over SHA-512
//	RSA, 2048 to 4096   PKCS #1 v1.5 over SHA-256
type scheme struct {
	hash   crypto.Hash
	length int
	ecdsa  bool // r and s
}

func schemeOf(key crypto.PublicKey) (scheme, error) {
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return scheme{length: ed25519.SignatureSize}, nil
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return scheme{crypto.SHA256, 64, true}, nil
		case elliptic.P384():
			return scheme{crypto.SHA384, 96, true}, nil
		case elliptic.P521():
			return scheme{crypto.SHA512, 132, true}, nil
		}
	case *rsa.PublicKey:
		if n := k.Size(); n >= 256 && n <= wire.MaxRecordSignature && n%4 == 0 {
			return scheme{hash: crypto.SHA256, length: n}, nil
		}
	}
	return scheme{}, fmt.Errorf("a key of type %T cannot sign DOMAIN-RECORDS, want Ed25519, ECDSA on P-256, P-384 or P-521, or RSA of 2048 to 4096 bits", key)
}

// digest is what a signature is made over; it may use what is left of message's
// capacity.
func (s scheme) digest(message []byte) []byte {
	n := len(message)
	switch s.hash {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		return append(message, sum[:]...)[n:]
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		return append(message, sum[:]...)[n:]
	case crypto.SHA512:
		sum := sha512.Sum512(message)
		return append(message, sum[:]...)[n:]
	}
	return message
}

// sign writes a signature of s.length octets to out. It needs no randomness: ECDSA
// is deterministic (RFC 6979) without.
func (s scheme) sign(out []byte, key crypto.Signer, message []byte) error {
	b, err := key.Sign(nil, s.digest(message), s.hash)
	if err != nil {
		return err
	}
	if s.ecdsa {
		return s.fixed(out, b)
	}
	if len(b) != s.length {
		return fmt.Errorf("a signature of %d octets, want %d", len(b), s.length)
	}
	copy(out, b)
	return nil
}

// fixed writes the r and s of an ECDSA signature, which is in DER, each as half of
// out.
func (s scheme) fixed(out, der []byte) error {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	var r, t []byte
	half := s.length / 2
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&r) || !seq.ReadASN1Integer(&t) || !seq.Empty() ||
		len(r) > half || len(t) > half {
		return fmt.Errorf("an ECDSA signature that is not r and s of at most %d octets", half)
	}
	clear(out)
	copy(out[half-len(r):half], r)
	copy(out[s.length-len(t):], t)
	return nil
}

func (s scheme) verify(key crypto.PublicKey, message, signature []byte) bool {
	if len(signature) != s.length {
		return false
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *ecdsa.PublicKey:
		r, t := new(big.Int).SetBytes(signature[:s.length/2]), new(big.Int).SetBytes(signature[s.length/2:])
		return ecdsa.Verify(k, s.digest(message), r, t)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, s.hash, s.digest(message), signature) == nil
	}
	return false
}

// RecordTrust is what the signature of a record is worth.
type RecordTrust uint8

// Values of RecordTrust.
const (
	RecordUnsigned   RecordTrust = iota // nothing is proved
	RecordUnknownKey                    // signed with a key that is not known
	RecordBad                           // the signature is wrong: changed on the way, or not its
	RecordProved                        // said by this AS, after the records before it
)

func (t RecordTrust) String() string {
	return [...]string{"unsigned", "unknown key", "bad signature", "proved"}[t&3]
}

// RecordKeys returns an AS's public key by its key id.
type RecordKeys func(as, keyID uint32) (crypto.PublicKey, bool)

// VerifyRecords reads the value of a DOMAIN-RECORDS object and says of each
// record what its signature is worth.
func VerifyRecords(list []byte, sid gistwire.SID, rii uint32, keys RecordKeys) ([]wire.DomainRecord, []RecordTrust, error) {
	records, err := wire.ParseDomainRecords(list)
	if err != nil {
		return nil, nil, err
	}
	raw, err := wire.SplitDomainRecords(list)
	if err != nil {
		return nil, nil, err
	}
	trust := make([]RecordTrust, len(records))
	var before, message []byte
	for i, r := range records {
		unsigned := raw[i][:len(raw[i])-len(r.Signature)]
		message = recordMessage(message[:0], sid, rii, unsigned, before)
		trust[i] = judge(&r, message, keys)
		before = raw[i]
	}
	return records, trust, nil
}

func judge(r *wire.DomainRecord, message []byte, keys RecordKeys) RecordTrust {
	if r.KeyID == 0 {
		return RecordUnsigned
	}
	key, ok := keys(r.AS, r.KeyID)
	if !ok {
		return RecordUnknownKey
	}
	scheme, err := schemeOf(key)
	if err != nil {
		return RecordUnknownKey
	}
	if !scheme.verify(key, message, r.Signature) {
		return RecordBad
	}
	return RecordProved
}
