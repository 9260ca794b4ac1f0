package pki

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func fixed() time.Time { return start }

// testDir returns a directory with an authority and two certificates.
func testDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	ca, err := Init(dir, CAOptions{Name: "lab", Now: fixed}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Request{
		{Name: "as65001", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1")}, DNS: []string{"qne1.example.net"}},
		{Name: "alice", Lifetime: 21 * day},
	} {
		if err := issue(t, ca, r).Save(dir, r.Name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents reads every file of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(b)
	}
	return all
}

// states lists a directory and returns the state of each name; the authorities
// together, "valid, old CA".
func states(t *testing.T, dir string, now time.Time) map[string]string {
	t.Helper()
	list, err := List(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range list {
		if all[e.Name] != "" {
			all[e.Name] += ", "
		}
		all[e.Name] += string(e.State)
		if e.CA != (e.Name == "ca") {
			t.Errorf("%s: authority %v", e.Name, e.CA)
		}
		if bad := e.State == Unreadable || e.State == NoKey || e.State == WrongKey || e.State == OpenKey || e.State == Untrusted; bad && e.Err == nil {
			t.Errorf("%s is %s, and nothing says why", e.Name, e.State)
		}
	}
	return all
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return true
}

func TestFileModes(t *testing.T) {
	dir := testDir(t)
	for name, want := range map[string]fs.FileMode{
		".": 0o700 | fs.ModeDir, "ca.crt": 0o644, "ca.key": 0o600, "as65001.crt": 0o644, "as65001.key": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, expected %v", name, info.Mode(), want)
		}
	}
	for name := range contents(t, dir) {
		if strings.HasPrefix(name, ".") {
			t.Errorf("%s was left behind", name)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := testDir(t)
	before := contents(t, dir)
	ca, err := LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second authority: %v", err)
	}
	if _, err := Init(dir, CAOptions{}, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second init: %v", err)
	}
	p := issue(t, testCA(t, CAOptions{}), Request{Name: "as65001"})
	if err := p.Save(dir, "as65001"); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "as65001.key") {
		t.Errorf("a second certificate: %v", err)
	}
	// The key is not there, the certificate is: the key that was written is
	// taken back.
	if err := os.Remove(KeyFile(dir, "alice")); err != nil {
		t.Fatal(err)
	}
	delete(before, "alice.key")
	if err := p.Save(dir, "alice"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a certificate without its key: %v", err)
	}
	if err := p.Save(dir, "../x"); err == nil {
		t.Error("a name with a path in it")
	}
	if !same(before, contents(t, dir)) {
		t.Error("something was changed")
	}
	if err := p.Replace(dir, "as65001"); err != nil {
		t.Fatal(err)
	}
	if contents(t, dir)["as65001.crt"] != string(p.CertPEM) {
		t.Error("Replace has replaced nothing")
	}
}

func TestOneOfManyWins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	var wait sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wait.Go(func() { _, errs[i] = Init(dir, CAOptions{}, false) })
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d authorities were made, expected one", won)
	}
	if _, err := LoadCA(dir); err != nil {
		t.Error(err)
	}
}

