package capture

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

func TestKeyLogErrors(t *testing.T) {
	random, secret := strings.Repeat("0a", 32), strings.Repeat("0b", 48)
	for _, c := range []struct{ text, want string }{
		{"CLIENT_RANDOM", "line 1: 1 words, expected a label"},
		{"# fine\nCLIENT_RANDOM " + random[2:] + " " + secret, "line 2: CLIENT_RANDOM: the client's random is"},
		{"CLIENT_TRAFFIC_SECRET_0 " + random + " " + secret[2:], "the secret has 94 characters, expected 64 or 96"},
		{"CLIENT_TRAFFIC_SECRET_0 " + random + " " + secret[:95] + "x", "expected 64 or 96 hexadecimal digits"},
		{strings.Repeat("x", 1<<17), "token too long"},
	} {
		if _, err := ReadKeyLog(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want ...%s...", c.text, err, c.want)
		}
	}
}

// FuzzKeyLog: what is taken of a key log is of the lengths that TLS has, and is
// what some line says.
func FuzzKeyLog(f *testing.F) {
	for _, name := range []string{"tls12", "tls13"} {
		b, err := os.ReadFile("../../testdata/captures/" + name + ".keys")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("# nothing\n\nEXPORTER_SECRET 00 00\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ReadKeyLog(bytes.NewReader(b))
		if err != nil {
			return
		}
		text := strings.ToLower(string(b))
		for key, secret := range k.secrets {
			if len(secret) != 32 && len(secret) != 48 || !strings.Contains(text, hex.EncodeToString(secret)) ||
				!strings.Contains(text, strings.ToLower(key.label)) || !strings.Contains(text, hex.EncodeToString(key.random[:])) {
				t.Fatalf("%v: %x out of\n%s", key, secret, b)
			}
		}
	})
}
