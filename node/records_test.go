package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/interqos/interqos/api"
	"github.com/interqos/interqos/interdomain"
	"github.com/interqos/interqos/internal/pki"
	"github.com/interqos/interqos/qosnslp"
	nslpwire "github.com/interqos/interqos/qosnslp/wire"
)

// proofsOf is what the initiator says of the domains' records, source first.
func proofsOf(t *testing.T, b *recordBook, now time.Time, s *simSession, r qosnslp.Result) []api.Proof {
	t.Helper()
	domains, err := b.domains(now, s.sid, &r, true)
	if err != nil {
		t.Fatal(err)
	}
	var all []api.Proof
	for _, d := range domains {
		all = append(all, d.GetProof())
	}
	return all
}

func bookOf(t *testing.T, cfg *Config) *recordBook {
	t.Helper()
	b, err := newRecordBook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// interdomain-qosm §7: "The initiator can thus say for every domain what
// happened, and prove who said it."
func TestSimRecordsAreProved(t *testing.T) {
	f := newTLSFiles(t)
	var others []string
	w := newSimWorld(t, 3, func(c *Config) {
		name := "as" + string(rune('0'+c.AS%10))
		f.issue(pki.Request{Name: name, AS: c.AS})
		var err error
		if c.Auth.Records.Certificate, err = tls.LoadX509KeyPair(pki.CertFile(filepath.Join(f.dir, "pki"), name), pki.KeyFile(filepath.Join(f.dir, "pki"), name)); err != nil {
			t.Fatal(err)
		}
		others = append(others, pki.CertFile(filepath.Join(f.dir, "pki"), name))
	})
	first := w.as[0].cfg
	var err error
	if first.Auth.Records.CAs, err = readAuthorities(filepath.Join(f.dir, "pki", "ca.crt")); err != nil {
		t.Fatal(err)
	}
	for _, file := range others {
		certs, err := pki.ReadCerts(file)
		if err != nil {
			t.Fatal(err)
		}
		first.Auth.Records.Others = append(first.Auth.Records.Others, certs...)
	}
	book, now := bookOf(t, first), time.Now()
	const verified, unknown = api.Proof_PROOF_VERIFIED, api.Proof_PROOF_UNKNOWN_KEY

	s := w.session()
	for _, rate := range []uint64{mbit(20), mbit(30)} { // create, raise
		w.reserve(s, rate, 0)
		r := w.answer(s)
		if got := proofsOf(t, book, now, s, r); r.Kind != qosnslp.Reserved || !slices.Equal(got, []api.Proof{verified, verified, verified}) {
			w.fatalf("%s: %v", kindText(r.Kind), got)
		}
		// Of another session the same records prove nothing.
		other := *s
		other.sid[0]++
		if got := proofsOf(t, book, now, &other, r); slices.Contains(got, verified) {
			w.fatalf("of another session: %v", got)
		}
		// Nobody whose certificate is missing, or has expired, is believed.
		fewer := *first
		fewer.Auth.Records.Others = first.Auth.Records.Others[:2]
		if got := proofsOf(t, bookOf(t, &fewer), now, s, r); !slices.Equal(got, []api.Proof{verified, verified, unknown}) {
			w.fatalf("without the third certificate: %v", got)
		}
		if got := proofsOf(t, book, now.AddDate(20, 0, 0), s, r); !slices.Equal(got, []api.Proof{unknown, unknown, unknown}) {
			w.fatalf("in twenty years: %v", got)
		}
		// What was changed on the way shows, and where.
		changed := r
		changed.Extra = slices.Clone(r.Extra)
		changed.Extra[0].Value = bytes.Clone(r.Extra[0].Value)
		changed.Extra[0].Value[2]++ // the verdict of AS65003
		if got := proofsOf(t, book, now, s, changed); !slices.Equal(got, []api.Proof{verified, api.Proof_PROOF_BAD, api.Proof_PROOF_BAD}) {
			w.fatalf("changed: %v", got)
		}
	}
	// Nothing is checked where nobody asks, and nothing then called proved.
	w.reserve(s, mbit(20), 0)
	r := w.answer(s)
	domains, err := book.domains(now, s.sid, &r, false)
	if err != nil || len(domains) != 3 {
		t.Fatalf("%v, %v", domains, err)
	}
	for _, d := range domains {
		if d.Proof != api.Proof_PROOF_UNSPECIFIED {
			w.fatalf("not checked, and %v", d)
		}
	}
	// AS65002 has a record in our name at the end, and we have added none.
	forged := r
	theirs, _ := r.Response.Object(nslpwire.DomainRecords)
	theirs.Value, err = nslpwire.AppendDomainRecord(bytes.Clone(theirs.Value), nslpwire.DomainRecord{AS: 65001, Verdict: nslpwire.VerdictCommitted})
	if err != nil {
		t.Fatal(err)
	}
	forged.Response = &nslpwire.Message{HasRII: true, RII: r.Response.RII, Objects: []nslpwire.Object{theirs}}
	forged.Extra = forged.Response.Objects
	if got := proofsOf(t, book, now, s, forged); !slices.Equal(got, []api.Proof{api.Proof_PROOF_UNSIGNED, verified, verified}) {
		w.fatalf("forged in our name: %v", got)
	}
	for _, c := range []struct {
		what string
		rate uint64
		want []api.Proof
	}{
		{"refused by AS65002", mbit(21), []api.Proof{verified, verified}},
		{"refused here", mbit(5000), []api.Proof{api.Proof_PROOF_OWN}},
	} {
		no := w.session()
		w.reserve(no, c.rate, 0)
		r := w.answer(no)
		if got := proofsOf(t, book, now, no, r); r.Kind != qosnslp.Rejected || !slices.Equal(got, c.want) {
			w.fatalf("%s: %s, %v, want %v", c.what, kindText(r.Kind), got, c.want)
		}
	}
}

// The path of a certificate is looked for once, and again when part of it is not
// valid any more.
func TestRecordBookRemembersPaths(t *testing.T) {
	f := newTLSFiles(t)
	f.issue(pki.Request{Name: "a", AS: 65001, IPs: exampleQNE})
	f.issue(pki.Request{Name: "b", AS: 65002})
	cfg, err := f.loadWith(goodTLS, "auth: {records: {certificates: [pki/b.crt]}}\n")
	if err != nil {
		t.Fatal(err)
	}
	b := bookOf(t, cfg)
	checks := 0
	b.checks = func() { checks++ }
	c := cfg.Auth.Records.Others[0]
	id := interdomain.RecordKeyID(c.RawSubjectPublicKeyInfo)
	for _, step := range []struct {
		what   string
		as     uint32
		at     time.Time
		known  bool
		checks int
	}{
		{"no such certificate", 65003, c.NotBefore, false, 0},
		{"before it is valid", 65002, c.NotBefore.Add(-time.Second), false, 1},
		{"valid", 65002, c.NotBefore, true, 2},
		{"again", 65002, c.NotBefore.Add(time.Second), true, 2},
		{"at its end", 65002, c.NotAfter, true, 2},
		{"after it", 65002, c.NotAfter.Add(time.Second), false, 3},
		{"the clock was set back", 65002, c.NotBefore.Add(-time.Second), false, 4},
		{"and forth", 65002, c.NotBefore, true, 4},
	} {
		if _, ok := b.keys(step.at)(step.as, id); ok != step.known || checks != step.checks {
			t.Errorf("%s: known %v, want %v; %d paths looked for, want %d", step.what, ok, step.known, checks, step.checks)
		}
	}
	cfg.Auth.Records.CAs = x509.NewCertPool()
	if _, ok := bookOf(t, cfg).keys(c.NotBefore)(65002, id); ok {
		t.Error("a certificate of nobody's that we trust is valid")
	}
}

func TestLoadRecords(t *testing.T) {
	f := newTLSFiles(t)
	for _, r := range []pki.Request{{Name: "a", AS: 65001, IPs: exampleQNE}, {Name: "b", AS: 65002}, {Name: "own", AS: 65001}, {Name: "client"}} {
		f.issue(r)
	}
	other := newTLSFiles(t)
	other.issue(pki.Request{Name: "x", AS: 65003})
	for name, c := range map[string]struct{ records, want string }{
		"others":              {"{certificates: [pki/b.crt, pki/a.crt]}", ""},
		"a certificate of it": {"{certificate: pki/own.crt, key: pki/own.key}", ""},
		"no key":              {"{certificate: pki/own.crt}", "auth.records.key: found nothing, expected the certificate's key, a PEM file"},
		"of another AS":       {"{certificate: pki/b.crt, key: pki/b.key}", "which is not of our AS, expected a certificate with the URI urn:interqos:as:65001"},
		"not its key":         {"{certificate: pki/own.crt, key: pki/b.key}", "expected a certificate in PEM and the key that belongs to it"},
		"of no AS":            {"{certificates: [pki/client.crt]}", `auth.records.certificates[0]: found ` + filepath.Join(f.dir, "pki/client.crt") + `: "client" names no AS`},
		"of another CA":       {"{certificates: [pki/b.crt, " + filepath.Join(other.dir, "pki/x.crt") + "]}", "auth.records.certificates[1]: found "},
		"no such file":        {"{certificates: [pki/z.crt]}", "no such file"},
		"no CA":               {"{certificates: [pki/b.crt], ca: pki/b.crt}", "is not an authority's"},
	} {
		cfg, err := f.loadWith(goodTLS, "auth: {records: "+c.records+"}\n")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if err == nil {
			if s, err := recordSigner(cfg); err != nil || s == nil {
				t.Errorf("%s: nothing signs, %v", name, err)
			}
		}
	}
	plain, err := f.loadWith(goodTLS, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := recordSigner(plain)
	if err != nil || signer == nil {
		t.Fatalf("by default the certificate of gist.tls signs: %v", err)
	}
	next, err := f.loadWith(goodTLS, "auth: {records: {certificate: pki/own.crt, key: pki/own.key, certificates: [pki/b.crt]}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(plain, next); !slices.Equal(d.Live, []string{"auth.records"}) || len(d.Restart) != 0 {
		t.Errorf("%+v", d)
	}
	if d := Diff(Live(plain, next), next); !d.Empty() {
		t.Errorf("Live leaves %+v", d)
	}
	if s, err := recordSigner(next); err != nil || s.KeyID == signer.KeyID {
		t.Errorf("the same key signs: %v", err)
	}
	if _, err := Parse("q.yaml", []byte(exampleConfig(t)+"auth: {records: {certificates: [b.crt]}}\n")); err == nil || !strings.Contains(err.Error(), "auth.records.ca: found nothing, expected the authorities of the certificates") {
		t.Errorf("certificates without authorities: %v", err)
	}
}