func TestStates(t *testing.T) {
	dir := testDir(t)
	expect := func(what string, now time.Time, want map[string]string) {
		t.Helper()
		if got := states(t, dir, now); !same(got, want) {
			t.Errorf("%s: %v, expected %v", what, got, want)
		}
	}
	expect("new", start, map[string]string{"ca": "valid", "as65001": "valid", "alice": "valid"})
	expect("two weeks later", start.Add(14*day+time.Hour), map[string]string{"ca": "valid", "as65001": "valid", "alice": "expires soon"})
	expect("three weeks later", start.Add(22*day), map[string]string{"ca": "valid", "as65001": "valid", "alice": "expired"})
	expect("before", start.Add(-time.Hour), map[string]string{"ca": "not yet", "as65001": "not yet", "alice": "not yet"})
	expect("long after", start.Add(11*year), map[string]string{"ca": "expired", "as65001": "expired", "alice": "expired"})

	if err := os.Chmod(KeyFile(dir, "alice"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(KeyFile(dir, "as65001")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(CertFile(dir, "x"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := issue(t, testCA(t, CAOptions{Name: "lab"}), Request{Name: "stranger"})
	if err := stranger.Save(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Save(dir, "mixed"); err != nil {
		t.Fatal(err)
	}
	if err := issue(t, testCA(t, CAOptions{}), Request{Name: "other"}).Save(dir, "other"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(KeyFile(dir, "other"), KeyFile(dir, "mixed")); err != nil {
		t.Fatal(err)
	}
	expect("in disorder", start, map[string]string{
		"ca": "valid", "as65001": "no key", "alice": "open key", "x": "unreadable", "stranger": "untrusted", "mixed": "wrong key", "other": "no key",
	})
	if err := os.Chmod(KeyFile(dir, caName), 0o604); err != nil {
		t.Fatal(err)
	}
	if got := states(t, dir, start)["ca"]; got != "open key" {
		t.Errorf("the authority is %q", got)
	}
}

func TestRenew(t *testing.T) {
	dir := testDir(t)
	before := contents(t, dir)
	later := start.Add(10 * day)
	done, err := Renew(dir, []string{"alice", "as65001", "alice"}, 0, 30*day, func() time.Time { return later })
	if err != nil {
		t.Fatal(err)
	}
	if len(done) != 2 || done[0].New == nil || done[1].New != nil {
		t.Fatalf("%+v, expected alice renewed and as65001 left alone", done)
	}
	if life := done[0].New.NotAfter.Sub(later.Truncate(time.Second)); life != 21*day {
		t.Errorf("alice is valid for %v", life)
	}
	after := contents(t, dir)
	for name := range before {
		if changed := before[name] != after[name]; changed != strings.HasPrefix(name, "alice") {
			t.Errorf("%s changed: %v", name, changed)
		}
	}

	done, err = Renew(dir, []string{"as65001"}, 7*day, 0, func() time.Time { return later })
	if err != nil {
		t.Fatal(err)
	}
	c := done[0].New
	if as, _ := ASOf(c); as != 65001 || len(c.IPAddresses) != 1 || c.IPAddresses[0].String() != "127.1.0.1" || len(c.DNSNames) != 1 || c.DNSNames[0] != "qne1.example.net" {
		t.Errorf("AS %d, addresses %v, names %v", as, c.IPAddresses, c.DNSNames)
	}
	if !c.NotAfter.Equal(later.Truncate(time.Second).Add(7 * day)) {
		t.Errorf("valid until %v", c.NotAfter)
	}
	if got := states(t, dir, later)["as65001"]; got != "valid" {
		t.Errorf("as65001 is %q", got)
	}
}

func TestRenewIsAllOrNothing(t *testing.T) {
	dir := testDir(t)
	if err := issue(t, testCA(t, CAOptions{}), Request{Name: "stranger"}).Save(dir, "stranger"); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	for text, names := range map[string][]string{
		"has signed it: renew it where it was made": {"alice", "stranger"},
		"there is no certificate":                   {"alice", "nobody"},
		"name \"../x\"":                             {"alice", "../x"},
	} {
		if _, err := Renew(dir, names, 0, 0, fixed); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, expected %q", names, err, text)
		}
	}
	if _, err := Renew(dir, []string{"alice"}, 11*year, 0, fixed); !errors.Is(err, ErrOutlives) {
		t.Errorf("for too long: %v", err)
	}
	if !same(before, contents(t, dir)) {
		t.Error("something was changed")
	}
	if _, err := Renew(dir+"/none", nil, 0, 0, fixed); !errors.Is(err, ErrNoCA) {
		t.Errorf("no directory: %v", err)
	}
}

// What an authority has issued stays trusted while it is replaced.
func TestRotate(t *testing.T) {
	dir := testDir(t)
	old, err := LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := Rotate(dir, CAOptions{Now: fixed})
	if err != nil {
		t.Fatal(err)
	}
	if ca.Cert.Subject.CommonName != "lab" || !ca.Cert.NotAfter.Equal(old.Cert.NotAfter) || ca.Cert.Equal(old.Cert) {
		t.Errorf("the new authority is %q until %v", ca.Cert.Subject.CommonName, ca.Cert.NotAfter)
	}
	if got := states(t, dir, start); !same(got, map[string]string{"ca": "valid, old CA", "as65001": "old CA", "alice": "old CA"}) {
		t.Errorf("%v", got)
	}
	bundle, err := ReadCerts(BundleFile(dir))
	if err != nil || len(bundle) != 2 {
		t.Fatalf("%d authorities, %v", len(bundle), err)
	}
	before, err := ReadCerts(CertFile(dir, "as65001"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(before[0], bundle, start, Want{AS: 65001, Host: "127.1.0.1"}); err != nil {
		t.Errorf("signed by the old authority: %v", err)
	}
	if _, err := Rotate(dir, CAOptions{Now: fixed}); !errors.Is(err, ErrRotating) {
		t.Errorf("a second rotation: %v", err)
	}
	if _, err := Finish(dir, start, false); err == nil || !strings.Contains(err.Error(), "has signed alice, as65001") {
		t.Errorf("too early: %v", err)
	}

	if _, err := Renew(dir, []string{"alice", "as65001"}, 0, day, fixed); err != nil { // within: the old authority counts
		t.Fatal(err)
	}
	if got := states(t, dir, start); !same(got, map[string]string{"ca": "valid, old CA", "as65001": "valid", "alice": "valid"}) {
		t.Errorf("%v", got)
	}
	dropped, err := Finish(dir, start, false)
	if err != nil || len(dropped) != 1 || !dropped[0].Equal(old.Cert) {
		t.Errorf("dropped %d, %v", len(dropped), err)
	}
	if dropped, err := Finish(dir, start, false); err != nil || len(dropped) != 0 {
		t.Errorf("once more: dropped %d, %v", len(dropped), err)
	}
	if bundle, err = ReadCerts(BundleFile(dir)); err != nil || len(bundle) != 1 || !bundle[0].Equal(ca.Cert) {
		t.Fatalf("%d authorities, %v", len(bundle), err)
	}
	if err := Verify(before[0], bundle, start, Want{}); err == nil {
		t.Error("what the old authority has signed is still accepted")
	}
}

func TestFinishByForce(t *testing.T) {
	dir := testDir(t)
	if _, err := Rotate(dir, CAOptions{Name: "new", Lifetime: year, Now: fixed}); err != nil {
		t.Fatal(err)
	}
	if _, err := Finish(dir, start, true); err != nil {
		t.Fatal(err)
	}
	if got := states(t, dir, start)["alice"]; got != "untrusted" {
		t.Errorf("alice is %q", got)
	}
}

// A crash after the bundle was written and before the key was leaves the old
// authority at work.
func TestRotationCutOff(t *testing.T) {
	dir := testDir(t)
	key, err := os.ReadFile(KeyFile(dir, caName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(dir, CAOptions{Name: "new", Now: fixed}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(KeyFile(dir, caName), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := states(t, dir, start); !same(got, map[string]string{"ca": "valid, old CA", "as65001": "valid", "alice": "valid"}) {
		t.Errorf("%v", got)
	}
	dropped, err := Finish(dir, start, false)
	if err != nil || len(dropped) != 1 || dropped[0].Subject.CommonName != "new" {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	if _, err := Rotate(dir, CAOptions{Now: fixed}); err != nil {
		t.Error(err)
	}
}

func TestLoadCARefuses(t *testing.T) {
	leafOnly := func(dir string) error {
		cert, err := os.ReadFile(CertFile(dir, "alice"))
		if err != nil {
			return err
		}
		key, err := os.ReadFile(KeyFile(dir, "alice"))
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(BundleFile(dir), cert, 0o600), os.WriteFile(KeyFile(dir, caName), key, 0o600))
	}
	for text, spoil := range map[string]func(dir string) error{
		"make one with qnectl pki init":                func(dir string) error { return os.Remove(BundleFile(dir)) },
		"begin anew with qnectl pki init --force":      func(dir string) error { return os.Remove(KeyFile(dir, caName)) },
		"is the key of no certificate in":              func(dir string) error { return os.Rename(KeyFile(dir, "alice"), KeyFile(dir, caName)) },
		"\"alice\" is not an authority's":              leafOnly,
		"no certificate in PEM form in it":             func(dir string) error { return os.WriteFile(BundleFile(dir), nil, 0o600) },
		"longer than":                                  func(dir string) error { return os.WriteFile(BundleFile(dir), make([]byte, maxFile+1), 0o600) },
		"PEM block 1 is \"PRIVATE KEY\", expected":     func(dir string) error { return os.Rename(KeyFile(dir, "alice"), BundleFile(dir)) },
		"expected a PEM block \"PRIVATE KEY\"":         func(dir string) error { return os.Rename(CertFile(dir, "alice"), KeyFile(dir, caName)) },
		"ca.crt: after certificate 1: 7 octets that":   func(dir string) error { return add(BundleFile(dir), "rubbish\n") },
		"ca.crt: certificate 2: x509: malformed certi": func(dir string) error { return add(BundleFile(dir), string(marshalCert([]byte("rubbish")))) },
	} {
		dir := testDir(t)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCA(dir); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, expected %q", err, text)
		}
	}
}

func add(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, text...), 0o600)
}

func TestVerifyRefuses(t *testing.T) {
	ca := testCA(t, CAOptions{Lifetime: year})
	c := leaf(t, issue(t, ca, Request{Name: "as65001", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1")}}))
	client := leaf(t, issue(t, ca, Request{Name: "alice"}))
	trusted := ca.Cert
	for _, one := range []struct {
		text string
		err  error
	}{
		{"it is not of AS65002: expected the URI urn:interqos:as:65002, it has urn:interqos:as:65001", Verify(c, list(trusted), start, Want{AS: 65002})},
		{"it is not of AS65001: expected the URI urn:interqos:as:65001, it has none", Verify(client, list(trusted), start, Want{AS: 65001})},
		{"127.1.0.2", Verify(c, list(trusted), start, Want{Host: "127.1.0.2"})},
		{"valid from 2026-11-22T10:25:00Z on only: is a clock wrong?", Verify(c, list(trusted), start.Add(-time.Hour), Want{})},
		{"it expired 2027-02-20T10:30:00Z: renew it", Verify(c, list(trusted), start.Add(91*day), Want{})},
		{"none of the trusted authorities has signed it", Verify(c, list(testCA(t, CAOptions{}).Cert), start, Want{})},
		{"none of the trusted authorities has signed it", Verify(c, nil, start, Want{})},
	} {
		if one.err == nil || !strings.Contains(one.err.Error(), one.text) {
			t.Errorf("%v, expected %q", one.err, one.text)
		}
	}
	if err := Verify(c, list(trusted), start, Want{AS: 65001, Host: "127.1.0.1"}); err != nil {
		t.Error(err)
	}
	if err := Verify(client, list(trusted), start, Want{}); err != nil {
		t.Error(err)
	}
}

func list[T any](all ...T) []T { return all }

func TestLifetimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10y": 10 * year, "2w": 14 * day, "90d": 90 * day, "36h": 36 * time.Hour, "30m": 30 * time.Minute,
		"": 0, "d": 0, "0d": 0, "-1d": 0, "1.5d": 0, "10": 0, "10s": 0, "300y": 0, "4294967296m": 0, "1 d": 0,
	} {
		if got, err := ParseLifetime(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v; expected %v", text, got, err, want)
		}
	}
	for want, d := range map[string]time.Duration{
		"10y": 10*year - 20*time.Minute, "89d": 90*day - time.Hour, "47h": 2*day - time.Hour, "119m": 2*time.Hour - time.Minute, "0m": time.Second, "-5d": -5 * day,
	} {
		if got := HumanLifetime(d); got != want {
			t.Errorf("%v: %q, expected %q", d, got, want)
		}
	}
}

func FuzzParseCerts(f *testing.F) {
	ca, err := NewCA(CAOptions{})
	if err != nil {
		f.Fatal(err)
	}
	p, err := ca.Issue(Request{Name: "as65001", AS: 65001, IPs: []netip.Addr{netip.MustParseAddr("127.1.0.1")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.Bundle())
	f.Add(append(ca.Bundle(), p.CertPEM...))
	f.Add(p.KeyPEM)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseCerts(b)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range list {
			again = append(again, marshalCert(c.Raw)...)
			if as, ok := ASOf(c); ok && !bytes.Contains(c.Raw, []byte(ASURI(as))) {
				t.Errorf("AS %d comes from nowhere", as)
			}
		}
		back, err := parseCerts(again)
		if err != nil || len(back) != len(list) {
			t.Fatalf("%d certificates, read again %d, %v", len(list), len(back), err)
		}
		for i := range list {
			if !list[i].Equal(back[i]) {
				t.Errorf("certificate %d came back as another", i+1)
			}
		}
	})
}
