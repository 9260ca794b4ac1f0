package pki

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openssl runs openssl, which knows nothing of our code.
func openssl(t *testing.T, args ...string) (out string, ok bool) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed: nobody else looks at our certificates here")
	}
	b, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(b), err == nil
}

func opensslTakes(t *testing.T, args ...string) {
	t.Helper()
	if out, ok := openssl(t, args...); !ok {
		t.Errorf("openssl %s: %s", strings.Join(args, " "), out)
	}
}

func TestOpenSSLReadsCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	ca, err := Init(dir, CAOptions{Name: "lab", Now: fixed}, false)
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Name: "as65001", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1"), netip.MustParseAddr("2001:db8::1")}, DNS: []string{"qne1.example.net"}}
	if err := issue(t, ca, r).Save(dir, "as65001"); err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		BundleFile(dir): {
			"Version: 3 (0x2)", "Signature Algorithm: ecdsa-with-SHA256", "Issuer: CN = lab", "Subject: CN = lab",
			"ASN1 OID: prime256v1",
			"X509v3 Basic Constraints: critical\nCA:TRUE, pathlen:0",
			"X509v3 Key Usage: critical\nCertificate Sign, CRL Sign",
			"X509v3 Subject Key Identifier:",
			"Not Before: Nov 22 10:25:00 2026 GMT", "Not After : Nov 19 10:30:00 2036 GMT",
		},
		CertFile(dir, "as65001"): {
			"Version: 3 (0x2)", "Issuer: CN = lab", "Subject: CN = as65001", "ASN1 OID: prime256v1",
			"X509v3 Basic Constraints: critical\nCA:FALSE",
			"X509v3 Key Usage: critical\nDigital Signature",
			"X509v3 Extended Key Usage:\nTLS Web Server Authentication, TLS Web Client Authentication",
			"X509v3 Authority Key Identifier:",
			"X509v3 Subject Alternative Name:\nDNS:qne1.example.net, IP Address:127.1.0.1, IP Address:2001:DB8:0:0:0:0:0:1, URI:urn:interqos:as:65001",
			"Not Before: Nov 22 10:25:00 2026 GMT", "Not After : Feb 20 10:30:00 2027 GMT",
		},
	} {
		out, ok := openssl(t, "x509", "-in", file, "-noout", "-text")
		if !ok {
			t.Fatal(out)
		}
		var lines []string
		for _, line := range strings.Split(out, "\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
		text := strings.Join(lines, "\n")
		for _, want := range wants {
			// Later versions write "CN=lab".
			if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, "CN = ", "CN=")) {
				t.Errorf("%s: no %q in\n%s", file, want, text)
			}
		}
	}
	opensslTakes(t, "pkey", "-in", KeyFile(dir, "as65001"), "-check", "-noout")
}

func TestOpenSSLVerifies(t *testing.T) {
	dir := testDir(t)
	at := func(now time.Time) string { return fmt.Sprint(now.Unix()) }
	verify := func(now time.Time, bundle, cert string, more ...string) (string, bool) {
		t.Helper()
		return openssl(t, append([]string{"verify", "-x509_strict", "-attime", at(now), "-CAfile", bundle}, append(more, cert)...)...)
	}
	cert := CertFile(dir, "as65001")
	for _, more := range [][]string{
		{"-purpose", "sslserver", "-verify_ip", "127.1.0.1"},
		{"-purpose", "sslclient", "-verify_hostname", "qne1.example.net"},
	} {
		if out, ok := verify(start, BundleFile(dir), cert, more...); !ok {
			t.Errorf("%v: %s", more, out)
		}
	}
	for what, now := range map[string]time.Time{"expired": start.Add(91 * day), "not yet valid": start.Add(-time.Hour)} {
		if out, ok := verify(now, BundleFile(dir), cert); ok {
			t.Errorf("%s: %s", what, out)
		}
	}
	// A certificate of ours is no authority.
	if out, ok := verify(start, cert, CertFile(dir, "alice")); ok {
		t.Errorf("a QNE's certificate as an authority: %s", out)
	}

	// Both sides of a rotation, with two authorities of the same name.
	oldBundle := filepath.Join(t.TempDir(), "old.crt")
	copyFile(t, BundleFile(dir), oldBundle)
	oldCert := filepath.Join(t.TempDir(), "before.crt")
	copyFile(t, cert, oldCert)
	if _, err := Rotate(dir, CAOptions{Now: fixed}); err != nil {
		t.Fatal(err)
	}
	if out, ok := verify(start, BundleFile(dir), oldCert); !ok {
		t.Errorf("the old certificate with both authorities: %s", out)
	}
	if _, err := Renew(dir, []string{"as65001", "alice"}, 0, 0, fixed); err != nil {
		t.Fatal(err)
	}
	if out, ok := verify(start, BundleFile(dir), cert); !ok {
		t.Errorf("the new certificate with both authorities: %s", out)
	}
	if out, ok := verify(start, oldBundle, cert); ok {
		t.Errorf("the new certificate with the old authority: %s", out)
	}
	if _, err := Finish(dir, start, false); err != nil {
		t.Fatal(err)
	}
	if out, ok := verify(start, BundleFile(dir), cert); !ok {
		t.Errorf("the new certificate after the rotation: %s", out)
	}
	if out, ok := verify(start, BundleFile(dir), oldCert); ok {
		t.Errorf("the old certificate after the rotation: %s", out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
