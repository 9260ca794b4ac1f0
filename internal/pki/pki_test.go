package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 22, 10, 30, 0, 500, time.UTC)

func testCA(t *testing.T, o CAOptions) *CA {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	ca, err := NewCA(o)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *CA, r Request) *Pair {
	t.Helper()
	p, err := ca.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func leaf(t *testing.T, p *Pair) *x509.Certificate {
	t.Helper()
	list, err := parseCerts(p.CertPEM)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d certificates, %v", len(list), err)
	}
	return list[0]
}

func TestCA(t *testing.T) {
	c := testCA(t, CAOptions{Name: "lab"}).Cert
	if !c.IsCA || !c.BasicConstraintsValid || c.MaxPathLen != 0 || !c.MaxPathLenZero {
		t.Errorf("CA %v, path length %d: expected an authority of path length 0", c.IsCA, c.MaxPathLen)
	}
	if c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(c.ExtKeyUsage) != 0 {
		t.Errorf("key usage %b, extended %v", c.KeyUsage, c.ExtKeyUsage)
	}
	if !c.NotBefore.Equal(start.Truncate(time.Second).Add(-5*time.Minute)) || !c.NotAfter.Equal(start.Truncate(time.Second).Add(10*365*24*time.Hour)) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	if c.Subject.CommonName != "lab" || len(c.SubjectKeyId) == 0 {
		t.Errorf("subject %v, key id %x", c.Subject, c.SubjectKeyId)
	}
}

func TestIssue(t *testing.T) {
	ca := testCA(t, CAOptions{})
	p := issue(t, ca, Request{
		Name: "as65001", AS: 4200000001,
		IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1"), netip.MustParseAddr("::ffff:127.1.0.1"), netip.MustParseAddr("2001:db8::1")},
		DNS: []string{"QNE1.example.net", "qne1.example.net"},
	})
	c := leaf(t, p)
	if as, ok := ASOf(c); !ok || as != 4200000001 {
		t.Errorf("AS %d, %v", as, ok)
	}
	if len(c.IPAddresses) != 2 || !c.IPAddresses[0].Equal(net.IPv4(127, 1, 0, 1)) || !c.IPAddresses[1].Equal(net.ParseIP("2001:db8::1")) {
		t.Errorf("addresses %v", c.IPAddresses)
	}
	if len(c.DNSNames) != 1 || c.DNSNames[0] != "qne1.example.net" || c.Subject.CommonName != "as65001" {
		t.Errorf("names %v, subject %v", c.DNSNames, c.Subject)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, key usage %b", c.IsCA, c.KeyUsage)
	}
	if c.SerialNumber.Sign() <= 0 || len(c.SerialNumber.Bytes()) != 16 {
		t.Errorf("serial number %v", c.SerialNumber)
	}
	if got := c.NotAfter.Sub(c.NotBefore); got != 90*24*time.Hour+5*time.Minute {
		t.Errorf("valid for %v", got)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{use}, DNSName: "127.1.0.1"}); err != nil {
			t.Errorf("use %v: %v", use, err)
		}
	}
	if _, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM); err != nil {
		t.Error(err)
	}
	if again := leaf(t, issue(t, ca, Request{Name: "as65001"})); again.SerialNumber.Cmp(c.SerialNumber) == 0 || again.PublicKey == c.PublicKey {
		t.Error("a second certificate has the serial number or the key of the first")
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := testCA(t, CAOptions{Lifetime: 24 * time.Hour})
	for text, r := range map[string]Request{
		`name ""`:                            {},
		`name "../x"`:                        {Name: "../x"},
		`name ".x"`:                          {Name: ".x"},
		`name "CA" is the authority's`:       {Name: "CA"},
		`letters, digits`:                    {Name: strings.Repeat("a", 65)},
		`lifetime 1s: expected 1m0s or more`: {Name: "x", Lifetime: time.Second},
		`outlive the authority "interqos CA", which ends 2026-11-23T10:30:00Z, in 24h`: {Name: "x", Lifetime: 25 * time.Hour},
		`address 0.0.0.0`:         {Name: "x", Lifetime: time.Hour, IPs: []netip.Addr{netip.IPv4Unspecified()}},
		`address fe80::1%eth0`:    {Name: "x", Lifetime: time.Hour, IPs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}},
		`address invalid IP`:      {Name: "x", Lifetime: time.Hour, IPs: []netip.Addr{{}}},
		`DNS name "*.example"`:    {Name: "x", Lifetime: time.Hour, DNS: []string{"*.example"}},
		`DNS name "127.0.0.1"`:    {Name: "x", Lifetime: time.Hour, DNS: []string{"127.0.0.1"}},
		`DNS name "a..b"`:         {Name: "x", Lifetime: time.Hour, DNS: []string{"a..b"}},
		`DNS name "-a.example"`:   {Name: "x", Lifetime: time.Hour, DNS: []string{"-a.example"}},
		`DNS name "a b.example"`:  {Name: "x", Lifetime: time.Hour, DNS: []string{"a b.example"}},
		`ends in the year 9999`:   {Name: "x", Lifetime: 1<<63 - 1, IPs: nil},
		`lifetime -1h0m0s: expec`: {Name: "x", Lifetime: -time.Hour},
	} {
		if text == `ends in the year 9999` {
			ca := testCA(t, CAOptions{Lifetime: time.Hour})
			ca.Now = func() time.Time { return time.Date(9990, 1, 1, 0, 0, 0, 0, time.UTC) }
			if _, err := ca.Issue(r); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, expected %q", err, text)
			}
			continue
		}
		if _, err := ca.Issue(r); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, expected %q", r, err, text)
		}
	}
	ca.Now = func() time.Time { return start.Add(25 * time.Hour) }
	if _, err := ca.Issue(Request{Name: "x"}); !errors.Is(err, ErrOutlives) || !strings.Contains(err.Error(), "ended 2026-11-23") {
		t.Errorf("an authority that has ended: %v", err)
	}
}

