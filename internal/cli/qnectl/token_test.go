package qnectl

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/interqos/interqos/internal/cli/clitest"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// A token that issue makes is one that check takes, for what it is for and for
// nothing else. RFC 5981 §5.4
func TestToken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	pkiMust(t, dir, "init")
	pkiMust(t, dir, "issue", "as65001", "--as", "65001")
	pkiMust(t, dir, "issue", "as65002", "--as", "65002")
	token := func(stdin string, args ...string) clitest.Result {
		t.Helper()
		return clitest.Run(t, App(), stdin, append([]string{"token"}, args...)...)
	}
	const what = "--sid 5f3a00112233445566778899aabbccdd --subscriber 10.1.0.10 --to 10.3.0.10 --protocol udp --port 5001"
	issue := func(as, what string) []string {
		return strings.Fields("issue " + what + " --cert " + filepath.Join(dir, as+".crt") + " --key " + filepath.Join(dir, as+".key"))
	}
	check := func(what string) []string {
		return strings.Fields("check - " + what + " --as 65001 --ca " + filepath.Join(dir, "ca.crt"))
	}
	got := token("", issue("as65001", what+" --lifetime 1h")...)
	if got.Status != 0 {
		t.Fatalf("%+v", got)
	}
	good := got.Stdout
	object, err := hex.DecodeString(strings.TrimSpace(good))
	if err != nil || len(object) < 8 || object[0] != 0x80 || object[1] != 0x16 {
		t.Fatalf("%s: %v", good, err)
	}
	var x nslpwire.AuthToken
	if _, err := x.Parse(object[4:]); err != nil || x.Entity.Kind() != "X509_V3_CERT" || x.Entity.String() != `"CN=as65001"` || x.End-x.Start != 3600<<32 {
		t.Errorf("%+v, %v", x, err)
	}
	file := filepath.Join(dir, "token.hex")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := token("", append([]string{"check", file}, check(what)[2:]...)...); got.Stdout != file+" authorizes this: signed by \"as65001\" of AS65001\n" {
		t.Errorf("%+v", got)
	}
	foreign := token("", issue("as65002", what)...).Stdout
	if foreign == "" {
		t.Fatal("AS65002 has no token")
	}
	for _, c := range []struct {
		stdin, what string
		says        string
	}{
		{good, strings.Replace(what, "ccdd", "ccde", 1), "SESSION_ID"},
		{good, strings.Replace(what, "10.1.0.10", "10.1.0.11", 1), "SOURCE_ADDR"},
		{good, strings.Replace(what, "10.3.0.10", "10.3.0.11", 1), "DEST_ADDR"},
		{good, strings.Replace(what, "5001", "5002", 1), "DEST_ADDR"},
		{good, strings.Replace(what, "udp", "tcp", 1), "DEST_ADDR"},
		{foreign, what, `signed by "CN=as65002"`},
		{"80160002" + "0008000000000001", what, "X-Type 0"},
		{"zz", what, "not hexadecimal"},
		{"", what, "no token"},
	} {
		if got := token(c.stdin, check(c.what)...); got.Status != 1 || !strings.Contains(got.Stderr, c.says) || got.Stdout != "" {
			t.Errorf("%s: %+v, want %q", c.what, got, c.says)
		}
	}
	for _, c := range []struct{ args, says string }{
		{"issue --sid 5f3a", "needs --subscriber"},
		{strings.Replace(what, "5f3a", "", 1), "expected 32 hexadecimal digits"},
		{strings.Replace(what, "10.1.0.10", "10.1.0.0/24", 1), "expected an address"},
		{strings.Replace(what, "udp", "smoke", 1), "--protocol"},
		{strings.Replace(what, "5001", "65536", 1), "at most 65535"},
		{strings.Replace(what, "udp", "esp", 1), "want UDP or TCP"},
		{what + " --lifetime 8d", "at most"},
	} {
		args := issue("as65001", c.args)
		if strings.HasPrefix(c.args, "issue") {
			args = strings.Fields(c.args)
		}
		if got := token("", args...); got.Status != 2 || !strings.Contains(got.Stderr, c.says) || got.Stdout != "" {
			t.Errorf("%s: %+v, want %q", c.args, got, c.says)
		}
	}
}
