package capture

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// KeyLog holds the secrets of TLS connections, as a program wrote them to the
// file that SSLKEYLOGFILE names: one line a secret, its label, the client's
// random and the secret, the latter two in hexadecimal.
type KeyLog struct {
	secrets map[secretKey][]byte
}

type secretKey struct {
	label  string
	random [32]byte
}

// Labels of a key log.
const (
	labelMaster          = "CLIENT_RANDOM" // TLS 1.2: the master secret
	labelClientHandshake = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
	labelServerHandshake = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
	labelClientTraffic   = "CLIENT_TRAFFIC_SECRET_0"
	labelServerTraffic   = "SERVER_TRAFFIC_SECRET_0"
)

// maxSecrets bounds how many secrets are kept.
const maxSecrets = 1 << 20

// NewKeyLog returns an empty key log.
func NewKeyLog() *KeyLog { return &KeyLog{secrets: map[secretKey][]byte{}} }

// ReadKeyLog reads a key log. Lines that are empty, comments (#) or about
// secrets that are of no use here are passed over; a malformed one is an error
// that names its line.
func ReadKeyLog(r io.Reader) (*KeyLog, error) {
	k := NewKeyLog()
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		if err := k.add(sc.Text()); err != nil {
			return nil, fmt.Errorf("key log, line %d: %w", n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("key log: %w", err)
	}
	return k, nil
}

func (k *KeyLog) add(line string) error {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil
	}
	f := strings.Fields(line)
	if len(f) != 3 {
		return fmt.Errorf("%d words, expected a label, the client's random and a secret", len(f))
	}
	switch f[0] {
	case labelMaster, labelClientHandshake, labelServerHandshake, labelClientTraffic, labelServerTraffic:
	default:
		return nil
	}
	random, err := hex.DecodeString(f[1])
	if err != nil || len(random) != 32 {
		return fmt.Errorf("%s: the client's random is %q, expected 64 hexadecimal digits", f[0], f[1])
	}
	secret, err := hex.DecodeString(f[2])
	if err != nil || len(secret) != 32 && len(secret) != 48 {
		return fmt.Errorf("%s: the secret has %d characters, expected 64 or 96 hexadecimal digits", f[0], len(f[2]))
	}
	if len(k.secrets) >= maxSecrets {
		return fmt.Errorf("more than %d secrets", maxSecrets)
	}
	k.secrets[secretKey{f[0], [32]byte(random)}] = secret
	return nil
}

// addText adds the key log that a capture has in it; bad lines are passed over.
func (k *KeyLog) addText(b []byte) {
	for line := range bytes.Lines(b) {
		_ = k.add(string(line))
	}
}

func (k *KeyLog) find(label string, random [32]byte) []byte {
	return k.secrets[secretKey{label, random}]
}