func TestASOf(t *testing.T) {
	for _, one := range []struct {
		uris []string
		as   uint32
	}{
		{[]string{"urn:interqos:as:65001"}, 65001},
		{[]string{"https://example.net/", "urn:interqos:as:4294967295"}, 4294967295},
		{nil, 0},
		{[]string{"https://example.net/"}, 0},
		{[]string{"urn:interqos:as:0"}, 0},
		{[]string{"urn:interqos:as:065001"}, 0},
		{[]string{"urn:interqos:as:4294967296"}, 0},
		{[]string{"urn:interqos:as:"}, 0},
		{[]string{"urn:interqos:as:65001 "}, 0},
		{[]string{"urn:interqos:as:65001?x"}, 0},
		{[]string{"urn:interqos:as:1", "urn:interqos:as:2"}, 0},
		{[]string{"urn:interqos:as:x", "urn:interqos:as:2"}, 0},
		{[]string{"urn:interqos:as:1", "urn:interqos:as:x"}, 0},
	} {
		var c x509.Certificate
		for _, text := range one.uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		if as, ok := ASOf(&c); as != one.as || ok != (one.as != 0) {
			t.Errorf("%q: AS %d, %v; expected %d", one.uris, as, ok, one.as)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir() + "/pki"
	ca := testCA(t, CAOptions{Name: "lab"})
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !loaded.Cert.Equal(ca.Cert) {
		t.Error("another certificate came back")
	}
	loaded.Now = ca.Now
	p := issue(t, loaded, Request{Name: "as65001", AS: 65001})
	if err := leaf(t, p).CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if err := p.Save(dir, "as65001"); err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(p.KeyPEM); block.Type != "PRIVATE KEY" {
		t.Errorf("key in a block %q", block.Type)
	}
}
