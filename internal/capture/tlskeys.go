package capture

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// tlsSuite is a cipher suite: an AEAD and a hash.
type tlsSuite struct {
	tls13  bool
	keyLen int
	chacha bool
	hash   func() hash.Hash
}

var (
	aes128  = tlsSuite{keyLen: 16, hash: sha256.New}
	aes256  = tlsSuite{keyLen: 32, hash: sha512.New384}
	chacha  = tlsSuite{keyLen: 32, chacha: true, hash: sha256.New}
	aes128s = tlsSuite{keyLen: 16, hash: sha256.New, tls13: true}
	aes256s = tlsSuite{keyLen: 32, hash: sha512.New384, tls13: true}
	chachas = tlsSuite{keyLen: 32, chacha: true, hash: sha256.New, tls13: true}
)

// suites are the cipher suites of crypto/tls that are AEADs, by number.
var suites = map[uint16]*tlsSuite{
	0x1301: &aes128s, // TLS_AES_128_GCM_SHA256
	0x1302: &aes256s, // TLS_AES_256_GCM_SHA384
	0x1303: &chachas, // TLS_CHACHA20_POLY1305_SHA256
	0x009c: &aes128,  // TLS_RSA_WITH_AES_128_GCM_SHA256
	0x009d: &aes256,  // TLS_RSA_WITH_AES_256_GCM_SHA384
	0xc02b: &aes128,  // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	0xc02c: &aes256,  // TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	0xc02f: &aes128,  // TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	0xc030: &aes256,  // TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
	0xcca8: &chacha,  // TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
	0xcca9: &chacha,  // TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
}

func (s *tlsSuite) aead(key []byte) (cipher.AEAD, error) {
	if s.chacha {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// expandLabel is HKDF-Expand-Label without context (RFC 8446 §7.1).
func (s *tlsSuite) expandLabel(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(s.hash, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err) // n is far below 255 hashes
	}
	return out
}

// key13 derives the key of a traffic secret (RFC 8446 §7.3).
func (s *tlsSuite) key13(secret []byte) (*tlsKey, error) {
	aead, err := s.aead(s.expandLabel(secret, "key", s.keyLen))
	if err != nil {
		return nil, err
	}
	return &tlsKey{aead: aead, iv: s.expandLabel(secret, "iv", 12), tls13: true}, nil
}

// keys12 derives both sides' keys of a master secret (RFC 5246 §6.3).
func (s *tlsSuite) keys12(master, clientRandom, serverRandom []byte) (client, server *tlsKey, err error) {
	ivLen := 4 // RFC 5288 §3; the rest of the nonce is explicit
	if s.chacha {
		ivLen = 12 // RFC 7905 §2
	}
	seed := append([]byte("key expansion"), serverRandom...)
	block := s.prf(master, append(seed, clientRandom...), 2*(s.keyLen+ivLen))
	part := func(n int) []byte { p := block[:n]; block = block[n:]; return p }
	clientKey, serverKey := part(s.keyLen), part(s.keyLen)
	clientIV, serverIV := part(ivLen), part(ivLen)
	c, err := s.aead(clientKey)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.aead(serverKey)
	if err != nil {
		return nil, nil, err
	}
	return &tlsKey{aead: c, iv: clientIV}, &tlsKey{aead: v, iv: serverIV}, nil
}

// prf is TLS 1.2's P_hash (RFC 5246 §5); seed has the label in front.
func (s *tlsSuite) prf(secret, seed []byte, n int) []byte {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(s.hash, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	var out []byte
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}
