package node

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/interqos/interqos/internal/strictyaml"
)

const (
	minSecret     = 16 // octets of a key
	maxSecretFile = 4096
)

func (p *configParser) keys(v strictyaml.Value) {
	const expected = "a list of {id: N, as: N, name: NAME, secret: hex:… or secret_file: PATH, from: TIME, until: TIME}"
	seen := make(map[uint32]int)
	for _, item := range v.List(expected) {
		o := item.Object(expected, "id", "as", "name", "secret", "secret_file", "from", "until")
		if !o.IsMapping() {
			continue
		}
		id := o.Need("id")
		k := KeyConfig{ID: uint32(id.Number("a key id", 1, math.MaxUint32, 0)), AS: o.Need("as").AS("")}
		if line, again := seen[k.ID]; again && k.ID != 0 {
			id.Bad("a key id of its own", fmt.Sprintf("the key in line %d has it too", line))
		}
		seen[k.ID] = o.Line()
		k.Name = fmt.Sprintf("as%d-%d", k.AS, k.ID)
		if name := o.Get("name"); name.There() {
			k.Name = p.name(name, "a name")
		}
		k.Secret = p.secret(o, len(p.c.Keys))
		k.From, k.Until = instant(o.Get("from")), instant(o.Get("until"))
		if !k.From.IsZero() && !k.Until.IsZero() && !k.From.Before(k.Until) {
			o.Get("until").Bad("a time after from, "+k.From.Format(time.RFC3339), "")
		}
		p.c.Keys, p.keyParts = append(p.c.Keys, k), append(p.keyParts, o)
	}
}

// instant reads a time, zero if there is none.
func instant(v strictyaml.Value) time.Time {
	const expected = "a time such as 2027-01-01T00:00:00Z"
	if !v.There() {
		return time.Time{}
	}
	text, ok := v.Scalar(expected)
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		v.Bad(expected, "")
		return time.Time{}
	}
	return t.UTC()
}

// liveKeys checks that no neighbour is left with keys of the past alone: no
// message could be signed for it, and none of its messages be accepted.
func (p *configParser) liveKeys(now time.Time) {
	last := make(map[uint32]int) // by AS: the key that ends last
	for i, k := range p.c.Keys {
		j, there := last[k.AS]
		if !there || k.until().After(p.c.Keys[j].until()) {
			last[k.AS] = i
		}
	}
	for i, k := range p.c.Keys {
		if last[k.AS] == i && !k.until().After(now) {
			p.keyParts[i].Get("until").Bad(fmt.Sprintf("a key for AS %d that has not expired", k.AS), "no key of this AS ends later")
		}
	}
}

// until is the end of its lifetime, far away if it has none.
func (k KeyConfig) until() time.Time {
	if k.Until.IsZero() {
		return time.Unix(1<<62, 0)
	}
	return k.Until
}

func (p *configParser) secret(o strictyaml.Object, index int) Secret {
	text, file := o.Need("secret"), o.Get("secret_file")
	switch {
	case text.There() && file.There():
		o.Wrong("both secret and secret_file", "one of the two", "")
	case file.There():
		if p.file(file, "the file with the secret") != "" {
			p.secretFiles[index] = file
		}
	default:
		s, ok := text.Scalar(secretExpected)
		if !ok {
			return nil
		}
		secret, why := decodeSecret(s)
		if why != "" {
			text.Wrong(why, secretExpected, "openssl rand -hex 32 makes one")
		}
		return secret
	}
	return nil
}

const secretExpected = "a secret of at least 16 octets, hex:… or base64:…"

// decodeSecret reads hex:… or base64:…; why does not tell the secret.
func decodeSecret(s string) (secret Secret, why string) {
	var b []byte
	var err error
	if rest, ok := strings.CutPrefix(s, "hex:"); ok {
		if b, err = hex.DecodeString(rest); err != nil {
			return nil, "a secret that is not hexadecimal"
		}
	} else if rest, ok := strings.CutPrefix(s, "base64:"); ok {
		if b, err = base64.StdEncoding.DecodeString(rest); err != nil {
			return nil, "a secret that is not base64"
		}
	} else {
		return nil, "a secret that does not say how it is written"
	}
	if len(b) < minSecret {
		return nil, fmt.Sprintf("a secret of %d octets", len(b))
	}
	return b, ""
}

// readSecrets reads the files that secret_file names.
func (p *configParser) readSecrets() {
	for i, v := range p.secretFiles {
		secret, why := readSecret(p.c.resolve(v.Node().Value))
		if why != "" {
			v.Wrong(why, "a file that only its owner and group can read, with "+secretExpected, "")
		}
		p.c.Keys[i].Secret = secret
	}
}

func readSecret(path string) (Secret, string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err.Error()
	case !info.Mode().IsRegular():
		return nil, path + ", which is not a regular file"
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Sprintf("%s with mode %04o", path, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err.Error()
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return nil, err.Error()
	}
	secret, why := decodeSecret(strings.TrimSpace(string(b)))
	if why != "" {
		why = path + " with " + why
	}
	return secret, why
}
